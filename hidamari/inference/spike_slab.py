r"""Which lags matter: probabilities of inclusion under spikes and slabs, from moments.

Each of m predictors is in the model or not; the share that is in has the law Beta(1, (m - p0) / p0), so that
p0 are expected. Those that are in have the prior of
:func:`hidamari.inference.autoregression_posterior.conjugate_posterior`, so that the evidence of every model
has a closed form: coefficients and variance are integrated out, and Gibbs steps go over models alone. To ask
whether one predictor is in costs O(1) on swept moments, O(m^2) where it changes the model, and nothing in
rows.

References
----------
E. George, R. McCulloch, Approaches for Bayesian variable selection, Statistica Sinica 7, 1997.
J. Goodnight, A tutorial on the SWEEP operator, The American Statistician 33, 1979.
"""

import warnings
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from hidamari.inference.diagnostics import judge, summarise
from hidamari.inference.lags import LagGram

__all__ = ["sample_spike_slab"]


def sample_spike_slab(
    gram: LagGram,
    *,
    expected: float | None = None,
    strength: float = 1.0,
    n_warmup: int = 500,
    n_samples: int = 1000,
    n_chains: int = 4,
    random_state: int | np.random.Generator | None = None,
) -> Any:
    """Draw models, coefficients and variance from their posterior under spikes and slabs.

    Parameters
    ----------
    gram : LagGram
        Moments of one response.
    expected : float, optional
        How many predictors are expected to matter, below m; by default sqrt(m), 1/2 for a single one.
    strength : float
        The prior of those that are in is worth so many rows: 1 is the unit-information prior.
    n_warmup, n_samples, n_chains : int
        Rounds of each chain that are dropped and kept, and chains; these start from all predictors and from
        none in turn.
    random_state : int or numpy.random.Generator, optional
        The draws are the same for the same number.

    Returns
    -------
    xarray.DataTree
        ``posterior``: ``included`` (0 or 1) and ``coef`` (zeros where not) over (chain, draw, coefficient),
        ``intercept`` and ``sigma2`` over (chain, draw); ``diagnostics`` of the number of predictors that are
        in, of `sigma2` and `intercept`. The mean of ``included`` is the probability that a predictor matters.
        Attributes `converged` and `message`.

    Raises
    ------
    ValueError
        If a number is not allowed, or a predictor does not vary.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        When the chains have not converged.

    References
    ----------
    George and McCulloch 1997.

    Examples
    --------
    >>> from hidamari.inference.lags import lag_gram
    >>> y = np.random.default_rng(0).standard_normal(3000)
    >>> y[3:] += 0.4 * y[:-3]
    >>> tree = sample_spike_slab(lag_gram(y, 5), random_state=0)
    >>> (tree["posterior"].included.mean(("chain", "draw")) > 0.5).values.tolist()
    [False, False, True, False, False]
    """
    m, n = len(gram.names), gram.n_rows
    p0 = min(np.sqrt(m), 0.5 * m) if expected is None else expected
    _check(gram, p0, strength, n_warmup, n_samples, n_chains)
    from hidamari.inference._spike_slab import chain

    unit = np.sqrt(np.diag(gram.moments) / n)
    M = gram.moments / np.outer(unit, unit)
    slab = M[1:, 1:] + strength * np.eye(m)
    swept = np.block([[slab, M[1:, :1]], [M[:1, 1:], M[:1, :1]]])
    a, rng = 0.5 * (n - 1), np.random.default_rng(random_state)
    included = np.empty((n_chains, n_samples, m), dtype=bool)
    coef, sigma2 = np.zeros(included.shape), np.empty((n_chains, n_samples))
    for i in range(n_chains):
        begin = np.full(m, i % 2 == 1)
        rounds = chain(swept, np.log(strength), a, (m - p0) / p0, begin, n_warmup + n_samples, rng)
        included[i] = rounds[n_warmup:]
        for t, inside in enumerate(included[i]):
            coef[i, t, inside], sigma2[i, t] = _draw(slab, M[1:, 0], M[0, 0], np.flatnonzero(inside), a, rng)
    coef *= unit[0] / unit[1:]
    sigma2 *= unit[0] ** 2
    away = np.sqrt(sigma2 / n) * rng.standard_normal(sigma2.shape)
    intercept = gram.means[0] - coef @ gram.means[1:] + away
    return _tree(gram, included, coef, intercept, sigma2)


def _draw(
    slab: np.ndarray, c: np.ndarray, total: float, at: np.ndarray, a: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Coefficients of the predictors that are in, and the variance: normal-inverse-gamma."""
    rate = 0.5 * total
    if not len(at):
        return np.empty(0), float(rate / rng.gamma(a))
    factor = cho_factor(slab[np.ix_(at, at)], lower=True)
    mean = cho_solve(factor, c[at])
    variance = float((rate - 0.5 * mean @ c[at]) / rng.gamma(a))
    noise = solve_triangular(factor[0], rng.standard_normal(len(at)), lower=True, trans=1)
    return mean + np.sqrt(variance) * noise, variance


def _check(gram: LagGram, expected: float, strength: float, *numbers: int) -> None:
    """Refuse what cannot be drawn."""
    m = len(gram.names)
    if gram.n_responses != 1 or m == 0:
        raise ValueError(f"gram has {gram.n_responses} responses and {m} predictors; allowed: 1, and any")
    if not (np.diag(gram.moments) > 0.0).all():
        flat = np.array(["y", *gram.names])[~(np.diag(gram.moments) > 0.0)].tolist()
        raise ValueError(f"gram has columns that do not vary: {flat}")
    if not 0.0 < expected < m:
        raise ValueError(f"expected is {expected}; allowed: between 0 and the {m} predictors")
    if not 0.0 < strength < np.inf:
        raise ValueError(f"strength is {strength}, but must be positive and finite")
    for name, value, least in zip(("n_warmup", "n_samples", "n_chains"), numbers, (0, 4, 1)):
        if value < least or value != int(value):
            raise ValueError(f"{name} is {value}, but must be a whole number of at least {least}")


def _tree(
    gram: LagGram, included: np.ndarray, coef: np.ndarray, intercept: np.ndarray, sigma2: np.ndarray
) -> Any:
    """Everything as a DataTree, with its verdict."""
    import xarray as xr

    dims = ("chain", "draw", "coefficient")
    posterior = {
        "included": (dims, included.astype(float)),
        "coef": (dims, coef),
        "intercept": (dims[:2], intercept),
        "sigma2": (dims[:2], sigma2),
    }
    coords = {
        "chain": np.arange(len(coef)),
        "draw": np.arange(coef.shape[1]),
        "coefficient": list(gram.names),
    }
    scalars = {"intercept": intercept, "sigma2": sigma2}
    size = included.sum(axis=2).astype(float)
    if np.ptp(size) > 0:  # chains that all stand still in one model have no r-hat, and agree
        scalars["size"] = size
    summary = summarise(scalars)
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset(posterior, coords), "diagnostics": summary})
    converged, message = judge(summary, 0, len(coef))
    tree.attrs |= {"converged": int(converged), "message": message}
    if not converged:
        from sklearn.exceptions import ConvergenceWarning

        warnings.warn(message, ConvergenceWarning, stacklevel=3)
    return tree
