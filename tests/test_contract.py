"""What every estimator keeps to, whatever it models. A new one is a new row of MODELS."""

import inspect
from typing import Any, NamedTuple

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import hidamari as hd
from hidamari.estimator import _ESTIMATORS, Estimator
from hidamari.inference import costs

COUNTS = np.random.default_rng(5).poisson(1.0, (3, 25, 6)).astype(float)
SERIES = np.random.default_rng(6).normal(size=(60, 2)) + 3.0 * (np.arange(60) > 30)[:, None]


class Row(NamedTuple):
    """An estimator: how to make it, what to fit it to, what to ask it."""

    small: dict[str, Any]  # quick to fit
    other: dict[str, Any]  # arguments of every kind
    data: np.ndarray
    methods: dict[str, tuple]  # with what they are called
    attributes: tuple[str, ...] = ()
    latents: bool = True  # whether it smooths trials of many series


SMOOTHER = {"smooth": (), "predict": ([0.1, 0.33],), "forecast": (2,), "sample": (2,), "score": ()}

MODELS = {
    "ARNet": Row(
        {"n_lags": 3},
        {
            "n_lags": [1, 2, 5],
            "penalty": "l1",
            "alpha": "bic",
            "strategy": "direct",
            "n_forecasts": 4,
            "trend": 1,
            "seasonality": {6: 1},
            "events": {"move": [31]},
            "event_window": (0, 2),
            "missing": "drop",
            "intervals": "gaussian",
            "random_state": 3,
            "time_unit": "D",
        },
        SERIES,
        {
            "smooth": (),
            "predict": (SERIES[:30],),
            "forecast": (3, SERIES[:40]),
            "sample": (2, 3),
            "score": (),
            "coefficients": (),
            "spectrum": ([0.1, 0.2],),
            "impulse_response": (4,),
        },
        ("coef_", "sigma2_", "noise_", "is_stationary_"),
        latents=False,
    ),
    "CVHM": Row(
        {"n_latents": 2, "bin_s": 0.02, "tol": 1e-3, "progress": False},
        {
            "n_latents": 2,
            "kernel": [hd.Matern(1, 0.2) + hd.Matern(0, 0.1, 0.5), hd.HidaMatern(1, 0.3, 2.0)],
            "likelihood": hd.NegativeBinomial(np.full(6, 4.0)),
            "bin_s": 0.02,
            "tol": 1e-3,
            "n_init": 2,
            "fixed": {"bias": np.full(6, np.log(50.0)), "kernel.frequency": None},
            "random_state": 3,
            "progress": False,
        },
        COUNTS,
        SMOOTHER,
    ),
    "MarkovGP": Row(
        {"tol": 1e-4, "progress": False},
        {
            "kernel": hd.Matern(1, 5.0) + hd.HidaMatern(0, 10.0, 0.1, 0.3),
            "likelihood": hd.NegativeBinomial(np.full(6, 4.0)),
            "mean": np.zeros(6),
            "fixed": {"first.variance": 0.5, "likelihood": None, "kernel.second": None},
            "n_init": 2,
            "tol": 1e-4,
            "random_state": 3,
            "progress": False,
            "time_unit": "D",
        },
        COUNTS,
        SMOOTHER,
    ),
    # Epochs of no learning: what is compiled for it is tested elsewhere.
    "MGPVAE": Row(
        {"n_latents": 1, "decoder": (), "encoder": (), "max_epochs": 0, "progress": False},
        {
            "n_latents": 2,
            "kernel": [hd.Matern(1, 5.0), hd.HidaMatern(0, 10.0, 0.1, 0.3)],
            "likelihood": "gaussian",
            "decoder": [3],
            "encoder": (4,),
            "sites": 1,
            "learn_kernel": False,
            "max_epochs": 0,
            "validation": 0.2,
            "refinements": 1,
            "bin_s": 0.5,
            "random_state": 3,
            "progress": False,
        },
        SERIES,
        {
            "transform": (),
            "impute": (None, 2),
            "reconstruct": (SERIES[:20],),
            "predict": ([0.1, 40.2],),
            "forecast": (2,),
            "sample": (2,),
            "score": (),
            "log_predictive": (SERIES,),
        },
        ("loadings_", "bias_", "noise_", "elbo_history_", "validation_"),
        latents=False,
    ),
    "DCDP": Row(
        {},
        {
            "model": costs.MeanVariance(step=0.0),
            "penalty": 15.0,
            "search": "optimal",
            "min_length": 4,
            "interval": 0.9,
            "simultaneous": True,
        },
        SERIES,
        {"predict": (SERIES,), "transform": (SERIES,)},
        ("change_points_", "intervals_", "probability_", "cost_", "penalty_", "noise_"),
        latents=False,
    ),
    "OnlineChangePoints": Row(
        {"threshold": 8.0, "warm_up": 10},
        {"method": "run_length", "threshold": 0.8, "warm_up": 10, "hazard": 0.02, "random_state": 3},
        SERIES,
        {},
        ("change_points_", "scores_", "alarms_"),
        latents=False,
    ),
}
SMOOTHERS = [name for name, row in MODELS.items() if row.latents]


def answers(model):
    """Everything a fitted model says, as arrays by name."""
    row, found = MODELS[type(model).__name__], {}
    for method, arguments in row.methods.items():
        answer = getattr(model, method)(*arguments)
        if hasattr(answer, "data_vars"):
            found.update({f"{method}.{name}": answer[name].values for name in answer.data_vars})
        else:
            parts = answer if isinstance(answer, tuple) else (answer,)
            found.update({f"{method}.{i}": np.asarray(part) for i, part in enumerate(parts)})
    return found | {name: np.asarray(getattr(model, name)) for name in row.attributes}


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_every_estimator_is_here():
    assert set(MODELS) == set(_ESTIMATORS)
    for name in MODELS:
        assert issubclass(getattr(hd, name), Estimator) and name in hd.__all__


def cases(names):
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param((getattr(hd, name), MODELS[name][i], MODELS[name].data), id=f"{name}-{i}")
            for name in names
            for i in (0, 1)
        ],
    )


@cases(MODELS)
def test_the_constructor_only_stores(case):
    make, arguments, _ = case
    model = make(**arguments)
    for name, value in arguments.items():
        assert getattr(model, name) is value
    assert set(vars(model)) == set(model.get_params(deep=False)) == set(inspect.signature(make).parameters)
    wrong = make(**{name: object() for name in inspect.signature(make).parameters})
    assert all(type(value) is object for value in wrong.get_params(deep=False).values())


@cases(MODELS)
def test_clone_and_set_params(case):
    make, arguments, y = case
    model = make(**arguments).fit(y)
    fresh = clone(model)
    assert repr(fresh) == repr(model)
    assert not [name for name in vars(fresh) if name.endswith("_")]
    assert_same(answers(fresh.fit(y)), answers(model))
    for name in arguments:
        assert fresh.set_params(**{name: None}).get_params()[name] is None


@cases(MODELS)
def test_fit_returns_itself_and_changes_no_argument(case):
    make, arguments, y = case
    model = make(**arguments)
    before = {name: (id(value), repr(value)) for name, value in model.get_params(deep=False).items()}
    given = y.copy()
    given.flags.writeable = False
    assert model.fit(given) is model
    assert before == {name: (id(v), repr(v)) for name, v in model.get_params(deep=False).items()}
    learnt = {name for name in vars(model) if name not in before}
    assert learnt and all(name.endswith("_") and not name.startswith("_") for name in learnt)
    assert model.n_features_in_ == y.shape[-1]


@cases(MODELS)
def test_questions_before_a_fit(case):
    make, arguments, _ = case
    for method, given in MODELS[make.__name__].methods.items():
        message = rf"{make.__name__} is not fitted yet; call fit\([yXY]\) first"
        with pytest.raises(NotFittedError, match=message):
            getattr(make(**arguments), method)(*given)


@cases(MODELS)
def test_the_same_seed_gives_the_same_bits(case):
    make, arguments, y = case
    one, two = make(**arguments).fit(y), make(**arguments).fit(y)
    assert_same(answers(one), answers(two))
    assert_same(answers(one.fit(y)), answers(two))


@cases(SMOOTHERS)
def test_threads_do_not_show(case):
    make, arguments, y = case
    model = make(**arguments).fit(y)
    for n_threads in (1, 2):
        other = make(**arguments, n_threads=n_threads).fit(y)
        for name, values in answers(model).items():
            np.testing.assert_allclose(answers(other)[name], values, rtol=1e-6, atol=1e-8, err_msg=name)


@cases(MODELS)
def test_save_and_load(case, tmp_path):
    make, arguments, y = case
    model = make(**arguments).fit(y)
    first, second = tmp_path / "one.npz", tmp_path / "two.npz"
    model.save(first)
    loaded = hd.load(first)
    assert type(loaded) is make and repr(loaded) == repr(model)
    assert_same(answers(loaded), answers(model))
    loaded.save(second)
    assert first.read_bytes() == second.read_bytes()
    assert_same(answers(loaded.fit(y)), answers(model))


@cases(SMOOTHERS)
def test_save_and_load_of_one_recording_with_names(case, tmp_path):
    import xarray as xr

    make, arguments, y = case
    times, units = 2.0 + 0.02 * np.arange(25), [f"u{i}" for i in range(y.shape[-1])]
    labelled = xr.DataArray(y[0], dims=("time", "unit"), coords={"time": times, "unit": units})
    model = make(**arguments).fit(labelled)
    model.save(tmp_path / "model.npz")
    loaded = hd.load(tmp_path / "model.npz")
    assert_same(answers(loaded), answers(model))
    assert loaded.smooth().identical(model.smooth())
    loaded.smooth().to_netcdf(tmp_path / "posterior.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "posterior.nc", engine="h5netcdf") as back:
        name, dim = ("rate", "unit") if "rate" in back else ("mean", "output")
        np.testing.assert_array_equal(back[name], model.smooth()[name])
        assert list(back[dim].values) == units


@cases(SMOOTHERS)
def test_missing_entries_and_trials_of_any_length(case):
    make, arguments, y = case
    holes = y.copy()
    holes[0, 3:6] = holes[1, :, 2] = np.nan
    holes[2, 7, 0] = np.nan
    for data in (holes, [holes[0], holes[1, :7], holes[2, :1]]):
        model = make(**arguments).fit(data)
        posterior = model.smooth()
        lengths = [len(trial) for trial in data]
        for trial, n in enumerate(lengths):
            for name in posterior.data_vars:
                values = posterior[name].values[trial]
                assert np.isfinite(values[:n]).all() and np.isnan(values[n:]).all()
        assert np.isfinite(model.score())


@cases(SMOOTHERS)
def test_one_trial_is_a_batch_of_one(case):
    make, arguments, y = case
    single, batch = make(**arguments).fit(y[0]).smooth(), make(**arguments).fit(y[:1]).smooth()
    for name in single.data_vars:
        assert batch[name].dims == ("trial", *single[name].dims)
        np.testing.assert_array_equal(batch[name].values[0], single[name].values)


@cases(MODELS)
def test_the_repr_makes_the_model_again(case):
    make, arguments, _ = case
    model = make(**arguments)
    names = {name: getattr(hd, name) for name in hd.__all__} | {"array": np.array}
    names |= {name: getattr(costs, name) for name in costs.__all__}
    assert repr(eval(repr(model), names)) == repr(model)
