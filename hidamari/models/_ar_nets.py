"""Networks behind the door of autoregressions: their training, and what they say of a series."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hidamari.inference.ar_network import NetworkFit, network_draws, network_forecast, train
from hidamari.inference.autoregression import ARFit

__all__ = ["errors_ahead", "futures", "linear_by_sgd", "net_one_step", "packed", "train_for", "unpacked"]

_CHUNK = 1 << 22  # numbers in the windows that are held at a time


def train_for(
    model: Any, u: list[np.ndarray], x: list[np.ndarray], lags: np.ndarray, steps: int
) -> NetworkFit:
    """A network with the arguments of a model."""
    penalty = model.penalty if model.penalty in ("arnet", "l1") else None
    if model.penalty == "auto" and isinstance(model.n_lags, str) and not model.hidden:
        penalty = "arnet"
    alpha = model.alpha
    if alpha == "aic":  # the default of the other solvers, which networks do not have
        alpha = "ebic" if model.sparsity is None else "bic"
    return train(
        u,
        lags.tolist(),
        x if x[0].shape[1] else None,
        hidden=tuple(model.hidden),
        n_forecasts=steps,
        activation=model.activation,
        penalty=penalty,
        sparsity=model.sparsity,
        alpha=alpha,
        epochs=model.epochs,
        batch_size=model.batch_size,
        learning_rate=model.learning_rate,
        random_state=model.random_state,
    )


def linear_by_sgd(model: Any, u: list[np.ndarray], x: list[np.ndarray], lags: np.ndarray) -> ARFit:
    """The autoregression that minibatches lead to; what it is sure of is left to least squares."""
    found = train_for(model, u, x, lags, 1)
    k = x[0].shape[1]
    names = tuple(f"lag {lag}" for lag in lags) + tuple(f"column {i}" for i in range(k))
    support = np.append(found.support, np.ones(k, dtype=bool))
    zero = np.zeros((1 + len(names), 1 + len(names)))
    rows = sum(max(len(part) - int(lags.max(initial=0)), 0) for part in u)
    return ARFit(
        names,
        lags,
        found.coef[0],
        float(found.intercept[0]),
        float(found.sigma2[0]),
        zero,
        support,
        rows,
        np.nan,
    )


def packed(fit: NetworkFit) -> dict[str, Any]:
    """A network as what a file can hold."""
    return {**fit._asdict(), "weights": [list(pair) for pair in fit.weights]}


def unpacked(kept: dict[str, Any]) -> NetworkFit:
    """The way back."""
    return NetworkFit(**{**kept, "weights": tuple((W, b) for W, b in kept["weights"])})


def net_one_step(fit: NetworkFit, u: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Expected values of every row given those before it; NaN where one of these is missing."""
    found = np.full(len(u), np.nan)
    p = int(fit.lags.max(initial=0))
    for first, windows in _windows(u, p):
        rows = slice(first + p, first + p + len(windows))
        found[rows] = network_forecast(fit, windows, x[rows])[:, 0]
    return found


def errors_ahead(fit: NetworkFit, u: np.ndarray, x: np.ndarray, steps: int, keep: int) -> np.ndarray:
    """Errors of forecasts of 1..steps of the last rows, (steps, keep), NaN where unknown."""
    p, T = int(fit.lags.max(initial=0)), len(u)
    found = np.full((steps, T), np.nan)
    start = max(T - keep - steps, 0)
    silent = fit._replace(sigma2=np.zeros_like(fit.sigma2))
    for first, windows in _windows(u[start:], p):
        at = start + first + p + np.arange(len(windows))  # the first row that each forecast is of
        if fit.n_forecasts > 1:
            guess = network_forecast(fit, windows, x[at])[:, :steps]
        else:
            ahead = x[np.minimum(at[:, None] + np.arange(steps), len(x) - 1)]
            guess = network_draws(silent, windows, steps, 1, 0, ahead)[0]
        for h in range(steps):
            rows = at + h
            inside = rows < T
            found[h, rows[inside]] = u[rows[inside]] - guess[inside, h]
    return found[:, T - keep :]


def futures(
    fit: NetworkFit, history: np.ndarray, x: np.ndarray, steps: int, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws of the coming rows, (n, steps)."""
    if fit.n_forecasts > 1:
        mean = network_forecast(fit, history, x[0])[:steps]
        return mean + np.sqrt(fit.sigma2[:steps]) * rng.standard_normal((n, steps))
    return network_draws(fit, history, steps, n, rng, x[:steps])


def _windows(u: np.ndarray, p: int) -> Any:
    """Pieces of the rows of windows of p values before each row, with the number of the first."""
    if len(u) <= p or p == 0:
        return
    windows = sliding_window_view(u[:-1], p)
    size = max(_CHUNK // p, 1)
    for first in range(0, len(windows), size):
        yield first, windows[first : first + size]
