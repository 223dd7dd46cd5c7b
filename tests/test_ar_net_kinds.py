"""ARNet as a network, a panel, a vector autoregression, and with posteriors and robust errors."""

import numpy as np
import pytest
from scipy.signal import lfilter

import hidamari as hd


def simulate(n, seed, w=(0.6, -0.4, 0.3)):
    return lfilter([1.0], [1.0, *-np.asarray(w)], np.random.default_rng(seed).standard_normal(n + 300))[300:]


def bent(n, seed):
    """An exponential autoregression, which no linear law describes."""
    e, y = 0.3 * np.random.default_rng(seed).standard_normal(n), np.zeros(n)
    for t in range(1, n):
        y[t] = (0.9 - 1.8 * np.exp(-4.0 * y[t - 1] ** 2)) * y[t - 1] + e[t]
    return y


def test_minibatches_end_on_least_squares():
    pytest.importorskip("optax")
    y = simulate(1000, 0)
    model, exact = hd.ARNet(3, solver="sgd", epochs=3).fit(y), hd.ARNet(3).fit(y)
    np.testing.assert_allclose(model.coef_, exact.coef_, atol=1e-6)
    np.testing.assert_allclose(model.standard_errors_, exact.standard_errors_, rtol=1e-6)
    assert model.solver_ == "sgd"


def test_hidden_layers_beat_lines_where_lines_do_not_do(tmp_path):
    pytest.importorskip("optax")
    y = bent(4000, 1)
    linear = hd.ARNet(2).fit(y[:3000])
    model = hd.ARNet(2, hidden=(16,), epochs=30).fit(y[:3000])
    assert model.score(y[3000:]) > linear.score(y[3000:]) + 0.02
    found = model.forecast(4, y, interval=0.9)
    assert (found.lower < found["mean"]).all() and (found["mean"] < found.upper).all()
    draws = model.sample(4, 2000, y).draw_value
    np.testing.assert_allclose(draws.mean("draw"), found["mean"], atol=0.05)
    model.save(tmp_path / "net.npz")
    assert hd.load(tmp_path / "net.npz").forecast(4, y, interval=0.9).identical(found)
    direct = hd.ARNet(2, hidden=(16,), epochs=10, strategy="direct", n_forecasts=4).fit(y[:3000])
    np.testing.assert_allclose(direct.forecast(4, y)["mean"], found["mean"], atol=0.15)
    with pytest.raises(ValueError, match="steps is 5"):
        direct.forecast(5)


def test_panels_share_what_they_have_in_common():
    rng = np.random.default_rng(2)
    weights = 0.5 + 0.1 * rng.standard_normal(20)
    y = np.column_stack([simulate(60, 10 + n, [w]) for n, w in enumerate(weights)])
    alone, one, near = (hd.ARNet(1, pooling=pooling).fit(y) for pooling in (None, "complete", "partial"))
    assert np.ptp(one.coef_) == 0.0
    error = {name: np.mean((m.coef_[:, 0] - weights) ** 2) for name, m in [("alone", alone), ("near", near)]}
    assert error["near"] < 0.7 * error["alone"]
    assert abs(near.panel_mean_[0] - 0.5) < 0.1 and near.forecast(3)["mean"].sizes == {
        "time": 3,
        "output": 20,
    }


def test_coupled_outputs_are_vector_autoregressions(tmp_path):
    var = pytest.importorskip("statsmodels.tsa.vector_ar.var_model")
    y = np.random.default_rng(3).standard_normal((800, 3))
    for t in range(1, 800):
        y[t, 1] += 0.5 * y[t - 1, 0]
    model, theirs = hd.ARNet(2, coupling=True).fit(y), var.VAR(y).fit(2)
    by_lag = model.coef_.reshape(3, 3, 2)
    np.testing.assert_allclose(by_lag.transpose(2, 0, 1), theirs.coefs, atol=1e-9)
    found = model.forecast(5)
    np.testing.assert_allclose(found["mean"], theirs.forecast(y, 5), atol=1e-9)
    np.testing.assert_allclose(model.predict()["mean"][2:], theirs.fittedvalues, atol=1e-9)
    mse = theirs.mse(5)[:, range(3), range(3)]
    np.testing.assert_allclose(found["var"], mse, rtol=1e-6)
    links = model.couplings()
    assert links.p_value[1, 0] < 1e-6 and (links.p_value.values[[0, 0, 2, 2], [1, 2, 0, 1]] > 0.001).all()
    sparse = hd.ARNet(coupling=True).fit(y)
    assert sparse.support_.reshape(3, 3, -1).any(axis=2)[[0, 2], :].sum() <= 1
    assert sparse.score() > -1.43
    draws = model.sample(3, 4000).draw_value
    np.testing.assert_allclose(draws.var("draw"), found["var"][:3], rtol=0.1)
    model.save(tmp_path / "var.npz")
    assert hd.load(tmp_path / "var.npz").forecast(5).identical(found)
    for question in (model.smooth, model.spectrum, lambda: model.to_statespace(5), model.mcmc):
        with pytest.raises(ValueError, match="coupling"):
            question()


def test_robust_errors_see_noise_that_changes():
    rng = np.random.default_rng(4)
    u = np.zeros(6000)
    for t in range(1, 6000):
        u[t] = 0.5 * u[t - 1] + rng.standard_normal() * (0.3 + np.abs(u[t - 1]))
    x = rng.standard_normal((6000, 1))
    model = hd.ARNet(1).fit(3.0 + x[:, 0] + u, x)
    plain, robust = model.coefficients(), model.coefficients("hac")
    np.testing.assert_array_equal(plain.estimate, robust.estimate)
    ratio = (robust.standard_error / plain.standard_error).values
    assert ratio[0] > 1.3 and 0.8 < ratio[1] < 1.2
    with pytest.raises(ValueError, match="errors must be"):
        model.coefficients("white")


def test_draws_are_of_the_moments_that_were_fitted(monkeypatch):
    from types import SimpleNamespace

    from hidamari.models import _ar_bayes

    seen = {}

    def sampler(gram, **settings):
        seen.update(gram=gram, **settings)
        return SimpleNamespace(attrs={})

    monkeypatch.setattr(_ar_bayes, "sample_horseshoe", sampler)
    y = np.column_stack([simulate(500, 5), simulate(500, 6)])
    model = hd.ARNet(2, random_state=7).fit(y)
    assert model.mcmc(1, n_chains=2).attrs["output"] == "1"
    coef = np.linalg.solve(seen["gram"].moments[1:, 1:], seen["gram"].moments[1:, 0])
    np.testing.assert_allclose(coef, model.coef_[1], rtol=1e-9)
    assert seen["random_state"] == 7 and seen["n_chains"] == 2
    with pytest.raises(ValueError, match="output is 2"):
        model.mcmc(2)


def test_counts_follow_past_counts(tmp_path):
    from hidamari.inference.spike_simulation import simulate_counts

    filters = np.zeros((2, 2, 5))
    filters[0, 0] = filters[1, 1] = [-2.0, -1.0, 0.0, 0.0, 0.0]
    filters[1, 0] = [0.8, 0.8, 0.4, 0.2, 0.0]
    rng = np.random.default_rng(8)
    y = simulate_counts(np.log([20.0, 10.0]), filters, 0.01, 20_000, rng)[0]
    index = np.arange(len(y)) * 0.01
    import pandas as pd

    counts = pd.DataFrame(y, index, columns=["a", "b"])
    model = hd.ARNet(5, likelihood="poisson", n_basis=3, coupling=True).fit(counts)
    found = model.couplings()
    assert found["filter"].sel(output="b", source="a")[:2].mean() > 0.5
    assert abs(found["filter"].sel(output="a", source="b")).max() < 0.5
    assert found["filter"].sel(output="a", source="a")[0] < -1.0
    plain = hd.ARNet(5, likelihood="poisson", n_basis=3).fit(counts)
    assert model.score() > plain.score() + 0.001
    mean = model.predict()["mean"]
    np.testing.assert_allclose(mean.sum("time"), y.sum(axis=0), rtol=1e-6)
    coming = model.forecast(20, interval=0.9)
    assert abs(coming["mean"][5:].mean("time") / y.mean(axis=0) - 1.0).max() < 0.3
    assert coming.time.values[0] == pytest.approx(200.0)
    assert model.sample(3, 4).draw_value.sizes == {"draw": 4, "time": 3, "output": 2}
    model.save(tmp_path / "counts.npz")
    assert hd.load(tmp_path / "counts.npz").forecast(20, interval=0.9).identical(coming)
    for question in (model.smooth, model.spectrum):
        with pytest.raises(ValueError, match="likelihood"):
            question()
