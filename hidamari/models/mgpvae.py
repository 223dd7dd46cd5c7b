"""MGPVAE: latent Gaussian processes behind sequences of frames, read out by a network."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hidamari.estimator import Estimator
from hidamari.models import _vae_replies as replies
from hidamari.models._door import check_whole, one_blas_thread, progress_bar
from hidamari.models._gp_answers import ahead
from hidamari.models._gp_door import Clock, new_times
from hidamari.models._vae_arguments import check_arguments
from hidamari.models._vae_door import (
    Sequences,
    as_likelihood,
    as_locations,
    check_locations,
    check_sequences,
    frame_axes,
    read_sequences,
)
from hidamari.models._vae_replies import neural
from hidamari.models._vae_state import asked, keep, read_as_fitted
from hidamari.statespace.kernels import Kernel

__all__ = ["MGPVAE"]


class MGPVAE(Estimator):
    r"""Sequences of images, counts or measurements as latent Gaussian processes read out by a network.

    eta_t = C z(t) + b + g(z(t)),  y_td ~ p(y | eta_td),  z_l ~ GP(0, k_l) independent, with a network g.

    Times may be irregular and repeated, sequences of different length, frames and single entries missing.
    An encoder turns each frame into a Gaussian factor on its latents; the posterior under the factors of
    a sequence is exact, by a filter and a smoother, in time linear in its length. Learning starts at linear
    Gaussian process factor analysis (g = 0) and returns to it where nothing predicts entries that were set
    aside better. Needs the extra ``neural``: ``pip install "hidamari[neural]"``.

    Parameters
    ----------
    n_latents : int
        Number of latent processes.
    kernel : Kernel or list of Kernel, optional
        One for all latents or one each; where learning starts. By default Matérn kernels of several
        lengthscales, or of ``period`` and its harmonics. Variances stay.
    likelihood : {"gaussian", "bernoulli", "poisson"}
        Gaussian noise (its variances are learnt), yes or no, counts with rate exp(eta) per unit of time.
    decoder : "auto", sequence of int, "convolutional", or callable
        g: sizes of hidden layers (``()``: no network, g = 0), a small convolutional network for images, or a
        function of (n_in, n_out, key) that returns an equinox module from (n_in,) to (n_out,).
    encoder : "auto", sequence of int, "convolutional", or callable
        Of the same kinds, from a frame and its mask to where the frame is linearised.
    sites : {"auto", "full", "diagonal"} or int
        Whether a frame's factor couples the latents wholly (exact for linear decoders), not at all, or by
        a matrix of this rank; "auto" is full up to 16 latents.
    period : None, "auto" or float
        Let latents oscillate with a common period and its harmonics, found in the data or started there.
    harmonics : int
        The highest of them.
    learn_kernel : bool
        Whether the kernels' hyperparameters are learnt.
    beta : float
        Weight of the divergence from the prior in the objective; 1 is the bound.
    n_samples, batch_size, max_epochs, learning_rate, patience : int, int, int, float, int
        Draws of the latents and sequences of each step, epochs at most (0: linear factor analysis), Adam's
        rate at first, and epochs without a better validation after which to stop.
    validation : float
        Share of the sequences, or of the entries of few sequences, that is set aside to judge by.
    refinements : int, optional
        How often answers linearise frames again at the posterior mean; by default 3, or 0 for Gaussian noise.
    bin_s : float, optional
        Width of a bin, where Y carries no times: they are bin centres then, and counts have rates per second.
    space : Kernel, optional
        Of distances between locations, where frames have them; by default ``Matern(1)`` with the median
        distance. Lengthscales are learnt; the variance is that of the latents.
    n_inducing : int, optional
        Locations that stand for all; by default all up to 16. The cost grows with the cube of their number.
    checkpoint : str, optional
        File that is written after every epoch; a later fit of the same data and arguments goes on from it.
    random_state : int
        Seed of networks, batches and draws.
    progress : bool, optional
        Show a progress bar; by default in terminals and notebooks.
    n_threads : int, optional
        Of the smoother.

    Attributes
    ----------
    kernels_ : list of Kernel
        Learnt kernels.
    loadings_, bias_, noise_ : ndarray (D, latent), (D,), (D,)
        C, b and the variance of Gaussian noise, in units of Y; D entries of a flat frame.
    networks_ : dict of ndarray
        Weights of decoder and encoder by their path.
    period_ : float or None
        Learnt period.
    elbo_history_ : ndarray (epochs,)
        Mean bound of an observed entry in training, on the scale where Y is standardised.
    validation_ : ndarray (epochs + 1,)
        Mean log density of entries that were set aside, that of the linear start first; as above.
    n_epochs_, converged_, message_ : int, bool, str
        Epochs of what was kept (0: the linear start), whether learning settled, how it ended.

    References
    ----------
    H. Zhu, C. Balsells-Rodas, Y. Li, Markovian Gaussian process variational autoencoders, ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import hidamari as hd
    >>> t = np.arange(30.0)
    >>> Y = np.sin(t[:, None] / 4 + np.arange(5)) + 0.1 * np.random.default_rng(0).normal(size=(30, 5))
    >>> Y[10:14] = np.nan
    >>> model = hd.MGPVAE(n_latents=2, decoder=(), encoder=(), max_epochs=0).fit(Y)
    >>> filled = model.impute()
    >>> bool(filled["mean"].isnull().any()), bool(np.abs(filled["mean"][12, 0] - np.sin(3.0)) < 0.3)
    (False, True)
    """

    def __init__(
        self,
        n_latents: int = 8,
        kernel: Kernel | list[Kernel] | None = None,
        *,
        likelihood: str = "gaussian",
        decoder: str | Sequence[int] | Callable = "auto",
        encoder: str | Sequence[int] | Callable = "auto",
        sites: str | int = "auto",
        period: str | float | None = None,
        harmonics: int = 3,
        learn_kernel: bool = True,
        beta: float = 1.0,
        n_samples: int = 1,
        batch_size: int = 24,
        max_epochs: int = 80,
        learning_rate: float = 6e-3,
        patience: int = 40,
        validation: float = 0.1,
        refinements: int | None = None,
        bin_s: float | None = None,
        space: Kernel | None = None,
        n_inducing: int | None = None,
        checkpoint: str | None = None,
        random_state: int = 0,
        progress: bool | None = None,
        n_threads: int | None = None,
    ):
        self.n_latents = n_latents
        self.kernel = kernel
        self.likelihood = likelihood
        self.decoder = decoder
        self.encoder = encoder
        self.sites = sites
        self.period = period
        self.harmonics = harmonics
        self.learn_kernel = learn_kernel
        self.beta = beta
        self.n_samples = n_samples
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.patience = patience
        self.validation = validation
        self.refinements = refinements
        self.bin_s = bin_s
        self.space = space
        self.n_inducing = n_inducing
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.progress = progress
        self.n_threads = n_threads

    @one_blas_thread
    def fit(self, Y: Any, times: Any = None, mask: Any = None, locations: Any = None) -> "MGPVAE":
        """Learn from sequences of frames.

        Parameters
        ----------
        Y : array (n, T, ...), list of (T_i, ...), array (T, D), or labelled array
            Frames over time, vectors or images; two axes are one sequence. NaN: not observed.
        times : array (T,), (n, T) or list of (T_i,), optional
            Sorted, of every frame, numbers or dates; repeated ones are allowed. By default those that Y
            carries, else numbers of rows (bin centres with ``bin_s``).
        mask : array of bool, optional
            True where observed, of the shape of Y or without its last axes.
        locations : array (N, p), optional
            Frames are (N, D) or (N,) then: every location has latents of its own, correlated over time and
            space by the product of two kernels, and all share the read-out.

        Returns
        -------
        MGPVAE

        Raises
        ------
        ValueError
            If an argument is wrong.
        ImportError
            If the extra ``neural`` is not installed.
        """
        check_arguments(self)
        neural()
        likelihood = as_likelihood(self.likelihood)
        places = None if locations is None else as_locations(locations)
        axes = None if places is None else frame_axes(Y, places)
        sequences = read_sequences(Y, times, mask, Clock("s", None), self.bin_s, axes)
        check_sequences(sequences, likelihood, None)
        if places is not None:
            check_locations(sequences, places)
        shape = sequences.shape if places is None else sequences.shape[1:] or (1,)
        choices = neural().settled(self, likelihood.name, shape)
        with progress_bar(self.progress, int(self.max_epochs), "MGPVAE") as report:
            if places is None:
                learned = neural().learn(choices, sequences, report)
            else:
                space = (places, self.space, self.n_inducing)
                learned = neural().learn_space(choices, sequences, *space, report)
        keep(self, neural().arrays_of(learned.fitted.parameters), learned, choices, sequences)
        return self

    @one_blas_thread
    def transform(self, Y: Any = None, times: Any = None, mask: Any = None) -> Any:
        """Posterior of the latents given all frames, by default those of the fit.

        Returns
        -------
        xarray.Dataset
            ``latent_mean``, ``latent_var`` ([trial,] time, latent).
        """
        sequences, fitted = self._asked(Y, times, mask)
        at = neural().answers.latents(fitted, sequences.rows, sequences.times, None, self.n_threads)
        return self._laid_out(replies.moments(at), sequences, sequences.times)

    @one_blas_thread
    def impute(
        self,
        Y: Any = None,
        n_draws: int = 0,
        *,
        times: Any = None,
        mask: Any = None,
        random_state: int | np.random.Generator | None = None,
    ) -> Any:
        """Frames without gaps: what was observed as it is, the rest as expected, with its variance.

        Parameters
        ----------
        Y, times, mask : optional
            As for :meth:`fit`; by default the data of the fit.
        n_draws : int
            Also draw so many fillings, each from one joint path of the latents, with noise.
        random_state : optional
            Of the draws; by default that of the model.

        Returns
        -------
        xarray.Dataset
            ``mean`` and ``var`` ([trial,] time, ...), the variance of a new observation, 0 where observed;
            ``latent_mean``, ``latent_var``; ``observation_draw`` (draw, ...) with ``n_draws``.
        """
        check_whole("n_draws", n_draws, 0)
        sequences, fitted = self._asked(Y, times, mask)
        rng = self._generator(random_state)
        found = replies.imputed(fitted, sequences, int(n_draws), rng, self.n_threads)
        return self._laid_out(found, sequences, sequences.times)

    @one_blas_thread
    def reconstruct(self, Y: Any = None, *, times: Any = None, mask: Any = None) -> Any:
        """Expected frames given all of Y, observed entries too.

        Returns
        -------
        xarray.Dataset
            ``mean``, and its posterior variance ``var`` without noise ([trial,] time, ...); latents as from
            :meth:`transform`.
        """
        sequences, fitted = self._asked(Y, times, mask)
        found = replies.expected(fitted, sequences, None, False, self.n_threads)
        return self._laid_out(found, sequences, sequences.times)

    @one_blas_thread
    def predict(self, times: Any, Y: Any = None, *, own_times: Any = None, mask: Any = None) -> Any:
        """Frames at any times: between those of Y, before and after them.

        Parameters
        ----------
        times : array, or list of arrays
            In any order. Every sequence is read at all of them, or at its own array of a list.
        Y, own_times, mask : optional
            Frames to predict from, their times, and their mask; by default the data of the fit.

        Returns
        -------
        xarray.Dataset
            ``mean`` and ``var`` of a new observation ([trial,] time, ...), and latents. Far from all frames
            latents return to their prior, over about a lengthscale.
        """
        sequences, fitted = self._asked(Y, own_times, mask)
        own = sequences.observed
        new = new_times(times, len(own.times), own.form, own.clock)
        found = replies.expected(fitted, sequences, new, True, self.n_threads)
        return self._laid_out(found, sequences, new)

    @one_blas_thread
    def forecast(self, steps: int, Y: Any = None, *, times: Any = None, mask: Any = None) -> Any:
        """What :meth:`predict` says of the ``steps`` frames after the last, if all are evenly spaced."""
        check_whole("steps", steps, 1)
        sequences, fitted = self._asked(Y, times, mask)
        new = ahead(sequences.times, int(steps))
        found = replies.expected(fitted, sequences, new, True, self.n_threads)
        return self._laid_out(found, sequences, new)

    @one_blas_thread
    def krige(self, locations: Any, Y: Any = None, *, times: Any = None, mask: Any = None) -> Any:
        """Frames at other locations, at the times of Y, by default of the data of the fit.

        Parameters
        ----------
        locations : array (N, p)
            Anywhere; those of the fit have the answers of :meth:`predict`.

        Returns
        -------
        xarray.Dataset
            As from :meth:`predict`, with the coordinate ``place`` (location, axis).
        """
        sequences, fitted = self._asked(Y, times, mask)
        places = as_locations(locations)
        own = getattr(self, "locations_", None)
        if own is None or places.shape[1] != own.shape[1]:
            allowed = "none, as at the fit" if own is None else f"(N, {own.shape[1]})"
            raise ValueError(f"locations has shape {places.shape}; allowed: {allowed}")
        place = neural().place_of(self, places)
        found = replies.expected(fitted, sequences, None, True, self.n_threads, place)
        return replies.laid_out(found, sequences, sequences.times, places, repr(self))

    @one_blas_thread
    def sample(
        self, n: int = 1, times: Any = None, *, random_state: int | np.random.Generator | None = None
    ) -> Any:
        """New sequences from the model, not given any data; :meth:`impute` draws given data.

        Parameters
        ----------
        n : int
            Number of sequences.
        times : array (T,), optional
            Sorted; by default those of the first sequence of the fit.
        random_state : optional
            By default that of the model.

        Returns
        -------
        xarray.Dataset
            ``observation_draw`` (draw, time, ...), ``mean_draw`` without noise, and ``latent_draw``.
        """
        check_whole("n", n, 1)
        sequences, fitted = self._asked(None, None, None)
        own = sequences.observed
        at = own.times[0] if times is None else new_times(times, 1, "array", own.clock)[0]
        if (np.diff(at) < 0).any():
            raise ValueError("times must be sorted, found a fall")
        found = replies.sampled(fitted, at, int(n), self._generator(random_state))
        one = Sequences(own._replace(form="array", times=[at]), sequences.shape)
        return self._laid_out(found, one, [at])

    @one_blas_thread
    def score(self, Y: Any = None, times: Any = None, mask: Any = None) -> float:
        """Evidence lower bound per observed entry, in nats on the scale of Y; higher is better.

        A lower bound on the mean log density of all frames at once (equal to it for linear decoders with
        Gaussian noise and full sites), by default of the data of the fit. For single entries given others
        see :meth:`log_predictive`.
        """
        sequences, fitted = self._asked(Y, times, mask)
        value = neural().answers.evidence_bound(fitted, sequences.rows, sequences.times, self.n_threads)
        return value / max(int(np.isfinite(sequences.rows).sum()), 1)

    @one_blas_thread
    def log_predictive(self, truth: Any, Y: Any = None, *, times: Any = None, mask: Any = None) -> Any:
        """Log density of every entry of ``truth`` by itself, given Y at the same times.

        Parameters
        ----------
        truth : as Y
            What is asked for, NaN where it is not.
        Y, times, mask : optional
            What is known, as for :meth:`fit`; by default the data of the fit.

        Returns
        -------
        xarray.Dataset
            ``log_density`` in nats, of mixtures over the posterior of the latents; NaN where truth is.
        """
        sequences, fitted = self._asked(Y, times, mask)
        clocks = sequences.times[0] if sequences.observed.form == "array" else sequences.times
        wanted = read_as_fitted(self, truth, clocks, None)
        if wanted.shape != sequences.shape or (wanted.observed.lengths != sequences.observed.lengths).any():
            raise ValueError(
                f"truth has sequences of {wanted.observed.lengths} frames of shape {wanted.shape}; allowed: "
                f"those of Y, {sequences.observed.lengths} of {sequences.shape}"
            )
        answers = neural().answers
        at = answers.latents(fitted, sequences.rows, sequences.times, None, self.n_threads)
        found = {"log_density": answers.densities(fitted, at, wanted.rows.reshape(len(at.mean), -1))}
        return self._laid_out(found, sequences, sequences.times)

    def save(self, path: str | Path) -> None:
        """Write the estimator to one file, without pickle; see :meth:`Estimator.save`.

        Raises
        ------
        ValueError
            If a network is a function of one's own, which no file can hold: keep ``networks_`` and the rest
            of ``vars(model)`` instead, or use sizes of layers.
        """
        for name in ("decoder", "encoder"):
            if callable(getattr(self, name)):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, code that no file can hold; allowed: sizes of "
                    "layers or 'convolutional' (or save the arrays of networks_ yourself)"
                )
        super().save(path)

    def _asked(self, Y: Any, times: Any, mask: Any) -> tuple[Sequences, Any]:
        """The sequences that a question is about, and the model."""
        sequences = asked(self, Y, times, mask)
        return sequences, neural().fitted_of(self)

    def _generator(self, random_state: Any) -> np.random.Generator:
        """The source of randomness of one question."""
        return np.random.default_rng(self.random_state if random_state is None else random_state)

    def _laid_out(self, found: dict[str, np.ndarray], sequences: Sequences, times: list[np.ndarray]) -> Any:
        """Answers as a Dataset."""
        locations = getattr(self, "locations_", None)
        return replies.laid_out(found, sequences, times, locations, repr(self))
