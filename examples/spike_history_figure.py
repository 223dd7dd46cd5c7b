"""The figure of spike_history.py: filters with bands, couplings, rescaled intervals, and scores."""

import matplotlib.pyplot as plt
import numpy as np

from hidamari.inference.spike_history import filter_errors, history_filters

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
GREY = "#6B6B6B"


def draw(fit, units, bits, rescaled):
    """Figure of one fit, and of the scores of all models."""
    figure, ax = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    N = len(fit.bias)
    draw_filters(ax[0, 0], fit, units, [(n, n) for n in np.argsort(fit.bias_errors)[:3]])
    ax[0, 0].set_title("A unit's rate after a spike of its own, 95 % bands", loc="left", fontsize="medium")
    size = np.where(np.eye(N, dtype=bool), 0.0, np.einsum("nmk,nmk->nm", fit.weights, fit.weights))
    evidence = size / (np.einsum("nmkk->nm", fit.weight_cov) + (size == 0))
    strongest = np.argsort(evidence, axis=None)[::-1][:3]
    draw_filters(ax[0, 1], fit, units, [np.unravel_index(at, (N, N)) for at in strongest])
    ax[0, 1].set_title(
        "after a spike of another: the three clearest couplings", loc="left", fontsize="medium"
    )
    draw_quantiles(ax[1, 0], rescaled)
    names = list(bits)[::-1]
    for at, name in enumerate(names):
        ax[1, 1].scatter(bits[name], np.full(N, at), color=GREY, s=12, alpha=0.6, linewidth=0)
        ax[1, 1].plot(np.mean(bits[name]), at, "|", color=COLOURS[0], markersize=22, markeredgewidth=3)
    ax[1, 1].set(
        yticks=range(len(names)),
        yticklabels=names,
        ylim=(-0.6, len(names) - 0.4),
        xlabel="bits per spike in test blocks",
    )
    ax[1, 1].set_title("What models foretell: units (grey) and their mean", loc="left", fontsize="medium")
    for panel in ax.flat:
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def draw_filters(ax, fit, units, pairs):
    """Factors of the rate by lag."""
    lag = np.arange(1, len(fit.basis) + 1) * fit.bin_s * 1e3
    filters, errors = history_filters(fit), filter_errors(fit)
    for (unit, source), colour in zip(pairs, COLOURS):
        h, e = filters[unit, source], 1.96 * errors[unit, source]
        text = f"unit {units[unit]}" + (f" after {units[source]}" if unit != source else "")
        ax.plot(lag, np.exp(h), color=colour, label=text)
        ax.fill_between(lag, np.exp(h - e), np.exp(h + e), color=colour, alpha=0.15, linewidth=0)
    ax.axhline(1.0, color=GREY, linewidth=0.8)
    ax.set(xlabel="time since the spike (ms)", ylabel="factor of the rate", yscale="log")
    limits = ax.get_ylim()
    ticks = [0.125, 0.25, 0.5, 1, 2, 4]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_ylim(limits)
    ax.legend(frameon=False, loc="upper right")


def draw_quantiles(ax, rescaled):
    """How far rescaled intervals lie from uniform ones, for the unit of most spikes."""
    unit = int(np.argmax([len(u) for u in next(iter(rescaled.values())).uniform]))
    for name, colour in zip(("constant", "rate by place", "place, own past", "place, past of all"), COLOURS):
        u = np.sort(rescaled[name].uniform[unit])
        ax.plot(u, np.arange(1, len(u) + 1) / len(u) - u, color=colour, label=name)
    bound = rescaled["constant"].bound[unit]
    ax.fill_between([0, 1], -bound, bound, color=GREY, alpha=0.2, linewidth=0)
    ax.set(xlabel="rescaled interval, uniform if the model holds", ylabel="distribution less uniform")
    ax.set_title("Kolmogorov-Smirnov test of one unit, and its 95 % band", loc="left", fontsize="medium")
    ax.legend(frameon=False)
