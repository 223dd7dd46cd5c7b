"""Autoencoders over space and time against dense processes; inducing locations and kriging."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import hidamari as hd
from hidamari.inference._vae_space import at_locations, distances, farthest, lift, space_of
from hidamari.statespace.types import Sites

SMALL = {"n_latents": 2, "decoder": (), "encoder": (), "max_epochs": 0, "progress": False}
T, N, D = 12, 5, 3


@pytest.fixture(scope="module")
def data():
    """Two sequences of a separable process over five places, a third of the entries and a place missing."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 3, (N, 2))
    t = np.arange(T) * 1.0
    K = np.kron(hd.Matern(1, 4.0)(np.subtract.outer(t, t)), hd.Matern(1, 1.5)(distances(places, places)))
    z = rng.multivariate_normal(np.zeros(T * N), K, size=(2, 2), method="eigh").reshape(2, 2, T, N)
    Y = np.einsum("nltr,dl->ntrd", z, [[1.0, 0.2], [0.5, -1.0], [-0.3, 0.8]]) + [1.0, 0.0, -2.0]
    Y += 0.2 * rng.standard_normal(Y.shape)
    Y[rng.random(Y.shape) < 0.3] = np.nan
    Y[0, :, 2] = Y[1, 3] = np.nan
    return Y, places


@pytest.fixture(scope="module")
def model(data):
    Y, places = data
    return hd.MGPVAE(**SMALL).fit(Y, locations=places)


def conditioned(model, y, places, times, new_places, new_times):
    """The dense posterior of frames without noise at new places and times given y; the log density of y."""
    every_t = np.concatenate([times, new_times])
    every_r = np.concatenate([places, new_places])
    C, K = model.loadings_, 0.0
    Ks = model.space_(distances(every_r, every_r))
    for n, kernel in enumerate(model.kernels_):
        Kt = kernel(np.subtract.outer(every_t, every_t))
        K = K + np.einsum("tu,rs,d,e->trduse", Kt, Ks, C[:, n], C[:, n])
    (A, B), D = (len(every_t), len(every_r)), C.shape[0]
    K = K.reshape(A * B * D, -1)
    at = np.zeros((A, B, D), bool)
    at[: len(times), : len(places)] = ~np.isnan(y)
    at = np.flatnonzero(at.ravel())
    mean, noise = np.tile(model.bias_, A * B), np.tile(model.noise_, A * B)
    S = K[np.ix_(at, at)] + np.diag(noise[at])
    seen = y[~np.isnan(y)]
    gain = np.linalg.solve(S, K[at]).T
    m = (mean + gain @ (seen - mean[at])).reshape(A, B, D)
    v = (np.diag(K) - np.einsum("ia,ai->i", gain, K[at])).reshape(A, B, D)
    return m, v, multivariate_normal(mean[at], S).logpdf(seen)


def test_answers_are_those_of_a_dense_process_over_space_and_time(model, data):
    Y, places = data
    times, new_times = np.arange(T) * 1.0, np.array([4.5, 13.0])
    new_places = np.array([[1.0, 1.0], [9.0, 9.0]])
    kriged, ahead, same = model.krige(new_places), model.predict(new_times), model.krige(places)
    total = 0.0
    for n in range(2):
        m, v, log_evidence = conditioned(model, Y[n], places, times, new_places, new_times)
        total += log_evidence
        for found, at in (
            (kriged, np.s_[:T, N:]),  # the variance that no seen place explains included
            (same, np.s_[:T, :N]),
            (ahead, np.s_[T:, :N]),
        ):
            np.testing.assert_allclose(found["mean"][n], m[at], rtol=1e-8, atol=1e-8)
            np.testing.assert_allclose(found["var"][n], v[at] + model.noise_, rtol=1e-8)
    np.testing.assert_allclose(model.score(), total / np.isfinite(Y).sum(), rtol=1e-8)
    np.testing.assert_allclose(kriged["latent_var"][:, :, 1], 1, atol=1e-3)  # far from everything: the prior
    np.testing.assert_array_equal(kriged.place, new_places)


def test_kriging_at_places_of_the_fit_is_the_posterior_there(model, data):
    for name in ("latent_mean", "latent_var"):
        np.testing.assert_allclose(
            model.krige(data[1])[name], model.transform()[name], rtol=1e-10, atol=1e-12
        )


def test_as_many_inducing_places_as_places_are_all_of_them(model, data):
    Y, places = data
    order = np.array([3, 0, 4, 1, 2])
    other = hd.MGPVAE(**SMALL | {"n_inducing": N})
    vars(other).update({name: value for name, value in vars(model).items() if name.endswith("_")})
    other.inducing_ = model.inducing_[order]
    np.testing.assert_allclose(other.score(), model.score(), rtol=1e-10)
    np.testing.assert_allclose(other.impute()["mean"], model.impute()["mean"], rtol=1e-8, atol=1e-9)


def test_fewer_inducing_places_bound_the_evidence_from_below(model):
    less = hd.MGPVAE(**SMALL)
    vars(less).update({name: value for name, value in vars(model).items() if name.endswith("_")})
    scores = []
    for M in (1, 3, N):
        less.inducing_ = model.locations_[farthest(model.locations_, M)]
        scores.append(less.score())
    assert scores[0] < scores[1] < scores[2] <= model.score() + 1e-9
    less.inducing_ = model.locations_[farthest(model.locations_, 3)]
    assert np.abs(less.reconstruct()["mean"] - model.reconstruct()["mean"]).mean() < 0.3
    draws = less.impute(n_draws=1500, random_state=0)
    gone = (draws["var"] > 0).values
    spread = draws["observation_draw"].values[:, gone].var(0) / draws["var"].values[gone]
    assert np.abs(np.log(spread)).mean() < 0.06


def test_draws_over_space_have_the_covariance_of_the_kernels(model):
    drawn = model.sample(3000, [0.0, 2.0], random_state=0)["latent_draw"].values
    found = np.einsum("stna,sumb->antbum", drawn, drawn) / 3000
    Ks = model.space_(distances(model.locations_, model.locations_)) / model.space_.variance
    for n, kernel in enumerate(model.kernels_):
        Kt = kernel(np.subtract.outer([0.0, 2.0], [0.0, 2.0]))
        exact = np.einsum("tu,rs->rtus", Kt, Ks)
        np.testing.assert_allclose(found[n][:, :, n].transpose(0, 1, 2, 3), exact, atol=0.1)


def test_latents_are_read_where_nothing_is_left_over():
    """Sites lifted at inducing places and read back there, against sites at the places themselves."""
    rng = np.random.default_rng(1)
    places, L = rng.uniform(0, 2, (4, 1)), 2
    space = space_of(hd.Matern(1, 1.0, 3.0), places, places)
    np.testing.assert_allclose(space.B @ space.B.T, hd.Matern(1, 1.0)(distances(places, places)), atol=1e-12)
    J = rng.standard_normal((4, L, L))
    sites = Sites(rng.standard_normal((4, L)), J @ J.transpose(0, 2, 1))
    u = lift(space, sites, np.ones(L))
    cov = np.linalg.inv(np.eye(L * 4) + u.J[0])
    mean, var = at_locations(space, (cov @ u.j[0])[None], cov[None], np.ones(L))
    K = np.kron(hd.Matern(1, 1.0)(distances(places, places)), np.eye(L))
    block = np.zeros((4 * L, 4 * L))
    for n in range(4):
        block[n * L : n * L + L, n * L : n * L + L] = sites.J[n]
    exact = np.linalg.inv(np.linalg.inv(K) + block)
    np.testing.assert_allclose(mean.ravel(), exact @ sites.j.ravel(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(var[2], exact[4:6, 4:6], rtol=1e-9, atol=1e-11)


def test_places_with_one_entry_each_and_files(data, tmp_path):
    Y, places = data
    model = hd.MGPVAE(**SMALL | {"n_latents": 1, "space": hd.Matern(0, 1.0)}).fit(Y[..., 0], locations=places)
    filled = model.impute()
    assert filled["mean"].dims == ("trial", "time", "location") and np.isfinite(filled["mean"]).all()
    model.save(tmp_path / "model.npz")
    assert hd.load(tmp_path / "model.npz").krige([[0.5, 0.5]]).identical(model.krige([[0.5, 0.5]]))
    single = hd.MGPVAE(**SMALL).fit(Y[0], locations=places).impute(n_draws=2)
    assert single["observation_draw"].dims == ("draw", "time", "location", "unit")


@pytest.mark.parametrize(
    ("locations", "message"),
    [
        (np.zeros((4, 2)), r"locations has 4 rows, but Y has frames of shape \(5, 3\)"),
        (np.zeros((5, 2)), r"locations has \[0. 0.\] twice; allowed: each once"),
        (np.full((5, 2), np.nan), r"locations must be finite numbers \(N, p\)"),
        ([["a"]] * 5, r"locations must be numbers \(N, p\), found list"),
    ],
)
def test_wrong_places_are_refused_by_name(data, locations, message):
    with pytest.raises(ValueError, match=message):
        hd.MGPVAE(**SMALL).fit(data[0], locations=locations)


def test_kriging_needs_places(model, data):
    with pytest.raises(ValueError, match=r"locations has shape \(2, 1\); allowed: \(N, 2\)"):
        model.krige([0.0, 1.0])
    plain = hd.MGPVAE(**SMALL).fit(data[0][:, :, 0])
    with pytest.raises(ValueError, match=r"allowed: none, as at the fit"):
        plain.krige([[0.0, 1.0]])
