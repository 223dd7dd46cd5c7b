import warnings
from dataclasses import dataclass

import numpy as np
import oracles_segments as oracle
import pytest

import hidamari as hd
from hidamari.inference.costs import Cost, Mean
from hidamari.inference.kalman_cost import Kalman
from hidamari.inference.segments import divide_and_conquer, optimal_partitioning, pelt
from hidamari.inference.thresholded_mean import ThresholdedMean
from hidamari.statespace.kernels import Constant, Cosine, Matern, Wiener

GRID = tuple(np.geomspace(1.0, 30.0, 7))
KERNELS = [
    Matern(0, 3.0),
    Matern(2, 5.0, 2.0),
    Matern(0, 4.0) + Constant(30.0),
    Matern(1, 3.0) * Cosine(0.1),
]


def dense(x, kernel, noise, bin_s=1.0):
    """Minus twice the log density of the observed entries of one column."""
    seen = np.flatnonzero(~np.isnan(x))
    if not len(seen):
        return 0.0
    times = seen * bin_s
    cov = kernel.covariance(times, times) + noise * np.eye(len(seen))
    sign, log_det = np.linalg.slogdet(2.0 * np.pi * cov)
    assert sign > 0
    return x[seen] @ np.linalg.solve(cov, x[seen]) + log_det


def ou(rng, lengthscales, n_rows, sd=0.3):
    """Ornstein-Uhlenbeck segments of unit variance with noise, n_rows each."""
    parts = []
    for scale in lengthscales:
        phi, state = np.exp(-1.0 / scale), rng.standard_normal()
        z = rng.standard_normal(n_rows) * np.sqrt(1.0 - phi**2)
        out = np.empty(n_rows)
        for t in range(n_rows):
            out[t] = state
            state = phi * state + z[t]
        parts.append(out)
    x = np.concatenate(parts)
    return x + sd * rng.standard_normal(len(x))


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_costs_are_dense_likelihoods(kernel, missing):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 2)) + 0.5
    if missing:
        x[rng.random(x.shape) < 0.3] = np.nan
        x[10:14] = np.nan
    cost = Kalman(kernel, noise=0.2, bin_s=0.7)
    cache = cost.prepare(x)
    starts, ends = np.array([0, 0, 5, 10, 40, 89]), np.array([90, 40, 90, 13, 41, 90])
    expected = [sum(dense(x[a:b, j], kernel, 0.2, 0.7) for j in range(2)) for a, b in zip(starts, ends)]
    np.testing.assert_allclose(cost.costs(cache, starts, ends), expected, rtol=1e-9, atol=1e-8)
    for a, b, value in zip(starts, ends, expected):
        assert cost.cost(cache, a, b) == pytest.approx(value, rel=1e-9, abs=1e-8)


def test_both_directions_agree_and_the_plan_does_not_matter():
    x = np.random.default_rng(1).normal(size=(300, 1))
    x[50:60] = np.nan
    for data in (x, np.nan_to_num(x)):
        cost = Kalman(Matern(1, 3.0), noise=0.1, lengthscales=GRID)
        cache = cost.prepare(data)
        marks = np.arange(1, 300, 7)
        from_left = cost.costs(cache, 0, marks)
        np.testing.assert_allclose(from_left, [cost.cost(cache, 0, b) for b in marks], rtol=1e-12)
        to_right = cost.costs(cache, marks, 300)
        np.testing.assert_allclose(to_right, [cost.cost(cache, a, 300) for a in marks], rtol=1e-10)
        a, b = np.triu_indices(8, 1)
        all_pairs = cost.costs(cache, a * 37, b * 37)
        np.testing.assert_allclose(all_pairs, [cost.cost(cache, i * 37, j * 37) for i, j in zip(a, b)])
        assert cost.costs(cache, np.zeros((2, 3), int), np.full((2, 3), 9)).shape == (2, 3)


def test_each_unit_takes_the_best_candidate():
    rng = np.random.default_rng(2)
    x = np.column_stack([ou(rng, [2.0], 200), ou(rng, [40.0], 200)])
    cost = Kalman(Matern(0, 1.0), noise=(0.01, 0.09, 0.5), lengthscales=GRID)
    values = [
        [Kalman(Matern(0, s), noise=r).cost(Kalman(Matern(0, s), noise=r).prepare(column), 0, 200)
         for s in GRID for r in (0.01, 0.09, 0.5)]
        for column in x.T
    ]  # fmt: skip
    assert cost.cost(cost.prepare(x), 0, 200) == pytest.approx(np.min(values, axis=1).sum(), rel=1e-12)
    assert np.argmin(values[0]) // 3 < np.argmin(values[1]) // 3
    assert cost.n_parameters(2) == 4 and cost.min_length(2) == 1
    assert Kalman(Matern()).n_parameters(3) == 0
    several = Kalman((Matern(0, 2.0), Matern(1, 2.0)), noise=0.09)
    assert several.n_parameters(1) == 1 and isinstance(several, Cost)


def test_arguments():
    x = np.zeros(5)
    for bad, word in [
        (Kalman(Wiener()), "stationary"),
        (Kalman(3), "kernel"),
        (Kalman(Matern(), noise=0.0), "noise"),
        (Kalman(Matern(), noise=()), "noise"),
        (Kalman(Matern(), bin_s=0.0), "bin_s"),
        (Kalman(Matern(), lengthscales=(1.0, -1.0)), "lengthscales"),
        (Kalman(Constant(), lengthscales=(1.0,)), "lengthscale"),
        (Kalman(Matern() + Matern(), lengthscales=(1.0,)), "sequence"),
    ]:
        with pytest.raises(ValueError, match=word):
            bad.prepare(x)


def test_search_is_near_the_exact_one():
    x = ou(np.random.default_rng(3), [1.0, 30.0, 2.0], 100)
    cost = Kalman(Matern(0, 1.0), noise=0.09, lengthscales=(1.0, 5.0, 30.0))
    exact = optimal_partitioning(x, cost, 15.0)
    found = divide_and_conquer(x, cost, 15.0, grid=30)
    assert found.change_points.tolist() == exact.change_points.tolist()
    assert found.objective == pytest.approx(exact.objective, rel=1e-12)


@pytest.mark.parametrize("scales, n_changes, near", [((5.0, 5.0), 0, 0), ((2.0, 20.0), 1, 12)])
def test_lengthscales_that_change_are_found(scales, n_changes, near):
    cost = Kalman(Matern(0, 1.0), noise=0.09, lengthscales=GRID)
    right = 0
    for seed in range(10):
        x = ou(np.random.default_rng(seed), scales, 1000)
        found = divide_and_conquer(x, cost, 3 * np.log(2000), grid=50).change_points
        right += len(found) == n_changes and np.all(np.abs(found - 1000) <= near)
    assert right >= 9


def test_autocorrelated_noise_is_not_read_as_changes():
    cost = Kalman(Matern(0, 1.0) + Constant(25.0), noise=0.01, lengthscales=(1.0, 2.0, 4.0, 8.0))
    right, least_squares = 0, []
    for seed in range(10):
        x = ou(np.random.default_rng(seed), [4.0], 1000, sd=0.1) + 3.0 * (np.arange(1000) >= 400)
        found = divide_and_conquer(x, cost, 3 * np.log(1000), grid=50).change_points
        right += len(found) == 1 and abs(found[0] - 400) <= 10
        least_squares.append(len(divide_and_conquer(x, Mean(), 3 * np.log(1000)).change_points))
    assert right >= 9
    assert np.mean(least_squares) > 3


def test_every_split_of_an_interval_at_once():
    x = ou(np.random.default_rng(4), [1.0, 30.0], 60)
    cost = Kalman(Matern(0, 1.0), noise=0.09, lengthscales=(1.0, 30.0))
    cache = cost.prepare(x)
    apart = [cost.cost(cache, 20, t) + cost.cost(cache, t, 100) for t in range(21, 100)]
    np.testing.assert_allclose(cost.splits(cache, 20, 100), apart, rtol=1e-11)


def test_a_split_can_cost_more_and_nothing_is_pruned():
    # Of a smooth path every piece tells what comes next: it costs more in two than in one.
    x = np.sin(np.arange(60) / 12.0) + 0.02 * np.random.default_rng(5).standard_normal(60)
    x[40:] = np.random.default_rng(6).standard_normal(20)
    cost = Kalman((Matern(2, 10.0), Matern(0, 0.5)), noise=0.01)
    cache = cost.prepare(x)
    assert cost.splits(cache, 0, 40).min() > cost.cost(cache, 0, 40)
    for penalty in (0.1, 1.0, 5.0):
        least = oracle.best_segmentation(cost, cache, 60, penalty)
        for engine in (optimal_partitioning, pelt):
            assert engine(x, cost, penalty).objective == pytest.approx(least, rel=1e-12)
        assert divide_and_conquer(x, cost, penalty).objective == pytest.approx(least, rel=1e-12)


def test_refinement_looks_at_every_row():
    # Two cells only: the best row lies anywhere in them.
    x = ou(np.random.default_rng(7), [1.0, 30.0], 150)
    cost = Kalman(Matern(0, 1.0), noise=0.09, lengthscales=(1.0, 30.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = divide_and_conquer(x, cost, 15.0, grid=1)
    assert found.objective == pytest.approx(optimal_partitioning(x, cost, 15.0).objective, rel=1e-12)


@pytest.mark.parametrize("cost", [
    Kalman(Matern(0, 1.0) + Constant(25.0), noise=(0.1, 0.5), lengthscales=(1.0, 4.0)),
    Kalman((Matern(1, 2.0), Matern(0, 5.0)), noise=np.array([0.1, 0.2]), bin_s=0.5),
    ThresholdedMean(),
])  # fmt: skip
def test_a_fitted_model_is_saved_with_its_cost(cost, tmp_path):
    x = np.column_stack([ou(np.random.default_rng(s), [3.0], 200) for s in range(2)])
    x[90:] += 4.0
    model = hd.DCDP(model=cost, penalty=25.0, interval=None).fit(x)
    assert len(model.change_points_) > 0
    model.save(tmp_path / "model.npz")
    loaded = hd.load(tmp_path / "model.npz")
    assert repr(loaded.model) == repr(cost)
    assert loaded.predict(x).tolist() == model.predict(x).tolist() == model.change_points_.tolist()


@dataclass(frozen=True)
class Own:
    """A user's cost, named like none of ours."""

    scale: float = 2.0

    def prepare(self, X):
        return Mean().prepare(np.asarray(X) / self.scale)

    def costs(self, cache, starts, ends):
        return Mean().costs(cache, starts, ends)

    def min_length(self, d):
        return 1

    def n_parameters(self, d):
        return d


def test_a_users_cost_is_not_saved(tmp_path):
    model = hd.DCDP(model=Own(), penalty=9.0).fit(np.repeat([0.0, 9.0], 50))
    assert model.change_points_.tolist() == [50]
    alias = type("Mean", (Own,), {})()  # named like one of ours
    for cost in (Own(), alias):
        with pytest.raises(ValueError, match="argument 'model' cannot be saved: found .*, allowed are"):
            model.set_params(model=cost).save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())
