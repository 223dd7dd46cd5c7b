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
from scipy.signal import lfilter

from hidamari.inference._lag_input import as_lags, as_segments
from hidamari.inference.autoregression import ARFit, solve_exact
from hidamari.inference.lags import LagGram, lag_gram
from hidamari.inference.reflections import levinson

__all__ = [
    "EMFit",
    "GapFiltered",
    "Imputed",
    "expected_gram",
    "first_law",
    "fit_em",
    "gap_filter",
    "impute",
    "settled",
]


Start = str | ARFit


class GapFiltered(NamedTuple):
    """What each row is expected to be, given those before."""

    mean: np.ndarray  # (T,) predicted
    var: np.ndarray  # (T,) of the prediction; 0 for rows that were given
    values: np.ndarray  # (T,) observed, or the mean of the missing given what followed within p rows
    log_likelihood: float


class Imputed(NamedTuple):
    """Missing values given all that was observed."""

    values: np.ndarray  # (T,) observed values, and the means of those unknown
    var: np.ndarray  # (T,) 0 where observed
    log_likelihood: float
    index: np.ndarray  # (M,) rows that are missing; all, if there is noise
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
    c: np.ndarray
    level: np.ndarray  # (T,)


def gap_filter(
    y: ArrayLike,
    weights: ArrayLike,
    sigma2: float,
    intercept: ArrayLike = 0.0,
    start: Start = "stationary",
    noise: float = 0.0,
) -> GapFiltered:
    r"""Filter a series with missing values, y_t = c_t + sum_i w_i y_{t-i} + e_t, at O(p + m^2) a row.

    Equals the Kalman filter on the p-dimensional companion form, whose cost is p^2 at best.

    Parameters
    ----------
    y : array_like, shape (T,)
        NaN: not observed.
    weights : array_like, shape (p,)
        w_1..w_p.
    sigma2 : float
        Variance of e_t.
    intercept : float or array_like, shape (T,)
        c, of each row if it changes; NaN: the row is not predicted, and given.
    start : {"stationary", "given"} or ARFit
        The first p values have their stationary law about the level that c leads to, or are given, or have
        the stationary law of another fit.
    noise : float
        Variance of errors of observation, y_t + N(0, noise); no value is given then.

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
    if ((rows.missing | (noise > 0.0)) & (rows.order < 0)).any():
        raise ValueError(
            f"start is 'given', but some of the first {p} values (or of rows without intercept) are missing"
        )
    counts = np.concatenate([[0], np.cumsum(rows.missing)])
    most = int(np.max(counts[1:] - counts[np.maximum(np.arange(T) - p, 0)], initial=0)) + 1
    most = most if noise == 0.0 else p + 1
    x, mean, var = np.empty(T), np.empty(T), np.empty(T)
    index, P = np.zeros(most, dtype=np.int64), np.zeros((most, most))
    total = _gaps.filter_gaps(*rows[:6], noise, x, mean, var, index, P, np.zeros(most), np.zeros(most))
    return GapFiltered(mean + rows.level, var, x + rows.level, float(total))


def impute(
    y: ArrayLike,
    weights: ArrayLike,
    sigma2: float,
    intercept: ArrayLike = 0.0,
    start: Start = "stationary",
    reach: int = 0,
    noise: float = 0.0,
) -> Imputed:
    r"""Missing values given all others, with their variances, by one banded factor of their precision.

    Parameters
    ----------
    y, weights, sigma2, intercept, start, noise
        As for :func:`gap_filter`, but given values may be missing: their law is flat, and what follows
        must determine them.
    reach : int
        Covariances of missing values so many rows apart are wanted; those up to p are there in any case.

    Returns
    -------
    Imputed

    Raises
    ------
    ValueError
        If missing values are not determined, or as `gap_filter`.

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
    index = np.flatnonzero(rows.missing | (noise > 0.0))
    M = len(index)
    width = int(np.max(np.arange(M) - np.searchsorted(index, index - max(p, reach)), initial=0)) + 1
    A, b = np.zeros((M, width)), np.zeros(M)
    z = np.where(rows.missing | (noise > 0.0), 0.0, rows.y)
    squares, logs = _gaps.band(z, index, rows.order, rows.w, rows.v, rows.c, A, b)
    n = int(np.count_nonzero(rows.order >= 0))
    if noise > 0.0:
        seen = ~rows.missing
        A[seen, 0] += 1.0 / noise
        b -= rows.y / noise
        n += int(seen.sum())
        squares += float(rows.y @ rows.y) / noise
        logs += int(seen.sum()) * np.log(noise)
    x = -b
    log_det = _gaps.factor_band(A, x)
    if np.isnan(log_det):
        raise ValueError(
            f"weights {rows.w[-1]} leave missing values without a proper law to working precision"
        )
    Z = np.zeros_like(A)
    _gaps.inverse_in_band(A, Z)
    values, var = rows.y.copy(), np.zeros(T)
    values[index], var[index] = x, Z[:, 0]
    total = -0.5 * (squares + b @ x + logs + log_det + (n - M) * np.log(2.0 * np.pi))
    return Imputed(values + rows.level, var, float(total), index, Z)


def _rows(y: ArrayLike, weights: ArrayLike, sigma2: float, intercept: ArrayLike, start: Start) -> _Rows:
    """Check a series and its model, and give each row its order, weights and noise."""
    (values,) = as_segments("y", np.asarray(y, dtype=float), 1)
    w = np.asarray(weights, dtype=float)
    if w.ndim != 1 or not np.isfinite(w).all():
        raise ValueError(f"weights must be a finite vector, found shape {w.shape}")
    if not (np.isfinite(sigma2) and sigma2 > 0.0):
        raise ValueError(f"sigma2 is {sigma2}, but must be positive and finite")
    if isinstance(start, str) and start not in ("stationary", "given"):
        raise ValueError(f"start is {start!r}, but must be 'stationary' or 'given'")
    T, p = len(values), len(w)
    c = np.broadcast_to(np.asarray(intercept, dtype=float), (T,))
    missing = np.isnan(values)
    order = np.minimum(np.arange(T), p)
    v = np.full(T, float(sigma2))
    table = np.zeros((p + 1, p))
    table[p] = w
    gain = 1.0 - float(w.sum())
    # About a level, the one that a stationary series returns to: the digits of a large mean are not lost.
    if start == "given":
        order[:p] = -1
        level = np.full(T, float(np.nanmean(values)) if not missing.all() else 0.0)
        c = c - level * gain
    elif isinstance(start, ARFit):
        first = start.weights[:p]
        table[p, : len(first)] = first
        table[p, len(first) :] = 0.0
        v[:p] = _backwards(table, start.sigma2)[:T]
        table[p] = w
        level = np.full(T, start.intercept / (1.0 - float(start.weights.sum())))
        c = np.where(np.arange(T) < p, 0.0 * c, c - level * gain)
    else:
        v[:p] = _backwards(table, float(sigma2))[:T]
        usual = float(np.mean(c[np.isfinite(c)])) if np.isfinite(c).any() else 0.0
        level, c = np.full(T, usual / gain), c - usual
        if c[np.isfinite(c)].any():  # the mean follows what drives it
            level, c = level + lfilter([1.0], np.append(1.0, -w), np.nan_to_num(c)), np.where(c == c, 0.0, c)
    order[np.isnan(c)] = -1
    return _Rows(np.nan_to_num(values - level), missing, order, table, v, np.nan_to_num(c), level)


def _backwards(table: np.ndarray, sigma2: float) -> np.ndarray:
    """Predictors from fewer values than p, by Levinson's recursion run backwards, and their noise, (p,)."""
    p = table.shape[1]
    noise = np.empty(p)
    for k in range(p, 0, -1):
        g = table[k, k - 1]
        if abs(g) >= 1.0:
            raise ValueError("weights are not stationary: start='given' does not need them to be")
        spare = (1.0 - g) * (1.0 + g)
        sigma2 /= spare
        noise[k - 1] = sigma2
        table[k - 1, : k - 1] = (table[k, : k - 1] + g * table[k, : k - 1][::-1]) / spare
    return noise


def expected_gram(
    segments: Sequence[np.ndarray],
    laws: Sequence[tuple],
    lags: Sequence[int],
    columns: Sequence[np.ndarray] | None = None,
    steps: int = 1,
    shifts: Sequence[np.ndarray] | None = None,
) -> tuple[LagGram, list[Imputed]]:
    """Moments of series with missing values, expected given what was observed: the E-step of EM.

    Parameters
    ----------
    segments : sequence of ndarray (T_r,)
        NaN: not observed.
    laws : sequence of tuple
        For each segment weights, sigma2, intercept, start and perhaps noise, as for :func:`impute`.
    lags, columns, steps
        As for :func:`lag_gram`.
    shifts : sequence of ndarray (T_r,), optional
        Known numbers to be added to the segments before moments are taken.

    Returns
    -------
    (LagGram, list of Imputed)
        The moments, and the segments with missing values filled in.

    Examples
    --------
    >>> gram, _ = expected_gram([np.array([1.0, np.nan, 0.5])], [([0.5], 1.0, 0.0, "stationary")], [1])
    >>> bool(gram.moments[0, 0] > lag_gram([1.0, 0.6, 0.5], 1).moments[0, 0])
    True
    """
    from hidamari.inference import _gaps

    p, ahead = int(max(lags, default=0)), steps - 1
    at = ahead - np.concatenate([np.arange(steps), -np.asarray(lags, dtype=int)])
    imputed, extra = [], np.zeros((p + steps, p + steps))
    fixed = [np.empty((len(part), 0)) for part in segments] if columns is None else columns
    for part, (w, sigma2, intercept, start, *noise), x in zip(segments, laws, fixed):
        imputed.append(impute(part, w, sigma2, intercept, start, p + ahead, *noise))
        used = np.ones(len(part), dtype=bool)
        if x.shape[1]:  # row t of the moments holds columns t, and responses up to t + ahead
            used[ahead:] = np.asarray(np.isfinite(x).all(axis=1))[: len(part) - ahead]
        runs = np.flatnonzero(np.diff(used, prepend=False, append=False)).reshape(-1, 2)
        ends = np.zeros((p + steps, p + steps + 1))
        _gaps.pair_moments(imputed[-1].index, imputed[-1].covariance, p + ahead, runs, ends, extra)
    values = [one.values for one in imputed]
    if shifts is not None:
        values = [one + more for one, more in zip(values, shifts)]
    gram = lag_gram(values, list(lags), list(fixed), steps=steps)
    moments = gram.moments.copy()
    m = len(at)
    moments[:m, :m] += extra[np.ix_(at, at)]
    return gram._replace(moments=moments), imputed


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
        The likelihood, that of `first_law` for the first values, rises in every round. ``fit.cov`` counts
        imputed values as seen, and is too small by about the share that is missing.

    Raises
    ------
    ValueError
        If nothing varies, or a segment has no observed value.

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
    own = as_lags("lags", lags, 1)
    p = int(own.max(initial=0))
    segments = as_segments("y", y, 1)
    if any(np.isnan(part).all() for part in segments):
        raise ValueError("y has a segment with no observed value")
    segments = [part[int(np.argmax(~np.isnan(part))) :] for part in segments]
    segments = [part for part in segments if len(part) > p]
    if not segments:
        raise ValueError(f"y has no segment longer than its longest lag, {p}")
    fit = levinson(segments, p, intercept) if p else solve_exact(lag_gram(segments, 0), intercept)
    starts = [first_law(part, fit) for part in segments]
    history: list[float] = []
    converged = False
    while True:
        laws = [(fit.weights, fit.sigma2, fit.intercept, start) for start in starts]
        gram, imputed = expected_gram(segments, laws, own.tolist())
        history.append(sum(part.log_likelihood for part in imputed))
        before, fit = fit, solve_exact(gram, intercept)
        if converged or len(history) >= max_iter:
            break
        converged = settled(before, fit, tol)
    values, var = [part.values for part in imputed], [part.var for part in imputed]
    return EMFit(fit, values, var, gram, np.array(history), converged)


def first_law(y: np.ndarray, fit: ARFit) -> Start:
    """Law of the first values: given where they were observed, else that of a stationary fit.

    Examples
    --------
    >>> fit = levinson([1.0, 2.0, 0.5, 1.0], 1)
    >>> first_law(np.array([1.0, np.nan]), fit), first_law(np.array([np.nan, 1.0]), fit) is fit
    ('given', True)
    """
    return fit if np.isnan(y[: len(fit.weights)]).any() else "given"


def settled(before: ARFit, after: ARFit, tol: float) -> bool:
    """Whether a round of EM moved no weight, and no share of the variance, by more than ``tol``.

    Examples
    --------
    >>> fit = levinson([1.0, 2.0, 0.5, 1.0], 1)
    >>> settled(fit, fit, 1e-8)
    True
    """
    moved = float(np.max(np.abs(after.weights - before.weights), initial=0.0))
    return moved <= tol and abs(after.sigma2 / before.sigma2 - 1.0) <= tol
