"""Pictures of predictions, of the parts of a sum, and of draws: what is drawn is what the labels say."""

import numpy as np
import pytest
import xarray as xr

from hidamari import plotting
from hidamari.plotting._style import PALE

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def predicted(mean, dims, coords, half=0.5, **attrs):
    """A Dataset as `predict` gives it."""
    mean = xr.DataArray(mean, coords, dims, attrs={"units": "ppm", "long_name": "CO2"})
    return xr.Dataset({"mean": mean, "lower": mean - half, "upper": mean + 2 * half}, attrs=attrs)


@pytest.fixture
def years():
    return {"time": ("time", np.linspace(1950.0, 1960.0, 101), {"units": "year"})}


@pytest.fixture
def ds(rng, years):
    return predicted(rng.standard_normal(101), ("time",), years)


def line(ax, label):
    return next(line for line in ax.lines if line.get_label() == label).get_xydata().T


def test_prediction_draws_mean_band_and_labels(ds):
    ax = plotting.prediction(ds)
    x, y = line(ax, "output 0")
    np.testing.assert_array_equal(x, ds.time)
    np.testing.assert_array_equal(y, ds["mean"])
    band = ax.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(band[1:102, 1], ds.lower)
    np.testing.assert_allclose(band[-2:-103:-1, 1], ds.upper)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("year", "CO2 (ppm)")
    assert ax.get_title(loc="left") == "mean and 95 % band"
    assert "mean and 80 % band" in plotting.prediction(ds.assign_attrs(interval=0.8)).get_title(loc="left")


def test_data_are_dots_and_their_gaps_are_shaded(ds):
    values = np.arange(6.0)
    values[[2, 3, 5]] = np.nan
    observed = xr.DataArray(values, {"time": 1949.0 + np.arange(6.0)}, ("time",))
    ax = plotting.prediction(ds, observed)
    x, y = line(ax, "data 0")
    np.testing.assert_array_equal(y, values)
    np.testing.assert_array_equal(x, observed.time)
    spans = [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches]
    assert spans == [(1950.5, 1952.5), (1953.5, 1954.0)]
    assert all(plt.matplotlib.colors.to_hex(p.get_facecolor()).upper() == PALE for p in ax.patches)
    assert ax.get_title(loc="left") == "mean and 95 % band, dots: data, grey: not observed"
    assert ax.get_xlim() == (1949.0, 1960.0)


def test_pairs_are_sorted_and_may_be_lists(ds):
    ax = plotting.prediction(ds, ([1955, 1951], [2, 1]))
    np.testing.assert_array_equal(line(ax, "data 0"), [[1951, 1955], [1, 2]])
    assert "grey" not in ax.get_title(loc="left") and not ax.patches


def test_outputs_have_their_names_and_colours(rng, years):
    ds = predicted(rng.standard_normal((101, 2)), ("time", "output"), years | {"output": ["a", "b"]})
    ax = plotting.prediction(ds, (ds.time, ds["mean"] + 1.0))
    assert [text.get_text() for text in ax.texts] == ["output a", "output b"]
    np.testing.assert_array_equal(line(ax, "output b")[1], ds["mean"][:, 1])
    np.testing.assert_allclose(line(ax, "data b")[1], ds["mean"][:, 1] + 1.0)
    colours = {label: [v.get_color() for v in ax.lines if v.get_label().endswith(label)] for label in "ab"}
    assert len(set(colours["a"])) == len(set(colours["b"])) == 1 and colours["a"] != colours["b"]


def test_one_of_several_trials_without_its_padding(rng, years):
    mean = rng.standard_normal((2, 101))
    mean[1, 60:] = np.nan
    ds = predicted(mean, ("trial", "time"), years)
    ax = plotting.prediction(ds, ds["mean"], trial=1)
    np.testing.assert_array_equal(line(ax, "output 0")[1], mean[1, :60])
    assert ax.get_xlim()[1] == 1960.0


def test_prediction_draws_on_the_axes_given_and_names_time_once(ds):
    _, (above, below) = plt.subplots(2, sharex=True)
    assert plotting.prediction(ds, ax=above) is above
    plotting.prediction(ds, ax=below)
    assert above.get_xlabel() == "" and below.get_xlabel() == "year"
    seconds = ds.assign_coords(time=("time", np.arange(101.0), {"units": "s"}))
    assert plotting.prediction(seconds).get_xlabel() == "time (s)"


def test_the_data_may_name_what_the_model_does_not_know(ds, years):
    bare = xr.Dataset({name: ("time", ds[name].values) for name in ds}, {"time": ds.time.values})
    observed = xr.DataArray(np.zeros(101), years, ("time",), attrs={"long_name": "flow", "units": "m"})
    assert (plotting.prediction(bare).get_xlabel(), plotting.prediction(bare).get_ylabel()) == ("time", "")
    ax = plotting.prediction(bare, observed)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("year", "flow (m)")


def test_times_may_be_dates(ds):
    dates = np.datetime64("2001-01-01", "ns") + np.arange(101) * np.timedelta64(1, "D")
    dated = ds.assign_coords(time=dates)
    values = ds["mean"].values.copy()
    values[40:50] = np.nan
    ax = plotting.prediction(dated, (dates[::-1], values[::-1]))
    ax.figure.canvas.draw()
    assert ax.get_xlabel() == "" and ax.get_xticklabels()[0].get_text().startswith("2001-01")
    np.testing.assert_array_equal(line(ax, "data 0")[0], plt.matplotlib.dates.date2num(dates))
    (gap,) = ax.patches
    assert gap.get_width() == pytest.approx(10.0)


def test_trials_may_have_times_of_their_own(ds):
    own = ds.time.values + np.array([[0.0], [5.0]])
    trials = ds.expand_dims(trial=2).drop_vars("time").assign_coords(trial_time=(("trial", "time"), own))
    ax = plotting.prediction(trials, trials["mean"], trial=1)
    for label in ("output 0", "data 0"):
        np.testing.assert_array_equal(line(ax, label)[0], own[1])


def test_components_have_a_panel_each(rng, years):
    names = ["trend", "season", "rest"]
    mean, var = rng.standard_normal((101, 3)), rng.uniform(0.1, 0.2, (101, 3))
    dims = ("time", "component")
    ds = xr.Dataset(
        {"component_mean": (dims, mean), "component_var": (dims, var)}, years | {"component": names}
    )
    axes = plotting.components(ds)
    assert [ax.get_title(loc="left") for ax in axes] == names
    assert [ax.get_xlabel() for ax in axes] == ["", "", "year"]
    for i, ax in enumerate(axes):
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), mean[:, i])
        band = ax.collections[0].get_paths()[0].vertices
        np.testing.assert_allclose(band[1:102, 1], mean[:, i] - 1.959964 * np.sqrt(var[:, i]), rtol=1e-5)
    assert len({ax.lines[0].get_color() for ax in axes}) == 3
    given = plt.figure().subplots(3)
    assert plotting.components(ds, axes=given)[0] is given[0]
    two = ds.expand_dims(output=["a", "b"])
    assert [text.get_text() for text in plotting.components(two)[2].texts] == ["output a", "output b"]
    with pytest.raises(ValueError, match="axes has 2 entries; allowed: 3"):
        plotting.components(ds, axes=given[:2])
    with pytest.raises(ValueError, match="needed is one named 'component'"):
        plotting.components(ds.isel(component=0))


@pytest.fixture
def tree(rng):
    dims = ("chain", "draw")
    draws = xr.Dataset(
        {
            "lengthscale": (dims, rng.gamma(4.0, 2.0, (3, 200))),
            "bias": ((*dims, "output"), rng.standard_normal((3, 200, 2))),
        },
        {"output": ["a", "b"]},
    )
    diverging = np.zeros((3, 200), dtype=bool)
    diverging[1, [17, 44]] = True
    return xr.DataTree.from_dict(
        {"posterior": draws, "sample_stats": xr.Dataset({"diverging": (dims, diverging)})}
    )


def test_posterior_draws_every_scalar_and_chain(tree):
    axes = plotting.posterior(tree)
    assert axes.shape == (3, 2)
    assert [ax.get_title(loc="left").split(":")[0] for ax in axes[:, 0]] == [
        "lengthscale",
        "bias[a]",
        "bias[b]",
    ]
    assert axes[0, 1].get_title(loc="left") == "3 chains, 2 divergent"
    for c in range(3):
        np.testing.assert_array_equal(axes[2, 1].lines[c].get_ydata(), tree["posterior"].bias[c, :, 1])
    np.testing.assert_array_equal(axes[0, 1].lines[3].get_xdata(), [17, 44])
    low, middle, high = np.quantile(tree["posterior"].lengthscale, [0.025, 0.5, 0.975])
    bar, dot = axes[0, 0].lines
    np.testing.assert_allclose(bar.get_xdata(), [low, high])
    np.testing.assert_allclose(dot.get_xdata(), [middle])
    assert axes[0, 0].get_title(loc="left") == f"lengthscale: {middle:.3g} ({low:.3g} to {high:.3g})"


def test_posterior_of_chosen_names_and_without_statistics(tree):
    axes = plotting.posterior(tree["posterior"].to_dataset(), names=["lengthscale"])
    assert axes.shape == (1, 2)
    assert axes[0, 1].get_title(loc="left") == "3 chains, 0 divergent"
    axes[0, 0].figure.canvas.draw()
    assert axes[0, 0].get_position().width > 0.3
    given = plt.figure().subplots(1, 2, squeeze=False)
    assert plotting.posterior(tree, ["lengthscale"], given)[0, 0] is given[0, 0]


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda ds, tree: plotting.prediction(ds[["mean"]]), "ds has no variable 'lower'"),
        (lambda ds, tree: plotting.prediction(ds.rename(time="t")), r"mean has dims \('t',\)"),
        (lambda ds, tree: plotting.prediction(ds.drop_vars("time")), "mean has no coordinate 'time'"),
        (lambda ds, tree: plotting.prediction(ds.expand_dims(trial=2), trial=2), "trial is 2"),
        (lambda ds, tree: plotting.prediction(ds, np.zeros(4)), "observed has no times"),
        (lambda ds, tree: plotting.prediction(ds, ([1.0, 2.0], [1.0])), r"observed has shape \(1, 1\)"),
        (
            lambda ds, tree: plotting.prediction(ds, ds["mean"].rename(time="t")),
            r"observed has dims \('t',\)",
        ),
        (lambda ds, tree: plotting.components(ds), "ds has no variable 'component_mean'"),
        (lambda ds, tree: plotting.posterior(ds), "mean has dims"),
        (lambda ds, tree: plotting.posterior(xr.DataTree()), "without a group 'posterior'"),
        (lambda ds, tree: plotting.posterior(tree, ["x"]), r"names has \['x'\]"),
        (lambda ds, tree: plotting.posterior(tree, axes=[]), r"axes has shape \(0,\); allowed: \(3, 2\)"),
        (
            lambda ds, tree: plotting.posterior(
                xr.Dataset({"w": (("chain", "draw", "i"), np.zeros((1, 2, 13)))})
            ),
            "names are 13 scalars; allowed: at most 12",
        ),
    ],
)
def test_misuse_is_named(ds, tree, draw, message):
    with pytest.raises(ValueError, match=message):
        draw(ds, tree)
