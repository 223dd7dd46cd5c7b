"""Sequences of frames as arrays of one shape: laid side by side, standardised, and split for validation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hidamari.statespace.kernels import steps

__all__ = ["Aside", "Frames", "Scale", "choose", "hide", "lay_frames", "scale_of", "set_aside"]

_GROWTH = 1.25  # of the lengths that sequences are padded to, as in the core
_SHORTEST = 16
_MANY = 8  # sequences, of which some can be set aside whole
_HIDDEN = 0.3  # share of what was seen of them that is asked for


class Scale(NamedTuple):
    """What frames are measured from and in."""

    centre: np.ndarray  # (D,)
    spread: np.ndarray  # (D,)


class Frames(NamedTuple):
    """Sequences in one block; behind the end of each come frames that saw nothing and start a trial."""

    y: np.ndarray  # (n, T, D), standardised if real, 0 where nothing was seen
    inputs: np.ndarray  # (n, T, D) float32, as encoders read them, 0 where nothing was seen
    seen: np.ndarray  # (n, T, D) bool
    step: np.ndarray  # (n, T) int64, index into gaps, -1 where a trial starts
    gaps: np.ndarray  # (S,)
    lengths: np.ndarray  # (n,)


class Aside(NamedTuple):
    """What is learnt from, and what learning is judged by."""

    learn: Frames
    rest: Frames  # what an answer may use
    y: np.ndarray  # (m, T, D), what is asked for, and more
    asked: np.ndarray  # (m, T, D) bool


def scale_of(sequences: Sequence[np.ndarray], likelihood: str, shared: bool = False) -> Scale:
    """Centre and spread of every entry of a frame over all of its frames.

    Counts and yes-or-no data stay as they are: centre 0, spread 1.

    Parameters
    ----------
    sequences : sequence of ndarray (T_i, D)
        NaN: not observed.
    likelihood : str
        ``"gaussian"`` is standardised.
    shared : bool
        One spread for all entries, as for the pixels of an image; each entry has its own centre.

    Returns
    -------
    Scale

    Examples
    --------
    >>> import numpy as np
    >>> scale_of([np.array([[1.0], [3.0], [np.nan]])], "gaussian")
    Scale(centre=array([2.]), spread=array([1.]))
    """
    D = sequences[0].shape[1]
    if likelihood != "gaussian":
        return Scale(np.zeros(D), np.ones(D))
    rows = np.concatenate(sequences)
    seen = np.isfinite(rows)
    n = np.maximum(seen.sum(0), 1)
    centre = np.where(seen, rows, 0.0).sum(0) / n
    square = np.where(seen, (rows - centre) ** 2, 0.0).sum(0)
    if shared:
        square, n = np.full(D, square.sum()), np.full(D, max(int(seen.sum()), 1))
    spread = np.sqrt(square / n)
    return Scale(centre, np.where(spread > 0, spread, 1.0))  # an entry that never varies is its centre


def lay_frames(
    sequences: Sequence[np.ndarray], times: Sequence[np.ndarray], scale: Scale, likelihood: str
) -> Frames:
    """Lay sequences side by side, padded to one of a few lengths.

    Parameters
    ----------
    sequences : sequence of ndarray (T_i, D)
        NaN: not observed.
    times : sequence of ndarray (T_i,)
        Sorted times.
    scale : Scale
        What `scale_of` says of the sequences that were fitted.
    likelihood : str
        Encoders read real data as they are, counts by their roots, yes and no as 1 and -1.

    Returns
    -------
    Frames

    Examples
    --------
    >>> import numpy as np
    >>> y = [np.array([[1.0], [np.nan]]), np.array([[3.0]])]
    >>> found = lay_frames(y, [np.arange(2.0), np.arange(1.0)], scale_of(y, "gaussian"), "gaussian")
    >>> found.y[:, :2, 0].tolist(), found.step[:, :2].tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [[-1, 0], [-1, -1]])
    """
    lengths = np.array([len(own) for own in sequences])
    n, T, D = len(sequences), _padded(int(lengths.max())), sequences[0].shape[1]
    gaps, flat = steps(list(times))
    y, seen, step = np.zeros((n, T, D)), np.zeros((n, T, D), dtype=bool), np.full((n, T), -1)
    inside = np.arange(T) < lengths[:, None]
    step[inside] = flat
    rows = np.concatenate(sequences)
    known = np.isfinite(rows)
    seen[inside] = known
    y[inside] = np.where(known, (rows - scale.centre) / scale.spread, 0.0)
    return Frames(y, _inputs(y, seen, likelihood), seen, step, gaps, lengths)


def choose(frames: Frames, which: np.ndarray) -> Frames:
    """Some of the sequences, in the order given."""
    return frames._replace(
        y=frames.y[which],
        inputs=frames.inputs[which],
        seen=frames.seen[which],
        step=frames.step[which],
        lengths=frames.lengths[which],
    )


def hide(frames: Frames, share: float, rng: np.random.Generator) -> tuple[Frames, np.ndarray]:
    """Set a share of what was seen aside: whole frames where frames are missing whole, else single entries.

    Parameters
    ----------
    frames : Frames
        Sequences.
    share : float
        Of what was seen.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    rest : Frames
        What is left to answer from.
    asked : ndarray of bool, shape (n, T, D)
        What was set aside.

    Examples
    --------
    >>> import numpy as np
    >>> y = [np.arange(20.0)[:, None]]
    >>> whole = lay_frames(y, [np.arange(20.0)], scale_of(y, "gaussian"), "gaussian")
    >>> rest, asked = hide(whole, 0.2, np.random.default_rng(0))
    >>> bool((rest.seen | asked)[0, :20].all()), bool((rest.seen & asked).any())
    (True, False)
    """
    some, every = frames.seen.any(2), frames.seen.all(2)
    inside = np.arange(frames.y.shape[1]) < frames.lengths[:, None]
    lost = inside.sum() * frames.y.shape[2] - frames.seen.sum()
    whole = (inside & ~some).sum() * frames.y.shape[2] >= 0.5 * lost and (some == every).mean() > 0.5
    drawn = rng.random(some.shape + (1,) if whole else frames.seen.shape) < share
    asked = frames.seen & drawn
    rest = frames.seen & ~asked
    empty = np.where(rest, 1.0, 0.0)
    left = frames._replace(y=frames.y * empty, inputs=frames.inputs * empty.astype(np.float32), seen=rest)
    return left, asked


def set_aside(frames: Frames, share: float, rng: np.random.Generator) -> Aside:
    """Set a part of the sequences aside for validation, or a part of every sequence where they are few.

    Of sequences that are set aside an answer sees seven tenths, and is asked for the others.

    Parameters
    ----------
    frames : Frames
        All sequences.
    share : float
        Of the sequences, or of what was seen of each.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Aside

    Examples
    --------
    >>> import numpy as np
    >>> y = [np.arange(20.0)[:, None]] * 10
    >>> whole = lay_frames(y, [np.arange(20.0)] * 10, scale_of(y, "gaussian"), "gaussian")
    >>> aside = set_aside(whole, 0.2, np.random.default_rng(0))
    >>> len(aside.learn.y), len(aside.rest.y)
    (8, 2)
    """
    n = len(frames.y)
    if n < _MANY:
        rest, asked = hide(frames, share, rng)
        return Aside(rest, rest, frames.y, asked)
    count = min(max(1, round(share * n)), n - 1)
    order = rng.permutation(n)
    own = choose(frames, np.sort(order[:count]))
    rest, asked = hide(own, _HIDDEN, rng)
    return Aside(choose(frames, np.sort(order[count:])), rest, own.y, asked)


def _inputs(y: np.ndarray, seen: np.ndarray, likelihood: str) -> np.ndarray:
    """What encoders read."""
    if likelihood == "poisson":
        read = np.sqrt(y)
        read = read - read[seen].mean() if seen.any() else read
    elif likelihood == "bernoulli":
        read = 2.0 * y - 1.0
    else:
        read = y
    return np.where(seen, read, 0.0).astype(np.float32)


def _padded(n: int) -> int:
    """The next length of 16, 20, 25, 32, ..., each a quarter more than the last."""
    length = _SHORTEST
    while length < n:
        length = int(np.ceil(length * _GROWTH))
    return length
