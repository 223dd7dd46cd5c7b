"""Rotating digits of which 60 % of the frames, or of the pixels, are hidden: imputations of unseen sequences.

    python benchmarks/digits.py [--task frames] [--seeds 0 1 2] [--methods NAME ...] [--json FILE]

The digit 3, 120 sequences of 50 frames to learn from and 60 to fill in, one turn in 23.7 frames from any
angle; the first and the last frame are seen. The seed chooses images, angles and what is hidden. Methods
whose names say so are given the period, the seasonal one too; the others find their time scales.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from _vae_baselines import NAIVE, about, factor_analysis, hide, mgpvae, naive, scores, store, table, timed

import hidamari as hd

PERIOD, N_TRAIN, N_TEST = 23.7, 120, 60
MODELS = {
    "MGPVAE, period learnt": {"period": "auto"},
    "MGPVAE, period given": {"period": PERIOD},
    "MGPVAE, Matérn-3/2": {"kernel": hd.Matern(1, 5.0)},
}


def turning(copies: int) -> list[Any]:
    """Kernels of a constant and three harmonics of the period, `copies` of each."""
    kernels = [hd.Matern(1, 30.0)] + [hd.HidaMatern(1, 30.0, frequency=k / PERIOD) for k in (1, 2, 3)]
    return [kernel for kernel in kernels for _ in range(copies)]


ANALYSES = {
    "factor analysis, 8, Matérn-3/2": [hd.Matern(1, scale) for scale in np.geomspace(2.0, 20.0, 8)],
    "factor analysis, 8, period given": turning(2),
    "factor analysis, 16, period given": turning(4),
}


def make(seed: int, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (sequence, time, pixel), and which of their entries are hidden."""
    digits = hd.datasets.simulate_rotating_digits(3, N_TRAIN + N_TEST, period=PERIOD, random_state=seed)
    x = digits.values.reshape(*digits.shape[:2], -1)
    hidden = np.array(hide(x.shape, 0.6, task, np.random.default_rng(seed)))
    hidden[:, [0, -1]] &= task != "frames"
    return x, hidden


def run(name: str, seed: int, task: str, epochs: int | None = None) -> dict[str, Any]:
    """Scores of a method on one draw of the data."""
    x, hidden = make(seed, task)
    y = np.where(hidden, np.nan, x)
    train, test, truth = y[:N_TRAIN], y[N_TRAIN:], x[N_TRAIN:]
    if name in NAIVE:
        rng = np.random.default_rng(seed)
        guess, seconds = timed(lambda: naive(name, train, test, PERIOD, task, rng))
    elif name in ANALYSES:
        (guess, _), seconds = timed(lambda: factor_analysis(train, test, ANALYSES[name], shared=True))
    else:
        options = {"n_latents": 8, "max_epochs": 60, "random_state": seed} | MODELS[name]
        options |= {} if epochs is None else {"max_epochs": epochs}
        (guess, model), seconds = timed(lambda: mgpvae(train, test, truth, (8, 8), **options))
        return scores(guess, truth, hidden[N_TRAIN:]) | {"CPU s": seconds} | about(model)
    return scores(guess, truth, hidden[N_TRAIN:]) | {"CPU s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=["frames", "entries"], default="frames")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=[*NAIVE, *ANALYSES, *MODELS])
    parser.add_argument("--epochs", type=int, help="at most so many for MGPVAE")
    parser.add_argument("--json", type=Path, help="keep the figures here, beside those already there")
    options = parser.parse_args()
    kept: dict[str, Any] = {}
    for seed in options.seeds:
        for name in options.methods:
            row = run(name, seed, options.task, options.epochs)
            kept |= store(options.json, options.task, name, seed, row)
            print(f"seed {seed}, {name}: {row['RMSE']:.4f}", flush=True)
    print(table(kept))


if __name__ == "__main__":
    main()
