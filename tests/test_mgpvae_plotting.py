"""Pictures of frames: what is drawn is what was given, and what does not fit is refused by name."""

import numpy as np
import pytest
import xarray as xr

from hidamari import plotting

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def truth():
    return np.random.default_rng(0).uniform(size=(3, 12, 4, 5))


def filled(mean, dims=("trial", "time", "row", "column"), **coords):
    """A Dataset as `impute` gives it."""
    var = np.full(mean.shape, 0.04)
    return xr.Dataset(
        {"mean": (dims, mean), "var": (dims, var)}, {"time": np.arange(mean.shape[1]) * 0.5, **coords}
    )


def test_a_strip_has_a_row_of_pictures_for_each_of_its_kinds(truth):
    seen = truth.copy()
    seen[:, 1::2] = np.nan
    ax = plotting.frames(filled(truth + 0.1), seen, truth, trial=1, n_frames=12, deviation=True)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["truth", "seen", "filled in", "deviation"]
    assert len(ax.images) == 48
    low, high = truth[1].min(), truth[1].max()
    shown = 1 - np.asarray(ax.images[3].get_array())[..., 0]
    np.testing.assert_allclose(shown, (truth[1, 3] - low) / (high - low), atol=1e-12)
    assert (np.asarray(ax.images[13].get_array())[..., 0] == 0.82).all()  # not seen: the blue of nothing
    assert [label.get_text() for label in ax.get_xticklabels()][:3] == ["0", "0.5", "1"]


def test_padding_is_not_drawn_and_dates_are_written(truth):
    mean = truth.copy()
    mean[0, 7:] = np.nan
    ds = filled(mean)
    assert len(plotting.frames(ds, n_frames=12).images) == 7
    days = np.datetime64("2024-03-01", "ns") + np.arange(12) * np.timedelta64(1, "D")
    ax = plotting.frames(ds.assign_coords(time=days), n_frames=2)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2024-03-01", "2024-03-07"]


def test_entries_have_bands_and_dots():
    mean = np.sin(np.arange(20.0)[:, None] / 3 + np.arange(4))[None]
    seen = np.where(np.arange(20)[:, None] % 3 == 0, mean, np.nan)
    ds = filled(mean, ("trial", "time", "unit"), unit=list("abcd"))
    ax = plotting.imputation(ds, seen, mean[0], entries=[2, 0])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["c", "a"]
    band = ax.collections[0].get_paths()[0].vertices
    assert abs(np.ptp(band[np.isclose(band[:, 0], 3.0), 1]) - 2 * 1.96 * 0.2) < 1e-3
    dots = next(line for line in ax.lines if line.get_marker() == "o")
    assert np.isfinite(dots.get_ydata()).sum() == 7
    assert "dots: seen" in ax.get_title(loc="left")


@pytest.mark.parametrize(
    ("draw", "given", "message"),
    [
        (plotting.frames, {"trial": 3}, "trial must be from 0 to 2, found 3"),
        (plotting.frames, {"n_frames": 0}, "n_frames must be a whole number of at least 1"),
        (plotting.frames, {"seen": np.zeros((12, 4, 4))}, r"seen has shape \(12, 4, 4\), .* \(12, 4, 5\)"),
        (plotting.imputation, {"truth": np.zeros((3, 8, 4, 5))}, "truth has shape"),
        (plotting.imputation, {"entries": [20]}, r"entries must be from 0 to 19, found \[20\]"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(draw, given, message, truth):
    with pytest.raises(ValueError, match=message):
        draw(filled(truth), **given)


def test_vectors_are_no_images():
    ds = filled(np.zeros((2, 5, 3)), ("trial", "time", "unit"))
    with pytest.raises(ValueError, match=r"has frames with dims \('unit',\); images need \(row, column\)"):
        plotting.frames(ds)
    with pytest.raises(ValueError, match="time, ...\\) is needed"):
        plotting.imputation(ds.isel(time=0))
