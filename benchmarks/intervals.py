"""How much of what comes lies in the 90 % intervals of ARNet: calibrated on its last errors, and Gaussian.

    python benchmarks/intervals.py FOLDER

FOLDER holds tables with the columns ds and y. A model is fitted to the first 90 % of a series, the default
with its lags found; forecasts of 1..24 steps start from rows spread evenly over the rest, all rows before
them known and the coefficients held. The last rows of the table are simulated from three weights.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

import hidamari as hd

STEPS, ORIGINS = 24, 60


def load(path):
    with open(path, encoding="utf-8") as file:
        y = np.array([float(row["y"] or "nan") for row in csv.DictReader(file)])
    seen = np.isfinite(y)
    return np.interp(np.arange(len(y)), np.flatnonzero(seen), y[seen])


def simulated(seed, rows=1500):
    noise = np.random.default_rng(seed).standard_normal(rows + 500)
    return lfilter([1.0], [1.0, -1.2, 0.5, -0.1], noise)[500:]


def held(y, kind):
    n = int(0.9 * len(y))
    model = hd.ARNet(intervals=kind).fit(y[:n])
    inside, width = [], []
    for origin in np.unique(np.linspace(n, len(y) - STEPS, ORIGINS).astype(int)):
        found = model.forecast(STEPS, y[:origin], interval=0.9)
        truth = y[origin : origin + STEPS]
        inside.append((found.lower.values <= truth) & (truth <= found.upper.values))
        width.append((found.upper - found.lower).values)
    by_step = np.mean(inside, axis=0)
    return by_step.mean(), by_step[0], by_step[-1], float(np.mean(width))


def main():
    folder = Path(sys.argv[1])
    series = {path.stem: load(path) for path in sorted(folder.glob("*.csv"))}
    series["sunspots"] = np.asarray(hd.datasets.load_sunspots().values, dtype=float)
    co2 = np.asarray(hd.datasets.load_co2().values, dtype=float)
    series["co2"] = np.interp(np.arange(len(co2)), np.flatnonzero(co2 == co2), co2[co2 == co2])
    print(f"{'':20s}      conformal: all  h=1  h=24  width      gaussian: all  h=1  h=24  width")
    for name, y in series.items():
        print(
            f"{name:20s}", *(f"{'':5s}{a:9.3f}{b:7.3f}{c:7.3f}{w:9.4g}" for a, b, c, w in rows(y)), flush=True
        )
    many = np.array(
        [[held(simulated(seed), kind) for kind in ("conformal", "gaussian")] for seed in range(10)]
    )
    found = many.mean(axis=0)
    print(f"{'simulated, 10':20s}", *(f"{'':5s}{a:9.3f}{b:7.3f}{c:7.3f}{w:9.4g}" for a, b, c, w in found))


def rows(y):
    return [held(y, kind) for kind in ("conformal", "gaussian")]


if __name__ == "__main__":
    main()
