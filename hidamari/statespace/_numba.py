"""Compiled loops over time for banks of chains coupled by dense sites: plain covariance form.

The read-outs here are states themselves, the first k of each chain (``_layout`` sees to that). The D = C d
states are ordered by component, state i of chain c at place i C + c, so that f is the first K = C k of them
and H P is the first K rows of P. P is kept whole, while A and Q act chain by chain.

The update in site form, with S the leading K x K block of P and X = (I + S J)^-1, the only inverse there is:

    H P_f = X (H P)      m_f = m + P_f H' e,   e = j - J f      P_f = P - P H' W H P,   W = J X

H P_f, W and v = X' e of each row are what the backward pass of ``_adjoint`` needs.
"""

from collections.abc import Iterator

import numpy as np
from numba import njit

from hidamari.statespace._blocks import (
    INLINED,
    OPTIONS,
    apply,
    copy,
    fill,
    invert,
    move_state,
    product,
    spread,
    transpose,
    zeros,
)
from hidamari.statespace.types import Sites, StateSpace

__all__ = ["filter_joint", "filtered_blocks", "forward", "kept_rows", "scratch", "state"]


@njit(**INLINED)
def _update(J, P, HPf, W, XT, X, Y, Z, order):
    """P <- P_f, and HPf = H P_f, W = J X, XT = X'; returns log det (I + S J)."""
    K, D, narrow = W.shape[0], P.shape[0], W.shape[1]
    product(J, P, K, K, narrow, XT)
    for a in range(K):
        XT[a, a] += 1.0
    log_det = invert(XT, K, narrow, order)
    transpose(XT, K, K, X)
    product(XT, J, K, K, narrow, W)
    product(X, P, K, D, narrow, HPf)
    later = P[K:]
    product(later, W, D - K, K, narrow, Z)
    product(Z, later, D - K, D - K, narrow, Y)
    for i in range(D - K):
        for l in range(i + 1):
            s = later[i, K + l] - Y[i, l]
            P[K + i, K + l] = s
            P[K + l, K + i] = s
    for a in range(K):
        for n in range(a, D):
            P[a, n] = HPf[a, n]
            P[n, a] = HPf[a, n]
    return log_det


@njit(**OPTIONS)
def forward(
    A, Q, step, m0, P0, j, J, m, P, mean, cov, log_norm, HPf, v, W, past_m, past_P, room, lines, order
):  # fmt: skip
    """Filter rows from the state (m, P) of the row before them, in place; a negative step starts from m0, P0.

    If HPf, v and W are as long as the rows, they keep what the backward pass needs of each, else of one; if
    past_m and past_P are, they keep the state of the row before each.
    """
    C, d = A.shape[1], A.shape[2]
    D, K, width, narrow = C * d, W.shape[1], P.shape[1], W.shape[2]
    store, past = len(HPf) == len(step), len(past_m) == len(step)
    wide_A, Jt, X, Y, Z, XT, XK = room[0], room[1], room[2], room[3], room[4], room[5], room[6]
    x, e, s = lines[0], lines[1], lines[2]
    at = -1
    for t in range(len(step)):
        g = step[t]
        if past:
            for a in range(D):
                past_m[t, a] = m[a]
            copy(P, D, width, past_P[t])
        if g < 0:
            fill(P, D, width, 0.0)
            for c in range(C):
                for i in range(d):
                    m[i * C + c] = m0[c, i]
                    for l in range(d):
                        P[i * C + c, l * C + c] = P0[c, i, l]
        else:
            if g != at:
                spread(A[g], False, wide_A)
                at = g
            move_state(wide_A, m, P, C, d, width, x, X, Y)
            for c in range(C):
                for i in range(d):
                    for l in range(d):
                        P[i * C + c, l * C + c] += Q[g, c, i, l]
        o = t if store else 0
        seen = False
        for a in range(K):
            for b in range(K):
                Jt[a, b] = J[t, a, b]
                seen = seen or J[t, a, b] != 0.0
        apply(Jt, m, K, narrow, s)
        gain = 0.0
        for a in range(K):
            e[a] = j[t, a] - s[a]
            gain += m[a] * (j[t, a] - 0.5 * s[a])
        if seen:
            gain -= 0.5 * _update(Jt, P, HPf[o], W[o], XT, XK, Y, Z, order)
            apply(XT, e, K, narrow, v[o])
        else:
            fill(W[o], K, K, 0.0)
            copy(P, K, width, HPf[o])
            for a in range(K):
                v[o, a] = e[a]
        apply(P, e, D, narrow, x)
        for a in range(K):
            gain += 0.5 * e[a] * x[a]
            mean[t, a] = m[a] + x[a]
            for b in range(K):
                cov[t, a, b] = P[a, b]
        log_norm[t] = gain
        for a in range(D):
            m[a] += x[a]


def state(D: int) -> tuple[np.ndarray, np.ndarray]:
    """A vector and a matrix of all states, zero."""
    return zeros(D), zeros(D, D)


def scratch(D: int) -> tuple[np.ndarray, np.ndarray]:
    """Room for the matrices and vectors of one row; each pass needs its own, for the zeros in the padding."""
    return zeros(7, D, D), zeros(3, D)


def kept_rows(n: int, D: int, K: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Room for what the backward pass needs of n rows: H P_f, v and W."""
    return zeros(n, K, D), np.zeros((n, K)), zeros(n, K, K)


def filter_joint(ss: StateSpace, sites: Sites, mean, cov, log_norm) -> None:
    """Filtered moments of f and log normalisers of all rows, into the last three arrays."""
    D, K = ss.m.size, sites.j.shape[1]
    model = (ss.A, ss.Q, ss.step, ss.m, ss.P, *sites, *state(D))
    room = (*scratch(D), np.zeros(K, np.int64))
    kept = (*kept_rows(1, D, K), zeros(0, D), zeros(0, D, D))
    everything: list = [*model, mean, cov, log_norm, *kept, *room]
    forward(*everything)


def filtered_blocks(
    ss: StateSpace, sites: Sites, size: int, mean, cov, log_norm, past: bool = False
) -> Iterator[tuple[slice, tuple, tuple]]:
    """Filter all rows, then give back blocks of them, last first, with what their backward pass needs.

    Only the state before every block is kept; a block is filtered once more when its turn comes. One block
    does the work once. Yields the rows, the arrays of :func:`kept_rows`, and with ``past`` the mean and
    covariance of the state before each row.
    """
    T, K = sites.j.shape
    D = ss.m.size
    m, P = state(D)
    n = min(size, T)
    kept = kept_rows(n, D, K)
    states = zeros(n if past else 0, D), zeros(n if past else 0, D, D)
    room = (*scratch(D), np.zeros(K, np.int64))

    def ahead(rows: slice, n: int) -> None:
        model = (ss.A, ss.Q, ss.step[rows], ss.m, ss.P, sites.j[rows], sites.J[rows], m, P)
        out = (mean[rows], cov[rows], log_norm[rows])
        everything: list = [*model, *out, *(a[:n] for a in kept), *(a[:n] for a in states), *room]
        forward(*everything)

    runs = [slice(t, min(t + size, T)) for t in range(0, T, size)]
    before = []
    for rows in runs[:-1]:
        before.append((m.copy(), P.copy()))
        ahead(rows, 1)
    for rows in runs[::-1]:
        n = rows.stop - rows.start
        if rows.stop < T:
            m[:], P[:] = before.pop()
        ahead(rows, n)
        yield rows, tuple(a[:n] for a in kept), tuple(a[:n] for a in states)
