r"""Latents over time and space with separable covariance k_t(t, t') k_s(r, r'), through M inducing locations.

With K = k_s(R, R) = V V' at the inducing locations R and white processes u_m(t) ~ GP(0, k_t),

    z(t, R) = V u(t),    z(t, r) = B_r u(t) + e(t, r),    B_r = k_s(r, R) V'^{-1},

e independent of u with covariance k_t(t, t') [k_s(r, r') - B_r B_r''], 0 at the inducing locations. The sites
of z(t, r) are factors on u, B_r' j and B_r' J B_r, and those of all locations of a frame add up. Where e is
not 0 it is integrated out of each site by itself first: J becomes J (I + c J)^{-1}, with its variance c.
"""

from typing import NamedTuple

import numpy as np

from hidamari.statespace.kernels import Kernel
from hidamari.statespace.types import Sites

__all__ = ["Space", "at_locations", "distances", "farthest", "lift", "residual_root", "space_of"]


class Space(NamedTuple):
    """Where a frame is read, and how that hangs together with the inducing locations."""

    B: np.ndarray  # (N, M)
    residual: np.ndarray  # (N, N) covariance of e over the variance of k_t, 0 where all is told by u


def distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Euclidean distances between locations (N, p) and (M, p)."""
    return np.sqrt(((one[:, None] - two[None]) ** 2).sum(2))


def farthest(locations: np.ndarray, n: int) -> np.ndarray:
    """Rows of n locations, each as far as can be from those before it; the first is nearest to the centre."""
    centre = distances(locations, locations.mean(0)[None])[:, 0]
    chosen = [int(np.argmin(centre))]
    near = distances(locations, locations[chosen])[:, 0]
    while len(chosen) < n:
        chosen.append(int(np.argmax(near)))
        near = np.minimum(near, distances(locations, locations[chosen[-1:]])[:, 0])
    return np.sort(chosen)


def space_of(kernel: Kernel, locations: np.ndarray, inducing: np.ndarray) -> Space:
    """How locations (N, p) are read from the white processes of inducing ones (M, p).

    The kernel's variance does not matter: it is that of the processes.
    """
    scale = float(kernel(0.0))
    V = np.linalg.cholesky(kernel(distances(inducing, inducing)) / scale)
    cross = kernel(distances(locations, inducing)) / scale
    B = np.linalg.solve(V, cross.T).T
    residual = kernel(distances(locations, locations)) / scale - B @ B.T
    here = distances(locations, inducing).min(1) == 0.0  # nothing is left at inducing locations but rounding
    residual[here] = residual[:, here] = 0.0
    return Space(B, residual)


def lift(space: Space, sites: Sites, variances: np.ndarray) -> Sites:
    """Sites of z at all locations, (T N, L) and (T N, L, L), as sites of u, (T, L M) and (T, L M, L M)."""
    (N, M), L = space.B.shape, sites.j.shape[1]
    j, J = sites.j.reshape(-1, N, L), sites.J.reshape(-1, N, L, L)
    c = np.diag(space.residual)
    if (c > 0).any():
        inner = np.eye(L) + J * (c[:, None] * variances)[:, None, :]
        j = np.linalg.solve(inner, j[..., None])[..., 0]
        J = np.linalg.solve(inner, J)
    T = len(j)
    lifted = np.einsum("nm,tnl->tlm", space.B, j, optimize=True)
    pairs = np.einsum("nm,no->nmo", space.B, space.B)
    matrix = np.einsum("tnlk,nmo->tlmko", J, pairs, optimize=True).reshape(T, L * M, L * M)
    return Sites(lifted.reshape(T, L * M), 0.5 * (matrix + matrix.transpose(0, 2, 1)))


def at_locations(
    space: Space, mean: np.ndarray, cov: np.ndarray, variances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Moments of z at all locations, (T N, L), (T N, L, L), from those of u, (T, L M), (T, L M, L M)."""
    (N, M), L = space.B.shape, len(variances)
    T = len(mean)
    m = np.einsum("nm,tlm->tnl", space.B, mean.reshape(T, L, M), optimize=True)
    half = np.einsum("tlmko,no->tlmkn", cov.reshape(T, L, M, L, M), space.B, optimize=True)
    v = np.einsum("nm,tlmkn->tnlk", space.B, half, optimize=True)
    v = v + np.diag(space.residual)[:, None, None] * np.diag(variances)
    return m.reshape(T * N, L), v.reshape(T * N, L, L)


def residual_root(space: Space) -> np.ndarray:
    """A root (N, N) of the covariance of e."""
    values, vectors = np.linalg.eigh(space.residual)
    return vectors * np.sqrt(np.maximum(values, 0.0))
