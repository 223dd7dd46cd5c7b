r"""Autoregressions from second moments: y_t = c + sum_i w_i y_{t-i} + sum_k b_k x_tk + e_t.

With Gaussian noise e_t the data enter through the (m + 1) x (m + 1) moments of y and its m predictors alone,
centred about their means. Moments of segments, trials and series of a panel add. They cost O(T log p + p^2)
for T rows and p lags, and everything later costs nothing in T.

References
----------
O. Triebe, N. Laptev, R. Rajagopal, AR-Net: a simple autoregressive neural network for time series, 2019.
H. Lütkepohl, New Introduction to Multiple Time Series Analysis, 2005, section 4.3.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import get_lapack_funcs, qr, solve_triangular, svd

from hidamari.inference.ar_criteria import criteria, smallest
from hidamari.inference.lags import Lagged, LagGram, add_grams, complete_rows, keep, lag_gram, long_runs

__all__ = [
    "ARFit",
    "LagGram",
    "Lagged",
    "Path",
    "add_grams",
    "best_order",
    "fit_exact",
    "keep",
    "lag_gram",
    "solve_exact",
    "solve_qr",
]

_potrf, _pocon, _potrs, _potri = get_lapack_funcs(("potrf", "pocon", "potrs", "potri"), dtype=np.float64)
_ILL = 1e10  # condition number of the moments from which half the digits of a fit by moments are lost


class Path(NamedTuple):
    """The models that a fit was chosen among."""

    size: np.ndarray  # (n,) coefficients other than the intercept
    sigma2: np.ndarray  # (n,) RSS / rows
    criteria: dict[str, np.ndarray]  # each (n,), smaller is better
    supports: np.ndarray | None = None  # (n, m) bool, None: the first `size` predictors
    alpha: np.ndarray | None = None  # (n,) strengths of a penalty


class ARFit(NamedTuple):
    """A fitted autoregression.

    ``sigma2`` is RSS / rows and ``cov`` = sigma2 times the inverse moments: those of maximum likelihood. With
    selected predictors ``cov`` takes the support as given.
    """

    names: tuple[str, ...]  # (m,)
    lags: np.ndarray  # (n_lags,) lags of y, the first of the predictors
    coef: np.ndarray  # (m,)
    intercept: float
    sigma2: float
    cov: np.ndarray  # (1 + m, 1 + m), the intercept first; zeros for what was not fitted
    support: np.ndarray  # (m,) bool
    n_rows: int
    condition: float  # condition number of the correlations of the predictors, in the 1-norm
    path: Path | None = None

    @property
    def weights(self) -> np.ndarray:
        """Coefficients of y_{t-1}, ..., y_{t-p}, (p,), zeros at lags that are not predictors."""
        w = np.zeros(int(self.lags.max(initial=0)))
        w[self.lags - 1] = self.coef[: len(self.lags)]
        return w


def solve_exact(gram: LagGram, intercept: bool = True, ridge: float = 0.0, response: int = 0) -> ARFit:
    r"""Least squares from moments: w = (C + ridge N D)^{-1} c, by Cholesky of the correlations.

    D holds the variances of the predictors, N the rows, so that ``ridge`` has no unit; the default 0 is least
    squares. Scaling to correlations makes the answer equivariant to units.

    Parameters
    ----------
    gram : LagGram
        Moments.
    intercept : bool
        Whether the model has one.
    ridge : float
        Strength of the ridge penalty.
    response : int
        Which response: y_{t + response}.

    Returns
    -------
    ARFit

    Raises
    ------
    ValueError
        If predictors are collinear to working precision or outnumber the rows.

    References
    ----------
    Björck, Numerical Methods for Least Squares Problems, 1996, section 2.2.

    Examples
    --------
    >>> fit = solve_exact(lag_gram([1.0, 2.0, 4.0, 8.0, 16.0], 1))
    >>> fit.coef.round(12).tolist(), fit.condition
    ([2.0], 1.0)
    """
    if ridge < 0.0:
        raise ValueError(f"ridge is {ridge}, but must be at least 0")
    if ridge == 0.0:
        _check_rows(gram, intercept)
    fit = _solve(gram, intercept, ridge, response)
    if fit is None:
        raise ValueError(
            f"predictors {gram.names} are collinear (or constant) to working precision: "
            "drop some, take a ridge, or fit_exact"
        )
    return fit


def _check_rows(gram: LagGram, intercept: bool) -> None:
    """Raise if there are more coefficients than rows."""
    m = len(gram.names) + intercept
    if m > gram.n_rows:
        raise ValueError(
            f"{m} coefficients need as many complete rows, found {gram.n_rows}: "
            "take fewer lags, a ridge, or a sparse penalty"
        )


def _solve(gram: LagGram, intercept: bool, ridge: float, response: int) -> ARFit | None:
    """Least squares by Cholesky, None where it breaks down."""
    moments, mean_y, means = _moments(gram, intercept, response)
    C, c = moments[1:, 1:], moments[1:, 0]
    scale = np.sqrt(np.maximum(np.diag(C), 0.0))  # rounding may leave less than nothing
    if np.any(scale == 0.0):
        return None
    R = C / scale
    R /= scale[:, None]
    R[np.diag_indices(len(R))] += ridge
    b, inverse, condition = c, R, 1.0
    if len(R):
        norm = float(np.abs(R).sum(0).max())
        # The transpose is the same matrix in the order of LAPACK, whose triangle takes its place.
        L, failed = _potrf(R.T, lower=1, clean=0, overwrite_a=1)
        if failed:
            return None
        reciprocal = float(_pocon(L, norm, uplo="L")[0])
        if reciprocal == 0.0:
            return None
        condition = 1.0 / reciprocal
        b = _potrs(L, (c / scale)[:, None], lower=1)[0][:, 0] / scale
        inverse = _potri(L, lower=1, overwrite_c=1)[0].T
        lower = np.tri(len(R), k=-1, dtype=bool)
        np.copyto(inverse, inverse.T.copy(), where=lower)
        inverse /= scale
        inverse /= scale[:, None]
    contrast = np.concatenate([[1.0], -b])
    # As a quadratic form in all of the residual's coefficients: an error in b enters squared.
    sigma2 = max(float(contrast @ moments @ contrast), 0.0) / gram.n_rows
    return _fitted(gram, b, inverse, sigma2, mean_y, means, intercept, condition)


def _moments(gram: LagGram, intercept: bool, response: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Moments of one response and the predictors: about the means, or about 0 without intercept."""
    r = gram.n_responses
    if not 0 <= response < r:
        raise ValueError(f"response is {response}, but the moments are of {r} response(s)")
    if r == 1:
        moments, means = gram.moments, gram.means
    else:
        at = np.concatenate([[response], np.arange(r, len(gram.means))])
        moments, means = gram.moments[np.ix_(at, at)], gram.means[at]
    if not intercept:
        moments = moments + gram.n_rows * np.outer(means, means)
    return moments, float(means[0]), means[1:]


def _fitted(
    gram: LagGram,
    b: np.ndarray,
    inverse: np.ndarray,
    sigma2: float,
    mean_y: float,
    means: np.ndarray,
    intercept: bool,
    condition: float,
) -> ARFit:
    """The fit with coefficients b, and the inverse moments of its predictors."""
    cov = np.zeros((1 + len(b), 1 + len(b)))
    cov[1:, 1:] = inverse
    if intercept:
        cov[0, 1:] = cov[1:, 0] = -inverse @ means
        cov[0, 0] = 1.0 / gram.n_rows - means @ cov[0, 1:]
    level = mean_y - float(means @ b) if intercept else 0.0
    support = np.ones(len(b), dtype=bool)
    return ARFit(
        gram.names, gram.lags, b, level, sigma2, sigma2 * cov, support, gram.n_rows, float(condition)
    )


def solve_qr(
    y: ArrayLike | Sequence[ArrayLike],
    lags: int | Sequence[int],
    columns: ArrayLike | Sequence[ArrayLike] | None = None,
    lagged: Sequence[Lagged] = (),
    column_names: Sequence[str] | None = None,
    intercept: bool = True,
) -> ARFit:
    """Least squares by orthogonal triangles of the rows, with twice the digits that moments leave.

    Takes T m^2, but never holds the matrix of lags: the triangle of the rows so far is stacked on the next
    few thousand. Where predictors are collinear, the coefficients of least norm in units of their spreads.

    Parameters
    ----------
    y, lags, columns, lagged, column_names
        As for :func:`lag_gram`.
    intercept : bool
        Whether the model has one.

    Returns
    -------
    ARFit

    References
    ----------
    Björck, Numerical Methods for Least Squares Problems, 1996, section 2.4.

    Examples
    --------
    >>> solve_qr([1.0, 2.0, 4.0, 8.0, 16.0], 1).coef.round(12).tolist()
    [2.0]
    """
    gram = lag_gram(y, lags, columns, lagged, column_names)
    moments, mean_y, means = _moments(gram, intercept, 0)
    m = len(means)
    about = np.concatenate([[mean_y], means]) if intercept else np.zeros(m + 1)
    spread = np.sqrt(np.maximum(np.diag(moments), 0.0))
    spread[spread == 0.0] = 1.0
    triangle = np.empty((0, m + 1))
    for X in complete_rows(y, lags, columns, lagged):
        below = np.vstack([triangle, (X - about) / spread])
        triangle = np.asarray(qr(below, mode="r", check_finite=False)[0])[: m + 1]
    U, d, V = svd(triangle[:, 1:], full_matrices=False, check_finite=False)
    held = d > np.finfo(float).eps * max(gram.n_rows, m) * d.max(initial=0.0)
    back = V[held].T / d[held]
    b = back @ (U[:, held].T @ triangle[:, 0])
    left = triangle[:, 0] - triangle[:, 1:] @ b
    scale = spread[1:]
    sigma2 = float(left @ left) * spread[0] ** 2 / gram.n_rows
    inverse = (back @ back.T) / np.outer(scale, scale)
    condition = (d.max(initial=1.0) / d.min(initial=1.0)) ** 2 if np.all(held) else np.inf
    return _fitted(gram, b * spread[0] / scale, inverse, sigma2, mean_y, means, intercept, condition)


def fit_exact(
    y: ArrayLike | Sequence[ArrayLike],
    lags: int | Sequence[int],
    columns: ArrayLike | Sequence[ArrayLike] | None = None,
    lagged: Sequence[Lagged] = (),
    column_names: Sequence[str] | None = None,
    intercept: bool = True,
) -> ARFit:
    """Least squares: by moments, and by orthogonal triangles where moments would lose half the digits.

    Hundreds of consecutive lags without other predictors take O(p^2) beyond the transforms, for their moments
    are nearly Toeplitz; the matrix is made and factored where that is ill-conditioned.

    Parameters
    ----------
    y, lags, columns, lagged, column_names
        As for :func:`lag_gram`.
    intercept : bool
        Whether the model has one.

    Returns
    -------
    ARFit
        Its ``condition`` tells which way was taken: above 1e10, triangles.

    Raises
    ------
    ValueError
        As `lag_gram`, or if there are more coefficients than rows.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.zeros(2000)
    >>> for t in range(1, 2000):
    ...     y[t] = 0.8 * y[t - 1] + rng.standard_normal()
    >>> fit = fit_exact(y, 1)
    >>> fit.coef.round(2).tolist(), round(float(np.sqrt(fit.cov[1, 1])), 3)
    ([0.8], 0.013)
    """
    fit = _solve_long(y, lags, columns, lagged, intercept)
    if fit is not None:
        return fit
    gram = lag_gram(y, lags, columns, lagged, column_names)
    _check_rows(gram, intercept)
    fit = _solve(gram, intercept, 0.0, 0)
    if fit is None or fit.condition > _ILL:
        return solve_qr(y, lags, columns, lagged, column_names, intercept)
    return fit


def _solve_long(
    y: ArrayLike | Sequence[ArrayLike],
    lags: int | Sequence[int],
    columns: ArrayLike | Sequence[ArrayLike] | None,
    lagged: Sequence[Lagged],
    intercept: bool,
) -> ARFit | None:
    """Least squares from the structure of many consecutive lags, None for any other, or where it fails."""
    found = long_runs(y, lags, columns, lagged)
    if found is None:
        return None
    from hidamari.inference import _near_toeplitz

    runs, p = found
    centre = sum(float(u.sum()) for u in runs) / sum(map(len, runs)) if intercept else 0.0
    fit = _near_toeplitz.solve([u - centre for u in runs], p, intercept)
    if fit is None:
        return None
    cov, level = fit.cov, 0.0
    if intercept:
        means = centre + fit.sums / fit.n_rows
        cov[0, 1:] = cov[1:, 0] = -cov[1:, 1:] @ means[1:]
        cov[0, 0] = fit.sigma2 / fit.n_rows - means[1:] @ cov[0, 1:]
        level = float(means[0] - means[1:] @ fit.coef)
    names = tuple(f"lag {i}" for i in range(1, p + 1))
    support = np.ones(p, dtype=bool)
    own = np.arange(1, p + 1)
    return ARFit(names, own, fit.coef, level, fit.sigma2, cov, support, fit.n_rows, fit.condition)


def best_order(gram: LagGram, best: str = "bic", intercept: bool = True) -> ARFit:
    """Least squares with the first k lags, k chosen: the fits of all k come out of one Cholesky factor.

    With L z = c the residual sum of squares of the first k lags is C_yy - z_1^2 - ... - z_k^2. Other
    predictors are in every model; all orders are compared on the same rows.

    Parameters
    ----------
    gram : LagGram
        Moments, with as many lags as may be wanted.
    best : {"aic", "aicc", "bic", "fpe"}
        Criterion.
    intercept : bool
        Whether the model has one.

    Returns
    -------
    ARFit
        With the chosen lags and all other predictors; ``path`` holds all orders.

    Raises
    ------
    ValueError
        As `solve_exact`, or if there is no such criterion.

    Examples
    --------
    >>> e = np.random.default_rng(0).standard_normal(5000)
    >>> y = np.zeros(5000)
    >>> for t in range(2, 5000):
    ...     y[t] = 0.5 * y[t - 1] - 0.4 * y[t - 2] + e[t]
    >>> best_order(lag_gram(y, 30)).names
    ('lag 1', 'lag 2')
    """
    _check_rows(gram, intercept)
    moments, _, _ = _moments(gram, intercept, 0)
    n_lags, m = len(gram.lags), len(gram.names)
    turned = np.concatenate([np.arange(n_lags, m), np.arange(n_lags)])  # what is in every model comes first
    scale = np.sqrt(np.maximum(np.diag(moments), 0.0))
    if np.any(scale == 0.0):
        raise ValueError("y or a predictor does not vary: there is no order to choose")
    R = moments / np.outer(scale, scale)
    L, failed = _potrf(R[1:, 1:][np.ix_(turned, turned)], lower=1, clean=1)
    if failed:
        raise ValueError(f"predictors {gram.names} are collinear to working precision: take fewer lags")
    z = solve_triangular(L, R[1:, 0][turned], lower=True)
    left = (1.0 - np.concatenate([[0.0], np.cumsum(z**2)]))[m - n_lags :]
    sigma2 = np.maximum(left, 0.0) * moments[0, 0] / gram.n_rows
    size = np.arange(n_lags + 1) + m - n_lags
    values = criteria(gram.n_rows, sigma2, size, intercept)
    order = smallest(values, best)
    fit = solve_exact(keep(gram, np.concatenate([np.arange(order), np.arange(n_lags, m)])), intercept)
    return fit._replace(path=Path(size, sigma2, values))
