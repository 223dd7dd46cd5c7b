"""Forecasts of long series by ARNet as it comes, beside the last value and the last season.

    python benchmarks/forecasting.py FOLDER

FOLDER holds tables with the columns ds and y. The model is fitted to the first 90 % of a series; then every
row of the rest is a place to forecast from, with all rows before it known and the coefficients held.
"""

import csv
import sys
import time
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import hidamari as hd
from hidamari.inference.forecast import forecast_covariance, recursive_forecast

SERIES = {  # name: steps ahead, rows of a season
    "yosemite_temps": (12, 288),
    "SF_hospital_load": (1, 168),
    "price_ercot_dam": (24, 24),
    "river_flow_saugeen": (12, 365),
}
Z90 = 1.6448536269514722


def load(path):
    with open(path, encoding="utf-8") as file:
        y = np.array([float(row["y"] or "nan") for row in csv.DictReader(file)])
    seen = np.isfinite(y)
    return np.interp(np.arange(len(y)), np.flatnonzero(seen), y[seen])


def compare(y, steps, season):
    n = int(0.9 * len(y))
    start = time.perf_counter()
    model = hd.ARNet().fit(y[:n])
    seconds = time.perf_counter() - start
    weights = np.zeros(model.lags_[-1])
    weights[model.lags_ - 1] = model.coef_[0]
    p, origins = len(weights), np.arange(n, len(y) - steps + 1)
    truth = sliding_window_view(y, steps)[origins]
    history = sliding_window_view(y - model.centre_[0], p)[origins - p]
    means = model.centre_[0] + recursive_forecast(weights, history, np.full(steps, model.intercept_[0]))
    sd = np.sqrt(np.diag(forecast_covariance(weights, float(model.sigma2_[0]), steps)))
    guesses = {
        "ARNet": means,
        "last value": np.repeat(y[origins - 1, None], steps, axis=1),
        "last season": y[origins[:, None] + np.arange(steps) % season - season],
    }
    errors = {name: float(np.sqrt(np.mean((guess - truth) ** 2))) for name, guess in guesses.items()}
    held = float(np.mean(np.abs(truth - means) <= Z90 * sd))
    return seconds, int(model.support_.sum()), len(model.lags_), errors, held


def main():
    folder = Path(sys.argv[1])
    print("root mean square error over all steps and origins; share of values in their 90 % intervals")
    print(f"{'series':20s} steps  fit s  lags        ARNet   last value  last season   held")
    hd.ARNet(2, penalty="l1").fit(np.random.default_rng(0).standard_normal(500))  # compiles
    for name, (steps, season) in SERIES.items():
        seconds, kept, tried, errors, held = compare(load(folder / f"{name}.csv"), steps, season)
        row = "  ".join(f"{errors[key]:11.4g}" for key in ("ARNet", "last value", "last season"))
        print(f"{name:20s} {steps:5d}  {seconds:5.2f}  {kept:4d}/{tried:<4d}{row}  {held:.3f}", flush=True)


if __name__ == "__main__":
    main()
