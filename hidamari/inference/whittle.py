r"""Whittle's likelihood: kernel hyperparameters from periodograms of posterior draws.

For the r draws of one latent on a regular grid, with Hann taper w and periodogram
I_k = dt |sum_t w_t f_t e^{-2 pi i k t / T}|^2 / sum_t w_t^2,

    log L = - sum_k [log S(f_k) + I_k / S(f_k)],    S(f) aliased: sum_n S(f + n / dt).

Draws are needed, not the posterior mean: E_q |FFT f|^2 contains the covariance between bins, and the mean
alone pushes the lengthscale towards infinity. The taper removes the leakage that flattens steep spectra; the
zero frequency is left out, since a mean is confounded with the bias. A cheap start, not a final answer.
"""

from collections.abc import Sequence

import numpy as np

from hidamari.parameters import flatten, unflatten
from hidamari.statespace.kernels import Kernel

__all__ = ["periodogram", "whittle", "whittle_kernels"]

_ALIASES = 3  # folds of the spectrum on either side: order 0 falls off only as 1 / f^2


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
            density = sum(
                current.spectral_density(frequency + fold / bin_s) for fold in range(-_ALIASES, _ALIASES + 1)
            )
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
