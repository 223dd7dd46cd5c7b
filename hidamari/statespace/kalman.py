"""The public face of the core: filter, smooth, evidence and sample for chains under Gaussian sites.

Shapes are checked here, once. Two exact forms stand behind these names, and which one runs is decided from
what is known beforehand, the largest site precision times prior variance (``form="auto"``): the plain
covariance form up to ``SQUARE_ROOT_ABOVE``, the square-root covariance form beyond it and for exact
readings (R = 0). Nothing inverts P, A or Q, and no jitter is added anywhere.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hidamari.statespace.types import Filtered, Readings, Sites, Smoothed, StateSpace

__all__ = ["evidence", "evidence_gradient", "filter", "infer", "precision_ratio", "sample", "smooth"]

SQUARE_ROOT_ABOVE = 1e4  # plain covariances lose about log10 of this ratio in digits (tests/test_extremes.py)
METHODS = ("covariance", "bidirectional", "rts")
FORMS = ("auto", "covariance", "square_root", "square_root_float32")
_BLOCK_BYTES = 256 * 2**20  # what one thread may keep of a forward pass before it starts to check-point
_THREAD_WORK = 50_000  # rows times D^2, about two milliseconds: below, a thread costs more than it saves


def filter(
    ss: StateSpace, sites: Sites | Readings, *, form: str = "auto", n_threads: int | None = None
) -> Filtered:
    """Moments of f given the rows so far, p(f_t | sites_1..t), and the log normalisers.

    ``log_norm[t]`` is the increment of log of the integral of prior times sites; for readings, the log
    density of the reading given those before it.

    Parameters
    ----------
    ss : StateSpace
        A bank of chains; a negative ``step`` starts a new trial.
    sites : Sites or Readings
        ``Sites(j, J)`` with J (T, K, K) or diagonal (T, K), or ``Readings(y, R)``.
    form : {"auto", "covariance", "square_root", "square_root_float32"}
        How covariances are carried; the last one does the arithmetic in single precision.
    n_threads : int, optional
        Threads over trials and chains; by default as many as there are cores, when the work is worth it.

    Returns
    -------
    Filtered
        ``mean`` (T, K), ``cov`` (T, K, K) or (T, K), ``log_norm`` (T,).

    Raises
    ------
    ValueError
        If a shape does not fit, or exact readings contradict each other.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.statespace.kernels import Matern
    >>> ss = Matern(order=1, lengthscale=0.3).state_space(np.arange(5) * 0.1)
    >>> filtered = filter(ss, Readings(np.ones((5, 1)), np.full((5, 1), 0.5)))
    >>> filtered.mean.shape, filtered.cov.shape
    ((5, 1), (5, 1))
    """
    ss, sites, constant = _check(ss, sites, form)
    mean, cov, log_norm = _run(ss, sites, form, n_threads, smoothing=False)
    return Filtered(mean, cov, log_norm + constant)


def smooth(
    ss: StateSpace,
    sites: Sites | Readings,
    *,
    method: str = "covariance",
    form: str = "auto",
    n_threads: int | None = None,
) -> Smoothed:
    """Moments of f given all rows of its trial, p(f_t | all sites).

    Parameters
    ----------
    ss, sites, form, n_threads
        As in :func:`filter`.
    method : {"covariance", "bidirectional", "rts"}
        A forward filter and its adjoint (default); two information filters run from both ends and merged
        (stationary chains only); or the Rauch-Tung-Striebel recursion. All are exact and agree to rounding.

    Returns
    -------
    Smoothed
        ``mean`` (T, K) and ``cov`` (T, K, K), or (T, K) for diagonal sites.

    Raises
    ------
    ValueError
        If a shape does not fit or the method is not known.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, found {method!r}")
    if method == "covariance":
        return infer(ss, sites, form=form, n_threads=n_threads)[0]
    from hidamari.statespace import _two_filter

    ss, sites, _ = _check(ss, sites, form)
    if isinstance(sites, Readings):
        raise ValueError(
            f"method={method!r} takes finite sites; exact readings (R = 0) need method='covariance'"
        )
    diagonal = sites.J.ndim == 2
    dense = Sites(sites.j, _dense(sites.J))
    smoother = _two_filter.bidirectional if method == "bidirectional" else _two_filter.rts
    mean, cov = smoother(ss, dense)
    return Smoothed(mean, np.ascontiguousarray(np.einsum("tkk->tk", cov)) if diagonal else cov)


def infer(
    ss: StateSpace, sites: Sites | Readings, *, form: str = "auto", n_threads: int | None = None
) -> tuple[Smoothed, float]:
    """Smoothed moments and the log evidence from one pass forward and one back.

    Parameters and errors as in :func:`filter`.

    Returns
    -------
    tuple of Smoothed and float
        The moments of f and log of the integral of prior times sites.
    """
    ss, sites, constant = _check(ss, sites, form)
    mean, cov, log_norm = _run(ss, sites, form, n_threads, smoothing=True)
    return Smoothed(mean, cov), float(np.sum(log_norm + constant))


def evidence(
    ss: StateSpace, sites: Sites | Readings, *, form: str = "auto", n_threads: int | None = None
) -> float:
    """Log of the integral of prior times sites; for readings, their log marginal likelihood.

    Parameters and errors as in :func:`filter`.
    """
    return float(np.sum(filter(ss, sites, form=form, n_threads=n_threads).log_norm))


def evidence_gradient(
    ss: StateSpace, sites: Sites | Readings, *, n_threads: int | None = None
) -> tuple[Smoothed, float, StateSpace]:
    """Smoothed moments, log evidence, and its derivatives by A, Q, m and P, for the price of a smoother.

    The (r, N) of the backward pass are the exact adjoint of the filter: d log Z/dP = (r r' - N)/2 and
    d log Z/dm = r at every row. Plain covariance form.

    Returns
    -------
    tuple of Smoothed, float and StateSpace
        Moments of f with dense covariances (T, K, K), the log evidence, and a StateSpace whose A, Q, m, P
        hold its derivatives (step and H as given).
    """
    from hidamari.statespace import _adjoint

    ss, sites, constant = _finite(*_check(ss, sites, "covariance"))
    J = _dense(sites.J)
    ranges = _ranges(ss, n_threads, J.shape[1])

    T, K = sites.j.shape
    mean, cov, log_norm = np.empty((T, K)), np.empty((T, K, K)), np.empty(T)

    def work(t0: int, t1: int) -> tuple[np.ndarray, ...]:
        model = (ss.A, ss.Q, ss.step[t0:t1], ss.H, ss.m, ss.P, sites.j[t0:t1], J[t0:t1])
        out = (mean[t0:t1], cov[t0:t1], log_norm[t0:t1])
        slope = np.zeros_like(ss.A), np.zeros_like(ss.Q), np.zeros_like(ss.m), np.zeros_like(ss.P)
        _adjoint.smooth_joint(*model, _block(ss, K, states=True), True, *out, *slope)
        return slope

    dA, dQ, dm, dP = (np.sum(parts, axis=0) for parts in zip(*_map(work, ranges)))
    value = float(np.sum(log_norm + constant))
    return Smoothed(mean, cov), value, StateSpace(dA, dQ, ss.step, ss.H, dm, dP)


def sample(
    ss: StateSpace, sites: Sites | Readings, n: int, rng: np.random.Generator, *, n_threads: int | None = None
) -> np.ndarray:
    """Joint draws of f from its posterior over all rows, (n, T, K).

    Perturb and solve (Matheron's rule): with f* a draw from the prior and e ~ N(0, J),
    f* + Sigma (j - J f* - e) has the posterior's mean and covariance Sigma. Linear in T.

    Parameters
    ----------
    ss, sites, n_threads
        As in :func:`filter`.
    n : int
        Number of draws.
    rng : numpy.random.Generator
        Source of randomness.
    """
    from hidamari.statespace import _draws

    ss, sites, _ = _finite(*_check(ss, sites, "covariance"))
    J = _dense(sites.J)
    T, K = sites.j.shape
    S, C, d, _ = ss.A.shape
    G, L = np.zeros_like(ss.Q), np.zeros_like(ss.P)
    for c in range(C):
        _draws.factor(ss.P[c], L[c])
        for s in range(S):
            _draws.factor(ss.Q[s, c], G[s, c])
    prior = np.empty((n, T, K))
    _draws.draw_prior(ss.A, G, ss.step, ss.H, ss.m, L, rng.standard_normal((n, T, C * d)), prior)
    root = np.zeros_like(J)
    for t in range(T):
        _draws.factor(J[t], root[t])
    noise = np.einsum("tab,ntb->nta", root, rng.standard_normal((n, T, K)))
    rhs = np.ascontiguousarray(sites.j - np.einsum("tab,ntb->nta", J, prior) - noise)

    def work(t0: int, t1: int) -> np.ndarray:
        out = np.empty((n, t1 - t0, K))
        part = np.ascontiguousarray(rhs[:, t0:t1])
        _draws.means_joint(ss.A, ss.Q, ss.step[t0:t1], ss.H, ss.m, ss.P, J[t0:t1], part, out)
        return out

    return prior + np.concatenate(_map(work, _ranges(ss, n_threads, K)), axis=1)


def _check(ss: StateSpace, sites: Sites | Readings, form: str):
    """Contiguous float64 arrays of agreeing shapes; readings become sites and a constant unless exact."""
    if form not in FORMS:
        raise ValueError(f"form must be one of {FORMS}, found {form!r}")
    A, Q, H, m, P = (np.ascontiguousarray(a, dtype=np.float64) for a in (ss.A, ss.Q, ss.H, ss.m, ss.P))
    step = np.ascontiguousarray(ss.step, dtype=np.int64)
    if A.ndim != 4:
        raise ValueError(f"ss.A must have shape (S, C, d, d), found {A.shape}")
    S, C, d, _ = A.shape
    k = H.shape[1] if H.ndim == 3 else -1
    wanted = {"A": (S, C, d, d), "Q": (S, C, d, d), "H": (C, k, d), "m": (C, d), "P": (C, d, d)}
    for name, array in zip(wanted, (A, Q, H, m, P)):
        if array.shape != wanted[name]:
            raise ValueError(f"ss.{name} must have shape {wanted[name]}, found {array.shape}")
    T, K = len(step), C * k
    if T == 0:
        raise ValueError("ss.step is empty: at least one row of time is needed")
    if step.max() >= S:
        raise ValueError(f"ss.step must be below the number of distinct steps {S}, found {step.max()}")
    ss = StateSpace(A, Q, step, H, m, P)
    first, second = (np.ascontiguousarray(a, dtype=np.float64) for a in sites)
    names = ("y", "R") if isinstance(sites, Readings) else ("j", "J")
    if first.shape != (T, K):
        raise ValueError(f"sites.{names[0]} must have shape {(T, K)}, found {first.shape}")
    dense_allowed = isinstance(sites, Sites)
    if second.shape != (T, K) and not (dense_allowed and second.shape == (T, K, K)):
        allowed = f"{(T, K)} or {(T, K, K)}" if dense_allowed else f"{(T, K)}"
        raise ValueError(f"sites.{names[1]} must have shape {allowed}, found {second.shape}")
    if isinstance(sites, Sites):
        return ss, Sites(first, second), 0.0
    if not (second >= 0).all():
        raise ValueError("sites.R must be a variance of at least 0 everywhere")
    seen = np.isfinite(first) & np.isfinite(second)
    if (second[seen] == 0).any():
        return ss, Readings(np.where(seen, first, np.nan), np.where(seen, second, 1.0)), 0.0
    R = np.where(seen, second, 1.0)
    y = np.where(seen, first, 0.0)
    J = np.where(seen, 1.0 / R, 0.0)
    constant = np.where(seen, -0.5 * y * y * J - 0.5 * np.log(2 * np.pi * R), 0.0).sum(1)
    if form.startswith("square_root") or (form == "auto" and precision_ratio(ss, J) > SQUARE_ROOT_ABOVE):
        return ss, Readings(np.where(seen, y, np.nan), R), 0.0
    return ss, Sites(y * J, J), constant


def _finite(ss: StateSpace, sites: Sites | Readings, constant):
    """The same, where exact readings have no place."""
    if isinstance(sites, Readings):
        raise ValueError("exact readings (R = 0) have no finite sites: filter, smooth and infer take them")
    return ss, sites, constant


def precision_ratio(ss: StateSpace, J: np.ndarray) -> float:
    """The largest site precision times prior variance of a read-out."""
    prior = np.einsum("cai,cij,caj->ca", ss.H, ss.P, ss.H).ravel()
    diagonal = J if J.ndim == 2 else np.einsum("tkk->tk", J)
    return float(np.max(diagonal * prior, initial=0.0))


def _dense(J: np.ndarray) -> np.ndarray:
    """J as (T, K, K)."""
    return J if J.ndim == 3 else np.ascontiguousarray(J[:, :, None] * np.eye(J.shape[1]))


def _run(ss: StateSpace, sites: Sites | Readings, form: str, n_threads: int | None, smoothing: bool):
    """Pick the form and the loop, run it over ranges of trials, put the pieces together."""
    from hidamari.statespace import _adjoint, _chains, _numba

    if isinstance(sites, Readings) or form.startswith("square_root"):
        return _run_square_root(ss, sites, form, n_threads, smoothing)
    if form == "auto" and precision_ratio(ss, sites.J) > SQUARE_ROOT_ABOVE:
        return _run_square_root(ss, sites, form, n_threads, smoothing)
    T, K = sites.j.shape
    C, k, _ = ss.H.shape
    if sites.J.ndim == 3 or k > 1:
        J = _dense(sites.J)
        mean, cov, log_norm = np.empty((T, K)), np.empty((T, K, K)), np.empty(T)
        nowhere = [np.empty((0,) * n) for n in (4, 4, 2, 3)]  # no derivatives are asked for

        def joint(t0: int, t1: int) -> None:
            rows = (sites.j[t0:t1], J[t0:t1])
            out = (mean[t0:t1], cov[t0:t1], log_norm[t0:t1])
            model = (ss.A, ss.Q, ss.step[t0:t1], ss.H, ss.m, ss.P)
            if smoothing:
                _adjoint.smooth_joint(*model, *rows, _block(ss, K), False, *out, *nowhere)
            else:
                _numba.filter_joint(*model, *rows, *out)

        _map(joint, _ranges(ss, n_threads, K))
        if sites.J.ndim == 2:
            cov = np.ascontiguousarray(np.einsum("tkk->tk", cov))
        return mean, cov, log_norm
    means, variances, norms = np.empty((C, T)), np.empty((C, T)), np.empty((C, T))
    A, Q = (np.ascontiguousarray(a.swapaxes(0, 1)) for a in (ss.A, ss.Q))
    j, J = np.ascontiguousarray(sites.j.T), np.ascontiguousarray(sites.J.T)

    def chain(t0: int, t1: int) -> None:
        for c in range(C):
            model = (A[c], Q[c], ss.step[t0:t1], ss.H[c, 0], ss.m[c], ss.P[c], j[c, t0:t1], J[c, t0:t1])
            out = (means[c, t0:t1], variances[c, t0:t1], norms[c, t0:t1])
            if smoothing:
                _chains.smooth_chain(*model, _block(ss, 1), *out)
            else:
                _chains.filter_chain(*model, *out)

    _map(chain, _ranges(ss, n_threads, 1))
    return np.ascontiguousarray(means.T), np.ascontiguousarray(variances.T), norms.sum(0)


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

    parts = _map(work, _ranges(ss, n_threads, first.shape[1]))
    return tuple(np.concatenate(part).astype(np.float64, copy=False) for part in zip(*parts))


def _block(ss: StateSpace, K: int, states: bool = False) -> int:
    """Rows between check-points, such that what a block keeps stays within ``_BLOCK_BYTES``."""
    C, _, d = ss.H.shape
    row = 8 * (K * C * d + K * K + K + states * (C * d) ** 2) if K > 1 else 8 * (d + 2)
    return max(1024, _BLOCK_BYTES // row)


def _ranges(ss: StateSpace, n_threads: int | None, K: int) -> list[tuple[int, int]]:
    """Cut the rows into runs of whole trials of about equal length, one a thread."""
    T = len(ss.step)
    C, _, d = ss.H.shape
    if n_threads is not None and n_threads < 1:
        raise ValueError(f"n_threads must be at least 1, found {n_threads}")
    work = T * (C * d) ** 2 if K > 1 else T * C * d * d
    n = n_threads or (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if n == 1 or (n_threads is None and work < _THREAD_WORK):
        return [(0, T)]
    starts = np.flatnonzero(ss.step < 0)
    cuts = [0]
    for i in range(1, n):
        later = starts[starts >= i * T / n]
        if len(later) and later[0] > cuts[-1]:
            cuts.append(int(later[0]))
    return list(zip(cuts, [*cuts[1:], T]))


def _map(work: Callable, ranges: list[tuple[int, int]]) -> list:
    """``work`` on every range, on threads when there are several (compiled loops release the lock)."""
    if len(ranges) == 1:
        return [work(*ranges[0])]
    with ThreadPoolExecutor(len(ranges)) as pool:
        return list(pool.map(lambda r: work(*r), ranges))
