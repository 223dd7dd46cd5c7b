r"""The square-root form of the core, for what plain covariances cannot hold: exact readings, tiny noise, float32.

A covariance P = L L' is never formed inside. Its factor is stored transposed and extended, U = [L', L' H'] of
shape (D, D + K): row c holds column c of L and, after it, column c of H L, the factor of the read-outs f = H x.
The read-outs are carried along, not recomputed from x, because each row of a factor keeps its own relative
precision: a variance of f of 1e-12 between derivatives of order one keeps all its digits.

Three steps, none of which subtracts one variance from another:

predict
    [A L, G] with Q = G G' is brought to lower-triangular form by reflections (Householder). Reflection i
    combines column i of G with A L alone, so no column of G fills up, and a zero pivot leaves a zero column.
update
    One scalar reading w'f at a time (Carlson 1973): with alpha_j = R + f_j^2 + f_{j+1}^2 + ... every column
    is scaled by sqrt(alpha_{j+1} / alpha_j). Roots are carried in place of alpha, so no square leaves the
    range of the format. R = 0 sets the column to zero, and the read-out is then known exactly.
smooth
    The reflections of [A L, G], applied to [L, 0] and [H L, 0] too, leave the gain times the predicted factor
    and the factor of what the next state does not explain; Rauch-Tung-Striebel in factors follows from these.

Time is O(T D^3), memory O(T D^2) for smoothing (every filtered factor is kept) and O(T K^2) for filtering.
Arithmetic is in the format of the arrays: float32 if all are float32, else float64.

References
----------
Bierman, Factorization Methods for Discrete Sequential Estimation (1977), chapters 5 and 10.
"""

import math

import numpy as np
from numba import njit

__all__ = ["factor", "filter_readings", "filter_sites", "smooth_readings", "smooth_sites"]

_DENSE, _DIAGONAL, _READINGS = 0, 1, 2
_jit = njit(cache=True, nogil=True, error_model="numpy")


@_jit
def _factor(P, L, small):
    """Write into L the Cholesky factor of P; a pivot that carries no digits gives a zero column."""
    d = P.shape[0]
    for i in range(d):
        pivot = P[i, i]
        for l in range(i):
            pivot -= L[i, l] * L[i, l]
        if not (P[i, i] > small and pivot > 0.0):
            continue
        L[i, i] = math.sqrt(pivot)
        for r in range(i + 1, d):
            rest = P[r, i]
            for l in range(i):
                rest -= L[r, l] * L[i, l]
            L[r, i] = rest / L[i, i]


@_jit
def _propagate(A, G, U, X, V):
    """Write A L into X and G into V, both transposed, ahead of the reflections."""
    C, d = A.shape[0], A.shape[1]
    D = C * d
    zero = U.dtype.type(0)
    for c in range(D):
        for b in range(C):
            for i in range(d):
                moved = zero
                if b * d + d > c:  # L is lower triangular: earlier chains do not load on column c
                    for l in range(d):
                        moved += A[b, i, l] * U[c, b * d + l]
                X[c, b * d + i] = moved
    V[:] = zero
    for b in range(C):
        for i in range(d):
            for r in range(i, d):
                V[b * d + i, b * d + r] = G[b, r, i]


@_jit
def _norm(head, v, n, small):
    """Length of (head, v[:n]); rescaled only where the squares would leave the range of the format."""
    total = head * head
    for c in range(n):
        total += v[c] * v[c]
    if total >= small and total < np.inf:
        return math.sqrt(total)
    top = abs(head)
    for c in range(n):
        top = max(top, abs(v[c]))
    if top == 0:
        return top
    total = (head / top) * (head / top)
    for c in range(n):
        total += (v[c] / top) * (v[c] / top)
    return top * math.sqrt(total)


@_jit
def _reflect(X, V, d, v, s, small):
    """Turn [X', V'] so that the first D rows of V' are lower triangular and those of X' zero; carry the rest."""
    D, R = V.shape
    for i in range(D):
        n = (i // d + 1) * d  # the later columns of L are still zero in this row
        for c in range(n):
            v[c] = X[c, i]
        head = V[i, i]
        norm = _norm(head, v, n, small)
        if norm == 0:
            continue
        pivot = -math.copysign(norm, head)
        turn = (pivot - head) / pivot
        for c in range(n):
            v[c] = v[c] / (head - pivot)
        for r in range(i + 1, R):
            s[r] = V[i, r]
        for c in range(n):
            for r in range(i + 1, R):
                s[r] += v[c] * X[c, r]
        for r in range(i + 1, R):
            s[r] *= turn
            V[i, r] -= s[r]
        for c in range(n):
            for r in range(i + 1, R):
                X[c, r] -= v[c] * s[r]
        V[i, i] = pivot


@_jit
def _triangularise(B, v, s, small):
    """Turn the (2D, D) matrix B so that its first D rows are upper triangular: a factor of B'B."""
    n, D = B.shape
    for i in range(D):
        for c in range(i + 1, n):
            v[c - i - 1] = B[c, i]
        head = B[i, i]
        norm = _norm(head, v, n - i - 1, small)
        if norm == 0:
            continue
        pivot = -math.copysign(norm, head)
        turn = (pivot - head) / pivot
        for c in range(n - i - 1):
            v[c] = v[c] / (head - pivot)
        for r in range(i + 1, D):
            s[r] = B[i, r]
        for c in range(i + 1, n):
            for r in range(i + 1, D):
                s[r] += v[c - i - 1] * B[c, r]
        for r in range(i + 1, D):
            s[r] *= turn
            B[i, r] -= s[r]
        for c in range(i + 1, n):
            for r in range(i + 1, D):
                B[c, r] -= v[c - i - 1] * s[r]
        B[i, i] = pivot


@_jit
def _read_out(H, U, m, D):
    """Append to the factor and the mean of x those of f = H x."""
    C, k, d = H.shape
    zero = U.dtype.type(0)
    for b in range(C):
        for a in range(k):
            col = D + b * k + a
            m[col] = zero
            for l in range(d):
                m[col] += H[b, a, l] * m[b * d + l]
            for c in range(D):
                U[c, col] = zero
                for l in range(d):
                    U[c, col] += H[b, a, l] * U[c, b * d + l]


@_jit
def _update(U, f, b, root):
    """Read a scalar whose factor is f, with noise root^2: U becomes the posterior factor, b the covariance.

    Returns the root of the variance of the reading. b[i] = Cov(reading, x_i or f_i) before it was read.
    """
    D, E = U.shape
    zero = U.dtype.type(0)
    for i in range(E):
        b[i] = zero
    for j in range(D - 1, -1, -1):
        fj = f[j]
        if fj == zero:
            continue
        longer = math.hypot(root, fj)
        if root == zero:
            for i in range(j, E):
                b[i] = fj * U[j, i]
                U[j, i] = zero
        else:
            shrink = root / longer
            slope = (fj / longer) / root
            for i in range(j, E):
                u = U[j, i]
                U[j, i] = shrink * u - slope * b[i]
                b[i] += fj * u
        root = longer
    return root


@_jit
def _narrow(U, f, col, noise, unit):
    """Write the factor of a read-out that was read itself: f_j R / (root_j root_{j+1}), without subtraction."""
    root = noise
    for j in range(U.shape[0] - 1, -1, -1):
        if f[j] != 0:
            longer = math.hypot(root, f[j])
            U[j, col] = f[j] / unit * (noise / root if root > 0 else root) * (noise / longer)
            root = longer


@_jit
def _shift(U, m, col, e):
    """Multiply by exp(e f), which moves the mean and nothing else; returns the log normaliser."""
    D, E = U.shape
    half = U.dtype.type(0.5)
    variance = U.dtype.type(0)
    for c in range(D):
        variance += U[c, col] * U[c, col]
    gain = e * m[col] + half * e * e * variance
    for c in range(D):
        scale = e * U[c, col]
        for i in range(E):
            m[i] += scale * U[c, i]
    return gain


@_jit
def _read_site(U, m, f, b, col, j, J):
    """Multiply by exp(j f - J f^2 / 2) for one read-out; returns the log normaliser."""
    if J == 0:
        return _shift(U, m, col, j)
    D, E = U.shape
    one, half = U.dtype.type(1), U.dtype.type(0.5)
    unit = math.sqrt(J)
    variance = U.dtype.type(0)
    for c in range(D):
        f[c] = unit * U[c, col]
        variance += f[c] * f[c]
    mean = m[col]
    root = _update(U, f, b, one)
    _narrow(U, f, col, one, unit)
    surprise = (j - J * mean) / unit / root
    for i in range(E):
        m[i] += b[i] / root * surprise
    share = variance / root / root
    # (j^2 S + 2 j mu - J mu^2) / (1 + J S) / 2, with S = variance / J
    z = j / unit
    return half * (z * (z * share) + (j + j - J * mean) / root * (mean / root)) - math.log(root)


@_jit
def _read_value(U, m, f, b, col, y, R):
    """Take in one reading y = f + N(0, R); returns its log density, and whether it contradicts an exact one."""
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
    root = _update(U, f, b, noise)
    _narrow(U, f, col, noise, one)
    surprise = (y - mean) / root
    for i in range(E):
        m[i] += b[i] / root * surprise
    share = (noise / root) * (noise / root)
    m[col] = share * mean + (one - share) * y
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
    K = E - D
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
        root = _update(U, f, b, one)
        surprise = (z[n] - mean) / root
        for i in range(E):
            m[i] += b[i] / root * surprise
        share = variance / root / root
        gain += half * (z[n] * (z[n] * share) + (z[n] + z[n] - mean) / root * (mean / root)) - math.log(root)
    for a in range(K):
        if S[K, a] != zero:
            gain += _shift(U, m, D + a, S[K, a])
    return gain


@_jit
def _moments(B, first, cov):
    """Write the covariance (K, K), or the variances (K, 1), of the read-outs in columns first, first + 1, ..."""
    n = B.shape[0]
    zero = B.dtype.type(0)
    for a in range(cov.shape[0]):
        for c in range(cov.shape[1]):
            other = c if cov.shape[1] == cov.shape[0] else a
            total = zero
            for i in range(n):
                total += B[i, first + a] * B[i, first + other]
            cov[a, c] = total


@_jit
def _forward(A, G, step, still, H, m0, L0, first, second, kind, small, mean, cov, log_norm, ms, Us):
    """Filter; keep means and factors in ms, Us if these are as long as the series. Returns a bad row or -1."""
    T, K = mean.shape
    C, d = m0.shape
    D = C * d
    E = D + K
    zero = L0.dtype.type(0)
    m, U = np.zeros(E, L0.dtype), np.zeros((D, E), L0.dtype)
    X, V = np.zeros((D, D), L0.dtype), np.zeros((D, D), L0.dtype)
    v, s, f, b = np.zeros(D, L0.dtype), np.zeros(D, L0.dtype), np.zeros(D, L0.dtype), np.zeros(E, L0.dtype)
    W, z, S = np.zeros((K, K), L0.dtype), np.zeros(K, L0.dtype), np.zeros((K + 1, K), L0.dtype)
    for t in range(T):
        g = step[t]
        if t == 0 or g < 0:
            U[:] = zero
            for i in range(D):
                m[i] = m0[i // d, i % d]
                for r in range(i, (i // d + 1) * d):
                    U[i, r] = L0[i // d, r % d, i % d]
            _read_out(H, U, m, D)
        elif not still[g]:
            _propagate(A[g], G[g], U, X, V)
            _reflect(X, V, d, v, s, small)
            for i in range(D):
                s[i] = zero
                for l in range(d):
                    s[i] += A[g, i // d, i % d, l] * m[i // d * d + l]
                for r in range(i, D):
                    U[i, r] = V[i, r]
            for i in range(D):
                m[i] = s[i]
            _read_out(H, U, m, D)
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
        mean[t] = m[D:]
        _moments(U, D, cov[t])
        if ms.shape[0] == T:
            ms[t] = m
            Us[t] = U
    return -1


@_jit
def _backward(A, G, step, still, small, mean, cov, ms, Us):
    """Turn the filtered moments of the read-outs into smoothed ones, in place (Rauch-Tung-Striebel)."""
    T, K = mean.shape
    D, E = Us.shape[1], Us.shape[2]
    d = A.shape[2]
    zero = Us.dtype.type(0)
    X, V = np.zeros((D, D + E), Us.dtype), np.zeros((D, D + E), Us.dtype)
    B, N = np.zeros((2 * D, E), Us.dtype), np.zeros((2 * D, D), Us.dtype)
    v, s, change = np.zeros(2 * D, Us.dtype), np.zeros(D + E, Us.dtype), np.zeros(D, Us.dtype)
    L, m = np.zeros((D, D), Us.dtype), np.zeros(D, Us.dtype)
    for t in range(T - 1, -1, -1):
        g = step[t + 1] if t + 1 < T else np.int64(-1)
        if g < 0:
            m[:] = ms[t, :D]
            L[:] = Us[t, :, :D]
        elif still[g]:
            mean[t] = mean[t + 1]
            cov[t] = cov[t + 1]
        else:
            _propagate(A[g], G[g], Us[t], X[:, :D], V[:, :D])
            X[:, D:] = Us[t]
            V[:, D:] = zero
            _reflect(X, V, d, v, s, small)
            # B[:D] = gain', from gain L_p = V[:, D:]' where L_p = V[:, :D]'
            for j in range(D - 1, -1, -1):
                pivot = V[j, j]
                for r in range(E):
                    B[D + j, r] = zero if pivot == zero else V[j, D + r]
                if pivot != zero:
                    for i in range(j + 1, D):
                        for r in range(E):
                            B[D + j, r] -= V[j, i] * B[D + i, r]
                    for r in range(E):
                        B[D + j, r] /= pivot
            for i in range(D):
                change[i] = m[i]
                for l in range(d):
                    change[i] -= A[g, i // d, i % d, l] * ms[t, i // d * d + l]
            for r in range(E):
                s[r] = ms[t, r]
            for i in range(D):
                for r in range(E):
                    s[r] += change[i] * B[D + i, r]
            m[:] = s[:D]
            mean[t] = s[D:E]
            # the smoothed factor: what the next state tells (gain L), and what it leaves open (X)
            for c in range(D):
                for r in range(E):
                    B[c, r] = zero
                for i in range(c, D):
                    for r in range(E):
                        B[c, r] += L[c, i] * B[D + i, r]
            B[D:] = X[:, D:]
            _moments(B, D, cov[t])
            N[:] = B[:, :D]
            _triangularise(N, v, s, small)
            for c in range(D):
                for r in range(D):
                    L[c, r] = N[c, r] if r >= c else zero


def _run(A, G, step, H, m, L0, first, second, kind, smooth):
    """Filter or smooth one joint state; arrays as for the public functions."""
    T, K = first.shape
    C, d = m.shape
    D = C * d
    mean, cov = np.empty((T, K), m.dtype), np.empty((T, K, second.shape[2]), m.dtype)
    log_norm = np.empty(T, m.dtype)
    kept = T if smooth else 0
    ms, Us = np.empty((kept, D + K), m.dtype), np.empty((kept, D, D + K), m.dtype)
    info = np.finfo(m.dtype)
    small = m.dtype.type(info.tiny / info.eps)
    still = np.array([not G[g].any() and (A[g] == np.eye(d)).all() for g in range(len(A))], bool)
    bad = _forward(A, G, step, still, H, m, L0, first, second, kind, small, mean, cov, log_norm, ms, Us)
    if bad >= 0:
        raise ValueError(
            f"y has conflicting exact readings: row {bad} differs from a value that is already known"
        )
    if smooth:
        _backward(A, G, step, still, small, mean, cov, ms, Us)
    return mean, cov, log_norm


def _solve(A, G, step, H, m, L0, first, second, kind, smooth):
    """Bring the arrays to one format and layout, split what is separate, and put the answers together."""
    arrays = [np.asarray(a) for a in (A, G, H, m, L0, first, second)]
    single = all(a.dtype == np.float32 for a in arrays)
    A, G, H, m, L0, first, second = (
        np.ascontiguousarray(a, np.float32 if single else np.float64) for a in arrays
    )
    step = np.ascontiguousarray(step, np.int64)
    if kind == _DENSE:
        return _run(A, G, step, H, m, L0, first, second, kind, smooth)
    T, K = first.shape
    C, k = H.shape[:2]
    mean, var, log_norm = np.empty((T, K), m.dtype), np.empty((T, K), m.dtype), np.zeros(T, m.dtype)
    for c in range(C):
        one, own = slice(c, c + 1), slice(c * k, c * k + k)
        blocks = [
            np.ascontiguousarray(a) for a in (A[:, one], G[:, one], first[:, own], second[:, own, None])
        ]
        mean[:, own], cov, gain = _run(
            blocks[0], blocks[1], step, H[one], m[one], L0[one], blocks[2], blocks[3], kind, smooth
        )
        var[:, own] = cov[:, :, 0]
        log_norm += gain
    return mean, var, log_norm


def factor(P):
    """Lower-triangular L with P = L L', for (..., d, d) positive semidefinite P.

    A variance of zero (a padded state, no noise) or one so near the smallest number of the format that it
    carries no digits gives a zero column; nothing is added to P.

    Examples
    --------
    >>> import numpy as np
    >>> factor(np.array([[4.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 9.0]]))
    array([[2., 0., 0.],
           [1., 0., 0.],
           [0., 0., 3.]])
    """
    P = np.ascontiguousarray(P, np.float64)
    L = np.zeros_like(P)
    info = np.finfo(np.float64)
    for index in np.ndindex(P.shape[:-2]):
        _factor(P[index], L[index], info.tiny / info.eps)
    return L


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
