r"""How well rates explain spikes: their log likelihood, and intervals between spikes in rescaled time.

Counts that are Poisson given rates and past are, on the axis of the summed expected counts, a Poisson process
of rate 1, if the spikes of a bin are put at random places of its stretch of that axis. Intervals d between
them are exponential, and 1 - exp(-d) is uniform.

References
----------
E. Brown, R. Barbieri, V. Ventura, R. Kass, L. Frank, The time-rescaling theorem and its application to neural
spike train data analysis, Neural Computation 14, 2002.
R. Haslinger, G. Pipa, E. Brown, Discrete time rescaling theorem, Neural Computation 22, 2010.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._lag_input import as_segments

__all__ = ["Rescaled", "count_log_likelihood", "time_rescaling"]


class Rescaled(NamedTuple):
    """Kolmogorov-Smirnov tests of rescaled intervals against the uniform law."""

    statistic: np.ndarray  # (N,) largest distance of the distributions
    p_value: np.ndarray  # (N,); too large where rates were fitted to these very spikes
    bound: np.ndarray  # (N,) statistic that is passed by chance in 5 % of cases
    uniform: list[np.ndarray]  # of each unit, 1 - exp(-interval), in the order of time


def time_rescaling(
    counts: ArrayLike | Sequence[ArrayLike],
    rates: ArrayLike | Sequence[ArrayLike],
    bin_s: float,
    rng: np.random.Generator,
) -> Rescaled:
    """Test whether rates explain when spikes come.

    Exact for counts that are Poisson in each bin, also with several spikes in one; bins where a count or rate
    is not known are cut out, and trials joined, which a Poisson process does not feel.

    Parameters
    ----------
    counts : array_like, shape (T, N), or one for each trial
        Counts in bins.
    rates : as counts
        Spikes per second given the past, as of `predict_rate`.
    bin_s : float
        Seconds per bin.
    rng : numpy.random.Generator
        Places of spikes within their bins.

    Returns
    -------
    Rescaled

    Raises
    ------
    ValueError
        If shapes differ or a unit has no spike.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rates = np.exp(rng.standard_normal((20_000, 1)))
    >>> counts = rng.poisson(rates * 0.1)
    >>> right, wrong = (time_rescaling(counts, r, 0.1, rng) for r in (rates, np.full_like(rates, 1.65)))
    >>> bool(right.p_value[0] > 0.01), bool(wrong.p_value[0] < 0.01)
    (True, True)
    """
    from scipy.stats import kstest, kstwo

    y, r = _joined(counts, rates)
    found = []
    for n in range(y.shape[1]):
        known = np.isfinite(y[:, n]) & np.isfinite(r[:, n])
        spikes, expected = y[known, n].astype(int), r[known, n] * bin_s
        if not spikes.any():
            raise ValueError(f"counts of unit {n} are all 0 where its rate is known; allowed: some spikes")
        bins = np.repeat(np.arange(len(spikes)), spikes)
        place = np.sort(np.cumsum(expected)[bins] - rng.random(len(bins)) * expected[bins])
        found.append(-np.expm1(-np.diff(place, prepend=0.0)))
    tests = [kstest(u, "uniform") for u in found]
    return Rescaled(
        np.array([test.statistic for test in tests]),
        np.array([test.pvalue for test in tests]),
        np.array([kstwo.isf(0.05, len(u)) for u in found]),
        found,
    )


def count_log_likelihood(
    counts: ArrayLike | Sequence[ArrayLike], rates: ArrayLike | Sequence[ArrayLike], bin_s: float
) -> np.ndarray:
    r"""Log likelihood of every unit's counts: sum_t y_t log(r_t bin_s) - r_t bin_s - log y_t!.

    Parameters
    ----------
    counts, rates, bin_s
        As for :func:`time_rescaling`; bins where either is not known are left out.

    Returns
    -------
    ndarray, shape (N,)
        Nats.

    Raises
    ------
    ValueError
        If shapes differ.

    Examples
    --------
    >>> count_log_likelihood([[0.0], [1.0]], [[1.0], [1.0]], 1.0)
    array([-2.])
    """
    from scipy.special import gammaln, xlogy

    y, r = _joined(counts, rates)
    expected = r * bin_s
    return np.nansum(xlogy(y, expected) - expected - gammaln(y + 1.0), axis=0)


def _joined(
    counts: ArrayLike | Sequence[ArrayLike], rates: ArrayLike | Sequence[ArrayLike]
) -> tuple[np.ndarray, np.ndarray]:
    """Counts and rates of all trials, checked."""
    y, r = as_segments("counts", counts, 2), as_segments("rates", rates, 2)
    if [part.shape for part in y] != [part.shape for part in r]:
        raise ValueError(f"rates has shapes {[p.shape for p in r]}, but counts {[p.shape for p in y]}")
    return np.concatenate(y), np.concatenate(r)
