"""The covariance form of the core in jax: short recursions over time, and all else over all rows at once.

Chains are arranged in groups: one for each chain where no site couples them, else one of all. A group has
c chains of d states, n = c d states and r = c k read-outs; arrays of a row lead with the groups. With the
predicted moments (m, P) of a row, S = H P H' and X = (I + S J)^-1,

    e = j - J H m      v = X' e      W = J X      m_f = m + P H' v      P_f = P - P H' W H P

and backward, with (u, U) = (A' r, A' N A) of the next row, G = H P_f U and E = G P_f H',

    r = u + H' (v - J H P_f u)      N = U - H' J G - (J G)' H + H' (J E J + W) H
    mean = H m_f + H P_f u          cov = H P_f H' - E

(r, N) are the adjoint of the filter: d log Z/dP = (r r' - N)/2 and d log Z/dm = r for predicted moments.
The recursions give only (m, P) and (u, U); everything that follows from them is vectorised over the rows,
and is shared with ``_jax_parallel``, whose recursions are associative scans.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hidamari.statespace._jax_algebra import inverse, product, symmetric, transpose

__all__ = [
    "Rows",
    "Update",
    "absorb",
    "along",
    "apply",
    "backward",
    "block_diagonal",
    "blockwise",
    "forward",
    "moments",
    "predict",
    "slope",
    "slope_by_read_out",
    "steps_of",
    "update",
    "value_and_slope",
]


class Rows(NamedTuple):
    """A model and its sites in groups g; S distinct steps, T rows."""

    A: jax.Array  # (S, g, c, d, d)
    Q: jax.Array  # (S, g, c, d, d)
    step: jax.Array  # (T,), negative where a trial starts
    H: jax.Array  # (g, c, k, d)
    m: jax.Array  # (g, n)
    P: jax.Array  # (g, n, n)
    j: jax.Array  # (T, g, r)
    J: jax.Array  # (T, g, r, r)


class Update(NamedTuple):
    """What the site of a row makes of its predicted moments."""

    mean: jax.Array  # of the states, (..., n)
    cov: jax.Array  # (..., n, n)
    f: jax.Array  # mean of the read-outs, (..., r)
    S: jax.Array  # their covariance, (..., r, r)
    HPf: jax.Array  # (..., r, n)
    v: jax.Array  # (..., r)
    W: jax.Array  # (..., r, r)
    log_norm: jax.Array  # (...)


def blockwise(A: jax.Array, X: jax.Array) -> jax.Array:
    """A X for A (..., c, a, b) of the chains and X (..., c b, w)."""
    c, b = A.shape[-3], A.shape[-1]
    moved = product(A, X.reshape(*X.shape[:-2], c, b, X.shape[-1]))
    return moved.reshape(*moved.shape[:-3], c * A.shape[-2], X.shape[-1])


def along(A: jax.Array, x: jax.Array) -> jax.Array:
    """A x for A (..., c, a, b) of the chains and x (..., c b)."""
    return blockwise(A, x[..., None])[..., 0]


def apply(M: jax.Array, x: jax.Array) -> jax.Array:
    """M x over the last axes."""
    return product(M, x[..., None])[..., 0]


def block_diagonal(Q: jax.Array) -> jax.Array:
    """One matrix (..., c d, c d) of the blocks (..., c, d, d)."""
    c, d = Q.shape[-3], Q.shape[-1]
    if c == 1:
        return Q[..., 0, :, :]
    spread = Q[..., :, :, None, :] * jnp.eye(c, dtype=Q.dtype)[:, None, :, None]
    return spread.reshape(*Q.shape[:-3], c * d, c * d)


def diagonal_blocks(M: jax.Array, c: int) -> jax.Array:
    """The blocks (..., c, d, d) on the diagonal of (..., c d, c d)."""
    d = M.shape[-1] // c
    if c == 1:
        return M[..., None, :, :]
    blocks = jnp.diagonal(M.reshape(*M.shape[:-2], c, d, c, d), axis1=-4, axis2=-2)
    return jnp.moveaxis(blocks, -1, -3)


def predict(A: jax.Array, Q: jax.Array, m: jax.Array, P: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moments after a step."""
    return along(A, m), symmetric(blockwise(A, transpose(blockwise(A, P)))) + block_diagonal(Q)


def gain(S: jax.Array, J: jax.Array) -> tuple[jax.Array, jax.Array]:
    """X = (I + S J)^-1 and log det (I + S J)."""
    if S.shape[-1] == 1:
        SJ = S * J
        return 1.0 / (1.0 + SJ), jnp.log1p(SJ)[..., 0, 0]
    return inverse(jnp.eye(S.shape[-1], dtype=S.dtype) + product(S, J))


def update(H: jax.Array, m: jax.Array, P: jax.Array, j: jax.Array, J: jax.Array) -> Update:
    """Multiply predicted moments by a site."""
    HP = blockwise(H, P)
    S = symmetric(blockwise(H, transpose(HP)))
    f = along(H, m)
    X, log_det = gain(S, J)
    Jf = apply(J, f)
    e = j - Jf
    v = apply(transpose(X), e)
    W = symmetric(product(J, X))
    Sf = symmetric(product(X, S))
    shift = apply(Sf, e)
    return Update(
        mean=m + apply(transpose(HP), v),
        cov=P - symmetric(product(transpose(HP), product(W, HP))),
        f=f + shift,
        S=Sf,
        HPf=product(X, HP),
        v=v,
        W=W,
        log_norm=jnp.sum(f * (j - 0.5 * Jf) + 0.5 * e * shift, axis=-1) - 0.5 * log_det,
    )


def steps_of(rows: Rows) -> tuple[jax.Array, jax.Array]:
    """A and Q of every row, (T, g, c, d, d), or (g, c, d, d) where all are one.

    Gathered here and not inside the recursion, whose derivative would touch all S of them at every row.
    """
    if rows.A.shape[0] == 1:
        return rows.A[0], rows.Q[0]
    at = jnp.maximum(rows.step, 0)
    return rows.A[at], rows.Q[at]


def forward(rows: Rows) -> tuple[jax.Array, jax.Array]:
    """Predicted moments of all rows, (T, g, n) and (T, g, n, n)."""
    A, Q = steps_of(rows)
    shared = A.ndim == 4

    def body(carry, row):
        start, j, J, own = row
        m, P = predict(*((A, Q) if shared else own), *carry)
        m, P = jnp.where(start, rows.m, m), jnp.where(start, rows.P, P)
        new = update(rows.H, m, P, j, J)
        return (new.mean, new.cov), (m, P)

    own = None if shared else (A, Q)
    inputs = (rows.step < 0, rows.j, rows.J, own)
    return lax.scan(body, (jnp.zeros_like(rows.m), jnp.zeros_like(rows.P)), inputs)[1]


def absorb(H, J, new: Update, u: jax.Array, U: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(r, N) of before a site from (u, U) of after it."""
    h, G = apply(new.HPf, u), product(new.HPf, U)
    JG = product(J, G)
    E = product(G, transpose(new.HPf))
    Ht = transpose(H)
    cross = blockwise(Ht, JG)
    inner = product(product(J, E), J) + new.W
    r = u + along(Ht, new.v - apply(J, h))
    N = U - (cross + transpose(cross)) + blockwise(Ht, transpose(blockwise(Ht, symmetric(inner))))
    return r, N


def backward(rows: Rows, new: Update) -> tuple[jax.Array, jax.Array]:
    """(u, U): what later rows say about the filtered state of each, (T, g, n) and (T, g, n, n)."""
    A, _ = steps_of(rows)
    shared = A.ndim == 4

    def body(carry, row):
        start, J, new, own = row
        r, N = absorb(rows.H, J, new, *carry)
        At = transpose(A if shared else own)
        u, U = along(At, r), symmetric(blockwise(At, transpose(blockwise(At, N))))
        return (jnp.where(start, 0.0, u), jnp.where(start, 0.0, U)), carry

    needed = new._replace(mean=None, cov=None, f=None, S=None, log_norm=None)
    inputs = (rows.step < 0, rows.J, needed, None if shared else A)
    return lax.scan(body, (jnp.zeros_like(rows.m), jnp.zeros_like(rows.P)), inputs, reverse=True)[1]


def moments(new: Update, u: jax.Array, U: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Smoothed mean and covariance of the read-outs, from the filtered ones."""
    E = product(product(new.HPf, U), transpose(new.HPf))
    return new.f + apply(new.HPf, u), new.S - symmetric(E)


def slope(rows: Rows, r: jax.Array, N: jax.Array, mean: jax.Array, cov: jax.Array):
    """Derivatives of the log evidence by A, Q, m, P from (r, N) and the filtered moments of all rows.

    dQ += Y and dA += r m_f' + 2 Y A P_f = r (m_f + P_f A'r)' - (N A) P_f with the m_f and P_f of the row
    before and Y = (r r' - N) / 2, each cut to its chains.
    """
    c, d = rows.H.shape[1], rows.H.shape[3]
    Y = diagonal_blocks(0.5 * (r[..., :, None] * r[..., None, :] - N), c)
    start = (rows.step < 0)[:, None, None, None, None]
    past_m = jnp.concatenate([jnp.zeros_like(mean[:1]), mean[:-1]])
    past_P = jnp.concatenate([jnp.zeros_like(cov[:1]), cov[:-1]])
    At = transpose(steps_of(rows)[0])
    reached = past_m + apply(past_P, along(At, r))
    NA = transpose(blockwise(At, N))
    split = (*r.shape[:-1], c, d)
    outer = r.reshape(split)[..., :, None] * reached.reshape(split)[..., None, :]
    wide = jnp.moveaxis(past_P.reshape(*past_P.shape[:-1], c, d), -2, -3)  # (T, g, c, n, d)
    dA = outer - product(NA.reshape(*split, c * d), wide)
    dA, dQ = jnp.where(start, 0.0, dA), jnp.where(start, 0.0, Y)
    if rows.A.shape[0] == 1:
        dA, dQ = dA.sum(0)[None], dQ.sum(0)[None]
    else:
        at = jnp.maximum(rows.step, 0)
        dA, dQ = jnp.zeros_like(rows.A).at[at].add(dA), jnp.zeros_like(rows.Q).at[at].add(dQ)
    dm = jnp.where(start[..., 0, 0], r, 0.0).sum(0)
    dP = jnp.where(start, Y, 0.0).sum(0)
    return dA, dQ, dm, dP


def slope_by_read_out(rows: Rows, f: jax.Array, x: jax.Array, both: jax.Array) -> jax.Array:
    """Derivative by H, sum of j x' - J E[f x'] cut to the chains, from smoothed means and Cov(f, x)."""
    g, c, k, d = rows.H.shape
    whole = rows.j[..., :, None] * x[..., None, :]
    whole = whole - product(rows.J, both + f[..., :, None] * x[..., None, :])
    whole = whole.sum(0).reshape(g, c, k, c, d)
    return jnp.moveaxis(jnp.diagonal(whole, axis1=1, axis2=3), -1, 1)


def value_and_slope(rows: Rows, m: jax.Array, P: jax.Array, smoother, with_H: bool):
    """Log normalisers, Moments, the change by a shift of f and its precision, and derivatives by the model.

    With q = v - J H P_f u and D = W + J E J, d log Z / d f = q and the curvature is q q' - D: for readings,
    d log Z / dy = -q and d log Z / dR = (q^2 - D) / 2, with no difference of large numbers.
    """
    new = update(rows.H, m, P, rows.j, rows.J)
    u, U = smoother(rows, new)
    r, N = absorb(rows.H, rows.J, new, u, U)
    dA, dQ, dm, dP = slope(rows, r, N, new.mean, new.cov)
    mean, cov = moments(new, u, U)
    dH = jnp.zeros_like(rows.H)
    if with_H:
        both = new.HPf - product(product(new.HPf, U), new.cov)
        dH = slope_by_read_out(rows, mean, new.mean + apply(new.cov, u), both)
    E = product(product(new.HPf, U), transpose(new.HPf))
    q = new.v - apply(rows.J, apply(new.HPf, u))
    D = new.W + product(product(rows.J, E), rows.J)
    return new.log_norm, (mean, cov), (q, D), (dA, dQ, dH, dm, dP)
