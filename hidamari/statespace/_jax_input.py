"""What comes to the jax core: one format, numbers checked and rows padded where nothing is traced."""

from contextlib import AbstractContextManager, nullcontext
from math import ceil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from hidamari.statespace._check import SQUARE_ROOT_ABOVE, check, check_shapes, precision_ratio
from hidamari.statespace.types import Readings, Sites, StateSpace

__all__ = ["first_rows", "format_of", "is_traced", "on_cpu", "precision", "prepare"]

_GROWTH = 1.25  # of the lengths that rows are padded to: at most a quarter more work, 11 programs a decade
_SHORTEST = 16


def is_traced(*arrays: Any) -> bool:
    """Whether one of the arrays is a tracer."""
    return any(isinstance(a, Tracer) for a in arrays)


def on_cpu(*arrays: Any) -> bool:
    """Whether all jax arrays, none of them traced, lie on a CPU."""
    return all(d.platform == "cpu" for a in arrays if isinstance(a, jax.Array) for d in a.devices())


def format_of(ss: StateSpace, sites: Sites | Readings) -> np.dtype:
    """float64 if a jax array of reals among the arguments is, else float32."""
    found = [a.dtype for a in (*ss, *sites) if isinstance(a, jax.Array)]
    if any(jnp.issubdtype(d, jnp.complexfloating) for d in found):
        raise ValueError("ss and sites must be real, found complex numbers")
    real = [d for d in found if jnp.issubdtype(d, jnp.floating)]
    real = real or [np.asarray(a).dtype for a in sites]  # only ss.step is of jax
    return np.dtype(np.float64 if np.float64 in real else np.float32)


def precision(*arrays: Any) -> AbstractContextManager:
    """Let float64 be float64 in here, if it comes; the setting of the user is not touched."""
    if not any(np.dtype(getattr(a, "dtype", np.float64)) == np.float64 for a in arrays):
        return nullcontext()
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # pyright: ignore  # where it was at first

    return enable_x64(True)


def prepare(
    ss: StateSpace, sites: Sites | Readings, form: str, method: str
) -> tuple[StateSpace, Sites | Readings, str]:
    """Checked jax arrays, padded unless traced, and the form: covariance, square_root or ..._float32."""
    check_shapes(ss, sites, form)
    dtype = format_of(ss, sites)
    how = "covariance" if form in ("auto", "covariance") else form
    if dtype == np.float32 and form in ("auto", "square_root"):
        how = "square_root_float32"
    traced = is_traced(*ss, *sites)
    if not traced:
        ss, sites, exact = _check_numbers(ss, sites, form, method)
        how = "square_root" if exact and how == "covariance" else how
    if method == "parallel" and how != "covariance":
        raise ValueError(
            "method='parallel' is for float64 in covariance form, found "
            + ("float32" if how == "square_root_float32" else "form='square_root' or exact readings")
            + ": use method='scan'"
        )

    def cast(a: Any) -> jax.Array:
        # NumPy arrays follow the format of jax; but where factors can be made in a better one, they are
        wide = not traced and how == "square_root_float32" and np.dtype(a.dtype) == np.float64
        return jnp.asarray(a, dtype=np.float64 if wide else dtype)

    step = jnp.asarray(ss.step, dtype=np.int32)
    if traced:  # row 0 starts a trial whatever it says
        step = jnp.where(jnp.arange(len(step)) == 0, -1, step)
    ss = StateSpace(cast(ss.A), cast(ss.Q), step, cast(ss.H), cast(ss.m), cast(ss.P))
    return ss, type(sites)(*(cast(a) for a in sites)), how


def _check_numbers(ss: StateSpace, sites: Sites | Readings, form: str, method: str):
    """NumPy arrays, checked and padded, and whether only the square-root form is exact enough for them."""
    ss, sites = StateSpace(*map(np.asarray, ss)), type(sites)(*map(np.asarray, sites))
    checked, plain, _ = check(ss, sites, form if form == "auto" else "covariance")
    ratio = 0.0 if isinstance(plain, Readings) else precision_ratio(checked, plain.J)
    exact = isinstance(plain, Readings) or (form == "auto" and ratio > SQUARE_ROOT_ABOVE)
    if method == "parallel" and (exact or ratio > SQUARE_ROOT_ABOVE):
        raise ValueError(
            "method='parallel' takes a site precision times prior variance of up to "
            f"{SQUARE_ROOT_ABOVE:g} and no exact readings: use method='scan'"
        )
    return *_pad(ss._replace(step=checked.step), sites), exact


def _pad(ss: StateSpace, sites: Sites | Readings) -> tuple[StateSpace, Sites | Readings]:
    """Add rows that saw nothing, each a trial of its own, and steps that no row takes."""
    more = _padded(len(ss.step)) - len(ss.step)
    nothing = (np.nan, 1.0) if isinstance(sites, Readings) else (0.0, 0.0)
    sites = type(sites)(*(_grow(a, more, v) for a, v in zip(sites, nothing)))
    S = len(ss.A)
    steps = _padded(S + 1) - S if S > 1 else 0  # irregular times have T - 1 of them: one length with the rows
    A, Q = (_grow(a, steps, 0.0) for a in (ss.A, ss.Q))
    return ss._replace(A=A, Q=Q, step=_grow(ss.step, more, -1)), sites


def _grow(array: np.ndarray, more: int, value: float) -> np.ndarray:
    """Append so many rows of one value."""
    if more == 0:
        return array
    return np.concatenate([array, np.full((more, *array.shape[1:]), value, array.dtype)])


def _padded(n: int) -> int:
    """The next length of 16, 20, 25, 32, ..., each a quarter more than the last."""
    length = _SHORTEST
    while length < n:
        length = ceil(length * _GROWTH)
    return length


def first_rows(array: jax.Array, T: int, axis: int = 0) -> jax.Array:
    """The rows that are no padding; cut by NumPy, which has no program to compile for each length."""
    if array.shape[axis] == T:
        return array
    cut = np.asarray(array)[(slice(None),) * axis + (slice(T),)]
    return jax.device_put(cut, next(iter(array.devices())))
