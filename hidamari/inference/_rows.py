"""What the compiled engines see of a built-in cost: a kind, and the rows it sums over."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "AXES",
    "COUNTS",
    "ELLIPSE",
    "GRAM",
    "MEAN",
    "NOISE",
    "SPREAD",
    "WAITS",
    "Rows",
    "complete",
    "middle",
    "resolution",
    "spread",
    "table",
    "width",
]

MEAN, SPREAD, COUNTS, WAITS, ELLIPSE, AXES, GRAM, NOISE = range(8)
_FEW = 10_000  # rows that show the resolution of a recording
_SOME = 1_000  # rows that show where its middle is


class Rows(NamedTuple):
    """Rows of a series as the compiled sums read them."""

    kind: int
    shared: bool  # one weight a row: no entry is missing, or rows with one are left out whole
    x: np.ndarray  # (T, p)
    weight: np.ndarray  # (1 or T, 1 or p)
    centre: np.ndarray  # (p,) about which values are summed
    least: np.ndarray  # (p,) smallest variance (or waiting time) that the recording can show
    lone: np.ndarray  # (p,) variance that stands in where a segment saw one entry, which shows none


def table(X: ArrayLike, name: str = "X") -> np.ndarray:
    """X as contiguous float64 rows (T, d), one column if it is a vector."""
    x = np.asarray(X, dtype=np.float64)
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"{name} has shape {np.shape(X)}: allowed are (T,) and (T, d), not empty")
    return np.ascontiguousarray(x)


def complete(kind: int) -> bool:
    """Tell whether the kind leaves out rows with a missing entry whole, for which one weight is enough."""
    return kind in (ELLIPSE, AXES, GRAM, NOISE)


def width(kind: int, shared: bool, p: int) -> int:
    """Count the statistics of a row with p values."""
    weights = 1 if shared else p
    triangle = p * (p + 1) // 2
    return {
        MEAN: weights + p + 1,
        SPREAD: weights + 2 * p,
        COUNTS: weights + p,
        WAITS: weights + p,
        ELLIPSE: 1 + p + triangle,
        AXES: 1 + p + triangle,
        GRAM: 1 + triangle,
        NOISE: 1 + triangle,
    }[kind]


def middle(x: np.ndarray) -> np.ndarray:
    """A value near the middle of each column, from few rows; 0 where nothing was observed."""
    for rows in (x[:: max(1, len(x) // _SOME)], x):
        seen = ~np.isnan(rows)
        count = seen.sum(axis=0)
        if np.all(count > 0):
            break
    # Taken about one entry of the column first, so that a large offset does not round the sum.
    start = rows[seen.argmax(axis=0), np.arange(x.shape[1])]
    start = np.where(count > 0, start, 0.0)
    return start + np.where(seen, rows - start, 0.0).sum(axis=0) / np.maximum(count, 1)


def resolution(x: np.ndarray) -> np.ndarray:
    """Smallest step between distinct values of each column, from at most 10,000 rows; 0 for a constant."""
    rows = x[:: max(1, -(-len(x) // _FEW))]
    found = np.zeros(x.shape[1])
    for j in range(x.shape[1]):
        values = np.unique(rows[~np.isnan(rows[:, j]), j])
        if len(values) > 1:
            gaps = np.diff(values)
            gaps = gaps[gaps > 16 * np.finfo(float).eps * np.abs(values).max()]
            found[j] = gaps.min() if len(gaps) else 0.0
    return found


def spread(x: np.ndarray) -> np.ndarray:
    """Variance of each column, from at most 10,000 rows; 0 where fewer than two entries were observed."""
    rows = x[:: max(1, -(-len(x) // _FEW))]
    seen = ~np.isnan(rows)
    count = np.maximum(seen.sum(axis=0), 1)
    off = np.where(seen, rows - middle(rows), 0.0)
    off = np.where(seen, off - off.sum(axis=0) / count, 0.0)
    return (off**2).sum(axis=0) / count
