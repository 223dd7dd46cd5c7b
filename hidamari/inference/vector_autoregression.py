r"""Vector autoregressions: units that drive each other through lags, from one matrix of joint moments.

y_t = c + sum_i A_i y_{t-i} + e_t, e_t ~ N(0, Sigma), A_i (N, N). Every equation is a regression on the lags
of all units, and all need the same moments, which cost O(N^2 T log T + N^2 p^2) by transforms.

References
----------
H. Lütkepohl, New Introduction to Multiple Time Series Analysis, 2005, chapters 2 and 3.
J. Geweke, Measurement of linear dependence and feedback between multiple time series, JASA 77, 1982.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._lag_input import as_lags, as_segments
from hidamari.inference.lags import Lagged, LagGram, lag_gram
from hidamari.inference.sparse_autoregression import PENALTIES, coordinate_descent, sparse_path

__all__ = ["Coupling", "VectorFit", "coupling", "fit_vector"]


class VectorFit(NamedTuple):
    """A fitted vector autoregression; lags that are not in the model have coefficient 0."""

    coef: np.ndarray  # (N, N, p) target, source, lag 1..p
    intercept: np.ndarray  # (N,)
    sigma: np.ndarray  # (N, N) covariance of the innovations, freed of the bias of fitting
    support: np.ndarray  # (N, N, p) bool
    standard_errors: np.ndarray  # (N, N, p), given the support; 0 outside
    intercept_errors: np.ndarray  # (N,)
    gain: np.ndarray  # (N, N) growth of the target's RSS were the source's lags left out, as a share of it
    n_rows: int
    condition: float  # condition number of the correlations of all predictors, in the 1-norm
    names: tuple[str, ...]  # (N,)


class Coupling(NamedTuple):
    """Whether the past of one unit helps to foretell another, beyond the past of all others."""

    strength: np.ndarray  # (N, N) target, source: log ratio of the variances without and with the source
    statistic: np.ndarray  # (N, N) F
    p_value: np.ndarray  # (N, N); given the support where there was a penalty


def fit_vector(
    y: ArrayLike | Sequence[ArrayLike],
    lags: int | Sequence[int],
    penalty: str | None = None,
    alpha: str | float = "ebic",
    intercept: bool = True,
    names: Sequence[str] | None = None,
) -> VectorFit:
    """Fit a vector autoregression, by least squares or with couplings selected by a penalty.

    Rows with a value that was not observed, in any unit at the time or at any lag, are left out.

    Parameters
    ----------
    y : array_like, shape (T, N), or sequence of such
        Values of N units, or segments that share no lags. NaN: not observed.
    lags : int or sequence of int
        Number of lags, or the lags themselves, the same for all pairs.
    penalty : {None, "l1", "scad", "mcp", "group"}
        None: all lags of all units. "group" keeps or drops all lags of a source together, the others each
        lag; targets are selected for one by one. What is kept is fitted again by least squares.
    alpha : {"ebic", "bic", "aic"}, or float
        What chooses among supports, or a strength as a share of the largest correlation.
    intercept : bool
        Whether the model has one.
    names : sequence of str, optional
        Names of the units.

    Returns
    -------
    VectorFit

    Raises
    ------
    ValueError
        If shapes or names do not fit, no row is complete, coefficients outnumber the rows, or units are
        collinear.

    References
    ----------
    Lütkepohl 2005, section 3.2; M. Yuan and Y. Lin, Model selection and estimation in regression with
    grouped variables, 2006.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.standard_normal((2000, 2))
    >>> for t in range(1, 2000):
    ...     y[t, 1] += 0.5 * y[t - 1, 0]
    >>> fit_vector(y, 3, penalty="group").support.any(axis=2).tolist()
    [[False, False], [True, False]]
    """
    segments = as_segments("y", y, 2)
    N = segments[0].shape[1]
    if N == 0 or any(part.shape[1] != N for part in segments):
        raise ValueError(f"y has segments of shapes {[part.shape for part in segments]}: allowed is one N")
    units = tuple(names) if names is not None else tuple(f"unit {n}" for n in range(N))
    if len(units) != N:
        raise ValueError(f"names has {len(units)} names, but y has {N} units")
    if penalty is not None and penalty not in PENALTIES:
        raise ValueError(f"penalty is {penalty!r}; allowed: None or one of {PENALTIES}")
    own = as_lags("lags", lags, 1)
    if not len(own):
        raise ValueError(f"lags is {lags!r}: a vector autoregression needs at least one")
    gram = _joint(segments, own, units)
    moments = gram.moments
    if not intercept:
        moments = moments + gram.n_rows * np.outer(gram.means, gram.means)
    now = np.arange(N) * (len(own) + 1)
    past = np.setdiff1d(np.arange(len(gram.means)), now)
    found = (
        _all_lags(moments, now, past, gram, intercept)
        if penalty is None
        else _selected(gram, now, past, penalty, alpha, intercept)
    )
    return _gathered(found, moments, gram, now, past, own, intercept, units)


class _Equations(NamedTuple):
    """Regressions of all targets on all lags of all sources."""

    coef: np.ndarray  # (N, m)
    support: np.ndarray  # (N, m) bool
    inverse: list[np.ndarray]  # of each target, the inverse moments of what is in its support
    condition: float


def _joint(segments: list[np.ndarray], lags: np.ndarray, names: tuple[str, ...]) -> LagGram:
    """Moments of all units at the time and at all lags: unit after unit, the time first."""
    others = [
        Lagged(name, [part[:, n] for part in segments], [0, *lags.tolist()])
        for n, name in enumerate(names[1:], 1)
    ]
    return lag_gram([part[:, 0] for part in segments], lags.tolist(), lagged=others)


def _all_lags(
    moments: np.ndarray, now: np.ndarray, past: np.ndarray, gram: LagGram, intercept: bool
) -> _Equations:
    """Least squares of all targets by one Cholesky factor."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    m, N = len(past), len(now)
    if m + intercept >= gram.n_rows:
        raise ValueError(
            f"{m + intercept} coefficients of each unit need more complete rows than {gram.n_rows}, "
            "those found: take fewer lags, or a penalty"
        )
    scale = np.sqrt(np.diag(moments)[past])
    collinear = "units are collinear, or constant, to working precision: drop some, or take a penalty"
    if (scale == 0.0).any():
        raise ValueError(collinear)
    R = moments[np.ix_(past, past)] / np.outer(scale, scale)
    try:
        factor = cho_factor(R)
    except LinAlgError:
        raise ValueError(collinear) from None
    inverse = cho_solve(factor, np.eye(m))
    condition = float(np.abs(R).sum(axis=0).max() * np.abs(inverse).sum(axis=0).max())
    coef = cho_solve(factor, moments[np.ix_(past, now)] / scale[:, None]).T / scale
    inverse = 0.5 * (inverse + inverse.T) / np.outer(scale, scale)
    return _Equations(coef, np.ones((N, m), dtype=bool), [inverse] * N, condition)


def _selected(
    gram: LagGram, now: np.ndarray, past: np.ndarray, penalty: str, alpha: str | float, intercept: bool
) -> _Equations:
    """A support for every target, and least squares on it."""
    sources = np.repeat(np.arange(len(now)), len(past) // len(now))
    fits = []
    for target in now:
        at = np.concatenate([[target], past])
        own = LagGram(
            gram.moments[np.ix_(at, at)], gram.means[at], gram.n_rows, ("",) * len(past), np.empty(0, int)
        )
        if isinstance(alpha, str):
            fit = sparse_path(own, penalty, alpha, groups=sources, intercept=intercept)
            # A path of groups may begin just below the strength that keeps nothing, of criterion 0.
            if fit.path is not None and fit.path.criteria[alpha].min() > 0.0:
                fit = coordinate_descent(own, 2.0, penalty, groups=sources, intercept=intercept)
        else:
            fit = coordinate_descent(own, alpha, penalty, groups=sources, intercept=intercept, debias=True)
        fits.append(fit)
    support = np.array([fit.support for fit in fits])
    for n in np.flatnonzero(support.sum(axis=1) + intercept >= gram.n_rows):
        raise ValueError(
            f"alpha {alpha!r} keeps {support[n].sum()} lags for unit {n} with {gram.n_rows} rows; take more"
        )
    inverse = [fit.cov[1:, 1:][np.ix_(on, on)] / fit.sigma2 for fit, on in zip(fits, support)]
    return _Equations(
        np.array([fit.coef for fit in fits]), support, inverse, max(fit.condition for fit in fits)
    )


def _gathered(
    found: _Equations,
    moments: np.ndarray,
    gram: LagGram,
    now: np.ndarray,
    past: np.ndarray,
    lags: np.ndarray,
    intercept: bool,
    names: tuple[str, ...],
) -> VectorFit:
    """Innovations, errors and gains of the equations, with all lags up to the longest."""
    N, m = found.coef.shape
    contrast = np.zeros((N, N + m))
    contrast[:, now], contrast[:, past] = np.eye(N), -found.coef
    rss = contrast @ moments @ contrast.T
    spare = np.sqrt(gram.n_rows - intercept - found.support.sum(axis=1))
    sigma = 0.5 * (rss + rss.T) / np.outer(spare, spare)
    errors, level_errors, gain = np.zeros((N, m)), np.zeros(N), np.zeros((N, N))
    x = gram.means[past]
    source = np.repeat(np.arange(N), len(lags))
    for n, inverse in enumerate(found.inverse):
        on = found.support[n]
        errors[n, on] = np.sqrt(sigma[n, n] * np.diag(inverse))
        if intercept:
            level_errors[n] = np.sqrt(sigma[n, n] * (1.0 / gram.n_rows + x[on] @ inverse @ x[on]))
        b = found.coef[n, on]
        for of in np.unique(source[on]):
            held = source[on] == of
            # Leaving b out raises the RSS by b' ((C^-1)_bb)^-1 b.
            gain[n, of] = b[held] @ np.linalg.solve(inverse[np.ix_(held, held)], b[held]) / rss[n, n]
    level = gram.means[now] - found.coef @ x if intercept else np.zeros(N)

    def by_lag(values: np.ndarray) -> np.ndarray:
        """Values of every lag up to the longest, (N, N, p)."""
        out = np.zeros((N, N, lags[-1]), dtype=values.dtype)
        out[:, :, lags - 1] = values.reshape(N, N, len(lags))
        return out

    return VectorFit(
        by_lag(found.coef), level, sigma, by_lag(found.support), by_lag(errors), level_errors, gain,
        gram.n_rows, found.condition, names,
    )  # fmt: skip


def coupling(fit: VectorFit) -> Coupling:
    r"""Granger's test and Geweke's measure of every unit on every other, given all others.

    strength = log(RSS_without / RSS), F = (RSS_without / RSS - 1) (n - k) / q for q lags of the source and k
    coefficients in all.

    Parameters
    ----------
    fit : VectorFit
        A fit.

    Returns
    -------
    Coupling
        Its diagonal is of each unit's own past.

    References
    ----------
    Geweke 1982; Lütkepohl 2005, section 3.6.

    Examples
    --------
    >>> y = np.random.default_rng(0).standard_normal((1000, 2))
    >>> y[1:, 1] += 0.3 * y[:-1, 0]
    >>> (coupling(fit_vector(y, 2)).p_value < 0.001).tolist()
    [[False, False], [True, False]]
    """
    from scipy.stats import f

    lags = fit.support.sum(axis=2)
    spare = fit.n_rows - (fit.intercept_errors > 0) - lags.sum(axis=1)
    statistic = fit.gain * spare[:, None] / np.maximum(lags, 1)
    p = np.where(lags > 0, f.sf(statistic, np.maximum(lags, 1), spare[:, None]), 1.0)
    return Coupling(np.log1p(fit.gain), statistic, p)
