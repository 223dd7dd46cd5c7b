"""What the constructor of an autoencoder allows, and what "auto" means."""

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from hidamari.models._door import check_number, check_whole
from hidamari.statespace.kernels import Kernel

__all__ = ["as_network", "as_refinements", "as_sites", "check_arguments"]

_WHOLE = {"n_latents": 1, "harmonics": 1, "n_samples": 1, "batch_size": 1, "max_epochs": 0, "patience": 1}
_FULL = 16  # latents up to which factors couple all of them
_LARGE = 256  # entries of an image from which convolutions are cheaper than layers
_WIDE = 32  # entries of a frame from which layers are wide


def check_arguments(model: Any) -> None:
    """Refuse what the constructor was given wrongly."""
    for name, least in _WHOLE.items():
        check_whole(name, getattr(model, name), least)
    check_whole("refinements", model.refinements, 0, optional=True)
    check_whole("n_threads", model.n_threads, 1, optional=True)
    for name in ("beta", "learning_rate"):
        check_number(name, getattr(model, name))
    check_number("bin_s", model.bin_s, optional=True)
    share = model.validation
    if not isinstance(share, Real) or isinstance(share, bool) or not 0.0 < float(share) < 1.0:
        raise ValueError(f"validation must be a share between 0 and 1, found {share!r}")
    for name in ("decoder", "encoder"):
        as_network(name, getattr(model, name), (1, 1))
    as_sites(model.sites, 1)
    period = model.period
    number = isinstance(period, Real) and not isinstance(period, bool) and 0.0 < float(period) < np.inf
    if not number and period is not None and not (isinstance(period, str) and period == "auto"):
        raise ValueError(f"period must be None, 'auto' or a positive finite number, found {period!r}")
    if not isinstance(model.learn_kernel, (bool, np.bool_)):
        raise ValueError(f"learn_kernel must be True or False, found {model.learn_kernel!r}")
    seed = model.random_state
    if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"random_state must be a whole number of at least 0, found {seed!r}")
    _check_kernel(model.kernel, model.n_latents, period)
    check_whole("n_inducing", model.n_inducing, 1, optional=True)
    if model.space is not None and not (isinstance(model.space, Kernel) and model.space.is_stationary):
        raise ValueError(f"space must be a stationary Kernel of distances, found {model.space!r}")


def as_refinements(refinements: Any, likelihood: str) -> int:
    """How often answers linearise again: by default not for Gaussian noise, else until little moves."""
    if refinements is None:
        return 0 if likelihood == "gaussian" else 3
    return int(refinements)


def as_sites(sites: Any, n_latents: int) -> str | int:
    """How factors couple latents: "full", "diagonal", or a rank."""
    if isinstance(sites, str) and sites in ("auto", "full", "diagonal"):
        if sites == "auto":
            return "full" if n_latents <= _FULL else "diagonal"
        return sites
    if isinstance(sites, Integral) and not isinstance(sites, bool) and int(sites) >= 1:
        return int(sites) if int(sites) < n_latents else "full"
    raise ValueError(f"sites must be 'auto', 'full', 'diagonal' or a rank of at least 1, found {sites!r}")


def as_network(name: str, kind: Any, shape: Sequence[int]) -> Any:
    """Sizes of layers, "convolutional", or a function."""
    if callable(kind):
        return kind
    if isinstance(kind, str):
        if kind == "auto" and len(shape) == 2 and np.prod(shape) >= _LARGE:
            return "convolutional"
        if kind == "auto":
            sizes = (64, 128) if np.prod(shape) >= _WIDE else (32, 32)
            return sizes if name == "decoder" else sizes[::-1]
        if kind == "convolutional":
            if len(shape) != 2:
                raise ValueError(
                    f"{name} is 'convolutional', but Y has frames of shape {tuple(shape)}; allowed: images"
                )
            return kind
    elif isinstance(kind, Iterable):
        sizes = tuple(kind)
        if all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 1 for n in sizes):
            return tuple(int(n) for n in sizes)
    raise ValueError(
        f"{name} must be 'auto', 'convolutional', sizes of hidden layers or a function, found {kind!r}"
    )


def _check_kernel(kernel: Any, n_latents: int, period: Any) -> None:
    """Refuse what is not one stationary kernel, or one for each latent."""
    if kernel is None:
        return
    given = [kernel] if isinstance(kernel, Kernel) else list(kernel) if isinstance(kernel, Iterable) else []
    alone = isinstance(kernel, Kernel)
    if not all(isinstance(k, Kernel) for k in given) or (not alone and len(given) != n_latents):
        raise ValueError(f"kernel must be one Kernel or a list of n_latents={n_latents}, found {kernel!r}")
    for own in given:
        if not own.is_stationary:
            raise ValueError(f"kernel must be stationary, found {own!r}")
    if period is not None:
        raise ValueError("period must be None where kernel is given, whose frequencies are where they start")
