"""Where hyperparameters are looked for: limits tied to the grid and the data, and where searches start."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hidamari.inference.objective import GPModel
from hidamari.inference.periodogram import peaks
from hidamari.inference.series import Series
from hidamari.parameters import flatten, unflatten

__all__ = ["Scales", "is_real", "limits", "scales", "starts"]

_SERIES = 16  # of the longest series, as many as a periodogram needs
_SHORTEST, _LONGEST = 0.1, 10.0  # lengthscale, in smallest gaps and in durations
_SMALLEST, _LARGEST = 1e-8, 1e3  # a variance, in variances of y
_UNITLESS = (0.05, 100.0)  # lengthscale of a form that repeats, beside its period
_ROUNDING = 1e-13
_ANY = 1e6  # the factor by which a parameter of unknown meaning may change


class Scales(NamedTuple):
    """What data say about sizes before any model: seconds, and squared units of y."""

    shortest: float  # gap above 0
    median: float  # gap above 0
    duration: float  # of the longest series
    variance: float  # of y within outputs; 1 where eta is not in the units of y
    mean: np.ndarray  # of eta in each output
    own: np.ndarray  # variance of y in each output; 1 where eta is not in the units of y


def scales(model: GPModel, series: Series) -> Scales:
    """Sizes in a set of series.

    Examples
    --------
    >>> from hidamari.inference.likelihoods import Gaussian
    >>> from hidamari.inference.objective import lay_series
    >>> from hidamari.statespace.kernels import Matern
    >>> series = lay_series([0.0, 0.5, 2.5], [1.0, 2.0, 3.0]).series
    >>> found = scales(GPModel(Matern(), Gaussian(), np.zeros(1)), series)
    >>> found.shortest, found.duration, round(found.variance, 3), found.mean.tolist()
    (0.5, 2.5, 0.667, [2.0])
    """
    own = np.where(series.step >= 0, series.gaps[series.step], 0.0)
    starts = np.flatnonzero(np.concatenate([[True], series.step[1:] < 0]))
    duration = float(np.add.reduceat(own, starts).max())
    positive = own[own > 0.0] if (own > 0.0).any() else np.ones(1)
    N, seen = len(model.bias), ~np.isnan(series.y)
    count = np.maximum(np.bincount(series.output[seen], minlength=N), 1)
    mean, variance, each = np.asarray(model.bias, float), 1.0, np.ones(N)
    if model.likelihood.real:
        output, y = series.output[seen], series.y[seen]
        mean = np.bincount(output, y / count[output], N)
        size = np.abs(y).max(initial=0.0)
        spread = y - mean[output]
        spread[np.abs(spread) <= _ROUNDING * size] = 0.0
        if not spread.any():  # constants: their size
            spread = y if size > 0.0 else np.ones(len(y))
        unit = float(np.abs(spread).max(initial=0.0)) or 1.0  # squares may leave the range of the format
        square = (spread / unit) ** 2
        variance = unit**2 * float(np.mean(square)) if seen.any() else 1.0
        each = unit**2 * np.bincount(output, square, N) / count
        each = np.where(each > 0.0, each, variance)
    elif seen.any():
        total = np.array([np.mean(series.y[seen & (series.output == o)] + 1e-3) for o in range(N)])
        with np.errstate(all="ignore"):
            level = np.asarray(model.likelihood.link(total), float)
        mean = np.where(np.isfinite(level), level, mean)
    return Scales(float(positive.min()), float(np.median(positive)), duration or 1.0, variance, mean, each)


def limits(
    model: GPModel,
    names: Sequence[str],
    series: Series,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> np.ndarray:
    """Lowest and highest value of each parameter, (n, 2).

    Lengthscales lie between a tenth of the smallest gap and ten durations, frequencies between a tenth of a
    cycle in the duration and half the median rate, variances between 1e-8 and 1e3 times that of y, those of
    integrated white noise likewise in their own units; a bias within a hundred deviations of the mean; a
    lengthscale within a period, which has no unit, between 0.05 and 100.

    Parameters
    ----------
    model, names, series
        As in ``evidence_and_gradient``.
    bounds : mapping, optional
        (low, high) by path or its end, instead of these.

    Raises
    ------
    ValueError
        If a key fits no name, or a pair is not (low, high) with low < high, positive where the parameter is.

    Examples
    --------
    >>> from hidamari.inference.likelihoods import Gaussian
    >>> from hidamari.inference.objective import lay_series
    >>> from hidamari.statespace.kernels import Matern
    >>> series = lay_series([0.0, 0.5, 2.5], [1.0, 2.0, 3.0]).series
    >>> limits(GPModel(Matern(), Gaussian(), np.zeros(1)), ["kernel.lengthscale"], series).tolist()
    [[0.05, 25.0]]
    """
    size = scales(model, series)
    out = np.array([_limit(model, name, size) for name in names]).reshape(-1, 2)
    for key, pair in (bounds or {}).items():
        fits = [i for i, name in enumerate(names) if _is_end(key, name)]
        if not fits:
            raise ValueError(f"bounds has {key!r}, which fits none of what moves, {list(names)}")
        low, high = (float(value) for value in pair)
        if not low < high or (low <= 0.0 and not is_real(model, names)[fits].all()):
            raise ValueError(f"bounds[{key!r}] must be (low, high) with 0 < low < high, got {pair!r}")
        out[fits] = low, high
    return out


def starts(
    model: GPModel,
    names: Sequence[str],
    series: Series,
    allowed: np.ndarray,
    n: int,
    rng: np.random.Generator,
) -> list[GPModel]:
    """The model itself, then models at peaks of the periodogram, then random ones; all within the limits.

    Parameters
    ----------
    model, names, series
        As in ``evidence_and_gradient``.
    allowed : ndarray (n, 2)
        From :func:`limits`.
    n : int
        How many.
    rng : numpy.random.Generator
        For the random ones.
    """
    names = list(names)
    found = [_within(model, names, allowed)]
    size = scales(model, series)
    turning = [i for i, name in enumerate(names) if _end(name) in ("frequency", "period")]
    heights = _peaks(model, series, size, 2 * n + len(turning)) if turning and n > 1 else np.zeros(0)
    values = _values(found[0], names)
    for k in range(min(n - 1, len(heights))):
        moved = values.copy()
        for m, i in enumerate(turning):
            f = heights[(k + m) % len(heights)]
            moved[i] = f if _end(names[i]) == "frequency" else 1.0 / f
            for l, name in enumerate(names):  # an oscillation that fades within a cycle finds no frequency
                if name == names[i].rpartition(".")[0] + ".lengthscale":
                    moved[l] = max(moved[l], 2.0 / f)
        found.append(_within(_at(model, names, moved), names, allowed))
    while len(found) < n:
        moved = [_draw(model, name, value, size, heights, rng) for name, value in zip(names, values)]
        found.append(_within(_at(model, names, np.array(moved)), names, allowed))
    return found[:n]


def is_real(model: GPModel, names: Sequence[str]) -> np.ndarray:
    """Whether the coordinate of each parameter is its value and not a logarithm, (n,) bool.

    Examples
    --------
    >>> from hidamari.inference.likelihoods import Gaussian
    >>> from hidamari.statespace.kernels import Matern
    >>> is_real(GPModel(Matern(), Gaussian(), np.zeros(1)), ["kernel.lengthscale", "bias[0]"]).tolist()
    [False, True]
    """
    out = []
    for name in names:  # the value at coordinate 0 tells: 0, or the exponential of it
        at = unflatten(model, np.zeros(1), [name])
        path, _, index = name.rstrip("]").partition("[")
        value = _walk(at, path.split("."))
        out.append((value[int(index)] if index else value) == 0.0)
    return np.array(out, dtype=bool)


def _limit(model: GPModel, name: str, size: Scales) -> tuple[float, float]:
    """Lowest and highest value of one parameter."""
    end, value = _end(name), _values(model, [name])[0]
    if _has_no_unit(model, name):
        return _UNITLESS
    if end in ("lengthscale", "period"):
        return _SHORTEST * size.shortest, _LONGEST * size.duration
    if end == "frequency":
        return 0.1 / size.duration, max(0.5 / size.median, 0.2 / size.duration)
    if name.startswith("bias"):
        output = int(name.partition("[")[2].rstrip("]"))
        reach, centre = 100.0 * np.sqrt(size.own[output]), size.mean[output]
        return centre - reach, centre + reach
    if end == "variance":
        output = name.partition("[")[2].rstrip("]")
        unit, power = size.own[int(output)] if output else size.variance, _power(model, name)
        return _SMALLEST * unit / size.duration**power, _LARGEST * unit / size.median**power
    if end == "scale":
        output = name.partition("[")[2].rstrip("]")
        unit = size.own[int(output)] if output else size.variance
        return np.sqrt(_SMALLEST * unit), np.sqrt(_LARGEST * unit)
    if is_real(model, [name])[0]:
        return -np.inf, np.inf
    return value / _ANY, value * _ANY


def _power(model: GPModel, name: str) -> int:
    """The power of seconds in a variance: above 0 for white noise integrated, whose variance grows."""
    owner = _walk(model, name.split(".")[:-1])
    return 0 if getattr(owner, "is_stationary", True) else 2 * int(getattr(owner, "order", 0)) + 1


def _has_no_unit(model: GPModel, name: str) -> bool:
    """Whether a lengthscale is one within a period."""
    return _end(name) == "lengthscale" and hasattr(_walk(model, name.split(".")[:-1]), "period")


def _walk(tree: Any, parts: list[str]) -> Any:
    """The part of a tree at the end of a path."""
    for part in parts:
        tree = tree[int(part)] if part.isdigit() else getattr(tree, part)
    return tree


def _draw(
    model: GPModel, name: str, value: float, size: Scales, heights: np.ndarray, rng: np.random.Generator
) -> float:
    """A random start of one parameter."""
    end = _end(name)
    if _has_no_unit(model, name):
        return float(np.exp(rng.uniform(np.log(0.3), np.log(3.0))))
    if end in ("lengthscale", "period"):
        return float(np.exp(rng.uniform(np.log(size.median), np.log(max(size.duration, size.median)))))
    if end == "frequency":
        if len(heights):
            return float(rng.choice(heights) * np.exp(0.1 * rng.standard_normal()))
        return float(np.exp(rng.uniform(np.log(0.5 / size.duration), np.log(0.5 / size.median))))
    if end == "variance" and _power(model, name) == 0:
        low = 0.1 if name.startswith("kernel.") else 0.01
        return float(size.variance * np.exp(rng.uniform(np.log(low), np.log(2.0))))
    if is_real(model, [name])[0]:
        return value
    return float(value * np.exp(rng.standard_normal()))


def _peaks(model: GPModel, series: Series, size: Scales, n: int) -> np.ndarray:
    """Frequencies that stand out of the longest series."""
    cuts = np.flatnonzero(series.step[1:] < 0) + 1
    parts = np.split(np.arange(len(series.step)), cuts)
    found = []
    for rows in sorted(parts, key=len, reverse=True)[:_SERIES]:
        gap = np.where(series.step[rows] >= 0, series.gaps[series.step[rows]], 0.0)
        found.append((np.cumsum(gap), series.y[rows]))
    return peaks(found, 0.5 / size.median, n)


def _within(model: GPModel, names: list[str], allowed: np.ndarray) -> GPModel:
    """The model with its parameters moved into the limits."""
    low, high = allowed.T if len(names) else (0.0, 0.0)
    return _at(model, names, np.clip(_values(model, names), low, high))


def _values(model: GPModel, names: Sequence[str]) -> np.ndarray:
    """Constrained values in the order of the names."""
    x = np.array([flatten(model, name)[0][0] for name in names])
    real = is_real(model, names)
    return np.where(real, x, np.exp(np.where(real, 0.0, x)))


def _at(model: GPModel, names: Sequence[str], values: np.ndarray) -> GPModel:
    """The model with these constrained values."""
    real = is_real(model, names)
    return unflatten(model, np.where(real, values, np.log(np.where(real, 1.0, values))), names)


def _is_end(key: str, name: str) -> bool:
    """Whether a key is a name or its end, with or without an array index."""
    return any(key == own or own.endswith("." + key) for own in (name, name.split("[")[0]))


def _end(name: str) -> str:
    """The last part of a path, without its index."""
    return name.rpartition(".")[2].split("[")[0]
