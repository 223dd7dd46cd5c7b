"""Spike counts of simulated units behind a linear and a non-linear read-out: what is told of units not seen.

    python benchmarks/vae_counts.py [--worlds linear fields] [--seeds 0 1 2] [--methods NAME ...] [--json F]

Two latent Gaussian processes (Matérn-3/2, 0.3 s), 30 units, trials of 100 bins of 20 ms, 40 to learn from
and 20 to test. "linear": log rates are linear in the latents, a CVHM. "fields": every unit has a place it
prefers, rate = 1 + 60 exp(-|z - c|^2 / (2 0.6^2)) spikes per second, which no few linear log rates give. In
every test trial a quarter of the units is not seen; their counts are scored. "bits" are those per spike over
the mean rate in training, by the expected count; "NLL" is in nats per bin, by the whole distribution.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from _vae_baselines import about, draw_scores, store, table, timed
from baselines import smooth
from scipy.special import gammaln, logsumexp

import hidamari as hd

BIN, N_TRAIN, N_TEST, UNITS, BINS = 0.02, 40, 20, 30, 100
COLUMNS = ("bits", "NLL", "CRPS", "50 %", "90 %", "CPU s")
KERNEL = hd.Matern(1, 0.3)


def make(world: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts (trial, time, unit), expected counts, and which entries are hidden."""
    rng = np.random.default_rng(seed)
    drawn = hd.datasets.simulate_spikes(
        (KERNEL, KERNEL),
        n_units=UNITS,
        n_trials=N_TRAIN + N_TEST,
        n_bins=BINS,
        bin_s=BIN,
        mean_count=0.1,
        loading_scale=0.4,
        random_state=rng,
    )
    rate = drawn.rate
    if world == "fields":
        place = rng.normal(0.0, 1.0, (UNITS, 2))
        distance = np.square(drawn.latents[:, :, None] - place).sum(axis=-1)
        rate = 1.0 + 60.0 * np.exp(-0.5 * distance / 0.6**2)
    expected = np.asarray(rate) * BIN
    hidden = np.zeros(expected.shape, dtype=bool)
    for trial in range(N_TRAIN, N_TRAIN + N_TEST):
        hidden[trial][:, rng.permutation(UNITS)[: UNITS // 4]] = True
    return rng.poisson(expected).astype(float), expected, hidden


def mean_rate(train, test):
    """Every unit at its mean."""
    return np.broadcast_to(train.mean(axis=(0, 1)), test.shape)[None]


def population(train, test):
    """Every unit follows the smoothed mean count of the units seen, 100 ms wide, scaled to its own mean."""
    mean = train.mean(axis=(0, 1))
    relative = [np.nansum(y, axis=1, keepdims=True) / mean[np.isfinite(y).all(axis=0)].sum() for y in test]
    return np.array([mean * smooth(r, 5.0) for r in relative])[None]


def cvhm(n_latents):
    """hd.CVHM: draws of the expected count."""

    def run(train, test):
        model = hd.CVHM(n_latents, KERNEL, bin_s=BIN, max_iter=100, tol=1e-4, progress=False).fit(train)
        return model.sample(200, test)["rate"].transpose("draw", "trial", "time", "unit").values * BIN

    return run


NAIVE = {"mean rate": mean_rate, "population rate": population}
ANALYSES = {f"CVHM, {n} latents": cvhm(n) for n in (2, 4, 8)}
LEARNING = {"max_epochs": 150, "learning_rate": 5e-3, "patience": 60, "refinements": 3}
MODELS = {f"MGPVAE, {n} latents": {"n_latents": n, "kernel": KERNEL} | LEARNING for n in (4,)}


def run(name: str, world: str, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """Scores of a method on one draw of a world."""
    counts, expected, hidden = make(world, seed)
    y = np.where(hidden, np.nan, counts)
    train, test, asked = y[:N_TRAIN], y[N_TRAIN:], hidden[N_TRAIN:]
    truth, more = counts[N_TRAIN:][asked], {}
    null = np.broadcast_to(train.mean(axis=(0, 1)), test.shape)[asked]
    if name in MODELS:
        settings = MODELS[name] | {"random_state": seed}
        seconds, found, more = _mgpvae(train, test, counts[N_TRAIN:], asked, settings | options)
    else:
        if name == "true rates":
            rates, seconds = expected[None, N_TRAIN:], 0.0
        else:
            rates, seconds = timed(lambda: (NAIVE | ANALYSES)[name](train, test))
        found = _told(rates[:, asked], truth)
    mean, density, draws = found
    bits = np.sum(truth * np.log(mean / null) - mean + null) / truth.sum() / np.log(2)
    # Counts are few and discrete: between the draws below and those equal, the place is drawn.
    rng = np.random.default_rng(seed)
    below, equal = (draws < truth).sum(axis=0), (draws == truth).sum(axis=0)
    place = (below + rng.random(truth.shape) * (equal + 1)) / (len(draws) + 1)
    cover = {
        title: float(np.mean(np.abs(place - 0.5) <= share / 2))
        for title, share in (("50 %", 0.5), ("90 %", 0.9))
    }
    crps = draw_scores(draws, truth)["CRPS"]
    return {"bits": float(bits), "NLL": float(-density.mean()), "CRPS": crps, "CPU s": seconds} | cover | more


def _told(rates: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected counts, log densities and draws of counts from draws of the expected count (draw, value)."""
    rng = np.random.default_rng(0)
    terms = truth * np.log(rates) - rates - gammaln(truth + 1)
    draws = rng.poisson(np.broadcast_to(rates, (200, rates.shape[1])) if len(rates) == 1 else rates)
    return rates.mean(axis=0), logsumexp(terms, axis=0) - np.log(len(rates)), draws.astype(float)


def _mgpvae(train, test, counts, asked, options):
    """Seconds, then expected counts, log densities and draws of the counts asked for, by hd.MGPVAE."""

    def go():
        model = hd.MGPVAE(likelihood="poisson", bin_s=BIN, progress=False, **options).fit(train)
        return model, model.impute(test, n_draws=200, random_state=0)

    (model, found), seconds = timed(go)
    dims = ("trial", "time", "unit")
    density = model.log_predictive(np.where(asked, counts, np.nan), test)["log_density"].transpose(*dims)
    draws = found["observation_draw"].transpose("draw", *dims).values[:, asked]
    mean = found["mean"].transpose(*dims).values[asked]
    return seconds, (mean, density.values[asked], draws), about(model)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = ["true rates", *NAIVE, *ANALYSES, *MODELS]
    parser.add_argument("--worlds", nargs="+", default=["linear", "fields"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=every)
    parser.add_argument("--epochs", type=int, help="at most so many for MGPVAE")
    parser.add_argument("--json", type=Path, help="keep the figures here, beside those already there")
    options = parser.parse_args()
    for world in options.worlds:
        kept: dict[str, Any] = {}
        for name in options.methods:
            for seed in options.seeds:
                row = run(name, world, seed, {} if options.epochs is None else {"max_epochs": options.epochs})
                kept |= store(options.json, world, name, seed, row)
                print(f"{world}, seed {seed}, {name}: {row['bits']:.3f}", flush=True)
        print(table(kept, COLUMNS))


if __name__ == "__main__":
    main()
