"""Do 95 % intervals hold the truth in 95 %? True parameters given; one latent value a short trial.

The full table, over rates and likelihoods and with learnt parameters, belongs to the benchmarks: it takes
minutes. Bins far apart within a trial are nearly independent, and trials are wholly so.
"""

import numpy as np
import pytest
from scipy.stats import kstest

import hidamari as hd
from hidamari.datasets import simulate_spikes

DT = 0.02
KERNELS = [hd.Matern(1, 0.3), hd.HidaMatern(1, 0.5, 1.5)]
N_TRIALS, N_BINS = 1000, 40


def standardised(likelihood, mean_count, widen=1.0, seed=0):
    """(truth - posterior mean) / posterior sd of both latents in the middle bin of every trial."""
    sim = simulate_spikes(
        KERNELS,
        n_units=8,
        n_trials=N_TRIALS,
        n_bins=N_BINS,
        mean_count=mean_count,
        likelihood=likelihood,
        random_state=seed,
    )
    fixed = {"loadings": sim.loadings, "bias": sim.bias, "kernel": None, "likelihood": None}
    model = hd.CVHM(2, KERNELS, likelihood, DT, fixed=fixed, progress=False).fit(sim.y)
    posterior = model.smooth().isel(time=N_BINS // 2)
    truth = sim.latents[:, N_BINS // 2]
    return ((truth - posterior.latent_mean) / np.sqrt(widen * posterior.latent_var)).values.ravel()


@pytest.mark.parametrize("mean_count", [0.05, 0.5, 5.0])
def test_poisson_posteriors_are_calibrated(mean_count):
    z = standardised("poisson", mean_count)
    assert len(z) == 2000
    assert 0.93 <= (np.abs(z) < 1.96).mean() <= 0.97
    assert abs(z.mean()) < 0.08
    assert 0.94 < z.std() < 1.06


@pytest.mark.parametrize("likelihood", [hd.NegativeBinomial(2.0), hd.Bernoulli()], ids=lambda v: v.name)
def test_other_counts_are_calibrated(likelihood):
    z = standardised(likelihood, 1.0)
    assert 0.93 <= (np.abs(z) < 1.96).mean() <= 0.97
    assert abs(z.mean()) < 0.08
    assert 0.94 < z.std() < 1.06


def test_gaussian_posteriors_are_exact():
    z = standardised(hd.Gaussian(0.5), 1.0)
    # the binomial 99.9 % band about 0.95
    assert 0.934 <= (np.abs(z) < 1.96).mean() <= 0.966
    assert kstest(z, "norm").pvalue > 0.001
    # and the test would see variances a fifth too large
    assert kstest(z / np.sqrt(1.2), "norm").pvalue < 0.05


def test_predictions_between_and_beyond_bins_are_calibrated():
    sim = simulate_spikes(KERNELS, n_units=8, n_trials=N_TRIALS, n_bins=60, mean_count=0.5, random_state=1)
    fixed = {"loadings": sim.loadings, "bias": sim.bias, "kernel": None}
    # every other bin is left out, and the last ten are never seen
    model = hd.CVHM(2, KERNELS, bin_s=DT, fixed=fixed, progress=False).fit(sim.y[:, :50])
    held = sim.y[:, :50].copy()
    held[:, 1::2] = np.nan
    for posterior, truth in (
        (model.smooth(held).isel(time=25), sim.latents[:, 25]),
        (model.forecast(10).isel(time=4), sim.latents[:, 54]),
    ):
        z = ((truth - posterior.latent_mean) / np.sqrt(posterior.latent_var)).values.ravel()
        assert 0.93 <= (np.abs(z) < 1.96).mean() <= 0.97
