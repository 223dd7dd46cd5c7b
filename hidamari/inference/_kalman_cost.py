"""Compiled Kalman filters whose state starts anew at each segment: minus twice log likelihoods at many ends.

Arrays have the candidates (hyperparameters that are tried) last, so that one loop works on all of them.
Gains depend on how many rows of the segment were seen, and not on the data: where nothing is missing one
table serves every segment, and ends where the gains settle.
"""

import numpy as np
from numba import njit

from hidamari.inference._sums import LOG_TAU, OPTIONS

__all__ = ["gains", "sweep", "sweep_with_gaps"]

SETTLED = 1e-15  # change of the predicted covariance, of its largest entry


@njit(**OPTIONS)
def _advance(A, Q, H, noise, P, c, seen, gain, PH, AP):
    """Predict P (d, d, C) of candidate c one row ahead, after a reading if it was seen.

    Fills gain (d, C) with A P H / S, and gives S, the variance of the reading, and the largest change of an
    entry of P over the largest entry. PH (d,) and AP (d, d) are scratch.
    """
    d = P.shape[0]
    S = noise[c]
    for i in range(d):
        PH[i] = 0.0
        for j in range(d):
            PH[i] += P[i, j, c] * H[j, c]
        S += H[i, c] * PH[i]
    for i in range(d):
        total = 0.0
        for j in range(d):
            total += A[i, j, c] * PH[j]
            AP[i, j] = 0.0
            for k in range(d):
                AP[i, j] += A[i, k, c] * P[k, j, c]
        gain[i, c] = total / S if seen else 0.0
    moved, largest = 0.0, 0.0
    for i in range(d):
        for j in range(i + 1):
            v = Q[i, j, c] - gain[i, c] * gain[j, c] * S
            for k in range(d):
                v += AP[i, k] * A[j, k, c]
            moved = max(moved, abs(v - P[i, j, c]))
            largest = max(largest, abs(v))
            P[i, j, c] = v
            P[j, i, c] = v
    return S, moved / largest if largest > 0.0 else 0.0


@njit(**OPTIONS)
def gains(A, Q, H, noise, P, gain, weight, logs, PH, AP):
    """Fill gain (T, d, C), 1 / S as weight (T, C), and sums of log 2 pi S before each row as logs (T + 1, C).

    P (d, d, C) holds the stationary covariances and is used up. Gives the number of rows until all settled,
    whose last one holds for all later rows.
    """
    logs[0] = 0.0
    for t in range(gain.shape[0]):
        most = 0.0
        for c in range(P.shape[2]):
            S, moved = _advance(A, Q, H, noise, P, c, True, gain[t], PH, AP)
            weight[t, c] = 1.0 / S
            logs[t + 1, c] = logs[t, c] + np.log(S) + LOG_TAU
            most = max(most, moved)
        if most <= SETTLED:
            return t + 1
    return gain.shape[0]


@njit(**OPTIONS)
def _begin(m, squares):
    """Forget what was read."""
    for c in range(m.shape[1]):
        squares[c] = 0.0
        for i in range(m.shape[0]):
            m[i, c] = 0.0


@njit(**OPTIONS, inline="always")
def _move(A, H, gain, weight, row, y, m, new, e, squares):
    """Move the predicted means m (d, C) past a reading, and add its squared innovations over variances."""
    d, C = m.shape
    if d == 1:
        for c in range(C):
            error = y - H[0, c] * m[0, c]
            squares[c] += error * error * weight[row, c]
            m[0, c] = A[0, 0, c] * m[0, c] + gain[row, 0, c] * error
        return
    for c in range(C):
        e[c] = y
    for i in range(d):
        for c in range(C):
            e[c] -= H[i, c] * m[i, c]
    for c in range(C):
        squares[c] += e[c] * e[c] * weight[row, c]
    for i in range(d):
        for c in range(C):
            new[i, c] = gain[row, i, c] * e[c]
        for j in range(d):
            for c in range(C):
                new[i, c] += A[i, j, c] * m[j, c]
    for i in range(d):
        for c in range(C):
            m[i, c] = new[i, c]


@njit(**OPTIONS)
def sweep(y, anchors, lengths, sign, A, H, gain, weight, logs, m, new, e, squares, out):
    """Add the costs of the segments of the given lengths before (sign -1) or from (+1) their anchors to out.

    y (T,) has no missing entry. Equal anchors are neighbours, their lengths rising: one filter serves them
    all. A stationary process read backwards is the same process. m, new (d, C), e and
    squares (C,) are scratch.
    """
    n, C = gain.shape[0], gain.shape[2]
    t = 0
    for k in range(len(anchors)):
        anchor = anchors[k]
        if k == 0 or anchor != anchors[k - 1]:
            t = 0
            _begin(m, squares)
        first = anchor if sign > 0 else anchor - 1
        while t < lengths[k]:
            _move(A, H, gain, weight, min(t, n - 1), y[first + sign * t], m, new, e, squares)
            t += 1
        known, more = min(t, n), max(t - n, 0)
        least = np.inf
        for c in range(C):
            later = more * (logs[n, c] - logs[n - 1, c])
            least = min(least, squares[c] + logs[known, c] + later)
        out[k] += least


@njit(**OPTIONS)
def sweep_with_gaps(
    y, anchors, lengths, sign, A, Q, H, noise, P, m, new, e, squares, now, gain, weight, PH, AP, out
):
    """`sweep` where entries of y are missing (NaN), with covariances carried along; the rest is scratch."""
    C = m.shape[1]
    t = 0
    for k in range(len(anchors)):
        anchor = anchors[k]
        if k == 0 or anchor != anchors[k - 1]:
            t = 0
            _begin(m, squares)
            for i in range(m.shape[0]):
                for j in range(m.shape[0]):
                    for c in range(C):
                        now[i, j, c] = P[i, j, c]
        first = anchor if sign > 0 else anchor - 1
        while t < lengths[k]:
            v = y[first + sign * t]
            seen = not np.isnan(v)
            for c in range(C):
                S, _ = _advance(A, Q, H, noise, now, c, seen, gain[0], PH, AP)
                weight[0, c] = 1.0 / S if seen else 0.0
                if seen:
                    squares[c] += np.log(S) + LOG_TAU
            _move(A, H, gain, weight, 0, v if seen else 0.0, m, new, e, squares)
            t += 1
        least = np.inf
        for c in range(C):
            least = min(least, squares[c])
        out[k] += least
