"""Temperatures every five minutes: which lags matter, and forecasts of an hour to a day with intervals.

ARNet as it comes is fitted to the first 58 days, an hour without values among them. Then it forecasts from
every hour of the last week, beside the last value and the same time yesterday. Writes
results/temperatures.png and results/temperatures.nc, the forecasts.
"""

import time
from pathlib import Path

import numpy as np
from temperatures_figure import draw

import hidamari as hd

DAY, HOUR = 288, 12  # rows
HORIZONS = {"5 min": 1, "1 h": HOUR, "3 h": 3 * HOUR, "1 day": DAY}


def error(guess, truth):
    """Root mean square error by rows ahead, then over the first of them up to each horizon."""
    square = np.mean((guess - truth) ** 2, axis=0)
    return np.sqrt(square), [np.sqrt(square[:rows].mean()) for rows in HORIZONS.values()]


def main():
    series = hd.datasets.load_temperatures()
    n = int(0.9 * len(series))
    start = time.perf_counter()
    model = hd.ARNet().fit(series[:n])
    print(f"fit of {n:,} rows in {time.perf_counter() - start:.1f} s: {int(model.support_.sum())} of")
    print(f"{len(model.lags_)} lags, the longest {model.lags_[model.support_[0]].max() / DAY:.1f} days back")

    origins = np.arange(n, len(series) - DAY + 1, HOUR)
    # What a forecast reads of the past are its longest lag, and rows enough to judge its errors by.
    pasts = [series[origin - 5 * DAY : origin] for origin in origins]
    forecast = model.forecast(DAY, pasts)
    truth = np.array([series.values[origin : origin + DAY] for origin in origins])
    guesses = {
        "last value": np.array([[past.values[-1]] * DAY for past in pasts]),
        "same time yesterday": np.array([past.values[-DAY:] for past in pasts]),
        "ARNet": forecast["mean"].values,
    }
    print(f"root mean square error in °C from {len(origins)} hours, up to {', '.join(HORIZONS)} ahead")
    by_row = {}
    for name, guess in guesses.items():
        by_row[name], errors = error(guess, truth)
        print(f"  {name:24s}" + "".join(f"{value:7.2f}" for value in errors))
    held = (truth >= forecast.lower.values) & (truth <= forecast.upper.values)
    print(f"{held[:, :HOUR].mean():.1%} of the first hours lie in their 95 % intervals")

    Path("results").mkdir(exist_ok=True)
    forecast.drop_attrs().to_netcdf("results/temperatures.nc", engine="h5netcdf")
    one = len(origins) // 2
    figure = draw(model, series, model.forecast(DAY, pasts[one]), pasts[one], truth[one], by_row, n)
    figure.savefig("results/temperatures.png", dpi=100)
    print("wrote results/temperatures.png and results/temperatures.nc")


if __name__ == "__main__":
    main()
