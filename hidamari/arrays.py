"""The user's door: arrays, lists and labelled tables in; trials of (time, unit) out; and the way back."""

import numbers
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Trials", "as_trials", "bin_width", "restore", "split"]


class Trials(NamedTuple):
    """Observations on one concatenated time axis.

    Attributes
    ----------
    values : ndarray, shape (T, unit)
        All trials one after the other: float64, contiguous, a copy; NaN where nothing was observed.
    lengths : ndarray of int, shape (trial,)
        Rows of each trial.
    form : {"array", "batch", "list"}
        Given as (time, unit), as (trial, time, unit), or as a list of (time, unit).
    container : {"numpy", "xarray", "pandas", "pynapple"}
        What held the numbers.
    units : ndarray or None
        Unit ids that came with the data.
    times : list of ndarray or None
        Time of each row in seconds, per trial, if given; dates are seconds since the first row of the trial.
    bin_s : float or None
        Width of a bin in seconds, if the data carry it as the attribute `bin_s`.
    labels : list or None
        Row labels of each trial as they were given, for the way back.
    """

    values: np.ndarray
    lengths: np.ndarray
    form: str
    container: str = "numpy"
    units: np.ndarray | None = None
    times: list[np.ndarray] | None = None
    bin_s: float | None = None
    labels: list | None = None


class _Block(NamedTuple):
    """One array as it was given: a trial, or a batch of trials."""

    values: np.ndarray
    container: str = "numpy"
    units: np.ndarray | None = None
    labels: Any = None
    bin_s: float | None = None
    lengths: np.ndarray | None = None


def as_trials(y: Any, name: str = "y") -> Trials:
    """Read observations in any common form.

    Accepted: an array (time, unit) or (trial, time, unit); a list of (time, unit) arrays of any lengths; an
    xarray.DataArray with dims named time, unit and perhaps trial, in any order (rows beyond a coordinate
    `n_bins` (trial) are padding); a pandas.DataFrame with rows in time and a column per unit; a pynapple
    TsdFrame; a list of any of these. Numbers of every real type and layout give the same float64 values.
    Entries that are NaN, masked or pandas.NA were not observed. The input is never changed.

    Parameters
    ----------
    y : array, list, or labelled array
        Observations, time before unit.
    name : str
        What to call `y` in messages.

    Returns
    -------
    Trials
        The observations on one time axis, and what is needed for the way back.

    Raises
    ------
    ValueError
        If `y` holds infinities, complex numbers, dates or things that are not numbers; if it has another
        number of dimensions, no rows, no units or no trials; or if trials differ in their units.

    See Also
    --------
    restore : results in the form of the observations.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.arrays import as_trials
    >>> trials = as_trials([np.zeros((3, 2)), np.ones((5, 2), dtype="uint8")])
    >>> trials.values.shape, trials.lengths, trials.form
    ((8, 2), array([3, 5]), 'list')
    """
    if _is_list_of_trials(y):
        form, blocks = "list", [_read(item, f"{name}[{trial}]") for trial, item in enumerate(y)]
        allowed = "(time, unit)"
    else:
        block = _read(y, name)
        form, blocks = ("batch", _trials_of(block)) if block.values.ndim == 3 else ("array", [block])
        allowed = "(time, unit), (trial, time, unit), or a list of (time, unit)"
    if not blocks:
        raise ValueError(f"{name} holds no trials; allowed: at least one")
    for trial, block in enumerate(blocks):
        where = name if form == "array" else f"{name}[{trial}]"
        if block.values.ndim != 2:
            hint = "; write [:, None] for one unit" if block.values.ndim == 1 else ""
            raise ValueError(f"{where} has shape {block.values.shape}; allowed: {allowed}{hint}")
        _check(block, blocks[0], where)
    return _join(blocks, form)


def bin_width(trials: Trials, bin_s: float | None = None, name: str = "y") -> float:
    """Width of the bins of a regular grid: what the user said, checked against what the data say.

    Parameters
    ----------
    trials : Trials
        Observations.
    bin_s : float, optional
        The user's width in seconds; by default what the data carry: their attribute `bin_s`, else the
        spacing of their times.
    name : str
        What to call the observations in messages.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    ValueError
        If the width is unknown, contradictory or not positive, or if rows are not one bin apart.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.arrays import as_trials, bin_width
    >>> bin_width(as_trials(np.zeros((10, 2))), bin_s=0.02)
    0.02
    """
    gaps = np.concatenate([np.diff(times) for times in trials.times]) if trials.times else np.empty(0)
    width = bin_s if bin_s is not None else trials.bin_s
    if width is None and gaps.size:
        width = float(f"{np.median(gaps):.12g}")  # differences of rounded times hide a short decimal
    if width is None:
        raise ValueError(
            f"bin_s is missing and {name} does not carry it; allowed: the width of a bin in seconds"
        )
    if not (np.isfinite(width) and width > 0):
        raise ValueError(f"bin_s is {width!r}; allowed: a positive, finite number of seconds")
    if trials.bin_s is not None and abs(trials.bin_s - width) > 1e-6 * width:
        raise ValueError(f"bin_s is {width:g} but {name} was binned at {trials.bin_s:g} s; they must agree")
    # Half a bin is far beyond rounding, and less than any missing or repeated row.
    for trial, times in enumerate(trials.times or []):
        bad = np.flatnonzero(np.abs(np.diff(times) - width) > 0.5 * width)
        if bad.size:
            a, b = times[bad[0]], times[bad[0] + 1]
            raise ValueError(
                f"{name} (trial {trial}) steps from {a:g} to {b:g} s at row {bad[0] + 1}, "
                f"but bin_s is {width:g}; allowed: rows one bin apart. "
                "Give stretches with gaps between them as a list of trials"
            )
    return float(width)


def split(values: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Cut rows on the concatenated time axis back into trials.

    Parameters
    ----------
    values : ndarray, shape (T, ...)
        Rows of all trials, one trial after the other.
    lengths : ndarray of int, shape (trial,)
        Rows of each trial.

    Returns
    -------
    list of ndarray
        Views, one per trial.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.arrays import split
    >>> split(np.arange(5), np.array([2, 3]))
    [array([0, 1]), array([2, 3, 4])]
    """
    return np.split(values, np.cumsum(lengths)[:-1])


def restore(values: np.ndarray, trials: Trials, dim: str = "unit", ids: Any = None) -> Any:
    """Give results back in the form of the observations.

    Parameters
    ----------
    values : ndarray, shape (T, column)
        One row per row of `trials.values`.
    trials : Trials
        What `as_trials` made of the observations.
    dim : str
        Name of the columns in labelled results.
    ids : array, optional
        Labels of the columns; the unit ids if `dim` is "unit".

    Returns
    -------
    ndarray, xarray.DataArray, pandas.DataFrame, pynapple.TsdFrame, or a list of them
        (time, column), (trial, time, column) or a list of (time, column), in the container that held the
        observations. A batch that came padded goes back padded, with NaN.

    Raises
    ------
    ValueError
        If the rows do not match.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.arrays import as_trials, restore
    >>> trials = as_trials(np.zeros((2, 3, 4)))
    >>> restore(trials.values[:, :1], trials, dim="latent").shape
    (2, 3, 1)
    """
    values = np.array(values, dtype=np.float64)
    if values.ndim != 2 or len(values) != len(trials.values):
        raise ValueError(f"values has shape {values.shape}; allowed: ({len(trials.values)}, column)")
    if ids is None and dim == "unit":
        ids = trials.units
    parts = split(values, trials.lengths)
    labels = trials.labels or [None] * len(parts)
    if trials.form != "batch":
        back = [_wrap(part, trials, ("time", dim), label, ids) for part, label in zip(parts, labels)]
        return back if trials.form == "list" else back[0]
    longest = int(np.argmax(trials.lengths))
    stacked = np.full((len(parts), len(parts[longest]), values.shape[1]), np.nan)
    for trial, part in enumerate(parts):
        stacked[trial, : len(part)] = part
    return _wrap(stacked, trials, ("trial", "time", dim), labels[longest], ids)


def _wrap(values, trials: Trials, dims: tuple[str, ...], label: Any, ids: Any) -> Any:
    """Put an array into the container of the observations."""
    if trials.container == "xarray":
        import xarray as xr

        coords = {key: value for key, value in (("time", label), (dims[-1], ids)) if value is not None}
        if dims[0] == "trial" and (trials.lengths < values.shape[1]).any():
            coords["n_bins"] = ("trial", trials.lengths)
        attrs = {} if trials.bin_s is None else {"bin_s": trials.bin_s}
        return xr.DataArray(values, dims=dims, coords=coords, attrs=attrs)
    if trials.container == "pandas":
        import pandas as pd

        return pd.DataFrame(values, index=label, columns=ids)
    if trials.container == "pynapple":
        import pynapple as nap  # pyright: ignore[reportMissingImports]

        return nap.TsdFrame(t=label, d=values, columns=ids)
    return values


def _is_list_of_trials(y: Any) -> bool:
    """Whether `y` is a list of trials, rather than one array written as nested lists."""
    if isinstance(y, np.ndarray):
        return y.dtype == object and y.ndim == 1 and len(y) > 0 and all(np.ndim(item) == 2 for item in y)
    # A list of rows of plain numbers is one (time, unit) array; so is a list of numbers, refused later.
    return isinstance(y, (list, tuple)) and not (y and all(_is_row(item) for item in y))


def _is_row(item: Any) -> bool:
    """Whether an item of a list is a number, or a list of numbers."""
    if isinstance(item, (list, tuple)):
        return all(_is_scalar(entry) for entry in item)
    return _is_scalar(item)


def _is_scalar(entry: Any) -> bool:
    """Whether an entry has no length of its own."""
    return entry is None or isinstance(entry, (numbers.Number, str, np.generic))


def _kind(y: Any) -> str:
    """Which labelled array this is, found without importing its package."""
    for cls in type(y).__mro__:
        package = cls.__module__.partition(".")[0]
        if (package, cls.__name__) in {
            ("xarray", "DataArray"),
            ("xarray", "Dataset"),
            ("pandas", "DataFrame"),
            ("pandas", "Series"),
        }:
            return cls.__name__
    if hasattr(y, "t") and hasattr(y, "d") and not isinstance(y, np.ndarray):
        return "TsdFrame" if hasattr(y, "columns") else "Tsd"
    return "array"


def _read(y: Any, name: str) -> _Block:
    """Values and labels of one array, table or labelled array."""
    kind = _kind(y)
    if kind == "DataArray":
        return _read_xarray(y, name)
    if kind == "DataFrame":
        return _read_pandas(y, name)
    if kind == "TsdFrame":
        return _Block(_numbers(y.d, name), "pynapple", np.asarray(y.columns), np.array(y.t, dtype=np.float64))
    if kind == "Dataset":
        raise ValueError(f"{name} is an xarray.Dataset; allowed: one of its variables, as {name}['counts']")
    if kind in ("Series", "Tsd"):
        raise ValueError(f"{name} is a {type(y).__name__}, which has no unit axis; allowed: (time, unit)")
    if not hasattr(y, "__array__") and not isinstance(y, (list, tuple, numbers.Number)):
        raise ValueError(
            f"{name} is of type {type(y).__name__}; allowed: an array (time, unit), or a list of them"
        )
    return _Block(_numbers(y, name))


def _read_xarray(y: Any, name: str) -> _Block:
    """A DataArray with dims time, unit and perhaps trial, in any order."""
    if set(y.dims) not in ({"time", "unit"}, {"trial", "time", "unit"}):
        raise ValueError(f"{name} has dims {y.dims}; allowed: time and unit, with or without trial")
    y = y.transpose(*(dim for dim in ("trial", "time", "unit") if dim in y.dims))
    coords = {key: np.asarray(y.coords[key]) for key in ("unit", "time", "n_bins") if key in y.coords}
    return _Block(
        _numbers(y.values, name),
        "xarray",
        coords.get("unit"),
        coords.get("time"),
        float(y.attrs["bin_s"]) if "bin_s" in y.attrs else None,
        coords.get("n_bins") if "trial" in y.dims else None,
    )


def _read_pandas(y: Any, name: str) -> _Block:
    """A DataFrame with rows in time and a column per unit."""
    if y.index.nlevels > 1 or y.columns.nlevels > 1:
        raise ValueError(f"{name} has an index of several levels; allowed: a list with a DataFrame per trial")
    columns = [
        # Nullable columns hold pandas.NA, which only their own conversion understands.
        y.iloc[:, j].to_numpy(dtype=np.float64, na_value=np.nan)
        if y.dtypes.iloc[j].kind in "biuf"
        else _numbers(np.asarray(y.iloc[:, j]), f"{name}[{y.columns[j]!r}]")
        for j in range(y.shape[1])
    ]
    values = np.stack(columns, axis=1) if columns else np.empty(y.shape)
    return _Block(values, "pandas", np.asarray(y.columns), y.index)


def _numbers(y: Any, name: str) -> np.ndarray:
    """A contiguous float64 copy with NaN for masked entries."""
    try:
        # Only numpy.ma sees masked rows inside a list; numpy would read the filler.
        array = np.ma.array(y) if isinstance(y, (np.ma.MaskedArray, list, tuple)) else np.asarray(y)
    except (ValueError, TypeError):
        raise ValueError(f"{name} has rows of different lengths; allowed: an array (time, unit)") from None
    mask, array = np.ma.getmask(array), np.asarray(np.ma.getdata(array))
    if array.dtype == object:
        for index in np.ndindex(array.shape):
            if not isinstance(array[index], (numbers.Real, np.bool_)):
                raise ValueError(
                    f"{name}{list(index)} is {array[index]!r}; allowed: real numbers, NaN for missing"
                )
    elif array.dtype.kind not in "biuf":
        found = {"c": "complex numbers", "U": "strings", "S": "bytes", "M": "dates", "m": "time differences"}
        what = found.get(array.dtype.kind, str(array.dtype))
        raise ValueError(f"{name} holds {what}; allowed: real numbers, NaN for missing")
    with np.errstate(over="ignore", invalid="ignore"):  # long doubles, and whatever lies under a mask
        values = np.array(array, dtype=np.float64, order="C")
    if mask is not np.ma.nomask:
        values[mask] = np.nan
    return values


def _trials_of(batch: _Block) -> list[_Block]:
    """The trials of a batch, without their padding."""
    n_trials, n_rows, _ = batch.values.shape
    lengths = np.full(n_trials, n_rows) if batch.lengths is None else batch.lengths.astype(int)
    return [
        batch._replace(values=values[:n], labels=None if batch.labels is None else batch.labels[:n])
        for values, n in zip(batch.values, lengths)
    ]


def _check(block: _Block, first: _Block, where: str) -> None:
    """Refuse an empty trial, one unlike the first, and infinities."""
    rows, columns = block.values.shape
    if not rows or not columns:
        raise ValueError(f"{where} has shape {(rows, columns)}; allowed: at least one row and one unit")
    if columns != first.values.shape[1]:
        raise ValueError(
            f"{where} has {columns} units but trial 0 has {first.values.shape[1]}; they must agree"
        )
    if block.container != first.container:
        raise ValueError(f"{where} is of another kind than trial 0; allowed: all of one kind")
    if not np.array_equal(block.units, first.units):  # pyright: ignore[reportArgumentType]
        raise ValueError(f"{where} has other unit ids than trial 0; they must agree")
    if block.bin_s != first.bin_s:
        raise ValueError(f"{where} has bin_s = {block.bin_s} but trial 0 has {first.bin_s}; they must agree")
    infinite = np.argwhere(np.isinf(block.values))
    if len(infinite):
        time, unit = infinite[0]
        value = block.values[time, unit]
        raise ValueError(f"{where}[{time}, {unit}] is {value}; allowed: finite numbers, NaN for missing")


def _join(blocks: list[_Block], form: str) -> Trials:
    """All trials on one time axis."""
    first = blocks[0]
    values = np.ascontiguousarray(
        np.concatenate([b.values for b in blocks]) if len(blocks) > 1 else first.values
    )
    labels = None if first.labels is None else [block.labels for block in blocks]
    times = [seconds for label in labels or [] if (seconds := _seconds(label)) is not None]
    lengths = np.array([len(block.values) for block in blocks])
    return Trials(values, lengths, form, first.container, first.units, times or None, first.bin_s, labels)


def _seconds(label: Any) -> np.ndarray | None:
    """Row labels as seconds, or None if they are no times."""
    if type(label).__name__ == "RangeIndex":
        return None
    if getattr(label, "tz", None) is not None:
        label = label.tz_convert(None)
    values = np.asarray(label)
    if values.dtype.kind == "M":
        values = values - values[0]
    if values.dtype.kind == "m":
        seconds = values.astype("timedelta64[ns]").astype(np.int64) / 1e9
        seconds[np.isnat(values)] = np.nan
    elif values.dtype.kind in "iuf":
        seconds = values.astype(np.float64)
    else:
        return None
    bad = np.flatnonzero(~np.isfinite(seconds))
    if bad.size:
        raise ValueError(f"time is {values[bad[0]]} at row {bad[0]}; allowed: finite times")
    return seconds
