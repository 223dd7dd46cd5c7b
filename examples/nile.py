"""The flow of the Nile at Aswan, 1871 to 1970: a level that wanders, seen through the noise of single years.

Both variances are learned by maximum likelihood (textbooks: 15,099 and 1,469), then drawn by NUTS; whole
paths of the level say when it fell most, and by how much. A dam at Aswan was begun in 1898. Writes
results/nile.png.
"""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import hidamari as hd

SPAN = 10  # years
TITLES = {
    "level": "Level with its 95 % band, data, and a forecast of ten years",
    "fell": "The year from which the level was lower than before, ten years against ten",
}


def falls(level):
    """Mean level of the ten years before each year, less that of the ten from it on, (draw, year)."""
    sums = np.cumsum(np.pad(level, ((0, 0), (1, 0))), axis=1)
    means = (sums[:, SPAN:] - sums[:, :-SPAN]) / SPAN
    return means[:, :-SPAN] - means[:, SPAN:]


def draw(nile, ahead, years, chance, tree):
    """Figure of the level, of the years in which it fell, and of the variances."""
    panels = [["level", "level"], ["fell", "fell"], ["a", "b"], ["c", "d"]]
    figure, ax = plt.subplot_mosaic(
        panels, figsize=(9, 9), layout="constrained", height_ratios=[3, 1.5, 1, 1], width_ratios=[1, 1.6]
    )
    hd.plotting.prediction(ahead, nile, ax["level"])
    ax["fell"].bar(years, chance, width=0.8, color="#D55E00")
    ax["fell"].set(xlim=ax["level"].get_xlim(), ylim=(0, None), ylabel="probability")
    ax["fell"].spines[["top", "right"]].set_visible(False)
    for panel, title in TITLES.items():
        ax[panel].set_title(title, loc="left", fontsize="medium", color="#1A1A1A")
    hd.plotting.posterior(tree, axes=[[ax["a"], ax["b"]], [ax["c"], ax["d"]]])
    return figure


def main():
    nile = hd.datasets.load_nile()
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        model = hd.MarkovGP(hd.Wiener(order=0, variance=1e3, start=1e4), mean=1000.0).fit(nile)
        seconds.append(time.perf_counter() - start)
    noise, steps = model.likelihood_.variance, model.kernel_.variance
    print(f"variance of single years {noise:,.0f}, of the level's yearly steps {steps:,.0f}")
    print(f"fit {seconds[0]:.2f} s the first time, {seconds[1]:.2f} s the second")

    start = time.perf_counter()
    tree = model.mcmc(n_warmup=300, n_samples=500)
    print(f"NUTS {time.perf_counter() - start:.1f} s, {int(tree['sample_stats'].diverging.sum())} divergent")
    level = model.sample(1000, hyperparameters="posterior").mean_draw.values
    fall = falls(level)
    years = nile.time.values[SPAN : 1 - SPAN]
    chance = np.bincount(fall.argmax(axis=1), minlength=len(years)) / len(fall)
    near = chance[(years >= 1896) & (years <= 1902)].sum()
    low, middle, high = np.quantile(fall[:, years == 1899], [0.025, 0.5, 0.975])
    print(f"the level fell most within 3 years of 1899: probability {near:.2f}")
    print(f"by how much then: {middle:.0f} (95 %: {low:.0f} to {high:.0f}) 1e8 m3 a year")

    Path("results").mkdir(exist_ok=True)
    ahead = model.predict(np.arange(1871.0, 1980.5, 0.25), hyperparameters="posterior")
    draw(nile, ahead, years, chance, tree).savefig("results/nile.png", dpi=100)
    print("wrote results/nile.png")


if __name__ == "__main__":
    main()
