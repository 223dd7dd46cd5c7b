"""Worst errors of every form of the core on the torture grid, against 50-digit arithmetic.

    python benchmarks/extremes.py [--seed 0]

The grid: Matern order 0..6, lengthscale over mean gap 1e-6..1e8, noise over prior variance 1e-12..1e6, and
T = 20 irregular times. Printed for each cell: the relative error of the posterior variance (the worst row),
of the mean (relative to its largest) and of the log evidence; N counts the cases with a NaN.
"""

import argparse
import sys
from functools import cache
from pathlib import Path

import numpy as np

from hidamari.statespace import kalman
from hidamari.statespace.kernels import Matern
from hidamari.statespace.types import Readings, Sites

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import oracles

ORDERS = range(7)
LENGTHSCALES = (1e-6, 1e-2, 1.0, 1e2, 1e4, 1e8)
NOISES = (1e-12, 1e-8, 1e-4, 1.0, 1e6)
FORMS = ("covariance", "bidirectional", "rts", "square_root", "square_root_float32")


def answer(form, ss, y, R):
    """Mean, variance and log evidence in one form."""
    sites = Sites((y / R)[:, None], np.full((len(y), 1), 1 / R))
    readings = Readings(y[:, None], np.full((len(y), 1), R))
    if form in ("bidirectional", "rts"):
        found = kalman.smooth(ss, sites, method=form, form="covariance")
        return found.mean[:, 0], found.cov[:, 0], np.nan
    found, lml = kalman.infer(ss, readings, form=form)
    return found.mean[:, 0], found.cov[:, 0], lml


def errors(found, exact):
    """Relative errors of variance, mean and log evidence."""
    mean, var, lml = exact
    return (
        np.max(np.abs(found[1] - var) / var),
        np.max(np.abs(found[0] - mean)) / np.max(np.abs(mean)),
        np.abs(found[2] - lml) / np.abs(lml),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    rng = np.random.default_rng(parser.parse_args().seed)
    times = np.cumsum(rng.integers(1, 2**11, 20)) / 2**10  # gaps are exact in binary, and 1 on average
    worst, failed = {}, {}
    for order in ORDERS:
        for lengthscale in LENGTHSCALES:
            kernel = cache(oracles.matern_mp(order, lengthscale))
            path = oracles.draw_mp(kernel, times, rng)
            ss = Matern(order, lengthscale).state_space(times)
            for noise in NOISES:
                y = path + np.sqrt(noise) * rng.standard_normal(20)
                exact = oracles.gp_mp(kernel, times, y, noise)
                scale = "ell<=1" if lengthscale <= 1 else "ell=1e2" if lengthscale == 1e2 else "ell>=1e4"
                cell = f"{scale} r{'>=1' if noise >= 1 else f'={noise:.0e}'}"
                for form in FORMS:
                    error = np.array(errors(answer(form, ss, y, noise), exact))
                    key = form, cell
                    worst[key] = np.fmax(worst.get(key, 0.0), error)
                    failed[key] = failed.get(key, 0) + int(np.isnan(error[:2]).any())
    cells = list(dict.fromkeys(cell for _, cell in worst))
    for index, name in enumerate(("variance", "mean", "log evidence")):
        print(f"\n{name:22s}" + "".join(f"{cell:>18s}" for cell in cells))
        for form in FORMS:
            values = [
                f"{worst[form, c][index]:.0e}{f' {failed[form, c]}N' if failed[form, c] else ''}"
                for c in cells
            ]
            if not (index == 2 and form in ("bidirectional", "rts")):
                print(f"{form:22s}" + "".join(f"{v:>18s}" for v in values))


if __name__ == "__main__":
    main()
