"""What MGPVAE refuses, by name, before any work; and what it needs to be installed."""

import numpy as np
import pytest
import xarray as xr

import hidamari as hd
from hidamari.models import _vae_replies

pytest.importorskip("equinox")

Y = np.sin(np.arange(48.0)).reshape(2, 8, 3)
SMALL = {"n_latents": 1, "decoder": (), "encoder": (), "max_epochs": 0, "progress": False}


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("n_latents", 0, "a whole number of at least 1"),
        ("n_latents", 2.5, "a whole number of at least 1"),
        ("kernel", "matern", "one Kernel or a list of n_latents=1"),
        ("kernel", [hd.Matern(), hd.Matern()], "one Kernel or a list of n_latents=1"),
        ("kernel", hd.Wiener(), "stationary"),
        ("likelihood", "student_t", r"one of \('gaussian', 'bernoulli', 'poisson'\)"),
        ("likelihood", 3, r"one of \('gaussian', 'bernoulli', 'poisson'\)"),
        ("decoder", "mlp", "'auto', 'convolutional', sizes of hidden layers or a function"),
        ("decoder", (4, 0), "'auto', 'convolutional', sizes of hidden layers or a function"),
        ("encoder", 7, "'auto', 'convolutional', sizes of hidden layers or a function"),
        ("sites", "half", "'auto', 'full', 'diagonal' or a rank of at least 1"),
        ("sites", 0, "'auto', 'full', 'diagonal' or a rank of at least 1"),
        ("sites", True, "'auto', 'full', 'diagonal' or a rank of at least 1"),
        ("period", -1.0, "None, 'auto' or a positive finite number"),
        ("period", "yearly", "None, 'auto' or a positive finite number"),
        ("harmonics", 0, "a whole number of at least 1"),
        ("learn_kernel", "evidence", "True or False"),
        ("beta", 0.0, "a positive finite number"),
        ("n_samples", 0, "a whole number of at least 1"),
        ("batch_size", None, "a whole number of at least 1"),
        ("max_epochs", -1, "a whole number of at least 0"),
        ("learning_rate", np.inf, "a positive finite number"),
        ("patience", 0, "a whole number of at least 1"),
        ("validation", 1.0, "a share between 0 and 1"),
        ("refinements", -1, "a whole number of at least 0"),
        ("bin_s", 0.0, "a positive finite number"),
        ("space", 2.0, "a stationary Kernel of distances"),
        ("n_inducing", 0, "a whole number of at least 1"),
        ("random_state", "seed", "a whole number of at least 0"),
        ("n_threads", 0, "a whole number of at least 1"),
    ],
)
def test_arguments(name, value, allowed):
    with pytest.raises(ValueError, match=f"^{name} must be {allowed}"):
        hd.MGPVAE(**SMALL | {name: value}).fit(Y)


def test_arguments_that_do_not_go_together():
    with pytest.raises(ValueError, match="period must be None where kernel is given"):
        hd.MGPVAE(**SMALL | {"kernel": hd.Matern(), "period": 3.0}).fit(Y)
    with pytest.raises(ValueError, match=r"decoder is 'convolutional', but Y has frames of shape \(3,\)"):
        hd.MGPVAE(**SMALL | {"decoder": "convolutional"}).fit(Y)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None,), "Y is of type NoneType; allowed: an array, or a list of arrays"),
        (([],), "Y holds no sequences; allowed: at least one"),
        ((np.zeros((0, 5, 3)),), r"Y has shape \(0, 5, 3\); allowed: at least one frame"),
        ((3.0,), "Y is a single value, 3.0"),
        ((np.where(Y > 0.99, np.inf, Y),), "Y.* inf"),
        ((Y * 1j,), "Y.* holds complex numbers"),
        ((Y.astype(str),), "Y.* holds strings"),
        (([Y[0], Y[1, :, :2]],), r"Y\[1\] has frames of shape \(2,\) but Y\[0\] of \(3,\)"),
        ((Y * 1e31,), "Y holds 9.9999e.30; allowed: sizes up to 1e30"),
        ((np.full((2, 8, 3), np.nan),), "Y holds no observed entry"),
        ((xr.DataArray(Y[0], dims=("row", "column")),), "Y has dims .*; allowed: time among them"),
        ((Y, np.arange(7)), r"times.* has 7 entries but Y\[0\] has 8 rows"),
        ((Y, np.arange(8)[::-1]), r"times of sequence 0 fall from 7 to 6 at row 1; allowed: sorted times"),
        ((Y, np.full(8, np.nan)), r"times.*\[0\] is nan; allowed: finite times"),
        ((Y, [np.arange(8)] * 3), "times has 3 trials but Y has 2|times has 3"),
        ((Y, None, np.ones((2, 8))), r"mask\[0\] must be boolean, True where observed, found float64"),
        ((Y, None, np.ones((2, 7), bool)), r"mask\[0\] has shape \(7,\); allowed: \(8, 3\)"),
        ((Y, None, [np.ones(8, bool)]), "mask must hold one mask for each of the 2 sequences"),
        ((list(Y), None, True), "mask must hold one mask for each of the 2 sequences"),
    ],
)
def test_data(given, message):
    with pytest.raises(ValueError, match=message):
        hd.MGPVAE(**SMALL).fit(*given)


@pytest.mark.parametrize(("likelihood", "what"), [("poisson", r"Y\[0\]"), ("bernoulli", r"Y\[0\]")])
def test_data_that_a_likelihood_cannot_have_made(likelihood, what):
    with pytest.raises(ValueError, match=what):
        hd.MGPVAE(**SMALL | {"likelihood": likelihood}).fit(Y)


@pytest.fixture(scope="module")
def model():
    return hd.MGPVAE(**SMALL).fit(Y)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda m: m.transform(Y[..., :2]),
            r"Y has frames of shape \(2,\); the model .*\(3,\)",
        ),
        (lambda m: m.impute(n_draws=-1), "n_draws must be a whole number of at least 0"),
        (lambda m: m.impute(times=np.arange(8)), "times must come with the Y"),
        (lambda m: m.score(mask=np.ones(8, bool)), "mask must come with the Y"),
        (lambda m: m.predict([]), "times is empty"),
        (lambda m: m.predict([np.nan]), r"times\[0\] is nan"),
        (lambda m: m.predict([[1.0], [2.0], [3.0]]), "times has 3 lists"),
        (lambda m: m.forecast(0), "steps must be a whole number of at least 1"),
        (lambda m: m.forecast(2, Y[0], times=np.arange(8.0) ** 2), "forecast needs evenly spaced rows"),
        (lambda m: m.sample(0), "n must be a whole number of at least 1"),
        (lambda m: m.sample(1, [2.0, 1.0]), "times must be sorted"),
        (lambda m: m.log_predictive(Y[:, :4]), "times.* has 8 entries|truth has sequences"),
        (lambda m: m.krige([[0.0]]), "locations has shape"),
    ],
)
def test_questions(model, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(model)


def test_networks_of_ones_own_are_not_saved(tmp_path):
    import equinox as eqx

    def own(n_in, n_out, key):
        return eqx.nn.Linear(n_in, n_out, key=key)

    model = hd.MGPVAE(**SMALL | {"decoder": own}).fit(Y)
    assert model.networks_["decoder.weight"].shape == (3, 1) and np.isfinite(model.score())
    with pytest.raises(ValueError, match="decoder is <function .* code that no file can hold"):
        model.save(tmp_path / "model.npz")


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(_vae_replies, "find_spec", lambda name: None if name == "optax" else True)
    with pytest.raises(ImportError, match=r'MGPVAE needs optax, of the extra "neural": pip install'):
        hd.MGPVAE(**SMALL).fit(Y)


def test_an_entry_that_was_never_seen_and_one_that_never_varies():
    data = Y.copy()
    data[..., 0], data[..., 1] = np.nan, 5.0
    filled = hd.MGPVAE(**SMALL).fit(data).impute()
    assert np.isfinite(filled["mean"]).all() and (filled["var"][..., 0] > 0).all()


def test_one_frame_and_one_time():
    model = hd.MGPVAE(**SMALL).fit(Y[:, :1])
    assert np.isfinite(model.predict([0.0, 3.0])["var"]).all()
    at_once = hd.MGPVAE(**SMALL).fit(Y, np.zeros(8))
    assert np.isfinite(at_once.impute()["mean"]).all()
