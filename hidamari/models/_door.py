"""What the doors share: checks of arguments, starting kernels, clocks of trials, progress bars."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, wraps
from numbers import Integral, Real
from typing import Any, TypeVar, cast

import numpy as np

from hidamari.arrays import Trials, split
from hidamari.inference.sites import Readout
from hidamari.parameters import flatten, unflatten
from hidamari.statespace.kernels import Kernel, Matern

__all__ = [
    "check_number",
    "check_whole",
    "clocks",
    "fixed_mapping",
    "given_readout",
    "one_blas_thread",
    "progress_bar",
    "start_kernels",
    "with_times",
]

Method = TypeVar("Method", bound=Callable[..., Any])

_FIXABLE = ("loadings", "bias", "likelihood", "kernel")


def check_whole(name: str, value: Any, least: int, optional: bool = False) -> None:
    """Refuse what is not a whole number of at least ``least``, or None where that is allowed."""
    if value is None and optional:
        return
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, found {value!r}")


def check_number(name: str, value: Any, optional: bool = False) -> None:
    """Refuse what is not a positive finite number, or None where that is allowed."""
    if value is None and optional:
        return
    if not isinstance(value, Real) or isinstance(value, bool) or not 0.0 < float(value) < float("inf"):
        raise ValueError(f"{name} must be a positive finite number, found {value!r}")


def fixed_mapping(fixed: Mapping[str, Any] | Iterable[str] | None) -> dict[str, Any]:
    """``fixed`` as a mapping from known names to values, or None to hold a part where it starts."""
    if fixed is None:
        return {}
    if isinstance(fixed, str):
        raise ValueError(f"fixed must be a mapping or a list of names, found the string {fixed!r}")
    mapping = dict(fixed) if isinstance(fixed, Mapping) else dict.fromkeys(fixed)
    for name in mapping:
        if name not in _FIXABLE and not str(name).startswith("kernel."):
            raise ValueError(f"fixed has {name!r}; allowed are {_FIXABLE} and 'kernel.<hyperparameter>'")
        if name in ("kernel", "likelihood") and mapping[name] is not None:
            raise ValueError(f"fixed[{name!r}] takes no value: give it as the argument {name}=")
    return mapping


def start_kernels(kernel: Any, n_latents: int, fixed: Mapping[str, Any], scales: np.ndarray) -> list[Kernel]:
    """One kernel a latent, with the values that ``fixed`` gives put in.

    By default lengthscales fall from the first of ``scales`` to the second: started alike they tend to stay
    alike, and a fit with spread starts ends higher.
    """
    if kernel is None:
        scales = np.geomspace(scales[0], scales[1], n_latents) if n_latents > 1 else scales[:1]
        kernels: list[Kernel] = [Matern(1, float(scale)) for scale in scales]
    elif isinstance(kernel, Kernel):
        kernels = [kernel] * n_latents
    else:
        kernels = list(kernel) if isinstance(kernel, Iterable) else []
        if len(kernels) != n_latents or not all(isinstance(k, Kernel) for k in kernels):
            raise ValueError(
                f"kernel must be one Kernel or a list of n_latents={n_latents}, found {kernel!r}"
            )
    for k in kernels:
        if not k.is_stationary:
            raise ValueError(
                f"kernel must be stationary, so that a latent's variance is its kernel's, found {k!r}: "
                "a Matern of a lengthscale beyond the trials wanders like it"
            )
    for name, value in fixed.items():
        if not name.startswith("kernel."):
            continue
        path = name.removeprefix("kernel.")
        try:
            names = flatten(kernels, path)[1]
        except ValueError:
            allowed = sorted({"kernel." + part for full in flatten(kernels)[1] for part in _ends(full)})
            raise ValueError(f"fixed has {name!r}; allowed of these kernels are {allowed}") from None
        if value is None:
            continue
        try:
            values = np.broadcast_to(np.asarray(value, dtype=float), len(names))
        except ValueError:
            raise ValueError(f"fixed[{name!r}] must be one number or {len(names)}, found {value!r}") from None
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"fixed[{name!r}] must be positive and finite, found {value!r}")
        kernels = unflatten(kernels, np.log(values), names)
    return kernels


def given_readout(fixed: Mapping[str, Any], n_units: int, n_latents: int) -> Readout:
    """Loadings and bias that are not learnt; zeros for what is."""
    shapes = {"loadings": (n_units, n_latents), "bias": (n_units,)}
    given = {name: np.zeros(shape) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if name not in fixed:
            continue
        if fixed[name] is None:
            raise ValueError(
                f"fixed[{name!r}] needs a value of shape {shape}: there is no start to hold it at"
            )
        given[name] = np.array(fixed[name], dtype=float)
        if given[name].shape != shape or not np.isfinite(given[name]).all():
            raise ValueError(f"fixed[{name!r}] must be finite with shape {shape}, found {given[name].shape}")
    return Readout(**given)


def _ends(path: str) -> list[str]:
    """A path, and its last part alone."""
    return [path, path.rsplit(".", 1)[-1]]


def clocks(trials: Trials, bin_s: float) -> list[np.ndarray]:
    """Time of every row in seconds, trial by trial: the data's own, else bin centres from 0."""
    if trials.times is not None:
        return [np.asarray(own, dtype=float) for own in trials.times]
    centres = (np.arange(len(trials.values)) + 0.5) * bin_s
    return [own - own[0] + 0.5 * bin_s for own in split(centres, trials.lengths)]


def with_times(trials: Trials, times: list[np.ndarray]) -> Trials:
    """The same trials at other times."""
    lengths = np.array([len(own) for own in times])
    blank = np.empty((int(lengths.sum()), trials.values.shape[1]))
    return Trials(blank, lengths, trials.form, units=trials.units, times=times)


@cache
def _blas():
    """The linear algebra libraries that are loaded."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread(method: Method) -> Method:
    """Run a method with one thread in BLAS: its matrices are small, and two threads wait for each other."""

    @wraps(method)
    def pinned(*args, **kwargs):
        with _blas().limit(limits=1, user_api="blas"):
            return method(*args, **kwargs)

    return cast(Method, pinned)


@contextmanager
def progress_bar(
    progress: bool | None, total: int, label: str
) -> Iterator[Callable[[int, float], None] | None]:
    """A bar over rounds, as a function of round and objective; None where nobody looks."""
    if progress is None:
        progress = sys.stderr.isatty() or "ipykernel" in sys.modules
    if not progress:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=label, unit="round", leave=False) as bar:

        def show(n: int, objective: float) -> None:
            bar.set_postfix_str(f"objective {objective:.1f}", refresh=False)
            bar.update(n - bar.n)

        yield show
