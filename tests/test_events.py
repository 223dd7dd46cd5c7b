import numpy as np
import pytest

from hidamari.inference.costs import Counts, event_rows
from hidamari.inference.segments import divide_and_conquer, fpop, optimal_partitioning

BIN = 0.001


def spikes(rng, rates, seconds):
    """Times of events of constant rates, each for so many seconds."""
    parts = [
        k * seconds + np.sort(rng.uniform(0.0, seconds, rng.poisson(r * seconds)))
        for k, r in enumerate(rates)
    ]
    return np.concatenate(parts)


def binned(events, stop):
    """Counts of bins of 1 ms, (bins, units)."""
    n = round(stop / BIN)
    return np.stack([np.bincount((t / BIN).astype(int).clip(0, n - 1), minlength=n) for t in events], axis=1)


@pytest.mark.parametrize("engine", [fpop, divide_and_conquer])
@pytest.mark.parametrize("rates", [(5, 20, 5, 20), (5, 15, 5, 15), (10, 10, 10, 10)])
def test_times_of_events_tell_what_bins_tell(engine, rates):
    for seed in range(4):
        events = [spikes(np.random.default_rng(seed), rates, 10.0)]
        bins = binned(events, 40.0)
        penalty = 2.0 * np.log(len(bins))
        rows = event_rows(events, 0.0, 40.0, BIN)
        assert len(rows.counts) < len(bins) / 20
        by_bins = engine(bins, Counts(BIN), penalty)
        by_events = engine(rows.counts, Counts(rows.exposure), penalty)
        found = rows.times[by_events.change_points]
        np.testing.assert_allclose(found, BIN * by_bins.change_points, atol=1.001 * BIN)
        assert by_events.objective == pytest.approx(by_bins.objective, rel=1e-9)


def test_several_units_share_their_changes():
    rng = np.random.default_rng(1)
    events = [spikes(rng, (5, 20), 10.0), spikes(rng, (30, 10), 10.0), np.empty(0)]
    bins = binned(events, 20.0)
    rows = event_rows(events, 0.0, 20.0, BIN)
    by_bins = divide_and_conquer(bins, Counts(BIN), 40.0)
    by_events = divide_and_conquer(rows.counts, Counts(rows.exposure), 40.0)
    np.testing.assert_allclose(
        rows.times[by_events.change_points], BIN * by_bins.change_points, atol=1.001 * BIN
    )
    assert len(by_bins.change_points) == 1


def test_runs_of_empty_bins_hold_no_change():
    # The exact search over all bins agrees with that over the few rows, small enough for both.
    for seed in range(20):
        rng = np.random.default_rng(seed)
        events = [np.sort(rng.uniform(0.0, 0.3, rng.integers(0, 9))) for _ in range(1 + seed % 2)]
        rows = event_rows(events, 0.0, 0.3, BIN)
        every = optimal_partitioning(binned(events, 0.3), Counts(BIN), 3.0)
        few = optimal_partitioning(rows.counts, Counts(rows.exposure), 3.0)
        assert few.objective == pytest.approx(every.objective, rel=1e-9, abs=1e-9)
