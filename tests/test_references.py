"""Posterior and ELBO against stored values of other programs; tests/references/README.md says which."""

from pathlib import Path

import numpy as np
import pytest

from hidamari.inference.likelihoods import Bernoulli, Poisson
from hidamari.inference.posterior import infer_sites
from hidamari.inference.sites import Readout
from hidamari.statespace.kernels import HidaMatern

REFERENCES = Path(__file__).with_name("references")


@pytest.mark.parametrize("likelihood", [Poisson(), Bernoulli()], ids=lambda likelihood: likelihood.name)
def test_bayesnewton(likelihood):
    with np.load(REFERENCES / "bayesnewton.npz") as stored:
        start = f"{likelihood.name}_"
        case = {key.removeprefix(start): stored[key] for key in stored if key.startswith(start)}
    kernel = HidaMatern(
        order=1,
        lengthscale=float(case["lengthscale"]),
        frequency=float(case["radial_frequency"]) / (2 * np.pi),
        variance=float(case["variance"]),
    )
    y = case["y"][:, None]
    q = infer_sites(
        kernel.state_space(case["times"]),
        y,
        Readout(loadings=np.array([[1.0]]), bias=np.zeros(1)),
        likelihood,
        exposure=float(case["exposure"]),
        tol=1e-15,
    )
    assert q.converged
    elbo = q.elbo + likelihood.log_base(y).sum()
    np.testing.assert_allclose(elbo, -case["energy"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(q.mean[:, 0], case["posterior_mean"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(q.cov[:, 0, 0], case["posterior_variance"], rtol=0, atol=1e-6)
