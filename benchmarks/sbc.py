"""Simulation-based calibration of NUTS: hyperparameters from the prior, data from them, ranks among draws.

If the sampler draws from the posterior, the rank of each true value among thinned draws is uniform. One
model is compiled, its data are arguments. As a check of power, ranks are also taken of values 1.2 times too
large, which must fail.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("NPROC", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.infer.hmc import hmc
from scipy.stats import chisquare

import hidamari as hd

T, WARMUP, DRAWS, THIN = 30, 100, 31, 5
TIMES = np.cumsum(np.random.default_rng(0).exponential(0.1, T))
PRIORS = {
    "lengthscale": dist.LogNormal(np.log(0.3), 0.5),
    "variance": dist.LogNormal(0.0, 0.5),
    "noise": dist.LogNormal(np.log(0.3), 0.5),
}


def process(values):
    """y given hyperparameters, as numpyro and as a simulation see it."""
    kernel = hd.Matern(1, values["lengthscale"], values["variance"])
    return hd.MarkovGPDistribution(kernel, TIMES, values["noise"])


def potential(y):
    """Minus the log density of the logarithms of the hyperparameters: priors, Jacobian, evidence."""

    def minus_log_density(logs):
        values = {name: jnp.exp(value) for name, value in logs.items()}
        prior = sum(PRIORS[name].log_prob(values[name]) + logs[name] for name in PRIORS)
        return -prior - process(values).log_prob(y)

    return minus_log_density


start, move = hmc(potential_fn_gen=potential, algo="NUTS")


@jax.jit
def chain(key, logs, y):
    """Thinned draws of one chain and the number of divergences; compiled once for all data."""
    state = start(
        logs, WARMUP, model_args=(y,), rng_key=key, dense_mass=True, target_accept_prob=0.9, step_size=0.3
    )
    state = jax.lax.fori_loop(0, WARMUP, lambda _, state: move(state, model_args=(y,)), state)

    def thinned(state, _):
        def one(_, both):
            new = move(both[0], model_args=(y,))
            return new, both[1] + new.diverging

        state, diverged = jax.lax.fori_loop(0, THIN, one, (state, jnp.zeros((), int)))
        return state, (state.z, diverged)

    _, (draws, diverged) = jax.lax.scan(thinned, state, length=DRAWS)
    return draws, diverged.sum()


def ranks(n_replicates, seed):
    """Ranks of the true values, and of 1.2 times them, among the draws of each replicate; divergences."""
    found = {name: [] for name in PRIORS}
    broken = {name: [] for name in PRIORS}
    divergent = 0
    for r, key in enumerate(jax.random.split(jax.random.key(seed), n_replicates)):
        truth, data, own = jax.random.split(key, 3)
        values = {n: p.sample(k) for (n, p), k in zip(PRIORS.items(), jax.random.split(truth, len(PRIORS)))}
        logs = {name: jnp.log(value) for name, value in values.items()}
        draws, diverged = chain(own, logs, process(values).sample(data))
        for name in PRIORS:
            found[name].append(int((draws[name] < logs[name]).sum()))
            broken[name].append(int((draws[name] < logs[name] + np.log(1.2)).sum()))
        divergent += int(diverged)
        if r % 50 == 49:
            print(
                f"{r + 1} replicates:", {name: round(p_value(found[name]), 4) for name in PRIORS}, flush=True
            )
    return found, broken, divergent


def p_value(found, bins=16):
    """Chi-square test that ranks are uniform."""
    n = DRAWS + 1  # possible ranks
    return float(chisquare(np.bincount(np.array(found) * bins // n, minlength=bins)).pvalue)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to keep the figures in")
    options = parser.parse_args()
    begin = time.process_time()
    with jax.enable_x64(True):
        found, broken, divergent = ranks(options.replicates, options.seed)
    seconds = time.process_time() - begin
    result = {
        "replicates": options.replicates,
        "divergent_draws": divergent,
        "cpu_seconds": round(seconds, 1),
    }
    print("| parameter | p of uniform ranks | p with values 1.2 times too large |\n|---|---|---|")
    for name in PRIORS:
        result[name] = {"p": p_value(found[name]), "p_broken": p_value(broken[name]), "ranks": found[name]}
        print(f"| {name} | {result[name]['p']:.3f} | {result[name]['p_broken']:.2g} |")
    total = options.replicates * DRAWS * THIN
    print(f"\n{divergent} of {total} draws diverged, {seconds / options.replicates:.2f} CPU s a replicate")
    if options.json:
        options.json.write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
