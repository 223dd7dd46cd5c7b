"""What a change point must earn: the default penalty, and the noise that it is measured in."""

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._divide import divider
from hidamari.inference._rows import resolution, table
from hidamari.inference.costs import Mean

__all__ = ["Noise", "clip_outliers", "default_penalty", "estimate_noise"]

_LEVELS = 24  # noise levels that are tried
_PREFERENCE = 2.0  # of noise with memory to changes
_DEEPEST = 4.0  # times below the innovations' variance, levels are tried no more
_HALF_WINDOW = 5  # rows on either side of an outlier
_SAMPLE = 4_096  # rows that show nearly where a median is


class Noise(NamedTuple):
    """Noise about the segments' means, as an autoregression that all units share the order of."""

    variance: np.ndarray  # (d,) long-run variance: the sum of all autocovariances
    marginal: np.ndarray  # (d,) variance of a row
    order: int  # of the autoregression
    change_points: np.ndarray  # (K,) of the segmentation that it is the noise of

    @property
    def rows_for_one(self) -> float:
        """How many rows tell as much as one independent row would, on average over units; at least 1."""
        moving = self.marginal > 0
        ratio = self.variance[moving] / self.marginal[moving]
        return max(1.0, float(ratio.mean())) if moving.any() else 1.0


def default_penalty(n_rows: int, n_parameters: int) -> float:
    r"""Price of one change point in units of twice the log likelihood.

    beta = p + 2 sqrt(p log T) + 2 log T, for p parameters a segment and T rows. Without a change the gain by
    splitting at a given row is chi-squared with p degrees of freedom, and exceeds beta with a probability of
    1 / T at most.

    Parameters
    ----------
    n_rows, n_parameters : int
        T and p.

    Returns
    -------
    float

    References
    ----------
    Laurent and Massart, Adaptive estimation of a quadratic functional by model selection, 2000, lemma 1.

    Examples
    --------
    >>> round(default_penalty(1000, 1), 1), round(default_penalty(1000, 20), 1)
    (20.1, 57.3)
    """
    x = np.log(n_rows)
    return float(n_parameters + 2.0 * np.sqrt(n_parameters * x) + 2.0 * x)


def clip_outliers(X: ArrayLike, bound: float = 3.0) -> np.ndarray:
    """Pull rows that stand out from their neighbours back to ``bound`` standard deviations from them.

    Each entry is compared with the median of the 11 rows around it; the standard deviation is 1.4826 times
    the median of the absolute differences of a column. Runs of up to five rows can be outliers, longer ones
    are segments and are kept.

    Parameters
    ----------
    X : array_like, shape (T, d) or (T,)
        Series; NaN where not observed.
    bound : float
        In standard deviations.

    Returns
    -------
    ndarray, shape (T, d)

    References
    ----------
    Hampel, The influence curve and its role in robust estimation, 1974.

    Examples
    --------
    >>> clip_outliers([0.0, 1.0, 2.0, 99.0, 2.0, 0.0, 1.0]).ravel().round(2).tolist()
    [0.0, 1.0, 2.0, 5.45, 2.0, 0.0, 1.0]
    """
    from hidamari.inference._medians import clip, running_medians

    x = table(X)
    n, d = x.shape
    filled = _filled(x)
    if np.isnan(filled[0]).any():
        filled = np.where(np.isnan(filled), 0.0, filled)  # columns of which nothing was observed
    padded = np.concatenate([filled[:1].repeat(_HALF_WINDOW, 0), filled, filled[-1:].repeat(_HALF_WINDOW, 0)])
    around = np.empty((n, d))
    running_medians(padded.reshape(-1), d, around.reshape(-1))
    width = 1.4826 * _median_sizes(x, around)
    # Where most rows equal their neighbours the median tells nothing about the others.
    width[width == 0.0] = np.inf
    clip(x, around, bound * width)
    return around


def _median_sizes(x: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Median of |x - around| of each column, without its missing entries; 0 for none."""
    from hidamari.inference._medians import bracket

    n, d = x.shape
    found, left = np.zeros(d), np.arange(d)
    if n > 16 * _SAMPLE:
        # Few rows show nearly where the middle is: all are counted, and only those near it are put in order.
        step = n // _SAMPLE
        some = np.sort(np.abs(x[::step] - around[::step]), axis=0)
        seen = (~np.isnan(some)).sum(axis=0)
        off = 2.5 * np.sqrt(seen)  # five standard errors of the middle's rank
        columns = np.arange(d)
        low = some[np.maximum(seen / 2 - off, 0).astype(int), columns]
        high = some[np.minimum(seen / 2 + off, np.maximum(seen - 1, 0)).astype(int), columns]
        counts, held = np.empty((3, d), np.int64), np.empty((d, n // 8))
        bracket(x, around, low, high, counts, held)
        below, inside, total = counts
        first, second = (total - 1) // 2 - below, total // 2 - below
        sure = (first >= 0) & (second < inside) & (inside < held.shape[1])
        for j in np.flatnonzero(sure):
            part = np.partition(held[j, : inside[j]], [first[j], second[j]])
            found[j] = 0.5 * (part[first[j]] + part[second[j]])
        left = np.flatnonzero(~sure)
    for j in left:
        size = np.abs(x[:, j] - around[:, j])
        size = size[~np.isnan(size)]
        found[j] = np.median(size) if len(size) else 0.0
    return found


def estimate_noise(X: ArrayLike, min_length: int = 5, max_order: int = 2) -> Noise:
    r"""Long-run variance of the noise of a series whose mean may change.

    Slow noise and a changing mean look alike. Segmentations s for a range of assumed noise levels are
    compared by the likelihood of a piecewise constant mean with autoregressive noise of order q,

        T sum_j log v_j(s, q) + q d log T + 2 beta K(s),

    v_j the innovation variance of unit j, K the number of changes, beta the default penalty. A factor above 1
    prefers noise with memory where changes explain a series hardly better. It was chosen on series that
    people marked: less finds more changes than they do where a series drifts, more misses frequent ones.
    The best one's noise has long-run variance v_j / (1 - a_1 - ... - a_q)^2, corrected for the number of
    fitted parameters, and at least r^2 / T with r the step of the recording.

    Parameters
    ----------
    X : array_like, shape (T, d) or (T,)
        Series; NaN where not observed.
    min_length : int
        Fewest rows of a segment, at most a quarter of all. Outliers and rare events that may be segments of
        their own leave no noise.
    max_order : int
        Largest order q; 0 takes rows as independent.

    Returns
    -------
    Noise
        Variance 0 for units that never vary.

    References
    ----------
    Cho and Fryzlewicz, Multiple change point detection under serial dependence: wild contrast maximisation
    and gappy Schwarz algorithm, 2024.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = estimate_noise(2.0 * rng.normal(size=1000) + 5.0 * (np.arange(1000) > 500))
    >>> noise.variance.round(1), noise.change_points
    (array([3.8]), array([500]))
    """
    from hidamari.inference._noise import moments, residual_covariances

    x = table(X)
    n, d = x.shape
    mean, variance, count = np.empty(d), np.empty(d), np.empty(d, np.int64)
    moments(x, mean, variance, count, np.empty((2, d)))
    moving = variance > 0.0
    if not moving.any():
        none = np.zeros(d)
        return Noise(none, none.copy(), 0, np.empty(0, np.int64))
    scale = np.sqrt(variance[moving])
    z = x - mean if moving.all() else x[:, moving] - mean[moving]
    z /= scale
    # Noise that n rows do not show may still be as large as one row off by one step of the recording.
    least = (resolution(x[:, moving]) / scale) ** 2 / n
    beta = default_penalty(n, z.shape[1])
    columns, complete = np.ascontiguousarray(z.T), count[moving] == n
    search = divider(z, Mean(), min_length=max(1, min(min_length, n // 4)))
    lags = min(max_order, (n - 1) // 4)
    orders = np.arange(lags + 1)
    judged: dict[bytes, tuple[float, float, Noise]] = {}

    def judge(changes: np.ndarray) -> tuple[float, float, Noise]:
        """Price of a segmentation, mean innovation variance, and the noise that it leaves."""
        key = changes.tobytes()
        if key not in judged:
            covariances = np.empty((lags + 1, z.shape[1]))
            residual_covariances(columns, np.concatenate([[0], changes, [n]]), complete, covariances)
            innovation, memory = _autoregressions(np.maximum(covariances, 0.0) if lags == 0 else covariances)
            innovation = np.maximum(innovation, np.maximum(least, np.finfo(float).tiny))
            fit = n * np.log(innovation).sum(axis=1) + z.shape[1] * orders * np.log(n)
            q = int(fit.argmin())
            spare = n / max(n - len(changes) - 1 - q, 1)
            long_run = np.maximum(innovation[q] * spare / (1.0 - memory[q]) ** 2, least)
            noise = Noise(long_run, np.maximum(covariances[0], least), q, changes)
            value = float(fit[q]) + _PREFERENCE * beta * len(changes)
            judged[key] = value, float(innovation[q].mean()), noise
        return judged[key]

    def near(changes: np.ndarray, level: float, best: tuple[float, float, Noise] | None) -> bool:
        """Whether changes of a coarse grid may come near the best: refining them pays for few of them."""
        if best is None or level > best[1] or not len(changes):
            return True
        most = 0.5 * _PREFERENCE * beta * len(changes)
        return 6 * len(changes) <= n and judge(changes)[0] - best[0] <= most

    best: tuple[float, float, Noise] | None = None
    # From one change that all rows pay for to changes that a ten-thousandth of the variance pays for.
    for level in np.geomspace(max(n / 8.0, 1.0), 1e-4, _LEVELS):
        found = search(beta * level, partial(near, level=level, best=best))
        changes = found.change_points
        if 6 * len(changes) > n or (found.cell > 1 and not near(changes, level, best)):
            break
        new = judge(changes)
        if best is None or new[0] < best[0]:
            best = new
        if level < new[1] / _DEEPEST:
            break  # changes that gain less than the noise of single rows are noise
    assert best is not None  # the first level is always tried
    noise = best[2]
    full, own = np.zeros(d), np.zeros(d)
    full[moving], own[moving] = noise.variance * scale**2, noise.marginal * scale**2
    return noise._replace(variance=full, marginal=own)


def _autoregressions(covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Innovation variance and sum of the coefficients of every order, (order, d) each, by Levinson-Durbin."""
    lags = len(covariances) - 1
    variances, sums = [covariances[0]], [np.zeros(covariances.shape[1])]
    a = np.zeros((lags + 1, covariances.shape[1]))
    for q in range(1, lags + 1):
        left = covariances[q] - (a[1:q] * covariances[q - 1 : 0 : -1]).sum(axis=0)
        last = np.divide(left, variances[-1], out=np.zeros_like(left), where=variances[-1] > 0.0)
        # Missing entries can make a sequence that no stationary process has.
        last = np.clip(last, -0.999, 0.999)
        a[1:q] -= last * a[q - 1 : 0 : -1].copy()
        a[q] = last
        variances.append(variances[-1] * (1.0 - last**2))
        sums.append(a[1 : q + 1].sum(axis=0))
    return np.array(variances), np.array(sums)


def _filled(x: np.ndarray) -> np.ndarray:
    """Missing entries on a straight line between their neighbours."""
    if not np.isnan(x).any():
        return x
    filled = x.copy()
    rows = np.arange(len(x))
    for column in filled.T:
        seen = ~np.isnan(column)
        if seen.any():
            column[~seen] = np.interp(rows[~seen], rows[seen], column[seen])
    return filled
