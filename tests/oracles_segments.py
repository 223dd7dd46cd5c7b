"""Segmentations by trying all of them, and costs by their likelihoods: too simple to be wrong."""

from functools import cache

import numpy as np
from scipy import optimize, stats


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


def observed_gaussian(x, mean, covariance):
    """Twice the negative log likelihood of the observed entries of x."""
    total = 0.0
    for row in x:
        o = ~np.isnan(row)
        if o.any():
            V, off = covariance[np.ix_(o, o)], row[o] - mean[o]
            total += np.linalg.slogdet(2.0 * np.pi * V)[1] + off @ np.linalg.solve(V, off)
    return total


def lowest(function, start):
    """Smallest value near a start, by differences, begun again where they came to an end."""
    for _ in range(3):
        start = optimize.minimize(function, start, method="BFGS", options={"gtol": 1e-8}).x
    return function(start)


def covariance_cost(x, centred=True):
    d = x.shape[1]
    corner = np.tril_indices(d)
    if not np.isnan(x).any():
        mean = x.mean(axis=0) if centred else np.zeros(d)
        return observed_gaussian(x, mean, (x - mean).T @ (x - mean) / len(x))

    def likelihood(theta):
        L = np.zeros((d, d))
        L[corner] = theta[d:]
        return observed_gaussian(x, theta[:d] * centred, L @ L.T)

    size = np.diag(np.nanstd(x, axis=0) if centred else np.sqrt(np.nanmean(x**2, axis=0)))
    return lowest(likelihood, np.concatenate([np.nanmean(x, axis=0), size[corner]]))


def regression_cost(x, intercept=True, own=False):
    x = x[~np.isnan(x).any(axis=1)]
    Z = np.column_stack([x[:, :-1], np.ones(len(x))]) if intercept else x[:, :-1]
    residual = x[:, -1] - Z @ np.linalg.lstsq(Z, x[:, -1], rcond=None)[0]
    return gaussian(residual, 0.0, (residual**2).mean()) if own else (residual**2).sum()


def holed_regression_cost(x, mean, covariance, intercept=True, own=False):
    """`regression_cost` where predictors are missing that are Gaussian with the others."""
    x = x[~np.isnan(x[:, -1])]
    d = len(mean)

    def likelihood(theta):
        b, noise = theta[:d], np.exp(theta[d + 1]) if own else 1.0
        total = 0.0
        for row in x:
            o = ~np.isnan(row[:-1])
            V, z = covariance, row[:-1].copy()
            slope = V[np.ix_(~o, o)] @ np.linalg.inv(V[np.ix_(o, o)])
            z[~o] = mean[~o] + slope @ (z[o] - mean[o])
            variance = noise + b[~o] @ (V[np.ix_(~o, ~o)] - slope @ V[np.ix_(o, ~o)]) @ b[~o]
            off = row[-1] - intercept * theta[d] - b @ z
            total += off**2 / variance + np.log(variance) + own * np.log(2.0 * np.pi)
        return total

    whole = x[~np.isnan(x).any(axis=1)]
    Z = np.column_stack([whole[:, :-1], np.ones(len(whole))])
    return lowest(likelihood, np.append(np.linalg.lstsq(Z, whole[:, -1], rcond=None)[0], 0.0))


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
