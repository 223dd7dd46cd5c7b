"""The log evidence and its slope for jax on a CPU, from the loops compiled by numba, through host callbacks.

One vector goes to the host and one comes back, as bits of whole numbers: the callback may run on a thread
where jax stands at single precision, and would round numbers on the way. The callback never calls jax.
"""

from functools import lru_cache, partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hidamari.statespace import _forms
from hidamari.statespace._check import check
from hidamari.statespace.types import Readings, Sites, StateSpace

__all__ = ["value", "value_and_slope"]


def value(ss: StateSpace, sites: Sites | Readings) -> jax.Array:
    """The log evidence."""
    return _call(ss, sites, "value")[0]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def value_and_slope(with_H: bool, scan, ss: StateSpace, sites: Sites | Readings) -> tuple:
    """The log evidence, and its derivatives by A, Q, H, m, P and the two parts of sites.

    ``scan`` is the same function in jax, for derivatives of the derivatives.
    """
    shapes = [(), *(a.shape for a in (ss.A, ss.Q, ss.H, ss.m, ss.P, *sites))]
    return tuple(_cut(_call(ss, sites, "with_H" if with_H else "slope"), shapes))


@value_and_slope.defjvp
def _curvature(with_H: bool, scan, primals, tangents):
    """The slope of the slope, which only jax knows."""
    return value_and_slope(with_H, scan, *primals), jax.jvp(scan, primals, tangents)[1]


def _call(ss: StateSpace, sites: Sites | Readings, what: str) -> jax.Array:
    """Send everything to the host as one vector, and get one back."""
    arrays = [ss.A, ss.Q, ss.H, ss.m, ss.P, *sites, ss.step.astype(jnp.float64)]
    shapes = tuple(a.shape for a in arrays)
    flat = lax.bitcast_convert_type(jnp.concatenate([a.ravel() for a in arrays]), jnp.uint32)
    size = 1 if what == "value" else 1 + sum(prod(s) for s in shapes[:-1])
    host = _host(shapes, isinstance(sites, Readings), what)
    out = jax.pure_callback(
        host, jax.ShapeDtypeStruct((size, 2), jnp.uint32), flat, vmap_method="expand_dims"
    )
    return lax.bitcast_convert_type(out, jnp.float64)


@lru_cache(maxsize=256)
def _host(shapes: tuple, readings: bool, what: str):
    """The callback for arrays of these shapes: bits in, bits out, any number of leading axes."""

    def run(bits):
        bits = np.ascontiguousarray(bits)
        lead = bits.shape[:-2]
        flat = bits.reshape(-1, bits.shape[-2] * 2).view(np.float64)
        out = np.stack([_solve(list(_cut(one, shapes)), readings, what) for one in flat])
        return out.view(np.uint32).reshape(*lead, -1, 2)

    return run


def _cut(flat, shapes) -> list:
    """A vector as arrays of these shapes."""
    ends = np.cumsum([prod(shape) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(_split(flat, ends), shapes)]


def _split(flat, ends) -> list:
    """The pieces of a vector between places known beforehand."""
    starts = [0, *(int(e) for e in ends)]
    return [flat[a:b] for a, b in zip(starts, [*starts[1:], len(flat)])]


def _solve(arrays: list[np.ndarray], readings: bool, what: str) -> np.ndarray:
    """The log evidence and what is asked for, flat; NaN where a number is not finite, as in jax."""
    A, Q, H, m, P, first, second, step = arrays
    ss = StateSpace(A, Q, step.astype(np.int64), H, m, P)
    sites = Readings(first, second) if readings else Sites(first, second)
    size = 1 if what == "value" else 1 + sum(a.size for a in arrays[:-1])
    if not _sound(ss, sites):
        return np.full(size, np.nan)
    if what == "value":
        ss, sites, constant = check(ss, sites, "auto")
        return np.array([np.sum(_forms.solve(ss, sites, "auto", 1, False)[2] + constant)])
    plain_ss, plain, constant = check(ss, sites, "covariance")
    if isinstance(plain, Readings):
        raise ValueError(
            "exact readings (R = 0) have a slope in the square-root form alone: "
            "evidence(..., method='scan', form='square_root')"
        )
    mean, cov, log_norm, (dA, dQ, dm, dP) = _forms.climb(plain_ss, plain, 1)
    dH = _slope_by_read_out(plain_ss, plain) if what == "with_H" else np.zeros(H.shape)
    if readings:
        seen = ~np.isnan(first) & np.isfinite(second)
        R, y = np.where(seen, second, 1.0), np.where(seen, first, 0.0)
        off = (mean - y) / R
        by_data = np.where(seen, off, 0.0), np.where(seen, 0.5 * (off * off + (cov / R - 1.0) / R), 0.0)
    else:
        both = mean * mean if cov.ndim == 2 else mean[:, :, None] * mean[:, None, :]
        by_data = mean, -0.5 * (cov + both)
    out = (np.sum(log_norm + constant), dA, dQ, dH, dm, dP, *by_data)
    return np.concatenate([np.ravel(a) for a in out])


def _sound(ss: StateSpace, sites: Sites | Readings) -> bool:
    """Whether every number is one that the loops can take."""
    model = all(np.isfinite(a).all() for a in (ss.A, ss.Q, ss.H, ss.m, ss.P))
    if isinstance(sites, Readings):
        return model and not np.isinf(sites.y).any() and bool((sites.R >= 0).all())
    return model and bool(np.isfinite(sites.j).all() and np.isfinite(sites.J).all())


def _slope_by_read_out(ss: StateSpace, sites: Sites) -> np.ndarray:
    """Sum of j x' - J E[f x'] cut to the chains, from the smoothed moments of all states."""
    C, k, d = ss.H.shape
    H = np.zeros((C, k, C, d))
    H[np.arange(C), :, np.arange(C)] = ss.H
    H = H.reshape(C * k, C * d)
    J = sites.J if sites.J.ndim == 3 else sites.J[:, :, None] * np.eye(C * k)
    states = ss._replace(H=np.tile(np.eye(d), (C, 1, 1)))
    about = Sites(sites.j @ H, np.ascontiguousarray(H.T @ J @ H))
    x, cov, _ = _forms.solve(states, about, "covariance", 1, True)
    f = x @ H.T
    both = H @ cov + f[:, :, None] * x[:, None, :]
    whole = np.einsum("ta,tn->an", sites.j, x) - np.einsum("tab,tbn->an", J, both)
    return whole.reshape(C, k, C, d)[np.arange(C), :, np.arange(C)].reshape(ss.H.shape)
