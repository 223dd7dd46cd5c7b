"""Probabilities of inclusion against those of all models, one by one."""

from itertools import product

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.special import betaln, logsumexp

from hidamari.inference.autoregression import keep, lag_gram
from hidamari.inference.autoregression_posterior import conjugate_posterior
from hidamari.inference.spike_slab import sample_spike_slab


def series(n, seed=0):
    return 3.0 + lfilter([1.0], [1.0, -0.5, 0.0, 0.15], np.random.default_rng(seed).standard_normal(n))


@pytest.mark.filterwarnings("ignore:the chains have not converged")
@pytest.mark.parametrize("strength", [1.0, 5.0])
def test_every_model_by_itself(strength):
    gram, p0 = lag_gram(series(150), 7), 2.0
    models = np.array(list(product([False, True], repeat=7)))
    size = models.sum(axis=1)
    evidence = []
    for inside in models:
        own = keep(gram, inside)
        evidence.append(conjugate_posterior(own, strength).log_evidence if inside.any() else -np.inf)
    one = keep(gram, [0])
    # Without predictors the same law: that of a model whose slab is a spike.
    evidence[0] = conjugate_posterior(one, 1e12).log_evidence
    log_weight = np.array(evidence) + betaln(1 + size, 2.5 + 7 - size)
    weight = np.exp(log_weight - logsumexp(log_weight))
    exact = weight @ models
    how = {"expected": p0, "strength": strength, "n_samples": 4000, "random_state": 0}
    tree = sample_spike_slab(gram, **how)["posterior"]
    found = tree["included"].mean(("chain", "draw")).values
    assert ((exact > 0.1) & (exact < 0.9)).any()
    np.testing.assert_allclose(found, exact, atol=0.03)
    means = np.zeros((len(models), 7))
    for row, inside in zip(means, models):
        if inside.any():
            row[inside] = conjugate_posterior(keep(gram, inside), strength).mean
    np.testing.assert_allclose(tree["coef"].mean(("chain", "draw")), weight @ means, atol=0.01)
    assert float(tree["sigma2"].mean()) == pytest.approx(1.0, abs=0.2)
    level = gram.means[0] - (weight @ means) @ gram.means[1:]
    assert float(tree["intercept"].mean()) == pytest.approx(level, abs=0.05)


def test_few_lags_of_many():
    gram = lag_gram(series(20_000), 60)
    tree = sample_spike_slab(gram, n_samples=1000, random_state=0)
    assert tree.attrs["message"] == "converged"
    share = tree["posterior"]["included"].mean(("chain", "draw")).values
    assert (share[[0, 2]] > 0.99).all() and (np.delete(share, [0, 2]) < 0.3).all()
    again = sample_spike_slab(gram, n_samples=1000, random_state=0)
    assert tree["posterior"].identical(again["posterior"])
    coef = tree["posterior"]["coef"]
    assert (coef.values[tree["posterior"]["included"].values == 0.0] == 0.0).all()


def test_bad_input():
    gram = lag_gram(series(50), 4)
    for name, value in [("expected", 4.0), ("strength", 0.0), ("n_samples", 3), ("n_chains", 0)]:
        with pytest.raises(ValueError, match=name):
            sample_spike_slab(gram, **{name: value})
    with pytest.raises(ValueError, match="'column 0'"):
        sample_spike_slab(lag_gram(series(50), 1, columns=np.ones((50, 1))))
