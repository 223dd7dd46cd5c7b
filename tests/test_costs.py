import numpy as np
import oracles_segments as oracle
import pytest
from scipy import stats

from hidamari.inference import costs
from hidamari.inference.costs import (
    Biweight,
    Cost,
    Counts,
    Covariance,
    Exponential,
    Mean,
    MeanVariance,
    Regression,
    Variance,
    event_rows,
)
from hidamari.inference.segments import divide_and_conquer, optimal_partitioning, pelt

ORACLES = [
    (Mean(), oracle.mean_cost),
    (MeanVariance(step=0.0), oracle.mean_variance_cost),
    (Variance(step=0.0), oracle.variance_cost),
    (Exponential(step=0.0), oracle.exponential_cost),
    (Counts(0.5), lambda x: oracle.count_cost(x, np.full(len(x), 0.5))),
    (Covariance(), oracle.covariance_cost),
    (Covariance(centred=False), lambda x: oracle.covariance_cost(x, centred=False)),
    (Regression(), oracle.regression_cost),
    (Regression(intercept=False), lambda x: oracle.regression_cost(x, intercept=False)),
    (Regression(variance="segment"), lambda x: oracle.regression_cost(x, own=True)),
    (Biweight(1.2), None),
]
IDS = [f"{type(c).__name__}-{i}" for i, (c, _) in enumerate(ORACLES)]
each = pytest.mark.parametrize(("cost", "likelihood"), ORACLES, ids=IDS)


def series(cost, rng, n_rows=40, d=3):
    match cost:
        case Counts():
            return rng.poisson(2.0, (n_rows, d)).astype(float)
        case Exponential():
            return rng.exponential(size=(n_rows, d))
        case _:
            return rng.normal(size=(n_rows, d)) @ rng.normal(size=(d, d)) + 3.0


def test_every_cost_is_tried():
    named = {
        n
        for n in costs.__all__
        if isinstance(getattr(costs, n), type) and hasattr(getattr(costs, n), "prepare")
    }
    assert {type(c).__name__ for c, _ in ORACLES} == named - {"Additive", "Cost"}


@each
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_costs_are_twice_the_negative_log_likelihood(cost, likelihood, missing, rng):
    if likelihood is None or (missing and isinstance(cost, Covariance | Regression)):
        return  # those in tests/test_costs_missing.py
    x = series(cost, rng)
    x[rng.random(x.shape) < missing] = np.nan
    cache = cost.prepare(x)
    for a, b in ((0, 40), (3, 17), (20, 40)):
        assert cost.cost(cache, a, b) == pytest.approx(likelihood(x[a:b]), rel=1e-11, abs=1e-9)


@each
def test_many_costs_are_the_single_ones(cost, likelihood, rng):
    x = series(cost, rng)
    cache = cost.prepare(x)
    ends = np.arange(12, 41)
    many = cost.costs(cache, np.zeros_like(ends), ends)
    assert many.tolist() == [cost.cost(cache, 0, e) for e in ends]


@each
def test_costs_fall_when_a_segment_is_split(cost, likelihood, rng):
    x = series(cost, rng)
    x[rng.random(x.shape) < 0.05] = np.nan
    cache = cost.prepare(x)
    for t in range(14, 27):
        assert cost.cost(cache, 0, t) + cost.cost(cache, t, 40) <= cost.cost(cache, 0, 40) + 1e-9


@each
def test_costs_know_no_direction(cost, likelihood, rng):
    x = series(cost, rng)
    forth, back = cost.prepare(x), cost.prepare(x[::-1])
    assert cost.cost(forth, 5, 22) == pytest.approx(cost.cost(back, 18, 35), rel=1e-12)


@each
def test_a_missing_row_is_no_row(cost, likelihood, rng):
    x = series(cost, rng)
    longer = np.insert(x, 11, np.nan, axis=0)
    a, b = cost.cost(cost.prepare(x), 0, 40), cost.cost(cost.prepare(longer), 0, 41)
    assert a == pytest.approx(b, rel=1e-12)


@each
def test_costs_keep_the_protocol(cost, likelihood):
    assert isinstance(cost, Cost)
    assert cost.min_length(3) >= 1
    assert cost.n_parameters(3) >= 1
    with pytest.raises(ValueError, match="X has shape"):
        cost.prepare(np.empty((0, 2)))


def test_rows_that_lie_apart_have_a_cost(rng):
    for cost, _ in ORACLES[:-1]:
        x = series(cost, rng)
        if not isinstance(cost, Covariance | Regression):
            x[4, 1] = np.nan
        cache = cost.prepare(x)
        assert isinstance(cache, costs.Sums)
        sums = np.diff(cache.prefix, axis=0)
        apart = cost.prepare(np.concatenate([x[2:12], x[30:]]))
        both = sums[2:12].sum(axis=0) + sums[30:].sum(axis=0)
        assert cost.of(cache, both) == pytest.approx(cost.cost(apart, 0, 20), rel=1e-10)


@pytest.mark.parametrize("offset", [1e6, 1e8, 1e10])
@pytest.mark.parametrize("cost", [Mean(), MeanVariance(step=0.0), Covariance(), Regression()])
def test_an_offset_costs_no_digits(cost, offset, rng):
    # Numbers that a float of this offset can hold, so that both series are the same but for the offset.
    x = np.round(rng.normal(size=(60, 3)) * 2**12) / 2**12
    near, far = cost.prepare(x), cost.prepare(x + offset)
    for a, b in ((0, 60), (7, 31)):
        assert cost.cost(far, a, b) == pytest.approx(cost.cost(near, a, b), rel=1e-9)


def test_prefix_sums_are_compensated():
    x = np.full(200_000, 0.1)
    x[0] = 1e9
    cache = Mean().prepare(x)
    assert abs(Mean().cost(cache, 100, 200_000)) < 1e-6


@pytest.mark.parametrize("cost", [MeanVariance(), Variance()])
def test_a_run_of_equal_values_is_not_infinitely_likely(cost):
    x = np.array([0.3, -0.2, 0.1, 0.0, 0.0, 0.0, 0.4, -0.1])
    variance = 0.1**2 / 12.0
    run = cost.cost(cost.prepare(x), 3, 6)
    assert run == pytest.approx(-2.0 * 3 * stats.norm.logpdf(0.0, 0.0, np.sqrt(variance)))


def test_constant_columns_say_nothing():
    x = np.column_stack([np.ones(30), np.r_[np.zeros(15), np.ones(15)] + np.tile([0.0, 0.1, 0.2], 10)])
    assert pelt(x, MeanVariance(), 10.0).change_points.tolist() == [15]


def test_singular_covariances_are_not_allowed(rng):
    x = rng.normal(size=(30, 2))
    x[10:20, 1] = x[10:20, 0]
    cache = Covariance().prepare(x)
    assert Covariance().cost(cache, 10, 20) == np.inf
    assert np.isfinite(pelt(x, Covariance(), 5.0).cost)


def test_biweight_by_fine_search(rng):
    x = np.r_[rng.standard_t(2, 40), np.nan]
    levels = np.linspace(np.nanmin(x), np.nanmax(x), 200_001)
    fine = np.minimum((x[:-1, None] - levels[::10]) ** 2, 1.5**2).sum(axis=0).min()
    cost = Biweight(1.5)
    found = cost.cost(cost.prepare(x), 0, 41)
    assert found <= fine + 1e-12
    assert found == pytest.approx(fine, abs=1e-4)


def test_exposures(rng):
    x = rng.poisson(3.0, (30, 2)).astype(float)
    exposure = rng.uniform(0.5, 2.0, 30)
    cost = Counts(exposure)
    assert cost.cost(cost.prepare(x), 3, 20) == pytest.approx(oracle.count_cost(x[3:20], exposure[3:20]))
    each = Counts(np.column_stack([exposure, exposure]))
    assert each.cost(each.prepare(x), 3, 20) == pytest.approx(cost.cost(cost.prepare(x), 3, 20))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Counts(np.ones(4)).prepare(np.ones((5, 2))), "exposure has shape"),
        (lambda: Counts(0.0).prepare(np.ones(5)), "exposure has entries"),
        (lambda: Counts().prepare([1.0, -1.0]), "X has a count of -1.0"),
        (lambda: Exponential().prepare([1.0, -1.0]), "X has a waiting time of -1.0"),
        (lambda: Regression(variance="no").prepare(np.ones((5, 2))), "variance is 'no'"),
        (lambda: Biweight(0.0).prepare(np.ones(5)), "bound is 0.0"),
        (lambda: Biweight().prepare([1.0, np.inf]), "X has infinite entries"),
        (lambda: event_rows([[0.1]], 1.0, 1.0, 0.1), "start is"),
        (lambda: event_rows([[0.1]], 0.0, 1.0, 0.0), "bin_s is"),
        (lambda: event_rows([[np.nan]], 0.0, 1.0, 0.1), r"events\[0\] has"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("seed", range(5))
def test_events_and_bins_have_the_same_changes(seed):
    rng = np.random.default_rng(seed)
    rates = np.array([[5.0, 20.0], [20.0, 5.0], [8.0, 8.0]])
    events: list[list[float]] = [[], []]
    for segment, pair in enumerate(rates):
        for unit, rate in enumerate(pair):
            events[unit].extend(10.0 * segment + rng.uniform(0.0, 10.0, rng.poisson(rate * 10.0)))
    edges = np.arange(30_001) * 1e-3
    bins = np.column_stack([np.histogram(e, edges)[0] for e in events]).astype(float)
    penalty = 3.0 * np.log(30_000)
    rows = event_rows(events, 0.0, 30.0, 1e-3)
    assert len(rows.times) < 2_000
    assert rows.counts.sum() == bins.sum()
    assert rows.exposure.sum() == pytest.approx(30.0)
    sparse = pelt(rows.counts, Counts(rows.exposure), penalty)
    dense = divide_and_conquer(bins, Counts(1e-3), penalty)
    assert np.abs(rows.times[sparse.change_points] - edges[dense.change_points]).max() <= 1.001e-3
    assert len(sparse.change_points) == 2
    assert sparse.cost <= dense.cost + 1e-6


@pytest.mark.parametrize("centred", [True, False])
def test_rows_that_repeat_have_no_covariance(centred):
    x = np.random.default_rng(3).standard_normal((3000, 3))
    x[1500:1540] = x[1500]
    cost = Covariance(centred=centred)
    cache = cost.prepare(x)
    starts = np.arange(1500, 1530)
    assert (cost.costs(cache, starts, starts + 10) == np.inf).all()
    short = x[1450:1600]
    found, exact = pelt(short, cost, 60.0), optimal_partitioning(short, cost, 60.0)
    np.testing.assert_allclose(found.cost, exact.cost, rtol=1e-9)
