"""The sum and the product of kernels."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from hidamari.parameters import is_jax
from hidamari.statespace._generic import block_diagonal, kronecker, spectrum
from hidamari.statespace._kernel import Kernel, Linearised, Slope, check_stationary, checked_names
from hidamari.statespace._lines import Constant, Cosine

__all__ = ["Product", "Sum", "constant"]


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
        check_stationary(self, "covariance as a function of the lag")
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

    def linearise(self, gaps: np.ndarray, names: Sequence[str]) -> Linearised:
        """Return A, Q, P and their derivatives: the blocks of the part that moves, zeros elsewhere."""
        names = checked_names(self, names)
        one, two = _linearised(self, gaps, names)
        slopes = {}
        still = Slope(*(np.zeros(M.shape) for M in two[:3]))
        for name, slope in zip(_within(names, "first."), one.slopes):
            slopes["first." + name] = Slope(*map(block_diagonal, slope, still))
        still = Slope(*(np.zeros(M.shape) for M in one[:3]))
        for name, slope in zip(_within(names, "second."), two.slopes):
            slopes["second." + name] = Slope(*map(block_diagonal, still, slope))
        A, Q, P = map(block_diagonal, one[:3], two[:3])
        return Linearised(A, Q, P, [slopes[name] for name in names])

    @property
    def is_stationary(self) -> bool:
        """Say whether both parts are stationary."""
        return self.first.is_stationary and self.second.is_stationary

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
        If a part is not a kernel, or one is not stationary and the other no `Constant`.

    Examples
    --------
    >>> 2.0 * (Cosine(8.0) + Constant(0.1))
    Constant(variance=2.0) * (Cosine(frequency=8.0, variance=1.0) + Constant(variance=0.1))
    """

    first: Kernel
    second: Kernel

    def __post_init__(self):
        _check_parts(self.first, self.second)
        for part, other in ((self.first, self.second), (self.second, self.first)):
            if not part.is_stationary and not isinstance(other, Constant):
                raise ValueError(
                    f"a kernel that is not stationary multiplies only a Constant, got {part!r} with {other!r}"
                )

    def __repr__(self):
        first = f"({self.first!r})" if isinstance(self.first, Sum) else repr(self.first)
        second = f"({self.second!r})" if isinstance(self.second, (Sum, Product)) else repr(self.second)
        return f"{first} * {second}"

    def __call__(self, tau: Any) -> np.ndarray:
        """Return the covariance at lags `tau` in seconds."""
        check_stationary(self, "covariance as a function of the lag")
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

    def linearise(self, gaps: np.ndarray, names: Sequence[str]) -> Linearised:
        """Return A, Q, P and their derivatives, by the rule of products.

        With the kept covariance K1 = A1 P1 A1', Q = Q1 (x) P2 + K1 (x) Q2.
        """
        names = checked_names(self, names)
        one, two = _linearised(self, gaps, names)
        noisy = bool(two.Q.any())
        half = one.A @ one.P
        kept = half @ one.A.swapaxes(1, 2)
        Q = kronecker(one.Q, two.P)
        if noisy:
            Q += kronecker(kept, two.Q)
        slopes = {}
        for name, (dA, dQ, dP) in zip(_within(names, "first."), one.slopes):
            dQ = kronecker(dQ, two.P)
            if noisy:
                turned = dA @ half.swapaxes(1, 2)
                change = turned + turned.swapaxes(1, 2) + one.A @ dP @ one.A.swapaxes(1, 2)
                dQ += kronecker(change, two.Q)
            slopes["first." + name] = Slope(kronecker(dA, two.A), dQ, kronecker(dP, two.P))
        for name, (dA, dQ, dP) in zip(_within(names, "second."), two.slopes):
            change = kronecker(one.Q, dP) + kronecker(kept, dQ)
            slopes["second." + name] = Slope(kronecker(one.A, dA), change, kronecker(one.P, dP))
        A, P = kronecker(one.A, two.A), kronecker(one.P, two.P)
        return Linearised(A, Q, P, [slopes[name] for name in names])

    @property
    def is_stationary(self) -> bool:
        """Say whether both parts are stationary: otherwise one is, and the other is a Constant."""
        return self.first.is_stationary and self.second.is_stationary

    @property
    def line_spectrum(self) -> bool:
        """Say whether neither part fades."""
        return self.first.line_spectrum and self.second.line_spectrum


def _linearised(pair: Sum | Product, gaps: np.ndarray, names: list[str]) -> tuple[Linearised, Linearised]:
    """Linearise each part by its own parameters among `names`."""
    return (
        pair.first.linearise(gaps, _within(names, "first.")),
        pair.second.linearise(gaps, _within(names, "second.")),
    )


def _within(names: list[str], part: str) -> list[str]:
    """Return the names of one part, as that part calls them."""
    return [name.removeprefix(part) for name in names if name.startswith(part)]


def constant(factor: Any) -> Any:
    """Return a number as a `Constant`, so that it can multiply a kernel; anything else as it is."""
    if isinstance(factor, Real):
        return Constant(float(factor))
    return Constant(factor) if is_jax(factor) and not isinstance(factor, Kernel) else factor


def _check_parts(first: Any, second: Any) -> None:
    """Raise the ValueError for a part that is no kernel."""
    for name, part in (("first", first), ("second", second)):
        if not isinstance(part, Kernel):
            raise ValueError(f"{name} must be a kernel, got {part!r}")
