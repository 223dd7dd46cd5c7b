"""Online change detectors: their state, their compiled pass over rows.

A detector is a frozen dataclass with two methods: ``start(d, level, seed)`` gives its state, a mapping from
names to arrays, and ``run(state, z, threshold, restart)`` moves the state over rows z (T, d) and returns the
score of each row and, where it exceeded the threshold, the first row of the new segment (elsewhere -1). A
stream cut anywhere gives the same numbers, since the state is all that the next row depends on. NaN is not
observed, element by element.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = [
    "Cusum",
    "Detector",
    "Focus",
    "Network",
    "RunLength",
    "published_peaks",
]

State = dict[str, np.ndarray]
Answers = tuple[np.ndarray, np.ndarray]


class Detector(Protocol):
    """What a detector offers."""

    counts: bool

    def start(self, d: int, level: np.ndarray, seed: int) -> State:
        """State before the first row of d units at known levels."""
        ...

    def run(self, state: State, z: np.ndarray, threshold: float, restart: bool) -> Answers:
        """Scores and changes of rows z; moves the state."""
        ...

    def budget(self, d: int) -> int:
        """Rows to simulate for a threshold."""
        ...


def _answers(z: np.ndarray) -> Answers:
    """Where a pass writes the scores and changes of rows z."""
    return np.empty(len(z)), np.empty(len(z), np.int64)


@dataclass(frozen=True)
class Focus:
    r"""Log likelihood ratio of one change at any row so far, maximised exactly over all windows (FOCuS).

    score_t = max over s of log p(z before s) p(z_s..z_t at its best level) / p(all of z), for Gaussian rows
    of unit variance or Poisson counts; the level before is known, or at its own best value.

    Parameters
    ----------
    known : bool
        Whether the level before a change is known.
    counts : bool
        Poisson counts instead of Gaussian rows.
    together : bool
        Score the sum over units of each unit's largest ratio, instead of the largest of any unit.
    capacity : int
        Vertices of a convex hull kept for each unit and direction. About log t are needed, and the score is
        exact as long as ``state["dropped"]`` is zero.

    References
    ----------
    G. Romano, I. A. Eckley, P. Fearnhead, G. Rigaill, Fast online changepoint detection via functional
    pruning CUSUM statistics, JMLR 24, 2023. K. Ward, G. Dilillo, I. A. Eckley, P. Fearnhead, Poisson-FOCuS,
    JASA 2023.

    Examples
    --------
    >>> import numpy as np
    >>> detector = Focus()
    >>> state = detector.start(1, np.zeros(1), 0)
    >>> z = np.array([0.0, 0.1, -0.1, 3.0, 3.1])[:, None]
    >>> score, change = detector.run(state, z, 5.0, True)
    >>> score.round(2).tolist(), change.tolist()
    ([0.0, 0.0, 0.01, 3.38, 5.58], [-1, -1, -1, -1, 3])
    """

    known: bool = False
    counts: bool = False
    together: bool = False
    capacity: int = 256

    def start(self, d: int, level: np.ndarray, seed: int) -> State:
        """State before the first row."""
        hull = (d, 2, self.capacity)
        return {
            "level": np.array(level, dtype=float),
            "clock": np.zeros(1, np.int64),
            "n": np.zeros(d, np.int64),
            "S": np.zeros(d),
            "hull_n": np.zeros(hull, np.int64),
            "hull_S": np.zeros(hull),
            "hull_row": np.zeros(hull, np.int64),
            "size": np.zeros((d, 2), np.int64),
            "best": np.zeros(d),
            "since": np.zeros(d, np.int64),
            "dropped": np.zeros(1, np.int64),
        }

    def run(self, state: State, z: np.ndarray, threshold: float, restart: bool):
        """Scores and changes of rows z."""
        from hidamari.inference import _online

        loops: Any = _online
        score, change = _answers(z)
        options = (self.known, self.counts, self.together)
        loops.focus(z, *options, *state.values(), threshold, restart, score, change)
        return score, change

    def budget(self, d: int) -> int:
        """Rows to simulate for a threshold: about a second."""
        return 2_000_000 // d


@dataclass(frozen=True)
class Cusum:
    r"""Page's two-sided CUSUM: log likelihood ratio of a change by a given shift from a known level.

    g_t = max(0, g_{t-1} + log p(z_t | shifted) / p(z_t)), one for a rise and one for a fall; the score is the
    larger.

    Parameters
    ----------
    shift : float
        Of Gaussian rows, in their standard deviations; of counts the factor of their rate, above 1 (a fall
        is by 1 / shift).
    counts, together
        As for :class:`Focus`.
    relearn : int
        Rows after an alarm, without score, from which the level is learnt anew; 0 keeps it.

    References
    ----------
    E. S. Page, Continuous inspection schemes, Biometrika 41, 1954.

    Examples
    --------
    >>> import numpy as np
    >>> detector = Cusum(shift=2.0)
    >>> state = detector.start(1, np.zeros(1), 0)
    >>> detector.run(state, np.array([0.0, 2.0, 3.0])[:, None], 5.0, True)[0].tolist()
    [0.0, 2.0, 6.0]
    """

    shift: float = 1.0
    counts: bool = False
    together: bool = False
    relearn: int = 0

    def start(self, d: int, level: np.ndarray, seed: int) -> State:
        """State before the first row."""
        return {
            "level": np.array(level, dtype=float),
            "clock": np.array([0, self.relearn]),
            "seen": np.zeros(d),
            "best": np.zeros(d),
            "sides": np.zeros((d, 2)),
            "since": np.zeros((d, 2), np.int64),
        }

    def run(self, state: State, z: np.ndarray, threshold: float, restart: bool):
        """Scores and changes of rows z."""
        from hidamari.inference import _online

        loops: Any = _online
        score, change = _answers(z)
        options = (self.counts, self.together, self.shift, self.relearn)
        loops.cusum(z, *options, *state.values(), threshold, restart, score, change)
        return score, change

    def budget(self, d: int) -> int:
        """Rows to simulate for a threshold: about a second."""
        return 4_000_000 // d


@dataclass(frozen=True)
class RunLength:
    r"""Posterior of the run length, the number of rows since the last change, under conjugate models.

    p(r_t, z_1..t) = sum over r_{t-1} of p(r_t | r_{t-1}) p(z_t | the run's rows) p(r_{t-1}, z_1..t-1), where
    a new segment starts at any row with probability ``hazard``. Units are independent. Score: the log
    posterior odds that a change has happened since the stream began or restarted.

    Parameters
    ----------
    hazard : float
        Between 0 and 1.
    prior : tuple of float
        Gaussian rows: (mean, pseudo-count, shape, rate) of the normal-inverse-gamma prior. Counts: (shape,
        mean) of the gamma prior; a unit's prior mean is this mean times its level.
    counts : bool
        Poisson counts instead of Gaussian rows.
    slots : int
        Run lengths kept. While the stream is shorter the posterior is exact. Then every new run takes the
        place of the lightest. The posterior mass of hypotheses dropped so far, ``state["lost"]``, bounds the
        expected total variation between the exact posterior and this one under the model: a dropped
        hypothesis's posterior probability is a martingale.

    References
    ----------
    R. P. Adams, D. J. C. MacKay, Bayesian online changepoint detection, 2007. P. Fearnhead, Z. Liu, On-line
    inference for multiple changepoint problems, JRSS B 69, 2007.

    Examples
    --------
    >>> import numpy as np
    >>> detector = RunLength(hazard=0.1)
    >>> state = detector.start(1, np.zeros(1), 0)
    >>> z = np.array([0.0, 0.1, -0.1, 0.2, 9.0, 9.1, 8.9])[:, None]
    >>> detector.run(state, z, 3.0, True)[1].tolist()
    [-1, -1, -1, -1, 4, -1, -1]
    """

    hazard: float = 1.0 / 250.0
    prior: tuple[float, ...] = (0.0, 0.1, 1.0, 1.0)
    counts: bool = False
    slots: int = 200

    def start(self, d: int, level: np.ndarray, seed: int) -> State:
        """State before the first row."""
        prior = np.tile(np.array(self.prior, dtype=float), (d, 1))
        if self.counts:
            prior[:, 1] = prior[:, 0] / (prior[:, 1] * level)
        return {
            "prior": prior,
            "clock": np.zeros(1, np.int64),
            "used": np.zeros(1, np.int64),
            "start": np.zeros(self.slots, np.int64),
            "weight": np.zeros(self.slots),
            "n": np.zeros((self.slots, d)),
            "first": np.zeros((self.slots, d)),
            "second": np.zeros((self.slots, d)),
            "lost": np.zeros(1),
        }

    def run(self, state: State, z: np.ndarray, threshold: float, restart: bool):
        """Scores and changes of rows z."""
        from hidamari.inference import _online

        loops: Any = _online
        score, change = _answers(z)
        options = (self.counts, self.hazard)
        loops.run_length(z, *options, *state.values(), threshold, restart, score, change)
        return score, change

    def budget(self, d: int) -> int:
        """Rows to simulate for a threshold: about two seconds."""
        return 40_000_000 // (self.slots * d)

    def posterior(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Run lengths, shortest first, and their probabilities after the last row."""
        used = int(state["used"][0])
        lengths = state["clock"][0] - state["start"][:used]
        order = np.argsort(lengths)
        return lengths[order], np.exp(state["weight"][:used][order])


@dataclass(frozen=True)
class Network:
    r"""Networks trained online to tell the newest rows from those ``lag`` rows before: ONNC and ONNR.

    x_t stacks the last ``periods`` rows; the test window is the newest ``width`` vectors, the reference
    window ends ``width + lag`` rows before. Each row is scored first and learnt from afterwards. ONNC: a
    classifier f; divergence log f(test) / (1 - f(test)) - log f(ref) / (1 - f(ref)). ONNR: two estimates g of
    the relative density ratio by least squares; (g1(test) + g2(ref)) / 2 - 1. The score of a row is the mean
    divergence of the last ``width + lag`` rows.

    Parameters
    ----------
    width, lag, periods, hidden, epochs : int
        Sizes in rows; hidden units; optimiser steps a row.
    rate : float
        Of learning.
    adam : bool
        Adam, or RMSprop.
    regression : bool
        ONNR instead of ONNC.
    running : bool
        Standardise by the mean and spread of the rows so far.

    References
    ----------
    M. Hushchyn, K. Arzymatov, D. Derkach, Online neural networks for change-point detection, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> detector = Network(width=2, lag=10)
    >>> state = detector.start(3, np.zeros(3), 0)
    >>> score, change = detector.run(state, np.zeros((20, 3)), np.inf, True)
    >>> int(np.flatnonzero(np.isfinite(score)).min())
    13
    """

    width: int = 10
    lag: int = 100
    periods: int = 1
    hidden: int = 100
    epochs: int = 1
    rate: float = 0.003
    adam: bool = True
    regression: bool = False
    running: bool = True
    counts: bool = False

    def start(self, d: int, level: np.ndarray, seed: int) -> State:
        """State before the first row; weights uniform within one over the root of a layer's inputs."""
        inputs, H, nets = d * self.periods, self.hidden, 1 + self.regression
        rng = np.random.default_rng(seed)
        bound = np.full((inputs + 2) * H + 1, 1.0 / np.sqrt(H))
        bound[: (inputs + 1) * H] = 1.0 / np.sqrt(inputs)
        theta = rng.uniform(-bound, bound, (nets, len(bound)))
        return {
            "clock": np.zeros(3, np.int64),
            "past": np.zeros(inputs),
            "vectors": np.zeros((2 * self.width + self.lag, inputs)),
            "count": np.zeros(d),
            "mean": np.zeros(d),
            "square": np.zeros(d),
            "first": theta,
            "theta": theta.copy(),
            "slopes": np.zeros_like(theta),
            "squares": np.zeros_like(theta),
            "recent": np.zeros(self.width + self.lag),
            "total": np.zeros(2),
        }

    def run(self, state: State, z: np.ndarray, threshold: float, restart: bool):
        """Scores and changes of rows z."""
        return self.divergence(state, z, threshold, restart)[1:]

    def divergence(self, state: State, z: np.ndarray, threshold: float = np.inf, restart: bool = False):
        """Divergence of each row by itself, scores and changes."""
        from hidamari.inference import _online_network

        loops: Any = _online_network
        raw, (score, change) = np.empty(len(z)), _answers(z)
        options = (self.width, self.lag, self.hidden, self.epochs, self.rate, self.adam, self.regression)
        work = (*options, _ALPHA, self.running, *state.values(), threshold, restart, raw, score, change)
        loops.network(z, *work)
        return raw, score, change

    def budget(self, d: int) -> int:
        """Rows to simulate for a threshold: about two seconds."""
        return 200_000 // max(1, d * self.periods * self.width * self.epochs // 20)


_ALPHA = 0.1  # of the relative density ratio, as published


def published_peaks(raw: np.ndarray, width: int, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed scores and their peaks as ONNC and ONNR were published: with hindsight.

    Divergences are moved back by lag + width rows, averaged over as many and smoothed by a cubic
    Savitzky-Golay filter; change points are the local maxima among lag + width rows on either side.

    Parameters
    ----------
    raw : ndarray, shape (T,)
        Divergences from :meth:`Network.divergence`, NaN before the first.
    width, lag : int
        Of the network.

    Returns
    -------
    tuple of ndarray
        Scores (T,) and change points (K,).

    Raises
    ------
    ValueError
        If there are fewer rows than the two windows and their lag take.

    Examples
    --------
    >>> import numpy as np
    >>> raw = np.exp(-0.5 * ((np.arange(100) - 60) / 5) ** 2)
    >>> int(published_peaks(raw, 2, 10)[1][-1])
    53
    """
    from scipy.signal import argrelmax, savgol_filter

    shift, T = lag + width, len(raw)
    length = max(min(21, shift // 2), 5)
    if max(length, 2 * width + lag) > T:
        raise ValueError(f"raw must have at least {max(length, 2 * width + lag)} rows, found {T}")
    moved = np.zeros(T)
    moved[: max(T - shift, 0)] = np.nan_to_num(raw[shift:])
    total = np.concatenate([[0.0], np.cumsum(moved)])
    end = np.arange(1, T + 1)
    begin = np.maximum(end - 1 - shift, 0)
    score = (total[end] - total[begin]) / (end - begin)
    score = np.asarray(savgol_filter(score, length, 3))
    return score, argrelmax(score, order=shift)[0]
