"""Series as pictures: predictions with the data they were made from, and the parts of a sum."""

import numpy as np

from hidamari.plotting._style import GREY, INK, PALE, PALETTE, Z95, name_at, new_axes, variable

__all__ = ["components", "prediction"]


def prediction(ds, observed=None, ax=None, trial=0):
    """Draw a predicted mean with its interval, and the data as dots.

    Parameters
    ----------
    ds : xarray.Dataset
        ``mean``, ``lower`` and ``upper`` with dims ([trial,] time[, output]), as ``predict`` returns them.
    observed : xarray.DataArray or pair (times, values), optional
        What was seen, (time[, output]), at times of its own. Stretches that were not (NaN) are shaded.
    ax : matplotlib.axes.Axes, optional
        Where to draw.
    trial : int, default 0
        Which trial, by position.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a variable, a dimension or the trial is not there, or `observed` has no times or another number of
        outputs.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import hidamari as hd
    >>> years = xr.Variable("time", np.linspace(1900, 1950, 101), {"units": "year"})
    >>> mean = xr.DataArray(np.sin(years / 5), {"time": years}, attrs={"units": "m"}, name="mean")
    >>> ds = xr.Dataset({"mean": mean, "lower": mean - 0.3, "upper": mean + 0.3})
    >>> ax = hd.plotting.prediction(ds, observed=([1901.0, 1920.0, 1930.0], [0.1, np.nan, 0.4]))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('year', 'm')
    """
    mean, lower, upper = (_lines(variable(ds, name), trial) for name in ("mean", "lower", "upper"))
    names, time = mean["output"].values, mean["time"].values
    times, dots = (time[:0], None) if observed is None else _observed(observed, len(names), trial)
    ax = new_axes(ax, 3.6)
    for o, name in enumerate(names):
        colour = PALETTE[o % len(PALETTE)]
        low, middle, high = (lines.values[:, o] for lines in (lower, mean, upper))
        ax.fill_between(time, low, high, color=colour, alpha=0.25, linewidth=0, zorder=2)
        ax.plot(time, middle, color=colour, linewidth=1.4, zorder=3, label=f"output {name}")
        if dots is not None:
            dot = INK if len(names) == 1 else colour
            style = {"color": dot, "markersize": _dot_size(times), "markeredgewidth": 0, "alpha": 0.7}
            ax.plot(times, dots[:, o], linestyle="none", marker="o", zorder=4, label=f"data {name}", **style)
        if len(names) > 1:
            name_at(ax, time[-1], middle[-1], f"output {name}", colour)
    unseen = dots is not None and _shade_gaps(ax, times, np.isnan(dots).all(axis=1))
    caption = f"mean and {_level(ds)} band"
    caption += ", dots: data" * (dots is not None) + ", grey: not observed" * unseen
    # A model knows neither the name nor the unit of what it is given; the data may.
    described = [*([observed] if hasattr(observed, "coords") else []), mean]
    _finish(ax, np.concatenate([time, times]), _first(map(_clock, described)), caption)
    ax.set_ylabel(_first(map(_quantity, described)))
    return ax


def components(ds, axes=None, trial=0):
    """Draw each summand of a kernel with its 95 % band in a panel of its own, above a shared axis of time.

    Parameters
    ----------
    ds : xarray.Dataset
        ``component_mean`` and ``component_var`` with dims ([trial,] time[, output], component), as
        ``decompose`` returns them.
    axes : sequence of matplotlib.axes.Axes, optional
        Where to draw, one for each component; a new figure by default.
    trial : int, default 0
        Which trial, by position.

    Returns
    -------
    list of matplotlib.axes.Axes
        One for each component, from the top.

    Raises
    ------
    ValueError
        If a variable, a dimension or the trial is not there, or `axes` are not as many as components.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import hidamari as hd
    >>> coords = {"time": np.arange(50.0), "component": ["trend", "season"]}
    >>> parts = np.stack([np.arange(50) / 10, np.sin(np.arange(50))], axis=1)
    >>> mean = xr.DataArray(parts, coords, ("time", "component"))
    >>> ds = xr.Dataset({"component_mean": mean, "component_var": mean * 0 + 0.04})
    >>> [ax.get_title(loc="left") for ax in hd.plotting.components(ds)]
    ['trend', 'season']
    """
    import xarray as xr

    mean, half = variable(ds, "component_mean"), Z95 * np.sqrt(variable(ds, "component_var"))
    if "component" not in mean.dims:
        raise ValueError(f"component_mean has dims {mean.dims}, needed is one named 'component'")
    n = mean.sizes["component"]
    names = mean["component"].values if "component" in mean.coords else np.arange(n)
    if axes is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(8.0, 0.6 + 1.7 * n), layout="constrained")
        axes = figure.subplots(n, sharex=True, squeeze=False)[:, 0]
    axes = list(axes)
    if len(axes) != n:
        raise ValueError(f"axes has {len(axes)} entries; allowed: {n}, one for each component")
    bands = xr.Dataset({"mean": mean, "lower": mean - half, "upper": mean + half})
    for i, (ax, name) in enumerate(zip(axes, names)):
        part = bands.isel(component=i)
        part["mean"].attrs.pop("long_name", None)  # the title names the part
        prediction(part, ax=ax, trial=trial)
        if "output" not in part.dims:  # else the colours are those of the outputs
            ax.lines[-1].set_color(PALETTE[i % len(PALETTE)])
            ax.collections[-1].set_color(PALETTE[i % len(PALETTE)])
        ax.set_title(str(name), loc="left", fontsize="small", color=GREY)
    axes[0].figure.align_ylabels(axes)
    return axes


# ------------------------------------------------------------------------------------------------ small parts


def _lines(array, trial):
    """Return the (time, output) array of one trial, sorted by time; without outputs there is one."""
    if not set(array.dims) - {"trial", "output"} == {"time"}:
        raise ValueError(f"{array.name} has dims {array.dims}, needed are ([trial,] time[, output])")
    array = _timed(array, trial)
    if "output" not in array.dims:
        array = array.drop_vars("output", errors="ignore").expand_dims(output=1)
    if "output" not in array.coords:
        array = array.assign_coords(output=np.arange(array.sizes["output"]))
    array = array.transpose("time", "output")
    return array.isel(time=np.flatnonzero(~array.isnull().all("output").values)).sortby("time")


def _timed(array, trial):
    """Return one trial of an array, with its own times."""
    if "trial" in array.dims:
        if not -array.sizes["trial"] <= trial < array.sizes["trial"]:
            raise ValueError(f"trial is {trial}, but there are {array.sizes['trial']} trials")
        array = array.isel(trial=trial)
        if "trial_time" in array.coords:
            array = array.assign_coords(time=("time", array["trial_time"].values, array["trial_time"].attrs))
    if "time" not in array.coords:
        raise ValueError(f"{array.name} has no coordinate 'time'")
    return array


def _observed(observed, n_outputs, trial):
    """Return times and values (time, output) of what was seen, sorted by time."""
    if hasattr(observed, "dims"):
        rest = [dim for dim in observed.dims if dim not in ("trial", "time")]
        if "time" not in observed.dims or len(rest) > 1:
            raise ValueError(f"observed has dims {observed.dims}, needed are ([trial,] time[, output])")
        observed = _timed(observed, trial).transpose("time", *rest)
        times, values = observed["time"].values, observed.values
    else:
        if not isinstance(observed, (tuple, list)) or len(observed) != 2:
            raise ValueError("observed has no times; allowed: an xarray.DataArray, or a pair (times, values)")
        times, values = (np.asarray(part) for part in observed)
    values = values.astype(float)
    values = values[:, None] if values.ndim == 1 else values
    if values.shape != (len(times), n_outputs):
        raise ValueError(
            f"observed has shape {values.shape}; allowed: ({len(times)}, {n_outputs}), time first"
        )
    order = np.argsort(times, kind="stable")
    return times[order], values[order]


def _shade_gaps(ax, times, unseen):
    """Shade runs of rows without a value, from half-way to the one before to half-way to the next."""
    between = times[:-1] + np.diff(times) / 2
    edges = np.concatenate([times[:1], between, times[-1:]])
    jumps = np.flatnonzero(np.diff(np.concatenate([[False], unseen, [False]])))
    for start, stop in jumps.reshape(-1, 2):
        ax.axvspan(edges[start], edges[stop], color=PALE, linewidth=0, zorder=0)
    return bool(unseen.any())


def _dot_size(times):
    """Return a marker size at which a series is a cloud of dots and not one black worm."""
    return float(np.clip(60 / np.sqrt(max(len(times), 1)), 1.2, 4.0))


def _level(ds):
    """Return the share that bands hold, as the Dataset says."""
    return f"{100 * float(ds.attrs.get('interval', 0.95)):g} %"


def _first(texts):
    """Return the first text that says something."""
    return next(filter(None, texts), "")


def _quantity(array):
    """Name a quantity with its unit, as far as the array tells them."""
    name, unit = array.attrs.get("long_name", ""), array.attrs.get("units", "")
    unit = "" if unit == "1" else unit
    return f"{name} ({unit})" if name and unit else name or unit


def _clock(array):
    """Name time with its unit, where the array tells it."""
    unit = array["time"].attrs.get("units", "")
    return unit if unit == "year" else f"time ({unit})" if unit else ""


def _finish(ax, times, clock, caption):
    """Label time, drop the frame, and say above the axes what is drawn."""
    if times.min() < times.max():
        ax.set_xlim(times.min(), times.max())
    if ax.xaxis.get_tick_params().get("labelbottom", True):  # not above another that shares its times
        ax.set_xlabel(clock or ("" if times.dtype.kind == "M" else "time"))  # dates need no name
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(caption, loc="left", fontsize="small", color=GREY)
