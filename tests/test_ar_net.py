"""ARNet: against statsmodels, against the truth, and what its forecasts claim."""

import numpy as np
import pytest

import hidamari as hd


def simulate(weights, n, seed=0, mean=0.0):
    rng = np.random.default_rng(seed)
    p, u = len(weights), np.zeros(n + 500)
    for t in range(p, len(u)):
        u[t] = np.dot(weights, u[t - p : t][::-1]) + rng.standard_normal()
    return mean + u[500:]


def test_given_lags_are_least_squares():
    ar_model = pytest.importorskip("statsmodels.tsa.ar_model")
    y = simulate([0.5, -0.3, 0.2], 2000, mean=10.0)
    ours, theirs = hd.ARNet(20).fit(y), ar_model.AutoReg(y, 20, trend="c").fit()
    table = ours.coefficients()
    np.testing.assert_allclose(table.estimate, theirs.params[1:], atol=1e-9)
    np.testing.assert_allclose(ours.sigma2_, theirs.sigma2 * 1980 / (1980 - 21), rtol=1e-8)
    np.testing.assert_allclose(
        table.standard_error, theirs.bse[1:] * np.sqrt(ours.sigma2_ / theirs.sigma2), rtol=1e-6
    )
    np.testing.assert_allclose(ours.predict()["mean"][20:], theirs.predict(20), atol=1e-8)
    found = ours.forecast(24)
    np.testing.assert_allclose(found["mean"], theirs.forecast(24), atol=1e-8)
    assert found["mean"].dims == ("time",) and found.time[0] == 2000


def test_a_level_changes_nothing():
    y = simulate([0.9], 1000)
    one, two = hd.ARNet(30).fit(y), hd.ARNet(30).fit(1e6 + y)
    np.testing.assert_allclose(two.coef_, one.coef_, atol=1e-7)
    np.testing.assert_allclose(two.forecast(50)["mean"] - 1e6, one.forecast(50)["mean"], atol=1e-6)
    np.testing.assert_allclose(hd.ARNet(30).fit(1e8 * y).coef_, one.coef_, rtol=1e-9)


@pytest.mark.parametrize("penalty", ["l1", "mcp", "arnet"])
def test_the_lags_of_a_sparse_process_are_found(penalty):
    y = simulate([0.2, 0.3, -0.5], 20_000, seed=3)
    model = hd.ARNet(100, penalty=penalty, alpha="ebic").fit(y)
    assert np.flatnonzero(model.support_[0]).tolist() == [0, 1, 2]
    assert np.abs(model.coef_[0, :3] - [0.2, 0.3, -0.5]).max() < 4 * model.standard_errors_[0, :3].max()


def test_missing_values_and_forecasts_are_those_of_a_kalman_smoother():
    sarimax = pytest.importorskip("statsmodels.tsa.statespace.sarimax")
    w = np.array([0.6, -0.4, 0.3])
    y = simulate(w, 300, seed=2)
    y[[50, 51, 52, 120, 297, 299]] = np.nan
    model = hd.ARNet(3).fit(y)
    model.intercept_, model.centre_, model.coef_ = np.zeros(1), np.zeros(1), w[None]
    theirs = sarimax.SARIMAX(y, order=(3, 0, 0)).smooth([*w, float(model.sigma2_[0])])
    ours, holes = model.smooth(), np.isnan(y)
    np.testing.assert_allclose(ours["mean"][holes], theirs.smoothed_state[0][holes], atol=1e-8)
    np.testing.assert_allclose(ours["var"][holes], theirs.smoothed_state_cov[0, 0][holes], atol=1e-8)
    assert (ours["var"].values[~holes] == 0).all()
    coming, found = theirs.get_forecast(24), model.forecast(24)
    np.testing.assert_allclose(found["mean"], coming.predicted_mean, atol=1e-8)
    np.testing.assert_allclose(found["var"], coming.var_pred_mean, rtol=1e-8)


def test_intervals_hold_what_they_say():
    held = []
    for seed in range(60):
        y = simulate([1.2, -0.5, 0.1], 1024, seed)
        found = hd.ARNet(10).fit(y[:1000]).forecast(24, interval=0.9)
        held.append((y[1000:] >= found.lower.values) & (y[1000:] <= found.upper.values))
    assert 0.87 < np.mean(held) < 0.93


def test_draws_have_the_moments_of_the_forecast():
    model = hd.ARNet(3).fit(simulate([0.8], 500))
    draws, found = model.sample(5, 4000), model.forecast(5)
    np.testing.assert_allclose(draws.draw_value.mean("draw"), found["mean"], atol=0.15)
    np.testing.assert_allclose(draws.draw_value.var("draw"), found["var"], rtol=0.1)


def test_columns_are_found_as_regression_with_ar_errors():
    rng, t = np.random.default_rng(1), np.arange(4000)
    x = rng.standard_normal((4000, 1)).cumsum(axis=0) / 10
    season = 2 * np.sin(2 * np.pi * t / 24)
    y = 5 + 0.001 * t + season + 1.5 * x[:, 0] + simulate([0.7], 4000, seed=4)
    model = hd.ARNet(2, trend=0, seasonality={24: 1}, events={"bump": [2000]}).fit(y, x)
    table = model.coefficients()
    truth = {"lag 1": 0.7, "lag 2": 0.0, "trend": 4.0, "sin[1/24]": 2.0, "exog 0": 1.5, "bump": 0.0}
    for name, value in truth.items():
        row = table.sel(coefficient=name)
        assert abs(row.estimate - value) < 4 * row.standard_error, name
    with pytest.raises(ValueError, match="exog is missing for some of the 5 coming rows"):
        model.forecast(5)
    found = model.forecast(5, exog=np.zeros((5, 1)))
    more = model.forecast(5, exog=np.ones((5, 1)))
    np.testing.assert_allclose(more["mean"] - found["mean"], float(table.estimate[-1]), rtol=1e-8)


def test_covariates_that_drive_fade():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal(5000), np.zeros(5000)
    for t in range(1, 5000):
        y[t] = 0.5 * y[t - 1] + 2.0 * x[t - 1] + rng.standard_normal()
    model = hd.ARNet(1, exog_mode="arx", exog_lags=1).fit(y, x)
    estimate, error = model.coef_[0], model.standard_errors_[0]
    assert (np.abs(estimate - [0.5, 2.0]) < 4 * error).all()
    assert np.isfinite(model.forecast(1)["mean"]).all()  # one step needs no coming covariates
    with pytest.raises(ValueError, match="exog is missing"):
        model.forecast(2)


@pytest.mark.parametrize("solver", ["levinson", "burg"])
def test_recursions_are_stationary(solver):
    for seed in range(20):
        y = np.random.default_rng(seed).standard_normal(50).cumsum()
        assert hd.ARNet(15, solver=solver).fit(y).is_stationary_.all()


def test_state_space_and_spectrum_agree_with_the_series():
    from hidamari.inference.forecast import autocovariances

    model = hd.ARNet(2).fit(simulate([0.5, 0.2], 5000))
    variance = autocovariances(model.coef_[0], float(model.sigma2_[0]), 1)[0]
    assert model.to_statespace(10).P[0, 0, 0] == pytest.approx(variance)
    freqs = np.linspace(-0.5, 0.5, 4001)
    assert np.trapezoid(model.spectrum(freqs), freqs) == pytest.approx(variance, rel=1e-6)
    assert model.impulse_response(3)[1] == pytest.approx(model.coef_[0, 0])


def test_trials_and_outputs():
    trials = [simulate([0.8], n, seed=n) for n in (200, 300)]
    model = hd.ARNet(2).fit(trials)
    assert model.forecast(4)["mean"].sizes == {"trial": 2, "time": 4}
    two = hd.ARNet(2).fit(np.column_stack([trials[1], -trials[1]]))
    np.testing.assert_allclose(two.coef_[0], two.coef_[1], atol=1e-12)
    assert two.coefficients().estimate.dims == ("output", "coefficient")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "ols"}, "solver must be one of"),
        ({"alpha": "cp"}, "alpha must be"),
        ({"n_lags": [1, 1]}, "n_lags must be distinct"),
        ({"n_lags": 400}, "n_lags reaches back 400 rows"),
        ({"seasonality": {4: 3}}, "seasonality has 3 harmonics"),
        ({"trend": -1}, "trend must be"),
        ({"events": [3]}, "events must map"),
        ({"exog_lags": "x"}, "exog_lags must be"),
        ({"sparsity": 2.0}, "sparsity must be"),
    ],
)
def test_arguments_that_are_not_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        hd.ARNet(**arguments).fit(simulate([0.5], 300))


def test_series_that_are_not_allowed():
    with pytest.raises(ValueError, match="y does not vary"):
        hd.ARNet(1).fit(np.full(50, np.nan))
    import pandas as pd

    with pytest.raises(ValueError, match="evenly spaced rows"):
        hd.ARNet(1).fit(pd.Series(np.arange(4.0), index=[0.0, 1.0, 3.0, 4.0]))
