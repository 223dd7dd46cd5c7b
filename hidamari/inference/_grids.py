"""A series seen through a grid of cells: the questions that the divide-and-conquer search asks of it.

`Summed` answers from the sums of blocks, for built-in costs; `Priced` from the costs themselves, for users'.
Places are row numbers throughout.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hidamari.inference._rows import COUNTS, MEAN, SPREAD, WAITS, Rows, complete, table, width
from hidamari.inference._segmentation import traced
from hidamari.inference.costs import Additive, Cost

__all__ = ["Priced", "Summed", "grid_edges", "programme", "slow_dynamic", "summed"]

_PLACES = 32
_LARGE = 4_000_000  # numbers to read, some milliseconds, for each further thread


def grid_edges(n_rows: int, n_cells: int) -> np.ndarray:
    """First rows of equal cells, and the end: floor(i T / cells)."""
    return np.arange(n_cells + 1) * n_rows // n_cells


@dataclass(frozen=True)
class Summed:
    """Block sums of a series on a grid."""

    rows: Rows
    prefix: np.ndarray  # (cells + 1, m)
    edges: np.ndarray  # (cells + 1,)
    minimum: int

    @property
    def every_row(self) -> bool:
        """Whether `best` tries every row."""
        return len(self.edges) > self.edges[-1]

    def _scratch(self) -> tuple[np.ndarray, np.ndarray]:
        """Room for one set of statistics and one matrix."""
        p = self.rows.x.shape[1]
        return np.empty(self.prefix.shape[1]), np.empty((p, p))

    def before(self, places: np.ndarray) -> np.ndarray:
        """Sums of all rows before each place."""
        from hidamari.inference._segments import prefix_at

        out = np.empty((len(places), self.prefix.shape[1]))
        prefix_at(self.rows, self.prefix, self.edges, places, out)
        return out

    def programme(self, places: np.ndarray, penalty: float) -> tuple[np.ndarray, int]:
        """Best changes among the places, which begin with 0 and end with T."""
        prefix = self.prefix if len(places) == len(self.edges) else self.before(places)
        last, n = programme(self.rows, prefix, places, penalty, self.minimum, True)
        return places[traced(last)], n

    def total(self, places: np.ndarray) -> float:
        """Sum of the costs of the segments between neighbouring places."""
        from hidamari.inference._sums import costs_of

        out = np.empty(len(places) - 1)
        costs_of(self.rows, np.diff(self.before(places), axis=0), out, self._scratch()[1])
        return float(out.sum())

    def scan(self, starts: np.ndarray, ends: np.ndarray, first: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Best change in each window [first, stop) of [starts, ends); -1 where none is allowed."""
        from hidamari.inference._segments import scan

        where = np.empty(len(starts), dtype=np.int64)
        before, after, at_first = self.before(starts), self.before(ends), self.before(first)
        left, work = self._scratch()
        right = np.empty_like(left)
        scan(
            self.rows,
            starts,
            before,
            ends,
            after,
            first,
            at_first,
            stop,
            self.minimum,
            where,
            left,
            right,
            work,
        )
        return where

    def best(self, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gain and grid point of the best split of each interval; -inf and -1 where none is allowed."""
        from hidamari.inference._segments import best_splits

        a = np.searchsorted(self.edges, starts)
        b = np.searchsorted(self.edges, ends, side="right") - 1
        gain, place = np.empty(len(a)), np.empty(len(a), dtype=np.int64)
        best_splits(self.rows, self.prefix, self.edges, a, b, self.minimum, gain, place, *self._scratch())
        return gain, np.where(place < 0, -1, self.edges[place])

    def seeds(self, widest: int, threshold: float) -> np.ndarray:
        """Grid points whose split of a short interval gains more than the threshold."""
        from hidamari.inference._segments import seeds

        found = np.zeros(len(self.edges), dtype=np.bool_)
        # The programme sees to lengths: a short interval shows a change that long segments hide.
        least = {MEAN: 1, COUNTS: 1, WAITS: 1, SPREAD: 2}.get(self.rows.kind, self.minimum)
        seeds(self.rows, self.prefix, self.edges, widest, threshold, least, found, *self._scratch())
        return self.edges[found]


def programme(
    rows: Rows, prefix: np.ndarray, places: np.ndarray, penalty: float, minimum: int, prune: bool
) -> tuple[np.ndarray, int]:
    """Best last change of each place, and the number of segments priced."""
    from hidamari.inference._segments import dynamic

    n, m, p = len(places), prefix.shape[1], rows.x.shape[1]
    best, value = np.empty((2, n))
    last, active, better = np.empty((3, n), dtype=np.int64)
    diff, work = np.empty(m), np.empty((p, p))
    priced = dynamic(
        rows, prefix, places, penalty, minimum, prune, best, last, value, active, better, diff, work
    )
    return last, int(priced)


def summed(X: Any, cost: Additive, n_cells: int, minimum: int) -> Summed:
    """Block sums of X in one pass, which is repeated if it meets a missing entry."""
    from hidamari.inference._sums import accumulate, block_sums

    x = table(X)
    edges = grid_edges(len(x), n_cells)
    for shared in (True, False):
        rows = cost.rows(x, shared)
        prefix = np.empty((n_cells + 1, width(rows.kind, rows.shared, rows.x.shape[1])))
        cells = prefix[1:]  # summed in place
        _on_all_cores(partial(block_sums, rows), edges, cells, x.size)
        if complete(rows.kind) or not np.isnan(cells).any():
            break
    accumulate(cells, prefix)
    return Summed(rows, prefix, edges, minimum)


def _on_all_cores(work: Any, edges: np.ndarray, cells: np.ndarray, size: int) -> None:
    """Fill the cells between edges; each thread its own, where there is enough to read."""
    n = min(os.cpu_count() or 1, len(cells), max(1, size // _LARGE))
    places = grid_edges(len(cells), n)
    with ThreadPoolExecutor(n) if n > 1 else nullcontext() as pool:
        run = pool.map if pool else map
        list(run(lambda a, b: work(edges[a : b + 1], cells[a:b]), places[:-1], places[1:]))


@dataclass(frozen=True)
class Priced:
    """A series whose segments can only be priced one by one."""

    cost: Cost
    cache: Any
    edges: np.ndarray
    minimum: int
    tries: int = _PLACES  # for one split

    @property
    def every_row(self) -> bool:
        """Whether `best` tries every row."""
        return hasattr(self.cost, "splits")

    def programme(self, places: np.ndarray, penalty: float) -> tuple[np.ndarray, int]:
        """Best changes among the places, which begin with 0 and end with T."""
        prune = getattr(self.cost, "falls_when_split", False)
        last, n = slow_dynamic(self.cost, self.cache, places, penalty, self.minimum, prune)
        return places[traced(last)], n

    def total(self, places: np.ndarray) -> float:
        """Sum of the costs of the segments between neighbouring places."""
        return float(np.sum(self.cost.costs(self.cache, places[:-1], places[1:])))

    def _best(self, start: int, end: int, tries: np.ndarray) -> tuple[int, float]:
        """Best try for one change in [start, end), and the cost with it."""
        tries = tries[(tries - start >= self.minimum) & (end - tries >= self.minimum)]
        if not len(tries):
            return -1, np.inf
        splits = getattr(self.cost, "splits", None)
        if splits is not None:
            total = splits(self.cache, start, end)[tries - start - 1]
        else:
            left = self.cost.costs(self.cache, np.full(len(tries), start), tries)
            total = left + self.cost.costs(self.cache, tries, np.full(len(tries), end))
        return int(tries[np.argmin(total)]), float(np.min(total))

    def _tries(self, start: int, end: int) -> np.ndarray:
        """Every row between start and end where that takes one pass, else some of the grid."""
        if hasattr(self.cost, "splits"):
            return np.arange(start + 1, end)
        inside = self.edges[np.searchsorted(self.edges, start, "right") : np.searchsorted(self.edges, end)]
        return inside[:: max(1, len(inside) // self.tries)]

    def scan(self, starts: np.ndarray, ends: np.ndarray, first: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Best change in each window [first, stop) of [starts, ends); -1 where none is allowed."""
        found = [self._best(s, e, np.arange(a, b))[0] for s, e, a, b in zip(starts, ends, first, stop)]
        return np.array(found, dtype=np.int64)

    def best(self, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gain and place of the best split of each interval, of those tried; -inf and -1 without one."""
        whole = self.cost.costs(self.cache, starts, ends)
        found = [self._best(s, e, self._tries(s, e)) for s, e in zip(starts, ends)]
        places, totals = np.array([f[0] for f in found], dtype=np.int64), np.array([f[1] for f in found])
        gains = np.full(len(totals), -np.inf)
        return np.subtract(whole, totals, out=gains, where=totals < np.inf), places

    def seeds(self, widest: int, threshold: float) -> np.ndarray:
        """Places whose split of a short interval gains more than the threshold."""
        found = [np.empty(0, dtype=np.int64)]
        length = 2
        while length <= min(widest, len(self.edges) - 1):
            a = np.arange(0, len(self.edges) - length, length // 2)
            gains, places = self.best(self.edges[a], self.edges[a + length])
            found.append(places[gains > threshold])
            length *= 2
        return np.unique(np.concatenate(found))


def slow_dynamic(
    cost: Cost, cache: Any, rows_at: np.ndarray, penalty: float, minimum: int, prune: bool
) -> tuple[np.ndarray, int]:
    """`_segments.dynamic` for costs of any kind: the same recursion, all last changes of a row at once."""
    n = len(rows_at) - 1
    best = np.full(n + 1, np.inf)
    best[0] = -penalty
    last = np.full(n + 1, -1)
    never = np.iinfo(np.int64).max
    active, expiry = np.empty(0, np.int64), np.empty(0, np.int64)
    entering, evaluations = 0, 0
    for r in range(1, n + 1):
        upto = int(np.searchsorted(rows_at[:r], rows_at[r] - minimum, side="right"))
        fresh = np.arange(entering, upto)
        entering = upto
        fresh = fresh[np.isfinite(best[fresh])]
        active, expiry = np.append(active, fresh), np.append(expiry, np.full(len(fresh), never))
        active, expiry = active[expiry > rows_at[r]], expiry[expiry > rows_at[r]]
        if not len(active):
            continue
        value = best[active] + cost.costs(cache, rows_at[active], np.full(len(active), rows_at[r]))
        evaluations += len(active)
        k = int(np.argmin(value))
        if value[k] < np.inf:
            best[r], last[r] = value[k] + penalty, active[k]
        if prune:
            worse = (value >= best[r]) & np.isfinite(value) & (expiry == never)
            expiry = np.where(worse, rows_at[r] + minimum, expiry)
    return last, evaluations
