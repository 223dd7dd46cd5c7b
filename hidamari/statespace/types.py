"""The shapes everything is made of: a bank of Markov chains, and Gaussian factors on what it reads out.

==========  ====================  =====================================================================
symbol      shape                 meaning
==========  ====================  =====================================================================
T           int                   rows of the time axis, all trials one after the other
C, d, k, K  int                   chains, states of a chain, read-outs of a chain, K = C k in all
S           int                   distinct steps: 1 on a regular grid
A, Q        (S, C, d, d)          x_t = A x_{t-1} + w, w ~ N(0, Q)
H           (C, k, d)             f_c = H_c x_c
m, P        (C, d), (C, d, d)     the prior at the first row of each trial
j, J        (T, K), (T, K[, K])   a site: exp(j' f - f' J f / 2); zeros say that nothing was seen
==========  ====================  =====================================================================
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Filtered", "Readings", "Sites", "Smoothed", "StateSpace"]


class StateSpace(NamedTuple):
    """A bank of C independent linear-Gaussian Markov chains.

    Row t moves t-1 to t with ``A[step[t]]`` and ``Q[step[t]]``. A negative ``step[t]`` starts a new trial:
    the state of row t is drawn from the prior N(m, P). Row 0 always starts one. Many trials of unequal
    length are so one time axis. Chains with fewer states than d are padded with zeros, which is harmless
    because nothing is ever inverted.
    """

    A: np.ndarray  # (S, C, d, d)
    Q: np.ndarray  # (S, C, d, d)
    step: np.ndarray  # (T,) int64
    H: np.ndarray  # (C, k, d)
    m: np.ndarray  # (C, d)
    P: np.ndarray  # (C, d, d)


class Sites(NamedTuple):
    """Gaussian factors exp(j_t' f_t - f_t' J_t f_t / 2), one at each row."""

    j: np.ndarray  # (T, K)
    J: np.ndarray  # (T, K, K), or (T, K) when diagonal


class Filtered(NamedTuple):
    """Moments of f given the rows so far, and the increments of the log normaliser."""

    mean: np.ndarray  # (T, K)
    cov: np.ndarray  # (T, K, K), or (T, K) when the sites are diagonal
    log_norm: np.ndarray  # (T,) log of the integral of prior times sites, increment of row t


class Smoothed(NamedTuple):
    """Moments of f given all rows of its trial."""

    mean: np.ndarray  # (T, K)
    cov: np.ndarray  # (T, K, K), or (T, K) when the sites are diagonal


class Readings(NamedTuple):
    """Readings y = f + e, e ~ N(0, R), one number of noise each; NaN in y or an infinite R: not observed.

    R = 0 is an exact reading, which no site can express.
    """

    y: np.ndarray  # (T, K)
    R: np.ndarray  # (T, K)
