"""A cost for means of many units of which few change."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference.costs import Mean, Sums

__all__ = ["ThresholdedMean"]


class Spread(NamedTuple):
    """Sums over the rows before each."""

    sums: Sums
    mean: np.ndarray  # (d,) of the series, about the centre of the sums


@dataclass(frozen=True)
class ThresholdedMean:
    """Sum of squares about means of which few differ from those of the whole series.

    C = sum_j (sum_t x_tj^2 - max(s_j^2 / n_j - 2 log d, 0)), x about the mean of each column and s_j the sum
    over the segment: a unit has a mean of its own in the segment where that gains more than 2 log d, what the
    largest of d units without a change gains. Divide the data by the standard deviation of their noise first.

    That of the divide step of Li, Wang and Rinaldo, which shrinks to zero, is `sparse_costs.SparseMean`.

    References
    ----------
    Donoho and Johnstone, Ideal spatial adaptation by wavelet shrinkage, 1994.

    Examples
    --------
    >>> cost = ThresholdedMean()
    >>> cost.cost(cost.prepare([[-1.0, 0.0], [1.0, 0.1], [-1.0, 3.0], [1.0, 3.1]]), 0, 2)
    3.3912943611198916
    """

    falls_when_split: ClassVar[bool] = False  # each segment pays the threshold anew

    def prepare(self, X: ArrayLike) -> Spread:
        """Prefix sums of X, and the mean of each column."""
        sums = Mean().prepare(X)
        d = sums.rows.x.shape[1]
        groups = 1 if sums.rows.shared else d
        whole = sums.prefix[-1]
        return Spread(sums, whole[groups : groups + d] / np.maximum(whole[:groups], 1.0))

    def costs(self, cache: Spread, starts: ArrayLike, ends: ArrayLike) -> np.ndarray:
        """Costs of the segments [starts, ends), which broadcast against each other."""
        prefix, mean = cache.sums.prefix, cache.mean
        d = len(mean)
        groups = 1 if cache.sums.rows.shared else d
        sums = prefix[np.asarray(ends)] - prefix[np.asarray(starts)]
        n, s = sums[..., :groups], sums[..., groups : groups + d]
        about = s - n * mean
        square = sums[..., -1] - (2.0 * s * mean - n * mean**2).sum(axis=-1)
        gain = about**2 / np.maximum(n, 1.0) - 2.0 * np.log(d)
        return square - np.maximum(gain, 0.0).sum(axis=-1)

    def cost(self, cache: Spread, start: int, end: int) -> float:
        """Cost of the segment [start, end)."""
        return float(self.costs(cache, start, end))

    def min_length(self, d: int) -> int:
        """One row."""
        return 1

    def n_parameters(self, d: int) -> int:
        """Of d units without a change about one passes the threshold."""
        return min(d, 2)
