"""The read-out's moments and the natural-gradient target, against loops and differences."""

import numpy as np
import pytest

from hidamari.inference import sites as module
from hidamari.inference.likelihoods import (
    Bernoulli,
    Binomial,
    Gaussian,
    NegativeBinomial,
    Poisson,
)
from hidamari.inference.sites import Readout, expected_sites, linear_predictor, pack, slabs, unpack

DT = 0.05
CONCAVE = [Poisson(), NegativeBinomial(3.0), Binomial(6), Bernoulli(), Gaussian(0.4)]


def covariances(rng, T, K):
    root = 0.6 * rng.normal(size=(T, K, K))
    return root @ root.transpose(0, 2, 1)


def problem(rng, likelihood, T=5, N=4, K=3):
    readout = Readout(0.5 * rng.normal(size=(N, K)), 1.0 + 0.3 * rng.normal(size=N))
    mean, cov = rng.normal(size=(T, K)), covariances(rng, T, K)
    y = likelihood.sample(mean @ readout.loadings.T + readout.bias, rng, DT)
    y[rng.random(y.shape) < 0.2] = np.nan
    return readout, y, mean, cov


def test_packing_and_back(rng):
    M = covariances(rng, 6, 4)
    np.testing.assert_array_equal(unpack(pack(M), 4), M)
    assert pack(M).shape == (6, 10)


@pytest.mark.parametrize("n_rows", [1, 15, 16, 17, 1000])
@pytest.mark.parametrize("n_units", [1, 100, 10**6])
def test_slabs_cover_every_row_once(n_rows, n_units):
    rows = np.concatenate([np.arange(n_rows)[part] for part in slabs(n_rows, n_units)])
    np.testing.assert_array_equal(rows, np.arange(n_rows))


def test_linear_predictor_row_by_row(rng):
    readout, _, mean, cov = problem(rng, Poisson())
    mu, v = linear_predictor(readout, mean, cov)
    for t in range(5):
        np.testing.assert_allclose(mu[t], readout.loadings @ mean[t] + readout.bias, rtol=1e-13)
        np.testing.assert_allclose(v[t], np.diag(readout.loadings @ cov[t] @ readout.loadings.T), rtol=1e-12)
    diagonal = np.einsum("tkk->tk", cov)
    only = linear_predictor(readout, mean, diagonal)
    full = linear_predictor(readout, mean, diagonal[:, :, None] * np.eye(3))
    np.testing.assert_allclose(only[1], full[1], rtol=1e-13)


def test_variances_are_never_negative(rng):
    """c' V c of a covariance that is zero along c."""
    c = rng.normal(size=(200, 2))
    along = np.stack([-c[:, 1], c[:, 0]], 1)
    _, v = linear_predictor(Readout(c, np.zeros(200)), np.zeros((200, 2)), along[:, :, None] * along[:, None])
    assert (v >= 0).all()
    assert v.diagonal().max() < 1e-12


@pytest.mark.parametrize("likelihood", [pytest.param(v, id=v.name) for v in CONCAVE])
def test_sites_are_the_natural_gradient(rng, likelihood):
    """J = -2 dE/dV and j - J m = dE/dm, by central differences of the sum of E."""
    readout, y, mean, cov = problem(rng, likelihood)

    def value(mean, cov):
        return expected_sites(readout, likelihood, y, mean, cov, DT).value

    found = expected_sites(readout, likelihood, y, mean, cov, DT).sites
    slope = found.j - np.einsum("tab,tb->ta", found.J, mean)
    h = 1e-5
    for t in range(5):
        for a in range(3):
            step = np.zeros_like(mean)
            step[t, a] = h
            numeric = (value(mean + step, cov) - value(mean - step, cov)) / (2 * h)
            assert numeric == pytest.approx(slope[t, a], abs=1e-6, rel=1e-6)
            for b in range(a + 1):
                step = np.zeros_like(cov)
                step[t, a, b] = step[t, b, a] = h
                numeric = -(value(mean, cov + step) - value(mean, cov - step)) / (2 * h)
                wanted = found.J[t, a, b] * (0.5 if a == b else 1.0)
                assert numeric == pytest.approx(wanted, abs=1e-6, rel=1e-6)


def test_value_is_the_sum_of_expectations(rng):
    readout, y, mean, cov = problem(rng, Poisson())
    mu, v = linear_predictor(readout, mean, cov)
    full = Poisson().expectations(y, mu, v, DT)[0].sum()
    found = expected_sites(readout, Poisson(), y, mean, cov, DT)
    assert found.value + Poisson().log_base(y).sum() == pytest.approx(full, rel=1e-13)
    assert expected_sites(readout, Poisson(), y, mean, cov, DT, value_only=True).value == found.value


def test_slabs_do_not_show(rng, monkeypatch):
    readout, y, mean, cov = problem(rng, Poisson(), T=70)
    whole = expected_sites(readout, Poisson(), y, mean, cov, DT)
    monkeypatch.setattr(module, "_SLAB", 64)
    assert len(list(slabs(70, 4))) == 5
    cut = expected_sites(readout, Poisson(), y, mean, cov, DT)
    np.testing.assert_allclose(cut.sites.J, whole.sites.J, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(cut.sites.j, whole.sites.j, rtol=1e-13, atol=1e-13)
    assert cut.value == pytest.approx(whole.value, rel=1e-13)


def test_missing_entries_add_nothing(rng):
    readout, y, mean, cov = problem(rng, Poisson())
    y[2], y[:, 1] = np.nan, np.nan
    found = expected_sites(readout, Poisson(), y, mean, cov, DT)
    assert not found.sites.j[2].any() and not found.sites.J[2].any()
    keep = [0, 2, 3]
    fewer = expected_sites(
        Readout(readout.loadings[keep], readout.bias[keep]), Poisson(), y[:, keep], mean, cov, DT
    )
    np.testing.assert_allclose(found.sites.J, fewer.sites.J, rtol=1e-13, atol=1e-15)
    assert found.value == pytest.approx(fewer.value, rel=1e-13)


def test_sites_are_symmetric_and_positive(rng):
    readout, y, mean, cov = problem(rng, Poisson())
    J = expected_sites(readout, Poisson(), y, mean, cov, DT).sites.J
    np.testing.assert_array_equal(J, J.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(J).min() > -1e-12
