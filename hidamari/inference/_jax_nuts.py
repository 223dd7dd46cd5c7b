"""NUTS over a vector of values with priors, by numpyro, in double precision whatever jax's setting is."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.distributions import biject_to
from numpyro.infer import MCMC, NUTS, init_to_value

from hidamari.inference._jax_evidence import HostFunction, on_host

__all__ = ["run_nuts"]


def run_nuts(
    density: HostFunction,
    priors: Mapping[str, Any],
    starts: np.ndarray,
    n_warmup: int,
    n_samples: int,
    target_accept: float,
    dense_mass: bool,
    seed: int,
    progress: bool,
    extra: Sequence[str],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draws and statistics by name, each (chain, draw), from chains run one after the other."""
    names, n_chains = list(priors), len(starts)

    def program():
        values = [numpyro.sample(name, priors[name]) for name in names]
        numpyro.factor("log_evidence", on_host(density, jnp.stack(values)))

    with jax.enable_x64(True):
        first = {name: jnp.asarray(starts[0, i]) for i, name in enumerate(names)}
        kernel = NUTS(
            program,
            target_accept_prob=target_accept,
            dense_mass=dense_mass,
            init_strategy=init_to_value(values=first),
        )
        sampler = MCMC(
            kernel,
            num_warmup=n_warmup,
            num_samples=n_samples,
            num_chains=n_chains,
            chain_method="sequential",
            progress_bar=progress,
        )
        begin = {
            name: biject_to(priors[name].support).inv(jnp.asarray(starts[:, i]))
            for i, name in enumerate(names)
        }
        if n_chains == 1:
            begin = {name: value[0] for name, value in begin.items()}
        sampler.run(jax.random.key(seed), init_params=begin, extra_fields=tuple(extra))
        draws = sampler.get_samples(group_by_chain=True)
        stats = sampler.get_extra_fields(group_by_chain=True)
        return (
            {name: np.asarray(draws[name]) for name in names},
            {name: np.asarray(value) for name, value in stats.items()},
        )
