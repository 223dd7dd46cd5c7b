"""The core for jax arrays: the same answers as numba and dense algebra, draws, few compilations."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from test_core import KERNELS, draw_sites, grid
from test_kalman import T, chains, read

from hidamari.statespace import _jax, kalman
from hidamari.statespace.kernels import Matern, bank, steps
from hidamari.statespace.types import Readings, Sites, StateSpace

# Of every kind one, of at most four states: programs grow with their number.
FEW = {name: KERNELS[name] for name in ("matern0", "matern3", "hida1", "cosine", "constant", "sum")}


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def of_jax(parts):
    return type(parts)(*(jnp.asarray(a) for a in parts))


def some_readings(rng, rows, K, least=0.1):
    """Readings with entries missing as NaN and as infinite noise."""
    y, R = rng.normal(size=(rows, K)), rng.uniform(least, 1.0, size=(rows, K))
    y[::5], R[3] = np.nan, np.inf
    return Readings(y, R)


def same(found, wanted, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(np.asarray(a), b, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("regular", "kernels"), [(True, FEW), (False, KERNELS)])
def test_every_kernel_is_as_numba_and_the_dense_gp(rng, regular, kernels):
    times = grid(rng, regular)
    ss = bank(list(kernels.values()), *steps(times))  # one chain each, padded with zeros
    readings = some_readings(rng, 24, len(kernels))
    found, value = kalman.infer(of_jax(ss), of_jax(readings))
    assert isinstance(found.mean, jax.Array) and found.mean.shape == readings.y.shape
    same((found, value), kalman.infer(ss, readings))
    same(kalman.filter(of_jax(ss), readings), kalman.filter(ss, readings))
    start = 0
    for own in times:
        rows = slice(start, start + len(own))
        for c, kernel in enumerate(kernels.values()):
            mean, var, _ = oracles.gp(kernel, own, *np.where(np.isinf(readings.R), 1.0, readings)[:, rows, c])
            if not np.isinf(readings.R[rows]).any():
                np.testing.assert_allclose(found.mean[rows, c], mean, atol=1e-9)
                np.testing.assert_allclose(found.cov[rows, c], var, atol=1e-9)
        start += len(own)


@pytest.mark.parametrize("name", ["one_each", "two_of_each", "one_is_not_read"])
def test_coupled_chains_of_any_read_out(rng, name):
    ss = chains(rng) if name == "one_each" else read(name, chains(rng), rng)
    sites = draw_sites(rng, T, ss.H.shape[0] * ss.H.shape[1])
    exact = oracles.posterior(ss, sites)
    found, value = kalman.infer(of_jax(ss), of_jax(sites))
    same((found, value), ((exact.mean, exact.cov), exact.log_evidence.sum()))
    same(kalman.filter(of_jax(ss), of_jax(sites)), kalman.filter(ss, sites))
    assert float(kalman.evidence(ss, of_jax(sites))) == pytest.approx(exact.log_evidence.sum(), abs=1e-10)


ENDLESS = """
import jax, numpy as np, jax.numpy as jnp
from jax import lax
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Matern
from hidamari.statespace.types import Readings
def run():
    for T, n in ((50, 300), (20_000, 20)):
        ss = Matern(1, 0.3).state_space(np.arange(T) * 0.1)
        y = np.sin(np.arange(T) * 0.1)[:, None]
        def value(q, y):
            s = jnp.exp(q)
            return kalman.evidence(ss._replace(P=s * ss.P, Q=s * ss.Q), Readings(y, jnp.full((T, 1), 0.3)))
        def body(state):
            i, q, _ = state
            v, g = jax.value_and_grad(value)(q, jnp.asarray(y) + 1e-3 * jnp.sin(q))
            return i + 1, q + 1e-3 * g / T, v
        start = (0, jnp.zeros(2), jnp.zeros(2))
        out = jax.jit(jax.vmap(lambda q: lax.while_loop(lambda s: s[0] < n, body, (0, q, 0.0))[2]))
        assert np.isfinite(out(jnp.array([0.0, 0.1]))).all()
with jax.enable_x64(True):
    run()
print("done")
"""


@pytest.mark.parametrize("pool", ["1", None])
def test_the_callback_never_waits_for_ever(pool):
    env = {k: v for k, v in os.environ.items() if k != "NPROC"} | ({"NPROC": pool} if pool else {})
    out = subprocess.run(
        [sys.executable, "-c", ENDLESS], env=env, capture_output=True, text=True, timeout=200
    )
    assert out.stdout.strip() == "done", out.stderr[-2000:]


def test_fifty_lengths_share_a_few_programs(rng):
    before = _jax._solve._cache_size()
    for n in range(100, 200, 2):
        ss = Matern(0, 0.3).state_space(np.cumsum(rng.uniform(0.1, 1.0, n)))
        found, _ = kalman.infer(of_jax(ss), Readings(rng.normal(size=(n, 1)), np.ones((n, 1))))
        assert found.mean.shape == (n, 1)
    assert _jax._solve._cache_size() - before <= 5


def test_draws_have_the_posteriors_moments(rng):
    ss = of_jax(chains(rng, C=2))
    for diagonal in (True, False):
        sites = draw_sites(rng, T, 2, diagonal)
        draws = np.asarray(kalman.sample(ss, sites, 4000, jax.random.key(0)))
        exact = oracles.posterior(StateSpace(*map(np.asarray, ss)), sites)
        assert draws.shape == (4000, T, 2)
        spread = np.sqrt(exact.var.max())
        np.testing.assert_allclose(draws.mean(0), exact.mean, atol=5 * spread / 60)
        wanted = exact.full.reshape(2 * T, 2 * T)
        np.testing.assert_allclose(np.cov(draws.reshape(4000, -1).T), wanted, atol=6 * wanted.max() / 60)
    few = kalman.sample(ss, sites, 2, jax.random.key(0))
    np.testing.assert_allclose(few, draws[:2], atol=1e-12)
    assert kalman.sample(ss, sites, 2, np.random.default_rng(0)).shape == (2, T, 2)


def test_formats_follow_the_jax_arrays(rng):
    ss = Matern(1, 0.3).state_space(np.arange(20) * 0.1)
    readings = Readings(rng.normal(size=(20, 1)), np.full((20, 1), 0.3))
    single = Readings(*(jnp.asarray(a, dtype=jnp.float32) for a in readings))
    wanted, value = kalman.infer(ss, readings)
    with jax.enable_x64(False):
        found, low = kalman.infer(ss, single)
        assert found.mean.dtype == found.cov.dtype == low.dtype == np.float32
        assert kalman.evidence(ss, single).dtype == np.float32
        assert jax.grad(lambda y: kalman.evidence(ss, single._replace(y=y)))(single.y).dtype == np.float32
        assert jnp.ones(1).dtype == np.float32
    np.testing.assert_allclose(found.cov, wanted.cov, rtol=1e-5)
    assert float(low) == pytest.approx(value, rel=1e-5)
    kept = of_jax(readings)
    with jax.enable_x64(False):  # float64 made elsewhere stays float64
        assert kalman.smooth(ss, kept).mean.dtype == np.float64
        assert kalman.evidence(ss, kept).dtype == np.float64


def test_what_is_refused(rng):
    ss = Matern(1, 0.3).state_space(np.arange(4) * 0.1)
    good = of_jax(Sites(np.zeros((4, 1)), np.ones((4, 1))))
    for sites, message in (
        (good._replace(J=good.J[:3]), r"sites.J must have shape \(4, 1\) or"),
        (good._replace(j=good.j * np.nan), "sites.j must be finite"),
        (of_jax(Readings(np.zeros((4, 1)), -np.ones((4, 1)))), "sites.R must be a variance"),
    ):
        with pytest.raises(ValueError, match=message):
            kalman.smooth(ss, sites)
    with pytest.raises(ValueError, match="method must be one of .* for jax arrays, found 'rts'"):
        kalman.smooth(ss, good, method="rts")
    with pytest.raises(ValueError, match="method must be 'auto' for NumPy arrays"):
        kalman.evidence(ss, Sites(*map(np.asarray, good)), method="scan")
    with pytest.raises(ValueError, match="method='compiled' is for float64"):
        kalman.evidence(ss, good, method="compiled", form="square_root")
    with pytest.raises(ValueError, match="a jax key"):
        jax.jit(lambda j: kalman.sample(ss, good._replace(j=j), 1, np.random.default_rng(0)))(good.j)
    exact = of_jax(Readings(np.zeros((4, 1)), np.zeros((4, 1))))
    with pytest.raises(ValueError, match="no finite sites"):
        kalman.sample(ss, exact, 1, jax.random.key(0))
