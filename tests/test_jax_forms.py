"""The square-root form in jax: tiny noise, exact readings and float32, as the compiled one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_core import draw_sites, grid
from test_extremes import TIMES
from test_extremes import grid as extremes
from test_jax_core import FEW, of_jax, same, some_readings
from test_kalman import T, chains, read

from hidamari.statespace import kalman
from hidamari.statespace.kernels import Matern, bank, steps
from hidamari.statespace.types import Readings


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def test_kernels_of_every_kind_are_as_in_numba(rng):
    ss = bank(list(FEW.values()), *steps(grid(rng, False)))
    readings = some_readings(rng, 24, len(FEW))
    same(kalman.infer(of_jax(ss), readings, form="square_root"), kalman.infer(ss, readings))
    single = kalman.smooth(of_jax(ss), readings, form="square_root_float32")
    assert single.mean.dtype == np.float64
    same(single, kalman.smooth(ss, readings), 2e-4)


def test_coupled_chains_of_any_read_out(rng):
    ss = read("two_of_each", chains(rng), rng)
    sites = draw_sites(rng, T, 6)
    for run in (kalman.filter, kalman.infer):
        same(run(of_jax(ss), sites, form="square_root"), run(ss, sites))


@pytest.mark.parametrize("lengthscale", [1e-6, 1.0, 1e4, 1e8])
def test_grades_of_accuracy(lengthscale):
    """Against 50 digits, down to noise of 1e-12, in both formats; the form is chosen by the numbers."""
    for order in (0, 1, 3):
        ss = bank([Matern(order, lengthscale), Matern(3)], *steps(TIMES))  # one shape for all orders
        for noise, y, (mean, var, lml) in extremes(order, lengthscale):
            both = Readings(np.stack([y, y * np.nan], 1), np.full((len(y), 2), noise))
            for form, of_mean, of_var, of_lml in (
                ("auto", 1e-12, 1e-10, 1e-10),
                ("square_root_float32", 1e-4, 2e-4, 2e-2 if noise < 1e-10 else 1e-3),
            ):
                found, value = kalman.infer(ss, of_jax(both), form=form)
                np.testing.assert_allclose(found.mean[:, 0], mean, rtol=0, atol=of_mean * np.abs(mean).max())
                np.testing.assert_allclose(found.cov[:, 0], var, rtol=of_var)
                assert float(value) == pytest.approx(lml, rel=of_lml)


def test_exact_readings(rng):
    ss = Matern(1, 0.3).state_space([0.0, 0.1, 0.1, 0.5])
    y = np.array([[0.3], [-0.2], [-0.2], [np.nan]])
    readings = of_jax(Readings(y, np.zeros((4, 1))))
    found, value = kalman.infer(ss, readings)
    same((found, value), kalman.infer(ss, Readings(y, np.zeros((4, 1)))))
    np.testing.assert_array_equal(found.mean[:3], y[:3])

    def log_density(y, R):
        return kalman.evidence(ss, Readings(y, R), form="square_root")

    by_y, by_R = jax.jit(jax.grad(log_density, (0, 1)))(*readings._replace(R=readings.R.at[2].set(1.0)))
    moved = np.zeros((4, 1))
    moved[0] = 1e-5
    R = np.array([[0.0], [0.0], [1.0], [0.0]])
    up, down = (kalman.evidence(ss, Readings(y + s * moved, R)) for s in (1, -1))
    assert float(by_y[0, 0]) == pytest.approx((up - down) / 2e-5, rel=1e-7)
    near = [kalman.evidence(ss, Readings(y, R + n * moved)) for n in (0, 1, 2)]
    assert float(by_R[0, 0]) == pytest.approx((4 * near[1] - 3 * near[0] - near[2]) / 2e-5, rel=1e-3)
    false = readings._replace(y=readings.y.at[2].set(0.7))
    with pytest.raises(ValueError, match=r"conflicting exact readings: \[0.7\] at row 2"):
        kalman.smooth(ss, false)
    assert jax.jit(lambda s: kalman.evidence(ss, s, form="square_root"))(false) == -np.inf


def test_float32_slopes_are_near_those_of_float64(rng):
    ss = Matern(2, 0.5).state_space(np.cumsum(rng.uniform(0.01, 0.3, 40)))
    readings = some_readings(rng, 40, 1, least=0.01)

    def slopes(dtype, **way):
        parts = [jnp.asarray(a, dtype=dtype) for a in (ss.Q, ss.P, *readings)]

        def value(Q, P, y, R):
            model = ss._replace(Q=Q, P=P)
            return kalman.evidence(model, Readings(y, R), **way)

        return jax.jit(jax.grad(value, (0, 1, 2, 3)))(*parts)

    for single, exact in zip(slopes(np.float32), slopes(np.float64, method="compiled")):
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, exact, rtol=0, atol=1e-3 * np.abs(exact).max())


def test_moments_have_slopes_in_every_form(rng):
    ss = of_jax(Matern(1, 0.5).state_space(np.arange(12) * 0.1))
    y, R = jnp.asarray(rng.normal(size=(12, 1))), jnp.full((12, 1), 0.2)

    def loss(y, form):
        found, value = kalman.infer(ss, Readings(y, R), form=form)
        return jnp.sum(found.mean**2) + value

    slope = jax.jit(jax.grad(loss), static_argnums=1)
    one, two = (slope(y, form) for form in ("covariance", "square_root"))
    np.testing.assert_allclose(two, one, rtol=1e-9, atol=1e-12)
