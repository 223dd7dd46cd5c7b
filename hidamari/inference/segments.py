"""Searches for change points: exact, fast, and over many penalties.

Every engine takes a series X (T, d) or (T,), a cost of `hidamari.inference.costs` or a user's own, and a
penalty for each change point, and makes the sum of the segments' costs plus the penalties small. A change
point is the first row of the new segment; segments are [a, b).

========================  ==============================================  ===========================
engine                    work                                            answer
========================  ==============================================  ===========================
`optimal_partitioning`    T^2 / 2 costs                                   exact, any cost
`pelt`                    T to T^2 / 2, few where changes are many        exact, costs that fall when split
`fpop`                    T log T                                         exact, one column, one parameter
`divide_and_conquer`      one pass over the data, and Q^2 / 2 for Q cells  near exact, many columns
`seeded_binary`           T log T                                         greedy, any cost
`penalty_path`            one search for each number of changes           all of them
========================  ==============================================  ===========================
"""

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._divide import divide_and_conquer
from hidamari.inference._functional import functional
from hidamari.inference._grids import programme, slow_dynamic
from hidamari.inference._path import PenaltyPath, penalty_path
from hidamari.inference._seeded import seeded_binary
from hidamari.inference._segmentation import Segmentation, answer, asked, traced
from hidamari.inference.costs import Cost, Sums

__all__ = [
    "PenaltyPath",
    "Segmentation",
    "divide_and_conquer",
    "fpop",
    "optimal_partitioning",
    "pelt",
    "penalty_path",
    "seeded_binary",
]


def optimal_partitioning(
    X: ArrayLike, cost: Cost, penalty: float, min_length: int | None = None
) -> Segmentation:
    """Exact minimum of the penalised cost over all segmentations, by dynamic programming.

    F_r = min over l <= r - min_length of F_l + C(l, r) + penalty. All T^2 / 2 segments are priced, so that no
    property of the cost is needed.

    Parameters
    ----------
    X : array_like, shape (T, d) or (T,)
        Series; NaN where nothing was observed, if the cost can take it.
    cost : Cost
        Segment cost.
    penalty : float
        Price of one change point.
    min_length : int or None
        Fewest rows of a segment; the cost's own by default.

    Returns
    -------
    Segmentation

    Raises
    ------
    ValueError
        If an argument is not allowed.

    References
    ----------
    Jackson et al., An algorithm for optimal partitioning of data on an interval, 2005.

    Examples
    --------
    >>> from hidamari.inference.costs import Mean
    >>> optimal_partitioning([0.0, 0.1, 5.0, 5.1], Mean(), penalty=1.0).change_points.tolist()
    [2]
    """
    return _programme(X, cost, penalty, min_length, prune=False)


def pelt(X: ArrayLike, cost: Cost, penalty: float, min_length: int | None = None) -> Segmentation:
    """Exact minimum of the penalised cost with pruning, for costs that never rise when a segment is split.

    A last change l with F_l + C(l, r) >= F_r can be given up, but only from r + min_length on: until then r
    itself is not yet allowed as a last change. The work is near linear where changes are many, quadratic
    where they are few. Nothing is given up where the cost says that it can rise when a segment is split
    (``falls_when_split`` is False, as for `Kalman` and `ThresholdedMean`).

    Parameters
    ----------
    X, cost, penalty, min_length
        As in `optimal_partitioning`.

    Returns
    -------
    Segmentation

    Raises
    ------
    ValueError
        If an argument is not allowed.

    References
    ----------
    Killick, Fearnhead and Eckley, Optimal detection of changepoints with a linear computational cost, 2012.

    Examples
    --------
    >>> from hidamari.inference.costs import Mean
    >>> pelt([0.0, 1.0, 0.0, 0.0, 1.0], Mean(), penalty=0.1, min_length=2).change_points.tolist()
    []
    """
    return _programme(X, cost, penalty, min_length, prune=getattr(cost, "falls_when_split", True))


def fpop(X: ArrayLike, cost: Cost, penalty: float) -> Segmentation:
    """Exact minimum of the penalised cost by functional pruning, for one column and one parameter.

    Keeps, for every value of the parameter of the segment that is running, the best cost so far and the row
    where that segment began: values for which another beginning is better by the penalty are given up. Near
    linear in T whether changes are many or none.

    Parameters
    ----------
    X : array_like, shape (T,) or (T, 1)
        Series; NaN where nothing was observed.
    cost : Mean, Biweight, Counts, Exponential or Variance
        Segment cost.
    penalty : float
        Price of one change point.

    Returns
    -------
    Segmentation

    Raises
    ------
    ValueError
        If an argument is not allowed.

    References
    ----------
    Maidstone, Hocking, Rigaill and Fearnhead, Optimal multiple changepoint algorithms for large data, 2017.

    Examples
    --------
    >>> from hidamari.inference.costs import Mean
    >>> fpop([0.0, 0.1, 5.0, 5.1], Mean(), penalty=1.0).change_points.tolist()
    [2]
    """
    n_rows, _ = asked(X, cost, penalty, None)
    if np.ndim(X) == 2 and np.shape(X)[1] != 1:
        raise ValueError(f"X has {np.shape(X)[1]} columns: fpop takes one; see divide_and_conquer and pelt")
    cache = cost.prepare(X)
    return answer(cost, cache, n_rows, functional(cost, cache, float(penalty)), penalty)


def _programme(X: ArrayLike, cost: Cost, penalty: float, min_length: int | None, prune: bool) -> Segmentation:
    """Dynamic programme over all rows."""
    n_rows, least = asked(X, cost, penalty, min_length)
    cache = cost.prepare(X)
    if isinstance(cache, Sums):
        last, n = programme(cache.rows, cache.prefix, np.arange(n_rows + 1), float(penalty), least, prune)
    else:
        last, n = slow_dynamic(cost, cache, np.arange(n_rows + 1), float(penalty), least, prune)
    return answer(cost, cache, n_rows, traced(last), penalty, n_evaluations=n)
