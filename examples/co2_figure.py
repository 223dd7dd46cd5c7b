"""The figure of co2.py: the series with its gaps and forecast, the check on ten years, and the parts."""

import matplotlib.pyplot as plt
import numpy as np

import hidamari as hd

PARTS = ["trend", "season, once a year", "season, twice a year", "between years", "weeks"]
PANELS = [["all", "check"]] * 3 + [["gaps", "gaps"]] * 3 + [[part, part] for part in PARTS]
SHOWN = {"gaps": slice(1958, 1966), "check": slice(1988, None)}
TITLES = {
    "all": "43 years and the ten to come, learned from all weeks",
    "check": "The check: learned from the weeks before the line, carried on for ten years",
    "gaps": "Eight years: weeks that were not observed are shaded",
}


def draw(co2, model, forecast, split):
    """Figure of a model of all weeks, and of the forecast that one of the weeks before `split` made."""
    weeks = np.arange(co2.time[0], 2012.0, 7 / 365.25)
    parts = model.decompose(weeks).assign_coords(component=PARTS)
    parts["component_mean"][:, 0] += parts.prior_mean
    every = model.predict(weeks, observation=True)
    figure, ax = plt.subplot_mosaic(PANELS, figsize=(14, 13), layout="constrained")
    hd.plotting.prediction(every, co2, ax["all"])
    hd.plotting.prediction(every.sel(time=SHOWN["gaps"]), co2.sel(time=SHOWN["gaps"]), ax["gaps"])
    hd.plotting.prediction(forecast, co2.sel(time=SHOWN["check"]), ax["check"])
    ax["check"].axvline(split, color="#1A1A1A", linewidth=0.8)
    hd.plotting.components(parts, [ax[part] for part in PARTS])
    for name, title in TITLES.items():
        ax[name].set_title(title, loc="left", fontsize="medium", color="#1A1A1A")
        ax[name].set(xlabel="", ylabel="CO2 (ppm)")
    for name in PARTS:
        ax[name].set(xlabel="year" if name == PARTS[-1] else "", ylabel="ppm")
        ax[name].lines[0].set_linewidth(0.9)
        ax[name].tick_params(labelbottom=name == PARTS[-1])
    return figure
