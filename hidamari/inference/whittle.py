r"""Whittle's likelihood: kernel hyperparameters from periodograms of posterior draws.

For the r draws of one latent on a regular grid, with Hann taper w and periodogram
I_k = dt |sum_t w_t f_t e^{-2 pi i k t / T}|^2 / sum_t w_t^2,

    log L = - sum_k [log S(f_k) + I_k / S(f_k)],    S(f) aliased: sum_n S(f + n / dt).

Draws are needed, not the posterior mean: E_q |FFT f|^2 contains the covariance between bins, and the mean
alone pushes the lengthscale towards infinity. The taper removes the leakage that flattens steep spectra; the
zero frequency is left out, since a mean is confounded with the bias. A cheap start, not a final answer.

Observations with Gaussian noise of variance R on a regular grid are series with S(f) + R dt; long ones are
read in bands of neighbouring frequencies, whose mean power stands for all.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hidamari.inference.likelihoods import Gaussian
from hidamari.inference.objective import GPModel
from hidamari.inference.series import Series
from hidamari.parameters import flatten, unflatten
from hidamari.statespace.kernels import Kernel

__all__ = ["periodogram", "whittle", "whittle_kernels", "whittle_series"]

_ALIASES = 3  # folds of the spectrum on either side: order 0 falls off only as 1 / f^2
_ALONE, _BANDS = 256, 2048  # frequencies read one by one, and bands that hold the others


def periodogram(series: np.ndarray, bin_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (Hz) above zero, and the Hann-tapered periodogram averaged over series (n, T)."""
    T = series.shape[1]
    taper = np.hanning(T + 2)[1:-1]
    spectrum = np.fft.rfft(series * taper, axis=1)
    power = bin_s * (np.abs(spectrum) ** 2).mean(0) / (taper**2).sum()
    return np.fft.rfftfreq(T, bin_s)[1:], power[1:]


def whittle(
    kernel: Kernel,
    groups: Sequence[np.ndarray],
    bin_s: float,
    names: Sequence[str] | None = None,
    limits: Sequence[tuple[float, float]] | None = None,
) -> Kernel:
    """The kernel whose spectrum fits the periodograms of groups of series of equal length best.

    Parameters
    ----------
    kernel : Kernel
        Where to start.
    groups : sequence of ndarray
        Each (n, T_g): series of one length.
    bin_s : float
        Seconds per bin.
    names : sequence of str, optional
        Hyperparameters that move; all by default.
    limits : sequence of (low, high), optional
        Bounds of their logarithms.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.statespace import kalman
    >>> from hidamari.statespace.kernels import Matern
    >>> from hidamari.statespace.types import Sites
    >>> ss = Matern(1, 0.4).state_space(np.arange(4000) * 0.02)
    >>> nothing = Sites(np.zeros((4000, 1)), np.zeros((4000, 1)))
    >>> draws = kalman.sample(ss, nothing, 8, np.random.default_rng(0))[:, :, 0]
    >>> bool(0.35 < whittle(Matern(1, 1.0), [draws], 0.02).lengthscale < 0.45)
    True
    """
    from scipy.optimize import minimize

    names = list(flatten(kernel)[1] if names is None else names)
    tables = [(len(g), *periodogram(g, bin_s)) for g in groups if g.shape[1] >= 8]
    if not tables or not names:
        return kernel

    def negative(vector: np.ndarray) -> float:
        current = unflatten(kernel, vector, names)
        total = 0.0
        for n, frequency, power in tables:
            density = _aliased(current, frequency, bin_s)
            total += n * float((np.log(density) + power / density).sum())
        return total

    start = flatten(kernel, names)[0]
    if limits is not None:
        start = np.clip(start, *np.transpose(limits))
    result = minimize(negative, start, method="L-BFGS-B", bounds=limits)
    return unflatten(kernel, result.x, names)


def whittle_kernels(
    kernels: Sequence[Kernel],
    names: Sequence[str],
    draws: np.ndarray,
    lengths: np.ndarray,
    bin_s: float,
    limits: Sequence[tuple[float, float]],
) -> list[Kernel]:
    """One Whittle update of every latent's kernel from posterior draws (n, T, K) of all trials."""
    cuts = np.cumsum(lengths)[:-1]
    out = []
    for c, kernel in enumerate(kernels):
        own = [i for i, name in enumerate(names) if name.split(".", 1)[0] == str(c)]
        by_length: dict[int, list[np.ndarray]] = {}
        for piece in np.split(draws[:, :, c], cuts, axis=1):
            by_length.setdefault(piece.shape[1], []).append(piece)
        groups = [np.concatenate(pieces) for pieces in by_length.values()]
        paths = [names[i].split(".", 1)[1] for i in own]
        out.append(whittle(kernel, groups, bin_s, paths, [limits[i] for i in own]) if own else kernel)
    return out


def whittle_series(model: GPModel, names: Sequence[str], series: Series, allowed: np.ndarray) -> GPModel:
    """The model whose spectrum, noise included, fits the periodograms of the series best.

    Parameters
    ----------
    model : GPModel
        Where to start; its likelihood is Gaussian.
    names : sequence of str
        Parameters that move. Biases among them go to the means of their outputs.
    series : Series
        On one regular grid, with nothing missing.
    allowed : ndarray (n, 2)
        Lowest and highest value of each parameter.

    Raises
    ------
    ValueError
        If the likelihood, the grid, the data or the kernel have no such spectrum.

    Examples
    --------
    >>> from hidamari.inference.series import lay_series
    >>> from hidamari.statespace.kernels import Matern
    >>> y = np.random.default_rng(0).standard_normal(2000).cumsum() * 0.1
    >>> model = GPModel(Matern(0, 1.0), Gaussian(0.1), np.zeros(1))
    >>> names = ["kernel.variance", "likelihood.variance"]
    >>> laid = lay_series(np.arange(2000) * 0.1, y)
    >>> found = whittle_series(model, names, laid.series, np.array([[1e-4, 1e4]] * 2))
    >>> bool(found.likelihood.variance < 0.01)
    True
    """
    from scipy.optimize import minimize

    own = series.step[series.step >= 0]
    reasons = {
        "Gaussian noise": isinstance(model.likelihood, Gaussian) and series.error is None,
        "one regular grid": len(own) > 0 and (own == own[0]).all() and series.gaps[own[0]] > 0.0,
        "no missing values": not np.isnan(series.y).any(),
        "a stationary kernel whose spectrum is a density": model.kernel.is_stationary
        and not model.kernel.line_spectrum,
    }
    for what, met in reasons.items():
        if not met:
            raise ValueError(f"start='whittle' needs {what}: use start='model'")
    bin_s = float(series.gaps[own[0]])
    parts = np.split(np.arange(len(series.step)), np.flatnonzero(series.step[1:] < 0) + 1)
    tables = []
    for rows in parts:
        if len(rows) >= 8:
            y = series.y[rows]
            # the taper lets a mean leak into the lowest frequencies
            tables.append((series.output[rows[0]], *_bands(*periodogram((y - y.mean())[None], bin_s))))
    spectral = [i for i, name in enumerate(names) if not name.startswith("bias")]
    paths = [names[i] for i in spectral]
    for name in names:
        if name.startswith("bias"):
            o = int(name.partition("[")[2].rstrip("]"))
            model = unflatten(model, np.array([series.y[series.output == o].mean()]), [name])
    if not tables or not paths:
        return model

    def negative(vector: np.ndarray) -> float:
        current: Any = unflatten(model, vector, paths)
        noise = np.broadcast_to(np.asarray(current.likelihood.variance, float), len(model.bias)) * bin_s
        total, known = 0.0, {}
        for o, count, frequency, power in tables:
            key = (len(frequency), frequency[-1])  # series of one length have one set of frequencies
            if key not in known:
                known[key] = _aliased(current.kernel, frequency, bin_s)
            density = known[key] + noise[o]
            total += float((count * (np.log(density) + power / density)).sum())
        return total / len(series.y)

    bounds = np.log(allowed[spectral])
    start = np.clip(flatten(model, paths)[0], *bounds.T)
    result = minimize(negative, start, method="L-BFGS-B", bounds=bounds)
    return unflatten(model, result.x, paths)


def _bands(frequency: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of frequencies, their mean and their mean power, in each of a limited number of bands."""
    n = len(frequency)
    if n <= _ALONE + _BANDS:
        return np.ones(n), frequency, power
    cuts = np.unique(np.concatenate([np.arange(_ALONE), np.linspace(_ALONE, n, _BANDS + 1).astype(int)[:-1]]))
    count = np.diff([*cuts, n]).astype(float)
    return count, np.add.reduceat(frequency, cuts) / count, np.add.reduceat(power, cuts) / count


def _aliased(kernel: Kernel, frequency: np.ndarray, bin_s: float) -> np.ndarray:
    """The spectral density of the sampled process: all folds of that in continuous time."""
    folds = range(-_ALIASES, _ALIASES + 1)
    return np.sum([kernel.spectral_density(frequency + fold / bin_s) for fold in folds], axis=0)
