r"""Kernel hyperparameters by the evidence of the sites.

With the sites held, log Z(theta) = log of the integral of prior(theta) times sites has, at a fixed point of
the natural-gradient steps, the same derivatives as the ELBO, and follows it further away from there than the
ELBO with q held does. One pass of the adjoint smoother gives its derivatives by A, Q and P (see
:func:`hidamari.statespace.kalman.evidence_gradient`); those of A, Q and P by each hyperparameter are closed
forms of the kernel, on as few matrices as there are distinct steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hidamari.parameters import flatten, unflatten
from hidamari.statespace.kernels import Kernel
from hidamari.statespace.types import StateSpace

__all__ = ["Memory", "bounds", "improve_kernels", "kernel_log_prior", "movable"]

_LONGEST = 0.7  # the longest step of a logarithm: a factor of two
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


class Memory(NamedTuple):
    """What a kernel step leaves for the next: where it was, the slope there, curvatures used."""

    vector: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray

    def refused(self) -> "Memory":
        """After a step that lowered the objective: the next one is four times more careful."""
        return self._replace(curvature=4.0 * self.curvature)


def improve_kernels(
    kernels: Sequence[Kernel],
    names: Sequence[str],
    gaps: np.ndarray,
    step: np.ndarray,
    slope: StateSpace,
    limits: Sequence[tuple[float, float]],
    centre: np.ndarray,
    memory: Memory | None = None,
) -> tuple[list[Kernel], Memory]:
    """One quasi-Newton step on log Z(theta; sites) plus the log prior of theta.

    The latents are nearly independent given their sites, so the curvature is kept as a diagonal: at first the
    number of correlation times or cycles the data span, then the secant between steps.

    Parameters
    ----------
    kernels : sequence of Kernel
        One a latent.
    names : sequence of str
        Which hyperparameters move, as from :func:`movable`.
    gaps, step : ndarray
        The distinct steps and which one leads to each row, as from ``kernels.steps``.
    slope : StateSpace
        Derivatives of log Z by the chains' matrices at ``kernels``, the sites held fixed.
    limits, centre : sequence
        Bounds of the logarithms, and the centre of their prior.
    memory : Memory, optional
        From the step before.

    Returns
    -------
    list of Kernel and Memory
        The proposal, and what the next step wants to know.
    """
    kernels, names = list(kernels), list(names)
    lower, upper = np.transpose(limits)
    vector = flatten(kernels, names)[0]
    gap = (vector - centre) / LOG_SPREAD
    gradient = np.array([_along(kernels, name, gaps, slope) for name in names]) - gap / LOG_SPREAD
    if memory is None:
        span = float(gaps[step[step >= 0]].sum())
        sign = np.array([1.0 if name.endswith("frequency") else -1.0 for name in names])
        curvature = 1.0 + np.clip(0.3 * span * np.exp(sign * vector), 0.0, 0.1 * len(step))
    else:
        moved = vector - memory.vector
        bend = (memory.gradient - gradient) / np.where(moved == 0.0, 1.0, moved)
        seen = (np.abs(moved) > 1e-8) & (bend > 0.0)
        bounded = np.clip(bend, 0.1 * memory.curvature, 10.0 * memory.curvature)
        curvature = np.where(seen, np.sqrt(bounded * memory.curvature), memory.curvature)
    proposal = np.clip(vector + np.clip(gradient / curvature, -_LONGEST, _LONGEST), lower, upper)
    return unflatten(kernels, proposal, names), Memory(vector, gradient, curvature)


def _along(kernels: list[Kernel], name: str, gaps: np.ndarray, slope: StateSpace) -> float:
    """d log Z / d log theta for one hyperparameter, through the A, Q and P of the one chain it shapes."""
    chain, path = name.split(".", 1)
    c, kernel = int(chain), kernels[int(chain)]
    d = len(kernel.readout())
    ((dA, dQ, dP),) = kernel.derivatives(gaps, [path])
    total = np.vdot(slope.A[:, c, :d, :d], dA) + np.vdot(slope.Q[:, c, :d, :d], dQ)
    return float(total + np.vdot(slope.P[c, :d, :d], dP))
