"""Least squares from moments against least squares on the matrix of lags, and the recursions against both."""

import numpy as np
import pytest

from hidamari.inference.autoregression import (
    Lagged,
    add_grams,
    best_order,
    fit_exact,
    keep,
    lag_gram,
    solve_exact,
    solve_qr,
)
from hidamari.inference.reflections import burg, levinson

# statsmodels 0.15.0: AutoReg(sunspots of 1700-1799, 3, trend="c").fit(), params, bse and sigma2.
SUNSPOTS = """
5.0 11.0 16.0 23.0 36.0 58.0 29.0 20.0 10.0 8.0 3.0 0.0 0.0 2.0 11.0 27.0 47.0 63.0 60.0 39.0 28.0 26.0
22.0 11.0 21.0 40.0 78.0 122.0 103.0 73.0 47.0 35.0 11.0 5.0 16.0 34.0 70.0 81.0 111.0 101.0 73.0 40.0
20.0 16.0 5.0 11.0 22.0 40.0 60.0 80.9 83.4 47.7 47.8 30.7 12.2 9.6 10.2 32.4 47.6 54.0 62.9 85.9 61.2
45.1 36.4 20.9 11.4 37.8 69.8 106.1 100.8 81.6 66.5 34.8 30.6 7.0 19.8 92.5 154.4 125.9 84.8 68.1 38.5
22.8 10.2 24.1 82.9 132.0 130.9 118.1 89.9 66.6 60.0 46.9 41.0 21.3 16.0 6.4 4.1 6.8
"""
PARAMS = [15.234807276647551, 1.3464930524933423, -0.6639651559077352, -0.008569426205077672]
ERRORS = [3.1155844991620576, 0.10148502379418471, 0.15629940226121658, 0.10155210393978016]
SIGMA2 = 245.12631441921005


def simulate(w, n, seed, level=0.0):
    """An autoregression with unit noise."""
    rng = np.random.default_rng(seed)
    y = np.zeros(n + 200)
    for t in range(len(w), len(y)):
        y[t] = y[t - len(w) : t][::-1] @ w + rng.standard_normal()
    return y[200:] + level


def design(y, lags, columns=None, lagged=()):
    """Rows [y, predictors] one by one, those with a NaN left out."""
    rows = []
    for t in range(len(y)):
        row = [y[t]]
        for z, own in [(y, lags), *lagged]:
            row += [z[t - i] if t >= i else np.nan for i in own]
        row += list(columns[t]) if columns is not None else []
        rows.append(row)
    rows = np.array(rows)
    return rows[~np.isnan(rows).any(1)]


def least_squares(rows, intercept=True):
    """Intercept, coefficients, RSS / N and standard errors by numpy."""
    X = np.column_stack([np.ones(len(rows)), rows[:, 1:]]) if intercept else rows[:, 1:]
    b = np.linalg.lstsq(X, rows[:, 0], rcond=None)[0]
    sigma2 = np.mean((rows[:, 0] - X @ b) ** 2)
    return b, sigma2, np.sqrt(np.diag(np.linalg.inv(X.T @ X)) * sigma2)


@pytest.mark.parametrize("p", [1, 3, 20, 100])
@pytest.mark.parametrize("intercept", [True, False])
def test_moments_give_least_squares(p, intercept):
    # Coefficients, variance and errors of statsmodels 0.15 AutoReg(y, p, trend="c") agree to 1e-14 besides.
    y = simulate([0.5, -0.2, 0.3], 5000, p, level=2.0)
    b, sigma2, errors = least_squares(design(y, range(1, p + 1)), intercept)
    for fit in (fit_exact(y, p, intercept=intercept), solve_qr(y, p, intercept=intercept)):
        found = np.concatenate([[fit.intercept], fit.coef])[0 if intercept else 1 :]
        np.testing.assert_allclose(found, b, rtol=0, atol=1e-12)
        np.testing.assert_allclose(fit.sigma2, sigma2, rtol=1e-12)
        np.testing.assert_allclose(np.sqrt(np.diag(fit.cov))[0 if intercept else 1 :], errors, rtol=1e-10)
        assert fit.n_rows == len(y) - p


def test_numbers_of_statsmodels():
    y = np.array(SUNSPOTS.split(), dtype=float)
    fit = fit_exact(y, 3)
    np.testing.assert_allclose([fit.intercept, *fit.coef], PARAMS, rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.cov)), ERRORS, rtol=1e-8)
    np.testing.assert_allclose(fit.sigma2, SIGMA2, rtol=1e-9)


@pytest.mark.parametrize("T,lags", [(3000, 40), (3000, [1, 5, 400]), (300, [2, 7]), (60, 30), (9000, 200)])
@pytest.mark.parametrize("missing", [0.0, 0.002])
def test_moments_of_everything(T, lags, missing):
    rng = np.random.default_rng(T)
    y, u = simulate([0.6], T, 1, 5.0), rng.standard_normal(T) + 3.0
    columns = np.column_stack([np.arange(T) / T, rng.standard_normal(T)])
    for z in (y, u):
        z[rng.random(T) < missing] = np.nan
    columns[rng.random(T) < missing, 1] = np.nan
    own = np.arange(1, lags + 1) if isinstance(lags, int) else np.array(lags)
    rows = design(y, own, columns, [(u, [0, 2, 3])])
    gram = lag_gram(y, lags, columns, [Lagged("u", u, [0, 2, 3])], column_names=["trend", "x"])
    away = rows - rows.mean(0)
    assert gram.n_rows == len(rows)
    assert gram.names[-5:] == ("u lag 0", "u lag 2", "u lag 3", "trend", "x")
    np.testing.assert_allclose(gram.means, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(gram.moments, away.T @ away, rtol=0, atol=1e-12 * np.abs(away.T @ away).max())


def test_several_responses():
    y = simulate([0.6, 0.2], 500, 2)
    gram = lag_gram(y, 3, steps=4)
    rows = np.array([[*y[t : t + 4], *y[t - 3 : t][::-1]] for t in range(3, 497)])
    away = rows - rows.mean(0)
    np.testing.assert_allclose(gram.moments, away.T @ away, atol=1e-10)
    fit = solve_exact(gram, response=2)
    b = least_squares(rows[:, [2, 4, 5, 6]])[0]
    np.testing.assert_allclose([fit.intercept, *fit.coef], b, atol=1e-12)
    assert keep(gram, [0], 2).moments.shape == (2, 2)


def test_moments_of_parts_add():
    y = simulate([0.5, -0.3], 900, 3, 7.0)
    parts = [y[:400], y[400:410], y[410:]]
    whole = lag_gram(parts, 12)
    added = add_grams([lag_gram(parts[0], 12), lag_gram(parts[2], 12)])
    rows = np.vstack([design(part, range(1, 13)) for part in parts if len(part) > 12])
    away = rows - rows.mean(0)
    for gram in (whole, added):
        assert gram.n_rows == len(rows)
        np.testing.assert_allclose(gram.moments, away.T @ away, rtol=0, atol=1e-10)
        np.testing.assert_allclose(gram.means, rows.mean(0), rtol=1e-12)
    with pytest.raises(ValueError, match="different predictors"):
        add_grams([whole, lag_gram(parts, 3)])


def test_level_and_unit_change_nothing():
    y = simulate([0.7, 0.1, 0.1], 20000, 4)
    plain = fit_exact(y, 36)
    np.testing.assert_allclose(fit_exact(y + 1e6, 36).coef, plain.coef, rtol=0, atol=1e-7)
    for unit in (1e8, 1e-8):
        scaled = fit_exact(y * unit, 36)
        np.testing.assert_allclose(scaled.coef, plain.coef, rtol=0, atol=1e-9)
        np.testing.assert_allclose(scaled.sigma2, plain.sigma2 * unit**2, rtol=1e-9)


def test_triangles_take_over_from_moments():
    t = np.arange(3000.0)
    smooth = (
        np.sin(0.01 * t) + 0.3 * np.sin(0.023 * t) + 1e-7 * np.random.default_rng(5).standard_normal(3000)
    )
    assert solve_exact(lag_gram(smooth, 4)).condition > 1e10
    fit = fit_exact(smooth, 4)
    b, sigma2, _ = least_squares(design(smooth, range(1, 5)))
    np.testing.assert_allclose(fit.sigma2, sigma2, rtol=1e-6)
    np.testing.assert_allclose([fit.intercept, *fit.coef], b, atol=1e-5)
    assert fit.condition > 1e10


def test_collinear_predictors():
    y = simulate([0.5], 400, 6)
    columns = np.random.default_rng(0).standard_normal((400, 1)) * np.array([1.0, 2.0])
    with pytest.raises(ValueError, match="collinear"):
        solve_exact(lag_gram(y, 2, columns))
    fit = fit_exact(y, 2, columns)
    assert fit.condition == np.inf
    one = fit_exact(y, 2, columns[:, :1])
    np.testing.assert_allclose(fit.coef[2] + 2 * fit.coef[3], one.coef[2], atol=1e-10)
    assert solve_exact(lag_gram(y, 2, columns), ridge=1e-6).coef[2] > -1.0


def test_ridge():
    y = simulate([0.5, 0.2], 300, 7)
    rows = design(y, range(1, 6))
    away = rows - rows.mean(0)
    X, z = away[:, 1:], away[:, 0]
    b = np.linalg.solve(X.T @ X + 0.1 * np.diag(np.diag(X.T @ X)), X.T @ z)
    np.testing.assert_allclose(solve_exact(lag_gram(y, 5), ridge=0.1).coef, b, atol=1e-12)


def test_all_orders_from_one_factor():
    y = simulate([0.5, 0.0, -0.3], 800, 8)
    gram = lag_gram(y, 10, np.arange(800.0)[:, None])
    for name in ("aic", "aicc", "bic", "fpe"):
        fit = best_order(gram, name)
        each = [solve_exact(keep(gram, [*range(k), 10])).sigma2 for k in range(11)]
        np.testing.assert_allclose(fit.path.sigma2, each, rtol=1e-10)
        assert len(fit.lags) == np.argmin(fit.path.criteria[name])
    assert len(best_order(gram, "bic").lags) == 3
    with pytest.raises(ValueError, match="best is 'cv'"):
        best_order(gram, "cv")


def test_levinson_solves_yule_walker():
    y = simulate([0.5, -0.3, 0.2], 700, 9, 4.0)
    z = y - y.mean()
    r = np.array([z[k:] @ z[: len(z) - k] for k in range(31)]) / len(z)
    for p in (1, 2, 5, 30):
        fit = levinson(y, p)
        R = r[np.abs(np.subtract.outer(np.arange(p), np.arange(p)))]
        w = np.linalg.solve(R, r[1 : p + 1])
        np.testing.assert_allclose(fit.coef, w, atol=1e-12)
        np.testing.assert_allclose(fit.sigma2, r[0] - w @ r[1 : p + 1], rtol=1e-12)
        np.testing.assert_allclose(fit.cov[1:, 1:], fit.sigma2 * np.linalg.inv(R) / 700, atol=1e-12)
        np.testing.assert_allclose(fit.condition, np.linalg.cond(R, 1), rtol=1e-9)
        np.testing.assert_allclose(fit.intercept, y.mean() * (1 - w.sum()), rtol=1e-9)
    long = simulate([0.5, -0.3, 0.2], 20000, 9)
    assert len(levinson(long, 30, best="bic").coef) == len(burg(long, 30, best="bic").coef) == 3


def test_burg_by_its_definition():
    y = simulate([0.5, -0.3, 0.2], 60, 10)
    y[25] = np.nan
    z = y - np.nanmean(y)
    runs = [(z[:25], z[:25]), (z[26:], z[26:])]
    g = []
    for _ in range(4):
        runs = [(f[1:], b[:-1]) for f, b in runs]
        cross = 2 * sum(f @ b for f, b in runs)
        g.append(cross / sum(f @ f + b @ b for f, b in runs))
        runs = [(f - g[-1] * b, b - g[-1] * f) for f, b in runs]
    w = np.zeros(0)
    for k in g:
        w = np.concatenate([w - k * w[::-1], [k]])
    np.testing.assert_allclose(burg(y, 4).coef, w, atol=1e-12)
    whole = burg(simulate([0.5, -0.3, 0.2], 20000, 11), 3)
    np.testing.assert_allclose(whole.coef, [0.5, -0.3, 0.2], atol=4 * np.sqrt(whole.cov[1, 1]))


@pytest.mark.parametrize("fit", [levinson, burg])
def test_stationary_however_short(fit):
    for seed in range(100):
        y = np.cumsum(np.random.default_rng(seed).standard_normal(50))
        assert np.all(np.abs(np.roots([1.0, *-fit(y, 20).coef])) < 1.0)


def test_errors_cover():
    hits = np.zeros(3)
    for seed in range(200):
        y = simulate([0.6, -0.3], 400, 100 + seed, 3.0)
        fit = fit_exact(y, 2)
        truth = np.array([3.0 * (1 - 0.3), 0.6, -0.3])
        hits += np.abs(np.concatenate([[fit.intercept], fit.coef]) - truth) < 1.96 * np.sqrt(np.diag(fit.cov))
    assert np.all(hits > 0.9 * 200) and np.all(hits < 0.99 * 200)


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda y: lag_gram(y, -1), "lags is -1"),
        (lambda y: lag_gram(y, [1, 1]), "distinct"),
        (lambda y: lag_gram(y, [0]), "at least 1"),
        (lambda y: lag_gram(y, [0.5]), "sequence of ints"),
        (lambda y: lag_gram(y, 100), "no row"),
        (lambda y: lag_gram(y * np.nan, 1), "no row"),
        (lambda y: lag_gram(y + np.inf, 1), "infinite"),
        (lambda y: lag_gram(y[:, None], 1), "shape"),
        (lambda y: lag_gram(y, 1, steps=0), "steps is 0"),
        (lambda y: lag_gram(y, 1, np.ones((5, 1))), "rows"),
        (lambda y: lag_gram(y, 1, np.ones((50, 1)), column_names=["a", "b"]), "column_names"),
        (lambda y: lag_gram(y, 1, lagged=[Lagged("u", y[:5], 1)]), "lagged 'u'"),
        (lambda y: fit_exact(y, 30), "complete rows"),
        (lambda y: solve_exact(lag_gram(y, 1), ridge=-1.0), "ridge"),
        (lambda y: solve_exact(lag_gram(y, 1), response=1), "response"),
        (lambda y: add_grams([]), "empty"),
        (lambda y: burg(y, 50), "order"),
        (lambda y: levinson(y * 0.0, 2), "does not vary"),
        (lambda y: burg(np.where(np.arange(50) % 3, y, np.nan), 2), "longest run"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0).standard_normal(50))
