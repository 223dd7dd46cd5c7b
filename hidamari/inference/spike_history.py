r"""Spike counts that depend on past spikes: a generalised linear model with few, smooth filters.

y_tn ~ Poisson(rate_tn bin_s), log rate_tn = b_n + sum_k g_nk z_tk + sum_m sum_{i>=1} h_nm(i) y_{t-i,m},

h_nm = sum_j H_nmj phi_j with raised-cosine bumps phi_j of lag, narrow soon after a spike, wide later. With K
bumps a step of the fit costs O(T (N K)^2) for each unit, whatever the number of lags.

References
----------
W. Truccolo, U. Eden, M. Fellows, J. Donoghue, E. Brown, A point process framework for relating neural spiking
activity to spiking history, neural ensemble, and extrinsic covariate effects, J. Neurophysiology 93, 2005.
J. W. Pillow et al., Spatio-temporal correlations and visual signalling in a complete neuronal population,
Nature 454, 2008.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._blas import one_blas_thread
from hidamari.inference._poisson import Solved, blocks, climb, select
from hidamari.inference._spike_input import as_basis, as_counts, as_felt, read

__all__ = [
    "SpikeHistoryFit",
    "filter_errors",
    "fit_spike_history",
    "history_filters",
    "predict_rate",
    "raised_cosines",
]


class SpikeHistoryFit(NamedTuple):
    """Fitted filters of a population."""

    bias: np.ndarray  # (N,) log rate, spikes per second, without any past spike
    weights: np.ndarray  # (N, N, K) of each basis function: unit, on spikes of unit
    columns: np.ndarray  # (N, q) coefficients of the columns
    bias_errors: np.ndarray  # (N,) standard errors, as the next three given the couplings
    column_errors: np.ndarray  # (N, q)
    weight_cov: np.ndarray  # (N, N, K, K)
    coupled: np.ndarray  # (N, N) bool: unit, feels unit
    log_likelihood: np.ndarray  # (N,)
    n_rows: np.ndarray  # (N,) bins that count
    n_left_out: np.ndarray  # (N,) bins that do not: not observed, or a bin of their window is not
    n_iter: np.ndarray  # (N,)
    basis: np.ndarray  # (lag, K)
    bin_s: float
    silent_start: bool


def raised_cosines(n_lags: int, n_basis: int, spread: float = 1.0) -> np.ndarray:
    r"""Smooth bumps over lags 1..n_lags, evenly spaced on a logarithmic axis.

    phi_j(i) = (1 + cos(clip((x_i - c_j) pi / (2 d), -pi, pi))) / 2, x_i = log(i + spread), with centres c_j a
    distance d apart from the first lag on; all vanish beyond the last lag.

    Parameters
    ----------
    n_lags : int
        Bins that a spike is felt.
    n_basis : int
        Number of bumps, at most as many as lags.
    spread : float
        Bins up to which the axis is nearly linear.

    Returns
    -------
    ndarray, shape (n_lags, n_basis)

    Raises
    ------
    ValueError
        If there are more bumps than lags, or a number is not positive.

    Examples
    --------
    >>> from hidamari.inference.spike_history import raised_cosines
    >>> raised_cosines(50, 8).shape
    (50, 8)
    """
    if not 1 <= n_basis <= n_lags:
        raise ValueError(f"n_basis is {n_basis}; allowed: from 1 to n_lags, {n_lags}")
    if not (np.isfinite(spread) and spread > 0):
        raise ValueError(f"spread is {spread!r}; allowed: a positive number of bins")
    x = np.log(np.arange(1, n_lags + 1) + spread)
    end = np.log(n_lags + 1 + spread)  # the first lag at which nothing is felt any more
    apart = (end - x[0]) / (n_basis + 1)
    centres = x[0] + apart * np.arange(n_basis)
    return 0.5 + 0.5 * np.cos(np.clip(np.subtract.outer(x, centres) * np.pi / (2 * apart), -np.pi, np.pi))


def fit_spike_history(
    counts: ArrayLike | Sequence[ArrayLike],
    lags: int | np.ndarray,
    n_basis: int = 8,
    *,
    bin_s: float = 1.0,
    spread: float = 1.0,
    columns: ArrayLike | Sequence[ArrayLike] | None = None,
    exposure: ArrayLike | Sequence[ArrayLike] | None = None,
    coupling: bool | ArrayLike = True,
    ridge: float = 0.0,
    level: float | None = None,
    silent_start: bool = True,
) -> SpikeHistoryFit:
    r"""Maximum likelihood filters of every unit, by Newton's method.

    Each unit is a Poisson regression with log link, concave and of its own; all are fitted in the same passes
    over the data, which hold a few thousand rows at a time. Bins whose count, column, or felt window is not
    observed are left out; ``n_left_out`` says how many.

    Parameters
    ----------
    counts : array_like, shape (T, N), or sequence of such
        Counts in bins, or those of trials. NaN: not observed.
    lags : int, or ndarray of shape (lag, K)
        Bins that a spike is felt, seen through raised cosines; or a basis of your own over lags 1, 2, ...
    n_basis : int
        Number K of raised cosines.
    bin_s : float
        Seconds per bin, so that rates are in spikes per second.
    spread : float
        Of the raised cosines.
    columns : array_like, shape (T, q), or one for each trial, optional
        Covariates at the time of the count, as a stimulus.
    exposure : array_like, shape (T,) or (T, N), or one for each trial, optional
        Positive factors of the expected counts, 1 by default.
    coupling : bool, or array_like of bool, shape (N, N)
        Whether units feel each other, or themselves alone; or which unit (row) feels which.
    ridge : float
        Precision of a Gaussian prior about zero on weights and columns, in nats.
    level : float, optional
        Couplings to other units are selected by a group penalty, whose strength is such that a unit that
        feels no other keeps one with about this chance; what is kept is fitted again without penalty.
    silent_start : bool
        Whether there were no spikes before the first bin of a trial. If not, bins whose window begins
        before it are left out.

    Returns
    -------
    SpikeHistoryFit

    Raises
    ------
    ValueError
        If shapes do not fit, counts are negative, a unit has no spikes, or the likelihood has no maximum
        (ridge gives it one).

    References
    ----------
    Truccolo et al. 2005; N. Simon and R. Tibshirani, Standardization and the group lasso penalty, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.spike_history import fit_spike_history
    >>> counts = np.random.default_rng(0).poisson(0.2, (5000, 2))
    >>> found = fit_spike_history(counts, 10, 3, bin_s=0.01)
    >>> found.weights.shape, bool(np.abs(np.exp(found.bias) - 20.0).max() < 3.0)
    ((2, 2, 3), True)
    """
    from scipy.special import gammaln
    from scipy.stats import chi2

    parts = as_counts(counts)
    N = parts[0].shape[1]
    own_basis = not isinstance(lags, (int, np.integer))
    basis = as_basis(lags) if own_basis else raised_cosines(int(lags), n_basis, spread)
    if not (np.isfinite(bin_s) and bin_s > 0):
        raise ValueError(f"bin_s is {bin_s!r}; allowed: a positive number of seconds")
    if not (np.isfinite(ridge) and ridge >= 0):
        raise ValueError(f"ridge is {ridge!r}; allowed: at least 0")
    if level is not None and not 0 < level < 1:
        raise ValueError(f"level is {level!r}; allowed: a probability")
    felt = as_felt(coupling, N)
    data, usable = read(parts, basis, columns, exposure, felt, silent_start)
    q, K = data.columns.shape[1], basis.shape[1]
    groups = [1 + q + n * K + np.arange(K) for n in range(N)]
    first = np.arange(1 + q)
    start = {}
    for n in range(N):
        kept = usable[:, n]
        spikes = data.counts[kept, n].sum()
        if not spikes > 0:
            raise ValueError(f"counts of unit {n} are all 0 where they count; allowed: some spikes")
        start[n] = float(np.log(spikes / np.exp(data.offset[kept, n % data.offset.shape[1]]).sum()))

    def solve(felt: np.ndarray) -> tuple[dict[int, np.ndarray], dict[int, Solved]]:
        """Predictors and maxima of all units."""
        at = {n: np.concatenate([first, *(groups[m] for m in np.flatnonzero(felt[n]))]) for n in range(N)}
        begin = {n: np.append(start[n], np.zeros(len(at[n]) - 1)) for n in range(N)}
        return at, climb(data, at, begin, ridge)

    with one_blas_thread():
        if level is not None and N > 1:
            own = felt & np.eye(N, dtype=bool)
            at, alone = solve(own)
            bound = np.full(N, np.sqrt(chi2.isf(level / (N - 1), K)))
            for n, sources in select(data, at, felt, alone, groups, bound, ridge).items():
                own[n, sources] = True
            felt = own
        at, found = solve(felt)
    full, errors = np.zeros((N, 1 + q + N * K)), np.zeros((N, 1 + q))
    cov = np.zeros((N, N, K, K))
    for n, solved in found.items():
        full[n, at[n]] = solved.weights
        errors[n] = np.sqrt(np.diag(solved.cov)[: 1 + q])
        for i, m in enumerate(np.flatnonzero(felt[n])):
            own = slice(1 + q + i * K, 1 + q + (i + 1) * K)
            cov[n, m] = solved.cov[own, own]
    # The counts' own factorials, which no weight changes.
    constant = -(gammaln(data.counts + 1.0) * usable).sum(axis=0)
    return SpikeHistoryFit(
        bias=full[:, 0] - np.log(bin_s),
        weights=full[:, 1 + q :].reshape(N, N, K),
        columns=full[:, 1 : 1 + q],
        bias_errors=errors[:, 0],
        column_errors=errors[:, 1:],
        weight_cov=cov,
        coupled=felt,
        log_likelihood=constant + [found[n].log_likelihood for n in range(N)],
        n_rows=usable.sum(axis=0),
        n_left_out=(~usable).sum(axis=0),
        n_iter=np.array([found[n].n_iter for n in range(N)]),
        basis=basis,
        bin_s=float(bin_s),
        silent_start=silent_start,
    )


def history_filters(fit: SpikeHistoryFit) -> np.ndarray:
    """Filters over lag: the change of a unit's log rate so many bins after a spike of another.

    Parameters
    ----------
    fit : SpikeHistoryFit
        A fit.

    Returns
    -------
    ndarray, shape (unit, of unit, lag)

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.spike_history import fit_spike_history, history_filters
    >>> fit = fit_spike_history(np.random.default_rng(0).poisson(0.2, (500, 2)), 10, 3)
    >>> history_filters(fit).shape
    (2, 2, 10)
    """
    return fit.weights @ fit.basis.T


def filter_errors(fit: SpikeHistoryFit) -> np.ndarray:
    """Standard errors of the filters at each lag.

    Parameters
    ----------
    fit : SpikeHistoryFit
        A fit.

    Returns
    -------
    ndarray, shape (unit, of unit, lag)

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.spike_history import filter_errors, fit_spike_history
    >>> fit = fit_spike_history(np.random.default_rng(0).poisson(0.2, (500, 1)), np.eye(2))
    >>> bool(np.allclose(filter_errors(fit)[0, 0] ** 2, np.diag(fit.weight_cov[0, 0])))
    True
    """
    return np.sqrt(np.einsum("ij,nmjk,ik->nmi", fit.basis, fit.weight_cov, fit.basis))


def predict_rate(
    fit: SpikeHistoryFit,
    counts: ArrayLike | Sequence[ArrayLike],
    columns: ArrayLike | Sequence[ArrayLike] | None = None,
) -> list[np.ndarray]:
    """Rate of every unit in every bin, given the spikes before it: that of one step ahead.

    Parameters
    ----------
    fit : SpikeHistoryFit
        A fit.
    counts, columns
        As for :func:`fit_spike_history`, of the same data or others.

    Returns
    -------
    list of ndarray (T, N)
        Spikes per second for each trial; NaN where the window or a column was not observed.

    Raises
    ------
    ValueError
        If shapes do not fit those of the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.spike_history import fit_spike_history, predict_rate
    >>> counts = np.random.default_rng(0).poisson(0.2, (500, 2))
    >>> fit = fit_spike_history(counts, 10, 3)
    >>> bool(np.isclose(predict_rate(fit, counts)[0].sum(), counts.sum()))
    True
    """
    parts = as_counts(counts)
    N, q = fit.columns.shape
    if parts[0].shape[1] != N:
        raise ValueError(f"counts has {parts[0].shape[1]} units, but the fit has {N}")
    data, usable = read(parts, fit.basis, columns, None, fit.coupled, fit.silent_start, False)
    if data.columns.shape[1] != q:
        raise ValueError(f"columns has {data.columns.shape[1]} columns, but the fit has {q}")
    weights = np.concatenate([fit.bias[:, None], fit.columns, fit.weights.reshape(N, -1)], axis=1)
    rates = np.empty((len(data.counts), N))
    with one_blas_thread():
        for rows, X in blocks(data):
            rates[rows] = np.exp(X @ weights.T)
    rates[~usable] = np.nan
    return np.split(rates, data.starts[1:-1])
