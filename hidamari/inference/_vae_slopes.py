r"""The slope of the bound of an autoencoder: networks in jax, and the compiled smoother between them.

The bound depends on sites and kernels directly, on log Z, and on moments of q, which are slopes of log Z:
E[f] = d log Z / dj and -E[f f'] / 2 = d log Z / dJ. With c and C the slopes of the bound by the mean and the
covariance of q, what it gains through them is the change of the slopes of log Z along

    dj = c - 2 C E[f],    dJ = -2 C,

because second derivatives commute: for every parameter x of the sites or the kernels

    c' dE[f]/dx + tr(C dCov[f]/dx) = d/de [d log Z / dx](j + e dj, J + e dJ)  at e = 0,

a central difference of two passes of the adjoint smoother. Nothing is differentiated through a recursion, no
recursion is compiled for a new length, and kernels need no jax.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from hidamari.inference._vae_elbo import Posterior, elbo
from hidamari.inference._vae_model import Batch, Form, Parameters, encode
from hidamari.inference.posterior import condition
from hidamari.parameters import unflatten
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Kernel, bank
from hidamari.statespace.types import Sites, StateSpace

__all__ = ["kernels_of", "q_of", "slopes"]

_SMALL = 1e-4  # of the sites' own size: the error is its square, and rounding over it


class _Model(NamedTuple):
    """Chains of all sequences behind each other, and their sites."""

    kernels: Sequence[Kernel]
    ss: StateSpace
    sites: Sites
    shape: tuple[int, int]  # sequences and frames of each


def kernels_of(parameters: Parameters, form: Form) -> list[Kernel]:
    """The kernels with what was learnt of them."""
    kernels = list(form.kernels)
    return unflatten(kernels, np.asarray(parameters.kernel), list(form.names)) if form.names else kernels


def q_of(parameters: Parameters, form: Form, batch: Batch) -> Posterior:
    """q of every sequence, by the compiled smoother."""
    model = _laid(parameters, form, batch)
    mean, cov, log_norm = condition(model.ss, model.sites)
    return _posterior(model, mean, _own(model.sites, cov), log_norm)


def slopes(
    parameters: Parameters, form: Form, batch: Batch, key: Any, n: int, beta: float
) -> tuple[float, Parameters]:
    """Mean bound of a sequence of a batch with n draws, and its slope by everything that is learnt."""
    model = _laid(parameters, form, batch)
    moments, log_norm, slope = kalman.evidence_gradient(model.ss, model.sites)
    mean, cov = moments.mean, _own(model.sites, moments.cov)
    q = _posterior(model, mean, cov, log_norm)
    # Bare numbers would be compiled in.
    value, (direct, by) = _between(parameters, _plain(form), batch, q, key, n, jnp.asarray(beta))
    c, C, j, J = (np.asarray(part).reshape(-1, *part.shape[2:]) for part in (by.mean, by.cov, *by.sites))
    if C.ndim == 3:
        C = 0.5 * (C + np.swapaxes(C, 1, 2))
        along = Sites(c - 2.0 * np.einsum("tlm,tm->tl", C, mean), -2.0 * C)
    else:
        along = Sites(c - 2.0 * C * mean, -2.0 * C)
    weight = float(by.log_norm)
    more = _change(model, along)
    first = _by_sites(mean, cov)
    back = Sites(j + weight * first[0] + more[0], J + weight * first[1] + more[1])
    by_ss = [weight * getattr(slope, name) + own for name, own in zip(("A", "Q", "P"), more[2:])]
    back = Sites(*(_folded(model, part) for part in back))
    own = _behind(parameters, _plain(form), batch, direct, back)
    return float(value), own._replace(kernel=jnp.asarray(_by_kernels(model, form, by_ss, batch.gaps)))


def _plain(form: Form) -> Form:
    """The form without its kernels, for which programs need not be compiled again."""
    return form._replace(kernels=(), names=(), tied=())


def _laid(parameters: Parameters, form: Form, batch: Batch) -> _Model:
    """The model of a batch in NumPy."""
    sites = _sites(parameters, _plain(form), batch)
    kernels, step = kernels_of(parameters, form), np.asarray(batch.step)
    ss = bank(kernels, np.asarray(batch.gaps), step.ravel())
    flat = Sites(*(np.asarray(part).reshape(-1, *part.shape[2:]) for part in sites))
    if not all(np.isfinite(part).all() for part in flat):
        raise FloatingPointError("the sites are not finite")
    return _Model(kernels, ss, flat, (step.shape[0], step.shape[1]))


def _folded(model: _Model, rows: np.ndarray) -> np.ndarray:
    """Rows by sequence and frame."""
    return rows.reshape(*model.shape, *rows.shape[1:])


def _own(sites: Sites, cov: np.ndarray) -> np.ndarray:
    """Covariances as the sites have their precisions."""
    if sites.J.ndim == cov.ndim:
        return cov
    return np.ascontiguousarray(np.diagonal(cov, axis1=1, axis2=2))


def _posterior(model: _Model, mean: np.ndarray, cov: np.ndarray, log_norm: float) -> Posterior:
    """Moments of all rows as a batch."""
    sites = Sites(*(jnp.asarray(_folded(model, part)) for part in model.sites))
    mean, cov = _folded(model, mean), _folded(model, cov)
    return Posterior(sites, jnp.asarray(mean), jnp.asarray(cov), jnp.asarray(log_norm))


def _change(model: _Model, along: Sites) -> list[np.ndarray]:
    """The change of the slopes of log Z by j, J, A, Q and P along a change of the sites."""
    ss, sites = model.ss, model.sites
    size = max(float(np.abs(part).max(initial=0.0)) for part in along)
    e = _SMALL * max(float(np.abs(sites.J).max(initial=0.0)), 1e-3) / (size if size > 0 else 1.0)
    ends = []
    for sign in (e, -e):
        moved = Sites(*(own + sign * by for own, by in zip(sites, along)))
        q, _, slope = kalman.evidence_gradient(ss, moved)
        ends.append([*_by_sites(q.mean, _own(sites, q.cov)), slope.A, slope.Q, slope.P])
    return [(one - two) / (2.0 * e) for one, two in zip(*ends)]


def _by_sites(mean: np.ndarray, cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of log Z by j and J."""
    square = mean**2 if cov.ndim == 2 else mean[:, :, None] * mean[:, None, :]
    return mean, -0.5 * (cov + square)


def _by_kernels(model: _Model, form: Form, by_ss: list[np.ndarray], gaps: Any) -> np.ndarray:
    """The slope by the hyperparameters that are learnt, through the A, Q and P of each one's chain."""
    total = np.zeros(len(form.names))
    for c, kernel in enumerate(model.kernels):
        places = [i for i, name in enumerate(form.names) if name.split(".", 1)[0] == str(c)]
        if not places:
            continue
        d = len(kernel.readout())
        parts = kernel.derivatives(np.asarray(gaps), [form.names[i].split(".", 1)[1] for i in places])
        dA, dQ, dP = by_ss[0][:, c, :d, :d], by_ss[1][:, c, :d, :d], by_ss[2][c, :d, :d]
        for i, (A, Q, P) in zip(places, parts):
            total[i] = np.vdot(dA, A) + np.vdot(dQ, Q) + np.vdot(dP, P)
    return total


@eqx.filter_jit
def _sites(parameters: Parameters, form: Form, batch: Batch) -> Sites:
    """Sites of all frames."""
    return encode(parameters, form, batch)


@eqx.filter_jit
def _between(parameters, form, batch, q, key, n, beta) -> tuple:
    """The mean bound of a sequence, and its slopes by the parameters and by q."""

    def value(args):
        own, q = args
        return elbo(own, form, batch, q, key, n, beta) / len(batch.y)

    return eqx.filter_value_and_grad(value)((parameters, q))


@eqx.filter_jit
def _behind(parameters, form, batch, direct, by) -> Parameters:
    """The slope by the parameters, from that by the sites."""

    def weighted(own):
        return sum((a * b).sum() for a, b in zip(encode(own, form, batch), by))

    return eqx.apply_updates(direct, eqx.filter_grad(weighted)(parameters))
