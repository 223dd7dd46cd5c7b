"""Parameters: declared once, checked on the way in, read and put back as one vector."""

import doctest
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hidamari import parameters
from hidamari.parameters import check, flatten, is_jax, parameter, paths, unflatten
from hidamari.statespace.kernels import Constant, Cosine, HidaMatern, Matern


@dataclass(frozen=True)
class Noise:
    """A piece with a number for each unit, a label that is no parameter, and a whole number."""

    scale: np.ndarray | float = parameter(1.0, "positive")
    df: float = parameter(4.0, "positive")
    n: int = parameter(3, "integer")
    label: str = field(default="noise")

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class Line:
    """A piece with numbers of either sign and a scale that stays unless asked for."""

    bias: np.ndarray | float = parameter(0.0, "real")
    start: float = parameter(100.0, "held")
    slope: float = parameter(2.0, "positive")

    def __post_init__(self):
        check(self)


NESTED = (Matern(2, 0.3, 1.5) + HidaMatern(1, 2.0, 0.7, 0.2)) * Constant(3.0) + Matern(0, 1e-30, 1e200)
NAMES = [
    "first.first.first.lengthscale",
    "first.first.first.variance",
    "first.first.second.lengthscale",
    "first.first.second.frequency",
    "first.first.second.variance",
    "first.second.variance",
    "second.lengthscale",
    "second.variance",
]


def test_nested_sum_comes_back():
    vector, names = flatten(NESTED)
    assert names == NAMES
    np.testing.assert_allclose(vector, np.log([0.3, 1.5, 2.0, 0.7, 0.2, 3.0, 1e-30, 1e200]), rtol=1e-15)
    back = unflatten(NESTED, vector, names)
    np.testing.assert_allclose(flatten(back)[0], vector, rtol=1e-15)
    assert back.first.first.first.order == 2
    assert back.first.first.first.lengthscale == pytest.approx(0.3, rel=1e-15)
    assert back.second.variance == pytest.approx(1e200, rel=1e-12)


def test_every_coordinate_moves_its_own_parameter():
    vector, names = flatten(NESTED)
    for i, name in enumerate(names):
        moved = unflatten(NESTED, vector + np.log(2.0) * np.eye(len(vector))[i], names)
        np.testing.assert_allclose(
            np.exp(flatten(moved)[0] - vector), 1.0 + np.eye(len(vector))[i], rtol=1e-12, err_msg=name
        )


def test_some_parameters_move_and_the_others_stay_exactly():
    vector, names = flatten(NESTED, free=["lengthscale", "first.second.variance"])
    assert names == [NAMES[0], NAMES[2], NAMES[5], NAMES[6]]
    back = unflatten(NESTED, np.log([1.0, 2.0, 3.0, 4.0]), names)
    assert [back.first.first.first.lengthscale, back.second.lengthscale] == pytest.approx([1.0, 4.0])
    assert back.first.second.variance == pytest.approx(3.0)
    assert back.first.first.first.variance == 1.5
    assert back.second.variance == 1e200
    assert NESTED.second.lengthscale == 1e-30
    assert flatten(NESTED, free="frequency")[1] == [NAMES[3]]
    assert flatten(NESTED, free=["first.first.second.frequency", "frequency"])[1] == [NAMES[3]]


def test_lists_of_kernels():
    latents = [Matern(1), Matern(1) + Cosine(0.0)]
    vector, names = flatten(latents)
    assert names == [
        "0.lengthscale",
        "0.variance",
        "1.first.lengthscale",
        "1.first.variance",
        "1.second.variance",
    ]
    back = unflatten(latents, vector, names)
    assert back == latents
    assert isinstance(back, list)
    assert unflatten(tuple(latents), vector, names) == tuple(latents)


def test_zero_frequency_stays_zero():
    kernel = HidaMatern(frequency=0.0)
    vector, names = flatten(kernel)
    assert names == ["lengthscale", "variance"]
    assert unflatten(kernel, vector + 1.0, names).frequency == 0.0
    with pytest.raises(
        ValueError, match="free has 'frequency', but frequency is 0: give it a positive start"
    ):
        flatten(kernel, free=["frequency"])


def test_arrays_have_a_name_for_each_entry():
    noise = Noise(scale=np.array([1.0, 2.0, 4.0], dtype=np.float32))
    assert noise.scale.dtype == np.float64
    vector, names = flatten(noise)
    assert names == ["scale[0]", "scale[1]", "scale[2]", "df"]
    back = unflatten(noise, vector[1:2] + np.log(10.0), names[1:2])
    np.testing.assert_allclose(back.scale, [1.0, 20.0, 4.0], rtol=1e-15)
    np.testing.assert_array_equal(noise.scale, [1.0, 2.0, 4.0])
    assert flatten(noise, free="scale")[1] == names[:3]
    assert flatten(noise, free="scale[2]")[1] == names[2:3]
    assert (back.n, back.label) == (3, "noise")


def test_nothing_free_is_an_empty_vector():
    vector, names = flatten([])
    assert (vector.shape, names) == ((0,), [])
    assert unflatten(Matern(2), [], []) == Matern(2)


def test_real_parameters_are_their_own_coordinate_and_zero_may_move():
    line = Line(bias=[-1.5, 0.0, 1e-300])
    vector, names = flatten(line)
    assert names == ["bias[0]", "bias[1]", "bias[2]", "slope"]
    np.testing.assert_array_equal(vector[:3], [-1.5, 0.0, 1e-300])
    back = unflatten(line, [3.0, -2.0, 800.0, 0.0], names)
    np.testing.assert_array_equal(back.bias, [3.0, -2.0, 800.0])
    assert back.slope == 1.0
    np.testing.assert_array_equal(line.bias, [-1.5, 0.0, 1e-300])
    assert flatten(Line(), free="bias")[1] == ["bias"]


def test_held_parameters_move_only_by_name():
    assert flatten(Line())[1] == ["bias", "slope"]
    assert paths(Line()) == ["bias", "start", "slope"]
    vector, names = flatten([Line(), Line()], free=["1.start", "slope"])
    assert names == ["0.slope", "1.start", "1.slope"]
    assert vector[1] == pytest.approx(np.log(100.0))
    back = unflatten([Line(), Line()], vector + 1.0, names)
    assert (back[0].start, back[1].start) == (100.0, pytest.approx(100.0 * np.e))
    assert paths(HidaMatern(frequency=0.0)) == ["lengthscale", "variance"]


def test_jax_values_pass_and_come_back():
    kernel = Matern(2, 0.3) + HidaMatern(1, 2.0, 0.7)
    vector, names = flatten(kernel)
    seen = []

    def total(x):
        moved = unflatten(kernel, x, names)
        seen.append(moved)
        assert is_jax(moved)
        assert paths(moved) == names
        return 3.0 * moved.first.lengthscale + moved.second.frequency**2

    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(total))(jnp.asarray(vector))
        np.testing.assert_allclose(gradient, [0.9, 0.0, 0.0, 2 * 0.49, 0.0], rtol=1e-12)
        line = unflatten(Line(bias=[1.0, 2.0]), jnp.array([5.0, 0.0]), ["bias[1]", "slope"])
        np.testing.assert_array_equal(line.bias, [1.0, 5.0])
    assert seen[0].first.order == 2
    assert not is_jax(kernel)
    assert not is_jax([kernel, Line(bias=[1.0, 2.0])])
    with pytest.raises(ValueError, match="order must be a whole number"):
        Matern(order=jnp.float32(1.5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parameter(1.0, "complex"), "constraint must be one of .*, got 'complex'"),
        (lambda: flatten(Matern(), free="length"), r"free has 'length', which is not among .*'lengthscale'"),
        (lambda: flatten(Matern(), free=["order"]), "free has 'order', but order is a whole number"),
        (lambda: unflatten(Matern(), [0.0, 1.0], ["variance"]), r"vector must have shape \(1,\).*got \(2,\)"),
        (lambda: unflatten(Matern(), [0.0], ["scale"]), "names has 'scale', which is not among"),
        (lambda: unflatten(Matern(), [0.0], ["order"]), "names has 'order', which is not among"),
        (
            lambda: unflatten(Matern(), [1e4], ["variance"]),
            "variance must be a finite number above 0, got inf",
        ),
        (
            lambda: unflatten(Matern(), [np.nan], ["variance"]),
            "variance must be a finite number above 0, got nan",
        ),
        (lambda: Noise(scale=[1.0, 0.0, -1.0]), "scale must be a finite number above 0, got 0.0 at index 1"),
        (lambda: Noise(scale=np.ones((2, 2)) * [1, np.inf]), r"got inf at index \(0, 1\)"),
        (lambda: Noise(scale=[]), r"scale must be a finite number above 0, got \[\]"),
        (lambda: Noise(scale=[[1.0], [1.0, 2.0]]), r"scale must be a finite number above 0, got \[\[1.0\], "),
        (lambda: Noise(n=[1, 2]), r"n must be a whole number, 0 or more, got \[1, 2\]"),
        (lambda: Noise(n=-1), "n must be a whole number, 0 or more, got -1"),
        (lambda: Line(bias=[0.0, np.nan]), "bias must be a finite number, got nan at index 1"),
        (lambda: Line(start=0.0), "start must be a finite number above 0, got 0.0"),
        (lambda: unflatten(Line(), [np.inf], ["bias"]), "bias must be a finite number, got inf"),
        (lambda: Noise(df=True), "df must be a finite number above 0, got True"),
    ],
)
def test_refusals_name_the_parameter(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_examples():
    failed, tried = doctest.testmod(parameters)
    assert tried > 0
    assert failed == 0
