"""Small networks for frames: what a decoder adds to a linear read-out, and where an encoder points.

All are equinox modules in single precision, from one frame to one vector, and begin at zero: whatever they
are added to starts as it would be without them.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

__all__ = ["Convolutional", "Layers", "Transposed", "decoder", "encoder"]

_CHANNELS = 16


class Layers(eqx.Module):
    """Fully connected layers with tanh between them; the last starts at zero."""

    layers: list[eqx.nn.Linear]

    def __init__(self, sizes: Sequence[int], key: Any):
        keys = jax.random.split(key, len(sizes) - 1)
        layers = [eqx.nn.Linear(a, b, key=k, dtype=jnp.float32) for a, b, k in zip(sizes, sizes[1:], keys)]
        self.layers = [*layers[:-1], zeroed(layers[-1])]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers[:-1]:
            x = jnp.tanh(layer(x))
        return self.layers[-1](x)


class Convolutional(eqx.Module):
    """Two convolutions of stride 2 over an image and its mask, then layers."""

    shape: tuple[int, int] = eqx.field(static=True)
    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    head: Layers

    def __init__(self, shape: tuple[int, int], hidden: int, n_out: int, key: Any):
        keys = jax.random.split(key, 3)
        self.shape = shape
        self.first = eqx.nn.Conv2d(2, _CHANNELS, 3, 2, 1, key=keys[0], dtype=jnp.float32)
        self.second = eqx.nn.Conv2d(_CHANNELS, 2 * _CHANNELS, 3, 2, 1, key=keys[1], dtype=jnp.float32)
        small = [(n + 3) // 4 for n in shape]  # halved twice, rounded up
        self.head = Layers((2 * _CHANNELS * small[0] * small[1], hidden, n_out), keys[2])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(2, *self.shape)
        return self.head(jnp.tanh(self.second(jnp.tanh(self.first(x)))).reshape(-1))


class Transposed(eqx.Module):
    """Layers to a small image, doubled twice by transposed convolutions; the last starts at zero."""

    shape: tuple[int, int] = eqx.field(static=True)
    small: tuple[int, int] = eqx.field(static=True)
    inner: eqx.nn.Linear
    outer: eqx.nn.Linear
    first: eqx.nn.ConvTranspose2d
    second: eqx.nn.ConvTranspose2d

    def __init__(self, shape: tuple[int, int], hidden: int, n_in: int, key: Any):
        keys = jax.random.split(key, 4)
        self.shape = shape
        self.small = ((shape[0] + 3) // 4, (shape[1] + 3) // 4)
        n = 2 * _CHANNELS * self.small[0] * self.small[1]
        self.inner = eqx.nn.Linear(n_in, hidden, key=keys[0], dtype=jnp.float32)
        self.outer = eqx.nn.Linear(hidden, n, key=keys[1], dtype=jnp.float32)
        up: Any = {"kernel_size": 4, "stride": 2, "padding": 1, "dtype": jnp.float32}
        self.first = eqx.nn.ConvTranspose2d(2 * _CHANNELS, _CHANNELS, key=keys[2], **up)
        self.second = zeroed(eqx.nn.ConvTranspose2d(_CHANNELS, 1, key=keys[3], **up))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.tanh(self.outer(jnp.tanh(self.inner(x)))).reshape(2 * _CHANNELS, *self.small)
        x = self.second(jnp.tanh(self.first(x)))[0]
        return x[: self.shape[0], : self.shape[1]].reshape(-1)


def zeroed(layer: Any) -> Any:
    """The layer with weights and bias of zero."""
    return eqx.tree_at(lambda own: (own.weight, own.bias), layer, replace_fn=jnp.zeros_like)


def decoder(kind: Any, n_latents: int, shape: tuple[int, ...], key: Any) -> Any:
    """The non-linear part of a decoder from (n_latents,) to the flat frame; None where there is none.

    `kind` holds the sizes of hidden layers, or is "convolutional", or is a function of (n_in, n_out, key)
    that gives a module.
    """
    n_out = _flat(shape)
    if callable(kind):
        return kind(n_latents, n_out, key)
    if kind == "convolutional":
        return Transposed(_image(shape), 128, n_latents, key)
    return Layers((n_latents, *kind, n_out), key) if len(kind) else None


def encoder(kind: Any, shape: tuple[int, ...], n_out: int, key: Any) -> Any:
    """An encoder from a flat frame and its mask, (2 n,), to (n_out,); None where there is none."""
    n_in = 2 * _flat(shape)
    if callable(kind):
        return kind(n_in, n_out, key)
    if kind == "convolutional":
        return Convolutional(_image(shape), 128, n_out, key)
    return Layers((n_in, *kind, n_out), key) if len(kind) else None


def _flat(shape: tuple[int, ...]) -> int:
    """Number of entries of a frame."""
    n = 1
    for size in shape:
        n *= size
    return n


def _image(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a frame that must be an image."""
    if len(shape) != 2:
        raise ValueError(f"Y has frames of shape {shape}; convolutional networks need (height, width)")
    return shape
