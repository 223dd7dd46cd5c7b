"""Coordinate descent on correlations: min b' R b / 2 - r' b + sum_j penalty_j(b_j), diag R = 1.

The slope g = r - R b is kept up to date, so that a coefficient that stays at 0 costs one comparison, and one
that moves costs m. Nothing here depends on the number of rows.
"""

import math

from numba import njit

from hidamari.inference._sums import OPTIONS

__all__ = ["L1", "MCP", "SCAD", "descend", "descend_groups"]

L1, SCAD, MCP = 0, 1, 2
_A, _GAMMA = 3.7, 3.0  # Fan and Li 2001; Zhang 2010


@njit(**OPTIONS)
def _threshold(z, scale, weight, kind):
    """Minimiser of scale b^2 / 2 - z b + penalty(b), for scale 1 or, with L1, any."""
    size = abs(z)
    if size <= weight:
        return 0.0
    if kind == SCAD and size > 2.0 * weight * scale:
        if size > _A * weight * scale:
            return z / scale
        return math.copysign((size - _A * weight / (_A - 1.0)) / (scale - 1.0 / (_A - 1.0)), z)
    if kind == MCP:
        if size > _GAMMA * weight * scale:
            return z / scale
        return math.copysign((size - weight) / (scale - 1.0 / _GAMMA), z)
    return math.copysign((size - weight) / scale, z)


@njit(**OPTIONS)
def descend(R, weights, kind, b, g, tol, max_sweeps):
    """Move b in place to a minimum, with its slope g = r - R b; returns the sweeps, negative if too few.

    Sweeps over all coefficients tell which are active; sweeps over those follow until they settle.
    """
    m = len(b)
    every = True
    for sweep in range(max_sweeps):
        largest = 0.0
        for j in range(m):
            if not every and b[j] == 0.0:
                continue
            scale = R[j, j]
            if scale <= 0.0:
                continue
            new = _threshold(g[j] + scale * b[j], scale, weights[j], kind)
            step = new - b[j]
            if step != 0.0:
                b[j] = new
                for i in range(m):
                    g[i] -= R[j, i] * step
                largest = max(largest, abs(step))
        if largest <= tol:
            if every:
                return sweep + 1
            every = True
        else:
            every = False
    return -max_sweeps


@njit(**OPTIONS)
def descend_groups(R, order, starts, bounds, weights, b, next_b, g, tol, max_sweeps):
    """As `descend`, with weights[k] times the norm of group k, of members order[starts[k]:starts[k+1]].

    The block of R of a group is bounded by its largest eigenvalue, bounds[k]: each step is downhill.
    """
    m = len(b)
    for sweep in range(max_sweeps):
        largest = 0.0
        for k in range(len(bounds)):
            norm = 0.0
            for at in range(starts[k], starts[k + 1]):
                z = bounds[k] * b[order[at]] + g[order[at]]
                norm += z * z
            norm = math.sqrt(norm)
            share = 1.0 - weights[k] / norm if norm > weights[k] else 0.0
            # Slopes of the whole group must be read before any of its coefficients moves.
            for at in range(starts[k], starts[k + 1]):
                j = order[at]
                next_b[j] = share * (bounds[k] * b[j] + g[j]) / bounds[k]
            for at in range(starts[k], starts[k + 1]):
                j = order[at]
                step = next_b[j] - b[j]
                if step != 0.0:
                    b[j] = next_b[j]
                    for i in range(m):
                        g[i] -= R[j, i] * step
                    largest = max(largest, abs(step))
        if largest <= tol:
            return sweep + 1
    return -max_sweeps
