"""The Hopper sequence that the authors of MGPVAE ship, with the frames they hide: 389 of 1,000 are seen.

    python benchmarks/hopper.py sequence.npz [--methods NAME ...] [--json FILE]

The file is theirs (MIT): github.com/harrisonzhu508/MGPVAE, model_checkpoints/mujoco/304.npz, with the arrays
`sequence` (1000, 14) and `observed` (1000,). Every method has this one sequence only; their model was trained
on 320 others, and its figures, AUTHORS, are those of their checkpoint, run once with its own code.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from _vae_baselines import NAIVE, about, factor_analysis, mgpvae, naive, scores, spline, store, table, timed

import hidamari as hd

AUTHORS = {"RMSE of hidden frames": 0.0457, "RMSE of all frames": 0.0495, "NLL per value, mixture": -1.634}
METHODS = {name: method for name, method in NAIVE.items() if name != "seasonal naive"} | {"spline": spline}
KERNELS = [hd.Matern(1, scale) for scale in np.geomspace(3.0, 100.0, 6)]
ANALYSIS = "factor analysis, 6, Matérn-3/2"
MODELS = {"MGPVAE, 6, Matérn-3/2": {"n_latents": 6, "kernel": KERNELS}}


def run(name: str, x: np.ndarray, hidden: np.ndarray) -> dict[str, Any]:
    """Scores of a method."""
    y = np.where(hidden, np.nan, x)
    if name in METHODS:
        rng = np.random.default_rng(0)
        guess, seconds = timed(lambda: naive(name, y, y, np.inf, "frames", rng, METHODS[name]))
    elif name == ANALYSIS:
        (guess, _), seconds = timed(lambda: factor_analysis(y, y, KERNELS))
    else:
        (guess, model), seconds = timed(lambda: mgpvae(y, y, x, **MODELS[name]))
        return scores(guess, x, hidden) | {"CPU s": seconds} | about(model)
    return scores(guess, x, hidden) | {"CPU s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--methods", nargs="+", default=[*METHODS, ANALYSIS, *MODELS])
    parser.add_argument("--json", type=Path, help="keep the figures here, beside those already there")
    options = parser.parse_args()
    with np.load(options.file) as stored:
        x = stored["sequence"].astype(float)[None]
        hidden = np.broadcast_to(~stored["observed"][None, :, None], x.shape)
    kept: dict[str, Any] = {}
    for name in options.methods:
        kept |= store(options.json, "sequence", name, 0, run(name, x, hidden))
    print(table(kept))
    print("the authors' checkpoint:", ", ".join(f"{name} {value}" for name, value in AUTHORS.items()))


if __name__ == "__main__":
    main()
