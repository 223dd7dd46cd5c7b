"""Files from which the learning of an autoencoder goes on where it was cut off, to the same end."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from hidamari.inference._vae_model import Form, Parameters
from hidamari.inference.vae_data import Aside
from hidamari.parameters import flatten

__all__ = ["Progress", "check_checkpoint", "fingerprint", "load", "save"]

_FORMAT = 1
_NEAR = 1e-6  # relative: machines round differently
_REAL = re.compile(r"\d+(\.\d*(e[-+]?\d+)?|e[-+]?\d+)")


class Progress(NamedTuple):
    """Learning between two epochs; batches and draws are of the seed and the epoch, and need no state."""

    parameters: Parameters
    state: Any  # of the optimiser
    kept: Parameters  # the best so far
    at: int  # epochs done then
    curve: list[float]  # of validation, the start first
    history: list[float]  # of the bound in training, one for each epoch done


class Fingerprint(NamedTuple):
    """What two fits must share for one to go on with the file of the other."""

    digest: str  # of what is chosen, of shapes, and of what was seen
    numbers: np.ndarray  # of kernels and data


def check_checkpoint(path: Any) -> None:
    """Refuse what is no file that could be written."""
    if path is None:
        return
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"checkpoint must be the path of a file, or None, found {path!r}")
    if Path(path).is_dir() or not Path(path).absolute().parent.is_dir():
        raise ValueError(f"checkpoint must be a file in a folder that exists, found {str(path)!r}")


def fingerprint(parameters: Parameters, form: Form, aside: Aside, settings: Any, seed: int) -> Fingerprint:
    """That of a fit, from where it starts."""
    paths = jax.tree_util.tree_flatten_with_path(eqx.filter(parameters, eqx.is_array))[0]
    frames, rest = aside.learn, aside.rest
    chosen = {
        "settings": settings._asdict(),
        "form": form._replace(kernels=())._asdict(),
        "kernels": [_REAL.sub("", repr(kernel)) for kernel in form.kernels],
        "moved": flatten(list(form.kernels))[1],
        "leaves": [(jax.tree_util.keystr(path), str(a.dtype), a.shape) for path, a in paths],
        "seed": seed,
        "frames": (frames.y.shape, frames.gaps.shape, rest.y.shape),
    }
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode())
    for part in (frames.seen, frames.step, rest.seen, rest.step, aside.asked):
        digest.update(np.ascontiguousarray(part).tobytes())
    # Sums with weights that tell any two places apart; the squares so that no sum cancels to nothing.
    sums = []
    for part in (frames.y, frames.gaps, aside.y):
        own = np.asarray(part, float).ravel()
        own = np.where(np.isfinite(own), own, 0.0)
        weight = 1.0 + np.modf(0.6180339887498949 * np.arange(len(own)))[0]
        sums += [weight @ own**2, weight @ (own - own.min(initial=0.0))]
    return Fingerprint(digest.hexdigest(), np.concatenate([flatten(list(form.kernels))[0], sums]))


def save(path: str | Path, mark: Fingerprint, progress: Progress) -> None:
    """Write to another name first, so that a file is whole or not there."""
    path = Path(path)
    header = {"format": _FORMAT, "digest": mark.digest, "at": progress.at}
    arrays = {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(_arrays(progress)))}
    arrays |= {"numbers": mark.numbers, "curve": progress.curve, "history": progress.history}  # pyright: ignore
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)  # pyright: ignore[reportArgumentType]
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load(path: str | Path, mark: Fingerprint, start: Progress) -> Progress:
    """Where to go on: what the file says, or the start if there is none."""
    if not Path(path).exists():
        return start
    try:
        # Opened here: numpy leaves a file open that it cannot read.
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        header = json.loads(str(found["header"]))
        same = header["format"] == _FORMAT and header["digest"] == mark.digest
        numbers, curve, history = (found[name] for name in ("numbers", "curve", "history"))
        same = same and numbers.shape == mark.numbers.shape
        same = same and np.allclose(numbers, mark.numbers, rtol=_NEAR, atol=_NEAR)
        wanted = _arrays(start)
        leaves = [found[f"leaf{i}"] for i in range(len(jax.tree.leaves(wanted)))] if same else []
        at = int(header["at"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise ValueError(f"checkpoint is {str(path)!r}, which is no checkpoint of MGPVAE: {error}") from error
    if not same:
        raise ValueError(
            f"checkpoint is {str(path)!r}, a file of other settings or other data; allowed: one of this fit, "
            "or a name that does not exist yet"
        )
    filled = jax.tree.unflatten(jax.tree.structure(wanted), map(jnp.asarray, leaves))
    parameters, state, kept = eqx.combine(filled, (start.parameters, start.state, start.kept))
    return Progress(parameters, state, kept, at, curve.tolist(), history.tolist())


def _arrays(progress: Progress) -> Any:
    """All arrays that learning changes."""
    return eqx.filter((progress.parameters, progress.state, progress.kept), eqx.is_array)
