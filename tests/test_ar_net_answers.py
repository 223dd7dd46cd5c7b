"""ARNet on gaps, errors of measurement, further steps and other series, against statsmodels and the truth."""

import time

import numpy as np
import pytest
from scipy.signal import lfilter

import hidamari as hd
from hidamari.models._ar_answers import one_step
from hidamari.models._ar_series import hear, laws

W = np.array([0.6, -0.4, 0.3])


def simulate(n, seed, w=W, mean=0.0):
    return (
        mean
        + lfilter([1.0], [1.0, *-np.asarray(w)], np.random.default_rng(seed).standard_normal(n + 300))[300:]
    )


def sarimax():
    return pytest.importorskip("statsmodels.tsa.statespace.sarimax").SARIMAX


def holes(y, share, seed, first):
    gone = np.random.default_rng(seed).random(len(y)) < share
    gone[:first] = False
    return np.where(gone, np.nan, y)


def test_likelihood_with_gaps_is_that_of_a_state_space_model_given_the_first_values():
    y = holes(simulate(400, 0), 0.15, 1, 3)
    model = hd.ARNet(3, missing="exact").fit(y)
    mean = model.centre_[0] + model.intercept_[0] / (1.0 - model.coef_.sum())
    parameters = [*model.coef_[0], model.sigma2_[0]]
    value = sarimax()(y - mean, order=(3, 0, 0)).loglike(parameters)
    value -= sarimax()(y[:3] - mean, order=(3, 0, 0)).loglike(parameters)
    seen = np.isfinite(y[3:]).sum()
    np.testing.assert_allclose(model.score() * seen, value, rtol=1e-9)


def test_em_is_the_maximum_of_that_likelihood_and_finds_the_truth():
    y = holes(simulate(2000, 2, mean=5.0), 0.2, 3, 3)
    model = hd.ARNet(3).fit(y)
    best = model.score()
    assert (np.abs(model.coef_[0] - W) < 3 * model.standard_errors_[0]).all()
    for i in range(3):
        for step in (-0.01, 0.01):
            model.coef_[0, i] += step
            assert model.score() < best
            model.coef_[0, i] -= step
    theirs = sarimax()(y - 5.0, order=(3, 0, 0), trend="c").fit(disp=False)
    np.testing.assert_allclose(model.standard_errors_[0], theirs.bse[1:4], rtol=0.2)
    dropped = hd.ARNet(3, missing="drop").fit(y)
    assert (dropped.standard_errors_ > 1.1 * theirs.bse[1:4]).all()


def test_long_lags_with_gaps_take_little_time():
    y = holes(simulate(20_000, 4, np.r_[0.5, np.zeros(98), 0.3]), 0.05, 5, 0)
    hd.ARNet(2, missing="exact").fit(y[:500])
    start = time.process_time()
    model = hd.ARNet(100).fit(y)
    assert time.process_time() - start < 5.0
    start = time.process_time()
    model.score()
    assert time.process_time() - start < 0.5
    truth = np.r_[0.5, np.zeros(98), 0.3]
    assert np.mean(np.abs(model.coef_[0] - truth) < 3 * model.standard_errors_[0]) > 0.95


def test_weeks_that_were_not_measured():
    co2 = hd.datasets.load_co2()
    model = hd.ARNet().fit(co2)
    filled, coming = model.smooth(), model.forecast(52)
    gaps = np.isnan(co2.values)
    assert np.isfinite(filled["mean"]).all() and (filled["var"].values[gaps] > 0).all()
    assert coming.time.values[0] > co2.time.values[-1]
    year = co2.values[-52:] + 1.5  # a year later
    assert np.abs(coming["mean"].values - year).mean() < 1.0


def test_columns_and_gaps_together():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((3000, 1)).cumsum(axis=0) / 5
    y = holes(3.0 + 2.0 * x[:, 0] + simulate(3000, 7), 0.15, 8, 3)
    model = hd.ARNet(3).fit(y, x)
    assert np.abs((model.coef_[0] - [*W, 2.0]) / model.standard_errors_[0]).max() < 3.5
    drive = np.zeros(3000)
    for t in range(1, 3000):
        drive[t] = 0.5 * drive[t - 1] + 2.0 * x[t, 0] + rng.standard_normal()
    model = hd.ARNet(1, exog_mode="arx").fit(holes(drive, 0.15, 9, 1), x)
    assert np.abs((model.coef_[0] - [0.5, 2.0]) / model.standard_errors_[0]).max() < 3.5


def test_regression_with_errors_has_the_likelihood_of_sarimax():
    rng = np.random.default_rng(10)
    x = rng.standard_normal((20_000, 2)).cumsum(axis=0) / 10
    y = 1.0 + x @ [1.5, -0.5] + simulate(20_000, 12)
    model = hd.ARNet(3).fit(y, x)
    assert np.abs((model.coef_[0] - [*W, 1.5, -0.5]) / model.standard_errors_[0]).max() < 3
    mean = model.centre_[0] + model.intercept_[0] / (1.0 - model.coef_[0, :3].sum())
    parameters = [*model.coef_[0, 3:], *model.coef_[0, :3], model.sigma2_[0]]
    value = sarimax()(y - mean, order=(3, 0, 0), exog=x).loglike(parameters)
    value -= sarimax()(y[:3] - mean, order=(3, 0, 0), exog=x[:3]).loglike(parameters)
    np.testing.assert_allclose(model.score() * (len(y) - 3), value, rtol=1e-8)
    ours, theirs = model.score() * (len(y) - 3), sarimax()(y, order=(3, 0, 0), exog=x, trend="c")
    fitted = theirs.smooth([1.0 * (1 - W.sum()), *parameters]).llf
    assert abs(ours - fitted) < 20  # the first three rows, and the level by design


def test_errors_of_measurement_are_told_from_innovations():
    y = simulate(3000, 12, [0.9]) + np.random.default_rng(13).standard_normal(3000)
    y[100:120] = np.nan
    plain, model = hd.ARNet(1).fit(y), hd.ARNet(1, measurement_noise=True).fit(y)
    assert plain.coef_[0, 0] < 0.8
    assert abs(model.coef_[0, 0] - 0.9) < 3 * model.standard_errors_[0, 0]
    assert abs(model.noise_[0] - 1.0) < 0.2 and abs(model.sigma2_[0] - 1.0) < 0.2
    assert model.score() > plain.score() + 0.01
    level = model.centre_[0] + model.intercept_[0] / (1.0 - model.coef_[0, 0])
    theirs = sarimax()(y - level, order=(1, 0, 0), measurement_error=True)
    found = theirs.smooth([model.coef_[0, 0], model.noise_[0], model.sigma2_[0]])
    np.testing.assert_allclose(model.score() * np.isfinite(y).sum(), found.llf, rtol=1e-8)
    np.testing.assert_allclose(model.smooth()["mean"] - level, found.smoothed_state[0], atol=1e-7)
    np.testing.assert_allclose(model.smooth()["var"], found.smoothed_state_cov[0, 0], atol=1e-7)
    coming, ours = found.get_forecast(5), model.forecast(5)
    np.testing.assert_allclose(ours["mean"] - level, coming.predicted_mean, atol=1e-7)
    np.testing.assert_allclose(ours["var"], coming.var_pred_mean, rtol=1e-7)


def test_direct_steps_are_regressions_of_their_own():
    y = simulate(600, 14, mean=2.0)
    model = hd.ARNet(3, strategy="direct", n_forecasts=4).fit(y)
    rows = np.arange(3, 597)
    X = np.column_stack([np.ones(594), y[rows - 1], y[rows - 2], y[rows - 3]])
    found = model.forecast(4)
    for h in range(4):
        b, rss, *_ = np.linalg.lstsq(X, y[rows + h], rcond=None)
        assert found["mean"][h] == pytest.approx(b @ [1.0, *y[:-4:-1]], rel=1e-9)
        assert found["var"][h] == pytest.approx(rss[0] / (594 - 4))
    with pytest.raises(ValueError, match="steps is 5; allowed: at most n_forecasts=4"):
        model.forecast(5)
    gaps = hd.ARNet(3, strategy="direct", n_forecasts=4, missing="exact").fit(holes(y, 0.1, 15, 3))
    np.testing.assert_allclose(gaps.direct_coef_, model.direct_coef_, atol=0.1)


def test_direct_steps_with_seasons_and_covariates():
    t, rng = np.arange(3000), np.random.default_rng(16)
    x = (rng.random(3000) < 0.1).astype(float)
    y = 3.0 * np.sin(2 * np.pi * t / 12) + 4.0 * x + simulate(3000, 17)
    model = hd.ARNet(5, strategy="direct", n_forecasts=6, seasonality={12: 1}, trend=0).fit(y[:-6], x[:-6])
    same = hd.ARNet(5, seasonality={12: 1}, trend=0).fit(y[:-6], x[:-6])
    one, two = (m.forecast(6, exog=x[-6:]) for m in (model, same))
    np.testing.assert_allclose(one["mean"], two["mean"], atol=0.4)
    np.testing.assert_allclose(one["var"], two["var"], rtol=0.1)


def test_short_series_stay_stationary_when_told_to():
    left = 0
    for seed in range(100):
        y = np.random.default_rng(seed).standard_normal(50).cumsum()
        model = hd.ARNet(20, stationary=True).fit(y)
        assert model.is_stationary_.all()
        w = np.trim_zeros(model.coef_[0], "b")
        assert np.abs(np.roots(np.append(1.0, -w))).max() < 1.0
        left += not hd.ARNet(20).fit(y).is_stationary_.all()
    assert left > 20  # that the option has something to do


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize(
    "arguments",
    [
        {"penalty": "ridge"},
        {"penalty": "ridge", "alpha": "cv"},
        {"penalty": "ridge", "alpha": 0.01},
        {"penalty": "l1", "alpha": "cv"},
        {"penalty": "arnet", "sparsity": 0.1},
        {"penalty": "arnet", "alpha": "paper", "sparsity": 0.1},
    ],
)
def test_strengths_of_penalties(arguments, share):
    y = holes(simulate(2000, 18), share, 19, 0)
    model = hd.ARNet(30, **arguments).fit(y)
    assert np.abs(model.coef_[0] - np.r_[W, np.zeros(27)]).max() < 0.12
    assert model.solver_ == ("ridge" if arguments["penalty"] == "ridge" else "sparse")
    if arguments["penalty"] == "arnet":
        assert model.support_.sum() < (12 if "alpha" in arguments else 6)  # 0.01 is little for 2,000 rows


def test_quantiles_and_intervals_are_those_of_the_last_errors():
    rng = np.random.default_rng(20)
    y = lfilter([1.0], [1.0, -0.5], rng.standard_normal(6000) * np.where(np.arange(6000) < 5000, 1.0, 3.0))
    model = hd.ARNet(1).fit(y)
    found = model.forecast(3, interval=0.9, quantiles=[0.05, 0.5, 0.95])
    np.testing.assert_allclose(found.quantile_value.sel(quantile=0.05), found.lower)
    error = (y - model.predict()["mean"].values)[-300:]
    np.testing.assert_allclose(found.upper[0] - found["mean"][0], np.sort(error)[285], rtol=0.01)
    plain = hd.ARNet(1, intervals="gaussian").fit(y).forecast(3, interval=0.9)
    np.testing.assert_allclose(plain.upper - plain["mean"], 1.6448536 * np.sqrt(plain["var"]))
    assert found.upper[0] - found["mean"][0] > 1.3 * (plain.upper[0] - plain["mean"][0])


def test_intervals_hold_what_they_say():
    held = []
    for seed in range(60):
        y = simulate(1024, seed, [1.2, -0.5, 0.1])
        found = hd.ARNet(10).fit(y[:1000]).forecast(24, interval=0.9)
        held.append((y[1000:] >= found.lower.values) & (y[1000:] <= found.upper.values))
    assert 0.87 < np.mean(held) < 0.93


def test_other_series():
    import pandas as pd

    t = np.arange(1000)
    y = 2 * np.sin(2 * np.pi * t / 24) + simulate(1000, 21)
    index = pd.date_range("2020-01-01", periods=1000, freq="h")
    whole = pd.Series(y, index)
    model = hd.ARNet(3, seasonality={24: 1}, time_unit="h").fit(whole[:800])
    own = model.predict(whole)["mean"].values
    np.testing.assert_allclose(own[:800], model.predict()["mean"], atol=1e-12)
    later = whole[705:]  # whose times tell the season
    np.testing.assert_allclose(model.predict(later)["mean"][3:], own[708:], atol=1e-10)
    assert model.score(later) == pytest.approx(
        np.mean(-0.5 * (np.log(2 * np.pi * model.sigma2_[0]) + (y[708:] - own[708:]) ** 2 / model.sigma2_[0]))
    )
    found = model.forecast(5, whole[:900])
    assert found.time.values[0] == index[900]
    np.testing.assert_allclose(found["mean"][0], own[900], atol=1e-10)
    np.testing.assert_allclose(model.smooth(later)["mean"], later)


def test_a_short_series_is_forecast_from_what_there_is():
    model = hd.ARNet(3).fit(simulate(500, 22))
    short = model.forecast(2, np.array([1.0, 0.5]))
    padded = model.forecast(2, np.array([np.nan, np.nan, 1.0, 0.5]))
    np.testing.assert_allclose(short["mean"], padded["mean"])
    assert short["var"][0] > model.sigma2_[0]


def test_series_without_noise():
    sine = np.sin(np.arange(305) / 5)
    coming = hd.ARNet().fit(sine[:300]).forecast(5)
    np.testing.assert_allclose(coming["mean"], sine[300:], atol=1e-6)
    gaps = sine[:300].copy()
    gaps[[50, 51, 120]] = np.nan
    filled = hd.ARNet(2, missing="exact").fit(gaps).smooth()
    np.testing.assert_allclose(filled["mean"], sine[:300], atol=1e-8)


def test_rows_with_neither_a_value_nor_what_drives_it():
    x = np.random.default_rng(27).standard_normal((400, 1))
    y = simulate(400, 28)
    x[200:203] = np.nan
    y[201:205] = np.nan
    for mode in ("errors", "arx"):
        model = hd.ARNet(3, missing="exact", exog_mode=mode, exog_lags=3).fit(y, x)
        assert np.abs(model.coef_[0, :3] - W).max() < 0.2
        known = np.isfinite(model.smooth()["mean"].values)
        assert np.isfinite(model.score()) and (known[206:].all() if mode == "errors" else known.all())


def test_forms_of_input():
    import pandas as pd
    import xarray as xr

    y = simulate(300, 23).reshape(150, 2)
    plain = hd.ARNet(2).fit(y)
    frame = hd.ARNet(2).fit(pd.DataFrame(y, columns=["a", "b"]))
    array = hd.ARNet(2).fit(xr.DataArray(y, dims=("time", "output"), coords={"output": ["a", "b"]}))
    for other in (frame, array):
        np.testing.assert_array_equal(other.coef_, plain.coef_)
        assert other.forecast(2).output.values.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="y does not vary in output 1"):
        hd.ARNet(2).fit(np.column_stack([y[:, 0], np.full(150, np.nan)]))


@pytest.mark.parametrize(
    "arguments",
    [
        {"strategy": "direct", "n_forecasts": 3, "seasonality": {6: 1}},
        {"measurement_noise": True},
        {"penalty": "ridge", "alpha": "cv"},
        {"missing": "exact", "stationary": True},
    ],
)
def test_files_hold_all_forms(arguments, tmp_path):
    y = holes(simulate(300, 24), 0.05, 25, 2)
    model = hd.ARNet(2, **arguments).fit(y)
    model.save(tmp_path / "model.npz")
    again = hd.load(tmp_path / "model.npz")
    assert again.forecast(3).identical(model.forecast(3))
    assert again.sample(2, 3).identical(model.sample(2, 3))


def test_predictions_with_gaps_are_those_of_the_filter():
    y = simulate(300, 26)
    model = hd.ARNet(3).fit(y)
    (part,), law = hear(model)[1][0], laws(model)[0]
    fast = one_step(part, law)
    part.u[:1] = np.nan
    slow = one_step(part, law)
    np.testing.assert_allclose(slow[0][6:], fast[0][6:], atol=1e-9)
