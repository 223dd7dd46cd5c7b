"""Sparse estimates by coordinate descent: lasso, group lasso of two samples, graphical lasso."""

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["graphical_lasso", "group_lasso", "lasso"]

_PRECISION = 1e-22  # of a step's gain in the sum of squares, so 1e-11 of a coefficient


def lasso(X: ArrayLike, y: ArrayLike, alpha: float) -> np.ndarray:
    r"""Coefficients that minimise |y - X b|^2 / (2 n) + alpha |b|_1, without an intercept.

    Parameters
    ----------
    X : array_like, shape (n, p)
        Predictors.
    y : array_like, shape (n,)
        Response.
    alpha : float
        Weight of the penalty, >= 0.

    Returns
    -------
    ndarray, shape (p,)

    Raises
    ------
    ValueError
        If an argument is not allowed.

    References
    ----------
    Friedman, Hastie and Tibshirani, Regularization paths for generalized linear models via coordinate
    descent, 2010.

    Examples
    --------
    >>> lasso([[1.0, 0.0], [0.0, 1.0]], [3.0, 0.5], alpha=0.5).tolist()
    [2.0, 0.0]
    """
    from hidamari.inference._lasso import descend

    x, response = _sample(X, y, "X", "y")
    _check_weight("alpha", alpha)
    b = np.zeros(x.shape[1])
    tolerance = _PRECISION * float(response @ response)
    descend(x.T @ x, x.T @ response, float(alpha) * len(x), tolerance, b, np.empty_like(b))
    return b


def group_lasso(
    X1: ArrayLike, y1: ArrayLike, X2: ArrayLike, y2: ArrayLike, zeta: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Coefficients of two samples that are zero together.

    They minimise |y1 - X1 b1|^2 + |y2 - X2 b2|^2 + zeta sum_j sqrt(n1 b1_j^2 + n2 b2_j^2).

    Parameters
    ----------
    X1, X2 : array_like, shape (n1, p) and (n2, p)
        Predictors.
    y1, y2 : array_like, shape (n1,) and (n2,)
        Responses.
    zeta : float
        Weight of the penalty, >= 0.

    Returns
    -------
    tuple of ndarray, shape (p,)

    Raises
    ------
    ValueError
        If an argument is not allowed.

    References
    ----------
    Li, Wang and Rinaldo, Divide and conquer dynamic programming, ICML 2023.

    Examples
    --------
    >>> first, second = group_lasso([[1.0, 0.0], [0.0, 1.0]], [3.0, 0.1], [[1.0, 0.2]], [1.0], zeta=1.0)
    >>> first.round(3).tolist()
    [2.317, 0.0]
    """
    from hidamari.inference._lasso import descend_pair

    a, u = _sample(X1, y1, "X1", "y1")
    b, v = _sample(X2, y2, "X2", "y2")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"X2 has {b.shape[1]} columns: X1 has {a.shape[1]}")
    _check_weight("zeta", zeta)
    b1, b2, g1, g2 = np.zeros((4, a.shape[1]))
    tolerance = _PRECISION * float(u @ u + v @ v)
    first, second = (a.T @ a, a.T @ u, float(len(a))), (b.T @ b, b.T @ v, float(len(b)))
    descend_pair(*first, *second, float(zeta), tolerance, b1, b2, g1, g2)
    return b1, b2


def graphical_lasso(covariance: ArrayLike, alpha: float) -> np.ndarray:
    r"""Precision matrix that minimises tr(S X) - log det X + alpha sum_(i != j) |X_ij|.

    Parameters
    ----------
    covariance : array_like, shape (p, p)
        Sample covariance S, with a positive diagonal.
    alpha : float
        Weight of the penalty, > 0.

    Returns
    -------
    ndarray, shape (p, p)

    Raises
    ------
    ValueError
        If an argument is not allowed.

    References
    ----------
    Friedman, Hastie and Tibshirani, Sparse inverse covariance estimation with the graphical lasso, 2008.

    Examples
    --------
    >>> graphical_lasso([[1.0, 0.5], [0.5, 1.0]], alpha=0.5).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    from hidamari.inference._lasso import graphical

    S = np.ascontiguousarray(covariance, dtype=np.float64)
    if S.ndim != 2 or S.shape[0] != S.shape[1] or not np.allclose(S, S.T) or not np.all(np.diag(S) > 0):
        raise ValueError(
            f"covariance has shape {S.shape}: allowed are symmetric matrices with a positive diagonal"
        )
    _check_weight("alpha", alpha)
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha!r}: allowed are finite numbers > 0")
    p = len(S)
    precision, W, B = np.empty((3, p, p))
    graphical(S, float(alpha), 1e-13 * float(np.diag(S).max()), precision, W, B, np.empty(p))
    return precision


def _sample(X: ArrayLike, y: ArrayLike, name: str, response: str) -> tuple[np.ndarray, np.ndarray]:
    """Predictors and response as float64, checked."""
    x, v = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 2 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"{name} has shape {x.shape}: allowed are finite numbers of shape (n, p), not empty")
    if v.shape != (len(x),) or not np.isfinite(v).all():
        raise ValueError(f"{response} has shape {v.shape}: allowed are finite numbers of shape ({len(x)},)")
    return x, v


def _check_weight(name: str, value: float) -> None:
    """Raise the ValueError for a weight that is negative or not finite."""
    if not (np.ndim(value) == 0 and np.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value!r}: allowed are finite numbers >= 0")
