"""Labelled answers of autoregressions whose outputs go their own ways."""

from functools import partial
from typing import Any

import numpy as np

from hidamari.models import _ar_answers as answers
from hidamari.models import _ar_bayes as bayes
from hidamari.models._ar_labels import drawn, labelled, table
from hidamari.models._ar_series import coming, ends, hear, over

__all__ = ["coefficients", "forecast", "predict", "sample", "score", "smooth"]


def predict(model: Any, y: Any, exog: Any, levels: np.ndarray) -> Any:
    """One step ahead at every row."""
    observed, series = hear(model, y, exog)
    mean, var = over(model, series, answers.one_step)
    found = ends(model, mean, np.sqrt(var), np.zeros(len(mean), dtype=int), levels, series)
    return labelled(model, mean, var, found, levels, observed.times, observed)


def smooth(model: Any, y: Any, exog: Any, levels: np.ndarray) -> Any:
    """All rows given all that was observed."""
    observed, series = hear(model, y, exog)
    mean, var = over(model, series, answers.fill)
    found = mean[..., None] + np.sqrt(var)[..., None] * answers.normal(levels)
    return labelled(model, mean, var, found, levels, observed.times, observed)


def forecast(model: Any, steps: int, y: Any, exog: Any, past_exog: Any, levels: np.ndarray) -> Any:
    """The coming rows."""
    laws, times, observed, series = coming(model, steps, y, exog, past_exog)
    moments = np.array([[(own.mean, np.diag(own.cov)) for own in each] for each in laws])
    mean, var = moments.transpose(2, 1, 3, 0).reshape(2, -1, len(laws))
    step = np.tile(np.arange(steps), len(observed.times))
    found = ends(model, mean, np.sqrt(var), step, levels, series)
    return labelled(model, mean, var, found, levels, times, observed)


def sample(
    model: Any, steps: int, n: int, y: Any, exog: Any, past_exog: Any, rng: np.random.Generator
) -> Any:
    """Joint draws of the coming rows."""
    draws, times, observed, _ = coming(model, steps, y, exog, past_exog, partial(answers.draw, n=n, rng=rng))
    values = np.array(draws).transpose(1, 2, 0, 3).reshape(-1, len(draws), n)
    return drawn(model, values, times, observed)


def score(model: Any, y: Any, exog: Any) -> float:
    """Mean log predictive density of a row."""
    observed, series = hear(model, y, exog)
    mean, var = over(model, series, answers.one_step)
    logs = -0.5 * (np.log(2.0 * np.pi * var) + (observed.values - mean) ** 2 / var)
    if not np.isfinite(logs).any():
        raise ValueError(f"y has {len(logs)} rows, none of which has all of its lags before it")
    return float(np.nanmean(logs))


def coefficients(model: Any, errors: str) -> Any:
    """Coefficients by name."""
    return table(model, bayes.robust_errors(model) if errors == "hac" else model.standard_errors_)
