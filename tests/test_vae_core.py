"""The bound of Markovian GP variational autoencoders against dense Gaussians; what it must not depend on."""

import numpy as np
import pytest
from oracles import prior_readouts
from scipy.stats import multivariate_normal

import hidamari as hd
from hidamari.parameters import flatten
from hidamari.statespace.kernels import bank, steps

jax = pytest.importorskip("jax")
pytest.importorskip("equinox")
import jax.numpy as jnp  # noqa: E402
from jax.flatten_util import ravel_pytree  # noqa: E402

from hidamari.inference import _vae_elbo, _vae_networks  # noqa: E402
from hidamari.inference._vae_model import Batch, Form, Parameters  # noqa: E402

L, D = 2, 5
elbo = jax.jit(_vae_elbo.elbo, static_argnames=("form", "n", "refinements"))
posterior = jax.jit(_vae_elbo.posterior, static_argnames=("form", "refinements"))
KERNELS = (hd.Matern(1, 0.8), hd.HidaMatern(0, 2.0, frequency=0.3))


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def laid(sequences, seen, times):
    """A batch of sequences with NaN outside `seen`, padded to the longest."""
    gaps, step = steps(times)
    T = max(map(len, sequences))
    y, mask, at = (
        np.zeros((len(times), T, D)),
        np.zeros((len(times), T, D), bool),
        np.full((len(times), T), -1),
    )
    for n, (own, known, part) in enumerate(
        zip(sequences, seen, np.split(step, np.cumsum([len(t) for t in times])[:-1]))
    ):
        y[n, : len(own)], mask[n, : len(own)], at[n, : len(own)] = np.where(known, own, 0), known, part
    return Batch(*map(jnp.asarray, (y, y.astype(np.float32), mask, at, gaps)))


def example(rng, lengths=(7, 4), share=0.6, orthogonal=False):
    """Data of a linear model: irregular and repeated times, empty frames at both ends, missing features."""
    times = [np.sort(rng.uniform(0, 4, n)) for n in lengths]
    times[0][2] = times[0][1]
    C = rng.standard_normal((D, L))
    if orthogonal:
        C = np.linalg.qr(C)[0] * [2.0, 0.7]
    b, noise = rng.standard_normal(D), np.log(rng.uniform(0.1, 0.5, D))
    if orthogonal:
        noise[:] = np.log(0.3)
    y = [b + rng.standard_normal((n, L)) @ C.T for n in lengths]
    seen = [
        rng.random((n, 1)).repeat(D, 1) < share if orthogonal else rng.random((n, D)) < share for n in lengths
    ]
    seen[0][[0, -1]] = False
    p = Parameters(jnp.zeros(0), jnp.asarray(C), jnp.asarray(b), jnp.asarray(noise), None, None)
    return y, seen, times, p


def evidence(y, seen, times, C, b, noise):
    """Log density of what was seen of one sequence under the linear model, dense."""
    ss = bank(list(KERNELS), *steps(times))
    _, K = prior_readouts(ss)
    cov = np.einsum("da,tasb,eb->tdse", C, K, C).reshape(len(times) * D, -1)
    cov += np.diag(np.tile(np.exp(noise), len(times)))
    at = seen.ravel()
    mean = np.tile(b, len(times))
    return multivariate_normal(mean[at], cov[np.ix_(at, at)]).logpdf(y.ravel()[at])


FORM = Form(KERNELS, (), "gaussian")


@pytest.mark.parametrize("seed", range(3))
def test_bound_of_a_linear_model_is_its_evidence(seed):
    y, seen, times, p = example(np.random.default_rng(seed))
    bound = elbo(p, FORM, laid(y, seen, times), jax.random.key(0))
    exact = [evidence(*own, *map(np.asarray, p[1:4])) for own in zip(y, seen, times)]
    np.testing.assert_allclose(bound.value, exact, rtol=1e-10)
    assert (np.asarray(bound.divergence) > 0).all()


def test_diagonal_sites_suffice_for_orthogonal_loadings_and_whole_frames():
    y, seen, times, p = example(np.random.default_rng(3), orthogonal=True)
    bound = elbo(p, FORM._replace(sites="diagonal"), laid(y, seen, times), jax.random.key(0))
    exact = [evidence(*own, *map(np.asarray, p[1:4])) for own in zip(y, seen, times)]
    np.testing.assert_allclose(bound.value, exact, rtol=1e-10)


@pytest.mark.parametrize("sites", ["diagonal", 1])
def test_lesser_sites_stay_below_the_evidence(sites):
    y, seen, times, p = example(np.random.default_rng(4))
    batch = laid(y, seen, times)
    less = elbo(p, FORM._replace(sites=sites), batch, jax.random.key(0)).value
    full = elbo(p, FORM, batch, jax.random.key(0)).value
    assert (np.asarray(less) < np.asarray(full) - 1e-3).all()


def networks(p, key=0, sites="full"):
    """The same model with networks that are not at zero."""
    one, two = jax.random.split(jax.random.key(key))
    n_out = 2 * L if sites == "diagonal" else L + 1
    made = _vae_networks.decoder((6,), L, (D,), one), _vae_networks.encoder((6,), (D,), n_out, two)

    def shaken(tree, key):
        leaves, form = jax.tree.flatten(tree)
        keys = jax.random.split(key, len(leaves))
        return form.unflatten(
            [a + 0.3 * jax.random.normal(k, a.shape, a.dtype) for a, k in zip(leaves, keys)]
        )

    return p._replace(decoder=shaken(made[0], one), encoder=shaken(made[1], two)), p._replace(
        decoder=made[0], encoder=made[1]
    )


@pytest.mark.parametrize(
    ("likelihood", "sites"), [("gaussian", "full"), ("bernoulli", "diagonal"), ("poisson", 1)]
)
def test_a_sequence_is_worth_the_same_alone_and_in_a_batch(likelihood, sites):
    y, seen, times, p = example(np.random.default_rng(5))
    y = [np.abs(np.round(own)).clip(0, 1) for own in y] if likelihood != "gaussian" else y
    p, _ = networks(p, 1, sites)
    form = FORM._replace(sites=sites, likelihood=likelihood)
    q = posterior(p, form, laid(y, seen, times))
    for n in range(2):
        # Beside a sequence of which nothing was seen; networks are in single precision.
        alone = posterior(p, form, laid(y, [s & (m == n) for m, s in enumerate(seen)], times))
        T = len(y[n])
        np.testing.assert_allclose(q.mean[n, :T], alone.mean[n, :T], rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(
            _vae_elbo.divergence(q)[n], _vae_elbo.divergence(alone)[n], rtol=2e-5, atol=1e-6
        )


def test_empty_sequences_have_the_prior_as_posterior():
    y, seen, times, p = example(np.random.default_rng(6))
    p, _ = networks(p)
    q = posterior(p, FORM, laid(y, [s & False for s in seen], times))
    np.testing.assert_allclose(q.mean, 0, atol=1e-14)
    np.testing.assert_allclose(q.cov, np.broadcast_to(np.eye(L), q.cov.shape), atol=1e-12)
    np.testing.assert_allclose(_vae_elbo.divergence(q), 0, atol=1e-12)


def test_networks_begin_as_if_they_were_not_there():
    y, seen, times, p = example(np.random.default_rng(7))
    batch, (_, begun) = laid(y, seen, times), networks(p)
    plain, made = (posterior(own, FORM, batch) for own in (p, begun))
    np.testing.assert_allclose(made.mean, plain.mean, atol=1e-13)
    gain = [
        float(_vae_elbo.reconstruction(own, FORM, batch, plain, jax.random.key(0), 4000).sum())
        for own in (p, begun)
    ]
    assert abs(gain[0] - gain[1]) < 0.02 * abs(gain[0])


@pytest.mark.parametrize("sites", ["full", "diagonal", 1])
def test_slopes_agree_with_differences(sites):
    rng = np.random.default_rng(8)
    y, seen, times, p = example(rng)
    p, _ = networks(p, 2, sites)
    vector, names = flatten(list(KERNELS), ["lengthscale", "frequency"])
    p, form = p._replace(kernel=jnp.asarray(vector)), FORM._replace(sites=sites, names=tuple(names))
    batch = laid(y, seen, times)
    flat, back = ravel_pytree((p.kernel, p.loadings, p.noise))

    def value(x):
        kernel, loadings, noise = back(x)
        # A decoder in double precision: differences of single precision tell nothing.
        own = p._replace(kernel=kernel, loadings=loadings, noise=noise, decoder=None)
        return elbo(own, form, batch, jax.random.key(1), 2).value.sum()

    slope = jax.jit(jax.grad(value))(flat)
    along = rng.standard_normal(len(flat))
    h = 1e-5
    value = jax.jit(value)
    change = (value(flat + h * along) - value(flat - h * along)) / (2 * h)
    np.testing.assert_allclose(slope @ along, change, rtol=1e-6)


def test_slopes_are_finite_where_nothing_was_seen():
    y, seen, times, p = example(np.random.default_rng(9))
    p, begun = networks(p)
    batch = laid(y, [s & False for s in seen], times)
    for sites in ("full", "diagonal"):
        own, form = networks(p, 0, sites)[1], FORM._replace(sites=sites)
        slope = jax.grad(lambda q, form=form: elbo(q, form, batch, jax.random.key(0), 2).value.sum())(own)
        assert all(np.isfinite(a).all() for a in jax.tree.leaves(slope))


def test_refinement_raises_the_bound_of_counts():
    """Of a Poisson model without an encoder, whose sites at the bias are far from those that suit it."""
    rng = np.random.default_rng(10)
    y, seen, times, p = example(rng, lengths=(30, 20))
    p = p._replace(bias=jnp.ones(D))
    y = [rng.poisson(np.exp(np.clip(own, -3, 2))) * 1.0 for own in y]
    batch, form = laid(y, seen, times), FORM._replace(likelihood="poisson")
    found = [elbo(p, form, batch, jax.random.key(0), 200, refinements=n).value.sum() for n in (0, 1, 4)]
    assert found[2] > found[0]
