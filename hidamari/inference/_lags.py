"""Second moments of a series and its lags without the matrix of lags.

Over a run of rows t = a..b-1, the moments M_ij = sum_t u_{t-i} v_{t-j} of two series obey

    M_{i+1,j+1} = M_ij + u_{a-1-i} v_{a-1-j} - u_{b-1-i} v_{b-1-j},

so that the first row and column, two cross-correlations by FFT, give all of it: O(n log P + P^2) for n rows
and P lags, where the product of the matrices takes n P^2.
"""

import numpy as np
from numba import njit
from scipy.fft import next_fast_len

from hidamari.inference._sums import IN_ORDER, OPTIONS

__all__ = [
    "burg_step",
    "correlate",
    "levinson_steps",
    "moments_by_fft",
    "moments_by_rows",
    "rows_of",
    "take_means",
]

_BATCH = 1 << 19  # numbers transformed at a time
_CHUNK = 4096  # rows of the matrix of lags held at a time


def correlate(heads: np.ndarray, tails: np.ndarray, P: int) -> np.ndarray:
    """Cross-correlations sum_t heads[a, t] tails[b, P + t - j], (A, B, P + 1), j = 0..P."""
    A, n = heads.shape
    # Rows in pieces of N - P, each a circular correlation of length N that does not wrap; their spectra add.
    size = int(next_fast_len(min(max(4 * P, _CHUNK), n + P), real=True) or 0)
    piece = size - P
    n_pieces = -(-n // piece)
    spectrum = np.zeros((A, len(tails), size // 2 + 1), dtype=complex)
    together = max(_BATCH // (size * (A + len(tails))), 1)
    for first in range(0, n_pieces, together):
        count = min(together, n_pieces - first)
        head = np.zeros((A, count, piece))
        tail = np.zeros((len(tails), count, size))
        for k in range(count):
            start = (first + k) * piece
            stop = min(start + piece, n)
            head[:, k, : stop - start] = heads[:, start:stop]
            tail[:, k, : stop - start + P] = tails[:, start : stop + P]
        one, other = np.fft.rfft(head, size), np.fft.rfft(tail, size)
        spectrum += np.einsum("acf,bcf->abf", one.conj(), other)
    return np.fft.irfft(spectrum, size)[:, :, P::-1]


@njit(**OPTIONS)
def _fill(row, column, u_before, u_last, v_before, v_last, out):
    """Moments of the lags of two series from their first row and column."""
    for j in range(len(row)):
        out[0, j] = row[j]
    for i in range(1, len(column)):
        out[i, 0] = column[i]
        for j in range(1, len(row)):
            out[i, j] = out[i - 1, j - 1] + u_before[i - 1] * v_before[j - 1] - u_last[i - 1] * v_last[j - 1]


def moments_by_fft(
    series: list[np.ndarray], spans: list[int], columns: np.ndarray, a: int, b: int
) -> tuple[np.ndarray, np.ndarray]:
    """Second moments and sums over rows a..b-1 of lags 0..span of each series, then of columns (T, k)."""
    P = max(spans)
    fixed = columns[a:b].T
    # A series with a shorter span may start later than a - P: what is missing there meets no lag it has.
    tails = np.stack([_from(z, a - P, b) for z in series])
    heads = np.vstack([tails[:, P:], fixed])
    cross = correlate(heads, tails, P)
    starts = np.concatenate([[0], np.cumsum([span + 1 for span in spans])])
    m = starts[-1]
    M = np.empty((m + len(fixed), m + len(fixed)))
    s = np.empty(m + len(fixed))
    before = tails[:, :P][:, ::-1]  # z_{a-1-i}
    last = tails[:, ::-1]  # z_{b-1-i}
    for u, span in enumerate(spans):
        rows = slice(starts[u], starts[u + 1])
        s[rows] = tails[u, P:].sum()
        s[starts[u] + 1 : starts[u + 1]] += np.cumsum(before[u, :span] - last[u, :span])
        for v in range(u, len(spans)):
            block = M if len(M) == span + 1 else np.empty((span + 1, spans[v] + 1))
            _fill(
                cross[u, v, : spans[v] + 1].copy(),
                cross[v, u, : span + 1].copy(),
                before[u].copy(),
                last[u, :P].copy(),
                before[v].copy(),
                last[v, :P].copy(),
                block,
            )
            if block is not M:
                M[rows, starts[v] : starts[v + 1]] = block
            if v > u:
                M[starts[v] : starts[v + 1], rows] = block.T
        M[m:, rows] = cross[len(spans) :, u, : span + 1]
        M[rows, m:] = M[m:, rows].T
    M[m:, m:] = fixed @ fixed.T
    s[m:] = fixed.sum(1)
    return M, s


def _from(z: np.ndarray, start: int, stop: int) -> np.ndarray:
    """z[start:stop], with zeros for what lies outside."""
    out = np.zeros(stop - start)
    low, high = max(start, 0), min(stop, len(z))
    out[low - start : high - start] = z[low:high]
    return out


def rows_of(
    series: list[np.ndarray], lags: list[np.ndarray], columns: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Rows of the matrix of lags at some times, (n, m): lags of each series in turn, then columns."""
    blocks = [z[times[:, None] - own[None, :]] for z, own in zip(series, lags)]
    return np.hstack([*blocks, columns[times]])


def moments_by_rows(
    series: list[np.ndarray], lags: list[np.ndarray], columns: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Second moments and sums of the rows at some times, a few thousand rows at a time."""
    m = sum(map(len, lags)) + columns.shape[1]
    M, s = np.zeros((m, m)), np.zeros(m)
    for first in range(0, len(times), _CHUNK):
        X = rows_of(series, lags, columns, times[first : first + _CHUNK])
        M += X.T @ X
        s += X.sum(0)
    return M, s


@njit(**OPTIONS)
def take_means(M, s, n):
    """M <- M - s s' / n, in one pass."""
    for i in range(len(s)):
        c = s[i] / n
        for j in range(len(s)):
            M[i, j] -= c * s[j]


@njit(**OPTIONS)
def levinson_steps(r, reflection, variance, coef):
    """Coefficients of order p = len(coef) from autocovariances r_0..r_p, with those of all orders before.

    Fills the last coefficient of each order and the variance of the innovations of orders 0..p.
    """
    p = len(coef)
    variance[0] = r[0]
    for k in range(p):
        g = r[k + 1]
        for j in range(k):
            g -= coef[j] * r[k - j]
        g /= variance[k]
        for j in range(k // 2):
            x, y = coef[j], coef[k - 1 - j]
            coef[j], coef[k - 1 - j] = x - g * y, y - g * x
        if k % 2:
            coef[k // 2] *= 1.0 - g
        coef[k] = g
        reflection[k] = g
        variance[k + 1] = variance[k] * (1.0 - g * g)


@njit(**IN_ORDER)
def burg_step(forward, backward, starts, ends, k):
    """Reflection coefficient k, and the forward and backward errors of the next order in place of these."""
    cross, squares = 0.0, 0.0
    for s in range(len(starts)):
        for t in range(starts[s] + k + 1, ends[s]):
            cross += forward[t] * backward[t - 1]
            squares += forward[t] * forward[t] + backward[t - 1] * backward[t - 1]
    if squares == 0.0:
        return 0.0
    g = 2.0 * cross / squares
    for s in range(len(starts)):
        for t in range(ends[s] - 1, starts[s] + k, -1):
            f, b = forward[t], backward[t - 1]
            forward[t] = f - g * b
            backward[t] = b - g * f
    return g
