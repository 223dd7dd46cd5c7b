"""Rows of a stream as standardised errors of a one-step prediction, in constant memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hidamari.statespace.kernels import Kernel, bank

__all__ = ["Innovations"]

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Innovations:
    r"""Standardised one-step prediction errors under a kernel: white, of unit variance, if nothing changes.

    z_t = (y_t - E[y_t | y before]) / sd[y_t | y before], y = f + e, f ~ GP(0, kernel), e ~ N(0, noise).

    Parameters
    ----------
    kernel : Kernel
        The same for every unit.
    noise : float
        Variance of e, above 0.
    bin_s : float
        Time from row to row.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.statespace.kernels import Matern
    >>> predictor = Innovations(Matern(0, 1.0, 3.0), noise=1.0, bin_s=0.1)
    >>> predictor.run(predictor.start(1), np.array([[2.0], [2.0]])).round(3).tolist()
    [[1.0], [0.438]]
    """

    kernel: Kernel
    noise: float
    bin_s: float

    def start(self, d: int) -> State:
        """State before the first row."""
        ss = bank([self.kernel], np.array([self.bin_s]), np.array([-1, 0]))
        mean, cov = np.tile(ss.m[0], (d, 1)), np.tile(ss.P[0], (d, 1, 1))
        return {
            "A": np.ascontiguousarray(ss.A[0, 0]),
            "Q": np.ascontiguousarray(ss.Q[0, 0]),
            "H": np.ascontiguousarray(ss.H[0, 0]),
            "noise": np.array([self.noise]),
            "mean": mean,
            "cov": cov,
            "started": np.zeros(1, np.int64),
        }

    def run(self, state: State, y: np.ndarray) -> np.ndarray:
        """Innovations of rows y (T, d); moves the state."""
        from hidamari.inference import _online

        loops: Any = _online
        z = np.empty_like(y)
        loops.innovate(y, *state.values(), z)
        return z
