"""The core where numbers run out: tiny and huge noise, exact readings, gaps and units over the whole range.

References are computed in 50 or more digits while the test runs. The whole grid is printed, form by form, by
benchmarks/extremes.py.
"""

from functools import cache

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from hidamari.statespace import kalman
from hidamari.statespace.kernels import HidaMatern, Matern
from hidamari.statespace.types import Readings, Sites

LENGTHSCALES = (1e-6, 1e-2, 1.0, 1e2, 1e4, 1e8)
NOISES = (1e-12, 1e-8, 1e-4, 1.0, 1e6)
TIMES = (
    np.cumsum(np.random.default_rng(7).integers(1, 2**11, 20)) / 2**10
)  # gaps exact in binary, 1 on average


def readings(y, R):
    """One read-out, R for all or for each."""
    return Readings(y[:, None], np.broadcast_to(R, y.shape)[:, None])


def infer(kernel, times, y, R, form="square_root"):
    """Mean, variance and log evidence."""
    found, lml = kalman.infer(kernel.state_space(times), readings(y, R), form=form)
    return found.mean[:, 0], found.cov[:, 0], lml


def errors(found, exact):
    """Of the mean relative to its largest, of each variance, and of the log evidence."""
    mean, var, lml = exact
    assert all(np.isfinite(part).all() for part in found)
    return (
        np.abs(found[0] - mean).max() / np.abs(mean).max(),
        np.abs(found[1] / var - 1).max(),
        np.abs(found[2] / lml - 1),
    )


@cache
def grid(order, lengthscale):
    """One path of the process, and for each noise the readings and the exact answer."""
    rng = np.random.default_rng([order, int(1e6 * lengthscale)])
    kernel = cache(oracles.matern_mp(order, lengthscale))
    path = oracles.draw_mp(kernel, TIMES, rng)
    cases = []
    for noise in NOISES:
        y = path + np.sqrt(noise) * rng.standard_normal(len(path))
        cases.append((noise, y, oracles.gp_mp(kernel, TIMES, y, noise)))
    return cases


@pytest.mark.parametrize("lengthscale", LENGTHSCALES)
@pytest.mark.parametrize("order", range(7))
def test_square_root_form_on_the_grid(order, lengthscale):
    for noise, y, exact in grid(order, lengthscale):
        mean, var, lml = errors(infer(Matern(order, lengthscale), TIMES, y, noise), exact)
        assert mean < 2e-13
        assert var < (1e-12 if noise < 1e-10 else 1e-13)
        assert lml < (1e-10 if noise < 1e-10 else 1e-11 if noise < 1e-5 else 1e-13)


@pytest.mark.parametrize("lengthscale", LENGTHSCALES)
@pytest.mark.parametrize("order", range(7))
def test_chosen_form_on_the_grid(order, lengthscale):
    for noise, y, exact in grid(order, lengthscale):
        assert max(errors(infer(Matern(order, lengthscale), TIMES, y, noise, "auto"), exact)) < 1e-10
        sites = Sites(y[:, None] / noise, np.full((len(y), 1), 1 / noise))
        for same in (sites, Sites(sites.j, sites.J[:, :, None])):  # diagonal, and a dense matrix of one
            found = kalman.smooth(Matern(order, lengthscale).state_space(TIMES), same)
            assert max(errors((found.mean[:, 0], found.cov.ravel(), exact[2]), exact)) < 1e-10


@pytest.mark.parametrize("lengthscale", LENGTHSCALES)
@pytest.mark.parametrize("order", range(7))
def test_float32_on_the_grid(order, lengthscale):
    for noise, y, exact in grid(order, lengthscale):
        mean, var, lml = errors(
            infer(Matern(order, lengthscale), TIMES, y, noise, "square_root_float32"), exact
        )
        assert mean < 1e-4
        assert var < (2e-4 if noise < 1e-10 else 5e-5)
        assert lml < (2e-2 if noise < 1e-10 else 1e-3 if noise < 1e-5 else 1e-4)


def cosine_mp(frequency):
    return lambda tau: mp.cos(2 * mp.pi * frequency * tau)


@pytest.mark.parametrize("noise", [1e-12, 1e-4, 1e6])
@pytest.mark.parametrize("lengthscale", [1e-2, 1.0, 1e2, 1e8])
@pytest.mark.parametrize("order", [0, 1, 6])
def test_oscillation_and_sum(order, lengthscale, noise):
    """Read-outs that mix states: matern * cosine, and that plus a rough process."""
    rng = np.random.default_rng(order)
    matern, cosine, rough = (
        oracles.matern_mp(order, lengthscale),
        cosine_mp(0.375),
        oracles.matern_mp(0, 3.0, 0.5),
    )
    oscillating = HidaMatern(order, lengthscale, 0.375)
    products = cache(lambda tau: matern(tau) * cosine(tau))
    sums = cache(lambda tau: products(tau) + rough(tau))
    for kernel, kernel_mp in ((oscillating, products), (oscillating + Matern(0, 3.0, 0.5), sums)):
        y = oracles.draw_mp(kernel_mp, TIMES, rng) + np.sqrt(noise) * rng.standard_normal(len(TIMES))
        y[[5, 6, 13]] = np.nan
        mean, var, lml = errors(infer(kernel, TIMES, y, noise), oracles.gp_mp(kernel_mp, TIMES, y, noise))
        assert mean < 1e-12
        assert var < (1e-9 if noise < 1e-10 else 1e-12)
        assert lml < (1e-9 if noise < 1e-10 else 1e-12)


@pytest.mark.parametrize("noise", [0.0, 1e-300, 1e-100, 1e-30, 1e-16])
@pytest.mark.parametrize("order", range(7))
@pytest.mark.parametrize("lengthscale", [1e-2, 1.0, 1e2])
def test_next_to_no_noise(order, lengthscale, noise):
    kernel = cache(oracles.matern_mp(order, lengthscale))
    y = oracles.draw_mp(kernel, TIMES, np.random.default_rng(order))
    y[[3, 4, 9, 19]] = np.nan
    seen = ~np.isnan(y)
    exact = oracles.gp_mp(
        kernel, TIMES, y, noise, digits=150 if noise == 0 else 400 if noise < 1e-60 else 100
    )
    mean, var, lml = infer(Matern(order, lengthscale), TIMES, y, noise)
    assert np.abs(mean - exact[0]).max() < 1e-11 * np.abs(exact[0]).max()
    np.testing.assert_allclose(var[~seen], exact[1][~seen], rtol=1e-8)
    if noise:
        np.testing.assert_allclose(var[seen], exact[1][seen], rtol=1e-11)
    else:
        np.testing.assert_array_equal(mean[seen], y[seen])
        assert not var[seen].any()
    if lengthscale <= 1:
        assert lml == pytest.approx(exact[2], rel=1e-12)


@pytest.mark.parametrize("noise", [1e-4, 1.0])
@pytest.mark.parametrize("order", range(7))
def test_gaps_over_the_whole_range(order, noise):
    times = np.array(
        [0.0, 0.0, 1e-300, 1e-200, 1e-100, 1e-30, 1e-10, 1e-3, 1.0, 1.5, 1e3, 1e30, 1e100, 1e200]
    )
    kernel = oracles.matern_mp(order, 1.0)
    y = np.random.default_rng(order).standard_normal(len(times))
    found = infer(Matern(order, 1.0), times, y, noise)
    assert max(errors(found, oracles.gp_mp(kernel, times, y, noise))) < 1e-11


@pytest.mark.parametrize("gap", [1e-20, 1e-170, 1e-250])
def test_two_exact_readings_are_a_value_and_a_slope(gap):
    """Squares of such a gap leave the range of float64; the slope they fix is of order one."""
    times, y = np.array([0.0, gap, 0.5, 2.0]), np.array([0.0, 0.7 * gap, np.nan, np.nan])
    mean, var, _ = infer(Matern(2, 1.0), times, y, 0.0)
    exact = oracles.gp_mp(oracles.matern_mp(2, 1.0), times, y, 0.0, digits=1200)
    np.testing.assert_allclose(mean[2:], exact[0][2:], rtol=1e-13)
    np.testing.assert_allclose(var[2:], exact[1][2:], rtol=1e-13)


@pytest.mark.parametrize(
    ("form", "exponent"),  # squares: 1e-200 .. 1e140
    [(form, e) for form in ("auto", "covariance", "square_root") for e in (-332, -250, -50, 3, 232)],
)
def test_units_of_y(form, exponent, rng):
    a, y = 2.0**exponent, rng.standard_normal(len(TIMES))
    one = infer(Matern(2, 3.0), TIMES, y, 0.01, form)
    two = infer(Matern(2, 3.0, a * a), TIMES, a * y, 0.01 * a * a, form)
    np.testing.assert_array_equal(two[0], a * one[0])
    np.testing.assert_array_equal(two[1], a * one[1] * a)
    assert two[2] == pytest.approx(one[2] - len(y) * np.log(a), rel=1e-12)


@pytest.mark.parametrize("exponent", [-100, -20, 20, 100])  # 1e-30 .. 1e30
def test_units_of_time(exponent, rng):
    a, y = 2.0**exponent, rng.standard_normal(len(TIMES))
    one = infer(HidaMatern(2, 3.0, 0.25), TIMES, y, 1e-9)
    two = infer(HidaMatern(2, 3.0 * a, 0.25 / a), TIMES * a, y, 1e-9)
    for x, z in zip(one, two):
        np.testing.assert_array_equal(x, z)


@pytest.mark.parametrize("T", [1, 2])
@pytest.mark.parametrize("noise", [0.0, 1e-12, 1.0])
def test_one_and_two_rows(T, noise, rng):
    times, y = TIMES[:T], rng.standard_normal(T)
    found = infer(Matern(2, 3.0), times, y, noise, "auto")
    exact = oracles.gp_mp(oracles.matern_mp(2, 3.0), times, y, noise)
    np.testing.assert_allclose(found[0], exact[0], rtol=1e-13)
    np.testing.assert_allclose(found[1], exact[1], rtol=1e-12, atol=0)
    assert found[2] == pytest.approx(exact[2], rel=1e-13)


def test_one_direction_known_a_trillion_times_better(rng):
    """Sites of rank one couple two chains; across them nothing is known, and must stay so."""
    ss = Matern(1, 1.0).state_space(TIMES)
    ss = ss._replace(A=np.tile(ss.A, (1, 2, 1, 1)), Q=np.tile(ss.Q, (1, 2, 1, 1)), H=np.tile(ss.H, (2, 1, 1)))
    ss = ss._replace(m=np.zeros((2, 2)), P=np.tile(ss.P, (2, 1, 1)))
    c, y, noise = np.array([1.0, -1.0]), rng.standard_normal(len(TIMES)), 2.0**-40  # j and J without rounding
    sites = Sites(y[:, None] * c / noise, np.tile(np.outer(c, c) / noise, (len(y), 1, 1)))
    found = kalman.smooth(ss, sites)
    # f_1 - f_2 and f_1 + f_2 are independent Matern processes of twice the variance; the first alone is read
    mean, var, _ = oracles.gp_mp(cache(oracles.matern_mp(1, 1.0, 2.0)), TIMES, y, noise)
    np.testing.assert_allclose(found.mean, mean[:, None] * c / 2, rtol=0, atol=2e-12)
    wanted = (var[:, None, None] * np.outer(c, c) + 2.0) / 4
    np.testing.assert_allclose(found.cov, wanted, rtol=0, atol=2e-12)


def test_float32_over_a_long_series(rng):
    times = np.cumsum(rng.uniform(0.01, 2.0, 20_000))
    y = np.sin(times / 30) + 0.1 * rng.standard_normal(len(times))
    double, single = (
        infer(Matern(1, 30.0), times, y, 0.01, f) for f in ("square_root", "square_root_float32")
    )
    np.testing.assert_allclose(single[0], double[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(single[1], double[1], rtol=1e-5)
    assert single[2] == pytest.approx(double[2], rel=1e-5)


# What must hold for any data, with no reference. Noise from 1e-10 of the variance to a hundred times it.
series = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(1, 4000), min_size=n, max_size=n),
        st.lists(st.floats(-3, 3), min_size=n, max_size=n),
        st.lists(st.floats(-10, 2), min_size=n, max_size=n),
    )
)
orders, lengthscales = st.integers(0, 6), st.sampled_from([0.01, 1.0, 100.0])


def unpack(data):
    gaps, y, noise = (np.array(part, float) for part in data)
    return np.cumsum(gaps) / 1024, y, 10.0**noise


def close(a, b, rtol):
    np.testing.assert_allclose(a[0], b[0], rtol=0, atol=rtol * max(1e-3, np.abs(b[0]).max()))
    np.testing.assert_allclose(a[1], b[1], rtol=rtol)
    np.testing.assert_allclose(a[2], b[2], rtol=rtol, atol=rtol * len(b[0]))


@settings(max_examples=40, deadline=None)
@given(series, orders, lengthscales)
def test_time_may_run_backwards(data, order, lengthscale):
    t, y, R = unpack(data)
    one = infer(Matern(order, lengthscale), t, y, R)
    two = infer(Matern(order, lengthscale), -t[::-1], y[::-1], R[::-1])
    close((two[0][::-1], two[1][::-1], two[2]), one, 1e-7)


@settings(max_examples=40, deadline=None)
@given(series, orders, lengthscales, st.integers(0, 11))
def test_a_reading_may_be_split_in_two(data, order, lengthscale, at):
    t, y, R = unpack(data)
    at %= len(t)
    one = infer(Matern(order, lengthscale), t, y, R)
    R = np.insert(R, at, R[at])
    R[at : at + 2] *= 2
    two = infer(Matern(order, lengthscale), np.insert(t, at, t[at]), np.insert(y, at, y[at]), R)
    assert two[0][at] == two[0][at + 1] and two[1][at] == two[1][at + 1]
    extra = np.log(R[at] / 2) / 2 - np.log(R[at]) - np.log(2 * np.pi) / 2 + 0 * y[at]
    close((np.delete(two[0], at), np.delete(two[1], at), two[2] - extra), one, 1e-7)


@settings(max_examples=40, deadline=None)
@given(series, orders, lengthscales, st.integers(0, 11))
def test_a_row_that_saw_nothing_changes_nothing(data, order, lengthscale, at):
    t, y, R = unpack(data)
    at %= len(t)
    one = infer(Matern(order, lengthscale), t, y, R)
    two = infer(
        Matern(order, lengthscale),
        np.insert(t, at, t[at] - 2**-11),
        np.insert(y, at, np.nan),
        np.insert(R, at, 1),
    )
    close((np.delete(two[0], at), np.delete(two[1], at), two[2]), one, 1e-7)
    assert two[1][at] <= 1 + 1e-12


@settings(max_examples=40, deadline=None)
@given(series, orders, lengthscales)
def test_evidence_is_a_chain_of_predictions(data, order, lengthscale):
    t, y, R = unpack(data)
    ss = Matern(order, lengthscale).state_space(t)
    steps = kalman.filter(ss, readings(y, R), form="square_root").log_norm
    n = len(t) // 2
    head = infer(Matern(order, lengthscale), t[: n + 1], y[: n + 1], R[: n + 1])[2]
    assert steps[: n + 1].sum() == pytest.approx(head, rel=1e-10, abs=1e-10)


@settings(max_examples=40, deadline=None)
@given(series, st.integers(0, 3), lengthscales)
def test_two_equal_kernels_are_one_of_twice_the_variance(data, order, lengthscale):
    t, y, R = unpack(data)
    kernel = Matern(order, lengthscale)
    close(infer(kernel + kernel, t, y, R), infer(2.0 * kernel, t, y, R), 1e-5)


@settings(max_examples=40, deadline=None)
@given(series, orders, lengthscales)
def test_more_data_never_widen(data, order, lengthscale):
    t, y, R = unpack(data)
    some = infer(Matern(order, lengthscale), t, np.where(np.arange(len(t)) % 2 == 0, y, np.nan), R)
    assert (infer(Matern(order, lengthscale), t, y, R)[1] <= some[1] * (1 + 1e-8)).all()
    assert (some[1] <= 1 + 1e-12).all()
