"""What Gaussian process models answer: moments, intervals, draws and densities, as variables to label."""

import re
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from hidamari.inference._predictive import latent_quantile, observation_quantile
from hidamari.inference.likelihoods import Gaussian, Likelihood
from hidamari.inference.mcmc import drawn_models
from hidamari.inference.objective import GPModel
from hidamari.models._gp_door import Observed
from hidamari.results import Variable
from hidamari.statespace.kernels import Kernel, steps

__all__ = ["Mixture", "ahead", "answers", "components", "drawn", "drawn_among", "draws_of", "log_densities"]


class Mixture(NamedTuple):
    """Moments under each of several sets of hyperparameters, which weigh the same."""

    means: list[np.ndarray]  # (M, output, 1 + derivatives), eta first
    variances: list[np.ndarray]
    likelihoods: list[Likelihood]


def answers(mixture: Mixture, interval: float | None, exposure: float | None) -> dict[str, Variable]:
    """Moments of eta and of the expected observation, their interval, and derivatives.

    With an ``exposure`` the mean and the interval are those of a new observation.
    """
    m, v = np.stack(mixture.means), np.stack(mixture.variances)
    eta, spread, likelihoods = m[..., 0], v[..., 0], mixture.likelihoods
    seconds = 1.0 if exposure is None else exposure
    each = [one.predictive_mean(a, b, seconds) for one, a, b in zip(likelihoods, eta, spread)]
    mean = np.mean(each, axis=0)
    what = "expected observation" if exposure is None else "mean of a new observation"
    found = {
        "latent_mean": Variable(eta.mean(0), (), "1", "posterior mean of eta"),
        "latent_var": Variable(_total(eta, spread), (), "1", "posterior variance of eta"),
        "mean": Variable(mean, (), "1", what),
    }
    if exposure is not None:
        more = [one.predictive_variance(a, b, seconds) for one, a, b in zip(likelihoods, eta, spread)]
        total = _total(np.stack(each), np.stack(more))
        found["observation_var"] = Variable(total, (), "1", "variance of a new observation")
    if interval is not None:
        tails = (0.5 - 0.5 * interval, 0.5 + 0.5 * interval)
        if exposure is None:
            ends = [likelihoods[0].mean(latent_quantile(p, eta, spread), 1.0) for p in tails]
            ends = [np.minimum(*ends), np.maximum(*ends)]  # a link may fall
        else:
            ends = [observation_quantile(p, eta, spread, likelihoods, exposure) for p in tails]
        of = "the expected observation" if exposure is None else "a new observation"
        for name, end in zip(("lower", "upper"), ends):
            found[name] = Variable(end, (), "1", f"{name} end of the {interval:.0%} interval of {of}")
    if m.shape[-1] > 1:
        slope, noise = m[..., 1:], v[..., 1:]
        dims = ("derivative",)
        found["derivative_mean"] = Variable(slope.mean(0), dims, "1", "posterior mean of derivatives of eta")
        found["derivative_var"] = Variable(_total(slope, noise), dims, "1", "posterior variance of these")
    return found


def _total(means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Variance of an equal mixture, (B, ...) -> (...)."""
    return variances.mean(0) + means.var(0)


def drawn(
    paths: list[np.ndarray], likelihoods: list[Likelihood], exposure: float | None, rng: np.random.Generator
) -> dict[str, Variable]:
    """Draws of eta (n, M, output) by likelihood, what they expect, and with an exposure observations."""
    means = [one.mean(path, 1.0) for one, path in zip(likelihoods, paths)]
    kinds = {"latent_draw": (paths, "posterior draws of eta"), "mean_draw": (means, "expected observation")}
    if exposure is not None:
        seen = [one.sample(path, rng, exposure) for one, path in zip(likelihoods, paths)]
        kinds["observation_draw"] = (seen, "draws of new observations")
    return {
        name: Variable(np.moveaxis(np.concatenate(each), 0, -1), ("draw",), "1", what)
        for name, (each, what) in kinds.items()
    }


def components(
    terms: list[Kernel], mean: np.ndarray, var: np.ndarray, bias: np.ndarray
) -> tuple[dict[str, Variable], list[str]]:
    """Moments of f and of each term of a sum (M, output, 1 + terms), and a name for each term."""
    total = mean[..., 0] + bias
    variables = {
        "latent_mean": Variable(total, (), "1", "posterior mean of eta"),
        "latent_var": Variable(var[..., 0], (), "1", "posterior variance of eta"),
        "prior_mean": Variable(np.broadcast_to(bias, total.shape), (), "1", "prior mean of eta"),
        "component_mean": Variable(mean[..., 1:], ("component",), "1", "posterior mean of each term"),
        "component_var": Variable(var[..., 1:], ("component",), "1", "posterior variance of each term"),
    }
    kinds = [type(term).__name__ for term in terms]
    count, seen, names = Counter(kinds), Counter(), []
    for kind in kinds:
        seen[kind] += 1
        names.append(kind if count[kind] == 1 else f"{kind}_{seen[kind]}")
    return variables, names


def log_densities(
    likelihood: Likelihood, other: Observed, m: np.ndarray, v: np.ndarray, exposure: float
) -> dict[str, Variable]:
    """Log density of each entry of new data, its eta ~ N(m, v)."""
    if isinstance(likelihood, Gaussian) and other.error is not None:
        total = v + np.asarray(likelihood.variance, float) + other.error
        logs = -0.5 * ((other.values - m) ** 2 / total + np.log(2.0 * np.pi * total))
    else:
        logs = likelihood.log_predictive(other.values, m, v, exposure)
    found = np.where(np.isnan(other.values), np.nan, logs)
    return {"log_density": Variable(found, (), "1", "log predictive density of each entry")}


def ahead(times: list[np.ndarray], n: int) -> list[np.ndarray]:
    """The next n times of every trial, whose rows must be evenly spaced."""
    if all(len(own) < 2 for own in times):
        raise ValueError("forecast needs a spacing, and no trial has two rows; allowed: predict(times)")
    gaps, step = steps([np.sort(own) for own in times])
    used = gaps[np.unique(step[step >= 0])]
    if len(used) != 1 or used[0] <= 0.0:
        raise ValueError(
            f"forecast needs evenly spaced rows, found spacings from {used.min():g} to {used.max():g}; "
            "allowed: predict(times)"
        )
    return [own.max() + used[0] * np.arange(1, n + 1) for own in times]


def draws_of(tree: Any) -> dict[str, np.ndarray]:
    """Draws (chain, draw) by path, which a file can hold."""
    posterior = tree["posterior"]
    return {str(name): np.asarray(posterior[name], dtype=np.float64) for name in posterior.data_vars}


def drawn_among(model: GPModel, draws: dict[str, np.ndarray], n: int) -> list[GPModel]:
    """Models of at most n of the draws, evenly spaced."""
    import xarray as xr

    data = {re.sub(r"^mean\b", "bias", name): (("chain", "draw"), own) for name, own in draws.items()}
    n = min(n, next(iter(draws.values())).size)
    return drawn_models(model, {"posterior": xr.Dataset(data)}, n)
