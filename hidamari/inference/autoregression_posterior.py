r"""Posterior of an autoregression and evidence for its order, in closed form from moments.

With w | s2 ~ N(0, s2 D^-1), D = strength diag(C) / N, a flat intercept and p(s2) ~ 1 / s2, in closed form

    w | s2, y ~ N(m, s2 (C + D)^-1),   1 / s2 | y ~ Gamma((N - 1) / 2, (C_yy - m'(C + D) m) / 2).

References
----------
A. O'Hagan, J. Forster, Kendall's Advanced Theory of Statistics 2B: Bayesian Inference, 2004, chapter 11.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import gammaln

from hidamari.inference.lags import LagGram

__all__ = ["ARPosterior", "conjugate_posterior", "order_evidence"]


class ARPosterior(NamedTuple):
    """Normal-inverse-gamma law of the coefficients and the variance."""

    mean: np.ndarray  # (m,) of the coefficients
    precision: np.ndarray  # (m, m), times 1 / s2
    shape: float  # a
    rate: float  # b
    log_evidence: float  # of models on the same rows, up to one constant

    @property
    def cov(self) -> np.ndarray:
        """Covariance of the coefficients, (m, m): they are Student's t with 2 a degrees of freedom."""
        return np.linalg.inv(self.precision) * (self.rate / (self.shape - 1.0))


def conjugate_posterior(gram: LagGram, strength: float = 1.0) -> ARPosterior:
    r"""Posterior of coefficients and variance, and the evidence of the model, from moments.

    Parameters
    ----------
    gram : LagGram
        Moments.
    strength : float
        The prior is worth so many rows: 1 is the unit-information prior.

    Returns
    -------
    ARPosterior

    Raises
    ------
    ValueError
        If the strength is not positive, or a predictor does not vary.

    References
    ----------
    O'Hagan and Forster 2004.

    Examples
    --------
    >>> from hidamari.inference.autoregression import lag_gram
    >>> y = np.random.default_rng(0).standard_normal(500).cumsum()
    >>> posterior = conjugate_posterior(lag_gram(y, 1))
    >>> posterior.mean.round(2).tolist(), posterior.shape
    ([0.99], 249.0)
    """
    L, z, D = _factor(gram, strength)
    mean = solve_triangular(L.T, z, lower=False)
    rate = 0.5 * (float(gram.moments[0, 0]) - float(z @ z))
    return ARPosterior(mean, L @ L.T, 0.5 * (gram.n_rows - 1), rate, float(_evidence(gram, L, z, D)[-1]))


def order_evidence(gram: LagGram, strength: float = 1.0) -> np.ndarray:
    """Log evidence of the first 0, 1, ..., m predictors, (m + 1,), all from one Cholesky factor.

    Parameters
    ----------
    gram, strength
        As for :func:`conjugate_posterior`.

    Returns
    -------
    ndarray, shape (m + 1,)
        Up to one constant. Exponentiate and normalise for a posterior over orders.

    Raises
    ------
    ValueError
        As `conjugate_posterior`.

    References
    ----------
    O'Hagan and Forster 2004.

    Examples
    --------
    >>> from hidamari.inference.autoregression import lag_gram
    >>> y = np.random.default_rng(0).standard_normal(5000)
    >>> int(np.argmax(order_evidence(lag_gram(y[1:] + 0.5 * y[:-1], 9)))) > 2  # a moving average
    True
    """
    return _evidence(gram, *_factor(gram, strength))


def _factor(gram: LagGram, strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cholesky factor L of C + D, z = L^-1 c, and the diagonal of D."""
    if not strength > 0.0:
        raise ValueError(f"strength is {strength}, but must be positive")
    C, c = gram.moments[1:, 1:], gram.moments[1:, 0]
    if gram.n_responses != 1 or np.any(np.diag(gram.moments) <= 0.0):
        raise ValueError("gram must have one response, and all of its columns must vary")
    D = strength * np.diag(C) / gram.n_rows
    L = cholesky(C + np.diag(D), lower=True)
    return L, solve_triangular(L, c, lower=True), D


def _evidence(gram: LagGram, L: np.ndarray, z: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Log evidence of the first k predictors: factor, z and D of these are the first of those of all."""
    a = 0.5 * (gram.n_rows - 1)
    rates = 0.5 * (gram.moments[0, 0] - np.concatenate([[0.0], np.cumsum(z**2)]))
    logs = np.concatenate([[0.0], np.cumsum(0.5 * np.log(D) - np.log(np.diag(L)))])
    return gammaln(a) - a * np.log(2.0 * np.pi) - 0.5 * np.log(gram.n_rows) + logs - a * np.log(rates)
