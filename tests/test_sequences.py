"""Weather and rotating digits are what they say: sizes, gaps, extremes, angles, and refusals."""

from importlib.resources import files

import numpy as np
import pytest
from scipy.ndimage import rotate
from sklearn.datasets import load_digits

from hidamari.datasets import load_weather, simulate_rotating_digits


def test_weather_is_what_its_source_says():
    weather = load_weather()
    assert dict(weather.sizes) == {"airport": 3, "time": 52 * 168, "variable": 6}
    assert weather.dtype == np.float64
    missing = np.isnan(weather).sum("time")
    np.testing.assert_array_equal(missing.sel(variable="pressure"), [969, 862, 994])
    np.testing.assert_array_equal(missing.sel(variable="temperature"), [35, 31, 31])
    np.testing.assert_array_equal(missing.sel(variable="wind to east"), [291, 82, 184])
    lowest, highest = weather.min(("airport", "time")).values, weather.max(("airport", "time")).values
    np.testing.assert_allclose(lowest, [10.94, -9.94, 12.74, 983.8, -34.52, -31.36])
    np.testing.assert_allclose(highest, [100.04, 78.08, 100.0, 1042.1, 42.58, 40.01])
    # Wind from 270 degrees with 10.36 mph, in the second hour at Newark: all of it to the east.
    np.testing.assert_allclose(weather[0, 1], [39.02, 26.06, 59.37, 1012.0, 10.36, 0.0])
    assert weather.units.values.tolist() == ["°F", "°F", "%", "mbar", "mph", "mph"]
    assert str(weather.date.values[-1]) == "2013-12-30T23:00:00"
    note = (files("hidamari.datasets") / "data" / "weather.txt").read_text(encoding="utf-8")
    assert weather.attrs["licence"] == "CC0-1.0" and "CC0 1.0" in note and "Wickham (2021)" in note


def test_weather_obeys_physics():
    weather = load_weather()
    # Summers are warm, dew points lie below temperatures, and stations 20 km apart see the same air.
    july = (weather.date >= np.datetime64("2013-07-01")) & (weather.date < np.datetime64("2013-08-01"))
    temperature, dew = weather.sel(variable="temperature"), weather.sel(variable="dew point")
    assert float(temperature[:, july.values].mean()) - float(temperature[:, :700].mean()) > 40
    assert float((dew <= temperature + 0.01).where(dew.notnull()).mean()) > 0.999
    pressure = weather.sel(variable="pressure").values
    both = np.isfinite(pressure[:2]).all(axis=0)
    assert np.corrcoef(pressure[:2, both])[0, 1] > 0.99


def test_every_call_gives_its_own_copy():
    load_weather()[:] = 0.0
    assert float(load_weather().max()) > 1000


def test_digits_turn_as_they_say():
    digits = simulate_rotating_digits(n_sequences=3, n_frames=6, period=7.5, random_state=1)
    images = load_digits().images / 16.0
    assert digits.digit.values.tolist() == [3, 3, 3]
    np.testing.assert_allclose(np.diff(digits.angle, axis=1), 48.0)
    for sequence in digits:
        turned = [rotate(image, float(sequence.angle[4]), reshape=False, order=1) for image in images]
        distance = np.abs(np.array(turned) - sequence[4].values).max(axis=(1, 2))
        assert np.sum(distance == 0.0) == 1
        assert load_digits().target[distance.argmin()] == 3
    assert float(digits.min()) >= 0.0 and float(digits.max()) <= 1.0


def test_digits_repeat_after_a_whole_period_only():
    whole = simulate_rotating_digits(n_sequences=1, n_frames=9, period=4)[0]
    np.testing.assert_allclose(whole[8], whole[0], atol=1e-12)
    other = simulate_rotating_digits(n_sequences=1, n_frames=9, period=3.7)[0]
    assert np.abs(other[1:] - other[0]).max(("row", "column")).min() > 0.01


def test_the_seed_decides():
    one, same, other = (simulate_rotating_digits(None, 4, 3, random_state=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    assert (one.values != other.values).any() and (one.angle.values != other.angle.values).all()
    assert len(set(simulate_rotating_digits(None, 100, 1).digit.values)) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"digit": 10}, "digit is 10"),
        ({"n_sequences": 0}, "n_sequences is 0"),
        ({"n_sequences": 184}, "n_sequences is 184; there are 183 images of digit 3"),
        ({"n_frames": 2.0}, "n_frames is 2.0"),
        ({"period": 0}, "period is 0"),
        ({"period": "day"}, "period is 'day'"),
    ],
)
def test_refusals_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_rotating_digits(**arguments)
