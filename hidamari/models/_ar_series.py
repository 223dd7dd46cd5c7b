"""The series that a fitted autoregression is asked about: read, cut into parts, and answered for."""

from typing import Any

import numpy as np

from hidamari.arrays import split
from hidamari.models import _ar_answers as answers
from hidamari.models import _ar_arguments as arguments
from hidamari.models import _gp_door as door
from hidamari.models._ar_answers import Direct, Law, Part
from hidamari.models._ar_nets import unpacked
from hidamari.models._door import check_whole
from hidamari.models._gp_door import Clock, Observed

__all__ = ["check_fitted", "coming", "ends", "hear", "hear_columns", "laws", "listen", "over"]


def check_fitted(model: Any) -> None:
    """Refuse what needs a fit."""
    if not hasattr(model, "coef_"):
        from sklearn.exceptions import NotFittedError

        raise NotFittedError("this ARNet is not fitted yet; call fit(y) first")


def laws(model: Any) -> list[Law]:
    """The process of every output."""
    m, found = len(model.lags_), []
    here = getattr(model, "direct_here_", np.zeros(0, dtype=bool))
    for n, coef in enumerate(model.coef_):
        w = np.zeros(int(model.lags_.max(initial=0)))
        w[model.lags_ - 1] = coef[:m]
        beta, zero = coef[m:], np.zeros(len(coef) - m)
        outer, inner = (beta, zero) if model.exog_mode == "errors" else (zero, beta)
        direct = None
        if hasattr(model, "direct_coef_"):
            parts = model.direct_coef_[n], model.direct_intercept_[n], model.direct_cov_[n]
            direct = Direct(*parts, model.lags_, here)
        w = w[: np.flatnonzero(w).max(initial=-1) + 1]
        centre, c = float(model.centre_[n]), float(model.intercept_[n])
        noises = float(model.sigma2_[n]), float(model.noise_[n])
        kept = getattr(model, "networks_", None)
        network = None if kept is None else unpacked(kept[n])
        found.append(Law(centre, w, c, *noises, outer, inner, direct, network))
    return found


def _told(model: Any, y: Any, exog: Any) -> tuple[Observed, np.ndarray]:
    """A series, by default that of the fit, and its covariates."""
    check_fitted(model)
    if y is None:
        if exog is not None:
            raise ValueError("exog was given without y, whose rows it should have")
        form = (model.trial_form_, model.vector_, model.output_names_)
        clock = Clock(model.time_unit_, model.time_origin_)
        observed = Observed(split(model.times_, model.trial_lengths_), model.y_, None, *form, clock)
        own = model.exog_
    else:
        observed = door.observe(y, None, None, Clock(model.time_unit_, model.time_origin_))
        arguments.check_alike(model, observed)
        own = arguments.again(exog, observed, model.exog_names_)
    return observed, own


def listen(model: Any, y: Any = None, exog: Any = None, steps: int = 1, later: Any = None) -> Observed:
    """A series, by default that of the fit, of a model without columns."""
    check_whole("steps", steps, 1)
    observed, _ = _told(model, y, exog)
    arguments.grid(observed, model.step_, model.origin_)
    arguments.later(later, None, model.exog_names_, len(observed.times), steps)
    return observed


def hear_columns(
    model: Any, y: Any = None, exog: Any = None, steps: int = 0, later: Any = None
) -> tuple[Observed, list[np.ndarray]]:
    """A series, by default that of the fit, and the columns of each trial, which may go on beyond it."""
    observed, own = _told(model, y, exog)
    rows = arguments.grid(observed, model.step_, model.origin_)
    known = len(model.exog_names_) > 0
    more = arguments.later(later, own if known else None, model.exog_names_, len(observed.times), steps)
    found = []
    for first, past, new in zip(rows.first, split(own, observed.lengths), more):
        joined = np.concatenate([past, new]) if known else np.empty((len(past) + steps, 0))
        at = first + np.arange(len(joined))
        x = arguments.columns(model, at, model.n_rows_, joined, model.exog_names_).values
        if steps and np.isnan(x[len(past) :]).any():
            raise ValueError(
                f"exog is missing for some of the {steps} coming rows; the model was fitted with "
                f"{list(model.exog_names_)}, which act within them"
            )
        found.append(x)
    return observed, found


def hear(
    model: Any, y: Any = None, exog: Any = None, steps: int = 0, later: Any = None
) -> tuple[Observed, list[list[Part]]]:
    """A series, by default that of the fit, and its parts by output and trial, with coming columns."""
    observed, columns = hear_columns(model, y, exog, steps, later)
    trials = list(zip(split(observed.values, observed.lengths), columns))
    parts = [[answers.part_of(law, y[:, n], x) for y, x in trials] for n, law in enumerate(laws(model))]
    return observed, parts


def over(model: Any, series: list[list[Part]], answer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of all rows, output by output."""
    both = [
        [np.concatenate(each) for each in zip(*(answer(part, law) for part in own))]
        for own, law in zip(series, laws(model))
    ]
    return np.stack([mean for mean, _ in both], axis=1), np.stack([var for _, var in both], axis=1)


def coming(
    model: Any, steps: int, y: Any, exog: Any, past_exog: Any, answer: Any = answers.coming
) -> tuple[list[list[Any]], list, Observed, list[list[Part]]]:
    """Answers for the coming rows by output and trial, their times, and the series before."""
    check_whole("steps", steps, 1)
    check_fitted(model)
    direct = model.strategy == "direct"
    if direct and steps > model.n_steps_:
        raise ValueError(f"steps is {steps}; allowed: at most n_forecasts={model.n_steps_}")
    observed, series = hear(model, y, past_exog, int(steps), exog)
    found = [[answer(part, law, int(steps), direct) for part in own] for own, law in zip(series, laws(model))]
    times = [own[-1] + model.step_ * np.arange(1, steps + 1) for own in observed.times]
    return found, times, observed, series


def ends(
    model: Any,
    mean: np.ndarray,
    spread: np.ndarray,
    step: np.ndarray,
    levels: np.ndarray,
    series: list[list[Part]],
) -> np.ndarray:
    """Quantiles of rows that are so many steps ahead, less one: (rows, output, level).

    Those of the errors of the series itself, or of that of the fit if it is short.
    """
    steps = int(step.max(initial=0)) + 1
    if model.intervals == "gaussian":
        ratio = np.tile(answers.normal(levels), (len(model.coef_), steps, 1))
    else:
        direct = model.strategy == "direct" and steps <= model.n_steps_
        reach = answers.n_recent(int(model.trial_lengths_.max())) + int(model.lags_.max(initial=0))
        short = max(len(part.u) for part in series[0]) < reach
        each = zip(hear(model)[1] if short else series, laws(model), model.support_.sum(axis=1))
        ratio = np.array([answers.ratios(own, law, levels, steps, direct, int(k)) for own, law, k in each])
    return mean[..., None] + spread[..., None] * ratio[:, step].transpose(1, 0, 2)
