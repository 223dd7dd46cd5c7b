"""OnlineChangePoints: one stream however it is cut, saved or restarted, and what it refuses."""

import inspect

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import hidamari as hd

CASES = {
    "focus": {},
    "focus, sum": {"combine": "sum", "mean": [3.0, 3.0]},
    "focus, counts": {"likelihood": "poisson"},
    "focus, innovations": {"kernel": hd.Matern(0, 0.5), "noise": 0.5, "bin_s": 0.1},
    "cusum": {"method": "cusum"},
    "cusum, counts": {"method": "cusum", "likelihood": "poisson", "shift": 1.5},
    "run_length": {"method": "run_length", "max_run_lengths": 40},
    "run_length, counts": {"method": "run_length", "likelihood": "poisson", "prior": {"shape": 2.0}},
    "onnc": {"method": "onnc", "lag": 20, "window": 3, "network": {"hidden": 20, "learning_rate": 0.01}},
    "onnr": {
        "method": "onnr",
        "lag": 20,
        "window": 3,
        "network": {"optimiser": "rmsprop", "learning_rate": 0.003},
    },
}
THRESHOLDS = {"focus": 12.0, "cusum": 16.0, "run_length": 3.0, "onnc": 0.6, "onnr": 0.6}


def make(case, **more):
    arguments = {"warm_up": 50, **CASES[case], **more}
    if "average_run_length" not in more:
        arguments.setdefault("threshold", THRESHOLDS[arguments.get("method", "focus")])
    return hd.OnlineChangePoints(**arguments)


def data(case, rng, n=300, at=200):
    after = np.arange(n)[:, None] >= at
    if CASES[case].get("likelihood") == "poisson":
        y = rng.poisson(np.where(after, 8.0, 2.0), (n, 2)).astype(float)
    else:
        y = 3.0 + 2.0 * (rng.normal(size=(n, 2)) + 4.0 * after)
    y[rng.random(y.shape) < 0.05] = np.nan
    return y


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_rows_pieces_and_a_whole_recording_are_one_stream(case, restart, rng, tmp_path):
    y = data(case, rng)
    whole = make(case, restart=restart).fit(y)
    single = make(case, restart=restart)
    found = [single.update(row) for row in y]
    np.testing.assert_array_equal([a.score for a in found], whole.scores_)
    np.testing.assert_array_equal([a.alarm for a in found], whole.alarms_)
    assert [a.row for a in found] == list(range(len(y))) and single.n_rows_ == len(y)
    pieces, scores = make(case, restart=restart), []
    for i, piece in enumerate(np.split(y, [1, 30, 49, 50, 201])):
        scores.append(pieces.partial_fit(piece).scores_)
        pieces.save(tmp_path / f"{i}.npz")
        pieces = hd.load(tmp_path / f"{i}.npz")
    np.testing.assert_array_equal(np.concatenate(scores), whole.scores_)
    for model in (single, pieces):
        np.testing.assert_array_equal(model.change_points_, whole.change_points_)
        np.testing.assert_array_equal(model.alarm_rows_, whole.alarm_rows_)
    assert len(whole.change_points_) and (whole.change_points_ <= whole.alarm_rows_).all()
    np.testing.assert_array_equal(np.isin(whole.alarm_rows_, np.flatnonzero(whole.alarms_)), True)
    if restart:
        assert [a.row for a in found if a.alarm] == whole.alarm_rows_.tolist()
        assert [a.change_point for a in found if a.alarm] == whole.change_points_.tolist()


@pytest.mark.parametrize("case", [c for c in CASES if "innovations" not in c])
def test_a_large_change_is_found_where_it_is(case, rng):
    model = make(case).fit(data(case, rng))
    assert (np.abs(model.change_points_ - 200) <= 12).any()
    assert (model.alarm_rows_ >= 200).all()


@pytest.mark.parametrize("case", CASES)
def test_saved_files_are_equal_and_go_on(case, rng, tmp_path):
    y = data(case, rng)
    model = make(case).fit(y[:150])
    model.save(tmp_path / "a.npz")
    loaded = hd.load(tmp_path / "a.npz")
    assert repr(loaded) == repr(model)
    loaded.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    for row in y[150:]:
        one, two = model.update(row), loaded.update(row)
        assert one == two or np.isnan([one.score, two.score]).all()


def test_fit_forgets_and_reset_forgets(rng):
    y = data("focus", rng)
    model = make("focus").fit(y)
    first = model.scores_.copy()
    model.partial_fit(y)
    assert model.n_rows_ == 600 and not np.array_equal(first, model.scores_, equal_nan=True)
    np.testing.assert_array_equal(model.fit(y).scores_, first)
    assert not [name for name in vars(model.reset()) if name.endswith("_")]
    assert not [name for name in vars(clone(model.fit(y))) if name.endswith("_")]


def test_units_of_measurement_do_not_matter(rng):
    y = data("focus", rng)
    for case in ("focus", "cusum", "run_length", "onnc"):
        one, two = make(case).fit(y), make(case).fit(1e3 * y - 7e4)
        np.testing.assert_array_equal(one.change_points_, two.change_points_)
        np.testing.assert_allclose(one.scores_, two.scores_, rtol=1e-4, atol=1e-4)


def test_given_mean_and_scale_leave_no_warm_up(rng):
    y = data("focus", rng)
    given = make("cusum", mean=[3.0, 3.0], scale=2.0).fit(y)
    assert np.isfinite(given.scores_).all()
    by_hand = make("cusum", mean=0.0, scale=1.0).fit((y - 3.0) / 2.0)
    np.testing.assert_allclose(given.scores_, by_hand.scores_, rtol=1e-12)
    learnt = make("focus").fit(y)
    assert np.isnan(learnt.scores_[:50]).all() and np.isfinite(learnt.scores_[50:]).all()
    np.testing.assert_allclose(learnt.scale_, np.nanstd(y[:50], axis=0, ddof=1), rtol=1e-12)


def test_the_threshold_keeps_its_promise():
    model = hd.OnlineChangePoints(average_run_length=1000.0, warm_up=100)
    alarms = rows = 0
    for seed in range(40):
        model = hd.OnlineChangePoints(average_run_length=1000.0, warm_up=100)
        model.fit(np.random.default_rng(seed).normal(7.0, 3.0, (3100, 2)))
        alarms, rows = alarms + len(model.alarm_rows_), rows + 3000
    assert 0.03 < model.threshold_error_ < 0.2
    assert abs(np.log(rows / alarms / 1000.0)) < 0.45  # 120 alarms: 0.09; the threshold itself: 0.06


def test_the_constructor_only_stores_and_nothing_given_is_changed(rng):
    names = inspect.signature(hd.OnlineChangePoints).parameters
    wrong = {name: object() for name in names}
    model = hd.OnlineChangePoints(**wrong)
    assert vars(model) == wrong == model.get_params(deep=False)
    y, mean = data("focus", rng), np.array([3.0, 3.0])
    y.flags.writeable = mean.flags.writeable = False
    model = hd.OnlineChangePoints(mean=mean, scale=2.0, threshold=12.0)
    assert model.fit(y) is model and model.mean is mean and model.n_features_in_ == 2
    for row in y:
        model.update(row)
    again = eval(repr(model), {"OnlineChangePoints": hd.OnlineChangePoints, "array": np.array})
    assert repr(again) == repr(model)


def test_labelled_recordings_are_read(rng):
    xr = pytest.importorskip("xarray")
    y = data("focus", rng)
    labelled = xr.DataArray(y.T, dims=("unit", "time"), coords={"unit": ["a", "b"]})
    np.testing.assert_array_equal(make("focus").fit(labelled).scores_, make("focus").fit(y).scores_)


@pytest.mark.parametrize(
    "case, change",
    [
        ("run_length", {"max_run_lengths": 60}),
        ("onnc", {"lag": 30}),
        ("onnr", {"method": "focus"}),
        ("focus", {"kernel": hd.Matern(2, 0.5)}),
    ],
)
def test_other_arguments_in_the_middle_of_a_stream_are_refused(case, change, rng):
    y = data(case, rng)
    model = make(case).fit(y).set_params(**change)
    for take in (lambda: model.update(y[0]), lambda: model.partial_fit(y)):
        with pytest.raises(ValueError, match=r"begun with other arguments; call reset\(\) after set_params"):
            take()
    assert model.fit(y).n_rows_ == 300


def test_a_spoilt_state_writes_nowhere_else(rng):
    for case, name in (("run_length", "used"), ("focus", "size")):
        model = make(case).fit(data(case, rng)[:100])
        for wrong in (-(10**12), 10**12):
            model.state_[name][:] = wrong
            assert isinstance(model.update([3.0, 3.0]).alarm, bool)


def test_memory_does_not_grow(rng):
    for case in CASES:
        model = make(case, threshold=np.inf).fit(data(case, rng))
        before = sum(value.nbytes for value in model.state_.values())
        model.partial_fit(data(case, rng, 3000))
        assert sum(value.nbytes for value in model.state_.values()) == before < 2e6
        assert model.n_rows_ == 3300


def test_no_rows_no_answers():
    model = hd.OnlineChangePoints("run_length")
    with pytest.raises(NotFittedError, match="OnlineChangePoints is not fitted yet"):
        model.run_length_posterior()
    model.update([1.0])
    with pytest.raises(ValueError, match="begins after warm_up=200 rows, found 1"):
        model.run_length_posterior()


def test_the_posterior_of_the_run_length(rng):
    y = rng.normal(size=(120, 1)) + 6.0 * (np.arange(120) >= 100)[:, None]
    model = hd.OnlineChangePoints("run_length", mean=0.0, scale=1.0, threshold=np.inf).fit(y)
    lengths, mass = model.run_length_posterior()
    assert lengths[np.argmax(mass)] == 20 and mass.sum() == pytest.approx(1.0, abs=1e-12)
    assert model.lost_mass_ == 0.0 and len(lengths) == 120
    with pytest.raises(ValueError, match="method must be 'run_length'"):
        hd.OnlineChangePoints(threshold=5.0).fit(y).run_length_posterior()


def test_the_published_mode_looks_back(rng):
    y = rng.normal(size=(900, 2)) + 3.0 * ((np.arange(900) // 300) % 2)[:, None]
    model = hd.OnlineChangePoints("onnc", mode="published", lag=50).fit(y)
    heights = model.scores_[model.change_points_]
    best = np.sort(model.change_points_[np.argsort(heights)[-2:]])
    assert (np.abs(best - [300, 600]) < 30).all()
    for call in (lambda: model.update(y[0]), lambda: model.partial_fit(y)):
        with pytest.raises(ValueError, match="mode='published' looks back over a whole recording"):
            call()


def test_wandering_that_a_kernel_foretells_is_no_change(rng):
    kernel, n = hd.Matern(0, 3.0, 4.0), 2000
    path = np.zeros((n, 1))
    for t in range(1, n):
        path[t] = np.exp(-0.1 / 3.0) * path[t - 1] + np.sqrt(4.0 * -np.expm1(-0.2 / 3.0)) * rng.normal()
    y = path + rng.normal(size=(n, 1))
    plain = hd.OnlineChangePoints(threshold=15.0).fit(y)
    foretold = hd.OnlineChangePoints(threshold=15.0, kernel=kernel, noise=1.0, bin_s=0.1).fit(y)
    assert len(plain.change_points_) > 5 and len(foretold.change_points_) == 0
    y[1500:] += 12.0
    again = foretold.fit(y)
    assert 1500 <= again.alarm_rows_[0] <= 1520


BAD = [
    ({"method": "pelt"}, "method must be one of"),
    ({"likelihood": "binomial"}, "likelihood must be one of"),
    ({"combine": "mean"}, "combine must be one of"),
    ({"mode": "offline"}, "mode must be one of"),
    ({"mode": "published"}, "mode must be 'causal' with method='focus'"),
    ({"warm_up": 1}, "warm_up must be a whole number of at least 2"),
    ({"lag": 0}, "lag must be a whole number"),
    ({"window": 2.5}, "window must be a whole number"),
    ({"periods": -1}, "periods must be a whole number"),
    ({"max_run_lengths": 1}, "max_run_lengths must be"),
    ({"average_run_length": -5.0}, "average_run_length must be a positive"),
    ({"average_run_length": 1.0}, "average_run_length must be at least 2"),
    ({"threshold": np.nan}, "threshold must be a number or None, found nan"),
    ({"threshold": "high"}, "threshold must be a number or None"),
    ({"shift": 0.0}, "shift must be"),
    ({"method": "cusum", "likelihood": "poisson", "shift": 0.5}, "shift must be a factor above 1"),
    ({"hazard": 1.0}, "hazard must be between 0 and 1"),
    ({"scale": 0.0}, "scale must be finite and positive"),
    ({"scale": [1.0, 2.0, 3.0]}, "scale must be one number or 2, one a unit"),
    ({"mean": np.inf}, "mean must be finite"),
    ({"mean": "zero"}, "mean must be one number or 2"),
    ({"likelihood": "poisson", "scale": 2.0}, "scale must be None"),
    ({"likelihood": "poisson", "mean": -1.0}, "mean must be finite and positive"),
    ({"likelihood": "poisson", "method": "onnc"}, "likelihood must be 'gaussian' with method='onnc'"),
    ({"likelihood": "poisson", "kernel": hd.Matern()}, "kernel must be None for likelihood='poisson'"),
    ({"kernel": "matern"}, "kernel must be a Kernel or None"),
    ({"noise": 0.0}, "noise must be"),
    ({"bin_s": np.nan}, "bin_s must be"),
    ({"prior": 3}, "prior must be a mapping or None"),
    ({"prior": {"scale": 1.0}}, r"prior has \['scale'\]; allowed are"),
    ({"prior": {"mean": np.nan}}, r"prior\['mean'\] must be a finite number"),
    ({"prior": {"rate": -1.0}}, r"prior\['rate'\] must be a positive finite number"),
    ({"network": {"hidden": 0}}, r"network\['hidden'\] must be a whole number"),
    ({"network": {"optimiser": "sgd"}}, r"network\['optimiser'\] must be 'adam' or 'rmsprop'"),
]


@pytest.mark.parametrize("arguments, message", BAD, ids=lambda v: str(v)[:40])
def test_bad_arguments_are_refused_by_name(arguments, message):
    for take in (lambda m: m.fit(np.zeros((3, 2))), lambda m: m.update([0.0, 0.0])):
        model = hd.OnlineChangePoints(**arguments)
        with pytest.raises(ValueError, match=message):
            take(model)
        assert not [name for name in vars(model) if name.endswith("_")]


@pytest.mark.parametrize(
    "row, message",
    [
        ([1.0], "y_t has 1 features, but OnlineChangePoints is expecting 2 features as input"),
        ([1.0, 2.0, 3.0], "y_t has 3 features, but OnlineChangePoints is expecting 2 features as input"),
        ([1.0, np.inf], "y_t must be finite or NaN"),
        ([[1.0, 2.0]], r"y_t must have shape \(unit,\), found \(1, 2\)"),
        ([], r"y_t must have shape \(unit,\)"),
        ("three", "y_t must be numbers"),
        ([1.0, 0.5], "y_t must hold counts for likelihood='poisson', found 0.5"),
        ([1.0, -1.0], "y_t must hold counts"),
    ],
)
def test_bad_rows_are_refused_and_change_nothing(row, message, rng):
    y = rng.poisson(2.0, (100, 2))
    model = hd.OnlineChangePoints(likelihood="poisson", threshold=20.0).fit(y)
    before = {name: value.copy() for name, value in model.state_.items()}
    with pytest.raises(ValueError, match=message):
        model.update(row)
    for name, value in before.items():
        np.testing.assert_array_equal(model.state_[name], value)
    assert model.n_rows_ == 100


def test_bad_recordings_are_refused(rng):
    model = hd.OnlineChangePoints(threshold=20.0, warm_up=10)
    with pytest.raises(ValueError, match=r"X must be one recording .* found 3 trials"):
        model.fit(np.zeros((3, 10, 2)))
    with pytest.raises(ValueError, match="X does not vary in unit 1 in warm_up=10 rows; give scale"):
        model.fit(np.column_stack([rng.normal(size=20), np.ones(20)]))
    hidden = rng.normal(size=(20, 2))
    hidden[1:, 0] = np.nan
    with pytest.raises(ValueError, match="X has 1 observed entries of unit 0 in warm_up=10 rows"):
        model.fit(hidden)
    model.fit(rng.normal(size=(20, 2)))
    with pytest.raises(ValueError, match="X has 3 features, but OnlineChangePoints is expecting 2 features"):
        model.partial_fit(np.zeros((5, 3)))
