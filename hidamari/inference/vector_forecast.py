r"""What a vector autoregression says of the future: responses, forecasts with covariances, draws."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference.vector_autoregression import VectorFit

__all__ = [
    "VectorForecast",
    "is_stationary",
    "spectral_radius",
    "vector_draws",
    "vector_forecast",
    "vector_response",
]


class VectorForecast(NamedTuple):
    """Means and covariances of coming values given the past."""

    mean: np.ndarray  # (steps, N)
    cov: np.ndarray  # (steps, N, N) of the units at each step


def spectral_radius(fit: VectorFit) -> float:
    """Largest modulus of the eigenvalues of the companion matrix: the factor by which shocks fade a step.

    Parameters
    ----------
    fit : VectorFit
        A fit.

    Returns
    -------
    float
        Below 1 if and only if the process is stationary.

    Examples
    --------
    >>> from hidamari.inference.vector_autoregression import fit_vector
    >>> y = np.random.default_rng(0).standard_normal((500, 3)).cumsum(axis=0)
    >>> bool(0.97 < spectral_radius(fit_vector(y, 1)) < 1.01)
    True
    """
    N, _, p = fit.coef.shape
    companion = np.eye(N * p, k=-N)
    companion[:N] = fit.coef.transpose(0, 2, 1).reshape(N, -1)
    return float(np.abs(np.linalg.eigvals(companion)).max())


def is_stationary(fit: VectorFit) -> bool:
    """Whether shocks fade.

    Examples
    --------
    >>> from hidamari.inference.vector_autoregression import fit_vector
    >>> is_stationary(fit_vector(np.random.default_rng(0).standard_normal((500, 3)), 2))
    True
    """
    return spectral_radius(fit) < 1.0


def vector_response(fit: VectorFit, steps: int) -> np.ndarray:
    r"""Response of every unit to a unit shock in another.

    Psi_0 = I, Psi_h = sum_i A_i Psi_{h-i}.

    Parameters
    ----------
    fit : VectorFit
        A fit.
    steps : int
        How many, from the time of the shock on.

    Returns
    -------
    ndarray, shape (steps, N, N)
        Step, unit, shocked unit.

    Examples
    --------
    >>> from hidamari.inference.vector_autoregression import fit_vector
    >>> fit = fit_vector(np.random.default_rng(0).standard_normal((500, 2)), 1)
    >>> bool(np.allclose(vector_response(fit, 3)[2], fit.coef[:, :, 0] @ fit.coef[:, :, 0]))
    True
    """
    N, _, p = fit.coef.shape
    psi = np.zeros((steps, N, N))
    psi[:1] = np.eye(N)
    for h in range(1, steps):
        for i in range(min(h, p)):
            psi[h] += fit.coef[:, :, i] @ psi[h - 1 - i]
    return psi


def vector_forecast(fit: VectorFit, history: ArrayLike, steps: int) -> VectorForecast:
    r"""Expected values of the coming steps and the covariances of their errors.

    mean_h = c + sum_i A_i y_{h-i}, means standing in for what is not known yet;
    cov_h = sum_{k<h} Psi_k Sigma Psi_k', with the coefficients taken as known.

    Parameters
    ----------
    fit : VectorFit
        A fit.
    history : array_like, shape (at least p, N)
        Values before, the last one last.
    steps : int
        How many.

    Returns
    -------
    VectorForecast

    Raises
    ------
    ValueError
        If the history is too short, or holds values that are not observed.

    Examples
    --------
    >>> from hidamari.inference.vector_autoregression import fit_vector
    >>> y = np.random.default_rng(0).standard_normal((500, 2)) + [1.0, 5.0]
    >>> vector_forecast(fit_vector(y, 1), y, 50).mean[-1].round()
    array([1., 5.])
    """
    past = _history(fit, history)
    mean = _run(fit, past[None], np.zeros((1, steps, len(fit.intercept))))[0]
    psi = vector_response(fit, steps)
    return VectorForecast(mean, np.cumsum(psi @ fit.sigma @ psi.transpose(0, 2, 1), axis=0))


def vector_draws(
    fit: VectorFit, history: ArrayLike, steps: int, n_draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws of the coming steps, with innovations from N(0, Sigma).

    Parameters
    ----------
    fit, history, steps
        As for :func:`vector_forecast`.
    n_draws : int
        How many.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray, shape (n_draws, steps, N)

    Raises
    ------
    ValueError
        As `vector_forecast`.

    Examples
    --------
    >>> from hidamari.inference.vector_autoregression import fit_vector
    >>> y = np.random.default_rng(0).standard_normal((500, 2))
    >>> vector_draws(fit_vector(y, 1), y, 10, 100, np.random.default_rng(1)).shape
    (100, 10, 2)
    """
    past = _history(fit, history)
    root = np.linalg.cholesky(fit.sigma)
    shocks = rng.standard_normal((n_draws, steps, len(root))) @ root.T
    return _run(fit, np.broadcast_to(past, (n_draws, *past.shape)), shocks)


def _history(fit: VectorFit, history: ArrayLike) -> np.ndarray:
    """The last p rows of a history, checked."""
    N, _, p = fit.coef.shape
    past = np.asarray(history, dtype=float)
    if past.ndim != 2 or past.shape[1] != N or len(past) < p:
        raise ValueError(f"history has shape {past.shape}; allowed: at least {p} rows of {N} units")
    if not np.isfinite(past[-p:]).all():
        raise ValueError(f"history holds values that are not observed among its last {p} rows")
    return past[-p:]


def _run(fit: VectorFit, past: np.ndarray, shocks: np.ndarray) -> np.ndarray:
    """Values that follow (n, p, N) pasts with (n, steps, N) shocks."""
    N, _, p = fit.coef.shape
    backwards = fit.coef[:, :, ::-1].transpose(2, 1, 0).reshape(p * N, N)  # oldest lag first, as in past
    values = np.concatenate([past, shocks + fit.intercept], axis=1)
    for h in range(p, values.shape[1]):
        values[:, h] += values[:, h - p : h].reshape(len(values), -1) @ backwards
    return values[:, p:]
