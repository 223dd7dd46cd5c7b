"""What a fitted autoregression says of one series: predictions, fillings and forecasts, in units of y."""

from typing import NamedTuple

import numpy as np
from scipy.signal import oaconvolve

from hidamari.inference import forecast as ahead
from hidamari.inference.ar_intervals import error_quantiles, multi_step_errors
from hidamari.inference.ar_network import NetworkFit
from hidamari.inference.autoregression import ARFit
from hidamari.inference.gaps import Imputed, first_law, gap_filter, impute
from hidamari.inference.reflections import levinson
from hidamari.models._ar_nets import errors_ahead, futures, net_one_step

__all__ = [
    "Coming",
    "Direct",
    "Law",
    "Part",
    "coming",
    "draw",
    "fill",
    "n_recent",
    "normal",
    "one_step",
    "part_of",
    "ratios",
]

# Rows whose errors tell of those to come, the last before the forecast: noise changes with the seasons, but
# quantiles need errors. A twentieth held best what it should on ten real series and six simulated ones.
_RECENT, _FEWEST, _MOST = 0.05, 200, 5000
_DRAWS = 1000  # futures of a network, for moments of its forecasts


class Direct(NamedTuple):
    """A regression of each step ahead on the same lags and columns."""

    coef: np.ndarray  # (H, m + k) on candidates and columns
    intercept: np.ndarray  # (H,)
    cov: np.ndarray  # (H, H) of the errors
    lags: np.ndarray  # (m,)
    here: np.ndarray  # (k,) bool: columns that stand among the predictors, and do not move the mean


class Law(NamedTuple):
    """The process of one output."""

    centre: float
    weights: np.ndarray  # (p,)
    intercept: float
    sigma2: float
    noise: float  # variance of errors of measurement
    outer: np.ndarray  # (k,) effect of columns on the mean
    inner: np.ndarray  # (k,) on the autoregression
    direct: Direct | None = None
    network: NetworkFit | None = None  # then the rest is the linear law beside it


class Part(NamedTuple):
    """One trial of one output."""

    u: np.ndarray  # (T,) about its mean
    offset: np.ndarray  # (T,) that mean
    drive: np.ndarray  # (T,) intercept and what columns add to it
    x: np.ndarray  # (T, k) columns


class Coming(NamedTuple):
    """Joint Gaussian law of the coming rows."""

    mean: np.ndarray  # (steps,)
    cov: np.ndarray  # (steps, steps)


def part_of(law: Law, y: np.ndarray, x: np.ndarray) -> Part:
    """A trial at its columns; y may be shorter than these, which go on into the future."""
    offset = law.centre + (x @ law.outer if law.outer.any() else np.zeros(len(x)))
    drive = law.intercept + (x @ law.inner if law.inner.any() else np.zeros(len(x)))
    return Part(y - offset[: len(y)], offset, drive, x)


def one_step(part: Part, law: Law) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every row given those before it, NaN where nothing can be said."""
    u, p = part.u, len(law.weights)
    offset, drive = part.offset[: len(u)], part.drive[: len(u)]
    if law.network is not None:
        mean = offset + net_one_step(law.network, u, _felt(part, law))
        return mean, np.where(np.isnan(mean), np.nan, law.network.sigma2[0])
    if law.noise == 0.0 and not np.isnan(u).any():
        found = np.append(0.0, oaconvolve(u, law.weights))[: len(u)] if p else np.zeros(len(u))
        found[:p] = np.nan
        mean = offset + found + drive
        return mean, np.where(np.isnan(mean), np.nan, law.sigma2)
    start, lost = _start(part, law), np.isnan(drive)
    sigma2 = law.sigma2 or 1.0
    found = gap_filter(u, law.weights, sigma2, _driven(drive, u), start, law.noise)
    lost[: p if start == "given" else 0] = True
    mean = np.where(lost, np.nan, offset + found.mean)
    return mean, np.where(lost, np.nan, found.var * (law.sigma2 / sigma2) + law.noise)


def fill(part: Part, law: Law) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every row, without error of measurement, given all that was observed."""
    found, share = _imputed(part, law, 0)
    return part.offset + found.values, share * found.var


def _imputed(part: Part, law: Law, reach: int) -> tuple[Imputed, float]:
    """A series filled in, and what its variances are to be multiplied by: 0 for a series without noise.

    Without errors of measurement the means do not depend on the variance of the innovations.
    """
    sigma2 = law.sigma2 or 1.0
    drive = _driven(part.drive, part.u)
    found = impute(part.u, law.weights, sigma2, drive, _start(part, law), reach, law.noise)
    return found, law.sigma2 / sigma2


def coming(part: Part, law: Law, steps: int, direct: bool) -> Coming:
    """The rows after the last of u, at the columns that go on beyond it."""
    history, unknown, cov = _before(part, law, direct)
    T = len(part.u)
    later = part.offset[T : T + steps], part.drive[T : T + steps]
    if law.network is not None:
        drawn = futures(law.network, history, _felt(part, law)[T:], steps, _DRAWS, np.random.default_rng(0))
        return Coming(later[0] + drawn.mean(axis=0), np.atleast_2d(np.cov(drawn.T)))
    if direct and law.direct is not None:
        return _directly(part, law, law.direct, history, unknown, cov, steps, later[0])
    mean = later[0] + ahead.recursive_forecast(law.weights, history, later[1])
    total = ahead.forecast_covariance(law.weights, law.sigma2, steps, unknown, cov)
    return Coming(mean, total + law.noise * np.eye(steps))


def draw(part: Part, law: Law, steps: int, direct: bool, n: int, rng: np.random.Generator) -> np.ndarray:
    """Joint draws of the coming rows, (steps, n)."""
    if law.network is not None:
        T = len(part.u)
        history, _, _ = _before(part, law, direct)
        drawn = futures(law.network, history, _felt(part, law)[T:], steps, n, rng)
        return part.offset[T : T + steps, None] + drawn.T
    found = coming(part, law, steps, direct)
    return rng.multivariate_normal(found.mean, found.cov, n, method="eigh").T


def _felt(part: Part, law: Law) -> np.ndarray:
    """Columns that a network sees."""
    k = 0 if law.network is None else len(law.network.column_centre)
    return part.x if k else part.x[:, :0]


def _before(part: Part, law: Law, direct: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The last values with gaps filled, lags of those that are not known, and their covariance."""
    T, w = len(part.u), law.weights
    reach = max(len(w), int(law.direct.lags.max(initial=0)) if direct and law.direct else 0)
    if law.network is not None:
        reach = max(reach, int(law.network.lags.max(initial=0)))
    if reach <= T and law.noise == 0.0 and not np.isnan(part.u[T - reach :]).any():
        return part.u[T - reach :], np.zeros(0, dtype=int), np.zeros((0, 0))
    short = max(reach - T, 0)
    u = np.append(np.full(short, np.nan), part.u)
    drive = np.append(np.full(short, law.intercept), part.drive[:T])
    found, share = _imputed(Part(u, np.zeros(0), drive, np.zeros((0, 0))), law, reach)
    # Unknown values among the last, whose covariance reaches into the forecast.
    recent = np.flatnonzero(found.index >= len(u) - reach)
    unknown = len(u) - found.index[recent]
    return found.values[len(u) - reach :], unknown, share * _block(found.covariance, recent)


def normal(levels: np.ndarray) -> np.ndarray:
    """Quantiles of a standard Gaussian."""
    from scipy.special import ndtri

    return ndtri(levels)


def n_recent(rows: int) -> int:
    """How many of the last rows are looked at."""
    return int(min(max(np.ceil(_RECENT * rows), _FEWEST), _MOST))


def ratios(
    parts: list[Part], law: Law, levels: np.ndarray, steps: int, direct: bool, n_coef: int
) -> np.ndarray:
    """Quantiles of the last errors of a fit over the spreads it expects, (steps, level).

    Gaussian ones with errors of measurement, whose filter has other errors, and where errors are too few.
    """
    usual = np.tile(normal(levels), (steps, 1))
    if law.noise > 0.0:
        return usual
    rows = sum(len(part.u) for part in parts)
    kept = [_recent_errors(part, law, steps, direct) for part in parts]
    if law.network is not None:
        errors = np.concatenate(kept, axis=1)
        enough = np.isfinite(errors).sum(axis=1) > 1
        spread = np.array([np.nanstd(own) if on else np.nan for own, on in zip(errors, enough)])
        found = error_quantiles(errors, levels) / spread[:, None]
        return np.where(np.isfinite(found), found, usual)
    spare = max(rows - len(law.weights) * len(parts) - n_coef - 1, 1)
    inflate = np.sqrt((spare + n_coef) / spare)
    if direct and law.direct is not None:
        spread = np.sqrt(np.diag(law.direct.cov)[:steps])
    else:
        psi = ahead.impulse_response(law.weights, steps)
        spread = np.sqrt(law.sigma2 * np.cumsum(psi**2))
    if not (spread > 0.0).all():  # no noise at all
        return usual
    found = error_quantiles(np.concatenate(kept, axis=1), levels, inflate) / spread[:, None]
    last = usual[0]
    for h in range(steps):
        last = np.where(np.isfinite(found[h]), found[h], last)
        found[h] = last
    return found


def _recent_errors(part: Part, law: Law, steps: int, direct: bool) -> np.ndarray:
    """Errors of forecasts of 1..steps ahead of the last rows, (steps, rows), NaN where unknown."""
    T = len(part.u)
    keep = min(n_recent(T), T)
    if law.network is not None:
        return errors_ahead(law.network, part.u, _felt(part, law), steps, keep)
    if direct and law.direct is not None:
        return _direct_errors(part, law, law.direct, steps)[:, T - keep :]
    mean, _ = one_step(part, law)
    errors = (part.u + part.offset[:T] - mean)[max(T - keep - steps, 0) :]
    return multi_step_errors(errors, law.weights, steps)[:, -keep:]


def _directly(
    part: Part,
    law: Law,
    direct: Direct,
    history: np.ndarray,
    unknown: np.ndarray,
    cov: np.ndarray,
    steps: int,
    offset: np.ndarray,
) -> Coming:
    """Each step by its own regression."""
    T, m, reach = len(part.u), len(direct.lags), len(history)
    effect = part.x[:, direct.here] @ law.outer[direct.here]
    beside = np.zeros(reach)
    own = effect[max(T - reach, 0) : T]
    beside[reach - len(own) :] = own
    predictors = np.concatenate([(history + beside)[reach - direct.lags], part.x[T, direct.here]])
    mean = direct.intercept + direct.coef @ predictors
    weights = np.zeros((len(mean), reach))
    weights[:, direct.lags - 1] = direct.coef[:, :m]
    felt = weights[:, unknown - 1]
    total = direct.cov + felt @ cov @ felt.T
    return Coming(
        (mean + law.centre)[:steps] + _rest(offset, law, effect[T : T + steps]), total[:steps, :steps]
    )


def _rest(offset: np.ndarray, law: Law, effect: np.ndarray) -> np.ndarray:
    """What of the mean is not among the predictors."""
    return offset - law.centre - effect


def _direct_errors(part: Part, law: Law, direct: Direct, steps: int) -> np.ndarray:
    """Errors at every origin, one convolution for each step."""
    T, m = len(part.u), len(direct.lags)
    effect = part.x[:, direct.here] @ law.outer[direct.here]
    v = part.u + effect[:T]
    kernel = np.zeros(int(direct.lags.max(initial=0)))
    found = np.full((steps, T), np.nan)
    for h in range(steps):
        kernel[direct.lags - 1] = direct.coef[h, :m]
        guess = np.append(0.0, np.convolve(v, kernel))[:T] if m else np.zeros(T)
        guess[: len(kernel)] = np.nan
        guess += direct.intercept[h] + part.x[:T, direct.here] @ direct.coef[h, m:]
        found[h, h:] = v[h:] - guess[: T - h]
    return found


def _start(part: Part, law: Law) -> str | ARFit:
    """Law of the first values: given if observed exactly, else stationary, or that of a stationary fit."""
    p = len(law.weights)
    if law.noise == 0.0 and len(part.u) >= p and not np.isnan(part.u[:p]).any():
        return "given"
    if ahead.is_stationary(law.weights):
        return "stationary"
    order = min(p, len(part.u) - 1)
    if not np.isfinite(part.u).sum() > 1:
        raise ValueError(
            f"y has {len(part.u)} rows, of which too few are observed for {p} lags of a fit that is not "
            "stationary; allowed: more rows, or stationary=True"
        )
    return first_law(np.full(p, np.nan), levinson(part.u, order))


def _driven(drive: np.ndarray, u: np.ndarray) -> np.ndarray | float:
    """Intercepts of rows, one number if they do not change.

    A row that lacks what drives it is not predicted; if it was not observed either, the usual drive stands
    in, so that it has a law at all.
    """
    drive = drive[: len(u)]
    blind = np.isnan(drive) & np.isnan(u)
    if blind.any():
        drive = np.where(blind, np.nanmean(drive), drive)
    return float(drive[0]) if len(drive) and (drive == drive[0]).all() else drive


def _block(banded: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Square covariance of neighbours in a band."""
    n = len(at)
    found = np.zeros((n, n))
    for a in range(n):
        for d in range(min(a + 1, banded.shape[1])):
            found[a, a - d] = found[a - d, a] = banded[at[a], d]
    return found
