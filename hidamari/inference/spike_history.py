r"""Spike counts that depend on past spikes: a generalised linear model with few, smooth filters.

y_tn ~ Poisson(rate_tn bin_s), log rate_tn = b_n + sum_k g_nk z_tk + sum_m sum_{i>=1} h_nm(i) y_{t-i,m},

h_nm = sum_j H_nmj phi_j with raised-cosine bumps phi_j of lag, narrow soon after a spike, wide later.

References
----------
J. W. Pillow et al., Spatio-temporal correlations and visual signalling in a complete neuronal population,
Nature 454, 2008.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = [
    "SpikeHistory",
    "fit_spike_history",
    "history_filters",
    "raised_cosines",
    "simulate",
    "steady_rate",
]

_MOST_STEPS = 100  # Newton steps; a dozen are enough unless spikes are separable
_FLAT = 1e-6  # of the curvature that a constant rate would give
_LARGEST = 30.0  # log of a rate per bin beyond which a population has run away


class SpikeHistory(NamedTuple):
    """Fitted filters of a population."""

    bias: np.ndarray  # (N,) log rate, spikes per second, without any past spike
    weights: np.ndarray  # (N, N, K) of each basis function: unit, on spikes of unit
    stimulus: np.ndarray  # (N, q)
    standard_errors: np.ndarray  # (N, 1 + q + N K) in the order bias, stimulus, weights
    log_likelihood: np.ndarray  # (N,)
    n_iter: np.ndarray  # (N,)
    basis: np.ndarray  # (lag, K)
    bin_s: float


def raised_cosines(n_lags: int, n_basis: int, spread: float = 1.0) -> np.ndarray:
    r"""Smooth bumps over lags 1..n_lags, evenly spaced on a logarithmic axis.

    phi_j(i) = (1 + cos(clip((x_i - c_j) pi / (2 d), -pi, pi))) / 2, x_i = log(i + spread), with centres c_j a
    distance d apart from the first lag on; all vanish beyond the last lag.

    Parameters
    ----------
    n_lags : int
        Bins that a spike is felt.
    n_basis : int
        Number of bumps, at most as many as lags.
    spread : float
        Bins up to which the axis is nearly linear.

    Returns
    -------
    ndarray, shape (n_lags, n_basis)

    Raises
    ------
    ValueError
        If there are more bumps than lags, or a number is not positive.

    Examples
    --------
    >>> from hidamari.inference.spike_history import raised_cosines
    >>> raised_cosines(50, 8).shape
    (50, 8)
    """
    if not 1 <= n_basis <= n_lags:
        raise ValueError(f"n_basis is {n_basis}; allowed: from 1 to n_lags, {n_lags}")
    if not (np.isfinite(spread) and spread > 0):
        raise ValueError(f"spread is {spread!r}; allowed: a positive number of bins")
    x = np.log(np.arange(1, n_lags + 1) + spread)
    end = np.log(n_lags + 1 + spread)  # the first lag at which nothing is felt any more
    apart = (end - x[0]) / (n_basis + 1)
    centres = x[0] + apart * np.arange(n_basis)
    return 0.5 + 0.5 * np.cos(np.clip(np.subtract.outer(x, centres) * np.pi / (2 * apart), -np.pi, np.pi))


def fit_spike_history(
    spikes: Sequence[np.ndarray],
    basis: np.ndarray,
    bin_s: float,
    stimulus: Sequence[np.ndarray] | None = None,
    ridge: float = 0.0,
    coupling: bool = True,
) -> SpikeHistory:
    r"""Maximum likelihood filters of every unit, by Newton's method.

    Each unit is a Poisson regression with log link, concave and of its own. The bins of a trial before its
    first are taken to have had no spikes. Bins where a count that matters is NaN are left out.

    Parameters
    ----------
    spikes : sequence of ndarray (T_r, N)
        Counts of each trial.
    basis : ndarray, shape (lag, K)
        Basis of the filters over lags 1..lag.
    bin_s : float
        Seconds per bin.
    stimulus : sequence of ndarray (T_r, q), optional
        Covariates at the time of the count.
    ridge : float
        Precision of a Gaussian prior about zero on weights and stimulus, in nats.
    coupling : bool
        Whether units feel each other, or themselves alone.

    Returns
    -------
    SpikeHistory

    Raises
    ------
    ValueError
        If shapes do not fit, a unit has no spikes, or the likelihood has no maximum (ridge gives it one).

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.spike_history import fit_spike_history, raised_cosines
    >>> counts = np.random.default_rng(0).poisson(0.2, (5000, 2)).astype(float)
    >>> found = fit_spike_history([counts], raised_cosines(10, 3), bin_s=0.01)
    >>> found.weights.shape, bool(np.abs(np.exp(found.bias) - 20.0).max() < 3.0)
    ((2, 2, 3), True)
    """
    counts = [np.asarray(own, dtype=float) for own in spikes]
    N, K = counts[0].shape[1], basis.shape[1]
    past = np.concatenate([_convolved(own, basis) for own in counts])  # (T, N, K)
    y = np.concatenate(counts)
    for n in np.flatnonzero(~(np.nan_to_num(y) > 0).any(axis=0)):
        raise ValueError(f"spikes of unit {n} are all 0; allowed: some spikes")
    if stimulus is None:
        z = np.empty((len(y), 0))
    else:
        z = np.concatenate([np.asarray(own, dtype=float) for own in stimulus])
    if len(z) != len(y):
        raise ValueError(f"stimulus has {len(z)} rows but spikes have {len(y)}; they must agree")
    q = z.shape[1]
    full = np.zeros((N, 1 + q + N * K))
    errors = np.full_like(full, np.nan)
    log_likelihood, n_iter = np.empty(N), np.empty(N, dtype=int)
    for n in range(N):
        felt = list(range(N)) if coupling else [n]
        X = np.concatenate([np.ones((len(y), 1)), z, past[:, felt].reshape(len(y), -1)], axis=1)
        at = np.concatenate(
            [np.arange(1 + q), 1 + q + np.add.outer(np.multiply(felt, K), np.arange(K)).ravel()]
        )
        usable = np.isfinite(X).all(axis=1) & np.isfinite(y[:, n])
        w, cov, log_likelihood[n], n_iter[n] = _poisson_regression(X[usable], y[usable, n], ridge, n)
        full[n, at], errors[n, at] = w, np.sqrt(np.diag(cov))
    bias = full[:, 0] - np.log(bin_s)
    weights = full[:, 1 + q :].reshape(N, N, K)
    return SpikeHistory(
        bias, weights, full[:, 1 : 1 + q], errors, log_likelihood, n_iter, basis.copy(), float(bin_s)
    )


def history_filters(fit: SpikeHistory) -> np.ndarray:
    """Filters over lag: the change of a unit's log rate so many bins after a spike of another.

    Parameters
    ----------
    fit : SpikeHistory
        A fit.

    Returns
    -------
    ndarray, shape (unit, of unit, lag)

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.spike_history import SpikeHistory, history_filters
    >>> none = np.zeros(1)
    >>> fit = SpikeHistory(none, np.ones((1, 1, 2)), none, none, none, none, np.eye(2), 0.01)
    >>> history_filters(fit).tolist()
    [[[1.0, 1.0]]]
    """
    return fit.weights @ fit.basis.T


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
    F. Gerhard, M. Deger, W. Truccolo, On the stability and dynamics of stochastic spiking neuron models:
    nonlinear Hawkes process and point process GLMs, PLoS Computational Biology 13, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.spike_history import steady_rate
    >>> steady_rate(np.log([10.0]), np.zeros((1, 1, 3)), 0.01)
    array([10.])
    """
    gain = np.expm1(filters).sum(axis=2) * bin_s
    r = np.exp(bias)
    for _ in range(100_000):
        eta = bias + gain @ r
        if (eta + np.log(bin_s) > _LARGEST).any():
            return np.full_like(r, np.inf)
        # Half-way steps: full ones would jump to and fro where spikes inhibit strongly.
        new = 0.5 * (r + np.exp(eta))
        if np.abs(new - r).max() <= 1e-12 * new.max():
            return new
        r = new
    return np.full_like(r, np.inf)


def simulate(
    bias: np.ndarray,
    filters: np.ndarray,
    bin_s: float,
    n_bins: int,
    rng: np.random.Generator,
    drive: np.ndarray | None = None,
) -> np.ndarray:
    r"""Spike counts of a population, bin after bin, from no past spikes.

    Parameters
    ----------
    bias, filters, bin_s : ndarray (N,), ndarray (N, N, lag), float
        As for :func:`steady_rate`.
    n_bins : int
        Length.
    rng : numpy.random.Generator
        Source of randomness.
    drive : ndarray, shape (n_bins, N), optional
        Further log rate.

    Returns
    -------
    ndarray of float, shape (n_bins, N)

    Raises
    ------
    ValueError
        If spikes would beget spikes without end: the mean field has no steady rate, or a rate explodes.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.spike_history import simulate
    >>> refractory = np.full((1, 1, 3), -3.0)
    >>> simulate(np.log([20.0]), refractory, 0.01, 1000, np.random.default_rng(0)).shape
    (1000, 1)
    """
    if not np.isfinite(steady_rate(bias, filters, bin_s)).all():
        raise ValueError("filters are not stable: in the mean, spikes beget more spikes without end")
    N, lags = len(bias), filters.shape[2]
    counts = np.zeros((lags + n_bins, N))
    eta = np.tile(bias + np.log(bin_s), (n_bins + lags, 1)).astype(float)
    if drive is not None:
        eta[:n_bins] += drive
    kernel = np.ascontiguousarray(filters.transpose(1, 2, 0))  # of unit, lag, unit
    for t in range(n_bins):
        if (eta[t] > _LARGEST).any():
            raise ValueError(f"filters are not stable: a rate exploded in bin {t}")
        spikes = counts[t] = rng.poisson(np.exp(eta[t]))
        for m in np.flatnonzero(spikes):
            eta[t + 1 : t + 1 + lags] += spikes[m] * kernel[m]
    return counts[:n_bins]


def _convolved(counts: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Past spikes seen through each basis function, (T, N, K)."""
    T, N = counts.shape
    found = np.empty((T, N, basis.shape[1]))
    seen = np.isfinite(counts)
    known = np.where(seen, counts, 0.0)
    reach = np.ones(len(basis))
    for n in range(N):
        for k, phi in enumerate(basis.T):
            found[:, n, k] = np.convolve(known[:, n], np.append(0.0, phi))[:T]
        if not seen[:, n].all():
            found[np.convolve(~seen[:, n], np.append(0.0, reach))[:T] > 0.5, n] = np.nan
    return found


def _poisson_regression(
    X: np.ndarray, y: np.ndarray, ridge: float, unit: int
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Weights, their covariance, log likelihood and steps of one Poisson regression with log link."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve
    from scipy.special import gammaln

    held = np.full(X.shape[1], ridge)
    held[0] = 0.0
    w = np.zeros(X.shape[1])
    w[0] = np.log(y.mean())
    constant = -gammaln(y + 1.0).sum()

    def objective(w: np.ndarray) -> tuple[float, np.ndarray, float]:
        """Penalised log likelihood, expected counts, log likelihood."""
        eta = X @ w
        with np.errstate(over="ignore"):
            rate = np.exp(eta)
        value = y @ eta - rate.sum() + constant
        return value - 0.5 * held @ w**2, rate, value

    now, rate, value = objective(w)
    for step in range(1, _MOST_STEPS + 1):
        slope = X.T @ (y - rate) - held * w
        curvature = (X.T * rate) @ X + np.diag(held)
        try:
            move = cho_solve(cho_factor(curvature), slope)
        except LinAlgError:
            raise ValueError(
                f"spikes of unit {unit} do not determine its filters; a positive ridge does"
            ) from None
        size = 1.0
        while not (new := objective(w + size * move))[0] >= now - 1e-12 * abs(now):
            size *= 0.5  # the objective is concave: some part of a Newton step always climbs
        w = w + size * move
        now, rate, value = new
        # Newton's decrement: twice the climb that is left.
        if slope @ move < 1e-20 * len(y) + 1e-14:
            curvature = (X.T * rate) @ X + np.diag(held)
            # On the way to infinite weights the rates that hold them vanish, and the climb with them.
            if (np.diag(curvature) < _FLAT * y.mean() * (X**2).sum(axis=0)).any():
                break
            return w, cho_solve(cho_factor(curvature), np.eye(len(w))), float(value), step
    raise ValueError(f"the likelihood of unit {unit} has no maximum: spikes are separable; give a ridge")
