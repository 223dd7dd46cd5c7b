"""The adjoint of the filter, compiled: smoothed moments, and derivatives of the evidence from the same pass.

r and N are the exact adjoint of the filter: before row t is seen, d log Z / d m = r and
d log Z / d P = (r r' - N) / 2 =: Y for the predicted moments m = A m_f and P = A P_f A' + Q.
Hence dQ += Y, dA += r m_f' + 2 Y A P_f, each cut to the chain's own block.
"""

import numpy as np
from numba import njit

from hidamari.statespace._blocks import options, pull_back
from hidamari.statespace._numba import backward_row, forward

__all__ = ["smooth_joint"]


@njit(**options)
def _climb_prior(r, N, dm, dP):
    """Add the derivatives by the prior of a trial's first row."""
    C, d = dm.shape
    for c in range(C):
        for i in range(d):
            a = c * d + i
            dm[c, i] += r[a]
            for l in range(d):
                dP[c, i, l] += 0.5 * (r[a] * r[c * d + l] - N[a, c * d + l])


@njit(**options)
def _climb_step(r, N, u, NA, m, P, dA, dQ):
    """Add the derivatives by the step into a row from the filtered (m, P) before it; u = A' r, NA = N A."""
    C, d = dA.shape[0], dA.shape[1]
    D = C * d
    for c in range(C):
        for i in range(d):
            a = c * d + i
            for l in range(d):
                b = c * d + l
                dQ[c, i, l] += 0.5 * (r[a] * r[b] - N[a, b])
                # 2 Y A P_f = r (P_f u)' - (N A) P_f
                g = m[b]
                w = 0.0
                for q in range(D):
                    g += P[b, q] * u[q]
                    w += P[b, q] * NA[a, q]
                dA[c, i, l] += r[a] * g - w


@njit(**options)
def smooth_joint(
    A, Q, step, H, m0, P0, j, J, block, climb, mean, cov, log_norm, dA, dQ, dm, dP
):  # fmt: skip
    """Smoothed moments of f and log normalisers of all rows; with ``climb`` the evidence's derivatives too.

    Only the state before every block of rows is kept; a block is filtered once more, with what its backward
    pass needs, when that pass reaches it. One block does the work once.
    """
    C, k, d = H.shape
    D, K = C * d, C * k
    T = len(step)
    n_blocks = max((T + block - 1) // block, 1)
    size = min(block, T)
    m = np.zeros(D)
    P = np.zeros((D, D))
    kept_m = np.zeros((n_blocks, D))
    kept_P = np.zeros((n_blocks, D, D))
    kept = size if climb else 0
    past_m = np.empty((kept, D))
    past_P = np.empty((kept, D, D))
    HP = np.empty((1, K, D))
    HPf = np.empty((size, K, D))
    X = np.empty((1, K, K))
    W = np.empty((size, K, K))
    v = np.empty((size, K))
    for n in range(n_blocks - 1):
        kept_m[n] = m
        kept_P[n] = P
        t0, t1 = n * block, min((n + 1) * block, T)
        forward(
            A, Q, step, H, m0, P0, j, J, t0, t1, m, P, mean, cov, log_norm,
            HP, X, HPf, v, W, False, past_m, past_P, False,
        )  # fmt: skip
    kept_m[n_blocks - 1] = m
    kept_P[n_blocks - 1] = P
    u = np.zeros(D)
    U = np.zeros((D, D))
    r = np.zeros(D)
    N = np.zeros((D, D))
    XX = np.empty((D, D))
    G = np.empty((K, max(D, K)))
    JG = np.empty((K, D))
    E = np.empty((K, K))
    for n in range(n_blocks - 1, -1, -1):
        t0, t1 = n * block, min((n + 1) * block, T)
        m[:] = kept_m[n]
        P[:] = kept_P[n]
        forward(
            A, Q, step, H, m0, P0, j, J, t0, t1, m, P, mean, cov, log_norm,
            HP, X, HPf, v, W, True, past_m, past_P, climb,
        )  # fmt: skip
        for t in range(t1 - 1, t0 - 1, -1):
            o = t - t0
            backward_row(H, J[t], HPf[o], v[o], W[o], u, U, r, N, mean[t], cov[t], G, E, JG)
            if t == 0 or step[t] < 0:
                if climb:
                    _climb_prior(r, N, dm, dP)
                u[:] = 0.0
                U[:] = 0.0
            else:
                s = step[t]
                pull_back(A[s], r, N, u, U, XX)
                if climb:
                    _climb_step(r, N, u, XX, past_m[o], past_P[o], dA[s], dQ[s])
