"""Answers of autoregressions with names, dims and coordinates."""

from typing import Any

import numpy as np

from hidamari.models import _gp_door as door
from hidamari.models._gp_door import Observed
from hidamari.results import Variable

__all__ = ["by_output", "drawn", "labelled", "table"]


def labelled(
    model: Any,
    mean: np.ndarray,
    var: np.ndarray,
    ends: np.ndarray,
    levels: np.ndarray,
    times: list[np.ndarray],
    observed: Observed,
) -> Any:
    """Moments with intervals, and further quantiles, as a Dataset."""
    variables = {
        "mean": Variable(mean, (), "", "expected observation"),
        "var": Variable(var, (), "", "variance of the observation"),
        "lower": Variable(ends[..., 0], (), "", "lower end of the interval"),
        "upper": Variable(ends[..., 1], (), "", "upper end of the interval"),
    }
    coords = {}
    if len(levels) > 2:
        variables["quantile_value"] = Variable(ends[..., 2:], ("quantile",), "", "quantiles")
        coords["quantile"] = levels[2:]
    about = {"model": repr(model), "interval": round(float(levels[1] - levels[0]), 12)}
    return door.to_labelled(variables, times, observed, coords, about)


def drawn(model: Any, values: np.ndarray, times: list[np.ndarray], observed: Observed) -> Any:
    """Joint draws (rows, output, draw) as a Dataset."""
    variables = {"draw_value": Variable(values, ("draw",), "", "joint draws")}
    coords = {"draw": np.arange(values.shape[-1])}
    found = door.to_labelled(variables, times, observed, coords, {"model": repr(model)})
    return found.transpose("draw", ...)


def table(model: Any, errors: np.ndarray) -> Any:
    """Coefficients with their standard errors, by name."""
    import xarray as xr
    from scipy.stats import norm

    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(model.support_, model.coef_ / errors, np.nan)
    parts = {
        "estimate": model.coef_,
        "standard_error": np.where(model.support_, errors, np.nan),
        "z": z,
        "p_value": 2.0 * norm.sf(np.abs(z)),
        "support": model.support_,
    }
    dims = ("output", "coefficient")
    found = xr.Dataset(
        {name: (dims, values) for name, values in parts.items()},
        {"output": model.output_names_, "coefficient": model.coef_names_},
    )
    return found.isel(output=0, drop=True) if model.vector_ else found


def by_output(model: Any, values: np.ndarray, dim: str, labels: np.ndarray) -> Any:
    """One row for each output as a DataArray."""
    import xarray as xr

    found = xr.DataArray(values, {"output": model.output_names_, dim: labels}, ("output", dim))
    return found.isel(output=0, drop=True) if model.vector_ else found
