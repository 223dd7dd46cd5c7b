"""Whittle's likelihood: periodograms, recovery from true latents, and no run-away inside a fit."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import hidamari as hd
from hidamari.datasets import simulate_spikes
from hidamari.inference.whittle import periodogram, whittle, whittle_kernels
from hidamari.parameters import flatten
from hidamari.statespace import kalman
from hidamari.statespace.kernels import HidaMatern, Matern, bank
from hidamari.statespace.types import Sites

DT = 0.02


def draws(kernel, n, n_bins, rng):
    ss = kernel.state_space(np.arange(n_bins) * DT)
    nothing = Sites(np.zeros((n_bins, 1)), np.zeros((n_bins, 1)))
    return kalman.sample(ss, nothing, n, rng)[:, :, 0]


def test_the_periodogram_of_white_noise_is_flat(rng):
    frequency, power = periodogram(rng.normal(size=(400, 128)), DT)
    assert len(frequency) == len(power) == 64
    assert frequency[0] == pytest.approx(1 / (128 * DT)) and frequency[-1] == pytest.approx(0.5 / DT)
    np.testing.assert_allclose(power, DT, rtol=0.25)
    assert power.mean() == pytest.approx(DT, rel=0.02)


def test_the_periodogram_estimates_the_spectral_density(rng):
    kernel = HidaMatern(1, 0.4, 2.0)
    frequency, power = periodogram(draws(kernel, 300, 1000, rng), DT)
    density = kernel.spectral_density(frequency)
    near = density > 0.05 * density.max()
    np.testing.assert_allclose(power[near], density[near], rtol=0.3)
    assert np.mean(power[near] / density[near]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("truth", "start", "n"),
    [
        (HidaMatern(1, 0.4, 0.8), HidaMatern(1, 0.8, 0.5), 10),
        (Matern(2, 0.3), Matern(2, 1.0), 10),
        # flat at low frequencies: one in ten is a standard error of ten trials
        (Matern(0, 0.2), Matern(0, 0.05), 60),
    ],
    ids=repr,
)
def test_recovers_true_latents(rng, truth, start, n):
    """Trials of ten seconds: lengthscale and frequency to a tenth, from the latents themselves."""
    found = whittle(start, [draws(truth, n, 500, rng)], DT)
    assert found.lengthscale == pytest.approx(truth.lengthscale, rel=0.1)
    assert getattr(found, "frequency", 0.0) == pytest.approx(getattr(truth, "frequency", 0.0), rel=0.1)
    assert found.variance == pytest.approx(1.0, rel=0.2)


def test_trials_of_other_lengths_are_pooled(rng):
    truth = Matern(1, 0.3)
    groups = [draws(truth, 12, 300, rng), draws(truth, 3, 500, rng), draws(truth, 2, 5, rng)]
    assert whittle(Matern(1, 1.0), groups, DT).lengthscale == pytest.approx(0.3, rel=0.15)


def test_only_what_is_named_moves(rng):
    found = whittle(
        HidaMatern(1, 0.8, 0.8), [draws(HidaMatern(1, 0.4, 0.8), 4, 300, rng)], DT, ["lengthscale"]
    )
    assert found.frequency == 0.8 and found.variance == 1.0 and found.lengthscale != 0.8
    limits = [(np.log(0.7), np.log(0.9))]
    held = whittle(HidaMatern(1, 0.8, 0.8), [draws(Matern(1, 0.1), 4, 300, rng)], DT, ["lengthscale"], limits)
    assert held.lengthscale == pytest.approx(0.7)


def test_trials_too_short_for_a_spectrum_change_nothing(rng):
    kernel = Matern(1, 0.3)
    assert whittle(kernel, [rng.normal(size=(5, 7))], DT) is kernel
    assert whittle(kernel, [rng.normal(size=(5, 70))], DT, []) is kernel


def test_each_latent_has_its_own_periodogram(rng):
    truth = [Matern(1, 0.2), HidaMatern(1, 0.5, 1.5)]
    step = np.zeros(900, np.int64)
    step[[0, 300, 600]] = -1
    nothing = Sites(np.zeros((900, 2)), np.zeros((900, 2)))
    both = kalman.sample(bank(truth, np.array([DT]), step), nothing, 4, rng)
    start = [Matern(1, 0.5), HidaMatern(1, 1.0, 1.0)]
    names = [name for name in flatten(start)[1] if not name.endswith("variance")]
    limits = [(np.log(0.01), np.log(10.0))] * 3
    found = whittle_kernels(start, names, both, np.array([300, 300, 300]), DT, limits)
    assert found[0].lengthscale == pytest.approx(0.2, rel=0.15)
    assert found[1].frequency == pytest.approx(1.5, rel=0.1)
    assert found[0].variance == found[1].variance == 1.0


@pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}")
def test_joint_whittle_and_inference_do_not_run_away():
    """On posterior means alone the lengthscale grows past ten times the truth; on draws it does not."""
    truth = [Matern(1, 0.3), HidaMatern(1, 0.6, 1.2)]
    sim = simulate_spikes(truth, n_units=30, n_trials=6, n_bins=250, random_state=1)
    start = [Matern(1, 0.6), HidaMatern(1, 1.2, 0.8)]
    fixed = {"loadings": sim.loadings, "bias": sim.bias}
    model = hd.CVHM(2, start, bin_s=DT, learn_kernel="whittle", fixed=fixed, progress=False, max_iter=25)
    model.fit(sim.y)
    scales = sorted(k.lengthscale for k in model.kernels_)
    assert scales[1] < 3 * 0.6 and 0.1 < scales[0] < 3 * 0.3
    (frequency,) = (k.frequency for k in model.kernels_ if isinstance(k, HidaMatern))
    assert frequency == pytest.approx(1.2, rel=0.25)
