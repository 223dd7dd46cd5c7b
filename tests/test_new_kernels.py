"""Trends, periodic and squared exponential kernels: what each claims of itself, and one known answer."""

import doctest

import numpy as np
import oracles
import pytest
from mpmath import mp, mpf
from scipy.integrate import quad
from scipy.linalg import expm
from scipy.optimize import minimize
from scipy.special import ive

from hidamari.parameters import flatten, paths
from hidamari.statespace import (
    _bank,
    _kernel,
    _lines,
    _periodic,
    _squared_exponential,
    _trend,
    kalman,
)
from hidamari.statespace.kernels import (
    Constant,
    Cosine,
    Matern,
    Periodic,
    QuasiPeriodic,
    SquaredExponential,
    Sum,
    Wiener,
)
from hidamari.statespace.types import Readings

# ------------------------------------------------------------------------------------------------ trends


def wiener_covariance(order, variance, start, s, t):
    """The integral of the docstring, by quadrature."""
    a = min(s, t)
    below = np.prod(np.arange(1.0, order + 1))
    moved = quad(lambda r: ((s - r) * (t - r)) ** order, 0.0, a, epsabs=0, epsrel=1e-13)[0] / below**2
    begun = sum((s * t) ** i / np.prod(np.arange(1.0, i + 1)) ** 2 for i in range(order + 1))
    return start**2 * begun + variance * moved


@pytest.mark.parametrize("order", range(4))
def test_wiener_covariance_is_the_integral(order):
    kernel, s, t = Wiener(order, 1.7, 2.0), [0.0, 0.3, 2.0], [0.0, 0.5, 2.0, 3.1]
    exact = [[wiener_covariance(order, 1.7, 2.0, a, b) for b in t] for a in s]
    np.testing.assert_allclose(kernel.covariance(s, t), exact, rtol=1e-12)
    _, cov = oracles.prior_readouts(kernel.state_space(t))
    np.testing.assert_allclose(cov[:, 0, :, 0], kernel.covariance(t, t), rtol=1e-13)


@pytest.mark.parametrize("order", range(4))
def test_wiener_matrices_are_the_exponential_and_compose(order):
    kernel = Wiener(order, 1.7, 2.0)
    F, D = kernel.generator(), kernel.diffusion()
    d = len(F)
    for dt in (0.4, 3.0):
        both = expm(np.block([[-F, D], [np.zeros((d, d)), F.T]]) * dt)  # Van Loan
        A = both[d:, d:].T
        np.testing.assert_allclose(kernel.transition([dt])[0], A, rtol=1e-12)
        np.testing.assert_allclose(kernel.process_noise([dt])[0], A @ both[:d, d:], rtol=1e-9)
    A, Q = kernel.transition([0.3, 1.1, 1.4, -0.3]), kernel.process_noise([0.3, 1.1, 1.4])
    np.testing.assert_allclose(A[1] @ A[0], A[2], rtol=1e-14)
    np.testing.assert_allclose(A[0] @ A[3], np.eye(d), atol=1e-15)
    np.testing.assert_allclose(A[1] @ Q[0] @ A[1].T + Q[1], Q[2], rtol=1e-13)
    for extreme in (0.0, 1e-300, 1e15):
        assert np.isfinite(kernel.process_noise([extreme])).all()


def test_what_is_not_stationary_says_so():
    trend = Wiener(1)
    for kernel in (trend, trend + Matern(), 2.0 * trend, (Matern() + trend) * 3.0):
        assert not kernel.is_stationary
        for call in (lambda k=kernel: k(0.1), lambda k=kernel: k.spectral_density(0.1)):
            with pytest.raises(ValueError, match="is not stationary"):
                call()
    assert (Matern() + Cosine() * Constant()).is_stationary
    for refused in (lambda: trend * Matern(), lambda: Cosine() * trend, lambda: (trend + Matern()) * trend):
        with pytest.raises(ValueError, match="not stationary multiplies only a Constant"):
            refused()
    with pytest.raises(ValueError, match="order must be a whole number from 0 to 3, got 4"):
        Wiener(4)
    assert flatten(trend)[1] == ["variance"]
    assert paths(trend) == ["variance", "start"]


def test_covariances_add_and_scale():
    s, t = np.array([0.0, 0.7, 2.0]), np.array([0.2, 1.5])
    parts = Wiener(1, 0.3, 2.0), Matern(1, 0.4), Periodic(0.8)
    exact = sum(part.covariance(s, t) for part in parts)
    np.testing.assert_allclose(Sum(Sum(*parts[:2]), parts[2]).covariance(s, t), exact, rtol=1e-13)
    np.testing.assert_allclose((2.0 * parts[0]).covariance(s, t), 2.0 * parts[0].covariance(s, t), rtol=1e-14)
    np.testing.assert_array_equal(parts[1].covariance(s, t), parts[1](s[:, None] - t))


@pytest.mark.parametrize("order", range(4))
def test_posterior_under_a_vague_start_is_exact(order, rng):
    """With a start of 1e4 times the data, against 60 digits."""
    times = np.cumsum(rng.uniform(0.1, 0.6, 9))
    y, R, start = rng.standard_normal(9), 0.04, 1e4
    kernel = Wiener(order, 0.8, start)
    y[4] = np.nan
    found, value = kalman.infer(kernel.state_space(times), Readings(y[:, None], np.full((9, 1), R)))
    with mp.workdps(60):
        t = [mpf(float(v)) - mpf(float(times[0])) for v in times]

        def covariance(a, b):
            s, u = min(a, b), max(a, b)
            begun = mp.fsum((s * u) ** i / mp.factorial(i) ** 2 for i in range(order + 1))
            # int_0^s (s - r)^p (u - r)^p dr with u - r = (s - r) + (u - s)
            moved = mp.fsum(
                mp.binomial(order, k) * (u - s) ** (order - k) * s ** (order + k + 1) / (order + k + 1)
                for k in range(order + 1)
            )
            return mpf(start) ** 2 * begun + mpf(0.8) * moved / mp.factorial(order) ** 2

        seen = [i for i in range(9) if i != 4]
        K = mp.matrix([[covariance(t[i], t[j]) for j in range(9)] for i in range(9)])
        G = mp.matrix([[K[i, j] + (mpf(R) if i == j else 0) for j in seen] for i in seen])
        inverse, data = G**-1, mp.matrix([mpf(float(y[i])) for i in seen])
        cross = mp.matrix([[K[i, j] for j in seen] for i in range(9)])
        mean = cross * inverse * data
        reduced = cross * inverse * cross.T
        var = [float(K[i, i] - reduced[i, i]) for i in range(9)]
        log_evidence = -((data.T * inverse * data)[0] + mp.log(mp.det(G)) + 8 * mp.log(2 * mp.pi)) / 2
    np.testing.assert_allclose(found.mean[:, 0], [float(m) for m in mean], rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.cov[:, 0], var, rtol=1e-7)
    assert value == pytest.approx(float(log_evidence), abs=1e-8)


NILE = [
    *(
        1120,
        1160,
        963,
        1210,
        1160,
        1160,
        813,
        1230,
        1370,
        1140,
        995,
        935,
        1110,
        994,
        1020,
        960,
        1180,
        799,
        958,
    ),
    *(
        1140,
        1100,
        1210,
        1150,
        1250,
        1260,
        1220,
        1030,
        1100,
        774,
        840,
        874,
        694,
        940,
        833,
        701,
        916,
        692,
        1020,
    ),
    *(1050, 969, 831, 726, 456, 824, 702, 1120, 1100, 832, 764, 821, 768, 845, 864, 862, 698, 845, 744, 796),
    *(1040, 759, 781, 865, 845, 944, 984, 897, 822, 1010, 771, 676, 649, 846, 812, 742, 801, 1040, 860, 874),
    *(848, 890, 744, 749, 838, 1050, 918, 986, 797, 923, 975, 815, 1020, 906, 901, 1170, 912, 746, 919, 718),
    *(714, 740),
]


def nile_evidence(observation, level, start):
    """Log evidence of the annual flow of the Nile, 1871-1970, in a local level model."""
    ss = Wiener(0, level, start).state_space(np.arange(100.0))
    return kalman.evidence(ss, Readings(np.array(NILE, float)[:, None], np.full((100, 1), observation)))


def test_nile_evidence_is_that_of_statsmodels():
    """statsmodels 0.15.0, y the series above:

    m = sm.tsa.UnobservedComponents(y, "local level", use_exact_diffuse=True); m.loglike([15099.0, 1469.0])
    m = sm.tsa.UnobservedComponents(y, "local level"); m.loglikelihood_burn = m.ssm.loglikelihood_burn = 0
    m.ssm.initialize_known(np.zeros(1), np.array([[1e8]])); m.loglike([15099.0, 1469.0])
    """
    assert len(NILE) == 100
    assert nile_evidence(15099.0, 1469.0, 1e4) == pytest.approx(-642.6811029611976, abs=1e-9)
    diffuse = nile_evidence(15099.0, 1469.0, 1e8) + np.log(1e8)
    assert diffuse == pytest.approx(-633.4645636495352, abs=1e-6)


def test_nile_variances_are_those_of_durbin_and_koopman():
    """Time Series Analysis by State Space Methods, 2nd edition, section 2.10: 15,099 and 1,469."""
    found = minimize(
        lambda x: -nile_evidence(*np.exp(x), start=1e6),
        np.log([1e4, 1e3]),
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-10},
    )
    assert found.success
    np.testing.assert_allclose(np.exp(found.x), [15099.0, 1469.0], rtol=5e-4)


# ---------------------------------------------------------------------------------------------- periodic


@pytest.mark.parametrize("lengthscale", [0.1, 0.3, 0.5, 1.0, 3.0, 30.0])
def test_periodic_weights_are_bessel_functions(lengthscale):
    x, j = lengthscale**-2.0, np.arange(21)
    w = ive(j, x) * np.where(j, 2.0, 1.0)
    found = np.diag(Periodic(1.7, lengthscale, 1.0, 20).stationary())
    np.testing.assert_allclose(found[::2], w / w.sum(), rtol=1e-11, atol=1e-300)
    np.testing.assert_array_equal(found[1::2], found[2::2])


@pytest.mark.parametrize(
    ("lengthscale", "harmonics", "error"),
    [(1.0, 4, 1e-3), (1.0, 7, 1e-6), (0.5, 7, 1e-3), (0.5, 11, 1e-6), (0.3, 12, 1e-3), (0.3, 18, 1e-6)]
    + [(0.1, 35, 1e-3), (0.1, 51, 1e-6), (1.0, 7, 2e-7)],
)
def test_periodic_truncation_is_as_stated(lengthscale, harmonics, error):
    kernel, tau = Periodic(0.7, lengthscale, 2.0, harmonics), np.linspace(-1, 2, 601)
    exact = 2.0 * np.exp(-2.0 * np.sin(np.pi * tau / 0.7) ** 2 / lengthscale**2)
    found = np.abs(kernel(tau) - exact).max()
    assert found <= kernel.truncation + 1e-14 <= 2.0 * error
    assert kernel.truncation <= 20.0 * found
    assert kernel(0.0) == pytest.approx(2.0, rel=1e-15)


def test_quasi_periodic_is_the_product():
    kernel = QuasiPeriodic(1.3, 0.7, 5.0, 2.0, harmonics=3, order=2)
    parts = Matern(2, 5.0, 2.0) * Periodic(1.3, 0.7, 1.0, 3)
    dt = np.array([0.0, 0.1, 2.0])
    for method in ("transition", "process_noise", "__call__", "spectral_density"):
        np.testing.assert_allclose(
            getattr(kernel, method)(dt), getattr(parts, method)(dt), rtol=1e-11, atol=1e-15
        )
    assert kernel.stationary().shape == (21, 21)
    assert flatten(kernel)[1] == ["period", "lengthscale", "decay", "variance"]


# ------------------------------------------------------------------------------------ squared exponential


@pytest.mark.parametrize(("order", "error"), [(4, 5e-4), (5, 7e-5), (6, 1e-5), (7, 2e-6), (8, 6e-7)])
def test_squared_exponential_error_is_as_stated(order, error):
    kernel, tau = SquaredExponential(0.4, 2.0, order), np.linspace(0, 8, 4001)
    found = np.abs(kernel(tau) - 2.0 * np.exp(-(tau**2) / (2 * 0.4**2))).max()
    assert error / 2 < found / 2.0 < error
    assert np.linalg.cond(kernel.stationary()) < 1e3
    assert np.abs(np.linalg.eigvals(SquaredExponential(1.0, order=order).generator())).max() < 5.0
    density = kernel.spectral_density(np.linspace(0, 20, 4001))
    assert density.min() >= 0.0


def test_squared_exponential_posterior_is_that_of_the_dense_process(rng):
    times = np.sort(rng.uniform(0, 4, 40))
    y = np.sin(2 * times) + 0.1 * rng.standard_normal(40)

    def exact(tau):
        return np.exp(-(tau**2) / (2 * 0.7**2))

    mean, var, _ = oracles.gp(exact, times, y, 0.01)
    for order, tolerance in ((6, 2e-3), (8, 2e-4)):
        ss = SquaredExponential(0.7, order=order).state_space(times)
        found, _ = kalman.infer(ss, Readings(y[:, None], np.full((40, 1), 0.01)))
        np.testing.assert_allclose(found.mean[:, 0], mean, rtol=0, atol=tolerance)
        np.testing.assert_allclose(found.cov[:, 0], var, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SquaredExponential(order=3), "order must be a whole number from 4 to 8, got 3"),
        (lambda: SquaredExponential(order=9), "order must be a whole number from 4 to 8, got 9"),
        (lambda: Periodic(harmonics=0), "harmonics must be a whole number, 1 or more, got 0"),
        (lambda: Periodic(period=0.0), "period must be a finite number above 0, got 0"),
        (lambda: QuasiPeriodic(harmonics=0), "harmonics must be a whole number, 1 or more, got 0"),
        (lambda: QuasiPeriodic(order=7), "order must be a whole number from 0 to 6, got 7"),
        (lambda: QuasiPeriodic(decay=-1.0), "decay must be a finite number above 0, got -1"),
        (lambda: Wiener(variance=0.0), "variance must be a finite number above 0, got 0"),
        (lambda: Wiener(start=np.inf), "start must be a finite number above 0, got inf"),
    ],
)
def test_new_kernels_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "module",
    [_bank, _kernel, _lines, _periodic, _squared_exponential, _trend],
    ids=lambda module: module.__name__,
)
def test_examples(module):
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0
