"""A, Q, P and H of every kernel as jax functions of its parameters and of the gaps.

Each rule is the formula of the kernel's own methods, written so that every derivative is finite, at gap 0 and
at endless gaps too. A kernel of a user's goes through its own methods if they are written with jax.numpy, and
through a callback to NumPy otherwise. Products ask for full precision: an accelerator's default for float32
keeps three digits.
"""

from collections.abc import Sequence
from functools import partial, singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hidamari.statespace import _jax_matern
from hidamari.statespace._algebra import Product, Sum
from hidamari.statespace._jax_algebra import factor, product, transpose
from hidamari.statespace._jax_matern import triangular
from hidamari.statespace._jax_users import discretise, users_matrices
from hidamari.statespace._kernel import Kernel
from hidamari.statespace._lines import Constant, Cosine
from hidamari.statespace._periodic import EXTRA, SHORTEST, Periodic
from hidamari.statespace._squared_exponential import SquaredExponential, chain
from hidamari.statespace._trend import Wiener, noise_powers, transition_powers
from hidamari.statespace.kernels import HidaMatern, Matern, QuasiPeriodic
from hidamari.statespace.types import StateSpace

_FORGOTTEN = 1e3  # lengthscales after which A is exactly 0
_DOUBLINGS = 20  # and |F| u at most 2^20

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
    return isinstance(kernel, (Constant, Cosine, Periodic))


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


@_matrices.register(HidaMatern)
@_matrices.register(QuasiPeriodic)
def _(kernel: HidaMatern | QuasiPeriodic, gaps: jax.Array) -> Matrices:
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
def _(kernel: Periodic, gaps: jax.Array) -> Matrices:
    n = kernel.harmonics + 1
    turned = rotation(1.0, (gaps / kernel.period)[:, None] * jnp.arange(n, dtype=gaps.dtype))
    alone = jnp.eye(n, dtype=turned.dtype)[:, None, :, None]
    A = (turned[..., :, :, None, :] * alone).reshape(len(gaps), 2 * n, 2 * n)
    kept = np.delete(np.arange(2 * n), 1)  # of harmonic 0 only the first state
    A = A[:, kept][:, :, kept]
    P = kernel.variance * jnp.diag(jnp.repeat(_fourier_weights(kernel.harmonics, kernel.lengthscale), 2)[1:])
    return Matrices(A, jnp.zeros_like(A), P, jnp.asarray(kernel.readout(), A.dtype))


@_matrices.register
def _(kernel: SquaredExponential, gaps: jax.Array) -> Matrices:
    _, P, _, H = (jnp.asarray(part, gaps.dtype) for part in chain(kernel.order))
    A, Q = _stretched(kernel.order, jnp.minimum(gaps, _FORGOTTEN * kernel.lengthscale) / kernel.lengthscale)
    return Matrices(A, kernel.variance * Q, kernel.variance * P, H.astype(A.dtype))


@_matrices.register
def _(kernel: Wiener, gaps: jax.Array) -> Matrices:
    powers, weights = transition_powers(kernel.order)
    A = _integer_powers(gaps, powers) * jnp.asarray(weights, gaps.dtype)
    powers, weights = noise_powers(kernel.order)
    Q = kernel.variance * (_integer_powers(gaps, powers) * jnp.asarray(weights, gaps.dtype))
    P = jnp.asarray(kernel.start, jnp.result_type(kernel.start, gaps)) ** 2 * jnp.eye(
        len(weights), dtype=gaps.dtype
    )
    return Matrices(A, Q, P, jnp.asarray(kernel.readout(), A.dtype))


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


@_factor.register(HidaMatern)
@_factor.register(QuasiPeriodic)
def _(kernel: HidaMatern | QuasiPeriodic, gaps: jax.Array) -> jax.Array:
    return _factor(kernel._parts, gaps)


@_factor.register(Cosine)
@_factor.register(Constant)
@_factor.register(Periodic)
def _(kernel: Kernel, gaps: jax.Array) -> jax.Array:
    return _matrices(kernel, gaps).Q


@_factor.register
def _(kernel: Wiener, gaps: jax.Array) -> jax.Array:
    """Factor Q by the rows dt^(p - i + 1/2) of a constant factor."""
    _, weights = noise_powers(kernel.order)
    root = jnp.asarray(np.linalg.cholesky(weights), gaps.dtype)
    some = gaps > 0.0
    half = jnp.where(some, jnp.sqrt(jnp.where(some, gaps, 1.0)), 0.0)
    left = kernel.order - np.arange(kernel.order + 1)[:, None]
    return jnp.sqrt(kernel.variance) * half[:, None, None] * (_integer_powers(gaps, left) * root)


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


# ------------------------------------------------------------------------------------- parts of the rules


def _fourier_weights(harmonics: int, lengthscale: Any) -> jax.Array:
    """Return the weights of `Periodic`, by the same recursion downwards."""
    x = 1.0 / jnp.maximum(lengthscale, SHORTEST) ** 2
    top = harmonics + EXTRA

    def down(r: jax.Array, j: jax.Array) -> tuple[jax.Array, jax.Array]:
        r = x / (2.0 * (j + 1.0) + x * r)
        return r, r

    start = x / (top + 0.5 + jnp.sqrt((top + 1.5) ** 2 + x * x))
    ratio = jax.lax.scan(down, start, jnp.arange(top - 1.0, -1.0, -1.0, dtype=x.dtype))[1][::-1][:harmonics]
    w = jnp.concatenate([jnp.ones(1, x.dtype), 2.0 * jnp.cumprod(ratio)])
    return w / w.sum()


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _stretched(order: int, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return A and Q of the squared exponential of unit lengthscale and variance at gaps u."""
    F, _, D, _ = (jnp.asarray(part, u.dtype) for part in chain(order))
    return discretise(F, D, u, _DOUBLINGS)


@_stretched.defjvp
def _(order: int, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    """Differentiate by dA/du = F A and dQ/du = A D A', with D in its last entry alone."""
    A, Q = _stretched(order, *primals)
    F, _, D, _ = (jnp.asarray(part, A.dtype) for part in chain(order))
    du, last = tangents[0][:, None, None], A[:, :, -1]
    return (A, Q), (du * product(F, A), du * D[-1, -1] * (last[:, :, None] * last[:, None, :]))


def _integer_powers(dt: jax.Array, powers: np.ndarray) -> jax.Array:
    """Return dt to whole powers by products, whose slopes at 0 are finite, (S,) -> (S, *powers.shape)."""
    ladder = [jnp.ones_like(dt)]
    for _ in range(int(powers.max())):
        ladder.append(ladder[-1] * dt)
    return jnp.stack(ladder, axis=-1)[:, powers.ravel()].reshape(len(dt), *powers.shape)


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
