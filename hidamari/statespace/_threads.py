"""Runs of whole trials, shared among threads so that no answer depends on their number."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

__all__ = ["cut", "how_many", "run"]

_WORTH = 100_000  # rows times D^2, one or two milliseconds: below, a thread costs more than it saves


def how_many(n_threads: int | None, work: int) -> int:
    """The number of threads asked for, or as many as there are cores when the work is worth it."""
    if n_threads is not None:
        if n_threads < 1:
            raise ValueError(f"n_threads must be at least 1, found {n_threads}")
        return int(n_threads)
    if not is_long(work):
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_long(work: int) -> bool:
    """Whether work, in rows times D^2, is worth cutting into pieces."""
    return work >= _WORTH


def cut(step: np.ndarray, n: int) -> list[tuple[int, int]]:
    """Cut the rows into at most n runs of whole trials of about equal length."""
    T = len(step)
    starts = np.flatnonzero(step < 0) if n > 1 else []
    cuts = [0]
    for i in range(1, n):
        later = np.searchsorted(starts, i * T / n)
        if later < len(starts) and starts[later] > cuts[-1]:
            cuts.append(int(starts[later]))
    return list(zip(cuts, [*cuts[1:], T]))


def run(work: Callable, arguments: Iterable[tuple], n: int) -> list:
    """``work`` on each of the arguments, on n threads (compiled loops release the lock)."""
    arguments = list(arguments)
    if n == 1 or len(arguments) == 1:
        return [work(*a) for a in arguments]
    with ThreadPoolExecutor(min(n, len(arguments))) as pool:
        return list(pool.map(lambda a: work(*a), arguments))
