r"""Standard errors of autoregressions whose noise changes its variance or is correlated.

Least squares stays consistent then, but its errors are wrong. With x_t the predictors of row t, an intercept
among them, and e_t what they leave, the sandwich

    (X'X)^-1 M (X'X)^-1,  M = sum_{|l| <= L} k_l sum_t u_t u_{t-l}',  u_t = x_t e_t,  k_l = 1 - |l| / (L + 1)

is right for long series: L = 0 for noise that changes its variance (White), L > 0 for noise that is
correlated over L rows besides (Newey and West). The weights k are the correlation of a window of L + 1 ones
with itself,

    M = V'V / (L + 1),   v_t = u_t + u_{t-1} + ... + u_{t-L},

so that M is positive semidefinite, and costs the same for any L.

References
----------
H. White, A heteroskedasticity-consistent covariance matrix estimator, Econometrica 48, 1980.
W. Newey, K. West, A simple positive semi-definite covariance matrix, Econometrica 55, 1987.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._lag_input import as_columns, as_segments
from hidamari.inference.autoregression import ARFit
from hidamari.inference.lags import Lagged, complete_rows

__all__ = ["automatic_lags", "robust_covariance"]


def automatic_lags(n_rows: int) -> int:
    """How many lags to allow for in so many rows: 4 (n / 100)^(2/9), rounded down.

    References
    ----------
    Newey and West, Automatic lag selection in covariance matrix estimation, Review of Economic Studies, 1994.

    Examples
    --------
    >>> automatic_lags(100), automatic_lags(10_000)
    (4, 11)
    """
    return int(4.0 * (n_rows / 100.0) ** (2.0 / 9.0))


def robust_covariance(
    fit: ARFit,
    y: ArrayLike | Sequence[ArrayLike],
    columns: ArrayLike | Sequence[ArrayLike] | None = None,
    lagged: Sequence[Lagged] = (),
    n_lags: int | None = 0,
) -> np.ndarray:
    r"""Sandwich covariance of the intercept and coefficients.

    Rows without all of their predictors count as rows whose noise is 0; segments share no lags.

    Parameters
    ----------
    fit : ARFit
        Of these data by least squares. Where predictors were selected, the selection is taken as given.
    y, columns, lagged
        As they were fitted.
    n_lags : int, optional
        Rows over which noise is correlated: 0 (default), White; None, :func:`automatic_lags`.

    Returns
    -------
    ndarray, shape (1 + m, 1 + m)
        As ``fit.cov``: zeros for what was not fitted.

    Raises
    ------
    ValueError
        If n_lags is negative, or the data have other rows or predictors than those of the fit.

    References
    ----------
    White 1980; Newey and West 1987.

    Examples
    --------
    >>> from hidamari.inference.autoregression import fit_exact
    >>> rng = np.random.default_rng(0)
    >>> calm = rng.standard_normal(4000)
    >>> fit = fit_exact(calm, 1)
    >>> bool(np.allclose(robust_covariance(fit, calm), fit.cov, rtol=0.1, atol=1e-5))
    True
    >>> wild = calm * np.exp(np.sin(np.arange(4000) / 50))
    >>> fit = fit_exact(wild, 1)
    >>> bool(robust_covariance(fit, wild)[1, 1] > 1.5 * fit.cov[1, 1])
    True
    """
    n = fit.n_rows
    L = automatic_lags(n) if n_lags is None else n_lags
    if L < 0:
        raise ValueError(f"n_lags is {n_lags}, but must be at least 0")
    total, found = np.zeros(1 + len(fit.coef)), 0
    for segment in _segments(fit, y, columns, lagged):
        for rows, _ in segment:
            if rows.shape[1] != len(total):
                raise ValueError(f"predictors are {rows.shape[1] - 1}, but the fit has {len(fit.coef)}")
            total += rows.sum(axis=0)
            found += len(rows)
    if found != n:
        raise ValueError(f"y has {found} complete rows, but the fit was made to {n}")
    out = np.zeros_like(fit.cov)
    if not fit.sigma2 > 0.0:
        return out
    # About the means, so that a level far from 0 costs no digits; about 0 where there is no intercept.
    has_level = fit.cov[0, 0] > 0.0
    means = total / n if has_level else np.zeros_like(total)
    kept = 1 + np.flatnonzero(fit.support)
    M = np.zeros((1 + len(kept), 1 + len(kept)))
    for segment in _segments(fit, y, columns, lagged):
        M += _meat(_scores(segment, fit, means, kept), L, len(M))
    bread = np.zeros_like(M)
    bread[0, 0] = has_level / n
    bread[1:, 1:] = fit.cov[np.ix_(kept, kept)] / fit.sigma2
    bread[0] -= means[kept] @ bread[1:]  # the intercept is the level at the means, less the means' part
    at = np.concatenate([[0], kept])
    out[np.ix_(at, at)] = bread @ M @ bread.T
    return out


def _segments(
    fit: ARFit,
    y: ArrayLike | Sequence[ArrayLike],
    columns: ArrayLike | Sequence[ArrayLike] | None,
    lagged: Sequence[Lagged],
) -> Iterator[Iterator[tuple[np.ndarray, np.ndarray]]]:
    """For each segment its complete rows, y in front, with their times, some thousands at a time."""
    segments = as_segments("y", y, 1)
    others = [as_segments(item.name, item.values, 1) for item in lagged]
    for i, (part, x) in enumerate(zip(segments, as_columns(columns, segments))):
        own = [Lagged(item.name, z[i], item.lags) for item, z in zip(lagged, others)]
        # The time goes along as the last of the columns.
        chunks = complete_rows(part, fit.lags.tolist(), np.column_stack([x, np.arange(len(part))]), own)
        yield ((rows[:, :-1], rows[:, -1].astype(np.int64)) for rows in chunks)


def _scores(
    segment: Iterator[tuple[np.ndarray, np.ndarray]], fit: ARFit, means: np.ndarray, kept: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """u_t = x_t e_t, (n, 1 + m), with predictors about their means, and their times."""
    level = fit.intercept - (means[0] - means[1:] @ fit.coef)
    for rows, times in segment:
        rows = rows - means
        e = rows[:, 0] - rows[:, kept] @ fit.coef[kept - 1] - level
        yield np.column_stack([e, rows[:, kept] * e[:, None]]), times


def _meat(chunks: Iterator[tuple[np.ndarray, np.ndarray]], n_lags: int, m: int) -> np.ndarray:
    """M of one segment, from sums of L + 1 scores in a row."""
    M, tail, last = np.zeros((m, m)), np.zeros((n_lags, m)), 0
    for i, (u, times) in enumerate(chunks):
        # Scores that are more than L rows apart do not meet: longer gaps are cut.
        at = np.cumsum(np.minimum(np.diff(times, prepend=last if i else times[0] - 1), n_lags + 1))
        joined = np.zeros((n_lags + at[-1], m))
        joined[:n_lags] = tail
        joined[n_lags + at - 1] = u
        M += _squares_of_sums(joined, n_lags)
        tail, last = joined[len(joined) - n_lags :], times[-1]
    return M + _squares_of_sums(np.vstack([tail, np.zeros((n_lags, m))]), n_lags)


def _squares_of_sums(u: np.ndarray, n_lags: int) -> np.ndarray:
    """V'V / (L + 1) over the rows from the L-th on."""
    if n_lags == 0:
        return u.T @ u
    total = np.cumsum(np.vstack([np.zeros((1, u.shape[1])), u]), axis=0)
    V = total[n_lags + 1 :] - total[: -n_lags - 1]
    return V.T @ V / (n_lags + 1.0)
