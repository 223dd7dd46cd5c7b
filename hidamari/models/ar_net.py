"""ARNet: autoregression with long and few lags, columns beside them, gaps, and forecasts with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hidamari.estimator import Estimator
from hidamari.inference import forecast as ahead
from hidamari.models import _ar_arguments as arguments
from hidamari.models import _ar_bayes as bayes
from hidamari.models import _ar_counts as counts
from hidamari.models import _ar_replies as replies
from hidamari.models import _ar_series as heard
from hidamari.models import _ar_vector as vector
from hidamari.models._ar_fit import fitted
from hidamari.models._ar_labels import by_output
from hidamari.models._door import check_whole, one_blas_thread

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
    solver : {"auto", "exact", "sparse", "levinson", "burg", "sgd"}
        Least squares, a penalty, recursions whose result is always stationary, or the minibatches of the
        paper, which without hidden layers end on the exact or sparse solution. By default what the penalty
        and hidden layers ask for.
    penalty : {"auto", None, "l1", "scad", "mcp", "group", "arnet", "ridge"}
        What orders the supports that are compared; the chosen one is fitted again without it. By default
        ``"l1"`` where lags are automatic, and none where they are given. ``"arnet"``: that of the paper;
        ``"ridge"`` keeps all lags.
    alpha : {"aic", "bic", "ebic", "cv", "paper"}, or float
        What chooses among supports, or a strength, as a share of the largest correlation. ``"aic"``
        (default) forecasts best, ``"ebic"`` finds the lags of a truly sparse process; ``"cv"``: the squared
        error in blocks left out; ``"paper"``: 0.01 (1 / sparsity - 1), for ``"arnet"``.
    sparsity : float, optional
        For ``"arnet"``: the expected share of lags that matter; by default chosen by EBIC.
    strategy : {"recursive", "direct"}
        Feed forecasts back as if observed, or fit a regression to each step ahead (by one factorisation).
    n_forecasts : int
        For ``"direct"``: steps ahead that are fitted.
    hidden : sequence of int
        Units of each hidden layer of a network on the lags that are kept, whose answer is added to the linear
        part; by default there is none. Needs ``pip install hidamari[neural]``. Coefficients, spectra and
        fillings of gaps are then those of the linear law alone.
    activation, epochs, batch_size, learning_rate
        Of the network: ``"relu"``, ``"tanh"`` or ``"gelu"``; numbers by default from those of rows and lags.
    pooling : {None, "complete", "partial"}
        Over outputs, each the series of a panel: apart, one law for all, or each near a common law, the
        nearer the less its own rows say.
    coupling : bool
        Let every output feel the past of all: a vector autoregression, with couplings chosen by a group
        penalty where lags are automatic.
    likelihood : {"gaussian", "poisson"}
        Or counts, as of spikes: log rates that follow past counts of a unit, and with ``coupling`` of all,
        through ``n_basis`` raised cosines of lag (up to 100 bins by default); columns move the log rate.
    n_basis : int
        For counts.
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
    missing : {"auto", "exact", "drop"}
        Maximise the likelihood of what was observed (EM over gaps), or leave out rows with a missing lag. By
        default exact where that would lose a hundredth of the rows.
    measurement_noise : bool
        Whether y was measured with errors, whose variance is then learnt: without them they pull lags to 0.
    stationary : bool
        Keep all roots outside the unit circle: where least squares does not, Burg's recursion does.
    intervals : {"conformal", "gaussian"}
        From quantiles of the errors that forecasts of so many steps made in the last rows of the series (a
        twentieth of those of the fit, at least 200), or of Gaussian noise.
    random_state : int, numpy.random.Generator or None
        Source of randomness of :meth:`sample`.
    time_unit : str
        Unit of dates, as for :class:`MarkovGP`.

    Attributes
    ----------
    coef_, standard_errors_, support_ : ndarray, shape (output, coefficient)
        Of all candidates; zeros for those not chosen; errors given the choice.
    coef_names_ : ndarray of str
        ``"lag 1"`` etc., then the columns.
    intercept_, sigma2_, noise_, is_stationary_ : ndarray, shape (output,)
        c, variance of the innovations and of errors of measurement, and whether all roots lie outside the
        unit circle.
    solver_ : str
        The solver that was used.
    panel_mean_, panel_spread_ : ndarray, shape (coefficient,)
        With ``pooling``: of the coefficients over outputs.

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

    kind_: str
    step_: float
    n_features_in_: int

    def __init__(
        self,
        n_lags: Any = "auto",
        *,
        solver: str = "auto",
        penalty: str | None = "auto",
        alpha: Any = "aic",
        sparsity: float | None = None,
        strategy: str = "recursive",
        n_forecasts: int = 1,
        hidden: Sequence[int] = (),
        activation: str = "relu",
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        pooling: str | None = None,
        coupling: bool = False,
        likelihood: str = "gaussian",
        n_basis: int = 8,
        trend: int | None = None,
        seasonality: Mapping[float, int] | None = None,
        events: Mapping[str, Any] | None = None,
        event_window: tuple[int, int] = (0, 0),
        exog_lags: Any = 0,
        exog_mode: str = "errors",
        missing: str = "auto",
        measurement_noise: bool = False,
        stationary: bool = False,
        intervals: str = "conformal",
        random_state: int | np.random.Generator | None = 0,
        time_unit: str = "s",
    ):
        self.n_lags = n_lags
        self.solver = solver
        self.penalty = penalty
        self.alpha = alpha
        self.sparsity = sparsity
        self.strategy = strategy
        self.n_forecasts = n_forecasts
        self.hidden = hidden
        self.activation = activation
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.pooling = pooling
        self.coupling = coupling
        self.likelihood = likelihood
        self.n_basis = n_basis
        self.trend = trend
        self.seasonality = seasonality
        self.events = events
        self.event_window = event_window
        self.exog_lags = exog_lags
        self.exog_mode = exog_mode
        self.missing = missing
        self.measurement_noise = measurement_noise
        self.stationary = stationary
        self.intervals = intervals
        self.random_state = random_state
        self.time_unit = time_unit

    @one_blas_thread
    def fit(self, y: Any, exog: Any = None) -> "ARNet":
        """Learn the coefficients.

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
        learnt = fitted(self, y, exog)
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        vars(self).update(learnt)
        return self

    @one_blas_thread
    def predict(self, y: Any = None, exog: Any = None, *, interval: float = 0.95) -> Any:
        """One step ahead at every row, from the rows before it.

        Parameters
        ----------
        y : as in :meth:`fit`, optional
            Another series of the same outputs, by default that of the fit. Its times say where trend, seasons
            and events stand; a plain array begins where the fit did.
        exog : as in :meth:`fit`, optional
            Its covariates.
        interval : float
            Probability between ``lower`` and ``upper``.

        Returns
        -------
        xarray.Dataset
            ``mean``, ``var``, ``lower``, ``upper`` over (…, time, output), NaN in the first rows.
        """
        return self._kind().predict(self, y, exog, arguments.check_levels(interval))

    @one_blas_thread
    def smooth(self, y: Any = None, exog: Any = None, *, interval: float = 0.95) -> Any:
        """All rows with missing values filled in, and errors of measurement taken off, given all observed.

        Parameters
        ----------
        y, exog, interval
            As in :meth:`predict`.

        Returns
        -------
        xarray.Dataset
            As from :meth:`predict`; values observed without error have variance 0.
        """
        return self._kind().smooth(self, y, exog, arguments.check_levels(interval))

    @one_blas_thread
    def forecast(
        self,
        steps: int,
        y: Any = None,
        *,
        exog: Any = None,
        past_exog: Any = None,
        interval: float = 0.95,
        quantiles: Any = None,
    ) -> Any:
        """The rows after the last of every trial, given all of it.

        Parameters
        ----------
        steps : int
            How many.
        y : as in :meth:`predict`, optional
            Another series to go on from.
        exog : array (steps, covariate), or a list of them, optional
            Covariates in the coming rows; needed where they act within so many rows.
        past_exog : as exog of :meth:`fit`, optional
            Covariates of the other series.
        interval : float
            Probability between ``lower`` and ``upper``.
        quantiles : array of float, optional
            Further probabilities, at which the law of each row is read: ``quantile_value`` (…, quantile).

        Returns
        -------
        xarray.Dataset
            As from :meth:`predict`, at the coming rows. Variances are those of innovations, missing values
            and errors of measurement, with the coefficients taken as known.
        """
        levels = arguments.check_levels(interval, quantiles)
        check_whole("steps", steps, 1)
        return self._kind().forecast(self, int(steps), y, exog, past_exog, levels)

    @one_blas_thread
    def sample(
        self,
        steps: int,
        n: int = 1,
        y: Any = None,
        *,
        exog: Any = None,
        past_exog: Any = None,
        random_state: Any = None,
    ) -> Any:
        """Joint draws of the coming rows, with Gaussian innovations.

        Parameters
        ----------
        steps, y, exog, past_exog
            As in :meth:`forecast`.
        n : int
            How many draws.
        random_state : optional
            By default that of the model.

        Returns
        -------
        xarray.Dataset
            ``draw_value`` over (draw, …, time, output).
        """
        check_whole("n", n, 1)
        check_whole("steps", steps, 1)
        arguments.check_seed(random_state)
        rng = np.random.default_rng(self.random_state if random_state is None else random_state)
        return self._kind().sample(self, int(steps), int(n), y, exog, past_exog, rng)

    @one_blas_thread
    def score(self, y: Any = None, exog: Any = None) -> float:
        """Mean log predictive density of a row given those before it, in nats, with Gaussian noise.

        Parameters
        ----------
        y, exog
            As in :meth:`predict`.

        Returns
        -------
        float
            Over the rows that were observed and can be predicted.
        """
        return self._kind().score(self, y, exog)

    @one_blas_thread
    def coefficients(self, errors: str = "model") -> Any:
        """Coefficients by name.

        Parameters
        ----------
        errors : {"model", "hac"}
            Standard errors for noise as it is modelled, or robust to changing variance and correlation
            (Newey and West).

        Returns
        -------
        xarray.Dataset
            ``estimate``, ``standard_error``, ``z``, ``p_value`` (two-sided, given the support) and
            ``support`` over (output, coefficient), without output if y had none.
        """
        if errors not in ("model", "hac"):
            raise ValueError(f"errors must be 'model' or 'hac', found {errors!r}")
        return self._kind().coefficients(self, errors)

    def couplings(self) -> Any:
        """How much the past of one output helps to foretell another, beyond that of all others.

        Returns
        -------
        xarray.Dataset
            ``strength`` (Geweke's, the log ratio of variances without and with it), ``statistic`` (Granger's
            F) and ``p_value`` over (output, source); of counts ``filter``, ``filter_error`` (…, lag) on the
            log rate, and ``coupled``.
        """
        kind = self._kind()
        if kind is replies:
            raise ValueError("coupling is False: outputs do not feel each other; allowed: coupling=True")
        return kind.couplings(self)

    def mcmc(self, output: int = 0, **settings: Any) -> Any:
        """Draw the coefficients of all lags from their posterior under a regularised horseshoe, by NUTS.

        A step costs the cube of the number of lags, and nothing in rows: give ``n_lags`` of a few hundred at
        most. Columns that move the mean stay as they were fitted.

        Parameters
        ----------
        output : int
            Which output.
        **settings
            ``n_warmup``, ``n_samples``, ``n_chains``, ``expected``, ``random_state`` (by default that of the
            model), ``progress`` and others of :func:`hidamari.inference.ar_horseshoe.sample_horseshoe`.

        Returns
        -------
        xarray.DataTree
            As from there: ``tree["posterior"]["coef"]`` over (chain, draw, coefficient).
        """
        self._check_output(output)
        arguments.check_seed(settings.get("random_state"))
        return bayes.drawn_coefficients(self, int(output), **{"random_state": self.random_state, **settings})

    def spectrum(self, freqs: Any = None) -> Any:
        """Power spectral density of y about its mean, two-sided, at cycles per unit of time.

        Parameters
        ----------
        freqs : array, optional
            By default 512 from 0 to half a cycle per row.

        Returns
        -------
        xarray.DataArray
            (output, frequency), without output if y had none. Without errors of measurement.
        """
        laws = self._own_laws()
        freqs = arguments.frequencies(freqs, self.step_)
        rows = [ahead.spectrum(law.weights, law.sigma2, freqs, self.step_) for law in laws]
        return by_output(self, np.array(rows), "frequency", freqs)

    def impulse_response(self, steps: int = 50) -> Any:
        """Response of y to a unit shock, over so many rows from it on, as a DataArray (output, lag)."""
        check_whole("steps", steps, 1)
        rows = [ahead.impulse_response(law.weights, int(steps)) for law in self._own_laws()]
        return by_output(self, np.array(rows), "lag", np.arange(steps))

    def to_statespace(self, n_rows: int, output: int = 0) -> Any:
        """The autoregression of one output about its mean as a chain for the core; it must be stationary.

        Returns
        -------
        StateSpace
            Of n_rows rows, the last values being its state.
        """
        check_whole("n_rows", n_rows, 1)
        self._check_output(output)
        law = self._own_laws()[output]
        return ahead.to_statespace(law.weights, law.sigma2, int(n_rows))

    def _check_output(self, output: Any) -> None:
        """Refuse an output that is not there."""
        self._own_laws()
        check_whole("output", output, 0)
        if output >= self.n_features_in_:
            raise ValueError(f"output is {output}; allowed: less than {self.n_features_in_}")

    def _kind(self) -> Any:
        """The module that answers."""
        heard.check_fitted(self)
        return {"gaussian": replies, "vector": vector, "poisson": counts}[self.kind_]

    def _own_laws(self) -> list[Any]:
        """The process of each output, where outputs go their own ways."""
        if self._kind() is not replies:
            found = f"coupling is {self.coupling} and likelihood {self.likelihood!r}"
            raise ValueError(f"{found}; allowed: False and 'gaussian'")
        return heard.laws(self)
