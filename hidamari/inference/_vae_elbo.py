r"""The evidence lower bound of a Markovian GP variational autoencoder, in jax, given q.

    ELBO = sum_t E_q[log p(y_t | z_t)] - beta KL(q || p),
    q(z) = p(z) prod_t exp(j_t' z_t - z_t' J_t z_t / 2) / Z,
    KL(q || p) = sum_t E_q[j_t' z_t - z_t' J_t z_t / 2] - log Z.

The core gives the marginals of q and log Z exactly, in time linear in the length of a sequence.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hidamari.inference._vae_model import Batch, Form, Parameters, log_prob, read
from hidamari.statespace._jax_algebra import factor, product
from hidamari.statespace.types import Sites

__all__ = ["Posterior", "divergence", "draws", "elbo", "reconstruction"]


class Posterior(NamedTuple):
    """q of the sequences of a batch."""

    sites: Sites
    mean: jax.Array  # (B, T, L)
    cov: jax.Array  # (B, T, L, L), or (B, T, L) for diagonal sites
    log_norm: jax.Array  # log Z of all sequences together, ()


def divergence(q: Posterior) -> jax.Array:
    """KL(q || p) of all sequences together."""
    j, J = q.sites
    square = q.mean**2 if J.ndim == 3 else q.mean[..., :, None] * q.mean[..., None, :]
    return (j * q.mean).sum() - 0.5 * (J * (q.cov + square)).sum() - q.log_norm


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
    """Sum over all seen entries of E_q[log p(y | z)]; exact for Gaussian noise and a linear decoder."""
    if parameters.decoder is None and form.likelihood == "gaussian":
        C = parameters.loadings
        eta = q.mean @ C.T + parameters.bias
        spread = (q.cov @ (C * C).T) if q.cov.ndim == 3 else jnp.einsum("dl,btlm,dm->btd", C, q.cov, C)
        value = log_prob(parameters, form, batch.y, eta) - 0.5 * spread * jnp.exp(-parameters.noise)
        return jnp.where(batch.seen, value, 0.0).sum()
    z = draws(q, key, n)
    eta = jax.vmap(lambda one: read(parameters, one))(z.reshape(-1, z.shape[-1]))
    value = log_prob(parameters, form, batch.y, eta.reshape(n, *batch.y.shape))
    return jnp.where(batch.seen, value, 0.0).sum() / n


def elbo(
    parameters: Parameters,
    form: Form,
    batch: Batch,
    q: Posterior,
    key: jax.Array,
    n: int,
    beta: float | jax.Array = 1.0,
) -> jax.Array:
    """The bound of all sequences together, with n draws."""
    return reconstruction(parameters, form, batch, q, key, n) - beta * divergence(q)
