"""Costs of segments under sparse models of many columns: the misfit at a penalised estimate.

The estimate is penalised, the cost is not: it is the loss of the rows at that estimate, as in the divide step
of Li, Wang and Rinaldo (ICML 2023). With ``scaled=True`` the penalty of a segment of n rows weighs sqrt(n) in
the sum over its rows, the noise of such sums: one penalty then suits segments of all lengths, of the order
2 sqrt(2 log p) standard deviations of the noise.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._grids import summed
from hidamari.inference._rows import AXES, GRAM, MEAN, Rows, table
from hidamari.inference.costs import Additive

__all__ = ["Blocks", "SparseCovariance", "SparseMean", "SparseRegression"]

_TOLERANCE = 1e-18  # of a coordinate's last gain, of the sum of squares
_ONE = np.ones((1, 1))


class Blocks(NamedTuple):
    """Sums of all rows before each edge of a grid, which keep no more numbers than the rows."""

    rows: Rows
    prefix: np.ndarray  # (cells + 1, m)
    edges: np.ndarray  # (cells + 1,)


@dataclass(frozen=True)
class _Plain(Additive):
    """Rows about zero, with one of the kinds that penalised estimates know."""

    kind: int

    def rows(self, x: np.ndarray, shared: bool) -> Rows:
        """Weights one, values as they are: sparse means about zero."""
        none = np.zeros(x.shape[1])
        return Rows(self.kind, shared or self.kind != MEAN, x, _ONE, none, none, none)


def blocks(X: ArrayLike, kind: int) -> Blocks:
    """Sums on a grid of cells of as many rows as sums a row has numbers over columns."""
    x = table(X)
    p = x.shape[1]
    cell = 1 if kind == MEAN else max(1, p // 2)
    seen = summed(x, _Plain(kind), -(-len(x) // cell), 1)
    return Blocks(seen.rows, seen.prefix, seen.edges)


def before(cache: Blocks, places: np.ndarray) -> np.ndarray:
    """Sums of all rows before each place, (places, m)."""
    from hidamari.inference._segments import prefix_at

    out = np.empty((len(places), cache.prefix.shape[1]))
    prefix_at(cache.rows, cache.prefix, cache.edges, np.asarray(places, dtype=np.int64), out)
    return out


def misfits(
    cache: Blocks,
    starts: ArrayLike,
    ends: ArrayLike,
    penalty: float,
    scaled: bool,
    ridge: float = 0.0,
    tolerance: float = _TOLERANCE,
) -> tuple[np.ndarray, np.ndarray]:
    """Losses of the segments [starts, ends), each at its own penalised estimate, and their rows.

    Starts and ends broadcast. Rows of a mean with missing entries are those of the first column.
    """
    from hidamari.inference._lasso import priced

    a, b = np.broadcast_arrays(np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64))
    places, at = np.unique(np.concatenate([a.ravel(), b.ravel()]), return_inverse=True)
    sums = before(cache, places)
    out = np.empty(a.size)
    first, last = at[: a.size], at[a.size :]
    priced(cache.rows, sums, first, last, float(penalty), scaled, ridge, tolerance, out)
    return out.reshape(a.shape), (sums[last, 0] - sums[first, 0]).reshape(a.shape)


def _check(penalty: float) -> None:
    """Raise the ValueError for a penalty that is negative or not finite."""
    if not (np.ndim(penalty) == 0 and np.isfinite(penalty) and penalty >= 0):
        raise ValueError(f"penalty is {penalty!r}: allowed are finite numbers >= 0")


@dataclass(frozen=True)
class SparseMean:
    r"""Sum of squares about a sparse mean, summed over units.

    C = sum_t |x_t - mu|^2, mu = the segment's mean moved towards zero by penalty / (2 sqrt(n)), which
    minimises sum_t |x_t - mu|^2 + penalty sqrt(n) |mu|_1; or by the penalty itself if not scaled. Noise of
    variance 1; NaN is not observed.

    Parameters
    ----------
    penalty : float
        Weight of the penalty.
    scaled : bool
        Whether the threshold falls with the length of the segment.

    Examples
    --------
    >>> cost = SparseMean(penalty=0.5, scaled=False)
    >>> cost.cost(cost.prepare([[1.0, 0.1], [3.0, -0.1]]), 0, 2)
    2.52
    """

    penalty: float = 1.0
    scaled: bool = True

    def prepare(self, X: ArrayLike) -> Blocks:
        """Sums of X (T, d)."""
        _check(self.penalty)
        return blocks(X, MEAN)

    def costs(self, cache: Blocks, starts: ArrayLike, ends: ArrayLike) -> np.ndarray:
        """Costs of the segments [starts, ends)."""
        return misfits(cache, starts, ends, self.penalty, self.scaled)[0]

    def cost(self, cache: Blocks, start: int, end: int) -> float:
        """Cost of the segment [start, end)."""
        return float(self.costs(cache, start, end))

    def min_length(self, d: int) -> int:
        """One row."""
        return 1

    def n_parameters(self, d: int) -> int:
        """One mean a column, at most."""
        return d


@dataclass(frozen=True)
class SparseRegression:
    r"""Residual sum of squares of the last column on the others with lasso coefficients, no intercept.

    C = sum_t (y_t - z_t' b)^2, b minimising C + penalty sqrt(n) |b|_1; if not scaled, C + 2 n penalty |b|_1,
    where the penalty is the ``alpha`` of scikit-learn. Noise of variance 1; centre the columns first. Rows
    with a missing entry are left out.

    Parameters
    ----------
    penalty : float
        Weight of the penalty.
    scaled : bool
        Whether the weight in the mean loss falls with the length of the segment.

    Examples
    --------
    >>> cost = SparseRegression(penalty=0.5, scaled=False)
    >>> cost.cost(cost.prepare([[1.0, 0.0, 2.0], [0.0, 1.0, 0.1]]), 0, 2)
    1.01
    """

    penalty: float = 1.0
    scaled: bool = True

    def prepare(self, X: ArrayLike) -> Blocks:
        """Sums of X (T, d), whose last column is the response."""
        _check(self.penalty)
        return blocks(X, GRAM)

    def costs(self, cache: Blocks, starts: ArrayLike, ends: ArrayLike) -> np.ndarray:
        """Costs of the segments [starts, ends)."""
        return misfits(cache, starts, ends, self.penalty, self.scaled)[0]

    def cost(self, cache: Blocks, start: int, end: int) -> float:
        """Cost of the segment [start, end)."""
        return float(self.costs(cache, start, end))

    def min_length(self, d: int) -> int:
        """Two rows."""
        return 2

    def n_parameters(self, d: int) -> int:
        """One coefficient a predictor, at most."""
        return d - 1


@dataclass(frozen=True)
class SparseCovariance:
    r"""Gaussian about zero with a sparse precision matrix X, by graphical lasso.

    C = n (tr(S X) - log det X + p log(2 pi)), S the segment's mean of x x', X minimising
    tr(S X) - log det X + alpha sum_(i != j) |X_ij| with alpha = penalty / sqrt(n), or the penalty itself if
    not scaled. Centre the columns first. Rows with a missing entry are left out. Without a penalty this is
    `Covariance` about zero.

    Parameters
    ----------
    penalty : float
        Weight of the penalty.
    scaled : bool
        Whether alpha falls with the length of the segment.

    Examples
    --------
    >>> cost = SparseCovariance(penalty=9.0, scaled=False)
    >>> cost.cost(cost.prepare([[1.0, 1.0], [1.0, 1.0]]), 0, 2)
    11.3515
    """

    penalty: float = 1.0
    scaled: bool = True

    def prepare(self, X: ArrayLike) -> Blocks:
        """Sums of X (T, d)."""
        _check(self.penalty)
        return blocks(X, AXES)

    def costs(self, cache: Blocks, starts: ArrayLike, ends: ArrayLike) -> np.ndarray:
        """Costs of the segments [starts, ends)."""
        found, n = misfits(cache, starts, ends, self.penalty, self.scaled)
        return found + n * cache.rows.x.shape[1] * np.log(2.0 * np.pi)

    def cost(self, cache: Blocks, start: int, end: int) -> float:
        """Cost of the segment [start, end)."""
        return float(self.costs(cache, start, end))

    def min_length(self, d: int) -> int:
        """Without a penalty as many rows as make the covariance regular; with one, two."""
        return 2 if self.penalty > 0 else d

    def n_parameters(self, d: int) -> int:
        """Entries of the precision matrix, at most."""
        return d * (d + 1) // 2
