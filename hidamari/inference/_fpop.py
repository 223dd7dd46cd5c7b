"""Functional pruning: exact change points of one column, for costs with a single parameter theta.

Q_t(theta), the least cost of the rows up to t when the last segment has parameter theta, obeys
Q_t(theta) = min(Q_{t-1}(theta), F_{t-1} + penalty) + cost of row t, F_t = min over theta of Q_t. It is kept
as pieces on neighbouring intervals of theta, less its own minimum, so that the other branch is the penalty
itself and no number grows with t. `last[t]` is the first row of the segment that ends with row t.

The functions return False when the pieces outgrow their room.
"""

import math

import numpy as np
from numba import njit

from hidamari.inference._sums import OPTIONS

__all__ = ["biweight", "mean_path", "waits_path"]


@njit(**OPTIONS)
def _below(n, edge, a, m, c, tau, penalty, t, edge2, a2, m2, c2, tau2):
    """Pieces of min(Q, penalty); each Q is a (theta - m)^2 + c. Returns how many, -1 if there is no room."""
    kept = 0
    flat = False  # the piece written last is the penalty
    for i in range(n):
        lo, hi = edge[i], edge[i + 1]
        left, right = hi, hi
        if c[i] < penalty:
            reach = math.sqrt((penalty - c[i]) / a[i]) if a[i] > 0.0 else np.inf
            left, right = min(max(lo, m[i] - reach), hi), max(min(hi, m[i] + reach), lo)
        if kept + 3 >= len(a2):
            return -1
        if (left > lo or left >= right) and not flat:
            edge2[kept], a2[kept], m2[kept], c2[kept], tau2[kept] = lo, 0.0, 0.0, penalty, t
            kept += 1
            flat = True
        if left < right:
            edge2[kept], a2[kept], m2[kept], c2[kept], tau2[kept] = left, a[i], m[i], c[i], tau[i]
            kept += 1
            flat = False
            if right < hi:
                edge2[kept], a2[kept], m2[kept], c2[kept], tau2[kept] = right, 0.0, 0.0, penalty, t
                kept += 1
                flat = True
    edge2[kept] = edge[n]
    return kept


@njit(**OPTIONS)
def _split_at(n, edge, a, m, c, tau, at):
    """Split the piece that holds `at` in two; returns the number of pieces."""
    if at <= edge[0] or at >= edge[n]:
        return n
    i = np.searchsorted(edge[: n + 1], at) - 1
    if edge[i + 1] == at:
        return n
    for k in range(n, i, -1):
        edge[k + 1], a[k], m[k], c[k], tau[k] = edge[k], a[k - 1], m[k - 1], c[k - 1], tau[k - 1]
    edge[i + 1] = at
    return n + 1


@njit(**OPTIONS)
def mean_path(x, penalty, bound, floats, whole, last):
    """Fill last for sums of min((x - theta)^2, bound^2).

    floats (8, room + 1) and whole (2, room) are scratch.
    """
    edge, a, m, c = floats[0], floats[1, :-1], floats[2, :-1], floats[3, :-1]
    edge2, a2, m2, c2 = floats[4], floats[5, :-1], floats[6, :-1], floats[7, :-1]
    tau, tau2 = whole[0], whole[1]
    low, high = np.inf, -np.inf
    for t in range(len(x)):
        if not np.isnan(x[t]):
            low, high = min(low, x[t]), max(high, x[t])
    edge[0], edge[1], a[0], m[0], c[0], tau[0] = low, high, 0.0, 0.0, 0.0, 0
    n = 1
    for t in range(len(x)):
        y = x[t]
        if np.isnan(y):
            last[t] = last[t - 1] if t else 0
            continue
        if t:
            n = _below(n, edge, a, m, c, tau, penalty, t, edge2, a2, m2, c2, tau2)
            if n < 0 or n + 3 >= len(a):
                return False
            edge, edge2, a, a2, m, m2 = edge2, edge, a2, a, m2, m
            c, c2, tau, tau2 = c2, c, tau2, tau
        if bound < np.inf:
            n = _split_at(n, edge, a, m, c, tau, y - bound)
            n = _split_at(n, edge, a, m, c, tau, y + bound)
        least, best = np.inf, 0
        for i in range(n):
            if edge[i] >= y + bound or edge[i + 1] <= y - bound:
                c[i] += bound * bound
            else:
                # a (theta - m)^2 + (theta - y)^2 = (a + 1) (theta - m')^2 + (m - y)^2 a / (a + 1)
                step = (y - m[i]) / (a[i] + 1.0)
                c[i] += a[i] * step * (y - m[i])
                m[i] += step
                a[i] += 1.0
            off = m[i] - min(max(m[i], edge[i]), edge[i + 1])
            value = c[i] + a[i] * off * off
            if value < least:
                least, best = value, tau[i]
        for i in range(n):
            c[i] -= least
        last[t] = best
    return True


@njit(**OPTIONS)
def _level(a, b, c, theta, log_theta):
    """a theta - b log theta + c, 0 log 0 being 0."""
    return a * theta + c - (b * log_theta if b > 0.0 else 0.0)


@njit(**OPTIONS)
def _left_root(a, b, c, log_lo):
    """Smaller root of f(eta) = a e^eta - b eta + c, as eta: Newton from the left, where f is convex, falling.

    f(c / b) = a e^(c / b) > 0 lies left of the root.
    """
    eta = max(log_lo, c / b)
    for _ in range(60):
        grown = a * math.exp(eta)
        step = (grown - b * eta + c) / (b - grown)
        if not step > 1e-15 * (1.0 + abs(eta)):
            break
        eta += step
    return eta


@njit(**OPTIONS)
def _right_root(a, b, c, hi):
    """Larger root of f(theta) = a theta - b log theta + c: Newton from the right, f being convex."""
    theta = hi
    for _ in range(60):
        step = (a * theta - (b * math.log(theta) if b > 0.0 else 0.0) + c) / (a - b / theta)
        if not step > 1e-15 * theta:
            break
        theta -= step
    return theta


@njit(**OPTIONS)
def _below_log(n, edge, log_edge, a, b, c, tau, penalty, t, edge2, log_edge2, a2, b2, c2, tau2):
    """Pieces of min(Q, penalty); each Q is a theta - b log theta + c. Returns how many, -1 without room."""
    kept = 0
    flat = False
    for i in range(n):
        lo, hi = edge[i], edge[i + 1]
        left, log_left, right, log_right = lo, log_edge[i], hi, log_edge[i + 1]
        top = b[i] / a[i] if a[i] > 0.0 else (hi if b[i] > 0.0 else lo)
        top = min(max(top, lo), hi)
        inside = _level(a[i], b[i], c[i], top, math.log(top) if top > 0.0 else -np.inf) < penalty
        if inside:
            if _level(a[i], b[i], c[i], lo, log_edge[i]) > penalty:
                log_left = min(
                    max(_left_root(a[i], b[i], c[i] - penalty, log_edge[i]), log_edge[i]), log_right
                )
                left = math.exp(log_left)
            if _level(a[i], b[i], c[i], hi, log_edge[i + 1]) > penalty:
                right = min(max(_right_root(a[i], b[i], c[i] - penalty, hi), left), hi)
                log_right = math.log(right)
        else:
            left, log_left, right, log_right = hi, log_edge[i + 1], hi, log_edge[i + 1]
        if kept + 3 >= len(a2):
            return -1
        if (left > lo or left >= right) and not flat:
            edge2[kept], log_edge2[kept] = lo, log_edge[i]
            a2[kept], b2[kept], c2[kept], tau2[kept] = 0.0, 0.0, penalty, t
            kept += 1
            flat = True
        if left < right:
            edge2[kept], log_edge2[kept] = left, log_left
            a2[kept], b2[kept], c2[kept], tau2[kept] = a[i], b[i], c[i], tau[i]
            kept += 1
            flat = False
            if right < hi:
                edge2[kept], log_edge2[kept] = right, log_right
                a2[kept], b2[kept], c2[kept], tau2[kept] = 0.0, 0.0, penalty, t
                kept += 1
                flat = True
    edge2[kept], log_edge2[kept] = edge[n], log_edge[n]
    return kept


@njit(**OPTIONS)
def waits_path(weight, amount, low, high, penalty, floats, whole, last):
    """Fill last for sums of amount theta - weight log theta, theta in [low, high].

    floats (10, room + 1) and whole (2, room) are scratch.
    """
    edge, log_edge, a, b, c = floats[0], floats[1], floats[2, :-1], floats[3, :-1], floats[4, :-1]
    edge2, log_edge2, a2, b2, c2 = floats[5], floats[6], floats[7, :-1], floats[8, :-1], floats[9, :-1]
    tau, tau2 = whole[0], whole[1]
    edge[0], edge[1], a[0], b[0], c[0], tau[0] = low, high, 0.0, 0.0, 0.0, 0
    log_edge[0], log_edge[1] = math.log(low) if low > 0.0 else -np.inf, math.log(high)
    n = 1
    for t in range(len(weight)):
        if np.isnan(weight[t]) or np.isnan(amount[t]):
            last[t] = last[t - 1] if t else 0
            continue
        if t:
            n = _below_log(n, edge, log_edge, a, b, c, tau, penalty, t, edge2, log_edge2, a2, b2, c2, tau2)
            if n < 0:
                return False
            edge, edge2, log_edge, log_edge2 = edge2, edge, log_edge2, log_edge
            a, a2, b, b2, c, c2, tau, tau2 = a2, a, b2, b, c2, c, tau2, tau
        least, best = np.inf, 0
        for i in range(n):
            a[i] += amount[t]
            b[i] += weight[t]
            top = b[i] / a[i] if a[i] > 0.0 else np.inf
            if top <= edge[i]:
                value = _level(a[i], b[i], c[i], edge[i], log_edge[i])
            elif top >= edge[i + 1]:
                value = _level(a[i], b[i], c[i], edge[i + 1], log_edge[i + 1])
            else:
                value = _level(a[i], b[i], c[i], top, math.log(top))
            if value < least:
                least, best = value, tau[i]
        for i in range(n):
            c[i] -= least
        last[t] = best
    return True


@njit(**OPTIONS)
def biweight(x, bound):
    """Min over theta of the sum of min((x - theta)^2, bound^2) over sorted x, NaN at the end.

    Between the points x - bound and x + bound where terms come and go the sum is one parabola: they are
    walked through in order.
    """
    n = 0
    while n < len(x) and not np.isnan(x[n]):
        n += 1
    if n == 0:
        return 0.0
    i, j, here = 0, 0, -np.inf
    count, total, square = 0, 0.0, 0.0
    shift = x[n // 2]
    best = n * bound * bound
    while j < n:
        coming = x[i] - bound if i < n else np.inf
        going = x[j] + bound
        upto = min(coming, going)
        if count > 0:
            theta = min(max(total / count, here), upto - shift)
            value = square - 2.0 * theta * total + count * theta * theta + (n - count) * bound * bound
            best = min(best, value)
        if coming <= going:
            v = x[i] - shift
            count, total, square, i = count + 1, total + v, square + v * v, i + 1
        else:
            v = x[j] - shift
            count, total, square, j = count - 1, total - v, square - v * v, j + 1
        here = upto - shift
    return best
