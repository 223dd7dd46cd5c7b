r"""The alternation that fits a latent model: sites, read-out, prior and kernels, each never losing ground.

What rises is the ELBO plus the log priors of the read-out and of the kernel hyperparameters. One round is

1. Newton steps on loadings and bias given q (raises the expected log likelihood plus log prior);
2. the mode of the learnt prior given the loadings;
3. a proposal for the kernels from the evidence of the sites (or Whittle's likelihood of posterior draws);
4. natural-gradient sweeps from the last sites under the proposal. If the objective has then not risen, the
   kernels of step 3 are put back and the sweeps are done with those, under which it must rise.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hidamari.inference.learn import bounds, improve_kernels, kernel_log_prior, movable
from hidamari.inference.likelihoods import Likelihood
from hidamari.inference.posterior import Posterior, infer_sites
from hidamari.inference.readout import (
    LoadingPrior,
    canonical_order,
    log_prior,
    update_prior,
    update_readout,
)
from hidamari.inference.sites import Readout, linear_predictor
from hidamari.inference.start import start_fit
from hidamari.inference.whittle import whittle_kernels
from hidamari.parameters import flatten
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Kernel, bank
from hidamari.statespace.types import Sites

__all__ = ["Fit", "Problem", "Settings", "fit_latents", "refit"]

_SWEEPS = 1  # natural-gradient sweeps a round
_LATENTS_FIRST = 5  # rounds before the likelihood's own parameters move: noise must not explain the latents
_log = logging.getLogger("hidamari")


class Problem(NamedTuple):
    """Data and what is known of the grid."""

    y: np.ndarray  # (T, N)
    lengths: np.ndarray  # (R,) rows of each trial
    bin_s: float

    @property
    def step(self) -> np.ndarray:
        """Step of every row: 0 within a trial, -1 at its first row."""
        step = np.zeros(len(self.y), np.int64)
        step[np.concatenate([[0], np.cumsum(self.lengths)[:-1]])] = -1
        return step


class Settings(NamedTuple):
    """How to fit; see :class:`hidamari.models.cvhm.CVHM` for their meaning."""

    max_iter: int = 100
    tol: float = 1e-5
    learn_kernel: str | None = "evidence"
    prior_strength: float = 20.0
    fixed: tuple[str, ...] = ()
    n_threads: int | None = None


class Fit(NamedTuple):
    """What a fit found and how it ended."""

    readout: Readout
    prior: LoadingPrior
    kernels: list[Kernel]
    likelihood: Likelihood
    posterior: Posterior
    history: list[float]  # the objective before the first round and after each
    converged: bool
    message: str


class _State(NamedTuple):
    readout: Readout
    prior: LoadingPrior
    kernels: list[Kernel]
    likelihood: Likelihood
    posterior: Posterior
    objective: float


def fit_latents(
    problem: Problem,
    kernels: list[Kernel],
    likelihood,
    settings: Settings,
    width: float,
    rng: np.random.Generator,
    perturb: bool = False,
    readout: Readout | None = None,
    on_round: Callable[[int, float], None] | None = None,
) -> Fit:
    """Fit from principal components of the smoothed data.

    Parameters
    ----------
    problem : Problem
        The data.
    kernels : list of Kernel
        One a latent: where the hyperparameters start.
    likelihood : likelihood of ``hidamari.inference.likelihoods``
        Its own parameters are learnt too, unless "likelihood" is in ``settings.fixed``.
    settings : Settings
        How to fit.
    width : float
        Smoothing width of the start, in bins.
    rng : numpy.random.Generator
        Source of randomness.
    perturb : bool
        Start from randomly rotated components.
    readout : Readout, optional
        Given loadings or bias, for those named in ``settings.fixed``.
    on_round : callable, optional
        Called with the round and the objective.
    """
    free = ("loadings" not in settings.fixed, "bias" not in settings.fixed)
    start = start_fit(
        problem.y,
        problem.lengths,
        len(kernels),
        likelihood,
        problem.bin_s,
        width,
        rng,
        perturb,
        readout,
        free,
    )
    return refit(
        problem, kernels, likelihood, settings, start.readout, start.prior, start.sites, rng, on_round
    )


def refit(
    problem: Problem,
    kernels: list[Kernel],
    likelihood,
    settings: Settings,
    readout: Readout,
    prior: LoadingPrior,
    sites: Sites | None,
    rng: np.random.Generator,
    on_round: Callable[[int, float], None] | None = None,
) -> Fit:
    """Go on from a read-out, its prior, kernels and sites until the objective settles."""
    y, step, gaps = problem.y, problem.step, np.array([problem.bin_s])
    names = (
        movable(kernels, settings.fixed) if settings.learn_kernel and "kernel" not in settings.fixed else []
    )
    centre = flatten(list(kernels), names)[0] if names else np.zeros(0)
    limits = bounds(names, problem.bin_s, float(np.max(problem.lengths)) * problem.bin_s)
    free = ("loadings" not in settings.fixed, "bias" not in settings.fixed)
    own = type(likelihood).fit_parameters is not Likelihood.fit_parameters
    learnable = own and "likelihood" not in settings.fixed

    def posterior_of(kernels, readout, likelihood, sites, sweeps):
        return infer_sites(
            bank(kernels, gaps, step),
            y,
            readout,
            likelihood,
            problem.bin_s,
            sites,
            sweeps,
            1e-7,
            settings.n_threads,
        )

    def objective(posterior, readout, prior, kernels, constant):
        learnt = log_prior(readout, prior, settings.prior_strength) if free[0] else 0.0
        return posterior.elbo + constant + learnt + kernel_log_prior(kernels, names, centre)

    # what depends on y and on the likelihood's own parameters alone, and so moves with those
    constant = float(np.sum(likelihood.log_base(y)))

    posterior = posterior_of(kernels, readout, likelihood, sites, 8)
    start = objective(posterior, readout, prior, kernels, constant)
    state = _State(readout, prior, list(kernels), likelihood, posterior, start)
    memory = None
    history = [state.objective]
    converged, message = False, f"the objective still rose after max_iter={settings.max_iter} rounds"
    calm = 0
    for n in range(1, settings.max_iter + 1):
        q = state.posterior
        data = (y, q.mean, q.cov, problem.bin_s)
        readout = update_readout(state.readout, state.prior, state.likelihood, *data, n_steps=1, free=free)
        prior = update_prior(readout, state.prior, settings.prior_strength) if free[0] else state.prior
        likelihood = state.likelihood
        if learnable and n > _LATENTS_FIRST:
            mu, v = linear_predictor(readout, q.mean, q.cov)
            likelihood = likelihood.fit_parameters(y, mu, v, problem.bin_s)
            constant = float(np.sum(likelihood.log_base(y)))
        proposal = state.kernels
        if names and settings.learn_kernel == "evidence" and n > 2:
            proposal, memory = improve_kernels(
                state.kernels, names, gaps, step, q.sites, limits, centre, memory, settings.n_threads
            )
        elif names and settings.learn_kernel == "whittle" and 2 < n <= 10:
            ss = bank(state.kernels, gaps, step)
            draws = kalman.sample(ss, q.sites, 2, rng, n_threads=settings.n_threads)
            proposal = whittle_kernels(state.kernels, names, draws, problem.lengths, problem.bin_s, limits)
        new = _State(readout, prior, proposal, likelihood, q, -np.inf)
        for kernels in [proposal] if proposal is state.kernels else [proposal, state.kernels]:
            posterior = posterior_of(kernels, readout, likelihood, q.sites, _SWEEPS)
            value = objective(posterior, readout, prior, kernels, constant)
            new = _State(readout, prior, kernels, likelihood, posterior, value)
            if settings.learn_kernel == "whittle" or value >= state.objective - 1e-10 * abs(state.objective):
                break
            memory = None if memory is None else memory.refused()
        if not np.isfinite(new.objective):
            message = f"stopped in round {n}: {_culprit(new)} became non-finite; the round before is returned"
            break
        gain = new.objective - state.objective
        if gain < -1e-8 * abs(state.objective) and settings.learn_kernel != "whittle":
            message = f"stopped in round {n}: no step raises the objective any more"
            converged = True
            break
        state = new
        history.append(state.objective)
        _log.debug("round %d: objective %.6f", n, state.objective)
        if on_round is not None:
            on_round(n, state.objective)
        calm = calm + 1 if abs(gain) <= settings.tol * max(abs(state.objective), 1.0) else 0
        if calm >= 2:
            converged, message = True, f"the objective settled after {n} rounds"
            break
    posterior = posterior_of(state.kernels, state.readout, state.likelihood, state.posterior.sites, 50)
    return _canonical(state._replace(posterior=posterior), history, converged, message)


def _culprit(state: _State) -> str:
    """Which part of a state holds a number that is not finite."""
    for name, value in (("loadings", state.readout.loadings), ("bias", state.readout.bias)):
        if not np.isfinite(value).all():
            return name
    return "the posterior" if not np.isfinite(state.posterior.elbo) else "the prior"


def _canonical(state: _State, history: list[float], converged: bool, message: str) -> Fit:
    """The same fit with its latents in canonical order and sign."""
    q = state.posterior
    order, signs = canonical_order(state.readout, q.mean)
    loadings = state.readout.loadings[:, order] * signs
    pairs = np.ix_(np.arange(len(q.mean)), order, order)
    flip = signs[:, None] * signs

    def turn(sites: Sites) -> Sites:
        return Sites(
            np.ascontiguousarray(sites.j[:, order] * signs), np.ascontiguousarray(sites.J[pairs] * flip)
        )

    posterior = q._replace(
        sites=turn(q.sites),
        mean=np.ascontiguousarray(q.mean[:, order] * signs),
        cov=np.ascontiguousarray(q.cov[pairs] * flip),
        target=turn(q.target),
    )
    readout = Readout(np.ascontiguousarray(loadings), state.readout.bias)
    prior = state.prior._replace(relevance=state.prior.relevance[order])
    kernels = [state.kernels[i] for i in order]
    return Fit(readout, prior, kernels, state.likelihood, posterior, history, converged, message)
