"""The alternation as a whole: what rises, what is equivariant, what hard data do to it."""

import numpy as np
import pytest

from hidamari.datasets import simulate_spikes
from hidamari.inference.fit import Problem, Settings, fit_latents, refit
from hidamari.inference.learn import kernel_log_prior
from hidamari.inference.likelihoods import (
    Bernoulli,
    Binomial,
    Gaussian,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from hidamari.inference.posterior import infer_sites
from hidamari.inference.readout import log_prior
from hidamari.inference.sites import Readout, linear_predictor
from hidamari.statespace.kernels import HidaMatern, Matern, bank

DT = 0.02
TRUTH = [Matern(1, 0.3), HidaMatern(1, 0.6, 1.2)]
EVERY = [Poisson(), NegativeBinomial(3.0), Binomial(6), Bernoulli(), Gaussian(0.5), StudentT(4.0, 0.5)]


def named(values):
    return [pytest.param(v, id=v.name) for v in values]


def simulate(likelihood=None, n_units=8, lengths=(60, 30, 45), mean_count=1.0, seed=0):
    sim = simulate_spikes(
        TRUTH,
        n_units=n_units,
        n_bins=list(lengths),
        mean_count=mean_count,
        likelihood=likelihood or "poisson",
        random_state=seed,
    )
    return sim, Problem(np.concatenate(sim.y), np.array(lengths), DT)


def fit(problem, kernels=None, likelihood=None, width=4.0, seed=0, readout=None, **settings):
    kernels = [Matern(1, 0.2), HidaMatern(1, 0.4, 0.8)] if kernels is None else kernels
    rng = np.random.default_rng(seed)
    return fit_latents(
        problem, kernels, likelihood or Poisson(), Settings(**settings), width, rng, readout=readout
    )


def rates(found, problem):
    mu, v = linear_predictor(found.readout, found.posterior.mean, found.posterior.cov)
    return found.likelihood.predictive_mean(mu, v, 1.0)


def check(found):
    """Finite, and never falling by more than rounding."""
    history = np.array(found.history)
    assert np.isfinite(history).all()
    assert np.diff(history).min(initial=0.0) >= -1e-8 * np.abs(history).max()
    for array in (*found.readout, found.prior.relevance, *found.posterior.sites, *found.posterior[1:3]):
        assert np.isfinite(array).all()
    variance = np.einsum("tkk->tk", found.posterior.cov)
    prior = np.array([k(0.0) for k in found.kernels])
    assert (variance > 0).all() and (variance <= prior * (1 + 1e-9)).all()


@pytest.mark.parametrize("likelihood", named(EVERY))
def test_the_objective_never_falls(likelihood):
    _, problem = simulate(likelihood)
    found = fit(problem, likelihood=likelihood, max_iter=40)
    check(found)
    assert found.history[-1] > found.history[0]


@pytest.mark.parametrize(
    "fixed", [("loadings",), ("bias",), ("loadings", "bias"), ("kernel",), ("frequency",)]
)
@pytest.mark.parametrize("likelihood", named([Poisson(), Gaussian(0.5)]))
def test_the_objective_never_falls_with_parts_held(fixed, likelihood):
    sim, problem = simulate(likelihood)
    given = Readout(sim.loadings, sim.bias)
    found = fit(problem, likelihood=likelihood, readout=given, fixed=fixed, max_iter=40)
    check(found)
    if "loadings" in fixed:
        np.testing.assert_array_equal(found.readout.loadings, sim.loadings)
    if "bias" in fixed:
        np.testing.assert_array_equal(found.readout.bias, sim.bias)
    kernels = {(k.order, k.lengthscale, getattr(k, "frequency", 0.0)) for k in found.kernels}
    if "kernel" in fixed:
        assert kernels == {(1, 0.2, 0.0), (1, 0.4, 0.8)}
    else:
        assert (1, 0.2, 0.0) not in kernels  # a part that begins late is not mistaken for a settled one
    if "frequency" in fixed:
        assert 0.8 in {frequency for _, _, frequency in kernels}


@pytest.mark.parametrize("likelihood", named([Poisson(), Gaussian(0.5), NegativeBinomial(3.0)]))
def test_the_objective_is_elbo_and_log_priors(likelihood):
    """The last entry of the history, computed anew from what was returned."""
    _, problem = simulate(likelihood)
    start = [Matern(1, 0.2), Matern(1, 0.4)]
    found = fit(problem, start, likelihood, max_iter=200, tol=1e-8)
    names = ["0.lengthscale", "1.lengthscale"]
    ss = bank(found.kernels, np.array([DT]), problem.step)
    q = infer_sites(ss, problem.y, found.readout, found.likelihood, DT, found.posterior.sites)
    value = (
        q.elbo
        + found.likelihood.log_base(problem.y).sum()
        + log_prior(found.readout, found.prior, Settings().prior_strength)
    )
    # the latents may have been put in another order, and each kernel's prior is about its own start
    orders = ([0, 1], [1, 0])
    priors = [kernel_log_prior([found.kernels[i] for i in o], names, np.log([0.2, 0.4])) for o in orders]
    gaps = [abs(found.history[-1] - value - prior) for prior in priors]
    assert min(gaps) < 1e-6 * abs(value)


def test_trials_in_another_order_and_as_padded_rows():
    sim, problem = simulate()
    found = fit(problem, max_iter=12)  # further on, extrapolation amplifies rounding
    turned = Problem(np.concatenate(sim.y[::-1]), problem.lengths[::-1].copy(), DT)
    other = fit(turned, max_iter=12)
    assert other.history[-1] == pytest.approx(found.history[-1], rel=1e-8)
    np.testing.assert_allclose(other.readout.loadings, found.readout.loadings, rtol=0, atol=1e-6)
    # the posterior, given a read-out, does not change where rows of NaN follow a trial
    padded = [np.vstack([y, np.full((60 - len(y), 8), np.nan)]) for y in sim.y]
    grid = Problem(np.concatenate(padded), np.array([60, 60, 60]), DT)
    ss = [bank(found.kernels, np.array([DT]), p.step) for p in (problem, grid)]
    q = infer_sites(ss[0], problem.y, found.readout, Poisson(), DT, tol=1e-13)
    p = infer_sites(ss[1], grid.y, found.readout, Poisson(), DT, tol=1e-13)
    assert p.elbo == pytest.approx(q.elbo, rel=1e-12)
    real = np.concatenate([np.arange(60) < len(y) for y in sim.y])
    np.testing.assert_allclose(p.mean[real], q.mean, rtol=0, atol=1e-6)


def test_units_in_another_order(rng):
    _, problem = simulate()
    found = fit(problem, max_iter=12)
    order = rng.permutation(8)
    other = fit(problem._replace(y=np.ascontiguousarray(problem.y[:, order])), max_iter=12)
    assert other.history[-1] == pytest.approx(found.history[-1], rel=1e-8)
    np.testing.assert_allclose(other.readout.bias, found.readout.bias[order], rtol=0, atol=1e-5)
    np.testing.assert_allclose(rates(other, problem), rates(found, problem)[:, order], rtol=1e-4)


def test_another_unit_of_time():
    """Seconds into milliseconds: lengthscales and bins times 1000, frequencies and rates over 1000."""
    _, problem = simulate()
    found = fit(problem, max_iter=15)
    kernels = [Matern(1, 200.0), HidaMatern(1, 400.0, 0.0008)]
    other = fit(problem._replace(bin_s=1000 * DT), kernels, max_iter=15)
    assert other.history[-1] == pytest.approx(found.history[-1], rel=1e-9)
    np.testing.assert_allclose(other.readout.bias, found.readout.bias - np.log(1000), rtol=0, atol=1e-7)
    np.testing.assert_allclose(other.readout.loadings, found.readout.loadings, rtol=0, atol=1e-7)
    for a, b in zip(other.kernels, found.kernels):
        assert a.lengthscale == pytest.approx(1000 * b.lengthscale, rel=1e-6)


@pytest.mark.parametrize("likelihood", named([Gaussian(), StudentT(4.0)]))
@pytest.mark.parametrize(("scale", "shift"), [(2.0**-20, 0.0), (2.0**20, 0.0), (1.0, 1e5), (1e-3, 7.0)])
def test_another_unit_of_real_data(likelihood, scale, shift):
    """y -> a y + b: the same latents; loadings, bias and noise follow."""
    _, problem = simulate(type(likelihood)() if likelihood.name == "gaussian" else StudentT(4.0, 0.5))
    found = fit(problem, likelihood=likelihood, max_iter=25, tol=1e-9)
    other = fit(problem._replace(y=scale * problem.y + shift), likelihood=likelihood, max_iter=25, tol=1e-9)
    np.testing.assert_allclose(other.posterior.mean, found.posterior.mean, rtol=0, atol=2e-3)
    np.testing.assert_allclose(other.readout.loadings / scale, found.readout.loadings, rtol=0, atol=2e-3)
    np.testing.assert_allclose((other.readout.bias - shift) / scale, found.readout.bias, rtol=0, atol=2e-3)
    field, power = ("variance", 2) if likelihood.name == "gaussian" else ("scale", 1)
    noise, wanted = getattr(other.likelihood, field), getattr(found.likelihood, field)
    np.testing.assert_allclose(noise / scale**power, wanted, rtol=5e-3)


def test_a_silent_unit_moves_the_others_hardly():
    """With loadings and bias of the others held, adding a silent unit with no loading changes nothing."""
    sim, problem = simulate()
    fixed = ("loadings", "bias", "kernel")
    found = fit(problem, readout=Readout(sim.loadings, sim.bias), fixed=fixed)
    silent = Readout(np.vstack([sim.loadings, np.zeros(2)]), np.append(sim.bias, -20.0))
    more = problem._replace(y=np.column_stack([problem.y, np.zeros(len(problem.y))]))
    other = fit(more, readout=silent, fixed=fixed)
    np.testing.assert_allclose(other.posterior.mean, found.posterior.mean, rtol=0, atol=1e-6)


def test_a_silent_unit_that_is_learnt_too_moves_the_others_little():
    """Silence is data: it moves what is shared. Not by much."""
    _, problem = simulate(n_units=12, lengths=(100, 80, 120))
    found = fit(problem, tol=1e-7, max_iter=300)
    other = fit(problem._replace(y=np.column_stack([problem.y, np.zeros(300)])), tol=1e-7, max_iter=300)
    moved = np.log(rates(other, None)[:, :12] / rates(found, None))
    assert np.abs(moved).max() < 0.1
    assert np.abs(other.readout.loadings[12]).max() < 0.2
    assert rates(other, None)[:, 12].max() < 1.0


def counts(kind, rng):
    y = rng.poisson(1.0, (60, 5)).astype(float)
    if kind == "one huge count":
        y[30, 2] = 1e4
    elif kind == "sparse 1e9":
        y = np.where(rng.random((60, 5)) < 0.1, 1e9, 0.0)
    elif kind == "steady 1e9":
        y += 1e9
    elif kind == "silent unit":
        y[:, 1] = 0.0
    elif kind == "all silent":
        y[:] = 0.0
    elif kind == "one spike":
        y[:] = 0.0
        y[10, 1] = 1.0
    elif kind == "identical units":
        y[:] = y[:, :1]
    elif kind == "one unit":
        y = y[:, :1]
    elif kind == "unit unseen":
        y[:, 2] = np.nan
    elif kind == "nothing seen":
        y[:] = np.nan
    elif kind == "fewer units than latents":
        y = y[:, :1]
    elif kind == "one bin":
        y = y[:1]
    elif kind == "two bins":
        y = y[:2]
    elif kind == "one entry":
        y = y[:1, :1]
    elif kind == "many units, few bins":
        y = rng.poisson(1.0, (4, 200)).astype(float)
    elif kind == "constant":
        y[:] = 4.0
    return y


KINDS = [
    "one huge count", "sparse 1e9", "steady 1e9", "silent unit", "all silent", "one spike", "identical units",
    "one unit", "unit unseen", "nothing seen", "fewer units than latents", "one bin", "two bins", "one entry",
    "many units, few bins", "constant",
]  # fmt: skip


@pytest.mark.parametrize("likelihood", named([Poisson(), NegativeBinomial(3.0)]))
@pytest.mark.parametrize("kind", KINDS)
def test_hard_counts(rng, kind, likelihood):
    y = counts(kind, rng)
    kernels = [Matern(1, 0.3), Matern(1, 0.1)]
    found = fit(Problem(y, np.array([len(y)]), DT), kernels, likelihood, max_iter=25)
    check(found)
    assert np.abs(found.readout.loadings).max() < 1e4
    mu, v = linear_predictor(found.readout, found.posterior.mean, found.posterior.cov)
    rate = rates(found, None)
    assert (rate >= 0).all()
    # a mean beyond the largest double is infinite, without a warning
    assert np.isfinite(rate[mu + v / 2 < 700]).all() and (kind == "sparse 1e9" or np.isfinite(rate).all())
    if kind == "nothing seen":
        assert not found.posterior.mean.any()


@pytest.mark.parametrize("likelihood", named([Gaussian(), StudentT(4.0), Bernoulli(), Binomial(3)]))
@pytest.mark.parametrize("kind", ["usual", "constant unit", "constant", "zeros", "one bin", "nothing seen"])
def test_hard_values(rng, kind, likelihood):
    y = np.minimum(rng.poisson(1.0, (50, 4)), 1 if likelihood.name == "bernoulli" else 3).astype(float)
    if kind == "constant unit":
        y[:, 1] = 1.0
    elif kind in ("constant", "zeros"):
        y[:] = float(kind == "constant")
    elif kind == "one bin":
        y = y[:1]
    elif kind == "nothing seen":
        y[:] = np.nan
    kernels = [Matern(1, 0.3), Matern(1, 0.1)]
    found = fit(Problem(y, np.array([len(y)]), DT), kernels, likelihood, max_iter=25)
    check(found)


def test_refit_goes_on_where_a_fit_ended():
    _, problem = simulate(n_units=12, lengths=(100, 80, 120))
    settings = Settings(tol=1e-6, max_iter=300)
    found = fit(problem, tol=1e-6, max_iter=300)
    assert found.converged
    again = refit(
        problem, found.kernels, found.likelihood, settings, found.readout, found.prior,
        found.posterior.sites, np.random.default_rng(0),
    )  # fmt: skip
    assert again.converged and len(again.history) < len(found.history) / 3
    np.testing.assert_allclose(rates(again, problem), rates(found, problem), rtol=0.05)


def test_latents_come_in_canonical_order():
    _, problem = simulate()
    found = fit(problem)
    explained = (found.readout.loadings**2).sum(0) * found.posterior.mean.var(0)
    assert explained[0] >= explained[1]
    assert (found.readout.loadings.sum(0) >= 0).all()
    ss = bank(found.kernels, np.array([DT]), problem.step)
    again = infer_sites(ss, problem.y, found.readout, Poisson(), DT, found.posterior.sites, 0)
    np.testing.assert_allclose(again.mean, found.posterior.mean, rtol=0, atol=1e-10)


def test_the_end_is_told():
    _, problem = simulate()
    short = fit(problem, max_iter=2)
    assert not short.converged and "max_iter=2" in short.message and len(short.history) == 3
    long = fit(problem, max_iter=300)
    assert long.converged and "settled" in long.message
