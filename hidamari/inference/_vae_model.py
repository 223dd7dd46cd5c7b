r"""A Markovian GP variational autoencoder in jax: how latents are read, and what frames say of them.

    eta_t = C z_t + b + g(z_t),    y_td ~ p(y | eta_td),    z_l ~ GP(0, k_l)

with a network g that starts at zero, so that learning starts at linear factor analysis. A frame's site is the
Gaussian that its likelihood is near a point x_t that the encoder chooses. With the slope G = d eta / dz, the
score s and curvature w of log p(y | eta) there, over the entries that were seen,

    J_t = a G' diag(w) G,      j_t = a (G' s + G' diag(w) G x_t),

a > 0 being how far the encoder trusts the line. With a linear decoder, Gaussian noise and a = 1 this is the
likelihood itself wherever x_t is, so that missing entries are treated exactly and the ELBO is the evidence.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hidamari.statespace._jax_algebra import inverse, product, transpose
from hidamari.statespace.kernels import Kernel
from hidamari.statespace.types import Sites

__all__ = [
    "Batch",
    "Form",
    "Parameters",
    "curvature",
    "encode",
    "expected",
    "linearise",
    "log_prob",
    "point",
    "read",
]

_FAR = 4.0  # from the link of what was seen: at most e^4 times the count, at least e^-4
_ROUNDS = 3  # Newton steps of an entry by itself


class Form(NamedTuple):
    """What of a model is not learnt; programs are compiled for each."""

    kernels: tuple[Kernel, ...]  # one for each latent; where learning starts
    names: tuple[str, ...]  # the hyperparameters that are learnt, as `flatten` names them
    likelihood: str  # "gaussian", "bernoulli" or "poisson"
    exposure: float = 1.0  # of a frame of counts
    sites: Any = "full"  # "full", "diagonal", or a rank
    tied: tuple[int, ...] = ()  # a label for each of names; those of one label move as one


class Parameters(NamedTuple):
    """What is learnt."""

    kernel: jax.Array  # (n,) by `Form.names`, unconstrained
    loadings: jax.Array  # C, (D, L)
    bias: jax.Array  # b, (D,)
    noise: jax.Array  # log variance of Gaussian noise, (D,), or (1,) where all entries share it
    decoder: Any  # g, a module from (L,) to (D,), or None
    encoder: Any  # a module from (2 D,) to (L + 1,), or (2 L,) for diagonal sites, or None


class Batch(NamedTuple):
    """Sequences of frames, padded to one length by frames that saw nothing and start a trial each."""

    y: jax.Array  # (B, T, D), zeros where not seen
    inputs: jax.Array  # (B, T, D) float32, y as the encoder reads it, zeros where not seen
    seen: jax.Array  # (B, T, D) bool
    step: jax.Array  # (B, T) int, negative where a trial starts
    gaps: jax.Array  # (S,)
    rows: Any = None  # places in (B T) of all frames that saw something, B T as a filler; None: every one


def read(parameters: Parameters, z: jax.Array) -> jax.Array:
    """eta (D,) of one z (L,)."""
    eta = parameters.loadings @ z + parameters.bias
    if parameters.decoder is None:
        return eta
    return eta + parameters.decoder(z.astype(jnp.float32)).astype(eta.dtype)


def log_prob(parameters: Parameters, form: Form, y: jax.Array, eta: jax.Array) -> jax.Array:
    """log p(y | eta) of every entry."""
    if form.likelihood == "gaussian":
        return -0.5 * ((y - eta) ** 2 * jnp.exp(-parameters.noise) + parameters.noise + jnp.log(2 * jnp.pi))
    if form.likelihood == "bernoulli":
        return y * eta - jnp.logaddexp(0.0, eta)
    log_rate = eta + jnp.log(form.exposure)
    return y * log_rate - jnp.exp(log_rate) - jax.scipy.special.gammaln(y + 1.0)


def expected(parameters: Parameters, form: Form, eta: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of y given eta."""
    if form.likelihood == "gaussian":
        return eta, jnp.broadcast_to(jnp.exp(parameters.noise), eta.shape)
    if form.likelihood == "bernoulli":
        p = jax.nn.sigmoid(eta)
        return p, p * (1.0 - p)
    rate = form.exposure * jnp.exp(eta)
    return rate, rate


def curvature(
    parameters: Parameters, form: Form, y: jax.Array, eta: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Score d log p / d eta and curvature -d^2 log p / d eta^2 of every entry."""
    mean, var = expected(parameters, form, eta)
    if form.likelihood == "gaussian":
        return (y - mean) / var, 1.0 / var
    return y - mean, var


def alone(parameters: Parameters, form: Form, y: jax.Array) -> jax.Array:
    """Where log p(y | eta) - (eta - b)^2 / (2 v) of every entry is highest, v its prior variance, nearly.

    A count's objective is less steep the smaller eta, so that Newton's steps from above fall to the top and
    never pass it; those of yes or no take the curvature at its highest, 1 / 4.
    """
    b, v = parameters.bias, (parameters.loadings**2).sum(-1)
    if form.likelihood == "poisson":
        eta = jnp.maximum(b, jnp.log((y + 0.5) / form.exposure))
    else:
        eta = jnp.broadcast_to(b, y.shape)
    for _ in range(_ROUNDS):
        score, w = curvature(parameters, form, y, eta)
        w = w if form.likelihood == "poisson" else 0.25
        eta = eta - (eta - b - v * score) / (1.0 + v * w)
    return eta


def near(form: Form, y: jax.Array, eta: jax.Array) -> jax.Array:
    """eta, or the nearest where a line still tells of y: its curvature neither overflows nor vanishes."""
    if form.likelihood == "gaussian":
        return eta
    if form.likelihood == "bernoulli":
        return jnp.clip(eta, jnp.where(y > 0.5, -_FAR, -jnp.inf), jnp.where(y > 0.5, jnp.inf, _FAR))
    low, high = (jnp.log((y + more) / form.exposure) for more in (0.0, 0.5))  # no count: no lower end
    return jnp.clip(eta, low - _FAR, high + _FAR)


def point(parameters: Parameters, form: Form, y: jax.Array, inputs: jax.Array, seen: jax.Array) -> tuple:
    """Where to linearise each frame, (N, L), and how far the line is trusted, (N, 1), or (N, L) if diagonal.

    The encoder moves the point from the estimate of the frame alone under a standard normal prior, with the
    linear part of the decoder. Each count, yes or no is linearised for it at the link that it favours itself:
    from the bias the first step to many more counts would go far past them.
    """
    C = parameters.loadings
    bias = jnp.broadcast_to(parameters.bias, y.shape)
    eta = bias if form.likelihood == "gaussian" else alone(parameters, form, y)
    score, w = curvature(parameters, form, y, eta)
    score, w = (jnp.where(seen, own, 0.0) for own in (score + w * (eta - bias), w))
    J = product(transpose(C * w[..., None]), C)
    x = product(inverse(jnp.eye(C.shape[1]) + J)[0], (score @ C)[..., None])[..., 0]
    if parameters.encoder is None:
        return x, jnp.ones((len(x), 1), x.dtype)
    frame = jnp.concatenate([inputs, seen.astype(inputs.dtype)], axis=-1)
    out = jax.vmap(parameters.encoder)(frame).astype(x.dtype)
    return x + out[:, : C.shape[1]], jnp.exp(out[:, C.shape[1] :])


def linearise(
    parameters: Parameters, form: Form, y: jax.Array, seen: jax.Array, x: jax.Array, trust: jax.Array
) -> Sites:
    """Sites (N, L) and (N, L, L), or (N, L) when diagonal, of frames linearised at x (N, L).

    Counts, yes and no that are far from eta are linearised at the nearest that is not far from them. Where
    the sites are less than full, the couplings that are cut are taken at x: j + (J_kept - J) x.
    """
    if parameters.decoder is None:
        eta = x @ parameters.loadings.T + parameters.bias
        G = jnp.broadcast_to(parameters.loadings, (len(x), *parameters.loadings.shape))
    else:
        eta = jax.vmap(lambda z: read(parameters, z))(x)
        G = jax.vmap(jax.jacfwd(lambda z: read(parameters, z)))(x)
    at = near(form, y, eta)
    score, w = curvature(parameters, form, y, at)
    score, w = (jnp.where(seen, own, 0.0) for own in (score + w * (at - eta), w))
    J, pull = product(transpose(G * w[..., None]), G), product(score[:, None, :], G)[:, 0]
    if form.sites == "diagonal":
        J = jnp.diagonal(J, axis1=-2, axis2=-1)
        return Sites(trust * (pull + J * x), trust * J)
    if form.sites != "full":
        J = truncated(J, form.sites)
    return Sites(trust * (pull + product(J, x[..., None])[..., 0]), trust[..., None] * J)


def truncated(J: jax.Array, rank: int) -> jax.Array:
    """The first columns of a pivoted Cholesky factor of J times their transpose: at most J, of this rank."""
    left, kept = J, jnp.zeros_like(J)
    for _ in range(rank):
        pivot = jnp.argmax(jnp.diagonal(left, axis1=-2, axis2=-1), axis=-1)
        column = jnp.take_along_axis(left, pivot[:, None, None], axis=-1)[..., 0]
        top = jnp.take_along_axis(column, pivot[:, None], axis=-1)
        # An empty frame has no pivot, and no slope there.
        step = column[:, :, None] * column[:, None, :] / jnp.where(top > 0, top, 1.0)[..., None]
        left, kept = left - step, kept + step
    return kept


def encode(parameters: Parameters, form: Form, batch: Batch) -> Sites:
    """Sites (B, T, L) and (B, T, L, L), or (B, T, L), of every frame of a batch."""
    B, T, D = batch.y.shape
    y, inputs, seen = (part.reshape(-1, D) for part in (batch.y, batch.inputs, batch.seen))
    if batch.rows is not None:
        y, inputs, seen = (part.at[batch.rows].get(mode="fill", fill_value=0) for part in (y, inputs, seen))
    sites = linearise(parameters, form, y, seen, *point(parameters, form, y, inputs, seen))
    if batch.rows is not None:
        sites = (
            jnp.zeros((B * T, *part.shape[1:]), part.dtype).at[batch.rows].set(part, mode="drop")
            for part in sites
        )
    return Sites(*(part.reshape(B, T, *part.shape[1:]) for part in sites))
