"""The posterior over segmentations and the intervals, against enumeration; and draws, against marginals."""

import itertools

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import chisquare

from hidamari.inference._marginals import likeliest
from hidamari.inference.changes import (
    ChangePrior,
    best_number,
    change_posterior,
    change_prior,
    intervals,
    log_marginals,
    sample_changes,
)
from hidamari.inference.costs import Counts, Covariance, Exponential, Mean, MeanVariance, Regression
from hidamari.inference.thresholded_mean import ThresholdedMean

PRIOR = ChangePrior(1.0, 4.0, 1.0)
COSTS = {
    "mean": Mean(),
    "mean and variance": MeanVariance(),
    "counts": Counts(),
    "covariance": Covariance(),
    "sparse mean": ThresholdedMean(),
}


def data(name, rng, n=11):
    x = 2.0 * (np.arange(n)[:, None] >= n // 2) + rng.normal(size=(n, 2))
    return rng.poisson(np.exp(x)) if name == "counts" else x


def every(n, least):
    """All segmentations of n rows into segments of at least so many rows."""
    for k in range(n):
        for changes in itertools.combinations(range(1, n), k):
            edges = [0, *changes, n]
            if min(np.diff(edges)) >= least:
                yield changes, np.array(edges)


def weigh(cost, x, price, least):
    """Log weight of every segmentation."""
    marginal = log_marginals(cost, cost.prepare(x), x, ChangePrior(1.3, price, 0.8))
    return marginal, {
        changes: float(marginal(edges[:-1], edges[1:]).sum()) - 0.5 * price * len(changes)
        for changes, edges in every(len(x), least)
    }


@pytest.mark.parametrize("least", [1, 3])
@pytest.mark.parametrize("name", COSTS)
def test_the_posterior_is_that_of_enumeration(name, least, rng):
    cost = COSTS[name]
    least = max(least, cost.min_length(2))
    x = data(name, rng)
    marginal, weights = weigh(cost, x, 4.0, least)
    total = logsumexp(list(weights.values()))
    expected = np.zeros(len(x))
    for changes, weight in weights.items():
        expected[list(changes)] += np.exp(weight - total)
    found = change_posterior(marginal, np.arange(len(x) + 1), 4.0, least)
    assert found.log_evidence == pytest.approx(total, abs=1e-10)
    np.testing.assert_allclose(found.probability, expected, atol=1e-10, rtol=0)


def test_places_restrict_the_segmentations(rng):
    x = data("mean", rng)
    marginal, weights = weigh(COSTS["mean"], x, 4.0, 1)
    places = np.array([0, 2, 5, 6, 9, 11])
    kept = {changes: weight for changes, weight in weights.items() if set(changes) <= set(places)}
    total = logsumexp(list(kept.values()))
    found = change_posterior(marginal, places, 4.0)
    assert found.log_evidence == pytest.approx(total, abs=1e-10)
    fives = sum(np.exp(weight - total) for changes, weight in kept.items() if 5 in changes)
    assert found.probability[5] == pytest.approx(fives, abs=1e-10)
    assert not found.probability[[1, 3, 4, 7, 8, 10]].any()


def test_draws_agree_with_the_posterior(rng):
    x = data("mean", rng, 8)
    marginal, weights = weigh(COSTS["mean"], x, 3.0, 2)
    posterior = change_posterior(marginal, np.arange(9), 3.0, 2)
    draws = sample_changes(posterior, marginal, 3.0, 20_000, rng, 2)
    names = list(weights)
    counts = np.array([0] * len(names))
    for draw in draws:
        counts[names.index(tuple(int(c) for c in draw))] += 1
    expected = np.exp(np.array(list(weights.values())) - posterior.log_evidence) * len(draws)
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    assert chisquare(observed[expected > 0], expected[expected > 0]).pvalue > 0.001


def test_intervals_hold_their_probability_and_no_row_too_many(rng):
    x = data("mean", rng, 60)
    marginal = log_marginals(Mean(), Mean().prepare(x), x, PRIOR)
    bounds, (chance,) = intervals(marginal, [30], 60, 0.9)
    rows = np.arange(1, 60)
    log = np.array([marginal(np.array([0, t]), np.array([t, 60])).sum() for t in rows])
    np.testing.assert_allclose(chance, np.exp(log - logsumexp(log)), atol=1e-12)
    inside = (rows >= bounds[0, 0]) & (rows <= bounds[0, 1])
    assert chance[inside].sum() >= 0.9
    outside = chance[~inside].max()
    assert chance[[bounds[0, 0] - 1, bounds[0, 1] - 1]].min() >= outside


def test_simultaneous_intervals_are_wider(rng):
    x = rng.normal(size=300) + np.repeat([0.0, 1.0, 0.0], 100)
    marginal = log_marginals(Mean(), Mean().prepare(x), x, PRIOR)
    each, _ = intervals(marginal, [100, 200], 300, 0.95)
    together, _ = intervals(marginal, [100, 200], 300, 0.95, simultaneous=True)
    exact, _ = intervals(marginal, [100, 200], 300, 0.975)
    np.testing.assert_array_equal(together, exact)
    assert (np.diff(together) >= np.diff(each)).all() and np.diff(together).sum() > np.diff(each).sum()


def test_the_prior_pays_the_penalty():
    for penalty, n, p in ((20.0, 1000, 1), (150.0, 200, 100), (60.0, 2000, 20)):
        prior = change_prior(penalty, n, p, 100.0)
        assert prior.price + p * np.log1p(100.0 / prior.information) == pytest.approx(penalty)
        assert prior.price + p * prior.few == pytest.approx(penalty)
        assert prior.price == pytest.approx(2.0 * np.log(n))
    assert change_prior(7.0, 1000, 0, 100.0).price == 7.0
    assert change_prior(1.0, 1000, 1, 100.0).information > 0


@pytest.mark.parametrize("n_changes", [0, 1, 2, 3])
def test_the_best_of_a_number_is_that_of_enumeration(n_changes, rng):
    x = data("mean", rng)
    cost, cache = Mean(), Mean().prepare(x)
    costs = {
        changes: float(cost.costs(cache, edges[:-1], edges[1:]).sum())
        for changes, edges in every(len(x), 2)
        if len(changes) == n_changes
    }
    assert tuple(best_number(cost, cache, np.arange(12), n_changes, 2)) == min(costs, key=lambda c: costs[c])


def test_too_many_changes_are_refused(rng):
    x = data("mean", rng)
    with pytest.raises(ValueError, match="n_changes is 5: so many segments of 3 rows"):
        best_number(Mean(), Mean().prepare(x), np.arange(12), 5, 3)


def test_gaps_carry_no_information():
    """A segment that saw nothing, and rows that were not observed, change no probability of others."""
    x = np.array([0.0, 0.1, 5.0, 5.1])
    gappy = np.insert(x, 4, [np.nan] * 3)
    for series, end in ((x, 4), (gappy, 7)):
        marginal = log_marginals(Mean(), Mean().prepare(series), series, PRIOR)
        np.testing.assert_allclose(
            marginal(np.array([0, 2]), np.array([2, end])).sum(),
            -0.5 * 0.01 - np.log(3.0) - 1.0 / 3.0,
            rtol=1e-12,
        )


def test_a_series_without_change_has_few_expected_changes(rng):
    """About one in T rows is the prior's; the data take most of that away, for many parameters too."""
    for cost, d in ((Mean(), 1), (Mean(), 50), (MeanVariance(), 2), (Covariance(), 3)):
        expected = []
        for _ in range(5):
            x = rng.normal(size=(150, d))
            p = cost.n_parameters(d)
            penalty = p + 2.0 * np.sqrt(p * np.log(150)) + 2.0 * np.log(150)
            prior = change_prior(penalty, 150, p, 150.0)
            marginal = log_marginals(cost, cost.prepare(x), x, prior)
            least = 2 * cost.min_length(d) + 3
            expected.append(change_posterior(marginal, np.arange(151), prior.price, least).probability.sum())
        assert np.median(expected) < 1.0, (cost, expected)


@pytest.mark.parametrize("hole", [False, True])
@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("cost", [Mean(), Counts(), Covariance(centred=False), Regression(), Exponential()])
def test_compiled_weights_are_those_of_single_segments(cost, blocks, hole, rng):
    """Segments priced one by one are the oracle."""
    x = np.abs(rng.normal(size=(400, 3)) + np.repeat([3.0, 4.0, 3.0], [100, 150, 150])[:, None]).round(2)
    if hole:
        x[rng.random(400) < 0.1, 2] = np.nan
        x[250:260] = np.nan
    cache = cost.prepare(x)
    least = cost.min_length(3) + 2
    marginal = log_marginals(cost, None if blocks else cache, x, PRIOR, 1.3)
    seen = np.concatenate([[0.0], np.cumsum((~np.isnan(x)).mean(axis=1))])
    p = cost.n_parameters(3)

    def single(starts, ends):
        n = seen[ends] - seen[starts]
        return -cost.costs(cache, starts, ends) / 2.6 - 0.5 * p * (np.log1p(n) + 1.0 / (1.0 + n))

    places = np.unique(np.concatenate([np.arange(0, 401, 7), [100, 250, 400]]))
    fast, slow = (change_posterior(m, places, 9.0, least) for m in (marginal, single))
    assert fast.log_evidence == pytest.approx(slow.log_evidence, rel=1e-12)
    np.testing.assert_allclose(fast.probability, slow.probability, atol=1e-9, rtol=0)
    bounds, chances = intervals(marginal, [100, 250], 400, 0.9, least)
    expected, slowly = intervals(single, [100, 250], 400, 0.9, least)
    np.testing.assert_array_equal(bounds, expected)
    for found, wanted in zip(chances, slowly):
        np.testing.assert_allclose(found, wanted, atol=1e-9, rtol=0)


def test_the_likeliest_rows_are_those_of_a_full_sort(rng):
    chance = np.where(rng.random(500) < 0.9, 0.0, rng.random(500).round(1))
    for count in (1, 30, 100, 500):
        np.testing.assert_array_equal(likeliest(chance, count), np.argsort(-chance, kind="stable")[:count])
