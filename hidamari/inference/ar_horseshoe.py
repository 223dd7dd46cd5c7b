r"""Sparse autoregression by Markov chains: coefficients under a regularised horseshoe.

In units in which the response and its m predictors have variance 1, with n rows and p0 coefficients expected,

    w_j ~ N(0, S_j^2),  1 / S_j^2 = 1 / c^2 + 1 / (tau lambda_j)^2,  lambda_j ~ C+(0, 1),
    tau ~ C+(0, sigma p0 / ((m - p0) sqrt(n))),  c^2 ~ slab_scale^2 InverseGamma(df / 2, df / 2),

p(sigma^2) ~ 1 / sigma^2 and a flat intercept. Coefficients that matter feel only the slab, a Student t of
scale slab_scale; the others are drawn to 0. The data enter through their moments, so that a draw costs the
same for a thousand rows and for a million.

References
----------
J. Piironen, A. Vehtari, Sparsity information and regularization in the horseshoe and other shrinkage priors,
Electronic Journal of Statistics 11, 2017.
"""

import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh

from hidamari.inference.diagnostics import judge, summarise
from hidamari.inference.lags import LagGram

__all__ = ["sample_horseshoe"]

_SPREAD = 0.5  # of the logarithms that chains start from


def sample_horseshoe(
    gram: LagGram,
    *,
    expected: float | None = None,
    slab_scale: float = 2.0,
    slab_df: float = 4.0,
    n_warmup: int = 500,
    n_samples: int = 1000,
    n_chains: int = 4,
    target_accept: float = 0.8,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> Any:
    """Draw coefficients from their posterior under a regularised horseshoe by NUTS.

    NUTS moves the logarithms of the scales; the coefficients, integrated out, are drawn from their normal law
    given the scales. A step costs O(m^3) for m predictors, whatever the number of rows: 50 lags take seconds,
    and 200 take minutes. The first call for a number of predictors compiles, which takes some ten seconds.

    Parameters
    ----------
    gram : LagGram
        Moments of one response; rows may be fewer than predictors.
    expected : float, optional
        How many coefficients are expected to matter, below m; by default sqrt(m), 1/2 for a single one. What
        follows depends little on it.
    slab_scale, slab_df : float
        Spread of the coefficients that matter, in standard deviations of the response by those of the
        predictor (of a lag: its weight), and degrees of freedom.
    n_warmup, n_samples, n_chains : int
        Steps of each chain that adapt and that count, and chains, run one after the other.
    target_accept : float
        Mean acceptance that the step size aims at, between 0 and 1.
    random_state : int or numpy.random.Generator, optional
        The draws are the same for the same number.
    progress : bool, optional
        Show a bar of chains; by default in terminals only.

    Returns
    -------
    xarray.DataTree
        ``posterior``: ``coef`` and ``local`` (lambda) over (chain, draw, coefficient), ``intercept``,
        ``sigma2``, ``tau`` and ``slab`` (c) over (chain, draw), the last two in the units of the prior;
        ``sample_stats``; ``diagnostics`` (r_hat, ess_bulk, ess_tail, mean, sd by parameter); and
        ``constant_data``, the moments. Attributes `converged` and `message` as those of
        :func:`hidamari.inference.mcmc.sample_hyperparameters`. The median of ``coef`` is nearer to 0 than its
        mean where a coefficient does not matter.

    Raises
    ------
    ValueError
        If a number is not allowed, or a predictor does not vary.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        Once, with the message, when the chains have not converged.

    References
    ----------
    Piironen and Vehtari 2017; M. D. Hoffman and A. Gelman, The No-U-Turn Sampler, JMLR 15, 2014.

    Examples
    --------
    >>> from hidamari.inference.lags import lag_gram
    >>> y = np.random.default_rng(0).standard_normal(2000)
    >>> y[3:] += 0.6 * y[:-3]
    >>> tree = sample_horseshoe(lag_gram(y, 4), n_warmup=300, n_samples=1000, n_chains=2, random_state=0)
    >>> tree["posterior"]["coef"].dims, tree.attrs["converged"]
    (('chain', 'draw', 'coefficient'), 1)
    >>> float(tree["posterior"]["coef"].sel(coefficient="lag 3").mean()) > 0.3
    True
    """
    m = len(gram.names)
    p0 = min(np.sqrt(m), 0.5 * m) if expected is None else expected
    _check(gram, p0, slab_scale, slab_df, n_warmup, n_samples, n_chains, target_accept)
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    from hidamari.inference import _ar_horseshoe

    n = gram.n_rows
    unit = np.sqrt(np.diag(gram.moments) / n)
    M = gram.moments / np.outer(unit, unit)
    d, V = eigh(M)
    root = np.sqrt(np.maximum(d, 0.0))[:, None] * V.T
    share = p0 / (m - p0) / np.sqrt(n)
    problem = _ar_horseshoe.Problem(M[1:, 1:], M[1:, 0], root, n, 0.0, share, slab_scale, slab_df)
    w, error, log_s2 = _ridge(problem)
    problem = problem._replace(log_noise=log_s2)
    rng = np.random.default_rng(random_state)
    hidden = not (sys.stderr.isatty() if progress is None else progress)
    chains = []
    with threadpool_limits(1, user_api="blas"):  # threads for matrices of this size wait for each other
        for _ in tqdm(range(n_chains), desc="chains", disable=hidden):
            begin, seed = _start(problem, w, error, rng), int(rng.integers(2**31))
            chains.append(_ar_horseshoe.chain(seed, begin, problem, n_warmup, n_samples, target_accept))
    draws = {name: np.stack(each) for name, each in zip(chains[0]._fields, zip(*chains))}
    coef, sigma2 = draws["coef"] * (unit[0] / unit[1:]), draws["noise"] * unit[0] ** 2
    # Given the coefficients a flat intercept is normal about the mean of what they leave.
    away = np.sqrt(sigma2 / n) * rng.standard_normal(sigma2.shape)
    values = {
        "coef": coef,
        "intercept": gram.means[0] - coef @ gram.means[1:] + away,
        "sigma2": sigma2,
        "tau": draws["tau"],
        "slab": draws["slab"],
        "local": draws["local"],
    }
    return _tree(values, draws, gram)


def _check(gram: LagGram, expected: float, *numbers: float) -> None:
    """Refuse what cannot be drawn."""
    slab_scale, slab_df, n_warmup, n_samples, n_chains, target = numbers
    m = len(gram.names)
    if gram.n_responses != 1 or m == 0:
        raise ValueError(f"gram has {gram.n_responses} responses and {m} predictors; allowed: 1, and any")
    if not (np.diag(gram.moments) > 0.0).all():
        flat = np.array(["y", *gram.names])[~(np.diag(gram.moments) > 0.0)].tolist()
        raise ValueError(f"gram has columns that do not vary: {flat}")
    if not 0.0 < expected < m:
        raise ValueError(f"expected is {expected}; allowed: between 0 and the {m} predictors")
    for name, value in (("slab_scale", slab_scale), ("slab_df", slab_df)):
        if not 0.0 < value < np.inf:
            raise ValueError(f"{name} is {value}, but must be positive and finite")
    for name, value, least in (
        ("n_warmup", n_warmup, 20),
        ("n_samples", n_samples, 4),
        ("n_chains", n_chains, 1),
    ):
        if value < least or value != int(value):
            raise ValueError(f"{name} is {value}, but must be a whole number of at least {least}")
    if not 0.0 < target < 1.0:
        raise ValueError(f"target_accept is {target}, but must be between 0 and 1")


def _ridge(problem: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients, their errors and log s2 of a ridge fit whose penalty is worth a row."""
    m = len(problem.c)
    factor = cho_factor(problem.R + np.eye(m), lower=True)
    w = cho_solve(factor, problem.c)
    left = problem.root @ np.concatenate([[1.0], -w])
    log_s2 = float(np.log((left @ left + 1.0) / problem.n_rows))
    return w, np.sqrt(np.exp(log_s2) * np.diag(cho_solve(factor, np.eye(m)))), log_s2


def _start(problem: Any, w: np.ndarray, error: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Coordinates (m + 3,) at which tau lambda is about as large as each coefficient may be."""
    m = len(w)
    log_tau = np.log(problem.share) + 0.5 * problem.log_noise
    local = np.clip(np.log(np.hypot(w, error)) - log_tau, 0.0, None)
    return np.append(np.concatenate([local, np.zeros(2)]) + _SPREAD * rng.standard_normal(m + 2), 0.0)


def _tree(values: Mapping[str, np.ndarray], draws: Mapping[str, np.ndarray], gram: LagGram) -> Any:
    """Everything as a DataTree under the names that ArviZ gives, with its verdict."""
    import numpyro
    import xarray as xr

    library = {"inference_library": "numpyro", "inference_library_version": numpyro.__version__}
    n_chains, n_draws = values["tau"].shape
    coords = {"chain": np.arange(n_chains), "draw": np.arange(n_draws)}
    names = np.array(gram.names)
    dims = ("chain", "draw", "coefficient")
    posterior = {name: (dims[: value.ndim], value) for name, value in values.items()}
    steps = draws["n_steps"]
    stats = {
        "diverging": draws["diverging"],
        "energy": draws["energy"],
        "lp": -draws["potential"],
        "acceptance_rate": draws["accept"],
        "n_steps": steps,
        "tree_depth": np.ceil(np.log2(steps + 1.0)).astype(np.int64),
        "step_size": draws["step_size"],
    }
    scalars = {name: value for name, value in values.items() if value.ndim == 2}
    for name in ("coef", "local"):
        scalars |= {f"{name}[{k}]": values[name][:, :, j] for j, k in enumerate(names)}
    summary = summarise(scalars)
    at = np.array(["y", *names])
    moments = {
        "moments": (("variable", "variable_2"), gram.moments),
        "means": ("variable", gram.means),
        "n_rows": gram.n_rows,
    }
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(posterior, coords | {"coefficient": names}, dict(library)),
            "sample_stats": xr.Dataset(
                {name: (dims[:2], value) for name, value in stats.items()}, coords, dict(library)
            ),
            "diagnostics": summary,
            "constant_data": xr.Dataset(moments, {"variable": at, "variable_2": at}),
        }
    )
    converged, message = judge(summary, int(draws["diverging"].sum()), n_chains)
    tree.attrs |= {"converged": int(converged), "message": message}
    if not converged:
        from sklearn.exceptions import ConvergenceWarning

        warnings.warn(message, ConvergenceWarning, stacklevel=3)
    return tree
