"""infer_sites against dense Gaussian variational inference, the evidence by quadrature, and hard data."""

import numpy as np
import oracles
import pytest
from scipy.stats import multivariate_normal

from hidamari.inference import sites as module
from hidamari.inference.likelihoods import (
    Bernoulli,
    Binomial,
    Gaussian,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from hidamari.inference.posterior import empty_sites, infer_sites, site_kl
from hidamari.inference.readout import LoadingPrior, update_readout
from hidamari.inference.sites import Readout
from hidamari.statespace import kalman
from hidamari.statespace.kernels import HidaMatern, Matern, bank
from hidamari.statespace.types import Sites

DT = 0.05
CONCAVE = [Poisson(), NegativeBinomial(3.0), Binomial(6), Bernoulli(), Gaussian(0.4)]
EVERY = [*CONCAVE, StudentT(3.0, 0.5)]


def named(values):
    return [pytest.param(v, id=v.name) for v in values]


def grid(kernels, lengths):
    """A bank over trials of these lengths, DT apart."""
    step = np.zeros(sum(lengths), np.int64)
    step[np.cumsum([0, *lengths[:-1]])] = -1
    return bank(kernels, np.array([DT]), step)


def problem(rng, likelihood, lengths=(9, 1, 5), n_units=4, missing=0.2):
    """Two latents (one oscillates), a random read-out, and draws with holes in them."""
    ss = grid([Matern(1, 0.3), HidaMatern(1, 0.5, 1.5)], lengths)
    T = sum(lengths)
    level = np.log(2 / DT) if likelihood.counts else 0.3
    readout = Readout(0.7 * rng.normal(size=(n_units, 2)), level + 0.2 * rng.normal(size=n_units))
    eta = rng.normal(size=(T, 2)) @ readout.loadings.T + readout.bias
    y = likelihood.sample(eta, rng, DT)
    y[rng.random(y.shape) < missing] = np.nan
    return ss, y, readout


def settle(ss, y, readout, likelihood, sites=None):
    """Sweeps to the fixed point: an error d in q changes the ELBO by d^2, so its gains stop early."""
    q = infer_sites(ss, y, readout, likelihood, DT, sites, 500, 1e-15)
    for _ in range(30):
        q = infer_sites(ss, y, readout, likelihood, DT, q.sites, 1, 0.0)
    return q


def dense_elbo(ss, y, readout, likelihood, sites):
    """E_q log p(y | f) less KL(q | prior), by dense algebra with an inverted prior."""
    (mu, S), exact = oracles.prior_readouts(ss), oracles.posterior(ss, sites)
    n = mu.size
    mu, S, mean, V = mu.ravel(), S.reshape(n, n), exact.mean.ravel(), exact.full.reshape(n, n)
    inverse = np.linalg.inv(S)
    kl = np.trace(inverse @ V) - n + (mean - mu) @ inverse @ (mean - mu)
    kl += np.linalg.slogdet(S)[1] - np.linalg.slogdet(V)[1]
    m = exact.mean @ readout.loadings.T + readout.bias
    v = np.einsum("na,tab,nb->tn", readout.loadings, exact.cov, readout.loadings)
    return likelihood.expectations(y, m, v, DT, constant=0.0)[0].sum() - kl / 2


def test_gaussian_noise_is_exact_in_one_step(rng):
    likelihood = Gaussian(np.array([0.1, 0.4, 1.0, 3.0]))
    ss, y, readout = problem(rng, likelihood)
    q = infer_sites(ss, y, readout, likelihood, max_sweeps=1)
    mu, S = oracles.prior_readouts(ss)
    T, K = mu.shape
    C = np.kron(np.eye(T), readout.loadings)
    seen = ~np.isnan(y.ravel())
    S = S.reshape(T * K, T * K)
    noise = np.diag(np.tile(likelihood.variance, T))
    G = (C @ S @ C.T + noise)[np.ix_(seen, seen)]
    centre = np.tile(readout.bias, T)[seen]
    gain = np.linalg.solve(G, C[seen] @ S).T
    np.testing.assert_allclose(q.mean.ravel(), gain @ (y.ravel()[seen] - centre), rtol=0, atol=1e-10)
    V = (S - gain @ C[seen] @ S).reshape(T, K, T, K)
    np.testing.assert_allclose(q.cov, np.einsum("tatb->tab", V), rtol=0, atol=1e-10)
    evidence = multivariate_normal.logpdf(y.ravel()[seen], centre, G)
    assert q.elbo + likelihood.log_base(y).sum() == pytest.approx(evidence, rel=1e-11)


def test_gaussian_noise_far_below_the_signal(rng):
    """Noise variance 1e-6: means to 1e-8, variances to 1e-6 of themselves."""
    likelihood = Gaussian(1e-6)
    ss, y, readout = problem(rng, likelihood)
    q = infer_sites(ss, y, readout, likelihood)
    exact = oracles.posterior(ss, q.sites)
    np.testing.assert_allclose(q.mean, exact.mean, rtol=0, atol=1e-8)
    variance = np.einsum("tkk->tk", q.cov)
    np.testing.assert_allclose(variance, exact.var, rtol=1e-6)


@pytest.mark.parametrize("likelihood", named(EVERY))
def test_fixed_point_is_dense_variational_inference(rng, likelihood):
    ss, y, readout = problem(rng, likelihood)

    def expectations(y, m, v):
        return likelihood.expectations(y, m, v, DT)

    q = settle(ss, y, readout, likelihood)
    dense = oracles.variational(*oracles.prior_readouts(ss), *readout, y, expectations)
    np.testing.assert_allclose(q.mean, dense.mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(q.cov, np.einsum("tatb->tab", dense.full), rtol=0, atol=1e-8)
    assert q.elbo + likelihood.log_base(y).sum() == pytest.approx(dense.elbo, rel=1e-10)
    assert infer_sites(ss, y, readout, likelihood, DT).converged


@pytest.mark.parametrize("likelihood", named(EVERY))
def test_elbo_of_any_sites_is_the_dense_one(rng, likelihood):
    ss, y, readout = problem(rng, likelihood)
    root = 0.5 * rng.normal(size=(len(y), 2, 2))
    sites = Sites(rng.normal(size=(len(y), 2)), root @ root.transpose(0, 2, 1))
    q = infer_sites(ss, y, readout, likelihood, DT, sites=sites, max_sweeps=0)
    assert q.elbo == pytest.approx(dense_elbo(ss, y, readout, likelihood, sites), rel=1e-8)
    assert q.history == (q.elbo,)
    np.testing.assert_array_equal(q.sites.j, sites.j)


def test_site_kl_is_zero_without_sites_and_positive_with_them(rng):
    ss, y, readout = problem(rng, Poisson())
    nothing = empty_sites(len(y), 2)
    prior, evidence = kalman.infer(ss, nothing)
    assert site_kl(nothing, prior.mean, prior.cov, evidence) == 0.0
    q = infer_sites(ss, y, readout, Poisson(), DT)
    _, evidence = kalman.infer(ss, q.sites)
    assert site_kl(q.sites, q.mean, q.cov, evidence) > 0


def test_the_sites_are_their_own_target(rng):
    ss, y, readout = problem(rng, Poisson())
    q = settle(ss, y, readout, Poisson())
    np.testing.assert_allclose(q.target.j, q.sites.j, rtol=0, atol=1e-9)
    np.testing.assert_allclose(q.target.J, q.sites.J, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("likelihood", named(CONCAVE))
@pytest.mark.parametrize("gain", [0.3, 1.5])
def test_elbo_bounds_the_evidence(rng, likelihood, gain):
    """One bin, one latent: the evidence is an integral over one number."""
    ss = grid([Matern(1, 0.3)], (1,))
    c = gain * rng.normal(size=6)
    b = np.full(6, np.log(1 / DT) if likelihood.counts else -0.2)
    y = likelihood.sample(0.8 * c + b, rng, DT)[None]
    q = infer_sites(ss, y, Readout(c[:, None], b), likelihood, DT, tol=1e-14)
    log_p = oracles.evidence_by_quadrature(lambda y, eta: likelihood.log_prob(y, eta, DT), y[0], c, b)
    gap = log_p - q.elbo - likelihood.log_base(y).sum()
    assert -1e-9 <= gap < 0.05
    if isinstance(likelihood, Gaussian):
        assert abs(gap) < 1e-9


HARD = {
    "silent": np.zeros((30, 3)),
    "one spike": np.eye(30, 3) * np.array([1.0, 0, 0]),
    "one huge count": np.where(np.eye(30, 3) * np.array([0, 1.0, 0]) > 0, 1e4, 1.0),
    "sparse 1e9": np.where(np.arange(90).reshape(30, 3) % 11 == 0, 1e9, 0.0),
    "steady 1e9": 1e9 + np.arange(90.0).reshape(30, 3),
    "alternating": np.tile([[0.0, 200.0, 0.0], [200.0, 0.0, 200.0]], (15, 1)),
    "one bin": np.array([[3.0, np.nan, 0.0]]),
    "two bins": np.array([[3.0, np.nan, 0.0], [np.nan] * 3]),
}


@pytest.mark.parametrize("likelihood", named([Poisson(), NegativeBinomial(2.0)]))
@pytest.mark.parametrize("gain", [0.3, 1.5])
@pytest.mark.parametrize("data", HARD)
def test_elbo_never_falls(rng, data, gain, likelihood):
    """From a bias of one count a bin, whatever the counts are."""
    y = HARD[data]
    ss = grid([Matern(1, 0.3), Matern(2, 0.6)], (len(y),))
    readout = Readout(gain * rng.normal(size=(3, 2)), np.full(3, np.log(1 / DT)))
    q = infer_sites(ss, y, readout, likelihood, DT, max_sweeps=300)
    history = np.array(q.history)
    assert np.isfinite(history).all()
    assert np.diff(history).min(initial=0.0) >= -1e-8 * abs(history[-1])
    for array in (*q.sites, q.mean, q.cov):
        assert np.isfinite(array).all()
    assert q.converged
    variance = np.einsum("tkk->tk", q.cov)
    assert (variance > 0).all() and (variance <= 1 + 1e-9).all()


def test_steps_too_far_are_silent_on_threads_too(rng, monkeypatch):
    """What numpy may say of an overflow is settled thread by thread."""
    monkeypatch.setattr(module, "_SLAB", 1)
    y = np.tile(HARD["steady 1e9"], (4, 1))
    ss = grid([Matern(1, 0.3), Matern(2, 0.6)], (60, 60))
    readout = Readout(1.5 * rng.normal(size=(3, 2)), np.full(3, np.log(1 / DT)))
    one = infer_sites(ss, y, readout, Poisson(), DT, n_threads=1)
    monkeypatch.setattr(module, "_THREADS_ABOVE", 0)
    two = infer_sites(ss, y, readout, Poisson(), DT, n_threads=2)
    assert one.elbo == two.elbo
    np.testing.assert_array_equal(one.mean, two.mean)
    start = Readout(np.zeros((3, 2)), np.full(3, -5.0))
    prior = LoadingPrior(np.ones(2), 0.0, 1.0)
    update_readout(start, prior, Poisson(), y, one.mean, one.cov, DT, n_steps=5)


@pytest.mark.parametrize("likelihood", named(EVERY))
def test_nothing_observed_leaves_the_prior(likelihood):
    ss = grid([Matern(1, 0.3), Matern(0, 1.0)], (4, 2))
    readout = Readout(np.ones((3, 2)), np.zeros(3))
    q = infer_sites(ss, np.full((6, 3), np.nan), readout, likelihood, DT)
    assert q.converged and q.elbo == 0.0
    np.testing.assert_array_equal(q.mean, np.zeros((6, 2)))
    np.testing.assert_allclose(q.cov, np.broadcast_to(np.eye(2), (6, 2, 2)), rtol=0, atol=1e-14)


def test_a_unit_without_data_or_without_loading_moves_nothing(rng):
    ss, y, readout = problem(rng, Poisson())
    q = settle(ss, y, readout, Poisson())
    more = Readout(
        np.vstack([readout.loadings, [[1.0, -1.0], [0.0, 0.0]]]), np.append(readout.bias, [1.0, 3.0])
    )
    extra = np.column_stack([y, np.full(len(y), np.nan), rng.poisson(1.0, len(y))])
    p = settle(ss, extra, more, Poisson())
    np.testing.assert_allclose(p.mean, q.mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(p.cov, q.cov, rtol=0, atol=1e-9)


def test_units_and_latents_in_another_order(rng):
    ss, y, readout = problem(rng, Poisson())
    q = settle(ss, y, readout, Poisson())
    units = rng.permutation(4)
    p = settle(ss, y[:, units], Readout(readout.loadings[units], readout.bias[units]), Poisson())
    np.testing.assert_allclose(p.mean, q.mean, rtol=0, atol=1e-9)
    swapped = grid([HidaMatern(1, 0.5, 1.5), Matern(1, 0.3)], (9, 1, 5))
    p = settle(swapped, y, Readout(readout.loadings[:, ::-1], readout.bias), Poisson())
    np.testing.assert_allclose(p.mean[:, ::-1], q.mean, rtol=0, atol=1e-9)
    assert p.elbo == pytest.approx(q.elbo, rel=1e-12)


def test_rotated_loadings_of_equal_kernels_give_the_same_rates(rng):
    _, y, readout = problem(rng, Poisson())
    ss = grid([Matern(1, 0.4), Matern(1, 0.4)], (9, 1, 5))
    turn = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    q = settle(ss, y, readout, Poisson())
    p = settle(ss, y, Readout(readout.loadings @ turn, readout.bias), Poisson())
    np.testing.assert_allclose(p.mean @ turn.T, q.mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(turn @ p.cov @ turn.T, q.cov, rtol=0, atol=1e-9)


def test_loadings_and_prior_variance_trade_off(rng):
    """Loadings times a, prior variance over a^2: the same ELBO and the same rates."""
    _, y, readout = problem(rng, Poisson())
    one = grid([Matern(1, 0.3), Matern(2, 0.5)], (9, 1, 5))
    two = grid([Matern(1, 0.3, 1 / 9.0), Matern(2, 0.5, 1 / 9.0)], (9, 1, 5))
    q = settle(one, y, readout, Poisson())
    p = settle(two, y, Readout(3 * readout.loadings, readout.bias), Poisson())
    assert p.elbo == pytest.approx(q.elbo, rel=1e-9)
    np.testing.assert_allclose(3 * p.mean, q.mean, rtol=0, atol=1e-9)


def test_time_reversed(rng):
    _, y, readout = problem(rng, Poisson())
    ss = grid([Matern(1, 0.3), HidaMatern(0, 0.5, 1.0)], (15,))
    q = settle(ss, y, readout, Poisson())
    p = settle(ss, np.ascontiguousarray(y[::-1]), readout, Poisson())
    np.testing.assert_allclose(p.mean[::-1], q.mean, rtol=0, atol=1e-9)
    assert p.elbo == pytest.approx(q.elbo, rel=1e-11)


def test_a_start_changes_the_way_and_not_the_end(rng):
    ss, y, readout = problem(rng, Poisson())
    q = settle(ss, y, readout, Poisson())
    sites = Sites(0.1 * rng.normal(size=(15, 2)), np.broadcast_to(0.1 * np.eye(2), (15, 2, 2)).copy())
    before = sites.j.copy(), sites.J.copy()
    p = settle(ss, y, readout, Poisson(), sites)
    np.testing.assert_allclose(p.mean, q.mean, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(sites.j, before[0])
    np.testing.assert_array_equal(sites.J, before[1])
    again = infer_sites(ss, y, readout, Poisson(), DT, sites=q.sites)
    assert len(again.history) == 2 and again.converged


def test_sweeps_are_limited_and_the_limit_is_told(rng):
    ss, y, readout = problem(rng, Poisson())
    q = infer_sites(ss, y, readout, Poisson(), DT, max_sweeps=1, tol=1e-15)
    assert len(q.history) == 2 and not q.converged


def test_threads_change_nothing(rng):
    ss, y, readout = problem(rng, Poisson(), lengths=(40, 30, 50, 20))
    one = infer_sites(ss, y, readout, Poisson(), DT, n_threads=1)
    two = infer_sites(ss, y, readout, Poisson(), DT, n_threads=3)
    np.testing.assert_array_equal(one.mean, two.mean)
    np.testing.assert_array_equal(one.cov, two.cov)
    assert one.elbo == two.elbo
