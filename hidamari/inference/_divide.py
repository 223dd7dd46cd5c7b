"""Divide and conquer dynamic programming: a coarse grid, refinement of each change, a last programme."""

import warnings
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._grids import Priced, Summed, grid_edges, summed
from hidamari.inference._segmentation import Segmentation, asked
from hidamari.inference.costs import Additive, Cost

__all__ = ["divide_and_conquer", "divider"]

_ROUNDS = 20  # of refinement; each lowers the objective, two or three are usual
_SHORT = 4_000_000  # T^2 d from which on an exact search takes longer than some milliseconds
_GRIDS = 12  # doublings of a grid that is too wide

View = Summed | Priced


def divide_and_conquer(
    X: ArrayLike,
    cost: Cost,
    penalty: float,
    grid: int | str = "auto",
    min_length: int | None = None,
    refine: bool = True,
) -> Segmentation:
    """Change points by dynamic programming on a grid, then refined to single rows: one pass over the data.

    1. Divide: optimal changes among the Q grid points s_i = floor(i T / (Q + 1)), from the sums of the cells.
    2. Conquer: each change is moved to the best row within a cell of it, between its neighbours.
    3. Unite: a dynamic programme over all candidates, those of both steps and the best split of each segment,
       with the same penalty. Steps 2 and 3 repeat until the objective no longer falls; it never rises.

    Segments shorter than a cell can hide. With ``grid="auto"`` a finer grid of the same pass is searched for
    them by seeded intervals, and where segments of less than two of its cells are found, the grid is made
    finer until number and cost settle.

    Parameters
    ----------
    X, cost, penalty, min_length
        As in `optimal_partitioning`. Built-in costs are summed in blocks; others are priced one by one.
    grid : "auto" or int
        Number Q of grid points. A number is kept unless segments of less than two cells appear: then a
        warning is given and the grid is doubled.
    refine : bool
        False stops after the first step.

    Returns
    -------
    Segmentation

    Raises
    ------
    ValueError
        If an argument is not allowed.

    Warns
    -----
    UserWarning
        If the cells of a given grid are wider than half the shortest segment found.

    References
    ----------
    Li, Wang and Rinaldo, Divide and conquer dynamic programming, ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.costs import Mean
    >>> x = np.random.default_rng(0).normal(size=100_000) + (np.arange(100_000) >= 34_567)
    >>> divide_and_conquer(x, Mean(), penalty=2 * np.log(len(x))).change_points.tolist()
    [34566]
    """
    return divider(X, cost, grid, min_length, refine)(penalty)


def divider(
    X: ArrayLike, cost: Cost, grid: int | str = "auto", min_length: int | None = None, refine: bool = True
) -> Callable[[float], Segmentation]:
    """The search as a function of the penalty, which reads the data once for all penalties."""
    n_rows, minimum = asked(X, cost, 0.0, min_length)
    if grid != "auto" and not (isinstance(grid, int | np.integer) and 0 < grid < n_rows):
        raise ValueError(f'grid is {grid!r}: allowed are "auto" and whole numbers from 1 to {n_rows - 1}')
    additive = isinstance(cost, Additive)
    cache = None if additive else cost.prepare(X)
    p = np.shape(X)[1] if np.ndim(X) == 2 else 1
    automatic = grid == "auto"
    n_cells, coarse = _cells(n_rows, p, minimum, additive) if automatic else (int(grid) + 1, int(grid) + 1)
    reach = -(-n_rows // coarse)

    @lru_cache(maxsize=3)
    def view(n_cells: int) -> View:
        """See the series through that many cells."""
        if isinstance(cost, Additive):
            return summed(X, cost, n_cells, minimum)
        return Priced(cost, cache, grid_edges(n_rows, n_cells), minimum)

    def search(penalty: float) -> Segmentation:
        """Divide, conquer, and make the grid finer while segments are short for it."""
        asked(X, cost, penalty, min_length)
        seen = view(n_cells)
        chosen = np.unique(np.linspace(0, n_cells, coarse + 1).astype(np.int64))
        changes, n = seen.programme(seen.edges[chosen], float(penalty))
        if not refine:
            found = _close(seen, changes, penalty, n)
            _warn(found, n_rows, "; refine=True would make it finer")
            return found
        found = _conquer(seen, changes, float(penalty), reach, automatic, n)
        for doubling in range(1, _GRIDS + 1):
            if not _too_wide(found, n_rows):
                return found
            if doubling == 1 and not automatic:
                _warn(found, n_rows, " and is made finer")
            seen = view(min(n_cells << doubling, n_rows))
            before = found
            found = _conquer(seen, before.change_points, float(penalty), reach, True, before.n_evaluations)
            if found.objective >= before.objective - 1e-9 * abs(before.objective):
                return found
        return found._replace(converged=not _too_wide(found, n_rows))

    return search


def _cells(n_rows: int, p: int, minimum: int, additive: bool) -> tuple[int, int]:
    """Cells of the fine and of the coarse grid, so that their search costs less than a pass over the data.

    The seeded search prices about ten segments a fine cell, the programme Q^2 / 2 in all, at p numbers each,
    or p^3 / 3 where a matrix is factored; the pass adds up T p numbers, or T p^2 / 2.
    """
    most = max(1, n_rows // minimum)
    if not additive:
        return min(most, 100), min(most, 100)
    if minimum > p:
        fine = max(n_rows // (8 * p), 20_000 // p**3, 100)
        coarse = int(max(100, min(n_rows, 6 * n_rows / p) ** 0.5))
    else:
        fine = max(min(n_rows // 32, 200_000), 50_000 // p, 100)
        coarse = int(max(100, n_rows**0.5))
    fine = min(fine, most)
    if n_rows**2 * p <= _SHORT and minimum <= p:
        return most, most
    return fine, min(coarse, fine)


def _conquer(
    seen: View, changes: np.ndarray, penalty: float, reach: int, search: bool, n: int
) -> Segmentation:
    """Move, split and unite changes until the objective no longer falls."""
    n_rows, minimum = int(seen.edges[-1]), seen.minimum
    ends = np.array([0, n_rows])
    if search:
        extra = seen.seeds(4 * max(1, reach * (len(seen.edges) - 1) // n_rows), penalty / 2.0)
        if len(extra):
            changes, more = seen.programme(np.unique(np.concatenate([ends, changes, extra])), penalty)
            n += more
    best = _close(seen, changes, penalty, n)
    tried: set[tuple[int, int, int]] = set()
    for _ in range(_ROUNDS):
        changes = best.change_points
        places = np.concatenate([[0], changes, [n_rows]])
        # The best place may lie far from where a change is now, behind worse ones: look at the whole stretch
        # between its neighbours through the grid, and around the best of it.
        gains, far = seen.best(places[:-2], places[2:])
        here = np.stack([places[:-2], changes, places[2:]], axis=1)
        there = np.stack([places[:-2], far, places[2:]], axis=1)[gains > 0.0]
        triples = np.concatenate([here, there])
        fresh = np.array([t for t in map(tuple, triples.tolist()) if t not in tried], dtype=np.int64)
        tried.update(map(tuple, fresh.tolist()))
        moved = np.empty(0, dtype=np.int64)
        if len(fresh):
            starts, middles, stops = np.ascontiguousarray(fresh.T)
            first = np.maximum(starts + minimum, middles - reach)
            moved = seen.scan(starts, stops, first, np.minimum(stops - minimum, middles + reach) + 1)
            moved = moved[moved > 0]
        gains, split = seen.best(places[:-1], places[1:])
        new = np.unique(np.concatenate([ends, changes, moved, split[gains > penalty / 2.0]]))
        if len(new) == len(places):
            break
        united, more = seen.programme(new, penalty)
        n += more
        found = _close(seen, united, penalty, n)
        if not found.objective < best.objective - 1e-12 * abs(best.objective):
            break
        best = found
    return best._replace(n_evaluations=n)


def _close(seen: View, changes: np.ndarray, penalty: float, n: int) -> Segmentation:
    """The segmentation with these changes."""
    places = np.concatenate([[0], changes, [seen.edges[-1]]])
    cell = int(np.diff(seen.edges).max())
    return Segmentation(changes, seen.total(places), float(penalty), n, cell, True)


def _shortest(found: Segmentation, n_rows: int) -> int:
    """Rows of the shortest segment."""
    return int(np.diff(np.concatenate([[0], found.change_points, [n_rows]])).min())


def _too_wide(found: Segmentation, n_rows: int) -> bool:
    """Tell whether segments were found that the grid resolves badly."""
    return found.cell > 1 and len(found.change_points) > 0 and 2 * found.cell > _shortest(found, n_rows)


def _warn(found: Segmentation, n_rows: int, then: str) -> None:
    """Warn of a grid whose cells are wider than half the shortest segment."""
    if _too_wide(found, n_rows):
        warnings.warn(
            f"the grid has cells of {found.cell} rows, more than half of the shortest segment found "
            f"({_shortest(found, n_rows)} rows): changes can hide in it{then}",
            stacklevel=4,
        )
