"""Recovery of simulated latents, and co-smoothing against the true rate.

Three sets, by ``hidamari.datasets``: `spikes` draws latents from Hida-Matern kernels, `lorenz` has few spikes
(0.1 a bin), `van_der_pol` many (5 a bin). A fifth of the trials are test trials.

- latent R2: share of the variance of the true latents that an affine map of the estimated ones explains,
  over all bins of the training trials, all units seen.
- co-bps: bits per spike of the last 10 units in the test trials, from the other units; the null is a unit's
  mean count over the training trials.
- seconds: of the fit and the smoothing of the training trials, wall and CPU (compiled code is warm).

GPFA is that of elephant, 100 EM iterations, its co-bps by a Poisson regression on its latents. `naive`
smooths square-root counts, keeps as many principal components as there are latents, and regresses; its width
is chosen by validation. `known` is CVHM with the true loadings, bias and kernels, for the set that is drawn
from such a model: what is left to lose by learning them. `oracle` predicts by the true rate.
"""

import argparse
import json
import time
from pathlib import Path

import baselines
import numpy as np

from hidamari import datasets

SETS = {"spikes": datasets.simulate_spikes, "lorenz": datasets.simulate_lorenz,
        "van_der_pol": datasets.simulate_van_der_pol}  # fmt: skip
TRIALS = {"spikes": 30, "lorenz": 40, "van_der_pol": 10}
QUICK_TRIALS = {"spikes": 10, "lorenz": 15, "van_der_pol": 5}
N_OUT = 10  # units held out


def latent_r2(estimate, truth):
    """Share of the truth's variance that an affine map of the estimate explains, pooled over latents."""
    estimate, truth = np.concatenate(estimate), np.concatenate(truth)
    design = np.column_stack([np.ones(len(estimate)), estimate])
    residual = truth - design @ np.linalg.lstsq(design, truth, rcond=None)[0]
    return 1.0 - (residual**2).sum() / ((truth - truth.mean(axis=0)) ** 2).sum()


def co_bps(rates, test, train, i_out):
    """Bits per spike of the units `i_out` over their training means."""
    y = np.concatenate(test)[:, i_out]
    null = np.maximum(np.concatenate(train)[:, i_out].mean(axis=0), 1.0 / sum(map(len, train)))
    rate = np.maximum(np.concatenate(rates), 1e-3 * null)
    return baselines.bits_per_spike(y, rate, null).sum() / y.sum()


class _Clock:
    """Wall and CPU seconds since it was made; on a busy machine only the second can be compared."""

    def __init__(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self):
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {"wall_seconds": wall, "cpu_seconds": cpu}


# Each method returns the latents of the training trials, the rates of the units held out, and seconds.


def run_cvhm(train, test, i_in, i_out, n_latents, bin_s):
    """Our CVHM, read out by its own Poisson model."""
    from hidamari import CVHM

    CVHM(n_latents=n_latents, bin_s=bin_s).fit([trial[:40] for trial in train[:2]])
    clock = _Clock()
    model = CVHM(n_latents=n_latents, bin_s=bin_s).fit(train)
    units, n_units = np.arange(train[0].shape[1]), train[0].shape[1]
    latents = baselines.cvhm_rates(model, train, units, n_units, "latent_mean")
    seconds = clock.read()
    rates = baselines.cvhm_rates(model, [trial[:, i_in] for trial in test], i_in, n_units)
    return latents, [rate[:, i_out] * bin_s for rate in rates], seconds


def run_gpfa(train, test, i_in, i_out, n_latents, bin_s):
    """Fit GPFA by elephant."""
    clock = _Clock()
    fitted = baselines.fit_gpfa(train, bin_s, n_latents, n_iter=100, tau_s=0.1)
    latents = baselines.infer_gpfa(fitted, train, np.arange(train[0].shape[1]))[0]
    seconds = clock.read()
    inputs = np.concatenate(baselines.infer_gpfa(fitted, [trial[:, i_in] for trial in train], i_in)[0])
    readout = baselines.poisson_glm(inputs, np.concatenate(train)[:, i_out], 1e-2)
    seen = baselines.infer_gpfa(fitted, [trial[:, i_in] for trial in test], i_in)[0]
    return latents, [readout(z) for z in seen], seconds


def run_naive(train, test, i_in, i_out, n_latents, bin_s):
    """Smoothed square-root counts and principal components."""
    clock = _Clock()
    inputs, targets = [trial[:, i_in] for trial in train], [trial[:, i_out] for trial in train]
    width = baselines.choose_smoothing(inputs, targets, (n_latents,))[0]
    smoothed = [baselines.smooth(np.sqrt(trial), width) for trial in train]
    centre, basis = baselines.principal(np.concatenate(smoothed), n_latents)
    latents = [(trial - centre) @ basis for trial in smoothed]
    seconds = clock.read()
    predict = baselines.smooth_pca_glm(train, bin_s, (n_latents,))[""]
    return latents, predict([trial[:, i_in] for trial in test], i_in, i_out), seconds


def run_known(simulated, train, test, i_in):
    """CVHM that was told everything but the latents."""
    from hidamari import CVHM

    true = {"loadings": simulated.loadings, "bias": simulated.bias, "kernel": None}
    clock = _Clock()
    n_units = len(simulated.bias)
    model = CVHM(len(simulated.kernels), list(simulated.kernels), bin_s=simulated.bin_s, fixed=true).fit(
        train
    )
    latents = baselines.cvhm_rates(model, train, np.arange(n_units), n_units, "latent_mean")
    seconds = clock.read()
    rates = baselines.cvhm_rates(model, [trial[:, i_in] for trial in test], i_in, n_units)
    return latents, rates, seconds


METHODS = {"cvhm": run_cvhm, "gpfa": run_gpfa, "naive": run_naive, "known": None, "oracle": None}


def run(name, seed, method, n_trials):
    """Simulate one set and run one method on it."""
    simulated = SETS[name](n_trials=n_trials, random_state=seed)
    y, n_train = list(simulated.y), n_trials - n_trials // 5
    train, test = y[:n_train], y[n_train:]
    units = np.arange(y[0].shape[1])
    i_in, i_out = units[:-N_OUT], units[-N_OUT:]
    if method == "oracle":
        rates = [rate[:, i_out] * simulated.bin_s for rate in simulated.rate[n_train:]]
        return {"co_bps": co_bps(rates, test, train, i_out)}
    n_latents = simulated.latents[0].shape[1]
    if method == "known":
        latents, rates, seconds = run_known(simulated, train, test, i_in)
        rates = [rate[:, i_out] * simulated.bin_s for rate in rates]
    else:
        data = (train, test, i_in, i_out, n_latents, simulated.bin_s)
        latents, rates, seconds = METHODS[method](*data)
    r2 = latent_r2(latents, list(simulated.latents[:n_train]))
    return {"r2": r2, "co_bps": co_bps(rates, test, train, i_out), **seconds}


def table(results):
    """Write results as Markdown: means over seeds, standard deviations in brackets."""
    columns = (("r2", 3), ("co_bps", 3), ("of_oracle", 3), ("wall_seconds", 1), ("cpu_seconds", 1))
    head = ("set", "method", "seeds", "latent R2", "co-bps", "co-bps / oracle", "wall s", "CPU s")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in SETS:
        for method in METHODS:
            runs = dict(_scores(results, name, method))
            if not runs:
                continue
            for seed, oracle in _scores(results, name, "oracle"):
                if seed in runs:
                    runs[seed] = {**runs[seed], "of_oracle": runs[seed]["co_bps"] / oracle["co_bps"]}
            cells = [
                _cell([run[key] for run in runs.values() if key in run], digits) for key, digits in columns
            ]
            lines.append(f"| {name} | {method} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _scores(results, name, method):
    """Seeds and scores of one method on one set."""
    for key, scores in results.items():
        if key.startswith(f"{name}/{method}/"):
            yield key.split("/")[2], scores


def _cell(values, digits):
    """Mean, and standard deviation when there are several."""
    spread = f" ({np.std(values, ddof=1):.{digits}f})" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}" if values else "-"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--quick", action="store_true", help="a third of the trials, one seed")
    parser.add_argument("--json", type=Path, help="keep the scores here, and show those already there")
    options = parser.parse_args()
    trials = QUICK_TRIALS if options.quick else TRIALS
    seeds = options.seeds[:1] if options.quick else options.seeds
    results = {}
    if options.json and options.json.exists():
        results = json.loads(options.json.read_text())
    for name in options.sets:
        for method in options.methods:
            if method == "known" and name != "spikes":
                continue
            for seed in seeds:
                scores = run(name, seed, method, trials[name])
                scores = {key: round(float(value), 4) for key, value in scores.items()}
                results[f"{name}/{method}/{seed}"] = scores
                print(f"{name:12s} {method:8s} seed {seed}: {scores}", flush=True)
                if options.json:
                    options.json.parent.mkdir(exist_ok=True)
                    options.json.write_text(json.dumps(results, indent=1) + "\n")
    print("\n" + table(results))


if __name__ == "__main__":
    main()
