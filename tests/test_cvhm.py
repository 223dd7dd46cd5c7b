"""hd.CVHM: what its methods answer, against dense algebra and against each other."""

import numpy as np
import oracles
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning

import hidamari as hd
from hidamari.datasets import simulate_spikes

DT = 0.02
TRUTH = [hd.Matern(1, 0.3), hd.HidaMatern(1, 0.6, 1.2)]
LENGTHS = [50, 20, 35]


def new(n_latents=2, **arguments):
    return hd.CVHM(n_latents, **{"bin_s": DT, "tol": 1e-3, "progress": False, **arguments})


@pytest.fixture(scope="module")
def sim():
    return simulate_spikes(TRUTH, n_units=10, n_bins=LENGTHS, mean_count=1.0, random_state=3)


@pytest.fixture(scope="module")
def model(sim):
    return new(kernel=TRUTH).fit(sim.y)


@pytest.fixture(scope="module")
def smoothed(model):
    return model.smooth()


def clock(n):
    return (np.arange(n) + 0.5) * DT


def dense(model, data_times, times, j, J):
    """Posterior of the latents at `times`, from the kernels as functions and sites at `data_times`."""
    every = np.concatenate([data_times, times])
    n, K = len(every), len(model.kernels_)
    S = np.zeros((n, K, n, K))
    for c, kernel in enumerate(model.kernels_):
        S[:, c, :, c] = kernel(np.subtract.outer(every, every))
    first, second = np.zeros((n, K)), np.zeros((n, K, K))
    first[: len(j)], second[: len(j)] = j, J
    mean, V, _ = oracles.condition(
        np.zeros(n * K), S.reshape(n * K, n * K), first.ravel(), oracles.dense_precision(second)
    )
    mean, V = mean.reshape(n, K), np.einsum("tatb->tab", V.reshape(n, K, n, K))
    return mean[len(j) :], V[len(j) :]


def trial_sites(model, trial):
    rows = slice(sum(LENGTHS[:trial]), sum(LENGTHS[: trial + 1]))
    return model.sites_j_[rows], model.sites_J_[rows]


# --------------------------------------------------------------------------------------- the answers


def test_smooth_is_the_dense_posterior_of_its_sites(model, smoothed):
    for trial, n in enumerate(LENGTHS):
        mean, cov = dense(model, clock(n), clock(n), *trial_sites(model, trial))
        one = smoothed.isel(trial=trial, time=slice(n))
        np.testing.assert_allclose(one.latent_mean, mean, rtol=0, atol=1e-8)
        np.testing.assert_allclose(one.latent_cov, cov, rtol=0, atol=1e-8)
        np.testing.assert_allclose(one.latent_var, np.einsum("tkk->tk", cov), rtol=0, atol=1e-8)
        mu = mean @ model.loadings_.T + model.bias_
        v = np.einsum("na,tab,nb->tn", model.loadings_, cov, model.loadings_)
        np.testing.assert_allclose(one.rate, np.exp(mu + v / 2), rtol=1e-7)


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(clock(50)[5:9] + 0.3 * DT, id="between"),
        pytest.param(np.array([-0.4, -0.1, 0.003]), id="before"),
        pytest.param(np.array([0.999, 1.2, 30.0]), id="beyond"),
        pytest.param(clock(50)[[0, 7, 19, 49]], id="on bins"),
        pytest.param(np.array([-1.0, 0.01, 0.0101, 0.3, 0.31, 0.405, 0.7, 2.0]), id="everywhere"),
        pytest.param(np.array([0.25]), id="one"),
    ],
)
def test_predict_is_the_dense_posterior(model, times):
    found = model.predict(times)
    assert dict(found.latent_mean.sizes) == {"trial": 3, "time": len(times), "latent": 2}
    np.testing.assert_allclose(found.time, times)
    for trial, n in enumerate(LENGTHS):
        mean, cov = dense(model, clock(n), times, *trial_sites(model, trial))
        one = found.isel(trial=trial)
        np.testing.assert_allclose(one.latent_mean, mean, rtol=0, atol=1e-8)
        np.testing.assert_allclose(one.latent_cov, cov, rtol=0, atol=1e-8)


def test_predict_on_the_bins_is_smooth(model, smoothed):
    found = model.predict(clock(20))
    np.testing.assert_allclose(found.rate, smoothed.rate[:, :20], rtol=1e-9)


def test_forecast_is_predict_beyond_the_end(model):
    found = model.forecast(4)
    assert dict(found.rate.sizes) == {"trial": 3, "time": 4, "unit": 10}
    for trial, n in enumerate(LENGTHS):
        times = clock(n + 4)[n:]
        expected = model.predict(times).isel(trial=trial)
        np.testing.assert_allclose(found.latent_mean[trial], expected.latent_mean, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found.latent_var[trial], expected.latent_var, rtol=0, atol=1e-10)
    one = new(kernel=TRUTH, max_iter=300).fit(np.ones((10, 3))).forecast(2)
    np.testing.assert_allclose(one.time, clock(12)[10:])


def test_samples_have_the_moments_of_the_posterior(model, smoothed):
    n = 3000
    draws = model.sample(n, random_state=1)
    assert draws.latent_draw.dims == ("draw", "trial", "time", "latent")
    assert draws.rate.dims == ("draw", "trial", "time", "unit")
    f = draws.latent_draw.values[:, 0]
    mean, var = (smoothed[name].values[0] for name in ("latent_mean", "latent_var"))
    z = (f.mean(0) - mean) / np.sqrt(var / n)
    assert np.abs(z).max() < 4.5 and np.sqrt(np.mean(z**2)) < 1.6
    ratio = f.var(0) / var
    assert np.abs(ratio - 1).max() < 4.5 * np.sqrt(2 / n)
    # the covariance of neighbouring bins, which marginals know nothing of
    j, J = trial_sites(model, 0)
    both = np.einsum("nta,nsb->tasb", f[:, :2] - mean[:2], f[:, :2] - mean[:2]) / n
    exact = pair_covariance(model, j, J)
    error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / n)
    assert (np.abs(both.reshape(4, 4) - exact) < 4.5 * error).all()
    eta = f @ model.loadings_.T + model.bias_
    np.testing.assert_allclose(draws.rate.values[:, 0], np.exp(eta), rtol=1e-12)
    # short trials are padded
    assert np.isnan(draws.latent_draw.values[:, 1, 20:]).all()


def pair_covariance(model, j, J):
    """Posterior covariance of the latents of the first two bins, dense."""
    times, K = clock(len(j)), len(model.kernels_)
    S = np.zeros((len(j), K, len(j), K))
    for c, kernel in enumerate(model.kernels_):
        S[:, c, :, c] = kernel(np.subtract.outer(times, times))
    n = len(j) * K
    _, V, _ = oracles.condition(np.zeros(n), S.reshape(n, n), j.ravel(), oracles.dense_precision(J))
    return V[: 2 * K, : 2 * K]


def test_samples_repeat_with_their_seed(model):
    one, two, three = (model.sample(2, random_state=s).latent_draw.values for s in (5, 5, 6))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one[0, 0], three[0, 0])
    assert not np.array_equal(one[0, 0], one[1, 0])
    np.testing.assert_array_equal(model.sample(2).latent_draw.values, model.sample(2).latent_draw.values)


def test_score_is_the_log_marginal_likelihood_for_gaussian_noise(rng):
    """Everything given: score = log p(y) / number of readings, and its history is that, too."""
    C, b, variance = rng.normal(size=(3, 2)), rng.normal(size=3), np.array([0.2, 0.5, 1.0])
    y = [rng.normal(size=(n, 3)) for n in (8, 5)]
    y[0][2, 1] = y[1][4] = np.nan
    fixed = {"loadings": C, "bias": b, "kernel": None, "likelihood": None}
    model = new(kernel=TRUTH, likelihood=hd.Gaussian(variance), fixed=fixed).fit(y)
    log_p, count = 0.0, 0
    for values in y:
        n = len(values)
        gap = np.subtract.outer(clock(n), clock(n))
        G = sum(np.kron(k(gap), np.outer(c, c)) for k, c in zip(TRUTH, C.T)) + np.diag(np.tile(variance, n))
        seen = ~np.isnan(values.ravel())
        log_p += multivariate_normal.logpdf(values.ravel()[seen], np.tile(b, n)[seen], G[np.ix_(seen, seen)])
        count += seen.sum()
    assert model.score() == pytest.approx(log_p / count, rel=1e-11)
    assert model.score(y) == pytest.approx(log_p / count, rel=1e-11)
    assert model.elbo_[-1] == pytest.approx(log_p, rel=1e-11)
    np.testing.assert_array_equal(model.likelihood_.variance, variance)


def test_score_of_the_fit_and_of_the_same_data_agree(model, sim):
    assert model.score(sim.y) == pytest.approx(model.score(), rel=1e-6)
    assert model.score([y + 3 for y in sim.y]) < model.score()


def test_the_data_of_the_fit_given_again(model, sim, smoothed):
    again = model.smooth(sim.y)
    np.testing.assert_allclose(again.latent_mean, smoothed.latent_mean, rtol=0, atol=2e-3)
    np.testing.assert_allclose(
        model.predict([0.1, 0.33], sim.y).rate, model.predict([0.1, 0.33]).rate, rtol=5e-3
    )
    np.testing.assert_allclose(model.forecast(2, sim.y).rate, model.forecast(2).rate, rtol=5e-3)


def test_held_out_entries_are_predicted(sim, model):
    """Units set to NaN have rates from the others, closer to the truth than their mean is."""
    y = [values.copy() for values in sim.y]
    best = np.argsort(-np.abs(sim.loadings).sum(1))[:2]
    for values in y:
        values[:, best] = np.nan
    rate = np.concatenate([r[:n] for r, n in zip(model.smooth(y).rate.values, LENGTHS)])[:, best]
    truth = np.concatenate(sim.rate)[:, best]
    error = ((np.log(rate) - np.log(truth)) ** 2).mean()
    null = ((np.log(truth) - np.log(truth.mean(0))) ** 2).mean()
    assert np.isfinite(rate).all() and error < 0.5 * null


def test_missing_is_not_silent(sim):
    y = [values.copy() for values in sim.y]
    y[0][10:30] = np.nan
    z = [np.where(np.isnan(values), 0.0, values) for values in y]
    fixed = {"loadings": sim.loadings, "bias": sim.bias, "kernel": None}
    gap, zero = (new(kernel=TRUTH, fixed=fixed).fit(v).smooth() for v in (y, z))
    assert gap.latent_var[0, 20].sum() > 1.5 * zero.latent_var[0, 20].sum()


# ---------------------------------------------------------------------------- forms of data and result


def test_one_recording_has_no_trial_dimension(sim):
    found = new().fit(sim.y[0])
    posterior = found.smooth()
    assert posterior.latent_mean.dims == ("time", "latent")
    assert posterior.rate.dims == ("time", "unit")
    assert found.predict([0.1]).rate.dims == ("time", "unit")
    assert found.forecast(3).rate.sizes["time"] == 3
    assert found.sample(2).latent_draw.dims == ("draw", "time", "latent")
    np.testing.assert_allclose(posterior.time, clock(50))
    assert posterior.rate.attrs["units"] == "spikes/s" and posterior.attrs["bin_s"] == DT


def test_the_same_data_in_other_forms(sim):
    y = np.stack([values[:20] for values in sim.y])
    want = new().fit(y).smooth().rate.values
    for form in (
        list(y),
        y.astype(np.uint8),
        np.asfortranarray(y),
        y.astype(">f4"),
        xr.DataArray(y, dims=("trial", "time", "unit")).transpose("unit", "time", "trial"),
        [pd.DataFrame(values) for values in y],
        np.ma.masked_array(y, mask=np.zeros(y.shape, bool)),
    ):
        np.testing.assert_array_equal(new().fit(form).smooth().rate.values, want)


def test_labels_and_times_come_back(sim):
    times = 3.0 + clock(50)
    names = [f"n{i}" for i in range(10)]
    y = xr.DataArray(
        sim.y[0], dims=("time", "unit"), coords={"time": times, "unit": names}, attrs={"bin_s": DT}
    )
    found = hd.CVHM(2, tol=1e-3, progress=False).fit(y)
    assert found.bin_s_ == DT
    posterior = found.smooth()
    np.testing.assert_allclose(posterior.time, times)
    assert list(posterior.unit.values) == names == list(found.unit_names_)
    np.testing.assert_allclose(found.predict(times[5:8]).rate, posterior.rate[5:8], rtol=1e-7)
    np.testing.assert_allclose(found.forecast(2).time, 3.0 + clock(52)[50:])


def test_padding_with_nan_is_the_same_as_shorter_trials(sim):
    """Given a model, rows of NaN behind a trial change nothing before them."""
    fixed = {"loadings": sim.loadings, "bias": sim.bias, "kernel": None}
    shorter = new(kernel=TRUTH, fixed=fixed).fit(sim.y)
    padded = np.full((3, 50, 10), np.nan)
    for trial, values in enumerate(sim.y):
        padded[trial, : len(values)] = values
    longer = new(kernel=TRUTH, fixed=fixed).fit(padded)
    assert longer.score() == pytest.approx(shorter.score(), rel=1e-9)
    one, two = shorter.smooth().latent_mean.values, longer.smooth().latent_mean.values
    seen = ~np.isnan(one)
    np.testing.assert_allclose(two[seen], one[seen], rtol=0, atol=1e-6)
    assert np.isfinite(two).all()


def test_a_unit_never_seen_is_as_good_as_absent(sim):
    fixed = {"loadings": sim.loadings, "bias": sim.bias, "kernel": None}
    found = new(kernel=TRUTH, fixed=fixed).fit(sim.y)
    more = [np.column_stack([values, np.full(len(values), np.nan)]) for values in sim.y]
    wider = {
        "loadings": np.vstack([sim.loadings, [1.0, -1.0]]),
        "bias": np.append(sim.bias, 2.0),
        "kernel": None,
    }
    other = new(kernel=TRUTH, fixed=wider).fit(more)
    np.testing.assert_allclose(other.smooth().latent_mean, found.smooth().latent_mean, rtol=0, atol=1e-6)
    assert other.score() == pytest.approx(found.score(), rel=1e-9)


@pytest.mark.parametrize(
    "likelihood", ["negative_binomial", "bernoulli", "gaussian", "student_t", hd.Binomial(4)], ids=str
)
def test_every_likelihood_from_end_to_end(rng, likelihood):
    y = np.minimum(rng.poisson(0.8, (40, 5)), 1 if likelihood == "bernoulli" else 4).astype(float)
    y[3, 2] = np.nan
    found = new(likelihood=likelihood, max_iter=300).fit(y)
    posterior = found.smooth()
    units = "spikes/s" if likelihood == "negative_binomial" else "1"
    assert posterior.rate.attrs["units"] == units
    for answer in (posterior.rate, found.predict([0.1]).rate, found.forecast(2).rate, found.sample(2).rate):
        assert np.isfinite(answer).all()
    if likelihood != "student_t":  # whose centre is not the mean of counts
        level = posterior.rate.mean() * (DT if units == "spikes/s" else 1.0)
        assert float(level) == pytest.approx(np.nanmean(y), rel=0.15)
    assert np.isfinite(found.score()) and found.score(y) == pytest.approx(found.score(), rel=1e-3)


# ------------------------------------------------------------------------------------- what is learnt


def test_loadings_and_bias_can_be_given(sim):
    found = new(kernel=TRUTH[::-1], fixed={"loadings": sim.loadings[:, ::-1], "bias": sim.bias}).fit(sim.y)
    np.testing.assert_array_equal(found.loadings_, sim.loadings[:, ::-1])
    np.testing.assert_array_equal(found.bias_, sim.bias)
    assert isinstance(found.kernels_[0], hd.HidaMatern) and isinstance(found.kernels_[1], hd.Matern)
    assert found.kernels_[1] != TRUTH[0]


def test_a_free_bias_is_learnt_beside_given_loadings(sim):
    """The bias's own prior is learnt, so that it does not hold the bias at its start."""
    spread = np.linspace(-2, 2, 10)
    rng = np.random.default_rng(0)
    y = [rng.poisson(r * np.exp(spread) * DT).astype(float) for r in sim.rate]
    found = new(kernel=TRUTH, fixed={"loadings": sim.loadings, "kernel": None}, tol=1e-6).fit(y)
    np.testing.assert_allclose(found.bias_, sim.bias + spread, rtol=0, atol=0.5)
    assert np.abs(found.bias_ - sim.bias - spread).mean() < 0.15


def test_kernels_can_be_held(sim):
    same = new(kernel=TRUTH, fixed=["kernel"]).fit(sim.y)
    assert sorted(map(repr, same.kernels_)) == sorted(map(repr, TRUTH))
    none = new(kernel=TRUTH, learn_kernel=None).fit(sim.y)
    assert sorted(map(repr, none.kernels_)) == sorted(map(repr, TRUTH))
    given = new(fixed={"kernel.lengthscale": 0.25}).fit(sim.y)
    assert [k.lengthscale for k in given.kernels_] == [0.25, 0.25]
    each = new(fixed={"kernel.lengthscale": [0.25, 0.5]}).fit(sim.y)
    assert sorted(k.lengthscale for k in each.kernels_) == [0.25, 0.5]
    held = new(kernel=TRUTH, fixed={"kernel.frequency": None}).fit(sim.y)
    assert {getattr(k, "frequency", None) for k in held.kernels_} == {None, 1.2}
    assert {k.lengthscale for k in held.kernels_}.isdisjoint({0.3, 0.6})
    free = new(kernel=TRUTH).fit(sim.y)
    assert all(k.variance == 1.0 for k in free.kernels_)


def test_the_noise_can_be_held(rng):
    y = rng.normal(size=(60, 4))
    assert new(likelihood=hd.Gaussian(0.3), fixed=["likelihood"]).fit(y).likelihood_ == hd.Gaussian(0.3)
    learnt = new(likelihood=hd.Gaussian(0.3), max_iter=300).fit(y).likelihood_
    assert learnt.variance.shape == (4,) and not np.allclose(learnt.variance, 0.3)


def test_more_starts_are_never_worse(sim):
    one, four = (new(n_init=n, tol=1e-4, max_iter=300).fit(sim.y) for n in (1, 4))
    assert four.elbo_[-1] >= one.elbo_[-1]
    other = new(n_init=4, tol=1e-4, max_iter=300, random_state=np.random.default_rng(0)).fit(sim.y)
    assert other.elbo_[-1] == four.elbo_[-1]


def test_a_warm_start_goes_on(sim):
    found = new(warm_start=True, tol=1e-5, max_iter=300).fit(sim.y)
    before = found.elbo_[-1]
    found.fit(sim.y)
    assert found.n_iter_ < 40
    assert found.elbo_[0] > before - 1.0
    found.fit([values[:15] for values in sim.y])  # other data are welcome
    assert found.smooth().sizes["time"] == 15
    with pytest.raises(ValueError, match=r"y has 4 units; the fit to go on from has 10"):
        found.fit(np.ones((20, 4)))


def test_without_warm_start_a_fit_forgets(sim):
    one = new().fit(sim.y)
    two = new().fit([values[:15] for values in sim.y]).fit(sim.y)
    np.testing.assert_array_equal(one.elbo_, two.elbo_)
    np.testing.assert_array_equal(one.loadings_, two.loadings_)


def test_the_objective_never_falls(model):
    assert np.diff(model.elbo_).min() >= -1e-8 * np.abs(model.elbo_).max()
    assert len(model.elbo_) == model.n_iter_ + 1
    assert model.converged_ and "settled" in model.message_


def test_one_warning_when_the_rounds_are_over(sim):
    with pytest.warns(ConvergenceWarning, match="max_iter=2") as caught:
        found = new(max_iter=2).fit(sim.y)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert not found.converged_ and found.n_iter_ == 2
    assert np.isfinite(found.smooth().rate.values[0]).all()


def test_progress_is_silent_unless_asked(sim, capfd):
    new(progress=None).fit(sim.y)
    new(progress=False).fit(sim.y)
    assert capfd.readouterr() == ("", "")
    new(progress=True).fit(sim.y)
    out, err = capfd.readouterr()
    assert out == "" and "CVHM" in err
