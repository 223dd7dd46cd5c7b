"""Paths that wander: Brownian motion and its integrals."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial
from typing import Any

import numpy as np

from hidamari.parameters import check, parameter
from hidamari.statespace._generic import durations
from hidamari.statespace._kernel import Kernel, Linearised, Slope, check_stationary, checked_names

__all__ = ["Wiener", "noise_powers", "transition_powers"]

MAX_ORDER = 3


@dataclass(frozen=True)
class Wiener(Kernel):
    """Brownian motion (order 0), or its integral, taken `order` times: a trend that never settles.

    The derivative f^(p), p = order, is Brownian motion: d f^(p) = sqrt(variance) dW. Order 0 is the local
    level model, order 1 the cubic smoothing spline; order 1 with a tiny variance is a straight line. The
    p + 1 states f, f', ..., f^(p) start at the first row from independent normal distributions of mean 0 and
    standard deviation `start`. With t the time since the first row and s <= t,

        Cov(f(s), f(t)) = start^2 sum_i (s t)^i / i!^2 + variance int_0^s (s - r)^p (t - r)^p dr / p!^2.

    The kernel is not stationary: it has no covariance as a function of the lag and no spectral density, adds
    to any kernel, and multiplies only a `Constant`. A large `start` says that nothing is known of the start:
    estimates then no longer depend on it, and the evidence does by the constant -(p + 1) log(start), which
    cancels between models that share it (the diffuse likelihood is what remains). It can be 1e4 times the
    data and more; `kalman` then takes the square-root form by itself.

    Parameters
    ----------
    order : int
        p, from 0 to 3.
    variance : float
        Variance that f^(p) gains in one second.
    start : float
        Standard deviation at the first row, of f in its units and of f^(i) per second^i. Held: it is learned
        only if asked for by name.

    Raises
    ------
    ValueError
        If `order` is not a whole number from 0 to 3, or another parameter is not finite and positive.

    References
    ----------
    G. Wahba, Improper priors, spline smoothing and the problem of guarding against model errors in
    regression, 1978.
    J. Durbin and S. J. Koopman, Time Series Analysis by State Space Methods, 2012, chapters 2, 3 and 5.

    Examples
    --------
    >>> kernel = Wiener(order=0, variance=2.0, start=10.0)
    >>> kernel.covariance([0.0, 1.0], [0.0, 3.0]).tolist()
    [[100.0, 100.0], [100.0, 102.0]]
    >>> kernel.is_stationary
    False
    """

    order: int = parameter(0, "integer")
    variance: float = parameter(1.0, "positive")
    start: float = parameter(1e3, "held")

    def __post_init__(self):
        check(self)
        if self.order > MAX_ORDER:
            raise ValueError(f"order must be a whole number from 0 to {MAX_ORDER}, got {self.order}")

    @property
    def is_stationary(self) -> bool:
        """Return False: the variance grows for ever."""
        return False

    def __call__(self, tau: Any) -> np.ndarray:
        """Raise the ValueError: see `covariance`."""
        check_stationary(self, "covariance as a function of the lag")
        raise AssertionError("not reached: Wiener is not stationary")

    def generator(self) -> np.ndarray:
        """Return F, each state the derivative of the one before, (p + 1, p + 1)."""
        return np.eye(self.order + 1, k=1)

    def stationary(self) -> np.ndarray:
        """Return P at the first row, (p + 1, p + 1)."""
        return self.start**2 * np.eye(self.order + 1)

    def readout(self) -> np.ndarray:
        """Return H, (p + 1,)."""
        return np.eye(1, self.order + 1)[0]

    def diffusion(self) -> np.ndarray:
        """Return D: the noise drives the highest derivative alone, (p + 1, p + 1)."""
        D = np.zeros((self.order + 1, self.order + 1))
        D[-1, -1] = self.variance
        return D

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """Return A_ij = dt^(j - i) / (j - i)!, (S,) -> (S, p + 1, p + 1)."""
        powers, weights = transition_powers(self.order)
        return durations(dt)[:, None, None] ** powers * weights

    def process_noise(self, dt: np.ndarray) -> np.ndarray:
        """Return Q_ij = variance dt^n / (n (p - i)! (p - j)!), n = 2p + 1 - i - j, (S,) -> (S, d, d)."""
        powers, weights = noise_powers(self.order)
        return durations(dt, 0.0)[:, None, None] ** powers * (self.variance * weights)

    def linearise(self, gaps: np.ndarray, names: Sequence[str]) -> Linearised:
        """Return A, Q, P and their derivatives."""
        names = checked_names(self, names)
        A, Q, P = self.transition(gaps), self.process_noise(gaps), self.stationary()
        still = np.broadcast_to(0.0, A.shape)
        by = {"variance": Slope(still, Q, np.zeros_like(P)), "start": Slope(still, still, 2.0 * P)}
        return Linearised(A, Q, P, [by[name] for name in names])


def transition_powers(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n and c of the entries c dt^n of A, (d, d); below the diagonal c is 0."""
    n = np.subtract.outer(np.arange(order + 1), np.arange(order + 1)).T
    return np.maximum(n, 0), np.array(
        [[1.0 / factorial(k) if k >= 0 else 0.0 for k in row] for row in n.tolist()]
    )


def noise_powers(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n and c of the entries c dt^n of Q of unit variance, (d, d)."""
    left = order - np.arange(order + 1)
    n = np.add.outer(left, left) + 1
    below = np.array([factorial(k) for k in left.tolist()], dtype=np.float64)
    return n, 1.0 / (n * np.outer(below, below))
