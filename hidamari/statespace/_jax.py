"""The core for jax arrays and tracers: the names of ``kalman``, jax in and jax out.

Every call is one compiled program, for each shape. Inside of a traced function it becomes part of that;
outside, rows and distinct steps are padded to a few lengths, so that series of many lengths share a handful
of programs. Derivatives of the evidence come from the adjoint recursion, never from differentiating a scan.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hidamari.statespace import _forms, _jax_compiled, _jax_draws, _jax_forms, _jax_square_root
from hidamari.statespace._check import check
from hidamari.statespace._jax_groups import as_sites
from hidamari.statespace._jax_input import first_rows, format_of, is_traced, on_cpu, precision, prepare
from hidamari.statespace.types import Filtered, Readings, Sites, Smoothed, StateSpace

__all__ = ["evidence", "filter", "infer", "sample", "smooth"]

_METHODS = ("auto", "scan", "parallel")


def filter(ss: StateSpace, sites: Sites | Readings, form: str, method: str) -> Filtered:
    """As ``kalman.filter``."""
    return Filtered(*_run(ss, sites, form, method, smoothing=False))


def smooth(ss: StateSpace, sites: Sites | Readings, form: str, method: str) -> Smoothed:
    """As ``kalman.smooth``."""
    return Smoothed(*_run(ss, sites, form, method, smoothing=True)[:2])


def infer(ss: StateSpace, sites: Sites | Readings, form: str, method: str) -> tuple[Smoothed, jax.Array]:
    """As ``kalman.infer``."""
    mean, cov, log_norm = _run(ss, sites, form, method, smoothing=True)
    with precision(log_norm):
        return Smoothed(mean, cov), log_norm.sum()


def evidence(ss: StateSpace, sites: Sites | Readings, form: str, method: str) -> jax.Array:
    """As ``kalman.evidence``."""
    _one_of(method, (*_METHODS, "compiled"))
    dtype = format_of(ss, sites)
    compiled = dtype == np.float64 and form in ("auto", "covariance")
    if method == "compiled" and not compiled:
        raise ValueError("method='compiled' is for float64 in covariance form: use method='scan'")
    compiled = compiled and method in ("auto", "compiled")
    with precision(*ss, *sites):
        if compiled and not is_traced(*ss, *sites) and on_cpu(*ss, *sites):
            ss, sites, constant = check(StateSpace(*map(np.asarray, ss)), _on_host(sites), form)
            return jnp.asarray(np.sum(_forms.solve(ss, sites, form, None, False)[2] + constant))
        ss, sites, how = prepare(ss, sites, form, method)
        if how == "covariance":
            how = "compiled" if compiled else "scan" if method == "auto" else method
        return _evidence(ss, sites, how).astype(dtype)


def sample(ss: StateSpace, sites: Sites | Readings, n: int, key: Any) -> jax.Array:
    """As ``kalman.sample``."""
    if isinstance(key, np.random.Generator):
        if is_traced(*ss, *sites):
            raise ValueError("rng must be a jax key where something is traced, found a numpy Generator")
        key = jax.random.key(int(key.integers(2**32)))
    T = len(ss.step)
    with precision(format_of(ss, sites)):
        ss, sites, how = prepare(ss, sites, "covariance", "auto")
        if how != "covariance":
            raise ValueError("exact readings (R = 0) have no finite sites: joint draws need R > 0")
        return first_rows(_sample(ss, sites, n, key), T, axis=1)


def _run(ss: StateSpace, sites: Sites | Readings, form: str, method: str, smoothing: bool) -> tuple:
    """Moments of f and log normalisers."""
    _one_of(method, _METHODS)
    T, dtype = len(ss.step), format_of(ss, sites)
    with precision(*ss, *sites):
        ss, sites, how = prepare(ss, sites, form, method)
        found = _solve(ss, sites, method if method == "parallel" else how, smoothing)
        _refuse_conflict(found[2], sites, how)
        return tuple(first_rows(a.astype(dtype), T) for a in found)


def _refuse_conflict(log_norm: jax.Array, sites: Sites | Readings, how: str) -> None:
    """Say which row has an exact reading that cannot be true, where the numbers are known."""
    if is_traced(log_norm) or not isinstance(sites, Readings) or not how.startswith("square_root"):
        return
    wrong = np.isneginf(np.asarray(log_norm))
    if wrong.any():
        raise ValueError(
            f"y has conflicting exact readings: {np.asarray(sites.y)[np.argmax(wrong)]} at row "
            f"{np.argmax(wrong)}, where R = 0 has fixed another value"
        )


def _one_of(method: str, allowed: tuple[str, ...]) -> None:
    """Refuse a method that is not known."""
    if method not in allowed:
        raise ValueError(f"method must be one of {allowed} for jax arrays, found {method!r}")


def _on_host(sites: Sites | Readings) -> Sites | Readings:
    """The same as NumPy arrays."""
    return type(sites)(*map(np.asarray, sites))


@partial(jax.jit, static_argnames=("how", "smoothing"))
def _solve(ss: StateSpace, sites: Sites | Readings, how: str, smoothing: bool) -> tuple:
    """Moments of f and log normalisers of all rows."""
    if how.startswith("square_root"):
        return _jax_square_root.solve(how.endswith("32"), smoothing, ss, sites)
    return _jax_forms.solve(ss, sites, how, smoothing)


@partial(jax.jit, static_argnames=("how",))
def _evidence(ss: StateSpace, sites: Sites | Readings, how: str) -> jax.Array:
    """The log evidence, with its own derivative."""
    return _log_evidence(how, ss, sites)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_evidence(how: str, ss: StateSpace, sites: Sites | Readings) -> jax.Array:
    """Log of the integral of prior times sites."""
    if how.startswith("square_root"):
        return _jax_square_root.value(ss, sites, how.endswith("32")).astype(sites[0].dtype)

    def scan(ss, sites):
        return _jax_forms.solve(ss, sites, how, False)[2].sum()

    return _here(_jax_compiled.value, scan, ss, sites) if how == "compiled" else scan(ss, sites)


def _log_evidence_slope(how: str, primals: tuple, tangents: tuple):
    """The derivative along tangents, for the price of a smoother; each part only where it is asked for."""
    moved = [*tangents[0]._replace(step=None), *tangents[1]]
    with_H = not isinstance(tangents[0].H, jax.custom_derivatives.SymbolicZero)
    value, A, Q, H, m, P, *by_data = _value_and_slope(how, with_H, *primals)
    value = value.astype(primals[1][0].dtype)
    change = jnp.zeros_like(value)
    for part, tangent in zip((A, Q, None, H, m, P, *by_data), moved):
        if part is not None and not isinstance(tangent, jax.custom_derivatives.SymbolicZero):
            change = change + jnp.sum(part * tangent)
    return value, change.astype(value.dtype)


_log_evidence.defjvp(_log_evidence_slope, symbolic_zeros=True)


def _value_and_slope(how: str, with_H: bool, ss: StateSpace, sites: Sites | Readings) -> tuple:
    """The log evidence, and its derivatives by A, Q, H, m, P and the two parts of sites."""
    if how.startswith("square_root"):
        return _jax_square_root.value_and_slope(ss, sites, how.endswith("32"), with_H)
    scan = partial(_jax_forms.value_and_slope, method=how, with_H=with_H)
    if how == "compiled":
        return _here(partial(_jax_compiled.value_and_slope, with_H, scan), scan, ss, sites)
    return scan(ss, sites)


def _here(compiled: Any, scan: Any, ss: StateSpace, sites: Sites | Readings) -> Any:
    """The compiled loops where the program is to run on a CPU, else the recursion in jax."""
    if jax.default_backend() == "cpu":
        return compiled(ss, sites)
    return lax.platform_dependent(ss, sites, cpu=compiled, default=scan)


@partial(jax.jit, static_argnames=("n",))
def _sample(ss: StateSpace, sites: Sites | Readings, n: int, key: jax.Array) -> jax.Array:
    """Joint draws (n, T, K)."""
    return _jax_draws.draw(ss, as_sites(sites)[0], n, key)
