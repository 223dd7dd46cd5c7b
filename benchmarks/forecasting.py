"""Forecasts of series by ARNet as it comes, beside the last value, the last season and statsmodels' AutoReg.

    python benchmarks/forecasting.py FOLDER [--held-back] [--json FILE]

FOLDER holds tables with the columns ds and y; shorter series come with the package and with statsmodels. A
model is fitted to the first 90 % of a series; then every row of the rest is a place to forecast from, with
all rows before it known and the coefficients held. Missing values are filled in by straight lines, for all
alike. AutoReg takes the order of least BIC up to 12 (rows / 100)^(1/4), Schwert's rule: each order is one
dense regression, so that the lags of a season are out of its reach. The two series of HELD_BACK were not
looked at before everything else was settled.
"""

import argparse
import csv
import json
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import hidamari as hd
from hidamari.inference.forecast import forecast_covariance, recursive_forecast

SERIES = {  # name: steps ahead, rows of a season
    "yosemite_temps": (12, 288),
    "SF_hospital_load": (24, 168),
    "price_ercot_dam": (24, 24),
    "river_flow_saugeen": (12, 365),
    "sunspots": (5, 11),
    "airline": (12, 12),
}
HELD_BACK = {"co2": (12, 52), "elnino": (12, 12)}
Z90 = 1.6448536269514722


def load(name: str, folder: Path) -> np.ndarray:
    """A series without holes."""
    if name == "elnino":
        from statsmodels.datasets import elnino

        y = np.asarray(elnino.load_pandas().data, dtype=float)[:, 1:].reshape(-1)
    elif (folder / f"{name}.csv").exists():
        with open(folder / f"{name}.csv", encoding="utf-8") as file:
            y = np.array([float(row["y"] or "nan") for row in csv.DictReader(file)])
    else:
        y = np.asarray(getattr(hd.datasets, f"load_{name}")().values, dtype=float).reshape(-1)
    seen = np.isfinite(y)
    return np.interp(np.arange(len(y)), np.flatnonzero(seen), y[seen])


def ours(y: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Weights of lags 1, 2, ..., intercept and variance of ARNet."""
    model = hd.ARNet().fit(y)
    weights = np.zeros(int(model.lags_[-1]))
    weights[model.lags_ - 1] = model.coef_[0]
    level = float(model.intercept_[0] + model.centre_[0] * (1.0 - weights.sum()))
    return weights[: np.flatnonzero(weights).max(initial=0) + 1], level, float(model.sigma2_[0])


def theirs(y: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The same of AutoReg with the order of least BIC."""
    from statsmodels.tsa.ar_model import ar_select_order

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = ar_select_order(y, int(12 * (len(y) / 100) ** 0.25), ic="bic").model.fit()
    return np.asarray(fit.params)[1:], float(fit.params[0]), float(fit.sigma2)


def errors(means: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Root mean square errors of the first step and of all."""
    squares = (means - truth) ** 2
    return {"one step": float(np.sqrt(squares[:, 0].mean())), "all steps": float(np.sqrt(squares.mean()))}


def compare(y: np.ndarray, steps: int, season: int) -> dict:
    """Everything about one series."""
    n = int(0.9 * len(y))
    origins = np.arange(n, len(y) - steps + 1)
    truth = sliding_window_view(y, steps)[origins]
    rows: dict = {
        "last value": errors(np.repeat(y[origins - 1, None], steps, axis=1), truth),
        "last season": errors(y[origins[:, None] + np.arange(steps) % season - season], truth),
    }
    for name, fit in {"AutoReg": theirs, "ARNet": ours}.items():
        start = time.process_time()
        weights, level, sigma2 = fit(y[:n])
        seconds = time.process_time() - start
        history = sliding_window_view(y, len(weights))[origins - len(weights)]
        means = recursive_forecast(weights, history, np.full(steps, level))
        sd = np.sqrt(np.diag(forecast_covariance(weights, sigma2, steps)))
        held = np.abs(truth - means) <= Z90 * sd
        rows[name] = errors(means, truth) | {
            "held, one step": float(held[:, 0].mean()),
            "held": float(held.mean()),
            "lags": int(np.count_nonzero(weights)),
            "longest": len(weights),
            "cpu_s": seconds,
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--held-back", action="store_true", help="also the two series kept to the end")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    options = parser.parse_args()
    ours(np.random.default_rng(0).standard_normal(500).cumsum())  # compiles
    results: dict = {"versions": {name: version(name) for name in ("hidamari", "statsmodels")}}
    print(
        "| series | steps | method | one step | all steps | in 90 % intervals: one step, all | lags | CPU s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, (steps, season) in (SERIES | (HELD_BACK if options.held_back else {})).items():
        results[name] = compare(load(name, options.folder), steps, season)
        for method, row in results[name].items():
            cells = f"| {name} | {steps} | {method} | {row['one step']:.4g} | {row['all steps']:.4g} |"
            if "lags" in row:
                cells += f" {row['held, one step']:.3f}, {row['held']:.3f} | {row['lags']} of"
                cells += f" {row['longest']} | {row['cpu_s']:.2f} |"
            else:
                cells += " | | |"
            print(cells, flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
