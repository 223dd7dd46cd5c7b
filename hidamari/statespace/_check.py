"""What comes in: shapes, finite numbers, and readings turned into sites. Once, before any work."""

import numpy as np

from hidamari.statespace.types import Readings, Sites, StateSpace

__all__ = ["FORMS", "SQUARE_ROOT_ABOVE", "check", "check_shapes", "precision_ratio", "sites_only"]

SQUARE_ROOT_ABOVE = 1e4  # plain covariances lose about log10 of this ratio in digits (tests/test_extremes.py)
FORMS = ("auto", "covariance", "square_root", "square_root_float32")


def check_shapes(ss: StateSpace, sites: Sites | Readings, form: str) -> None:
    """Refuse shapes that do not agree and forms that are not known; reads no number."""
    if form not in FORMS:
        raise ValueError(f"form must be one of {FORMS}, found {form!r}")
    A, Q, H, m, P = (np.shape(a) for a in (ss.A, ss.Q, ss.H, ss.m, ss.P))
    if len(A) != 4:
        raise ValueError(f"ss.A must have shape (S, C, d, d), found {A}")
    S, C, d, _ = A
    k = H[1] if len(H) == 3 else -1
    wanted = {"A": (S, C, d, d), "Q": (S, C, d, d), "H": (C, k, d), "m": (C, d), "P": (C, d, d)}
    for name, shape in zip(wanted, (A, Q, H, m, P)):
        if shape != wanted[name]:
            raise ValueError(f"ss.{name} must have shape {wanted[name]}, found {shape}")
    step = ss.step if hasattr(ss.step, "dtype") else np.asarray(ss.step)
    if step.ndim != 1 or step.dtype.kind not in "iu":
        raise ValueError(f"ss.step must be whole numbers of shape (T,), found {step.dtype} {step.shape}")
    T, K = len(step), C * k
    if T == 0:
        raise ValueError("ss.step is empty: at least one row of time is needed")
    names = ("y", "R") if isinstance(sites, Readings) else ("j", "J")
    first, second = (np.shape(a) for a in sites)
    if first != (T, K):
        raise ValueError(f"sites.{names[0]} must have shape {(T, K)}, found {first}")
    dense_allowed = isinstance(sites, Sites)
    if second != (T, K) and not (dense_allowed and second == (T, K, K)):
        allowed = f"{(T, K)} or {(T, K, K)}" if dense_allowed else f"{(T, K)}"
        raise ValueError(f"sites.{names[1]} must have shape {allowed}, found {second}")


def check(ss: StateSpace, sites: Sites | Readings, form: str):
    """Contiguous float64 arrays of agreeing shapes; readings become sites and a constant unless exact."""
    check_shapes(ss, sites, form)
    A, Q, H, m, P = (np.ascontiguousarray(a, dtype=np.float64) for a in (ss.A, ss.Q, ss.H, ss.m, ss.P))
    for name, array in zip("AQHmP", (A, Q, H, m, P)):
        _all_finite(f"ss.{name}", array)
    step = np.asarray(ss.step)
    if step.max() >= len(A):
        raise ValueError(f"ss.step must be below the number of distinct steps {len(A)}, found {step.max()}")
    step = np.ascontiguousarray(step, dtype=np.int64)
    if step[0] >= 0:  # row 0 starts a trial whatever it says
        step = np.concatenate([[-1], step[1:]])
    ss = StateSpace(A, Q, step, H, m, P)
    first, second = (np.ascontiguousarray(a, dtype=np.float64) for a in sites)
    if isinstance(sites, Sites):
        _all_finite("sites.j", first)
        _all_finite("sites.J", second)
        return ss, Sites(first, second), 0.0
    _refuse("sites.y", first, np.isinf(first), "finite, or NaN where nothing was observed")
    _refuse("sites.R", second, ~(second >= 0), "a variance of at least 0")
    return _as_sites(ss, Readings(first, second), form)


def _as_sites(ss: StateSpace, readings: Readings, form: str):
    """Readings as sites and a constant a row, where the covariance form can take them."""
    y, R = readings
    seen = ~np.isnan(y) & np.isfinite(R)
    if (R[seen] == 0).any():
        return ss, Readings(np.where(seen, y, np.nan), np.where(seen, R, 1.0)), 0.0
    R = np.where(seen, R, 1.0)
    y = np.where(seen, y, 0.0)
    J = np.where(seen, 1.0 / R, 0.0)
    constant = np.where(seen, -0.5 * y * y * J - 0.5 * np.log(2 * np.pi * R), 0.0).sum(1)
    if form.startswith("square_root") or (form == "auto" and precision_ratio(ss, J) > SQUARE_ROOT_ABOVE):
        return ss, Readings(np.where(seen, y, np.nan), R), 0.0
    return ss, Sites(y * J, J), constant


def _all_finite(name: str, array: np.ndarray) -> None:
    """Refuse NaN and inf."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum()):  # one pass and no copy; only a sum that overflows needs the other
            return
    _refuse(name, array, ~np.isfinite(array), "finite")


def _refuse(name: str, array: np.ndarray, wrong: np.ndarray, allowed: str) -> None:
    """Raise the ValueError for the first wrong entry, if there is one."""
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name} must be {allowed}, found {array[at]} at index {at}")


def sites_only(ss: StateSpace, sites: Sites | Readings, constant):
    """The same, where exact readings have no place."""
    if isinstance(sites, Readings):
        raise ValueError(
            "exact readings (R = 0) have no finite sites: use infer, or smooth by its own method"
        )
    return ss, sites, constant


def precision_ratio(ss: StateSpace, J: np.ndarray) -> float:
    """The largest site precision times prior variance, max of J_t,aa (H P H')_aa over rows and read-outs.

    Its logarithm is about the number of digits that plain covariances lose.

    Parameters
    ----------
    ss : StateSpace
        The chains.
    J : ndarray, shape (T, K, K) or (T, K)
        Precisions of sites.

    Returns
    -------
    float

    Examples
    --------
    >>> from hidamari.statespace.kernels import Matern
    >>> precision_ratio(Matern(order=0, variance=2.0).state_space(np.arange(3.0)), np.full((3, 1), 10.0))
    20.0
    """
    prior = np.einsum("cai,cij,caj->ca", ss.H, ss.P, ss.H).ravel()
    diagonal = J if J.ndim == 2 else np.einsum("tkk->tk", J)
    return float(np.max(diagonal * prior, initial=0.0))
