"""Compiled pieces of a row's work: products with block-diagonal matrices, and one small inverse."""

import numpy as np
from numba import njit

__all__ = ["invert", "options", "predict", "pull_back", "read_out"]

# NaN and infinities keep their meaning: an overflow must show
options = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
}


@njit(**options)
def predict(A, Q, m, P, x, X):
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


@njit(**options)
def pull_back(A, r, N, u, U, X):
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


@njit(**options)
def read_out(H, P, HP, S):
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


@njit(**options)
def invert(M, X):
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
