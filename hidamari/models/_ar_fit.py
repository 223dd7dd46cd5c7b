"""From series and columns to the fitted numbers of an autoregression, output by output."""

from typing import Any, NamedTuple

import numpy as np

from hidamari.arrays import split
from hidamari.inference import forecast as ahead
from hidamari.inference.ar_network import NetworkFit
from hidamari.inference.ar_noise import fit_noise
from hidamari.inference.ar_regression import Regression, regress, residuals
from hidamari.inference.gaps import expected_gram, first_law
from hidamari.inference.lags import keep, lag_gram
from hidamari.inference.reflections import burg, levinson
from hidamari.models import _ar_arguments as arguments
from hidamari.models import _ar_counts as counts
from hidamari.models import _ar_vector as vector
from hidamari.models import _gp_door as door
from hidamari.models._ar_answers import Direct
from hidamari.models._ar_nets import packed, train_for
from hidamari.models._ar_solvers import Solve, chooser

__all__ = ["Learnt", "Task", "attributes", "fitted", "learn", "want_exact"]

_WORTH = 0.01  # share of rows lost with incomplete lags, from which gaps are worth an exact treatment
_WORK = 2e10  # multiplications of one round of it, beyond which they are not


_DIRECT = ("coef", "intercept", "cov")


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
    if solver in ("levinson", "burg", "sgd") or not any(np.isnan(part).any() for part in y):
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


class Learnt(NamedTuple):
    """One output."""

    fit: Regression
    noise: float  # variance of errors of measurement
    direct: Direct | None  # regressions of further steps
    network: NetworkFit | None


def fitted(model: Any, y: Any, exog: Any) -> dict[str, Any]:
    """All that a fit leaves in a model."""
    arguments.check(model)
    observed = door.observe(y, None, None, door.Clock(model.time_unit, None))
    rows = arguments.grid(observed)
    arguments.check_varies(observed)
    known = arguments.covariates(exog, observed)
    lags = arguments.candidates(model.n_lags, int(observed.lengths.max()))
    own = np.empty((len(observed.values), 0)) if known is None else known.values
    names = np.empty(0, dtype=str) if known is None else known.names
    kept = {
        "kind_": model.likelihood if model.likelihood != "gaussian" or not model.coupling else "vector",
        "step_": rows.step,
        "n_rows_": rows.n_rows,
        "origin_": rows.origin,
        "times_": np.concatenate(observed.times),
        "y_": observed.values,
        "trial_lengths_": observed.lengths,
        "trial_form_": observed.form,
        "vector_": observed.vector,
        "output_names_": observed.names,
        "time_unit_": observed.clock.unit,
        "time_origin_": observed.clock.origin,
        "exog_": own,
        "exog_names_": names,
        "n_features_in_": observed.values.shape[1],
    }
    if kept["kind_"] == "vector":
        if known is not None:
            raise ValueError("exog was given, which coupling=True does not allow")
        return kept | vector.attributes(model, observed, lags)
    parts = zip(rows.first, split(own, observed.lengths))
    found = [arguments.columns(model, a + np.arange(len(x)), rows.n_rows, x, names) for a, x in parts]
    arguments.check_columns(found)
    if kept["kind_"] == "poisson":
        columns = [part.values for part in found]
        return kept | counts.attributes(model, observed, columns, found[0].names, rows.step)
    solver, choose = chooser(model, lags, found[0].groups)
    task = Task([part.values for part in found], arguments.closed(found[0]), lags, solver, choose, model)
    outputs = [split(column, observed.lengths) for column in observed.values.T]
    labels = [f"lag {lag}" for lag in lags] + list(found[0].names)
    return kept | attributes(task, outputs, labels)


def attributes(task: Task, outputs: list[list[np.ndarray]], names: list[str]) -> dict[str, Any]:
    """What a fit to all outputs leaves in a model."""
    model, more = task.model, {}
    if model.pooling is None:
        found = [learn(task, y) for y in outputs]
    else:
        found, more = _panel(task, outputs)
    fits = [each.fit for each in found]
    kept = {
        "solver_": "sgd" if model.hidden else task.solver,
        "lags_": task.lags,
        "coef_names_": np.array(names, dtype=str),
        "coef_": np.array([fit.coef for fit in fits]),
        "standard_errors_": np.array([fit.standard_errors for fit in fits]),
        "support_": np.array([fit.support for fit in fits]),
        "centre_": np.array([fit.centre for fit in fits]),
        "intercept_": np.array([fit.intercept for fit in fits]),
        "sigma2_": np.array([fit.sigma2 for fit in fits]),
        "noise_": np.array([each.noise for each in found]),
        "is_stationary_": np.array([ahead.is_stationary(fit.weights) for fit in fits]),
        "n_steps_": int(model.n_forecasts),
    }
    kept |= more
    if model.hidden:
        return kept | {"networks_": [packed(each.network) for each in found if each.network]}
    direct = [each.direct for each in found if each.direct]
    if direct:
        kept |= {f"direct_{name}_": np.array([getattr(own, name) for own in direct]) for name in _DIRECT}
        kept["direct_here_"] = task.here
    return kept


def _panel(task: Task, outputs: list[list[np.ndarray]]) -> tuple[list[Learnt], dict[str, Any]]:
    """Fits of outputs that share one law, or are drawn from one, and that law."""
    from hidamari.inference.ar_panels import fit_panel, within_gram

    model, m = task.model, len(task.lags)
    k = task.columns[0].shape[1]
    refused = {
        "solver": task.solver not in ("exact", "sparse"),
        "alpha": model.alpha == "cv",
        "strategy": model.strategy != "recursive",
        "hidden": bool(model.hidden),
        "missing": model.missing == "exact",
        "measurement_noise": model.measurement_noise,
        "stationary": model.stationary,
        "exog_mode": k > 0 and model.exog_mode != "arx",
    }
    for name, bad in refused.items():
        if bad:
            raise ValueError(
                f"{name} is {getattr(model, name)!r}, which pooling={model.pooling!r} does not allow"
            )
    seen = [np.concatenate(y) for y in outputs]
    centres = [float(own[np.isfinite(own)].mean()) for own in seen]
    grams = [
        lag_gram([part - centre for part in y], task.lags.tolist(), task.columns)
        for y, centre in zip(outputs, centres)
    ]
    on = task.choose([], [], within_gram(grams)).support if task.solver == "sparse" else np.ones(m + k, bool)
    panel = fit_panel([keep(gram, on) for gram in grams], model.pooling)
    found = []
    for centre, fit in zip(centres, panel.fits):
        coef, errors = np.zeros(m + k), np.zeros(m + k)
        coef[on], errors[on] = fit.coef, np.sqrt(np.diag(fit.cov)[1:])
        w = np.zeros(int(task.lags.max(initial=0)))
        w[task.lags - 1] = coef[:m]
        own = Regression(
            centre, w, fit.intercept, np.zeros(k), coef[m:], fit.sigma2, coef, errors, on, fit.n_rows,
            fit.condition, fit,
        )  # fmt: skip
        found.append(Learnt(own, 0.0, None, None))
    mean, spread = np.zeros(m + k), np.zeros(m + k)
    mean[on], spread[on] = panel.mean, panel.spread
    return found, {"panel_mean_": mean, "panel_spread_": spread}


def learn(task: Task, y: list[np.ndarray]) -> Learnt:
    """Fit one output."""
    model = task.model
    exact = want_exact(model.missing, y, task.lags, task.solver)
    refit = task.solver in ("sparse", "sgd")  # what keeps all candidates is least squares already
    fit = regress(y, task.columns, task.lags, task.choose, model.exog_mode, refit, exact)
    if model.stationary and not ahead.is_stationary(fit.weights):
        fit = _pulled_inside(task, y, fit)
    noise = 0.0
    if model.measurement_noise:
        fit, noise = _with_noise(task, y, fit)
    if model.hidden:
        return Learnt(fit, noise, None, _network(task, y, fit))
    direct = _directly(task, y, fit, noise, exact) if model.strategy == "direct" else None
    return Learnt(fit, noise, direct, None)


def _network(task: Task, y: list[np.ndarray], fit: Regression) -> NetworkFit:
    """A network on the lags that were kept; columns that do not move the mean are beside them."""
    on = task.lags[fit.support[: len(task.lags)]]
    if not len(on):
        raise ValueError(
            "n_lags leaves the network no lag; allowed: lags that tell something of y, or a list"
        )
    u = residuals([part - fit.centre for part in y], task.columns, fit.outer)
    drives = task.model.exog_mode == "arx"
    x = task.columns if drives else [own[:, :0] for own in task.columns]
    steps = int(task.model.n_forecasts) if task.model.strategy == "direct" else 1
    return train_for(task.model, u, x, on, steps)


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
