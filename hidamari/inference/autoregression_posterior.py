r"""What moments say about an autoregression beyond its least squares: posterior, evidence, robust errors.

With w | s2 ~ N(0, s2 D^-1), D = strength diag(C) / N, a flat intercept and p(s2) ~ 1 / s2, in closed form

    w | s2, y ~ N(m, s2 (C + D)^-1),   1 / s2 | y ~ Gamma((N - 1) / 2, (C_yy - m'(C + D) m) / 2).

References
----------
A. O'Hagan, J. Forster, Kendall's Advanced Theory of Statistics 2B: Bayesian Inference, 2004, chapter 11.
W. Newey, K. West, A simple positive semi-definite covariance matrix, Econometrica 1987.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import gammaln

from hidamari.inference._lag_input import as_segments
from hidamari.inference.autoregression import ARFit
from hidamari.inference.lags import Lagged, LagGram, complete_rows

__all__ = ["ARPosterior", "conjugate_posterior", "order_evidence", "robust_covariance"]


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


def robust_covariance(
    fit: ARFit,
    y: ArrayLike | Sequence[ArrayLike],
    columns: ArrayLike | Sequence[ArrayLike] | None = None,
    lagged: Sequence[Lagged] = (),
    n_lags: int = 0,
) -> np.ndarray:
    r"""Sandwich covariance of the intercept and coefficients, in one pass over the rows.

    (X'X)^-1 [sum_l k_l sum_t u_t u_{t-l}'] (X'X)^-1, u_t = x_t e_t, k_l = 1 - |l| / (n_lags + 1): for noise
    whose variance changes (``n_lags=0``, White), or that is correlated besides (Newey and West).

    Parameters
    ----------
    fit : ARFit
        Of these data, with all predictors in.
    y, columns, lagged
        As they were fitted.
    n_lags : int
        Lags of the scores that are correlated.

    Returns
    -------
    ndarray, shape (1 + m, 1 + m)

    Raises
    ------
    ValueError
        If predictors were selected, or n_lags is negative.

    References
    ----------
    Newey and West 1987.

    Examples
    --------
    >>> from hidamari.inference.autoregression import fit_exact
    >>> y = np.random.default_rng(0).standard_normal(4000)
    >>> fit = fit_exact(y, 2)
    >>> bool(np.allclose(robust_covariance(fit, y), fit.cov, rtol=0.3, atol=1e-5))
    True
    """
    if n_lags < 0:
        raise ValueError(f"n_lags is {n_lags}, but must be at least 0")
    if not fit.support.all():
        raise ValueError("fit has selected its predictors: fit those kept first")
    segments = as_segments("y", y, 1)
    fixed = [None] * len(segments) if columns is None else as_segments("columns", columns, 2)
    others = [as_segments(item.name, item.values, 1) for item in lagged]
    m = 1 + len(fit.coef)
    bread, meat = np.zeros((m, m)), np.zeros((m, m))
    for i, part in enumerate(segments):
        own = [Lagged(item.name, z[i], item.lags) for item, z in zip(lagged, others)]
        tail = np.zeros((0, m))
        for rows in complete_rows(part, fit.lags.tolist(), fixed[i], own):
            X = np.column_stack([np.ones(len(rows)), rows[:, 1:]])
            u = X * (rows[:, 0] - fit.intercept - rows[:, 1:] @ fit.coef)[:, None]
            bread += X.T @ X
            meat += u.T @ u
            both = np.vstack([tail, u])
            for lag in range(1, n_lags + 1):
                first = max(len(tail), lag)
                cross = both[first:].T @ both[first - lag : len(both) - lag]
                meat += (1.0 - lag / (n_lags + 1.0)) * (cross + cross.T)
            tail = both[len(both) - min(n_lags, len(both)) :]
    factor = cholesky(bread, lower=True)
    half = cho_solve((factor, True), meat)
    return cho_solve((factor, True), half.T)
