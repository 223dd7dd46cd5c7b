r"""Intervals of forecasts from the errors that forecasts have made.

The error of h steps ahead is the moving average e_t + psi_1 e_{t-1} + ... + psi_{h-1} e_{t-h+1} of the
errors of one step: those of all rows and steps are had in one pass. Their quantiles, step by step, make
intervals that hold what they say of noise of any law, if the future is like the past.

References
----------
V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005.
"""

import numpy as np

from hidamari.inference.forecast import impulse_response

__all__ = ["error_quantiles", "multi_step_errors"]


def multi_step_errors(errors: np.ndarray, weights: np.ndarray, steps: int) -> np.ndarray:
    r"""Errors of recursive forecasts of every number of steps, of all rows, from those of one step.

    Parameters
    ----------
    errors : ndarray, shape (T,)
        Of one step; NaN where unknown.
    weights : ndarray, shape (p,)
        w of lags 1..p.
    steps : int
        Most steps ahead.

    Returns
    -------
    ndarray, shape (steps, T)
        [h - 1, t]: of row t, forecast h steps before; NaN where one of the errors in it is unknown.

    Examples
    --------
    >>> multi_step_errors(np.array([1.0, 2.0, 4.0]), [0.5], 2).tolist()
    [[1.0, 2.0, 4.0], [nan, 2.5, 5.0]]
    """
    psi = impulse_response(weights, steps)
    found = np.full((steps, len(errors)), np.nan)
    total = np.zeros(len(errors))
    for h in range(min(steps, len(errors))):
        total = total[1:] if h else total
        total = total + psi[h] * errors[: len(errors) - h]
        found[h, h:] = total
    return found


def error_quantiles(errors: np.ndarray, levels: np.ndarray, inflate: float = 1.0) -> np.ndarray:
    r"""Quantiles of the errors of each step.

    For a level above one half the ceil((n + 1) level)-th smallest of n errors, mirrored below: the next error
    of an exchangeable sequence lies beyond with at most the probability asked for.

    Parameters
    ----------
    errors : ndarray, shape (steps, n)
        NaN: not known.
    levels : ndarray, shape (q,)
        Probabilities.
    inflate : float
        What errors of a fit are stretched by, for coefficients that were learnt from them.

    Returns
    -------
    ndarray, shape (steps, q)
        Infinite where there are too few errors for a level; the median of none is 0.

    Examples
    --------
    >>> error_quantiles(np.arange(1.0, 10.0)[None], np.array([0.1, 0.5, 0.9, 0.95])).tolist()
    [[1.0, 5.0, 9.0, inf]]
    """
    found = np.empty((len(errors), len(levels)))
    for h, own in enumerate(errors):
        known = np.sort(own[np.isfinite(own)])
        n = len(known)
        padded = np.concatenate([[-np.inf], known, [np.inf]])
        for i, level in enumerate(levels):
            if level == 0.5:
                found[h, i] = np.median(known) if n else 0.0
            else:
                # Exact in ranks: 0.9 times 10 is 9, whatever its last digit.
                place = (n + 1) * max(level, 1.0 - level)
                rank = int(min(np.ceil(place - 1e-9 * place), n + 1))
                found[h, i] = padded[rank if level > 0.5 else n + 1 - rank]
    return inflate * found
