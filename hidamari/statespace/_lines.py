"""The two kernels that never fade: an oscillation, and an unknown constant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hidamari.parameters import parameter
from hidamari.statespace._generic import durations, rotation
from hidamari.statespace._kernel import Kernel, Linearised, Slope, checked_names

__all__ = ["Constant", "Cosine"]


@dataclass(frozen=True)
class Cosine(Kernel):
    """Oscillation of random amplitude and phase that never fades: variance cos(2 pi frequency tau).

    Parameters
    ----------
    frequency : float
        In Hz, 0 or more.
    variance : float
        k(0).

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> Cosine(frequency=10.0)([0.0, 0.05]).round(6).tolist()
    [1.0, -1.0]
    """

    frequency: float = parameter(1.0, "nonnegative")
    variance: float = parameter(1.0, "positive")

    @property
    def line_spectrum(self) -> bool:
        """Return True: it never fades."""
        return True

    def __call__(self, tau: Any) -> np.ndarray:
        """Return the covariance at lags `tau` in seconds."""
        return self.variance * rotation(self.frequency, np.asarray(tau, dtype=np.float64))[..., 0, 0]

    def generator(self) -> np.ndarray:
        """Return F, (2, 2), in 1/s."""
        return 2.0 * np.pi * self.frequency * np.array([[0.0, -1.0], [1.0, 0.0]])

    def stationary(self) -> np.ndarray:
        """Return P, (2, 2)."""
        return self.variance * np.eye(2)

    def readout(self) -> np.ndarray:
        """Return H, (2,)."""
        return np.array([1.0, 0.0])

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """Return A(dt), a rotation, (S,) -> (S, 2, 2)."""
        return rotation(self.frequency, durations(dt))

    def process_noise(self, dt: np.ndarray) -> np.ndarray:
        """Return Q = 0, (S,) -> (S, 2, 2)."""
        return np.zeros((len(durations(dt, 0.0)), 2, 2))

    def linearise(self, gaps: np.ndarray, names: Sequence[str]) -> Linearised:
        """Return A, Q, P and their derivatives: a rotation turns, a variance scales."""
        names, gaps = checked_names(self, names), durations(gaps, 0.0)
        A, P, still = self.transition(gaps), self.stationary(), np.broadcast_to(0.0, (len(gaps), 2, 2))
        slopes = []
        for name in names:
            if name == "variance":
                slopes.append(Slope(still, still, P))
            else:  # d/d log b of R(2 pi b dt) is 2 pi b dt times R turned by a right angle
                turned = np.stack([-A[:, 1], A[:, 0]], axis=1)
                angle = (2.0 * np.pi * self.frequency) * gaps
                slopes.append(Slope(angle[:, None, None] * turned, still, np.zeros((2, 2))))
        return Linearised(A, still, P, slopes)


@dataclass(frozen=True)
class Constant(Kernel):
    """Unknown constant: k(tau) = variance at every lag.

    Parameters
    ----------
    variance : float
        k(0).

    Raises
    ------
    ValueError
        If `variance` is not finite and positive.

    Examples
    --------
    >>> kernel = 0.5 * Cosine(frequency=3.0) + Constant(2.0)
    >>> kernel([0.0, 1e6]).tolist()
    [2.5, 2.5]
    """

    variance: float = parameter(1.0, "positive")

    @property
    def line_spectrum(self) -> bool:
        """Return True: it never fades."""
        return True

    def __call__(self, tau: Any) -> np.ndarray:
        """Return the covariance at lags `tau` in seconds."""
        return np.full(np.shape(tau), self.variance)

    def generator(self) -> np.ndarray:
        """Return F = 0, (1, 1)."""
        return np.zeros((1, 1))

    def stationary(self) -> np.ndarray:
        """Return P, (1, 1)."""
        return np.full((1, 1), self.variance)

    def readout(self) -> np.ndarray:
        """Return H, (1,)."""
        return np.ones(1)

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """Return A = 1, (S,) -> (S, 1, 1)."""
        return np.ones((len(durations(dt)), 1, 1))

    def process_noise(self, dt: np.ndarray) -> np.ndarray:
        """Return Q = 0, (S,) -> (S, 1, 1)."""
        return np.zeros((len(durations(dt, 0.0)), 1, 1))

    def linearise(self, gaps: np.ndarray, names: Sequence[str]) -> Linearised:
        """Return A, Q, P and their derivatives."""
        names, A, P = checked_names(self, names), self.transition(durations(gaps, 0.0)), self.stationary()
        still = np.broadcast_to(0.0, A.shape)
        return Linearised(A, still, P, [Slope(still, still, P) for _ in names])
