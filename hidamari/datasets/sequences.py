"""Many sequences of frames: weeks of weather, and handwritten digits that rotate."""

from importlib.resources import files
from typing import Any

import numpy as np

__all__ = ["load_weather", "simulate_rotating_digits"]

_AIRPORTS = ("EWR", "JFK", "LGA")
_VARIABLES = {  # name: (unit, how many stored steps make one unit)
    "temperature": ("°F", 100),
    "dew point": ("°F", 100),
    "humidity": ("%", 100),
    "pressure": ("mbar", 10),
    "wind to east": ("mph", 100),
    "wind to north": ("mph", 100),
}
_MISSING = np.iinfo(np.int16).min


def load_weather() -> Any:
    """Hourly weather at the three airports of New York, 52 weeks of 2013.

    Temperature, dew point, relative humidity, pressure at sea level and the two components of the wind, every
    hour from 1 January 2013, NaN where there is no value: 10 to 11 % of the pressures, up to 3 % of the rest.
    ``weather.values.reshape(-1, 168, 6)`` are 156 sequences of one week. CC0.

    Returns
    -------
    xarray.DataArray
        Dims `airport`, `time` in hours, `variable`; the coordinate `units` names the unit of each variable,
        `date` the dates of the hours.

    References
    ----------
    Wickham (2021), nycflights13: flights that departed NYC in 2013, R package.

    Examples
    --------
    >>> from hidamari.datasets import load_weather
    >>> weather = load_weather()
    >>> dict(weather.sizes)
    {'airport': 3, 'time': 8736, 'variable': 6}
    >>> float(weather.sel(airport="JFK", variable="temperature").max())
    98.06
    """
    import xarray as xr

    with (files("hidamari.datasets") / "data" / "weather.npz").open("rb") as file, np.load(file) as stored:
        steps = np.stack([stored[name] for name in _AIRPORTS])
    units, per_unit = zip(*_VARIABLES.values(), strict=True)
    hours = np.arange(steps.shape[1])
    return xr.DataArray(
        np.where(steps == _MISSING, np.nan, steps / np.array(per_unit, dtype=float)),
        dims=("airport", "time", "variable"),
        coords={
            "airport": list(_AIRPORTS),
            "time": (
                "time",
                hours.astype(float),
                {"units": "hour", "long_name": "hours since 1 January 2013"},
            ),
            "variable": list(_VARIABLES),
            "units": ("variable", list(units)),
            "date": ("time", np.datetime64("2013-01-01", "s") + hours * np.timedelta64(3600, "s")),
        },
        name="weather",
        attrs={
            "long_name": "hourly weather at the airports of New York",
            "licence": "CC0-1.0",
            "citation": "Wickham (2021) nycflights13: flights that departed NYC in 2013, R package.",
        },
    )


def simulate_rotating_digits(
    digit: int | None = 3,
    n_sequences: int = 180,
    n_frames: int = 50,
    period: float = 23.7,
    random_state: int | np.random.Generator | None = 0,
) -> Any:
    """Handwritten digits of 8 x 8 pixels that rotate at a constant pace, each from an angle of its own.

    Frame t of a sequence is its image turned by angle + 360 t / period degrees, by linear interpolation, 0
    beyond its edges. With a period that is no whole number no frame ever comes again. Every sequence has an
    image of its own, those of scikit-learn's ``load_digits``: nothing is downloaded.

    Parameters
    ----------
    digit : int, optional
        Which digit, 0 to 9; None takes any.
    n_sequences : int
        Number of sequences, at most as many as there are images: 174 to 183 of one digit, 1,797 of all.
    n_frames : int
        Frames of each sequence.
    period : float
        Frames of one turn.
    random_state : int or numpy.random.Generator
        Which images, and the angles they start from.

    Returns
    -------
    xarray.DataArray
        Pixels from 0 to 1, dims `trial`, `time` in frames, `row`, `column`; coordinates `angle` in degrees
        (trial, time) and `digit` (trial,).

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Alpaydin, Kaynak (1998), Optical recognition of handwritten digits, UCI Machine Learning Repository.

    Examples
    --------
    >>> from hidamari.datasets import simulate_rotating_digits
    >>> digits = simulate_rotating_digits(n_sequences=4, n_frames=20)
    >>> dict(digits.sizes)
    {'trial': 4, 'time': 20, 'row': 8, 'column': 8}
    """
    import xarray as xr
    from scipy.ndimage import rotate
    from sklearn.datasets import load_digits

    for name, value in (("n_sequences", n_sequences), ("n_frames", n_frames)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}; allowed: a positive int")
    if not isinstance(period, (int, float, np.number)) or not 0 < float(period) < np.inf:
        raise ValueError(f"period is {period!r}; allowed: a positive number of frames")
    source: Any = load_digits()
    found = np.arange(len(source.target)) if digit is None else np.flatnonzero(source.target == digit)
    if not len(found):
        raise ValueError(f"digit is {digit!r}; allowed: 0 to 9, or None")
    if n_sequences > len(found):
        raise ValueError(f"n_sequences is {n_sequences}; there are {len(found)} images of digit {digit}")
    rng = np.random.default_rng(random_state)
    chosen = rng.permutation(found)[:n_sequences]
    time = np.arange(float(n_frames))
    angle = rng.uniform(0.0, 360.0, (n_sequences, 1)) + 360.0 * time / period
    images = source.images[chosen] / 16.0
    frames = [
        rotate(image, degrees, reshape=False, order=1) for image, row in zip(images, angle) for degrees in row
    ]
    return xr.DataArray(
        np.reshape(frames, (n_sequences, n_frames, 8, 8)),
        dims=("trial", "time", "row", "column"),
        coords={
            "time": ("time", time, {"units": "frame"}),
            "angle": (("trial", "time"), angle, {"units": "degree"}),
            "digit": ("trial", source.target[chosen]),
        },
        name="digits",
        attrs={
            "long_name": "rotating handwritten digits",
            "licence": "CC BY 4.0",
            "citation": "Alpaydin, Kaynak (1998) Optical recognition of handwritten digits, UCI.",
        },
    )
