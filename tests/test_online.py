"""The online detectors against brute force: all windows, all segmentations, dense Gaussian processes."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import gammaln, xlogy
from scipy.stats import multivariate_normal, nbinom, poisson

from hidamari.inference.innovations import Innovations
from hidamari.inference.online import Cusum, Focus, RunLength, published_peaks
from hidamari.inference.online_threshold import calibrate
from hidamari.statespace import kalman
from hidamari.statespace.kernels import HidaMatern, Matern
from hidamari.statespace.types import Readings


def with_holes(z, rng, share=0.2):
    z = z.astype(float)
    z[rng.random(z.shape) < share] = np.nan
    return z


# ------------------------------------------------------------------------------------------ all window sizes


def log_likelihood(x, counts, level=None):
    """Of one segment at a known level or its best one."""
    if len(x) == 0:
        return 0.0
    at = x.mean() if level is None else level
    if not counts:
        return -0.5 * np.sum((x - at) ** 2)
    return np.sum(xlogy(x, at) - at - gammaln(x + 1))


def all_windows(x, counts, level):
    """Largest log likelihood ratio over every start of the new segment, and that start among rows of x."""
    found = [
        log_likelihood(x[:s], counts, level)
        + log_likelihood(x[s:], counts)
        - log_likelihood(x, counts, level)
        for s in range(level is None, len(x))
    ]
    if not found:
        return 0.0, -1
    return max(found), int(np.argmax(found)) + (level is None)


CASES = {
    "white": lambda rng: rng.normal(size=(70, 3)),
    "shifts": lambda rng: rng.normal(size=(70, 3)) + np.repeat([0.0, 2.0, -1.0], [30, 20, 20])[:, None],
    "drift": lambda rng: rng.normal(size=(70, 3)) * 0.01 + (np.arange(70)[:, None] / 20.0) ** 2,
    "ties": lambda rng: rng.integers(0, 2, (70, 3)),
    "counts": lambda rng: rng.poisson(np.repeat([1.0, 0.2, 4.0], [30, 20, 20])[:, None], (70, 3)),
}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_focus_is_the_largest_ratio_over_all_windows(case, together, known, rng):
    for counts in (False, True) if case in ("ties", "counts") else (False,):
        z = with_holes(CASES[case](rng), rng)
        levels = np.array([0.7, 1.0, 1.3])
        detector = Focus(known, counts, together)
        state = detector.start(3, levels, 0)
        score, _ = detector.run(state, z, np.inf, True)
        for t in range(len(z)):
            seen = [z[: t + 1, j][~np.isnan(z[: t + 1, j])] for j in range(3)]
            best = [all_windows(x, counts, levels[j] if known else None)[0] for j, x in enumerate(seen)]
            expected = sum(max(b, 0.0) for b in best) if together else max(0.0, *best)
            assert score[t] == pytest.approx(expected, abs=1e-9)
        assert state["dropped"] == 0


def test_focus_finds_the_start_that_brute_force_finds(rng):
    z = rng.normal(size=(200, 1)) + 1.5 * (np.arange(200) >= 150)[:, None]
    detector = Focus()
    score, change = detector.run(detector.start(1, np.zeros(1), 0), z, 12.0, False)
    for t in np.flatnonzero(change >= 0):
        assert change[t] == all_windows(z[: t + 1, 0], False, None)[1]
    assert score[149] < 12.0 < score[-1] and abs(change[-1] - 150) < 10


def test_focus_does_not_see_an_offset(rng):
    z = rng.normal(size=(1000, 1)) + 2.0 * (np.arange(1000) >= 500)[:, None]
    detector = Focus()
    plain = detector.run(detector.start(1, np.zeros(1), 0), z, 15.0, True)
    for offset, tol in ((1e8, 1e-5), (1e10, 1e-3)):
        moved = detector.run(detector.start(1, np.zeros(1), 0), z + offset, 15.0, True)
        np.testing.assert_allclose(moved[0], plain[0], rtol=tol, atol=tol)
        np.testing.assert_array_equal(moved[1], plain[1])
    assert (plain[1] >= 0).sum() == 1


def test_focus_keeps_its_memory_and_says_what_it_dropped():
    # The cumulated series of an accelerating one is convex: every row is a vertex.
    z = (np.arange(400.0) / 50.0)[:, None] ** 2
    exact, small = Focus(capacity=512), Focus(capacity=64)
    one, two = exact.start(1, np.zeros(1), 0), small.start(1, np.zeros(1), 0)
    full, cut = exact.run(one, z, np.inf, False)[0], small.run(two, z, np.inf, False)[0]
    assert one["dropped"] == 0 and two["dropped"] > 0 and two["size"].max() == 64
    assert (cut <= full + 1e-9).all()
    np.testing.assert_allclose(cut, full, rtol=2e-3, atol=1e-12)


def test_the_hull_of_a_long_stream_stays_short(rng):
    detector = Focus()
    state = detector.start(1, np.zeros(1), 0)
    detector.run(state, rng.normal(size=(200_000, 1)), np.inf, False)
    assert state["dropped"] == 0 and state["size"].max() < 40


# ----------------------------------------------------------------------------------------------------- cusum


@pytest.mark.parametrize("counts", [False, True])
def test_cusum_is_the_recursion_of_page(counts, rng):
    z = with_holes(rng.poisson(2.0, (200, 2)) if counts else rng.normal(size=(200, 2)), rng)
    level, shift = np.array([2.0, 1.5]) * counts, 1.5
    detector = Cusum(shift, counts)
    score, _ = detector.run(detector.start(2, level, 0), z, np.inf, False)
    sides = np.zeros((2, 2))
    for t in range(len(z)):
        for j, side in itertools.product(range(2), range(2)):
            if np.isnan(z[t, j]):
                continue
            if counts:
                after = level[j] * shift ** (1 - 2 * side)
                gain = poisson.logpmf(z[t, j], after) - poisson.logpmf(z[t, j], level[j])
            else:
                after = shift * (1 - 2 * side)
                gain = -0.5 * (z[t, j] - after) ** 2 + 0.5 * z[t, j] ** 2
            sides[j, side] = max(0.0, sides[j, side] + gain)
        assert score[t] == pytest.approx(sides.max(), abs=1e-9)


def test_cusum_learns_the_level_anew_after_an_alarm(rng):
    z = rng.normal(size=(1000, 1)) + 3.0 * (np.arange(1000) >= 300)[:, None]
    detector = Cusum(2.0, relearn=100)
    score, change = detector.run(detector.start(1, np.zeros(1), 0), z, 12.0, True)
    alarm = np.flatnonzero(change >= 0)
    assert len(alarm) == 1 and abs(change[alarm[0]] - 300) <= 2
    assert (score[alarm[0] + 1 : alarm[0] + 101] == 0.0).all() and score[alarm[0] + 101 :].max() > 0.0


def test_a_calibrated_threshold_agrees_with_siegmund():
    # Average run length of a one-sided CUSUM with reference k: (e^(2kb) - 2kb - 1) / 2k^2, b = h + 1.166.
    shift, patience = 1.0, 2000.0
    found = calibrate(Cusum(shift), 1, patience, (0.0,), 0, 1)
    k, b = shift / 2, found.value / shift + 1.166
    siegmund = (math.exp(2 * k * b) - 2 * k * b - 1) / (2 * k * k) / 2
    assert abs(math.log(siegmund / patience)) < 3.5 * found.error + 0.03
    assert found.error < 0.11


def test_calibration_repeats_and_grows_with_units():
    one = calibrate(Cusum(2.0), 1, 1000.0, (0.0,), 50, 3)
    calibrate.cache_clear()
    assert calibrate(Cusum(2.0), 1, 1000.0, (0.0,), 50, 3) == one
    assert calibrate(Cusum(2.0), 10, 1000.0, (0.0,) * 10, 50, 3).value > one.value
    assert calibrate(Cusum(2.0), 1, 10_000.0, (0.0,), 50, 3).value > one.value


# ------------------------------------------------------------------------------------------------ run lengths

GAUSSIAN = (0.3, 0.5, 1.2, 0.8)
COUNTS = (1.5, 0.7)


def marginal(x, counts):
    """Log marginal likelihood of one unit's observed rows of a segment, up to log x! of counts."""
    x = x[~np.isnan(x)]
    n = len(x)
    if counts:
        shape, rate = COUNTS[0], COUNTS[0] / COUNTS[1]
        done = gammaln(shape + x.sum()) - gammaln(shape) + shape * math.log(rate)
        return done - (shape + x.sum()) * math.log(rate + n)
    m, k, a, b = GAUSSIAN
    after = b + 0.5 * np.sum((x - x.mean()) ** 2) + 0.5 * k * n * (x.mean() - m) ** 2 / (k + n) if n else b
    done = gammaln(a + n / 2) - gammaln(a) + a * math.log(b) - (a + n / 2) * math.log(after)
    return done + 0.5 * math.log(k / (k + n)) - 0.5 * n * math.log(2 * math.pi)


def all_segmentations(z, hazard, counts):
    """Posterior of the start of the last segment, over every set of changes."""
    T = len(z)
    weight = np.zeros(T)
    for inner in itertools.product([False, True], repeat=T - 1):
        starts = [0, *(np.flatnonzero(inner) + 1), T]
        log = sum(math.log(hazard if change else 1 - hazard) for change in inner)
        for a, b in itertools.pairwise(starts):
            log += sum(marginal(z[a:b, j], counts) for j in range(z.shape[1]))
        weight[starts[-2]] += math.exp(log)
    return weight / weight.sum()


@pytest.mark.parametrize("counts", [False, True])
def test_run_lengths_equal_all_segmentations(counts, rng):
    z = rng.poisson(3.0, (9, 2)) if counts else rng.normal(size=(9, 2)) + 3.0 * (np.arange(9) >= 5)[:, None]
    z = with_holes(z, rng)
    z[0, 0] = 40.0 if counts else z[0, 0]  # a count whose ratio of Gammas is no product
    detector = RunLength(0.13, COUNTS if counts else GAUSSIAN, counts, slots=20)
    state = detector.start(2, np.ones(2), 0)
    for t in range(len(z)):
        score, _ = detector.run(state, z[t : t + 1], np.inf, False)
        lengths, mass = detector.posterior(state)
        exact = all_segmentations(z[: t + 1], 0.13, counts)
        np.testing.assert_allclose(mass, exact[t + 1 - lengths], rtol=1e-10, atol=1e-13)
        if t:
            assert score[0] == pytest.approx(np.log((1 - exact[0]) / exact[0]), abs=1e-9)
    assert state["lost"] == 0.0


def forward(z, hazard):
    """Adams and MacKay's recursion with nothing dropped, on segments' marginal likelihoods; T x T."""
    T = len(z)
    weight = np.full((T, T), -np.inf)
    weight[0, 0] = 0.0
    for t in range(T):
        if t:
            weight[t, :t] = weight[t - 1, :t] + math.log1p(-hazard)
            weight[t, t] = math.log(hazard)
        for s in range(t + 1):
            weight[t, s] += marginal(z[s : t + 1, 0], False) - marginal(z[s:t, 0], False)
        weight[t] -= np.logaddexp.reduce(weight[t])
    return np.exp(weight)


def test_pruned_run_lengths_stay_within_their_bound(rng):
    z = rng.normal(size=(150, 1)) + np.repeat([0.0, 2.5, -1.0], 50)[:, None]
    exact = forward(z, 0.02)
    for slots in (200, 60, 12):
        detector = RunLength(0.02, GAUSSIAN, slots=slots)
        state = detector.start(1, np.zeros(1), 0)
        far = []
        for t in range(len(z)):
            detector.run(state, z[t : t + 1], np.inf, False)
            lengths, mass = detector.posterior(state)
            full = np.zeros(t + 1)
            full[t + 1 - lengths] = mass
            far.append(0.5 * np.abs(full - exact[t, : t + 1]).sum())
        if slots == 200:
            assert max(far) < 1e-10 and state["lost"] == 0.0
        else:
            assert 0.0 < state["lost"][0] < (0.01 if slots == 60 else 1.0)
            assert np.mean(far) <= state["lost"][0] and far[-1] <= state["lost"][0]


def test_run_lengths_begin_anew_after_an_alarm(rng):
    z = rng.normal(size=(300, 1)) + 4.0 * (np.arange(300) >= 200)[:, None]
    detector = RunLength(0.01)
    state = detector.start(1, np.zeros(1), 0)
    score, change = detector.run(state, z, 4.0, True)
    alarm = np.flatnonzero(change >= 0)
    assert len(alarm) == 1 and change[alarm[0]] == 200 and alarm[0] < 205
    fresh = detector.start(1, np.zeros(1), 0)
    np.testing.assert_array_equal(score[alarm[0] + 1 :], detector.run(fresh, z[alarm[0] + 1 :], 4.0, True)[0])
    for one, two in zip(detector.posterior(state), detector.posterior(fresh)):
        np.testing.assert_array_equal(one, two)


def test_one_row_has_the_predictive_probability_of_its_prior():
    # The oracle's own parts: scipy's negative binomial is the gamma-Poisson marginal.
    shape, rate = COUNTS[0], COUNTS[0] / COUNTS[1]
    for x in (0.0, 3.0, 40.0):
        log = nbinom.logpmf(x, shape, rate / (rate + 1)) + gammaln(x + 1)
        assert marginal(np.array([x]), True) == pytest.approx(log, rel=1e-10)


# ------------------------------------------------------------------------------------------------ innovations


@pytest.mark.parametrize("kernel", [Matern(0, 0.5), Matern(2, 0.3, 2.0) + HidaMatern(1, 0.4, 3.0)])
def test_innovations_are_those_of_the_filter_and_of_the_dense_process(kernel, rng):
    T, bin_s, noise = 40, 0.05, 0.3
    y = with_holes(rng.normal(size=(T, 2)), rng)
    predictor = Innovations(kernel, noise, bin_s)
    state = predictor.start(2)
    z = np.concatenate([predictor.run(state, y[:7]), predictor.run(state, y[7:])])
    np.testing.assert_array_equal(np.isnan(z), np.isnan(y))
    ss = kernel.state_space(np.arange(T) * bin_s)
    dense = kernel(np.subtract.outer(np.arange(T), np.arange(T)) * bin_s) + noise * np.eye(T)
    for j in range(2):
        seen = ~np.isnan(y[:, j])
        root = np.linalg.cholesky(dense[np.ix_(seen, seen)])
        np.testing.assert_allclose(z[seen, j], np.linalg.solve(root, y[seen, j]), rtol=1e-8, atol=1e-9)
        log = -0.5 * np.sum(z[seen, j] ** 2 + np.log(2 * np.pi)) - np.log(np.diag(root)).sum()
        whole = kalman.filter(ss, Readings(y[:, [j]], np.full((T, 1), noise))).log_norm.sum()
        assert log == pytest.approx(whole, rel=1e-9)
        assert log == pytest.approx(multivariate_normal(cov=dense[np.ix_(seen, seen)]).logpdf(y[seen, j]))


# ------------------------------------------------------------------------------------------------ all of them

DETECTORS = [
    (Focus(), False),
    (Focus(True, True, True), True),
    (Cusum(2.0, relearn=30), False),
    (Cusum(2.0, True), True),
    (RunLength(slots=30), False),
    (RunLength(prior=(1.0, 1.0), counts=True, slots=30), True),
]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("detector, counts", DETECTORS)
def test_a_stream_may_be_cut_anywhere(detector, counts, restart, rng):
    level = np.full(2, 2.0 if counts else 0.0)
    z = rng.poisson(2.0, (200, 2)) if counts else rng.normal(size=(200, 2))
    z = with_holes(z, rng, 0.1)
    z[120:] += 3.0
    whole = detector.run(detector.start(2, level, 0), z, 4.0, restart)
    state, parts = detector.start(2, level, 0), []
    for piece in np.split(z, [1, 2, 50, 130]):
        parts.append(detector.run(state, piece, 4.0, restart))
    np.testing.assert_array_equal(whole[0], np.concatenate([p[0] for p in parts]))
    np.testing.assert_array_equal(whole[1], np.concatenate([p[1] for p in parts]))
    assert (whole[1] >= 0).any()


@pytest.mark.parametrize("detector, counts", DETECTORS)
def test_rows_that_nobody_observed_change_no_score(detector, counts, rng):
    level = np.full(2, 2.0 if counts else 0.0)
    z = rng.poisson(2.0, (60, 2)).astype(float) if counts else rng.normal(size=(60, 2))
    holes = np.insert(z, 30, np.full((1, 2), np.nan), axis=0)
    plain, _ = detector.run(detector.start(2, level, 0), z, np.inf, False)
    score, _ = detector.run(detector.start(2, level, 0), holes, np.inf, False)
    if not isinstance(detector, RunLength):  # there time itself may bring a change
        np.testing.assert_array_equal(np.delete(score, 30), plain)
        assert score[30] == score[29]
    assert np.isfinite(score[1:]).all()


def test_published_peaks_follow_the_recipe():
    raw = np.full(300, np.nan)
    raw[29:] = np.random.default_rng(0).random(271)
    score, peaks = published_peaks(raw, 5, 20)
    moved = np.array([raw[i + 25] if 4 <= i < 275 else 0.0 for i in range(300)])
    mean = np.array([moved[max(i - 25, 0) : i + 1].mean() for i in range(300)])
    from scipy.signal import savgol_filter

    np.testing.assert_allclose(score, savgol_filter(mean, 12, 3), atol=1e-12)
    for peak in peaks:
        around = np.delete(score[max(peak - 25, 0) : peak + 26], min(peak, 25))
        assert score[peak] > around.max()
