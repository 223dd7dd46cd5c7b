"""From times and values in any order to independent series end to end on one axis, and back."""

from typing import Any, NamedTuple

import numpy as np

from hidamari.statespace.kernels import steps

__all__ = ["Laid", "Series", "lay_series"]


class Series(NamedTuple):
    """Independent series laid end to end on one axis; rows are sorted by time within a series."""

    gaps: np.ndarray  # (S,) distinct steps in seconds
    step: np.ndarray  # (T,) int64: row t lies gaps[step[t]] after row t - 1; negative starts a series
    y: np.ndarray  # (T,) NaN: not observed
    output: np.ndarray  # (T,) int64: which bias and which noise
    error: np.ndarray | None = None  # (T,) known variances, added to those of Gaussian noise


class Laid(NamedTuple):
    """A `Series` and the way back: ``answer[rows[r]]`` is shaped and ordered as the values of trial r."""

    series: Series
    rows: list[np.ndarray]


def lay_series(times: Any, values: Any, error: Any = None) -> Laid:
    """Lay trials of one or several outputs end to end, each output of each trial as one series.

    Parameters
    ----------
    times : array_like (T,), or list of them
        Seconds, of one trial or of each; in any order, repeats allowed.
    values : array_like (T,) or (T, output), or list of them
        Observations with NaN where nothing was seen.
    error : as values, optional
        Known variances of the observations.

    Returns
    -------
    Laid
        The series, and for each trial the row of each of its values.

    Raises
    ------
    ValueError
        If shapes do not fit or times are not finite.

    Examples
    --------
    >>> laid = lay_series([0.3, 0.1, 0.1], [3.0, 1.0, 2.0])
    >>> laid.series.y.tolist(), laid.series.gaps.round(3).tolist(), laid.rows[0].tolist()
    ([1.0, 2.0, 3.0], [0.0, 0.2], [2, 0, 1])
    """
    many = isinstance(times, (list, tuple)) and len(times) > 0 and np.ndim(times[0]) > 0
    trials = [np.asarray(t) for t in (times if many else [times])]
    found = [np.asarray(v, dtype=np.float64) for v in (values if many else [values])]
    known = None if error is None else [np.asarray(e, np.float64) for e in (error if many else [error])]
    _check_trials(trials, found, known)
    order = [np.argsort(t, kind="stable") for t in trials]
    gaps, step = _in_order(*steps([t[i] for t, i in zip(trials, order)]))
    starts = np.cumsum([0, *(len(t) for t in trials)])
    parts: dict[str, list[np.ndarray]] = {"step": [], "y": [], "output": [], "error": []}
    rows, first = [], 0
    for r, (own, sorter) in enumerate(zip(found, order)):
        wide = own.reshape(len(own), -1)
        T, N = wide.shape
        parts["step"].append(np.tile(step[starts[r] : starts[r + 1]], N))
        parts["y"].append(wide[sorter].T.ravel())
        parts["output"].append(np.repeat(np.arange(N), T))
        if known is not None:
            parts["error"].append(known[r].reshape(T, N)[sorter].T.ravel())
        place = np.empty((T, N), dtype=np.int64)
        place[sorter] = first + np.arange(N * T).reshape(N, T).T
        rows.append(place.reshape(own.shape))
        first += N * T
    joined = {name: np.concatenate(part) if part else None for name, part in parts.items()}
    return Laid(Series(gaps, **joined), rows)  # type: ignore[arg-type]


def _in_order(gaps: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gaps by their first row instead of by size: where all differ, loops over time read memory in order."""
    first = np.full(len(gaps), len(step))
    rows = np.flatnonzero(step >= 0)[::-1]
    first[step[rows]] = rows  # of several that write, the last one stays: the first row
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(gaps), dtype=np.int64)
    rank[order] = np.arange(len(gaps))
    return gaps[order], np.where(step < 0, -1, rank[step])


def _check_trials(trials: list, values: list, error: list | None) -> None:
    """Refuse trials whose shapes do not fit together."""
    if len(values) != len(trials):
        raise ValueError(f"values has {len(values)} trials and times {len(trials)}: one for each is needed")
    for r, (t, v) in enumerate(zip(trials, values)):
        if v.ndim not in (1, 2) or v.ndim != values[0].ndim or v.shape[1:] != values[0].shape[1:]:
            raise ValueError(
                f"values[{r}] must have shape (T,) or (T, output), the same in all, got {v.shape}"
            )
        if t.shape != v.shape[:1]:
            raise ValueError(f"times[{r}] must have shape {v.shape[:1]}, one for each value, got {t.shape}")
        if error is not None and error[r].shape != v.shape:
            raise ValueError(
                f"error[{r}] must have shape {v.shape}, that of the values, got {error[r].shape}"
            )
