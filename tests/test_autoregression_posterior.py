"""Closed forms against quadrature."""

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.signal import lfilter

from hidamari.inference.autoregression import keep, lag_gram
from hidamari.inference.autoregression_posterior import conjugate_posterior, order_evidence


def series(n, seed=0):
    return lfilter([1.0], [1.0, -0.5, 0.3], np.random.default_rng(seed).standard_normal(n)) + 1.0


def test_evidence_by_quadrature():
    gram = lag_gram(series(20), 1)
    yy, xy, xx = gram.moments[0, 0], gram.moments[0, 1], gram.moments[1, 1]
    N, D = gram.n_rows, 0.7 * gram.moments[1, 1] / gram.n_rows

    def density(w, log_s2):
        s2 = np.exp(log_s2)  # the flat prior of log s2 is 1 / s2
        rss = yy - 2 * w * xy + w * w * xx
        likelihood = -0.5 * (N - 1) * np.log(2 * np.pi * s2) - 0.5 * np.log(N) - 0.5 * rss / s2
        return np.exp(likelihood + 0.5 * np.log(D / (2 * np.pi * s2)) - 0.5 * D * w * w / s2)

    value, _ = dblquad(density, -4.0, 4.0, -3.0, 3.0, epsabs=1e-18, epsrel=1e-9)
    found = conjugate_posterior(gram, 0.7)
    np.testing.assert_allclose(found.log_evidence, np.log(value), rtol=1e-6)
    mean, _ = dblquad(lambda w, s: w * density(w, s), -4.0, 4.0, -3.0, 3.0, epsabs=1e-18, epsrel=1e-9)
    np.testing.assert_allclose(found.mean[0], mean / value, rtol=1e-6)
    square, _ = dblquad(lambda w, s: w * w * density(w, s), -4.0, 4.0, -3.0, 3.0, epsabs=1e-18, epsrel=1e-9)
    np.testing.assert_allclose(found.cov[0, 0], square / value - (mean / value) ** 2, rtol=1e-4)


def test_all_orders():
    gram = lag_gram(series(600), 12)
    each = [conjugate_posterior(keep(gram, np.arange(k))).log_evidence for k in range(13)]
    np.testing.assert_allclose(order_evidence(gram), each, rtol=1e-11)
    assert np.argmax(each) == 2


def test_bad_input():
    y = series(100)
    with pytest.raises(ValueError, match="strength"):
        conjugate_posterior(lag_gram(y, 1), 0.0)
