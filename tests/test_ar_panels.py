"""Panels: the evidence against dense normal densities, climbs, and errors on series left out."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from hidamari.inference.ar_panels import fit_panel, panel_evidence, within_gram
from hidamari.inference.autoregression import add_grams, complete_rows, lag_gram, solve_exact


def simulate(coef, n, rng, level=0.0):
    p = coef.shape[1]
    y = np.zeros((len(coef), 200 + n))
    e = rng.standard_normal(y.shape)
    for t in range(p, y.shape[1]):
        y[:, t] = e[:, t] + (coef * y[:, t - p : t][:, ::-1]).sum(axis=1)
    return y[:, 200:] + level


def rows(series, p):
    X = np.concatenate(list(complete_rows(series, p)))
    return X[:, 0], X[:, 1:]


@pytest.mark.parametrize("intercept", [True, False])
def test_evidence_is_that_of_the_dense_covariance(intercept):
    rng = np.random.default_rng(0)
    panel = simulate(rng.normal(0.2, 0.1, (3, 2)), 12, rng, 5.0)
    mean, spread, sigma2 = np.array([0.3, -0.1]), np.array([0.4, 0.0]), np.array([0.7, 1.3, 1.0])
    expected = 0.0
    for series, s2 in zip(panel, sigma2):
        y, X = rows(series, 2)
        n = len(y)
        # Contrasts orthogonal to the intercept; its flat prior gives the factor 1 / sqrt(n).
        Q = np.linalg.svd(np.ones((n, 1)))[0][:, 1:] if intercept else np.eye(n)
        cov = Q.T @ (s2 * np.eye(n) + (X * spread**2) @ X.T) @ Q
        expected += multivariate_normal.logpdf(Q.T @ (y - X @ mean), cov=cov)
        expected -= 0.5 * np.log(n) * intercept
    grams = [lag_gram(series, 2) for series in panel]
    assert panel_evidence(grams, mean, spread, sigma2, intercept) == pytest.approx(expected, abs=1e-8)


def test_evidence_climbs_to_a_maximum_and_posteriors_are_dense_ones():
    rng = np.random.default_rng(1)
    panel = simulate(rng.normal([0.4, -0.2, 0.0], [0.2, 0.1, 0.0], (12, 3)), 80, rng, 3.0)
    grams = [lag_gram(series, 3) for series in panel]
    found = fit_panel(grams)
    assert (np.diff(found.evidence) >= -1e-9).all() and found.evidence[-1] - found.evidence[0] > 1.0
    sigma2 = np.array([fit.sigma2 for fit in found.fits])
    best = panel_evidence(grams, found.mean, found.spread, sigma2)
    assert best == pytest.approx(found.evidence[-1], abs=1e-8)
    for j in range(3):
        step = np.zeros(3)
        for step[j] in (-0.02, 0.02):
            assert panel_evidence(grams, found.mean + step, found.spread, sigma2) < best
            assert panel_evidence(grams, found.mean, np.maximum(found.spread + step, 0), sigma2) < best + 1e-4
    for factor in (0.95, 1.05):
        assert panel_evidence(grams, found.mean, found.spread, factor * sigma2) < best
    y, X = rows(panel[0], 3)
    y, middle = y - y.mean(), X.mean(axis=0)
    precision = np.diag(found.spread**-2) + (X - middle).T @ (X - middle) / sigma2[0]
    cov = np.linalg.inv(precision)
    coef = cov @ (found.mean / found.spread**2 + (X - middle).T @ y / sigma2[0])
    np.testing.assert_allclose(found.fits[0].coef, coef, atol=1e-9)
    np.testing.assert_allclose(found.fits[0].cov[1:, 1:], cov, atol=1e-10)
    assert found.fits[0].intercept == pytest.approx(rows(panel[0], 3)[0].mean() - middle @ coef)


def test_complete_pooling_is_least_squares_with_a_column_for_each_series():
    rng = np.random.default_rng(2)
    panel = simulate(np.tile([0.5, 0.2], (4, 1)), 50, rng) + np.arange(4)[:, None] * 10
    grams = [lag_gram(series, 2) for series in panel]
    found = fit_panel(grams, "complete")
    pairs = [rows(series, 2) for series in panel]
    y = np.concatenate([own for own, _ in pairs])
    X = np.column_stack([np.concatenate([x for _, x in pairs]), np.kron(np.eye(4), np.ones((48, 1)))])
    b = np.linalg.lstsq(X, y, rcond=None)[0]
    np.testing.assert_allclose(found.mean, b[:2], atol=1e-10)
    np.testing.assert_allclose([fit.intercept for fit in found.fits], b[2:], atol=1e-9)
    # With one intercept for all the levels would look like a unit root.
    assert solve_exact(add_grams(grams)).coef.sum() > 0.95 > found.mean.sum()
    np.testing.assert_allclose(within_gram(grams).moments, sum(gram.moments for gram in grams))
    bare = fit_panel(grams, "complete", intercept=False)
    np.testing.assert_allclose(bare.mean, np.linalg.lstsq(X[:, :2], y, rcond=None)[0], atol=1e-9)


LAWS = {
    "alike": lambda rng: np.tile([0.5, -0.3, 0.2, 0.0], (30, 1)),
    "apart": lambda rng: rng.uniform(-1, 1, (30, 4)) * [0.8, 0.15, 0.03, 0.015],
    "mixed": lambda rng: np.column_stack([rng.uniform(-0.7, 0.7, 30), np.tile([-0.3, 0.2, 0.0], (30, 1))]),
}


@pytest.mark.parametrize("law", LAWS)
def test_partial_pooling_is_as_good_as_the_better_of_both(law):
    rng = np.random.default_rng(3)
    coef = LAWS[law](rng)
    panel = simulate(coef, 2060, rng)
    train, test = panel[:, :60], panel[:, 60:]
    grams, later = [lag_gram(series, 4) for series in train], [lag_gram(series, 4) for series in test]
    error = {}
    for pooling in ("partial", "complete", None):
        found = fit_panel(grams, pooling)
        contrast = np.array([np.append(1.0, -fit.coef) for fit in found.fits])
        error[pooling] = np.mean([b @ gram.moments @ b / gram.n_rows for b, gram in zip(contrast, later)])
    better, worse = sorted([error["complete"], error[None]])
    assert error["partial"] <= 1.01 * better and better < 0.98 * worse
    spread = fit_panel(grams).spread
    if law == "alike":
        assert spread.max() < 0.08
    if law == "mixed":
        assert 0.3 < spread[0] < 0.5 and spread[1:].max() < 0.15 and error["partial"] < 0.99 * better


def test_series_shorter_than_their_lags_and_named_errors():
    rng = np.random.default_rng(4)
    panel = simulate(np.tile([0.6], (40, 1)), 40, rng)
    long = [lag_gram(series, 25) for series in panel]  # 15 rows each
    found = fit_panel(long, noise="common")
    assert (np.diff(found.evidence) >= -1e-9).all() and len({fit.sigma2 for fit in found.fits}) == 1
    with pytest.raises(ValueError, match="fitted without error"):
        fit_panel([lag_gram(series, 36) for series in panel])
    assert found.mean[0] == pytest.approx(0.6, abs=0.3) and np.isfinite(found.mean_errors).all()
    grams = [lag_gram(series, 2) for series in panel]
    with pytest.raises(ValueError, match="pooling is 'some'"):
        fit_panel(grams, "some")
    with pytest.raises(ValueError, match="noise is 'none'"):
        fit_panel(grams, noise="none")
    with pytest.raises(ValueError, match="solve is given"):
        fit_panel(grams, solve=solve_exact)
    with pytest.raises(ValueError, match="one series"):
        fit_panel(grams[:1])
    with pytest.raises(ValueError, match="grams is empty"):
        fit_panel([])
    with pytest.raises(ValueError, match=r"grams\[1\] has predictors"):
        fit_panel([grams[0], lag_gram(panel[1], 3)])
    with pytest.raises(ValueError, match="2 responses"):
        fit_panel([lag_gram(panel[0], 2, steps=2)] * 2)
    with pytest.raises(ValueError, match=r"grams\[1\] does not vary"):
        fit_panel([grams[0], lag_gram(np.ones(40), 2)])
