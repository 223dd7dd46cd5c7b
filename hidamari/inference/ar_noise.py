r"""Autoregressions that were measured with errors: y_t = u_t + eps_t, eps_t ~ N(0, r).

Errors of measurement pull least squares towards zero. The likelihood of y is that of a state-space model,
here with the banded precision of u given y, sum_t a_t a_t' / sigma2 + I / r, at T p^2. Its slope is
the expectation of the slope of log p(y, u) given y (Fisher's identity), which moments of u give.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hidamari.inference.gaps import expected_gram
from hidamari.inference.reflections import levinson

__all__ = ["Noisy", "fit_noise"]

_LEAST = 1e-4  # share of the innovations' variance below which errors of measurement are not told from none


class Noisy(NamedTuple):
    """An autoregression and the error it was measured with."""

    coef: np.ndarray  # (m,)
    intercept: float
    sigma2: float
    noise: float  # r
    standard_errors: np.ndarray  # (m,) by the curvature of the likelihood
    log_likelihood: float


def fit_noise(segments: Sequence[np.ndarray], lags: Sequence[int], max_iter: int = 200) -> Noisy:
    r"""Maximum likelihood of an autoregression with errors of measurement.

    Parameters
    ----------
    segments : sequence of ndarray (T_r,)
        NaN: not observed. The first p values have the stationary law of a Yule-Walker fit.
    lags : sequence of int
        Lags of the autoregression.
    max_iter : int
        Most steps of the quasi-Newton method.

    Returns
    -------
    Noisy
        With ``noise`` 0 where the likelihood falls with it.

    Raises
    ------
    ValueError
        If there is no lag: then innovations and errors cannot be told apart.

    References
    ----------
    R. H. Jones, Maximum likelihood fitting of ARMA models to time series with missing observations, 1980.

    Examples
    --------
    >>> from scipy.signal import lfilter
    >>> rng = np.random.default_rng(0)
    >>> u = lfilter([1.0], [1.0, -0.9], rng.standard_normal(4000))
    >>> found = fit_noise([u + rng.standard_normal(4000)], [1])
    >>> found.coef.round(1).tolist(), round(found.noise)
    ([0.9], 1)
    """
    from scipy.optimize import minimize

    if len(lags) == 0:
        raise ValueError("lags is empty: errors of measurement cannot be told from innovations")
    own = np.asarray(lags, dtype=int)
    p, m = int(own.max()), len(own)
    seen = np.concatenate([part[np.isfinite(part)] for part in segments])
    centre, scale = float(seen.mean()), float(seen.std())
    parts = [(part - centre) / scale for part in segments]
    first = levinson(parts, min(p, max(map(len, parts)) - 1))
    data = np.concatenate(parts)
    known = np.isfinite(data)

    def unpacked(theta: np.ndarray) -> tuple[np.ndarray, float, float, float]:
        """Weights of lags 1..p, intercept, sigma2, r."""
        w = np.zeros(p)
        w[own - 1] = theta[:m]
        return w, float(theta[m]), float(np.exp(theta[m + 1])), float(np.exp(theta[m + 2]))

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log-likelihood and its slope."""
        w, c, sigma2, r = unpacked(theta)
        gram, imputed = expected_gram(parts, [(w, sigma2, c, first, r)] * len(parts), own.tolist())
        contrast = np.append(1.0, -theta[:m])
        away = float(contrast @ gram.means) - c
        left = gram.moments @ contrast
        squares = float(contrast @ left) + gram.n_rows * away**2
        x = np.concatenate([one.values for one in imputed])
        var = np.concatenate([one.var for one in imputed])
        misses = float(np.sum((data[known] - x[known]) ** 2 + var[known]))
        slope = np.empty(m + 3)
        slope[:m] = (left[1:] + gram.n_rows * away * gram.means[1:]) / sigma2
        slope[m] = gram.n_rows * away / sigma2
        slope[m + 1] = 0.5 * (squares / sigma2 - gram.n_rows)
        slope[m + 2] = 0.5 * (misses / r - known.sum())
        return -sum(one.log_likelihood for one in imputed), -slope

    w = np.zeros(p)
    w[: len(first.coef)] = first.coef
    half = np.log(0.5 * first.sigma2)
    start = np.concatenate([w[own - 1], [first.intercept, half, half]])
    low = np.log(_LEAST * first.sigma2)
    bounds = [(None, None)] * (m + 1) + [(low, None), (low, 1.0)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": max_iter})
    _, c, sigma2, r = unpacked(found.x)
    held = found.x[m + 2] <= low
    errors = _errors(lambda theta: loss(theta)[1], found.x, m, m + 2 if held else m + 3)
    c = scale * c + centre * (1.0 - float(found.x[:m].sum()))
    value = -float(found.fun) - float(known.sum()) * np.log(scale)
    return Noisy(found.x[:m], c, scale**2 * sigma2, 0.0 if held else scale**2 * r, errors, value)


def _errors(slope, at: np.ndarray, m: int, n: int) -> np.ndarray:
    """Standard errors of the first m numbers, by differences of the slope by the first n."""
    step = 1e-5
    curvature = np.empty((n, n))
    for i in range(n):
        move = step * (np.arange(len(at)) == i)
        curvature[i] = (slope(at + move) - slope(at - move))[:n] / (2.0 * step)
    covariance = np.linalg.pinv(0.5 * (curvature + curvature.T))
    return np.sqrt(np.maximum(np.diag(covariance)[:m], 0.0))
