"""Labelled answers of autoregressions of counts: Poisson rates that follow past counts."""

from typing import Any

import numpy as np

from hidamari.arrays import split
from hidamari.inference.spike_history import (
    SpikeHistoryFit,
    filter_errors,
    fit_spike_history,
    history_filters,
    predict_rate,
)
from hidamari.inference.spike_simulation import simulate, steady_rate
from hidamari.models._ar_labels import drawn, labelled, table
from hidamari.models._ar_series import hear_columns
from hidamari.models._gp_door import Observed

__all__ = ["attributes", "coefficients", "couplings", "forecast", "predict", "sample", "score", "smooth"]

_USUAL_LAGS = 100  # bins, where none are asked for
_LEVEL = 0.05  # chance that a unit that feels no other keeps a coupling
_DRAWS = 1000


def attributes(
    model: Any, observed: Observed, columns: list[np.ndarray], names: tuple[str, ...], step: float
) -> dict[str, Any]:
    """What a fit leaves in a model."""
    penalty = None if model.penalty == "auto" else model.penalty
    refused = {
        "solver": model.solver not in ("auto", "exact"),
        "penalty": penalty not in (None, "group", "ridge"),
        "strategy": model.strategy != "recursive",
        "hidden": bool(model.hidden),
        "pooling": model.pooling is not None,
        "missing": model.missing == "exact",
        "measurement_noise": model.measurement_noise,
        "stationary": model.stationary,
    }
    for name, bad in refused.items():
        if bad:
            raise ValueError(f"{name} is {getattr(model, name)!r}, which likelihood='poisson' does not allow")
    if penalty == "ridge" and isinstance(model.alpha, str):
        raise ValueError(f"alpha is {model.alpha!r}; allowed for a ridge on counts: its precision, a number")
    longest = int(observed.lengths.max())
    if isinstance(model.n_lags, str):
        lags: Any = max(min(_USUAL_LAGS, longest // 20), 1)
    elif isinstance(model.n_lags, (int, np.integer)):
        lags = int(model.n_lags)
    else:
        raise ValueError(f"n_lags is {model.n_lags!r}; allowed with likelihood='poisson': 'auto' or a number")
    fit = fit_spike_history(
        split(observed.values, observed.lengths),
        lags,
        min(int(model.n_basis), lags),
        bin_s=step,
        columns=columns if columns[0].shape[1] else None,
        coupling=model.coupling,
        ridge=float(model.alpha) if penalty == "ridge" else 0.0,
        level=_LEVEL if penalty == "group" and model.coupling else None,
    )
    N, K = len(fit.bias), fit.basis.shape[1]
    sources = [str(name) for name in observed.names]
    labels = [*names, *(f"{source} basis {j}" for source in sources for j in range(K))]
    spread = np.sqrt(np.einsum("nmjj->nmj", fit.weight_cov)).reshape(N, -1)
    felt = np.repeat(fit.coupled, K, axis=1)
    filters = history_filters(fit)
    return {
        "solver_": "exact" if penalty is None else penalty,
        "lags_": np.arange(1, lags + 1),
        "coef_names_": np.array(labels, dtype=str),
        "coef_": np.concatenate([fit.columns, fit.weights.reshape(N, -1)], axis=1),
        "standard_errors_": np.concatenate([fit.column_errors, spread], axis=1),
        "support_": np.concatenate([np.ones(fit.columns.shape, dtype=bool), felt], axis=1),
        "intercept_": fit.bias,
        "is_stationary_": np.isfinite(steady_rate(fit.bias, filters, fit.bin_s)),
        "count_fit_": fit._asdict(),
    }


def predict(model: Any, y: Any, exog: Any, levels: np.ndarray) -> Any:
    """Expected count of every bin given those before it."""
    observed, x = hear_columns(model, y, exog)
    mean = _expected(_fit(model), observed, x)
    return labelled(model, mean, mean, _quantiles(mean, levels), levels, observed.times, observed)


def smooth(model: Any, y: Any, exog: Any, levels: np.ndarray) -> Any:
    """Not known for counts."""
    raise ValueError("likelihood is 'poisson': missing counts are not filled in; allowed: 'gaussian'")


def forecast(model: Any, steps: int, y: Any, exog: Any, past_exog: Any, levels: np.ndarray) -> Any:
    """The coming bins, from simulated futures."""
    draws, times, observed = _futures(model, steps, _DRAWS, y, exog, past_exog, np.random.default_rng(0))
    mean, var = draws.mean(axis=-1), draws.var(axis=-1)
    at = np.quantile(draws, levels, axis=-1, method="inverted_cdf").transpose(1, 2, 0)
    return labelled(model, mean, var, at, levels, times, observed)


def sample(
    model: Any, steps: int, n: int, y: Any, exog: Any, past_exog: Any, rng: np.random.Generator
) -> Any:
    """Joint draws of the coming bins."""
    return drawn(model, *_futures(model, steps, n, y, exog, past_exog, rng))


def score(model: Any, y: Any, exog: Any) -> float:
    """Mean log probability of a count given those before it."""
    from scipy.stats import poisson

    observed, x = hear_columns(model, y, exog)
    logs = poisson.logpmf(observed.values, _expected(_fit(model), observed, x))
    return float(np.nanmean(logs))


def coefficients(model: Any, errors: str) -> Any:
    """Coefficients by name."""
    if errors == "hac":
        raise ValueError("errors 'hac' needs likelihood='gaussian', found 'poisson'")
    return table(model, model.standard_errors_)


def couplings(model: Any) -> Any:
    """What a spike of one unit does to the log rates of all, lag by lag."""
    import xarray as xr

    fit, names = _fit(model), model.output_names_
    lags = (1 + np.arange(len(fit.basis))) * model.step_
    dims = ("output", "source", "lag")
    parts = {
        "filter": (dims, history_filters(fit)),
        "filter_error": (dims, filter_errors(fit)),
        "coupled": (dims[:2], fit.coupled),
    }
    return xr.Dataset(parts, {"output": names, "source": names, "lag": lags})


def _fit(model: Any) -> SpikeHistoryFit:
    """The fit as the core wants it."""
    return SpikeHistoryFit(**model.count_fit_)


def _expected(fit: SpikeHistoryFit, observed: Observed, x: list[np.ndarray]) -> np.ndarray:
    """Expected counts of all bins."""
    given = x if x[0].shape[1] else None
    return np.concatenate(predict_rate(fit, split(observed.values, observed.lengths), given)) * fit.bin_s


def _quantiles(mean: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantiles of Poisson counts, (..., level)."""
    from scipy.stats import poisson

    return poisson.ppf(levels, np.where(np.isnan(mean), 0.0, mean)[..., None]) + 0.0 * mean[..., None]


def _futures(
    model: Any, steps: int, n: int, y: Any, exog: Any, past_exog: Any, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray], Observed]:
    """Draws of the coming bins (rows, output, draw), and their times."""
    observed, x = hear_columns(model, y, past_exog, steps, exog)
    fit, found = _fit(model), []
    for past, own in zip(split(observed.values, observed.lengths), x):
        short = max(len(fit.basis) - len(past), 0)
        history = np.concatenate([np.zeros((short, past.shape[1])), past])
        if np.isnan(history[-len(fit.basis) :]).any():
            raise ValueError(f"y misses counts in its last {len(fit.basis)} bins, which forecasts need")
        later = own[len(past) :] if own.shape[1] else None
        found.append(simulate(fit, steps, n, rng, history, later).transpose(1, 2, 0))
    times = [own[-1] + model.step_ * np.arange(1, steps + 1) for own in observed.times]
    return np.concatenate(found), times, observed
