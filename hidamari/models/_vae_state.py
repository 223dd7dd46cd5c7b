"""What a fitted autoencoder keeps, and the sequences that it is asked about."""

from typing import Any

import numpy as np

from hidamari.arrays import split
from hidamari.models._gp_door import Clock, Observed
from hidamari.models._vae_door import Sequences, as_likelihood, check_sequences, frame_axes, read_sequences

__all__ = ["asked", "keep", "read_as_fitted"]


def keep(
    model: Any, networks: dict[str, np.ndarray], learned: Any, choices: Any, sequences: Sequences
) -> None:
    """Store what a fit found, and the data that questions are about by default."""
    parameters, form, (centre, spread), *_ = learned.fitted
    model.kernels_ = list(form.kernels)
    model.loadings_ = spread[:, None] * np.asarray(parameters.loadings)
    model.bias_ = centre + spread * np.asarray(parameters.bias)
    model.noise_ = np.exp(np.asarray(parameters.noise)) * spread**2
    model.centre_, model.spread_ = centre, spread
    model.networks_ = networks
    model.decoder_ = "given" if callable(choices.decoder) else choices.decoder
    model.encoder_ = "given" if callable(choices.encoder) else choices.encoder
    model.sites_, model.likelihood_, model.exposure_ = form.sites, form.likelihood, float(form.exposure)
    model.period_ = learned.period
    trained = learned.trained
    model.elbo_history_, model.validation_ = trained.elbo, trained.validation
    model.n_epochs_, model.converged_, model.message_ = (
        int(trained.best),
        bool(trained.converged),
        trained.message,
    )
    if learned.place is None:
        model.__dict__.pop("locations_", None)
    else:
        model.locations_, model.inducing_, model.space_ = learned.place
    own = sequences.observed
    model.frame_shape_, model.n_features_in_ = tuple(sequences.shape), int(own.values.shape[1])
    model.unit_names_, model.origin_, model.form_ = own.names, own.clock.origin, own.form
    model.rows_, model.lengths_, model.times_ = own.values, own.lengths, np.concatenate(own.times)


def asked(model: Any, Y: Any, times: Any, mask: Any) -> Sequences:
    """The sequences of a question, by default those of the fit."""
    if not hasattr(model, "loadings_"):
        from sklearn.exceptions import NotFittedError

        raise NotFittedError("this MGPVAE is not fitted yet; call fit(Y) first")
    if Y is not None:
        return read_as_fitted(model, Y, times, mask)
    if times is not None or mask is not None:
        name = "times" if mask is None else "mask"
        raise ValueError(f"{name} must come with the Y that it belongs to, found Y=None")
    clock = Clock("s", model.origin_)
    clocks = split(model.times_, model.lengths_)
    own = Observed(clocks, model.rows_, None, model.form_, False, model.unit_names_, clock)
    return Sequences(own, tuple(model.frame_shape_))


def read_as_fitted(model: Any, Y: Any, times: Any, mask: Any) -> Sequences:
    """Sequences of frames like those of the fit."""
    shape = tuple(model.frame_shape_)
    axes = frame_axes(Y, model.locations_) if hasattr(model, "locations_") else len(shape)
    sequences = read_sequences(Y, times, mask, Clock("s", model.origin_), model.bin_s, axes)
    check_sequences(sequences, as_likelihood(model.likelihood_), shape)
    return sequences
