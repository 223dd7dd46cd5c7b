r"""NUTS over the scales of a regularised horseshoe, with the coefficients integrated out.

Given the scales S of the coefficients w ~ N(0, S^2) and the variance s2 of the noise, B = I + S R S / s2 and

    log p(y | S, s2) = -(n - 1) / 2 log s2 - log|B| / 2 - min_w [rss(w) / s2 + w' S^-2 w] / 2 + constant,

so that the sampler meets no funnel between coefficients and their scales, and none of it sees the rows.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular
from numpyro.infer.hmc import hmc

__all__ = ["Draws", "Problem", "chain"]


class Problem(NamedTuple):
    """Moments in units in which the response and all predictors have variance 1, and the prior."""

    R: np.ndarray  # (p, p) sums of products of the predictors
    c: np.ndarray  # (p,) with the response
    root: np.ndarray  # (1 + p, 1 + p) of all sums of products, the response first: root' root
    n_rows: float
    log_noise: float  # about what log s2 is; it moves in units of its spread there, sqrt(2 / n)
    share: float  # p0 / (p - p0) / sqrt(n): scale of tau in units of the noise
    slab_scale: float
    slab_df: float


class Draws(NamedTuple):
    """One chain; every field has the draws in front."""

    coef: Any  # (draw, p)
    local: Any  # (draw, p)
    tau: Any
    slab: Any
    noise: Any  # s2
    diverging: Any
    energy: Any
    potential: Any
    accept: Any
    n_steps: Any
    step_size: Any


class _State(NamedTuple):
    """What the sampler moves, on the real line."""

    local: jax.Array  # (p,) log lambda
    tau: jax.Array  # log tau in units of its prior scale
    slab: jax.Array  # log of c^2 in units of the slab's scale
    noise: jax.Array  # log s2, less about what it is, in units of its spread


def chain(
    seed: int, begin: np.ndarray, problem: Problem, n_warmup: int, n_samples: int, target: float
) -> Draws:
    """One chain from (p + 3,) coordinates; compiled once for each p and number of draws."""
    with jax.enable_x64(True):
        at = jnp.asarray(begin)
        state = _State(at[:-3], at[-3], at[-2], at[-1])
        problem = Problem(*(jnp.asarray(part, dtype=float) for part in problem))  # type: ignore[arg-type]
        found = _chain(jax.random.key(seed), state, problem, jnp.asarray(target), n_warmup, n_samples)
        return Draws(*(np.asarray(part)[n_warmup:] for part in found))


@partial(jax.jit, static_argnames=("n_warmup", "n_samples"))
def _chain(key, begin, problem, target, n_warmup, n_samples):
    """Every step, those that adapt included: in a loop of their own they would be compiled twice."""
    start, step = hmc(potential_fn_gen=lambda *about: partial(_potential, Problem(*about)), algo="NUTS")
    key, own = jax.random.split(key)
    state = start(begin, n_warmup, target_accept_prob=target, model_args=problem, rng_key=own)

    def one(state, key):
        state = step(state, problem)
        z = state.z
        tau, scale, slab, noise = _scales(problem, z)
        L, u, _, _ = _conditional(problem, jnp.log(scale), noise)
        # The coefficients given all scales: normal, with w / S of mean u and covariance B^-1.
        away = solve_triangular(L, jax.random.normal(key, u.shape), lower=True, trans=1)
        return state, Draws(
            scale * (u + away), jnp.exp(z.local), tau, slab, jnp.exp(noise), state.diverging,
            state.energy, state.potential_energy, state.accept_prob, state.num_steps,
            state.adapt_state.step_size,
        )  # fmt: skip

    return jax.lax.scan(one, state, jax.random.split(key, n_warmup + n_samples))[1]


def _scales(problem, z):
    """Global scale tau, scales S of the coefficients (p,), scale of the slab, and log s2."""
    # In units of its spread, or adapting to its small scale would take many short steps where rows are many.
    noise = problem.log_noise + jnp.sqrt(2.0 / problem.n_rows) * z.noise
    tau = problem.share * jnp.exp(0.5 * noise + z.tau)
    slab = problem.slab_scale * jnp.exp(0.5 * z.slab)
    # c tau lambda / sqrt(c^2 + tau^2 lambda^2), a harmonic mean that cannot overflow
    return tau, 1.0 / jnp.hypot(1.0 / slab, jnp.exp(-z.local) / tau), slab, noise


def _potential(problem, z):
    """Minus the log density of the coordinates, Jacobians included."""
    _, scale, _, noise = _scales(problem, z)
    evidence = _evidence(problem, jnp.log(scale), noise)
    half_cauchy = jnp.concatenate([z.local, z.tau[None]])
    prior = jnp.sum(half_cauchy - jnp.logaddexp(0.0, 2.0 * half_cauchy))
    half = 0.5 * problem.slab_df  # c^2 / slab_scale^2 ~ InverseGamma(df / 2, df / 2)
    prior += -half * (z.slab + jnp.exp(-z.slab))
    return -(evidence + prior)  # p(log s2) is flat


def _conditional(problem, log_scale, log_noise):
    """Factor of B, the mean of w / S, and the least of rss / s2 + w' S^-2 w."""
    scale, s2 = jnp.exp(log_scale), jnp.exp(log_noise)
    B = problem.R * jnp.outer(scale, scale) / s2
    L = jnp.linalg.cholesky(B + jnp.eye(len(scale)), symmetrize_input=False)
    u = cho_solve((L, True), scale * problem.c / s2)
    # Sums of squares, in which an error of u enters squared: no differences of large numbers.
    left = problem.root @ jnp.concatenate([jnp.ones(1), -scale * u])
    return L, u, left @ left / s2, u @ u


@jax.custom_vjp
def _evidence(problem, log_scale, log_noise):
    """log p(y | S, s2), up to a constant."""
    return _value_and_slopes(problem, log_scale, log_noise)[0]


def _value_and_slopes(problem, log_scale, log_noise):
    """The evidence and its derivatives: at the minimum over w only what is written explicitly moves."""
    L, u, fit, size = _conditional(problem, log_scale, log_noise)
    value = -0.5 * (fit + size) - jnp.sum(jnp.log(jnp.diag(L))) - 0.5 * (problem.n_rows - 1.0) * log_noise
    inverse = jnp.sum(solve_triangular(L, jnp.eye(len(u)), lower=True) ** 2, axis=0)  # diagonal of B^-1
    by_noise = 0.5 * (fit - (problem.n_rows - 1.0) + jnp.sum(1.0 - inverse))
    return value, u**2 - (1.0 - inverse), by_noise


def _forward(problem, log_scale, log_noise):
    """Value, and what the backward pass needs."""
    value, *slopes = _value_and_slopes(problem, log_scale, log_noise)
    return value, (problem, *slopes)


def _backward(saved, g):
    """Chain rule; the moments are data."""
    problem, by_scale, by_noise = saved
    return jax.tree.map(jnp.zeros_like, problem), g * by_scale, g * by_noise


_evidence.defvjp(_forward, _backward)
