"""The covariance form in jax on models as they are given, by recursions or by associative scans."""

from hidamari.statespace import _jax_covariance, _jax_parallel
from hidamari.statespace._jax_groups import as_sites, by_readings, by_sites, group, ungroup
from hidamari.statespace.types import Readings, Sites, StateSpace

__all__ = ["solve", "value_and_slope"]


def solve(ss: StateSpace, sites: Sites | Readings, method: str, smoothing: bool):
    """Filtered or smoothed moments of f, and the log normalisers."""
    engine = _jax_parallel if method == "parallel" else _jax_covariance
    plain, constant = as_sites(sites)
    rows = group(ss, plain)
    new = _jax_covariance.update(rows.H, *engine.forward(rows), rows.j, rows.J)
    mean, cov = new.f, new.S
    if smoothing:
        mean, cov = _jax_covariance.moments(new, *engine.backward(rows, new))
    return *ungroup(mean, cov, plain.J.ndim == 2), new.log_norm.sum(1) + constant


def value_and_slope(ss: StateSpace, sites: Sites | Readings, method: str, with_H: bool) -> tuple:
    """The log evidence, and its derivatives by A, Q, H, m, P and the two parts of sites."""
    engine = _jax_parallel if method == "parallel" else _jax_covariance
    plain, constant = as_sites(sites)
    rows = group(ss, plain)
    log_norm, moments, (q, D), slope = _jax_covariance.value_and_slope(
        rows, *engine.forward(rows), engine.backward, with_H
    )
    by_model = [part.reshape(a.shape) for part, a in zip(slope, (ss.A, ss.Q, ss.H, ss.m, ss.P))]
    if isinstance(sites, Readings):
        q, D = ungroup(q, D, True)
        by_data = by_readings(sites, q, D)
    else:
        by_data = by_sites(*ungroup(*moments, plain.J.ndim == 2))
    return log_norm.sum() + constant.sum(), *by_model, *by_data
