"""The procedure of Li, Wang and Rinaldo (ICML 2023) as published, and as its authors ran it.

1. Divide: B_r = min over grid points l of B_l + gamma + F(l, r), F the misfit of a segment at its penalised
   estimate, without the penalty.
2. Conquer: every change eta_k found is moved to the best split of the window from 2/3 eta_{k-1} + 1/3 eta_k
   to 1/3 eta_k + 2/3 eta_{k+1}, with a penalty under which both sides have the same zeros, and then to the
   best split with the estimates held.
3. lambda and gamma are those with the least loss of a second sample at the estimates of the first.

`hidamari.inference.segments.divide_and_conquer` needs no second sample, takes one penalty for both steps and
never ends above the objective that it began with. This procedure is here to compare, and for sparse models.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._grids import grid_edges
from hidamari.inference._rows import AXES, GRAM, MEAN, table
from hidamari.inference.sparse_costs import Blocks, before, blocks, misfits

__all__ = ["PaperSegmentation", "paper_procedure"]

_KINDS = {"mean": MEAN, "covariance": AXES, "regression": GRAM}
_REFINEMENTS = ("group", "separate")
_TOLERANCE = 1e-13  # of a coordinate's last gain, of the sum of squares
_RIDGE = 0.1  # the authors' for covariances that are nearly singular


class PaperSegmentation(NamedTuple):
    """Change points, and what was chosen to find them."""

    change_points: np.ndarray  # (K,) rising: first row of each segment but the first
    preliminary: np.ndarray  # (K',) of the divide step
    sparsity: float  # lambda
    penalty: float  # gamma
    loss: float  # of the validation sample, or of the sample itself where there was nothing to choose


class _Plan(NamedTuple):
    """Settings of one run."""

    kind: int
    group: bool
    min_length: int
    margin: int
    ridge: float
    zeta: float | None


def paper_procedure(
    X: ArrayLike,
    model: str = "mean",
    y: ArrayLike | None = None,
    n_grid: int = 100,
    lambdas: ArrayLike | None = None,
    gammas: ArrayLike | None = None,
    validation: Any = None,
    refine: str = "group",
    zeta: float | None = None,
    min_length: int | None = None,
    margin: int | None = None,
) -> PaperSegmentation:
    r"""Change points of means, covariances or regression coefficients by the published DCDP procedure.

    Noise of variance 1 is assumed where lambdas are not given. Penalties lambda sqrt(n) |theta|_1 on segments
    of n rows; zeta sum_j sqrt(n1 theta1_j^2 + n2 theta2_j^2) in the conquer step, none for covariances.

    Parameters
    ----------
    X : array_like, shape (T, d) or (T,)
        Series, complete; predictors, for a regression.
    model : {"mean", "covariance", "regression"}
        What changes; covariances and regressions are about zero, with no intercept.
    y : array_like, shape (T,), optional
        Response, for a regression.
    n_grid : int
        Grid points Q.
    lambdas : float or array_like, optional
        Values of lambda to choose from; by default (1/2, 1, 2) sqrt(log(max(T, d))), and 0 for covariances
        (with others, by graphical lasso in the divide step).
    gammas : float or array_like, optional
        Values of gamma to choose from; by default 9 from 6 / Q of the gain of the best single split
        up to it, and not below 2 log T.
    validation : array_like or tuple of array_like, optional
        Second sample of the same changes, X or (X, y). By default the even rows choose and the odd rows
        validate, and change points are even; with one lambda and one gamma there is nothing to validate, and
        all rows are used.
    refine : {"group", "separate"}
        Conquer step of the paper; or that of its authors' programme, to reproduce their tables: each side by
        itself with the penalty zeta = 0.1, lambda and zeta not scaled by sqrt(n), no last scan, changes that
        are close to their left neighbour or have a short window dropped, and 0.1 added to the diagonal of
        covariances of determinants below 1e-7.
    zeta : float, optional
        Penalty of the conquer step; lambda by default.
    min_length : int, optional
        Fewest rows of a segment in the divide step; by default 2, and p + p / 4 for covariances.
    margin : int, optional
        Fewest rows on each side of a split in the conquer step; `min_length` by default.

    Returns
    -------
    PaperSegmentation

    Raises
    ------
    ValueError
        If an argument is not allowed.

    References
    ----------
    Li, Wang and Rinaldo, Divide and conquer dynamic programming: an almost linear time change point detection
    methodology in high dimensions, ICML 2023.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> level = np.where(np.arange(300)[:, None] < 120, [0.0, 0.0, 2.0], [2.0, 0.0, 0.0])
    >>> x, second = level + rng.normal(size=(2, 300, 3))
    >>> paper_procedure(x, validation=second).change_points.tolist()
    [121]
    """
    first = _sample(X, y, model, "")
    plan = _planned(model, first.shape[1], refine, zeta, min_length, margin)
    if not (isinstance(n_grid, int | np.integer) and n_grid > 0):
        raise ValueError(f"n_grid is {n_grid!r}: allowed are whole numbers > 0")
    lambda_values = _values(lambdas, "lambdas")
    gamma_values = _values(gammas, "gammas")
    step = 1
    if validation is not None:
        pair = validation if isinstance(validation, tuple) else (validation, None)
        second = _sample(pair[0], pair[1], model, "validation: ")
        if second.shape != first.shape:
            raise ValueError(
                f"validation has shape {second.shape}: allowed is that of the first sample, {first.shape}"
            )
    elif (
        lambda_values is not None and gamma_values is not None and len(lambda_values) * len(gamma_values) == 1
    ):
        second = first
    else:
        step = 2
        half = len(first) // 2
        first, second = first[0 : 2 * half : 2], first[1 : 2 * half : 2]
    if lambda_values is None:
        scale = 0.0 if model == "covariance" else np.sqrt(np.log(max(first.shape)))
        lambda_values = np.unique(np.array([0.5, 1.0, 2.0]) * scale)
    found = _chosen(
        blocks(first, plan.kind), blocks(second, plan.kind), n_grid, lambda_values, gamma_values, plan
    )
    return found._replace(change_points=step * found.change_points, preliminary=step * found.preliminary)


def _sample(X: ArrayLike, y: ArrayLike | None, model: str, whose: str) -> np.ndarray:
    """Rows of X, with y as the last column for a regression."""
    if model not in _KINDS:
        raise ValueError(f"model is {model!r}: allowed are {', '.join(map(repr, _KINDS))}")
    x = table(X)
    if (y is not None) != (model == "regression"):
        raise ValueError(f"{whose}y is {'missing' if y is None else 'given'}: it belongs to a regression")
    if y is not None:
        response = np.asarray(y, dtype=np.float64)
        if response.reshape(-1).shape != (len(x),):
            raise ValueError(f"{whose}y has shape {response.shape}: allowed is ({len(x)},)")
        x = np.ascontiguousarray(np.column_stack([x, response.reshape(-1)]))
    if not np.isfinite(x).all():
        raise ValueError(
            f"{whose}X or y has entries that are not finite: the procedure takes complete series"
        )
    return x


def _planned(
    model: str, p: int, refine: str, zeta: float | None, min_length: int | None, margin: int | None
) -> _Plan:
    """Settings, with defaults in place."""
    if refine not in _REFINEMENTS:
        raise ValueError(f"refine is {refine!r}: allowed are {', '.join(map(repr, _REFINEMENTS))}")
    group = refine == "group"
    if zeta is not None and not (np.isfinite(zeta) and zeta >= 0):
        raise ValueError(f"zeta is {zeta!r}: allowed are finite numbers >= 0")
    if min_length is None:
        min_length = p + max(2, p // 4) if model == "covariance" else 2
    margin = min_length if margin is None else margin
    for name, value in (("min_length", min_length), ("margin", margin)):
        if not (isinstance(value, int | np.integer) and value > 0):
            raise ValueError(f"{name} is {value!r}: allowed are whole numbers > 0")
    ridge = 0.0 if group else _RIDGE
    return _Plan(
        _KINDS[model], group, int(min_length), int(margin), ridge, 0.1 if zeta is None and not group else zeta
    )


def _values(values: ArrayLike | None, name: str) -> np.ndarray | None:
    """Candidates of a tuning parameter."""
    if values is None:
        return None
    found = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if found.ndim != 1 or not len(found) or not np.all(np.isfinite(found) & (found >= 0)):
        raise ValueError(f"{name} is {values!r}: allowed are finite numbers >= 0, at least one")
    return found


def _chosen(
    train: Blocks, test: Blocks, n_grid: int, lambdas: np.ndarray, gammas: np.ndarray | None, plan: _Plan
) -> PaperSegmentation:
    """The segmentation with the least loss of the test sample."""
    n = int(train.edges[-1])
    edges = grid_edges(n, min(n_grid, n - 1) + 1)
    best = PaperSegmentation(np.empty(0, np.int64), np.empty(0, np.int64), np.nan, np.nan, np.inf)
    for sparsity in lambdas:
        F = _divide_costs(train, edges, float(sparsity), plan)
        known: dict[tuple[int, int, int], int] = {}  # neighbouring gammas find the same changes
        for gamma in _gains(F, n) if gammas is None else gammas:
            coarse = edges[_divide(F, float(gamma))]
            fine = _conquer(train, coarse, float(sparsity), plan, known)
            value = _validated(train, test, fine, float(sparsity), plan)
            if value < best.loss:
                best = PaperSegmentation(np.unique(fine), coarse, float(sparsity), float(gamma), value)
    return best


def _divide_costs(train: Blocks, edges: np.ndarray, sparsity: float, plan: _Plan) -> np.ndarray:
    """Misfits of all pairs of grid points, (Q + 2, Q + 2); infinite for segments that are too short.

    At 0, which the paper's pseudocode has there, a row or two of p columns would be a bargain at gamma < p.
    """
    F = np.full((len(edges), len(edges)), np.inf)
    l, r = np.triu_indices(len(edges), 1)
    long = edges[r] - edges[l] >= plan.min_length
    l, r = l[long], r[long]
    F[l, r] = misfits(train, edges[l], edges[r], sparsity, plan.group, plan.ridge, _TOLERANCE)[0]
    return F


def _gains(F: np.ndarray, n: int) -> np.ndarray:
    """Penalties from the gain of the best single split down.

    A change of size kappa inside of a cell costs up to kappa^2 T / (4 Q) at either edge, and two changes cut
    the cell out where gamma is less. A split gains kappa^2 T over a small number: hence one bound. The best
    of T splits of noise gains about 2 log T: hence the other.
    """
    most = float(np.max(F[0, -1] - F[0, 1:-1] - F[1:-1, -1], initial=0.0))
    lowest = max(most * min(0.5, 6.0 / (len(F) - 2)), 2.0 * np.log(n))
    return np.geomspace(lowest, most, 9) if most > lowest else np.array([lowest])


def _divide(F: np.ndarray, gamma: float) -> np.ndarray:
    """Indices of the best changes among the grid points."""
    n = len(F)
    best, last = np.full(n, np.inf), np.full(n, -1)
    best[0] = gamma
    for r in range(1, n):
        values = best[:r] + gamma + F[:r, r]
        l = int(np.argmin(values))
        if values[l] < np.inf:
            best[r], last[r] = values[l], l
    changes, at = [], last[-1]
    while at > 0:
        changes.append(at)
        at = last[at]
    return np.array(changes[::-1], dtype=np.int64)


def _conquer(
    train: Blocks, coarse: np.ndarray, sparsity: float, plan: _Plan, known: dict[tuple[int, int, int], int]
) -> np.ndarray:
    """Changes after local refinement, in the order of those they came from; known ones are remembered."""
    places = [0, *coarse.tolist(), len(train.rows.x)]
    triples = list(zip(places[:-2], places[1:-1], places[2:]))
    for triple in triples:
        if triple not in known:
            known[triple] = _refined(train, *triple, sparsity if plan.zeta is None else plan.zeta, plan)
    return np.array([known[triple] for triple in triples if known[triple] >= 0], dtype=np.int64)


def _refined(train: Blocks, left: int, middle: int, right: int, zeta: float, plan: _Plan) -> int:
    """Best place of the change `middle` between its neighbours, -1 where it is dropped."""
    from hidamari.inference._dcdp_paper import last_scan, local_refinement

    start, end = int(2 / 3 * left + 1 / 3 * middle), int(2 / 3 * right + 1 / 3 * middle)
    first, stop = start + plan.margin, end - plan.margin + 1
    if not plan.group:
        if left + 2 * plan.margin > middle:
            return -1
        first, stop = first + 1, stop - 1
    theta1, theta2 = np.empty((2, train.rows.x.shape[1] ** 2 + 1))
    sums = before(train, np.array([start, end]))
    window = start, end, first, stop
    how = float(zeta), plan.group, plan.ridge, _TOLERANCE
    where = local_refinement(train.rows, sums[0], sums[1], *window, *how, theta1, theta2)
    if not plan.group:
        return where
    return last_scan(train.rows, start, end, theta1, theta2) if where >= 0 else middle


def _validated(train: Blocks, test: Blocks, changes: np.ndarray, sparsity: float, plan: _Plan) -> float:
    """Loss of the test sample at the estimates of the training sample."""
    from hidamari.inference._dcdp_paper import held_out

    n, p = train.rows.x.shape
    places = np.concatenate([[0], np.unique(changes) if plan.group else changes, [n]])
    shortest = float(plan.min_length)
    if not plan.group:
        shortest = float(np.log(p - 1) + 1.0) if plan.kind == GRAM else 1.0
        shortest = np.nextafter(shortest, np.inf)
    sums = np.diff(before(train, places), axis=0), np.diff(before(test, places), axis=0)
    return held_out(
        plan.kind, np.diff(places), *sums, shortest, sparsity, plan.group, plan.ridge, _TOLERANCE, p
    )
