r"""Kernel hyperparameters by the evidence of the sites.

With the sites held, log Z(theta) = log of the integral of prior(theta) times sites has, at a fixed point of
the natural-gradient steps, the same derivatives as the ELBO, and follows it further away from there than the
ELBO with q held does. One pass of the adjoint smoother gives its derivatives by A, Q and P (see
:func:`hidamari.statespace.kalman.evidence_gradient`); those of A, Q and P by each hyperparameter are central
differences of closed forms, on as few matrices as there are distinct steps.
"""

from collections.abc import Sequence

import numpy as np

from hidamari.parameters import flatten, unflatten
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Kernel, bank
from hidamari.statespace.types import Sites

__all__ = ["bounds", "improve_kernels", "kernel_log_prior", "movable"]

_STEP = 1e-5  # of a logarithm: central differences are then exact to 1e-10
LOG_SPREAD = 1.0  # prior standard deviation of the log of a hyperparameter about its start


def movable(kernels: Sequence[Kernel], fixed: Sequence[str] = ()) -> list[str]:
    """Names of the hyperparameters to learn: all but variances (the loadings carry scale) and ``fixed`` ones.

    A name in ``fixed`` is a full path ("0.lengthscale") or its end ("lengthscale", "frequency").
    """
    names = flatten(list(kernels))[1]

    def held(name: str) -> bool:
        return any(name == other or name.endswith("." + other) for other in ("variance", *fixed))

    return [name for name in names if not held(name)]


def bounds(names: Sequence[str], bin_s: float, duration: float) -> list[tuple[float, float]]:
    """Limits of the logarithms: half a bin to four durations; frequencies up to half the sampling rate."""
    limits = []
    for name in names:
        if name.endswith("frequency"):
            limits.append((np.log(0.1 / duration), np.log(0.5 / bin_s)))
        else:
            limits.append((np.log(0.5 * bin_s), np.log(4.0 * duration)))
    return limits


def kernel_log_prior(kernels: Sequence[Kernel], names: Sequence[str], centre: np.ndarray) -> float:
    """Log density of the hyperparameters, log-normal about where they started, without constants."""
    vector = flatten(list(kernels), names)[0] if names else np.zeros(0)
    return -0.5 * float((((vector - centre) / LOG_SPREAD) ** 2).sum())


def improve_kernels(
    kernels: Sequence[Kernel],
    names: Sequence[str],
    gaps: np.ndarray,
    step: np.ndarray,
    sites: Sites,
    limits: Sequence[tuple[float, float]],
    centre: np.ndarray,
    max_iter: int = 2,
    n_threads: int | None = None,
) -> list[Kernel]:
    """A few quasi-Newton steps on log Z(theta; sites) plus the log prior of theta.

    Parameters
    ----------
    kernels : sequence of Kernel
        One a latent.
    names : sequence of str
        Which hyperparameters move, as from :func:`movable`.
    gaps, step : ndarray
        The distinct steps and which one leads to each row, as from ``kernels.steps``.
    sites : Sites
        Held fixed.
    limits, centre : sequence
        Bounds of the logarithms, and the centre of their prior.
    max_iter : int
        Iterations of L-BFGS.
    """
    from scipy.optimize import minimize

    kernels = list(kernels)
    names = list(names)
    if not names:
        return kernels

    def negative(vector: np.ndarray):
        current = unflatten(kernels, vector, names)
        value, slope = kalman.evidence_gradient(bank(current, gaps, step), sites, n_threads=n_threads)
        gradient = np.array([_along(current, name, gaps, slope) for name in names])
        gap = (vector - centre) / LOG_SPREAD
        return -value + 0.5 * float(gap @ gap), -gradient + gap / LOG_SPREAD

    start = np.clip(flatten(kernels, names)[0], *np.transpose(limits))
    result = minimize(
        negative,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=limits,
        options={"maxiter": max_iter, "maxfun": 4 * max_iter},
    )
    return unflatten(kernels, result.x, names) if np.isfinite(result.fun) else kernels


def _along(kernels: list[Kernel], name: str, gaps: np.ndarray, slope) -> float:
    """d log Z / d log theta for one hyperparameter, through the A, Q and P of the one chain it shapes."""
    chain, path = name.split(".", 1)
    c, kernel = int(chain), kernels[int(chain)]
    vector, names = flatten(kernel, path)
    up, down = (unflatten(kernel, vector + shift, names) for shift in (_STEP, -_STEP))
    d = len(kernel.readout())
    total = np.vdot(slope.A[:, c, :d, :d], up.transition(gaps) - down.transition(gaps))
    total += np.vdot(slope.Q[:, c, :d, :d], up.process_noise(gaps) - down.process_noise(gaps))
    total += np.vdot(slope.P[c, :d, :d], up.stationary() - down.stationary())
    return float(total) / (2 * _STEP)
