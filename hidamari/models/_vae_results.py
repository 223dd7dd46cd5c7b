"""Names, axes and units of what an autoencoder answers."""

from typing import Any

import numpy as np

from hidamari.models._vae_door import Sequences
from hidamari.results import Variable

__all__ = ["coordinates", "of_latents", "variables"]

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


def of_latents(at: Any) -> dict[str, np.ndarray]:
    """Moments of latents by name."""
    return {"latent_mean": at.mean, "latent_var": np.einsum("tll->tl", at.cov)}


def variables(found: dict[str, np.ndarray], shape: tuple[int, ...]) -> dict[str, Variable]:
    """Rows with the axes of a frame, or of the latents; draws, first in `found`, go behind the rows."""
    laid = {}
    for name, values in found.items():
        draws = name.endswith("draw")
        values = np.moveaxis(values, 0, 1) if draws else values
        dims = ("draw",) if draws else ()
        if name.startswith("latent"):
            dims += ("latent",)
        else:
            values = values.reshape(*values.shape[:-1], *shape)
            dims += frame_dims(shape)
        laid[name] = Variable(values, dims, "1", _NAMES[name])
    return laid


def coordinates(found: dict[str, np.ndarray], sequences: Sequences) -> dict[str, Any]:
    """Labels of the axes."""
    coords: dict[str, Any] = {}
    latents = [values.shape[-1] for name, values in found.items() if name.startswith("latent")]
    if latents:
        coords["latent"] = np.arange(latents[0])
    if any(not name.startswith("latent") for name in found):
        if len(sequences.shape) == 1:
            coords["unit"] = sequences.observed.names
        else:
            dims = frame_dims(sequences.shape)
            coords |= {dim: np.arange(n) for dim, n in zip(dims, sequences.shape)}
    draws = [len(values) for name, values in found.items() if name.endswith("draw")]
    if draws:
        coords["draw"] = np.arange(draws[0])
    return coords


def frame_dims(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the axes of a frame."""
    if len(shape) == 1:
        return ("unit",)
    return ("row", "column") if len(shape) == 2 else tuple(f"axis_{i}" for i in range(len(shape)))
