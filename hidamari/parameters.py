"""Declare a numeric parameter once; read a tree of them as one unconstrained vector.

A model piece (kernel, likelihood) is a frozen dataclass. Each number in it is declared with `parameter`,
which records its default and its constraint; `check` enforces the constraints when the piece is made, and
`flatten` / `unflatten` map any nest of pieces to the vector that an optimiser or a sampler moves.

==============  =======================================  =============================================
constraint      allowed                                  coordinate in the vector
==============  =======================================  =============================================
"positive"      finite numbers above 0                   its logarithm
"nonnegative"   finite numbers from 0 on                 its logarithm; exactly 0 is a choice of model
                                                         (a kernel without oscillation) and never moves
"real"          finite numbers                           itself
"held"          finite numbers above 0                   its logarithm, and static unless asked for by
                                                         name (the scale of a vague prior)
"integer"       whole numbers from 0 on                  none: static, part of the model's structure
==============  =======================================  =============================================

A parameter may also hold a jax array or tracer, which is stored as it is: its value may be unknown.
"""

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

__all__ = ["check", "flatten", "is_jax", "parameter", "paths", "unflatten"]

Tree = TypeVar("Tree")

_ALLOWED = {
    "positive": "a finite number above 0",
    "nonnegative": "a finite number, 0 or more",
    "real": "a finite number",
    "held": "a finite number above 0",
    "integer": "a whole number, 0 or more",
}


def parameter(default: Any, constraint: str) -> Any:
    """Declare a dataclass field with a default and a constraint.

    Parameters
    ----------
    default : float or int
        Value when the user gives none.
    constraint : {"positive", "nonnegative", "real", "held", "integer"}
        What `check` allows and how `flatten` transforms it.

    Returns
    -------
    dataclasses.Field

    Raises
    ------
    ValueError
        If `constraint` is not one of the five names.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Decay:
    ...     rate: float = parameter(2.0, "positive")
    ...
    ...     def __post_init__(self):
    ...         check(self)
    >>> Decay(rate=-1)
    Traceback (most recent call last):
    ...
    ValueError: rate must be a finite number above 0, got -1
    """
    if constraint not in _ALLOWED:
        raise ValueError(f"constraint must be one of {sorted(_ALLOWED)}, got {constraint!r}")
    return dataclasses.field(default=default, metadata={"constraint": constraint})


def check(piece: Any) -> None:
    """Enforce the constraints of a dataclass's parameters; call it from ``__post_init__``.

    Accepted values are stored as plain ``float`` or ``int`` (arrays as float64), so that pieces made from
    NumPy scalars are equal to pieces made from Python numbers. Arrays and tracers of jax stay as they are.

    Parameters
    ----------
    piece : dataclass instance
        Fields not declared by `parameter` are left alone.

    Raises
    ------
    ValueError
        Naming the parameter, the value found and the values allowed.
    """
    for field in dataclasses.fields(piece):
        constraint = field.metadata.get("constraint")
        if constraint is not None:
            value = _checked(field.name, getattr(piece, field.name), constraint)
            object.__setattr__(piece, field.name, value)


def flatten(tree: Any, free: Iterable[str] | str | None = None) -> tuple[np.ndarray, list[str]]:
    """Read the free parameters of nested dataclasses as one unconstrained vector.

    Parameters
    ----------
    tree : dataclass instance, or list or tuple of them
        For instance a kernel, a sum of kernels, a list of kernels.
    free : iterable of str, optional
        Names of the parameters to read: a full path (``"first.lengthscale"``) or, where none is called so,
        the end of some (``"lengthscale"`` reads every lengthscale). None reads all that can move: every
        positive and real one, and the nonnegative ones that are not 0.

    Returns
    -------
    vector : ndarray, shape (n,)
        Logarithms of the values; the values themselves of real ones. A jax array if a value is one.
    names : list of str, length n
        Path of each entry; entries of an array parameter end in their index, ``"scale[2]"``.

    Raises
    ------
    ValueError
        If a name in `free` matches nothing, or asks for a parameter that cannot move.

    Examples
    --------
    >>> from hidamari.statespace.kernels import Matern
    >>> vector, names = flatten(Matern(lengthscale=1.0) + Matern(variance=2.0), free="variance")
    >>> names
    ['first.variance', 'second.variance']
    >>> vector.round(3).tolist()
    [0.0, 0.693]
    """
    leaves = list(_leaves(tree, ""))
    if free is None:
        chosen = [leaf for leaf in leaves if leaf[2] != "held" and _moves(leaf)]
    else:
        chosen = _choose(leaves, [free] if isinstance(free, str) else list(free))
    if any(is_jax(value) for _, value, _ in chosen):
        import jax.numpy as jnp

        entries = [value if constraint == "real" else jnp.log(value) for _, value, constraint in chosen]
        return jnp.stack(entries), [name for name, _, _ in chosen]  # pyright: ignore[reportReturnType]
    values = np.array([value for _, value, _ in chosen], dtype=np.float64)
    real = np.array([constraint == "real" for _, _, constraint in chosen], dtype=bool)
    return np.where(real, values, np.log(np.where(real, 1.0, values))), [name for name, _, _ in chosen]


def paths(tree: Any) -> list[str]:
    """Name every parameter that can move if asked: those of `flatten`, and the held ones.

    Parameters
    ----------
    tree : dataclass instance, or list or tuple of them
        For instance a kernel.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from hidamari.statespace.kernels import HidaMatern
    >>> paths(HidaMatern(frequency=0.0))
    ['lengthscale', 'variance']
    """
    return [leaf[0] for leaf in _leaves(tree, "") if _moves(leaf)]


def is_jax(value: Any) -> bool:
    """Say whether a value, or any parameter in nested dataclasses, is a jax array or tracer.

    Parameters
    ----------
    value : object
        A number, an array, or a dataclass instance, list or tuple as `flatten` takes them.

    Returns
    -------
    bool

    Examples
    --------
    >>> from hidamari.statespace.kernels import Matern
    >>> is_jax(Matern(lengthscale=0.5))
    False
    """
    jax = sys.modules.get("jax")  # no value can be of jax before jax is loaded, and it is slow to load
    return jax is not None and any(isinstance(part, jax.Array) for part in _parts(value))


def unflatten(tree: Tree, vector: np.ndarray, names: Iterable[str]) -> Tree:
    """Put an unconstrained vector back: a new tree, the old one is not changed.

    Parameters
    ----------
    tree : dataclass instance, or list or tuple of them
        Supplies the structure and every parameter not in `names`.
    vector : array_like, shape (n,)
        Logarithms (real parameters: values), as from `flatten`. A jax array or tracer gives parameters that
        are jax scalars.
    names : iterable of str, length n
        The paths that `flatten` returned.

    Returns
    -------
    tree : same type

    Raises
    ------
    ValueError
        If the lengths differ, a name is unknown, or a value leaves the range of float64.

    Examples
    --------
    >>> from hidamari.statespace.kernels import Matern
    >>> kernel = Matern(order=2)
    >>> unflatten(kernel, [0.0], ["lengthscale"]) == kernel
    True
    """
    names = list(names)
    traced = is_jax(vector)
    vector = vector if traced else np.asarray(vector, dtype=np.float64)
    if vector.shape != (len(names),):
        raise ValueError(
            f"vector must have shape ({len(names)},), one entry for each name, got {vector.shape}"
        )
    known = {name: constraint for name, _, constraint in _leaves(tree, "") if constraint != "integer"}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"names has {unknown[0]!r}, which is not among the parameters {list(known)}")
    if traced:
        import jax.numpy as jnp

        entries = [x if known[name] == "real" else jnp.exp(x) for name, x in zip(names, vector)]
        return _replaced(tree, dict(zip(names, entries)), "")
    real = np.array([known[name] == "real" for name in names], dtype=bool)
    with np.errstate(over="ignore"):  # an overflow is reported by the parameter's own check, with its name
        values = np.where(real, vector, np.exp(np.where(real, 0.0, vector)))
    return _replaced(tree, dict(zip(names, values.tolist())), "")


def _checked(name: str, value: Any, constraint: str) -> Any:
    """Return `value` as float, int or float64 array, or raise the ValueError that names it."""
    if is_jax(value) and constraint != "integer":
        return value
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unequal length
        array = np.empty(0)
    if array.dtype.kind not in "iuf" or array.size == 0 or (constraint == "integer" and array.ndim):
        raise ValueError(f"{name} must be {_ALLOWED[constraint]}, got {value!r}")
    bad = ~np.isfinite(array)
    if constraint in ("positive", "held"):
        bad |= array <= 0
    elif constraint != "real":
        bad |= array < 0
    if constraint == "integer":
        bad |= array != np.floor(array)
    if np.any(bad):
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        place = f" at index {where[0] if len(where) == 1 else where}" if where else ""
        raise ValueError(f"{name} must be {_ALLOWED[constraint]}, got {array[where]}{place}")
    if constraint == "integer":
        return int(array)
    return float(array) if array.ndim == 0 else array.astype(np.float64)


def _children(tree: Any) -> Iterator[tuple[str, Any, str | None]]:
    """Yield (name, value, constraint) for the direct parts of a dataclass, list or tuple."""
    if isinstance(tree, (list, tuple)):
        for i, part in enumerate(tree):
            yield str(i), part, None
    elif dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            if field.init:
                yield field.name, getattr(tree, field.name), field.metadata.get("constraint")


def _parts(tree: Any) -> Iterator[Any]:
    """Yield the tree itself if it is no container, else all that its containers hold."""
    if not isinstance(tree, (list, tuple)) and not dataclasses.is_dataclass(tree):
        yield tree
    for _, value, _ in _children(tree):
        yield from _parts(value)


def _leaves(tree: Any, prefix: str) -> Iterator[tuple[str, Any, str]]:
    """Yield (path, value, constraint) of every number declared by `parameter`, depth first."""
    for name, value, constraint in _children(tree):
        path = prefix + name
        if constraint is None:
            yield from _leaves(value, path + ".")
        elif np.ndim(value):
            for index in np.ndindex(np.shape(value)):
                entry = value[index] if is_jax(value) else float(value[index])
                yield f"{path}[{','.join(map(str, index))}]", entry, constraint
        else:
            yield path, value, constraint


def _moves(leaf: tuple[str, Any, str]) -> bool:
    """Say whether a parameter has a coordinate: no whole numbers, nothing switched off by a 0."""
    _, value, constraint = leaf
    return constraint != "integer" and (constraint == "real" or is_jax(value) or value != 0.0)


def _choose(leaves: list[tuple[str, Any, str]], free: list[str]) -> list[tuple[str, Any, str]]:
    """Return the leaves that the names in `free` ask for, in the order of the tree."""
    chosen = []
    for name in free:
        found = [leaf for leaf in leaves if name in _names(leaf[0])]
        found = found or [leaf for leaf in leaves if any(n.endswith("." + name) for n in _names(leaf[0]))]
        if not found:
            raise ValueError(
                f"free has {name!r}, which is not among the parameters {[leaf[0] for leaf in leaves]}"
            )
        for leaf in found:
            path, _, constraint = leaf
            if constraint == "integer":
                raise ValueError(f"free has {name!r}, but {path} is a whole number and cannot move")
            if not _moves(leaf):
                raise ValueError(
                    f"free has {name!r}, but {path} is 0: give it a positive start to let it move"
                )
        chosen += [leaf[0] for leaf in found]
    return [leaf for leaf in leaves if leaf[0] in chosen]


def _names(path: str) -> tuple[str, str]:
    """Return the path, and the path without its array index."""
    return path, path.split("[")[0]


def _replaced(tree: Any, values: dict[str, Any], prefix: str) -> Any:
    """Return a copy of `tree` with the numbers at the given paths replaced."""
    parts = {}
    for name, value, constraint in _children(tree):
        path = prefix + name
        if constraint is None:
            parts[name] = _replaced(value, values, path + ".")
        elif np.ndim(value):
            parts[name] = value if is_jax(value) else value.copy()
            for index in np.ndindex(value.shape):
                key = f"{path}[{','.join(map(str, index))}]"
                if key in values:
                    parts[name] = _with_entry(parts[name], index, values[key])
        else:
            parts[name] = values.get(path, value)
    if isinstance(tree, (list, tuple)):
        return type(tree)(parts.values())
    return dataclasses.replace(tree, **parts) if parts else tree


def _with_entry(array: Any, index: tuple[int, ...], value: Any) -> Any:
    """Return the array with one entry replaced; as a jax array if either is one."""
    if is_jax(array) or is_jax(value):
        import jax.numpy as jnp

        return jnp.asarray(array).at[index].set(value)
    array[index] = value
    return array
