"""Many consecutive lags: the structure of their moments against the moments themselves."""

import time
import tracemalloc

import numpy as np
import pytest
from scipy.signal import lfilter

from hidamari.inference import _near_toeplitz, autoregression
from hidamari.inference.autoregression import fit_exact, lag_gram, solve_exact
from hidamari.inference.lags import long_runs

SERIES = {"sparse": [0.2, 0.3, -0.5], "slow": [0.99], "resonant": [1.9, -0.95], "noise": [0.0], "walk": [1.0]}


def simulate(w, n, seed, level=0.0):
    noise = np.random.default_rng(seed).standard_normal(n + 500)
    return np.asarray(lfilter([1.0], [1.0, *-np.asarray(w)], noise))[500:] + level


@pytest.fixture
def used(monkeypatch):
    """What came out of the structure, None for each time that it gave up."""
    found, own = [], _near_toeplitz.solve
    monkeypatch.setattr(_near_toeplitz, "solve", lambda *a: found.append(own(*a)) or found[-1])
    return found


def agree(fit, exact):
    np.testing.assert_allclose(fit.coef, exact.coef, rtol=0, atol=1e-10)
    np.testing.assert_allclose(fit.intercept, exact.intercept, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(fit.sigma2, exact.sigma2, rtol=1e-11)
    np.testing.assert_allclose(fit.cov, exact.cov, rtol=0, atol=1e-9 * np.abs(exact.cov).max())
    errors = np.sqrt(np.diag(exact.cov)[1:])
    np.testing.assert_allclose(np.sqrt(np.diag(fit.cov)[1:]), errors, rtol=1e-9)
    np.testing.assert_allclose(fit.condition, exact.condition, rtol=0.3)  # there an estimate
    assert fit.n_rows == exact.n_rows and fit.names == exact.names and fit.support.all()
    np.testing.assert_array_equal(fit.lags, exact.lags)


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("intercept", [True, False])
def test_structure_gives_least_squares(name, intercept, used):
    y = simulate(SERIES[name], 6000, 0, level=3.0 if intercept else 0.0)
    agree(fit_exact(y, 300, intercept=intercept), solve_exact(lag_gram(y, 300), intercept))
    assert used[0] is not None


def test_least_squares_of_rows(used):
    y = simulate(SERIES["sparse"], 2000, 1, 5.0)
    X = np.column_stack([np.ones(1700), *[y[300 - i : 2000 - i] for i in range(1, 301)]])
    b, rss = np.linalg.lstsq(X, y[300:], rcond=None)[:2]
    fit = fit_exact(y, 300)
    np.testing.assert_allclose([fit.intercept, *fit.coef], b, rtol=0, atol=1e-11)
    np.testing.assert_allclose(fit.sigma2, rss[0] / 1700, rtol=1e-12)
    np.testing.assert_allclose(fit.cov, np.linalg.inv(X.T @ X) * fit.sigma2, rtol=0, atol=1e-10)
    assert used[0] is not None


def test_runs(used):
    y = simulate(SERIES["slow"], 9000, 2, -4.0)
    y[[3000, 3100]] = np.nan  # what lies between them is shorter than the lags
    agree(fit_exact(y, 260), solve_exact(lag_gram(y, 260)))
    parts = [y[:2500], y[4000:6000], y[6500:]]
    agree(fit_exact(parts, 260), solve_exact(lag_gram(parts, 260)))
    assert len(used) == 2 and None not in used
    runs, _ = long_runs(y, 260) or ([], 0)
    assert [len(run) for run in runs] == [3000, 5899]


def test_level_and_unit_change_nothing(used):
    y = simulate([0.7, 0.1, 0.1], 8000, 3)
    plain = fit_exact(y, 300)
    np.testing.assert_allclose(fit_exact(y + 1e6, 300).coef, plain.coef, rtol=0, atol=1e-7)
    for unit in (1e8, 1e-8):
        scaled = fit_exact(y * unit, 300)
        np.testing.assert_allclose(scaled.coef, plain.coef, rtol=0, atol=1e-9)
        np.testing.assert_allclose(np.diag(scaled.cov)[1:], np.diag(plain.cov)[1:], rtol=1e-9)
    assert None not in used


def test_triangles_where_the_structure_fails(used):
    drift = np.cumsum(0.1 + np.random.default_rng(4).standard_normal(20000))  # condition 1e9
    jump = simulate(SERIES["slow"], 4000, 4)
    jump[:3] += 1e5  # the first rows tell more than all others
    for y in (drift, jump):
        fit, exact = fit_exact(y, 300), solve_exact(lag_gram(y, 300))
        np.testing.assert_allclose(fit.sigma2, exact.sigma2, rtol=1e-8)
        np.testing.assert_allclose(fit.coef, exact.coef, atol=1e-6)
    assert used == [None, None]
    with pytest.raises(ValueError, match="complete rows"):
        fit_exact(simulate([0.5], 590, 5), 300)
    for y in (np.ones(2000), np.eye(1, 2000)[0]):  # the pulse is before the first row
        constant = fit_exact(y, 300)
        assert constant.condition == np.inf and np.abs(constant.coef).max() < 1e-9


@pytest.mark.parametrize(
    "call",
    [
        lambda y: long_runs(y, 200),
        lambda y: long_runs(y, [*range(1, 300), 301]),
        lambda y: long_runs(y, 300, np.ones((2000, 1))),
        lambda y: long_runs(y, 300, lagged=[autoregression.Lagged("u", y, 1)]),
        lambda y: long_runs(y[:800], 300),
        lambda y: long_runs(np.where(np.arange(2000) % 400, y, np.nan), 300),
    ],
)
def test_other_regressions_are_left_alone(call):
    assert call(np.random.default_rng(0).standard_normal(2000)) is None


def test_long_series_in_a_fraction_of_a_second(used):
    y = simulate(SERIES["sparse"], 100_000, 6)
    agree(fit_exact(y, 1000), solve_exact(lag_gram(y, 1000)))
    taken = []
    for _ in range(3):
        start = time.process_time()
        fit_exact(y, 1000)
        taken.append(time.process_time() - start)
    assert min(taken) < 0.5 and None not in used  # some 0.01 on one core
    tracemalloc.start()
    fit_exact(y, 1000)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8 * (2 * len(y) + 2 * 1001**2)
