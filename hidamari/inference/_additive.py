"""Costs that depend on a segment through sums over its rows, and what they keep of a series."""

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._patterns import Holes
from hidamari.inference._patterns import costs_of as costs_of_holed
from hidamari.inference._rows import Rows, complete, table, width

__all__ = ["Additive", "Holed", "Sums"]


class Sums(NamedTuple):
    """Prefix sums of a series under a built-in cost."""

    rows: Rows
    prefix: np.ndarray  # (T + 1, m)


class Holed(NamedTuple):
    """A series under a built-in cost of many columns at once, where rows miss entries."""

    sums: Sums  # of the complete rows
    holes: Holes


class Additive:
    """Cost that depends on a segment only through sums over its rows.

    `costs` is then a difference of prefix sums, and the fast engines work on the sums of blocks. Missing
    entries (NaN) add nothing to the sums.
    """

    least_rows: ClassVar[int] = 1
    falls_when_split: ClassVar[bool] = True

    def rows(self, x: np.ndarray, shared: bool) -> Rows:
        """Rows as the compiled sums read them; `shared` where no entry is missing."""
        raise NotImplementedError

    def holes(self, x: np.ndarray) -> Holes | None:
        """Rows by their patterns, where the cost with missing entries depends on more than sums."""
        return None

    def prepare(self, X: ArrayLike) -> Any:
        """`Sums` of X (T, d) or (T,), about the middle of each column and compensated, or `Holed`."""
        from hidamari.inference._sums import accumulate, row_sums

        x = table(X)
        rows = self.rows(x, True)
        rows = rows if complete(rows.kind) or not np.isnan(x).any() else self.rows(x, False)
        cells = np.empty((len(x), width(rows.kind, rows.shared, rows.x.shape[1])))
        row_sums(rows, 0, len(x), cells)
        prefix = np.empty((len(x) + 1, cells.shape[1]))
        accumulate(cells, prefix)
        sums, holes = Sums(rows, prefix), self.holes(x)
        return sums if holes is None else Holed(sums, holes)

    def costs(self, cache: Sums | Holed, starts: ArrayLike, ends: ArrayLike) -> np.ndarray:
        """Costs of the segments [starts, ends), which broadcast against each other."""
        from hidamari.inference._sums import pair_costs

        a, b = np.broadcast_arrays(np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64))
        first, last, out = a.ravel(), b.ravel(), np.empty(a.size)
        sums = cache.sums if isinstance(cache, Holed) else cache
        p, m = sums.rows.x.shape[1], sums.prefix.shape[1]
        pair_costs(sums.rows, sums.prefix, first, last, out, np.empty(m), np.empty((p, p)))
        if isinstance(cache, Holed):
            some = cache.holes.holed[last] > cache.holes.holed[first]
            out[some] = costs_of_holed(cache.holes, first[some], last[some])[0]
        return out.reshape(a.shape)

    def cost(self, cache: Sums | Holed, start: int, end: int) -> float:
        """Cost of the segment [start, end)."""
        return float(self.costs(cache, start, end))

    def of(self, cache: Sums, sums: ArrayLike) -> np.ndarray:
        """Costs of sets of rows whose statistics (..., m) are sums of differences of ``cache.prefix``."""
        from hidamari.inference._sums import costs_of

        flat = np.ascontiguousarray(sums, dtype=np.float64)
        out = np.empty(flat.shape[:-1])
        p = cache.rows.x.shape[1]
        costs_of(cache.rows, flat.reshape(-1, flat.shape[-1]), out.reshape(-1), np.empty((p, p)))
        return out

    def min_length(self, d: int) -> int:
        """Fewest rows of a segment of d columns."""
        return self.least_rows

    def n_parameters(self, d: int) -> int:
        """Count the free parameters of a segment of d columns."""
        return d
