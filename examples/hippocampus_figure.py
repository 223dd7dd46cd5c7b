"""The figure of hippocampus.py: spikes, rates, latents and the rat on one time axis, and place fields."""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter1d

import hidamari as hd

SHOWN = {"time": slice(270, 350)}  # seconds
WAYS = {"stays": "#BBBBBB", "runs out": "#0072B2", "runs back": "#D55E00"}
PANELS = [["spikes", "counted"], ["rates", "predicted"], ["latents", "plane"], ["place", "plane"]]
PLACE_BINS = np.linspace(0.0, 2.0, 31)  # along the track, out from 0 to 1 and back from 1 to 2


def draw(rat, run, posterior, test, predicted):
    """Figure of the posterior over the run, and of test trials whose units were predicted from others."""
    place, lap = follow(rat, run.time)
    fields = by_place(posterior.rate.values, lap)
    order = fields.argmax(axis=0).argsort()
    figure, ax = plt.subplot_mosaic(
        PANELS, figsize=(14, 10), layout="constrained", width_ratios=[2.3, 1], height_ratios=[4, 4, 5, 1.8]
    )
    hd.plotting.raster(run.sel(SHOWN), ax["spikes"], order=order)
    hd.plotting.rates(posterior.sel(SHOWN), ax["rates"], order=order)
    hd.plotting.latents(posterior.isel(latent=slice(4)).sel(SHOWN), ax["latents"])
    ways = dict(zip(WAYS, [np.isnan(lap), lap < 1, lap >= 1]))
    for way, rows in ways.items():
        x, y = np.where(rows, posterior.latent_mean.values[:, :2].T, np.nan)
        ax["plane"].plot(x, y, color=WAYS[way], linewidth=0.8)
        ax["place"].plot(run.time, np.where(rows, place, np.nan), color=WAYS[way], linewidth=3)
        for panel in ("spikes", "latents") if way != "stays" else ():
            shade = {"transform": ax[panel].get_xaxis_transform(), "color": WAYS[way], "alpha": 0.08}
            ax[panel].fill_between(run.time, 0, 1, where=rows, linewidth=0, **shade)
    lap = follow(rat, np.concatenate([trial.time for trial in test]))[1]
    scale = ax["rates"].collections[0]
    for panel, rates in (("counted", np.stack(test) / run.bin_s), ("predicted", predicted)):
        field = by_place(np.concatenate(rates), lap).T[order]
        ax[panel].pcolormesh(PLACE_BINS, range(len(order) + 1), field, cmap=scale.cmap, norm=scale.norm)
    return label(ax, figure)


def follow(rat, times):
    """Place of the rat at some times; and on its lap, 0 to 1 out and 1 to 2 back, NaN while it stays."""
    speed = gaussian_filter1d(np.gradient(rat.position, rat.position_time), 20)
    place, speed = (np.interp(times, rat.position_time, x) for x in (rat.position, speed))
    return place, np.where(np.abs(speed) < 0.03, np.nan, np.where(speed > 0, place, 2 - place))


def by_place(rate, lap):
    """Mean rate of every unit in each part of the lap, (place, unit)."""
    part = np.digitize(lap, PLACE_BINS[1:-1])
    return np.stack([rate[(part == k) & ~np.isnan(lap)].mean(axis=0) for k in range(len(PLACE_BINS) - 1)])


def label(ax, figure):
    """Say what each panel shows, where it shows it."""
    titles = {
        "spikes": "Spikes, units ordered by where on the track they fire most",
        "rates": "Rates, inferred from the spikes of all units",
        "latents": "The four largest latents: posterior mean and 95 % band",
        "place": "The rat, which the model has not seen",
        "counted": "Test trials along the track: counted",
        "predicted": "Test trials: predicted from other units",
        "plane": "The two largest latents, all 13.5 minutes",
    }
    for name, title in titles.items():
        ax[name].set_title(title, loc="left", fontsize="medium", color="#1A1A1A")
        ax[name].spines[["top", "right"]].set_visible(False)
        ax[name].set_xlabel("")
    ax["place"].set(xlim=ax["latents"].get_xlim(), xlabel="time (s)", yticks=[0, 1])
    ax["place"].set_yticklabels(["start", "end"])
    for height, (way, colour) in zip((0.2, 0.8, 0.5), WAYS.items()):
        ax["place"].text(1.01, height, way, color=colour, va="center", transform=ax["place"].transAxes)
    for name in ("counted", "predicted"):
        ax[name].invert_yaxis()
        ax[name].axvline(1.0, color="#6B6B6B", linewidth=0.8)
        ax[name].set(yticks=[], xticks=[0.5, 1.5], xticklabels=["running out", "running back"])
    ax["plane"].set(xlabel="latent 0", ylabel="latent 1")
    return figure
