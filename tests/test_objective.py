"""The evidence of many series and its gradient: dense Gaussians, 50 digits, and other programs."""

import dataclasses

import numpy as np
import oracles
import pytest
from mpmath import mp, mpf
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from sklearn.gaussian_process.kernels import Matern as DenseMatern

from hidamari.inference.likelihoods import Bernoulli, Binomial, Gaussian, NegativeBinomial, Poisson, StudentT
from hidamari.inference.objective import GPModel, evidence, evidence_and_gradient
from hidamari.inference.series import Series, lay_series
from hidamari.parameters import flatten, paths, unflatten
from hidamari.statespace.kernels import Constant, HidaMatern, Matern, Product, Wiener

STENCIL = ((1, 0.75), (2, -0.15), (3, 1.0 / 60.0))


def differences(function, x, h=5e-3):
    """Central differences of sixth order."""
    eye = np.eye(len(x))
    return np.array(
        [sum(w * (function(x + k * h * e) - function(x - k * h * e)) for k, w in STENCIL) / h for e in eye]
    )


def slopes_by_differences(model, names, series, h=2e-2, **options):
    x, names = flatten(model, names)
    return differences(lambda v: evidence(unflatten(model, v, names), series, **options), x, h)


def dense(model, series):
    """The evidence from one dense covariance for each series."""
    total = 0.0
    for rows in oracles.trials(series.step):
        gap = np.where(series.step[rows] >= 0, series.gaps[series.step[rows]], 0.0)
        output, y = series.output[rows], series.y[rows] - model.bias[series.output[rows]]
        noise = np.broadcast_to(model.likelihood.variance, len(model.bias))[output]
        noise = noise + (0.0 if series.error is None else series.error[rows])
        total += oracles.gp(model.kernel, np.cumsum(gap), y, noise)[2]
    return total


def dense_mp(kernel, times, y, noise):
    """The evidence in the working precision of mpmath, not rounded."""
    L = oracles.cholesky_mp(kernel, times, noise)
    z = []
    for row, value in zip(L, y):
        z.append((value - mp.fdot(row[:-1], z)) / row[-1])
    return -mp.fdot(z, z) / 2 - sum(mp.log(row[-1]) for row in L) - len(L) * mp.log(2 * mp.pi) / 2


def data(rng, n=25, n_outputs=2):
    times = np.sort(rng.uniform(0, 4, n))
    y = np.sin(2 * times)[:, None] + 0.3 * rng.normal(size=(n, n_outputs))
    return times, y


STATSMODELS = (-35.59522442338789, -39.15420461035012)
GAUSSIAN = [
    (Matern(1, 0.5), Gaussian(0.1)),
    (HidaMatern(1, 0.6, 0.8, 0.7) + Matern(0, 0.2), Gaussian(np.array([0.1, 0.3]))),
    (Product(Constant(2.0), Matern(2, 0.9)), Gaussian(0.05)),
]


@pytest.mark.parametrize(("kernel", "likelihood"), GAUSSIAN, ids=repr)
def test_gaussian_value_and_slopes_are_those_of_dense_matrices(rng, kernel, likelihood):
    times, y = data(rng)
    y[3, 0] = y[7] = np.nan
    laid = lay_series([times, times[:9]], [y, y[:9]], [0.1 * rng.uniform(size=y.shape)] + [np.ones((9, 2))])
    model = GPModel(kernel, likelihood, np.array([0.2, -0.1]))
    x, names = flatten(model)
    found = evidence_and_gradient(model, names, laid.series)
    assert found.value == pytest.approx(dense(model, laid.series), rel=1e-11)
    assert evidence(model, laid.series) == pytest.approx(found.value, rel=1e-12)
    wanted = differences(lambda v: dense(unflatten(model, v, names), laid.series), x)
    np.testing.assert_allclose(found.gradient, wanted, rtol=1e-8, atol=1e-8)


def test_slopes_agree_with_fifty_digits(rng):
    """Central differences of a dense evidence in 50 digits have no rounding to hide behind."""
    times, y = data(rng, 12, 1)
    start = np.log([0.5, 1.3, 0.04])
    with mp.workdps(50):
        t, values = [mpf(v) for v in times], [mpf(v) for v in y[:, 0]]

        def value(x):
            kernel = oracles.matern_mp(1, mp.exp(x[0]), mp.exp(x[1]))
            return dense_mp(kernel, t, [v - x[3] for v in values], [mp.exp(x[2])] * len(t))

        x, h, wanted = [mpf(v) for v in [*start, 0.2]], mpf(10) ** -15, []
        for i in range(4):
            up, down = ([v + s * h * (i == k) for k, v in enumerate(x)] for s in (1, -1))
            wanted.append(float((value(up) - value(down)) / (2 * h)))
        exact = float(value(x))
    lengthscale, variance, noise = np.exp(start)
    model = GPModel(Matern(1, lengthscale, variance), Gaussian(noise), np.array([0.2]))
    found = evidence_and_gradient(model, flatten(model)[1], lay_series(times, y).series)
    assert found.value == pytest.approx(exact, rel=1e-12)
    np.testing.assert_allclose(found.gradient, wanted, rtol=1e-9)


@pytest.mark.parametrize("noise", [1e-4, 1e-6, 1e-8, 1e-11])
def test_precise_readings_keep_their_slopes(rng, noise):
    times, y = data(rng, 14, 1)
    with mp.workdps(60):
        t, values = [mpf(v) for v in times], [mpf(v) for v in y[:, 0]]

        def value(x):
            return dense_mp(oracles.matern_mp(1, mp.exp(x[0]), 1), t, values, [mp.exp(x[1])] * len(t))

        x, h, wanted = [mp.log(mpf(0.5)), mp.log(mpf(noise))], mpf(10) ** -15, []
        for i in range(2):
            up, down = ([v + s * h * (i == k) for k, v in enumerate(x)] for s in (1, -1))
            wanted.append(float((value(up) - value(down)) / (2 * h)))
    model = GPModel(Matern(1, 0.5), Gaussian(noise), np.zeros(1))
    names = ["kernel.lengthscale", "likelihood.variance"]
    found = evidence_and_gradient(model, names, lay_series(times, y).series)
    np.testing.assert_allclose(found.gradient, wanted, rtol=1e-7, atol=1e-7)


def test_exact_readings_have_a_value_and_kernel_slopes(rng):
    times, y = data(rng, 14, 1)
    model = GPModel(Matern(1, 0.5), Gaussian(0.0), np.zeros(1))
    series = lay_series(times, y).series
    found = evidence_and_gradient(model, ["kernel.lengthscale", "kernel.variance"], series)
    exact = oracles.gp_mp(oracles.matern_mp(1, 0.5), times, y[:, 0], 0.0)[2]
    assert found.value == pytest.approx(exact, rel=1e-10)
    wanted = slopes_by_differences(model, ["kernel.lengthscale", "kernel.variance"], series, h=1e-2)
    np.testing.assert_allclose(found.gradient, wanted, rtol=1e-7)
    with pytest.raises(ValueError, match="exact readings"):
        evidence_and_gradient(model, ["bias[0]"], series)


def test_equals_scikit_learn(rng):
    times, y = data(rng, 60, 1)
    peer = GaussianProcessRegressor(
        ConstantKernel(1.4) * DenseMatern(0.6, nu=2.5) + WhiteKernel(0.08), optimizer=None, alpha=0.0
    ).fit(times[:, None], y[:, 0])
    value, slope = peer.log_marginal_likelihood(peer.kernel_.theta, eval_gradient=True)
    model = GPModel(Matern(2, 0.6, 1.4), Gaussian(0.08), np.zeros(1))
    names = ["kernel.variance", "kernel.lengthscale", "likelihood.variance"]
    found = evidence_and_gradient(model, names, lay_series(times, y).series)
    assert found.value == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(found.gradient, slope, rtol=1e-8)


def test_equals_statsmodels():
    """SARIMAX(y, order=(1, 0, 0), measurement_error=True).loglike of statsmodels 0.15.0.

    Parameters [exp(-0.5 / 0.8), 0.2, 1.7 (1 - exp(-1 / 0.8))]; the second series is y - 0.3, nothing missing.
    """
    k = np.arange(30)
    y = np.sin(1.3 * k) + 0.1 * (k % 7)
    gaps = y.copy()
    gaps[[4, 5, 20]] = np.nan
    kernel, noise = Matern(0, 0.8, 1.7), Gaussian(0.2)
    first = evidence(GPModel(kernel, noise, np.zeros(1)), lay_series(0.5 * k, gaps).series)
    second = evidence(GPModel(kernel, noise, np.full(1, 0.3)), lay_series(0.5 * k, y).series)
    assert first == pytest.approx(STATSMODELS[0], rel=1e-9)
    assert second == pytest.approx(STATSMODELS[1], rel=1e-9)


OTHERS = [Poisson(), NegativeBinomial(3.0), Bernoulli(), Binomial(4), StudentT(4.0, 0.3)]


def observed(likelihood, rng, y):
    drawn = likelihood.sample(y, rng, 1.0)
    drawn[2, 0] = np.nan
    return drawn


@pytest.mark.parametrize("likelihood", OTHERS, ids=repr)
def test_other_likelihoods_are_at_the_top_of_their_bound(rng, likelihood):
    """One output against the dense variational optimum; slopes against differences of the value."""
    times, y = data(rng, 15)
    y = observed(likelihood, rng, y)
    series = lay_series(times, y).series
    model = GPModel(HidaMatern(0, 0.6, 0.5), likelihood, np.array([0.3, -0.2]))
    names = paths(model)
    found = evidence_and_gradient(model, names, series)
    assert found.converged
    wanted = slopes_by_differences(model, names, series, h=3e-2)
    np.testing.assert_allclose(found.gradient, wanted, rtol=2e-6, atol=2e-6)
    if not isinstance(likelihood, StudentT):  # whose bound is another
        S = model.kernel(np.subtract.outer(times, times))[:, None, :, None]
        prior, expected = (np.zeros((15, 1)), S, np.ones((1, 1))), likelihood.expectations
        best = [oracles.variational(*prior, b, col[:, None], expected) for b, col in zip(model.bias, y.T)]
        assert found.value == pytest.approx(sum(q.elbo for q in best), rel=1e-9)
        np.testing.assert_allclose(found.mean, np.concatenate([q.mean[:, 0] for q in best]), atol=1e-5)


@pytest.mark.parametrize("scale", [0.005, 0.02, 0.1, 1.0])
def test_the_bound_of_student_t_is_that_of_dense_matrices_at_every_scale(scale, rng):
    """Where it ends, a dense step of expectation maximisation changes nothing; it stays below the ELBO."""
    times = np.sort(rng.uniform(0, 10, 150))
    y = np.sin(times) + 0.1 * rng.standard_normal(150)
    y[::25] += 5.0 * rng.normal(size=6)
    likelihood, kernel, df = StudentT(4.0, scale), Matern(1, 4.0), 4.0
    series = lay_series(times, y).series
    model = GPModel(kernel, likelihood, np.zeros(1))
    names = ["kernel.lengthscale", "likelihood.scale", "bias[0]"]
    found = evidence_and_gradient(model, names, series)
    assert found.converged and found.sites.J.min() > 0.0
    K = kernel(np.subtract.outer(times, times))
    u = ((found.mean - y) ** 2 + found.var) / (df * scale**2)
    R = df * scale**2 * (1.0 + u) / (df + 1.0)
    gain = np.linalg.solve(K + np.diag(R), K).T
    cov = K - gain @ K
    np.testing.assert_allclose(found.mean, gain @ y, atol=2e-5)
    np.testing.assert_allclose(found.var, np.diag(cov), rtol=2e-4, atol=1e-9)
    # E_q[log p(y, f) bounded] + entropy of q, from the matrices alone
    outer = np.linalg.solve(K, np.outer(found.mean, found.mean) + cov).trace()
    entropy = np.linalg.slogdet(cov)[1] - np.linalg.slogdet(K)[1]
    bound = np.sum(likelihood.log_prob(y, y) - 2.5 * np.log1p(u)) + 0.5 * (len(y) - outer + entropy)
    assert found.value == pytest.approx(bound, rel=1e-7)
    best = np.sum(likelihood.expectations(y, found.mean, found.var)[0]) + 0.5 * (len(y) - outer + entropy)
    assert found.value < best
    wanted = slopes_by_differences(
        model, names, series, h=1e-3, sites=found.sites
    )  # of one optimum of several
    np.testing.assert_allclose(found.gradient, wanted, rtol=1e-3, atol=1e-2)


def test_huge_counts_keep_their_digits(rng):
    """Counts this large are Gaussian in their logarithm: log y ~ N(eta, 1 / y), times d log y / dy."""
    times = np.sort(rng.uniform(0, 10, 40))
    y = np.round(1e7 * np.exp(np.sin(times) + 0.1 * rng.normal(size=40)))
    kernel = Matern(1, 1.0) + Matern(0, 0.05, 0.01)
    laid = lay_series(times, np.log(y), 1.0 / y)
    wanted = dense(GPModel(kernel, Gaussian(1e-30), np.full(1, 16.0)), laid.series) - np.log(y).sum()
    model = GPModel(kernel, Poisson(), np.full(1, 16.0))
    series = lay_series(times, y).series
    names = ["kernel.first.lengthscale", "kernel.second.variance", "bias[0]"]
    found = evidence_and_gradient(model, names, series)
    assert found.value == pytest.approx(wanted, abs=1e-4)
    slopes = slopes_by_differences(model, names, series, sites=found.sites)
    np.testing.assert_allclose(found.gradient, slopes, rtol=1e-4, atol=1e-4)


def test_sites_of_other_parameters_are_doubted(rng):
    """A burst, and sites found under another kernel: the same top as without them, in a bounded time."""
    times = np.sort(rng.uniform(0, 10, 50))
    series = lay_series(times, np.where(np.arange(50) == 49, 100_000.0, 1.0)).series
    far = GPModel(Matern(1, 95.0, 1000.0), Poisson(), np.full(1, -85.0))
    near = GPModel(Matern(1, 0.02, 1000.0), Poisson(), np.full(1, -21.0))
    cold = evidence_and_gradient(near, (), series)
    warm = evidence_and_gradient(near, (), series, evidence_and_gradient(far, (), series).sites)
    assert cold.converged and warm.converged
    assert warm.value == pytest.approx(cold.value, rel=1e-7)


def test_warm_sites_change_nothing(rng):
    times, y = data(rng, 40)
    series = lay_series(times, observed(Poisson(), rng, y)).series
    model = GPModel(Matern(1, 0.5), Poisson(), np.zeros(2))
    near = dataclasses.replace(model, kernel=Matern(1, 0.55))
    cold = evidence_and_gradient(model, ["kernel.lengthscale"], series, exposure=0.5)
    start = evidence_and_gradient(near, (), series, exposure=0.5).sites
    warm = evidence_and_gradient(model, ["kernel.lengthscale"], series, start, exposure=0.5)
    assert warm.value == pytest.approx(cold.value, rel=1e-11)
    np.testing.assert_allclose(warm.gradient, cold.gradient, rtol=1e-6)


def test_the_variance_of_equal_sizes_scales(rng):
    """Squared units of y from 1e-160 to 1e140: the same slopes."""
    times, y = data(rng, 30, 1)
    wanted = None
    for unit in (1.0, 1e-80, 1e70):
        model = GPModel(Matern(1, 0.5, unit**2), Gaussian(0.1 * unit**2), np.zeros(1))
        names = ["kernel.lengthscale", "kernel.variance", "likelihood.variance"]
        found = evidence_and_gradient(model, names, lay_series(times, y * unit).series)
        wanted = found.gradient if wanted is None else wanted
        np.testing.assert_allclose(found.gradient, wanted, rtol=1e-9)


def test_slopes_are_finite_wherever_the_value_is(rng):
    times, y = data(rng, 30, 1)
    series = lay_series(times, y).series
    for lengthscale in (1e-6, 1e-2, 1e3, 1e8):
        for noise in (1e-12, 1e-3, 1e6):
            model = GPModel(Matern(2, lengthscale), Gaussian(noise), np.zeros(1))
            found = evidence_and_gradient(model, flatten(model)[1], series)
            assert np.isfinite(found.value) and np.isfinite(found.gradient).all(), (lengthscale, noise)


def test_bad_series_are_refused(rng):
    series = lay_series(np.arange(3.0), np.zeros((3, 2))).series
    model = GPModel(Matern(), Gaussian(), np.zeros(2))
    with pytest.raises(ValueError, match=r"series.output must lie in 0..0"):
        evidence(GPModel(Matern(), Gaussian(), 0.0), series)
    with pytest.raises(ValueError, match="series.y must have shape"):
        evidence(model, series._replace(y=np.zeros(4)))
    with pytest.raises(ValueError, match=r"likelihood.variance must be one number or 2"):
        evidence(dataclasses.replace(model, likelihood=Gaussian(np.ones(3))), series)
    with pytest.raises(ValueError, match="series.error is for Gaussian noise"):
        evidence(dataclasses.replace(model, likelihood=Poisson()), series._replace(error=np.ones(6)))


@pytest.mark.parametrize("start", [1e3, 9e3])
def test_a_wide_start_of_a_trend_keeps_the_plain_pass_and_its_digits(start, rng, monkeypatch):
    times = np.sort(rng.uniform(0.0, 50.0, 400))
    y = np.cumsum(rng.normal(size=400)) * 0.1 + 0.1 * rng.normal(size=400)
    series = lay_series(times, y).series
    model = GPModel(Wiener(1, 0.3, start) + Matern(1, 2.0, 0.1), Gaussian(0.01), np.zeros(1))
    names = ["kernel.first.variance", "kernel.second.lengthscale", "likelihood.variance", "bias[0]"]
    fast = evidence_and_gradient(model, names, series)
    monkeypatch.setattr("hidamari.inference.objective._PLAIN_START_BELOW", 0.0)
    slow = evidence_and_gradient(model, names, series)
    assert fast.value == pytest.approx(slow.value, abs=1e-7) and fast.value != slow.value
    np.testing.assert_allclose(fast.gradient, slow.gradient, rtol=1e-6, atol=1e-8)


def test_series_are_laid_and_brought_back(rng):
    times = [rng.permutation(np.array([0.0, 1.0, 1.0, 2.5])), np.array([3.0, 1.0])]
    values = [rng.normal(size=(4, 3)), rng.normal(size=(2, 3))]
    laid = lay_series(times, values, [v**2 for v in values])
    series = laid.series
    assert isinstance(series, Series) and (series.step < 0).sum() == 6
    for r in range(2):
        np.testing.assert_array_equal(series.y[laid.rows[r]], values[r])
        np.testing.assert_array_equal(series.error[laid.rows[r]], values[r] ** 2)
        np.testing.assert_array_equal(series.output[laid.rows[r]], np.tile([0, 1, 2], (len(times[r]), 1)))
    gap = np.where(series.step >= 0, series.gaps[series.step], 0.0)
    np.testing.assert_allclose(gap[:4], [0.0, 1.0, 0.0, 1.5])
    model = GPModel(Matern(1, 0.7), Gaussian(0.1), np.zeros(3))
    shuffled = lay_series([np.sort(t) for t in times], [v[np.argsort(t)] for t, v in zip(times, values)])
    plain = lay_series(times, values).series
    assert evidence(model, shuffled.series) == pytest.approx(evidence(model, plain), rel=1e-13)


@pytest.mark.parametrize(
    ("times", "values", "message"),
    [
        ([0.0, 1.0], [1.0], r"times\[0\] must have shape \(1,\)"),
        ([[0.0], [1.0]], [[1.0]], "values has 1 trials and times 2"),
        ([0.0], np.zeros((1, 1, 1)), r"values\[0\] must have shape \(T,\)"),
        ([[0.0], [1.0]], [np.zeros((1, 2)), np.zeros((1, 3))], r"values\[1\] must have shape"),
        ([0.0, np.nan], [1.0, 2.0], "must be finite"),
    ],
)
def test_what_does_not_fit_is_refused(times, values, message):
    with pytest.raises(ValueError, match=message):
        lay_series(times, values)


def test_errors_must_fit():
    with pytest.raises(ValueError, match=r"error\[0\] must have shape \(2,\)"):
        lay_series([0.0, 1.0], [1.0, 2.0], [0.1])
