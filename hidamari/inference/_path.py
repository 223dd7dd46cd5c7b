"""All segmentations that are best for some penalty of a range."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._divide import divider
from hidamari.inference._functional import functional
from hidamari.inference._segmentation import Segmentation, answer, asked
from hidamari.inference.costs import Cost

__all__ = ["PenaltyPath", "penalty_path"]


class PenaltyPath(NamedTuple):
    """The best segmentations over a range of penalties, from many change points to few."""

    segmentations: tuple[Segmentation, ...]
    penalties: np.ndarray  # (n + 1,) rising: segmentation i is best from penalties[i] to penalties[i + 1]

    @property
    def n_changes(self) -> np.ndarray:
        """Number of change points of each segmentation."""
        return np.array([len(s.change_points) for s in self.segmentations])

    @property
    def costs(self) -> np.ndarray:
        """Cost of each segmentation."""
        return np.array([s.cost for s in self.segmentations])

    def at(self, penalty: float) -> Segmentation:
        """The best segmentation for one penalty of the range."""
        if not self.penalties[0] <= penalty <= self.penalties[-1]:
            raise ValueError(
                f"penalty is {penalty!r}: allowed are {self.penalties[0]} to {self.penalties[-1]}"
            )
        i = min(int(np.searchsorted(self.penalties, penalty, side="right")) - 1, len(self.segmentations) - 1)
        return self.segmentations[i]._replace(penalty=float(penalty))


def penalty_path(
    X: ArrayLike,
    cost: Cost,
    smallest: float,
    largest: float,
    min_length: int | None = None,
    engine: str | Callable[..., Segmentation] = "divide_and_conquer",
) -> PenaltyPath:
    """Best segmentations for all penalties from smallest to largest (CROPS).

    The best penalised cost is concave and piecewise linear in the penalty. Where the segmentations at two
    penalties differ by more than one change point, the penalty at which they cost the same is tried: about
    two searches for each number of changes, over one reading of the data.

    Parameters
    ----------
    X, cost, min_length
        As in `optimal_partitioning`.
    smallest, largest : float
        Range of penalties.
    engine : {"divide_and_conquer", "fpop"} or callable
        Search; a callable takes (X, cost, penalty, min_length) like `pelt`.

    Returns
    -------
    PenaltyPath

    Raises
    ------
    ValueError
        If an argument is not allowed.

    References
    ----------
    Haynes, Eckley and Fearnhead, Computationally efficient changepoint detection for a range of penalties,
    2017.

    Examples
    --------
    >>> from hidamari.inference.costs import Mean
    >>> path = penalty_path([0.0, 0.1, 5.0, 5.1, 9.0, 9.1], Mean(), 1.0, 100.0)
    >>> path.n_changes.tolist(), path.penalties.round(3).tolist()
    ([2, 1, 0], [1.0, 16.0, 65.333, 100.0])
    """
    n_rows, _ = asked(X, cost, smallest, min_length)
    if not smallest < largest < np.inf:
        raise ValueError(f"largest is {largest!r}: allowed are finite numbers above smallest ({smallest!r})")
    if engine == "fpop":
        if min_length not in (None, 1):
            raise ValueError(f'min_length is {min_length!r}: engine "fpop" allows None and 1')
        cache = cost.prepare(X)
        solve = partial(_functional_answer, cost, cache, n_rows)
    elif engine == "divide_and_conquer":
        solve = divider(X, cost, min_length=min_length)
    elif callable(engine):
        solve = partial(engine, X, cost, min_length=min_length)
    else:
        raise ValueError(f'engine is {engine!r}: allowed are "divide_and_conquer", "fpop" and callables')
    found: dict[int, Segmentation] = {}

    def visit(penalty: float) -> Segmentation:
        """Search, and keep the cheapest of each number of changes."""
        new = solve(float(penalty))
        k = len(new.change_points)
        if k not in found or new.cost < found[k].cost:
            found[k] = new
        return found[k]

    pending = [(visit(smallest), visit(largest))]
    while pending:
        many, few = pending.pop()
        apart = len(many.change_points) - len(few.change_points)
        if apart <= 1:
            continue
        middle = visit((few.cost - many.cost) / apart)
        if len(few.change_points) < len(middle.change_points) < len(many.change_points):
            pending += [(many, middle), (middle, few)]
    return _hull(found, float(smallest), float(largest))


def _functional_answer(cost: Cost, cache: Any, n_rows: int, penalty: float) -> Segmentation:
    """Functional pruning of a prepared series."""
    return answer(cost, cache, n_rows, functional(cost, cache, penalty), penalty)


def _hull(found: dict[int, Segmentation], smallest: float, largest: float) -> PenaltyPath:
    """Those of the found segmentations that are best somewhere: the lower convex hull of cost over number."""
    kept: list[Segmentation] = []
    edges: list[float] = []
    for k in sorted(found, reverse=True):
        new = found[k]
        while kept:
            # The penalty from which fewer changes are better.
            edge = (new.cost - kept[-1].cost) / (len(kept[-1].change_points) - k)
            if edge > (edges[-1] if edges else smallest):
                break
            kept.pop()
            if edges:
                edges.pop()
        if kept:
            edges.append(edge)
        kept.append(new)
    inside = [e for e in edges if e < largest]
    return PenaltyPath(tuple(kept[: len(inside) + 1]), np.array([smallest, *inside, largest]))
