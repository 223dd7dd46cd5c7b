"""Functional pruning, from a cost and its prepared series to change points."""

from typing import Any

import numpy as np

from hidamari.inference._rows import COUNTS, MEAN, WAITS, Rows
from hidamari.inference.costs import Biweight, Cost, Sums

__all__ = ["functional"]

_ROOM = 256  # pieces; tens are usual


def functional(cost: Cost, cache: Any, penalty: float) -> np.ndarray:
    """Change points of one column by the exact search over its parameter."""
    if isinstance(cost, Biweight):
        x = cache[:, 0]
        return _mean(x - np.nanmedian(x) if not np.isnan(x).all() else x, penalty, float(cost.bound))
    if isinstance(cache, Sums) and cache.rows.kind == MEAN:
        return _mean(cache.rows.x[:, 0] - cache.rows.centre[0], penalty, np.inf)
    if isinstance(cache, Sums) and cache.rows.kind in (COUNTS, WAITS):
        return _waits(cache.rows, penalty)
    raise ValueError(
        f"cost is {cost!r}: fpop takes Mean, Biweight, Counts, Exponential and Variance, of one parameter"
    )


def _mean(x: np.ndarray, penalty: float, bound: float) -> np.ndarray:
    """Changes of level."""
    from hidamari.inference._fpop import mean_path

    seen = x[~np.isnan(x)]
    if not len(seen) or seen.min() == seen.max():
        return np.empty(0, dtype=np.int64)
    last = np.empty(len(x), dtype=np.int64)
    room = _ROOM
    while not mean_path(x, penalty, bound, np.empty((8, room + 1)), np.empty((2, room), np.int64), last):
        room *= 4
    return _begins(last)


def _waits(rows: Rows, penalty: float) -> np.ndarray:
    """Changes of rate: 2 (amount theta - weight log theta) is the cost of a row."""
    from hidamari.inference._fpop import waits_path

    x = rows.x[:, 0] - rows.centre[0]
    weights = np.broadcast_to(rows.weight[:, 0], x.shape)
    weight, amount = (x, weights) if rows.kind == COUNTS else (weights, x)
    weight = np.where(np.isnan(x), np.nan, weight)
    seen = ~np.isnan(x)
    if not np.any(amount[seen] > 0.0):
        return np.empty(0, dtype=np.int64)
    # The best rate of any segment lies between those of its rows; waiting times end at their resolution.
    floor = rows.least[0] * weight[seen] if rows.kind == WAITS else 0.0
    least = np.maximum(amount[seen], floor)
    with np.errstate(divide="ignore"):
        rates = weight[seen] / least
    low, high = float(rates.min()), float(rates.max())
    if not low < high < np.inf:
        return np.empty(0, dtype=np.int64)
    # In units of a typical rate log theta is small, so that amount theta - weight log theta keeps its digits.
    unit = float(weight[seen].sum() / amount[seen].sum())
    last = np.empty(len(x), dtype=np.int64)
    room = _ROOM
    while not waits_path(
        weight,
        np.ascontiguousarray(amount) * unit,
        low / unit,
        high / unit,
        penalty / 2.0,
        np.empty((10, room + 1)),
        np.empty((2, room), np.int64),
        last,
    ):
        room *= 4
    return _begins(last)


def _begins(last: np.ndarray) -> np.ndarray:
    """First rows of all segments but the first, from the first row of the segment that ends with each row."""
    found = []
    at = last[-1]
    while at > 0:
        found.append(at)
        at = last[at - 1]
    return np.array(found[::-1], dtype=np.int64)
