"""Co-smoothing of the bundled recordings: predict units not seen, in trials not trained on.

1. Every unit is counted in bins of 0.1 s; units with too few spikes are dropped; the recording is cut into
   segments of 5 or 10 s, and nothing is carried from one to the next.
2. Segment i is a test segment of fold i mod 4. The units are permuted by ``numpy.random.default_rng(0)`` and
   split into 4 groups. All 16 cells of fold and group are scored, so each spike is predicted exactly once.
3. In a cell a method sees all units of the training segments, and of the test segments the units outside the
   group. It returns the expected counts of the units in the group.
4. The score is sum[y log(rate / null) - (rate - null)] / (log 2 sum y) over all cells, in bits per spike.
   null is the unit's mean count over the training segments (co_bps), or over the test segments of its fold
   (co_bps_nlb, the Neural Latents Benchmark's). Rates are cut below at a thousandth of the first.

Whatever a method chooses, it chooses inside the training segments.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import baselines
import numpy as np

from hidamari import datasets

SETS = {  # name: (recording, bin_s, segment_s, min_spikes, epoch in seconds or None for all)
    "aplysia_a": (partial(datasets.load_aplysia, 2), 0.1, 5.0, 20, None),
    "aplysia_b": (partial(datasets.load_aplysia, 1), 0.1, 5.0, 20, None),
    "place_cells": (datasets.load_hippocampus, 0.1, 10.0, 100, "run"),
    "retina": (datasets.load_retinal_waves, 0.1, 5.0, 100, None),
    "rest": (datasets.load_hippocampus, 0.1, 10.0, 100, (890.0, 1980.0)),  # played no part in any choice
}
METHODS = {
    "mean": baselines.mean_rate,
    "population_rate": baselines.population_rate,
    "smooth_pca_glm": baselines.smooth_pca_glm,
    **{f"fa{k}": partial(baselines.factor_analysis, n_latents=k) for k in (2, 4, 8)},
    **{f"gpfa{k}": partial(baselines.gpfa, n_latents=k) for k in (2, 4, 6, 8)},
    **{f"cvhm{k}": partial(baselines.cvhm, n_latents=k) for k in (4, 8, 12)},
}
QUICK = ("mean", "population_rate", "fa4", "cvhm4")


def load(name):
    """Segments of one recording, list of (bin, unit) counts, and the width of a bin in seconds."""
    recording, bin_s, segment_s, min_spikes, epoch = SETS[name]
    recording = recording()
    epoch = recording.epochs[0] if epoch == "run" else epoch
    counts = recording.counts(bin_s, epochs=epoch, min_spikes=min_spikes).values
    length = round(segment_s / bin_s)
    return [counts[a : a + length] for a in range(0, len(counts) - length + 1, length)], bin_s


def evaluate(segments, fit, bin_s, n_folds=4, n_groups=4, seed=0):
    """Score every readout of a method over all cells of fold and group."""
    n_units = segments[0].shape[1]
    groups = np.array_split(np.random.default_rng(seed).permutation(n_units), n_groups)
    cells = {}  # readout: for each fold, (bits, bits over the test mean, spikes) of each unit
    for fold in range(n_folds):
        train = [s for i, s in enumerate(segments) if i % n_folds != fold]
        test = [s for i, s in enumerate(segments) if i % n_folds == fold]
        mean = np.concatenate(train).mean(axis=0)
        null = np.maximum(mean, 1.0 / sum(map(len, train)))
        for readout, predict in fit(train, bin_s).items():
            cell = np.zeros((3, n_units))
            for group in map(np.sort, groups):
                seen = np.setdiff1d(np.arange(n_units), group)
                rate = np.concatenate(predict([s[:, seen] for s in test], seen, group))
                y = np.concatenate(test)[:, group]
                rate = np.maximum(rate, 1e-3 * null[group])
                cell[0, group] = baselines.bits_per_spike(y, rate, null[group])
                cell[1, group] = baselines.bits_per_spike(y, rate, np.maximum(y.mean(axis=0), 1e-12))
                cell[2, group] = y.sum(axis=0)
            cells.setdefault(readout, []).append(cell)
    return {readout: summarise(np.array(folds)) for readout, folds in cells.items()}


def summarise(folds):
    """Reduce bits and spikes, (fold, 3, unit), to the scores that are kept."""
    bits, bits_nlb, spikes = folds.sum(axis=0)
    per_fold = folds.sum(axis=2)
    unit = bits[spikes > 0] / spikes[spikes > 0]
    scores = {
        "co_bps": bits.sum() / spikes.sum(),
        "co_bps_nlb": bits_nlb.sum() / spikes.sum(),
        "fold_sd": np.std(per_fold[:, 0] / per_fold[:, 2], ddof=1),
        "unit_median": np.median(unit),
        "unit_share_positive": (unit > 0).mean(),
    }
    return {name: round(float(score), 4) for name, score in scores.items()}


def table(results):
    """Write results as Markdown: co-bps, the standard deviation over folds in brackets."""
    sets = [name for name in SETS if any(key.startswith(f"{name}/") for key in results)]
    lines = ["| method | " + " | ".join(sets) + " |", "|---" * (1 + len(sets)) + "|"]
    for row in dict.fromkeys(key.split("/")[1] for key in results):
        cells = [results.get(f"{name}/{row}") for name in sets]
        text = [c and f"{c['co_bps']:+.3f} ({c['fold_sd']:.2f})" for c in cells]
        lines.append(f"| {row} | " + " | ".join(t or "-" for t in text) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0], help="of the groups of units; 0 is standard"
    )
    parser.add_argument("--quick", action="store_true", help=f"two short sets, methods {', '.join(QUICK)}")
    parser.add_argument("--json", type=Path, help="keep the scores here, and show those already there")
    options = parser.parse_args()
    sets = ["aplysia_a", "aplysia_b"] if options.quick else options.sets
    methods = QUICK if options.quick else options.methods
    results = {}
    if options.json and options.json.exists():
        results = json.loads(options.json.read_text())
    for name in sets:
        segments, bin_s = load(name)
        for method in methods:
            for seed in options.seeds:
                start = time.perf_counter()
                scores = evaluate(segments, METHODS[method], bin_s, seed=seed)
                seconds = round(time.perf_counter() - start, 1)
                for readout, score in scores.items():
                    row = " ".join(filter(None, [method, readout, f"seed {seed}" if seed else ""]))
                    results[f"{name}/{row}"] = {**score, "seconds": seconds}
                    print(
                        f"{name:12s} {row:20s} {score['co_bps']:+.4f} bits/spike  {seconds:.0f} s", flush=True
                    )
                if options.json:
                    options.json.parent.mkdir(exist_ok=True)
                    options.json.write_text(json.dumps(results, indent=1) + "\n")
    print("\n" + table(results))


if __name__ == "__main__":
    main()
