"""Changes of the time scale, or of the mean under autocorrelated noise, found with the state-space cost.

Ornstein-Uhlenbeck segments of unit variance, read with noise of standard deviation 0.3, T = 2000 and one
change in the middle (or none); penalty 3 log T, 50 grid points, seven lengthscales profiled for each segment.
The last set has a step of 3 standard deviations in Ornstein-Uhlenbeck noise; beside it the sum of squares
with the same penalty, which takes autocorrelation for changes.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from hidamari.inference.costs import Mean
from hidamari.inference.kalman_cost import Kalman
from hidamari.inference.segments import divide_and_conquer
from hidamari.statespace.kernels import Constant, Matern

GRID = tuple(np.geomspace(1.0, 30.0, 7))
SETS = {"null 5": (5, 5), "2 -> 20": (2, 20), "4 -> 16": (4, 16), "5 -> 10": (5, 10)}
COST = Kalman(Matern(0, 1.0), noise=0.09, lengthscales=GRID)
STEP_COST = Kalman(Matern(0, 1.0) + Constant(25.0), noise=0.01, lengthscales=GRID)


def ou(rng, lengthscales, n_rows, sd):
    """Ornstein-Uhlenbeck segments of unit variance with noise, n_rows each."""
    parts = []
    for scale in lengthscales:
        phi = np.exp(-1.0 / scale)
        z = rng.standard_normal(n_rows) * np.sqrt(1.0 - phi**2)
        z[0] /= np.sqrt(1.0 - phi**2)
        parts.append(lfilter([1.0], [1.0, -phi], z))
    x = np.concatenate(parts)
    return x + sd * rng.standard_normal(len(x))


def score(found, true):
    """Share of runs with each number of changes, and the errors of those with the true number."""
    counts = np.array([len(f) for f in found])
    errors = [abs(int(f[0]) - true) for f in found if len(f) == 1] if true else []
    row = {f"K={k}": float(np.mean(counts == k)) for k in (0, 1)} | {"mean K": float(counts.mean())}
    if errors:
        row |= {"median error": float(np.median(errors)), "mean error": float(np.mean(errors))}
    return row


def timed(cost, x, penalty, grid):
    """Change points, and CPU seconds."""
    start = time.process_time()
    found = divide_and_conquer(x, cost, penalty, grid=grid).change_points
    return found, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--json", type=Path, help="keep the figures here")
    options = parser.parse_args()
    timed(COST, ou(np.random.default_rng(0), (5,), 200, 0.3), 20.0, 10)
    rows = {}
    for name, scales in SETS.items():
        runs = [
            timed(COST, ou(np.random.default_rng(seed), scales, 1000, 0.3), 3 * np.log(2000), 50)
            for seed in range(options.runs)
        ]
        true = 0 if scales[0] == scales[1] else 1000
        rows[name] = score([f for f, _ in runs], true) | {
            "cpu ms": 1e3 * float(np.median([s for _, s in runs]))
        }
    steps = [
        ou(np.random.default_rng(seed), (4,), 2000, 0.1) + 3.0 * (np.arange(2000) >= 900)
        for seed in range(options.runs)
    ]
    for name, cost, grid in (("step, Kalman", STEP_COST, 50), ("step, sum of squares", Mean(), "auto")):
        runs = [timed(cost, x, 3 * np.log(2000), grid) for x in steps]
        rows[name] = score([f for f, _ in runs], 900) | {
            "cpu ms": 1e3 * float(np.median([s for _, s in runs]))
        }
    long = [ou(np.random.default_rng(seed), (2, 20), 10_000, 0.3) for seed in range(5)]
    runs = [timed(COST, x, 3 * np.log(20_000), 100) for x in long]
    rows["2 -> 20, T = 20,000, Q = 100"] = score([f for f, _ in runs], 10_000) | {
        "cpu ms": 1e3 * float(np.median([s for _, s in runs]))
    }
    columns = ["K=0", "K=1", "mean K", "median error", "mean error", "cpu ms"]
    print("| set | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[c]:.4g}" if c in row else "" for c in columns) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
