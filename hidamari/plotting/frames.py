"""Sequences of frames as pictures: strips of images, and single entries with what was filled in."""

import numpy as np

from hidamari.plotting._style import GREY, INK, PALE, PALETTE, Z95, new_axes, nice, signed, variable

__all__ = ["frames", "imputation"]

_GAP = 0.12  # between frames, in widths of one
_UNSEEN = (0.82, 0.89, 0.95, 1.0)  # a pixel that was not observed: a blue that no grey can be taken for
_MAX_LANES = 8


def frames(ds, seen=None, truth=None, ax=None, trial=0, n_frames=10, deviation=False):
    """Draw a strip of images over time: the truth, what was seen of it, and what was filled in.

    Grey levels are those of what was given, dark for large values.

    Parameters
    ----------
    ds : xarray.Dataset
        ``mean`` and ``var`` with dims ([trial,] time, row, column), as ``impute`` returns them.
    seen, truth : array_like ([trial,] time, row, column), optional
        What was observed, with NaN (drawn in light blue) where it was not; what there was.
    ax : matplotlib.axes.Axes, optional
        Where to draw.
    trial : int, default 0
        Which trial, by position.
    n_frames : int, default 10
        Number of frames, evenly spaced in the trial.
    deviation : bool, default False
        Draw the standard deviation too, black at its largest.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a variable or the trial is not there, frames are not images, or shapes do not agree.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import hidamari as hd
    >>> mean = np.random.default_rng(0).uniform(size=(20, 8, 8))
    >>> dims = ("time", "row", "column")
    >>> ds = xr.Dataset({"mean": (dims, mean), "var": (dims, 0 * mean)}, {"time": np.arange(20.0)})
    >>> seen = np.where(np.arange(20)[:, None, None] % 2, np.nan, mean)
    >>> [label.get_text() for label in hd.plotting.frames(ds, seen).get_yticklabels()]
    ['seen', 'filled in']
    """
    mean = _one_trial(variable(ds, "mean"), trial)
    if mean.ndim != 3:
        raise ValueError(f"ds['mean'] has frames with dims {mean.dims[1:]}; images need (row, column)")
    rows = {}
    for name, given in (("truth", truth), ("seen", seen)):
        if given is not None:
            rows[name] = _like(given, mean, trial, name)
    rows["filled in"] = mean.values
    if deviation:
        rows["deviation"] = np.sqrt(_one_trial(variable(ds, "var"), trial).values)
    if not isinstance(n_frames, int) or n_frames < 1:
        raise ValueError(f"n_frames must be a whole number of at least 1, found {n_frames!r}")
    filled = np.flatnonzero(np.isfinite(mean.values).any((1, 2)))  # behind the end of a trial is padding
    at = np.unique(filled[np.rint(np.linspace(0, len(filled) - 1, n_frames)).astype(int)])
    given = [own[at] for name, own in rows.items() if name in ("truth", "seen")]
    shared = [own for own in given if np.isfinite(own).any()] or [mean.values[at]]
    low, high = min(np.nanmin(own) for own in shared), max(np.nanmax(own) for own in shared)
    height, width = mean.shape[1:]
    step_x, step_y = width * (1 + _GAP), height * (1 + 1.6 * _GAP)
    ax = new_axes(ax, 0.35 + len(rows) * step_y / (len(at) * step_x) * 8.0)
    for k, (name, own) in enumerate(rows.items()):
        ends = (0.0, max(float(own[at].max()), 1e-300)) if name == "deviation" else (low, high)
        for n, row in enumerate(at):
            place = (n * step_x, n * step_x + width, k * step_y + height, k * step_y)
            ax.imshow(_grey(own[row], *ends), extent=place, interpolation="nearest", zorder=2)
            left, right, bottom, top = place
            box = ([left, right, right, left, left], [bottom, bottom, top, top, bottom])
            ax.plot(*box, color=PALE, linewidth=0.6, zorder=3)
    ax.set_xlim(-0.5 * _GAP * width, len(at) * step_x - 0.5 * _GAP * width)
    ax.set_ylim(len(rows) * step_y, -0.8 * _GAP * height)
    ax.set_aspect("equal")
    ax.set_yticks([k * step_y + 0.5 * height for k in range(len(rows))], list(rows))
    times = mean["time"].values[at] if "time" in mean.coords else at
    ax.set_xticks([n * step_x + 0.5 * width for n in range(len(at))], [_written(t) for t in times])
    ax.tick_params(length=0, labelsize="small")
    ax.spines[:].set_visible(False)
    ax.set_xlabel("time", color=GREY)
    return ax


def imputation(ds, seen=None, truth=None, ax=None, trial=0, entries=None):
    """Draw single entries of frames over time, one lane each: dots seen, a line and a 95 % band filled in.

    Parameters
    ----------
    ds : xarray.Dataset
        ``mean`` and ``var`` with dims ([trial,] time, ...), as ``impute`` or ``predict`` returns them.
    seen, truth : array_like ([trial,] time, ...), optional
        What was observed, NaN where it was not; what there was, a thin line in black.
    ax : matplotlib.axes.Axes, optional
        Where to draw.
    trial : int, default 0
        Which trial, by position.
    entries : sequence of int, optional
        Positions in the flat frame; by default the first eight.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a variable or the trial is not there, or shapes or entries do not agree.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import hidamari as hd
    >>> mean, dims = np.sin(np.arange(50.0)[:, None] / 5 + np.arange(3)), ("time", "unit")
    >>> ds = xr.Dataset({"mean": (dims, mean), "var": (dims, 0.01 + 0 * mean)}, {"time": np.arange(50.0)})
    >>> len(hd.plotting.imputation(ds).get_yticklabels())
    3
    """
    whole = _one_trial(variable(ds, "mean"), trial)
    mean = whole.values.reshape(len(whole), -1)
    half = Z95 * np.sqrt(_one_trial(variable(ds, "var"), trial).values.reshape(mean.shape))
    every = range(min(mean.shape[1], _MAX_LANES)) if entries is None else entries
    at = np.array(list(every), dtype=object)
    if not all(isinstance(n, (int, np.integer)) and 0 <= n < mean.shape[1] for n in at):
        raise ValueError(f"entries must be from 0 to {mean.shape[1] - 1}, found {list(at)}")
    at = at.astype(int)
    given = {"truth": truth, "seen": seen}
    rows = {
        name: _like(own, whole, trial, name).reshape(mean.shape)[:, at]
        for name, own in given.items()
        if own is not None
    }
    mean, half = mean[:, at], half[:, at]
    time = whole["time"].values if "time" in whole.coords else np.arange(len(mean))
    spans = [np.nanmax(own, 0) - np.nanmin(own, 0) for own in (mean - half, mean + half)]
    lane = 1.15 * float(np.max(spans)) or 1.0
    middles = np.nanmean(mean, 0)
    ax = new_axes(ax, 1.2 + 0.8 * len(at))
    labels = _labels(whole, at)
    for k in range(len(at)):
        colour, shift = PALETTE[k % len(PALETTE)], -k * lane - middles[k]
        line = mean[:, k] + shift
        ax.axhline(-k * lane, color=PALE, linewidth=0.8, zorder=0)
        ax.fill_between(time, line - half[:, k], line + half[:, k], color=colour, alpha=0.25, linewidth=0)
        if "truth" in rows:
            ax.plot(time, rows["truth"][:, k] + shift, color=INK, linewidth=0.8)
        ax.plot(time, line, color=colour, linewidth=1.2)
        if "seen" in rows:
            dots = {"color": colour, "markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.5}
            ax.plot(time, rows["seen"][:, k] + shift, "o", zorder=4, **dots)
    ax.set_yticks([-k * lane for k in range(len(at))], labels)
    tick, side = nice(0.5 * lane), ax.get_yaxis_transform()
    ax.plot([1.01, 1.01], [-tick / 2, tick / 2], color=GREY, transform=side, clip_on=False)
    written = {"color": GREY, "va": "center", "fontsize": "small", "annotation_clip": False}
    ax.annotate(signed(tick, "g"), (1.02, 0.0), xycoords=side, **written)
    ax.spines[["left", "top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0, labelsize="small")
    ax.set_xlabel("time")
    what = "mean and 95 % band" + ", dots: seen" * ("seen" in rows) + ", truth in black" * ("truth" in rows)
    ax.set_title(what, loc="left", fontsize="small", color=GREY)
    return ax


def _one_trial(values, trial):
    """Frames of one trial, time first."""
    if "time" not in values.dims:
        raise ValueError(f"ds has dims {values.dims}; ([trial,] time, ...) is needed")
    if "trial" in values.dims:
        if not 0 <= trial < values.sizes["trial"]:
            raise ValueError(f"trial must be from 0 to {values.sizes['trial'] - 1}, found {trial!r}")
        values = values.isel(trial=trial)
    values = values.transpose("time", ...)
    return values.isel(time=np.isfinite(values.values).reshape(values.sizes["time"], -1).any(1))


def _like(given, mean, trial, name):
    """An array in the shape of the trial's frames."""
    given = np.asarray(given, dtype=float)
    given = given[trial] if given.ndim == mean.ndim + 1 else given
    if given.shape[1:] != mean.shape[1:] or len(given) < len(mean):
        raise ValueError(f"{name} has shape {given.shape}, the trial's frames have {mean.shape}")
    return given[: len(mean)]


def _written(time):
    """A time as a label."""
    if isinstance(time, np.datetime64):
        return np.datetime_as_string(time, "D")
    return f"{float(time):.4g}"


def _grey(image, low, high):
    """An image as colours, dark for large values."""
    level = 1.0 - np.clip((image - low) / max(high - low, 1e-300), 0.0, 1.0)
    colours = np.stack([level] * 3 + [np.ones_like(level)], axis=-1)
    colours[np.isnan(image)] = _UNSEEN
    return colours


def _labels(frames, at):
    """Names of entries of a flat frame."""
    if frames.ndim == 2:
        dim = frames.dims[1]
        return [str(frames[dim].values[n]) if dim in frames.coords else str(n) for n in at]
    return [str(tuple(int(i) for i in np.unravel_index(n, frames.shape[1:]))) for n in at]
