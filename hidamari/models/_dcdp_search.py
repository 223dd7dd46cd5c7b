"""The engine that DCDP's arguments choose."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hidamari.inference.changes import best_number
from hidamari.inference.costs import Additive, Biweight, Counts, Covariance, Mean, Regression, Variance
from hidamari.inference.segments import (
    Segmentation,
    divide_and_conquer,
    fpop,
    optimal_partitioning,
    pelt,
    seeded_binary,
)
from hidamari.models._dcdp_arguments import Task

__all__ = ["search", "search_number"]

_FUNCTIONAL = 100_000  # rows up to which functional pruning is used
_SLOW_ROWS = 500  # up to which all segments are priced one by one
_HOLED_ROWS = 150  # the same where each has to be fitted to what was observed
_EXACT_WORK = 100_000_000  # numbers that all segments are priced from: about a tenth of a second
_EXACT_ROWS = 1_500  # up to which every row is a candidate for a given number of changes


def search(model: Any, task: Task, penalty: float) -> Segmentation:
    """The segmentation that the chosen engine finds."""
    if model.procedure == "paper":
        return _published(model, task, penalty)
    cost, rows, length = task.cost, task.rows, task.min_length
    method = model.search
    if method == "auto":
        method = _fitting(cost, rows, length) if model.grid == "auto" else "divide"
    if method == "fpop":
        if length > 1:
            raise ValueError(f"min_length must be 1 with search='fpop', found {length}")
        return fpop(rows, cost, penalty)
    if method == "divide":
        return divide_and_conquer(rows, cost, penalty, grid=model.grid, min_length=length)
    engine: Callable[..., Segmentation] = {
        "pelt": pelt,
        "optimal": optimal_partitioning,
        "seeded": seeded_binary,
    }[method]
    return engine(rows, cost, penalty, min_length=length)


def _fitting(cost: Any, rows: np.ndarray, length: int) -> str:
    """The exact engine that is fast enough, else the near exact one."""
    n, d = rows.shape
    if d == 1 and length == 1 and isinstance(cost, Mean | Biweight | Counts | Variance) and n <= _FUNCTIONAL:
        return "fpop"
    if not isinstance(cost, Additive):
        return "optimal" if n <= _SLOW_ROWS else "divide"
    if cost.holes(rows) is not None:
        return "optimal" if n <= _HOLED_ROWS else "divide"
    numbers = d**3 if isinstance(cost, Covariance | Regression) else d
    return "pelt" if n * n * numbers <= _EXACT_WORK else "divide"


def search_number(model: Any, task: Task, penalty: float) -> Segmentation:
    """The segmentation with ``n_changes`` changes: exact for short series, else among good candidates."""
    n, wanted = len(task.rows), int(model.n_changes)
    cache = task.cost.prepare(task.rows)
    if n <= _EXACT_ROWS:
        places = np.arange(n + 1)
    else:
        # Candidates of the search whose penalty is low enough for twice as many changes.
        found, price = search(model, task, penalty), penalty
        for _ in range(60):
            if len(found.change_points) >= 2 * wanted:
                break
            price /= 2.0
            found = search(model, task, price)
        places = np.unique(np.concatenate([[0, n], found.change_points]))
    changes = best_number(task.cost, cache, places, wanted, task.min_length)
    return _priced(task, changes, penalty)


def _published(model: Any, task: Task, penalty: float) -> Segmentation:
    """Change points by the published procedure, on centred rows."""
    from hidamari.inference.dcdp_paper import paper_procedure

    rows = task.rows - task.rows.mean(axis=0)
    kind = "mean" if model.model == "sparse_mean" else str(model.model)
    found = paper_procedure(
        rows[:, :-1] if kind == "regression" else rows,
        kind,
        rows[:, -1] if kind == "regression" else None,
        n_grid=min(100, max(1, len(rows) // 4)) if model.grid == "auto" else int(model.grid),
        lambdas=0.0 if model.model == "mean" else None,
        gammas=model.penalty,
    )
    return _priced(task, found.change_points, penalty)


def _priced(task: Task, changes: np.ndarray, penalty: float) -> Segmentation:
    """The segmentation with these changes."""
    edges = np.concatenate([[0], changes, [len(task.rows)]])
    cost = float(np.sum(task.cost.costs(task.cost.prepare(task.rows), edges[:-1], edges[1:])))
    return Segmentation(changes, cost, float(penalty), 0, 1, True)
