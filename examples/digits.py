"""Rotating digits of which 60 % of the frames are missing: unseen sequences filled in, with intervals.

An autoencoder with Gaussian process latents learns from 100 sequences of handwritten threes, each turned from
an angle of its own; the period of a turn is found. Then it fills in 40 sequences of other images, beside what
needs no model. With --quick fewer of all, for a test. Writes results/digits.png.
"""

import sys
import time
from pathlib import Path

import numpy as np
from digits_figure import draw

import hidamari as hd

PERIOD = 23.7  # frames, that of the simulation


def interpolate(y):
    """Straight lines in time from frame to frame, pixel by pixel."""
    filled, rows = np.array(y), np.arange(y.shape[1])
    for sequence in filled.reshape(len(y), len(rows), -1):
        seen = np.isfinite(sequence[:, 0])
        for pixel in sequence.T:
            pixel[:] = np.interp(rows, rows[seen], pixel[seen])
    return filled


def main(quick=False):
    n_train, n_test, epochs = (12, 6, 2) if quick else (100, 40, 60)
    digits = hd.datasets.simulate_rotating_digits(3, n_train + n_test, period=PERIOD)
    truth = digits.values
    missing = np.random.default_rng(0).random(truth.shape[:2]) < 0.6
    missing[:, [0, -1]] = False
    y = np.where(missing[:, :, None, None], np.nan, truth)

    start = time.process_time()
    model = hd.MGPVAE(n_latents=8, period="auto", max_epochs=epochs, progress=False).fit(y[:n_train])
    print(f"fit of {n_train} sequences in {time.process_time() - start:.0f} CPU s, {model.message_}")
    if model.period_ is not None:
        print(f"a turn takes {model.period_:.2f} frames; it was {PERIOD}")

    y, truth, missing = y[n_train:], truth[n_train:], missing[n_train:]
    found = model.impute(y)
    mean, sd = found["mean"].values, np.sqrt(found["var"].values)
    guesses = {
        "mean of frames seen": np.broadcast_to(np.nanmean(y, axis=1, keepdims=True), y.shape),
        "straight lines": interpolate(y),
        "MGPVAE": mean,
    }
    print(f"root mean square error of {missing.sum():,} missing frames, pixels from 0 to 1")
    for name, guess in guesses.items():
        print(f"  {name:24s}{np.sqrt(np.mean((guess - truth)[missing] ** 2)):7.3f}")
    inside = np.abs(truth - mean)[missing] <= 1.645 * sd[missing]
    print(f"{inside.mean():.1%} of the missing pixels lie in their 90 % intervals")

    Path("results").mkdir(exist_ok=True)
    draw(truth[0], y[0], guesses["straight lines"][0], found.isel(trial=0)).savefig(
        "results/digits.png", dpi=100
    )
    print("wrote results/digits.png")


if __name__ == "__main__":
    main("--quick" in sys.argv)
