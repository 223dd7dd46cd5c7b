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

__all__ = ["draw_prior", "factor", "filter_joint", "gradient_joint", "means_joint", "smooth_joint"]

_options = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz", "arcp"}}


@njit(**_options)
def factor(M, L):
    """Lower-triangular L with L L' = M for a positive semi-definite M; zero pivots give zero columns."""
    n = M.shape[0]
    for c in range(n):
        for i in range(c):
            L[i, c] = 0.0
        pivot = M[c, c]
        for k in range(c):
            pivot -= L[c, k] * L[c, k]
        # what is left of the pivot is rounding once it is below eps times the diagonal entry itself
        if pivot > 4e-16 * M[c, c]:
            root = np.sqrt(pivot)
            L[c, c] = root
            for i in range(c + 1, n):
                s = M[i, c]
                for k in range(c):
                    s -= L[i, k] * L[c, k]
                L[i, c] = s / root
        else:
            for i in range(c, n):
                L[i, c] = 0.0


@njit(**_options)
def _predict(A, Q, m, P, x, X):
    """m, P <- A m, A P A' + Q; x (D,) and X (D, D) are scratch."""
    C, d = A.shape[0], A.shape[1]
    D = C * d
    for c in range(C):
        for i in range(d):
            a = c * d + i
            s = 0.0
            for n in range(D):
                X[a, n] = 0.0
            for l in range(d):
                w = A[c, i, l]
                b = c * d + l
                s += w * m[b]
                for n in range(D):
                    X[a, n] += w * P[b, n]
            x[a] = s
    for a in range(D):
        m[a] = x[a]
        for n in range(a):  # transpose in place: the second product then runs along rows too
            w = X[a, n]
            X[a, n] = X[n, a]
            X[n, a] = w
    for c in range(C):
        for i in range(d):
            a = c * d + i
            last = (c + 1) * d
            for n in range(last):
                P[a, n] = 0.0
            for l in range(d):
                w = A[c, i, l]
                b = c * d + l
                for n in range(last):
                    P[a, n] += w * X[b, n]
            for l in range(d):
                P[a, c * d + l] += Q[c, i, l]
    for a in range(D):
        for n in range(a):
            P[n, a] = P[a, n]


@njit(**_options)
def _invert(M, X):
    """X = M^-1 by Gauss-Jordan with row pivoting (M is overwritten); returns log |det M|."""
    n = M.shape[0]
    log_det = 0.0
    for i in range(n):
        for l in range(n):
            X[i, l] = 0.0
        X[i, i] = 1.0
    for c in range(n):
        best = c
        for i in range(c + 1, n):
            if abs(M[i, c]) > abs(M[best, c]):
                best = i
        if best != c:
            for l in range(n):
                w = M[c, l]
                M[c, l] = M[best, l]
                M[best, l] = w
                w = X[c, l]
                X[c, l] = X[best, l]
                X[best, l] = w
        log_det += np.log(abs(M[c, c]))
        scale = 1.0 / M[c, c]
        for l in range(n):
            M[c, l] *= scale
            X[c, l] *= scale
        for i in range(n):
            if i != c:
                w = M[i, c]
                if w != 0.0:
                    for l in range(n):
                        M[i, l] -= w * M[c, l]
                        X[i, l] -= w * X[c, l]
    return log_det


@njit(**_options)
def _read(H, P, HP, S):
    """HP = H P and S = H P H'."""
    C, k, d = H.shape
    D = C * d
    for c in range(C):
        for a in range(k):
            row = c * k + a
            for n in range(D):
                HP[row, n] = 0.0
            for i in range(d):
                w = H[c, a, i]
                if w != 0.0:
                    for n in range(D):
                        HP[row, n] += w * P[c * d + i, n]
    for row in range(C * k):
        for c in range(C):
            for b in range(k):
                s = 0.0
                for i in range(d):
                    s += HP[row, c * d + i] * H[c, b, i]
                S[row, c * k + b] = s


@njit(**_options)
def _forward(
    A, Q, step, H, m0, P0, j, J, t0, t1, m, P, mean, cov, log_norm, HP, X, HPf, v, W, store, past_m, past_P, past
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
            _predict(A[step[t]], Q[step[t]], m, P, x, XX)
        o = t - t0 if store else 0
        hp, inv, hpf, vt, w = HP[o], X[o], HPf[o], v[o], W[o]
        _read(H, P, hp, S)
        for a in range(K):
            for b in range(K):
                s = 0.0
                for l in range(K):
                    s += S[a, l] * J[t, l, b]
                M[a, b] = s
            M[a, a] += 1.0
        log_det = _invert(M, inv)
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


@njit(**_options)
def _backward_row(H, J, HPf, v, W, u, U, r, N, mean, cov, G, E, JG):
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


@njit(**_options)
def _pull_back(A, r, N, u, U, X):
    """u, U <- A' r, A' N A."""
    C, d = A.shape[0], A.shape[1]
    D = C * d
    for c in range(C):
        for i in range(d):
            a = c * d + i
            s = 0.0
            for n in range(D):
                X[a, n] = 0.0
            for l in range(d):
                w = A[c, l, i]
                b = c * d + l
                s += w * r[b]
                for n in range(D):
                    X[a, n] += w * N[b, n]
            u[a] = s
    for a in range(D):
        for n in range(a):
            w = X[a, n]
            X[a, n] = X[n, a]
            X[n, a] = w
    for c in range(C):
        for i in range(d):
            a = c * d + i
            last = (c + 1) * d
            for n in range(last):
                U[a, n] = 0.0
            for l in range(d):
                w = A[c, l, i]
                b = c * d + l
                for n in range(last):
                    U[a, n] += w * X[b, n]
    for a in range(D):
        for n in range(a):
            U[n, a] = U[a, n]


@njit(**_options)
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
    _forward(A, Q, step, H, m0, P0, j, J, 0, len(step), m, P, mean, cov, log_norm, HP, X, HPf, v, W, False, none_m, none_P, False)


@njit(**_options)
def smooth_joint(A, Q, step, H, m0, P0, j, J, block, mean, cov, log_norm):
    """Smoothed moments of f and log normalisers of all rows, into the last three arrays.

    Only the state before every block of rows is kept; a block is filtered once more, with what its
    backward pass needs, when that pass reaches it. One block does the work once.
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
    HP = np.empty((size, K, D))
    HPf = np.empty((size, K, D))
    X = np.empty((size, K, K))
    W = np.empty((size, K, K))
    v = np.empty((size, K))
    for n in range(n_blocks):
        kept_m[n] = m
        kept_P[n] = P
        t0, t1 = n * block, min((n + 1) * block, T)
        last = n == n_blocks - 1
        _forward(A, Q, step, H, m0, P0, j, J, t0, t1, m, P, mean, cov, log_norm, HP, X, HPf, v, W, last, kept_m, kept_P, False)
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
        if n < n_blocks - 1:
            m[:] = kept_m[n]
            P[:] = kept_P[n]
            _forward(A, Q, step, H, m0, P0, j, J, t0, t1, m, P, mean, cov, log_norm, HP, X, HPf, v, W, True, kept_m, kept_P, False)
        for t in range(t1 - 1, t0 - 1, -1):
            o = t - t0
            _backward_row(H, J[t], HPf[o], v[o], W[o], u, U, r, N, mean[t], cov[t], G, E, JG)
            if t == 0 or step[t] < 0:
                u[:] = 0.0
                U[:] = 0.0
            else:
                _pull_back(A[step[t]], r, N, u, U, XX)


@njit(**_options)
def gradient_joint(A, Q, step, H, m0, P0, j, J, block, mean, cov, log_norm, dA, dQ, dm, dP):
    """Smoothed moments and log normalisers, and derivatives by A, Q, m and P added into the last four.

    r and N are the exact adjoint of the filter: before row t is seen, d log Z / d m = r and
    d log Z / d P = (r r' - N) / 2 =: Y for the predicted moments m = A m_f and P = A P_f A' + Q.
    Hence dQ += Y, dA += r m_f' + 2 Y A P_f, each cut to the chain's own block.
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
    past_m = np.empty((size, D))
    past_P = np.empty((size, D, D))
    HP = np.empty((size, K, D))
    HPf = np.empty((size, K, D))
    X = np.empty((size, K, K))
    W = np.empty((size, K, K))
    v = np.empty((size, K))
    for n in range(n_blocks - 1):
        kept_m[n] = m
        kept_P[n] = P
        t0, t1 = n * block, min((n + 1) * block, T)
        _forward(A, Q, step, H, m0, P0, j, J, t0, t1, m, P, mean, cov, log_norm, HP, X, HPf, v, W, False, kept_m, kept_P, False)
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
        _forward(A, Q, step, H, m0, P0, j, J, t0, t1, m, P, mean, cov, log_norm, HP, X, HPf, v, W, True, past_m, past_P, True)
        for t in range(t1 - 1, t0 - 1, -1):
            o = t - t0
            _backward_row(H, J[t], HPf[o], v[o], W[o], u, U, r, N, mean[t], cov[t], G, E, JG)
            if t == 0 or step[t] < 0:
                for c in range(C):
                    for i in range(d):
                        a = c * d + i
                        dm[c, i] += r[a]
                        for l in range(d):
                            dP[c, i, l] += 0.5 * (r[a] * r[c * d + l] - N[a, c * d + l])
                u[:] = 0.0
                U[:] = 0.0
            else:
                s = step[t]
                _pull_back(A[s], r, N, u, U, XX)
                # XX is now N A, so that 2 Y A P_f = r (P_f u)' - (N A) P_f
                for c in range(C):
                    for i in range(d):
                        a = c * d + i
                        for l in range(d):
                            b = c * d + l
                            dQ[s, c, i, l] += 0.5 * (r[a] * r[b] - N[a, b])
                            g = past_m[o, b]
                            w = 0.0
                            for q in range(D):
                                g += past_P[o, b, q] * u[q]
                                w += past_P[o, b, q] * XX[a, q]
                            dA[s, c, i, l] += r[a] * g - w


@njit(**_options)
def means_joint(A, Q, step, H, m0, P0, J, rhs, out):
    """Sigma rhs for n right-hand sides (n, T, K), Sigma the posterior covariance of f over all rows.

    The covariances are filtered once for all of them. Keeps K (D + 2 K) numbers a row.
    """
    C, k, d = H.shape
    D, K = C * d, C * k
    n, T = rhs.shape[0], len(step)
    m = np.zeros(D)
    P = np.zeros((D, D))
    HP = np.empty((T, K, D))
    HPf = np.empty((T, K, D))
    X = np.empty((T, K, K))
    W = np.empty((T, K, K))
    v = np.empty((T, K))
    cov = np.empty((T, K, K))
    log_norm = np.empty(T)
    zero = np.zeros((T, K))
    none = np.zeros((C, d))
    mean = np.zeros((T, K))
    none_m = np.empty((0, D))
    none_P = np.empty((0, D, D))
    _forward(A, Q, step, H, none, P0, zero, J, 0, T, m, P, mean, cov, log_norm, HP, X, HPf, v, W, True, none_m, none_P, False)
    x = np.zeros(D)
    e = np.zeros(K)
    for q in range(n):
        m[:] = 0.0
        for t in range(T):
            if t == 0 or step[t] < 0:
                m[:] = 0.0
            else:
                s = step[t]
                for c in range(C):
                    for i in range(d):
                        g = 0.0
                        for l in range(d):
                            g += A[s, c, i, l] * m[c * d + l]
                        x[c * d + i] = g
                m[:] = x
            for c in range(C):
                for a in range(k):
                    g = 0.0
                    for i in range(d):
                        g += H[c, a, i] * m[c * d + i]
                    out[q, t, c * k + a] = g
            for a in range(K):
                g = rhs[q, t, a]
                for b in range(K):
                    g -= J[t, a, b] * out[q, t, b]
                e[a] = g
            for a in range(K):
                g = 0.0
                for b in range(K):
                    g += X[t, b, a] * e[b]
                v[t, a] = g
                for i in range(D):
                    m[i] += HP[t, a, i] * g
            for c in range(C):
                for a in range(k):
                    g = 0.0
                    for i in range(d):
                        g += H[c, a, i] * m[c * d + i]
                    out[q, t, c * k + a] = g
        m[:] = 0.0
        for t in range(T - 1, -1, -1):
            for a in range(K):
                g = 0.0
                for i in range(D):
                    g += HPf[t, a, i] * m[i]
                e[a] = g
                out[q, t, a] += g
            for c in range(C):
                for a in range(k):
                    g = v[t, c * k + a]
                    for b in range(K):
                        g -= J[t, c * k + a, b] * e[b]
                    for i in range(d):
                        m[c * d + i] += H[c, a, i] * g
            if t == 0 or step[t] < 0:
                m[:] = 0.0
            else:
                s = step[t]
                for c in range(C):
                    for i in range(d):
                        g = 0.0
                        for l in range(d):
                            g += A[s, c, l, i] * m[c * d + l]
                        x[c * d + i] = g
                m[:] = x


@njit(**_options)
def draw_prior(A, G, step, H, m0, L0, noise, out):
    """Draws of f (n, T, K) from the prior; noise (n, T, C d) standard normal, G and L0 factors of Q and P."""
    C, k, d = H.shape
    n, T = noise.shape[0], len(step)
    x = np.zeros((C, d))
    y = np.zeros(d)
    for q in range(n):
        for t in range(T):
            first = t == 0 or step[t] < 0
            s = 0 if first else step[t]
            for c in range(C):
                for i in range(d):
                    g = m0[c, i] if first else 0.0
                    for l in range(d):
                        e = noise[q, t, c * d + l]
                        g += L0[c, i, l] * e if first else A[s, c, i, l] * x[c, l] + G[s, c, i, l] * e
                    y[i] = g
                for i in range(d):
                    x[c, i] = y[i]
                for a in range(k):
                    g = 0.0
                    for i in range(d):
                        g += H[c, a, i] * x[c, i]
                    out[q, t, c * k + a] = g
