"""Missing values against dense Gaussians and against the companion form in the Kalman core's own algebra."""

import time

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov
from scipy.signal import lfilter

from hidamari.inference.autoregression import fit_exact, lag_gram
from hidamari.inference.gaps import expected_gram, fit_em, gap_filter, impute
from hidamari.inference.reflections import burg, levinson


def weights_of(p, seed):
    """Stationary weights: those that Burg finds in noise with some structure."""
    e = np.random.default_rng(seed).standard_normal(400)
    return burg(lfilter([1.0, 0.5], [1.0, -0.7], e), p).coef


def gappy(w, n, share, seed, level=0.0):
    rng = np.random.default_rng(seed)
    y = lfilter([1.0], [1.0, *-w], rng.standard_normal(n + 500))[500:] + level
    y[rng.random(n) < share] = np.nan
    return y


def companion_kalman(y, w, sigma2, intercept, given):
    """Log-likelihood, predictions, and smoothed moments, by the plain filter and Rauch's smoother."""
    p, T = len(w), len(y)
    F = np.eye(p, k=-1)
    F[0] = w
    Q = np.zeros((p, p))
    Q[0, 0] = sigma2
    z = y - intercept / (1 - w.sum())
    if given:
        m, P, first = z[:p][::-1], np.zeros((p, p)), p
    else:
        m, P, first = np.zeros(p), solve_discrete_lyapunov(F, Q), 0
    total, filtered, predicted = 0.0, [], []
    for t in range(first, T):
        if t > first or given:
            m, P = F @ m, F @ P @ F.T + Q
        predicted.append((m, P))
        if not np.isnan(z[t]):
            s, e = P[0, 0], z[t] - m[0]
            total -= 0.5 * (np.log(2 * np.pi * s) + e**2 / s)
            gain = P[:, 0] / s
            m, P = m + gain * e, P - np.outer(gain, gain) * s
        filtered.append((m, P))
    mean, var = np.empty(T - first), np.empty(T - first)
    m, P = filtered[-1]
    for k in range(T - first - 1, -1, -1):
        if k < T - first - 1:
            fm, fP = filtered[k]
            pm, pP = predicted[k + 1]
            G = fP @ F.T @ np.linalg.pinv(pP, rcond=1e-13)
            m, P = fm + G @ (m - pm), fP + G @ (P - pP) @ G.T
        mean[k], var[k] = m[0], P[0, 0]
    back = intercept / (1 - w.sum())
    ahead = np.array([[pm[0] + back, pP[0, 0]] for pm, pP in predicted])
    return total, ahead, mean + back, var


@pytest.mark.parametrize("p", [1, 2, 5, 12])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_equal_to_a_kalman_filter(p, given, share):
    w = weights_of(p, p)
    y = gappy(w, 150, share, p, 3.0)
    if given:
        y[:p] = np.arange(p)
    c, start = 3.0 * (1 - w.sum()), "given" if given else "stationary"
    total, ahead, mean, var = companion_kalman(y, w, 0.8, c, given)
    found = gap_filter(y, w, 0.8, c, start)
    skip = p if given else 0
    np.testing.assert_allclose(found.log_likelihood, total, rtol=1e-10)
    np.testing.assert_allclose(found.mean[skip:], ahead[:, 0], atol=1e-8)
    np.testing.assert_allclose(found.var[skip:], ahead[:, 1], atol=1e-8)
    smooth = impute(y, w, 0.8, c, start)
    np.testing.assert_allclose(smooth.log_likelihood, total, rtol=1e-10)
    hole = np.isnan(y)[skip:]
    np.testing.assert_allclose(smooth.values[skip:][hole], mean[hole], atol=1e-8)
    np.testing.assert_allclose(smooth.var[skip:][hole], var[hole], atol=1e-8)
    np.testing.assert_array_equal(smooth.values[~np.isnan(y)].round(9), y[~np.isnan(y)].round(9))


def dense_law(w, sigma2, T):
    """Stationary covariance of T values."""
    p = len(w)
    F = np.eye(p, k=-1)
    F[0] = w
    Q = np.zeros((p, p))
    Q[0, 0] = sigma2
    P = solve_discrete_lyapunov(F, Q)
    r, G = [], P
    for _ in range(T):
        r.append(G[0, 0])
        G = F @ G
    return np.array(r)[np.abs(np.subtract.outer(np.arange(T), np.arange(T)))]


def test_equal_to_a_dense_gaussian():
    w = weights_of(4, 9)
    y = gappy(w, 60, 0.4, 9)
    y[20:32] = np.nan  # longer than the window
    S, o = dense_law(w, 1.3, 60), ~np.isnan(y)
    K = np.linalg.inv(S[np.ix_(o, o)])
    cross = S[np.ix_(~o, o)]
    cov = S[np.ix_(~o, ~o)] - cross @ K @ cross.T
    found = impute(y, w, 1.3)
    np.testing.assert_allclose(found.values[~o], cross @ K @ y[o], atol=1e-10)
    for a in range(len(cov)):
        for d in range(found.covariance.shape[1]):
            if d <= a and found.index[a] - found.index[a - d] <= 4:
                np.testing.assert_allclose(found.covariance[a, d], cov[a, a - d], atol=1e-10)
    total = -0.5 * (y[o] @ K @ y[o] - np.linalg.slogdet(K)[1] + o.sum() * np.log(2 * np.pi))
    np.testing.assert_allclose(
        [found.log_likelihood, gap_filter(y, w, 1.3).log_likelihood], total, rtol=1e-11
    )


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_law_of_another_fit_for_the_first_values(noise):
    w, y = weights_of(3, 2), gappy(weights_of(3, 2), 50, 0.3, 2)
    y[:2] = np.nan
    fit = levinson(gappy(w, 400, 0.0, 5), 2)
    first = dense_law(fit.coef, fit.sigma2, 3)
    B = np.eye(50)
    for t in range(3, 50):
        B[t, t - 3 : t] = -w[::-1]
    D = np.diag(np.full(50, 1.3))
    D[:3, :3] = first
    S = np.linalg.inv(B) @ D @ np.linalg.inv(B).T
    mean = np.linalg.inv(B) @ np.r_[np.full(3, fit.intercept / (1 - fit.coef.sum())), np.full(47, 0.2)]
    o = ~np.isnan(y)
    K = S[np.ix_(o, o)] + noise * np.eye(o.sum())
    left = y[o] - mean[o]
    total = -0.5 * (left @ np.linalg.solve(K, left) + np.linalg.slogdet(K)[1] + o.sum() * np.log(2 * np.pi))
    found = impute(y, w, 1.3, 0.2, fit, noise=noise)
    ahead = gap_filter(y, w, 1.3, 0.2, fit, noise)
    np.testing.assert_allclose([found.log_likelihood, ahead.log_likelihood], total, rtol=1e-10)
    np.testing.assert_allclose(found.values, mean + S[:, o] @ np.linalg.solve(K, left), atol=1e-10)
    np.testing.assert_allclose(found.var, np.diag(S - S[:, o] @ np.linalg.solve(K, S[o])), atol=1e-10)


def test_inputs_that_change_from_row_to_row():
    w, c = weights_of(3, 4), np.sin(np.arange(60) / 4)
    full = lfilter([1.0], [1.0, *-w], c + np.random.default_rng(4).standard_normal(60))
    y = full.copy()
    y[[10, 11, 30, 59]] = np.nan
    path = lfilter([1.0], [1.0, *-w], c)
    moving = impute(y, w, 1.0, c, "given")
    still = impute(y - path, w, 1.0, 0.0, "given")
    np.testing.assert_allclose(moving.values, still.values + path, atol=1e-10)
    np.testing.assert_allclose(moving.log_likelihood, still.log_likelihood, rtol=1e-10)
    ahead, plain = gap_filter(y, w, 1.0, c, "given"), gap_filter(y - path, w, 1.0, 0.0, "given")
    np.testing.assert_allclose(ahead.mean[3:], plain.mean[3:] + path[3:], atol=1e-10)
    c[40] = np.nan  # a row that nothing is known of, and that its neighbours cannot tell
    assert impute(y, w, 1.0, c, "given").log_likelihood < 0


def test_expected_moments_are_those_of_draws():
    w, y = weights_of(3, 6), gappy(weights_of(3, 6), 80, 0.2, 6)
    S, o = dense_law(w, 1.0, 80), ~np.isnan(y)
    gain = S[np.ix_(~o, o)] @ np.linalg.inv(S[np.ix_(o, o)])
    root = np.linalg.cholesky(S[np.ix_(~o, ~o)] - gain @ S[np.ix_(o, ~o)])
    found, _ = expected_gram([y], [(w, 1.0, 0.0, "stationary")], [1, 3], steps=3)
    rng, total, n = np.random.default_rng(0), 0.0, 4000
    for _ in range(n):
        z = y.copy()
        z[~o] = gain @ y[o] + root @ rng.standard_normal(len(root))
        gram = lag_gram(z, [1, 3], steps=3)
        total = total + gram.moments + gram.n_rows * np.outer(gram.means, gram.means)
    expected = found.moments + found.n_rows * np.outer(found.means, found.means)
    np.testing.assert_allclose(total / n, expected, atol=1.5)
    bare = lag_gram(impute(y, w, 1.0).values, [1, 3], steps=3)
    assert np.abs(np.diag(found.moments - bare.moments)).min() > 5.0


def test_unit_root_with_a_drift():
    y = np.cumsum(np.random.default_rng(5).standard_normal(300) + 0.3) + 1e5
    y[50] = y[51] = y[200] = np.nan
    found = impute(y, [1.0], 1.0, 0.3, "given")
    np.testing.assert_allclose(found.values[50], (2 * y[49] + y[52]) / 3, rtol=1e-12)
    np.testing.assert_allclose(found.var[[50, 51, 200]], [2 / 3, 2 / 3, 1 / 2], rtol=1e-9)
    total = gap_filter(y, [1.0], 1.0, 0.3, "given").log_likelihood
    np.testing.assert_allclose(found.log_likelihood, total, rtol=1e-10)


def test_nothing_missing():
    w = weights_of(3, 1)
    y = gappy(w, 500, 0.0, 1)
    fit = fit_em(y, 3)
    exact = fit_exact(y, 3)
    np.testing.assert_allclose(fit.fit.coef, exact.coef, atol=1e-12)
    n = 497
    given = gap_filter(y, exact.coef, exact.sigma2, exact.intercept, "given").log_likelihood
    np.testing.assert_allclose(given, -0.5 * n * (np.log(2 * np.pi * exact.sigma2) + 1), rtol=1e-10)


def test_em_climbs_to_where_the_likelihood_is_flat():
    w = np.array([0.6, -0.3, 0.2])
    y = gappy(w, 1500, 0.2, 4, 2.0)
    y[:3] = 2.0
    found = fit_em(y, 3)
    assert found.converged and np.all(np.diff(found.log_likelihood) > -1e-9)
    fit = found.fit

    def value(coef, c, sigma2):
        return gap_filter(y, coef, sigma2, c, "given").log_likelihood

    for i in range(3):
        e = 1e-4 * np.eye(3)[i]
        rise = value(fit.coef + e, fit.intercept, fit.sigma2) - value(fit.coef - e, fit.intercept, fit.sigma2)
        assert abs(rise / 2e-4) < 0.02
    rise = value(fit.coef, fit.intercept, fit.sigma2 + 1e-4) - value(
        fit.coef, fit.intercept, fit.sigma2 - 1e-4
    )
    assert abs(rise / 2e-4) < 0.02
    np.testing.assert_allclose(found.gram.moments[0, 0] / found.gram.n_rows, np.nanvar(y), rtol=0.2)


def test_em_with_gaps_everywhere():
    w = np.zeros(24)
    w[[0, 23]] = 0.5, 0.3
    parts = [gappy(w, 6000, 0.15, seed, -1.0) for seed in range(2)]
    parts[0][:5] = np.nan
    found = fit_em(parts, [1, 24])
    errors = np.sqrt(np.diag(found.fit.cov))[1:] / np.sqrt(0.85**2)
    assert np.all(np.abs(found.fit.coef - [0.5, 0.3]) < 3.5 * errors)
    assert abs(found.fit.sigma2 - 1.0) < 0.05
    # Dropping incomplete windows would leave few rows of a long window.
    assert lag_gram(parts, 24).n_rows < 0.03 * 12000


def test_long_series_take_little_time():
    w = weights_of(100, 3)
    y = gappy(w, 20000, 0.05, 3)
    gap_filter(y[:300], w, 1.0)
    start = time.process_time()
    one = gap_filter(y, w, 1.0).log_likelihood
    assert time.process_time() - start < 0.5
    np.testing.assert_allclose(one, impute(y, w, 1.0).log_likelihood, rtol=1e-10)


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda y: gap_filter(y, [0.5], -1.0), "sigma2"),
        (lambda y: gap_filter(y, [1.5], 1.0), "not stationary"),
        (lambda y: gap_filter(y, [0.5, 0.1], 1.0, start="given"), "first 2 values"),
        (lambda y: gap_filter(y, [0.5], 1.0, start="diffuse"), "start is 'diffuse'"),
        (lambda y: gap_filter(y, [[0.5]], 1.0), "weights"),
        (lambda y: fit_em(y * np.nan, 1), "no observed value"),
        (lambda y: fit_em(y, 60), "longest lag"),
    ],
)
def test_bad_input(call, message):
    y = np.random.default_rng(0).standard_normal(50)
    y[1] = np.nan
    with pytest.raises(ValueError, match=message):
        call(y)
