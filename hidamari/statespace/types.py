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

from typing import Any, NamedTuple

__all__ = ["Filtered", "Readings", "Sites", "Smoothed", "StateSpace"]

Array = Any  # of numpy or of jax; both in one model follow the rule in kalman


class StateSpace(NamedTuple):
    """A bank of C independent linear-Gaussian Markov chains.

    Row t moves t-1 to t with ``A[step[t]]`` and ``Q[step[t]]``. A negative ``step[t]`` starts a new trial:
    the state of row t is drawn from the prior N(m, P). Row 0 always starts one. Many trials of unequal
    length are so one time axis. Chains with fewer states than d are padded with zeros, which is harmless
    because nothing is ever inverted.
    """

    A: Array  # (S, C, d, d)
    Q: Array  # (S, C, d, d)
    step: Array  # (T,) int64
    H: Array  # (C, k, d)
    m: Array  # (C, d)
    P: Array  # (C, d, d)


class Sites(NamedTuple):
    """Gaussian factors exp(j_t' f_t - f_t' J_t f_t / 2), one at each row."""

    j: Array  # (T, K)
    J: Array  # (T, K, K), or (T, K) when diagonal


class Filtered(NamedTuple):
    """Moments of f given the rows so far, and the increments of the log normaliser."""

    mean: Array  # (T, K)
    cov: Array  # (T, K, K), or (T, K) when the sites are diagonal
    log_norm: Array  # (T,) log of the integral of prior times sites, increment of row t


class Smoothed(NamedTuple):
    """Moments of f given all rows of its trial."""

    mean: Array  # (T, K)
    cov: Array  # (T, K, K), or (T, K) when the sites are diagonal


class Readings(NamedTuple):
    """Readings y = f + e, e ~ N(0, R), one number of noise each; NaN in y or an infinite R: not observed.

    R = 0 is an exact reading, which no site can express.
    """

    y: Array  # (T, K)
    R: Array  # (T, K)
