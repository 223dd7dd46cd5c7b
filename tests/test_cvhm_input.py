"""hd.CVHM: what it refuses, with which words, and what it leaves alone."""

import warnings

import numpy as np
import pytest
import xarray as xr

import hidamari as hd
from hidamari.datasets import simulate_spikes

DT = 0.02


def new(n_latents=2, **arguments):
    return hd.CVHM(n_latents, **{"bin_s": DT, "tol": 1e-3, "progress": False, **arguments})


@pytest.fixture(scope="module")
def sim():
    return simulate_spikes(
        [hd.Matern(1, 0.3)], n_units=10, n_bins=[50, 20, 35], mean_count=1.0, random_state=3
    )


@pytest.fixture(scope="module")
def model(sim):
    return new().fit(sim.y)


Y = np.ones((20, 3))


def with_entry(value):
    y = Y.copy()
    y[4, 1] = value
    return y


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (with_entry(-1), r"y\[4, 1\] is -1.*count"),
        (with_entry(0.5), r"y\[4, 1\] is 0\.5.*count"),
        (with_entry(np.inf), r"y\[4, 1\] is inf"),
        (with_entry(-np.inf), r"y\[4, 1\] is -inf"),
        ([Y, with_entry(0.5)], r"y\[1\].*4, 1\] is 0\.5"),
        (np.stack([Y, with_entry(-2)]), r"y\[1\].*4, 1\] is -2"),
        (Y[:, 0], r"y has shape \(20,\)"),
        (Y[None, None], r"y has shape \(1, 1, 20, 3\)"),
        (Y[:0], r"y has shape \(0, 3\)"),
        (Y[:, :0], r"y has shape \(20, 0\)"),
        ([], r"y"),
        ([Y, Y[:0]], r"y\[1\] has shape \(0, 3\)"),
        ([Y, Y[:, :2]], r"y\[1\] has 2 units but trial 0 has 3"),
        (Y + 0j, r"complex"),
        (Y.astype(str), r"strings"),
        (None, r"y is of type NoneType"),
        ("spikes", r"y"),
    ],
)
def test_bad_data(y, message):
    with pytest.raises(ValueError, match=message):
        new().fit(y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_latents": 0}, r"n_latents must be a whole number of at least 1, found 0"),
        ({"n_latents": 1.5}, r"n_latents.*1\.5"),
        ({"n_latents": True}, r"n_latents.*True"),
        ({"max_iter": 0}, r"max_iter.*0"),
        ({"n_init": 0}, r"n_init.*0"),
        ({"tol": 0.0}, r"tol.*0"),
        ({"tol": np.nan}, r"tol.*nan"),
        ({"prior_strength": -1.0}, r"prior_strength.*-1"),
        ({"bin_s": None}, r"bin_s is missing"),
        ({"bin_s": 0.0}, r"bin_s.*0"),
        ({"bin_s": np.inf}, r"bin_s.*inf"),
        ({"bin_s": "20ms"}, r"bin_s.*20ms"),
        ({"learn_kernel": "mcmc"}, r"learn_kernel.*mcmc"),
        ({"likelihood": "poison"}, r"likelihood is 'poison': allowed are 'gaussian', 'poisson'"),
        ({"likelihood": "binomial"}, r"Binomial\(n\)"),
        ({"likelihood": 3}, r"likelihood is 3"),
        ({"kernel": "matern"}, r"kernel.*matern"),
        ({"kernel": 3}, r"kernel.*3"),
        ({"kernel": [hd.Matern()]}, r"kernel.*n_latents=2"),
        ({"kernel": [hd.Matern(), None]}, r"kernel"),
        ({"kernel": hd.Matern() + hd.Wiener()}, r"kernel must be stationary.*Wiener"),
        ({"fixed": "loadings"}, r"fixed.*'loadings'"),
        ({"fixed": ["loading"]}, r"fixed has 'loading'; allowed are"),
        ({"fixed": ["loadings"]}, r"fixed\['loadings'\] needs a value of shape \(3, 2\)"),
        ({"fixed": {"loadings": np.ones((2, 3))}}, r"fixed\['loadings'\].*\(3, 2\).*\(2, 3\)"),
        ({"fixed": {"bias": [1.0, np.nan, 1.0]}}, r"fixed\['bias'\] must be finite"),
        ({"fixed": {"kernel": hd.Matern()}}, r"fixed\['kernel'\] takes no value"),
        ({"fixed": {"kernel.lengthscale": -1.0}}, r"fixed\['kernel\.lengthscale'\] must be positive"),
        (
            {"fixed": {"kernel.lengthscale": [1.0, 2.0, 3.0]}},
            r"fixed\['kernel\.lengthscale'\].*one number or 2",
        ),
        ({"fixed": {"kernel.period": 1.0}}, r"fixed has 'kernel\.period'; allowed"),
        ({"fixed": ["kernel.period"]}, r"fixed has 'kernel\.period'; allowed"),
        ({"fixed": ["kernel.frequency"]}, r"fixed has 'kernel\.frequency'; allowed"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        new(**arguments).fit(Y)


def test_contradicting_widths():
    y = xr.DataArray(Y, dims=("time", "unit"), attrs={"bin_s": 0.05})
    with pytest.raises(ValueError, match=r"bin_s is 0\.02 but y was binned at 0\.05"):
        new().fit(y)
    found = new(bin_s=0.05).fit(y)
    with pytest.raises(ValueError, match=r"bin_s"):
        found.smooth(y.assign_attrs(bin_s=0.1))


@pytest.mark.parametrize("method", ["smooth", "score"])
def test_other_units_than_the_fit(model, method):
    with pytest.raises(ValueError, match=r"y has 3 units; the model was fitted to 10"):
        getattr(model, method)(Y)
    with pytest.raises(ValueError, match=r"y\[4, 1\] is 0\.5"):
        getattr(model, method)(np.hstack([with_entry(0.5), np.ones((20, 7))]))


@pytest.mark.parametrize(
    "times", [[], [[0.1]], [0.2, 0.1], [0.1, 0.1], [0.1, np.nan], [0.1, np.inf], 0.3], ids=repr
)
def test_bad_times(model, times):
    with pytest.raises(ValueError, match=r"times must be one axis of increasing finite seconds"):
        model.predict(times)


def test_bad_numbers_of_steps_and_draws(model):
    for steps in (0, -1, 1.5, "3"):
        with pytest.raises(ValueError, match=r"steps must be a whole number"):
            model.forecast(steps)
        with pytest.raises(ValueError, match=r"n must be a whole number"):
            model.sample(steps)


def test_a_failed_fit_leaves_the_last_one(sim):
    found = new().fit(sim.y)
    before = found.score()
    with pytest.raises(ValueError, match="is 0.5"):
        found.fit(with_entry(0.5))
    assert found.score() == before


def test_nothing_is_written_to_the_data(sim):
    y = [values.copy() for values in sim.y]
    for values in y:
        values.flags.writeable = False
    found = new().fit(y)
    found.smooth(y), found.predict([0.1], y), found.forecast(1, y), found.sample(1, y), found.score(y)
    for one, two in zip(y, sim.y):
        np.testing.assert_array_equal(one, two)


def test_warnings_are_for_the_user_only(sim):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new(likelihood="negative_binomial").fit(sim.y).smooth()
