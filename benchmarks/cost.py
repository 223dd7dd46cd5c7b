"""Nanoseconds a row: filter, smoother and gradient of the core, a sweep of inference, and how they grow.

CPU time of one thread, the least of several runs, compiled code warm. The plain NumPy filter and
Rauch-Tung-Striebel smoother of the textbook run on the same work in the same process. Memory is the peak of
the smoother beyond what it was given, its answers included.
"""

import argparse
import time
import tracemalloc

import numpy as np

from hidamari.inference.likelihoods import Poisson
from hidamari.inference.posterior import condition
from hidamari.inference.sites import Readout, expected_sites
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Matern, bank
from hidamari.statespace.types import Sites


def least(work, *arguments, n=5, **options):
    """Least CPU seconds of a call."""
    seconds = []
    for _ in range(n):
        start = time.process_time()
        work(*arguments, **options)
        seconds.append(time.process_time() - start)
    return min(seconds)


def peak(work, *arguments, **options):
    """Peak bytes of a call."""
    tracemalloc.start()
    work(*arguments, **options)
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


def problem(n_rows, n_chains, order, rng, diagonal=False):
    """A bank on a regular grid and sites of full rank."""
    step = np.zeros(n_rows, np.int64)
    step[0] = -1
    ss = bank([Matern(order, 0.3 + 0.05 * c) for c in range(n_chains)], np.array([0.02]), step)
    root = rng.normal(size=(n_rows, n_chains, n_chains))
    J = root @ root.transpose(0, 2, 1)
    j = rng.normal(size=(n_rows, n_chains))
    return ss, Sites(j, np.ascontiguousarray(np.einsum("tkk->tk", J)) if diagonal else J)


def textbook(ss, sites):
    """Kalman filter and Rauch-Tung-Striebel smoother in NumPy, moments of all states."""
    C, _, d = ss.H.shape
    D, T = C * d, len(ss.step)
    A, Q, P = (np.zeros((D, D)) for _ in range(3))
    H = np.zeros((C, D))
    for c in range(C):
        own = slice(c * d, c * d + d)
        A[own, own], Q[own, own], P[own, own], H[c, own] = ss.A[0, c], ss.Q[0, c], ss.P[c], ss.H[c, 0]
    m, ms, Ps = np.zeros(D), np.empty((T, D)), np.empty((T, D, D))
    for t in range(T):
        if t:
            m, P = A @ m, A @ P @ A.T + Q
        gain = np.linalg.solve(np.eye(C) + H @ P @ H.T @ sites.J[t], H @ P).T
        m = m + gain @ (sites.j[t] - sites.J[t] @ (H @ m))
        P = P - gain @ sites.J[t] @ H @ P
        ms[t], Ps[t] = m, P
    for t in range(T - 2, -1, -1):
        ahead = A @ Ps[t] @ A.T + Q
        back = np.linalg.solve(ahead, A @ Ps[t]).T
        ms[t] += back @ (ms[t + 1] - A @ ms[t])
        Ps[t] += back @ (Ps[t + 1] - ahead) @ back.T


def sweep(ss, readout, y, mean, cov):
    """One natural-gradient step: sites from moments, moments from sites."""
    sites = expected_sites(readout, Poisson(), y, mean, cov, 0.02, n_threads=1).sites
    condition(ss, sites, 1)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--longest", type=int, default=1_000_000)
    options = parser.parse_args()
    rng, T = np.random.default_rng(0), options.rows
    print("| chains x states | sites | filter | smoother | with gradient | NumPy / smoother | bytes |")
    print("|---|---|---|---|---|---|---|")
    for C, order, diagonal in [
        (1, 0, True), (1, 1, True), (1, 2, True), (2, 1, False), (3, 1, False), (4, 1, False),
        (6, 1, False), (8, 1, False), (5, 2, False), (8, 2, False), (12, 1, False),
    ]:  # fmt: skip
        ss, sites = problem(T, C, order, rng, diagonal)
        plain = {"form": "covariance", "n_threads": 1}
        kalman.infer(ss, sites, **plain)
        ns = [least(f, ss, sites, **plain) / T * 1e9 for f in (kalman.filter, kalman.infer)]
        kalman.evidence_gradient(ss, sites, n_threads=1)
        slope = least(kalman.evidence_gradient, ss, sites, n_threads=1) / T * 1e9
        ratio = least(textbook, *problem(500, C, order, rng), n=2) / 500 * 1e9 / ns[1]
        kind = "diagonal" if diagonal else "dense"
        size = peak(kalman.infer, ss, sites, **plain) / T
        times = f"{ns[0]:.0f} | {ns[1]:.0f} | {slope:.0f} | {ratio:.0f}"
        print(f"| {C} x {order + 1} | {kind} | {times} | {size:.0f} |", flush=True)

    lengths = [n for n in (1000, 10_000, 100_000, 1_000_000) if n <= options.longest]
    print("\nThe smoother, 3 x 2, dense:\n")
    grow(lengths, lambda n: (kalman.infer, *problem(n, 3, 1, rng)), form="covariance", n_threads=1)
    print("\nOne sweep of inference, 3 latents, 20 units, Poisson counts:\n")
    grow(lengths, lambda n: (sweep, *counts(n, rng)))


def counts(n, rng):
    """Three latents, twenty units, and moments to start from."""
    y = rng.poisson(0.3, size=(n, 20)).astype(float)
    readout = Readout(rng.normal(size=(20, 3)) * 0.3, np.full(20, 2.7))
    return problem(n, 3, 1, rng)[0], readout, y, np.zeros((n, 3)), np.tile(np.eye(3), (n, 1, 1))


def grow(lengths, case, **work_options):
    """Print the time a bin at each length, and the slope of log time in log length."""
    seconds = []
    for n in lengths:
        work, *arguments = case(n)
        work(*arguments, **work_options)
        seconds.append(least(work, *arguments, n=3, **work_options))
        print(f"{n:9d} bins: {seconds[-1] / n * 1e9:6.0f} ns a bin", flush=True)
    print(f"log-log slope {np.polyfit(np.log(lengths), np.log(seconds), 1)[0]:.3f}")


if __name__ == "__main__":
    main()
