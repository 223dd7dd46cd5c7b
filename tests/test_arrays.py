"""Every form of observations gives the same numbers, bad ones are refused by name, and the way back holds."""

import doctest
import subprocess
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hidamari import arrays
from hidamari.arrays import as_trials, bin_width, restore, split

COUNTS = np.array([[0, 1, 200], [3, 0, 0], [1, 255, 2], [0, 0, 7], [5, 1, 1]])


class TsdFrame:
    """Like pynapple's: times `.t`, numbers `.d`, names `.columns`."""

    def __init__(self, t, d, columns):
        self.t, self.d, self.columns = np.asarray(t), np.asarray(d), pd.Index(columns)


def strided(y):
    wide = np.zeros((10, 6), y.dtype)
    wide[::2, ::-2] = y
    return wide[::2, ::-2]


def read_only(y):
    y = y.astype(float)
    y.flags.writeable = False
    return y


FORMS = {
    "int64": lambda y: y,
    "uint8": lambda y: y.astype(np.uint8),
    "int16": lambda y: y.astype(np.int16),
    "uint64": lambda y: y.astype(np.uint64),
    "float16": lambda y: y.astype(np.float16),
    "float32": lambda y: y.astype(np.float32),
    "longdouble": lambda y: y.astype(np.longdouble),
    "big-endian float": lambda y: y.astype(">f8"),
    "big-endian int": lambda y: y.astype(">i4"),
    "fortran": lambda y: np.asfortranarray(y.astype(float)),
    "strided": lambda y: strided(y.astype(float)),
    "read-only": read_only,
    "object": lambda y: y.astype(object),
    "fractions": lambda y: np.array([[Fraction(int(v)) for v in row] for row in y]),
    "list": lambda y: y.tolist(),
    "tuples": lambda y: tuple(map(tuple, y.tolist())),
    "masked, nothing masked": lambda y: np.ma.array(y),
    "xarray": lambda y: xr.DataArray(y, dims=("time", "unit")),
    "xarray, unit first": lambda y: xr.DataArray(y.T, dims=("unit", "time")),
    "pandas": lambda y: pd.DataFrame(y),
    "pandas, nullable": lambda y: pd.DataFrame(y).astype("Int64"),
    "pandas, mixed": lambda y: pd.DataFrame(y).astype({0: "float32", 1: "uint8", 2: "object"}),
    "pynapple": lambda y: TsdFrame(np.arange(5.0), y, list("abc")),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_numbers(form):
    given = FORMS[form](COUNTS)
    trials = as_trials(given)
    np.testing.assert_array_equal(trials.values, COUNTS.astype(float))
    assert trials.values.dtype == np.dtype("float64")
    assert trials.values.dtype.isnative
    assert trials.values.flags.c_contiguous
    assert trials.values.flags.writeable
    assert trials.lengths.tolist() == [5]
    assert trials.form == "array"


@pytest.mark.parametrize("form", ["int64", "fortran", "read-only", "big-endian float", "xarray", "pandas"])
def test_the_input_is_neither_changed_nor_shared(form):
    given = FORMS[form](COUNTS.copy())
    trials = as_trials(given)
    trials.values[:] = -1.0
    np.testing.assert_array_equal(np.asarray(given), COUNTS)


def test_booleans_and_float64():
    assert as_trials(np.array([[True], [False]])).values.tolist() == [[1.0], [0.0]]
    y = np.array([[1.5, np.nan]])
    trials = as_trials(y)
    np.testing.assert_array_equal(trials.values, y)
    assert not np.shares_memory(trials.values, y)


# --- missing ---


def test_the_filler_of_a_mask_is_never_read():
    y = np.ma.array([[1.0, np.inf], [np.nan, 4.0]], mask=[[False, True], [True, False]])
    np.testing.assert_array_equal(as_trials(y).values, [[1, np.nan], [np.nan, 4]])
    integers = np.ma.array([[1, 999], [999, 4]], mask=[[False, True], [True, False]], dtype=np.uint16)
    np.testing.assert_array_equal(as_trials(integers).values, [[1, np.nan], [np.nan, 4]])
    assert y.data[0, 1] == np.inf


def test_masks_inside_lists():
    row = np.ma.array([1.0, 999.0], mask=[False, True])
    np.testing.assert_array_equal(as_trials([[[1, 2], row]]).values, [[1, 2], [1, np.nan]])
    block = np.ma.array(np.full((2, 2), 999), mask=True)
    assert np.isnan(as_trials([np.zeros((3, 2)), block]).values[3:]).all()


def test_missing_in_pandas():
    table = pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [np.nan, 2.0]})
    np.testing.assert_array_equal(as_trials(table).values, [[1, np.nan], [np.nan, 2]])


def test_all_missing_is_allowed():
    assert np.isnan(as_trials(np.full((3, 2), np.nan)).values).all()


# --- trials ---


def test_a_batch_and_a_list_are_concatenated(rng):
    y = rng.poisson(1.0, (4, 6, 3))
    for given, form in ((y, "batch"), (list(y), "list"), (tuple(y), "list"), (y.tolist(), "list")):
        trials = as_trials(given)
        np.testing.assert_array_equal(trials.values, y.reshape(24, 3))
        assert trials.lengths.tolist() == [6, 6, 6, 6]
        assert trials.form == form
    cells = np.empty(2, object)
    cells[:] = [y[0], y[1, :2]]
    assert as_trials(cells).lengths.tolist() == [6, 2]


def test_a_labelled_batch_without_its_padding():
    padded = np.full((2, 4, 1), np.nan)
    padded[0, :, 0], padded[1, :2, 0] = [1, 2, 3, 4], [5, 6]
    y = xr.DataArray(
        padded.transpose(2, 1, 0),
        dims=("unit", "time", "trial"),
        coords={"n_bins": ("trial", [4, 2]), "time": [0.1, 0.3, 0.5, 0.7], "unit": ["a"]},
        attrs={"bin_s": 0.2},
    )
    trials = as_trials(y)
    assert trials.values[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert trials.lengths.tolist() == [4, 2]
    assert trials.bin_s == 0.2
    assert trials.units is not None
    assert trials.times is not None
    assert trials.units.tolist() == ["a"]
    assert trials.times[1].tolist() == [0.1, 0.3]
    xr.testing.assert_identical(restore(trials.values, trials), y.transpose("trial", "time", "unit"))


def test_times_units_and_bins_of_labelled_data():
    y = xr.DataArray(
        COUNTS,
        dims=("time", "unit"),
        coords={"time": 0.1 * np.arange(5), "unit": [4, 8, 9]},
        attrs={"bin_s": 0.1},
    )
    trials = as_trials(y)
    assert (trials.container, trials.bin_s) == ("xarray", 0.1)
    np.testing.assert_array_equal(trials.times, [0.1 * np.arange(5)])
    np.testing.assert_array_equal(trials.units, [4, 8, 9])
    table = pd.DataFrame(COUNTS, index=0.5 * np.arange(5), columns=list("abc"))
    np.testing.assert_array_equal(as_trials(table).times, [0.5 * np.arange(5)])
    assert as_trials(pd.DataFrame(COUNTS)).times is None


def test_dates_are_seconds_since_the_first_row():
    # 1 ns after 2023 does not fit a float32, nor a float64 of nanoseconds since 1970 as seconds.
    stamps = np.datetime64("2023-01-01", "ns") + np.array([0, 1, 2_000_000_000, 86_400_000_000_000, 3])
    expected = [[0.0, 1e-9, 2.0, 86_400.0, 3e-9]]
    np.testing.assert_allclose(as_trials(pd.DataFrame(COUNTS, index=stamps)).times, expected, rtol=1e-12)
    zoned = pd.DatetimeIndex(stamps).tz_localize("Asia/Tokyo")
    np.testing.assert_allclose(as_trials(pd.DataFrame(COUNTS, index=zoned)).times, expected, rtol=1e-12)
    y = xr.DataArray(COUNTS, dims=("time", "unit"), coords={"time": stamps - stamps[0]})
    np.testing.assert_allclose(as_trials(y).times, expected, rtol=1e-12)


# --- refusals ---

NAN_TIME = pd.DataFrame(COUNTS, index=[0.0, 1.0, np.nan, 3.0, 4.0])
GOOD = np.zeros((3, 2))
REFUSED = {
    "none": (None, "y is of type NoneType"),
    "string": ("counts.csv", "y is of type str"),
    "dict": ({"a": GOOD}, "y is of type dict"),
    "generator": ((row for row in GOOD), "y is of type generator"),
    "scalar": (3.0, r"y has shape \(\)"),
    "one unit": (np.zeros(5), r"y has shape \(5,\); allowed: .*; write \[:, None\] for one unit"),
    "numbers": ([0.0, 1.0], r"y has shape \(2,\)"),
    "four dims": (np.zeros((1, 2, 3, 4)), r"y has shape \(1, 2, 3, 4\)"),
    "no rows": (np.zeros((0, 3)), r"y has shape \(0, 3\)"),
    "no units": (np.zeros((3, 0)), r"y has shape \(3, 0\)"),
    "empty lists": ([[], []], r"y has shape \(2, 0\)"),
    "no trials": ([], "y holds no trials"),
    "no trials in a batch": (np.zeros((0, 3, 2)), "y holds no trials"),
    "empty batch": (np.zeros((2, 0, 3)), r"y\[0\] has shape \(0, 3\)"),
    "empty trial": ([GOOD, np.zeros((0, 2))], r"y\[1\] has shape \(0, 2\)"),
    "1-D trial": ([GOOD, np.zeros(3)], r"y\[1\] has shape \(3,\); allowed: \(time, unit\)"),
    "3-D trial": ([GOOD, np.zeros((1, 3, 2))], r"y\[1\] has shape \(1, 3, 2\)"),
    "None among trials": ([GOOD, None], r"y\[1\] is of type NoneType"),
    "other units": ([GOOD, np.zeros((3, 4))], r"y\[1\] has 4 units but trial 0 has 2"),
    "ragged rows": ([[1, 2], [3]], "y has rows of different lengths"),
    "inf": (np.array([[0, 1], [np.inf, 2]]), r"y\[1, 0\] is inf; allowed: finite numbers, NaN"),
    "-inf in a batch": (np.array([[[0.0]], [[-np.inf]]]), r"y\[1\]\[0, 0\] is -inf"),
    "inf in a list": ([GOOD, np.array([[0, 0], [0, np.inf]])], r"y\[1\]\[1, 1\] is inf"),
    "too large": (np.array([[np.longdouble("1e400")]]), r"y\[0, 0\] is inf"),
    "complex": (GOOD + 0j, "y holds complex numbers"),
    "strings": (np.array([["1", "2"]]), "y holds strings"),
    "list of strings": ([["1", "2"]], "y holds strings"),
    "bytes": (np.array([[b"1"]]), "y holds bytes"),
    "dates": (np.array([["2020-01-01"]], "datetime64[D]"), "y holds dates"),
    "time differences": (np.array([[1]], "timedelta64[s]"), "y holds time differences"),
    "None inside": ([[1.0, None]], r"y\[0, 1\] is None"),
    "complex inside": (np.array([[1.0, 1j]], object), r"y\[0, 1\] is 1j"),
    "series": (pd.Series([1.0]), "y is a Series, which has no unit axis"),
    "dataset": (xr.Dataset({"counts": ("time", [1])}), "y is an xarray.Dataset"),
    "dims": (xr.DataArray(GOOD, dims=("time", "neuron")), r"y has dims \('time', 'neuron'\)"),
    "one dim": (xr.DataArray([1.0], dims="time"), r"y has dims \('time',\)"),
    "levels": (
        pd.DataFrame(GOOD, index=pd.MultiIndex.from_tuples([(0, 0), (0, 1), (1, 0)])),
        "several levels",
    ),
    "text column": (pd.DataFrame({"a": [1.0], "b": ["x"]}), r"y\['b'\]\[0\] is 'x'"),
    "date column": (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), r"y\['a'\] holds dates"),
    "inf in pandas": (pd.DataFrame({"a": [1.0, np.inf]}), r"y\[1, 0\] is inf"),
    "Tsd": (SimpleNamespace(t=np.arange(3), d=np.arange(3)), "has no unit axis"),
    "NaN time": (NAN_TIME, "time is nan at row 2"),
    "unit ids": (
        [xr.DataArray(GOOD, dims=("time", "unit"), coords={"unit": ids}) for ids in (["a", "b"], ["b", "a"])],
        r"y\[1\] has other unit ids",
    ),
    "kinds": ([GOOD, pd.DataFrame(GOOD)], r"y\[1\] is of another kind"),
    "bins": (
        [xr.DataArray(GOOD, dims=("time", "unit"), attrs={"bin_s": b}) for b in (0.1, 0.2)],
        r"y\[1\] has bin_s = 0.2 but trial 0 has 0.1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_and_where(case):
    given, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        as_trials(given)


def test_refusals_use_the_name_given():
    with pytest.raises(ValueError, match=r"^held_out\[1\] has shape \(3,\)"):
        as_trials([GOOD, np.zeros(3)], name="held_out")


# --- the width of a bin ---


def test_bin_width_from_the_data_or_the_user():
    labelled = xr.DataArray(COUNTS, dims=("time", "unit"), attrs={"bin_s": 0.02})
    assert bin_width(as_trials(labelled)) == 0.02
    assert bin_width(as_trials(labelled), 0.02) == 0.02
    assert bin_width(as_trials(COUNTS), 0.5) == 0.5
    frame = TsdFrame(100.05 + 0.1 * np.arange(5), COUNTS, list("abc"))
    assert bin_width(as_trials(frame)) == 0.1


def test_bin_width_refuses_contradictions_and_gaps():
    labelled = xr.DataArray(COUNTS, dims=("time", "unit"), attrs={"bin_s": 0.02})
    with pytest.raises(ValueError, match="bin_s is 0.05 but y was binned at 0.02"):
        bin_width(as_trials(labelled), 0.05)
    with pytest.raises(ValueError, match="bin_s is missing"):
        bin_width(as_trials(COUNTS))
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="bin_s is"):
            bin_width(as_trials(COUNTS), bad)
    # pynapple writes the rows of two epochs one after the other.
    jump = TsdFrame([0.05, 0.15, 0.25, 20.05, 20.15], COUNTS, list("abc"))
    with pytest.raises(ValueError, match=r"y \(trial 0\) steps from 0.25 to 20.05 s at row 3"):
        bin_width(as_trials(jump))
    with pytest.raises(ValueError, match="steps from 0 to 1 s"):
        bin_width(as_trials(pd.DataFrame(COUNTS, index=np.arange(5.0))), 0.02)
    repeated = TsdFrame([0.05, 0.15, 0.15, 0.25, 0.35], COUNTS, list("abc"))
    with pytest.raises(ValueError, match="at row 2"):
        bin_width(as_trials(repeated))


# --- the way back ---


@pytest.mark.parametrize("form", ["int64", "list", "xarray", "xarray, unit first", "pandas"])
def test_back_in_the_form_given(form):
    trials = as_trials(FORMS[form](COUNTS))
    back = restore(trials.values, trials)
    expected = FORMS[form](COUNTS)
    if form == "pandas":
        pd.testing.assert_frame_equal(back, expected.astype(float))
    elif form.startswith("xarray"):
        xr.testing.assert_identical(back, expected.transpose("time", "unit"))
    else:
        assert isinstance(back, np.ndarray)
        np.testing.assert_array_equal(back, COUNTS)
    assert not np.shares_memory(np.asarray(back), trials.values)


def test_back_to_trials():
    y = [np.arange(6.0).reshape(3, 2), np.arange(8.0).reshape(4, 2)]
    trials = as_trials(y)
    back = restore(trials.values, trials)
    for one, other in zip(back, y, strict=True):
        np.testing.assert_array_equal(one, other)
    batch = as_trials(np.arange(12.0).reshape(2, 3, 2))
    assert restore(batch.values[:, :1], batch).shape == (2, 3, 1)


def test_labels_of_columns_go_back_for_units_only():
    table = pd.DataFrame(COUNTS, columns=list("abc"), index=0.1 * np.arange(5))
    trials = as_trials([table, table])
    back = restore(trials.values, trials)
    assert [list(frame.columns) for frame in back] == [list("abc")] * 2
    np.testing.assert_array_equal(back[0].index, table.index)
    latents = restore(trials.values[:, :2], trials, dim="latent")
    assert list(latents[0].columns) == [0, 1]


def test_pynapple_goes_back_to_pynapple(monkeypatch):
    made = SimpleNamespace(TsdFrame=lambda t, d, columns: TsdFrame(t, d, columns))
    monkeypatch.setitem(sys.modules, "pynapple", made)
    trials = as_trials(TsdFrame(np.arange(5.0), COUNTS, list("abc")))
    back = restore(2 * trials.values, trials)
    assert isinstance(back, TsdFrame)
    np.testing.assert_array_equal(back.d, 2 * COUNTS)
    assert list(back.columns) == list("abc")


def test_restore_refuses_other_rows():
    trials = as_trials(COUNTS)
    for bad in (np.zeros((4, 3)), np.zeros(5)):
        with pytest.raises(ValueError, match=r"values has shape .*; allowed: \(5, column\)"):
            restore(bad, trials)


def test_split_inverts_the_concatenation():
    y = [np.zeros((2, 1)), np.ones((3, 1))]
    trials = as_trials(y)
    assert [part.tolist() for part in split(trials.values, trials.lengths)] == [part.tolist() for part in y]


def test_labelled_packages_are_not_imported_for_arrays():
    code = "import sys, numpy, hidamari.arrays as a; a.as_trials(numpy.zeros((3, 2)))\n"
    code += "assert not {'xarray', 'pandas', 'pynapple'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_doctests():
    result = doctest.testmod(arrays)
    assert result.attempted > 0
    assert result.failed == 0
