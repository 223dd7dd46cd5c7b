"""Sequences of frames as blocks: what is laid where, what is hidden, and which period they share."""

import numpy as np
import pytest

import hidamari as hd
from hidamari.inference.vae_data import choose, hide, lay_frames, scale_of, set_aside
from hidamari.inference.vae_period import find_period
from hidamari.inference.vae_start import harmonic_kernels, linear_start, spread_kernels


def frames_of(sequences, times=None, likelihood="gaussian", shared=False):
    times = [np.arange(float(len(y))) for y in sequences] if times is None else times
    return lay_frames(sequences, times, scale_of(sequences, likelihood, shared), likelihood)


def test_blocks_hold_what_was_given(rng):
    times = [np.array([0.0, 0.0, 1.5]), np.array([2.0])]
    y = [rng.standard_normal((3, 2)), rng.standard_normal((1, 2))]
    y[0][1, 0] = np.nan
    scale = scale_of(y, "gaussian")
    frames = lay_frames(y, times, scale, "gaussian")
    for n, own in enumerate(y):
        back = frames.y[n, : len(own)] * scale.spread + scale.centre
        np.testing.assert_allclose(back[np.isfinite(own)], own[np.isfinite(own)])
        assert (frames.seen[n, : len(own)] == np.isfinite(own)).all()
    assert not frames.seen[0, 3:].any() and (frames.step[0, 3:] == -1).all()
    np.testing.assert_array_equal(frames.gaps[frames.step[0, 1:3]], [0.0, 1.5])
    rows = np.concatenate(y)
    np.testing.assert_allclose(np.nanmean(rows, 0), scale.centre)
    np.testing.assert_allclose(np.nanstd(rows, 0), scale.spread)


def test_pixels_share_one_spread_and_counts_keep_their_own(rng):
    y = [rng.standard_normal((20, 3)) * [0.0, 1.0, 5.0]]
    shared = scale_of(y, "gaussian", shared=True)
    assert np.ptp(shared.spread) == 0.0 and shared.spread[0] > 1.0
    assert scale_of(y, "gaussian").spread[0] == 1.0  # never varies
    assert (scale_of(y, "poisson").spread == 1.0).all() and (scale_of(y, "poisson").centre == 0.0).all()


def test_lengths_fall_into_few_classes():
    sizes = {frames_of([np.zeros((n, 1))]).y.shape[1] for n in range(1, 400)}
    assert len(sizes) <= 16


@pytest.mark.parametrize("whole", [True, False])
def test_hidden_is_taken_as_data_are_lost(rng, whole):
    y = [rng.standard_normal((50, 4)) for _ in range(10)]
    for own in y:
        own[rng.random((50, 1) if whole else (50, 4)).repeat(4 if whole else 1, 1) < 0.5] = np.nan
    frames = frames_of(y)
    rest, asked = hide(frames, 0.3, rng)
    assert not (rest.seen & asked).any() and ((rest.seen | asked) == frames.seen).all()
    assert (rest.y[asked] == 0).all() and (rest.inputs[asked] == 0).all()
    assert 0.2 < asked.sum() / frames.seen.sum() < 0.4
    alike = (asked.any(2) == (asked == frames.seen).all(2) & frames.seen.any(2)).all()
    assert alike == whole


def test_sequences_are_set_aside_where_there_are_many(rng):
    many = frames_of([rng.standard_normal((20, 2)) for _ in range(20)])
    aside = set_aside(many, 0.1, rng)
    assert (len(aside.learn.y), len(aside.rest.y)) == (18, 2)
    few = set_aside(choose(many, np.arange(3)), 0.2, rng)
    assert len(few.learn.y) == 3 and not (few.learn.seen & few.asked).any()


def cycles(rng, period, n=12, T=60, noise=0.3):
    """Sequences with a form that repeats, each at its own phase, half of the frames missing."""
    y = []
    for _ in range(n):
        turn = 2 * np.pi * (np.arange(T) / period + rng.uniform())
        own = np.stack([np.cos(turn) + 0.6 * np.cos(2 * turn), np.sin(turn) - 0.6 * np.sin(3 * turn)], 1)
        own = own + noise * rng.standard_normal(own.shape)
        own[rng.random(T) < 0.5] = np.nan
        y.append(own)
    return y


@pytest.mark.parametrize("period", [17.3, 23.7])
def test_periods_that_are_not_whole_are_found(rng, period):
    found = find_period(frames_of(cycles(rng, period)))
    assert found is not None and abs(found - period) < 0.2


@pytest.mark.parametrize("lengthscale", [4.0, 15.0])
def test_red_spectra_have_no_period(rng, lengthscale):
    t = np.arange(60.0)
    root = np.linalg.cholesky(hd.Matern(1, lengthscale)(np.subtract.outer(t, t)) + 1e-9 * np.eye(60))
    assert find_period(frames_of([root @ rng.standard_normal((60, 3)) for _ in range(12)])) is None


def test_the_linear_start_finds_noise_and_loadings(rng):
    C, t = rng.standard_normal((6, 2)), np.arange(80.0)
    root = np.linalg.cholesky(hd.Matern(1, 8.0)(np.subtract.outer(t, t)) + 1e-9 * np.eye(80))
    y = [root @ rng.standard_normal((80, 2)) @ C.T + 0.3 * rng.standard_normal((80, 6)) for _ in range(6)]
    start = linear_start(frames_of(y, shared=True), spread_kernels(2, 4.0, 16.0), shared_noise=True)
    unit = scale_of(y, "gaussian", True).spread[0]
    assert start.noise.shape == (1,)
    np.testing.assert_allclose(np.exp(0.5 * start.noise[0]) * unit, 0.3, rtol=0.1)
    found, true = np.linalg.qr(start.loadings)[0], np.linalg.qr(C)[0]
    assert np.linalg.svd(found.T @ true)[1].min() > 0.97


def test_the_linear_start_takes_irregular_times_and_counts(rng):
    times = [np.sort(rng.uniform(0, 30, 60)) for _ in range(3)]
    y = [rng.poisson(np.exp(1 + np.sin(t / 3))[:, None] * np.ones(4)).astype(float) for t in times]
    frames = frames_of(y, times, "poisson")
    start = linear_start(frames, spread_kernels(1, 1.0, 10.0), "poisson", 0.5, max_iter=30)
    np.testing.assert_allclose(start.bias, np.log(np.mean(np.concatenate(y)) / 0.5), atol=0.5)
    assert 0.5 < start.kernels[0].lengthscale < 20.0


def test_starts_refuse_other_likelihoods():
    with pytest.raises(ValueError, match="likelihood must be one of"):
        linear_start(frames_of([np.zeros((4, 1))]), spread_kernels(1, 1.0, 2.0), "student_t")


def test_harmonics_keep_together_when_held(rng):
    frames = frames_of(cycles(rng, 23.7))
    start = linear_start(frames, harmonic_kernels(4, 23.7, 3, 60.0), held=("kernel.frequency",), max_iter=10)
    found = sorted(k.frequency for k in start.kernels if isinstance(k, hd.HidaMatern))
    np.testing.assert_allclose(found, np.arange(1, 4) / 23.7)
