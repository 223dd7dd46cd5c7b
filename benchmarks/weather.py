"""Weeks of hourly weather of which 80 % of the entries, or of the hours, are hidden: unseen weeks filled in.

    python benchmarks/weather.py [--task entries] [--splits 0 1 2] [--methods NAME ...] [--json FILE]

52 weeks at three airports, six variables: 126 weeks to learn from, 30 to fill in. Every variable is measured
in standard deviations of its values seen in training. The split shuffles the weeks and chooses what is
hidden; values that the source does not have are neither seen nor scored.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from _vae_baselines import NAIVE, about, factor_analysis, hide, mgpvae, naive, scores, store, table, timed

import hidamari as hd

N_TRAIN, WEEK, DAY = 126, 168, 24.0
ANALYSES = {"factor analysis, 6, Matérn-3/2": [hd.Matern(1, 12.0)] * 6}
MODELS = {
    "MGPVAE, 6, Matérn-3/2": {"n_latents": 6, "kernel": hd.Matern(1, 12.0), "max_epochs": 40},
}


def make(split: int, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Standardised weeks (week, hour, variable), and which of their entries are hidden."""
    rng = np.random.default_rng(split)
    weeks = hd.datasets.load_weather().values.reshape(-1, WEEK, 6)
    x = weeks[rng.permutation(len(weeks))]
    hidden = np.array(hide(x.shape, 0.8, task, rng))
    seen = np.where(hidden, np.nan, x)[:N_TRAIN]
    return (x - np.nanmean(seen, axis=(0, 1))) / np.nanstd(seen, axis=(0, 1)), hidden


def run(name: str, split: int, task: str, epochs: int | None = None) -> dict[str, Any]:
    """Scores of a method on one split."""
    x, hidden = make(split, task)
    y = np.where(hidden, np.nan, x)
    train, test, truth = y[:N_TRAIN], y[N_TRAIN:], x[N_TRAIN:]
    if name in NAIVE:
        rng = np.random.default_rng(split)
        guess, seconds = timed(lambda: naive(name, train, test, DAY, task, rng))
    elif name in ANALYSES:
        (guess, _), seconds = timed(lambda: factor_analysis(train, test, ANALYSES[name]))
    else:
        options = {"random_state": split} | MODELS[name]
        options |= {} if epochs is None else {"max_epochs": epochs}
        (guess, model), seconds = timed(lambda: mgpvae(train, test, truth, **options))
        return scores(guess, truth, hidden[N_TRAIN:]) | {"CPU s": seconds} | about(model)
    return scores(guess, truth, hidden[N_TRAIN:]) | {"CPU s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=["entries", "frames"], default="entries")
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=[*NAIVE, *ANALYSES, *MODELS])
    parser.add_argument("--epochs", type=int, help="at most so many for MGPVAE")
    parser.add_argument("--json", type=Path, help="keep the figures here, beside those already there")
    options = parser.parse_args()
    kept: dict[str, Any] = {}
    for split in options.splits:
        for name in options.methods:
            row = run(name, split, options.task, options.epochs)
            kept |= store(options.json, options.task, name, split, row)
            print(f"split {split}, {name}: {row['RMSE']:.4f}", flush=True)
    print(table(kept))


if __name__ == "__main__":
    main()
