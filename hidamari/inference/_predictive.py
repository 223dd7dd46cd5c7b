"""Central intervals of a latent value or of a new observation, under one Gaussian or a mixture of several."""

from collections.abc import Callable

import numpy as np
from scipy.special import bdtr, betainc, gammaincc, ndtr, ndtri, stdtr

from hidamari.inference.likelihoods import Binomial, Gaussian, Likelihood, NegativeBinomial, Poisson, StudentT

__all__ = ["latent_quantile", "observation_quantile"]

_HALVINGS = 60
_Z = np.linspace(-8.0, 8.0, 257)  # trapezoids: right to 1e-10 for smooth CDFs, to 0.002 for the steepest
_W = np.exp(-0.5 * _Z**2) / np.exp(-0.5 * _Z**2).sum()
_CHUNK = 2**20 // len(_Z)


def latent_quantile(p: float, m: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Quantile of equal mixtures of N(m, v), (B, ...) -> (...)."""
    s = np.sqrt(v)
    each = m + ndtri(p) * s
    low, high = each.min(0), each.max(0)  # a mixture's quantile lies between those of its components
    if len(m) == 1:
        return low
    flat = np.where(s > 0.0, s, np.finfo(float).tiny)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        below = ndtr((middle - m) / flat).mean(0) < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def observation_quantile(
    p: float, m: np.ndarray, v: np.ndarray, likelihoods: list[Likelihood], exposure: float
) -> np.ndarray:
    """Quantile of a new observation whose eta is an equal mixture of N(m, v), (B, M, N) -> (M, N).

    There is one likelihood for each of the B components. Counts give the least number whose CDF reaches p.
    """
    if isinstance(likelihoods[0], Gaussian):
        noise = np.stack([one.conditional_variance(np.zeros(m.shape[1:])) for one in likelihoods])
        return latent_quantile(p, m, v + noise)
    whole = not isinstance(likelihoods[0], StudentT)
    size = max(1, _CHUNK // (len(m) * m.shape[2]))
    found = np.empty(m.shape[1:])
    for start in range(0, len(found), size):
        rows = slice(start, start + size)
        spread = np.sqrt(v[:, rows])[..., None] * _Z
        eta = m[:, rows, :, None] + spread

        def below(y: np.ndarray, eta=eta) -> np.ndarray:
            """P(observation <= y)."""
            each = [_cdf(one, y[..., None], e, exposure) @ _W for one, e in zip(likelihoods, eta)]
            return np.mean(each, axis=0)

        found[rows] = _whole(below, p, eta.shape[1:3]) if whole else _real(below, p, eta)
    return found


def _whole(below: Callable[[np.ndarray], np.ndarray], p: float, shape: tuple) -> np.ndarray:
    """Least whole number y >= 0 with below(y) >= p."""
    low, high = np.full(shape, -1.0), np.zeros(shape)
    while True:
        short = below(high) < p
        if not short.any():
            break
        low, high = np.where(short, high, low), np.where(short, 2.0 * high + 1.0, high)
    while True:
        middle = np.maximum(np.floor(0.5 * (low + high)), 0.0)
        if ((middle <= low) | (middle >= high)).all():
            break
        short = below(middle) < p
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return high


def _real(below: Callable[[np.ndarray], np.ndarray], p: float, eta: np.ndarray) -> np.ndarray:
    """The number y with below(y) = p."""
    centre = eta[..., len(_Z) // 2].mean(0)
    low, high = centre.copy(), centre.copy()
    width = np.ptp(eta, axis=(0, -1)) + 1.0
    while (short := below(high) < p).any():
        high, width = np.where(short, high + width, high), 2.0 * width
    width = np.ptp(eta, axis=(0, -1)) + 1.0
    while (far := below(low) > p).any():
        low, width = np.where(far, low - width, low), 2.0 * width
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        short = below(middle) < p
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return 0.5 * (low + high)


def _cdf(likelihood: Likelihood, y: np.ndarray, eta: np.ndarray, exposure: float) -> np.ndarray:
    """P(observation <= y | eta); parameters of the likelihood run along the axis before the last."""

    def own(field: str) -> np.ndarray:
        return np.asarray(getattr(likelihood, field), float)[..., None]

    match likelihood:
        case Poisson():
            return gammaincc(y + 1.0, likelihood.mean(eta, exposure))
        case NegativeBinomial():
            r = own("dispersion")
            return betainc(r, y + 1.0, r / (r + np.exp(eta) * exposure))
        case Binomial():
            chance = 1.0 / (1.0 + np.exp(-eta))
            return bdtr(y, np.broadcast_to(own("n"), eta.shape).astype(int), chance)
        case StudentT():
            return stdtr(own("df"), (y - eta) / own("scale"))
    raise ValueError(
        f"observation=True needs the distribution function of {type(likelihood).__name__}, which is not "
        "known here; allowed: interval=None, or quantiles of sample(observation=True)"
    )
