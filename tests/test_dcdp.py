"""DCDP: what it finds in series of every model, how it labels it, and that nothing is found in nothing."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.signal import lfilter
from scipy.stats import chi2

import hidamari as hd
from hidamari.inference import costs


def step(n, at, size=1.0):
    return size * (np.arange(n)[:, None] >= at)


def normal(rng):
    return rng.normal(size=(400, 3)) * 7.0 + 1e5 + 14.0 * step(400, 150)


def memory(rng):
    return lfilter([1.0], [1.0, -0.5], rng.normal(size=(400, 1)), axis=0) + step(400, 150, 5.0)


def counts(rng):
    return rng.poisson(2.0 + step(400, 150, 4.0), (400, 2))


def spread(rng):
    return rng.normal(size=(400, 1)) * (1.0 + step(400, 150, 3.0))


def sparse(rng):
    return rng.normal(size=(400, 60)) + step(400, 150, 2.0) * (np.arange(60) < 3)


def covariance(rng):
    x = rng.normal(size=(400, 2))
    x[150:, 1] = 0.9 * x[150:, 0] + 0.3 * x[150:, 1]
    return x


def own_past(rng):
    x = np.zeros(400)
    for t in range(1, 400):
        x[t] = (0.8 if t < 150 else -0.8) * x[t - 1] + rng.normal()
    return x


def process(rng):
    parts = [
        lfilter([np.sqrt(1 - a * a)], [1.0, -a], rng.normal(size=n))
        for a, n in ((np.exp(-0.5), 150), (np.exp(-0.05), 250))
    ]
    return np.concatenate(parts) + 0.2 * rng.normal(size=400)


FOUND = {
    "mean": (normal, 3),
    "mean with memory": (memory, 8),
    "counts": (counts, 3),
    "mean_variance": (spread, 8),
    "sparse_mean": (sparse, 3),
    "covariance": (covariance, 12),
    "autoregressive": (own_past, 10),
    "state_space": (process, 30),
}


@pytest.mark.parametrize("name", FOUND)
def test_one_change_is_found_and_its_interval_is_near(name, rng):
    make, near = FOUND[name]
    model = hd.DCDP(name.split()[0]).fit(make(rng))
    assert model.n_changes_ == 1 and len(model.change_points_) == 1
    assert abs(model.change_points_[0] - 150) <= near
    first, last = model.intervals_[0]
    assert first <= model.change_points_[0] <= last and last - first < 80
    assert model.probability_.shape == (400,) and model.probability_[0] == 0.0
    assert model.probability_.sum() == pytest.approx(1.0, abs=0.7)
    assert model.probability_[first : last + 1].sum() > 0.8
    assert model.converged_ and np.isfinite(model.cost_)
    assert model.segments_.sizes["segment"] == 2


def test_regression_of_y_on_x(rng):
    X = rng.normal(size=(300, 3))
    y = X @ [1.0, 0.0, 2.0] * np.where(np.arange(300) < 120, 1.0, -1.0) + 0.5 * rng.normal(size=300)
    for procedure in ("union", "paper"):
        model = hd.DCDP("regression", procedure=procedure).fit(X, y)
        assert model.n_changes_ == 1 and abs(model.change_points_[0] - 120) <= 4
    np.testing.assert_allclose(model.segments_.coefficients, [[0, 1, 0, 2], [0, -1, 0, -2]], atol=0.3, rtol=0)
    assert abs(model.predict(X, y)[0] - 120) <= 4


@pytest.mark.parametrize("d", [1, 20, 100])
@pytest.mark.parametrize("noise", ["normal", "heavy", "memory"])
def test_nothing_is_found_in_nothing(noise, d, rng):
    """Series without a change: at least 14 of 15 are left whole; benchmarks/change_points.py counts 200."""
    draw = {
        "normal": lambda: rng.normal(size=(200, d)),
        "heavy": lambda: rng.standard_t(5, size=(200, d)),
        "memory": lambda: lfilter([1.0], [1.0, -0.5], rng.normal(size=(300, d)), axis=0)[100:],
    }[noise]
    whole = [hd.DCDP(interval=None).fit(draw()).n_changes_ == 0 for _ in range(15)]
    assert np.sum(whole) >= 14


def test_engines_agree(rng):
    x = normal(rng)
    found = {
        search: hd.DCDP(search=search, interval=None).fit(x).change_points_.tolist()
        for search in ("auto", "divide", "pelt", "optimal", "seeded")
    }
    assert all(changes == found["optimal"] for changes in found.values()), found
    y = rng.poisson(np.repeat([2, 9, 4], 50))
    for search in ("auto", "fpop", "optimal"):
        assert hd.DCDP("counts", search=search, noise="independent").fit(y).n_changes_ == 2


def test_a_given_number_of_changes(rng):
    x = rng.normal(size=300) + 3.0 * (np.arange(300) // 60 % 2)
    for k in (0, 1, 4, 6):
        assert hd.DCDP(n_changes=k).fit(x).n_changes_ == k
    np.testing.assert_allclose(hd.DCDP(n_changes=4).fit(x).change_points_, [60, 120, 180, 240], atol=2)
    long = np.repeat([0.0, 2.0, 0.0], 1000) + rng.normal(size=3000)
    np.testing.assert_allclose(
        hd.DCDP(n_changes=2, interval=None).fit(long).change_points_, [1000, 2000], atol=5
    )


def test_units_and_offsets_do_not_matter(rng):
    x = normal(rng)
    once = hd.DCDP().fit(x)
    again = hd.DCDP().fit(x * [1e-3, 1.0, 1e4] - 1e6)
    np.testing.assert_array_equal(once.change_points_, again.change_points_)
    np.testing.assert_array_equal(once.intervals_, again.intervals_)


def test_a_series_read_backwards(rng):
    x = normal(rng)
    forth, back = hd.DCDP(search="optimal").fit(x), hd.DCDP(search="optimal").fit(x[::-1].copy())
    np.testing.assert_array_equal(400 - back.change_points_[::-1], forth.change_points_)


def test_missing_entries(rng):
    x = normal(rng)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[50:70] = np.nan
    model = hd.DCDP().fit(x)
    assert model.n_changes_ == 1 and abs(model.change_points_[0] - 150) <= 4
    assert np.isfinite(model.segments_["mean"]).all()
    y = counts(rng).astype(float)
    y[200:220, 1] = np.nan
    assert hd.DCDP("counts").fit(y).n_changes_ == 1


def test_labels_come_back(rng):
    x = normal(rng)
    at = hd.DCDP().fit(x).change_points_
    times = 5.0 + 0.5 * np.arange(400)
    array = xr.DataArray(x, dims=("time", "unit"), coords={"time": times, "unit": ["a", "b", "c"]})
    model = hd.DCDP().fit(array)
    np.testing.assert_array_equal(model.times_, times[at])
    assert model.segments_.unit.values.tolist() == ["a", "b", "c"]
    days = pd.date_range("2020-01-01", periods=400)
    model = hd.DCDP().fit(pd.DataFrame(x, index=days))
    np.testing.assert_array_equal(model.times_, days.values[at])
    series = hd.DCDP().fit(pd.Series(x[:, 0], index=days))
    assert series.times_.dtype.kind == "M" and series.n_features_in_ == 1
    vector = hd.DCDP().fit(xr.DataArray(x[:, 0], dims="year", coords={"year": np.arange(400) + 1600}))
    np.testing.assert_array_equal(vector.times_, 1600 + vector.change_points_)
    np.testing.assert_array_equal(hd.DCDP().fit(x[:, 0].tolist()).times_, vector.change_points_)


def test_dates_come_back_from_a_file(rng, tmp_path):
    days = pd.date_range("2020-01-01", periods=400)
    model = hd.DCDP().fit(pd.DataFrame(normal(rng), index=days))
    model.save(tmp_path / "model.npz")
    loaded = hd.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.times_, model.times_)
    assert loaded.segments_.identical(model.segments_)


def test_new_recordings(rng):
    model = hd.DCDP().fit(normal(rng))
    new = np.concatenate([normal(rng)[:150], normal(rng)[150:], normal(rng)[:100]])
    found = model.predict(new)
    np.testing.assert_allclose(found, [150, 400], atol=3)
    labels = model.transform(new)
    assert labels.shape == (500,) and labels[0] == 0 and labels[-1] == 2
    np.testing.assert_array_equal(np.flatnonzero(np.diff(labels)) + 1, found)


def test_segments_say_what_holds_in_them(rng):
    y = counts(rng)
    model = hd.DCDP("counts", exposure=0.5).fit(y)
    at = int(model.change_points_[0])
    np.testing.assert_array_equal(model.segments_.start, [0, at])
    np.testing.assert_array_equal(model.segments_.end, [at, 400])
    np.testing.assert_allclose(model.segments_.rate[0], y[:at].mean(axis=0) / 0.5)
    x = spread(rng)
    model = hd.DCDP("mean_variance").fit(x)
    at = int(model.change_points_[0])
    np.testing.assert_allclose(model.segments_["variance"][1], x[at:].var(axis=0))
    x = covariance(rng)
    model = hd.DCDP("covariance").fit(x)
    np.testing.assert_allclose(
        model.segments_["covariance"][1], np.cov(x[model.change_points_[0] :].T, bias=True)
    )


def test_a_users_own_cost(rng):
    class Median:
        """Absolute deviations about the median."""

        def prepare(self, X):
            return np.asarray(X, dtype=float)

        def costs(self, cache, starts, ends):
            pairs = np.broadcast(starts, ends)
            found = [np.abs(cache[a:b] - np.median(cache[a:b], axis=0)).sum() for a, b in pairs]
            return np.array(found).reshape(pairs.shape)

        def min_length(self, d):
            return 2

        def n_parameters(self, d):
            return d

    x = rng.laplace(size=(120, 1)) + step(120, 50, 4.0)
    model = hd.DCDP(Median(), penalty=15.0).fit(x)
    assert model.n_changes_ == 1 and abs(model.change_points_[0] - 50) <= 3
    assert model.probability_.sum() == pytest.approx(1.0, abs=0.7)


def test_costs_of_the_package(rng):
    x = normal(rng)
    assert hd.DCDP(costs.Mean()).fit(x).change_points_ == hd.DCDP().fit(x).change_points_
    assert hd.DCDP(costs.Biweight()).fit(x[:, :1]).n_changes_ == 1


def test_the_price_of_a_change_of_rates(rng):
    """A chi-squared quantile that T splits exceed once in 20 series, and room for the tempering's error."""
    x = rng.poisson(2.0, (500, 3))
    known = hd.DCDP("counts", noise="independent", interval=None).fit(x)
    assert known.tempering_ == 1.0
    assert chi2.sf(known.penalty_, 3) == pytest.approx(0.05 / 500, rel=1e-9)
    for y in (x, rng.poisson(2.0 * rng.gamma(1.0, size=(500, 3)))):
        model = hd.DCDP("counts", interval=None).fit(y)
        room = 1.0 + 2.0 * np.sqrt((2.0 + 4.0 * model.noise_order_) / 1500)
        assert model.penalty_ == pytest.approx(model.tempering_ * room * known.penalty_)
    assert model.tempering_ > 1.5


@pytest.mark.parametrize("rows, order", [(400, 0), (400, 2)])
def test_the_error_of_the_tempering(rows, order):
    """The log of a long-run variance by an autoregression of order q has variance (2 + 4 q) / T, nearly."""
    rng = np.random.default_rng(0)
    logs = []
    for _ in range(2000):
        x = rng.poisson(3.0, rows) - 3.0
        past = np.column_stack([x[order - k - 1 : rows - k - 1] for k in range(order)] or [np.zeros(rows)])
        now = x[order:]
        a = np.linalg.lstsq(past, now, rcond=None)[0]
        logs.append(np.log(np.mean((now - past @ a) ** 2) / (1.0 - a.sum()) ** 2))
    assert np.var(logs) == pytest.approx((2.0 + 1.0 / 3.0 + 4.0 * order) / rows, rel=0.12)


def test_spike_trains_in_bins_of_a_millisecond(rng):
    """5 and 15 Hz: at least 14 of 15 trains by default; benchmarks/change_points.py counts 200."""
    rate = np.repeat([5, 15, 5, 15], 10_000) / 1000.0
    found = [hd.DCDP("counts", interval=None).fit(rng.poisson(rate)).n_changes_ for _ in range(15)]
    assert np.sum(np.array(found) == 3) >= 14
    steady = [hd.DCDP("counts", interval=None).fit(rng.poisson(0.01, 40_000)).n_changes_ for _ in range(5)]
    assert np.sum(steady) == 0


def test_the_path_of_penalties(rng):
    x = rng.normal(size=400) + np.repeat([0.0, 2.0, 0.0, 3.0], 100)
    model = hd.DCDP()
    path = model.path(x)
    assert (np.diff(path.n_changes) < 0).all() and path.n_changes[-1] == 0
    fitted = model.fit(x)
    np.testing.assert_array_equal(path.at(fitted.penalty_).change_points, fitted.change_points_)


def test_long_recordings_allow_changes_where_they_are_likely(rng):
    x = rng.normal(size=20_000) + 1.0 * (np.arange(20_000) >= 7_777)
    model = hd.DCDP().fit(x)
    assert model.n_changes_ == 1 and abs(model.change_points_[0] - 7_777) < 30
    first, last = model.intervals_[0]
    assert model.probability_[first : last + 1].sum() > 0.8


def test_without_intervals_there_are_none(rng):
    model = hd.DCDP(interval=None).fit(normal(rng))
    assert not hasattr(model, "intervals_") and not hasattr(model, "probability_")
    model.set_params(interval=0.5).fit(normal(rng))
    assert model.intervals_.shape == (1, 2)


def test_pictures(rng):
    import matplotlib.pyplot as plt

    x = normal(rng)
    model = hd.DCDP().fit(x)
    ax = hd.plotting.change_points(x, model)
    marks = [line for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert [line.get_xdata()[0] for line in marks] == (model.change_points_ - 0.5).tolist()
    assert ax.get_title(loc="left") == "1 change point with 95 % intervals"
    many = rng.normal(size=(100, 9))
    assert hd.plotting.change_points(many, hd.DCDP(interval=None).fit(many)).images
    years = xr.DataArray(x[:, 0], dims="year", coords={"year": ("year", np.arange(400), {"units": "a"})})
    assert hd.plotting.change_points(years, hd.DCDP().fit(years)).get_xlabel() == "year (a)"
    with pytest.raises(ValueError, match="y has shape"):
        hd.plotting.change_points(x[:5], model)
    with pytest.raises(ValueError, match="model must be fitted"):
        hd.plotting.change_points(x, hd.DCDP())
    path = model.path(x)
    assert hd.plotting.penalty_path(path, model.penalty_).get_ylabel() == "change points"
    with pytest.raises(ValueError, match="path must be a PenaltyPath"):
        hd.plotting.penalty_path(3)
    plt.close("all")
