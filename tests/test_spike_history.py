"""Poisson regression on past spikes: against statsmodels, against the truth, with holes, and selected."""

import numpy as np
import pytest

from hidamari.inference.spike_goodness import count_log_likelihood
from hidamari.inference.spike_history import (
    filter_errors,
    fit_spike_history,
    history_filters,
    predict_rate,
    raised_cosines,
)
from hidamari.inference.spike_simulation import simulate_counts

BIN = 0.005


def population(n_bins=60_000, seed=0):
    basis = raised_cosines(30, 4)
    weights = np.zeros((2, 2, 4))
    weights[0, 0] = [-3.0, -1.0, 0.3, 0.0]
    weights[1, 1] = [-2.0, 0.2, 0.2, 0.1]
    weights[1, 0] = [0.8, 0.5, 0.0, 0.0]
    bias = np.log([20.0, 12.0])
    spikes = simulate_counts(bias, weights @ basis.T, BIN, n_bins, np.random.default_rng(seed))[0]
    return basis, weights, bias, spikes


def past_of(spikes, basis):
    past = np.zeros((len(spikes), spikes.shape[1], basis.shape[1]))
    for t in range(1, len(spikes)):
        n = min(t, len(basis))
        past[t] = np.einsum("in,ik->nk", spikes[t - n : t][::-1], basis[:n])
    return past.reshape(len(spikes), -1)


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
    rng = np.random.default_rng(1)
    stimulus, exposure = rng.normal(size=(8_000, 1)), rng.uniform(0.5, 2.0, 8_000)
    found = fit_spike_history(spikes, 30, 4, bin_s=BIN, columns=stimulus, exposure=exposure)
    X = np.concatenate([np.ones((8_000, 1)), stimulus, past_of(spikes, basis)], axis=1)
    for n in range(2):
        model = statsmodels.GLM(
            spikes[:, n], X, family=statsmodels.families.Poisson(), offset=np.log(exposure)
        )
        theirs = model.fit(tol=1e-14)
        ours = np.concatenate([[found.bias[n] + np.log(BIN)], found.columns[n], found.weights[n].ravel()])
        np.testing.assert_allclose(ours, theirs.params, atol=1e-6)
        errors = [found.bias_errors[n]], found.column_errors[n], np.sqrt(np.diag(found.weight_cov[n, 0]))
        np.testing.assert_allclose(np.concatenate(errors), theirs.bse[:6], rtol=1e-5)
        np.testing.assert_allclose(found.weight_cov[n, 1], theirs.cov_params()[6:, 6:], rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(found.log_likelihood[n], theirs.llf, rtol=1e-10)
    rate = predict_rate(found, spikes, stimulus)[0]
    np.testing.assert_allclose(rate[:, 1] * BIN * exposure, theirs.mu, rtol=1e-6)
    again = count_log_likelihood(spikes, rate * exposure[:, None], BIN)
    np.testing.assert_allclose(again, found.log_likelihood, rtol=1e-10)


def test_filters_are_found_within_their_errors():
    basis, weights, bias, spikes = population()
    found = fit_spike_history([spikes[:25_000], spikes[25_000:]], basis, bin_s=BIN)
    errors = np.sqrt(np.einsum("nmkk->nmk", found.weight_cov))
    z = (found.weights - weights) / errors
    assert np.abs(z).max() < 4 and 0.5 < np.sqrt(np.mean(z**2)) < 1.5
    assert np.abs((found.bias - bias) / found.bias_errors).max() < 4
    np.testing.assert_allclose(history_filters(found)[1, 0], found.weights[1, 0] @ basis.T)
    away = (history_filters(found) - weights @ basis.T) / filter_errors(found)
    assert np.abs(away[..., :25]).max() < 4.5  # at the very last lags all is nearly 0 over 0
    assert (found.n_left_out == 0).all() and (found.n_rows == 60_000).all()


def test_rows_made_anew_or_kept_and_all_at_once(monkeypatch):
    _, _, _, spikes = population(20_000)
    kept = fit_spike_history([spikes[:7_000], spikes[7_000:]], 30, 4)
    monkeypatch.setattr("hidamari.inference._poisson._HELD", 0)
    monkeypatch.setattr("hidamari.inference._poisson._NUMBERS", 600 * 9)
    anew = fit_spike_history([spikes[:7_000], spikes[7_000:]], 30, 4)
    np.testing.assert_allclose(anew.weights, kept.weights, atol=1e-9)
    np.testing.assert_allclose(anew.weight_cov, kept.weight_cov, rtol=1e-5)


def test_missing_bins_take_their_windows_with_them():
    basis, _, _, spikes = population(6_000)
    holes = spikes.copy()
    holes[2_000:2_010, 0] = np.nan
    column = np.random.default_rng(2).normal(size=(6_000, 1))
    column[5_000] = np.nan
    cut = fit_spike_history(holes, 30, 4, columns=column)
    assert cut.n_left_out.tolist() == [41, 40] and cut.n_rows.tolist() == [5_959, 5_960]
    X = np.concatenate([np.ones((6_000, 1)), column, past_of(spikes, basis)], axis=1)
    for n in range(2):
        rows = np.setdiff1d(np.arange(6_000), [*range(2_000 + n, 2_040), 5_000])
        w = np.concatenate([[cut.bias[n]], cut.columns[n], cut.weights[n].ravel()])
        slope = X[rows].T @ (spikes[rows, n] - np.exp(X[rows] @ w))
        assert np.abs(slope).max() < 1e-5
    alone = fit_spike_history(holes, 30, 4, coupling=False)
    assert (alone.weights[0, 1] == 0).all() and (alone.weights[1, 0] == 0).all()
    assert alone.n_left_out.tolist() == [40, 0]
    rates = predict_rate(cut, holes, column)[0]
    assert np.isnan(rates).any(axis=1).sum() == 31 + 10 - 1 and np.isfinite(rates[2_000]).all()
    late = fit_spike_history([spikes[:3_000], spikes[3_000:]], 30, 4, silent_start=False)
    assert late.n_left_out.tolist() == [60, 60]


def test_couplings_are_selected():
    rng = np.random.default_rng(3)
    N, basis = 6, raised_cosines(20, 4)
    weights = np.zeros((N, N, 4))
    for n in range(N):
        weights[n, n] = [-3.0, -0.5, 0.0, 0.0]
        weights[n, n - 1] = [0.9, 0.4, 0.0, 0.0] if n % 2 else [-1.5, -0.8, 0.0, 0.0]
    bias = np.log(np.full(N, 25.0))
    spikes = simulate_counts(bias, weights @ basis.T, BIN, 40_000, rng)[0]
    found = fit_spike_history(spikes, basis, bin_s=BIN, level=0.05)
    np.testing.assert_array_equal(found.coupled, weights.any(axis=2))
    refitted = fit_spike_history(spikes, basis, bin_s=BIN, coupling=weights.any(axis=2))
    np.testing.assert_allclose(found.weights, refitted.weights, atol=1e-8)
    assert (found.weights.any(axis=2) == found.coupled).all()
    noise = np.concatenate(
        [fit_spike_history(rng.poisson(0.1, (5_000, 4)), 20, 4, level=0.05).coupled for _ in range(10)]
    )
    assert noise.sum() - 40 <= 6  # 2 expected


def test_ridge_shrinks_and_its_slope_is_zero():
    basis, _, _, spikes = population(5_000)
    held = fit_spike_history(spikes, basis, ridge=10.0)
    X = np.concatenate([np.ones((5_000, 1)), past_of(spikes, basis)], axis=1)
    for n in range(2):
        w = np.append(held.bias[n], held.weights[n].ravel())
        slope = X.T @ (spikes[:, n] - np.exp(X @ w)) - 10.0 * np.append(0.0, w[1:])
        assert np.abs(slope).max() < 1e-5
    assert np.linalg.norm(held.weights) < 0.7 * np.linalg.norm(fit_spike_history(spikes, basis).weights)


def test_what_has_no_answer_is_refused():
    basis = raised_cosines(5, 2)
    counts = np.zeros((200, 2))
    counts[::20, 0] = 1.0
    with pytest.raises(ValueError, match="unit 1 are all 0"):
        fit_spike_history(counts, basis)
    # Spikes never follow a spike within five bins: the likelihood rises for ever.
    with pytest.raises(ValueError, match="unit 0"):
        fit_spike_history(counts[:, :1], basis)
    held = fit_spike_history(counts[:, :1], basis, ridge=1.0)
    assert (held.weights < 0).all()
    one = counts[:, :1]
    for message, arguments in [
        ("columns has rows", {"columns": np.zeros((100, 1))}),
        ("exposure has shapes", {"exposure": np.ones(100)}),
        ("not positive", {"exposure": np.zeros(200)}),
        ("coupling has shape", {"coupling": [[1]]}),
        ("ridge is -1", {"ridge": -1.0}),
        ("bin_s is 0", {"bin_s": 0.0}),
        ("level is 2", {"level": 2.0}),
    ]:
        with pytest.raises(ValueError, match=message):
            fit_spike_history(one, basis, **arguments)
    with pytest.raises(ValueError, match="negative"):
        fit_spike_history(-one, basis)
    with pytest.raises(ValueError, match="lags has shape"):
        fit_spike_history(one, np.ones(3))
    with pytest.raises(ValueError, match="counts has 2 units"):
        predict_rate(held, counts)
    with pytest.raises(ValueError, match="columns has 1 columns"):
        predict_rate(held, one, np.ones((200, 1)))
