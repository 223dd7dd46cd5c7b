"""Answers that are slow and plain enough to be believed: dense Gaussians, 50-digit arithmetic, quadrature.

Nothing here is imported by the package, and nothing here uses its algorithms; of the package only the
NamedTuples of statespace.types are read.
"""

from typing import NamedTuple

import numpy as np
from mpmath import mp, mpf
from scipy.special import logsumexp


class Exact(NamedTuple):
    """Posterior of all read-outs of all rows, and the log evidence of each trial."""

    mean: np.ndarray  # (T, K)
    full: np.ndarray  # (T, K, T, K)
    log_evidence: np.ndarray  # (n_trials,)

    @property
    def cov(self):
        """Covariance within each row, (T, K, K)."""
        return np.einsum("tatb->tab", self.full)

    @property
    def var(self):
        """Variances, (T, K)."""
        return np.einsum("taa->ta", self.cov)


# ---------------------------------------------------------------------------------- state space, dense


def blocks(arrays):
    """One block-diagonal matrix of the (n, a, b) arrays."""
    n, a, b = arrays.shape
    out = np.zeros((n * a, n * b))
    for i in range(n):
        out[i * a : i * a + a, i * b : i * b + b] = arrays[i]
    return out


def trials(step):
    """Slices of the rows of each trial."""
    starts = [0, *(t for t in range(1, len(step)) if step[t] < 0)]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(step)])]


def prior_states(ss):
    """Mean (T, D) and covariance (T, D, T, D) of all states of all rows, by propagation."""
    T, D = len(ss.step), ss.m.size
    mean, cov = np.zeros((T, D)), np.zeros((T, D, T, D))
    for t in range(T):
        if t == 0 or ss.step[t] < 0:
            mean[t] = ss.m.ravel()
            cov[t, :, t] = blocks(ss.P)
            continue
        A, Q = blocks(ss.A[ss.step[t]]), blocks(ss.Q[ss.step[t]])
        mean[t] = A @ mean[t - 1]
        for s in range(t):
            cov[t, :, s] = A @ cov[t - 1, :, s]
            cov[s, :, t] = cov[t, :, s].T
        cov[t, :, t] = A @ cov[t - 1, :, t - 1] @ A.T + Q
    return mean, cov


def prior_readouts(ss):
    """Mean (T, K) and covariance (T, K, T, K) of all read-outs of all rows."""
    mean, cov = prior_states(ss)
    H = blocks(ss.H)
    return mean @ H.T, np.einsum("ai,tisj,bj->tasb", H, cov, H)


def dense_precision(J):
    """J of all rows, (T, K) or (T, K, K), as one (T K, T K) matrix."""
    return blocks(J if J.ndim == 3 else J[:, :, None] * np.eye(J.shape[1]))


def condition(mean, cov, j, J):
    """N(mean, cov) times exp(j'f - f'Jf/2): mean, covariance, log of the integral. J may be singular."""
    M = np.eye(len(mean)) + cov @ J
    posterior = np.linalg.solve(M, cov)
    r = j - J @ mean
    sign, logdet = np.linalg.slogdet(M)
    assert sign > 0
    log_evidence = j @ mean - mean @ J @ mean / 2 + r @ posterior @ r / 2 - logdet / 2
    return mean + posterior @ r, (posterior + posterior.T) / 2, log_evidence


def posterior(ss, sites):
    """Exact posterior of f by one dense solve a trial."""
    T, K = sites.j.shape
    mu, S = prior_readouts(ss)
    mean, full, log_evidence = np.zeros((T, K)), np.zeros((T, K, T, K)), []
    for rows in trials(ss.step):
        n = rows.stop - rows.start
        m, V, value = condition(
            mu[rows].ravel(),
            S[rows, :, rows].reshape(n * K, n * K),
            sites.j[rows].ravel(),
            dense_precision(sites.J[rows]),
        )
        mean[rows], full[rows, :, rows] = m.reshape(n, K), V.reshape(n, K, n, K)
        log_evidence.append(value)
    return Exact(mean, full, np.array(log_evidence))


def posterior_by_precision(ss, sites):
    """The same from the block tridiagonal joint precision of the states; Q and P must be invertible."""
    T, K = sites.j.shape
    D, H = ss.m.size, blocks(ss.H)
    mean, full, log_evidence = np.zeros((T, K)), np.zeros((T, K, T, K)), []
    for rows in trials(ss.step):
        n = rows.stop - rows.start
        precision, shift = np.zeros((n, D, n, D)), np.zeros((n, D))
        precision[0, :, 0] = np.linalg.inv(blocks(ss.P))
        shift[0] = precision[0, :, 0] @ ss.m.ravel()
        for i in range(1, n):
            g = ss.step[rows.start + i]
            A, Qi = blocks(ss.A[g]), np.linalg.inv(blocks(ss.Q[g]))
            precision[i, :, i] += Qi
            precision[i - 1, :, i - 1] += A.T @ Qi @ A
            precision[i, :, i - 1] = -Qi @ A
            precision[i - 1, :, i] = precision[i, :, i - 1].T
        prior, before = precision.reshape(n * D, n * D), shift.ravel()
        Hall = np.kron(np.eye(n), H)
        after = prior + Hall.T @ dense_precision(sites.J[rows]) @ Hall
        h = before + Hall.T @ sites.j[rows].ravel()
        x, V = np.linalg.solve(after, h), Hall @ np.linalg.solve(after, Hall.T)
        log_evidence.append(
            (np.linalg.slogdet(prior)[1] - np.linalg.slogdet(after)[1]) / 2
            + (h @ x - before @ np.linalg.solve(prior, before)) / 2
        )
        mean[rows], full[rows, :, rows] = (Hall @ x).reshape(n, K), V.reshape(n, K, n, K)
    return Exact(mean, full, np.array(log_evidence))


# --------------------------------------------------------------------------------- Gaussian processes


def gp(kernel, times, y, R):
    """Mean, variance and log marginal likelihood of f at all times from readings y (NaN: none), dense."""
    K = kernel(np.subtract.outer(times, times))
    seen = ~np.isnan(y)
    G = K[np.ix_(seen, seen)] + np.diag(np.broadcast_to(R, len(y))[seen])
    weights = np.linalg.solve(G, K[seen])
    mean = weights.T @ y[seen]
    var = np.diag(K) - np.einsum("st,st->t", K[seen], weights)
    quadratic = y[seen] @ np.linalg.solve(G, y[seen])
    return mean, var, -(quadratic + np.linalg.slogdet(G)[1] + seen.sum() * np.log(2 * np.pi)) / 2


def matern_mp(order, lengthscale, variance=1.0):
    """The Matern covariance in the working precision of mpmath, as a function of tau."""

    def kernel(tau):
        x = mp.sqrt(2 * order + 1) * abs(tau) / mpf(lengthscale)
        total = mpf(0)
        for i in range(order + 1):
            total += (
                mp.factorial(order + i) / (mp.factorial(i) * mp.factorial(order - i)) * (2 * x) ** (order - i)
            )
        return mpf(variance) * mp.exp(-x) * mp.factorial(order) / mp.factorial(2 * order) * total

    return kernel


def cholesky_mp(kernel, times, noise):
    """Rows of the lower-triangular factor of kernel + noise at times, all in mpf."""
    L = []
    for i, t in enumerate(times):
        row = []
        for k in range(i):
            row.append((kernel(t - times[k]) - mp.fdot(row, L[k][:k])) / L[k][k])
        row.append(mp.sqrt(kernel(mpf(0)) + noise[i] - mp.fdot(row, row)))
        L.append(row)
    return L


def gp_mp(kernel, times, y, R, digits=50):
    """As `gp`, in `digits` digits and with kernel(tau) on mpf; the answers are rounded to float64."""
    with mp.workdps(digits):
        t, noise = [mpf(float(v)) for v in times], np.broadcast_to(R, len(y))
        seen = [i for i in range(len(t)) if not np.isnan(y[i])]
        L = cholesky_mp(kernel, [t[i] for i in seen], [mpf(float(noise[i])) for i in seen])

        def whiten(column):
            out = []
            for row, value in zip(L, column):
                out.append((value - mp.fdot(row[:-1], out)) / row[-1])
            return out

        z = whiten([mpf(float(y[i])) for i in seen])
        mean, var = [], []
        for s in t:
            v = whiten([kernel(s - t[i]) for i in seen])
            mean.append(float(mp.fdot(v, z)))
            var.append(float(kernel(mpf(0)) - mp.fdot(v, v)))
        logs = sum(mp.log(row[-1]) for row in L)
        return (
            np.array(mean),
            np.array(var),
            float(-mp.fdot(z, z) / 2 - logs - len(L) * mp.log(2 * mp.pi) / 2),
        )


def draw_mp(kernel, times, rng, digits=200):
    """One path of the process at times, with as many digits as its smoothness needs."""
    with mp.workdps(digits):
        L = cholesky_mp(kernel, [mpf(float(v)) for v in times], [mpf(0)] * len(times))
        z = [mpf(v) for v in rng.standard_normal(len(times))]
        return np.array([float(mp.fdot(row, z)) for row in L])


# ----------------------------------------------------------------------- variational inference, dense


class Variational(NamedTuple):
    """The best Gaussian approximation and what it attains."""

    mean: np.ndarray  # (T, K)
    full: np.ndarray  # (T, K, T, K)
    elbo: float
    iterations: int


def variational(mu, S, C, b, y, expectations, tolerance=1e-13, limit=2000):
    """Gaussian variational inference for y_tn ~ p(y | (C z_t + b)_n), one full covariance over all rows.

    mu (T, K), S (T, K, T, K): the prior of z. expectations(y, m, v) gives E log p and its derivatives alpha
    (by m) and beta (-2 by v). Natural gradient steps, halved when the bound falls, to a fixed point.
    """
    T, K = mu.shape
    n = T * K
    mu, S = mu.ravel(), S.reshape(n, n)
    Call = np.kron(np.eye(T), C)

    def evaluate(j, J):
        mean, V, _ = condition(mu, S, j, J)
        eta, v = Call @ mean, np.einsum("ni,ij,nj->n", Call, V, Call)
        E, alpha, beta = (np.ravel(x) for x in expectations(y, eta.reshape(y.shape) + b, v.reshape(y.shape)))
        # KL from S^-1 (mean - mu) = j - J mean and V = S (I + J S)^-1, so that S is never inverted
        kl = ((mean - mu) @ (j - J @ mean) - np.sum(J * V) + np.linalg.slogdet(np.eye(n) + S @ J)[1]) / 2
        target = Call.T @ (alpha + beta * eta), Call.T @ (beta[:, None] * Call)
        return mean, V, E.sum() - kl, target

    j, J, rho = np.zeros(n), np.zeros((n, n)), 1.0
    mean, V, elbo, target = evaluate(j, J)
    for i in range(limit):
        new = (1 - rho) * j + rho * target[0], (1 - rho) * J + rho * target[1]
        trial = evaluate(*new)
        if not trial[2] >= elbo - 1e-12 * abs(elbo):
            rho /= 2
            continue
        moved = np.abs(trial[0] - mean).max() + np.abs(trial[1] - V).max()
        (j, J), (mean, V, elbo, target), rho = new, trial, min(1.0, 1.5 * rho)
        if moved <= tolerance * max(1.0, np.abs(mean).max()):
            return Variational(mean.reshape(T, K), V.reshape(T, K, T, K), elbo, i + 1)
    raise AssertionError(f"no fixed point after {limit} steps: the last one moved by {moved}")


def evidence_by_quadrature(log_prob, y, c, b, mean=0.0, var=1.0):
    """Log of int prod_n p(y_n | c_n z + b_n) N(z; mean, var) dz; log_prob(y, eta) is elementwise."""

    def integrand(z):
        return log_prob(y, np.multiply.outer(z, c) + b).sum(-1) - (z - mean) ** 2 / var / 2

    z = mean + np.sqrt(var) * np.linspace(-40, 40, 40001)
    inside = z[integrand(z) > integrand(z).max() - 60]
    width = z[1] - z[0]
    z = np.linspace(inside[0] - width, inside[-1] + width, 40001)
    return logsumexp(integrand(z)) + np.log(z[1] - z[0]) - np.log(2 * np.pi * var) / 2
