"""Recordings with their licences, simulations with their truth, and binning."""
