"""Costs of segments: what a stretch of data costs when one set of parameters must explain all of it."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._additive import Additive, Holed, Sums
from hidamari.inference._events import EventRows, event_rows
from hidamari.inference._patterns import Holes, gaussian_holes, regression_holes
from hidamari.inference._rows import (
    AXES,
    COUNTS,
    ELLIPSE,
    GRAM,
    MEAN,
    NOISE,
    SPREAD,
    WAITS,
    Rows,
    middle,
    resolution,
    spread,
    table,
)

__all__ = [
    "Additive",
    "Biweight",
    "Cost",
    "Counts",
    "Covariance",
    "EventRows",
    "Exponential",
    "Holed",
    "Mean",
    "MeanVariance",
    "Regression",
    "Sums",
    "Variance",
    "event_rows",
]


@runtime_checkable
class Cost(Protocol):
    """What a segment cost must offer to the engines; segments are rows [start, end), and end - start >= 1.

    The engines look for two things more, which a cost may offer:

    * ``splits(cache, start, end)``: costs (end - start - 1,) of [start, t) plus [t, end) for every t between,
      where one pass gives them all. Searches then try every row, and not a few tens.
    * ``falls_when_split``: whether two neighbouring segments never cost more than the two as one. Where it is
      True searches give up candidates early, as `pelt` does unless it is False.
    """

    def prepare(self, X: ArrayLike) -> Any:
        """Whatever makes later costs cheap, in time linear in the rows."""
        ...

    def costs(self, cache: Any, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Costs of many segments, finite or +inf."""
        ...

    def min_length(self, d: int) -> int:
        """Fewest rows of a segment of d columns."""
        ...

    def n_parameters(self, d: int) -> int:
        """Count the free parameters of a segment of d columns."""
        ...


_ONE = np.ones((1, 1))


@dataclass(frozen=True)
class Mean(Additive):
    """Sum of squares about the segment's mean, summed over units.

    C = sum_j sum_t (x_tj - mean_j)^2: twice the negative log likelihood of Gaussian noise of variance 1, up
    to a constant. Divide the data by the standard deviation of their noise first.

    Examples
    --------
    >>> cost = Mean()
    >>> cost.cost(cost.prepare([0.0, 2.0, 7.0]), 0, 2)
    2.0
    """

    def rows(self, x: np.ndarray, shared: bool) -> Rows:
        """Weights one, values about the middle."""
        none = np.zeros(x.shape[1])
        return Rows(MEAN, shared, x, _ONE, middle(x), none, none)


@dataclass(frozen=True)
class Biweight:
    """Sum of squares about a level, each cut off: C = sum_j min over m of sum_t min((x_tj - m)^2, k^2).

    An outlier costs k^2 wherever the changes are, so that heavy tails make no change points. Divide the data
    by the standard deviation of their noise first. It has no sums: `fpop` is exact and fast for one column.

    Parameters
    ----------
    bound : float
        k, in standard deviations of the noise.

    References
    ----------
    Fearnhead and Rigaill, Changepoint detection in the presence of outliers, 2019.

    Examples
    --------
    >>> cost = Biweight(bound=2.0)
    >>> cost.cost(cost.prepare([0.0, 1.0, 90.0]), 0, 3)
    4.5
    """

    bound: float = 3.0

    def prepare(self, X: ArrayLike) -> np.ndarray:
        """X as rows of float64."""
        if not self.bound > 0:
            raise ValueError(f"bound is {self.bound!r}: allowed are numbers above 0")
        x = table(X)
        if np.isinf(x).any():
            raise ValueError("X has infinite entries: allowed are finite numbers and NaN")
        return x

    def costs(self, cache: np.ndarray, starts: ArrayLike, ends: ArrayLike) -> np.ndarray:
        """Costs of the segments [starts, ends), each in n log n."""
        from hidamari.inference._fpop import biweight

        a, b = np.broadcast_arrays(starts, ends)
        columns = [np.sort(cache[s:e], axis=0).T for s, e in zip(a.ravel(), b.ravel())]
        found = [sum(biweight(np.ascontiguousarray(x), float(self.bound)) for x in c) for c in columns]
        return np.reshape(np.array(found, dtype=np.float64), a.shape)

    def cost(self, cache: np.ndarray, start: int, end: int) -> float:
        """Cost of the segment [start, end)."""
        return float(self.costs(cache, start, end))

    def min_length(self, d: int) -> int:
        """One row."""
        return 1

    def n_parameters(self, d: int) -> int:
        """One level a column."""
        return d


@dataclass(frozen=True)
class MeanVariance(Additive):
    """Gaussian of free mean and variance in every unit: C = sum_j n_j (log(2 pi v_j) + 1).

    v_j is the segment's mean square about its mean. Where it is smaller than r^2 / 12, with r the step in
    which the column was recorded, the likelihood is taken at r^2 / 12, the variance of rounding: a run of
    equal values is otherwise infinitely likely. A column of which the segment saw one entry shows no
    variance: that entry is priced at the variance of the whole column.

    Parameters
    ----------
    step : float or None
        Step r in which values were recorded, in their units; None takes the smallest difference between
        distinct values of a column; 0 takes the values as exact.

    Examples
    --------
    >>> cost = MeanVariance()
    >>> cost.cost(cost.prepare([0.0, 2.0, 7.0]), 0, 2)
    5.67575
    """

    step: float | None = None
    least_rows: ClassVar[int] = 2

    def rows(self, x: np.ndarray, shared: bool) -> Rows:
        """Weights one, values about the middle, their squares."""
        step = resolution(x) if self.step is None else np.full(x.shape[1], float(self.step))
        return Rows(SPREAD, shared, x, _ONE, middle(x), step**2 / 12.0, spread(x))

    def n_parameters(self, d: int) -> int:
        """Mean and variance of each column."""
        return 2 * d


@dataclass(frozen=True)
class Counts(Additive):
    """Poisson counts of a constant rate in every unit: C = 2 sum_j (s_j - s_j log(s_j / e_j)).

    s_j is the number of events of the segment and e_j its exposure: twice the negative log likelihood but for
    the part that knows no rate.

    Parameters
    ----------
    exposure : float or array_like, shape (T,) or (T, d)
        Length of the bins in seconds.

    Examples
    --------
    >>> cost = Counts(exposure=0.5)
    >>> cost.cost(cost.prepare([1, 3, 0]), 0, 2)
    -3.0903
    """

    exposure: Any = 1.0

    def rows(self, x: np.ndarray, shared: bool) -> Rows:
        """Weights are exposures, values counts."""
        exposure = np.asarray(self.exposure, dtype=np.float64)
        exposure = exposure[:, None] if exposure.ndim == 1 else np.atleast_2d(exposure)
        if exposure.shape[0] not in (1, len(x)) or exposure.shape[1] not in (1, x.shape[1]):
            raise ValueError(
                f"exposure has shape {np.shape(self.exposure)}: allowed are a number, "
                f"({len(x)},) and {x.shape}"
            )
        if not np.all(exposure > 0):
            raise ValueError("exposure has entries that are not above 0")
        if np.any(x < 0):
            raise ValueError(f"X has a count of {np.nanmin(x)}: allowed are numbers >= 0 and NaN")
        shared = shared and exposure.shape[1] == 1
        none = np.zeros(x.shape[1])
        return Rows(COUNTS, shared, x, np.ascontiguousarray(exposure), none, none, none)


@dataclass(frozen=True)
class Exponential(Additive):
    """Exponential waiting times of a constant rate in every unit: C = 2 sum_j n_j (1 + log(mean_j)).

    Means below half the step in which the times were recorded are taken as half the step.

    Parameters
    ----------
    step : float or None
        Step of the times, in their units; None takes the smallest difference between distinct values.

    Examples
    --------
    >>> cost = Exponential()
    >>> cost.cost(cost.prepare([1.0, 3.0, 9.0]), 0, 2)
    6.77259
    """

    step: float | None = None

    def rows(self, x: np.ndarray, shared: bool) -> Rows:
        """Weights one, values waiting times."""
        if np.any(x < 0):
            raise ValueError(f"X has a waiting time of {np.nanmin(x)}: allowed are numbers >= 0 and NaN")
        step = resolution(x) if self.step is None else np.full(x.shape[1], float(self.step))
        none = np.zeros(x.shape[1])
        return Rows(WAITS, shared, x, _ONE, none, step / 2.0, none)


@dataclass(frozen=True)
class Variance(Additive):
    """Gaussian about a known mean, of free variance in every unit: C = sum_j n_j (log(2 pi v_j) + 1).

    Parameters
    ----------
    mean : float or array_like, shape (d,)
        Known mean of each column.
    step : float or None
        As in `MeanVariance`.

    Examples
    --------
    >>> cost = Variance()
    >>> cost.cost(cost.prepare([1.0, -1.0, 9.0]), 0, 2)
    5.67575
    """

    mean: Any = 0.0
    step: float | None = None

    def rows(self, x: np.ndarray, shared: bool) -> Rows:
        """Weights one half, values pi (x - mean)^2, which makes the waiting-time cost the Gaussian one."""
        step = resolution(x) if self.step is None else np.full(x.shape[1], float(self.step))
        squares = np.pi * (x - np.asarray(self.mean, dtype=np.float64)) ** 2
        # The mean a / b of the values over weights is 2 pi times the variance.
        least = 2.0 * np.pi * step**2 / 12.0
        none = np.zeros(x.shape[1])
        return Rows(WAITS, shared, squares, np.full((1, 1), 0.5), none, least, none)


@dataclass(frozen=True)
class Covariance(Additive):
    """Gaussian of free covariance: C = n (log det(2 pi V) + d), V the segment's covariance by Cholesky.

    With missing entries (NaN) C is twice the negative log likelihood of what was observed, at its maximum
    over mean and covariance: rows tell of the columns they show. It is climbed by expectation and
    maximisation to 1e-9 or so, some ten to forty steps a segment, each of P d^2 (d + m) for P patterns of m
    missing columns that more than d rows share, and of d (d + m) for each row of another pattern; complete
    rows enter by their sums, and segments of such rows alone cost what they do without holes. A column never
    observed in a segment costs nothing there. A segment whose covariance is singular is not allowed (+inf),
    nor is one with no more complete rows than columns, whose likelihood has no bound.

    Parameters
    ----------
    centred : bool
        True takes V about the segment's own mean; False about 0.

    Examples
    --------
    >>> cost = Covariance(centred=False)
    >>> cost.cost(cost.prepare([[1.0, 1.0], [1.0, -1.0], [2.0, 0.0]]), 0, 2)
    11.3515
    """

    centred: bool = True

    def rows(self, x: np.ndarray, shared: bool) -> Rows:
        """Weights one, values and their products."""
        none = np.zeros(x.shape[1])
        kind, centre = (ELLIPSE, middle(x)) if self.centred else (AXES, none)
        # Sums of squares are known to the rounding of those of the whole series: rows that repeat show less.
        least = 64.0 * np.finfo(float).eps * len(x) * (spread(x) + (middle(x) - centre) ** 2)
        return Rows(kind, True, x, _ONE, centre, least, none)

    def holes(self, x: np.ndarray) -> Holes | None:
        """Rows by the columns that they miss."""
        if not np.isnan(x).any():
            return None
        seen = ~np.isnan(x)
        complete = int(seen[:, seen.any(axis=0)].all(axis=1).sum())
        least = self.min_length(int(seen.any(axis=0).sum()))
        if complete < least:
            raise ValueError(
                f"X has {complete} rows without a missing entry: a covariance needs {least} at least, as its "
                "likelihood has no maximum with fewer"
            )
        rows = self.rows(x, True)
        return gaussian_holes(x, rows.kind, rows.centre, rows.least)

    def min_length(self, d: int) -> int:
        """d + 1 rows make a covariance regular."""
        return d + (1 if self.centred else 0)

    def n_parameters(self, d: int) -> int:
        """Covariance, and the mean where it is free."""
        return d * (d + 1) // 2 + (d if self.centred else 0)


@dataclass(frozen=True)
class Regression(Additive):
    """Linear regression of the last column on the others, by the Gram matrix of the segment.

    C = the residual sum of squares r, in units of the noise variance; or n (log(2 pi r / n) + 1), the noise
    variance being the segment's own.

    A row without a response says nothing of the coefficients and is left out. Predictors z_M that a row
    misses are Gaussian given those z_O that it shows, with the mean and covariance of the predictors of the
    whole series, fitted to what was observed of them: C is then sum_t (y_t - b' m_t)^2 / tau_t + log(tau_t),
    m_t the predictors with their means where they are missing, tau_t = sigma^2 + b' Cov(z_t | z_O) b, at its
    minimum over b (and sigma^2; with log 2 pi then), found as in `Covariance`. Predictors that change
    together with the coefficients are not as this assumes: see ``missing``.

    Parameters
    ----------
    intercept : bool
        Add a constant to the predictors.
    variance : {"common", "segment"}
        Noise variance known to be 1 throughout, or one of each segment.
    missing : {"joint", "drop"}
        Missing predictors are Gaussian with the others, or rows with one are left out.

    Examples
    --------
    >>> cost = Regression(intercept=False)
    >>> cost.cost(cost.prepare([[1.0, 2.0], [2.0, 5.0], [0.0, 7.0]]), 0, 2)
    0.2
    """

    intercept: bool = True
    variance: str = "common"
    missing: str = "joint"

    def rows(self, x: np.ndarray, shared: bool) -> Rows:
        """Weights one, products of predictors and response."""
        if self.variance not in ("common", "segment"):
            raise ValueError(f'variance is {self.variance!r}: allowed are "common" and "segment"')
        if self.missing not in ("joint", "drop"):
            raise ValueError(f'missing is {self.missing!r}: allowed are "joint" and "drop"')
        centre = np.zeros(x.shape[1])
        if self.intercept:
            # With a constant among the predictors the residuals do not know the centre of the others.
            centre = np.append(0.0, middle(x))
            x = np.ascontiguousarray(np.column_stack([np.ones(len(x)), x]))
        kind = GRAM if self.variance == "common" else NOISE
        return Rows(kind, True, x, _ONE, centre, resolution(x) ** 2 / 12.0, np.zeros(x.shape[1]))

    def holes(self, x: np.ndarray) -> Holes | None:
        """Rows by the predictors that they miss, if they are not left out."""
        if self.missing == "drop" or not np.isnan(x[:, :-1]).any():
            return None
        rows = self.rows(x, True)
        return regression_holes(rows.x, rows.kind, rows.centre, rows.least, int(self.intercept))

    def min_length(self, d: int) -> int:
        """One row more than coefficients."""
        return d + (1 if self.intercept else 0)

    def n_parameters(self, d: int) -> int:
        """Coefficients, and the noise variance where it is free."""
        return d - 1 + int(self.intercept) + (self.variance == "segment")
