"""CVHM: latent Gaussian processes with Hida-Matérn kernels behind spikes and other series."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hidamari.arrays import Trials, as_trials, bin_width, split
from hidamari.estimator import Estimator
from hidamari.inference.fit import Fit, Problem, Settings, fit_latents, refit
from hidamari.inference.likelihoods import Likelihood, get_likelihood
from hidamari.inference.posterior import condition, infer_sites
from hidamari.inference.predict import read_ahead, read_at, trial_steps
from hidamari.inference.readout import LoadingPrior
from hidamari.inference.sites import Readout, linear_predictor
from hidamari.inference.start import smoothing_width, working_scale
from hidamari.models._door import (
    check_number,
    check_whole,
    clocks,
    fixed_mapping,
    given_readout,
    one_blas_thread,
    progress_bar,
    start_kernels,
    with_times,
)
from hidamari.results import Variable, latents_dataset, to_dataset
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Kernel, bank
from hidamari.statespace.types import Sites, Smoothed, StateSpace

__all__ = ["CVHM"]

_LATENTS = 12  # by default: on recordings of 15 to 102 units held-out units gained little from more


class CVHM(Estimator):
    r"""Latent trajectories with uncertainty from many noisy series, in time linear in their length.

    y_tn ~ p(y | eta_tn), eta_tn = sum_l C_nl z_l(t) + b_n, z_l ~ GP(0, k_l) independent, k_l Hida-Matérn.

    Spike counts have rate e^eta in spikes per second. The posterior q(z) is Gaussian, found by
    conjugate-computation variational inference; loadings C, bias b, a prior on C, the kernels'
    hyperparameters and the likelihood's own parameters are learnt. Latents have unit prior variance (their
    kernel's variance), are ordered by the log-rate variance they explain, and signed so that their loadings
    sum to a positive number.

    Parameters
    ----------
    n_latents : int, optional
        Number of latent trajectories; by default 12, or the number of units if that is less.
    kernel : Kernel or list of Kernel, optional
        One for all latents or one each; where learning starts. By default ``Matern(order=1)`` with
        lengthscales from two bins to a time scale read off the data.
    likelihood : str or likelihood
        ``"poisson"`` (default), ``"negative_binomial"``, ``"bernoulli"``, ``"gaussian"``, ``"student_t"``, or
        an instance such as ``hd.Binomial(n=10)``.
    bin_s : float, optional
        Width of a bin in seconds; needed where y does not carry it.
    learn_kernel : {"evidence", "whittle", None}
        How hyperparameters are learnt: evidence of the sites (default), Whittle's likelihood of posterior
        draws (a few rounds), or not at all.
    prior_strength : float
        How firmly the learnt spread of each latent's loadings is held near 0.35 in log rate (near the data's
        own spread for real-valued data), in multiples of the number of units.
    max_iter : int
        Rounds of learning at most.
    tol : float
        Stop when the objective rises by less than this fraction in two rounds running.
    n_init : int
        Number of starts; the best is kept. The first is deterministic.
    fixed : mapping or list of str, optional
        What is not learnt, with its value, or None or just its name to hold it where it starts:
        ``"loadings"`` (unit, latent), ``"bias"`` (unit,), ``"kernel"``, ``"kernel.lengthscale"``,
        ``"kernel.frequency"``, ``"likelihood"``.
    warm_start : bool
        Go on from the last fit instead of starting anew.
    random_state : int or numpy.random.Generator
        Source of randomness for further starts and draws.
    progress : bool, optional
        Show a progress bar; by default in terminals and notebooks.
    n_threads : int, optional
        Threads over trials; by default as many as cores, where it pays.

    Attributes
    ----------
    loadings_ : ndarray, shape (unit, latent)
        C.
    bias_ : ndarray, shape (unit,)
        b; the log of a rate in spikes per second for counts.
    kernels_ : list of Kernel
        Learnt kernels.
    likelihood_ : likelihood
        With its learnt parameters.
    relevance_ : ndarray, shape (latent,)
        Learnt precision of the prior on each latent's loadings.
    elbo_ : ndarray
        The objective by round: a lower bound on log p(y) plus the log priors of what is learnt.
    n_iter_, converged_, message_ : int, bool, str
        Rounds done, whether the objective settled, and how it ended.
    bin_s_, unit_names_, n_features_in_
        Seconds per bin, unit ids, and their number.

    References
    ----------
    M. Dowling, Y. Zhao, I. M. Park, Linear time GPs for inferring latent trajectories from neural spike
    trains, ICML 2023.

    Examples
    --------
    >>> import hidamari as hd
    >>> spikes = hd.datasets.simulate_spikes(n_units=20, n_trials=3, n_bins=100, random_state=0)
    >>> model = hd.CVHM(n_latents=3, bin_s=spikes.bin_s, max_iter=20, tol=1e-3).fit(spikes.y)
    >>> posterior = model.smooth()
    >>> dict(posterior.latent_mean.sizes)
    {'trial': 3, 'time': 100, 'latent': 3}
    """

    def __init__(
        self,
        n_latents: int | None = None,
        kernel: Kernel | list[Kernel] | None = None,
        likelihood: str | Likelihood = "poisson",
        bin_s: float | None = None,
        *,
        learn_kernel: str | None = "evidence",
        prior_strength: float = 20.0,
        max_iter: int = 200,
        tol: float = 1e-5,
        n_init: int = 1,
        fixed: Mapping[str, Any] | Iterable[str] | None = None,
        warm_start: bool = False,
        random_state: int | np.random.Generator | None = 0,
        progress: bool | None = None,
        n_threads: int | None = None,
    ):
        self.n_latents = n_latents
        self.kernel = kernel
        self.likelihood = likelihood
        self.bin_s = bin_s
        self.learn_kernel = learn_kernel
        self.prior_strength = prior_strength
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.fixed = fixed
        self.warm_start = warm_start
        self.random_state = random_state
        self.progress = progress
        self.n_threads = n_threads

    @one_blas_thread
    def fit(self, y: Any) -> "CVHM":
        """Learn the model from one recording or many trials.

        Parameters
        ----------
        y : array, list or labelled array
            (time, unit), (trial, time, unit), or a list of (time_i, unit); NaN where not observed.

        Returns
        -------
        CVHM
            Itself.

        Raises
        ------
        ValueError
            If an argument or an entry of y is not allowed; the message names it.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If the objective has not settled after ``max_iter`` rounds, or a state became non-finite.
        """
        fixed = self._check_arguments()
        trials = as_trials(y)
        likelihood = self.likelihood_ if self._is_warm() else get_likelihood(self.likelihood)
        problem = self._problem(trials, likelihood, bin_width(trials, self.bin_s))
        names = tuple(name.removeprefix("kernel.") for name in fixed)
        settings = Settings(
            self.max_iter, self.tol, self.learn_kernel, self.prior_strength, names, self.n_threads
        )
        rng = np.random.default_rng(self.random_state)
        if self._is_warm():
            fits = [self._go_on(problem, settings, rng)]
        else:
            fits = self._start(problem, likelihood, fixed, settings, rng)
        best = max(fits, key=lambda fit: fit.history[-1])
        self._keep(best, trials, problem)
        if not best.converged:
            from sklearn.exceptions import ConvergenceWarning

            warnings.warn(best.message, ConvergenceWarning, stacklevel=3)
        return self

    @one_blas_thread
    def smooth(self, y: Any = None) -> Any:
        """Posterior of latents and rates given all of y, or given the data of the fit.

        To predict held-out units or bins set them to NaN and read ``rate``.

        Parameters
        ----------
        y : array, list or labelled array, optional
            As for :meth:`fit`, with the same units; by default the data of the fit.

        Returns
        -------
        xarray.Dataset
            ``latent_mean``, ``latent_var`` (…, time, latent), ``latent_cov``, and ``rate`` (…, time, unit):
            the expected observation under q, in spikes per second for counts.
        """
        trials, sites, bin_s = self._sites(y)
        mean, cov, _ = condition(self._prior(trials, bin_s), sites, self.n_threads)
        return self._dataset(trials, Smoothed(mean, cov), bin_s)

    @one_blas_thread
    def predict(self, times: Any, y: Any = None) -> Any:
        """Posterior of latents and rates at any times: between bins, before and beyond the data.

        Parameters
        ----------
        times : array, shape (n,)
            Seconds, increasing, on the clock of the ``time`` coordinate of :meth:`smooth`; every trial is
            read at all of them.
        y : optional
            As for :meth:`smooth`.

        Returns
        -------
        xarray.Dataset
            As from :meth:`smooth`, at ``times``.
        """
        times = np.asarray(times, dtype=float)
        if times.ndim != 1 or times.size == 0 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise ValueError(
                f"times must be one axis of increasing finite seconds, found shape {times.shape} "
                f"from {times.min(initial=np.inf):g} to {times.max(initial=-np.inf):g}"
            )
        trials, sites, bin_s = self._sites(y)
        own = clocks(trials, bin_s)
        smoothed = read_at(self.kernels_, sites, own, times, self.n_threads)
        return self._dataset(with_times(trials, [times] * len(own)), smoothed, bin_s)

    @one_blas_thread
    def forecast(self, steps: int, y: Any = None) -> Any:
        """Posterior of latents and rates in the ``steps`` bins after the end of every trial.

        Returns
        -------
        xarray.Dataset
            As from :meth:`smooth`.
        """
        check_whole("steps", steps, 1)
        trials, sites, bin_s = self._sites(y)
        ahead = [own[-1] + bin_s * np.arange(1, steps + 1) for own in clocks(trials, bin_s)]
        smoothed = read_ahead(self.kernels_, sites, trials.lengths, steps, bin_s, self.n_threads)
        return self._dataset(with_times(trials, ahead), smoothed, bin_s)

    @one_blas_thread
    def sample(self, n: int = 1, y: Any = None, random_state: int | np.random.Generator | None = None) -> Any:
        """Joint draws of whole trajectories from the posterior.

        Parameters
        ----------
        n : int
            Number of draws.
        y : optional
            As for :meth:`smooth`.
        random_state : optional
            By default that of the model.

        Returns
        -------
        xarray.Dataset
            ``latent_draw`` (draw, …, time, latent) and ``rate`` (draw, …, time, unit): the expected
            observation given each draw.
        """
        check_whole("n", n, 1)
        trials, sites, bin_s = self._sites(y)
        rng = np.random.default_rng(self.random_state if random_state is None else random_state)
        draws = kalman.sample(self._prior(trials, bin_s), sites, int(n), rng, n_threads=self.n_threads)
        eta = draws @ self.loadings_.T + self.bias_
        rate = self._rate(eta, np.zeros_like(eta))
        variables = {
            "latent_draw": Variable(
                np.moveaxis(draws, 0, 1), ("draw", "latent"), "1", "posterior draws of the latents"
            ),
            "rate": Variable(
                np.moveaxis(rate, 0, 1),
                ("draw", "unit"),
                self._rate_units(),
                "expected observation of each draw",
            ),
        }
        coords = {"draw": np.arange(n), "latent": np.arange(draws.shape[2]), "unit": self.unit_names_}
        dataset = to_dataset(trials, variables, bin_s, coords, {"model": repr(self)})
        return dataset.transpose("draw", ...)

    @one_blas_thread
    def score(self, y: Any = None) -> float:
        """Mean log predictive density per observed entry, as the evidence lower bound of y over their number.

        log p(y) is the sum of the log densities of each bin given the bins before it, all units at once; the
        ELBO is a lower bound on it (equal for Gaussian noise). In nats; higher is better.
        """
        self._check_fitted()
        if y is None:
            return float(self.score_)
        trials = as_trials(y)
        problem = self._problem(trials, self.likelihood_, self._width(trials))
        return _score(self._infer(problem).elbo, self.likelihood_, problem)

    def _check_arguments(self) -> dict[str, Any]:
        """Refuse what the constructor was given wrongly; the parts to hold fixed."""
        for name in ("n_latents", "max_iter", "n_init"):
            check_whole(name, getattr(self, name), 1, optional=name == "n_latents")
        for name in ("tol", "prior_strength", "bin_s"):
            check_number(name, getattr(self, name), optional=name == "bin_s")
        if self.learn_kernel not in ("evidence", "whittle", None):
            raise ValueError(
                f"learn_kernel must be 'evidence', 'whittle' or None, found {self.learn_kernel!r}"
            )
        return fixed_mapping(self.fixed)

    def _is_warm(self) -> bool:
        """Whether a fit goes on from the last one."""
        return bool(self.warm_start) and hasattr(self, "loadings_")

    def _start(self, problem: Problem, likelihood, fixed: dict, settings: Settings, rng) -> list[Fit]:
        """Fits from ``n_init`` starts."""
        N = problem.y.shape[1]
        z, seen = working_scale(problem.y, likelihood)
        width = smoothing_width(z, seen, problem.lengths)
        K = min(_LATENTS, N) if self.n_latents is None else self.n_latents
        kernels = start_kernels(self.kernel, K, fixed, np.array([4.0 * width, 2.0]) * problem.bin_s)
        given = given_readout(fixed, N, len(kernels))
        fits = []
        for n in range(self.n_init):
            label = f"CVHM start {n + 1}/{self.n_init}"
            with progress_bar(self.progress, self.max_iter, label) as on_round:
                start = (problem, kernels, likelihood, settings, width, rng, n > 0, given, on_round)
                fits.append(fit_latents(*start))
        return fits

    def _go_on(self, problem: Problem, settings: Settings, rng) -> Fit:
        """One fit from where the last one ended."""
        if problem.y.shape[1] != self.n_features_in_:
            raise ValueError(
                f"y has {problem.y.shape[1]} units; the fit to go on from has {self.n_features_in_}"
            )
        prior = LoadingPrior(self.relevance_, *map(float, self.bias_prior_))
        sites = Sites(self.sites_j_, self.sites_J_) if len(self.sites_j_) == len(problem.y) else None
        with progress_bar(self.progress, self.max_iter, "CVHM") as on_round:
            model = (self.kernels_, self.likelihood_, settings, self._readout(), prior, sites)
            return refit(problem, *model, rng, on_round)

    def _keep(self, fit: Fit, trials: Trials, problem: Problem) -> None:
        """Store what a fit found."""
        self.loadings_, self.bias_ = fit.readout
        self.kernels_, self.likelihood_ = fit.kernels, fit.likelihood
        self.relevance_ = fit.prior.relevance
        self.bias_prior_ = np.array(fit.prior[1:])
        self.elbo_ = np.array(fit.history)
        self.n_iter_, self.converged_, self.message_ = len(fit.history) - 1, fit.converged, fit.message
        self.bin_s_, self.n_features_in_ = problem.bin_s, problem.y.shape[1]
        unnamed = np.arange(self.n_features_in_)
        self.unit_names_ = unnamed if trials.units is None else np.asarray(trials.units)
        self.score_ = _score(fit.posterior.elbo, fit.likelihood, problem)
        self.sites_j_, self.sites_J_ = fit.posterior.sites
        self.trial_lengths_, self.trial_form_ = trials.lengths, trials.form
        self.trial_times_ = None if trials.times is None else np.concatenate(clocks(trials, problem.bin_s))

    def _problem(self, trials: Trials, likelihood: Likelihood, bin_s: float) -> Problem:
        """The data of a fit or a look, with every entry allowed."""
        for trial, values in enumerate(split(trials.values, trials.lengths)):
            likelihood.check(values, "y" if trials.form == "array" else f"y[{trial}]")
        return Problem(trials.values, np.asarray(trials.lengths), bin_s)

    def _width(self, trials: Trials) -> float:
        """The bin width of the fit, checked against the data's own."""
        self._check_fitted()
        if trials.values.shape[1] != self.n_features_in_:
            raise ValueError(
                f"y has {trials.values.shape[1]} units; the model was fitted to {self.n_features_in_}"
            )
        return bin_width(trials, self.bin_s_)

    def _check_fitted(self) -> None:
        """Refuse what needs a fit."""
        if not hasattr(self, "loadings_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("this CVHM is not fitted yet; call fit(y) first")

    def _readout(self) -> Readout:
        return Readout(self.loadings_, self.bias_)

    def _infer(self, problem: Problem):
        """q for data that the model was not fitted to."""
        ss = bank(self.kernels_, np.array([problem.bin_s]), problem.step)
        model = (self._readout(), self.likelihood_, problem.bin_s)
        return infer_sites(ss, problem.y, *model, n_threads=self.n_threads)

    def _sites(self, y: Any) -> tuple[Trials, Sites, float]:
        """Sites of y, or of the data of the fit."""
        self._check_fitted()
        if y is None:
            times = None if self.trial_times_ is None else split(self.trial_times_, self.trial_lengths_)
            blank = np.empty((len(self.sites_j_), self.n_features_in_))
            trials = Trials(blank, self.trial_lengths_, self.trial_form_, units=self.unit_names_, times=times)
            return trials, Sites(self.sites_j_, self.sites_J_), self.bin_s_
        trials = as_trials(y)
        problem = self._problem(trials, self.likelihood_, self._width(trials))
        return trials, self._infer(problem).sites, problem.bin_s

    def _prior(self, trials: Trials, bin_s: float) -> StateSpace:
        """The latents' prior on the bins of the trials."""
        return bank(self.kernels_, np.array([bin_s]), trial_steps(trials.lengths))

    def _rate(self, mu: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Expected observation; per second for counts."""
        return self.likelihood_.predictive_mean(mu, v, 1.0)

    def _rate_units(self) -> str:
        return "spikes/s" if self.likelihood_.name in ("poisson", "negative_binomial") else "1"

    def _dataset(self, trials: Trials, at: Smoothed, bin_s: float) -> Any:
        """Latents and rates as a labelled Dataset."""
        mu, v = linear_predictor(self._readout(), at.mean, at.cov)
        return latents_dataset(
            trials,
            at.mean,
            np.einsum("tkk->tk", at.cov),
            self._rate(mu, v),
            bin_s,
            self.unit_names_,
            at.cov,
            rate_units=self._rate_units(),
            model=repr(self),
        )


def _score(elbo: float, likelihood: Likelihood, problem: Problem) -> float:
    """ELBO, with the part that depends on y alone, per observed entry."""
    n = int(np.isfinite(problem.y).sum())
    return (elbo + float(np.sum(likelihood.log_base(problem.y)))) / max(n, 1)
