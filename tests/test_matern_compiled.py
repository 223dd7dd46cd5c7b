"""Many gaps of low order take compiled loops: against 60 digits, and against the plain formulas."""

import numpy as np
import pytest
from mpmath import mp, mpf
from test_matern import exact_step

from hidamari.statespace import _matern
from hidamari.statespace.kernels import Matern

U = np.array([0.0, 1e-8, 1e-5, 3e-3, 0.05, 0.2, 0.5, 0.99, 1.99, 2.0, 2.01, 4.5, 13.0, 50.0, 1e3])


@pytest.mark.parametrize("order", range(3))
def test_process_noise_matches_60_digits(order):
    kernel = Matern(order, lengthscale=np.sqrt(2 * order + 1))
    u = np.tile(U, 40)
    Q = kernel.process_noise(u)
    np.testing.assert_array_equal(Q, Q.swapaxes(1, 2))
    np.testing.assert_array_equal(Q[: len(U)], Q[-len(U) :])
    with mp.workdps(60):
        for s, value in enumerate(U[1:], start=1):
            exact = exact_step(order, mpf(float(value)))[1]
            for i in range(order + 1):
                for j in range(order + 1):
                    bound = mp.sqrt(exact[i, i] * exact[j, j])
                    assert abs(Q[s, i, j] - exact[i, j]) <= 5e-15 * bound, (value, i, j)
    assert not Q[0].any()


@pytest.mark.parametrize("order", range(3))
def test_slopes_are_those_of_the_plain_formulas(order):
    kernel = Matern(order, lengthscale=0.7, variance=1.3)
    gaps = np.tile(U * 0.3, 40)
    many, few = kernel.linearise(gaps, ["lengthscale"]), kernel.linearise(U * 0.3, ["lengthscale"])
    for a, b in zip(many.slopes[0], few.slopes[0]):
        np.testing.assert_allclose(a[: len(b)], b, rtol=1e-13, atol=1e-16)


def test_unequal_gaps_of_high_order_take_quadrature():
    assert _matern._COMPILED_TO == 2
    u = np.tile(U, 40)
    np.testing.assert_allclose(_matern.noise(3, u)[: len(U)], _matern.noise(3, U), rtol=1e-13, atol=1e-300)
