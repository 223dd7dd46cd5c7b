r"""The evidence of one Gaussian process over many independent series, and its gradient, in one pass.

Every output of every trial is a series: the same kernel, its own path f, its own noise and bias,

    y_t = f(t) + b_o + e_t,    e_t ~ N(0, variance_o + error_t)       or       y_t ~ p(y | f(t) + b_o).

With (r, N) of the backward pass, the exact adjoint of the filter, one smoother gives d log Z by A, Q and P,
and with their own derivatives by each hyperparameter (:meth:`Kernel.derivatives`) the gradient. Noise and
bias follow from the smoothed moments (Fisher's identity), with R_t = variance_o + error_t,

    d log Z / dR_t = ((y_t - b - m_t)^2 + v_t - R_t) / (2 R_t^2)      d log Z / db = sum (y_t - b - m_t) / R_t

For other likelihoods the value is the ELBO at the fixed point of the natural-gradient steps, whose
derivatives are those with q (for the kernel: with the sites) held, by the envelope theorem. Student's t is
there a mixture of Gaussians (:mod:`hidamari.inference._student`), whose bound is a little below the ELBO.

References
----------
S. J. Koopman and N. Shephard, Exact score for time series models in state space form, Biometrika 79, 1992.
M. E. Khan and W. Lin, Conjugate-computation variational inference, AISTATS 2017.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from hidamari.inference._student import MixedStudentT
from hidamari.inference.likelihoods import Gaussian, Likelihood, StudentT
from hidamari.inference.posterior import infer_sites
from hidamari.inference.series import Laid, Series, lay_series
from hidamari.inference.sites import Readout
from hidamari.parameters import flatten, parameter, unflatten
from hidamari.parameters import paths as paths_of
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Kernel, bank
from hidamari.statespace.types import Readings, Sites, StateSpace

__all__ = ["Evaluated", "GPModel", "Laid", "Series", "evidence", "evidence_and_gradient", "lay_series"]

_PLAIN_BELOW = 1e7  # prior variance over noise up to which the plain pass keeps nine digits of the gradient
_PLAIN_START_BELOW = 1e10  # the same of a trend's start, which many rows outweigh: eight digits, measured
_MANY = 256
_SWEEPS = 1000
_LAST_STEP = 1e-3  # of tol for Student's t, whose steps shrink by a factor and end short of the top
_WIDE = 1e-2  # of a logarithm: differences of sixth order are then exact to about 1e-11 of the value
_STENCIL = ((1, 0.75), (2, -0.15), (3, 1.0 / 60.0))


class Evaluated(NamedTuple):
    """The value at a model, its gradient by the coordinates asked for, and the posterior there."""

    value: float
    gradient: np.ndarray  # (len(names),)
    mean: np.ndarray  # (T,) of f, without the bias
    var: np.ndarray  # (T,)
    sites: Sites | None  # (T, 1), (T, 1): where the next evaluation may start; None for Gaussian noise
    converged: bool


@dataclass(frozen=True)
class GPModel:
    """A kernel, a likelihood and the bias of each output: the tree that `flatten` reads as one vector.

    Parameters
    ----------
    kernel : Kernel
        Of every series.
    likelihood : Likelihood
        With numbers, or with one value per output.
    bias : ndarray (output,)
        Constant added to f.

    Examples
    --------
    >>> from hidamari.parameters import flatten
    >>> from hidamari.statespace.kernels import Matern
    >>> model = GPModel(Matern(1, 0.5), Gaussian(0.1), np.zeros(2))
    >>> flatten(model)[1]
    ['kernel.lengthscale', 'kernel.variance', 'likelihood.variance', 'bias[0]', 'bias[1]']
    """

    kernel: Kernel
    likelihood: Likelihood
    bias: np.ndarray = parameter(0.0, "real")

    def __post_init__(self):
        if isinstance(self.bias, Real):
            object.__setattr__(self, "bias", np.full(1, float(self.bias)))


def evidence(
    model: GPModel,
    series: Series,
    sites: Sites | None = None,
    exposure: float = 1.0,
    tol: float = 1e-12,
    n_threads: int | None = None,
) -> float:
    """Log marginal likelihood of the series, or for other than Gaussian noise the highest ELBO.

    Parameters
    ----------
    model, series, sites, exposure, tol, n_threads
        As in :func:`evidence_and_gradient`. Gaussian noise of variance 0 is allowed here.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As :func:`evidence_and_gradient`, and if exact readings contradict each other.

    Examples
    --------
    >>> from hidamari.statespace.kernels import Matern
    >>> series = lay_series([0.0], [1.0]).series
    >>> round(evidence(GPModel(Matern(), Gaussian(1.0), np.zeros(1)), series), 6)  # y ~ N(0, 1 + 1)
    -1.515512
    """
    if not isinstance(model.likelihood, Gaussian):
        return evidence_and_gradient(model, (), series, sites, exposure, tol, n_threads).value
    _check_series(model, series)
    ss = bank([model.kernel], series.gaps, series.step)
    return kalman.evidence(ss, _readings(model, series)[0], n_threads=n_threads)


def evidence_and_gradient(
    model: GPModel,
    names: Sequence[str],
    series: Series,
    sites: Sites | None = None,
    exposure: float = 1.0,
    tol: float = 1e-12,
    n_threads: int | None = None,
) -> Evaluated:
    """The evidence, its gradient by the unconstrained coordinates of ``names``, and the posterior.

    Parameters
    ----------
    model : GPModel
        Where to look.
    names : sequence of str
        Paths as ``flatten(model)`` gives them: "kernel.lengthscale", "likelihood.variance", "bias[0]".
        Derivatives are by the logarithm, for a bias by itself.
    series : Series
        The data.
    sites : Sites, optional
        Where the fixed point of a likelihood that is not Gaussian starts from.
    exposure : float
        Seconds per bin, for counts.
    tol : float
        The fixed point ends when a step raises the ELBO by less than this fraction of it.
    n_threads : int, optional
        As in ``kalman.filter``.

    Returns
    -------
    Evaluated

    Raises
    ------
    ValueError
        If the series do not fit the model, or a name is unknown.

    Examples
    --------
    >>> from hidamari.statespace.kernels import Matern
    >>> series = lay_series(np.arange(5) * 0.1, np.array([0.1, 0.4, np.nan, 0.9, 1.0])).series
    >>> found = evidence_and_gradient(
    ...     GPModel(Matern(1, 0.5), Gaussian(0.1), np.zeros(1)), ["kernel.lengthscale", "bias[0]"], series
    ... )
    >>> round(found.value, 4), found.gradient.round(4).tolist()
    (-2.6634, [0.519, 0.6582])
    """
    _check_series(model, series)
    look = _exact if isinstance(model.likelihood, Gaussian) else _variational
    return look(model, list(names), series, sites, exposure, tol, n_threads)


def _exact(model: GPModel, names: list[str], series: Series, *rest) -> Evaluated:
    """Gaussian noise: everything is exact, and one pass is all."""
    n_threads = rest[-1]
    readings, noise = _readings(model, series)
    residual, R, output = readings.y[:, 0], readings.R[:, 0], series.output
    mean, var, value, slopes = _condition(model.kernel, names, series, readings, n_threads)
    wanted = [name for name in names if not name.startswith("kernel.")]
    if wanted:
        seen = ~np.isnan(residual) & np.isfinite(R)
        if np.any(seen & (R == 0.0)):
            raise ValueError("exact readings (variance 0) have a value but no slope by noise or bias")
        miss = np.where(seen, residual - mean, 0.0)
        by_bias = np.where(seen, miss / R, 0.0)
        # (miss^2 + var - R) / R^2 in factors that stay within the range of the format
        by_noise = np.where(seen, 0.5 * noise * (by_bias * by_bias - (1.0 - var / R) / R), 0.0)
        n = len(model.bias)
        bias, own = (np.bincount(output, a, n) for a in (by_bias, by_noise))
        slopes |= _by_output(model.likelihood, "variance", own) | _biases(bias)
    return Evaluated(value, np.array([slopes[name] for name in names]), mean, var, None, True)


def _readings(model: GPModel, series: Series) -> tuple[Readings, np.ndarray]:
    """Readings of f, (T, 1), and the part of their variance that the likelihood knows, (T,)."""
    likelihood: Any = model.likelihood
    noise = np.broadcast_to(np.asarray(likelihood.variance, float), len(model.bias))[series.output]
    R = noise if series.error is None else noise + series.error
    return Readings((series.y - model.bias[series.output])[:, None], R[:, None]), noise


def _variational(model: GPModel, names, series: Series, sites, exposure, tol, n_threads) -> Evaluated:
    """Other likelihoods: each output to its own fixed point, then the slopes at held q."""
    T, N = len(series.y), len(model.bias)
    ss = bank([model.kernel], series.gaps, series.step)
    j, J, mean, var = np.zeros((T, 1)), np.zeros((T, 1)), np.zeros(T), np.zeros(T)
    value, converged = 0.0, True
    slopes: dict[str, float] = {}
    asked = {n.removeprefix("likelihood.").split("[")[0] for n in names if n.startswith("likelihood.")}
    biases, own = np.zeros(N), {field: np.zeros(N) for field in sorted(asked)}
    for o in np.unique(series.output):
        rows = np.flatnonzero(series.output == o)
        y = series.y[rows, None]
        likelihood = _likelihood_of(model.likelihood, o)
        readout = Readout(np.ones((1, 1)), model.bias[[o]])
        start = None if sites is None else Sites(sites.j[rows], sites.J[rows, :, None])
        part = ss._replace(step=series.step[rows])
        if isinstance(likelihood, StudentT):  # the sites at the top of its own ELBO may be negative
            likelihood = MixedStudentT(likelihood.df, likelihood.scale)
        last = _LAST_STEP * tol if isinstance(likelihood, StudentT) else tol
        # the best log density of each entry taken off: sums over huge counts would lose their digits
        best = np.zeros_like(y)
        if not likelihood.real:
            best = likelihood.log_prob(y, likelihood.start(y, readout.bias, exposure)[0], exposure)
        base = likelihood.log_base(y)
        rest = (start, _SWEEPS, last, n_threads, base - best)
        q = infer_sites(part, y, readout, likelihood, exposure, *rest)
        j[rows], J[rows] = q.sites.j, q.sites.J[:, :, 0]
        mean[rows], var[rows] = q.mean[:, 0], q.cov[:, 0, 0]
        value += q.elbo + float(np.sum(best))
        converged &= q.converged
        mu, v = q.mean + model.bias[o], q.cov[:, :, 0]
        biases[o] = np.sum(likelihood.expectations(y, mu, v, exposure, constant=0.0)[1])
        for field in asked:
            start = flatten(likelihood, field)[0]

            def expected(shift: float, field=field, start=start, part=(likelihood, y, mu, v)) -> float:
                moved = unflatten(part[0], start + shift, [field])
                return float(np.sum(moved.expectations(*part[1:], exposure)[0]))

            own[field][o] = _difference(expected)
    slopes |= _biases(biases)
    for field, shares in own.items():
        slopes |= _by_output(model.likelihood, field, shares)
    found = Sites(j, J)
    if any(name.startswith("kernel.") for name in names):
        slopes |= _condition(model.kernel, names, series, found, n_threads)[3]
    return Evaluated(value, np.array([slopes[name] for name in names]), mean, var, found, converged)


def _condition(
    kernel: Kernel, names: list[str], series: Series, sites: Sites | Readings, n_threads: int | None
) -> tuple[np.ndarray, np.ndarray, float, dict[str, float]]:
    """Mean, variance, log evidence of sites or readings, and its slopes by the kernel's coordinates."""
    paths = [name.removeprefix("kernel.") for name in names if name.startswith("kernel.")]
    at = kernel.linearise(series.gaps, paths)
    H, m = kernel.readout()[None, None], np.zeros((1, len(at.P)))
    ss = StateSpace(at.A[:, None], at.Q[:, None], series.step, H, m, at.P[None])
    if paths and _is_plain(kernel, ss, sites.J if isinstance(sites, Sites) else _precisions(sites)):
        (mean, cov), value, slope = kalman.evidence_gradient(ss, sites, n_threads=n_threads)
        along = [_inner(slope.A, dA) + _inner(slope.Q, dQ) + _inner(slope.P, dP) for dA, dQ, dP in at.slopes]
        return mean[:, 0], cov[:, 0, 0], value, {f"kernel.{path}": x for path, x in zip(paths, along)}
    (mean, var), value = kalman.infer(ss, sites, n_threads=n_threads)
    slopes = {}
    for path in paths:
        # sites this precise leave the plain adjoint too few digits: the square-root evidence keeps them
        def value_at(shift: float, path=path) -> float:
            moved = unflatten(kernel, flatten(kernel, path)[0] + shift, [path])
            ss = bank([moved], series.gaps, series.step)
            return kalman.evidence(ss, sites, form="square_root", n_threads=n_threads)

        slopes[f"kernel.{path}"] = _difference(value_at)
    return mean[:, 0], var[:, 0], value, slopes


def _is_plain(kernel: Kernel, ss: StateSpace, J: np.ndarray) -> bool:
    """Whether plain covariances keep the digits of the gradient."""
    ratio = kalman.precision_ratio(ss, J)
    if ratio < _PLAIN_BELOW:
        return True
    starts = [name for name in paths_of(kernel) if name.endswith("start")]
    if kernel.is_stationary or not starts or ratio > _PLAIN_START_BELOW or len(J) < _MANY:
        return False
    # a wide start costs digits at the first rows alone: what counts later is all but the start
    settled = unflatten(kernel, np.full(len(starts), -300.0), starts).stationary()
    h = ss.H[0, 0]
    later = h @ settled @ h + np.max(ss.Q[:, 0] @ h @ h, initial=0.0)
    return bool(np.max(J, initial=0.0) * later < _PLAIN_BELOW)


def _inner(slope: np.ndarray, step: np.ndarray) -> float:
    """Inner product of (S, 1, d, d) or (1, d, d) with (S, d, d) or (d, d); BLAS would wake its threads."""
    return float(
        np.einsum("sij,sij->", slope.reshape(-1, *slope.shape[-2:]), step.reshape(-1, *step.shape[-2:]))
    )


def _precisions(readings: Readings) -> np.ndarray:
    """1 / R of what was seen, infinite for exact readings, and 0 elsewhere."""
    with np.errstate(divide="ignore"):
        return np.where(np.isnan(readings.y), 0.0, 1.0 / readings.R)


def _difference(function: Callable[[float], float]) -> float:
    """Derivative at 0 by the central difference of sixth order."""
    return sum(w * (function(k * _WIDE) - function(-k * _WIDE)) for k, w in _STENCIL) / _WIDE


def _likelihood_of(likelihood: Any, output: int) -> Likelihood:
    """The likelihood of one output, with numbers for its parameters."""
    own = {
        field.name: float(getattr(likelihood, field.name)[output])
        for field in dataclasses.fields(likelihood)
        if field.init and np.ndim(getattr(likelihood, field.name)) == 1
    }
    return dataclasses.replace(likelihood, **own) if own else likelihood


def _by_output(likelihood: Likelihood, field: str, shares: np.ndarray) -> dict[str, float]:
    """Slopes by path of a parameter that is one number (all outputs add up) or one of each output."""
    if np.ndim(getattr(likelihood, field)) == 0:
        return {f"likelihood.{field}": float(shares.sum())}
    return {f"likelihood.{field}[{o}]": float(share) for o, share in enumerate(shares)}


def _biases(shares: np.ndarray) -> dict[str, float]:
    """Slopes by path of the biases."""
    return {f"bias[{o}]": float(share) for o, share in enumerate(shares)}


def _check_series(model: GPModel, series: Series) -> None:
    """Refuse series that do not fit the model."""
    T, N = len(series.step), len(model.bias)
    for name in ("y", "output", "error"):
        part = getattr(series, name)
        if part is not None and np.shape(part) != (T,):
            raise ValueError(
                f"series.{name} must have shape {(T,)}, that of series.step, got {np.shape(part)}"
            )
    if T and not 0 <= np.min(series.output) <= np.max(series.output) < N:
        found = f"{np.min(series.output)} to {np.max(series.output)}"
        raise ValueError(f"series.output must lie in 0..{N - 1}, one bias for each, got {found}")
    for name, values in vars(model.likelihood).items():
        if np.ndim(values) == 1 and len(values) != N:
            raise ValueError(f"likelihood.{name} must be one number or {N}, got {len(values)}")
    if series.error is not None and not isinstance(model.likelihood, Gaussian):
        raise ValueError(f"series.error is for Gaussian noise alone, got {model.likelihood!r}")
