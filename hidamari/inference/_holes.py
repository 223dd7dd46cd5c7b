"""Compiled reading of rows that miss entries: sums by pattern, and what a pattern leaves to be guessed.

M are the columns that a row misses, O the others. With K the precision of all columns, C = (K_MM)^-1 is the
covariance of z_M given z_O, whose mean is -C K_MO z_O.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from hidamari.inference._rows import AXES

__all__ = ["LOOPS", "Room", "add_values", "gather", "invert", "pattern_sums", "pick", "rare_rows", "room_for"]

LOOPS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
}


class Room(NamedTuple):
    """Room to fit one segment in."""

    local: np.ndarray  # (common, w) sums of the segment by pattern
    single: np.ndarray  # (w,) of one row
    matrices: np.ndarray  # (9, p, p)
    thetas: np.ndarray  # (5, parameters)
    index: np.ndarray  # (p,) columns, those that are missing first


@njit(**LOOPS)
def room_for(holes, parameters):
    """Room for the segments of a series."""
    p, w = holes.x.shape[1], holes.sums.shape[2]
    return Room(
        np.empty((holes.sums.shape[1], w)),
        np.empty(w),
        np.empty((9, p, p)),
        np.empty((5, parameters)),
        np.empty(p, np.int64),
    )


@njit(**LOOPS)
def add_values(holes, t, sums, sign):
    """Add to sums row t's count, values where means are asked for, and lower triangle of products."""
    x, centre = holes.x, holes.centre
    p = x.shape[1]
    sums[0] += sign
    first = 1
    if holes.kind <= AXES:
        for j in range(p):
            sums[1 + j] += sign * (x[t, j] - centre[j])
        first += p
    for i in range(p):
        v = sign * (x[t, i] - centre[i])
        for j in range(i + 1):
            sums[first + j] += v * (x[t, j] - centre[j])
        first += i + 1


@njit(**LOOPS)
def pattern_sums(holes, out):
    """Fill out (blocks + 1, patterns, w) with the sums of the rows of each pattern before each block."""
    out[:] = 0.0
    state, block = holes.state, holes.block
    for b in range(out.shape[0] - 1):
        for k in range(out.shape[1]):
            for i in range(out.shape[2]):
                out[b + 1, k, i] = out[b, k, i]
        for t in range(b * block, (b + 1) * block):
            if 0 <= state[t] < out.shape[1]:
                add_values(holes, t, out[b + 1, state[t]], 1.0)


@njit(**LOOPS)
def gather(holes, start, end, local):
    """Sums by pattern of the rows [start, end) into local, from those of whole blocks and a few rows."""
    sums, state, block = holes.sums, holes.state, holes.block
    n = local.shape[0]
    first, last = -(-start // block), end // block
    if first < last:
        for k in range(n):
            for i in range(local.shape[1]):
                local[k, i] = sums[last, k, i] - sums[first, k, i]
    else:
        local[:] = 0.0
        first = last = end // block + 1
    for t in range(start, min(end, first * block)):
        if 0 <= state[t] < n:
            add_values(holes, t, local[state[t]], 1.0)
    for t in range(max(start, last * block), end):
        if 0 <= state[t] < n:
            add_values(holes, t, local[state[t]], 1.0)


@njit(**LOOPS)
def invert(A, p, lost):
    """Inverse of the symmetric A[:p, :p] in place, and its log determinant; inf if it is not positive."""
    total = 0.0
    for j in range(p):
        diagonal = A[j, j]
        pivot = diagonal
        for k in range(j):
            pivot -= A[j, k] * A[j, k]
        if not pivot > lost * diagonal:
            return np.inf
        total += np.log(pivot)
        root = np.sqrt(pivot)
        A[j, j] = root
        for i in range(j + 1, p):
            v = A[i, j]
            for k in range(j):
                v -= A[i, k] * A[j, k]
            A[i, j] = v / root
    # A <- L^-1, then L^-T L^-1.
    for j in range(p):
        A[j, j] = 1.0 / A[j, j]
        for i in range(j + 1, p):
            v = 0.0
            for k in range(j, i):
                v -= A[i, k] * A[k, j]
            A[i, j] = v / A[i, i]
    for i in range(p):
        for j in range(i + 1):
            v = 0.0
            for k in range(i, p):
                v += A[k, i] * A[k, j]
            A[j, i] = v
    for i in range(p):
        for j in range(i):
            A[i, j] = A[j, i]
    return total


@njit(**LOOPS)
def pick(K, missing, index, C):
    """Indices of the missing columns first, of the others then; C <- (K_MM)^-1; count, log det K_MM."""
    p = len(missing)
    m = 0
    for j in range(p):
        if missing[j]:
            index[m] = j
            m += 1
    o = m
    for j in range(p):
        if not missing[j]:
            index[o] = j
            o += 1
    for a in range(m):
        for b in range(m):
            C[a, b] = K[index[a], index[b]]
    return m, invert(C, m, 0.0)


@njit(**LOOPS)
def rare_rows(holes, start, end):
    """First and last of the rows of rare patterns among [start, end)."""
    return np.searchsorted(holes.rare, start), np.searchsorted(holes.rare, end)
