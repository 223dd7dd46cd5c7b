"""Arguments of OnlineChangePoints: what is allowed, and the detector that they describe."""

from collections.abc import Mapping
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np

from hidamari.inference.innovations import Innovations
from hidamari.inference.online import Cusum, Focus, Network, RunLength
from hidamari.models._door import check_number, check_whole
from hidamari.statespace.kernels import Kernel

__all__ = [
    "NETWORKS",
    "check_arguments",
    "check_predictor",
    "check_rows",
    "check_state",
    "make_detector",
    "make_predictor",
]

NETWORKS = ("onnc", "onnr")
_CHOICES = {
    "method": ("focus", "cusum", "run_length", *NETWORKS),
    "likelihood": ("gaussian", "poisson"),
    "combine": ("max", "sum"),
    "mode": ("causal", "published"),
}
_PRIORS = {
    "gaussian": {"mean": 0.0, "pseudo_count": 0.1, "shape": 1.0, "rate": 1.0},
    "poisson": {"shape": 1.0, "mean": 1.0},
}
_NETWORK = {"hidden": 100, "epochs": 1, "learning_rate": 0.003, "optimiser": "adam"}
_WHOLE = {"warm_up": 2, "max_run_lengths": 2, "lag": 1, "window": 1, "periods": 1}
_POSITIVE = ("average_run_length", "shift", "hazard", "noise", "bin_s")


def check_arguments(model: Any, d: int) -> None:
    """Refuse what the constructor was given wrongly for a stream of d units."""
    for name, allowed in _CHOICES.items():
        value = getattr(model, name)
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, found {value!r}")
    for name, least in _WHOLE.items():
        check_whole(name, getattr(model, name), least)
    for name in _POSITIVE:
        check_number(name, getattr(model, name))
    if model.average_run_length < 2:
        raise ValueError(f"average_run_length must be at least 2 rows, found {model.average_run_length!r}")
    if model.hazard >= 1:
        raise ValueError(f"hazard must be between 0 and 1, found {model.hazard!r}")
    threshold = model.threshold
    if threshold is not None and (not isinstance(threshold, Real) or threshold != threshold):
        raise ValueError(f"threshold must be a number or None, found {threshold!r}")
    counts = model.likelihood == "poisson"
    if counts and model.method == "cusum" and model.shift <= 1:
        raise ValueError(f"shift must be a factor above 1 for likelihood='poisson', found {model.shift!r}")
    _check_levels(model, d, counts)
    _check_together(model, counts)
    _filled("prior", model.prior, _PRIORS[model.likelihood])
    _filled("network", model.network, _NETWORK)


def _check_levels(model: Any, d: int, counts: bool) -> None:
    """Refuse means and scales that no stream of d units has."""
    for name in ("mean", "scale"):
        value = getattr(model, name)
        if value is None:
            continue
        try:
            given = np.broadcast_to(np.asarray(value, dtype=float), d)
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be one number or {d}, one a unit, found {value!r}") from None
        positive = name == "scale" or counts
        if not np.isfinite(given).all() or (positive and (given <= 0).any()):
            raise ValueError(f"{name} must be finite{' and positive' * positive}, found {value!r}")
    if counts and model.scale is not None:
        raise ValueError(f"scale must be None for likelihood='poisson', found {model.scale!r}")


def _check_together(model: Any, counts: bool) -> None:
    """Refuse arguments that contradict each other."""
    network = model.method in NETWORKS
    if counts and network:
        raise ValueError(f"likelihood must be 'gaussian' with method={model.method!r}, found 'poisson'")
    if model.mode == "published" and not network:
        raise ValueError(f"mode must be 'causal' with method={model.method!r}, found 'published'")
    if model.kernel is None:
        return
    if not isinstance(model.kernel, Kernel):
        raise ValueError(f"kernel must be a Kernel or None, found {model.kernel!r}")
    if counts:
        raise ValueError("kernel must be None for likelihood='poisson': counts have no Gaussian innovations")


def _filled(name: str, given: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """A mapping with its defaults put in, every entry allowed."""
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"{name} must be a mapping or None, found {given!r}")
    unknown = sorted(set(given or {}) - set(defaults), key=str)
    if unknown:
        raise ValueError(f"{name} has {unknown}; allowed are {sorted(defaults)}")
    filled = {**defaults, **(given or {})}
    for key, value in filled.items():
        where = f"{name}[{key!r}]"
        if key == "optimiser":
            if value not in ("adam", "rmsprop"):
                raise ValueError(f"{where} must be 'adam' or 'rmsprop', found {value!r}")
        elif key in ("hidden", "epochs"):
            check_whole(where, value, 1)
        elif key == "mean" and len(defaults) == 4:
            if not isinstance(value, Real) or not np.isfinite(float(value)):
                raise ValueError(f"{where} must be a finite number, found {value!r}")
        else:
            check_number(where, value)
    return filled


def make_detector(model: Any) -> Focus | Cusum | RunLength | Network:
    """The detector that checked arguments describe."""
    counts, together = model.likelihood == "poisson", model.combine == "sum"
    if model.method == "focus":
        known = model.mean is not None
        return Focus(known, counts, together)
    if model.method == "cusum":
        relearn = model.warm_up if model.mean is None and model.kernel is None else 0
        return Cusum(float(model.shift), counts, together, int(relearn))
    if model.method == "run_length":
        prior = _filled("prior", model.prior, _PRIORS[model.likelihood])
        return RunLength(
            float(model.hazard), tuple(map(float, prior.values())), counts, int(model.max_run_lengths)
        )
    network = _filled("network", model.network, _NETWORK)
    given = model.mode == "published" or not (model.mean is None and model.scale is None)
    return Network(
        width=int(model.window),
        lag=int(model.lag),
        periods=int(model.periods),
        hidden=int(network["hidden"]),
        epochs=int(network["epochs"]),
        rate=float(network["learning_rate"]),
        adam=network["optimiser"] == "adam",
        regression=model.method == "onnr",
        running=not given and model.kernel is None,
    )


def make_predictor(model: Any) -> Innovations | None:
    """What turns rows into innovations, if there is a kernel."""
    if model.kernel is None:
        return None
    return Innovations(model.kernel, float(model.noise), float(model.bin_s))


def check_rows(values: np.ndarray, counts: bool, d: int | None, name: str) -> None:
    """Refuse rows (T, d) of another width, infinite, or that are no counts."""
    if d is not None and values.shape[1] != d:
        found = values.shape[1]
        raise ValueError(
            f"{name} has {found} features, but OnlineChangePoints is expecting {d} features as input"
        )
    if np.isinf(values).any():
        raise ValueError(f"{name} must be finite or NaN (not observed), found an infinity")
    if counts:
        wrong = (values < 0) | (values != np.floor(values))
        wrong &= ~np.isnan(values)
        if wrong.any():
            raise ValueError(f"{name} must hold counts for likelihood='poisson', found {values[wrong][0]:g}")


_OTHER = "the stream was begun with other arguments; call reset() after set_params"


@lru_cache(maxsize=64)
def _layout(detector: Any, d: int) -> dict[str, tuple]:
    """Shape and type of each array in the state of a detector for d units."""
    return {name: (value.shape, value.dtype) for name, value in detector.start(d, np.ones(d), 0).items()}


def check_state(detector: Any, state: dict[str, np.ndarray], d: int) -> None:
    """Refuse to go on with a state that other arguments made: compiled loops do not look where they write."""
    if {name: (value.shape, value.dtype) for name, value in state.items()} != _layout(detector, d):
        raise ValueError(_OTHER)


def check_predictor(state: dict[str, np.ndarray], d: int) -> None:
    """Refuse a predictor's state whose arrays do not fit each other."""
    D = state["H"].size if "H" in state else 0
    shapes = {"A": (D, D), "Q": (D, D), "H": (D,), "noise": (1,), "mean": (d, D), "cov": (d, D, D)}
    if {name: value.shape for name, value in state.items()} != {**shapes, "started": (1,)}:
        raise ValueError(_OTHER)
