"""Forecasts of autoregressions against the companion matrix, roots and sums written out."""

import numpy as np
import pytest

from hidamari.inference.forecast import (
    autocovariances,
    direct_forecasts,
    forecast_covariance,
    impulse_response,
    is_stationary,
    recursive_forecast,
    sample_paths,
    spectrum,
    to_statespace,
)
from hidamari.inference.lags import lag_gram

W = np.array([0.6, -0.4, 0.3, 0.1])


def companion(w):
    A = np.eye(len(w), k=-1)
    A[0] = w
    return A


def test_impulse_response_and_forecasts_are_powers_of_the_companion_matrix(rng):
    A, history = companion(W), rng.standard_normal(9)
    powers = [np.linalg.matrix_power(A, h) for h in range(10)]
    np.testing.assert_allclose(impulse_response(W, 10), [M[0, 0] for M in powers], atol=1e-14)
    state = history[:-5:-1]
    found = recursive_forecast(W, history, np.zeros(9))
    np.testing.assert_allclose(found, [(M @ state)[0] for M in powers[1:]], atol=1e-14)
    with pytest.raises(ValueError, match="history has 3 values"):
        recursive_forecast(W, history[:3], np.zeros(9))


def test_forecast_covariance_with_unknown_history():
    A, P = companion(W), np.diag([0.0, 0.5, 0.0, 2.0])
    found = forecast_covariance(W, 0.7, 6, np.array([2, 4]), np.diag([0.5, 2.0]))
    Q = np.zeros((4, 4))
    Q[0, 0] = 0.7
    for h in range(6):
        P = A @ P @ A.T + Q
        assert found[h, h] == pytest.approx(P[0, 0])
    assert np.linalg.eigvalsh(found).min() > 0


def test_draws_have_the_covariance_of_forecasts(rng):
    draws = sample_paths(W, 0.7, np.zeros((40_000, 4)), np.zeros(5), rng)
    np.testing.assert_allclose(np.cov(draws.T), forecast_covariance(W, 0.7, 5), atol=0.03)


def test_stationarity_is_where_the_roots_say(rng):
    for _ in range(300):
        w = rng.normal(size=5) * rng.uniform(0.1, 0.8)
        assert is_stationary(w) == (np.abs(np.linalg.eigvals(companion(w))) < 1).all()


def test_autocovariances_are_those_of_lyapunov_and_of_the_spectrum():
    from scipy.linalg import solve_discrete_lyapunov

    Q = np.zeros((4, 4))
    Q[0, 0] = 0.7
    P = solve_discrete_lyapunov(companion(W), Q)
    np.testing.assert_allclose(autocovariances(W, 0.7, 4), P[0], rtol=1e-12)
    np.testing.assert_allclose(to_statespace(W, 0.7, 3).P[0], P, rtol=1e-12)
    freqs = np.arange(4096) / 4096
    by_sum = np.fft.ifft(spectrum(W, 0.7, freqs)).real[:8]
    np.testing.assert_allclose(autocovariances(W, 0.7, 8), by_sum, atol=1e-12)
    with pytest.raises(ValueError, match="not of a stationary process"):
        autocovariances([1.1], 1.0, 2)


def test_direct_forecasts_are_regressions(rng):
    y = np.zeros(500)
    for t in range(4, 500):
        y[t] = W @ y[t - 4 : t][::-1] + rng.standard_normal()
    gram = lag_gram(y, 4, steps=3)
    found = direct_forecasts(gram.moments, gram.means, gram.n_rows, 3)
    X = np.column_stack([np.ones(494), *(y[4 - i : 498 - i] for i in range(1, 5))])
    for h in range(3):
        theirs, rss, *_ = np.linalg.lstsq(X, y[4 + h : 498 + h], rcond=None)
        np.testing.assert_allclose(found.coef[h], theirs[1:], atol=1e-10)
        assert found.intercept[h] == pytest.approx(theirs[0])
        assert found.cov[h, h] == pytest.approx(rss[0] / (494 - 5))
