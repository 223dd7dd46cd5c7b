"""Arguments of DCDP: what is allowed, the cost that they name, and the rows that it prices."""

from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from hidamari.arrays import Trials, as_trials
from hidamari.inference.changes import best_number
from hidamari.inference.costs import (
    Additive,
    Biweight,
    Cost,
    Counts,
    Covariance,
    Mean,
    MeanVariance,
    Regression,
    Variance,
)
from hidamari.inference.penalty import clip_outliers, estimate_noise
from hidamari.inference.segments import (
    Segmentation,
    divide_and_conquer,
    fpop,
    optimal_partitioning,
    pelt,
    seeded_binary,
)
from hidamari.inference.sparse_mean import SparseMean
from hidamari.models._door import check_number, check_whole

__all__ = [
    "Series",
    "Task",
    "check_arguments",
    "make_cost",
    "make_task",
    "read_series",
    "search",
    "search_number",
]

MODELS = (
    "mean",
    "mean_variance",
    "sparse_mean",
    "covariance",
    "regression",
    "counts",
    "autoregressive",
)
_SEARCHES = ("auto", "divide", "fpop", "pelt", "optimal", "seeded")
_SCALED = (Mean, SparseMean, Biweight)  # costs in units of the noise variance
_ROBUST_LENGTH = 5  # rows; shorter runs are taken for outliers
_EXACT_ROWS = 1_500  # up to which every row is a candidate for a given number of changes


class Series(NamedTuple):
    """One recording."""

    values: np.ndarray  # (T, d)
    labels: np.ndarray | None  # (T,) of the rows
    units: np.ndarray  # (d,)


class Task(NamedTuple):
    """What the engines are given."""

    cost: Cost
    rows: np.ndarray  # (T, p), in units of the noise where the cost is
    noise: np.ndarray  # (p,) standard deviations that the rows were divided by; ones where they were not
    tempering: float  # divides the cost: rows that tell as much as one independent row
    order: int  # of the autoregression of the noise
    min_length: int


def read_series(X: Any, name: str = "X") -> Series:
    """One recording (time,) or (time, unit) in any common form."""
    labels = None
    if type(X).__name__ in ("DataArray", "Series", "Tsd") and np.ndim(X) == 1:
        labels = _labels_of(X)
        X = np.asarray(X.values if hasattr(X, "values") else X.d)
    if not hasattr(X, "columns") and np.ndim(X) == 1 and not _ragged(X):
        X = np.asarray(X)[:, None]
    trials = as_trials(X, name)
    if trials.form != "array":
        raise ValueError(
            f"{name} must be one recording (time,) or (time, unit), found {len(trials.lengths)} trials: "
            "a change between trials is not a change within one; fit them one by one"
        )
    units = np.arange(trials.values.shape[1]) if trials.units is None else np.asarray(trials.units)
    units = units if units.dtype.kind in "biufU" else units.astype(str)
    return Series(trials.values, labels if labels is not None else _row_labels(trials), units)


def _ragged(X: Any) -> bool:
    """Whether a list holds arrays rather than numbers."""
    return isinstance(X, (list, tuple)) and any(np.ndim(item) for item in X)


def _labels_of(X: Any) -> np.ndarray | None:
    """Row labels of a labelled vector."""
    if hasattr(X, "dims"):
        (dim,) = X.dims
        return np.asarray(X.coords[dim]) if dim in X.coords else None
    index = X.index if hasattr(X, "index") else X.t
    return None if type(index).__name__ == "RangeIndex" else np.asarray(index)


def _row_labels(trials: Trials) -> np.ndarray | None:
    """Row labels as they were given."""
    label = None if trials.labels is None else trials.labels[0]
    return None if label is None or type(label).__name__ == "RangeIndex" else np.asarray(label)


def check_arguments(model: Any, n_rows: int, d: int) -> None:
    """Refuse what the constructor was given wrongly for a series of n_rows and d units."""
    if not isinstance(model.model, Cost) and not (isinstance(model.model, str) and model.model in MODELS):
        raise ValueError(
            f"model must be one of {MODELS} or a cost of hidamari.inference.costs, found {model.model!r}"
        )
    if not isinstance(model.search, str) or model.search not in _SEARCHES:
        raise ValueError(f"search must be one of {_SEARCHES}, found {model.search!r}")
    for name in ("robust", "simultaneous"):
        if not isinstance(getattr(model, name), bool | np.bool_):
            raise ValueError(f"{name} must be True or False, found {getattr(model, name)!r}")
    penalty = model.penalty
    if penalty is not None and not (
        isinstance(penalty, Real) and not isinstance(penalty, bool) and 0 <= float(penalty) < np.inf
    ):
        raise ValueError(f"penalty must be a finite number of at least 0, or None, found {penalty!r}")
    if model.grid != "auto":
        check_whole("grid", model.grid, 1)
        if model.grid >= n_rows:
            raise ValueError(f"grid must be below the {n_rows} rows of X, found {model.grid}")
    check_whole("min_length", model.min_length, 1, optional=True)
    check_whole("n_changes", model.n_changes, 0, optional=True)
    check_whole("order", model.order, 1)
    if not isinstance(model.interval, Real) or not 0.0 < float(model.interval) < 1.0:
        raise ValueError(f"interval must be a probability between 0 and 1, found {model.interval!r}")
    if isinstance(model.noise, str):
        if model.noise not in ("auto", "independent"):
            raise ValueError(f"noise must be 'auto', 'independent' or a number, found {model.noise!r}")
    elif np.ndim(model.noise) == 0:
        check_number("noise", model.noise)
    elif np.shape(model.noise) != (d,) or not (np.asarray(model.noise, dtype=float) > 0).all():
        raise ValueError(f"noise must be {d} positive standard deviations, found {model.noise!r}")
    if model.model == "autoregressive" and d != 1:
        raise ValueError(f"X must have one unit with model='autoregressive', found {d}")


def make_task(model: Any, X: np.ndarray, y: Any, known: Task | None = None) -> Task:
    """Cost, rows and noise of checked arguments; noise and length as in ``known`` where that is given."""
    cost = make_cost(model)
    rows = _rows(model, X, y)
    scaled = isinstance(cost, _SCALED)
    robust = bool(model.robust) and scaled and not isinstance(cost, Biweight) and model.noise == "auto"
    least = cost.min_length(rows.shape[1])
    if model.min_length is not None and model.min_length < least:
        raise ValueError(f"min_length must be at least {least} for {cost!r}, found {model.min_length}")
    if model.min_length is not None:
        length = int(model.min_length)
    else:
        length = min(_usual_length(model, cost, least, robust), max(least, len(rows) // 4))
    if robust:
        rows = clip_outliers(rows)
    if known is not None:
        return known._replace(rows=rows / known.noise, min_length=min(length, len(rows)))
    noise, tempering, order = np.ones(rows.shape[1]), 1.0, 0
    if not isinstance(model.noise, str):
        noise = (
            np.broadcast_to(np.asarray(model.noise, dtype=float), rows.shape[1]).copy() if scaled else noise
        )
    elif scaled:
        found = estimate_noise(rows, length, 2 if model.noise == "auto" else 0)
        noise, order = np.sqrt(np.where(found.variance > 0.0, found.variance, 1.0)), found.order
    elif model.noise == "auto" and isinstance(cost, MeanVariance | Variance | Covariance | Counts):
        found = estimate_noise(X, max(length, min(_ROBUST_LENGTH, len(rows) // 4)))
        tempering, order = found.rows_for_one, found.order
        if isinstance(cost, Counts):
            mean = np.nanmean(X, axis=0) if len(X) else np.ones(1)
            fano = found.variance[mean > 0] / mean[mean > 0]
            tempering = max(1.0, float(fano.mean())) if fano.size else 1.0
    return Task(cost, rows / noise, noise, tempering, order, length)


def _usual_length(model: Any, cost: Cost, least: int, robust: bool) -> int:
    """Fewest rows of a segment, where the user has not said."""
    if robust:
        return max(least, _ROBUST_LENGTH)
    own_variance = isinstance(cost, MeanVariance | Variance | Covariance) or (
        isinstance(cost, Regression) and cost.variance == "segment"
    )
    # A few rows can lie on a line or in a plane by chance, which a free variance takes for certainty.
    past = int(model.order) if model.model == "autoregressive" else 0
    return least + past + (3 if own_variance else 0)


def make_cost(model: Any) -> Cost:
    """The cost that ``model`` names, or is."""
    match model.model:
        case "mean":
            return Mean()
        case "mean_variance":
            return MeanVariance()
        case "covariance":
            return Covariance()
        case "counts":
            return Counts(exposure=model.exposure)
        case "regression":
            return Regression(variance="segment")
        case "autoregressive":
            return Regression(variance="segment")
        case "sparse_mean":
            return SparseMean()
    return model.model


def _rows(model: Any, X: np.ndarray, y: Any) -> np.ndarray:
    """What the cost prices: X, X with the response, or X with its own past."""
    if model.model == "regression":
        if y is None:
            raise ValueError("y must be the response (time,) with model='regression', found None")
        response = read_series(y, "y").values
        if response.shape != (len(X), 1):
            raise ValueError(f"y must have shape ({len(X)},), found {np.shape(y)}")
        return np.column_stack([X, response])
    if model.model == "autoregressive":
        past = [
            np.concatenate([np.full(lag, np.nan), X[: len(X) - lag, 0]]) for lag in range(1, model.order + 1)
        ]
        return np.column_stack([*past, X])
    return X


def search(model: Any, task: Task, penalty: float) -> Segmentation:
    """The segmentation that the chosen engine finds."""
    cost, rows, length = task.cost, task.rows, task.min_length
    n, d = rows.shape
    method = model.search
    if method == "auto":
        single = d == 1 and length == 1 and isinstance(cost, Mean | Biweight | Counts | Variance)
        method = "fpop" if single and n <= 100_000 and model.grid == "auto" else "divide"
        if method == "divide" and not isinstance(cost, Additive) and n <= 500 and model.grid == "auto":
            method = "optimal"
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
    edges = np.concatenate([[0], changes, [n]])
    cost = float(np.sum(task.cost.costs(cache, edges[:-1], edges[1:])))
    return Segmentation(changes, cost, float(penalty), 0, 1, True)
