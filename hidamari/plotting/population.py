"""Populations as pictures: latents, rates and spikes over time in seconds."""

import numpy as np

from hidamari.plotting._style import GREY, INK, PALE, PALETTE, Z95, name_at, new_axes, nice, signed, variable

__all__ = ["latents", "peak_order", "raster", "rates"]

_MAX_LINES = 8  # more units than this are a picture, not lines


def latents(ds, ax=None, trial=0, truth=None):
    """Draw the posterior mean of each latent with its 95 % band, one lane each.

    Parameters
    ----------
    ds : xarray.Dataset
        ``latent_mean`` and ``latent_var`` with dims ([trial,] time, latent), as ``smooth`` returns them.
    ax : matplotlib.axes.Axes, optional
        Where to draw.
    trial : int, default 0
        Which trial, by position.
    truth : array_like (time, latent), optional
        True trajectories, drawn in black; align them to the estimate first.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a variable, a dimension or the trial is not there, or `truth` has another shape.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import hidamari as hd
    >>> dims = ("time", "latent")
    >>> seconds = np.arange(200) * 0.05
    >>> mean = np.sin(seconds[:, None] + [0.0, 1.0])
    >>> ds = xr.Dataset(
    ...     {"latent_mean": (dims, mean), "latent_var": (dims, np.full_like(mean, 0.04))}, {"time": seconds}
    ... )
    >>> hd.plotting.latents(ds).get_xlabel()
    'time (s)'
    """
    mean = _one_trial(variable(ds, "latent_mean"), trial, "latent")
    half = Z95 * np.sqrt(_one_trial(variable(ds, "latent_var"), trial, "latent").values)
    time, centre = mean["time"].values, mean.values
    names = [f"latent {name}" for name in mean["latent"].values]
    ax = new_axes(ax, 1.2 + 0.8 * len(names))
    offsets = _lanes(centre - half, centre + half)
    if truth is not None:
        truth = np.asarray(truth, dtype=float)
        if truth.shape != centre.shape:
            raise ValueError(f"truth has shape {truth.shape}, the trial's latents have {centre.shape}")
    for l, (name, offset) in enumerate(zip(names, offsets)):
        colour = PALETTE[l % len(PALETTE)]
        middle = centre[:, l] + offset
        ax.axhline(offset, color=PALE, linewidth=0.8, zorder=0)
        ax.fill_between(time, middle - half[:, l], middle + half[:, l], color=colour, alpha=0.22, linewidth=0)
        if truth is not None:
            ax.plot(time, truth[:, l] + offset, color=INK, linewidth=0.9)
        ax.plot(time, middle, color=colour, linewidth=1.6, label=name)
        name_at(ax, time[-1], middle[-1], name, colour)
    _lane_ticks(ax, offsets, nice(0.6 * np.abs(centre).max(initial=0.0)), negative=True)
    _finish(ax, mean, "posterior mean and 95 % band" + (", truth in black" if truth is not None else ""))
    return ax


def rates(ds, ax=None, trial=0, units=None, order=None, counts=None):
    """Draw firing rates in spikes per second: lines for a few units, a map for many.

    Parameters
    ----------
    ds : xarray.Dataset or xarray.DataArray
        ``rate`` with dims ([trial,] time, unit).
    ax : matplotlib.axes.Axes, optional
        Where to draw.
    trial : int, default 0
        Which trial, by position.
    units : sequence, optional
        Ids of the units to draw, as in the coordinate ``unit``; all by default. Up to eight become lines.
    order : sequence of int, optional
        Positions of the units from the top down, such as :func:`peak_order` gives.
    counts : array_like (time, unit), optional
        Counts per bin of all units, drawn as ticks under the lines. Only with lines.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the variable, a dimension, the trial or a unit is not there, or `counts` has another shape.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import hidamari as hd
    >>> seconds = np.arange(100) * 0.1
    >>> values = np.exp(np.sin(seconds[:, None] + np.arange(30)))
    >>> rate = xr.DataArray(values, {"time": seconds}, ("time", "unit"))
    >>> hd.plotting.rates(rate, order=hd.plotting.peak_order(rate)).get_ylabel()
    '30 units, reordered'
    """
    rate = _one_trial(variable(ds, "rate"), trial, "unit")
    names = rate["unit"].values.tolist()
    if counts is not None:
        counts = np.asarray(counts, dtype=float)
        if counts.shape != rate.shape:
            raise ValueError(f"counts has shape {counts.shape}, the trial's rate has {rate.shape}")
    if units is not None:
        missing = [unit for unit in units if unit not in names]
        if missing:
            raise ValueError(f"units has {missing[:5]}, which are not in the coordinate 'unit'")
        order = [names.index(unit) for unit in units]
    rows = _rows(order, len(names))
    if len(rows) > _MAX_LINES:
        if counts is not None:
            raise ValueError(f"counts are drawn under lines, for at most {_MAX_LINES} units, not {len(rows)}")
        return _rate_map(rate, rows, names, ax, order is not None)
    return _rate_lines(rate, rows, names, ax, counts)


def raster(counts, ax=None, trial=0, order=None):
    """Draw binned spikes as ticks; n spikes of one bin are n ticks spread evenly over it.

    Bins that were not observed (NaN) are shaded.

    Parameters
    ----------
    counts : xarray.DataArray
        Counts with dims ([trial,] time, unit), as ``bin_spikes`` returns them.
    ax : matplotlib.axes.Axes, optional
        Where to draw.
    trial : int, default 0
        Which trial, by position.
    order : sequence of int, optional
        Positions of the units from the top down, such as :func:`peak_order` gives.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a dimension or the trial is not there, or a count is negative.

    Examples
    --------
    >>> import hidamari as hd
    >>> counts = hd.bin_spikes([[0.1, 0.15, 0.9], [0.5]], 0.1, t_start=0.0, t_stop=1.0)
    >>> hd.plotting.raster(counts).get_xlabel()
    'time (s)'
    """
    counts = _one_trial(variable(counts, "counts"), trial, "unit")
    names, width, time = counts["unit"].values, _bin_s(counts), counts["time"].values
    rows = _rows(order, len(names))
    values = counts.values[:, rows].astype(float)
    at, lane = _spread(values, time, width)
    unseen = np.isnan(values)
    ax = new_axes(ax, _map_height(len(rows)))
    thin = 0.5 if len(rows) > 40 else 0.8
    ax.vlines(at, lane - 0.42, lane + 0.42, color=INK, linewidth=thin, rasterized=len(at) > 20_000)
    if unseen.any():
        from matplotlib.colors import ListedColormap

        shade = np.where(unseen.T, 1.0, np.nan)
        ax.pcolormesh(_edges(counts), np.arange(len(rows) + 1) - 0.5, shade,
                      cmap=ListedColormap([PALE]), zorder=0, rasterized=True)  # fmt: skip
    _unit_ticks(ax, [names[row] for row in rows], order is not None)
    caption = f"{len(at):,} spikes of {len(rows)} units" + (", grey: not observed" if unseen.any() else "")
    _finish(ax, counts, caption)
    return ax


def peak_order(rate, trial=0):
    """Order units by the time at which their rate is highest.

    Parameters
    ----------
    rate : xarray.Dataset or xarray.DataArray
        ``rate`` with dims ([trial,] time, unit).
    trial : int, default 0
        Which trial, by position.

    Returns
    -------
    ndarray of int, shape (unit,)
        Positions of the units, earliest peak first.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import hidamari as hd
    >>> rate = xr.DataArray(np.eye(3)[:, [2, 0, 1]], {"time": [0.0, 1.0, 2.0]}, ("time", "unit"))
    >>> hd.plotting.peak_order(rate)
    array([1, 2, 0])
    """
    values = _one_trial(variable(rate, "rate"), trial, "unit").values
    return np.argsort(np.nan_to_num(values, nan=-np.inf).argmax(axis=0), kind="stable")


# ------------------------------------------------------------------------------------- the two faces of rates


def _rate_map(rate, rows, names, ax, ordered):
    """Draw the rates of many units as a map with its colour bar."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    ax = new_axes(ax, _map_height(len(rows)))
    values = rate.values[:, rows].T
    top = np.nanquantile(values, 0.995)
    edges = _edges(rate)
    # A square root gives slow and fast units alike their share of the scale: it evens out Poisson noise.
    norm = PowerNorm(0.5, vmin=0.0, vmax=top if top > 0 else 1.0)
    ink = LinearSegmentedColormap.from_list("ink", ["#FFFFFF", "#9CC7E3", PALETTE[0], "#06243C"])
    mesh = ax.pcolormesh(edges, np.arange(len(rows) + 1) - 0.5, values, cmap=ink, norm=norm, rasterized=True)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.01, fraction=0.03, extend="max")
    bar.set_ticks(_scale_ticks(norm.vmax))
    bar.set_label(_rate_label(rate))
    bar.outline.set_visible(False)
    _unit_ticks(ax, [names[row] for row in rows], ordered)
    _finish(ax, rate, "square-root colour scale")
    return ax


def _rate_lines(rate, rows, names, ax, counts):
    """Draw the rates of a few units as lines in lanes, their spikes as ticks under them."""
    time, values = rate["time"].values, rate.values[:, rows]
    ax = new_axes(ax, 1.2 + 0.8 * len(rows))
    highest = np.nanmax(values, initial=0.0)
    height = highest if highest > 0 else 1.0
    offsets = -(1.15 if counts is None else 1.35) * height * np.arange(len(rows))
    for i, (row, offset) in enumerate(zip(rows, offsets)):
        colour = PALETTE[i % len(PALETTE)]
        ax.axhline(offset, color=PALE, linewidth=0.8, zorder=0)
        if counts is not None:
            at, _ = _spread(counts[:, [row]], time, _bin_s(rate))
            ax.vlines(at, offset - 0.2 * height, offset - 0.06 * height, color=colour, linewidth=0.7)
        ax.plot(time, values[:, i] + offset, color=colour, linewidth=1.6, label=f"unit {names[row]}")
        name_at(ax, time[-1], values[-1, i] + offset, f"unit {names[row]}", colour)
    _lane_ticks(ax, offsets, nice(0.8 * highest), negative=False)
    ax.set_ylabel(_rate_label(rate))
    _finish(ax, rate, "rate above, spikes below" if counts is not None else "")
    return ax


# ------------------------------------------------------------------------------------------------ small parts


def _map_height(n):
    """Return the height in inches at which n rows can be told apart, and named while that is done."""
    return 1.2 + min(6.0, max(0.06 * n, min(0.17 * n, 3.5)))


def _one_trial(array, trial, second):
    """Return the (time, second) array of one trial, without the padding of shorter ones."""
    wanted = {"time", second}
    if set(array.dims) - {"trial"} != wanted:
        raise ValueError(f"{array.name} has dims {array.dims}, needed are ([trial,] time, {second})")
    if "time" not in array.coords:
        raise ValueError(f"{array.name} has no coordinate 'time' in seconds")
    if "trial" in array.dims:
        if not -array.sizes["trial"] <= trial < array.sizes["trial"]:
            raise ValueError(f"trial is {trial}, but there are {array.sizes['trial']} trials")
        array = array.isel(trial=trial)
        if "n_bins" in array.coords:
            array = array.isel(time=slice(int(array["n_bins"])))
    return array.transpose("time", second)


def _bin_s(array):
    """Return the width of a bin: as recorded, or else the usual distance of two times."""
    time = array["time"].values
    return float(array.attrs.get("bin_s", np.median(np.diff(time)) if len(time) > 1 else 1.0))


def _rate_label(rate):
    """Name a rate with its unit, spikes per second where the array does not say."""
    return f"rate ({rate.attrs.get('units', 'spikes/s')})"


def _edges(array):
    """Return the edges of the bins whose centres the coordinate `time` holds."""
    time, width = array["time"].values, _bin_s(array)
    return np.append(time - width / 2, time[-1] + width / 2)


def _spread(counts, time, width):
    """Return the times and columns of ticks: n spikes of a bin stand evenly in it."""
    if np.nanmin(counts, initial=0.0) < 0:
        raise ValueError("counts has negative entries; allowed are counts and NaN")
    spikes = np.nan_to_num(counts).astype(int)
    row, column = np.nonzero(spikes)
    n = spikes[row, column]
    place = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    at = np.repeat(time[row], n) + ((place + 0.5) / np.repeat(n, n) - 0.5) * width
    return at, np.repeat(column, n)


def _rows(order, n):
    """Return the positions of units from the top down."""
    rows = list(range(n)) if order is None else [int(i) for i in order]
    if any(not 0 <= row < n for row in rows) or len(set(rows)) < len(rows):
        raise ValueError(f"order must hold different positions from 0 to {n - 1}, found {rows[:10]}")
    return rows


def _lanes(lower, upper):
    """Return offsets, evenly spaced downwards, at which no band touches the next."""
    gap = np.max(upper[:, 1:] - lower[:, :-1], initial=0.0)
    return -1.05 * (gap if gap > 0 else 1.0) * np.arange(lower.shape[1])


def _scale_ticks(top):
    """Return 0 and those of 1, 2, 5 times powers of ten that a square-root scale up to `top` has room for."""
    decade = 10.0 ** np.floor(np.log10(top))
    marks = [step * decade / 10**back for back in (0, 1) for step in (1, 2, 5)]
    return [0.0, *sorted(mark for mark in marks if top / 40 <= mark <= top)]


def _lane_ticks(ax, offsets, step, negative):
    """Give every lane its own scale: zero, one step up, and one down."""
    marks = (-step, 0.0, step) if negative else (0.0, step)
    ax.set_yticks([offset + mark for offset in offsets for mark in marks])
    labels = [signed(mark, "g") for mark in marks]
    ax.set_yticklabels(labels * len(offsets), fontsize="small", color=GREY)
    ax.tick_params(axis="y", length=2, color=GREY)
    ax.spines["left"].set_visible(False)


def _unit_ticks(ax, names, ordered):
    """Name the units when there is room, count them when not; the first is at the top."""
    ax.set_ylim(len(names) - 0.5, -0.5)
    named = len(names) <= 25
    ax.set_ylabel("unit" if named else f"{len(names)} units" + (", reordered" if ordered else ""))
    ax.set_yticks(range(len(names)) if named else [], names if named else [], fontsize="small")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _finish(ax, array, caption):
    """Label time, drop the frame, and say above the axes what is drawn."""
    ax.set_xlim(*_edges(array)[[0, -1]])
    if ax.xaxis.get_tick_params().get("labelbottom", True):  # not above another that shares its times
        ax.set_xlabel("time (s)")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(caption, loc="left", fontsize="small", color=GREY)
