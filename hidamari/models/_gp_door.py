"""The door of Gaussian process models: times and observations in any common form, and labelled answers."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import date
from typing import Any, NamedTuple

import numpy as np

from hidamari.arrays import Trials, as_trials, split
from hidamari.inference.likelihoods import Gaussian, Likelihood
from hidamari.results import Variable, to_dataset
from hidamari.statespace.kernels import Kernel

__all__ = [
    "Clock",
    "Observed",
    "as_fixed",
    "check_begin",
    "check_observed",
    "new_times",
    "observe",
    "to_labelled",
    "warn_of_units",
]

_UNITS = {"s": "s", "ms": "ms", "us": "us", "ns": "ns", "min": "m", "h": "h", "D": "D", "W": "W"}
_LARGEST = 1e150
_MOST = 1e12  # a count: beyond, sums of y log(rate) keep no digit behind the point
_UNEQUAL = 100.0  # ratio of standard deviations of outputs from which a shared variance drowns some
_YEAR = np.timedelta64(31557600, "s")  # the Julian year, 365.25 days


class Clock(NamedTuple):
    """How dates become numbers: ``unit`` after ``origin``; None where times are numbers themselves."""

    unit: str
    origin: str | None

    def step(self) -> np.timedelta64:
        """One unit."""
        return _YEAR if self.unit == "Y" else np.timedelta64(1, _UNITS[self.unit])  # type: ignore[call-overload]

    def labels(self, times: np.ndarray) -> np.ndarray:
        """Numbers as the user wrote them: themselves, or dates to the last decimal that they hold."""
        if self.origin is None:
            return times
        ns = times * (self.step() / np.timedelta64(1, "ns"))
        late = np.abs(ns) >= 2.0**63
        decimals = np.maximum(np.ceil(np.log10(np.maximum(np.abs(ns), 1.0) * 2.0**-50)), 0.0)
        ns = np.rint(ns / 10.0**decimals) * 10.0**decimals
        whole = np.where(late, 0.0, np.rint(ns)).astype(np.int64).astype("timedelta64[ns]")
        found = np.datetime64(self.origin).astype("datetime64[ns]") + whole
        found[late] = np.datetime64("NaT")
        return found


class Observed(NamedTuple):
    """Observations on one axis of rows, trial after trial, each in its own order of times."""

    times: list[np.ndarray]  # (T_r,) of each trial
    values: np.ndarray  # (T, output); NaN: not observed
    error: np.ndarray | None  # (T, output): known variances
    form: str  # "array", "batch" or "list"
    vector: bool  # one output, given without an axis for it
    names: np.ndarray  # (output,)
    clock: Clock

    @property
    def lengths(self) -> np.ndarray:
        """Rows of each trial."""
        return np.array([len(own) for own in self.times])


def observe(times: Any, y: Any, error: Any, clock: Clock) -> Observed:
    """Read times, observations and error bars; where y is None, the first argument is y with its times."""
    if y is None:
        times, y = None, times
    if clock.unit != "Y" and clock.unit not in _UNITS:
        raise ValueError(f"time_unit must be one of {[*_UNITS, 'Y']}, found {clock.unit!r}")
    y, vector = _columns(times, y, "y")
    trials = as_trials(y, "y")
    given = _own_times(trials) if times is None else _dealt(times, trials)
    clocked, clock = _clocked(given, "y's times" if times is None else "times", trials, clock)
    values = trials.values
    variance = None if error is None else _variances(error, trials)
    if variance is not None:
        values = np.where(np.isinf(variance), np.nan, values)
        variance = np.where(np.isnan(values), 1.0, variance)
    names = np.arange(values.shape[1]) if trials.units is None else np.asarray(trials.units)
    names = names if names.dtype.kind in "biufU" else names.astype(str)
    return Observed(clocked, values, variance, trials.form, vector, names, clock)


def as_fixed(fixed: Mapping[str, Any] | Iterable[str] | None) -> dict[str, Any]:
    """``fixed`` as a mapping from names to values, or None to hold a part where it starts."""
    if isinstance(fixed, str) or not (fixed is None or isinstance(fixed, Iterable)):
        raise ValueError(f"fixed must be a mapping or a list of names, found {fixed!r}")
    return dict(fixed) if isinstance(fixed, Mapping) else dict.fromkeys(fixed or ())


def check_observed(observed: Observed, likelihood: Likelihood, fitted: Observed | None = None) -> None:
    """Refuse observations that the likelihood cannot have made, that contradict each other, or are others."""
    N = observed.values.shape[1]
    if fitted is not None and len(fitted.names) != N:
        raise ValueError(f"y has {N} outputs; the model was fitted to {len(fitted.names)}")
    for field in fields(likelihood):  # type: ignore[arg-type]
        size = np.shape(getattr(likelihood, field.name))
        if size not in ((), (N,)):
            raise ValueError(f"likelihood has {field.name} of shape {size}, but y has {N} outputs")
    values = split(observed.values, observed.lengths)
    for r, own in enumerate(values):
        name = "y" if observed.form == "array" else f"y[{r}]"
        likelihood.check(own[:, 0] if observed.vector else own, name)
        largest = np.max(np.abs(own), where=~np.isnan(own), initial=0.0)
        if largest > (_LARGEST if likelihood.real else _MOST):
            most = f"sizes up to {_LARGEST:g}, whose squares exist"
            most = (
                most
                if likelihood.real
                else f"counts up to {_MOST:g} (logarithms of larger ones are Gaussian)"
            )
            raise ValueError(f"{name} holds {largest:g}; allowed: {most}")
    if not isinstance(likelihood, Gaussian):
        if observed.error is not None:
            raise ValueError(f"error is for Gaussian noise alone, found with likelihood {likelihood!r}")
        return
    noise = np.zeros(observed.values.shape) + np.asarray(likelihood.variance, float)
    noise += 0.0 if observed.error is None else observed.error
    exact = np.where(noise == 0.0, observed.values, np.nan)
    for r, (own, times) in enumerate(zip(split(exact, observed.lengths), observed.times)):
        order = np.argsort(times, kind="stable")
        for column in own[order].T if np.isfinite(own).any() else ():
            seen = np.flatnonzero(np.isfinite(column))
            again = (np.diff(times[order][seen]) == 0.0) & (np.diff(column[seen]) != 0.0)
            if again.any():
                first, second = seen[np.argmax(again)], seen[np.argmax(again) + 1]
                name = "y" if observed.form == "array" else f"y[{r}]"
                raise ValueError(
                    f"{name} has conflicting exact observations at time {times[order][first]:g}: "
                    f"{column[first]:g} and {column[second]:g}; allowed: one value, or noise"
                )


def warn_of_units(observed: Observed, likelihood: Likelihood) -> None:
    """Warn of outputs in units so different that a kernel shared by all cannot describe each."""
    y = observed.values[:, np.isfinite(observed.values).sum(0) > 1]
    if not likelihood.real or y.shape[1] < 2:
        return
    spread = np.nanstd(y, axis=0)
    low, high = spread[spread > 0.0].min(initial=np.inf), spread.max()
    if high > _UNEQUAL * low:
        warnings.warn(
            f"y has outputs with standard deviations from {low:.2g} to {high:.2g}, which share one kernel "
            "and its variance: divide each by its own, or fit a model to each",
            UserWarning,
            stacklevel=4,
        )


def check_begin(kernel: Kernel, times: list[np.ndarray], new: list[np.ndarray]) -> None:
    """Refuse times before the first, for a kernel that begins there."""
    if kernel.is_stationary:
        return
    for r, (own, more) in enumerate(zip(times, new)):
        if more.min() < own.min():
            raise ValueError(
                f"times has {more.min():g}, before the first of trial {r}, {own.min():g}: "
                f"{kernel!r} is not stationary and begins there"
            )


def new_times(times: Any, n_trials: int, form: str, clock: Clock) -> list[np.ndarray]:
    """Times to read every trial at, in any order; or a list of them, one for each trial."""
    listed = isinstance(times, (list, tuple)) and len(times) > 0 and np.ndim(times[0]) > 0
    if listed and (form == "array" or len(times) != n_trials):
        raise ValueError(f"times has {len(times)} lists; allowed: one axis of times, or {n_trials} of them")
    given = [(f"times[{r}]", own) for r, own in enumerate(times)] if listed else [("times", times)]
    parts = [_numbers(own, name, clock)[0] for name, own in given]
    if any(len(own) == 0 for own in parts):
        raise ValueError("times is empty; allowed: at least one time")
    return parts if listed else parts * n_trials


def _columns(times: Any, y: Any, name: str) -> tuple[Any, bool]:
    """Observations with an axis of outputs, and whether it had to be added."""
    if isinstance(y, (list, tuple)) and len(y):
        listed = isinstance(times, (list, tuple)) and len(times) > 0 and np.ndim(times[0]) > 0
        if listed or all(hasattr(item, "__array__") and np.ndim(item) > 0 for item in y):
            both = [_column(np.asarray(item) if isinstance(item, (list, tuple)) else item) for item in y]
            if len({vector for _, vector in both}) > 1:
                raise ValueError(f"{name} has trials with and without an axis of outputs; they must agree")
            return [item for item, _ in both], both[0][1]
        if not any(isinstance(item, (list, tuple)) or hasattr(item, "__len__") for item in y):
            return [[item] for item in y], True
        return y, False
    if np.ndim(times) == 2 and isinstance(y, np.ndarray) and np.shape(times) == y.shape:
        return y[:, :, None], True
    return _column(y)


def _column(y: Any) -> tuple[Any, bool]:
    """One array or labelled array with an axis of outputs."""
    if hasattr(y, "expand_dims") and hasattr(y, "dims"):
        y = y.rename(output="unit") if "output" in y.dims else y
        return (y, False) if "unit" in y.dims else (y.expand_dims("unit", axis=-1), True)
    if hasattr(y, "to_frame") and getattr(y, "ndim", 2) == 1:
        return y.to_frame(), True
    if hasattr(y, "t") and hasattr(y, "d") and not hasattr(y, "columns") and not isinstance(y, np.ndarray):
        import pandas as pd

        return pd.DataFrame(np.asarray(y.d), index=np.asarray(y.t)), True
    if isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype != object:
        return y[:, None], True
    return y, False


def _own_times(trials: Trials) -> list[Any]:
    """Times that the observations carry: their labels, else bins of their width, else numbers of rows."""
    if trials.labels is not None:
        return list(trials.labels)
    width = trials.bin_s
    rows = [np.arange(n) for n in trials.lengths]
    return rows if width is None else [(own + 0.5) * width for own in rows]


def _dealt(times: Any, trials: Trials) -> list[Any]:
    """The times of each trial."""
    if trials.form == "array":
        return [times]
    if (isinstance(times, (list, tuple)) and len(times) and np.ndim(times[0]) > 0) or np.ndim(times) == 2:
        if len(times) != len(trials.lengths):
            raise ValueError(
                f"times has {len(times)} trials but y has {len(trials.lengths)}; they must agree"
            )
        return list(times)
    return [times] * len(trials.lengths)


def _clocked(given: list[Any], name: str, trials: Trials, clock: Clock) -> tuple[list[np.ndarray], Clock]:
    """Times of each trial as numbers, one for each row."""
    found = []
    for r, (own, n) in enumerate(zip(given, trials.lengths)):
        where = name if trials.form == "array" else f"{name}[{r}]"
        numbers, clock = _numbers(own, where, clock, settle=r == 0)
        if len(numbers) != n:
            which = "y" if trials.form == "array" else f"y[{r}]"
            raise ValueError(f"{where} has {len(numbers)} entries but {which} has {n} rows; they must agree")
        found.append(numbers)
    return found, clock


def _numbers(times: Any, name: str, clock: Clock, settle: bool = False) -> tuple[np.ndarray, Clock]:
    """Times as float64; the first to be read settle whether they are dates, and their origin."""
    if np.ma.is_masked(times):
        raise ValueError(f"{name} has masked entries; allowed: finite times (mask y instead)")
    if getattr(times, "tz", None) is not None:
        times = times.tz_convert(None)
    try:
        values = np.asarray(times)
    except ValueError:
        raise ValueError(f"{name} has rows of different lengths; allowed: one axis of times") from None
    if values.dtype == object and values.size and all(isinstance(v, date) for v in values.flat):
        values = values.astype("datetime64[us]")
    if values.ndim != 1:
        raise ValueError(f"{name} has shape {values.shape}; allowed: one axis of times")
    kind = values.dtype.kind
    if kind == "M" and np.datetime_data(values.dtype)[0] in ("Y", "M"):  # which have no length of their own
        values = values.astype("datetime64[s]")
    if kind not in "iufMm":
        what = {"U": "strings", "c": "complex numbers", "b": "booleans"}.get(kind, str(values.dtype))
        raise ValueError(f"{name} holds {what}; allowed: real numbers, datetime64 or timedelta64")
    bad = np.flatnonzero(np.isnat(values) if kind in "Mm" else ~np.isfinite(values))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {values[bad[0]]}; allowed: finite times")
    if kind == "M" and settle and clock.origin is None and values.size:
        clock = clock._replace(origin=str(values.min()))
    if kind == "M" and clock.origin is None:
        raise ValueError(f"{name} holds dates, but the times of the fit are numbers; allowed: numbers")
    if kind in "iuf" and clock.origin is not None and values.size:
        raise ValueError(f"{name} holds numbers, but the times of the fit are dates; allowed: datetime64")
    if kind == "M":
        values = values - np.datetime64(str(clock.origin))
    return (values / clock.step() if kind in "Mm" else values.astype(np.float64)), clock


def _variances(error: Any, trials: Trials) -> np.ndarray:
    """Squares of the error bars, (T, output)."""
    shape = trials.values.shape
    listed = isinstance(error, (list, tuple)) and len(error) > 0 and np.ndim(error[0]) > 0
    if listed and len(error) != len(trials.lengths):
        raise ValueError(f"error has {len(error)} trials but y has {len(trials.lengths)}; they must agree")
    found = np.empty(shape)
    values = split(trials.values, trials.lengths)
    batch = not listed and trials.form == "batch" and np.ndim(error) > 1
    for r, (out, own) in enumerate(zip(split(found, trials.lengths), values)):
        name = f"error[{r}]" if listed or batch else "error"
        part = error[r] if listed or batch else error
        try:
            part = np.ma.filled(np.ma.asarray(part, dtype=np.float64), np.inf)
        except (TypeError, ValueError):
            raise ValueError(f"{name} is not an array of numbers; allowed: standard deviations") from None
        if part.ndim == 1 and len(part) == len(own):
            part = part[:, None]
        if part.ndim > 0 and part.shape not in (own.shape, (len(own), 1)):
            raise ValueError(f"{name} has shape {part.shape}; allowed: one number, or that of y, {own.shape}")
        bad = ~np.isnan(own) & ~(part >= 0)
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            value = np.broadcast_to(part, own.shape)[at]
            raise ValueError(f"{name}{list(at)} is {value}; allowed: standard deviations of 0 or more")
        with np.errstate(over="ignore"):
            out[:] = part * part
    return found


def to_labelled(
    variables: dict[str, Variable],
    times: Sequence[np.ndarray],
    observed: Observed,
    coords: dict[str, Any] | None = None,
    attrs: dict[str, Any] | None = None,
) -> Any:
    """Variables (M, output, ...) over trials as a Dataset, with times as they were given."""
    lengths = np.array([len(own) for own in times])
    N = len(observed.names)
    trials = Trials(np.empty((int(lengths.sum()), N)), lengths, observed.form)
    laid = {
        name: v._replace(values=v.values[:, 0] if observed.vector else v.values)._replace(
            dims=v.dims if observed.vector else ("output", *v.dims)
        )
        for name, v in variables.items()
    }
    every = {} if observed.vector else {"output": observed.names}
    clock = {"time_unit": observed.clock.unit} if observed.clock.origin else {}
    at = _time_coords([observed.clock.labels(own) for own in times], lengths, observed.form)
    return to_dataset(trials, laid, None, every | (coords or {}), clock | (attrs or {}), at)


def _time_coords(labels: list[np.ndarray], lengths: np.ndarray, form: str) -> dict[str, Any]:
    """Coordinate ``time`` where trials share their times, else ``trial_time`` (trial, time)."""
    described = {"long_name": "time"}
    if form == "array":
        return {"time": ("time", labels[0], described)}
    coords: dict[str, Any] = {}
    if (lengths < lengths.max()).any():
        coords["n_bins"] = ("trial", lengths, {"long_name": "rows of the trial, the rest is padding"})
    longest = labels[int(np.argmax(lengths))]
    if all(np.array_equal(own, longest[: len(own)]) for own in labels):
        return coords | {"time": ("time", longest, described)}
    empty = np.datetime64("NaT") if longest.dtype.kind == "M" else np.nan
    padded = np.full((len(labels), len(longest)), empty, dtype=longest.dtype)
    for row, own in zip(padded, labels):
        row[: len(own)] = own
    return coords | {"trial_time": (("trial", "time"), padded, described)}
