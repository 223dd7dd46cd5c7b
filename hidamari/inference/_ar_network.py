"""Networks on the lags of a series, trained by minibatches in single precision, whatever jax's setting is.

f(x) = x' W + b + net(x): a linear part beside hidden layers, so that a network whose last layer is zero is
the autoregression that it starts from. The series stays on the device; windows are cut from it per batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from hidamari.inference._ar_network_rows import Batches, Plan, Rows
from hidamari.inference.arnet_penalty import arnet

__all__ = ["Trained", "optimise"]

_STEPS = 128  # in one compiled call: rows that do not fill them cost nothing, and no other shape is compiled
_FORGET, _FORGET_SQUARE, _TINY = 0.9, 0.999, 1e-8
_AWAY = 0.01  # from 0, where the slope of the penalty is infinite
_STILL = 1e-3  # relative fall of the loss in the last tenth of the epochs that is none
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
}
_ADAM: Any = optax.scale_by_adam(_FORGET, _FORGET_SQUARE, _TINY)

Weights = tuple[tuple[np.ndarray, np.ndarray], ...]


class Trained(NamedTuple):
    """What training ended with."""

    weights: Weights
    loss: np.ndarray  # (n_epochs, 2) training and validation
    converged: bool
    message: str


class Network(eqx.Module):
    """A linear part and hidden layers beside it."""

    linear: tuple[Any, Any]
    layers: tuple[tuple[Any, Any], ...]
    activation: str = eqx.field(static=True)

    def beside(self, x: Any) -> Any:
        """What hidden layers add, 0 without any."""
        if not self.layers:
            return 0.0
        for W, b in self.layers[:-1]:
            x = _ACTIVATIONS[self.activation](x @ W + b)
        W, b = self.layers[-1]
        return x @ W + b


class Source(NamedTuple):
    """Series and columns on the device, and the lags that are taken of them."""

    series: Any  # (N,)
    columns: Any  # (N, k)
    lags: Any  # (n,)


class Shape(NamedTuple):
    """What a program is compiled for, besides the shapes of arrays."""

    layout: str
    longest: int  # lag
    n_forecasts: int
    penalty: str | None


class Carry(NamedTuple):
    """What a step hands to the next."""

    network: Network
    state: Any  # of Adam


def _predict(network: Network, source: Source, times: Any, shape: Shape) -> Any:
    """Forecasts at rows of the series, (B, H)."""
    W, b = network.linear
    n = len(source.lags)
    if shape.layout == "blocks":  # consecutive rows: the linear part is a correlation
        kernel = jnp.zeros((shape.longest, W.shape[1]), W.dtype).at[shape.longest - source.lags].set(W[:n])
        width = len(times) + shape.longest - 1
        block = jax.lax.dynamic_slice(source.series, (times[0] - shape.longest,), (width,))
        size = 1 << (width - 1).bit_length()
        spectrum = jnp.fft.rfft(block, size)[:, None] * jnp.conj(jnp.fft.rfft(kernel, size, axis=0))
        along = jnp.fft.irfft(spectrum, size, axis=0)[: len(times)]
        return along + source.columns[times] @ W[n:] + b
    if shape.layout == "slices":  # all lags up to the longest
        cut = partial(jax.lax.dynamic_slice, source.series, slice_sizes=(shape.longest,))
        windows = jax.vmap(lambda t: cut((t - shape.longest,)))(times)[:, ::-1]
    else:
        windows = source.series[times[:, None] - source.lags]
    x = jnp.concatenate([windows, source.columns[times]], axis=1)
    return x @ W + b + network.beside(x)


def _loss(network: Network, source: Source, times: Any, weight: Any, shape: Shape) -> Any:
    """Weighted squares of the errors, averaged over horizons."""
    target = source.series[times[:, None] + jnp.arange(shape.n_forecasts)]
    left = _predict(network, source, times, shape) - target
    return jnp.sum(weight[:, None] * left * left) / shape.n_forecasts


def _slope(size: Any, penalty: str) -> Any:
    """Slope of n R by |theta|, by the closed form: differentiating R itself at 0 gives NaN."""
    if penalty == "l1":
        return jnp.ones_like(size)
    c1 = c2 = 3.0
    root = (size + _AWAY) ** (1.0 / c2)
    return 0.5 * c1 / c2 * root / (size + _AWAY) / jnp.cosh(0.5 * c1 * root) ** 2


def _shrink(network: Network, squares: Network, rate: Any, strength: Any, n: int, penalty: str) -> Network:
    """The proximal step, in Adam's metric, on all weights that leave a lag.

    Each of the linear part on its own, those to hidden units together: a lag is used or it is not.
    """
    (W, b), (squares_W, _) = network.linear, squares.linear
    w, metric = W[:n], jnp.sqrt(squares_W[:n]) + _TINY
    threshold = rate * strength / n * _slope(jnp.abs(w), penalty) / metric
    linear = (W.at[:n].set(jnp.sign(w) * jnp.maximum(jnp.abs(w) - threshold, 0.0)), b)
    layers = network.layers
    if layers:
        W, b = layers[0]
        size = jnp.sqrt(jnp.sum(W[:n] ** 2, axis=1))
        metric = jnp.mean(jnp.sqrt(squares.layers[0][0][:n]), axis=1) + _TINY
        threshold = rate * strength / n * _slope(size, penalty) / metric
        share = jnp.maximum(1.0 - threshold / jnp.maximum(size, _TINY), 0.0)
        layers = ((W.at[:n].multiply(share[:, None]), b), *layers[1:])
    return Network(linear, layers, network.activation)


def _steps(carry: Carry, source: Source, batches: Any, rates: Any, strengths: Any, shape: Shape) -> Any:
    """Some steps of Adam with shrinkage, and the loss of each."""

    def step(carry: Carry, own: Any) -> Any:
        """One step."""
        times, weight, rate, strength = own
        loss, slopes = jax.value_and_grad(_loss)(carry.network, source, times, weight, shape)
        moves, state = _ADAM.update(slopes, carry.state)
        network = jax.tree.map(lambda w, m: w - rate * m, carry.network, moves)
        if shape.penalty is not None:
            spread = 1.0 - _FORGET_SQUARE**state.count
            squares = jax.tree.map(lambda v: v / spread, state.nu)
            network = _shrink(network, squares, rate, strength, len(source.lags), shape.penalty)
        return Carry(network, state), loss

    def maybe(carry: Carry, own: Any) -> Any:
        """One step, none if no row has weight."""
        return jax.lax.cond(own[2] > 0.0, step, lambda carry, own: (carry, jnp.zeros(())), carry, own)

    return jax.lax.scan(maybe, carry, (*batches, rates, strengths))


def _sums(network: Network, source: Source, batches: Any, shape: Shape) -> Any:
    """Sum of the losses of batches."""

    def add(total: Any, own: Any) -> Any:
        """One more, unless no row has weight."""
        more = jax.lax.cond(
            jnp.any(own[1] > 0.0),
            lambda: _loss(network, source, own[0], own[1], shape),
            lambda: jnp.zeros(()),
        )
        return total + more, None

    return jax.lax.scan(add, jnp.zeros(()), batches)[0]


_run: Any = jax.jit(_steps, static_argnames="shape")
_errors: Any = jax.jit(_sums, static_argnames="shape")


def _on_device(weights: Weights, activation: str) -> Network:
    """Weights as a network of single precision."""
    linear, *layers = [(jnp.asarray(W, jnp.float32), jnp.asarray(b, jnp.float32)) for W, b in weights]
    return Network(linear, tuple(layers), activation)


def _on_host(network: Network) -> Weights:
    """A network as weights."""
    return tuple((np.asarray(W, float), np.asarray(b, float)) for W, b in (network.linear, *network.layers))


def _source(rows: Rows) -> Source:
    """Rows on the device."""
    return Source(
        jnp.asarray(rows.series, jnp.float32),
        jnp.asarray(rows.columns, jnp.float32),
        jnp.asarray(rows.lags, jnp.int32),
    )


@jax.enable_x64(False)
def optimise(
    weights: Weights,
    activation: str,
    rows: Rows,
    plan: Plan,
    rng: np.random.Generator,
    progress: Callable[[int, float, float], None] | None = None,
) -> Trained:
    """Train from some weights; the best iterate by the validation rows, or by the loss if there are none."""
    source = _source(rows)
    shape = Shape(plan.layout, int(rows.lags.max(initial=0)), rows.n_forecasts, plan.penalty)
    network = _on_device(weights, activation)
    carry = Carry(network, _ADAM.init(network))
    held = plan.validation(rows)
    n = len(rows.lags)

    def judged(network: Network, fallback: float) -> tuple[float, float]:
        """Validation loss, and with it the penalty at full strength."""
        loss = fallback
        if held is not None:
            loss = sum(float(_errors(network, source, part, shape)) for part in _calls(held))
        extra = 0.0
        if plan.penalty is not None:
            w = np.asarray(network.linear[0])[:n]
            extra = plan.strength * (arnet(w) if plan.penalty == "arnet" else float(np.abs(w).mean()))
        return loss, loss + extra

    best, least, waited = carry.network, np.inf, 0
    if held is not None:
        least = judged(best, np.inf)[1]
    history, message, stopped = [], "", False
    for epoch in range(plan.epochs):
        batches = plan.batches(rows, rng)
        parts = []
        for k, part in enumerate(_calls(batches)):
            at = epoch + (k * _STEPS + np.arange(_STEPS)) / len(batches.times)
            used = k * _STEPS + np.arange(_STEPS) < len(batches.times)
            rates = np.where(used, plan.rates(at / plan.epochs), 0.0).astype(np.float32)
            strengths = plan.strengths(at / plan.epochs).astype(np.float32)
            carry, losses = _run(carry, source, part, rates, strengths, shape)
            parts.append(losses)
        loss = float(np.sum([np.asarray(own).sum() for own in parts])) / len(batches.times)
        if not np.isfinite(loss):
            message = f"the loss was {loss} in epoch {epoch + 1}: the best iterate before it was kept"
            break
        own, objective = judged(carry.network, loss)
        history.append((loss, own if held is not None else np.nan))
        if progress is not None:
            progress(epoch + 1, loss, history[-1][1])
        waited += 1
        # Of iterates that chance alone may tell apart the later one, whose rate was smaller.
        if objective <= least + plan.doubt * own and _finite(carry.network):
            best, waited = carry.network, 0
        least = min(least, objective)
        if waited >= plan.patience:
            stopped = True
            message = f"no better on the validation rows for {waited} epochs"
            break
    loss = np.array(history).reshape(-1, 2)
    settled = stopped or (not message and _settled(loss[:, 0]))
    message = message or ("settled" if settled else f"the loss was still falling after {plan.epochs} epochs")
    return Trained(_on_host(best), loss, settled, message)


def _calls(batches: Batches) -> Any:
    """Batches in calls of equal length, filled up with batches of weight zero."""
    for first in range(0, len(batches.times), _STEPS):
        own = slice(first, first + _STEPS)
        lack = ((0, _STEPS - len(batches.times[own])), (0, 0))
        yield np.pad(batches.times[own], lack, mode="edge"), np.pad(batches.weights[own], lack)


def _finite(network: Network) -> bool:
    """Whether all weights are: the last step of an epoch has no loss that would tell."""
    return all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(network))


def _settled(loss: np.ndarray) -> bool:
    """Whether the last tenth of the epochs gained next to nothing."""
    if len(loss) < 2:
        return False
    before = loss[-1 - max(len(loss) // 10, 1)]
    return bool(before - loss[-1] <= _STILL * before)
