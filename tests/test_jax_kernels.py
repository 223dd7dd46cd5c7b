"""Kernels in jax: the matrices of NumPy, derivatives that are never NaN, factors that hold in float32."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_kernel_derivatives import Damped, largest

from hidamari.parameters import flatten, parameter, paths, unflatten
from hidamari.statespace import _jax_kernels
from hidamari.statespace.kernels import (
    Constant,
    Cosine,
    HidaMatern,
    Kernel,
    Matern,
    Periodic,
    QuasiPeriodic,
    SquaredExponential,
    Wiener,
    bank,
    steps,
)

GAPS = np.array([0.0, 1e-12, 1e-5, 0.003, 0.08, 0.4, 1.7, 2.0, 9.0, 1e3])
SOME = [
    Matern(0, 0.7, 1.7),
    Matern(6, 0.7, 1.7),
    HidaMatern(3, 0.4, 3.0, 0.6) + Constant(0.3),
    (Matern(0, 0.4) + Cosine(1.2)) * Matern(1, 0.3, 2.0) + 0.5 * HidaMatern(0, 0.6, 0.0),
    Damped(1.5, 2.0, -0.3),
    Periodic(2e3, 0.7, 2.0, 3) + QuasiPeriodic(1.3, 0.7, 2.0, 0.5, 1),
    SquaredExponential(0.4, 2.0),
    2.0 * Wiener(2, 2.0, 5.0) + Wiener(),
]


@dataclass(frozen=True)
class Traced(Kernel):
    """A user's kernel written with jax.numpy."""

    frequency: float = parameter(1.5, "positive")
    damping: float = parameter(2.0, "positive")

    def generator(self):
        omega = 2 * np.pi * self.frequency
        return jnp.array([[0.0, omega], [-omega, -self.damping]])

    def stationary(self):
        return jnp.eye(2)

    def readout(self):
        return jnp.array([1.0, 0.0])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def each(cases):
    return pytest.mark.parametrize("kernel", cases, ids=repr)


def of_vector(kernel, names):
    """A, Q, P and H as a function of the coordinates."""
    return lambda x, gaps: _jax_kernels.matrices(unflatten(kernel, x, names), gaps)


def close(kernel, gaps, got, want, tolerance):
    for one, other, size in zip(got, want, largest(kernel, gaps)):
        assert np.all(np.abs(np.asarray(one) - other) <= tolerance * size)


@each(SOME)
def test_matrices_derivatives_and_factors_are_those_of_numpy(kernel):
    x, names = flatten(kernel, paths(kernel))
    function = of_vector(kernel, names)

    @jax.jit
    def everything(x, gaps):
        factor = _jax_kernels.noise_factor(unflatten(kernel, x, names), gaps)
        return function(x, gaps), jax.jacfwd(function)(x, gaps), factor

    (A, Q, P, H), jacobian, G = everything(jnp.asarray(x), GAPS)
    exact = kernel.linearise(GAPS, names)
    assert A.dtype == Q.dtype == P.dtype == H.dtype == np.float64
    close(kernel, GAPS, (A, Q, P), exact[:3], 1e-12)
    np.testing.assert_array_equal(H, kernel.readout())
    for i, slope in enumerate(exact.slopes):
        close(kernel, GAPS, [np.asarray(part)[..., i] for part in jacobian[:3]], slope, 1e-9)
    G = np.asarray(G)
    np.testing.assert_array_equal(G, np.tril(G))
    assert np.all(np.abs(G @ G.swapaxes(1, 2) - exact.Q) <= 1e-12 * largest(kernel, GAPS)[1])


@each([Matern(2, 0.7, 1.7), SOME[4]])
def test_reverse_derivatives_and_batches(kernel):
    gaps = GAPS[:6]
    x, names = flatten(kernel, paths(kernel))
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal(np.shape(part)) for part in kernel.linearise(gaps, [])[:3]]

    def total(x):
        return sum(jnp.vdot(w, part) for w, part in zip(weights, of_vector(kernel, names)(x, gaps)))

    many = np.stack([x, x + 0.1])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(total)))(jnp.asarray(many))
    for row, value, slope in zip(many, values, slopes):
        moved = unflatten(kernel, row, names).linearise(gaps, names)
        assert value == pytest.approx(sum(np.vdot(w, part) for w, part in zip(weights, moved[:3])), rel=1e-12)
        exact = [sum(np.vdot(w, part) for w, part in zip(weights, one)) for one in moved.slopes]
        np.testing.assert_allclose(slope, exact, rtol=1e-9, atol=1e-9)


@each([Matern(6, 0.7, 1.7) + HidaMatern(1, 0.4, 3.0) + Periodic(harmonics=2) + SquaredExponential(order=4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_nan_at_extremes(kernel, dtype):
    gaps = np.array([0.0, 1e-37, 1e-20, 1e-6, 1.0, 1e3, 1e15], dtype)
    x, names = flatten(kernel, paths(kernel))
    x = jnp.asarray(x, dtype)

    def total(x, gaps):
        moved = unflatten(kernel, x, names)
        return sum(part.sum() for part in _jax_kernels.matrices(moved, gaps)[:3])

    value, (by_x, by_gaps) = jax.jit(jax.value_and_grad(total, (0, 1)))(x, jnp.asarray(gaps))
    assert value.dtype == dtype
    assert np.isfinite(value)
    assert np.isfinite(by_x).all()
    assert np.isfinite(by_gaps).all()


def test_slopes_of_factors_are_finite():
    def total(x, gaps):
        return _jax_kernels.noise_factor(Matern(1, lengthscale=x), gaps).sum()

    for part in jax.jit(jax.grad(total, (0, 1)))(0.7, jnp.array([0.0, 1e-300, 0.1, 3.0, 1e300])):
        assert np.isfinite(part).all()


@each([Matern(6, 0.7, 1.7), HidaMatern(2, 0.4, 3.0, 0.6), SOME[4]])
def test_float32_keeps_its_digits(kernel):
    gaps = np.array([0.0, 0.004, 0.08, 0.4, 1.7, 9.0], np.float32)
    x, names = flatten(kernel, paths(kernel))

    @jax.jit
    def everything(x, gaps):
        moved = unflatten(kernel, x, names)
        return _jax_kernels.matrices(moved, gaps)[:3], _jax_kernels.noise_factor(moved, gaps)

    with jax.enable_x64(False):
        (A, Q, P), G = everything(jnp.asarray(x), jnp.asarray(gaps))
    G = np.asarray(G, np.float64)
    assert A.dtype == np.float32
    gaps = gaps.astype(np.float64)
    exact = kernel.transition(gaps), kernel.process_noise(gaps), kernel.stationary()
    turns = 1.0 + 10.0 * (not isinstance(kernel, Matern))  # a phase of many turns loses digits
    close(kernel, gaps, (A, Q, P), exact, 4e-6 * turns)
    close(kernel, gaps, (A, G @ G.swapaxes(1, 2), P), exact, 4e-6 * turns)


@each([HidaMatern(1, 0.4, 3.0, 0.6)])
def test_second_derivatives(kernel):
    x, names = flatten(kernel)
    gaps = np.array([0.0, 0.1, 1.0])

    def total(x):
        A, Q, P, _ = of_vector(kernel, names)(x, gaps)
        return (A * jnp.cos(jnp.arange(A.size).reshape(A.shape))).sum() + (Q[:, 0] * 3.0).sum() + P.sum() ** 2

    hessian = np.asarray(jax.jit(jax.hessian(total))(jnp.asarray(x)))
    slope, h = jax.jit(jax.grad(total)), 1e-5
    for i, row in enumerate(hessian):
        shift = h * np.eye(len(x))[i]
        np.testing.assert_allclose(row, (slope(x + shift) - slope(x - shift)) / (2 * h), rtol=1e-7, atol=1e-7)


def tangent(function, x, gaps):
    """dA/dt and dQ/dt of every gap."""
    return jax.jvp(lambda g: function(x, g)[:2], (gaps,), (jnp.ones_like(gaps),))[1]


def test_users_kernels_by_tracing_and_by_callback():
    calls, gaps = [], np.array([0.0, 1e-3, 0.3, 2.0, 50.0])

    @dataclass(frozen=True)
    class Called(Traced):
        def generator(self):
            calls.append(type(self.frequency))
            omega = 2 * np.pi * self.frequency
            return np.array([[0.0, omega], [-omega, -self.damping]])

        def stationary(self):
            return np.eye(2)

        def readout(self):
            return np.array([1.0, 0.0])

    x, names = flatten(Called())
    plain = Called().linearise(gaps, names)
    F, D = Called().generator(), Called().diffusion()
    for kernel in (Traced(), Called()):
        function = of_vector(kernel, names)
        everything = jax.jit(lambda x, g, f=function: (f(x, g), *jax.jacfwd(f)(x, g)[:3], *tangent(f, x, g)))
        (A, Q, P, _), *jacobian, by_gap, noise_by_gap = everything(jnp.asarray(x), jnp.asarray(gaps))
        close(Called(), gaps, (A, Q, P), plain[:3], 1e-12)
        for i, slope in enumerate(plain.slopes):
            close(Called(), gaps, [np.asarray(part)[..., i] for part in jacobian], slope, 1e-9)
        np.testing.assert_allclose(by_gap, F @ plain.A, rtol=0, atol=1e-10)
        np.testing.assert_allclose(noise_by_gap, plain.A @ D @ plain.A.swapaxes(1, 2), rtol=0, atol=1e-10)
    assert float in calls


def test_bank_of_jax_values():
    members = [Matern(0, 0.3), Cosine(1.0), Matern(1) + Constant(0.2), Matern(0, 0.3)]
    gaps, step = steps([np.array([0.0, 0.1, 0.4]), np.array([5.0]), np.array([-1.0, -0.5])])
    plain = bank(members, gaps, step)
    x, names = flatten(members)
    traced = jax.jit(lambda x: bank(unflatten(members, x, names), gaps, step))(jnp.asarray(x))
    for one, other in zip(traced, plain):
        assert isinstance(one, jax.Array)
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)
    assert isinstance(bank([Constant()], jnp.asarray(gaps), step).A, jax.Array)
    scaled = jnp.asarray(2.0) * Cosine(0.0)
    np.testing.assert_allclose(jax.jit(lambda: scaled.state_space([0.0, 1.0]))().P[0], 2.0 * np.eye(2))
    with pytest.raises(ValueError, match=r"kernels\[1\] must be a kernel, got 3.0"):
        bank([scaled, 3.0], gaps, step)


def test_single_precision_stays_single():
    with jax.enable_x64(False):
        ss = Cosine(jnp.float32(0.5)).state_space(np.arange(5) * 0.1)
    assert ss.A.dtype == ss.P.dtype == np.float32
