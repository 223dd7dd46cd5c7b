"""Second moments of a series, its lags and other predictors: all that a Gaussian autoregression needs."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hidamari.inference._lag_input import (
    as_columns,
    as_lags,
    as_segments,
    check_lengths,
    is_long,
    observed_mean,
    shift,
    usable_rows,
)

__all__ = ["LagGram", "Lagged", "add_grams", "complete_rows", "keep", "lag_gram", "long_runs"]

_MANY = 256  # lags from which the structure of their moments pays
_RUNS = 3  # of complete rows up to which it does


class Lagged(NamedTuple):
    """A covariate that enters with lags of its own; lag 0 is its value at the time of y."""

    name: str
    values: ArrayLike | Sequence[ArrayLike]  # (T,) as y, or one for each segment
    lags: int | Sequence[int]  # an int n: lags 1..n


class LagGram(NamedTuple):
    """Moments of y and its predictors over the rows where all of them were observed.

    Responses come first: y_t, and y_{t+1}, ... when more than one step was asked for.
    """

    moments: np.ndarray  # (r + m, r + m) sums of products about the means
    means: np.ndarray  # (r + m,)
    n_rows: int
    names: tuple[str, ...]  # (m,) of the predictors
    lags: np.ndarray  # (n_lags,) lags of y, the first of the predictors

    @property
    def n_responses(self) -> int:
        """How many responses come before the predictors."""
        return len(self.means) - len(self.names)


def lag_gram(
    y: ArrayLike | Sequence[ArrayLike],
    lags: int | Sequence[int],
    columns: ArrayLike | Sequence[ArrayLike] | None = None,
    lagged: Sequence[Lagged] = (),
    column_names: Sequence[str] | None = None,
    steps: int = 1,
) -> LagGram:
    """Moments of y, its lags, fixed columns and lagged covariates, without the matrix of lags.

    Runs of rows take FFTs and a rank-two recursion; short runs, plain products. Values are centred first:
    moments of raw values of mean 1e6 would keep no digit.

    Parameters
    ----------
    y : array_like, shape (T,), or sequence of such
        The series, or its segments, which share no lags. NaN: not observed.
    lags : int or sequence of int
        Number of lags, or the lags themselves.
    columns : array_like, shape (T, k), or one for each segment, optional
        Predictors taken at the time of y: trend, season, events, covariates.
    lagged : sequence of Lagged, optional
        Covariates with lags.
    column_names : sequence of str, optional
        Names of the columns.
    steps : int
        Responses: y_t, ..., y_{t+steps-1}, all on the same rows.

    Returns
    -------
    LagGram
        Over the rows whose values are all observed.

    Raises
    ------
    ValueError
        If shapes, lags or names do not fit, or if no row is complete.

    References
    ----------
    Triebe et al. 2019; the recursion is that of the covariance method, Kay 1988, section 7.5.

    Examples
    --------
    >>> gram = lag_gram([1.0, 2.0, 4.0, 8.0, 16.0], 1)
    >>> gram.n_rows, gram.means.tolist(), gram.names
    (4, [7.5, 3.75], ('lag 1',))
    >>> gram.moments.round(10).tolist()
    [[115.0, 57.5], [57.5, 28.75]]
    """
    from hidamari.inference import _lags

    data = _read(y, lags, columns, lagged, column_names, steps)
    wanted = data.wanted
    # About a mean over everything, so that moments of segments add, and differ little from the final ones.
    centre = [observed_mean([series[i] for series, _ in data.segments]) for i in range(len(wanted))]
    k = data.segments[0][1].shape[1]
    centre_fixed = np.array([observed_mean([fixed[:, i] for _, fixed in data.segments]) for i in range(k)])
    spans = [int(w.max(initial=0) - w.min(initial=0)) for w in wanted]
    starts = np.concatenate([[0], np.cumsum(np.array(spans) + 1)])
    # Where each predictor stands among all lags of all series.
    at = np.concatenate(
        [w - w.min(initial=0) + i for w, i in zip(wanted, starts)] + [np.arange(k) + starts[-1]]
    )
    m = len(at)
    M: np.ndarray | None = None
    s, n_rows = np.zeros(m), 0
    for series, fixed in data.segments:
        usable = usable_rows(series, wanted, fixed)
        edges = np.flatnonzero(np.diff(usable, prepend=False, append=False)).reshape(-1, 2)
        series = [np.nan_to_num(z - c) for z, c in zip(series, centre)]
        fixed = np.nan_to_num(fixed - centre_fixed)
        n_rows += int(usable.sum())
        long = np.array([is_long(int(b - a), spans, m) for a, b in edges], dtype=bool)
        if long.any():
            moved = [shift(z, int(w.min(initial=0))) for z, w in zip(series, wanted)]
        for a, b in edges[long]:
            more, more_s = _lags.moments_by_fft(moved, spans, fixed, int(a), int(b))
            more = more if m == len(more) and np.all(np.diff(at) == 1) else more[np.ix_(at, at)]
            M = more if M is None else np.add(M, more, out=M)
            s += more_s[at]
        if not long.all():
            times = np.concatenate([np.arange(a, b) for a, b in edges[~long]])
            more, more_s = _lags.moments_by_rows(series, wanted, fixed, times)
            M = more if M is None else np.add(M, more, out=M)
            s += more_s
    if M is None or not n_rows:
        longest = max(int(w.max(initial=0)) for w in wanted)
        raise ValueError(f"y has no row with its predictors and all of its lags (up to {longest}) observed")
    about = np.concatenate([np.full(len(w), c) for w, c in zip(wanted, centre)] + [centre_fixed])
    _lags.take_means(M, s, n_rows)
    return LagGram(M, about + s / n_rows, n_rows, data.names, wanted[0][steps:])


class _Data(NamedTuple):
    """What was passed to `lag_gram`, checked."""

    segments: list[tuple[list[np.ndarray], np.ndarray]]  # of each: y and lagged series (T,), columns (T, k)
    wanted: list[np.ndarray]  # lags of y and of the lagged series; those of y begin with the responses
    names: tuple[str, ...]


def _read(
    y: ArrayLike | Sequence[ArrayLike],
    lags: int | Sequence[int],
    columns: ArrayLike | Sequence[ArrayLike] | None,
    lagged: Sequence[Lagged],
    column_names: Sequence[str] | None = None,
    steps: int = 1,
) -> _Data:
    """Check the data of a regression, and name its predictors."""
    own = as_lags("lags", lags, 1)
    if steps < 1:
        raise ValueError(f"steps is {steps}, but must be at least 1")
    segments = as_segments("y", y, 1)
    fixed = as_columns(columns, segments)
    names = [f"lag {i}" for i in own]
    sources, wanted = [segments], [np.concatenate([-np.arange(steps), own])]
    for item in lagged:
        what = f"lagged {item.name!r}"
        sources.append(as_segments(what, item.values, 1))
        check_lengths(what, sources[-1], segments)
        wanted.append(as_lags(f"lags of {what}", item.lags, 0))
        names += [f"{item.name} lag {i}" for i in wanted[-1]]
    k = fixed[0].shape[1]
    if column_names is not None and len(column_names) != k:
        raise ValueError(f"column_names has {len(column_names)} names, but columns has {k} columns")
    names += list(column_names) if column_names is not None else [f"column {i}" for i in range(k)]
    return _Data([(list(z), x) for z, x in zip(zip(*sources), fixed)], wanted, tuple(names))


def long_runs(
    y: ArrayLike | Sequence[ArrayLike],
    lags: int | Sequence[int],
    columns: ArrayLike | Sequence[ArrayLike] | None = None,
    lagged: Sequence[Lagged] = (),
) -> tuple[list[np.ndarray], int] | None:
    """Runs of observed values, where they are few and the predictors are hundreds of lags 1..p alone.

    Parameters
    ----------
    y, lags, columns, lagged
        As for :func:`lag_gram`.

    Returns
    -------
    (list of ndarray, int) or None
        Runs of more than p values with at least 2 p rows of them all together, and p.

    Examples
    --------
    >>> runs, p = long_runs(np.arange(2000.0), 300)
    >>> len(runs), p
    (1, 300)
    >>> long_runs(np.arange(2000.0), [1, 300]) is None
    True
    """
    data = _read(y, lags, columns, lagged)
    p = len(data.names)
    if p < _MANY or len(data.wanted) > 1 or not np.array_equal(data.wanted[0], np.arange(p + 1)):
        return None
    runs: list[np.ndarray] = []
    for (z,), _ in data.segments:
        edges = np.flatnonzero(np.diff(~np.isnan(z), prepend=False, append=False)).reshape(-1, 2)
        runs += [z[a:b] for a, b in edges if b - a > p]
    enough = sum(map(len, runs)) - p * len(runs) >= 2 * p
    return (runs, p) if enough and len(runs) <= _RUNS else None


def complete_rows(
    y: ArrayLike | Sequence[ArrayLike],
    lags: int | Sequence[int],
    columns: ArrayLike | Sequence[ArrayLike] | None = None,
    lagged: Sequence[Lagged] = (),
    chunk: int = 4096,
) -> Iterator[np.ndarray]:
    """The rows that `lag_gram` sums over, y first, then the predictors, a few thousand at a time.

    Parameters
    ----------
    y, lags, columns, lagged
        As for :func:`lag_gram`.
    chunk : int
        Most rows of a piece.

    Yields
    ------
    ndarray, shape (n, 1 + m)

    Examples
    --------
    >>> [rows.tolist() for rows in complete_rows([1.0, 2.0, 4.0], 1)]
    [[[2.0, 1.0], [4.0, 2.0]]]
    """
    from hidamari.inference import _lags

    data = _read(y, lags, columns, lagged)
    for series, fixed in data.segments:
        times = np.flatnonzero(usable_rows(series, data.wanted, fixed))
        for first in range(0, len(times), chunk):
            yield _lags.rows_of(series, data.wanted, fixed, times[first : first + chunk])


def add_grams(grams: Sequence[LagGram]) -> LagGram:
    """Moments of all rows of several: of segments, trials, or the series of a panel.

    With n = n_1 + n_2, the moments about the common mean are C_1 + C_2 + (n_1 n_2 / n) d d', d = mu_1 - mu_2.

    Parameters
    ----------
    grams : sequence of LagGram
        With the same predictors.

    Returns
    -------
    LagGram

    Raises
    ------
    ValueError
        If there are none, or if their predictors differ.

    Examples
    --------
    >>> both = add_grams([lag_gram([0.0, 1.0, 0.5], 1), lag_gram([1.0, 3.0, 2.0], 1)])
    >>> bool(np.allclose(both.moments, lag_gram([[0.0, 1.0, 0.5], [1.0, 3.0, 2.0]], 1).moments))
    True
    """
    if not grams:
        raise ValueError("grams is empty, but needs at least one")
    total = grams[0]
    for gram in grams[1:]:
        if gram.names != total.names or len(gram.means) != len(total.means):
            raise ValueError(f"grams have different predictors: {total.names} and {gram.names}")
        n = total.n_rows + gram.n_rows
        d = gram.means - total.means
        moments = total.moments + gram.moments + np.outer(d, d) * (total.n_rows * gram.n_rows / n)
        means = total.means + d * (gram.n_rows / n)
        total = LagGram(moments, means, n, total.names, total.lags)
    return total


def keep(gram: LagGram, predictors: ArrayLike, response: int = 0) -> LagGram:
    """Moments of some of the predictors, and of one of the responses.

    Parameters
    ----------
    gram : LagGram
        Of all.
    predictors : array_like of int or bool
        Which to keep.
    response : int
        Which response: y_{t + response}.

    Returns
    -------
    LagGram

    Examples
    --------
    >>> keep(lag_gram([1.0, 2.0, 4.0, 8.0, 9.0], 3), [0, 2]).names
    ('lag 1', 'lag 3')
    """
    of = np.arange(len(gram.names))[np.asarray(predictors)]
    at = np.concatenate([[response], gram.n_responses + of])
    lags = gram.lags[of[of < len(gram.lags)]]
    names = tuple(gram.names[i] for i in of)
    return LagGram(gram.moments[np.ix_(at, at)], gram.means[at], gram.n_rows, names, lags)
