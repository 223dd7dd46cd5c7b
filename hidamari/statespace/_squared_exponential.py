"""The squared exponential kernel, as close to it as a few states can come."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from hidamari.parameters import check, parameter
from hidamari.statespace._generic import discretise, durations
from hidamari.statespace._kernel import Kernel, Linearised, Slope, checked_names

__all__ = ["SquaredExponential", "chain"]

# Spectra |b(i w)|^2 / |a(i w)|^2 in units of the lengthscale, by the number of states: the roots of a, one of
# each pair (real part of -s, imaginary part), and b_1, b_2 of b = 1 + b_1 s + b_2 s^2. They minimise the
# largest |k(tau) - exp(-tau^2 / 2)| over all lags (reweighted least squares over the roots, many starts).
# Being squares they are spectra of a process; two zeros gain most of what zeros can, and leave
# order - 3 derivatives to the paths.
_ROOTS = {
    4: (((1.566692644917, 0.632601522603), (1.480045384661, 2.015810983181)), (0.0, 0.04235393749806)),
    5: (
        ((1.724359030984, 1.146276602491), (1.635771257734, 2.442651226244), (1.7510165048, 0.0)),
        (0.0, 0.04128356917072),
    ),
    6: (
        (
            (1.887385202513, 0.514496667152),
            (1.846864914866, 1.580914530629),
            (1.754958582679, 2.803488373697),
        ),
        (0.00176948614854, 0.03858399623355),
    ),
    7: (
        (
            (1.974427317682, 0.956734180646),
            (1.923634416521, 1.966858979575),
            (1.823222918999, 3.134633274313),
            (1.990273316451, 0.0),
        ),
        (0.01738366103607, 0.03574684993304),
    ),
    8: (
        (
            (2.028369233995, 0.444284874214),
            (1.999591840195, 1.35060168451),
            (1.936826349277, 2.320064307336),
            (1.822548934285, 3.452003102556),
        ),
        (0.0, 0.03173444631311),
    ),
}


@dataclass(frozen=True)
class SquaredExponential(Kernel):
    """Squared exponential (Gaussian, RBF) kernel: k(tau) = variance exp(-tau^2 / (2 lengthscale^2)), nearly.

    No Markov process of finitely many states has this covariance. This is the process with `order` states
    whose covariance comes closest to it; its largest error over all lags, relative to the variance, is

    =====  =======  ======  ======  ======
    4      5        6       7       8
    =====  =======  ======  ======  ======
    5e-4   7e-5     1e-5    2e-6    6e-7
    =====  =======  ======  ======  ======

    Its paths have order - 3 derivatives, and where data are dense and noise is low, that decides how they
    interpolate: there it is a very smooth kernel, and not the squared exponential. (The Matern kernel of
    order 6 and the same lengthscale is 0.03 away, with 7 states.) The states are derivatives over powers of
    the rate, of like size.

    Parameters
    ----------
    lengthscale : float
        In seconds.
    variance : float
        k(0).
    order : int
        Number of states, from 4 to 8.

    Raises
    ------
    ValueError
        If `order` is not a whole number from 4 to 8, or another parameter is not finite and positive.

    References
    ----------
    J. Hartikainen and S. Särkkä, Kalman filtering and smoothing solutions to temporal Gaussian process
    regression models, 2010 (which expands the spectrum in a series; the roots used here are fitted).

    Examples
    --------
    >>> kernel = SquaredExponential(lengthscale=2.0)
    >>> kernel([0.0, 2.0, 6.0]).round(4).tolist()
    [1.0, 0.6065, 0.0111]
    """

    lengthscale: float = parameter(1.0, "positive")
    variance: float = parameter(1.0, "positive")
    order: int = parameter(6, "integer")

    def __post_init__(self):
        check(self)
        if self.order not in _ROOTS:
            allowed = f"a whole number from {min(_ROOTS)} to {max(_ROOTS)}"
            raise ValueError(f"order must be {allowed}, got {self.order}")

    def generator(self) -> np.ndarray:
        """Return F, (order, order), in 1/s."""
        return chain(self.order)[0] / self.lengthscale

    def stationary(self) -> np.ndarray:
        """Return P, (order, order)."""
        return self.variance * chain(self.order)[1]

    def readout(self) -> np.ndarray:
        """Return H, (order,)."""
        return chain(self.order)[3]

    def diffusion(self) -> np.ndarray:
        """Return D: the noise drives the last state alone, (order, order)."""
        return self.variance / self.lengthscale * chain(self.order)[2]

    def linearise(self, gaps: np.ndarray, names: Sequence[str]) -> Linearised:
        """Return A, Q, P and their derivatives: a lengthscale only stretches time."""
        names, gaps = checked_names(self, names), durations(gaps, 0.0)
        F, D, P = self.generator(), self.diffusion(), self.stationary()
        A, Q = discretise(F, D, gaps)
        still, slopes = np.broadcast_to(0.0, A.shape), []
        for name in names:
            if name == "variance":
                slopes.append(Slope(still, Q, P))
            else:  # -dt dA/dt = -dt F A and -dt dQ/dt = -dt A D A', with D in its last entry alone
                back, last = -gaps[:, None, None], A[:, :, -1]
                dQ = back * D[-1, -1] * (last[:, :, None] * last[:, None, :])
                slopes.append(Slope(back * (F @ A), dQ, np.zeros_like(P)))
        return Linearised(A, Q, P, slopes)


@cache
def chain(order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return F, P, D and H of unit lengthscale and variance.

    f = b(d/dt) z with a(d/dt) z white, in the states z^(i) / rate^i.
    """
    pairs, zeros = _ROOTS[order]
    roots = np.array([-re + sign * 1j * im for re, im in pairs for sign in ((1, -1) if im else (1,))])
    a = np.poly(roots).real[::-1]
    rate = a[0] ** (1.0 / order)  # the geometric mean of the roots
    F = np.eye(order, k=1)
    F[-1] = -a[:-1] / rate ** np.arange(order, 0, -1)
    H = np.zeros(order)
    H[:3] = 1.0, zeros[0] * rate, zeros[1] * rate**2
    D, identity = np.zeros((order, order)), np.eye(order)
    D[-1, -1] = 1.0
    lyapunov = np.kron(F, identity) + np.kron(identity, F)
    P = np.linalg.solve(lyapunov, -D.ravel()).reshape(order, order)
    P = (P + P.T) / 2.0  # z^(i) and z^(j) of one time are independent for odd i + j
    P[np.add.outer(np.arange(order), np.arange(order)) % 2 == 1] = 0.0
    scale = H @ P @ H
    out = F * rate, P / scale, D * (rate / scale), H
    for array in out:
        array.flags.writeable = False
    return out
