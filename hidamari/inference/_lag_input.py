"""What a series, its lags and its predictors may look like, and which rows are complete."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "as_columns",
    "as_lags",
    "as_segments",
    "check_lengths",
    "is_long",
    "observed_mean",
    "shift",
    "usable_rows",
]


def is_long(n: int, spans: list[int], m: int) -> bool:
    """Whether a run of n rows is cheaper by transforms than by products of rows; counts in nanoseconds."""
    transforms = 5e4 + 8.0 * n * len(spans) * (1 + len(spans)) + 4.0 * (sum(spans) + 1) ** 2
    return transforms < n * (20.0 + 3.0 * m + 0.1 * m * m)


def shift(z: np.ndarray, by: int) -> np.ndarray:
    """z_{t-by}, with zeros from outside."""
    if by >= 0:
        return np.concatenate([np.zeros(min(by, len(z))), z[: max(len(z) - by, 0)]])
    return np.concatenate([z[-by:], np.zeros(min(-by, len(z)))])


def usable_rows(series: list[np.ndarray], wanted: list[np.ndarray], columns: np.ndarray) -> np.ndarray:
    """Rows all of whose values are observed, (T,) bool."""
    T = len(columns)
    usable = np.isfinite(columns).all(axis=1) if columns.size else np.ones(T, dtype=bool)
    usable = np.asarray(usable)
    lead = max(-int(w.min(initial=0)) for w in wanted)
    usable[max(T - lead, 0) :] = False
    usable[: max(int(w.max(initial=0)) for w in wanted)] = False
    for z, lags in zip(series, wanted):
        missing = np.isnan(z)
        if not missing.any():
            continue
        total = np.concatenate([[0], np.cumsum(missing)])
        ranges = np.split(np.sort(lags), np.flatnonzero(np.diff(np.sort(lags)) > 1) + 1)
        rows = np.flatnonzero(usable)
        for own in ranges:  # lags without a hole: one difference of cumulative counts
            count = total[rows - own[0] + 1] - total[rows - own[-1]]
            usable[rows[count > 0]] = False
    return usable


def as_lags(name: str, lags: int | Sequence[int], least: int) -> np.ndarray:
    """Lags as an increasing array."""
    if isinstance(lags, (int, np.integer)):
        if lags < 0:
            raise ValueError(f"{name} is {lags}, but a number of lags is at least 0")
        return np.arange(1, int(lags) + 1)
    out = np.asarray(lags)
    if out.ndim != 1 or (out.size and out.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be an int or a sequence of ints, found {lags!r}")
    out = np.sort(out.astype(np.int64))
    if np.any(out < least) or np.any(np.diff(out) == 0):
        raise ValueError(f"{name} must be distinct and at least {least}, found {lags!r}")
    return out


def as_segments(name: str, y: ArrayLike | Sequence[ArrayLike], ndim: int) -> list[np.ndarray]:
    """One array, or a sequence of arrays, as a list of float arrays; what is not observed is NaN."""
    many = isinstance(y, (list, tuple)) and len(y) > 0 and np.ndim(y[0]) == ndim
    parts = [np.asarray(part, dtype=float) for part in y] if many else [np.asarray(y, dtype=float)]  # type: ignore[union-attr]
    for part in parts:
        if part.ndim != ndim:
            raise ValueError(f"{name} has a part of shape {part.shape}, but needs {ndim} dimension(s)")
        if np.isinf(part).any():
            raise ValueError(f"{name} holds infinite values; NaN says that a value was not observed")
    return parts


def as_columns(
    columns: ArrayLike | Sequence[ArrayLike] | None, segments: list[np.ndarray]
) -> list[np.ndarray]:
    """Columns of each segment, (T, k)."""
    if columns is None:
        return [np.empty((len(part), 0)) for part in segments]
    parts = as_segments("columns", columns, 2)
    check_lengths("columns", parts, segments)
    if len({part.shape[1] for part in parts}) > 1:
        raise ValueError(f"columns differs in width: {[part.shape for part in parts]}")
    return parts


def check_lengths(name: str, parts: list[np.ndarray], segments: list[np.ndarray]) -> None:
    """Raise unless every part has as many rows as its segment of y."""
    found, needed = [len(part) for part in parts], [len(part) for part in segments]
    if found != needed:
        raise ValueError(f"{name} has rows {found}, but y has {needed}")


def observed_mean(parts: list[np.ndarray]) -> float:
    """Mean of what was observed, 0 if nothing was."""
    count = sum(int(np.count_nonzero(~np.isnan(part))) for part in parts)
    return float(sum(np.nansum(part) for part in parts)) / count if count else 0.0
