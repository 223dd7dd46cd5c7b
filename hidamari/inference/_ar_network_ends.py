"""Where a network starts and ends: the linear part from moments, and what is kept of the training."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import oaconvolve

from hidamari.inference._ar_network_forward import features
from hidamari.inference._ar_network_rows import Rows, Units
from hidamari.inference.arnet_penalty import arnet_penalty
from hidamari.inference.autoregression import ARFit, solve_exact
from hidamari.inference.lags import LagGram, keep, lag_gram
from hidamari.inference.sparse_autoregression import coordinate_descent

__all__ = ["Linear", "begin", "end_linear", "end_network", "end_raw", "linear_part"]

_PAPER = 0.01  # c of lambda = c sigma^2 (1 / s - 1)
_SMALL = 0.1
_ALIKE = 1e-10  # share of the mean square that varies
_SAME = 1e-6  # difference of criteria of one support
_CHUNK = 4096  # rows whose windows are held at a time

Parts = tuple[list[np.ndarray], list[np.ndarray]]


class Linear(NamedTuple):
    """The linear solution of every horizon."""

    fits: list[ARFit]
    strength: float  # lambda of the mean of the penalties of all weights, in units of the variance of y


def linear_part(
    parts: list[np.ndarray],
    columns: list[np.ndarray],
    lags: np.ndarray,
    n_forecasts: int,
    penalty: str | None,
    sparsity: float | None,
    alpha: str | float,
) -> Linear:
    """Exact or sparse solution on the moments."""
    gram = lag_gram(parts, lags.tolist(), columns, steps=n_forecasts)
    if penalty is None:
        return Linear([solve_exact(gram, response=h) for h in range(n_forecasts)], 0.0)
    found = [
        _sparse(keep(gram, np.arange(len(gram.names)), h), penalty, sparsity, alpha)
        for h in range(n_forecasts)
    ]
    return Linear([fit for fit, _ in found], float(np.mean([strength for _, strength in found])))


def _sparse(gram: LagGram, penalty: str, sparsity: float | None, alpha: str | float) -> tuple[ARFit, float]:
    """Sparse solution of one horizon, and the lambda that it stands for."""
    n = len(gram.lags)
    free = np.arange(n, len(gram.names))
    if penalty == "l1" and not isinstance(alpha, str):
        return coordinate_descent(gram, alpha, free=free, debias=True), 2.0 * alpha * n
    density = "ebic" if sparsity is None or alpha == "ebic" else sparsity
    factor = "bic" if alpha == "bic" else _PAPER if isinstance(alpha, str) else float(alpha)
    fit = arnet_penalty(gram, density, scale_factor=factor, free=free)
    path = fit.path
    assert path is not None and path.alpha is not None
    (values,) = path.criteria.values()
    # In the middle of those with this support: strong ones shrink it, weak ones let noise in.
    alike = np.flatnonzero(values <= values.min() + _SAME)
    s = float(path.alpha[alike[len(alike) // 2]])
    left = fit.sigma2 * gram.n_rows / float(gram.moments[0, 0])
    strength = (_PAPER if isinstance(factor, str) else factor) * left * (1.0 / s - 1.0)
    if penalty == "l1":
        return coordinate_descent(gram, strength / (2.0 * n), free=free, debias=True), strength
    return fit, strength


def begin(
    linear: Linear | None,
    measures: Units,
    n_in: int,
    n_out: int,
    hidden: tuple[int, ...],
    rng: np.random.Generator,
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Weights to start from: the linear solution or random ones, and hidden layers that add nothing yet."""
    if linear is not None:
        first = _in_units(linear.fits, measures)
    else:  # not at 0, where the penalty of AR-Net would hold every weight
        first = rng.uniform(-1.0, 1.0, (n_in, n_out)) / n_in, np.zeros(n_out)
    layers = []
    # Small first weights and spread kinks: inputs without effect stay small, so that a penalty removes them.
    for width in hidden:
        scale = np.sqrt(2.0 / n_in) * (1.0 if layers else _SMALL)
        layers.append((scale * rng.standard_normal((n_in, width)), rng.uniform(-1.0, 1.0, width)))
        n_in = width
    if hidden:
        layers.append((np.zeros((n_in, n_out)), np.zeros(n_out)))
    return (first, *layers)


def _in_units(fits: list[ARFit], measures: Units) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients as weights of standardised values."""
    n = len(fits[0].lags)
    coef = np.array([fit.coef for fit in fits])
    centres = np.append(np.full(n, measures.centre), measures.column_centre)
    W = coef * np.append(np.ones(n), measures.column_scale / measures.scale)
    b = (np.array([fit.intercept for fit in fits]) + coef @ centres - measures.centre) / measures.scale
    return W.T, b


def end_raw(fit: Any, rows: Rows) -> Any:
    """The iterate itself, with its errors."""
    judges = rows.held if len(fit.weights) > 1 and len(rows.held) else np.append(rows.train, rows.held)
    return fit._replace(sigma2=fit.y_scale**2 * _squares(fit.weights, fit, rows, judges).mean(0))


def end_linear(fit: Any, linear: Linear) -> Any:
    """The exact or sparse solution."""
    return fit._replace(
        weights=(_in_units(linear.fits, _measures(fit)),),
        sigma2=np.array([own.sigma2 for own in linear.fits]),
        converged=True,
        message=f"{fit.message}; ended on the solution of the moments",
    )


def end_network(
    fit: Any,
    linear: Linear,
    rows: Rows,
    whole: Parts,
    early: Parts,
    penalty: str | None,
    sparsity: float | None,
    alpha: str | float,
) -> Any:
    """The network, with its last layer solved for where that helps, or the linear part if it is no better."""
    measures = _measures(fit)
    judges = rows.held if len(rows.held) else rows.train
    plain = _squares((_in_units(linear.fits, measures),), fit, rows, judges)
    weights, left = fit.weights, _squares(fit.weights, fit, rows, judges)
    refit = False
    if penalty is None:
        other = _solved(fit, rows, early, measures)
        more = _squares(other, fit, rows, judges)
        if more.mean() < left.mean():
            weights, left, refit = other, more, True
    gain = (plain - left).mean(1)
    # One standard error: on a linear process, chance alone would often choose the network.
    if not gain.mean() > gain.std() / np.sqrt(len(gain)):
        again = linear_part(*whole, fit.lags, fit.n_forecasts, penalty, sparsity, alpha)
        found = end_linear(fit, again)
        return found._replace(message=f"{found.message}: hidden layers were no better on the validation rows")
    if refit:
        weights = _solved(fit, rows, whole, measures)
    return fit._replace(weights=weights, sigma2=fit.y_scale**2 * left.mean(0))


def _measures(fit: Any) -> Units:
    """Units of a fit."""
    return Units(fit.y_centre, fit.y_scale, fit.column_centre, fit.column_scale)


def _windows(rows: Rows, times: np.ndarray) -> np.ndarray:
    """Standardised lags and columns at some times."""
    longest = int(rows.lags.max())
    windows = sliding_window_view(rows.series, longest)[times - longest]
    return np.hstack([windows[:, longest - rows.lags], rows.columns[times]])


def _squares(weights: Any, fit: Any, rows: Rows, times: np.ndarray) -> np.ndarray:
    """Squared errors of standardised rows, (n, H)."""
    H, n = fit.n_forecasts, len(rows.lags)
    (W, b), longest = weights[0], int(rows.lags.max())
    kernels = np.zeros((longest, H))
    kernels[rows.lags - 1] = W[:n]
    along = oaconvolve(rows.series[:, None], kernels, axes=0)
    said = along[times - 1] + rows.columns[times] @ W[n:] + b
    if len(weights) > 1:
        last, level = weights[-1]
        for own, units in _features(weights, fit.activation, rows, times):
            said[own] += units @ last + level
    return (rows.series[times[:, None] + np.arange(H)] - said) ** 2


def _features(
    weights: Any, activation: str, rows: Rows, times: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """What the last hidden layer says at some times, a few thousand at a time, with their places."""
    for first in range(0, len(times), _CHUNK):
        own = slice(first, first + _CHUNK)
        yield own, features(weights, activation, _windows(rows, times[own]))


def _solved(fit: Any, rows: Rows, parts: Parts, measures: Units) -> Any:
    """Weights with the linear part and the last layer solved for exactly, hidden layers as they are.

    Hidden units enter the moments as columns; a trace of ridge, as units may agree on all rows.
    """
    H, k = fit.n_forecasts, len(fit.column_centre)
    width = len(fit.weights[-1][0])
    every = np.full((len(rows.series), width), np.nan)
    times = np.concatenate([rows.train, rows.held])
    for own, said in _features(fit.weights, fit.activation, rows, times):
        every[times[own]] = said
    at, joined = rows.margin, []
    for part, x in zip(*parts):
        joined.append(np.hstack([x, every[at : at + len(part)]]))
        at += len(part)
    gram = lag_gram(parts[0], fit.lags.tolist(), joined, steps=H)
    spread = np.diag(gram.moments)[H:] / gram.n_rows
    # A unit that answers alike on all rows but for rounding is left out.
    least = np.where(np.arange(len(spread)) < len(fit.lags) + k, 0.0, _ALIKE * (spread + gram.means[H:] ** 2))
    alive = np.flatnonzero(spread > least)
    W, b = np.zeros((H, len(gram.names))), np.zeros(H)
    for h in range(H):
        own = solve_exact(keep(gram, alive, h), ridge=1.0 / gram.n_rows)
        W[h, alive], b[h] = own.coef, own.intercept
    n = len(fit.lags)
    known = [ARFit(gram.names, fit.lags, w[: n + k], c, 0.0, W, alive, 0, 0.0) for w, c in zip(W, b)]
    first, level = _in_units(known, measures)
    last = W[:, n + k :].T / measures.scale
    return ((first, level), *fit.weights[1:-1], (last, np.zeros(H)))
