"""The recursions of ``_jax_covariance`` as associative scans, O(log T) deep, for devices with many cores.

Forward, an element says how the filtered state of its last row depends on the state x before its first,
x' ~ N(A x + b, C), and what its sites say about x, exp(eta'x - x'Z x/2). Element i before element k:

    M = (I + C_i Z_k)^-1    A = A_k M A_i    b = A_k M (b_i + C_i eta_k) + b_k    C = A_k M C_i A_k' + C_k
    eta = A_i' M' (eta_k - Z_k b_i) + eta_i    Z = A_i' M' Z_k A_i + Z_i

A trial starts with A = 0. Every row is then predicted once more from the filtered one before it, and what
follows, log normalisers too, is read from these predictions as in the sequential form, so that errors of
the scan do not add up in them. Backward, (u, U) moves by u <- F u + c, U <- F U F' + Omega: no inverse.

References
----------
S. Särkkä and A. F. García-Fernández, Temporal parallelization of Bayesian smoothers, IEEE TAC 66, 2021.
"""

import jax
import jax.numpy as jnp
from jax import lax

from hidamari.statespace._jax_algebra import inverse, product, symmetric, transpose
from hidamari.statespace._jax_covariance import (
    Rows,
    Update,
    along,
    apply,
    block_diagonal,
    blockwise,
    predict,
    steps_of,
    update,
)

__all__ = ["backward", "forward"]


def forward(rows: Rows) -> tuple[jax.Array, jax.Array]:
    """Predicted moments of all rows, (T, g, n) and (T, g, n, n)."""
    A, Q = steps_of(rows)
    T, n = len(rows.step), rows.m.shape[-1]
    start = (rows.step < 0)[:, None, None]
    Ht = transpose(rows.H)
    h = along(Ht, rows.j)
    Z = blockwise(Ht, transpose(blockwise(Ht, rows.J)))
    whole = (T, *rows.P.shape)
    wide_A, wide_Q = (jnp.broadcast_to(block_diagonal(a), whole) for a in (A, Q))
    M, _ = inverse(jnp.eye(n, dtype=Z.dtype) + product(wide_Q, Z))
    first = update(rows.H, rows.m, rows.P, rows.j, rows.J)
    MA = product(M, wide_A)
    C = symmetric(product(M, wide_Q))
    elements = (
        jnp.where(start[..., None], 0.0, MA),
        jnp.where(start, first.mean, apply(C, h)),
        jnp.where(start[..., None], first.cov, C),
        jnp.where(start, 0.0, apply(transpose(MA), h)),
        jnp.where(start[..., None], 0.0, symmetric(product(transpose(MA), product(Z, wide_A)))),
    )
    _, m, P, _, _ = _scan(_join, elements)
    m, P = (jnp.concatenate([jnp.zeros_like(a[:1]), a[:-1]]) for a in (m, P))
    m, P = predict(A, Q, m, P)
    return jnp.where(start, rows.m, m), jnp.where(start[..., None], rows.P, P)


def _scan(join, elements, reverse: bool = False):
    """All prefixes (with reverse, suffixes) of associative elements, by doubling (Hillis and Steele 1986).

    It does log2(T) / 2 times the work of jax.lax.associative_scan with half its depth, and as one loop it
    compiles in a tenth of the time and for every length alike.
    """
    T = len(elements[0])
    at = jnp.arange(T)

    def double(level, elements):
        far = jnp.left_shift(1, level)
        other = at + far if reverse else at - far
        inside = (other >= 0) & (other < T)
        joined = join(tuple(a[jnp.clip(other, 0, T - 1)] for a in elements), elements)
        return tuple(
            jnp.where(inside.reshape(-1, *(1,) * (a.ndim - 1)), b, a) for a, b in zip(elements, joined)
        )

    return lax.fori_loop(0, (T - 1).bit_length(), double, elements)


def _join(i, k):
    """One element for two that follow each other."""
    A_i, b_i, C_i, eta_i, Z_i = i
    A_k, b_k, C_k, eta_k, Z_k = k
    M, _ = inverse(jnp.eye(C_i.shape[-1], dtype=C_i.dtype) + product(C_i, Z_k))
    AM, MA = product(A_k, M), product(M, A_i)
    return (
        product(AM, A_i),
        apply(AM, b_i + apply(C_i, eta_k)) + b_k,
        symmetric(product(product(AM, C_i), transpose(A_k))) + C_k,
        apply(transpose(MA), eta_k - apply(Z_k, b_i)) + eta_i,
        symmetric(product(transpose(MA), product(Z_k, A_i))) + Z_i,
    )


def backward(rows: Rows, new: Update) -> tuple[jax.Array, jax.Array]:
    """(u, U): what later rows say about the filtered state of each, (T, g, n) and (T, g, n, n)."""
    At = transpose(steps_of(rows)[0])
    start = (rows.step < 0)[:, None, None]
    Ht = transpose(rows.H)
    n = rows.m.shape[-1]
    F = jnp.eye(n, dtype=new.cov.dtype) - blockwise(Ht, product(rows.J, new.HPf))
    W = blockwise(Ht, transpose(blockwise(Ht, new.W)))
    elements = (
        jnp.where(start[..., None], 0.0, blockwise(At, F)),
        jnp.where(start, 0.0, along(At, along(Ht, new.v))),
        jnp.where(start[..., None], 0.0, symmetric(blockwise(At, transpose(blockwise(At, W))))),
    )
    _, u, U = _scan(_join_back, elements, reverse=True)
    u, U = (jnp.concatenate([a[1:], jnp.zeros_like(a[:1])]) for a in (u, U))
    return u, U


def _join_back(later, earlier):
    """One element for two, the earlier rows acting last."""
    F_l, c_l, W_l = later
    F, c, W = earlier
    return product(F, F_l), apply(F, c_l) + c, symmetric(product(product(F, W_l), transpose(F))) + W
