"""Probabilistic time series and state-space inference with Hida-Matérn kernels, in linear time.

Names are loaded when they are first used (PEP 562), so that importing the package costs almost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hidamari import datasets, plotting
    from hidamari.datasets.spikes import bin_spikes
    from hidamari.estimator import load
    from hidamari.inference._jax_distribution import MarkovGPDistribution
    from hidamari.inference.likelihoods import (
        Bernoulli,
        Binomial,
        Gaussian,
        NegativeBinomial,
        Poisson,
        StudentT,
    )
    from hidamari.inference.realisation import kernel_to_statespace
    from hidamari.models.ar_net import ARNet
    from hidamari.models.cvhm import CVHM
    from hidamari.models.dcdp import DCDP
    from hidamari.models.markov_gp import MarkovGP
    from hidamari.models.mgpvae import MGPVAE
    from hidamari.models.online import OnlineChangePoints
    from hidamari.statespace.kernels import (
        Constant,
        Cosine,
        HidaMatern,
        Matern,
        Periodic,
        Product,
        QuasiPeriodic,
        SquaredExponential,
        Sum,
        Wiener,
    )

__version__ = "0.1.0"

__all__ = [
    "ARNet",
    "CVHM",
    "DCDP",
    "MGPVAE",
    "Bernoulli",
    "Binomial",
    "Constant",
    "Cosine",
    "Gaussian",
    "HidaMatern",
    "MarkovGP",
    "MarkovGPDistribution",
    "Matern",
    "NegativeBinomial",
    "OnlineChangePoints",
    "Periodic",
    "Poisson",
    "Product",
    "QuasiPeriodic",
    "SquaredExponential",
    "StudentT",
    "Sum",
    "Wiener",
    "__version__",
    "bin_spikes",
    "datasets",
    "kernel_to_statespace",
    "load",
    "plotting",
]

_HOMES = {
    "statespace.kernels": (
        "Constant",
        "Cosine",
        "HidaMatern",
        "Matern",
        "Periodic",
        "Product",
        "QuasiPeriodic",
        "SquaredExponential",
        "Sum",
        "Wiener",
    ),
    "inference.likelihoods": ("Bernoulli", "Binomial", "Gaussian", "NegativeBinomial", "Poisson", "StudentT"),
    "inference.realisation": ("kernel_to_statespace",),
    "inference._jax_distribution": ("MarkovGPDistribution",),
    "models.ar_net": ("ARNet",),
    "models.cvhm": ("CVHM",),
    "models.dcdp": ("DCDP",),
    "models.online": ("OnlineChangePoints",),
    "models.markov_gp": ("MarkovGP",),
    "models.mgpvae": ("MGPVAE",),
    "datasets.spikes": ("bin_spikes",),
    "estimator": ("load",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name):
    """Load a public name on its first use."""
    if name in ("datasets", "plotting"):
        return import_module(f"hidamari.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'hidamari' has no attribute {name!r}")
    value = getattr(import_module(f"hidamari.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
