import numpy as np
import pytest
from sklearn.covariance import graphical_lasso
from sklearn.linear_model import Lasso

from hidamari.inference.costs import Cost, Covariance, Mean, Regression
from hidamari.inference.segments import divide_and_conquer
from hidamari.inference.sparse_costs import SparseCovariance, SparseMean, SparseRegression

STARTS, ENDS = np.array([0, 3, 10, 47, 0]), np.array([60, 40, 60, 60, 9])


def data(seed, n=60, p=5):
    return np.random.default_rng(seed).normal(size=(n, p)) + 0.4


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("missing", [True, False])
def test_sparse_mean(scaled, missing):
    x = data(0)
    if missing:
        x[np.random.default_rng(1).random(x.shape) < 0.2] = np.nan
    cost = SparseMean(0.8, scaled=scaled)
    expected = []
    for a, b in zip(STARTS, ENDS):
        rows = x[a:b]
        n, m = (~np.isnan(rows)).sum(axis=0), np.nanmean(rows, axis=0)
        threshold = 0.4 / np.sqrt(n) if scaled else 0.8
        expected.append(np.nansum((rows - np.sign(m) * np.maximum(np.abs(m) - threshold, 0)) ** 2))
    found = cost.costs(cost.prepare(x), STARTS, ENDS)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert cost.cost(cost.prepare(x), 3, 40) == pytest.approx(expected[1], rel=1e-12)


@pytest.mark.parametrize("scaled", [True, False])
def test_sparse_regression_is_the_reference(scaled):
    x = data(2, p=7)
    x[:, -1] += 2.0 * x[:, 0] - x[:, 3]
    cost = SparseRegression(0.9, scaled=scaled)
    expected = []
    for a, b in zip(STARTS, ENDS):
        z, y = x[a:b, :-1], x[a:b, -1]
        alpha = 0.45 / np.sqrt(b - a) if scaled else 0.9
        fit = Lasso(alpha=alpha, fit_intercept=False, tol=1e-14, max_iter=1_000_000).fit(z, y)
        expected.append(((y - z @ fit.coef_) ** 2).sum())
    np.testing.assert_allclose(cost.costs(cost.prepare(x), STARTS, ENDS), expected, rtol=1e-6)


@pytest.mark.parametrize("scaled", [True, False])
def test_sparse_covariance_is_the_reference(scaled):
    x = data(3)
    cost = SparseCovariance(0.5, scaled=scaled)
    expected = []
    for a, b in zip(STARTS, ENDS):
        S = x[a:b].T @ x[a:b] / (b - a)
        alpha = 0.5 / np.sqrt(b - a) if scaled else 0.5
        _, theta = graphical_lasso(S, alpha, tol=1e-10, enet_tol=1e-12, max_iter=10_000)
        value = np.trace(S @ theta) - np.linalg.slogdet(theta)[1] + 5 * np.log(2 * np.pi)
        expected.append((b - a) * value)
    np.testing.assert_allclose(cost.costs(cost.prepare(x), STARTS, ENDS), expected, rtol=1e-6)


def test_without_penalty_they_are_the_plain_costs():
    x = data(4)
    starts, ends = STARTS[:3], ENDS[:3]
    for sparse, plain in [
        (SparseMean(0.0), Mean()),
        (SparseRegression(0.0), Regression(intercept=False)),
        (SparseCovariance(0.0), Covariance(centred=False)),
    ]:
        assert isinstance(sparse, Cost)
        found = sparse.costs(sparse.prepare(x), starts, ends)
        np.testing.assert_allclose(found, plain.costs(plain.prepare(x), starts, ends), rtol=1e-9)
        assert sparse.n_parameters(5) == plain.n_parameters(5)
        assert sparse.min_length(5) <= plain.min_length(5) or isinstance(sparse, SparseRegression)


def test_rows_with_missing_entries_are_left_out():
    x = data(5)
    keep = np.ones(60, dtype=bool)
    keep[[3, 30, 31]] = False
    holes = np.where(keep[:, None] | (np.arange(5) != 2), x, np.nan)
    for cost in (SparseRegression(0.5), SparseCovariance(0.5)):
        whole = cost.cost(cost.prepare(holes), 0, 60)
        assert whole == pytest.approx(cost.cost(cost.prepare(x[keep]), 0, 57), rel=1e-9)


def test_search_finds_a_sparse_change():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(400, 200))
    x[250:, :4] += 1.5
    found = divide_and_conquer(x, SparseMean(2.0 * np.sqrt(2.0 * np.log(200))), penalty=30.0, grid=50)
    assert len(found.change_points) == 1 and abs(found.change_points[0] - 250) <= 3


def test_arguments():
    for cost in (SparseMean, SparseRegression, SparseCovariance):
        with pytest.raises(ValueError, match="penalty"):
            cost(-1.0).prepare(np.zeros((4, 2)))
