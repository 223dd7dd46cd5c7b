"""Which compiled form runs, and over which runs of trials: checked arrays in, arrays out."""

import numpy as np

from hidamari.statespace import _threads
from hidamari.statespace._check import SQUARE_ROOT_ABOVE, precision_ratio
from hidamari.statespace._layout import dense, diagonals, gradient_back, lay_out, moments_back, sites_for
from hidamari.statespace.types import Readings, Sites, StateSpace

__all__ = ["climb", "solve", "work_of"]

_BLOCK_BYTES = 256 * 2**20  # what one thread may keep of a forward pass before it starts to check-point
_PIECES = 8  # of a sum over trials for any number of threads, so that its rounding depends on none


def solve(ss: StateSpace, sites: Sites | Readings, form: str, n_threads: int | None, smoothing: bool):
    """Filtered or smoothed moments of f, and log normalisers, in the form that fits."""
    if isinstance(sites, Readings) or form.startswith("square_root"):
        return _run_square_root(ss, sites, form, n_threads, smoothing)
    if form == "auto" and precision_ratio(ss, sites.J) > SQUARE_ROOT_ABOVE:
        return _run_square_root(ss, sites, form, n_threads, smoothing)
    T, K = sites.j.shape
    if K == 1 or (sites.J.ndim == 2 and len(ss.H) == K):
        diagonal = Sites(sites.j, sites.J.reshape(T, K))
        mean, var, log_norm, _ = _run_chains(ss, diagonal, n_threads, smoothing)
        return mean, var.reshape(sites.J.shape), log_norm
    mean, cov, log_norm, _ = _run_joint(ss, Sites(sites.j, dense(sites.J)), n_threads, smoothing)
    return mean, cov if sites.J.ndim == 3 else diagonals(cov), log_norm


def climb(ss: StateSpace, sites: Sites, n_threads: int | None):
    """Smoothed moments, log normalisers, and derivatives of the evidence by A, Q, m and P."""
    T, K = sites.j.shape
    if K == 1 or (sites.J.ndim == 2 and len(ss.H) == K):
        diagonal = Sites(sites.j, sites.J.reshape(T, K))
        mean, var, log_norm, slope = _run_chains(ss, diagonal, n_threads, True, climb=True)
        return mean, var.reshape(sites.J.shape), log_norm, slope
    mean, cov, log_norm, slope = _run_joint(ss, Sites(sites.j, dense(sites.J)), n_threads, True, climb=True)
    return mean, cov if sites.J.ndim == 3 else diagonals(cov), log_norm, slope


def _run_joint(ss: StateSpace, sites: Sites, n_threads: int | None, smoothing: bool, climb: bool = False):
    """All chains together, for dense sites: mean, cov, log_norm, and with ``climb`` the four derivatives."""
    from hidamari.statespace import _adjoint, _numba

    layout = lay_out(ss)
    ss, sites = layout.ss, sites_for(layout, sites)
    T, K = sites.j.shape
    mean, cov, log_norm = np.empty((T, K)), np.empty((T, K, K)), np.empty(T)
    block = _block(ss, K, climb)

    def work(t0: int, t1: int):
        used, part = _some_rows(ss, t0, t1, climb)
        own = Sites(sites.j[t0:t1], sites.J[t0:t1])
        out = (mean[t0:t1], cov[t0:t1], log_norm[t0:t1])
        if smoothing:
            return used, slice(None), _adjoint.smooth_joint(part, own, block, climb, *out)
        return _numba.filter_joint(part, own, *out)

    parts = _threads.run(work, *_shares(ss.step, n_threads, work_of(ss), climb))
    slope = list(gradient_back(layout, *_total(ss, parts))) if climb else []
    return *moments_back(layout, mean, cov), log_norm, slope


def _run_chains(ss: StateSpace, sites: Sites, n_threads: int | None, smoothing: bool, climb: bool = False):
    """Every chain by itself, for one read-out a chain and diagonal sites; the same answers."""
    from hidamari.statespace import _chains

    T, C = sites.j.shape
    mean, var, log_norm = np.empty((C, T)), np.empty((C, T)), np.empty((C, T))
    A, Q = (np.ascontiguousarray(a.swapaxes(0, 1)) for a in (ss.A, ss.Q))
    j, J = np.ascontiguousarray(sites.j.T), np.ascontiguousarray(sites.J.T)
    block = _block(ss, 1, climb)

    def work(c: int, t0: int, t1: int):
        used, part = _some_rows(ss._replace(A=A[c], Q=Q[c]), t0, t1, climb)
        model = (part.A, part.Q, part.step, ss.H[c, 0], ss.m[c], ss.P[c], j[c, t0:t1], J[c, t0:t1])
        out = (mean[c, t0:t1], var[c, t0:t1], log_norm[c, t0:t1])
        if smoothing:
            return (used, c), c, _chains.smooth_chain(*model, block, climb, *out)
        return _chains.filter_chain(*model, *out)

    ranges, n = _shares(ss.step, n_threads, work_of(ss) // C, climb)
    parts = _threads.run(work, [(c, *rows) for c in range(C) for rows in ranges], n)
    slope = _total(ss, parts) if climb else []
    return np.ascontiguousarray(mean.T), np.ascontiguousarray(var.T), log_norm.sum(0), slope


def _shares(step: np.ndarray, n_threads: int | None, work: int, climb: bool):
    """Runs of trials, and the number of threads for them; where sums are to be made, that changes no run."""
    n = _threads.how_many(n_threads, work)
    pieces = n if not climb else _PIECES if _threads.is_long(work) else 1
    return _threads.cut(step, pieces), n


def _some_rows(ss: StateSpace, t0: int, t1: int, climb: bool) -> tuple[np.ndarray | slice | None, StateSpace]:
    """The chains over some rows; with ``climb``, with no more steps than they use, and which these are."""
    step = ss.step[t0:t1]
    if not climb:
        return None, ss._replace(step=step)
    if len(step) == len(ss.step):
        return np.s_[:], ss
    own = np.zeros(len(ss.A), dtype=np.int64)
    own[step[step >= 0]] = 1
    used = np.flatnonzero(own)
    own[used] = np.arange(len(used))
    return used, ss._replace(A=ss.A[used], Q=ss.Q[used], step=np.where(step < 0, -1, own[step]))


def _total(ss: StateSpace, parts: list) -> list[np.ndarray]:
    """Sums of derivatives by A, Q, m and P, each part with the places of its A and Q and of its m and P."""
    total = [np.zeros_like(a) for a in (ss.A, ss.Q, ss.m, ss.P)]
    for steps, chains, part in parts:
        for whole, at, share in zip(total, (steps, steps, chains, chains), part):
            whole[at] += share
    return total


def _run_square_root(
    ss: StateSpace, sites: Sites | Readings, form: str, n_threads: int | None, smoothing: bool
):
    """The same in square-root covariance form, which also takes exact readings."""
    from hidamari.statespace import _square_root

    dtype = np.float32 if form == "square_root_float32" else np.float64
    model = [a.astype(dtype, copy=False) for a in (ss.A, _square_root.factor(ss.Q), ss.H, ss.m)]
    L = _square_root.factor(ss.P).astype(dtype, copy=False)
    first, second = (a.astype(dtype, copy=False) for a in sites)
    kind = "readings" if isinstance(sites, Readings) else "sites"
    loop = getattr(_square_root, f"{'smooth' if smoothing else 'filter'}_{kind}")

    def work(t0: int, t1: int):
        A, G, H, m = model
        return loop(A, G, ss.step[t0:t1], H, m, L, first[t0:t1], second[t0:t1])

    n = _threads.how_many(n_threads, work_of(ss))
    parts = _threads.run(work, _threads.cut(ss.step, n), n)
    return tuple(np.concatenate(part).astype(np.float64, copy=False) for part in zip(*parts))


def work_of(ss: StateSpace) -> int:
    """Rows times the square of the number of states."""
    return len(ss.step) * ss.m.size**2


def _block(ss: StateSpace, K: int, states: bool) -> int:
    """Rows between check-points, such that what a block keeps stays within ``_BLOCK_BYTES``."""
    D, d = ss.m.size, ss.m.shape[1]
    row = K * (D + 8) + K * (K + 8) + states * D * (D + 8) if K > 1 else d + 2 + states * d * (d + 1)
    return max(1024, _BLOCK_BYTES // (8 * row))
