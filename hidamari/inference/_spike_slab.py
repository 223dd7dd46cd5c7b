"""Gibbs steps over which predictors are in a regression, on swept moments."""

import numba
import numpy as np

__all__ = ["chain"]

_REFRESH = 50  # rounds after which moments are swept anew, so that rounding does not pile up


@numba.njit(cache=True)
def _sweep(A: np.ndarray, k: int, back: bool) -> None:
    """Goodnight's symmetric sweep: what is in stands as minus the inverse, the rest as what is left."""
    d = A[k, k]
    row = A[k].copy()
    for i in range(len(A)):
        if i != k:
            A[i] -= row[i] / d * row
    row /= -d if back else d
    A[k], A[:, k] = row, row
    A[k, k] = -1.0 / d


@numba.njit(cache=True)
def _gain(A: np.ndarray, j: int, log_d: float, a: float) -> float:
    """Log evidence with j less that without."""
    y = len(A) - 1
    rate = A[y, y]
    if A[j, j] > 0.0:  # out: its variance given those that are in, and its covariance with what is left
        v, less = A[j, j], A[y, j] ** 2 / A[j, j]
        return 0.5 * (log_d - np.log(v)) - a * (np.log(rate - less) - np.log(rate))
    v, more = -1.0 / A[j, j], -(A[y, j] ** 2) / A[j, j]
    return 0.5 * (log_d - np.log(v)) - a * (np.log(rate) - np.log(rate + more))


@numba.njit(cache=True)
def _nth(inside: np.ndarray, value: bool, n: int) -> int:
    """Where a value stands for the n-th time, counted from 0."""
    for j in range(len(inside)):
        if inside[j] == value:
            if n == 0:
                return j
            n -= 1
    return -1


@numba.njit(cache=True)
def chain(
    moments: np.ndarray,
    log_d: float,
    a: float,
    b: float,
    inside: np.ndarray,
    n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Which predictors are in after each of n rounds, (n, m) bool; y is the last of the moments.

    A round visits all predictors in turn, then tries to put one in for another as often as some are in. With
    Beta(1, b) for the share that is in, one more beside k has prior odds (1 + k) / (b + m - k - 1).
    """
    m = len(moments) - 1
    inside = inside.copy()
    found = np.zeros((n, m), dtype=np.bool_)
    A = moments.copy()
    for t in range(n):
        if t % _REFRESH == 0:
            A = moments.copy()
            for j in range(m):
                if inside[j]:
                    _sweep(A, j, False)
        for j in range(m):
            k = inside.sum() - inside[j]
            odds = _gain(A, j, log_d, a) + np.log((1.0 + k) / (b + m - k - 1.0))
            wanted = rng.random() < 1.0 / (1.0 + np.exp(-odds))
            if wanted != inside[j]:
                _sweep(A, j, inside[j])
                inside[j] = wanted
        k = inside.sum()
        if 0 < k < m:
            for _ in range(k):
                old = _nth(inside, True, int(rng.random() * k))
                new = _nth(inside, False, int(rng.random() * (m - k)))
                before = _gain(A, old, log_d, a)
                _sweep(A, old, True)
                if np.log(rng.random()) < _gain(A, new, log_d, a) - before:
                    _sweep(A, new, False)
                    inside[old], inside[new] = False, True
                else:
                    _sweep(A, old, False)
        found[t] = inside
    return found
