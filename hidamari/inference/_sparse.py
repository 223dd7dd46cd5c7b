"""A sparse regression in units of its spreads: into them, to a minimum, and back."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.special import gammaln

from hidamari.inference.autoregression import ARFit, Path, solve_exact
from hidamari.inference.lags import LagGram, keep

__all__ = [
    "PENALTIES",
    "Scaled",
    "answer",
    "cost",
    "extended_bic",
    "follow",
    "group_labels",
    "log_share",
    "minimise",
    "scale",
]

PENALTIES = ("l1", "scad", "mcp", "group")
_TOL = 1e-9  # of standardised coefficients
_SWEEPS = 2000
_QUICK = 60  # sweeps from which the homotopy is quicker
_DEPENDENT = 1e-7  # share of a predictor's spread that the others leave, below which they are singular
_KINDS = {"l1": 0, "scad": 1, "mcp": 2}


class Scaled(NamedTuple):
    """Correlations with what is not penalised projected out."""

    R: np.ndarray  # (k, k) of the penalised predictors
    r: np.ndarray  # (k,) with the response
    spread: np.ndarray  # (k,) spreads of the predictors over that of the response
    chosen: np.ndarray  # (k,) which predictors are penalised
    free: np.ndarray  # which are not
    variance: float  # of the response, that the free ones leave
    rows: int


def scale(gram: LagGram, free: ArrayLike, intercept: bool) -> Scaled:
    """Project what is not penalised, and the mean, out of the moments, and scale what is left."""
    if gram.n_responses != 1:
        raise ValueError(f"gram has {gram.n_responses} responses, but one is selected for: keep() it")
    m = len(gram.names)
    is_free = np.zeros(m, dtype=bool)
    is_free[np.asarray(free, dtype=None if np.size(free) else int)] = True
    moments = gram.moments
    if not intercept:
        moments = moments + gram.n_rows * np.outer(gram.means, gram.means)
    chosen, of_free = np.flatnonzero(~is_free), np.flatnonzero(is_free)
    at, out = np.concatenate([[0], 1 + chosen]), 1 + of_free
    C = moments[np.ix_(at, at)] if len(out) else moments
    if len(out):
        cross = moments[np.ix_(out, at)]
        C = C - cross.T @ np.linalg.lstsq(moments[np.ix_(out, out)], cross, rcond=None)[0]
    spread = np.sqrt(np.maximum(np.diag(C), 0.0))
    if spread[0] == 0.0:
        raise ValueError("y does not vary: there is nothing to select")
    safe = np.where(spread > 0.0, spread, 1.0)
    R = C[1:, 1:] / safe[1:]
    R /= safe[1:, None]
    variance = float(C[0, 0]) / gram.n_rows
    return Scaled(
        R,
        C[1:, 0] / (safe[1:] * safe[0]),
        safe[1:] / safe[0],
        chosen,
        of_free,
        variance,
        gram.n_rows,
    )


def group_labels(gram: LagGram, groups: ArrayLike | None, problem: Scaled) -> np.ndarray:
    """Group of each penalised predictor."""
    if groups is None:
        kinds = [
            "" if i < len(gram.lags) else name.rsplit(" lag ", 1)[0] for i, name in enumerate(gram.names)
        ]
        labels = np.unique(kinds, return_inverse=True)[1]
    else:
        labels = np.asarray(groups)
        if labels.shape != (len(gram.names),):
            raise ValueError(f"groups has shape {labels.shape}, but there are {len(gram.names)} predictors")
    return np.unique(labels[problem.chosen], return_inverse=True)[1]


def minimise(
    problem: Scaled, strength: np.ndarray, penalty: str, groups: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """Standardised coefficients, from a start."""
    from hidamari.inference import _descent

    if penalty not in PENALTIES:
        raise ValueError(f"penalty is {penalty!r}, but must be one of {PENALTIES}")
    b = b.copy()
    g = problem.r - problem.R @ b
    if penalty != "group":
        _descent.descend(problem.R, strength, _KINDS[penalty], b, g, _TOL, _SWEEPS)
        return b
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    members = [order[i:j] for i, j in zip(starts[:-1], starts[1:])]
    bounds = np.array([np.linalg.eigvalsh(problem.R[np.ix_(own, own)])[-1] for own in members])
    weights = np.array([np.sqrt(len(own)) * strength[own].mean() for own in members])
    _descent.descend_groups(problem.R, order, starts, bounds, weights, b, np.empty_like(b), g, _TOL, _SWEEPS)
    return b


def follow(problem: Scaled, alphas: np.ndarray, penalty: str, groups: np.ndarray) -> Iterator[np.ndarray]:
    """Standardised coefficients at each of a falling sequence of strengths, one after the other.

    Descent from the last; from where predictors are so alike that it is slow, the lasso is followed from
    support to support, and descent only confirms it.
    """
    from hidamari.inference import _descent, _homotopy

    R, r, m = problem.R, problem.r, len(problem.r)
    b, g = np.zeros(m), r.copy()
    path, slope, held, at = np.zeros(m), r.copy(), 0, float(np.abs(r).max(initial=0.0))
    active, signs, barred = np.zeros(m, dtype=np.int64), np.zeros(m), np.zeros(m, dtype=bool)
    L, u, fall = np.empty((m, m)), np.empty(m), np.empty(m)
    quick = penalty == "l1"
    for alpha in alphas:
        strength = np.full(m, alpha)
        if quick:
            quick = _descent.descend(R, strength, _KINDS[penalty], b, g, _TOL, _QUICK) >= 0
        if not quick:
            if penalty == "l1" and held >= 0:
                held = _homotopy.advance(
                    R, r, at, alpha, active, signs, held, L, barred, path, slope, u, fall
                )
                at, b = alpha, path
            b = minimise(problem, strength, penalty, groups, b)
        # Where two predictors are the same, rounding alone decides whether the second joins.
        yield np.where(np.abs(b) > _TOL, b, 0.0)


def answer(
    gram: LagGram, problem: Scaled, b: np.ndarray, intercept: bool, debias: bool, path: Path | None = None
) -> ARFit:
    """The fit with standardised coefficients b, in the units of the data."""
    support = np.zeros(len(gram.names), dtype=bool)
    support[problem.chosen] = b != 0.0
    support[problem.free] = True
    held = np.flatnonzero(support)
    # Errors need the moments to be invertible; a penalised fit may keep more predictors than there are rows.
    ridge = 0.0 if len(held) + intercept <= gram.n_rows else 1.0 / gram.n_rows
    refit = solve_exact(keep(gram, held), intercept, ridge)
    coef, cov = np.zeros(len(support)), np.zeros((1 + len(support), 1 + len(support)))
    at = np.concatenate([[0], 1 + held])
    cov[np.ix_(at, at)] = refit.cov
    if debias:
        coef[held] = refit.coef
        level, sigma2 = refit.intercept, refit.sigma2
    else:
        coef[problem.chosen] = b / problem.spread
        moments = gram.moments
        if not intercept:
            moments = moments + gram.n_rows * np.outer(gram.means, gram.means)
        if len(problem.free):
            F = 1 + problem.free
            left = moments[F, 0] - moments[F, 1:] @ coef
            coef[problem.free] = np.linalg.lstsq(moments[np.ix_(F, F)], left, rcond=None)[0]
        contrast = np.concatenate([[1.0], -coef])
        sigma2 = float(contrast @ moments @ contrast) / gram.n_rows
        level = float(gram.means[0] - gram.means[1:] @ coef) if intercept else 0.0
    return ARFit(gram.names, gram.lags, coef, level, sigma2, cov, support, gram.n_rows, refit.condition, path)


def extended_bic(
    n_rows: int, sigma2: ArrayLike, size: ArrayLike, n_candidates: int, gamma: float = 0.5
) -> np.ndarray:
    """Extended BIC: N log sigma2 + k log N + 2 gamma log choose(p, k); gamma = 0 is BIC.

    Parameters
    ----------
    n_rows : int
        Rows N.
    sigma2, size : array_like
        RSS / N and number k of selected predictors of each model.
    n_candidates : int
        Number p that they were selected among.
    gamma : float
        In 0..1.

    Returns
    -------
    ndarray

    References
    ----------
    Chen and Chen 2008.

    Examples
    --------
    >>> extended_bic(100, [1.0, 0.9], [0, 1], 10).round(2).tolist()
    [0.0, -3.63]
    """
    k = np.asarray(size, dtype=float)
    choose = gammaln(n_candidates + 1) - gammaln(k + 1) - gammaln(n_candidates - k + 1)
    fit = n_rows * np.log(np.maximum(np.asarray(sigma2, dtype=float), np.finfo(float).tiny))
    return fit + k * np.log(n_rows) + 2.0 * gamma * choose


def cost(problem: Scaled, log_share: float, k: int, criterion: str) -> float:
    """Criterion of a support of k predictors whose residuals have this log share of the variance."""
    if criterion == "aic":
        return problem.rows * log_share + 2.0 * k
    gamma = 0.5 if criterion == "ebic" else 0.0
    return float(extended_bic(problem.rows, np.exp(log_share), k, len(problem.r), gamma))


def log_share(problem: Scaled, held: np.ndarray) -> float:
    """Log of the share of the variance that least squares on some predictors leaves, -inf if singular."""
    if not len(held):
        return 0.0
    if len(held) >= problem.rows - 1:
        return -np.inf
    try:
        factor = cho_factor(problem.R[np.ix_(held, held)], lower=True, check_finite=False)
    except LinAlgError:
        return -np.inf
    if np.diag(factor[0]).min() < _DEPENDENT:
        return -np.inf
    left = 1.0 - problem.r[held] @ cho_solve(factor, problem.r[held], check_finite=False)
    return float(np.log(max(left, np.finfo(float).tiny)))
