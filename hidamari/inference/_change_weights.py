"""Compiled weights of segments whose parameters are integrated out: all at once, and split at every row.

The log weight of a segment of cost C and n observed rows is -C / (2 tempering) - p / 2 (log(1 + m) +
few / (1 + m)), m = n / kappa. Its second part is never above 0, so that what the cost alone already makes
hopeless needs no logarithm.
"""

import numpy as np
from numba import njit

from hidamari.inference._rows import MEAN
from hidamari.inference._sums import OPTIONS, add_row, between, cost_of

__all__ = ["forward_backward", "split_chances"]

_HOPELESS = 50.0  # nats below the largest term of a sum that no sum of 1e5 such terms shows
_ZERO = 746.0  # nats below the largest, that are 0 in float64


@njit(**OPTIONS, inline="always")
def _spent(spending, n):
    """Part of the log weight that the number of rows makes."""
    m = n / spending.information
    return 0.5 * spending.p * (np.log1p(m) + spending.few / (1.0 + m))


@njit(**OPTIONS)
def _sum(log, first, stop, spending, seen, at):
    """Log of the sum of the weights whose parts by cost are log[first:stop]; log is spoilt."""
    top = -np.inf
    where = first
    for k in range(first, stop):
        if log[k] > top:
            top, where = log[k], k
    if top == -np.inf:
        return -np.inf
    most = top - _spent(spending, abs(seen[at] - seen[where]))
    least = most - _HOPELESS
    for k in range(first, stop):
        if log[k] > least:
            log[k] -= _spent(spending, abs(seen[at] - seen[k]))
            if log[k] > most:
                most = log[k]
    least = most - _HOPELESS
    total = 0.0
    for k in range(first, stop):
        if log[k] > least:
            total += np.exp(log[k] - most)
    return most + np.log(total)


@njit(**OPTIONS)
def _by_cost(rows, prefix, value, at, first, stop, shift, spending, log, diff, work):
    """log[k] <- value[k] + shift less half the cost of the segment between places k and at, either way."""
    half = spending.half
    if rows.kind == MEAN and rows.shared and prefix.shape[1] == 3:
        # One column and no missing entry: a loop that is all arithmetic.
        n, s, q = prefix[at, 0], prefix[at, 1], prefix[at, 2]
        for k in range(first, stop):
            v = s - prefix[k, 1]
            log[k] = value[k] + shift - half * (abs(q - prefix[k, 2]) - v * v / abs(n - prefix[k, 0]))
        return
    for k in range(first, stop):
        cost = between(rows, prefix, min(k, at), max(k, at), diff, work)
        log[k] = value[k] + shift - half * cost


@njit(**OPTIONS)
def forward_backward(rows, prefix, places, seen, odds, minimum, spending, forward, backward, log, diff, work):
    """Fill forward and backward (P + 1,): log sums over the segmentations before and after each place.

    prefix (P + 1, m) and seen (P + 1,) are the sums and the observed rows before each place; log (P + 1,),
    diff (m,) and work (p, p) are scratch.
    """
    last = len(places) - 1
    for k in range(last + 1):
        forward[k] = backward[k] = -np.inf
    forward[0] = backward[last] = 0.0
    stop = 0
    for r in range(1, last + 1):
        while stop < r and places[r] - places[stop] >= minimum:
            stop += 1
        if stop:
            _by_cost(rows, prefix, forward, r, 0, stop, odds, spending, log, diff, work)
            log[0] -= odds
            forward[r] = _sum(log, 0, stop, spending, seen, r)
    first = last + 1
    for left in range(last - 1, 0, -1):
        while first > left + 1 and places[first - 1] - places[left] >= minimum:
            first -= 1
        if first <= last:
            _by_cost(rows, prefix, backward, left, first, last + 1, odds, spending, log, diff, work)
            backward[left] = _sum(log, first, last + 1, spending, seen, left)


@njit(**OPTIONS)
def split_chances(rows, prefix, cells, before, after, a, b, seen, minimum, spending, chance, now, side, work):
    """Fill chance (b - a - 1,) with the probability that [a, b) splits at each row after a.

    prefix are the sums before the cells' first rows, before and after (m,) those before a and b; now, side
    (m,) and work (p, p) are scratch. Returns the largest log weight.
    """
    m = len(before)
    x, centre = rows.x, rows.centre
    mean = rows.kind == MEAN and rows.shared
    cell = np.searchsorted(cells, a + 1, side="right") - 1
    for i in range(m):
        now[i] = prefix[cell, i]
    for t in range(cells[cell], a + 1):
        add_row(rows, t, now, 1.0)
    top, where = -np.inf, -1
    for t in range(a + 1, b):
        while cells[cell + 1] <= t:
            cell += 1
            for i in range(m):
                now[i] = prefix[cell, i]
        if t - a < minimum or b - t < minimum:
            chance[t - a - 1] = -np.inf
        elif mean:
            left, right = 0.0, 0.0
            for i in range(1, m - 1):
                u, v = now[i] - before[i], after[i] - now[i]
                left += u * u
                right += v * v
            cost = after[m - 1] - before[m - 1] - left / (t - a) - right / (b - t)
            chance[t - a - 1] = -spending.half * cost
        else:
            for i in range(m):
                side[i] = now[i] - before[i]
            cost = cost_of(rows, side, work)
            for i in range(m):
                side[i] = after[i] - now[i]
            chance[t - a - 1] = -spending.half * (cost + cost_of(rows, side, work))
        if chance[t - a - 1] > top:
            top, where = chance[t - a - 1], t
        if mean:
            for j in range(m - 2):
                now[1 + j] += x[t, j] - centre[j]
        elif t + 1 < b:
            add_row(rows, t, now, 1.0)
    if where < 0:
        return top
    most = top - _spent(spending, seen[where] - seen[a]) - _spent(spending, seen[b] - seen[where])
    for t in range(a + 1, b):
        if chance[t - a - 1] > most - _ZERO:
            spent = _spent(spending, seen[t] - seen[a]) + _spent(spending, seen[b] - seen[t])
            chance[t - a - 1] -= spent
            most = max(most, chance[t - a - 1])
    total = 0.0
    for k in range(len(chance)):
        chance[k] = np.exp(chance[k] - most) if chance[k] > most - _ZERO else 0.0
        total += chance[k]
    for k in range(len(chance)):
        chance[k] /= total
    return most
