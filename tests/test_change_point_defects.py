"""What was found wrong in other packages for change points, one test each; those elsewhere are named here.

Pruning that ignores the minimum length gives a worse segmentation (ruptures 1.1.10, min_size):
    test_segments.py, test_pruning_is_exact_with_a_minimum_length
Prefix sums of raw values find tens of changes under an offset of 1e8 (skchange 0.18, fastcpd 1.3, ruptures):
    test_segments.py, test_one_change_stays_one_under_an_offset
The default finds hundreds of changes in 20 units without any (skchange 0.18, seeded search and MOSUM), or
misses half of the true ones (fastcpd 1.3), or those shorter than a hundredth of the series (changeforest):
    below, and test_segments.py, test_no_short_segment_hides_in_a_cell
Memory that grows with the square of the rows (ruptures, kernels):
    below
The length of the series is returned as a change point (ruptures); change points that are the last rows of a
segment (skchange before 0.12):
    below, and test_dcdp_conventions.py
"""

import inspect
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import hidamari as hd

HERE = Path(__file__).parent
ELSEWHERE = [
    line.strip().split(", ")
    for line in (__doc__ or "").replace("below, and ", "").splitlines()
    if line.strip().startswith("test_") and ", test_" in line
]


@pytest.mark.parametrize("file, test", ELSEWHERE)
def test_defects_that_are_tested_elsewhere_are(file, test):
    assert f"def {test}(" in (HERE / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("search", ["auto", "divide", "seeded"])
def test_twenty_units_without_change_have_none(search):
    x = np.random.default_rng(0).normal(size=(10_000, 20))
    assert hd.DCDP(search=search, interval=None).fit(x).change_points_.tolist() == []


def test_nine_small_changes_in_twenty_units_are_found_by_default():
    x = np.random.default_rng(1).normal(size=(10_000, 20))
    x += 0.5 * (np.arange(10_000) // 1000 % 2)[:, None]
    found = hd.DCDP(interval=None).fit(x).change_points_
    np.testing.assert_allclose(found, 1000 * np.arange(1, 10), atol=8)


def test_nine_changes_of_one_unit_are_found_by_default():
    x = np.random.default_rng(1).normal(size=1000) + 2.0 * (np.arange(1000) // 100 % 2)
    np.testing.assert_allclose(hd.DCDP(interval=None).fit(x).change_points_, 100 * np.arange(1, 10), atol=6)


def test_segments_of_a_thousandth_of_the_series_are_found():
    n = 100_000
    x = np.random.default_rng(2).normal(size=n) + 2.0 * (np.arange(n) // 100 % 2)
    found = hd.DCDP(noise=1.0, robust=False, interval=None).fit(x).change_points_
    assert abs(len(found) - 999) <= 5
    true = 100 * np.arange(1, 1000)
    assert np.quantile(np.abs(true[:, None] - found).min(axis=1), 0.99) <= 8


def test_memory_grows_with_the_rows():
    x = np.random.default_rng(3).normal(size=100_000)
    hd.DCDP(interval=None).fit(x[:20_000])
    tracemalloc.start()
    hd.DCDP(interval=None).fit(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * x.nbytes  # a matrix of all pairs would take 80 GB


def test_neither_end_of_the_series_is_a_change_point(rng):
    for at in (1, 5, 95, 99):
        x = 30.0 * (np.arange(100) >= at) + rng.normal(size=100)
        found = hd.DCDP(robust=False, noise=1.0, min_length=1).fit(x).change_points_
        assert found.tolist() == [at]
    assert hd.DCDP().fit(rng.normal(size=100)).change_points_.shape == (0,)


def test_the_same_call_gives_the_same_answer(rng):
    """Networks in other packages draw weights without a seed."""
    x = rng.normal(size=(400, 1))
    for method in ("onnc", "onnr"):
        one, two = (hd.OnlineChangePoints(method, threshold=1.0, lag=30).fit(x).scores_ for _ in range(2))
        np.testing.assert_array_equal(one, two)
    assert inspect.signature(hd.OnlineChangePoints).parameters["random_state"].default == 0


def test_missing_entries_are_no_change_points(rng):
    """NaN spreads through the sums of some packages, and is a level of its own in others."""
    x = rng.normal(size=(400, 2)) + 3.0 * (np.arange(400) >= 200)[:, None]
    x[100:130] = x[195:198, 0] = np.nan
    found = hd.DCDP().fit(x).change_points_
    assert len(found) == 1 and abs(found[0] - 200) <= 3
