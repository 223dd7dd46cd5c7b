"""How sure the coefficients of an autoregression are: draws from their posterior, and robust errors."""

from typing import Any

import numpy as np
from scipy.signal import lfilter

from hidamari.inference.ar_horseshoe import sample_horseshoe
from hidamari.inference.autoregression import fit_exact
from hidamari.inference.lags import lag_gram
from hidamari.inference.robust_errors import robust_covariance
from hidamari.models._ar_series import hear, laws

__all__ = ["drawn_coefficients", "robust_errors"]


def drawn_coefficients(model: Any, output: int, **arguments: Any) -> Any:
    """Draws under a horseshoe of all lags of one output, and of columns that drive it."""
    series, driven = _regression(model, output)
    gram = lag_gram(series, model.lags_.tolist(), driven)
    if driven is not None:
        names = tuple(str(name) for name in model.coef_names_)
        gram = gram._replace(names=names)
    tree = sample_horseshoe(gram, **arguments)
    tree.attrs["output"] = str(model.output_names_[output])
    return tree


def robust_errors(model: Any) -> np.ndarray:
    """Standard errors for noise whose variance changes, or that is correlated, (output, coefficient)."""
    if (model.noise_ > 0.0).any():
        raise ValueError("errors 'hac' is for least squares; allowed with measurement noise: 'model'")
    m, found = len(model.lags_), np.zeros_like(model.coef_)
    for n in range(len(model.coef_)):
        u, x = _regression(model, n)
        on = model.support_[n]
        used = np.flatnonzero(on[:m]), np.flatnonzero(on[m:])
        part = None if x is None else [own[:, used[1]] for own in x]
        at = np.append(used[0], m + used[1]) if x is not None else used[0]
        found[n, at] = _sandwich(u, model.lags_[used[0]].tolist(), part)
        if x is None and on[m:].any():
            law = laws(model)[n]
            a = np.append(1.0, -law.weights)
            # Columns of regression errors are told by the series and the columns both filtered alike.
            parts = hear(model)[1][n]
            inputs = [_filtered(own.x[:, used[1]], a) for own in parts]
            left = [
                _filtered(own.u[:, None] + own.x[:, used[1]] @ law.outer[used[1], None], a)[:, 0]
                for own in parts
            ]
            found[n, m + used[1]] = _sandwich(left, [], inputs)
    return found


def _regression(model: Any, output: int) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Segments about their mean, and the columns that drive them."""
    parts = hear(model)[1][output]
    x = [part.x for part in parts]
    drives = model.exog_mode == "arx" and x[0].shape[1] > 0
    return [part.u for part in parts], x if drives else None


def _sandwich(u: list[np.ndarray], lags: list[int], x: list[np.ndarray] | None) -> np.ndarray:
    """Robust standard errors of least squares, with as many lags as the scores ask for."""
    return np.sqrt(np.diag(robust_covariance(fit_exact(u, lags, x), u, x, n_lags=None))[1:])


def _filtered(z: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Rows after the filter, NaN where one of their values is missing."""
    found = np.array(lfilter(a, [1.0], np.nan_to_num(z), axis=0))
    lost = np.array(lfilter((a != 0.0).astype(float), [1.0], np.isnan(z).astype(float), axis=0)) > 0.5
    found[lost] = np.nan
    found[: len(a) - 1] = np.nan
    return found
