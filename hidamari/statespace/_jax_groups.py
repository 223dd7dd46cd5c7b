"""Models and sites arranged in groups of chains for the jax loops, and the answers put back."""

import math

import jax
import jax.numpy as jnp

from hidamari.statespace._jax_covariance import Rows, block_diagonal
from hidamari.statespace.types import Readings, Sites, StateSpace

__all__ = ["as_sites", "by_readings", "by_sites", "group", "ungroup"]


def group(ss: StateSpace, sites: Sites) -> Rows:
    """One group for each chain where no site couples them, else one of all chains."""
    S, C, d, _ = ss.A.shape
    k, T = ss.H.shape[1], ss.step.shape[0]
    g, c = (C, 1) if sites.J.ndim == 2 else (1, C)
    r = c * k
    J = sites.J.reshape(T, g, r, -1)
    if sites.J.ndim == 2:
        J = J * jnp.eye(r, dtype=J.dtype)
    return Rows(
        A=ss.A.reshape(S, g, c, d, d),
        Q=ss.Q.reshape(S, g, c, d, d),
        step=ss.step,
        H=ss.H.reshape(g, c, k, d),
        m=ss.m.reshape(g, c * d),
        P=block_diagonal(ss.P.reshape(g, c, d, d)),
        j=sites.j.reshape(T, g, r),
        J=J,
    )


def ungroup(mean: jax.Array, cov: jax.Array, diagonal: bool) -> tuple[jax.Array, jax.Array]:
    """Moments (T, g, r) and (T, g, r, r) as (T, K) and (T, K, K), or (T, K) for diagonal sites."""
    T = mean.shape[0]
    if diagonal:
        return mean.reshape(T, -1), jnp.diagonal(cov, axis1=-2, axis2=-1).reshape(T, -1)
    return mean.reshape(T, -1), cov[:, 0]


def as_sites(sites: Sites | Readings) -> tuple[Sites, jax.Array]:
    """Readings with noise as sites, and the constant of each row that goes with them."""
    if isinstance(sites, Sites):
        return sites, jnp.zeros(len(sites.j), sites.j.dtype)
    y, R = sites
    seen = ~jnp.isnan(y) & ~jnp.isinf(R)
    y, R = jnp.where(seen, y, 0.0), jnp.where(seen, R, 1.0)  # before any arithmetic: slopes stay finite
    J = jnp.where(seen, 1.0 / R, 0.0)
    constant = jnp.where(seen, -0.5 * (y * y * J + jnp.log(R) + math.log(2 * math.pi)), 0.0)
    return Sites(y * J, J), constant.sum(1)


def by_sites(mean: jax.Array, cov: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Derivatives of the log evidence by j and J: the mean, and -E[f f'] / 2, from smoothed moments."""
    both = mean * mean if cov.ndim == 2 else mean[:, :, None] * mean[:, None, :]
    return mean, -0.5 * (cov + both)


def by_readings(readings: Readings, q: jax.Array, D: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Derivatives by y and R: -q and (q^2 - D) / 2, zero where nothing was seen."""
    seen = ~jnp.isnan(readings.y) & ~jnp.isinf(readings.R)
    return jnp.where(seen, -q, 0.0), jnp.where(seen, 0.5 * (q * q - D), 0.0)
