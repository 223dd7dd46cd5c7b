"""From spike times to latent trajectories with their uncertainty, in ten lines."""

import hidamari as hd

rat = hd.datasets.load_hippocampus()
counts = rat.counts(bin_s=0.1, epochs=(250, 400), min_spikes=100)  # (time, unit), 150 s
model = hd.CVHM(n_latents=3, tol=1e-3).fit(counts)
posterior = model.smooth()  # an xarray.Dataset: latent_mean, latent_var, latent_cov, rate in Hz
print(posterior)
hd.plotting.latents(posterior).figure.savefig("latents.png")
hd.plotting.rates(posterior, order=hd.plotting.peak_order(posterior)).figure.savefig("rates.png")
