"""Autoregressions: time and error beside statsmodels, and the simulated experiments of the AR-Net paper.

Errors are 100 sum |w_hat - w| / sum (|w_hat| + |w|), the paper's sTPE, in medians over series. Its figures
(Triebe, Laptev, Rajagopal 2019) were read off its plots; its times are those of its machine.
"""

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from hidamari.inference.arnet_penalty import arnet_penalty
from hidamari.inference.autoregression import fit_exact, lag_gram, solve_exact
from hidamari.inference.sparse_autoregression import sparse_path

PAPER = {  # figure: {order: (AR-Net, classic AR)}
    "2": {3: (0.7, 0.7), 5: (0.8, 0.8), 10: (1.9, 1.9), 15: (3.1, 3.1), 20: (3.2, 3.2), 25: (3.65, 3.65)},
    "4": {
        3: (0.25, 0.25),
        5: (None, 0.6),
        10: (None, 1.4),
        15: (None, 1.95),
        20: (None, 2.7),
        25: (None, 3.3),
        100: (0.4, None),
        500: (0.65, None),
        1000: (0.8, None),
    },
    "6": {20: (3.2, 18.3)},
}
PAPER_SECONDS = {3: (29, 0.8), 10: (29, 10), 25: (29, 400), 100: (29, None), 1000: (30, None)}
SPARSE = np.array([0.2, 0.3, -0.5])
FAR = np.insert(np.zeros(7), [0, 1, 7], SPARSE)


def simulate(w: np.ndarray, n: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(n + 1000)
    return np.asarray(lfilter([1.0], [1.0, *-w], noise))[1000:]


def dense(p: int, seed: int) -> np.ndarray:
    """Random coefficients with sum |w| = 1 at most."""
    rng = np.random.default_rng(seed)
    w = rng.uniform(-1.0, 1.0, p)
    return w / max(np.abs(w).sum(), 1.0)


def error(coef: np.ndarray, w: np.ndarray) -> float:
    w = np.concatenate([w, np.zeros(len(coef) - len(w))])
    return float(100 * np.abs(coef - w).sum() / (np.abs(coef) + np.abs(w)).sum())


def one_step(y: np.ndarray, coef: np.ndarray, intercept: float) -> float:
    """Mean squared error of one step ahead."""
    left = np.asarray(lfilter([1.0, *-coef], [1.0], y))[len(coef) :] - intercept
    return float(np.mean(left**2))


def figure(name: str, n_series: int) -> dict:
    """Errors and test errors of one of the experiments, by order."""
    rows: dict = {}
    for p, (net, classic) in PAPER[name].items():
        found: dict[str, list] = {}
        for seed in range(n_series):
            n = 1000 if name == "6" else 100_000
            w = {"2": dense(p, seed), "4": SPARSE, "6": FAR}[name]
            y = simulate(w, n + n // 4, seed)
            train, test = y[:n], y[n:]
            gram = lag_gram(train, p)
            fits = {"least squares": solve_exact(gram)}
            if name != "2":
                fits["ebic"] = sparse_path(gram)
                fits["arnet"] = arnet_penalty(gram, min(3 / p, 1.0))
            if name == "6":  # the density is 3 / 20
                fits["arnet, density 0.015"] = arnet_penalty(gram, 0.015)
                fits["arnet, density 0.99"] = arnet_penalty(gram, 0.99)
            for method, fit in fits.items():
                own = error(fit.coef, w), one_step(test, fit.coef, fit.intercept)
                found.setdefault(method, []).append(own)
            found.setdefault("naive (last value)", []).append((None, float(np.mean(np.diff(test) ** 2))))
        rows[p] = {
            method: {
                "stpe": None if own[0][0] is None else float(np.median([a for a, _ in own])),
                "mse": float(np.median([b for _, b in own])),
            }
            for method, own in found.items()
        }
        rows[p] |= {"AR-Net (paper)": {"stpe": net}, "classic AR (paper)": {"stpe": classic}}
    return rows


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Least CPU time of several rounds, after one that compiles."""
    call()
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken)


def megabytes(call: Callable[[], object]) -> float:
    """Most memory that a call holds at once."""
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 1e6


def times(rounds: int, peers: bool) -> dict:
    """CPU seconds of a fit by rows and lags, and the memory of the exact one."""
    rows: dict = {}
    for T, p in [(10**5, 3), (10**5, 10), (10**5, 25), (10**5, 100), (10**5, 1000), (10**6, 1000)]:
        y = simulate(SPARSE, T, 0)
        row: dict = {"exact": seconds(lambda y=y, p=p: fit_exact(y, p), rounds)}
        row["ebic"] = seconds(lambda y=y, p=p: sparse_path(lag_gram(y, p)), rounds)
        row["arnet"] = seconds(lambda y=y, p=p: arnet_penalty(lag_gram(y, p), min(3 / p, 1.0)), rounds)
        if peers and p <= 100 and installed("statsmodels"):
            from statsmodels.tsa.ar_model import AutoReg

            row["statsmodels AutoReg"] = seconds(lambda y=y, p=p: AutoReg(y, p).fit(), 2)
        if T == 10**5 and p in PAPER_SECONDS:
            row["AR-Net (paper)"], row["classic AR (paper)"] = PAPER_SECONDS[p]
        row["memory of exact"] = {"MB": megabytes(lambda y=y, p=p: fit_exact(y, p))}
        rows[f"T={T} p={p}"] = row
    if "statsmodels AutoReg" in rows["T=100000 p=100"]:
        ratio = rows["T=100000 p=100"]["statsmodels AutoReg"] / rows["T=100000 p=1000"]["exact"]
        rows["AutoReg at p=100 over exact at p=1000, T=100000"] = {"ratio": {"times": ratio}}
    return rows


def installed(package: str) -> str | None:
    """Version of a package, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(results: dict) -> str:
    """Markdown of everything."""
    lines = []
    for name, rows in results.items():
        if name == "versions":
            continue
        lines += ["", f"**{name}**", ""]
        for case, row in rows.items():
            cells = []
            for method, own in row.items():
                if isinstance(own, dict):
                    numbers = [f"{k} {v:.3g}" for k, v in own.items() if v is not None]
                    cells += [f"{method}: {', '.join(numbers)}"] if numbers else []
                elif own is not None:
                    cells.append(f"{method}: {own:.4g} s")
            lines.append(f"- {case}: " + "; ".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--series", type=int, default=10, help="series for each order")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    options = parser.parse_args()
    results: dict = {"versions": {p: installed(p) for p in ("hidamari", "statsmodels")}}
    results["seconds"] = times(options.rounds, not options.no_peers)
    for name in PAPER:
        results[f"figure {name}"] = figure(name, options.series)
    if options.json:
        options.json.parent.mkdir(exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
