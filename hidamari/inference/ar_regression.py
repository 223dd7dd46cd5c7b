r"""One series, or several of one law, as an autoregression about a mean that columns explain.

y_t = centre + x_t' beta + u_t,    u_t = c + sum_i w_i u_{t-i} + x_t' gamma + e_t,    e_t ~ N(0, sigma2).

With ``mode="errors"`` the columns x move the mean (beta), and the autoregression is that of the errors about
it: a regression with autoregressive errors. With ``mode="arx"`` they drive it (gamma), so that
a push fades through the lags.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hidamari.inference.autoregression import ARFit, fit_exact, keep, lag_gram, solve_exact
from hidamari.inference.gaps import expected_gram, first_law, settled
from hidamari.inference.lags import LagGram
from hidamari.inference.reflections import levinson

__all__ = ["Regression", "regress", "residuals"]

_ROUNDS = 200
_ALIKE = 1e-6  # of the spread of the columns: what is told from rounding and from the intercept
_SETTLED = 1e-10  # of the spread of the series
_CHOICES = 3  # of a support, each with gaps filled by the fit of the last
_EXACT = 1e-14  # of the variance of a series: noise below it is rounding
_TOL, _ROUGH = 1e-7, 1e-3  # of weights from one round of EM to the next: at the end, and between choices

Segments = Sequence[np.ndarray]
Choose = Callable[[Segments, Segments, LagGram | None], ARFit]


class Regression(NamedTuple):
    """A fitted regression; coefficients of y's lags first, then of the columns."""

    centre: float
    weights: np.ndarray  # (p,) of lags 1..p
    intercept: float  # c
    outer: np.ndarray  # (k,) beta
    inner: np.ndarray  # (k,) gamma
    sigma2: float  # RSS over rows less coefficients
    coef: np.ndarray  # (m + k,) of all candidates
    standard_errors: np.ndarray  # (m + k,) given the support
    support: np.ndarray  # (m + k,) bool
    n_rows: int
    condition: float
    chosen: ARFit  # the fit that the support comes from, with its path


def regress(
    y: Segments,
    columns: Segments,
    lags: np.ndarray,
    choose: Choose,
    mode: str = "errors",
    refit: bool = True,
    exact: bool = False,
) -> Regression:
    r"""Fit the autoregression and its columns together.

    Without columns, or with ``mode="arx"``, one linear solve. Else Cochrane and Orcutt's alternation, which
    climbs the conditional likelihood: the errors' autoregression given beta, then beta by least squares of
    y and columns both filtered by 1 - sum_i w_i L^i.

    Parameters
    ----------
    y : sequence of ndarray (T_r,)
        Segments; NaN where not observed.
    columns : sequence of ndarray (T_r, k)
        Their columns.
    lags : ndarray of int, shape (m,)
        Candidate lags.
    choose : callable
        From segments, columns and, where known, their moments to an ARFit of the candidates: the solver.
    mode : {"errors", "arx"}
        What the columns do.
    refit : bool
        Whether what was chosen is fitted again by least squares, on all rows that its lags allow.
    exact : bool
        Maximise the likelihood of what was observed, by EM over missing values of y, and not that of
        the rows all of whose lags were observed.

    Returns
    -------
    Regression

    References
    ----------
    D. Cochrane and G. H. Orcutt, Application of least squares regression to relationships containing
    auto-correlated error terms, JASA 44, 1949.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.autoregression import fit_exact
    >>> from hidamari.inference.ar_regression import regress
    >>> rng, lags = np.random.default_rng(0), np.array([1])
    >>> y = 5.0 + np.arange(200) / 50 + rng.standard_normal(200)
    >>> line = np.arange(200.0)[:, None] / 200
    >>> found = regress([y], [line], lags, lambda u, x, _: fit_exact(u, [1], x))
    >>> found.outer.round(), found.weights.round(1)
    (array([4.]), array([0.]))
    """
    k = columns[0].shape[1]
    seen = np.concatenate([part[np.isfinite(part)] for part in y])
    centre = float(seen.mean())
    u = [part - centre for part in y]
    if exact and any(np.isnan(part).any() for part in y):
        return _with_gaps(centre, u, columns, lags, choose, mode, refit)
    if k == 0 or mode == "arx":
        fit = choose(u, columns, None)
        chosen = fit
        if refit:
            fit = _again(u, columns, lags, fit)
        return _gathered(centre, fit, chosen, np.zeros(k), np.empty(0))
    none = [np.empty((len(part), 0)) for part in y]
    spread = float(np.abs(u[0][np.isfinite(u[0])]).max(initial=0.0)) or 1.0
    beta, errors = _filtered_regression(u, columns, np.empty(0), np.zeros(k))
    chosen = choose(residuals(u, columns, beta), none, None)
    fit = _again(residuals(u, columns, beta), none, lags, chosen) if refit else chosen
    for _ in range(_ROUNDS):
        before = beta
        beta, errors = _filtered_regression(u, columns, fit.weights, beta)
        rest = residuals(u, columns, beta)
        fit = _again(rest, none, lags, chosen) if refit else choose(rest, none, None)
        moved = max(float(np.nanmax(np.abs(x @ (beta - before)), initial=0.0)) for x in columns)
        if moved <= _SETTLED * spread:
            break
    return _gathered(centre, fit, chosen, beta, errors)


def _with_gaps(
    centre: float, u: Segments, columns: Segments, lags: np.ndarray, choose: Choose, mode: str, refit: bool
) -> Regression:
    """The same by EM: moments expected given what was observed, in place of those of complete rows."""
    seen = [not np.isnan(part).all() for part in u]
    u, columns = [part for part, on in zip(u, seen) if on], [x for x, on in zip(columns, seen) if on]
    m, k = len(lags), columns[0].shape[1]
    beta, errors = np.zeros(k), np.empty(0)
    none = [np.empty((len(part), 0)) for part in u]
    drive = columns if k and mode == "arx" else none
    move = bool(k) and mode == "errors"
    if move:
        beta, errors = _filtered_regression(u, columns, np.empty(0), beta)
    rest = residuals(u, columns, beta)
    order = min(int(lags.max(initial=0)), max(map(len, u)) - 1)
    fit = levinson(rest, order) if order else solve_exact(lag_gram(rest, 0))
    starts = [first_law(part, fit) for part in rest]

    def expected() -> tuple[LagGram, list[np.ndarray]]:
        """Moments, and segments filled in, under the law as it stands."""
        laws = []
        for part, x, start in zip(rest, drive, starts):
            c = fit.intercept + (x @ fit.coef[m:] if len(fit.coef) > m else np.zeros(len(x)))
            # A row with neither a value nor what drives it has the usual drive, so that it has a law at all.
            c = np.where(np.isnan(c) & np.isnan(part), np.nanmean(c), c)
            laws.append((fit.weights, fit.sigma2, c, start))
        gram, filled = expected_gram(rest, laws, lags.tolist(), drive)
        return gram, [one.values for one in filled]

    chosen = fit
    for n in range(_CHOICES + 1):
        gram, filled = expected()
        found = choose(filled, drive, gram)
        last = n == _CHOICES or (n > 0 and np.array_equal(found.support, chosen.support))
        chosen = chosen if last else found
        fit = fit if last else found
        tol = _TOL if last else _ROUGH
        for _ in range(_ROUNDS):
            gram, filled = expected()
            before = fit
            fit = _again(filled, drive, lags, chosen, gram) if refit else choose(filled, drive, gram)
            still = True
            if move:
                whole = [part + x @ beta for part, x in zip(filled, columns)]
                old = beta
                beta, errors = _filtered_regression(whole, columns, fit.weights, beta)
                rest = residuals(u, columns, beta)
                spread = max(float(np.nanmax(np.abs(part))) for part in u)
                still = max(float(np.nanmax(np.abs(x @ (beta - old)))) for x in columns) <= tol * spread
            if fit.sigma2 <= _EXACT * float(gram.moments[0, 0]) / gram.n_rows:
                last = True  # no noise is left, nor anything to learn
                break
            if still and settled(before, fit, tol):
                break
        if last:
            break
    # Moments count imputed values as seen, and a coefficient needs both of a pair.
    share = sum(int(np.isfinite(part).sum()) for part in u) / sum(map(len, u))
    fit = fit._replace(n_rows=int(round(share * fit.n_rows)), cov=fit.cov / share**2)
    return _gathered(centre, fit, chosen, beta, errors / np.sqrt(share))


def residuals(y: Segments, columns: Segments, beta: np.ndarray) -> list[np.ndarray]:
    """What columns with these coefficients leave of each segment.

    Parameters
    ----------
    y, columns : sequences of ndarray (T_r,) and (T_r, k)
        Segments and their columns.
    beta : ndarray, shape (k,)
        Coefficients.

    Returns
    -------
    list of ndarray (T_r,)

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.ar_regression import residuals
    >>> residuals([np.ones(2)], [np.eye(2)], np.array([1.0, 0.0]))
    [array([0., 1.])]
    """
    if not beta.any():  # columns of no effect may be unknown
        return [np.array(part) for part in y]
    return [part - x @ beta for part, x in zip(y, columns)]


def _again(
    u: Segments, columns: Segments, lags: np.ndarray, chosen: ARFit, gram: LagGram | None = None
) -> ARFit:
    """Least squares of the chosen predictors, written with zeros for the others."""
    m, k = len(lags), columns[0].shape[1]
    on = chosen.support
    if gram is None:
        fit = fit_exact(u, lags[on[:m]].tolist(), [x[:, on[m : m + k]] for x in columns])
    else:
        fit = solve_exact(keep(gram, on))
    coef, cov = np.zeros(m + k), np.zeros((1 + m + k, 1 + m + k))
    at = np.flatnonzero(on)
    coef[at] = fit.coef
    both = np.concatenate([[0], 1 + at])
    cov[np.ix_(both, both)] = fit.cov
    return fit._replace(names=chosen.names, lags=lags, coef=coef, cov=cov, support=on)


def _gathered(centre: float, fit: ARFit, chosen: ARFit, beta: np.ndarray, errors: np.ndarray) -> Regression:
    """The parts of a fit as one, with the variance of the innovations freed of the bias of fitting."""
    m = len(fit.lags)
    k = len(beta)
    inner = fit.coef[m:] if len(fit.coef) > m else np.zeros(k)
    outer = np.zeros(k) if len(fit.coef) > m else beta
    spare = fit.n_rows - int(fit.support.sum()) - 1 - (k if len(fit.coef) == m else 0)
    inflate = fit.n_rows / spare if spare > 0 else np.nan
    se = np.sqrt(np.diag(fit.cov)[1:] * inflate)
    coef, support = fit.coef, fit.support
    if len(fit.coef) == m and k:
        coef = np.concatenate([coef, beta])
        se = np.concatenate([se, np.sqrt(fit.sigma2 * inflate) * errors])
        support = np.concatenate([support, np.ones(k, dtype=bool)])
    return Regression(
        centre, fit.weights, fit.intercept, outer, inner, fit.sigma2 * inflate, coef, se, support,
        fit.n_rows, fit.condition, chosen,
    )  # fmt: skip


def _filtered_regression(
    u: Segments, columns: Segments, weights: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of columns by least squares after the filter, and the roots of their inverse moments."""
    from scipy.signal import oaconvolve

    a, p = np.append(1.0, -weights), len(weights)
    stacked = np.concatenate(columns)
    spread = np.nansum((stacked - np.nanmean(stacked, axis=0)) ** 2, axis=0)
    if not (spread > 0).all():
        raise ValueError("columns hold one that does not vary; allowed: those that do")
    rows = []
    for part, x in zip(u, columns):
        both = np.column_stack([part, x])
        if len(both) <= p:
            continue
        known = np.isfinite(both @ np.ones(both.shape[1]))
        filtered = oaconvolve(np.where(known[:, None], both, 0.0), a[:, None], axes=0)[p : len(both)]
        used = (a != 0.0).astype(float)
        lost = np.convolve((~known).astype(float), used)[p : len(both)] > 0.5
        rows.append(filtered[~lost])
    joined = np.concatenate(rows) if rows else np.empty((0, 1 + columns[0].shape[1]))
    k = joined.shape[1] - 1
    if len(joined) <= k + 1:
        raise ValueError(f"y has {len(joined)} rows with all of their lags and columns; {k + 2} are needed")
    joined = joined - joined.mean(axis=0)
    scale = np.sqrt(spread / sum(map(len, columns)) * len(joined))
    U, d, V = np.linalg.svd(joined[:, 1:] / scale, full_matrices=False)
    if d[0] == 0.0 or (p == 0 and d[-1] < _ALIKE * d[0]):
        raise ValueError("columns do not vary, or are linearly dependent; allowed: those that vary alone")
    # At a unit root the filter turns a line into a level, which the intercept is already: such directions
    # stay where they were.
    told = d > _ALIKE * max(d[0], 1.0)
    U, d, V = U[:, told], d[told], V[told]
    left = joined[:, 0] - joined[:, 1:] @ beta
    moved = beta + (V.T / d) @ (U.T @ left) / scale
    return moved, np.sqrt(((V.T / d) ** 2).sum(axis=1)) / scale
