"""Likelihoods: every average against a sum that is too simple to be wrong."""

import doctest
import importlib
import inspect
import math

import mpmath
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from hidamari.inference import likelihoods
from hidamari.inference.likelihoods import (
    Binomial,
    Gaussian,
    Likelihood,
    NegativeBinomial,
    Poisson,
    StudentT,
    average,
    get_likelihood,
)

KINDS = [
    kind
    for kind in (getattr(likelihoods, name) for name in likelihoods.__all__)
    if inspect.isclass(kind) and issubclass(kind, Likelihood) and not inspect.isabstract(kind)
]
EXAMPLES = [kind(n=7) if kind is Binomial else kind() for kind in KINDS]
EXAMPLES += [
    Gaussian(variance=0.03),
    NegativeBinomial(dispersion=0.3),
    NegativeBinomial(dispersion=1e6),
    StudentT(df=1.5, scale=0.2),
    StudentT(df=30.0, scale=3.0),
]
each = pytest.mark.parametrize("likelihood", EXAMPLES, ids=repr)

Z = np.linspace(-36.0, 36.0, 36_001)
LOG_WEIGHT = -0.5 * Z * Z - 0.5 * math.log(2 * math.pi) + math.log(Z[1] - Z[0])


def observations(likelihood):
    """Some likely and some unlikely observations."""
    if likelihood.name == "bernoulli":
        return np.array([0.0, 1.0])
    if likelihood.name == "binomial":
        return np.array([0.0, 3.0, 7.0])
    if likelihood.counts:
        return np.array([0.0, 1.0, 4.0, 30.0])
    return np.array([-9.0, -0.4, 0.0, 2.5])


def cases(likelihood, variances=(0.0, 1e-6, 0.3, 1.0, 2.0, 4.0, 9.0)):
    """Grid of y, m, v, flattened."""
    grid = np.meshgrid(observations(likelihood), [-3.0, 0.1, 2.0], variances, indexing="ij")
    return [a.ravel() for a in grid]


def brute(function, m, v):
    """Average of function(eta, i) over eta ~ N(m_i, v_i) by a fine sum."""
    return np.array(
        [(np.exp(LOG_WEIGHT) * function(a + math.sqrt(b) * Z, i)).sum() for i, (a, b) in enumerate(zip(m, v))]
    )


def brute_log(function, m, v):
    """Log of the average of exp(function(eta, i)), likewise."""
    return np.array(
        [logsumexp(LOG_WEIGHT + function(a + math.sqrt(b) * Z, i)) for i, (a, b) in enumerate(zip(m, v))]
    )


@each
def test_expectation_is_the_average_of_log_prob(likelihood):
    y, m, v = cases(likelihood)
    value, _, _ = likelihood.expectations(y, m, v, 0.2)
    truth = brute(lambda eta, i: likelihood.log_prob(y[i], eta, 0.2), m, v)
    np.testing.assert_allclose(value, truth, rtol=2e-8, atol=2e-8)


@each
def test_expectation_by_monte_carlo(likelihood):
    rng = np.random.default_rng(1)
    y, m, v = cases(likelihood, (0.5,))
    logs = likelihood.log_prob(y, m + np.sqrt(v) * rng.standard_normal((20_000, y.size)), 0.2)
    error = logs.std(axis=0) / math.sqrt(len(logs))
    value, _, _ = likelihood.expectations(y, m, v, 0.2)
    assert np.all(np.abs(logs.mean(axis=0) - value) < 5 * error + 1e-12)


@each
def test_derivatives_by_finite_differences(likelihood):
    y, m, v = cases(likelihood, (0.1, 0.7, 1.5, 5.0))
    _, alpha, beta = likelihood.expectations(y, m, v, 0.2)

    def slope(step_m, step_v):
        h = 1e-3
        ends = [
            likelihood.expectations(y, m + k * h * step_m, v + k * h * step_v, 0.2)[0] for k in (-2, -1, 1, 2)
        ]
        return (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)

    np.testing.assert_allclose(alpha, slope(1.0, 0.0), rtol=1e-6, atol=1e-6)
    assert np.all(beta >= 0)
    if not isinstance(likelihood, StudentT):
        np.testing.assert_allclose(beta, -2 * slope(0.0, 1.0), rtol=1e-6, atol=1e-6)


def test_student_beta_is_the_fisher_information_on_average():
    likelihood = StudentT(df=3.0, scale=0.7)
    y = stats.t.ppf((np.arange(20_000) + 0.5) / 20_000, 3.0) * 0.7
    _, _, beta = likelihood.expectations(y, 0.0, 0.0)
    assert beta.mean() == pytest.approx(4.0 / 6.0 / 0.49, rel=1e-4)
    assert likelihood.expectations(100.0, 0.0, 0.0)[2] < 1e-3


def test_student_steps_never_lower_the_expectation():
    likelihood = StudentT(df=1.0, scale=0.01)
    m = np.array([-500.0, -3.0, 0.02, 0.001])
    for _ in range(30):
        value, alpha, beta = likelihood.expectations(0.0, m, 1e-6)
        m = m + alpha / beta
        assert np.all(likelihood.expectations(0.0, m, 1e-6)[0] >= value - 1e-9)


@pytest.mark.parametrize("v", [0.0, 0.4, 1.0])
def test_poisson_closed_form_is_gauss_hermite(v):
    y, m = np.meshgrid([0.0, 2.0, 50.0], [-2.0, 0.5, 3.0])
    nodes, weights = np.polynomial.hermite_e.hermegauss(32)
    weights = weights / weights.sum()
    eta = m[..., None] + math.sqrt(v) * nodes
    rate = 0.01 * np.exp(eta)
    logs = stats.poisson.logpmf(y[..., None], rate)
    value, alpha, beta = Poisson().expectations(y, m, v, 0.01)
    np.testing.assert_allclose(value, (logs * weights).sum(-1), rtol=1e-8)
    np.testing.assert_allclose(alpha, ((y[..., None] - rate) * weights).sum(-1), rtol=1e-8)
    np.testing.assert_allclose(beta, (rate * weights).sum(-1), rtol=1e-8)


@pytest.mark.parametrize("v", [3.0, 50.0])
@pytest.mark.parametrize("m", [-30.0, 0.0, 12.0])
def test_wide_logistic_averages_by_mpmath(m, v):
    def exact(function):
        s = mpmath.sqrt(v)
        # cut where the integrand turns: at the kink of the logistic and around the normal density
        cuts = sorted(
            {m - 14 * float(s), min(max(0.0, m - 14 * float(s)), m + 14 * float(s)), m, m + 14 * float(s)}
        )
        fine = np.linspace(cuts[0], cuts[-1], 41)
        density = lambda x: mpmath.exp(-((x - m) ** 2) / (2 * v)) / mpmath.sqrt(2 * mpmath.pi * v)  # noqa: E731
        return float(mpmath.quad(lambda x: function(x) * density(x), sorted({*cuts, *fine.tolist()})))

    value, alpha, beta = Binomial(n=3).expectations(2.0, m, v, constant=0.0)
    sigma = lambda x: 1 / (1 + mpmath.exp(-x))  # noqa: E731
    assert value == pytest.approx(exact(lambda x: 2 * mpmath.log(sigma(x)) + mpmath.log(sigma(-x))), rel=1e-8)
    assert alpha == pytest.approx(exact(lambda x: 2 - 3 * sigma(x)), rel=1e-8, abs=1e-8)
    assert beta == pytest.approx(exact(lambda x: 3 * sigma(x) * sigma(-x)), rel=1e-7, abs=1e-8)


@each
def test_log_prob_is_scipys(likelihood):
    y, eta = np.meshgrid(observations(likelihood), np.array([-3.0, 0.0, 1.5]))
    rate, p = 0.5 * np.exp(eta), 1 / (1 + np.exp(-eta))
    if likelihood.name == "gaussian":
        truth = stats.norm.logpdf(y, eta, math.sqrt(likelihood.variance))
    elif likelihood.name == "poisson":
        truth = stats.poisson.logpmf(y, rate)
    elif likelihood.name == "negative_binomial":
        truth = stats.nbinom.logpmf(y, likelihood.dispersion, 1 / (1 + rate / likelihood.dispersion))
    elif likelihood.name == "student_t":
        truth = stats.t.logpdf(y, likelihood.df, eta, likelihood.scale)
    else:
        truth = stats.binom.logpmf(y, likelihood.n, p)
    loose = 1e-8 if getattr(likelihood, "dispersion", 0.0) == 1e6 else 1e-11
    np.testing.assert_allclose(likelihood.log_prob(y, eta, 0.5), truth, rtol=loose, atol=loose)


def support(likelihood):
    """Points of y and the weight of each in a sum over all y."""
    if likelihood.counts:
        return np.arange(6000.0), 1.0
    if hasattr(likelihood, "n"):
        return np.arange(likelihood.n + 1.0), 1.0
    u = np.linspace(-30.0, 30.0, 20_001)
    return np.sinh(u), np.cosh(u) * (u[1] - u[0])


@each
@pytest.mark.parametrize(("m", "v"), [(0.3, 0.0), (-1.0, 0.8), (0.5, 2.0)])
def test_probabilities_sum_to_one_and_have_the_predictive_moments(likelihood, m, v):
    y, weight = support(likelihood)
    p = np.exp(likelihood.log_predictive(y, m, v, 0.4)) * weight
    heavy = likelihood.counts and v > 1
    assert p.sum() == pytest.approx(1.0, rel=1e-4 if heavy else 1e-9)
    if heavy or isinstance(likelihood, StudentT) and likelihood.df < 10:
        return
    mean = (p * y).sum()
    assert likelihood.predictive_mean(m, v, 0.4) == pytest.approx(mean, rel=1e-6)
    assert likelihood.predictive_variance(m, v, 0.4) == pytest.approx((p * (y - mean) ** 2).sum(), rel=1e-4)


@each
def test_predictive_by_a_fine_sum(likelihood):
    y, m, v = cases(likelihood, (0.0, 0.2, 2.0, 9.0))
    exposure = 0.3
    tol = {"rtol": 1e-7, "atol": 1e-8}
    truth = brute_log(lambda eta, i: likelihood.log_prob(y[i], eta, exposure), m, v)
    np.testing.assert_allclose(likelihood.log_predictive(y, m, v, exposure), truth, **tol)
    mean = brute(lambda eta, i: likelihood.mean(eta, exposure), m, v)
    np.testing.assert_allclose(likelihood.predictive_mean(m, v, exposure), mean, **tol)

    def parts(eta, i):
        return (
            likelihood.conditional_variance(eta, exposure) + (likelihood.mean(eta, exposure) - mean[i]) ** 2
        )

    spread = brute(parts, m, v)
    np.testing.assert_allclose(likelihood.predictive_variance(m, v, exposure), spread, **tol)


@each
def test_defaults_of_the_base_agree(likelihood):
    y, m, v = cases(likelihood, (0.0, 0.05))
    base = lambda name, *args: getattr(Likelihood, name)(likelihood, *args, 0.3)  # noqa: E731
    if getattr(likelihood, "scale", 1.0) == 1.0 and getattr(likelihood, "variance", 1.0) == 1.0:
        # noise much narrower than q is beyond a fixed rule
        default = base("log_predictive", y, m, v)
        np.testing.assert_allclose(default, likelihood.log_predictive(y, m, v, 0.3), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        base("predictive_mean", m, v), likelihood.predictive_mean(m, v, 0.3), rtol=1e-9
    )
    np.testing.assert_allclose(
        base("predictive_variance", m, v), likelihood.predictive_variance(m, v, 0.3), rtol=1e-9
    )


@each
def test_sample_has_the_mean_and_variance(likelihood):
    if isinstance(likelihood, StudentT) and likelihood.df <= 4:
        likelihood = StudentT(df=6.0, scale=likelihood.scale)
    rng = np.random.default_rng(5)
    eta = np.full((50_000, 2), [0.4, 1.5])
    draws = likelihood.sample(eta, rng, 0.7)
    assert draws.dtype == np.float64 and draws.shape == eta.shape
    likelihood.check(draws)
    variance = likelihood.conditional_variance(eta[0], 0.7)
    error = np.sqrt(variance / len(draws))
    assert np.all(np.abs(draws.mean(axis=0) - likelihood.mean(eta[0], 0.7)) < 4 * error)
    fourth = ((draws - draws.mean(axis=0)) ** 4).mean(axis=0)
    assert np.all(np.abs(draws.var(axis=0) - variance) < 4 * np.sqrt(fourth / len(draws)))


@each
def test_link_is_the_inverse_of_mean(likelihood):
    eta = np.array([-4.0, 0.0, 1.3])
    np.testing.assert_allclose(likelihood.link(likelihood.mean(eta, 0.02), 0.02), eta, atol=1e-12)


@each
def test_start_is_finite_and_the_bias_where_nothing_was_seen(likelihood):
    y = np.append(observations(likelihood), np.nan)[:, None] * np.ones(2)
    m, v = likelihood.start(y, np.array([0.7, -0.2]), 0.02)
    assert np.isfinite(m).all() and m.shape == v.shape == y.shape and not v.any()
    np.testing.assert_array_equal(m[-1], [0.7, -0.2])
    _, alpha, beta = likelihood.expectations(y, m, v, 0.02)
    assert np.all(np.abs(alpha) <= 0.51) and np.all(beta[:-1] > 0)


@each
def test_nan_is_nothing(likelihood):
    y = np.where(np.arange(12).reshape(4, 3) % 2, np.nan, 1.0)
    m, v = np.full((4, 3), 0.2), np.full((4, 3), [0.0, 0.5, 3.0])
    hidden = np.isnan(y)
    full = likelihood.expectations(np.ones_like(y), m, v, 0.1)
    for some, all_ in zip(likelihood.expectations(y, m, v, 0.1), full):
        assert np.all(some[hidden] == 0.0)
        np.testing.assert_array_equal(some[~hidden], all_[~hidden])
    for logs in (
        likelihood.log_base(y),
        likelihood.log_prob(y, m, 0.1),
        likelihood.log_predictive(y, m, v, 0.1),
    ):
        assert np.all(logs[hidden] == 0.0) and np.isfinite(logs).all()
    likelihood.check(y)


@each
def test_log_base_is_the_part_without_m_and_v(likelihood):
    y, m, v = cases(likelihood)
    whole = likelihood.expectations(y, m, v, 0.1)
    rest = likelihood.expectations(y, m, v, 0.1, constant=0.0)
    np.testing.assert_allclose(rest[0] + likelihood.log_base(y), whole[0], rtol=1e-14, atol=1e-12)
    given = likelihood.expectations(y, m, v, 0.1, constant=likelihood.log_base(y))
    np.testing.assert_array_equal(given[0], whole[0])
    np.testing.assert_array_equal(rest[1:], whole[1:])


@each
def test_chunks_and_layouts_change_no_bit(likelihood):
    rng = np.random.default_rng(2)
    m, v = rng.normal(size=(37, 3)), rng.exponential(size=(37, 3))
    y = likelihood.sample(m, rng, 0.5)
    whole = likelihood.expectations(y, m, v, 0.5)
    parts = [likelihood.expectations(y[i : i + 5], m[i : i + 5], v[i : i + 5], 0.5) for i in range(0, 37, 5)]
    other = likelihood.expectations(np.asfortranarray(y), m[::-1][::-1], v.copy(), np.full((37, 1), 0.5))
    for a, b, c in zip(whole, zip(*parts), other):
        np.testing.assert_array_equal(a, np.concatenate(b))
        np.testing.assert_allclose(a, c, rtol=1e-13)


@each
@pytest.mark.parametrize("v", [0.0, 1e-300, 50.0])
@pytest.mark.parametrize("m", [-700.0, 0.0, 700.0])
@pytest.mark.parametrize("count", [0.0, 1e9])
def test_extremes_have_no_nan_and_no_warning(likelihood, count, m, v):
    y = min(count, getattr(likelihood, "n", np.inf))
    value, alpha, beta = likelihood.expectations(y, m, v, 0.01)
    assert not np.isnan([value, alpha, beta]).any() and beta >= 0
    assert not np.isnan(likelihood.log_predictive(y, m, v, 0.01))
    assert likelihood.log_predictive(y, m, v, 0.01) >= value * (1 + 1e-12) - 1e-4  # Jensen
    assert not np.isnan(
        [likelihood.predictive_mean(m, v, 0.01), likelihood.predictive_variance(m, v, 0.01)]
    ).any()
    log_mean = m + v / 2 + math.log(0.01)
    if log_mean < 690 or not likelihood.counts:
        assert np.isfinite([value, alpha, beta, likelihood.predictive_mean(m, v, 0.01)]).all()


def test_large_counts_keep_their_digits():
    for y in (1e3, 1e6, 1e9):
        truth = float(-mpmath.loggamma(mpmath.mpf(y) + 1))
        assert Poisson().log_base(y) == pytest.approx(truth, rel=1e-15)
        stirling = -0.5 * math.log(2 * math.pi * y) - 1 / (12 * y)
        assert Poisson().log_prob(y, math.log(y)) == pytest.approx(
            stirling, rel=0, abs=1e-14 * y * math.log(y)
        )


@pytest.mark.parametrize("r", [1e-3, 2.0, 15.9, 16.1, 1e4, 1e12])
@pytest.mark.parametrize("y", [0.0, 1.0, 77.0, 1e6])
def test_negative_binomial_base_by_mpmath(y, r):
    with mpmath.workdps(50):
        a, b = mpmath.mpf(y), mpmath.mpf(r)
        truth = mpmath.loggamma(a + b) - mpmath.loggamma(b) - mpmath.loggamma(a + 1)
        scale = float(mpmath.loggamma(a + 1)) + y * abs(math.log(r)) + 1
        assert NegativeBinomial(r).log_base(y) == pytest.approx(float(truth), abs=4e-15 * scale)


def test_negative_binomial_becomes_poisson():
    y, m, v = cases(Poisson(), (0.0, 0.5, 1.0, 3.0, 6.0))
    for few, many in zip(
        Poisson().expectations(y, m, v, 0.1), NegativeBinomial(1e13).expectations(y, m, v, 0.1)
    ):
        np.testing.assert_allclose(many, few, rtol=2e-7, atol=1e-9)
    np.testing.assert_allclose(
        NegativeBinomial(1e13).log_predictive(y, m, v, 0.1), Poisson().log_predictive(y, m, v, 0.1), atol=1e-9
    )


def test_student_becomes_gaussian():
    y, m, v = cases(Gaussian(), (0.0, 0.5, 5.0))
    pairs = zip(StudentT(df=1e10, scale=0.5).expectations(y, m, v), Gaussian(0.25).expectations(y, m, v))
    for student, gauss in pairs:
        np.testing.assert_allclose(student, gauss, rtol=1e-5)


@pytest.mark.parametrize(
    ("m", "v", "y"), [(0.0, 50.0, 0.0), (5.0, 9.0, 1000.0), (2.0, 1e-4, 7.0), (-20.0, 4.0, 3.0)]
)
def test_log_predictive_of_counts_by_mpmath(m, v, y):
    with mpmath.workdps(30):
        s = mpmath.sqrt(v)

        def joint(z):
            eta = m + s * z
            return mpmath.exp(y * eta - mpmath.exp(eta) - mpmath.loggamma(y + 1) - z * z / 2)

        truth = mpmath.log(mpmath.quad(joint, list(range(-14, 15))) / mpmath.sqrt(2 * mpmath.pi))
    assert Poisson().log_predictive(y, m, v) == pytest.approx(float(truth), abs=1e-10)


@each
def test_check_accepts_all_kinds_of_numbers(likelihood):
    for kind in ("bool", "uint8", "int32", "float16", ">f4", "f8", "object"):
        likelihood.check(np.array([0, 1, 1, 0]).astype(kind))
    likelihood.check([np.nan, 1])
    likelihood.check(np.empty((0, 3)))


def test_get_likelihood():
    for kind in KINDS:
        if kind is not Binomial:
            assert type(get_likelihood(kind.name)) is kind
    given = Binomial(3)
    assert get_likelihood(given) is given


def test_inputs_are_not_changed_and_lists_do():
    y, m, v = np.array([[1.0, np.nan]]), np.zeros((1, 2)), np.ones((1, 2))
    for a in (y, m, v):
        a.flags.writeable = False
    for likelihood in EXAMPLES:
        whole = likelihood.expectations(y, m, v)
        for a, b in zip(whole, likelihood.expectations([[1, np.nan]], [[0, 0]], 1)):
            np.testing.assert_array_equal(a, b)
        likelihood.fit_parameters(y, m, v)


def test_average():
    m, v = np.array([0.0, 1.0]), np.array([0.5, 6.0])
    first, second = average(lambda eta: (eta, eta**2), m, v)
    np.testing.assert_allclose(first, m, atol=1e-14)
    np.testing.assert_allclose(second, m**2 + v, rtol=1e-13)


@pytest.mark.parametrize("module", ["likelihoods", "_likelihood", "_counts", "_binomial", "_real"])
def test_examples(module):
    results = doctest.testmod(importlib.import_module(f"hidamari.inference.{module}"))
    assert results.attempted > 0 and results.failed == 0
