"""A, Q, P and H in jax of kernels that users wrote, with jax.numpy or with NumPy."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hidamari.parameters import flatten, is_jax, paths, unflatten
from hidamari.statespace._generic import TERMS
from hidamari.statespace._jax_algebra import product, transpose
from hidamari.statespace._kernel import Kernel

__all__ = ["discretise", "users_matrices"]

_DOUBLINGS = 64  # gaps up to 1e19 times as long as the fastest time constant


def users_matrices(kernel: Kernel, gaps: jax.Array) -> tuple[jax.Array, ...]:
    """Return A, Q, P and H: by the kernel's methods if jax can trace them, else by a callback to them."""
    try:
        return _traced(kernel, gaps)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError):
        return _called(kernel, gaps)


# --------------------------------------------------------------------------- methods that jax can trace


def _traced(kernel: Kernel, gaps: jax.Array) -> tuple[jax.Array, ...]:
    """Return A, Q, P and H from the methods of a kernel written with jax.numpy."""
    own, dtype = type(kernel), gaps.dtype
    F, P, H = (
        jnp.asarray(part, jnp.result_type(part, dtype))
        for part in (kernel.generator(), kernel.stationary(), kernel.readout())
    )
    D = _driving_noise(F, P) if own.diffusion is Kernel.diffusion else jnp.asarray(kernel.diffusion())
    A, Q = discretise(F, D, gaps)
    if own.transition is not Kernel.transition:
        A = jnp.asarray(kernel.transition(gaps))  # pyright: ignore[reportArgumentType]
    if own.process_noise is not Kernel.process_noise:
        Q = jnp.asarray(kernel.process_noise(gaps))  # pyright: ignore[reportArgumentType]
    return A, Q, P, H


def _driving_noise(F: jax.Array, P: jax.Array) -> jax.Array:
    """Return D = -(F P + P F') without entries that are rounding, as `_generic.driving_noise` does."""
    half, size = product(F, P), product(jnp.abs(F), jnp.abs(P))
    D = -(half + half.T)
    return jnp.where(jnp.abs(D) <= 8.0 * len(F) * jnp.finfo(D.dtype).eps * (size + size.T), 0.0, D)


def discretise(
    F: jax.Array, D: jax.Array, dt: jax.Array, most: int = _DOUBLINGS
) -> tuple[jax.Array, jax.Array]:
    """Return A and Q by series and doublings, as `_generic.discretise` does, with at most `most` of them."""
    norm = jax.lax.stop_gradient(jnp.abs(F).sum(axis=1).max() * dt)
    doublings = jnp.clip(jnp.ceil(jnp.log2(jnp.maximum(norm, 1.0))), 0, most).astype(jnp.int32)
    h = (dt * jnp.asarray(2.0 ** -np.arange(most + 1.0), dt.dtype)[doublings])[:, None, None]
    A_term, Q_term = jnp.eye(len(F), dtype=F.dtype), D
    A, Q = A_term + 0.0 * h, D * h
    power = h
    for k in range(1, TERMS + 1):
        A_term = product(F, A_term) / k
        Q_half = product(F, Q_term)
        Q_term = (Q_half + Q_half.T) / (k + 1)
        A = A + A_term * power
        power = power * h
        Q = Q + Q_term * power

    def double(carry: Any, n: jax.Array) -> tuple[Any, None]:
        A, Q = carry
        more = (doublings > n)[:, None, None]
        return (
            jnp.where(more, product(A, A), A),
            jnp.where(more, product(product(A, Q), transpose(A)) + Q, Q),
        ), None

    (A, Q), _ = jax.lax.scan(double, (A, Q), jnp.arange(most))
    return A, (Q + transpose(Q)) / 2.0


# ------------------------------------------------------------------------------ methods that need NumPy


def _called(kernel: Kernel, gaps: jax.Array) -> tuple[jax.Array, ...]:
    """Return A, Q, P and H by a callback to the methods of a kernel; they have first derivatives only."""
    plain = _concrete(kernel)
    theta, names = flatten(kernel, paths(plain))
    S, n, d, dtype = len(gaps), len(names), len(plain.readout()), gaps.dtype

    def given(*shapes: tuple[int, ...]) -> tuple[jax.ShapeDtypeStruct, ...]:
        return tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)

    def cast(*arrays: Any) -> tuple[np.ndarray, ...]:
        return tuple(np.asarray(array, dtype) for array in arrays)

    def plainly(theta: Any, gaps: Any) -> tuple[np.ndarray, ...]:
        moved, gaps = unflatten(plain, np.asarray(theta), names), np.asarray(gaps, np.float64)
        return cast(moved.transition(gaps), moved.process_noise(gaps), moved.stationary())

    def sloped(theta: Any, gaps: Any) -> tuple[np.ndarray, ...]:
        moved = unflatten(plain, np.asarray(theta), names)
        slopes = moved.derivatives(np.asarray(gaps, np.float64), names)
        stacked = (
            np.array([slope[i] for slope in slopes]).reshape(n, *shape)
            for i, shape in enumerate(((S, d, d), (S, d, d), (d, d)))
        )
        return cast(*stacked, moved.generator(), moved.diffusion())

    @jax.custom_jvp
    def matrices(theta: jax.Array, gaps: jax.Array) -> tuple[jax.Array, ...]:
        shapes = given((S, d, d), (S, d, d), (d, d))
        return jax.pure_callback(plainly, shapes, theta, gaps, vmap_method="sequential")

    @matrices.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
        dtheta, dgaps = tangents
        A, Q, P = matrices(*primals)
        shapes = given((n, S, d, d), (n, S, d, d), (n, d, d), (d, d), (d, d))
        dA, dQ, dP, F, D = jax.pure_callback(sloped, shapes, *primals, vmap_method="sequential")
        dA, dQ, dP = ((dtheta @ part.reshape(n, -1)).reshape(part.shape[1:]) for part in (dA, dQ, dP))
        dt = dgaps[:, None, None]
        return (A, Q, P), (dA + dt * product(F, A), dQ + dt * product(product(A, D), transpose(A)), dP)

    return *matrices(jnp.asarray(theta, dtype), gaps), jnp.asarray(plain.readout(), dtype)


def _concrete(tree: Any) -> Any:
    """Return the tree with ones for its values of jax."""
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        parts = {field.name: _concrete(getattr(tree, field.name)) for field in dataclasses.fields(tree)}
        return dataclasses.replace(tree, **parts)
    if isinstance(tree, (list, tuple)):
        return type(tree)(_concrete(part) for part in tree)
    return np.ones(tree.shape) if is_jax(tree) else tree  # pyright: ignore[reportAttributeAccessIssue]
