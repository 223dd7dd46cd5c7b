"""What every engine gives and asks: the answer, and the check of its arguments."""

from typing import Any, NamedTuple

import numpy as np

from hidamari.inference.costs import Additive, Cost

__all__ = ["Segmentation", "answer", "asked", "traced"]


class Segmentation(NamedTuple):
    """A series cut into segments of constant parameters."""

    change_points: np.ndarray  # (K,) int64, rising: first row of each segment but the first
    cost: float  # sum of the costs of the segments
    penalty: float  # for each change point
    n_evaluations: int  # segment costs that were computed in the search
    cell: int  # widest cell of the grid that was searched, in rows; 1 where every row was tried
    converged: bool  # False where the grid did not settle

    @property
    def objective(self) -> float:
        """What the search makes small: cost + penalty times the number of change points."""
        return self.cost + self.penalty * len(self.change_points)


def asked(X: Any, cost: Any, penalty: float, min_length: int | None) -> tuple[int, int]:
    """Rows of the series and smallest length of a segment, after a look at every argument."""
    if not isinstance(cost, Cost):
        missing = [n for n in ("prepare", "costs", "min_length", "n_parameters") if not hasattr(cost, n)]
        raise ValueError(f"cost is {cost!r}, which lacks {', '.join(missing)}: see hidamari.inference.costs")
    shape = np.shape(X)
    if not 1 <= len(shape) <= 2 or shape[0] == 0:
        raise ValueError(f"X has shape {shape}: allowed are (T,) and (T, d), not empty")
    if not (np.isreal(penalty) and np.ndim(penalty) == 0 and np.isfinite(penalty) and penalty >= 0):
        raise ValueError(f"penalty is {penalty!r}: allowed are finite numbers >= 0")
    least = cost.min_length(shape[1] if len(shape) == 2 else 1)
    if min_length is None:
        return shape[0], least
    if min_length != int(min_length) or min_length < least:
        raise ValueError(f"min_length is {min_length!r}: allowed are whole numbers >= {least} for {cost!r}")
    return shape[0], int(min_length)


def traced(last: np.ndarray) -> np.ndarray:
    """Grid points of the changes, from the best last change of each grid point."""
    found = []
    at = last[-1]
    while at > 0:
        found.append(at)
        at = last[at]
    return np.array(found[::-1], dtype=np.int64)


def answer(
    cost: Additive | Cost, cache: Any, n_rows: int, changes: np.ndarray, penalty: float, **rest: Any
) -> Segmentation:
    """The segmentation with these changes, its cost computed anew."""
    changes = np.asarray(changes, dtype=np.int64)
    edges = np.concatenate([[0], changes, [n_rows]])
    total = float(np.sum(cost.costs(cache, edges[:-1], edges[1:])))
    settled = {"n_evaluations": 0, "cell": 1, "converged": True} | rest
    return Segmentation(changes, total, float(penalty), **settled)
