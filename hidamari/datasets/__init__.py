"""Recordings, series and sequences with their licences, simulations with their truth, and binning."""

from hidamari.datasets.real import Recording, load_aplysia, load_hippocampus, load_retinal_waves
from hidamari.datasets.sequences import load_weather, simulate_rotating_digits
from hidamari.datasets.series import (
    load_airline,
    load_co2,
    load_coal_disasters,
    load_nile,
    load_sunspots,
    load_temperatures,
)
from hidamari.datasets.simulate import Simulation, simulate_lorenz, simulate_spikes, simulate_van_der_pol
from hidamari.datasets.spikes import bin_spikes

__all__ = [
    "Recording",
    "Simulation",
    "bin_spikes",
    "load_airline",
    "load_aplysia",
    "load_co2",
    "load_coal_disasters",
    "load_hippocampus",
    "load_nile",
    "load_retinal_waves",
    "load_sunspots",
    "load_temperatures",
    "load_weather",
    "simulate_lorenz",
    "simulate_rotating_digits",
    "simulate_spikes",
    "simulate_van_der_pol",
]
