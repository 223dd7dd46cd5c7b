r"""Networks on the lags of a series, by minibatches: the route of the AR-Net paper, ended by exact algebra.

f(x_t) = x_t' W + b + net(x_t), x_t = (y_{t-l}, l in lags; columns), for y_t, ..., y_{t+H-1}. Without hidden
layers this is an autoregression, which the moments of the lags solve exactly: training then ends there. With
hidden layers it starts there, learns what is left, and is given up where it does not beat the linear part.

Training needs ``pip install hidamari[neural]`` (optax, equinox); forecasts need NumPy alone.

References
----------
O. Triebe, N. Laptev, R. Rajagopal, AR-Net: a simple autoregressive neural network for time series, 2019.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference import _ar_network_ends as ends
from hidamari.inference._ar_network_forward import ACTIVATIONS, forward
from hidamari.inference._ar_network_rows import Plan, gather, layout_of, units
from hidamari.inference._lag_input import as_columns, as_lags, as_segments

__all__ = ["ACTIVATIONS", "PENALTIES", "NetworkFit", "network_draws", "network_forecast", "train"]

_ALPHAS = ("paper", "bic", "ebic")
PENALTIES = (None, "arnet", "l1")


class NetworkFit(NamedTuple):
    """A trained network.

    Weights act on lags and columns, in this order, in units of ``y_scale`` about ``y_centre``, and of
    ``column_scale`` about ``column_centre``. The first pair (m, H), (H,) is the linear part; the others are
    the hidden layers and the one after them, whose answer is added to it.
    """

    weights: tuple[tuple[np.ndarray, np.ndarray], ...]
    activation: str
    lags: np.ndarray  # (n,)
    n_forecasts: int
    y_centre: float
    y_scale: float
    column_centre: np.ndarray  # (k,)
    column_scale: np.ndarray  # (k,)
    sigma2: np.ndarray  # (H,) mean squared error, of validation rows for networks
    loss: np.ndarray  # (n_epochs, 2) training and validation, in units of y_scale squared
    n_epochs: int
    converged: bool
    message: str

    @property
    def coef(self) -> np.ndarray:
        """Coefficients of the linear part in the units of the data, (H, n + k)."""
        n = len(self.lags)
        return self.weights[0][0].T * np.append(np.ones(n), self.y_scale / self.column_scale)

    @property
    def intercept(self) -> np.ndarray:
        """Intercepts of the linear part in the units of the data, (H,)."""
        centres = np.append(np.full(len(self.lags), self.y_centre), self.column_centre)
        return self.y_centre + self.y_scale * self.weights[0][1] - self.coef @ centres

    @property
    def support(self) -> np.ndarray:
        """Lags that have a weight, (n,) bool."""
        first = [W[: len(self.lags)] for W, _ in self.weights[:2]]
        return np.any([np.any(W != 0.0, axis=1) for W in first], axis=0)


def train(
    segments: ArrayLike | Sequence[ArrayLike],
    lags: int | Sequence[int],
    columns: ArrayLike | Sequence[ArrayLike] | None = None,
    *,
    hidden: Sequence[int] = (),
    n_forecasts: int = 1,
    activation: str = "relu",
    penalty: str | None = None,
    sparsity: float | None = None,
    alpha: str | float = "paper",
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    validation: float = 0.1,
    polish: bool = True,
    random_state: int | np.random.Generator | None = 0,
    progress: Callable[[int, float, float], None] | None = None,
) -> NetworkFit:
    r"""Train by Adam over minibatches, with one cycle of the rate; keep the best iterate.

    The loss is the mean squared error, in units of the variance of y, plus lambda R(theta) over the weights
    that leave lags, applied by proximal steps, so that weights do become zero. R is
    :func:`~hidamari.inference.arnet_penalty.arnet`, or the mean of |theta| with ``"l1"``; lambda =
    c sigma^2 (1 / s - 1) with s the sparsity and sigma^2 the variance that least squares leaves.
    lambda rises from 0 between the first and second quarter of the training. Weights of the linear part
    vanish one by one, those of a lag to the first hidden layer together.

    Parameters
    ----------
    segments : array_like (T,), or sequence of these
        The series, or pieces that share no lags. NaN: not observed; rows that meet one are left out.
    lags : int or sequence of int
        Number of lags, or the lags.
    columns : array_like (T, k), or one for each segment, optional
        Predictors at the time of y_t; they are never penalised.
    hidden : sequence of int
        Units of each hidden layer; none: an autoregression.
    n_forecasts : int
        H, answers of one network: y_t, ..., y_{t+H-1}.
    activation : {"relu", "tanh", "gelu"}
        Of hidden units.
    penalty : {None, "arnet", "l1"}
        What makes lags few.
    sparsity : float, optional
        s in (0, 1], the expected share of lags that matter; by default chosen by the extended BIC.
    alpha : {"paper", "bic", "ebic"} or float
        c; ``"paper"`` is 0.01. ``"bic"`` chooses lambda with the sparsity as prior odds of a lag, ``"ebic"``
        without it. With ``"l1"``, a number is the strength as a share of the largest correlation.
    epochs, batch_size : int, optional
        By default from the number of rows.
    learning_rate : float, optional
        Its largest value, by default from the number of lags.
    validation : float in [0, 1)
        Share of the rows, the last ones, that choose the iterate and stop the training.
    polish : bool
        Without hidden layers: end on the exact or sparse solution. With them: start from it, and solve for
        the linear part and the last layer exactly where that helps on the validation rows.
    random_state : int, Generator or None
        Source of randomness.
    progress : callable, optional
        Called after each epoch with its number, training loss and validation loss.

    Returns
    -------
    NetworkFit

    Raises
    ------
    ValueError
        If an argument is not allowed, or no row is complete.
    ImportError
        If optax or equinox is not installed.

    References
    ----------
    Triebe et al. 2019; L. Smith, N. Topin, Super-convergence, 2018; J. Yun, A. Lozano, E. Yang, Adaptive
    proximal gradient methods for structured neural networks, 2021.

    Examples
    --------
    >>> y = np.zeros(2000)
    >>> for t, e in enumerate(np.random.default_rng(0).standard_normal(1998), start=2):
    ...     y[t] = 0.6 * y[t - 1] - 0.3 * y[t - 2] + e
    >>> train(y, 2, epochs=5).coef.round(1).tolist()
    [[0.6, -0.3]]
    """
    parts = as_segments("segments", segments, 1)
    x = as_columns(columns, parts)
    own = as_lags("lags", lags, 1)
    _check(own, hidden, n_forecasts, activation, penalty, sparsity, alpha)
    _check_training(epochs, batch_size, learning_rate, validation)
    try:
        from hidamari.inference._ar_network import optimise
    except ImportError as error:
        raise ImportError(
            "networks are trained by optax and equinox: pip install 'hidamari[neural]'"
        ) from error
    rng = np.random.default_rng(random_state)
    measures = units(parts, x)
    counted = gather(parts, x, own, n_forecasts, measures, validation, 0)
    n = len(counted.train)
    if n < 2:
        raise ValueError(f"segments has {n} row(s) with all of their lags and columns; at least 2 are needed")
    reach = counted.train[-1] + 1 - counted.train[0]
    layout = layout_of(own, bool(hidden), n / reach)
    size = batch_size or _batch_size(n, layout)
    rows = gather(parts, x, own, n_forecasts, measures, validation, size)
    early = _cut(parts, x, rows.train[-1] - size + n_forecasts)
    # Hidden layers must beat, on the validation rows, a linear part that has not seen them.
    seen = early if hidden else (parts, x)
    linear = None
    if polish or penalty is not None:
        linear = ends.linear_part(*seen, own, n_forecasts, penalty, sparsity, alpha)
    count = epochs or _epochs(n)
    plan = Plan(
        count,
        size,
        learning_rate or _rate(len(own), hidden),
        max(count // 2, 10) if hidden else count,
        layout,
        penalty,
        0.0 if linear is None else linear.strength,
        # Chance moves the loss of a fit of m weights by some sqrt(m) / rows, and the best of many by more.
        6.0 * np.sqrt(len(own) + x[0].shape[1]) / len(counted.held) if len(counted.held) else 0.0,
    )
    exact = linear if hidden and polish else None
    start = ends.begin(exact, measures, len(own) + x[0].shape[1], n_forecasts, tuple(hidden), rng)
    trained = optimise(start, activation, rows, plan, rng, progress)
    kept = NetworkFit(
        trained.weights, activation, own, n_forecasts, *measures, np.zeros(n_forecasts), trained.loss,
        len(trained.loss), trained.converged, trained.message,
    )  # fmt: skip
    if linear is None or not polish:
        return ends.end_raw(kept, rows)
    if not hidden:
        return ends.end_linear(kept, linear)
    return ends.end_network(kept, linear, rows, (parts, x), early, penalty, sparsity, alpha)


def network_forecast(fit: NetworkFit, history: ArrayLike, columns: ArrayLike | None = None) -> np.ndarray:
    """Forecasts of the next H rows.

    Parameters
    ----------
    fit : NetworkFit
        Of :func:`train`.
    history : array_like, shape (..., at least the longest lag)
        Values before, the last one last; NaN where missing gives NaN.
    columns : array_like, shape (..., k), optional
        Columns at the first of the coming rows.

    Returns
    -------
    ndarray, shape (..., H)

    Raises
    ------
    ValueError
        If the history is too short, or columns do not fit.

    Examples
    --------
    >>> fit = train(np.sin(np.arange(200) / 3), 2, epochs=2)
    >>> float(network_forecast(fit, np.sin(np.arange(10) / 3))[0].round(6)), float(np.sin(10 / 3).round(6))
    (-0.190568, -0.190568)
    """
    past = np.asarray(history, dtype=float)
    longest, k = int(fit.lags.max(initial=0)), len(fit.column_centre)
    if past.ndim < 1 or past.shape[-1] < longest:
        raise ValueError(f"history has shape {past.shape}, but its last axis needs {longest} values")
    x = np.zeros((*past.shape[:-1], 0)) if columns is None else np.asarray(columns, dtype=float)
    if x.shape[-1:] != (k,):
        raise ValueError(f"columns has shape {x.shape}, but its last axis needs {k} values")
    own = (past[..., past.shape[-1] - fit.lags] - fit.y_centre) / fit.y_scale
    x = np.broadcast_to((x - fit.column_centre) / fit.column_scale, (*own.shape[:-1], k))
    inputs = np.concatenate([own, x], axis=-1)
    return fit.y_centre + fit.y_scale * forward(fit.weights, fit.activation, inputs)


def network_draws(
    fit: NetworkFit,
    history: ArrayLike,
    steps: int,
    n_draws: int,
    rng: np.random.Generator | int | None = None,
    columns: ArrayLike | None = None,
) -> np.ndarray:
    """Futures drawn step by step, y_t = f(x_t) + e_t, e_t ~ N(0, sigma2), each value fed back.

    Parameters
    ----------
    fit : NetworkFit
        Of :func:`train`; its first horizon is used.
    history : array_like, shape (..., at least the longest lag)
        Values before, the last one last.
    steps, n_draws : int
        How many coming rows, and how many futures.
    rng : Generator, int or None
        Source of randomness.
    columns : array_like, shape (..., steps, k), optional
        Columns at the coming rows.

    Returns
    -------
    ndarray, shape (n_draws, ..., steps)

    Raises
    ------
    ValueError
        As :func:`network_forecast`, or if a count is below 1.

    Examples
    --------
    >>> fit = train(np.sin(np.arange(200) / 3), 2, epochs=2)
    >>> network_draws(fit, [0.0, 0.3], steps=5, n_draws=3, rng=0).shape
    (3, 5)
    """
    if steps < 1 or n_draws < 1:
        raise ValueError(f"steps and n_draws must be at least 1, found {steps} and {n_draws}")
    source = np.random.default_rng(rng)
    past = np.asarray(history, dtype=float)
    longest = int(fit.lags.max(initial=0))
    if past.ndim < 1 or past.shape[-1] < longest:
        raise ValueError(f"history has shape {past.shape}, but its last axis needs {longest} values")
    x = None if columns is None else np.asarray(columns, dtype=float)
    if x is not None and (x.ndim < 2 or x.shape[-2] != steps):
        raise ValueError(f"columns has shape {x.shape}, but its last axes need {steps} steps and the columns")
    shape = (n_draws, *past.shape[:-1])
    drawn = np.empty((*shape, longest + steps))
    drawn[..., :longest] = past[..., past.shape[-1] - longest :]
    noise = np.sqrt(fit.sigma2[0]) * source.standard_normal((steps, *shape))
    for h in range(steps):
        own = None if x is None else x[..., h, :]
        seen = drawn[..., h : h + longest]
        drawn[..., h + longest] = network_forecast(fit, seen, own)[..., 0] + noise[h]
    return drawn[..., longest:]


def _check(
    lags: np.ndarray,
    hidden: Sequence[int],
    n_forecasts: int,
    activation: str,
    penalty: str | None,
    sparsity: float | None,
    alpha: str | float,
) -> None:
    """Raise the ValueError for a model that is not allowed."""
    if not len(lags):
        raise ValueError("lags is empty; allowed: at least one lag")
    if any(not isinstance(k, (int, np.integer)) or k < 1 for k in hidden):
        raise ValueError(f"hidden is {hidden!r}; allowed: numbers of units >= 1, one for each layer")
    if not isinstance(n_forecasts, (int, np.integer)) or n_forecasts < 1:
        raise ValueError(f"n_forecasts is {n_forecasts!r}; allowed: ints >= 1")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; allowed: {ACTIVATIONS}")
    if penalty not in PENALTIES:
        raise ValueError(f"penalty is {penalty!r}; allowed: {PENALTIES}")
    if sparsity is not None and not 0.0 < sparsity <= 1.0:
        raise ValueError(f"sparsity is {sparsity!r}; allowed: 0 < sparsity <= 1")
    if isinstance(alpha, str):
        if alpha not in _ALPHAS:
            raise ValueError(f"alpha is {alpha!r}; allowed: {_ALPHAS} or numbers >= 0")
    elif not (np.isfinite(alpha) and alpha >= 0.0):
        raise ValueError(f"alpha is {alpha!r}; allowed: {_ALPHAS} or numbers >= 0")


def _check_training(
    epochs: int | None, batch_size: int | None, learning_rate: float | None, validation: float
) -> None:
    """Raise the ValueError for a training that is not allowed."""
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value is not None and (not isinstance(value, (int, np.integer)) or value < 1):
            raise ValueError(f"{name} is {value!r}; allowed: None or ints >= 1")
    if learning_rate is not None and not (np.isfinite(learning_rate) and learning_rate > 0.0):
        raise ValueError(f"learning_rate is {learning_rate!r}; allowed: None or numbers > 0")
    if not 0.0 <= validation < 1.0:
        raise ValueError(f"validation is {validation!r}; allowed: 0 <= validation < 1")


def _batch_size(n: int, layout: str) -> int:
    """Rows of a batch: a power of two."""
    most = 1024 if layout == "blocks" else 256
    return int(np.clip(2 ** np.ceil(np.log2(n / 64)), 16, most))


def _epochs(n: int) -> int:
    """Epochs for two million rows, but 10 to 200."""
    return int(np.clip(np.ceil(2e6 / n), 10, 200))


def _rate(n_lags: int, hidden: Sequence[int]) -> float:
    """Largest rate: all weights move at once, so more of them move less."""
    return 3e-3 if hidden else float(min(0.005, 0.1 / np.sqrt(n_lags)))


def _cut(
    parts: list[np.ndarray], columns: list[np.ndarray], rows: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The first so many rows of all segments."""
    found, own = [], []
    for part, x in zip(parts, columns):
        if rows > 0:
            found.append(part[:rows])
            own.append(x[:rows])
        rows -= len(part)
    return found, own
