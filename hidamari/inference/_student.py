"""Student's t for variational bounds that are to be at their top: the true curvature of the expectation.

The steps of `StudentT` use a positive weight in place of -2 dE/dv, which is negative for outliers. Where they
settle, the ELBO still rises with the variances of the outliers, and the envelope theorem does not hold. With

    -2 dE/dv = (df + 1) / a^2 E[g'(x)],    g(x) = x / (1 + x^2),    x = (eta - y) / a ~ N(d, v),

and Stein's lemma, E[(x - d) g] = v E[g'], the quadratures of value and slope give the true one as well.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._likelihood import Expectations, compiled, seen_in
from hidamari.inference._real import StudentT

__all__ = ["TrueStudentT"]

_NARROW = 1e-6  # of v: below, Stein's quotient has fewer digits than two terms of a series


@dataclass(frozen=True)
class TrueStudentT(StudentT):
    """`StudentT` whose beta is -2 dE/dv, of either sign."""

    def expectations(
        self,
        y: ArrayLike,
        m: ArrayLike,
        v: ArrayLike,
        exposure: ArrayLike = 1.0,
        constant: float | np.ndarray | None = None,
    ) -> Expectations:
        """E, alpha and the true beta; see `Likelihood.expectations`."""
        from hidamari.inference._quadrature import student

        a, df = self._half_width(), np.asarray(self.df, float)
        d = (np.asarray(m, float) - np.asarray(y, float)) / a
        spread = np.broadcast_to(np.asarray(v, float) / (a * a), d.shape)
        logs, slope, weight = compiled(student, (d, spread))
        # E[(x - d) g] = E[1 - 1 / (1 + x^2)] - d E[g]
        stein = (1.0 - weight - d * slope) / np.maximum(spread, _NARROW)
        q = 1.0 + d * d
        series = (1.0 - d * d) / q**2 - 3.0 * spread * (d**4 - 6.0 * d * d + 1.0) / q**4
        bend = np.where(spread > _NARROW, stein, series)
        seen = seen_in(y)
        value = np.where(seen, -0.5 * (df + 1.0) * logs, 0.0)
        value += self.log_base(y) if constant is None else constant
        alpha = np.where(seen, -(df + 1.0) / a * slope, 0.0)
        return value, alpha, np.where(seen, (df + 1.0) / (a * a) * bend, 0.0)
