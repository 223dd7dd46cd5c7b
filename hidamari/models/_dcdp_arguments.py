"""Arguments of DCDP: what is allowed, the cost that they name, and the rows that it prices."""

from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from hidamari.arrays import Trials, as_trials
from hidamari.inference.costs import (
    Biweight,
    Cost,
    Counts,
    Covariance,
    Mean,
    MeanVariance,
    Regression,
    Variance,
)
from hidamari.inference.kalman_cost import Kalman
from hidamari.inference.penalty import clip_outliers, estimate_noise
from hidamari.inference.thresholded_mean import ThresholdedMean
from hidamari.models._door import check_number, check_whole
from hidamari.statespace.kernels import Matern

__all__ = [
    "Series",
    "Task",
    "check_arguments",
    "check_units",
    "count_penalty",
    "make_cost",
    "make_task",
    "read_series",
]

MODELS = (
    "mean",
    "mean_variance",
    "sparse_mean",
    "covariance",
    "regression",
    "counts",
    "autoregressive",
    "state_space",
)
_SEARCHES = ("auto", "divide", "fpop", "pelt", "optimal", "seeded")
_PUBLISHED = ("mean", "sparse_mean", "covariance", "regression")
_SCALED = (Mean, ThresholdedMean, Biweight)  # costs in units of the noise variance
_ROBUST_LENGTH = 5  # rows; shorter runs are taken for outliers


class Series(NamedTuple):
    """One recording."""

    values: np.ndarray  # (T, d)
    labels: np.ndarray | None  # (T,) of the rows
    units: np.ndarray  # (d,)
    named: bool  # whether the units came with names


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
    if hasattr(X, "tocsr"):
        raise ValueError(f"{name} must not be sparse, found {type(X).__name__}; write {name}.toarray()")
    if hasattr(X, "__array__") and not hasattr(X, "ndim"):
        X = np.asarray(X)
    labels = None
    if type(X).__name__ in ("DataArray", "Series", "Tsd") and np.ndim(X) == 1:
        labels = _labels_of(X)
        X = np.asarray(X.values if hasattr(X, "values") else X.d)
    if not hasattr(X, "columns") and not _ragged(X) and np.ndim(X) == 1:
        X = np.asarray(X)[:, None]
    trials = as_trials(X, name)
    if trials.form != "array":
        raise ValueError(
            f"{name} must be one recording (time,) or (time, unit), found {len(trials.lengths)} trials: "
            "a change between trials is not a change within one; fit them one by one"
        )
    units = np.arange(trials.values.shape[1]) if trials.units is None else np.asarray(trials.units)
    named = units.dtype.kind not in "biuf"
    units = units.astype(str) if named else units
    return Series(trials.values, labels if labels is not None else _row_labels(trials), units, named)


def check_units(model: Any, series: Series) -> None:
    """Refuse another recording whose units are not those of the fit; in scikit-learn's words."""
    kind, d = type(model).__name__, series.values.shape[1]
    if d != model.n_features_in_:
        raise ValueError(
            f"X has {d} features, but {kind} is expecting {model.n_features_in_} features as input"
        )
    if model.named_ and series.named and not np.array_equal(series.units, model.units_):
        raise ValueError(
            f"X has the units {series.units.tolist()}. The feature names should match those that were passed "
            f"during fit: {model.units_.tolist()}"
        )


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
    for name, allowed in {"search": _SEARCHES, "procedure": ("union", "paper")}.items():
        value = getattr(model, name)
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, found {value!r}")
    if model.procedure == "paper" and not (isinstance(model.model, str) and model.model in _PUBLISHED):
        raise ValueError(f"model must be one of {_PUBLISHED} with procedure='paper', found {model.model!r}")
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
    check_number("bin_s", model.bin_s)
    level = model.interval
    if level is not None and (not isinstance(level, Real) or not 0.0 < float(level) < 1.0):
        raise ValueError(f"interval must be a probability between 0 and 1, or None, found {level!r}")
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
    cost = make_cost(model, len(X))
    rows = _rows(model, X, y)
    scaled = isinstance(cost, _SCALED)
    robust = bool(model.robust) and scaled and not isinstance(cost, Biweight) and model.noise == "auto"
    least = cost.min_length(rows.shape[1])
    if model.min_length is not None and model.min_length < least:
        raise ValueError(f"min_length must be at least {least} for {cost!r}, found {model.min_length}")
    if model.min_length is not None:
        length = int(model.min_length)
    else:
        usual = _usual_length(model, cost, least, robust)
        if isinstance(cost, Covariance):
            # A covariance is told by the rows that show both columns.
            usual = int(np.ceil(usual / max(float(np.mean(~np.isnan(rows))), 0.1) ** 2))
        length = min(usual, max(least, len(rows) // 4))
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
        found = estimate_noise(rows, max(length, _ROBUST_LENGTH), 2 if model.noise == "auto" else 0)
        noise, order = np.sqrt(np.where(found.variance > 0.0, found.variance, 1.0)), found.order
    elif model.noise == "auto" and isinstance(cost, MeanVariance | Variance | Covariance | Counts):
        found = estimate_noise(X, max(length, _ROBUST_LENGTH))
        tempering, order = found.rows_for_one, found.order
        if isinstance(cost, Counts):
            mean = np.nansum(X, axis=0) / np.maximum((~np.isnan(X)).sum(axis=0), 1)
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
    return 2 * least + 3 + past if own_variance else least + past


def count_penalty(model: Any, task: Task) -> float:
    r"""Price of a change of rates: what a split at any row gains with a probability of 5 % at most.

    The exact quantile for each of T rows, times the upper limit of the tempering where that is estimated. For
    independent counts the log of a long-run variance by an autoregression of order q has variance
    (2 + 4 q) / T: 2 / T from the innovations, and 4 times that of the sum of q coefficients, q / T.
    """
    from scipy.stats import chi2

    n, d = task.rows.shape
    seen = max(1, int((~np.isnan(task.rows)).sum()))
    estimated = isinstance(model.noise, str) and model.noise == "auto"
    error = np.sqrt((2.0 + 4.0 * task.order) / seen) if estimated else 0.0
    return float(task.tempering * (1.0 + 2.0 * error) * chi2.isf(0.05 / n, task.cost.n_parameters(d)))


def make_cost(model: Any, n_rows: int) -> Cost:
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
            # A row without all of its past is no part of the likelihood that is conditional on it.
            return Regression(variance="segment", missing="drop")
        case "sparse_mean":
            return ThresholdedMean()
        case "state_space":
            return _state_space(model, n_rows)
    return model.model


def _state_space(model: Any, n_rows: int) -> Kalman:
    """Gaussian process with the kernel, or one of seven lengthscales; for rows of variance 1 in all."""
    noise = (0.02, 0.1, 0.5) if isinstance(model.noise, str) else float(model.noise) ** 2
    if model.kernel is not None:
        return Kalman(model.kernel, noise, bin_s=float(model.bin_s))
    scales = np.geomspace(2.0, max(n_rows / 10.0, 4.0), 7) * float(model.bin_s)
    return Kalman(Matern(0, 1.0), noise, tuple(map(float, scales)), float(model.bin_s))


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
    if model.model == "state_space" and isinstance(model.noise, str):
        seen = ~np.isnan(X)
        count = np.maximum(seen.sum(axis=0), 1)
        off = X - np.where(seen, X, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.where(seen, off**2, 0.0).sum(axis=0) / count)
        return off / np.where(spread > 0.0, spread, 1.0)
    return X
