r"""The one fixed-point loop from data to a posterior: sites by natural gradients, steps by the ELBO.

    ELBO = E_q[log p(y | f)] - KL(q | prior),    KL = sum_t E_q[j_t'f_t - f_t'J_t f_t / 2] - log Z(sites)

holds for any sites, since q is the prior times the sites, normalised. Each sweep goes a fraction rho of the
way from the sites to the target of :func:`hidamari.inference.sites.expected_sites`; if the ELBO falls, the
step is taken back and halved, so that the ELBO never falls (a fixed step diverges on a single large count).
"""

from typing import NamedTuple

import numpy as np

from hidamari.inference.sites import Readout, expected_sites
from hidamari.statespace import kalman
from hidamari.statespace.types import Sites, StateSpace

__all__ = ["Posterior", "condition", "condition_with_slope", "empty_sites", "infer_sites", "site_kl"]

_PLAIN_BELOW = 1e7  # plain covariances keep nine digits up to here, more than a variational posterior has
_LONG = 2.0**-5  # a step that may end the search
_SMALLEST_STEP = 2.0**-40  # a step this small that still lowers the ELBO can only be rounding


class Posterior(NamedTuple):
    """q(f) and how it was reached."""

    sites: Sites
    mean: np.ndarray  # (T, K)
    cov: np.ndarray  # (T, K, K)
    target: Sites  # where the next natural-gradient step would go
    elbo: float  # without the part of log p(y | f) that depends on y alone, but with the constant
    history: tuple[float, ...]  # the ELBO before the first sweep and after each
    converged: bool


def empty_sites(n_rows: int, n_latents: int) -> Sites:
    """Sites that say nothing."""
    return Sites(np.zeros((n_rows, n_latents)), np.zeros((n_rows, n_latents, n_latents)))


def site_kl(sites: Sites, mean: np.ndarray, cov: np.ndarray, log_evidence: float) -> float:
    """KL(q | prior) of q = prior times sites over Z."""
    spread = np.einsum("tab,tab->", sites.J, cov)
    product = np.matmul(sites.J, mean[:, :, None])[:, :, 0]
    inner = np.einsum("ta,ta->", sites.j - 0.5 * product, mean)
    return float(inner - 0.5 * spread - log_evidence)


def condition(
    ss: StateSpace, sites: Sites, n_threads: int | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean (T, K), covariance (T, K, K) and log evidence of the prior under the sites."""
    form = "covariance" if kalman.precision_ratio(ss, sites.J) < _PLAIN_BELOW else "square_root"
    (mean, cov), log_evidence = kalman.infer(ss, sites, form=form, n_threads=n_threads)
    return mean, cov, log_evidence


def condition_with_slope(
    ss: StateSpace, sites: Sites, n_threads: int | None = None
) -> tuple[np.ndarray, np.ndarray, float, StateSpace | None]:
    """As :func:`condition`, with the derivatives of the log evidence by the chains' matrices.

    They come from the same pass, in the plain form; where sites are too precise for it there are none.
    """
    if kalman.precision_ratio(ss, sites.J) >= _PLAIN_BELOW:
        return *condition(ss, sites, n_threads), None
    (mean, cov), log_evidence, slope = kalman.evidence_gradient(ss, sites, n_threads=n_threads)
    return mean, cov, log_evidence, slope


def infer_sites(
    ss: StateSpace,
    y: np.ndarray,
    readout: Readout,
    likelihood,
    exposure: float = 1.0,
    sites: Sites | None = None,
    max_sweeps: int = 100,
    tol: float = 1e-8,
    n_threads: int | None = None,
    constant: float | np.ndarray = 0.0,
) -> Posterior:
    """q(f) for y (T, N) with NaN where nothing was observed, by conjugate-computation variational inference.

    Parameters
    ----------
    ss : StateSpace
        The prior of the latents, trials marked by negative steps.
    y : (T, N)
        Observations.
    readout : Readout
        Loadings and bias.
    likelihood : likelihood of ``hidamari.inference.likelihoods``
        p(y | eta), elementwise.
    exposure : float
        Seconds per bin, for counts.
    sites : Sites, optional
        Where to start, if it is not far; else the better of a step from the prior and one from the data.
    max_sweeps : int
        At most so many accepted steps.
    tol : float
        Stop when a full step would raise the ELBO by less than this fraction of it.
    constant : float or (T, N)
        Stands in the ELBO for the part of the log likelihood of an entry that depends on y alone.

    Returns
    -------
    Posterior

    References
    ----------
    Khan and Lin (2017), Conjugate-computation variational inference; Dowling, Zhao, Park (2023).
    """

    def look(candidate: Sites):
        mean, cov, log_evidence = condition(ss, candidate, n_threads)
        # a step too far overflows, here or there; its ELBO is then not finite, and it is taken back
        with np.errstate(over="ignore", invalid="ignore"):
            expected = expected_sites(readout, likelihood, y, mean, cov, exposure, False, n_threads, constant)
            elbo = expected.value - site_kl(candidate, mean, cov, log_evidence)
        return candidate, mean, cov, expected.sites, elbo

    given = None if sites is None else look(sites)
    if given is not None and (max_sweeps == 0 or not _is_far(given[3].j - given[0].j)):
        current = given
    else:  # sites that were found for other parameters may be worse than none
        current = look(empty_sites(len(y), readout.loadings.shape[1]))
        if not np.isfinite(current[4]) or _is_far(current[3].j):
            informed = look(_from_data(y, readout, likelihood, exposure))
            if not np.isfinite(current[4]) or informed[4] > current[4]:
                current = informed
        if given is not None and given[4] >= current[4]:
            current = given
    history = [current[4]]
    rho, converged = 1.0, False
    while len(history) <= max_sweeps:
        old, target = current[0], current[3]
        step = (
            Sites(old.j + rho * (target.j - old.j), old.J + rho * (target.J - old.J)) if rho < 1 else target
        )
        new = look(step)
        # rounding of the sums alone moves the ELBO by about this much (of the new sums it may be infinite)
        slack = 1e-13 * (abs(current[4]) + abs(float(np.vdot(old.j, current[1]))))
        slack = max(slack, 0.1 * tol * max(abs(current[4]), 1.0))  # nor do falls matter that end the search
        if not new[4] >= current[4] - slack:
            rho /= 2
            if rho < _SMALLEST_STEP:
                converged = bool(np.isfinite(current[4]))
                break
            continue
        gain, current = new[4] - current[4], new
        history.append(current[4])
        # a fraction rho of a step brings about so much of its rise; where full ones fall, it must do
        if rho >= _LONG and gain <= rho * tol * max(abs(current[4]), 1.0):
            converged = True
            break
        rho = min(1.0, 1.5 * rho)  # not twice: that may fall every time
    return Posterior(*current[:3], current[3], current[4], tuple(history), converged)


def _is_far(step: np.ndarray) -> bool:
    """Whether a full step may throw a latent many prior deviations away."""
    return bool(not np.abs(step).max(initial=0.0) <= 10.0)


def _from_data(y: np.ndarray, readout: Readout, likelihood, exposure: float) -> Sites:
    """Sites of one step taken at the latents that explain each bin's data by themselves.

    The linear predictor of each entry starts at its own maximum-likelihood value, shrunk by half a count.
    """
    mu, v = likelihood.start(y, readout.bias, exposure)
    _, alpha, beta = likelihood.expectations(y, mu, v, exposure, constant=0.0)
    J = np.einsum("tn,na,nb->tab", beta, readout.loadings, readout.loadings, optimize=True)
    # a site about eta_n alone: beta (mu - b) + alpha is its pseudo-reading times precision
    j = (alpha + beta * (mu - readout.bias)) @ readout.loadings
    return Sites(j, J)
