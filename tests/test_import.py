"""Importing the package is cheap, and every public name is there when it is used."""

import subprocess
import sys

import pytest

import hidamari

HEAVY = ("jax", "numba", "matplotlib", "xarray", "scipy", "sklearn", "pandas", "tqdm", "h5py")


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_import_is_cheap():
    code = (
        "import sys, time, numpy\n"
        "start = time.process_time()\n"
        "import hidamari\n"
        "print(time.process_time() - start)\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])\n"
    )
    seconds, *loaded = python(code)
    assert not loaded
    assert float(seconds) < 0.15


def test_kernels_load_neither_compiler_nor_plots():
    code = (
        "import sys, hidamari\n"
        "hidamari.Matern(order=1) + hidamari.HidaMatern(frequency=2.0)\n"
        "print(*[name for name in ('jax', 'matplotlib', 'xarray', 'sklearn') if name in sys.modules])\n"
    )
    assert not python(code)


@pytest.mark.parametrize("name", hidamari.__all__)
def test_every_public_name_is_there(name):
    assert getattr(hidamari, name) is not None
    assert name in dir(hidamari)


def test_public_names_are_those_of_the_lazy_table():
    assert set(hidamari.__all__) == {*hidamari._HOME, "datasets", "plotting", "__version__"}


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Matérn'"):
        hidamari.Matérn  # noqa: B018
