"""Compiled steps on the matrices of one row, shared by the passes over time.

Nearly all of the time goes into products of small matrices. They are written as products of rows, A B': the
sums stay in registers, so that the compiler need not ask whether the arrays overlap, and eight terms become
one instruction. Rows are padded with zeros to 64 bytes and start at a multiple of 64 for the same reason.

States are ordered by component, state i of chain c at place i C + c. The A (C, d, d) of a step is *spread*
to (d, C d), so that what multiplies component l lies at l C + c. No array is assigned to another at once in
compiled code: compiling that alone would cost seconds.
"""

from typing import Any

import numpy as np
from numba import njit
from numba.core.options import DefaultOptions

__all__ = [
    "HELPER",
    "INLINED",
    "IN_ORDER",
    "OPTIONS",
    "apply",
    "carry",
    "copy",
    "fill",
    "invert",
    "move_state",
    "product",
    "spread",
    "transpose",
    "zeros",
]


def _known(**options: bool) -> dict[str, bool]:
    """Those of the options that this version of numba has; they are not part of its documented interface."""
    return {name: value for name, value in options.items() if hasattr(DefaultOptions, name)}


# Nothing is allocated in the loops, and helpers are called by them alone: less code to compile and to run.
# nnan and ninf are not among the fast ones, so that an overflow shows.
OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
    **_known(_nrt=False, no_cfunc_wrapper=True),
}
HELPER: dict[str, Any] = OPTIONS | _known(no_cpython_wrapper=True)
INLINED: dict[str, Any] = HELPER | {"inline": "always"}  # for large ones: compiled once, where they are used
IN_ORDER: dict[str, Any] = {"fastmath": {"contract"}}  # for sums too short and scattered to be reordered


@njit(**HELPER)
def product(A, B, rows, columns, width, out):
    """out[:rows, :columns] = A B', over the first ``width`` numbers of their rows."""
    for a in range(rows):
        for b in range(columns):
            s = 0.0
            for n in range(width):
                s += A[a, n] * B[b, n]
            out[a, b] = s


@njit(**HELPER)
def apply(A, x, rows, width, out):
    """out[:rows] = A x."""
    for a in range(rows):
        s = 0.0
        for n in range(width):
            s += A[a, n] * x[n]
        out[a] = s


@njit(**HELPER)
def transpose(A, rows, columns, out):
    """out[:columns, :rows] = A'."""
    for a in range(rows):
        for b in range(columns):
            out[b, a] = A[a, b]


@njit(**HELPER)
def copy(A, rows, width, out):
    """out[:rows, :width] = A."""
    for a in range(rows):
        for n in range(width):
            out[a, n] = A[a, n]


@njit(**HELPER)
def fill(A, rows, width, value):
    """A[:rows, :width] = value."""
    for a in range(rows):
        for n in range(width):
            A[a, n] = value


@njit(**HELPER)
def spread(A, back, out):
    """Write A (C, d, d) of the chains, or with ``back`` its transpose, as out[i, l C + c] = A[c, i, l]."""
    C, d = A.shape[0], A.shape[1]
    for c in range(C):
        for i in range(d):
            for l in range(d):
                out[i, l * C + c] = A[c, l, i] if back else A[c, i, l]


@njit(**(HELPER | IN_ORDER))
def carry(A, m, C, d, x):
    """m <- A m with A spread; x is scratch."""
    for i in range(d):
        for c in range(C):
            s = 0.0
            for l in range(d):
                s += A[i, l * C + c] * m[l * C + c]
            x[i * C + c] = s
    for a in range(C * d):
        m[a] = x[a]


@njit(**HELPER)
def _move(A, P, C, d, width, out):
    """out = A P with A spread: each row is a combination of the d rows of its chain."""
    for i in range(d):
        for c in range(C):
            o, b, e = i * C + c, c + C, c + 2 * C
            w = A[i, c]
            if d == 1:
                for n in range(width):
                    out[o, n] = w * P[c, n]
            elif d == 2:
                x = A[i, b]
                for n in range(width):
                    out[o, n] = w * P[c, n] + x * P[b, n]
            else:
                x, y = A[i, b], A[i, e]
                for n in range(width):
                    out[o, n] = w * P[c, n] + x * P[b, n] + y * P[e, n]
                for b in range(c + 3 * C, d * C, C):
                    w = A[i, b]
                    for n in range(width):
                        out[o, n] += w * P[b, n]


@njit(**INLINED)
def move_state(A, m, P, C, d, width, x, X, Y):
    """m, P <- A m, A P A' with A spread; leaves P A' in Y."""
    carry(A, m, C, d, x)
    _move(A, P, C, d, width, X)
    transpose(X, C * d, C * d, Y)
    _move(A, Y, C, d, width, P)


@njit(**HELPER)
def invert(M, n, width, order):
    """Invert M in place by Gauss-Jordan with row pivoting; returns log |det M|."""
    log_det, det = 0.0, 1.0
    for c in range(n):
        best = c
        for i in range(c + 1, n):
            if abs(M[i, c]) > abs(M[best, c]):
                best = i
        order[c] = best
        if best != c:
            for l in range(n):
                w = M[c, l]
                M[c, l] = M[best, l]
                M[best, l] = w
        pivot = M[c, c]
        det *= abs(pivot)
        if not 1e-200 < det < 1e200:  # one logarithm for all pivots, unless their product leaves the range
            log_det += np.log(det)
            det = 1.0
        scale = 1.0 / pivot
        M[c, c] = 1.0
        for l in range(width):
            M[c, l] *= scale
        for i in range(n):
            w = M[i, c]
            if i != c and w != 0.0:
                M[i, c] = 0.0
                for l in range(width):
                    M[i, l] -= w * M[c, l]
    for c in range(n - 1, -1, -1):
        best = order[c]
        if best != c:
            for i in range(n):
                w = M[i, c]
                M[i, c] = M[i, best]
                M[i, best] = w
    return log_det + np.log(det)


def zeros(*shape: int) -> np.ndarray:
    """Zeros whose last axis is padded to a multiple of 64 bytes, and starts at one."""
    shape = (*shape[:-1], -(-shape[-1] // 8) * 8)
    whole = np.zeros(int(np.prod(shape)) + 7)
    skip = -whole.ctypes.data // 8 % 8
    return whole[skip : skip + len(whole) - 7].reshape(shape)
