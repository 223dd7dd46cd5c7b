"""Examples of single series and of changes run without a warning and show what they promise."""

import re

import pytest
import xarray as xr
from test_examples import ROOT, run, scores, shows


def test_coal(tmp_path):
    printed = run(ROOT / "examples" / "coal.py", tmp_path)
    found = scores(printed)
    assert found["MarkovGP"][0] > 0.2 and found["two rates"][0] > 0.2
    fall = re.search(r"after 1900: (\S+) \(95 %: (\S+) to (\S+)\)", printed)
    middle, low, high = map(float, fall.groups())
    assert 2.0 < low < middle < high < 6.0
    assert shows(tmp_path / "results" / "coal.png", 800)


def test_nile(tmp_path):
    printed = run(ROOT / "examples" / "nile.py", tmp_path)
    # Durbin and Koopman (2012), section 2.10.3: the diffuse maximum likelihood of the local level model.
    noise, steps = re.search(r"single years (\S+), of the level's yearly steps (\S+)", printed).groups()
    assert float(noise.replace(",", "")) == pytest.approx(15_099, rel=0.005)
    assert float(steps.replace(",", "")) == pytest.approx(1_469, rel=0.005)
    assert float(re.search(r"within 3 years of 1899: probability (\S+)", printed)[1]) > 0.8
    assert re.search(r"NUTS .* 0 divergent", printed)
    assert shows(tmp_path / "results" / "nile.png", 900)


def test_co2(tmp_path):
    printed = run(ROOT / "examples" / "co2.py", tmp_path)
    found = scores(printed)
    assert found["last value"][0] > 9 and found["last year again"][0] > 9
    assert found["MarkovGP"][0] < found["last year, growing"][0] < 1.3
    assert 85 < float(re.search(r"(\S+)% of these weeks lie", printed)[1]) < 99
    assert shows(tmp_path / "results" / "co2.png", 1400)


def test_states(tmp_path):
    printed = run(ROOT / "examples" / "states.py", tmp_path)
    assert "4 changes found, 4 made" in printed
    rows = re.findall(r"^ +(\d+) +(\d+) +(\d+) to (\d+)$", printed, re.M)
    assert len(rows) == 4
    for made, found, first, last in (map(int, row) for row in rows):
        assert first <= made <= last and abs(found - made) < 20
    assert "without a change: 0 found" in printed
    share, spikes = map(int, re.findall(r"(\d+) % of the (?:time|spikes)", printed))
    assert share < 40 and spikes > 80
    assert shows(tmp_path / "results" / "states.png", 900)


def test_temperatures(tmp_path):
    printed = run(ROOT / "examples" / "temperatures.py", tmp_path)
    found = scores(printed)
    best = [min(found["last value"][k], found["same time yesterday"][k]) for k in range(3)]
    # Up to three hours ahead; beyond six, in a week of days that are alike, yesterday is hard to beat.
    assert all(error < 0.85 * other for error, other in zip(found["ARNet"][:3], best))
    assert found["ARNet"][3] < 2.0
    assert float(re.search(r"(\S+)% of the first hours", printed)[1]) > 93
    with xr.open_dataset(tmp_path / "results" / "temperatures.nc", engine="h5netcdf") as forecasts:
        assert dict(forecasts["mean"].sizes) == {"trial": 133, "time": 288}
        assert (forecasts.lower < forecasts.upper).all()
    assert shows(tmp_path / "results" / "temperatures.png", 1300)
