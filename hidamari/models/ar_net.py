"""ARNet: autoregression with long and few lags, columns beside them, gaps, and forecasts with intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hidamari.arrays import split
from hidamari.estimator import Estimator
from hidamari.inference import forecast as ahead
from hidamari.inference.ar_imputation import impute
from hidamari.inference.ar_regression import regress, residuals
from hidamari.models import _ar_arguments as arguments
from hidamari.models import _gp_door as door
from hidamari.models._ar_solvers import chooser
from hidamari.models._door import check_whole, one_blas_thread
from hidamari.models._gp_door import Clock, Observed
from hidamari.results import Variable

__all__ = ["ARNet"]


class ARNet(Estimator):
    r"""Autoregression that never asks for the order: exact, sparse, with intervals at any horizon.

    y_t = x_t' beta + u_t, u_t = c + sum_i w_i u_{t-i} + e_t, e_t ~ N(0, sigma2), for each output on its own.

    All that the data say lies in the moments of y and its lags, which cost little more than one pass, so
    that a thousand lags are fitted in a fraction of a second.

    Parameters
    ----------
    n_lags : int, list of int, or "auto"
        Lags, or candidates: by default as many as a twentieth of the rows, or 2 sqrt(rows), at most 1000.
    solver : {"auto", "exact", "sparse", "levinson", "burg"}
        Least squares, a penalty, or recursions whose result is always stationary. By default what the penalty
        asks for.
    penalty : {"auto", None, "l1", "scad", "mcp", "group", "arnet"}
        What orders the supports that are compared; the chosen one is fitted again without it. By default
        ``"l1"`` where lags are automatic, and none where they are given. ``"arnet"``: that of the paper.
    alpha : {"aic", "bic", "ebic"}, or float
        What chooses among supports, or a strength, as a share of the largest correlation. ``"aic"``
        (default) forecasts best, ``"ebic"`` finds the lags of a truly sparse process.
    sparsity : float, optional
        For ``"arnet"``: the expected share of lags that matter; by default chosen by EBIC.
    trend : int, optional
        A line with so many changes of slope, evenly spaced; by default there is no trend.
    seasonality : mapping of period to int, optional
        Number of harmonics for each period in rows, as ``{288: 5}``.
    events : mapping of str to sequence of int, optional
        Rows at which something happens, counted from the first of the fit.
    event_window : (int, int)
        First and last row, relative to an event, that feels it.
    exog_lags : int, list, or mapping of name to these
        Rows back at which covariates act: 0 (default), the row itself; n, rows 1..n.
    exog_mode : {"errors", "arx"}
        Columns move the mean that the series varies about, or drive the autoregression and fade with it.
    time_unit : str
        Unit of dates, as for :class:`MarkovGP`.

    Attributes
    ----------
    coef_, standard_errors_, support_ : ndarray, shape (output, coefficient)
        Of all candidates; zeros for those not chosen; errors given the choice.
    coef_names_ : ndarray of str
        ``"lag 1"`` etc., then the columns.
    intercept_, sigma2_, is_stationary_ : ndarray, shape (output,)
        c, variance of the innovations, and whether all roots lie outside the unit circle.
    solver_ : str
        The solver that was used.

    References
    ----------
    O. Triebe, N. Laptev, R. Rajagopal, AR-Net: a simple autoregressive neural network for time series, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import hidamari as hd
    >>> y = 20 + np.sin(np.arange(500) / 5) + 0.1 * np.random.default_rng(0).standard_normal(500)
    >>> model = hd.ARNet().fit(y)
    >>> found = model.forecast(3)
    >>> bool(np.abs(found["mean"] - 20 - np.sin(np.arange(500, 503) / 5)).max() < 0.3)
    True
    """

    def __init__(
        self,
        n_lags: Any = "auto",
        *,
        solver: str = "auto",
        penalty: str | None = "auto",
        alpha: Any = "aic",
        sparsity: float | None = None,
        trend: int | None = None,
        seasonality: Mapping[float, int] | None = None,
        events: Mapping[str, Any] | None = None,
        event_window: tuple[int, int] = (0, 0),
        exog_lags: Any = 0,
        exog_mode: str = "errors",
        time_unit: str = "s",
    ):
        self.n_lags = n_lags
        self.solver = solver
        self.penalty = penalty
        self.alpha = alpha
        self.sparsity = sparsity
        self.trend = trend
        self.seasonality = seasonality
        self.events = events
        self.event_window = event_window
        self.exog_lags = exog_lags
        self.exog_mode = exog_mode
        self.time_unit = time_unit

    @one_blas_thread
    def fit(self, y: Any, exog: Any = None) -> "ARNet":
        """Learn the coefficients, from rows whose lags were all observed.

        Parameters
        ----------
        y : array, list or labelled array
            (time,), (time, output), (trial, time, output), or a list of trials, evenly spaced; NaN: missing.
        exog : as y, optional
            Covariates at the same rows, (time, covariate).

        Returns
        -------
        ARNet
            Itself. What is not allowed is a ValueError that names it.
        """
        arguments.check(self)
        observed = door.observe(y, None, None, Clock(self.time_unit, None))
        rows = arguments.grid(observed)
        for n, column in enumerate(observed.values.T):
            if not np.nanmax(np.append(column, -np.inf)) > np.nanmin(np.append(column, np.inf)):
                raise ValueError(f"y does not vary in output {n}; allowed: at least two different values")
        known = arguments.covariates(exog, observed)
        lags = arguments.candidates(self.n_lags, int(observed.lengths.max()))
        parts = self._columns(observed, rows, rows.n_rows, known)
        solver, choose = chooser(self, lags, len(parts[0].names))
        names = [f"lag {lag}" for lag in lags] + list(parts[0].names)
        fits = []
        for column in observed.values.T:
            series, x = split(column, observed.lengths), [part.values for part in parts]
            fits.append(regress(series, x, lags, choose, self.exog_mode, solver in ("exact", "sparse")))
        self.solver_, self.lags_, self.coef_names_ = solver, lags, np.array(names, dtype=str)
        self.coef_ = np.array([fit.coef for fit in fits])
        self.standard_errors_ = np.array([fit.standard_errors for fit in fits])
        self.support_ = np.array([fit.support for fit in fits])
        self.centre_ = np.array([fit.centre for fit in fits])
        self.intercept_ = np.array([fit.intercept for fit in fits])
        self.sigma2_ = np.array([fit.sigma2 for fit in fits])
        self.is_stationary_ = np.array([ahead.is_stationary(w) for w in self._weights()])
        self.step_, self.n_rows_ = rows.step, rows.n_rows
        self.times_, self.y_ = np.concatenate(observed.times), observed.values
        self.trial_lengths_, self.trial_form_ = observed.lengths, observed.form
        self.vector_, self.output_names_ = observed.vector, observed.names
        self.time_unit_, self.time_origin_ = observed.clock
        self.exog_ = np.empty((len(self.y_), 0)) if known is None else known.values
        self.exog_names_ = np.empty(0, dtype=str) if known is None else known.names
        self.n_features_in_ = observed.values.shape[1]
        return self

    @one_blas_thread
    def predict(self, interval: float = 0.95) -> Any:
        """One step ahead at every row of the fit, from the rows before it.

        Parameters
        ----------
        interval : float
            Probability between ``lower`` and ``upper``.

        Returns
        -------
        xarray.Dataset
            ``mean``, ``var``, ``lower``, ``upper`` over (…, time, output), NaN where a lag is missing.
        """
        observed = self._observed()
        mean = np.empty_like(observed.values)
        for n, (w, series) in enumerate(zip(self._weights(), self._series(observed))):
            parts = []
            for u, offset, inputs in series:
                parts.append(offset + _one_step(u, w) + inputs)
            mean[:, n] = np.concatenate(parts)
        var = np.where(np.isnan(mean), np.nan, self.sigma2_)
        return self._labelled(mean, var, interval, observed.times, observed)

    @one_blas_thread
    def forecast(
        self, steps: int, *, exog: Any = None, interval: float = 0.95, n_draws: int = 0, random_state: Any = 0
    ) -> Any:
        """The rows after the last of every trial, given all of it.

        Parameters
        ----------
        steps : int
            How many.
        exog : array (steps, covariate), or a list of them, optional
            Covariates in the coming rows; needed where they act within so many rows.
        interval : float
            Probability between ``lower`` and ``upper``.
        n_draws : int
            Also draw so many joint futures: ``draw`` (…, draw).
        random_state : int or numpy.random.Generator
            Source of randomness of the draws.

        Returns
        -------
        xarray.Dataset
            As from :meth:`predict`, at the coming rows. Variances are those of innovations and missing
            values, with the coefficients taken as known.
        """
        check_whole("steps", steps, 1)
        check_whole("n_draws", n_draws, 0)
        observed = self._observed()
        rng, R, N = np.random.default_rng(random_state), len(observed.times), self.n_features_in_
        coming = arguments.later(exog, self.exog_ if self.exog_.size else None, self.exog_names_, R, steps)
        mean, var = np.empty((R, steps, N)), np.empty((R, steps, N))
        draws = np.empty((R, steps, N, n_draws))
        offsets = self._coming(observed, coming, steps)
        for n, (w, series) in enumerate(zip(self._weights(), self._series(observed))):
            p, sigma2 = len(w), float(self.sigma2_[n])
            for r, (u, _, _) in enumerate(series):
                if len(u) < p:
                    raise ValueError(f"trial {r} has {len(u)} rows; forecasts need {p}, one for each lag")
                offset, inputs = offsets[r][n]
                # A gap is filled from both sides, so some rows beyond the last p are kept as well.
                past = impute(u, w, float(self.intercept_[n]), sigma2)
                recent = past.missing >= len(u) - p
                unknown = len(u) - past.missing[recent]
                block = past.cov[np.ix_(recent, recent)]
                history = past.values[len(u) - p :]
                mean[r, :, n] = offset + ahead.recursive_forecast(w, history, inputs)
                cov = ahead.forecast_covariance(w, sigma2, steps, unknown, block)
                var[r, :, n] = np.diag(cov)
                if n_draws:
                    draws[r, :, n] = rng.multivariate_normal(mean[r, :, n], cov, n_draws, method="eigh").T
        times = [own[-1] + self.step_ * np.arange(1, steps + 1) for own in observed.times]
        flat = draws.reshape(R * steps, N, n_draws) if n_draws else None
        shape = (R * steps, N)
        return self._labelled(mean.reshape(shape), var.reshape(shape), interval, times, observed, flat)

    @one_blas_thread
    def smooth(self, interval: float = 0.95) -> Any:
        """All rows of the fit with missing values filled in, given everything that was observed.

        Returns
        -------
        xarray.Dataset
            As from :meth:`predict`; observed values have variance 0.
        """
        observed = self._observed()
        mean, var = np.empty_like(observed.values), np.zeros_like(observed.values)
        starts = np.cumsum(observed.lengths) - observed.lengths
        for n, (w, series) in enumerate(zip(self._weights(), self._series(observed))):
            for start, (u, offset, _) in zip(starts, series):
                found = impute(u, w, float(self.intercept_[n]), float(self.sigma2_[n]))
                mean[start : start + len(u), n] = found.values + offset
                var[start + found.missing, n] = np.diag(found.cov)
        return self._labelled(mean, var, interval, observed.times, observed)

    def score(self) -> float:
        """Mean log predictive density of a row given those before it, in nats, over rows with all lags."""
        found = self.predict()
        mean, var = (found[name].values.reshape(-1) for name in ("mean", "var"))
        form = self._labelled(self.y_, self.y_, 0.95, self._observed().times, self._observed())
        y = form["mean"].values.reshape(-1)
        return float(np.nanmean(-0.5 * (np.log(2.0 * np.pi * var) + (y - mean) ** 2 / var)))

    def coefficients(self) -> Any:
        """Coefficients by name.

        Returns
        -------
        xarray.Dataset
            ``estimate``, ``standard_error``, ``z``, ``p_value`` (two-sided, given the support) and
            ``support`` over (output, coefficient), without output if y had none.
        """
        import xarray as xr
        from scipy.stats import norm

        self._observed()
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(self.support_, self.coef_ / self.standard_errors_, np.nan)
        parts = {
            "estimate": self.coef_,
            "standard_error": np.where(self.support_, self.standard_errors_, np.nan),
            "z": z,
            "p_value": 2.0 * norm.sf(np.abs(z)),
            "support": self.support_,
        }
        dims = ("output", "coefficient")
        found = xr.Dataset(
            {name: (dims, values) for name, values in parts.items()},
            {"output": self.output_names_, "coefficient": self.coef_names_},
        )
        return found.isel(output=0, drop=True) if self.vector_ else found

    def spectrum(self, freqs: Any = None) -> Any:
        """Power spectral density of y about its mean, two-sided, at cycles per unit of time.

        Parameters
        ----------
        freqs : array, optional
            By default 512 from 0 to half a cycle per row.

        Returns
        -------
        xarray.DataArray
            (output, frequency), without output if y had none.
        """
        self._observed()
        freqs = np.linspace(0.0, 0.5, 512) / self.step_ if freqs is None else np.asarray(freqs, dtype=float)
        rows = [ahead.spectrum(w, s, freqs, self.step_) for w, s in zip(self._weights(), self.sigma2_)]
        return self._by_output(np.array(rows), "frequency", freqs)

    def impulse_response(self, steps: int = 50) -> Any:
        """Response of y to a unit shock, over so many rows from it on, as a DataArray (output, lag)."""
        check_whole("steps", steps, 1)
        self._observed()
        rows = [ahead.impulse_response(w, int(steps)) for w in self._weights()]
        return self._by_output(np.array(rows), "lag", np.arange(steps))

    def to_statespace(self, n_rows: int, output: int = 0) -> Any:
        """The autoregression of one output about its mean as a chain for the core; it must be stationary.

        Returns
        -------
        StateSpace
            Of n_rows rows, the last values being its state.
        """
        check_whole("n_rows", n_rows, 1)
        self._observed()
        return ahead.to_statespace(self._weights()[output], float(self.sigma2_[output]), int(n_rows))

    def _observed(self) -> Observed:
        """The data of the fit; refuse what needs one."""
        if not hasattr(self, "coef_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("this ARNet is not fitted yet; call fit(y) first")
        form = (self.trial_form_, self.vector_, self.output_names_)
        clock = Clock(self.time_unit_, self.time_origin_)
        return Observed(split(self.times_, self.trial_lengths_), self.y_, None, *form, clock)

    def _weights(self) -> list[np.ndarray]:
        """Weights of lags 1..p of every output, p the last of use."""
        found = []
        for coef in self.coef_:
            w = np.zeros(int(self.lags_.max(initial=0)))
            w[self.lags_ - 1] = coef[: len(self.lags_)]
            found.append(w[: np.flatnonzero(w).max(initial=-1) + 1])
        return found

    def _columns(self, observed: Observed, rows: Any, n_rows: int, known: Any) -> list[Any]:
        """Columns of every trial."""
        own = np.empty((len(observed.values), 0)) if known is None else known.values
        names = () if known is None else known.names
        parts = zip(rows.first, split(own, observed.lengths))
        return [arguments.columns(self, a + np.arange(len(x)), n_rows, x, names) for a, x in parts]

    def _series(self, observed: Observed) -> list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
        """For every output and trial: u, what was taken off it, and what drives it."""
        known = arguments.Covariates(self.exog_, self.exog_names_)
        parts = self._columns(observed, arguments.grid(observed, self.step_), self.n_rows_, known)
        found = []
        for n, column in enumerate(observed.values.T):
            x = [part.values for part in parts]
            y = split(column, observed.lengths)
            outer, inner = self._effects(n)
            u = residuals([part - self.centre_[n] for part in y], x, outer)
            own = []
            for left, at in zip(u, x):
                offset, inputs = self._read(n, at, outer, inner)
                own.append((left, offset, inputs))
            found.append(own)
        return found

    def _coming(self, observed: Observed, exog: list[np.ndarray], steps: int) -> list[list[tuple]]:
        """For every trial and output: what is added to coming u, and what drives it."""
        first = arguments.grid(observed, self.step_).first
        found = []
        for a, past, more in zip(first, split(self.exog_, observed.lengths), exog):
            rows = a + np.arange(len(past) + steps)
            joined = np.concatenate([past, more]) if len(self.exog_names_) else np.empty((len(rows), 0))
            x = arguments.columns(self, rows, self.n_rows_, joined, self.exog_names_).values[len(past) :]
            if np.isnan(x).any():
                raise ValueError(
                    f"exog is missing for some of the {steps} coming rows; the model was fitted with "
                    f"{list(self.exog_names_)}, which act within them"
                )
            found.append([self._read(n, x, *self._effects(n)) for n in range(self.n_features_in_)])
        return found

    def _effects(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients of columns on the mean, and on the autoregression."""
        beta = self.coef_[n, len(self.lags_) :]
        return (beta, np.zeros_like(beta)) if self.exog_mode == "errors" else (np.zeros_like(beta), beta)

    def _read(self, n: int, x: np.ndarray, outer: np.ndarray, inner: np.ndarray) -> tuple:
        """Mean and drive of an output at rows with these columns."""
        offset = self.centre_[n] + (x @ outer if outer.any() else np.zeros(len(x)))
        return offset, self.intercept_[n] + (x @ inner if inner.any() else np.zeros(len(x)))

    def _labelled(self, mean, var, interval, times, observed, draws=None) -> Any:
        """Moments with intervals as a Dataset."""
        from scipy.stats import norm

        if not (isinstance(interval, float) and 0.0 < interval < 1.0):
            raise ValueError(f"interval must be between 0 and 1, found {interval!r}")
        half = norm.ppf(0.5 + 0.5 * interval) * np.sqrt(np.abs(var))
        variables = {
            "mean": Variable(mean, (), "", "expected observation"),
            "var": Variable(var, (), "", "variance of the observation"),
            "lower": Variable(mean - half, (), "", "lower end of the interval"),
            "upper": Variable(mean + half, (), "", "upper end of the interval"),
        }
        coords = {}
        if draws is not None:
            variables["draw_value"] = Variable(draws, ("draw",), "", "joint draws")
            coords["draw"] = np.arange(draws.shape[-1])
        about = {"model": repr(self), "interval": interval}
        return door.to_labelled(variables, times, observed, coords, about)

    def _by_output(self, values: np.ndarray, dim: str, labels: np.ndarray) -> Any:
        """One row for each output as a DataArray."""
        import xarray as xr

        found = xr.DataArray(values, {"output": self.output_names_, dim: labels}, ("output", dim))
        return found.isel(output=0, drop=True) if self.vector_ else found


def _one_step(u: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_i w_i u_{t-i} at every row, NaN where one of its values is missing."""
    from scipy.signal import oaconvolve

    p, missing = len(weights), np.isnan(u)
    if p == 0:
        return np.zeros(len(u))
    found = np.append(0.0, oaconvolve(np.where(missing, 0.0, u), weights))[: len(u)]
    lost = np.append(False, np.convolve(missing, weights != 0.0))[: len(u)]
    found[lost] = np.nan
    found[:p] = np.nan
    return found
