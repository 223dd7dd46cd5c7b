"""Two other exact smoothers for dense sites: the bidirectional information filter, and Rauch-Tung-Striebel.

**Bidirectional.** The message of all later rows about x_t is exp(b'x - x'Bx/2). It starts from zero and
moves back one row by absorbing the site of row t+1, M = B + H'JH, and integrating x_{t+1} out,

    B <- A' (M - W'W) A,   W = c^-1 G'M,   c c' = I + G'M G,   Q = G G',

which inverts neither Q nor M. A stationary chain seen backwards in time is the same chain with the signs of
its odd derivatives flipped, A_b = S A S and Q_b = S Q S, so that the message of all earlier rows is made by
the same loop, run on the reversed rows at the same time; the two and the prior merge by addition,

    Lambda = P^-1 + B_past + H'JH + B_future.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from hidamari.statespace._blocks import zeros
from hidamari.statespace._draws import factor
from hidamari.statespace._layout import lay_out, moments_back, sites_for
from hidamari.statespace._numba import forward, kept_rows, scratch, state
from hidamari.statespace.types import Sites, StateSpace

__all__ = ["bidirectional", "reverse_signs", "rts"]

_options = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_options)
def _messages(A, G, step, first, H, j, J, b_out, B_out):
    """Messages about x_t from the rows before it in the order given; A[step[t]] (D, D) joins t-1 and t.

    ``first`` marks the rows where a trial starts in this order. A and G are those of the process in the
    opposite direction, which is the one that is integrated out.
    """
    T, D = len(first), A.shape[1]
    K = H.shape[0]
    b = np.zeros(D)
    M = np.zeros((D, D))
    GM = np.empty((D, D))
    c = np.empty((D, D))
    Y = np.empty((D, D))
    g = np.empty(D)
    for t in range(T):
        if first[t]:
            b[:] = 0.0
            M[:] = 0.0
        else:
            At, Gt = A[step[t]], G[step[t]]
            for i in range(D):
                for n in range(D):
                    s = 0.0
                    for l in range(i, D):  # G is lower triangular
                        s += Gt[l, i] * M[l, n]
                    GM[i, n] = s
            for i in range(D):
                s = 0.0
                for l in range(i, D):
                    s += Gt[l, i] * b[l]
                g[i] = s
                for n in range(i + 1):
                    s = 1.0 if i == n else 0.0
                    for l in range(n, D):
                        s += GM[i, l] * Gt[l, n]
                    Y[i, n] = s
                    Y[n, i] = s
            factor(Y, c)
            for i in range(D):
                for l in range(i):
                    w = c[i, l]
                    g[i] -= w * g[l]
                    for n in range(D):
                        GM[i, n] -= w * GM[l, n]
                w = 1.0 / c[i, i]
                g[i] *= w
                for n in range(D):
                    GM[i, n] *= w
            for i in range(D):
                for l in range(D):
                    b[i] -= GM[l, i] * g[l]
                for n in range(i + 1):
                    s = M[i, n]
                    for l in range(D):
                        s -= GM[l, i] * GM[l, n]
                    M[i, n] = s
                    M[n, i] = s
            for i in range(D):
                s = 0.0
                for n in range(D):
                    s += At[n, i] * b[n]
                    Y[i, n] = 0.0
                g[i] = s
                for l in range(D):
                    w = At[l, i]
                    for n in range(D):
                        Y[i, n] += w * M[l, n]
            for i in range(D):
                b[i] = g[i]
                for n in range(i + 1):
                    s = 0.0
                    for l in range(D):
                        s += Y[i, l] * At[l, n]
                    M[i, n] = s
                    M[n, i] = s
        for i in range(D):
            b_out[t, i] = b[i]
            for n in range(D):
                B_out[t, i, n] = M[i, n]
        for a in range(K):
            for i in range(D):
                w = H[a, i]
                if w != 0.0:
                    b[i] += w * j[t, a]
                    for e in range(K):
                        for n in range(D):
                            M[i, n] += w * J[t, a, e] * H[e, n]


def bidirectional(ss: StateSpace, sites: Sites) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed mean (T, K) and covariance (T, K, K) of f by two information filters, merged."""
    C, k, d = ss.H.shape
    D, T = C * d, len(ss.step)
    signs = reverse_signs(ss)
    A = np.array([_block_diagonal(a) for a in ss.A])
    G = np.zeros_like(A)
    for s in range(len(A)):
        factor(_block_diagonal(ss.Q[s]), G[s])
    H = np.zeros((C * k, D))
    for c in range(C):
        H[c * k : (c + 1) * k, c * d : (c + 1) * d] = ss.H[c]
    starts = (ss.step < 0) | (np.arange(T) == 0)
    step = np.where(starts, 0, ss.step)
    # reversed rows: row T-1-t follows row t, so the step between them belongs to the later of the two
    back_step = np.concatenate([[0], step[:0:-1]])
    back_starts = np.concatenate([[True], starts[:0:-1]])
    flip = signs[:, None] * signs
    GS = np.zeros_like(G)
    for s in range(len(A)):
        factor(_block_diagonal(ss.Q[s]) * flip, GS[s])
    past_b, past_B = np.empty((T, D)), np.empty((T, D, D))
    next_b, next_B = np.empty((T, D)), np.empty((T, D, D))
    with ThreadPoolExecutor(2) as pool:
        back = (np.ascontiguousarray(sites.j[::-1]), np.ascontiguousarray(sites.J[::-1]))
        jobs = [
            pool.submit(_messages, A * flip, GS, step, starts, H, sites.j, sites.J, past_b, past_B),
            pool.submit(_messages, A, G, back_step, back_starts, H, *back, next_b, next_B),
        ]
        for job in jobs:
            job.result()
    P = _block_diagonal(ss.P)
    # states that only pad a shorter chain have no prior variance and are read by nothing: any will do
    empty = np.diag(P) == 0
    P[empty, empty] = 1.0
    prior = np.linalg.inv(P)
    precision = prior + past_B + next_B[::-1] + np.einsum("ai,tab,bl->til", H, sites.J, H)
    shift = prior @ ss.m.ravel() + past_b + next_b[::-1] + sites.j @ H
    half = np.linalg.solve(np.linalg.cholesky(precision), np.broadcast_to(H.T, (T, D, C * k)))
    cov = np.einsum("tda,tdb->tab", half, half)
    mean = np.einsum("ai,ti->ta", H, np.linalg.solve(precision, shift[:, :, None])[:, :, 0])
    return mean, cov


def reverse_signs(ss: StateSpace) -> np.ndarray:
    """Signs S (D,) with S A S = P A' P^-1, the transition of the chains seen backwards in time.

    Raises
    ------
    ValueError
        If there are none: the chains are not stationary and reversible up to sign.
    """
    C, d = ss.m.shape
    signs = np.ones((C, d))
    message = "method='bidirectional' needs stationary chains with a zero mean; use 'covariance' or 'rts'"
    if ss.m.any():
        raise ValueError(message)
    for c in range(C):
        P = ss.P[c].copy()
        empty = np.diag(P) == 0
        P[empty, empty] = 1.0
        backward = [np.linalg.solve(P, a[c] @ P).T for a in ss.A]
        for i in range(1, d):
            # the sign of state i follows from whichever earlier state it is coupled to most strongly
            pairs = [(a[c], b) for a, b in zip(ss.A, backward)]
            together = [b[i, :i] * a[i, :i] + b[:i, i] * a[:i, i] for a, b in pairs]
            votes = np.sum(together, axis=0) * signs[c, :i]
            strongest = np.argmax(np.abs(votes))
            signs[c, i] = -1.0 if votes[strongest] < 0 else 1.0
        flip = signs[c][:, None] * signs[c]
        for a, b in zip(ss.A, backward):
            if not np.allclose(a[c] * flip, b, rtol=0, atol=1e-9 * max(np.abs(b).max(), 1e-300)):
                raise ValueError(message)
    return signs.ravel()


def _block_diagonal(blocks: np.ndarray) -> np.ndarray:
    """(C, d, d) as one (C d, C d) matrix."""
    C, d, _ = blocks.shape
    out = np.zeros((C * d, C * d))
    for c in range(C):
        out[c * d : (c + 1) * d, c * d : (c + 1) * d] = blocks[c]
    return out


def rts(ss: StateSpace, sites: Sites) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed mean (T, K) and covariance (T, K, K) of f by the Rauch-Tung-Striebel recursion.

    With C_t = P_f A' (A P_f A' + Q)^-1: m <- m_f + C (m - A m_f), P <- P_f + C (P - A P_f A' - Q) C'.
    """
    layout = lay_out(ss)
    ss, sites = layout.ss, sites_for(layout, sites)
    T, K = sites.j.shape
    m_f, P_f = _filtered_states(ss, sites)
    A, Q = (np.array([_by_component(a) for a in blocks]) for blocks in (ss.A, ss.Q))
    mean, cov = np.empty((T, K)), np.empty((T, K, K))
    m, P = m_f[-1], P_f[-1]
    for t in range(T - 1, -1, -1):
        if t < T - 1:
            if ss.step[t + 1] < 0:
                m, P = m_f[t], P_f[t]
            else:
                a = A[ss.step[t + 1]]
                ahead = a @ P_f[t] @ a.T + Q[ss.step[t + 1]]
                gain = np.linalg.lstsq(ahead, a @ P_f[t], rcond=1e-15)[0].T
                m = m_f[t] + gain @ (m - a @ m_f[t])
                P = P_f[t] + gain @ (P - ahead) @ gain.T
        mean[t], cov[t] = m[:K], P[:K, :K]
    return moments_back(layout, mean, cov)


def _by_component(blocks: np.ndarray) -> np.ndarray:
    """(C, d, d) as one (d C, d C) matrix of states ordered by component, as in the compiled loops."""
    C, d, _ = blocks.shape
    out = np.zeros((d, C, d, C))
    out[:, np.arange(C), :, np.arange(C)] = blocks
    return out.reshape(d * C, d * C)


def _filtered_states(ss: StateSpace, sites: Sites) -> tuple[np.ndarray, np.ndarray]:
    """Mean (T, D) and covariance (T, D, D) of the states given the rows so far."""
    T, K = sites.j.shape
    D = ss.m.size
    past_m, past_P = zeros(T + 1, D), zeros(T + 1, D, D)
    m, P = state(D)
    out = np.empty((T, K)), np.empty((T, K, K)), np.empty(T)
    room = (*scratch(D), np.zeros(K, np.int64))
    model = (ss.A, ss.Q, ss.step, ss.m, ss.P, *sites, m, P)
    everything: list = [*model, *out, *kept_rows(1, D, K), past_m[:T], past_P[:T], *room]
    forward(*everything)
    past_m[T], past_P[T] = m, P
    return past_m[1:, :D], past_P[1:, :, :D]
