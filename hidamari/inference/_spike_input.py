"""What spike counts and the things they depend on may look like."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._lag_input import as_columns, as_segments
from hidamari.inference._poisson import Data

__all__ = ["as_basis", "as_counts", "as_felt", "read"]


def as_counts(counts: ArrayLike | Sequence[ArrayLike]) -> list[np.ndarray]:
    """Trials of counts, checked."""
    parts = as_segments("counts", counts, 2)
    if len({part.shape[1] for part in parts}) > 1 or parts[0].shape[1] == 0:
        raise ValueError(f"counts has shapes {[part.shape for part in parts]}; allowed: (T, N) with one N")
    if any((part < 0).any() for part in parts):
        raise ValueError("counts holds negative values; allowed: counts, and NaN where not observed")
    return parts


def as_basis(lags: np.ndarray) -> np.ndarray:
    """A basis of the filters, checked."""
    basis = np.array(lags, dtype=float)
    if basis.ndim != 2 or basis.size == 0 or not np.isfinite(basis).all():
        raise ValueError(f"lags has shape {basis.shape}; allowed: a number of bins, or a basis (lag, K)")
    return basis


def as_felt(coupling: bool | ArrayLike, N: int) -> np.ndarray:
    """Which unit feels which."""
    if isinstance(coupling, (bool, np.bool_)):
        return np.ones((N, N), dtype=bool) if coupling else np.eye(N, dtype=bool)
    felt = np.array(coupling)
    if felt.shape != (N, N) or felt.dtype != bool:
        raise ValueError(
            f"coupling has shape {felt.shape} of {felt.dtype}; allowed: bool, or ({N}, {N}) bools"
        )
    return felt


def read(
    parts: list[np.ndarray],
    basis: np.ndarray,
    columns: ArrayLike | Sequence[ArrayLike] | None,
    exposure: ArrayLike | Sequence[ArrayLike] | None,
    felt: np.ndarray,
    silent_start: bool,
    response: bool = True,
) -> tuple[Data, np.ndarray]:
    """Data of the regressions, and which bins of which unit count; without response, its count need not."""
    lengths = [len(part) for part in parts]
    fixed = as_columns(columns, parts)
    y, z = np.concatenate(parts), np.concatenate(fixed)
    known = np.isfinite(y) if response else np.ones(y.shape, dtype=bool)
    usable = known & np.isfinite(z).all(axis=1, keepdims=True)
    missing = np.isnan(y)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    if missing.any() or not silent_start:
        blocked = np.zeros(y.shape, dtype=bool)
        for a, b in zip(starts[:-1], starts[1:]):
            total = np.concatenate([np.zeros((1, y.shape[1]), dtype=int), np.cumsum(missing[a:b], axis=0)])
            t = np.arange(b - a)
            blocked[a:b] = total[t] > total[np.maximum(t - len(basis), 0)]
            if not silent_start:
                blocked[a : a + len(basis)] = True
        usable &= (blocked @ felt.T.astype(int)) == 0
    offset = np.log(_exposure(exposure, parts))
    usable_or_none = None if usable.all() else usable
    return Data(np.nan_to_num(y), np.nan_to_num(z), offset, usable_or_none, starts, basis, {}), usable


def _exposure(exposure: ArrayLike | Sequence[ArrayLike] | None, parts: list[np.ndarray]) -> np.ndarray:
    """Factors of the expected counts, (T, 1) or (T, N)."""
    T, N = sum(map(len, parts)), parts[0].shape[1]
    if exposure is None:
        return np.ones((T, 1))
    many = isinstance(exposure, (list, tuple)) and len(exposure) > 0 and np.ndim(exposure[0]) > 0
    own = [np.asarray(part, dtype=float) for part in (exposure if many else [exposure])]  # type: ignore[union-attr]
    own = [part[:, None] if part.ndim == 1 else part for part in own]
    found = [part.shape for part in own]
    widths = {shape[1:] for shape in found}
    if [shape[:1] for shape in found] != [(len(part),) for part in parts] or widths not in ({(1,)}, {(N,)}):
        raise ValueError(
            f"exposure has shapes {found}; allowed: one row, or (row, {N}), for each row of counts"
        )
    joined = np.concatenate(own)
    if not (np.isfinite(joined) & (joined > 0)).all():
        raise ValueError("exposure holds values that are not positive; allowed: positive ones, for every bin")
    return joined
