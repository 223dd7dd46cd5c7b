"""Compiled loops over entries: averages of log likelihoods over eta ~ N(m, v).

All arrays are flat, contiguous and float64; an entry whose y is NaN gives zeros. Every entry is computed
alone, so that cutting the data into chunks changes no bit.

Counts of the exponential family with a logit are one function here: y log sigma(x) + f log sigma(-x), where
x = eta less a shift and f is n - y for the binomial and r for the negative binomial. An infinite f means
Poisson, y x - e^x.

Rules of quadrature. The logistic function has poles at +-i pi. For v <= 1 a Gauss-Hermite rule of 24 nodes is
right to 1e-10. For larger v any fixed rule fails, whereas the trapezoidal rule with nodes 0.75 apart in eta
keeps its error near exp(-2 pi^2 / 0.75), whatever v is. Student's t has poles much closer to the axis and is
a scale mixture instead, so that the average over eta is closed and what is left is one smooth integral.
"""

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["log_marginal", "log_marginal_t", "logistic", "poisson", "student"]

_z, _w = np.polynomial.hermite_e.hermegauss(24)
_NODES, _WEIGHTS = _z, _w / _w.sum()
_GRID = 0.75  # distance of the trapezoidal nodes in eta
_REACH = 6.5  # standard deviations kept on each side: 1e-10 of the mass is left out
_LANES = 8  # rounds the number of nodes up, which keeps the loops free of scalar remainders
_FLAGS = {"contract"}


@intrinsic
def _as_float(typing_context, bits):
    """The float64 that an int64's bits are."""

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FLAGS, forceinline=True)
def _exp(x) -> float:
    """e^x to 4e-16 without a branch or call, so that loops vectorise; inf from 709.4, e^-708 below -708."""
    x = min(max(x, -708.0), 710.0)
    k = math.floor(x * 1.4426950408889634 + 0.5)
    r = x - k * 6.93145751953125e-1  # log 2 in two parts: the first times k is exact
    r = r - k * 1.42860682030941723212e-6
    r2 = r * r
    r4 = r2 * r2
    a = (1.0 + r) + r2 * (1.0 / 2.0 + r * (1.0 / 6.0))
    b = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0))
    c = (1.0 / 40320.0 + r * (1.0 / 362880.0)) + r2 * (1.0 / 3628800.0 + r * (1.0 / 39916800.0))
    d = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0)
    scale = _as_float((np.int64(k) + 1023) << 52)  # pyright: ignore[reportCallIssue]
    return (a + r4 * (b + r4 * (c + r4 * d))) * scale


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FLAGS, forceinline=True)
def _two_atanh(s):
    """2 atanh(s) = log((1 + s) / (1 - s)) to 6e-16 for 0 <= s <= 1/3."""
    q = s * s
    q2 = q * q
    q4 = q2 * q2
    a = (1.0 + q * (1.0 / 3.0)) + q2 * (1.0 / 5.0 + q * (1.0 / 7.0))
    b = (1.0 / 9.0 + q * (1.0 / 11.0)) + q2 * (1.0 / 13.0 + q * (1.0 / 15.0))
    c = (1.0 / 17.0 + q * (1.0 / 19.0)) + q2 * (1.0 / 21.0 + q * (1.0 / 23.0))
    d = (1.0 / 25.0 + q * (1.0 / 27.0)) + q2 * (1.0 / 29.0 + q * (1.0 / 31.0))
    return 2.0 * s * (a + q4 * (b + q4 * (c + q4 * d)))


@njit(cache=True, nogil=True, error_model="numpy")
def poisson(y, m, v, log_exposure, value, alpha, beta):
    """Fill E = y x - e^(x + v/2), dE/dm and -2 dE/dv, where x = m + log_exposure."""
    for i in range(y.size):
        x = m[i] + log_exposure
        rate = _exp(x + 0.5 * v[i])
        seen = not math.isnan(y[i])
        value[i] = y[i] * x - rate if seen else 0.0
        alpha[i] = y[i] - rate if seen else 0.0
        beta[i] = rate if seen else 0.0


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def logistic(y, f, x0, v, value, alpha, beta):
    """Fill E[y log sigma(x) + f log sigma(-x)], x ~ N(x0, v), with dE/dx0 and -2 dE/dv."""
    size = 64
    xs, ws = np.empty(size), np.empty(size)
    for i in range(y.size):
        if math.isnan(y[i]):
            value[i] = alpha[i] = beta[i] = 0.0
            continue
        mean, s = x0[i], math.sqrt(v[i])
        if not math.isfinite(mean + s):
            value[i] = alpha[i] = beta[i] = math.nan
            continue
        gauss = v[i] <= 1.0
        first, count = 0, _NODES.size
        if not gauss:
            # e^x times a normal density is centred s deviations away, up to where the logistic saturates:
            # y or f can be so large that this far side is what counts.
            low = -(_REACH + min(s, max(mean, 0.0) / s)) * s / _GRID
            high = (_REACH + min(s, max(-mean, 0.0) / s)) * s / _GRID
            first = math.floor(low)
            count = (math.ceil(high) - first + _LANES) // _LANES * _LANES
        below = above = soft = up = down = slope = 0.0
        for start in range(0, count, size):
            n = min(size, count - start)
            if gauss:
                for k in range(n):
                    xs[k] = mean + s * _NODES[k]
                    ws[k] = _WEIGHTS[k]
            else:
                for k in range(n):
                    step = (first + start + k) * _GRID
                    xs[k] = mean + step
                    ws[k] = _GRID / (s * math.sqrt(2.0 * math.pi)) * _exp(-0.5 * (step / s) ** 2)
            for k in range(n):
                x, w = xs[k], ws[k]
                e = _exp(-abs(x))
                d = 1.0 / ((1.0 + e) * (2.0 + e))
                near = d * (2.0 + e)  # 1 / (1 + e)
                far = e * near
                soft += w * _two_atanh(e * d * (1.0 + e))  # log(1 + e), with s = e / (2 + e)
                # kept apart: f can be so large that the error of the weights' sum would show
                below += w * min(x, 0.0)
                above += w * max(x, 0.0)
                up += w * (near if x >= 0.0 else far)
                down += w * (far if x >= 0.0 else near)
                slope += w * (near * far)
        total = y[i] + f[i]
        value[i] = y[i] * below - f[i] * above - total * soft
        alpha[i] = y[i] * down - f[i] * up
        beta[i] = total * slope


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FLAGS, forceinline=True)
def _log_poisson(y, x) -> float:
    """Log of a Poisson probability without its constant."""
    return y * x - _exp(x)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FLAGS, forceinline=True)
def _log_logistic(y, f, x) -> float:
    """y log sigma(x) + f log sigma(-x); min and max by the absolute value, which vectorises."""
    size = abs(x)
    e = _exp(-size)
    return 0.5 * (y * (x - size) - f * (x + size)) - (y + f) * _two_atanh(e / (2.0 + e))


@njit(cache=True, nogil=True, error_model="numpy")
def _derivatives(y, f, x) -> tuple[float, float]:
    """Derivative of the log likelihood in x, and minus the second derivative."""
    if math.isinf(f):
        e = _exp(x)
        return y - e, e
    e = _exp(-abs(x))
    near = 1.0 / (1.0 + e)
    far = e * near
    up, down = (near, far) if x >= 0.0 else (far, near)
    return y * down - f * up, (y + f) * near * far


@njit(cache=True, nogil=True, error_model="numpy")
def _mode(y, f, x0, s) -> tuple[float, float]:
    """Mode and width of g(z) = log p(y | x0 + s z) - z^2 / 2, which is concave: Newton between brackets."""
    # first guess: a Gaussian likelihood at the maximum for half a count more
    if math.isinf(f):
        peak, precision = math.log(y + 0.5), y + 0.5
    else:
        peak, precision = math.log((y + 0.5) / (f + 0.5)), (y + 0.5) * (f + 0.5) / (y + f + 1.0)
    z = s * precision * (peak - x0) / (1.0 + s * s * precision)
    low, high = -math.inf, math.inf
    while True:
        slope, curvature = _derivatives(y, f, x0 + s * z)
        gradient = s * slope - z
        width = 1.0 / math.sqrt(1.0 + s * s * curvature)
        step = gradient * width * width
        if gradient > 0.0:
            low = z
        elif gradient < 0.0:
            high = z
        if gradient == 0.0 or (abs(step) <= 0.05 * width and width > 0.0):
            return z, width
        new = z + step
        if not low < new < high:
            if high == math.inf:
                new = z + 1.0 + abs(z)
            elif low == -math.inf:
                new = z - 1.0 - abs(z)
            else:
                new = 0.5 * (low + high)
        if new in (z, low, high):
            return z, width  # no number lies between
        z = new


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def log_marginal(y, f, x0, v, out):
    """Fill log E[exp(y log sigma(x) + f log sigma(-x))], x ~ N(x0, v): trapezoids outwards from the mode."""
    for i in range(y.size):
        if math.isnan(y[i]):
            out[i] = 0.0
            continue
        a, b, s = y[i], f[i], math.sqrt(v[i])
        poisson_like = math.isinf(b)
        z0, width = 0.0, 1.0
        if not math.isfinite(x0[i] + s):
            out[i] = math.nan
            continue
        if s > 0.0:
            z0, width = _mode(a, b, x0[i], s)
        mode = x0[i] + s * z0
        peak = _log_poisson(a, mode) if poisson_like else _log_logistic(a, b, mode)
        top = peak - 0.5 * z0 * z0
        if s == 0.0 or abs(top) > 1e13:
            # Nothing to average; or rounding of the terms would drown their differences, and then the value
            # at the mode drowns the shape of the integrand.
            out[i] = top + math.log(width)
            continue
        h = 0.6 * width
        if s * h > 0.35:
            h = 0.35 / s
        total = 0.0
        if poisson_like:  # 32 nodes are enough for a Gaussian shape, and vectorise
            for k in range(-16, 16):
                z = k * h
                total += _exp(_log_poisson(a, mode + s * z) - peak - z * (z0 + 0.5 * z))
        else:
            for k in range(-16, 16):
                z = k * h
                total += _exp(_log_logistic(a, b, mode + s * z) - peak - z * (z0 + 0.5 * z))
        for z, step in ((-16.0 * h, -h), (15.0 * h, h)):
            term = total
            while term > 1e-17 * total:
                z += step
                x = mode + s * z
                value = _log_poisson(a, x) if poisson_like else _log_logistic(a, b, x)
                term = _exp(value - peak - z * (z0 + 0.5 * z))
                total += term
        out[i] = top + math.log(total * h / math.sqrt(2.0 * math.pi))


_STEP = 0.3  # of u = log t; the integrands are analytic for |Im u| < pi / 2, hence the error exp(-pi^2 / 0.3)
_TIMES = np.exp(math.log(40.0) - _STEP * np.arange(2400))
_DECAY = _STEP * np.exp(-_TIMES)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def student(d, v, log1p_q, slope, weight):
    """Fill E[log(1 + x^2)], E[x / (1 + x^2)] and E[1 / (1 + x^2)] for x ~ N(d, v).

    With M(t) = E[exp(-t x^2)] = r^(1/2) exp(-t r d^2), r = 1 / (1 + 2 v t), they are the integrals over t of
    (1 - M) e^-t / t, r d M e^-t and M e^-t. The trapezoidal rule in log t goes down to where the integrands
    are linear in t; the rest is a geometric series.
    """
    ratio = _STEP / math.expm1(_STEP)
    for i in range(d.size):
        square = d[i] * d[i]
        if not math.isfinite(square + v[i]):
            log1p_q[i] = slope[i] = weight[i] = math.nan
            continue
        n = math.ceil(math.log(40e6 * (1.0 + square + v[i])) / _STEP)
        n = min((n + _LANES) // _LANES * _LANES, _TIMES.size)
        logs = slopes = weights = 0.0
        for k in range(n):
            t = _TIMES[k]
            r = 1.0 / (1.0 + 2.0 * v[i] * t)
            m = math.sqrt(r) * _exp(-square * (t * r))
            logs += _DECAY[k] * (1.0 - m)
            weights += _DECAY[k] * (t * m)
            slopes += _DECAY[k] * (t * m * r)
        rest = ratio * _TIMES[n - 1]
        log1p_q[i] = logs + rest * (square + v[i])
        slope[i] = d[i] * (slopes + rest)
        weight[i] = weights + rest


@njit(cache=True, nogil=True, error_model="numpy")
def log_marginal_t(d, v, q, out):
    """Fill log E[(1 + x^2)^-q], x ~ N(d, v): the integral of t^(q-1) e^-t M(t) / Gamma(q)."""
    for i in range(d.size):
        square = d[i] * d[i]
        if not math.isfinite(square + v[i]):
            out[i] = math.nan
            continue
        root = math.sqrt(q[i])
        h = min(_STEP, 0.7 / root)
        high = math.log(q[i] + 9.0 * root + 40.0)
        low = math.log(q[i] / (1.0 + square + 2.0 * v[i] * q[i])) - 40.0 / q[i] - 9.0 / root
        top, total = -math.inf, 0.0
        for k in range(math.ceil((high - low) / h)):
            t = math.exp(high - k * h)
            r = 1.0 / (1.0 + 2.0 * v[i] * t)
            term = q[i] * (high - k * h) - t + 0.5 * math.log(r) - t * r * square
            if term > top:
                total *= math.exp(top - term)
                top = term
            total += math.exp(term - top)
        out[i] = top + math.log(total * h) - math.lgamma(q[i])
