"""Segmentations by trying all of them, and costs by their likelihoods: too simple to be wrong."""

from functools import cache

import numpy as np
from scipy import stats


def gaussian(x, mean, variance):
    return -2.0 * stats.norm.logpdf(x, mean, np.sqrt(variance)).sum()


def mean_cost(x):
    return sum(((c[~np.isnan(c)] - c[~np.isnan(c)].mean()) ** 2).sum() for c in x.T if not np.isnan(c).all())


def mean_variance_cost(x):
    columns = [c[~np.isnan(c)] for c in x.T]
    return sum(gaussian(c, c.mean(), c.var()) for c in columns if len(c))


def variance_cost(x):
    columns = [c[~np.isnan(c)] for c in x.T]
    return sum(gaussian(c, 0.0, (c**2).mean()) for c in columns if len(c))


def count_cost(x, exposure):
    """Twice the negative log likelihood, without the terms y log(exposure) and log y! that know no rate."""
    total = 0.0
    for c in x.T:
        seen = ~np.isnan(c)
        rate = c[seen].sum() / exposure[seen].sum() if seen.any() else 0.0
        if rate > 0:
            full = stats.poisson.logpmf(c[seen], rate * exposure[seen])
            rest = stats.poisson.logpmf(c[seen], exposure[seen]) + exposure[seen]
            total -= 2.0 * (full - rest).sum()
    return total


def exponential_cost(x):
    columns = [c[~np.isnan(c)] for c in x.T]
    return sum(-2.0 * stats.expon.logpdf(c, scale=c.mean()).sum() for c in columns if len(c))


def covariance_cost(x, centred=True):
    x = x[~np.isnan(x).any(axis=1)]
    mean = x.mean(axis=0) if centred else np.zeros(x.shape[1])
    V = (x - mean).T @ (x - mean) / len(x)
    return -2.0 * stats.multivariate_normal.logpdf(x, mean, V).sum()


def regression_cost(x, intercept=True, own=False):
    x = x[~np.isnan(x).any(axis=1)]
    Z = np.column_stack([x[:, :-1], np.ones(len(x))]) if intercept else x[:, :-1]
    residual = x[:, -1] - Z @ np.linalg.lstsq(Z, x[:, -1], rcond=None)[0]
    return gaussian(residual, 0.0, (residual**2).mean()) if own else (residual**2).sum()


def best_segmentation(cost, prepared, n_rows, penalty, minimum=1):
    """Smallest sum of costs plus penalties over all segmentations, by recursion."""

    @cache
    def price(a, b):
        return float(cost.costs(prepared, np.array([a]), np.array([b]))[0])

    @cache
    def best(a):
        options: list[tuple[float, tuple[int, ...]]] = (
            [(price(a, n_rows), ())] if n_rows - a >= minimum else []
        )
        for b in range(a + minimum, n_rows - minimum + 1):
            rest, changes = best(b)
            options.append((price(a, b) + penalty + rest, (b, *changes)))
        return min(options, key=lambda o: o[0])

    return best(0)[0] if n_rows >= minimum else price(0, n_rows)


def every_segmentation(n_rows, minimum):
    """Yield the edges of every segmentation."""
    for code in range(2 ** (n_rows - 1)):
        changes = [t + 1 for t in range(n_rows - 1) if code >> t & 1]
        edges = [0, *changes, n_rows]
        if all(b - a >= minimum for a, b in zip(edges[:-1], edges[1:])):
            yield edges


def hausdorff(found, true):
    """Largest distance from one set of changes to the other."""
    found, true = np.asarray(found), np.asarray(true)
    if not len(found) or not len(true):
        return np.inf if len(found) + len(true) else 0.0
    gap = np.abs(found[:, None] - true[None, :])
    return max(gap.min(axis=0).max(), gap.min(axis=1).max())
