"""Markov kernels: covariance, spectrum and exact state space of each, and their algebra.

A kernel k(tau) = E[f(t) f(t + tau)] here is the read-out f = H x of a stationary linear-Gaussian state

    dx = F x dt + dB,  Cov dB = D dt,      x(t + dt) = A(dt) x(t) + w,  w ~ N(0, Q(dt)),      Cov x = P

with A(dt) = exp(F dt), k(tau) = H A(|tau|) P H', and F P + P F' + D = 0. Kernels add (``+``) and multiply
(``*``, also by a positive number). Times and lengthscales share one unit, seconds throughout the package;
frequencies are in cycles per that unit, Hz. `Wiener` alone is not stationary: its P is the covariance at the
first row, and `covariance` takes the place of k(tau).

A new kernel is one frozen dataclass with three methods; everything else follows from them:

>>> from dataclasses import dataclass
>>> import numpy as np
>>> from hidamari.parameters import parameter
>>> from hidamari.statespace.kernels import Constant, Kernel
>>> @dataclass(frozen=True)
... class Damped(Kernel):  # f'' + damping f' + (2 pi frequency)^2 f = white noise
...     frequency: float = parameter(1.0, "positive")
...     damping: float = parameter(1.0, "positive")
...
...     def generator(self):  # F, of the states f and f' / (2 pi frequency)
...         omega = 2 * np.pi * self.frequency
...         return np.array([[0.0, omega], [-omega, -self.damping]])
...
...     def stationary(self):  # P
...         return np.eye(2)
...
...     def readout(self):  # H
...         return np.array([1.0, 0.0])
>>> kernel = Damped(frequency=2.0) + Constant(0.5)
>>> kernel([0.0, 0.25]).round(3).tolist()
[1.5, -0.382]

Where a closed form is faster or more exact it may also define ``transition``, ``process_noise``,
``diffusion``, ``spectral_density`` or ``__call__``. Choose states of like size (derivatives over powers of
the rate, as above), and never form Q as P - A P A': at small steps that loses every digit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hidamari.parameters import check, is_jax, parameter
from hidamari.statespace import _matern
from hidamari.statespace._algebra import Product, Sum
from hidamari.statespace._bank import bank
from hidamari.statespace._generic import durations
from hidamari.statespace._kernel import Kernel, Linearised, Slope, checked_names
from hidamari.statespace._lines import Constant, Cosine
from hidamari.statespace._periodic import Periodic
from hidamari.statespace._squared_exponential import SquaredExponential
from hidamari.statespace._steps import steps
from hidamari.statespace._trend import Wiener

__all__ = [
    "Constant",
    "Cosine",
    "HidaMatern",
    "Kernel",
    "Matern",
    "Periodic",
    "Product",
    "QuasiPeriodic",
    "SquaredExponential",
    "Sum",
    "Wiener",
    "bank",
    "steps",
]


@dataclass(frozen=True)
class Matern(Kernel):
    """Matern kernel of smoothness order + 1/2: paths with `order` derivatives.

    k(tau) = variance exp(-x) p! / (2p)! sum_i (p + i)! / (i! (p - i)!) (2x)^(p - i), with p = order and
    x = sqrt(2p + 1) |tau| / lengthscale. Order 0 is the Ornstein-Uhlenbeck process; orders 3 and more are
    close to the squared exponential. The d = p + 1 states are f^(i) / (sqrt(2p + 1) / lengthscale)^i.

    Parameters
    ----------
    order : int
        p, from 0 to 6.
    lengthscale : float
        In seconds.
    variance : float
        k(0).

    Raises
    ------
    ValueError
        If `order` is not a whole number from 0 to 6, or another parameter is not finite and positive.

    References
    ----------
    C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, 2006, section 4.2.
    J. Hartikainen and S. Särkkä, Kalman filtering and smoothing solutions to temporal Gaussian process
    regression models, 2010.

    Examples
    --------
    >>> kernel = Matern(order=2, lengthscale=0.5)
    >>> kernel([0.0, 0.5]).round(3).tolist()
    [1.0, 0.524]
    >>> kernel.state_space(np.arange(100) * 0.01).A.shape
    (1, 1, 3, 3)
    """

    order: int = parameter(1, "integer")
    lengthscale: float = parameter(1.0, "positive")
    variance: float = parameter(1.0, "positive")

    def __post_init__(self):
        check(self)
        _check_order(self.order)

    def __call__(self, tau: Any) -> np.ndarray:
        """Return the covariance at lags `tau` in seconds."""
        return self.variance * _matern.correlation(self.order, np.abs(self._scaled(tau)))

    def generator(self) -> np.ndarray:
        """Return F, (p + 1, p + 1), in 1/s."""
        return self._rate * _matern.generator(self.order)

    def stationary(self) -> np.ndarray:
        """Return P, (p + 1, p + 1)."""
        return self.variance * _matern.stationary(self.order)

    def readout(self) -> np.ndarray:
        """Return H, (p + 1,)."""
        return np.eye(1, self.order + 1)[0]

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """Return A(dt), (S,) -> (S, p + 1, p + 1)."""
        return _matern.transition(self.order, self._scaled(durations(dt)))

    def process_noise(self, dt: np.ndarray) -> np.ndarray:
        """Return Q(dt), (S,) -> (S, p + 1, p + 1)."""
        return self.variance * _matern.noise(self.order, self._scaled(durations(dt, 0.0)))

    def diffusion(self) -> np.ndarray:
        """Return D: the noise drives the highest derivative alone, (p + 1, p + 1)."""
        D = np.zeros((self.order + 1, self.order + 1))
        D[-1, -1] = self.variance * self._rate * _matern.intensity(self.order)
        return D

    def spectral_density(self, frequency: Any) -> np.ndarray:
        """Return S(f) = variance q / lam (1 + (2 pi f / lam)^2)^-(p + 1), lam = sqrt(2p + 1) / lengthscale.

        q = 2^(2p + 1) p!^2 / (2p)! is the intensity of the driving noise in the time lam t.
        """
        with np.errstate(over="ignore"):  # far out the density is 0
            x = 2.0 * np.pi * self._frequencies(frequency) / self._rate
            shape = (1.0 + x * x) ** -(self.order + 1.0)
        return self.variance * _matern.intensity(self.order) / self._rate * shape

    def linearise(self, gaps: np.ndarray, names: Sequence[str]) -> Linearised:
        """Return A, Q, P and their derivatives, in closed form.

        The lengthscale acts through u alone: d/d log lengthscale = -u d/du, with dA/du = (N - I) A and
        dQ/du = g(u) g(u)', a square, in which nothing cancels.
        """
        names, u = checked_names(self, names), self._scaled(durations(gaps, 0.0))
        A, Q, P = (
            _matern.transition(self.order, u),
            self.variance * _matern.noise(self.order, u),
            self.stationary(),
        )
        still, slopes = np.broadcast_to(0.0, A.shape), []
        for name in names:
            if name == "variance":
                slopes.append(Slope(still, Q, P))
            else:
                dA, dQ = _matern.stretched(self.order, u, A)
                slopes.append(Slope(dA, self.variance * dQ, np.zeros_like(P)))
        return Linearised(A, Q, P, slopes)

    @property
    def _rate(self) -> float:
        """Return lam = sqrt(2p + 1) / lengthscale, in 1/s."""
        return np.sqrt(2.0 * self.order + 1.0) / self.lengthscale

    def _scaled(self, dt: Any) -> np.ndarray:
        """Return u = lam dt; an overflow to inf is a gap after which all is forgotten."""
        with np.errstate(over="ignore"):
            return np.asarray(dt, dtype=np.float64) / self.lengthscale * np.sqrt(2.0 * self.order + 1.0)


class _Short(Kernel):
    """A kernel that is short for another one, its parts."""

    @property
    def _parts(self) -> Kernel:
        """Return the kernel that it stands for."""
        raise NotImplementedError

    def __call__(self, tau: Any) -> np.ndarray:
        """Return the covariance at lags `tau` in seconds."""
        return self._parts(tau)

    def generator(self) -> np.ndarray:
        """Return F, (d, d), in 1/s."""
        return self._parts.generator()

    def stationary(self) -> np.ndarray:
        """Return P, (d, d)."""
        return self._parts.stationary()

    def readout(self) -> np.ndarray:
        """Return H, (d,)."""
        return self._parts.readout()

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """Return A(dt), (S,) -> (S, d, d)."""
        return self._parts.transition(dt)

    def process_noise(self, dt: np.ndarray) -> np.ndarray:
        """Return Q(dt), (S,) -> (S, d, d)."""
        return self._parts.process_noise(dt)

    def diffusion(self) -> np.ndarray:
        """Return D, (d, d)."""
        return self._parts.diffusion()


@dataclass(frozen=True)
class HidaMatern(_Short):
    """Hida-Matern kernel: a Matern process that oscillates, k(tau) = Matern(tau) cos(2 pi frequency tau).

    Sums of these reach every stationary Gauss-Markov process. The state is that of the Matern kernel, times a
    rotation: d = 2 (order + 1), and order + 1 when the frequency is 0.

    Parameters
    ----------
    order : int
        From 0 to 6, as in `Matern`.
    lengthscale : float
        In seconds.
    frequency : float
        In Hz, 0 or more.
    variance : float
        k(0).

    Raises
    ------
    ValueError
        If `order` is not a whole number from 0 to 6, or another parameter is out of range.

    References
    ----------
    M. Dowling, P. Sokół, I. M. Park, Hida-Matérn kernel, arXiv:2107.07098, 2021.

    Examples
    --------
    >>> kernel = HidaMatern(order=1, lengthscale=0.3, frequency=8.0)
    >>> kernel([0.0, 0.0625, 0.125]).round(3).tolist()
    [1.0, -0.949, 0.837]
    >>> kernel.stationary().shape
    (4, 4)
    """

    order: int = parameter(1, "integer")
    lengthscale: float = parameter(1.0, "positive")
    frequency: float = parameter(0.0, "nonnegative")
    variance: float = parameter(1.0, "positive")

    def __post_init__(self):
        check(self)
        _check_order(self.order)

    def spectral_density(self, frequency: Any) -> np.ndarray:
        """Return S(f): half of the Matern density shifted up by the frequency, half shifted down."""
        return self._parts.spectral_density(frequency)

    def linearise(self, gaps: np.ndarray, names: Sequence[str]) -> Linearised:
        """Return A, Q, P and their derivatives, in closed form."""
        names, parts = checked_names(self, names), self._parts
        if isinstance(parts, Product):
            names = [("second." if name == "frequency" else "first.") + name for name in names]
        return parts.linearise(gaps, names)

    @property
    def _parts(self) -> Kernel:
        """Return the same kernel by name of its factors."""
        matern = Matern(self.order, self.lengthscale, self.variance)
        oscillates = is_jax(self.frequency) or self.frequency > 0.0
        return Product(matern, Cosine(self.frequency)) if oscillates else matern


@dataclass(frozen=True)
class QuasiPeriodic(_Short):
    """Quasi-periodic kernel: a form that repeats and slowly changes, Periodic times Matern.

    k(tau) = variance Matern(tau / decay) exp(-2 sin^2(pi tau / period) / lengthscale^2), the second factor
    cut after `harmonics` terms as in `Periodic`: a Hida-Matern process at each harmonic. It has
    (order + 1) (1 + 2 harmonics) states.

    Parameters
    ----------
    period : float
        In seconds.
    lengthscale : float
        Of the path within a period, as in `Periodic`; without a unit.
    decay : float
        Lengthscale of the Matern kernel, in seconds: how long the form is kept.
    variance : float
        k(0).
    harmonics : int
        Number of harmonics kept, 1 or more.
    order : int
        Of the Matern kernel, from 0 to 6.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    A. Solin and S. Särkkä, Explicit link between periodic covariance functions and state space models,
    AISTATS 2014.

    Examples
    --------
    >>> kernel = QuasiPeriodic(period=1.0, decay=5.0, harmonics=4)
    >>> kernel([0.0, 0.5, 1.0, 2.0]).round(3).tolist()
    [1.0, 0.134, 0.952, 0.847]
    >>> kernel.stationary().shape
    (18, 18)
    """

    period: float = parameter(1.0, "positive")
    lengthscale: float = parameter(1.0, "positive")
    decay: float = parameter(10.0, "positive")
    variance: float = parameter(1.0, "positive")
    harmonics: int = parameter(7, "integer")
    order: int = parameter(1, "integer")

    def __post_init__(self):
        check(self)
        _check_order(self.order)
        Periodic(self.period, self.lengthscale, 1.0, self.harmonics)

    def spectral_density(self, frequency: Any) -> np.ndarray:
        """Return S(f): the Matern density at each harmonic of the period, shifted up and down."""
        frequency, density = self._frequencies(frequency), 0.0
        matern, weights = self._parts.first, np.diag(self._parts.second.stationary())[::2]
        for j, weight in enumerate(weights):
            shift = j / self.period
            both = matern.spectral_density(frequency - shift) + matern.spectral_density(frequency + shift)
            density = density + weight / 2.0 * both
        return np.asarray(density)

    def linearise(self, gaps: np.ndarray, names: Sequence[str]) -> Linearised:
        """Return A, Q, P and their derivatives, in closed form."""
        homes = {"decay": "first.lengthscale", "variance": "first.variance"}
        names = [homes.get(name, "second." + name) for name in checked_names(self, names)]
        return self._parts.linearise(gaps, names)

    @property
    def _parts(self) -> Product:
        """Return the same kernel by name of its factors."""
        matern = Matern(self.order, self.decay, self.variance)
        return Product(matern, Periodic(self.period, self.lengthscale, 1.0, self.harmonics))


def _check_order(order: int) -> None:
    """Raise the ValueError for an order that is too high."""
    if order > _matern.MAX_ORDER:
        raise ValueError(f"order must be a whole number from 0 to {_matern.MAX_ORDER}, got {order}")
