"""From times to gaps: one gap for every regular grid, the true gaps for every other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidamari.statespace.kernels import steps

N = 20_000


@pytest.mark.parametrize(
    ("times", "gap"),
    [
        (np.arange(N) * 0.1 + 0.05, 0.1),
        (1e4 + np.arange(N) * 0.1, 0.1),
        (-500 + np.arange(N) * 0.02, 0.02),
        (np.arange(1e4, 1e4 + 100, 0.01), 0.01),
        (np.linspace(3, 7, N), 4 / (N - 1)),
        (np.cumsum(np.full(N, 0.1)), 0.1),
        (np.arange(N) / 30, 1 / 30),
        (np.arange(N, dtype=np.float32) * np.float32(0.1), 0.1),
        (np.arange(200, dtype=np.uint8), 1.0),
        (np.arange(N) * 1000 + 1_700_000_000_000_000_000, 1000.0),
        (range(50), 1.0),
    ],
    ids=[
        "centres",
        "offset",
        "negative",
        "arange",
        "linspace",
        "cumsum",
        "30 Hz",
        "float32",
        "uint8",
        "ns",
        "range",
    ],
)
def test_regular_grids_have_one_gap(times, gap):
    gaps, step = steps(times)
    assert gaps.shape == (1,)
    tolerance = 1e-6 if getattr(times, "dtype", None) == np.float32 else 1e-11
    assert gaps[0] == pytest.approx(gap, rel=tolerance)
    np.testing.assert_array_equal(step, np.r_[-1, np.zeros(len(times) - 1)])
    assert (gaps.dtype, step.dtype) == (np.float64, np.int64)


def test_missing_rows_give_multiples(rng):
    keep = np.sort(rng.choice(N, N // 2, replace=False))
    gaps, step = steps(7.0 + keep * 0.02)
    distinct = np.unique(np.diff(keep))
    np.testing.assert_allclose(gaps, distinct * 0.02, rtol=1e-11)
    np.testing.assert_array_equal(distinct[step[1:]], np.diff(keep))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(-1e3, 1e3), st.floats(-1e200, 1e200), st.floats(-1e-300, 1e-300)),
        min_size=1,
        max_size=30,
    )
)
def test_every_gap_is_kept_to_the_rounding_of_its_times(values):
    times = np.sort(values)
    gaps, step = steps(times)
    gap = np.diff(times)
    size = np.maximum(np.abs(times[1:]), np.abs(times[:-1])).max(initial=0)
    assert step[0] == -1
    assert np.all(step[1:] >= 0)
    assert np.all(np.diff(gaps) > 0)
    assert np.all(np.abs(gaps[step[1:]] - gap) <= 8 * np.finfo(float).eps * size)
    np.testing.assert_array_equal(gaps[step[1:]] == 0, gap == 0)


def test_irregular_times_keep_their_gaps(rng):
    times = np.sort(rng.uniform(0, 100, N))
    gaps, step = steps(times)
    np.testing.assert_allclose(gaps[step[1:]], np.diff(times), rtol=0, atol=8 * np.finfo(float).eps * 100)
    assert len(gaps) > 0.999 * (N - 1)


def test_gaps_of_every_size_live_side_by_side():
    times = np.logspace(-300, 200, 2001)
    gaps, step = steps(times)
    np.testing.assert_array_equal(gaps[step[1:]], np.diff(times))


def test_gaps_at_the_limit_of_resolution_are_not_chained(rng):
    times = np.sort(1.7e9 + rng.uniform(0, 1000, N))  # unix seconds: gaps are whole multiples of 2.4e-7
    gaps, step = steps(times)
    assert np.abs(gaps[step[1:]] - np.diff(times)).max() <= 8 * np.finfo(float).eps * 1.8e9


def test_the_most_exact_times_set_the_gap():
    gaps, _ = steps([np.arange(5) * 0.1, 1e9 + np.arange(5) * 0.1])
    assert gaps.shape == (1,)
    assert gaps[0] == pytest.approx(0.1, rel=1e-15)


def test_repeated_times_have_the_gap_zero():
    gaps, step = steps([1.0, 1.0, 1.0, 2.0, 2.0])
    assert gaps.tolist() == [0.0, 1.0]
    assert step.tolist() == [-1, 0, 0, 1, 0]


def test_trials_lie_end_to_end():
    trials = [np.arange(3) * 0.5, [7.0], 1e3 + np.arange(4) * 0.5, (0, 2)]
    gaps, step = steps(trials)
    assert gaps.tolist() == [0.5, 2.0]
    assert step.tolist() == [-1, 0, 0, -1, -1, 0, 0, 0, -1, 1]


def test_single_rows_have_a_gap_that_nobody_reads():
    for times in ([3.0], [[1.0], [2.0]]):
        gaps, step = steps(times)
        assert gaps.tolist() == [0.0]
        assert np.all(step == -1)


def test_layouts_give_the_same_gaps():
    times = np.arange(0, 40) * 0.25
    times.flags.writeable = False
    expected = steps(times)
    swapped = times.astype(times.dtype.newbyteorder())
    for same in (swapped, times.tolist(), np.repeat(times, 2)[::2], np.ma.array(times)):
        for one, other in zip(steps(same), expected):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([], r"times must have shape \(T,\) with T >= 1, got \(0,\)"),
        (3.0, r"times must have shape \(T,\) with T >= 1, got \(\)"),
        (np.zeros((2, 3)), r"times must have shape \(T,\) with T >= 1, got \(2, 3\)"),
        ([[0.0], []], r"times\[1\] must have shape \(T,\) with T >= 1, got \(0,\)"),
        ([[0.0, 1.0], 2.0], r"times\[1\] must have shape \(T,\) with T >= 1, got \(\)"),
        ([1.0, [2.0, 3.0]], r"times must have shape \(T,\), got rows of unequal length"),
        ([0.0, np.nan, 1.0], "times must be finite, got nan at index 1"),
        ([[0.0], [0.0, 1.0, np.inf]], r"times\[1\] must be finite, got inf at index 2"),
        ([0.0, 2.0, 1.0], "times must be sorted, got 1.0 after 2.0 at index 2"),
        (np.array([3, 2], dtype=np.uint8), "times must be sorted, got 2 after 3 at index 1"),
        (np.array(["a", "b"]), "times must be real numbers"),
        (np.array([1j, 2j]), "times must be real numbers"),
        (None, "times must be real numbers"),
        (
            np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[s]"),
            r"times must be real numbers \(seconds\)",
        ),
        (np.ma.array([0.0, 1.0], mask=[False, True]), "times must not have masked entries"),
    ],
)
def test_steps_refuse(times, message):
    with pytest.raises(ValueError, match=message):
        steps(times)
