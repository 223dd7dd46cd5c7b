"""Slopes of the evidence in jax: exact by every array, finite at the edges, through every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_core import draw_sites
from test_jax_core import of_jax, some_readings
from test_kalman import T, chains, evidence_of, read

from hidamari.statespace import kalman
from hidamari.statespace.kernels import Matern, bank, steps
from hidamari.statespace.types import Readings, StateSpace


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def moved(ss, sites, rng):
    """A direction of change of every array, symmetric where it must be."""
    ways = [np.zeros(a.shape) if a.dtype.kind == "i" else rng.normal(size=a.shape) for a in (*ss, *sites)]
    for i in (1, 5, 7):
        if ways[i].ndim > 2:
            ways[i] = ways[i] + ways[i].swapaxes(-1, -2)
    return ways


@pytest.mark.parametrize(
    ("name", "kind"), [("one_each", "diagonal"), ("two_of_each", "dense"), ("two_of_each", "readings")]
)
def test_slopes_by_every_array(rng, name, kind):
    """Dense complex steps by A, Q, m, P; by H and the sites differences of fourth order."""
    ss = chains(rng) if name == "one_each" else read(name, chains(rng), rng)
    K = ss.H.shape[0] * ss.H.shape[1]
    sites = some_readings(rng, T, K) if kind == "readings" else draw_sites(rng, T, K, kind == "diagonal")
    dA, dQ, _, dH, dm, dP, d1, d2 = moved(ss, sites, rng)

    def along(e, method, model, rest):
        changed = StateSpace(
            ss.A + model * e * dA,
            ss.Q + model * e * dQ,
            ss.step,
            ss.H + rest * e * dH,
            ss.m + model * e * dm,
            ss.P + model * e * dP,
        )
        data = type(sites)(sites[0] + rest * e * d1, sites[1] + rest * e * d2)
        return kalman.evidence(of_jax(changed), data, method=method)

    ways = "scan", "compiled"
    slopes = jax.jit(lambda model, rest: [jax.grad(along)(0.0, way, model, rest) for way in ways])
    far = [float(along(s * 2e-4, "auto", 0, 1)) for s in (-2.0, -1.0, 1.0, 2.0)]
    by_rest = (far[0] - 8 * far[1] + 8 * far[2] - far[3]) / 24e-4
    for slope in slopes(0.0, 1.0):
        assert float(slope) == pytest.approx(by_rest, rel=1e-7)
    both = slopes(1.0, 1.0)
    assert float(both[0]) == pytest.approx(float(both[1]), rel=1e-10)
    if kind != "readings":
        e = 1e-30j
        model = ss._replace(A=ss.A + e * dA, Q=ss.Q + e * dQ, m=ss.m + e * dm, P=ss.P + e * dP)
        by_model = evidence_of(model, sites).imag / 1e-30
        for slope in slopes(1.0, 0.0):
            assert float(slope) == pytest.approx(by_model, rel=1e-9)


@pytest.mark.parametrize("way", [{"method": "scan"}, {"method": "compiled"}, {"form": "square_root"}])
def test_slopes_are_finite_at_the_edges(way):
    ss = Matern(1, 0.3).state_space([0.0, 0.1, 0.1, 0.2])  # a gap of 0: Q = 0
    cases = {
        "one row": (ss._replace(step=ss.step[:1]), np.ones((1, 1)), 0.1),
        "all missing": (ss, np.full((4, 1), np.nan), 0.1),
        "a gap of 0": (ss, np.arange(4.0)[:, None], 0.1),
        "tiny noise": (ss, np.array([[0.0], [1.0], [np.nan], [0.5]]), 1e-10),
    }

    def value(ss, y, R):
        return kalman.evidence(ss, Readings(y, jnp.broadcast_to(R, y.shape)), **way)

    slope = jax.jit(jax.grad(value, argnums=(0, 1, 2), allow_int=True))  # one program for all but one row
    for name, (ss, y, R) in cases.items():
        for part in jax.tree.leaves(slope(of_jax(ss), jnp.asarray(y), R)):
            assert part.dtype == jax.dtypes.float0 or np.isfinite(np.asarray(part)).all(), name


def test_compiled_evidence_inside_of_everything(rng):
    ss = of_jax(bank([Matern(1, 0.3)], *steps(np.arange(30) * 0.1)))
    y, R = rng.normal(size=(5, 30, 1)), np.full((30, 1), 0.3)

    def value(scale, y, method):
        return kalman.evidence(ss._replace(P=scale * ss.P, Q=scale * ss.Q), Readings(y, R), method=method)

    def transformed(scales, y, m):
        slope = jax.grad(value)
        by_both = jax.vmap(jax.vmap(lambda s, y: slope(s, y, m), (0, None)), (None, 0))
        return (
            jax.vmap(lambda s, y: value(s, y, m))(scales, y),
            by_both(scales, y),
            jax.jvp(lambda s: value(s, y[0], m), (1.3,), (1.0,))[1],
            jax.hessian(value)(1.3, y[0], m),
            jax.grad(value, 1)(1.0, y[0], m),
        )

    scales, together = jnp.linspace(0.5, 2.0, 5), jax.jit(transformed, static_argnums=2)
    for one, other in zip(together(scales, y, "compiled"), together(scales, y, "scan")):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    # Not traced: the callback runs at once.
    np.testing.assert_allclose(jax.grad(value, 1)(1.0, jnp.asarray(y[0]), "compiled"), other, rtol=1e-9)
    assert np.isnan(jax.jit(lambda s: value(s, y[0], "auto"))(jnp.nan))
