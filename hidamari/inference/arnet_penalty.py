r"""The penalty of AR-Net, R(theta) = mean tanh(c1 |theta_i|^(1/c2) / 2), minimised on moments.

Thresholds of this penalty do not shrink with the number of rows; the extended BIC of a support does.

References
----------
O. Triebe, N. Laptev, R. Rajagopal, AR-Net: a simple autoregressive neural network for time series, 2019.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from hidamari.inference._sparse import Scaled, answer, cost, log_share, minimise, scale
from hidamari.inference.autoregression import ARFit, Path
from hidamari.inference.lags import LagGram

__all__ = ["arnet", "arnet_penalty", "arnet_slope"]

_PAPER = 0.01  # c
_ROUNDS = 100  # of local linear approximation; a few settle


def arnet(theta: ArrayLike, c1: float = 3.0, c2: float = 3.0) -> float:
    """The penalty of AR-Net: the mean of 2 / (1 + exp(-c1 |theta|^(1/c2))) - 1 = tanh(c1 |theta|^(1/c2) / 2).

    Examples
    --------
    >>> arnet([0.0]), round(arnet([1.0]), 4)
    (0.0, 0.9051)
    """
    return float(np.mean(np.tanh(0.5 * c1 * np.abs(np.asarray(theta, dtype=float)) ** (1.0 / c2))))


def arnet_slope(theta: ArrayLike, c1: float = 3.0, c2: float = 3.0) -> np.ndarray:
    """Derivatives of :func:`arnet` by |theta_i|; infinite at 0, which holds a coefficient there for c2 > 1.

    Examples
    --------
    >>> arnet_slope([1.0, 0.0]).round(4).tolist()
    [0.0452, inf]
    """
    size = np.abs(np.asarray(theta, dtype=float))
    with np.errstate(divide="ignore"):
        power = size ** (1.0 / c2 - 1.0)
    return 0.5 * c1 / (c2 * size.size) * power / np.cosh(0.5 * c1 * size ** (1.0 / c2)) ** 2


def arnet_penalty(
    gram: LagGram,
    density: float | str,
    c1: float = 3.0,
    c2: float = 3.0,
    scale_factor: float | str = "bic",
    free: ArrayLike = (),
    intercept: bool = True,
    debias: bool = True,
) -> ARFit:
    r"""The sparse objective of AR-Net, min RSS / N + lambda(s) R(theta), by local linear approximation.

    lambda(s) = c sigma^2 (1 / s - 1), s the expected share of lags that matter, sigma^2 the variance of the
    residuals of least squares (1 in the paper, so that units do not matter here). R is concave in |theta|:
    its tangent at the last theta majorises it, so each round is a weighted lasso and none goes uphill. Rounds
    start from least squares, as every theta_i = 0 is a local minimum.

    The paper's c = 0.01 suits some 1e5 rows: thresholds must shrink like sqrt(log p / rows), and those of
    this penalty do not. By default a criterion chooses lambda, and s says what a lag costs there: with k of
    them each has prior odds s / (1 - s), so that rows log(RSS) + k log(rows) - 2 k log(s / (1 - s)) is to be
    least. An s ten times too large or too small then matters little.

    Parameters
    ----------
    gram : LagGram
        Moments.
    density : float in (0, 1] or "ebic"
        s; 1 is no penalty, and odds are never taken above 1. ``"ebic"``: s is not known, and lambda is chosen
        by the extended BIC of the refitted supports, with c = 0.01 if it is not given.
    c1, c2 : float
        Shape of the penalty.
    scale_factor : float or "bic"
        c, 0.01 in the paper, or chosen as above.
    free, intercept, debias
        As for :func:`coordinate_descent`.

    Returns
    -------
    ARFit
        ``path.alpha`` holds the densities s tried, for c = 0.01 unless it is given.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Triebe et al. 2019; H. Zou, R. Li, One-step sparse estimates, Annals of Statistics 2008.

    Examples
    --------
    >>> from hidamari.inference.autoregression import lag_gram
    >>> e = np.random.default_rng(0).standard_normal(20000)
    >>> y = np.zeros(20000)
    >>> for t in range(3, 20000):
    ...     y[t] = 0.2 * y[t - 1] + 0.3 * y[t - 2] - 0.5 * y[t - 3] + e[t]
    >>> np.flatnonzero(arnet_penalty(lag_gram(y, 40), density=3 / 40).support).tolist()
    [0, 1, 2]
    """
    _check(density, c1, c2, scale_factor)
    problem = scale(gram, free, intercept)
    p = len(problem.r)
    start = _start(problem)
    noise = max(1.0 - float(2.0 * problem.r @ start - start @ problem.R @ start), 0.0)
    factor = _PAPER if isinstance(scale_factor, str) else scale_factor
    known = isinstance(density, str) or (isinstance(scale_factor, str) and density < 1.0)
    tried = np.geomspace(0.01 / max(p, 1), 1.0, 24) if known else np.array([density])
    criterion, each = "ebic", 0.0  # and what each predictor costs besides
    if not isinstance(density, str):
        criterion, each = "bic", 2.0 * float(np.log(1.0 / min(density, 0.5) - 1.0))
    least = log_share(problem, np.arange(p))
    labels = np.zeros(p, dtype=int)
    found, values, shares = [], [], []
    first = np.zeros(p)
    for s in tried:
        strength = 0.5 * factor * (1.0 / s - 1.0) * noise
        b, inner = start, first
        for rounds in range(_ROUNDS):
            weights = strength * arnet_slope(b, c1, c2) if strength > 0.0 else np.zeros(p)
            after = minimise(problem, weights, "l1", labels, inner)
            # The first round of the next strength is close to that of this one, which is far from the start.
            first = after if rounds == 0 else first
            moved, b = np.max(np.abs(after - b), initial=0.0), after
            inner = b
            if moved < 1e-8:
                break
        k = int(np.count_nonzero(b))
        if min(values, default=np.inf) < cost(problem, least, k, criterion) + each * k:
            break  # not even the residuals of all predictors could pay for so many
        found.append(b)
        shares.append(log_share(problem, np.flatnonzero(b)))
        value = cost(problem, shares[-1], k, criterion) + each * k
        # With as many predictors as rows any support fits: the criterion means something below half of them.
        values.append(value if 2 * k <= problem.rows else np.inf)
    tried = tried[: len(found)]
    supports = np.zeros((len(tried), len(gram.names)), dtype=bool)
    supports[:, problem.free] = True
    supports[:, problem.chosen] = np.array(found) != 0.0
    path = Path(
        supports.sum(1), np.exp(shares) * problem.variance, {criterion: np.array(values)}, supports, tried
    )
    return answer(gram, problem, found[int(np.argmin(values))], intercept, debias, path)


def _check(density: float | str, c1: float, c2: float, scale_factor: float | str) -> None:
    """Raise the ValueError for an argument out of its range."""
    if isinstance(density, str):
        if density != "ebic":
            raise ValueError(f"density is {density!r}, but must be a number in (0, 1] or 'ebic'")
    elif not 0.0 < density <= 1.0:
        raise ValueError(f"density is {density}, but must be in (0, 1]")
    if isinstance(scale_factor, str):
        if scale_factor != "bic":
            raise ValueError(f"scale_factor is {scale_factor!r}, but must be a number >= 0 or 'bic'")
    elif scale_factor < 0.0:
        raise ValueError(f"scale_factor is {scale_factor}, but must be at least 0")
    if c1 <= 0.0 or c2 < 1.0:
        raise ValueError(f"need c1 > 0, c2 >= 1, found {c1}, {c2}")


def _start(problem: Scaled) -> np.ndarray:
    """Least squares, or a ridge where rows are few: no coefficient starts at 0, which would hold it."""
    few = problem.rows < 5 * len(problem.r)
    R = problem.R + (len(problem.r) / problem.rows if few else 0.0) * np.eye(len(problem.r))
    try:
        return cho_solve(cho_factor(R, lower=True, check_finite=False), problem.r, check_finite=False)
    except LinAlgError:
        return np.linalg.lstsq(R, problem.r, rcond=None)[0]
