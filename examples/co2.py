"""CO2 over Mauna Loa, week by week with 59 weeks missing: trend, season, weather, and a forecast.

Learned from 1958 to 1991, checked on the ten years after, then learned from all and carried on to 2012. Times
are in years. Writes results/co2.png.
"""

import time
from pathlib import Path

import numpy as np
from co2_figure import draw

import hidamari as hd

SPLIT = 1992.0


def fit(series):
    """A sum of five kernels, whose variances and lengthscales are learned."""
    kernel = (
        hd.Wiener(order=1, variance=0.1, start=100.0)  # its slope wanders
        + hd.HidaMatern(order=0, lengthscale=50.0, frequency=1.0, variance=4.0)
        + hd.HidaMatern(order=0, lengthscale=50.0, frequency=2.0, variance=0.3)
        + hd.Matern(order=1, lengthscale=1.0, variance=0.3)
        + hd.Matern(order=0, lengthscale=0.05, variance=0.1)
    )
    return hd.MarkovGP(kernel, mean=320.0, fixed=["frequency"]).fit(series)


def naive(train, ahead):
    """Forecasts without a model: the last value; the last year again, also with the growth of ten years."""
    filled = train.interpolate_na("time").values
    year, steps = filled[-52:], np.arange(ahead)
    growth = (year.mean() - filled[-572:-520].mean()) / 10
    again = year[steps % 52]
    return {
        "last value": np.full(ahead, filled[-1]),
        "last year again": again,
        "last year, growing": again + growth * (1 + steps // 52),
    }


def main():
    co2 = hd.datasets.load_co2()
    train, test = co2.sel(time=slice(None, SPLIT)), co2.sel(time=slice(SPLIT, None))
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        model = fit(train)
        seconds.append(time.perf_counter() - start)
    forecast = model.predict(test.time.values, observation=True)
    seen = test.notnull().values
    held = ((test >= forecast.lower.values) & (test <= forecast.upper.values)).values[seen].mean()
    print(
        f"forecast from {train.sizes['time']} weeks to the next {seen.sum()}      root mean square error, ppm"
    )
    for name, guess in (naive(train, len(test)) | {"MarkovGP": forecast["mean"].values}).items():
        print(f"  {name:43s} {np.sqrt(np.mean((test.values - guess)[seen] ** 2)):.2f}")
    print(f"{held:.1%} of these weeks lie in their 95 % intervals")
    print(f"fit {seconds[0]:.1f} s the first time, {seconds[1]:.1f} s the second")

    Path("results").mkdir(exist_ok=True)
    draw(co2, fit(co2), forecast, SPLIT).savefig("results/co2.png", dpi=100)
    print("wrote results/co2.png")


if __name__ == "__main__":
    main()
