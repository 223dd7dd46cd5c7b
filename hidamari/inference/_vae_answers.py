"""What a fitted autoencoder answers: latents at any times, paths, and what frames they make.

Rows of frames are flat. In space a frame is N locations of D entries each, and the core follows the white
processes of `_vae_space`; what goes through the networks has a row for each time and location.

The posterior of latents under the encoder's sites is exact and comes from the compiled core, all sequences
on one time axis. What passes through the decoder is averaged over points of its normal, the same for every
row, so that answers are smooth in time and do not depend on what else is asked. The points have exactly the
normal's mean and covariance: moments of linear decoders under Gaussian noise are exact.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from hidamari.inference import _vae_model
from hidamari.inference._vae_model import Form, Parameters
from hidamari.inference._vae_space import Space, at_locations, lift, residual_root
from hidamari.inference.posterior import condition, site_kl
from hidamari.inference.vae_data import Scale, lay_frames
from hidamari.statespace import kalman
from hidamari.statespace.kernels import bank, steps
from hidamari.statespace.types import Sites, StateSpace

__all__ = [
    "Fitted",
    "Latents",
    "densities",
    "evidence_bound",
    "expectations",
    "frames_of",
    "latents",
    "merge",
    "observations",
    "paths",
    "prior_paths",
]

_HALF = 32  # points of a normal, without their mirror images
_HALF_DENSITY = 128  # of a density, whose tails few points miss
_BLOCK = 128  # frames that pass the decoder at once


class Fitted(NamedTuple):
    """A model that was learnt, on the scale of the user's data through `scale`."""

    parameters: Parameters
    form: Form
    scale: Scale
    refinements: int
    space: Space | None = None

    @property
    def plain(self) -> Form:
        """The form without its kernels, which only the core needs: programs are compiled for each form."""
        return self.form._replace(kernels=())

    def standard(self, rows: np.ndarray) -> np.ndarray:
        """Frames on the scale of the model, 0 where not observed."""
        centre, width = self.scale
        return np.where(np.isnan(rows), 0.0, (rows - centre) / width)


class Latents(NamedTuple):
    """The posterior of latents at rows of one axis."""

    mean: np.ndarray  # (M, L)
    cov: np.ndarray  # (M, L, L)


# ------------------------------------------------------------------------------------- latents, by the core


def merge(
    clocks: Sequence[np.ndarray], new: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Both time axes of every sequence in one, rows of the old, and rows of the new, all in their order."""
    both, old_rows, new_rows, start = [], [], [], 0
    for own, other in zip(clocks, new):
        every = np.concatenate([own, other])
        order = np.argsort(every, kind="stable")
        place = start + order.argsort(kind="stable")
        both.append(every[order])
        old_rows.append(place[: len(own)])
        new_rows.append(place[len(own) :])
        start += len(every)
    return both, np.concatenate(old_rows), np.concatenate(new_rows)


def latents(
    fitted: Fitted,
    rows: np.ndarray,
    clocks: Sequence[np.ndarray],
    new: Sequence[np.ndarray] | None = None,
    n_threads: int | None = None,
    place: Space | None = None,
) -> Latents:
    """Posterior at new times given frames (T, D), NaN where not observed; by default at their own times.

    Models of space have a row for each time and location, by default those of the frames.
    """
    sites = sites_of(fitted, rows, clocks, n_threads)
    if new is None:
        mean, cov, _ = condition(_chains(fitted, clocks), sites, n_threads)
    else:
        both, at, asked = merge(clocks, new)
        sites = _spread(sites, at, len(at) + len(asked))
        mean, cov, _ = condition(_chains(fitted, both), sites, n_threads)
        mean, cov = mean[asked], cov[asked]
    return _read_latents(fitted, mean, cov, place)


def paths(
    fitted: Fitted,
    rows: np.ndarray,
    clocks: Sequence[np.ndarray],
    n: int,
    rng: np.random.Generator,
    n_threads: int | None = None,
) -> np.ndarray:
    """Joint draws of whole posterior paths, (n, T, L), or (n, T, N, L) in space."""
    sites = sites_of(fitted, rows, clocks, n_threads)
    z = kalman.sample(_chains(fitted, clocks), sites, n, rng, n_threads=n_threads)
    return _placed(fitted, z, clocks, rng)


def prior_paths(fitted: Fitted, times: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Joint draws of paths of a new sequence, (n, T, L), or (n, T, N, L) in space."""
    z = _drawn(_chains(fitted, [times]), n, rng)
    return _placed(fitted, z, [times], rng)


def sites_of(
    fitted: Fitted, rows: np.ndarray, clocks: Sequence[np.ndarray], n_threads: int | None = None
) -> Sites:
    """Sites of frames, linearised again at the posterior mean as often as the model says."""
    flat = rows.reshape(-1, len(fitted.scale.centre))
    frames = lay_frames([flat], [np.arange(len(flat))], fitted.scale, fitted.form.likelihood)
    y, inputs, seen = (own[0, : len(flat)] for own in (frames.y, frames.inputs, frames.seen))
    sites = _lifted(fitted, _blocks(fitted, _encoded, y, inputs, seen))
    for _ in range(fitted.refinements):
        mean, cov, _ = condition(_chains(fitted, clocks), sites, n_threads)
        x = _read_latents(fitted, mean, cov).mean
        sites = _lifted(fitted, _blocks(fitted, _linearised, y, seen, x))
    return sites


def _lifted(fitted: Fitted, found: tuple[np.ndarray, ...]) -> Sites:
    """Sites of what the core follows, from those of latents."""
    sites = dense(Sites(*found))
    return sites if fitted.space is None else lift(fitted.space, sites, _variances(fitted))


def _read_latents(fitted: Fitted, mean: np.ndarray, cov: np.ndarray, place: Space | None = None) -> Latents:
    """Moments of latents from those of what the core follows."""
    place = fitted.space if place is None else place
    return (
        Latents(mean, cov) if place is None else Latents(*at_locations(place, mean, cov, _variances(fitted)))
    )


def _placed(
    fitted: Fitted, u: np.ndarray, clocks: Sequence[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Paths of latents from those of what the core follows, (n, T, C)."""
    space = fitted.space
    if space is None:
        return u
    (N, M), L = space.B.shape, len(fitted.form.kernels)
    n, T, _ = u.shape
    z = np.einsum("nm,stlm->stnl", space.B, u.reshape(n, T, L, M), optimize=True)
    if space.residual.any():
        every = [kernel for kernel in fitted.form.kernels for _ in range(N)]
        e = _drawn(bank(every, *steps(list(clocks))), n, rng).reshape(n, T, L, N)
        z += np.einsum("nm,stlm->stnl", residual_root(space), e, optimize=True)
    return z


def _drawn(ss: StateSpace, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of the prior, (n, T, C)."""
    T, C = len(ss.step), len(ss.m)
    return kalman.sample(ss, Sites(np.zeros((T, C)), np.zeros((T, C, C))), n, rng)


def _variances(fitted: Fitted) -> np.ndarray:
    """Prior variance of every latent."""
    return np.array([float(kernel(0.0)) for kernel in fitted.form.kernels])


def dense(sites: Sites) -> Sites:
    """Sites with whole matrices."""
    j, J = sites
    if J.ndim == 3:
        return sites
    return Sites(j, J[:, :, None] * np.eye(J.shape[1]))


def _spread(sites: Sites, rows: np.ndarray, n_rows: int) -> Sites:
    """The sites on some of the rows of a longer axis, nothing on the others."""
    j, J = sites
    wide = Sites(np.zeros((n_rows, j.shape[1])), np.zeros((n_rows, *J.shape[1:])))
    wide.j[rows], wide.J[rows] = j, J
    return wide


def _chains(fitted: Fitted, clocks: Sequence[np.ndarray]) -> Any:
    """The prior of the latents on the times of all sequences."""
    copies = 1 if fitted.space is None else fitted.space.B.shape[1]
    return bank([kernel for kernel in fitted.form.kernels for _ in range(copies)], *steps(list(clocks)))


@eqx.filter_jit
def _encoded(parameters: Parameters, form: Form, y: Any, inputs: Any, seen: Any) -> Sites:
    """Sites of flat frames (N, D)."""
    x, trust = _vae_model.point(parameters, form, y, inputs, seen)
    return _vae_model.linearise(parameters, form, y, seen, x, trust)


@eqx.filter_jit
def _linearised(parameters: Parameters, form: Form, y: Any, seen: Any, x: Any) -> Sites:
    """Sites of flat frames linearised at x, fully trusted."""
    return _vae_model.linearise(parameters, form, y, seen, x, jnp.ones((len(x), 1), x.dtype))


# ------------------------------------------------------------------------------------- frames, by the decoder


def expectations(fitted: Fitted, at: Latents, noise: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (M, D) of frames; without the noise those of the expected frame."""
    mean, spread, own = _through(fitted, _moments, at)
    centre, width = fitted.scale
    return centre + width * mean, width**2 * (spread + own if noise else spread)


def densities(fitted: Fitted, at: Latents, y: np.ndarray) -> np.ndarray:
    """Log density of every entry of y (M, D) by itself, a mixture over the latents; NaN where y is.

    Linear decoders with Gaussian noise make it a normal.
    """
    if fitted.parameters.decoder is None and fitted.form.likelihood == "gaussian":
        mean, var = expectations(fitted, at)
        return -0.5 * ((y - mean) ** 2 / var + np.log(2.0 * np.pi * var))
    found = _through(fitted, _mixture, at, fitted.standard(y), half=_HALF_DENSITY)[0]
    return np.where(np.isnan(y), np.nan, found - np.log(fitted.scale.spread))


def frames_of(fitted: Fitted, z: np.ndarray) -> np.ndarray:
    """Expected frames (..., D) given latents (..., L)."""
    mean = _blocks(fitted, _expected, z.reshape(-1, z.shape[-1]))[0]
    centre, width = fitted.scale
    return (centre + width * mean).reshape(*z.shape[:-1], -1)


def observations(fitted: Fitted, expected: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws of frames around expected ones (..., D)."""
    if fitted.form.likelihood == "gaussian":
        deviation = fitted.scale.spread * np.exp(0.5 * np.asarray(fitted.parameters.noise))
        return expected + deviation * rng.standard_normal(expected.shape)
    if fitted.form.likelihood == "bernoulli":
        return (rng.random(expected.shape) < expected).astype(np.float64)
    return rng.poisson(expected).astype(np.float64)


def evidence_bound(
    fitted: Fitted, rows: np.ndarray, clocks: Sequence[np.ndarray], n_threads: int | None = None
) -> float:
    """The ELBO of all frames (T, D), in nats on the scale of the data."""
    sites = sites_of(fitted, rows, clocks, n_threads)
    mean, cov, log_norm = condition(_chains(fitted, clocks), sites, n_threads)
    at, flat = _read_latents(fitted, mean, cov), rows.reshape(-1, len(fitted.scale.centre))
    gain = _through(fitted, _gain, at, fitted.standard(flat))[0] - np.log(fitted.scale.spread)
    return float(gain[~np.isnan(flat)].sum()) - site_kl(sites, mean, cov, log_norm)


@eqx.filter_jit
def _expected(parameters: Parameters, form: Form, z: Any) -> tuple:
    """Expected frames of latents (N, L)."""
    eta = jax.vmap(lambda one: _vae_model.read(parameters, one))(z)
    return (_vae_model.expected(parameters, form, eta)[0],)


@eqx.filter_jit
def _moments(parameters: Parameters, form: Form, e: Any, mean: Any, root: Any) -> tuple:
    """Mean of frames, variance of their expectation, expectation of their variance, (N, D) each."""
    m, v = _vae_model.expected(parameters, form, _read_points(parameters, e, mean, root))
    return m.mean(0), m.var(0), v.mean(0)


@eqx.filter_jit
def _mixture(parameters: Parameters, form: Form, e: Any, mean: Any, root: Any, y: Any) -> tuple:
    """Log of the mean density of each entry."""
    found = _vae_model.log_prob(parameters, form, y, _read_points(parameters, e, mean, root))
    return (jax.nn.logsumexp(found, axis=0) - jnp.log(len(e)),)


@eqx.filter_jit
def _gain(parameters: Parameters, form: Form, e: Any, mean: Any, root: Any, y: Any) -> tuple:
    """Mean of the log density of each entry."""
    return (_vae_model.log_prob(parameters, form, y, _read_points(parameters, e, mean, root)).mean(0),)


def _read_points(parameters: Parameters, e: Any, mean: Any, root: Any) -> Any:
    """eta (S, N, D) at points (S, L) of the normals of N rows."""
    z = mean + jnp.einsum("nlm,sm->snl", root, e)
    eta = jax.vmap(lambda one: _vae_model.read(parameters, one))(z.reshape(-1, z.shape[-1]))
    return eta.reshape(*z.shape[:2], -1)


def _through(
    fitted: Fitted, program: Callable, at: Latents, *more: np.ndarray, half: int = _HALF
) -> tuple[np.ndarray, ...]:
    """A program over points of the normals, in blocks of rows."""
    try:
        root = np.linalg.cholesky(at.cov)
    except np.linalg.LinAlgError:  # a variance that is nothing but rounding
        values, vectors = np.linalg.eigh(at.cov)
        root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    return _blocks(fitted, program, at.mean, root, *more, points=_points(half, at.mean.shape[1]))


def _blocks(
    fitted: Fitted, program: Callable, *rows: np.ndarray, points: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """A program over blocks of rows, all of one size so that it is compiled once."""
    n, size = len(rows[0]), _BLOCK
    shared = () if points is None else (points,)
    found = []
    with jax.enable_x64(True):
        for first in range(0, n, size):
            parts = [own[first : first + size] for own in rows]
            many = len(parts[0])
            parts = [
                np.concatenate([own, np.zeros((size - many, *own.shape[1:]), own.dtype)]) for own in parts
            ]
            answer = program(fitted.parameters, fitted.plain, *shared, *parts)
            found.append([np.asarray(own)[:many] for own in answer])
    return tuple(np.concatenate(own) for own in zip(*found))


def _points(half: int, n_latents: int) -> np.ndarray:
    """Points of a standard normal (S, L) and their mirror images, of exactly its mean and covariance."""
    e = np.random.default_rng(0).standard_normal((max(half, 2 * n_latents), n_latents))
    e = e @ np.linalg.inv(np.linalg.cholesky(e.T @ e / len(e))).T
    return np.concatenate([e, -e])
