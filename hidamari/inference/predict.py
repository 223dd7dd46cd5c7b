"""Reading a posterior where there are no data: at any times, and after the end."""

from collections.abc import Sequence

import numpy as np

from hidamari.statespace import kalman
from hidamari.statespace.kernels import Kernel, bank, steps
from hidamari.statespace.types import Sites, Smoothed

__all__ = ["read_ahead", "read_at", "trial_steps"]


def trial_steps(lengths: np.ndarray) -> np.ndarray:
    """Step of every row of a regular grid: 0 within a trial, -1 at its first row."""
    step = np.zeros(int(np.sum(lengths)), np.int64)
    step[np.concatenate([[0], np.cumsum(lengths)[:-1]])] = -1
    return step


def _spread(sites: Sites, rows: np.ndarray, n_rows: int) -> Sites:
    """The sites on some of the rows of a longer time axis, nothing on the others."""
    K = sites.j.shape[1]
    j, J = np.zeros((n_rows, K)), np.zeros((n_rows, K, K))
    j[rows], J[rows] = sites
    return Sites(j, J)


def read_at(
    kernels: Sequence[Kernel],
    sites: Sites,
    clocks: Sequence[np.ndarray],
    times: np.ndarray,
    n_threads: int | None = None,
) -> Smoothed:
    """Moments of the latents at ``times``, increasing, in every trial, whose sites stand at its clock.

    The two time axes are merged into one irregular grid; rows without sites cost one step each.
    """
    merged, places, start = [], [], 0
    for own in clocks:
        both = np.concatenate([own, times])
        order = np.argsort(both, kind="stable")
        merged.append(both[order])
        places.append(start + order.argsort(kind="stable"))
        start += len(both)
    data = np.concatenate([place[: len(own)] for place, own in zip(places, clocks)])
    new = np.concatenate([place[len(own) :] for place, own in zip(places, clocks)])
    ss = bank(kernels, *steps(merged))
    smoothed, _ = kalman.infer(ss, _spread(sites, data, start), n_threads=n_threads)
    return Smoothed(smoothed.mean[new], smoothed.cov[new])


def read_ahead(
    kernels: Sequence[Kernel],
    sites: Sites,
    lengths: np.ndarray,
    n_ahead: int,
    bin_s: float,
    n_threads: int | None = None,
) -> Smoothed:
    """Moments of the latents in the ``n_ahead`` bins after every trial of a regular grid."""
    longer = np.asarray(lengths) + n_ahead
    ends = np.cumsum(longer)
    new = (ends[:, None] - n_ahead + np.arange(n_ahead)).ravel()
    data = np.setdiff1d(np.arange(ends[-1]), new)
    ss = bank(kernels, np.array([bin_s]), trial_steps(longer))
    smoothed, _ = kalman.infer(ss, _spread(sites, data, int(ends[-1])), n_threads=n_threads)
    return Smoothed(smoothed.mean[new], smoothed.cov[new])
