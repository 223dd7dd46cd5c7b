"""The figure of weather.py: one week of six variables, four fifths of them missing."""

import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6B6B6B"


def draw(names, truth, seen, lines, mean, sd):
    """Figure of a week (hour, variable): truth, what was seen, straight lines, 90 % intervals."""
    days = np.arange(len(truth)) / 24
    figure, axes = plt.subplots(3, 2, figsize=(14, 10), sharex=True, layout="constrained")
    for ax, name, *columns in zip(axes.flat, names, truth.T, seen.T, lines.T, mean.T, sd.T):
        y, known, straight, middle, spread = columns
        ax.fill_between(
            days,
            middle - 1.645 * spread,
            middle + 1.645 * spread,
            color=BLUE,
            alpha=0.22,
            linewidth=0,
            label="90 % interval",
        )
        ax.plot(days, straight, color=ORANGE, linewidth=1, label="straight lines")
        ax.plot(days, middle, color=BLUE, linewidth=1.8, label="MGPVAE")
        ax.plot(days, y, ".", color=GREY, markersize=3.5, label="truth")
        ax.plot(days, known, "o", color="black", markersize=4.5, label="seen")
        ax.set_title(name, loc="left", fontsize="medium")
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("day of the week")
    axes[0, 0].legend(frameon=False, ncols=5, loc="lower left", bbox_to_anchor=(0, 1.08), fontsize="medium")
    return figure
