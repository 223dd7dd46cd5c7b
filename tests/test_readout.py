"""Read-out steps against differences and a general optimiser; the learnt prior against its density."""

import numpy as np
import pytest
from scipy.optimize import minimize

from hidamari.inference.likelihoods import (
    Bernoulli,
    Binomial,
    Gaussian,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from hidamari.inference.readout import (
    LoadingPrior,
    canonical_order,
    log_prior,
    newton_step,
    slopes,
    update_prior,
    update_readout,
)
from hidamari.inference.sites import Readout, expected_sites

DT = 0.05
CONCAVE = [Poisson(), NegativeBinomial(3.0), Binomial(6), Bernoulli(), Gaussian(0.4)]
PRIOR = LoadingPrior(np.array([0.5, 1.3]), 1.2, 0.8)


def problem(rng, likelihood, T=40, N=3, K=2):
    root = 0.3 * rng.normal(size=(T, K, K))
    mean, cov = rng.normal(size=(T, K)), root @ root.transpose(0, 2, 1)
    truth = Readout(0.6 * rng.normal(size=(N, K)), np.full(N, np.log(1 / DT) if likelihood.counts else 0.2))
    y = likelihood.sample(mean @ truth.loadings.T + truth.bias, rng, DT)
    y[rng.random(y.shape) < 0.1] = np.nan
    return y, mean, cov


def objective(readout, prior, likelihood, y, mean, cov):
    """Expected log likelihood plus log prior of each unit."""
    out = []
    for c, b, column in zip(*readout, y.T):
        value = expected_sites(
            Readout(c[None], np.array([b])), likelihood, column[:, None], mean, cov, DT
        ).value
        out.append(value - c**2 @ prior.relevance / 2 - prior.bias_precision * (b - prior.bias_mean) ** 2 / 2)
    return np.array(out)


def slope(readout, prior, likelihood, y, mean, cov):
    """Gradient of the objective of one unit by c and b, written from the chain rule."""
    (c,), b = readout
    mu, v = mean @ c + b, np.einsum("a,tab,b->t", c, cov, c)
    _, alpha, beta = likelihood.expectations(y[:, 0], mu, v, DT)
    by_c = alpha @ mean - np.einsum("t,tab,b->a", beta, cov, c) - prior.relevance * c
    return np.append(by_c, alpha.sum() - prior.bias_precision * (b[0] - prior.bias_mean))


@pytest.mark.parametrize("likelihood", [pytest.param(v, id=v.name) for v in CONCAVE])
def test_newton_reaches_the_optimum(rng, likelihood):
    y, mean, cov = problem(rng, likelihood)
    start = Readout(np.zeros((3, 2)), np.full(3, 1.0))
    found = update_readout(start, PRIOR, likelihood, y, mean, cov, DT, n_steps=60, tol=1e-15)
    for n in range(3):
        data = (PRIOR, likelihood, y[:, [n]], mean, cov)

        def negative(x, data=data):
            one = Readout(x[None, :2], x[2:])
            return -objective(one, *data)[0], -slope(one, *data)

        x = rng.normal(size=3)
        steps = 1e-5 * np.eye(3)
        numeric = [(negative(x + e)[0] - negative(x - e)[0]) / 2e-5 for e in steps]
        np.testing.assert_allclose(negative(x)[1], numeric, rtol=1e-5, atol=1e-5)
        options = {"ftol": 1e-16, "gtol": 1e-10, "maxiter": 1000}
        best = minimize(negative, np.array([0, 0, 1.0]), jac=True, method="L-BFGS-B", options=options)
        vector = np.append(found.loadings[n], found.bias[n])
        assert negative(vector)[0] <= best.fun + 1e-12 * abs(best.fun)
        np.testing.assert_allclose(vector, best.x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("likelihood", [pytest.param(v, id=v.name) for v in [*CONCAVE, StudentT(3.0, 0.5)]])
def test_slopes_of_every_unit(rng, likelihood):
    y, mean, cov = problem(rng, likelihood)
    readout = Readout(0.5 * rng.normal(size=(3, 2)), rng.normal(size=3))
    flat = LoadingPrior(np.zeros(2), 0.0, 0.0)
    found = slopes(readout, likelihood, y, mean, cov, DT)
    np.testing.assert_allclose(found.value, objective(readout, flat, likelihood, y, mean, cov), rtol=1e-12)
    for n in range(3):
        one = Readout(readout.loadings[[n]], readout.bias[[n]])
        expected = slope(one, flat, likelihood, y[:, [n]], mean, cov)
        np.testing.assert_allclose(found.first[n], expected, rtol=1e-10, atol=1e-10)
    assert np.linalg.eigvalsh(found.curvature).min() > 0


@pytest.mark.parametrize("free", [(True, True), (True, False), (False, True)])
def test_one_newton_step_is_the_first_of_many(rng, free):
    y, mean, cov = problem(rng, Gaussian(0.4))
    start = Readout(0.1 * rng.normal(size=(3, 2)), rng.normal(size=3))
    one = newton_step(start, PRIOR, slopes(start, Gaussian(0.4), y, mean, cov, DT), free)
    many = update_readout(start, PRIOR, Gaussian(0.4), y, mean, cov, DT, free=free)
    np.testing.assert_allclose(one.loadings, many.loadings, rtol=0, atol=1e-12)
    np.testing.assert_allclose(one.bias, many.bias, rtol=0, atol=1e-12)


def test_gaussian_read_out_is_solved_in_one_step(rng):
    """[C b] solves the normal equations with E[f f'] = m m' + V, and the prior's rows."""
    likelihood = Gaussian(0.4)
    y, mean, cov = problem(rng, likelihood)
    y = np.where(np.isnan(y), 0.0, y)
    found = update_readout(Readout(np.ones((3, 2)), np.zeros(3)), PRIOR, likelihood, y, mean, cov, DT)
    wide = np.column_stack([mean, np.ones(len(mean))])
    second = wide.T @ wide
    second[:2, :2] += cov.sum(0)
    precision = np.append(PRIOR.relevance, PRIOR.bias_precision)
    rhs = wide.T @ y / 0.4 + (precision * [0, 0, PRIOR.bias_mean])[:, None]
    exact = np.linalg.solve(second / 0.4 + np.diag(precision), rhs)
    np.testing.assert_allclose(found.loadings, exact[:2].T, rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.bias, exact[2], rtol=0, atol=1e-11)


@pytest.mark.parametrize("likelihood", [pytest.param(v, id=v.name) for v in [*CONCAVE, StudentT(3.0, 0.5)]])
@pytest.mark.parametrize("far", [1.0, 30.0])
def test_no_step_makes_a_unit_worse(rng, likelihood, far):
    y, mean, cov = problem(rng, likelihood, N=8)
    readout = Readout(far * 0.3 * rng.normal(size=(8, 2)), far * 0.3 * rng.normal(size=8))
    before = objective(readout, PRIOR, likelihood, y, mean, cov)
    for _ in range(6):
        readout = update_readout(readout, PRIOR, likelihood, y, mean, cov, DT)
        after = objective(readout, PRIOR, likelihood, y, mean, cov)
        assert (after >= before - 1e-10 * np.abs(before)).all()
        before = after


def test_units_do_not_hear_of_each_other(rng):
    y, mean, cov = problem(rng, Poisson())
    start = Readout(np.zeros((3, 2)), np.full(3, 1.0))
    all_units = update_readout(start, PRIOR, Poisson(), y, mean, cov, DT, n_steps=10)
    for n in range(3):
        alone = update_readout(
            Readout(np.zeros((1, 2)), np.ones(1)), PRIOR, Poisson(), y[:, [n]], mean, cov, DT, n_steps=10
        )
        np.testing.assert_allclose(alone.loadings[0], all_units.loadings[n], rtol=0, atol=1e-12)


def test_silent_constant_and_unseen_units(rng):
    y, mean, cov = problem(rng, Poisson(), N=4)
    y[:, 1], y[:, 2], y[:, 3] = 0.0, 7.0, np.nan
    start = Readout(np.zeros((4, 2)), np.full(4, 1.0))
    found = update_readout(start, PRIOR, Poisson(), y, mean, cov, DT, n_steps=50)
    assert np.isfinite(found.loadings).all() and np.isfinite(found.bias).all()
    assert found.bias[1] < found.bias[0]
    # with nothing observed the prior's mode is the answer
    np.testing.assert_allclose(found.loadings[3], 0, atol=1e-14)
    assert found.bias[3] == pytest.approx(PRIOR.bias_mean, abs=1e-14)


@pytest.mark.parametrize("free", [(True, False), (False, True), (False, False)])
def test_what_is_held_does_not_move(rng, free):
    y, mean, cov = problem(rng, Poisson())
    start = Readout(0.1 * rng.normal(size=(3, 2)), np.full(3, 1.0))
    before = start.loadings.copy(), start.bias.copy()
    found = update_readout(start, PRIOR, Poisson(), y, mean, cov, DT, n_steps=20, free=free)
    assert np.array_equal(found.loadings, before[0]) is not free[0]
    assert np.array_equal(found.bias, before[1]) is not free[1]
    np.testing.assert_array_equal(start.loadings, before[0])
    if free == (False, True):
        h = 1e-5
        up = objective(found._replace(bias=found.bias + h), PRIOR, Poisson(), y, mean, cov)
        down = objective(found._replace(bias=found.bias - h), PRIOR, Poisson(), y, mean, cov)
        np.testing.assert_allclose((up - down) / (2 * h), 0, atol=1e-5)


@pytest.mark.parametrize("strength", [0.5, 20.0])
def test_the_prior_is_the_mode_of_its_density(rng, strength):
    readout = Readout(0.7 * rng.normal(size=(30, 3)) * [2.0, 1.0, 0.1], rng.normal(size=30))
    found = update_prior(readout, strength)
    best = log_prior(readout, found, strength)
    for a in range(3):
        for factor in (0.98, 1.02):
            relevance = found.relevance.copy()
            relevance[a] *= factor
            assert log_prior(readout, found._replace(relevance=relevance), strength) < best
    for factor in (0.98, 1.02):
        assert (
            log_prior(readout, found._replace(bias_precision=found.bias_precision * factor), strength) < best
        )
    for shift in (-0.02, 0.02):
        assert log_prior(readout, found._replace(bias_mean=found.bias_mean + shift), strength) < best
    assert (found.relevance > 0).all() and (found.relevance <= 1 + 1 / strength).all()


def test_the_prior_of_one_silent_population_is_finite():
    found = update_prior(Readout(np.zeros((1, 2)), np.zeros(1)), 2.0)
    assert all(np.isfinite(np.ravel(part)).all() for part in found)


def test_canonical_order_and_sign():
    loadings = np.array([[0.1, -2.0, 1.0], [0.2, -1.0, -1.0]])
    mean = np.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    order, signs = canonical_order(Readout(loadings, np.zeros(2)), mean)
    np.testing.assert_array_equal(order, [1, 2, 0])
    np.testing.assert_array_equal(signs, [-1.0, 1.0, 1.0])
