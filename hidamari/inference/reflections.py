r"""Autoregressions from reflection coefficients: the equations of Yule and Walker, and Burg's recursion.

Both give the fits of all orders 1..p in one pass, each of them stationary, for reflection coefficients lie in
(-1, 1): w_k of order k is g_k, and those before it are w_j - g_k w_{k-j}.

References
----------
S. M. Kay, Modern Spectral Estimation, 1988, chapters 6 and 7.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._lag_input import as_segments, observed_mean
from hidamari.inference.ar_criteria import criteria, smallest
from hidamari.inference.autoregression import ARFit, Path

__all__ = ["burg", "levinson"]


def levinson(
    y: ArrayLike | Sequence[ArrayLike], order: int, intercept: bool = True, best: str | None = None
) -> ARFit:
    r"""Yule-Walker equations sum_j r_{i-j} w_j = r_i by the Levinson-Durbin recursion: always stationary.

    Autocovariances are those of all observed pairs in windows tapered by zeros at the ends, divided by the
    number of values, so that they are positive definite. They are biased near unit roots in short series.

    Parameters
    ----------
    y : array_like, shape (T,), or sequence of such
        The series or its segments. Missing values count as the mean here: prefer :func:`burg` with many.
    order : int
        Number of lags, the largest where one is chosen.
    intercept : bool
        Whether the series has a mean other than 0.
    best : {"aic", "aicc", "bic", "fpe"}, optional
        Choose the order by this criterion.

    Returns
    -------
    ARFit
        Its ``path`` holds all orders.

    Raises
    ------
    ValueError
        If the order is not in 1..T-1 or nothing varies.

    References
    ----------
    Kay 1988, section 6.4.

    Examples
    --------
    >>> y = np.sin(np.arange(400.0)) + 0.1 * np.cos(7.0 * np.arange(400.0))
    >>> bool(np.all(np.abs(np.roots([1.0, *-levinson(y, 5).coef])) < 1.0))
    True
    """
    from hidamari.inference import _lags

    segments, mean = _centred(y, order, intercept)
    n = sum(int(np.count_nonzero(~np.isnan(part))) for part in segments)
    r = np.zeros(order + 1)
    for part in segments:
        filled = np.nan_to_num(part)
        padded = np.concatenate([np.zeros(order), filled])
        r += _lags.correlate(filled[None], padded[None], order)[0, 0]
    reflection, variance, coef = np.zeros(order), np.zeros(order + 1), np.zeros(order)
    _lags.levinson_steps(r / n, reflection, variance, coef)
    return _of_reflections(reflection, variance, mean, n, intercept, best)


def burg(
    y: ArrayLike | Sequence[ArrayLike], order: int, intercept: bool = True, best: str | None = None
) -> ARFit:
    r"""Burg's recursion: each reflection coefficient minimises forward and backward errors together.

    g_k = 2 sum f_t b_{t-1} / sum (f_t^2 + b_{t-1}^2), over the rows of all runs of observed values. Always
    stationary, and better conditioned than the normal equations in short series near unit roots.

    Parameters
    ----------
    y, order, intercept, best
        As for :func:`levinson`; NaN cuts the series into runs.

    Returns
    -------
    ARFit
        Its ``path`` holds all orders.

    Raises
    ------
    ValueError
        If the order is less than 1, no run is longer than the order, or nothing varies.

    References
    ----------
    Kay 1988, section 7.6.

    Examples
    --------
    >>> y = np.sin(0.3 * np.arange(100.0))
    >>> burg(y, 2).coef.round(2).tolist(), round(2 * float(np.cos(0.3)), 2)
    ([1.91, -1.0], 1.91)
    """
    from hidamari.inference import _lags

    segments, mean = _centred(y, order, intercept)
    whole = np.concatenate([np.append(part, np.nan) for part in segments])
    edges = np.flatnonzero(np.diff(~np.isnan(whole), prepend=False))
    starts, ends = edges[::2].copy(), edges[1::2].copy()
    if np.max(ends - starts) <= order:
        raise ValueError(f"order is {order}, but the longest run observed has {np.max(ends - starts)} values")
    forward = np.nan_to_num(whole)
    backward = forward.copy()
    n = int(np.sum(ends - starts))
    reflection, variance = np.zeros(order), np.empty(order + 1)
    variance[0] = float(forward @ forward) / n
    for k in range(order):
        reflection[k] = _lags.burg_step(forward, backward, starts, ends, k)
        variance[k + 1] = variance[k] * (1.0 - reflection[k] ** 2)
    return _of_reflections(reflection, variance, mean, n, intercept, best)


def _centred(
    y: ArrayLike | Sequence[ArrayLike], order: int, intercept: bool
) -> tuple[list[np.ndarray], float]:
    """Segments less the mean of what was observed, and that mean."""
    segments = as_segments("y", y, 1)
    longest = max(map(len, segments))
    if not 1 <= order < longest:
        raise ValueError(f"order is {order}, but must be in 1..{longest - 1} for series of {longest} rows")
    mean = observed_mean(segments) if intercept else 0.0
    segments = [part - mean for part in segments]
    if not any(np.nansum(part**2) > 0.0 for part in segments):
        raise ValueError("y does not vary: there is nothing to regress on")
    return segments, mean


def _of_reflections(
    reflection: np.ndarray, variance: np.ndarray, mean: float, n: int, intercept: bool, best: str | None
) -> ARFit:
    """The fit of the chosen order, with asymptotic covariances sigma^2 Gamma^{-1} / n."""
    values = criteria(n, variance, np.arange(len(variance)), intercept)
    order = len(reflection) if best is None else smallest(values, best)
    w, r = np.zeros(0), np.full(1, variance[0])
    for k in range(order):
        r = np.append(r, reflection[k] * variance[k] + w @ r[:0:-1])
        w = np.concatenate([w - reflection[k] * w[::-1], reflection[k : k + 1]])
    # sigma^2 Gamma^{-1} by the formula of Gohberg and Semencul, in which a = (1, -w).
    a = np.concatenate([[1.0], -w])
    inverse = np.outer(a[:order], a[:order]) - np.outer(a[:0:-1], a[:0:-1])
    for k in range(1, order):
        inverse[k, 1:] += inverse[k - 1, :-1]
    sigma2 = float(variance[order])
    cov = np.zeros((order + 1, order + 1))
    cov[1:, 1:] = inverse / n
    if intercept:
        # c = mean (1 - sum w), and the mean, of variance sigma^2 / (n (1 - sum w)^2), is independent of w.
        cov[0, 1:] = cov[1:, 0] = -cov[1:, 1:].sum(0) * mean
        cov[0, 0] = sigma2 / n - mean * cov[0, 1:].sum()
    tails = np.cumsum(np.abs(r[:order]))
    norm = np.max(tails + tails[::-1], initial=0.0) - (abs(r[0]) if order else 0.0)
    condition = float(norm * np.abs(inverse).sum(0).max(initial=0.0) / sigma2) if order else 1.0
    return ARFit(
        tuple(f"lag {i + 1}" for i in range(order)),
        np.arange(1, order + 1),
        w,
        mean * (1.0 - float(w.sum())),
        sigma2,
        cov,
        np.ones(order, dtype=bool),
        n,
        condition,
        Path(np.arange(len(variance)), variance, values),
    )
