"""The figure of digits.py: frames of one sequence, two of its pixels over time, and its latents."""

import matplotlib.pyplot as plt
import numpy as np

FIRST, SHOWN = 8, 16  # frames
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6B6B6B"


def draw(truth, seen, lines, found):
    """Figure of one sequence (time, row, column): truth, what was seen, straight lines, and imputations."""
    mean, sd = found["mean"].values, np.sqrt(found["var"].values)
    figure = plt.figure(figsize=(13, 9), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[0.85, 1.15])
    rows = {"truth": truth, "seen": seen, "straight lines": lines, "MGPVAE": mean}
    axes = upper.subplots(len(rows), SHOWN, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    for row, (name, frames) in zip(axes, rows.items()):
        for ax, t in zip(row, range(FIRST, FIRST + SHOWN)):
            ax.set_facecolor("#E3E3E3")
            ax.imshow(frames[t], cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            if row is axes[0]:
                ax.set_title(str(t), fontsize="small", color=GREY)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    upper.suptitle("An unseen digit, frames 8 to 23; grey: missing", x=0.01, ha="left", fontsize="medium")

    pixels, latents = lower.subplots(1, 2)
    time = np.arange(len(truth))
    busiest = np.argsort(-truth.reshape(len(truth), -1).var(axis=0))
    for shift, flat in ((0.0, busiest[0]), (1.6, busiest[5])):
        y, middle, spread = (a.reshape(len(a), -1)[:, flat] for a in (truth, mean, sd))
        pixels.fill_between(
            time, middle - 1.645 * spread + shift, middle + 1.645 * spread + shift, color=BLUE, alpha=0.2
        )
        pixels.plot(time, middle + shift, color=BLUE, linewidth=1.8, label="MGPVAE, 90 % intervals")
        pixels.plot(
            time, lines.reshape(len(lines), -1)[:, flat] + shift, color=ORANGE, label="straight lines"
        )
        pixels.plot(time, y + shift, ".", color=GREY, markersize=5, label="truth")
        known = np.isfinite(seen.reshape(len(seen), -1)[:, flat])
        pixels.plot(time[known], y[known] + shift, "o", color="black", markersize=5, label="seen")
    pixels.set_title("Two of its pixels", loc="left", fontsize="medium")
    pixels.set(xlabel="frame", yticks=[0, 1, 1.6, 2.6], yticklabels=["0", "1", "0", "1"])
    handles, labels = pixels.get_legend_handles_labels()
    pixels.legend(handles[:4], labels[:4], frameon=False, ncols=4, loc="upper left", fontsize="small")
    pixels.set_ylim(-0.5, 3.2)

    middle, spread = found["latent_mean"].values, np.sqrt(found["latent_var"].values)
    step = 2.5 * np.abs(middle).max()
    for k, (z, s) in enumerate(zip(middle.T, spread.T)):
        colour = plt.get_cmap("viridis")(k / len(middle.T))
        latents.fill_between(
            time, z - 1.645 * s - k * step, z + 1.645 * s - k * step, color=colour, alpha=0.25
        )
        latents.plot(time, z - k * step, color=colour, linewidth=1.5)
    latents.set(xlabel="frame", yticks=-step * np.arange(len(middle.T)))
    latents.set_yticklabels([str(k) for k in range(len(middle.T))])
    latents.set_title("Latents with 90 % intervals", loc="left", fontsize="medium")
    for ax in (pixels, latents):
        ax.spines[["top", "right"]].set_visible(False)
    return figure
