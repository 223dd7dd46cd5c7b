"""Lomb-Scargle periodograms by fast Fourier transforms, and the peaks that stand out."""

import numpy as np
import pytest
from scipy.signal import lombscargle

from hidamari.inference.periodogram import lomb_scargle, peaks


def test_equals_the_direct_sums_within_a_percent(rng):
    t = np.sort(rng.uniform(3, 40, 300))
    y = np.sin(2 * np.pi * 0.7 * t) + rng.normal(size=300)
    y[7] = np.nan
    seen = ~np.isnan(y)
    frequency, power = lomb_scargle(t, y, 4.0)
    direct = lombscargle(t[seen], y[seen] - y[seen].mean(), 2 * np.pi * frequency)
    assert np.abs(power - direct).max() < 0.02 * direct.max()
    assert frequency[power.argmax()] == pytest.approx(0.7, abs=0.02)
    np.testing.assert_allclose(np.diff(frequency), 0.5 / np.ptp(t[seen]))


def test_beyond_the_mean_rate(rng):
    """Irregular times tell frequencies above half their mean rate."""
    t = np.sort(rng.uniform(0, 200, 400))
    assert peaks([(t, np.cos(2 * np.pi * 3.3 * t))], 5.0, 1) == pytest.approx([3.3], abs=0.01)


def test_a_steep_spectrum_hides_no_peak(rng):
    t = np.arange(4000) * 0.05
    walk = np.cumsum(rng.normal(size=4000)) * 0.3
    found = peaks([(t, walk + np.sin(2 * np.pi * 2.2 * t))], 10.0, 1)
    assert found == pytest.approx([2.2], rel=0.02)


def test_series_are_pooled(rng):
    series = []
    for n in (300, 500, 200):
        t = np.sort(rng.uniform(0, n * 0.1, n))
        series.append((t, 0.8 * np.sin(2 * np.pi * 1.5 * t + rng.uniform(0, 6)) + rng.normal(size=n)))
    assert peaks(series, 5.0, 1) == pytest.approx([1.5], rel=0.03)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_too_little_has_no_spectrum(n):
    assert peaks([(np.arange(float(n)), np.ones(n))], 0.5, 3).size == 0


def test_equal_times_have_no_spectrum():
    assert lomb_scargle(np.ones(10), np.arange(10.0), 3.0)[0].size == 0


def test_a_long_gap_does_not_exhaust_memory(rng):
    t = np.concatenate([np.arange(50) * 1e-3, 1e7 + np.arange(50) * 1e-3])
    frequency, _ = lomb_scargle(t, rng.normal(size=100), 500.0)
    assert len(frequency) <= 2**22
