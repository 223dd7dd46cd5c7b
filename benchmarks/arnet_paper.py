"""Figures 2 to 8 of the AR-Net paper once more: the paper's route, exact and sparse solutions, naive ones.

Errors of coefficients are 100 sum |w_hat - w| / sum (|w_hat| + |w|), the paper's sTPE. Both errors are
medians over series. The paper's values (Triebe, Laptev, Rajagopal 2019) were read off its plots, to some
0.1; its classic AR takes times that least squares does not.

sgd: the iterate that training ends with, with the paper's penalty and its c = 0.01; bic: c chosen by BIC,
with the same density; polished: as bic, ended on the exact or sparse solution of the moments.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from hidamari.inference.ar_network import network_forecast, train
from hidamari.inference.arnet_penalty import arnet_penalty
from hidamari.inference.autoregression import fit_exact, lag_gram
from hidamari.inference.sparse_autoregression import sparse_path

SPARSE = np.array([0.2, 0.3, -0.5])
FAR = np.insert(np.zeros(7), [0, 1, 7], SPARSE)
PAPER = {  # figure: {lags of the model: {method: value}}
    "2a": {
        p: {"AR-Net (paper)": e, "classic AR (paper)": e}
        for p, e in {3: 0.7, 5: 0.8, 10: 1.9, 15: 3.1, 20: 3.2, 25: 3.65}.items()
    },
    "2b": {
        p: {"AR-Net (paper)": e, "classic AR (paper)": e}
        for p, e in {3: 1.0, 5: 1.001, 10: 1.0, 15: 0.998, 20: 0.998, 25: 0.995}.items()
    },
    "3": {20: {"AR-Net (paper)": 0.005, "classic AR (paper)": 0.005}},
    "4": {
        3: {"AR-Net (paper)": 0.25, "classic AR (paper)": 0.25},
        10: {"AR-Net (paper)": 0.35, "classic AR (paper)": 1.4},
        25: {"AR-Net (paper)": 0.35, "classic AR (paper)": 3.3},
        100: {"AR-Net (paper)": 0.35},
        500: {"AR-Net (paper)": 0.65},
        1000: {"AR-Net (paper)": 0.8},
    },
    "5": {p: {"AR-Net (paper)": 1.0} for p in (3, 10, 25, 100, 500, 1000)},
    "6": {20: {"AR-Net (paper)": 3.2, "classic AR (paper)": 18.3}},
    "7": {20: {}},
    "8": {
        3: {"AR-Net (paper)": 29.0, "classic AR (paper)": 0.8},
        10: {"AR-Net (paper)": 29.0, "classic AR (paper)": 10.0},
        25: {"AR-Net (paper)": 29.0, "classic AR (paper)": 400.0},
        100: {"AR-Net (paper)": 29.0},
        1000: {"AR-Net (paper)": 30.0},
    },
}
WHAT = {
    "2a": "error of coefficients, order known, 100,000 rows",
    "2b": "squared error of one step, the same series",
    "3": "largest error of one coefficient, one AR(20)",
    "4": "error of coefficients, three lags, more in the model",
    "5": "squared error of one step, the same series",
    "6": "error of coefficients, lags 1, 3, 10 of 20, 1,000 rows",
    "7": "squared error of one step, the same series",
    "8": "seconds of a fit, 100,000 rows, compiled",
}
Fit = tuple[np.ndarray, float]


def simulate(w: np.ndarray, n: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(n + 1000)
    return lfilter([1.0], [1.0, *-w], noise)[1000:]


def dense(p: int, seed: int) -> np.ndarray:
    """Random coefficients with sum |w| = 1 at most."""
    w = np.random.default_rng(1000 + seed).uniform(-1.0, 1.0, p)
    return w / max(np.abs(w).sum(), 1.0)


def error(coef: np.ndarray, w: np.ndarray) -> float:
    w = np.append(w, np.zeros(len(coef) - len(w)))
    return float(100 * np.abs(coef - w).sum() / (np.abs(coef) + np.abs(w)).sum())


def one_step(y: np.ndarray, coef: np.ndarray, intercept: float) -> float:
    left = lfilter([1.0, *-coef], [1.0], y)[len(coef) :] - intercept
    return float(np.mean(left**2))


def methods(p: int, sparse: bool, known: float) -> dict[str, Callable[[np.ndarray], Fit]]:
    """Fits by name: coefficients of lags 1..p and intercept from a series."""

    def network(**given) -> Callable[[np.ndarray], Fit]:
        def fit(y: np.ndarray) -> Fit:
            found = train(y, p, **given)
            return found.coef[0], float(found.intercept[0])

        return fit

    def moments(solve: Callable) -> Callable[[np.ndarray], Fit]:
        def fit(y: np.ndarray) -> Fit:
            found = solve(y)
            return found.coef, found.intercept

        return fit

    exact = {"least squares": moments(lambda y: fit_exact(y, p))}
    if not sparse:
        return {"sgd": network(polish=False), "sgd, polished": network()} | exact
    own = {"penalty": "arnet", "sparsity": known}
    return {
        "sgd": network(**own, polish=False),
        "sgd, bic": network(**own, alpha="bic", polish=False),
        "sgd, polished": network(**own, alpha="bic"),
        "arnet on moments": moments(lambda y: arnet_penalty(lag_gram(y, p), known)),
        "ebic": moments(lambda y: sparse_path(lag_gram(y, p))),
    } | exact


def figure(kind: str, p: int, n_series: int) -> tuple[dict, dict, dict]:
    """Median errors of coefficients and of one step, and largest error of one coefficient, by method."""
    n = 1000 if kind == "far" else 100_000
    shares, squares, largest = {}, {}, {}
    for seed in range(n_series):
        w = {"dense": dense(p, seed), "sparse": SPARSE, "far": FAR}[kind]
        y = simulate(w, n + max(n // 4, 1000), 5000 + seed)
        past, coming = y[:n], y[n:]
        known = min(3 / p, 1.0)
        for name, fit in methods(p, kind != "dense" and known < 1.0, known).items():
            coef, level = fit(past)
            shares.setdefault(name, []).append(error(coef, w))
            squares.setdefault(name, []).append(one_step(coming, coef, level))
            padded = np.append(w, np.zeros(p - len(w)))
            largest.setdefault(name, []).append(float(np.abs(coef - padded).max()))
        squares.setdefault("last value", []).append(float(np.mean(np.diff(coming) ** 2)))
        squares.setdefault("mean", []).append(float(np.var(coming)))
        squares.setdefault("true coefficients", []).append(one_step(coming, w, 0.0))
    return tuple({m: float(np.median(v)) for m, v in own.items()} for own in (shares, squares, largest))


def seconds(fit: Callable[[], object], rounds: int) -> float:
    """Least CPU time of several rounds, after one that compiles."""
    fit()
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        fit()
        taken.append(time.process_time() - start)
    return min(taken)


def times(p: int, rounds: int) -> dict:
    y = simulate(SPARSE, 100_000, 0)
    found = {
        name: seconds(lambda fit=fit: fit(y), rounds)
        for name, fit in methods(p, p > 3, min(3 / p, 1.0)).items()
    }
    try:
        from statsmodels.tsa.ar_model import AutoReg
    except ImportError:
        return found
    if p <= 100:
        found["statsmodels AutoReg"] = seconds(lambda: AutoReg(y, p).fit(), 1)
    return found


def threshold(n: int, seed: int) -> np.ndarray:
    """A threshold autoregression, noise of variance 0.25."""
    e = 0.5 * np.random.default_rng(seed).standard_normal(n + 500)
    y = np.zeros(n + 500)
    for t in range(2, n + 500):
        w, v = (0.7, 0.1) if y[t - 2] <= 0.0 else (-0.6, -0.3)
        y[t] = 0.5 + w * y[t - 1] + v * y[t - 2] + e[t]
    return y[500:]


def exponential(n: int, seed: int) -> np.ndarray:
    """An exponential autoregression, noise of variance 1."""
    e = np.random.default_rng(seed).standard_normal(n + 500)
    y = np.zeros(n + 500)
    for t in range(2, n + 500):
        near = np.exp(-(y[t - 1] ** 2))
        y[t] = (0.5 + 0.9 * near) * y[t - 1] - (0.8 + 0.4 * near) * y[t - 2] + e[t]
    return y[500:]


def hidden(n_series: int) -> dict:
    """Squared errors of hidden layers, drawn in Figure 1 and never evaluated, beside the linear ones."""
    cases = {
        "threshold AR": threshold,
        "exponential AR": exponential,
        "linear AR(3)": lambda n, seed: simulate(SPARSE, n, seed),
    }
    rows = {}
    for name, draw in cases.items():
        found: dict[str, list] = {}
        for seed in range(n_series):
            y = draw(25_000, seed)
            past, coming = y[:20_000], y[20_000:]
            history = np.lib.stride_tricks.sliding_window_view(coming[:-1], 5)
            for method, units in (("linear", ()), ("hidden=(32,)", (32,)), ("hidden=(32, 16)", (32, 16))):
                fit = train(past, 5, hidden=units, random_state=seed)
                left = network_forecast(fit, history)[:, 0] - coming[5:]
                found.setdefault(method, []).append(float(np.mean(left**2)))
            found.setdefault("last value", []).append(float(np.mean(np.diff(coming) ** 2)))
        rows[name] = {method: float(np.median(own)) for method, own in found.items()}
    return rows


def table(results: dict) -> str:
    """Markdown of all figures, one table each."""
    lines = []
    for name, rows in results.items():
        if name == "versions":
            continue
        found = list(dict.fromkeys(m for row in rows.values() for m in row))
        lines += ["", f"**{name}**" + (f": {WHAT[name[7:]]}" if name[7:] in WHAT else ""), ""]
        lines += ["| | " + " | ".join(map(str, rows)) + " |", "|---" * (len(rows) + 1) + "|"]
        for method in found:
            cells = [f"{row[method]:.4g}" if method in row else "-" for row in rows.values()]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--series", type=int, default=10, help="series for each order")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="keep the figures here")
    options = parser.parse_args()
    results: dict = {"versions": {p: version(p) for p in ("hidamari", "jax", "optax", "statsmodels")}}
    results |= {f"figure {name}": {} for name in PAPER}

    def keep(name: str, p: int, own: dict) -> None:
        results[f"figure {name}"][p] = PAPER[name].get(p, {}) | own

    for p in PAPER["2a"]:
        shares, squares, largest = figure("dense", p, options.series)
        keep("2a", p, shares)
        keep("2b", p, squares)
        if p == 20:
            keep("3", p, largest)
    for p in PAPER["4"]:
        shares, squares, _ = figure("sparse", p, options.series)
        keep("4", p, shares)
        keep("5", p, squares)
    shares, squares, _ = figure("far", 20, options.series)
    keep("6", 20, shares)
    keep("7", 20, squares)
    for p in PAPER["8"]:
        keep("8", p, times(p, options.rounds))
    results["hidden layers, squared error of one step"] = hidden(min(options.series, 5))
    if options.json:
        options.json.parent.mkdir(exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
