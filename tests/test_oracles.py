"""The oracles against each other and against scipy: nothing else may be trusted before these pass."""

import numpy as np
import oracles
import pytest
from mpmath import mp
from scipy.optimize import minimize
from scipy.special import gammaln
from scipy.stats import multivariate_normal, norm

from hidamari.statespace.kernels import HidaMatern, Matern, bank, steps
from hidamari.statespace.types import Sites


def random_sites(rng, T, K, dense=True):
    U = rng.normal(size=(T, K, max(1, K - 1)))
    J = U @ U.transpose(0, 2, 1)
    J[T // 3] = 0.0
    return Sites(rng.normal(size=(T, K)), J if dense else np.einsum("tkk->tk", J).copy())


@pytest.fixture
def chains(rng):
    """Two chains of two states, two read-outs each, three trials."""
    gaps, step = steps([np.sort(rng.uniform(0, 4, n)) for n in (6, 1, 4)])
    ss = bank([Matern(1, 0.8), HidaMatern(0, 1.5, 0.3)], gaps, step)
    return ss._replace(H=rng.normal(size=(2, 2, 2)), m=rng.normal(size=(2, 2)))


@pytest.mark.parametrize("dense", [True, False])
def test_propagation_and_joint_precision_agree(rng, chains, dense):
    sites = random_sites(rng, 11, 4, dense)
    one, two = oracles.posterior(chains, sites), oracles.posterior_by_precision(chains, sites)
    assert one.log_evidence.shape == (3,)
    np.testing.assert_allclose(one.mean, two.mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(one.full, two.full, rtol=0, atol=1e-10)
    np.testing.assert_allclose(one.log_evidence, two.log_evidence, rtol=1e-10)


def test_trials_are_independent(rng, chains):
    sites = random_sites(rng, 11, 4)
    both = oracles.posterior(chains, sites)
    assert not both.full[:6, :, 6:].any()
    first = oracles.posterior(chains._replace(step=chains.step[:6]), Sites(sites.j[:6], sites.J[:6]))
    np.testing.assert_array_equal(both.mean[:6], first.mean)


def test_chain_is_the_process_of_its_kernel(rng):
    times = np.sort(rng.uniform(0, 5, 12))
    kernel = Matern(2, 0.7, 1.3)
    ss = kernel.state_space(times)
    cov = oracles.prior_readouts(ss)[1][:, 0, :, 0]
    np.testing.assert_allclose(cov, kernel(np.subtract.outer(times, times)), rtol=0, atol=1e-13)
    y, R = rng.normal(size=12), rng.uniform(0.1, 1, 12)
    y[[2, 7]] = np.nan
    mean, var, lml = oracles.gp(kernel, times, y, R)
    seen = ~np.isnan(y)
    j, J = np.where(seen, np.nan_to_num(y) / R, 0.0)[:, None], np.where(seen, 1 / R, 0.0)[:, None]
    exact = oracles.posterior(ss, Sites(j, J))
    constant = norm.logpdf(y[seen], 0, np.sqrt(R[seen])).sum()
    np.testing.assert_allclose(exact.mean[:, 0], mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(exact.var[:, 0], var, rtol=0, atol=1e-12)
    np.testing.assert_allclose(exact.log_evidence[0] + constant, lml, rtol=1e-12)


def test_gp_by_scipy_and_by_fifty_digits(rng):
    times, R = np.sort(rng.uniform(0, 5, 9)), rng.uniform(0.1, 1, 9)
    y = rng.normal(size=9)
    kernel = Matern(2, 0.7, 1.3)
    mean, var, lml = oracles.gp(kernel, times, y, R)
    K = kernel(np.subtract.outer(times, times))
    np.testing.assert_allclose(lml, multivariate_normal(cov=K + np.diag(R)).logpdf(y), rtol=1e-12)
    y[4] = np.nan
    in_double = oracles.gp(kernel, times, y, R)
    in_fifty = oracles.gp_mp(oracles.matern_mp(2, 0.7, 1.3), times, y, R)
    for a, b in zip(in_double, in_fifty):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("tau", [0.0, 0.3, 4.0])
def test_matern_in_mpmath_is_the_textbook_formula(tau):
    x1, x2 = np.sqrt(3) * tau / 0.7, np.sqrt(5) * tau / 0.7
    assert float(oracles.matern_mp(0, 0.7, 2.0)(mp.mpf(tau))) == pytest.approx(
        2 * np.exp(-tau / 0.7), rel=1e-14
    )
    assert float(oracles.matern_mp(1, 0.7)(mp.mpf(tau))) == pytest.approx((1 + x1) * np.exp(-x1), rel=1e-14)
    exact = (1 + x2 + x2**2 / 3) * np.exp(-x2)
    assert float(oracles.matern_mp(2, 0.7)(mp.mpf(tau))) == pytest.approx(exact, rel=1e-14)


def poisson(y, m, v):
    """E, alpha and beta of counts with log rate N(m, v)."""
    rate = np.exp(m + v / 2)
    return y * m - rate - gammaln(y + 1), y - rate, rate


def poisson_log_prob(y, eta):
    return y * eta - np.exp(eta) - gammaln(y + 1)


def test_variational_is_exact_for_gaussian_noise(rng):
    ss = bank([Matern(1, 0.8), Matern(0, 2.0)], *steps(np.arange(8) * 0.3))
    mu, S = oracles.prior_readouts(ss)
    C, b, R = rng.normal(size=(3, 2)), rng.normal(size=3), 0.4
    y = rng.normal(size=(8, 3))

    def gaussian(y, m, v):
        return norm.logpdf(y, m, np.sqrt(R)) - v / R / 2, (y - m) / R, np.full(y.shape, 1 / R)

    found = oracles.variational(mu, S, C, b, y, gaussian)
    exact = oracles.posterior(ss, Sites((y - b) @ C / R, np.broadcast_to(C.T @ C / R, (8, 2, 2))))
    np.testing.assert_allclose(found.mean, exact.mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.full, exact.full, rtol=0, atol=1e-12)
    cov = R * np.eye(24) + np.einsum("na,tasb,mb->tnsm", C, S, C).reshape(24, 24)
    assert found.elbo == pytest.approx(multivariate_normal(cov=cov).logpdf((y - b).ravel()), rel=1e-12)


def test_variational_is_the_best_gaussian():
    """One latent, one row: the fixed point is where direct search over (m, log v) ends."""
    y, c, b = np.array([3.0, 0.0, 5.0]), np.array([0.7, -0.4, 1.1]), np.array([0.2, 0.0, -0.3])
    found = oracles.variational(np.zeros((1, 1)), np.ones((1, 1, 1, 1)), c[:, None], b, y[None], poisson)

    def loss(q):
        m, v = q[0], np.exp(q[1])
        kl = (v + m * m - 1 - q[1]) / 2
        return kl - poisson(y, c * m + b, c * c * v)[0].sum()

    best = minimize(loss, [0.0, 0.0], tol=1e-14)
    assert found.elbo == pytest.approx(-best.fun, rel=1e-10)
    np.testing.assert_allclose([found.mean[0, 0], np.log(found.full[0, 0, 0, 0])], best.x, atol=1e-5)
    evidence = oracles.evidence_by_quadrature(poisson_log_prob, y, c, b)
    assert found.elbo < evidence < found.elbo + 0.05


def test_quadrature_of_gaussian_noise():
    y, c, b = np.array([3.0, 0.5]), np.array([0.7, -2.0]), np.array([0.2, 0.0])
    value = oracles.evidence_by_quadrature(lambda y, eta: norm.logpdf(y, eta, 1e-3), y, c, b, 0.4, 2.5)
    cov = 2.5 * np.outer(c, c) + 1e-6 * np.eye(2)
    assert value == pytest.approx(multivariate_normal(0.4 * c + b, cov).logpdf(y), rel=1e-9)
