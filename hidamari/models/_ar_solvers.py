"""From the arguments of an autoregression to the function that fits it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hidamari.inference.autoregression import ARFit, fit_exact
from hidamari.inference.lags import lag_gram

__all__ = ["chooser"]


def chooser(model: Any, lags: np.ndarray, n_columns: int) -> tuple[str, Callable[[Any, Any], ARFit]]:
    """Name of the solver, and the solver: segments and columns to a fit of all candidates."""
    automatic = isinstance(model.n_lags, str)
    penalty = ("l1" if automatic else None) if model.penalty == "auto" else model.penalty
    solver = ("exact" if penalty is None else "sparse") if model.solver == "auto" else model.solver
    if solver == "sparse" and penalty is None:
        raise ValueError("solver 'sparse' needs a penalty, found None")
    if solver == "exact":
        return solver, lambda u, x: fit_exact(u, lags.tolist(), x)
    if solver in ("levinson", "burg"):
        return solver, _by_reflections(model, solver, lags, n_columns, automatic)
    return solver, _sparse(model, str(penalty))(lags)


def _by_reflections(model: Any, solver: str, lags: np.ndarray, n_columns: int, choose: bool) -> Any:
    """Levinson's or Burg's recursion, with the order chosen where it is automatic."""
    from hidamari.inference import reflections

    if n_columns and model.exog_mode == "arx":
        raise ValueError(f"solver {solver!r} needs exog_mode 'errors', found 'arx'")
    if not np.array_equal(lags, np.arange(1, len(lags) + 1)) or not len(lags):
        raise ValueError(f"solver {solver!r} needs all lags from 1 on, found n_lags={model.n_lags!r}")
    best = model.alpha if choose and model.alpha in ("aic", "bic") else "aic" if choose else None

    def fit(u: Any, x: Any) -> ARFit:
        """All lags, zeros beyond the chosen order."""
        found = getattr(reflections, solver)(u, len(lags), best=best)
        k, m = len(found.coef), len(lags)
        coef, cov = np.zeros(m), np.zeros((1 + m, 1 + m))
        coef[:k], cov[: 1 + k, : 1 + k] = found.coef, found.cov
        names = tuple(f"lag {lag}" for lag in lags)
        return found._replace(names=names, lags=lags, coef=coef, cov=cov, support=np.arange(m) < k)

    return fit


def _sparse(model: Any, penalty: str) -> Any:
    """Coordinate descent on the moments."""
    from hidamari.inference.arnet_penalty import arnet_penalty
    from hidamari.inference.sparse_autoregression import coordinate_descent, sparse_path

    def of(lags: np.ndarray) -> Any:
        """The solver for these candidates; columns are in every model, unless they are a group's."""

        def fit(u: Any, x: Any) -> ARFit:
            gram = lag_gram(u, lags.tolist(), x)
            free = np.arange(len(lags), len(gram.names)) if penalty != "group" else ()
            if penalty == "arnet":
                return arnet_penalty(gram, model.sparsity or "ebic", free=free)
            if isinstance(model.alpha, str):
                return sparse_path(gram, penalty, model.alpha, free=free)
            return coordinate_descent(gram, float(model.alpha), penalty, free=free, debias=True)

        return fit

    return of
