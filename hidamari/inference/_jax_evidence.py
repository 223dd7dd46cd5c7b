"""The log evidence as a jax function, worked out by the compiled core in float64 in either precision of jax.

jax is handed value and gradient of one pass through a custom derivative rule, and so never differentiates a
loop over time. What travels to the host is one vector (hyperparameters, observations, noise); the kernel's
matrices are formed there. Three properties of `jax.pure_callback` shape this module:

* It runs on a thread of its own, where `jax.enable_x64` of the caller does not hold, and would round doubles
  to single precision on the way in and out. Numbers travel as 32-bit words.
* What jax hands to a callback it first copies, and copies of more than 100 kB wait for a thread of its pool.
  Where the pool has one thread (NPROC=1, one core) that is the one that runs the callback: both wait for ever
  (seen in two of three runs with 30,000 rows). Smaller copies are made at once, so vectors travel in pieces,
  and batches one vector at a time.
* A callback that calls jax can lock likewise. Nothing here does: NumPy in and out.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from hidamari.inference.likelihoods import Gaussian
from hidamari.inference.objective import GPModel, evidence, evidence_and_gradient
from hidamari.inference.series import Series
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Kernel, bank, steps
from hidamari.statespace.types import Readings, Sites

__all__ = [
    "Axis",
    "BACKENDS",
    "Evidence",
    "HostFunction",
    "Template",
    "default_backend",
    "axis_of",
    "draw",
    "fill",
    "kernel_at",
    "log_evidence",
    "on_host",
    "take_apart",
]

BACKENDS = ("compiled", "jax")
_PIECE = 2**14  # words, 64 kB


class HostFunction(Protocol):
    """A hashable function of one float64 vector (N,): its value and, if asked for, its gradient (N,)."""

    def __call__(self, z: np.ndarray, slope: bool) -> tuple[float, np.ndarray]:
        """Return the value and the gradient; NaN where the vector is outside of the domain."""
        ...

    def __hash__(self) -> int: ...


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def on_host(function: HostFunction, z: jax.Array) -> jax.Array:
    """Values (...,) of a NumPy function at vectors (..., N): jit, grad, vmap and loops go through it."""
    return carry(_Value(function, z.shape, z.dtype.name), [z], z.shape[:-1], z.dtype)


def _forward(function, z):
    """Value and gradient from one call."""
    both = carry(_Both(function, z.shape, z.dtype.name), [z], (*z.shape[:-1], z.shape[-1] + 1), z.dtype)
    return both[..., 0], both[..., 1:]


def _backward(function, gradient, cotangent):
    """The gradient of the pass forward, scaled."""
    return (cotangent[..., None] * gradient,)


on_host.defvjp(_forward, _backward)


def carry(call, parts, shape: tuple[int, ...], dtype) -> jax.Array:
    """Floats (shape) that the NumPy function ``call`` makes of the words of the parts, laid end to end."""
    words = jnp.concatenate([jax.lax.bitcast_convert_type(part, jnp.uint32).ravel() for part in parts])
    pieces = [words[i : i + _PIECE] for i in range(0, words.size, _PIECE)]
    out = jax.ShapeDtypeStruct((*shape, 2) if dtype == jnp.float64 else shape, jnp.uint32)
    return jax.lax.bitcast_convert_type(
        jax.pure_callback(call, out, *pieces, vmap_method="sequential"), dtype
    )


@dataclass(frozen=True)
class _Value:
    """The callback for the value alone; equal calls compile once."""

    function: HostFunction
    shape: tuple[int, ...]
    dtype: str

    def __call__(self, *pieces):
        z = joined(pieces).view(self.dtype).reshape(self.shape).astype(np.float64)
        values = np.array([self.function(row, False)[0] for row in z.reshape(-1, z.shape[-1])])
        return in_words(values.reshape(z.shape[:-1]), self.dtype)


@dataclass(frozen=True)
class _Both:
    """The callback for value and gradient, side by side."""

    function: HostFunction
    shape: tuple[int, ...]
    dtype: str

    def __call__(self, *pieces):
        z = joined(pieces).view(self.dtype).reshape(self.shape).astype(np.float64)
        out = np.empty((*z.shape[:-1], z.shape[-1] + 1))
        for row, both in zip(z.reshape(-1, z.shape[-1]), out.reshape(-1, out.shape[-1])):
            both[0], both[1:] = self.function(row, True)
        return in_words(out, self.dtype)


def joined(pieces) -> np.ndarray:
    """The words that came from jax."""
    return np.concatenate([np.asarray(piece) for piece in pieces])


def in_words(values: np.ndarray, dtype: str) -> np.ndarray:
    """What goes back to jax."""
    with np.errstate(over="ignore"):  # beyond single precision is infinite there
        words = np.ascontiguousarray(values, dtype=dtype).view(np.uint32)
    return words.reshape(*values.shape, 2) if dtype == "float64" else words.reshape(values.shape)


@dataclass(frozen=True, eq=False)
class Axis:
    """A time axis that jax may keep as a static part: equal axes compile once."""

    gaps: np.ndarray  # (S,), (T,) as `steps` makes them of the sorted times
    step: np.ndarray
    order: np.ndarray  # (T,) which of the given times comes first, second, ...

    def __eq__(self, other):
        return isinstance(other, Axis) and self._bytes == other._bytes

    def __hash__(self):
        return hash(self._bytes)

    @property
    def _bytes(self) -> tuple[bytes, ...]:
        return self.gaps.tobytes(), self.step.tobytes(), self.order.tobytes()


def axis_of(times: Any) -> Axis:
    """The axis of times in any order; `steps` checks them."""
    times = np.asarray(times)
    order = np.argsort(times, kind="stable") if times.ndim == 1 else np.zeros(0, dtype=np.int64)
    return Axis(*steps(times[order] if times.ndim == 1 else times), order)


@dataclass(frozen=True)
class Template:
    """A kernel whose numbers that jax moves are left open."""

    kernel: Kernel
    slots: tuple[tuple[str, bool], ...]  # the path of each, and whether its coordinate is its logarithm


def take_apart(kernel: Kernel) -> tuple[Template, tuple]:
    """Split a kernel into a hashable template and its jax numbers (or arrays: one entry a series)."""
    slots: list[tuple[str, bool]] = []
    leaves: list[Any] = []

    def visit(piece, prefix):
        parts = {}
        for field in dataclasses.fields(piece):
            value, constraint = getattr(piece, field.name), field.metadata.get("constraint")
            if isinstance(value, Kernel):
                parts[field.name] = visit(value, f"{prefix}{field.name}.")
            elif constraint is not None and (isinstance(value, jax.Array) or np.ndim(value)):
                slots.append((prefix + field.name, constraint != "real"))
                leaves.append(value)
                parts[field.name] = 1.0
        return dataclasses.replace(piece, **parts) if parts else piece

    return Template(visit(kernel, ""), tuple(slots)), tuple(leaves)


def fill(template: Template, leaves) -> Kernel:
    """Put numbers back: the inverse of `take_apart`, for NumPy and jax numbers."""
    values = dict(zip([path for path, _ in template.slots], leaves))

    def visit(piece, prefix):
        parts = {}
        for field in dataclasses.fields(piece):
            value = getattr(piece, field.name)
            if isinstance(value, Kernel):
                parts[field.name] = visit(value, f"{prefix}{field.name}.")
            elif prefix + field.name in values:
                parts[field.name] = values[prefix + field.name]
        return dataclasses.replace(piece, **parts) if parts else piece

    return visit(template.kernel, "")


@dataclass(frozen=True)
class Evidence:
    """log N(y; 0, K + diag(R)) of z = (open numbers of the kernel, y, R), and its gradient: a `HostFunction`.

    With m_t and v_t the moments of f_t given all of y, Fisher's identity gives the slopes by row,
    d/dy_t = (m_t - y_t) / R_t and d/dR_t = ((y_t - m_t)^2 + v_t - R_t) / (2 R_t^2).
    """

    template: Template
    axis: Axis

    def __call__(self, z: np.ndarray, slope: bool) -> tuple[float, np.ndarray]:
        """NaN where a number of the kernel or a variance is out of its range: a sampler turns back there."""
        n, T = len(self.template.slots), len(self.axis.step)
        theta, y, R = z[:n], z[n : n + T], z[n + T :]
        gradient = np.zeros(len(z))
        seen = ~(np.isnan(y) | np.isposinf(R))
        if not seen.any():
            return 0.0, gradient
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            kernel = kernel_at(self.template, theta)
            if kernel is None or not (np.isfinite(y[seen]).all() and R[seen].min() > 0.0):
                return np.nan, np.full(len(z), np.nan)
            base = R[seen].min()
            series = Series(
                self.axis.gaps,
                self.axis.step,
                np.where(seen, y, np.nan),
                np.zeros(T, dtype=np.int64),
                np.where(seen, R - base, 0.0),
            )
            model = GPModel(kernel, Gaussian(base), np.zeros(1))
            try:
                if not slope:
                    return evidence(model, series), gradient
                names = [f"kernel.{path}" for path, _ in self.template.slots]
                found = evidence_and_gradient(model, names, series)
            except ValueError:  # matrices beyond the range of float64
                return np.nan, np.full(len(z), np.nan)
            logs = np.array([log for _, log in self.template.slots], dtype=bool)
            gradient[:n] = found.gradient / np.where(logs, theta, 1.0)
            pull = np.where(seen, (y - found.mean) / R, 0.0)
            gradient[n : n + T] = -pull
            gradient[n + T :] = np.where(seen, 0.5 * (pull * pull - (1.0 - found.var / R) / R), 0.0)
        return found.value, gradient


def kernel_at(template: Template, theta: np.ndarray) -> Kernel | None:
    """The kernel with these numbers, None if one is out of its range."""
    try:
        return fill(template, theta.tolist())
    except ValueError:
        return None


def log_evidence(kernel: Kernel, axis: Axis, y: Any, noise: Any, backend: str | None = None) -> jax.Array:
    """Log density (...,) of y (..., T) in the order of the given times, with variances noise (..., T).

    Numbers of the kernel that are arrays hold one entry a series and broadcast against the leading axes.
    """
    template, leaves = take_apart(kernel)
    n, T = len(leaves), len(axis.step)
    lead = jnp.broadcast_shapes(*map(jnp.shape, leaves), jnp.shape(y)[:-1], jnp.shape(noise)[:-1])
    columns = [jnp.broadcast_to(jnp.asarray(leaf, float), lead)[..., None] for leaf in leaves]
    rows = [jnp.broadcast_to(jnp.asarray(a, float), (*lead, T))[..., axis.order] for a in (y, noise)]
    z = jnp.concatenate([*columns, *rows], axis=-1)
    if (backend or default_backend()) == "compiled":
        return on_host(Evidence(template, axis), z)

    def one(z):
        own, y, R = fill(template, [z[i] for i in range(n)]), z[n : n + T], z[n + T :]
        ss = bank([own], axis.gaps, axis.step)
        return jnp.asarray(kalman.evidence(ss, Readings(y[:, None], R[:, None])))

    return jax.vmap(one)(z.reshape(-1, n + 2 * T)).reshape(lead)


def default_backend() -> str:
    """The compiled core on a CPU; on an accelerator the core in jax, whose data need not travel."""
    return "compiled" if jax.default_backend() == "cpu" else "jax"


@dataclass(frozen=True)
class _Paths:
    """The callback that draws paths: an integer seed and numbers of the kernel each."""

    template: Template
    axis: Axis
    shape: tuple[int, ...]
    dtype: str

    def __call__(self, *pieces):
        words, T, n = joined(pieces), len(self.axis.step), int(np.prod(self.shape))
        seeds, theta = words[: 2 * n].reshape(n, 2), words[2 * n :].view(self.dtype).reshape(n, -1)
        out, nothing = np.full((n, T), np.nan), Sites(np.zeros((T, 1)), np.zeros((T, 1)))
        for seed, row, path in zip(seeds, theta.astype(np.float64), out):
            kernel = kernel_at(self.template, row)
            if kernel is not None:
                ss = bank([kernel], self.axis.gaps, self.axis.step)
                rng = np.random.default_rng(seed)
                path[self.axis.order] = kalman.sample(ss, nothing, 1, rng)[0, :, 0]
        return in_words(out.reshape(*self.shape, T), self.dtype)


def draw(kernel: Kernel, axis: Axis, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Paths (*shape, T) of the process; the trailing axes of the shape are those of the kernel's numbers."""
    template, leaves = take_apart(kernel)
    dtype = jnp.result_type(float)
    seeds = jax.random.bits(key, (*shape, 2), jnp.uint32)
    columns = [jnp.broadcast_to(jnp.asarray(leaf, dtype), shape) for leaf in leaves]
    theta = [jnp.stack(columns, axis=-1)] if columns else []
    call = _Paths(template, axis, shape, dtype.name)
    return carry(call, [seeds, *theta], (*shape, len(axis.step)), dtype)
