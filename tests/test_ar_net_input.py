"""Everything that ARNet is told and cannot do is a ValueError that names it, before any work."""

import numpy as np
import pytest

import hidamari as hd

Y = np.random.default_rng(0).standard_normal((80, 2)).cumsum(axis=0)
X = np.random.default_rng(1).standard_normal((80, 1))
NAN, INF = float("nan"), float("inf")

BAD = {
    "n_lags": ["many", -1, 2.5, True, None, [], [0], [1, 1], [1.5], 80, {"a": 1}, np.array([[1]])],
    "solver": ["ols", None, 3, []],
    "penalty": ["l2", 3, True, []],
    "alpha": ["cp", None, -1.0, 0.0, NAN, INF, True, []],
    "sparsity": [0.0, 2.0, -1.0, NAN, "few", True],
    "strategy": ["both", None, 1],
    "n_forecasts": [0, -1, 1.5, None, True, "2"],
    "hidden": [None, 3, "32", (0,), (1.5,), (True,), [-1]],
    "activation": ["sine", None, 3],
    "epochs": [0, 1.5, "3", True],
    "batch_size": [0, 1.5, True],
    "learning_rate": [0.0, -1.0, NAN, "fast", True],
    "pooling": ["some", True, 1],
    "coupling": [None, 1, "yes"],
    "likelihood": ["binomial", None, 1],
    "n_basis": [0, 1.5, None, True],
    "trend": [-1, 1.5, True, "line"],
    "seasonality": [12, [12], {12: 0}, {12: 7}, {0: 1}, {-3: 1}, {"day": 1}, {12: 1.5}],
    "events": [["x"], {"x": 3}, {"x": [1.5]}, {"x": "ab"}, {"x": [NAN]}, 3],
    "event_window": [(1, 0), (0,), 3, None, (0.5, 1), "ab"],
    "exog_lags": [-1, 1.5, "x", None, [], [1, 1], {"exog 0": -1}, True],
    "exog_mode": ["both", None],
    "missing": ["fill", None, 1],
    "measurement_noise": [None, 1, "yes"],
    "stationary": [None, 1, "yes"],
    "intervals": ["student", None, 0.9],
    "random_state": [-1, 1.5, "seed", True, []],
    "time_unit": ["fortnight", None, 3],
}


def test_every_argument_is_in_the_table():
    assert set(BAD) == set(hd.ARNet().get_params(deep=False))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD for value in BAD[name]])
def test_arguments_of_the_constructor(name, value):
    settings = {"n_lags": 2, name: value}
    if name in ("event_window",):
        settings["events"] = {"x": [3]}
    with pytest.raises(ValueError, match=name):
        hd.ARNet(**settings).fit(Y, X if name in ("exog_lags", "exog_mode") else None)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"solver": "sparse", "penalty": None}, "penalty"),
        ({"solver": "burg", "n_lags": [1, 3]}, "n_lags"),
        ({"alpha": "paper"}, "alpha"),
        ({"alpha": "paper", "penalty": "arnet"}, "sparsity"),
        ({"solver": "burg", "missing": "exact"}, "missing"),
        ({"hidden": (4,), "solver": "exact"}, "hidden"),
        ({"solver": "sgd", "penalty": "scad"}, "penalty"),
        ({"solver": "sgd", "alpha": "cv"}, "alpha"),
        ({"hidden": (4,), "measurement_noise": True}, "measurement_noise"),
        ({"strategy": "direct", "exog_mode": "arx"}, "strategy"),
        ({"coupling": True, "trend": 0}, "trend"),
        ({"coupling": True, "pooling": "partial"}, "pooling"),
        ({"coupling": True, "missing": "exact"}, "missing"),
        ({"coupling": True, "measurement_noise": True}, "measurement_noise"),
        ({"pooling": "partial", "strategy": "direct"}, "strategy"),
        ({"pooling": "partial", "trend": 1}, "exog_mode"),
        ({"pooling": "complete", "hidden": (3,)}, "hidden"),
        ({"likelihood": "poisson"}, "counts"),
        ({"likelihood": "poisson", "hidden": (3,)}, "hidden"),
        ({"likelihood": "poisson", "n_lags": [1, 2]}, "n_lags"),
        ({"likelihood": "poisson", "penalty": "ridge"}, "alpha"),
        ({"measurement_noise": True, "n_lags": 0}, "lags"),
        ({"seasonality": {12: 2, 24: 4}, "events": {"trend": [3]}, "trend": 0}, "trend"),
    ],
)
def test_arguments_that_do_not_go_together(settings, name):
    with pytest.raises(ValueError, match=name):
        hd.ARNet(**{"n_lags": 2, **settings}).fit(Y)


@pytest.mark.parametrize(
    ("y", "exog", "name"),
    [
        (np.full(50, NAN), None, "y"),
        (np.ones(50), None, "y"),
        (np.array([1.0, INF, 2.0, 3.0]), None, "y"),
        (np.array(["a", "b", "c"]), None, "y"),
        (np.zeros((2, 3, 4, 5)), None, "y"),
        ([], None, "y"),
        (np.array([]), None, "y"),
        (np.array([1.0 + 1j, 2.0, 3.0]), None, "y"),
        (np.array([1.0, 2.0]), None, "n_lags"),
        (Y, X[:70], "exog"),
        (Y, np.full((80, 1), NAN), "columns|exog"),
        (Y, np.ones((80, 1)), "columns|exog"),
        (Y, np.full((80, 1), "a"), "exog"),
        (Y, np.zeros((2, 80, 1)), "exog"),
    ],
)
def test_data(y, exog, name):
    with pytest.raises(ValueError, match=name):
        hd.ARNet(2).fit(y, exog)


PLAIN = hd.ARNet(2).fit(Y)
COUPLED = hd.ARNet(2, coupling=True).fit(Y)
COUNTS = hd.ARNet(2, likelihood="poisson").fit(np.random.default_rng(2).poisson(1.0, (200, 1)))
HOLES = np.where(np.arange(80)[:, None] == 79, NAN, Y)
DRIVEN = hd.ARNet(2).fit(Y, X)


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda: PLAIN.forecast(0), "steps"),
        (lambda: PLAIN.forecast(1.5), "steps"),
        (lambda: PLAIN.forecast(True), "steps"),
        (lambda: PLAIN.forecast(2, interval=1.0), "interval"),
        (lambda: PLAIN.forecast(2, interval="wide"), "interval"),
        (lambda: PLAIN.forecast(2, interval=None), "interval"),
        (lambda: PLAIN.forecast(2, quantiles=[0.0]), "quantiles"),
        (lambda: PLAIN.forecast(2, quantiles="half"), "quantiles"),
        (lambda: PLAIN.forecast(2, quantiles=[NAN]), "quantiles"),
        (lambda: PLAIN.forecast(2, Y[:, :1]), "y has 1 outputs"),
        (lambda: PLAIN.forecast(2, exog=np.zeros((2, 1))), "exog"),
        (lambda: PLAIN.forecast(2, past_exog=X), "exog"),
        (lambda: PLAIN.forecast(2, Y, past_exog=X), "exog"),
        (lambda: DRIVEN.forecast(2), "exog is missing"),
        (lambda: DRIVEN.forecast(2, exog=np.zeros((3, 1))), "exog"),
        (lambda: DRIVEN.forecast(2, exog=np.zeros((2, 2))), "exog"),
        (lambda: DRIVEN.forecast(2, exog=np.full((2, 1), NAN)), "exog"),
        (lambda: DRIVEN.forecast(2, Y, exog=np.zeros((2, 1))), "exog is missing"),
        (lambda: PLAIN.sample(2, 0), "n must"),
        (lambda: PLAIN.sample(0), "steps"),
        (lambda: PLAIN.sample(2, random_state="x"), "random_state"),
        (lambda: PLAIN.predict(Y, interval=0.0), "interval"),
        (lambda: PLAIN.predict(Y, X), "exog"),
        (lambda: PLAIN.predict(exog=X), "exog"),
        (lambda: DRIVEN.predict(Y), "exog is missing"),
        (lambda: DRIVEN.predict(Y, X[:5]), "exog"),
        (lambda: PLAIN.smooth(Y[:, :1]), "y has 1 outputs"),
        (lambda: PLAIN.smooth(interval=2.0), "interval"),
        (lambda: PLAIN.score(Y[:2]), "y has 2 rows"),
        (lambda: PLAIN.coefficients("robust"), "errors"),
        (lambda: PLAIN.spectrum("low"), "freqs"),
        (lambda: PLAIN.spectrum([NAN]), "freqs"),
        (lambda: PLAIN.impulse_response(0), "steps"),
        (lambda: PLAIN.to_statespace(0), "n_rows"),
        (lambda: PLAIN.to_statespace(5, 2), "output"),
        (lambda: PLAIN.to_statespace(5, -1), "output"),
        (lambda: PLAIN.mcmc(5), "output"),
        (lambda: PLAIN.mcmc(n_chains=0), "n_chains"),
        (lambda: PLAIN.mcmc(n_samples=1.5), "n_samples"),
        (lambda: PLAIN.mcmc(random_state="x"), "random_state"),
        (lambda: PLAIN.couplings(), "coupling"),
        (lambda: COUPLED.forecast(2, HOLES), "y has 80 rows"),
        (lambda: COUPLED.sample(2, 1, Y[:1]), "y has 1 rows"),
        (lambda: COUPLED.score(Y[:2]), "y has 2 rows"),
        (lambda: COUPLED.forecast(2, exog=X[:2]), "exog"),
        (lambda: COUPLED.coefficients("hac"), "errors"),
        (lambda: COUNTS.forecast(2, np.array([[1.0], [NAN]])), "y misses"),
        (lambda: COUNTS.coefficients("hac"), "errors"),
        (lambda: COUNTS.predict(np.full((30, 1), -1.0)), "counts"),
    ],
)
def test_arguments_of_methods(ask, name):
    with pytest.raises(ValueError, match=name):
        ask()
