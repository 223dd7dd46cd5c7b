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
"integer"       whole numbers from 0 on                  none: static, part of the model's structure
==============  =======================================  =============================================
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

__all__ = ["check", "flatten", "parameter", "unflatten"]

Tree = TypeVar("Tree")

_ALLOWED = {
    "positive": "a finite number above 0",
    "nonnegative": "a finite number, 0 or more",
    "integer": "a whole number, 0 or more",
}


def parameter(default: Any, constraint: str) -> Any:
    """Declare a dataclass field with a default and a constraint.

    Parameters
    ----------
    default : float or int
        Value when the user gives none.
    constraint : {"positive", "nonnegative", "integer"}
        What `check` allows and how `flatten` transforms it.

    Returns
    -------
    dataclasses.Field

    Raises
    ------
    ValueError
        If `constraint` is not one of the three names.

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
    NumPy scalars are equal to pieces made from Python numbers.

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
        positive one, and the nonnegative ones that are not 0.

    Returns
    -------
    vector : ndarray, shape (n,)
        Logarithms of the values.
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
        chosen = [leaf for leaf in leaves if leaf[2] != "integer" and leaf[1] != 0.0]
    else:
        chosen = _choose(leaves, [free] if isinstance(free, str) else list(free))
    return np.log(np.array([value for _, value, _ in chosen], dtype=np.float64)), [
        name for name, _, _ in chosen
    ]


def unflatten(tree: Tree, vector: np.ndarray, names: Iterable[str]) -> Tree:
    """Put an unconstrained vector back: a new tree, the old one is not changed.

    Parameters
    ----------
    tree : dataclass instance, or list or tuple of them
        Supplies the structure and every parameter not in `names`.
    vector : array_like, shape (n,)
        Logarithms, as from `flatten`.
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
    vector = np.asarray(vector, dtype=np.float64)
    if vector.shape != (len(names),):
        raise ValueError(
            f"vector must have shape ({len(names)},), one entry for each name, got {vector.shape}"
        )
    known = [name for name, _, constraint in _leaves(tree, "") if constraint != "integer"]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"names has {unknown[0]!r}, which is not among the parameters {known}")
    with np.errstate(over="ignore"):  # an overflow is reported by the parameter's own check, with its name
        values = dict(zip(names, np.exp(vector).tolist()))
    return _replaced(tree, values, "")


def _checked(name: str, value: Any, constraint: str) -> Any:
    """Return `value` as float, int or float64 array, or raise the ValueError that names it."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unequal length
        array = np.empty(0)
    if array.dtype.kind not in "iuf" or array.size == 0 or (constraint == "integer" and array.ndim):
        raise ValueError(f"{name} must be {_ALLOWED[constraint]}, got {value!r}")
    bad = ~np.isfinite(array) | (array <= 0 if constraint == "positive" else array < 0)
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
            yield field.name, getattr(tree, field.name), field.metadata.get("constraint")


def _leaves(tree: Any, prefix: str) -> Iterator[tuple[str, float, str]]:
    """Yield (path, value, constraint) of every number declared by `parameter`, depth first."""
    for name, value, constraint in _children(tree):
        path = prefix + name
        if constraint is None:
            yield from _leaves(value, path + ".")
        elif isinstance(value, np.ndarray):
            for index in np.ndindex(value.shape):
                yield f"{path}[{','.join(map(str, index))}]", float(value[index]), constraint
        else:
            yield path, value, constraint


def _choose(leaves: list[tuple[str, float, str]], free: list[str]) -> list[tuple[str, float, str]]:
    """Return the leaves that the names in `free` ask for, in the order of the tree."""
    chosen = []
    for name in free:
        found = [leaf for leaf in leaves if name in _names(leaf[0])]
        found = found or [leaf for leaf in leaves if any(n.endswith("." + name) for n in _names(leaf[0]))]
        if not found:
            raise ValueError(
                f"free has {name!r}, which is not among the parameters {[leaf[0] for leaf in leaves]}"
            )
        for path, value, constraint in found:
            if constraint == "integer":
                raise ValueError(f"free has {name!r}, but {path} is a whole number and cannot move")
            if value == 0.0:
                raise ValueError(
                    f"free has {name!r}, but {path} is 0: give it a positive start to let it move"
                )
        chosen += found
    return [leaf for leaf in leaves if leaf in chosen]


def _names(path: str) -> tuple[str, str]:
    """Return the path, and the path without its array index."""
    return path, path.split("[")[0]


def _replaced(tree: Any, values: dict[str, float], prefix: str) -> Any:
    """Return a copy of `tree` with the numbers at the given paths replaced."""
    parts = {}
    for name, value, constraint in _children(tree):
        path = prefix + name
        if constraint is None:
            parts[name] = _replaced(value, values, path + ".")
        elif isinstance(value, np.ndarray):
            parts[name] = value.copy()
            for index in np.ndindex(value.shape):
                key = f"{path}[{','.join(map(str, index))}]"
                parts[name][index] = values.get(key, value[index])
        else:
            parts[name] = values.get(path, value)
    if isinstance(tree, (list, tuple)):
        return type(tree)(parts.values())
    return dataclasses.replace(tree, **parts) if parts else tree
