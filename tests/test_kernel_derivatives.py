"""Derivatives of A, Q and P by every parameter, against extrapolated differences and 50 digits."""

from dataclasses import dataclass
from math import comb

import numpy as np
import pytest
from mpmath import mp, mpf

from hidamari.parameters import flatten, parameter, paths, unflatten
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
)

GAPS = np.array([0.0, 1e-12, 1e-5, 0.003, 0.08, 0.4, 1.7, 9.0, 1e3])


@dataclass(frozen=True)
class Damped(Kernel):
    """A user's kernel from three methods, with a parameter of either sign in its read-out's covariance."""

    frequency: float = parameter(1.0, "positive")
    damping: float = parameter(1.0, "positive")
    shift: float = parameter(0.0, "real")

    def generator(self):
        omega = 2 * np.pi * self.frequency
        return np.array([[0.0, omega], [-omega, -self.damping]])

    def stationary(self):
        return np.eye(2) * (1.0 + self.shift) ** 2

    def readout(self):
        return np.array([1.0, 0.0])


EXACT = [
    *[Matern(order, 0.7, 1.7) for order in range(7)],
    *[HidaMatern(order, 0.4, frequency, 0.6) for order, frequency in [(0, 2.3), (2, 0.0), (5, 3.0)]],
    Constant(2.5),
    Cosine(1.3, 0.8),
    Cosine(0.0, 0.8),
    Matern(1, 0.2) + Matern(2, 1.5, 0.3),
    Matern(1, 0.5) * Matern(2, 0.9, 0.4),
    Matern(1, 0.5) * (Matern(0, 0.3) + Constant(0.4)),
    (Matern(0, 0.4) + HidaMatern(1, 0.8, 1.2)) * Cosine(0.9, 2.0) + 0.5 * Matern(3, 0.6),
    Periodic(1.3, 0.7, 2.0, 5),
    QuasiPeriodic(1.3, 0.7, 2.0, 0.5, 2),
    SquaredExponential(0.4, 2.0),
    SquaredExponential(0.4, 2.0, order=8),
    Wiener(0, 2.0, 5.0) + Matern(0, 0.4),
    2.0 * Wiener(3, 0.5, 5.0),
]
EVERY = [*EXACT, Damped(1.5, 2.0, -0.3), Cosine(0.6) * (Damped(0.8, 3.0) * 2.0) + Damped()]


def each(cases):
    return pytest.mark.parametrize("kernel", cases, ids=repr)


def slopes_by_extrapolation(kernel, gaps, name):
    """d (A, Q, P) by one coordinate: central differences, extrapolated three times (Romberg)."""
    vector, names = flatten(kernel, [name])

    def matrices(shift):
        moved = unflatten(kernel, vector + shift, names)
        return moved.transition(gaps), moved.process_noise(gaps), moved.stationary()

    steps = [0.03 / 2**i for i in range(5)]
    rows = [[(up - down) / (2 * h) for up, down in zip(matrices(h), matrices(-h))] for h in steps]
    for k in range(1, 5):
        rows = [
            [(4**k * fine - coarse) / (4**k - 1) for fine, coarse in zip(*pair)]
            for pair in zip(rows[1:], rows[:-1])
        ]
    return rows[0]


def largest(kernel, gaps):
    """What an error is measured by: A entry by entry, Q by the standard deviations of its states."""
    A, Q, P = kernel.transition(gaps), kernel.process_noise(gaps), kernel.stationary()
    spread = np.sqrt(np.einsum("sii->si", Q))
    return (
        np.abs(A).max((1, 2), keepdims=True) + 1.0,
        spread[:, :, None] * spread[:, None, :],
        np.abs(P).max(),
    )


@each(EVERY)
def test_slopes_are_the_extrapolated_differences(kernel):
    gaps = GAPS[GAPS < 2.0]  # beyond, the phase turns too fast to be differenced
    names = paths(kernel)
    found = kernel.derivatives(gaps, names)
    assert len(found) == len(names)
    for name, slope in zip(names, found):
        exact = slopes_by_extrapolation(kernel, gaps, name)
        for got, want, size in zip(slope, exact, largest(kernel, gaps)):
            assert np.all(np.abs(got - want) <= 1e-9 * size), name


@each(EVERY)
def test_slopes_are_finite_at_extremes_and_zero_at_gap_zero(kernel):
    gaps = np.array([0.0, 1e-300, 1e-160, 1e-12, 1.0, 1e3, 1e15] if kernel in EXACT else [0.0, 1e-12, 1.0])
    for dA, dQ, dP in kernel.derivatives(gaps, paths(kernel)):
        assert np.isfinite(dA).all()
        assert np.isfinite(dQ).all()
        assert np.isfinite(dP).all()
        np.testing.assert_allclose(dA[0], 0.0, atol=1e-12)
        np.testing.assert_allclose(dQ[0], 0.0, atol=1e-12)


@each(EVERY)
def test_linearise_gives_the_matrices_too(kernel):
    A, Q, P, slopes = kernel.linearise(GAPS, [])
    assert slopes == []
    np.testing.assert_allclose(A, kernel.transition(GAPS), rtol=1e-15, atol=0)
    np.testing.assert_allclose(Q, kernel.process_noise(GAPS), rtol=1e-15, atol=0)
    np.testing.assert_allclose(P, kernel.stationary(), rtol=1e-15, atol=0)


@each(EXACT)
def test_closed_forms_agree_with_those_of_a_users_kernel(kernel):
    names = paths(kernel)[::-1]
    gaps = GAPS[:6]
    for got, general, name in zip(
        kernel.derivatives(gaps, names),
        Kernel.derivatives(Plain(kernel), gaps, ["of." + n for n in names]),
        names,
    ):
        for one, other, size in zip(got, general, largest(kernel, gaps)):
            assert np.all(np.abs(one - other) <= 1e-9 * size), name


@dataclass(frozen=True)
class Plain(Kernel):
    """Any kernel, without its closed forms of the derivatives."""

    of: Kernel

    def generator(self):
        return self.of.generator()

    def stationary(self):
        return self.of.stationary()

    def readout(self):
        return self.of.readout()

    def transition(self, dt):
        return self.of.transition(dt)

    def process_noise(self, dt):
        return self.of.process_noise(dt)


@pytest.mark.parametrize("order", range(7))
@pytest.mark.parametrize("u", [1e-9, 1e-3, 0.7, 12.0])
def test_matern_noise_slopes_keep_every_digit(order, u):
    """The slope of Q by log lengthscale is -u q a a', a the last column of exp((N - I) u) in 50 digits."""
    with mp.workdps(50):
        F = mp.diag([mpf(0)] * (order + 1))
        for i in range(order):
            F[i, i + 1] = mpf(1)
        for i in range(order + 1):
            F[order, i] -= comb(order + 1, i)
        a = mp.expm(F * mpf(u))[:, order]
        q = mpf(2) ** (2 * order + 1) * mp.factorial(order) ** 2 / mp.factorial(2 * order)
        exact = np.array(
            [[float(-mpf(u) * q * a[i] * a[j]) for j in range(order + 1)] for i in range(order + 1)]
        )
    lengthscale = np.sqrt(2 * order + 1)
    (_, dQ, _) = Matern(order, lengthscale).derivatives(np.array([u]), ["lengthscale"])[0]
    size = np.sqrt(np.outer(-np.diag(exact), -np.diag(exact)))
    assert np.all(np.abs(dQ[0] - exact) <= 1e-13 * size.clip(1e-300) + 2e-14 * size.max())


def test_slopes_come_in_the_order_asked_for():
    kernel = Matern(1, 0.2) + HidaMatern(2, 1.5, 0.3)
    names = paths(kernel)
    forward, back = kernel.derivatives(GAPS, names), kernel.derivatives(GAPS, names[::-1])
    for one, other in zip(forward, back[::-1]):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)
    variance = kernel.derivatives(GAPS, ["first.variance"])[0]
    np.testing.assert_array_equal(variance.dQ[:, :2, :2], kernel.process_noise(GAPS)[:, :2, :2])
    assert not variance.dA.any()
    assert not variance.dQ[:, 2:, 2:].any()


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (Matern(), "order"),
        (Matern(), "length"),
        (HidaMatern(), "frequency"),
        (Matern() + Matern(), "lengthscale"),
        (Damped(), "second.damping"),
    ],
)
def test_unknown_names_are_refused(kernel, name):
    with pytest.raises(ValueError, match=f"names has '{name}', which is not among the parameters"):
        kernel.derivatives(GAPS, [name])
