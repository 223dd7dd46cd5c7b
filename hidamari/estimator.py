"""What every estimator shares: its repr, and files that hold it. No fit, no maths.

A model file is an uncompressed ``.npz``: ``header.json`` says what the model is, every array is a ``.npy``
member beside it. It holds data only. Reading it can build nothing but the classes listed here, and asks for
no more memory than a small multiple of the file.
"""

import inspect
import io
import json
import math
import os
import re
import secrets
import warnings
import zipfile
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from hidamari import __version__

__all__ = ["Estimator", "load"]

_FORMAT = "hidamari-model"
_FORMAT_VERSION = 1
_MAX_HEADER = 1 << 20  # bytes; a header with a hundred kernels needs 20,000

# The closed registry: a file names a class, and only these names are ever looked up, as hidamari.NAME.
_ESTIMATORS = frozenset({"ARNet", "CVHM", "DCDP", "MGPVAE", "MarkovGP", "OnlineChangePoints"})
_PARTS = frozenset(
    {"Constant", "Cosine", "HidaMatern", "Matern", "Periodic", "Product", "QuasiPeriodic"}
    | {"SquaredExponential", "Sum", "Wiener"}
    | {"Bernoulli", "Binomial", "Gaussian", "NegativeBinomial", "Poisson", "StudentT"}
)
# Segment costs, and the modules that have them.
_COSTS = dict.fromkeys(
    ("Biweight", "Counts", "Covariance", "Exponential", "Mean", "MeanVariance", "Regression", "Variance"),
    "hidamari.inference.costs",
)
_COSTS |= dict.fromkeys(
    ("SparseCovariance", "SparseMean", "SparseRegression"), "hidamari.inference.sparse_costs"
) | {"Kalman": "hidamari.inference.kalman_cost", "ThresholdedMean": "hidamari.inference.thresholded_mean"}

_PRIORS = frozenset(
    {"Beta", "Cauchy", "Exponential", "Gamma", "Gumbel", "HalfCauchy", "HalfNormal", "InverseGamma"}
    | {"Laplace", "LogNormal", "LogUniform", "Normal", "StudentT", "Uniform"}
)

# What zipfile, json, numpy and a class's own checks raise on a file that is not what it says.
_DAMAGE = (
    zipfile.BadZipFile,
    AttributeError,
    EOFError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


class Estimator(BaseEstimator):
    """Base of all estimators: constructor arguments are parameters, fitted attributes end in ``_``.

    A subclass stores its constructor arguments unchanged under their own names, and what ``fit`` learns under
    names with a trailing underscore. That is all that scikit-learn's ``clone`` and ``get_params`` and this
    class's :meth:`save` rely on; attributes of other names are not saved.
    """

    def __repr__(self):
        """Write the call that makes this estimator, without the arguments left at their defaults."""
        signature = inspect.signature(type(self)).parameters
        given = [
            f"{name}={getattr(self, name)!r}"
            for name, argument in signature.items()
            if repr(getattr(self, name)) != repr(argument.default)
        ]
        return f"{type(self).__name__}({', '.join(given)})"

    def __sklearn_tags__(self):
        """Tell scikit-learn that NaN is allowed: it means not observed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def save(self, path):
        """Write the estimator to one file, fitted or not.

        The file is an uncompressed ``.npz`` with a JSON header, without pickle; equal estimators give equal
        bytes. It is written under a temporary name beside `path` and renamed when complete, so that `path`
        holds either the old file or the new one, whatever happens.

        Parameters
        ----------
        path : str or path-like
            Where to write; used as given, an existing file is replaced.

        Raises
        ------
        ValueError
            If a constructor argument or a fitted attribute is something a file cannot hold.

        See Also
        --------
        hidamari.load : the way back.
        """
        arrays = {}
        header = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "package_version": __version__,
            "class": _registered(type(self).__name__, _ESTIMATORS, "estimator"),
            "parameters": _encode_all(self.get_params(deep=False), "argument", arrays),
            "fitted": _encode_all(
                {name: value for name, value in sorted(vars(self).items()) if _is_fitted(name)},
                "attribute",
                arrays,
            ),
        }
        text = json.dumps(header, indent=1, allow_nan=False).encode()
        if len(text) > _MAX_HEADER:
            raise ValueError(f"the header would take {len(text)} bytes, at most {_MAX_HEADER}: use arrays")
        _write_whole(Path(path), text, arrays)


def load(path):
    """Read an estimator that :meth:`Estimator.save` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    Estimator
        Of the class, with the arguments and the fitted attributes that were saved.

    Raises
    ------
    ValueError
        If the file is not a model file of this package, is damaged, or was written in a later format.

    Warns
    -----
    UserWarning
        If a later version of the package wrote things this one does not know; they are left out.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import hidamari as hd
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.npz"
    >>> hd.CVHM(n_latents=2, bin_s=0.02).save(path)
    >>> hd.load(path)
    CVHM(n_latents=2, bin_s=0.02)
    """
    path = Path(path)
    # Read whole, so that an OSError is the disk's and never a spoilt offset's.
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _members(archive, len(content))
            header = _read_header(archive, members)
            del members["header.json"]
            read = {name.removesuffix(".npy"): _read_array(archive, info) for name, info in members.items()}
        return _build(header, read)
    except _DAMAGE as error:
        raise ValueError(f"{path} is not a readable hidamari model file: {error}") from error


def _registered(name, registry, kind):
    """Return `name` if the registry lists it."""
    if name not in registry:
        raise ValueError(f"{name!r} is not an {kind} of this package; known are {sorted(registry)}")
    return name


def _is_fitted(name):
    """Tell whether an attribute's name is one that fit writes: ends in one underscore, begins with none."""
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z](\w*[A-Za-z0-9])?_", name) is not None


# ------------------------------------------------------------------------------------------ values <-> JSON
# What JSON has is itself. All else is an object of one key that says what it is, dictionaries included, so
# that no content can be mistaken for a tag.


def _encode_all(values, what, arrays):
    """Encode a dictionary of named values; name the one that cannot be."""
    encoded = {}
    for name, value in values.items():
        try:
            encoded[name] = _encode(value, name, arrays)
        except ValueError as error:
            raise ValueError(f"{what} {name!r} cannot be saved: {error}") from None
    return encoded


def _encode(value, where, arrays):
    """Turn a value into JSON; arrays go to `arrays` under the place `where` they stand."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is np.ndarray:
        if value.dtype.kind not in "biufcU":
            raise ValueError(f"an array of type {value.dtype}; allowed are numbers, booleans and strings")
        arrays[where] = value
        return {"array": where}
    if type(value) in (list, tuple):
        items = [_encode(item, f"{where}.{i}", arrays) for i, item in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    if type(value) is dict:
        pairs = enumerate(value.items())
        return {"dict": [[_encode(k, "key", {}), _encode(v, f"{where}.{i}", arrays)] for i, (k, v) in pairs]}
    kind = type(value).__name__
    if is_dataclass(value) and kind in (*_PARTS, *_COSTS) and type(value) is _part(kind):
        names = [field.name for field in fields(value) if field.init]
        parts = {name: _encode(getattr(value, name), f"{where}.{name}", arrays) for name in names}
        return {"part": kind, "fields": parts}
    if kind in _PRIORS and type(value).__module__.startswith("numpyro.distributions."):
        prior: Any = value
        numbers = {name: np.asarray(getattr(prior, name)) for name in prior.arg_constraints}
        if all(number.ndim == 0 for number in numbers.values()):
            return {"prior": kind, "fields": {name: float(number) for name, number in numbers.items()}}
    # Only the default generator: the state of others holds indices that a spoilt file could send astray.
    if isinstance(value, np.random.Generator) and type(value.bit_generator) is np.random.PCG64:
        return {"generator": "PCG64", "state": _encode(value.bit_generator.state, where, arrays)}
    allowed = (
        "numbers, strings, None, arrays, lists, tuples, dictionaries, kernels, likelihoods, costs, common "
        "priors of numpyro with numbers, and default_rng"
    )
    raise ValueError(f"found {kind}, allowed are {allowed}")


def _decode(value, read) -> Any:
    """Turn JSON back into the value; `read` are the arrays of the file."""
    if isinstance(value, list):
        return [_decode(item, read) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"float": "nan" | "inf" | "-inf" as text}:
            return float(text)
        case {"array": str(name)}:
            return read[name]
        case {"tuple": list(items)}:
            return tuple(_decode(item, read) for item in items)
        case {"dict": list(pairs)}:
            return {_decode(key, read): _decode(item, read) for key, item in pairs}
        case {"generator": "PCG64", "state": state}:
            generator = np.random.PCG64()
            generator.state = _decode(state, read)
            return np.random.Generator(generator)
        case {"part": str(name), "fields": dict(parts)}:
            part = _part(_registered(name, _PARTS.union(_COSTS), "kernel, likelihood or cost"))
            known = _keep_known(parts, [f.name for f in fields(part) if f.init], f"{name}'s fields")
            return part(**{field: _decode(item, read) for field, item in known.items()})
        case {"prior": str(name), "fields": dict(parts)}:
            prior = getattr(import_module("numpyro.distributions"), _registered(name, _PRIORS, "prior"))
            return prior(**{field: float(item) for field, item in parts.items()})
    raise ValueError(f"a value with keys {sorted(value)[:5]} is of no known kind")


def _part(name):
    """Look up a kernel, a likelihood or a cost that is registered."""
    return getattr(import_module(_COSTS.get(name, "hidamari")), name)


def _keep_known(values, known, what):
    """Leave out, with a warning, what a later version may have added."""
    if not isinstance(values, dict):
        raise ValueError(f"{what} are {type(values).__name__}, not an object")
    unknown = sorted(set(values) - set(known))
    if unknown:
        warnings.warn(f"ignored unknown names among {what}: {unknown[:10]}", stacklevel=4)
    return {name: value for name, value in values.items() if name in known}


def _build(header, read):
    """Make the estimator that a header and its arrays describe."""
    known = ("format", "format_version", "package_version", "class", "parameters", "fitted")
    header = _keep_known(header, known, "the header's keys")
    name = _registered(header["class"], _ESTIMATORS, "estimator")
    estimator = getattr(import_module("hidamari"), name)
    arguments = _keep_known(header["parameters"], inspect.signature(estimator).parameters, "the arguments")
    model = estimator(**{name: _decode(value, read) for name, value in arguments.items()})
    learned = [name for name in header["fitted"] if _is_fitted(name)]
    for name, value in _keep_known(header["fitted"], learned, "the attributes").items():
        setattr(model, name, _decode(value, read))
    return model


# ------------------------------------------------------------------------------------------------- the file


def _write_whole(path, text, arrays):
    """Write the members under a temporary name, flush them to the disk, and rename."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr(_member("header.json"), text)
                for name, value in arrays.items():
                    info, large = _member(f"{name}.npy"), value.nbytes > 1 << 30
                    with archive.open(info, "w", force_zip64=large) as member:
                        np.lib.format.write_array(member, np.asarray(value, order="C"), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _flush_folder(folder):
    """Make a rename outlast a power cut, where the system lets a folder be flushed."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _member(name):
    """Describe a member without clock, user or system, so that equal models give equal bytes."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o600 << 16
    return info


def _members(archive, size):
    """Return the members by name after checking that they fit in the file side by side."""
    infos = archive.infolist()
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
        raise ValueError("a member is compressed or encrypted")
    if sum(info.file_size for info in infos) > size:
        raise ValueError(f"the members claim more bytes than the file's {size}")
    members = {info.filename: info for info in infos}
    if len(members) < len(infos):
        raise ValueError("two members have the same name")
    return members


def _read_header(archive, members):
    """Read and check the JSON header."""
    if "header.json" not in members:
        raise ValueError("there is no header.json")
    if members["header.json"].file_size > _MAX_HEADER:
        raise ValueError(f"the header is longer than {_MAX_HEADER} bytes")
    header = json.loads(archive.read("header.json"))
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"the header does not say format {_FORMAT!r}")
    if header.get("format_version") != _FORMAT_VERSION:
        found = header.get("format_version")
        raise ValueError(f"format version {found!r} was found, this package reads {_FORMAT_VERSION}")
    return header


def _read_array(archive, info):
    """Read one array after checking that its declared shape is what the member holds."""
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"{info.filename} has array format {version}")
        shape, _, dtype = readers[version](member)
        held = info.file_size - member.tell()
    if dtype.kind not in "biufcU" or dtype.itemsize == 0:
        raise ValueError(f"{info.filename} has type {dtype}; allowed are numbers, booleans and strings")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != held:
        raise ValueError(f"{info.filename} declares shape {shape} of {dtype} but holds {held} bytes")
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)
