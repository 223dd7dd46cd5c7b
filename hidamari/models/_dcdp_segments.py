"""What DCDP says of each segment: its rows, and the parameters that hold in it."""

from typing import Any

import numpy as np

from hidamari.inference.costs import Counts, Covariance, Regression
from hidamari.models._dcdp_arguments import Task

__all__ = ["parameters_of", "segments_dataset"]


def parameters_of(model: Any, X: np.ndarray, task: Task, changes: np.ndarray) -> dict[str, np.ndarray]:
    """Estimates of every segment in the units of X; NaN where nothing was observed."""
    edges = np.concatenate([[0], changes, [len(X)]])
    pairs = list(zip(edges[:-1], edges[1:]))
    if isinstance(task.cost, Regression):
        return {"coefficients": np.stack([_coefficients(task.cost, task.rows[a:b]) for a, b in pairs])}
    if isinstance(task.cost, Counts):
        exposure = np.broadcast_to(_column(task.cost.exposure), X.shape)
        open_ = np.where(np.isnan(X), 0.0, exposure)
        return {
            "rate": np.stack([_ratio(np.nansum(X[a:b], axis=0), open_[a:b].sum(axis=0)) for a, b in pairs])
        }
    mean = np.stack([_mean(X[a:b]) for a, b in pairs])
    if isinstance(task.cost, Covariance):
        whole = [X[a:b][~np.isnan(X[a:b]).any(axis=1)] for a, b in pairs]
        return {"mean": mean, "covariance": np.stack([_covariance(x) for x in whole])}
    spread = [_mean((X[a:b] - m) ** 2) for (a, b), m in zip(pairs, mean)]
    return {"mean": mean, "variance": np.stack(spread)}


def segments_dataset(model: Any) -> Any:
    """Start, end and parameters of each segment."""
    import xarray as xr

    edges = np.concatenate([[0], model.change_points_, [model.n_rows_]])
    found: dict[str, Any] = {
        "start": ("segment", edges[:-1], {"long_name": "first row"}),
        "end": ("segment", edges[1:], {"long_name": "row after the last"}),
    }
    for name, values in model.parameters_.items():
        if name == "coefficients":
            dims: tuple[str, ...] = ("segment", "predictor")
        else:
            dims = ("segment", "unit", "unit_2")[: values.ndim]
        found[name] = (dims, values)
    coords = {"segment": np.arange(len(edges) - 1), "unit": model.units_}
    return xr.Dataset(found, coords, {"model": "DCDP"})


def _column(exposure: Any) -> np.ndarray:
    """Exposure against (T, d)."""
    exposure = np.asarray(exposure, dtype=float)
    return exposure[:, None] if exposure.ndim == 1 else exposure


def _ratio(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Total by weight; NaN where nothing was observed."""
    return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)


def _mean(x: np.ndarray) -> np.ndarray:
    """Mean of what was observed of each column, about its first row; NaN for none."""
    seen = ~np.isnan(x)
    base = np.where(seen.any(axis=0), x[seen.argmax(axis=0), np.arange(x.shape[1])], 0.0)
    return base + _ratio(np.where(seen, x - base, 0.0).sum(axis=0), seen.sum(axis=0))


def _covariance(x: np.ndarray) -> np.ndarray:
    """Covariance about the mean, (d, d)."""
    off = x - x.mean(axis=0)
    return off.T @ off / len(x)


def _coefficients(cost: Regression, rows: np.ndarray) -> np.ndarray:
    """Least squares coefficients, the constant first where there is one."""
    rows = rows[~np.isnan(rows).any(axis=1)]
    design = np.column_stack([np.ones(len(rows)), rows[:, :-1]]) if cost.intercept else rows[:, :-1]
    return np.linalg.lstsq(design, rows[:, -1], rcond=None)[0]
