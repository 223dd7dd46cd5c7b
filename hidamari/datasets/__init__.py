"""Recordings with their licences, simulations with their truth, and binning."""

from hidamari.datasets.real import Recording, load_aplysia, load_hippocampus, load_retinal_waves
from hidamari.datasets.simulate import Simulation, simulate_lorenz, simulate_spikes, simulate_van_der_pol
from hidamari.datasets.spikes import bin_spikes

__all__ = [
    "Recording",
    "Simulation",
    "bin_spikes",
    "load_aplysia",
    "load_hippocampus",
    "load_retinal_waves",
    "simulate_lorenz",
    "simulate_spikes",
    "simulate_van_der_pol",
]
