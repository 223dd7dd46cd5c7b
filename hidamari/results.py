"""Arrays into labelled results: dims, coordinates, units and attributes of every Dataset, in one place."""

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from hidamari.arrays import Trials, split

__all__ = ["Variable", "latents_dataset", "safe_attributes", "to_dataset"]


class Variable(NamedTuple):
    """One variable of a Dataset before it is cut into trials."""

    values: Any  # (T, ...): rows of all trials one after the other, then one axis per entry of dims
    dims: tuple[str, ...]  # names of the axes after time
    units: str
    long_name: str


def latents_dataset(
    trials: Trials,
    latent_mean: np.ndarray,
    latent_var: np.ndarray,
    rate: np.ndarray,
    bin_s: float | None = None,
    units: Any = None,
    latent_cov: np.ndarray | None = None,
    rate_units: str = "spikes/s",
    model: str = "",
    attrs: Mapping[str, Any] | None = None,
) -> Any:
    """Posterior of the latents and the rates of the units as an xarray.Dataset.

    Parameters
    ----------
    trials : Trials
        The observations, which give the trials their lengths, times and form.
    latent_mean, latent_var : ndarray, shape (T, latent)
        Posterior mean and variance, rows of all trials one after the other.
    rate : ndarray, shape (T, unit)
        Expected observation; spikes per second for counts.
    bin_s : float, optional
        Width of a bin in seconds.
    units : sequence, optional
        Unit ids; by default those of the observations, else 0, 1, ...
    latent_cov : ndarray, shape (T, latent, latent), optional
        Posterior covariance between the latents.
    rate_units : str
        Unit of `rate`.
    model : str
        Name of the model.
    attrs : mapping, optional
        Further attributes.

    Returns
    -------
    xarray.Dataset
        `latent_mean`, `latent_var`, `rate` and perhaps `latent_cov`, as `to_dataset` lays them out.

    Raises
    ------
    ValueError
        If a shape does not match the trials.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.arrays import as_trials
    >>> from hidamari.results import latents_dataset
    >>> trials = as_trials([np.zeros((3, 4)), np.zeros((5, 4))])
    >>> z = np.zeros((8, 2))
    >>> result = latents_dataset(trials, z, z, np.ones((8, 4)), bin_s=0.1)
    >>> result.latent_mean.dims, result.n_bins.values
    (('trial', 'time', 'latent'), array([3, 5]))
    """
    variables = {
        "latent_mean": Variable(latent_mean, ("latent",), "1", "posterior mean of the latents"),
        "latent_var": Variable(latent_var, ("latent",), "1", "posterior variance of the latents"),
        "rate": Variable(rate, ("unit",), rate_units, "expected observation"),
    }
    if latent_cov is not None:
        dims = ("latent", "other_latent")
        variables["latent_cov"] = Variable(latent_cov, dims, "1", "posterior covariance of the latents")
    if units is None:
        units = trials.units if trials.units is not None else np.arange(np.shape(rate)[-1])
    coords = {"latent": np.arange(np.shape(latent_mean)[-1]), "unit": units}
    return to_dataset(trials, variables, bin_s, coords, {"model": model, **(attrs or {})})


def to_dataset(
    trials: Trials,
    variables: Mapping[str, Variable],
    bin_s: float | None = None,
    coords: Mapping[str, Any] | None = None,
    attrs: Mapping[str, Any] | None = None,
    time: Mapping[str, Any] | None = None,
) -> Any:
    """Lay variables out over trial and time, as an xarray.Dataset that netCDF can hold.

    Observations given as one (time, unit) array have no trial dimension. Trials of unequal length are padded
    with NaN at the end, and the coordinate `n_bins` (trial) says how many rows are real. `time` is in
    seconds, at bin centres: the observations' own times when all trials share them; else it counts from the
    start of each trial, and the coordinate `trial_start` (trial) holds the starts, if times were given.

    Parameters
    ----------
    trials : Trials
        The observations.
    variables : mapping of str to Variable
        What to lay out.
    bin_s : float, optional
        Width of a bin in seconds; needed where the trials do not share one set of times.
    coords : mapping of str to sequence, optional
        Labels of the dims after time.
    attrs : mapping, optional
        Attributes beside `bin_s` and `package_version`; see `safe_attributes`.
    time : mapping, optional
        Coordinates of time, where they are not those described above.

    Returns
    -------
    xarray.Dataset
        One variable for each of `variables`, float64, with attributes `units` and `long_name`.

    Raises
    ------
    ValueError
        If a variable's shape does not match the trials, or times are needed and unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.arrays import as_trials
    >>> from hidamari.results import Variable, to_dataset
    >>> trials = as_trials(np.zeros((3, 2)))
    >>> drift = Variable(np.zeros((3, 2)), ("unit",), "1", "drift")
    >>> to_dataset(trials, {"drift": drift}, bin_s=0.5).time.values
    array([0.25, 0.75, 1.25])
    """
    import xarray as xr

    single = trials.form == "array"
    laid = {}
    for name, variable in variables.items():
        values = np.asarray(variable.values, dtype=np.float64)
        if len(values) != len(trials.values) or values.ndim != 1 + len(variable.dims):
            shape = ", ".join((str(len(trials.values)), *variable.dims))
            raise ValueError(f"{name} has shape {values.shape}; allowed: ({shape})")
        dims = ("time", *variable.dims) if single else ("trial", "time", *variable.dims)
        described = {"units": variable.units, "long_name": variable.long_name}
        laid[name] = (dims, values if single else _pad(values, trials.lengths), described)
    labels = {key: _safe_ids(ids) for key, ids in (coords or {}).items()}
    every = {"bin_s": bin_s, **(attrs or {}), "package_version": import_module("hidamari").__version__}
    clock = _time_coords(trials, bin_s) if time is None else dict(time)
    return xr.Dataset(laid, clock | labels, safe_attributes(every))


def safe_attributes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that netCDF can hold: numbers, strings and lists of numbers; anything else as JSON text.

    Parameters
    ----------
    attrs : mapping
        Attributes of any kind. None is left out; booleans become 0 or 1.

    Returns
    -------
    dict
        The same, safe.

    Raises
    ------
    ValueError
        If a value is neither, nor expressible in JSON.

    Examples
    --------
    >>> from hidamari.results import safe_attributes
    >>> safe_attributes({"a": None, "b": True, "c": (1.0, 2.0), "d": {"order": 1}})
    {'b': 1, 'c': [1.0, 2.0], 'd': '{"order": 1}'}
    """
    safe: dict[str, Any] = {}
    for key, value in attrs.items():
        value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        if value is None:
            continue
        if isinstance(value, bool):
            safe[key] = int(value)
        elif isinstance(value, (int, float, str)):
            safe[key] = value
        elif isinstance(value, (list, tuple)) and value and all(type(v) in (int, float) for v in value):
            safe[key] = list(value)
        else:
            try:
                safe[key] = json.dumps(value)
            except TypeError:
                kind = type(value).__name__
                raise ValueError(f"attrs[{key!r}] is a {kind}; allowed: what JSON can express") from None
    return safe


def _pad(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Rows of all trials as (trial, time, ...), NaN behind the end of the shorter ones."""
    padded = np.full((len(lengths), lengths.max(), *values.shape[1:]), np.nan)
    for trial, part in enumerate(split(values, lengths)):
        padded[trial, : len(part)] = part
    return padded


def _time_coords(trials: Trials, bin_s: float | None) -> dict[str, Any]:
    """Coordinates of time, and of trial where trials differ in length or start."""
    lengths, times = trials.lengths, trials.times
    coords: dict[str, Any] = {}
    if (lengths < lengths.max()).any():
        coords["n_bins"] = ("trial", lengths, {"long_name": "rows of the trial, the rest is padding"})
    longest = times[int(np.argmax(lengths))] if times else None
    if times and longest is not None and all(np.array_equal(t, longest[: len(t)]) for t in times):
        time = longest
    elif bin_s is None:
        raise ValueError("bin_s is missing and the trials do not share their times; allowed: seconds per bin")
    else:
        time = (np.arange(lengths.max()) + 0.5) * bin_s
        if times:
            starts = np.array([t[0] - bin_s / 2 for t in times])
            coords["trial_start"] = ("trial", starts, {"units": "s", "long_name": "start of the first bin"})
    coords["time"] = ("time", time, {"units": "s", "long_name": "centre of the bin"})
    return coords


def _safe_ids(ids: Any) -> np.ndarray:
    """Labels as numbers or strings."""
    labels = np.asarray(ids)
    return labels.astype(str) if labels.dtype.kind not in "biuf" else labels
