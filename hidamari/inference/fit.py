r"""The alternation that fits a latent model: sites, read-out, prior and kernels, each never losing ground.

What rises is the ELBO plus the log priors of the read-out and of the kernel hyperparameters. One round is

1. a Newton step on loadings and bias given q, and the mode of the learnt prior given the loadings;
2. a step of the kernels up the evidence of the sites (or Whittle's likelihood of posterior draws);
3. a point further along, extrapolated from the last rounds (Anderson);
4. one natural-gradient step there: a single pass of the smoother, after which the objective is known.

If the objective has not risen, step 4 is done at the point of 1 and 2, and failing that the round is done
again with checked steps and the old kernels, under which it must rise.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hidamari.inference.extrapolate import extrapolate
from hidamari.inference.learn import Memory, bounds, improve_kernels, kernel_log_prior, movable
from hidamari.inference.likelihoods import Likelihood
from hidamari.inference.posterior import (
    Posterior,
    condition,
    condition_with_slope,
    infer_sites,
    site_kl,
)
from hidamari.inference.predict import trial_steps
from hidamari.inference.readout import (
    LoadingPrior,
    Slopes,
    canonical_order,
    log_prior,
    newton_step,
    slopes,
    update_prior,
    update_readout,
)
from hidamari.inference.sites import Readout, expected_sites, linear_predictor
from hidamari.inference.start import start_fit
from hidamari.inference.whittle import whittle_kernels
from hidamari.parameters import flatten, unflatten
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Kernel, bank
from hidamari.statespace.types import Sites, StateSpace

__all__ = ["Fit", "Problem", "Settings", "fit_latents", "refit"]

_MEMORY = 8  # rounds that an extrapolation looks back on
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
        """Step of every row."""
        return trial_steps(self.lengths)


class Settings(NamedTuple):
    """How to fit; see :class:`hidamari.models.cvhm.CVHM` for their meaning."""

    max_iter: int = 200
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
    """A model, its posterior, the slopes of read-out and evidence, and the objective there."""

    model: _Model
    posterior: Posterior
    slopes: Slopes
    slope: StateSpace | None  # of the evidence by the chains' matrices, where kernels follow it
    objective: float


_NOWHERE = Slopes(np.zeros(0), np.zeros(0), np.zeros(0))


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
    climbing: bool  # whether kernels follow the slope of the evidence


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
        "likelihood" not in settings.fixed,
    )
    return refit(
        problem, kernels, start.likelihood, settings, start.readout, start.prior, start.sites, rng, on_round
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
    state = _settle(rules, _Model(readout, prior, list(kernels), likelihood), sites, 8)
    exact = settings.learn_kernel != "whittle"  # draws are random: a round may then lose a little
    # a part that has not begun to move must not be mistaken for one that has settled
    last_to_begin = _LATENTS_FIRST if rules.learnable else _SITES_FIRST if rules.names else 0
    memory, past = None, []
    history = [state.objective]
    converged, message, calm = False, f"the objective still rose after max_iter={settings.max_iter} rounds", 0
    for n in range(1, settings.max_iter + 1):
        target = _maximise(rules, state, n)
        kernels, memory = _propose_kernels(rules, state, memory, n, rng)
        target = target._replace(kernels=kernels)
        candidates = [target]
        if exact and n > _LATENTS_FIRST:
            past = [*past, (_vector(rules, state.model), _vector(rules, target))][-_MEMORY:]
            further = _at_vector(rules, target, extrapolate(past))
            candidates = [target] if further is None else [further, target]
        new = state
        for candidate in candidates:
            new = _step(rules, candidate, state.posterior)
            if new.objective >= state.objective - 1e-10 * abs(state.objective):
                break
            past = []
        else:
            if exact or not np.isfinite(new.objective):
                memory = None if memory is None else memory.refused()
                new = _careful_step(rules, state)
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
    state = _settle(rules, state.model, state.posterior.sites, 50)
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
    climbing = bool(names) and settings.learn_kernel == "evidence"
    constant = float(np.sum(likelihood.log_base(problem.y)))
    return _Rules(
        problem, settings, problem.step, gaps, names, limits, centre, free, learnable, constant, climbing
    )


def _objective(rules: _Rules, model: _Model, elbo: float) -> float:
    """ELBO with its constants, plus the log priors of what is learnt."""
    constant = rules.constant
    if rules.learnable:
        constant = float(np.sum(model.likelihood.log_base(rules.problem.y)))
    constant += log_prior(model.readout, model.prior, rules.settings.prior_strength, rules.free)
    return elbo + constant + kernel_log_prior(model.kernels, rules.names, rules.centre)


def _step(rules: _Rules, model: _Model, q: Posterior) -> _State:
    """One full natural-gradient step from q under a new model: a single pass of the smoother."""
    y, bin_s, threads = rules.problem.y, rules.problem.bin_s, rules.settings.n_threads
    # a step too far overflows; its objective is then not finite, and it is taken back
    with np.errstate(over="ignore", invalid="ignore"):
        sites = expected_sites(
            model.readout, model.likelihood, y, q.mean, q.cov, bin_s, n_threads=threads
        ).sites
        if not (np.isfinite(sites.J).all() and np.isfinite(sites.j).all()):
            return _State(model, q, _NOWHERE, None, -np.inf)
        ss = bank(model.kernels, rules.gaps, rules.step)
        if rules.climbing:
            mean, cov, log_evidence, slope = condition_with_slope(ss, sites, threads)
        else:
            (mean, cov, log_evidence), slope = condition(ss, sites, threads), None
        at = slopes(model.readout, model.likelihood, y, mean, cov, bin_s, threads)
        elbo = float(at.value.sum()) - site_kl(sites, mean, cov, log_evidence)
        value = _objective(rules, model, elbo)
    posterior = Posterior(sites, mean, cov, sites, elbo, (elbo,), False)
    return _State(model, posterior, at, slope, value if np.isfinite(value) else -np.inf)


def _settle(rules: _Rules, model: _Model, sites: Sites | None, sweeps: int) -> _State:
    """Natural-gradient sweeps with steps taken back when they lower the ELBO."""
    readout, _, kernels, likelihood = model
    y, bin_s, threads = rules.problem.y, rules.problem.bin_s, rules.settings.n_threads
    ss = bank(kernels, rules.gaps, rules.step)
    posterior = infer_sites(ss, y, readout, likelihood, bin_s, sites, sweeps, 1e-7, threads)
    at = slopes(readout, likelihood, y, posterior.mean, posterior.cov, bin_s, threads)
    slope = condition_with_slope(ss, posterior.sites, threads)[3] if rules.climbing else None
    return _State(model, posterior, at, slope, _objective(rules, model, posterior.elbo))


def _careful_step(rules: _Rules, state: _State) -> _State:
    """A round that cannot lose ground: checked Newton steps, the old kernels, checked sweeps."""
    readout, prior, kernels, likelihood = state.model
    q, y, bin_s = state.posterior, rules.problem.y, rules.problem.bin_s
    readout = update_readout(readout, prior, likelihood, y, q.mean, q.cov, bin_s, n_steps=1, free=rules.free)
    prior = update_prior(readout, rules.settings.prior_strength, prior.unit)
    return _settle(rules, _Model(readout, prior, kernels, likelihood), q.sites, 2)


def _maximise(rules: _Rules, state: _State, n: int) -> _Model:
    """The read-out, its prior and the likelihood's parameters that should suit q better."""
    readout, prior, kernels, likelihood = state.model
    q, y, bin_s = state.posterior, rules.problem.y, rules.problem.bin_s
    readout = newton_step(readout, prior, state.slopes, rules.free)
    prior = update_prior(readout, rules.settings.prior_strength, prior.unit)
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
    if rules.climbing:
        if state.slope is None:
            return kernels, memory
        grid = (rules.gaps, rules.step)
        return improve_kernels(kernels, rules.names, *grid, state.slope, rules.limits, rules.centre, memory)
    draws = kalman.sample(
        bank(kernels, rules.gaps, rules.step), state.posterior.sites, 2, rng, n_threads=threads
    )
    problem = rules.problem
    return whittle_kernels(kernels, rules.names, draws, problem.lengths, problem.bin_s, rules.limits), memory


def _vector(rules: _Rules, model: _Model) -> np.ndarray:
    """Loadings and bias on their scale, and logarithms of the moving hyperparameters, as one vector."""
    parts = [model.readout.loadings.ravel() / model.prior.unit, model.readout.bias / model.prior.unit]
    if rules.names:
        parts.append(flatten(model.kernels, rules.names)[0])
    return np.concatenate(parts)


def _at_vector(rules: _Rules, model: _Model, vector: np.ndarray | None) -> _Model | None:
    """The model with the parts of a vector put in."""
    if vector is None:
        return None
    N, K = model.readout.loadings.shape
    loadings, bias, moving = np.split(vector, [N * K, N * K + N])
    given, unit = model.readout, model.prior.unit
    readout = Readout(
        loadings.reshape(N, K) * unit if rules.free[0] else given.loadings,
        bias * unit if rules.free[1] else given.bias,
    )
    kernels = model.kernels
    if rules.names:
        kernels = unflatten(kernels, np.clip(moving, *np.transpose(rules.limits)), rules.names)
    prior = update_prior(readout, rules.settings.prior_strength, model.prior.unit)
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
