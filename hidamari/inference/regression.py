r"""Reading a Gaussian process off its data: at any times, with its derivatives, its parts, and joint draws.

Everything is one chain under Gaussian factors on f = H x (readings with their noise, or the sites of another
likelihood). What is asked for is a further read-out of the same state that no factor touches,

    f^(n) = H F^n x  (where H F^i D = 0 for i < n: the noise does not reach it),      part i of a sum = H_i x,

and new times are further rows that nothing was seen at, so every answer costs time linear in the rows.

References
----------
S. Särkkä and A. Solin, Applied Stochastic Differential Equations, 2019, chapter 12.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hidamari.inference.objective import GPModel, evidence_and_gradient
from hidamari.inference.series import Laid, lay_series
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Kernel, Sum, bank
from hidamari.statespace.types import Readings, Sites, StateSpace

__all__ = [
    "Data",
    "Factors",
    "condition",
    "derivative_rows",
    "draw",
    "gather",
    "parts",
    "read",
    "readings",
]

_PLAIN_DRAWS_BELOW = 1e4  # prior variance over noise up to which draws by plain covariances keep 12 digits


class Data(NamedTuple):
    """Observations of trials, each in its own order of times."""

    times: list[np.ndarray]  # (T_r,) of each trial
    values: np.ndarray  # (T, output), rows of all trials; NaN: not observed
    error: np.ndarray | None  # (T, output) known variances, for Gaussian noise
    exposure: float  # seconds per bin, for counts


class Factors(NamedTuple):
    """What the data say about f, row by row in the order of the data.

    Readings of f and their variances where ``readings`` is true (a zero is exact), else sites j and J.
    """

    readings: bool
    first: np.ndarray  # (T, output)
    second: np.ndarray  # (T, output)


def condition(
    model: GPModel, data: Data, tol: float = 1e-12, n_threads: int | None = None
) -> tuple[Factors, float, bool]:
    """Factors of the data under a model, the log evidence (for other than Gaussian noise the ELBO), settled.

    Parameters
    ----------
    model : GPModel
        Kernel, likelihood and biases.
    data : Data
        Observations.
    tol : float
        As in `evidence_and_gradient`.
    n_threads : int, optional
        Threads over series.

    Returns
    -------
    tuple of Factors, float and bool

    Examples
    --------
    >>> from hidamari.inference.likelihoods import Gaussian
    >>> from hidamari.statespace.kernels import Matern
    >>> model = GPModel(Matern(), Gaussian(1.0), np.zeros(1))
    >>> factors, value, _ = condition(model, Data([np.zeros(1)], np.ones((1, 1)), None, 1.0))
    >>> bool(np.isclose(value, -0.25 - 0.5 * np.log(4 * np.pi)))  # y ~ N(0, 1 + 1)
    True
    """
    laid = gather(data)
    found = evidence_and_gradient(
        model, (), laid.series, exposure=data.exposure, tol=tol, n_threads=n_threads
    )
    if found.sites is None:
        return readings(model, data), found.value, found.converged
    place = np.concatenate(laid.rows)
    return Factors(False, found.sites.j[place, 0], found.sites.J[place, 0]), found.value, found.converged


def gather(data: Data) -> Laid:
    """All series of the data end to end, and the way back."""
    ends = np.cumsum([len(own) for own in data.times])[:-1]
    error = None if data.error is None else np.split(data.error, ends)
    return lay_series(data.times, np.split(data.values, ends), error)


def readings(model: GPModel, data: Data) -> Factors:
    """Factors of data with Gaussian noise: y less the bias, and its variance with the known ones."""
    likelihood: Any = model.likelihood
    noise = np.broadcast_to(np.asarray(likelihood.variance, float), data.values.shape)
    return Factors(True, data.values - model.bias, noise if data.error is None else noise + data.error)


def read(
    kernel: Kernel,
    factors: Factors,
    times: Sequence[np.ndarray],
    new: Sequence[np.ndarray] | None = None,
    rows: np.ndarray | None = None,
    n_threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance of f, and of further read-outs of its state.

    Parameters
    ----------
    kernel : Kernel
        The prior.
    factors : Factors
        What the data say.
    times : sequence of (T_r,)
        Times of the data, trial by trial.
    new : sequence of (M_r,), optional
        Times to read at, in any order; by default those of the data.
    rows : (n, d), optional
        Further read-outs, such as :func:`derivative_rows`.
    n_threads : int, optional
        Threads over series.

    Returns
    -------
    mean, var : ndarray, shape (M, output, 1 + n)
        Rows of all trials in the order asked for; f first.
    """
    ss, evidence, place = _lay_out(kernel, factors, times, new)
    if rows is None:
        (mean, var), _ = kalman.infer(ss, evidence, n_threads=n_threads)
        return mean[place], var[place]
    H = np.vstack([kernel.readout(), rows])
    wide = np.zeros((len(ss.step), len(H)))
    wide[:, :1] = evidence[1]
    if isinstance(evidence, Readings):
        y = np.full_like(wide, np.nan)
        y[:, :1] = evidence.y
        wide[:, 1:] = 1.0
        evidence = Readings(y, wide)
    else:
        j = np.zeros_like(wide)
        j[:, :1] = evidence.j
        evidence = Sites(j, wide)
    (mean, var), _ = kalman.infer(ss._replace(H=H[None]), evidence, n_threads=n_threads)
    return mean[place], var[place]


def draw(
    kernel: Kernel,
    factors: Factors,
    times: Sequence[np.ndarray],
    new: Sequence[np.ndarray] | None,
    n: int,
    rng: np.random.Generator,
    n_threads: int | None = None,
) -> np.ndarray:
    """Joint draws of f from its posterior, (n, M, output); arguments as for :func:`read`.

    Where readings are exact, or too precise for plain covariances, by Matheron's rule: a draw of the prior
    plus the smoothed mean of what is left of the readings when it and a draw of their noise are taken off.
    """
    ss, evidence, place = _lay_out(kernel, factors, times, new)
    if isinstance(evidence, Sites) or _is_plain(ss, evidence):
        return kalman.sample(ss, evidence, n, rng, n_threads=n_threads)[:, place, 0]
    nothing = Sites(np.zeros_like(evidence.y), np.zeros_like(evidence.y))
    draws = np.empty((n, *place.shape))
    for i in range(n):
        prior = kalman.sample(ss, nothing, 1, rng, n_threads=n_threads)[0]
        noise = np.sqrt(evidence.R) * rng.standard_normal(evidence.R.shape)
        left = Readings(evidence.y - prior - noise, evidence.R)
        draws[i] = (prior + kalman.infer(ss, left, n_threads=n_threads)[0].mean)[place, 0]
    return draws


def _is_plain(ss: StateSpace, readings: Readings) -> bool:
    """Whether plain covariances hold these readings."""
    seen = ~np.isnan(readings.y)
    least = float(np.min(readings.R[seen], initial=np.inf))
    prior = float(ss.H[0, 0] @ ss.P[0] @ ss.H[0, 0])
    return least > 0.0 and prior < _PLAIN_DRAWS_BELOW * least


def _lay_out(
    kernel: Kernel, factors: Factors, times: Sequence[np.ndarray], new: Sequence[np.ndarray] | None
) -> tuple[StateSpace, Sites | Readings, np.ndarray]:
    """The chain over old and new rows, the factors on it, and where the answers are, (M, output)."""
    ends = np.cumsum([len(own) for own in times])[:-1]
    first, second = np.split(factors.first, ends), np.split(factors.second, ends)
    if new is not None:
        N = factors.first.shape[1]
        empty, unit = (np.nan, 1.0) if factors.readings else (0.0, 0.0)
        first = [np.vstack([a, np.full((len(t), N), empty)]) for a, t in zip(first, new)]
        second = [np.vstack([a, np.full((len(t), N), unit)]) for a, t in zip(second, new)]
        both = [np.concatenate([own, more]) for own, more in zip(times, new)]
    else:
        both = list(times)
    laid = lay_series(both, first, second)
    series = laid.series
    kind = Readings if factors.readings else Sites
    evidence = kind(series.y[:, None], np.asarray(series.error)[:, None])
    skip = [0] * len(both) if new is None else [len(own) for own in times]
    place = np.concatenate([at[n:] for at, n in zip(laid.rows, skip)])
    return bank([kernel], series.gaps, series.step), evidence, place


def derivative_rows(kernel: Kernel, n: int) -> np.ndarray:
    """Read-outs (n, d) of the first n derivatives of f.

    Raises
    ------
    ValueError
        If f has fewer derivatives.

    Examples
    --------
    >>> from hidamari.statespace.kernels import Matern
    >>> derivative_rows(Matern(order=1, lengthscale=np.sqrt(3.0)), 1).tolist()
    [[0.0, 1.0]]
    """
    rows = [kernel.readout()]
    F, D = kernel.generator(), kernel.diffusion()
    for i in range(n):
        reach = np.abs(rows[-1]) @ np.abs(D)
        if np.any(np.abs(rows[-1] @ D) > 1e-12 * reach):
            raise ValueError(
                f"derivatives is {n}, but paths of {kernel!r} have {i}: "
                "a Matern kernel has as many as its order, a sum as many as its roughest part"
            )
        rows.append(rows[-1] @ F)
    return np.array(rows[1:]).reshape(n, len(rows[0]))


def parts(kernel: Kernel) -> tuple[list[Kernel], np.ndarray]:
    """Summands of a kernel (itself, if it is no sum), and the read-out (n, d) of each.

    Examples
    --------
    >>> from hidamari.statespace.kernels import Constant, Matern
    >>> kernels, rows = parts(Matern() + Constant(2.0))
    >>> len(kernels), rows.tolist()
    (2, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    """
    kernels = _summands(kernel)
    readouts = [part.readout() for part in kernels]
    rows = np.zeros((len(kernels), sum(len(h) for h in readouts)))
    start = 0
    for row, h in zip(rows, readouts):
        row[start : start + len(h)] = h
        start += len(h)
    return kernels, rows


def _summands(kernel: Any) -> list[Kernel]:
    """The terms of nested sums, in order."""
    if isinstance(kernel, Sum):
        return _summands(kernel.first) + _summands(kernel.second)
    return [kernel]
