"""The bound of autoencoders of sequences against dense Gaussians, and its slopes against differences."""

import numpy as np
import pytest
from oracles import prior_readouts
from scipy.stats import multivariate_normal

import hidamari as hd
from hidamari.parameters import flatten
from hidamari.statespace.kernels import bank, steps

jax = pytest.importorskip("jax")
eqx = pytest.importorskip("equinox")
import jax.numpy as jnp  # noqa: E402
from jax.flatten_util import ravel_pytree  # noqa: E402

from hidamari.inference import _vae_elbo, _vae_networks, _vae_slopes  # noqa: E402
from hidamari.inference._vae_model import Batch, Form, Parameters  # noqa: E402

L, D, LENGTHS = 2, 5, (7, 4)  # one shape for all, so that few programs are compiled
KERNELS = (hd.Matern(1, 0.8), hd.HidaMatern(0, 2.0, frequency=0.3))
VECTOR, NAMES = flatten(list(KERNELS), ["lengthscale", "1.frequency"])
FORM = Form(KERNELS, (), "gaussian")
elbo = eqx.filter_jit(_vae_elbo.elbo)
reconstruction = eqx.filter_jit(_vae_elbo.reconstruction)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def laid(sequences, seen, times):
    """A batch of sequences, padded to the longest."""
    gaps, step = steps(times)
    T = max(map(len, sequences))
    y, mask = np.zeros((len(times), T, D)), np.zeros((len(times), T, D), bool)
    at = np.full((len(times), T), -1)
    parts = np.split(step, np.cumsum([len(t) for t in times])[:-1])
    for n, (own, known, part) in enumerate(zip(sequences, seen, parts)):
        y[n, : len(own)], mask[n, : len(own)], at[n, : len(own)] = np.where(known, own, 0), known, part
    return Batch(*map(jnp.asarray, (y, y.astype(np.float32), mask, at, gaps)))


def example(seed, share=0.6, orthogonal=False):
    """Data of a linear model: irregular and repeated times, empty frames at both ends, missing features."""
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.uniform(0, 4, n)) for n in LENGTHS]
    times[0][2] = times[0][1]
    C, b, noise = rng.standard_normal((D, L)), rng.standard_normal(D), np.log(rng.uniform(0.1, 0.5, D))
    if orthogonal:
        C, noise = np.linalg.qr(C)[0] * [2.0, 0.7], np.full(D, np.log(0.3))
    y = [b + rng.standard_normal((n, L)) @ C.T for n in LENGTHS]
    whole = (lambda n: (n, 1)) if orthogonal else (lambda n: (n, D))
    seen = [np.broadcast_to(rng.random(whole(n)) < share, (n, D)).copy() for n in LENGTHS]
    seen[0][[0, -1]] = False
    p = Parameters(jnp.zeros(0), jnp.asarray(C), jnp.asarray(b), jnp.asarray(noise), None, None)
    return y, seen, times, p


def evidence(y, seen, times, p):
    """Log density of all that was seen under the linear model, dense."""
    C, b, noise = map(np.asarray, p[1:4])
    total = 0.0
    for own, known, t in zip(y, seen, times):
        _, K = prior_readouts(bank(list(KERNELS), *steps([t])))
        cov = np.einsum("da,tasb,eb->tdse", C, K, C).reshape(len(t) * D, -1)
        cov += np.diag(np.tile(np.exp(noise), len(t)))
        at = known.ravel()
        total += multivariate_normal(np.tile(b, len(t))[at], cov[np.ix_(at, at)]).logpdf(own.ravel()[at])
    return total


def bound(p, form, batch, n=1, beta=1.0):
    """The bound of all sequences together, and q."""
    q, plain = _vae_slopes.q_of(p, form, batch), form._replace(kernels=(), names=())
    return float(elbo(p, plain, batch, q, jax.random.key(0), n, jnp.asarray(beta))), q


@pytest.mark.parametrize("seed", range(3))
def test_bound_of_a_linear_model_is_its_evidence(seed):
    y, seen, times, p = example(seed)
    value, q = bound(p, FORM, laid(y, seen, times))
    np.testing.assert_allclose(value, evidence(y, seen, times, p), rtol=1e-10)
    assert _vae_elbo.divergence(q) > 0


def test_diagonal_sites_suffice_for_orthogonal_loadings_and_whole_frames():
    y, seen, times, p = example(3, orthogonal=True)
    value, _ = bound(p, FORM._replace(sites="diagonal"), laid(y, seen, times))
    np.testing.assert_allclose(value, evidence(y, seen, times, p), rtol=1e-10)


@pytest.mark.parametrize("sites", ["diagonal", 1])
def test_lesser_sites_stay_below_the_evidence(sites):
    y, seen, times, p = example(4)
    less, _ = bound(p, FORM._replace(sites=sites), laid(y, seen, times))
    assert less < evidence(y, seen, times, p) - 1e-3


def networks(p, sites="full"):
    """The model with networks, in double precision so that differences tell; then shaken from zero."""
    one, two = jax.random.split(jax.random.key(0))
    n_out = 2 * L if sites == "diagonal" else L + 1
    made = _vae_networks.decoder((3,), L, (D,), one), _vae_networks.encoder((3,), (D,), n_out, two)
    made = [jax.tree.map(lambda a: jnp.asarray(np.asarray(a, float)), own) for own in made]
    begun = p._replace(kernel=jnp.asarray(VECTOR), decoder=made[0], encoder=made[1])
    flat, back = ravel_pytree((begun.decoder, begun.encoder))
    decoder, encoder = back(flat + 0.3 * np.random.default_rng(0).standard_normal(len(flat)))
    return begun, begun._replace(decoder=decoder, encoder=encoder)


@pytest.mark.parametrize(
    ("likelihood", "sites"), [("gaussian", "full"), ("bernoulli", "diagonal"), ("poisson", 1)]
)
def test_slopes_agree_with_differences(likelihood, sites):
    y, seen, times, p = example(8)
    y = y if likelihood == "gaussian" else [np.round(own).clip(0, 1) for own in y]
    form, p = FORM._replace(sites=sites, names=tuple(NAMES), likelihood=likelihood), networks(p, sites)[1]
    batch, key = laid(y, seen, times), jax.random.key(1)
    slope = _vae_slopes.slopes(p, form, batch, key, 2, 0.7)[1]
    flat, back = ravel_pytree(p)
    steep = ravel_pytree(slope)[0]

    def at(x):
        return _vae_slopes.slopes(back(x), form, batch, key, 2, 0.7)[0]  # which is the bound: below

    h, groups = 1e-4, np.repeat(np.arange(6), [len(ravel_pytree(part)[0]) for part in p])
    for group in range(6):  # kernels, loadings, bias, noise, decoder, encoder
        along = np.where(groups == group, np.random.default_rng(group).standard_normal(len(flat)), 0.0)
        change = (at(flat + h * along) - at(flat - h * along)) / (2 * h)
        # What goes through a network is rounded to single precision at its door.
        np.testing.assert_allclose(steep @ along, change, rtol=2e-3, atol=2e-3)


def test_frames_that_saw_nothing_can_be_left_out():
    y, seen, times, p = example(5)
    p, batch = networks(p)[1], laid(y, seen, times)
    some = np.flatnonzero(np.asarray(batch.seen.any(2)))
    rows = np.append(some, [batch.step.size] * 2)
    plain, few = (_vae_slopes.q_of(p, FORM, own) for own in (batch, batch._replace(rows=jnp.asarray(rows))))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(few)):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_a_sequence_is_worth_the_same_alone_and_in_a_batch():
    y, seen, times, p = example(5)
    p = networks(p)[1]
    batch = laid(y, seen, times)
    both, q = bound(p, FORM, batch, 2)
    form = FORM._replace(names=tuple(NAMES))
    mean = _vae_slopes.slopes(p, form, batch, jax.random.key(0), 2, 1.0)[0]
    np.testing.assert_allclose(mean, both / 2, rtol=1e-12)
    alone = [bound(p, FORM, laid(y, [s & (m == n) for m, s in enumerate(seen)], times), 2) for n in range(2)]
    np.testing.assert_allclose(both, sum(value for value, _ in alone), rtol=1e-9)
    for n, (_, own) in enumerate(alone):
        np.testing.assert_allclose(q.mean[n, : LENGTHS[n]], own.mean[n, : LENGTHS[n]], atol=1e-10)


# The programs of the slopes above.
@pytest.mark.parametrize(("likelihood", "sites"), [("gaussian", "full"), ("bernoulli", "diagonal")])
def test_empty_sequences_have_the_prior_as_posterior_and_finite_slopes(likelihood, sites):
    y, seen, times, p = example(6)
    p, form = networks(p, sites)[1], FORM._replace(sites=sites, likelihood=likelihood)
    batch = laid(y, [s & False for s in seen], times)
    q = _vae_slopes.q_of(p, form, batch)
    np.testing.assert_allclose(q.mean, 0, atol=1e-14)
    prior = np.ones(L) if sites == "diagonal" else np.eye(L)
    np.testing.assert_allclose(q.cov, np.broadcast_to(prior, q.cov.shape), atol=1e-12)
    np.testing.assert_allclose(_vae_elbo.divergence(q), 0, atol=1e-12)
    _, slope = _vae_slopes.slopes(p, form, batch, jax.random.key(0), 2, 1.0)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(slope))


def test_networks_begin_as_if_they_were_not_there():
    y, seen, times, p = example(7)
    batch = laid(y, seen, times)
    plain, begun = (_vae_slopes.q_of(own, FORM, batch) for own in (p, networks(p)[0]))
    np.testing.assert_allclose(begun.mean, plain.mean, atol=1e-13)
    gain = [
        float(reconstruction(own, FORM, batch, plain, jax.random.key(0), 4000)) for own in (p, networks(p)[0])
    ]
    assert abs(gain[0] - gain[1]) < 0.02 * abs(gain[0])
