r"""Hyperparameters of a Gaussian process at the top of its evidence, and how sure the data are of them.

L-BFGS-B climbs in logarithms (a bias in deviations of y) with exact gradients, within limits, from several
starts; the best is returned. With priors what is climbed is log p(y | theta) + log p(theta), with p(theta)
the density of the **values** as users give it: a lognormal prior pulls to its mode, no Jacobian of the
logarithm is added. Standard errors come from the curvature at the top, in the same coordinates,

    Cov = (-d2/dx2 [log p(y | theta) + log p(theta)])^-1,        se(theta) = |d theta / dx| sqrt(Cov_xx).

For other than Gaussian noise the evidence is replaced by its lower bound, the converged ELBO; its curvature
is close to that of the evidence where counts are not tiny.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hidamari.inference.likelihoods import Gaussian
from hidamari.inference.objective import Evaluated, GPModel, evidence_and_gradient
from hidamari.inference.priors import log_prior, match_priors
from hidamari.inference.search import is_real, limits, scales, starts
from hidamari.inference.series import Series
from hidamari.parameters import flatten, unflatten
from hidamari.statespace.types import Sites

__all__ = ["Found", "maximise"]

_log = logging.getLogger(__name__)
_AT_BOUND = 1e-6  # of a coordinate: this close to a limit is on it
_RETRIES = 8  # after values that are not finite
_NEAR = 1e-2  # twice the rise that a last step by Newton may promise
_STILL = 1e-6  # the rise that a last step would promise, below which a search that stalls has arrived


class Found(NamedTuple):
    """What a search found, how it ended, and the uncertainty there."""

    model: GPModel
    value: float  # log evidence or ELBO, plus the log prior if there is one
    history: tuple[float, ...]  # the value at the best start and after each of its iterations
    converged: bool
    message: str
    names: tuple[str, ...]
    standard_errors: dict[str, float]  # of the values; NaN where the data give none, see message
    covariance: np.ndarray  # (n, n) of the coordinates: logarithms, and biases themselves
    evaluated: Evaluated  # the posterior at the model
    values: tuple[float, ...]  # where each start ended


class _NotFinite(Exception):
    """A value or gradient that is not finite: no place for an optimiser to go on from."""


class _Search(NamedTuple):
    """One objective over coordinates, with what stays fixed."""

    look: Callable[[np.ndarray, Sites | None], tuple[float, np.ndarray, Evaluated]]
    scale: np.ndarray  # of each coordinate
    pace: np.ndarray  # length of first steps
    limits: list[tuple[float, float]]


class _End(NamedTuple):
    """How one search ended."""

    x: np.ndarray
    value: float
    history: list[float]
    converged: bool
    message: str
    evaluated: Any  # as Evaluated; None where no value was finite
    slope: np.ndarray


def maximise(
    model: GPModel,
    names: Sequence[str],
    series: Series,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    priors: Mapping[str, Any] | None = None,
    n_init: int = 1,
    random_state: int | np.random.Generator | None = 0,
    exposure: float = 1.0,
    start: str = "model",
    max_iter: int = 200,
    tol: float = 1e-10,
    standard_errors: bool = True,
    n_threads: int | None = None,
    on_iteration: Callable[[float], None] | None = None,
    near: Found | None = None,
) -> Found:
    """Move the named hyperparameters to the top of the evidence, or of evidence times prior.

    Parameters
    ----------
    model : GPModel
        Structure, the parameters that stay, and the first start.
    names : sequence of str
        Paths of the parameters that move, as ``flatten(model)`` gives them.
    series : Series
        The data.
    bounds : mapping of str to (low, high), optional
        Limits of values by path or its end, instead of those of :func:`hidamari.inference.search.limits`.
    priors : mapping of str to numpyro distribution, optional
        By path or its end, over values.
    n_init : int
        Number of starts: the model itself, peaks of the periodogram for its frequencies, random ones.
    random_state : int or numpy.random.Generator, optional
        For the random ones.
    exposure : float
        Seconds per bin, for counts.
    start : {"model", "whittle"}
        "whittle" moves the first start to the top of Whittle's likelihood first: for long regular series with
        Gaussian noise and nothing missing.
    max_iter : int
        Iterations of one start.
    tol : float
        A search ends when an iteration raises the value by less than this fraction of it.
    standard_errors : bool
        Whether to work out the curvature at the top: two gradients for each parameter.
    n_threads : int, optional
        As in ``kalman.filter``.
    on_iteration : callable, optional
        Called with the value after each iteration.
    near : Found, optional
        What a search of the same names over a part of the data found: this one begins there, with steps of
        the size of its standard errors.

    Returns
    -------
    Found

    Raises
    ------
    ValueError
        If a name, key, limit or option is not valid, or the series do not fit.

    References
    ----------
    R. H. Byrd, P. Lu, J. Nocedal, C. Zhu, A limited memory algorithm for bound constrained optimization,
    SIAM Journal on Scientific Computing 16, 1995.

    Examples
    --------
    >>> from hidamari.inference.series import lay_series
    >>> from hidamari.statespace.kernels import Matern
    >>> t = np.arange(400) * 0.05
    >>> y = np.sin(2 * t) + 0.2 * np.random.default_rng(0).standard_normal(400)
    >>> model = GPModel(Matern(2), Gaussian(1.0), np.zeros(1))
    >>> found = maximise(model, ["kernel.lengthscale", "likelihood.variance"], lay_series(t, y).series)
    >>> bool(0.03 < found.model.likelihood.variance < 0.05), found.converged
    (True, True)
    """
    if n_init < 1:
        raise ValueError(f"n_init must be at least 1, got {n_init}")
    if start not in ("model", "whittle"):
        raise ValueError(f"start must be 'model' or 'whittle', got {start!r}")
    vector, names = flatten(model, list(names)) if len(names) else (np.zeros(0), [])
    allowed = limits(model, names, series, bounds)
    search = _search(model, names, series, allowed, priors, exposure, n_threads)
    rng = np.random.default_rng(random_state)
    begin = starts(model if near is None else near.model, names, series, allowed, n_init, rng)
    if near is not None:
        expected = np.sqrt(np.diag(near.covariance))
        search = search._replace(pace=np.where(np.isfinite(expected), expected, search.pace))
    if start == "whittle":
        from hidamari.inference.whittle import whittle_series

        begin[0] = whittle_series(begin[0], names, series, allowed)
    ends = []
    for k, own in enumerate(begin):
        x = flatten(own, names)[0] if names else vector
        ends.append(_climb(search, x, max_iter, tol, on_iteration))
        _log.debug("start %d of %d: %.6f, %s", k + 1, n_init, ends[-1].value, ends[-1].message)
    best = max(ends, key=lambda end: end.value if np.isfinite(end.value) else -np.inf)
    if best.evaluated is None:
        raise ValueError(f"no start has a finite evidence: {best.message}")
    covariance, note = np.full((len(names), len(names)), np.nan), ""
    if standard_errors and names:
        wide = 1e-3 if isinstance(model.likelihood, Gaussian) else 1e-2  # the noise of the fixed point
        covariance, note = _covariance(search, best, wide, names)
        best = _polish(search, best, np.where(np.isfinite(covariance), covariance, 0.0))
    real = is_real(model, names)
    size = np.where(real, 1.0, np.exp(np.where(real, 0.0, best.x)))
    errors = size * np.sqrt(np.diag(covariance))
    return Found(
        unflatten(model, best.x, names) if names else model,
        best.value,
        tuple(best.history),
        best.converged,
        best.message + note,
        tuple(names),
        dict(zip(names, errors.tolist())),
        covariance,
        best.evaluated,
        tuple(end.value for end in ends),
    )


def _search(
    model: GPModel,
    names: list[str],
    series: Series,
    allowed: np.ndarray,
    priors: Mapping[str, Any] | None,
    exposure: float,
    n_threads: int | None,
) -> _Search:
    """The objective over coordinates, their scales and limits."""
    real = is_real(model, names)
    density = log_prior(match_priors(priors, names))

    def look(x: np.ndarray, sites: Sites | None) -> tuple[float, np.ndarray, Evaluated]:
        at = unflatten(model, x, names) if names else model
        found = evidence_and_gradient(at, names, series, sites, exposure, n_threads=n_threads)
        values = np.where(real, x, np.exp(np.where(real, 0.0, x)))
        more, slope = density(values)
        value = found.value + more
        gradient = found.gradient + slope * np.where(real, 1.0, values)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            culprit = next((n for n, g in zip(names, gradient) if not np.isfinite(g)), None)
            what = "the value" if culprit is None else f"the slope by {culprit}"
            raise _NotFinite(f"{what} became non-finite at {dict(zip(names, values.tolist()))}")
        return value, gradient, found

    with np.errstate(divide="ignore"):
        bounds = np.where(real[:, None], allowed, np.log(np.where(real[:, None], 1.0, allowed)))
    size = scales(model, series)
    of_bias = [
        size.own[int(n.partition("[")[2].rstrip("]"))] if n.startswith("bias[") else np.nan for n in names
    ]
    scale = np.where(real, np.sqrt(np.where(np.isnan(of_bias), size.variance, of_bias)), 1.0)
    return _Search(look, scale, scale, [(float(low), float(high)) for low, high in bounds])


def _climb(
    search: _Search,
    x: np.ndarray,
    max_iter: int,
    tol: float,
    on_iteration: Callable[[float], None] | None,
) -> _End:
    """One search by L-BFGS-B; from a value that is not finite it goes on closer to the best, a few times."""
    best: Any = [x, -np.inf, None, np.zeros(len(x))]
    history: list[float] = []
    latest = [x]

    def negative(z: np.ndarray) -> tuple[float, np.ndarray]:
        latest[0] = np.array(z)
        sites = None if best[2] is None else best[2].sites
        value, gradient, found = search.look(z * search.pace, sites)
        if value > best[1]:
            best[:] = [z * search.pace, value, found, gradient]
        if not history:
            history.append(value)
        return -value, -gradient * search.pace

    def done(intermediate_result) -> None:
        history.append(-float(intermediate_result.fun))
        if on_iteration is not None:
            on_iteration(history[-1])

    if not len(x):
        try:
            negative(x)
        except _NotFinite as stop:
            return _End(x, -np.inf, history, False, str(stop), None, best[3])
        return _End(x, best[1], history, True, "there is nothing to move", best[2], best[3])
    from scipy.optimize import minimize

    limits = np.transpose(search.limits) / search.pace
    options = {"maxiter": max_iter, "ftol": tol, "gtol": 1e-5, "maxls": 40, "maxcor": 20}
    box, tries = limits, 0
    while True:
        try:
            start = np.clip(best[0] / search.pace, *box)
            result = minimize(
                negative, start, jac=True, method="L-BFGS-B", bounds=box.T, callback=done, options=options
            )
        except _NotFinite as stop:
            tries += 1
            if best[2] is None or tries > _RETRIES:
                message = f"stopped after {len(history)} values: {stop}; the best point before is returned"
                return _End(best[0], best[1], history, False, message, best[2], best[3])
            # from the best point on, within a quarter of the way to where it failed
            centre = best[0] / search.pace
            reach = 0.25 * np.abs(latest[0] - centre).max() or 1.0
            box = np.clip([centre - reach, centre + reach], *limits[:, None])
            continue
        within = (box[0] > limits[0]) & (best[0] / search.pace <= box[0] + _AT_BOUND)
        within |= (box[1] < limits[1]) & (best[0] / search.pace >= box[1] - _AT_BOUND)
        if not within.any() or result.status == 1 or tries > _RETRIES:
            break
        box, tries = limits, tries + 1
    slope = best[3] * search.pace
    promised = 0.5 * float(slope @ result.hess_inv.dot(slope))
    inside = not _on_bounds(search, best[0]).any()
    settled = result.status == 0 or (result.status == 2 and inside and 0.0 <= promised < _STILL)
    message = f"settled after {len(history) - 1} iterations"
    if not settled:
        still = f"still rising after max_iter={max_iter} iterations"
        message = f"not converged: {still if result.status == 1 else result.message}"
    return _End(best[0], best[1], history, settled, message, best[2], best[3])


def _polish(search: _Search, best: _End, covariance: np.ndarray) -> _End:
    """A last step by Newton, if it rises: it doubles the digits of a search that small rises have ended."""
    step = covariance @ best.slope
    x = np.clip(best.x + step, *np.transpose(search.limits))
    if not (best.converged and best.evaluated is not None and 0.0 < best.slope @ step < _NEAR):
        return best
    try:
        value, slope, found = search.look(x, best.evaluated.sites)
    except _NotFinite:
        return best
    if value < best.value or slope @ covariance @ slope > best.slope @ step:
        return best
    message = f"settled after {len(best.history)} iterations"
    return _End(x, value, [*best.history, value], True, message, found, slope)


def _covariance(search: _Search, best: _End, wide: float, names: list[str]) -> tuple[np.ndarray, str]:
    """Inverse curvature at the top, and what is wrong with it, if anything is."""
    n, x = len(best.x), best.x
    covariance = np.full((n, n), np.nan)
    held = _on_bounds(search, x)
    note = "".join(f"; {names[i]} sits on its limit, and has no standard error" for i in np.flatnonzero(held))
    free = np.flatnonzero(~held)
    if not len(free):
        return covariance, note
    sites = None if best.evaluated is None else best.evaluated.sites
    curvature = np.zeros((n, n))
    try:
        for i in free:
            shift = wide * search.scale[i] * np.eye(n)[i]
            up, down = (search.look(x + s * shift, sites)[1] for s in (1.0, -1.0))
            curvature[i] = (down - up) / (2.0 * wide * search.scale[i])
        inner = curvature[np.ix_(free, free)] * np.outer(search.scale[free], search.scale[free])
        inner = 0.5 * (inner + inner.T)
        np.linalg.cholesky(inner)
    except (_NotFinite, np.linalg.LinAlgError):
        return covariance, note + "; the curvature there is not that of a maximum: no standard errors"
    inverse = np.linalg.inv(inner) * np.outer(search.scale[free], search.scale[free])
    covariance[np.ix_(free, free)] = 0.5 * (inverse + inverse.T)
    return covariance, note


def _on_bounds(search: _Search, x: np.ndarray) -> np.ndarray:
    """Which coordinates sit on a limit."""
    low, high = np.transpose(search.limits)
    return (x - low < _AT_BOUND * search.scale) | (high - x < _AT_BOUND * search.scale)
