r"""State spaces for a given impulse response or stationary covariance, so that both run in linear time.

With k_i = C A^{i-1} B for i >= 1 the Hankel matrix [k_{i+j+1}] = O R has the rank of the order,
with O the rows C A^i and R the columns A^j B. Its singular value decomposition gives both, the shift of O A:
few states, to a tolerance. The discrete Fourier transform gives as many states as values, exactly.

References
----------
B. L. Ho, R. E. Kalman, Effective construction of linear state-variable models, 1966.
S.-Y. Kung, A new identification and model reduction algorithm via singular value decomposition, 1978.
P. Faurre, Stochastic realization algorithms, 1976.
Z. Qin, Y. Zhong, Accelerating Toeplitz neural network with constant-time inference complexity, 2023.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import hankel, svd

from hidamari.statespace.types import StateSpace

__all__ = ["Realisation", "kernel_to_statespace", "realise"]

_ROUNDS = 20000  # of the Riccati recursion
_SETTLED = 1e-15  # change of the innovation's variance, over the variance


class Realisation(NamedTuple):
    """x_{t+1} = A x_t + B u_t, y_t = C x_t + D u_t."""

    A: np.ndarray  # (d, d)
    B: np.ndarray  # (d,)
    C: np.ndarray  # (d,)
    D: float
    singular_values: np.ndarray  # all of the Hankel matrix, what was cut among them; (0,) without one
    error: float  # largest deviation from the sequence given


def realise(k: ArrayLike, tol: float = 1e-10, method: str = "hankel", decay: float = 1.0) -> Realisation:
    r"""A system whose impulse response is k_0, k_1, ..., k_{n-1}.

    ``"hankel"``: the system of least order, to a tolerance, in O(n^3); what is smooth, decays or oscillates
    takes few states, and the response continues beyond n as it began.

    ``"dft"``: for sequences that have no short form, such as noise. With k_n = -(k_1 + ... + k_{n-1}), so
    that k_1..k_n have no constant part, k_{i+1} = sum_j b_j z_j^i, b their inverse transform and z_j,
    j = 1..n-1, the roots of unity exp(-2 pi i j / n) other than 1: n - 1 states, in blocks that turn, exact
    to rounding and in O(n log n) but for A itself. All roots have modulus 1, so that the response repeats
    with period n after lag n; with ``decay`` d it also fades by d^n, at the cost of d^{-n} times the
    rounding. It is a system for inputs of up to n rows: its output is the product with the Toeplitz matrix.

    Parameters
    ----------
    k : array_like, shape (n,)
        Impulse response, n >= 3: of a calcium indicator, a haemodynamic response, a spike-history filter.
    tol : float
        Singular values of the Hankel matrix up to ``tol`` times the largest are cut.
    method : {"hankel", "dft"}
        Which.
    decay : float
        Modulus of the roots of ``"dft"``, in (0, 1].

    Returns
    -------
    Realisation
        The Hankel singular values are balanced between input and output.

    Raises
    ------
    ValueError
        If the sequence is too short or not finite, the tolerance not in [0, 1), the decay not in (0, 1], or
        the method unknown.

    References
    ----------
    Ho and Kalman 1966; Kung 1978; Qin and Zhong 2023.

    Examples
    --------
    >>> from hidamari.inference.realisation import realise
    >>> t = np.arange(50.0)
    >>> system = realise(np.exp(-t / 10) - np.exp(-t / 2))  # a double exponential has two states
    >>> len(system.A), system.error < 1e-12
    (2, True)
    >>> noise = np.random.default_rng(0).standard_normal(50)
    >>> system = realise(noise, method="dft")
    >>> len(system.A), system.error < 1e-12
    (49, True)
    """
    values = np.asarray(k, dtype=float)
    if values.ndim != 1 or len(values) < 3 or not np.isfinite(values).all():
        raise ValueError(f"k must be a finite vector of 3 values or more, found shape {values.shape}")
    if not 0.0 <= tol < 1.0:
        raise ValueError(f"tol is {tol}, but must be in [0, 1)")
    if method not in ("hankel", "dft"):
        raise ValueError(f"method is {method!r}, but must be 'hankel' or 'dft'")
    if not 0.0 < decay <= 1.0:
        raise ValueError(f"decay is {decay}, but must be in (0, 1]")
    A, B, C, s = _by_hankel(values, tol) if method == "hankel" else _by_dft(values, decay)
    x, found = B, [float(values[0])]
    for _ in range(len(values) - 1):
        found.append(float(C @ x))
        x = A @ x
    return Realisation(A, B, C, float(values[0]), s, float(np.max(np.abs(values - found))))


def _by_hankel(values: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A, B, C of least order, and all singular values."""
    half = len(values) // 2
    U, s, Vt = svd(hankel(values[1 : half + 1], values[half:]), full_matrices=False)
    order = min(int(np.count_nonzero(s > tol * s[0])), half - 1)
    root = np.sqrt(s[:order])
    O, R = U[:, :order] * root, root[:, None] * Vt[:order]
    A = np.linalg.lstsq(O[:-1], O[1:], rcond=None)[0]
    return A, R[:, 0], O[0] if order else np.zeros(0), s


def _by_dft(values: np.ndarray, decay: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A, B, C with the roots decay exp(-2 pi i j / n), in real blocks, and no singular values."""
    n = len(values)
    t = values[1:] / decay ** np.arange(n - 1.0)
    b = np.fft.rfft(np.append(t, -t.sum()))[1:].conj() / n  # the inverse transform of what is real
    angle = 2.0 * np.pi * np.arange(1, len(b) + 1) / n
    A, B, C = np.zeros((n - 1, n - 1)), np.zeros(n - 1), np.zeros(n - 1)
    first = np.arange(0, n - 2, 2)  # of each pair of conjugate roots; -1 is alone where n is even
    own, turn = b[: len(first)], angle[: len(first)]
    A[first, first] = A[first + 1, first + 1] = decay * np.cos(turn)
    A[first, first + 1] = decay * np.sin(turn)
    A[first + 1, first] = -decay * np.sin(turn)
    B[first], C[first], C[first + 1] = 1.0, 2.0 * own.real, -2.0 * own.imag
    if n % 2 == 0:
        A[-1, -1], B[-1], C[-1] = -decay, 1.0, b[-1].real
    return A, B, C, np.empty(0)


def kernel_to_statespace(k: ArrayLike, tol: float = 1e-10, n_rows: int | None = None) -> StateSpace:
    r"""A Markov chain whose read-out has a given stationary covariance k_0, k_1, ..., to a tolerance.

    The covariance is realised as k_i = C A^{i-1} G; the Riccati recursion

        S <- A S A' + (G - A S C') (G - A S C')' / (k_0 - C S C')

    then gives its innovations form x_{t+1} = A x_t + K e_t, f_t = C x_t + e_t. The state is (x_t, e_t).

    Parameters
    ----------
    k : array_like, shape (n,)
        Covariance at lags 0, 1, ..., n - 1, n >= 3: measured, or of a kernel that is no Markov process.
    tol : float
        As for :func:`realise`.
    n_rows : int, optional
        Rows of the chain, by default n.

    Returns
    -------
    StateSpace
        One chain of order + 1 states.

    Raises
    ------
    ValueError
        If the chain is not stationary, or the sequence cut at this tolerance is no covariance: smooth kernels
        without a white part have innovations too small for it.

    References
    ----------
    Faurre 1976.

    Examples
    --------
    A kernel that is no Markov process, with noise, and the likelihood of 300 rows in linear time:

    >>> import hidamari as hd
    >>> from hidamari.statespace import kalman
    >>> from hidamari.statespace.types import Readings
    >>> t = np.arange(300.0)
    >>> k = (1 + t**2 / 200) ** -2.0 + 0.1 * (t == 0)
    >>> chain = hd.kernel_to_statespace(k, 1e-4)
    >>> chain.H.shape, round(float(chain.H[0, 0] @ chain.P[0] @ chain.H[0, 0]), 6)
    ((1, 1, 6), 1.1)
    >>> y = np.sin(t / 7)
    >>> evidence = float(np.sum(kalman.infer(chain, Readings(y[:, None], np.full((300, 1), 0.1)))[1]))
    >>> K = (k + 0.1 * (t == 0))[np.abs(np.subtract.outer(range(300), range(300)))]
    >>> dense = -0.5 * (y @ np.linalg.solve(K, y) + np.linalg.slogdet(2 * np.pi * K)[1])
    >>> bool(abs(evidence / dense - 1) < 1e-3)
    True
    """
    system = realise(k, tol)
    A, G, C, k0 = system.A, system.B, system.C, system.D
    d = len(A)
    if not k0 > 0.0:
        raise ValueError(f"k[0] is {k0}, but a variance must be positive")
    radius = float(np.max(np.abs(np.linalg.eigvals(A)), initial=0.0))
    if radius >= 1.0:
        raise ValueError(f"k gives a chain with a root of modulus {radius:.6g}: it does not decay")
    S, variance = np.zeros((d, d)), k0
    for _ in range(_ROUNDS):
        gain = (G - A @ (S @ C)) / variance
        S = A @ S @ A.T + variance * np.outer(gain, gain)
        before, variance = variance, k0 - float(C @ S @ C)
        if not variance > 0.0:
            raise ValueError(
                "k, cut at this tol, is not a covariance: its innovations have no positive variance. "
                "Take a smaller tol, or add a white part to k[0]"
            )
        if before - variance <= _SETTLED * k0:
            break
    gain = (G - A @ (S @ C)) / variance
    transition = np.zeros((d + 1, d + 1))
    transition[:d, :d], transition[:d, d] = A, gain
    Q, P = np.zeros((d + 1, d + 1)), np.zeros((d + 1, d + 1))
    Q[d, d] = P[d, d] = variance
    P[:d, :d] = S
    rows = len(np.asarray(k)) if n_rows is None else n_rows
    return StateSpace(
        transition[None, None],
        Q[None, None],
        np.zeros(rows, dtype=np.int64),
        np.append(C, 1.0)[None, None],
        np.zeros((1, d + 1)),
        P[None],
    )
