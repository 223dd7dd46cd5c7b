"""Compiled costs of segments in which rows miss entries: the least of minus the observed-data likelihood.

It has no closed form. It is climbed by expectation and maximisation, two steps of which are extrapolated
(Varadhan and Roland, Simple and globally convergent methods for accelerating the convergence of any EM
algorithm, 2008, scheme S3). Rows of one pattern enter as their sums; those of rare patterns one by one.
"""

import numpy as np
from numba import njit

from hidamari.inference._holes import LOOPS, gather, room_for
from hidamari.inference._holes_gaussian import gaussian_start, gaussian_step
from hidamari.inference._holes_regression import regression_start, regression_step
from hidamari.inference._rows import AXES

__all__ = ["costs_with_holes", "fit_with_holes"]

CYCLES = 500  # of three steps each; ten are usual, more where the covariance tends to a singular one
SETTLED, ROUNDING = 1e-9, 1e-13  # what is left to fall when the climb ends: absolute, and of the cost


@njit(**LOOPS)
def _step(holes, room, n, start, end, old, new):
    """One step from old to new, and the cost at old."""
    if holes.kind <= AXES:
        return gaussian_step(holes, room, n, start, end, old, new)
    return regression_step(holes, room, n, start, end, old, new)


@njit(**LOOPS)
def fit_with_holes(holes, room, start, end, theta):
    """Cost of the rows [start, end), and theta <- where it is least; inf where it has no least value."""
    n = float(holes.seen[end] - holes.seen[start])
    if n == 0.0:
        return 0.0
    gather(holes, start, end, room.local)
    thetas = room.thetas
    a, b, c, d, scale = thetas[0], thetas[1], thetas[2], thetas[3], thetas[4]
    if holes.kind <= AXES:
        if not gaussian_start(holes, room, start, end, a, scale):
            return np.inf
    elif not regression_start(holes, room, start, end, a, scale):
        return 0.0
    value, stride = _step(holes, room, n, start, end, a, b), 1.0
    for _ in range(CYCLES):
        after = _step(holes, room, n, start, end, b, c)
        if not (value < np.inf and after < np.inf):
            return np.inf
        theta[:] = c
        # Steps shrink by 1 - 1 / stride, so that as many as the stride, of this size, are left.
        if (value - after) * stride <= SETTLED + ROUNDING * abs(value):
            return after
        rr, vv = 0.0, 0.0
        for i in range(len(a)):
            r = (b[i] - a[i]) * scale[i]
            v = (c[i] - b[i]) * scale[i] - r
            rr += r * r
            vv += v * v
        stride = max(np.sqrt(rr / vv), 1.0) if vv > 0.0 else 1.0
        value = np.inf
        if stride > 1.0:
            for i in range(len(a)):
                r = b[i] - a[i]
                d[i] = a[i] + 2.0 * stride * r + stride * stride * (c[i] - b[i] - r)
            value = _step(holes, room, n, start, end, d, b)
        if value <= after:
            a[:] = d
        else:
            a[:] = c
            value = _step(holes, room, n, start, end, a, b)
    return np.inf


@njit(**LOOPS)
def costs_with_holes(holes, starts, ends, theta, out):
    """Costs of the segments [starts, ends), and theta <- the parameters of the last."""
    room = room_for(holes, len(theta))
    for k in range(len(out)):
        out[k] = fit_with_holes(holes, room, starts[k], ends[k], theta)
