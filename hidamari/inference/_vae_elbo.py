r"""The evidence lower bound of a Markovian GP variational autoencoder, in jax, one number a sequence.

    ELBO = sum_t E_q[log p(y_t | z_t)] - beta KL(q || p),
    q(z) = p(z) prod_t exp(j_t' z_t - z_t' J_t z_t / 2) / Z,
    KL(q || p) = sum_t E_q[j_t' z_t - z_t' J_t z_t / 2] - log Z.

The core gives the marginals of q and log Z exactly, in time linear in the length of the sequence.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hidamari.inference._vae_model import Batch, Form, Parameters, chains, encode, linearise, log_prob, read
from hidamari.statespace import _jax_forms
from hidamari.statespace._jax_algebra import factor, product
from hidamari.statespace.types import Sites, StateSpace

__all__ = ["Bound", "Posterior", "condition", "draws", "elbo", "posterior", "reconstruction"]


class Posterior(NamedTuple):
    """q of every sequence of a batch."""

    sites: Sites
    mean: jax.Array  # (B, T, L)
    cov: jax.Array  # (B, T, L, L), or (B, T, L) for diagonal sites
    log_norm: jax.Array  # log Z, (B,)


class Bound(NamedTuple):
    """The ELBO and its parts, each (B,)."""

    value: jax.Array
    reconstruction: jax.Array
    divergence: jax.Array


def condition(ss: StateSpace, sites: Sites) -> Posterior:
    """q by the sites of every sequence; `ss.step` is (B, T)."""

    def one(step: jax.Array, own: Sites) -> tuple:
        mean, cov, log_norm = _jax_forms.solve(ss._replace(step=step), own, "scan", True)
        return mean, cov, log_norm.sum()

    return Posterior(sites, *jax.vmap(one)(ss.step, sites))


def posterior(parameters: Parameters, form: Form, batch: Batch, refinements: int = 0) -> Posterior:
    """q of every sequence.

    A refinement linearises all frames again at the mean of q: an iteration of Gauss and Newton towards the
    sites that suit the whole sequence, for those that the encoder was not trained on.
    """
    ss = chains(parameters, form, batch.gaps, batch.step)
    q = condition(ss, encode(parameters, form, batch))
    for _ in range(refinements):
        q = condition(ss, _again(parameters, form, batch, q.mean))
    return q


def _again(parameters: Parameters, form: Form, batch: Batch, mean: jax.Array) -> Sites:
    """Sites linearised at given latents (B, T, L), fully trusted."""
    B, T, D = batch.y.shape
    x = mean.reshape(B * T, -1)
    flat = batch.y.reshape(-1, D), batch.seen.reshape(-1, D)
    sites = linearise(parameters, form, *flat, x, jnp.ones((len(x), 1), x.dtype))
    return Sites(*(part.reshape(B, T, *part.shape[1:]) for part in sites))


def divergence(q: Posterior) -> jax.Array:
    """KL(q || p) of every sequence."""
    j, J = q.sites
    if J.ndim == 3:
        quadratic = (J * (q.cov + q.mean**2)).sum((1, 2))
    else:
        quadratic = (J * (q.cov + q.mean[..., :, None] * q.mean[..., None, :])).sum((1, 2, 3))
    return (j * q.mean).sum((1, 2)) - 0.5 * quadratic - q.log_norm


def draws(q: Posterior, key: jax.Array, n: int) -> jax.Array:
    """Latents from the marginals of q, (n, B, T, L), in pairs on both sides of the mean."""
    half = (n + 1) // 2
    e = jax.random.normal(key, (half, *q.mean.shape), q.mean.dtype)
    if q.cov.ndim == 3:
        move = jnp.sqrt(q.cov) * e
    else:
        move = product(factor(q.cov), e[..., None])[..., 0]
    return q.mean + jnp.concatenate([move, -move])[:n]


def reconstruction(
    parameters: Parameters, form: Form, batch: Batch, q: Posterior, key: jax.Array, n: int
) -> jax.Array:
    """Sum over seen entries of E_q[log p(y | z)], (B,); exact for Gaussian noise and a linear decoder."""
    if parameters.decoder is None and form.likelihood == "gaussian":
        C = parameters.loadings
        eta = q.mean @ C.T + parameters.bias
        spread = (q.cov @ (C * C).T) if q.cov.ndim == 3 else jnp.einsum("dl,btlm,dm->btd", C, q.cov, C)
        value = log_prob(parameters, form, batch.y, eta) - 0.5 * spread * jnp.exp(-parameters.noise)
        return jnp.where(batch.seen, value, 0.0).sum((1, 2))
    z = draws(q, key, n)
    eta = jax.vmap(lambda one: read(parameters, one))(z.reshape(-1, z.shape[-1]))
    value = log_prob(parameters, form, batch.y, eta.reshape(n, *batch.y.shape))
    return jnp.where(batch.seen, value, 0.0).sum((2, 3)).mean(0)


def elbo(
    parameters: Parameters,
    form: Form,
    batch: Batch,
    key: jax.Array,
    n: int = 1,
    beta: float | jax.Array = 1.0,
    refinements: int = 0,
) -> Bound:
    """The bound of every sequence, with n draws."""
    q = posterior(parameters, form, batch, refinements)
    gain, cost = reconstruction(parameters, form, batch, q, key, n), divergence(q)
    return Bound(gain - beta * cost, gain, cost)
