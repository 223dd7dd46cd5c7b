"""Likelihoods of spike counts: a log rate per second, multiplied by the seconds of a bin."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma, gammaln, polygamma

from hidamari.inference._likelihood import (
    Expectations,
    Likelihood,
    Parameter,
    at_counts,
    check_counts,
    compiled,
    log_factorial,
    over_time,
    positive,
    root,
    seen_in,
    started,
)
from hidamari.parameters import parameter

__all__ = ["NegativeBinomial", "Poisson"]


def _rate(log_rate: ArrayLike, exposure: ArrayLike) -> np.ndarray:
    """Expected count: exposure times the exponential of a log rate."""
    with np.errstate(over="ignore"):
        return np.exp(np.asarray(log_rate, float) + np.log(exposure))


def _log_rate(mean: ArrayLike, exposure: ArrayLike) -> np.ndarray:
    """Log of a rate per second from an expected count."""
    return np.log(np.asarray(mean, float)) - np.log(exposure)


def _rate_variance(m: ArrayLike, v: ArrayLike, exposure: ArrayLike) -> np.ndarray:
    """Variance of exposure e^eta, eta ~ N(m, v): mean^2 (e^v - 1), with no overflow on the way."""
    v = np.asarray(v, float)
    with np.errstate(divide="ignore", over="ignore"):
        return np.exp(2.0 * (np.asarray(m, float) + np.log(exposure)) + 2.0 * v + np.log(-np.expm1(-v)))


@dataclass(frozen=True)
class Poisson(Likelihood):
    """Spike counts, y ~ Poisson(exposure e^eta), where eta is the log of a rate in Hz.

    With rate = exposure e^(m + v/2): E = y (m + log exposure) - rate - log y!, alpha = y - rate, beta = rate.

    Examples
    --------
    >>> value, alpha, beta = Poisson().expectations([3.0], m=[1.0], v=[0.0])
    >>> alpha.round(4), beta.round(4)
    (array([0.2817]), array([2.7183]))
    """

    name: ClassVar[str] = "poisson"
    counts: ClassVar[bool] = True

    def check(self, y: ArrayLike, name: str = "y") -> None:
        """Refuse what is not a count."""
        check_counts(y, name)

    def log_prob(self, y: ArrayLike, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Log probability of the count; 0 where y is NaN."""
        return self.expectations(y, eta, 0.0, exposure)[0]

    def mean(self, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Expected count, exposure e^eta."""
        return _rate(eta, exposure)

    def link(self, mean: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Log rate per second of an expected count."""
        return _log_rate(mean, exposure)

    def start(
        self, y: ArrayLike, bias: ArrayLike, exposure: ArrayLike = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the mean is y and half a count more; the bias where y is NaN."""
        return started(self.link(np.asarray(y, float) + 0.5, exposure), y, bias)

    def conditional_variance(self, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Variance of the count, its mean."""
        return _rate(eta, exposure)

    def sample(self, eta: ArrayLike, rng: np.random.Generator, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Draw counts."""
        return np.asarray(rng.poisson(_rate(eta, exposure)), float)

    def log_base(self, y: ArrayLike) -> np.ndarray:
        """Minus log y!; 0 where y is NaN."""
        return -log_factorial(np.asarray(y, float))

    def expectations(
        self,
        y: ArrayLike,
        m: ArrayLike,
        v: ArrayLike,
        exposure: ArrayLike = 1.0,
        constant: float | np.ndarray | None = None,
    ) -> Expectations:
        """E, alpha and beta in closed form; see `Likelihood.expectations`."""
        from hidamari.inference._quadrature import poisson

        shift = np.log(np.asarray(exposure, float))
        if shift.ndim:
            m, shift = np.asarray(m, float) + shift, 0.0
        value, alpha, beta = compiled(poisson, (y, m, v), float(shift))
        value += self.log_base(y) if constant is None else constant
        return value, alpha, beta

    def predictive_mean(self, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Mean of a log-normal rate, exposure e^(m + v/2)."""
        return _rate(np.asarray(m, float) + 0.5 * np.asarray(v, float), exposure)

    def predictive_variance(self, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Mean plus mean^2 (e^v - 1)."""
        return self.predictive_mean(m, v, exposure) + _rate_variance(m, v, exposure)

    def log_predictive(
        self, y: ArrayLike, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0
    ) -> np.ndarray:
        """Log probability of the count under a log-normal rate; 0 where y is NaN."""
        from hidamari.inference._quadrature import log_marginal

        x = np.asarray(m, float) + np.log(exposure)
        return compiled(log_marginal, (y, np.inf, x, v), outputs=1)[0] + self.log_base(y)


@dataclass(frozen=True)
class NegativeBinomial(Likelihood):
    """Spike counts of mean exposure e^eta and variance mean + mean^2 / dispersion.

    With r = dispersion and x = eta + log exposure - log r, log p = y log sigma(x) + r log sigma(-x) +
    log Gamma(y + r) - log Gamma(r) - log y!. It is log-concave, and Poisson when r is infinite.

    Parameters
    ----------
    dispersion : float or ndarray (unit,)
        Shape r of the gamma-distributed rate; smaller is more variable.

    Raises
    ------
    ValueError
        When a dispersion is not positive and finite.

    Examples
    --------
    >>> NegativeBinomial(dispersion=2.0).predictive_variance(m=0.0, v=0.0).round(6).item()
    1.5
    """

    dispersion: Parameter = parameter(10.0, "positive")
    name: ClassVar[str] = "negative_binomial"
    counts: ClassVar[bool] = True

    def __post_init__(self):
        positive(self, "dispersion")

    def check(self, y: ArrayLike, name: str = "y") -> None:
        """Refuse what is not a count."""
        check_counts(y, name)

    def log_prob(self, y: ArrayLike, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Log probability of the count; 0 where y is NaN."""
        return self.expectations(y, eta, 0.0, exposure)[0]

    def mean(self, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Expected count, exposure e^eta."""
        return _rate(eta, exposure)

    def link(self, mean: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Log rate per second of an expected count."""
        return _log_rate(mean, exposure)

    def start(
        self, y: ArrayLike, bias: ArrayLike, exposure: ArrayLike = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the mean is y and half a count more; the bias where y is NaN."""
        return started(self.link(np.asarray(y, float) + 0.5, exposure), y, bias)

    def conditional_variance(self, eta: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Variance of the count, mean + mean^2 / dispersion."""
        mean = _rate(eta, exposure)
        with np.errstate(over="ignore"):
            return mean + mean * (mean / self.dispersion)

    def sample(self, eta: ArrayLike, rng: np.random.Generator, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Draw counts, as Poisson counts of gamma-distributed rates."""
        r = np.asarray(self.dispersion, float)
        return np.asarray(rng.poisson(rng.gamma(r, _rate(eta, exposure) / r)), float)

    def log_base(self, y: ArrayLike) -> np.ndarray:
        """Log of Gamma(y + r) / (Gamma(r) y!); 0 where y is NaN."""
        y, r = np.broadcast_arrays(np.asarray(y, float), np.asarray(self.dispersion, float))
        return at_counts(_log_ways, y, r)

    def expectations(
        self,
        y: ArrayLike,
        m: ArrayLike,
        v: ArrayLike,
        exposure: ArrayLike = 1.0,
        constant: float | np.ndarray | None = None,
    ) -> Expectations:
        """E, alpha and beta by quadrature of the logistic function; see `Likelihood.expectations`."""
        from hidamari.inference._quadrature import logistic

        value, alpha, beta = compiled(logistic, (y, self.dispersion, self._logit(m, exposure), v))
        value += self.log_base(y) if constant is None else constant
        return value, alpha, beta

    def _logit(self, m: ArrayLike, exposure: ArrayLike) -> np.ndarray:
        """Linear predictor of the logistic function, log of mean / dispersion."""
        return np.asarray(m, float) + (np.log(exposure) - np.log(self.dispersion))

    def predictive_mean(self, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Mean of a log-normal rate, exposure e^(m + v/2)."""
        shape = np.broadcast_shapes(np.shape(m), np.shape(v), np.shape(self.dispersion))
        return _rate(np.broadcast_to(np.asarray(m, float) + 0.5 * np.asarray(v, float), shape), exposure)

    def predictive_variance(self, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> np.ndarray:
        """Mean + mean^2 (e^v - 1) + mean^2 e^v / dispersion."""
        square = _rate(np.asarray(m, float) + np.asarray(v, float), exposure)
        with np.errstate(over="ignore"):
            extra = square * (square / self.dispersion)
        return self.predictive_mean(m, v, exposure) + _rate_variance(m, v, exposure) + extra

    def log_predictive(
        self, y: ArrayLike, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0
    ) -> np.ndarray:
        """Log probability of the count, eta averaged out; 0 where y is NaN."""
        from hidamari.inference._quadrature import log_marginal

        inputs = (y, self.dispersion, self._logit(m, exposure), v)
        return compiled(log_marginal, inputs, outputs=1)[0] + self.log_base(y)

    def fit_parameters(self, y: ArrayLike, m: ArrayLike, v: ArrayLike, exposure: ArrayLike = 1.0) -> Self:
        """Dispersion of each unit, by Newton's method in log r between 1e-3 and 1e6 max(1, mean count).

        Counts that are less variable than Poisson counts end at the upper bound. Units with nothing observed,
        or no event at all, keep what they had.
        """
        from hidamari.inference._quadrature import logistic

        y, m, v = np.broadcast_arrays(*(np.asarray(a, float) for a in (y, m, v)))
        seen = seen_in(y)
        events, nothing = np.where(seen, y, 0.0), np.where(seen, 0.0, np.nan)
        total = over_time(events)

        def score(log_r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            r = np.exp(log_r)
            x = m + (np.log(exposure) - log_r)
            softplus, sigma, slope = compiled(logistic, (nothing, 1.0, x, v))
            softplus, sigma = -softplus, -sigma
            grown = r * at_counts(lambda k, r: digamma(k + r) - digamma(r), y, r)
            bent = r * r * at_counts(lambda k, r: polygamma(1, k + r) - polygamma(1, r), y, r)
            first = grown - events + (events + r) * sigma - r * softplus
            second = grown + bent - r * softplus + 2.0 * r * sigma - (events + r) * slope
            return over_time(first), over_time(second)

        start = np.log(np.broadcast_to(self.dispersion, total.shape))
        high = np.log(1e6 * np.maximum(1.0, total / np.maximum(over_time(seen), 1)))
        r = np.exp(root(score, start, np.full(total.shape, np.log(1e-3)), high))
        return replace(self, dispersion=np.where(total > 0.0, r, self.dispersion))


def _log_ways(y: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Log of Gamma(y + r) / (Gamma(r) y!).

    The two gamma functions lose all digits of their ratio to r^y when r is large: there it is taken from
    Stirling's series, (y + r - 1/2) log(1 + y/r) - y + S(y + r) - S(r).
    """

    def stirling(z: np.ndarray) -> np.ndarray:
        w = 1.0 / (z * z)
        return (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w / 1188)))) / z

    large = np.maximum(r, 16.0)
    series = (y + large - 0.5) * np.log1p(y / large) - y + stirling(y + large) - stirling(large)
    return np.where(r < 16.0, gammaln(y + r) - gammaln(r), series + y * np.log(large)) - gammaln(y + 1.0)
