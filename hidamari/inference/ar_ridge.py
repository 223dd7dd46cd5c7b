r"""Ridge regression of autoregressions from moments, with its strength chosen.

With R = V diag(d) V' the correlations of the predictors, all strengths come out of one eigendecomposition:
b = V (d + alpha)^-1 V' r, with sum_i d_i / (d_i + alpha) degrees of freedom.

References
----------
A. Hoerl, R. Kennard, Ridge regression: biased estimation for nonorthogonal problems, Technometrics 1970.
"""

from collections.abc import Sequence

import numpy as np

from hidamari.inference.autoregression import ARFit, Path, add_grams, solve_exact
from hidamari.inference.lags import LagGram

__all__ = ["cross_validated_ridge", "ridge_path"]

_STRENGTHS = np.geomspace(1e-8, 10.0, 60)


def ridge_path(gram: LagGram, criterion: str = "aic") -> ARFit:
    r"""Ridge whose strength makes a criterion least, with degrees of freedom in place of coefficients.

    Parameters
    ----------
    gram : LagGram
        Moments.
    criterion : {"aic", "bic", "ebic"}
        N log sigma2 + 2 k, or + k log N; a ridge selects nothing, so that the last two are the same.

    Returns
    -------
    ARFit
        ``path`` holds the strengths.

    Raises
    ------
    ValueError
        If the criterion is unknown.

    Examples
    --------
    >>> from hidamari.inference.autoregression import lag_gram
    >>> y = np.random.default_rng(0).standard_normal(200)
    >>> fit = ridge_path(lag_gram(y, 20))
    >>> bool(np.abs(fit.coef).max() < 0.1)
    True
    """
    if criterion not in ("aic", "bic", "ebic"):
        raise ValueError(f"criterion is {criterion!r}, but must be 'aic', 'bic' or 'ebic'")
    price = 2.0 if criterion == "aic" else np.log(gram.n_rows)
    d, share, scale = _decomposed(gram)
    held = d[:, None] / (d[:, None] + _STRENGTHS)
    df = held.sum(axis=0) + 1.0
    # RSS / C_yy = 1 - sum_i share_i (2 h_i - h_i^2), share_i what direction i explains.
    rss = np.maximum(1.0 - (share[:, None] * held * (2.0 - held)).sum(axis=0), np.finfo(float).tiny)
    values = gram.n_rows * np.log(rss) + price * df
    best = int(np.argmin(values))
    path = Path(df, rss * scale / gram.n_rows, {criterion: values}, None, _STRENGTHS)
    return solve_exact(gram, ridge=float(_STRENGTHS[best]))._replace(path=path)


def cross_validated_ridge(folds: Sequence[LagGram]) -> ARFit:
    """Ridge whose strength has the least squared error in blocks left out.

    Parameters
    ----------
    folds : sequence of LagGram
        Moments of each block.

    Returns
    -------
    ARFit
        ``path.criteria["cv"]`` is the mean squared error in the blocks left out.

    Raises
    ------
    ValueError
        If there are fewer than two folds.

    Examples
    --------
    >>> from hidamari.inference.autoregression import lag_gram
    >>> y = np.random.default_rng(0).standard_normal((5, 100))
    >>> bool(np.abs(cross_validated_ridge([lag_gram(part, 10) for part in y]).coef).max() < 0.1)
    True
    """
    if len(folds) < 2:
        raise ValueError(f"folds has {len(folds)} block(s), but needs at least two")
    whole = add_grams(folds)
    error = np.zeros(len(_STRENGTHS))
    for i, fold in enumerate(folds):
        rest = add_grams([other for k, other in enumerate(folds) if k != i])
        for a, alpha in enumerate(_STRENGTHS):
            fit = solve_exact(rest, ridge=float(alpha))
            contrast = np.concatenate([[1.0], -fit.coef])
            away = float(contrast @ fold.means) - fit.intercept
            error[a] += contrast @ fold.moments @ contrast + fold.n_rows * away**2
    error /= whole.n_rows
    path = Path(np.full(len(error), len(whole.names)), error, {"cv": error}, None, _STRENGTHS)
    return solve_exact(whole, ridge=float(_STRENGTHS[int(np.argmin(error))]))._replace(path=path)


def _decomposed(gram: LagGram) -> tuple[np.ndarray, np.ndarray, float]:
    """Eigenvalues of the correlations, share of C_yy that each direction explains, and C_yy."""
    C, c, total = gram.moments[1:, 1:], gram.moments[1:, 0], float(gram.moments[0, 0])
    scale = np.sqrt(np.diag(C))
    if not (scale > 0.0).all() or total <= 0.0:
        raise ValueError("y or a predictor does not vary: there is nothing to regress on")
    d, V = np.linalg.eigh(C / np.outer(scale, scale))
    d = np.maximum(d, np.finfo(float).eps * len(d))
    return d, (V.T @ (c / scale)) ** 2 / (d * total), total
