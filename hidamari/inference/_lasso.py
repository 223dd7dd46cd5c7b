"""Compiled sparse estimates from sums over rows: lasso, group lasso over two segments, graphical lasso.

The sums are those of `_sums`, about zero: MEAN (n, x, one sum of squares), GRAM (n, triangle of the products
of z and y) and AXES (n, x, triangle of x x'). An estimate is one vector theta:

=====  =========================================================  =====================================
kind   theta                                                      loss
=====  =========================================================  =====================================
MEAN   mean (p,)                                                  sum_t |x_t - theta|^2
GRAM   coefficients (p - 1,), and 0                               sum_t (y_t - theta' z_t)^2
AXES   precision (p^2,), then minus its log determinant           tr(M theta) - n log det theta
=====  =========================================================  =====================================
"""

from typing import Any

import numpy as np
from numba import njit

from hidamari.inference._rows import AXES, MEAN
from hidamari.inference._sums import OPTIONS

__all__ = ["LOOPS", "descend", "descend_pair", "estimate", "graphical", "least", "loss", "priced"]

LOOPS: dict[str, Any] = {key: value for key, value in OPTIONS.items() if key != "_nrt"}
SWEEPS = 10_000


@njit(**OPTIONS, inline="always")
def soft(v, threshold):
    """V moved towards zero by the threshold."""
    if v > threshold:
        return v - threshold
    if v < -threshold:
        return v + threshold
    return 0.0


@njit(**OPTIONS)
def descend(G, c, threshold, tolerance, b, g):
    """Minimise b' G b - 2 c' b + 2 threshold |b|_1 by coordinate descent from b (p,); g (p,) is scratch.

    Ends when no step of a whole sweep lowers the objective by more than the tolerance. Most sweeps go over
    coordinates that are not zero.
    """
    p = len(b)
    for j in range(p):
        g[j] = c[j]
        for k in range(p):
            if b[k] != 0.0:
                g[j] -= G[j, k] * b[k]
    whole = True
    for _ in range(SWEEPS):
        most = 0.0
        for j in range(p):
            old = b[j]
            if G[j, j] <= 0.0 or (old == 0.0 and not whole):
                continue
            new = soft(g[j] + G[j, j] * old, threshold) / G[j, j]
            step = new - old
            if step != 0.0:
                b[j] = new
                for k in range(p):
                    g[k] -= step * G[j, k]
                most = max(most, step * step * G[j, j])
        if most <= tolerance:
            if whole:
                return
            whole = True
        else:
            whole = False


@njit(**OPTIONS)
def _length(v1, a1, v2, a2, half):
    """Length r > 0 of u that minimises a1 u1^2 + a2 u2^2 - 2 v'u + 2 half |u|, given |v| > half.

    u_i = v_i r / (a_i r + half), so that h(r) = sum_i (v_i / (a_i r + half))^2 = 1; h falls and is convex,
    and Newton's steps from below stay below.
    """
    r = (np.sqrt(v1 * v1 + v2 * v2) - half) / max(a1, a2)
    for _ in range(100):
        w1, w2 = 1.0 / (a1 * r + half), 1.0 / (a2 * r + half)
        q1, q2 = (v1 * w1) ** 2, (v2 * w2) ** 2
        step = (q1 + q2 - 1.0) / (2.0 * (q1 * a1 * w1 + q2 * a2 * w2))
        r += step
        if step <= 1e-13 * r:
            break
    return r


@njit(**OPTIONS)
def descend_pair(G1, c1, n1, G2, c2, n2, zeta, tolerance, b1, b2, g1, g2):
    """Minimise sum_i (b_i' G_i b_i - 2 c_i' b_i) + zeta sum_j sqrt(n1 b1_j^2 + n2 b2_j^2), as `descend`."""
    p, half = len(b1), zeta / 2.0
    for j in range(p):
        g1[j], g2[j] = c1[j], c2[j]
        for k in range(p):
            g1[j] -= G1[j, k] * b1[k]
            g2[j] -= G2[j, k] * b2[k]
    root1, root2 = np.sqrt(n1), np.sqrt(n2)
    whole = True
    for _ in range(SWEEPS):
        most = 0.0
        for j in range(p):
            if b1[j] == 0.0 and b2[j] == 0.0 and not whole:
                continue
            v1, v2 = (g1[j] + G1[j, j] * b1[j]) / root1, (g2[j] + G2[j, j] * b2[j]) / root2
            a1, a2 = G1[j, j] / n1, G2[j, j] / n2
            new1, new2 = 0.0, 0.0
            if v1 * v1 + v2 * v2 > half * half and max(a1, a2) > 0.0:
                r = _length(v1, a1, v2, a2, half)
                new1, new2 = v1 * r / (a1 * r + half) / root1, v2 * r / (a2 * r + half) / root2
            step1, step2 = new1 - b1[j], new2 - b2[j]
            b1[j], b2[j] = new1, new2
            if step1 != 0.0 or step2 != 0.0:
                for k in range(p):
                    g1[k] -= step1 * G1[j, k]
                    g2[k] -= step2 * G2[j, k]
                most = max(most, step1 * step1 * G1[j, j] + step2 * step2 * G2[j, j])
        if most <= tolerance:
            if whole:
                return
            whole = True
        else:
            whole = False


@njit(**OPTIONS)
def graphical(S, alpha, tolerance, precision, W, B, g):
    """Minimise tr(S X) - log det X + alpha sum_(i != j) |X_ij| into precision (p, p), and give log det X.

    Column by column a lasso on the others, with the covariance W as its Gram matrix; W, B (p, p) and g (p,)
    are scratch. Ends when no entry of W moves by more than the tolerance.
    """
    p = S.shape[0]
    largest = 0.0
    for i in range(p):
        for j in range(i):
            largest = max(largest, abs(S[i, j]))
    # W maximises log det W over |W_ij - S_ij| <= alpha by columns: it must begin inside, and positive.
    keep = 1.0 - min(1.0, alpha / largest) if largest > 0.0 else 0.0
    for i in range(p):
        for j in range(p):
            W[i, j] = S[i, j] if i == j else keep * S[i, j]
            B[i, j] = 0.0
    for _ in range(SWEEPS):
        worst = 0.0
        for j in range(p):
            for k in range(p):
                g[k] = S[j, k]
                for i in range(p):
                    if i != j and B[j, i] != 0.0:
                        g[k] -= W[k, i] * B[j, i]
            for _ in range(SWEEPS):
                most = 0.0
                for k in range(p):
                    if k == j or W[k, k] <= 0.0:
                        continue
                    step = soft(g[k] + W[k, k] * B[j, k], alpha) / W[k, k] - B[j, k]
                    if step != 0.0:
                        B[j, k] += step
                        for i in range(p):
                            g[i] -= step * W[i, k]
                        most = max(most, abs(step) * W[k, k])
                if most <= tolerance:
                    break
            for k in range(p):
                if k != j:
                    worst = max(worst, abs(S[j, k] - g[k] - W[j, k]))
                    W[j, k] = W[k, j] = S[j, k] - g[k]
        if worst <= tolerance:
            break
    for j in range(p):
        rest = W[j, j]
        for k in range(p):
            if k != j:
                rest -= W[j, k] * B[j, k]
        for k in range(p):
            precision[j, k] = 1.0 / rest if k == j else -B[j, k] / rest
    for j in range(p):
        for k in range(j):
            precision[j, k] = precision[k, j] = 0.5 * (precision[j, k] + precision[k, j])
            B[j, k] = precision[j, k]
        B[j, j] = precision[j, j]
    return cholesky(B)


@njit(**OPTIONS)
def cholesky(L):
    """Cholesky factor of the lower triangle in place, and the log determinant; inf if it is not positive."""
    p = L.shape[0]
    total = 0.0
    for j in range(p):
        pivot = L[j, j]
        for k in range(j):
            pivot -= L[j, k] * L[j, k]
        if not pivot > 1e-14 * L[j, j]:
            return np.inf
        root = np.sqrt(pivot)
        total += np.log(pivot)
        L[j, j] = root
        for i in range(j + 1, p):
            v = L[i, j]
            for k in range(j):
                v -= L[i, k] * L[j, k]
            L[i, j] = v / root
    return total


@njit(**OPTIONS)
def _invert(L, X, column):
    """X <- the inverse of L L', L lower triangular; column (p,) is scratch."""
    p = L.shape[0]
    for j in range(p):
        for i in range(p):
            v = 1.0 if i == j else 0.0
            for k in range(i):
                v -= L[i, k] * column[k]
            column[i] = v / L[i, i]
        for i in range(p - 1, -1, -1):
            v = column[i]
            for k in range(i + 1, p):
                v -= L[k, i] * X[k, j]
            X[i, j] = v / L[i, i]


@njit(**OPTIONS)
def unpack(s, first, scale, G):
    """G (p, p) <- the symmetric matrix whose lower triangle starts at s[first], scaled."""
    for i in range(G.shape[0]):
        for j in range(i + 1):
            G[i, j] = G[j, i] = s[first] * scale
            first += 1


@njit(**OPTIONS)
def _covariance(s, alpha, ridge, tolerance, theta, A, B, C, u):
    """Precision of a segment, by graphical lasso if alpha > 0; tells whether there is one.

    With a ridge, covariances of a determinant below 1e-7 are made regular by adding it to the diagonal.
    """
    p = A.shape[0]
    precision = theta[: p * p].reshape(p, p)
    unpack(s, 1 + p, 1.0 / s[0], A)
    if alpha > 0.0:
        theta[p * p] = -graphical(A, alpha, tolerance * s[0], precision, B, C, u)
        return np.isfinite(theta[p * p])
    unpack(s, 1 + p, 1.0 / s[0], B)
    log_det = cholesky(B)
    # The determinant of fewer rows than columns is 0, whatever rounding makes of it.
    if ridge > 0.0 and (s[0] < p or not log_det >= np.log(1e-7) or log_det == np.inf):
        unpack(s, 1 + p, 1.0 / s[0], B)
        for j in range(p):
            B[j, j] += ridge
        log_det = cholesky(B)
    theta[p * p] = log_det
    if log_det == np.inf:
        return False
    _invert(B, precision, u)
    return True


@njit(**OPTIONS)
def estimate(kind, shared, s, penalty, scaled, ridge, tolerance, theta, A, B, C, u, v):
    """Theta from sums s with the penalty; `scaled` divides it by 2 sqrt(n), or sqrt(n) for precisions.

    The tolerance is relative. A, B, C (p, p), u and v (p,) are scratch. Tells whether there is an estimate.
    """
    p = A.shape[0]
    n = s[0]
    if kind == MEAN:
        for j in range(p):
            n = s[0] if shared else s[j]
            total = s[(1 if shared else p) + j]
            threshold = penalty * (0.5 / np.sqrt(n) if scaled else 1.0) if n > 0.0 else 0.0
            theta[j] = soft(total / n, threshold) if n > 0.0 else 0.0
        return True
    if kind == AXES:
        alpha = penalty / np.sqrt(n) if scaled else penalty
        return _covariance(s, alpha, ridge, tolerance, theta, A, B, C, u)
    unpack(s, 1, 1.0, A)
    for j in range(p - 1):
        v[j] = A[p - 1, j]
    threshold = penalty * (0.5 * np.sqrt(n) if scaled else n)
    squares = A[p - 1, p - 1]
    descend(A[: p - 1, : p - 1], v[: p - 1], threshold, tolerance * squares, theta[: p - 1], u[: p - 1])
    theta[p - 1] = 0.0
    return True


@njit(**OPTIONS)
def loss(kind, shared, s, theta, p):
    """Misfit of rows with sums s under theta."""
    if kind == MEAN:
        first = 1 if shared else p
        total = s[first + p]
        for j in range(p):
            total += theta[j] * ((s[0] if shared else s[j]) * theta[j] - 2.0 * s[first + j])
        return total
    if kind == AXES:
        total = s[0] * theta[p * p]
        at = 1 + p
        for i in range(p):
            for j in range(i):
                total += 2.0 * s[at] * theta[i * p + j]
                at += 1
            total += s[at] * theta[i * p + i]
            at += 1
        return total
    y = 1 + (p - 1) * p // 2
    total = s[y + p - 1]
    for i in range(p - 1):
        if theta[i] != 0.0:
            total -= 2.0 * theta[i] * s[y + i]
            row = 1 + i * (i + 1) // 2
            for j in range(i):
                total += 2.0 * theta[i] * theta[j] * s[row + j]
            total += theta[i] * theta[i] * s[row + i]
    return total


@njit(**OPTIONS)
def least(kind, shared, s, penalty, scaled, ridge, tolerance, theta, A, B, C, u, v):
    """Loss of rows with sums s at their own estimate, arguments as in `estimate`; inf if there is none."""
    p = A.shape[0]
    if kind == AXES and penalty <= 0.0 and s[0] >= p:
        unpack(s, 1 + p, 1.0 / s[0], B)
        log_det = cholesky(B)
        if log_det < np.inf and (ridge <= 0.0 or log_det >= np.log(1e-7)):
            return s[0] * (p + log_det)
    if not estimate(kind, shared, s, penalty, scaled, ridge, tolerance, theta, A, B, C, u, v):
        return np.inf
    return loss(kind, shared, s, theta, p)


@njit(**LOOPS)
def priced(rows, before, starts, ends, penalty, scaled, ridge, tolerance, out):
    """Losses of segments at their own estimates; starts and ends are indices into before (places, m)."""
    kind, shared = rows.kind, rows.shared
    p, m = rows.x.shape[1], before.shape[1]
    theta, s = np.zeros(p * p + 1), np.empty(m)
    A, B, C, u, v = np.empty((p, p)), np.empty((p, p)), np.empty((p, p)), np.empty(p), np.empty(p)
    for k in range(len(out)):
        for i in range(m):
            s[i] = before[ends[k], i] - before[starts[k], i]
        out[k] = 0.0
        if shared and s[0] <= 0.0:
            continue
        out[k] = least(kind, shared, s, penalty, scaled, ridge, tolerance, theta, A, B, C, u, v)
