"""Hyperparameters at the top of the evidence: where searches end, what they say, and how sure they are."""

import dataclasses

import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.optimize import minimize

from hidamari.inference import maximise as module
from hidamari.inference.likelihoods import Gaussian, Poisson
from hidamari.inference.maximise import maximise
from hidamari.inference.objective import GPModel, evidence
from hidamari.inference.priors import log_prior, match_priors
from hidamari.inference.search import is_real, limits, scales, starts
from hidamari.inference.series import lay_series
from hidamari.parameters import flatten, unflatten
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Constant, HidaMatern, Matern
from hidamari.statespace.types import Sites


def paths_of(kernel, times, n, rng):
    """n draws of f, (T, n)."""
    nothing = Sites(np.zeros((len(times), 1)), np.zeros((len(times), 1)))
    return kalman.sample(kernel.state_space(times), nothing, n, rng)[:, :, 0].T


def everything(model):
    return flatten(model)[1]


def test_finds_the_parameters_that_made_the_data(rng):
    times = [np.sort(rng.uniform(0, 60, 1200)) for _ in range(2)]
    truth = GPModel(Matern(1, 0.7, 2.0), Gaussian(np.array([0.1, 0.4])), np.array([1.5, -20.0]))
    noise = np.sqrt(truth.likelihood.variance)
    y = [paths_of(truth.kernel, t, 2, rng) + truth.bias + noise * rng.normal(size=(len(t), 2)) for t in times]
    series = lay_series(times, y).series
    begin = GPModel(Matern(1, 3.0, 0.3), Gaussian(np.ones(2)), np.zeros(2))
    found = maximise(begin, everything(begin), series)
    assert found.converged and found.message.startswith("settled")
    assert found.value >= evidence(truth, series)
    assert found.value == pytest.approx(evidence(found.model, series), rel=1e-12)
    assert np.all(np.diff(found.history) >= 0.0)
    x, names = flatten(found.model)
    for name, at, right in zip(names, x, flatten(truth)[0]):
        error = np.sqrt(found.covariance[names.index(name), names.index(name)])
        assert abs(at - right) < 4 * error, name
        size = 1.0 if name.startswith("bias") else np.exp(at)
        assert found.standard_errors[name] == pytest.approx(size * error)


def test_the_top_is_the_top(rng):
    """A derivative-free search from there gains nothing."""
    t = np.sort(rng.uniform(0, 20, 150))
    series = lay_series(t, paths_of(Matern(1, 0.5), t, 1, rng) + 0.3 * rng.normal(size=(150, 1))).series
    begin = GPModel(Matern(1), Gaussian(), np.zeros(1))
    found = maximise(begin, everything(begin), series)
    x, names = flatten(found.model)
    best = minimize(lambda v: -evidence(unflatten(begin, v, names), series), x, method="Nelder-Mead")
    assert -best.fun <= found.value + 1e-6
    np.testing.assert_allclose(x, best.x, atol=2e-3)


def test_with_priors_the_top_is_that_of_evidence_times_density_of_the_values(rng):
    t = np.sort(rng.uniform(0, 10, 60))
    series = lay_series(t, paths_of(Matern(1, 0.5), t, 1, rng) + 0.3 * rng.normal(size=(60, 1))).series
    begin = GPModel(Matern(1), Gaussian(), np.zeros(1))
    names = ["kernel.lengthscale", "likelihood.variance", "bias[0]"]
    priors = {"lengthscale": dist.LogNormal(0.0, 0.2), "likelihood.variance": dist.Gamma(20.0, 40.0)}
    priors |= {"bias": dist.Normal(1.0, 0.1)}
    found = maximise(begin, names, series, priors=priors)

    def density(v):
        total = -0.5 * (np.log(v[0]) / 0.2) ** 2 - np.log(v[0] * 0.2 * np.sqrt(2 * np.pi))
        total += 19 * np.log(v[1]) - 40 * v[1] + 20 * np.log(40.0) - 39.339884187199495  # log Gamma(20)
        return total - 0.5 * ((v[2] - 1.0) / 0.1) ** 2 - np.log(0.1 * np.sqrt(2 * np.pi))

    def negative(x):
        v = np.array([*np.exp(x[:2]), x[2]])
        return -evidence(unflatten(begin, x, names), series) - density(v)

    x = flatten(found.model, names)[0]
    assert found.value == pytest.approx(-negative(x), rel=1e-7)
    best = minimize(negative, x, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9})
    np.testing.assert_allclose(x, best.x, atol=1e-4)
    free = maximise(begin, names, series)
    # what a tight prior knows adds to what the data do
    assert found.standard_errors["bias[0]"] < min(0.1, free.standard_errors["bias[0]"])


def test_a_lognormal_prior_alone_pulls_to_its_mode():
    """No Jacobian of the logarithm: with nothing observed the value goes to exp(mu - sigma^2)."""
    series = lay_series(np.arange(5.0), np.full(5, np.nan)).series
    begin = GPModel(Matern(1, 0.6), Gaussian(), np.zeros(1))
    found = maximise(begin, ["kernel.lengthscale"], series, priors={"lengthscale": dist.LogNormal(0.5, 0.6)})
    assert found.model.kernel.lengthscale == pytest.approx(np.exp(0.5 - 0.36), rel=1e-5)
    assert found.standard_errors["kernel.lengthscale"] == pytest.approx(0.6 * np.exp(0.14), rel=1e-4)


def test_more_starts_find_the_frequency_that_one_misses(rng):
    t = np.sort(rng.uniform(0, 60, 500))
    y = paths_of(HidaMatern(1, 8.0, 2.7), t, 1, rng) + 0.5 * rng.normal(size=(500, 1))
    series = lay_series(t, y).series
    begin = GPModel(HidaMatern(1, 8.0, 0.4), Gaussian(), np.zeros(1))
    one = maximise(begin, everything(begin), series, standard_errors=False)
    more = maximise(begin, everything(begin), series, n_init=3, standard_errors=False)
    assert abs(one.model.kernel.frequency - 2.7) > 0.5
    assert more.model.kernel.frequency == pytest.approx(2.7, abs=0.05)
    assert more.values[0] == pytest.approx(one.value) and more.value > one.value + 10.0
    again = maximise(begin, everything(begin), series, n_init=3, standard_errors=False)
    assert again.model == more.model or flatten(again.model)[0].tolist() == flatten(more.model)[0].tolist()


def test_standard_errors_are_the_spread_of_estimates(rng):
    """Over simulated series the estimates of the logarithms spread as the curvature says."""
    t = np.arange(600) * 0.1
    truth = GPModel(Matern(0, 0.5), Gaussian(0.3), np.zeros(1))
    draws = paths_of(truth.kernel, t, 60, rng) + np.sqrt(0.3) * rng.normal(size=(600, 60))
    names = ["kernel.lengthscale", "kernel.variance", "likelihood.variance"]
    ends = [maximise(truth, names, lay_series(t, y).series) for y in draws.T]
    x = np.array([flatten(end.model, names)[0] for end in ends])
    claimed = np.sqrt(np.median([np.diag(end.covariance) for end in ends], axis=0))
    np.testing.assert_allclose(x.std(0), claimed, rtol=0.25)
    misses = np.abs(x - flatten(truth, names)[0]) > 1.96 * np.sqrt([np.diag(end.covariance) for end in ends])
    assert misses.mean() < 0.11


def test_counts_climb_their_bound(rng):
    t = np.arange(400) * 0.05
    f = paths_of(Matern(1, 0.6, 0.8), t, 6, rng)
    y = rng.poisson(np.exp(f + 2.0) * 0.05).astype(float)
    begin = GPModel(Matern(1, 0.2), Poisson(), np.full(6, 1.0))
    found = maximise(begin, everything(begin), lay_series(t, y).series, exposure=0.05)
    assert found.converged and found.evaluated.converged
    assert found.model.kernel.lengthscale == pytest.approx(0.6, rel=0.35)
    errors = np.array([found.standard_errors[f"bias[{o}]"] for o in range(6)])
    assert np.all(np.abs(found.model.bias - 2.0) < 4 * errors) and np.all(errors < 0.6)


def test_what_sits_on_a_limit_has_no_error(rng):
    t = np.arange(200) * 0.1
    series = lay_series(t, paths_of(Matern(1, 0.5), t, 1, rng) + 0.3 * rng.normal(size=(200, 1))).series
    begin = GPModel(Matern(1), Gaussian(), np.zeros(1))
    found = maximise(begin, everything(begin), series, bounds={"lengthscale": (2.0, 5.0)})
    assert found.model.kernel.lengthscale == pytest.approx(2.0)
    assert np.isnan(found.standard_errors["kernel.lengthscale"])
    assert np.isfinite(found.standard_errors["likelihood.variance"])
    assert "kernel.lengthscale sits on its limit" in found.message


def test_what_the_data_cannot_tell_has_no_error(rng):
    """Two factors of one variance: their product is known, neither of them is."""
    t = np.arange(200) * 0.1
    series = lay_series(t, paths_of(Matern(1, 0.5), t, 1, rng) + 0.3 * rng.normal(size=(200, 1))).series
    begin = GPModel(Constant(1.0) * Matern(1), Gaussian(), np.zeros(1))
    found = maximise(begin, ["kernel.first.variance", "kernel.second.variance"], series)
    errors = np.array(list(found.standard_errors.values()))
    assert np.isnan(errors).all() == ("not that of a maximum" in found.message)
    assert np.isnan(errors).all() or (errors > 100.0).all()


def test_a_value_that_is_not_finite_ends_the_search_where_it_was(rng, monkeypatch):
    t = np.arange(100) * 0.1
    series = lay_series(t, np.sin(t) + 0.3 * rng.normal(size=100)).series
    begin = GPModel(Matern(1), Gaussian(), np.zeros(1))
    real, calls = module.evidence_and_gradient, []

    def failing(*arguments, **options):
        calls.append(real(*arguments, **options))
        return calls[-1] if len(calls) < 5 else calls[-1]._replace(value=np.nan)

    monkeypatch.setattr(module, "evidence_and_gradient", failing)
    found = maximise(begin, everything(begin), series)
    assert not found.converged and "stopped" in found.message and "non-finite" in found.message
    assert found.value == max(call.value for call in calls[:4])
    assert np.isfinite(flatten(found.model)[0]).all()
    monkeypatch.setattr(module, "evidence_and_gradient", lambda *a, **k: calls[0]._replace(value=np.nan))
    with pytest.raises(ValueError, match="no start has a finite evidence"):
        maximise(begin, everything(begin), series)


def test_values_that_are_not_finite_are_walked_round(rng, monkeypatch):
    t = np.arange(100) * 0.1
    series = lay_series(t, np.sin(t) + 0.3 * rng.normal(size=100)).series
    begin = GPModel(Matern(1, 0.3), Gaussian(), np.zeros(1))
    plain, real = maximise(begin, everything(begin), series), module.evidence_and_gradient
    calls = []

    def failing(model, *arguments, **options):
        calls.append(model)
        found = real(model, *arguments, **options)
        return found._replace(value=np.nan) if len(calls) in (3, 6, 7) else found

    monkeypatch.setattr(module, "evidence_and_gradient", failing)
    found = maximise(begin, everything(begin), series)
    assert found.converged and len(calls) > 7 and np.all(np.diff(found.history) >= 0.0)
    assert found.value == pytest.approx(plain.value, abs=1e-6)


def test_a_part_of_the_data_leads_the_way(rng):
    t = np.sort(rng.uniform(0, 100, 4000))
    y = paths_of(Matern(1, 0.7), t, 1, rng) + 0.3 * rng.normal(size=(4000, 1))
    whole, part = lay_series(t, y).series, lay_series(t[:1000], y[:1000]).series
    begin = GPModel(Matern(1, 5.0), Gaussian(), np.zeros(1))
    plain, near = (maximise(begin, everything(begin), series) for series in (whole, part))
    found = maximise(begin, everything(begin), whole, near=near)
    assert found.value == pytest.approx(plain.value, rel=1e-9) and len(found.history) < len(plain.history)
    for name, error in plain.standard_errors.items():
        assert found.standard_errors[name] == pytest.approx(error, rel=1e-2)


def test_a_settled_search_has_the_digits_of_its_slope(rng):
    """Ten times looser or tighter, the last step by Newton brings the same six digits."""
    t = np.sort(rng.uniform(0, 20, 150))
    series = lay_series(t, paths_of(Matern(1, 0.5), t, 1, rng) + 0.3 * rng.normal(size=(150, 1))).series
    begin = GPModel(Matern(1), Gaussian(), np.zeros(1))
    ends = [maximise(begin, everything(begin), series, tol=tol) for tol in (1e-7, 1e-15)]
    loose, tight = (flatten(end.model)[0] for end in ends)
    np.testing.assert_allclose(loose, tight, atol=2e-4)


def test_iterations_run_out(rng):
    t = np.arange(100) * 0.1
    series = lay_series(t, np.sin(t) + 0.3 * rng.normal(size=100)).series
    begin = GPModel(Matern(1, 0.1), Gaussian(), np.zeros(1))
    seen = []
    found = maximise(begin, everything(begin), series, max_iter=2, on_iteration=seen.append)
    assert not found.converged and "max_iter=2" in found.message and len(seen) == 2
    still = maximise(begin, [], series)
    assert still.model is begin and still.converged and still.value == evidence(begin, series)


def test_whittle_starts_near_the_top(rng):
    t = np.arange(20_000) * 0.02
    y = paths_of(Matern(1, 0.7, 2.0), t, 1, rng) + 3.0 + 0.5 * rng.normal(size=(20_000, 1))
    series = lay_series(t, y).series
    begin = GPModel(Matern(1, 5.0), Gaussian(), np.zeros(1))
    plain, quick = (
        maximise(begin, everything(begin), series, start=start, standard_errors=False)
        for start in ("model", "whittle")
    )
    assert quick.value == pytest.approx(plain.value, abs=1e-4)
    assert quick.history[0] > plain.history[0] and len(quick.history) < len(plain.history)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_init": 0}, "n_init must be at least 1"),
        ({"start": "here"}, "start must be"),
        ({"bounds": {"scale": (1.0, 2.0)}}, "bounds has 'scale'"),
        ({"bounds": {"lengthscale": (2.0, 1.0)}}, r"bounds\['lengthscale'\] must be"),
        ({"bounds": {"lengthscale": (0.0, 1.0)}}, r"bounds\['lengthscale'\] must be"),
        ({"priors": {"scale": dist.Normal()}}, "priors has 'scale'"),
        ({"priors": {"lengthscale": 3.0}}, r"priors\['lengthscale'\] must be a numpyro"),
        ({"start": "whittle"}, "needs one regular grid"),
    ],
)
def test_options_are_checked(options, message):
    series = lay_series([0.0, 1.0, 3.0], [1.0, 2.0, 3.0]).series
    model = GPModel(Matern(), Gaussian(), np.zeros(1))
    with pytest.raises(ValueError, match=message):
        maximise(model, everything(model), series, **options)


def test_the_longest_key_wins():
    priors = {"lengthscale": dist.Normal(1.0), "second.lengthscale": dist.Normal(2.0)}
    found = match_priors(priors, ["kernel.first.lengthscale", "kernel.second.lengthscale", "bias[1]"])
    assert [p if p is None else float(p.loc) for p in found] == [1.0, 2.0, None]


def test_the_log_prior_keeps_sixteen_digits():
    value, slope = log_prior([dist.LogNormal(0.1, 0.7), None])(np.array([1.3, 9.0]))
    z = (np.log(1.3) - 0.1) / 0.7
    assert value == pytest.approx(-0.5 * z * z - np.log(1.3 * 0.7 * np.sqrt(2 * np.pi)), rel=1e-14)
    np.testing.assert_allclose(slope, [-(1.0 + z / 0.7) / 1.3, 0.0], rtol=1e-14)


def test_limits_and_starts(rng):
    t = np.cumsum(rng.uniform(0.1, 0.3, 300))
    series = lay_series(t, 5.0 + np.sin(2 * np.pi * 1.1 * t) + 0.1 * rng.normal(size=300)).series
    model = GPModel(HidaMatern(1, 0.3, 0.2) + Matern(0, 1e9), Gaussian(1e-30), np.zeros(1))
    names = everything(model)
    allowed = limits(model, names, series)
    size = scales(model, series)
    assert is_real(model, names).tolist() == [False] * 6 + [True]
    assert allowed[names.index("kernel.first.frequency"), 1] == pytest.approx(0.5 / size.median)
    assert np.all(allowed[:, 0] < allowed[:, 1])
    begin = starts(model, names, series, allowed, 6, rng)
    for own in begin:
        x = flatten(own, names)[0]
        values = np.where(is_real(model, names), x, np.exp(x))
        assert np.all(values >= allowed[:, 0] * (1 - 1e-12)) and np.all(values <= allowed[:, 1] * (1 + 1e-12))
    assert begin[1].kernel.first.frequency == pytest.approx(1.1, rel=0.03)
    assert begin[0].kernel.second.lengthscale == pytest.approx(10 * size.duration)


def test_units_of_time_and_data_do_not_matter(rng):
    t = np.sort(rng.uniform(0, 20, 200))
    y = paths_of(Matern(1, 0.5), t, 1, rng) + 0.3 * rng.normal(size=(200, 1))
    begin = GPModel(Matern(1), Gaussian(), np.zeros(1))
    plain = maximise(begin, everything(begin), lay_series(t, y).series)
    for unit, second in ((1e-6, 1e3), (1e8, 1e-9)):
        other = dataclasses.replace(begin, kernel=Matern(1, second))
        found = maximise(other, everything(other), lay_series(t * second, y * unit).series)
        assert found.model.kernel.lengthscale == pytest.approx(
            plain.model.kernel.lengthscale * second, rel=1e-3
        )
        assert found.model.likelihood.variance == pytest.approx(
            plain.model.likelihood.variance * unit**2, rel=1e-3
        )
