"""The door of Markovian GP autoencoders: exact for linear models, the same whatever the form of the data."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import multivariate_normal, norm

import hidamari as hd

pytest.importorskip("equinox")
pytest.importorskip("optax")

SMALL = {"n_latents": 2, "decoder": (), "encoder": (), "max_epochs": 0, "progress": False}


def example(rng, n=3, T=20, D=4):
    """Sequences of a linear model with holes: single entries, whole frames, both ends of one."""
    t = np.arange(T) * 1.0
    Y = np.stack([np.sin(t[:, None] / 3 + rng.uniform(0, 6) + np.arange(D)) for _ in range(n)])
    Y += 0.2 * rng.standard_normal(Y.shape) + np.arange(D)
    Y[rng.random(Y.shape) < 0.3] = np.nan
    Y[0, 5:8] = Y[1, 0] = Y[1, -1] = np.nan
    return Y


@pytest.fixture(scope="module")
def Y():
    return example(np.random.default_rng(0))


@pytest.fixture(scope="module")
def model(Y):
    return hd.MGPVAE(**SMALL).fit(Y)


@pytest.fixture(scope="module")
def bent(Y):
    """A model whose networks are not at zero, not learnt."""
    model = hd.MGPVAE(**SMALL | {"decoder": (6,), "encoder": (5,)}).fit(Y)
    rng = np.random.default_rng(1)
    model.networks_ = {
        name: (a + 0.3 * rng.standard_normal(a.shape)).astype(a.dtype) for name, a in model.networks_.items()
    }
    return model


def dense(model, times, new):
    """Mean and covariance of frames at `times` then `new`, flat, by the fitted linear model without noise."""
    every = np.concatenate([times, new])
    C = model.loadings_
    K = sum(
        np.kron(kernel(np.subtract.outer(every, every)), np.outer(C[:, n], C[:, n]))
        for n, kernel in enumerate(model.kernels_)
    )
    return np.tile(model.bias_, len(every)), K


def conditioned(model, y, times, new):
    """The dense posterior of frames at `new` given y, and the log density of y."""
    mean, K = dense(model, times, new)
    n, D = y.size, y.shape[1]
    at = np.flatnonzero(~np.isnan(y.ravel()))
    noise = np.tile(model.noise_, len(times))
    S = K[np.ix_(at, at)] + np.diag(noise[at])
    gain = np.linalg.solve(S, K[at]).T
    m = mean + gain @ (y.ravel()[at] - mean[at])
    v = np.diag(K - gain @ K[at])
    log_evidence = multivariate_normal(mean[at], S).logpdf(y.ravel()[at])
    return m[n:].reshape(-1, D), v[n:].reshape(-1, D), log_evidence


def test_linear_models_answer_as_a_dense_process_does(model, Y):
    times, new = np.arange(20.0), np.array([-3.0, 5.5, 6.0, 19.0, 40.0])
    predicted, again = model.predict(new), model.predict(times)
    total = 0.0
    for n in range(3):
        m, v, log_evidence = conditioned(model, Y[n], times, new)
        np.testing.assert_allclose(predicted["mean"][n], m, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(predicted["var"][n], v + model.noise_, rtol=1e-8)
        m, v, _ = conditioned(model, Y[n], times, times)
        np.testing.assert_allclose(model.reconstruct()["mean"][n], m, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(model.reconstruct()["var"][n], v, rtol=1e-6, atol=1e-10)
        np.testing.assert_allclose(again["var"][n], v + model.noise_, rtol=1e-7)
        total += log_evidence
    np.testing.assert_allclose(model.score(), total / np.isfinite(Y).sum(), rtol=1e-10)


def test_imputation_keeps_what_was_observed(model, Y):
    filled, seen = model.impute(n_draws=400, random_state=1), ~np.isnan(Y)
    np.testing.assert_array_equal(filled["mean"].values[seen], Y[seen])
    np.testing.assert_array_equal(filled["observation_draw"].values[:, seen], np.tile(Y[seen], (400, 1)))
    assert (filled["var"].values[seen] == 0).all() and (filled["var"].values[~seen] > 0).all()
    for n in range(3):
        m, v, _ = conditioned(model, Y[n], np.arange(20.0), np.arange(20.0))
        gone, v = ~seen[n], v + model.noise_
        draws = filled["observation_draw"].values[:, n][:, gone]
        np.testing.assert_allclose(filled["mean"].values[n][gone], m[gone], atol=1e-9)
        assert np.abs((draws.mean(0) - m[gone]) / np.sqrt(v[gone] / 400)).max() < 4.5
        assert np.abs(draws.var(0) / v[gone] - 1).max() < 0.4


def test_draws_are_paths_and_not_single_times(model, Y):
    """Two times a hundredth of a lengthscale apart have draws that agree."""
    drawn = model.sample(50, np.array([0.0, 1e-4, 30.0]), random_state=0)["mean_draw"].values
    assert np.abs(drawn[:, 0] - drawn[:, 1]).max() < 1e-2 < np.abs(drawn[:, 0] - drawn[:, 2]).max()


def test_log_densities_of_linear_models_are_normal(model, Y):
    truth = np.where(np.isnan(Y), 0.5, np.nan)
    found = model.log_predictive(truth)["log_density"].values
    assert (np.isnan(found) == np.isnan(truth)).all()
    m, v, _ = conditioned(model, Y[0], np.arange(20.0), np.arange(20.0))
    exact = norm.logpdf(0.5, m, np.sqrt(v + model.noise_))
    asked = ~np.isnan(truth[0])
    np.testing.assert_allclose(found[0][asked], exact[asked], rtol=1e-8)


def test_log_densities_through_a_network_integrate_to_one(bent, Y):
    grid = np.linspace(-20, 20, 301)
    truth = np.full((301, *Y[0].shape), np.nan)
    truth[:, 6] = grid[:, None]  # a frame of which nothing was seen
    found = bent.log_predictive(truth, np.stack([Y[0]] * 301))["log_density"].values[:, 6]
    np.testing.assert_allclose(np.exp(found).sum(0) * (grid[1] - grid[0]), 1, atol=0.01)


def test_far_ahead_is_the_prior_and_forecasts_are_predictions(model):
    far = model.predict([1e6])
    np.testing.assert_allclose(far["latent_mean"], 0, atol=1e-12)
    np.testing.assert_allclose(far["latent_var"], 1, atol=1e-9)
    ahead = model.forecast(3)
    assert ahead.time.values.tolist() == [20.0, 21.0, 22.0]
    np.testing.assert_allclose(ahead["mean"], model.predict([20.0, 21.0, 22.0])["mean"], rtol=1e-12)


def test_answers_do_not_depend_on_what_else_is_asked(bent, Y):
    whole = bent.predict([3.0, 7.5, 30.0], Y)
    for n in range(3):
        alone = bent.predict([7.5], Y[n])
        for name in ("mean", "var", "latent_mean", "latent_var"):
            np.testing.assert_allclose(alone[name][0], whole[name][n, 1], rtol=1e-5, atol=1e-7)


def test_networks_bend_the_answers_and_refinement_raises_the_bound(bent, model, Y):
    assert np.abs(bent.reconstruct()["mean"] - model.reconstruct()["mean"]).max() > 0.1
    plain = bent.score()
    refined = hd.MGPVAE(**bent.get_params() | {"refinements": 3})
    vars(refined).update({name: value for name, value in vars(bent).items() if name.endswith("_")})
    assert refined.score() > plain


def test_moments_through_a_network_agree_with_draws(bent, Y):
    filled = bent.impute(n_draws=2000, random_state=0)
    gone = np.isnan(Y)
    draws, v = filled["observation_draw"].values[:, gone], filled["var"].values[gone]
    assert np.abs(draws.mean(0) - filled["mean"].values[gone]).max() < 0.25 * np.sqrt(v).min()
    assert np.abs(np.log(draws.var(0) / v)).max() < 0.3


def test_forms_of_the_same_sequences_have_the_same_answer(model, Y):
    times = 5.0 + np.arange(20) * 0.5
    names = list("abcd")
    whole = model.transform(Y, times)
    labelled = xr.DataArray(Y, dims=("trial", "time", "unit"), coords={"time": times, "unit": names})
    mask = ~np.isnan(Y)
    filled = np.where(mask, Y, 77.0)
    forms = {
        "list": (list(Y), [times] * 3, None),
        "table": (Y, np.tile(times, (3, 1)), None),
        "xarray": (labelled.transpose("unit", "time", "trial"), None, None),
        "mask": (filled, times, mask),
        "masked array": (np.ma.array(filled, mask=~mask), times, None),
        "list of masks": (list(filled), times, list(mask)),
        "float32": (Y.astype(np.float32).astype(object).tolist(), times, None),
    }
    for name, given in forms.items():
        found = model.transform(*given)
        loose = 1e-5 if name == "float32" else 1e-12
        np.testing.assert_allclose(found.latent_mean, whole.latent_mean, rtol=loose, atol=loose, err_msg=name)
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(Y[0], index=times, columns=names)
    np.testing.assert_allclose(model.transform(table).latent_mean, whole.latent_mean[0], rtol=1e-12)
    assert model.transform(table).time.values.tolist() == times.tolist()


def test_sequences_of_any_length_at_any_times(model, Y):
    rng = np.random.default_rng(2)
    times = [np.sort(rng.uniform(0, 20, n)) for n in (20, 7, 1)]
    times[0][3] = times[0][2]  # twice at once
    parts = [Y[0], Y[1, :7], Y[2, :1]]
    found = model.impute(parts, times=times)
    for n, (own, at) in enumerate(zip(parts, times)):
        m, v, _ = conditioned(model, own, at, at)
        got = found["mean"].values[n, : len(at)]
        np.testing.assert_allclose(got, np.where(np.isnan(own), m, own), atol=1e-8)
        assert np.isnan(found["mean"].values[n, len(at) :]).all()
    assert found["n_bins"].values.tolist() == [20, 7, 1]
    np.testing.assert_array_equal(found["trial_time"].values[1, :7], times[1])


def test_dates_come_back_as_dates(Y):
    days = np.datetime64("2024-01-01", "ns") + np.arange(20) * np.timedelta64(1, "D")
    model = hd.MGPVAE(**SMALL).fit(Y[0], days)
    assert (model.impute().time.values == days).all()
    assert model.forecast(1).time.values[0] == days[-1] + np.timedelta64(1, "D")


def test_images_keep_their_shape(Y):
    model = hd.MGPVAE(**SMALL).fit(Y.reshape(3, 20, 2, 2))
    found = model.impute(n_draws=2)
    assert dict(found["observation_draw"].sizes) == {"draw": 2, "trial": 3, "time": 20, "row": 2, "column": 2}
    assert dict(model.reconstruct(Y[0].reshape(20, 2, 2))["mean"].sizes) == {
        "time": 20,
        "row": 2,
        "column": 2,
    }
    flat = model.reconstruct(Y[:1].reshape(1, 20, 2, 2))["mean"].values.reshape(20, 4)
    np.testing.assert_allclose(model.reconstruct(Y[0].reshape(20, 2, 2))["mean"].values.reshape(20, 4), flat)


@pytest.mark.parametrize(("likelihood", "top"), [("poisson", np.inf), ("bernoulli", 1.0)])
def test_counts_and_yes_or_no(likelihood, top):
    rng = np.random.default_rng(3)
    eta = np.sin(np.arange(20)[:, None] / 3 + np.arange(4))
    Y = (
        rng.poisson(2 * np.exp(eta)) * 1.0
        if top > 1
        else (rng.random(eta.shape) < 1 / (1 + np.exp(-3 * eta))) * 1.0
    )
    Y[5:7] = np.nan
    model = hd.MGPVAE(**SMALL | {"likelihood": likelihood, "bin_s": 0.5}).fit(Y)
    filled = model.impute(n_draws=3)
    assert (filled["mean"] > 0).any() and (filled["mean"] >= 0).all() and (filled["mean"] <= top).all()
    assert (filled["observation_draw"] == np.round(filled["observation_draw"])).all()
    assert filled.time.values[0] == 0.25
    lead = model.log_predictive(np.where(np.isnan(Y), 1.0, np.nan))["log_density"].values[5:7]
    assert (lead < 0).all() and np.isfinite(model.score())


def test_files_hold_networks(bent, tmp_path):
    bent.save(tmp_path / "model.npz")
    loaded = hd.load(tmp_path / "model.npz")
    assert loaded.impute().identical(bent.impute())
    assert {a.dtype for a in loaded.networks_.values()} == {np.dtype("float32")}


def test_models_start_at_linear_factor_analysis(model, Y):
    reference = hd.CVHM(2, likelihood="gaussian", bin_s=1.0, kernel=hd.Matern(1, 4.0)).fit(list(Y))
    same = hd.MGPVAE(**SMALL | {"kernel": hd.Matern(1, 4.0)}).fit(Y)
    truth, gone = model.impute()["mean"].values, np.isnan(Y)
    for other in (reference.smooth().rate.values, same.impute()["mean"].values):
        assert np.abs(other - truth)[gone].mean() < 0.2


def test_kernels_of_a_period_are_its_harmonics():
    rng, t = np.random.default_rng(4), np.arange(40.0)
    Y = np.stack([np.cos(2 * np.pi * (t[:, None] / 9.3 + rng.uniform()) + np.arange(4)) for _ in range(6)])
    Y += 0.1 * rng.standard_normal(Y.shape)
    model = hd.MGPVAE(**SMALL | {"n_latents": 4, "period": "auto", "harmonics": 1}).fit(Y)
    assert abs(model.period_ - 9.3) < 0.15
    assert abs(hd.MGPVAE(**SMALL | {"period": 9.0, "harmonics": 1}).fit(Y).period_ - 9.0) < 0.5
