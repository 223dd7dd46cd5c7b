"""The lasso along its path, against the conditions of its optimum."""

import numpy as np
import pytest
from scipy.signal import lfilter

from hidamari.inference import _homotopy
from hidamari.inference._sparse import follow, minimise, scale
from hidamari.inference.autoregression import lag_gram
from hidamari.inference.lags import LagGram
from hidamari.inference.sparse_autoregression import sparse_path

T = np.arange(4000.0)


def slow(seed=0):
    """Two seasons and a slow part: lags are so alike that descent takes hundreds of sweeps."""
    rng = np.random.default_rng(seed)
    rest = np.asarray(lfilter([1.0], [1.0, -0.98], rng.standard_normal(4000)))
    return 20 * np.sin(2 * np.pi * T / 24) + 9 * np.sin(2 * np.pi * T / 7) + rest


def worst(problem, alpha, b):
    """By how much the conditions of the optimum are missed."""
    g, held = problem.r - problem.R @ b, b != 0.0
    on = np.abs(g[held] - alpha * np.sign(b[held])).max(initial=0.0)
    return max(on, np.max(np.abs(g[~held]), initial=0.0) - alpha)


@pytest.fixture
def steps(monkeypatch):
    """How many predictors were held after each stretch of the path."""
    found, own = [], _homotopy.advance
    monkeypatch.setattr(_homotopy, "advance", lambda *a: found.append(own(*a)) or found[-1])
    return found


def test_optimal_at_every_strength(steps):
    problem = scale(lag_gram(slow(), 120), (), True)
    alphas = np.abs(problem.r).max() * np.geomspace(1.0, 1e-5, 60)
    path = list(follow(problem, alphas, "l1", np.zeros(120, dtype=int)))
    assert max(worst(problem, alpha, b) for alpha, b in zip(alphas, path)) < 1e-8
    supports = np.array([b != 0.0 for b in path])
    assert np.any(supports[:-1] & ~supports[1:])  # some have left again
    assert len(steps) > 30 and min(steps) >= 0
    assert steps[-1] == supports[-1].sum() > 60


def test_where_descent_is_quick_it_is_taken(steps):
    e = np.random.default_rng(0).standard_normal(5000)
    problem = scale(lag_gram(np.asarray(lfilter([1.0], [1.0, 0.5], e)), 50), (), True)
    alphas = np.abs(problem.r).max() * np.geomspace(1.0, 0.01, 30)
    for alpha, b in zip(alphas, follow(problem, alphas, "l1", np.zeros(50, dtype=int))):
        assert worst(problem, alpha, b) < 1e-8
    assert not steps


def test_descent_goes_on_where_the_path_fails(monkeypatch):
    problem = scale(lag_gram(slow(), 40), (), True)
    alphas = np.abs(problem.r).max() * np.geomspace(1.0, 1e-3, 30)
    good = list(follow(problem, alphas, "l1", np.zeros(40, dtype=int)))
    monkeypatch.setattr(_homotopy, "advance", lambda *_: -1)
    for alpha, one, other in zip(alphas, good, follow(problem, alphas, "l1", np.zeros(40, dtype=int))):
        least, found = (b @ problem.R @ b / 2 - problem.r @ b + alpha * np.abs(b).sum() for b in (one, other))
        assert least - 1e-12 <= found <= least + 1e-5


def test_twins_and_constants():
    # Of two equal predictors either may stand; one of no variance never does.
    gram = lag_gram(slow(1), 30)
    at = np.concatenate([np.arange(31), np.arange(1, 31)])
    moments = np.zeros((62, 62))
    moments[:61, :61] = gram.moments[np.ix_(at, at)]
    names = tuple(f"x{i}" for i in range(61))
    twice = LagGram(moments, np.zeros(62), gram.n_rows, names, np.arange(0))
    problem = scale(twice, (), True)
    alphas = np.abs(problem.r).max() * np.geomspace(1.0, 1e-4, 40)
    for alpha, b in zip(alphas, follow(problem, alphas, "l1", np.zeros(61, dtype=int))):
        assert worst(problem, alpha, b) < 1e-7 and b[60] == 0.0
    one, other = sparse_path(gram, criterion="bic"), sparse_path(twice, criterion="bic")
    np.testing.assert_allclose(other.coef[:30] + other.coef[30:60], one.coef, atol=1e-6)


def test_leaving_keeps_the_factor():
    R = np.cov(np.random.default_rng(2).standard_normal((6, 20)))
    active, signs, L = np.zeros(6, dtype=np.int64), np.arange(6.0), np.empty((6, 6))
    for n, j in enumerate([0, 1, 3, 4, 5]):
        assert _homotopy._join(R, j, active, n, L) == n + 1
    _homotopy._leave(1, active, signs, 5, L)
    assert active[:4].tolist() == [0, 3, 4, 5] and signs[:4].tolist() == [0.0, 2.0, 3.0, 4.0]
    factor = np.tril(L[:4, :4])
    np.testing.assert_allclose(factor @ factor.T, R[np.ix_(active[:4], active[:4])], atol=1e-14)
    R[2] = R[:, 2] = R[3]
    R[2, 2] = R[3, 3]
    assert _homotopy._join(R, 2, active, 4, L) == 4


def test_same_as_descent_to_the_end():
    problem = scale(lag_gram(slow(2), 24), (), True)
    alphas = np.abs(problem.r).max() * np.geomspace(1.0, 1e-2, 12)
    groups, b = np.zeros(24, dtype=int), np.zeros(24)
    for alpha, found in zip(alphas, follow(problem, alphas, "l1", groups)):
        for _ in range(20):
            b = minimise(problem, np.full(24, alpha), "l1", groups, b)
        np.testing.assert_allclose(found, b, atol=1e-6)
