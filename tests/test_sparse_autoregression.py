"""Sparse fits: optimality conditions, closed forms where predictors are orthogonal, and supports found."""

import numpy as np
import pytest
from scipy.signal import lfilter

from hidamari.inference.arnet_penalty import arnet, arnet_penalty, arnet_slope
from hidamari.inference.autoregression import Lagged, LagGram, add_grams, keep, lag_gram, solve_exact
from hidamari.inference.sparse_autoregression import (
    PENALTIES,
    coordinate_descent,
    cross_validate,
    extended_bic,
    sparse_path,
)

THREE = np.array([0.2, 0.3, -0.5])
FAR = np.insert(np.zeros(7), [0, 1, 7], THREE)  # lags 1, 3, 10


def simulate(w, n, seed):
    noise = np.random.default_rng(seed).standard_normal(n + 500)
    return lfilter([1.0], [1.0, *-np.asarray(w)], noise)[500:]


def relative(coef, w):
    """100 sum |w_hat - w| / sum (|w_hat| + |w|), the measure of the paper."""
    w = np.concatenate([w, np.zeros(len(coef) - len(w))])
    return 100 * np.abs(coef - w).sum() / (np.abs(coef) + np.abs(w)).sum()


def standardised(gram, fit):
    """Coefficients and slope of the squared error in units of spreads."""
    d = np.sqrt(np.diag(gram.moments))
    R = gram.moments / np.outer(d, d)
    b = fit.coef * d[1:] / d[0]
    return b, R[1:, 0] - R[1:, 1:] @ b


def test_l1_is_stationary():
    gram = lag_gram(simulate(FAR, 800, 0), 60)
    for alpha in (0.3, 0.05, 0.005):
        fit = coordinate_descent(gram, alpha)
        b, g = standardised(gram, fit)
        np.testing.assert_allclose(g[b != 0], alpha * np.sign(b[b != 0]), atol=1e-7)
        assert np.all(np.abs(g[b == 0]) <= alpha + 1e-9)
        np.testing.assert_array_equal(fit.support, fit.coef != 0)
    assert not coordinate_descent(gram, 1.0).support.any()
    np.testing.assert_allclose(coordinate_descent(gram, 0.0).coef, solve_exact(gram).coef, atol=1e-6)


def test_concave_penalties_on_orthogonal_predictors():
    # Antoniadis and Fan 2001; Zhang 2010: scad with a = 3.7, mcp with gamma = 3, alpha = 0.1.
    r = np.array([0.05, 0.15, 0.25, 0.35, 0.5])
    moments = np.eye(6)
    moments[0, 1:] = moments[1:, 0] = r
    gram = LagGram(moments, np.zeros(6), 1000, tuple("abcde"), np.arange(0))
    scad = coordinate_descent(gram, 0.1, "scad").coef
    np.testing.assert_allclose(scad, [0.0, 0.05, (2.7 * 0.25 - 0.37) / 1.7, (2.7 * 0.35 - 0.37) / 1.7, 0.5])
    mcp = coordinate_descent(gram, 0.1, "mcp").coef
    np.testing.assert_allclose(mcp, [0.0, 0.05 * 1.5, 0.15 * 1.5, 0.35, 0.5])


def test_groups_stand_or_fall_together():
    rng = np.random.default_rng(1)
    u, v = rng.standard_normal((2, 3000))
    y = simulate([0.5], 3000, 2) + 0.4 * np.roll(u, 1) + 0.3 * np.roll(u, 3)
    gram = lag_gram(y, 3, lagged=[Lagged("u", u, 4), Lagged("v", v, 4)])
    fit = coordinate_descent(gram, 0.05, "group")
    assert fit.support.tolist() == [True] * 7 + [False] * 4
    b, g = standardised(gram, fit)
    for own in (slice(0, 3), slice(3, 7)):
        strength = 0.05 * np.sqrt(len(b[own]))
        np.testing.assert_allclose(g[own], strength * b[own] / np.linalg.norm(b[own]), atol=1e-6)
    assert np.linalg.norm(g[7:]) < 0.05 * 2
    assert sparse_path(gram, "group").support.tolist() == fit.support.tolist()
    apart = coordinate_descent(gram, 0.05, "group", groups=np.arange(11))
    np.testing.assert_allclose(apart.coef, coordinate_descent(gram, 0.05).coef, atol=1e-6)


def test_free_predictors_are_least_squares_given_the_rest():
    trend = np.linspace(0, 5, 1000)[:, None]
    gram = lag_gram(simulate(THREE, 1000, 3) + 2 * trend[:, 0], 20, trend)
    fit = coordinate_descent(gram, 0.1, free=[20])
    _, g = standardised(gram, fit)
    assert abs(g[20]) < 1e-9
    # What is not penalised has been projected out: the same as a penalised fit of residuals.
    M = gram.moments
    out = M - np.outer(M[:, 21], M[21]) / M[21, 21]
    rest = LagGram(out[:21, :21], np.zeros(21), gram.n_rows, gram.names[:20], gram.lags)
    np.testing.assert_allclose(fit.coef[:20], coordinate_descent(rest, 0.1).coef, atol=1e-8)
    assert sparse_path(gram, free=[20]).support.tolist() == [True] * 3 + [False] * 17 + [True]


@pytest.mark.parametrize("p", [20, 100, 1000])
def test_paper_figure_4(p):
    kept = {"arnet": 0, "ebic": 0}
    for seed in range(5):
        y = simulate(THREE, 100000, seed)
        oracle = relative(solve_exact(lag_gram(y, 3)).coef, THREE)
        gram = lag_gram(y, p)
        for name, fit in {"arnet": arnet_penalty(gram, 3 / p), "ebic": sparse_path(gram)}.items():
            kept[name] += np.flatnonzero(fit.support).tolist() == [0, 1, 2]
            assert relative(fit.coef, THREE) <= 1.15 * oracle
    assert min(kept.values()) >= 4


def test_paper_figure_6():
    # The paper's own figure for one series is 3.2, and 18.3 for least squares.
    errors = {name: [] for name in ("l1", "scad", "mcp", "arnet", "least squares")}
    for seed in range(20):
        gram = lag_gram(simulate(FAR, 1000, 100 + seed), 20)
        for name in ("l1", "scad", "mcp"):
            errors[name].append(relative(sparse_path(gram, name).coef, FAR))
        errors["arnet"].append(relative(arnet_penalty(gram, "ebic").coef, FAR))
        errors["least squares"].append(relative(solve_exact(gram).coef, FAR))
    assert np.mean(errors.pop("least squares")) > 15.0
    assert all(np.mean(own) <= 4.0 for own in errors.values())


@pytest.mark.parametrize("density", [0.015, 0.15, 0.99])
def test_density_may_be_wrong_by_ten(density):
    grams = [lag_gram(simulate(FAR, 1000, 100 + seed), 20) for seed in range(20)]
    assert np.mean([relative(arnet_penalty(gram, density).coef, FAR) for gram in grams]) <= 4.0


def test_path_is_what_it_says():
    gram = lag_gram(simulate(FAR, 600, 5), 40)
    for criterion in ("ebic", "bic", "aic"):
        path = sparse_path(gram, criterion=criterion).path
        for support, sigma2, size in zip(path.supports, path.sigma2, path.size):
            exact = solve_exact(keep(gram, support))
            np.testing.assert_allclose(sigma2, exact.sigma2, rtol=1e-9)
            assert size == support.sum()
        best = {"ebic": 0.5, "bic": 0.0}.get(criterion)
        if best is not None:
            less = extended_bic(gram.n_rows, path.sigma2, path.size, 40, best)
            np.testing.assert_allclose(np.diff(path.criteria[criterion]), np.diff(less), atol=1e-6)
    plain = sparse_path(gram, debias=False)
    refit = sparse_path(gram)
    assert np.abs(plain.coef).sum() < np.abs(refit.coef).sum()
    held = refit.support
    np.testing.assert_allclose(refit.coef[held], solve_exact(keep(gram, held)).coef, atol=1e-12)
    assert refit.intercept == solve_exact(keep(gram, held)).intercept


def test_more_lags_than_rows():
    gram = lag_gram(simulate(FAR, 300, 6), 200)
    for fit in (sparse_path(gram), arnet_penalty(gram, "ebic")):
        assert fit.support[9] and fit.support.sum() <= 10
    assert coordinate_descent(gram, 0.001).coef.any()


def test_cross_validation_by_refitting():
    parts = np.array_split(simulate(FAR, 1500, 7), 5)
    folds = [lag_gram(part, 15) for part in parts]
    fit = cross_validate(folds, n_alphas=6, debias=False)
    assert {0, 2, 9} <= set(np.flatnonzero(fit.support))
    total, rows = 0.0, 0
    alpha = fit.path.alpha[3]
    for i, part in enumerate(parts):
        own = coordinate_descent(add_grams([f for k, f in enumerate(folds) if k != i]), alpha)
        for t in range(15, len(part)):
            total += (part[t] - own.intercept - own.coef @ part[t - 15 : t][::-1]) ** 2
            rows += 1
    np.testing.assert_allclose(fit.path.criteria["cv"][3], total / rows, rtol=1e-8)


def test_penalty_of_the_paper():
    theta = np.array([-0.5, 0.01, 0.3])
    direct = np.mean(2 / (1 + np.exp(-3 * np.abs(theta) ** (1 / 3))) - 1)
    np.testing.assert_allclose(arnet(theta), direct, rtol=1e-12)
    step = 1e-6
    for i in range(3):
        e = step * np.eye(3)[i] * np.sign(theta[i])
        rise = (arnet(theta + e) - arnet(theta - e)) / (2 * step)
        np.testing.assert_allclose(arnet_slope(theta)[i], rise, rtol=1e-6)


def test_arnet_is_a_stationary_point_of_the_paper_objective():
    gram = lag_gram(simulate(THREE, 5000, 8), 30)
    fit = arnet_penalty(gram, 0.1, scale_factor=0.01, debias=False)
    noise = solve_exact(gram).sigma2 * gram.n_rows / gram.moments[0, 0]
    b, g = standardised(gram, fit)
    held = b != 0
    slope = 0.5 * 0.01 * (1 / 0.1 - 1) * noise * arnet_slope(b)[held]
    assert 3 <= held.sum() < 30
    np.testing.assert_allclose(g[held], slope * np.sign(b[held]), atol=1e-6)
    np.testing.assert_allclose(arnet_penalty(gram, 1.0).coef, solve_exact(gram).coef, atol=1e-8)


def test_units_do_not_matter():
    y = simulate(FAR, 1000, 9)
    for fit in (lambda z: sparse_path(lag_gram(z, 30)), lambda z: arnet_penalty(lag_gram(z, 30), 0.02)):
        one, other = fit(y), fit(1e6 * y + 1e7)
        np.testing.assert_array_equal(one.support, other.support)
        np.testing.assert_allclose(one.coef, other.coef, atol=1e-8)


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda g: coordinate_descent(g, -0.1), "alpha"),
        (lambda g: coordinate_descent(g, 0.1, "l2"), "penalty is 'l2'"),
        (lambda g: coordinate_descent(g, 0.1, "group", groups=[0, 1]), "groups has shape"),
        (lambda g: sparse_path(g, criterion="gcv"), "criterion is 'gcv'"),
        (lambda g: cross_validate([g]), "folds has 1"),
        (lambda g: arnet_penalty(g, 0.0), "density is 0.0"),
        (lambda g: arnet_penalty(g, "cv"), "density is 'cv'"),
        (lambda g: arnet_penalty(g, 0.1, c2=0.5), "c2 >= 1"),
        (lambda g: arnet_penalty(g, 0.1, scale_factor=-1.0), "scale_factor is -1"),
        (lambda g: arnet_penalty(g, 0.1, scale_factor="aic"), "scale_factor is 'aic'"),
        (lambda g: sparse_path(g._replace(names=g.names[:-1])), "responses"),
        (lambda g: sparse_path(g._replace(moments=0 * g.moments)), "does not vary"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(lag_gram(simulate(THREE, 300, 0), 5))


def test_penalties_are_listed():
    gram = lag_gram(simulate(THREE, 500, 0), 8)
    assert all(sparse_path(gram, name).support[:3].all() for name in PENALTIES)


@pytest.mark.parametrize("seed", range(8))
def test_noise_has_no_groups(seed):
    """The strength that keeps nothing is tried, whatever rounding does to it."""
    y = np.random.default_rng(seed).standard_normal(400)
    gram = lag_gram(y, 6)
    path = sparse_path(gram, "group", "ebic", groups=np.repeat([0, 1, 2], 2)).path
    assert path.size.min() == 0
