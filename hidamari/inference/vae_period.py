r"""The period that sequences of frames share, if there is one.

Frames are turned into series: the leading principal components where frames are whole, else the entries that
vary most. Candidates are the peaks of their mean Lomb-Scargle periodogram and of what makes them harmonics,
and, of sequences so short that there are few, all periods. Each is judged by the evidence of

    k(tau) = [w_0 + sum_h w_h cos(2 pi h tau / period)] Matern(tau / lengthscale) + noise

on short windows of the series, against that of Matern kernels alone, which have red spectra.
"""

import numpy as np

from hidamari.inference.periodogram import peaks
from hidamari.inference.vae_data import Frames

__all__ = ["find_period"]

_SERIES = 8  # components or entries that are looked at
_WINDOWS = 300  # of them all
_ROWS = 48  # of a window
_CYCLES = 1.5  # least number in the longest sequence
_FEW = 400  # candidates, up to which all are tried
_NOISE = (0.003, 0.03, 0.2)  # share of the variance
_MARGIN = 0.02  # nats of evidence for each value by which a period must win


def find_period(frames: Frames, harmonics: int = 3, random_state: int = 0) -> float | None:
    """Period by which the evidence of sequences rises most, or None where no period raises it.

    Parameters
    ----------
    frames : Frames
        Sequences, as `lay_frames` gives them.
    harmonics : int
        Number of harmonics that a cycle has.
    random_state : int
        Of the windows that are looked at.

    Returns
    -------
    float or None
        In units of the times.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.vae_data import lay_frames, scale_of
    >>> rng, t = np.random.default_rng(0), np.arange(60.0)
    >>> y = [np.cos(2 * np.pi * (t / 13.3 + rng.uniform()))[:, None] for _ in range(10)]
    >>> y = [own + 0.3 * rng.standard_normal((60, 1)) for own in y]
    >>> frames = lay_frames(y, [t] * 10, scale_of(y, "gaussian"), "gaussian")
    >>> round(find_period(frames) or 0.0, 1)
    13.3
    """
    rng = np.random.default_rng(random_state)
    series = _series(frames)
    if not series:
        return None
    duration = max(float(np.ptp(t)) for t, _ in series)
    spacing = float(np.median(np.concatenate([np.diff(t) for t, _ in series])))
    if not (spacing > 0 and duration > 8 * spacing):
        return None
    shortest, longest = 4.0 * spacing, duration / _CYCLES
    fine = 1.0 / (8.0 * duration * harmonics)  # an eighth of a turn of the last harmonic over the longest
    if (1 / shortest - 1 / longest) / fine <= _FEW:
        tried = 1.0 / np.arange(1 / longest, 1 / shortest, fine)
    else:
        found = peaks(
            [(t, y[:, i]) for t, y in series[:_WINDOWS] for i in range(y.shape[1])], 1 / shortest, 6
        )
        tried = np.concatenate([1.0 / found, 2.0 / found, 3.0 / found]) if len(found) else np.zeros(0)
        tried = tried[(tried >= shortest) & (tried <= longest)]
    if not len(tried):
        return None
    windows = _windows(series, min(duration, max(_ROWS * spacing, 4.0 * float(np.median(tried)))), rng)
    gains = [_evidence(windows, harmonics, period, quick=True) for period in tried]
    best = float(tried[int(np.argmax(gains))])
    red = _evidence(windows, harmonics, None)
    best, value = _refined(windows, harmonics, best, fine)
    margin = _MARGIN * float(sum(np.isfinite(y).sum() for _, y in windows))
    if value <= red + margin:
        return None
    for divisor in (3, 2):  # a multiple of the period repeats too
        if best / divisor >= shortest:
            shorter, other = _refined(windows, harmonics, best / divisor, divisor * fine)
            if other > value - 0.5 * margin:
                return shorter
    return best


def _series(frames: Frames) -> list[tuple[np.ndarray, np.ndarray]]:
    """Times (T,) and values (T, R) of every sequence, of unit variance in all; of entries, R = 1."""
    gap = np.where(
        frames.step >= 0, frames.gaps[np.maximum(frames.step, 0)] if len(frames.gaps) else 0.0, 0.0
    )
    times = np.cumsum(gap, axis=1)
    some, every = frames.seen.any(2), np.asarray(frames.seen.all(2))
    rows = frames.y[every]
    if every.sum() > 0.8 * some.sum() and len(rows) > 2:
        centre = rows.mean(0)
        values, vectors = np.linalg.eigh(np.cov((rows - centre).T).reshape(rows.shape[1], -1))
        keep = np.flatnonzero(values > 1e-3 * values[-1])[::-1][:_SERIES]
        scores = (frames.y - centre) @ (vectors[:, keep] / np.sqrt(values[keep]))
        return [(t[at], z[at]) for t, z, at in zip(times, scores, every) if at.sum() > 2]
    count = frames.seen.sum((0, 1))
    mean = np.where(frames.seen, frames.y, 0.0).sum((0, 1)) / np.maximum(count, 1)
    square = np.where(frames.seen, (frames.y - mean) ** 2, 0.0).sum((0, 1)) / np.maximum(count, 1)
    entries = [d for d in np.argsort(-square, kind="stable")[:_SERIES] if square[d] > 0]
    z = (frames.y - mean) / np.sqrt(np.where(square > 0, square, 1.0))
    return [
        (t[at], own[at, d][:, None])
        for d in entries
        for t, own, at in zip(times, z, frames.seen[:, :, d])
        if at.sum() > 2
    ]


def _windows(series: list, span: float, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pieces of series, thinned, behind each other in blocks (W, m) and (W, m, R); NaN fills up."""
    R, pieces = series[0][1].shape[1], []
    for t, y in series:
        place = ((t - t[0]) // (1.0001 * span)).astype(int)
        for k in np.unique(place):
            at = np.flatnonzero(place == k)
            if len(at) > 2:
                at = np.sort(rng.choice(at, _ROWS, replace=False)) if len(at) > _ROWS else at
                pieces.append((t[at], y[at]))
    if len(pieces) > _WINDOWS:
        pieces = [pieces[i] for i in rng.choice(len(pieces), _WINDOWS, replace=False)]
    pieces.sort(key=lambda piece: len(piece[0]))
    blocks = []
    for start in range(0, len(pieces), 64):
        part = pieces[start : start + 64]
        m = len(part[-1][0])
        t, y = np.zeros((len(part), m)), np.full((len(part), m, R), np.nan)
        for i, (own, values) in enumerate(part):
            t[i, : len(own)], y[i, : len(own)] = own, values
        blocks.append((t, y))
    return blocks


def _evidence(windows: list, harmonics: int, period: float | None, quick: bool = False) -> float:
    """Log evidence of all windows, of each component under the best of a few lengthscales and noises."""
    spans = np.array([np.ptp(t, axis=1).max() for t, _ in windows])
    span = float(spans.max())
    if quick:
        options = [(2.0 * span, 0.1)]
    elif period is None:
        options = [(own, r) for own in span * np.geomspace(0.01, 3.0, 9) for r in _NOISE]
    else:
        options = [(own * span, r) for own in (0.5, 2.0, 20.0) for r in _NOISE]
    # Without a period, Matern kernels of two orders; with one, cycles of many harmonics and of few.
    forms = (0, 1) if period is None else (1.0,) if quick else (1.0, 0.3)
    square = np.zeros((len(options) * len(forms), windows[0][1].shape[2]))
    log_det, count = np.zeros((len(square), 1)), 0
    for t, y in windows:
        seen = np.isfinite(y[:, :, 0])
        both = seen[:, :, None] & seen[:, None, :]
        eye = np.eye(t.shape[1])
        z = np.where(seen[..., None], y, 0.0)
        tau = np.abs(t[:, :, None] - t[:, None, :])
        waves = [1.0 if period is None else _wave(tau, period, harmonics, form) for form in forms]
        row = 0
        for own, r in options:
            for form, wave in zip(forms, waves):
                order = form if period is None else 1
                u = tau / own * (1.0 if order == 0 else np.sqrt(3.0))
                K = np.exp(-u) * (1.0 if order == 0 else 1.0 + u) * wave
                K = np.where(both, (1 - r) * K, 0.0) + eye * np.where(seen, r, 1.0)[:, :, None]
                low = np.linalg.cholesky(K)
                x = np.linalg.solve(low, z)
                square[row] += (x**2).sum((0, 1))
                log_det[row] += np.log(np.diagonal(low, axis1=1, axis2=2)).sum()
                row += 1
        count += int(seen.sum())
    # The scale of each component is the one that suits it.
    return float((-0.5 * count * np.log(np.maximum(square, 1e-300) / count) - log_det).max(0).sum())


def _wave(tau: np.ndarray, period: float, harmonics: int, fall: float) -> np.ndarray:
    """The mean of 1, cos x, fall cos 2x, ..., fall^(h - 1) cos hx, by Chebyshev's recursion."""
    first = np.cos(2 * np.pi / period * tau)
    last, now, total = np.ones_like(tau), first, 1.0 + first
    for h in range(1, harmonics):
        last, now = now, 2 * first * now - last
        total += fall**h * now
    return total / (1.0 + sum(fall**h for h in range(harmonics)))


def _refined(windows: list, harmonics: int, period: float, fine: float) -> tuple[float, float]:
    """The period of the highest evidence near one, by golden sections of the frequency."""
    low, high = 1 / period - fine, 1 / period + fine
    ratio = 0.5 * (np.sqrt(5.0) - 1.0)
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = (_evidence(windows, harmonics, 1 / f) for f in (a, b))
    for _ in range(9):
        if at_a > at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = _evidence(windows, harmonics, 1 / a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = _evidence(windows, harmonics, 1 / b)
    return (float(1 / a), at_a) if at_a > at_b else (float(1 / b), at_b)
