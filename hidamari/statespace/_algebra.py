"""What every kernel can do, the two kernels that never fade, and the sum and product of kernels."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from hidamari.parameters import check, parameter
from hidamari.statespace._generic import (
    block_diagonal,
    discretise,
    driving_noise,
    durations,
    kronecker,
    rotation,
    spectrum,
)
from hidamari.statespace._steps import steps
from hidamari.statespace.types import StateSpace

__all__ = ["Constant", "Cosine", "Kernel", "Product", "Sum", "bank"]


class Kernel:
    """What every kernel can do; the module docstring explains the symbols and how to add a kernel.

    Examples
    --------
    >>> kernel = Cosine(frequency=8.0, variance=2.0) + Constant(0.5)
    >>> kernel([0.0, 0.0625]).round(3).tolist()
    [2.5, -1.5]
    >>> kernel.transition([0.0625]).shape
    (1, 3, 3)
    """

    __array_ufunc__ = None  # so that np.float64(2.0) * kernel comes to __rmul__

    def __post_init__(self):
        check(self)

    def __add__(self, other: "Kernel") -> "Sum":
        return Sum(self, other) if isinstance(other, Kernel) else NotImplemented

    def __mul__(self, other: "Kernel | float") -> "Product":
        other = Constant(float(other)) if isinstance(other, Real) else other
        return Product(self, other) if isinstance(other, Kernel) else NotImplemented

    def __rmul__(self, other: float) -> "Product":
        return Product(Constant(float(other)), self) if isinstance(other, Real) else NotImplemented

    def __call__(self, tau: Any) -> np.ndarray:
        """Return the covariance k(tau) = H A(|tau|) P H' at lags `tau` in seconds, of the same shape."""
        tau = np.asarray(tau, dtype=np.float64)
        H = self.readout()
        return (self.transition(np.abs(tau).ravel()) @ (self.stationary() @ H) @ H).reshape(tau.shape)

    def generator(self) -> np.ndarray:
        """Return F, (d, d), in 1/s: A(dt) = exp(F dt)."""
        raise NotImplementedError(f"{type(self).__name__} must define generator(), the matrix F")

    def stationary(self) -> np.ndarray:
        """Return P, the covariance of the state at any time, (d, d)."""
        raise NotImplementedError(f"{type(self).__name__} must define stationary(), the matrix P")

    def readout(self) -> np.ndarray:
        """Return H, the row that reads f from the state, (d,)."""
        raise NotImplementedError(f"{type(self).__name__} must define readout(), the row H")

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """Return A(dt) at the gaps `dt` in seconds, (S,) -> (S, d, d); a negative gap gives the inverse."""
        F = self.generator()
        return discretise(F, np.zeros_like(F), durations(dt))[0]

    def process_noise(self, dt: np.ndarray) -> np.ndarray:
        """Return Q(dt) at the gaps `dt` >= 0 in seconds, (S,) -> (S, d, d)."""
        return discretise(self.generator(), self.diffusion(), durations(dt, 0.0))[1]

    def diffusion(self) -> np.ndarray:
        """Return D = -(F P + P F'), the intensity of the driving noise, (d, d)."""
        return driving_noise(self.generator(), self.stationary())

    def spectral_density(self, frequency: Any) -> np.ndarray:
        """Return the two-sided density S(f), k(tau) = int S(f) exp(2 pi i f tau) df, at `frequency` in Hz.

        Raises ValueError for a kernel with a line spectrum, which has no density.
        """
        frequency = self._frequencies(frequency)
        return spectrum(self.generator(), self.diffusion(), self.readout(), frequency)

    def state_space(self, times: Any) -> StateSpace:
        """Return the chain of this kernel at sorted `times` in seconds, as `steps` takes them: C = k = 1."""
        return bank([self], *steps(times))

    @property
    def line_spectrum(self) -> bool:
        """Say whether k never fades, so that its spectrum has lines (power at single frequencies)."""
        return False

    def _frequencies(self, frequency: Any) -> np.ndarray:
        """Return `frequency` as float64, or raise the ValueError for a kernel without a density."""
        if self.line_spectrum:
            raise ValueError(
                f"{self!r} has a line spectrum (power at single frequencies, from Constant or Cosine), "
                "which has no density: take the density of the other parts"
            )
        return np.asarray(frequency, dtype=np.float64)


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


@dataclass(frozen=True, repr=False)
class Sum(Kernel):
    """Sum of two independent processes; written ``first + second``.

    Parameters
    ----------
    first, second : Kernel
        The states are stacked: d = d1 + d2.

    Raises
    ------
    ValueError
        If a part is not a kernel.

    Examples
    --------
    >>> Cosine(8.0) + Constant(0.1)
    Cosine(frequency=8.0, variance=1.0) + Constant(variance=0.1)
    """

    first: Kernel
    second: Kernel

    def __post_init__(self):
        _check_parts(self.first, self.second)

    def __repr__(self):
        second = f"({self.second!r})" if isinstance(self.second, Sum) else repr(self.second)
        return f"{self.first!r} + {second}"

    def __call__(self, tau: Any) -> np.ndarray:
        """Return the covariance at lags `tau` in seconds."""
        return self.first(tau) + self.second(tau)

    def generator(self) -> np.ndarray:
        """Return F, block diagonal, (d, d), in 1/s."""
        return block_diagonal(self.first.generator(), self.second.generator())

    def stationary(self) -> np.ndarray:
        """Return P, block diagonal, (d, d)."""
        return block_diagonal(self.first.stationary(), self.second.stationary())

    def readout(self) -> np.ndarray:
        """Return H, (d,)."""
        return np.concatenate([self.first.readout(), self.second.readout()])

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """Return A(dt), block diagonal, (S,) -> (S, d, d)."""
        return block_diagonal(self.first.transition(dt), self.second.transition(dt))

    def process_noise(self, dt: np.ndarray) -> np.ndarray:
        """Return Q(dt), block diagonal, (S,) -> (S, d, d)."""
        return block_diagonal(self.first.process_noise(dt), self.second.process_noise(dt))

    def diffusion(self) -> np.ndarray:
        """Return D, block diagonal, (d, d)."""
        return block_diagonal(self.first.diffusion(), self.second.diffusion())

    def spectral_density(self, frequency: Any) -> np.ndarray:
        """Return the sum of the two densities."""
        frequency = self._frequencies(frequency)
        return self.first.spectral_density(frequency) + self.second.spectral_density(frequency)

    @property
    def line_spectrum(self) -> bool:
        """Say whether a part never fades."""
        return self.first.line_spectrum or self.second.line_spectrum


@dataclass(frozen=True, repr=False)
class Product(Kernel):
    """Product of two kernels; written ``first * second``, and ``2.0 * kernel`` for a `Constant` factor.

    Parameters
    ----------
    first, second : Kernel
        The state is the Kronecker product of theirs: d = d1 d2.

    Raises
    ------
    ValueError
        If a part is not a kernel.

    Examples
    --------
    >>> 2.0 * (Cosine(8.0) + Constant(0.1))
    Constant(variance=2.0) * (Cosine(frequency=8.0, variance=1.0) + Constant(variance=0.1))
    """

    first: Kernel
    second: Kernel

    def __post_init__(self):
        _check_parts(self.first, self.second)

    def __repr__(self):
        first = f"({self.first!r})" if isinstance(self.first, Sum) else repr(self.first)
        second = f"({self.second!r})" if isinstance(self.second, (Sum, Product)) else repr(self.second)
        return f"{first} * {second}"

    def __call__(self, tau: Any) -> np.ndarray:
        """Return the covariance at lags `tau` in seconds."""
        return self.first(tau) * self.second(tau)

    def generator(self) -> np.ndarray:
        """Return F = F1 (x) I + I (x) F2, (d, d), in 1/s."""
        F1, F2 = self.first.generator(), self.second.generator()
        return kronecker(F1, np.eye(len(F2))) + kronecker(np.eye(len(F1)), F2)

    def stationary(self) -> np.ndarray:
        """Return P = P1 (x) P2, (d, d)."""
        return kronecker(self.first.stationary(), self.second.stationary())

    def readout(self) -> np.ndarray:
        """Return H = H1 (x) H2, (d,)."""
        return np.kron(self.first.readout(), self.second.readout())

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """Return A(dt) = A1 (x) A2, (S,) -> (S, d, d)."""
        return kronecker(self.first.transition(dt), self.second.transition(dt))

    def process_noise(self, dt: np.ndarray) -> np.ndarray:
        """Return Q(dt) = Q1 (x) P2 + (A1 P1 A1') (x) Q2, (S,) -> (S, d, d); nothing is subtracted."""
        Q = kronecker(self.first.process_noise(dt), self.second.stationary())
        Q2 = self.second.process_noise(dt)
        if Q2.any():
            A1 = self.first.transition(dt)
            Q += kronecker(A1 @ self.first.stationary() @ A1.swapaxes(1, 2), Q2)
        return Q

    def diffusion(self) -> np.ndarray:
        """Return D = D1 (x) P2 + P1 (x) D2, (d, d)."""
        return kronecker(self.first.diffusion(), self.second.stationary()) + kronecker(
            self.first.stationary(), self.second.diffusion()
        )

    def spectral_density(self, frequency: Any) -> np.ndarray:
        """Return the convolution of the two densities: a shift if one factor is Cosine or Constant."""
        frequency = self._frequencies(frequency)
        for factor, other in ((self.first, self.second), (self.second, self.first)):
            if isinstance(factor, Constant):
                return factor.variance * other.spectral_density(frequency)
            if isinstance(factor, Cosine):
                up = other.spectral_density(frequency - factor.frequency)
                return factor.variance / 2.0 * (up + other.spectral_density(frequency + factor.frequency))
        return spectrum(self.generator(), self.diffusion(), self.readout(), frequency)

    @property
    def line_spectrum(self) -> bool:
        """Say whether neither part fades."""
        return self.first.line_spectrum and self.second.line_spectrum


def bank(kernels: Sequence[Kernel], gaps: np.ndarray, step: np.ndarray) -> StateSpace:
    """Build the bank of independent chains of several kernels over one time axis.

    Parameters
    ----------
    kernels : sequence of Kernel, length C
        One for each chain; those with fewer states than the largest are padded with zeros.
    gaps : array_like, shape (S,)
        Distinct gaps in seconds, as from `steps`.
    step : array_like of int, shape (T,)
        Index of the gap before each row, negative at the first row of each trial, as from `steps`.

    Returns
    -------
    StateSpace
        With one read-out for each chain, k = 1.

    Raises
    ------
    ValueError
        If there is no kernel, an entry is no kernel, or `step` points outside of `gaps`.

    Examples
    --------
    >>> ss = bank([Cosine(8.0), Constant()], *steps(np.arange(5) * 0.1))
    >>> ss.A.shape, ss.step.tolist()
    ((1, 2, 2, 2), [-1, 0, 0, 0, 0])
    """
    kernels = list(kernels)
    if not kernels:
        raise ValueError("kernels must have at least one kernel, got none")
    for c, kernel in enumerate(kernels):
        if not isinstance(kernel, Kernel):
            raise ValueError(f"kernels[{c}] must be a kernel, got {kernel!r}")
    gaps = durations(gaps, 0.0)
    step = np.ascontiguousarray(step, dtype=np.int64)
    if step.ndim != 1 or (step.size and step.max() >= len(gaps)):
        raise ValueError(f"step must have shape (T,) with entries below len(gaps) = {len(gaps)}")
    readouts = [kernel.readout() for kernel in kernels]
    S, C, d = len(gaps), len(kernels), max(len(H) for H in readouts)
    ss = StateSpace(
        A=np.zeros((S, C, d, d)),
        Q=np.zeros((S, C, d, d)),
        step=step,
        H=np.zeros((C, 1, d)),
        m=np.zeros((C, d)),
        P=np.zeros((C, d, d)),
    )
    for c, (kernel, H) in enumerate(zip(kernels, readouts)):
        twin, n = kernels.index(kernel), len(H)
        if twin < c:  # latents often share a kernel
            ss.A[:, c], ss.Q[:, c] = ss.A[:, twin], ss.Q[:, twin]
        else:
            ss.A[:, c, :n, :n], ss.Q[:, c, :n, :n] = kernel.transition(gaps), kernel.process_noise(gaps)
        ss.H[c, 0, :n], ss.P[c, :n, :n] = H, kernel.stationary()
    return ss


def _check_parts(first: Any, second: Any) -> None:
    """Raise the ValueError for a part that is no kernel."""
    for name, part in (("first", first), ("second", second)):
        if not isinstance(part, Kernel):
            raise ValueError(f"{name} must be a kernel, got {part!r}")
