"""Criteria of order for autoregressions, and which model is least by them."""

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["criteria", "smallest"]


def criteria(
    n_rows: int, sigma2: ArrayLike, size: ArrayLike, intercept: bool = True
) -> dict[str, np.ndarray]:
    r"""Criteria of order for models with variances sigma2 = RSS / N and so many coefficients; least is best.

    With k coefficients, the intercept among them, and L = N log sigma2:
    aic L + 2 k, aicc L + 2 k N / (N - k - 2), bic L + k log N, fpe sigma2 (N + k) / (N - k).

    Parameters
    ----------
    n_rows : int
        Rows N, the same for all.
    sigma2, size : array_like
        Of each model.
    intercept : bool
        Whether each has an intercept besides.

    Returns
    -------
    dict
        "aic", "aicc", "bic", "fpe"; infinite where a model has no rows to spare.

    References
    ----------
    Lütkepohl 2005, section 4.3; Hurvich and Tsai, Biometrika 1989.

    Examples
    --------
    >>> criteria(100, [1.0, 0.9], [0, 1])["bic"].round(2).tolist()
    [4.61, -1.33]
    """
    var, k = np.asarray(sigma2, dtype=float), np.asarray(size) + intercept
    least = np.finfo(float).tiny  # an exact fit has L = -inf, which some criteria cannot add to
    L = n_rows * np.log(np.maximum(var, least))
    spare, spare2 = n_rows - k, n_rows - k - 2
    return {
        "aic": L + 2.0 * k,
        "aicc": np.where(spare2 > 0, L + 2.0 * k * n_rows / np.maximum(spare2, 1), np.inf),
        "bic": L + k * np.log(n_rows),
        "fpe": np.where(spare > 0, var * (n_rows + k) / np.maximum(spare, 1), np.inf),
    }


def smallest(values: dict[str, np.ndarray], best: str) -> int:
    """Where a criterion is least.

    Raises
    ------
    ValueError
        If there is no such criterion.

    Examples
    --------
    >>> smallest({"aic": np.array([2.0, 1.0, 3.0])}, "aic")
    1
    """
    if best not in values:
        raise ValueError(f"best is {best!r}, but must be one of {sorted(values)}")
    return int(np.argmin(values[best]))
