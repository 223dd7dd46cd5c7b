"""Write bayesnewton.npz: posteriors and energies of BayesNewton, an independent program; see README.md."""

import argparse
from pathlib import Path

import numpy as np

SEED = 20231213
MOST_SWEEPS = 200
SETTLED = 1e-14  # mean change of the natural parameters of the sites in one sweep


def draw(rng, times, lengthscale, variance, radial_frequency):
    """One path of the prior, from its dense covariance."""
    gap = np.abs(times[:, None] - times) * np.sqrt(3.0) / lengthscale
    K = variance * (1.0 + gap) * np.exp(-gap) * np.cos(radial_frequency * (times[:, None] - times))
    values, vectors = np.linalg.eigh(K)
    return vectors @ (np.sqrt(np.maximum(values, 0.0)) * rng.standard_normal(len(times)))


def cases(rng):
    """Counts at irregular times and binary data on a grid: name, times, y, exposure, kernel parameters."""
    times = np.cumsum(rng.gamma(2.0, 0.02, 80))
    kernel = {"lengthscale": 0.6, "variance": 0.8, "radial_frequency": 2.0 * np.pi * 1.5}
    exposure = 2.0
    y = rng.poisson(exposure * np.exp(draw(rng, times, **kernel)))
    yield "poisson", times, y.astype(float), exposure, kernel

    times = 0.05 * np.arange(100)
    kernel = {"lengthscale": 0.9, "variance": 1.3, "radial_frequency": 2.0 * np.pi * 0.7}
    y = rng.random(100) < 1.0 / (1.0 + np.exp(-draw(rng, times, **kernel)))
    yield "bernoulli", times, y.astype(float), 1.0, kernel


def reference(name, times, y, exposure, kernel):
    """What BayesNewton says, once natural-gradient steps of length one no longer change its sites."""
    import jax
    import jax.numpy as jnp

    # JAX has dropped this name; BayesNewton uses it in annotations alone.
    jnp.DeviceArray = jax.Array
    import bayesnewton
    import objax

    prior = bayesnewton.kernels.SubbandMatern32(**kernel)
    if name == "poisson":
        likelihood = bayesnewton.likelihoods.Poisson(binsize=exposure, link="exp")
    else:
        likelihood = bayesnewton.likelihoods.Bernoulli(link="logit")
    model = bayesnewton.models.MarkovVariationalGP(
        kernel=prior, likelihood=likelihood, X=times, Y=y, parallel=False
    )
    sweep = objax.Jit(lambda: model.inference(lr=1.0)[1], model.vars())
    change, n_sweeps = np.inf, 0
    while change > SETTLED:
        if n_sweeps == MOST_SWEEPS:
            raise RuntimeError(f"{name}: the sites still change by {change:.1e} after {n_sweeps} sweeps")
        change = max(float(part) for part in sweep())
        n_sweeps += 1
    energy = float(model.energy())
    mean = np.asarray(model.posterior_mean.value, float).ravel()
    variance = np.asarray(model.posterior_variance.value, float).ravel()
    print(f"{name}: {n_sweeps} sweeps, energy {energy:.12f}, variances up to {variance.max():.3f}")
    return {
        "times": times,
        "y": y,
        "exposure": exposure,
        "lengthscale": float(prior.lengthscale),
        "variance": float(prior.variance),
        "radial_frequency": float(prior.radial_frequency),
        "posterior_mean": mean,
        "posterior_variance": variance,
        "energy": energy,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("bayesnewton.npz"))
    out = parser.parse_args().out
    stored = {}
    for case in cases(np.random.default_rng(SEED)):
        stored |= {f"{case[0]}_{key}": value for key, value in reference(*case).items()}
    np.savez_compressed(out, **stored)


if __name__ == "__main__":
    main()
