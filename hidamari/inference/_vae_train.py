"""Learning of a Markovian GP variational autoencoder: Adam on minibatches of sequences, in jax."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from hidamari.inference._vae_checkpoint import Progress, fingerprint, load, save
from hidamari.inference._vae_elbo import draws
from hidamari.inference._vae_model import Batch, Form, Parameters, log_prob, read
from hidamari.inference._vae_slopes import kernels_of, q_of, slopes
from hidamari.inference.vae_data import Aside, Frames

__all__ = ["Settings", "Trained", "as_batch", "held_out", "train"]

_OPTIMISER = optax.chain(optax.clip_by_global_norm(1e3), optax.scale_by_adam())
_LAST = 0.02  # of the learning rate, at the end of the cosine
_DRAWS = 16  # of every sequence in validation
_COVER = 0.89  # of 90 % intervals in validation, at least


class Settings(NamedTuple):
    """How to learn; see :class:`hidamari.models.mgpvae.MGPVAE` for their meaning."""

    max_epochs: int = 80
    batch_size: int = 24
    learning_rate: float = 6e-3
    patience: int = 20
    beta: float = 1.0
    n_samples: int = 1
    kernel_rate: float = 1.0  # of the kernels' hyperparameters, as a multiple of the learning rate
    linear_rate: float = 1.0  # of loadings, bias and noise
    decay: float = 0.0  # of the networks' weights, as a multiple of the learning rate
    hidden: float = 0.25  # share of the frames of a minibatch that q must do without


class Trained(NamedTuple):
    """What was learnt, and how it ended."""

    parameters: Parameters
    elbo: np.ndarray  # (epochs,) mean bound of a seen entry in training
    validation: np.ndarray  # (epochs + 1,) mean log density of an entry that was set aside, the start first
    best: int  # epochs done when validation was best; 0: the start
    converged: bool
    message: str


def as_batch(frames: Frames) -> Batch:
    """Arrays of jax."""
    return Batch(*map(jnp.asarray, (frames.y, frames.inputs, frames.seen, frames.step, frames.gaps)))


def held_out(
    parameters: Parameters, form: Form, batch: Batch, y: Any, asked: Any, key: Any, n: int
) -> jax.Array:
    """Mean log density of the entries that were asked for, by the mixture of n draws."""
    plain = form._replace(kernels=(), names=(), tied=())  # programs are compiled for each form
    return _density(parameters, plain, q_of(parameters, form, batch), y, asked, key, n)


@eqx.filter_jit
def _density(parameters, form, q, y, asked, key, n):
    """That of `held_out`, given q."""
    z = draws(q, key, n)
    eta = jax.vmap(lambda one: read(parameters, one))(z.reshape(-1, z.shape[-1])).reshape(n, *y.shape)
    density = jax.nn.logsumexp(log_prob(parameters, form, y, eta), axis=0) - jnp.log(n)
    return jnp.where(asked, density, 0.0).sum() / jnp.maximum(asked.sum(), 1)


def train(
    parameters: Parameters,
    form: Form,
    aside: Aside,
    settings: Settings,
    seed: int,
    report: Callable[[int, float], None] | None = None,
    checkpoint: str | Path | None = None,
) -> Trained:
    """Learn from frames; what is kept is best on those set aside, and never worse than the start.

    With a checkpoint every epoch is kept in this file, and learning goes on from what it holds.
    """
    frames = aside.learn
    rest, y, asked = as_batch(aside.rest), jnp.asarray(aside.y), jnp.asarray(aside.asked)
    n, size = len(frames.y), min(settings.batch_size, len(frames.y))
    per_epoch = -(-n // size)
    total = per_epoch * settings.max_epochs
    state = _OPTIMISER.init(eqx.filter(parameters, eqx.is_inexact_array))
    entries = float(frames.seen.sum()) / n
    capacity = int(np.sort(frames.seen.any(2).sum(1))[-size:].sum())  # of any minibatch

    def judge(parameters: Parameters) -> float:
        try:
            return float(held_out(parameters, form, rest, y, asked, jax.random.key(1), _DRAWS))
        except FloatingPointError:
            return np.nan

    begun = Progress(parameters, state, parameters, 0, [], [])
    mark = fingerprint(parameters, form, aside, settings, seed) if checkpoint is not None else None
    if checkpoint is not None and mark is not None:
        begun = load(checkpoint, mark, begun)
    parameters, state, kept, at, curve, history = begun
    curve = curve or [judge(parameters)]
    best, stopped = curve[at], ""
    while len(history) < settings.max_epochs and len(history) - at < settings.patience:
        epoch = len(history)
        rng = np.random.default_rng([seed, epoch])
        order = np.resize(rng.permutation(n), per_epoch * size)
        value, was = 0.0, parameters
        for i, which in enumerate(order.reshape(per_epoch, size)):
            done = epoch * per_epoch + i
            rate = settings.learning_rate * (_LAST + (1 - _LAST) * 0.5 * (1 + np.cos(np.pi * done / total)))
            beta = settings.beta * min(1.0, 0.1 + done / max(1.0, 0.1 * total))
            key = jax.random.fold_in(jax.random.key(seed), done)
            part = _part(frames, which, capacity, settings.hidden, rng)
            try:
                gain, slope = slopes(parameters, form, part, key, settings.n_samples, beta)
            except FloatingPointError:
                value = np.nan
                break
            parameters, state = _update(parameters, state, slope, form.tied, _rates(settings, rate))
            value += gain
        history.append(value / (per_epoch * entries))
        curve.append(judge(parameters) if np.isfinite(value) else np.nan)
        if report:
            report(epoch, curve[-1])
        if not (np.isfinite(history[-1]) and np.isfinite(curve[-1])):
            stopped = f"stopped: the bound is not finite in epoch {epoch + 1}{_shortest(was, form, frames)}"
            break
        if curve[-1] > best:
            best, kept, at = curve[-1], parameters, epoch + 1
        if checkpoint is not None and mark is not None:
            save(checkpoint, mark, Progress(parameters, state, kept, at, curve, history))
    converged = not stopped and len(history) - at >= settings.patience
    message = f"settled: best after {at} of" if converged else "not settled after"
    message = stopped or f"{message} {len(history)} epochs"
    if at and form.likelihood == "gaussian":
        kept = _noise_of_answers(kept, form, rest, y, asked)
    return Trained(kept, np.array(history), np.array(curve), at, converged, message)


def _shortest(parameters: Parameters, form: Form, frames: Frames) -> str:
    """What the shortest gap is of the shortest lengthscale, where there are both."""
    scales = [own for k in kernels_of(parameters, form) if (own := getattr(k, "lengthscale", None))]
    gaps = frames.gaps[frames.gaps > 0]
    return (
        f"; the shortest gap is {gaps.min() / min(scales):.2g} lengthscales" if scales and len(gaps) else ""
    )


def _noise_of_answers(parameters: Parameters, form: Form, rest: Batch, y: Any, asked: Any) -> Parameters:
    """The parameters with noise that suits what was set aside best, up to a factor for all entries.

    Networks fit the sequences that they have seen better than others, so that their noise is too small there.
    Of factors under which 90 % intervals hold at least 89 %, if there are any, that of the highest density.
    """
    plain = form._replace(kernels=(), names=(), tied=())
    found = []
    for by in np.arange(-0.2, 1.01, 0.1):
        own = parameters._replace(noise=parameters.noise + by)
        given = (own, plain, q_of(own, form, rest), y, asked, jax.random.key(1), _DRAWS)
        holds = float(_cover(*given)) >= _COVER
        found.append((holds, float(_density(*given)), own))
    return max(found, key=lambda one: one[:2])[2]


@eqx.filter_jit
def _cover(parameters, form, q, y, asked, key, n):
    """Share of the entries that were asked for within 90 % of their Gaussian."""
    z = draws(q, key, n)
    eta = jax.vmap(lambda one: read(parameters, one))(z.reshape(-1, z.shape[-1])).reshape(n, *y.shape)
    far = (y - eta.mean(0)) ** 2 > 1.6449**2 * (eta.var(0) + jnp.exp(parameters.noise))
    return 1.0 - (asked & far).sum() / jnp.maximum(asked.sum(), 1)


def _part(frames: Frames, which: np.ndarray, capacity: int, hidden: float, rng: np.random.Generator) -> Batch:
    """Some of the sequences, with their own gaps where all have more than these have rows.

    A bound holds for every q: some frames are kept from it, so that what explains them is learnt from others.
    """
    step, gaps, seen = frames.step[which], frames.gaps, frames.seen[which]
    if len(gaps) > step.size:
        gaps = np.where(step < 0, 0.0, gaps[step]).ravel()
        step = np.where(step < 0, -1, np.arange(step.size).reshape(step.shape))
    rows = np.full(capacity, step.size)
    some = np.flatnonzero(seen.any(2))
    some = some[rng.random(len(some)) >= hidden]
    rows[: len(some)] = some
    return Batch(*map(jnp.asarray, (frames.y[which], frames.inputs[which], seen, step, gaps, rows)))


def _rates(settings: Settings, rate: float) -> jax.Array:
    """Of kernels, of the linear part, of networks, and of their decay."""
    factors = settings.kernel_rate, settings.linear_rate, 1.0, settings.decay
    return jnp.asarray(rate * np.array(factors))


@eqx.filter_jit
def _update(parameters, state, slope, tied, rates):
    """One step up of everything that is learnt."""
    slope = jax.tree.map(lambda own: -own, slope._replace(kernel=_together(slope.kernel, tied)))
    change: Any
    change, state = _OPTIMISER.update(slope, state)
    kernel, linear, network, decay = rates

    def moved(own, by):
        if by is None:
            return None
        return -network.astype(by.dtype) * by - decay.astype(by.dtype) * own

    def of_network(own, by):
        return jax.tree.map(moved, eqx.filter(own, eqx.is_inexact_array), by)

    change = Parameters(
        -kernel * change.kernel,
        -linear * change.loadings,
        -linear * change.bias,
        -linear * change.noise,
        of_network(parameters.decoder, change.decoder),
        of_network(parameters.encoder, change.encoder),
    )
    return eqx.apply_updates(parameters, change), state


def _together(slope: jax.Array, tied: tuple[int, ...]) -> jax.Array:
    """Slopes of hyperparameters that move as one, each the sum over its group."""
    if not tied:
        return slope
    same = jnp.asarray(np.equal.outer(tied, tied), slope.dtype)
    return same @ slope
