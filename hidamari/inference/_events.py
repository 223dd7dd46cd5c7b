"""Times of events as the few rows that a search for changes of rate needs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["EventRows", "event_rows"]


class EventRows(NamedTuple):
    """Counts of bins, runs of empty bins being one row."""

    counts: np.ndarray  # (rows, units)
    exposure: np.ndarray  # (rows,) in seconds
    times: np.ndarray  # (rows,) beginnings of the rows in seconds


def event_rows(events: Sequence[ArrayLike], start: float, stop: float, bin_s: float) -> EventRows:
    """Rows for `Counts(exposure)` that give the change points of all bins of bin_s seconds, however many.

    Where no event falls between two possible changes, moving a change between them makes the cost
    s_1 log(e_1) + s_2 log(e_2), with e_1 + e_2 fixed, a concave function of the place: it is least at an end.
    The best changes lie at the edges of bins that hold events, so that a run of empty bins is one row. Small
    bins mean the times themselves.

    Parameters
    ----------
    events : sequence of array_like
        Times of the events of each unit, in seconds; those outside [start, stop) are left out.
    start, stop : float
        Recorded interval, in seconds; the last bin ends with it.
    bin_s : float
        Length of a bin in seconds: events of one bin are not told apart.

    Returns
    -------
    EventRows
        A change point at row k is a change at ``times[k]`` seconds.

    Raises
    ------
    ValueError
        If the interval or the bin is empty, or a time is not finite.

    Examples
    --------
    >>> rows = event_rows([[0.5, 0.51, 3.2]], start=0.0, stop=5.0, bin_s=1.0)
    >>> rows.counts[:, 0].tolist(), rows.exposure.tolist(), rows.times.tolist()
    ([2.0, 0.0, 1.0, 0.0], [1.0, 2.0, 1.0, 1.0], [0.0, 1.0, 3.0, 4.0])
    """
    if not start < stop < np.inf:
        raise ValueError(
            f"start is {start!r} and stop is {stop!r}: allowed are finite times, start before stop"
        )
    if not 0 < bin_s <= stop - start:
        raise ValueError(f"bin_s is {bin_s!r}: allowed are seconds above 0, up to {stop - start}")
    n_bins = int(np.ceil((stop - start) / bin_s - 1e-9))
    places, units = [], []
    for unit, times in enumerate(events):
        t = np.asarray(times, dtype=np.float64).ravel()
        if not np.isfinite(t).all():
            raise ValueError(f"events[{unit}] has times that are not finite")
        t = t[(t >= start) & (t < stop)]
        places.append(np.minimum(((t - start) / bin_s).astype(np.int64), n_bins - 1))
        units.append(np.full(len(t), unit))
    place, unit = (
        np.concatenate([[], *places]).astype(np.int64),
        np.concatenate([[], *units]).astype(np.int64),
    )
    filled = np.unique(place)
    # Rows begin at the first bin, at each filled bin, and after it.
    first = np.unique(np.concatenate([[0], filled, filled + 1]))
    first = first[first < n_bins]
    counts = np.zeros((len(first), len(events)))
    np.add.at(counts, (np.searchsorted(first, place), unit), 1.0)
    times = start + first * bin_s
    return EventRows(counts, np.diff(np.append(times, stop)), times)
