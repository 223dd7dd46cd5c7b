"""Divide and conquer dynamic programming: a coarse grid, refinement of each change, a last programme."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._grids import Priced, Summed, grid_edges, summed
from hidamari.inference._segmentation import Segmentation, asked
from hidamari.inference.costs import Additive, Cost

__all__ = ["divide_and_conquer"]

_ROUNDS = 20  # of refinement; each lowers the objective, two or three are usual
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
    n_rows, minimum = asked(X, cost, penalty, min_length)
    if grid != "auto" and not (isinstance(grid, int | np.integer) and 0 < grid < n_rows):
        raise ValueError(f'grid is {grid!r}: allowed are "auto" and whole numbers from 1 to {n_rows - 1}')
    priced = not isinstance(cost, Additive)
    cache = cost.prepare(X) if priced else None
    p = np.shape(X)[1] if np.ndim(X) == 2 else 1

    def view(n_cells: int) -> View:
        """See the series through that many cells."""
        if isinstance(cost, Additive):
            return summed(X, cost, n_cells, minimum)
        return Priced(cost, cache, grid_edges(n_rows, n_cells), minimum)

    if grid == "auto":
        n_cells, coarse = _cells(n_rows, p, minimum, priced, cost)
    else:
        n_cells = coarse = int(grid) + 1
    seen = view(n_cells)
    chosen = np.unique(np.linspace(0, n_cells, coarse + 1).astype(np.int64))
    changes, n = seen.programme(seen.edges[chosen], float(penalty))
    cell = -(-n_rows // n_cells)
    if not refine:
        found = _close(seen, changes, penalty, n, cell, True)
        _warn(found, n_rows, minimum, "; refine=True would make it finer")
        return found
    reach = -(-n_rows // coarse)
    found = _conquer(seen, changes, float(penalty), reach, grid == "auto", n)
    for _ in range(_GRIDS):
        if not _too_wide(found, n_rows, minimum):
            return found
        if grid != "auto":
            _warn(found, n_rows, minimum, " and is made finer")
            grid = "auto"
        n_cells = min(2 * n_cells, n_rows)
        before = found
        seen = view(n_cells)
        found = _conquer(seen, before.change_points, float(penalty), reach, True, before.n_evaluations)
        if found.objective >= before.objective - 1e-9 * abs(before.objective):
            return found
    return found._replace(converged=False)


def _cells(n_rows: int, p: int, minimum: int, priced: bool, cost: Any) -> tuple[int, int]:
    """Cells of the fine and of the coarse grid, so that their search costs less than a pass over the data.

    The seeded search prices about ten segments a fine cell, the programme Q^2 / 2 in all, at p numbers each,
    or p^3 / 3 where a matrix is factored; the pass adds up T p numbers, or T p^2 / 2.
    """
    most = max(1, n_rows // minimum)
    if priced:
        return min(most, 100), min(most, 100)
    if minimum > p:
        fine = max(n_rows // (8 * p), 20_000 // p**3, 100)
        coarse = int(max(100, min(n_rows, 6 * n_rows / p) ** 0.5))
    else:
        fine = max(min(n_rows // 32, 200_000), 50_000 // p, 100)
        coarse = int(max(100, n_rows**0.5))
    fine = min(fine, most)
    return fine, min(coarse, fine)


def _conquer(
    seen: View, changes: np.ndarray, penalty: float, reach: int, search: bool, n: int
) -> Segmentation:
    """Move, split and unite changes until the objective no longer falls."""
    n_rows, minimum = int(seen.edges[-1]), seen.minimum
    ends = np.array([0, n_rows])
    cell = int(np.diff(seen.edges).max())
    if search:
        widest = 4 * max(1, reach // cell)
        extra = seen.seeds(widest, penalty / 2.0)
        if len(extra):
            changes, more = seen.programme(np.unique(np.concatenate([ends, changes, extra])), penalty)
            n += more
    best = _close(seen, changes, penalty, n, cell, True)
    tried: set[tuple[int, int, int]] = set()
    for _ in range(_ROUNDS):
        changes = best.change_points
        places = np.concatenate([[0], changes, [n_rows]])
        triples = np.stack([places[:-2], places[1:-1], places[2:]], axis=1)
        fresh = np.array([t for t in map(tuple, triples.tolist()) if t not in tried], dtype=np.int64)
        tried.update(map(tuple, fresh.tolist()))
        moved = np.empty(0, dtype=np.int64)
        if len(fresh):
            starts, middles, stops = np.ascontiguousarray(fresh.T)
            first = np.maximum(starts + minimum, middles - reach)
            moved = seen.scan(starts, stops, first, np.minimum(stops - minimum, middles + reach) + 1)
            moved = moved[moved > 0]
        split = seen.splits(places, penalty / 2.0)
        new = np.unique(np.concatenate([ends, changes, moved, split]))
        if len(new) == len(places):
            break
        united, more = seen.programme(new, penalty)
        n += more
        found = _close(seen, united, penalty, n, cell, True)
        if not found.objective < best.objective - 1e-12 * abs(best.objective):
            break
        best = found
    return best._replace(n_evaluations=n)


def _close(
    seen: View, changes: np.ndarray, penalty: float, n: int, cell: int, converged: bool
) -> Segmentation:
    """The segmentation with these changes."""
    places = np.concatenate([[0], changes, [seen.edges[-1]]])
    return Segmentation(changes, seen.total(places), float(penalty), n, cell, converged)


def _shortest(found: Segmentation, n_rows: int) -> int:
    """Rows of the shortest segment."""
    return int(np.diff(np.concatenate([[0], found.change_points, [n_rows]])).min())


def _too_wide(found: Segmentation, n_rows: int, minimum: int) -> bool:
    """Tell whether segments are found that the grid resolves badly, and a finer grid could do better."""
    return found.cell > 1 and 2 * found.cell > _shortest(found, n_rows)


def _warn(found: Segmentation, n_rows: int, minimum: int, then: str) -> None:
    """Warn of a grid whose cells are wider than half the shortest segment."""
    if len(found.change_points) and _too_wide(found, n_rows, minimum):
        warnings.warn(
            f"the grid has cells of {found.cell} rows, more than half of the shortest segment found "
            f"({_shortest(found, n_rows)} rows): changes can hide in it{then}",
            stacklevel=3,
        )
