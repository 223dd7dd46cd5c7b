"""Divide and conquer dynamic programming: a coarse grid, refinement of each change, a last programme."""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._grids import Priced, Summed, grid_edges, summed
from hidamari.inference._rows import table
from hidamari.inference._segmentation import Segmentation, asked
from hidamari.inference.costs import Additive, Cost, Covariance, Regression

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

    Built-in costs are searched row by row, which is exact, where T^2 d is at most four million (T^2 d^3 for
    costs with matrices), and where the segments found are so short that all rows take no longer than that.

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
) -> Callable[..., Segmentation]:
    """The search as a function of the penalty, which reads the data once for all penalties.

    It takes a second argument, a function of the changes that a coarse grid and short intervals show: where
    that is False they are returned as they are, without refinement.
    """
    n_rows, minimum = asked(X, cost, 0.0, min_length)
    if grid != "auto" and not (isinstance(grid, int | np.integer) and 0 < grid < n_rows):
        raise ValueError(f'grid is {grid!r}: allowed are "auto" and whole numbers from 1 to {n_rows - 1}')
    # Where rows miss entries some costs are no longer functions of sums.
    additive = isinstance(cost, Additive) and cost.holes(table(X)) is None
    cache = None if additive else cost.prepare(X)
    p = np.shape(X)[1] if np.ndim(X) == 2 else 1
    automatic = grid == "auto"
    n_cells, coarse = (
        _cells(n_rows, p, minimum, cost, additive) if automatic else (int(grid) + 1, int(grid) + 1)
    )
    reach = -(-n_rows // coarse)

    @lru_cache(maxsize=3)
    def view(n_cells: int) -> View:
        """See the series through that many cells."""
        if additive:
            return summed(X, cast(Additive, cost), n_cells, minimum)
        return Priced(cost, cache, grid_edges(n_rows, n_cells), minimum)

    def search(penalty: float, worth: Callable[[np.ndarray], bool] | None = None) -> Segmentation:
        """Divide, conquer, and make the grid finer while segments are short for it."""
        asked(X, cost, penalty, min_length)
        seen = view(n_cells)
        chosen = np.unique(np.linspace(0, n_cells, coarse + 1).astype(np.int64))
        changes, n = seen.programme(seen.edges[chosen], float(penalty))
        if not refine:
            found = _close(seen, changes, penalty, n)
            _warn(found, n_rows, "; refine=True would make it finer")
            return found
        if automatic:
            changes, n = _hidden(seen, changes, float(penalty), reach, n)
        if worth is not None and n_cells < n_rows and not worth(changes):
            return _close(seen, changes, penalty, n)
        found = _conquer(seen, changes, float(penalty), reach, n)
        # Of each row the exact programme looks back over some three segments: cheap where they are short.
        back = 3 * n_rows // (len(found.change_points) + 1)
        if automatic and isinstance(seen, Summed) and n_rows * back * p <= _SHORT:
            seen = view(n_rows)
            changes, n = seen.programme(seen.edges, float(penalty))
            return _close(seen, changes, penalty, found.n_evaluations + n)
        for doubling in range(1, _GRIDS + 1):
            if not _too_wide(found, n_rows):
                return found
            if doubling == 1 and not automatic:
                _warn(found, n_rows, " and is made finer")
            seen = view(min(n_cells << doubling, n_rows))
            before = found
            changes, n = _hidden(seen, before.change_points, float(penalty), reach, before.n_evaluations)
            found = _conquer(seen, changes, float(penalty), reach, n)
            if found.objective >= before.objective - 1e-9 * abs(before.objective):
                return found
        return found._replace(converged=not _too_wide(found, n_rows))

    return search


def _cells(n_rows: int, p: int, minimum: int, cost: Cost, additive: bool) -> tuple[int, int]:
    """Cells of the fine and of the coarse grid, so that their search costs less than a pass over the data.

    The seeded search prices about ten segments a fine cell, the programme Q^2 / 2 in all, at p numbers each,
    or p^3 / 3 where a matrix is factored; the pass adds up T p numbers, or T p^2 / 2. Short series are
    searched row by row, which is exact.
    """
    if not additive:
        return min(n_rows, 100), min(n_rows, 100)
    matrix = isinstance(cost, Covariance | Regression)
    if n_rows**2 * (p**3 if matrix else p) <= _SHORT:
        return n_rows, n_rows
    if matrix:
        fine = max(n_rows // (8 * p), 20_000 // p**3, 100)
        coarse = int(max(100, min(n_rows, 6 * n_rows / p) ** 0.5))
    else:
        fine = max(min(n_rows // max(32, p // 8), 200_000), 50_000 // p, 100)
        coarse = int(max(100, n_rows**0.5))
    if minimum * coarse > n_rows:  # segments that must be long push each other: more places to choose from
        coarse = max(coarse, int((_SHORT / p) ** 0.5 / 2.0))
    fine = min(max(fine, coarse), n_rows)
    return fine, min(coarse, fine)


def _hidden(seen: View, changes: np.ndarray, penalty: float, reach: int, n: int) -> tuple[np.ndarray, int]:
    """Best of the changes and of those that short intervals show, and the count of priced segments."""
    extra = seen.seeds(4 * max(1, reach * (len(seen.edges) - 1) // int(seen.edges[-1])), penalty / 2.0)
    if not len(extra):
        return changes, n
    ends = np.array([0, int(seen.edges[-1])])
    changes, more = seen.programme(_united([ends, changes, extra]), penalty)
    return changes, n + more


def _conquer(seen: View, changes: np.ndarray, penalty: float, reach: int, n: int) -> Segmentation:
    """Move, split and unite changes until the objective no longer falls."""
    n_rows = int(seen.edges[-1])
    best = _close(seen, changes, penalty, n)
    before = np.empty(0, dtype=np.int64)
    for _ in range(_ROUNDS):
        places = np.concatenate([[0], best.change_points, [n_rows]])
        new = _united([places, _moved(seen, places, before, reach), _split(seen, places, before, penalty)])
        if len(new) == len(places):
            new = _united([places, _crowded(seen, places)])
            if len(new) == len(places):
                break
        united, more = seen.programme(new, penalty)
        n += more
        before = places
        if np.array_equal(united, best.change_points):
            break
        found = _close(seen, united, penalty, n)
        if not found.objective < best.objective - 1e-12 * abs(best.objective):
            break
        best = found
    return best._replace(n_evaluations=n)


def _united(parts: list[np.ndarray]) -> np.ndarray:
    """All places, rising, each once; for a few numbers faster than np.unique."""
    places = np.sort(np.concatenate(parts))
    return places[np.concatenate([[True], places[1:] != places[:-1]])]


def _known(places: np.ndarray, before: np.ndarray, many: int) -> np.ndarray:
    """Whether each run of so many neighbours of places was one of those of before, too."""
    last = len(before) - many
    at = np.searchsorted(before, places[: len(places) - many + 1])
    same = at <= last
    for k in range(many):
        same &= (
            before[np.minimum(at, last) + k] == places[k : len(places) - many + 1 + k] if last >= 0 else False
        )
    return same


def _moved(seen: View, places: np.ndarray, before: np.ndarray, reach: int) -> np.ndarray:
    """Best row for each change between its neighbours.

    It may lie far from where the change is, behind worse ones: the whole stretch is looked at through the
    grid, then single rows around the best of it and around the change.
    """
    fresh = ~_known(places, before, 3)
    starts, middles, stops = places[:-2][fresh], places[1:-1][fresh], places[2:][fresh]
    if not len(starts):
        return starts
    _, far = seen.best(starts, stops)
    if seen.every_row:
        return far[far > 0]
    low, high = starts + seen.minimum, stops - seen.minimum + 1
    first, stop = np.maximum(low, middles - reach), np.minimum(high, middles + reach + 1)
    other, end = np.maximum(low, far - reach), np.minimum(high, far + reach + 1)
    apart = (far > 0) & ((other > stop) | (end < first))
    near = (far > 0) & ~apart
    first[near], stop[near] = np.minimum(first, other)[near], np.maximum(stop, end)[near]
    found = seen.scan(
        np.concatenate([starts, starts[apart]]),
        np.concatenate([stops, stops[apart]]),
        np.concatenate([first, other[apart]]),
        np.concatenate([stop, end[apart]]),
    )
    return found[found > 0]


def _split(seen: View, places: np.ndarray, before: np.ndarray, penalty: float) -> np.ndarray:
    """Best split of each segment that may pay for itself."""
    fresh = ~_known(places, before, 2)
    gains, split = seen.best(places[:-1][fresh], places[1:][fresh])
    return split[gains > penalty / 2.0]


def _crowded(seen: View, places: np.ndarray) -> np.ndarray:
    """All rows around changes that stand too close for one to move without the other."""
    if seen.minimum <= 1:
        return np.empty(0, dtype=np.int64)
    tight = np.diff(places) < 2 * seen.minimum
    stuck = places[1:-1][tight[:-1] | tight[1:]]
    # Of each place the programme looks back over some three segments' rows.
    wide = int(min(seen.minimum, (_SHORT / (12 * max(1, len(stuck)))) ** 0.5))
    around = (stuck[:, None] + np.arange(-wide, wide + 1)).ravel()
    return around[(around > 0) & (around < places[-1])]


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
