r"""Populations whose spikes beget or suppress spikes, run forward in time: draws, and rates to come.

y_tn ~ Poisson(bin_s exp(b_n + sum_m sum_{i>=1} h_nm(i) y_{t-i,m})).

References
----------
F. Gerhard, M. Deger, W. Truccolo, On the stability and dynamics of stochastic spiking neuron models:
nonlinear Hawkes process and point process GLMs, PLoS Computational Biology 13, 2017.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference.spike_history import SpikeHistoryFit, history_filters

__all__ = ["RateForecast", "forecast_rate", "simulate", "simulate_counts", "steady_rate"]

_LARGEST = 7.0  # log of the spikes in a bin beyond which a population has run away
_ROUNDS = 100_000


class RateForecast(NamedTuple):
    """Rates to come, averaged over simulated futures."""

    mean: np.ndarray  # (steps, N) spikes per second
    error: np.ndarray  # (steps, N) of the average: standard error for the number of futures


def steady_rate(bias: np.ndarray, filters: np.ndarray, bin_s: float) -> np.ndarray:
    r"""Rates at which a population settles on average: the least fixed point of the mean field.

    r_n = exp(b_n + sum_m r_m bin_s sum_i (exp(h_nm(i)) - 1)): the expectation for past spikes that are
    Poisson with rates r. Where there is none, spikes beget more spikes without end.

    Parameters
    ----------
    bias : ndarray, shape (N,)
        Log rates without past spikes, spikes per second.
    filters : ndarray, shape (N, N, lag)
        h: unit, of unit, lag.
    bin_s : float
        Seconds per bin.

    Returns
    -------
    ndarray, shape (N,)
        Spikes per second; infinite where there is no fixed point.

    References
    ----------
    Gerhard et al. 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.spike_simulation import steady_rate
    >>> steady_rate(np.log([10.0]), np.zeros((1, 1, 3)), 0.01)
    array([10.])
    """
    with np.errstate(over="ignore"):
        gain = np.expm1(filters).sum(axis=2) * bin_s
    r = np.exp(bias)
    for _ in range(_ROUNDS):
        eta = bias + gain @ r
        if not (eta + np.log(bin_s) <= _LARGEST).all():
            break
        # Half-way steps: full ones would jump to and fro where spikes inhibit strongly.
        new = 0.5 * (r + np.exp(eta))
        if np.abs(new - r).max() <= 1e-12 * new.max():
            return new
        r = new
    return np.full_like(r, np.inf)


def simulate_counts(
    bias: np.ndarray,
    filters: np.ndarray,
    bin_s: float,
    steps: int,
    rng: np.random.Generator,
    n_draws: int = 1,
    history: ArrayLike | None = None,
    drive: np.ndarray | None = None,
    ceiling: float | None = None,
) -> np.ndarray:
    """Spike counts of a population, bin after bin.

    Parameters
    ----------
    bias, filters, bin_s : ndarray (N,), ndarray (N, N, lag), float
        As for :func:`steady_rate`.
    steps : int
        Bins.
    rng : numpy.random.Generator
        Source of randomness.
    n_draws : int
        Futures.
    history : array_like, shape (at least lag, N), optional
        Counts before, the last ones last; by default there were no spikes.
    drive : ndarray, shape (steps, N), optional
        Further log rate.
    ceiling : float, optional
        Rate, in spikes per second, at which rates are held. Then populations that would run away may be
        simulated; by default they are refused.

    Returns
    -------
    ndarray, shape (n_draws, steps, N)

    Raises
    ------
    ValueError
        If spikes would beget spikes without end: the mean field has no steady rate, or a rate explodes; or
        if shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.spike_simulation import simulate_counts
    >>> refractory = np.full((1, 1, 3), -3.0)
    >>> simulate_counts(np.log([20.0]), refractory, 0.01, 1000, np.random.default_rng(0)).shape
    (1, 1000, 1)
    """
    start = _start(bias, filters, bin_s, steps, history, drive, ceiling)
    return _draw(start, filters, n_draws, rng, bin_s, ceiling)[0]


def simulate(
    fit: SpikeHistoryFit,
    steps: int,
    n_draws: int,
    rng: np.random.Generator,
    history: ArrayLike | None = None,
    columns: ArrayLike | None = None,
    exposure: ArrayLike | None = None,
    ceiling: float | None = None,
) -> np.ndarray:
    """Spike counts drawn from a fit.

    Parameters
    ----------
    fit : SpikeHistoryFit
        A fit.
    steps, n_draws, rng, history, ceiling
        As for :func:`simulate_counts`.
    columns : array_like, shape (steps, q)
        Covariates, if the fit has them.
    exposure : array_like, shape (steps,) or (steps, N), optional
        Factors of the expected counts.

    Returns
    -------
    ndarray, shape (n_draws, steps, N)

    Raises
    ------
    ValueError
        As `simulate_counts`, or if columns are missing.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.spike_history import fit_spike_history
    >>> counts = np.random.default_rng(0).poisson(0.2, (5000, 2))
    >>> fit = fit_spike_history(counts, 10, 3)
    >>> drawn = simulate(fit, 1000, 5, np.random.default_rng(1))
    >>> drawn.shape, round(float(drawn.mean()), 1)
    ((5, 1000, 2), 0.2)
    """
    filters = history_filters(fit)
    drive = _drive(fit, steps, columns, exposure)
    start = _start(fit.bias, filters, fit.bin_s, steps, history, drive, ceiling)
    return _draw(start, filters, n_draws, rng, fit.bin_s, ceiling)[0]


def forecast_rate(
    fit: SpikeHistoryFit,
    history: ArrayLike,
    steps: int,
    rng: np.random.Generator,
    n_draws: int = 1000,
    columns: ArrayLike | None = None,
    exposure: ArrayLike | None = None,
    ceiling: float | None = None,
) -> RateForecast:
    """Expected rates of the coming bins, given the spikes so far.

    The first bin's is exact. Later rates depend on spikes to come, and are averaged over simulated futures.

    Parameters
    ----------
    fit : SpikeHistoryFit
        A fit.
    history : array_like, shape (at least lag, N)
        Counts so far.
    steps, rng, n_draws, columns, exposure, ceiling
        As for :func:`simulate`.

    Returns
    -------
    RateForecast

    Raises
    ------
    ValueError
        As `simulate`.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.spike_history import fit_spike_history
    >>> counts = np.random.default_rng(0).poisson(0.2, (5000, 1))
    >>> fit = fit_spike_history(counts, 10, 3, bin_s=0.01)
    >>> ahead = forecast_rate(fit, counts, 20, np.random.default_rng(1))
    >>> bool(np.abs(ahead.mean - 20.0).max() < 3.0), float(ahead.error[0, 0])
    (True, 0.0)
    """
    if n_draws < 2:
        raise ValueError(f"n_draws is {n_draws}; allowed: at least 2")
    filters = history_filters(fit)
    drive = _drive(fit, steps, columns, exposure)
    start = _start(fit.bias, filters, fit.bin_s, steps, history, drive, ceiling)
    _, total, squares = _draw(start, filters, n_draws, rng, fit.bin_s, ceiling)
    mean = total / n_draws
    variance = np.maximum(squares / n_draws - mean**2, 0.0)
    variance[:1] = 0.0  # of numbers that are the same in all draws
    scale = fit.bin_s * _exposures(exposure, steps, mean.shape[1])
    return RateForecast(mean / scale, np.sqrt(variance / (n_draws - 1)) / scale)


def _exposures(exposure: ArrayLike | None, steps: int, N: int) -> np.ndarray:
    """Factors of the expected counts, (steps, N)."""
    factors = np.asarray(1.0 if exposure is None else exposure, dtype=float)
    factors = factors[:, None] if factors.ndim == 1 else factors
    if factors.shape not in ((), (steps, 1), (steps, N)) or not (np.isfinite(factors) & (factors > 0)).all():
        raise ValueError(
            f"exposure has shape {factors.shape}; allowed: ({steps},) or ({steps}, {N}), positive"
        )
    return np.broadcast_to(factors, (steps, N))


def _drive(
    fit: SpikeHistoryFit, steps: int, columns: ArrayLike | None, exposure: ArrayLike | None
) -> np.ndarray:
    """What covariates and exposure add to the log expected counts, (steps, N)."""
    N, q = fit.columns.shape
    z = np.empty((steps, 0)) if columns is None else np.asarray(columns, dtype=float)
    if z.shape != (steps, q) or not np.isfinite(z).all():
        raise ValueError(f"columns has shape {z.shape}; allowed: finite numbers of shape ({steps}, {q})")
    return z @ fit.columns.T + np.log(_exposures(exposure, steps, N))


def _start(
    bias: np.ndarray,
    filters: np.ndarray,
    bin_s: float,
    steps: int,
    history: ArrayLike | None,
    drive: np.ndarray | None,
    ceiling: float | None,
) -> np.ndarray:
    """Log expected counts of the coming bins as far as past and drive say, (steps, N); raise if unstable."""
    bias, filters = np.asarray(bias, dtype=float), np.asarray(filters, dtype=float)
    N, L = len(bias), filters.shape[2]
    if steps < 1:
        raise ValueError(f"steps is {steps}; allowed: at least 1")
    if ceiling is not None and not (np.isfinite(ceiling) and ceiling > 0):
        raise ValueError(f"ceiling is {ceiling!r}; allowed: a positive rate in spikes per second")
    further = np.zeros((steps, N)) if drive is None else np.asarray(drive, dtype=float)
    if further.shape != (steps, N):
        raise ValueError(f"drive has shape {further.shape}; allowed: ({steps}, {N})")
    if ceiling is None and not np.isfinite(steady_rate(bias + further.mean(axis=0), filters, bin_s)).all():
        raise ValueError(
            "filters are not stable: in the mean, spikes beget more spikes without end; give a ceiling"
        )
    eta = bias + np.log(bin_s) + further
    if history is not None:
        past = np.asarray(history, dtype=float)
        if past.ndim != 2 or past.shape[1] != N or len(past) < L or not np.isfinite(past[-L:]).all():
            raise ValueError(
                f"history has shape {past.shape}; allowed: at least {L} rows of {N} units, all observed"
            )
        for i in range(1, L + 1):  # the spikes i bins before the first to come
            reach = min(L - i + 1, steps)
            eta[:reach] += np.einsum("m,nmi->in", past[-i], filters[:, :, i - 1 : i - 1 + reach])
    return eta


def _draw(
    start: np.ndarray,
    filters: np.ndarray,
    n_draws: int,
    rng: np.random.Generator,
    bin_s: float,
    ceiling: float | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of all draws, and sums over draws of expected counts and their squares."""
    from hidamari.inference._spike_history import run

    kernel = np.ascontiguousarray(np.asarray(filters, dtype=float).transpose(1, 2, 0))  # of unit, lag, unit
    most = _LARGEST if ceiling is None else float(np.log(ceiling * bin_s))
    counts = np.zeros((n_draws, *start.shape))
    total, squares = np.zeros_like(start), np.zeros_like(start)
    for own in counts:
        expected = np.zeros_like(start)
        stopped = run(start.copy(), kernel, most, ceiling is not None, rng, own, expected)
        if stopped >= 0:
            raise ValueError(f"filters are not stable: a rate exploded in bin {stopped}; give a ceiling")
        total += expected
        squares += expected**2
    return counts, total, squares
