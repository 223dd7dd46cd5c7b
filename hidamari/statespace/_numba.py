"""Compiled loops over time for banks of chains coupled by dense sites: plain covariance form.

All arrays are contiguous float64; D = C d states, K = C k read-outs; the covariance P of all D states is
kept whole, while A, Q and H act block by block, so that prediction costs D^2 d and an update D^2 K.

The update in site form, with S = H P H' and X = (I + S J)^-1 (K x K, the only solve there is):

    v = X' (j - J H m),   m <- m + P H' v,   H P <- X (H P),   P <- P - (H P)' J (X H P)

and the adjoint smoother (Bryson-Frazier, de Jong) reads f from the *filtered* moments. With B = J H P_f and
W = J X, and (u, U) = (A' r, A' N A) carried down from the next row,

    mean = H m_f + H P_f u          cov = H P_f H' - H P_f U P_f H'
    r = u + H' (v - B u)            N = (I - H' B) U (I - H' B)' + H' W H
"""

import numpy as np
from numba import njit

from hidamari.statespace._blocks import invert, options, predict, read_out

__all__ = ["backward_row", "filter_joint", "forward"]


@njit(**options)
def forward(
    A, Q, step, H, m0, P0, j, J, t0, t1, m, P, mean, cov, log_norm,
    HP, X, HPf, v, W, store, past_m, past_P, past,
):  # fmt: skip
    """Filter rows t0..t1 from the state (m, P) of row t0-1, in place.

    With ``store``, row t leaves what the backward pass needs at place t - t0, else at place 0; with ``past``
    also the filtered state of the row before it.
    """
    C, k, d = H.shape
    D, K = C * d, C * k
    x = np.empty(D)
    XX = np.empty((D, D))
    S = np.empty((K, K))
    M = np.empty((K, K))
    B = np.empty((K, D))
    f = np.empty(K)
    e = np.empty(K)
    for t in range(t0, t1):
        if past:
            past_m[t - t0] = m
            past_P[t - t0] = P
        if t == 0 or step[t] < 0:
            for a in range(D):
                for n in range(D):
                    P[a, n] = 0.0
            for c in range(C):
                for i in range(d):
                    m[c * d + i] = m0[c, i]
                    for l in range(d):
                        P[c * d + i, c * d + l] = P0[c, i, l]
        else:
            predict(A[step[t]], Q[step[t]], m, P, x, XX)
        o = t - t0 if store else 0
        # H P and X are asked for by draws alone: elsewhere they have one place
        both = min(o, len(HP) - 1)
        hp, inv, hpf, vt, w = HP[both], X[both], HPf[o], v[o], W[o]
        read_out(H, P, hp, S)
        for a in range(K):
            for b in range(K):
                s = 0.0
                for l in range(K):
                    s += S[a, l] * J[t, l, b]
                M[a, b] = s
            M[a, a] += 1.0
        log_det = invert(M, inv)
        for c in range(C):
            for a in range(k):
                s = 0.0
                for i in range(d):
                    s += H[c, a, i] * m[c * d + i]
                f[c * k + a] = s
        gain = 0.0
        for a in range(K):
            s = 0.0
            for b in range(K):
                s += J[t, a, b] * f[b]
            e[a] = j[t, a] - s
            gain += f[a] * (j[t, a] - 0.5 * s)
        for a in range(K):
            s = 0.0
            for b in range(K):
                s += inv[b, a] * e[b]
            vt[a] = s
        for a in range(K):
            s = 0.0
            for b in range(K):
                s += S[a, b] * vt[b]
            gain += 0.5 * e[a] * s
            mean[t, a] = f[a] + s
        log_norm[t] = gain - 0.5 * log_det
        for a in range(K):
            for b in range(a + 1):
                s = 0.0
                q = 0.0
                for l in range(K):
                    s += inv[a, l] * S[l, b]
                    q += J[t, a, l] * inv[l, b]
                cov[t, a, b] = s
                cov[t, b, a] = s
                w[a, b] = q
                w[b, a] = q
            for n in range(D):
                hpf[a, n] = 0.0
            for b in range(K):
                s = inv[a, b]
                for n in range(D):
                    hpf[a, n] += s * hp[b, n]
        for a in range(K):
            for n in range(D):
                B[a, n] = 0.0
            for b in range(K):
                s = J[t, a, b]
                for n in range(D):
                    B[a, n] += s * hpf[b, n]
            s = vt[a]
            for n in range(D):
                m[n] += hp[a, n] * s
        for i in range(D):
            for a in range(K):
                s = hp[a, i]
                for n in range(i + 1):
                    P[i, n] -= s * B[a, n]
            for n in range(i):
                P[n, i] = P[i, n]


@njit(**options)
def backward_row(H, J, HPf, v, W, u, U, r, N, mean, cov, G, E, JG):
    """Smooth one row: read f, then turn (u, U) of after the site into (r, N) of before it."""
    C, k, d = H.shape
    D, K = C * d, C * k
    for a in range(K):
        s = 0.0
        for n in range(D):
            s += HPf[a, n] * u[n]
        mean[a] += s
        E[a, 0] = s
        for n in range(D):
            G[a, n] = 0.0
        for i in range(D):
            w = HPf[a, i]
            for n in range(D):
                G[a, n] += w * U[i, n]
    for i in range(D):
        r[i] = u[i]
        for n in range(D):
            N[i, n] = U[i, n]
    for c in range(C):
        for a in range(k):
            s = v[c * k + a]
            for b in range(K):
                s -= J[c * k + a, b] * E[b, 0]
            for i in range(d):
                r[c * d + i] += H[c, a, i] * s
    for a in range(K):
        for b in range(a + 1):
            s = 0.0
            for n in range(D):
                s += G[a, n] * HPf[b, n]
            E[a, b] = s
            E[b, a] = s
    for a in range(K):
        for b in range(K):
            cov[a, b] -= E[a, b]
        for n in range(D):
            JG[a, n] = 0.0
        for b in range(K):
            w = J[a, b]
            for n in range(D):
                JG[a, n] += w * G[b, n]
    # N = U - H'(JG) - (JG)'H + H'(J E J + W)H
    for c in range(C):
        for a in range(k):
            row = c * k + a
            for i in range(d):
                w = H[c, a, i]
                if w != 0.0:
                    for n in range(D):
                        N[c * d + i, n] -= w * JG[row, n]
                    for n in range(D):
                        N[n, c * d + i] -= w * JG[row, n]
    for a in range(K):
        for b in range(K):
            s = 0.0
            for l in range(K):
                s += J[a, l] * E[l, b]
            G[a, b] = s
    for a in range(K):
        for b in range(a + 1):
            s = W[a, b]
            for l in range(K):
                s += G[a, l] * J[l, b]
            ca, ia = a // k, a % k
            cb, ib = b // k, b % k
            for i in range(d):
                for l in range(d):
                    w = H[ca, ia, i] * H[cb, ib, l] * s
                    if w != 0.0:
                        N[ca * d + i, cb * d + l] += w
                        if a != b:
                            N[cb * d + l, ca * d + i] += w


@njit(**options)
def filter_joint(A, Q, step, H, m0, P0, j, J, mean, cov, log_norm):
    """Filtered moments of f and log normalisers of all rows, into the last three arrays."""
    C, k, d = H.shape
    D, K = C * d, C * k
    m = np.zeros(D)
    P = np.zeros((D, D))
    HP = np.empty((1, K, D))
    HPf = np.empty((1, K, D))
    X = np.empty((1, K, K))
    W = np.empty((1, K, K))
    v = np.empty((1, K))
    none_m = np.empty((0, D))
    none_P = np.empty((0, D, D))
    forward(
        A,
        Q,
        step,
        H,
        m0,
        P0,
        j,
        J,
        0,
        len(step),
        m,
        P,
        mean,
        cov,
        log_norm,
        HP,
        X,
        HPf,
        v,
        W,
        False,
        none_m,
        none_P,
        False,
    )
