r"""The Markov GP as a numpyro distribution, for models that numpyro's own language writes.

    y ~ N(mean, K + diag(noise_variance)),    K_st = k(|times_s - times_t|)

with the latent path integrated out: what remains for NUTS are the kernel's numbers, the noise and whatever
shapes the mean. Latent paths under other likelihoods are not offered here, since their evidence has no closed
form; :func:`hidamari.inference.mcmc.sample_hyperparameters` takes the variational bound for them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

from hidamari.inference._jax_evidence import BACKENDS, axis_of, draw, fill, log_evidence, take_apart
from hidamari.statespace.kernels import Kernel

__all__ = ["MarkovGPDistribution"]


class MarkovGPDistribution(Distribution):
    r"""Values of a Gaussian process plus noise at given times; its log density costs time linear in them.

    log N(y; mean, K + diag(noise_variance)), from one pass of the Kalman filter in float64, and its gradient
    by the kernel's numbers, `noise_variance`, `mean` and y from one pass of a smoother. With jax's default of
    32 bits the answers are rounded to single precision when they leave; `jax.enable_x64` keeps all of them.

    Parameters
    ----------
    kernel : Kernel
        Any kernel of the package. Its numbers may be those that `numpyro.sample` returned; one that is an
        array, as inside of a plate, stands for a batch of series with one kernel each, and all such arrays
        broadcast to the batch shape.
    times : array_like, shape (T,)
        Seconds, in any order and at any distance, repeats allowed. Known numbers, not jax tracers.
    noise_variance : float or array
        Variance (the square of the standard deviation) of the noise, above 0; infinite where nothing was
        observed. Broadcasts against (..., T): one for each series of a batch is ``sigma[:, None] ** 2``.
    mean : float or array
        Prior mean, broadcast like the noise.
    backend : {"compiled", "jax"}, optional
        The compiled core on the host, or the core in jax; by default the first on a CPU, the second on an
        accelerator.
    validate_args : bool, optional
        As for every numpyro distribution.

    Raises
    ------
    ValueError
        If an argument is no kernel, not an axis of finite times, or of a shape that does not fit.

    Notes
    -----
    NaN in the observed values means not observed, entry by entry. A kernel number or a variance out of its
    range gives a log density of NaN, which NUTS takes for a divergence.

    References
    ----------
    S. Särkkä and A. Solin, Applied Stochastic Differential Equations, 2019, chapter 12.

    Examples
    --------
    A trend, a process about it, and noise, by NUTS:

    >>> import jax, numpy as np, numpyro, numpyro.distributions as dist
    >>> from numpyro.infer import MCMC, NUTS
    >>> import hidamari as hd
    >>> times = np.arange(60) * 0.1
    >>> noise = 0.3 * np.random.default_rng(0).standard_normal(60)
    >>> y = 0.5 * times + np.sin(times) + noise
    >>> y[[7, 8]] = np.nan
    >>> def model(y=None):
    ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    ...     lengthscale = numpyro.sample("lengthscale", dist.LogNormal(0.0, 1.0))
    ...     sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    ...     gp = hd.MarkovGPDistribution(hd.Matern(1, lengthscale), times, sigma**2, mean=slope * times)
    ...     numpyro.sample("y", gp, obs=y)
    >>> mcmc = MCMC(NUTS(model), num_warmup=100, num_samples=50, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), y)
    >>> draws = mcmc.get_samples()
    >>> draws["sigma"].shape, bool(0.2 < draws["sigma"].mean() < 0.3)
    ((50,), True)
    """

    arg_constraints = {"loc": constraints.real, "noise_variance": constraints.positive}
    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]
    pytree_data_fields = ("leaves", "loc", "noise_variance")
    pytree_aux_fields = ("template", "axis", "backend")

    def __init__(
        self,
        kernel: Kernel,
        times: Any,
        noise_variance: Any,
        mean: Any = 0.0,
        *,
        backend: str | None = None,
        validate_args: bool | None = None,
    ):
        if not isinstance(kernel, Kernel):
            raise ValueError(f"kernel must be a kernel, got {kernel!r}")
        if isinstance(times, Tracer):
            raise ValueError("times must be known numbers, got a jax tracer: pass times from outside of jit")
        if backend is not None and backend not in BACKENDS:
            raise ValueError(f"backend must be one of {BACKENDS} or None, got {backend!r}")
        self.axis = axis_of(times)
        self.template, self.leaves = take_apart(kernel)
        self.loc, self.noise_variance, self.backend = mean, noise_variance, backend
        T = len(self.axis.step)
        for name, value in (("noise_variance", noise_variance), ("mean", mean)):
            if jnp.shape(value)[-1:] not in ((), (1,), (T,)):
                raise ValueError(
                    f"{name} must broadcast against (..., {T}), one entry for each time, got shape "
                    f"{jnp.shape(value)}: one number for each series of a batch is a column, {name}[:, None]"
                )
        batch = jnp.broadcast_shapes(
            *map(jnp.shape, self.leaves), jnp.shape(mean)[:-1], jnp.shape(noise_variance)[:-1]
        )
        super().__init__(batch, (T,), validate_args=validate_args)

    @property
    def kernel(self) -> Kernel:
        """The kernel, with the numbers it was given."""
        return fill(self.template, self.leaves)

    @property
    def mean(self) -> jax.Array:
        """Prior mean, broadcast to the shape of a draw."""
        return jnp.broadcast_to(self.loc, self.batch_shape + self.event_shape)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw y from the prior: a path of the process at the times, plus mean and noise."""
        ours, noise = jax.random.split(key)
        path = draw(self.kernel, self.axis, ours, (*sample_shape, *self.batch_shape))
        e = jax.random.normal(noise, path.shape, path.dtype)
        return self.loc + path + jnp.sqrt(self.noise_variance) * e

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """Log density of y (..., T), NaN where nothing was observed."""
        rest = jnp.asarray(value, float) - self.loc
        return log_evidence(self.kernel, self.axis, rest, self.noise_variance, self.backend)

    def _validate_sample(self, value: Any) -> Any:
        """Whether all entries are finite, or NaN."""
        value = jnp.asarray(value, float)
        return super()._validate_sample(jnp.where(jnp.isnan(value), 0.0, value))
