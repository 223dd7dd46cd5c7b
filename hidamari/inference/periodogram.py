r"""Lomb-Scargle periodograms of long irregular series, and the frequencies that stand out of them.

With weights 1 for what was observed and sums over rows, Y(w) = sum y e^{-iwt}, the power at w is

    [Re(Y e^{iw tau})]^2 / sum cos^2 w(t - tau) + [Im(Y e^{iw tau})]^2 / sum sin^2 w(t - tau),   all over 2,

where tan 2w tau = sum sin 2wt / sum cos 2wt. All four sums come from fast Fourier transforms of the rows put
on a grid several times finer than the highest frequency needs, so that the cost is O(T log T) (Press and
Rybicki 1989). Good for starts, where a percent of power does not matter.
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["lomb_scargle", "peaks"]

_FINE = 16  # grid points in a period of the highest frequency: the nearest is off by 1/32 of a cycle at most
_LONGEST = 2**22  # points of a grid: 0.3 s
_OVERSAMPLING = 2  # frequencies in each 1 / duration


def lomb_scargle(times: np.ndarray, y: np.ndarray, highest: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies above zero up to `highest`, and the Lomb-Scargle power of y less its mean.

    Parameters
    ----------
    times, y : ndarray (T,)
        Seconds, and values; NaN is left out.
    highest : float
        In Hz. Lowered where the duration is so long that the grid would not fit 2^22 points.

    Returns
    -------
    frequency, power : ndarray (F,)
        Multiples of half of 1 / duration; power as `scipy.signal.lombscargle` scales it.

    References
    ----------
    W. H. Press and G. B. Rybicki, Fast algorithm for spectral analysis of unevenly sampled data,
    Astrophysical Journal 338, 1989.

    Examples
    --------
    >>> t = np.sort(np.random.default_rng(0).uniform(0, 100, 300))
    >>> frequency, power = lomb_scargle(t, np.sin(2 * np.pi * 0.4 * t), 1.0)
    >>> round(float(frequency[np.argmax(power)]), 2)
    0.4
    """
    seen = ~np.isnan(y)
    times, y = times[seen], y[seen]
    duration = float(np.ptp(times)) if len(times) > 2 else 0.0
    if not duration > 0.0:
        return np.zeros(0), np.zeros(0)
    highest = min(highest, _LONGEST / (_FINE * _OVERSAMPLING * duration))
    count = int(highest * _OVERSAMPLING * duration)
    if count < 1:
        return np.zeros(0), np.zeros(0)
    from scipy.fft import next_fast_len

    size: int = next_fast_len(_FINE * count, True)  # type: ignore[assignment]
    # one period of the transform is `_OVERSAMPLING` durations long
    place = np.rint((times - times.min()) * (size / (_OVERSAMPLING * duration))).astype(np.int64)
    k = np.arange(1, count + 1)
    Y = np.fft.rfft(np.bincount(place, y - y.mean(), size))[k]
    twice = np.fft.rfft(np.bincount(place, minlength=size).astype(float))[2 * k]
    # with W(2w) = |W| e^{-i angle}, the sums about tau are (T +- |W|) / 2
    turn = np.exp(-0.5j * np.angle(twice))
    n, size_two = float(len(y)), np.abs(twice)
    turned = Y * turn
    cosines, sines = 0.5 * (n + size_two), 0.5 * (n - size_two)
    # at frequencies where all rows are in phase there is no sine part
    part = np.divide(turned.imag**2, sines, out=np.zeros(count), where=sines > 1e-8 * n)
    return k / (_OVERSAMPLING * duration), 0.5 * (turned.real**2 / cosines + part)


def peaks(series: Sequence[tuple[np.ndarray, np.ndarray]], highest: float, n: int) -> np.ndarray:
    """Up to n frequencies at which the mean periodogram stands out most from its surroundings.

    The periodogram is averaged over the series and over neighbours, and divided by its median between half
    and twice each frequency, so that the foot of a steep spectrum is no peak.

    Parameters
    ----------
    series : sequence of (times, y)
        Each one (T,), (T,).
    highest : float
        In Hz.
    n : int
        How many.

    Examples
    --------
    >>> t = np.arange(2000) * 0.05
    >>> y = np.sin(2 * np.pi * 0.7 * t) + 0.8 * np.sin(2 * np.pi * 3.1 * t)
    >>> np.sort(peaks([(t, y)], 10.0, 2)).round(2).tolist()
    [0.7, 3.1]
    """
    tables = [table for t, y in series if len((table := lomb_scargle(t, y, highest))[0]) > 4]
    if not tables or n < 1:
        return np.zeros(0)
    frequency = max(tables, key=lambda table: len(table[0]))[0]
    power = np.zeros(len(frequency))
    for own, value in tables:
        power += np.interp(frequency, own, value)
    found: list[tuple[float, float]] = []
    for width in (1, 5, 21):  # lines, and humps that a single width would miss
        if width > len(frequency) // 4 and width > 1:
            break
        smooth = _smooth(power, width)
        contrast = smooth / _surroundings(smooth)
        inner = contrast[1:-1]
        top = 1 + np.flatnonzero((inner >= contrast[:-2]) & (inner > contrast[2:]))
        # noise peaks fade with the width: count them in its own deviations, the log of exponentials averaged
        found += [(float(np.log(contrast[i]) * np.sqrt(width)), float(frequency[i])) for i in top]
    chosen: list[float] = []
    for _, value in sorted(found, reverse=True):
        if all(abs(np.log(value / other)) > 0.15 for other in chosen):
            chosen.append(value)
        if len(chosen) == n:
            break
    return np.array(chosen)


def _smooth(power: np.ndarray, width: int) -> np.ndarray:
    """Moving average over a triangle of twice the width, shorter at the ends."""
    window = np.bartlett(2 * width + 1)
    total = np.convolve(power, window, mode="same")[: len(power)]
    return total / np.convolve(np.ones(len(power)), window, mode="same")[: len(power)]


def _surroundings(power: np.ndarray) -> np.ndarray:
    """The median of the power between half and twice each frequency, at octaves, interpolated."""
    n = len(power)
    at = np.unique(np.geomspace(1, n, max(3, 4 * int(np.log2(n)))).astype(int))
    medians = [np.median(power[max(0, i // 2 - 1) : min(n, 2 * i)]) for i in at]
    tiny = np.finfo(float).tiny
    return np.exp(np.interp(np.log(np.arange(1, n + 1)), np.log(at), np.log(np.maximum(medians, tiny))))
