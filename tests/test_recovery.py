"""Latents, hyperparameters and held-out units from simulated spikes, on sets small enough for every run.

The full sets, five seeds each, and the comparison with public peers are benchmarks/recovery.py.
"""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.special import gammaln

import hidamari as hd
from hidamari.datasets import simulate_lorenz, simulate_spikes, simulate_van_der_pol

HELD = 6  # units held out of the test trials


def r2(estimate, truth):
    """Share of the truth's variance that an affine map of the estimate explains."""
    estimate, truth = estimate.reshape(-1, estimate.shape[-1]), truth.reshape(-1, truth.shape[-1])
    design = np.column_stack([np.ones(len(estimate)), estimate])
    residual = truth - design @ np.linalg.lstsq(design, truth, rcond=None)[0]
    return 1 - (residual**2).sum() / ((truth - truth.mean(0)) ** 2).sum()


def bits(y, rate, null):
    """Bits per spike of expected counts over constant ones."""
    rate = np.maximum(rate, 1e-3 * null)
    gain = (y * np.log(rate) - rate) - (y * np.log(null) - null)
    return gain.sum() / y.sum() / np.log(2)


def smoothed_pca(train, test, n_latents):
    """Baseline: smoothed square-root counts, principal components, log-linear read-out of the held units.

    The smoothing width is the best of four on the test trials themselves: the baseline may peek.
    """
    n = train.shape[-1] - HELD
    held = np.maximum(train[..., n:].mean((0, 1)), 1e-3)
    best = (-np.inf, -np.inf)
    for width in (1.0, 2.0, 4.0, 8.0):
        z, w = (gaussian_filter1d(np.sqrt(y[..., :n]), width, axis=1).reshape(-1, n) for y in (train, test))
        _, _, axes = np.linalg.svd(z - z.mean(0), full_matrices=False)
        z, w = (z - z.mean(0)) @ axes[:n_latents].T, (w - z.mean(0)) @ axes[:n_latents].T
        design, answers = np.column_stack([np.ones(len(z)), z]), train[..., n:].reshape(-1, HELD)
        weights = np.zeros((n_latents + 1, HELD))
        weights[0] = np.log(held)
        for _ in range(20):
            mean = np.exp(np.clip(design @ weights, -15, 5))
            for i in range(HELD):
                H = design.T @ (design * mean[:, [i]]) + 1e-2 * np.eye(n_latents + 1)
                weights[:, i] += 0.7 * np.linalg.solve(H, design.T @ (answers[:, i] - mean[:, i]))
        rate = np.exp(np.clip(np.column_stack([np.ones(len(w)), w]) @ weights, -15, 5))
        score = bits(test[..., n:].reshape(-1, HELD), rate, held)
        best = max(best, (score, z)) if score > best[0] else best
    return best


def recover(sim, n_latents, n_test, **arguments):
    """Fit on the first trials; R2 of their latents, and co-smoothing of the last ones."""
    train, test = sim.y[:-n_test], sim.y[-n_test:]
    model = hd.CVHM(n_latents, bin_s=sim.bin_s, progress=False, **arguments).fit(train)
    found = r2(model.smooth().latent_mean.values, sim.latents[:-n_test])
    blind = test.copy()
    blind[..., -HELD:] = np.nan
    null = np.maximum(train[..., -HELD:].mean((0, 1)), 1e-3)
    rate = model.smooth(blind).rate.values[..., -HELD:] * sim.bin_s
    score = bits(test[..., -HELD:].reshape(-1, HELD), rate.reshape(-1, HELD), null)
    truth = (sim.rate[-n_test:, :, -HELD:] * sim.bin_s).reshape(-1, HELD)
    oracle = bits(test[..., -HELD:].reshape(-1, HELD), truth, null)
    return model, found, score, oracle


SETS = {
    "spikes": (lambda: simulate_spikes(n_units=40, n_trials=12, n_bins=200, random_state=2), 3, 0.95, 0.94),
    "lorenz": (lambda: simulate_lorenz(n_units=50, n_trials=24, n_bins=150, random_state=2), 3, 0.90, 0.82),
    "van der pol": (
        lambda: simulate_van_der_pol(n_units=30, n_trials=5, n_bins=250, random_state=2), 2, 0.99, 0.97,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_latents_and_held_out_units(name):
    make, n_latents, least_r2, least_share = SETS[name]
    sim = make()
    n_test = len(sim.y) // 4
    model, found, score, oracle = recover(sim, n_latents, n_test)
    base_score, base = smoothed_pca(sim.y[:-n_test], sim.y[-n_test:], n_latents)
    base_r2 = r2(base, sim.latents[:-n_test])
    assert found >= least_r2 and found > base_r2
    assert score >= least_share * oracle and score > base_score
    assert np.diff(model.elbo_).min() >= -1e-8 * np.abs(model.elbo_).max()


def test_hyperparameters_by_evidence():
    """Lengthscale within 15 %, frequency within 10 %, and an ELBO no worse than the truth's."""
    errors = []
    truth = hd.HidaMatern(1, 0.4, 0.8)
    for seed in range(3):
        sim = simulate_spikes(truth, n_units=30, n_trials=10, n_bins=400, random_state=seed)
        fixed = {"loadings": sim.loadings, "bias": sim.bias}
        start = hd.HidaMatern(1, 0.8, 0.5)
        model = hd.CVHM(1, start, bin_s=sim.bin_s, fixed=fixed, progress=False).fit(sim.y)
        given = hd.CVHM(1, truth, bin_s=sim.bin_s, fixed={**fixed, "kernel": None}, progress=False).fit(sim.y)
        (kernel,) = model.kernels_
        errors.append([kernel.lengthscale / 0.4, kernel.frequency / 0.8])
        assert model.score() * sim.y.size >= given.score() * sim.y.size - 1
    lengthscale, frequency = np.mean(errors, axis=0)
    assert lengthscale == pytest.approx(1, abs=0.15) and frequency == pytest.approx(1, abs=0.10)
    assert np.abs(np.array(errors) - 1).max() < 0.3


def test_distinct_kernels_find_their_latents():
    """Up to order and sign alone, once each latent has its own kind of kernel."""
    truth = [hd.Matern(1, 0.8), hd.HidaMatern(1, 0.6, 2.5)]
    sim = simulate_spikes(truth, n_units=40, n_trials=12, n_bins=200, random_state=4)
    start = [hd.Matern(1, 0.5), hd.HidaMatern(1, 0.5, 2.0)]
    model = hd.CVHM(2, start, bin_s=sim.bin_s, progress=False).fit(sim.y)
    found = model.smooth().latent_mean.values.reshape(-1, 2)
    match = np.abs(np.corrcoef(found.T, sim.latents.reshape(-1, 2).T)[:2, 2:])
    order = [int(isinstance(kernel, hd.HidaMatern)) for kernel in model.kernels_]
    assert sorted(order) == [0, 1]
    assert match[[0, 1], order].min() > 0.95


def test_held_out_bins_beat_the_mean_rate():
    sim = simulate_spikes(n_units=20, n_trials=8, n_bins=150, mean_count=0.5, random_state=5)
    train, test = sim.y[:6], sim.y[6:]
    model = hd.CVHM(3, bin_s=sim.bin_s, progress=False).fit(train)
    mean = train.mean((0, 1))
    null = (test * np.log(mean) - mean - gammaln(test + 1)).mean()
    assert model.score(test) > null + 0.01


def test_dispersion_is_recovered():
    sim = simulate_spikes(
        n_units=15,
        n_trials=10,
        n_bins=200,
        mean_count=2.0,
        likelihood=hd.NegativeBinomial(3.0),
        random_state=6,
    )
    model = hd.CVHM(3, likelihood="negative_binomial", bin_s=sim.bin_s, progress=False).fit(sim.y)
    np.testing.assert_allclose(np.exp(np.log(model.likelihood_.dispersion).mean()), 3.0, rtol=0.1)


def test_noise_is_recovered():
    noise = np.linspace(0.1, 1.0, 12)
    sim = simulate_spikes(n_units=12, n_trials=8, n_bins=200, likelihood=hd.Gaussian(noise), random_state=7)
    model = hd.CVHM(3, likelihood="gaussian", bin_s=sim.bin_s, progress=False).fit(sim.y)
    np.testing.assert_allclose(model.likelihood_.variance, noise, rtol=0.15)
    assert r2(model.smooth().latent_mean.values, sim.latents) > 0.9
