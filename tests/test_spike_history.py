"""Poisson regression on past spikes: against statsmodels, against the truth, and stable simulations."""

import numpy as np
import pytest

from hidamari.inference.spike_history import (
    fit_spike_history,
    history_filters,
    raised_cosines,
    simulate,
    steady_rate,
)

BIN = 0.005


def population(n_bins=60_000, seed=0):
    basis = raised_cosines(30, 4)
    weights = np.zeros((2, 2, 4))
    weights[0, 0] = [-3.0, -1.0, 0.3, 0.0]
    weights[1, 1] = [-2.0, 0.2, 0.2, 0.1]
    weights[1, 0] = [0.8, 0.5, 0.0, 0.0]
    bias = np.log([20.0, 12.0])
    spikes = simulate(bias, weights @ basis.T, BIN, n_bins, np.random.default_rng(seed))
    return basis, weights, bias, spikes


def test_raised_cosines_cover_all_lags_and_end():
    basis = raised_cosines(100, 10)
    assert basis.shape == (100, 10) and (basis >= 0).all() and (basis.max(axis=0) > 0.8).all()
    assert np.linalg.matrix_rank(basis) == 10
    assert basis[0, 0] == 1.0 and basis[-1].max() < 0.05
    sums = basis[:60].sum(axis=1)
    assert np.ptp(np.argmax(basis, axis=0)) > 40 and sums[2:].min() > 0.9
    with pytest.raises(ValueError, match="n_basis is 5"):
        raised_cosines(4, 5)
    with pytest.raises(ValueError, match="spread is 0"):
        raised_cosines(4, 2, spread=0)


def test_equals_poisson_regression_of_statsmodels():
    statsmodels = pytest.importorskip("statsmodels.api")
    basis, _, _, spikes = population(8_000)
    stimulus = np.random.default_rng(1).normal(size=(8_000, 1))
    found = fit_spike_history([spikes], basis, BIN, [stimulus])
    past = np.zeros((8_000, 2, 4))
    for t in range(1, 8_000):
        n = min(t, 30)
        past[t] = np.einsum("in,ik->nk", spikes[t - n : t][::-1], basis[:n])
    X = np.concatenate([np.ones((8_000, 1)), stimulus, past.reshape(8_000, -1)], axis=1)
    for n in range(2):
        theirs = statsmodels.GLM(spikes[:, n], X, family=statsmodels.families.Poisson()).fit(tol=1e-14)
        ours = np.concatenate([[found.bias[n] + np.log(BIN)], found.stimulus[n], found.weights[n].ravel()])
        np.testing.assert_allclose(ours, theirs.params, atol=1e-6)
        np.testing.assert_allclose(found.standard_errors[n], theirs.bse, rtol=1e-5)
        np.testing.assert_allclose(found.log_likelihood[n], theirs.llf, rtol=1e-10)


def test_filters_are_found_within_their_errors():
    basis, weights, bias, spikes = population()
    found = fit_spike_history([spikes[:25_000], spikes[25_000:]], basis, BIN)
    z = (found.weights - weights).reshape(2, -1) / found.standard_errors[:, 1:]
    assert np.abs(z).max() < 4 and 0.5 < np.sqrt(np.mean(z**2)) < 1.5
    assert np.abs(found.bias - bias).max() < 0.1
    np.testing.assert_allclose(history_filters(found)[1, 0], found.weights[1, 0] @ basis.T)


def test_units_alone_and_missing_bins():
    basis, _, _, spikes = population(6_000)
    alone = fit_spike_history([spikes], basis, BIN, coupling=False)
    assert (alone.weights[0, 1] == 0).all() and (alone.weights[1, 0] == 0).all()
    holes = spikes.copy()
    holes[2_000:2_010] = np.nan
    cut = fit_spike_history([holes], basis, BIN, coupling=False)
    apart = fit_spike_history([spikes[:2_000]], basis, BIN, coupling=False)
    assert np.isfinite(cut.weights).all()
    assert cut.log_likelihood[0] < apart.log_likelihood[0]  # further bins count too
    holes[2_010:] = np.nan
    ended = fit_spike_history([holes], basis, BIN, coupling=False)
    np.testing.assert_allclose(ended.weights, apart.weights, atol=1e-10)


def test_steady_rates_are_those_of_simulations():
    basis, weights, bias, spikes = population()
    expected = steady_rate(bias, weights @ basis.T, BIN)
    np.testing.assert_allclose(spikes.mean(axis=0) / BIN, expected, rtol=0.15)


def test_what_runs_away_is_refused():
    rng = np.random.default_rng(0)
    excited = np.full((1, 1, 20), 1.0)
    assert np.isinf(steady_rate(np.log([20.0]), excited, BIN)).all()
    with pytest.raises(ValueError, match="not stable"):
        simulate(np.log([20.0]), excited, BIN, 1_000, rng)
    with pytest.raises(ValueError, match="exploded in bin 0"):
        simulate(np.log([20.0]), 0 * excited, BIN, 10, rng, drive=np.full((10, 1), 100.0))


def test_what_has_no_answer_is_refused():
    basis = raised_cosines(5, 2)
    counts = np.zeros((200, 2))
    counts[::20, 0] = 1.0
    with pytest.raises(ValueError, match="unit 1 are all 0"):
        fit_spike_history([counts], basis, BIN)
    # Spikes never follow a spike within five bins: the likelihood rises for ever.
    with pytest.raises(ValueError, match="unit 0"):
        fit_spike_history([counts[:, :1]], basis, BIN)
    held = fit_spike_history([counts[:, :1]], basis, BIN, ridge=1.0)
    assert (held.weights < 0).all()
    with pytest.raises(ValueError, match="stimulus has 100 rows"):
        fit_spike_history([counts[:, :1]], basis, BIN, [np.zeros((100, 1))])
