"""The likelihoods' own parameters: one for each unit, refused when impossible, and fitted."""

import math
from dataclasses import fields

import numpy as np
import pytest

from hidamari.inference.likelihoods import (
    Bernoulli,
    Binomial,
    Gaussian,
    NegativeBinomial,
    Poisson,
    StudentT,
    get_likelihood,
)

UNITS = [
    Gaussian(np.array([0.1, 2.0, 30.0])),
    NegativeBinomial(np.array([0.4, 20.0, 3e3])),
    Binomial(np.array([2, 9, 100])),
    StudentT(np.array([2.5, 4.0, 50.0]), np.array([0.1, 1.0, 7.0])),
]


def alone(likelihood, unit):
    """The likelihood of one unit."""
    parameters = {f.name: np.asarray(getattr(likelihood, f.name))[unit] for f in fields(likelihood) if f.init}
    return type(likelihood)(**parameters)


@pytest.mark.parametrize("likelihood", UNITS, ids=lambda a: a.name)
def test_parameters_of_units(likelihood):
    rng = np.random.default_rng(3)
    m, v = rng.normal(size=(500, 3)), rng.exponential(size=(500, 3))
    y = likelihood.sample(m, rng, 2.0)
    for name, arguments in {
        "expectations": (y, m, v, 2.0),
        "log_base": (y,),
        "log_prob": (y, m, 2.0),
        "mean": (m, 2.0),
        "conditional_variance": (m, 2.0),
        "predictive_mean": (m, v, 2.0),
        "predictive_variance": (m, v, 2.0),
        "log_predictive": (y, m, v, 2.0),
        "start": (y, m, 2.0),
    }.items():
        whole = getattr(likelihood, name)(*arguments)
        for unit in range(3):
            cut = [a[:, unit] if np.ndim(a) else a for a in arguments]
            part = getattr(alone(likelihood, unit), name)(*cut)
            for a, b in zip(np.reshape(whole, (-1, 500, 3)), np.reshape(part, (-1, 500))):
                np.testing.assert_allclose(a[:, unit], b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("likelihood", UNITS, ids=lambda a: a.name)
def test_predictive_shapes_of_scalars_and_units(likelihood):
    for a in (likelihood.predictive_mean(0.1, 0.2), likelihood.predictive_variance(0.1, 0.2)):
        assert np.shape(a) in ((), (3,)) and np.isfinite(a).all()
    assert likelihood.predictive_variance(0.1, 0.2).shape == (3,)


@pytest.mark.parametrize(
    ("likelihood", "y", "found"),
    [
        (Poisson(), [[0, 1], [2, -1]], "y[1, 1] is -1: allowed is a count"),
        (NegativeBinomial(), [[0, 1.5], [-2, 1]], "y[0, 1] is 1.5: allowed is a count"),
        (Poisson(), [np.nan, np.inf], "y[1] is inf: allowed is a count"),
        (Binomial(np.array([3, 5])), [[3, 5], [4, 1]], "y[1, 0] is 4: allowed is a whole number from 0 to n"),
        (Bernoulli(), [0, 1, 2], "y[2] is 2: allowed is 0, 1 or NaN"),
        (Gaussian(), [0, -np.inf], "y[1] is -inf: allowed is a finite number"),
        (StudentT(), np.inf, "y is inf: allowed is a finite number"),
        (Poisson(), ["a"], "y is ['a']: allowed are real numbers"),
        (Gaussian(), [1j], "y is [1j]: allowed are real numbers"),
        (Gaussian(), None, "y is None: allowed are real numbers"),
    ],
)
def test_check_names_the_first_bad_entry(likelihood, y, found):
    with pytest.raises(ValueError) as caught:
        likelihood.check(y)
    assert str(caught.value).startswith(found)
    with pytest.raises(ValueError, match="counts"):
        likelihood.check(y, name="counts")


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: Gaussian(-1.0), "variance is -1: allowed is a finite number, 0 or more"),
        (lambda: Gaussian(0.0).expectations(1.0, 0.0, 0.1), "variance is 0: exact observations have no site"),
        (lambda: Gaussian(np.array([1.0, np.nan])), r"variance\[1\] is nan"),
        (lambda: NegativeBinomial(np.inf), "dispersion is inf"),
        (lambda: NegativeBinomial(np.ones((2, 2))), r"dispersion has shape \(2, 2\)"),
        (lambda: NegativeBinomial("many"), "dispersion is 'many'"),
        (lambda: Binomial(2.5), "n is 2.5: allowed is a positive whole number"),
        (lambda: Binomial(0), "n is 0"),
        (lambda: StudentT(df=-1.0), "df is -1"),
        (lambda: StudentT(scale=0.0), "scale is 0"),
        (lambda: get_likelihood("poison"), "likelihood is 'poison': allowed are 'gaussian', 'poisson'"),
        (lambda: get_likelihood(Poisson), "likelihood is <class"),
        (lambda: get_likelihood("binomial"), r"pass Binomial\(n\)"),
    ],
)
def test_bad_parameters_are_refused(make, found):
    with pytest.raises(ValueError, match=found):
        make()


def simulated(likelihood, spread=0.04, T=4000, seed=0):
    """Data of three units, an uncertain posterior around the truth, a tenth of the entries missing."""
    rng = np.random.default_rng(seed)
    m = rng.normal(3.0, 0.7, size=(T, 3))
    eta = m + math.sqrt(spread) * rng.standard_normal(m.shape)
    y = likelihood.sample(eta, rng, 0.5)
    y[rng.random(y.shape) < 0.1] = np.nan
    return y, m, np.full_like(m, spread), eta


def test_fit_parameters_recovers_them():
    truth = np.array([0.5, 4.0, 30.0])
    y, _, v, eta = simulated(NegativeBinomial(truth))
    fitted = NegativeBinomial(1.0).fit_parameters(y, eta, 0.0, 0.5).dispersion
    np.testing.assert_allclose(fitted, truth, rtol=0.15)
    truth = np.array([0.1, 1.0, 9.0])
    y, _, v, eta = simulated(Gaussian(truth))
    np.testing.assert_allclose(Gaussian().fit_parameters(y, eta, 0.0).variance, truth, rtol=0.1)
    np.testing.assert_allclose(Gaussian().fit_parameters(y, eta, v).variance, truth + 0.04, rtol=0.1)
    y, _, v, eta = simulated(StudentT(3.0, truth))
    np.testing.assert_allclose(StudentT(3.0).fit_parameters(y, eta, 0.0).scale, truth, rtol=0.1)


@pytest.mark.parametrize(
    ("likelihood", "field"),
    [
        (Gaussian(np.array([0.5, 1.0, 2.0])), "variance"),
        (NegativeBinomial(np.array([0.5, 3.0, 9.0])), "dispersion"),
        (StudentT(3.0, np.array([0.5, 1.0, 2.0])), "scale"),
    ],
    ids=lambda a: getattr(a, "name", a),
)
def test_fit_parameters_is_a_maximum_for_each_unit(likelihood, field):
    y, m, v, _ = simulated(likelihood, T=600)
    y[:, 2] = np.nan
    other = {f.name: getattr(likelihood, f.name) for f in fields(likelihood) if f.init and f.name != field}
    fitted = likelihood.fit_parameters(y, m, v, 0.5)
    best = getattr(fitted, field)
    assert type(fitted) is type(likelihood) and best.shape == (3,)
    assert best[2] == getattr(likelihood, field)[2], "a unit with nothing observed keeps what it had"

    def total(values):
        return type(likelihood)(**{field: values}, **other).expectations(y, m, v, 0.5)[0].sum(axis=0)

    for factor in (0.98, 1.02):
        assert np.all(total(best)[:2] > total(factor * best)[:2])
    again = getattr(fitted.fit_parameters(y, m, v, 0.5), field)
    np.testing.assert_allclose(again, best, rtol=1e-6)
    batch = [a.reshape(4, 150, 3) for a in (y, m, v)]
    np.testing.assert_allclose(getattr(likelihood.fit_parameters(*batch, 0.5), field), best, rtol=1e-6)


def test_fit_parameters_at_the_edges():
    rng = np.random.default_rng(4)
    m = np.zeros((3000, 2))
    y = rng.binomial(4, 0.25, size=m.shape).astype(float)
    y[:, 1] = 0.0
    fitted = NegativeBinomial(7.0).fit_parameters(y, m, 0.0).dispersion
    assert fitted[0] > 1e4, "counts less variable than Poisson ask for a large dispersion"
    assert fitted[1] == 7.0, "a silent unit keeps what it had"
    exact = np.zeros((5, 1))
    assert Gaussian(2.0).fit_parameters(exact, exact, 0.0).variance == 2.0
    assert StudentT(scale=2.0).fit_parameters(exact, exact, 0.0).scale == 2.0
    for likelihood in (Poisson(), Bernoulli(), Binomial(3)):
        assert likelihood.fit_parameters(exact, exact, 0.0) is likelihood
