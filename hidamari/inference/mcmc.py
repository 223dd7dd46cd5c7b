r"""Hyperparameters by Hamiltonian Monte Carlo, and predictions averaged over their draws.

NUTS moves theta, the latent path is integrated out by the Kalman filter,

    p(theta | y) ~ p(y | theta) p(theta),    value and gradient from one compiled pass,

so that a step costs time linear in the rows, and no draw of the path is ever made. Priors are densities of
values as users know them (a lengthscale in seconds); numpyro moves their logarithms and adds the Jacobian.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from hidamari.inference.diagnostics import judge, summarise
from hidamari.inference.likelihoods import Gaussian
from hidamari.inference.maximise import maximise
from hidamari.inference.objective import GPModel, evidence, evidence_and_gradient
from hidamari.inference.search import is_real
from hidamari.inference.series import Series
from hidamari.inference.weak_priors import complete_priors
from hidamari.parameters import flatten, unflatten
from hidamari.statespace.types import Sites

__all__ = ["Density", "Mixture", "drawn_models", "mix", "sample_hyperparameters"]

_SPREAD = 1.5  # chains start this many Laplace deviations about the top, wider than where they should end
_WIDEST = 1.0  # of a coordinate, where the curvature at the top says nothing
_TRIES = 20  # halvings of the distance from the top until prior and evidence are finite
_EXTRA = ("diverging", "energy", "potential_energy", "accept_prob", "num_steps", "adapt_state.step_size")


@dataclass(frozen=True, eq=False)
class Density:
    """The log evidence by the values of the named parameters, as the callback of a sampler wants it.

    Parameters
    ----------
    model, names, series, sites, exposure, tol
        As in :func:`hidamari.inference.objective.evidence_and_gradient`.

    Examples
    --------
    >>> from hidamari.inference.series import lay_series
    >>> from hidamari.statespace.kernels import Matern
    >>> model = GPModel(Matern(), Gaussian(1.0), np.zeros(1))
    >>> density = Density(model, ("likelihood.variance",), lay_series([0.0], [2.0]).series)
    >>> value, slope = density(np.array([1.0]), True)  # y ~ N(0, 1 + variance)
    >>> slope.round(6).tolist()
    [0.25]
    """

    model: GPModel
    names: tuple[str, ...]
    series: Series
    sites: Sites | None = None
    exposure: float = 1.0
    tol: float = 1e-10

    @cached_property
    def _real(self) -> np.ndarray:
        """Which values are their own coordinates, (n,) bool."""
        return is_real(self.model, self.names)

    def __call__(self, z: np.ndarray, slope: bool) -> tuple[float, np.ndarray]:
        """Value and gradient by the values; NaN where one is out of its range."""
        nowhere = np.nan, np.full(len(z), np.nan)
        real = self._real
        if not np.isfinite(z).all() or (z[~real] <= 0.0).any():
            return nowhere
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            x = np.where(real, z, np.log(np.where(real, 1.0, z)))
            how: tuple = (self.series, self.sites, self.exposure, self.tol)
            try:
                at = unflatten(self.model, x, self.names)
                if not slope:
                    return evidence(at, *how), np.zeros(len(z))
                found = evidence_and_gradient(at, self.names, *how)
            except ValueError:  # numbers or matrices beyond the range of float64
                return nowhere
            return found.value, found.gradient / np.where(real, 1.0, z)


def sample_hyperparameters(
    model: GPModel,
    names: Sequence[str],
    series: Series,
    priors: Mapping[str, Any] | None = None,
    n_warmup: int = 500,
    n_samples: int = 1000,
    n_chains: int = 2,
    target_accept: float = 0.9,
    dense_mass: bool = True,
    start: str = "map",
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
    exposure: float = 1.0,
    tol: float = 1e-10,
) -> Any:
    """Draw hyperparameters from their posterior by NUTS, in the format that ArviZ reads.

    With Gaussian noise the target is the exact posterior. With another likelihood p(y | theta) is replaced by
    its lower bound, the ELBO at the fixed point of the variational steps, which always start from the same
    sites and so are a function of theta alone. The bound is loosest where the posterior of the path is least
    Gaussian (few counts, large variance), which pulls draws towards small variances and makes their spread
    somewhat too narrow; with a count or more in most bins the difference is slight.

    Parameters
    ----------
    model : GPModel
        Structure, and the parameters that stay.
    names : sequence of str
        Paths of the parameters to draw, as ``flatten(model)`` gives them, or their ends.
    series : Series
        The data.
    priors : mapping of str to numpyro distribution, optional
        By path or its end, over values; the rest have those of :mod:`hidamari.inference.weak_priors`.
    n_warmup, n_samples, n_chains : int
        Steps of each chain that adapt and that count, and chains, run one after the other.
    target_accept : float
        Mean acceptance that the step size aims at, between 0 and 1.
    dense_mass : bool
        Whether the metric has correlations; lengthscale and variance nearly always are correlated.
    start : {"map", "model"}
        Chains start around the top of the posterior density, drawn from 1.5 times its Laplace approximation,
        or around the model as it is.
    random_state : int or numpy.random.Generator, optional
        The draws are the same for the same number.
    progress : bool, optional
        Show a bar; by default in terminals only.
    exposure : float
        Seconds per bin, for counts.
    tol : float
        Where variational steps end, as a fraction of the ELBO.

    Returns
    -------
    xarray.DataTree
        ``posterior`` (a variable for each path, dims chain, draw), ``sample_stats``, ``diagnostics`` (r_hat,
        ess_bulk, ess_tail, mean, sd by parameter), ``observed_data`` and ``constant_data``. Its attribute
        `converged` is 1 if no r_hat is above 1.01, no ESS below 100 a chain, and no draw diverged; `message`
        says what is wrong.

    Raises
    ------
    ValueError
        If a name, prior or number is not valid.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        Once, with the message, when the chains have not converged.

    References
    ----------
    M. D. Hoffman and A. Gelman, The No-U-Turn Sampler, JMLR 15, 2014.

    Examples
    --------
    >>> from hidamari.inference.series import lay_series
    >>> from hidamari.statespace.kernels import Matern
    >>> t = np.arange(100) * 0.1
    >>> y = np.sin(2 * t) + 0.3 * np.random.default_rng(0).standard_normal(100)
    >>> model = GPModel(Matern(1), Gaussian(0.1), np.zeros(1))
    >>> tree = sample_hyperparameters(
    ...     model, ["likelihood.variance"], lay_series(t, y).series, n_warmup=200, random_state=0
    ... )
    >>> tree["posterior"]["likelihood.variance"].shape
    (2, 1000)
    >>> bool(0.05 < tree["posterior"]["likelihood.variance"].mean() < 0.15), tree.attrs["converged"]
    (True, 1)
    """
    names = tuple(flatten(model, list(names))[1])
    _check(names, n_warmup, n_samples, n_chains, target_accept, start)
    own = complete_priors(priors, model, names, series)
    rng = np.random.default_rng(random_state)
    sites, covariance = None, np.full((len(names), len(names)), np.nan)
    if start == "map":
        found = maximise(model, names, series, priors=own, exposure=exposure)
        model, covariance, sites = found.model, found.covariance, found.evaluated.sites
    elif not isinstance(model.likelihood, Gaussian):
        sites = evidence_and_gradient(model, (), series, exposure=exposure).sites
    density = Density(model, names, series, sites, exposure, tol)
    starts = _starts(density, own, covariance, n_chains, rng)
    from hidamari.inference._jax_nuts import run_nuts

    show = sys.stderr.isatty() if progress is None else progress
    draws, extra = run_nuts(
        density, own, starts, n_warmup, n_samples, target_accept, dense_mass, _seed(rng), show, _EXTRA
    )
    tree = _tree(draws, extra, series)
    converged, message = judge(tree["diagnostics"].to_dataset(), int(np.sum(extra["diverging"])), n_chains)
    tree.attrs |= {"converged": int(converged), "message": message, "likelihood": repr(model.likelihood)}
    if not converged:
        from sklearn.exceptions import ConvergenceWarning

        warnings.warn(message, ConvergenceWarning, stacklevel=2)
    return tree


def drawn_models(model: GPModel, tree: Any, n: int | None = None) -> list[GPModel]:
    """Models of draws, evenly spaced over all chains.

    Parameters
    ----------
    model : GPModel
        Structure, and the parameters that were not drawn.
    tree : xarray.DataTree
        From :func:`sample_hyperparameters`.
    n : int, optional
        How many; by default all.

    Returns
    -------
    list of GPModel

    Raises
    ------
    ValueError
        If there are not so many.

    Examples
    --------
    >>> import xarray as xr
    >>> from hidamari.statespace.kernels import Matern
    >>> values = xr.Dataset({"kernel.lengthscale": (("chain", "draw"), [[1.0, 2.0, 3.0]])})
    >>> found = drawn_models(
    ...     GPModel(Matern(), Gaussian(), np.zeros(1)), xr.DataTree.from_dict({"posterior": values}), 2
    ... )
    >>> [model.kernel.lengthscale for model in found]
    [1.0, 3.0]
    """
    posterior = tree["posterior"]
    names = [str(name) for name in posterior.data_vars]
    values = np.stack([np.asarray(posterior[name], dtype=np.float64).ravel() for name in names], axis=1)
    n = len(values) if n is None else n
    if not 1 <= n <= len(values):
        raise ValueError(f"n must be between 1 and the number of draws {len(values)}, got {n}")
    real = is_real(model, names)
    rows = values[np.round(np.linspace(0, len(values) - 1, n)).astype(int)]
    return [unflatten(model, np.where(real, v, np.log(np.where(real, 1.0, v))), names) for v in rows]


class Mixture(NamedTuple):
    """Moments of a mixture over hyperparameters: var = within + between."""

    mean: Any
    var: Any
    within: Any  # mean of the variances: what stays unknown if the hyperparameters were known
    between: Any  # variance of the means: what not knowing them adds


def mix(models: Iterable[GPModel], predict: Callable[[GPModel], tuple[Any, Any]]) -> Mixture:
    """Average predictions over models with equal weights, one at a time (the law of total variance).

    Parameters
    ----------
    models : iterable of GPModel
        Draws, as from :func:`drawn_models`.
    predict : callable
        model -> (mean, var), arrays of one shape.

    Returns
    -------
    Mixture

    Raises
    ------
    ValueError
        If there is no model.

    Examples
    --------
    >>> from hidamari.statespace.kernels import Matern
    >>> models = [GPModel(Matern(), Gaussian(), np.full(1, b)) for b in (1.0, 3.0)]
    >>> found = mix(models, lambda model: (model.bias, np.full(1, 0.5)))
    >>> found.mean.tolist(), found.var.tolist()
    ([2.0], [1.5])
    """
    n, mean, within, square = 0, 0.0, 0.0, 0.0
    for model in models:
        n += 1
        m, v = predict(model)
        step = m - mean  # Welford's update: no squares of large numbers are subtracted
        mean = mean + step / n
        square = square + step * (m - mean)
        within = within + (v - within) / n
    if n == 0:
        raise ValueError("models must have at least one model, got none")
    return Mixture(mean, within + square / n, within, square / n)


def _check(names, n_warmup: int, n_samples: int, n_chains: int, target_accept: float, start: str) -> None:
    """Refuse what cannot be run."""
    if not names:
        raise ValueError("names must name at least one parameter to draw, got none")
    for label, value, least in (
        ("n_warmup", n_warmup, 1),
        ("n_samples", n_samples, 4),
        ("n_chains", n_chains, 1),
    ):
        if value < least:
            raise ValueError(f"{label} must be at least {least}, got {value}")
    if not 0.0 < target_accept < 1.0:
        raise ValueError(f"target_accept must be between 0 and 1, got {target_accept}")
    if start not in ("map", "model"):
        raise ValueError(f"start must be 'map' or 'model', got {start!r}")


def _seed(rng: np.random.Generator) -> int:
    """A seed for jax."""
    return int(rng.integers(2**31))


def _starts(
    density: Density,
    priors: Mapping[str, Any],
    covariance: np.ndarray,
    n_chains: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Values (n_chains, n) to start from, about the model, where prior and evidence are finite."""
    x, names = flatten(density.model, density.names)[0], density.names
    real, n = is_real(density.model, names), len(names)
    known = np.isfinite(np.diag(covariance))
    root = np.diag(np.where(known, 0.0, _WIDEST / _SPREAD))
    root[np.ix_(known, known)] = np.linalg.cholesky(covariance[np.ix_(known, known)])
    out = np.empty((n_chains, n))
    for chain in out:
        away = np.clip(_SPREAD * root @ rng.standard_normal(n), -2 * _WIDEST, 2 * _WIDEST)
        for _ in range(_TRIES):
            chain[:] = np.where(real, x + away, np.exp(np.where(real, 0.0, x + away)))
            prior = sum(float(priors[name].log_prob(value)) for name, value in zip(names, chain))
            if np.isfinite(prior + density(chain, False)[0]):
                break
            away /= 2.0
        else:
            raise ValueError("the posterior density is not finite at the model: start it elsewhere")
    return out


def _tree(draws: dict[str, np.ndarray], extra: dict[str, np.ndarray], series: Series) -> Any:
    """Everything as a DataTree under the names that ArviZ gives."""
    import numpyro
    import xarray as xr

    library = {"inference_library": "numpyro", "inference_library_version": numpyro.__version__}

    def chains(values: Mapping[str, np.ndarray]) -> Any:
        n_chains, n_draws = next(iter(values.values())).shape
        coords = {"chain": np.arange(n_chains), "draw": np.arange(n_draws)}
        data = {name: (("chain", "draw"), value) for name, value in values.items()}
        return xr.Dataset(data, coords, dict(library))

    steps = extra["num_steps"]
    stats = {
        "diverging": extra["diverging"],
        "energy": extra["energy"],
        "lp": -extra["potential_energy"],
        "acceptance_rate": extra["accept_prob"],
        "n_steps": steps,
        "tree_depth": np.ceil(np.log2(steps + 1.0)).astype(np.int64),
        "step_size": extra["adapt_state.step_size"],
    }
    first = series.step < 0
    first[:1] = True
    elapsed = np.cumsum(np.where(first, 0.0, series.gaps[series.step]))
    number = np.cumsum(first) - 1
    constant = {"time": elapsed - elapsed[first][number], "series": number, "output": series.output}
    if series.error is not None:
        constant["error_variance"] = series.error
    rows = {name: ("row", np.asarray(value)) for name, value in constant.items()}
    return xr.DataTree.from_dict(
        {
            "posterior": chains(draws),
            "sample_stats": chains(stats),
            "diagnostics": summarise(draws),
            "observed_data": xr.Dataset({"y": ("row", series.y)}, {"row": np.arange(len(series.y))}),
            "constant_data": xr.Dataset(rows, {"row": np.arange(len(series.y))}),
        }
    )
