r"""What stands beside the lags of a series, as columns with names: trend, seasons, events, covariates.

Rows are numbered 0, 1, 2, ... from the first row of the fit, and go on beyond its end in forecasts.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Columns", "event_columns", "fourier_columns", "join", "lagged_columns", "trend_columns"]


class Columns(NamedTuple):
    """Columns of a regression, with the name and the group of each."""

    values: np.ndarray  # (T, k); NaN: not known
    names: tuple[str, ...]
    groups: tuple[str, ...]  # columns of one trend, season, event or covariate belong together


def trend_columns(rows: np.ndarray, n_rows: int, n_changes: int = 0) -> Columns:
    r"""A line with changes of slope, continuous; beyond the end the last slope goes on.

    r / n_rows, max(0, (r - kappa_j) / n_rows), changes kappa_j evenly spaced over the first 80 % of rows,
    so that the last slope is learnt from a fifth of the series.

    Parameters
    ----------
    rows : ndarray, shape (T,)
        Row numbers to write the columns for.
    n_rows : int
        Rows of the fit.
    n_changes : int
        Changes of slope.

    Returns
    -------
    Columns

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.ar_columns import trend_columns
    >>> trend_columns(np.array([0.0, 5.0, 10.0]), 10, 1).values.T
    array([[0. , 0.5, 1. ],
           [0. , 0.1, 0.6]])
    """
    changes = 0.8 * n_rows * np.arange(1, n_changes + 1) / (n_changes + 1)
    hinges = np.maximum(np.subtract.outer(rows, np.append(0.0, changes)), 0.0)
    hinges[:, 0] = rows
    names = ("trend", *(f"trend[{change:.6g}:]" for change in changes))
    return Columns(hinges / n_rows, names, ("trend",) * len(names))


def fourier_columns(rows: np.ndarray, period: float, order: int) -> Columns:
    r"""Sines and cosines of a period and its fractions.

    sin(2 pi k r / period), cos(2 pi k r / period), k = 1..order. At k = period / 2 the sine vanishes on
    whole rows and is left out.

    Parameters
    ----------
    rows : ndarray, shape (T,)
        Row numbers to write the columns for.
    period : float
        Rows of one season, more than one.
    order : int
        Number of harmonics.

    Returns
    -------
    Columns

    Raises
    ------
    ValueError
        If a harmonic is faster than two rows, which cannot be told from a slower one.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.ar_columns import fourier_columns
    >>> fourier_columns(np.arange(3.0), 4, 2).names
    ('sin[1/4]', 'cos[1/4]', 'cos[2/4]')
    """
    if 2 * order > period:
        raise ValueError(
            f"seasonality has {order} harmonics of {period:g} rows; allowed: at most {period / 2:g}"
        )
    parts, names = [], []
    for k in range(1, order + 1):
        angle = 2.0 * np.pi * ((k * rows % period) / period)  # whole turns taken off before they lose digits
        if 2 * k < period:
            parts.append(np.sin(angle))
            names.append(f"sin[{k}/{period:g}]")
        parts.append(np.cos(angle))
        names.append(f"cos[{k}/{period:g}]")
    return Columns(np.stack(parts, axis=1), tuple(names), (f"season[{period:g}]",) * len(names))


def event_columns(rows: np.ndarray, events: Mapping[str, Sequence[int]], window: tuple[int, int]) -> Columns:
    r"""Ones at the rows of each event, and at each row of a window around it.

    Parameters
    ----------
    rows : ndarray, shape (T,)
        Row numbers to write the columns for.
    events : mapping of str to sequence of int
        From the name of an event to the rows it happens at; those of the future too.
    window : (int, int)
        First and last row that feels it: (-1, 2) is from one before to two after.

    Returns
    -------
    Columns

    Raises
    ------
    ValueError
        If the window ends before it begins.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.ar_columns import event_columns
    >>> found = event_columns(np.arange(4), {"new year": [1]}, (0, 1))
    >>> found.names, found.values.T.tolist()
    (('new year', 'new year[+1]'), [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    """
    first, last = window
    if last < first:
        raise ValueError(f"event_window is {window}; allowed: the first row felt, then the last")
    parts, names, groups = [], [], []
    for name, at in events.items():
        for shift in range(first, last + 1):
            parts.append(np.isin(rows, np.asarray(at) + shift).astype(float))
            names.append(f"{name}[{shift:+d}]" if shift else str(name))
            groups.append(f"event[{name}]")
    values = np.stack(parts, axis=1) if parts else np.empty((len(rows), 0))
    return Columns(values, tuple(names), tuple(groups))


def lagged_columns(values: np.ndarray, names: Sequence[str], lags: Sequence[int]) -> Columns:
    r"""Covariates as they were some rows before: column x[t-l] holds x_{t-l}, NaN before the first row.

    Parameters
    ----------
    values : ndarray, shape (T, q)
        Covariates at every row of one stretch.
    names : sequence of str
        Their names.
    lags : sequence of int
        Rows back, from 0: the row itself.

    Returns
    -------
    Columns

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.ar_columns import lagged_columns
    >>> found = lagged_columns(np.array([[1.0], [2.0], [3.0]]), ["load"], [0, 1])
    >>> found.names, found.values[1:].tolist()
    (('load', 'load[t-1]'), [[2.0, 1.0], [3.0, 2.0]])
    """
    parts, labels, groups = [], [], []
    for q, name in enumerate(names):
        for lag in lags:
            shifted = np.full(len(values), np.nan)
            shifted[lag:] = values[: max(len(values) - lag, 0), q]
            parts.append(shifted)
            labels.append(f"{name}[t-{lag}]" if lag else str(name))
            groups.append(f"covariate[{name}]")
    return Columns(np.stack(parts, axis=1), tuple(labels), tuple(groups))


def join(n_rows: int, parts: Sequence[Columns]) -> Columns:
    """Columns side by side; without any there are none.

    Parameters
    ----------
    n_rows : int
        Rows, where there are no parts to tell.
    parts : sequence of Columns
        Of as many rows each.

    Returns
    -------
    Columns

    Raises
    ------
    ValueError
        If two columns have one name.

    Examples
    --------
    >>> from hidamari.inference.ar_columns import join
    >>> join(3, []).values.shape
    (3, 0)
    """
    names = tuple(name for part in parts for name in part.names)
    again = sorted({name for name in names if names.count(name) > 1})
    if again:
        raise ValueError(f"columns have the names {again} more than once; allowed: names of their own")
    groups = tuple(group for part in parts for group in part.groups)
    return Columns(
        np.concatenate([np.empty((n_rows, 0)), *(part.values for part in parts)], axis=1), names, groups
    )
