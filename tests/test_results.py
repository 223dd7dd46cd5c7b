"""Datasets: dims, coordinates, attributes, padding, and netCDF there and back."""

import doctest

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hidamari
from hidamari import results
from hidamari.arrays import as_trials
from hidamari.datasets import bin_spikes
from hidamari.results import Variable, latents_dataset, safe_attributes, to_dataset


def numbers(trials, rng, n_latents=2):
    rows, n_units = trials.values.shape
    z = rng.standard_normal((rows, n_latents))
    return z, z**2, np.exp(rng.standard_normal((rows, n_units)))


def make(y, rng, **arguments):
    trials = as_trials(y)
    mean, var, rate = numbers(trials, rng)
    return (mean, var, rate), latents_dataset(trials, mean, var, rate, **arguments)


def test_one_array_has_no_trial_dim(rng):
    (mean, var, rate), data = make(np.zeros((5, 3)), rng, bin_s=0.02, model="CVHM")
    assert data.latent_mean.dims == ("time", "latent")
    assert data.rate.dims == ("time", "unit")
    for name, expected in (("latent_mean", mean), ("latent_var", var), ("rate", rate)):
        np.testing.assert_array_equal(data[name], expected)
    np.testing.assert_allclose(data.time, [0.01, 0.03, 0.05, 0.07, 0.09], rtol=1e-14)
    assert data.unit.values.tolist() == [0, 1, 2]
    assert data.latent.values.tolist() == [0, 1]
    assert data.attrs == {"bin_s": 0.02, "package_version": hidamari.__version__, "model": "CVHM"}


def test_every_variable_has_units(rng):
    trials = as_trials(np.zeros((5, 3)))
    mean, var, rate = numbers(trials, rng)
    cov = np.einsum("ti,tj->tij", mean, mean)
    data = latents_dataset(trials, mean, var, rate, bin_s=0.1, latent_cov=cov, rate_units="V")
    assert data.latent_cov.dims == ("time", "latent", "other_latent")
    for name, unit in {
        "latent_mean": "1",
        "latent_var": "1",
        "latent_cov": "1",
        "rate": "V",
        "time": "s",
    }.items():
        assert data[name].attrs["units"] == unit
        assert data[name].attrs["long_name"]


def test_equal_trials(rng):
    (mean, _, rate), data = make(np.zeros((4, 5, 3)), rng, bin_s=0.1)
    assert data.rate.dims == ("trial", "time", "unit")
    np.testing.assert_array_equal(data.rate, rate.reshape(4, 5, 3))
    np.testing.assert_array_equal(data.latent_mean, mean.reshape(4, 5, 2))
    assert "n_bins" not in data


def test_unequal_trials_are_padded_with_nan(rng):
    (_, _, rate), data = make([np.zeros((3, 2)), np.zeros((5, 2)), np.zeros((1, 2))], rng, bin_s=0.1)
    assert data.n_bins.dims == ("trial",)
    assert data.n_bins.values.tolist() == [3, 5, 1]
    np.testing.assert_array_equal(data.rate.values[0, :3], rate[:3])
    np.testing.assert_array_equal(data.rate.values[1], rate[3:8])
    np.testing.assert_array_equal(data.rate.values[2, 0], rate[8])
    assert np.isnan(data.rate.values).sum() == 2 * (2 + 4)
    assert data.sizes["time"] == 5


def test_a_padded_result_reads_back_as_trials(rng):
    (_, _, rate), data = make([np.zeros((3, 2)), np.zeros((5, 2))], rng, bin_s=0.1)
    again = as_trials(data.rate)
    np.testing.assert_array_equal(again.values, rate)
    assert again.lengths.tolist() == [3, 5]


def test_times_and_units_of_the_observations_are_kept(rng):
    counts = bin_spikes({"a": [10.2], "b": []}, 0.1, 10.0, 10.5)
    _, data = make(counts, rng, bin_s=0.1)
    np.testing.assert_array_equal(data.time, counts.time)
    assert data.unit.values.tolist() == ["a", "b"]
    _, named = make(np.zeros((3, 2)), rng, bin_s=0.1, units=["x", "y"])
    assert named.unit.values.tolist() == ["x", "y"]


def test_epochs_keep_where_they_began(rng):
    blocks = bin_spikes([[0.1], [2.2]], 0.1, epochs=[(0.0, 0.5), (2.0, 2.3)])
    _, data = make(blocks, rng, bin_s=0.1)
    np.testing.assert_allclose(data.trial_start, [0.0, 2.0], atol=1e-12)
    np.testing.assert_allclose(data.time, [0.05, 0.15, 0.25, 0.35, 0.45], rtol=1e-12)
    assert data.n_bins.values.tolist() == [5, 3]


def test_shared_times_need_no_bins(rng):
    table = pd.DataFrame(np.zeros((4, 2)), index=[0.0, 0.5, 0.7, 3.0])
    _, data = make(table, rng)
    assert data.time.values.tolist() == [0.0, 0.5, 0.7, 3.0]
    assert "bin_s" not in data.attrs
    with pytest.raises(ValueError, match="bin_s is missing"):
        make([table, table.set_axis([1.0, 1.5, 1.7, 4.0])], rng)
    with pytest.raises(ValueError, match="bin_s is missing"):
        make(np.zeros((4, 2)), rng)


@pytest.mark.parametrize(
    "y",
    [
        np.zeros((5, 3)),
        np.zeros((2, 5, 3)),
        [np.zeros((2, 3)), np.zeros((5, 3))],
        pd.DataFrame(np.zeros((5, 3)), columns=["a", "b", "c"], index=0.05 + 0.1 * np.arange(5)),
        bin_spikes([[0.1], [0.2], []], 0.1, epochs=[(0.0, 0.5), (2.0, 2.3)]),
    ],
    ids=["array", "batch", "list", "pandas", "epochs"],
)
def test_netcdf_round_trip(y, rng, tmp_path):
    attrs = {"converged": True, "kernels": [{"order": 1}], "nothing": None, "elbo": np.array([-2.0, -1.5])}
    _, data = make(y, rng, bin_s=0.1, model="CVHM", attrs=attrs)
    data.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "result.nc", engine="h5netcdf") as stored:
        stored.load()
    xr.testing.assert_equal(stored, data)
    assert stored.time.dtype == np.float64
    assert stored.attrs["converged"] == 1
    assert stored.attrs["kernels"] == '[{"order": 1}]'
    assert list(stored.attrs["elbo"]) == [-2.0, -1.5]
    for name in data.variables:
        assert stored[name].attrs == data[name].attrs


def test_wrong_shapes_are_refused(rng):
    trials = as_trials(np.zeros((5, 3)))
    mean, var, rate = numbers(trials, rng)
    with pytest.raises(ValueError, match=r"rate has shape \(4, 3\); allowed: \(5, unit\)"):
        latents_dataset(trials, mean, var, rate[:4], bin_s=0.1)
    with pytest.raises(ValueError, match=r"drift has shape \(5,\); allowed: \(5, unit\)"):
        to_dataset(trials, {"drift": Variable(np.zeros(5), ("unit",), "1", "drift")}, bin_s=0.1)


def test_safe_attributes_refuse_what_json_cannot_say():
    assert safe_attributes({"a": np.float64(2.0), "b": np.arange(2), "c": "x", "d": []}) == {
        "a": 2.0,
        "b": [0, 1],
        "c": "x",
        "d": "[]",
    }
    with pytest.raises(ValueError, match=r"attrs\['a'\] is a object"):
        safe_attributes({"a": object()})


def test_doctests():
    result = doctest.testmod(results)
    assert result.attempted > 0
    assert result.failed == 0
