"""Online change points: false alarms, delays, time a row, and activities told apart, beside energy distance.

``--quick`` takes about two minutes, everything about fifteen. Times are CPU time of one thread.
"""

import argparse
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.signal import argrelmax
from scipy.spatial.distance import cdist

import hidamari as hd
from hidamari.inference.online import Network, published_peaks
from hidamari.inference.online_threshold import calibrate

METHODS = ("focus", "cusum", "run_length", "onnc", "onnr")
LAG = 100


def energy_distance(one, two):
    """Squared energy distance of two samples, 2 E|X - Y| - E|X - X'| - E|Y - Y'|."""
    return 2.0 * cdist(one, two).mean() - cdist(one, one).mean() - cdist(two, two).mean()


@dataclass(frozen=True)
class EnergyWindow:
    """Energy distance of the newest rows from as many before them, as a detector that needs no future."""

    width: int = 50
    counts: bool = False

    def start(self, d, level, seed):
        """No rows yet."""
        return {"past": np.empty((0, d))}

    def run(self, state, z, threshold, restart):
        """Scores and changes of rows z."""
        score, change, begin = np.full(len(z), np.nan), np.full(len(z), -1), 0
        z = np.concatenate([state["past"], z])
        for t in range(2 * self.width, len(z) + 1):
            if t - begin < 2 * self.width:
                continue
            old, new = z[t - 2 * self.width : t - self.width], z[t - self.width : t]
            score[t - 1] = energy_distance(old, new)
            if score[t - 1] > threshold:
                change[t - 1], begin = t - self.width, t if restart else begin
        return score, change

    def budget(self, d):
        """Rows to simulate for a threshold."""
        return 100_000


# ------------------------------------------------------------------------------------ false alarms and delays

SHIFTS = {
    "mean 0.5 sd": lambda z: z + 0.5,
    "mean 1 sd": lambda z: z + 1.0,
    "mean 2 sd": lambda z: z + 2.0,
    "sd times 2": lambda z: 2.0 * z,
    "sd halved": lambda z: 0.5 * z,
}


def detect(method, y, threshold, seed=0):
    """Rows of the alarms of one stream, and the rows that had a score."""
    if method == "energy":
        z = (y - y[:200].mean(0)) / y[:200].std(0)
        score, change = EnergyWindow().run({"past": z[:0]}, z, threshold, True)
        return np.flatnonzero(change >= 0), len(y)
    model = hd.OnlineChangePoints(method, threshold=threshold, random_state=seed).fit(y)
    return model.alarm_rows_, len(y) - (0 if method in ("onnc", "onnr") else 200)


def threshold_of(method, d, patience):
    """Threshold for an average run length."""
    if method == "energy":
        return calibrate(EnergyWindow(), d, patience, (0.0,) * d, 200, 0)
    model = hd.OnlineChangePoints(method, average_run_length=patience)
    model.fit(np.random.default_rng(0).normal(size=(201, d)))
    return model.threshold_, model.threshold_error_


def false_alarms(method, d, patience, n_rows, rng):
    """Threshold, rows between false alarms of N(0, 1), and the standard error of that."""
    threshold, _ = threshold_of(method, d, patience)
    alarms = rows = 0
    for seed in range(max(n_rows // 20_000, 1)):
        hits, length = detect(method, rng.normal(size=(min(n_rows, 20_000), d)), threshold, seed)
        alarms, rows = alarms + len(hits), rows + length
    return threshold, rows / max(alarms, 1), rows / max(alarms, 1) / np.sqrt(max(alarms, 1))


def delays(method, d, threshold, change, n_runs, rng, ahead=1000):
    """Median rows from a change at 1000 to the next alarm, and the share found within two lags."""
    found = []
    for seed in range(n_runs):
        y = rng.normal(size=(1000 + ahead, d))
        y[1000:] = change(y[1000:])
        rows = detect(method, y, threshold, seed)[0]
        rows = rows[rows >= 1000]
        found.append(rows[0] - 1000 if len(rows) else np.inf)
    return np.median(found), np.mean(np.array(found) <= 2 * LAG)


def patience_table(args, rng):
    print("\n| d | method | threshold | rows between false alarms | " + " | ".join(SHIFTS) + " |")
    print("|---|---|---|---|" + "---|" * len(SHIFTS))
    for d in (1, 10):
        for method in (*METHODS, "energy"):
            slow = method in ("onnc", "onnr", "energy")
            n_rows = (100_000 if slow else 400_000) if args.quick else (600_000 if slow else 4_000_000)
            n_rows //= d if not slow else min(d, 3)
            n_rows //= 3 if method == "energy" else 1
            n_runs = 20 if args.quick else 30 if method == "energy" else 100
            threshold, between, error = false_alarms(method, d, args.patience, n_rows, rng)
            cells = []
            for change in SHIFTS.values():
                median, share = delays(method, d, threshold, change, n_runs, rng)
                cells.append(f"{median:.0f} ({100 * share:.0f} %)")
            line = f"| {d} | {method} | {threshold:.3g} | {between:.0f} ± {error:.0f} | "
            print(line + " | ".join(cells) + " |", flush=True)


# ------------------------------------------------------------------------------------------------ activities


def activities(seed, n_rows=3274, n_changes=17):
    """Three axes of an accelerometer worn by one person who changes activity, every 20th row of 20 Hz.

    An activity has its own posture (mean), vigour (spread of each axis) and rhythm, aliased by the thinning.
    """
    rng = np.random.default_rng(seed)
    posture = rng.normal(0.0, 4.0, (6, 3))
    vigour = np.exp(rng.uniform(np.log(0.5), np.log(5.0), (6, 3)))
    rhythm, size = rng.uniform(0.05, 0.5, 6), rng.uniform(0.0, 3.0, (6, 3))
    shares = rng.uniform(1.0, 2.0, n_changes + 1)
    ends = np.round(np.cumsum(shares) / shares.sum() * n_rows).astype(int)
    y, kind, begin = np.empty((n_rows, 3)), -1, 0
    for end in ends:
        kind = rng.choice([k for k in range(6) if k != kind])
        phase = 2 * np.pi * (rhythm[kind] * np.arange(begin, end)[:, None] + rng.random(3))
        y[begin:end] = posture[kind] + vigour[kind] * rng.normal(size=(end - begin, 3))
        y[begin:end] += size[kind] * np.sin(phase)
        begin = end
    return y, ends[:-1]


def area(peaks, heights, truth, margin=50):
    """Area under precision against recall as the height falls; a peak counts within ``margin`` rows."""
    left, hits, total = list(truth), 0, 0.0
    for n, peak in enumerate(np.asarray(peaks)[np.argsort(-heights)], 1):
        near = min(left, key=lambda t: abs(t - peak), default=None)
        if near is not None and abs(near - peak) <= margin:
            left.remove(near)
            hits += 1
            total += hits / n / len(truth)
    return total


def window_peaks(score, width):
    """Local maxima of a score and their heights."""
    peaks = argrelmax(score, order=width)[0]
    return peaks, score[peaks]


def by_energy(y, width=50):
    """Energy distance of the windows on either side of every row."""
    score = np.zeros(len(y))
    for t in range(width, len(y) - width):
        score[t] = energy_distance(y[t - width : t], y[t : t + width])
    return window_peaks(score, width)


def by_gaussian(y, width=50):
    """Likelihood ratio of mean and variance, axis by axis, of the windows on either side of every row."""
    score = np.zeros(len(y))
    for t in range(width, len(y) - width):
        one, two, both = y[t - width : t], y[t : t + width], y[t - width : t + width]
        score[t] = width * np.sum(2 * np.log(both.std(0)) - np.log(one.std(0)) - np.log(two.std(0)))
    return window_peaks(score, width)


def by_network(y, **options):
    """Peaks of the published procedure."""
    network = Network(running=False, **options)
    raw = network.divergence(network.start(y.shape[1], np.zeros(y.shape[1]), 0), np.ascontiguousarray(y))[0]
    score, peaks = published_peaks(raw, network.width, network.lag)
    return peaks, score[peaks]


FINDERS = {
    "energy distance, windows of 50": by_energy,
    "Gaussian likelihood ratio, windows of 50": by_gaussian,
    "onnc, window 10, Adam 0.003": partial(by_network, lag=50),
    "onnr, window 10, Adam 0.003": partial(by_network, lag=50, regression=True),
    "onnc, published defaults": partial(by_network, width=1, rate=0.1, adam=False),
    "onnr, published defaults": partial(by_network, width=1, rate=0.1, adam=False, regression=True),
}


def activity_table(args):
    n = 5 if args.quick else 30
    print(f"\n| {n} recordings of activities | area (mean) | (least) | seconds each |\n|---|---|---|---|")
    for name, find in FINDERS.items():
        areas, start = [], time.process_time()
        for seed in range(n):
            y, truth = activities(seed)
            areas.append(area(*find((y - y.mean(0)) / y.std(0)), truth))
        seconds = (time.process_time() - start) / n
        print(f"| {name} | {np.mean(areas):.3f} | {np.min(areas):.3f} | {seconds:.2f} |", flush=True)


# ------------------------------------------------------------------------------------------------------ time


def per_row(work, n, repeats=3):
    """Least CPU microseconds of one of n rows."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds) / n * 1e6


def time_table(rng):
    print("\n| method | likelihood | d | fit, us a row | update, us a row |\n|---|---|---|---|---|")
    for method in METHODS:
        for likelihood in ("gaussian", "poisson"):
            if likelihood == "poisson" and method in ("onnc", "onnr"):
                continue
            for d in (1, 20):
                y = rng.poisson(3.0, (20_000, d)).astype(float)
                y = y if likelihood == "poisson" else rng.normal(size=(20_000, d))
                model = hd.OnlineChangePoints(method, likelihood, threshold=1e9)
                n = 20_000 if method in ("focus", "cusum") else 3_000
                model.fit(y[:300])
                whole = per_row(partial(model.fit, y[:n]), n)
                single = per_row(lambda m=model, y=y: [m.update(row) for row in y[:1000]], 1000)
                print(f"| {method} | {likelihood} | {d} | {whole:.2f} | {single:.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--patience", type=float, default=10_000.0, help="average run length asked for")
    parser.add_argument("--only", choices=["patience", "activities", "time"])
    args = parser.parse_args()
    rng = np.random.default_rng(2026)
    if args.only in (None, "time"):
        time_table(rng)
    if args.only in (None, "activities"):
        activity_table(args)
    if args.only in (None, "patience"):
        patience_table(args, rng)


if __name__ == "__main__":
    main()
