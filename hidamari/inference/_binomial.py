"""Likelihoods of successes: a logit, and the number of trials."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln, expit, logit

from hidamari.inference._likelihood import (
    Expectations,
    Likelihood,
    Parameter,
    at_counts,
    check_counts,
    compiled,
    positive,
    refuse,
    started,
)

__all__ = ["Bernoulli", "Binomial"]


@dataclass(frozen=True)
class Binomial(Likelihood):
    """Number of successes in n trials, y ~ Binomial(n, sigma(eta)).

    log p = y log sigma(eta) + (n - y) log sigma(-eta) + log (n choose y).

    Parameters
    ----------
    n : int or ndarray (unit,)
        Number of trials, at least 1.

    Raises
    ------
    ValueError
        When an n is not a positive whole number.

    Examples
    --------
    >>> Binomial(n=8).predictive_mean(m=0.0, v=2.0).round(6).item()
    4.0
    """

    n: Parameter
    name: ClassVar[str] = "binomial"

    def __post_init__(self):
        n = positive(self, "n")
        refuse("n", n, np.floor(n) != n, "a positive whole number")

    def check(self, y: ArrayLike, name: str = "y") -> None:
        """Refuse what is not a whole number from 0 to n."""
        check_counts(y, name, largest=self.n, allowed="a whole number from 0 to n, or NaN")

    def log_prob(self, y: ArrayLike, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Log probability of y successes; 0 where y is NaN."""
        return self.expectations(y, eta, 0.0)[0]

    def mean(self, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Expected number of successes, n sigma(eta)."""
        return np.asarray(self.n * expit(np.asarray(eta, float)))

    def link(self, mean: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Logit of mean / n."""
        return np.asarray(logit(np.asarray(mean, float) / self.n))

    def start(
        self, y: ArrayLike, bias: ArrayLike, exposure: ArrayLike = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the mean is y with half a success and half a failure more; the bias where y is NaN."""
        return started(
            self.link(self.n * (np.asarray(y, float) + 0.5) / (np.asarray(self.n, float) + 1.0), exposure),
            y,
            bias,
        )

    def conditional_variance(self, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Variance n sigma(eta) sigma(-eta)."""
        eta = np.asarray(eta, float)
        return np.asarray(self.n * expit(eta) * expit(-eta))

    def sample(self, eta: ArrayLike, rng: np.random.Generator, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Draw numbers of successes."""
        n = np.asarray(self.n).astype(np.int64)
        return np.asarray(rng.binomial(n, expit(np.asarray(eta, float))), float)

    def log_base(self, y: ArrayLike) -> np.ndarray:
        """Log of (n choose y); 0 where y is NaN."""
        y, n = np.broadcast_arrays(np.asarray(y, float), np.asarray(self.n, float))
        return at_counts(
            lambda k, n: -np.log1p(n) - betaln(n - np.minimum(k, n) + 1.0, np.minimum(k, n) + 1.0), y, n
        )

    def expectations(
        self,
        y: ArrayLike,
        m: ArrayLike,
        v: ArrayLike,
        exposure: ArrayLike = 1.0,
        constant: float | np.ndarray | None = None,
    ) -> Expectations:
        """E, alpha and beta by quadrature of the logistic function; see `Likelihood.expectations`."""
        from hidamari.inference._quadrature import logistic

        failures = np.asarray(self.n, float) - np.asarray(y, float)
        value, alpha, beta = compiled(logistic, (y, failures, m, v))
        value += self.log_base(y) if constant is None else constant
        return value, alpha, beta

    def _moments(self, m: ArrayLike, v: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Averages of sigma(eta) and of sigma(eta) sigma(-eta), in the shape of m, v and n together."""
        from hidamari.inference._quadrature import logistic

        shape = np.broadcast_to(0.0, np.shape(self.n))
        _, minus_sigma, slope = compiled(logistic, (shape, 1.0, m, v))
        return -minus_sigma, slope

    def predictive_mean(self, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Average of n sigma(eta)."""
        return np.asarray(self.n * self._moments(m, v)[0])

    def predictive_variance(self, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Variance n E[sigma sigma'] + n^2 Var[sigma], where E[sigma^2] = E[sigma] - E[sigma sigma']."""
        p, slope = self._moments(m, v)
        n = np.asarray(self.n, float)
        return np.asarray(n * slope + n * n * (p * (1.0 - p) - slope))

    def log_predictive(
        self, y: ArrayLike, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0
    ) -> np.ndarray:
        """Log probability of y successes, eta averaged out; 0 where y is NaN."""
        from hidamari.inference._quadrature import log_marginal

        failures = np.asarray(self.n, float) - np.asarray(y, float)
        return compiled(log_marginal, (y, failures, m, v), outputs=1)[0] + self.log_base(y)


@dataclass(frozen=True)
class Bernoulli(Binomial):
    """Yes or no, y ~ Bernoulli(sigma(eta)): a binomial of one trial.

    Examples
    --------
    >>> Bernoulli().log_predictive([1.0], m=0.0, v=3.0).round(6)
    array([-0.693147])
    """

    n: Parameter = field(default=1, init=False, repr=False)
    name: ClassVar[str] = "bernoulli"

    def check(self, y: ArrayLike, name: str = "y") -> None:
        """Refuse what is not 0, 1 or NaN."""
        check_counts(y, name, largest=1, allowed="0, 1 or NaN")
