"""From series and columns to the fitted numbers of an autoregression, output by output."""

from typing import Any, NamedTuple

import numpy as np

from hidamari.inference import forecast as ahead
from hidamari.inference.ar_noise import fit_noise
from hidamari.inference.ar_regression import Regression, regress, residuals
from hidamari.inference.gaps import expected_gram, first_law
from hidamari.inference.lags import lag_gram
from hidamari.inference.reflections import burg, levinson
from hidamari.models._ar_answers import Direct
from hidamari.models._ar_solvers import Solve

__all__ = ["Task", "learn", "want_exact"]

_WORTH = 0.01  # share of rows lost with incomplete lags, from which gaps are worth an exact treatment
_WORK = 2e10  # multiplications of one round of it, beyond which they are not


class Task(NamedTuple):
    """What all outputs have in common."""

    columns: list[np.ndarray]  # of each trial, (T, k)
    here: np.ndarray  # (k,) bool: trend and seasons, which a shift in time does not lead out of
    lags: np.ndarray
    solver: str
    choose: Solve
    model: Any


def want_exact(missing: str, y: list[np.ndarray], lags: np.ndarray, solver: str) -> bool:
    """Whether gaps are treated exactly: as asked, or where dropping incomplete windows would lose much."""
    if solver in ("levinson", "burg") or not any(np.isnan(part).any() for part in y):
        return False
    if missing != "auto":
        return missing == "exact"
    reach, lost, work = int(lags.max(initial=0)), 0, 0.0
    for part in y:
        bad = np.cumsum(np.append(0, np.isnan(part)))
        width = bad[np.minimum(np.arange(len(part)) + reach + 1, len(part))] - bad[:-1]
        lost += int(np.count_nonzero(width[: len(part) - reach] if len(part) > reach else width))
        work += float(bad[-1]) * float(width.max(initial=0)) ** 2
    return lost > _WORTH * sum(map(len, y)) and work < _WORK


def learn(task: Task, y: list[np.ndarray]) -> tuple[Regression, float, Direct | None]:
    """Coefficients of one output, variance of its errors of measurement, and regressions of further steps."""
    model = task.model
    exact = want_exact(model.missing, y, task.lags, task.solver)
    refit = task.solver in ("exact", "sparse")
    fit = regress(y, task.columns, task.lags, task.choose, model.exog_mode, refit, exact)
    if model.stationary and not ahead.is_stationary(fit.weights):
        fit = _pulled_inside(task, y, fit)
    noise = 0.0
    if model.measurement_noise:
        fit, noise = _with_noise(task, y, fit)
    direct = _directly(task, y, fit, noise, exact) if model.strategy == "direct" else None
    return fit, noise, direct


def _pulled_inside(task: Task, y: list[np.ndarray], fit: Regression) -> Regression:
    """Burg's recursion in place of a fit that is not stationary: all lags up to the longest it kept."""
    if fit.inner.any():
        raise ValueError("stationary needs exog_mode='errors', found 'arx' and a fit that is not stationary")
    m, order = len(task.lags), int(task.lags[fit.support[: len(task.lags)]].max(initial=0))
    order = int(np.count_nonzero(task.lags <= order))
    if not np.array_equal(task.lags[:order], np.arange(1, order + 1)):
        raise ValueError(f"stationary needs all lags from 1 on, found n_lags={task.model.n_lags!r}")

    def choose(u: Any, x: Any, gram: Any) -> Any:
        found = burg(u, order, best=None)
        coef, cov = np.zeros(m), np.zeros((1 + m, 1 + m))
        coef[:order], cov[: 1 + order, : 1 + order] = found.coef, found.cov
        return found._replace(
            names=fit.chosen.names[:m], lags=task.lags, coef=coef, cov=cov, support=np.arange(m) < order
        )

    return regress(y, task.columns, task.lags, choose, "errors", False)


def _with_noise(task: Task, y: list[np.ndarray], fit: Regression) -> tuple[Regression, float]:
    """The same with errors of measurement, at the effects of columns that were found without."""
    if fit.inner.any():
        raise ValueError("measurement_noise needs exog_mode='errors', found 'arx'")
    m = len(task.lags)
    on = np.flatnonzero(fit.support[:m])
    u = residuals([part - fit.centre for part in y], task.columns, fit.outer)
    found = fit_noise(u, task.lags[on].tolist())
    coef, errors = fit.coef.copy(), fit.standard_errors.copy()
    coef[on], errors[on] = found.coef, found.standard_errors
    w = np.zeros(len(fit.weights))
    w[task.lags[on] - 1] = found.coef
    if task.model.stationary and not ahead.is_stationary(w):
        return fit, 0.0
    fit = fit._replace(
        coef=coef, standard_errors=errors, weights=w, intercept=found.intercept, sigma2=found.sigma2
    )
    return fit, found.noise


def _directly(task: Task, y: list[np.ndarray], fit: Regression, noise: float, exact: bool) -> Direct:
    """Regressions of every step ahead on the lags that were kept, and on trend and seasons."""
    H, here = int(task.model.n_forecasts), task.here
    m = len(task.lags)
    on = task.lags[fit.support[:m]]
    u = residuals([part - fit.centre for part in y], task.columns, fit.outer)
    shifts = [x[:, here] @ fit.outer[here] for x in task.columns]
    x = [own[:, here] for own in task.columns]
    if exact or noise > 0.0:
        order = len(fit.weights)
        first = levinson(u, min(order, max(map(len, u)) - 1)) if order else None
        starts = [
            first_law(part if noise == 0.0 else part * np.nan, first) if first else "given" for part in u
        ]
        laws = [(fit.weights, fit.sigma2, fit.intercept, start, noise) for start in starts]
        gram, _ = expected_gram(u, laws, on.tolist(), x, H, shifts)
    else:
        gram = lag_gram([part + more for part, more in zip(u, shifts)], on.tolist(), x, steps=H)
    found = ahead.direct_forecasts(gram.moments, gram.means, gram.n_rows, H)
    coef = np.zeros((H, m + int(here.sum())))
    coef[:, np.append(np.flatnonzero(fit.support[:m]), m + np.arange(int(here.sum())))] = found.coef
    return Direct(coef, found.intercept, found.cov + noise * np.eye(H), task.lags, here)
