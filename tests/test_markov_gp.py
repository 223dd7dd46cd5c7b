"""hd.MarkovGP: its attributes, its answers' names and shapes, what does not change them, and files."""

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpyro import distributions as dist
from sklearn.exceptions import ConvergenceWarning

import hidamari as hd


def new(kernel=None, likelihood="gaussian", **arguments):
    return hd.MarkovGP(kernel, likelihood, **{"progress": False, **arguments})


def held(kernel=None, likelihood=None, **arguments):
    likelihood = hd.Gaussian(0.25) if likelihood is None else likelihood
    return new(
        hd.Matern(1, 2.0) if kernel is None else kernel, likelihood, learn=False, mean=0.0, **arguments
    )


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(7)
    t = np.sort(rng.uniform(0, 20, 150))
    return t, np.sin(t) + 5.0 + 0.2 * rng.standard_normal(150)


@pytest.fixture(scope="module")
def model(series):
    return new().fit(*series)


def test_what_a_fit_leaves(model):
    assert model.kernel_.order == 1 and 1.0 < model.kernel_.lengthscale < 10.0
    assert 0.02 < model.likelihood_.variance < 0.08
    assert model.mean_.shape == (1,) and model.vector_
    assert set(model.standard_errors_) == {
        "kernel.lengthscale",
        "kernel.variance",
        "likelihood.variance",
        "mean[0]",
    }
    assert all(0 < error < 10 for error in model.standard_errors_.values())
    assert model.converged_ and model.n_iter_ > 3 and model.message_.startswith("settled")
    assert model.score() == model.log_evidence_ / 150


def test_answers_have_names(model, series):
    found = model.smooth(derivatives=1)
    assert list(found.data_vars) == [
        "latent_mean",
        "latent_var",
        "mean",
        "lower",
        "upper",
        "derivative_mean",
        "derivative_var",
    ]
    assert found.latent_mean.dims == ("time",) and found.derivative_mean.dims == ("time", "derivative")
    assert (found.lower < found["mean"]).all() and (found["mean"] < found.upper).all()
    assert found.attrs["model"] == "MarkovGP(progress=False)"
    assert "lower" not in model.smooth(interval=None)
    assert np.abs(found["mean"] - np.sin(series[0]) - 5.0).max() < 0.4
    drawn = model.sample(3, [1.0, 2.0], observation=True)
    assert {name: drawn[name].dims for name in drawn.data_vars} == {
        "latent_draw": ("draw", "time"),
        "mean_draw": ("draw", "time"),
        "observation_draw": ("draw", "time"),
    }
    many = new().fit(np.arange(9.0), np.random.default_rng(0).standard_normal((9, 2)))
    assert many.sample(3).latent_draw.dims == ("draw", "time", "output")
    assert many.decompose().component_mean.dims == ("time", "output", "component")
    assert many.log_predictive(np.arange(9.0), np.zeros((9, 2))).log_density.dims == ("time", "output")


def test_order_of_asking(model):
    asked = np.array([30.0, -5.0, 3.0, 3.0])
    found = model.predict(asked)
    np.testing.assert_array_equal(found.time, asked)
    for i, time in enumerate(asked):
        one = model.predict([time])
        for name in found.data_vars:
            np.testing.assert_allclose(found[name][i], one[name][0], rtol=1e-9)


def test_outputs_share_a_kernel_and_have_their_own_mean_and_noise():
    rng = np.random.default_rng(1)
    t = np.arange(200) * 0.1
    y = np.stack([np.sin(t) + 3.0, np.cos(t) - 8.0], 1) + rng.standard_normal((200, 2)) * [0.1, 0.6]
    labelled = xr.DataArray(y, dims=("time", "output"), coords={"time": t, "output": ["a", "b"]})
    model = new().fit(labelled)
    np.testing.assert_allclose(np.sqrt(model.likelihood_.variance), [0.1, 0.6], rtol=0.3)
    assert {"likelihood.variance[1]", "mean[1]"} <= set(model.standard_errors_)
    assert model.smooth().output.values.tolist() == ["a", "b"]
    shared = new(likelihood=hd.Gaussian(0.1)).fit(labelled)
    assert np.ndim(shared.likelihood_.variance) == 0


def test_probabilities_and_rates():
    rng = np.random.default_rng(2)
    t = np.arange(120) * 0.25
    chance = 1 / (1 + np.exp(-2 * np.sin(t)))
    found = new(likelihood="bernoulli").fit(t, rng.random(120) < chance).smooth()
    assert ((found.lower > 0) & (found.upper < 1)).all()
    assert np.corrcoef(found["mean"], chance)[0, 1] > 0.8
    model = new(likelihood="poisson").fit(t, rng.poisson(0.25 * 20 * chance), exposure=0.25)
    assert np.abs(model.smooth()["mean"] / (20 * chance) - 1).median() < 0.35
    counted = model.predict(t[:3], observation=True)
    np.testing.assert_allclose(counted["mean"], 0.25 * model.predict(t[:3])["mean"], rtol=1e-12)
    assert (counted.lower.values == np.floor(counted.lower.values)).all()


def test_what_is_held(series):
    t, y = series
    found = new(hd.Matern(1, 3.0), fixed=["kernel", "mean"]).fit(t, y)
    assert found.kernel_ == hd.Matern(1, 3.0) and set(found.standard_errors_) == {"likelihood.variance"}
    found = new(fixed={"kernel.lengthscale": 2.5, "mean": 4.0, "likelihood": None}).fit(t, y)
    assert found.kernel_.lengthscale == 2.5 and found.mean_.tolist() == [4.0]
    assert set(found.standard_errors_) == {"kernel.variance"}
    found = new(mean=5.0).fit(t, y)
    assert found.mean_.tolist() == [5.0] and "mean[0]" not in found.standard_errors_
    still = new(hd.Matern(1, 3.0), hd.Gaussian(0.1), learn=False).fit(t, y)
    assert still.mean_[0] == pytest.approx(y.mean()) and still.n_iter_ == 0
    exact = new(likelihood=hd.Gaussian(0.0)).fit(t[:20], y[:20])
    assert "mean[0]" not in exact.standard_errors_ and exact.likelihood_.variance == 0.0
    np.testing.assert_allclose(exact.smooth()["mean"], y[:20], rtol=1e-8)


def test_known_error_bars(series):
    t, y = series
    found = new(fixed={"likelihood.variance": 0}).fit(t, y, error=0.2)
    assert found.likelihood_.variance == 0.0 and "kernel.lengthscale" in found.standard_errors_
    other = held(found.kernel_, hd.Gaussian(0.04)).fit(t, y - found.mean_[0])
    np.testing.assert_allclose(found.smooth()["mean"], other.smooth()["mean"] + found.mean_[0], rtol=1e-8)


def test_priors_pull(series):
    t, y = series
    tight = new(priors={"lengthscale": dist.LogNormal(np.log(0.5), 0.01)}).fit(t, y)
    assert tight.kernel_.lengthscale == pytest.approx(0.5, rel=0.05)
    assert tight.log_evidence_ < new().fit(t, y).log_evidence_
    pulled = new(priors={"mean": dist.Normal(9.0, 0.001)}).fit(t, y)
    assert pulled.mean_[0] == pytest.approx(9.0, abs=0.01)


def test_one_warning_when_it_does_not_settle(series):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = new(max_iter=1).fit(*series)
    assert [w.category for w in caught] == [ConvergenceWarning]
    assert not found.converged_ and "max_iter=1" in found.message_
    assert np.isfinite(found.smooth()["mean"]).all()


def test_no_time_before_a_kernel_that_begins():
    model = held(hd.Wiener(1.0)).fit([3.0, 1.0, 2.0], [1.0, 2.0, 3.0])
    assert np.isfinite(model.predict([1.0, 9.0])["mean"]).all()
    with pytest.raises(
        ValueError, match=r"times has 0\.5, before the first of trial 0, 1: .* not stationary"
    ):
        model.predict([0.5])


def test_hyperparameters_from_their_posterior(series, tmp_path):
    t, y = series[0][:40], series[1][:40]
    model = new(fixed=["mean", "likelihood"]).fit(t, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        tree = model.mcmc(30, 40, 1)
    assert dict(tree["posterior"].sizes) == {"chain": 1, "draw": 40}
    assert set(model.posterior_) == {"kernel.lengthscale", "kernel.variance"}
    found = model.predict([1.0, 30.0], hyperparameters="posterior", n_draws=20)
    alone = model.predict([1.0, 30.0])
    assert found.latent_mean.shape == (2,) and not found.identical(alone)
    # the mixture: by hand from single models
    moments = []
    draws = np.stack([model.posterior_[name].ravel() for name in model.posterior_], 1)
    for i in np.round(np.linspace(0, 39, 20)).astype(int):
        kernel = hd.Matern(1, **dict(zip(["lengthscale", "variance"], draws[i])))
        other = new(kernel, model.likelihood_, mean=model.mean_, learn=False).fit(t, y)
        moments.append(other.predict([1.0, 30.0]))
    means = np.stack([one.latent_mean.values for one in moments])
    variances = np.stack([one.latent_var.values for one in moments])
    np.testing.assert_allclose(found.latent_mean, means.mean(0), rtol=1e-9)
    np.testing.assert_allclose(found.latent_var, variances.mean(0) + means.var(0), rtol=1e-9)
    from scipy.stats import norm

    below = norm.cdf(found.upper.values, means, np.sqrt(variances)).mean(0)
    np.testing.assert_allclose(below, 0.975, rtol=1e-9)
    assert model.sample(4, [1.0], hyperparameters="posterior").latent_draw.shape == (4, 1)
    model.save(tmp_path / "model.npz")
    again = hd.load(tmp_path / "model.npz")
    assert again.predict([1.0, 30.0], hyperparameters="posterior", n_draws=20).identical(found)
    assert not hasattr(model.fit(t, y), "posterior_")


def test_files_hold_dates_and_names(tmp_path):
    import pandas as pd

    index = pd.date_range("1999-12-30", periods=6, freq="h")
    model = held(time_unit="h").fit(pd.DataFrame({"a": np.arange(6.0), "b": np.ones(6)}, index=index))
    model.save(tmp_path / "model.npz")
    loaded = hd.load(tmp_path / "model.npz")
    assert loaded.smooth().identical(model.smooth())
    loaded.smooth().to_netcdf(tmp_path / "answer.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "answer.nc", engine="h5netcdf") as back:
        np.testing.assert_array_equal(back.time, index.to_numpy())
        assert back.output.values.tolist() == ["a", "b"]


PRIORS = [
    dist.Beta(2.0, 3.0),
    dist.Cauchy(0.5, 2.0),
    dist.Exponential(2.0),
    dist.Gamma(2.0, 3.0),
    dist.Gumbel(0.5, 2.0),
    dist.HalfCauchy(2.0),
    dist.HalfNormal(2.0),
    dist.InverseGamma(2.0, 3.0),
    dist.Laplace(0.5, 2.0),
    dist.LogNormal(0.5, 2.0),
    dist.LogUniform(0.1, 2.0),
    dist.Normal(0.5, 2.0),
    dist.StudentT(3.0, 0.5, 2.0),
    dist.Uniform(0.1, 2.0),
]


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: type(prior).__name__)
def test_files_hold_priors(prior, tmp_path):
    new(priors={"lengthscale": prior}).save(tmp_path / "model.npz")
    back = hd.load(tmp_path / "model.npz").priors["lengthscale"]
    assert type(back) is type(prior) and back.log_prob(0.7) == prior.log_prob(0.7)


def test_files_hold_no_other_distribution(tmp_path):
    with pytest.raises(ValueError, match=r"'priors' cannot be saved: found Normal.* common priors"):
        new(priors={"mean": dist.Normal(np.zeros(2), 1.0)}).save(tmp_path / "model.npz")


# -------------------------------------------------------------------- what the answers must not notice

FAST = settings(max_examples=25, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**31)
AT = np.array([-1.0, 0.3, 4.0, 11.0])


def draw_series(seed, T=15):
    rng = np.random.default_rng(seed)
    t, y = rng.integers(0, 64, T) / 8.0, rng.standard_normal(T)  # eighths: shifts are exact; some repeat
    y[rng.random(T) < 0.15] = np.nan
    return rng, t, y


def moments(model, at=AT):
    found = model.predict(at)
    return found.latent_mean.values, found.latent_var.values


def assert_close(one, two, rtol=1e-9):
    for a, b in zip(one, two):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


@FAST
@given(SEEDS, st.integers(-60, 60))
def test_units_of_y(seed, power):
    _, t, y = draw_series(seed)
    a = 2.0**power
    one = held(hd.Matern(2, 2.0, 1.5)).fit(t, y)
    two = held(hd.Matern(2, 2.0, 1.5 * a * a), hd.Gaussian(0.25 * a * a)).fit(t, a * y)
    for x, z, scale in zip(moments(one), moments(two), (a, a * a)):
        np.testing.assert_array_equal(z, x * scale)
    n = np.isfinite(y).sum()
    assert two.log_evidence_ == pytest.approx(
        one.log_evidence_ - n * power * np.log(2.0), rel=1e-11, abs=1e-9
    )


@FAST
@given(SEEDS, st.integers(-1000, 1000), st.integers(-20, 20))
def test_units_and_origin_of_time(seed, shift, power):
    _, t, y = draw_series(seed)
    one = held(hd.Matern(1, 2.0)).fit(t, y)
    assert_close(moments(one), moments(held(hd.Matern(1, 2.0)).fit(t + shift, y), AT + shift))
    a = 2.0**power
    assert_close(moments(one), moments(held(hd.Matern(1, 2.0 * a)).fit(t * a, y), AT * a))


@FAST
@given(SEEDS)
def test_order_and_direction_of_time(seed):
    rng, t, y = draw_series(seed)
    kernel = hd.HidaMatern(1, 2.0, 0.3)
    one = held(kernel).fit(t, y)
    order = rng.permutation(len(t))
    assert_close(moments(one), moments(held(kernel).fit(t[order], y[order])))
    assert_close(moments(one), moments(held(kernel).fit(-t, y), -AT))
    found = held(kernel).fit(t[order], y[order]).smooth()
    np.testing.assert_allclose(
        found.latent_mean, one.smooth().latent_mean.values[order], rtol=1e-9, atol=1e-12
    )


@FAST
@given(SEEDS)
def test_readings_split_missing_and_more(seed):
    rng, t, y = draw_series(seed)
    one = held().fit(t, y)
    twice = held(None, hd.Gaussian(0.5)).fit(np.tile(t, 2), np.tile(y, 2))
    assert_close(moments(one), moments(twice))
    assert_close(moments(one), moments(held().fit(np.append(t, 3.3), np.append(y, np.nan))))
    more = held().fit(np.append(t, 3.3), np.append(y, 1.0))
    assert (moments(more)[1] <= moments(one)[1] * (1 + 1e-12)).all()
    assert (moments(one)[1] > 0).all() and (moments(one)[1] <= 1.0 + 1e-12).all()
    halves = held(hd.Matern(1, 2.0, 0.5) + hd.Matern(1, 2.0, 0.5)).fit(t, y)
    assert_close(moments(one), moments(halves), 1e-8)


@FAST
@given(SEEDS)
def test_counts_do_not_notice_order_and_origin(seed):
    rng, t, y = draw_series(seed)
    y = np.where(np.isnan(y), np.nan, np.floor(np.exp(np.nan_to_num(y))))
    one = held(None, hd.Poisson()).fit(t, y)
    order = rng.permutation(len(t))
    two = held(None, hd.Poisson()).fit(t[order] + 512.0, y[order])
    assert_close(moments(one), moments(two, AT + 512.0), 1e-6)
    assert one.log_evidence_ == pytest.approx(two.log_evidence_, rel=1e-9)


def test_learning_does_not_notice_units(series):
    t, y = series
    one, two = new().fit(t, y), new().fit(t / 64.0 + 8.0, y * 1e-9)
    assert two.kernel_.lengthscale * 64.0 == pytest.approx(one.kernel_.lengthscale, rel=1e-3)
    assert two.likelihood_.variance * 1e18 == pytest.approx(one.likelihood_.variance, rel=1e-3)
    assert two.log_evidence_ == pytest.approx(one.log_evidence_ + 150 * np.log(1e9), rel=1e-6)


@pytest.mark.parametrize("order", [0, 1, 3, 6])
@pytest.mark.parametrize("noise", [1e-12, 1e-4, 1e4])
@pytest.mark.parametrize("length", [1e-6, 1.0, 1e8])
def test_extremes_are_finite(order, noise, length):
    t = np.array([0.0, 1e-300, 1.0, 1.0, 2.0, 50.0])
    y = np.array([0.1, 0.1, 0.3, 0.3, -0.2, 1.0])
    found = held(hd.Matern(order, length), hd.Gaussian(noise)).fit(t, y)
    answer = found.predict(np.append(t, [-1e200, 0.5, 1e200]))
    assert np.isfinite(found.log_evidence_) and np.isfinite(answer.latent_mean).all()
    assert ((answer.latent_var >= 0) & (answer.latent_var <= 1 + 1e-9)).all()
    np.testing.assert_allclose(answer.latent_mean[[-3, -1]], 0.0, atol=1e-12)


def test_a_long_series():
    T = 100_000
    t = np.arange(T) * 0.01
    y = np.sin(t) + 0.3 * np.random.default_rng(0).standard_normal(T)
    model = held(hd.Matern(1, 1.0), hd.Gaussian(0.09)).fit(t, y)
    assert np.abs(model.predict(t[::1000] + 0.003)["mean"] - np.sin(t[::1000])).max() < 0.3
