"""Priors over hyperparameters: numpyro distributions by path, and their log density at a point."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["log_prior", "match_priors"]


def match_priors(priors: Mapping[str, Any] | None, names: Sequence[str]) -> list[Any]:
    """The prior of each name, None where there is none.

    Parameters
    ----------
    priors : mapping of str to numpyro distribution, optional
        A key is a path ("kernel.first.lengthscale", "bias[0]"), with or without the index of an array
        ("bias"), or the end of one ("lengthscale"). The longest key that fits a name gives its prior.
    names : sequence of str
        Paths of the hyperparameters that move.

    Returns
    -------
    list
        One prior or None for each name.

    Raises
    ------
    ValueError
        If a key fits no name, or its value is no distribution.

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> found = match_priors({"lengthscale": dist.LogNormal()}, ["kernel.lengthscale", "bias[0]"])
    >>> [prior is None for prior in found]
    [False, True]
    """
    chosen: list[tuple[int, Any]] = [(-1, None)] * len(names)
    for key, prior in (priors or {}).items():
        if not callable(getattr(prior, "log_prob", None)):
            raise ValueError(f"priors[{key!r}] must be a numpyro distribution, got {prior!r}")
        fits = [i for i, name in enumerate(names) if _fits(key, name)]
        if not fits:
            raise ValueError(f"priors has {key!r}, which fits none of what moves, {list(names)}")
        for i in fits:
            chosen[i] = max(chosen[i], (len(key), prior), key=lambda pair: pair[0])
    return [prior for _, prior in chosen]


def log_prior(priors: Sequence[Any]) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Sum of the log densities at constrained values (n,), as a function that also gives its gradient.

    Parameters
    ----------
    priors : sequence
        From :func:`match_priors`; None adds nothing.

    Returns
    -------
    callable
        values (n,) -> (float, gradient (n,)), in float64.

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> value, slope = log_prior([dist.Normal(0.0, 2.0), None])(np.array([1.0, 5.0]))
    >>> round(value, 4), slope.tolist()
    (-1.7371, [-0.25, 0.0])
    """
    if all(prior is None for prior in priors):
        return lambda values: (0.0, np.zeros(len(values)))
    import jax

    def total(values):
        return sum(p.log_prob(values[i]) for i, p in enumerate(priors) if p is not None)

    both = jax.jit(jax.value_and_grad(total))

    def evaluate(values: np.ndarray) -> tuple[float, np.ndarray]:
        with jax.enable_x64(True):
            value, slope = both(jax.numpy.asarray(values, dtype="float64"))
        return float(value), np.asarray(slope, dtype=np.float64)

    return evaluate


def _fits(key: str, name: str) -> bool:
    """Whether a key is a name or its end, with or without an array index."""
    return any(key == own or own.endswith("." + key) for own in (name, name.split("[")[0]))
