"""What an autoencoder replies: rows from the functions of inference, laid out as Datasets."""

from importlib.util import find_spec
from typing import Any

import numpy as np

from hidamari.models._vae_door import Sequences, labelled
from hidamari.results import Variable

__all__ = ["expected", "imputed", "laid_out", "moments", "neural", "sampled"]

_NAMES = {
    "latent_mean": "posterior mean of the latents",
    "latent_var": "posterior variance of the latents",
    "latent_draw": "draws of the latents",
    "mean": "expected frame",
    "var": "variance of the frame",
    "observation_draw": "draws of frames",
    "mean_draw": "expected frame of each draw",
    "log_density": "log predictive density of each entry",
}


def neural() -> Any:
    """All that needs jax, optax and equinox."""
    for name in ("equinox", "optax"):
        if find_spec(name) is None:
            raise ImportError(f'MGPVAE needs {name}, of the extra "neural": pip install "hidamari[neural]"')
    from hidamari.models import _vae_fit

    return _vae_fit


def moments(at: Any) -> dict[str, np.ndarray]:
    """Moments of latents by name."""
    return {"latent_mean": at.mean, "latent_var": np.einsum("tll->tl", at.cov)}


def expected(
    fitted: Any, sequences: Sequences, new: Any, noise: bool, n_threads: int | None, place: Any = None
) -> dict[str, np.ndarray]:
    """Moments of frames and latents at new times, by default those of the sequences."""
    answers = neural().answers
    at = answers.latents(fitted, sequences.rows, sequences.times, new, n_threads, place)
    mean, var = answers.expectations(fitted, at, noise)
    return {"mean": mean, "var": var, **moments(at)}


def imputed(
    fitted: Any, sequences: Sequences, n_draws: int, rng: np.random.Generator, n_threads: int | None
) -> dict[str, np.ndarray]:
    """What was observed, and what is expected of the rest."""
    found = expected(fitted, sequences, None, True, n_threads)
    rows = sequences.rows.reshape(found["mean"].shape)
    seen = ~np.isnan(rows)
    found["mean"] = np.where(seen, rows, found["mean"])
    found["var"] = np.where(seen, 0.0, found["var"])
    if n_draws:
        answers = neural().answers
        z = answers.paths(fitted, sequences.rows, sequences.times, n_draws, rng, n_threads)
        draws = drawn(fitted, z, rng)["observation_draw"]
        found["observation_draw"] = np.where(seen, rows, draws.reshape(n_draws, *rows.shape))
    return found


def sampled(fitted: Any, times: np.ndarray, n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draws of new sequences."""
    z = neural().answers.prior_paths(fitted, times, n, rng)
    return drawn(fitted, z, rng)


def drawn(fitted: Any, z: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draws of frames given paths of latents."""
    answers = neural().answers
    mean = answers.frames_of(fitted, z)
    return {"observation_draw": answers.observations(fitted, mean, rng), "mean_draw": mean, "latent_draw": z}


def laid_out(
    found: dict[str, np.ndarray], sequences: Sequences, times: list[np.ndarray], locations: Any, model: str
) -> Any:
    """Rows (M, ...), or (draw, M, ...), as a Dataset; locations (N, p) come between rows and entries."""
    M, N = sum(map(len, times)), 1 if locations is None else len(locations)
    shape = sequences.shape if locations is None else sequences.shape[1:]
    variables, coords = {}, {}
    for name, values in found.items():
        draws = name.endswith("draw")
        count = (len(values),) if draws else ()
        own = values.shape[-1:] if name.startswith("latent") else shape
        values = values.reshape(*count, M, *(() if locations is None else (N,)), *own)
        dims = ("draw",) if draws else ()
        dims += () if locations is None else ("location",)
        dims += ("latent",) if name.startswith("latent") else frame_dims(shape)
        variables[name] = Variable(np.moveaxis(values, 0, 1) if draws else values, dims, "1", _NAMES[name])
        coords |= {dim: np.arange(n) for dim, n in zip(dims, variables[name].values.shape[1:])}
    if "unit" in coords and locations is None:
        coords["unit"] = sequences.observed.names
    dataset = labelled(sequences, variables, times, coords, {"model": model})
    if locations is not None:
        dataset = dataset.assign_coords(place=(("location", "axis"), locations))
    return dataset.transpose("draw", ...) if "draw" in dataset.dims else dataset


def frame_dims(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the axes of a frame."""
    if len(shape) < 2:
        return ("unit",)[: len(shape)]
    return ("row", "column") if len(shape) == 2 else tuple(f"axis_{i}" for i in range(len(shape)))
