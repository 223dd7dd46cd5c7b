"""Autoregressions as pictures: coefficients by lag, forecasts with their past, spectrum, and memory."""

import numpy as np

from hidamari.plotting._style import GREY, INK, PALE, PALETTE, Z95, name_at, new_axes, variable
from hidamari.plotting.series import prediction

__all__ = ["coefficients", "forecast", "impulse_response", "spectrum"]

_MANY = 100  # lags from which on they are drawn on a logarithmic axis
_BINS = 60  # of a periodogram, evenly spaced on a logarithmic axis


def coefficients(ds, ax=None, output=0):
    """Draw coefficients by lag with their 95 % intervals; those that were not chosen are ticks at zero.

    Beyond a hundred lags their axis is logarithmic, and that of the coefficients is linear up to the widest
    interval, logarithmic beyond it, so that small ones far back can be seen beside large ones near by.

    Parameters
    ----------
    ds : xarray.Dataset or xarray.DataTree
        ``estimate``, ``standard_error`` and ``support`` over ([output,] coefficient), from
        ``ARNet.coefficients``; or draws ``coef`` (chain, draw, coefficient), from ``sample_horseshoe``, of
        which medians and central intervals are drawn. Only coefficients named ``lag k`` are.
    ax : matplotlib.axes.Axes, optional
        Where to draw.
    output : int, default 0
        Which output, by position.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a variable or the output is not there, or no coefficient is that of a lag.

    Examples
    --------
    >>> import numpy as np
    >>> import hidamari as hd
    >>> y = np.random.default_rng(0).standard_normal(500)
    >>> y[2:] += 0.5 * y[:-2]
    >>> hd.plotting.coefficients(hd.ARNet().fit(y).coefficients()).get_xlabel()
    'lag (rows)'
    """
    lags, middle, low, high, chosen = _by_lag(ds, output)
    ax = new_axes(ax, 3.2)
    ax.axhline(0.0, color=INK, linewidth=0.7, zorder=1)
    rest = lags[~chosen]
    ax.plot(rest, np.zeros(len(rest)), "|", color=GREY, markersize=5, alpha=0.6, zorder=2)
    at, colour, few = lags[chosen], PALETTE[0], chosen.sum() <= 60
    ax.vlines(at, 0.0, middle[chosen], color=colour, linewidth=1.0, alpha=0.5, zorder=2)
    ax.vlines(
        at, low[chosen], high[chosen], color=colour, linewidth=2.6 if few else 1.4, alpha=0.45, zorder=3
    )
    ax.plot(at, middle[chosen], "o", color=colour, markersize=4.5 if few else 2.5, zorder=4)
    if lags[-1] > _MANY:
        from matplotlib.ticker import FuncFormatter

        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        widest = float(np.max((high - low)[chosen], initial=0.0)) / 2.0
        if widest > 0.0:
            ax.set_yscale("symlog", linthresh=widest, linscale=1.0)
    else:
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="lag (rows)", ylabel="coefficient")
    caption = f"{chosen.sum()} of {len(lags)} lags" if len(rest) else f"{len(lags)} lags"
    ax.set_title(f"{caption}, 95 % intervals", loc="left", fontsize="small", color=GREY)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def forecast(ds, past=None, truth=None, ax=None, trial=0, n_past=None):
    """Draw a forecast with its interval behind the end of the past, and what came true where that is known.

    Parameters
    ----------
    ds : xarray.Dataset
        ``mean``, ``lower`` and ``upper`` with dims ([trial,] time[, output]), as ``ARNet.forecast`` returns
        them.
    past, truth : xarray.DataArray or array, shape ([trial,] time[, output]), optional
        What was seen before, and at the times of the forecast. Arrays without times end at the row before
        the forecast, and begin with it.
    ax : matplotlib.axes.Axes, optional
        Where to draw.
    trial : int, default 0
        Which trial of labelled arrays, by position.
    n_past : int, optional
        How many rows of the past to show; by default twice as many as are forecast.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        As :func:`prediction`, or if past or truth have other outputs.

    Examples
    --------
    >>> import numpy as np
    >>> import hidamari as hd
    >>> y = np.sin(np.arange(300) / 5) + 0.1 * np.random.default_rng(0).standard_normal(300)
    >>> ds = hd.ARNet().fit(y[:250]).forecast(50)
    >>> ax = hd.plotting.forecast(ds, past=y[:250], truth=y[250:])
    >>> [float(x) for x in ax.get_xlim()]
    [150.0, 299.0]
    """
    ax = prediction(ds, ax=ax, trial=trial)
    ax.lines[-1].set_linewidth(1.8)
    time = np.asarray(_of_trial(variable(ds, "mean"), trial)["time"].values)
    n_outputs = ds["mean"].sizes.get("output", 1)
    colours = [INK] if n_outputs == 1 else [PALETTE[o % len(PALETTE)] for o in range(n_outputs)]
    first = time[0]
    if len(time) == 1:  # a band of a single row has no width
        for o, (low, high) in enumerate(
            zip(*(np.ravel(_of_trial(ds[e], trial)) for e in ("lower", "upper")))
        ):
            ax.errorbar(
                time, [(low + high) / 2], (high - low) / 2, color=PALETTE[o % len(PALETTE)], capsize=4
            )
    if past is not None:
        n_past = 2 * len(time) if n_past is None else n_past
        rows, times = _rows("past", past, trial, n_outputs)
        rows = rows[max(len(rows) - n_past, 0) :]
        if times is None:
            step = time[1] - time[0] if len(time) > 1 else np.ones(1, time.dtype)[0]
            times = time[0] - step * np.arange(len(rows), 0, -1)
        times = times[len(times) - len(rows) :]
        for o, colour in enumerate(colours):
            own = GREY if n_outputs == 1 else colour
            ax.plot(times, rows[:, o], color=own, linewidth=0.9, zorder=2, label=f"past {o}")
        first = times[0] if len(times) else first
        ax.axvline(time[0], color=PALE, linewidth=1.0, zorder=0)
    if truth is not None:
        rows, times = _rows("truth", truth, trial, n_outputs)
        times = time[: len(rows)] if times is None else times
        size = float(np.clip(60 / np.sqrt(max(len(times), 1)), 1.8, 4.0))
        for o, colour in enumerate(colours):
            style = {"markersize": size, "markeredgewidth": 0, "label": f"truth {o}"}
            ax.plot(times, rows[: len(times), o], "o", color=colour, alpha=0.6, zorder=2.5, **style)
    for text in list(ax.texts):  # names where the lines end meet where forecasts have come to their means
        text.remove()
    if n_outputs > 1:
        named = [line for line in ax.lines if str(line.get_label()).startswith("output")]
        ax.legend(handles=named, frameon=False)
    _name_quantity(ax, past)
    caption = ax.get_title(loc="left") + ", dots: what came" * (truth is not None)
    ax.set_title(caption, loc="left", fontsize="small", color=GREY)
    if first < time[-1]:
        ax.set_xlim(first, time[-1])
    return ax


def spectrum(ds, y=None, ax=None, step=None, trial=0):
    """Draw the power spectral density of an autoregression above the periodogram of the data.

    Both are two-sided densities, and both axes logarithmic. Pale: the periodogram, after a window of Hann;
    dots: its means over bands. Values that are missing count as the mean.

    Parameters
    ----------
    ds : xarray.DataArray, dims ([output,] frequency)
        From ``ARNet.spectrum``.
    y : xarray.DataArray or array, shape ([trial,] time[, output]), optional
        The series that was fitted.
    ax : matplotlib.axes.Axes, optional
        Where to draw.
    step : float, optional
        Time from one row of y to the next; by default as its times say, or 1.
    trial : int, default 0
        Which trial of y, by position.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there is no dimension ``frequency``, or y has other outputs.

    Examples
    --------
    >>> import numpy as np
    >>> import hidamari as hd
    >>> y = np.random.default_rng(0).standard_normal(500).cumsum()
    >>> ax = hd.plotting.spectrum(hd.ARNet(1).fit(y).spectrum(), y)
    >>> ax.get_xscale(), ax.get_yscale()
    ('log', 'log')
    """
    rows, names = _curves(ds, "frequency")
    freqs = np.asarray(ds["frequency"].values, dtype=float)
    ax = new_axes(ax, 3.6, 6.4)
    caption, floor = "autoregression", None
    if y is not None:
        values, times = _rows("y", y, trial, len(rows))
        if step is None:
            step = 1.0 if times is None else _seconds_or_units(times)
        colours = [GREY] if len(rows) == 1 else [PALETTE[o % len(PALETTE)] for o in range(len(rows))]
        floor = min(_periodogram(ax, values[:, o], step, colour) for o, colour in enumerate(colours))
        caption = "line: autoregression, dots: periodogram in bands, pale: all of it"
    here = freqs > 0.0
    for o, row in enumerate(rows):
        ax.plot(freqs[here], row[here], color=PALETTE[o % len(PALETTE)], linewidth=1.8, zorder=4)
        if len(rows) > 1:
            name_at(ax, freqs[here][-1], row[here][-1], f"output {names[o]}", PALETTE[o % len(PALETTE)])
    unit = ds["frequency"].attrs.get("units", "cycles per unit of time")
    ax.set(xscale="log", yscale="log", xlabel=f"frequency ({unit})", ylabel="power spectral density")
    if "units" in ds.attrs:
        ax.set_ylabel(f"power spectral density ({ds.attrs['units']})")
    ax.set_ylim(floor, None)  # a periodogram's lowest values, near 0, say nothing
    ax.set_title(caption, loc="left", fontsize="small", color=GREY)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def impulse_response(ds, ax=None):
    """Draw how long a unit shock is felt.

    Parameters
    ----------
    ds : xarray.DataArray, dims ([output,] lag)
        From ``ARNet.impulse_response``.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there is no dimension ``lag``.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import hidamari as hd
    >>> response = xr.DataArray(0.9 ** np.arange(30), {"lag": np.arange(30)}, ("lag",))
    >>> hd.plotting.impulse_response(response).get_xlabel()
    'rows after the shock'
    """
    from matplotlib.ticker import MaxNLocator

    rows, names = _curves(ds, "lag")
    lags = ds["lag"].values
    ax = new_axes(ax, 3.0, 6.4)
    ax.axhline(0.0, color=INK, linewidth=0.7, zorder=1)
    few = len(lags) <= 60
    for o, row in enumerate(rows):
        colour = PALETTE[o % len(PALETTE)]
        marker = {"marker": "o", "markersize": 3.5} if few else {}
        ax.plot(lags, row, color=colour, linewidth=1.4, zorder=3, label=f"output {names[o]}", **marker)
        if len(rows) == 1 and few:
            ax.vlines(lags, 0.0, row, color=colour, linewidth=0.8, alpha=0.4, zorder=2)
    if len(rows) > 1:
        ax.legend(frameon=False)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="rows after the shock", ylabel="response to a unit shock")
    ax.set_xlim(-0.02 * lags[-1], lags[-1])
    ax.spines[["top", "right"]].set_visible(False)
    return ax


# ------------------------------------------------------------------------------------------------ small parts


def _by_lag(ds, output):
    """Lags in order, with estimates, ends of intervals, and which of them were chosen."""
    draws = getattr(ds, "children", {}).get("posterior", ds)
    if "coef" in getattr(draws, "data_vars", {}):
        coef = draws["coef"].transpose("chain", "draw", "coefficient")
        low, middle, high = np.quantile(coef.values, [0.025, 0.5, 0.975], axis=(0, 1))
        names, chosen = coef["coefficient"].values, np.ones(len(middle), dtype=bool)
    else:
        parts = [variable(ds, name) for name in ("estimate", "standard_error", "support")]
        if "coefficient" not in parts[0].dims:
            raise ValueError(f"ds has dims {parts[0].dims}; needed is one named 'coefficient'")
        if "output" in parts[0].dims:
            if not -parts[0].sizes["output"] <= output < parts[0].sizes["output"]:
                raise ValueError(f"output is {output}, but there are {parts[0].sizes['output']} outputs")
            parts = [part.isel(output=output) for part in parts]
        middle, half, chosen = parts[0].values, Z95 * parts[1].values, parts[2].values.astype(bool)
        low, high, names = middle - half, middle + half, parts[0]["coefficient"].values
    own = np.array([str(name).startswith("lag ") for name in names], dtype=bool)
    if not own.any():
        raise ValueError(f"ds has no coefficient of a lag, found {list(map(str, names))[:6]}")
    lags = np.array([int(str(name)[4:]) for name in names[own]])
    return lags, middle[own], low[own], high[own], chosen[own]


def _curves(ds, dim):
    """Rows (output, dim) of an array, and the names of the outputs."""
    if dim not in getattr(ds, "dims", ()):
        raise ValueError(f"ds has dims {getattr(ds, 'dims', None)}; needed is one named {dim!r}")
    if "output" not in ds.dims:
        return ds.values[None], [""]
    return ds.transpose("output", dim).values, list(ds["output"].values)


def _of_trial(array, trial):
    """One trial of a labelled array, with its own times."""
    if "trial" in array.dims:
        array = array.isel(trial=trial)
        if "trial_time" in array.coords:
            array = array.assign_coords(time=("time", array["trial_time"].values))
    return array


def _rows(name, values, trial, n_outputs):
    """Values (time, output) and their times, None where they have none."""
    times = None
    if hasattr(values, "dims"):
        values = _of_trial(values, trial)
        values = values.transpose("time", *[dim for dim in values.dims if dim != "time"])
        times = values["time"].values if "time" in values.coords else None
        values = values.values
    values = np.asarray(values, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[1] != n_outputs:
        raise ValueError(f"{name} has shape {values.shape}; allowed: (time, {n_outputs})")
    return values, times


def _seconds_or_units(times):
    """Typical step of times, in seconds where they are dates."""
    step = np.median(np.diff(times))
    return float(step / np.timedelta64(1, "s")) if np.issubdtype(times.dtype, np.datetime64) else float(step)


def _name_quantity(ax, values):
    """Label the axes as the data are, whose names and units a model does not know."""
    about = getattr(values, "attrs", {})
    name, unit = about.get("long_name", ""), about.get("units", "")
    if name or unit:
        ax.set_ylabel(f"{name} ({unit})" if name and unit not in ("", "1") else name or unit)
    clock = values["time"].attrs.get("units", "") if hasattr(values, "dims") else ""
    if clock:
        ax.set_xlabel(clock if clock == "year" else f"time ({clock})")


def _periodogram(ax, y, step, colour):
    """Draw the two-sided periodogram of a series about its mean, and its means over bands; tell its depth."""
    from scipy.signal import periodogram

    centred = np.nan_to_num(y - np.nanmean(y))
    share = np.isfinite(y).mean()
    freqs, power = periodogram(centred, 1.0 / step, window="hann", return_onesided=False)
    here = freqs > 0.0
    freqs, power = freqs[here], power[here] / share
    ax.plot(freqs, power, color=colour, linewidth=0.5, alpha=0.25, zorder=1)
    edges = np.geomspace(freqs[0], freqs[-1] * (1 + 1e-9), _BINS + 1)
    band = np.searchsorted(edges, freqs, side="right") - 1
    count = np.bincount(band, minlength=_BINS)[:_BINS]
    full = count > 0
    means = [np.bincount(band, weights, _BINS)[:_BINS][full] / count[full] for weights in (freqs, power)]
    ax.plot(*means, "o", color=colour, markersize=3, alpha=0.9, zorder=3)
    return np.quantile(power, 0.02)
