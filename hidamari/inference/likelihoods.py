"""Likelihoods p(y | eta) of single entries, and what inference asks of them.

===================  =====================================  ==========================  =================
likelihood           y given eta                            averages over N(m, v)       fitted parameter
===================  =====================================  ==========================  =================
`Gaussian`           N(eta, variance)                       closed                      variance
`Poisson`            Poisson(exposure e^eta)                closed                      none
`NegativeBinomial`   mean exposure e^eta, var + mean^2 / r  quadrature                  dispersion r
`Binomial`           Binomial(n, sigma(eta))                quadrature                  none
`Bernoulli`          Binomial(1, sigma(eta))                quadrature                  none
`StudentT`           eta + scale t_df                       quadrature                  scale
===================  =====================================  ==========================  =================

**To add one**, write a frozen dataclass that derives from `Likelihood`, give it a `name`, import it here,
and list it in `__all__` and `_KINDS`; the tests find it there. It needs `check`, `log_prob`, `mean` and its
inverse `link`, `conditional_variance`, `sample` and `expectations`; the rest has a default by quadrature.
`average` turns log p and its derivatives in eta into expectations (alpha = E[dlog p], beta = -E[d2log p], by
the theorems of Bonnet and Price), so that this is all there is to waiting times y ~ Exponential(rate e^eta):

>>> from dataclasses import dataclass
>>> import numpy as np
>>> from hidamari.inference.likelihoods import Likelihood, average
>>> @dataclass(frozen=True)
... class Exponential(Likelihood):
...     name = "exponential"
...     def check(self, y, name="y"):
...         if np.any(np.asarray(y) < 0):
...             raise ValueError(f"{name} has negative entries: allowed are waiting times >= 0 and NaN")
...     def log_prob(self, y, eta, exposure=1.0):
...         return np.where(np.isnan(y), 0.0, eta - y * np.exp(eta))
...     def mean(self, eta, exposure=1.0):
...         return np.exp(-eta)
...     def link(self, mean, exposure=1.0):
...         return -np.log(mean)
...     def conditional_variance(self, eta, exposure=1.0):
...         return np.exp(-2.0 * eta)
...     def sample(self, eta, rng, exposure=1.0):
...         return rng.exponential(np.exp(-eta))
...     def expectations(self, y, m, v, exposure=1.0, constant=None):
...         def parts(eta):
...             hazard = y * np.exp(eta)
...             return self.log_prob(y, eta), 1.0 - hazard, hazard
...         return tuple(np.where(np.isnan(y), 0.0, a) for a in average(parts, m, v))
>>> value, alpha, beta = Exponential().expectations(np.array([0.5, np.nan]), 0.0, 0.2)
>>> alpha.round(6).tolist(), beta.round(6).tolist()
([0.447415, 0.0], [0.552585, 0.0])
"""

from collections.abc import Callable

from hidamari.inference._binomial import Bernoulli, Binomial
from hidamari.inference._counts import NegativeBinomial, Poisson
from hidamari.inference._likelihood import Likelihood, average
from hidamari.inference._real import Gaussian, StudentT

__all__ = [
    "Bernoulli",
    "Binomial",
    "Gaussian",
    "Likelihood",
    "NegativeBinomial",
    "Poisson",
    "StudentT",
    "average",
    "get_likelihood",
]


_KINDS = (Gaussian, Poisson, NegativeBinomial, Binomial, Bernoulli, StudentT)


def get_likelihood(likelihood: str | Likelihood) -> Likelihood:
    """Likelihood of that name with its defaults, or the likelihood itself.

    Parameters
    ----------
    likelihood : str or Likelihood
        "gaussian", "poisson", "negative_binomial", "bernoulli", "student_t"; or an instance.

    Returns
    -------
    Likelihood
        A new instance for a name, the same object for an instance.

    Raises
    ------
    ValueError
        For an unknown name, and for "binomial", whose n has no default.

    Examples
    --------
    >>> get_likelihood("poisson")
    Poisson()
    """
    if isinstance(likelihood, Likelihood):
        return likelihood
    names: dict[str, Callable[..., Likelihood]] = {kind.name: kind for kind in _KINDS}
    if not isinstance(likelihood, str) or likelihood not in names:
        allowed = ", ".join(repr(name) for name in names)
        raise ValueError(f"likelihood is {likelihood!r}: allowed are {allowed}, or a Likelihood")
    if likelihood == "binomial":
        raise ValueError("likelihood is 'binomial', whose number of trials is unknown: pass Binomial(n)")
    return names[likelihood]()
