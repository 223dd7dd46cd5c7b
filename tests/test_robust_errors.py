"""Sandwich errors against statsmodels, and against their definition where it has none."""

import numpy as np
import pytest
from scipy.signal import lfilter

from hidamari.datasets import load_sunspots
from hidamari.inference.autoregression import fit_exact, keep, lag_gram, solve_exact
from hidamari.inference.lags import Lagged
from hidamari.inference.robust_errors import automatic_lags, robust_covariance
from hidamari.inference.sparse_autoregression import sparse_path

# statsmodels 0.15.0, with X the constant and lags 1, 2 and 9 of the yearly sunspot numbers:
# OLS(y[9:], X).fit(cov_type="HC0").bse, and
# OLS(y[9:], X).fit(cov_type="HAC", cov_kwds={"maxlags": 4, "use_correction": False}).bse
STATSMODELS = {
    0: [1.6657528583826045, 0.05686263508014776, 0.053016262007113124, 0.029793091451249826],
    4: [1.684561851820783, 0.0549523975216737, 0.049453542194910556, 0.03737830246599476],
}


def series(n, seed=0):
    noise = np.random.default_rng(seed).standard_normal(n) * (1.0 + np.abs(np.sin(np.arange(n))))
    return lfilter([1.0], [1.0, -0.5, 0.3], noise) + 2.0


def defined(X, e, n_lags, here=None):
    """The sandwich of rows X with noise e by its definition; rows that are not here have no noise."""
    here = np.ones(len(X), bool) if here is None else here
    u = np.where(here[:, None], X * e[:, None], 0.0)
    meat = u.T @ u
    for lag in range(1, n_lags + 1):
        cross = u[lag:].T @ u[:-lag]
        meat += (1 - lag / (n_lags + 1)) * (cross + cross.T)
    bread = np.linalg.inv(X[here].T @ X[here])
    return bread @ meat @ bread


def rows_of(y, lags, *more):
    p = max(lags)
    return np.column_stack([np.ones(len(y) - p), *(y[p - i : len(y) - i] for i in lags), *more])


@pytest.mark.parametrize("n_lags", [0, 4])
def test_statsmodels(n_lags):
    y = load_sunspots().values
    cov = robust_covariance(fit_exact(y, [1, 2, 9]), y, n_lags=n_lags)
    np.testing.assert_allclose(np.sqrt(np.diag(cov)), STATSMODELS[n_lags], rtol=1e-8)


@pytest.mark.parametrize("n_lags", [0, 1, 30])
def test_long_series_with_gaps(n_lags):
    y = series(9000)
    y[[50, 70, 4100, 8000]] = np.nan
    y[5000:5600] = np.nan
    fit = fit_exact(y, 3)
    X = rows_of(y, [1, 2, 3])
    here = np.isfinite(X).all(axis=1) & np.isfinite(y[3:])
    X, z = np.nan_to_num(X), np.nan_to_num(y[3:])
    e = z - X @ np.concatenate([[fit.intercept], fit.coef])
    np.testing.assert_allclose(
        robust_covariance(fit, y, n_lags=n_lags), defined(X, e, n_lags, here), rtol=1e-9, atol=1e-16
    )


def test_columns_and_lagged_covariates_and_segments():
    y, z, x = series(400), series(400, 1), np.arange(400.0)[:, None] / 400
    cuts = slice(0, 150), slice(150, 400)
    parts = ([a[cut] for cut in cuts] for a in (y, z, x))
    ys, zs, xs = parts
    about = {"columns": xs, "lagged": [Lagged("z", zs, [0, 2])]}
    fit = fit_exact(ys, [1, 3], **about)
    found = robust_covariance(fit, ys, n_lags=2, **about)
    blocks = [rows_of(a, [1, 3], b[3:], b[1:-2], c[3:, 0]) for a, b, c in zip(ys, zs, xs)]
    # Between segments, so many rows without noise that their scores do not meet.
    X = np.vstack([blocks[0], np.zeros((2, 6)), blocks[1]])
    w = np.concatenate([[fit.intercept], fit.coef])
    e = np.concatenate([ys[0][3:], [0.0, 0.0], ys[1][3:]]) - X @ w
    np.testing.assert_allclose(found, defined(X, e, 2), rtol=1e-9, atol=1e-15)


def test_selected_predictors():
    y = series(3000)
    fit = sparse_path(lag_gram(y, 12))
    assert 0 < fit.support.sum() < 12
    found = robust_covariance(fit, y, n_lags=3)
    kept = np.flatnonzero(fit.support)
    X = rows_of(y, list(range(1, 13)))[:, [0, *(1 + kept)]]
    e = y[12:] - X @ np.concatenate([[fit.intercept], fit.coef[kept]])
    at = np.concatenate([[0], 1 + kept])
    np.testing.assert_allclose(found[np.ix_(at, at)], defined(X, e, 3), rtol=1e-8, atol=1e-16)
    assert np.count_nonzero(np.diag(found)) == len(at)


def test_without_intercept():
    y = series(500)
    fit = fit_exact(y, 2, intercept=False)
    X = rows_of(y, [1, 2])[:, 1:]
    found = robust_covariance(fit, y, n_lags=2)
    np.testing.assert_allclose(found[1:, 1:], defined(X, y[2:] - X @ fit.coef, 2), rtol=1e-9)
    assert not found[0].any()


def test_a_level_far_from_zero_costs_no_digits():
    y = series(2000)
    near = robust_covariance(fit_exact(y, 3), y, n_lags=5)
    far = robust_covariance(fit_exact(y + 1e6, 3), y + 1e6, n_lags=5)
    np.testing.assert_allclose(far[1:, 1:], near[1:, 1:], rtol=1e-6)


def test_a_model_without_predictors():
    y = series(300)
    fit = solve_exact(keep(lag_gram(y, 1), np.zeros(1, bool)))
    expected = defined(np.ones((300, 1)), y - y.mean(), 4)
    np.testing.assert_allclose(robust_covariance(fit_exact(y, 0), y, n_lags=4), expected, rtol=1e-10)
    with pytest.raises(ValueError, match="300 complete rows, but the fit was made to 299"):
        robust_covariance(fit, y)


def test_automatic_lags_and_bad_input():
    y = series(1000)
    fit = fit_exact(y, 1)
    expected = robust_covariance(fit, y, n_lags=automatic_lags(999))
    np.testing.assert_array_equal(robust_covariance(fit, y, n_lags=None), expected)
    with pytest.raises(ValueError, match="n_lags"):
        robust_covariance(fit, y, n_lags=-1)
    with pytest.raises(ValueError, match="complete rows"):
        robust_covariance(fit, y[:-1])
    with pytest.raises(ValueError, match="predictors are 2"):
        robust_covariance(fit, y, columns=np.ones((1000, 1)))
