r"""The read-out eta = C f + b: Newton steps that keep the latents' uncertainty, and a learnt prior on C.

Per unit, with mu and v as in :mod:`hidamari.inference.sites`, the objective and its derivatives are

    F(c, b) = sum_t E(mu_t, v_t) - c' diag(a) c / 2 - a_b (b - b_0)^2 / 2
    dF/dc   = sum_t alpha_t m_t - beta_t V_t c - diag(a) c        dF/db = sum_t alpha_t - a_b (b - b_0)
    -Hess   ~ sum_t beta_t [m_t m_t' + V_t, m_t; m_t', 1] + diag(a, a_b)

(the curvature leaves out the change of beta with v, and is exact for a Gaussian likelihood). The step of a
unit is halved until its F rises, so a unit never gets worse; silent and constant units stay finite because of
the priors. All sums are two matrix products a slab of rows.

Prior: c_nl ~ N(0, 1/a_l), with a_l ~ Gamma so that one latent counts as ``strength`` N units of loading u
(see :func:`update_prior`); b_n ~ N(b_0, 1/a_b) with b_0 and a_b learnt. u is 0.35 for log rates and logits,
and the deviation of the data where eta is in their units, so that those do not matter. Plain maximum
likelihood over-fits sparse recordings and extrapolates bursts; free relevances without the Gamma prior prune
latents that do predict held-out units.
"""

from typing import NamedTuple

import numpy as np

from hidamari.inference.sites import Readout, _outer, map_slabs, pack, triangle, unpack

__all__ = [
    "LoadingPrior",
    "Slopes",
    "canonical_order",
    "log_prior",
    "newton_step",
    "slopes",
    "update_prior",
    "update_readout",
]


class LoadingPrior(NamedTuple):
    """Independent normal priors: c_nl ~ N(0, 1 / relevance_l), b_n ~ N(bias_mean, 1 / bias_precision)."""

    relevance: np.ndarray  # (K,)
    bias_mean: float
    bias_precision: float
    unit: float = 1.0  # what one is on the scale of eta


def log_prior(
    readout: Readout, prior: LoadingPrior, strength: float, free: tuple[bool, bool] = (True, True)
) -> float:
    """Log density of what is free of loadings and bias, and of its prior, without constants."""
    N = len(readout.bias)
    a = prior.relevance
    loadings = 0.5 * N * np.log(a).sum() - 0.5 * float((readout.loadings**2 @ a).sum())
    gamma = 0.5 * strength * N * float((np.log(a) - a * prior.unit**2).sum())
    gap = readout.bias - prior.bias_mean
    a_b = prior.bias_precision
    bias = 0.5 * (N + 1) * np.log(a_b) - 0.5 * a_b * (float(gap @ gap) + prior.unit**2)
    return float(free[0] * (loadings + gamma) + free[1] * bias)


def update_prior(readout: Readout, strength: float, unit: float = 1.0) -> LoadingPrior:
    """The mode of the relevances and of the bias's mean and spread, given the read-out.

    With a_l ~ Gamma(1 + s N / 2, s N u^2 / 2), s the strength and u the unit of eta:
    a_l = (1 + s) N / (sum_n c_nl^2 + s N u^2), which lies between 0 and (1 + 1/s) / u^2. The spread of the
    bias is shrunk in the same way towards one u.
    """
    N = len(readout.bias)
    relevance = (1.0 + strength) * N / ((readout.loadings**2).sum(0) + strength * N * unit**2)
    mean = float(readout.bias.mean())
    spread = float(((readout.bias - mean) ** 2).sum())
    return LoadingPrior(relevance, mean, (N + 1.0) / (spread + unit**2), unit)


class Slopes(NamedTuple):
    """Expected log likelihood of every unit as a function of its loadings and bias (c, b)."""

    value: np.ndarray  # (N,)
    first: np.ndarray  # (N, K+1)
    curvature: np.ndarray  # (N, K+1, K+1), minus the second derivatives


def slopes(readout: Readout, likelihood, y, mean, cov, exposure, n_threads: int | None = None) -> Slopes:
    """Value, gradient and curvature for every unit, under q(f) = N(mean, cov)."""
    T, N = y.shape
    K = mean.shape[1]
    _, twice = _outer(readout.loadings)
    i, l = triangle(K)
    P = len(i)

    def work(rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        m, V = mean[rows], pack(cov[rows])
        mu = m @ readout.loadings.T
        mu += readout.bias
        v = V @ twice.T
        np.maximum(v, 0.0, out=v)
        E, alpha, beta = likelihood.expectations(y[rows], mu, v, exposure, constant=0.0)
        one = np.ones((len(m), 1))
        features = np.concatenate([m, one, V, m[:, i] * m[:, l]], axis=1)
        return E.sum(0), alpha.T @ features[:, : K + 1], beta.T @ features

    value, first, second = (np.sum(parts, axis=0) for parts in zip(*map_slabs(work, T, N, n_threads)))
    m_sum, spread = second[:, : K + 1], unpack(second[:, K + 1 : K + 1 + P], K)
    first[:, :K] -= np.einsum("nab,nb->na", spread, readout.loadings)
    curvature = np.empty((N, K + 1, K + 1))
    curvature[:, :K, :K] = spread + unpack(second[:, K + 1 + P :], K)
    curvature[:, :, K] = m_sum
    curvature[:, K, :] = m_sum
    return Slopes(value, first, curvature)


def update_readout(
    readout: Readout,
    prior: LoadingPrior,
    likelihood,
    y: np.ndarray,
    mean: np.ndarray,
    cov: np.ndarray,
    exposure: float = 1.0,
    n_steps: int = 1,
    tol: float = 1e-12,
    free: tuple[bool, bool] = (True, True),
) -> Readout:
    """Newton steps on loadings and bias of every unit, given q(f) = N(mean, cov).

    Parameters
    ----------
    readout, prior : Readout, LoadingPrior
        Where to start, and the prior.
    likelihood, y, mean, cov, exposure
        As for :func:`hidamari.inference.sites.expected_sites`.
    n_steps : int
        At most so many accepted steps a unit.
    tol : float
        A unit is done when a step raises its objective by less than this fraction.
    free : (bool, bool)
        Whether the loadings and the bias may move.
    """
    N, K = readout.loadings.shape
    precision = np.append(prior.relevance, prior.bias_precision)
    centre = np.append(np.zeros(K), prior.bias_mean)
    moving = np.append(np.full(K, free[0]), free[1])
    w = np.column_stack([readout.loadings, readout.bias])

    def look(w):
        # a step too far overflows; its objective is then not finite, and it is taken back
        with np.errstate(over="ignore", invalid="ignore"):
            now = Readout(w[:, :K], w[:, K])
            value, first, curvature = slopes(now, likelihood, y, mean, cov, exposure)
        gap = w - centre
        value = value - 0.5 * (gap**2 @ precision)
        return value, first - precision * gap, curvature + np.diag(precision)

    def direction(first, curvature):
        out = np.zeros_like(first)
        if moving.any():
            block = curvature[:, moving][:, :, moving]
            out[:, moving] = np.linalg.solve(block, first[:, moving, None])[:, :, 0]
        return out

    value, first, curvature = look(w)
    step = direction(first, curvature)
    size = np.ones(N)
    accepted, active = np.zeros(N, int), np.ones(N, bool)
    for _ in range(4 * n_steps + 8):
        trial = w + np.where(active, size, 0.0)[:, None] * step
        new_value, new_first, new_curvature = look(trial)
        better = active & (new_value >= value - 1e-13 * np.abs(value))
        gain = np.where(better, new_value - value, 0.0)
        w[better] = trial[better]
        step[better] = direction(new_first[better], new_curvature[better])
        settled = better & (size == 1.0) & (gain <= tol * np.abs(value))
        value[better] = new_value[better]
        accepted += better
        size = np.where(better, np.minimum(1.0, 2 * size), size / 2)
        active &= (accepted < n_steps) & ~settled & (size > 1e-9)
        if not active.any():
            break
    return Readout(np.ascontiguousarray(w[:, :K]), np.ascontiguousarray(w[:, K]))


def newton_step(
    readout: Readout, prior: LoadingPrior, at: Slopes, free: tuple[bool, bool] = (True, True)
) -> Readout:
    """One full Newton step of every unit from its slopes; whether it helps is for the caller to see."""
    K = readout.loadings.shape[1]
    precision = np.append(prior.relevance, prior.bias_precision)
    centre = np.append(np.zeros(K), prior.bias_mean)
    moving = np.append(np.full(K, free[0]), free[1])
    w = np.column_stack([readout.loadings, readout.bias])
    if moving.any():
        first = (at.first - precision * (w - centre))[:, moving]
        curvature = (at.curvature + np.diag(precision))[:, moving][:, :, moving]
        w[:, moving] += np.linalg.solve(curvature, first[:, :, None])[:, :, 0]
    return Readout(np.ascontiguousarray(w[:, :K]), np.ascontiguousarray(w[:, K]))


def canonical_order(readout: Readout, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order of the latents by the log-rate variance they explain, and signs that make loadings sum above 0.

    Explained variance of latent l: |c_l|^2 var_t(m_tl). Ties and zero sums keep order and sign.
    """
    explained = (readout.loadings**2).sum(0) * mean.var(0)
    order = np.argsort(-explained, kind="stable")
    signs = np.where(readout.loadings.sum(0) < 0, -1.0, 1.0)[order]
    return order, signs
