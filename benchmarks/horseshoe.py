"""Posterior of an autoregression under a horseshoe: errors, convergence, and time by the number of rows.

    python benchmarks/horseshoe.py

An AR(3) is fitted with 50 lags. Errors are 100 sum |w_hat - w| / sum (|w_hat| + |w|), of posterior medians
and means, of least squares with all lags, and with the true ones. Times are CPU seconds of four chains of
500 + 1000 steps, least of the rounds, moments excluded; the first call, which compiles, comes before them.
"""

import json
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.signal import lfilter
from sklearn.exceptions import ConvergenceWarning

from hidamari.inference.ar_horseshoe import sample_horseshoe
from hidamari.inference.autoregression import keep, solve_exact
from hidamari.inference.lags import lag_gram

TRUTH = np.append([0.2, 0.3, -0.5], np.zeros(47))
ROUNDS, SEEDS = 3, 5


def error(w):
    return float(100 * np.abs(w - TRUTH).sum() / (np.abs(w) + np.abs(TRUTH)).sum())


def moments(rows, seed):
    noise = np.random.default_rng(seed).standard_normal(rows + 1000)
    return lag_gram(lfilter([1.0], [1.0, *-TRUTH[:3]], noise)[1000:], len(TRUTH))


def draw(gram, seed):
    """What the draws say, and the CPU seconds they took."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what it says is in the table
        tree = sample_horseshoe(gram, random_state=seed)
    seconds = time.process_time() - start
    coef = tree["posterior"]["coef"]
    low, high = np.quantile(coef, [0.025, 0.975], axis=(0, 1))
    oracle = np.append(solve_exact(keep(gram, np.arange(3))).coef, np.zeros(47))
    return {
        "median": error(coef.median(("chain", "draw")).values),
        "mean": error(coef.mean(("chain", "draw")).values),
        "least squares": error(solve_exact(gram).coef),
        "oracle": error(oracle),
        "zeros covered": int(((low < 0) & (high > 0))[3:].sum()),
        "largest r_hat": float(tree["diagnostics"].r_hat.max()),
        "divergent": int(tree["sample_stats"].diverging.sum()),
        "steps": int(tree["sample_stats"].n_steps.sum()),
        "seconds": seconds,
    }


def main():
    draw(moments(1000, 0), 0)
    found = {"seeds": [draw(moments(100_000, seed), seed) for seed in range(SEEDS)], "rows": {}}
    print("100,000 rows, 50 lags")
    for row in found["seeds"]:
        print("  " + ", ".join(f"{name} {value:.4g}" for name, value in row.items()))
    grams = {rows: moments(rows, 0) for rows in (10_000, 100_000, 1_000_000)}
    for rows in grams:
        found["rows"][rows] = []
    for seed in range(ROUNDS):
        for rows, gram in grams.items():
            found["rows"][rows].append(draw(gram, seed)["seconds"])
    for rows, seconds in found["rows"].items():
        print(f"{rows:>9,} rows: {min(seconds):.2f} s")
    file = Path(__file__).parent / "results" / "horseshoe.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
