"""What every segment cost does with input at the edge, one test over all of `costs.__all__`."""

import numpy as np
import pytest

from hidamari.inference import costs
from hidamari.inference.costs import Additive, Cost
from hidamari.inference.segments import optimal_partitioning

NAMES = sorted(
    n for n in costs.__all__ if isinstance(getattr(costs, n), type) and hasattr(getattr(costs, n), "prepare")
)
NAMES = [n for n in NAMES if getattr(costs, n) not in (Additive, Cost)]
each = pytest.mark.parametrize("name", NAMES)
SHIFT_FREE = ("Biweight", "Covariance", "Mean", "MeanVariance", "Regression")


def series(name, n_rows=60):
    """Two columns whose level, spread and slope change in the middle."""
    rng = np.random.default_rng(4)
    late = (np.arange(n_rows) >= n_rows // 2)[:, None]
    if name in ("Counts", "Exponential"):
        x = rng.poisson(np.where(late, 30.0, 3.0), (n_rows, 2)) + 1.0
    else:
        spread = 1.0 if name in ("Biweight", "Mean") else np.where(late, 4.0, 1.0)
        x = rng.normal(size=(n_rows, 2)) * spread + np.where(late, 20.0, 0.0)
        if name in ("Covariance", "Regression"):
            x[:, 1] += np.where(late[:, 0], 3.0, -3.0) * x[:, 0]
    return np.round(x * 2**12) / 2**12


@each
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_change_is_found_forth_and_back_and_far_away(name, missing):
    cost = getattr(costs, name)()
    x = series(name)
    x[np.random.default_rng(5).random(x.shape) < missing] = np.nan
    found = optimal_partitioning(x, cost, 50.0, min_length=10).change_points
    assert len(found) == 1 and abs(found[0] - 30) <= 2
    back = optimal_partitioning(x[::-1].copy(), cost, 50.0, min_length=10).change_points
    assert np.all(np.abs(60 - back[::-1] - found) <= 0)
    for offset in (1e8, 1e10) if name in SHIFT_FREE else ():
        far = optimal_partitioning(x + offset, cost, 50.0, min_length=10).change_points
        assert far.tolist() == found.tolist()


@each
def test_nothing_observed_costs_nothing_or_is_refused(name):
    cost = getattr(costs, name)()
    x = series(name)
    x[10:20] = np.nan
    assert cost.cost(cost.prepare(x), 10, 20) == 0.0
    try:
        cache = cost.prepare(np.full((6, 2), np.nan))
    except ValueError as error:
        assert "X has" in str(error)
    else:
        assert cost.cost(cache, 0, 6) == 0.0
    assert not np.isnan(cost.cost(cost.prepare(series(name)[:1]), 0, 1))
