"""The periodic kernel, as a bank of cosines at the harmonics of its period."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hidamari.parameters import check, parameter
from hidamari.statespace._generic import durations, rotation
from hidamari.statespace._kernel import Kernel, Linearised, Slope, checked_names

__all__ = ["EXTRA", "SHORTEST", "Periodic"]

EXTRA = 48  # terms of the recursion beyond the last harmonic
SHORTEST = 1e-4  # lengthscales below this weigh all harmonics alike


@dataclass(frozen=True)
class Periodic(Kernel):
    """Periodic kernel: every path repeats itself exactly.

    k(tau) = variance exp(-2 sin^2(pi tau / period) / lengthscale^2), cut after `harmonics` terms of its
    Fourier series, variance sum_j w_j cos(2 pi j tau / period). With x = 1 / lengthscale^2 and the modified
    Bessel functions I_j, w_0 = I_0(x) and w_j = 2 I_j(x), divided by their sum so that k(0) = variance is
    kept. The error anywhere is at most `truncation`: 2e-7 of the variance for 7 harmonics at lengthscale 1,
    and for shorter lengthscales

    ===========  ==================================
    lengthscale  harmonics for an error of 1e-3, 1e-6
    ===========  ==================================
    1            4, 7
    0.5          7, 11
    0.3          12, 18
    0.1          35, 51
    ===========  ==================================

    The 1 + 2 harmonics states are a constant and one rotating pair for each harmonic. Multiplied by a Matern
    kernel it is quasi-periodic: see `QuasiPeriodic`.

    Parameters
    ----------
    period : float
        In seconds.
    lengthscale : float
        Of the path within a period; without a unit. About 1 is close to a sine, short ones are rich in form.
    variance : float
        k(0).
    harmonics : int
        Number of harmonics kept, 1 or more.

    Raises
    ------
    ValueError
        If `harmonics` is not a whole number from 1 on, or another parameter is not finite and positive.

    References
    ----------
    A. Solin and S. Särkkä, Explicit link between periodic covariance functions and state space models,
    AISTATS 2014.

    Examples
    --------
    >>> kernel = Periodic(period=2.0, lengthscale=0.8)
    >>> kernel([0.0, 0.5, 1.0, 2.0]).round(3).tolist()
    [1.0, 0.21, 0.044, 1.0]
    """

    period: float = parameter(1.0, "positive")
    lengthscale: float = parameter(1.0, "positive")
    variance: float = parameter(1.0, "positive")
    harmonics: int = parameter(7, "integer")

    def __post_init__(self):
        check(self)
        if self.harmonics < 1:
            raise ValueError(f"harmonics must be a whole number, 1 or more, got {self.harmonics}")

    @property
    def line_spectrum(self) -> bool:
        """Return True: it never fades."""
        return True

    @property
    def truncation(self) -> float:
        """Return the largest possible distance to the kernel with all harmonics."""
        ratio, _ = _ratios(self.harmonics + EXTRA, self.lengthscale)
        # what is cut off is missing once, and once more by the division through the sum of the others
        return 2.0 * self.variance * float(_normalised(ratio)[self.harmonics + 1 :].sum())

    def __call__(self, tau: Any) -> np.ndarray:
        """Return the covariance at lags `tau` in seconds."""
        cosines = rotation(1.0, self._turns(np.asarray(tau, dtype=np.float64)))[..., 0, 0]
        return self.variance * (cosines @ self._weights[0])

    def generator(self) -> np.ndarray:
        """Return F, (d, d), in 1/s."""
        pair = np.array([[0.0, -1.0], [1.0, 0.0]])
        return _pairs((2.0 * np.pi / self.period) * np.arange(self.harmonics + 1.0)[:, None, None] * pair)

    def stationary(self) -> np.ndarray:
        """Return P, diagonal, (d, d)."""
        return _spread(self.variance * self._weights[0])

    def readout(self) -> np.ndarray:
        """Return H, (d,)."""
        return np.concatenate([[1.0], np.tile([1.0, 0.0], self.harmonics)])

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """Return A(dt), a rotation of each pair, (S,) -> (S, d, d)."""
        return _pairs(rotation(1.0, self._turns(durations(dt))))

    def process_noise(self, dt: np.ndarray) -> np.ndarray:
        """Return Q = 0, (S,) -> (S, d, d)."""
        d = 1 + 2 * self.harmonics
        return np.zeros((len(durations(dt, 0.0)), d, d))

    def linearise(self, gaps: np.ndarray, names: Sequence[str]) -> Linearised:
        """Return A, Q, P and their derivatives: the period turns, lengthscale and variance weigh."""
        names, gaps = checked_names(self, names), durations(gaps, 0.0)
        turned = rotation(1.0, self._turns(gaps))
        weights, slopes_of_weights = self._weights
        A, P = _pairs(turned), self.stationary()
        still, slopes = np.broadcast_to(0.0, A.shape), []
        for name in names:
            if name == "period":  # as for the frequency of a Cosine, with the other sign
                angle = -2.0 * np.pi * self._turns(gaps)
                ahead = np.stack([-turned[..., 1, :], turned[..., 0, :]], axis=-2)
                slopes.append(Slope(_pairs(angle[..., None, None] * ahead), still, np.zeros_like(P)))
            else:
                dP = P if name == "variance" else _spread(self.variance * slopes_of_weights)
                slopes.append(Slope(still, still, dP))
        return Linearised(A, still, P, slopes)

    def _turns(self, dt: np.ndarray) -> np.ndarray:
        """Return how often each harmonic turns in dt, (..., harmonics + 1)."""
        return (dt / self.period)[..., None] * np.arange(self.harmonics + 1.0)

    @property
    def _weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Return w and its derivatives by log lengthscale, (harmonics + 1,).

        I_j' = I_(j+1) + j I_j / x, so that d log I_j / d log lengthscale = -2 (x I_(j+1) / I_j + j).
        """
        ratio, x = _ratios(self.harmonics + 1, self.lengthscale)
        w = _normalised(ratio[:-1])
        slope = -2.0 * (x * ratio + np.arange(len(ratio)))
        return w, w * (slope - w @ slope)


def _ratios(n: int, lengthscale: float) -> tuple[np.ndarray, float]:
    """Return I_(j+1)(x) / I_j(x) for j < n, and x, by the recursion downwards, in which all is positive.

    It starts from the bound of D. E. Amos (1974), which is close already.
    """
    x = max(lengthscale, SHORTEST) ** -2.0
    top = n + EXTRA
    r = x / (top + 0.5 + np.hypot(top + 1.5, x))
    ratio = np.empty(n)
    for j in range(top - 1, -1, -1):
        r = x / (2.0 * (j + 1.0) + x * r)
        if j < n:
            ratio[j] = r
    return ratio, x


def _normalised(ratio: np.ndarray) -> np.ndarray:
    """Return the weights 1, 2 I_1 / I_0, 2 I_2 / I_0, ... over their sum."""
    w = np.concatenate([[1.0], 2.0 * np.cumprod(ratio)])
    return w / w.sum()


def _pairs(blocks: np.ndarray) -> np.ndarray:
    """Lay (..., harmonics + 1, 2, 2) on a diagonal; of harmonic 0 only its first state is kept."""
    n = blocks.shape[-3]
    out = np.zeros((*blocks.shape[:-3], n, 2, n, 2))
    out[..., np.arange(n), :, np.arange(n), :] = np.moveaxis(blocks, -3, 0)
    kept = np.arange(2 * n) != 1
    return out.reshape(*blocks.shape[:-3], 2 * n, 2 * n)[..., kept, :][..., kept]


def _spread(weights: np.ndarray) -> np.ndarray:
    """Return the diagonal matrix with the weight of each harmonic at both of its states, (d, d)."""
    return np.diag(np.repeat(weights, 2)[1:])
