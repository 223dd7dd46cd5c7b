"""The horseshoe on moments against dense densities, importance sampling, and its own invariances."""

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import halfcauchy, invgamma, multivariate_normal

from hidamari.inference.ar_horseshoe import sample_horseshoe
from hidamari.inference.lags import keep, lag_gram

jax = pytest.importorskip("jax")

HOW = {
    "n_warmup": 300,
    "n_samples": 1000,
    "n_chains": 2,
}  # with 4 predictors as in the docstring: one program


def series(n, seed=0):
    return 3.0 + lfilter([1.0], [1.0, -0.5, 0.0, 0.3], np.random.default_rng(seed).standard_normal(n))


def problem_of(gram, expected=2.0, slab_scale=1.5, slab_df=3.0):
    from hidamari.inference._ar_horseshoe import Problem

    n, m = gram.n_rows, len(gram.names)
    unit = np.sqrt(np.diag(gram.moments) / n)
    M = gram.moments / np.outer(unit, unit)
    root = np.linalg.cholesky(M).T
    share = expected / (m - expected) / np.sqrt(n)
    return Problem(M[1:, 1:], M[1:, 0], root, n, -0.3, share, slab_scale, slab_df)


def test_density_of_the_scales():
    from hidamari.inference import _ar_horseshoe as own

    y = series(30)
    problem = problem_of(lag_gram(y, 4))
    X = np.column_stack([y[3 - i : 29 - i] for i in range(4)])
    X, z = (X - X.mean(0)) / X.std(0), (y[4:] - y[4:].mean()) / y[4:].std()

    def dense(at):
        local, tau, c2, s2 = (
            np.exp(at[:4]),
            np.exp(at[4]),
            np.exp(at[5]),
            np.exp(-0.3 + np.sqrt(2 / 26) * at[6]),
        )
        tau *= problem.share * np.sqrt(s2)
        c2 *= problem.slab_scale**2
        spread = 1.0 / (1.0 / c2 + 1.0 / (tau * local) ** 2)
        # A flat intercept leaves the contrasts of the rows.
        Q = np.linalg.qr(np.column_stack([np.ones(26), np.eye(26)[:, 1:]]))[0][:, 1:]
        cov = Q.T @ (s2 * np.eye(26) + (X * spread) @ X.T) @ Q
        value = multivariate_normal(np.zeros(25), cov).logpdf(Q.T @ z)
        scale = problem.share * np.sqrt(s2)
        value += halfcauchy.logpdf(local).sum() + halfcauchy(scale=scale).logpdf(tau) + np.log(tau)
        value += at[:4].sum() + np.log(c2)
        return value + invgamma(1.5, scale=1.5 * problem.slab_scale**2).logpdf(c2)

    with jax.enable_x64(True):
        numbers = own.Problem(*(jax.numpy.asarray(part, dtype=float) for part in problem))

        def density(at):
            return -own._potential(numbers, own._State(at[:4], at[4], at[5], at[6]))

        found = jax.jit(jax.value_and_grad(density))

        rng = np.random.default_rng(0)
        points = [rng.normal(0.0, 1.0, 7) for _ in range(3)]
        first = dense(points[0]) - float(found(points[0])[0])
        for at in points:
            value, slope = found(at)
            np.testing.assert_allclose(dense(at) - float(value), first, rtol=1e-10)
            numeric = [(dense(at + step) - dense(at - step)) / 2e-5 for step in 1e-5 * np.eye(7)]
            np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-7)


def test_posterior_by_importance_sampling():
    gram = lag_gram(series(40, seed=4), 4)
    tree = sample_horseshoe(gram, expected=2.0, slab_scale=1.5, slab_df=3.0, random_state=1, **HOW)
    problem, rng, k = problem_of(gram), np.random.default_rng(0), 40_000
    n = gram.n_rows
    # Scales from the prior, noise about its value; weights are the marginal likelihood of the moments.
    log_s2 = np.log(0.8) + 0.5 * rng.standard_normal(k)
    s2 = np.exp(log_s2)
    tau = problem.share * np.sqrt(s2) * np.abs(rng.standard_cauchy(k))
    local = np.abs(rng.standard_cauchy((k, 4)))
    c2 = problem.slab_scale**2 / rng.gamma(1.5, 1.0 / 1.5, k)
    S = 1.0 / np.sqrt(1.0 / c2[:, None] + 1.0 / (tau[:, None] * local) ** 2)
    B = np.eye(4) + problem.R * S[:, :, None] * S[:, None, :] / s2[:, None, None]
    right = S * problem.c / s2[:, None]
    u = np.linalg.solve(B, right[:, :, None])[:, :, 0]
    log_weight = -0.5 * (n / s2 - (right * u).sum(1)) - 0.5 * np.linalg.slogdet(B)[1]
    log_weight += -0.5 * (n - 1) * log_s2 + 0.5 * ((log_s2 - np.log(0.8)) / 0.5) ** 2
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    assert 1.0 / (weight**2).sum() > 800
    unit = np.sqrt(np.diag(gram.moments) / n)
    exact = weight @ (S * u) * unit[0] / unit[1:]
    found = tree["posterior"]["coef"]
    ess = tree["diagnostics"].ess_bulk.sel(parameter=[f"coef[{name}]" for name in gram.names]).values
    error = found.std(("chain", "draw")).values / np.sqrt(ess)
    assert (np.abs(found.mean(("chain", "draw")).values - exact) < 4.0 * error).all()
    sigma2 = weight @ s2 * unit[0] ** 2
    assert tree["posterior"]["sigma2"].mean() == pytest.approx(sigma2, rel=0.05)
    level = gram.means[0] - exact @ gram.means[1:]
    assert float(tree["posterior"]["intercept"].mean()) == pytest.approx(level, abs=0.15)


@pytest.fixture(scope="module")
def long():
    """Draws for a long series in which lags 1 and 3 matter."""
    gram = lag_gram(series(100_000), 4)
    return gram, sample_horseshoe(gram, random_state=0, **HOW)


def test_lags_that_matter_are_told_from_those_that_do_not(long):
    _, tree = long
    assert tree.attrs["message"] == "converged" and not tree["sample_stats"]["diverging"].any()
    coef = tree["posterior"]["coef"]
    low, middle, high = np.quantile(coef, [0.005, 0.5, 0.995], axis=(0, 1))
    truth = np.array([0.5, 0.0, -0.3, 0.0])
    assert ((low < truth) & (truth < high)).all()
    assert (high - low < 0.02).all()
    np.testing.assert_allclose(middle, truth, atol=0.008)
    assert (tree["posterior"]["local"].median(("chain", "draw")).values[[0, 2]] > 8).all()
    assert dict(tree["posterior"].sizes) == {"chain": 2, "draw": 1000, "coefficient": 4}
    assert "coef[lag 3]" in tree["diagnostics"].parameter


def test_units_do_not_matter(long):
    gram, tree = long
    unit = 128.0  # a power of two, since rounding would send trajectories elsewhere
    moved = gram._replace(moments=gram.moments * unit**2, means=gram.means * unit)
    again = sample_horseshoe(moved, random_state=0, **HOW)["posterior"]
    np.testing.assert_allclose(again["coef"], tree["posterior"]["coef"], rtol=1e-12)
    np.testing.assert_allclose(again["sigma2"], unit**2 * tree["posterior"]["sigma2"], rtol=1e-12)
    np.testing.assert_allclose(again["intercept"], unit * tree["posterior"]["intercept"], rtol=1e-9)


@pytest.mark.filterwarnings("ignore:the chains have not converged")
def test_fewer_rows_than_lags():
    tree = sample_horseshoe(lag_gram(series(7), 4), random_state=0, **HOW)
    assert np.isfinite(tree["posterior"]["coef"]).all()
    assert tree["constant_data"].n_rows == 3


def test_bad_input():
    gram = lag_gram(series(50), 4)
    for name, value in [
        ("expected", 4.0),
        ("slab_scale", 0.0),
        ("slab_df", np.inf),
        ("n_warmup", 3),
        ("n_chains", 0),
        ("target_accept", 1.0),
    ]:
        with pytest.raises(ValueError, match=name):
            sample_horseshoe(gram, **{name: value})
    with pytest.raises(ValueError, match="0 predictors"):
        sample_horseshoe(keep(gram, np.zeros(4, bool)))
    with pytest.raises(ValueError, match="'column 0'"):
        sample_horseshoe(lag_gram(series(50), 1, columns=np.ones((50, 1))))
