"""Change points as pictures: where a recording changes, how sure that is, and what a penalty buys."""

import numpy as np

from hidamari.plotting._style import GREY, INK, PALETTE, name_at, new_axes

__all__ = ["change_points", "penalty_path"]

_LINES = 6  # units that are drawn as lines; more become an image


def change_points(y, model, ax=None):
    """Draw a recording with its change points, their intervals, and the level of each segment.

    Parameters
    ----------
    y : array or labelled array, shape (time,) or (time, unit)
        What the model was fitted to. Up to six units are drawn as lines, more as an image.
    model : DCDP
        Fitted; anything with ``change_points_`` and ``segments_``, and perhaps ``intervals_``, will do.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the model has no change points yet, or y has other rows than it was fitted to.

    Examples
    --------
    >>> import numpy as np
    >>> import hidamari as hd
    >>> y = np.random.default_rng(0).normal(size=200) + 3.0 * (np.arange(200) >= 80)
    >>> ax = hd.plotting.change_points(y, hd.DCDP().fit(y))
    >>> ax.get_xlabel()
    'row'
    """
    if not hasattr(model, "change_points_"):
        raise ValueError(f"model must be fitted, found {model!r}")
    values = np.asarray(y, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    edges = np.append(model.segments_["start"].values, model.segments_["end"].values[-1])
    if values.ndim != 2 or len(values) != edges[-1]:
        raise ValueError(f"y has shape {np.shape(y)}; the model was fitted to {edges[-1]} rows")
    time, name = _clock(y, len(values))
    ax = new_axes(ax, 3.6)
    # A row's mark begins half a step before it, so that a change stands between two rows.
    at = np.interp(edges - 0.5, np.arange(len(time)), time)
    at[0], at[-1] = time[0], time[-1]
    if values.shape[1] > _LINES:
        span = (time[0], time[-1], -0.5, values.shape[1] - 0.5)
        ax.imshow(values.T, aspect="auto", origin="lower", extent=span, cmap="Greys", interpolation="nearest")
        ax.set_ylabel("unit")
    else:
        _draw_lines(ax, time, values, at, _levels(model))
    for first, last in np.asarray(getattr(model, "intervals_", np.empty((0, 2)))):
        low, high = np.interp([first - 0.5, last + 0.5], np.arange(len(time)), time)
        ax.axvspan(low, high, color=PALETTE[1], alpha=0.25, linewidth=0, zorder=1)
    width = 1.2 if len(edges) < 20 else 0.6
    for place in at[1:-1]:
        ax.axvline(place, color=PALETTE[1], linewidth=width, zorder=4)
    ax.set(xlim=(time[0], time[-1]), xlabel=name)
    count = len(edges) - 2
    caption = f"{count} change point{'s' * (count != 1)}"
    if count and hasattr(model, "intervals_"):
        caption += f" with {100 * model.interval:g} % intervals"
    ax.set_title(caption, loc="left", fontsize="small", color=GREY)
    return ax


def penalty_path(path, chosen=None, ax=None):
    """Draw how many change points are best for every penalty of a range.

    Long steps are numbers of changes that do not hang on the penalty.

    Parameters
    ----------
    path : PenaltyPath
        From ``DCDP.path``.
    chosen : float, optional
        A penalty to mark, as ``penalty_`` of a fitted model.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If ``path`` is something else, or ``chosen`` is not a positive number.

    Examples
    --------
    >>> import numpy as np
    >>> import hidamari as hd
    >>> y = np.random.default_rng(0).normal(size=200) + 3.0 * (np.arange(200) >= 80)
    >>> model = hd.DCDP().fit(y)
    >>> hd.plotting.penalty_path(model.path(y), model.penalty_).get_xscale()
    'log'
    """
    from matplotlib.ticker import MaxNLocator

    if not hasattr(path, "penalties") or not hasattr(path, "n_changes"):
        raise ValueError(f"path must be a PenaltyPath, found {type(path).__name__}")
    if chosen is not None and not chosen > 0:
        raise ValueError(f"chosen must be a positive number, found {chosen!r}")
    ax = new_axes(ax, 3.2, 5.0)
    ax.stairs(path.n_changes, path.penalties, baseline=None, color=PALETTE[0], linewidth=1.6)
    ax.set_xscale("log")
    if chosen is not None:
        ax.axvline(chosen, color=PALETTE[1], linewidth=1.2)
        name_at(ax, chosen, max(path.n_changes), f"{chosen:.3g}", PALETTE[1])
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="penalty", ylabel="change points", ylim=(-0.5, None))
    return ax


def _draw_lines(ax, time, values, at, levels):
    """Draw each unit as dots or a line, and its level in every segment."""
    units = values.shape[1]
    for j in range(units):
        colour = PALETTE[0] if units == 1 else PALETTE[(j + (j >= 1)) % len(PALETTE)]
        ax.plot(time, values[:, j], color=colour if units > 1 else GREY, linewidth=0.6, alpha=0.8, zorder=2)
        if levels is not None and levels.shape[1] == units:
            ax.hlines(
                levels[:, j], at[:-1], at[1:], color=colour if units > 1 else INK, linewidth=1.8, zorder=3
            )


def _levels(model):
    """Level of every unit in each segment, (segment, unit), in the units of y; None where there is none."""
    segments = model.segments_
    if "mean" in segments:
        return segments["mean"].values
    exposure = np.asarray(getattr(model, "exposure", 1.0), dtype=float)
    return segments["rate"].values * exposure if "rate" in segments and exposure.ndim == 0 else None


def _clock(y, n):
    """Positions of the rows on the axis and the axis's name."""
    if hasattr(y, "dims"):
        dim = "time" if "time" in y.dims else y.dims[0]
        if dim in y.coords and np.issubdtype(y.coords[dim].dtype, np.number):
            unit = y.coords[dim].attrs.get("units")
            return y.coords[dim].values.astype(float), f"{dim} ({unit})" if unit else str(dim)
    index = getattr(y, "index", None)
    if index is not None and not callable(index) and np.issubdtype(np.asarray(index).dtype, np.number):
        return np.asarray(index, dtype=float), str(index.name or "row")
    return np.arange(n, dtype=float), "row"
