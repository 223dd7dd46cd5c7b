"""Labelled answers of autoregressions in which every output feels the past of all."""

from typing import Any

import numpy as np

from hidamari.arrays import split
from hidamari.inference.ar_intervals import error_quantiles
from hidamari.inference.vector_autoregression import VectorFit, coupling, fit_vector
from hidamari.inference.vector_forecast import (
    is_stationary,
    vector_draws,
    vector_forecast,
    vector_response,
)
from hidamari.models._ar_answers import n_recent, normal
from hidamari.models._ar_labels import drawn, labelled, table
from hidamari.models._ar_series import listen
from hidamari.models._door import check_whole
from hidamari.models._gp_door import Observed

__all__ = ["attributes", "coefficients", "couplings", "forecast", "predict", "sample", "score", "smooth"]

_PENALTIES = (None, "l1", "scad", "mcp", "group")


def attributes(model: Any, observed: Observed, lags: np.ndarray) -> dict[str, Any]:
    """What a fit leaves in a model."""
    automatic = isinstance(model.n_lags, str)
    penalty = ("group" if automatic else None) if model.penalty == "auto" else model.penalty
    refused = {
        "solver": model.solver not in ("auto", "exact", "sparse"),
        "penalty": penalty not in _PENALTIES,
        "alpha": model.alpha in ("cv", "paper"),
        "strategy": model.strategy != "recursive",
        "hidden": bool(model.hidden),
        "pooling": model.pooling is not None,
        "missing": model.missing == "exact",
        "measurement_noise": model.measurement_noise,
        "stationary": model.stationary,
        "trend": model.trend is not None,
        "seasonality": bool(model.seasonality),
        "events": bool(model.events),
    }
    for name, bad in refused.items():
        if bad:
            raise ValueError(f"{name} is {getattr(model, name)!r}, which coupling=True does not allow")
    names = [str(name) for name in observed.names]
    fit = fit_vector(
        split(observed.values, observed.lengths), lags.tolist(), penalty, model.alpha, names=names
    )
    N = len(names)
    at = lags - 1
    return {
        "solver_": "exact" if penalty is None else "sparse",
        "lags_": lags,
        "coef_names_": np.array([f"{name} lag {lag}" for name in names for lag in lags], dtype=str),
        "coef_": fit.coef[:, :, at].reshape(N, -1),
        "standard_errors_": fit.standard_errors[:, :, at].reshape(N, -1),
        "support_": fit.support[:, :, at].reshape(N, -1),
        "intercept_": fit.intercept,
        "sigma2_": np.diag(fit.sigma).copy(),
        "is_stationary_": np.full(N, is_stationary(fit)),
        "vector_fit_": {name: own for name, own in fit._asdict().items() if name != "names"},
        "vector_names_": names,
    }


def predict(model: Any, y: Any, exog: Any, levels: np.ndarray) -> Any:
    """One step ahead at every row."""
    observed = listen(model, y, exog)
    fit = _fit(model)
    mean = observed.values - _errors(fit, observed)
    var = np.where(np.isnan(mean), np.nan, np.diag(fit.sigma))
    ratio = _ratios(model, fit, observed, levels, 1)[:, 0]
    found = mean[..., None] + np.sqrt(var)[..., None] * ratio
    return labelled(model, mean, var, found, levels, observed.times, observed)


def smooth(model: Any, y: Any, exog: Any, levels: np.ndarray) -> Any:
    """Not known for coupled outputs."""
    raise ValueError("coupling is True: values that are missing are not filled in; allowed: coupling=False")


def forecast(model: Any, steps: int, y: Any, exog: Any, past_exog: Any, levels: np.ndarray) -> Any:
    """The coming rows."""
    observed = listen(model, y, past_exog, steps, exog)
    fit = _fit(model)
    found = [vector_forecast(fit, past, steps) for past in _pasts(fit, observed)]
    mean = np.concatenate([own.mean for own in found])
    var = np.concatenate([np.diagonal(own.cov, axis1=1, axis2=2) for own in found])
    ratio = np.tile(_ratios(model, fit, observed, levels, steps).transpose(1, 0, 2), (len(found), 1, 1))
    at = mean[..., None] + np.sqrt(var)[..., None] * ratio
    return labelled(model, mean, var, at, levels, _later(model, observed, steps), observed)


def sample(
    model: Any, steps: int, n: int, y: Any, exog: Any, past_exog: Any, rng: np.random.Generator
) -> Any:
    """Joint draws of the coming rows."""
    observed = listen(model, y, past_exog, steps, exog)
    fit = _fit(model)
    parts = [vector_draws(fit, past, steps, n, rng).transpose(1, 2, 0) for past in _pasts(fit, observed)]
    return drawn(model, np.concatenate(parts), _later(model, observed, steps), observed)


def score(model: Any, y: Any, exog: Any) -> float:
    """Mean log predictive density of an entry, those of a row jointly."""
    observed = listen(model, y, exog)
    fit = _fit(model)
    e = _errors(fit, observed)
    e = e[np.isfinite(e).all(axis=1)]
    if not len(e):
        raise ValueError(f"y has {len(observed.values)} rows, none of which has all of its lags before it")
    L = np.linalg.cholesky(fit.sigma)
    z = np.linalg.solve(L, e.T)
    logs = -0.5 * (z**2).sum(axis=0) - np.log(np.diag(L)).sum() - 0.5 * len(L) * np.log(2.0 * np.pi)
    return float(logs.mean() / len(L))


def coefficients(model: Any, errors: str) -> Any:
    """Coefficients by name."""
    if errors == "hac":
        raise ValueError("errors 'hac' needs coupling=False, found True")
    return table(model, model.standard_errors_)


def couplings(model: Any) -> Any:
    """How much the past of each output helps to foretell each other."""
    import xarray as xr

    found = coupling(_fit(model))
    names = model.output_names_
    return xr.Dataset(
        {name: (("output", "source"), values) for name, values in found._asdict().items()},
        {"output": names, "source": names},
    )


def _fit(model: Any) -> VectorFit:
    """The fit as the core wants it."""
    return VectorFit(**model.vector_fit_, names=tuple(model.vector_names_))


def _pasts(fit: VectorFit, observed: Observed) -> list[np.ndarray]:
    """What was before the coming rows, of each trial."""
    parts, p = split(observed.values, observed.lengths), fit.coef.shape[2]
    for r, past in enumerate(parts):
        if len(past) < p or not np.isfinite(past[len(past) - p :]).all():
            raise ValueError(
                f"y has {len(past)} rows in trial {r}; coupling=True needs the last {p}, all of them observed"
            )
    return parts


def _errors(fit: VectorFit, observed: Observed) -> np.ndarray:
    """What each row differs by from what those before it lead to, NaN where one of them is missing."""
    p, parts = fit.coef.shape[2], []
    for y in split(observed.values, observed.lengths):
        e = y - fit.intercept
        for i in range(p):
            if fit.coef[:, :, i].any():
                e[i + 1 :] -= y[: len(y) - i - 1] @ fit.coef[:, :, i].T
        e[:p] = np.nan
        parts.append(e)
    return np.concatenate(parts)


def _ratios(model: Any, fit: VectorFit, observed: Observed, levels: np.ndarray, steps: int) -> np.ndarray:
    """Quantiles of the last errors over the spreads that are expected, (output, step, level)."""
    usual = np.tile(normal(levels), (len(fit.intercept), steps, 1))
    if model.intervals == "gaussian":
        return usual
    keep = n_recent(int(model.trial_lengths_.max()))
    if observed.lengths.max() < keep + fit.coef.shape[2]:
        observed = listen(model)
    psi = vector_response(fit, steps)
    cov = np.cumsum(psi @ fit.sigma @ psi.transpose(0, 2, 1), axis=0)
    collected = []
    for e in split(_errors(fit, observed), observed.lengths):
        e = e[max(len(e) - keep - steps, 0) :]
        own, total = np.full((steps, *e.shape), np.nan), np.zeros(e.shape)
        for h in range(min(steps, len(e))):
            total = total[1:] if h else total
            total = total + e[: len(e) - h] @ psi[h].T
            own[h, h:] = total
        collected.append(own[:, -keep:])
    errors = np.concatenate(collected, axis=1)
    for n in range(len(usual)):
        found = error_quantiles(errors[..., n], levels) / np.sqrt(cov[:, n, n])[:, None]
        last = usual[n, 0].copy()
        for h in range(steps):
            last = usual[n, h] = np.where(np.isfinite(found[h]), found[h], last)
    return usual


def _later(model: Any, observed: Observed, steps: int) -> list[np.ndarray]:
    """Times of the coming rows."""
    check_whole("steps", steps, 1)
    return [own[-1] + model.step_ * np.arange(1, steps + 1) for own in observed.times]
