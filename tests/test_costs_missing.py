"""Costs of many columns at once where entries are missing: against the likelihood of what was observed."""

import numpy as np
import oracles_segments as oracle
import pytest

import hidamari as hd
from hidamari.inference._patterns import gaussian
from hidamari.inference._rows import ELLIPSE
from hidamari.inference.costs import Covariance, Regression
from hidamari.inference.segments import divide_and_conquer, optimal_partitioning, pelt, seeded_binary

COSTS = [
    Covariance(),
    Covariance(centred=False),
    Regression(),
    Regression(intercept=False),
    Regression(variance="segment"),
    Regression(intercept=False, variance="segment"),
]
each = pytest.mark.parametrize("cost", COSTS, ids=str)


def series(n_rows=50, missing=0.15, seed=0, d=3):
    """Correlated columns with an offset, of which the last is the others' sum and noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, d)) @ rng.normal(size=(d, d)) + 2.0
    x = np.column_stack([x[:, :-1], x[:, :-1].sum(axis=1) + 0.5 * rng.normal(size=n_rows)])
    x[rng.random(x.shape) < missing] = np.nan
    return x


@each
def test_cost_is_the_least_of_the_observed_likelihood(cost):
    x = series(24)
    found = cost.costs(cost.prepare(x), [0, 3], [24, 24])
    for (a, b), price in zip(((0, 24), (3, 24)), found):
        if isinstance(cost, Covariance):
            expected = oracle.covariance_cost(x[a:b], cost.centred)
        else:
            z = gaussian(np.ascontiguousarray(x[:, :-1]), ELLIPSE)
            own = cost.variance == "segment"
            expected = oracle.holed_regression_cost(x[a:b], z.mean, z.covariance, cost.intercept, own)
        assert price == pytest.approx(expected, rel=1e-8)


def test_joint_gaussian_of_the_predictors():
    x = series(24)
    found = gaussian(x, ELLIPSE)
    assert found.cost == pytest.approx(oracle.observed_gaussian(x, found.mean, found.covariance), rel=1e-11)
    assert found.cost == pytest.approx(oracle.covariance_cost(x), rel=1e-8)


@each
def test_complete_segments_keep_their_digits(cost):
    x = series(missing=0.0)
    holes = x.copy()
    holes[3, 0] = holes[45:, 1] = np.nan
    whole, some = cost.prepare(x), cost.prepare(holes)
    assert cost.cost(some, 4, 45) == pytest.approx(cost.cost(whole, 4, 45), rel=1e-13)
    assert cost.cost(some, 4, 46) != pytest.approx(cost.cost(whole, 4, 45), rel=1e-6)


@each
def test_patterns_that_many_rows_share_are_summed_alike(cost):
    # Fifty rows of each pattern are summed, the same rows among many columns' worth of patterns are not.
    x = series(400, 0.0, seed=1)
    x[100:250, 0] = x[200:300:2, 1] = np.nan
    cache = cost.prepare(x)
    holes = cache.holes
    assert len(holes.rare) == 0 and holes.sums.shape[1] >= 3
    one_by_one = holes._replace(
        state=np.where(holes.state < 0, -1, np.arange(400)),
        missing=holes.missing[holes.state],
        rare=np.arange(400),
        sums=np.zeros((1, 0, holes.sums.shape[2])),
        block=400,
    )
    a, b = np.array([0, 37, 90, 130, 201]), np.array([400, 290, 110, 240, 299])
    np.testing.assert_allclose(
        cost.costs(cache, a, b), cost.costs(cache._replace(holes=one_by_one), a, b), rtol=1e-9
    )


@each
def test_invariance(cost):
    x = np.round(series(60) * 2**20) / 2**20
    reference = cost.cost(cost.prepare(x), 5, 52)
    back = cost.prepare(x[::-1])
    assert cost.cost(back, 8, 55) == pytest.approx(reference, rel=1e-9)
    longer = np.insert(x, 11, np.nan, axis=0)
    assert cost.cost(cost.prepare(longer), 5, 53) == pytest.approx(reference, rel=1e-9)
    seen = np.sum(~np.isnan(x[5:52]))
    if isinstance(cost, Covariance):
        wide = cost.cost(cost.prepare(x * [1e8, 1e-8, 1.0]), 5, 52)
        assert wide == pytest.approx(reference, rel=1e-9)  # log 1e8 and log 1e-8 of as many entries, nearly
    elif cost.variance == "common":
        assert cost.cost(cost.prepare(x * [1e8, 1e-8, 1.0]), 5, 52) == pytest.approx(reference, rel=1e-8)
    assert seen < 47 * 3


def test_splitting_never_costs_more():
    x = series(60, 0.2)
    for cost in COSTS:
        cache = cost.prepare(x)
        places = np.arange(15, 46)
        parts = cost.costs(cache, 0, places) + cost.costs(cache, places, 60)
        assert np.all(parts[np.isfinite(parts)] <= cost.cost(cache, 0, 60) + 1e-8)


def test_columns_never_seen_cost_nothing():
    x = series(40, 0.1)
    unseen = np.column_stack([x, np.full(40, np.nan)])
    expected = Covariance().cost(Covariance().prepare(x), 0, 40)
    assert Covariance().cost(Covariance().prepare(unseen), 0, 40) == pytest.approx(expected, rel=1e-12)
    assert Covariance().cost(Covariance().prepare(np.vstack([x, np.full((5, 3), np.nan)])), 40, 45) == 0.0


def test_segments_without_a_best_covariance_are_not_allowed():
    x = series(40, 0.1)
    x[10:20, 1] = np.nan
    x[12, 1] = 3.0
    cache = Covariance().prepare(x)
    assert Covariance().cost(cache, 10, 20) == np.inf
    assert np.isfinite(pelt(x, Covariance(), 5.0).cost)


def test_rows_can_be_left_out():
    x = series()
    cost = Regression(missing="drop")
    whole = x[~np.isnan(x).any(axis=1)]
    assert cost.cost(cost.prepare(x), 0, 50) == pytest.approx(oracle.regression_cost(x), rel=1e-10)
    assert cost.cost(cost.prepare(x), 0, 50) == pytest.approx(cost.cost(cost.prepare(whole), 0, len(whole)))


def test_predictors_that_cannot_be_guessed_are_refused():
    x = series(missing=0.0)
    x = np.column_stack([x[:, 0], 2.0 * x[:, 0], x[:, 2]])
    x[4, 1] = np.nan
    with pytest.raises(ValueError, match='X has missing predictors .* missing="drop"'):
        Regression().prepare(x)
    with pytest.raises(ValueError, match="missing is 'no'"):
        Regression(missing="no").prepare(x)


def test_constant_predictors_are_known_where_they_are_missing():
    x = series(missing=0.0)
    x[:, 1] = 7.0
    holes = x.copy()
    holes[4:9, 1] = np.nan
    cost = Regression()
    assert cost.cost(cost.prepare(holes), 0, 50) == pytest.approx(cost.cost(cost.prepare(x), 0, 50))


@pytest.mark.parametrize("engine", [divide_and_conquer, optimal_partitioning, seeded_binary])
@pytest.mark.parametrize("model", ["covariance", "regression"])
def test_engines_find_changes_with_a_tenth_missing(engine, model):
    rng = np.random.default_rng(2)
    n = 150
    x = rng.normal(size=(n, 3))
    if model == "covariance":
        x[70:, 1] = 0.9 * x[70:, 0] + 0.3 * x[70:, 1]
        cost = Covariance()
    else:
        x[:, 2] = np.where(np.arange(n) < 70, 2.0, -2.0) * x[:, 0] + 0.5 * x[:, 2]
        cost = Regression(variance="segment")
    x[rng.random(x.shape) < 0.1] = np.nan
    found = engine(x, cost, 6.0 * np.log(n), min_length=14).change_points
    assert len(found) == 1 and abs(found[0] - 70) <= 6


def test_dcdp_finds_covariances_with_a_tenth_missing():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 3))
    x[100:200, 1] = 0.9 * x[100:200, 0] + 0.3 * x[100:200, 1]
    x[rng.random(x.shape) < 0.1] = np.nan
    found = hd.DCDP("covariance", interval=None).fit(x).change_points_
    assert len(found) == 2 and np.all(np.abs(found - [100, 200]) <= 4)
