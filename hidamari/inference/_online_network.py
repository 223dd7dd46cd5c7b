"""Compiled loop of the online networks that tell a test window from a reference window some rows before it.

A network is one flat vector: weights (inputs, hidden), biases (hidden,), read-out (hidden,) and its bias.
Inner loops run over the hidden units, which are contiguous.
"""

import math

import numpy as np
from numba import njit

__all__ = ["network"]

_FORGET, _FORGET_SLOPE = 0.99, 0.9  # RMSprop's average of squares; Adam's average of slopes
_FORGET_SQUARE = 0.999  # Adam's average of squares
_TINY = 1e-8  # in both, beside the root
_SOFT = 1e-3  # in the logarithms of a classifier's answers


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _forward(x, theta, H, hidden):
    """Answer of a network before its last non-linearity; leaves its hidden units in ``hidden``."""
    D = len(x)
    for h in range(H):
        hidden[h] = theta[D * H + h]
    for i in range(D):
        for h in range(H):
            hidden[h] += x[i] * theta[i * H + h]
    answer = theta[(D + 2) * H]
    for h in range(H):
        hidden[h] = max(hidden[h], 0.0)
        answer += hidden[h] * theta[(D + 1) * H + h]
    return answer


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _backward(x, slope, theta, H, hidden, grad):
    """Add to ``grad`` the slope of the loss through one answer."""
    D = len(x)
    grad[(D + 2) * H] += slope
    for h in range(H):
        grad[(D + 1) * H + h] += slope * hidden[h]
        hidden[h] = slope * theta[(D + 1) * H + h] if hidden[h] > 0.0 else 0.0
        grad[D * H + h] += hidden[h]
    for i in range(D):
        for h in range(H):
            grad[i * H + h] += x[i] * hidden[h]


@njit(cache=True, nogil=True, error_model="numpy")
def _move(theta, grad, slopes, squares, steps, rate, adam):
    """One step of Adam or of RMSprop."""
    if not adam:
        for p in range(len(theta)):
            squares[p] = _FORGET * squares[p] + (1.0 - _FORGET) * grad[p] * grad[p]
            theta[p] -= rate * grad[p] / (math.sqrt(squares[p]) + _TINY)
        return
    first, second = 1.0 - _FORGET_SLOPE**steps, math.sqrt(1.0 - _FORGET_SQUARE**steps)
    for p in range(len(theta)):
        slopes[p] = _FORGET_SLOPE * slopes[p] + (1.0 - _FORGET_SLOPE) * grad[p]
        squares[p] = _FORGET_SQUARE * squares[p] + (1.0 - _FORGET_SQUARE) * grad[p] * grad[p]
        theta[p] -= rate * (slopes[p] / first) / (math.sqrt(squares[p]) / second + _TINY)


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid(a):
    return 1.0 / (1.0 + math.exp(-a))


@njit(cache=True, nogil=True, error_model="numpy")
def _divergence(reference, test, regression):
    """How far apart the newest vectors of the two windows are, by the networks' answers to them."""
    if regression:
        return 0.5 * (test + reference) - 1.0
    f, g = _sigmoid(test), _sigmoid(reference)
    score = math.log(f + _SOFT) - math.log(1.0 - f + _SOFT)
    return score + math.log(1.0 - g + _SOFT) - math.log(g + _SOFT)


@njit(cache=True, nogil=True, error_model="numpy")
def _standardise(z, running, count, mean, square, out):
    """One row in units of the spread so far (Welford); what was not observed stands at the mean."""
    for j in range(len(z)):
        value = z[j]
        if not running:
            out[j] = value if value == value else 0.0
            continue
        out[j] = 0.0
        if value == value:
            count[j] += 1.0
            gap = value - mean[j]
            mean[j] += gap / count[j]
            square[j] += gap * (value - mean[j])
            if square[j] > 0.0:
                out[j] = (value - mean[j]) / math.sqrt(square[j] / (count[j] - 1.0))


@njit(cache=True, nogil=True, error_model="numpy")
def _latest_rise(recent, first):
    """Where in a ring of scores, oldest at ``first``, the mean changes most: rows before the newest."""
    n = len(recent)
    total, before = recent.sum(), 0.0
    largest, back = -np.inf, 0
    for i in range(1, n):
        before += recent[(first + i - 1) % n]
        gap = (total - before) / (n - i) - before / i
        found = gap * gap * i * (n - i) if gap > 0.0 else 0.0
        if found > largest:
            largest, back = found, n - 1 - i
    return back


@njit(cache=True, nogil=True, error_model="numpy")
def network(
    z, width, lag, hidden_units, epochs, rate, adam, regression, alpha, running,
    clock, past, vectors, count, mean, square, first, theta, slopes, squares, recent, total,
    threshold, restart, raw, score, change,
):  # fmt: skip
    """Score each row with the networks as they are, then train them on the two windows that end there.

    ``clock``: rows of the stream, rows since the last restart, optimiser steps. ``vectors`` (2 width + lag,
    inputs) is a ring. ``raw`` is the divergence of a row, ``score`` its mean over the last width + lag rows.
    """
    T, d = z.shape
    L, D = vectors.shape
    nets, H = theta.shape[0], hidden_units
    hidden, grad, row = np.empty(H), np.empty(theta.shape[1]), np.empty(d)
    span = len(recent)
    for t in range(T):
        i = clock[1]
        _standardise(z[t], running, count, mean, square, row)
        past[d:] = past[:-d].copy()
        past[:d] = row
        vectors[i % L] = past
        raw[t], score[t], change[t] = np.nan, np.nan, -1
        clock[0] += 1
        clock[1] += 1
        if i < L - 1:
            continue
        newest, oldest = vectors[i % L], vectors[(i - width - lag) % L]
        reference = _forward(oldest, theta[nets - 1], H, hidden)
        raw[t] = _divergence(reference, _forward(newest, theta[0], H, hidden), regression)
        for _ in range(epochs):
            clock[2] += 1
            for g in range(nets):
                grad[:] = 0.0
                for w in range(width):
                    for side in range(2):
                        # The second network of the regression sees the two windows in each other's place.
                        x = vectors[(i - w - (0 if side else width + lag)) % L]
                        answer = _forward(x, theta[g], H, hidden)
                        is_test = side != g
                        if regression:
                            slope = (alpha * answer - 1.0 if is_test else (1.0 - alpha) * answer) / width
                        else:
                            slope = 0.5 * (_sigmoid(answer) - is_test) / width
                        _backward(x, slope, theta[g], H, hidden, grad)
                _move(theta[g], grad, slopes[g], squares[g], clock[2], rate, adam)
        slot = (i - L + 1) % span
        recent[slot] = raw[t]
        # Summed anew once a round, so that rounding does not pile up over a long stream.
        total[0] = recent.sum() if slot == span - 1 else total[0] + raw[t] - total[1]
        total[1] = recent[(slot + 1) % span]
        score[t] = total[0] / span
        if score[t] > threshold:
            change[t] = clock[0] - 1 - _latest_rise(recent, slot + 1)
            if restart:
                clock[1:] = 0
                theta[:] = first
                for state in (past, count, mean, square, recent, total):
                    state[:] = 0.0
                slopes[:], squares[:], vectors[:] = 0.0, 0.0, 0.0
