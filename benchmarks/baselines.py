"""What the models are compared with, and the parts that the benchmarks share.

A method is ``fit(train, bin_s) -> {readout: predict}`` with ``predict(seen, i_in, i_out) -> rates``. It is
fitted to all units of the training trials, a list of (time, unit) counts. Of other trials it then sees only
the units `i_in`, a list of (time, len(i_in)), and returns the expected counts per bin of the units `i_out`, a
list of (time, len(i_out)).
"""

import contextlib
import warnings
from functools import partial

import numpy as np

__all__ = [
    "bits_per_spike",
    "choose_smoothing",
    "cvhm",
    "cvhm_rates",
    "factor_analysis",
    "fit_gpfa",
    "gpfa",
    "infer_gpfa",
    "mean_rate",
    "poisson_glm",
    "population_rate",
    "principal",
    "smooth",
    "smooth_pca_glm",
]

SMOOTHING_BINS = (1.0, 2.5, 5.0, 10.0, 20.0)


def bits_per_spike(y, rate, null):
    """Bits of each unit over the null rate, not yet divided by its spikes: (time, unit) -> (unit,)."""
    log_ratio = np.log(rate / null)
    return (np.where(y > 0, y * log_ratio, 0.0) - (rate - null)).sum(axis=0) / np.log(2)


def smooth(trial, sd_bins):
    """Convolve a trial with a Gaussian along time, renormalised at the ends."""
    row = np.arange(len(trial))
    weights = np.exp(-0.5 * ((row[:, None] - row) / sd_bins) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)) @ trial


def poisson_glm(x, y, ridge, n_iter=30):
    """Fit a Poisson regression with log link of every column of y on x; return the function x -> rates.

    Damped Newton on all units at once; the ridge is on standardised inputs, per sample.
    """
    centre, scale = x.mean(axis=0), x.std(axis=0) + 1e-9

    def design(x, limit=np.inf):
        return np.column_stack([np.ones(len(x)), np.clip((x - centre) / scale, -limit, limit)])

    a = design(x)
    n, k = a.shape
    penalty = np.append(1e-8, np.full(k - 1, ridge)) * n
    w = np.zeros((k, y.shape[1]))
    w[0] = np.log(np.maximum(y.mean(axis=0), 1e-6))

    def loss(w):
        eta = np.minimum(a @ w, 12.0)
        return (np.exp(eta) - y * eta).sum(axis=0) + 0.5 * penalty @ w**2

    current = loss(w)
    for _ in range(n_iter):
        rate = np.exp(np.minimum(a @ w, 12.0))
        gradient = a.T @ (rate - y) + penalty[:, None] * w
        hessian = np.einsum("ti,tu,tj->uij", a, rate, a, optimize=True) + np.diag(penalty + 1e-6)
        step = np.linalg.solve(hessian, gradient.T[..., None])[..., 0].T
        size = np.ones(y.shape[1])
        for _ in range(12):
            proposed = loss(w - size * step)
            worse = ~(proposed <= current + 1e-9)
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        size = np.where(worse, 0.0, size)
        w, previous, current = w - size * step, current, np.where(worse, current, proposed)
        if np.max(previous - current) < 1e-7 * n:
            break
    return lambda x: np.exp(np.minimum(design(x, 6.0) @ w, 12.0))


# ------------------------------------------------------------------------------------ without a model of time


def mean_rate(train, bin_s):
    """Every unit stays at its mean over the training trials."""
    mean = np.maximum(np.concatenate(train).mean(axis=0), 1e-6)
    return {"": lambda seen, i_in, i_out: [np.tile(mean[i_out], (len(s), 1)) for s in seen]}


def population_rate(train, bin_s):
    """Every unit follows the smoothed summed count of the units seen, raised to a fitted power."""

    def predict(seen, i_in, i_out):
        inputs = [s[:, i_in].sum(axis=1, keepdims=True) for s in train]
        targets = [s[:, i_out] for s in train]
        return _smooth_pca_glm(inputs, targets, [s.sum(axis=1, keepdims=True) for s in seen], (1,))

    return {"": predict}


def smooth_pca_glm(train, bin_s, ranks=(4, 8, 16)):
    """Smooth square-root counts, keep principal components, regress; width, rank and ridge by validation."""

    def predict(seen, i_in, i_out):
        return _smooth_pca_glm([s[:, i_in] for s in train], [s[:, i_out] for s in train], seen, ranks)

    return {"": predict}


def _smooth_pca_glm(inputs, targets, seen, ranks):
    """Choose width, rank and ridge on the training trials, refit on all of them, predict."""
    width, rank, ridge = choose_smoothing(inputs, targets, ranks)
    x = np.concatenate([smooth(np.sqrt(s), width) for s in inputs])
    centre, basis = principal(x, rank)
    readout = poisson_glm((x - centre) @ basis, np.concatenate(targets), ridge)
    return [readout((smooth(np.sqrt(s), width) - centre) @ basis) for s in seen]


def choose_smoothing(inputs, targets, ranks):
    """Return the width in bins, the rank and the ridge that predict every fourth training trial best."""
    held = np.arange(len(inputs)) % 4 == 3
    y_fit = np.concatenate([y for y, h in zip(targets, held) if not h])
    y_held = np.concatenate([y for y, h in zip(targets, held) if h])
    best, choice = -np.inf, None
    for width in SMOOTHING_BINS:
        x = [smooth(np.sqrt(s), width) for s in inputs]
        x_fit = np.concatenate([s for s, h in zip(x, held) if not h])
        x_held = np.concatenate([s for s, h in zip(x, held) if h])
        for rank in ranks:
            centre, basis = principal(x_fit, rank)
            for ridge in (1e-3, 1e-2, 1e-1):
                rate = poisson_glm((x_fit - centre) @ basis, y_fit, ridge)((x_held - centre) @ basis)
                rate = np.maximum(rate, 1e-9)
                score = float((y_held * np.log(rate) - rate).sum())
                if score > best:
                    best, choice = score, (width, rank, ridge)
    return choice


def principal(x, rank):
    """Mean and leading principal directions of rows."""
    centre = x.mean(axis=0)
    return centre, np.linalg.svd(x - centre, full_matrices=False)[2][:rank].T


def factor_analysis(train, bin_s, n_latents, width_s=0.5):
    """Factor analysis of smoothed square-root counts, read out by a Poisson regression on its factors."""
    from sklearn.decomposition import FactorAnalysis

    x = [smooth(np.sqrt(s), width_s / bin_s) for s in train]
    model = FactorAnalysis(n_latents, random_state=0).fit(np.concatenate(x))
    loadings, noise, centre = model.components_.T, model.noise_variance_, model.mean_

    def predict(seen, i_in, i_out):
        scaled = loadings[i_in].T / noise[i_in]
        gain = np.linalg.solve(np.eye(n_latents) + scaled @ loadings[i_in], scaled).T
        factors = np.concatenate([(s[:, i_in] - centre[i_in]) @ gain for s in x])
        readout = poisson_glm(factors, np.concatenate(train)[:, i_out], 1e-2)
        return [readout((smooth(np.sqrt(s), width_s / bin_s) - centre[i_in]) @ gain) for s in seen]

    return {"": predict}


# -------------------------------------------------------------------------------------------- elephant's GPFA


def fit_gpfa(train, bin_s, n_latents, n_iter, tau_s):
    """Fit elephant's GPFA to square-root counts; return its parameters and which units it kept."""
    import neo
    import quantities as pq
    from elephant.gpfa import GPFA

    def spike_trains(trial):
        centre, stop = (np.arange(len(trial)) + 0.5) * bin_s, len(trial) * bin_s * pq.s
        columns = trial.T.astype(int)
        return [neo.SpikeTrain(np.repeat(centre, column) * pq.s, t_stop=stop) for column in columns]

    model = GPFA(
        bin_size=bin_s * 1000 * pq.ms, x_dim=n_latents, em_max_iters=n_iter, tau_init=tau_s * 1000 * pq.ms
    )
    np.random.seed(0)  # noqa: NPY002 - elephant cuts trials at random, by numpy's global state
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        model.fit([spike_trains(trial) for trial in train])
    return model.params_estimated, model.has_spikes_bool


def infer_gpfa(fitted, trials, units):
    """Means (time, latent) and covariances (latent, latent, time) of each trial from its `units` alone."""
    from elephant.gpfa import gpfa_core

    parameters, active = fitted
    place, keep = np.cumsum(active) - 1, active[units]
    kept = place[units[keep]]
    restricted = dict(
        parameters,
        C=parameters["C"][kept],
        d=parameters["d"][kept],
        R=parameters["R"][np.ix_(kept, kept)],
    )
    records = np.empty(len(trials), dtype=[("T", int), ("y", object)])
    for i, trial in enumerate(trials):
        records[i] = (len(trial), np.sqrt(trial[:, keep]).T)
    found, _ = gpfa_core.exact_inference_with_ll(records, restricted, get_ll=False)
    return [f["latent_variable"].T for f in found], [f["Vsm"] for f in found]


def gpfa(train, bin_s, n_latents, n_iter=60, tau_s=0.5):
    """GPFA read out by its own square-root Gaussian model, and by a Poisson regression on its latents."""
    fitted = fit_gpfa(train, bin_s, n_latents, n_iter, tau_s)

    def direct(seen, i_in, i_out):
        parameters, active = fitted
        place = np.cumsum(active) - 1
        rates = []
        for mean, cov in zip(*infer_gpfa(fitted, seen, i_in)):
            rate = np.full((len(mean), len(i_out)), 1e-6)
            for column, unit in enumerate(i_out):
                if active[unit]:
                    c, d = parameters["C"][place[unit]], parameters["d"][place[unit]]
                    noise = parameters["R"][place[unit], place[unit]]
                    rate[:, column] = (mean @ c + d) ** 2 + np.einsum("i,ijt,j->t", c, cov, c) + noise
            rates.append(rate)
        return rates

    def glm(seen, i_in, i_out):
        latents = np.concatenate(infer_gpfa(fitted, [s[:, i_in] for s in train], i_in)[0])
        readout = poisson_glm(latents, np.concatenate(train)[:, i_out], 1e-2)
        return [readout(z) for z in infer_gpfa(fitted, seen, i_in)[0]]

    return {"direct": direct, "glm": glm}


# ------------------------------------------------------------------------------------------------------- ours


def cvhm_rates(model, trials, units, n_units, variable="rate"):
    """Smooth trials of which only `units` are seen; return a variable of each trial, (time, ...)."""
    padded = []
    for trial in trials:
        padded.append(np.full((len(trial), n_units), np.nan))
        padded[-1][:, units] = trial
    found = model.smooth(padded)[variable].transpose("trial", "time", ...).values
    return [values[: len(trial)] for values, trial in zip(found, trials)]


def cvhm(train, bin_s, n_latents, **options):
    """Fit our CVHM; read out by its own Poisson model, and by a Poisson regression on its latents."""
    from hidamari import CVHM

    train = [np.asarray(s, dtype=float) for s in train]
    n_units = train[0].shape[1]
    model = CVHM(n_latents=n_latents, bin_s=bin_s, **options).fit(train)

    def direct(seen, i_in, i_out):
        return [rate[:, i_out] * bin_s for rate in cvhm_rates(model, seen, i_in, n_units)]

    def glm(seen, i_in, i_out):
        latents = partial(cvhm_rates, model, units=i_in, n_units=n_units, variable="latent_mean")
        readout = poisson_glm(
            np.concatenate(latents([s[:, i_in] for s in train])), np.concatenate(train)[:, i_out], 1e-2
        )
        return [readout(z) for z in latents(seen)]

    return {"direct": direct, "glm": glm}
