"""What every kernel can do, from its three methods alone."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hidamari.parameters import check, flatten, paths, unflatten
from hidamari.statespace._generic import discretise, driving_noise, durations, spectrum
from hidamari.statespace._steps import steps
from hidamari.statespace.types import StateSpace

__all__ = ["Kernel", "Linearised", "Slope", "check_stationary", "checked_names"]

_STEP = 3e-4  # of a coordinate: the error of the formula, h^4 / 30, and rounding, eps / h, are then alike


class Slope(NamedTuple):
    """Derivatives of a kernel's matrices by one parameter."""

    dA: np.ndarray  # (S, d, d)
    dQ: np.ndarray  # (S, d, d)
    dP: np.ndarray  # (d, d)


class Linearised(NamedTuple):
    """A kernel's matrices, and their derivatives by some of its parameters."""

    A: np.ndarray  # (S, d, d)
    Q: np.ndarray  # (S, d, d)
    P: np.ndarray  # (d, d)
    slopes: list[Slope]


class Kernel:
    """What every kernel can do; the module docstring explains the symbols and how to add a kernel.

    Examples
    --------
    >>> from hidamari.statespace.kernels import Constant, Cosine
    >>> kernel = Cosine(frequency=8.0, variance=2.0) + Constant(0.5)
    >>> kernel([0.0, 0.0625]).round(3).tolist()
    [2.5, -1.5]
    >>> kernel.transition([0.0625]).shape
    (1, 3, 3)
    """

    __array_ufunc__ = None  # so that np.float64(2.0) * kernel comes to __rmul__

    def __post_init__(self):
        check(self)

    def __add__(self, other: "Kernel") -> "Kernel":
        from hidamari.statespace._algebra import Sum

        return Sum(self, other) if isinstance(other, Kernel) else NotImplemented

    def __mul__(self, other: "Kernel | float") -> "Kernel":
        from hidamari.statespace._algebra import Product, constant

        other = constant(other)
        return Product(self, other) if isinstance(other, Kernel) else NotImplemented

    def __rmul__(self, other: float) -> "Kernel":
        from hidamari.statespace._algebra import Product, constant

        first = constant(other)
        return Product(first, self) if isinstance(first, Kernel) else NotImplemented

    def __call__(self, tau: Any) -> np.ndarray:
        """Return the covariance k(tau) = H A(|tau|) P H' at lags `tau` in seconds, of the same shape."""
        check_stationary(self, "covariance as a function of the lag")
        tau = np.asarray(tau, dtype=np.float64)
        H = self.readout()
        return (self.transition(np.abs(tau).ravel()) @ (self.stationary() @ H) @ H).reshape(tau.shape)

    def generator(self) -> np.ndarray:
        """Return F, (d, d), in 1/s: A(dt) = exp(F dt)."""
        raise NotImplementedError(f"{type(self).__name__} must define generator(), the matrix F")

    def stationary(self) -> np.ndarray:
        """Return P, the covariance of the state at the first time (at any, if stationary), (d, d)."""
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
        from hidamari.statespace._bank import bank

        return bank([self], *steps(times))

    def derivatives(self, gaps: np.ndarray, names: Sequence[str]) -> list[Slope]:
        """Return the derivatives of A, Q and P by parameters, one (dA, dQ, dP) for each of `names`.

        `gaps` (S,) >= 0 in seconds; `names` are paths as `hidamari.parameters.paths` gives them; the
        derivatives, (S, d, d), (S, d, d) and (d, d), are by the coordinate that `flatten` reads: by the
        logarithm for all but real parameters. They may share memory and may be read-only. H has no
        derivative: `readout` knows no parameters.

        Raises ValueError for a name that is no path of a parameter that can move.
        """
        return self.linearise(gaps, names).slopes

    def linearise(self, gaps: np.ndarray, names: Sequence[str]) -> Linearised:
        """Return A, Q, P and their `derivatives` together, for the price of little more than A and Q.

        Here from differences of the generator and P, which any kernel can do: exact to about 1e-9. A kernel
        with its own `transition` or `process_noise` has differences of these, unless it defines this too.
        """
        names = checked_names(self, names)
        gaps = durations(gaps, 0.0)
        slopes = [_slope(self, gaps, name) for name in names]
        return Linearised(self.transition(gaps), self.process_noise(gaps), self.stationary(), slopes)

    def covariance(self, s: Any, t: Any) -> np.ndarray:
        """Return Cov(f(s_i), f(t_j)), (n, m), at times `s` (n,) and `t` (m,) in seconds.

        The times of a kernel that is not stationary count from its first row, and are not negative.
        """
        s, t = np.atleast_1d(np.asarray(s, np.float64)), np.atleast_1d(np.asarray(t, np.float64))
        if self.is_stationary:
            return self(s[:, None] - t)
        # Cov(x(b), x(a)) = A(b - a) Cov x(a) for a <= b
        H = self.readout()
        first, lag = np.minimum(s[:, None], t).ravel(), np.abs(s[:, None] - t).ravel()
        A = self.transition(first)
        now = A @ self.stationary() @ A.swapaxes(1, 2) + self.process_noise(first)
        return ((self.transition(lag) @ (now @ H)[..., None])[..., 0] @ H).reshape(len(s), len(t))

    @property
    def is_stationary(self) -> bool:
        """Say whether the covariance depends on the lag alone."""
        return True

    @property
    def line_spectrum(self) -> bool:
        """Say whether k never fades, so that its spectrum has lines (power at single frequencies)."""
        return False

    def _frequencies(self, frequency: Any) -> np.ndarray:
        """Return `frequency` as float64, or raise the ValueError for a kernel without a density."""
        check_stationary(self, "spectral density")
        if self.line_spectrum:
            raise ValueError(
                f"{self!r} has a line spectrum (power at single frequencies, from Constant or Cosine), "
                "which has no density: take the density of the other parts"
            )
        return np.asarray(frequency, dtype=np.float64)


def _slope(kernel: Kernel, gaps: np.ndarray, name: str) -> Slope:
    """Return the derivatives by one parameter, from differences of what the kernel defines by itself."""
    own = type(kernel)
    if own.transition is not Kernel.transition or own.process_noise is not Kernel.process_noise:
        moves = (lambda k: k.transition(gaps), lambda k: k.process_noise(gaps), lambda k: k.stationary())
        return Slope(*(_difference(kernel, name, move) for move in moves))
    # The chain (x, dx/dtheta) has the generator [[F, 0], [dF, F]] and the noise [[D, dD/2], [dD/2, 0]]: its
    # lower left blocks are dA and half of dQ, without the error that differences make at long gaps.
    F, D = kernel.generator(), kernel.diffusion()
    dF, dD = (
        _difference(kernel, name, lambda k: k.generator()),
        _difference(kernel, name, lambda k: k.diffusion()),
    )
    dP = _difference(kernel, name, lambda k: k.stationary())
    d, zero = len(F), np.zeros_like(F)
    A, Q = discretise(np.block([[F, zero], [dF, F]]), np.block([[D, dD / 2.0], [dD / 2.0, zero]]), gaps)
    dQ = Q[:, d:, :d]
    return Slope(A[:, d:, :d], dQ + dQ.swapaxes(1, 2), dP)


def _difference(kernel: Kernel, name: str, matrix: Callable[[Kernel], np.ndarray]) -> np.ndarray:
    """Return the derivative of one matrix by one coordinate, from four points."""
    vector, names = flatten(kernel, [name])
    down2, down, up, up2 = (
        matrix(unflatten(kernel, vector + shift * _STEP, names)) for shift in (-2.0, -1.0, 1.0, 2.0)
    )
    return (8.0 * (up - down) - (up2 - down2)) / (12.0 * _STEP)


def checked_names(kernel: Kernel, names: Sequence[str]) -> list[str]:
    """Return `names` as a list, or raise the ValueError for one that is no parameter that can move."""
    names, known = list(names), paths(kernel)
    for name in names:
        if name not in known:
            raise ValueError(f"names has {name!r}, which is not among the parameters {known}")
    return names


def check_stationary(kernel: Kernel, what: str) -> None:
    """Raise the ValueError that a kernel has no such thing because it is not stationary."""
    if not kernel.is_stationary:
        raise ValueError(f"{kernel!r} is not stationary: it has no {what}; use covariance(s, t)")
