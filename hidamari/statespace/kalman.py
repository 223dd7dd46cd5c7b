"""The public face of the core: filter, smooth, evidence and sample for chains under Gaussian sites.

Shapes are checked here, once. Two exact forms stand behind these names, and which one runs is decided from
what is known beforehand, the largest site precision times prior variance (``form="auto"``): the plain
covariance form up to ``SQUARE_ROOT_ABOVE``, the square-root covariance form beyond it and for exact
readings (R = 0). Nothing inverts P, A or Q, and no jitter is added anywhere.
"""

import numpy as np

from hidamari.statespace import _threads
from hidamari.statespace._check import SQUARE_ROOT_ABOVE, check, precision_ratio, sites_only
from hidamari.statespace._layout import dense, diagonals, gradient_back, lay_out, moments_back, sites_for
from hidamari.statespace.types import Filtered, Readings, Sites, Smoothed, StateSpace

__all__ = ["evidence", "evidence_gradient", "filter", "infer", "precision_ratio", "sample", "smooth"]

METHODS = ("covariance", "bidirectional", "rts")
_BLOCK_BYTES = 256 * 2**20  # what one thread may keep of a forward pass before it starts to check-point
_PIECES = 8  # of a sum over trials for any number of threads, so that its rounding depends on none


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
        Threads over trials and chains; by default as many as there are cores, when the work is worth it. No
        answer depends on it by a bit.

    Returns
    -------
    Filtered
        ``mean`` (T, K), ``cov`` (T, K, K) or (T, K), ``log_norm`` (T,).

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite (NaN in y and inf in R mean not observed), a variance
        is negative, or exact readings contradict each other.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.statespace.kernels import Matern
    >>> ss = Matern(order=1, lengthscale=0.3).state_space(np.arange(5) * 0.1)
    >>> filtered = filter(ss, Readings(np.ones((5, 1)), np.full((5, 1), 0.5)))
    >>> filtered.mean.shape, filtered.cov.shape
    ((5, 1), (5, 1))
    """
    ss, sites, constant = check(ss, sites, form)
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
        A forward filter and its adjoint (default), which keeps K (D + K) numbers a row for D states, and a
        bounded number for long trials; two information filters run from both ends and merged (stationary
        chains with a zero mean only), 5 D^2 a row; or the Rauch-Tung-Striebel recursion, 2 D^2. All are exact
        and agree to rounding. The last two are there to compare with, in plain covariance form.

    Returns
    -------
    Smoothed
        ``mean`` (T, K) and ``cov`` (T, K, K), or (T, K) for diagonal sites.

    Raises
    ------
    ValueError
        As :func:`filter`, and if the method is not known, or does not take these chains or exact readings.

    References
    ----------
    .. [1] P. de Jong, Smoothing and interpolation with the state-space model, JASA 84, 1989.
    .. [2] S. Särkkä, Bayesian Filtering and Smoothing, 2013, chapter 8.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.statespace.kernels import Matern
    >>> ss = Matern(order=1, lengthscale=0.3).state_space(np.arange(5) * 0.1)
    >>> y = np.array([[0.0], [1.0], [np.nan], [1.0], [0.0]])
    >>> found = smooth(ss, Readings(y, np.full((5, 1), 0.1)))
    >>> found.mean[:, 0].round(2).tolist()
    [0.2, 0.79, 1.0, 0.79, 0.2]
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, found {method!r}")
    if method == "covariance":
        return infer(ss, sites, form=form, n_threads=n_threads)[0]
    from hidamari.statespace import _two_filter

    if form not in ("auto", "covariance"):
        raise ValueError(f"form must be 'auto' or 'covariance' with method={method!r}, found {form!r}")
    ss, sites, _ = sites_only(*check(ss, sites, "covariance"))
    diagonal = sites.J.ndim == 2
    smoother = _two_filter.bidirectional if method == "bidirectional" else _two_filter.rts
    mean, cov = smoother(ss, Sites(sites.j, dense(sites.J)))
    return Smoothed(mean, diagonals(cov) if diagonal else cov)


def infer(
    ss: StateSpace, sites: Sites | Readings, *, form: str = "auto", n_threads: int | None = None
) -> tuple[Smoothed, float]:
    """Smoothed moments and the log evidence from one pass forward and one back.

    Parameters
    ----------
    ss, sites, form, n_threads
        As in :func:`filter`.

    Returns
    -------
    tuple of Smoothed and float
        The moments of f and log of the integral of prior times sites.

    Raises
    ------
    ValueError
        As :func:`filter`.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.statespace.kernels import Matern
    >>> ss = Matern(order=1, lengthscale=0.3).state_space(np.arange(5) * 0.1)
    >>> nothing = Sites(np.zeros((5, 1)), np.zeros((5, 1)))
    >>> (mean, var), value = infer(ss, nothing)
    >>> var[:, 0].round(6).tolist(), value
    ([1.0, 1.0, 1.0, 1.0, 1.0], 0.0)
    """
    ss, sites, constant = check(ss, sites, form)
    mean, cov, log_norm = _run(ss, sites, form, n_threads, smoothing=True)
    return Smoothed(mean, cov), float(np.sum(log_norm + constant))


def evidence(
    ss: StateSpace, sites: Sites | Readings, *, form: str = "auto", n_threads: int | None = None
) -> float:
    """Log of the integral of prior times sites; for readings, their log marginal likelihood.

    Parameters
    ----------
    ss, sites, form, n_threads
        As in :func:`filter`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As :func:`filter`.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.statespace.kernels import Matern
    >>> ss = Matern(order=1, lengthscale=0.3).state_space(np.zeros(1))
    >>> value = evidence(ss, Readings(np.ones((1, 1)), np.ones((1, 1))))  # y ~ N(0, 1 + 1)
    >>> bool(np.isclose(value, -0.25 - 0.5 * np.log(4 * np.pi)))
    True
    """
    return float(np.sum(filter(ss, sites, form=form, n_threads=n_threads).log_norm))


def evidence_gradient(
    ss: StateSpace, sites: Sites | Readings, *, n_threads: int | None = None
) -> tuple[Smoothed, float, StateSpace]:
    """Smoothed moments, log evidence, and its derivatives by A, Q, m and P, for the price of a smoother.

    The (r, N) of the backward pass are the exact adjoint of the filter: d log Z/dP = (r r' - N)/2 and
    d log Z/dm = r at every row. Those by Q and P are for symmetric changes of them. Plain covariance form.

    Parameters
    ----------
    ss, sites, n_threads
        As in :func:`filter`.

    Returns
    -------
    tuple of Smoothed, float and StateSpace
        Moments of f with dense covariances (T, K, K), the log evidence, and a StateSpace whose A, Q, m, P
        hold its derivatives (step and H as given).

    Raises
    ------
    ValueError
        As :func:`filter`, and for exact readings.

    References
    ----------
    .. [1] S. J. Koopman and N. Shephard, Exact score for time series models in state space form,
       Biometrika 79, 1992.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.statespace.kernels import Matern
    >>> ss = Matern(order=0, lengthscale=0.3).state_space(np.arange(5) * 0.1)
    >>> sites = Readings(np.ones((5, 1)), np.full((5, 1), 0.5))
    >>> _, value, slope = evidence_gradient(ss, sites)
    >>> more = evidence(ss._replace(P=ss.P + 1e-6), sites)
    >>> bool(np.isclose(slope.P[0, 0, 0], (more - value) / 1e-6, rtol=1e-4))
    True
    """
    ss, sites, constant = sites_only(*check(ss, sites, "covariance"))
    T, K = sites.j.shape
    if K == 1 or (sites.J.ndim == 2 and len(ss.H) == K):
        diagonal = Sites(sites.j, sites.J.reshape(T, K))
        mean, var, log_norm, slope = _run_chains(ss, diagonal, n_threads, True, climb=True)
        cov = dense(var)
    else:
        sites = Sites(sites.j, dense(sites.J))
        mean, cov, log_norm, slope = _run_joint(ss, sites, n_threads, True, climb=True)
    dA, dQ, dm, dP = slope
    return Smoothed(mean, cov), float(np.sum(log_norm + constant)), StateSpace(dA, dQ, ss.step, ss.H, dm, dP)


def sample(
    ss: StateSpace, sites: Sites | Readings, n: int, rng: np.random.Generator, *, n_threads: int | None = None
) -> np.ndarray:
    """Joint draws of f from its posterior over all rows, (n, T, K).

    Perturb and solve (Matheron's rule): with f* a draw from the prior and e ~ N(0, J),
    f* + Sigma (j - J f* - e) has the posterior's mean and covariance Sigma. The covariances are filtered once
    for all draws. Linear in T; keeps K (D + K) numbers a row besides the draws, D the number of states. The
    first draws are the same for every n and every number of threads.

    Parameters
    ----------
    ss, sites, n_threads
        As in :func:`filter`.
    n : int
        Number of draws.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray, shape (n, T, K)

    Raises
    ------
    ValueError
        As :func:`filter`, for exact readings, and if n is negative.

    References
    ----------
    .. [1] J. T. Wilson et al., Pathwise conditioning of Gaussian processes, JMLR 22, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.statespace.kernels import Matern
    >>> ss = Matern(order=1, lengthscale=0.3).state_space(np.arange(5) * 0.1)
    >>> sites = Readings(np.ones((5, 1)), np.full((5, 1), 1e-3))
    >>> sample(ss, sites, 3, np.random.default_rng(0)).shape
    (3, 5, 1)
    """
    from hidamari.statespace import _draws

    given, sites, _ = sites_only(*check(ss, sites, "covariance"))
    if n < 0:
        raise ValueError(f"n must be at least 0, found {n}")
    J = dense(sites.J)
    T, K = sites.j.shape
    layout = lay_out(given)
    ss, inner = layout.ss, sites_for(layout, Sites(sites.j, J))
    threads = _threads.how_many(n_threads, _work(ss))

    def covariances(t0: int, t1: int) -> np.ndarray:
        return _draws.gains(ss._replace(step=ss.step[t0:t1]), inner.J[t0:t1])

    gains = _threads.run(covariances, _threads.cut(ss.step, threads), threads)
    gains = gains[0] if len(gains) == 1 else np.concatenate(gains)
    G, L, root = (_draws.factors(a) for a in (given.Q, given.P, J))

    def draw(noise: np.ndarray, e: np.ndarray) -> np.ndarray:
        prior = _draws.draw_prior(given, G, L, noise)
        rhs = sites.j - np.einsum("tab,tb->ta", J, prior) - np.einsum("tab,tb->ta", root, e)
        mean = _draws.means(ss, inner.J, gains, rhs if layout.read is None else rhs @ layout.read)
        return prior + moments_back(layout, mean, inner.J[:0])[0]

    draws = np.empty((n, T, K))
    for first in range(0, n, threads):
        noise = [
            (rng.standard_normal((T, given.m.size)), rng.standard_normal((T, K)))
            for _ in range(min(threads, n - first))
        ]
        draws[first : first + threads] = _threads.run(draw, noise, threads)
    return draws


def _run(ss: StateSpace, sites: Sites | Readings, form: str, n_threads: int | None, smoothing: bool):
    """Pick the form and the loop, run it over ranges of trials, put the pieces together."""
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

    parts = _threads.run(work, *_shares(ss.step, n_threads, _work(ss), climb))
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

    ranges, n = _shares(ss.step, n_threads, _work(ss) // C, climb)
    parts = _threads.run(work, [(c, *rows) for c in range(C) for rows in ranges], n)
    slope = _total(ss, parts) if climb else []
    return np.ascontiguousarray(mean.T), np.ascontiguousarray(var.T), log_norm.sum(0), slope


def _shares(step: np.ndarray, n_threads: int | None, work: int, climb: bool):
    """Runs of trials, and the number of threads for them; where sums are to be made, that changes no run."""
    n = _threads.how_many(n_threads, work)
    pieces = n if not climb else _PIECES if _threads.is_long(work) else 1
    return _threads.cut(step, pieces), n


def _some_rows(ss: StateSpace, t0: int, t1: int, climb: bool) -> tuple[np.ndarray | None, StateSpace]:
    """The chains over some rows; with ``climb``, with no more steps than they use, and which these are."""
    step = ss.step[t0:t1]
    if not climb:
        return None, ss._replace(step=step)
    used = np.unique(step[step >= 0])
    own = np.where(step < 0, -1, np.searchsorted(used, step))
    return used, ss._replace(A=ss.A[used], Q=ss.Q[used], step=own)


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

    n = _threads.how_many(n_threads, _work(ss))
    parts = _threads.run(work, _threads.cut(ss.step, n), n)
    return tuple(np.concatenate(part).astype(np.float64, copy=False) for part in zip(*parts))


def _work(ss: StateSpace) -> int:
    """Rows times the square of the number of states."""
    return len(ss.step) * ss.m.size**2


def _block(ss: StateSpace, K: int, states: bool) -> int:
    """Rows between check-points, such that what a block keeps stays within ``_BLOCK_BYTES``."""
    D, d = ss.m.size, ss.m.shape[1]
    row = K * (D + 8) + K * (K + 8) + states * D * (D + 8) if K > 1 else d + 2 + states * d * (d + 1)
    return max(1024, _BLOCK_BYTES // (8 * row))
