"""Spike times into counts: half-open bins of one width, whole bins only, never across a gap."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["bin_spikes"]

# Bins of decimal width have edges that are not doubles: 0.3 / 0.1 is 2.9999999999999996. A billionth of a
# bin puts such a spike where its decimal says, and moves no spike that is further from an edge.
_EDGE = 1e-9
_SLOWEST_HZ = 0.01  # a median rate below this is more likely a wrong unit of time than a silent recording
_FAR = 100.0  # windows; spikes that far beyond their window are more likely in milliseconds
_UNIT_HINT = "Times look like milliseconds or sample numbers; they must be seconds"


def bin_spikes(
    spikes: Any,
    bin_s: float,
    t_start: float | None = None,
    t_stop: float | None = None,
    epochs: Any = None,
    units: Any = None,
    observed: Any = None,
) -> Any:
    """Count the spikes of each unit in bins of one width.

    A spike at t falls in bin floor((t - a) / bin_s + 1e-9) of a window that starts at a: bins are half open,
    [a, a + bin_s), and a spike on an edge whose decimal is not a double goes where its decimal says. Only
    whole bins are counted; what is left at the end of a window is dropped.

    Parameters
    ----------
    spikes : list of arrays, mapping, or list of trains
        Spike times in **seconds**, one array per unit: a list of 1-D arrays, a mapping from unit ids to
        arrays (a pynapple TsGroup is one), or a list of neo SpikeTrains, which are rescaled to seconds.
        Units without spikes are kept.
    bin_s : float
        Width of a bin in seconds.
    t_start, t_stop : float, optional
        The window in seconds. Needed unless `epochs` is given, `observed` says it, or all trains carry the
        same window (neo). It is never guessed from the first and last spike.
    epochs : pair, array of shape (epoch, 2), or object with `start` and `end`
        Windows in seconds instead of `t_start` and `t_stop`; each is binned by itself, from its own start.
        Spikes outside epochs are left out without a warning.
    units : sequence, optional
        For a list: the id of each unit (0, 1, ... by default). For a mapping: the keys to take, in order.
    observed : array of shape (interval, 2), mapping, or list, optional
        When each unit was observed, in seconds: intervals for all units, a mapping from unit ids to
        intervals (units not in it were always observed), or a list with one entry per unit. A bin that is
        not wholly inside an interval is NaN, which means "not observed", where 0 would mean "silent".

    Returns
    -------
    xarray.DataArray, or list of xarray.DataArray
        Counts (time, unit), int64, or float64 when entries are NaN. Coordinates: `time`, bin centres in
        seconds, and `unit`, the ids; attribute `bin_s`. A table of epochs gives a list, one array per epoch;
        a window or one pair gives one array.

    Raises
    ------
    ValueError
        If times are not finite numbers, the window is missing, empty or shorter than a bin, or ids do not
        match the units.

    Warns
    -----
    UserWarning
        If spikes lie outside the window, with how many; if times look like milliseconds or sample numbers.

    Examples
    --------
    >>> from hidamari.datasets import bin_spikes
    >>> counts = bin_spikes([[0.0, 0.1, 0.2, 0.3, 0.7], []], 0.1, t_start=0.0, t_stop=1.0)
    >>> counts.sel(unit=0).values
    array([1, 1, 1, 1, 0, 0, 0, 1, 0, 0])
    >>> counts.sizes["unit"], float(counts.time[0]), counts.attrs["bin_s"]
    (2, 0.05, 0.1)
    """
    bin_s = _positive(bin_s, "bin_s")
    ids, trains, carried = _read_units(spikes, units)
    intervals = _read_observed(observed, ids)
    if epochs is None:
        windows, single = _read_window(t_start, t_stop, carried, intervals), True
        _warn_outside(trains, windows[0], _EDGE * bin_s)
    elif t_start is None and t_stop is None:
        windows = _intervals(epochs, "epochs")
        single = not hasattr(epochs, "start") and np.ndim(epochs) == 1
    else:
        raise ValueError("epochs and t_start or t_stop were both given; allowed: one of them")
    lengths = np.floor((windows[:, 1] - windows[:, 0]) / bin_s + _EDGE).astype(np.int64)
    if lengths.min() < 1:
        a, b = windows[np.argmin(lengths)]
        raise ValueError(f"window {a:g} to {b:g} s is shorter than one bin, bin_s = {bin_s:g} s")
    blocks = [_count(trains, a, n, bin_s) for (a, _), n in zip(windows, lengths)]
    _warn_rates(np.sum([block.sum(axis=0) for block in blocks], axis=0), lengths.sum() * bin_s)
    starts = windows[:, 0].tolist()
    labelled = [_label(_hide(c, a, bin_s, intervals), a, bin_s, ids) for c, a in zip(blocks, starts)]
    return labelled[0] if single else labelled


def _count(trains: list[np.ndarray], start: float, n_bins: int, bin_s: float) -> np.ndarray:
    """Counts (time, unit) of sorted trains in one window."""
    counts = np.empty((n_bins, len(trains)), dtype=np.int64)
    for unit, train in enumerate(trains):
        near = np.searchsorted(train, [start - bin_s, start + (n_bins + 1) * bin_s])
        index = np.floor((train[slice(*near)] - start) / bin_s + _EDGE).astype(np.int64)
        counts[:, unit] = np.bincount(index[(index >= 0) & (index < n_bins)], minlength=n_bins)
    return counts


def _hide(counts: np.ndarray, start: float, bin_s: float, intervals: list) -> np.ndarray:
    """Counts with NaN in the bins that are not wholly inside a unit's intervals, if there are such."""
    seen = np.ones(counts.shape, dtype=bool)
    for unit, spans in enumerate(intervals):
        if spans is not None:
            seen[:, unit] = False
            for first, last in _merge(spans, bin_s):
                low = np.ceil((first - start) / bin_s - _EDGE)
                high = np.floor((last - start) / bin_s + _EDGE)
                seen[int(max(low, 0)) : int(max(high, 0)), unit] = True
    return counts if seen.all() else np.where(seen, counts, np.nan)


def _merge(spans: np.ndarray, bin_s: float) -> list[list[float]]:
    """Intervals in order, joined where they touch or overlap."""
    merged: list[list[float]] = []
    for first, last in spans[np.argsort(spans[:, 0])].tolist():
        if merged and first <= merged[-1][1] + _EDGE * bin_s:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    return merged


def _label(counts: np.ndarray, start: float, bin_s: float, ids: np.ndarray):
    """Counts with their coordinates."""
    import xarray as xr

    centres = start + (np.arange(len(counts)) + 0.5) * bin_s
    return xr.DataArray(
        counts,
        dims=("time", "unit"),
        coords={"time": ("time", centres, {"units": "s", "long_name": "centre of the bin"}), "unit": ids},
        name="counts",
        attrs={"bin_s": bin_s, "units": "spikes per bin"},
    )


def _read_units(spikes: Any, units: Any) -> tuple[np.ndarray, list[np.ndarray], tuple | None]:
    """Ids, sorted trains in seconds, and the window that all trains carry, if they do."""
    if hasattr(spikes, "keys"):
        known = list(spikes.keys())
        keys = known if units is None else list(units)
        for key in keys:
            if key not in known:
                raise ValueError(
                    f"units has {key!r}, which is no key of spikes; allowed: {sorted(known, key=str)}"
                )
        items = [spikes[key] for key in keys]
    elif isinstance(spikes, (list, tuple)) or (isinstance(spikes, np.ndarray) and spikes.dtype == object):
        items = list(spikes)
        keys = list(range(len(items))) if units is None else list(units)
        if len(keys) != len(items):
            raise ValueError(f"units has {len(keys)} ids but spikes has {len(items)} units; they must agree")
    else:
        raise ValueError(
            f"spikes is a {type(spikes).__name__}; allowed: a list with one array of times per unit "
            "(write [times] for one unit), or a mapping from unit ids to arrays"
        )
    if not items:
        raise ValueError("spikes holds no units; allowed: at least one, which may be empty")
    trains = [_read_train(item, key) for item, key in zip(items, keys)]
    windows = {_carried_window(item) for item in items}
    return _read_ids(keys), trains, windows.pop() if len(windows) == 1 else None


def _read_ids(keys: list) -> np.ndarray:
    """Unit ids as an array of numbers or strings, all different."""
    ids = np.asarray(keys)
    if (
        ids.ndim != 1
        or ids.dtype.kind not in "iufUb"
        or (ids.dtype.kind == "U") != all(isinstance(key, str) for key in keys)
    ):
        raise ValueError(f"unit ids are {keys[:3]!r}...; allowed: all numbers or all strings")
    if len(np.unique(ids)) != len(ids):
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        raise ValueError(f"unit ids hold {twice!r} twice; they must all be different")
    return ids


def _read_train(train: Any, key: Any) -> np.ndarray:
    """Sorted spike times of one unit as float64 seconds."""
    if hasattr(train, "rescale"):
        train = train.rescale("s")
        train = getattr(train, "magnitude", train)
    elif hasattr(train, "t") and not isinstance(train, np.ndarray):
        train = train.t
    if isinstance(train, np.ma.MaskedArray):
        train = train.compressed()
    times = np.asarray(train)
    if times.ndim != 1:
        raise ValueError(
            f"spikes of unit {key!r} have shape {times.shape}; allowed: a 1-D array of times in s"
        )
    if times.size and times.dtype.kind not in "iuf":
        raise ValueError(
            f"spikes of unit {key!r} are of type {times.dtype}; allowed: numbers, times in seconds"
        )
    times = times.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(times))
    if bad.size:
        raise ValueError(
            f"spikes of unit {key!r} hold {times[bad[0]]} at index {bad[0]}; allowed: finite times"
        )
    return np.sort(times)


def _carried_window(train: Any) -> tuple[float, float] | None:
    """The window that a neo SpikeTrain carries, in seconds."""
    if not all(hasattr(train, name) for name in ("rescale", "t_start", "t_stop")):
        return None
    start, stop = (getattr(train, name).rescale("s") for name in ("t_start", "t_stop"))
    return float(getattr(start, "magnitude", start)), float(getattr(stop, "magnitude", stop))


def _read_window(t_start, t_stop, carried, intervals) -> np.ndarray:
    """The one window (1, 2), from the arguments, else the trains, else the observed intervals."""
    if carried is None and all(spans is not None for spans in intervals):
        every = np.concatenate(intervals)
        carried = (every[:, 0].min(), every[:, 1].max())
    start, stop = carried or (None, None)
    start = start if t_start is None else t_start
    stop = stop if t_stop is None else t_stop
    for name, value in (("t_start", start), ("t_stop", stop)):
        if value is None:
            raise ValueError(
                f"{name} is missing and spikes do not carry it; allowed: t_start and t_stop in seconds, or "
                "epochs (from the first to the last spike would lose the silence around them)"
            )
    return _intervals((start, stop), "(t_start, t_stop)")


def _read_observed(observed: Any, ids: np.ndarray) -> list[np.ndarray | None]:
    """Observation intervals of each unit, None for a unit that was always observed."""
    if observed is None:
        return [None] * len(ids)
    if isinstance(observed, Mapping):
        unknown = [key for key in observed if key not in ids.tolist()]
        if unknown:
            raise ValueError(f"observed names unit {unknown[0]!r}, which is not in spikes")
        entries = [observed.get(key) for key in ids.tolist()]
    elif isinstance(observed, (list, tuple)) and len(observed) and _is_per_unit(observed):
        if len(observed) != len(ids):
            raise ValueError(f"observed has {len(observed)} entries for {len(ids)} units; they must agree")
        entries = list(observed)
    else:
        entries = [observed] * len(ids)
    return [
        None if entry is None else _intervals(entry, f"observed of unit {key!r}")
        for key, entry in zip(ids.tolist(), entries)
    ]


def _is_per_unit(observed: Any) -> bool:
    """Whether a list holds one table of intervals per unit, rather than being one table."""
    return any(entry is None or hasattr(entry, "start") or np.ndim(entry) == 2 for entry in observed)


def _intervals(spans: Any, name: str) -> np.ndarray:
    """Intervals as a checked (interval, 2) array of seconds."""
    if hasattr(spans, "start") and hasattr(spans, "end"):
        spans = np.stack([np.atleast_1d(spans.start), np.atleast_1d(spans.end)], axis=1)
    try:
        table = np.atleast_2d(np.asarray(spans, dtype=np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {spans!r}; allowed: pairs of start and stop in seconds") from None
    if table.ndim != 2 or table.shape[1] != 2 or not len(table):
        raise ValueError(
            f"{name} has shape {table.shape}; allowed: (interval, 2), starts and stops in seconds"
        )
    bad = np.flatnonzero(~(np.isfinite(table).all(1) & (table[:, 1] > table[:, 0])))
    if bad.size:
        first, last = table[bad[0]]
        raise ValueError(
            f"{name} has interval {bad[0]} from {first:g} to {last:g}; allowed: finite, stop > start"
        )
    return table


def _positive(value: Any, name: str) -> float:
    """A finite, positive float."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not (np.isfinite(number) and number > 0):
        raise ValueError(f"{name} is {value!r}; allowed: a positive, finite number of seconds")
    return number


def _warn_outside(trains: list[np.ndarray], window: np.ndarray, rounding: float) -> None:
    """Warn about spikes outside the window, and how many."""
    every, (start, stop) = np.concatenate(trains), window
    outside = np.count_nonzero((every < start - rounding) | (every >= stop - rounding))
    if outside:
        far = np.abs(every).max() > _FAR * max(abs(start), abs(stop))
        hint = f". {_UNIT_HINT}" if far else "; choose epochs to leave them out on purpose"
        _warn(
            f"{outside} of {every.size} spikes lie outside {start:g} to {stop:g} s and are not counted{hint}"
        )


def _warn_rates(totals: np.ndarray, duration: float) -> None:
    """Warn if the units with spikes are slower than neurons are."""
    rates = totals[totals > 0] / duration
    if rates.size and np.median(rates) < _SLOWEST_HZ:
        _warn(f"the median rate of the units is {np.median(rates):.2g} Hz over {duration:g} s. {_UNIT_HINT}")


def _warn(message: str) -> None:
    """Warn at the caller of `bin_spikes`."""
    warnings.warn(message, UserWarning, stacklevel=4)
