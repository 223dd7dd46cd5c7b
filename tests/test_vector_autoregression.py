"""Vector autoregressions: against statsmodels, against restricted regressions, and the truth."""

import numpy as np
import pytest

from hidamari.inference.vector_autoregression import coupling, fit_vector
from hidamari.inference.vector_forecast import (
    is_stationary,
    spectral_radius,
    vector_draws,
    vector_forecast,
    vector_response,
)


def simulate(coef, n, rng, sigma=None, level=0.0):
    N, _, p = coef.shape
    root = np.eye(N) if sigma is None else np.linalg.cholesky(sigma)
    y = rng.standard_normal((n + 100, N)) @ root.T
    for t in range(p, len(y)):
        for i in range(p):
            y[t] += coef[:, :, i] @ y[t - 1 - i]
    return y[100:] + level


def ring(N=6):
    """Each unit feels itself and the one before it, at lags 1 and 3."""
    coef = np.zeros((N, N, 3))
    for n in range(N):
        coef[n, n, 0], coef[n, n, 2] = 0.4, -0.2
        coef[n, n - 1, 0], coef[n, n - 1, 2] = 0.2, 0.15
    return coef


def dense(y, p):
    return np.column_stack([np.ones(len(y) - p)] + [y[p - i : len(y) - i] for i in range(1, p + 1)])


def test_equals_statsmodels():
    var = pytest.importorskip("statsmodels.tsa.api").VAR
    sigma = np.array([[1.0, 0.5, 0.0], [0.5, 2.0, -0.3], [0.0, -0.3, 0.5]])
    coef = np.random.default_rng(0).normal(0.0, 0.15, (3, 3, 4))
    y = simulate(coef, 3000, np.random.default_rng(1), sigma, 100.0)
    theirs, ours = var(y).fit(4, trend="c"), fit_vector(y, 4)
    np.testing.assert_allclose(ours.coef.transpose(2, 0, 1), theirs.coefs, atol=1e-9)
    np.testing.assert_allclose(ours.intercept, theirs.intercept, rtol=1e-9)
    np.testing.assert_allclose(ours.sigma, theirs.sigma_u, rtol=1e-9, atol=1e-9)
    errors = np.asarray(theirs.stderr)
    np.testing.assert_allclose(ours.intercept_errors, errors[0], rtol=1e-8)
    np.testing.assert_allclose(
        ours.standard_errors.transpose(2, 1, 0), errors[1:].reshape(4, 3, 3), rtol=1e-8
    )
    ahead = vector_forecast(ours, y, 20)
    np.testing.assert_allclose(ahead.mean, theirs.forecast(y[-4:], 20), rtol=1e-9)
    np.testing.assert_allclose(ahead.cov, theirs.forecast_cov(20, method="mse"), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(vector_response(ours, 10), theirs.ma_rep(9), atol=1e-9)
    assert spectral_radius(ours) == pytest.approx(1 / np.abs(theirs.roots).min(), rel=1e-9)


def test_segments_gaps_and_holes_among_lags():
    y = simulate(ring(3), 600, np.random.default_rng(2), level=7.0)
    y[200, 1] = np.nan
    X, lost = dense(y, 3)[:, [0, 1, 2, 3, 7, 8, 9]], np.isnan(y[:, 1])  # lags 1 and 3
    usable = np.isfinite(X).all(axis=1) & ~lost[3:]
    b = np.linalg.lstsq(X[usable], y[3:][usable], rcond=None)[0]
    found = fit_vector(y, [1, 3])
    assert found.n_rows == usable.sum() == 594 and found.coef.shape == (3, 3, 3)
    np.testing.assert_allclose(found.coef[:, :, 0], b[1:4].T, atol=1e-10)
    np.testing.assert_allclose(found.coef[:, :, 2], b[4:].T, atol=1e-10)
    assert not found.support[:, :, 1].any() and (found.coef[:, :, 1] == 0).all()
    y[200, 1] = 0.0
    parts = fit_vector([y[:300], y[300:]], 2)
    rows = [dense(part, 2) for part in (y[:300], y[300:])]
    b = np.linalg.lstsq(np.vstack(rows), np.vstack([y[2:300], y[302:]]), rcond=None)[0]
    np.testing.assert_allclose(parts.coef, b[1:].reshape(2, 3, 3).transpose(2, 1, 0), atol=1e-10)
    bare = fit_vector(y, 2, intercept=False)
    b = np.linalg.lstsq(dense(y, 2)[:, 1:], y[2:], rcond=None)[0]
    np.testing.assert_allclose(bare.coef, b.reshape(2, 3, 3).transpose(2, 1, 0), atol=1e-10)


def test_coupling_is_that_of_restricted_regressions():
    y = simulate(ring(4), 500, np.random.default_rng(3))
    X, z = dense(y, 3), y[3:]
    found = coupling(fit_vector(y, 3))

    def rss(columns, target):
        b = np.linalg.lstsq(X[:, columns], z[:, target], rcond=None)[0]
        return np.sum((z[:, target] - X[:, columns] @ b) ** 2)

    from scipy.stats import f

    for target, source in [(0, 1), (1, 0), (2, 2)]:
        without = [j for j in range(13) if j == 0 or (j - 1) % 4 != source]
        ratio = rss(without, target) / rss(list(range(13)), target)
        assert found.strength[target, source] == pytest.approx(np.log(ratio), rel=1e-9)
        statistic = (ratio - 1) * (497 - 13) / 3
        assert found.statistic[target, source] == pytest.approx(statistic, rel=1e-9)
        assert found.p_value[target, source] == pytest.approx(f.sf(statistic, 3, 484), rel=1e-6)


@pytest.mark.parametrize("penalty", ["group", "l1", "mcp"])
def test_couplings_are_found(penalty):
    true = ring()
    y = simulate(true, 4000, np.random.default_rng(4))
    found = fit_vector(y, 8, penalty, names=list("abcdef"))
    np.testing.assert_array_equal(found.support.any(axis=2), true.any(axis=2))
    if penalty == "group":
        assert (found.support.all(axis=2) == found.support.any(axis=2)).all()
    else:
        np.testing.assert_array_equal(found.support[:, :, :3], true != 0)
    z = (found.coef[:, :, :3] - true)[true != 0] / found.standard_errors[:, :, :3][true != 0]
    assert np.abs(z).max() < 4.5 and found.names == tuple("abcdef")
    np.testing.assert_allclose(found.sigma, np.eye(6), atol=0.1)
    tested = coupling(found)
    assert (tested.p_value[true.any(axis=2)] < 1e-6).all() and (tested.p_value[~true.any(axis=2)] == 1).all()


def test_noise_is_left_alone():
    for seed in range(5):
        found = fit_vector(np.random.default_rng(seed).standard_normal((500, 3)), 3, "group")
        assert not found.support.any() and (coupling(found).p_value == 1).all()


def test_a_given_strength_and_few_rows():
    y = simulate(ring(), 60, np.random.default_rng(5))
    found = fit_vector(y, 10, "group", alpha=0.3)
    assert found.n_rows == 50 and np.isfinite(found.coef).all()
    assert 0 < found.support.sum() < found.support.size
    with pytest.raises(ValueError, match="61 coefficients of each unit need more"):
        fit_vector(y, 10)
    with pytest.raises(ValueError, match="alpha 0.01 keeps"):
        fit_vector(y, 10, "group", alpha=0.01)


def test_draws_have_the_moments_of_the_forecast():
    sigma = np.array([[1.0, 0.6], [0.6, 1.0]])
    y = simulate(ring(2), 1000, np.random.default_rng(6), sigma, 3.0)
    fit = fit_vector(y, 3)
    ahead = vector_forecast(fit, y, 6)
    draws = vector_draws(fit, y, 6, 40_000, np.random.default_rng(7))
    np.testing.assert_allclose(draws.mean(axis=0), ahead.mean, atol=0.03)
    np.testing.assert_allclose(np.cov(draws[:, 5].T), ahead.cov[5], atol=0.04)
    assert is_stationary(fit) and not is_stationary(fit._replace(coef=np.ones((2, 2, 1))))


def test_what_is_not_allowed():
    y = np.random.default_rng(8).standard_normal((100, 2))
    with pytest.raises(ValueError, match="collinear"):
        fit_vector(np.column_stack([y, y[:, 0]]), 2)
    with pytest.raises(ValueError, match="collinear, or constant"):
        fit_vector(np.column_stack([y, np.ones(100)]), 2)
    with pytest.raises(ValueError, match="names has 1 names"):
        fit_vector(y, 2, names=["a"])
    with pytest.raises(ValueError, match="penalty is 'l0'"):
        fit_vector(y, 2, "l0")
    with pytest.raises(ValueError, match="at least one"):
        fit_vector(y, 0)
    with pytest.raises(ValueError, match="allowed is one N"):
        fit_vector([y, y[:, :1]], 2)
    with pytest.raises(ValueError, match="at least 2 rows of 2 units"):
        vector_forecast(fit_vector(y, 2), y[:1], 3)
    y[-1, 0] = np.nan
    with pytest.raises(ValueError, match="not observed among its last 2"):
        vector_draws(fit_vector(y, 2), y, 3, 1, np.random.default_rng(0))
