"""Likelihoods of real numbers: Gaussian noise, and noise with heavy tails."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln

from hidamari.inference._likelihood import (
    Expectations,
    Likelihood,
    Parameter,
    check_finite,
    compiled,
    over_time,
    positive,
    root,
    seen_in,
    spread_within,
    started,
)
from hidamari.parameters import parameter

__all__ = ["Gaussian", "StudentT"]


@dataclass(frozen=True)
class Gaussian(Likelihood):
    """Gaussian noise, y ~ N(eta, variance).

    E = -((y - m)^2 + v) / (2 variance) - log(2 pi variance) / 2, alpha = (y - m) / variance,
    beta = 1 / variance: exact.

    Parameters
    ----------
    variance : float or ndarray (unit,)
        Variance of the noise, in squared units of y. A zero makes observations exact, which only `MarkovGP`
        takes: `expectations` refuses it.

    Raises
    ------
    ValueError
        When a variance is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([[1.0], [3.0]])
    >>> Gaussian().fit_parameters(y, m=2.0, v=0.25).variance
    array([1.25])
    """

    variance: Parameter = parameter(1.0, "nonnegative")
    name: ClassVar[str] = "gaussian"
    real: ClassVar[bool] = True

    def __post_init__(self):
        positive(self, "variance", or_zero=True)

    def check(self, y: ArrayLike, name: str = "y") -> None:
        """Refuse infinite observations."""
        check_finite(y, name)

    def log_prob(self, y: ArrayLike, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Log density; 0 where y is NaN."""
        return self.log_predictive(y, eta, 0.0)

    def mean(self, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Eta itself."""
        return np.array(eta, float)

    def link(self, mean: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Eta itself."""
        return np.array(mean, float)

    def start(
        self, y: ArrayLike, bias: ArrayLike, exposure: ArrayLike = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The observation itself; the bias where y is NaN."""
        return started(self.link(y, exposure), y, bias)

    def conditional_variance(self, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Variance of the noise, in the shape of eta."""
        return np.zeros(np.shape(eta)) + np.asarray(self.variance, float)

    def sample(self, eta: ArrayLike, rng: np.random.Generator, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Draw eta plus noise."""
        return np.asarray(rng.normal(np.asarray(eta, float), np.sqrt(self.variance)))

    def log_base(self, y: ArrayLike) -> np.ndarray:
        """Minus log(2 pi variance) / 2; 0 where y is NaN."""
        return np.where(seen_in(y), -0.5 * np.log(2.0 * np.pi * np.asarray(self.variance, float)), 0.0)

    def expectations(
        self,
        y: ArrayLike,
        m: ArrayLike,
        v: ArrayLike,
        exposure: ArrayLike = 1.0,
        constant: float | np.ndarray | None = None,
    ) -> Expectations:
        """E, alpha and beta in closed form; see `Likelihood.expectations`."""
        if np.any(np.asarray(self.variance) == 0.0):
            raise ValueError("variance is 0: exact observations have no site; allowed here are positive ones")
        y, m, v = np.broadcast_arrays(*(np.asarray(a, float) for a in (y, m, v)))
        precision = np.where(seen_in(y), 1.0 / np.asarray(self.variance, float), 0.0)
        residual = np.where(seen_in(y), y - m, 0.0)
        value = -0.5 * (residual * residual + v) * precision
        value += self.log_base(y) if constant is None else constant
        return value, residual * precision, precision

    def predictive_mean(self, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Mean of eta."""
        return np.asarray(m, float) + np.zeros(np.shape(v))

    def predictive_variance(self, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Variance of eta plus that of the noise."""
        return np.zeros(np.shape(m)) + np.asarray(v, float) + np.asarray(self.variance, float)

    def log_predictive(
        self, y: ArrayLike, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0
    ) -> np.ndarray:
        """Log of N(y; m, v + variance); 0 where y is NaN."""
        total = np.asarray(v, float) + np.asarray(self.variance, float)
        logs = -0.5 * (
            (np.asarray(y, float) - np.asarray(m, float)) ** 2 / total + np.log(2.0 * np.pi * total)
        )
        return np.where(seen_in(y), logs, 0.0)

    def fit_parameters(self, y: ArrayLike, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> Self:
        """Variance of each unit: the mean of (y - m)^2 + v over what was observed.

        It is at least 1e-8 of the variance of all units about their means, so that the density of a unit that
        never varies stays bounded. Units with nothing observed, or no residual at all, and data that never
        vary, keep what they had.
        """
        y, m, v = np.broadcast_arrays(*(np.asarray(a, float) for a in (y, m, v)))
        total = over_time(np.where(seen_in(y), (y - m) ** 2 + v, 0.0))
        variance = total / np.maximum(over_time(seen_in(y)), 1)
        spread = spread_within(y)
        moved = (variance > 0.0) & (spread > 0.0)
        return replace(self, variance=np.where(moved, np.maximum(variance, 1e-8 * spread), self.variance))


@dataclass(frozen=True)
class StudentT(Likelihood):
    """Noise with heavy tails, y = eta + scale t, where t follows Student's t with `df` degrees of freedom.

    log p = -(df + 1) / 2 log(1 + x^2) + const, x = (y - eta) / (scale sqrt(df)). It is not log-concave:
    -2 dE/dv is negative for outliers. `expectations` therefore returns beta in an expected-information form,
    the mean weight of the entry times a constant,

    beta = (df + 1)^2 / (df (df + 3) scale^2) E[1 / (1 + x^2)].

    It is positive, small for outliers, 1 / scale^2 for large df, and on average over y the Fisher information
    (df + 1) / ((df + 3) scale^2). Its steps alpha / beta are those of iteratively reweighted least squares
    times (df + 3) / (df + 1), which raise E for every df >= 1.

    Parameters
    ----------
    df : float or ndarray (unit,)
        Degrees of freedom. The variance of y is infinite for df <= 2, and y has no mean for df <= 1, where
        `mean` is its centre.
    scale : float or ndarray (unit,)
        Scale, in units of y.

    Raises
    ------
    ValueError
        When a parameter is not positive and finite.

    Examples
    --------
    >>> _, alpha, beta = StudentT(df=3.0).expectations([0.5, 50.0], m=0.0, v=0.1)
    >>> alpha.round(3), beta.round(3)
    (array([0.57, 0.08]), array([0.804, 0.001]))
    """

    df: Parameter = parameter(4.0, "held")
    scale: Parameter = parameter(1.0, "positive")
    name: ClassVar[str] = "student_t"
    real: ClassVar[bool] = True

    def __post_init__(self):
        positive(self, "df")
        positive(self, "scale")

    def check(self, y: ArrayLike, name: str = "y") -> None:
        """Refuse infinite observations."""
        check_finite(y, name)

    def _half_width(self) -> np.ndarray:
        """Unit of x: scale sqrt(df)."""
        return np.asarray(self.scale, float) * np.sqrt(np.asarray(self.df, float))

    def log_prob(self, y: ArrayLike, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Log density; 0 where y is NaN."""
        x = (np.asarray(y, float) - np.asarray(eta, float)) / self._half_width()
        logs = -(np.asarray(self.df, float) + 1.0) * np.log(np.hypot(1.0, x))
        return np.where(seen_in(y), logs, 0.0) + self.log_base(y)

    def mean(self, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Eta itself."""
        return np.array(eta, float)

    def link(self, mean: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Eta itself."""
        return np.array(mean, float)

    def start(
        self, y: ArrayLike, bias: ArrayLike, exposure: ArrayLike = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The observation itself; the bias where y is NaN."""
        return started(self.link(y, exposure), y, bias)

    def conditional_variance(self, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Variance scale^2 df / (df - 2), infinite for df <= 2; in the shape of eta."""
        df = np.asarray(self.df, float)
        with np.errstate(divide="ignore"):
            ratio = df / np.maximum(df - 2.0, 0.0)
        return np.zeros(np.shape(eta)) + np.asarray(self.scale, float) ** 2 * ratio

    def sample(self, eta: ArrayLike, rng: np.random.Generator, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Draw eta plus noise."""
        shape = np.broadcast_shapes(np.shape(eta), np.shape(self.df), np.shape(self.scale))
        return np.asarray(eta, float) + np.asarray(self.scale, float) * rng.standard_t(self.df, size=shape)

    def log_base(self, y: ArrayLike) -> np.ndarray:
        """Log density at the centre; 0 where y is NaN."""
        df = np.asarray(self.df, float)
        return np.where(seen_in(y), -betaln(0.5 * df, 0.5) - np.log(self._half_width()), 0.0)

    def expectations(
        self,
        y: ArrayLike,
        m: ArrayLike,
        v: ArrayLike,
        exposure: ArrayLike = 1.0,
        constant: float | np.ndarray | None = None,
    ) -> Expectations:
        """E and alpha by quadrature, beta in the form above; see `Likelihood.expectations`."""
        from hidamari.inference._quadrature import student

        a, df = self._half_width(), np.asarray(self.df, float)
        x = (np.asarray(m, float) - np.asarray(y, float)) / a
        logs, slope, weight = compiled(student, (x, np.asarray(v, float) / (a * a)))
        seen = seen_in(y)
        value = np.where(seen, -0.5 * (df + 1.0) * logs, 0.0)
        alpha = np.where(seen, -(df + 1.0) / a * slope, 0.0)
        beta = np.where(seen, (df + 1.0) ** 2 / ((df + 3.0) * a * a) * weight, 0.0)
        value += self.log_base(y) if constant is None else constant
        return value, alpha, beta

    def predictive_mean(self, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Mean of eta."""
        return np.asarray(m, float) + np.zeros(np.shape(v))

    def predictive_variance(self, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Variance of eta plus that of the noise."""
        return np.asarray(v, float) + self.conditional_variance(m)

    def log_predictive(
        self, y: ArrayLike, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0
    ) -> np.ndarray:
        """Log density of y, eta averaged out; 0 where y is NaN."""
        from hidamari.inference._quadrature import log_marginal_t

        a, df = self._half_width(), np.asarray(self.df, float)
        x = (np.asarray(m, float) - np.asarray(y, float)) / a
        inputs = (x, np.asarray(v, float) / (a * a), 0.5 * (df + 1.0))
        return np.where(seen_in(y), compiled(log_marginal_t, inputs, outputs=1)[0], 0.0) + self.log_base(y)

    def fit_parameters(self, y: ArrayLike, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> Self:
        """Scale of each unit, by Fisher scoring in log scale; df stays.

        It is at least 1e-4 of the deviation of all units about their means. Units with nothing observed, or
        no residual at all, and data that never vary, keep what they had.
        """
        from hidamari.inference._quadrature import student

        y, m, v = np.broadcast_arrays(*(np.asarray(a, float) for a in (y, m, v)))
        seen = seen_in(y)
        count, df = over_time(seen), np.asarray(self.df, float)
        size = np.sqrt(over_time(np.where(seen, (m - y) ** 2 + v, 0.0)) / np.maximum(count, 1))
        spread = spread_within(y)
        moved = (size > 0.0) & (spread > 0.0)

        def score(log_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            a = np.exp(log_scale) * np.sqrt(df)
            weight = compiled(student, ((m - y) / a, v / (a * a)))[2]
            slope = df * count - (df + 1.0) * over_time(np.where(seen, weight, 0.0))
            return slope, -count * 2.0 * df / (df + 3.0)

        centre = np.log(np.where(moved, size, 1.0))
        start = np.log(np.broadcast_to(self.scale, size.shape))
        scale = np.exp(root(score, start, centre - 18.0, centre + 1.0))
        scale = np.maximum(scale, 1e-4 * np.sqrt(spread))
        return replace(self, scale=np.where(moved, scale, self.scale))
