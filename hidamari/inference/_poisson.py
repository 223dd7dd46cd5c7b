"""Poisson regressions of many targets on shared rows, which are made a few thousand at a time.

log of the expected count = offset + x' w; the log likelihood is concave. A pass gives its value, slope and
curvature for all targets, in O(T D^2) each for D predictors; nothing of size T times lags is ever held.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular

__all__ = ["Data", "Solved", "blocks", "climb", "select"]

_MOST_STEPS = 100  # a dozen are enough unless spikes are separable
_CLOSE = 1e-9  # nats that a full step would gain, after which it is taken and is the last
_STRIDE = 16  # of the rows that a start is found with
_LIGHT = 1.0  # ridge of that start
_MANY = 100  # rows for each predictor, among those, that make a start worth it
_FLAT = 1e-6  # of the curvature that a constant rate would give
_NUMBERS = 1 << 17  # of the rows in hand at a time, so that they stay in the cache
_HELD = 1 << 24  # numbers of rows kept from pass to pass, 128 MiB; beyond, rows are made anew
_SWEEPS = 10_000


class Data(NamedTuple):
    """Counts and what they depend on; zeros stand where nothing was observed."""

    counts: np.ndarray  # (T, N)
    columns: np.ndarray  # (T, q)
    offset: np.ndarray  # (T, N) or (T, 1) log exposure
    usable: np.ndarray | None  # (T, N) bool; None: all
    starts: np.ndarray  # (segments + 1,) first row of each segment, and T
    basis: np.ndarray  # (lag, K)
    kept: dict[int, np.ndarray]  # rows of an earlier pass
    stride: int = 1  # one in so many blocks of rows is used


class Solved(NamedTuple):
    """The maximum for one target."""

    weights: np.ndarray  # (D,) of its predictors: 1, columns, then K for each source
    cov: np.ndarray  # (D, D)
    log_likelihood: float
    n_iter: int


class _Point(NamedTuple):
    """The log likelihood of one target at some weights."""

    value: float
    slope: np.ndarray
    curvature: np.ndarray


def blocks(data: Data) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of predictors, some at a time: 1, columns, past spikes of each unit through each function."""
    from hidamari.inference._spike_history import see

    q, N, K = data.columns.shape[1], data.counts.shape[1], data.basis.shape[1]
    D = 1 + q + N * K
    size = min(max(_NUMBERS // D, 512), 8192)
    edges = [
        (int(first), a, min(a + size, int(last)))
        for first, last in zip(data.starts[:-1], data.starts[1:])
        for a in range(first, last, size)
    ]
    keep = len(data.counts) * D <= _HELD
    for first, a, b in edges[:: data.stride]:
        if a not in data.kept:
            X = np.zeros((b - a, D))
            see(data.counts, first, a, b, data.basis, X[:, 1 + q :])
            X[:, 0] = 1.0
            X[:, 1 : 1 + q] = data.columns[a:b]
            if keep:
                data.kept[a] = X
        else:
            X = data.kept[a]
        yield slice(a, b), X


def _evaluate(data: Data, at: dict[int, np.ndarray], weights: dict[int, np.ndarray]) -> dict[int, _Point]:
    """Value, slope and curvature of some targets in one pass; a value of -inf where rates overflow."""
    value = dict.fromkeys(weights, 0.0)
    slope = {n: np.zeros(len(w)) for n, w in weights.items()}
    curvature = {n: np.zeros((len(w), len(w))) for n, w in weights.items()}
    for rows, X in blocks(data):
        for n, w in weights.items():
            if value[n] == -np.inf:
                continue
            x = X if len(w) == X.shape[1] else X[:, at[n]]
            y = data.counts[rows, n]
            eta = x @ w + data.offset[rows, n if data.offset.shape[1] > 1 else 0]
            with np.errstate(over="ignore"):
                rate = np.exp(eta)
            if data.usable is not None:
                rate = np.where(data.usable[rows, n], rate, 0.0)
                y = np.where(data.usable[rows, n], y, 0.0)
            total = float(rate.sum())
            if not np.isfinite(total):
                value[n] = -np.inf
                continue
            value[n] += float(y @ eta) - total
            slope[n] += (y - rate) @ x
            root = np.sqrt(rate)[:, None] * x
            curvature[n] += root.T @ root
    return {n: _Point(value[n], slope[n], curvature[n]) for n in weights}


def climb(
    data: Data, at: dict[int, np.ndarray], start: dict[int, np.ndarray], ridge: float
) -> dict[int, Solved]:
    """Newton's method for all targets side by side; raise where the likelihood has no maximum.

    Of many rows, a sixteenth is climbed first: from there it is a few steps to the maximum of all.
    """
    widest = max(map(len, at.values()))
    if data.stride == 1 and len(data.counts) > _STRIDE * _MANY * widest:
        with suppress(ValueError):  # of a unit that is silent in these rows: then all start from scratch
            part = climb(data._replace(stride=_STRIDE), at, start, max(ridge, _LIGHT))
            start = {n: solved.weights for n, solved in part.items()}
    held = {n: np.where(at[n] == 0, 0.0, ridge) for n in at}
    here, move = dict(start), {}
    now = dict.fromkeys(at, -np.inf)
    flat: dict[int, np.ndarray] = {}
    trial, found = dict(start), {}
    for step in range(1, _MOST_STEPS + 1):
        for n, point in _evaluate(data, at, trial).items():
            value = point.value - 0.5 * float(held[n] @ trial[n] ** 2)
            if np.isfinite(now[n]) and not value >= now[n] - 1e-12 * abs(now[n]):
                move[n] = 0.5 * move[n]  # concave: some part of a Newton step always climbs
                trial[n] = here[n] + move[n]
                continue
            here[n], now[n] = trial[n], value
            slope = point.slope - held[n] * here[n]
            curvature = point.curvature + np.diag(held[n])
            flat.setdefault(n, np.diag(point.curvature).copy())
            try:
                factor = cho_factor(curvature)
            except LinAlgError:
                raise ValueError(
                    f"counts of unit {n} do not determine its filters; a positive ridge does"
                ) from None
            move[n] = cho_solve(factor, slope)
            gain = 0.5 * float(slope @ move[n])
            trial[n] = here[n] + move[n]
            if gain < _CLOSE:
                # On the way to infinite weights the rates that hold them vanish, and the climb with them.
                if (np.diag(curvature) < _FLAT * flat[n]).any():
                    raise ValueError(_no_maximum(n))
                inverse = cho_solve(factor, np.eye(len(slope)))
                found[n] = Solved(trial[n], inverse, point.value + gain, step)
                del trial[n]
        if not trial:
            return found
    raise ValueError(_no_maximum(min(trial)))


def _no_maximum(n: int) -> str:
    """What to say of a target whose likelihood rises for ever."""
    return f"the likelihood of unit {n} has no maximum: spikes are separable; give a ridge"


def select(
    data: Data,
    free: dict[int, np.ndarray],
    felt: np.ndarray,
    alone: dict[int, Solved],
    groups: list[np.ndarray],
    level: np.ndarray,
    ridge: float,
) -> dict[int, list[int]]:
    r"""Sources whose groups of predictors a group penalty keeps, for each target.

    max log likelihood - sum_g level_g |L_g' w_g|, L_g L_g' the information on w_g that the free predictors
    leave in the model ``alone``, in which the slope by L_g' w_g is a standard normal vector. A proximal
    Newton method over the groups that may be felt and are not among the free predictors.
    """
    from hidamari.inference._descent import descend_groups

    D = 1 + data.columns.shape[1] + sum(map(len, groups))
    held = np.append(0.0, np.full(D - 1, ridge))
    every = {n: np.arange(D) for n in free}
    here = {}
    for n, solved in alone.items():
        here[n] = np.zeros(D)
        here[n][free[n]] = solved.weights
    trial, move = dict(here), dict(here)
    now = dict.fromkeys(here, -np.inf)
    scales: dict[int, np.ndarray] = {}
    kept: dict[int, list[int]] = {}
    for _ in range(_MOST_STEPS):
        for n, point in _evaluate(data, every, trial).items():
            curvature = point.curvature + np.diag(held)
            others = [g for g in np.flatnonzero(felt[n]).tolist() if not np.isin(groups[g], free[n]).any()]
            if n not in scales:
                scales[n] = _whitening(curvature, free[n], [groups[g] for g in others], n)
            into = scales[n]  # w = into u
            u = solve_triangular(into, trial[n], lower=False)
            price = sum(float(level[g] * np.linalg.norm(u[groups[g]])) for g in others)
            value = point.value - price - 0.5 * float(held @ trial[n] ** 2)
            if np.isfinite(now[n]) and not value >= now[n] - 1e-12 * abs(now[n]):
                move[n] = 0.5 * move[n]
                trial[n] = here[n] + move[n]
                continue
            gained, here[n], now[n] = value - now[n], trial[n], value
            R = into.T @ curvature @ into
            R = 0.5 * (R + R.T)
            members = [free[n], *(groups[g] for g in others)]
            order = np.concatenate(members)
            starts = np.concatenate([[0], np.cumsum([len(own) for own in members])])
            bounds = np.array([np.linalg.eigvalsh(R[np.ix_(own, own)])[-1] for own in members])
            weights = np.append(0.0, level[others])
            b, slope = u.copy(), into.T @ (point.slope - held * trial[n])
            descend_groups(R, order, starts, bounds, weights, b, np.empty_like(b), slope, 1e-7, _SWEEPS)
            move[n] = into @ (b - u)
            trial[n] = here[n] + move[n]
            if gained < 1e-3 and np.abs(b - u).max() < 1e-3:  # of a standard error
                kept[n] = [g for g in others if b[groups[g]].any()]
                del trial[n]
        if not trial:
            return kept
    raise ValueError(_no_maximum(min(trial)))


def _whitening(curvature: np.ndarray, free: np.ndarray, groups: list[np.ndarray], n: int) -> np.ndarray:
    """Upper triangular blocks that turn standardised weights into weights."""
    into = np.eye(len(curvature))
    try:
        for own in [free, *groups]:
            left = curvature[np.ix_(own, own)]
            if own is not free:
                across = curvature[np.ix_(free, own)]
                left = left - across.T @ np.linalg.solve(curvature[np.ix_(free, free)], across)
            root = cholesky(left, lower=True)
            into[np.ix_(own, own)] = solve_triangular(root, np.eye(len(own)), lower=True).T
    except LinAlgError:
        raise ValueError(f"counts of unit {n} do not determine its filters; drop silent units") from None
    return into
