"""Rows that a network is trained on: units, batches, and rates over the training."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hidamari.inference._lag_input import observed_mean, usable_rows

__all__ = ["Batches", "Plan", "Rows", "Units", "gather", "layout_of", "units"]

_WARM = 0.25  # share of the training over which the rate rises
_FIRST, _LAST = 1 / 25, 1e-4  # of the largest rate
_RAMP = (0.25, 0.5)  # shares of the training between which the penalty rises
_MANY = 64  # lags from which consecutive rows, whose linear part is a transform, are cheaper than windows


class Units(NamedTuple):
    """Centres and scales of the series and its columns."""

    centre: float
    scale: float
    column_centre: np.ndarray  # (k,)
    column_scale: np.ndarray  # (k,)


class Rows(NamedTuple):
    """Standardised series, laid end to end, and the times whose rows are complete."""

    series: np.ndarray  # (N,), 0 where not observed
    columns: np.ndarray  # (N, k)
    lags: np.ndarray  # (n,)
    n_forecasts: int
    train: np.ndarray  # times
    held: np.ndarray  # times of the validation rows, the last ones
    margin: int  # rows before the first segment


class Batches(NamedTuple):
    """Times of each batch, and their weights, which are 1 / rows of a batch on average."""

    times: np.ndarray  # (n, B) int32
    weights: np.ndarray  # (n, B) float32
    layout: str


class Plan(NamedTuple):
    """How a network is trained."""

    epochs: int
    batch_size: int
    rate: float
    patience: int
    layout: str  # "slices", "gather", or "blocks" of consecutive rows
    penalty: str | None
    strength: float
    doubt: float  # relative difference of validation losses that is none

    def rates(self, at: np.ndarray) -> np.ndarray:
        """One cycle: up and down by cosines."""
        up = _FIRST + (1.0 - _FIRST) * 0.5 * (1.0 - np.cos(np.pi * np.minimum(at / _WARM, 1.0)))
        down = _LAST + (1.0 - _LAST) * 0.5 * (1.0 + np.cos(np.pi * np.clip((at - _WARM) / (1 - _WARM), 0, 1)))
        return self.rate * np.where(at < _WARM, up, down)

    def strengths(self, at: np.ndarray) -> np.ndarray:
        """The penalty comes late, when weights already tell lags that matter from those that do not."""
        return self.strength * np.clip((at - _RAMP[0]) / (_RAMP[1] - _RAMP[0]), 0.0, 1.0) ** 2

    def batches(self, rows: Rows, rng: np.random.Generator) -> Batches:
        """The batches of an epoch."""
        if self.layout != "blocks":
            return _dealt(rng.permutation(rows.train), self.batch_size, self.layout)
        found = _blocks(rows.train, self.batch_size, int(rng.integers(self.batch_size)))
        order = rng.permutation(len(found.times))
        return found._replace(times=found.times[order], weights=found.weights[order])

    def validation(self, rows: Rows) -> Batches | None:
        """The validation rows, whose weights sum to 1."""
        if not len(rows.held):
            return None
        if self.layout == "blocks":
            found = _blocks(rows.held, self.batch_size, 0)
        else:
            found = _dealt(rows.held, self.batch_size, self.layout)
        return found._replace(weights=found.weights / np.float32(len(found.times)))


def layout_of(lags: np.ndarray, hidden: bool, spread: float) -> str:
    """How windows are cut; `spread` is the share of rows that are complete."""
    if not hidden and len(lags) >= _MANY and spread > 0.5:
        return "blocks"
    return "slices" if len(lags) == lags.max(initial=0) else "gather"


def _dealt(times: np.ndarray, size: int, layout: str) -> Batches:
    """Times dealt into batches, the last filled up with rows of weight zero."""
    n = -(-len(times) // size)
    lack = n * size - len(times)
    weights = np.pad(np.ones(len(times)), (0, lack)) * (n / len(times))
    padded = np.pad(times, (0, lack), mode="edge")
    return Batches(
        padded.reshape(n, size).astype(np.int32), weights.reshape(n, size).astype(np.float32), layout
    )


def _blocks(times: np.ndarray, size: int, back: int) -> Batches:
    """Consecutive rows from `back` rows before the first; those not among the times have weight zero."""
    first = int(times[0]) - back
    n = -(-(int(times[-1]) + 1 - first) // size)
    every = first + np.arange(n * size)
    weights = np.zeros(n * size)
    weights[times - first] = n / len(times)
    return Batches(
        every.reshape(n, size).astype(np.int32), weights.reshape(n, size).astype(np.float32), "blocks"
    )


def units(segments: Sequence[np.ndarray], columns: Sequence[np.ndarray]) -> Units:
    """Means and spreads of what was observed; what does not vary keeps its unit."""
    centre = observed_mean(list(segments))
    scale = np.sqrt(observed_mean([(part - centre) ** 2 for part in segments]))
    k = columns[0].shape[1]
    middle = np.array([observed_mean([x[:, i] for x in columns]) for i in range(k)])
    spread = np.array(
        [np.sqrt(observed_mean([(x[:, i] - middle[i]) ** 2 for x in columns])) for i in range(k)]
    )
    return Units(centre, float(scale) or 1.0, middle, np.where(spread > 0.0, spread, 1.0))


def gather(
    segments: Sequence[np.ndarray],
    columns: Sequence[np.ndarray],
    lags: np.ndarray,
    n_forecasts: int,
    measures: Units,
    validation: float,
    margin: int,
) -> Rows:
    """Standardise and join segments; `margin` rows before and after let blocks reach beyond the ends.

    The length is a power of two: a longer series of the same bucket is no new shape.
    """
    wanted = np.concatenate([-np.arange(n_forecasts), lags])
    times, at = [], margin
    total = 2 * margin + sum(map(len, segments))
    size = 1 << (total - 1).bit_length()
    series, x = np.zeros(size), np.zeros((size, columns[0].shape[1]))
    for part, own in zip(segments, columns):
        times.append(at + np.flatnonzero(usable_rows([part], [wanted], own)))
        series[at : at + len(part)] = np.nan_to_num((part - measures.centre) / measures.scale)
        x[at : at + len(part)] = np.nan_to_num((own - measures.column_centre) / measures.column_scale)
        at += len(part)
    every = np.concatenate(times)
    n_held = int(round(validation * len(every)))
    split = len(every) - n_held
    return Rows(series, x, lags, n_forecasts, every[:split], every[split:], margin)
