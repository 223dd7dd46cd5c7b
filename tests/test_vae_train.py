"""Learning of autoencoders: it never ends below its start, stops at what is not finite, and ties hold."""

import numpy as np
import pytest

import hidamari as hd
from hidamari.inference.vae_data import lay_frames, scale_of, set_aside
from hidamari.inference.vae_start import linear_start, tied_frequencies
from hidamari.parameters import flatten, unflatten

jax = pytest.importorskip("jax")
pytest.importorskip("equinox")
pytest.importorskip("optax")
import jax.numpy as jnp  # noqa: E402

from hidamari.inference import _vae_networks, _vae_train  # noqa: E402
from hidamari.inference._vae_model import Form, Parameters  # noqa: E402

D, KERNELS = 4, (hd.Matern(1, 6.0), hd.HidaMatern(1, 20.0, frequency=0.1))
SETTINGS = _vae_train.Settings(max_epochs=12, batch_size=4, learning_rate=1e-2, patience=50)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def problem():
    """Sequences on a curve in four dimensions, whole frames missing, and a linear start."""
    rng, t, y = np.random.default_rng(0), np.arange(16.0), []
    for _ in range(10):
        x = np.sin(t / 3 + rng.uniform(0, 6))
        own = np.stack([x, x**2, np.sin(3 * x), np.exp(x)], 1) + 0.05 * rng.standard_normal((16, D))
        own[rng.random(16) < 0.3] = np.nan
        y.append(own)
    frames = lay_frames(y, [t] * 10, scale_of(y, "gaussian"), "gaussian")
    aside = set_aside(frames, 0.2, rng)
    start = linear_start(aside.learn, KERNELS, held=("frequency",), max_iter=30)
    vector, names = flatten(list(start.kernels), ["lengthscale", "frequency"])
    with jax.enable_x64(True):
        one, two = jax.random.split(jax.random.key(0))
        networks = (
            _vae_networks.decoder((8,), 2, (D,), one),
            _vae_networks.encoder((8,), (D,), 3, two),
        )
        p = Parameters(*map(jnp.asarray, (vector, start.loadings, start.bias, start.noise)), *networks)
    return p, Form(tuple(start.kernels), tuple(names), "gaussian", tied=tied_frequencies(names)), aside


def test_learning_raises_the_density_of_what_was_set_aside(problem):
    calls = []
    found = _vae_train.train(*problem, SETTINGS, 0, lambda epoch, value: calls.append(value))
    assert found.validation[found.best] > found.validation[0] + 0.05
    assert found.validation[found.best] == found.validation.max()
    np.testing.assert_array_equal(calls, found.validation[1:])
    p, form, _ = problem
    before, after = (
        unflatten(list(form.kernels), np.asarray(own.kernel), list(form.names))
        for own in (p, found.parameters)
    )
    assert before[0].lengthscale != after[0].lengthscale


def test_what_is_worse_than_the_start_is_not_kept(problem):
    found = _vae_train.train(*problem, SETTINGS._replace(max_epochs=3, learning_rate=3.0), 0)
    assert found.best == 0 or found.validation[found.best] > found.validation[0]
    if found.best == 0:
        for a, b in zip(jax.tree.leaves(found.parameters), jax.tree.leaves(problem[0])):
            np.testing.assert_array_equal(a, b)


def test_learning_stops_at_what_is_not_finite(problem):
    p, form, aside = problem
    ill = aside._replace(learn=aside.learn._replace(y=aside.learn.y * np.nan))
    found = _vae_train.train(p, form, ill, SETTINGS, 0)
    assert found.best == 0 and not found.converged and "not finite in epoch 1" in found.message


def test_tied_hyperparameters_move_as_one():
    slope = _vae_train._together(jnp.array([1.0, 2.0, 3.0, 4.0]), (0, 1, 1, 3))
    np.testing.assert_array_equal(slope, [1.0, 5.0, 5.0, 4.0])
