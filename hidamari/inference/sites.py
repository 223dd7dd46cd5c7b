r"""From N observed units to Gaussian sites on K latents: the read-out, and the natural-gradient target.

Unit n reads eta_n = c_n' f + b_n. Under q(f_t) = N(m_t, V_t) its linear predictor has the moments

    mu_n = c_n' m_t + b_n        v_n = c_n' V_t c_n,

and with alpha = dE/dmu, beta = -2 dE/dv of the expected log likelihood E, one full step of natural-gradient
ascent on the ELBO (conjugate-computation variational inference; Khan and Lin 2017, equations 14-16) sets

    J_t = sum_n beta_n c_n c_n'        j_t = sum_n alpha_n c_n + J_t m_t.

For a Gaussian likelihood that is the exact site, in one step. The N units enter through these sums alone, so
that nothing of size N stands inside the loop over time. Everything is computed a slab of rows at a time.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np

from hidamari.statespace.types import Sites

__all__ = [
    "Expected",
    "Readout",
    "expected_sites",
    "linear_predictor",
    "map_slabs",
    "pack",
    "slabs",
    "triangle",
    "unpack",
]

Result = TypeVar("Result")

_SLAB = 2**16  # entries of a slab of (rows, units): a few arrays of this size stay in the cache
_THREADS_ABOVE = 2**17  # entries: below, a thread costs more than it saves


class Readout(NamedTuple):
    """eta = C f + b: what each unit reads from the latents."""

    loadings: np.ndarray  # (N, K)
    bias: np.ndarray  # (N,)


class Expected(NamedTuple):
    """Expected log likelihood under q, less the part that depends on y alone, and the sites it asks for."""

    value: float
    sites: Sites


def slabs(n_rows: int, n_units: int) -> Iterator[slice]:
    """Slices of rows whose (rows, units) arrays stay small."""
    size = max(16, _SLAB // max(n_units, 1))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def map_slabs(
    work: Callable[[slice], Result], n_rows: int, n_units: int, n_threads: int | None = None
) -> list[Result]:
    """``work`` on every slab, in order, whatever the number of threads: sums over it keep their bits."""
    parts = list(slabs(n_rows, n_units))
    cores = n_threads or os.cpu_count() or 1
    if cores == 1 or len(parts) == 1 or n_rows * n_units < _THREADS_ABOVE:
        return [work(rows) for rows in parts]
    errors = np.geterr()  # which a thread does not inherit

    def guarded(rows: slice) -> Result:
        with np.errstate(**errors):
            return work(rows)

    with ThreadPoolExecutor(min(cores, len(parts))) as pool:
        return list(pool.map(guarded, parts))


@cache
def triangle(K: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the lower triangle of a (K, K) matrix."""
    return np.tril_indices(K)


def pack(M: np.ndarray) -> np.ndarray:
    """The lower triangle of symmetric (..., K, K) matrices, as (..., K (K + 1) / 2)."""
    i, l = triangle(M.shape[-1])
    return M[..., i, l]


def unpack(p: np.ndarray, K: int) -> np.ndarray:
    """Symmetric (..., K, K) matrices from their packed lower triangles."""
    i, l = triangle(K)
    M = np.empty((*p.shape[:-1], K, K))
    M[..., i, l] = p
    M[..., l, i] = p
    return M


def _outer(loadings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """c c' packed (N, P), and the same with off-diagonal entries doubled, for traces with packed V."""
    i, l = triangle(loadings.shape[1])
    once = loadings[:, i] * loadings[:, l]
    return once, once * np.where(i == l, 1.0, 2.0)


def linear_predictor(readout: Readout, mean: np.ndarray, cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (T, N) of eta = C f + b under f ~ N(mean, cov); cov (T, K, K) or diagonal (T, K)."""
    mu = mean @ readout.loadings.T
    mu += readout.bias
    if cov.ndim == 2:
        return mu, cov @ (readout.loadings**2).T
    v = pack(cov) @ _outer(readout.loadings)[1].T
    # a variance that rounding has carried below zero is one that the data have made zero
    return mu, np.maximum(v, 0.0, out=v)


def expected_sites(
    readout: Readout,
    likelihood,
    y: np.ndarray,
    mean: np.ndarray,
    cov: np.ndarray,
    exposure: float = 1.0,
    value_only: bool = False,
    n_threads: int | None = None,
    constant: float | np.ndarray = 0.0,
) -> Expected:
    """Expected log likelihood of y (T, N) under q, and the sites of one full natural-gradient step.

    NaN in y adds nothing. The part of the log likelihood that depends on y alone (log y!) is replaced by
    ``constant``, of single entries if it is an array (T, N).
    """
    T, N = y.shape
    K = readout.loadings.shape[1]
    once, twice = _outer(readout.loadings)
    packed = np.empty((T, once.shape[1]))
    j = np.empty((T, K))

    def work(rows: slice) -> float:
        m = mean[rows]
        mu = m @ readout.loadings.T
        mu += readout.bias
        v = pack(cov[rows]) @ twice.T
        np.maximum(v, 0.0, out=v)
        own = constant[rows] if isinstance(constant, np.ndarray) else constant
        E, alpha, beta = likelihood.expectations(y[rows], mu, v, exposure, constant=own)
        if not value_only:
            packed[rows] = beta @ once
            j[rows] = alpha @ readout.loadings
        return float(E.sum())

    value = sum(map_slabs(work, T, N, n_threads))
    if value_only:
        return Expected(value, Sites(j, packed))
    J = unpack(packed, K)
    j += np.einsum("tab,tb->ta", J, mean)
    return Expected(value, Sites(j, J))
