"""The online networks against a plain NumPy loop, and what they find."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from hidamari.inference.online import Network
from hidamari.inference.online_threshold import calibrate


def forward(theta, X, H):
    D = X.shape[1]
    W, b, v, c = theta[: D * H].reshape(D, H), theta[D * H : (D + 1) * H], theta[(D + 1) * H : -1], theta[-1]
    hidden = np.maximum(X @ W + b, 0.0)
    return hidden @ v + c, hidden


def gradient(theta, X, slope, H):
    """Of sum(slope * answers) by the flat parameters."""
    D = X.shape[1]
    _, hidden = forward(theta, X, H)
    inner = np.outer(slope, theta[(D + 1) * H : -1]) * (hidden > 0)
    return np.concatenate([(X.T @ inner).ravel(), inner.sum(0), hidden.T @ slope, [slope.sum()]])


def loss(theta, ref, test, H, regression):
    """What the authors minimise: cross-entropy, or the criterion of the relative density ratio."""
    f, g = forward(theta, test, H)[0], forward(theta, ref, H)[0]
    if regression:
        return 0.45 * np.mean(g**2) + 0.05 * np.mean(f**2) - np.mean(f)
    return 0.5 * np.mean(np.logaddexp(0.0, -f)) + 0.5 * np.mean(np.logaddexp(0.0, g))


def slopes_of(theta, ref, test, H, regression):
    w = len(ref)
    X = np.vstack([ref, test])
    answers, _ = forward(theta, X, H)
    if regression:
        return X, np.concatenate([0.9 * answers[:w], 0.1 * answers[w:] - 1.0]) / w
    return X, (1.0 / (1.0 + np.exp(-answers)) - np.repeat([0.0, 1.0], w)) / (2 * w)


def reference(z, network, theta):
    """Divergences and scores of all rows, in plain NumPy and without a ring."""
    w, lag, H, k = network.width, network.lag, network.hidden, network.periods
    theta = theta.copy()
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    T, d = z.shape
    rows = np.zeros((T, d))
    for t in range(T):
        for j in range(d):
            seen = z[: t + 1, j][~np.isnan(z[: t + 1, j])]
            if np.isnan(z[t, j]):
                continue
            spread = np.std(seen, ddof=1) if len(seen) > 1 else 0.0
            rows[t, j] = (z[t, j] - seen.mean()) / spread if spread and network.running else 0.0
            rows[t, j] = rows[t, j] if network.running else z[t, j]
    padded = np.vstack([np.zeros((k - 1, d)), rows])
    X = np.hstack([padded[k - 1 - i : k - 1 - i + T] for i in range(k)])
    raw, steps = np.full(T, np.nan), 0
    for i in range(2 * w + lag - 1, T):
        ref, test = X[i - 2 * w - lag + 1 : i - w - lag + 1], X[i - w + 1 : i + 1]
        f = forward(theta[0], test[-1:], H)[0][0]
        g = forward(theta[-1], ref[-1:], H)[0][0]
        if network.regression:
            raw[i] = 0.5 * f + 0.5 * g - 1.0
        else:
            p, q, soft = 1 / (1 + np.exp(-f)), 1 / (1 + np.exp(-g)), 1e-3
            raw[i] = np.log(p + soft) - np.log(1 - p + soft) + np.log(1 - q + soft) - np.log(q + soft)
        for _ in range(network.epochs):
            steps += 1
            for net in range(len(theta)):
                sides = (ref, test) if net == 0 else (test, ref)
                grad = gradient(theta[net], *slopes_of(theta[net], *sides, H, network.regression), H)
                if network.adam:
                    first[net] = 0.9 * first[net] + 0.1 * grad
                    second[net] = 0.999 * second[net] + 0.001 * grad**2
                    step = first[net] / (1 - 0.9**steps)
                    step = step / (np.sqrt(second[net] / (1 - 0.999**steps)) + 1e-8)
                else:
                    second[net] = 0.99 * second[net] + 0.01 * grad**2
                    step = grad / (np.sqrt(second[net]) + 1e-8)
                theta[net] -= network.rate * step
    filled = np.concatenate([np.zeros(w + lag), np.nan_to_num(raw)])
    total = np.convolve(filled, np.ones(w + lag))[w + lag : w + lag + T]
    return raw, np.where(np.isnan(raw), np.nan, total / (w + lag))


@pytest.mark.parametrize("regression", [False, True])
def test_the_oracle_descends_the_published_loss(regression, rng):
    H = 7
    theta = rng.normal(size=(3 + 2) * H + 1)
    ref, test = rng.normal(size=(2, 4, 3))
    grad = gradient(theta, *slopes_of(theta, ref, test, H, regression), H)
    for p in range(len(theta)):
        move = np.zeros_like(theta)
        move[p] = 1e-6
        up, down = (loss(theta + s * move, ref, test, H, regression) for s in (1, -1))
        assert grad[p] == pytest.approx((up - down) / 2e-6, abs=1e-6)


CASES = {
    "onnc": Network(width=3, lag=20, hidden=30),
    "onnc as published": Network(width=1, lag=30, rate=0.01, adam=False, running=False),
    "onnr": Network(width=3, lag=20, hidden=30, regression=True),
    "onnr, stacked, rmsprop": Network(
        width=2, lag=20, periods=3, hidden=20, epochs=2, adam=False, regression=True, rate=0.003
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_thousand_steps_equal_a_plain_loop(case, rng):
    network = CASES[case]
    z = rng.normal(size=(1030, 2)) + 2.0 * (np.arange(1030) >= 500)[:, None]
    if network.running:
        z[rng.random(z.shape) < 0.05] = np.nan
    state = network.start(2, np.zeros(2), 11)
    raw, score, change = network.divergence(state, z)
    expected_raw, expected = reference(z, network, state["first"])
    np.testing.assert_allclose(raw, expected_raw, atol=1e-5)
    np.testing.assert_allclose(score, expected, atol=1e-5)
    assert np.isfinite(raw).sum() >= 980 and (change == -1).all()


@pytest.mark.parametrize("regression", [False, True])
def test_a_stream_may_be_cut_anywhere(regression, rng):
    network = Network(width=3, lag=15, hidden=20, periods=2, rate=0.01, regression=regression)
    z = rng.normal(size=(400, 2)) + 4.0 * (np.arange(400) >= 200)[:, None]
    whole = network.run(network.start(2, np.zeros(2), 5), z, 0.5, True)
    state = network.start(2, np.zeros(2), 5)
    parts = [network.run(state, piece, 0.5, True) for piece in np.split(z, [1, 40, 41, 230])]
    np.testing.assert_array_equal(whole[0], np.concatenate([p[0] for p in parts]))
    np.testing.assert_array_equal(whole[1], np.concatenate([p[1] for p in parts]))
    assert (whole[1] >= 0).any()


@pytest.mark.parametrize("regression", [False, True])
def test_an_alarm_begins_anew(regression, rng):
    network = Network(width=3, lag=15, hidden=20, rate=0.01, regression=regression)
    z = rng.normal(size=(500, 1)) + 4.0 * (np.arange(500) >= 200)[:, None]
    score, change = network.run(network.start(1, np.zeros(1), 5), z, 0.8, True)
    alarm = int(np.flatnonzero(change >= 0)[0])
    assert 200 <= change[alarm] <= alarm <= 230
    fresh, _ = network.run(network.start(1, np.zeros(1), 5), z[alarm + 1 :], np.inf, True)
    rest = score[alarm + 1 :]
    end = int(np.argmax(rest > 0.8)) or len(rest)
    np.testing.assert_array_equal(rest[:end], fresh[:end])
    assert np.isnan(rest[:20]).all() and np.isfinite(rest[20])


@pytest.mark.parametrize("regression", [False, True])
def test_causal_alarms_are_rare_and_soon(regression):
    # The long version, with average run lengths measured, is benchmarks/online.py.
    network = Network(hidden=25, regression=regression)
    threshold = calibrate(network, 1, 10_000.0, (0.0,), 0, 2).value
    rng = np.random.default_rng(8)
    quiet, _ = network.run(network.start(1, np.zeros(1), 1), rng.normal(size=(15_000, 1)), threshold, True)
    # 15,000 rows at an average run length of 5,000 would hold more than 9 alarms once in 900 times.
    assert (quiet > 0.5 * threshold).any() and (quiet > threshold).sum() <= 9
    for run in range(10):
        z = rng.normal(size=(1200, 1)) + 2.0 * (np.arange(1200) >= 1000)[:, None]
        _, change = network.run(network.start(1, np.zeros(1), run), z, threshold, True)
        alarms = np.flatnonzero(change >= 0)
        assert ((alarms >= 1000) & (alarms <= 1000 + 2 * network.lag)).any()


def test_a_long_stream_sums_without_drift(rng):
    network = Network(width=1, lag=10, hidden=5)
    state = network.start(1, np.zeros(1), 0)
    raw, score, _ = network.divergence(state, rng.normal(size=(20_000, 1)))
    assert score[-1] == pytest.approx(raw[-11:].mean(), rel=1e-12)


def test_activities_are_told_apart_by_onnc_and_better_by_energy_distance(monkeypatch):
    spec = spec_from_file_location("bench_online", Path(__file__).parents[1] / "benchmarks" / "online.py")
    bench = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_online", bench)  # its dataclasses look for their module
    spec.loader.exec_module(bench)
    areas = {}
    for name in ("onnc, window 10, Adam 0.003", "energy distance, windows of 50"):
        found = []
        for seed in range(6):
            y, truth = bench.activities(seed)
            found.append(bench.area(*bench.FINDERS[name]((y - y.mean(0)) / y.std(0)), truth))
        areas[name[:4]] = np.mean(found)
    assert 0.95 <= areas["onnc"] <= areas["ener"] and areas["ener"] > 0.99
