"""scikit-learn's own checks of estimators. A new estimator is a new row of ROWS."""

import warnings
from typing import Any, NamedTuple

import pandas as pd
import pytest
import xarray as xr
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hidamari as hd

checks = pytest.importorskip("sklearn.utils.estimator_checks")
if not hasattr(checks, "estimator_checks_generator"):
    pytest.skip("scikit-learn 1.6 brought lists of expected failures", allow_module_level=True)

# Refused, as it should be, by arrays.py, which names the argument and what is allowed in the words of this
# package; the checks look for scikit-learn's.
WORDS = {
    "check_complex_data": "refused: 'X holds complex numbers; allowed: real numbers'",
    "check_dtype_object": "refused with a ValueError that names the entry, not with a TypeError",
    "check_estimators_empty_data_messages": "refused: 'allowed: at least one row and one unit'",
}


class Row(NamedTuple):
    """An estimator, and the checks that it fails, with the reason."""

    estimator: Any
    fails: dict[str, str]


ROWS = {
    "DCDP": Row(
        hd.DCDP(),
        {
            **WORDS,
            "check_methods_sample_order_invariance": "rows are in time; predict gives one number a change",
            "check_fit1d": "a vector is a recording of one unit",
            "check_fit2d_predict1d": "a vector is one unit, so the number of units is what is refused",
        },
    ),
    # A given scale leaves no warm-up, so that there are scores within the few rows of the checks.
    "OnlineChangePoints": Row(
        hd.OnlineChangePoints(threshold=8.0, scale=1.0),
        {**WORDS, "check_fit1d": "a vector is a recording of one unit"},
    ),
}


@pytest.fixture(scope="module", params=ROWS)
def outcome(request):
    """The row of an estimator, and how each of scikit-learn's checks ended: its status and its exception."""
    row, ended = ROWS[request.param], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some checks look at warnings themselves
        for result in checks.check_estimator(clone(row.estimator), on_skip=None, on_fail=None):
            ended.setdefault(result["check_name"], []).append((result["status"], result["exception"]))
    return row, ended


def test_checks_pass_but_for_those_that_are_listed(outcome):
    row, ended = outcome
    failed = {name: error for name, all_ in ended.items() for status, error in all_ if status == "failed"}
    assert {name: repr(failed[name]) for name in failed if name not in row.fails} == {}
    assert sum(status == "passed" for all_ in ended.values() for status, _ in all_) >= 30


def test_no_check_is_listed_that_passes(outcome):
    row, ended = outcome
    assert all(any(status == "failed" for status, _ in ended[name]) for name in row.fails)
    assert all(reason for reason in row.fails.values())


@pytest.mark.parametrize("name", ROWS)
def test_estimators_stand_in_pipelines(name, rng):
    X = rng.normal(size=(60, 2)) * 40.0
    pipeline = make_pipeline(StandardScaler(), clone(ROWS[name].estimator)).fit(X)
    assert pipeline[-1].n_features_in_ == 2 and pipeline.n_features_in_ == 2


def test_names_of_units(rng):
    x = rng.normal(size=(50, 2)) + [[0.0, 5.0]]
    table = pd.DataFrame(x, columns=["a", "b"])
    model = hd.DCDP().fit(table)
    assert model.feature_names_in_.tolist() == ["a", "b"] and model.feature_names_in_.dtype == object
    assert model.predict(x).tolist() == model.predict(table).tolist()  # without names, in order
    with pytest.raises(ValueError, match=r"names should match those .* during fit: \['a', 'b'\]"):
        model.predict(table[["b", "a"]])
    labelled = xr.DataArray(x, dims=("time", "unit"), coords={"unit": ["a", "c"]})
    with pytest.raises(ValueError, match=r"X has the units \['a', 'c'\]"):
        model.transform(labelled)
    for unnamed in (x, pd.DataFrame(x)):
        assert not hasattr(model.fit(unnamed), "feature_names_in_")
    assert not hasattr(hd.DCDP(), "feature_names_in_")


def test_fit_predict_and_fit_transform_are_the_fit(rng):
    X = rng.normal(size=(80, 1))
    X[30:] += 8.0
    model = hd.DCDP()
    assert model.fit_predict(X).tolist() == model.change_points_.tolist() == model.predict(X).tolist() == [30]
    assert (model.fit_transform(X) == model.transform(X)).all()
    online = ROWS["OnlineChangePoints"].estimator
    assert clone(online).fit(X).change_points_.tolist() == clone(online).fit(X[:, 0]).change_points_.tolist()


@pytest.mark.parametrize("model", [hd.DCDP(), hd.OnlineChangePoints(threshold=8.0, scale=1.0)])
def test_sparse_matrices_are_refused_by_name(model):
    from scipy.sparse import csr_array

    with pytest.raises(ValueError, match=r"X must not be sparse, found csr_array; write X.toarray\(\)"):
        model.fit(csr_array([[1.0, 0.0], [0.0, 1.0]]))
