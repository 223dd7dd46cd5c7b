"""MarkovGP: Gaussian process regression, classification and counts in time linear in the data."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hidamari.arrays import split
from hidamari.estimator import Estimator
from hidamari.inference import regression, scales
from hidamari.inference.likelihoods import Likelihood, get_likelihood
from hidamari.inference.objective import GPModel
from hidamari.inference.regression import Data, Factors
from hidamari.models import _gp_answers as answers
from hidamari.models import _gp_door as door
from hidamari.models._door import check_number, check_whole, one_blas_thread, progress_bar
from hidamari.models._gp_door import Clock, Observed
from hidamari.statespace.kernels import Kernel

__all__ = ["MarkovGP"]


class MarkovGP(Estimator):
    r"""Gaussian process over time: smoothing, prediction and learning, in time linear in the number of data.

    y_tn ~ p(y | eta_n(t)), eta_n(t) = mean_n + f_n(t), f_n ~ GP(0, kernel) independent for outputs, trials.

    For Gaussian noise all answers are exact; otherwise the posterior is the best Gaussian one (variational),
    and the evidence its lower bound. Outputs share the kernel, and have each their own mean and noise. Times
    may be irregular, unsorted and repeated; answers come in the order of the data. NaN: not observed.

    Parameters
    ----------
    kernel : Kernel, optional
        Where learning starts; times and its lengthscales share one unit. By default ``Matern(order=1)``
        started from the scales of the data.
    likelihood : str or likelihood
        ``"gaussian"`` (default), ``"poisson"``, ``"negative_binomial"``, ``"bernoulli"``, ``"student_t"``,
        or an instance. A name starts its parameters, one for each output, from the data; an instance starts
        as it is, and one number in it is shared by the outputs. ``hd.Gaussian(variance=0.0)`` interpolates.
    mean : float or array (output,), optional
        Prior mean of eta; learnt by default. With ``learn=False``, or exact observations, an unknown mean is
        held at that of the data.
    learn : bool
        Learn hyperparameters, from the evidence, or hold all where they start.
    fixed : mapping or list of str, optional
        What is not learnt, with its value, or None or just its name to hold it where it starts:
        ``"kernel"``, ``"likelihood"``, ``"mean"``, or a path or its end, as ``"kernel.first.lengthscale"``.
    priors : mapping, optional
        From a path or its end to a numpyro distribution over the value: learning finds the posterior mode.
    n_init, max_iter, tol : int, int, float
        Starts, the best of which is kept; iterations of each at most; and the relative rise that ends it.
    random_state : int or numpy.random.Generator
        Source of randomness for further starts and draws.
    progress, n_threads : bool, int, optional
        Whether to show a progress bar (by default in terminals and notebooks), and threads over series.
    time_unit : str
        Unit in which dates become times since the first: ``"s"`` (default), ``"ms"``, ``"us"``, ``"ns"``,
        ``"min"``, ``"h"``, ``"D"``, ``"W"``, or ``"Y"`` of 365.25 days. Numbers stay as they are.

    Attributes
    ----------
    kernel_ : Kernel
        Learnt kernel.
    likelihood_ : likelihood
        With its learnt parameters.
    mean_ : ndarray, shape (output,)
        Prior mean of eta.
    log_evidence_ : float
        log p(y), or for other than Gaussian noise its lower bound; without the log prior.
    standard_errors_ : dict
        From the path of each learnt value to its standard error, by the curvature at the top; NaN on a limit.
    n_iter_, converged_, message_ : int, bool, str
        Iterations done, whether the objective settled, and how it ended.
    posterior_ : dict
        Draws (chain, draw) by path, after :meth:`mcmc`.

    References
    ----------
    J. Hartikainen and S. Särkkä, Kalman filtering and smoothing solutions to temporal Gaussian process
    regression models, MLSP 2010.

    Examples
    --------
    >>> import numpy as np
    >>> import hidamari as hd
    >>> rng = np.random.default_rng(0)
    >>> times = rng.uniform(0, 10, 200)
    >>> model = hd.MarkovGP().fit(times, np.sin(times) + 0.1 * rng.standard_normal(200))
    >>> found = model.predict([2.5, 11.0])
    >>> found["mean"].values.round(1).tolist()[0], bool(found.latent_var[1] > found.latent_var[0])
    (0.6, True)
    """

    def __init__(
        self,
        kernel: Kernel | None = None,
        likelihood: str | Likelihood = "gaussian",
        *,
        mean: Any = None,
        learn: bool = True,
        fixed: Mapping[str, Any] | Iterable[str] | None = None,
        priors: Mapping[str, Any] | None = None,
        n_init: int = 1,
        max_iter: int = 200,
        tol: float = 1e-10,
        random_state: int | np.random.Generator | None = 0,
        progress: bool | None = None,
        n_threads: int | None = None,
        time_unit: str = "s",
    ):
        self.kernel = kernel
        self.likelihood = likelihood
        self.mean = mean
        self.learn = learn
        self.fixed = fixed
        self.priors = priors
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.progress = progress
        self.n_threads = n_threads
        self.time_unit = time_unit

    @one_blas_thread
    def fit(self, times: Any, y: Any = None, *, error: Any = None, exposure: float = 1.0) -> "MarkovGP":
        """Learn the hyperparameters, and condition on the data.

        Parameters
        ----------
        times : array, or list of arrays
            Times of the rows of y, in any order: numbers, or dates. ``fit(y)`` takes them from y: the index
            of a pandas object, the coordinate ``time`` of a DataArray; else rows are numbered 0, 1, 2, ...
        y : array, list or labelled array
            (time,), (time, output), (trial, time, output), or a list of trials with a list of times; NaN:
            not observed.
        error : float or as y, optional
            Known standard deviations of single observations, for Gaussian noise: their squares are added to
            the noise variance. To have no other noise, fix ``"likelihood.variance"`` at 0.
        exposure : float
            Seconds per bin, for counts; eta is then the log of a rate.

        Returns
        -------
        MarkovGP
            Itself; with a ConvergenceWarning if the objective has not settled. What is not allowed is a
            ValueError that names it.
        """
        fixed = self._check_arguments()
        check_number("exposure", exposure)
        likelihood = get_likelihood(self.likelihood)
        observed = door.observe(times, y, error, Clock(self.time_unit, None))
        door.check_observed(observed, likelihood)
        door.warn_of_units(observed, likelihood)
        data = Data(observed.times, observed.values, observed.error, float(exposure))
        model = scales.start_model(data, self.kernel, self.likelihood, self.mean)
        model, names = scales.hold(model, fixed)
        door.check_observed(observed, model.likelihood)
        names = scales.movable(names, model, data, self.mean is not None) if self.learn else []
        with progress_bar(self.progress, self.max_iter, "MarkovGP") as show:
            settings = (self.n_init, self.random_state, self.max_iter, self.tol, self.n_threads, show)
            learnt = scales.learn(model, names, data, self.priors, *settings)
        self._keep(observed, data, learnt)
        if not self.converged_:
            from sklearn.exceptions import ConvergenceWarning

            warnings.warn(learnt.message, ConvergenceWarning, stacklevel=3)
        return self

    @one_blas_thread
    def smooth(self, derivatives: int = 0, interval: float | None = 0.95) -> Any:
        """Posterior at the times of the data, in their order.

        Parameters
        ----------
        derivatives : int
            Also the first so many time derivatives of eta, where paths of the kernel have them.
        interval : float, optional
            Posterior probability between ``lower`` and ``upper``.

        Returns
        -------
        xarray.Dataset
            Over (…, time, output), without output if y had none: ``latent_mean`` and ``latent_var`` of eta;
            ``["mean"]``, the expected observation (a rate for counts, a probability for yes or no), with its
            central interval ``lower``, ``upper``; ``derivative_mean``, ``derivative_var`` (…, derivative).
        """
        return self._read(None, derivatives, interval, False, "fit", 1)

    @one_blas_thread
    def predict(
        self,
        times: Any,
        *,
        derivatives: int = 0,
        interval: float | None = 0.95,
        observation: bool = False,
        hyperparameters: str = "fit",
        n_draws: int = 50,
    ) -> Any:
        """Posterior at any times: between the data, before and beyond them.

        Parameters
        ----------
        times : array, or list of arrays
            In any order. Every trial is read at all of them, or at its own array of a list.
        derivatives, interval : as for :meth:`smooth`
        observation : bool
            Let ``mean``, ``lower`` and ``upper`` be those of a new observation instead (a count in a bin of
            the fit's exposure), and add ``observation_var``. Known error bars are not part of it.
        hyperparameters, n_draws : {"fit", "posterior"}, int
            Those that fit learnt, or the average over so many draws of :meth:`mcmc`.

        Returns
        -------
        xarray.Dataset
            As from :meth:`smooth`, at ``times``; a non-stationary kernel refuses those before the data.
        """
        new = self._new_times(times)
        return self._read(new, derivatives, interval, observation, hyperparameters, n_draws)

    @one_blas_thread
    def forecast(self, steps: int, *, interval: float | None = 0.95, observation: bool = False) -> Any:
        """What :meth:`predict` says of the ``steps`` rows after the last, where rows are evenly spaced."""
        check_whole("steps", steps, 1)
        new = answers.ahead(self._observed().times, int(steps))
        return self._read(new, 0, interval, observation, "fit", 1)

    @one_blas_thread
    def sample(
        self,
        n: int = 1,
        times: Any = None,
        *,
        observation: bool = False,
        hyperparameters: str = "fit",
        random_state: int | np.random.Generator | None = None,
    ) -> Any:
        """Joint draws from the posterior at ``times``, by default those of the data.

        Parameters
        ----------
        n, times : int, optional
            Number of draws; times as for :meth:`predict`.
        observation : bool
            Also draw new observations.
        hyperparameters : {"fit", "posterior"}
            With ``"posterior"`` every draw has hyperparameters of its own.
        random_state : optional
            By default that of the model.

        Returns
        -------
        xarray.Dataset
            ``latent_draw`` of eta and ``mean_draw``, the expected observation given it (a rate for counts);
            with ``observation`` also ``observation_draw``; over (draw, …, time, output).
        """
        check_whole("n", n, 1)
        new = self._new_times(times)
        rng = np.random.default_rng(self.random_state if random_state is None else random_state)
        models = self._models(hyperparameters, int(n))
        each = np.bincount(np.arange(n) % len(models))
        own = self._observed().times
        paths = [
            regression.draw(model.kernel, factors, own, new, int(k), rng, self.n_threads) + model.bias
            for (model, factors), k in zip(models, each)
        ]
        likelihoods = [model.likelihood for model, _ in models]
        variables = answers.drawn(paths, likelihoods, self.exposure_ if observation else None, rng)
        return self._labelled(variables, new, {"draw": np.arange(n)}).transpose("draw", ...)

    @one_blas_thread
    def decompose(self, times: Any = None) -> Any:
        """Posterior of each summand of the kernel, at ``times`` or at those of the data.

        Returns
        -------
        xarray.Dataset
            ``component_mean``, ``component_var`` (…, component): one for each term of a sum of kernels, whose
            means add up to ``latent_mean`` with ``prior_mean``.
        """
        new = self._new_times(times)
        terms, rows = regression.parts(self.kernel_)
        variables, names = answers.components(terms, *self._moments(new, rows), self.mean_)
        kernels = [repr(term) for term in terms]
        return self._labelled(variables, new, {"component": names}, {"kernels": kernels})

    @one_blas_thread
    def score(self, times: Any = None, y: Any = None, *, error: Any = None) -> float:
        """Mean log predictive density per observed entry, each given the entries before it, in nats.

        That is the log evidence (for other than Gaussian noise its lower bound) of y on its own, at the
        learnt hyperparameters, over the number of entries; by default of the data of the fit. For new data
        given those of the fit see :meth:`log_predictive`.
        """
        own = times is None and y is None
        other = self._observed() if own else self._others(times, y, error)
        data = Data(other.times, other.values, other.error, self.exposure_)
        look = (self._model(), data)
        value = self.log_evidence_ if own else regression.condition(*look, n_threads=self.n_threads)[1]
        return value / max(int(np.isfinite(other.values).sum()), 1)

    @one_blas_thread
    def log_predictive(self, times: Any, y: Any = None, *, error: Any = None) -> Any:
        """Log density of each entry of new data given those of the fit, log p(y*_i | y), each by itself.

        Returns
        -------
        xarray.Dataset
            ``log_density`` in the shape of y, NaN where nothing was observed: its mean compares models.
        """
        mine, other = self._observed(), self._others(times, y, error)
        if len(other.times) != len(mine.times):
            raise ValueError(f"y has {len(other.times)} trials; the model was fitted to {len(mine.times)}")
        door.check_begin(self.kernel_, mine.times, other.times)
        m, v = (a[..., 0] for a in self._moments(other.times))
        variables = answers.log_densities(self.likelihood_, other, m + self.mean_, v, self.exposure_)
        return door.to_labelled(variables, other.times, other, None, {"model": repr(self)})

    @one_blas_thread
    def mcmc(
        self, n_warmup: int = 500, n_samples: int = 1000, n_chains: int = 2, *, random_state: Any = None
    ) -> Any:
        """Draw the hyperparameters that fit learnt from their posterior, by NUTS.

        Those without a prior in ``priors`` get a weak one on the scales of the data. Afterwards
        ``predict(..., hyperparameters="posterior")`` averages over the draws, kept as ``posterior_``.

        Parameters
        ----------
        n_warmup, n_samples, n_chains : int
            Steps of each chain that adapt and that count, and chains.

        Returns
        -------
        xarray.DataTree
            In the groups of ArviZ; with a ConvergenceWarning if the chains have not converged.
        """
        self._observed()
        held = (dict.fromkeys(door.as_fixed(self.fixed)), self.mean is not None)
        sizes = (n_warmup, n_samples, n_chains)
        rng = self.random_state if random_state is None else random_state
        tree = scales.draw(self._model(), *held, self._data(), self.priors, *sizes, rng, self.progress)
        self.posterior_ = answers.draws_of(tree)
        return tree

    def _moments(self, new, rows=None) -> tuple[np.ndarray, np.ndarray]:
        """Moments of f and further read-outs at the learnt hyperparameters."""
        model, factors = self._models("fit", 1)[0]
        return regression.read(model.kernel, factors, self._observed().times, new, rows, self.n_threads)

    def _read(self, new, derivatives, interval, observation, hyperparameters, n_draws) -> Any:
        """Moments and intervals as a Dataset."""
        check_whole("derivatives", derivatives, 0)
        if interval is not None and not (isinstance(interval, float) and 0.0 < interval < 1.0):
            raise ValueError(f"interval must be between 0 and 1, or None, found {interval!r}")
        check_whole("n_draws", n_draws, 1)
        observed = self._observed()
        moments = []
        for model, factors in self._models(hyperparameters, int(n_draws)):
            rows = regression.derivative_rows(model.kernel, int(derivatives)) if derivatives else None
            m, v = regression.read(model.kernel, factors, observed.times, new, rows, self.n_threads)
            m[..., 0] += model.bias
            moments.append((m, v, model.likelihood))
        mixture = answers.Mixture(*(list(column) for column in zip(*moments)))
        variables = answers.answers(mixture, interval, self.exposure_ if observation else None)
        coords = {"derivative": np.arange(1, derivatives + 1)} if derivatives else {}
        return self._labelled(variables, new, coords, {"interval": interval})

    def _labelled(self, variables, new, coords, attrs=None) -> Any:
        """Variables at new times or those of the data as a Dataset."""
        observed = self._observed()
        at = observed.times if new is None else new
        return door.to_labelled(variables, at, observed, coords, {"model": repr(self)} | (attrs or {}))

    def _check_arguments(self) -> dict[str, Any]:
        """Refuse what the constructor was given wrongly; the parts to hold fixed."""
        for name in ("max_iter", "n_init"):
            check_whole(name, getattr(self, name), 1)
        check_number("tol", self.tol)
        if not isinstance(self.learn, bool):
            raise ValueError(f"learn must be True or False, found {self.learn!r}")
        if self.kernel is not None and not isinstance(self.kernel, Kernel):
            raise ValueError(f"kernel must be a Kernel or None, found {self.kernel!r}")
        return door.as_fixed(self.fixed)

    def _keep(self, observed: Observed, data: Data, learnt: scales.Learnt) -> None:
        """Store the model, the data, and for other than Gaussian noise the sites."""
        for name in ("posterior_", "sites_j_", "sites_J_"):
            vars(self).pop(name, None)
        model, factors, self.log_evidence_, self.standard_errors_, *ended = learnt
        self.n_iter_, self.converged_, self.message_ = ended
        self.kernel_, self.likelihood_, self.mean_ = model.kernel, model.likelihood, model.bias
        self.times_, self.y_, self.error_ = np.concatenate(data.times), data.values, data.error
        self.exposure_, self.trial_lengths_ = data.exposure, observed.lengths
        self.trial_form_, self.vector_, self.output_names_ = observed.form, observed.vector, observed.names
        self.time_unit_, self.time_origin_ = observed.clock
        self.n_features_in_ = data.values.shape[1]
        if not factors.readings:
            self.sites_j_, self.sites_J_ = factors.first, factors.second

    def _observed(self) -> Observed:
        """The data of the fit; refuse what needs one."""
        if not hasattr(self, "kernel_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("this MarkovGP is not fitted yet; call fit(y) first")
        form = (self.trial_form_, self.vector_, self.output_names_)
        clock = Clock(self.time_unit_, self.time_origin_)
        return Observed(split(self.times_, self.trial_lengths_), self.y_, self.error_, *form, clock)

    def _others(self, times: Any, y: Any, error: Any) -> Observed:
        """Other data for the same model."""
        other = door.observe(times, y, error, self._observed().clock)
        door.check_observed(other, self.likelihood_, self._observed())
        return other

    def _data(self) -> Data:
        """The data of the fit without their labels."""
        return Data(split(self.times_, self.trial_lengths_), self.y_, self.error_, self.exposure_)

    def _model(self) -> GPModel:
        """The learnt model as one tree."""
        return GPModel(self.kernel_, self.likelihood_, self.mean_)

    def _models(self, hyperparameters: str, n_draws: int) -> list[tuple[GPModel, Factors]]:
        """Models to average over, each with what the data say under it."""
        if hyperparameters == "fit":
            if hasattr(self, "sites_j_"):
                return [(self._model(), Factors(False, self.sites_j_, self.sites_J_))]
            return [(self._model(), regression.readings(self._model(), self._data()))]
        if hyperparameters != "posterior":
            raise ValueError(f"hyperparameters must be 'fit' or 'posterior', found {hyperparameters!r}")
        draws: dict[str, np.ndarray] = getattr(self, "posterior_", {})
        if not draws:
            raise ValueError("hyperparameters is 'posterior', which needs draws: call mcmc() first")
        data = self._data()
        models = answers.drawn_among(self._model(), draws, n_draws)
        return [(model, regression.condition(model, data, n_threads=self.n_threads)[0]) for model in models]

    def _new_times(self, times: Any) -> list[np.ndarray] | None:
        """Times to read at, trial by trial; None stands for those of the data."""
        observed = self._observed()
        if times is None:
            return None
        new = door.new_times(times, len(observed.times), observed.form, observed.clock)
        door.check_begin(self.kernel_, observed.times, new)
        return new
