r"""Least squares on the lags 1..p of runs of values, in O(T log p + p^2): their moments are nearly Toeplitz.

Over rows t = p..n-1 of a run u the moments M_ij = sum_t u_{t-i} u_{t-j}, i, j = 0..p, obey

    M_{i+1,j+1} = M_ij + h_i h_j - l_i l_j,  h_i = u_{p-1-i},  l_i = u_{n-1-i}.

Let M_1 be M without row and column 0, M_0 without the last ones: M_0 = M_1 - U S U', with U the vectors h and
l of all runs and S of signs. Systems in M_1 are solved by conjugate gradients, with products by FFT and, as
preconditioner, the Toeplitz matrix of the runs padded by zeros, which is M_1 plus the rows at the edges.

With a the coefficients of the errors f of predicting lag 0 from lags 1..p, c of the errors b of predicting
lag p from lags 0..p-1, B = M_1^{-1}, P = B U, K = (U' P - S)^{-1}:

    (0 (+) B) - (B (+) 0) = -a a' / |f|^2 + c c' / |b|^2 - (P K P' (+) 0),

so that a few solutions and sums along diagonals give the whole inverse, and its last row twice.

References
----------
M. Morf, B. Dickinson, T. Kailath, A. Vieira, Efficient solution of covariance equations for linear
prediction, 1977.
R. Chan, M. Ng, Conjugate gradient methods for Toeplitz systems, SIAM Review 1996.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.fft import irfft, rfft
from scipy.fft import next_fast_len

from hidamari.inference._lags import correlate, levinson_steps
from hidamari.inference._sums import OPTIONS

__all__ = ["Solved", "solve"]

_ITERATIONS = 48
_ENERGY = 1e-26  # of an error, as a share of that of the solution: thirteen digits of what it predicts
_FLOOR = 1e-21  # where rounding ends them, near unit roots
_RESTARTS = 1
_TWICE = 1e-10  # by how much, as a share, the two ways to the last row of the inverse may differ
_ILL = 1e9  # condition number from which the triangles of the moments are safer


class Solved(NamedTuple):
    """Least squares with lags 1..p, about the mean where there is an intercept."""

    coef: np.ndarray  # (p,)
    sigma2: float  # residual sum of squares / rows
    sums: np.ndarray  # (1 + p,) of lags 0..p over the rows
    cov: np.ndarray  # (1 + p, 1 + p), sigma2 times the inverse moments, but for its first row and column
    condition: float  # of the correlations, in the 1-norm
    n_rows: int


class _Moments(NamedTuple):
    """What determines the moments of lags 1..p."""

    first: np.ndarray  # (1 + p,) M_0j
    column: np.ndarray  # (p,) first of M_1
    edges: np.ndarray  # (2 runs, p) h, then l of each run
    signs: np.ndarray  # (2 runs,) 1 for h, -1 for l
    across: np.ndarray  # (2 runs, 1 + p) autocorrelations of the edges


class _Spectra(NamedTuple):
    """Transforms of length n that stand for M_1 and for the preconditioner."""

    n: int
    column: np.ndarray  # of the symmetric circulant around the first column of M_1
    edges: np.ndarray  # of the triangular Toeplitz factors that M_1 has besides
    signs: np.ndarray
    inverse: np.ndarray  # (2, n // 2 + 1) of the factors of the preconditioner's inverse


def solve(runs: list[np.ndarray], p: int, intercept: bool) -> Solved | None:
    """Least squares over runs of more than p values each, None where the triangles of moments are safer."""
    n_rows = sum(len(u) - p for u in runs)
    M = _moments(runs, p)
    sums = np.empty(p + 1)
    sums[0] = sum(float(u[p:].sum()) for u in runs)
    sums[1:] = sums[0] + np.cumsum(M.signs @ M.edges)
    last = (M.first + M.signs @ M.across)[p:0:-1]  # M_ip, i = 0..p-1
    spectra = _spectra(M)
    found = (
        None if spectra is None else _gradients(spectra, np.vstack([M.first[1:], last, M.edges, sums[1:]]))
    )
    if spectra is None or found is None:
        return None
    w, ahead, P, t = found[0], found[1], found[2:-1], found[-1]
    between = M.edges @ P.T - np.diag(M.signs)
    # Singular where M_0 is: where the first row alone tells a direction.
    if not np.linalg.cond(between) < _ILL:
        return None
    K = np.linalg.inv(between)
    back = ahead - P.T @ (K @ (M.edges @ ahead))
    forward = float(M.first[0] - M.first[1:] @ w)
    backward = float(M.first[0] + M.signs @ M.across[:, 0] - last @ back)
    spare = float(n_rows - sums[1:] @ t)
    coef = w - t * ((sums[0] - sums[1:] @ w) / spare) if intercept else w
    mean = (sums[0] - sums[1:] @ coef) / n_rows if intercept else 0.0
    # As a quadratic form in the coefficients: an error in them enters squared.
    rss = M.first[0] - 2.0 * M.first[1:] @ coef + coef @ _times(spectra, coef[None])[0] - n_rows * mean**2
    sigma2 = float(rss) / n_rows
    squares = M.column[0] + np.cumsum(M.signs @ np.where(np.arange(p) > 0, M.edges, 0.0) ** 2)
    centre = sums[1:] / np.sqrt(n_rows) if intercept else np.zeros(p)
    squares -= centre**2
    if not (forward > 0.0 and backward > 0.0 and spare > 0.0 and sigma2 > 0.0 and np.all(squares > 0.0)):
        return None
    # B_ij - B_{i-1,j-1} = sum_k sign_k part_ki part_kj, and B_{p-1} from the other side.
    values, vectors = np.linalg.eigh(0.5 * (K + K.T))
    parts = [np.append(1.0, -w[:-1]) / np.sqrt(forward), back / np.sqrt(backward)]
    parts += list(np.sqrt(np.abs(values))[:, None] * (vectors.T @ P))
    signs = [1.0, -1.0, *np.sign(values)]
    end = np.append(-back[1:], 1.0) / backward - w[-1] * w / forward
    if intercept:
        parts += [t / np.sqrt(spare), np.append(0.0, t[:-1]) / np.sqrt(spare)]
        signs += [1.0, -1.0]
        end += t[-1] * t / spare
    cov = np.empty((p + 1, p + 1))
    scale = np.sqrt(squares)
    total = _inverse(np.array(parts) * np.sqrt(sigma2), np.array(signs), scale, cov)
    norm = _norm(M.column, M.edges, M.signs, centre, scale, np.empty((2, p)))
    condition = norm * total / sigma2
    off = float(np.max(np.abs(cov[p, 1:] - sigma2 * end)))
    if not (off <= _TWICE * abs(cov[p, p]) and condition < _ILL):
        return None
    return Solved(coef, sigma2, sums, cov, condition, n_rows)


def _moments(runs: list[np.ndarray], p: int) -> _Moments:
    """The first row of the moments, and what the others add to it."""
    first = np.sum([correlate(u[None, p:], u[None], p)[0, 0] for u in runs], axis=0)
    edges = np.vstack([part[::-1] for u in runs for part in (u[:p], u[-p:])])
    signs = np.tile([1.0, -1.0], len(runs))
    n = int(next_fast_len(2 * p, real=True) or 0)
    across = irfft(np.abs(rfft(edges, n)) ** 2, n)[:, : p + 1]
    across[:, p] = 0.0
    column = first[:p] + (signs * edges[:, 0]) @ edges
    return _Moments(first, column, edges, signs, across)


def _spectra(M: _Moments) -> _Spectra | None:
    """Transforms for products, None where autocorrelations leave nothing to innovations."""
    p = len(M.column)
    n = int(next_fast_len(2 * p, real=True) or 0)
    around = np.zeros(n)
    around[:p] = M.column
    around[n - p + 1 :] = M.column[:0:-1]
    edges = M.edges.copy()
    edges[:, 0] = 0.0
    # Of the runs padded by zeros, which are positive definite: rows 0..p-1 of each run come back.
    whole = M.first + M.across[M.signs > 0.0].sum(0)
    reflection, variance, w = np.zeros(p), np.zeros(p + 1), np.zeros(p)
    levinson_steps(whole, reflection, variance, w)
    if not variance[p] > 0.0:
        return None
    # Gohberg and Semencul: the inverse is (L(a) L(a)' - L(c) L(c)') / variance.
    a = np.append(1.0, -w)
    factors = np.vstack([a[:p], a[:0:-1]]) / np.sqrt(variance[p])
    return _Spectra(n, rfft(around).real, rfft(edges, n), M.signs, rfft(factors, n))


def _triangles(n: int, X: np.ndarray, factors: np.ndarray, signs: np.ndarray, p: int) -> np.ndarray:
    """Transforms of sum_k sign_k L_k L_k' x for the rows x of which X are the transforms."""
    inner = irfft(X[:, None] * factors.conj(), n)
    inner[..., p:] = 0.0
    return np.einsum("akf,kf->af", rfft(inner), signs[:, None] * factors)


def _times(spectra: _Spectra, x: np.ndarray) -> np.ndarray:
    """Rows x times M_1."""
    X = rfft(x, spectra.n)
    more = _triangles(spectra.n, X, spectra.edges, spectra.signs, x.shape[1])
    return irfft(X * spectra.column + more, spectra.n)[:, : x.shape[1]]


def _precondition(spectra: _Spectra, x: np.ndarray) -> np.ndarray:
    """Rows x times the inverse of the preconditioner."""
    X = rfft(x, spectra.n)
    out = _triangles(spectra.n, X, spectra.inverse, np.array([1.0, -1.0]), x.shape[1])
    return irfft(out, spectra.n)[:, : x.shape[1]]


def _gradients(spectra: _Spectra, right: np.ndarray) -> np.ndarray | None:
    """Solutions x of M_1 x = right for every row, None where they do not settle."""
    x, r = np.zeros_like(right), right
    z = _precondition(spectra, r)
    rz = np.einsum("ap,ap->a", r, z)
    start, d, restarts = rz, z, 0
    for _ in range(_ITERATIONS):
        if not np.all(rz >= 0.0):
            return None
        if np.all(rz <= _ENERGY * start):
            if restarts == _RESTARTS:
                break
            # What the recursion takes for the residual drifts from it: start again from the residual itself.
            r = right - _times(spectra, x)
            z = _precondition(spectra, r)
            rz, d, restarts = np.einsum("ap,ap->a", r, z), z, restarts + 1
            continue
        q = _times(spectra, d)
        bend = np.einsum("ap,ap->a", d, q)
        step = np.where(bend > 0.0, rz / np.where(bend > 0.0, bend, 1.0), 0.0)[:, None]
        x, r = x + step * d, r - step * q
        z = _precondition(spectra, r)
        before, rz = rz, np.einsum("ap,ap->a", r, z)
        d = z + (rz / np.where(before > 0.0, before, 1.0))[:, None] * d
    r = right - _times(spectra, x)
    left = np.einsum("ap,ap->a", r, _precondition(spectra, r))
    return x if np.all(np.abs(left) <= _FLOOR * start) else None


@njit(**OPTIONS)
def _inverse(parts, signs, scale, cov):
    """Fill cov[1:, 1:] from its generators; returns its 1-norm in units of the scales."""
    p = len(scale)
    most = 0.0
    for j in range(p + 1):
        cov[0, j] = 0.0
    for i in range(p):
        cov[i + 1, 0] = 0.0
        for j in range(p):
            cov[i + 1, j + 1] = cov[i, j]
        for k in range(len(signs)):
            c = signs[k] * parts[k, i]
            for j in range(p):
                cov[i + 1, j + 1] += c * parts[k, j]
        total = 0.0
        for j in range(p):
            total += abs(cov[i + 1, j + 1]) * scale[j]
        most = max(most, total * scale[i])
    return most


@njit(**OPTIONS)
def _norm(column, edges, signs, centre, scale, rows):
    """1-norm of the correlations, from the first column of M_1; rows (2, p) is scratch."""
    p = len(column)
    most = 0.0
    for j in range(p):
        rows[0, j] = column[j]
    for i in range(p):
        old, new = rows[i % 2], rows[1 - i % 2]
        total = 0.0
        for j in range(p):
            total += abs(old[j] - centre[i] * centre[j]) / scale[j]
        most = max(most, total / scale[i])
        if i + 1 == p:
            break
        new[0] = column[i + 1]
        for j in range(1, p):
            new[j] = old[j - 1]
        for k in range(len(signs)):
            c = signs[k] * edges[k, i + 1]
            for j in range(1, p):
                new[j] += c * edges[k, j]
    return most
