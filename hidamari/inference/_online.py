"""Compiled loops of the online detectors: every one moves its state arrays in place, row by row.

Rows z are (T, d), NaN where not observed. Each loop writes ``score`` (T,) and ``change`` (T,): the first row
of the new segment where an alarm is raised, -1 elsewhere. ``clock[0]`` counts rows since the stream began;
``restart`` forgets, after an alarm, what came before it.
"""

import math

import numpy as np
from numba import njit

__all__ = ["cusum", "focus", "innovate", "run_length"]

_SERIES_FROM = 20.0  # of the expansion of log Gamma: its first term left out is then 3e-15
_PRODUCT_UP_TO = 16  # counts whose Gamma ratio is a product


@njit(cache=True, nogil=True, error_model="numpy")
def innovate(z, A, Q, H, noise, mean, cov, started, out):
    """Standardised one-step prediction errors of every unit under one chain; mean (d, D), cov (d, D, D)."""
    T, d = z.shape
    D = H.shape[0]
    m, P, AP = np.empty(D), np.empty((D, D)), np.empty((D, D))
    gain = np.empty(D)
    for t in range(T):
        for j in range(d):
            if started[0]:
                _predict(A, Q, mean[j], cov[j], m, P, AP)
            else:
                m[:], P[:] = mean[j], cov[j]
            expected, variance = 0.0, noise[0]
            for a in range(D):
                expected += H[a] * m[a]
                gain[a] = 0.0
                for b in range(D):
                    gain[a] += P[a, b] * H[b]
            for a in range(D):
                variance += H[a] * gain[a]
            error = z[t, j] - expected
            out[t, j] = error / math.sqrt(variance)
            if error == error:
                for a in range(D):
                    m[a] += gain[a] * error / variance
                    for b in range(D):
                        P[a, b] -= gain[a] * gain[b] / variance
            mean[j], cov[j] = m, P
        started[0] = 1


@njit(cache=True, nogil=True, error_model="numpy")
def _predict(A, Q, mean, cov, m, P, AP):
    """Move one chain by one row: m = A mean, P = A cov A' + Q."""
    D = len(m)
    for a in range(D):
        m[a] = 0.0
        for b in range(D):
            m[a] += A[a, b] * mean[b]
            AP[a, b] = 0.0
            for c in range(D):
                AP[a, b] += A[a, c] * cov[c, b]
    for a in range(D):
        for b in range(D):
            P[a, b] = Q[a, b]
            for c in range(D):
                P[a, b] += AP[a, c] * A[b, c]


# ------------------------------------------------------------------------------------------- all window sizes
# For fixed levels before and after, the log likelihood of a change after n rows is linear in the point
# (n, S_n) of the cumulated series, so that the best n is always a vertex of the convex hull of these points:
# of the lower hull for a rise, of the upper hull (the lower one of -S) for a fall. With a known level before
# (S centred on it) only edges that rise can support a rise. Vertices number about log t.


@njit(cache=True, nogil=True, error_model="numpy")
def _push(n, S, row, known, hull_n, hull_S, hull_row, size):
    """Add a point to a lower hull; returns its size and whether a vertex had to be given up for room."""
    while known and size and hull_S[size - 1] >= S:
        size -= 1
    while size > 1:
        back_n, back_S = hull_n[size - 1], hull_S[size - 1]
        before = (back_S - hull_S[size - 2]) * (n - back_n)
        if before < (S - back_S) * (back_n - hull_n[size - 2]):
            break
        size -= 1
    full = size == len(hull_n)
    if full:
        _give_up(hull_n, hull_S, hull_row, size)
        size -= 1
    hull_n[size], hull_S[size], hull_row[size] = n, S, row
    return size + 1, full


@njit(cache=True, nogil=True, error_model="numpy")
def _give_up(hull_n, hull_S, hull_row, size):
    """Remove the inner vertex that stands out least: that of the smallest triangle with its neighbours."""
    least, smallest = 1, np.inf
    for i in range(1, size - 1):
        area = (hull_S[i + 1] - hull_S[i]) * (hull_n[i] - hull_n[i - 1])
        area -= (hull_S[i] - hull_S[i - 1]) * (hull_n[i + 1] - hull_n[i])
        if area < smallest:
            least, smallest = i, area
    for i in range(least, size - 1):
        hull_n[i], hull_S[i], hull_row[i] = hull_n[i + 1], hull_S[i + 1], hull_row[i + 1]


@njit(cache=True, nogil=True, error_model="numpy")
def _count_term(total, n):
    """Poisson log likelihood of ``total`` events in n rows at its best rate, without what all rates share."""
    return total * math.log(total / n) - total if total > 0.0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _ratio(n, S, n0, S0, level, known, counts):
    """Log likelihood ratio of a change after n0 of n rows; sums are of z - level for a known level."""
    n1, S1 = n - n0, S - S0
    if not counts:
        if known:
            return 0.5 * S1 * S1 / n1
        gap = S1 / n1 - S0 / n0
        return 0.5 * gap * gap * n0 * n1 / n
    if known:
        events = max(S1 + n1 * level, 0.0)
        null = -n1 * level
        if events > 0.0:
            null += events * math.log(level)
        return _count_term(events, n1) - null
    return _count_term(S1, n1) + _count_term(S0, n0) - _count_term(S, n)


@njit(cache=True, nogil=True, error_model="numpy")
def focus(
    z, known, counts, together, level, clock, n, S, hull_n, hull_S, hull_row, size, best, since, dropped,
    threshold, restart, score, change,
):  # fmt: skip
    """Likelihood ratio over all windows that end now, known or unknown level before; d units."""
    T, d = z.shape
    # A state read from a spoilt file must not send the loops out of their arrays.
    size[:] = np.minimum(np.maximum(size, 0), hull_n.shape[2])
    for t in range(T):
        row = clock[0]
        for j in range(d):
            value = z[t, j]
            if value != value:
                continue
            if n[j] == 0 and not known and not counts:
                level[j] = value  # sums stay small whatever the offset; the ratio does not depend on it
            for side in range(2):
                if known or n[j] > 0:
                    sign = 1.0 - 2.0 * side
                    place = (hull_n[j, side], hull_S[j, side], hull_row[j, side])
                    size[j, side], full = _push(n[j], sign * S[j], row, known, *place, size[j, side])
                    dropped[0] += full
            n[j] += 1
            S[j] += value if counts and not known else value - level[j]
            best[j] = 0.0
            for side in range(2):
                sign = 1.0 - 2.0 * side
                for i in range(size[j, side]):
                    S0 = sign * hull_S[j, side, i]
                    found = _ratio(n[j], S[j], hull_n[j, side, i], S0, level[j], known, counts)
                    if found > best[j]:
                        best[j], since[j] = found, hull_row[j, side, i]
        score[t], lead = _combine(best, together)
        clock[0] += 1
        change[t] = -1
        if score[t] > threshold:
            change[t] = since[lead]
            if restart:
                n[:], S[:], size[:], best[:] = 0, 0.0, 0, 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _combine(best, together):
    """Score of all units, their sum or their largest, and the unit that leads."""
    lead, total = 0, 0.0
    for j in range(len(best)):
        total += best[j]
        if best[j] > best[lead]:
            lead = j
    return total if together else best[lead], lead


@njit(cache=True, nogil=True, error_model="numpy")
def cusum(
    z, counts, together, shift, relearn, level, clock, seen, best, sides, since,
    threshold, restart, score, change,
):  # fmt: skip
    """Page's two-sided cumulated log likelihood ratio of a change by a given shift; d units.

    ``clock[1]``: rows since the last alarm; the level is the mean of the first ``relearn`` of them.
    """
    T, d = z.shape
    for t in range(T):
        learning = clock[1] < relearn
        for j in range(d):
            value = z[t, j]
            if value != value:
                continue
            if learning:
                seen[j] += 1.0
                level[j] += (value - level[j]) / seen[j]
                continue
            for side in range(2):
                sign = 1.0 - 2.0 * side
                if counts:
                    factor = math.log(shift) * sign
                    gain = factor * value - level[j] * (math.exp(factor) - 1.0)
                else:
                    gain = sign * shift * (value - level[j]) - 0.5 * shift * shift
                if sides[j, side] <= 0.0:
                    sides[j, side], since[j, side] = 0.0, clock[0]
                sides[j, side] = max(sides[j, side] + gain, 0.0)
            best[j] = max(sides[j, 0], sides[j, 1])
        score[t], lead = _combine(best, together)
        clock[0] += 1
        clock[1] += 1
        change[t] = -1
        if score[t] > threshold:
            change[t] = since[lead, 0] if sides[lead, 0] >= sides[lead, 1] else since[lead, 1]
            if restart:
                best[:], sides[:], seen[:] = 0.0, 0.0, 0.0
                clock[1] = 0


# ------------------------------------------------------------------------------------------------ run lengths


@njit(cache=True, nogil=True, error_model="numpy")
def _gamma_ratio(a):
    """Log of Gamma(a + 1/2) / Gamma(a)."""
    if a < _SERIES_FROM:
        return math.lgamma(a + 0.5) - math.lgamma(a)
    r = 1.0 / (a * a)
    return 0.5 * math.log(a) - (1.0 / 8 - r * (1.0 / 192 - r * (1.0 / 640 - r * 17.0 / 14336))) / a


@njit(cache=True, nogil=True, error_model="numpy")
def _log_student(x, n, m, b, prior):
    """Log density of x under the normal-inverse-gamma posterior of a run: Student's t with 2 a freedoms."""
    k, a = prior[1] + n, prior[2] + 0.5 * n
    spread = 2.0 * b * (k + 1.0) / k
    return _gamma_ratio(a) - 0.5 * math.log(math.pi * spread) - (a + 0.5) * math.log1p((x - m) ** 2 / spread)


@njit(cache=True, nogil=True, error_model="numpy")
def _log_negative_binomial(x, shape, rate):
    """Log probability of a count x, up to log x!, under the gamma posterior of a run."""
    if x <= _PRODUCT_UP_TO:
        product = 1.0
        for i in range(int(x)):
            product *= shape + i
        rising = math.log(product)
    else:
        rising = math.lgamma(shape + x) - math.lgamma(shape)
    return rising + shape * math.log(rate / (rate + 1.0)) - x * math.log(rate + 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def run_length(
    z, counts, hazard, prior, clock, used, start, weight, n, first, second, lost, threshold, restart, score,
    change,
):  # fmt: skip
    """Posterior of the start of the current segment; slot 0 is the run that began with the stream.

    Runs sit in slots: ``start`` (R,), log posterior ``weight`` (R,), and for each unit the observed rows n,
    and (mean, b) of the normal-inverse-gamma or (shape, rate) of the gamma posterior, all (R, d).
    """
    T, d = z.shape
    R = len(start)
    used[0] = min(max(used[0], 0), R)  # a state read from a spoilt file must not send the loops astray
    for t in range(T):
        row = clock[0]
        slot = used[0]
        if slot == R:
            slot = 1 + np.argmin(weight[1:])
            lost[0] += math.exp(weight[slot])
        else:
            used[0] += 1
        for i in range(used[0]):
            weight[i] += math.log1p(-hazard)
        start[slot], weight[slot] = row, math.log(hazard) if slot else 0.0
        for j in range(d):
            n[slot, j], first[slot, j] = 0.0, prior[j, 0]
            second[slot, j] = prior[j, 1] if counts else prior[j, 3]
        top = -np.inf
        for i in range(used[0]):
            for j in range(d):
                x = z[t, j]
                if x != x:
                    continue
                if counts:
                    weight[i] += _log_negative_binomial(x, first[i, j], second[i, j])
                    first[i, j] += x
                    second[i, j] += 1.0
                else:
                    weight[i] += _log_student(x, n[i, j], first[i, j], second[i, j], prior[j])
                    k, gap = prior[j, 1] + n[i, j], x - first[i, j]
                    second[i, j] += 0.5 * k * gap * gap / (k + 1.0)
                    first[i, j] += gap / (k + 1.0)
                n[i, j] += 1.0
            top = max(top, weight[i])
        total, later, likely = 0.0, 0.0, 0
        for i in range(used[0]):
            mass = math.exp(weight[i] - top)
            total += mass
            if i:
                later += mass
                if likely == 0 or weight[i] > weight[likely]:
                    likely = i
        for i in range(used[0]):
            weight[i] -= top + math.log(total)
        score[t] = math.log(later / total) - weight[0] if later > 0.0 else -np.inf
        clock[0] += 1
        change[t] = -1
        if score[t] > threshold:
            change[t] = start[likely]
            if restart:
                used[0] = 0
