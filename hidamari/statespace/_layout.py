"""Chains whose read-outs are their first states, which is what the compiled loops know.

f_c = x_c[:k] for most kernels as they are. Else, for one read-out h a chain (a sum of kernels), the state is
written in another basis, z = B x with z_0 = h x and the other states as they were; the state that gives way
is that of the largest |h|, so that B is well conditioned. For anything else (several read-outs, a chain that
is not read) the loops read all states z, and the sites go there through f = R z: j <- R' j, J <- R' J R.
"""

from typing import NamedTuple

import numpy as np

from hidamari.statespace.types import Sites, StateSpace

__all__ = ["Layout", "dense", "diagonals", "gradient_back", "lay_out", "moments_back", "sites_for"]


class Layout(NamedTuple):
    """The chains as the loops see them, and the way back."""

    ss: StateSpace
    basis: np.ndarray | None  # (C, d, d): z_c = basis_c x_c, or None where z = x
    read: np.ndarray | None  # (K, K'): f = read times what the loops read, or None where that is f


def lay_out(ss: StateSpace) -> Layout:
    """Bring the chains to the form of the loops."""
    C, k, d = ss.H.shape
    if k <= d and np.array_equal(ss.H, np.broadcast_to(np.eye(k, d), ss.H.shape)):
        if k == 1 or C == 1:
            return Layout(ss, None, None)
        # the loops order f by read-out, then chain
        return Layout(ss, None, np.eye(C * k)[:, np.arange(C * k).reshape(C, k).T.ravel()])
    if k == 1 and ss.H.any(axis=2).all():
        return _change_basis(ss)
    read = np.zeros((C, k, d, C))
    read[np.arange(C), :, :, np.arange(C)] = ss.H
    return Layout(ss, None, read.reshape(C * k, d * C))


def _change_basis(ss: StateSpace) -> Layout:
    """Make h x the first state of every chain."""
    C, _, d = ss.H.shape
    B, inverse = np.zeros((C, d, d)), np.zeros((C, d, d))
    for c in range(C):
        h = ss.H[c, 0]
        pivot = int(np.argmax(np.abs(h)))
        others = [i for i in range(d) if i != pivot]
        B[c, 0] = h
        B[c, np.arange(1, d), others] = 1.0
        inverse[c, pivot, 0] = 1.0 / h[pivot]
        inverse[c, pivot, 1:] = -h[others] / h[pivot]
        inverse[c, others, np.arange(1, d)] = 1.0
    turned = B.swapaxes(1, 2)
    moved = StateSpace(
        A=B @ ss.A @ inverse,
        Q=B @ ss.Q @ turned,
        step=ss.step,
        H=np.tile(np.eye(1, d), (C, 1, 1)),
        m=(B @ ss.m[:, :, None])[:, :, 0],
        P=B @ ss.P @ turned,
    )
    return Layout(moved, B, None)


def sites_for(layout: Layout, sites: Sites) -> Sites:
    """Dense sites about f as sites about what the loops read."""
    if layout.read is None:
        return sites
    R = layout.read
    return Sites(sites.j @ R, np.ascontiguousarray(R.T @ sites.J @ R))


def moments_back(layout: Layout, mean: np.ndarray, cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moments of f from those of what the loops read."""
    if layout.read is None:
        return mean, cov
    R = layout.read
    return mean @ R.T, R @ cov @ R.T


def gradient_back(layout: Layout, dA: np.ndarray, dQ: np.ndarray, dm: np.ndarray, dP: np.ndarray) -> tuple:
    """Derivatives by A, Q, m and P of the chains as they were given."""
    if layout.basis is None:
        return dA, dQ, dm, dP
    B = layout.basis
    turned = B.swapaxes(1, 2)
    dA = turned @ dA @ np.linalg.inv(turned)
    return dA, turned @ dQ @ B, (turned @ dm[:, :, None])[:, :, 0], turned @ dP @ B


def dense(J: np.ndarray) -> np.ndarray:
    """Matrices (T, K, K) of diagonals (T, K), or of matrices as they are."""
    return J if J.ndim == 3 else np.ascontiguousarray(J[:, :, None] * np.eye(J.shape[1]))


def diagonals(J: np.ndarray) -> np.ndarray:
    """The diagonals of (T, K, K), contiguous."""
    return np.ascontiguousarray(np.einsum("tkk->tk", J))
