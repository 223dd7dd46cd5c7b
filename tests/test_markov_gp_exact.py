"""hd.MarkovGP against answers too simple to be wrong: dense Gaussian processes, closed forms, peers."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

import hidamari as hd
from tests.oracles import evidence_by_quadrature, gp, variational

KERNELS = {
    "matern0": hd.Matern(0, 0.8, 1.3),
    "matern1": hd.Matern(1, 0.8, 1.3),
    "matern3": hd.Matern(3, 1.5, 0.7),
    "hida": hd.HidaMatern(1, 0.8, 0.7, 1.3),
    "sum": hd.Matern(1, 0.5, 0.5) + hd.HidaMatern(1, 2.0, 1.0, 1.0) + hd.Constant(0.3),
    "periodic": hd.QuasiPeriodic(),
    "smooth": hd.SquaredExponential(),
    "product": hd.Matern(2, 3.0) * (hd.Cosine(0.5, 0.7) + hd.Matern(1, 1.0)),
}


def fixed(kernel, likelihood=None, mean=0.4, **arguments):
    likelihood = hd.Gaussian(0.2) if likelihood is None else likelihood
    return hd.MarkovGP(kernel, likelihood, mean=mean, learn=False, progress=False, **arguments)


def data(rng, T=25):
    """Times in no order, two of them repeated, and readings with holes."""
    t = rng.uniform(-3, 4, T)
    t[5] = t[9] = t[2]
    y = rng.standard_normal(T) + 0.4
    y[[3, 9, T - 1]] = np.nan
    return t, y


def dense(kernel, t, y, R, at, bias=0.4):
    """Mean, full covariance of f + bias at other times, and log evidence."""
    seen = ~np.isnan(y)
    t, y, R = t[seen], y[seen] - bias, np.broadcast_to(R, seen.shape)[seen]
    G = kernel(np.subtract.outer(t, t)) + np.diag(R)
    cross = kernel(np.subtract.outer(t, at))
    weights = np.linalg.solve(G, cross)
    cov = kernel(np.subtract.outer(at, at)) - cross.T @ weights
    value = stats.multivariate_normal(np.zeros(len(t)), G).logpdf(y)
    return weights.T @ y + bias, cov, value


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_regression_is_that_of_a_dense_process(kernel, rng):
    t, y = data(rng)
    at = np.concatenate([rng.uniform(-5, 6, 8), t[:3]])
    model = fixed(kernel).fit(t, y)
    mean, cov, value = dense(kernel, t, y, 0.2, at)
    found = model.predict(at)
    np.testing.assert_allclose(found.latent_mean, mean, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.latent_var, np.diag(cov), rtol=1e-8, atol=1e-11)
    assert model.log_evidence_ == pytest.approx(value, rel=1e-11)
    smoothed = model.smooth()
    mean, cov, _ = dense(kernel, t, y, 0.2, t)
    np.testing.assert_allclose(smoothed.latent_mean, mean, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(smoothed.latent_var, np.diag(cov), rtol=1e-8, atol=1e-11)
    np.testing.assert_array_equal(smoothed.time, t)
    np.testing.assert_array_equal(smoothed["mean"], smoothed.latent_mean)
    half = stats.norm.ppf(0.95) * np.sqrt(np.diag(cov) + 0.2)
    wide = model.predict(t, observation=True, interval=0.9)
    np.testing.assert_allclose(wide.upper - wide.latent_mean, half, rtol=1e-8)
    np.testing.assert_allclose(wide.latent_mean - wide.lower, half, rtol=1e-8)
    np.testing.assert_allclose(wide.observation_var, np.diag(cov) + 0.2, rtol=1e-8)


@pytest.mark.parametrize("order", [0, 1])
def test_kernels_that_begin_at_the_first_time(order, rng):
    t, y = data(rng)
    kernel = hd.Wiener(order, 0.7, start=3.0) + hd.Matern(0, 1.0)
    at = np.append(t.min() + np.array([0.0, 0.7, 3.0, 9.0]), t[:3])
    found = fixed(kernel).fit(t, y).predict(at)
    seen, first = ~np.isnan(y), t.min()
    both = np.append(t[seen], at) - first
    K, n = kernel.covariance(both, both), seen.sum()
    weights = np.linalg.solve(K[:n, :n] + 0.2 * np.eye(n), K[:n, n:])
    np.testing.assert_allclose(found.latent_mean, weights.T @ (y[seen] - 0.4) + 0.4, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(found.latent_var, np.diag(K[n:, n:] - K[n:, :n] @ weights), rtol=1e-8)


def test_outputs_and_trials_are_independent_processes_of_one_kernel(rng):
    kernel, noise, bias = hd.Matern(1, 0.8, 1.3), np.array([0.1, 0.5]), np.array([1.0, -2.0])
    times = [rng.uniform(0, 3, n) for n in (9, 14)]
    y = [rng.standard_normal((len(t), 2)) for t in times]
    error = [rng.uniform(0.1, 0.5, (len(t), 2)) for t in times]
    y[0][4, 1] = np.nan
    model = fixed(kernel, hd.Gaussian(noise), bias).fit(times, y, error=error)
    at = rng.uniform(-1, 4, 5)
    found, total = model.predict(at), 0.0
    for r in range(2):
        for n in range(2):
            R = noise[n] + error[r][:, n] ** 2
            mean, cov, value = dense(kernel, times[r], y[r][:, n], R, at, bias[n])
            np.testing.assert_allclose(found.latent_mean[r, :, n], mean, rtol=1e-9)
            np.testing.assert_allclose(found.latent_var[r, :, n], np.diag(cov), rtol=1e-9)
            total += value
    assert model.log_evidence_ == pytest.approx(total, rel=1e-11)
    assert model.score() == pytest.approx(total / 45, rel=1e-11)


def test_regression_is_that_of_scikit_learn(rng):
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    t, y = np.sort(rng.uniform(0, 5, 30)), rng.standard_normal(30)
    peer = 1.3 * kernels.Matern(0.8, nu=2.5) + kernels.WhiteKernel(0.2)
    peer = GaussianProcessRegressor(peer, optimizer=None, alpha=0.0).fit(t[:, None], y)
    at = rng.uniform(-1, 6, 7)
    mean, sd = peer.predict(at[:, None], return_std=True)
    model = fixed(hd.Matern(2, 0.8, 1.3), mean=0.0).fit(t, y)
    found = model.predict(at, observation=True)
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.observation_var, sd**2, rtol=1e-8)
    assert model.log_evidence_ == pytest.approx(peer.log_marginal_likelihood_value_, rel=1e-10)


# ---------------------------------------------------------------------- derivatives, parts, draws


def slopes(order, lengthscale, variance):
    """k, k' and -k'' of Matern kernels of order 1 and 2, from their definition."""
    a = np.sqrt(2 * order + 1) / lengthscale

    def k(tau):
        x = a * np.abs(tau)
        return variance * np.exp(-x) * (1 + x + (x * x / 3 if order == 2 else 0))

    def first(tau):
        x = a * np.abs(tau)
        return -variance * a * np.sign(tau) * np.exp(-x) * (x if order == 1 else x * (1 + x) / 3)

    def second(tau):
        x = a * np.abs(tau)
        return variance * a * a * np.exp(-x) * (1 - x if order == 1 else (1 + x - x * x) / 3)

    return k, first, second


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_are_those_of_a_dense_process(order, rng):
    t, y = data(rng)
    kernel = hd.Matern(order, 0.8, 1.3)
    k, first, second = slopes(order, 0.8, 1.3)
    at = rng.uniform(-5, 6, 9)
    seen = ~np.isnan(y)
    G = k(np.subtract.outer(t[seen], t[seen])) + 0.2 * np.eye(seen.sum())
    cross = first(np.subtract.outer(at, t[seen]))
    mean = cross @ np.linalg.solve(G, y[seen] - 0.4)
    var = second(0.0) - np.einsum("it,ti->i", cross, np.linalg.solve(G, cross.T))
    found = fixed(kernel).fit(t, y).predict(at, derivatives=1)
    np.testing.assert_allclose(found.derivative_mean.sel(derivative=1), mean, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(found.derivative_var.sel(derivative=1), var, rtol=1e-8, atol=1e-9)
    assert found.derivative_mean.dims == ("time", "derivative")


@pytest.mark.parametrize("kernel", [KERNELS["hida"], hd.Matern(2, 1.0) * hd.Matern(1, 2.0) + hd.Cosine(0.4)])
def test_derivatives_are_limits_of_differences(kernel, rng):
    t, y = data(rng)
    model, h = fixed(kernel).fit(t, y), 1e-4
    at = rng.uniform(-5, 6, 6)
    up, down = (model.predict(at + s * h).latent_mean.values for s in (1, -1))
    found = model.predict(at, derivatives=1).derivative_mean.values[:, 0]
    np.testing.assert_allclose(found, (up - down) / (2 * h), rtol=1e-5, atol=1e-5)


def test_derivatives_of_counts(rng):
    t, h = np.arange(30.0), 1e-4
    model = fixed(hd.Matern(2, 5.0), hd.Poisson()).fit(t, rng.poisson(2.0, 30))
    up, down = (model.predict([7.3 + s * h]).latent_mean.item() for s in (1, -1))
    found = model.predict([7.3], derivatives=2)
    assert found.derivative_mean.values[0, 0] == pytest.approx((up - down) / (2 * h), rel=1e-5)
    assert (found.derivative_var.values > 0).all()


def test_parts_of_a_sum(rng):
    t, y = data(rng)
    first, second, third = hd.Matern(1, 0.5, 0.5), hd.HidaMatern(1, 2.0, 1.0, 1.0), hd.Matern(1, 9.0, 0.3)
    model = fixed((first + second) + third).fit(t, y)
    at = rng.uniform(-5, 6, 6)
    found = model.decompose(at)
    assert found.component.values.tolist() == ["Matern_1", "HidaMatern", "Matern_2"]
    seen = ~np.isnan(y)
    G = model.kernel_(np.subtract.outer(t[seen], t[seen])) + 0.2 * np.eye(seen.sum())
    for i, part in enumerate((first, second, third)):
        cross = part(np.subtract.outer(at, t[seen]))
        mean = cross @ np.linalg.solve(G, y[seen] - 0.4)
        var = part(0.0) - np.einsum("it,ti->i", cross, np.linalg.solve(G, cross.T))
        np.testing.assert_allclose(found.component_mean[:, i], mean, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found.component_var[:, i], var, rtol=1e-8)
    total = found.component_mean.sum("component") + found.prior_mean
    np.testing.assert_allclose(total, found.latent_mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.latent_mean, model.predict(at).latent_mean, rtol=1e-10, atol=1e-12)
    own = model.decompose()
    np.testing.assert_allclose(own.latent_var, model.smooth().latent_var, rtol=1e-10)


@pytest.mark.parametrize("noise", [0.2, 1e-7, 0.0], ids=["noise", "small noise", "exact"])
def test_draws_have_the_covariance_of_a_dense_process(noise, rng):
    t, y = data(rng, 12)
    y[5] = y[2]
    kernel, at, n = hd.Matern(1, 0.8, 1.3), np.array([-4.0, -1.3, 0.2, 0.25, 5.0]), 4000
    model = fixed(kernel, hd.Gaussian(noise)).fit(t, y)
    mean, cov, _ = dense(kernel, *(np.delete(a, 5) for a in (t, y)), noise if noise else 1e-14, at)
    draws = model.sample(n, at, random_state=0).latent_draw.values
    assert draws.shape == (n, 5)
    # in units of the dense factor draws are standard normal
    z = np.linalg.solve(np.linalg.cholesky(cov), (draws - mean).T)
    assert np.abs(z.mean(1)).max() < 5 / np.sqrt(n)
    assert np.abs(np.cov(z) - np.eye(5)).max() < 5 * np.sqrt(2 / n)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-4
    if noise == 0.0:
        own = model.sample(2, random_state=0).latent_draw.values
        seen = ~np.isnan(y)
        np.testing.assert_allclose(own[:, seen], np.broadcast_to(y[seen], own[:, seen].shape), rtol=1e-10)


def test_exact_readings_are_interpolated(rng):
    t = np.array([0.0, 3.0, 1.0, 1.0, 7.0])
    y = np.array([1.0, 2.0, -1.0, -1.0, np.nan])
    model = fixed(hd.Matern(1, 2.0), hd.Gaussian(0.0)).fit(t, y)
    found = model.predict([0.0, 1.0, 3.0, 7.0, 2.0])
    np.testing.assert_allclose(found["mean"][:3], [1.0, -1.0, 2.0], rtol=1e-12)
    np.testing.assert_allclose(found.latent_var[:3], 0.0, atol=1e-12)
    seen = np.array([0, 1, 2])
    mean, cov, value = dense(hd.Matern(1, 2.0), t[seen], y[seen], 0.0, np.array([7.0, 2.0]))
    np.testing.assert_allclose(found["mean"][3:], mean, rtol=1e-10)
    np.testing.assert_allclose(found.latent_var[3:], np.diag(cov), rtol=1e-10)
    assert model.log_evidence_ == pytest.approx(value, rel=1e-10)
    held = hd.MarkovGP(fixed={"likelihood.variance": 0}, progress=False).fit(t[:3], y[:3])
    assert held.likelihood_.variance == 0.0
    np.testing.assert_allclose(held.smooth()["mean"], y[:3], rtol=1e-9)


# -------------------------------------------------------------------------------- other likelihoods

COUNTED = {
    "poisson": (hd.Poisson(), lambda rng, eta: rng.poisson(0.5 * np.exp(eta))),
    "negative_binomial": (hd.NegativeBinomial(3.0), lambda rng, eta: rng.poisson(0.5 * np.exp(eta))),
    "bernoulli": (hd.Bernoulli(), lambda rng, eta: rng.random(len(eta)) < 1 / (1 + np.exp(-eta))),
    "binomial": (hd.Binomial(5), lambda rng, eta: rng.binomial(5, 1 / (1 + np.exp(-eta)))),
    "student_t": (hd.StudentT(4.0, 0.3), lambda rng, eta: eta + 0.3 * rng.standard_t(4.0, len(eta))),
}


# not student_t: its sites have an expected-information form, whose fixed point is near the best, not it
@pytest.mark.parametrize("name", [name for name in COUNTED if name != "student_t"])
def test_other_likelihoods_reach_the_best_gaussian(name, rng):
    likelihood, make = COUNTED[name]
    T, exposure = 18, 0.5 if likelihood.counts else 1.0
    t = rng.uniform(0, 6, T)
    t[4] = t[11]
    kernel = hd.Matern(1, 2.0, 0.8)
    y = make(rng, np.sin(t)).astype(float)
    y[7] = np.nan
    S = kernel(np.subtract.outer(t, t))[:, None, :, None]
    one = np.ones((1, 1))
    best = variational(
        np.zeros((T, 1)),
        S,
        one,
        np.array([0.4]),
        y[:, None],
        lambda y, m, v: likelihood.expectations(y, m, v, exposure),
    )
    model = fixed(kernel, likelihood).fit(t, y, exposure=exposure)
    found = model.smooth()
    np.testing.assert_allclose(found.latent_mean, best.mean[:, 0] + 0.4, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.latent_var, np.einsum("tata->t", best.full), rtol=1e-6)
    assert model.log_evidence_ == pytest.approx(best.elbo, rel=1e-9)
    expected = likelihood.predictive_mean(best.mean[:, 0] + 0.4, np.einsum("tata->t", best.full), 1.0)
    np.testing.assert_allclose(found["mean"], expected, rtol=1e-6, atol=1e-7)


def test_one_count_against_quadrature():
    model = fixed(hd.Matern(0, 1.0, 0.3), hd.Poisson()).fit([0.0], [3.0])
    exact = evidence_by_quadrature(
        hd.Poisson().log_prob, np.array([3.0]), np.ones(1), np.array([0.4]), var=0.3
    )
    assert exact - 0.02 < model.log_evidence_ <= exact


@pytest.mark.parametrize("name", COUNTED)
def test_intervals_of_new_observations(name, rng):
    likelihood, make = COUNTED[name]
    t = np.arange(12.0)
    model = fixed(hd.Matern(1, 2.0, 0.8), likelihood).fit(t, make(rng, np.sin(t)).astype(float), exposure=0.5)
    found = model.predict([3.3, 20.0], observation=True, interval=0.8)
    n = 200_000
    for i in range(2):
        eta = rng.normal(found.latent_mean[i], np.sqrt(found.latent_var[i]), n)
        draws = likelihood.sample(eta, rng, 0.5)
        assert found["mean"][i] == pytest.approx(draws.mean(), abs=6 * draws.std() / np.sqrt(n))
        # the least number that at least so much of the distribution does not exceed
        for p, end in ((0.1, found.lower[i].item()), (0.9, found.upper[i].item())):
            slack = 5 * np.sqrt(p * (1 - p) / n) + 0.002
            assert (draws <= end + 1e-9).mean() >= p - slack
            assert (draws < end - 1e-9).mean() <= p + slack


# ------------------------------------------------------------------------------- densities, learning


def test_new_data_given_the_old(rng):
    t, y = data(rng)
    kernel = hd.Matern(1, 0.8, 1.3)
    model = fixed(kernel).fit(t, y)
    new, values, error = np.array([0.3, 9.0]), np.array([1.0, -1.0]), np.array([0.3, 0.0])
    found = model.log_predictive(new, values, error=error).log_density.values
    for i in range(2):
        both = np.append(t, new[i]), np.append(y, values[i])
        R = np.append(np.full(len(t), 0.2), 0.2 + error[i] ** 2)
        joint = dense(kernel, *both, R, t)[2]
        assert found[i] == pytest.approx(joint - model.log_evidence_, rel=1e-9)
    assert model.score(new, values) == pytest.approx(dense(kernel, new, values, 0.2, t)[2] / 2)


@pytest.mark.parametrize("exact", [False, True])
def test_learning_ends_at_the_top_of_the_dense_evidence(exact, rng):
    t = np.sort(rng.uniform(0, 8, 40))
    y = np.sin(t) + 0.1 * rng.standard_normal(40) + 3.0
    noise = hd.Gaussian(0.0) if exact else "gaussian"
    mean = 3.0 if exact else None
    model = hd.MarkovGP(likelihood=noise, mean=mean, progress=False).fit(t, y)

    def negative(x):
        kernel, R = hd.Matern(1, np.exp(x[0]), np.exp(x[1])), 0.0 if exact else np.exp(x[2])
        return -dense(kernel, t, y, R, t, 3.0 if exact else x[3])[2]

    start = [np.log(model.kernel_.lengthscale), np.log(model.kernel_.variance)]
    start += [] if exact else [np.log(model.likelihood_.variance), model.mean_[0]]
    best = minimize(negative, np.array(start) + 0.3, method="BFGS")
    assert model.log_evidence_ == pytest.approx(-best.fun, abs=1e-5)
    assert model.converged_ and model.message_.startswith("settled after")
    n, h = len(best.x), 1e-3
    steps = h * np.eye(n)

    def bend(a, b):
        each = [[s * r * negative(best.x + s * a + r * b) for s in (1, -1)] for r in (1, -1)]
        return np.sum(each) / (4 * h * h)

    curvature = np.array([[bend(a, b) for a in steps] for b in steps])
    errors = np.sqrt(np.diag(np.linalg.inv(curvature))) * np.exp(best.x)
    assert model.standard_errors_["kernel.lengthscale"] == pytest.approx(errors[0], rel=0.01)
    assert model.standard_errors_["kernel.variance"] == pytest.approx(errors[1], rel=0.01)


def test_intervals_cover(rng):
    kernel, T, R = hd.Matern(1, 5.0), 20, 2000
    L = np.linalg.cholesky(kernel(np.subtract.outer(np.arange(T), np.arange(T))))
    f = rng.standard_normal((R, T)) @ L.T + 1.0
    y = f + 0.5 * rng.standard_normal(f.shape)
    found = fixed(kernel, hd.Gaussian(0.25), 1.0).fit(np.arange(T, dtype=float), y[:, :, None]).smooth()
    inside = ((found.lower[..., 0] < f) & (f < found.upper[..., 0])).values
    # one row of each series, which are independent
    assert 0.934 < inside[:, T // 2].mean() < 0.966
    assert 0.934 < inside[:, 0].mean() < 0.966


def test_oracle_agrees_with_the_other_oracle(rng):
    t, y = data(rng)
    kernel = KERNELS["sum"]
    mean, var, value = gp(kernel, t, y - 0.4, 0.2)
    other = dense(kernel, t, y, 0.2, t)
    np.testing.assert_allclose(mean + 0.4, other[0], rtol=1e-9)
    np.testing.assert_allclose(var, np.diag(other[1]), rtol=1e-8)
    assert value == pytest.approx(other[2])
