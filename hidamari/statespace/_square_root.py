"""The square-root form of the core, for what plain covariances cannot hold.

That is exact readings (R = 0), noise far below the prior variance, and float32.

Forward, a factor of the covariance is predicted by reflections and updated by one scalar reading at a time.
Backward, what later rows say travels in units of these factors, where a prediction is a rotation and an
update a contraction (see ``_factors``): no gain, no inverse and no solve, and exactly known states need no
special care. A variance loses digits only as far as later rows alone make it smaller than the filtered one.

Time is O(T D^3), memory O(T D^2) for smoothing (every filtered factor is kept) and O(T K^2) for filtering.
Arithmetic is in the format of the arrays: float32 if all are float32, else float64.
"""

import math

import numpy as np
from numba import njit

from hidamari.statespace._factors import (
    factor,
    moments,
    narrow,
    propagate,
    read_out,
    reflect,
    reflect_back,
    set_units,
    shift,
    triangularise,
    update,
)

__all__ = ["factor", "filter_readings", "filter_sites", "smooth_readings", "smooth_sites"]

_DENSE, _DIAGONAL, _READINGS = 0, 1, 2
_jit = njit(cache=True, nogil=True, error_model="numpy")


@_jit
def _read_site(U, m, f, b, col, j, J):
    """Multiply by exp(j f - J f^2 / 2) for one read-out; returns the log normaliser."""
    if J == 0:
        return shift(U, m, col, j)
    D, E = U.shape
    one, half = U.dtype.type(1), U.dtype.type(0.5)
    unit = math.sqrt(J)
    variance = U.dtype.type(0)
    for c in range(D):
        f[c] = unit * U[c, col]
        variance += f[c] * f[c]
    mean = m[col]
    root = update(U, f, b, one)
    narrow(U, f, col, one, unit)
    surprise = (j - J * mean) / unit / root
    for i in range(E):
        m[i] += b[i] / root * surprise
    share = variance / root / root
    # (j^2 S + 2 j mu - J mu^2) / (1 + J S) / 2, with S = variance / J
    z = j / unit
    return half * (z * (z * share) + (j + j - J * mean) / root * (mean / root)) - math.log(root)


@_jit
def _read_value(U, m, f, b, col, y, R):
    """Take in one reading y = f + N(0, R); returns its log density, and whether an exact one contradicts."""
    D, E = U.shape
    zero, one, half = U.dtype.type(0), U.dtype.type(1), U.dtype.type(0.5)
    top = zero
    for c in range(D):
        f[c] = U[c, col]
        top = max(top, abs(f[c]))
    mean = m[col]
    if R == 0 and top == 0:
        # the same exact value twice says nothing new; two different ones cannot both be true
        slack = U.dtype.type(np.finfo(U.dtype).eps) * (abs(y) + abs(mean))
        return zero, abs(y - mean) > slack
    noise = math.sqrt(R)
    root = update(U, f, b, noise)
    narrow(U, f, col, noise, one)
    surprise = (y - mean) / root
    for i in range(E):
        m[i] += b[i] / root * surprise
    if R == 0:
        m[col] = y
    return -half * surprise * surprise - math.log(root) - U.dtype.type(0.5 * math.log(2 * math.pi)), False


@_jit
def _pseudo_readings(j, J, W, z, S):
    """Split exp(j'f - f'Jf/2) into readings z_n = w_n'f + N(0, 1) and a shift by what j has beyond them.

    Pivoted Cholesky of J in units of its own diagonal. Returns the rank; S[K] holds the shift.
    """
    K = j.shape[0]
    zero = W.dtype.type(0)
    floor = W.dtype.type(4 * K) * W.dtype.type(np.finfo(W.dtype).eps)
    for a in range(K):
        S[K, a] = j[a]
        for c in range(K):
            S[a, c] = J[a, c]
    for n in range(K):
        best, largest = -1, floor
        for a in range(K):
            if J[a, a] > zero and S[a, a] / J[a, a] > largest:
                best, largest = a, S[a, a] / J[a, a]
        if best < 0:
            return n
        unit = math.sqrt(S[best, best])
        for a in range(K):
            W[n, a] = S[a, best] / unit
        W[n, best] = unit
        z[n] = S[K, best] / unit
        for a in range(K):
            S[K, a] -= W[n, a] * z[n]
            for c in range(K):
                S[a, c] -= W[n, a] * W[n, c]
        S[K, best] = zero
        for a in range(K):
            S[a, best] = zero
            S[best, a] = zero
    return K


@_jit
def _read_sites(U, m, f, b, j, J, W, z, S):
    """Multiply by exp(j'f - f'Jf/2) over all read-outs; returns the log normaliser."""
    D, E = U.shape
    K = len(j)
    zero, one, half = U.dtype.type(0), U.dtype.type(1), U.dtype.type(0.5)
    gain = zero
    rank = _pseudo_readings(j, J, W, z, S)
    for n in range(rank):
        mean = zero
        for a in range(K):
            mean += W[n, a] * m[D + a]
        variance = zero
        for c in range(D):
            f[c] = zero
            for a in range(K):
                f[c] += W[n, a] * U[c, D + a]
            variance += f[c] * f[c]
        root = update(U, f, b, one)
        surprise = (z[n] - mean) / root
        for i in range(E):
            m[i] += b[i] / root * surprise
        share = variance / root / root
        gain += half * (z[n] * (z[n] * share) + (z[n] + z[n] - mean) / root * (mean / root)) - math.log(root)
    for a in range(K):
        if S[K, a] != zero:
            gain += shift(U, m, D + a, S[K, a])
    return gain


@_jit
def _forward(A, G, step, still, H, m0, L0, first, second, kind, small, mean, cov, log_norm, ms, Us):
    """Filter, keeping means and factors if ms, Us are as long as the series; returns a bad row or -1."""
    T, K = mean.shape
    C, d = m0.shape
    D = C * d
    E = D + K + (D if ms.shape[0] == T else 0)
    zero = L0.dtype.type(0)
    m, U = np.zeros(E, L0.dtype), np.zeros((D, E), L0.dtype)
    X, V = np.zeros((D, D), L0.dtype), np.zeros((D, D), L0.dtype)
    v, turn, s = np.zeros((D, D), L0.dtype), np.zeros(D, L0.dtype), np.zeros(D, L0.dtype)
    f, b = np.zeros(D, L0.dtype), np.zeros(E, L0.dtype)
    W, z, S = np.zeros((K, K), L0.dtype), np.zeros(K, L0.dtype), np.zeros((K + 1, K), L0.dtype)
    for t in range(T):
        g = step[t]
        if t == 0 or g < 0:
            U[:] = zero
            for i in range(D):
                m[i] = m0[i // d, i % d]
                for r in range(i, (i // d + 1) * d):
                    U[i, r] = L0[i // d, r % d, i % d]
            read_out(H, U, m)
        elif not still[g]:
            propagate(A[g], G[g], U, X, V)
            reflect(X, V, d, v, turn, s, small)
            for i in range(D):
                s[i] = zero
                for l in range(d):
                    s[i] += A[g, i // d, i % d, l] * m[i // d * d + l]
                for r in range(i, D):
                    U[i, r] = V[i, r]
            for i in range(D):
                m[i] = s[i]
            read_out(H, U, m)
        set_units(U, m, D + K)
        log_norm[t] = zero
        if kind == _DENSE:
            log_norm[t] = _read_sites(U, m, f, b, first[t], second[t], W, z, S)
        else:
            for a in range(K):
                if kind == _DIAGONAL:
                    log_norm[t] += _read_site(U, m, f, b, D + a, first[t, a], second[t, a, 0])
                elif not (np.isnan(first[t, a]) or np.isinf(second[t, a, 0])):
                    gain, conflict = _read_value(U, m, f, b, D + a, first[t, a], second[t, a, 0])
                    log_norm[t] += gain
                    if conflict:
                        return t
        mean[t] = m[D : D + K]
        moments(U, D, cov[t])
        if ms.shape[0] == T:
            ms[t] = m
            Us[t] = U
    return -1


@_jit
def _backward(A, G, step, still, small, mean, cov, ms, Us):
    """Turn the filtered moments of the read-outs into smoothed ones, in place.

    With x_t = mean + L z the filtered state and w the predicted one of the next row in units of its own
    factor, z | all ~ N(z, S S') and w | all ~ N(w, R R'); S and R are stored transposed.
    """
    T, K = mean.shape
    D = Us.shape[1]
    d, E = A.shape[2], D + K
    zero, one = Us.dtype.type(0), Us.dtype.type(1)
    X, V = np.zeros((D, 2 * D), Us.dtype), np.zeros((D, 2 * D), Us.dtype)
    S, R, F = np.zeros((2 * D, D), Us.dtype), np.zeros((D, D), Us.dtype), np.zeros((D, K), Us.dtype)
    v, turn = np.zeros((D, D), Us.dtype), np.zeros(D, Us.dtype)
    z, w, s, u = (
        np.zeros(D, Us.dtype),
        np.zeros(D, Us.dtype),
        np.zeros(2 * D, Us.dtype),
        np.zeros(2 * D, Us.dtype),
    )
    for t in range(T - 1, -1, -1):
        g = step[t + 1] if t + 1 < T else np.int64(-1)
        if g < 0:
            z[:] = zero
            S[:] = zero
            for i in range(D):
                S[i, i] = one
        elif still[g]:
            z[:] = w
            S[:D] = R
            mean[t] = mean[t + 1]
            cov[t] = cov[t + 1]
        else:
            propagate(A[g], G[g], Us[t], X[:, :D], V[:, :D])
            X[:, D:] = zero
            V[:, D:] = zero
            for i in range(D):
                X[i, D + i] = one
            reflect(X, V, d, v, turn, s, small)
            reflect_back(v, turn, d, z, w)
            # z = V' w + X' (what the next state leaves open)
            for c in range(D):
                for r in range(D):
                    S[c, r] = zero
                    S[D + c, r] = X[c, D + r]
                for i in range(c, D):
                    for r in range(D):
                        S[c, r] += R[c, i] * V[i, D + r]
            triangularise(S, u, s, small)
            for a in range(K):
                for c in range(D):
                    mean[t, a] += Us[t, c, D + a] * z[c]
                    F[c, a] = zero
                    for r in range(c, D):
                        F[c, a] += S[c, r] * Us[t, r, D + a]
            moments(F, 0, cov[t])
        for i in range(D):
            w[i] = ms[t, E + i]
            for c in range(D):
                w[i] += Us[t, c, E + i] * z[c]
        for c in range(D):
            for i in range(c, D):
                R[c, i] = zero
                for r in range(c, i + 1):
                    R[c, i] += S[c, r] * Us[t, r, E + i]


def _run(A, G, step, H, m, L0, first, second, kind, smooth):
    """Filter or smooth one joint state; arrays as for the public functions."""
    T, K = first.shape
    C, d = m.shape
    D = C * d
    mean, cov = np.empty((T, K), m.dtype), np.empty((T, K, second.shape[2]), m.dtype)
    log_norm = np.empty(T, m.dtype)
    kept = T if smooth else 0
    ms, Us = np.empty((kept, D + K + D), m.dtype), np.empty((kept, D, D + K + D), m.dtype)
    info = np.finfo(m.dtype)
    small = m.dtype.type(info.tiny / info.eps)
    still = np.array([not G[g].any() and (A[g] == np.eye(d)).all() for g in range(len(A))], bool)
    bad = _forward(A, G, step, still, H, m, L0, first, second, kind, small, mean, cov, log_norm, ms, Us)
    if bad >= 0:
        raise ValueError(
            f"y has conflicting exact readings: {first[bad]} where R = 0 has fixed another value"
        )
    if smooth:
        _backward(A, G, step, still, small, mean, cov, ms, Us)
    return mean, cov, log_norm


def _solve(A, G, step, H, m, L0, first, second, kind, smooth):
    """Bring the arrays to one format and layout, split what is separate, and put the answers together."""
    arrays = [np.asarray(a) for a in (A, G, H, m, L0, first, second)]
    single = all(a.dtype == np.float32 for a in arrays)
    dtype = np.float32 if single else np.float64
    # writeable, because a read-only array is another type to the compiler
    A, G, H, m, L0, first, second = (np.require(a, dtype, ["C", "W"]) for a in arrays)
    step = np.require(step, np.int64, ["C", "W"])
    if kind == _DENSE:
        return _run(A, G, step, H, m, L0, first, second, kind, smooth)
    T, K = first.shape
    C, k = H.shape[:2]
    mean, var, log_norm = np.empty((T, K), m.dtype), np.empty((T, K), m.dtype), np.zeros(T, m.dtype)
    for c in range(C):
        one, own = slice(c, c + 1), slice(c * k, c * k + k)
        model = (
            np.ascontiguousarray(A[:, one]),
            np.ascontiguousarray(G[:, one]),
            step,
            H[one],
            m[one],
            L0[one],
        )
        rows = np.ascontiguousarray(first[:, own]), np.ascontiguousarray(second[:, own, None])
        mean[:, own], cov, gain = _run(*model, *rows, kind, smooth)
        var[:, own] = cov[:, :, 0]
        log_norm += gain
    return mean, var, log_norm


def filter_sites(A, G, step, H, m, L0, j, J):
    """Moments of f given the rows so far, and log normalisers, for sites exp(j'f - f'Jf/2).

    Parameters
    ----------
    A, G : (S, C, d, d)
        Transitions, and factors of the process noise, Q = G G'.
    step : (T,)
        Row t is moved with ``A[step[t]]``; negative starts a new trial.
    H, m, L0 : (C, k, d), (C, d), (C, d, d)
        Read-outs, prior mean, and factor of the prior covariance.
    j, J : (T, K) and (T, K, K) or, if diagonal, (T, K)
        Sites; J positive semidefinite, j free.

    Returns
    -------
    mean, cov, log_norm : (T, K), shape of J, (T,)
    """
    return _solve(A, G, step, H, m, L0, j, J, _DENSE if np.ndim(J) == 3 else _DIAGONAL, False)


def smooth_sites(A, G, step, H, m, L0, j, J):
    """Moments of f given all rows of its trial, and log normalisers; arguments as for `filter_sites`."""
    return _solve(A, G, step, H, m, L0, j, J, _DENSE if np.ndim(J) == 3 else _DIAGONAL, True)


def filter_readings(A, G, step, H, m, L0, y, R):
    """Moments of f given the rows so far, and log densities of readings y = f + N(0, R).

    Parameters
    ----------
    A, G, step, H, m, L0
        As for `filter_sites`.
    y : (T, K)
        Readings; NaN is not observed.
    R : (T, K)
        Variances of their noise; zero is exact, infinite is not observed. An exact reading of a value that
        is known already (a repeated time) counts once.

    Returns
    -------
    mean, var, log_norm : (T, K), (T, K), (T,)

    Raises
    ------
    ValueError
        If two exact readings of one value differ.
    """
    return _solve(A, G, step, H, m, L0, y, R, _READINGS, False)


def smooth_readings(A, G, step, H, m, L0, y, R):
    """Moments of f given all rows of its trial, and log densities; arguments as for `filter_readings`."""
    return _solve(A, G, step, H, m, L0, y, R, _READINGS, True)
