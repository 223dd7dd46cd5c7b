"""The door of autoregressions: arguments that are allowed, rows on a grid, and columns with names."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from hidamari.arrays import as_trials, split
from hidamari.inference.ar_columns import (
    Columns,
    event_columns,
    fourier_columns,
    join,
    lagged_columns,
    trend_columns,
)
from hidamari.models._door import check_number, check_whole
from hidamari.models._gp_door import Observed

__all__ = [
    "Covariates",
    "Grid",
    "candidates",
    "check",
    "again",
    "check_alike",
    "check_columns",
    "check_levels",
    "check_seed",
    "check_varies",
    "closed",
    "columns",
    "covariates",
    "frequencies",
    "grid",
    "later",
]

_MOST_LAGS = 1000
_CHOICES = {
    "likelihood": ("gaussian", "poisson"),
    "solver": ("auto", "exact", "sparse", "levinson", "burg", "sgd"),
    "penalty": ("auto", None, "l1", "arnet", "scad", "mcp", "group", "ridge"),
    "exog_mode": ("errors", "arx"),
    "strategy": ("recursive", "direct"),
    "missing": ("auto", "exact", "drop"),
    "intervals": ("conformal", "gaussian"),
    "pooling": (None, "complete", "partial"),
    "activation": ("relu", "tanh", "gelu"),
}
_SWITCHES = ("measurement_noise", "stationary", "coupling")
_NAMED = ("aic", "bic", "ebic", "cv", "paper")


class Covariates(NamedTuple):
    """Known series beside y."""

    values: np.ndarray  # (T, q), rows of all trials
    names: np.ndarray  # (q,)


class Grid(NamedTuple):
    """Rows of every trial as numbers on one grid."""

    first: np.ndarray  # (trial,) number of each trial's first row
    step: float  # time from one row to the next
    n_rows: int  # rows from the first of all to the last of all
    origin: float  # time of row 0


def check(model: Any) -> None:
    """Refuse constructor arguments that are not allowed."""
    for name, allowed in _CHOICES.items():
        if not any(getattr(model, name) is a or getattr(model, name) == a for a in allowed):
            raise ValueError(f"{name} must be one of {allowed}, found {getattr(model, name)!r}")
    for name in _SWITCHES:
        if not isinstance(getattr(model, name), (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False, found {getattr(model, name)!r}")
    check_whole("trend", model.trend, 0, optional=True)
    check_whole("n_forecasts", model.n_forecasts, 1)
    check_whole("n_basis", model.n_basis, 1)
    check_seed(model.random_state)
    _check_training(model)
    check_number("sparsity", model.sparsity, optional=True)
    if model.sparsity is not None and model.sparsity > 1:
        raise ValueError(f"sparsity must be a share of lags, at most 1, found {model.sparsity!r}")
    if isinstance(model.alpha, str):
        if model.alpha not in _NAMED:
            raise ValueError(f"alpha must be a positive number or one of {_NAMED}, found {model.alpha!r}")
    else:
        check_number("alpha", model.alpha)
    _check_seasons(model.seasonality)
    _check_events(model.events, model.event_window)
    if model.strategy == "direct" and model.exog_mode == "arx":
        raise ValueError("strategy 'direct' needs exog_mode='errors', found 'arx'")
    _exog_lags(model.exog_lags)


def check_seed(value: Any, name: str = "random_state") -> None:
    """Refuse what is no source of randomness."""
    whole = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0
    if not (value is None or whole or isinstance(value, np.random.Generator)):
        raise ValueError(f"{name} must be a whole number of at least 0, a Generator or None, found {value!r}")


def check_levels(interval: Any, quantiles: Any = None) -> np.ndarray:
    """Probabilities of an interval's ends, then those of quantiles."""
    if not (isinstance(interval, (float, np.floating)) and 0.0 < interval < 1.0):
        raise ValueError(f"interval must be between 0 and 1, found {interval!r}")
    try:
        own = np.asarray([] if quantiles is None else quantiles, dtype=float).ravel()
    except (TypeError, ValueError):
        raise ValueError(f"quantiles must be probabilities between 0 and 1, found {quantiles!r}") from None
    if not ((own > 0.0) & (own < 1.0)).all():
        raise ValueError(f"quantiles must be probabilities between 0 and 1, found {quantiles!r}")
    half = 0.5 * float(interval)
    return np.append([0.5 - half, 0.5 + half], own)


def candidates(n_lags: Any, n_rows: int) -> np.ndarray:
    """Lags to choose among, (m,): given, or by default a twentieth of the rows and at least 2 sqrt(rows).

    A twentieth reaches far enough for daily and weekly cycles of long records, where long lags are what tells
    models apart; the root is for short series, whose season may be a sixth of them.
    """
    if isinstance(n_lags, str):
        if n_lags != "auto":
            raise ValueError(f"n_lags must be 'auto', a number or a list of lags, found {n_lags!r}")
        n = int(max(n_rows / 20, min(2 * np.sqrt(n_rows), n_rows / 3)))
        return np.arange(1, min(max(n, 1), _MOST_LAGS) + 1)
    if isinstance(n_lags, Integral) and not isinstance(n_lags, bool):
        check_whole("n_lags", n_lags, 0)
        found = np.arange(1, int(n_lags) + 1)
    else:
        try:
            found = np.array(sorted(n_lags))
        except (TypeError, ValueError):
            raise ValueError(f"n_lags must be 'auto', a number or a list of lags, found {n_lags!r}") from None
        if (
            found.ndim != 1
            or found.size == 0
            or found.dtype.kind not in "iu"
            or found[0] < 1
            or (np.diff(found) == 0).any()
        ):
            raise ValueError(f"n_lags must be distinct lags of at least 1, found {n_lags!r}")
    if found.size and found[-1] >= n_rows:
        raise ValueError(
            f"n_lags reaches back {found[-1]} rows; allowed: less than the longest trial's {n_rows}"
        )
    return found.astype(np.int64)


def grid(observed: Observed, step: float | None = None, origin: float | None = None) -> Grid:
    """Rows as numbers, from the first of all or from ``origin``; refuse those that are not evenly spaced."""
    gaps = np.concatenate([np.diff(own) for own in observed.times])
    if step is None:
        step = float(np.median(gaps)) if gaps.size else 1.0
    name = "y's times"
    if not step > 0:
        raise ValueError(f"{name} do not increase; allowed: rows in the order of time")
    # A fifth is more than months differ by, and less than a row that is not there.
    bad = np.flatnonzero(np.abs(gaps - step) > 0.2 * step)
    if bad.size:
        raise ValueError(
            f"{name} step by {gaps[bad[0]]:g}, but by {step:g} elsewhere; allowed: evenly spaced rows, with "
            "NaN where nothing was observed, or a list of trials"
        )
    starts = np.array([own[0] for own in observed.times])
    origin = float(starts.min()) if origin is None else origin
    first = np.rint((starts - origin) / step)
    return Grid(first, step, int((first + observed.lengths).max()), origin)


def covariates(exog: Any, observed: Observed, names: np.ndarray | None = None) -> Covariates | None:
    """Covariates at the rows of y."""
    if exog is None:
        return None
    trials = as_trials(_two_axes(exog), "exog")
    if not np.array_equal(trials.lengths, observed.lengths):
        raise ValueError(
            f"exog has trials of {trials.lengths.tolist()} rows, but y of {observed.lengths.tolist()}"
        )
    found = np.array([f"exog {q}" for q in range(trials.values.shape[1])])
    found = found if trials.units is None else np.asarray(trials.units).astype(str)
    _same_names(found, names)
    return Covariates(trials.values, found)


def again(exog: Any, observed: Observed, names: np.ndarray) -> np.ndarray:
    """Covariates at the rows of another series: those of the fit, (T, q)."""
    if exog is None:
        if len(names):
            raise ValueError(f"exog is missing; the model was fitted with {list(names)}")
        return np.empty((len(observed.values), 0))
    if not len(names):
        raise ValueError("exog was given, but the model was fitted without covariates")
    found = covariates(exog, observed, names)
    return np.empty((0, 0)) if found is None else found.values


def check_alike(model: Any, observed: Observed) -> None:
    """Refuse another number of outputs than that of the fit."""
    n = observed.values.shape[1]
    if n != model.n_features_in_:
        raise ValueError(f"y has {n} outputs; the model was fitted to {model.n_features_in_}")


def check_varies(observed: Observed) -> None:
    """Refuse outputs that tell nothing."""
    for n, column in enumerate(observed.values.T):
        if not np.nanmax(np.append(column, -np.inf)) > np.nanmin(np.append(column, np.inf)):
            raise ValueError(f"y does not vary in output {n}; allowed: at least two different values")


def check_columns(found: list[Columns]) -> None:
    """Refuse columns that tell nothing."""
    values = np.concatenate([part.values for part in found])
    for name, column in zip(found[0].names, values.T):
        if not np.nanmax(np.append(column, -np.inf)) > np.nanmin(np.append(column, np.inf)):
            raise ValueError(
                f"{name!r} of the columns (trend, seasonality, events, exog) does not vary over the rows; "
                "allowed: columns that do"
            )


def frequencies(freqs: Any, step: float) -> np.ndarray:
    """Frequencies of a spectrum, by default up to half a cycle per row."""
    if freqs is None:
        return np.linspace(0.0, 0.5, 512) / step
    try:
        found = np.atleast_1d(np.asarray(freqs, dtype=float))
    except (TypeError, ValueError):
        found = np.full(1, np.nan)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError(f"freqs must be finite numbers on one axis, found {freqs!r}")
    return found


def closed(columns: Columns) -> np.ndarray:
    """Which columns a shift in time leaves in their span: trend and seasons."""
    return np.array([g == "trend" or g.startswith("season[") for g in columns.groups], dtype=bool)


def later(
    exog: Any, known: np.ndarray | None, names: np.ndarray, n_trials: int, steps: int
) -> list[np.ndarray]:
    """Covariates in the coming rows of every trial, NaN where none were given."""
    q = 0 if known is None else len(names)
    if exog is None:
        return [np.full((steps, q), np.nan) for _ in range(n_trials)]
    if known is None:
        raise ValueError("exog was given, but the model was fitted without covariates")
    trials = as_trials(_two_axes(exog), "exog")
    parts = split(trials.values, trials.lengths)
    parts = parts * n_trials if len(parts) == 1 else parts
    if len(parts) != n_trials or any(part.shape != (steps, q) for part in parts):
        shapes = sorted({part.shape for part in parts})
        raise ValueError(
            f"exog has {len(parts)} trials of shapes {shapes}; allowed: {n_trials} of {(steps, q)}"
        )
    return parts


def columns(model: Any, rows: np.ndarray, n_rows: int, known: np.ndarray, names: Any) -> Columns:
    """Columns of one trial at rows of the grid; covariates in their own rows."""
    parts = [] if model.trend is None else [trend_columns(rows, n_rows, int(model.trend))]
    for period, order in (model.seasonality or {}).items():
        parts.append(fourier_columns(rows, float(period), int(order)))
    if model.events:
        parts.append(event_columns(rows, model.events, tuple(model.event_window)))
    for q, name in enumerate(names):
        lags = model.exog_lags
        own = _exog_lags(lags.get(str(name), 0) if isinstance(lags, Mapping) else lags)
        parts.append(lagged_columns(known[:, [q]], [str(name)], own))
    return join(len(rows), parts)


def _two_axes(exog: Any) -> Any:
    """One covariate with an axis of its own."""
    if isinstance(exog, (list, tuple)):
        listed = len(exog) > 0 and np.ndim(exog[0]) > 0
        return [_two_axes(part) for part in exog] if listed else np.asarray(exog)[:, None]
    if hasattr(exog, "to_frame") and getattr(exog, "ndim", 2) == 1:
        return exog.to_frame()
    if hasattr(exog, "dims"):
        return exog if "unit" in exog.dims else exog.expand_dims("unit", axis=-1)
    return np.asarray(exog)[:, None] if np.ndim(exog) == 1 else exog


def _same_names(found: np.ndarray, names: np.ndarray | None) -> None:
    """Refuse other covariates than those of the fit."""
    if names is not None and list(found) != list(names):
        raise ValueError(f"exog has columns {list(found)}; the model was fitted with {list(names)}")


def _exog_lags(value: Any) -> tuple[int, ...]:
    """Rows back at which a covariate acts: 0 is its own; n means 1..n."""
    if isinstance(value, Mapping):
        for own in value.values():
            _exog_lags(own)
        return ()
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
        return tuple(range(1, int(value) + 1)) or (0,)
    lags = tuple(value) if isinstance(value, (tuple, list)) else ()
    whole = all(isinstance(lag, Integral) and not isinstance(lag, bool) and int(lag) >= 0 for lag in lags)
    if not lags or not whole or len(set(lags)) < len(lags):
        raise ValueError(
            f"exog_lags must be 0, a number of lags, or distinct lags of 0 or more, found {value!r}"
        )
    return tuple(int(lag) for lag in lags)


def _check_training(model: Any) -> None:
    """Refuse what no network can be made or trained by."""
    layers = model.hidden
    whole = isinstance(layers, (tuple, list)) and all(
        isinstance(k, Integral) and not isinstance(k, bool) and int(k) >= 1 for k in layers
    )
    if not whole:
        raise ValueError(
            f"hidden must be numbers of units of at least 1, one for each layer, found {layers!r}"
        )
    check_whole("epochs", model.epochs, 1, optional=True)
    check_whole("batch_size", model.batch_size, 1, optional=True)
    check_number("learning_rate", model.learning_rate, optional=True)


def _check_seasons(seasonality: Any) -> None:
    """Refuse what is not a mapping from periods to numbers of harmonics."""
    if seasonality is None:
        return
    if not isinstance(seasonality, Mapping):
        raise ValueError(
            f"seasonality must map periods in rows to numbers of harmonics, found {seasonality!r}"
        )
    for period, order in seasonality.items():
        check_number("seasonality", period)
        check_whole("seasonality", order, 1)


def _check_events(events: Any, window: Any) -> None:
    """Refuse what is not a mapping from names to rows, and a window that is no pair."""
    if events is not None and not isinstance(events, Mapping):
        raise ValueError(f"events must map names to row numbers, found {events!r}")
    for name, at in (events or {}).items():
        try:
            rows = np.asarray(at)
        except ValueError:
            rows = np.empty(0)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ValueError(f"events[{name!r}] must be row numbers, found {at!r}")
    whole = isinstance(window, (tuple, list)) and all(isinstance(w, Integral) for w in window)
    if not whole or len(window) != 2:
        raise ValueError(f"event_window must be two row numbers, found {window!r}")
