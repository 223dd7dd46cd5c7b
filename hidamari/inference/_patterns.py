"""Rows of several columns with missing entries, sorted by pattern for the compiled fits."""

from typing import NamedTuple

import numpy as np

from hidamari.inference._rows import AXES, ELLIPSE, middle, width

__all__ = ["Gaussian", "Holes", "costs_of", "gaussian", "gaussian_holes", "regression_holes"]

_NUMBERS = 4  # that block sums may keep for each that was observed
_NOTHING = -1


class Holes(NamedTuple):
    """Rows of which some miss entries, and their sums by pattern.

    Patterns of more rows than columns are common; each row of another is a pattern of its own.
    """

    kind: int
    x: np.ndarray  # (T, p); missing entries are filled in
    centre: np.ndarray  # (p,) about which values are summed
    least: np.ndarray  # (p,) smallest sum of squares, or variance of a response, that the recording can show
    state: np.ndarray  # (T,) int64: pattern of the row; -1 where it says nothing
    missing: np.ndarray  # (common + rare, p) bool
    rare: np.ndarray  # (rare,) int64, rising: the rows of patterns that are not common
    block: int  # rows between the sums
    sums: np.ndarray  # (blocks + 1, common, w) of the rows before each block
    seen: np.ndarray  # (T + 1,) int64: rows before each that say something
    holed: np.ndarray  # (T + 1,) int64: rows before each that say something and miss an entry
    precision: np.ndarray  # (p - 1, p - 1) of predictors


class Gaussian(NamedTuple):
    """The most likely Gaussian of some rows."""

    mean: np.ndarray  # (p,)
    covariance: np.ndarray  # (p, p)
    cost: float  # twice the negative log likelihood; inf where none is most likely


def gaussian_holes(x: np.ndarray, kind: int, centre: np.ndarray, least: np.ndarray) -> Holes:
    """Rows for the Gaussian of free covariance; a missing entry is at the centre, and adds nothing."""
    missing = np.isnan(x)
    filled = np.where(missing, centre, x)
    holed, silent = np.asarray(missing.any(axis=1)), np.asarray(missing.all(axis=1))
    return _sorted(kind, filled, centre, least, missing, holed, silent, np.empty((0, 0)))


def regression_holes(x: np.ndarray, kind: int, centre: np.ndarray, least: np.ndarray, first: int) -> Holes:
    """Rows for the regression of the last column; predictors begin at column `first`, after a constant.

    A missing predictor is at its mean given those of its row, under one Gaussian of the predictors of all
    rows. Rows without a response say nothing of the coefficients.
    """
    z = x[:, first:-1]
    missing = np.isnan(x)
    holed, silent = np.asarray(missing.any(axis=1)), missing[:, -1].copy()
    moving = [j for j in range(z.shape[1]) if len(np.unique(z[~np.isnan(z[:, j]), j])) > 1]
    filled = x.copy()
    p = x.shape[1]
    for j in set(range(z.shape[1])) - set(moving):
        # A constant is known where it is missing; of a column never seen nothing is, and it takes no part.
        seen = z[~np.isnan(z[:, j]), j]
        filled[:, first + j] = seen[0] if len(seen) else 0.0
        missing[:, first + j] = False
    precision = np.eye(p - 1)
    if missing[:, first:-1].any():
        columns = np.array(moving) + first
        found = gaussian(np.ascontiguousarray(x[:, columns]), ELLIPSE)
        if not np.isfinite(found.cost):
            raise ValueError(
                "X has missing predictors whose values cannot be told from the others, as predictors depend "
                'on each other or too few were observed together: allowed is missing="drop", which leaves '
                "out rows with a missing entry"
            )
        precision[np.ix_(columns, columns)] = np.linalg.inv(found.covariance)
        _impute(filled, columns, found)
    filled[silent] = 0.0
    return _sorted(kind, filled, centre, least, missing, holed, silent, precision)


def _impute(filled: np.ndarray, columns: np.ndarray, found: Gaussian) -> None:
    """Fill missing entries of the columns in place with their means given the row's others."""
    part = filled[:, columns]
    missing = np.isnan(part)
    patterns, which = np.unique(missing, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    stops = np.cumsum(np.bincount(which.ravel(), minlength=len(patterns)))
    for gone, rows in zip(patterns, np.split(order, stops[:-1])):
        if gone.any():
            V = found.covariance
            slope = np.linalg.solve(V[np.ix_(~gone, ~gone)], V[np.ix_(~gone, gone)])
            off = part[np.ix_(rows, ~gone)] - found.mean[~gone]
            part[np.ix_(rows, gone)] = found.mean[gone] + off @ slope
    filled[:, columns] = part


def _sorted(
    kind: int,
    x: np.ndarray,
    centre: np.ndarray,
    least: np.ndarray,
    missing: np.ndarray,
    holed: np.ndarray,
    silent: np.ndarray,
    precision: np.ndarray,
) -> Holes:
    """The rows with their patterns; those that are silent have none."""
    from hidamari.inference._holes import pattern_sums

    n_rows, p = x.shape
    at = np.flatnonzero(~silent)
    codes = np.packbits(missing[at], axis=1)
    _, first, which, count = np.unique(
        codes, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    which = which.ravel()
    common = np.flatnonzero(count > p)
    name = np.full(len(count), -1)
    name[common] = np.arange(len(common))
    rare = np.flatnonzero(name[which] < 0)
    state = np.full(n_rows, _NOTHING, dtype=np.int64)
    state[at] = name[which]
    state[at[rare]] = len(common) + np.arange(len(rare))
    w = width(kind, True, p)
    # Sums between blocks so long that they keep little more than the rows do.
    block = max(1, -(-len(common) * w // (_NUMBERS * p)))
    holes = Holes(
        kind,
        np.ascontiguousarray(x),
        np.ascontiguousarray(centre, dtype=np.float64),
        np.ascontiguousarray(least, dtype=np.float64),
        state,
        np.concatenate([missing[at[first[common]]], missing[at[rare]]]),
        at[rare].astype(np.int64),
        block,
        np.zeros((n_rows // block + 1, len(common), w)),
        _before(~silent),
        _before(~silent & holed),
        precision,
    )
    if len(common):
        pattern_sums(holes, holes.sums)
    return holes


def _before(which: np.ndarray) -> np.ndarray:
    """Number of True before each place."""
    return np.concatenate([[0], np.cumsum(which)]).astype(np.int64)


def costs_of(holes: Holes, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Costs of segments, and the parameters of the last: mean and covariance, or coefficients and noise."""
    from hidamari.inference._holes_fit import costs_with_holes

    p = holes.x.shape[1]
    theta = np.full(p + p * (p + 1) // 2 if holes.kind <= AXES else p, np.nan)
    out = np.empty(len(starts))
    costs_with_holes(holes, starts, ends, theta, out)
    return out, theta


def gaussian(x: np.ndarray, kind: int) -> Gaussian:
    """The most likely Gaussian of rows x (T, p) with missing entries, about its mean or about 0 (AXES)."""
    p = x.shape[1]
    centre = middle(x) if kind == ELLIPSE else np.zeros(p)
    holes = gaussian_holes(x, kind, centre, np.zeros(p))
    cost, theta = costs_of(holes, np.array([0]), np.array([len(x)]))
    V = np.empty((p, p))
    V[np.tril_indices(p)] = theta[p:]
    return Gaussian(centre + theta[:p], np.tril(V) + np.tril(V, -1).T, float(cost[0]))
