"""Seeded binary segmentation with narrowest-over-threshold selection."""

from bisect import bisect_right, insort

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._grids import Priced, Summed
from hidamari.inference._segmentation import Segmentation, answer, asked
from hidamari.inference.costs import Cost, Sums

__all__ = ["seeded_binary", "seeded_intervals"]


def seeded_intervals(n_rows: int, shortest: int, decay: float) -> np.ndarray:
    """Starts and ends (n, 2) of intervals of lengths T, T decay, T decay^2, ..., half overlapping."""
    layers = [np.array([[0, n_rows]])]
    length = n_rows * decay
    while length >= shortest:
        count = 2 * int(np.ceil(n_rows / length)) - 1
        starts = np.linspace(0.0, n_rows - length, count)
        layers.append(np.stack([np.floor(starts), np.ceil(starts + length)], axis=1).astype(np.int64))
        length *= decay
    return np.unique(np.minimum(np.concatenate(layers), n_rows), axis=0)


def seeded_binary(
    X: ArrayLike, cost: Cost, penalty: float, min_length: int | None = None, decay: float = 0.5**0.5
) -> Segmentation:
    """Change points of the narrowest intervals whose best split gains more than the penalty.

    Every interval of a fixed collection, T log T rows in all, is split where that gains most. The narrowest
    interval that gains more than the penalty gives a change point, the intervals that hold it are left out,
    and so on: a narrow interval is unlikely to hold two changes. Of the points found the best are taken,
    by dynamic programming with the same penalty, and each is moved to the best
    row between its neighbours. For costs without sums, and with more than
    one parameter; the answer need not be the one of least penalised cost.

    Parameters
    ----------
    X, cost, penalty, min_length
        As in `optimal_partitioning`.
    decay : float
        Ratio of one length of intervals to the next, at least 1/2 and below 1.

    Returns
    -------
    Segmentation

    Raises
    ------
    ValueError
        If an argument is not allowed.

    References
    ----------
    Kovacs et al., Seeded binary segmentation, 2023. Baranowski, Chen and Fryzlewicz, Narrowest-over-threshold
    detection of multiple change points, 2019.

    Examples
    --------
    >>> from hidamari.inference.costs import Mean
    >>> seeded_binary([0.0, 0.1, 5.0, 5.1], Mean(), penalty=1.0).change_points.tolist()
    [2]
    """
    n_rows, minimum = asked(X, cost, penalty, min_length)
    if not 0.5 <= decay < 1:
        raise ValueError(f"decay is {decay!r}: allowed are numbers from 0.5 to below 1")
    cache = cost.prepare(X)
    edges = np.arange(n_rows + 1)
    if isinstance(cache, Sums):
        view: Summed | Priced = Summed(cache.rows, cache.prefix, edges, minimum)
    else:
        view = Priced(cost, cache, edges, minimum, tries=n_rows)
    intervals = seeded_intervals(n_rows, 2 * minimum, decay)
    gains, places = view.best(intervals[:, 0], intervals[:, 1])
    lengths = intervals[:, 1] - intervals[:, 0]
    good = np.flatnonzero(gains > penalty)
    chosen: list[int] = []
    for i in good[np.lexsort((-gains[good], lengths[good]))]:
        start, end = intervals[i]
        at = bisect_right(chosen, start)
        clear = at == len(chosen) or chosen[at] >= end
        near = [abs(c - places[i]) for c in chosen[max(at - 1, 0) : at + 1]]
        if clear and min(near, default=n_rows) >= minimum:
            insort(chosen, int(places[i]))
    # Many intervals are tried, some gain by chance: those that do not pay for themselves together go out.
    kept, priced = view.programme(np.array([0, *chosen, n_rows]), float(penalty))
    chosen = kept.tolist()
    for k in range(len(chosen)):
        # A narrow interval shows that there is a change; all rows between the neighbours show best where.
        around = np.array([0, *chosen, n_rows])[[k, k + 2]]
        gain, place = view.best(around[:1], around[1:])
        chosen[k] = int(place[0]) if gain[0] > penalty else chosen[k]
    return answer(cost, cache, n_rows, np.array(chosen), penalty, n_evaluations=int(lengths.sum()) + priced)
