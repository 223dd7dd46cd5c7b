"""Results as pictures: labelled arrays in, matplotlib Axes out.

Every function draws on the Axes it is given, or on new ones, and returns them. Rates are in spikes per
second, bands hold 95 % of the posterior unless the Dataset says otherwise, and a line carries its name where
it ends.
"""

from hidamari.plotting.autoregression import coefficients, forecast, impulse_response, spectrum
from hidamari.plotting.changes import change_points, penalty_path
from hidamari.plotting.frames import frames, imputation
from hidamari.plotting.learning import elbo, posterior
from hidamari.plotting.population import latents, peak_order, raster, rates
from hidamari.plotting.series import components, prediction

__all__ = [
    "change_points",
    "coefficients",
    "components",
    "elbo",
    "forecast",
    "frames",
    "impulse_response",
    "imputation",
    "latents",
    "peak_order",
    "penalty_path",
    "posterior",
    "prediction",
    "raster",
    "rates",
    "spectrum",
]
