"""The default penalty, the noise that it is measured in, and outliers."""

import numpy as np
import pytest
from scipy.ndimage import median_filter
from scipy.signal import lfilter
from scipy.stats import chi2

from hidamari.inference._divide import divider
from hidamari.inference.costs import Mean
from hidamari.inference.penalty import clip_outliers, default_penalty, estimate_noise
from hidamari.inference.segments import optimal_partitioning


def autoregression(rng, n, coefficients, d=1):
    return lfilter([1.0], [1.0, *(-np.asarray(coefficients))], rng.normal(size=(n + 200, d)), axis=0)[200:]


@pytest.mark.parametrize("p", [1, 2, 10, 100, 1000])
@pytest.mark.parametrize("n", [10, 200, 10_000, 10**6])
def test_a_single_split_gains_more_than_the_penalty_once_in_n_times_at_most(n, p):
    assert chi2.sf(default_penalty(n, p), p) <= 1.0 / n


def test_long_run_variance_of_noise_with_and_without_memory(rng):
    for coefficients, truth in (([], 1.0), ([0.5], 4.0), ([-0.4], 1 / 1.96), ([0.5, 0.2], 1 / 0.09)):
        found = np.mean([estimate_noise(autoregression(rng, 2000, coefficients)).variance for _ in range(10)])
        assert found == pytest.approx(truth, rel=0.15)


def test_changes_are_not_noise(rng):
    for size in (3.0, 10.0, 100.0):
        x = autoregression(rng, 900, [0.5]) + size * (np.arange(900)[:, None] // 300 == 1)
        noise = estimate_noise(x, min_length=5)
        assert abs(noise.change_points - [300, 600]).max() < 20
        assert noise.variance[0] == pytest.approx(4.0, rel=0.4)


def test_noise_scales_with_the_units_and_ignores_offsets(rng):
    x = autoregression(rng, 400, [0.3], 3) + 4.0 * (np.arange(400)[:, None] > 200)
    once = estimate_noise(x)
    again = estimate_noise(1e6 + x * [1.0, 1e-3, 50.0])
    np.testing.assert_allclose(again.variance, once.variance * [1.0, 1e-6, 2500.0], rtol=1e-5)
    np.testing.assert_array_equal(again.change_points, once.change_points)
    assert again.order == once.order


def test_missing_entries(rng):
    x = autoregression(rng, 3000, [0.5], 2)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[1000:1200] = np.nan
    np.testing.assert_allclose(estimate_noise(x).variance, 4.0, rtol=0.35)


def test_units_that_never_vary():
    found = estimate_noise(np.full((20, 2), 3.0))
    assert not found.variance.any() and found.rows_for_one == 1.0
    mixed = estimate_noise(np.column_stack([np.full(50, 2.0), np.random.default_rng(0).normal(size=50)]))
    assert mixed.variance[0] == 0.0 < mixed.variance[1]
    unseen = estimate_noise(np.column_stack([np.full(50, np.nan), np.random.default_rng(0).normal(size=50)]))
    assert unseen.variance[0] == 0.0 < unseen.variance[1]


def test_steps_without_noise_are_changes():
    x = np.repeat([0.0, 5.0, 2.0], 20)
    noise = estimate_noise(x)
    found = optimal_partitioning(x / np.sqrt(noise.variance), Mean(), default_penalty(60, 1))
    assert found.change_points.tolist() == [20, 40]


def test_rare_counts_keep_their_variance(rng):
    x = rng.poisson(0.01, 20_000)
    assert estimate_noise(x).variance[0] == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9])
def test_short_series(n, rng):
    found = estimate_noise(rng.normal(size=(n, 2)))
    assert np.isfinite(found.variance).all() and (found.variance >= 0).all()


def test_outliers_are_pulled_back_and_segments_are_kept(rng):
    x = rng.normal(size=400)
    x[200:] += 8.0
    spoilt = x.copy()
    spoilt[[20, 100, 101, 300]] += [50.0, -30.0, -30.0, 1e6]
    kept = clip_outliers(spoilt).ravel()
    assert np.abs(kept - x).max() < 8.0
    calm = clip_outliers(x).ravel()
    assert np.mean(calm == x) > 0.97
    np.testing.assert_allclose(clip_outliers(3.0 * x - 7.0).ravel(), 3.0 * calm - 7.0)


def test_outliers_among_missing_and_constant_rows(rng):
    x = rng.normal(size=(100, 3))
    x[:, 1], x[:, 2] = np.nan, 4.0
    x[rng.random(100) < 0.3, 0] = np.nan
    kept = clip_outliers(x)
    np.testing.assert_array_equal(np.isnan(kept), np.isnan(x))
    np.testing.assert_array_equal(kept[:, 2], 4.0)


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("n", [7, 300, 80_000])
def test_outliers_are_told_as_by_sorting_every_window(n, missing, rng):
    """SciPy's median filter and NumPy's median are the oracle; ties, and a column in the wrong order."""
    x = rng.standard_t(2, size=(n, 3))
    x[:, 1] = np.sort(x[:, 1].round(1))
    x[:, 2] *= np.linspace(0.0, 9.0, n)
    x[rng.random(x.shape) < missing] = np.nan
    filled, rows = x.copy(), np.arange(n)
    for column in filled.T:
        seen = ~np.isnan(column)
        column[~seen] = np.interp(rows[~seen], rows[seen], column[seen])
    around = median_filter(filled, size=(11, 1), mode="nearest")
    limit = 3.0 * (1.4826 * np.nanmedian(np.abs(x - around), axis=0))
    limit[limit == 0.0] = np.inf
    expected = np.where(np.abs(x - around) > limit, around + np.clip(x - around, -limit, limit), x)
    np.testing.assert_array_equal(clip_outliers(x), expected)


def test_levels_that_are_given_up_are_not_the_best(rng, monkeypatch):
    """Segmentations of deep levels that are left unrefined change nothing."""
    n = 60_000
    x = rng.normal(size=(n, 2)) + 0.3 * (np.arange(n)[:, None] * 8 // n % 2)
    found = estimate_noise(x)
    asked = []

    def whole(*arguments, **options):
        search = divider(*arguments, **options)

        def every(price, worth):
            asked.append(price)
            return search(price)._replace(cell=1)

        return every

    monkeypatch.setattr("hidamari.inference.penalty.divider", whole)
    expected = estimate_noise(x)
    assert len(asked) > 8
    np.testing.assert_array_equal(found.change_points, expected.change_points)
    np.testing.assert_array_equal(found.variance, expected.variance)
