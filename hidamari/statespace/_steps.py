"""From the times of the rows to the distinct gaps between them."""

from numbers import Real
from typing import Any

import numpy as np

__all__ = ["steps"]

_ULPS = 8.0  # offset + arange(n) * dt rounds each time by up to 1.5 units, so gaps spread by up to 6


def steps(times: Any) -> tuple[np.ndarray, np.ndarray]:
    """Find the distinct gaps of a time axis, or of the time axes of several trials laid end to end.

    Gaps that are equal within the rounding of the times are one gap, so every regular grid has one. Repeated
    times have the gap 0.

    Parameters
    ----------
    times : array_like, shape (T,), or list of array_like, shapes (T_r,)
        Sorted times in seconds, of one trial or of each trial.

    Returns
    -------
    gaps : ndarray, shape (S,)
        Distinct gaps in rising order, in seconds; one 0 when no trial has two rows.
    step : ndarray of int64, shape (T,)
        Row t lies ``gaps[step[t]]`` after row t - 1; -1 at the first row of each trial.

    Raises
    ------
    ValueError
        If a trial is empty or its times are not one sorted array of finite real numbers.

    Examples
    --------
    >>> gaps, step = steps(1e4 + 0.1 * np.arange(1000))
    >>> gaps.round(6).tolist()
    [0.1]
    >>> gaps, step = steps([[0.0, 1.0, 3.0], [5.0, 6.0]])
    >>> gaps.tolist(), step.tolist()
    ([1.0, 2.0], [-1, 0, 1, -1, 0])
    """
    if isinstance(times, (list, tuple)) and len(times) and not isinstance(times[0], Real):
        parts = [_differences(part, f"times[{r}]") for r, part in enumerate(times)]
    else:
        parts = [_differences(times, "times")]
    gap = np.concatenate([part[0] for part in parts])
    gaps, label = _merge(gap, np.concatenate([part[1] for part in parts]))
    step = np.full(len(gap) + len(parts), -1, dtype=np.int64)
    inside = np.ones(len(step), dtype=bool)
    inside[np.cumsum([0] + [len(part[0]) + 1 for part in parts[:-1]])] = False
    step[inside] = label
    return gaps, step


def _differences(times: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the gaps of one trial and the rounding that each may carry, both (T - 1,)."""
    if np.ma.is_masked(times):
        raise ValueError(f"{name} must not have masked entries: leave the row in and mask its data")
    try:
        times = np.asarray(times)
    except ValueError:
        raise ValueError(f"{name} must have shape (T,), got rows of unequal length") from None
    if times.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be real numbers (seconds), got dtype {times.dtype}")
    if times.ndim != 1 or times.size == 0:
        raise ValueError(f"{name} must have shape (T,) with T >= 1, got {times.shape}")
    if times.dtype.kind == "f":
        unit = max(np.finfo(times.dtype).eps, np.finfo(np.float64).eps)
        times = times.astype(np.float64)
        finite = np.isfinite(times)
        if not finite.all():
            first = int(np.argmin(finite))
            raise ValueError(f"{name} must be finite, got {times[first]} at index {first}")
    else:
        unit = 0.0  # whole numbers subtract exactly, nanoseconds since 1970 included
        times = times.astype(np.int64)
    falls = times[1:] < times[:-1]
    if falls.any():
        first = int(np.argmax(falls)) + 1
        raise ValueError(
            f"{name} must be sorted, got {times[first]} after {times[first - 1]} at index {first}: sort the "
            "times, and the rows of the data with them"
        )
    gap = np.diff(times).astype(np.float64)
    return gap, _ULPS * unit * np.maximum(np.abs(times[1:]), np.abs(times[:-1])).astype(np.float64)


def _merge(gap: np.ndarray, rounding: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct gaps, and the label of each gap among them."""
    if gap.size == 0:
        return np.zeros(1), np.zeros(0, dtype=np.int64)
    order = np.argsort(gap, kind="stable")
    gap, rounding = gap[order], rounding[order]
    wider = np.maximum(rounding[1:], rounding[:-1])
    new = np.concatenate([[True], (gap[1:] - gap[:-1] > wider) | ((gap[:-1] == 0.0) & (gap[1:] > 0.0))])
    chain = np.cumsum(new) - 1
    # Neighbours within rounding can chain over a wide range when irregular times are at the limit of their
    # resolution: cut such a chain into pieces as wide as its rounding.
    start = np.flatnonzero(new)
    widest = np.maximum.reduceat(rounding, start)[chain]
    piece = np.floor_divide(gap - gap[start][chain], widest, out=np.zeros_like(gap), where=widest > 0.0)
    new[1:] |= piece[1:] != piece[:-1]
    label = np.cumsum(new) - 1
    # The gaps of one group differ by rounding alone: the mean of its most exact members stands for all.
    start = np.flatnonzero(new)
    exact = rounding <= 2.0 * np.minimum.reduceat(rounding, start)[label]
    beyond = np.where(exact, gap - gap[start][label], 0.0)  # sums of small numbers: no rounding of their own
    mean = gap[start] + np.add.reduceat(beyond, start) / np.add.reduceat(exact.astype(float), start)
    labels = np.empty(len(gap), dtype=np.int64)
    labels[order] = label
    return mean, labels
