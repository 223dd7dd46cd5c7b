"""What every likelihood is: the abstract class, and the helpers its kinds share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

__all__ = ["Likelihood", "average"]

Expectations = tuple[np.ndarray, np.ndarray, np.ndarray]
Parameter = float | np.ndarray


class Likelihood(ABC):
    """Distribution of one entry y given its linear predictor eta.

    All methods work entry by entry on arrays that broadcast to (..., unit). NaN in y means not observed: its
    log probability, expectation and derivatives are exactly 0. `exposure`, the seconds of a bin, multiplies
    the mean of spike counts (`counts` is True), whose eta is then a log rate per second (log Hz); the other
    likelihoods do not read it. Where `real` is True, eta is in the units of y. A likelihood's own parameters
    are numbers or one value per unit.
    """

    name: ClassVar[str]
    counts: ClassVar[bool] = False
    real: ClassVar[bool] = False

    @abstractmethod
    def check(self, y: ArrayLike, name: str = "y") -> None:
        """Raise ValueError for impossible observations, with `name` and the first bad index."""

    @abstractmethod
    def log_prob(self, y: ArrayLike, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Log p(y | eta), normalised; 0 where y is NaN."""

    @abstractmethod
    def mean(self, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Expected observation given eta."""

    @abstractmethod
    def link(self, mean: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Eta whose expected observation is `mean`: the inverse of `mean`."""

    @abstractmethod
    def conditional_variance(self, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Variance of the observation given eta."""

    @abstractmethod
    def sample(self, eta: ArrayLike, rng: np.random.Generator, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Draw one observation for each entry of eta, as float64."""

    @abstractmethod
    def expectations(
        self,
        y: ArrayLike,
        m: ArrayLike,
        v: ArrayLike,
        exposure: ArrayLike = 1.0,
        constant: float | np.ndarray | None = None,
    ) -> Expectations:
        """E = E[log p(y | eta)] for eta ~ N(m, v), alpha = dE/dm and beta = -2 dE/dv, where beta >= 0.

        `constant` stands for log_base(y), the part of E without m and v. It is computed when None; loops pass
        0.0 and add the sum of log_base(y), computed once, by themselves.
        """

    def log_base(self, y: ArrayLike) -> np.ndarray:
        """Part of log p(y | eta) that knows neither eta nor exposure, such as -log y!; 0 where y is NaN."""
        return np.zeros(np.shape(y))

    def start(
        self, y: ArrayLike, bias: ArrayLike, exposure: ArrayLike = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (zero) of eta to begin with, each entry by itself; the bias where y is NaN."""
        return started(self.link(y, exposure), y, bias)

    def predictive_mean(self, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Mean of y where eta ~ N(m, v)."""
        return average(lambda eta: (self.mean(eta, exposure),), m, v)[0]

    def predictive_variance(self, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Variance of y where eta ~ N(m, v): the mean of the variance plus the variance of the mean."""
        centre = self.predictive_mean(m, v, exposure)

        def parts(eta: np.ndarray) -> tuple[np.ndarray]:
            return (self.conditional_variance(eta, exposure) + (self.mean(eta, exposure) - centre) ** 2,)

        return average(parts, m, v)[0]

    def log_predictive(
        self, y: ArrayLike, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0
    ) -> np.ndarray:
        """Log of E[p(y | eta)], eta ~ N(m, v); 0 where y is NaN."""
        m, v = np.asarray(m, float), np.asarray(v, float)
        logs = [self.log_prob(y, m + np.sqrt(v) * z, exposure) + np.log(w) for z, w in zip(*_rule(64))]
        return np.logaddexp.reduce(logs)

    def fit_parameters(self, y: ArrayLike, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> Self:
        """Likelihood whose own parameters maximise the sum of E for each unit; itself if it has none to fit.

        Units with nothing observed keep what they had.
        """
        return self


def _rule(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Hermite nodes and weights for N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def average(
    function: Callable[[np.ndarray], tuple[np.ndarray, ...]], m: ArrayLike, v: ArrayLike
) -> tuple[np.ndarray, ...]:
    """Gauss-Hermite averages over eta ~ N(m, v) of the arrays that `function(eta)` returns.

    sum_k w_k f(m + sqrt(v) z_k), with 20 nodes where no v is above 1, 32 up to 4 and 64 beyond.

    Parameters
    ----------
    function : callable
        Takes eta (..., unit) and returns a tuple of arrays of that shape.
    m, v : array_like
        Means and variances of eta.

    Returns
    -------
    tuple of ndarray
        One average for each array that `function` returns.

    Examples
    --------
    >>> import numpy as np
    >>> (mean,) = average(lambda eta: (np.exp(eta),), 0.0, 1.0)
    >>> bool(np.isclose(mean, np.exp(0.5)))
    True
    """
    m, v = np.asarray(m, float), np.asarray(v, float)
    widest = v.max(initial=0.0)
    nodes, weights = _rule(20 if widest <= 1.0 else 32 if widest <= 4.0 else 64)
    deviation = np.sqrt(v)
    totals: list[Any] = []
    for z, w in zip(nodes, weights):
        values = function(m + z * deviation)
        totals = [t + w * a for t, a in zip(totals, values)] if totals else [w * a for a in values]
    return tuple(totals)


def refuse(name: str, values: np.ndarray, bad: np.ndarray, allowed: str) -> None:
    """Raise ValueError for the first True in `bad`."""
    if not bad.any():
        return
    index = np.unravel_index(int(bad.argmax()), bad.shape)
    place = f"[{', '.join(str(int(i)) for i in index)}]" if index else ""
    raise ValueError(f"{name}{place} is {values[index]:g}: allowed is {allowed}")


def numbers(name: str, values: Any) -> np.ndarray:
    """Float64 array of numbers, or ValueError."""

    def fail() -> NoReturn:
        raise ValueError(f"{name} is {values!r}: allowed are real numbers")

    array = np.asarray(values)
    if array.dtype.kind not in "biuf" and (array.dtype != object or any(a is None for a in array.flat)):
        fail()
    try:
        return array.astype(float, copy=False)
    except (TypeError, ValueError):
        fail()


def positive(likelihood: Likelihood, field: str, or_zero: bool = False) -> np.ndarray:
    """Refuse a parameter that is not positive (or zero, if so), finite, and one number or one per unit."""
    values = numbers(field, getattr(likelihood, field))
    if values.ndim > 1:
        raise ValueError(f"{field} has shape {values.shape}: allowed are one number or one per unit")
    allowed = "a finite number, 0 or more" if or_zero else "a positive finite number"
    refuse(field, values, ~((values > 0) | (or_zero & (values == 0))) | np.isinf(values), allowed)
    return values


def seen_in(y: ArrayLike) -> np.ndarray:
    """Where y was observed."""
    return ~np.isnan(np.asarray(y, float))


def check_counts(y: ArrayLike, name: str, largest: ArrayLike = np.inf, allowed: str = "") -> None:
    """Refuse observations other than the whole numbers 0..largest and NaN."""
    y = numbers(name, y)
    bad = (y < 0) | (y > largest) | (y == np.inf) | ((np.floor(y) != y) & ~np.isnan(y))
    refuse(name, y, bad, allowed or "a count 0, 1, 2, ... or NaN")


def check_finite(y: ArrayLike, name: str) -> None:
    """Refuse infinite observations."""
    y = numbers(name, y)
    refuse(name, y, np.isinf(y), "a finite number or NaN")


def flat(*arrays: ArrayLike) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """Arrays broadcast to one shape, as flat contiguous float64; and the shape."""
    shape = np.broadcast_shapes(*(np.shape(a) for a in arrays))
    full = (np.broadcast_to(np.asarray(a, float), shape) for a in arrays)
    return [np.ascontiguousarray(a).reshape(-1) for a in full], shape


def compiled(
    kernel: Callable[..., None], inputs: tuple, *scalars: float, outputs: int = 3
) -> list[np.ndarray]:
    """Run a compiled loop over the broadcast inputs; its outputs in their shape."""
    arrays, shape = flat(*inputs)
    filled = [np.empty(arrays[0].size) for _ in range(outputs)]
    kernel(*arrays, *scalars, *filled)
    return [a.reshape(shape) for a in filled]


def at_counts(function: Callable[..., np.ndarray], y: np.ndarray, *units: np.ndarray) -> np.ndarray:
    """Values of a slow function of counts, `function(y, *units)`, from a table if that is smaller; 0 at NaN.

    `units` are parameters that broadcast against y and differ along its last axis only.
    """
    seen = ~np.isnan(y)
    whole = np.where(seen, y, 0.0)
    rows = whole.max(initial=0.0) + 1.0
    if y.ndim and rows * y.shape[-1] < y.size:
        first = [np.broadcast_to(u, y.shape).reshape(-1, y.shape[-1])[0] for u in units]
        table = np.broadcast_to(function(np.arange(rows)[:, None], *first), (int(rows), y.shape[-1]))
        values = table[whole.astype(np.intp), np.arange(y.shape[-1])]
    else:
        values = function(whole, *units)
    return np.where(seen, values, 0.0)


def log_factorial(y: np.ndarray) -> np.ndarray:
    """Log y!; 0 where y is NaN."""
    return at_counts(lambda k: gammaln(k + 1.0), y)


def started(eta: np.ndarray, y: ArrayLike, bias: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Eta where y was observed and else the bias; and zeros."""
    mean = np.where(seen_in(y), eta, bias)
    return mean, np.zeros(mean.shape)


def over_time(values: np.ndarray) -> np.ndarray:
    """Sum over all axes but the last one, the units."""
    return values.sum(axis=tuple(range(values.ndim - 1)))


def spread_within(y: np.ndarray) -> float:
    """Mean square of y about the mean of its unit; 0 when it is rounding."""
    seen = seen_in(y)
    total = max(int(seen.sum()), 1)
    mean = over_time(np.where(seen, y, 0.0)) / np.maximum(over_time(seen), 1)
    square = float(np.sum(np.where(seen, y, 0.0) ** 2)) / total
    spread = float(np.sum(np.where(seen, y - mean, 0.0) ** 2)) / total
    return spread if spread > 1e-26 * square else 0.0


def root(
    score: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    start: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """Where each unit's score changes from + to - between low and high: Newton, halving where it strays.

    `score(x)` returns the derivative of what is maximised and an estimate of the second derivative.
    """
    x, low, high = np.clip(start, low, high), low.copy(), high.copy()
    for _ in range(60):
        slope, curvature = score(x)
        low, high = np.where(slope > 0, x, low), np.where(slope > 0, high, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            new = x - slope / curvature
        stray = ~((curvature < 0) & (new >= low) & (new <= high))
        new = np.where(stray, 0.5 * (low + high), new)
        done = np.abs(new - x) <= 1e-7
        x = new
        if done.all():
            break
    return x
