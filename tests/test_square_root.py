"""The square-root form against dense algebra, through every kind of site, and what it alone can do."""

import numpy as np
import oracles
import pytest
from scipy.stats import norm

from hidamari.statespace import _square_root as sr
from hidamari.statespace.kernels import Constant, Cosine, HidaMatern, Matern, bank, steps
from hidamari.statespace.types import Sites

BANKS = {
    "one of order 0": [Matern(0, 1.0)],
    "one of order 3": [Matern(3, 1.0, 2.0)],
    "sum and product": [Matern(1, 0.5) + Constant(2.0) + Matern(0, 3.0) * Cosine(0.7)],
    "padded": [Matern(2, 1.0), Matern(0, 0.3), HidaMatern(1, 2.0, 0.5)],
}


def factored(ss, dtype=np.float64):
    """Arguments of the square-root form for a StateSpace."""
    arrays = [ss.A, sr.factor(ss.Q), ss.H, ss.m, sr.factor(ss.P)]
    A, G, H, m, L = (a.astype(dtype) for a in arrays)
    return A, G, ss.step, H, m, L


def chains(name, rng, k=1):
    """A bank over two trials with a repeated time; with k > 1 its read-outs are random."""
    times = np.concatenate([np.sort(rng.uniform(0, 4, 12)), [4.0, 4.0, 5.5]])
    ss = bank(BANKS[name], *steps([times, times[:7]]))
    H = (
        ss.H
        if k == 1
        else rng.normal(size=(*ss.m.shape[:1], k, ss.m.shape[1])) * (np.einsum("cii->ci", ss.P) > 0)[:, None]
    )
    return ss._replace(H=H, m=rng.normal(size=ss.m.shape))


def sites_for(ss, rng, rank=None, free=0.0):
    """Dense sites of the rank given, or diagonal ones; `free` adds to j what is outside the range of J."""
    T, K = len(ss.step), ss.H.shape[0] * ss.H.shape[1]
    U = rng.normal(size=(T, K, K if rank is None else rank))
    J = U @ U.transpose(0, 2, 1) if rank != 0 else np.zeros((T, K, K))
    J[5] = 0.0
    j = np.einsum("tab,tb->ta", J, rng.normal(size=(T, K))) + free * rng.normal(size=(T, K))
    return Sites(j, np.einsum("tkk->tk", J).copy() if rank is None else J)


def assert_exact(ss, sites, rtol=1e-11):
    mean, cov, log_norm = sr.smooth_sites(*factored(ss), *sites)
    exact = oracles.posterior(ss, sites)
    scale = np.abs(exact.mean).max()
    np.testing.assert_allclose(mean, exact.mean, rtol=0, atol=rtol * scale)
    wanted = exact.cov if sites.J.ndim == 3 else exact.var
    assert cov.shape == sites.J.shape
    np.testing.assert_allclose(cov, wanted, rtol=0, atol=rtol * np.abs(wanted).max())
    for rows, value in zip(oracles.trials(ss.step), exact.log_evidence):
        assert log_norm[rows].sum() == pytest.approx(value, rel=rtol, abs=rtol)


@pytest.mark.parametrize("name", BANKS)
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("rank", [None, 0, 1, "K"])
def test_sites_give_the_dense_answer(name, k, rank, rng):
    ss = chains(name, rng, k)
    K = ss.H.shape[0] * k
    assert_exact(ss, sites_for(ss, rng, K if rank == "K" else rank))


@pytest.mark.parametrize("rank", [None, 1, 2])
def test_j_may_leave_the_range_of_J(rank, rng):
    ss = chains("padded", rng)
    assert_exact(ss, sites_for(ss, rng, rank, free=1.0))


def test_filter_knows_the_rows_so_far(rng):
    ss = chains("padded", rng)
    sites = sites_for(ss, rng, 2)
    mean, cov, log_norm = sr.filter_sites(*factored(ss), *sites)
    for t in (0, 6, 13, 14, 15, 21):
        head = ss._replace(step=ss.step[: t + 1])
        exact = oracles.posterior(head, Sites(sites.j[: t + 1], sites.J[: t + 1]))
        np.testing.assert_allclose(mean[t], exact.mean[t], rtol=0, atol=1e-12)
        np.testing.assert_allclose(cov[t], exact.cov[t], rtol=0, atol=1e-12)
        assert log_norm[: t + 1].sum() == pytest.approx(exact.log_evidence.sum(), rel=1e-12)


def test_readings_are_sites_with_their_density(rng):
    ss = chains("padded", rng)
    T, K = len(ss.step), 3
    y, R = rng.normal(size=(T, K)), rng.uniform(0.01, 2.0, (T, K))
    y[3] = np.nan
    y[7, 1] = np.nan
    R[9, 2] = np.inf
    seen = np.isfinite(y) & np.isfinite(R)
    J = np.where(seen, 1 / R, 0.0)
    mean, var, log_norm = sr.smooth_readings(*factored(ss), y, R)
    same = sr.smooth_sites(*factored(ss), np.where(seen, y, 0.0) * J, J)
    np.testing.assert_allclose(mean, same[0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(var, same[1], rtol=1e-13)
    density = np.where(seen, norm.logpdf(np.where(seen, y, 0.0), 0.0, np.sqrt(np.where(seen, R, 1.0))), 0.0)
    np.testing.assert_allclose(log_norm, same[2] + density.sum(1), rtol=1e-12, atol=1e-12)


def test_nothing_seen_is_the_prior(rng):
    ss = chains("padded", rng)
    T = len(ss.step)
    mean, var, log_norm = sr.smooth_readings(*factored(ss), np.full((T, 3), np.nan), np.ones((T, 3)))
    prior = oracles.prior_readouts(ss)
    assert not log_norm.any()
    np.testing.assert_allclose(mean, prior[0], rtol=0, atol=1e-14)
    np.testing.assert_allclose(var, np.einsum("taa->ta", np.einsum("tatb->tab", prior[1])), rtol=1e-13)


def test_exact_readings_are_interpolated(rng):
    times, kernel = np.sort(rng.uniform(0, 5, 14)), Matern(2, 0.8, 1.5)
    y = rng.normal(size=14)
    y[[4, 5, 11, 13]] = np.nan
    mean, var, log_norm = sr.smooth_readings(
        *factored(kernel.state_space(times)), y[:, None], np.zeros((14, 1))
    )
    exact = oracles.gp_mp(oracles.matern_mp(2, 0.8, 1.5), times, y, 0.0)
    seen = ~np.isnan(y)
    np.testing.assert_array_equal(mean[seen, 0], y[seen])
    assert not var[seen].any()
    np.testing.assert_allclose(mean[:, 0], exact[0], rtol=1e-10)
    np.testing.assert_allclose(var[~seen, 0], exact[1][~seen], rtol=1e-10)
    assert log_norm.sum() == pytest.approx(exact[2], rel=1e-12)


def test_exact_readings_of_a_sum(rng):
    """The read-out mixes several states, and is known exactly while none of them is."""
    times, kernel = np.sort(rng.uniform(0, 5, 10)), Matern(1, 0.8) + Matern(0, 3.0, 0.5)
    y, R = rng.normal(size=10), np.where(np.arange(10) % 3 == 0, 0.0, 0.2)
    mean, var, log_norm = sr.smooth_readings(*factored(kernel.state_space(times)), y[:, None], R[:, None])
    exact = oracles.gp(kernel, times, y, R)
    np.testing.assert_array_equal(mean[R == 0, 0], y[R == 0])
    np.testing.assert_allclose(mean[:, 0], exact[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(var[:, 0], exact[1], rtol=0, atol=1e-13)
    assert log_norm.sum() == pytest.approx(exact[2], rel=1e-12)


@pytest.mark.parametrize("kernel", [Matern(1, 1.0), Matern(1, 1.0) + Matern(0, 2.0)])
def test_exact_readings_repeated(kernel):
    model = factored(kernel.state_space(np.array([0.0, 1.0, 1.0, 1.0, 2.0])))
    y, R = np.array([[0.3], [0.7], [0.7], [9.0], [np.nan]]), np.array([[0.0], [0.0], [0.0], [2.0], [0.0]])
    mean, var, log_norm = sr.smooth_readings(*model, y, R)
    np.testing.assert_array_equal(mean[1:4], 0.7)
    assert not var[1:4].any() and var[4] > 0
    assert log_norm[2] == 0  # the same again says nothing new
    assert log_norm[3, None] == pytest.approx(norm.logpdf(9.0, 0.7, np.sqrt(2.0)), rel=1e-14)
    y[2] = 0.8
    for run in (sr.filter_readings, sr.smooth_readings):
        with pytest.raises(ValueError, match="conflicting exact readings"):
            run(*model, y, R)


@pytest.mark.parametrize("name", BANKS)
def test_float32_stays_float32(name, rng):
    ss = chains(name, rng)
    T, K = len(ss.step), len(ss.m)
    y, R = rng.normal(size=(T, K)).astype(np.float32), np.full((T, K), 1e-3, np.float32)
    single = sr.smooth_readings(*factored(ss, np.float32), y, R)
    double = sr.smooth_readings(*factored(ss), y.astype(float), R.astype(float))
    for a, b, tolerance in zip(single, double, (2e-5, 2e-5, 1e-4)):
        assert a.dtype == np.float32 and b.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())
        assert (a != b.astype(np.float32)).any()  # the arithmetic was single, not only the answer
    mixed = sr.smooth_readings(*factored(ss, np.float32), y.astype(float), R)
    assert all(a.dtype == np.float64 for a in mixed)


@pytest.mark.parametrize("exponent", [-300, -41, 7, 230])
def test_units_of_two_change_no_bit(exponent, rng):
    ss = chains("sum and product", rng)
    T = len(ss.step)
    y, R = rng.normal(size=(T, 1)), np.full((T, 1), 1e-6)
    a = 2.0**exponent
    A, G, step, H, m, L = factored(ss)
    mean, var, log_norm = sr.smooth_readings(A, G, step, H, m, L, y, R)
    scaled = sr.smooth_readings(A, a * G, step, H, a * m, a * L, a * y, a * R * a)
    np.testing.assert_array_equal(scaled[0], a * mean)
    np.testing.assert_array_equal(scaled[1], a * var * a)
    np.testing.assert_allclose(scaled[2], log_norm - np.log(a), rtol=1e-12)


def test_inputs_are_left_alone(rng):
    ss = chains("padded", rng, k=2)
    arguments = (*factored(ss), *sites_for(ss, rng, 2))
    before = [a.copy() for a in arguments]
    for a in arguments:
        a.setflags(write=False)
    sr.smooth_sites(*arguments)
    for a, b in zip(arguments, before):
        np.testing.assert_array_equal(a, b)


def test_factor(rng):
    U = rng.normal(size=(3, 5, 4))
    U[:, 2] = 0.0
    U[1, 4] *= 1e-20
    P = U @ U.transpose(0, 2, 1)
    L = sr.factor(P)
    assert (np.triu(L, 1) == 0).all()
    unit = np.sqrt(np.einsum("nii->ni", P))
    error = np.abs(L @ L.transpose(0, 2, 1) - P)
    assert (error <= 1e-15 * unit[:, :, None] * unit[:, None]).all()
    assert not L[:, 2].any() and not L[:, :, 2].any()
    np.testing.assert_array_equal(sr.factor(np.diag([0.0, 4e-320, 9.0])), np.diag([0.0, 0.0, 3.0]))
