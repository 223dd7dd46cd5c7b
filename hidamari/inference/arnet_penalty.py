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
    scale_factor: float = 0.01,
    free: ArrayLike = (),
    intercept: bool = True,
    debias: bool = True,
) -> ARFit:
    r"""The sparse objective of AR-Net, min RSS / N + lambda(s) R(theta), by local linear approximation.

    lambda(s) = c sigma^2 (1 / s - 1), s the expected share of lags that matter, sigma^2 the variance of the
    residuals of least squares (1 in the paper, so that units do not matter here). R is concave in |theta|:
    its tangent at the last theta majorises it, so each round is a weighted lasso and none goes uphill. Rounds
    start from least squares, as every theta_i = 0 is a local minimum.

    Parameters
    ----------
    gram : LagGram
        Moments.
    density : float in (0, 1] or "ebic"
        s, or chosen by the extended BIC of the refitted supports among values from 1 (no penalty) down to
        0.01 / p. Numbers below 1 / p only say that the penalty is strong, as short series need it.
    c1, c2 : float
        Shape of the penalty.
    scale_factor : float
        c.
    free, intercept, debias
        As for :func:`coordinate_descent`.

    Returns
    -------
    ARFit
        ``path.alpha`` holds the densities tried.

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
    problem = scale(gram, free, intercept)
    p = len(problem.r)
    start = _start(problem)
    noise = max(1.0 - float(2.0 * problem.r @ start - start @ problem.R @ start), 0.0)
    if isinstance(density, str):
        if density != "ebic":
            raise ValueError(f"density is {density!r}, but must be a number in (0, 1] or 'ebic'")
        tried = np.geomspace(0.01 / max(p, 1), 1.0, 24)
    else:
        if not 0.0 < density <= 1.0:
            raise ValueError(f"density is {density}, but must be in (0, 1]")
        tried = np.array([density])
    if scale_factor < 0.0 or c1 <= 0.0 or c2 < 1.0:
        raise ValueError(f"need scale_factor >= 0, c1 > 0, c2 >= 1, found {scale_factor}, {c1}, {c2}")
    labels = np.zeros(p, dtype=int)
    found, values, shares = [], [], []
    for s in tried:
        strength = 0.5 * scale_factor * (1.0 / s - 1.0) * noise
        b = start
        for _ in range(_ROUNDS):
            weights = strength * arnet_slope(b, c1, c2) if strength > 0.0 else np.zeros(p)
            after = minimise(problem, weights, "l1", labels, b)
            moved, b = np.max(np.abs(after - b), initial=0.0), after
            if moved < 1e-8:
                break
        k = int(np.count_nonzero(b))
        found.append(b)
        shares.append(log_share(problem, np.flatnonzero(b)))
        # With as many predictors as rows any support fits: the criterion means something below half of them.
        values.append(cost(problem, shares[-1], k, "ebic") if 2 * k <= problem.rows else np.inf)
    supports = np.zeros((len(tried), len(gram.names)), dtype=bool)
    supports[:, problem.free] = True
    supports[:, problem.chosen] = np.array(found) != 0.0
    path = Path(
        supports.sum(1), np.exp(shares) * problem.variance, {"ebic": np.array(values)}, supports, tried
    )
    return answer(gram, problem, found[int(np.argmin(values))], intercept, debias, path)


def _start(problem: Scaled) -> np.ndarray:
    """Least squares, or a ridge where rows are few: no coefficient starts at 0, which would hold it."""
    few = problem.rows < 5 * len(problem.r)
    R = problem.R + (len(problem.r) / problem.rows if few else 0.0) * np.eye(len(problem.r))
    try:
        return cho_solve(cho_factor(R, lower=True, check_finite=False), problem.r, check_finite=False)
    except LinAlgError:
        return np.linalg.lstsq(R, problem.r, rcond=None)[0]
