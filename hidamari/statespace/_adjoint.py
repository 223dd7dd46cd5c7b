"""The adjoint of the filter, compiled: smoothed moments, and derivatives of the evidence from the same pass.

The smoother of Bryson, Frazier and de Jong reads f from the *filtered* moments. With (u, U) = (A' r, A' N A)
carried down from the next row, and H P_f, W and v of ``_numba``,

    mean = f_f + H P_f u          cov = H P_f H' - E,   G = H P_f U,   E = G P_f H'
    r = u + H' (v - J H P_f u)    N = U - H' J G - (J G)' H + H' (J E J + W) H

(r, N) are the exact adjoint of the filter: for the moments m = A m_f and P = A P_f A' + Q that a row is
predicted with,

    d log Z / d m = r          d log Z / d P = (r r' - N) / 2 =: Y

so that dQ += Y and dA += r m_f' + 2 Y A P_f = r (m_f + P_f A'r)' - (N A) P_f, each cut to the chain's block.
"""

import numpy as np
from numba import njit

from hidamari.statespace._blocks import (
    INLINED,
    OPTIONS,
    apply,
    copy,
    fill,
    move_state,
    product,
    spread,
    transpose,
)
from hidamari.statespace._numba import filtered_blocks, scratch, state
from hidamari.statespace.types import Sites, StateSpace

__all__ = ["smooth_joint"]


@njit(**INLINED)
def _absorb(J, HPf, v, W, u, U, mean, cov, G, GT, JG, Jt, E, F, h):
    """Smooth one row: read f, then turn (u, U) of after its site into (r, N) of before it."""
    K, D, width, narrow = W.shape[0], U.shape[0], U.shape[1], W.shape[1]
    copy(J, K, K, Jt)
    apply(HPf, u, K, width, h)
    product(U, HPf, D, K, width, GT)
    transpose(GT, D, K, G)
    product(G, HPf, K, K, width, E)
    product(Jt, GT, K, D, narrow, JG)
    product(Jt, E, K, K, narrow, F)
    product(F, Jt, K, K, narrow, G)
    for a in range(K):
        s = v[a]
        for b in range(K):
            s -= Jt[a, b] * h[b]
        u[a] += s
        mean[a] += h[a]
        for n in range(K, D):
            s = U[a, n] - JG[a, n]
            U[a, n] = s
            U[n, a] = s
        for b in range(a + 1):
            s = cov[a, b] - E[a, b]
            cov[a, b] = s
            cov[b, a] = s
            s = U[a, b] + (W[a, b] + G[a, b]) - (JG[a, b] + JG[b, a])
            U[a, b] = s
            U[b, a] = s


@njit(**OPTIONS)
def _backward(
    A, step, J, HPf, v, W, past_m, past_P, u, U, mean, cov, room, lines, climb, dA, dQ, dm, dP
):  # fmt: skip
    """Turn the filtered moments of f of rows into smoothed ones, last row first, in place.

    (u, U) comes as what later rows say about the state of the last row, and is left as what these rows say
    about the state of the row before the first. With ``climb`` the rows add their share to dA, dQ, dm and dP.
    """
    C, d, D, width = A.shape[1], A.shape[2], U.shape[0], U.shape[1]
    wide_A, Jt, X, Y, JG, E, F = room[0], room[1], room[2], room[3], room[4], room[5], room[6]
    x, h, r = lines[0], lines[1], lines[2]
    at = -1
    for t in range(len(step) - 1, -1, -1):
        _absorb(J[t], HPf[t], v[t], W[t], u, U, mean[t], cov[t], X, Y, JG, Jt, E, F, h)
        g = step[t]
        if climb:
            for c in range(C):
                for i in range(d):
                    a = i * C + c
                    r[a] = u[a]
                    if g < 0:
                        dm[c, i] += u[a]
                    for b in range(c, D, C):
                        s = 0.5 * (u[a] * u[b] - U[a, b])
                        if g < 0:
                            dP[c, i, b // C] += s
                        else:
                            dQ[g, c, i, b // C] += s
        if g < 0:
            fill(U, D, width, 0.0)
            for a in range(D):
                u[a] = 0.0
            continue
        if g != at:
            spread(A[g], True, wide_A)
            at = g
        move_state(wide_A, u, U, C, d, width, x, X, Y)
        if climb:
            apply(past_P[t], u, D, width, x)
            for c in range(C):
                for i in range(d):
                    a = i * C + c
                    for l in range(d):
                        b = l * C + c
                        s = r[a] * (past_m[t, b] + x[b])
                        for n in range(width):
                            s -= Y[a, n] * past_P[t, b, n]
                        dA[g, c, i, l] += s


def smooth_joint(ss: StateSpace, sites: Sites, block: int, climb: bool, mean, cov, log_norm) -> tuple:
    """Smoothed moments of f and log normalisers of all rows, into the last three arrays.

    Returns the derivatives of the log evidence by A, Q, m and P; without ``climb`` they are left at zero.
    """
    slope = tuple(np.zeros(a.shape if climb else (1,) * a.ndim) for a in (ss.A, ss.Q, ss.m, ss.P))
    u, U = state(ss.m.size)
    room = scratch(ss.m.size)
    for rows, kept, past in filtered_blocks(ss, sites, block, mean, cov, log_norm, climb):
        site = (ss.A, ss.step[rows], sites.J[rows], *kept, *past)
        everything: list = [*site, u, U, mean[rows], cov[rows], *room, climb, *slope]
        _backward(*everything)
    return slope
