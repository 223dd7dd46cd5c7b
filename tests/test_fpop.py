import numpy as np
import oracles_segments as oracle
import pytest

from hidamari.inference.costs import (
    Biweight,
    Counts,
    Covariance,
    Exponential,
    Mean,
    MeanVariance,
    Variance,
)
from hidamari.inference.segments import fpop, optimal_partitioning

COSTS = [Mean(), Biweight(1.5), Counts(), Exponential(), Variance(step=0.1)]
each = pytest.mark.parametrize("cost", COSTS, ids=lambda c: type(c).__name__)


def series(cost, rng, n_rows):
    match cost:
        case Counts():
            return rng.poisson(rng.choice([0.5, 3.0], n_rows)).astype(float)
        case Exponential():
            return np.round(rng.exponential(rng.choice([0.5, 3.0], n_rows)), 2)
        case _:
            return rng.normal(size=n_rows) * rng.choice([1.0, 3.0])


@each
def test_the_least_cost_of_all(cost):
    rng = np.random.default_rng(0)
    for run in range(100):
        n_rows, penalty = int(rng.integers(1, 15)), float(rng.exponential(2.0))
        x = series(cost, rng, n_rows)
        x = np.round(x) if run % 3 == 0 else x
        x[rng.random(n_rows) < (0.2 if run % 2 else 0.0)] = np.nan
        cache = cost.prepare(x)
        least = oracle.best_segmentation(cost, cache, n_rows, penalty)
        assert fpop(x, cost, penalty).objective == pytest.approx(least, abs=1e-9)


@each
@pytest.mark.parametrize("penalty", [0.5, 8.0])
def test_longer_series_equal_the_dynamic_programme(cost, penalty, rng):
    if isinstance(cost, Biweight):
        return  # priced one by one there: the short series say it all
    x = np.concatenate([series(cost, rng, 300), 2.0 * series(cost, rng, 200)])
    exact = optimal_partitioning(x, cost, penalty)
    assert fpop(x, cost, penalty).objective == pytest.approx(exact.objective, rel=1e-12)


def test_exposures(rng):
    exposure = rng.uniform(0.5, 2.0, 200)
    x = rng.poisson(exposure * np.where(np.arange(200) < 120, 2.0, 6.0))
    cost = Counts(exposure)
    exact = optimal_partitioning(x, cost, 8.0)
    assert fpop(x, cost, 8.0).change_points.tolist() == exact.change_points.tolist()


def test_empty_bins_at_either_end(rng):
    x = np.concatenate([np.zeros(80), 1.0 + rng.poisson(3.0, 80), np.zeros(80)])
    assert fpop(x, Counts(), 10.0).change_points.tolist() == [80, 160]


def test_outliers_are_no_change_points():
    rng = np.random.default_rng(1)
    noise = rng.standard_t(3, 2_000) / np.sqrt(3.0)
    noise[::97] += 30.0
    step = 2.0 * (np.arange(2_000) >= 900)
    penalty = 3.0 * np.log(2_000)
    assert len(fpop(noise + step, Mean(), penalty).change_points) > 20
    found = fpop(noise + step, Biweight(), penalty).change_points
    assert len(found) == 1
    assert abs(found[0] - 900) <= 5


def test_pieces_may_outgrow_their_room():
    # Without noise and with a small penalty every level stays possible: far more pieces than the first room.
    x = np.linspace(0.0, 1.0, 3_000)
    exact = optimal_partitioning(x, Mean(), 1e-5)
    assert fpop(x, Mean(), 1e-5).objective == pytest.approx(exact.objective, rel=1e-9)
    robust = fpop(x, Biweight(1e-3), 1e-5)
    assert robust.objective <= Biweight(1e-3).cost(Biweight(1e-3).prepare(x), 0, 3_000)


@pytest.mark.parametrize("cost", [MeanVariance(), Covariance()])
def test_one_parameter_only(cost):
    with pytest.raises(ValueError, match="fpop takes Mean, Biweight, Counts"):
        fpop(np.arange(9.0), cost, 1.0)


def test_one_column_only():
    with pytest.raises(ValueError, match="X has 2 columns"):
        fpop(np.ones((9, 2)), Mean(), 1.0)
