r"""The alternation that fits a latent model: sites, read-out, prior and kernels, each never losing ground.

What rises is the ELBO plus the log priors of the read-out and of the kernel hyperparameters. One round is

1. Newton steps on loadings and bias given q (raises the expected log likelihood plus log prior);
2. the mode of the learnt prior given the loadings;
3. a proposal for the kernels from the evidence of the sites (or Whittle's likelihood of posterior draws);
4. natural-gradient sweeps from the last sites, first at a point extrapolated from the last rounds (Anderson),
   then, if the objective has not risen there, at the proposal itself, and then with the kernels put back,
   under which it must rise.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hidamari.inference.extrapolate import extrapolate
from hidamari.inference.learn import Memory, bounds, improve_kernels, kernel_log_prior, movable
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
from hidamari.parameters import flatten, unflatten
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Kernel, bank
from hidamari.statespace.types import Sites

__all__ = ["Fit", "Problem", "Settings", "fit_latents", "refit"]

_SWEEPS = 1  # natural-gradient sweeps a round
_MEMORY = 4  # rounds that an extrapolation looks back on
_WHITTLE_ROUNDS = 10
_SITES_FIRST = 2  # rounds before the kernels move
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


class _Model(NamedTuple):
    """Everything that is learnt beside the sites."""

    readout: Readout
    prior: LoadingPrior
    kernels: list[Kernel]
    likelihood: Likelihood


class _State(NamedTuple):
    """A model, its posterior, and the objective there."""

    model: _Model
    posterior: Posterior
    objective: float


class _Rules(NamedTuple):
    """What stays the same from round to round."""

    problem: Problem
    settings: Settings
    step: np.ndarray
    gaps: np.ndarray
    names: list[str]  # hyperparameters that move
    limits: list[tuple[float, float]]
    centre: np.ndarray
    free: tuple[bool, bool]  # whether loadings and bias move
    learnable: bool  # whether the likelihood's own parameters move
    constant: float  # of log p(y | eta), as long as they do not


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
    rules = _rules(problem, kernels, likelihood, settings)
    state = _evaluate(rules, _Model(readout, prior, list(kernels), likelihood), sites, 8)
    exact = settings.learn_kernel != "whittle"  # draws are random: a round may then lose a little
    # a part that has not begun to move must not be mistaken for one that has settled
    last_to_begin = _LATENTS_FIRST if rules.learnable else _SITES_FIRST if rules.names else 0
    memory, past = None, []
    history = [state.objective]
    converged, message, calm = False, f"the objective still rose after max_iter={settings.max_iter} rounds", 0
    for n in range(1, settings.max_iter + 1):
        plain = _maximise(rules, state, n)
        kernels, memory = _propose_kernels(rules, state, memory, n, rng)
        target = plain._replace(kernels=kernels)
        candidates = [target] if kernels is state.model.kernels else [target, plain]
        if exact and n > _LATENTS_FIRST:
            past = [*past[-_MEMORY:], (_vector(rules, state.model), _vector(rules, target))]
            further = _at_vector(rules, target, extrapolate(past))
            candidates = candidates if further is None else [further, *candidates]
        new = state
        for candidate in candidates:
            new = _evaluate(rules, candidate, state.posterior.sites, _SWEEPS)
            if not exact or new.objective >= state.objective - 1e-10 * abs(state.objective):
                break
            if candidate is target and memory is not None:
                memory = memory.refused()
            past = []
        if not np.isfinite(new.objective):
            message = f"stopped in round {n}: {_culprit(new)} became non-finite; the round before is returned"
            break
        gain = new.objective - state.objective
        if exact and gain < -1e-8 * abs(state.objective):
            if n <= last_to_begin:
                continue
            converged, message = True, f"the objective settled after {n - 1} rounds: no step raises it"
            break
        state = new
        history.append(state.objective)
        _log.debug("round %d: objective %.6f", n, state.objective)
        if on_round is not None:
            on_round(n, state.objective)
        still = abs(gain) <= settings.tol * max(abs(state.objective), 1.0)
        calm = calm + 1 if still and n > last_to_begin else 0
        if calm >= 2:
            converged, message = True, f"the objective settled after {n} rounds"
            break
    state = _evaluate(rules, state.model, state.posterior.sites, 50)
    return _canonical(state, history, converged, message, sort=rules.free[0])


def _rules(problem: Problem, kernels: list[Kernel], likelihood: Likelihood, settings: Settings) -> _Rules:
    """Settle what moves and within which limits."""
    learning = settings.learn_kernel is not None and "kernel" not in settings.fixed
    names = movable(kernels, settings.fixed) if learning else []
    centre = flatten(list(kernels), names)[0] if names else np.zeros(0)
    limits = bounds(names, problem.bin_s, float(np.max(problem.lengths)) * problem.bin_s)
    free = ("loadings" not in settings.fixed, "bias" not in settings.fixed)
    own = type(likelihood).fit_parameters is not Likelihood.fit_parameters
    learnable = own and "likelihood" not in settings.fixed
    gaps = np.array([problem.bin_s])
    constant = float(np.sum(likelihood.log_base(problem.y)))
    return _Rules(problem, settings, problem.step, gaps, names, limits, centre, free, learnable, constant)


def _evaluate(rules: _Rules, model: _Model, sites: Sites | None, sweeps: int) -> _State:
    """Sweeps from the sites under a model, and the objective there."""
    readout, prior, kernels, likelihood = model
    y, bin_s = rules.problem.y, rules.problem.bin_s
    ss = bank(kernels, rules.gaps, rules.step)
    threads = rules.settings.n_threads
    posterior = infer_sites(ss, y, readout, likelihood, bin_s, sites, sweeps, 1e-7, threads)
    value = posterior.elbo + (float(np.sum(likelihood.log_base(y))) if rules.learnable else rules.constant)
    value += log_prior(readout, prior, rules.settings.prior_strength, rules.free)
    return _State(model, posterior, value + kernel_log_prior(kernels, rules.names, rules.centre))


def _maximise(rules: _Rules, state: _State, n: int) -> _Model:
    """The read-out, its prior and the likelihood's parameters that suit q better."""
    readout, prior, kernels, likelihood = state.model
    q, y, bin_s = state.posterior, rules.problem.y, rules.problem.bin_s
    readout = update_readout(readout, prior, likelihood, y, q.mean, q.cov, bin_s, n_steps=1, free=rules.free)
    prior = update_prior(readout, rules.settings.prior_strength)
    if rules.learnable and n > _LATENTS_FIRST:
        mu, v = linear_predictor(readout, q.mean, q.cov)
        likelihood = likelihood.fit_parameters(y, mu, v, bin_s)
    return _Model(readout, prior, kernels, likelihood)


def _propose_kernels(
    rules: _Rules, state: _State, memory: Memory | None, n: int, rng: np.random.Generator
) -> tuple[list[Kernel], Memory | None]:
    """Kernels that suit the sites better; the ones there are, when they do not move in this round."""
    kernels, threads = state.model.kernels, rules.settings.n_threads
    if (
        not rules.names
        or n <= _SITES_FIRST
        or (rules.settings.learn_kernel == "whittle" and n > _WHITTLE_ROUNDS)
    ):
        return kernels, memory
    if rules.settings.learn_kernel == "evidence":
        grid = (rules.gaps, rules.step)
        sites = state.posterior.sites
        return improve_kernels(
            kernels, rules.names, *grid, sites, rules.limits, rules.centre, memory, threads
        )
    draws = kalman.sample(
        bank(kernels, rules.gaps, rules.step), state.posterior.sites, 2, rng, n_threads=threads
    )
    problem = rules.problem
    return whittle_kernels(kernels, rules.names, draws, problem.lengths, problem.bin_s, rules.limits), memory


def _vector(rules: _Rules, model: _Model) -> np.ndarray:
    """Loadings, bias and logarithms of the moving hyperparameters as one vector."""
    parts = [model.readout.loadings.ravel(), model.readout.bias]
    if rules.names:
        parts.append(flatten(model.kernels, rules.names)[0])
    return np.concatenate(parts)


def _at_vector(rules: _Rules, model: _Model, vector: np.ndarray | None) -> _Model | None:
    """The model with the parts of a vector put in."""
    if vector is None:
        return None
    N, K = model.readout.loadings.shape
    loadings, bias, moving = np.split(vector, [N * K, N * K + N])
    readout = Readout(loadings.reshape(N, K), bias)
    kernels = model.kernels
    if rules.names:
        kernels = unflatten(kernels, np.clip(moving, *np.transpose(rules.limits)), rules.names)
    prior = update_prior(readout, rules.settings.prior_strength)
    return _Model(readout, prior, kernels, model.likelihood)


def _culprit(state: _State) -> str:
    """Which part of a state holds a number that is not finite."""
    readout = state.model.readout
    for name, value in (("loadings", readout.loadings), ("bias", readout.bias)):
        if not np.isfinite(value).all():
            return name
    return "the posterior" if not np.isfinite(state.posterior.elbo) else "the prior"


def _canonical(state: _State, history: list[float], converged: bool, message: str, sort: bool) -> Fit:
    """The same fit with its latents in canonical order and sign; untouched where loadings were given."""
    q, (readout, prior, kernels, likelihood) = state.posterior, state.model
    if not sort:
        return Fit(readout, prior, kernels, likelihood, q, history, converged, message)
    order, signs = canonical_order(readout, q.mean)
    loadings = readout.loadings[:, order] * signs
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
    readout = Readout(np.ascontiguousarray(loadings), readout.bias)
    prior = prior._replace(relevance=prior.relevance[order])
    kernels = [kernels[i] for i in order]
    return Fit(readout, prior, kernels, likelihood, posterior, history, converged, message)
