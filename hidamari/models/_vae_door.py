"""The door of autoencoders: sequences of frames in any common form, and labelled answers in the same form."""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from hidamari.arrays import split
from hidamari.inference.likelihoods import Likelihood, get_likelihood
from hidamari.models._gp_door import Clock, Observed, observe, to_labelled
from hidamari.results import Variable

__all__ = [
    "LIKELIHOODS",
    "Sequences",
    "as_likelihood",
    "as_locations",
    "check_locations",
    "check_sequences",
    "frame_axes",
    "labelled",
    "read_sequences",
]

LIKELIHOODS = ("gaussian", "bernoulli", "poisson")


@dataclass(frozen=True)
class Sequences:
    """Frames as rows of one axis, sequence after sequence."""

    observed: Observed  # frames are flat
    shape: tuple[int, ...]  # of a frame

    @property
    def rows(self) -> np.ndarray:
        """Flat frames (T, D), NaN where not observed."""
        return self.observed.values

    @property
    def times(self) -> list[np.ndarray]:
        """Times of each sequence."""
        return self.observed.times

    @property
    def parts(self) -> list[np.ndarray]:
        """Flat frames of each sequence."""
        return split(self.rows, self.observed.lengths)


def read_sequences(
    Y: Any, times: Any, mask: Any, clock: Clock, bin_s: float | None = None, n_frame_axes: int | None = None
) -> Sequences:
    """Read (n, T, ...), a list of (T_i, ...), one (T, D) or labelled tables; ``mask`` is True where observed.

    ``n_frame_axes`` says how many axes a frame has, where that is known.
    """
    blocks, form = _blocks(Y, n_frame_axes)
    if mask is not None:
        blocks = _masked(blocks, mask, form)
    shapes = [block.values.shape[1:] or (1,) for block in blocks]
    for n, own in enumerate(shapes):
        if own != shapes[0]:
            raise ValueError(f"Y[{n}] has frames of shape {own} but Y[0] of {shapes[0]}; they must agree")
    if times is None and blocks[0].times is not None:
        times = [block.times for block in blocks]
    elif times is None:
        width = 1.0 if bin_s is None else bin_s
        first = 0.0 if bin_s is None else 0.5
        times = [(np.arange(len(block.values)) + first) * width for block in blocks]
    elif form == "array":
        times = [times]
    flat = [block.values.reshape(len(block.values), -1) for block in blocks]
    try:
        observed = observe(times, flat, None, clock)
    except ValueError as error:
        raise ValueError(_in_our_names(str(error), form)) from None
    for n, own in enumerate(observed.times):
        falls = np.flatnonzero(np.diff(own) < 0)
        if falls.size:
            at = int(falls[0])
            raise ValueError(
                f"times of sequence {n} fall from {own[at]:g} to {own[at + 1]:g} at row {at + 1}; "
                "allowed: sorted times, repeated ones included"
            )
    names = blocks[0].names
    if names is not None:
        observed = observed._replace(names=names if names.dtype.kind in "biufU" else names.astype(str))
    return Sequences(observed._replace(form=form), shapes[0])


def as_likelihood(likelihood: Any) -> Likelihood:
    """The likelihood of a name or an instance that autoencoders know."""
    found = get_likelihood(likelihood) if isinstance(likelihood, (str, Likelihood)) else None
    if found is None or found.name not in LIKELIHOODS:
        raise ValueError(f"likelihood must be one of {LIKELIHOODS}, found {likelihood!r}")
    return found


def check_sequences(sequences: Sequences, likelihood: Likelihood, shape: tuple[int, ...] | None) -> None:
    """Refuse what the likelihood cannot have made, frames of another shape, and a fit to nothing at all."""
    if shape is None and np.isnan(sequences.rows).all():
        raise ValueError("Y holds no observed entry; allowed: at least one")
    if shape is not None and sequences.shape != shape:
        raise ValueError(
            f"Y has frames of shape {sequences.shape}; the model was fitted to frames of shape {shape}"
        )
    for n, own in enumerate(sequences.parts):
        likelihood.check(own, "Y" if sequences.observed.form == "array" else f"Y[{n}]")
    largest = np.max(np.abs(sequences.rows), where=~np.isnan(sequences.rows), initial=0.0)
    if largest > 1e30:  # networks are in single precision
        raise ValueError(f"Y holds {largest:g}; allowed: sizes up to 1e30 (scale the data)")


def labelled(
    sequences: Sequences,
    variables: Mapping[str, Variable],
    times: list[np.ndarray],
    coords: dict[str, Any],
    attrs: dict[str, Any],
) -> Any:
    """Variables (M, ...) over the times of every sequence as a Dataset."""
    laid = {name: v._replace(values=np.asarray(v.values)[:, None]) for name, v in variables.items()}
    return to_labelled(laid, times, sequences.observed._replace(vector=True), coords, attrs)


def as_locations(locations: Any, name: str = "locations") -> np.ndarray:
    """Locations (N, p) as floats."""
    try:
        found = np.asarray(locations, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers (N, p), found {type(locations).__name__}") from None
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2 or 0 in found.shape or not np.isfinite(found).all():
        raise ValueError(f"{name} must be finite numbers (N, p), found shape {np.shape(locations)}")
    return found


def frame_axes(Y: Any, locations: np.ndarray) -> int:
    """Axes of a frame over locations: 1 if each has one entry, else 2."""
    N, shape = len(locations), np.shape(Y) if isinstance(Y, np.ndarray) else ()
    return 2 if len(shape) == 3 and shape[1] == N and shape[2] != N else 1


def check_locations(sequences: Sequences, locations: np.ndarray) -> None:
    """Refuse locations that are not those of the frames, or that are told twice."""
    if sequences.shape[0] != len(locations) or len(sequences.shape) > 2:
        raise ValueError(
            f"locations has {len(locations)} rows, but Y has frames of shape {sequences.shape}; allowed: "
            f"frames of shape ({len(locations)}, D) or ({len(locations)},)"
        )
    if len(locations) < 2:
        raise ValueError("locations has one row; allowed: at least two (without locations for one)")
    first = np.unique(locations, axis=0, return_index=True)[1]
    if len(first) < len(locations):
        again = np.setdiff1d(np.arange(len(locations)), first)[0]
        raise ValueError(f"locations has {locations[again]} twice; allowed: each once")


class _Block(NamedTuple):
    """One sequence without its labels."""

    values: np.ndarray  # (T, ...)
    times: Any = None
    names: np.ndarray | None = None  # of the entries of a frame that is a vector


def _blocks(Y: Any, n_frame_axes: int | None) -> tuple[list[_Block], str]:
    """The sequences, and whether they were given as "array", "batch" or "list"."""
    if isinstance(Y, np.ndarray) and Y.dtype == object and Y.ndim == 1:
        Y = list(Y)
    if isinstance(Y, (list, tuple)) and (not len(Y) or any(np.ndim(item) > 1 for item in Y)):
        if not len(Y):
            raise ValueError("Y holds no sequences; allowed: at least one")
        return [_block(item, f"Y[{n}]") for n, item in enumerate(Y)], "list"
    if "trial" in getattr(Y, "dims", ()):
        trials: Any = Y
        return [_block(trials.isel(trial=n), f"Y[{n}]") for n in range(trials.sizes["trial"])], "batch"
    block = _block(Y, "Y")
    whole = block.values
    # (T, h, w) is one sequence only where frames are known to be images
    if whole.ndim > 2 and whole.ndim != 1 + (n_frame_axes or 1) and block.times is None:
        if not len(whole):
            raise ValueError("Y holds no sequences; allowed: at least one")
        return [_Block(own) for own in whole], "batch"
    return [block], "array"


def _block(item: Any, name: str) -> _Block:
    """One sequence of any kind as an array, NaN where an entry was not observed."""
    if hasattr(item, "dims") and hasattr(item, "coords") and hasattr(item, "values"):
        if "time" not in item.dims:
            raise ValueError(f"{name} has dims {item.dims}; allowed: time among them")
        item = item.transpose("time", ...)
        if "n_bins" in item.coords:
            item = item.isel(time=slice(int(item["n_bins"])))
        axes = [dim for dim in item.dims if dim != "time"]
        names = np.asarray(item[axes[0]]) if len(axes) == 1 and axes[0] in item.coords else None
        clock = "trial_time" if "trial_time" in item.coords else "time"
        times = np.asarray(item[clock]) if clock in item.coords else None
        return _Block(_numbers(item.values, name), times, names)
    if hasattr(item, "columns") and hasattr(item, "to_numpy"):
        try:
            values = item.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError):
            raise ValueError(f"{name} has columns that are not numbers; allowed: real numbers") from None
        plain = type(item.index).__name__ == "RangeIndex"
        return _Block(values, None if plain else np.asarray(item.index), np.asarray(item.columns))
    if hasattr(item, "t") and hasattr(item, "d") and not isinstance(item, np.ndarray):
        return _Block(_numbers(item.d, name), np.asarray(item.t), np.asarray(getattr(item, "columns", [0])))
    return _Block(_numbers(item, name))


def _numbers(values: Any, name: str) -> np.ndarray:
    """An array with axes of time and of entries, NaN where it is masked; its entries are checked later."""
    sparse = type(values).__module__.startswith("scipy.sparse")
    if sparse:
        raise ValueError(f"{name} must not be sparse, found {type(values).__name__}; write {name}.toarray()")
    if not hasattr(values, "__array__") and not isinstance(values, (list, tuple, Real)):
        raise ValueError(f"{name} is of type {type(values).__name__}; allowed: an array, or a list of arrays")
    try:
        masked = isinstance(values, (np.ma.MaskedArray, list, tuple))
        found = np.ma.array(values) if masked else np.asarray(values)
    except (TypeError, ValueError):
        raise ValueError(f"{name} has rows of different lengths; allowed: an array (T, ...)") from None
    if np.ma.getmaskarray(found).any():
        found = np.ma.array(found, dtype=np.float64).filled(np.nan)
    found = np.asarray(np.ma.getdata(found))
    if found.ndim == 0:
        raise ValueError(f"{name} is a single value, {values!r}; allowed: frames over time, (T, ...)")
    if found.size == 0:
        raise ValueError(f"{name} has shape {found.shape}; allowed: at least one frame of one entry")
    return found[:, None] if found.ndim == 1 else found


def _masked(blocks: list[_Block], mask: Any, form: str) -> list[_Block]:
    """The sequences with NaN where the mask is False."""
    given = [mask] if form == "array" else mask
    if not isinstance(given, (list, tuple, np.ndarray)) or len(given) != len(blocks):
        raise ValueError(
            f"mask must hold one mask for each of the {len(blocks)} sequences of Y, found {mask!r}"
        )
    found = []
    for n, (block, own) in enumerate(zip(blocks, given)):
        name, shape = "mask" if form == "array" else f"mask[{n}]", block.values.shape
        try:
            own = np.asarray(own)
        except ValueError:
            raise ValueError(f"{name} has rows of different lengths; allowed: the shape of Y") from None
        if own.dtype != bool:
            raise ValueError(f"{name} must be boolean, True where observed, found {own.dtype}")
        if own.ndim == 0 or own.shape != shape[: own.ndim]:
            raise ValueError(f"{name} has shape {own.shape}; allowed: {shape}, or without its last axes")
        own = own.reshape(own.shape + (1,) * (len(shape) - own.ndim))
        if block.values.dtype.kind not in "biuf":  # refused when it is read
            found.append(block)
            continue
        found.append(block._replace(values=np.where(own, block.values.astype(np.float64), np.nan)))
    return found


def _in_our_names(message: str, form: str) -> str:
    """The message of the door of Gaussian processes, which calls the argument y and reads a list."""
    for theirs in ("y", "times"):
        ours = "Y" if theirs == "y" else theirs
        if form == "array" and message.startswith(f"{theirs}[0]"):
            message = ours + message[len(theirs) + 3 :]
        elif message.startswith((f"{theirs} ", f"{theirs}[")):
            message = ours + message[len(theirs) :]
    return message.replace(" y[", " Y[").replace(" but y ", " but Y ")
