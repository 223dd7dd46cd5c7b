r"""What an autoregression says of the future: forecasts with variances, stability, spectrum, state space.

The process is u_t = sum_i w_i u_{t-i} + e_t + c_t, e_t ~ N(0, sigma2), with ``weights`` w (p,) for lags
1..p, zeros for lags that are not used. Its mean is taken off, or stands in the inputs c.
"""

from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter, lfiltic

from hidamari.statespace.types import StateSpace

__all__ = [
    "Direct",
    "autocovariances",
    "direct_forecasts",
    "forecast_covariance",
    "impulse_response",
    "is_stationary",
    "recursive_forecast",
    "reflection",
    "sample_paths",
    "spectrum",
    "to_statespace",
]


class Direct(NamedTuple):
    """One regression for each horizon on the same predictors."""

    coef: np.ndarray  # (horizon, predictor)
    intercept: np.ndarray  # (horizon,)
    cov: np.ndarray  # (horizon, horizon) of the errors


def impulse_response(weights: np.ndarray, steps: int) -> np.ndarray:
    r"""Response of the series to a unit shock, the psi weights.

    psi_0 = 1, psi_h = sum_{i=1..h} w_i psi_{h-i}.

    Parameters
    ----------
    weights : ndarray, shape (p,)
        w of lags 1..p.
    steps : int
        How many, from the time of the shock on.

    Returns
    -------
    ndarray, shape (steps,)

    Examples
    --------
    >>> from hidamari.inference.forecast import impulse_response
    >>> impulse_response([0.5], 4)
    array([1.   , 0.5  , 0.25 , 0.125])
    """
    shock = np.zeros(steps)
    shock[:1] = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(lfilter([1.0], _polynomial(weights), shock))


def recursive_forecast(weights: np.ndarray, history: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    r"""Expected values of the coming steps, each fed back as if it had been observed.

    u_h = sum_i w_i u_{h-i} + c_h: for a Gaussian process the mean of all that follows the history.

    Parameters
    ----------
    weights : ndarray, shape (p,)
        w of lags 1..p.
    history : ndarray, shape (..., at least p)
        Values before, the last one last.
    inputs : ndarray, shape (..., steps)
        c at the coming steps; its leading axes match those of the history.

    Returns
    -------
    ndarray, shape (..., steps)

    Raises
    ------
    ValueError
        If the history is shorter than the lags.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.forecast import recursive_forecast
    >>> recursive_forecast([0.5], np.array([8.0]), np.zeros(3))
    array([4., 2., 1.])
    """
    a, p = _polynomial(weights), len(weights)
    history, inputs = np.asarray(history, dtype=float), np.asarray(inputs, dtype=float)
    if history.shape[-1] < p:
        raise ValueError(f"history has {history.shape[-1]} values; allowed: at least {p}, one for each lag")
    if p == 0:
        return inputs.copy()
    rows = np.broadcast_shapes(history.shape[:-1], inputs.shape[:-1])
    past = np.broadcast_to(history[..., ::-1][..., :p], (*rows, p)).reshape(-1, p)
    states = np.array([lfiltic([1.0], a, own) for own in past])
    inputs = np.broadcast_to(inputs, (*rows, inputs.shape[-1])).reshape(-1, inputs.shape[-1])
    with np.errstate(over="ignore", invalid="ignore"):
        return lfilter([1.0], a, inputs, zi=states)[0].reshape(*rows, -1)


def forecast_covariance(
    weights: np.ndarray,
    sigma2: float,
    steps: int,
    unknown: np.ndarray | None = None,
    cov: np.ndarray | None = None,
) -> np.ndarray:
    r"""Covariance of the errors of recursive forecasts.

    Psi Psi' sigma2 + R P R', Psi the lower triangular Toeplitz matrix of the psi weights, R the response of
    the coming steps to those values of the history that were not observed, P their covariance.

    Parameters
    ----------
    weights, sigma2 : ndarray (p,), float
        w of lags 1..p, and the variance of the innovations.
    steps : int
        Number of steps ahead.
    unknown : ndarray of int, shape (m,), optional
        Lags, as seen from the first step ahead, of history that was not observed: 1 is the last value.
    cov : ndarray, shape (m, m), optional
        Their covariance given all that was observed.

    Returns
    -------
    ndarray, shape (steps, steps)

    Examples
    --------
    >>> from hidamari.inference.forecast import forecast_covariance
    >>> forecast_covariance([0.5], 1.0, 2)
    array([[1.  , 0.5 ],
           [0.5 , 1.25]])
    """
    psi = impulse_response(weights, steps)
    lag = np.subtract.outer(np.arange(steps), np.arange(steps))
    with np.errstate(over="ignore", invalid="ignore"):
        response = np.where(lag >= 0, psi[np.maximum(lag, 0)], 0.0)
        found = sigma2 * response @ response.T
        if unknown is not None and len(unknown):
            ones = np.zeros((len(unknown), len(weights)))
            ones[np.arange(len(unknown)), len(weights) - np.asarray(unknown)] = 1.0
            reaction = recursive_forecast(weights, ones, np.zeros(steps))
            found += reaction.T @ np.asarray(cov) @ reaction
    return found


def sample_paths(
    weights: np.ndarray, sigma2: float, history: np.ndarray, inputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    r"""Draws of the coming steps, with innovations from N(0, sigma2).

    Parameters
    ----------
    weights, sigma2 : ndarray (p,), float
        w of lags 1..p, and the variance of the innovations.
    history : ndarray, shape (n, at least p)
        Values before, one row for each draw, the last value last.
    inputs : ndarray, shape (steps,) or (n, steps)
        c at the coming steps.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray, shape (n, steps)

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.forecast import sample_paths
    >>> rng = np.random.default_rng(0)
    >>> sample_paths([0.5], 0.0, np.array([[8.0], [4.0]]), np.zeros(2), rng)
    array([[4., 2.],
           [2., 1.]])
    """
    shape = (len(history), np.shape(inputs)[-1])
    return recursive_forecast(weights, history, inputs + np.sqrt(sigma2) * rng.standard_normal(shape))


def direct_forecasts(moments: np.ndarray, means: np.ndarray, n_rows: int, steps: int) -> Direct:
    r"""Regressions of every step ahead on the same predictors, by one factorisation.

    W = G_xx^-1 G_xy for all horizons at once; the errors have covariance (G_yy - W' G_xy) / (n - m - 1).

    Parameters
    ----------
    moments : ndarray, shape (H + m, H + m)
        Sums of products about the means: of y_t, ..., y_{t+H-1}, then of the predictors.
    means : ndarray, shape (H + m,)
        Their means.
    n_rows : int
        Rows summed over.
    steps : int
        H.

    Returns
    -------
    Direct

    Raises
    ------
    ValueError
        If there are fewer rows than predictors, or these are linearly dependent.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.forecast import direct_forecasts
    >>> moments = np.array([[1.0, 0.5, 0.5], [0.5, 1.0, 0.25], [0.5, 0.25, 1.0]])
    >>> direct_forecasts(100 * moments, np.zeros(3), 100, 2).coef
    array([[0.5 ],
           [0.25]])
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    m = len(moments) - steps
    if n_rows <= m + 1:
        raise ValueError(f"n_rows is {n_rows}; allowed: more than the {m} predictors and one")
    across = moments[steps:, :steps]
    try:
        coef = cho_solve(cho_factor(moments[steps:, steps:]), across).T
    except LinAlgError:
        raise ValueError("moments are of linearly dependent predictors") from None
    rest = moments[:steps, :steps] - coef @ across
    return Direct(coef, means[:steps] - coef @ means[steps:], rest / (n_rows - m - 1))


def reflection(weights: np.ndarray) -> np.ndarray:
    r"""Partial autocorrelations of the process, by Levinson's recursion run backwards.

    r_k = w^(k)_k, w^(k-1)_i = (w^(k)_i + r_k w^(k)_{k-i}) / (1 - r_k^2). The process is stationary if and
    only if all lie between -1 and 1; from the first that does not (going down) lower ones are NaN.

    Parameters
    ----------
    weights : ndarray, shape (p,)
        w of lags 1..p.

    Returns
    -------
    ndarray, shape (p,)

    Examples
    --------
    >>> from hidamari.inference.forecast import reflection
    >>> reflection([0.25, 0.5])
    array([0.5, 0.5])
    """
    w = np.array(weights, dtype=float)
    found = np.full(len(w), np.nan)
    for k in range(len(w) - 1, -1, -1):
        r = found[k] = w[k]
        if not abs(r) < 1.0:
            break
        w = (w[:k] + r * w[:k][::-1]) / ((1.0 - r) * (1.0 + r))
    return found


def is_stationary(weights: np.ndarray) -> bool:
    """Whether all roots of 1 - sum_i w_i z^i lie outside the unit circle.

    Parameters
    ----------
    weights : ndarray, shape (p,)
        w of lags 1..p.

    Returns
    -------
    bool

    Examples
    --------
    >>> from hidamari.inference.forecast import is_stationary
    >>> is_stationary([0.9]), is_stationary([1.8, -0.81]), is_stationary([1.0])
    (True, True, False)
    """
    return bool((np.abs(reflection(weights)) < 1.0).all())


def autocovariances(weights: np.ndarray, sigma2: float, n: int) -> np.ndarray:
    r"""Covariance of the stationary process with itself at lags 0..n-1.

    gamma_0 = sigma2 / prod_k (1 - r_k^2), gamma_k = sum_i w^(k)_i gamma_{k-i} with the predictor of order k.

    Parameters
    ----------
    weights, sigma2 : ndarray (p,), float
        w of lags 1..p, and the variance of the innovations.
    n : int
        Number of lags.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        If the process is not stationary.

    Examples
    --------
    >>> from hidamari.inference.forecast import autocovariances
    >>> autocovariances([0.5], 0.75, 3)
    array([1.  , 0.5 , 0.25])
    """
    r, p = reflection(weights), len(weights)
    if not (np.abs(r) < 1.0).all():
        raise ValueError("weights are not of a stationary process, which alone has autocovariances")
    gamma = np.zeros(max(n, p + 1))
    gamma[0] = sigma2 / np.prod((1.0 - r) * (1.0 + r))
    w = np.empty(0)
    for k in range(1, len(gamma)):
        if k <= p:
            w = np.append(w - r[k - 1] * w[::-1], r[k - 1])
        gamma[k] = w @ gamma[k - len(w) : k][::-1]
    return gamma[:n]


def spectrum(weights: np.ndarray, sigma2: float, freqs: np.ndarray, step: float = 1.0) -> np.ndarray:
    r"""Power spectral density of the process, two-sided, so that it integrates to the variance.

    S(f) = sigma2 step / abs(1 - sum_k w_k exp(-2 pi i f k step))^2.

    Parameters
    ----------
    weights, sigma2 : ndarray (p,), float
        w of lags 1..p, and the variance of the innovations.
    freqs : ndarray, shape (n,)
        Cycles per unit of time.
    step : float
        Time from one row to the next.

    Returns
    -------
    ndarray, shape (n,)
        Squared units of the series times unit of time.

    Examples
    --------
    >>> from hidamari.inference.forecast import spectrum
    >>> spectrum([0.5], 1.0, [0.0, 0.5]).round(6)
    array([4.      , 0.444444])
    """
    # Products of step and lag first, and whole turns taken off: exact for the frequencies of a grid.
    turns = np.multiply.outer(np.asarray(freqs, dtype=float) * step, np.arange(1, len(weights) + 1))
    response = 1.0 - np.exp(-2j * np.pi * (turns % 1.0)) @ np.asarray(weights, dtype=float)
    return sigma2 * step / np.abs(response) ** 2


def to_statespace(weights: np.ndarray, sigma2: float, n_rows: int) -> StateSpace:
    r"""The process as one Markov chain whose state is the last p values, started in its stationary law.

    x_t = (u_t, ..., u_{t-p+1}), A the companion matrix, H = e_1, Q = sigma2 e_1 e_1', P the Toeplitz matrix
    of the autocovariances.

    Parameters
    ----------
    weights, sigma2 : ndarray (p,), float
        w of lags 1..p, and the variance of the innovations.
    n_rows : int
        Length of the time axis.

    Returns
    -------
    StateSpace
        One chain of p states; a process without lags has one.

    Raises
    ------
    ValueError
        If the process is not stationary.

    Examples
    --------
    >>> from hidamari.inference.forecast import to_statespace
    >>> to_statespace([0.5, 0.2], 1.0, 10).A[0, 0]
    array([[0.5, 0.2],
           [1. , 0. ]])
    """
    from scipy.linalg import toeplitz

    w = np.asarray(weights, dtype=float)
    w = w if len(w) else np.zeros(1)
    p = len(w)
    A, Q = np.eye(p, k=-1), np.zeros((p, p))
    A[0], Q[0, 0] = w, sigma2
    P = toeplitz(autocovariances(w, sigma2, p))
    step = np.zeros(n_rows, dtype=np.int64)
    step[:1] = -1
    H = np.eye(1, p)
    return StateSpace(A[None, None], Q[None, None], step, H[None], np.zeros((1, p)), P[None])


def _polynomial(weights: np.ndarray) -> np.ndarray:
    """Coefficients of 1 - sum_i w_i z^i."""
    return np.append(1.0, -np.asarray(weights, dtype=float))
