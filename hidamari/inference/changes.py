"""How sure a change point is: the posterior over all segmentations, and intervals for each location."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._marginals import BlockMarginal, Spending, marginal_of_blocks, observed_before
from hidamari.inference.costs import Cost, Covariance, MeanVariance, Sums

__all__ = [
    "ChangePosterior",
    "ChangePrior",
    "best_number",
    "change_posterior",
    "intervals",
    "log_marginals",
    "sample_changes",
]

Marginal = Callable[[np.ndarray, np.ndarray], np.ndarray]


class ChangePosterior(NamedTuple):
    """Posterior over the segmentations of a series, changes allowed at some places."""

    places: np.ndarray  # (P + 1,) rows where changes are allowed, with 0 and T at the ends
    probability: np.ndarray  # (T,) that a segment begins with a row; the first row's is 0
    log_evidence: float  # log of the sum over all segmentations
    forward: np.ndarray  # (P + 1,) log sum over the segmentations of the rows before each place


class ChangePrior(NamedTuple):
    """What a segment and a change pay."""

    information: float  # kappa: rows that the prior on a segment's parameters is worth
    price: float  # of a change itself: minus twice the log of its prior odds
    few: float  # what a segment of hardly any rows pays for each parameter


def change_prior(penalty: float, n_rows: int, n_parameters: int, reference: float) -> ChangePrior:
    r"""Prior that makes the posterior pay for a change what the penalised search pays.

    A change has probability 1 / T at each row, and the parameters of a segment a prior worth kappa rows: a
    segment of ``reference`` rows L then pays 2 log T + p log(1 + L / kappa), and kappa makes that the
    penalty. The default penalty so gives log(1 + L / kappa) = 1 + 2 sqrt(log(T) / p): about a row for one
    parameter, and for many a shift that is just large enough to be found.

    Parameters
    ----------
    penalty : float
        Price of a change in units of twice the log likelihood.
    n_rows, n_parameters : int
        T, and p of a segment.
    reference : float
        L.

    Returns
    -------
    ChangePrior
        Its price is 2 log T, or less where the penalty is small.

    Examples
    --------
    >>> prior = change_prior(20.0, n_rows=1000, n_parameters=1, reference=500)
    >>> round(prior.information, 2), round(prior.price, 2)
    (1.03, 13.82)
    """
    if n_parameters == 0:
        return ChangePrior(1.0, float(penalty), 0.0)
    occam = max((penalty - 2.0 * np.log(n_rows)) / n_parameters, 1.0)
    return ChangePrior(
        float(reference / np.expm1(occam)), float(penalty - n_parameters * occam), float(occam)
    )


def log_marginals(
    cost: Cost, cache: Any, X: ArrayLike, prior: ChangePrior, tempering: float = 1.0
) -> Marginal:
    r"""Log weight of a segment with its parameters integrated out, as a function of starts and ends.

    log m = -C / (2 tempering) - p / 2 (log(1 + n / kappa) + few kappa / (n + kappa)), n the observed rows:
    the best likelihood, times the part of the prior's volume that the segment leaves, less what p parameters
    fit of the noise of rows that are few beside the prior's. Where they are many, that is exact for means up
    to a factor common to all segments, and Laplace's approximation for other costs. For mean and variance, or
    covariance, it is corrected to be exact for few rows, under a prior that is flat in the mean and in the
    logarithm of the scale.

    Parameters
    ----------
    cost : Cost
        Segment cost.
    cache
        ``cost.prepare(X)``; or None, which prices costs that are sums over rows from sums of blocks: much
        less to prepare, for as much as `change_posterior` and `intervals` ask.
    X : array_like, shape (T, d) or (T,)
        Series.
    prior : ChangePrior
        From `change_prior`.
    tempering : float
        Divides the log likelihood, where rows are not independent.

    Returns
    -------
    callable
        Of integer arrays ``starts`` and ``ends``, which broadcast.

    Examples
    --------
    >>> from hidamari.inference.costs import Mean
    >>> x = np.array([0.0, 2.0, 7.0])
    >>> marginal = log_marginals(Mean(), Mean().prepare(x), x, ChangePrior(1.0, 4.0, 1.0))
    >>> marginal(np.array([0]), np.array([2])).round(3)
    array([-1.716])
    """
    x = np.asarray(X, dtype=np.float64).reshape(len(np.asarray(X)), -1)
    p = cost.n_parameters(x.shape[1])
    exact = isinstance(cost, MeanVariance) or (isinstance(cost, Covariance) and cost.centred)
    if not exact:
        spending = Spending(0.5 / tempering, prior.information, prior.few, float(p))
        blocks = marginal_of_blocks(cost, cache, np.ascontiguousarray(x), spending)
        if blocks is not None:
            return blocks
    cache = cost.prepare(x) if cache is None else cache
    seen = observed_before(x)

    def laplace(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Profile likelihood, less the volume of its peak and what it fits of the noise."""
        n = (seen[ends] - seen[starts]) / prior.information
        spent = np.log1p(n) + prior.few / (1.0 + n)
        return -0.5 * cost.costs(cache, starts, ends) / tempering - 0.5 * p * spent

    if isinstance(cost, MeanVariance) and isinstance(cache, Sums):
        return lambda starts, ends: laplace(starts, ends) + _small_sample(cache, starts, ends) / tempering
    if isinstance(cost, Covariance) and exact and isinstance(cache, Sums):
        return lambda starts, ends: laplace(starts, ends) + _few_rows(cost, cache, starts, ends) / tempering
    return laplace


def _few_rows(cost: Covariance, cache: Sums, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Log of exact over Laplace for mean and covariance, relative to that of the whole series.

    The integral over both, under the prior |Sigma|^-(d+1)/2, is
    n^-d/2 pi^-(n-1)d/2 Gamma_d((n - 1) / 2) |S|^-(n-1)/2, S the scatter about the mean.
    """
    from scipy.special import multigammaln  # pyright: ignore[reportAttributeAccessIssue]

    d = cache.rows.x.shape[1]
    p = d * (d + 1) // 2 + d

    def gap(n: np.ndarray, price: np.ndarray) -> np.ndarray:
        """Difference for n rows and a cost."""
        log_det = price / n - d * (1.0 + np.log(2.0 * np.pi))
        scatter = 0.5 * (n - 1.0) * (d * np.log(n) + log_det)
        exact = multigammaln(0.5 * (n - 1.0), d) - scatter - 0.5 * (n - 1.0) * d * np.log(np.pi)
        return exact - 0.5 * d * np.log(n) + 0.5 * price + 0.5 * p * np.log(n)

    prices = cost.costs(cache, starts, ends)
    n = cache.prefix[ends, 0] - cache.prefix[starts, 0]
    possible = np.isfinite(prices) & (n > d)
    last = len(cache.prefix) - 1
    price = cost.costs(cache, 0, last)
    if not np.isfinite(price):
        return np.zeros(np.shape(prices))
    whole = gap(cache.prefix[last, 0], price)
    full = gap(np.where(possible, n, d + 1.0), np.where(possible, prices, 0.0))
    return np.where(possible, full - whole, 0.0)


def _small_sample(cache: Sums, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Log of exact over Laplace for mean and variance: Gamma((n - 1) / 2) against Stirling's formula.

    The integral over mean and log sigma is (2 pi)^-(n-1)/2 n^-1/2 Gamma((n - 1) / 2) (S / 2)^-(n-1)/2 / 2,
    S the sum of squares about the mean.
    """
    from scipy.special import gammaln

    rows = cache.rows
    d = rows.x.shape[1]
    sums = cache.prefix[ends] - cache.prefix[starts]
    n = np.broadcast_to(sums[..., :1], (*sums.shape[:-1], d)) if rows.shared else sums[..., :d]
    first = sums.shape[-1] - 2 * d
    enough = n > 1.0
    n = np.where(enough, n, 2.0)
    square = sums[..., first + d :] - sums[..., first : first + d] ** 2 / n
    square = np.maximum(square, n * rows.least)
    square = np.where(square > 0.0, square, n * np.where(rows.lone > 0.0, rows.lone, 1.0))
    lone = np.where(rows.lone > 0.0, rows.lone, 1.0)
    exact = gammaln((n - 1.0) / 2.0) - 0.5 * (n - 1.0) * np.log(np.pi * square) - 0.5 * np.log(n)
    peak = -0.5 * n * (np.log(2.0 * np.pi * square / n) + 1.0) - np.log(n)
    peak += 0.5 * np.log(8.0 * np.pi**2 * lone)  # makes the two agree for many rows of the usual variance
    return np.where(enough, exact - peak, 0.0).sum(axis=-1)


def change_posterior(
    marginal: Marginal, places: ArrayLike, price: float, min_length: int = 1
) -> ChangePosterior:
    r"""Exact posterior probability of a change at every place, over all segmentations.

    A segmentation has weight exp(-price K / 2) prod_k m(segment k): a product partition model. With F_r the
    sum of the weights of the rows before place r, and B_r of those from it on,

        F_r = sum_l F_l m(l, r) h,    B_l = sum_r m(l, r) h B_r,    P(change at r) = F_r B_r / F_T,

    h = exp(-price / 2) for all segments but the first. The work is the square of the number of places.

    Parameters
    ----------
    marginal : callable
        Log weight of segments, from `log_marginals`.
    places : array_like of int
        Rows where a change is allowed; begins with 0 and ends with T.
    price : float
        Of a change, in units of twice the log likelihood: minus twice the log of its prior odds.
    min_length : int
        Fewest rows of a segment.

    Returns
    -------
    ChangePosterior

    References
    ----------
    Barry and Hartigan, Product partition models for change point problems, 1992. Fearnhead, Exact and
    efficient Bayesian inference for multiple changepoint problems, 2006.

    Examples
    --------
    >>> from hidamari.inference.costs import Mean
    >>> x = np.array([0.0, 0.3, -0.2, 5.0, 5.2, 4.9])
    >>> marginal = log_marginals(Mean(), Mean().prepare(x), x, ChangePrior(1.0, 6.0, 1.0))
    >>> change_posterior(marginal, np.arange(7), price=6.0).probability.round(2).tolist()
    [0.0, 0.1, 0.1, 1.0, 0.1, 0.1]
    """
    places = np.asarray(places, dtype=np.int64)
    last = len(places) - 1
    if isinstance(marginal, BlockMarginal):
        forward, backward = marginal.forward_backward(places, price, min_length)
    else:
        forward, backward = _forward_backward(marginal, places, -0.5 * price, min_length)
    probability = np.zeros(int(places[-1]))
    inside = slice(1, last)
    probability[places[inside]] = np.exp(np.minimum(forward[inside] + backward[inside] - forward[last], 0.0))
    return ChangePosterior(places, probability, float(forward[last]), forward)


def _forward_backward(
    marginal: Marginal, places: np.ndarray, odds: float, min_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Log sums over the segmentations before and after each place, for weights of any kind."""
    last = len(places) - 1
    forward, backward = np.full(last + 1, -np.inf), np.full(last + 1, -np.inf)
    forward[0] = backward[last] = 0.0
    for r in range(1, last + 1):
        stop = int(np.searchsorted(places, places[r] - min_length, side="right"))
        if stop:
            weight = marginal(places[:stop], places[r : r + 1]) + forward[:stop] + odds
            weight[0] -= odds
            forward[r] = np.logaddexp.reduce(weight)
    for left in range(last - 1, 0, -1):
        first = int(np.searchsorted(places, places[left] + min_length))
        if first <= last:
            weight = marginal(places[left : left + 1], places[first:]) + backward[first:] + odds
            backward[left] = np.logaddexp.reduce(weight)
    return forward, backward


def sample_changes(
    posterior: ChangePosterior,
    marginal: Marginal,
    price: float,
    n: int,
    rng: np.random.Generator,
    min_length: int = 1,
) -> list[np.ndarray]:
    """Draw segmentations from the posterior, last change first.

    Parameters
    ----------
    posterior : ChangePosterior
        From `change_posterior` with the same marginal, price and min_length.
    marginal, price, min_length
        As there.
    n : int
        Number of draws.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    list of ndarray
        Change points of each draw.

    Examples
    --------
    >>> from hidamari.inference.costs import Mean
    >>> x = np.array([0.0, 0.3, -0.2, 5.0, 5.2, 4.9])
    >>> marginal = log_marginals(Mean(), Mean().prepare(x), x, ChangePrior(1.0, 6.0, 1.0))
    >>> posterior = change_posterior(marginal, np.arange(7), price=6.0)
    >>> sample_changes(posterior, marginal, 6.0, 1, np.random.default_rng(0))
    [array([3])]
    """
    places, forward = posterior.places, posterior.forward
    pending = {len(places) - 1: list(range(n))}
    drawn: list[list[int]] = [[] for _ in range(n)]
    # All draws that stand at one place share the weights of the change before it.
    for r in range(len(places) - 1, 0, -1):
        here = pending.pop(r, [])
        if not here:
            continue
        stop = int(np.searchsorted(places, places[r] - min_length, side="right"))
        weight = marginal(places[:stop], places[r : r + 1]) + forward[:stop] - 0.5 * price
        weight[0] += 0.5 * price
        chance = np.exp(weight - weight.max())
        for i, at in zip(here, rng.choice(stop, size=len(here), p=chance / chance.sum())):
            if at > 0:
                drawn[i].append(int(places[at]))
                pending.setdefault(int(at), []).append(i)
    return [np.array(found[::-1], dtype=np.int64) for found in drawn]


def intervals(
    marginal: Marginal,
    change_points: ArrayLike,
    n_rows: int,
    level: float = 0.95,
    min_length: int = 1,
    simultaneous: bool = False,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Highest posterior density intervals of each change, its neighbours held where they are.

    P(change k at t) is proportional to m(a, t) m(t, b), a and b the changes beside it. The interval is the
    shortest run of rows that holds the rows of highest probability.

    Parameters
    ----------
    marginal : callable
        Log weight of segments, from `log_marginals`.
    change_points : array_like of int
        Rising.
    n_rows : int
        T.
    level : float
        Probability of an interval.
    min_length : int
        Fewest rows of a segment.
    simultaneous : bool
        Take 1 - (1 - level) / K instead, so that all K intervals hold together (Bonferroni).

    Returns
    -------
    ndarray, shape (K, 2)
        First and last row of each interval, both inside.
    list of ndarray
        Probability of every row between the neighbours of each change, from a + 1 on.

    Examples
    --------
    >>> from hidamari.inference.costs import Mean
    >>> x = np.array([0.0, 0.3, -0.2, 2.0, 2.2, 1.9])
    >>> marginal = log_marginals(Mean(), Mean().prepare(x), x, ChangePrior(1.0, 6.0, 1.0))
    >>> intervals(marginal, [3], 6)[0]
    array([[1, 5]])
    """
    changes = np.asarray(change_points, dtype=np.int64)
    edges = np.concatenate([[0], changes, [n_rows]])
    if simultaneous and len(changes):
        level = 1.0 - (1.0 - level) / len(changes)
    bounds, chances = np.empty((len(changes), 2), np.int64), []
    for k in range(len(changes)):
        a, b = int(edges[k]), int(edges[k + 2])
        rows = np.arange(a + 1, b)
        chance = _split_chances(marginal, a, b, min_length)
        # Rows that have less than half of what is left out, together, are never among those held.
        some = np.flatnonzero(chance > 0.5 * (1.0 - level) / len(rows))
        order = some[np.argsort(-chance[some], kind="stable")]
        held = order[: int(np.searchsorted(np.cumsum(chance[order]), level)) + 1]
        bounds[k] = rows[held.min()], rows[held.max()]
        chances.append(chance)
    return bounds, chances


def _split_chances(marginal: Marginal, a: int, b: int, min_length: int) -> np.ndarray:
    """Probability (b - a - 1,) that the rows [a, b) split at each row after a."""
    if isinstance(marginal, BlockMarginal):
        return marginal.split_chances(a, b, min_length)
    chance = np.zeros(b - a - 1)
    at = np.arange(a + min_length, b - min_length + 1)
    log = marginal(np.full(at.shape, a), at) + marginal(at, np.full(at.shape, b))
    weight = np.exp(log - log.max())
    chance[at - a - 1] = weight / weight.sum()
    return chance


def best_number(cost: Cost, cache: Any, places: ArrayLike, n_changes: int, min_length: int = 1) -> np.ndarray:
    """Changes of least cost among all segmentations with a given number of them at some places.

    Parameters
    ----------
    cost, cache
        Segment cost, and ``cost.prepare(X)``.
    places : array_like of int
        Rows where a change is allowed; begins with 0 and ends with T.
    n_changes : int
        How many.
    min_length : int
        Fewest rows of a segment.

    Returns
    -------
    ndarray of int

    Raises
    ------
    ValueError
        If so many segments do not fit.

    References
    ----------
    Auger and Lawrence, Algorithms for the optimal identification of segment neighborhoods, 1989.

    Examples
    --------
    >>> from hidamari.inference.costs import Mean
    >>> best_number(Mean(), Mean().prepare([0.0, 0.1, 5.0, 5.1]), np.arange(5), 1)
    array([2])
    """
    places = np.asarray(places, dtype=np.int64)
    P = len(places)
    prices = np.full((P, P), np.inf)
    for left in range(P - 1):
        first = int(np.searchsorted(places, places[left] + min_length))
        prices[left, first:] = cost.costs(cache, places[left : left + 1], places[first:])
    best, last = prices[0], []
    for _ in range(n_changes):
        with_one_more = best[:, None] + prices
        last.append(np.argmin(with_one_more, axis=0))
        best = np.min(with_one_more, axis=0)
    if not np.isfinite(best[-1]):
        raise ValueError(
            f"n_changes is {n_changes}: so many segments of {min_length} rows or more do not fit"
        )
    found, at = [], P - 1
    for back in reversed(last):
        at = int(back[at])
        found.append(int(places[at]))
    return np.array(found[::-1], dtype=np.int64)
