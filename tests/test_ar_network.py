"""Networks on lags: exact where they are linear, better than linear where the series is not."""

import sys

import jax
import numpy as np
import pytest
from scipy.signal import lfilter

from hidamari.inference import _ar_network
from hidamari.inference._ar_network_rows import Plan, gather, units
from hidamari.inference.ar_network import NetworkFit, network_draws, network_forecast, train
from hidamari.inference.arnet_penalty import arnet_penalty
from hidamari.inference.autoregression import fit_exact, lag_gram, solve_exact

THREE = np.array([0.2, 0.3, -0.5])


def simulate(w, n, seed):
    noise = np.random.default_rng(seed).standard_normal(n + 500)
    return lfilter([1.0], [1.0, *-w], noise)[500:]


def threshold(n, seed):
    """A self-exciting threshold autoregression with noise of variance 0.25."""
    e = 0.5 * np.random.default_rng(seed).standard_normal(n + 500)
    y = np.zeros(n + 500)
    for t in range(2, n + 500):
        w, v = (0.7, 0.1) if y[t - 2] <= 0.0 else (-0.6, -0.3)
        y[t] = 0.5 + w * y[t - 1] + v * y[t - 2] + e[t]
    return y[500:]


slopes = jax.jit(jax.value_and_grad(_ar_network._loss), static_argnames="shape")


def loss_slopes(weights, activation, rows, batches):
    """Loss of the first of some batches, and its slopes."""
    shape = _ar_network.Shape(batches.layout, int(rows.lags.max()), rows.n_forecasts, None)
    network, source = _ar_network._on_device(weights, activation), _ar_network._source(rows)
    loss, found = slopes(network, source, batches.times[0], batches.weights[0], shape=shape)
    return float(loss), _ar_network._on_host(found)


def compilations():
    return _ar_network._run._cache_size() + _ar_network._errors._cache_size()


def relative(coef, w):
    w = np.append(w, np.zeros(len(coef) - len(w)))
    return 100 * np.abs(coef - w).sum() / (np.abs(coef) + np.abs(w)).sum()


def error(fit, y):
    p = int(fit.lags.max())
    history = np.lib.stride_tricks.sliding_window_view(y[:-1], p)
    return float(np.mean((network_forecast(fit, history)[:, 0] - y[p:]) ** 2))


def test_iterates_come_close_to_least_squares():
    p = 10
    w = np.random.default_rng(p).uniform(-1.0, 1.0, p)
    w /= np.abs(w).sum()
    y = simulate(w, 125_000, p)
    fit, exact = train(y[:100_000], p, polish=False, validation=0.0), fit_exact(y[:100_000], p)
    assert 0.99 <= error(fit, y[100_000:]) <= 1.01
    np.testing.assert_allclose(fit.sigma2, exact.sigma2, rtol=1e-4)
    assert abs(relative(fit.coef[0], w) - relative(exact.coef, w)) <= 0.2
    assert fit.converged and fit.loss.shape == (fit.n_epochs, 2) and np.isnan(fit.loss[:, 1]).all()


def test_linear_training_ends_on_the_exact_solution():
    rng = np.random.default_rng(0)
    y = 1e3 + 50.0 * simulate(THREE, 3000, 1)
    y[rng.integers(0, 3000, 30)] = np.nan
    parts = [y[:1000], y[1000:1003], y[1003:]]
    columns = [rng.standard_normal((len(part), 2)) * [1.0, 100.0] + 7.0 for part in parts]
    lags = [1, 2, 3, 7]
    gram = lag_gram(parts, lags, columns, steps=3)
    fit = train(parts, lags, columns, n_forecasts=3, epochs=2)
    for h in range(3):
        exact = solve_exact(gram, response=h)
        np.testing.assert_allclose(fit.coef[h], exact.coef, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(fit.intercept[h], exact.intercept, rtol=1e-9)
        np.testing.assert_allclose(fit.sigma2[h], exact.sigma2, rtol=1e-9)
    history, x = rng.standard_normal((2, 8)), rng.standard_normal((2, 2))
    direct = np.hstack([history[:, [-1, -2, -3, -7]], x]) @ fit.coef.T + fit.intercept
    np.testing.assert_allclose(network_forecast(fit, history, x), direct, rtol=1e-9)


def test_penalty_finds_the_lags():
    p = 100
    y = simulate(THREE, 50_000, p)
    fit = train(y, p, penalty="arnet", epochs=4)
    assert np.flatnonzero(fit.support).tolist() == [0, 1, 2]
    np.testing.assert_allclose(fit.coef[0], arnet_penalty(lag_gram(y, p), "ebic").coef, atol=1e-9)
    raw = train(y, p, penalty="arnet", sparsity=3 / p, polish=False)
    assert relative(raw.coef[0], THREE) < 2.0 < relative(fit_exact(y, p).coef, THREE)
    # Weights do become zero, and not those that matter.
    assert raw.support[:3].all() and raw.support.sum() < 50


def test_l1_shrinks_and_ends_on_coordinate_descent():
    y = simulate(THREE, 20_000, 3)
    raw = train(y, 10, penalty="l1", alpha=0.05, polish=False)
    gram = lag_gram(y, 10)
    from hidamari.inference.sparse_autoregression import coordinate_descent

    lasso = coordinate_descent(gram, 0.05)
    np.testing.assert_allclose(raw.coef[0], lasso.coef, atol=0.01)
    fit = train(y, 10, penalty="l1", alpha=0.05, epochs=1)
    np.testing.assert_allclose(fit.coef[0], coordinate_descent(gram, 0.05, debias=True).coef, atol=1e-9)


def test_hidden_layers_beat_linear_where_the_series_is_not():
    y = threshold(25_000, 2)
    fit = train(y[:20_000], 5, hidden=(32,), epochs=40)
    linear = train(y[:20_000], 5, epochs=1)
    assert error(fit, y[20_000:]) <= 0.75 * error(linear, y[20_000:])
    np.testing.assert_allclose(fit.sigma2[0], error(fit, y[20_000:]), rtol=0.1)


def test_hidden_layers_give_way_where_the_series_is_linear():
    y = simulate(THREE, 10_000, 5)
    fit = train(y, 5, hidden=(8,), epochs=15)
    assert len(fit.weights) == 1 and "no better" in fit.message
    np.testing.assert_allclose(fit.coef[0], fit_exact(y, 5).coef, atol=1e-9)


def test_sparse_networks_keep_the_lags_that_matter():
    fit = train(threshold(20_000, 0), 20, hidden=(16,), penalty="arnet", sparsity=0.02)
    assert len(fit.weights) == 3 and np.flatnonzero(fit.support).tolist() == [0, 1]


def test_several_horizons_and_layers():
    y = threshold(6000, 4)
    fit = train(y, [1, 2, 4], hidden=(16, 8), n_forecasts=2, epochs=30)
    linear = train(y, [1, 2, 4], n_forecasts=2, epochs=1)
    assert [W.shape for W, _ in fit.weights] == [(3, 2), (3, 16), (16, 8), (8, 2)]
    assert np.all(fit.sigma2 < [0.8, 0.95] * linear.sigma2)
    history = y[np.arange(10)[:, None] + np.arange(6)]
    one, all_ = network_forecast(fit, history[3]), network_forecast(fit, history)
    np.testing.assert_allclose(all_[3], one)
    assert np.isnan(network_forecast(fit, [np.nan, 1.0, 2.0, 3.0])).all()


def test_layouts_agree_and_slopes_are_finite_at_zero():
    rng = np.random.default_rng(0)
    y = simulate(THREE, 600, 6)
    y[100:110] = np.nan
    lags = np.arange(1, 71)
    x = [rng.standard_normal((600, 1))]
    rows = gather([y], x, lags, 2, units([y], x), 0.2, 128)
    weights = ((rng.standard_normal((71, 2)), rng.standard_normal(2)),)
    plans = [Plan(1, 128, 0.1, 1, layout, None, 0.0, 0.0) for layout in ("blocks", "slices", "gather")]
    zero = ((np.zeros((71, 2)), np.zeros(2)),)
    found = []
    for plan in plans:
        batches = plan.batches(rows, np.random.default_rng(0))
        losses = [
            loss_slopes(weights, "relu", rows, batches._replace(times=t[None], weights=w[None]))[0]
            for t, w in zip(batches.times, batches.weights)
        ]
        found.append(sum(losses) / len(losses))
        assert all(np.isfinite(s).all() for s in loss_slopes(zero, "relu", rows, batches)[1][0])
    windows = np.array([np.append(rows.series[t - lags], rows.columns[t]) for t in rows.train])
    left = windows @ weights[0][0] + weights[0][1] - rows.series[rows.train[:, None] + [0, 1]]
    np.testing.assert_allclose(found, np.mean(left**2), rtol=1e-5)


def test_slopes_of_penalised_networks_are_finite_at_zero():
    plan = Plan(1, 32, 0.1, 1, "slices", "arnet", 1.0, 0.0)
    y = simulate(THREE, 200, 7)
    rows = gather([y], [np.empty((200, 0))], np.arange(1, 4), 1, units([y], [np.empty((200, 0))]), 0.0, 32)
    zero = ((np.zeros((3, 1)), np.zeros(1)), (np.zeros((3, 4)), np.zeros(4)), (np.zeros((4, 1)), np.zeros(1)))
    found = _ar_network.optimise(zero, "relu", rows, plan._replace(epochs=3), np.random.default_rng(0))
    assert all(np.isfinite(W).all() and np.isfinite(b).all() for W, b in found.weights)


def test_diverging_training_stops_with_the_last_good_iterate():
    y = simulate(THREE, 2100, 8)
    fit = train(y, 4, batch_size=64, learning_rate=1e30, polish=False, epochs=30)
    assert "the loss was" in fit.message and not fit.converged and fit.n_epochs < 30
    assert np.isfinite(fit.coef).all() and np.isfinite(fit.sigma2).all()
    fit = train(y, 4, batch_size=64, learning_rate=1e12, polish=False, epochs=30, validation=0.0)
    assert np.isfinite(fit.coef).all() and np.isfinite(fit.sigma2).all()


def test_longer_series_do_not_compile_again():
    train(simulate(THREE, 2100, 0), 4, batch_size=64, epochs=1)
    before = compilations()
    for n in (2200, 3000, 3900):
        train(simulate(THREE, n, 0), 4, batch_size=64, epochs=1, learning_rate=0.001 * n)
    assert compilations() == before


def test_seeds_decide_whatever_the_precision_of_jax():
    y, seen = threshold(10_000, 9), []
    given = {"hidden": (8,), "epochs": 3, "polish": False, "progress": lambda *own: seen.append(own)}
    one = train(y, 5, random_state=1, **given)
    with jax.enable_x64(True):
        other = train(y, 5, random_state=1, **given)
    for (W, b), (V, c) in zip(one.weights, other.weights):
        np.testing.assert_array_equal(W, V)
        np.testing.assert_array_equal(b, c)
    assert [own[0] for own in seen] == [1, 2, 3, 1, 2, 3]
    np.testing.assert_array_equal([own[1:] for own in seen[:3]], one.loss)
    last = train(y, 5, random_state=2, **given)
    assert np.any(last.weights[1][0] != one.weights[1][0])


def by_hand(weights, lags, activation="relu", sigma2=1.0, n_columns=0):
    none = np.empty((0, 2))
    units = 0.0, 1.0, np.zeros(n_columns), np.ones(n_columns)
    return NetworkFit(weights, activation, np.array(lags), 1, *units, np.array([sigma2]), none, 0, True, "")


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_forecasts_are_those_of_training(activation):
    rng = np.random.default_rng(0)
    y = rng.standard_normal(60)
    shapes = [(3, 1), (3, 5), (5, 4), (4, 1)]
    weights = tuple((rng.standard_normal(shape), rng.standard_normal(shape[1])) for shape in shapes)
    none = [np.empty((60, 0))]
    rows = gather(
        [y], none, np.array([1, 2, 5]), 1, units([y], none)._replace(centre=0.0, scale=1.0), 0.0, 64
    )
    batches = Plan(1, 64, 0.1, 1, "gather", None, 0.0, 0.0).batches(rows, rng)
    loss = loss_slopes(weights, activation, rows, batches)[0]
    np.testing.assert_allclose(loss, error(by_hand(weights, [1, 2, 5], activation), y), rtol=1e-5)


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "hidamari.inference._ar_network", None)
    with pytest.raises(ImportError, match=r"hidamari\[neural\]"):
        train(np.arange(20.0) % 3, 2)
    fit = by_hand(((np.ones((2, 1)), np.zeros(1)),), [1, 2])
    assert network_forecast(fit, [1.0, 2.0]) == [3.0]


def test_draws_follow_the_process():
    fit = by_hand(((np.array([[0.8]]), np.array([1.0])),), [1])
    drawn = network_draws(fit, [[0.0, 9.0], [0.0, 5.0]], 3, 20_000, rng=0)
    assert drawn.shape == (20_000, 2, 3)
    np.testing.assert_allclose(drawn.mean(0)[0], 5.0 + 4.0 * 0.8 ** np.arange(1, 4), atol=0.05)
    np.testing.assert_allclose(drawn.var(0)[1], np.cumsum(0.64 ** np.arange(3)), rtol=0.05)
    np.testing.assert_array_equal(drawn, network_draws(fit, [[9.0], [5.0]], 3, 20_000, rng=0))
    fit = by_hand(((np.array([[0.0], [2.0]]), np.zeros(1)),), [1], sigma2=1e-12, n_columns=1)
    driven = network_draws(fit, [0.0], 2, 1, rng=0, columns=[[1.0], [3.0]])
    np.testing.assert_allclose(driven, [[2.0, 6.0]], atol=1e-4)


@pytest.mark.parametrize(
    "given,message",
    [
        ({"lags": []}, "lags is empty"),
        ({"hidden": (0,)}, "hidden is"),
        ({"n_forecasts": 0}, "n_forecasts is 0"),
        ({"activation": "sine"}, "activation is 'sine'"),
        ({"penalty": "ridge"}, "penalty is 'ridge'"),
        ({"sparsity": 0.0}, "sparsity is 0.0"),
        ({"alpha": "cv"}, "alpha is 'cv'"),
        ({"alpha": -1.0}, "alpha is -1.0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"validation": 1.0}, "validation is 1.0"),
        ({"lags": 60}, "segments has 0 row"),
        ({"columns": np.ones((3, 1))}, "columns has rows"),
    ],
)
def test_bad_input(given, message):
    with pytest.raises(ValueError, match=message):
        train(np.sin(np.arange(50.0)), **{"lags": 3, **given})


def test_bad_history():
    fit = by_hand(((np.ones((3, 1)), np.zeros(1)),), [1, 2, 3])
    with pytest.raises(ValueError, match="history has shape"):
        network_forecast(fit, [1.0, 2.0])
    with pytest.raises(ValueError, match="columns has shape"):
        network_forecast(fit, [1.0, 2.0, 3.0], [1.0])
    with pytest.raises(ValueError, match="steps and n_draws"):
        network_draws(fit, [1.0, 2.0, 3.0], 0, 1)
    with pytest.raises(ValueError, match="columns has shape"):
        network_draws(fit, [1.0, 2.0, 3.0], 2, 1, columns=[1.0])
