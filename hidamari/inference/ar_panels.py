r"""Autoregressions of a panel of series: each on its own, all with one law, or each near a common one.

Given intercepts of their own under a flat prior, the moments of each series about its means are all that
enters. With C_s the moments of the predictors, c_s those with the response, q_s that of the response, over
n_s rows, partial pooling is

    y_s = a_s + X_s phi_s + e_s,    e_s ~ N(0, sigma2_s I),    phi_s ~ N(mu, diag(tau)),

with mu, tau and sigma2 at the maximum of the marginal likelihood, in which a_s and phi_s are integrated out.

References
----------
D. V. Lindley and A. F. M. Smith, Bayes estimates for the linear model, JRSS B 34, 1972.
H. Zhou, L. Hu, J. Zhou, K. Lange, MM algorithms for variance components models, JCGS 28, 2019.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hidamari.inference._blas import one_blas_thread
from hidamari.inference.autoregression import ARFit, solve_exact
from hidamari.inference.lags import LagGram

__all__ = ["PanelFit", "fit_panel", "panel_evidence", "within_gram"]

_ROUNDS = 2000
_SETTLED = 1e-5  # nats in a round: nothing is left to gain
_ROUNDING = 1e-11  # of the log evidence: what may look like a fall
_EXACT = 1e-12  # of the variance of a series: noise below it is rounding


class PanelFit(NamedTuple):
    """Fits of all series of a panel, and the law they were drawn from."""

    fits: list[ARFit]  # one for each series
    mean: np.ndarray  # (m,) of the coefficients over series: mu
    spread: np.ndarray  # (m,) their standard deviation over series: sqrt(tau)
    mean_errors: np.ndarray  # (m,) standard errors of the mean
    evidence: np.ndarray  # (rounds,) log marginal likelihood with partial pooling, else empty
    pooling: str | None


class _Moments(NamedTuple):
    """Moments of all series, stacked."""

    C: np.ndarray  # (S, m, m)
    c: np.ndarray  # (S, m)
    q: np.ndarray  # (S,)
    free: np.ndarray  # (S,) rows, less the intercept
    rows: np.ndarray  # (S,)


def within_gram(grams: Sequence[LagGram]) -> LagGram:
    """Moments of all series, each about its own means: those of one law with an intercept for each series.

    Parameters
    ----------
    grams : sequence of LagGram
        With the same predictors and one response.

    Returns
    -------
    LagGram
        Its means are weighted by rows, so that its intercept is that of the average series.

    Raises
    ------
    ValueError
        If there are none, or if they do not match.

    Examples
    --------
    >>> from hidamari.inference.autoregression import lag_gram
    >>> one, other = lag_gram([0.0, 1.0, 0.5], 1), lag_gram([9.0, 10.0, 9.5], 1)
    >>> bool(np.allclose(within_gram([one, other]).moments, 2 * one.moments))
    True
    """
    _check(grams)
    rows = np.array([gram.n_rows for gram in grams])
    means = rows @ np.array([gram.means for gram in grams]) / rows.sum()
    moments = np.sum([gram.moments for gram in grams], axis=0)
    return LagGram(moments, means, int(rows.sum()), grams[0].names, grams[0].lags)


def fit_panel(
    grams: Sequence[LagGram],
    pooling: str | None = "partial",
    intercept: bool = True,
    solve: Callable[[LagGram], ARFit] | None = None,
    noise: str = "own",
) -> PanelFit:
    r"""Fit every series of a panel.

    None: each on its own. "complete": one law, with intercepts of their own; long and loud series count
    most. "partial": each near a mean of all, the nearer the less its own rows say and the more alike the
    series are; short series may then have fewer rows than predictors.

    Parameters
    ----------
    grams : sequence of LagGram
        Moments of each series, with the same predictors. Coefficients of columns are comparable only if
        series come in comparable units; those of lags always are.
    pooling : {"partial", "complete", None}
        How much series share.
    intercept : bool
        Whether each has one.
    solve : callable, optional
        From moments to a fit, without pooling or with complete pooling; least squares by default.
    noise : {"own", "common"}
        Whether sigma2 of partial pooling differs among series; series with fewer rows than predictors may
        need a common one.

    Returns
    -------
    PanelFit
        With partial pooling ``coef`` and ``cov`` of the fits are posterior means and covariances given mu,
        tau and sigma2, whose own uncertainty is not in them; ``sigma2`` is that of the evidence.

    Raises
    ------
    ValueError
        If there are no series, their predictors differ, pooling is unknown, or nothing fits.

    Examples
    --------
    >>> from hidamari.inference.autoregression import lag_gram
    >>> rng = np.random.default_rng(0)
    >>> panel = rng.standard_normal((20, 60))
    >>> for t in range(1, 60):
    ...     panel[:, t] += 0.6 * panel[:, t - 1]
    >>> grams = [lag_gram(series, 1) for series in panel]
    >>> alone, near = fit_panel(grams, None), fit_panel(grams, "partial")
    >>> bool(np.std([fit.coef for fit in near.fits]) < 0.3 * np.std([fit.coef for fit in alone.fits]))
    True
    """
    _check(grams)
    if pooling not in ("partial", "complete", None):
        raise ValueError(f"pooling is {pooling!r}; allowed: 'partial', 'complete' or None")
    if noise not in ("own", "common"):
        raise ValueError(f"noise is {noise!r}; allowed: 'own' or 'common'")
    if pooling == "partial":
        if solve is not None:
            raise ValueError("solve is given, but partial pooling has a solver of its own; allowed: None")
        with one_blas_thread():
            return _partial(grams, intercept, noise == "common")
    one = solve or (lambda gram: solve_exact(gram, intercept))
    none = np.empty(0)
    if pooling is None:
        fits = [one(gram) for gram in grams]
        coef = np.array([fit.coef for fit in fits])
        spread = coef.std(axis=0, ddof=1) if len(fits) > 1 else np.full(coef.shape[1], np.nan)
        return PanelFit(fits, coef.mean(axis=0), spread, spread / np.sqrt(len(fits)), none, None)
    common = one(within_gram(grams if intercept else [_about_zero(gram) for gram in grams]))
    fits = [_own(common, gram, common.coef, common.cov[1:, 1:], common.sigma2, intercept) for gram in grams]
    errors = np.sqrt(np.diag(common.cov)[1:])
    return PanelFit(fits, common.coef, np.zeros(len(common.coef)), errors, none, "complete")


def panel_evidence(
    grams: Sequence[LagGram],
    mean: np.ndarray,
    spread: np.ndarray,
    sigma2: np.ndarray,
    intercept: bool = True,
) -> float:
    r"""Log density of all responses, with the coefficients and the intercepts integrated out.

    sum_s log N(y_s | X_s mu, sigma2_s I + X_s diag(tau) X_s'), tau = spread^2, where an intercept under a
    flat prior of density 1 takes one row and leaves moments about the means.

    Parameters
    ----------
    grams : sequence of LagGram
        Moments of each series.
    mean, spread : ndarray, shape (m,)
        Mean and standard deviation of the coefficients over series.
    sigma2 : ndarray, shape (S,)
        Variances of the innovations.
    intercept : bool
        Whether each series has one.

    Returns
    -------
    float
        Nats.

    Examples
    --------
    >>> from hidamari.inference.autoregression import lag_gram
    >>> gram = lag_gram([0.0, 1.0, 1.0], 1)  # the difference of two rows, one lagged by a difference of 1
    >>> round(panel_evidence([gram], np.zeros(1), np.ones(1), np.ones(1)), 6)
    -1.468245
    """
    _check(grams)
    tau = np.asarray(spread, dtype=float) ** 2
    given = _given(_stack(grams, intercept), tau, np.asarray(sigma2, dtype=float), np.asarray(mean, float))
    return given.evidence


class _Given(NamedTuple):
    """What follows from tau and sigma2: the best mean, or that given, and the coefficients about it."""

    evidence: float
    mean: np.ndarray  # (m,)
    precision: np.ndarray  # (m, m) of the mean
    slope: np.ndarray  # (S, m) X' P (y - X mu), P the precision of y: tau times it is phi - mu
    certain: np.ndarray  # (S, m) diagonals of X' P X
    rss: np.ndarray  # (S,) at the posterior means


def _given(data: _Moments, tau: np.ndarray, sigma2: np.ndarray, mean: np.ndarray | None = None) -> _Given:
    """Evidence and gradients: X' P X = (I + A T)^{-1} A with A = C / sigma2, by one solve for each series."""
    m = data.C.shape[1]
    A, a = data.C / sigma2[:, None, None], data.c / sigma2[:, None]
    K = np.eye(m) + A * tau
    solved = np.linalg.solve(K, np.concatenate([A, a[:, :, None]], axis=2))
    M, b = solved[:, :, :m], solved[:, :, m]
    precision = M.sum(axis=0)
    try:
        mu = np.linalg.solve(precision, b.sum(axis=0)) if mean is None else mean
    except np.linalg.LinAlgError:
        raise ValueError("predictors of grams are collinear in the whole panel: drop some") from None
    slope = b - M @ mu
    phi = mu + tau * slope
    # The residual sum of squares as a form in all of its coefficients: errors of phi enter squared.
    rss = data.q - 2.0 * (phi * data.c).sum(axis=1) + np.einsum("si,sij,sj->s", phi, data.C, phi)
    rss = np.maximum(rss, 0.0)
    form = rss / sigma2 + (tau * slope**2).sum(axis=1)
    extent = data.free * np.log(2.0 * np.pi * sigma2) + np.log(np.where(data.free < data.rows, data.rows, 1))
    evidence = -0.5 * float((extent + np.linalg.slogdet(K)[1] + form).sum())
    return _Given(evidence, mu, precision, slope, np.einsum("sii->si", M), rss)


def _partial(grams: Sequence[LagGram], intercept: bool, common: bool) -> PanelFit:
    """Climb the marginal likelihood.

    Variances are multiplied by a power of |gradient of the form| / |gradient of the determinant|: the power
    1/2 never lowers the likelihood (minorisation); 1, and larger ones after each success, are faster and
    taken whenever they climb.
    """
    data = _stack(grams, intercept)
    if len(grams) < 2:
        raise ValueError("grams is of one series, which has nothing to share; allowed: at least two")
    varies = np.einsum("sii->si", data.C).sum(axis=0) > 0
    for s in np.flatnonzero(~(data.q > 0) | ~(data.free > 0)):
        raise ValueError(f"the series of grams[{s}] does not vary, or has one row; allowed: those that vary")
    for j in np.flatnonzero(~varies):
        raise ValueError(f"predictor {grams[0].names[j]!r} does not vary in any series; drop it")
    least = _EXACT * data.q / data.free
    sigma2 = 0.5 * data.q / data.free
    if common:
        sigma2 = np.full(len(grams), 0.5 * data.q.sum() / data.free.sum())
    tau = data.q.sum() / np.einsum("sii->si", data.C).sum(axis=0)
    now = _given(data, tau, sigma2)
    evidence, bold = [now.evidence], 1.0
    for _ in range(_ROUNDS):
        spare = data.free - (tau * now.certain).sum(axis=1)
        grow_tau = (now.slope**2).sum(axis=0) / now.certain.sum(axis=0)
        grow_sigma2 = now.rss / (sigma2 * spare)
        if common:
            grow_sigma2 = np.full_like(spare, now.rss.sum() / (sigma2 * spare).sum())
        for power in (bold, 1.0, 0.5):
            new_tau, new_sigma2 = tau * grow_tau**power, sigma2 * grow_sigma2 ** min(power, 1.0)
            for s in np.flatnonzero(new_sigma2 <= least):
                raise ValueError(
                    f"the series of grams[{s}] is fitted without error; noise='common' prevents it"
                )
            new = _given(data, new_tau, new_sigma2)
            if new.evidence >= now.evidence:
                break
        bold = 1.5 * bold if power == bold else 1.0
        gain = new.evidence - now.evidence
        if gain < -_ROUNDING * abs(now.evidence):
            break
        tau, sigma2, now = new_tau, new_sigma2, new
        evidence.append(now.evidence)
        if gain < _SETTLED:
            break
    m, blank = len(tau), np.empty(0)
    K = np.eye(m) + tau[:, None] * data.C / sigma2[:, None, None]
    V = np.linalg.solve(K, np.broadcast_to(np.diag(tau), K.shape))
    template = ARFit(
        grams[0].names, grams[0].lags, blank, 0.0, 0.0, blank, np.ones(m, dtype=bool), 0, np.nan
    )  # fmt: skip
    fits = [
        _own(template, gram, now.mean + tau * slope, 0.5 * (v + v.T), float(noise), intercept)
        for gram, slope, v, noise in zip(grams, now.slope, V, sigma2)
    ]
    errors = np.sqrt(np.diag(np.linalg.inv(now.precision)))
    return PanelFit(fits, now.mean, np.sqrt(tau), errors, np.array(evidence), "partial")


def _own(
    fit: ARFit, gram: LagGram, coef: np.ndarray, cov: np.ndarray, sigma2: float, intercept: bool
) -> ARFit:
    """A series' fit with these coefficients, and the intercept that its own means give."""
    x, level = gram.means[1:], 0.0
    full = np.zeros((1 + len(coef), 1 + len(coef)))
    full[1:, 1:] = cov
    if intercept:
        level = float(gram.means[0] - x @ coef)
        full[0, 1:] = full[1:, 0] = -cov @ x
        full[0, 0] = sigma2 / gram.n_rows + x @ cov @ x
    return fit._replace(coef=coef, intercept=level, sigma2=sigma2, cov=full, n_rows=gram.n_rows)


def _stack(grams: Sequence[LagGram], intercept: bool) -> _Moments:
    """Moments of all series about their means, or about 0 without intercept."""
    rows = np.array([float(gram.n_rows) for gram in grams])
    G = np.stack([gram.moments if intercept else _about_zero(gram).moments for gram in grams])
    return _Moments(G[:, 1:, 1:], G[:, 1:, 0], G[:, 0, 0], rows - intercept, rows)


def _about_zero(gram: LagGram) -> LagGram:
    """The same rows, with moments about 0 in place of the means."""
    return gram._replace(
        moments=gram.moments + gram.n_rows * np.outer(gram.means, gram.means),
        means=np.zeros_like(gram.means),
    )


def _check(grams: Sequence[LagGram]) -> None:
    """Raise unless there are moments, with one response and the same predictors."""
    if not grams:
        raise ValueError("grams is empty, but needs at least one series")
    for s, gram in enumerate(grams):
        if gram.names != grams[0].names:
            raise ValueError(f"grams[{s}] has predictors {gram.names}, but the first {grams[0].names}")
        if gram.n_responses != 1:
            raise ValueError(f"grams[{s}] has {gram.n_responses} responses, but needs one: keep() it")
