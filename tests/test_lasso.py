import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.covariance import graphical_lasso as reference_graphical
from sklearn.linear_model import Lasso

from hidamari.inference.lasso import graphical_lasso, group_lasso, lasso


def sample(seed, n, p, s=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) @ (np.eye(p) + 0.3 * rng.normal(size=(p, p)))
    b = np.zeros(p)
    b[:s] = 2.0 * rng.normal(size=len(b[:s]))
    return X, X @ b + rng.normal(size=n)


@pytest.mark.parametrize("n, p", [(50, 8), (30, 60), (5, 3)])
@pytest.mark.parametrize("alpha", [0.02, 0.3])
def test_lasso_is_the_reference(n, p, alpha):
    X, y = sample(0, n, p)
    expected = Lasso(alpha=alpha, fit_intercept=False, tol=1e-14, max_iter=1_000_000).fit(X, y).coef_
    found = lasso(X, y, alpha)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    gradient = X.T @ (y - X @ found) / n
    assert np.all(np.abs(gradient) <= alpha * (1 + 1e-8))
    np.testing.assert_allclose(gradient[found != 0], alpha * np.sign(found[found != 0]), rtol=1e-7)


def test_lasso_without_penalty_is_least_squares_and_zero_columns_stay_zero():
    X, y = sample(1, 40, 5)
    np.testing.assert_allclose(lasso(X, y, 0.0), np.linalg.lstsq(X, y)[0], rtol=1e-8)
    X[:, 2] = 0.0
    assert lasso(X, y, 0.1)[2] == 0.0


def test_group_lasso_is_optimal():
    (X1, y1), (X2, y2) = sample(2, 40, 6), sample(3, 25, 6)
    zeta = 8.0
    b1, b2 = group_lasso(X1, y1, X2, y2, zeta)
    u = np.array([b1 * np.sqrt(40), b2 * np.sqrt(25)])
    slope = 2 * np.array([X1.T @ (y1 - X1 @ b1) / np.sqrt(40), X2.T @ (y2 - X2 @ b2) / np.sqrt(25)])
    length = np.linalg.norm(u, axis=0)
    on = length > 0
    assert 0 < on.sum() < 6 and np.all((b1 != 0) == (b2 != 0))
    np.testing.assert_allclose(slope[:, on], zeta * u[:, on] / length[on], rtol=1e-6, atol=1e-6)
    assert np.all(np.linalg.norm(slope[:, ~on], axis=0) <= zeta)


def test_group_lasso_of_one_coordinate_is_the_minimum():
    (X1, y1), (X2, y2) = sample(4, 12, 1, 1), sample(5, 9, 1, 1)

    def objective(b):
        fit = ((y1 - X1[:, 0] * b[0]) ** 2).sum() + ((y2 - X2[:, 0] * b[1]) ** 2).sum()
        return fit + 2.0 * np.sqrt(12 * b[0] ** 2 + 9 * b[1] ** 2)

    best = minimize(objective, [0.5, 0.5], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12})
    np.testing.assert_allclose(np.concatenate(group_lasso(X1, y1, X2, y2, 2.0)), best.x, atol=1e-5)
    assert np.concatenate(group_lasso(X1, y1, X2, y2, 1e6)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("n, p", [(100, 6), (15, 10)])
@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_graphical_lasso_is_the_reference(n, p, alpha):
    X, _ = sample(6, n, p)
    S = X.T @ X / n
    S /= np.sqrt(np.outer(np.diag(S), np.diag(S)))
    _, expected = reference_graphical(S, alpha, tol=1e-10, enet_tol=1e-12, max_iter=10_000)
    found = graphical_lasso(S, alpha)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    # X^-1 - S lies within alpha, and at alpha times the sign where X is not zero
    slope = np.linalg.inv(found) - S
    off = ~np.eye(p, dtype=bool)
    assert np.abs(slope[off]).max() <= alpha * (1 + 1e-7)
    on = off & (found != 0)
    np.testing.assert_allclose(slope[on], alpha * np.sign(found[on]), atol=1e-8)


def test_arguments():
    X, y = sample(7, 10, 2)
    with pytest.raises(ValueError, match="alpha"):
        lasso(X, y, -1.0)
    with pytest.raises(ValueError, match="y has shape"):
        lasso(X, y[:4], 1.0)
    with pytest.raises(ValueError, match="X has shape"):
        lasso(y, y, 1.0)
    with pytest.raises(ValueError, match="X2"):
        group_lasso(X, y, X[:, :1], y, 1.0)
    with pytest.raises(ValueError, match="zeta"):
        group_lasso(X, y, X, y, np.nan)
    with pytest.raises(ValueError, match="covariance"):
        graphical_lasso(np.zeros((2, 2)), 1.0)
    with pytest.raises(ValueError, match="alpha"):
        graphical_lasso(np.eye(2), 0.0)
