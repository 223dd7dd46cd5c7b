"""Autoencoders of counts: frames of very many and of none, and linear answers beside those of CVHM."""

import numpy as np
import pytest
from scipy.optimize import minimize

import hidamari as hd

jax = pytest.importorskip("jax")
pytest.importorskip("equinox")
import jax.numpy as jnp  # noqa: E402

from hidamari.inference import _vae_model  # noqa: E402
from hidamari.inference._vae_model import Form, Parameters  # noqa: E402

D, L, BIN = 6, 2, 0.02


def model(scale=1.0):
    """A linear model of entries of which the last is silent."""
    rng = np.random.default_rng(0)
    C = scale * rng.standard_normal((D, L))
    b = np.append(rng.uniform(-1.0, 1.0, D - 1), -20.0)
    return C, b, Parameters(jnp.zeros(0), jnp.asarray(C), jnp.asarray(b), jnp.zeros(1), None, None)


def read(p, likelihood, y, seen):
    """Where each frame alone is linearised, and the mean under its site and a standard normal prior."""
    form = Form((), (), likelihood)

    @jax.jit
    def go(p, y, seen):
        x, trust = _vae_model.point(p, form, y, y.astype(jnp.float32), seen)
        return x, *_vae_model.linearise(p, form, y, seen, x, trust)

    x, j, J = go(p, y, seen)
    return np.asarray(x), np.asarray(J), np.linalg.solve(np.eye(L) + J, j[..., None])[..., 0]


def mode(y, C, b):
    """Where a count frame's log density under a standard normal prior is highest."""

    def fall(z):
        eta = C @ z + b
        slope = C.T @ (np.exp(eta) - y) + z
        return np.exp(eta).sum() - y @ eta + 0.5 * z @ z, slope

    start = np.linalg.lstsq(C[:-1], np.log(y[:-1] + 0.5) - b[:-1])[0]
    return minimize(fall, start, jac=True, method="BFGS").x


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("scale", [0.4, 2.0])
def test_frames_of_a_thousand_counts_are_read_near_their_modes(double, scale):
    C, b, p = model(scale)
    rng = np.random.default_rng(1)
    eta = rng.standard_normal((80, L)) * 3 / scale @ C.T + b
    y = rng.poisson(np.exp(np.minimum(eta, np.log(1e3)))).astype(float)
    seen = np.ones(y.shape, bool)
    seen[0] = False
    assert y.max() > 900 and not y[:, -1].any()
    x, J, found = read(p, "poisson", y, seen)
    assert not J[0].any() and not x[0].any()
    expected = np.array([mode(own, C, b) for own in y[1:]])
    np.testing.assert_allclose(found[1:], expected, atol=0.05)


def test_what_was_hardly_to_be_seen_is_read_by_a_bounded_step(double):
    p = model(3.0)[2]._replace(bias=jnp.full(D, -10.0))
    y = np.array([[1.0] * D, [1.0, 1.0, 1.0, 0.0, 0.0, 1.0]])
    x, J, found = read(p, "bernoulli", y, np.ones(y.shape, bool))
    assert np.abs(x).max() < 10 and np.abs(found).max() < 10
    assert np.linalg.eigvalsh(J).min() > 0.01


def linear_model(kernel):
    """Linear factor analysis of counts; of one form, so that its programs are compiled once."""
    return hd.MGPVAE(L, kernel, likelihood="poisson", bin_s=BIN, decoder=(), encoder=(), max_epochs=0)


def test_a_fit_of_a_thousand_counts_a_bin_stays_finite():
    rng = np.random.default_rng(2)
    t = np.arange(30)
    rate = np.exp(np.log(30.0) * (1 + np.sin(t / 4.0 + rng.uniform(0, 6, (4, 1)))))  # from 1 to 900
    Y = rng.poisson(rate[..., None] * np.repeat([1.0, 1.1, 0.01, 0.0], [1, 1, 12, 1])).astype(float)
    Y[0], Y[1, 5:15] = np.nan, np.nan
    model = linear_model(hd.Matern(1, 0.08)).fit(Y)
    told = model.impute()["mean"].values
    assert np.isfinite(told).all()
    seen = np.isfinite(Y[..., 0])
    assert np.median(np.abs(told[..., 0] / rate - 1)[seen]) < 0.2


def test_linear_answers_about_counts_are_as_good_as_those_of_cvhm():
    kernel = hd.Matern(1, 0.3)
    drawn = hd.datasets.simulate_spikes(
        (kernel, kernel), n_units=15, n_trials=16, n_bins=60, bin_s=BIN, mean_count=0.2, random_state=0
    )
    y, expected = np.asarray(drawn.y, float), np.asarray(drawn.rate) * BIN
    train, test = y[:10], y[10:].copy()
    asked = np.zeros(test.shape, bool)
    for n, own in enumerate(asked):
        own[:, n::4] = True
    test[asked] = np.nan
    linear = hd.CVHM(2, kernel, bin_s=BIN, max_iter=100, tol=1e-4, progress=False).fit(train)
    rates = linear.sample(200, test, random_state=0)["rate"].transpose("draw", "trial", "time", "unit").values
    model = linear_model(kernel).fit(train)
    ours = model.impute(test)["mean"].values
    null = np.broadcast_to(train.mean((0, 1)), test.shape)[asked]

    def bits(mean):
        return np.sum(y[10:][asked] * np.log(mean / null) - mean + null)

    assert bits(ours[asked]) > 0.98 * bits(rates.mean(0)[asked] * BIN) > 0
    assert np.corrcoef(ours[asked], expected[10:][asked])[0, 1] > 0.5
