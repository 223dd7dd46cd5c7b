"""Coverage of 95 % intervals on simulated spike counts, with parameters known and with parameters learnt.

Known: latents are drawn from the model, loadings, bias and kernels are given; intervals of the latents.
Learnt: everything is learnt; intervals of every unit's log rate, since latents are then free to rotate. They
hold the uncertainty of the latents alone, and so are too narrow where data are few.
"""

import argparse

import numpy as np

import hidamari as hd

Z = 1.959963984540054


def known(mean_count, n_trials=400, seed=0):
    """Coverage over independent short trials, each read at three bins far apart."""
    kernels = [hd.Matern(1, 0.3), hd.HidaMatern(1, 0.5, 1.0)]
    simulated = hd.datasets.simulate_spikes(
        kernels, n_units=15, n_trials=n_trials, n_bins=60, mean_count=mean_count, random_state=seed
    )
    true = {"loadings": simulated.loadings, "bias": simulated.bias, "kernel": None}
    model = hd.CVHM(2, kernels, bin_s=simulated.bin_s, fixed=true).fit(simulated.y)
    posterior = model.smooth()
    rows = [5, 30, 55]
    z = (np.asarray(simulated.latents) - posterior.latent_mean.values) / np.sqrt(posterior.latent_var.values)
    return z[:, rows].ravel()


def learnt(n_trials, seed=0):
    """Standardised errors of the log rates of all units and bins."""
    simulated = hd.datasets.simulate_spikes(
        n_units=30, n_trials=n_trials, n_bins=100, mean_count=0.3, random_state=seed
    )
    model = hd.CVHM(3, bin_s=simulated.bin_s).fit(simulated.y)
    posterior = model.smooth()
    eta = posterior.latent_mean.values @ model.loadings_.T + model.bias_
    var = np.einsum("rtab,na,nb->rtn", posterior.latent_cov.values, model.loadings_, model.loadings_)
    return ((np.log(np.asarray(simulated.rate)) - eta) / np.sqrt(var)).ravel()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", nargs="+", type=int, default=[5, 20, 80], help="trials to learn from")
    options = parser.parse_args()
    print("| parameters | data | values | 95 % interval covers |\n|---|---|---|---|")
    for mean_count in (0.02, 0.3, 5.0):
        z = known(mean_count)
        print(
            f"| known | {mean_count:g} spikes a bin | {z.size} | {np.mean(np.abs(z) < Z):.3f} |", flush=True
        )
    for n in options.trials:
        z = learnt(n)
        print(
            f"| learnt | {n} trials of 100 bins, 30 units | {z.size} | {np.mean(np.abs(z) < Z):.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
