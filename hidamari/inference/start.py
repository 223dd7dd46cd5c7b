"""Where a fit begins: a smoothing width the data choose, principal components, and one step from there."""

from typing import NamedTuple

import numpy as np

from hidamari.inference._likelihood import Likelihood, spread_within
from hidamari.inference.readout import LoadingPrior, update_readout
from hidamari.inference.sites import Readout, expected_sites, linear_predictor
from hidamari.statespace.types import Sites

__all__ = ["Start", "smoothing_width", "start_fit", "working_scale"]

_LOADING = 0.35  # expected change of a log rate or logit by one deviation of a latent
WIDTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)  # bins


class Start(NamedTuple):
    """First read-out, its prior, sites, and the likelihood."""

    readout: Readout
    prior: LoadingPrior
    sites: Sites
    likelihood: Likelihood


def working_scale(y: np.ndarray, likelihood) -> tuple[np.ndarray, np.ndarray]:
    """y (T, N) with about constant noise and zero mean, 0 where not observed; and what was observed."""
    seen = np.isfinite(y)
    z = np.where(seen, y, 0.0)
    if likelihood.counts:
        z = np.sqrt(z)
    n = np.maximum(seen.sum(0), 1)
    z = np.where(seen, z - z.sum(0) / n, 0.0)
    if not likelihood.counts:
        # what a constant unit deviates from its mean is rounding
        scale = np.sqrt((z**2).sum(0) / n)
        largest = np.abs(np.where(seen, y, 0.0)).max(0, initial=0.0)
        z = z / np.where(scale > 1e-13 * largest, scale, np.inf)
    return z, seen


def _smooth(z: np.ndarray, seen: np.ndarray, lengths: np.ndarray, width: float, own: bool = True):
    """Gaussian smoothing within trials, over what was observed; without the bin itself if not ``own``."""
    from scipy.ndimage import gaussian_filter1d

    radius = max(1, int(4 * width + 0.5))
    lags = np.exp(-0.5 * (np.arange(-radius, radius + 1) / width) ** 2)
    centre = 0.0 if own else 1.0 / lags.sum()
    out = np.empty_like(z)
    # rows seen or missed as a whole, the usual case, need one column of weights
    whole = (seen == seen[:, :1]).all()
    weight = (seen[:, :1] if whole else seen).astype(float)
    start = 0
    for length in lengths:
        rows = slice(start, start + length)
        top = gaussian_filter1d(z[rows], width, axis=0, mode="constant", radius=radius) - centre * z[rows]
        bottom = gaussian_filter1d(weight[rows], width, axis=0, mode="constant", radius=radius)
        bottom -= centre * weight[rows]
        out[rows] = np.where(bottom > 1e-3, top / np.maximum(bottom, 1e-3), 0.0)
        start += length
    return out


def smoothing_width(z: np.ndarray, seen: np.ndarray, lengths: np.ndarray) -> float:
    """The width in bins, among ``WIDTHS``, that best predicts each bin from the others of its trial."""
    longest = int(np.max(lengths))
    best, best_error = WIDTHS[0], np.inf
    for width in WIDTHS:
        if width > 1 and 4 * width > longest:
            break
        error = float(((z - _smooth(z, seen, lengths, width, own=False))[seen] ** 2).sum())
        if error < best_error * (1 - 1e-9):
            best, best_error = width, error
        elif width >= 8 * best:  # three doublings without a gain: the error is long past its valley
            break
    return best


def start_fit(
    y: np.ndarray,
    lengths: np.ndarray,
    n_latents: int,
    likelihood,
    exposure: float,
    width: float,
    rng: np.random.Generator,
    perturb: bool = False,
    readout: Readout | None = None,
    free: tuple[bool, bool] = (True, True),
    learnable: bool = False,
) -> Start:
    """Latents from principal components of the smoothed data, a read-out fitted to them, and their sites.

    Parameters
    ----------
    y : (T, N)
        Observations of all trials, NaN where missing.
    lengths : (R,)
        Rows of each trial.
    n_latents, likelihood, exposure
        The model.
    width : float
        Smoothing width in bins.
    rng : numpy.random.Generator
        For latents beyond what the data span, and for perturbed starts.
    perturb : bool
        Rotate the components at random, for further starts.
    readout : Readout, optional
        Loadings or bias that are given; ``free`` says which may move.
    learnable : bool
        Whether to start the likelihood's own parameters from the data, where y has units.
    """
    T, N = y.shape
    z, seen = working_scale(y, likelihood)
    smooth = _smooth(z, seen, lengths, width)
    smooth -= smooth.mean(0)
    rank = min(n_latents, N, T)
    # principal components through the smaller Gram matrix
    values, vectors = np.linalg.eigh(smooth.T @ smooth) if N <= T else np.linalg.eigh(smooth @ smooth.T)
    vectors = vectors[:, ::-1][:, :rank]
    scores = smooth @ vectors if N <= T else vectors
    spread = np.sqrt((scores**2).mean(0))
    alive = spread > 1e-8 * max(float(spread.max(initial=0.0)), 1e-300)
    mean = rng.standard_normal((T, n_latents))
    mean[:, :rank][:, alive] = scores[:, alive] / spread[alive]
    # an eigenvector's sign is the solver's whim: make it a function of the data
    signs = np.where((mean**3).sum(0) < 0, -1.0, 1.0)
    mean *= signs
    if perturb:
        mean = mean @ np.linalg.qr(rng.standard_normal((n_latents, n_latents)))[0]
    cov = np.tile(0.1 * np.eye(n_latents), (T, 1, 1))
    n = seen.sum(0)
    level, unit = _level(y, likelihood, exposure)
    first = Readout(np.zeros((N, n_latents)), level)
    if readout is not None:
        first = Readout(
            first.loadings if free[0] else readout.loadings, first.bias if free[1] else readout.bias
        )
    centre = float(first.bias[n > 0].mean()) if n.any() else 0.0
    spread_b = float(((first.bias[n > 0] - centre) ** 2).sum())
    prior = LoadingPrior(np.full(n_latents, unit**-2), centre, (N + 1.0) / (spread_b + unit**2), unit)
    # noise as large as the data at first, then what the components leave over
    noisy = likelihood.real and learnable
    if noisy:
        likelihood = likelihood.fit_parameters(y, np.broadcast_to(first.bias, y.shape), 0.0)
    fitted = update_readout(first, prior, likelihood, y, mean, cov, exposure, n_steps=5, free=free)
    if noisy:
        likelihood = likelihood.fit_parameters(y, *linear_predictor(fitted, mean, cov))
    sites = expected_sites(fitted, likelihood, y, mean, cov, exposure).sites
    return Start(fitted, prior, sites, likelihood)


def _level(y: np.ndarray, likelihood: Likelihood, exposure: float) -> tuple[np.ndarray, float]:
    """Linear predictor of each unit's mean, and what one is on its scale."""
    seen = np.isfinite(y)
    n, total = seen.sum(0), np.where(seen, y, 0.0).sum(0)
    if not likelihood.real:
        # half an event more than was seen, so that silent units have a logarithm
        return likelihood.link((total + 0.5) / (n + 1.0), exposure), _LOADING
    mean = np.where(n > 0, total / np.maximum(n, 1), total.sum() / max(int(n.sum()), 1))
    square = float((np.where(seen, y, 0.0) ** 2).sum()) / max(int(n.sum()), 1)
    return mean, float(np.sqrt(spread_within(y) or square or 1.0))
