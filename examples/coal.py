"""When did coal mining become safer? A log-Gaussian Cox process for 191 disasters, 1851 to 1962.

Explosions are counted in 1,000 bins of 41 days, most of them empty. The log of their rate is a Gaussian
process whose lengthscale and variance are learned from the counts. Writes results/coal.png.
"""

import time
from pathlib import Path

import numpy as np

import hidamari as hd


def fit(counts):
    """A Gaussian process for the log of the rate, which begins as rough as decades."""
    return hd.MarkovGP(hd.Matern(order=1, lengthscale=10.0), "poisson").fit(counts, exposure=counts.bin_years)


def two_rates(counts):
    """Rate per year at every bin, if it changed once: the change of highest likelihood."""
    y, years = counts.values, counts.bin_years
    best = (-np.inf, np.full(len(y), np.nanmean(y) / years))
    for change in range(100, len(y) - 100):
        rate = np.repeat([np.nanmean(y[:change]), np.nanmean(y[change:])], [change, len(y) - change]) / years
        best = max(best, (np.nansum(y * np.log(rate) - rate * years), rate), key=lambda pair: pair[0])
    return best[1]


def gain(counts, seen, rate):
    """Log likelihood of the hidden counts over that of the constant rate of those seen, in nats."""
    hidden, constant = np.isnan(seen.values), np.nanmean(seen) / counts.bin_years
    y, rate = counts.values[hidden], rate[hidden]
    return np.sum(y * np.log(rate / constant) - (rate - constant) * counts.bin_years)


def draw(dates, rate):
    """Figure of the rate with its band, the yearly counts, and every explosion."""
    ax = hd.plotting.prediction(rate)
    yearly, edges = np.histogram(dates, bins=range(1851, 1963))
    ax.stairs(yearly, edges, color="#BBBBBB", linewidth=1.0, zorder=1)
    ax.vlines(dates, -0.45, -0.15, color="#1A1A1A", linewidth=0.6)
    ax.set(xlim=(1851, 1962.3), ylim=(-0.6, None), xlabel="year", ylabel="explosions per year")
    ax.set_title("rate with its 95 % band; grey: explosions of each year; ticks: their dates", loc="left")
    return ax.figure


def main():
    dates = hd.datasets.load_coal_disasters()
    counts = hd.datasets.load_coal_disasters(n_bins=1000)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        model = fit(counts)
        seconds.append(time.perf_counter() - start)

    draws = model.sample(1000).mean_draw.values  # whole trajectories of the rate, explosions per year
    fall = draws[:, counts.time < 1880].mean(axis=1) / draws[:, counts.time > 1900].mean(axis=1)
    low, middle, high = np.quantile(fall, [0.025, 0.5, 0.975])
    print(f"lengthscale {model.kernel_.lengthscale:.0f} years; ELBO {model.log_evidence_:.1f} nats")
    print(f"rate before 1880 over that after 1900: {middle:.1f} (95 %: {low:.1f} to {high:.1f})")

    year = (counts.time.values - 1851).astype(int)
    scores = {"two rates": [], "MarkovGP": []}
    for fold in range(10):  # hides every tenth year
        seen = counts.where(year % 10 != fold)
        scores["two rates"].append(gain(counts, seen, two_rates(seen)))
        scores["MarkovGP"].append(gain(counts, seen, fit(seen).smooth()["mean"].values))
    print("hidden years, ten folds                        bits per explosion over a constant rate")
    for name, nats in scores.items():
        print(f"  {name:43s} {sum(nats) / len(dates) / np.log(2):.3f}")
    print(f"fit {seconds[0]:.2f} s the first time, {seconds[1]:.2f} s the second")

    Path("results").mkdir(exist_ok=True)
    draw(dates, model.predict(counts.time.values)).savefig("results/coal.png", dpi=100)
    print("wrote results/coal.png")


if __name__ == "__main__":
    main()
