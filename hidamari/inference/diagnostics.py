r"""Whether chains have converged: rank-normalised split r-hat and effective sample sizes.

Draws are replaced by normal scores of their ranks, z = Phi^-1((rank - 3/8) / (S + 1/4)), so that neither
heavy tails nor an infinite variance mislead; r_hat is the larger of that of z and that of the scores of
|x - median|, which sees chains that agree in place and differ in width.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["judge", "summarise"]

_LARGEST_R_HAT = 1.01
_SMALLEST_ESS = 100  # a chain


def summarise(draws: Mapping[str, np.ndarray]) -> Any:
    """Moments, quantiles, r-hat and effective sample sizes of every parameter.

    Parameters
    ----------
    draws : mapping of str to ndarray (chain, draw)
        At least 4 draws a chain.

    Returns
    -------
    xarray.Dataset
        ``mean``, ``sd``, ``q05``, ``median``, ``q95``, ``r_hat``, ``ess_bulk``, ``ess_tail`` (parameter,).

    References
    ----------
    A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner, Rank-normalization, folding, and
    localization: an improved R-hat, Bayesian Analysis 16, 2021.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = summarise({"good": rng.standard_normal((4, 500)), "bad": np.arange(2000.0).reshape(4, 500)})
    >>> found.r_hat.round(2).values.tolist()
    [1.0, 4.57]
    """
    import xarray as xr

    rows = {name: _row(np.asarray(values, dtype=np.float64)) for name, values in draws.items()}
    columns = next(iter(rows.values()))
    data = {column: ("parameter", np.array([row[column] for row in rows.values()])) for column in columns}
    return xr.Dataset(data, {"parameter": list(rows)})


def judge(summary: Any, n_divergent: int, n_chains: int) -> tuple[bool, str]:
    """Whether draws may be trusted, and why not.

    Parameters
    ----------
    summary : xarray.Dataset
        From :func:`summarise`.
    n_divergent : int
        Draws whose trajectory diverged.
    n_chains : int
        Number of chains.

    Returns
    -------
    tuple of bool and str

    Examples
    --------
    >>> summary = summarise({"l": np.random.default_rng(0).standard_normal((2, 500))})
    >>> judge(summary, 3, 2)
    (False, 'the chains have not converged: 3 divergent draws (raise target_accept, or tighten the priors)')
    """
    size = np.minimum(summary.ess_bulk.values, summary.ess_tail.values)
    mixing, small = (str(summary.parameter.values[np.argmax(a)]) for a in (summary.r_hat.values, -size))
    r_hat, ess = float(summary.r_hat.max()), float(size.min())
    found = []
    if n_divergent:
        found.append(f"{n_divergent} divergent draws (raise target_accept, or tighten the priors)")
    if not r_hat <= _LARGEST_R_HAT:
        found.append(f"r_hat of {mixing} is {r_hat:.3f}, above {_LARGEST_R_HAT} (draw more)")
    if not ess >= _SMALLEST_ESS * n_chains:
        found.append(f"the draws of {small} are worth {ess:.0f} independent ones (draw more)")
    if not found:
        return True, "converged"
    return False, "the chains have not converged: " + "; ".join(found)


def _row(x: np.ndarray) -> dict[str, float]:
    """The statistics of one parameter."""
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

    half = x.shape[1] // 2
    split = np.concatenate([x[:, :half], x[:, -half:]])
    low, median, high = np.quantile(x, (0.05, 0.5, 0.95))
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # a chain that stands still: r_hat is NaN or infinite
        r_hat = [float(split_gelman_rubin(_scores(v))) for v in (x, np.abs(x - median))]
        tails = [float(effective_sample_size((split <= q).astype(float))) for q in (low, high)]
        bulk = float(effective_sample_size(_scores(split)))
    return {
        "mean": float(x.mean()),
        "sd": float(x.std(ddof=1)),
        "q05": float(low),
        "median": float(median),
        "q95": float(high),
        "r_hat": float(np.max(r_hat)),
        "ess_bulk": bulk,
        "ess_tail": float(np.min(tails)),
    }


def _scores(x: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks over all chains."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    rank = rankdata(x, method="average").reshape(x.shape)
    return ndtri((rank - 0.375) / (x.size + 0.25))
