"""A network's answer by NumPy alone, in double precision."""

from collections.abc import Sequence

import numpy as np

__all__ = ["ACTIVATIONS", "features", "forward"]

ACTIVATIONS = ("relu", "tanh", "gelu")

Weights = Sequence[tuple[np.ndarray, np.ndarray]]


def forward(weights: Weights, activation: str, inputs: np.ndarray) -> np.ndarray:
    """Linear part and what hidden layers add, (..., H)."""
    W, b = weights[0]
    out = inputs @ W + b
    if len(weights) > 1:
        W, b = weights[-1]
        out = out + features(weights, activation, inputs) @ W + b
    return out


def features(weights: Weights, activation: str, inputs: np.ndarray) -> np.ndarray:
    """What the last hidden layer says, (..., units)."""
    x = inputs
    for W, b in weights[1:-1]:
        x = _activate(x @ W + b, activation)
    return x


def _activate(x: np.ndarray, activation: str) -> np.ndarray:
    """The activation; GELU by its tanh form, as in training."""
    if activation == "relu":
        return np.maximum(x, 0.0)
    if activation == "tanh":
        return np.tanh(x)
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))
