"""The core beyond one read-out a chain: any read-out, form and number of threads, and what it refuses."""

import numpy as np
import oracles
import pytest

from hidamari.statespace import _blocks, _chains, _forms, kalman
from hidamari.statespace.kernels import HidaMatern, Matern, bank, steps
from hidamari.statespace.types import Readings, Sites, StateSpace

TIMES = [np.array([0.0, 0.1, 0.2, 0.2, 0.9, 1.0, 1.3]), np.array([0.0]), np.array([0.0, 0.4, 0.5])]
T = 11


def chains(rng, C=3, n=T):
    """A bank of Matern-3/2 chains over several trials, with prior means."""
    times = TIMES if n == T else [np.arange(n) * 0.1]
    ss = bank([Matern(1, 0.3 + 0.2 * c) for c in range(C)], *steps(times))
    return ss._replace(m=rng.normal(size=ss.m.shape))


def draw_sites(rng, K, n=T, rank=None):
    """Dense sites, the second row and the last unseen."""
    root = rng.normal(size=(n, K, rank or K))
    root[[1, -1]] = 0.0
    J = root @ root.transpose(0, 2, 1)
    return Sites(np.einsum("tab,tb->ta", J, rng.normal(size=(n, K))), J)


def read(name, ss, rng):
    """The chains with other read-outs H (C, k, d)."""
    C, _, d = ss.H.shape
    if name == "all_states":
        return ss._replace(H=np.tile(np.eye(d), (C, 1, 1)))
    if name == "two_of_each":
        return ss._replace(H=rng.normal(size=(C, 2, d)))
    if name == "more_than_states":
        return ss._replace(H=rng.normal(size=(C, 3, d)))
    if name == "one_is_not_read":
        return ss._replace(H=ss.H * np.array([1.0, 0.0, 1.0])[:, None, None])
    if name == "the_second_state":
        return ss._replace(H=np.tile(np.eye(d)[1:2], (C, 1, 1)))
    assert name == "mixtures"
    return ss._replace(H=rng.normal(size=(C, 1, d)))


READ = ["all_states", "two_of_each", "more_than_states", "one_is_not_read", "the_second_state", "mixtures"]


def dense_lds(rng):
    """One chain of five states, three of which are mixed into two read-outs, with a full A."""
    d = 5
    A = np.linalg.qr(rng.normal(size=(d, d)))[0] * 0.9
    P, Q = np.eye(d) * 2.0, np.cov(rng.normal(size=(d, 3 * d)))
    H = rng.normal(size=(1, 2, d)) * np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    step = np.array([-1, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0])
    return StateSpace(A[None, None], Q[None, None], step, H, rng.normal(size=(1, d)), P[None])


def agree(found, exact, tolerance=1e-11):
    np.testing.assert_allclose(found.mean, exact.mean, atol=tolerance)
    cov = exact.cov if exact.cov.ndim == found.cov.ndim else exact.var
    np.testing.assert_allclose(found.cov, cov, atol=tolerance)


def whole(arrays):
    """One block-diagonal matrix of the (n, d, d) arrays, complex."""
    return oracles.blocks(arrays.real) + 1j * oracles.blocks(arrays.imag)


def evidence_of(ss, sites):
    """Log evidence by dense algebra, of complex matrices too: complex steps give exact derivatives."""
    D, H, total = ss.m.size, oracles.blocks(ss.H), 0.0
    for rows in oracles.trials(ss.step):
        n = rows.stop - rows.start
        mean, cov = np.zeros((n, D), complex), np.zeros((n, D, n, D), complex)
        for t in range(n):
            if t == 0:
                mean[0], cov[0, :, 0] = ss.m.ravel(), whole(ss.P)
                continue
            g = ss.step[rows.start + t]
            A = whole(ss.A[g])
            mean[t] = A @ mean[t - 1]
            for s in range(t):
                cov[t, :, s] = A @ cov[t - 1, :, s]
                cov[s, :, t] = cov[t, :, s].T
            cov[t, :, t] = A @ cov[t - 1, :, t - 1] @ A.T + whole(ss.Q[g])
        f = (mean @ H.T).ravel()
        S = np.einsum("ai,tisj,bj->tasb", H, cov, H).reshape(len(f), len(f))
        J, j = oracles.dense_precision(sites.J[rows]), sites.j[rows].ravel()
        M, r = np.eye(len(f)) + S @ J, j - J @ f
        total += j @ f - f @ J @ f / 2 + r @ np.linalg.solve(M, S @ r) / 2 - np.log(np.linalg.det(M)) / 2
    return total


@pytest.mark.parametrize("name", [*READ, "lds"])
def test_any_read_out_is_the_joint_gaussian(rng, name):
    ss = dense_lds(rng) if name == "lds" else read(name, chains(rng), rng)
    K = ss.H.shape[0] * ss.H.shape[1]
    for sites in (draw_sites(rng, K), draw_sites(rng, K, rank=1)):
        exact = oracles.posterior(ss, sites)
        found, value = kalman.infer(ss, sites, form="covariance")
        agree(found, exact)
        assert value == pytest.approx(exact.log_evidence.sum(), abs=1e-10)
        agree(kalman.smooth(ss, sites, method="rts"), exact, 1e-9)
        smoothed, value, _ = kalman.evidence_gradient(ss, sites)
        agree(smoothed, exact)
        assert value == pytest.approx(exact.log_evidence.sum(), abs=1e-10)
        now = kalman.filter(ss, sites, form="covariance")
        np.testing.assert_allclose(now.mean[6], oracles.posterior(ss, upto(sites, 7)).mean[6], atol=1e-11)
    diagonal = Sites(sites.j, np.ascontiguousarray(np.einsum("tkk->tk", sites.J)))
    agree(kalman.smooth(ss, diagonal, form="covariance"), oracles.posterior(ss, diagonal))


def upto(sites, t):
    """The sites of the first t rows alone."""
    seen = (np.arange(len(sites.j)) < t)[:, None]
    return Sites(sites.j * seen, sites.J * seen[:, :, None])


@pytest.mark.parametrize("name", ["one_each", *READ, "lds"])
def test_the_slope_is_exact_for_any_read_out(rng, name):
    ss = dense_lds(rng) if name == "lds" else chains(rng)
    ss = ss if name in ("lds", "one_each") else read(name, ss, rng)
    sites = draw_sites(rng, ss.H.shape[0] * ss.H.shape[1])
    _, _, slope = kalman.evidence_gradient(ss, sites)
    for part in ("A", "Q", "P", "m"):
        array = getattr(ss, part)
        along = rng.normal(size=array.shape)
        if part in "QP":
            along = along + along.swapaxes(-1, -2)
        moved = ss._replace(**{part: array + 1e-30j * along})
        exact = evidence_of(moved, sites).imag / 1e-30
        assert np.vdot(getattr(slope, part), along) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("name", ["one_each", "mixtures", "alone", "many_states"])
def test_the_slope_is_exact_for_separate_chains(rng, name):
    ss = chains(rng)
    if name == "mixtures":
        ss = read(name, ss, rng)
    if name == "alone":
        ss = chains(rng, C=1)
    if name == "many_states":
        ss = bank([Matern(4, 0.4) * HidaMatern(0, 0.5, 1.0)], *steps(TIMES))
    K = len(ss.H)
    sites = draw_sites(rng, K)
    sites = Sites(sites.j, np.ascontiguousarray(np.einsum("tkk->tk", sites.J)))
    smoothed, value, slope = kalman.evidence_gradient(ss, sites)
    exact = oracles.posterior(ss, sites)
    np.testing.assert_allclose(smoothed.mean, exact.mean, atol=1e-10)
    np.testing.assert_allclose(smoothed.cov, exact.cov, atol=1e-10)
    assert value == pytest.approx(exact.log_evidence.sum(), abs=1e-10)
    for part in ("A", "Q", "P", "m"):
        array = getattr(ss, part)
        along = rng.normal(size=array.shape)
        if part in "QP":
            along = along + along.swapaxes(-1, -2)
        moved = ss._replace(**{part: array + 1e-30j * along})
        number = evidence_of(moved, sites).imag / 1e-30
        assert np.vdot(getattr(slope, part), along) == pytest.approx(number, rel=1e-9)


@pytest.mark.parametrize("name", ["two_of_each", "mixtures"])
def test_draws_of_any_read_out(rng, name):
    ss = read(name, chains(rng, C=2), rng)
    K, n = 2 * ss.H.shape[1], 8000
    sites = draw_sites(rng, K)
    exact = oracles.posterior(ss, sites)
    draws = kalman.sample(ss, sites, n, rng).reshape(n, -1)
    total = exact.full.reshape(T * K, T * K)
    sd = np.sqrt(np.diag(total))
    assert (np.abs(draws.mean(0) - exact.mean.ravel()) < 4.5 * sd / np.sqrt(n)).all()
    bound = 4.5 * np.sqrt((np.outer(sd, sd) ** 2 + total**2) / n)
    assert (np.abs(np.cov(draws.T) - total) < bound).all()


def test_chains_of_more_states_than_are_unrolled(rng):
    kernel = Matern(4, 0.4) * HidaMatern(0, 0.5, 1.0)
    ss = bank([kernel], *steps(TIMES))
    assert ss.m.size > _chains._UNROLLED
    y, R = rng.normal(size=(T, 1)), rng.uniform(0.1, 1.0, (T, 1))
    found = kalman.smooth(ss, Readings(y, R), form="covariance")
    mean, var, _ = oracles.gp(kernel, TIMES[0], y[:7, 0], R[:7, 0])
    np.testing.assert_allclose(found.mean[:7, 0], mean, atol=1e-10)
    np.testing.assert_allclose(found.cov[:7, 0], var, atol=1e-10)


@pytest.mark.parametrize("n", [1, 2])
def test_one_row_and_two(rng, n):
    ss = chains(rng, n=n)
    sites = Sites(*(a[:n] for a in draw_sites(rng, 3)))
    exact = oracles.posterior(ss, sites)
    for method in kalman.METHODS:
        if method != "bidirectional":
            agree(kalman.smooth(ss, sites, method=method), exact)
    agree(
        kalman.smooth(ss._replace(m=ss.m * 0), sites, method="bidirectional"),
        oracles.posterior(ss._replace(m=ss.m * 0), sites),
    )


def test_a_site_may_push_without_precision(rng):
    ss = chains(rng)
    sites = draw_sites(rng, 3)
    sites.j[1] = [0.3, -1.0, 2.0]  # J is zero there: exp(j'f) moves the mean and leaves the covariance
    exact = oracles.posterior(ss, sites)
    found, value = kalman.infer(ss, sites)
    agree(found, exact)
    assert value == pytest.approx(exact.log_evidence.sum(), abs=1e-11)


def test_determinants_beyond_the_range_of_the_format():
    K = 30
    ss = bank([Matern(0, 1.0)] * K, *steps(np.arange(2) * 0.1))
    J = np.tile(np.diag(np.full(K, 1e12)), (2, 1, 1))
    joint = kalman.evidence(ss, Sites(np.zeros((2, K)), J), form="covariance")
    apart = kalman.evidence(ss, Sites(np.zeros((2, K)), np.full((2, K), 1e12)), form="covariance")
    assert joint == pytest.approx(apart, rel=1e-12)
    assert joint < -800.0  # the product of the pivots of row 0 is e^829


def test_the_order_of_chains_does_not_matter(rng):
    ss, sites = chains(rng), draw_sites(rng, 3)
    order = np.array([2, 0, 1])
    turned = StateSpace(ss.A[:, order], ss.Q[:, order], ss.step, ss.H[order], ss.m[order], ss.P[order])
    found, value = kalman.infer(ss, sites)
    other, again = kalman.infer(turned, Sites(sites.j[:, order], sites.J[:, order][:, :, order]))
    np.testing.assert_allclose(other.mean, found.mean[:, order], atol=1e-12)
    np.testing.assert_allclose(other.cov, found.cov[:, order][:, :, order], atol=1e-12)
    assert again == pytest.approx(value, abs=1e-11)


def test_one_reading_is_two_of_twice_the_variance(rng):
    times = np.array([0.0, 0.1, 0.4])
    y, R = rng.normal(size=(3, 1)), np.full((3, 1), 0.3)
    one = kalman.smooth(Matern(2, 0.5).state_space(times), Readings(y, R))
    twice = kalman.smooth(
        Matern(2, 0.5).state_space(np.repeat(times, 2)), Readings(np.repeat(y, 2, 0), np.repeat(2 * R, 2, 0))
    )
    np.testing.assert_allclose(twice.mean[::2], one.mean, atol=1e-13)
    np.testing.assert_allclose(twice.cov[1::2], one.cov, atol=1e-13)


def test_more_data_never_widen(rng):
    ss, sites = chains(rng), draw_sites(rng, 3)
    before = kalman.smooth(ss, upto(sites, 5)).cov
    after = kalman.smooth(ss, sites).cov
    prior = np.einsum("cai,cij,caj->c", ss.H, ss.P, ss.H)
    assert np.linalg.eigvalsh(before - after).min() > -1e-12
    assert (np.einsum("tkk->tk", after) <= prior * (1 + 1e-12)).all()
    assert np.linalg.eigvalsh(after).min() > 0


# ------------------------------------------------------------------------------------------- the form


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_the_form_follows_the_largest_precision(rng, ratio, monkeypatch):
    ss = bank([Matern(1, 0.3, 4.0), Matern(0, 0.5)], *steps(TIMES))
    used = []
    for name in ("_run_chains", "_run_joint", "_run_square_root"):
        run = getattr(_forms, name)
        monkeypatch.setattr(
            _forms, name, lambda *a, run=run, name=name, **k: (used.append(name), run(*a, **k))[1]
        )
    J = np.full((T, 2), 1e-3)
    J[4, 0] = ratio * _forms.SQUARE_ROOT_ABOVE / 4.0  # the prior variance of that chain
    j = rng.normal(size=(T, 2)) * J
    plain = ratio < 1
    for sites in (Sites(j, J), Sites(j, J[:, :, None] * np.eye(2)), Readings(j / J, 1 / J)):
        kalman.smooth(ss, sites)
    assert used == (["_run_chains", "_run_joint", "_run_chains"] if plain else ["_run_square_root"] * 3)


def test_exact_readings_need_the_square_root_form(rng):
    ss = Matern(1, 0.3).state_space(np.arange(3) * 0.1)
    exact = Readings(np.ones((3, 1)), np.array([[0.0], [1.0], [np.inf]]))
    for form in ("auto", "covariance", "square_root"):
        found = kalman.smooth(ss, exact, form=form)
        assert found.mean[0, 0] == 1.0
        assert found.cov[0, 0] == pytest.approx(0.0, abs=1e-15)
    for refused in (
        lambda: kalman.evidence_gradient(ss, exact),
        lambda: kalman.sample(ss, exact, 1, rng),
        lambda: kalman.smooth(ss, exact, method="rts"),
    ):
        with pytest.raises(ValueError, match="exact readings"):
            refused()


@pytest.mark.parametrize("method", ["bidirectional", "rts"])
def test_the_other_methods_are_of_one_form(method):
    ss = Matern(1, 0.3).state_space(np.arange(4) * 0.1)
    readings = Readings(np.ones((4, 1)), np.full((4, 1), 1e-6))  # plain covariances keep 10 digits of these
    agree(kalman.smooth(ss, readings, method=method), kalman.smooth(ss, readings), 1e-8)
    with pytest.raises(ValueError, match="form must be 'auto' or 'covariance' with method="):
        kalman.smooth(ss, readings, method=method, form="square_root")


# ---------------------------------------------------------------------------------------- the threads


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("dense", [True, False])
def test_slopes_and_draws_are_the_same_bits_for_any_number_of_threads(rng, regular, dense):
    lengths = (900, 300, 1700, 40, 1, 800, 600, 1200, 500)
    gaps = [np.full(n, 0.05) if regular else rng.uniform(0.01, 0.1, n) for n in lengths]
    ss = bank([Matern(1, 0.3), Matern(1, 0.5), Matern(0, 0.4)], *steps([np.cumsum(g) for g in gaps]))
    sites = draw_sites(rng, 3, n=sum(lengths))
    sites = sites if dense else Sites(sites.j, np.ascontiguousarray(np.einsum("tkk->tk", sites.J)))
    one = kalman.evidence_gradient(ss, sites, n_threads=1)
    draws = kalman.sample(ss, sites, 3, np.random.default_rng(1), n_threads=1)
    for n in (2, 3, None):
        more = kalman.evidence_gradient(ss, sites, n_threads=n)
        assert one[1] == more[1]
        for a, b in zip(one[2], more[2]):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(
            draws, kalman.sample(ss, sites, 3, np.random.default_rng(1), n_threads=n)
        )
    np.testing.assert_array_equal(
        draws[:2], kalman.sample(ss, sites, 2, np.random.default_rng(1), n_threads=2)
    )


# --------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("part", ["A", "Q", "H", "m", "P"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_chains_of_numbers_that_are_none(rng, part, bad):
    ss, sites = chains(rng), draw_sites(rng, 3)
    array = getattr(ss, part).copy()
    array.flat[-1] = bad
    at = tuple(n - 1 for n in array.shape)
    with pytest.raises(ValueError) as refusal:
        kalman.infer(ss._replace(**{part: array}), sites)
    assert str(refusal.value) == f"ss.{part} must be finite, found {bad} at index {at}"


def test_sites_and_readings_of_numbers_that_are_none(rng):
    ss, sites = chains(rng), draw_sites(rng, 3)
    sites.j[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"sites.j must be finite, found nan at index \(4, 1\)"):
        kalman.infer(ss, sites)
    sites.j[4, 1], sites.J[7, 2, 0] = 0.0, np.inf
    with pytest.raises(ValueError, match=r"sites.J must be finite, found inf at index \(7, 2, 0\)"):
        kalman.filter(ss, sites)
    y, R = np.zeros((T, 3)), np.ones((T, 3))
    y[2, 0] = -np.inf
    with pytest.raises(ValueError, match=r"sites.y must be finite, or NaN .* found -inf at index \(2, 0\)"):
        kalman.evidence(ss, Readings(y, R))
    y[2, 0], R[3, 1] = np.nan, np.nan
    with pytest.raises(ValueError, match=r"sites.R must be a variance .* found nan at index \(3, 1\)"):
        kalman.evidence(ss, Readings(y, R))


def test_sums_that_overflow_are_finite_numbers(rng):
    ss = chains(rng)
    huge = Sites(np.full((T, 3), 1e308), np.zeros((T, 3)))
    with np.errstate(over="ignore", invalid="ignore"):
        kalman.filter(ss, huge, form="covariance")  # not refused


def test_steps_and_numbers_of_draws(rng):
    ss, sites = chains(rng), draw_sites(rng, 3)
    with pytest.raises(ValueError, match=r"ss.step must be whole numbers of shape \(T,\), found float64"):
        kalman.infer(ss._replace(step=ss.step * 1.0), sites)
    with pytest.raises(ValueError, match="n must be at least 0, found -1"):
        kalman.sample(ss, sites, -1, rng)
    assert kalman.sample(ss, sites, 0, rng).shape == (0, T, 3)
    first = ss.step.copy()
    first[0] = 1  # row 0 starts a trial whatever it says
    again = kalman.infer(ss._replace(step=first), sites)
    assert again[1] == kalman.infer(ss, sites)[1]


def test_options_unknown_to_numba_are_left_out():
    assert _blocks._known(nothing_of_the_kind=True) == {}
