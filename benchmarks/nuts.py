"""NUTS over hyperparameters of the Mauna Loa CO2 record: hidamari, tinygp (quasiseparable), a dense GP.

One numpyro model (priors, metric, target, keys), three ways to its log density: a season whose shape drifts
and a short-lived residual about a quadratic trend, with noise. The full record is for hidamari alone; all
three meet on every eighth week, and value plus gradient of each is timed on the full record too.
Seconds are CPU seconds of the process; those of chains hold compilation.
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
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, init_to_value
from tinygp import GaussianProcess
from tinygp.kernels import quasisep

import hidamari as hd
from hidamari.inference.diagnostics import summarise

PRIORS = {
    "season_lengthscale": dist.LogNormal(np.log(30.0), 1.0),
    "season_variance": dist.LogNormal(np.log(4.0), 1.0),
    "residual_lengthscale": dist.LogNormal(np.log(1.0), 1.0),
    "residual_variance": dist.LogNormal(np.log(0.3), 1.0),
    "noise": dist.LogNormal(np.log(0.1), 1.0),
}
START = {
    "season_lengthscale": 30.0,
    "season_variance": 4.0,
    "residual_lengthscale": 1.0,
    "residual_variance": 0.3,
    "noise": 0.1,
}


def record(stride):
    """Times in years and CO2 less its quadratic trend, weeks without a value left out."""
    co2 = hd.datasets.load_co2().dropna("time")[::stride]
    times = co2.time.values - co2.time.values.mean()
    return times, co2.values - np.polyval(np.polyfit(times, co2.values, 2), times)


def linear_time(v, times):
    season = hd.HidaMatern(1, v["season_lengthscale"], 1.0, v["season_variance"])
    return hd.MarkovGPDistribution(
        season + hd.Matern(1, v["residual_lengthscale"], v["residual_variance"]), times, v["noise"]
    )


def quasiseparable(v, times):
    wave = quasisep.Cosine(1.0) * quasisep.Matern32(v["season_lengthscale"], jnp.sqrt(v["season_variance"]))
    residual = quasisep.Matern32(v["residual_lengthscale"], jnp.sqrt(v["residual_variance"]))
    return GaussianProcess(wave + residual, jnp.asarray(times), diag=v["noise"]).numpyro_dist()


def dense(v, times):
    lag = jnp.abs(times[:, None] - times[None, :])

    def matern(length, variance):
        return variance * (1.0 + jnp.sqrt(3.0) * lag / length) * jnp.exp(-jnp.sqrt(3.0) * lag / length)

    K = matern(v["season_lengthscale"], v["season_variance"]) * jnp.cos(2.0 * jnp.pi * lag)
    K += matern(v["residual_lengthscale"], v["residual_variance"]) + v["noise"] * jnp.eye(len(times))
    return dist.MultivariateNormal(jnp.zeros(len(times)), K, validate_args=False)


METHODS = {"hidamari": linear_time, "tinygp": quasiseparable, "dense": dense}


def evaluation(method, times, y):
    """CPU and wall seconds of the value and gradient of a log density, compiled, and its value."""
    both = jax.jit(jax.value_and_grad(lambda v: METHODS[method](v, times).log_prob(y)))
    at = {name: jnp.asarray(value) for name, value in START.items()}
    value = jax.block_until_ready(both(at))[0]
    n, cpu, wall = 0, time.process_time(), time.perf_counter()
    while n < 200 and time.perf_counter() - wall < 5.0:
        jax.block_until_ready(both(at))
        n += 1
    return (time.process_time() - cpu) / n, (time.perf_counter() - wall) / n, float(value)


def chains(method, times, y, n_warmup, n_samples, seed):
    """NUTS: summary of the draws, divergences, steps of draws that count, CPU seconds with compilation."""

    def model():
        v = {name: numpyro.sample(name, prior) for name, prior in PRIORS.items()}
        numpyro.sample("y", METHODS[method](v, times), obs=y)

    kernel = NUTS(
        model, dense_mass=True, target_accept_prob=0.9, init_strategy=init_to_value(values=dict(START))
    )
    sampler = MCMC(
        kernel,
        num_warmup=n_warmup,
        num_samples=n_samples,
        num_chains=2,
        chain_method="sequential",
        progress_bar=False,
    )
    cpu = time.process_time()
    sampler.run(jax.random.key(seed), extra_fields=("diverging", "num_steps"))
    draws = {name: np.asarray(value) for name, value in sampler.get_samples(group_by_chain=True).items()}
    seconds = time.process_time() - cpu
    extra = sampler.get_extra_fields()
    return summarise(draws), int(extra["diverging"].sum()), int(extra["num_steps"].sum()), seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--stride", type=int, default=8, help="of the record that all methods sample")
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--samples", type=int, default=700)
    parser.add_argument("--full", action="store_true", help="sample the full record too, hidamari alone")
    parser.add_argument("--json", type=Path, help="file to keep the figures in")
    options = parser.parse_args()
    result = {}
    if options.json and options.json.exists():
        result = json.loads(options.json.read_text(encoding="utf-8"))
    runs = [(method, options.stride) for method in options.methods] + [("hidamari", 1)] * options.full
    with jax.enable_x64(True):
        print("| method | weeks | ms a gradient, CPU | wall | log density |\n|---|---|---|---|---|")
        for stride in (options.stride, 1):
            times, y = record(stride)
            for method in options.methods:
                cpu, wall, value = evaluation(method, times, y)
                result[f"gradient/{method}/{len(y)}"] = {
                    "cpu_ms": 1e3 * cpu,
                    "wall_ms": 1e3 * wall,
                    "value": value,
                }
                print(
                    f"| {method} | {len(y)} | {1e3 * cpu:.2f} | {1e3 * wall:.2f} | {value:.6f} |", flush=True
                )
        print("\n| method | weeks | CPU s | steps | r_hat | least ESS | ESS / CPU s | divergent |", end="")
        print(" lengthscale of the season, yr | noise, ppm^2 |\n" + 10 * "|---" + "|")
        for method, stride in runs:
            times, y = record(stride)
            found, divergent, steps, seconds = chains(method, times, y, options.warmup, options.samples, 0)
            ess = float(min(found.ess_bulk.min(), found.ess_tail.min()))
            figures = found.to_dataframe()
            r_hat = float(found.r_hat.max())
            result[f"nuts/{method}/{len(y)}"] = {
                "cpu_s": seconds,
                "steps": steps,
                "divergent": divergent,
                "r_hat": r_hat,
                "ess": ess,
                "posterior": {
                    name: figures.loc[name, ["mean", "sd", "ess_bulk"]].to_dict() for name in PRIORS
                },
            }
            shown = [
                f"{figures.loc[n, 'mean']:.3g} +- {figures.loc[n, 'sd']:.2g}"
                for n in ("season_lengthscale", "noise")
            ]
            print(
                f"| {method} | {len(y)} | {seconds:.1f} | {steps} | {r_hat:.3f} | {ess:.0f} |"
                f" {ess / seconds:.1f} | {divergent} | {shown[0]} | {shown[1]} |",
                flush=True,
            )
            if options.json:
                options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
