"""What DCDP refuses, by name, before any work; and the smallest and oddest series that it takes."""

import numpy as np
import pytest

import hidamari as hd
from hidamari.inference.costs import Biweight

X = np.random.default_rng(0).normal(size=(40, 2))

REFUSED = [
    ({"model": "median"}, "model must be one of"),
    ({"model": 3}, "model must be one of"),
    ({"penalty": -1.0}, "penalty must be a finite number of at least 0, or None, found -1.0"),
    ({"penalty": np.inf}, "penalty must be"),
    ({"penalty": True}, "penalty must be"),
    ({"grid": 0}, "grid must be a whole number of at least 1"),
    ({"grid": 40}, "grid must be below the 40 rows"),
    ({"search": "binary"}, "search must be one of"),
    ({"search": "fpop"}, "min_length must be 1 with search='fpop', found 5"),
    ({"min_length": 0}, "min_length must be a whole number of at least 1"),
    ({"model": "covariance", "min_length": 2}, "min_length must be at least 3"),
    ({"noise": "white"}, "noise must be 'auto', 'independent' or a number, found 'white'"),
    ({"noise": 0.0}, "noise must be a positive finite number"),
    ({"noise": [1.0, -1.0]}, "noise must be 2 positive standard deviations"),
    ({"noise": [1.0, 1.0, 1.0]}, "noise must be 2 positive"),
    ({"robust": "yes"}, "robust must be True or False"),
    ({"n_changes": -1}, "n_changes must be a whole number"),
    ({"n_changes": 39}, "n_changes is 39: so many segments"),
    ({"procedure": "draft"}, "procedure must be one of"),
    ({"procedure": "paper", "model": "counts"}, "model must be one of .* with procedure='paper'"),
    ({"interval": 95}, "interval must be a probability between 0 and 1, or None, found 95"),
    ({"simultaneous": 1}, "simultaneous must be True or False"),
    ({"model": "counts"}, "X has a count of -"),
    ({"model": "regression"}, "y must be the response"),
    ({"model": "autoregressive"}, "X must have one unit"),
    ({"model": "autoregressive", "order": 0}, "order must be a whole number"),
    ({"model": "state_space", "bin_s": 0}, "bin_s must be a positive"),
    ({"model": "state_space", "kernel": "Matern"}, "kernel"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[str(a) for a, _ in REFUSED])
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        hd.DCDP(**arguments).fit(X)


DATA = [
    (np.zeros((0, 2)), "X"),
    (np.zeros((3, 0)), "X"),
    (np.zeros((2, 10, 3)), "X must be one recording .* found 2 trials"),
    ([np.zeros((5, 2)), np.zeros((6, 2))], "X must be one recording .* found 2 trials"),
    ([1.0, np.inf, 2.0], "X.* is inf"),
    (["a", "b"], "X"),
    (3.0, "X"),
]


@pytest.mark.parametrize(("data", "message"), DATA, ids=range(len(DATA)))
def test_data_that_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        hd.DCDP().fit(data)


def test_another_number_of_units_is_refused():
    model = hd.DCDP().fit(X)
    with pytest.raises(ValueError, match="X has 1 features, but DCDP is expecting 2 features as input"):
        model.predict(X[:, 0])
    with pytest.raises(ValueError, match=r"y must have shape \(40,\)"):
        hd.DCDP("regression").fit(X, X[:5, 0])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize(
    "model", ["mean", "counts", "mean_variance", "sparse_mean", "covariance", Biweight()]
)
def test_short_series(model, n):
    if model == "covariance" and n < 3:
        with pytest.raises(ValueError, match=f"X has {n} rows, too few for Covariance"):
            hd.DCDP(model).fit(X[:n])
        return
    x = np.abs(np.random.default_rng(n).normal(size=(n, 2)))
    found = hd.DCDP(model).fit(x.round() if model == "counts" else x)
    assert found.n_changes_ <= 2 and found.probability_.shape == (n,)


@pytest.mark.parametrize("model", ["mean", "counts", "mean_variance", "sparse_mean"])
def test_constants_and_units_never_seen(model):
    for x in (np.full((30, 2), 4.0), np.column_stack([np.full(30, np.nan), np.arange(30) // 15])):
        found = hd.DCDP(model).fit(x)
        assert np.isfinite(found.cost_) and np.isfinite(found.probability_).all()
        assert found.n_changes_ == (0 if x[0, 0] == 4.0 else found.n_changes_)


def test_the_data_stay_as_they_were():
    x = X.copy()
    x.flags.writeable = False
    hd.DCDP().fit(x)
    np.testing.assert_array_equal(x, X)


def test_integers_floats_and_booleans_are_one(rng):
    x = (rng.random(200) < np.repeat([0.1, 0.8], 100)).astype(int)
    found = [
        hd.DCDP("counts").fit(x.astype(kind)).change_points_.tolist() for kind in (int, float, bool, "uint8")
    ]
    assert found[0] == found[1] == found[2] == found[3] and len(found[0]) == 1
