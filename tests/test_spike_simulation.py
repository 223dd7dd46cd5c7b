"""Simulated populations: stable ones, their rates to come, and tests of intervals in rescaled time."""

import numpy as np
import pytest
from test_spike_history import BIN, population

from hidamari.inference.spike_goodness import time_rescaling
from hidamari.inference.spike_history import fit_spike_history, history_filters, predict_rate
from hidamari.inference.spike_simulation import forecast_rate, simulate, simulate_counts, steady_rate


def test_steady_rates_are_those_of_simulations():
    basis, weights, bias, spikes = population()
    expected = steady_rate(bias, weights @ basis.T, BIN)
    np.testing.assert_allclose(spikes.mean(axis=0) / BIN, expected, rtol=0.15)


def test_simulations_continue_the_past():
    basis, weights, bias, spikes = population(20_000)
    fit = fit_spike_history(spikes, basis, bin_s=BIN)
    drawn = simulate(fit, 2_000, 20, np.random.default_rng(1), history=spikes)
    assert drawn.shape == (20, 2_000, 2)
    np.testing.assert_allclose(drawn.mean(axis=(0, 1)), spikes.mean(axis=0), rtol=0.06)
    ahead = forecast_rate(fit, spikes, 100, np.random.default_rng(2), n_draws=3_000)
    # One step ahead there is nothing to average: the rate of the bin after the last.
    after = predict_rate(fit, np.vstack([spikes, np.zeros((1, 2))]))[0][-1]
    np.testing.assert_allclose(ahead.mean[0], after, rtol=1e-9)
    assert (ahead.error[0] == 0).all() and (ahead.error[1:] > 0).all()
    futures = simulate(fit, 100, 20_000, np.random.default_rng(3), history=spikes)
    away = (futures.mean(axis=0) / BIN - ahead.mean) / np.sqrt(ahead.error**2 + ahead.mean / BIN / 20_000)
    assert np.abs(away).max() < 4.5
    # The same seed gives the same spikes, whoever calls.
    same = simulate_counts(
        fit.bias, history_filters(fit), BIN, 2_000, np.random.default_rng(1), 20, history=spikes
    )
    assert np.array_equal(same, drawn)


def test_columns_and_exposure_drive_the_simulation():
    rng = np.random.default_rng(4)
    z = rng.normal(size=(5_000, 1))
    fit = fit_spike_history(rng.poisson(np.exp(z - 2)), 5, 2, columns=z)
    drive = np.repeat([[-1.0], [1.0]], 500, axis=0)
    drawn = simulate(fit, 1_000, 50, rng, columns=drive).mean(axis=(0, 2))
    assert drawn[500:].mean() / drawn[:500].mean() == pytest.approx(np.exp(2), rel=0.2)
    doubled = simulate(fit, 1_000, 50, rng, columns=drive, exposure=np.full(1_000, 2.0)).mean(axis=(0, 2))
    assert doubled.mean() / drawn.mean() == pytest.approx(2.0, rel=0.1)
    with pytest.raises(ValueError, match="columns has shape"):
        simulate(fit, 1_000, 5, rng)
    with pytest.raises(ValueError, match="exposure has shape"):
        simulate(fit, 1_000, 5, rng, columns=drive, exposure=-np.ones(1_000))


def test_what_runs_away_is_refused_or_held():
    rng = np.random.default_rng(0)
    excited = np.full((1, 1, 20), 1.0)
    assert np.isinf(steady_rate(np.log([20.0]), excited, BIN)).all()
    with pytest.raises(ValueError, match="not stable"):
        simulate_counts(np.log([20.0]), excited, BIN, 1_000, rng)
    with pytest.raises(ValueError, match="not stable"):
        simulate_counts(np.log([20.0]), excited * 1e3, BIN, 1_000, rng)
    held = simulate_counts(np.log([20.0]), excited, BIN, 1_000, rng, ceiling=400.0)
    assert np.isfinite(held).all() and 300 < held[:, 500:].mean() / BIN <= 420
    with pytest.raises(ValueError, match="exploded in bin 3"):
        drive = np.zeros((2_000, 1))
        drive[3] = 10.0
        simulate_counts(np.log([20.0]), 0 * excited, BIN, 2_000, rng, drive=drive)
    for message, arguments in [
        ("drive has shape", {"drive": np.zeros((3, 1))}),
        ("history has shape", {"history": np.zeros((3, 1))}),
        ("history has shape", {"history": np.full((30, 1), np.nan)}),
        ("ceiling is 0", {"ceiling": 0.0}),
    ]:
        with pytest.raises(ValueError, match=message):
            simulate_counts(np.log([20.0]), 0 * excited, BIN, 10, rng, **arguments)
    with pytest.raises(ValueError, match="steps is 0"):
        simulate_counts(np.log([20.0]), 0 * excited, BIN, 0, rng)


def test_rescaled_intervals_are_uniform_for_the_right_rates():
    basis, weights, bias, _ = population(10)
    p_values = []
    for seed in range(40):
        spikes = simulate_counts(bias, weights @ basis.T, BIN, 6_000, np.random.default_rng(seed))[0]
        fit = fit_spike_history(spikes, basis, bin_s=BIN)
        true = fit._replace(bias=bias, weights=weights)
        rates = predict_rate(true, [spikes[:1_000], spikes[1_000:]])
        tested = time_rescaling([spikes[:1_000], spikes[1_000:]], rates, BIN, np.random.default_rng(seed))
        p_values.append(tested.p_value)
    assert 0.3 < np.mean(p_values) < 0.7 and (np.array(p_values) < 0.05).mean() < 0.15
    constant = [np.broadcast_to(spikes.mean(axis=0) / BIN, spikes.shape)]
    assert spikes.max() > 1  # several in one bin
    without = time_rescaling([spikes], constant, BIN, np.random.default_rng(0))
    assert (without.p_value < 1e-4).all() and (without.statistic > without.bound).all()
    assert [len(u) for u in without.uniform] == spikes.sum(axis=0).astype(int).tolist()
    with pytest.raises(ValueError, match="rates has shapes"):
        time_rescaling(spikes, constant[0][:-1], BIN, np.random.default_rng(0))
    with pytest.raises(ValueError, match="unit 0 are all 0"):
        time_rescaling(0 * spikes, constant[0], BIN, np.random.default_rng(0))
