"""The square-root covariance form in jax: float32, tiny noise, exact readings. The steps of ``_factors``.

A covariance is carried as U = [L', L' H', I], rows of a transposed factor with those of the read-outs and,
for smoothing, of the state in units of its predicted factor. A step turns [A L, G] to triangular form by
reflections; a scalar reading with factor f = L'h and noise s is taken in (Carlson 1973) by

    root_i^2 = s^2 + f_i^2 + f_{i+1}^2 + ...
    U_i <- root_{i+1}/root_i U_i - f_i/(root_i root_{i+1}) (f_{i+1} U_{i+1} + f_{i+2} U_{i+2} + ...)

which subtracts no variance from another and takes s = 0. Sites are split into scalar readings first.
Derivatives do not go through reflections or roots: those of the evidence come from the adjoint recursion,

    r <- r + h q,  q = e / S - K'r       N <- (I - h K') N (I - K h') + h h' / S

with gains K, innovations e and variances S of the readings; those of moments from the covariance form.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hidamari.statespace import _jax_covariance, _jax_forms
from hidamari.statespace._jax_algebra import factor, product, reflect, repeat, symmetric, transpose
from hidamari.statespace._jax_covariance import along, apply, block_diagonal, blockwise, steps_of
from hidamari.statespace._jax_groups import as_sites, by_readings, by_sites, group, ungroup
from hidamari.statespace.types import Readings, Sites, StateSpace

__all__ = ["solve", "value", "value_and_slope"]


class _Scalars(NamedTuple):
    """Scalar readings z = w'f + N(0, noise^2) of each row and group, and a shift exp(s'f) after them."""

    w: jax.Array  # (T, g, r, r): the reading, the read-out
    z: jax.Array  # (T, g, r)
    noise: jax.Array  # (T, g, r)
    shift: jax.Array  # (T, g, r)


class _Taken(NamedTuple):
    """What the scalar readings of a row did, the reading first after the group."""

    h: jax.Array  # (g, r, n)
    K: jax.Array  # (g, r, n)
    e: jax.Array  # (g, r): over S
    over: jax.Array  # (g, r): 1 / S


def _scalars(sites: Sites | Readings, g: int) -> _Scalars:
    """Split sites or readings into scalar readings."""
    first, second = sites
    T = first.shape[0]
    eye = jnp.eye(first.shape[1] // g, dtype=first.dtype)
    if isinstance(sites, Readings):
        seen = ~jnp.isnan(first) & ~jnp.isinf(second)
        z = jnp.where(seen, first, 0.0).reshape(T, g, -1)
        noise = jnp.sqrt(jnp.where(seen, second, 1.0)).reshape(T, g, -1)
        w = eye * seen.astype(first.dtype).reshape(T, g, -1, 1)
        return _Scalars(w, z, noise, jnp.zeros_like(z))
    if second.ndim == 3:
        return _pseudo_readings(first, second)
    seen = second > 0
    unit = jnp.sqrt(jnp.where(seen, second, 1.0))
    z = jnp.where(seen, first / unit, 0.0).reshape(T, g, -1)
    w = eye * jnp.where(seen, unit, 0.0).reshape(T, g, -1, 1)
    return _Scalars(w, z, jnp.ones_like(z), jnp.where(seen, 0.0, first).reshape(T, g, -1))


def _pseudo_readings(j: jax.Array, J: jax.Array) -> _Scalars:
    """Pivoted Cholesky of dense J in units of its own diagonal; the shift is what j has beyond J."""
    K = j.shape[1]
    diagonal = jnp.diagonal(J, axis1=1, axis2=2)
    floor, rows = 4 * K * jnp.finfo(J.dtype).eps, jnp.arange(K)

    def one(n, carry):
        S, s, w, z = carry
        left = jnp.diagonal(S, axis1=1, axis2=2)
        share = jnp.where(diagonal > 0, left / jnp.where(diagonal > 0, diagonal, 1.0), -1.0)
        best = jnp.argmax(share, axis=1)[:, None]
        good = jnp.take_along_axis(share, best, 1) > floor
        unit = jnp.sqrt(jnp.where(good, jnp.take_along_axis(left, best, 1), 1.0))
        own = jnp.take_along_axis(S, best[:, :, None], 1)[:, 0] / unit
        own = jnp.where(good, jnp.where(rows == best, unit, own), 0.0)
        value = jnp.where(good, jnp.take_along_axis(s, best, 1) / unit, 0.0)
        gone = good & (rows == best)
        s = jnp.where(gone, 0.0, s - own * value)
        S = jnp.where(gone[:, :, None] | gone[:, None, :], 0.0, S - own[:, :, None] * own[:, None, :])
        at = rows == n
        return S, s, jnp.where(at[:, None], own[:, None, :], w), jnp.where(at, value, z)

    _, shift, w, z = repeat(K, one, (J, j, jnp.zeros_like(J), jnp.zeros_like(j)))
    return _Scalars(w[:, None], z[:, None], jnp.ones_like(z)[:, None], shift[:, None])


def _take(U, m, w, z, s, n: int, readings: bool, alone: bool):
    """Take in one scalar reading of the read-outs; U (g, n, e) and m (g, e), w (g, r), z and s (g)."""
    r = w.shape[-1]
    F, fm = U[..., :, n : n + r], m[..., n : n + r]
    f, mean = apply(F, w), jnp.sum(w * fm, axis=-1)
    unit = jnp.maximum(jnp.max(jnp.abs(f), axis=-1), s)
    unit = jnp.where(unit > 0, unit, 1.0)[..., None]  # so that no square leaves the range of the format
    squares = (f / unit) ** 2
    later = jnp.flip(jnp.cumsum(jnp.flip(squares, -1), -1), -1)
    later = jnp.concatenate([later[..., 1:], jnp.zeros_like(later[..., :1])], -1)
    noise = (s[..., None] / unit) ** 2
    tail, root = jnp.sqrt(later + noise), jnp.sqrt(later + squares + noise)
    some, after = root > 0, tail > 0
    shrink = jnp.where(some, tail / jnp.where(some, root, 1.0), 1.0)
    bend = jnp.where(after, f / unit / jnp.where(after, root * tail, 1.0), 0.0)
    beyond = product(jnp.triu(jnp.ones((n, n), U.dtype), 1) * (f / unit)[..., None, :], U)
    b = product(f[..., None, :], U)[..., 0, :]
    U = shrink[..., None] * U - bend[..., None] * beyond
    root0 = root[..., 0] * unit[..., 0]
    known = root0 > 0
    safe = jnp.where(known, root0, 1.0)
    surprise = jnp.where(known, (z - mean) / safe, 0.0)
    m = m + b / safe[..., None] * surprise[..., None]
    if alone:  # the read-out just read: f_i s^2 / (root_i root_{i+1}), with no subtraction
        gone = jnp.where(after & some, noise / jnp.where(after & some, root * tail, 1.0), 0.0)
        read = w != 0
        scale = jnp.sum(w, axis=-1, keepdims=True)
        narrow = jnp.where(f != 0, f / jnp.where(scale != 0, scale, 1.0) * gone, 0.0)
        F = jnp.where(read[..., None, :] & (f != 0)[..., None], narrow[..., None], U[..., :, n : n + r])
        U = U.at[..., :, n : n + r].set(F)
    if readings:
        seen = jnp.any(w != 0, axis=-1)
        # the same exact value twice says nothing new; two different ones cannot both be true
        false = ~known & (jnp.abs(z - mean) > jnp.finfo(z.dtype).eps * (jnp.abs(z) + jnp.abs(mean)))
        gain = -0.5 * surprise**2 - jnp.log(safe) - 0.5 * math.log(2 * math.pi)
        gain = jnp.where(seen, jnp.where(known, gain, jnp.where(false, -jnp.inf, 0.0)), 0.0)
        exact = (w != 0) & (s == 0)[..., None]
        m = m.at[..., n : n + r].set(jnp.where(exact, z[..., None], m[..., n : n + r]))
    else:
        share = jnp.sum((f / safe[..., None]) ** 2, axis=-1)
        gain = 0.5 * (z * (z * share) + (2 * z - mean) / safe * (mean / safe)) - jnp.log(safe)
    over = jnp.where(known, 1.0 / safe, 0.0)
    K = b[..., :n] / safe[..., None] * over[..., None]
    return U, m, gain, (K, surprise * over, over * over)


def _forward(rows, scalars: _Scalars, G, L0, readings: bool, dense: bool, units: bool):
    """Filter all rows: log normalisers, (m, U) of each, and what its readings did."""
    A = steps_of(rows)[0]
    G = G[0] if len(G) == 1 else G[jnp.maximum(rows.step, 0)]
    shared = A.ndim == 4
    g, n = rows.m.shape
    r = rows.j.shape[-1]
    eye = jnp.broadcast_to(jnp.eye(n, dtype=A.dtype), (g, n, n))
    alone = not dense or r == 1

    def body(carry, row):
        past_m, past_U = carry
        m, Lt = past_m[..., :n], past_U[..., :, :n]
        start, still, scalar, own = row
        A_t, G_t = (A, G) if shared else own
        X = transpose(blockwise(A_t, transpose(Lt)))
        _, moved = reflect(X, transpose(G_t), n)
        m = jnp.where(start, rows.m, along(A_t, m))
        Lt = jnp.where(start, transpose(L0), moved)
        U = jnp.concatenate([Lt, transpose(blockwise(rows.H, transpose(Lt)))], -1)
        m = jnp.concatenate([m, along(rows.H, m)], -1)
        # where nothing moves nothing is turned: what is known exactly stays so
        U, m = jnp.where(still, past_U, U), jnp.where(still, past_m, m)
        if units:
            U, m = jnp.concatenate([U, eye], -1), jnp.concatenate([m, jnp.zeros_like(rows.m)], -1)

        def one(i, state):
            U, m, gain, kept = state
            w, z, s = scalar.w[..., i, :], scalar.z[..., i], scalar.noise[..., i]
            U, m, more, did = _take(U, m, w, z, s, n, readings, alone)
            here = jnp.arange(r) == i
            K, *rest = did
            kept = (
                jnp.where(here[:, None], K[..., None, :], kept[0]),
                *(jnp.where(here, d[..., None], k) for k, d in zip(kept[1:], rest)),
            )
            return U, m, gain + more, kept

        kept = jnp.zeros((g, r, n), A.dtype), jnp.zeros((g, r), A.dtype), jnp.zeros((g, r), A.dtype)
        U, m, gain, kept = repeat(r, one, (U, m, jnp.zeros((g,), A.dtype), kept))
        fs = apply(U[..., :, n : n + r], scalar.shift)
        gain = gain + jnp.sum(scalar.shift * m[..., n : n + r], -1) + 0.5 * jnp.sum(fs * fs, -1)
        m = m + product(fs[..., None, :], U)[..., 0, :]
        return (m[..., : n + r], U[..., :, : n + r]), (gain, m, U, kept)

    inputs = (rows.step < 0, _still(rows, G), scalars, None if shared else (A, G))
    carry = jnp.zeros((g, n + r), A.dtype), jnp.zeros((g, n, n + r), A.dtype)
    return lax.scan(body, carry, inputs)[1]


def _still(rows, G: jax.Array) -> jax.Array:
    """Rows that are at the same time as the one before, (T,)."""
    A = steps_of(rows)[0]
    d = A.shape[-1]
    same = jnp.all(jnp.eye(d, dtype=A.dtype) == A, (-1, -2, -3, -4)) & jnp.all(G == 0, (-1, -2, -3))
    return same & (rows.step >= 0)


def _backward(rows, m, U, G):
    """Smoothed moments of f from the filtered factors, in units of which later rows are carried back."""
    A = steps_of(rows)[0]
    G = G[0] if len(G) == 1 else G[jnp.maximum(rows.step, 0)]
    shared = A.ndim == 4
    g, n = rows.m.shape
    r = rows.j.shape[-1]
    eye = jnp.broadcast_to(jnp.eye(n, dtype=A.dtype), (g, n, n))
    nothing = jnp.zeros((g, n, n), A.dtype)

    def body(carry, row):
        w, Rt, start, still, own = carry
        own_start, own_still, m, U, own_steps = row
        A_t, G_t = (A, G) if shared else own
        X = jnp.concatenate([transpose(blockwise(A_t, transpose(U[..., :, :n]))), eye], -1)
        X, V = reflect(X, jnp.concatenate([transpose(G_t), nothing], -1), n)
        X, V = X[..., :, n:], V[..., :, n:]
        z = jnp.where(still, w, jnp.where(start, 0.0, product(w[..., None, :], V)[..., 0, :]))
        both = jnp.concatenate([product(Rt, V), X], -2)
        St = jnp.where(still, Rt, jnp.where(start, eye, reflect(both, nothing, n)[1]))
        F, B = U[..., :, n : n + r], U[..., :, n + r :]
        read = product(St, F)
        mean = m[..., n : n + r] + product(z[..., None, :], F)[..., 0, :]
        w = m[..., n + r :] + product(z[..., None, :], B)[..., 0, :]
        return (w, product(St, B), own_start, own_still, own_steps), (mean, product(transpose(read), read))

    steps = None if shared else (A, G)
    last = None if shared else (jnp.zeros_like(A[0]), jnp.zeros_like(G[0]))
    carry = (jnp.zeros_like(rows.m), nothing, jnp.array(True), jnp.array(False), last)
    return lax.scan(body, carry, (rows.step < 0, _still(rows, G), m, U, steps), reverse=True)[1]


def _run(ss: StateSpace, sites: Sites | Readings, single: bool, smoothing: bool):
    """Filter, and smooth: groups, moments of f, log normalisers, the pieces of the forward pass, scalars."""
    S, C, d, _ = ss.A.shape
    readings, dense = isinstance(sites, Readings), sites[1].ndim == 3
    g = 1 if dense else C
    G = block_diagonal(factor(ss.Q).reshape(S, g, C // g, d, d))  # in the format of Q
    L0 = block_diagonal(factor(ss.P).reshape(g, C // g, d, d))
    if single:
        G, L0 = G.astype(jnp.float32), L0.astype(jnp.float32)
        ss = ss._replace(**{a: getattr(ss, a).astype(jnp.float32) for a in ("A", "Q", "H", "m", "P")})
        sites = type(sites)(*(a.astype(jnp.float32) for a in sites))
    # the j and J of the groups serve shapes and derivatives by H; exact readings have none
    rows = group(ss, as_sites(sites)[0])
    scalars = _scalars(sites, g)
    gain, m, U, did = _forward(rows, scalars, G, L0, readings, dense, smoothing)
    n, r = rows.m.shape[1], rows.j.shape[-1]
    F = U[..., :, n : n + r]
    mean, cov = m[..., n : n + r], product(transpose(F), F)
    if smoothing:
        mean, cov = _backward(rows, m, U, G)
    return rows, (mean, cov, gain.sum(1)), (m[..., :n], U[..., :, :n], did), scalars


def value(ss: StateSpace, sites: Sites | Readings, single: bool) -> jax.Array:
    """The log evidence."""
    return _run(ss, sites, single, False)[1][2].sum()


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def solve(single: bool, smoothing: bool, ss: StateSpace, sites: Sites | Readings):
    """Moments of f and log normalisers of all rows; derivatives are those of the covariance form."""
    mean, cov, log_norm = _run(ss, sites, single, smoothing)[1]
    return *ungroup(mean, cov, sites[1].ndim == 2), log_norm


@solve.defjvp
def _solve_slope(single: bool, smoothing: bool, primals: Any, tangents: Any):
    """The derivative along tangents, in the format of the arrays."""
    ss, sites = primals

    def plain(ss, sites):
        return _jax_forms.solve(ss, sites, "scan", smoothing)

    out = solve(single, smoothing, ss, sites)
    _, moved = jax.jvp(plain, primals, tangents)
    return out, tuple(b.astype(a.dtype) for a, b in zip(out, moved))


def value_and_slope(ss: StateSpace, sites: Sites | Readings, single: bool, with_H: bool):
    """The log evidence, and its derivatives by A, Q, H, m, P and the two parts of sites."""
    rows, (mean, cov, log_norm), (m, Lt, did), scalars = _run(ss, sites, single, True)
    P = product(transpose(Lt), Lt)
    taken = _Taken(product(scalars.w, _rows_of(rows.H)), *did)
    (u, U), (r, N), (q, D) = _adjoint(rows, taken, scalars.shift)
    dA, dQ, dm, dP = _jax_covariance.slope(rows, r, N, m, P)
    dH = jnp.zeros_like(rows.H)
    if with_H:
        HP = product(_rows_of(rows.H), P)
        x = m + apply(P, u)
        dH = _jax_covariance.slope_by_read_out(rows, mean, x, HP - product(product(HP, U), P))
    slope = [a.reshape(b.shape) for a, b in zip((dA, dQ, dH, dm, dP), (ss.A, ss.Q, ss.H, ss.m, ss.P))]
    diagonal = sites[1].ndim == 2
    if isinstance(sites, Readings):
        T = len(log_norm)
        return log_norm.sum(), *slope, *by_readings(sites, q.reshape(T, -1), D.reshape(T, -1))
    return log_norm.sum(), *slope, *by_sites(*ungroup(mean, cov, diagonal))


def _rows_of(H: jax.Array) -> jax.Array:
    """H (g, c, k, d) as (g, c k, c d)."""
    g, c, k, d = H.shape
    return (H[:, :, :, None, :] * jnp.eye(c, dtype=H.dtype)[:, None, :, None]).reshape(g, c * k, c * d)


def _adjoint(rows, taken: _Taken, shift: jax.Array):
    """(u, U) of after the sites of all rows, (r, N) of before them, and q and D of each reading."""
    A = steps_of(rows)[0]
    shared = A.ndim == 4
    H = _rows_of(rows.H)
    count = taken.e.shape[-1]

    def body(carry, row):
        u, U = carry
        start, taken, shift, own = row
        r = u + apply(transpose(H), shift)

        def one(i, state):
            r, N, q, D = state
            i = count - 1 - i
            h, K = taken.h[..., i, :], taken.K[..., i, :]
            NK = apply(N, K)
            q_i = taken.e[..., i] - jnp.sum(K * r, -1)
            D_i = taken.over[..., i] + jnp.sum(K * NK, -1)
            cross = h[..., :, None] * NK[..., None, :]
            N = N - cross - transpose(cross) + D_i[..., None, None] * h[..., :, None] * h[..., None, :]
            here = jnp.arange(count) == i
            q, D = jnp.where(here, q_i[..., None], q), jnp.where(here, D_i[..., None], D)
            return r + q_i[..., None] * h, N, q, D

        none = jnp.zeros_like(taken.e)
        r, N, q, D = repeat(count, one, (r, U, none, none))
        At = transpose(A if shared else own)
        later = along(At, r), symmetric(blockwise(At, transpose(blockwise(At, N))))
        return tuple(jnp.where(start, 0.0, a) for a in later), ((u, U), (r, N), (q, D))

    inputs = (rows.step < 0, taken, shift, None if shared else A)
    return lax.scan(body, (jnp.zeros_like(rows.m), jnp.zeros_like(rows.P)), inputs, reverse=True)[1]
