import warnings
from dataclasses import dataclass

import numpy as np
import oracles_segments as oracle
import pytest

from hidamari.inference.costs import Biweight, Counts, Covariance, Mean, MeanVariance, Regression
from hidamari.inference.segments import (
    divide_and_conquer,
    fpop,
    optimal_partitioning,
    pelt,
    penalty_path,
    seeded_binary,
)


@dataclass(frozen=True)
class Absolute:
    """A user's cost, without sums: absolute deviations from the median."""

    def prepare(self, X):
        return np.asarray(X, dtype=float).reshape(len(X), -1)

    def costs(self, cache, starts, ends):
        parts = [cache[a:b] for a, b in zip(starts, ends)]
        return np.array([np.nansum(np.abs(p - np.nanmedian(p, axis=0))) for p in parts])

    def min_length(self, d):
        return 1

    def n_parameters(self, d):
        return d


def steps(n_rows, n_changes, shift=1.0, d=1, seed=1):
    """Levels 0 and shift in turn, unit noise; and the true changes."""
    rng = np.random.default_rng(seed)
    segment = np.arange(n_rows) * (n_changes + 1) // n_rows
    true = np.flatnonzero(np.diff(segment)) + 1
    return rng.normal(size=(n_rows, d)) + shift * (segment % 2)[:, None], true


# Some of the series are integers, so that many segmentations cost the same.
@pytest.mark.parametrize("block", range(10))
def test_exact_engines_find_the_least_cost_of_all(block):
    rng = np.random.default_rng(block)
    for run in range(50):
        n_rows, d = int(rng.integers(1, 15)), int(rng.integers(1, 3))
        minimum, penalty = int(rng.integers(1, 4)), float(rng.exponential(2.0))
        x = rng.normal(size=(n_rows, d)) * 2.0
        x = np.round(x) if run % 3 == 0 else x
        cost = [Mean(), MeanVariance(step=0.5), Counts()][run % 3]
        x = np.abs(np.round(x)) if isinstance(cost, Counts) else x
        x[rng.random(x.shape) < (0.1 if run % 2 else 0.0)] = np.nan
        minimum = max(minimum, cost.min_length(d))
        cache = cost.prepare(x)
        least = oracle.best_segmentation(cost, cache, n_rows, penalty, minimum)
        for engine in (optimal_partitioning, pelt):
            found = engine(x, cost, penalty, minimum)
            assert found.objective == pytest.approx(least, abs=1e-9)
            edges = [0, *found.change_points, n_rows]
            assert n_rows < minimum or np.diff(edges).min() >= minimum
            paid = sum(cost.cost(cache, a, b) for a, b in zip(edges[:-1], edges[1:]))
            assert found.cost == pytest.approx(paid, abs=1e-9)


def test_the_oracle_is_the_least_of_all_written_out(rng):
    x = rng.normal(size=(9, 1))
    cost = Mean()
    cache = cost.prepare(x)
    every = oracle.every_segmentation(9, 2)
    paid = min(sum(cost.cost(cache, a, b) + 0.7 for a, b in zip(e[:-1], e[1:])) - 0.7 for e in every)
    assert oracle.best_segmentation(cost, cache, 9, 0.7, 2) == pytest.approx(paid)


def test_pruning_is_exact_with_a_minimum_length():
    # Pruning at once, and not after the minimum length, answers [2] here, which costs 1.267.
    found = pelt([0.0, 1.0, 0.0, 0.0, 1.0], Mean(), 0.1, min_length=2)
    assert found.change_points.tolist() == []
    assert found.objective == pytest.approx(1.2)


@pytest.mark.parametrize("engine", [optimal_partitioning, pelt])
def test_a_users_cost_meets_the_same_engines(engine, rng):
    for _ in range(10):
        n_rows, penalty = int(rng.integers(4, 13)), float(rng.exponential())
        x = rng.normal(size=n_rows)
        cost = Absolute()
        cache = cost.prepare(x)
        least = oracle.best_segmentation(cost, cache, n_rows, penalty, 2)
        assert engine(x, cost, penalty, 2).objective == pytest.approx(least, abs=1e-9)


@pytest.mark.parametrize("cost", [Absolute(), Biweight()], ids=["absolute", "biweight"])
@pytest.mark.parametrize("engine", [divide_and_conquer, seeded_binary])
def test_fast_engines_take_costs_without_sums(cost, engine):
    x, _ = steps(75, 2, shift=4.0)
    assert engine(x, cost, 20.0).change_points.tolist() == pelt(x, cost, 20.0).change_points.tolist()


@pytest.mark.parametrize("cost", [Mean(), MeanVariance(step=0.0), Counts(), Covariance(), Absolute()])
def test_the_finest_grid_is_optimal_partitioning(cost, rng):
    x = rng.normal(size=(60, 2)) + 2.0 * (np.arange(60)[:, None] // 20 % 2)
    x = np.round(np.abs(3 * x)) if isinstance(cost, Counts) else x
    exact = optimal_partitioning(x, cost, 6.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = divide_and_conquer(x, cost, 6.0, grid=59, refine=False)
    assert found.change_points.tolist() == exact.change_points.tolist()
    assert found.objective == pytest.approx(exact.objective, abs=1e-9)


def test_refinement_never_costs_more(rng):
    for seed in range(60):
        n_changes = seed % 6
        x, _ = steps(400, n_changes, shift=1.5, d=1 + seed % 2, seed=seed)
        x = rng.poisson(np.exp(x)) if seed % 3 == 0 else x
        cost = Counts() if seed % 3 == 0 else Mean()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            coarse = divide_and_conquer(x, cost, 9.0, grid=15, refine=False)
            fine = divide_and_conquer(x, cost, 9.0, grid=15)
        auto = divide_and_conquer(x, cost, 9.0)
        assert fine.objective <= coarse.objective + 1e-9
        assert optimal_partitioning(x, cost, 9.0).objective <= auto.objective + 1e-9


@pytest.mark.parametrize("engine", [pelt, divide_and_conquer])
@pytest.mark.parametrize("d", [1, 3])
def test_reversal_scale_and_offset_change_nothing(engine, d):
    x, true = steps(2000, 4, shift=1.5, d=d)
    penalty = (d + 1) * np.log(2000)
    found = engine(x, Mean(), penalty)
    assert len(found.change_points) == 4
    back = engine(x[::-1], Mean(), penalty)
    assert (2000 - back.change_points[::-1]).tolist() == found.change_points.tolist()
    assert back.objective == pytest.approx(found.objective, rel=1e-12)
    scaled = engine(10.0 * x, Mean(), 100.0 * penalty)
    assert scaled.change_points.tolist() == found.change_points.tolist()
    assert scaled.objective == pytest.approx(100.0 * found.objective, rel=1e-12)
    for offset in (1e8, 1e10):
        assert engine(x + offset, Mean(), penalty).change_points.tolist() == found.change_points.tolist()


@pytest.mark.parametrize("engine", [pelt, fpop, divide_and_conquer, seeded_binary])
@pytest.mark.parametrize("offset", [0.0, 1e8, 1e10])
def test_one_change_stays_one_under_an_offset(engine, offset):
    # Prefix sums of raw values make tens to hundreds of changes of this series.
    x = np.random.default_rng(0).normal(size=1000)
    x[500:] += 2.0
    found = engine(x + offset, Mean(), 2.0 * np.log(1000))
    assert found.change_points.tolist() == engine(x, Mean(), 2.0 * np.log(1000)).change_points.tolist()
    assert abs(found.change_points[0] - 500) <= 3
    assert len(found.change_points) == 1


@pytest.mark.parametrize("n_rows", [10_000, 100_000])
def test_the_coarse_search_finds_the_exact_answer(n_rows):
    x, true = steps(n_rows, 9)
    exact = fpop(x, Mean(), 2.0 * np.log(n_rows))
    found = divide_and_conquer(x, Mean(), 2.0 * np.log(n_rows))
    assert found.change_points.tolist() == exact.change_points.tolist()
    assert found.objective == pytest.approx(exact.objective, rel=1e-11)
    assert len(true) == len(found.change_points)
    assert found.converged


@pytest.mark.parametrize("d", [5, 100])
def test_many_columns(d):
    x, true = steps(20_000, 9, shift=3.0 / d**0.5, d=d)
    found = divide_and_conquer(x, Mean(), (d + 1) * np.log(len(x)))
    assert len(found.change_points) == 9
    assert oracle.hausdorff(found.change_points, true) <= 60


def test_missing_entries_move_no_change(rng):
    x, true = steps(5_000, 4, shift=2.0, d=3)
    x[rng.random(x.shape) < 0.3] = np.nan
    x[1500:1520] = np.nan
    for cost in (Mean(), MeanVariance()):
        found = divide_and_conquer(x, cost, 40.0)
        assert oracle.hausdorff(found.change_points, true) <= 8
        assert found.change_points.tolist() == pelt(x, cost, 40.0).change_points.tolist()


@pytest.mark.parametrize("n_rows", [100_000, 1_000_000])
def test_no_short_segment_hides_in_a_cell(n_rows):
    # The cells of the first grid hold three to ten segments each.
    x, true = steps(n_rows, n_rows // 100 - 1, shift=2.0)
    found = divide_and_conquer(x, Mean(), 2.0 * np.log(n_rows))
    assert abs(len(found.change_points) - len(true)) <= 0.001 * len(true)
    assert oracle_gap(found.change_points, true) <= 20


def oracle_gap(found, true):
    """Largest distance of a true change from the nearest found one."""
    at = np.searchsorted(found, true).clip(1, len(found) - 1)
    return np.minimum(np.abs(found[at] - true), np.abs(found[at - 1] - true)).max()


@pytest.mark.parametrize("cost", [Mean(), MeanVariance(), Counts(), Covariance()])
@pytest.mark.parametrize("n_rows, minimum", [(200, 5), (200, 60), (200, 90), (1_000, 50), (1_000, 300)])
def test_long_segments_of_short_series_are_exact(cost, n_rows, minimum):
    # Levels change more often than segments may: every change pushes its neighbours.
    for seed in range(4):
        rng = np.random.default_rng(seed)
        true = np.sort(rng.choice(n_rows, 2 * n_rows // minimum + 1, replace=False))
        level = rng.normal(size=len(true) + 1)[np.searchsorted(true, np.arange(n_rows), side="right")]
        x = rng.normal(size=n_rows) + 3.0 * level
        x = rng.poisson(np.exp(level)) if isinstance(cost, Counts) else x
        found = divide_and_conquer(x, cost, 5.0, min_length=minimum)
        assert found.objective == pytest.approx(pelt(x, cost, 5.0, min_length=minimum).objective, rel=1e-12)


@pytest.mark.parametrize("minimum", [5, 50, 1_000, 4_000])
def test_changes_that_crowd_move_together(minimum):
    # Segments as short as is allowed, where no change can move without its neighbours.
    n_rows = 10_000
    for seed in range(3):
        rng = np.random.default_rng(seed)
        edges = np.cumsum(rng.integers(minimum, minimum + 3, n_rows // minimum + 1))
        level = (np.searchsorted(edges, np.arange(n_rows), side="right") % 2) * 3.0
        x = rng.normal(size=n_rows) + level
        found = divide_and_conquer(x, Mean(), 18.0, min_length=minimum)
        exact = pelt(x, Mean(), 18.0, min_length=minimum)
        assert found.objective == pytest.approx(exact.objective, rel=1e-9)


def test_a_wide_grid_warns_and_is_made_finer():
    x, true = steps(1_000, 9, shift=4.0)
    with pytest.warns(UserWarning, match="cells of .* rows, more than half of the shortest segment"):
        found = divide_and_conquer(x, Mean(), 20.0, grid=16)
    assert oracle.hausdorff(found.change_points, true) <= 3
    with pytest.warns(UserWarning, match="refine=True"):
        divide_and_conquer(x, Mean(), 20.0, grid=16, refine=False)


def test_covariance_and_regression(rng):
    x = rng.normal(size=(600, 3))
    x[200:400] = x[200:400] @ np.linalg.cholesky(np.full((3, 3), 0.8) + 0.2 * np.eye(3)).T
    found = divide_and_conquer(x, Covariance(), 60.0)
    assert oracle.hausdorff(found.change_points, [200, 400]) <= 10
    assert found.objective == pytest.approx(pelt(x, Covariance(), 60.0).objective, rel=1e-9)
    z = rng.normal(size=(600, 2))
    slope = np.where(np.arange(600) < 350, 1.0, -1.0)
    data = np.column_stack([z, slope * z[:, 0] + rng.normal(size=600)])
    for cost in (Regression(), Regression(variance="segment")):
        found = divide_and_conquer(data, cost, 30.0)
        assert oracle.hausdorff(found.change_points, [350]) <= 10
        assert found.objective == pytest.approx(pelt(data, cost, 30.0).objective, rel=1e-9)


def test_no_change_is_an_answer():
    x = np.random.default_rng(3).normal(size=20_000)
    for engine in (fpop, divide_and_conquer, seeded_binary):
        assert engine(x, Mean(), 3.0 * np.log(20_000)).change_points.tolist() == []
    for engine in (fpop, divide_and_conquer, seeded_binary, pelt, optimal_partitioning):
        assert engine(np.ones(50), Mean(), 1.0).change_points.tolist() == []
        assert engine([2.0], Mean(), 1.0).change_points.tolist() == []
        assert engine(np.full(7, np.nan), Mean(), 1.0).objective == 0.0


def test_seeded_segmentation_finds_clear_changes():
    x, true = steps(3_000, 9, shift=2.0)
    found = seeded_binary(x, Mean(), 3.0 * np.log(3_000))
    assert len(found.change_points) == 9
    assert oracle.hausdorff(found.change_points, true) <= 6


@pytest.mark.parametrize("engine", ["fpop", "divide_and_conquer", pelt])
def test_the_path_is_the_sweep(engine):
    x, _ = steps(400, 5, shift=1.5)
    path = penalty_path(x, Mean(), 2.0, 200.0, engine=engine)
    assert np.all(np.diff(path.n_changes) < 0)
    assert np.all(np.diff(path.costs) > 0)
    assert np.all(np.diff(path.penalties) > 0)
    assert path.n_changes[-1] == 0
    for penalty in np.geomspace(2.0, 200.0, 40):
        exact = optimal_partitioning(x, Mean(), penalty)
        assert path.at(penalty).objective == pytest.approx(exact.objective, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalty": -1.0}, "penalty is -1.0"),
        ({"penalty": np.nan}, "penalty is nan"),
        ({"min_length": 0}, "min_length is 0"),
        ({"min_length": 1.5}, "min_length is 1.5"),
        ({"cost": object()}, "lacks prepare, costs"),
        ({"X": np.ones((2, 2, 2))}, "X has shape"),
    ],
)
@pytest.mark.parametrize("engine", [optimal_partitioning, pelt, divide_and_conquer, seeded_binary])
def test_bad_arguments(engine, change, message):
    with pytest.raises(ValueError, match=message):
        engine(**({"X": np.arange(9.0), "cost": Mean(), "penalty": 1.0} | change))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: divide_and_conquer(x, Mean(), 1.0, grid=0), "grid is 0"),
        (lambda x: divide_and_conquer(x, Mean(), 1.0, grid="fine"), "grid is 'fine'"),
        (lambda x: seeded_binary(x, Mean(), 1.0, decay=1.0), "decay is 1.0"),
        (lambda x: penalty_path(x, Mean(), 2.0, 1.0), "largest is 1.0"),
        (lambda x: penalty_path(x, Mean(), 1.0, 2.0, engine="dp"), "engine is 'dp'"),
        (lambda x: penalty_path(x, Mean(), 1.0, 2.0, min_length=2, engine="fpop"), "min_length is 2"),
        (lambda x: penalty_path(x, Mean(), 1.0, 2.0).at(3.0), "penalty is 3.0"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.arange(9.0))
