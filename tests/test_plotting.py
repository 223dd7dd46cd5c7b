"""What the pictures show: lines, bands, ticks and labels are those of the data."""

import numpy as np
import pytest
import xarray as xr

from hidamari import plotting
from hidamari.plotting._style import INK

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def ds(rng):
    """Two trials of three latents and 30 units; the second is 40 bins long, padded to 50."""
    time = (np.arange(50) + 0.5) * 0.1
    mean = np.cumsum(rng.standard_normal((2, 50, 3)), axis=1)
    var = rng.uniform(0.1, 0.5, mean.shape)
    rate = rng.gamma(2.0, 3.0, (2, 50, 30))
    for padded in (mean, var, rate):
        padded[1, 40:] = np.nan
    latent, unit = ("trial", "time", "latent"), ("trial", "time", "unit")
    variables = {"latent_mean": (latent, mean), "latent_var": (latent, var), "rate": (unit, rate)}
    coords = {"time": time, "unit": np.arange(100, 130), "latent": [0, 1, 2], "n_bins": ("trial", [50, 40])}
    return xr.Dataset(variables, coords, {"bin_s": 0.1})


def texts(ax):
    return [text.get_text() for text in ax.texts]


def line(ax, label):
    return next(line for line in ax.lines if line.get_label() == label).get_xydata().T


def offsets(ax):
    """Return the heights of the lanes' zero lines."""
    return [line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1]


def test_latents_draws_means_bands_and_names(ds):
    ax = plotting.latents(ds, trial=1)
    assert texts(ax) == ["latent 0", "latent 1", "latent 2"]
    assert ax.get_xlabel() == "time (s)" and ax.get_xlim() == pytest.approx((0.0, 4.0))
    for l, offset in enumerate(offsets(ax)):
        mean, var = ds.latent_mean.values[1, :40, l], ds.latent_var.values[1, :40, l]
        x, y = line(ax, f"latent {l}")
        np.testing.assert_allclose(x, ds.time[:40])
        np.testing.assert_allclose(y - offset, mean, rtol=1e-12, atol=1e-12)
        band = ax.collections[l].get_paths()[0].vertices
        np.testing.assert_allclose(band[1:41, 1] - offset, mean - 1.96 * np.sqrt(var), atol=1e-4)
        np.testing.assert_allclose(band[-2:-42:-1, 1] - offset, mean + 1.96 * np.sqrt(var), atol=1e-4)
        assert ax.texts[l].xy == (x[-1], y[-1])


def test_lanes_do_not_touch(ds):
    ax = plotting.latents(ds)
    bands = [collection.get_paths()[0].vertices for collection in ax.collections]
    for above, below in zip(bands, bands[1:]):
        assert np.all(above[1:51, 1] > below[-2:-52:-1, 1])


def test_lane_ticks_are_in_the_units_of_the_latent(ds):
    ax = plotting.latents(ds)
    labels = [float(tick.get_text().replace("\N{MINUS SIGN}", "-")) for tick in ax.get_yticklabels()]
    np.testing.assert_allclose(ax.get_yticks() - np.repeat(offsets(ax), 3), labels, atol=1e-12)
    assert labels[0] == -labels[2] != 0.0


def test_truth_is_drawn_in_the_same_lanes(ds):
    truth = np.zeros((50, 3)) + np.sin(np.arange(50))[:, None]
    ax = plotting.latents(ds, truth=truth)
    black = [line for line in ax.lines if line.get_color() == INK]
    for drawn, offset in zip(black, offsets(ax), strict=True):
        np.testing.assert_allclose(drawn.get_ydata() - offset, truth[:, 0], atol=1e-12)
    assert "truth in black" in ax.get_title(loc="left")
    with pytest.raises(ValueError, match=r"truth has shape \(40, 3\), the trial's latents have \(50, 3\)"):
        plotting.latents(ds, truth=truth[:40])


def test_everything_draws_on_the_axes_given(ds):
    counts = ds.rate.round()
    for draw in (plotting.latents, plotting.rates):
        ax = plt.figure().subplots()
        assert draw(ds, ax=ax) is ax
    for draw, content in ((plotting.raster, counts), (plotting.elbo, [1.0, 2.0])):
        ax = plt.figure().subplots()
        assert draw(content, ax=ax) is ax


def test_stacked_axes_name_their_time_once(ds):
    _, (above, below) = plt.subplots(2, sharex=True)
    plotting.raster(ds.rate.round(), ax=above)
    plotting.latents(ds, ax=below)
    assert above.get_xlabel() == "" and below.get_xlabel() == "time (s)"


def test_dims_may_come_in_any_order_and_without_trials(ds):
    ax = plotting.latents(ds.isel(trial=0).transpose("latent", "unit", "time"))
    assert texts(ax) == ["latent 0", "latent 1", "latent 2"]


def test_rates_of_few_units_are_named_lines(ds):
    ax = plotting.rates(ds, units=[117, 103])
    assert texts(ax) == ["unit 117", "unit 103"] and ax.get_ylabel() == "rate (spikes/s)"
    for unit, offset in zip([117, 103], offsets(ax), strict=True):
        x, y = line(ax, f"unit {unit}")
        np.testing.assert_allclose(y - offset, ds.rate.sel(unit=unit).values[0], atol=1e-12)


def test_counts_are_ticks_under_their_line(ds):
    counts = np.zeros((50, 30))
    counts[3, 7], counts[10, 7], counts[20, 3] = 1, 2, np.nan
    ax = plotting.rates(ds, units=[107, 103], counts=counts)
    ticks = np.array(ax.collections[0].get_segments())
    np.testing.assert_allclose(ticks[:, 0, 0], [0.35, 1.025, 1.075])
    assert ticks[:, :, 1].max() < offsets(ax)[0]
    assert not ax.collections[1].get_segments()


def test_rates_of_many_units_are_a_map_in_the_order_given(ds):
    order = plotting.peak_order(ds)
    ax = plotting.rates(ds, order=order)
    mesh = ax.collections[0]
    np.testing.assert_allclose(mesh.get_array(), ds.rate.values[0].T[order])
    assert ax.get_ylim() == (29.5, -0.5) and ax.get_xlim() == pytest.approx((0.0, 5.0))
    assert ax.figure.axes[1].get_ylabel() == "rate (spikes/s)"
    assert mesh.norm.vmin == 0.0 and mesh.norm.vmax > np.median(ds.rate[0])


def test_the_unit_of_the_rate_is_the_array_s(ds):
    ds.rate.attrs["units"] = "1"
    assert plotting.rates(ds, units=[100]).get_ylabel() == "rate (1)"


def test_one_bin_is_as_wide_as_the_dataset_says(ds):
    ax = plotting.rates(ds.isel(trial=0, time=slice(1)))
    assert ax.get_xlim() == pytest.approx((0.0, 0.1))


def test_maps_name_their_units_when_there_is_room(ds):
    ax = plotting.rates(ds.isel(unit=slice(12)))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [str(unit) for unit in range(100, 112)]


def test_peak_order_sorts_by_the_time_of_the_peak(ds):
    peaks = ds.rate.values[1, :40].argmax(axis=0)
    assert np.all(np.diff(peaks[plotting.peak_order(ds.rate, trial=1)]) >= 0)


def test_raster_shows_every_spike_inside_its_bin(rng):
    time = 10.0 + (np.arange(200) + 0.5) * 0.02
    values = rng.poisson(0.8, (200, 5)).astype(float)
    values[50:60, 2] = np.nan
    counts = xr.DataArray(
        values, {"time": time, "unit": list("abcde")}, ("time", "unit"), attrs={"bin_s": 0.02}
    )
    ax = plotting.raster(counts, order=[4, 3, 2, 1, 0])
    ticks = np.array(ax.collections[0].get_segments())
    drawn = np.zeros_like(values)
    lane = np.round(ticks[:, :, 1].mean(axis=1)).astype(int)
    np.add.at(drawn, (np.floor((ticks[:, 0, 0] - 10.0) / 0.02).astype(int), 4 - lane), 1)
    np.testing.assert_array_equal(drawn, np.nan_to_num(values))
    assert len(np.unique(ticks[lane == 0, 0, 0])) == values[:, 4].sum()
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list("edcba")
    assert "grey: not observed" in ax.get_title(loc="left")
    shaded = np.argwhere(~np.ma.getmaskarray(ax.collections[1].get_array()))
    np.testing.assert_array_equal(shaded, [[2, bin] for bin in range(50, 60)])


def test_elbo_says_where_and_how_it_ended():
    class Fitted:
        elbo_, converged_ = np.array([-1200.0, -1100.0, -1050.25]), np.True_

    ax = plotting.elbo(Fitted())
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, -1200], [1, -1100], [2, -1050.25]])
    assert texts(ax) == ["\N{MINUS SIGN}1,050.2 nats\nafter 2 iterations\nconverged"]
    assert ax.get_xlabel() == "iteration" and ax.get_ylabel() == "ELBO (nats)"
    assert texts(plotting.elbo([1.0, 2.0])) == ["2.0 nats\nafter 1 iterations"]


def test_a_silent_recording_and_a_single_bin_are_drawn(ds):
    silent = xr.zeros_like(ds)
    one = ds.isel(trial=0, time=slice(1))
    for content in (silent, one):
        plotting.latents(content).figure.canvas.draw()
        plotting.rates(content).figure.canvas.draw()
        plotting.rates(content, units=[100]).figure.canvas.draw()
        plotting.raster(content.rate.round()).figure.canvas.draw()


class Unfitted:
    def fit(self, y):
        return self


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda ds: plotting.latents(ds, trial=2), "trial is 2, but there are 2 trials"),
        (lambda ds: plotting.latents(ds[["rate"]]), "ds has no variable 'latent_mean'; it has .'rate'."),
        (lambda ds: plotting.latents(np.zeros((3, 2))), "ds is ndarray"),
        (lambda ds: plotting.raster(ds.latent_mean), "latent_mean has dims"),
        (lambda ds: plotting.rates(ds.drop_vars("time")), "no coordinate 'time' in seconds"),
        (lambda ds: plotting.rates(ds, units=[5]), r"units has \[5\]"),
        (lambda ds: plotting.rates(ds, order=[0, 30]), "positions from 0 to 29"),
        (lambda ds: plotting.rates(ds, order=[1, 1]), "different positions"),
        (lambda ds: plotting.rates(ds, counts=ds.rate[0]), "at most 8 units, not 30"),
        (lambda ds: plotting.rates(ds, units=[100], counts=np.zeros(3)), r"counts has shape \(3,\)"),
        (lambda ds: plotting.raster(-ds.rate), "counts has negative entries"),
        (lambda ds: plotting.elbo(Unfitted()), "no elbo_: fit it first"),
        (lambda ds: plotting.elbo([np.nan]), "no finite value"),
    ],
)
def test_misuse_is_named(ds, draw, message):
    with pytest.raises(ValueError, match=message):
        draw(ds)
