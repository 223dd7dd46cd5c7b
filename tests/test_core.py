"""The public face of the core against dense algebra: kernels, methods, missing rows, many trials."""

import numpy as np
import oracles
import pytest

from hidamari.statespace import _forms, kalman
from hidamari.statespace.kernels import Constant, Cosine, HidaMatern, Matern, bank, steps
from hidamari.statespace.types import Readings, Sites

KERNELS = {
    **{f"matern{p}": Matern(p, 0.3) for p in range(6)},
    **{f"hida{p}": HidaMatern(p, 0.4, 1.3) for p in range(4)},
    "cosine": Cosine(0.7, 0.5),
    "constant": Constant(2.0),
    "sum": Matern(1, 0.2) + HidaMatern(0, 0.5, 2.0, 0.3),
    "product": Matern(1, 0.5) * Cosine(1.1) + Constant(0.2),
    "two_materns": Matern(0, 0.5) * Matern(2, 0.7),
}
BANKS = {
    "alike": [Matern(1, 0.3), Matern(1, 0.3)],
    "padded": [Matern(0, 0.3), HidaMatern(2, 0.6, 1.0), Matern(3, 1.0)],
    "mixed": [Matern(2, 0.2) + Constant(0.5), Matern(1, 0.4) * Cosine(1.0)],
}


def grid(rng, regular, lengths=(9, 14, 1)):
    """Times of several trials; irregular ones have a repeated time and a gap."""
    out = []
    for length in lengths:
        times = np.arange(length) * 0.1
        if not regular:
            times = np.sort(rng.uniform(0, 0.1 * length, length))
            if length > 5:
                times[3] = times[2]
                times[length // 2 :] += 3.0
        out.append(times)
    return out


def draw_sites(rng, T, K, diagonal=False):
    """Sites of rank 0 to K, with a stretch where nothing was seen."""
    root = rng.normal(size=(T, K, K))
    root[::4, :, 0] = 0.0
    root[5:8] = 0.0
    J = root @ root.transpose(0, 2, 1)
    j = np.einsum("tab,tb->ta", J, rng.normal(size=(T, K)))
    if diagonal:
        d = np.ascontiguousarray(np.einsum("tkk->tk", J))
        return Sites(np.where(d > 0, j, 0.0), d)
    return Sites(j, J)


def agree(found, exact, tolerance=1e-9):
    cov = exact.cov if found.cov.ndim == 3 else np.einsum("tkk->tk", exact.cov)
    np.testing.assert_allclose(found.mean, exact.mean, atol=tolerance)
    np.testing.assert_allclose(found.cov, cov, atol=tolerance)


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("name", KERNELS)
def test_one_chain_is_the_dense_gp(rng, name, regular):
    times = grid(rng, regular)
    ss = bank([KERNELS[name]], *steps(times))
    sites = draw_sites(rng, 24, 1, diagonal=True)
    exact = oracles.posterior(ss, sites)
    found, value = kalman.infer(ss, sites)
    agree(found, exact)
    assert value == pytest.approx(exact.log_evidence.sum(), abs=1e-9)
    joint, value = kalman.infer(ss, Sites(sites.j, sites.J[:, :, None]))
    agree(joint, exact)
    assert value == pytest.approx(exact.log_evidence.sum(), abs=1e-9)
    y = np.where(np.arange(24)[:, None] % 5 == 2, np.nan, rng.normal(size=(24, 1)))
    R = rng.uniform(0.1, 1.0, size=(24, 1))
    start = 0
    smoothed = kalman.smooth(ss, Readings(y, R))
    norms = kalman.filter(ss, Readings(y, R)).log_norm
    for own in times:
        rows = slice(start, start + len(own))
        mean, var, lml = oracles.gp(KERNELS[name], own, y[rows, 0], R[rows, 0])
        np.testing.assert_allclose(smoothed.mean[rows, 0], mean, atol=1e-9)
        np.testing.assert_allclose(smoothed.cov[rows, 0], var, atol=1e-9)
        assert norms[rows].sum() == pytest.approx(lml, abs=1e-9)
        start += len(own)


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("name", BANKS)
def test_coupled_banks_are_the_joint_gaussian(rng, name, regular):
    ss = bank(BANKS[name], *steps(grid(rng, regular)))
    ss = ss._replace(m=rng.normal(size=ss.m.shape) * (np.einsum("cii->ci", ss.P) > 0))
    sites = draw_sites(rng, 24, len(BANKS[name]))
    exact = oracles.posterior(ss, sites)
    for form in ("covariance", "square_root"):
        found, value = kalman.infer(ss, sites, form=form)
        agree(found, exact)
        assert value == pytest.approx(exact.log_evidence.sum(), abs=1e-9)
    filtered = kalman.filter(ss, sites)
    for t in (4, 8, 12, 23):  # what comes later in the trial is not seen
        seen = Sites(sites.j.copy(), sites.J.copy())
        seen.j[t + 1 :], seen.J[t + 1 :] = 0.0, 0.0
        now = oracles.posterior(ss, seen)
        np.testing.assert_allclose(filtered.mean[t], now.mean[t], atol=1e-9)
        np.testing.assert_allclose(filtered.cov[t], now.cov[t], atol=1e-9)
    assert filtered.log_norm.sum() == pytest.approx(exact.log_evidence.sum(), abs=1e-9)
    assert kalman.evidence(ss, sites) == pytest.approx(exact.log_evidence.sum(), abs=1e-9)
    single, _ = kalman.infer(ss, sites, form="square_root_float32")
    agree(single, exact, 2e-4)


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("name", BANKS)
def test_three_smoothers_agree(rng, name, diagonal):
    ss = bank(BANKS[name], *steps(grid(rng, False)))
    sites = draw_sites(rng, 24, len(BANKS[name]), diagonal)
    exact = oracles.posterior(ss, sites)
    for method in kalman.METHODS:
        agree(kalman.smooth(ss, sites, method=method), exact)


def test_chains_separate_when_no_site_couples_them(rng):
    kernels = BANKS["padded"]
    gaps, step = steps(grid(rng, False))
    sites = draw_sites(rng, 24, 3, diagonal=True)
    together, value = kalman.infer(bank(kernels, gaps, step), sites)
    total = 0.0
    for c, kernel in enumerate(kernels):
        alone, own = kalman.infer(bank([kernel], gaps, step), Sites(sites.j[:, [c]], sites.J[:, [c]]))
        np.testing.assert_allclose(together.mean[:, c], alone.mean[:, 0], atol=1e-12)
        np.testing.assert_allclose(together.cov[:, c], alone.cov[:, 0], atol=1e-12)
        total += own
    assert value == pytest.approx(total, abs=1e-10)


@pytest.mark.parametrize("name", BANKS)
def test_the_slope_of_the_evidence(rng, name):
    ss = bank(BANKS[name], *steps(grid(rng, True)))
    ss = ss._replace(m=rng.normal(size=ss.m.shape) * (np.einsum("cii->ci", ss.P) > 0))
    sites = draw_sites(rng, 24, len(BANKS[name]))
    smoothed, value, slope = kalman.evidence_gradient(ss, sites)
    exact = oracles.posterior(ss, sites)
    agree(smoothed, exact)
    assert value == pytest.approx(exact.log_evidence.sum(), abs=1e-9)
    for part in ("A", "Q", "P", "m"):
        along = rng.normal(size=getattr(ss, part).shape)
        if part in "QP":
            along = along + along.swapaxes(-1, -2)
        along *= np.abs(getattr(ss, part)) > 0 if part == "A" else 1.0
        h = 2e-6
        values = [
            oracles.posterior(ss._replace(**{part: getattr(ss, part) + s * along}), sites).log_evidence.sum()
            for s in (h, -h)
        ]
        numeric = (values[0] - values[1]) / (2 * h)
        assert np.vdot(getattr(slope, part), along) == pytest.approx(numeric, rel=1e-6, abs=1e-7)


def test_draws_have_the_posterior_mean_and_covariance(rng):
    ss = bank(BANKS["padded"], *steps(grid(rng, False, (6, 4))))
    sites = draw_sites(rng, 10, 3)
    exact = oracles.posterior(ss, sites)
    n = 20_000
    draws = kalman.sample(ss, sites, n, rng).reshape(n, -1)
    total = exact.full.reshape(30, 30)
    sd = np.sqrt(np.einsum("tkk->tk", exact.cov)).ravel()
    assert (np.abs(draws.mean(0) - exact.mean.ravel()) < 4.5 * sd / np.sqrt(n) + 1e-12).all()
    spread = np.cov(draws.T)
    assert (np.abs(np.sqrt(np.diag(spread)) - sd) < 4.5 * sd / np.sqrt(2 * n) + 1e-12).all()
    bound = 4.5 * np.sqrt((np.outer(sd, sd) ** 2 + total**2) / n) + 1e-12
    assert (np.abs(spread - total) < bound).all()


def test_threads_change_no_bit(rng):
    lengths = (700, 300, 900, 50, 400)
    ss = bank(BANKS["alike"], *steps([np.arange(n) * 0.1 for n in lengths]))
    T = sum(lengths)
    for sites in (draw_sites(rng, T, 2), draw_sites(rng, T, 2, diagonal=True)):
        (one, value), (more, again) = (kalman.infer(ss, sites, n_threads=n) for n in (1, 3))
        assert (one.mean == more.mean).all()
        assert (one.cov == more.cov).all()
        assert value == again
    noise = [kalman.sample(ss, sites, 2, np.random.default_rng(0), n_threads=n) for n in (1, 2)]
    np.testing.assert_array_equal(*noise)


def test_long_trials_are_smoothed_in_blocks(rng, monkeypatch):
    ss = bank(BANKS["mixed"], *steps(np.arange(2500) * 0.05))
    dense, diagonal = draw_sites(rng, 2500, 2), draw_sites(rng, 2500, 2, diagonal=True)
    whole = [kalman.evidence_gradient(ss, dense), kalman.infer(ss, dense), kalman.infer(ss, diagonal)]
    monkeypatch.setattr(_forms, "_BLOCK_BYTES", 1)  # check-points every 1,024 rows
    cut = [kalman.evidence_gradient(ss, dense), kalman.infer(ss, dense), kalman.infer(ss, diagonal)]
    for a, b in zip(whole, cut):
        np.testing.assert_allclose(a[0].mean, b[0].mean, atol=1e-12)
        np.testing.assert_allclose(a[0].cov, b[0].cov, atol=1e-12)
        assert a[1] == pytest.approx(b[1], rel=1e-13)
    np.testing.assert_allclose(whole[0][2].A, cut[0][2].A, rtol=1e-9, atol=1e-9)


def test_time_reversed_and_unseen_rows(rng):
    times = np.cumsum(rng.uniform(0.01, 0.3, 20))
    sites = draw_sites(rng, 20, 2)
    kernels = BANKS["mixed"]
    forward, value = kalman.infer(bank(kernels, *steps(times)), sites)
    backward, again = kalman.infer(bank(kernels, *steps(-times[::-1])), Sites(sites.j[::-1], sites.J[::-1]))
    np.testing.assert_allclose(forward.mean, backward.mean[::-1], atol=1e-10)
    np.testing.assert_allclose(forward.cov, backward.cov[::-1], atol=1e-10)
    assert value == pytest.approx(again, abs=1e-10)
    more = np.sort(np.append(times, [times[4] + 0.004, times[-1] + 2.0]))
    at = np.searchsorted(more, times)
    j, J = np.zeros((22, 2)), np.zeros((22, 2, 2))
    j[at], J[at] = sites
    longer, again = kalman.infer(bank(kernels, *steps(more)), Sites(j, J))
    np.testing.assert_allclose(longer.mean[at], forward.mean, atol=1e-10)
    assert value == pytest.approx(again, abs=1e-10)


def test_nothing_seen_leaves_the_prior():
    ss = bank([Matern(1, 0.3), Matern(2, 0.5, 3.0)], *steps(np.arange(4) * 0.1))
    found, value = kalman.infer(ss, Sites(np.zeros((4, 2)), np.zeros((4, 2, 2))))
    np.testing.assert_allclose(found.cov, np.broadcast_to(np.diag([1.0, 3.0]), (4, 2, 2)), atol=1e-14)
    assert value == 0.0
    assert not found.mean.any()


def test_exact_readings_interpolate_and_conflicts_are_refused():
    ss = Matern(2, 0.5).state_space(np.array([0.0, 0.3, 0.3, 1.0]))
    y, R = np.array([[1.0], [-0.5], [-0.5], [np.nan]]), np.zeros((4, 1))
    found = kalman.smooth(ss, Readings(y, R))
    np.testing.assert_allclose(found.mean[:3, 0], y[:3, 0], atol=1e-14)
    np.testing.assert_allclose(found.cov[:3, 0], 0.0, atol=1e-14)
    y[2] = 0.7
    with pytest.raises(ValueError, match="conflicting exact readings"):
        kalman.smooth(ss, Readings(y, R))
    with pytest.raises(ValueError, match="exact readings"):
        kalman.smooth(ss, Readings(y, R), method="rts")


def test_what_is_refused():
    ss = Matern(1, 0.3).state_space(np.arange(5) * 0.1)
    good = Sites(np.zeros((5, 1)), np.zeros((5, 1)))
    with pytest.raises(ValueError, match=r"sites.j must have shape \(5, 1\)"):
        kalman.filter(ss, Sites(np.zeros((4, 1)), np.zeros((4, 1))))
    with pytest.raises(ValueError, match=r"sites.J must have shape"):
        kalman.filter(ss, Sites(np.zeros((5, 1)), np.zeros((5, 2))))
    with pytest.raises(ValueError, match="method must be one of"):
        kalman.smooth(ss, good, method="magic")
    with pytest.raises(ValueError, match="form must be one of"):
        kalman.infer(ss, good, form="magic")
    with pytest.raises(ValueError, match="sites.R"):
        kalman.infer(ss, Readings(np.zeros((5, 1)), np.full((5, 1), -1.0)))
    with pytest.raises(ValueError, match="ss.Q must have shape"):
        kalman.infer(ss._replace(Q=ss.Q[:, :, :1]), good)
    with pytest.raises(ValueError, match="distinct steps"):
        kalman.infer(ss._replace(step=ss.step + 5), good)
    with pytest.raises(ValueError, match="empty"):
        kalman.infer(ss._replace(step=ss.step[:0]), Sites(np.zeros((0, 1)), np.zeros((0, 1))))
    with pytest.raises(ValueError, match="n_threads"):
        kalman.infer(ss, good, n_threads=0)
    tilted = ss._replace(P=ss.P * 2.0)
    with pytest.raises(ValueError, match="stationary"):
        kalman.smooth(tilted._replace(m=ss.m + 1.0), good, method="bidirectional")
