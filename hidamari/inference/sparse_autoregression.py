r"""Sparse autoregressions from moments: few lags out of many, at a cost that does not depend on the rows.

With predictors and response scaled to unit variance, R their correlations and r those with the response,

    b = argmin b' R b / 2 - r' b + penalty(b)

by coordinate descent. The strength ``alpha`` has no unit: 1 is more than the largest correlation, so nothing
is kept. A support once found is refitted by least squares, unless ``debias`` is false.

References
----------
J. Friedman, T. Hastie, R. Tibshirani, Regularization paths for generalized linear models, 2010.
J. Chen, Z. Chen, Extended Bayesian information criteria for model selection, Biometrika 2008.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._sparse import (
    PENALTIES,
    Scaled,
    answer,
    cost,
    extended_bic,
    follow,
    group_labels,
    log_share,
    minimise,
    scale,
)
from hidamari.inference.autoregression import ARFit, Path
from hidamari.inference.lags import LagGram, add_grams

__all__ = [
    "PENALTIES",
    "coordinate_descent",
    "cross_validate",
    "extended_bic",
    "sparse_path",
]


def coordinate_descent(
    gram: LagGram,
    alpha: float | ArrayLike,
    penalty: str = "l1",
    free: ArrayLike = (),
    groups: ArrayLike | None = None,
    intercept: bool = True,
    debias: bool = False,
) -> ARFit:
    r"""Penalised least squares of one strength.

    l1: alpha |b|. scad (a = 3.7) and mcp (gamma = 3): the same slope at 0, none at large coefficients.
    group: alpha sqrt(size) times the norm of the coefficients of each group, such as all lags of a covariate.

    Parameters
    ----------
    gram : LagGram
        Moments.
    alpha : float or (m,)
        Strength; one for each predictor weights them.
    penalty : {"l1", "scad", "mcp", "group"}
        Which.
    free : array_like of int or bool
        Predictors that are not penalised.
    groups : array_like of int, shape (m,), optional
        Group of each predictor; by default the lags of y, and the lags of each covariate.
    intercept : bool
        Whether the model has one.
    debias : bool
        Refit the support by least squares.

    Returns
    -------
    ARFit

    Raises
    ------
    ValueError
        If the penalty is unknown, a strength is negative, or groups do not fit.

    References
    ----------
    Friedman et al. 2010; Breheny and Huang 2011; Yuan and Lin 2006.

    Examples
    --------
    >>> from hidamari.inference.autoregression import lag_gram
    >>> y = np.random.default_rng(0).standard_normal(1000).cumsum()
    >>> fit = coordinate_descent(lag_gram(y, 10), 0.01)
    >>> fit.support.tolist().index(True), int(fit.support.sum()) < 10
    (0, True)
    """
    strength = np.broadcast_to(np.asarray(alpha, dtype=float), (len(gram.names),))
    if np.any(strength < 0.0) or np.isnan(strength).any():
        raise ValueError(f"alpha is {alpha}, but must be at least 0")
    problem = scale(gram, free, intercept)
    b = np.zeros(len(problem.r))
    b = minimise(problem, strength[problem.chosen], penalty, group_labels(gram, groups, problem), b)
    return answer(gram, problem, b, intercept, debias)


def sparse_path(
    gram: LagGram,
    penalty: str = "l1",
    criterion: str = "ebic",
    free: ArrayLike = (),
    groups: ArrayLike | None = None,
    intercept: bool = True,
    n_alphas: int = 100,
    debias: bool = True,
) -> ARFit:
    """Select predictors by a criterion over the supports that a penalty meets on its way down.

    Every support is refitted by least squares, from the moments, before it is judged. From the best one,
    predictors are then dropped one by one as long as the criterion falls. The path ends where even the
    residuals of all predictors could not pay for a larger support, or at half as many predictors as rows.

    Parameters
    ----------
    gram : LagGram
        Moments.
    penalty : {"l1", "scad", "mcp", "group"}
        Which penalty orders the supports.
    criterion : {"ebic", "bic", "aic"}
        What chooses among them.
    free, groups, intercept
        As for :func:`coordinate_descent`.
    n_alphas : int
        Strengths, from the least that keeps nothing down to a millionth of it.
    debias : bool
        Give the least squares fit of the support, not the penalised one (then without dropping).

    Returns
    -------
    ARFit
        ``path`` holds the supports met.

    Raises
    ------
    ValueError
        As `coordinate_descent`, or if the criterion is unknown.

    References
    ----------
    Chen and Chen 2008; Friedman et al. 2010.

    Examples
    --------
    >>> from hidamari.inference.autoregression import lag_gram
    >>> e = np.random.default_rng(0).standard_normal(3000)
    >>> y = np.zeros(3000)
    >>> for t in range(7, 3000):
    ...     y[t] = 0.4 * y[t - 1] - 0.3 * y[t - 7] + e[t]
    >>> fit = sparse_path(lag_gram(y, 50))
    >>> [name for name, kept in zip(fit.names, fit.support) if kept]
    ['lag 1', 'lag 7']
    """
    if criterion not in ("ebic", "bic", "aic"):
        raise ValueError(f"criterion is {criterion!r}, but must be 'ebic', 'bic' or 'aic'")
    problem = scale(gram, free, intercept)
    labels = group_labels(gram, groups, problem)
    least = log_share(problem, np.arange(len(problem.r)))
    alphas = _strengths(problem, penalty, labels, n_alphas)
    met: dict[bytes, tuple[float, float, np.ndarray, float]] = {}
    best = np.inf
    for alpha, b in zip(alphas, follow(problem, alphas, penalty, labels)):
        held = np.flatnonzero(b)
        if best < cost(problem, least, len(held), criterion) or 2 * len(held) > problem.rows:
            break
        key = held.tobytes()
        if key not in met:
            share = log_share(problem, held)
            if share == -np.inf:
                continue
            met[key] = (alpha, share, b.copy(), cost(problem, share, len(held), criterion))
            best = min(best, met[key][3])
    rows = list(met.values())
    chosen = rows[int(np.argmin([row[3] for row in rows]))][2]
    if debias and penalty != "group":
        chosen = _drop(problem, chosen, criterion)
    supports = np.zeros((len(rows), len(gram.names)), dtype=bool)
    supports[:, problem.free] = True
    supports[:, problem.chosen] = [row[2] != 0.0 for row in rows]
    path = Path(
        supports.sum(1),
        np.exp([row[1] for row in rows]) * problem.variance,
        {criterion: np.array([row[3] for row in rows])},
        supports,
        np.array([row[0] for row in rows]),
    )
    return answer(gram, problem, chosen, intercept, debias, path)


def _strengths(problem: Scaled, penalty: str, labels: np.ndarray, n: int) -> np.ndarray:
    """Strengths from the least that keeps nothing, downwards."""
    if penalty == "group":
        top = np.sqrt(np.bincount(labels, problem.r**2) / np.bincount(labels)).max(initial=0.0)
    else:
        top = np.abs(problem.r).max(initial=0.0)
    top *= 1.0 + 1e-12  # sums in another order are no larger: the empty support is among those compared
    return top * np.geomspace(1.0, 1e-6 if problem.rows > len(problem.r) else 1e-2, n)


def _drop(problem: Scaled, b: np.ndarray, criterion: str) -> np.ndarray:
    """Drop predictors one by one as long as the criterion falls; what is left stands at 1 in the result.

    Without predictor j the residual sum of squares grows by b_j^2 / (R^-1)_jj, and the inverse loses
    column j by one rank-one update.
    """
    held = np.flatnonzero(b)
    out = (b != 0.0).astype(float)
    try:
        inverse = np.linalg.inv(problem.R[np.ix_(held, held)])
    except np.linalg.LinAlgError:
        return out
    left = 1.0 - problem.r[held] @ inverse @ problem.r[held]
    if left <= 0.0:
        return out
    value = cost(problem, float(np.log(left)), len(held), criterion)
    while len(held):
        w = inverse @ problem.r[held]
        rise = w**2 / np.diag(inverse)
        j = int(np.argmin(rise))
        less = cost(problem, float(np.log(left + rise[j])), len(held) - 1, criterion)
        if less >= value:
            break
        value, left = less, left + rise[j]
        inverse = inverse - np.outer(inverse[j], inverse[j]) / inverse[j, j]
        inverse = np.delete(np.delete(inverse, j, 0), j, 1)
        out[held[j]] = 0.0
        held = np.delete(held, j)
    return out


def cross_validate(
    folds: Sequence[LagGram],
    penalty: str = "l1",
    free: ArrayLike = (),
    groups: ArrayLike | None = None,
    intercept: bool = True,
    n_alphas: int = 50,
    debias: bool = True,
) -> ARFit:
    """Choose the strength of a penalty by the squared error in blocks left out; moments of blocks add.

    Parameters
    ----------
    folds : sequence of LagGram
        Moments of each block of the data.
    penalty, free, groups, intercept
        As for :func:`coordinate_descent`.
    n_alphas : int
        Strengths tried.
    debias : bool
        Refit supports by least squares, in the folds as in the answer.

    Returns
    -------
    ARFit
        ``path.criteria["cv"]`` is the mean squared error of one step ahead in the blocks left out.

    Raises
    ------
    ValueError
        If there are fewer than two folds, or as `coordinate_descent`.

    References
    ----------
    C. Bergmeir, R. Hyndman, B. Koo, A note on the validity of cross-validation for evaluating autoregressive
    time series prediction, 2018.

    Examples
    --------
    >>> from hidamari.inference.autoregression import lag_gram
    >>> y = np.random.default_rng(0).standard_normal((5, 400)).cumsum(1)
    >>> fit = cross_validate([lag_gram(part, 10) for part in y])
    >>> bool(abs(fit.coef[0] - 1.0) < 0.1)
    True
    """
    if len(folds) < 2:
        raise ValueError(f"folds has {len(folds)} block(s), but needs at least two")
    whole = add_grams(folds)
    problem = scale(whole, free, intercept)
    alphas = _strengths(problem, penalty, group_labels(whole, groups, problem), n_alphas)
    error, size, sigma2 = np.zeros(n_alphas), np.zeros(n_alphas, dtype=int), np.zeros(n_alphas)
    for i, fold in enumerate(folds):
        rest = add_grams([other for k, other in enumerate(folds) if k != i])
        inner = scale(rest, free, intercept)
        labels = group_labels(rest, groups, inner)
        for a, b in enumerate(follow(inner, alphas, penalty, labels)):
            fit = answer(rest, inner, b, intercept, debias)
            contrast = np.concatenate([[1.0], -fit.coef])
            away = float(contrast @ fold.means) - fit.intercept
            error[a] += contrast @ fold.moments @ contrast + fold.n_rows * away**2
    error /= whole.n_rows
    best = int(np.argmin(error))
    labels = group_labels(whole, groups, problem)
    fits = []
    for a, b in enumerate(follow(problem, alphas, penalty, labels)):
        fits.append(answer(whole, problem, b, intercept, debias))
        size[a], sigma2[a] = fits[a].support.sum(), fits[a].sigma2
    supports = np.array([fit.support for fit in fits])
    return fits[best]._replace(path=Path(size, sigma2, {"cv": error}, supports, alphas))
