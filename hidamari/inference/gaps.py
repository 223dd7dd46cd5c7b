r"""Autoregressions with missing values, exactly: likelihood, prediction, imputation, and fits by EM.

Observed values are exact, so that uncertainty lives on the missing ones alone. Forward, a filter keeps the
covariance of the m missing values among the last p, O(p + m^2) a row. All at once, with a_t = (1, -w) the
coefficients of the error of row t, the precision of the missing values is A = sum_t a_t a_t' / sigma^2
restricted to them, a band of width m:

    mean = -A^{-1} b,  cov = A^{-1},  log p(y) = const - (S - b' A^{-1} b) / 2 - log |A| / 2.

References
----------
R. H. Jones, Maximum likelihood fitting of ARMA models to time series with missing observations, 1980.
K. Takahashi, J. Fagan, M.-S. Chin, Formation of a sparse bus impedance matrix, 1973.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._lag_input import as_lags, as_segments
from hidamari.inference.autoregression import ARFit, solve_exact
from hidamari.inference.lags import LagGram, add_grams, lag_gram
from hidamari.inference.reflections import levinson

__all__ = ["EMFit", "GapFiltered", "Imputed", "fit_em", "gap_filter", "impute"]


class GapFiltered(NamedTuple):
    """What each row is expected to be, given those before."""

    mean: np.ndarray  # (T,) predicted
    var: np.ndarray  # (T,) of the prediction; 0 for rows that were given
    values: np.ndarray  # (T,) observed, or the mean of the missing given what followed within p rows
    log_likelihood: float


class Imputed(NamedTuple):
    """Missing values given all that was observed."""

    values: np.ndarray  # (T,) observed values, and the means of the missing
    var: np.ndarray  # (T,) 0 where observed
    log_likelihood: float
    index: np.ndarray  # (M,) rows that are missing
    covariance: np.ndarray  # (M, width): [a, d] of missing values a and a - d, as far apart as p rows


class EMFit(NamedTuple):
    """A fit with its imputed series."""

    fit: ARFit
    values: list[np.ndarray]  # of each segment
    var: list[np.ndarray]
    gram: LagGram  # expected moments at the fit
    log_likelihood: np.ndarray  # (n_iter,)
    converged: bool


class _Rows(NamedTuple):
    """The factors of a series: see `_gaps`."""

    y: np.ndarray  # about the level
    missing: np.ndarray
    order: np.ndarray
    w: np.ndarray
    v: np.ndarray
    c: float
    level: float


def gap_filter(
    y: ArrayLike, weights: ArrayLike, sigma2: float, intercept: float = 0.0, start: str = "stationary"
) -> GapFiltered:
    r"""Filter a series with missing values, y_t = c + sum_i w_i y_{t-i} + e_t, at O(p + m^2) a row.

    Equals the Kalman filter on the p-dimensional companion form, whose cost is p^2 at best.

    Parameters
    ----------
    y : array_like, shape (T,)
        NaN: not observed.
    weights : array_like, shape (p,)
        w_1..w_p.
    sigma2 : float
        Variance of e_t.
    intercept : float
        c.
    start : {"stationary", "given"}
        The first p values have their stationary law, or are given and must be observed.

    Returns
    -------
    GapFiltered
        Its likelihood is that of all observed values; with ``start="given"``, of those after the first p.

    Raises
    ------
    ValueError
        If given values are missing, or weights that need a stationary start have a root inside.

    References
    ----------
    Jones 1980.

    Examples
    --------
    >>> gap_filter([1.0, np.nan, 0.5], [0.5], 1.0, start="given").mean.tolist()
    [1.0, 0.5, 0.25]
    """
    from hidamari.inference import _gaps

    rows = _rows(y, weights, sigma2, intercept, start)
    T, p = len(rows.y), rows.w.shape[1]
    counts = np.concatenate([[0], np.cumsum(rows.missing)])
    most = int(np.max(counts[1:] - counts[np.maximum(np.arange(T) - p, 0)], initial=0)) + 1
    x, mean, var = np.empty(T), np.empty(T), np.empty(T)
    index, P = np.zeros(most, dtype=np.int64), np.zeros((most, most))
    total = _gaps.filter_gaps(*rows[:6], x, mean, var, index, P, np.zeros(most), np.zeros(most))
    return GapFiltered(mean + rows.level, var, x + rows.level, float(total))


def impute(
    y: ArrayLike, weights: ArrayLike, sigma2: float, intercept: float = 0.0, start: str = "stationary"
) -> Imputed:
    r"""Missing values given all others, with their variances, by one banded factor of their precision.

    Parameters
    ----------
    y, weights, sigma2, intercept, start
        As for :func:`gap_filter`.

    Returns
    -------
    Imputed

    Raises
    ------
    ValueError
        As `gap_filter`.

    References
    ----------
    Takahashi et al. 1973, for the variances.

    Examples
    --------
    >>> found = impute([1.0, np.nan, 0.5], [0.5], 1.0)
    >>> found.values.tolist(), found.var.tolist()
    ([1.0, 0.6, 0.5], [0.0, 0.8, 0.0])
    """
    from hidamari.inference import _gaps

    rows = _rows(y, weights, sigma2, intercept, start)
    T, p = len(rows.y), rows.w.shape[1]
    index = np.flatnonzero(rows.missing)
    M = len(index)
    width = int(np.max(np.arange(M) - np.searchsorted(index, index - p), initial=0)) + 1
    A, b = np.zeros((M, width)), np.zeros(M)
    z = np.where(rows.missing, 0.0, rows.y)
    squares, logs = _gaps.band(z, index, rows.order, rows.w, rows.v, rows.c, A, b)
    x = -b
    log_det = _gaps.factor_band(A, x)
    if np.isnan(log_det):
        raise ValueError(
            f"weights {rows.w[-1]} leave missing values without a proper law to working precision"
        )
    Z = np.zeros_like(A)
    _gaps.inverse_in_band(A, Z)
    n = int(np.count_nonzero(rows.order >= 0))
    values, var = rows.y.copy(), np.zeros(T)
    values[index], var[index] = x, Z[:, 0]
    total = -0.5 * (squares + b @ x + logs + log_det + (n - M) * np.log(2.0 * np.pi))
    return Imputed(values + rows.level, var, float(total), index, Z)


def _rows(y: ArrayLike, weights: ArrayLike, sigma2: float, intercept: float, start: str) -> _Rows:
    """Check a series and its model, and give each row its order, weights and noise."""
    (values,) = as_segments("y", np.asarray(y, dtype=float), 1)
    w = np.asarray(weights, dtype=float)
    if w.ndim != 1 or not np.isfinite(w).all():
        raise ValueError(f"weights must be a finite vector, found shape {w.shape}")
    if not (np.isfinite(sigma2) and sigma2 > 0.0):
        raise ValueError(f"sigma2 is {sigma2}, but must be positive and finite")
    if start not in ("stationary", "given"):
        raise ValueError(f"start is {start!r}, but must be 'stationary' or 'given'")
    T, p = len(values), len(w)
    missing = np.isnan(values)
    order = np.minimum(np.arange(T), p)
    v = np.full(T, float(sigma2))
    table = np.zeros((p + 1, p))
    table[p] = w
    gain = 1.0 - float(w.sum())
    if start == "given":
        if missing[:p].any():
            raise ValueError(f"start is 'given', but some of the first {p} values are not observed")
        order[:p] = -1
        level = float(np.nanmean(values)) if not missing.all() else 0.0
    else:
        steady = float(sigma2)
        for k in range(p, 0, -1):  # Levinson's recursion backwards: predictors from fewer values
            g = table[k, k - 1]
            if abs(g) >= 1.0:
                raise ValueError("weights are not stationary: start='given' does not need them to be")
            steady /= 1.0 - g * g
            table[k - 1, : k - 1] = (table[k, : k - 1] + g * table[k, : k - 1][::-1]) / (1.0 - g * g)
            if k - 1 < T:
                v[k - 1] = steady
        level = float(intercept) / gain
    # About a level, the one that a stationary series returns to: the digits of a large mean are not lost.
    c = float(intercept) - level * gain if start == "given" else 0.0
    return _Rows(np.nan_to_num(values - level), missing, order, table, v, c, level)


def fit_em(
    y: ArrayLike | Sequence[ArrayLike],
    lags: int | Sequence[int],
    intercept: bool = True,
    tol: float = 1e-8,
    max_iter: int = 200,
) -> EMFit:
    """Least squares with missing values inside the lags, by EM: expected moments, then an exact solve.

    The E-step adds the covariances of missing pairs to the moments of the imputed series; the M-step is
    `solve_exact`. No row is dropped, where dropping incomplete windows leaves (1 - share)^(p+1) of them.

    Parameters
    ----------
    y : array_like, shape (T,), or sequence of such
        Series or segments; missing values before the first observed one are left out.
    lags : int or sequence of int
        As for `lag_gram`.
    intercept : bool
        Whether the model has one.
    tol : float
        Stop when no coefficient moves by more.
    max_iter : int
        Most rounds.

    Returns
    -------
    EMFit
        The likelihood rises in every round where the first values of each segment are observed; else the
        M-step leaves out that the law of the first values depends on the weights. ``fit.cov`` counts imputed
        values as seen, and is too small by about the share that is missing.

    Raises
    ------
    ValueError
        If nothing varies, a segment has no observed value, or first values are missing and the fit is not
        stationary.

    References
    ----------
    R. Shumway, D. Stoffer, An approach to time series smoothing and forecasting using the EM algorithm, 1982.

    Examples
    --------
    >>> y = np.zeros(3000)
    >>> e = np.random.default_rng(0).standard_normal(3000)
    >>> for t in range(2, 3000):
    ...     y[t] = 1.2 * y[t - 1] - 0.5 * y[t - 2] + e[t]
    >>> y[::3] = np.nan
    >>> fit_em(y, 2).fit.coef.round(1).tolist()
    [1.2, -0.5]
    """
    from hidamari.inference import _gaps

    own = as_lags("lags", lags, 1)
    p = int(own.max(initial=0))
    segments = as_segments("y", y, 1)
    if any(np.isnan(part).all() for part in segments):
        raise ValueError("y has a segment with no observed value")
    segments = [part[int(np.argmax(~np.isnan(part))) :] for part in segments]
    segments = [part for part in segments if len(part) > p]
    if not segments:
        raise ValueError(f"y has no segment longer than its longest lag, {p}")
    starts = ["stationary" if np.isnan(part[:p]).any() else "given" for part in segments]
    first = levinson(segments, p, intercept) if p else None
    w = first.coef if first is not None else np.zeros(0)
    level, sigma2 = (first.intercept, first.sigma2) if first is not None else (0.0, 1.0)
    at = np.concatenate([[0], own])
    history: list[float] = []
    converged = False
    while True:
        imputed = [impute(part, w, sigma2, level, start) for part, start in zip(segments, starts)]
        history.append(sum(part.log_likelihood for part in imputed))
        grams = []
        for part in imputed:
            extra = np.zeros((p + 1, p + 1))
            _gaps.pair_moments(part.index, part.covariance, p, len(part.values), extra)
            gram = lag_gram(part.values, own.tolist())
            grams.append(gram._replace(moments=gram.moments + extra[np.ix_(at, at)]))
        gram = add_grams(grams)
        fit = solve_exact(gram, intercept)
        if converged or len(history) >= max_iter:
            break
        moved = float(np.max(np.abs(fit.weights - w), initial=0.0))
        converged = moved <= tol and abs(fit.sigma2 / sigma2 - 1.0) <= tol
        w, level, sigma2 = fit.weights, fit.intercept, fit.sigma2
    values, var = [part.values for part in imputed], [part.var for part in imputed]
    return EMFit(fit, values, var, gram, np.array(history), converged)
