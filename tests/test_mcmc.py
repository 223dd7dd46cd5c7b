"""NUTS over hyperparameters against brute force, its diagnostics, default priors, averages over draws."""

import warnings

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning

import hidamari as hd
from hidamari.inference.diagnostics import judge, summarise
from hidamari.inference.mcmc import Density, drawn_models, mix, sample_hyperparameters
from hidamari.inference.objective import GPModel
from hidamari.inference.series import lay_series
from hidamari.inference.weak_priors import complete_priors, default_priors

NAMES = ["kernel.lengthscale", "likelihood.variance"]
PRIORS = {"lengthscale": dist.LogNormal(0.0, 1.0), "likelihood.variance": dist.Gamma(2.0, 4.0)}


def problem(T=25, seed=3):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0.0, 5.0, T))
    y = np.sin(2.0 * times) + 0.5 * rng.standard_normal(T)
    y[4] = np.nan
    return GPModel(hd.Matern(1, 0.5), hd.Gaussian(0.3), np.zeros(1)), lay_series(times, y).series


@pytest.fixture(scope="module")
def chains():
    model, series = problem()
    return sample_hyperparameters(
        model, NAMES, series, PRIORS, n_warmup=200, n_samples=800, random_state=1, target_accept=0.8
    )


def by_grid(model, series):
    """Mean and standard deviation of the logarithms of both values, by sums over a grid."""
    density = Density(model, tuple(NAMES), series)
    x = np.linspace(-3.5, 3.5, 51), np.linspace(-4.5, 2.5, 51)
    log_p = np.array([[density(np.exp([a, b]), False)[0] for b in x[1]] for a in x[0]])
    log_p += norm(0.0, 1.0).logpdf(x[0])[:, None]  # the density of a lognormal value, by its logarithm
    log_p += (2.0 * x[1] - 4.0 * np.exp(x[1]))[None]  # Gamma(2, 4) likewise: v^(2 - 1) e^(-4 v) v
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    assert max(p[0].sum(), p[-1].sum(), p[:, 0].sum(), p[:, -1].sum()) < 1e-4
    out = []
    for axis in (0, 1):
        marginal = p.sum(1 - axis)
        mean = marginal @ x[axis]
        out.append((mean, np.sqrt(marginal @ (x[axis] - mean) ** 2)))
    return out


def test_draws_are_those_of_the_posterior(chains):
    """A Jacobian left out or counted twice would move these means by half a deviation."""
    for name, (mean, sd) in zip(NAMES, by_grid(*problem())):
        logs = np.log(chains["posterior"][name].values)
        error = sd / np.sqrt(summarise({"x": logs}).ess_bulk.item())
        assert abs(logs.mean() - mean) < 4.0 * error
        assert abs(logs.std() / sd - 1.0) < 5.0 * error / sd
        assert error < 0.06 * sd


def test_tree_has_the_names_of_arviz(chains, tmp_path):
    assert set(chains.children) == {
        "posterior",
        "sample_stats",
        "diagnostics",
        "observed_data",
        "constant_data",
    }
    assert list(chains["posterior"].data_vars) == NAMES
    for group in ("posterior", "sample_stats"):
        assert dict(chains[group].sizes) == {"chain": 2, "draw": 800}
        assert all(v.dims == ("chain", "draw") for v in chains[group].data_vars.values())
        assert chains[group].attrs["inference_library"] == "numpyro"
    stats = chains["sample_stats"]
    assert set(stats.data_vars) == {
        "diverging",
        "energy",
        "lp",
        "acceptance_rate",
        "n_steps",
        "tree_depth",
        "step_size",
    }
    assert stats.diverging.dtype == bool
    assert (2**stats.tree_depth > stats.n_steps).all()
    _, series = problem()
    np.testing.assert_array_equal(chains["observed_data"].y, series.y)
    assert np.allclose(np.diff(chains["constant_data"].time), series.gaps[series.step[1:]])
    assert chains.attrs["converged"] == 1 and chains.attrs["message"] == "converged"
    chains.to_netcdf(tmp_path / "chains.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "chains.nc", engine="h5netcdf") as again:
        assert again["posterior"].to_dataset().identical(chains["posterior"].to_dataset())
        assert again.attrs["converged"] == 1


def test_lp_is_the_density_that_was_climbed(chains):
    """lp is the joint log density of the coordinates that move: priors, Jacobian and evidence."""
    model, series = problem()
    z = np.array([chains["posterior"][name].values[1, 7] for name in NAMES])
    with jax.enable_x64(True):
        wanted = sum(float(p.log_prob(v)) for p, v in zip(PRIORS.values(), z)) + np.log(z).sum()
    wanted += Density(model, tuple(NAMES), series)(z, False)[0]
    assert np.isclose(chains["sample_stats"].lp.values[1, 7], wanted, rtol=1e-9)


def test_short_chains_warn_once_and_are_reproducible():
    model, series = problem()
    how = {"n_warmup": 5, "n_samples": 8, "start": "model", "random_state": 4}
    with pytest.warns(ConvergenceWarning, match="the chains have not converged") as caught:
        one = sample_hyperparameters(model, NAMES[:1], series, **how)
    assert len(caught) == 1
    assert one.attrs["converged"] == 0 and "draw more" in one.attrs["message"]
    with pytest.warns(ConvergenceWarning):
        two = sample_hyperparameters(model, NAMES[:1], series, **how)
    assert one["posterior"].to_dataset().identical(two["posterior"].to_dataset())
    assert not np.array_equal(*one["posterior"][NAMES[0]].values)
    assert not jax.config.jax_enable_x64


def test_counts_are_drawn_through_the_bound():
    rng = np.random.default_rng(0)
    y = rng.poisson(np.exp(1.0 + np.sin(np.arange(15.0))))
    model = GPModel(hd.Matern(0, 2.0), hd.Poisson(), np.ones(1))
    series = lay_series(np.arange(15.0), y.astype(float)).series
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        tree = sample_hyperparameters(
            model, ["bias"], series, n_warmup=20, n_samples=20, n_chains=1, start="model", random_state=0
        )
    assert abs(float(tree["posterior"]["bias[0]"].mean()) - np.log(y.mean())) < 1.5
    assert (tree["sample_stats"].lp < 0.0).all()


@pytest.mark.parametrize("likelihood", [hd.Gaussian(0.3), hd.Poisson(), hd.StudentT(scale=0.5)])
def test_density_has_its_gradient_and_is_a_function(likelihood, rng):
    y = rng.poisson(2.0, 20).astype(float)
    series = lay_series(np.arange(20) * 0.2, y).series
    model = GPModel(hd.Matern(1, 0.8, 0.5) + hd.Constant(0.4), likelihood, np.array([0.6]))
    names = ("kernel.first.lengthscale", "kernel.second.variance", "bias[0]")
    names += ("likelihood.variance",) if isinstance(likelihood, hd.Gaussian) else ()
    density = Density(model, names, series, tol=1e-13)
    z = np.array([0.7, 0.3, 0.5, 0.2])[: len(names)]
    value, found = density(z, True)
    assert density(z, False)[0] == pytest.approx(value, rel=1e-12)
    assert density(z, True)[0] == value
    for i in range(len(z)):
        shift = 1e-4 * np.eye(len(z))[i]
        slope = (density(z + shift, False)[0] - density(z - shift, False)[0]) / 2e-4
        assert found[i] == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_density_is_nan_out_of_range():
    model, series = problem()
    density = Density(model, tuple(NAMES), series)
    for wrong in ([0.0, 1.0], [-1.0, 1.0], [np.nan, 1.0], [1.0, np.inf], [1e-320, 1e300]):
        value, slope = density(np.array(wrong), True)
        assert not np.isfinite(value) or np.isfinite(slope).all()
    assert np.isnan(density(np.array([-1.0, 1.0]), True)[1]).all()


def test_arguments_are_checked():
    model, series = problem()
    for wrong, message in (
        ({"n_samples": 2}, "n_samples must be at least 4, got 2"),
        ({"n_chains": 0}, "n_chains must be at least 1"),
        ({"target_accept": 1.0}, "target_accept must be between 0 and 1"),
        ({"start": "prior"}, "start must be 'map' or 'model'"),
        ({"priors": {"period": dist.LogNormal()}}, "priors has 'period'"),
        ({"priors": {"lengthscale": dist.LogNormal(np.zeros(2))}}, "must be over one number"),
    ):
        with pytest.raises(ValueError, match=message):
            sample_hyperparameters(model, NAMES, series, **wrong)
    with pytest.raises(ValueError, match="lenghtscale"):
        sample_hyperparameters(model, ["lenghtscale"], series)


# ------------------------------------------------------------------------------------------ diagnostics


def test_statistics_of_known_processes(rng):
    good = rng.standard_normal((4, 1000))
    slow = np.zeros((4, 4000))
    for t in range(1, 4000):
        slow[:, t] = 0.8 * slow[:, t - 1] + rng.standard_normal(4)
    cauchy = rng.standard_cauchy((4, 1000))
    found = summarise({"good": good, "cauchy": cauchy})
    assert (found.r_hat < 1.01).all() and (found.ess_bulk > 3000).all() and (found.ess_tail > 2500).all()
    assert float(summarise({"slow": slow}).ess_bulk[0]) == pytest.approx(16000 * 0.2 / 1.8, rel=0.25)
    assert float(found["mean"][0]) == good.mean() and float(found.sd[0]) == good.std(ddof=1)
    assert found.q05[0] == np.quantile(good, 0.05)


def test_chains_that_disagree_are_found(rng):
    x = rng.standard_normal((4, 1000))
    apart, wider = x + [[0.0], [0.0], [0.0], [0.5]], x * [[1.0], [1.0], [1.0], [2.0]]
    drifting = x + np.linspace(0.0, 1.5, 1000)
    still = np.concatenate([x[:3], np.zeros((1, 1000))])
    found = summarise({"apart": apart, "wider": wider, "drifting": drifting, "still": still})
    assert (found.r_hat > 1.01).all()
    assert judge(found, 0, 4)[0] is False


def test_a_parameter_that_never_moved_is_not_converged():
    converged, message = judge(summarise({"l": np.ones((2, 500))}), 0, 2)
    assert not converged and "r_hat of l" in message


# --------------------------------------------------------------------------------- priors and averages


def test_default_priors_follow_units():
    """The same data in other units give the same priors in those units."""
    model = GPModel(hd.HidaMatern(1, 1.0, 0.1), hd.Gaussian(), np.zeros(1))
    names = ["kernel.lengthscale", "kernel.frequency", "kernel.variance", "likelihood.variance", "bias[0]"]
    rng = np.random.default_rng(0)
    t, y = np.sort(rng.uniform(0.0, 9.0, 50)), rng.standard_normal(50)
    one = default_priors(model, names, lay_series(t, y).series)
    two = default_priors(model, names, lay_series(60.0 * t, 1e3 * y + 5.0).series)
    x = np.array([0.3, 1.0, 2.5])
    for name, factor in zip(names, (60.0, 1 / 60.0, 1e6, 1e6, 1e3)):
        moved = factor * x + (5.0 if name == "bias[0]" else 0.0)
        wanted = one[name].log_prob(x) - np.log(factor)
        np.testing.assert_allclose(two[name].log_prob(moved), wanted, rtol=1e-3)


def test_default_priors_span_grid_and_data():
    model = GPModel(hd.Matern(), hd.Gaussian(), np.zeros(1))
    y = np.array([3.0, -3.0] * 50)
    found = default_priors(model, [*NAMES, "bias[0]"], lay_series(np.arange(100.0), y).series)
    np.testing.assert_allclose(found[NAMES[0]].icdf(np.array([0.01, 0.99])), [1.0, 99.0], rtol=1e-3)
    sd = np.sqrt(found[NAMES[1]].sample(jax.random.key(0), (4000,)))
    assert np.mean(sd**2) == pytest.approx(9.0, rel=0.1)  # E of the square of a half-normal of scale 3
    assert found["bias[0]"].scale == pytest.approx(6.0)
    user = complete_priors({"lengthscale": dist.LogNormal(7.0, 1.0)}, model, NAMES, problem()[1])
    assert user[NAMES[0]].loc == 7.0 and user[NAMES[1]] is not None


def test_default_priors_know_what_has_no_unit_of_time():
    """A periodic kernel's lengthscale is in radians; a Wiener process grows to the data's size in time."""
    model = GPModel(hd.Periodic(2.0, 0.7) + hd.Wiener(1), hd.Gaussian(), np.zeros(1))
    names = ["kernel.first.period", "kernel.first.lengthscale", "kernel.second.variance"]
    y = np.array([3.0, -3.0] * 50)
    found = default_priors(model, names, lay_series(np.arange(100.0), y).series)
    assert found[names[0]].loc == pytest.approx(0.5 * np.log(99.0))
    assert (found[names[1]].loc, found[names[1]].scale) == (pytest.approx(np.log(0.7)), 1.0)
    assert found[names[2]].rate == pytest.approx(0.5 * 99.0**3 / 9.0)


def test_mixtures_follow_the_law_of_total_variance(rng):
    model, _ = problem()
    values = rng.uniform(0.5, 2.0, (2, 30))
    posterior = xr.Dataset({NAMES[0]: (("chain", "draw"), values)})
    models = drawn_models(model, xr.DataTree.from_dict({"posterior": posterior}))
    np.testing.assert_allclose([m.kernel.lengthscale for m in models], values.ravel(), rtol=1e-14)
    found = mix(models, lambda m: (np.array([m.kernel.lengthscale, 1e8]), np.array([0.25, 1e-3])))
    np.testing.assert_allclose(found.mean, [values.mean(), 1e8])
    np.testing.assert_allclose(found.var, [values.var() + 0.25, 1e-3])
    np.testing.assert_allclose(found.between + found.within, found.var)
    with pytest.raises(ValueError, match="n must be between 1 and the number of draws 60"):
        drawn_models(model, xr.DataTree.from_dict({"posterior": posterior}), 61)
    with pytest.raises(ValueError, match="at least one model"):
        mix([], lambda m: (0.0, 0.0))
