"""The formulas of `_matern` in jax, with exact derivatives, and a triangular factor of Q for float32."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hidamari.statespace._jax_algebra import product, transpose
from hidamari.statespace._matern import intensity, legendre, stationary, taylor

__all__ = ["noise", "noise_factor", "scaled", "stationary", "transition", "triangular"]

_FORGOTTEN = 1e3  # as in _matern: e^-u is exactly 0 from u = 746 on (104 in float32)
_DOUBLINGS = 5  # from 1.5 to 48, where Q(u) is P to the last digit


def scaled(order: int, lengthscale: Any, dt: jax.Array) -> jax.Array:
    """Return u = sqrt(2p + 1) dt / lengthscale, cut where all is forgotten.

    The cut comes before the division, so that neither overflows, nor the derivative.
    """
    return float(np.sqrt(2.0 * order + 1.0)) * (jnp.minimum(dt, _FORGOTTEN * lengthscale) / lengthscale)


def transition(order: int, u: jax.Array) -> jax.Array:
    """Return A(u) = e^-u sum_k u^k N^k / k!, (S,) -> (S, d, d)."""
    d = order + 1
    terms = jnp.asarray(taylor(order), u.dtype).reshape(d, d * d)
    return product(_powers(order, u), terms).reshape(*u.shape, d, d)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def noise(order: int, u: jax.Array) -> jax.Array:
    """Return Q(u) of unit variance, (S,) -> (S, d, d), by the quadrature and doublings of `_matern.noise`."""
    h, doublings = _halved(u)
    G = _integrand(order, h)

    def double(Q: jax.Array, A: jax.Array) -> jax.Array:
        return Q + product(product(A, Q), transpose(A))

    return _doubled(order, double, product(transpose(G), G), h, doublings)


@noise.defjvp
def _(order: int, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """Differentiate Q: dQ/du = q a a', with a the last column of A(u)."""
    (u,), (du,) = primals, tangents
    a = transition(order, u)[..., -1]
    return noise(order, u), (intensity(order) * du)[..., None, None] * (a[..., :, None] * a[..., None, :])


def noise_factor(order: int, u: jax.Array) -> jax.Array:
    """Return the lower triangular G(u) with Q(u) = G G', (S,) -> (S, d, d).

    As `noise`, but [G, A G] takes the place of Q + A Q A'.
    """
    some = u > 0.0  # the square root of a gap of 0 has no derivative: G is 0 there
    h, doublings = _halved(jnp.where(some, u, 1.0))

    def double(G: jax.Array, A: jax.Array) -> jax.Array:
        return triangular(transpose(jnp.concatenate([G, product(A, G)], axis=-1)))

    G = _doubled(order, double, triangular(_integrand(order, h)), h, doublings)
    return jnp.where(some[..., None, None], G, 0.0)


def triangular(M: jax.Array) -> jax.Array:
    """Return the lower triangular L with L L' = M' M, (..., n, d) -> (..., d, d), by modified Gram-Schmidt.

    Each column of M keeps the digits of its own size. A column that is 0, or nothing but rounding next to the
    others, gives zeros, and so do its derivatives.
    """
    size = jax.lax.stop_gradient(jnp.abs(M).max(axis=-2, keepdims=True))
    size = jnp.where(size > 0.0, size, 1.0)
    columns = jnp.arange(M.shape[-1])

    def one(M: jax.Array, j: jax.Array) -> tuple[jax.Array, jax.Array]:
        column = jnp.take(M, j, axis=-1)
        square = jnp.sum(column**2, axis=-1, keepdims=True)
        direction = column / jnp.sqrt(jnp.where(square > 0.0, square, 1.0))
        row = jnp.where(columns >= j, jnp.sum(direction[..., None] * M, axis=-2), 0.0)
        return M - direction[..., None] * row[..., None, :], row

    rows = jax.lax.scan(one, M / size, columns)[1]
    return transpose(jnp.moveaxis(rows, 0, -2) * size)


def _halved(u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return h <= 2 and how often it doubles to u, which is cut where Q is settled."""
    u = jnp.minimum(u, 2.0**_DOUBLINGS * 1.5)
    doublings = (u[..., None] > 2.0 ** np.arange(1, _DOUBLINGS + 1)).sum(axis=-1)
    return u * jnp.asarray(2.0 ** -np.arange(_DOUBLINGS + 1.0), u.dtype)[doublings], doublings


def _doubled(order: int, double: Callable, M: jax.Array, h: jax.Array, doublings: jax.Array) -> jax.Array:
    """Return M after as many steps of double(M, A(h)), h <- 2 h, as each entry needs."""

    def one(carry: tuple, n: jax.Array) -> tuple[tuple, None]:
        M, h = carry
        more = doublings > n
        doubled = double(M, transition(order, h))
        return (jnp.where(more[..., None, None], doubled, M), jnp.where(more, 2.0 * h, h)), None

    return jax.lax.scan(one, (M, h), jnp.arange(_DOUBLINGS))[0][0]


def _integrand(order: int, h: jax.Array) -> jax.Array:
    """Return g at the nodes of quadrature on [0, h], each times the root of its weight, (..., nodes, d)."""
    nodes, weights = (jnp.asarray(part, h.dtype) for part in legendre(14))
    last = jnp.asarray(taylor(order)[:, :, -1], h.dtype)
    G = product(_powers(order, h[..., None] * nodes), last)
    return jnp.sqrt(intensity(order) * h[..., None] * weights)[..., None] * G


def _powers(order: int, u: jax.Array) -> jax.Array:
    """Return e^-u u^k for k = 0..p along a new last axis; e^-u goes first, so that nothing overflows."""
    terms = [jnp.exp(-u)]
    for _ in range(order):
        terms.append(terms[-1] * u)
    return jnp.stack(terms, axis=-1)
