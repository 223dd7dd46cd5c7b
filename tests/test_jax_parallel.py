"""Associative scans over time: the same answers and accuracy as the recursion, or a refusal."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_core import KERNELS, draw_sites, grid
from test_extremes import TIMES
from test_extremes import grid as extremes
from test_jax_core import of_jax, same, some_readings
from test_kalman import T, chains, read

from hidamari.statespace import kalman
from hidamari.statespace.kernels import Matern, bank, steps
from hidamari.statespace.types import Readings


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def test_every_kernel_is_as_numba(rng):
    ss = bank(list(KERNELS.values()), *steps(grid(rng, False)))
    readings = some_readings(rng, 24, len(KERNELS))
    same(kalman.infer(of_jax(ss), readings, method="parallel"), kalman.infer(ss, readings))
    same(kalman.filter(of_jax(ss), readings, method="parallel"), kalman.filter(ss, readings))


def test_coupled_chains(rng):
    ss = read("two_of_each", chains(rng), rng)
    sites = draw_sites(rng, T, 6)
    same(kalman.smooth(of_jax(ss), sites, method="parallel"), kalman.smooth(ss, sites, form="covariance"))


def test_the_slope_is_that_of_the_recursion(rng):
    ss = of_jax(chains(rng, C=2))
    sites = of_jax(draw_sites(rng, T, 2))
    one, two = (
        jax.grad(partial(kalman.evidence, method=m), (0, 1), allow_int=True)(ss, sites)
        for m in ("scan", "parallel")
    )
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)):
        if a.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(b, a, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("lengthscale", [1e-6, 1.0, 1e4, 1e8])
def test_grades_of_accuracy_within_its_range(lengthscale):
    """Against 50 digits, for noise that it takes."""
    for order in (0, 1, 3):
        for noise, y, (mean, var, lml) in extremes(order, lengthscale):
            ss = bank([Matern(order, lengthscale), Matern(3)], *steps(TIMES))  # one shape for all orders
            readings = of_jax(Readings(np.stack([y, y * np.nan], 1), np.full((len(y), 2), noise)))
            if noise < 1e-4:
                with pytest.raises(ValueError, match="method='parallel' takes .* up to 10000"):
                    kalman.infer(ss, readings, method="parallel")
                continue
            found, value = kalman.infer(ss, readings, method="parallel")
            np.testing.assert_allclose(found.mean[:, 0], mean, rtol=0, atol=1e-10 * np.abs(mean).max())
            np.testing.assert_allclose(found.cov[:, 0], var, rtol=1e-10)
            assert float(value) == pytest.approx(lml, rel=1e-10)


def test_it_refuses_what_it_cannot_hold(rng):
    ss = Matern(1, 0.3).state_space(np.arange(4) * 0.1)
    exact = of_jax(Readings(np.zeros((4, 1)), np.zeros((4, 1))))
    with pytest.raises(ValueError, match="no exact readings: use method='scan'"):
        kalman.smooth(ss, exact, method="parallel")
    noisy = exact._replace(R=exact.R + 0.1)
    with pytest.raises(ValueError, match="found form='square_root'"):
        jax.jit(lambda s: kalman.smooth(ss, s, method="parallel", form="square_root"))(noisy)
    with pytest.raises(ValueError, match="found float32"):
        kalman.smooth(ss, Readings(*(a.astype(jnp.float32) for a in noisy)), method="parallel")
