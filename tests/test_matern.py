"""Matern and Hida-Matern steps digit by digit: against 60-digit arithmetic, at extremes, in any unit."""

import tracemalloc
from itertools import product
from math import comb, factorial

import numpy as np
import oracles
import pytest
from mpmath import mp, mpf

from hidamari.statespace.kernels import Cosine, HidaMatern, Matern


@pytest.mark.parametrize("order", range(7))
def test_covariance_is_the_formula_in_many_digits(order):
    exact = oracles.matern_mp(order, 0.3, 1.9)
    for tau in (0.0, 1e-7, 0.02, 0.3, 1.1, 9.0):
        value = float(exact(mpf(tau)))
        assert Matern(order, 0.3, 1.9)(tau) == pytest.approx(value, rel=2e-15 * (1 + 100 * tau))
        wave = float(exact(mpf(tau)) * mp.cos(2 * mp.pi * mpf(1.7) * mpf(tau)))
        assert HidaMatern(order, 0.3, 1.7, 1.9)(tau) == pytest.approx(wave, rel=0, abs=2e-14)


def exact_step(order, u):
    """A(u) and Q(u) of unit variance in 60 digits."""
    d = order + 1
    N = mp.matrix(d)
    for i in range(d):
        N[i, i] = mpf(1)
        if i < order:
            N[i, i + 1] = mpf(1)
        N[order, i] -= comb(d, i)
    taylor = [mp.eye(d)]
    for k in range(1, d):
        taylor.append(taylor[-1] * N / k)
    A = mp.zeros(d)
    for k in range(d):
        A += taylor[k] * (mp.exp(-u) * u**k)
    moments = []  # int_0^u s^n e^(-2s) ds, by the series that only adds
    for n in range(2 * order + 1):
        if u > 60:
            moments.append(mp.factorial(n) / mpf(2) ** (n + 1))
            continue
        term = total = mp.exp(-2 * u) * u ** (n + 1) / (n + 1)
        m = 1
        while term > total * mpf(10) ** -60:
            term *= 2 * u / (n + 1 + m)
            total, m = total + term, m + 1
        moments.append(total)
    q = mpf(2) ** (2 * order + 1) * factorial(order) ** 2 / factorial(2 * order)
    Q = mp.zeros(d)
    for i, j, k, l in product(range(d), repeat=4):
        if i + k >= order and j + l >= order:  # the others are zeros of the last columns
            Q[i, j] += q * taylor[k][i, order] * taylor[l][j, order] * moments[k + l]
    return A, Q


@pytest.mark.parametrize("order", range(7))
def test_steps_match_60_digits(order):
    u = np.array([1e-8, 1e-5, 3e-3, 0.2, 0.99, 1.99, 2.01, 4.5, 13.0, 50.0, 1e3])
    kernel = Matern(order, lengthscale=np.sqrt(2 * order + 1))
    dt = u / (np.sqrt(2 * order + 1) / kernel.lengthscale)
    A, Q = kernel.transition(dt), kernel.process_noise(dt)
    with mp.workdps(60):
        for s, value in enumerate(u):
            exact_A, exact_Q = exact_step(order, mpf(float(value)))
            for i, j in product(range(order + 1), repeat=2):
                assert abs(A[s, i, j] - exact_A[i, j]) <= 3e-14 * max(1, np.abs(A[s]).max())
                bound = mp.sqrt(exact_Q[i, i] * exact_Q[j, j])
                assert abs(Q[s, i, j] - exact_Q[i, j]) <= 1e-14 * bound


@pytest.mark.parametrize("order", range(7))
def test_process_noise_has_a_cholesky_factor(order):
    kernel = Matern(order)
    u = np.geomspace(1e-5, 50, 60)
    Q = kernel.process_noise(u / np.sqrt(2 * order + 1))
    np.testing.assert_array_equal(Q, Q.swapaxes(1, 2))
    scale = np.sqrt(np.einsum("sii->si", Q))
    correlation = Q / scale[:, :, None] / scale[:, None, :]
    factor = np.linalg.cholesky(correlation)
    assert np.einsum("sii->si", factor).min() > 1e-7


@pytest.mark.parametrize("ratio", [1e-250, 1e-6, 1e-3, 1.0, 1e4, 1e8, 1e250])
@pytest.mark.parametrize(
    "make",
    [Matern, lambda p, ell: HidaMatern(p, ell, 0.3), lambda p, ell: Matern(p, ell) * Matern(1, 2 * ell)],
)
def test_extreme_lengthscales_are_finite(make, ratio):
    for order in range(7):
        dt = np.array([1e-300, 1e-30, 1e-9, 1.0, 1e30, 1e200])
        kernel = make(order, ratio)
        with np.errstate(all="raise", under="ignore"):
            assert np.isfinite(kernel.transition(dt)).all()
            assert np.isfinite(kernel.process_noise(dt)).all()
            assert np.isfinite(kernel(dt)).all()
        assert np.einsum("sii->si", kernel.process_noise(dt)).min() >= 0


def test_any_unit_of_time_gives_the_same_numbers():
    dt = np.array([0.1, 0.37, 2.0])
    for unit in (2.0**-100, 2.0**90):
        one, other = HidaMatern(3, 0.5, 1.25), HidaMatern(3, 0.5 * unit, 1.25 / unit)
        np.testing.assert_array_equal(one.transition(dt), other.transition(dt * unit))
        np.testing.assert_array_equal(one.process_noise(dt), other.process_noise(dt * unit))


def test_whole_turns_leave_no_rounding():
    lag = np.array([1e6 + 1 / 16, 1e6 + 1 / 32, 1e9])
    np.testing.assert_allclose(Cosine(8.0)(lag), [-1.0, 0.0, 1.0], rtol=0, atol=1e-15)
    np.testing.assert_allclose(Cosine(8.0).transition(lag)[:, 1, 0], [0.0, 1.0, 0.0], rtol=0, atol=1e-15)


def test_many_distinct_gaps_take_little_memory(rng):
    dt = rng.uniform(0, 0.5, 100_000)
    Matern(2).process_noise(dt)  # compiling takes some of its own
    tracemalloc.start()
    Q = Matern(2).process_noise(dt)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * Q.nbytes
