"""Realised systems against the sequences they were made from."""

import numpy as np
import pytest

from hidamari.inference.realisation import kernel_to_statespace, realise
from hidamari.statespace import kalman
from hidamari.statespace.types import Readings


def covariance(chain, n):
    h, P, A = chain.H[0, 0], chain.P[0], chain.A[0, 0]
    out, x = [], P @ h
    for _ in range(n):
        out.append(h @ x)
        x = A @ x
    return np.array(out)


def test_order_of_a_sum_of_modes():
    t = np.arange(200.0)
    k = 0.9**t + 0.7**t * np.cos(0.4 * t) + 0.5 * 0.95**t * np.sin(1.1 * t)
    system = realise(k)
    assert len(system.A) == 5 and system.error < 1e-11
    np.testing.assert_allclose(np.sort(np.abs(np.linalg.eigvals(system.A))), [0.7, 0.7, 0.9, 0.95, 0.95])
    assert realise(k, 0.05).error < 0.2 and len(realise(k, 0.05).A) < 5


def test_finite_response():
    k = np.array([1.0, 2.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    system = realise(k)
    assert len(system.A) == 2 and system.error < 1e-12


def product(system, u):
    """What the system puts out for an input, step by step."""
    x, y = np.zeros(len(system.A)), []
    for value in u:
        y.append(system.C @ x + system.D * value)
        x = system.A @ x + system.B * value
    return np.array(y)


@pytest.mark.parametrize("n", [3, 4, 64, 65, 300])
@pytest.mark.parametrize("decay", [1.0, 0.99])
def test_transform_gives_the_toeplitz_product(n, decay):
    k, u = np.random.default_rng(n).standard_normal((2, n))
    system = realise(k, method="dft", decay=decay)
    assert system.A.shape == (n - 1, n - 1) and system.error < 1e-11
    assert np.count_nonzero(system.A) <= 2 * (n - 1)  # blocks of two
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(system.A)), decay, rtol=1e-9)
    T = np.tril(k[np.abs(np.subtract.outer(range(n), range(n)))])
    np.testing.assert_allclose(product(system, u), T @ u, rtol=0, atol=1e-10)


def test_response_of_the_transform_repeats():
    k, n = np.random.default_rng(1).standard_normal(20), 20
    pulse = np.eye(1, 60)[0]
    for decay in (1.0, 0.8):
        found = product(realise(k, method="dft", decay=decay), pulse)
        np.testing.assert_allclose(found[1 + n : 2 * n], decay**n * k[1:], atol=1e-10)


def test_covariance_of_an_arma_process():
    w, b, n = np.array([1.2, -0.6]), 0.5, 60
    psi = np.zeros(2000)
    psi[0], psi[1] = 1.0, w[0] + b
    for i in range(2, len(psi)):
        psi[i] = w @ psi[i - 1 : i - 3 : -1] if i > 2 else w @ psi[[1, 0]]
    r = np.array([psi[i:] @ psi[: len(psi) - i] for i in range(n)])
    chain = kernel_to_statespace(r)
    assert chain.A.shape == (1, 1, 3, 3)
    np.testing.assert_allclose(chain.Q[0, 0, 2, 2], 1.0, rtol=1e-9)  # the innovations of the process
    np.testing.assert_allclose(covariance(chain, n), r, atol=1e-8)
    A, P = chain.A[0, 0], chain.P[0]
    np.testing.assert_allclose(A @ P @ A.T + chain.Q[0, 0], P, atol=1e-9)


def test_smooth_kernel_with_noise_gives_the_dense_likelihood():
    t = np.arange(120.0)
    r = np.exp(-0.5 * (t / 8.0) ** 2)
    r[0] += 0.05
    chain = kernel_to_statespace(r, 1e-4)
    assert np.abs(covariance(chain, 120) - r).max() < 1e-3 and chain.A.shape[-1] <= 9
    S = (r + 0.1 * (t == 0))[np.abs(np.subtract.outer(range(120), range(120)))]
    y = np.linalg.cholesky(S) @ np.random.default_rng(0).standard_normal(120)
    dense = -0.5 * (y @ np.linalg.solve(S, y) + np.linalg.slogdet(S)[1] + 120 * np.log(2 * np.pi))
    found = kalman.infer(chain, Readings(y[:, None], np.full((120, 1), 0.1)))[1]
    np.testing.assert_allclose(np.sum(found), dense, rtol=1e-3)


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda: realise([1.0, 2.0]), "3 values"),
        (lambda: realise(np.ones(9), tol=1.0), "tol"),
        (lambda: realise(np.ones(9), method="vector-fit"), "method is 'vector-fit'"),
        (lambda: realise(np.ones(9), method="dft", decay=1.1), "decay is 1.1"),
        (lambda: kernel_to_statespace(-(0.5 ** np.arange(9.0))), "positive"),
        (lambda: kernel_to_statespace(1.1 ** np.arange(9.0)), "does not decay"),
        (lambda: kernel_to_statespace([1.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0]), "not a covariance"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
