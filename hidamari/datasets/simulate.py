"""Simulated spikes together with the latents, loadings and rates they came from."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from hidamari.statespace.kernels import HidaMatern, Matern

__all__ = ["Simulation", "simulate_lorenz", "simulate_spikes", "simulate_van_der_pol"]

# Beyond this mean a Poisson count is a rounded Gaussian one to 1e-6 in its skewness, and the sampler's
# int64 would end at 9e18.
_GAUSSIAN_MEAN = 1e12
_LARGEST_LOG = 700.0  # e^700 is near the largest double


class Simulation(NamedTuple):
    """Observations and the truth behind them.

    With trials of equal length every array over time is (trial, time, ...); with unequal ones it is a list
    with one (time, ...) array per trial.

    Attributes
    ----------
    y : ndarray or list of ndarray, shape (trial, time, unit)
        Observations; spike counts are whole numbers held in float64, so that entries can be set to NaN.
    latents : ndarray or list of ndarray, shape (trial, time, latent)
        The trajectories z.
    loadings : ndarray, shape (unit, latent)
        C of eta = C z + b.
    bias : ndarray, shape (unit,)
        b, for counts the log of a rate in spikes per second.
    rate : ndarray or list of ndarray, shape (trial, time, unit)
        Expected observation; e^eta in spikes per second for counts.
    kernels : tuple
        The prior of each latent; empty for the dynamical systems.
    bin_s : float
        Width of a bin in seconds.
    """

    y: Any
    latents: Any
    loadings: np.ndarray
    bias: np.ndarray
    rate: Any
    kernels: tuple
    bin_s: float


def simulate_spikes(
    kernels=None,
    n_units: int = 50,
    n_trials: int | None = None,
    n_bins: int | Sequence[int] = 300,
    bin_s: float = 0.02,
    mean_count: float = 0.3,
    loading_scale: float = 0.5,
    likelihood="poisson",
    random_state=0,
) -> Simulation:
    """Spikes of units that share latent Gaussian processes.

    z_l ~ GP(0, kernel_l), C_nl ~ N(0, loading_scale^2), eta = C z + b, y ~ Poisson(e^eta bin_s). The latents
    are drawn exactly, in time linear in the number of bins.

    Parameters
    ----------
    kernels : kernel or list of kernels, optional
        One per latent. By default three Hida-Matern kernels: order 1, lengthscale 0.25 s; order 2, 0.6 s;
        order 1, 0.8 s at 1.5 Hz.
    n_units : int
        Number of units.
    n_trials : int, optional
        Number of trials: 10, or as many as `n_bins` has lengths.
    n_bins : int or sequence of int
        Bins per trial; a sequence gives each trial its own length.
    bin_s : float
        Width of a bin in seconds.
    mean_count : float
        Expected count in a bin where every latent is at its mean, 0. Sets the bias of count likelihoods,
        log(mean_count / bin_s); the bias of other likelihoods is 0.
    loading_scale : float
        Standard deviation of the loadings.
    likelihood : "poisson" or a likelihood of this package
        Law of the observations given eta.
    random_state : int or numpy.random.Generator
        Seed.

    Returns
    -------
    Simulation
        The counts and the truth.

    Raises
    ------
    ValueError
        If a number is out of range, a kernel is none, or the rates exceed what a double can hold.

    Examples
    --------
    >>> from hidamari.datasets import simulate_spikes
    >>> sim = simulate_spikes(n_units=20, n_trials=4, n_bins=100)
    >>> sim.y.shape, sim.latents.shape, sim.loadings.shape
    ((4, 100, 20), (4, 100, 3), (20, 3))
    >>> [trial.shape for trial in simulate_spikes(n_units=5, n_bins=[40, 60]).y]
    [(40, 5), (60, 5)]
    """
    lengths = _check_lengths(n_trials, n_bins, 10)
    _check_numbers(n_units, bin_s, mean_count, loading_scale)
    kernels = _check_kernels(kernels)
    likelihood = _check_likelihood(likelihood)
    rng = np.random.default_rng(random_state)
    latents = np.stack([_draw_latent(k, bin_s, max(lengths), len(lengths), rng) for k in kernels], axis=-1)
    loadings = loading_scale * rng.standard_normal((n_units, len(kernels)))
    return _observe(latents, lengths, loadings, mean_count, bin_s, rng, kernels, likelihood)


def simulate_lorenz(
    n_units: int = 60,
    n_trials: int | None = None,
    n_bins: int | Sequence[int] = 200,
    bin_s: float = 0.01,
    mean_count: float = 0.1,
    loading_scale: float = 0.416,
    random_state=0,
) -> Simulation:
    """Sparse Poisson spikes driven by the Lorenz system.

    x' = 10 (y - x), y' = x (28 - z) - y, z' = x y - 8 z / 3, one unit of the system's time per second,
    integrated by Runge-Kutta steps of at most 0.01 from starts on the attractor; each coordinate is then
    standardised over all trials. C_nl ~ N(0, loading_scale^2), y ~ Poisson(e^(C z + b) bin_s).

    Parameters
    ----------
    n_units : int
        Number of units.
    n_trials : int, optional
        Number of trials: 40, or as many as `n_bins` has lengths.
    n_bins : int or sequence of int
        Bins per trial; a sequence gives each trial its own length.
    bin_s : float
        Width of a bin in seconds.
    mean_count : float
        Expected count in a bin where every latent is 0.
    loading_scale : float
        Standard deviation of the loadings.
    random_state : int or numpy.random.Generator
        Seed.

    Returns
    -------
    Simulation
        The counts and the truth, with three latents.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    Lorenz (1963), Journal of the Atmospheric Sciences 20:130-141.

    Examples
    --------
    >>> from hidamari.datasets import simulate_lorenz
    >>> simulate_lorenz(n_units=10, n_trials=2).latents.shape
    (2, 200, 3)
    """
    lengths = _check_lengths(n_trials, n_bins, 40)
    _check_numbers(n_units, bin_s, mean_count, loading_scale)
    rng = np.random.default_rng(random_state)
    start = np.array([0.0, 0.0, 25.0]) + rng.standard_normal((len(lengths), 3)) * [8.0, 8.0, 5.0]
    # Ten units of time contract any start on to the attractor (the volume shrinks by e^-13.7 per unit).
    start = _integrate(_lorenz, start, 1000, 0.01, 1, _runge_kutta)[:, -1]
    latents = _integrate(_lorenz, start, max(lengths), bin_s, _substeps(bin_s, 0.01), _runge_kutta)
    latents = (latents - latents.mean((0, 1))) / latents.std((0, 1))
    loadings = loading_scale * rng.standard_normal((n_units, 3))
    return _observe(latents, lengths, loadings, mean_count, bin_s, rng)


def simulate_van_der_pol(
    n_units: int = 50,
    n_trials: int | None = None,
    n_bins: int | Sequence[int] = 500,
    bin_s: float = 0.02,
    mean_count: float = 5.0,
    random_state=0,
) -> Simulation:
    """Dense Poisson spikes driven by a noisy Van der Pol oscillator.

    dx = y dt + 0.05 dw, dy = ((1 - x^2) y - x) dt + 0.05 dv, one unit of the system's time per second,
    integrated by Euler steps of at most 0.02 from starts near (2, 0), on the limit cycle; each coordinate is
    then standardised over all trials. The columns of C are Gaussian, scaled to length 1;
    y ~ Poisson(e^(C z + b) bin_s).

    Parameters
    ----------
    n_units : int
        Number of units.
    n_trials : int, optional
        Number of trials: 10, or as many as `n_bins` has lengths.
    n_bins : int or sequence of int
        Bins per trial; a sequence gives each trial its own length.
    bin_s : float
        Width of a bin in seconds.
    mean_count : float
        Expected count in a bin where both latents are 0.
    random_state : int or numpy.random.Generator
        Seed.

    Returns
    -------
    Simulation
        The counts and the truth, with two latents.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from hidamari.datasets import simulate_van_der_pol
    >>> simulate_van_der_pol(n_units=10, n_trials=2).latents.shape
    (2, 500, 2)
    """
    lengths = _check_lengths(n_trials, n_bins, 10)
    _check_numbers(n_units, bin_s, mean_count)
    rng = np.random.default_rng(random_state)

    def noisy_euler(field, state, dt):
        """One Euler-Maruyama step with diffusion 0.05."""
        return state + dt * field(state) + 0.05 * np.sqrt(dt) * rng.standard_normal(state.shape)

    start = np.array([2.0, 0.0]) + 0.1 * rng.standard_normal((len(lengths), 2))
    latents = _integrate(_van_der_pol, start, max(lengths), bin_s, _substeps(bin_s, 0.02), noisy_euler)
    latents = (latents - latents.mean((0, 1))) / latents.std((0, 1))
    loadings = rng.standard_normal((n_units, 2))
    loadings /= np.linalg.norm(loadings, axis=0)
    return _observe(latents, lengths, loadings, mean_count, bin_s, rng)


def _draw_latent(kernel, bin_s: float, n_bins: int, n_trials: int, rng) -> np.ndarray:
    """Exact draws (trial, time) of the process on a regular grid, by its Markov recursion."""
    gap = np.array([bin_s])
    transition = kernel.transition(gap)[0]
    root = _root(kernel.process_noise(gap)[0])
    state = rng.standard_normal((n_trials, len(transition))) @ _root(kernel.stationary()).T
    innovations = rng.standard_normal((n_bins - 1, n_trials, len(transition)))
    readout = kernel.readout()
    drawn = np.empty((n_bins, n_trials))
    drawn[0] = state @ readout
    for t in range(1, n_bins):
        state = state @ transition.T + innovations[t - 1] @ root.T
        drawn[t] = state @ readout
    return drawn.T


def _root(covariance: np.ndarray) -> np.ndarray:
    """A square root R of a positive semidefinite covariance, R R' = covariance."""
    # Derivatives of a smooth process have variances many decades apart at small steps; brought to unit
    # diagonal first, none of them is lost to rounding. A state without noise keeps its zero row.
    scale = np.sqrt(np.diag(covariance))
    safe = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(safe, safe))
    return scale[:, None] * vectors * np.sqrt(np.maximum(values, 0.0))


def _integrate(field, state, n_bins: int, bin_s: float, substeps: int, step) -> np.ndarray:
    """States (trial, time, coordinate) at the end of each bin's steps, starting one bin after `state`."""
    path = np.empty((len(state), n_bins, state.shape[1]))
    for t in range(n_bins):
        for _ in range(substeps):
            state = step(field, state, bin_s / substeps)
        path[:, t] = state
    return path


def _substeps(bin_s: float, longest: float) -> int:
    """Number of equal steps in a bin so that none is longer than `longest`."""
    return max(1, int(np.ceil(bin_s / longest - 1e-9)))


def _runge_kutta(field, state, dt: float):
    """One classical fourth-order step."""
    k1 = field(state)
    k2 = field(state + dt / 2 * k1)
    k3 = field(state + dt / 2 * k2)
    k4 = field(state + dt * k3)
    return state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _lorenz(state):
    """The Lorenz field with parameters 10, 28, 8/3."""
    x, y, z = state.T
    return np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=-1)


def _van_der_pol(state):
    """The Van der Pol field with mu = 1."""
    x, y = state.T
    return np.stack([y, (1 - x**2) * y - x], axis=-1)


def _observe(latents, lengths, loadings, mean_count, bin_s, rng, kernels=(), likelihood=None) -> Simulation:
    """Draw observations of (trial, time, latent) trajectories and cut the trials to their lengths."""
    log_rate = likelihood is None or likelihood.counts
    bias = np.full(len(loadings), np.log(mean_count / bin_s) if log_rate else 0.0)
    eta = latents @ loadings.T + bias
    if log_rate and eta.max() > _LARGEST_LOG:
        raise ValueError(
            f"loading_scale and the kernels' variances give log rates up to {eta.max():.3g}; "
            f"allowed: up to {_LARGEST_LOG:g}, the largest that a double can hold"
        )
    if likelihood is None:
        rate = np.exp(eta)
        y = _poisson(rate * bin_s, rng)
    else:
        rate = likelihood.mean(eta)
        y = np.asarray(likelihood.sample(eta, rng, exposure=bin_s), dtype=float)
    if len(set(lengths)) > 1:
        y, latents, rate = ([a[:n].copy() for a, n in zip(x, lengths)] for x in (y, latents, rate))
    return Simulation(y, latents, loadings, bias, rate, kernels, float(bin_s))


def _poisson(mean: np.ndarray, rng) -> np.ndarray:
    """Poisson counts in float64, for means of any size."""
    large = mean > _GAUSSIAN_MEAN
    counts = rng.poisson(np.where(large, 0.0, mean)).astype(float)
    gaussian = mean[large] + np.sqrt(mean[large]) * rng.standard_normal(int(large.sum()))
    counts[large] = np.round(gaussian)
    return counts


def _check_lengths(n_trials, n_bins, default: int) -> list[int]:
    """Bins of each trial."""
    if np.ndim(n_bins) == 0:
        n_trials = default if n_trials is None else n_trials
        _check_count("n_trials", n_trials)
        _check_count("n_bins", n_bins)
        return [int(n_bins)] * int(n_trials)
    lengths = list(n_bins)
    if not lengths:
        raise ValueError("n_bins is empty; allowed: an int, or one int per trial")
    for length in lengths:
        _check_count("n_bins", length)
    if n_trials is not None and n_trials != len(lengths):
        raise ValueError(f"n_trials is {n_trials} but n_bins has {len(lengths)} lengths; they must agree")
    return [int(n) for n in lengths]


def _check_count(name: str, value) -> None:
    """Refuse anything but a positive integer."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r}; allowed: a positive int")


def _check_numbers(n_units, bin_s, mean_count, loading_scale=1.0) -> None:
    """Refuse sizes and scales that are not finite and positive."""
    _check_count("n_units", n_units)
    for name, value in (("bin_s", bin_s), ("mean_count", mean_count), ("loading_scale", loading_scale)):
        if not isinstance(value, Real) or not 0 < float(value) < np.inf:
            raise ValueError(f"{name} is {value!r}; allowed: a positive, finite number")


def _check_kernels(kernels) -> tuple:
    """One kernel per latent, as a tuple."""
    if kernels is None:
        return (Matern(1, 0.25), Matern(2, 0.6), HidaMatern(1, 0.8, 1.5))
    kernels = tuple(kernels) if isinstance(kernels, (list, tuple)) else (kernels,)
    needed = ("transition", "process_noise", "stationary", "readout")
    for index, kernel in enumerate(kernels):
        if not all(hasattr(kernel, method) for method in needed):
            raise ValueError(f"kernels[{index}] is {kernel!r}; allowed: kernels such as Matern or HidaMatern")
    if not kernels:
        raise ValueError("kernels is empty; allowed: at least one kernel, or None")
    return kernels


def _check_likelihood(likelihood):
    """An object that can sample, or None for Poisson, which is drawn here for means of any size."""
    if likelihood == "poisson" or getattr(likelihood, "name", None) == "poisson":
        return None
    if all(hasattr(likelihood, attribute) for attribute in ("counts", "mean", "sample")):
        return likelihood
    raise ValueError(f"likelihood is {likelihood!r}; allowed: 'poisson', or a likelihood such as Bernoulli()")
