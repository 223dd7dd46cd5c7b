"""The tables of Li, Wang and Rinaldo (ICML 2023), run again with their random numbers.

Data are drawn as their notebooks draw them (legacy generator, seed 0; seed b for the univariate figure), four
segments, three changes. The rows "theirs" are what their notebooks print; "separate" repeats their programme,
"group" is the conquer step of the paper with our default lambdas and gammas. Error is the Hausdorff distance;
mean and standard deviation over the sets, numbers of sets with fewer, as many and more changes, the mean
error before the conquer step, CPU seconds a set. Covariances other than the identity are drawn through
LAPACK, and depend on its build.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hidamari.inference.dcdp_paper import paper_procedure

N_SEGMENTS = 4
Set = tuple[Any, Any, np.ndarray]  # first sample, second sample, true changes

# spacing, columns, amplitude, jitter, gammas, margin; error, sd, fewer, equal, more
MEAN = {
    "mean 50 p=20 kappa=15.8": (50, 20, 5.0, 15, (200, 300, 500), 2, (0.0, 0.0, 0, 100, 0)),
    "mean 50 p=20 kappa=3.16": (50, 20, 1.0, 15, (100, 200, 300), 1, (0.51, 0.768, 0, 100, 0)),
    "mean 50 p=20 kappa=1.58": (50, 20, 0.5, 15, (50, 100), 1, (8.30, 12.905, 8, 90, 2)),
    "mean 50 p=100 kappa=15.8": (50, 100, 5.0, 15, (300, 500), 2, (0.0, 0.0, 0, 100, 0)),
    "mean 50 p=100 kappa=3.16": (50, 100, 1.0, 15, (200, 300, 500), 1, (0.83, 0.872, 0, 100, 0)),
    "mean 200 p=100 kappa=1.58": (200, 100, 0.5, 60, (200, 300, 500), 1, (9.36, 29.955, 3, 97, 0)),
}
# spacing, columns, diagonal, jitter, grid, gammas, buffer and margin; error, sd, fewer, equal, more
COVARIANCE = {
    "covariance 100 p=10": (100, 10, 5.0, 5, 50, (100, 200, 300), (4, 4), (0.42, 0.635, 0, 100, 0)),
    "covariance 100 p=20": (100, 20, 5.0, 5, 50, (500, 600, 700), (25, 25), (0.66, 4.378, 0, 100, 0)),
    "covariance 500 p=5": (500, 5, 2.0, 150, 100, (100,), (10, 10), (4.95, 6.057, 0, 100, 0)),
    "covariance 500 p=10": (500, 10, 5.0, 150, 100, (500,), (20, 10), (0.27, 0.487, 0, 100, 0)),
    "covariance 500 p=20": (500, 20, 5.0, 150, 100, (900,), (20, 10), (0.03, 0.171, 0, 100, 0)),
}
# columns, amplitude, gammas, noise; error, sd, fewer, equal, more
REGRESSION = {
    "regression p=20 b=5": (20, 5.0, (400, 800), 0.0, (0.03, 0.171, 0, 100, 0)),
    "regression p=20 b=1": (20, 1.0, (100,), 0.0, (0.94, 5.173, 2, 98, 0)),
    "regression p=20 b=0.5": (20, 0.5, (50,), 0.0, (32.69, 26.09, 66, 34, 0)),
    "regression p=100 b=5": (100, 5.0, (100,), 0.0, (0.13, 0.39, 0, 100, 0)),
    "regression p=100 b=1": (100, 1.0, (50,), 0.0, (1.45, 8.59, 2, 98, 0)),
    "regression p=20 b=5, noise": (20, 5.0, (400, 800), 1.0, None),
    "regression p=20 b=1, noise": (20, 1.0, (100, 200), 1.0, None),
}
# spacing, step, gammas, grid; error of the figure
FIGURE = {
    "univariate 5000 5 Q=25": (5000, 5.0, (2000, 3000, 4000), 25, 0),
    "univariate 5000 5 Q=100": (5000, 5.0, (2000, 3000, 4000), 100, 0),
    "univariate 5000 5 Q=200": (5000, 5.0, (2000, 3000, 4000), 200, 0),
    "univariate 5000 0.25": (5000, 0.25, (50, 100), 100, 113),
    "univariate 5000 0.5": (5000, 0.5, (50, 100), 100, 26),
    "univariate 5000 1": (5000, 1.0, (50, 100), 100, 7),
    "univariate 5000 2": (5000, 2.0, (500, 1000), 100, 2),
    "univariate 5000 3": (5000, 3.0, (500, 1000), 100, 0.5),
    "univariate 500 0.5": (500, 0.5, (10, 50, 100), 100, 29),
    "univariate 500 0.75": (500, 0.75, (10, 50, 100), 100, 9),
    "univariate 500 1": (500, 1.0, (10, 50, 100), 100, 6),
    "univariate 500 2": (500, 2.0, (10, 50, 100), 100, 1.3),
    "univariate 500 3": (500, 3.0, (10, 50, 100), 100, 0.4),
}


def _lengths(rng: np.random.RandomState, spacing: int, jitter: float) -> np.ndarray:
    """Rows of the four segments, 4 spacing in all."""
    n = np.full(N_SEGMENTS, spacing) + rng.uniform(-jitter, jitter, N_SEGMENTS).astype(int)
    n[-1] = N_SEGMENTS * spacing - n[:-1].sum()
    return n


def _blocks(p: int, amplitude: float) -> np.ndarray:
    """Parameters of the segments, (4, p): five columns each."""
    theta = np.zeros((N_SEGMENTS, p))
    for t in range(N_SEGMENTS):
        theta[t, 5 * t : 5 * (t + 1)] = amplitude
    return theta


def mean_sets(spacing: int, p: int, amplitude: float, jitter: float, n_sets: int) -> Iterator[Set]:
    """Shifts of the mean."""
    rng, theta = np.random.RandomState(0), _blocks(p, amplitude)
    for _ in range(n_sets):
        n = _lengths(rng, spacing, jitter)
        x, second = (
            np.concatenate([rng.multivariate_normal(m, np.eye(p), k) for m, k in zip(theta, n)])
            for _ in range(2)
        )
        yield x, second, np.cumsum(n)[:-1]


def covariance_sets(spacing: int, p: int, diagonal: float, jitter: float, n_sets: int) -> Iterator[Set]:
    """Identity and a tridiagonal covariance in turn."""
    rng = np.random.RandomState(0)
    other = diagonal * np.eye(p) + 0.3 * (np.eye(p, k=1) + np.eye(p, k=-1))
    for _ in range(n_sets):
        n = _lengths(rng, spacing, jitter)
        x, second = (
            np.concatenate(
                [rng.multivariate_normal(np.zeros(p), (np.eye(p), other)[t % 2], k) for t, k in enumerate(n)]
            )
            for _ in range(2)
        )
        yield x, second, np.cumsum(n)[:-1]


def regression_sets(p: int, amplitude: float, noise: float, n_sets: int) -> Iterator[Set]:
    """Changes of coefficients; noise is drawn from a generator of its own."""
    rng, other, beta = np.random.RandomState(0), np.random.default_rng(1), _blocks(p, amplitude)
    for _ in range(n_sets):
        n = _lengths(rng, 50, 15.0)
        samples = []
        for _ in range(2):
            z = [rng.normal(0, 1, (k, p)) for k in n]
            y = np.concatenate([a @ b for a, b in zip(z, beta)])
            samples.append((np.concatenate(z), y + noise * other.standard_normal(len(y))))
        yield *samples, np.cumsum(n)[:-1]


def figure_sets(spacing: int, step: float, n_sets: int) -> Iterator[Set]:
    """Levels 0 and a step in turn, one column."""
    for b in range(n_sets):
        rng = np.random.RandomState(b)
        n = _lengths(rng, spacing, 0.3 * spacing)
        x, second = (
            np.concatenate([rng.multivariate_normal([m], np.eye(1), k) for m, k in zip((0, step) * 2, n)])
            for _ in range(2)
        )
        yield x, second, np.cumsum(n)[:-1]


def hausdorff(found: np.ndarray, true: np.ndarray) -> float:
    """Largest distance of a change, found or true, from the nearest of the other kind."""
    if not len(found):
        return np.inf
    gaps = np.abs(np.subtract.outer(found, true))
    return float(max(gaps.min(axis=0).max(), gaps.min(axis=1).max()))


def settings(name: str) -> tuple[Any, dict[str, Any], dict[str, Any], Any]:
    """Data sets as a function of their number, arguments of both runs, and the published figures."""
    if name in MEAN:
        spacing, p, amplitude, jitter, gammas, margin, theirs = MEAN[name]
        separate = {"lambdas": 0.1, "gammas": gammas, "min_length": 2, "margin": margin}
        return lambda n: mean_sets(spacing, p, amplitude, jitter, n), separate, {}, theirs
    if name in COVARIANCE:
        spacing, p, diagonal, jitter, grid, gammas, (buffer, margin), theirs = COVARIANCE[name]
        shared = {"model": "covariance", "n_grid": grid}
        separate = shared | {"lambdas": 0.0, "gammas": gammas, "min_length": buffer, "margin": margin}
        return lambda n: covariance_sets(spacing, p, diagonal, jitter, n), separate, shared, theirs
    if name in REGRESSION:
        p, amplitude, gammas, noise, theirs = REGRESSION[name]
        shared = {"model": "regression"}
        separate = shared | {"lambdas": 0.1, "gammas": gammas, "min_length": 2, "margin": 2}
        return lambda n: regression_sets(p, amplitude, noise, n), separate, shared, theirs
    spacing, step, gammas, grid, theirs = FIGURE[name]
    shared = {"n_grid": grid, "min_length": 10}
    separate = shared | {"lambdas": 0.0, "gammas": gammas}
    return lambda n: figure_sets(spacing, step, n), separate, shared, theirs


def run(sets: Iterator[Set], refine: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Errors over all sets."""
    errors, divided, counts, seconds = [], [], [], 0.0
    for first, second, true in sets:
        X, y = first if isinstance(first, tuple) else (first, None)
        start = time.process_time()
        found = paper_procedure(X, y=y, validation=second, refine=refine, **arguments)
        seconds += time.process_time() - start
        errors.append(hausdorff(found.change_points, true))
        divided.append(hausdorff(found.preliminary, true))
        counts.append(len(found.change_points))
    k = np.array(counts)
    return {
        "error": float(np.mean(errors)),
        "sd": float(np.std(errors)) if np.isfinite(errors).all() else None,
        "divide": float(np.mean(divided)),
        "counts": [int((k < 3).sum()), int((k == 3).sum()), int((k > 3).sum())],
        "seconds": seconds / len(errors),
        "errors": [int(e) if np.isfinite(e) else None for e in errors],
    }


def line(name: str, how: str, row: dict[str, Any]) -> str:
    """One row of the table."""
    counts = ", ".join(map(str, row["counts"])) if row["counts"] else ""
    sd, divide, seconds = (f"{row[k]:.4g}" if row[k] is not None else "" for k in ("sd", "divide", "seconds"))
    return f"| {name} | {how} | {row['error']:.4g} | {sd} | {counts} | {divide} | {seconds} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*MEAN, *COVARIANCE, *REGRESSION, *FIGURE]
    parser.add_argument("--only", nargs="+", default=names, help="beginnings of the names of rows")
    parser.add_argument("--refine", nargs="+", default=["separate", "group"])
    parser.add_argument("--n-sets", type=int, default=100)
    parser.add_argument("--json", type=Path, help="add the figures to this file")
    options = parser.parse_args()
    stored = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    print("| row | how | error | sd | fewer, equal, more | divide | CPU s |\n|---|---|---|---|---|---|---|")
    for name in (n for n in names if any(n.startswith(o) for o in options.only)):
        sets, separate, group, theirs = settings(name)
        if theirs is not None:
            error, sd, *counts = theirs if isinstance(theirs, tuple) else (theirs, None)
            published = {"error": error, "sd": sd, "counts": counts, "divide": None, "seconds": None}
            stored.setdefault(name, {})["theirs"] = published
            print(line(name, "theirs", published), flush=True)
        for refine in options.refine:
            row = run(sets(options.n_sets), refine, separate if refine == "separate" else group)
            stored.setdefault(name, {})[refine] = row
            print(line(name, refine, row), flush=True)
            if options.json:
                options.json.write_text(json.dumps(stored, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
