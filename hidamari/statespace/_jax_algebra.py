"""Small dense algebra in jax: inverses, factors and reflections, written out as loops over columns.

None of it calls LAPACK, which can wait for ever inside a batched scan on a CPU, and all of it takes any
leading axes. Loops are unrolled up to ``_UNROLLED`` columns, which compiles fast and runs as few kernels.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["factor", "inverse", "product", "reflect", "repeat", "symmetric", "transpose"]

_UNROLLED = 2


def repeat(n: int, body: Callable, carry: Any) -> Any:
    """Apply carry = body(i, carry) for i = 0 .. n - 1."""
    if n > _UNROLLED:
        return lax.fori_loop(0, n, body, carry)
    for i in range(n):
        carry = body(i, carry)
    return carry


def transpose(X: jax.Array) -> jax.Array:
    """X' over the last two axes."""
    return jnp.swapaxes(X, -1, -2)


def symmetric(X: jax.Array) -> jax.Array:
    """(X + X') / 2."""
    return 0.5 * (X + transpose(X))


def product(A: jax.Array, B: jax.Array) -> jax.Array:
    """A B over the last two axes, in full precision on every device."""
    if A.shape[-1] == 1:
        return A * B
    return jnp.matmul(A, B, precision="highest")


@jax.custom_jvp
def inverse(M: jax.Array) -> tuple[jax.Array, jax.Array]:
    """M^-1 and log |det M| over the last two axes, by Gauss-Jordan with row pivoting."""
    n = M.shape[-1]
    rows = jnp.arange(n)

    def eliminate(c, carry):
        both, log_det = carry
        column = both[..., :, c]
        best = jnp.argmax(jnp.where(rows >= c, jnp.abs(column), -1.0), axis=-1)[..., None]
        swapped = jnp.where(rows == c, best, jnp.where(rows == best, c, rows))
        both = jnp.take_along_axis(both, swapped[..., None], axis=-2)
        column, row = both[..., :, c], both[..., c, :]
        pivot = column[..., c]
        row = row / pivot[..., None]
        rest = jnp.where(rows == c, 0.0, column)
        both = jnp.where((rows == c)[:, None], row[..., None, :], both - rest[..., None] * row[..., None, :])
        return both, log_det + jnp.log(jnp.abs(pivot))

    both = jnp.concatenate([M, jnp.broadcast_to(jnp.eye(n, dtype=M.dtype), M.shape)], axis=-1)
    both, log_det = repeat(n, eliminate, (both, jnp.zeros(M.shape[:-2], M.dtype)))
    return both[..., n:], log_det


@inverse.defjvp
def _inverse_slope(primals, tangents):
    """d M^-1 = -M^-1 dM M^-1 and d log |det M| = tr(M^-1 dM): nothing goes through the pivots."""
    X, log_det = inverse(*primals)
    step = product(X, tangents[0])
    return (X, log_det), (-product(step, X), jnp.trace(step, axis1=-2, axis2=-1))


def factor(P: jax.Array) -> jax.Array:
    """Lower-triangular L with P = L L', for positive semi-definite P.

    A pivot that carries no digits (a padded state, no noise) gives a zero column, with a slope of zero.
    """
    d, info = P.shape[-1], jnp.finfo(P.dtype)
    rows = jnp.arange(d)
    diagonal = jnp.diagonal(P, axis1=-2, axis2=-1)
    least = jnp.maximum(d * info.eps * diagonal, info.tiny / info.eps)

    def column(i, carry):
        S, L = carry
        pivot = S[..., i, i]
        good = (pivot > least[..., i])[..., None]
        root = jnp.sqrt(jnp.where(good, pivot[..., None], 1.0))
        own = jnp.where(good & (rows >= i), S[..., :, i] / root, 0.0)
        return S - own[..., :, None] * own[..., None, :], jnp.where(rows == i, own[..., :, None], L)

    return repeat(d, column, (P, jnp.zeros_like(P)))[1]


def reflect(X: jax.Array, V: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """Turn the rows of [X; V] such that the first n columns of X vanish and V stays upper triangular there.

    X is (..., rows, w) and V (..., n, w). Reflection i combines row i of V with all of X, so that no other
    row of V fills up; a zero pivot leaves a zero row.
    """
    rows = jnp.arange(n)

    def one(i, carry):
        X, V = carry
        x, own = X[..., :, i], V[..., i, :]
        head = own[..., i]
        top = jnp.maximum(jnp.max(jnp.abs(x), axis=-1), jnp.abs(head))
        unit = jnp.where(top > 0, top, 1.0)  # so that no square leaves the range of the format
        total = (head / unit) ** 2 + jnp.sum((x / unit[..., None]) ** 2, axis=-1)
        norm = jnp.sqrt(total) * unit
        pivot = jnp.where(head < 0, norm, -norm)
        v = x / jnp.where(top > 0, head - pivot, 1.0)[..., None]
        turn = jnp.where(top > 0, (pivot - head) / jnp.where(top > 0, pivot, 1.0), 0.0)
        s = turn[..., None] * (own + product(v[..., None, :], X)[..., 0, :])
        V = jnp.where((rows == i)[:, None], (own - s)[..., None, :], V)
        return X - v[..., :, None] * s[..., None, :], V

    X, V = repeat(n, one, (X, V))
    below = jnp.arange(V.shape[-1]) < rows[:, None]
    return X, jnp.where(below, 0.0, V)
