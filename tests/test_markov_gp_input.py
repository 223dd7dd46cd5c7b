"""hd.MarkovGP: every form of input gives the same numbers, and what is refused is named."""

import datetime

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hidamari as hd

T = np.array([0.0, 2.0, 1.0, 5.0, 3.5])
Y = np.array([1.0, 3.0, 2.0, 0.0, 4.0])


def new(likelihood="gaussian", **arguments):
    likelihood = hd.Gaussian(0.3) if likelihood == "gaussian" else likelihood
    kernel = arguments.pop("kernel", hd.Matern(1, 2.0))
    return hd.MarkovGP(kernel, likelihood, **{"learn": False, "mean": 0.0, "progress": False, **arguments})


def answer(times, y=None, **arguments):
    return new().fit(times, y, **arguments).smooth().latent_mean.values


REFERENCE = answer(T, Y)


def masked(values, fill=1e6):
    return np.ma.array(np.append(values, fill), mask=[False] * len(values) + [True])


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


FORMS = {
    "lists": (T.tolist(), Y.tolist()),
    "tuples": (tuple(T), tuple(Y)),
    "column": (T, Y[:, None]),
    "float32": (T.astype("f4"), Y.astype("f4")),
    "float16": (T.astype("f2"), Y.astype("f2")),
    "uint8": (T, Y.astype("u1")),
    "int64": (T, Y.astype("i8")),
    "big endian": (T.astype(">f8"), Y.astype(">f8")),
    "strided": (np.repeat(T, 2)[::2], np.repeat(Y, 3)[::3]),
    "read only": (read_only(T), read_only(Y)),
    "fortran": (T, np.asfortranarray(Y[:, None])),
    "object": (T, Y.astype(object).tolist()),
    "series": (pd.Series(Y, index=T), None),
    "frame": (pd.DataFrame({"a": Y}, index=T), None),
    "data array": (xr.DataArray(Y, dims="time", coords={"time": T}), None),
    "two dims": (xr.DataArray(Y[None], dims=("output", "time"), coords={"time": T}), None),
    "times beside a series": (T, pd.Series(Y)),
    "nullable": (T, pd.Series(Y, dtype="Float64")),
    "one trial": ([T], [Y]),
    "a batch": (T[None], Y[None]),
    "trials of columns": ([T], [Y[:, None]]),
    "lists in lists": ([T.tolist()], [Y.tolist()]),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_give_the_same_numbers(form):
    found = answer(*FORMS[form])
    np.testing.assert_allclose(found.ravel(), REFERENCE, rtol=1e-12)


def test_inputs_are_not_changed():
    y, t = Y.copy(), T.copy()
    new().fit(t, y, error=0.1)
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(t, T)


def test_missing_entries():
    hole = Y.copy()
    hole[2] = np.nan
    kept = [0, 1, 3, 4]
    expected = answer(T[kept], Y[kept])
    for y in (hole, np.ma.masked_invalid(np.where(np.isnan(hole), 1e9, hole)), hole.tolist()):
        if isinstance(y, np.ma.MaskedArray):
            y.mask = np.isnan(hole)
        np.testing.assert_allclose(answer(T, y)[kept], expected, rtol=1e-12)
    infinite = np.where(np.isnan(hole), np.inf, 0.0)
    np.testing.assert_allclose(answer(T, Y, error=infinite)[kept], expected, rtol=1e-12)
    model = new().fit(T, np.full(5, np.nan))
    assert model.log_evidence_ == 0.0 and model.score() == 0.0
    np.testing.assert_allclose(model.smooth().latent_var, 1.0)
    learnt = hd.MarkovGP(progress=False).fit(T, np.full(5, np.nan))
    assert learnt.message_ == "there is nothing to learn" and np.isfinite(learnt.smooth()["mean"]).all()


def test_short_series():
    for n in (1, 2):
        found = hd.MarkovGP(progress=False, max_iter=50, fixed=["kernel", "likelihood"]).fit(T[:n], Y[:n])
        assert np.isfinite(found.smooth()["mean"]).all()
    np.testing.assert_allclose(new().fit([3.0], [1.3]).smooth()["mean"], 1.0)


def test_one_entry_teaches_nothing():
    for y in ([2.0], [np.nan, 2.0]):
        model = hd.MarkovGP(progress=False).fit(T[: len(y)], y)
        assert model.message_ == "there is nothing to learn" and model.mean_[0] == 2.0
        assert model.smooth().latent_var.values.max() > 1e-3


ODD = {
    "constant": (T, np.full(5, 3.0), "gaussian"),
    "zero": (T, np.zeros(5), "gaussian"),
    "equal times": (np.ones(5), Y, "gaussian"),
    "nanoseconds": (1.7e18 + 1e9 * T, Y, "gaussian"),
    "tiny": (T, 1e-12 * Y, "gaussian"),
    "huge": (T, 1e12 * Y, "gaussian"),
    "silent output": (T, np.c_[Y, np.full(5, np.nan)], "gaussian"),
    "clusters": (np.r_[T, 1e6 + T], np.r_[Y, Y], "gaussian"),
    "line": (T, 3.0 * T, "gaussian"),
    "no counts": (np.arange(50.0), np.zeros(50), "poisson"),
    "no dispersed counts": (np.arange(50.0), np.zeros(50), "negative_binomial"),
    "one class": (np.arange(50.0), np.ones(50, bool), "bernoulli"),
    "two halves": (np.arange(50.0), np.arange(50) > 25, "bernoulli"),
    "a burst": (np.arange(50.0), np.where(np.arange(50) == 30, 100_000, 1), "poisson"),
    "outliers": (np.arange(50.0), np.where(np.arange(50) % 9, np.sin(np.arange(50) / 5), 9.0), "student_t"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_data_settle_on_finite_answers(name):
    """Warnings are errors here: it settles, in few seconds, and its mean is about that of the data."""
    times, y, likelihood = ODD[name]
    model = hd.MarkovGP(likelihood=likelihood, progress=False).fit(times, y)
    found = model.smooth()
    assert all(np.isfinite(found[name]).all() for name in found.data_vars)
    assert (found.latent_var > 0.0).all()
    if name not in ("silent output", "outliers"):
        scale = np.abs(y).max() or 1.0
        assert np.mean(found["mean"].values) == pytest.approx(np.mean(y), abs=0.02 * scale)


def test_outputs_in_unequal_units_are_told_of():
    y = np.c_[Y, 1e4 * Y]
    with pytest.warns(UserWarning, match="share one kernel and its variance"):
        model = hd.MarkovGP(progress=False).fit(T, y)
    assert np.isfinite(model.smooth()["mean"]).all()
    with pytest.raises(ValueError, match=r"y holds 1e\+200; allowed: sizes up to 1e\+150"):
        new().fit(T, np.full(5, 1e200))
    with pytest.raises(ValueError, match=r"y holds 1e\+15; allowed: counts up to 1e\+12"):
        hd.MarkovGP(likelihood="poisson").fit(T, np.full(5, 1e15))


def test_nile_by_default():
    """J. Durbin and S. J. Koopman, Time Series Analysis by State Space Methods, 2012, section 2.10.3."""
    model = hd.MarkovGP(hd.Wiener(0), progress=False).fit(hd.datasets.load_nile())
    assert model.likelihood_.variance == pytest.approx(15_099, rel=5e-4)
    assert model.kernel_.variance == pytest.approx(1_469, rel=1e-3)


def test_dates():
    days = pd.date_range("2020-02-27", periods=5, freq="D")
    expected = answer(np.arange(5.0), Y)
    forms = {
        "index": days,
        "aware": days.tz_localize("Europe/Paris"),
        "numpy": days.to_numpy(),
        "coarse": days.to_numpy().astype("datetime64[D]"),
        "python": [stamp.to_pydatetime() for stamp in days],
        "dates": [stamp.date() for stamp in days],
    }
    for name, times in forms.items():
        model = new(time_unit="D").fit(times, Y)
        np.testing.assert_allclose(model.smooth().latent_mean, expected, rtol=1e-12, err_msg=name)
    found = model.smooth()
    np.testing.assert_array_equal(found.time, days.to_numpy().astype("datetime64[ns]"))
    assert found.attrs["time_unit"] == "D"
    ahead = model.forecast(2).time.values
    np.testing.assert_array_equal(ahead, np.array(["2020-03-03", "2020-03-04"], "datetime64[ns]"))
    later = model.predict([datetime.datetime(2020, 2, 28, 12)])
    np.testing.assert_allclose(later.latent_mean, new().fit(np.arange(5.0), Y).predict([1.5]).latent_mean)
    with pytest.raises(ValueError, match="times holds numbers, but the times of the fit are dates"):
        model.predict([3.0])
    with pytest.raises(ValueError, match="times holds dates, but the times of the fit are numbers"):
        new().fit(T, Y).predict(days)
    np.testing.assert_allclose(
        new(time_unit="s", kernel=hd.Matern(1, 2.0 * 86400)).fit(pd.Series(Y, days)).smooth().latent_mean,
        expected,
        rtol=1e-10,
    )
    years = np.arange("1700", "2000", 100, dtype="datetime64[Y]")
    assert new(time_unit="Y").fit(years, Y[:3]).times_[-1] == pytest.approx(200, abs=0.01)
    gaps = np.arange(5) * np.timedelta64(1500, "ms")
    np.testing.assert_allclose(new().fit(gaps, Y).times_, 1.5 * np.arange(5))


def test_trials_of_any_length_and_times():
    trials = [T, T[:3] + 0.25]
    values = [np.stack([Y, -Y], 1), np.ones((3, 2))]
    found = new().fit(trials, values).smooth()
    assert found.latent_mean.dims == ("trial", "time", "output")
    assert found.n_bins.values.tolist() == [5, 3]
    np.testing.assert_array_equal(found.trial_time[1], [0.25, 2.25, 1.25, np.nan, np.nan])
    assert np.isnan(found.latent_mean.values[1, 3:]).all()
    np.testing.assert_allclose(found.latent_mean[0, :, 1], -REFERENCE, rtol=1e-12)
    shared = new().fit(np.arange(4.0), np.ones((3, 4, 2)))
    assert shared.smooth().time.values.tolist() == [0, 1, 2, 3]
    own = shared.predict([[0.5], [1.5, 2.0], [9.0]])
    assert own.n_bins.values.tolist() == [1, 2, 1]
    assert new().fit(np.ones((3, 4, 2))).times_.tolist() == [0, 1, 2, 3] * 3
    binned = xr.DataArray(np.ones((4, 2)), dims=("time", "unit"), attrs={"bin_s": 0.5})
    assert new().fit(binned).times_.tolist() == [0.25, 0.75, 1.25, 1.75]


BAD = {
    "length": ((T[:4], Y), "times has 4 entries but y has 5 rows"),
    "no rows": (([], []), r"y"),
    "empty": ((np.empty(0), np.empty((0, 1))), r"y has shape \(0, 1\)"),
    "inf": ((T, np.array([1, 2, np.inf, 0, 0])), r"y\[2, 0\] is inf"),
    "nan time": (([0, np.nan, 1, 2, 3], Y), r"times\[1\] is nan; allowed: finite times"),
    "inf time": (([0, 1, 2, 3, np.inf], Y), r"times\[4\] is inf"),
    "NaT": ((np.array(["2020", "NaT"], "M8[Y]"), Y[:2]), r"times\[1\] is NaT"),
    "strings": ((["a", "b"], Y[:2]), "times holds strings"),
    "complex": ((T, Y + 1j), "y holds complex numbers"),
    "complex times": ((T + 1j, Y), "times holds complex numbers"),
    "text": ((T, ["a"] * 5), "y holds strings"),
    "none": ((None, None), "y is of type NoneType"),
    "masked times": ((masked(T), np.append(Y, 1)), "times has masked entries"),
    "four dims": ((T, np.ones((1, 1, 5, 1))), r"y has shape \(1, 1, 5, 1\)"),
    "two axes of times": ((np.ones((5, 2)), np.ones((5, 3))), r"times has shape \(5, 2\)"),
    "number of trials": (([T, T], [Y, Y, Y]), "times has 2 trials but y has 3"),
    "trial length": (([T, T[:4]], [Y, Y]), r"times\[1\] has 4 entries but y\[1\] has 5 rows"),
    "outputs of trials": (([T, T], [np.ones((5, 2)), np.ones((5, 3))]), r"y\[1\] has 3 units"),
    "labels": ((pd.Series(Y, list("abcde")), None), "y's times holds"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data(case):
    arguments, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        new().fit(*arguments)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (-1.0, r"error\[0, 0\] is -1"),
        ([0.1, 0.1, np.nan, 0.1, 0.1], r"error\[2, 0\] is nan"),
        ([0.1, 0.2], r"error has shape \(2,\); allowed: one number, or that of y, \(5, 1\)"),
        ("wide", "error is not an array of numbers"),
    ],
)
def test_bad_error_bars(error, message):
    with pytest.raises(ValueError, match=message):
        new().fit(T, Y, error=error)


def test_error_bars_are_for_gaussian_noise():
    with pytest.raises(ValueError, match="error is for Gaussian noise alone"):
        new(hd.Poisson()).fit(T, Y, error=0.1)


def test_conflicting_exact_readings():
    with pytest.raises(ValueError, match=r"y has conflicting exact observations at time 2: 1 and 1\.5"):
        new(hd.Gaussian(0.0)).fit([0, 2, 2], [0, 1, 1.5])
    with pytest.raises(ValueError, match=r"y\[1\] has conflicting exact observations at time 2"):
        new(fixed={"likelihood.variance": 0}).fit([[0.0], [2.0, 2.0]], [[1.0], [1.0, 2.0]], error=0.0)
    new(hd.Gaussian(0.0)).fit([0, 2, 2], [0, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel": "matern"}, "kernel must be a Kernel or None, found 'matern'"),
        ({"likelihood": "gauss"}, "likelihood is 'gauss': allowed are 'gaussian'"),
        ({"likelihood": hd.Gaussian(np.ones(3))}, "likelihood has variance of shape"),
        ({"likelihood": hd.Bernoulli()}, r"y\[1\] is 3: allowed is 0, 1 or NaN"),
        ({"learn": 1}, "learn must be True or False, found 1"),
        ({"mean": [1.0, 2.0]}, "mean"),
        ({"mean": np.nan}, "mean"),
        ({"mean": "zero"}, "mean"),
        ({"n_init": 0}, "n_init must be a whole number"),
        ({"max_iter": 2.5}, "max_iter must be a whole number"),
        ({"tol": -1.0}, "tol must be a positive finite number"),
        ({"fixed": "kernel"}, "fixed must be a mapping or a list of names"),
        ({"fixed": 3}, "fixed must be a mapping or a list of names"),
        (
            {"fixed": ["lengthscales"]},
            "fixed has 'lengthscales'; allowed here are 'kernel', 'likelihood' and",
        ),
        ({"fixed": {"kernel.lengthscale": -1.0}}, "must be positive and finite, found -1"),
        ({"fixed": {"kernel.lengthscale": [1.0, 2.0]}}, "must be one number or 1, found"),
        ({"fixed": {"kernel": 1.0}}, r"fixed\['kernel'\] takes no value"),
        ({"fixed": {"mean": np.inf}}, "finite, found inf"),
        ({"priors": [1], "learn": True}, "priors must be a mapping"),
        ({"priors": {"lengthscale": 3.0}, "learn": True}, r"priors\['lengthscale'\] must be a numpyro"),
        ({"time_unit": "year"}, "time_unit must be one of"),
        ({"n_threads": 0}, "n_threads must be at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        new(**arguments).fit(T, Y)


def test_bad_questions():
    model = new().fit(T, Y)
    for times, message in (
        ([], "times is empty"),
        ([np.nan], r"times\[0\] is nan"),
        ([[1.0], [2.0]], "times has 2 lists"),
        ("now", "times has shape"),
        (3.0, "times has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            model.predict(times)
    for call, message in (
        (lambda: model.smooth(derivatives=2), "derivatives is 2, but paths of Matern.* have 1"),
        (lambda: model.smooth(derivatives=-1), "derivatives must be a whole number"),
        (lambda: model.smooth(interval=1.5), "interval must be between 0 and 1"),
        (lambda: model.sample(0), "n must be a whole number"),
        (lambda: model.forecast(0), "steps must be a whole number"),
        (lambda: model.forecast(2), r"evenly spaced rows, found spacings from 1 to 1\.5"),
        (lambda: new().fit([1.0], [1.0]).forecast(2), "no trial has two rows"),
        (lambda: model.predict([1.0], hyperparameters="posterior"), r"call mcmc\(\) first"),
        (lambda: model.predict([1.0], hyperparameters="map"), "must be 'fit' or 'posterior'"),
        (lambda: model.score(T, np.ones((5, 2))), "y has 2 outputs; the model was fitted to 1"),
        (lambda: model.log_predictive([T, T], [Y, Y]), "y has 2 trials; the model was fitted to 1"),
        (lambda: model.fit(T, Y, exposure=0.0), "exposure must be a positive finite number"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
