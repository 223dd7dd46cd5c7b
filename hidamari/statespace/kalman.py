"""The public face of the core: filter, smooth, evidence and sample for chains under Gaussian sites.

Shapes are checked here, once. Two exact forms stand behind these names, and which one runs is decided from
what is known beforehand, the largest site precision times prior variance (``form="auto"``): the plain
covariance form up to ``SQUARE_ROOT_ABOVE``, the square-root covariance form beyond it and for exact
readings (R = 0). Nothing inverts P, A or Q, and no jitter is added anywhere.

**NumPy or jax.** NumPy arrays are worked on by loops compiled with numba, and NumPy comes back. If any array
of ss or sites is a jax array or tracer, jax does the work and jax comes back: under jit, vmap and grad, on
any device. Then

- arithmetic is in the format of the jax arrays, float64 if one of them is, and NumPy arrays follow it. jax
  arrays of float32 alone mean float32, in the square-root form; ``jax.enable_x64`` is never switched for you,
  and what jax has made float32 stays so.
- where something is traced, only shapes are checked, and ``form="auto"`` is the covariance form, since no
  number is known: ask for ``form="square_root"`` where precision times variance exceeds 1e4 or R may be 0.
  Exact readings that contradict each other have the log density -inf there.
- outside of traced functions rows and distinct steps are padded to 16, 20, 25, ... (each a quarter more), so
  that many lengths share a few compiled programs. Inside, a program is compiled for every length.
- ``method="scan"`` is a recursion over the rows, ``"parallel"`` an associative scan of O(log T) depth for
  GPUs (float64, covariance form; refused beyond the range where it keeps the accuracy of the recursion).
- :func:`evidence` in float64 on a CPU is computed by the numba loops, with its slope, through a host callback
  (``method="compiled"``, chosen by itself): some 8 times as fast as the slope of a scan. It may stand inside
  of jit, vmap, grad and loops. Numbers that are not finite give NaN there.
- derivatives of filtered or smoothed moments in the square-root form are computed by the covariance form, and
  do not exist at exact readings.
"""

import sys
from typing import Any

import numpy as np

from hidamari.statespace import _forms, _threads
from hidamari.statespace._check import check, precision_ratio, sites_only
from hidamari.statespace._layout import dense, diagonals, lay_out, moments_back, sites_for
from hidamari.statespace.types import Filtered, Readings, Sites, Smoothed, StateSpace

__all__ = ["evidence", "evidence_gradient", "filter", "infer", "precision_ratio", "sample", "smooth"]

METHODS = ("covariance", "bidirectional", "rts")


def filter(
    ss: StateSpace,
    sites: Sites | Readings,
    *,
    form: str = "auto",
    method: str = "auto",
    n_threads: int | None = None,
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
    method : {"auto", "scan", "parallel"}
        For jax: a recursion over the rows (default) or an associative scan. NumPy has the recursion only.
    n_threads : int, optional
        Threads over trials and chains; by default as many as there are cores, when the work is worth it. No
        answer depends on it by a bit. Not used for jax.

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
    if _of_jax(ss, sites):
        return _jax().filter(ss, sites, form, method)
    _only_for_jax(method)
    ss, sites, constant = check(ss, sites, form)
    mean, cov, log_norm = _forms.solve(ss, sites, form, n_threads, smoothing=False)
    return Filtered(mean, cov, log_norm + constant)


def smooth(
    ss: StateSpace,
    sites: Sites | Readings,
    *,
    form: str = "auto",
    method: str = "auto",
    n_threads: int | None = None,
) -> Smoothed:
    """Moments of f given all rows of its trial, p(f_t | all sites).

    Parameters
    ----------
    ss, sites, form, n_threads
        As in :func:`filter`.
    method : {"auto", "covariance", "bidirectional", "rts", "scan", "parallel"}
        A forward filter and its adjoint ("covariance", the default), which keeps K (D + K) numbers a row for
        D states, and a bounded number for long trials; two information filters run from both ends and merged
        (stationary chains with a zero mean only), 5 D^2 a row; or the Rauch-Tung-Striebel recursion, 2 D^2.
        All are exact and agree to rounding. The last two are there to compare with, in plain covariance form.
        For jax, "scan" (default) and "parallel", both with the adjoint.

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
    if _of_jax(ss, sites):
        return _jax().smooth(ss, sites, form, method)
    if method not in ("auto", *METHODS):
        raise ValueError(f"method must be one of {('auto', *METHODS)}, found {method!r}")
    if method in ("auto", "covariance"):
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
    ss: StateSpace,
    sites: Sites | Readings,
    *,
    form: str = "auto",
    method: str = "auto",
    n_threads: int | None = None,
) -> tuple[Smoothed, float]:
    """Smoothed moments and the log evidence from one pass forward and one back.

    Parameters
    ----------
    ss, sites, form, method, n_threads
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
    if _of_jax(ss, sites):
        return _jax().infer(ss, sites, form, method)
    _only_for_jax(method)
    ss, sites, constant = check(ss, sites, form)
    mean, cov, log_norm = _forms.solve(ss, sites, form, n_threads, smoothing=True)
    return Smoothed(mean, cov), float(np.sum(log_norm + constant))


def evidence(
    ss: StateSpace,
    sites: Sites | Readings,
    *,
    form: str = "auto",
    method: str = "auto",
    n_threads: int | None = None,
) -> float:
    """Log of the integral of prior times sites; for readings, their log marginal likelihood.

    Parameters
    ----------
    ss, sites, form, n_threads
        As in :func:`filter`.
    method : {"auto", "compiled", "scan", "parallel"}
        For jax: by the numba loops and a host callback (default for float64 on a CPU; elsewhere the scan), by
        a recursion in jax, or by an associative scan. The slope of each is its adjoint recursion, by every
        array of ss and sites (that by Q and P is for symmetric changes), for the price of a smoother.

    Returns
    -------
    float, or jax scalar

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
    if _of_jax(ss, sites):
        return _jax().evidence(ss, sites, form, method)
    _only_for_jax(method)
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
    mean, cov, log_norm, (dA, dQ, dm, dP) = _forms.climb(ss, sites, n_threads)
    return (
        Smoothed(mean, dense(cov)),
        float(np.sum(log_norm + constant)),
        StateSpace(dA, dQ, ss.step, ss.H, dm, dP),
    )


def sample(
    ss: StateSpace, sites: Sites | Readings, n: int, rng: Any, *, n_threads: int | None = None
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
        Source of randomness. For jax a key, or, where nothing is traced, a Generator too.

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

    if n < 0:
        raise ValueError(f"n must be at least 0, found {n}")
    if _of_jax(ss, sites):
        return _jax().sample(ss, sites, n, rng)
    given, sites, _ = sites_only(*check(ss, sites, "covariance"))
    J = dense(sites.J)
    T, K = sites.j.shape
    layout = lay_out(given)
    ss, inner = layout.ss, sites_for(layout, Sites(sites.j, J))
    threads = _threads.how_many(n_threads, _forms.work_of(ss))

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


def _of_jax(ss: StateSpace, sites: Sites | Readings) -> bool:
    """Whether any array is of jax, which nobody can have made before jax was imported."""
    jax = sys.modules.get("jax")
    return jax is not None and any(isinstance(a, jax.Array) for a in (*ss, *sites))


def _jax() -> Any:
    """The same names for jax arrays."""
    from hidamari.statespace import _jax

    return _jax


def _only_for_jax(method: str) -> None:
    """Refuse a method where there is but one."""
    if method != "auto":
        raise ValueError(f"method must be 'auto' for NumPy arrays, found {method!r}")
