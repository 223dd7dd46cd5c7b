"""Learning of autoencoders that was cut off goes on to the same end, and only with its own file."""

import numpy as np
import pytest

import hidamari as hd
from hidamari.inference.vae_data import lay_frames, scale_of, set_aside

jax = pytest.importorskip("jax")
pytest.importorskip("equinox")
pytest.importorskip("optax")
import jax.numpy as jnp  # noqa: E402

from hidamari.inference import _vae_networks, _vae_train  # noqa: E402
from hidamari.inference._vae_checkpoint import check_checkpoint  # noqa: E402
from hidamari.inference._vae_model import Form, Parameters  # noqa: E402
from hidamari.parameters import flatten  # noqa: E402

D, KERNELS = 3, (hd.Matern(1, 4.0), hd.Matern(0, 9.0))
SETTINGS = _vae_train.Settings(max_epochs=6, batch_size=3, learning_rate=1e-2, patience=3)


class Cut(Exception):
    """Learning is cut off."""


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def problem():
    """A start, a form, and frames with gaps."""
    rng, t = np.random.default_rng(0), np.arange(10.0)
    y = [np.sin(t[:, None] / 3 + rng.uniform(0, 6) + np.arange(D)) for _ in range(6)]
    y = [own + 0.1 * rng.standard_normal(own.shape) for own in y]
    y[0][3:5] = np.nan
    aside = set_aside(lay_frames(y, [t] * 6, scale_of(y, "gaussian"), "gaussian"), 0.2, rng)
    vector, names = flatten(list(KERNELS), ["lengthscale"])
    with jax.enable_x64(True):
        one, two = jax.random.split(jax.random.key(0))
        made = _vae_networks.decoder((4,), 2, (D,), one), _vae_networks.encoder((4,), (D,), 3, two)
        linear = vector, rng.standard_normal((D, 2)), np.zeros(D), np.full(D, -1.0)
        p = Parameters(*map(jnp.asarray, linear), *made)
    return p, Form(KERNELS, tuple(names), "gaussian"), aside


@pytest.fixture(scope="module")
def whole(problem):
    """Learning without a break."""
    with jax.enable_x64(True):
        return _vae_train.train(*problem, SETTINGS, 0)


def cut_at(last):
    """A report that cuts learning off."""

    def report(epoch, value):
        if epoch == last:
            raise Cut

    return report


def same(one, two):
    """Whether two ends of learning are equal bit for bit."""
    for name in ("elbo", "validation"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for a, b in zip(jax.tree.leaves(one.parameters), jax.tree.leaves(two.parameters), strict=True):
        np.testing.assert_array_equal(a, b)
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None)
    return one[3:] == two[3:]


def test_learning_goes_on_to_the_same_end(problem, whole, tmp_path):
    path, calls = tmp_path / "own.npz", []
    for last in (1, 3):
        with pytest.raises(Cut):
            _vae_train.train(*problem, SETTINGS, 0, cut_at(last), path)
    found = _vae_train.train(*problem, SETTINGS, 0, lambda epoch, value: calls.append(epoch), path)
    assert same(found, whole) and calls == list(range(3, len(whole.elbo)))
    again = _vae_train.train(*problem, SETTINGS, 0, cut_at(0), path)  # all is done
    assert same(again, whole)
    assert [own.name for own in tmp_path.iterdir()] == ["own.npz"]


def test_learning_that_has_settled_stays_settled(problem, tmp_path):
    settings = SETTINGS._replace(learning_rate=3.0, max_epochs=4, patience=1)
    first = _vae_train.train(*problem, settings, 0, None, tmp_path / "own.npz")
    assert first.converged or "not finite" in first.message
    assert same(_vae_train.train(*problem, settings, 0, None, tmp_path / "own.npz"), first)


def test_files_of_other_fits_are_refused(problem, tmp_path):
    path = tmp_path / "own.npz"
    with pytest.raises(Cut):
        _vae_train.train(*problem, SETTINGS, 0, cut_at(1), path)
    p, form, aside = problem
    moved = aside._replace(learn=aside.learn._replace(y=aside.learn.y + 0.01 * aside.learn.seen))
    fewer = form._replace(kernels=(KERNELS[0], hd.Matern(1, 9.0)))
    others = (
        (p, form, aside, SETTINGS._replace(beta=0.5), 0),
        (p, form, aside, SETTINGS, 1),
        (p, form, moved, SETTINGS, 0),
        (p, form._replace(sites="diagonal"), aside, SETTINGS, 0),
        (p, fewer, aside, SETTINGS, 0),
    )
    for other in others:
        with pytest.raises(ValueError, match="checkpoint is .* other settings or other data"):
            _vae_train.train(*other, None, path)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04cut"])
def test_files_of_other_kinds_are_refused(problem, tmp_path, content):
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="checkpoint is .* no checkpoint"):
        _vae_train.train(*problem, SETTINGS, 0, None, path)
    assert path.read_bytes() == content


def test_checkpoints_are_files_in_folders(tmp_path):
    check_checkpoint(None)
    check_checkpoint(tmp_path / "new.npz")
    for wrong in (3, tmp_path, tmp_path / "none" / "new.npz"):
        with pytest.raises(ValueError, match="checkpoint must be"):
            check_checkpoint(wrong)
