"""Simulation-based calibration: under data from the prior, ranks of the truth in its posterior are uniform.

The posterior over a grid of hyperparameters is exact up to the grid, which holds all of the prior. Every
replicate is a trial of one long time axis, so that a point of the grid costs one pass for all of them.
benchmarks/sbc.py does the same with NUTS instead of the grid.
"""

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import chisquare, lognorm

import hidamari as hd
from hidamari.inference.objective import GPModel, evidence_and_gradient
from hidamari.inference.series import lay_series
from hidamari.statespace import kalman
from hidamari.statespace.kernels import bank, steps
from hidamari.statespace.types import Readings

R, T, ROWS = 1500, 30, (3, 15, 26)
LENGTH, NOISE = lognorm(0.4, scale=0.15), lognorm(0.4, scale=0.3)
GRID = (np.arange(24) + 0.5) / 24  # quantiles of the prior: cells of equal weight


def uniform(u, bins=20):
    return chisquare(np.bincount(np.minimum((u * bins).astype(int), bins - 1), minlength=bins)).pvalue


@pytest.fixture(scope="module")
def calibration():
    """Of each replicate: where the truth lies in its posterior, between 0 and 1, and z parts of f."""
    rng = np.random.default_rng(7)
    times = np.arange(T) * 0.1
    lengths, noises = LENGTH.rvs(R, random_state=rng), NOISE.rvs(R, random_state=rng)
    f = np.empty((R, T))
    for r in range(R):
        K = hd.Matern(1, lengths[r])(np.subtract.outer(times, times))
        f[r] = np.linalg.cholesky(K + 1e-12 * np.eye(T)) @ rng.standard_normal(T)
    y = f + np.sqrt(noises)[:, None] * rng.standard_normal((R, T))
    y[rng.uniform(size=y.shape) < 0.1] = np.nan
    gaps, step = steps([times] * R)
    rows = np.asarray(ROWS)
    log_weight = []
    cells = [(a, b) for a in LENGTH.ppf(GRID) for b in NOISE.ppf(GRID)]
    moments = np.empty((len(cells), 2, R, len(rows)))
    for k, (length, noise) in enumerate(cells):
        ss = bank([hd.Matern(1, length)], gaps, step)
        readings = Readings(y.reshape(-1, 1), np.full((R * T, 1), noise))
        log_weight.append(kalman.filter(ss, readings).log_norm.reshape(R, T).sum(1))
        mean, var = kalman.smooth(ss, readings)
        moments[k, 0], moments[k, 1] = (a.reshape(R, T)[:, rows] for a in (mean, var))
    weight = np.exp(np.array(log_weight) - np.max(log_weight, axis=0))
    weight /= weight.sum(0)
    return lengths, noises, f[:, rows], weight.reshape(len(GRID), len(GRID), R), moments


def cdf(marginal, prior, truth):
    """Posterior probability below the truth, linear in prior probability within a cell."""
    edges, total = np.linspace(0, 1, len(GRID) + 1), np.vstack([np.zeros(R), np.cumsum(marginal, 0)])
    return np.array([np.interp(prior.cdf(t), edges, total[:, r]) for r, t in enumerate(truth)])


def paths(calibration, factor=1.0):
    """Posterior probability below the truth of f at the rows, with its variances times a factor."""
    _, _, f, weight, moments = calibration
    z = (f - moments[:, 0]) / np.sqrt(factor * moments[:, 1])
    return np.einsum("kr,krt->rt", weight.reshape(-1, R), ndtr(z)).ravel()


def test_lengthscale_and_noise_are_calibrated(calibration):
    lengths, noises, _, weight, _ = calibration
    assert uniform(cdf(weight.sum(1), LENGTH, lengths)) > 0.001
    assert uniform(cdf(weight.sum(0), NOISE, noises)) > 0.001


def test_paths_are_calibrated(calibration):
    assert uniform(paths(calibration)) > 0.001


@pytest.mark.parametrize("factor", [1.2, 1 / 1.2])
def test_wrong_variances_are_found(calibration, factor):
    assert uniform(paths(calibration, factor)) < 0.001


def test_noise_taken_for_a_fifth_more_is_found(calibration):
    """The test of hyperparameters has power too: the posterior of 1.2 times the noise that there was."""
    _, noises, _, weight, _ = calibration
    assert uniform(cdf(weight.sum(0), NOISE, 1.2 * noises)) < 0.001


def test_the_objective_is_the_sum_over_replicates(rng):
    """What NUTS climbs is what was calibrated above."""
    times = np.arange(T) * 0.1
    y = rng.standard_normal((3, T))
    y[1, 4] = np.nan
    model = GPModel(hd.Matern(1, 0.2), hd.Gaussian(0.3), np.zeros(1))
    found = evidence_and_gradient(model, [], lay_series([times] * 3, list(y)).series).value
    ss = bank([hd.Matern(1, 0.2)], *steps([times] * 3))
    assert np.isclose(
        found, kalman.evidence(ss, Readings(y.reshape(-1, 1), np.full((3 * T, 1), 0.3))), rtol=1e-12
    )
