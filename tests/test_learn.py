"""Kernel steps by the evidence of the sites: derivatives, limits, and where they lead."""

import numpy as np
import oracles
import pytest
from scipy.optimize import minimize

from hidamari.inference.learn import _along, bounds, improve_kernels, kernel_log_prior, movable
from hidamari.parameters import flatten, unflatten
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Constant, HidaMatern, Matern, bank
from hidamari.statespace.types import Sites

DT = 0.05
BANKS = {
    "matern": [Matern(1, 0.3), Matern(0, 0.1), Matern(2, 0.8)],
    "oscillating": [HidaMatern(1, 0.4, 1.3), Matern(1, 0.2), HidaMatern(0, 0.5, 3.0)],
    "sums and products": [Matern(1, 0.3) + HidaMatern(0, 0.2, 2.0, 0.5), Matern(1, 0.5) * Matern(0, 2.0)],
}


def data(rng, kernels, lengths=(30, 1, 14)):
    step = np.zeros(sum(lengths), np.int64)
    step[np.cumsum([0, *lengths[:-1]])] = -1
    K = len(kernels)
    root = rng.normal(size=(len(step), K, K))
    J = root @ root.transpose(0, 2, 1)
    J[3:6] = 0.0
    return step, Sites(2 * rng.normal(size=(len(step), K)), J)


def evidence(kernels, step, sites):
    return kalman.evidence(bank(kernels, np.array([DT]), step), sites)


@pytest.mark.parametrize("kernels", [pytest.param(v, id=k) for k, v in BANKS.items()])
def test_slopes_are_differences_of_the_evidence(rng, kernels):
    step, sites = data(rng, kernels)
    gaps = np.array([DT])
    _, value, slope = kalman.evidence_gradient(bank(kernels, gaps, step), sites)
    assert value == pytest.approx(evidence(kernels, step, sites), rel=1e-12)
    vector, names = flatten(kernels)
    for i, name in enumerate(names):
        shift = 1e-4 * np.eye(len(names))[i]
        up, down = (evidence(unflatten(kernels, vector + s * shift, names), step, sites) for s in (1, -1))
        numeric = (up - down) / 2e-4
        assert _along(kernels, name, gaps, slope) == pytest.approx(numeric, rel=1e-5, abs=1e-6), name


def test_the_slope_is_that_of_the_dense_evidence(rng):
    kernels = BANKS["matern"]
    step, sites = data(rng, kernels, (8, 3))
    gaps = np.array([DT])
    _, _, slope = kalman.evidence_gradient(bank(kernels, gaps, step), sites)
    h = 1e-5
    for c in range(3):
        up, down = (
            [k if i != c else Matern(k.order, k.lengthscale * np.exp(s)) for i, k in enumerate(kernels)]
            for s in (h, -h)
        )
        values = [oracles.posterior(bank(k, gaps, step), sites).log_evidence.sum() for k in (up, down)]
        numeric = (values[0] - values[1]) / (2 * h)
        assert _along(kernels, f"{c}.lengthscale", gaps, slope) == pytest.approx(numeric, rel=1e-5, abs=1e-6)


def test_what_moves():
    kernels = [HidaMatern(1, 0.4, 1.3), Matern(1, 0.2) + Constant(1.0)]
    assert movable(kernels) == ["0.lengthscale", "0.frequency", "1.first.lengthscale"]
    assert movable(kernels, ["frequency"]) == ["0.lengthscale", "1.first.lengthscale"]
    assert movable(kernels, ["lengthscale"]) == ["0.frequency"]
    assert movable(kernels, ["0.lengthscale"]) == ["0.frequency", "1.first.lengthscale"]
    assert movable([HidaMatern(1, 0.4, 0.0)]) == ["0.lengthscale"]


def test_limits_of_the_logarithms():
    low, high = np.exp(bounds(["0.lengthscale", "0.frequency"], 0.02, 4.0)).T
    np.testing.assert_allclose(low, [0.01, 0.025])
    np.testing.assert_allclose(high, [16.0, 25.0])


def test_a_step_stays_within_limits(rng):
    kernels = [Matern(1, 0.3), HidaMatern(1, 0.4, 9.9)]
    step, sites = data(rng, kernels)
    names = movable(kernels)
    limits = bounds(names, DT, 30 * DT)
    centre = flatten(kernels, names)[0]
    memory = None
    for _ in range(30):
        gaps = np.array([DT])
        slope = kalman.evidence_gradient(bank(kernels, gaps, step), sites)[2]
        kernels, memory = improve_kernels(kernels, names, gaps, step, slope, limits, centre, memory)
        vector = flatten(kernels, names)[0]
        assert (vector >= np.array(limits)[:, 0] - 1e-12).all()
        assert (vector <= np.array(limits)[:, 1] + 1e-12).all()
    assert all(k.variance == 1.0 for k in kernels)


def test_steps_reach_the_optimum_of_evidence_and_prior(rng):
    kernels = [Matern(1, 0.1), HidaMatern(1, 0.3, 2.2)]
    truth = [Matern(1, 0.3), HidaMatern(1, 0.6, 1.5)]
    lengths = (150, 150)
    step, sites = data(rng, truth, lengths)
    gaps = np.array([DT])
    nothing = Sites(np.zeros_like(sites.j), np.zeros_like(sites.J))
    f = kalman.sample(bank(truth, gaps, step), nothing, 1, rng)[0]
    sites = Sites(
        4 * (f + 0.5 * rng.normal(size=f.shape)), np.broadcast_to(4 * np.eye(2), sites.J.shape).copy()
    )
    names = movable(kernels)
    centre, limits = flatten(kernels, names)[0], bounds(names, DT, 150 * DT)

    def objective(kernels):
        return evidence(kernels, step, sites) + kernel_log_prior(kernels, names, centre)

    best = minimize(
        lambda x: -objective(unflatten(kernels, x, names)), centre, method="L-BFGS-B", bounds=limits
    )
    found, memory, value = kernels, None, objective(kernels)
    for _ in range(60):
        slope = kalman.evidence_gradient(bank(found, gaps, step), sites)[2]
        proposal, memory = improve_kernels(found, names, gaps, step, slope, limits, centre, memory)
        if objective(proposal) >= value:
            found, value = proposal, objective(proposal)
        else:
            memory = memory.refused()
    assert value == pytest.approx(-best.fun, abs=1e-3)
    np.testing.assert_allclose(flatten(found, names)[0], best.x, atol=1e-2)


def test_no_names_no_prior():
    assert kernel_log_prior([Matern()], [], np.zeros(0)) == 0.0


def test_the_prior_of_a_hyperparameter_is_log_normal_about_its_start():
    names, centre = ["0.lengthscale"], np.log([0.5])
    values = [kernel_log_prior([Matern(1, 0.5 * np.exp(s))], names, centre) for s in (-1.0, 0.0, 2.0)]
    np.testing.assert_allclose(values, [-0.5, 0.0, -2.0], atol=1e-14)
