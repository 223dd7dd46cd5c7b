r"""Priors for those who give none: as wide as the time grid and the data allow, and no wider.

==================  =======================================  ================================================
parameter           prior of its value                       why
==================  =======================================  ================================================
lengthscale, period lognormal, 98 % between the median gap   shorter or longer than the data can tell, the
                    and the longest series                   evidence is flat and a chain would drift away
frequency           lognormal, 98 % between one cycle in     the same, up to half the sampling rate
                    the longest series and 1 / (2 gap)
variance            square of a half-normal of scale s,      the amplitude may vanish, and is of the order of
(kernel, noise)     Gamma(1/2, rate 1 / (2 s^2))             the deviation s of y (1 for log rates, logits)
  ... of a Wiener   that, over duration^(2 order + 1)        the process grows to s over the series
  process
scale               half-normal of scale s                   the same
bias                normal about the mean of y, twice s      the level of an output
others              lognormal about the model's value, 1     a factor of e either way
==================  =======================================  ================================================

The scales are read off the data, so these priors use them twice, by a few numbers; whoever knows better gives
priors of their own, by path or its end.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hidamari.inference.objective import GPModel
from hidamari.inference.priors import match_priors
from hidamari.inference.search import Scales, is_real, scales
from hidamari.inference.series import Series
from hidamari.parameters import flatten

__all__ = ["complete_priors", "default_priors"]

_TAIL = 2.3263478740408408  # standard deviations to the 1 % point of a normal
_NARROWEST = 0.5  # deviation of a logarithm, however short the series


def default_priors(model: GPModel, names: Sequence[str], series: Series) -> dict[str, Any]:
    """A weakly informative prior for each name, as the table above says.

    Parameters
    ----------
    model : GPModel
        For the likelihood, and the values of parameters of no known scale.
    names : sequence of str
        Paths as ``flatten(model)`` gives them.
    series : Series
        The data, for their scale and time grid.

    Returns
    -------
    dict of str to numpyro distribution

    References
    ----------
    M. Betancourt, Robust Gaussian process modeling, 2020. A. Gelman, Prior distributions for variance
    parameters in hierarchical models, Bayesian Analysis 1, 2006.

    Examples
    --------
    >>> from hidamari.inference.likelihoods import Gaussian
    >>> from hidamari.inference.series import lay_series
    >>> from hidamari.statespace.kernels import Matern
    >>> series = lay_series(np.arange(100) * 0.1, np.sin(np.arange(100) * 0.1)).series
    >>> prior = default_priors(GPModel(Matern(), Gaussian(), np.zeros(1)), ["kernel.lengthscale"], series)
    >>> bool(np.isclose(prior["kernel.lengthscale"].cdf(0.1), 0.01, rtol=1e-3))
    True
    """
    size = scales(model, series)
    real = dict(zip(names, is_real(model, names)))
    values = {name: float(flatten(model, name)[0][0]) for name in names}  # logarithms where not real
    return {name: _prior(name, _owner(model, name), bool(real[name]), values[name], size) for name in names}


def complete_priors(
    priors: Mapping[str, Any] | None, model: GPModel, names: Sequence[str], series: Series
) -> dict[str, Any]:
    """The user's prior of each name, or the default one; every name has one.

    Raises
    ------
    ValueError
        If a key fits no name, or its value is no distribution of single numbers.
    """
    default = default_priors(model, names, series)
    found = {name: own or default[name] for name, own in zip(names, match_priors(priors, names))}
    for name, prior in found.items():
        if prior.batch_shape or prior.event_shape:
            raise ValueError(f"the prior of {name} must be over one number, got shape {prior.shape()}")
    return found


def _owner(model: Any, name: str) -> Any:
    """The kernel or likelihood that a parameter belongs to."""
    for part in name.split(".")[:-1]:
        model = getattr(model, part)
    return model


def _prior(name: str, owner: Any, real: bool, value: float, size: Scales) -> Any:
    """The row of the table that a name belongs to."""
    import numpyro.distributions as dist

    last = name.split(".")[-1].split("[")[0]
    if last == "bias":
        output = int(name.split("[")[1].rstrip("]"))
        return dist.Normal(float(size.mean[output]), 2.0 * float(np.sqrt(size.variance)))
    if last == "period" or (last == "lengthscale" and not hasattr(owner, "period")):
        return _between(size.median, size.duration)
    if last == "frequency":
        return _between(1.0 / size.duration, 0.5 / size.median)
    if last == "variance":
        grows = 0 if getattr(owner, "is_stationary", True) else 2 * owner.order + 1
        return dist.Gamma(0.5, 0.5 * size.duration**grows / size.variance)
    if last == "scale":
        return dist.HalfNormal(float(np.sqrt(size.variance)))
    return dist.Normal(value, 1.0) if real else dist.LogNormal(value, 1.0)


def _between(low: float, high: float) -> Any:
    """Lognormal with 1 % below and 1 % above."""
    import numpyro.distributions as dist

    centre, width = 0.5 * np.log(low * high), np.log(high / low) / (2.0 * _TAIL)
    return dist.LogNormal(float(centre), float(max(width, _NARROWEST)))
