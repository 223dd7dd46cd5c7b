r"""Student's t as a mixture of Gaussians, for bounds that are to be at their top with proper factors.

The t density is that of Gaussian noise whose precision is w / scale^2, w ~ Gamma(df/2, df/2). With q(w) next
to q(f), and the best q(w) put in, the expectation of the log density is bounded by

    E[log p(y | eta)] >= const - (df + 1)/2 log(1 + u),    u = ((m - y)^2 + v) / (df scale^2),

the tangent of -log(1 + x^2) in x^2, as good as the expectation where v is small beside scale^2 or the squared
residual. Its -2 d/dv = (df + 1) / (df scale^2 (1 + u)) is never negative. That of the expectation is, for
outliers: the sites at its top are factors that no filter can carry, since states given past rows alone may be
improper. A full natural-gradient step is one of expectation maximisation, so the bound never falls.

References
----------
M. E. Tipping and N. D. Lawrence, Variational inference for Student-t models, Neurocomputing 69, 2005.
J. Vanhatalo, P. Jylänki and A. Vehtari, Gaussian process regression with Student-t likelihood, NIPS 2009.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._likelihood import Expectations, seen_in
from hidamari.inference._real import StudentT

__all__ = ["MixedStudentT"]


@dataclass(frozen=True)
class MixedStudentT(StudentT):
    """`StudentT` whose expectations are the bound above, with its derivatives."""

    def expectations(
        self,
        y: ArrayLike,
        m: ArrayLike,
        v: ArrayLike,
        exposure: ArrayLike = 1.0,
        constant: float | np.ndarray | None = None,
    ) -> Expectations:
        """The bound, alpha and beta; see `Likelihood.expectations`."""
        a, df, seen = self._half_width(), np.asarray(self.df, float), seen_in(y)
        d = (np.asarray(m, float) - np.asarray(y, float)) / a
        u = d * d + np.asarray(v, float) / (a * a)
        value = np.where(seen, -0.5 * (df + 1.0) * np.log1p(u), 0.0)
        value += self.log_base(y) if constant is None else constant
        beta = np.where(seen, (df + 1.0) / (a * a * (1.0 + u)), 0.0)
        return value, np.where(seen, -beta * a * d, 0.0), beta
