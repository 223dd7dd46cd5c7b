"""Estimators are written to files that hold data only, and read back as they were."""

import io
import json
import os
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import hidamari
from hidamari import estimator as module
from hidamari.estimator import Estimator, load


class Toy(Estimator):
    """An estimator that learns a constant."""

    def __init__(self, n_latents=1, kernel=None, likelihood="poisson", options=None):
        self.n_latents = n_latents
        self.kernel = kernel
        self.likelihood = likelihood
        self.options = options


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(hidamari, "Toy", Toy, raising=False)
    monkeypatch.setattr(module, "_ESTIMATORS", module._ESTIMATORS | {"Toy"})


def fitted():
    kernel = hidamari.Matern(order=2, lengthscale=0.5) + 2.0 * hidamari.HidaMatern(frequency=7.0)
    options = {"tol": 1e-4, 3: (1, "a", None, [True, np.inf]), "array": np.arange(3)}
    model = Toy(3, [kernel, hidamari.Cosine(2.0, 1.0)], hidamari.Binomial(4), options)
    model.loadings_ = np.arange(12.0).reshape(4, 3).T  # Fortran order: (3, 4)
    model.bias_ = np.array([0.1, np.nan, -np.inf])
    model.unit_names_ = np.array(["a", "β"])
    model.kernels_ = [hidamari.Matern(0, 0.1 + 0.2, 1 / 3), hidamari.Constant(2.0)]
    model.likelihood_ = hidamari.NegativeBinomial(np.array([1.0, 2.0]))
    model.elbo_ = np.array([-10.0, -9.5])
    model.empty_ = np.zeros((0, 5), dtype=np.float32)
    model.scalar_ = np.array(3.5)
    model.n_iter_ = np.int64(7)
    model.converged_ = np.True_
    return model


def assert_same(a, b):
    """Compare nested values exactly, types included."""
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
    elif isinstance(a, dict):
        assert_same(list(a), list(b))
        assert_same(list(a.values()), list(b.values()))
    elif hasattr(a, "__dataclass_fields__"):
        for name in a.__dataclass_fields__:
            assert_same(getattr(a, name), getattr(b, name))
    else:
        assert a == b or (a != a and b != b)


def test_round_trip_keeps_everything_exactly(tmp_path):
    model = fitted()
    model.save(tmp_path / "model.npz")
    again = load(tmp_path / "model.npz")
    for name, value in vars(model).items():
        expected = value.item() if isinstance(value, np.generic) else value
        assert_same(getattr(again, name), expected)
    assert set(vars(again)) == set(vars(model))


def test_save_load_save_gives_the_same_bytes(tmp_path, monkeypatch):
    fitted().save(tmp_path / "a")
    monkeypatch.setattr(time, "time", lambda: 2e9)
    load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_is_a_plain_npz_with_a_readable_header(tmp_path):
    fitted().save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["loadings_"], fitted().loadings_)
    with zipfile.ZipFile(tmp_path / "model.npz") as archive:
        header = json.loads(archive.read("header.json"))
    assert header["class"] == "Toy" and header["package_version"] == hidamari.__version__
    assert header["parameters"]["n_latents"] == 3


def test_unfitted_and_private_attributes(tmp_path):
    model = Toy(2)
    model._cache = object()
    model.save(tmp_path / "m")
    assert vars(load(tmp_path / "m")) == vars(Toy(2))


def test_repr_is_the_call_without_defaults():
    assert repr(Toy()) == "Toy()"
    assert repr(Toy(2, kernel=hidamari.Matern())) == f"Toy(n_latents=2, kernel={hidamari.Matern()!r})"


def test_clone_and_get_params():
    model = fitted()
    copy = clone(model)
    assert set(copy.get_params(deep=False)) == {"n_latents", "kernel", "likelihood", "options"}
    assert not hasattr(copy, "loadings_") and copy.kernel == model.kernel
    assert copy.set_params(n_latents=5).n_latents == 5


class Matern:
    """Not the package's."""


@pytest.mark.parametrize(
    "value",
    [np.array([None]), np.ma.masked_array([1.0]), print, {1}, 1j, Matern(), np.random.RandomState(0)],
    ids=lambda value: type(value).__name__,
)
def test_what_a_file_cannot_hold_is_refused_by_name(tmp_path, value):
    with pytest.raises(ValueError, match="argument 'options' cannot be saved"):
        Toy(options=[value]).save(tmp_path / "m")
    model = Toy()
    model.state_ = value
    with pytest.raises(ValueError, match="attribute 'state_' cannot be saved"):
        model.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_generator_goes_on_where_it_was(tmp_path):
    generator = np.random.default_rng(7)
    generator.random(5, dtype=np.float32)
    Toy(options=generator).save(tmp_path / "m")
    again = load(tmp_path / "m").options
    np.testing.assert_array_equal(again.random(9, dtype=np.float32), generator.random(9, dtype=np.float32))
    with pytest.raises(ValueError, match="'options' cannot be saved: found Generator"):
        Toy(options=np.random.Generator(np.random.MT19937(0))).save(tmp_path / "m")


def test_estimators_outside_the_registry_are_refused(tmp_path):
    class Other(Estimator):
        pass

    with pytest.raises(ValueError, match="'Other' is not an estimator of this package"):
        Other().save(tmp_path / "m")


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "m"
    Toy(1).save(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Toy(2).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# -------------------------------------------------------------------------------------------- bad files


def rewrite(path, header=None, **members):
    """Write fitted() with the header changed by a function, and members added or replaced."""
    fitted().save(path)
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    if header is not None:
        content = json.loads(held["header.json"])
        changed = header(content)
        held["header.json"] = json.dumps(content if changed is None else changed).encode()
    held |= members
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in held.items():
            archive.writestr(name, content)


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


def declare(shape, descr="<f8"):
    """Return an array member that declares a shape and holds 16 bytes."""
    buffer = io.BytesIO()
    description = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue() + bytes(16)


def put(*keys, value):
    """Return a function that sets header[keys...] = value."""

    def change(header):
        for key in keys[:-1]:
            header = header[key]
        header[keys[-1]] = value

    return change


SPOILT = {
    "pickled object": (None, {"bias_.npy": npy(np.array([{}]), allow_pickle=True)}, "type object"),
    "unreferenced object": (None, {"x.npy": npy(np.array([{}]), allow_pickle=True)}, "type object"),
    "structured": (None, {"bias_.npy": npy(np.zeros(2, "f8,i4"))}, "allowed are numbers"),
    "more declared than held": (None, {"bias_.npy": declare((10**13,))}, "declares shape"),
    "product of shape overflows": (None, {"bias_.npy": declare((2**62, 4))}, "declares shape"),
    "negative shape": (None, {"bias_.npy": declare((-2, -1))}, "declares shape"),
    "items without size": (None, {"bias_.npy": declare((10**12,), "<U0")}, "allowed are numbers"),
    "no array": (None, {"bias_.npy": b"hello"}, "magic"),
    "later array format": (None, {"bias_.npy": b"\x93NUMPY\x09\x00" + bytes(20)}, "array format"),
    "not JSON": (None, {"header.json": b"{"}, ""),
    "not UTF-8": (None, {"header.json": b"\xff\xfe\x00"}, ""),
    "deep JSON": (None, {"header.json": b"[" * 500_000}, ""),
    "long header": (None, {"header.json": b" " * 2_000_000}, "header is longer"),
    "not an object": (lambda header: [1], {}, "does not say format"),
    "another format": (put("format", value="npz"), {}, "does not say format"),
    "a later format": (put("format_version", value=2), {}, "this package reads 1"),
    "version NaN": (put("format_version", value=float("nan")), {}, "this package reads 1"),
    "no class": (lambda header: header.pop("class") and None, {}, "class"),
    "a class by path": (put("class", value="os.system"), {}, "not an estimator of this package"),
    "a list for a class": (put("class", value=["Toy"]), {}, ""),
    "a part by path": (
        put("parameters", "kernel", value={"part": "print", "fields": {}}),
        {},
        "not an kernel",
    ),
    "a module as a part": (put("parameters", "kernel", value={"part": "plotting", "fields": {}}), {}, ""),
    "a kernel of length -1": (
        put("fitted", "kernels_", value={"part": "Matern", "fields": {"lengthscale": -1.0}}),
        {},
        "lengthscale",
    ),
    "arguments as a list": (put("parameters", value=[1]), {}, "not an object"),
    "a missing array": (put("fitted", "bias_", value={"array": "nowhere"}), {}, "nowhere"),
    "a generator without state": (
        put("parameters", "options", value={"generator": "PCG64", "state": {"dict": [["state", 3]]}}),
        {},
        "",
    ),
    "an unknown tag": (put("fitted", "bias_", value={"pickle": "gASV"}), {}, "no known kind"),
}


@pytest.mark.parametrize("header, members, message", SPOILT.values(), ids=SPOILT.keys())
def test_spoilt_content_is_one_clear_error(tmp_path, header, members, message):
    path = tmp_path / "m.npz"
    rewrite(path, header, **members)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(ValueError, match=f"m.npz is not a readable hidamari model file: .*{message}"):
        load(path)
    assert time.process_time() - start < 1.0
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def bomb():
    """A zip whose members inflate to 64 MB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", bytes(1 << 26))
    return buffer.getvalue()


def overlapping():
    """A zip whose 100 entries are all the same stored bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("header.json", bytes(10_000))
    raw = buffer.getvalue()
    start, size = raw.index(b"PK\x01\x02"), len(raw) - raw.index(b"PK\x01\x02") - 22
    entry = raw[start : start + size]
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 100, 100, 100 * size, start, 0)
    return raw[:start] + entry * 100 + end


FILES = {
    "empty": b"",
    "text": b"hello",
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94.",
    "an npy": npy(np.zeros(3)),
    "zip bomb": bomb(),
    "overlapping members": overlapping(),
    "empty zip": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
def test_files_of_other_kinds(tmp_path, content):
    path = tmp_path / "m.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.npz is not a readable hidamari model file"):
        load(path)


def test_plain_npz_of_numpy(tmp_path):
    np.savez(tmp_path / "m.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"no header\.json"):
        load(tmp_path / "m.npz")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.npz")


def test_what_a_later_version_added_is_left_out_with_a_warning(tmp_path):
    rewrite(tmp_path / "m", put("parameters", "speed", value=9))
    with pytest.warns(UserWarning, match=r"the arguments: \['speed'\]"):
        load(tmp_path / "m")
    rewrite(tmp_path / "m", put("colour", value="blue"))
    with pytest.warns(UserWarning, match=r"the header's keys: \['colour'\]"):
        load(tmp_path / "m")


@pytest.mark.parametrize("name", ["fit", "__class__", "save", "_private_", "a.b_", "_"])
def test_a_file_sets_only_fitted_attributes(tmp_path, name):
    rewrite(tmp_path / "m", put("fitted", name, value=1))
    with pytest.warns(UserWarning, match="ignored unknown names among the attributes"):
        assert name not in vars(load(tmp_path / "m"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "m"
    model = Toy(2, hidamari.Matern(1, 0.5))
    model.bias_ = np.arange(4.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ESTIMATORS", frozenset({"Toy"}))
        model.save(path)
    return path.read_bytes()


def load_bytes(content, path):
    """Load `content`; a ValueError or a later version's warning is an answer, anything else a failure."""
    path.write_bytes(content)
    try:
        return load(path)
    except (ValueError, UserWarning):
        return None


def test_every_truncation_is_refused(saved, tmp_path):
    for length in range(0, len(saved), 7):
        assert load_bytes(saved[:length], tmp_path / "cut") is None


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_flipped_bytes_never_do_more_than_a_clear_error(saved, tmp_path_factory, data):
    spoilt = bytearray(saved)
    for _ in range(data.draw(st.integers(1, 3))):
        spoilt[data.draw(st.integers(0, len(saved) - 1))] = data.draw(st.integers(0, 255))
    model = load_bytes(bytes(spoilt), tmp_path_factory.getbasetemp() / "flipped")
    if model is not None:
        np.testing.assert_array_equal(getattr(model, "bias_", np.arange(4.0)), np.arange(4.0))
