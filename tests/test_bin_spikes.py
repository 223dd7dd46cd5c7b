"""Counting spikes: edges, windows, epochs, unobserved bins, other packages' containers, warnings."""

from collections import UserDict
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from hidamari.datasets import bin_spikes, spikes


class Quantity(float):
    """A neo-like scalar: its magnitude follows rescale."""

    def rescale(self, unit):
        assert unit == "s"
        return SimpleNamespace(magnitude=float(self) / 1e3, __float__=None)


class Train:
    """A neo-like SpikeTrain in milliseconds."""

    def __init__(self, times, t_start, t_stop):
        self.times, self.t_start, self.t_stop = np.asarray(times, float), Quantity(t_start), Quantity(t_stop)

    def rescale(self, unit):
        assert unit == "s"
        return SimpleNamespace(magnitude=self.times / 1e3)


class TsGroup(UserDict):
    """A pynapple-like group: a mapping from ids to objects with times `.t`."""

    time_support = SimpleNamespace(start=np.array([0.1]), end=np.array([0.7]))


def intervals(*pairs):
    """A pynapple-like IntervalSet."""
    return SimpleNamespace(start=np.array([a for a, _ in pairs]), end=np.array([b for _, b in pairs]))


def test_spikes_on_decimal_edges():
    counts = bin_spikes([[0.0, 0.1, 0.2, 0.3, 0.7]], 0.1, 0.0, 10.0)
    assert counts.values[:8, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 1]
    assert counts.shape == (100, 1)


@pytest.mark.parametrize("bin_s", [0.001, 0.005, 0.02, 0.025, 0.1, 1 / 3])
@pytest.mark.parametrize("start", [0.0, 72.5294, -3.7, 1234.1])
def test_a_spike_at_each_edge_opens_its_bin(bin_s, start):
    edges = [round(start + k * bin_s, 12) for k in range(500)]
    counts = bin_spikes([edges], bin_s, start, start + 500 * bin_s)
    assert counts.values.tolist() == [[1]] * 500


def test_bins_are_half_open_and_the_edge_moves_no_other_spike():
    counts = bin_spikes([[0.1 - 1e-7, 0.1, 0.2 - 1e-7]], 0.1, 0.0, 0.2)
    assert counts.values[:, 0].tolist() == [1, 2]


def test_counts_equal_an_integer_histogram(rng):
    # Times in whole microseconds have an exact answer in integers.
    ticks = [np.sort(rng.integers(0, 10_000_000, n)) for n in (0, 1, 500, 2000)]
    counts = bin_spikes([t / 1e6 for t in ticks], 0.02, 0.0, 10.0)
    for unit, t in enumerate(ticks):
        np.testing.assert_array_equal(counts.values[:, unit], np.bincount(t // 20_000, minlength=500))


def test_the_labels():
    counts = bin_spikes([[0.05], []], 0.1, t_start=2.0 - 2.0, t_stop=0.3, units=["a", "b"])
    assert isinstance(counts, xr.DataArray)
    assert counts.dims == ("time", "unit")
    assert counts.dtype == np.int64
    assert counts.attrs["bin_s"] == 0.1
    np.testing.assert_allclose(counts.time, [0.05, 0.15, 0.25], rtol=1e-14)
    assert counts.time.attrs["units"] == "s"
    assert counts.unit.values.tolist() == ["a", "b"]
    assert counts.sel(unit="b").values.tolist() == [0, 0, 0]


def test_the_order_of_spikes_does_not_matter_and_the_input_is_kept():
    times = np.array([0.31, 0.02, 0.25])
    counts = bin_spikes([times], 0.1, 0.0, 0.4)
    assert counts.values[:, 0].tolist() == [1, 0, 1, 1]
    assert times.tolist() == [0.31, 0.02, 0.25]


def test_only_whole_bins():
    # pynapple makes a 101st bin of 50 ms here.
    counts = bin_spikes([[9.99, 10.01]], 0.1, 0.0, 10.05)
    assert counts.sizes["time"] == 100
    assert int(counts.sum()) == 1


@pytest.mark.parametrize("make", [list, dict, TsGroup])
def test_containers(make):
    trains = {4: np.array([0.0, 0.1, 0.2, 0.3, 0.7]), 7: np.array([]), 2: np.array([0.55])}
    if make is TsGroup:
        given = TsGroup({key: SimpleNamespace(t=t) for key, t in trains.items()})
        counts = bin_spikes(given, 0.1, 0.0, 1.0)
    elif make is dict:
        counts = bin_spikes(trains, 0.1, 0.0, 1.0)
    else:
        counts = bin_spikes(list(trains.values()), 0.1, 0.0, 1.0, units=list(trains))
    assert counts.unit.values.tolist() == [4, 7, 2]
    assert counts.sum("time").values.tolist() == [5, 0, 1]


def test_units_of_a_mapping_select_in_order():
    trains = {"a": [0.1], "b": [0.2, 0.3], "c": []}
    counts = bin_spikes(trains, 0.5, 0.0, 1.0, units=["c", "b"])
    assert counts.unit.values.tolist() == ["c", "b"]
    assert counts.sum("time").values.tolist() == [0, 2]


def test_neo_trains_are_rescaled_and_bring_their_window():
    trains = [Train([1.0, 100.0, 200.0, 300.0, 700.0], 0, 1000), Train([], 0, 1000)]
    counts = bin_spikes(trains, 0.1)
    assert counts.values[:, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 1, 0, 0]
    with pytest.raises(ValueError, match="t_start is missing"):
        bin_spikes([Train([1.0], 0, 1000), Train([2.0], 0, 900)], 0.1)


def test_the_support_of_a_group_is_not_taken_for_the_window():
    # It may reach only from the first to the last spike.
    with pytest.raises(ValueError, match="t_start is missing"):
        bin_spikes(TsGroup({0: SimpleNamespace(t=np.array([0.1, 0.7]))}), 0.1)


def test_epochs_are_binned_by_themselves():
    train = [0.0, 0.95, 1.0, 2.04, 2.31]
    first, second = bin_spikes([train], 0.1, epochs=[(0.0, 1.05), (2.03, 2.36)])
    assert first.shape == (10, 1)
    assert first.values[:, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    np.testing.assert_allclose(second.time, [2.08, 2.18, 2.28], rtol=1e-14)
    assert second.values[:, 0].tolist() == [1, 0, 1]


def test_the_form_of_epochs_decides_the_form_of_the_answer():
    for epochs in ((0.0, 1.0), [0.0, 1.0], np.array([0.0, 1.0])):
        assert isinstance(bin_spikes([[0.1]], 0.1, epochs=epochs), xr.DataArray)
    for epochs in ([(0.0, 1.0)], np.array([[0.0, 1.0]]), intervals((0.0, 1.0))):
        assert [block.shape for block in bin_spikes([[0.1]], 0.1, epochs=epochs)] == [(10, 1)]


def test_rounding_of_the_window_moves_no_spike():
    # 3 * 0.1 is a little more than 0.3, and 0.3 + 3 * 0.1 a little more than 0.6.
    counts = bin_spikes([[0.3, 0.4, 0.59]], 0.1, 3 * 0.1, 3 * 0.1 + 3 * 0.1)
    assert counts.values[:, 0].tolist() == [1, 1, 1]
    with pytest.warns(UserWarning, match="1 of 1 spikes"):
        assert int(bin_spikes([[0.6]], 0.1, 3 * 0.1, 3 * 0.1 + 3 * 0.1).sum()) == 0


def test_unobserved_bins_are_nan():
    observed = {1: [(0.65, 0.8), (0.0, 0.3), (0.35, 0.65)]}
    counts = bin_spikes([[0.05, 0.95], [0.05, 0.25, 0.95]], 0.1, 0.0, 1.0, observed=observed)
    assert counts.dtype == np.float64
    assert counts.values[:, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    # 0.3 to 0.4 is half observed; the intervals that touch at 0.65 are one.
    np.testing.assert_array_equal(counts.values[:, 1], [1, 0, 1, np.nan, 0, 0, 0, 0, np.nan, np.nan])


@pytest.mark.parametrize(
    "observed",
    [[(0.0, 0.5)], intervals((0.0, 0.5)), [[(0.0, 0.5)], [(0.0, 0.5)]], {0: (0, 0.5), 1: (0, 0.5)}],
)
def test_forms_of_observed(observed):
    counts = bin_spikes([[0.1], [0.2]], 0.1, 0.0, 1.0, observed=observed)
    assert np.isnan(counts.values).tolist() == [[False] * 2] * 5 + [[True] * 2] * 5


def test_observed_intervals_give_the_window():
    counts = bin_spikes([[1.05], []], 0.1, observed=[[(1.0, 2.0)], [(1.5, 3.0)]])
    assert counts.sizes["time"] == 20
    assert counts.values[0, 0] == 1
    assert np.isnan(counts.values[0, 1])


def test_observed_everywhere_stays_integer():
    assert bin_spikes([[0.1]], 0.1, observed=[(0.0, 1.0)]).dtype == np.int64


def test_observed_in_epochs():
    _, second = bin_spikes([[0.1]], 0.1, epochs=[(0, 0.5), (1, 1.5)], observed=[(0, 1.2)])
    assert np.isnan(second.values[:, 0]).tolist() == [False, False, True, True, True]


def test_warns_of_spikes_outside_with_their_number():
    with pytest.warns(UserWarning, match="3 of 5 spikes lie outside 1 to 2 s") as caught:
        counts = bin_spikes([[0.5, 1.0, 1.5], [2.0, 2.5]], 0.1, 1.0, 2.0)
    assert int(counts.sum()) == 2
    assert caught[0].filename == __file__
    bin_spikes([[0.5, 1.0, 1.5], [2.0, 2.5]], 0.1, epochs=(1.0, 2.0))


def test_warns_of_spikes_in_milliseconds(rng):
    trains = [np.sort(rng.uniform(0, 80_000, 400)) for _ in range(5)]
    with pytest.warns(UserWarning, match="milliseconds"):
        bin_spikes(trains, 0.1, 0.0, 80.0)


def test_warns_when_the_window_is_in_milliseconds_too(rng):
    trains = [np.sort(rng.uniform(0, 80_000, 400)) for _ in range(5)]
    with pytest.warns(UserWarning, match="median rate of the units is 0.005 Hz"):
        bin_spikes(trains, 20.0, 0.0, 80_000.0)


def test_empty_and_slow_units_among_others_do_not_warn(rng):
    trains = [[], [3.0], *(rng.uniform(0, 1000, 900) for _ in range(3))]
    assert bin_spikes(trains, 1.0, 0.0, 1000.0).sizes["unit"] == 5
    assert int(bin_spikes([[], []], 1.0, 0.0, 1000.0).sum()) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spikes": np.array([0.1, 0.2])}, "spikes is a ndarray"),
        ({"spikes": [0.1, 0.2]}, r"spikes of unit 0 have shape \(\)"),
        ({"spikes": None}, "spikes is a NoneType"),
        ({"spikes": []}, "no units"),
        ({"spikes": {}}, "no units"),
        ({"spikes": [[0.1], [np.nan]]}, "spikes of unit 1 hold nan at index 0"),
        ({"spikes": [[0.1, np.inf]]}, "spikes of unit 0 hold inf at index 1"),
        ({"spikes": [["a"]]}, "spikes of unit 0 are of type <U1"),
        ({"spikes": [np.array([1], "datetime64[s]")]}, "of type datetime64"),
        ({"spikes": [np.array([1j])]}, "of type complex128"),
        ({"spikes": [[[0.1]]]}, r"shape \(1, 1\)"),
        ({"bin_s": 0.0}, "bin_s is 0.0"),
        ({"bin_s": -0.1}, "bin_s is -0.1"),
        ({"bin_s": np.nan}, "bin_s is nan"),
        ({"bin_s": "fast"}, "bin_s is 'fast'"),
        ({"bin_s": 2.0}, "shorter than one bin"),
        ({"t_stop": None}, "t_stop is missing"),
        ({"t_start": None}, "t_start is missing"),
        ({"t_stop": 0.0}, r"\(t_start, t_stop\) has interval 0 from 0 to 0"),
        ({"t_stop": np.inf}, "from 0 to inf"),
        ({"t_stop": "end"}, "allowed: pairs of start and stop"),
        ({"epochs": (0.0, 1.0)}, "both given"),
        ({"epochs": [(0, 1), (2, 1)], "t_start": None, "t_stop": None}, "epochs has interval 1 from 2 to 1"),
        ({"epochs": [1.0], "t_start": None, "t_stop": None}, r"epochs has shape \(1, 1\)"),
        ({"epochs": [(0, 1), (2, 2.01)], "t_start": None, "t_stop": None}, "window 2 to 2.01 s is shorter"),
        ({"units": ["a", "b"]}, "units has 2 ids but spikes has 1 units"),
        ({"spikes": [[], []], "units": ["a", "a"]}, "'a' twice"),
        ({"spikes": [[], []], "units": [1, "a"]}, "all numbers or all strings"),
        ({"spikes": [[], []], "units": [(1, 2), (3, 4)]}, "all numbers or all strings"),
        ({"spikes": {"a": []}, "units": ["b"]}, "units has 'b'"),
        ({"observed": {5: [(0, 1)]}}, "observed names unit 5"),
        ({"observed": [[(0, 1)], [(0, 1)]]}, "observed has 2 entries for 1 units"),
        ({"observed": [(1, 0)]}, "observed of unit 0 has interval 0 from 1 to 0"),
    ],
)
def test_refusals_name_the_argument(arguments, message):
    given = {"spikes": [[0.1]], "bin_s": 0.1, "t_start": 0.0, "t_stop": 1.0} | arguments
    with pytest.raises(ValueError, match=message):
        bin_spikes(**given)


def test_masked_spikes_are_no_spikes():
    times = np.ma.array([0.05, 999.0, 0.15], mask=[False, True, False])
    assert bin_spikes([times], 0.1, 0.0, 0.2).values[:, 0].tolist() == [1, 1]


@pytest.mark.parametrize("dtype", ["float32", ">f8", "int16"])
def test_types_of_times(dtype):
    times = np.array([0, 1, 1, 3], dtype)
    assert bin_spikes([times], 1.0, 0.0, 4.0).values[:, 0].tolist() == [1, 2, 0, 1]


def test_netcdf_round_trip(tmp_path):
    counts = bin_spikes({"a": [0.1], "b": []}, 0.1, 0.0, 1.0, observed={"b": [(0.0, 0.5)]})
    counts.to_netcdf(tmp_path / "counts.nc", engine="h5netcdf")
    with xr.open_dataarray(tmp_path / "counts.nc", engine="h5netcdf") as stored:
        xr.testing.assert_identical(stored.load(), counts)


def test_doctests():
    import doctest

    result = doctest.testmod(spikes)
    assert result.attempted > 0
    assert result.failed == 0
