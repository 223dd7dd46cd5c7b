"""Change points of a recording by divide-and-conquer dynamic programming, with how sure they are."""

from typing import Any

import numpy as np

from hidamari.estimator import Estimator
from hidamari.inference._marginals import likeliest
from hidamari.inference.changes import change_posterior, change_prior, intervals, log_marginals
from hidamari.inference.costs import Additive, Counts
from hidamari.inference.penalty import default_penalty
from hidamari.inference.segments import PenaltyPath, Segmentation, penalty_path
from hidamari.models._dcdp_arguments import (
    Series,
    Task,
    check_arguments,
    check_units,
    count_penalty,
    make_cost,
    make_task,
    read_series,
)
from hidamari.models._dcdp_search import search, search_number
from hidamari.models._dcdp_segments import parameters_of, segments_dataset

__all__ = ["DCDP"]

_PLACES = 2_000  # up to which every row is a place of the posterior,
_WORK = 40_000_000  # while the square of their number, times the units, is no more than this
_SLOW_PLACES = 150  # the same for costs without sums


class DCDP(Estimator):
    r"""Change points of a recording: how many, where, and how sure.

    The segmentation makes sum_k C(segment k) + penalty K small, C twice the negative log likelihood of a
    segment at its best parameters. It is found by dynamic programming on a grid, refinement of each change to
    a row, and a last dynamic programme over all candidates, in about one pass over the data.

    Noise of unknown variance and with memory is allowed, and "no change" is a possible answer.

    Parameters
    ----------
    model : str or Cost
        What is constant within a segment: ``"mean"``; ``"mean_variance"``; ``"sparse_mean"``, the mean, of
        which few units change; ``"covariance"``; ``"regression"`` of y on X; ``"counts"``, Poisson rates;
        ``"autoregressive"``, the prediction of a single unit from its last ``order`` rows;
        ``"state_space"``, a Gaussian process of each unit that begins anew at a change. Or a cost of
        ``hidamari.inference.costs``, or anything with its methods.
    penalty : float, optional
        Price of a change, in units of twice the log likelihood. By default
        p + 2 sqrt(p log T) + 2 log T for p parameters a segment, times ``tempering_``. For counts the
        quantile of chi-squared with p degrees of freedom that is exceeded with probability 0.05 / T, times
        ``tempering_`` and what two standard errors of that may hide.
    grid : "auto" or int
        Number of grid points of the first step.
    search : {"auto", "divide", "fpop", "pelt", "optimal", "seeded"}
        Engine; see ``hidamari.inference.segments``. "auto" is exact for short series, and for long ones
        of one unit without ``min_length``.
    min_length : int, optional
        Fewest rows of a segment. By default what the cost needs; three more than twice that where a segment
        has a variance of its own, since a few rows can lie on a line by chance; and 5 for a robust mean.
    noise : {"auto", "independent"}, float or array of shape (unit,)
        For means: "auto" estimates the long-run variance of noise with memory, "independent" the variance of
        noise without, numbers are known standard deviations. For counts and variances "auto" divides the
        likelihood by how many rows tell as much as one independent row, or by the counts' Fano factor.
    robust : bool
        For means with ``noise="auto"``: runs of up to five rows that stand out by more than three standard
        deviations are pulled back before the search.
    n_changes : int, optional
        Find so many changes, whatever the penalty.
    procedure : {"union", "paper"}
        The search described here, or the published one (``hidamari.inference.dcdp_paper``), with ``penalty``
        as its gamma and by default one chosen on alternate rows. For complete rows.
    interval : float or None
        Probability of each interval. None leaves out ``intervals_`` and ``probability_``, which take longer
        than the search.
    simultaneous : bool
        Make the intervals hold all together (Bonferroni).
    exposure : float or array of shape (time,) or (time, unit)
        For counts: length of the bins.
    order : int
        For ``"autoregressive"``: rows that predict the next.
    kernel : Kernel or sequence of Kernel, optional
        For ``"state_space"``; of several each segment takes the best. By default exponential covariances of
        seven lengthscales. Where ``noise`` is not given, rows are brought to mean 0 and variance 1, and the
        best of three shares of noise is taken.
    bin_s : float
        For ``"state_space"``: time from row to row.

    Attributes
    ----------
    change_points_ : ndarray of int, shape (K,)
        First row of each segment but the first, from 0.
    n_changes_ : int
        K.
    times_ : ndarray, shape (K,)
        Labels of those rows as they came with X, else their numbers.
    segments_ : xarray.Dataset
        Start, end and parameters of each segment.
    intervals_ : ndarray of int, shape (K, 2)
        First and last row of the interval of each change, both inside, its neighbours held.
    probability_ : ndarray, shape (time,)
        Posterior probability that a segment begins with a row. Exact over all segmentations up to 2,000
        rows, fewer for more than ten units; beyond, changes are allowed at a grid of rows and at the likely
        places of the changes found.
    cost_, penalty_ : float
        Cost of the segmentation, and price of a change.
    noise_ : ndarray, shape (unit,)
        Standard deviation of the noise, long-run; ones where the cost has its own.
    noise_order_ : int
        Order of the noise's autoregression.
    tempering_ : float
        What the likelihood is divided by.
    converged_ : bool
        Whether the grid was fine enough for the segments found.
    n_rows_, n_features_in_ : int
        Rows and units.
    feature_names_in_ : ndarray of str
        Names of the units, where X is labelled with names.

    References
    ----------
    Li, Wang and Rinaldo, Divide and conquer dynamic programming: an almost linear time change point detection
    methodology in high dimensions, ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import hidamari as hd
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=300) + 2.0 * (np.arange(300) >= 120)
    >>> model = hd.DCDP().fit(x)
    >>> model.change_points_, model.intervals_
    (array([116]), array([[116, 120]]))
    >>> hd.DCDP().fit(rng.normal(size=300)).n_changes_
    0
    """

    def __init__(
        self,
        model: Any = "mean",
        penalty: float | None = None,
        grid: Any = "auto",
        *,
        search: str = "auto",
        min_length: int | None = None,
        noise: Any = "auto",
        robust: bool = True,
        n_changes: int | None = None,
        procedure: str = "union",
        interval: float | None = 0.95,
        simultaneous: bool = False,
        exposure: Any = 1.0,
        order: int = 1,
        kernel: Any = None,
        bin_s: float = 1.0,
    ):
        self.model = model
        self.penalty = penalty
        self.grid = grid
        self.search = search
        self.min_length = min_length
        self.noise = noise
        self.robust = robust
        self.n_changes = n_changes
        self.procedure = procedure
        self.interval = interval
        self.simultaneous = simultaneous
        self.exposure = exposure
        self.order = order
        self.kernel = kernel
        self.bin_s = bin_s

    def fit(self, X: Any, y: Any = None) -> "DCDP":
        """Find the change points of a recording.

        Parameters
        ----------
        X : array or labelled array, shape (time,) or (time, unit)
            One recording; NaN where not observed.
        y : array, shape (time,), optional
            Response, for ``model="regression"``; not looked at otherwise.

        Returns
        -------
        DCDP
            Itself.

        Raises
        ------
        ValueError
            If an argument or an entry of X is not allowed; the message names it.
        """
        series = read_series(X)
        check_arguments(self, *series.values.shape)
        task = make_task(self, series.values, y)
        penalty = self._price(task)
        found = self._find(task, penalty)
        if not np.isfinite(found.cost):
            raise ValueError(
                f"X has {len(task.rows)} rows, too few for {task.cost!r} of {task.rows.shape[1]} units"
            )
        self.n_rows_, self.n_features_in_ = series.values.shape
        self.noise_, self.noise_order_, self.tempering_ = task.noise, task.order, task.tempering
        self.change_points_, self.n_changes_ = found.change_points, len(found.change_points)
        self.cost_, self.penalty_, self.converged_ = found.cost, float(penalty), bool(found.converged)
        self._keep_labels(series)
        self.parameters_ = parameters_of(self, series.values, task, found.change_points)
        for name in ("intervals_", "probability_"):
            vars(self).pop(name, None)
        if self.interval is not None:
            self._weigh(task, float(self.interval))
        return self

    def predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Change points of another recording, with the penalty and the noise of the one that was fitted.

        Parameters
        ----------
        X, y
            As in :meth:`fit`, the same number of units.

        Returns
        -------
        ndarray of int
            First row of each segment but the first.
        """
        self._check_fitted()
        series = read_series(X)
        check_units(self, series)
        check_arguments(self, *series.values.shape)
        known = Task(
            make_cost(self, len(series.values)),
            series.values,
            self.noise_,
            self.tempering_,
            self.noise_order_,
            1,
        )
        return self._find(make_task(self, series.values, y, known), self.penalty_).change_points

    def transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Number of the segment that each row of another recording lies in, (time,), from 0."""
        changes = self.predict(X, y)
        rows = np.arange(len(read_series(X).values))
        return np.searchsorted(changes, rows, side="right")

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit to a recording; returns its ``change_points_``."""
        return self.fit(X, y).change_points_

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit to a recording; returns the number of the segment that each row lies in, (time,), from 0."""
        changes = self.fit_predict(X, y)
        return np.searchsorted(changes, np.arange(self.n_rows_), side="right")

    def path(
        self, X: Any, smallest: float | None = None, largest: float | None = None, y: Any = None
    ) -> PenaltyPath:
        """Best segmentations for all penalties of a range (CROPS), noise as in :meth:`fit`.

        Parameters
        ----------
        X, y
            As in :meth:`fit`.
        smallest, largest : float, optional
            Range; by default from a fifth of the default penalty to a hundred times it.

        Returns
        -------
        PenaltyPath
        """
        series = read_series(X)
        check_arguments(self, *series.values.shape)
        task = make_task(self, series.values, y)
        usual = self._price(task)
        low = usual / 5.0 if smallest is None else smallest
        high = max(100.0 * usual, 2.0 * low) if largest is None else largest
        return penalty_path(task.rows, task.cost, low, high, min_length=task.min_length)

    @property
    def times_(self) -> np.ndarray:
        """Labels of the change points."""
        self._check_fitted()
        return self._label(self.change_points_)

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the units, where they came with X."""
        if not getattr(self, "named_", False):
            raise AttributeError(f"{type(self).__name__} has no feature_names_in_: no names came with X")
        return self.units_.astype(object)

    @property
    def segments_(self) -> Any:
        """Start, end and parameters of each segment, as an xarray.Dataset."""
        self._check_fitted()
        return segments_dataset(self)

    # --------------------------------------------------------------------------------------------- inside

    def __sklearn_tags__(self):
        """Tell scikit-learn that ``transform`` gives whole numbers, one a row."""
        from sklearn.utils import TransformerTags

        tags = super().__sklearn_tags__()
        tags.transformer_tags = TransformerTags(preserves_dtype=[])
        return tags

    def _check_fitted(self) -> None:
        """Refuse questions before a fit."""
        if not hasattr(self, "change_points_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(f"{type(self).__name__} is not fitted yet; call fit(X) first")

    def _price(self, task: Task) -> float:
        """Penalty in units of the cost."""
        if self.penalty is not None:
            return float(self.penalty)
        if isinstance(task.cost, Counts):
            return count_penalty(self, task)
        n, d = task.rows.shape
        return task.tempering * default_penalty(n, task.cost.n_parameters(d))

    def _find(self, task: Task, penalty: float) -> Segmentation:
        """The segmentation asked for."""
        return search(self, task, penalty) if self.n_changes is None else search_number(self, task, penalty)

    def _keep_labels(self, series: Series) -> None:
        """Keep the labels of rows and units as arrays that a file can hold."""
        labels = np.arange(len(series.values)) if series.labels is None else series.labels
        self.label_kind_ = str(labels.dtype) if labels.dtype.kind in "mM" else ""
        labels = labels.astype(np.int64) if self.label_kind_ else labels
        self.labels_ = labels if labels.dtype.kind in "biufU" else labels.astype(str)
        self.units_, self.named_ = series.units, series.named

    def _label(self, rows: np.ndarray) -> np.ndarray:
        """Labels of rows as they were given."""
        labels = self.labels_[rows]
        return labels.astype(self.label_kind_) if self.label_kind_ else labels

    def _weigh(self, task: Task, level: float) -> None:
        """Intervals of the changes, and the probability of a change at every row."""
        cost, n = task.cost, self.n_rows_
        p = cost.n_parameters(task.rows.shape[1])
        typical = n / (self.n_changes_ + 1.0)
        prior = change_prior(self.penalty_ / task.tempering, n, p, typical)
        marginal = log_marginals(cost, None, task.rows, prior, task.tempering)
        self.intervals_, chances = intervals(
            marginal, self.change_points_, n, level, task.min_length, self.simultaneous
        )
        most = min(_PLACES, int((_WORK / task.rows.shape[1]) ** 0.5))
        most = most if isinstance(cost, Additive) else min(most, _SLOW_PLACES)
        places = self._places(chances, most)
        posterior = change_posterior(marginal, places, prior.price, task.min_length)
        self.probability_ = posterior.probability

    def _places(self, chances: list[np.ndarray], most: int) -> np.ndarray:
        """Rows where the posterior allows a change: all, or a grid and the likely places of the changes."""
        n = self.n_rows_
        if n <= most:
            return np.arange(n + 1)
        edges = np.concatenate([[0], self.change_points_])
        share = max(1, most // (2 * max(1, len(chances))))
        likely = [edges[k] + 1 + likeliest(chance, share) for k, chance in enumerate(chances)]
        grid = np.linspace(0, n, most // 2 + 1).astype(np.int64)
        return np.unique(np.concatenate([grid, self.change_points_, *likely]))
