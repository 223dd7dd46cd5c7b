"""Threads of BLAS."""

from contextlib import AbstractContextManager

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager[object]:
    """Keep BLAS to one thread: products of small matrices are short, and two threads mostly wait."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")
