"""What one step of MGPVAE's learning costs by the length of a sequence, beside dense Gaussian processes.

    python benchmarks/vae_scaling.py [--lengths 400 ... 6400] [--dense 200 400 800] [--rounds 3] [--json F]

Value and gradient of the bound of one sequence: 8 latents with Matérn-3/2 kernels (2 states each), 16 entries
a frame, a network with one hidden layer of 32 on either side, diagonal sites. The dense version has the same
sites, read-out and draws, but T x T covariances of every latent, in jax in float64, differentiated by jax; it
is checked against the other at T = 50. CPU seconds of all threads, least of some rounds, after compiling.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import hidamari as hd
from hidamari.inference import _vae_networks
from hidamari.inference._vae_elbo import Posterior, elbo
from hidamari.inference._vae_model import Batch, Form, Parameters, encode
from hidamari.inference._vae_slopes import slopes
from hidamari.parameters import flatten
from hidamari.statespace.kernels import steps
from hidamari.statespace.types import Sites

L, D, HIDDEN = 8, 16, (32,)
KERNELS = tuple(hd.Matern(1, own) for own in np.geomspace(2.0, 20.0, L))
VECTOR, NAMES = flatten(list(KERNELS), ["lengthscale"])
FORM = Form(KERNELS, tuple(NAMES), "gaussian", sites="diagonal")
ROOT3 = np.sqrt(3.0)


def problem(T: int) -> tuple[Parameters, Batch]:
    """Frames at irregular times, a fifth of them missing, and parameters off their start."""
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.5, 1.5, T))
    gaps, step = steps([times])
    seen = np.broadcast_to(rng.random((1, T, 1)) < 0.8, (1, T, D))
    y = np.where(seen, np.sin(times[None, :, None] / 5.0 + np.arange(D)) + rng.normal(0, 0.1, (1, T, D)), 0.0)
    one, two = jax.random.split(jax.random.key(0))
    networks = _vae_networks.decoder(HIDDEN, L, (D,), one), _vae_networks.encoder(HIDDEN, (D,), 2 * L, two)
    networks = jax.tree.map(
        lambda own: (
            own + jnp.asarray(0.05 * rng.standard_normal(own.shape), own.dtype) if eqx.is_array(own) else own
        ),
        networks,
    )
    linear = VECTOR, 0.5 * rng.standard_normal((D, L)), np.zeros(D), np.full(D, -2.0)
    batch = Batch(*map(jnp.asarray, (y, y.astype(np.float32), seen, step[None], gaps)))
    return Parameters(*map(jnp.asarray, linear), *networks), batch


def dense_bound(parameters: Parameters, batch: Batch, times: jax.Array, key: Any) -> jax.Array:
    """The bound with T x T covariances: q = N(M j, M), M = K - K (K + 1/J)^{-1} K, one latent at a time."""
    form = FORM._replace(kernels=(), names=())
    sites = encode(parameters, form, batch)
    apart = jnp.abs(times[:, None] - times[None])

    def one(log_scale, j, J):
        scaled = ROOT3 * apart / jnp.exp(log_scale)
        K = (1.0 + scaled) * jnp.exp(-scaled)
        root = jnp.where(J > 0, jnp.sqrt(jnp.where(J > 0, J, 1.0)), 0.0)  # frames not seen have no slope
        lower = jnp.linalg.cholesky(jnp.eye(len(J)) + root[:, None] * K * root)
        half = jax.scipy.linalg.solve_triangular(lower, root[:, None] * K, lower=True)
        mean = K @ j - half.T @ (half @ j)
        return mean, 1.0 - (half**2).sum(0), 0.5 * (j @ mean) - jnp.log(jnp.diagonal(lower)).sum()

    found = [one(parameters.kernel[i], sites.j[0, :, i], sites.J[0, :, i]) for i in range(L)]
    mean, var, log_norm = zip(*found)
    q = Posterior(
        Sites(sites.j, sites.J), jnp.stack(mean, 1)[None], jnp.stack(var, 1)[None], jnp.stack(log_norm).sum()
    )
    return elbo(parameters, form, batch, q, key, 1)


@eqx.filter_jit
def dense(parameters: Parameters, batch: Batch, times: jax.Array, key: Any) -> Any:
    """Value and gradient of the dense bound."""
    return eqx.filter_value_and_grad(dense_bound)(parameters, batch, times, key)


def as_times(batch: Batch) -> jax.Array:
    """The times of the one sequence, from 0."""
    step, gaps = np.asarray(batch.step[0]), np.asarray(batch.gaps)
    return jnp.asarray(np.cumsum(np.where(step < 0, 0.0, gaps[step])))


def checked(T: int = 50) -> dict[str, float]:
    """Largest difference of value and gradient between both versions, relative to their size."""
    parameters, batch = problem(T)
    key = jax.random.key(1)
    value, slope = slopes(parameters, FORM, batch, key, 1, 1.0)
    other, theirs = dense(parameters, batch, as_times(batch), key)
    found = {"value": abs(value - float(other)) / abs(value)}
    for name in Parameters._fields:
        a, b = (ravel_pytree(eqx.filter(getattr(own, name), eqx.is_array))[0] for own in (slope, theirs))
        found[name] = float(jnp.abs(a - b).max() / jnp.abs(a).max())
    return found


def least(run: Callable[..., Any], rounds: int, *given: Any) -> float:
    """CPU seconds of the fastest round, of runs of a tenth of a second at least, after one that compiles."""
    jax.block_until_ready(eqx.filter(run(*given), eqx.is_array))
    begun = time.process_time()
    jax.block_until_ready(eqx.filter(run(*given), eqx.is_array))
    n = max(1, int(0.1 / max(time.process_time() - begun, 1e-4)))
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        for _ in range(n):
            jax.block_until_ready(eqx.filter(run(*given), eqx.is_array))
        taken.append((time.process_time() - begun) / n)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[400, 800, 1600, 3200, 6400])
    parser.add_argument("--dense", type=int, nargs="*", default=[200, 400, 800])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="keep the figures here")
    options = parser.parse_args()
    with jax.enable_x64(True):
        key = jax.random.key(1)
        agreed = checked()
        print("largest relative differences at T = 50:", {name: f"{own:.1e}" for name, own in agreed.items()})
        ours, theirs = {}, {}
        print("| T | Markov, CPU s | dense, CPU s | ratio |\n|---|---|---|---|", flush=True)
        for T in sorted({*options.lengths, *options.dense}):
            parameters, batch = problem(T)
            ours[T] = least(slopes, options.rounds, parameters, FORM, batch, key, 1, 1.0)
            row = f"| {T} | {ours[T]:.4f} |"
            if T in options.dense:
                times = as_times(batch)
                theirs[T] = least(dense, options.rounds, parameters, batch, times, key)
                row += f" {theirs[T]:.3f} | {theirs[T] / ours[T]:.0f} |"
            else:
                row += " | |"
            print(row, flush=True)
    exponent = None
    if len(options.lengths) > 1:
        logs = np.log(options.lengths), np.log([ours[T] for T in options.lengths])
        exponent = float(np.polyfit(*logs, 1)[0])
        print(f"log-log slope of the first from T = {min(options.lengths)}: {exponent:.2f}")
    if options.json:
        kept = {"agreement": agreed, "markov": ours, "dense": theirs, "exponent": exponent}
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
