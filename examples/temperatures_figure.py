"""The figure of temperatures.py: a forecast, the lags behind it, the spectrum, and errors by horizon."""

import matplotlib.pyplot as plt
import numpy as np

import hidamari as hd

TITLES = {
    "forecast": "A day ahead, after two days; dots: what came",
    "lags": "Weights of the lags that were chosen, with 95 % intervals; ticks: lags that were not",
    "spectrum": "Spectrum of the autoregression on the periodogram (dots: means over bands)",
    "errors": "Errors by how far ahead",
}
COLOURS = {"last value": "#6B6B6B", "same time yesterday": "#D55E00", "ARNet": "#0072B2"}


def draw(model, series, forecast, past, truth, errors, n):
    """Figure of a model of the first n rows, of one of its forecasts, and of errors by rows ahead."""
    figure, ax = plt.subplot_mosaic(
        [["forecast", "errors"], ["lags", "lags"], ["spectrum", "spectrum"]],
        figsize=(13, 11),
        layout="constrained",
        width_ratios=[1.6, 1],
    )
    hd.plotting.forecast(forecast, past, truth, ax["forecast"])
    hd.plotting.coefficients(model.coefficients(), ax["lags"])
    freqs = np.geomspace(288 / n, 144, 3000)
    hd.plotting.spectrum(model.spectrum(freqs), series[:n], ax["spectrum"])
    hours = np.arange(1, len(truth) + 1) / 12
    for name, values in errors.items():
        ax["errors"].plot(hours, values, color=COLOURS[name], linewidth=1.8, label=name)
    ax["errors"].set(
        xscale="log", yscale="log", xticks=[1 / 12, 1, 3, 6, 12, 24], yticks=[0.2, 0.5, 1, 2, 5, 10, 20]
    )
    ax["errors"].set_xticklabels(["5 min", "1", "3", "6", "12", "24"])
    ax["errors"].set_yticklabels(["0.2", "0.5", "1", "2", "5", "10", "20"])
    ax["errors"].minorticks_off()
    ax["errors"].set(xlabel="hours ahead", ylabel="root mean square error (°C)")
    ax["errors"].legend(frameon=False)
    ax["errors"].spines[["top", "right"]].set_visible(False)
    ax["forecast"].set(xlabel="days since 1 May 2017, UTC", ylabel="temperature (°C)")
    ax["lags"].set_xlabel("lag (rows of five minutes; 288 are a day)")
    ax["spectrum"].set(xlabel="frequency (cycles per day)", ylabel="power spectral density (°C$^2$ day)")
    for name, title in TITLES.items():
        ax[name].set_title(title, loc="left", fontsize="medium", color="#1A1A1A")
    return figure
