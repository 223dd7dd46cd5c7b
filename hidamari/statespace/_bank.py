"""From kernels and gaps to a bank of chains."""

from collections.abc import Sequence

import numpy as np

from hidamari.parameters import is_jax
from hidamari.statespace._generic import durations
from hidamari.statespace._kernel import Kernel
from hidamari.statespace.types import StateSpace

__all__ = ["bank"]


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
        With one read-out for each chain, k = 1. Of jax arrays if the gaps or any parameter are of jax, whose
        values are not checked.

    Raises
    ------
    ValueError
        If there is no kernel, an entry is no kernel, or `step` points outside of `gaps`.

    Examples
    --------
    >>> from hidamari.statespace.kernels import Constant, Cosine, steps
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
    if is_jax(gaps) or is_jax(kernels):
        from hidamari.statespace import _jax_kernels

        return _jax_kernels.bank(kernels, gaps, step)
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
