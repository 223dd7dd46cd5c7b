"""The published procedure: against the published simulations set by set, and against brute force."""

import numpy as np
import pytest
from scipy.optimize import minimize

from hidamari.inference.dcdp_paper import paper_procedure
from hidamari.inference.lasso import group_lasso


def lengths(rng, spacing, jitter):
    n = np.full(4, spacing) + rng.uniform(-jitter, jitter, 4).astype(int)
    n[-1] = 4 * spacing - n[:-1].sum()
    return n


def steps(p, amplitude):
    theta = np.zeros((4, p))
    for t in range(4):
        theta[t, 5 * t : 5 * t + 5] = amplitude
    return theta


def mean_sets(n_sets, spacing, p, amplitude, jitter):
    """Sets as the authors drew them, with the legacy generator."""
    rng = np.random.RandomState(0)
    for _ in range(n_sets):
        n = lengths(rng, spacing, jitter)
        x, second = (
            np.concatenate([rng.multivariate_normal(m, np.eye(p), k) for m, k in zip(steps(p, amplitude), n)])
            for _ in range(2)
        )
        yield x, None, second, np.cumsum(n)[:-1]


def regression_sets(n_sets, p, amplitude, noise=0.0):
    rng, other = np.random.RandomState(0), np.random.default_rng(1)
    for _ in range(n_sets):
        n = lengths(rng, 50, 15.0)
        samples = []
        for _ in range(2):
            z = [rng.normal(0, 1, (k, p)) for k in n]
            y = np.concatenate([a @ b for a, b in zip(z, steps(p, amplitude))])
            samples.append((np.concatenate(z), y + noise * other.standard_normal(len(y))))
        yield *samples[0], samples[1], np.cumsum(n)[:-1]


def covariance_sets(n_sets, spacing, p, diagonal, jitter):
    rng = np.random.RandomState(0)
    other = diagonal * np.eye(p) + 0.3 * (np.eye(p, k=1) + np.eye(p, k=-1))
    for _ in range(n_sets):
        n = lengths(rng, spacing, jitter)
        x, second = (
            np.concatenate(
                [rng.multivariate_normal(np.zeros(p), (np.eye(p), other)[t % 2], k) for t, k in enumerate(n)]
            )
            for _ in range(2)
        )
        yield x, None, second, np.cumsum(n)[:-1]


def errors(sets, **arguments):
    found = []
    for x, y, second, true in sets:
        changes = paper_procedure(x, y=y, validation=second, **arguments).change_points
        gaps = np.abs(np.subtract.outer(changes, true))
        found.append(int(max(gaps.min(axis=0).max(), gaps.min(axis=1).max())))
    return found


AUTHORS = {"refine": "separate", "lambdas": 0.1, "min_length": 2}


@pytest.mark.parametrize("setting, gammas, margin, expected", [
    ((50, 20, 5.0, 15), (200, 300, 500), 2, [0, 0, 0, 0, 0, 0]),
    ((50, 20, 1.0, 15), (100, 200, 300), 1, [0, 0, 1, 0, 1, 0, 1, 0, 0]) ,
    ((50, 20, 0.5, 15), (50, 100), 1, [8, 0, 2, 2, 4, 0, 3, 4, 12, 1, 14, 1]),
    ((50, 100, 1.0, 15), (200, 300, 500), 1, [1, 1, 0, 1, 1, 2]),
    ((200, 100, 0.5, 60), (200, 300, 500), 1, [6, 216, 10, 2]),
])  # fmt: skip
def test_means_of_the_paper(setting, gammas, margin, expected):
    found = errors(mean_sets(len(expected), *setting), gammas=gammas, margin=margin, **AUTHORS)
    assert found == expected


# The notebook prints these errors.
@pytest.mark.parametrize("amplitude, gammas, expected", [
    (5.0, (400, 800), [0, 0, 0, 0]),
    (1.0, (100,), [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    (0.5, (50,), [56, 46, 0, 42, 42, 50, 42, 0, 0, 54]),
])  # fmt: skip
def test_regressions_of_the_paper(amplitude, gammas, expected):
    sets = regression_sets(len(expected), 20, amplitude)
    assert errors(sets, model="regression", gammas=gammas, **AUTHORS) == expected


def test_covariances_of_the_paper():
    arguments = {"model": "covariance", "refine": "separate", "lambdas": 0.0, "gammas": 100, "margin": 10}
    found = errors(covariance_sets(6, 500, 5, 2.0, 150), min_length=10, **arguments)
    assert found == [1, 4, 8, 7, 13, 9]
    arguments |= {"gammas": (100, 200, 300), "margin": 4, "n_grid": 50}
    assert np.mean(errors(covariance_sets(6, 100, 10, 5.0, 5), min_length=4, **arguments)) <= 0.6


def test_univariate_points_of_the_figure():
    total = []
    for b in range(3):
        rng = np.random.RandomState(b)
        n = lengths(rng, 500, 150.0)
        x, second = (
            np.concatenate([rng.multivariate_normal([m], np.eye(1), k) for m, k in zip((0, 1) * 2, n)])
            for _ in range(2)
        )
        sets = [(x, None, second, np.cumsum(n)[:-1])]
        total += errors(sets, refine="separate", lambdas=0.0, gammas=(10, 50, 100), min_length=10)
    assert total == [2, 1, 8]


def test_group_refinement_is_no_worse_and_needs_no_gammas():
    assert np.mean(errors(mean_sets(15, 50, 20, 1.0, 15))) <= 0.7
    assert np.mean(errors(mean_sets(4, 50, 100, 1.0, 15))) <= 1.0
    assert np.mean(errors(covariance_sets(3, 100, 10, 5.0, 5), model="covariance", n_grid=50)) <= 0.7
    assert np.mean(errors(regression_sets(3, 20, 5.0, 1.0), model="regression")) <= 0.7


def test_group_refinement_of_means_is_the_best_split():
    x = np.random.default_rng(0).normal(size=(40, 3))
    x[17:] += [1.0, 0.0, -0.5]
    zeta = 2.5

    def side(theta, rows):
        return ((rows - theta) ** 2).sum()

    # One grid point makes the window known: (20 / 3, 20 / 3 + 2 / 3 40) of the one change found.
    found = paper_procedure(x, n_grid=1, lambdas=zeta, gammas=0.0, margin=1)
    assert found.preliminary.tolist() == [20]
    start, end = 6, 33
    x, n = x[start:end], end - start

    def windowed(at):
        def total(t):
            penalty = np.sqrt(at * t[:3] ** 2 + (n - at) * t[3:] ** 2).sum()
            return side(t[:3], x[:at]) + side(t[3:], x[at:]) + zeta * penalty

        begin = np.concatenate([x[:at].mean(axis=0), x[at:].mean(axis=0)])
        return minimize(total, begin, method="Powell", options={"xtol": 1e-9, "ftol": 1e-12})

    best = min((windowed(at) for at in range(1, n)), key=lambda r: r.fun)
    scan = [side(best.x[:3], x[:at]) + side(best.x[3:], x[at:]) for at in range(1, n)]
    assert found.change_points.tolist() == [start + 1 + int(np.argmin(scan))]


def test_group_refinement_of_regressions_is_the_best_split():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(60, 4))
    y = np.where(np.arange(60) < 25, z @ [2.0, 0.0, 0.0, 1.0], z @ [0.0, 0.0, 0.0, -1.0])
    y = y + rng.normal(size=60)
    zeta = 6.0
    found = paper_procedure(z, "regression", y, n_grid=1, lambdas=zeta, gammas=0.0, margin=3)
    start, end = 10, 50
    z, y = z[start:end], y[start:end]
    values, fits = [], []
    for at in range(3, 38):
        b1, b2 = group_lasso(z[:at], y[:at], z[at:], y[at:], zeta)
        fit = ((y[:at] - z[:at] @ b1) ** 2).sum() + ((y[at:] - z[at:] @ b2) ** 2).sum()
        values.append(fit + zeta * np.sqrt(at * b1**2 + (40 - at) * b2**2).sum())
        fits.append((b1, b2))
    b1, b2 = fits[int(np.argmin(values))]
    before, after = (y - z @ b1) ** 2, (y - z @ b2) ** 2
    scan = [before[:at].sum() + after[at:].sum() for at in range(1, 40)]
    assert found.change_points.tolist() == [start + 1 + int(np.argmin(scan))]


def test_separate_refinement_as_the_authors_wrote_it():
    x, second = np.random.default_rng(2).normal(size=(2, 70, 2))
    x[33:] += 1.2
    second[33:] += 1.2
    edges = [i * 70 // 11 for i in range(12)]
    best, last = {0: 30.0}, {}

    def cost(rows):
        mean = rows.mean(axis=0)
        return ((rows - np.sign(mean) * np.maximum(np.abs(mean) - 0.1, 0)) ** 2).sum()

    for r in edges[1:]:
        values = {l: best[l] + 30.0 + cost(x[l:r]) for l in edges if l < r and r - l >= 5}
        last[r] = min(values, key=lambda l: values[l])
        best[r] = values[last[r]]
    coarse, at = [], last[70]
    while at:
        coarse, at = [at, *coarse], last[at]
    places = [0, *coarse, 70]
    fine = []
    for a, b, c in zip(places, places[1:], places[2:]):
        start, end = int(2 / 3 * a + b / 3), int(2 / 3 * c + b / 3)
        values = {t: cost(x[start:t]) + cost(x[t:end]) for t in range(start + 5, end - 3)}
        fine.append(min(values, key=lambda t: values[t]))
    found = paper_procedure(
        x, validation=second, n_grid=10, lambdas=0.1, gammas=30.0, refine="separate", min_length=5, margin=4
    )
    assert len(coarse) == 1
    assert found.preliminary.tolist() == coarse and found.change_points.tolist() == fine


def test_odd_rows_validate_where_there_is_no_second_sample():
    x = np.random.default_rng(3).normal(size=(401, 4))
    x[150:, :2] += 2.0
    found = paper_procedure(x)
    assert len(found.change_points) == 1 and abs(found.change_points[0] - 150) <= 4
    assert found.change_points[0] % 2 == 0 and found.preliminary[0] % 2 == 0
    assert found.penalty > 0 and found.sparsity > 0 and np.isfinite(found.loss)
    whole = paper_procedure(x, lambdas=2.0, gammas=50.0)
    assert len(whole.change_points) == 1 and abs(whole.change_points[0] - 150) <= 2
    assert whole.sparsity == 2.0 and whole.penalty == 50.0


def test_nothing_is_found_in_noise():
    x, second = np.random.default_rng(4).normal(size=(2, 200, 5))
    assert paper_procedure(x, validation=second, gammas=(40.0, 80.0)).change_points.tolist() == []
    assert paper_procedure(np.zeros((20, 2))).change_points.tolist() == []


def test_sparse_precisions_in_the_divide_step():
    x, _, second, true = next(covariance_sets(1, 100, 10, 5.0, 5))
    found = paper_procedure(x, "covariance", validation=second, lambdas=(0.0, 2.0), n_grid=20)
    assert found.change_points.tolist() == pytest.approx(true.tolist(), abs=2)


def test_arguments():
    x, y = np.zeros((20, 2)), np.zeros(20)
    for word, arguments in {
        "model": {"model": "median"},
        "y is missing": {"model": "regression"},
        "y is given": {"y": y},
        "y has shape": {"model": "regression", "y": y[:3]},
        "refine": {"refine": "both"},
        "n_grid": {"n_grid": 0},
        "lambdas": {"lambdas": [-1.0]},
        "gammas": {"gammas": []},
        "zeta": {"zeta": -1.0},
        "min_length": {"min_length": 0},
        "margin": {"margin": 0},
        "validation": {"validation": x[:5]},
    }.items():
        with pytest.raises(ValueError, match=word):
            paper_procedure(x, **arguments)
    with pytest.raises(ValueError, match="not finite"):
        paper_procedure(np.full((20, 2), np.nan))
