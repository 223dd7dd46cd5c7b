"""How hippocampal spikes depend on past spikes, beyond the place that the rat is at.

Poisson regressions in bins of 5 ms, learned from three of every four blocks of 10 s and judged on the others,
which are NaN while learning. Writes results/spike_history.png.
"""

import time
from pathlib import Path

import numpy as np
from hippocampus_figure import follow
from spike_history_figure import draw

import hidamari as hd
from hidamari.inference.spike_goodness import count_log_likelihood, time_rescaling
from hidamari.inference.spike_history import fit_spike_history, predict_rate
from hidamari.inference.spike_simulation import simulate

BIN_S = 0.005
LAGS = 60  # bins: 300 ms, more than two cycles of theta


def place_columns(lap, n=16):
    """Bumps along the lap, out from 0 to 1 and back from 1 to 2; all are 0 while the rat stays."""
    away = (lap[:, None] - np.arange(n) * 2 / n + 1) % 2 - 1
    return np.nan_to_num(np.exp(-0.5 * (away * n / 2) ** 2))


def rates_by_place(train, lap, n=30):
    """Mean rate of every unit at each part of the lap, of bins that are not NaN: place fields."""
    part = np.nan_to_num(np.digitize(lap, np.linspace(0, 2, n + 1)) * np.isfinite(lap)).astype(int)
    fields = np.stack([np.nanmean(train[part == k], axis=0) for k in range(part.max() + 1)])
    return np.maximum(fields, 1e-3 * BIN_S)[part] / BIN_S


def main():
    rat = hd.datasets.load_hippocampus()
    run = rat.counts(BIN_S, epochs=rat.epochs[0], min_spikes=700)
    counts, times = run.values.astype(float), run.time.values
    test = (times - times[0]) // 10 % 4 == 3
    train = np.where(test[:, None], np.nan, counts)
    lap = follow(rat, times)[1]
    place, mean = place_columns(lap), np.broadcast_to(np.nanmean(train, axis=0) / BIN_S, counts.shape)

    start = time.perf_counter()
    shared = {"n_basis": 6, "bin_s": BIN_S, "spread": 5.0, "ridge": 1.0}
    fits = {
        "own past": fit_spike_history(train, LAGS, coupling=False, **shared),
        "past of all": fit_spike_history(train, LAGS, **shared),
        "place, own past": fit_spike_history(train, LAGS, coupling=False, columns=place, **shared),
        "place, past of all": fit_spike_history(train, LAGS, columns=place, level=0.05, **shared),
    }
    rates = {"constant": mean, "rate by place": rates_by_place(train, lap)}
    for name, fit in fits.items():
        rates[name] = predict_rate(fit, counts, place if fit.columns.size else None)[0]
    print(f"{counts.shape[1]} units, {len(counts):,} bins, 4 models in {time.perf_counter() - start:.1f} s")

    constant = count_log_likelihood(counts[test], mean[test], BIN_S)
    score = {name: count_log_likelihood(counts[test], r[test], BIN_S) - constant for name, r in rates.items()}
    bits = {name: gain / counts[test].sum(axis=0) / np.log(2) for name, gain in score.items()}
    rng = np.random.default_rng(0)
    rescaled = {name: time_rescaling(counts[test], r[test], BIN_S, rng) for name, r in rates.items()}
    print("test blocks, mean over units        bits per spike   KS distance")
    for name in rates:
        print(f"  {name:35s} {bits[name].mean():.3f}            {rescaled[name].statistic.mean():.3f}")
    fit = fits["place, past of all"]
    print(f"couplings kept: {np.sum(fit.coupled ^ np.eye(len(fit.bias), dtype=bool))}")
    for name in ("own past", "past of all"):
        drawn = simulate(fits[name], 20_000, 20, rng, ceiling=100.0).mean(axis=1) / BIN_S
        away = (drawn > 3 * mean[0]).any(axis=1)
        print(f"20 simulations of 100 s, {name}: {away.sum()} ran away; rates of the others, spikes/s:")
        print("  simulated " + " ".join(f"{rate:5.1f}" for rate in drawn[~away].mean(axis=0)))
        print("  recorded  " + " ".join(f"{rate:5.1f}" for rate in mean[0]))
    Path("results").mkdir(exist_ok=True)
    draw(fit, run.unit.values, bits, rescaled).savefig("results/spike_history.png", dpi=100)
    print("wrote results/spike_history.png")


if __name__ == "__main__":
    main()
