"""Where a Gaussian process begins: mean, noise and kernel on the scales of the data, and what is held."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from hidamari.inference.likelihoods import Gaussian, Likelihood, get_likelihood
from hidamari.inference.maximise import maximise
from hidamari.inference.mcmc import sample_hyperparameters
from hidamari.inference.objective import GPModel
from hidamari.inference.regression import Data, Factors, condition, gather
from hidamari.inference.search import is_real
from hidamari.inference.series import Series
from hidamari.parameters import flatten, paths, unflatten
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Kernel, Matern, bank
from hidamari.statespace.types import Readings, Sites

__all__ = ["Learnt", "draw", "hold", "learn", "movable", "outer_names", "start_model"]

_ENOUGH = 20_000  # rows to judge a start by
_MANY = 2 * _ENOUGH  # rows from which on learning begins with a part of them
_LENGTHS = 7  # lengthscales tried, from two rows to the whole span
_NOISES = (0.5, 0.1, 0.01)  # shares of the variance of the data tried for the noise
_SPREADS = (0.1, 1.0)  # prior variances of a log rate or a logit tried


def start_model(data: Data, kernel: Kernel | None, likelihood: str | Likelihood, mean: Any) -> GPModel:
    """A model to begin with: what is given as it is, the rest of the best of a few scales of the data.

    Each candidate is judged by the evidence of Gaussian sites at the mean of each output, its exact evidence
    for Gaussian noise. Everything scales with the units of the data and of time.

    Parameters
    ----------
    data : Data
        Observations.
    kernel : Kernel, optional
        By default a Matern kernel of order 1.
    likelihood : str or Likelihood
        A name stands for parameters on the scale of the data, for each output its own.
    mean : float or array_like (output,), optional
        Prior mean on the scale of the linear predictor; by default that of the data.

    Returns
    -------
    GPModel
    """
    N = data.values.shape[1]
    given = get_likelihood(likelihood)
    bias = _means(data, given) if mean is None else _given(mean, N)
    spread = _spreads(data.values)
    own = [given]
    if isinstance(likelihood, str):
        own = _likelihoods(given, spread)
    kernels = [kernel] if kernel is not None else _kernels(data, given, spread)
    candidates = [GPModel(k, one, bias) for k in kernels for one in own]
    if len(candidates) == 1:
        return candidates[0]
    series = gather(_sample(data)).series
    return max(candidates, key=lambda model: _promise(model, series, data.exposure))


def _given(mean: Any, n_outputs: int) -> np.ndarray:
    """The mean of each output as the user gives it."""
    try:
        bias = np.broadcast_to(np.asarray(mean, dtype=float), n_outputs).copy()
    except (TypeError, ValueError):
        bias = np.full(1, np.nan)
    if not np.isfinite(bias).all():
        raise ValueError(f"mean must be a finite number, or {n_outputs} of them, found {mean!r}")
    return bias


def _sample(data: Data) -> Data:
    """No more rows than it takes to judge a start: some trials, of long ones a stretch and every n-th row."""
    if len(data.values) <= _ENOUGH:
        return data
    ends = np.cumsum([len(own) for own in data.times])[:-1]
    values = np.split(data.values, ends)
    error = None if data.error is None else np.split(data.error, ends)
    times, seen, known = [], [], []
    trials = np.random.default_rng(0).permutation(len(values))
    for r in trials:
        order, half = np.argsort(data.times[r], kind="stable"), _ENOUGH // 2
        stretches = [order] if len(order) <= half else [order[:half], order[:: -(-len(order) // half)]]
        for rows in stretches:
            times.append(data.times[r][rows])
            seen.append(values[r][rows])
            known.append(None if error is None else error[r][rows])
        if sum(map(len, times)) >= _ENOUGH:
            break
    return Data(times, np.concatenate(seen), None if error is None else np.concatenate(known), data.exposure)


def _means(data: Data, likelihood: Likelihood) -> np.ndarray:
    """Linear predictor of the mean of each output; half an observation more keeps logarithms finite."""
    seen = ~np.isnan(data.values)
    n = np.maximum(seen.sum(0), 1)
    # sums of halves cannot overflow where the values themselves are finite
    mean = np.where(seen, data.values / n, 0.0).sum(0)
    if likelihood.real:
        return mean
    most = np.asarray(getattr(likelihood, "n", np.inf), float)
    with np.errstate(divide="ignore", invalid="ignore"):
        shrunk = np.where(np.isinf(most), mean + 0.5 / n, (mean * n + 0.5 * most) / (n + 1.0))
        bias = np.asarray(likelihood.link(shrunk, data.exposure), float)
    return np.where(np.isfinite(bias) & seen.any(0), bias, 0.0)


def _spreads(y: np.ndarray) -> np.ndarray:
    """Variance of each output about its mean; where it is rounding, the square of its size, or 1."""
    seen = ~np.isnan(y)
    n = np.maximum(seen.sum(0), 1)
    size = np.abs(np.where(seen, y, 0.0)).max(0, initial=0.0)
    unit = np.where(size > 0.0, size, 1.0)
    scaled = np.where(seen, y, 0.0) / unit
    centred = np.where(seen, scaled - scaled.sum(0) / n, 0.0)
    variance = (centred**2).sum(0) / n
    return np.where(variance > 1e-26, variance, 1.0) * unit * unit


def _likelihoods(likelihood: Likelihood, spread: np.ndarray) -> list[Likelihood]:
    """The likelihood with parameters on the scale of the data, one for each output if there are several."""
    wide = spread if len(spread) > 1 else float(spread[0])
    found: list[Likelihood] = []
    names = {field.name for field in dataclasses.fields(likelihood)}  # type: ignore[arg-type]
    for share in _NOISES:
        moved = {"variance": share * wide, "scale": np.sqrt(share * wide)} if likelihood.real else {}
        moved |= {"dispersion": np.full(len(spread), 10.0) if len(spread) > 1 else 10.0}
        moved = {name: value for name, value in moved.items() if name in names}
        found.append(dataclasses.replace(likelihood, **moved) if moved else likelihood)  # type: ignore[type-var]
    return found if likelihood.real else found[:1]


def _kernels(data: Data, likelihood: Likelihood, spread: np.ndarray) -> list[Kernel]:
    """Matern kernels of several lengthscales, with the variance of the data, or common ones of a link."""
    span = max(float(np.ptp(own)) for own in data.times)
    gaps = np.concatenate([np.diff(np.sort(own)) for own in data.times])
    gaps = gaps[gaps > 0.0]
    variances = [float(np.mean(spread))] if likelihood.real else list(_SPREADS)
    if not len(gaps):
        return [Matern(1, 1.0, v) for v in variances]
    shortest = min(2.0 * float(np.median(gaps)), span)
    lengths = np.geomspace(shortest, span, _LENGTHS) if span > shortest else np.array([span])
    return [Matern(1, float(length), v) for length in lengths for v in variances]


def _promise(model: GPModel, series: Series, exposure: float) -> float:
    """Log evidence of the sites of one step from the prior mean; exact for Gaussian noise."""
    bias, likelihood = model.bias[series.output], _by_row(model.likelihood, series.output)
    ss = bank([model.kernel], series.gaps, series.step)
    if isinstance(likelihood, Gaussian):
        R = np.zeros(len(bias)) + np.asarray(likelihood.variance, float)
        R += 0.0 if series.error is None else series.error
        return kalman.evidence(ss, Readings((series.y - bias)[:, None], R[:, None]))
    E, alpha, beta = likelihood.expectations(series.y, bias, 0.0, exposure)
    return float(np.sum(E)) + kalman.evidence(ss, Sites(alpha[:, None], beta[:, None]))


def _by_row(likelihood: Any, output: np.ndarray) -> Likelihood:
    """The likelihood with one parameter for each row, where it has one for each output."""
    own = {
        field.name: getattr(likelihood, field.name)[output]
        for field in dataclasses.fields(likelihood)
        if field.init and np.ndim(getattr(likelihood, field.name)) == 1
    }
    return dataclasses.replace(likelihood, **own) if own else likelihood


def hold(model: GPModel, fixed: Mapping[str, Any]) -> tuple[GPModel, list[str]]:
    """Put in the values that are given, and name what is left to learn.

    Parameters
    ----------
    model : GPModel
        Where learning starts.
    fixed : mapping
        From a part ("kernel", "likelihood", "mean"), a path ("kernel.first.lengthscale") or the end of some
        ("lengthscale") to a value, one value each, or None to hold it where it starts.

    Returns
    -------
    tuple of GPModel and list of str
        Paths as of ``flatten(model)``.

    Raises
    ------
    ValueError
        If a name is not among the parameters, or a value is not allowed.

    Examples
    --------
    >>> model = GPModel(Matern(), Gaussian(0.1), np.zeros(1))
    >>> model, names = hold(model, {"lengthscale": 2.0, "mean": None})
    >>> model.kernel.lengthscale, names
    (2.0, ['kernel.variance', 'likelihood.variance'])
    """
    held = set()
    for name, value in fixed.items():
        found = [path for path in paths(model) if _means_path(str(name), path)]
        if not found:
            allowed = sorted({outer_names(path.split("[")[0]) for path in paths(model)})
            raise ValueError(f"fixed has {name!r}; allowed here are 'kernel', 'likelihood' and {allowed}")
        held.update(found)
        if value is None:
            continue
        if name in ("kernel", "likelihood"):
            raise ValueError(f"fixed[{name!r}] takes no value: give it as the argument {name}=")
        model = _with_values(model, str(name), found, value)
    return model, [name for name in flatten(model)[1] if name not in held]


def movable(names: list[str], model: GPModel, data: Data, mean_given: bool) -> list[str]:
    """What can be learnt: nothing from one entry, no mean that is given or that exact observations hide."""
    if np.isfinite(data.values).sum() < 2:  # of one observation any model makes a certainty
        return []
    noise = np.asarray(getattr(model.likelihood, "variance", 1.0)) + (
        0.0 if data.error is None else data.error
    )
    exact = bool(np.any((noise == 0.0) & np.isfinite(data.values)))
    return [name for name in names if not ((mean_given or exact) and name.startswith("bias"))]


def draw(
    model: GPModel,
    fixed: Mapping[str, Any],
    mean_given: bool,
    data: Data,
    priors: Mapping[str, Any] | None,
    n_warmup: int,
    n_samples: int,
    n_chains: int,
    random_state: int | np.random.Generator | None,
    progress: bool | None,
) -> Any:
    """Draws of the hyperparameters from their posterior, as a DataTree in the user's words."""
    model, names = hold(model, fixed)
    names = movable(names, model, data, mean_given)
    tree = sample_hyperparameters(
        model,
        names,
        gather(data).series,
        _inner_names(priors),
        n_warmup,
        n_samples,
        n_chains,
        random_state=random_state,
        progress=progress,
        exposure=data.exposure,
    )
    groups = {name: group.to_dataset() for name, group in tree.children.items()}
    own = groups["posterior"]
    groups["posterior"] = own.rename({name: outer_names(str(name)) for name in own.data_vars})
    table = groups["diagnostics"]
    words = [outer_names(str(name)) for name in table["parameter"].values]
    groups["diagnostics"] = table.assign_coords(parameter=words)
    renamed = type(tree).from_dict(groups)
    renamed.attrs |= tree.attrs
    return renamed


class Learnt(NamedTuple):
    """A model, what the data say under it, and how it was found."""

    model: GPModel
    factors: Factors
    log_evidence: float
    standard_errors: dict[str, float]
    n_iter: int
    converged: bool
    message: str


def learn(
    model: GPModel,
    names: list[str],
    data: Data,
    priors: Mapping[str, Any] | None,
    n_init: int,
    random_state: int | np.random.Generator | None,
    max_iter: int,
    tol: float,
    n_threads: int | None,
    on_round: Callable[[int, float], None] | None,
) -> Learnt:
    """Move the named hyperparameters, if there are any, to the top of the evidence; condition on the data."""
    errors, ended = {}, (0, True, "there is nothing to learn")
    if names:
        rounds = count(1)
        search = partial(
            maximise,
            model,
            names,
            priors=_inner_names(priors),
            random_state=random_state,
            exposure=data.exposure,
            max_iter=max_iter,
            tol=tol,
            n_threads=n_threads,
            on_iteration=None if on_round is None else lambda value: on_round(next(rounds), value),
        )
        if len(data.values) > _MANY:  # most of the way on a part of the data
            found = search(gather(data).series, near=search(gather(_sample(data)).series, n_init=n_init))
        else:
            found = search(gather(data).series, n_init=n_init)
        model, errors = found.model, {outer_names(k): v for k, v in found.standard_errors.items()}
        ended = (len(found.history) - 1, found.converged, outer_names(found.message))
    factors, value, settled = condition(model, data, n_threads=n_threads)
    if not settled:
        ended = (ended[0], False, f"{ended[2]}; the posterior has not settled")
    return Learnt(model, factors, value, errors, *ended)


def _means_path(name: str, path: str) -> bool:
    """Whether a user's name stands for a path: itself, its start, or its end."""
    outer = outer_names(path)
    plain = outer.split("[")[0]
    return name in (outer, plain) or plain.startswith(name + ".") or plain.endswith("." + name)


def outer_names(text: str) -> str:
    """A path, or a message with paths, in the user's words: the biases are the prior mean."""
    return re.sub(r"\bbias\b", "mean", text)


def _inner_names(priors: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Priors by the paths of the model."""
    if priors is None:
        return None
    if not isinstance(priors, Mapping):
        raise ValueError(f"priors must be a mapping from paths to distributions, found {priors!r}")
    return {re.sub(r"^mean\b", "bias", str(name)): prior for name, prior in priors.items()}


def _with_values(model: GPModel, name: str, found: list[str], value: Any) -> GPModel:
    """The model with values at some paths."""
    real = is_real(model, found)
    try:
        values = np.broadcast_to(np.asarray(value, dtype=float), len(found))
    except (TypeError, ValueError):
        raise ValueError(f"fixed[{name!r}] must be one number or {len(found)}, found {value!r}") from None
    exact = found[0].startswith("likelihood.variance") and np.all(values == 0.0)
    if exact and isinstance(model.likelihood, Gaussian):
        noise = np.zeros(np.shape(model.likelihood.variance))
        return dataclasses.replace(model, likelihood=Gaussian(float(noise) if noise.ndim == 0 else noise))
    if not (np.isfinite(values) & (real | (values > 0))).all():
        raise ValueError(f"fixed[{name!r}] must be positive and finite, found {value!r}")
    return unflatten(model, np.where(real, values, np.log(np.where(real, 1.0, values))), found)
