"""From the arguments of an autoregression to the function that fits it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hidamari.inference.autoregression import ARFit, add_grams, fit_exact, solve_exact
from hidamari.inference.lags import LagGram, lag_gram
from hidamari.models._ar_nets import linear_by_sgd

__all__ = ["chooser"]

_FOLDS = 5  # blocks of cross-validation

Solve = Callable[[Any, Any, LagGram | None], ARFit]


_PAPER = 0.01  # lambda(s) = 0.01 (1 / s - 1) there


def chooser(model: Any, lags: np.ndarray, groups: tuple[str, ...]) -> tuple[str, Solve]:
    """Name of the solver, and the solver: segments, columns and perhaps moments to a fit of all candidates.

    Columns come in groups, as the lags of one covariate.
    """
    automatic = isinstance(model.n_lags, str)
    penalty = ("l1" if automatic else None) if model.penalty == "auto" else model.penalty
    usual = "exact" if penalty is None else "ridge" if penalty == "ridge" else "sparse"
    usual = "sgd" if model.hidden else usual
    solver = usual if model.solver == "auto" else model.solver
    if solver == "sparse" and penalty in (None, "ridge"):
        raise ValueError(f"solver 'sparse' needs a penalty that selects, found penalty={penalty!r}")
    if model.alpha == "paper" and (penalty != "arnet" or model.sparsity is None):
        raise ValueError("alpha 'paper' needs penalty='arnet' and the sparsity that is expected")
    if model.missing == "exact" and solver in ("levinson", "burg", "sgd") and not model.hidden:
        raise ValueError(f"missing 'exact' is not for solver {solver!r}; allowed: 'auto' or 'drop'")
    if solver == "sgd" or model.hidden:
        _check_networks(model, penalty)
    if solver == "sgd" and not model.hidden:
        return solver, lambda u, x, gram: linear_by_sgd(model, u, x, lags)
    if solver == "sgd":  # the linear law beside a network
        solver = "exact" if penalty is None else "ridge" if penalty == "ridge" else "sparse"
    if solver == "exact":
        return solver, _exact(lags)
    if solver in ("levinson", "burg"):
        return solver, _by_reflections(model, solver, lags, len(groups), automatic)
    if penalty == "ridge":
        return "ridge", _ridge(model, lags)
    return solver, _sparse(model, str(penalty), lags, groups)


def _check_networks(model: Any, penalty: str | None) -> None:
    """Refuse what networks cannot do."""
    if model.solver not in ("auto", "sgd"):
        raise ValueError(f"hidden needs solver='sgd', found {model.solver!r}")
    if not model.hidden and penalty not in (None, "arnet", "l1"):
        raise ValueError(f"solver 'sgd' has the penalties None, 'arnet' and 'l1', found penalty={penalty!r}")
    if model.alpha == "cv":
        raise ValueError("alpha 'cv' is not for solver 'sgd'; allowed: 'paper', 'bic', 'ebic' or a number")
    if model.measurement_noise:
        raise ValueError("measurement_noise needs another solver than 'sgd'")


def _exact(lags: np.ndarray) -> Solve:
    """Least squares."""

    def fit(u: Any, x: Any, gram: LagGram | None) -> ARFit:
        return fit_exact(u, lags.tolist(), x) if gram is None else solve_exact(gram)

    return fit


def _by_reflections(model: Any, solver: str, lags: np.ndarray, n_columns: int, choose: bool) -> Solve:
    """Levinson's or Burg's recursion, with the order chosen where it is automatic."""
    from hidamari.inference import reflections

    if n_columns and model.exog_mode == "arx":
        raise ValueError(f"solver {solver!r} needs exog_mode 'errors', found 'arx'")
    if not np.array_equal(lags, np.arange(1, len(lags) + 1)) or not len(lags):
        raise ValueError(f"solver {solver!r} needs all lags from 1 on, found n_lags={model.n_lags!r}")
    best = model.alpha if choose and model.alpha in ("aic", "bic") else "aic" if choose else None

    def fit(u: Any, x: Any, gram: LagGram | None) -> ARFit:
        """All lags, zeros beyond the chosen order."""
        found = getattr(reflections, solver)(u, len(lags), best=best)
        k, m = len(found.coef), len(lags)
        coef, cov = np.zeros(m), np.zeros((1 + m, 1 + m))
        coef[:k], cov[: 1 + k, : 1 + k] = found.coef, found.cov
        names = tuple(f"lag {lag}" for lag in lags)
        return found._replace(names=names, lags=lags, coef=coef, cov=cov, support=np.arange(m) < k)

    return fit


def _ridge(model: Any, lags: np.ndarray) -> Solve:
    """A ridge, its strength given or chosen."""
    from hidamari.inference.ar_ridge import cross_validated_ridge, ridge_path

    def fit(u: Any, x: Any, gram: LagGram | None) -> ARFit:
        whole = lag_gram(u, lags.tolist(), x) if gram is None else gram
        if model.alpha == "cv":
            return cross_validated_ridge(_folds(u, x, lags))
        if isinstance(model.alpha, str):
            return ridge_path(whole, model.alpha)
        return solve_exact(whole, ridge=float(model.alpha))

    return fit


def _sparse(model: Any, penalty: str, lags: np.ndarray, groups: tuple[str, ...]) -> Solve:
    """Coordinate descent on the moments; columns are in every model, unless they are a group's."""
    from hidamari.inference.arnet_penalty import arnet_penalty
    from hidamari.inference.sparse_autoregression import coordinate_descent, cross_validate, sparse_path

    labels = np.concatenate([np.zeros(len(lags), dtype=int), 1 + np.unique(groups, return_inverse=True)[1]])

    def fit(u: Any, x: Any, gram: LagGram | None) -> ARFit:
        whole = lag_gram(u, lags.tolist(), x) if gram is None else gram
        own = labels[: len(whole.names)] if penalty == "group" else None
        free = np.arange(len(lags), len(whole.names)) if penalty != "group" else ()
        if penalty == "arnet":
            scale = _PAPER if model.alpha == "paper" else "bic"
            return arnet_penalty(whole, model.sparsity or "ebic", scale_factor=scale, free=free)
        if model.alpha == "cv":
            return cross_validate(_folds(u, x, lags), penalty, free, own)
        if isinstance(model.alpha, str):
            return sparse_path(whole, penalty, model.alpha, free, own)
        return coordinate_descent(whole, float(model.alpha), penalty, free, own, debias=True)

    return fit


def _folds(u: Any, x: Any, lags: np.ndarray) -> list[LagGram]:
    """Moments of blocks of rows: whole trials if there are enough, else pieces of each."""
    whole = len(u) >= _FOLDS
    found: list[list[LagGram]] = [[] for _ in range(_FOLDS)]
    for i, (part, own) in enumerate(zip(u, x)):
        if whole:
            pieces = [(i % _FOLDS, 0, len(part))]
        else:
            edges = np.linspace(0, len(part), _FOLDS + 1).astype(int)
            # Each block keeps the rows before it as lags, so that no row is lost.
            reach = int(lags.max(initial=0))
            pieces = [(k, max(edges[k] - reach, 0), edges[k + 1]) for k in range(_FOLDS)]
        for k, first, last in pieces:
            if last - first > int(lags.max(initial=0)):
                try:
                    found[k].append(lag_gram(part[first:last], lags.tolist(), own[first:last]))
                except ValueError:  # no row of this block has all of its lags
                    continue
    folds = [add_grams(own) for own in found if own]
    if len(folds) < 2:
        raise ValueError("alpha is 'cv', but fewer than two blocks of y have rows with all of their lags")
    return folds
