"""What the benchmarks of imputations compare with, and by which scores."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import _vae_baselines as baselines

TIMES = np.arange(10.0)


@pytest.fixture(scope="module")
def known():
    """Return true values, and normal distributions that err in mean and width."""
    y = np.random.default_rng(0).normal(0.2, 1.0, (1, 4000, 1))
    return y, baselines.Guess(np.zeros_like(y), np.full_like(y, 1.3)), np.ones(y.shape, dtype=bool)


def test_scores_of_gaussians(known):
    y, guess, hidden = known
    found = baselines.scores(guess, y, hidden)
    assert found["RMSE"] == pytest.approx(np.sqrt(np.mean(y**2)), rel=1e-12)
    assert found["NLL"] == pytest.approx(-norm(0, 1.3).logpdf(y).mean(), rel=1e-12)
    for name, share in (("50 %", 0.5), ("90 %", 0.9)):
        low, high = norm(0, 1.3).interval(share)
        assert found[name] == np.mean((low <= y) & (y <= high))
    # The CRPS is the integral of the squared distance of the two distribution functions.
    grid = np.linspace(-12, 12, 4801)
    below = norm(0, 1.3).cdf(grid)
    integral = [np.sum((below - (grid >= value)) ** 2) * (grid[1] - grid[0]) for value in y[0, :200, 0]]
    few = baselines.scores(baselines.Guess(*(a[:, :200] for a in guess[:2])), y[:, :200], hidden[:, :200])
    assert few["CRPS"] == pytest.approx(np.mean(integral), abs=2e-3)


def test_scores_of_draws_agree_with_those_of_the_gaussian(known):
    y, guess, hidden = known
    draws = np.random.default_rng(1).normal(0.0, 1.3, (400, *y.shape))
    drawn = baselines.scores(guess._replace(draws=draws, log_density=norm(0, 1.3).logpdf(y)), y, hidden)
    exact = baselines.scores(guess, y, hidden)
    assert drawn["NLL of the mixture"] == pytest.approx(exact["NLL"], rel=1e-12)
    assert drawn["CRPS"] == pytest.approx(exact["CRPS"], abs=2e-3)
    assert abs(drawn["50 %"] - exact["50 %"]) < 0.02 and abs(drawn["90 %"] - exact["90 %"]) < 0.01


def test_only_hidden_values_that_are_known_count(known):
    y, guess, hidden = known
    y, hidden = y.copy(), hidden.copy()
    y[0, :5], hidden[0, 5:10] = np.nan, False
    guess.mean[0, 5:10] = 1e9
    assert np.isfinite(list(baselines.scores(guess, y, hidden).values())).all()
    assert baselines.scores(guess, y, hidden)["RMSE"] < 2


def test_naive_methods():
    y = np.full((1, 10, 1), np.nan)
    y[0, [1, 4, 8], 0] = [1.0, 4.0, 2.0]
    fill = {name: method(y, TIMES, 3.5)[0, :, 0] for name, method in baselines.NAIVE.items()}
    np.testing.assert_allclose(fill["mean of seen"], 7 / 3)
    np.testing.assert_array_equal(fill["last seen"], [1, 1, 1, 1, 4, 4, 4, 4, 2, 2])
    np.testing.assert_array_equal(fill["nearest seen"], [1, 1, 1, 4, 4, 4, 4, 2, 2, 2])
    np.testing.assert_allclose(fill["linear interpolation"], [1, 1, 2, 3, 4, 3.5, 3, 2.5, 2, 2])
    # Phases of a period of 3.5: row 0 lies half a row from row 4 and a whole one from row 1.
    np.testing.assert_array_equal(fill["seasonal naive"][[0, 5, 7]], [4, 2, 4])
    whole = np.sin(TIMES / 3)[None, :, None] * np.ones(2)
    np.testing.assert_allclose(baselines.spline(whole, TIMES, 1.0), whole)


@pytest.mark.parametrize("by", ["frames", "entries"])
def test_naive_methods_know_their_errors(by):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 50, 3)).cumsum(axis=1) * [1.0, 3.0, 0.2]
    hidden = baselines.hide(x.shape, 0.6, by, rng)
    assert abs(hidden.mean() - 0.6) < 0.03
    y = np.where(hidden, np.nan, x)
    guess = baselines.naive("linear interpolation", y[:40], y[40:], 1.0, by, rng)
    z = ((x[40:] - guess.mean) / guess.sd)[hidden[40:]]
    assert abs(np.mean(z**2) - 1) < 0.15
    assert (guess.sd[:, 25, 1] > guess.sd[:, 25, 2]).all()


def test_factor_analysis_is_exact_for_what_it_models():
    rng = np.random.default_rng(3)
    import hidamari as hd

    sim = hd.datasets.simulate_spikes(
        hd.Matern(1, 4.0), 6, 30, 40, bin_s=1.0, likelihood=hd.Gaussian(0.1), random_state=rng
    )
    hidden = baselines.hide(sim.y.shape, 0.5, "entries", rng)
    y = np.where(hidden, np.nan, sim.y)
    guess, _ = baselines.factor_analysis(y[:20], y[20:], [hd.Matern(1, 2.0)], max_iter=40)
    z = ((sim.y[20:] - guess.mean) / guess.sd)[hidden[20:]]
    assert abs(np.mean(z**2) - 1) < 0.12


def test_tables_and_files(tmp_path):
    for run, value in enumerate((1.0, 2.0)):
        row = dict.fromkeys(baselines.COLUMNS, value)
        baselines.store(tmp_path / "kept.json", "task", "one", run, row)
    kept = baselines.store(tmp_path / "kept.json", "task", "two", 0, row)
    assert list(kept) == ["one", "two"] and list(kept["one"]) == ["0", "1"]
    first = "| one | 1.5000 | 1.500 | 1.5000 | 1.500 | 1.500 | 1.5 | 2 |"
    assert baselines.table(kept).splitlines()[2] == first
