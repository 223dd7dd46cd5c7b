"""A, Q, P and H of every kernel as jax functions of its parameters and of the gaps.

Each rule is the formula of the kernel's own methods, written so that every derivative is finite, at gap 0 and
at endless gaps too. A kernel of a user's goes through its own methods if they are written with jax.numpy, and
through a callback to NumPy otherwise. Products ask for full precision: an accelerator's default for float32
keeps three digits.
"""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hidamari.statespace import _jax_matern
from hidamari.statespace._algebra import Product, Sum
from hidamari.statespace._jax_algebra import factor, product, transpose
from hidamari.statespace._jax_matern import triangular
from hidamari.statespace._jax_users import users_matrices
from hidamari.statespace._kernel import Kernel
from hidamari.statespace._lines import Constant, Cosine
from hidamari.statespace.kernels import HidaMatern, Matern
from hidamari.statespace.types import StateSpace

__all__ = ["Matrices", "bank", "matrices", "noise_factor"]


class Matrices(NamedTuple):
    """What a kernel is at some gaps, in arrays of jax."""

    A: jax.Array  # (S, d, d)
    Q: jax.Array  # (S, d, d)
    P: jax.Array  # (d, d)
    H: jax.Array  # (d,)


def matrices(kernel: Kernel, gaps: Any) -> Matrices:
    """Return A and Q at `gaps` (S,) >= 0 in seconds, P and H of a kernel whose parameters may be traced."""
    return _matrices(kernel, _floating(gaps))


def noise_factor(kernel: Kernel, gaps: Any) -> jax.Array:
    """Return the lower triangular G (S, d, d) with Q = G G' at `gaps` (S,).

    For Matern kernels it comes from the square root of the integrand, so that float32 keeps the digits of the
    smallest variances, which Q itself has no room for. Of a user's kernel it is the Cholesky factor of Q.
    """
    return _factor(kernel, _floating(gaps))


def bank(kernels: Sequence[Kernel], gaps: Any, step: Any) -> StateSpace:
    """Return the bank of the chains of several kernels, as `kernels.bank` does, in arrays of jax."""
    gaps = _floating(gaps)
    members = [_matrices(kernel, gaps) for kernel in kernels]
    d = max(len(member.H) for member in members)

    def padded(array: jax.Array, axes: int) -> jax.Array:
        more = d - array.shape[-1]
        return jnp.pad(array, [(0, 0)] * (array.ndim - axes) + [(0, more)] * axes)

    arrays: Any = (
        jnp.stack([padded(member.A, 2) for member in members], axis=1),
        jnp.stack([padded(member.Q, 2) for member in members], axis=1),
        jnp.asarray(step),
        jnp.stack([padded(member.H[None], 1) for member in members]),
        jnp.zeros((len(members), d), members[0].A.dtype),
        jnp.stack([padded(member.P, 2) for member in members]),
    )
    return StateSpace(*arrays)


def _floating(gaps: Any) -> jax.Array:
    """Return the gaps as an array of the widest floats that jax has now."""
    gaps = jnp.asarray(gaps)
    return gaps if jnp.issubdtype(gaps.dtype, jnp.floating) else gaps.astype(jnp.result_type(float))


def _noiseless(kernel: Kernel) -> bool:
    """Say whether Q is 0 for every parameter."""
    if isinstance(kernel, (Sum, Product)):
        return _noiseless(kernel.first) and _noiseless(kernel.second)
    return isinstance(kernel, (Constant, Cosine))


# ----------------------------------------------------------------------------------------- the matrices


@singledispatch
def _matrices(kernel: Kernel, gaps: jax.Array) -> Matrices:
    """Return the matrices of one kernel; this one serves those of users."""
    return Matrices(*users_matrices(kernel, gaps))


@_matrices.register
def _(kernel: Matern, gaps: jax.Array) -> Matrices:
    p, u = kernel.order, _jax_matern.scaled(kernel.order, kernel.lengthscale, gaps)
    A = _jax_matern.transition(p, u)
    Q = kernel.variance * _jax_matern.noise(p, u)
    P = kernel.variance * jnp.asarray(_jax_matern.stationary(p), A.dtype)
    return Matrices(A, Q, P, jnp.asarray(kernel.readout(), A.dtype))


@_matrices.register
def _(kernel: HidaMatern, gaps: jax.Array) -> Matrices:
    return _matrices(kernel._parts, gaps)


@_matrices.register
def _(kernel: Cosine, gaps: jax.Array) -> Matrices:
    A = rotation(kernel.frequency, gaps)
    return Matrices(
        A, jnp.zeros_like(A), kernel.variance * jnp.eye(2, dtype=A.dtype), jnp.eye(2, dtype=A.dtype)[0]
    )


@_matrices.register
def _(kernel: Constant, gaps: jax.Array) -> Matrices:
    A = jnp.ones((len(gaps), 1, 1), gaps.dtype)
    P = jnp.asarray(kernel.variance, jnp.result_type(kernel.variance, gaps)).reshape(1, 1)
    return Matrices(A, jnp.zeros_like(A), P, jnp.ones(1, gaps.dtype))


@_matrices.register
def _(kernel: Sum, gaps: jax.Array) -> Matrices:
    one, two = _matrices(kernel.first, gaps), _matrices(kernel.second, gaps)
    A, Q, P = (block_diagonal(X, Y) for X, Y in zip(one[:3], two[:3]))
    return Matrices(A, Q, P, jnp.concatenate([one.H, two.H]))


@_matrices.register
def _(kernel: Product, gaps: jax.Array) -> Matrices:
    one, two = _matrices(kernel.first, gaps), _matrices(kernel.second, gaps)
    Q = kronecker(one.Q, two.P)
    if not _noiseless(kernel.second):
        Q = Q + kronecker(product(product(one.A, one.P), transpose(one.A)), two.Q)
    return Matrices(kronecker(one.A, two.A), Q, kronecker(one.P, two.P), jnp.kron(one.H, two.H))


# ------------------------------------------------------------------------------------ factors of Q and P


@singledispatch
def _factor(kernel: Kernel, gaps: jax.Array) -> jax.Array:
    """Return the factor of Q of one kernel; this one serves those of users."""
    return factor(_matrices(kernel, gaps).Q)


@_factor.register
def _(kernel: Matern, gaps: jax.Array) -> jax.Array:
    u = _jax_matern.scaled(kernel.order, kernel.lengthscale, gaps)
    return jnp.sqrt(kernel.variance) * _jax_matern.noise_factor(kernel.order, u)


@_factor.register
def _(kernel: HidaMatern, gaps: jax.Array) -> jax.Array:
    return _factor(kernel._parts, gaps)


@_factor.register(Cosine)
@_factor.register(Constant)
def _(kernel: Kernel, gaps: jax.Array) -> jax.Array:
    return _matrices(kernel, gaps).Q


@_factor.register
def _(kernel: Sum, gaps: jax.Array) -> jax.Array:
    return block_diagonal(_factor(kernel.first, gaps), _factor(kernel.second, gaps))


@_factor.register
def _(kernel: Product, gaps: jax.Array) -> jax.Array:
    """Factor Q1 (x) P2 + (A1 P1 A1') (x) Q2 by the square roots of its parts."""
    one, two = _matrices(kernel.first, gaps), _matrices(kernel.second, gaps)
    first = kronecker(_factor(kernel.first, gaps), factor(two.P))
    if _noiseless(kernel.second):
        return first
    second = kronecker(product(one.A, factor(one.P)), _factor(kernel.second, gaps))
    return triangular(transpose(jnp.concatenate([first, second], axis=-1)))


# ------------------------------------------------------------------------------------------ small algebra


def rotation(frequency: Any, dt: jax.Array) -> jax.Array:
    """Return the rotations by 2 pi frequency dt, (S,) -> (S, 2, 2)."""
    turns = frequency * dt
    angle = 2.0 * np.pi * (turns - jax.lax.stop_gradient(jnp.round(turns)))  # whole turns go first
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([cosine, -sine, sine, cosine], axis=-1).reshape(*turns.shape, 2, 2)


def kronecker(X: jax.Array, Y: jax.Array) -> jax.Array:
    """Return the Kronecker products of the last two axes."""
    product = X[..., :, None, :, None] * Y[..., None, :, None, :]
    return product.reshape(*product.shape[:-4], X.shape[-2] * Y.shape[-2], X.shape[-1] * Y.shape[-1])


def block_diagonal(X: jax.Array, Y: jax.Array) -> jax.Array:
    """Return the matrices with X and Y on the diagonal of the last two axes."""
    a, c, still = X.shape[-1], Y.shape[-1], [(0, 0)] * (X.ndim - 2)
    return jnp.pad(X, [*still, (0, c), (0, c)]) + jnp.pad(Y, [*still, (a, 0), (a, 0)])
