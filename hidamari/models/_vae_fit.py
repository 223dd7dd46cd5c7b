"""How an autoencoder is fitted: from sequences to parameters, and from stored arrays back to networks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar

from hidamari.inference import _vae_answers as answers
from hidamari.inference import _vae_networks
from hidamari.inference._vae_answers import Fitted
from hidamari.inference._vae_checkpoint import check_checkpoint
from hidamari.inference._vae_model import Form, Parameters
from hidamari.inference._vae_space import Space, distances, farthest, space_of
from hidamari.inference._vae_train import Settings, Trained, train
from hidamari.inference.vae_data import Frames, Scale, lay_frames, scale_of, set_aside
from hidamari.inference.vae_period import find_period
from hidamari.inference.vae_start import harmonic_kernels, linear_start, spread_kernels, tied_frequencies
from hidamari.models._vae_arguments import as_network, as_refinements, as_sites
from hidamari.models._vae_door import Sequences
from hidamari.parameters import flatten, unflatten
from hidamari.statespace.kernels import Kernel, Matern

__all__ = [
    "Choices",
    "Learned",
    "answers",
    "arrays_of",
    "fitted_of",
    "learn",
    "learn_space",
    "place_of",
    "settled",
]

_INDUCING = 16  # locations at most, by default


class Choices(NamedTuple):
    """What the constructor was given, with every "auto" settled but the period."""

    n_latents: int
    kernel: Kernel | list[Kernel] | None
    likelihood: str
    exposure: float
    decoder: Any
    encoder: Any
    sites: Any
    period: float | str | None
    harmonics: int
    learn_kernel: bool
    validation: float
    refinements: int
    seed: int
    settings: Settings
    checkpoint: str | Path | None = None


class Learned(NamedTuple):
    """What a fit found."""

    fitted: Fitted
    period: float | None
    trained: Trained
    place: tuple[np.ndarray, np.ndarray, Kernel] | None = None  # locations, inducing ones, kernel


def settled(model: Any, likelihood: str, shape: tuple[int, ...]) -> Choices:
    """The arguments of a model, for frames of this shape."""
    check_checkpoint(model.checkpoint)
    settings = Settings(
        int(model.max_epochs),
        int(model.batch_size),
        float(model.learning_rate),
        int(model.patience),
        float(model.beta),
        int(model.n_samples),
    )
    return Choices(
        int(model.n_latents),
        model.kernel,
        likelihood,
        1.0 if model.bin_s is None else float(model.bin_s),
        as_network("decoder", model.decoder, shape),
        as_network("encoder", model.encoder, shape),
        as_sites(model.sites, int(model.n_latents)),
        model.period,
        int(model.harmonics),
        bool(model.learn_kernel),
        float(model.validation),
        as_refinements(model.refinements, likelihood),
        int(model.random_state),
        settings,
        model.checkpoint,
    )


def fitted_of(model: Any) -> Fitted:
    """The model that an estimator has learnt, from its attributes."""
    kernels, space, shape = tuple(model.kernels_), None, tuple(model.frame_shape_)
    if hasattr(model, "locations_"):
        space, shape = space_of(model.space_, model.locations_, model.inducing_), (len(model.centre_),)
    kinds = [
        getattr(model, name) if own == "given" else tuple(own) if isinstance(own, list) else own
        for name, own in (("decoder", model.decoder_), ("encoder", model.encoder_))
    ]
    with jax.enable_x64(True):
        begun = module_pair(kinds[0], kinds[1], len(kernels), shape, model.sites_, 0)
        decoder, encoder = restored(*begun, model.networks_)
    scale = Scale(model.centre_, model.spread_)
    parameters = Parameters(
        np.zeros(0),  # pyright: ignore[reportArgumentType]
        model.loadings_ / scale.spread[:, None],
        (model.bias_ - scale.centre) / scale.spread,
        np.log(model.noise_ / scale.spread**2),
        decoder,
        encoder,
    )
    form = Form(kernels, (), model.likelihood_, model.exposure_, model.sites_)
    return Fitted(parameters, form, scale, as_refinements(model.refinements, form.likelihood), space)


def place_of(model: Any, locations: np.ndarray) -> Space:
    """How locations are read from the inducing ones of an estimator."""
    return space_of(model.space_, locations, model.inducing_)


def learn_space(
    choices: Choices,
    sequences: Sequences,
    locations: np.ndarray,
    kernel: Kernel | None,
    n_inducing: int | None,
    report: Callable[[int, float], None] | None = None,
) -> Learned:
    """Fit frames over locations: each location by itself first, then how alike they are.

    Networks, loadings and kernels in time are learnt from all locations as if they were sequences of their
    own; the lengthscale in space is that of the highest bound of all locations together.
    """
    N, D = len(locations), sequences.shape[1] if len(sequences.shape) > 1 else 1
    blocks = [own.reshape(len(own), N, D) for own in sequences.parts]
    rows = np.concatenate([block[:, n] for block in blocks for n in range(N)])
    times = [own for own in sequences.times for _ in range(N)]
    learned = learn(choices, Sequences(sequences.observed._replace(values=rows, times=times), (D,)), report)
    inducing = locations[farthest(locations, min(N, n_inducing or _INDUCING))]
    apart = distances(locations, locations)[np.triu_indices(N, 1)]
    start = Matern(1, float(np.median(apart))) if kernel is None else kernel
    names = [name for name in flatten(start)[1] if name.endswith("lengthscale")]

    def stretched(log_factor: float) -> Kernel:
        return unflatten(start, flatten(start, names)[0] + log_factor, names)

    def fall(log_factor: float) -> float:
        space = space_of(stretched(log_factor), locations, inducing)
        own = learned.fitted._replace(space=space)
        return -answers.evidence_bound(own, sequences.rows, sequences.times)

    if choices.learn_kernel and names:
        found: Any = minimize_scalar(fall, bounds=(-3.0, 3.0), method="bounded", options={"xatol": 0.02})
        start = stretched(float(found.x))
    return learned._replace(place=(locations, inducing, start))


def learn(
    choices: Choices, sequences: Sequences, report: Callable[[int, float], None] | None = None
) -> Learned:
    """Fit: linear factor analysis first, then networks beside it."""
    images = len(sequences.shape) > 1
    scale = scale_of(sequences.parts, choices.likelihood, shared=images)
    frames = lay_frames(sequences.parts, sequences.times, scale, choices.likelihood)
    kernels, period, held = _kernels(choices, frames, sequences.times)
    start = linear_start(
        frames,
        kernels,
        choices.likelihood,
        choices.exposure,
        shared_noise=images,
        learn_kernel=choices.learn_kernel,
        held=held,
        random_state=choices.seed,
    )
    kernels = start.kernels
    names = _movable(kernels) if choices.learn_kernel else []
    # Programs are compiled for each form: what is learnt stands in the vector, and not in the kernels.
    vector = flatten(list(kernels), names)[0] if names else np.zeros(0)
    form = Form(
        tuple(unflatten(list(kernels), np.zeros(len(names)), names) if names else kernels),
        tuple(names),
        choices.likelihood,
        choices.exposure,
        choices.sites,
        tied_frequencies(names) if period is not None else (),
    )
    with jax.enable_x64(True):
        decoder, encoder = module_pair(
            choices.decoder, choices.encoder, len(kernels), sequences.shape, choices.sites, choices.seed
        )
        kernel, loadings, bias, noise = map(jnp.asarray, (vector, start.loadings, start.bias, start.noise))
        parameters = Parameters(kernel, loadings, bias, noise, decoder, encoder)
        if choices.settings.max_epochs:
            aside = set_aside(frames, choices.validation, np.random.default_rng(choices.seed))
            trained = train(
                parameters, form, aside, choices.settings, choices.seed, report, choices.checkpoint
            )
        else:
            trained = Trained(parameters, np.zeros(0), np.zeros(0), 0, start.converged, start.message)
    learnt = unflatten(list(kernels), np.asarray(trained.parameters.kernel), names) if names else kernels
    if period is not None and choices.kernel is None:
        period = _period_of(learnt, period)
    fitted = _plain(trained.parameters, form, learnt, scale, choices.refinements)
    return Learned(fitted, period, trained)


def _plain(parameters: Parameters, form: Form, kernels: Sequence[Kernel], scale: Scale, refinements: int):
    """A model of which nothing moves any more."""
    own = parameters._replace(kernel=np.zeros(0))
    return Fitted(own, form._replace(kernels=tuple(kernels), names=(), tied=()), scale, refinements)


def _kernels(
    choices: Choices, frames: Frames, times: Sequence[np.ndarray]
) -> tuple[list[Kernel], float | None, tuple[str, ...]]:
    """Where kernels start, the period if there is one, and what the linear start must not move."""
    L = choices.n_latents
    if choices.kernel is not None:
        given = choices.kernel
        return ([given] * L if isinstance(given, Kernel) else list(given)), None, ()
    duration = max(float(np.ptp(own)) for own in times)
    positive = np.concatenate([np.diff(own) for own in times])
    positive = positive[positive > 0]
    gap = float(np.median(positive)) if len(positive) else 1.0
    duration = duration if duration > 0 else 10.0 * gap
    period = choices.period
    if period == "auto":
        period = find_period(frames, choices.harmonics, choices.seed)
    if period is None:
        return spread_kernels(L, 2.0 * gap, max(4.0 * gap, 0.25 * duration)), None, ()
    kernels = harmonic_kernels(L, float(period), choices.harmonics, duration)
    return kernels, float(period), ("kernel.frequency",) if _oscillates(kernels) else ()


def _oscillates(kernels: Sequence[Kernel]) -> bool:
    """Whether a frequency can move."""
    return any(name.endswith("frequency") for name in flatten(list(kernels))[1])


def _movable(kernels: Sequence[Kernel]) -> list[str]:
    """Hyperparameters that are learnt: all but the variances, which loadings absorb."""
    return [name for name in flatten(list(kernels))[1] if not name.endswith("variance")]


def _period_of(kernels: Sequence[Kernel], start: float) -> float:
    """The period that the learnt kernels share."""
    frequencies = [getattr(kernel, "frequency", 0.0) for kernel in kernels]
    found = [f / max(1, round(f * start)) for f in frequencies if f > 0]
    return 1.0 / float(np.mean(found)) if found else start


# --------------------------------------------------------------------------------------- networks <-> arrays


def module_pair(
    decoder: Any, encoder: Any, n_latents: int, shape: tuple[int, ...], sites: Any, seed: int
) -> tuple[Any, Any]:
    """The networks of a model, as they begin."""
    one, two = jax.random.split(jax.random.key(seed))
    n_out = 2 * n_latents if sites == "diagonal" else n_latents + 1
    made = _vae_networks.decoder(decoder, n_latents, shape, one)
    read = _vae_networks.encoder(encoder, shape, n_out, two)
    return made, read


def arrays_of(parameters: Parameters) -> dict[str, np.ndarray]:
    """The arrays of both networks, by their path."""
    found = {}
    for name, module in (("decoder", parameters.decoder), ("encoder", parameters.encoder)):
        leaves = jax.tree_util.tree_flatten_with_path(eqx.filter(module, eqx.is_array))[0]
        found |= {name + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    return found


def restored(decoder: Any, encoder: Any, arrays: dict[str, np.ndarray]) -> tuple[Any, Any]:
    """Both networks with the arrays put in."""

    def put(name: str, module: Any) -> Any:
        leaves, rest = eqx.partition(module, eqx.is_array)
        filled = jax.tree_util.tree_map_with_path(
            lambda path, _: jnp.asarray(arrays[name + jax.tree_util.keystr(path)]), leaves
        )
        return eqx.combine(filled, rest)

    return put("decoder", decoder), put("encoder", encoder)
