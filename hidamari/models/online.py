"""Online change points: alarms while the data come in, in constant memory and microseconds a row."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hidamari.estimator import Estimator
from hidamari.inference.online import Network, RunLength, published_peaks
from hidamari.inference.online_threshold import calibrate
from hidamari.models._dcdp_arguments import read_series
from hidamari.models._online_arguments import (
    NETWORKS,
    check_arguments,
    check_predictor,
    check_rows,
    check_state,
    make_detector,
    make_predictor,
)
from hidamari.statespace.kernels import Kernel

__all__ = ["Alarm", "OnlineChangePoints"]

_HINDSIGHT = "mode='published' looks back over a whole recording: use fit, not {}"


class Alarm(NamedTuple):
    """What one row told.

    Attributes
    ----------
    row : int
        Its number, from 0.
    score : float
        NaN while the detector learns what is normal.
    alarm : bool
        Whether the score exceeded the threshold.
    change_point : int or None
        With an alarm: the first row of the new segment, estimated.
    """

    row: int
    score: float
    alarm: bool
    change_point: int | None


class OnlineChangePoints(Estimator):
    r"""Change points of a stream, found while it comes in.

    Every row gets a score from the rows up to it; a score above a threshold is an alarm. Without a change an
    alarm comes once in ``average_run_length`` rows on average.

    ``"focus"`` (default) is the exact log likelihood ratio over all windows that end now, for a change of
    level. ``"cusum"`` is Page's CUSUM for a change of known size. ``"run_length"`` is the Bayesian posterior
    of the time since the last change of mean and variance, or of rate; its score is the log odds of a
    change. ``"onnc"`` and ``"onnr"`` train small networks online to tell the newest rows from those ``lag``
    rows before, which finds changes of any kind.

    Parameters
    ----------
    method : {"focus", "cusum", "run_length", "onnc", "onnr"}
        The score.
    likelihood : {"gaussian", "poisson"}
        Of a row within a segment, units independent. Networks assume none.
    average_run_length : float
        Rows between false alarms, for independent rows; sets the threshold by a simulation of one to three
        seconds when the stream begins, whose standard error in log rows is ``threshold_error_``.
    threshold : float, optional
        Used instead.
    restart : bool
        Begin anew with the row after an alarm, scale and threshold kept. Otherwise scores go on, and a change
        point is noted each time that they come to exceed the threshold.
    mean, scale : float or array of shape (unit,), optional
        Level before any change (rate a bin of counts) and standard deviation, where known. By default the
        scale, and the level where the method needs one, are learnt from the first ``warm_up`` rows; focus
        learns the level from all rows since the last alarm, cusum anew from ``warm_up`` rows after an alarm,
        and networks standardise by the rows so far.
    warm_up : int
        Rows without score from which mean or scale are learnt.
    combine : {"max", "sum"}
        For focus and cusum, how the scores of units combine: the largest for a change of few units, their
        sum for a change of many. Each unit has its own window.
    shift : float
        For cusum: size of the change in standard deviations; for counts the factor of the rate, above 1.
    hazard : float
        For run_length: probability of a change at a row.
    prior : mapping, optional
        For run_length: parameters of a segment's conjugate prior, in units of mean and scale: ``mean,
        pseudo_count, shape, rate`` (normal-inverse-gamma), or ``shape, mean`` (gamma).
    max_run_lengths : int
        For run_length: kept at most; the posterior is exact until a segment has had as many rows, and
        ``lost_mass_`` bounds the expected error afterwards.
    lag, window, periods : int
        For networks: rows between the two windows, rows in each, rows stacked into one input.
    network : mapping, optional
        For networks: any of ``hidden, epochs, learning_rate, optimiser`` ("adam" or "rmsprop").
    mode : {"causal", "published"}
        For networks: alarms as the rows come in, or, in :meth:`fit` alone, the authors' procedure with
        hindsight: peaks of smoothed scores, without threshold or control of false alarms.
    kernel : Kernel, optional
        Detect changes in the innovations of this kernel plus ``noise``, one process a unit, instead of in y:
        predictable wandering is then no change.
    noise : float
        Variance of the noise beside the kernel.
    bin_s : float
        Time from row to row, in the unit of the kernel's lengthscale.
    random_state : int or numpy.random.Generator
        Of the threshold's simulation and of the networks' first weights.

    Attributes
    ----------
    change_points_ : ndarray of int
        First rows of new segments, one for each alarm.
    alarm_rows_ : ndarray of int
        Rows at which they were found.
    scores_, alarms_ : ndarray, shape (T,)
        Score and alarm of each row of the last :meth:`fit` or :meth:`partial_fit`.
    threshold_, threshold_error_ : float
        Threshold, and the standard error of the log of its average run length; NaN before it is known.
    mean_, scale_ : ndarray, shape (unit,)
        What rows are standardised by (zeros and ones where they are not).
    lost_mass_ : float
        For run_length: posterior mass dropped so far; 0 means exact.
    n_rows_, n_features_in_ : int
        Rows seen, and units.

    References
    ----------
    See the detectors of ``hidamari.inference.online``.

    Notes
    -----
    The stream may be cut anywhere: :meth:`fit` of all rows, :meth:`partial_fit` of pieces and :meth:`update`
    row by row give the same numbers, also across :meth:`save` and ``hd.load``. Memory does not grow, but for
    the list of alarms. After :meth:`set_params` call :meth:`reset`.

    Which method: networks lose to simpler statistics in our measurements (``benchmarks/online.py``). With one
    false alarm in 10,000 rows asked for, one unit, a shift of 1 sd is found after 18 rows by focus, 15 by
    run_length, 34 by the energy distance of two windows of 50 rows, 41 by onnr and 46 by onnc. Halved
    spread is missed by focus, cusum and energy distance, found after 32 rows by run_length. Peaks of the
    energy distance also tell activities apart better than networks do (area under precision and recall 1.00,
    onnc 0.98). Networks alarm less often than asked for (once in 30,000 to 40,000 rows; the energy distance
    once in 6,000), since their noisiest rows are the first; their estimate of a change point is late by the
    rows that they take to learn it.

    Microseconds a row of one unit in :meth:`fit`: focus 0.2, cusum 0.1, run_length 7 (200 run lengths), onnc
    7, onnr 12; :meth:`update` adds about 15.

    Examples
    --------
    >>> import numpy as np
    >>> import hidamari as hd
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 2)) + 2.0 * (np.arange(1000) >= 700)[:, None]
    >>> model = hd.OnlineChangePoints(threshold=15.0).fit(X)
    >>> model.change_points_, model.alarm_rows_
    (array([701]), array([704]))
    >>> model.update([0.1, -0.3]).alarm
    False
    """

    def __init__(
        self,
        method: str = "focus",
        likelihood: str = "gaussian",
        *,
        average_run_length: float = 10_000.0,
        threshold: float | None = None,
        restart: bool = True,
        mean: Any = None,
        scale: Any = None,
        warm_up: int = 200,
        combine: str = "max",
        shift: float = 2.0,
        hazard: float = 1.0 / 250.0,
        prior: Mapping[str, float] | None = None,
        max_run_lengths: int = 200,
        lag: int = 100,
        window: int = 10,
        periods: int = 1,
        network: Mapping[str, Any] | None = None,
        mode: str = "causal",
        kernel: Kernel | None = None,
        noise: float = 1.0,
        bin_s: float = 1.0,
        random_state: int | np.random.Generator | None = 0,
    ):
        self.method = method
        self.likelihood = likelihood
        self.average_run_length = average_run_length
        self.threshold = threshold
        self.restart = restart
        self.mean = mean
        self.scale = scale
        self.warm_up = warm_up
        self.combine = combine
        self.shift = shift
        self.hazard = hazard
        self.prior = prior
        self.max_run_lengths = max_run_lengths
        self.lag = lag
        self.window = window
        self.periods = periods
        self.network = network
        self.mode = mode
        self.kernel = kernel
        self.noise = noise
        self.bin_s = bin_s
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "OnlineChangePoints":
        """Forget everything, then take all rows of a recording, as :meth:`update` would one by one.

        Parameters
        ----------
        X : array or labelled array, shape (time,) or (time, unit)
            One recording; NaN where not observed.
        y : None
            Not looked at; there because scikit-learn's pipelines pass it.

        Returns
        -------
        OnlineChangePoints
            Itself.

        Raises
        ------
        ValueError
            If an argument or an entry of X is not allowed; the message names it.
        """
        self.reset()
        return self._fit(X, "fit")

    def reset(self) -> "OnlineChangePoints":
        """Forget all rows, the threshold and what was learnt in the warm-up; returns itself."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> "OnlineChangePoints":
        """Take the next rows of the stream, (time, unit), in one compiled pass; returns itself."""
        return self._fit(X, "partial_fit")

    def update(self, y_t: Any) -> Alarm:
        """Take the next row of the stream.

        Parameters
        ----------
        y_t : array, shape (unit,), or a number for one unit
            NaN where not observed.

        Returns
        -------
        Alarm
            Row, score, whether it is an alarm, and the estimated change point.

        Raises
        ------
        ValueError
            As :meth:`fit`, and if the mode is not causal.
        """
        try:
            row = np.array(y_t, dtype=float, ndmin=1)
        except (TypeError, ValueError):
            raise ValueError(f"y_t must be numbers, found {y_t!r}") from None
        if row.ndim != 1 or not row.size:
            raise ValueError(f"y_t must have shape (unit,), found {row.shape}")
        row = row[None]
        self._check_rows(row, "y_t")
        if not hasattr(self, "n_features_in_"):
            self._begin(row.shape[1], "update")
        elif self.mode == "published":
            raise ValueError(_HINDSIGHT.format("update"))
        score, alarm = self._take(row)
        found = bool(alarm[0])
        change = int(self.last_change_) if found else None
        return Alarm(self.n_rows_ - 1, float(score[0]), found, change)

    def run_length_posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Run lengths after the last row, rows of the current segment, and their probabilities.

        Raises
        ------
        ValueError
            If the method is another one, or the warm-up is not over.
        """
        self._check_fitted()
        detector = make_detector(self)
        if not isinstance(detector, RunLength):
            raise ValueError(f"method must be 'run_length' for a posterior, found {self.method!r}")
        if not self.state_:
            raise ValueError(f"the posterior begins after warm_up={self.warm_up} rows, found {self.n_rows_}")
        return detector.posterior(self.state_)

    # --------------------------------------------------------------------------------------- the stream

    def _fit(self, X: Any, caller: str) -> "OnlineChangePoints":
        """Take rows (time, unit)."""
        rows = read_series(X).values
        self._check_rows(rows, "X")
        if not hasattr(self, "n_features_in_"):
            self._begin(rows.shape[1], caller)
        elif self.mode == "published":
            raise ValueError(_HINDSIGHT.format(caller))
        self.scores_, self.alarms_ = self._take(rows)
        return self

    def _begin(self, d: int, caller: str) -> None:
        """Check the arguments and set up a stream of d units."""
        check_arguments(self, d)
        if self.mode == "published" and caller != "fit":
            raise ValueError(_HINDSIGHT.format(caller))
        rng = np.random.default_rng(self.random_state)
        seed = int(rng.integers(2**31))
        self.n_features_in_, self.n_rows_, self.seed_ = d, 0, seed
        self.change_points_ = self.alarm_rows_ = np.empty(0, np.int64)
        self.threshold_ = self.threshold_error_ = float("nan")
        self.above_, self.last_change_ = False, -1
        self.mean_, self.scale_ = self._given("mean", 0.0), self._given("scale", 1.0)
        self.warm_ = {name: np.zeros(d) for name in ("count", "mean", "square")}
        self.state_: dict[str, np.ndarray] = {}
        predictor = make_predictor(self)
        self.predictor_ = predictor.start(d) if predictor else {}
        if not self._warm_rows():
            self._arm()

    def _given(self, name: str, otherwise: float) -> np.ndarray:
        """A constructor argument, one number a unit."""
        value = getattr(self, name)
        return np.array(np.broadcast_to(otherwise if value is None else value, self.n_features_in_), float)

    def _warm_rows(self) -> int:
        """Rows from which something has to be learnt before the first score."""
        if self.method in NETWORKS or self.kernel is not None:
            return 0
        if self.likelihood == "poisson":
            needed = self.mean is None and (self.method != "focus" or self.threshold is None)
        else:
            needed = self.scale is None or (self.mean is None and self.method != "focus")
        return self.warm_up if needed else 0

    def _arm(self) -> None:
        """Set the threshold and the detector's state, once level and scale are known."""
        detector, d = make_detector(self), self.n_features_in_
        warm, counts = self._warm_rows(), detector.counts
        if warm:
            self._learn(warm, counts)
        level = self.mean_ if counts else np.zeros(d)
        if self.mode == "published":
            self.threshold_ = float("inf")
        elif self.threshold is not None:
            self.threshold_ = float(self.threshold)
        else:
            found = calibrate(detector, d, float(self.average_run_length), tuple(level), warm, self.seed_)
            self.threshold_, self.threshold_error_ = found
        self.state_ = detector.start(d, level, self.seed_)
        self.state_["clock"][0] = self.n_rows_

    def _learn(self, warm: int, counts: bool) -> None:
        """Take mean and scale from the warm-up where they were not given."""
        count, mean, square = self.warm_.values()
        few = np.flatnonzero(count < 2)
        if few.size:
            raise ValueError(
                f"X has {count[few[0]]:g} observed entries of unit {few[0]} in warm_up={warm} rows"
            )
        if self.mean is None:
            # A unit without an event yet has a rate of one event in the warm-up at most.
            self.mean_ = np.maximum(mean, 1.0 / count) if counts else mean.copy()
        if self.scale is None and not counts:
            still = np.flatnonzero(square == 0.0)
            if still.size:
                raise ValueError(f"X does not vary in unit {still[0]} in warm_up={warm} rows; give scale")
            self.scale_ = np.sqrt(square / (count - 1.0))

    def _warm(self, row: np.ndarray) -> None:
        """Add a row to the moments of the warm-up (Welford)."""
        count, mean, square = self.warm_.values()
        seen = ~np.isnan(row)
        gap = np.where(seen, row - mean, 0.0)
        count += seen
        mean += gap / np.maximum(count, 1.0)
        square += gap * np.where(seen, row - mean, 0.0)

    def _take(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores and alarms of the next rows; moves the stream."""
        scores, change = np.full(len(y), np.nan), np.full(len(y), -1)
        head = min(max(self._warm_rows() - self.n_rows_, 0), len(y))
        if head:
            for row in y[:head]:
                self._warm(row)
            self.n_rows_ += head
            if self.n_rows_ == self._warm_rows():
                self._arm()
        rest = y[head:]
        if len(rest):
            scores[head:], change[head:] = self._detect(rest)
            self.n_rows_ += len(rest)
        return scores, self._note(change, len(y))

    def _detect(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores and changes of rows after the warm-up."""
        detector, predictor = make_detector(self), make_predictor(self)
        check_state(detector, self.state_, self.n_features_in_)
        z = y if detector.counts else np.ascontiguousarray((y - self.mean_) / self.scale_)
        if predictor:
            check_predictor(self.predictor_, self.n_features_in_)
            z = predictor.run(self.predictor_, z)
        if self.mode == "published" and isinstance(detector, Network):
            scores, peaks = published_peaks(detector.divergence(self.state_, z)[0], self.window, self.lag)
            change = np.full(len(y), -1)
            change[peaks] = peaks
            return scores, change
        return detector.run(self.state_, z, self.threshold_, bool(self.restart))

    def _note(self, change: np.ndarray, n: int) -> np.ndarray:
        """Keep the changes of alarms that begin; which rows are alarms."""
        alarms = change >= 0
        if alarms.any():
            before = np.concatenate([[self.above_], alarms[:-1]]) & (not self.restart)
            rows = np.flatnonzero(alarms & ~before)
            self.change_points_ = np.concatenate([self.change_points_, change[rows]])
            self.alarm_rows_ = np.concatenate([self.alarm_rows_, rows + self.n_rows_ - n])
            self.last_change_ = int(change[alarms][-1])
        self.above_ = bool(alarms[-1])
        return alarms

    def _check_rows(self, rows: np.ndarray, name: str) -> None:
        """Refuse rows that do not go on with the stream."""
        d = getattr(self, "n_features_in_", None)
        check_rows(rows, self.likelihood == "poisson", d, name)

    def _check_fitted(self) -> None:
        """Refuse what needs rows."""
        if not hasattr(self, "n_features_in_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(
                "this OnlineChangePoints is not fitted yet; call fit(X) or update(y_t) first"
            )

    @property
    def lost_mass_(self) -> float:
        """For run_length: posterior mass of hypotheses dropped so far."""
        self._check_fitted()
        return float(self.state_["lost"][0]) if "lost" in self.state_ else 0.0
