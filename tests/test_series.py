"""The classic series are what their sources say: lengths, gaps, ends, sums and well-known features."""

from importlib.resources import files

import numpy as np
import pytest

from hidamari.datasets import (
    load_airline,
    load_co2,
    load_coal_disasters,
    load_nile,
    load_sunspots,
    load_temperatures,
)

LOADERS = [load_airline, load_co2, load_coal_disasters, load_nile, load_sunspots, load_temperatures]


@pytest.mark.parametrize("load", LOADERS)
def test_every_series_says_where_it_comes_from(load):
    series = load()
    assert series.attrs["licence"] and series.attrs["units"] and series.attrs["long_name"]
    note = (files("hidamari.datasets") / "data" / "series.txt").read_text(encoding="utf-8")
    surname = series.attrs["citation"].split()[0].strip(",")
    assert surname in note
    assert series.dtype == np.float64
    if "time" in series.dims:
        assert series.time.attrs["units"] == ("day" if load is load_temperatures else "year")
        assert (np.diff(series.time) > 0).all()


@pytest.mark.parametrize("load", LOADERS)
def test_every_call_gives_its_own_copy(load):
    first = load()
    first[:] = 0.0
    assert float(np.nansum(load())) > 0


@pytest.mark.parametrize(
    ("load", "n", "total", "first", "last"),
    [
        (load_nile, 100, 91935.0, (1871, 1120.0), (1970, 740.0)),
        (load_sunspots, 309, 15373.4, (1700, 5.0), (2008, 2.9)),
        (load_airline, 144, 40363.0, (1949, 112.0), (1960 + 11 / 12, 432.0)),
    ],
)
def test_regular_series(load, n, total, first, last):
    series = load()
    assert series.sizes == {"time": n}
    assert float(series.sum()) == pytest.approx(total, rel=1e-12)
    for (year, value), row in ((first, series[0]), (last, series[-1])):
        assert float(row.time) == pytest.approx(year, rel=1e-14)
        assert float(row) == value
    np.testing.assert_allclose(np.diff(series.time), (last[0] - first[0]) / (n - 1), rtol=1e-9)


def test_temperatures_have_days_and_an_hour_without_values():
    series = load_temperatures()
    assert float(series.time[-1]) == 65.0 and str(series.date.values[-1]) == "2017-07-05T00:00:00"
    missing = np.flatnonzero(np.isnan(series))
    np.testing.assert_array_equal(missing, 11689 + np.arange(12))
    assert str(series.date.values[missing[0]]) == "2017-06-10T14:05:00"
    assert (float(series[0]), float(series[-1]), float(series.min())) == (27.8, 41.4, -8.4)
    daily = np.nanmean(series.values[:-1].reshape(65, 288), axis=0)
    assert (daily.argmax() // 12, daily.argmin() // 12) == (21, 12)  # warmest at 14 h of the place, UTC - 7
    # All are tenths of a degree: none was filled in.
    np.testing.assert_allclose(series * 10, np.round(series * 10), atol=1e-9)


def test_co2_keeps_its_missing_weeks():
    co2 = load_co2()
    missing = np.isnan(co2.values)
    assert (co2.sizes["time"], missing.sum()) == (2284, 59)
    assert (float(co2[0]), float(co2[-1])) == (316.1, 371.5)
    # The longest stretch without a value: 18 weeks of 1964.
    runs = np.diff(np.flatnonzero(np.diff(np.r_[0, missing, 0])))[::2]
    start = np.flatnonzero(np.diff(np.r_[0, missing, 0]))[::2][runs.argmax()]
    assert (runs.max(), str(co2.date.values[start])[:10]) == (18, "1964-01-25")


def test_co2_is_weekly_in_years_that_follow_the_calendar():
    co2 = load_co2()
    np.testing.assert_allclose(np.diff(co2.time), 7 / 365.25, rtol=1e-9)
    date = co2.date.values.astype("datetime64[D]")
    assert (np.diff(date) == np.timedelta64(7, "D")).all()
    year = date.astype("datetime64[Y]")
    length = (year + 1).astype("datetime64[D]") - year.astype("datetime64[D]")
    calendar = 1970 + year.astype(int) + (date - year.astype("datetime64[D]")) / length
    assert np.abs(co2.time.values - calendar).max() < 2 / 365
    # The season: highest in May, lowest around the end of September, 5 to 6 ppm apart.
    phase = np.floor(12 * (co2.time.values % 1))
    slope = np.poly1d(np.polyfit(co2.time[~co2.isnull()], co2[~co2.isnull()], 3))
    season = [np.nanmean((co2 - slope(co2.time))[phase == month]) for month in range(12)]
    assert (np.argmax(season), np.argmin(season)) in {(4, 8), (4, 9)}
    assert 5 < np.ptp(season) < 7


def test_sunspots_have_their_cycle():
    series = load_sunspots().values
    power = np.abs(np.fft.rfft(series - series.mean())) ** 2
    assert 309 / power.argmax() == pytest.approx(11.0, abs=0.3)


def test_coal_disasters_are_dates_in_the_observed_window():
    events = load_coal_disasters()
    assert events.sizes == {"event": 191}
    assert (np.diff(events) >= 0).all()
    assert events.t_start < float(events[0]) and float(events[-1]) < events.t_stop
    days = (events - 2000) * 365.25
    assert (events.t_stop - events.t_start) * 365.25 == pytest.approx(40_550, abs=0.05)  # Jarrett's
    # 15 March 1851 and 22 March 1962, and whole days between, to the four digits given.
    assert float(days[-1] - days[0]) == pytest.approx(40_549, abs=0.05)
    first = (np.datetime64("1851-03-15") - np.datetime64("2000-01-01")).astype(int)
    np.testing.assert_allclose((days - first + 0.5) % 1, 0.25, atol=0.03)
    assert (np.diff(events) == 0).sum() == 1
    # The rate fell to a third about 1890.
    assert int((events < 1890).sum()) > 2.5 * int((events >= 1890).sum()) * 39 / 72


@pytest.mark.parametrize("n_bins", [1, 111, 333, np.int64(1000)])
def test_coal_disasters_are_counted_once(n_bins):
    events, counts = load_coal_disasters(), load_coal_disasters(n_bins)
    assert counts.sizes == {"time": n_bins}
    assert float(counts.sum()) == 191
    assert counts.bin_years * n_bins == pytest.approx(events.t_stop - events.t_start, rel=1e-12)
    inside = np.abs(events.values[:, None] - counts.time.values) < counts.bin_years / 2
    np.testing.assert_array_equal(inside.sum(axis=0), counts)


@pytest.mark.parametrize("n_bins", [0, -1, 2.5, True, "ten"])
def test_refusals(n_bins):
    with pytest.raises(ValueError, match=r"n_bins is .*allowed: a whole number"):
        load_coal_disasters(n_bins)


def test_series_can_be_stored(tmp_path):
    import xarray as xr

    for load in LOADERS:
        load().to_netcdf(tmp_path / "series.nc", engine="h5netcdf")
        with xr.open_dataarray(tmp_path / "series.nc", engine="h5netcdf") as again:
            np.testing.assert_array_equal(again, load())
            assert again.attrs == load().attrs
