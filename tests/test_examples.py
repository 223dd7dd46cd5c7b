"""What newcomers run first does run, without a warning, and shows what it promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def run(path, folder, *arguments):
    """Run a script in a folder as a user does, with warnings as errors; return what it prints."""
    command = [sys.executable, "-W", "error", str(path), *arguments]
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def readme(tmp_path_factory):
    """Return the folder in which the README was run from top to bottom, and the file of its code."""
    folder = tmp_path_factory.mktemp("readme")
    checks = """
assert np.isfinite(predicted).all() and (predicted > 0).all()
truth = counts.sel(unit=27) / 0.1
assert np.corrcoef(predicted, truth)[0, 1] > 0.2, np.corrcoef(predicted, truth)[0, 1]
assert per_trial.n_bins.values.tolist() == [100, 150, 100]
assert np.array_equal(again.smooth().rate, model.smooth().rate)
assert counts_ab.shape == (50, 2) and int(counts_ab.sum()) == 6
assert (ahead.lower < ahead["mean"]).all() and (ahead["mean"] < ahead.upper).all()
later = co2.sel(time=slice(1995, None)).dropna("time")
assert np.abs(np.interp(later.time, ahead.time, ahead["mean"]) - later).max() < 2.0
"""
    (folder / "readme.py").write_text("\n".join([*BLOCKS, checks]), encoding="utf-8")
    (folder / "printed.txt").write_text(run(folder / "readme.py", folder), encoding="utf-8")
    return folder


def test_readme_runs_from_top_to_bottom(readme):
    printed = (readme / "printed.txt").read_text(encoding="utf-8")
    assert "latent_mean" in printed and "rate" in printed
    assert {file.name for file in readme.iterdir()} >= {
        "latents.png",
        "rates.png",
        "rat.npz",
        "rat.nc",
        "co2.png",
        "parts.png",
    }


def test_results_of_the_readme_come_back_from_disk(readme):
    with xr.open_dataset(readme / "rat.nc", engine="h5netcdf") as posterior:
        assert posterior.rate.attrs["units"] == "spikes/s"
        assert posterior.attrs["bin_s"] == 0.1
        assert float(posterior.time[0]) == pytest.approx(250.05)
        assert (posterior.latent_var > 0).all() and (posterior.latent_var < 1.001).all()


def test_readme_and_quickstart_are_the_same():
    """So that the quickstart need not run again."""
    source = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    assert source.split('"""', 2)[2].strip() == BLOCKS[0].strip()


def test_files_that_the_readme_shows_exist():
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 80


def test_hippocampus(tmp_path):
    import matplotlib.pyplot as plt

    printed = run(ROOT / "examples" / "hippocampus.py", tmp_path)
    scores = {
        name.strip(): float(score) for name, score in re.findall(r"^  (.+?) {2,}(-?\d\.\d+)$", printed, re.M)
    }
    assert scores["mean rate"] == 0.0
    assert scores["CVHM"] > 0.55
    assert scores["CVHM"] > scores["smooth, PCA, GLM"] > 0.4
    with xr.open_dataset(tmp_path / "results" / "hippocampus.nc", engine="h5netcdf") as posterior:
        assert dict(posterior.rate.sizes) == {"time": 8105, "unit": 15}
        assert np.isfinite(posterior.latent_mean).all()
    picture = plt.imread(tmp_path / "results" / "hippocampus.png")
    assert picture.shape[1] > 1200
    assert len(np.unique((picture[..., :3] * 255).astype(np.uint8).reshape(-1, 3), axis=0)) > 500


def scores(printed):
    """Return the numbers of a printed table by the name of their row."""
    rows = re.findall(r"^  (.+?) {2,}(-?\d.*)$", printed, re.M)
    return {name: [float(number) for number in numbers.split()] for name, numbers in rows}


def shows(picture, width):
    """Tell whether a picture is as wide as it should be and holds more than an empty frame."""
    import matplotlib.pyplot as plt

    pixels = plt.imread(picture)
    colours = np.unique((pixels[..., :3] * 255).astype(np.uint8).reshape(-1, 3), axis=0)
    return pixels.shape[1] >= width and len(colours) > 100


def test_spike_history(tmp_path):
    printed = run(ROOT / "examples" / "spike_history.py", tmp_path)
    bits = {name: numbers[0] for name, numbers in scores(printed).items() if len(numbers) == 2}
    assert bits["constant"] == 0.0 and bits["rate by place"] > 0.5 and bits["own past"] > 0.5
    assert bits["place, past of all"] >= bits["place, own past"] > bits["rate by place"] + 0.1
    away = [int(number) for number in re.findall(r": (\d+) ran away", printed)]
    assert len(away) == 2 and max(away) < 20
    assert shows(tmp_path / "results" / "spike_history.png", 1100)


def test_digits(tmp_path):
    printed = run(ROOT / "examples" / "digits.py", tmp_path, "--quick")
    found = scores(printed)
    assert found["MGPVAE"][0] < found["straight lines"][0] < found["mean of frames seen"][0]
    assert float(re.search(r"a turn takes (\S+) frames", printed)[1]) == pytest.approx(23.7, abs=0.3)
    assert 75 < float(re.search(r"(\S+)% of the missing pixels", printed)[1]) < 98
    assert shows(tmp_path / "results" / "digits.png", 1300)


def test_weather(tmp_path):
    printed = run(ROOT / "examples" / "weather.py", tmp_path, "--quick")
    found = scores(printed)
    assert found["MGPVAE"][0] < 0.6 * found["mean of the week"][0]  # learnt from four weeks
    assert 70 < float(re.search(r"(\S+)% of the missing values", printed)[1]) < 97
    with xr.open_dataset(tmp_path / "results" / "weather.nc", engine="h5netcdf") as imputed:
        assert dict(imputed["mean"].sizes) == {"trial": 2, "time": 168, "unit": 6}
        assert np.isfinite(imputed["mean"]).all()
    assert shows(tmp_path / "results" / "weather.png", 1300)
