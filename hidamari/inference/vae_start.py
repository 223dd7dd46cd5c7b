r"""Where learning of an autoencoder of frames starts: linear Gaussian process factor analysis.

    eta_t = C z_t + b,    z_l ~ GP(0, k_l),

by the fit of latent models in `inference.fit`, on the times of the frames put on a grid of their median gap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from hidamari.inference.fit import Problem, Settings, fit_latents
from hidamari.inference.likelihoods import Bernoulli, Gaussian, Likelihood, Poisson
from hidamari.inference.start import smoothing_width, working_scale
from hidamari.inference.vae_data import Frames
from hidamari.parameters import flatten
from hidamari.statespace.kernels import HidaMatern, Kernel, Matern

__all__ = ["LinearStart", "harmonic_kernels", "linear_start", "spread_kernels", "tied_frequencies"]

_SLOW = (
    2.0  # lengthscale of a latent that is not periodic, and of how cycles change, in lengths of a sequence
)
_LONGEST_GRID = 4  # rows of the grid for each frame, at most


class LinearStart(NamedTuple):
    """Linear factor analysis of frames, as they are standardised."""

    loadings: np.ndarray  # C, (D, L)
    bias: np.ndarray  # b, (D,)
    noise: np.ndarray  # log variance of Gaussian noise, (D,), or (1,) where it is shared; zeros without one
    kernels: list[Kernel]
    elbo: np.ndarray  # the objective by round
    converged: bool
    message: str


def harmonic_kernels(n_latents: int, period: float, harmonics: int, duration: float) -> list[Kernel]:
    """Matern kernels times cosines of the harmonics of a period, harmonic 0 to the last and over again.

    Parameters
    ----------
    n_latents : int
        Number of kernels.
    period : float
        In units of the times.
    harmonics : int
        The highest.
    duration : float
        Of a sequence, twice which the cycles keep their form.

    Returns
    -------
    list of Kernel

    Examples
    --------
    >>> [getattr(k, "frequency", 0) for k in harmonic_kernels(4, 10.0, 2, 50.0)]
    [0, 0, 0.1, 0.2]
    """
    orders = np.sort(np.arange(n_latents) % (harmonics + 1))
    long = _SLOW * duration
    return [HidaMatern(1, long, frequency=float(h) / period) if h else Matern(1, long) for h in orders]


def spread_kernels(n_latents: int, shortest: float, longest: float) -> list[Kernel]:
    """Matern kernels of lengthscales from the longest to the shortest.

    Parameters
    ----------
    n_latents : int
        Number of kernels.
    shortest, longest : float
        In units of the times.

    Returns
    -------
    list of Kernel

    Examples
    --------
    >>> [k.lengthscale for k in spread_kernels(3, 2.0, 8.0)]
    [8.0, 4.0, 2.0]
    """
    if n_latents == 1:
        return [Matern(1, math.sqrt(shortest * longest))]
    return [Matern(1, round(float(own), 12)) for own in np.geomspace(longest, shortest, n_latents)]


def tied_frequencies(names: Sequence[str]) -> tuple[int, ...]:
    """A label for each hyperparameter; all frequencies have one, so that harmonics stay harmonics.

    Parameters
    ----------
    names : sequence of str
        As `hidamari.parameters.flatten` names them.

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> tied_frequencies(["0.lengthscale", "1.lengthscale", "1.frequency", "2.frequency"])
    (0, 1, 2, 2)
    """
    first = next((i for i, name in enumerate(names) if name.endswith("frequency")), 0)
    return tuple(first if name.endswith("frequency") else i for i, name in enumerate(names))


def linear_start(
    frames: Frames,
    kernels: Sequence[Kernel],
    likelihood: str = "gaussian",
    exposure: float = 1.0,
    *,
    shared_noise: bool = False,
    learn_kernel: bool = True,
    held: Sequence[str] = (),
    max_iter: int = 100,
    tol: float = 1e-5,
    random_state: int = 0,
) -> LinearStart:
    """Fit linear factor analysis with Gaussian process latents.

    Parameters
    ----------
    frames : Frames
        Sequences, as `lay_frames` gives them.
    kernels : sequence of Kernel
        One a latent; where learning starts. Their variances stay.
    likelihood : str
        ``"gaussian"``, ``"bernoulli"`` or ``"poisson"``.
    exposure : float
        Of a frame of counts.
    shared_noise : bool
        One variance of the noise for all entries, as for the pixels of an image.
    learn_kernel : bool
        Whether hyperparameters are learnt, those in `held` excepted.
    held : sequence of str
        Such as ``("kernel.frequency",)``.
    max_iter, tol : int, float
        Rounds at most, and the relative gain at which to stop.
    random_state : int
        For latents beyond what the data span.

    Returns
    -------
    LinearStart

    Raises
    ------
    ValueError
        If the likelihood is not one of the three.

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.inference.vae_data import lay_frames, scale_of
    >>> t = np.arange(40.0)
    >>> noise = 0.1 * np.random.default_rng(0).standard_normal((40, 2))
    >>> y = [np.stack([np.sin(t / 5), np.cos(t / 5)], 1) + noise]
    >>> frames = lay_frames(y, [t], scale_of(y, "gaussian"), "gaussian")
    >>> start = linear_start(frames, spread_kernels(2, 5.0, 10.0))
    >>> start.loadings.shape, bool(np.exp(start.noise).max() < 0.1)
    ((2, 2), True)
    """
    kinds = {"gaussian": _Shared if shared_noise else Gaussian, "bernoulli": Bernoulli, "poisson": Poisson}
    if likelihood not in kinds:
        raise ValueError(f"likelihood must be one of {sorted(kinds)}, found {likelihood!r}")
    kind = kinds[likelihood]()
    y, lengths, spacing = _gridded(frames, kind)
    z, seen = working_scale(y, kind)
    width = smoothing_width(z, seen, lengths)
    settings = Settings(
        max_iter,
        tol,
        "evidence" if learn_kernel else None,
        fixed=tuple(name.removeprefix("kernel.") for name in held),
    )
    # The fit takes the spacing of the grid for the exposure: measure times such that the two agree.
    unit = spacing / exposure if likelihood == "poisson" else 1.0
    own = [_stretched(kernel, 1.0 / unit) for kernel in kernels]
    found = fit_latents(
        Problem(y, lengths, spacing / unit), own, kind, settings, width, np.random.default_rng(random_state)
    )
    D = y.shape[1]
    noise = np.zeros(1)
    if isinstance(found.likelihood, Gaussian):
        noise = np.log(np.broadcast_to(found.likelihood.variance, D))
        noise = noise[:1] if shared_noise else noise
    return LinearStart(
        found.readout.loadings,
        found.readout.bias,
        np.array(noise),
        [_stretched(kernel, unit) for kernel in found.kernels],
        np.array(found.history),
        found.converged,
        found.message,
    )


@dataclass(frozen=True)
class _Shared(Gaussian):
    """Gaussian noise of one variance for all entries."""

    def fit_parameters(self, y, m, v, exposure=1.0):
        """The mean over all that was observed."""
        each = Gaussian.fit_parameters(replace(self, variance=np.ones(np.shape(y)[-1])), y, m, v, exposure)
        n = np.isfinite(y).reshape(-1, np.shape(y)[-1]).sum(0)
        mean = float((np.broadcast_to(each.variance, n.shape) * n).sum() / n.sum())
        return replace(self, variance=np.full(n.shape, mean))


def _gridded(frames: Frames, kind: Likelihood) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows of all sequences on one grid, NaN where nothing was seen, their numbers, and the spacing.

    Real frames that fall on one row are averaged; of others the last is taken.
    """
    moving = frames.step >= 0
    gap = np.where(moving, frames.gaps[np.maximum(frames.step, 0)] if len(frames.gaps) else 0.0, 0.0)
    inside = np.arange(gap.shape[1]) < frames.lengths[:, None]
    times = np.cumsum(gap, axis=1)
    positive = gap[inside & (gap > 0)]
    spacing = float(np.median(positive)) if len(positive) else 1.0
    span = sum(float(t[n - 1]) for t, n in zip(times, frames.lengths))
    spacing = max(spacing, span / (_LONGEST_GRID * inside.sum()))
    blocks = []
    for t, n, y, seen in zip(times, frames.lengths, frames.y, frames.seen):
        row = np.rint(t[:n] / spacing).astype(int)
        block = np.full((row[-1] + 1, y.shape[1]), np.nan)
        if kind.real:
            total, count = np.zeros(block.shape), np.zeros(block.shape)
            np.add.at(total, row, np.where(seen[:n], y[:n], 0.0))
            np.add.at(count, row, seen[:n])
            block = np.divide(total, count, out=block, where=count > 0)
        else:
            at, d = np.nonzero(seen[:n])
            block[row[at], d] = y[at, d]
        blocks.append(block)
    return np.concatenate(blocks), np.array([len(block) for block in blocks]), spacing


def _stretched(kernel: Kernel, factor: float) -> Kernel:
    """The kernel with its times in units that are smaller by a factor."""
    if factor == 1.0:
        return kernel
    from hidamari.parameters import unflatten

    vector, names = flatten([kernel])
    shift = {"lengthscale": 1.0, "decay": 1.0, "period": 1.0, "frequency": -1.0}
    move = np.array([shift.get(name.rsplit(".", 1)[-1], 0.0) for name in names]) * math.log(factor)
    return unflatten([kernel], vector + move, names)[0]
