"""Every kernel: its state space and its spectrum are those of its covariance, and kernels are values."""

import doctest
from dataclasses import dataclass
from itertools import product
from math import comb

import numpy as np
import oracles
import pytest
from scipy.linalg import expm

from hidamari.parameters import parameter
from hidamari.statespace import _algebra, _steps, kernels
from hidamari.statespace.kernels import (
    Constant,
    Cosine,
    HidaMatern,
    Kernel,
    Matern,
    Periodic,
    Product,
    QuasiPeriodic,
    SquaredExponential,
    Sum,
    Wiener,
    bank,
    steps,
)


@dataclass(frozen=True)
class Damped(Kernel):
    """A user's kernel: an underdamped oscillator driven by white noise, from three methods."""

    frequency: float = parameter(1.0, "positive")
    damping: float = parameter(1.0, "positive")

    def generator(self):
        omega = 2 * np.pi * self.frequency
        return np.array([[0.0, omega], [-omega, -self.damping]])

    def stationary(self):
        return np.eye(2)

    def readout(self):
        return np.array([1.0, 0.0])


MATERNS = [Matern(order, lengthscale=0.7, variance=1.7) for order in range(7)]
HIDAS = [
    HidaMatern(order, 0.4, frequency, 0.6) for order, frequency in [(0, 2.3), (1, 0.7), (2, 0.0), (5, 3.0)]
]
FADING = [
    *MATERNS,
    *HIDAS,
    Damped(1.5, 2.0),
    Matern(1, 0.2) + Matern(2, 1.5, 0.3),
    Matern(1, 0.5) * Matern(2, 0.9),
    Matern(1, 0.5) * (Matern(0, 0.3) + Constant(0.4)),
    (Matern(0, 0.4) + HidaMatern(1, 0.8, 1.2)) * Cosine(0.9, 2.0) + 0.5 * Matern(3, 0.6),
    Cosine(0.6) * (Damped(0.8, 3.0) * 2.0),
    SquaredExponential(0.6, 1.2),
    SquaredExponential(1.1, order=5) + Matern(0, 0.5),
    QuasiPeriodic(1.3, 0.7, 1.1, 0.5, 2),
]
LASTING = [
    Constant(2.5),
    Cosine(1.3, 0.8),
    Cosine(0.0),
    Cosine(1.0) * Cosine(0.3) + Constant(),
    Matern(1) + Constant(0.1),
    Periodic(1.3, 0.8, 0.6, 4),
]
EVERY = FADING + LASTING
WANDERING = [Wiener()]  # not stationary: see test_new_kernels.py


def each(cases):
    return pytest.mark.parametrize("kernel", cases, ids=repr)


def test_every_public_kernel_is_among_the_cases():
    public = {getattr(kernels, name) for name in kernels.__all__}
    public = {item for item in public if isinstance(item, type) and issubclass(item, Kernel)} - {Kernel}
    assert public <= {type(kernel) for kernel in EVERY + WANDERING}


# ------------------------------------------------------------------- the state space is the covariance


@each(EVERY)
def test_state_space_covariance_is_the_kernel(kernel):
    tau = np.array([0.0, 1e-9, 1e-3, 0.05, 0.3, 1.0, 2.5, 10.0])
    P, H = kernel.stationary(), kernel.readout()
    implied = np.einsum("i,sij,jk,k->s", H, kernel.transition(tau), P, H)
    np.testing.assert_allclose(implied, kernel(tau), rtol=0, atol=1e-12 * kernel(0.0))
    np.testing.assert_array_equal(kernel(-tau), kernel(tau))
    assert kernel(tau.reshape(2, 4)).shape == (2, 4)
    assert kernel(0.3) == pytest.approx(kernel(tau)[4], rel=1e-14)


@each(EVERY)
def test_state_space_composes_over_gaps(kernel):
    for s, t in [(0.01, 0.3), (1.0, 1.0), (1e-4, 2e-4), (0.0, 0.5), (3.0, 1e-3)]:
        A, Q = kernel.transition([s, t, s + t]), kernel.process_noise([s, t, s + t])
        np.testing.assert_allclose(A[1] @ A[0], A[2], rtol=0, atol=1e-13 * np.abs(A).max())
        bound = np.sqrt(np.outer(np.diag(Q[2]), np.diag(Q[2])))
        assert np.all(np.abs(A[1] @ Q[0] @ A[1].T + Q[1] - Q[2]) <= 2e-13 * bound)


@each(EVERY)
def test_stationary_covariance_is_kept(kernel):
    F, P, D = kernel.generator(), kernel.stationary(), kernel.diffusion()
    size = np.abs(F) @ np.abs(P)
    assert np.all(np.abs(F @ P + P @ F.T + D) <= 1e-14 * (size + size.T))
    assert np.linalg.eigvalsh(D).min() >= -1e-13 * np.abs(D).max()
    assert np.linalg.eigvalsh(P).min() > 0
    dt = np.array([0.0, 1e-3, 0.2, 5.0])
    A = kernel.transition(dt)
    kept = A @ P @ A.swapaxes(1, 2) + kernel.process_noise(dt)
    np.testing.assert_allclose(kept - P, 0, atol=1e-13 * np.abs(P).max())


@pytest.mark.parametrize("order", range(7))
def test_noise_drives_the_highest_derivative_alone(order):
    kernel = Matern(order, 0.7, 1.7)
    rate = np.sqrt(2 * order + 1) / 0.7
    D = np.zeros((order + 1, order + 1))
    D[-1, -1] = 1.7 * rate * 2 ** (2 * order + 1) / comb(2 * order, order)
    np.testing.assert_allclose(kernel.diffusion(), D, rtol=1e-15)
    np.testing.assert_array_equal(Kernel.diffusion(kernel) != 0, D != 0)
    np.testing.assert_allclose(Kernel.diffusion(kernel), D, rtol=1e-13)


@each(EVERY)
def test_transition_is_the_exponential_and_its_inverse(kernel):
    F = kernel.generator()
    for dt in (1e-3, 0.1, 1.3):
        A, back = kernel.transition([dt, -dt])
        np.testing.assert_allclose(A, expm(F * dt), rtol=0, atol=1e-11)
        bound = np.abs(A) @ np.abs(back)
        assert np.all(np.abs(A @ back - np.eye(len(F))) <= 1e-13 * (1 + bound))


@each([kernel for kernel in EVERY if isinstance(kernel, (Matern, HidaMatern))])
def test_time_reversal_is_a_flip_of_signs(kernel):
    P, d = kernel.stationary(), kernel.order + 1
    flip = (-1.0) ** np.arange(d)
    flip = flip if len(P) == d else np.kron(flip, [1.0, -1.0])
    for A in kernel.transition([0.01, 0.3, 2.0]):
        np.testing.assert_allclose(P @ A.T, flip[:, None] * A * flip @ P, rtol=0, atol=1e-13)


@each(EVERY)
def test_general_formulas_agree_with_closed_forms(kernel):
    dt = np.array([0.0, 1e-7, 1e-3, 0.08, 0.9, 4.0, 30.0])
    np.testing.assert_allclose(Kernel.transition(kernel, dt), kernel.transition(dt), rtol=0, atol=1e-11)
    Q, general = kernel.process_noise(dt), Kernel.process_noise(kernel, dt)
    assert np.all(
        np.abs(general - Q) <= 1e-10 * np.sqrt(np.einsum("si,sj->sij", *2 * [np.einsum("sii->si", Q)]))
    )
    tau = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(Kernel.__call__(kernel, tau), kernel(tau), rtol=0, atol=1e-12)


@each(EVERY)
def test_extreme_gaps_are_finite(kernel):
    dt = np.array([0.0, 1e-300, 1e-160, 1e-12, 1.0, 1e3, 1e15])
    A, Q, P = kernel.transition(dt), kernel.process_noise(dt), kernel.stationary()
    assert np.isfinite(A).all()
    assert np.isfinite(Q).all()
    np.testing.assert_array_equal(A[0], np.eye(len(P)))
    np.testing.assert_array_equal(Q[0], np.zeros_like(P))
    if not kernel.line_spectrum:
        rounding = 1e-12 if "SquaredExponential" in repr(kernel) else 1e-15  # 60 doublings of a series
        np.testing.assert_allclose(Q[-1], P, rtol=1e-14, atol=rounding)
        np.testing.assert_array_equal(A[-1], np.zeros_like(P))


# --------------------------------------------------------------------------------------------- spectrum


def transform(kernel, frequency):
    """2 int_0^inf k(tau) cos(2 pi f tau) d tau by composite Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    edges = np.linspace(0, 40, 4001)
    tau = (edges[:-1, None] + np.diff(edges)[:, None] * (nodes + 1) / 2).ravel()
    k = kernel(tau) * (np.diff(edges)[:, None] * weights / 2).ravel()
    return 2 * np.cos(2 * np.pi * frequency[:, None] * tau) @ k


@each(FADING)
def test_spectral_density_is_the_transform_of_the_covariance(kernel):
    frequency = np.array([0.0, 0.1, 0.7, 1.2, 2.3, 5.0, -0.7])
    density = kernel.spectral_density(frequency)
    np.testing.assert_allclose(density, transform(kernel, frequency), rtol=0, atol=1e-8 * density.max())
    np.testing.assert_allclose(Kernel.spectral_density(kernel, frequency), density, rtol=1e-11)
    assert kernel.spectral_density(frequency.reshape(7, 1)).shape == (7, 1)
    assert kernel.spectral_density(0.7) == pytest.approx(density[2], rel=1e-13)


def test_spectral_density_of_a_product_keeps_its_digits_far_out():
    pair = Matern(0, 0.5) * Matern(0, 0.25)  # exponentials multiply to an exponential of the summed rate
    frequency = np.geomspace(1, 1e8, 9)
    np.testing.assert_allclose(
        pair.spectral_density(frequency), Matern(0, 1 / 6).spectral_density(frequency), rtol=1e-13
    )
    assert Matern(2).spectral_density(1e200) == 0.0


@each(LASTING)
def test_lines_have_no_density(kernel):
    with pytest.raises(ValueError, match="line spectrum"):
        kernel.spectral_density([0.5])


# ---------------------------------------------------------------------------------------------- algebra


@each(EVERY)
def test_kernels_are_values(kernel):
    assert eval(repr(kernel), {**vars(kernels), "Damped": Damped}) == kernel
    assert hash(kernel) == hash(eval(repr(kernel), {**vars(kernels), "Damped": Damped}))
    assert kernel != kernel * 2.0
    assert len(repr(kernel)) < 250


def test_numpy_numbers_make_equal_kernels():
    assert Matern(np.int64(2), np.float32(0.5)) == Matern(2, 0.5)
    assert repr(Matern(np.int64(2), np.float32(0.5))) == "Matern(order=2, lengthscale=0.5, variance=1.0)"


def test_operators():
    a, b = Matern(1), Cosine(2.0)
    assert a + b == Sum(a, b)
    assert a * b == Product(a, b)
    for factor in (3, 3.0, np.float64(3.0), np.float32(3.0), np.int64(3)):
        assert factor * a == Product(Constant(3.0), a)
        assert a * factor == Product(a, Constant(3.0))
    assert (2.0 * a)(0.3) == 2.0 * a(0.3)
    for wrong in (lambda: a + 1.0, lambda: a * "2", lambda: "2" * a, lambda: a - b):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError, match="variance must be a finite number above 0, got -2"):
        -2.0 * a


def test_hida_matern_is_matern_times_cosine():
    dt = np.array([0.01, 0.5])
    hida, factors = HidaMatern(2, 0.5, 3.0, 2.0), Matern(2, 0.5, 2.0) * Cosine(3.0)
    still, matern = HidaMatern(2, 0.5, 0.0, 2.0), Matern(2, 0.5, 2.0)
    assert hida.stationary().shape == (6, 6)
    assert still.stationary().shape == (3, 3)
    for one, other in ((hida, factors), (still, matern)):
        for method in ("transition", "process_noise", "__call__", "spectral_density"):
            np.testing.assert_array_equal(getattr(one, method)(dt), getattr(other, method)(dt))


def test_methods_a_kernel_must_have_are_named():
    with pytest.raises(NotImplementedError, match=r"Kernel must define generator\(\)"):
        Kernel().transition([0.1])
    for method in ("stationary", "readout"):
        with pytest.raises(NotImplementedError, match=method):
            getattr(Kernel(), method)()


# ------------------------------------------------------------------------------------------------- bank


@each(EVERY)
def test_chain_has_the_covariance_of_the_kernel(kernel):
    times = np.array([-1.0, -1.0, -0.4, 0.3, 0.31, 2.0, 2.7, 9.0])
    ss = kernel.state_space(times)
    mean, cov = oracles.prior_readouts(ss)
    exact = kernel(np.subtract.outer(times, times))
    np.testing.assert_allclose(cov[:, 0, :, 0], exact, rtol=0, atol=1e-12 * kernel(0.0))
    assert not mean.any()


def test_bank_pads_and_keeps_chains_and_trials_apart():
    members = [Matern(0, 0.3), HidaMatern(2, 0.5, 1.0), Matern(1) + Constant(0.2), Matern(0, 0.3)]
    trials = [np.array([0.0, 0.1, 0.4]), np.array([5.0]), np.array([-1.0, -0.5])]
    gaps, step = steps(trials)
    ss = bank(members, gaps, step)
    assert ss.A.shape == ss.Q.shape == (len(gaps), 4, 6, 6)
    assert (ss.H.shape, ss.m.shape, ss.P.shape) == ((4, 1, 6), (4, 6), (4, 6, 6))
    assert all(array.flags.c_contiguous for array in ss)
    _, cov = oracles.prior_readouts(ss)
    times, trial = np.concatenate(trials), np.array([0, 0, 0, 1, 2, 2])
    same = trial[:, None] == trial
    for c, e in product(range(4), repeat=2):
        exact = members[c](np.subtract.outer(times, times)) * same * (c == e)
        np.testing.assert_allclose(cov[:, c, :, e], exact, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(ss.A[:, 0], ss.A[:, 3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [0.1], [0]), "kernels must have at least one kernel, got none"),
        (([Matern(), 3.0], [0.1], [0]), r"kernels\[1\] must be a kernel, got 3.0"),
        (([Matern()], [-0.1], [0]), "dt must be finite and not negative, got -0.1 at index 0"),
        (([Matern()], [0.1], [0, 1]), r"step must have shape \(T,\) with entries below len\(gaps\) = 1"),
        (([Matern()], [0.1], [[0]]), r"step must have shape \(T,\)"),
    ],
)
def test_bank_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        bank(*arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Matern(order=7), "order must be a whole number from 0 to 6, got 7"),
        (lambda: HidaMatern(order=-1), "order must be a whole number, 0 or more, got -1"),
        (lambda: Matern(order=1.5), "order must be a whole number, 0 or more, got 1.5"),
        (lambda: Matern(lengthscale=0.0), "lengthscale must be a finite number above 0, got 0"),
        (lambda: Matern(lengthscale=np.nan), "lengthscale must be a finite number above 0, got nan"),
        (lambda: Matern(variance=np.inf), "variance must be a finite number above 0, got inf"),
        (lambda: Matern(variance="1"), "variance must be a finite number above 0, got '1'"),
        (lambda: HidaMatern(frequency=-1.0), "frequency must be a finite number, 0 or more, got -1"),
        (lambda: Cosine(frequency=None), "frequency must be a finite number, 0 or more, got None"),
        (lambda: Sum(Matern(), 1.0), "second must be a kernel, got 1.0"),
        (lambda: Product("k", Matern()), "first must be a kernel, got 'k'"),
        (lambda: Matern().transition(0.1), r"dt must have shape \(S,\), got \(\)"),
        (lambda: Matern().transition([0.1, np.inf]), "dt must be finite, got inf at index 1"),
        (
            lambda: Damped().process_noise([0.1, -1.0]),
            "dt must be finite and not negative, got -1.0 at index 1",
        ),
        (lambda: Cosine().process_noise([np.nan]), "dt must be finite and not negative, got nan at index 0"),
    ],
)
def test_kernels_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("module", [kernels, _algebra, _steps], ids=lambda module: module.__name__)
def test_examples(module):
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0
