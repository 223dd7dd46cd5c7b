"""The Markov GP as a numpyro distribution: log density, gradients, batches, draws, numpyro's machinery."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import oracles
import pytest
from numpyro.infer import Predictive
from numpyro.infer.util import log_density

import hidamari as hd
from hidamari.inference._jax_evidence import Evidence, axis_of, fill, on_host, take_apart

T = 40


@pytest.fixture
def data(rng):
    times = rng.uniform(0.0, 4.0, T)  # in no order
    times[5] = times[17]
    y = rng.standard_normal(T)
    y[[3, 20]] = np.nan
    return times, y


def kernel(length, variance, other=0.4, frequency=1.3):
    return hd.Matern(1, length, variance) + hd.HidaMatern(0, 2.0, frequency, other)


def dense(times, y, theta, noise, mean=0.0):
    return oracles.gp(kernel(*theta), times, y - mean, noise)[2]


def slopes(function, at, step=1e-5):
    at = np.asarray(at, float)
    out = []
    for i in range(len(at)):
        shift = step * np.eye(len(at))[i]
        out.append((function(at + shift) - function(at - shift)) / (2 * step))
    return np.array(out)


@pytest.mark.parametrize("backend", ["compiled", "jax"])
def test_value_and_gradient_are_those_of_the_dense_gp(data, rng, backend):
    times, y = data
    noise, mean = rng.uniform(0.1, 0.5, T), rng.standard_normal(T)
    theta = np.array([0.7, 1.2, 0.4, 1.3])

    def ours(theta, noise, mean, y):
        gp = hd.MarkovGPDistribution(kernel(*theta), times, noise, mean, backend=backend)
        return gp.log_prob(y)

    with jax.enable_x64(True):
        value, found = jax.jit(jax.value_and_grad(ours, argnums=(0, 1, 2, 3)))(theta, noise, mean, y)
        assert value.dtype == jnp.float64
        alone = ours(theta, noise, mean, y)
    assert np.isclose(value, dense(times, y, theta, noise, mean), rtol=1e-11)
    assert np.isclose(alone, value, rtol=1e-12)
    np.testing.assert_allclose(found[0], slopes(lambda x: dense(times, y, x, noise, mean), theta), rtol=1e-6)
    np.testing.assert_allclose(
        found[1], slopes(lambda x: dense(times, y, theta, x, mean), noise), rtol=1e-5, atol=1e-7
    )
    by_mean = slopes(lambda x: dense(times, y, theta, noise, x), mean)
    np.testing.assert_allclose(found[2], by_mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found[3], -by_mean, rtol=1e-6, atol=1e-8)
    assert found[0].dtype == jnp.float64


def test_single_precision_is_rounding_alone(data):
    times, y = data
    theta = (0.7, 1.2)
    gp = hd.MarkovGPDistribution(kernel(*map(jnp.float32, theta)), times, 0.3)
    value = gp.log_prob(y)
    assert value.dtype == jnp.float32
    assert np.isclose(value, dense(times, y, theta, 0.3), rtol=1e-6)


def test_batches_are_series_with_a_kernel_each(data, rng):
    times, y = data
    lengths, sigma = np.array([0.2, 0.7, 1.5]), np.array([0.1, 0.2, 0.3])
    Y = np.stack([y, y + 1.0, -y])
    with jax.enable_x64(True):
        gp = hd.MarkovGPDistribution(hd.Matern(1, jnp.asarray(lengths)), times, sigma[:, None])
        assert (gp.batch_shape, gp.event_shape) == ((3,), (T,))
        found = gp.log_prob(Y)
        each = [oracles.gp(hd.Matern(1, l), times, v, s)[2] for l, v, s in zip(lengths, Y, sigma)]
        np.testing.assert_allclose(found, each, rtol=1e-11)
        one = jax.vmap(lambda l, v, s: hd.MarkovGPDistribution(hd.Matern(1, l), times, s).log_prob(v))
        np.testing.assert_allclose(one(lengths, Y, sigma), each, rtol=1e-11)
        both = jax.vmap(jax.grad(lambda l: hd.MarkovGPDistribution(hd.Matern(1, l), times, 0.1).log_prob(y)))
        single = [
            jax.grad(lambda l: hd.MarkovGPDistribution(hd.Matern(1, l), times, 0.1).log_prob(y))(l)
            for l in lengths
        ]
        np.testing.assert_allclose(both(jnp.asarray(lengths)), single, rtol=1e-12)
        assert gp.log_prob(y).shape == (3,)
        assert gp.expand((2, 3)).log_prob(Y).shape == (2, 3)


def test_it_travels_through_jit_as_an_argument(data):
    times, y = data
    with jax.enable_x64(True):
        gp = hd.MarkovGPDistribution(kernel(jnp.asarray(0.7), jnp.asarray(1.2)), times, 0.3, mean=0.2)
        there = jax.jit(lambda d: d)(gp)
        assert there.kernel == gp.kernel
        assert np.isclose(jax.jit(lambda d, y: d.log_prob(y))(gp, y), gp.log_prob(y), rtol=1e-12)
        again = jax.tree.unflatten(*jax.tree.flatten(gp)[::-1])
        assert again.log_prob(y) == gp.log_prob(y)
    assert jax.tree.structure(gp) == jax.tree.structure(again)


def test_nothing_observed_says_nothing(data):
    times, _ = data
    gp = hd.MarkovGPDistribution(hd.Matern(1, jnp.float32(0.5)), times, 0.3)
    assert gp.log_prob(np.full(T, np.nan)) == 0.0
    y = np.zeros(T)
    noise = np.full(T, 0.3)
    noise[4] = np.inf
    y_missing = y.copy()
    y_missing[4] = np.nan
    assert hd.MarkovGPDistribution(hd.Matern(), times, noise).log_prob(y) == hd.MarkovGPDistribution(
        hd.Matern(), times, 0.3
    ).log_prob(y_missing)


def test_numbers_out_of_range_are_nan_and_not_errors(data):
    times, y = data
    value = jax.jit(lambda l, v: hd.MarkovGPDistribution(hd.Matern(1, l), times, v).log_prob(y))
    assert np.isfinite(value(1.0, 0.3))
    for wrong in (0.0, -1.0, np.nan):
        assert np.isnan(value(wrong, 0.3)) and np.isnan(value(1.0, wrong))
    assert np.isnan(value(np.inf, 0.3))
    assert value(1.0, np.inf) == 0.0  # nothing was observed


def test_draws_have_the_moments_of_the_prior():
    times = np.array([0.4, 0.0, 0.1, 0.1])
    mean = np.array([1.0, 0.0, -1.0, 2.0])
    gp = hd.MarkovGPDistribution(hd.Matern(1, jnp.float32(0.3)), times, 0.2, mean)
    draws = np.asarray(gp.sample(jax.random.key(0), (1500,)))
    assert draws.shape == (1500, 4)
    wanted = hd.Matern(1, 0.3)(np.subtract.outer(times, times)) + 0.2 * np.eye(4)
    np.testing.assert_allclose(draws.mean(0), mean, atol=4.5 * np.sqrt(1.2 / 1500))
    np.testing.assert_allclose(np.cov(draws.T), wanted, atol=4.5 * 1.2 * np.sqrt(2 / 1500))
    again, other = (gp.sample(jax.random.key(k), (9,)) for k in (0, 1))
    assert np.array_equal(again, gp.sample(jax.random.key(0), (9,))) and not np.array_equal(again, other)
    np.testing.assert_array_equal(gp.mean, mean.astype(np.float32))


def test_draws_of_a_batch_follow_their_kernels():
    gp = hd.MarkovGPDistribution(hd.Matern(0, 1.0, jnp.array([0.01, 100.0])), np.arange(5.0), 1e-6)
    draws = np.asarray(gp.sample(jax.random.key(3), (200,)))
    assert draws.shape == (200, 2, 5)
    np.testing.assert_allclose(draws.std((0, 2)), [0.1, 10.0], rtol=0.15)


def test_it_works_in_a_model_with_plates(data, rng):
    times, y = data
    Y = np.stack([y, -y])

    def model(Y=None):
        centre = numpyro.sample("centre", dist.Normal(0.0, 1.0))
        with numpyro.plate("unit", 2):
            length = numpyro.sample("length", dist.LogNormal(centre, 0.5))
            gp = hd.MarkovGPDistribution(hd.Matern(1, length), times, 0.3, mean=0.1)
            numpyro.sample("y", gp, obs=Y)

    values = {"centre": 0.1, "length": jnp.array([0.5, 0.9])}
    with jax.enable_x64(True):
        found, trace = log_density(model, (Y,), {}, values)
        wanted = dist.Normal().log_prob(0.1) + dist.LogNormal(0.1, 0.5).log_prob(values["length"]).sum()
    wanted += sum(oracles.gp(hd.Matern(1, l), times, v - 0.1, 0.3)[2] for l, v in zip((0.5, 0.9), Y))
    assert np.isclose(found, wanted, rtol=1e-6)
    assert trace["y"]["fn"].batch_shape == (2,)
    prior = Predictive(model, num_samples=7)(jax.random.key(0))
    assert prior["y"].shape == (7, 2, T)
    assert np.isfinite(prior["y"]).all()


def test_validation_takes_nan_and_refuses_infinities(data):
    times, y = data
    gp = hd.MarkovGPDistribution(hd.Matern(), times, 0.3, validate_args=True)
    assert np.isfinite(gp.log_prob(y))
    y[0] = np.inf
    with pytest.warns(UserWarning, match="Out-of-support"):
        gp.log_prob(y)
    with pytest.raises(ValueError, match="noise_variance"):
        hd.MarkovGPDistribution(hd.Matern(), times, -1.0, validate_args=True)


def test_arguments_are_checked(data):
    times, _ = data
    with pytest.raises(ValueError, match="kernel must be a kernel, got 3"):
        hd.MarkovGPDistribution(3, times, 0.1)
    with pytest.raises(ValueError, match="backend must be one of"):
        hd.MarkovGPDistribution(hd.Matern(), times, 0.1, backend="torch")
    with pytest.raises(ValueError, match=r"noise_variance must broadcast against \(..., 40\).*\(3,\)"):
        hd.MarkovGPDistribution(hd.Matern(), times, np.ones(3))
    with pytest.raises(ValueError, match="mean must broadcast"):
        hd.MarkovGPDistribution(hd.Matern(), times, 1.0, np.ones(3))
    with pytest.raises(ValueError, match=r"times must have shape \(T,\)"):
        hd.MarkovGPDistribution(hd.Matern(), np.ones((3, 2)), 1.0)
    with pytest.raises(ValueError, match="times must be finite"):
        hd.MarkovGPDistribution(hd.Matern(), [0.0, np.nan], 1.0)
    with pytest.raises(ValueError, match="times must be known numbers"):
        jax.jit(lambda t: hd.MarkovGPDistribution(hd.Matern(), t, 1.0).log_prob(t))(times)


def test_kernels_come_apart_and_together():
    whole = hd.Matern(1, jnp.float32(0.5)) * (hd.Cosine(2.0) + hd.Constant(jnp.float32(3.0)))
    template, leaves = take_apart(whole)
    assert [path for path, _ in template.slots] == ["first.lengthscale", "second.second.variance"]
    assert [float(leaf) for leaf in leaves] == [0.5, 3.0]
    assert fill(template, leaves) == whole
    assert hash(template) == hash(take_apart(whole)[0])


def test_equal_axes_compile_once(data):
    times, y = data
    one, two = axis_of(times), axis_of(times.copy())
    assert one == two and hash(one) == hash(two) and one != axis_of(times + 1e-3 * np.arange(T))
    function = Evidence(take_apart(hd.Matern())[0], one)
    assert function == Evidence(take_apart(hd.Matern())[0], two)
    assert on_host(function, jnp.concatenate([jnp.asarray(y), jnp.full(T, 0.3)])).shape == ()


MANY_CALLS = """
import jax, numpy as np, hidamari as hd
def climb(x, rows, calls):
    times, y = np.arange(rows) * 0.1, np.sin(np.arange(rows))
    value = lambda x: hd.MarkovGPDistribution(hd.Matern(1, jax.numpy.exp(x)), times, 0.5).log_prob(y)
    return jax.lax.fori_loop(0, calls, lambda _, x: x + 1e-6 * jax.grad(value)(x), x)
climb = jax.jit(climb, static_argnums=(1, 2))
for double, rows, calls in ((True, 20, 700), (True, 30_000, 3), (False, 30_000, 3)):
    with jax.enable_x64(double):
        x = climb(0.1, rows, calls)
        both = jax.vmap(lambda x: climb(x, rows, calls))(jax.numpy.zeros(2))
        assert np.isfinite(x) and np.isfinite(both).all()
"""


@pytest.mark.parametrize("threads", ["1", None])
def test_thousands_of_calls_do_not_lock(threads):
    """jax 0.10.2 sleeps for ever where a callback waits for the thread it runs on: large copies did."""
    own = {key: value for key, value in os.environ.items() if key != "NPROC"}
    own |= {"NPROC": threads} if threads else {}
    subprocess.run([sys.executable, "-W", "error", "-c", MANY_CALLS], env=own, check=True, timeout=200)
