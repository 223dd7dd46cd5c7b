"""Pictures of autoregressions: what is drawn is what the labels say."""

import numpy as np
import pytest
import xarray as xr
from scipy.signal import lfilter

import hidamari as hd
from hidamari import plotting

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def y():
    noise = np.random.default_rng(0).standard_normal((400, 2))
    return lfilter([1.0], [1.0, -0.5, 0.0, 0.3], noise, axis=0)


@pytest.fixture(scope="module")
def model(y):
    return hd.ARNet([1, 3, 7]).fit(y[:, 0])


@pytest.fixture(scope="module")
def both(y):
    return hd.ARNet(3).fit(y)


def table(estimate, chosen, lags):
    names = np.array([f"lag {lag}" for lag in lags] + ["trend"])
    parts = {
        "estimate": np.append(estimate, 9.0),
        "standard_error": np.full(len(names), 0.1),
        "support": np.append(chosen, True),
    }
    return xr.Dataset({k: ("coefficient", v) for k, v in parts.items()}, {"coefficient": names})


def test_coefficients_stand_at_their_lags():
    ds = table([0.5, 0.0, -0.2], [True, False, True], [1, 2, 5])
    ax = plotting.coefficients(ds)
    _, rest, dots = ax.lines
    np.testing.assert_array_equal(rest.get_xdata(), [2])
    np.testing.assert_array_equal(dots.get_xydata(), [[1, 0.5], [5, -0.2]])
    stems, bars = (lines.get_segments() for lines in ax.collections)
    np.testing.assert_allclose(stems[1], [[5, 0.0], [5, -0.2]])
    np.testing.assert_allclose(bars[0], [[1, 0.5 - 0.196], [1, 0.5 + 0.196]], atol=1e-4)
    assert ax.get_title(loc="left") == "2 of 3 lags, 95 % intervals"
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("lag (rows)", "coefficient", "linear")


def test_many_lags_have_logarithmic_axes():
    ax = plotting.coefficients(table([0.9, 0.01], [True, True], [1, 288]))
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "symlog")
    nothing = plotting.coefficients(table([0.0, 0.0], [False, False], [1, 288]))
    assert nothing.get_title(loc="left") == "0 of 2 lags, 95 % intervals"


def test_coefficients_of_an_output_and_of_draws(both, rng):
    ds = both.coefficients()
    dots = plotting.coefficients(ds, output=1).lines[-1]
    np.testing.assert_array_equal(dots.get_ydata(), ds.estimate[1])
    draws = rng.standard_normal((2, 50, 2))
    coef = xr.DataArray(draws, {"coefficient": ["lag 1", "lag 4"]}, ("chain", "draw", "coefficient"))
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"coef": coef})})
    ax = plotting.coefficients(tree)
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), np.median(draws, axis=(0, 1)))
    assert ax.get_title(loc="left") == "2 lags, 95 % intervals"


def test_forecast_follows_its_past(model, y):
    ds = model.forecast(20)
    ax = plotting.forecast(ds, past=y[:, 0], truth=np.arange(20.0))
    lines = {line.get_label(): line.get_xydata().T for line in ax.lines}
    np.testing.assert_array_equal(lines["past 0"], [np.arange(360, 400), y[360:, 0]])
    np.testing.assert_array_equal(lines["truth 0"], [np.arange(400, 420), np.arange(20.0)])
    np.testing.assert_array_equal(lines["output 0"][1], ds["mean"])
    assert ax.get_xlim() == (360, 419)
    assert ax.get_title(loc="left") == "mean and 95 % band, dots: what came"
    assert plotting.forecast(ds, past=y[:, 0], n_past=5).get_xlim() == (395, 419)
    assert plotting.forecast(ds).get_xlim() == (400, 419)


def test_forecast_of_labelled_series(y):
    years = xr.Variable("time", 1600.0 + np.arange(400), {"units": "year"})
    series = xr.DataArray(y[:, 0], {"time": years}, attrs={"units": "m", "long_name": "level"})
    ds = hd.ARNet(3).fit(series[:390]).forecast(10)
    ax = plotting.forecast(ds, past=series[:390], truth=series[390:], n_past=30)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("year", "level (m)")
    assert ax.get_xlim() == (1960, 1999)


def test_forecast_of_several_outputs(both, y):
    ax = plotting.forecast(both.forecast(1), past=y)
    assert ax.get_legend() is not None and not ax.texts
    assert ax.get_xlim() == (398, 400)
    assert len(ax.containers) == 2
    plotting.forecast(both.forecast(1))


def test_spectrum_lies_on_the_periodogram(model, y):
    series = xr.DataArray(y[:, 0], {"time": np.arange(400) * 0.5}, ("time",))
    ds = hd.ARNet(3).fit(series).spectrum()
    ax = plotting.spectrum(ds, series)
    pale, dots, line = ax.lines
    np.testing.assert_array_equal(line.get_xydata()[:, 1], ds.values[1:])
    freqs, power = pale.get_xydata().T
    assert freqs[-1] <= 1.0  # half a cycle a row
    total = 2 * np.sum(power) * (freqs[1] - freqs[0])
    assert total == pytest.approx(float(series.var()), rel=0.15)  # a window gives ends less weight
    about = np.interp(dots.get_xdata(), ds.frequency, ds.values)
    assert np.median(np.abs(np.log(dots.get_ydata() / about))) < 0.5
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    holes = y[:, 0].copy()
    holes[::7] = np.nan
    assert np.isfinite(plotting.spectrum(model.spectrum(), holes, step=1.0).lines[0].get_ydata()).all()


def test_curves_of_several_outputs_have_names(both, y):
    ax = plotting.spectrum(both.spectrum(), y)
    assert [text.get_text() for text in ax.texts] == ["output 0", "output 1"]
    ax = plotting.impulse_response(both.impulse_response(10))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["output 0", "output 1"]
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), both.impulse_response(10)[1])


def test_drawn_on_the_axes_given(model):
    _, axes = plt.subplots(2, 2)
    assert plotting.forecast(model.forecast(5), ax=axes[0, 0]) is axes[0, 0]
    assert plotting.coefficients(model.coefficients(), axes[0, 1]) is axes[0, 1]
    assert plotting.spectrum(model.spectrum(), ax=axes[1, 0]) is axes[1, 0]
    assert plotting.impulse_response(model.impulse_response(99), axes[1, 1]) is axes[1, 1]


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda m, y: plotting.coefficients(m.spectrum()), "needed is one named 'coefficient'"),
        (lambda m, y: plotting.coefficients(m.forecast(2)), "ds has no variable 'estimate'"),
        (lambda m, y: plotting.forecast(m.forecast(2), past=y), r"past has shape \(400, 2\)"),
        (lambda m, y: plotting.forecast(m.forecast(2), truth=y), r"truth has shape \(400, 2\)"),
        (lambda m, y: plotting.spectrum(m.impulse_response()), "needed is one named 'frequency'"),
        (lambda m, y: plotting.spectrum(m.spectrum(), y), r"y has shape \(400, 2\)"),
        (lambda m, y: plotting.impulse_response(m.spectrum()), "needed is one named 'lag'"),
    ],
)
def test_misuse_is_named(model, y, draw, message):
    with pytest.raises(ValueError, match=message):
        draw(model, y)
    with pytest.raises(ValueError, match="output is 2"):
        plotting.coefficients(model.coefficients().expand_dims(output=2), output=2)
    with pytest.raises(ValueError, match="no coefficient of a lag"):
        plotting.coefficients(model.coefficients().assign_coords(coefficient=["a", "b", "c"]))
