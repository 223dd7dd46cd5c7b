"""The bundled recordings are what their sources say; simulations follow their recipes."""

import doctest
from importlib.resources import files

import numpy as np
import pytest

from hidamari.datasets import (
    load_aplysia,
    load_hippocampus,
    load_retinal_waves,
    real,
    simulate,
    simulate_lorenz,
    simulate_spikes,
    simulate_van_der_pol,
)
from hidamari.statespace.kernels import Constant, Cosine, HidaMatern, Matern

RECORDINGS = [
    (load_hippocampus, {}, 31, 28_829, 1982.4533, "MIT"),
    (load_aplysia, {"recording": 1}, 102, 12_503, 80.0, "MIT"),
    (load_aplysia, {"recording": 2}, 102, 11_864, 90.0, "MIT"),
    (load_retinal_waves, {}, 78, 108_074, 754.0, "CC0-1.0"),
]


@pytest.mark.parametrize(("load", "arguments", "n_units", "n_spikes", "t_stop", "licence"), RECORDINGS)
def test_recordings_are_what_their_sources_say(load, arguments, n_units, n_spikes, t_stop, licence):
    recording = load(**arguments)
    assert len(recording.spikes) == len(recording.unit_ids) == n_units
    assert sum(len(train) for train in recording.spikes) == n_spikes
    assert recording.t_start == 0.0
    assert recording.t_stop == pytest.approx(t_stop, rel=1e-12)
    assert recording.licence == licence
    assert recording.citation
    for train in recording.spikes:
        assert train.dtype == np.float64
        assert (np.diff(train) >= 0).all()
        assert train[0] >= 0
        assert train[-1] <= recording.t_stop
    assert f"{n_spikes:,} spikes" in repr(recording)
    text = files("hidamari.datasets") / "data" / f"{recording.name.rstrip('_12')}.txt"
    assert "Cite" in text.read_text()
    assert {"MIT": "MIT License", "CC0-1.0": "CC0 1.0"}[licence] in text.read_text()


def test_the_bundle_is_small():
    bundled = [path for path in (files("hidamari.datasets") / "data").iterdir()]
    assert sum(len(path.read_bytes()) for path in bundled) < 1.5e6
    assert len([path for path in bundled if path.name.endswith(".npz")]) == 5


@pytest.mark.parametrize(("load", "arguments", "n_units", "n_spikes", "t_stop", "licence"), RECORDINGS)
def test_counts_hold_every_spike_but_those_beyond_the_last_bin(
    load, arguments, n_units, n_spikes, t_stop, licence
):
    recording = load(**arguments)
    counts = recording.counts(0.5)
    last = recording.t_start + 0.5 * counts.sizes["time"]
    beyond = sum((train >= last).sum() for train in recording.spikes)
    assert int(counts.sum()) == n_spikes - beyond
    assert beyond == (1 if recording.name == "aplysia_1" else 0)
    assert counts.unit.values.tolist() == recording.unit_ids.tolist()


def test_hippocampus_runs_back_and_forth_in_its_epoch():
    rat = load_hippocampus()
    assert rat.epochs is not None
    assert rat.position is not None
    assert rat.position_time is not None
    np.testing.assert_allclose(rat.epochs, [[72.5294, 883.0294]], rtol=1e-12)
    assert np.median(np.diff(rat.position_time)) == pytest.approx(0.05, rel=1e-3)
    assert len(rat.position) == len(rat.position_time) == 39_654
    run = rat.position[(rat.position_time > 72.6) & (rat.position_time < 883.0)]
    laps = np.count_nonzero(np.diff(run > 0.5))
    assert laps > 20
    assert (rat.position.min(), rat.position.max()) == (0.0, 1.0)
    (counts,) = rat.counts(0.1, epochs=rat.epochs, min_spikes=100)
    assert counts.sizes["unit"] == 15
    # Place cells: some unit's rate depends on place far beyond chance.
    place = np.interp(counts.time, rat.position_time, rat.position) > 0.5
    ratio = (counts[place].mean("time") + 1e-3) / (counts[~place].mean("time") + 1e-3)
    assert float(np.abs(np.log(ratio)).max()) > 1.0


def test_retina_has_its_electrodes():
    waves = load_retinal_waves()
    assert waves.electrode_xy is not None
    assert waves.electrode_xy.shape == (78, 2)
    assert (waves.electrode_xy % 200 == 0).all()


def test_recordings_cannot_be_changed():
    recording = load_aplysia()
    with pytest.raises(AttributeError):
        recording.name = "other"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="read-only"):
        recording.spikes[0][0] = 0.0


def test_refusals_of_recordings():
    with pytest.raises(ValueError, match="recording is 3; allowed: 1 or 2"):
        load_aplysia(3)
    with pytest.raises(ValueError, match="min_spikes is 1000000"):
        load_aplysia().counts(0.1, min_spikes=10**6)


# --- simulations ---


def test_shapes_and_truth_agree():
    sim = simulate_spikes(n_units=7, n_trials=3, n_bins=40, bin_s=0.05, mean_count=0.2)
    assert (sim.y.shape, sim.latents.shape, sim.rate.shape) == ((3, 40, 7), (3, 40, 3), (3, 40, 7))
    np.testing.assert_allclose(sim.rate, np.exp(sim.latents @ sim.loadings.T + sim.bias), rtol=1e-12)
    np.testing.assert_allclose(sim.bias, np.log(0.2 / 0.05), rtol=1e-14)
    assert (sim.y == np.floor(sim.y)).all()
    assert sim.y.dtype == np.float64
    assert sim.kernels == (Matern(1, 0.25), Matern(2, 0.6), HidaMatern(1, 0.8, 1.5))
    assert sim.bin_s == 0.05


def test_the_seed_decides():
    one, same, other = (simulate_spikes(n_units=4, n_trials=2, n_bins=30, random_state=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.y, same.y)
    np.testing.assert_array_equal(one.latents, same.latents)
    assert (one.latents != other.latents).all()
    drawn = simulate_spikes(n_units=4, n_trials=2, n_bins=30, random_state=np.random.default_rng(1))
    np.testing.assert_array_equal(one.y, drawn.y)


@pytest.mark.parametrize("make", [simulate_spikes, simulate_lorenz, simulate_van_der_pol])
def test_unequal_lengths(make):
    sim = make(n_units=5, n_bins=[20, 50, 35])
    for arrays in (sim.y, sim.rate, sim.latents):
        assert [len(a) for a in arrays] == [20, 50, 35]
    np.testing.assert_allclose(sim.rate[1], np.exp(sim.latents[1] @ sim.loadings.T + sim.bias), rtol=1e-12)


@pytest.mark.parametrize(
    "kernel",
    [
        Matern(0, 0.1, 2.0),
        Matern(2, 0.3, 0.5),
        Matern(5, 1.0),
        HidaMatern(1, 0.4, 3.0),
        Matern(1, 0.2) + Constant(0.5),
        Cosine(2.0, 1.0),
    ],
    ids=repr,
)
def test_latents_have_the_covariance_of_their_kernel(kernel):
    n_trials, lags = 4000, np.array([0, 1, 3, 10, 24])
    sim = simulate_spikes(kernel, n_units=1, n_trials=n_trials, n_bins=30, mean_count=1e-6, random_state=3)
    z = sim.latents[..., 0]
    products = z[:, :1] * z[:, lags]
    standard_error = products.std(axis=0) / np.sqrt(n_trials)
    expected = kernel(lags * sim.bin_s)
    assert (np.abs(products.mean(axis=0) - expected) < 4.5 * standard_error).all()
    # Stationary: the variance at the end is the variance at the start.
    assert np.abs(z[:, -1].var() / kernel(0.0) - 1) < 4.5 * np.sqrt(2 / n_trials)


@pytest.mark.parametrize("gap", [1e-6, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize("order", range(7))
def test_the_noise_of_latents_is_exact_at_every_step(order, gap):
    # The states' noises lie up to 40 decades apart: a plain eigendecomposition is off by 15 % here.
    noise = Matern(order).process_noise(np.array([gap]))[0]
    root = simulate._root(noise)
    scale = np.sqrt(np.diag(noise))
    assert (np.abs(root @ root.T - noise) / np.outer(scale, scale)).max() < 1e-13


def test_counts_have_the_mean_and_variance_of_poisson():
    sim = simulate_spikes(n_units=40, n_trials=40, n_bins=200, random_state=5)
    mean = sim.rate * sim.bin_s
    z = (sim.y - mean) / np.sqrt(mean)
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs((z**2).mean() - 1) < 0.02


def test_huge_rates_do_not_overflow():
    sim = simulate_spikes(n_units=4, n_trials=2, n_bins=50, mean_count=1e30, loading_scale=2.0)
    mean = sim.rate * sim.bin_s
    assert np.isfinite(sim.y).all()
    np.testing.assert_allclose(sim.y, mean, rtol=1e-9)
    mean = np.full((100, 100), 1e13)
    z = (simulate._poisson(mean, np.random.default_rng(0)) - mean) / np.sqrt(mean)
    assert abs(z.mean()) < 0.04
    assert abs(z.std() - 1) < 0.03
    with pytest.raises(ValueError, match="loading_scale"):
        simulate_spikes(n_units=4, n_trials=2, n_bins=50, loading_scale=1e3)


def test_lorenz_follows_its_recipe():
    sim = simulate_lorenz()
    assert (sim.y.shape, sim.latents.shape, sim.loadings.shape) == ((40, 200, 60), (40, 200, 3), (60, 3))
    np.testing.assert_allclose(sim.latents.mean((0, 1)), 0, atol=1e-12)
    np.testing.assert_allclose(sim.latents.std((0, 1)), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(sim.bias) * sim.bin_s, 0.1, rtol=1e-12)
    assert sim.loadings.std() == pytest.approx(0.416, rel=0.15)
    assert 0.12 < sim.y.mean() < 0.15  # research runs had 0.135
    # x' = 10 (y - x) holds between the raw coordinates, so x' lies in the span of x, y and 1.
    x = sim.latents
    slope = ((x[:, 2:] - x[:, :-2]) / (2 * sim.bin_s))[..., 0].ravel()
    basis = np.column_stack([x[:, 1:-1, :2].reshape(-1, 2), np.ones(slope.size)])
    residual = slope - basis @ np.linalg.lstsq(basis, slope)[0]
    assert residual.std() < 0.02 * slope.std()
    # The two wings: x changes sign, with few values near 0 wings apart.
    assert 0.3 < (x[..., 0] > 0).mean() < 0.7


def test_van_der_pol_follows_its_recipe():
    sim = simulate_van_der_pol()
    assert (sim.y.shape, sim.latents.shape, sim.loadings.shape) == ((10, 500, 50), (10, 500, 2), (50, 2))
    np.testing.assert_allclose(np.linalg.norm(sim.loadings, axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(sim.bias) * sim.bin_s, 5.0, rtol=1e-12)
    assert 4.9 < sim.y.mean() < 5.3  # research runs had 5.1
    # The period at mu = 1 is 6.66 s, 333 bins; compare the sign at half and whole periods.
    x = sim.latents[..., 0]
    assert np.mean(x[:, 333:] * x[:, :-333]) > 0.8
    assert np.mean(x[:, 166:] * x[:, :-166]) < -0.8


def test_wide_bins_keep_the_systems_stable():
    for make in (simulate_lorenz, simulate_van_der_pol):
        assert np.isfinite(make(n_units=3, n_trials=2, n_bins=50, bin_s=0.3).latents).all()


class Coin:
    """A likelihood by another author."""

    counts = False

    def mean(self, eta):
        return 1 / (1 + np.exp(-eta))

    def sample(self, eta, rng, exposure=1.0):
        return rng.binomial(1, self.mean(eta))


def test_other_likelihoods():
    sim = simulate_spikes(n_units=6, n_trials=5, n_bins=100, likelihood=Coin())
    assert set(np.unique(sim.y)) == {0.0, 1.0}
    assert (sim.bias == 0).all()
    assert abs((sim.y - sim.rate).mean()) < 0.04


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_units": 0}, "n_units is 0"),
        ({"n_units": 2.5}, "n_units is 2.5"),
        ({"n_trials": 0}, "n_trials is 0"),
        ({"n_trials": True}, "n_trials is True"),
        ({"n_bins": 0}, "n_bins is 0"),
        ({"n_bins": []}, "n_bins is empty"),
        ({"n_bins": [10, 0]}, "n_bins is 0"),
        ({"n_bins": [10, 20], "n_trials": 3}, "n_trials is 3 but n_bins has 2"),
        ({"bin_s": 0.0}, "bin_s is 0.0"),
        ({"bin_s": np.nan}, "bin_s is nan"),
        ({"mean_count": -1.0}, "mean_count is -1.0"),
        ({"mean_count": "many"}, "mean_count is 'many'"),
        ({"loading_scale": np.inf}, "loading_scale is inf"),
        ({"kernels": []}, "kernels is empty"),
        ({"kernels": [Matern(), "matern"]}, r"kernels\[1\] is 'matern'"),
        ({"likelihood": "gauss"}, "likelihood is 'gauss'"),
    ],
)
def test_refusals_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_spikes(**arguments)


@pytest.mark.parametrize("module", [real, simulate])
def test_doctests(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
