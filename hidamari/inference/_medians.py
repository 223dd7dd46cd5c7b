"""Compiled running medians of eleven rows, and counts behind the median of many numbers."""

from numba import njit

__all__ = ["bracket", "clip", "running_medians"]

# Without NaN the smaller of two is one instruction on several numbers at a time.
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"nnan", "nsz"}}


@njit(**_OPTIONS, inline="always")
def _sorted(a, b):
    """The smaller, the larger."""
    return (a if a < b else b), (b if a < b else a)


@njit(**_OPTIONS)
def running_medians(padded, d, out):
    """Fill out (n d,) with the medians of rows t - 5 to t + 5; padded ((n + 10) d,) holds them row by row.

    Of seven of eleven numbers neither the smallest nor the largest is the median: both go, and another comes
    in, until one is left. The same steps for every entry, so that several are worked on at a time.
    """
    for i in range(len(out)):
        a, b, c, e = padded[i], padded[i + d], padded[i + 2 * d], padded[i + 3 * d]
        f, g, h = padded[i + 4 * d], padded[i + 5 * d], padded[i + 6 * d]
        # Seven: the smallest to a, the largest to h.
        a, h = _sorted(a, h)
        b, g = _sorted(b, g)
        c, f = _sorted(c, f)
        a, b = _sorted(a, b)
        g, h = _sorted(g, h)
        a, c = _sorted(a, c)
        f, h = _sorted(f, h)
        a, e = _sorted(a, e)
        e, h = _sorted(e, h)
        # Six.
        h = padded[i + 7 * d]
        b, h = _sorted(b, h)
        c, g = _sorted(c, g)
        e, f = _sorted(e, f)
        b, c = _sorted(b, c)
        g, h = _sorted(g, h)
        b, e = _sorted(b, e)
        f, h = _sorted(f, h)
        # Five.
        h = padded[i + 8 * d]
        c, h = _sorted(c, h)
        e, g = _sorted(e, g)
        c, e = _sorted(c, e)
        g, h = _sorted(g, h)
        c, f = _sorted(c, f)
        f, h = _sorted(f, h)
        # Four.
        h = padded[i + 9 * d]
        e, h = _sorted(e, h)
        f, g = _sorted(f, g)
        e, f = _sorted(e, f)
        g, h = _sorted(g, h)
        # Three.
        h = padded[i + 10 * d]
        f, g = _sorted(f, g)
        g, h = _sorted(g, h)
        f, g = _sorted(f, g)
        out[i] = g


@njit(cache=True, nogil=True, error_model="numpy")
def bracket(x, around, low, high, counts, held):
    """Count of each column which |x - around| (n, d) are below low (d,), up to high, and seen at all.

    counts (3, d); those between low and high go to held (d, room), as far as there is room. No
    branches, which would be taken at random.
    """
    room = held.shape[1]
    counts[:] = 0
    for t in range(x.shape[0]):
        for k in range(x.shape[1]):
            v = abs(x[t, k] - around[t, k])
            counts[0, k] += v < low[k]
            held[k, min(counts[1, k], room - 1)] = v
            counts[1, k] += (v >= low[k]) & (v <= high[k])
            counts[2, k] += v == v


@njit(cache=True, nogil=True, error_model="numpy")
def clip(x, around, limit):
    """Overwrite around by x, pulled back to at most limit (d,) from it; what stays is as it came."""
    for t in range(x.shape[0]):
        for k in range(x.shape[1]):
            off = x[t, k] - around[t, k]
            pulled = around[t, k] + (limit[k] if off > 0.0 else -limit[k])
            around[t, k] = pulled if abs(off) > limit[k] else x[t, k]
