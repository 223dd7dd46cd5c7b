"""What 15 units of a rat's hippocampus tell while it runs to and fro on a track, if nobody looks at the rat.

CVHM learns from three of every four trials of 10 s. In the others each unit is hidden and predicted from the
units of other quarters. Writes results/hippocampus.nc, the posterior over the whole run, and a figure of it.
"""

import time
from pathlib import Path

import numpy as np
from hippocampus_figure import draw
from scipy.ndimage import gaussian_filter1d
from scipy.special import xlogy
from sklearn.decomposition import PCA
from sklearn.linear_model import PoissonRegressor

import hidamari as hd

BIN_S = 0.1


def predict_units(predict, y):
    """Rate in Hz of every unit: each quarter of the units in turn is NaN, not observed, and predicted."""
    rate = np.empty_like(y)
    for quarter in range(4):
        hidden = y.copy()
        hidden[..., quarter::4] = np.nan
        rate[..., quarter::4] = predict(hidden)[..., quarter::4]
    return rate


def smooth_and_regress(train, hidden, width_s=0.5, n_components=8):
    """The usual shortcut. Its width and number of components are the best for these very test trials."""
    seen = ~np.isnan(hidden).any(axis=(0, 1))
    smooth = (gaussian_filter1d(np.sqrt(y[..., seen]), width_s / BIN_S, axis=1) for y in (train, hidden))
    past, now = (y.reshape(-1, seen.sum()) for y in smooth)
    pca = PCA(n_components, whiten=True).fit(past)
    rate = np.full(hidden.shape, np.nan)
    for unit in np.flatnonzero(~seen):
        glm = PoissonRegressor(alpha=1e-3).fit(pca.transform(past), train[..., unit].ravel())
        rate[..., unit] = glm.predict(pca.transform(now)).reshape(hidden.shape[:2]) / BIN_S
    return rate


def bits_per_spike(y, rate, mean_rate):
    """Log likelihood of counts y over that of a constant rate, in bits, per spike."""
    return (xlogy(y, rate / mean_rate) - (rate - mean_rate) * BIN_S).sum() / y.sum() / np.log(2)


def main():
    rat = hd.datasets.load_hippocampus()
    run = rat.counts(BIN_S, epochs=rat.epochs[0], min_spikes=100)
    trials = [run[start : start + 100] for start in range(0, len(run) - 99, 100)]
    train, test = [trial for i, trial in enumerate(trials) if i % 4 != 3], trials[3::4]

    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        model = hd.CVHM(n_latents=8, tol=1e-4).fit(train)
        seconds.append(time.perf_counter() - start)

    y_train, y_test = np.stack(train).astype(float), np.stack(test).astype(float)
    shortcut = predict_units(lambda hidden: smooth_and_regress(y_train, hidden), y_test)
    rate = predict_units(lambda hidden: model.smooth(hidden).rate.values, y_test)
    mean_rate = y_train.mean(axis=(0, 1)) / BIN_S
    print("units predicted from others, in test trials   bits per spike")
    for name, predicted in [("mean rate", mean_rate), ("smooth, PCA, GLM", shortcut), ("CVHM", rate)]:
        print(f"  {name:43s} {bits_per_spike(y_test, predicted, mean_rate):.3f}")
    print(f"ELBO {model.elbo_[-1]:,.1f} nats after {model.n_iter_} iterations; {model.message_}")
    print(f"fit {seconds[0]:.1f} s the first time, {seconds[1]:.1f} s the second")

    posterior = model.smooth(run)
    Path("results").mkdir(exist_ok=True)
    posterior.to_netcdf("results/hippocampus.nc", engine="h5netcdf")
    draw(rat, run, posterior, test, rate).savefig("results/hippocampus.png", dpi=100)
    print("wrote results/hippocampus.nc and results/hippocampus.png")


if __name__ == "__main__":
    main()
