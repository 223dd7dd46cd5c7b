"""Change points are first rows of new segments, as skchange says: X[:c[0]], X[c[0]:c[1]], ..., X[c[-1]:]."""

import numpy as np
import pytest

import hidamari as hd

LENGTHS = [30, 45, 25]
AT = [30, 75]
STEPS = np.repeat([0.0, 50.0, 10.0], LENGTHS)[:, None]


def noisy(rng):
    return STEPS + 0.1 * rng.normal(size=STEPS.shape)


def assert_convention(found, x):
    """What skchange documents of an answer, and tests of it: sorted integers that cut X into segments."""
    assert found.ndim == 1 and found.dtype.kind == "i"
    assert (np.diff(found) > 0).all() and (found > 0).all() and (found < len(x)).all()
    assert [len(part) for part in np.split(x, found)] == LENGTHS
    assert all(np.ptp(part) < 1.0 for part in np.split(x, found))


@pytest.mark.parametrize("search", ["auto", "divide", "pelt", "optimal", "seeded"])
def test_every_engine_gives_first_rows(search, rng):
    x = noisy(rng)
    model = hd.DCDP(search=search).fit(x)
    assert_convention(model.change_points_, x)
    assert_convention(model.predict(x), x)
    assert_convention(hd.DCDP(search=search).fit_predict(x), x)
    np.testing.assert_array_equal(model.transform(x), np.repeat([0, 1, 2], LENGTHS))
    assert model.segments_["start"].values.tolist() == [0, *AT]
    assert model.segments_["end"].values.tolist() == [*AT, 100]


@pytest.mark.parametrize("arguments", [{"n_changes": 2}, {"model": "mean_variance"}])
def test_every_way_to_them_gives_first_rows(arguments, rng):
    x = noisy(rng)
    assert_convention(hd.DCDP(**arguments).fit(x).change_points_, x)


def test_counts_and_their_fast_engine_give_first_rows():
    x = STEPS.copy()
    for search in ("fpop", "auto"):
        assert_convention(hd.DCDP("counts", search=search, noise="independent").fit(x).change_points_, x)


def test_the_paths_and_the_pictures_have_the_same_rows(rng):
    x = noisy(rng)
    found = [s.change_points.tolist() for s in hd.DCDP().path(x).segmentations]
    assert AT in found
    chances = hd.DCDP().fit(x).probability_
    assert sorted(np.argsort(chances)[-2:]) == AT


def test_online_alarms_name_first_rows(rng):
    model = hd.OnlineChangePoints(threshold=20.0, scale=0.1).fit(noisy(rng))
    assert model.change_points_.tolist() == AT
    assert (model.alarm_rows_ >= model.change_points_).all()


def test_no_change_is_an_empty_array_of_integers(rng):
    found = hd.DCDP().fit(rng.normal(size=(60, 1))).change_points_
    assert found.shape == (0,) and found.dtype.kind == "i"


def test_skchange_gives_the_same_rows(rng):
    detectors = pytest.importorskip("skchange.detectors")
    x = noisy(rng)
    theirs = detectors.PELT().fit(x).predict(x)
    np.testing.assert_array_equal(theirs, hd.DCDP().fit(x).change_points_)
    assert_convention(theirs, x)


def test_ruptures_gives_them_with_the_length_at_the_end(rng):
    ruptures = pytest.importorskip("ruptures")
    x = noisy(rng)
    theirs = ruptures.KernelCPD("linear", min_size=1).fit(x).predict(pen=20.0)
    assert theirs == [*hd.DCDP().fit(x).change_points_.tolist(), len(x)]
