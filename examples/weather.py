"""Weather of which 80 % of the entries are missing: weeks at another airport filled in, with intervals.

Six variables every hour at the airports of New York. An autoencoder with Gaussian process latents learns from
every other week at Newark and LaGuardia, then fills in the weeks between at Kennedy: what is missing of one
variable is told by its past, its future, and the other five. With --quick few weeks, for a test. Writes
results/weather.png and results/weather.nc, the imputations.
"""

import sys
import time
from pathlib import Path

import numpy as np
from weather_figure import draw

import hidamari as hd

WEEK = 168  # hours


def interpolate(y):
    """Straight lines in time, variable by variable; the last value beyond the ends."""
    filled, rows = np.array(y), np.arange(y.shape[1])
    for week in filled:
        for series in week.T:
            seen = np.isfinite(series)
            series[:] = np.interp(rows, rows[seen], series[seen])
    return filled


def main(quick=False):
    weather = hd.datasets.load_weather()
    weeks = {name: weather.sel(airport=name).values.reshape(-1, WEEK, 6) for name in ("EWR", "LGA", "JFK")}
    step, epochs = (26, 2) if quick else (2, 30)
    learnt_from = np.concatenate([weeks["EWR"][::step], weeks["LGA"][::step]])
    truth = weeks["JFK"][1::step]
    rng = np.random.default_rng(0)
    train, test = (np.where(rng.random(y.shape) < 0.8, np.nan, y) for y in (learnt_from, truth))

    start = time.process_time()
    kernel = hd.Matern(order=1, lengthscale=12.0)  # hours
    model = hd.MGPVAE(6, kernel, max_epochs=epochs, progress=False).fit(train)
    print(f"fit of {len(train)} weeks in {time.process_time() - start:.0f} CPU s, {model.message_}")

    found = model.impute(test)
    mean, sd = found["mean"].values, np.sqrt(found["var"].values)
    asked = np.isnan(test) & np.isfinite(truth)
    scale = np.nanstd(train, axis=(0, 1))
    guesses = {
        "mean of the week": np.broadcast_to(np.nanmean(test, axis=1, keepdims=True), test.shape),
        "straight lines": interpolate(test),
        "MGPVAE": mean,
    }
    print(f"root mean square error of {asked.sum():,} missing values, in standard deviations of the variable")
    for name, guess in guesses.items():
        print(f"  {name:24s}{np.sqrt(np.mean((((guess - truth) / scale)[asked]) ** 2)):7.3f}")
    inside = np.abs(truth - mean)[asked] <= 1.645 * sd[asked]
    print(f"{inside.mean():.1%} of the missing values lie in their 90 % intervals")

    Path("results").mkdir(exist_ok=True)
    found.drop_attrs().to_netcdf("results/weather.nc", engine="h5netcdf")
    one = len(truth) // 3
    names = [f"{name} ({unit})" for name, unit in zip(weather["variable"].values, weather.units.values)]
    figure = draw(names, truth[one], test[one], guesses["straight lines"][one], mean[one], sd[one])
    figure.savefig("results/weather.png", dpi=100)
    print("wrote results/weather.png and results/weather.nc")


if __name__ == "__main__":
    main("--quick" in sys.argv)
