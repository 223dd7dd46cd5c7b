"""The cost of a segment under a Gaussian process whose state is forgotten at each change point."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._rows import table
from hidamari.parameters import paths, unflatten
from hidamari.statespace.kernels import Kernel, bank

__all__ = ["Kalman", "Tracked"]


class Tracked(NamedTuple):
    """A series, and the filters of all candidates."""

    columns: np.ndarray  # (d, T), one row a unit
    complete: np.ndarray  # (d,) bool: no entry of the unit is missing
    A: np.ndarray  # (n, n, C) of n states and C candidates
    Q: np.ndarray  # (n, n, C)
    H: np.ndarray  # (n, C)
    P: np.ndarray  # (n, n, C)
    noise: np.ndarray  # (C,)
    gain: np.ndarray  # (L, n, C) of the first L rows of a segment, after which nothing changes
    weight: np.ndarray  # (L, C)
    logs: np.ndarray  # (L + 1, C)


@dataclass(frozen=True)
class Kalman:
    r"""Minus twice the log marginal likelihood of a Gaussian process with noise, anew in each segment.

    C = sum_j min over candidates of -2 log N(x_j; 0, K + noise I), with K the covariance of the kernel over
    the rows of the segment: every column is an independent unit, and takes the best of the candidates for
    itself. At a change point the state is forgotten and drawn anew from the stationary prior. By Kalman
    filters, linear in the rows; all ends of segments with one start, or all starts with one end, take one
    pass, since a stationary process read backwards is the same process.

    Values are about zero: subtract the mean, or add a `Constant` of large variance to the kernel, which gives
    every segment a level of its own. NaN is not observed.

    Where the state is carried across a change instead, costs of segments do not add up, and dynamic
    programming over them is only approximate.

    Parameters
    ----------
    kernel : Kernel or sequence of Kernel
        Stationary; of several each segment takes the best.
    noise : float or sequence of float
        Variance of the noise; of several each segment takes the best.
    lengthscales : sequence of float or None
        Tried in place of the kernel's own lengthscale, in seconds.
    bin_s : float
        Time from row to row in seconds.

    Raises
    ------
    ValueError
        When prepared, if an argument is not allowed.

    Examples
    --------
    >>> from hidamari.statespace.kernels import Matern
    >>> cost = Kalman(Matern(0, 5.0), noise=0.1, lengthscales=(2.0, 5.0, 20.0))
    >>> cost.cost(cost.prepare([0.3, 0.2, 0.4, -1.0]), 0, 3)
    3.18876
    """

    kernel: Any
    noise: Any = 1.0
    lengthscales: Any = None
    bin_s: float = 1.0
    falls_when_split: ClassVar[bool] = False  # a state that is forgotten is information that is lost

    def candidates(self) -> list[tuple[Kernel, float]]:
        """Every kernel with every variance of the noise."""
        kernels = list(self.kernel) if isinstance(self.kernel, list | tuple) else [self.kernel]
        for kernel in kernels:
            if not (isinstance(kernel, Kernel) and kernel.is_stationary):
                raise ValueError(f"kernel has {kernel!r}: allowed are stationary kernels")
        if self.lengthscales is not None:
            kernels = [_stretched(k, float(scale)) for k in kernels for scale in self.lengthscales]
        noises = np.atleast_1d(np.asarray(self.noise, dtype=np.float64))
        if not (noises.size and np.all(np.isfinite(noises) & (noises > 0.0))) or not kernels:
            raise ValueError(f"noise is {self.noise!r}: allowed are finite numbers above 0")
        return [(kernel, float(noise)) for kernel in kernels for noise in noises]

    def prepare(self, X: ArrayLike) -> Tracked:
        """Filters of all candidates, and their gains in a segment without missing entries."""
        from hidamari.inference._kalman_cost import gains

        x = table(X)
        if not (np.isfinite(self.bin_s) and self.bin_s > 0):
            raise ValueError(f"bin_s is {self.bin_s!r}: allowed are finite numbers above 0")
        kernels, noises = zip(*self.candidates())
        ss = bank(kernels, np.array([self.bin_s]), np.array([-1, 0]))
        A, Q, P = (np.ascontiguousarray(np.moveaxis(a, 0, 2)) for a in (ss.A[0], ss.Q[0], ss.P))
        H, noise = np.ascontiguousarray(ss.H[:, 0].T), np.array(noises)
        n, C = H.shape
        rows = len(x)
        gain, weight, logs = np.empty((rows, n, C)), np.empty((rows, C)), np.empty((rows + 1, C))
        settled = gains(A, Q, H, noise, P.copy(), gain, weight, logs, np.empty(n), np.empty((n, n)))
        # Copies, so that the rows after settling are not kept.
        kept = gain[:settled].copy(), weight[:settled].copy(), logs[: settled + 1].copy()
        columns = np.ascontiguousarray(x.T)
        complete = np.logical_not(np.isnan(columns).any(axis=1))
        return Tracked(columns, complete, A, Q, H, P, noise, *kept)

    def costs(self, cache: Tracked, starts: ArrayLike, ends: ArrayLike) -> np.ndarray:
        """Costs of the segments [starts, ends), filtered from the side on which fewer passes are needed."""
        a, b = np.broadcast_arrays(np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64))
        shape, a, b = a.shape, a.ravel(), b.ravel()
        sign = 1 if _rows_read(a, b - a) <= _rows_read(b, b - a) else -1
        anchors, lengths = (a if sign > 0 else b), b - a
        order = np.lexsort((lengths, anchors))
        out = np.empty(len(a))
        out[order] = _swept(cache, anchors[order], lengths[order], sign)
        return out.reshape(shape)

    def cost(self, cache: Tracked, start: int, end: int) -> float:
        """Cost of the segment [start, end)."""
        return float(self.costs(cache, start, end))

    def splits(self, cache: Tracked, start: int, end: int) -> np.ndarray:
        """Costs (end - start - 1,) of [start, t) plus [t, end) for every t, by a pass from either end."""
        places = np.arange(start + 1, end)
        return self.costs(cache, start, places) + self.costs(cache, places, end)

    def min_length(self, d: int) -> int:
        """One row."""
        return 1

    def n_parameters(self, d: int) -> int:
        """For each column, one for the kernel and one for the noise where there is a choice."""
        kernels = {kernel for kernel, _ in self.candidates()}
        return d * (int(len(kernels) > 1) + int(np.size(self.noise) > 1))


def _stretched(kernel: Kernel, lengthscale: float) -> Kernel:
    """The kernel with another lengthscale."""
    names = [name for name in paths(kernel) if name.split(".")[-1] == "lengthscale"]
    if len(names) != 1:
        raise ValueError(
            f"lengthscales need a kernel with one lengthscale, found {names} in {kernel!r}: give a "
            "sequence of kernels instead"
        )
    if not (np.isfinite(lengthscale) and lengthscale > 0):
        raise ValueError(f"lengthscales has {lengthscale!r}: allowed are finite numbers above 0")
    return unflatten(kernel, np.log([lengthscale]), names)


def _rows_read(anchors: np.ndarray, lengths: np.ndarray) -> int:
    """Count the rows that filters from every distinct anchor read."""
    if len(anchors) and (anchors == anchors[0]).all():
        return int(lengths.max())
    order = np.argsort(anchors, kind="stable")
    first = np.flatnonzero(np.diff(anchors[order], prepend=-1))
    return int(np.maximum.reduceat(lengths[order], first).sum()) if len(anchors) else 0


def _swept(cache: Tracked, anchors: np.ndarray, lengths: np.ndarray, sign: int) -> np.ndarray:
    """Costs of segments on one side of their anchors, summed over units."""
    from hidamari.inference._kalman_cost import sweep, sweep_with_gaps

    out = np.zeros(len(anchors))
    n, C = cache.H.shape
    m, new, e, squares = np.empty((n, C)), np.empty((n, C)), np.empty(C), np.empty(C)
    now, gain, weight = np.empty((n, n, C)), np.empty((1, n, C)), np.empty((1, C))
    PH, AP = np.empty(n), np.empty((n, n))
    for y, complete in zip(cache.columns, cache.complete):
        if complete:
            table = cache.A, cache.H, cache.gain, cache.weight, cache.logs
            sweep(y, anchors, lengths, sign, *table, m, new, e, squares, out)
        else:
            model = cache.A, cache.Q, cache.H, cache.noise, cache.P
            sweep_with_gaps(
                y, anchors, lengths, sign, *model, m, new, e, squares, now, gain, weight, PH, AP, out
            )
    return out
