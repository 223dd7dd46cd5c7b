r"""Values that an autoregression did not see, given all that it did.

The joint density of the rows after the first p is exp(-|B u - c|^2 / (2 sigma2)), each row of B holding
(1, -w) at its row and lags. So the missing entries m given the observed o have precision B_m' B_m / sigma2
and mean -(B_m' B_m)^-1 B_m' (B_o u_o - c): what a Kalman smoother finds, started with a flat prior.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Imputed", "impute"]


class Imputed(NamedTuple):
    """A series without gaps."""

    values: np.ndarray  # (T,) as observed, else the mean given all that was
    missing: np.ndarray  # (m,) rows
    cov: np.ndarray  # (m, m) of the missing values


def impute(u: np.ndarray, weights: np.ndarray, intercept: float, sigma2: float) -> Imputed:
    """Fill the gaps of one segment with their means, exactly, and give their covariance.

    Parameters
    ----------
    u : ndarray, shape (T,)
        Series; NaN where not observed.
    weights, intercept, sigma2 : ndarray (p,), float, float
        The autoregression.

    Returns
    -------
    Imputed

    Raises
    ------
    ValueError
        If the observed values do not determine the missing ones, as where fewer than p rows are there.

    References
    ----------
    H. Rue and L. Held, Gaussian Markov Random Fields, 2005, section 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.ar_imputation import impute
    >>> found = impute(np.array([2.0, np.nan, 2.0]), np.array([0.5]), 0.0, 1.0)
    >>> found.values, found.cov
    (array([2. , 1.6, 2. ]), array([[0.8]]))
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve
    from scipy.signal import oaconvolve
    from scipy.sparse import coo_array

    missing, T, p = np.flatnonzero(np.isnan(u)), len(u), len(weights)
    filled = np.where(np.isnan(u), 0.0, u)
    if not missing.size:
        return Imputed(filled, missing, np.empty((0, 0)))
    a = np.append(1.0, -weights)
    on = np.flatnonzero(a)
    row = missing[None, :] + on[:, None]  # the equations that a missing value enters
    column = np.broadcast_to(np.arange(missing.size), row.shape)
    inside = (row >= p) & (row < T)
    entries = np.broadcast_to(a[on][:, None], row.shape)[inside]
    B = coo_array((entries, (row[inside], column[inside])), shape=(T, missing.size)).tocsr()
    known = oaconvolve(filled, a)[:T] - intercept
    known[:p] = 0.0
    try:
        factor = cho_factor((B.T @ B).toarray())
    except LinAlgError:
        raise ValueError(f"y has {missing.size} missing values that {T} rows do not determine") from None
    filled[missing] = -cho_solve(factor, B.T @ known)
    return Imputed(filled, missing, sigma2 * cho_solve(factor, np.eye(missing.size)))
