"""Change points: false alarms without a change, localisation, spike trains, and coverage of intervals.

``--quick`` takes a minute or two with a tenth of the runs; everything half an hour on one core.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

import hidamari as hd

NOISE = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "t with 5 degrees": lambda rng, shape: rng.standard_t(5, size=shape),
    "AR(1), 0.5": lambda rng, shape: lfilter(
        [1.0], [1.0, -0.5], rng.normal(size=(shape[0] + 100, *shape[1:])), axis=0
    )[100:],
}


def hausdorff(one, two):
    """Largest distance from a change point of either set to the nearest of the other; NaN if one is empty."""
    if not len(one) or not len(two):
        return np.nan
    apart = np.abs(np.subtract.outer(np.asarray(one), np.asarray(two)))
    return float(max(apart.min(axis=0).max(), apart.min(axis=1).max()))


def quantile(errors, level):
    """Quantile of those errors that exist; NaN for none."""
    left = [error for error in errors if error == error]
    return float(np.quantile(left, level)) if left else np.nan


def without_change(runs, quick):
    """Share of series without a change in which none is found, defaults throughout."""
    rows = {}
    for name, draw in NOISE.items():
        for n in (200, 2000):
            for d in (1, 20, 100):
                rng = np.random.default_rng([n, d])
                none = [hd.DCDP(interval=None).fit(draw(rng, (n, d))).n_changes_ == 0 for _ in range(runs)]
                rows[f"{name}, {n} rows, {d} units"] = {"no change found": float(np.mean(none)), "runs": runs}
                print(rows[f"{name}, {n} rows, {d} units"], name, n, d, flush=True)
    return rows


def power(runs, quick):
    """Share of series with one change, halfway, in which exactly one is found, defaults throughout."""
    rows = {}
    for name, draw in NOISE.items():
        for d, size in ((1, 1.0), (1, 2.0), (20, 0.5)):
            rng = np.random.default_rng(d)
            step = size * (np.arange(400) >= 200)[:, None]
            found = [
                hd.DCDP(interval=None).fit(draw(rng, (400, d)) + step).change_points_ for _ in range(runs)
            ]
            rows[f"{name}, step {size} in {d} units"] = {
                "exactly one": float(np.mean([len(c) == 1 for c in found])),
                "median error": float(np.median([hausdorff(c, [200]) for c in found if len(c)] or [np.nan])),
            }
    return rows


def localisation(runs, quick):
    """Mean error times the squared size of the change: constant where errors are as small as they can be."""
    rows = {}
    length = 500 if quick else 5000
    rng = np.random.default_rng(0)
    sizes = (0.5, 1.0, 2.0)
    errors = []
    for size in sizes:
        own = []
        for _ in range(runs):
            true = (np.arange(1, 4) * length + rng.uniform(-0.3, 0.3, 3) * length).astype(int)
            level = size * np.repeat([0, 1, 0, 1], np.diff([0, *true, 4 * length]))
            model = hd.DCDP(robust=False, noise=1.0, interval=None).fit(rng.normal(size=4 * length) + level)
            own.append(hausdorff(model.change_points_, true))
        errors.append(np.nanmean(own))
        rows[f"step {size}, segments of {length}"] = {
            "mean error": float(errors[-1]),
            "error x step^2": float(errors[-1] * size**2),
            "failed": float(np.isnan(own).mean()),
        }
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    rows["slope of log error on log step"] = {"slope": float(slope)}
    return rows


def spikes(runs, quick):
    """Trains in bins of 1 ms, four segments of 10 s; defaults, and the penalty 2 log T."""
    rows = {}
    for low, high in ((5, 20), (5, 15), (10, 10)):
        for label, penalty in (("default", None), ("2 log T", 2.0 * np.log(40_000))):
            rng = np.random.default_rng([low, high])
            true = [10_000, 20_000, 30_000] if low != high else []
            rate = np.repeat([low, high, low, high], 10_000) / 1000.0
            right, errors = [], []
            for _ in range(runs):
                noise = "auto" if penalty is None else "independent"
                model = hd.DCDP("counts", penalty, noise=noise, interval=None).fit(rng.poisson(rate))
                right.append(model.n_changes_ == len(true))
                errors.append(hausdorff(model.change_points_, true))
            rows[f"{low} and {high} Hz, {label}"] = {
                "right number": float(np.mean(right)),
                "median error, ms": quantile(errors, 0.5),
                "90 % of errors below, ms": quantile(errors, 0.9),
            }
    return rows


def coverage(runs, quick):
    """How often 95 % intervals hold the change, given that the right number was found."""
    rows = {}
    cases = {
        "normal, step 0.5, 400 rows": (
            "mean",
            lambda rng: rng.normal(size=400) + 0.5 * (np.arange(400) >= 200),
        ),
        "normal, step 1, 400 rows": ("mean", lambda rng: rng.normal(size=400) + (np.arange(400) >= 200)),
        "normal, step 2, 400 rows": (
            "mean",
            lambda rng: rng.normal(size=400) + 2.0 * (np.arange(400) >= 200),
        ),
        "Poisson, 5 to 10, 400 rows": ("counts", lambda rng: rng.poisson(np.repeat([5, 10], 200))),
        "Poisson, 2 to 3, 400 rows": ("counts", lambda rng: rng.poisson(np.repeat([2, 3], 200))),
        "Poisson, 0.05 to 0.15, 1000 rows": ("counts", lambda rng: rng.poisson(np.repeat([0.05, 0.15], 500))),
        "standard deviation 1 to 2, 400 rows": (
            "mean_variance",
            lambda rng: rng.normal(size=400) * np.repeat([1.0, 2.0], 200),
        ),
        "AR(1), 0.5, step 3, 400 rows": (
            "mean",
            lambda rng: NOISE["AR(1), 0.5"](rng, (400, 1)) + 3.0 * (np.arange(400) >= 200)[:, None],
        ),
    }
    for name, (model, draw) in cases.items():
        for kind in ({}, {"n_changes": 1, "robust": False, "noise": "independent"}):
            rng = np.random.default_rng(1)
            held, size, right = [], [], 0
            for _ in range(runs):
                y = draw(rng)
                fitted = hd.DCDP(model, **kind).fit(y)
                if fitted.n_changes_ == 1:
                    first, last = fitted.intervals_[0]
                    held.append(first <= len(y) // 2 <= last)
                    size.append(last - first + 1)
                    right += 1
            label = "one change asked for, independent noise" if kind else "defaults"
            rows[f"{name}: {label}"] = {
                "coverage": float(np.mean(held)) if held else np.nan,
                "mean size": float(np.mean(size)) if held else np.nan,
                "one change found": right / runs,
            }
    ten = np.arange(1, 11) * 100
    for simultaneous in (False, True):
        rng = np.random.default_rng(2)
        held, size = [], []
        for _ in range(runs):
            y = rng.normal(size=1100) + 2.0 * (np.arange(1100) // 100 % 2)
            fitted = hd.DCDP(simultaneous=simultaneous).fit(y)
            if fitted.n_changes_ == 10:
                held.append(np.all((fitted.intervals_[:, 0] <= ten) & (ten <= fitted.intervals_[:, 1])))
                size.append(np.diff(fitted.intervals_).mean() + 1)
        rows[f"ten steps of 2, all held at once, simultaneous={simultaneous}"] = {
            "coverage": float(np.mean(held)) if held else np.nan,
            "mean size": float(np.mean(size)) if held else np.nan,
            "ten found": len(held) / runs,
        }
    return rows


PARTS = {
    "no change": (without_change, 200),
    "power": (power, 200),
    "localisation": (localisation, 100),
    "spikes": (spikes, 200),
    "coverage": (coverage, 1000),
}


def main():
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    parser.add_argument("--runs", type=int, help="so many runs of each part, instead of its own number")
    parser.add_argument("--json", type=Path, help="keep results in this file, beside those of other parts")
    arguments = parser.parse_args()
    kept = {}
    if arguments.json and arguments.json.exists():
        kept = json.loads(arguments.json.read_text(encoding="utf-8"))
    for name in arguments.parts:
        part, runs = PARTS[name]
        runs = arguments.runs or (max(1, runs // 10) if arguments.quick else runs)
        start = time.process_time()
        rows = part(runs, arguments.quick)
        print(f"\n## {name}: {part.__doc__} ({runs} runs, {time.process_time() - start:.0f} CPU s)\n")
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        print("| case | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")
        for case, row in rows.items():
            print(f"| {case} | " + " | ".join(f"{row.get(column, np.nan):.4g}" for column in columns) + " |")
        kept[name] = {case: {k: None if v != v else v for k, v in row.items()} for case, row in rows.items()}
        if arguments.json:
            arguments.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
