"""Thresholds of online change detectors for a given average run length, by simulation."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from hidamari.inference.online import Cusum, Focus, Network

__all__ = ["Threshold", "calibrate"]


class Threshold(NamedTuple):
    """A threshold and how well it is known."""

    value: float
    error: float  # standard error of the log of its average run length


_RUNS = (30, 1600)  # simulated, least and most: the fit of the law needs some, and its error wants no more
_SHORTEST = 200  # rows of a simulated stream


@lru_cache(maxsize=64)
def calibrate(
    detector: Any, d: int, average_run_length: float, level: tuple[float, ...], warm_up: int, seed: int
) -> Threshold:
    r"""Threshold that independent rows without a change exceed once in ``average_run_length`` rows.

    P(no alarm in n rows) = exp(-n / average run length): alarms of a renewing stream are a Poisson process.
    Streams of n rows (Gaussian of unit variance, or Poisson at the levels) are simulated, warm-up included,
    and Gumbel's law, P(max < h) = exp(-exp(-(h - mu) / beta)), is fitted to their maxima: the threshold is
    mu + beta log(average run length / n). Streams whose warm-up misjudged the scale alarm far more often than
    others. A short n weighs each by its rate of alarms, so that over many streams one alarm comes in
    `average_run_length` rows; a long one would only keep the promise for the typical stream.

    Parameters
    ----------
    detector : Detector
        Hashable.
    d : int
        Units, independent of each other.
    average_run_length : float
        In rows.
    level : tuple of float
        Known level of each unit; the rate of counts.
    warm_up : int
        Rows from which mean and scale, or the rate, are learnt first; 0 for none.
    seed : int
        Of the simulation.

    Returns
    -------
    Threshold
        Value, and the standard error of log average run length, from the fit of Gumbel's law.
    """
    from scipy import stats

    if not detector.counts and isinstance(detector, Focus | Cusum) and not detector.together:
        # The largest of d independent streams alarms d times as often as one.
        d, average_run_length, level = 1, average_run_length * d, (0.0,)
    rng = np.random.default_rng(seed)
    budget = detector.budget(d)
    wanted = average_run_length / 8 if warm_up else average_run_length
    horizon = int(np.clip(wanted, min(_SHORTEST, average_run_length), max(budget // _RUNS[0], _SHORTEST)))
    largest = np.empty(np.clip(budget // horizon, *_RUNS))
    rates = np.asarray(level)
    blind = 2 * detector.width + detector.lag if isinstance(detector, Network) else 0
    for run in range(len(largest)):
        shape = (warm_up + blind + horizon, d)
        z = rng.poisson(rates, shape).astype(float) if detector.counts else rng.standard_normal(shape)
        found = rates
        if warm_up:
            mean = z[:warm_up].mean(0)
            if detector.counts:
                found = np.maximum(mean, 1.0 / warm_up)
            else:
                z = (z - mean) / z[:warm_up].std(0, ddof=1)
        state = detector.start(d, found, int(rng.integers(2**31)))
        score, _ = detector.run(state, np.ascontiguousarray(z[warm_up:]), np.inf, False)
        largest[run] = np.nanmax(score)
    gumbel: Any = stats.gumbel_r
    mu, beta = gumbel.fit(largest)
    ahead = np.log(average_run_length / horizon)
    # Cramer-Rao: n var(mu) = 1.109 beta^2, n var(beta) = 0.608 beta^2, n cov = 0.257 beta^2.
    error = np.sqrt((1.109 + 0.514 * ahead + 0.608 * ahead**2) / len(largest))
    return Threshold(float(mu + beta * ahead), float(error))
