r"""Steps on factors of covariances, P = L L', none of which subtracts one variance from another.

A factor is stored transposed and extended, U = [L', L' H'] of shape (D, D + K): row c holds column c of L
and, after it, column c of H L, the factor of the read-outs f = H x. The read-outs are carried along, not
computed anew from x, because each row of a factor keeps its own relative precision: a variance of f of
1e-12 among derivatives of order one keeps all its digits. Every loop runs over rows in memory order.

predict
    [A L, G] with Q = G G' is brought to lower-triangular form by reflections (Householder). Reflection i
    combines column i of G with A L alone, so no column of G fills up, and a zero pivot leaves a zero column.
update
    One scalar reading f = w'x at a time (Carlson 1973): with root_j^2 = R + f_j^2 + f_{j+1}^2 + ... column j
    of L is scaled by root_{j+1} / root_j. The roots are carried, so no square leaves the range of the
    format. R = 0 sets the column to zero, and the read-out is then known exactly.

smooth
    A state is also written x = mean + L z, with z ~ N(0, 1) given the rows so far. Reflections rotate z and
    updates contract it, so what later rows say about z is carried back through them without solving for
    anything. For this U has D more columns, the update in units of the predicted L.

Arithmetic is in the format of U, float32 or float64; literals would promote, hence ``U.dtype.type``.

References
----------
Bierman, Factorization Methods for Discrete Sequential Estimation (1977), chapters 5 and 10.
"""

import math

import numpy as np
from numba import njit

__all__ = [
    "factor",
    "moments",
    "narrow",
    "propagate",
    "read_out",
    "reflect",
    "reflect_back",
    "set_units",
    "shift",
    "triangularise",
    "update",
]

_jit = njit(cache=True, nogil=True, error_model="numpy")
EPS = np.finfo(np.float64).eps
SMALL = np.finfo(np.float64).tiny / EPS  # numbers below have lost digits


@_jit
def _factor(P, L, small):
    """Write into L the Cholesky factor of P; a pivot that carries no digits gives a zero column."""
    d = P.shape[0]
    for i in range(d):
        pivot = P[i, i]
        for l in range(i):
            pivot -= L[i, l] * L[i, l]
        if P[i, i] <= small or pivot <= d * EPS * P[i, i]:
            continue
        L[i, i] = math.sqrt(pivot)
        for r in range(i + 1, d):
            rest = P[r, i]
            for l in range(i):
                rest -= L[r, l] * L[i, l]
            L[r, i] = rest / L[i, i]


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
    for index in np.ndindex(P.shape[:-2]):
        _factor(P[index], L[index], SMALL)
    return L


@_jit
def propagate(A, G, U, X, V):
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
def reflect(X, V, d, v, turn, s, small):
    """Turn [X', V'] such that, of its first D rows, V' is lower triangular and X' zero; carry the others.

    Row i of v (D, D) and turn (D,) keep reflection i: x -> x - turn_i (1, v_i) (1, v_i)' x.
    """
    D, R = V.shape
    for i in range(D):
        n = (i // d + 1) * d  # the later columns of L are still zero in this row
        for c in range(n):
            v[i, c] = X[c, i]
        head = V[i, i]
        norm = _norm(head, v[i], n, small)
        turn[i] = norm
        if norm == 0:
            continue
        pivot = -math.copysign(norm, head)
        turn[i] = (pivot - head) / pivot
        for c in range(n):
            v[i, c] /= head - pivot
        for r in range(i + 1, R):
            s[r] = V[i, r]
        for c in range(n):
            for r in range(i + 1, R):
                s[r] += v[i, c] * X[c, r]
        for r in range(i + 1, R):
            s[r] *= turn[i]
            V[i, r] -= s[r]
        for c in range(n):
            for r in range(i + 1, R):
                X[c, r] -= v[i, c] * s[r]
        V[i, i] = pivot


@_jit
def reflect_back(v, turn, d, z, w):
    """Write into z the deviation of a state in units of its factor, given w of the next in its."""
    D = len(z)
    z[:] = z.dtype.type(0)
    for i in range(D - 1, -1, -1):
        n = (i // d + 1) * d
        s = w[i]
        for c in range(n):
            s += v[i, c] * z[c]
        s *= turn[i]
        for c in range(n):
            z[c] -= v[i, c] * s


@_jit
def triangularise(B, v, s, small):
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
def read_out(H, U, m):
    """Append to the factor and the mean of x those of f = H x."""
    C, k, d = H.shape
    D = C * d
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
def set_units(U, m, first):
    """Append, from column `first` on, L^-1 (x - mean): the deviation of the state in units of its factor."""
    D, E = U.shape
    for i in range(first, E):
        m[i] = U.dtype.type(0)
        for c in range(D):
            U[c, i] = U.dtype.type(0)
        U[i - first, i] = U.dtype.type(1)


@_jit
def update(U, f, b, root):
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
def narrow(U, f, col, noise, unit):
    """Write the factor of a read-out just read, with no subtraction: f_j R / (root_j root_{j+1})."""
    root = noise
    for j in range(U.shape[0] - 1, -1, -1):
        if f[j] != 0:
            longer = math.hypot(root, f[j])
            U[j, col] = f[j] / unit * (noise / root if root > 0 else root) * (noise / longer)
            root = longer


@_jit
def shift(U, m, col, e):
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
def moments(B, first, cov):
    """Write the covariance (K, K) or the variances (K, 1) of the read-outs, columns first, first + 1, ..."""
    n = B.shape[0]
    zero = B.dtype.type(0)
    for a in range(cov.shape[0]):
        for c in range(cov.shape[1]):
            other = c if cov.shape[1] == cov.shape[0] else a
            total = zero
            for i in range(n):
                total += B[i, first + a] * B[i, first + other]
            cov[a, c] = total
