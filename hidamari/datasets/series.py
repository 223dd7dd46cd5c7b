"""Classic series of time-series textbooks, each with its units, licence and citation."""

from importlib.resources import files
from typing import Any

import numpy as np

__all__ = [
    "load_airline",
    "load_co2",
    "load_coal_disasters",
    "load_nile",
    "load_sunspots",
    "load_temperatures",
]

_HALF_DAY = 0.5 / 365.25  # in years


def load_co2() -> Any:
    """Weekly concentration of CO2 in the air of Mauna Loa, Hawaii, 1958 to 2001.

    2,284 weeks, of which 59 have no value (NaN). Times are Julian years, 2000 + (days since noon of 1 January
    2000) / 365.25, so that weeks are equally long in all years and the season has a period of 1; `date` holds
    the Saturday of each week. Public domain.

    Returns
    -------
    xarray.DataArray
        Parts per million, dim `time` in years.

    References
    ----------
    Keeling, Whorf (2004), Atmospheric CO2 concentrations derived from flask air samples at sites in the SIO
    network, CDIAC, Oak Ridge National Laboratory.

    Examples
    --------
    >>> from hidamari.datasets import load_co2
    >>> co2 = load_co2()
    >>> co2.sizes["time"], int(co2.isnull().sum()), float(co2[0])
    (2284, 59, 316.1)
    """
    days, ppm = _columns("co2")
    date = days.astype("datetime64[s]")
    # The middle of the day, as in the definition of the Julian epoch J2000.0.
    years = 2000 + (date - np.datetime64("2000-01-01")) / np.timedelta64(1, "D") / 365.25
    array = _series(
        years,
        np.array([float(value) if value else np.nan for value in ppm]),
        name="co2",
        units="ppm",
        long_name="CO2 in the air of Mauna Loa",
        time_name="Julian year",
        licence="public domain",
        citation="Keeling, Whorf (2004), CDIAC, Oak Ridge National Laboratory.",
    )
    return array.assign_coords(date=("time", date))


def load_nile() -> Any:
    """Annual flow of the Nile at Aswan, 1871 to 1970.

    100 values; the level drops in 1899, when the first dam at Aswan was begun. Public domain.

    Returns
    -------
    xarray.DataArray
        10^8 cubic metres, dim `time` in calendar years.

    References
    ----------
    Cobb (1978), The problem of the Nile, Biometrika 65:243-251.

    Examples
    --------
    >>> from hidamari.datasets import load_nile
    >>> nile = load_nile()
    >>> float(nile.sel(time=slice(1871, 1898)).mean()), float(nile.sel(time=slice(1899, 1970)).mean())
    (1097.75, 849.97)
    """
    year, flow = _columns("nile")
    return _series(
        year.astype(float),
        flow.astype(float),
        name="flow",
        units="1e8 m3",
        long_name="flow of the Nile at Aswan",
        time_name="calendar year",
        licence="public domain",
        citation="Cobb (1978) Biometrika 65:243-251.",
    )


def load_sunspots() -> Any:
    """Yearly mean sunspot number, 1700 to 2008.

    309 values, with a cycle of about 11 years; the number as defined before its revision of
    2015. Public domain.

    Returns
    -------
    xarray.DataArray
        A number without unit, dim `time` in calendar years.

    References
    ----------
    SIDC, Royal Observatory of Belgium; National Geophysical Data Center, NOAA.

    Examples
    --------
    >>> from hidamari.datasets import load_sunspots
    >>> sunspots = load_sunspots()
    >>> float(sunspots.max()), float(sunspots.idxmax())
    (190.2, 1957.0)
    """
    year, number = _columns("sunspots")
    return _series(
        year.astype(float),
        number.astype(float),
        name="sunspots",
        units="1",
        long_name="yearly mean sunspot number",
        time_name="calendar year",
        licence="public domain",
        citation="SIDC, Royal Observatory of Belgium; NGDC, NOAA.",
    )


def load_airline() -> Any:
    """International airline passengers a month, 1949 to 1960: the Series G of Box and Jenkins.

    144 values with a trend and a season that grow together; take the logarithm. Times are starts of
    months, year + (month - 1) / 12. BSD-3-Clause.

    Returns
    -------
    xarray.DataArray
        Thousands of passengers, dim `time` in years.

    References
    ----------
    Box, Jenkins (1970), Time Series Analysis: Forecasting and Control, Holden-Day.

    Examples
    --------
    >>> from hidamari.datasets import load_airline
    >>> airline = load_airline()
    >>> airline.sizes["time"], float(airline[0]), float(airline[-1])
    (144, 112.0, 432.0)
    """
    month, passengers = _columns("airline")
    return _series(
        1970 + month.astype("datetime64[M]").astype(float) / 12,
        passengers.astype(float),
        name="passengers",
        units="1000",
        long_name="international airline passengers a month",
        time_name="start of the month",
        licence="BSD-3-Clause",
        citation="Box, Jenkins (1970) Time Series Analysis: Forecasting and Control, Holden-Day.",
    )


def load_coal_disasters(n_bins: int | None = None) -> Any:
    """Explosions in British coal mines that killed ten or more, 15 March 1851 to 22 March 1962.

    191 dates, in Julian years of 365.25 days, or how many of them lie in each of `n_bins` equal parts of the
    111.02 years observed. Two explosions share a day. Published facts, free to use.

    Parameters
    ----------
    n_bins : int, optional
        Count in this many bins; the dates themselves by default.

    Returns
    -------
    xarray.DataArray
        Without `n_bins`: dates in years, dim `event`; attributes `t_start`, `t_stop` are the observed window.
        With it: counts, dim `time`, the centres of the bins in years; attribute `bin_years` is their width.

    Raises
    ------
    ValueError
        If `n_bins` is not a whole number of at least 1.

    References
    ----------
    Jarrett (1979), A note on the intervals between coal-mining disasters, Biometrika 66:191-193.

    Examples
    --------
    >>> from hidamari.datasets import load_coal_disasters
    >>> load_coal_disasters().sizes["event"]
    191
    >>> counts = load_coal_disasters(n_bins=333)
    >>> int(counts.sum()), counts.bin_years
    (191, 0.3334)
    """
    import xarray as xr

    (years,) = _columns("coal")
    events = years.astype(float)
    # The first and the last explosion lie on the first and the last day observed: 40,550 days in all.
    start, stop = float(events[0] - _HALF_DAY), float(events[-1] + _HALF_DAY)
    source = {"licence": "published facts", "citation": "Jarrett (1979) Biometrika 66:191-193."}
    if n_bins is None:
        about = {"units": "year", "long_name": "explosions in coal mines", "t_start": start, "t_stop": stop}
        return xr.DataArray(events, dims="event", name="explosions", attrs=about | source)
    if isinstance(n_bins, bool) or not isinstance(n_bins, (int, np.integer)) or n_bins < 1:
        raise ValueError(f"n_bins is {n_bins!r}; allowed: a whole number of at least 1")
    counts, edges = np.histogram(events, bins=int(n_bins), range=(start, stop))
    return _series(
        (edges[1:] + edges[:-1]) / 2,
        counts.astype(float),
        name="explosions",
        units="1",
        long_name="explosions in coal mines",
        time_name="centre of the bin",
        bin_years=(stop - start) / n_bins,
        **source,
    )


def load_temperatures() -> Any:
    """Temperature in Yosemite, California, every five minutes from 1 May to 5 July 2017.

    18,721 values, of which 12 in a row are missing (NaN). The source names neither the sensor nor the unit:
    they are degrees Celsius, of something that the sun warms to 53. By their daily cycle times are UTC. They
    are days since the first value; `date` holds them as dates. BSD-3-Clause.

    Returns
    -------
    xarray.DataArray
        Degrees Celsius, dim `time` in days.

    References
    ----------
    Taylor, Letham (2018), Forecasting at scale, The American Statistician 72:37-45: an example of Prophet.

    Examples
    --------
    >>> from hidamari.datasets import load_temperatures
    >>> temperatures = load_temperatures()
    >>> temperatures.sizes["time"], int(temperatures.isnull().sum()), float(temperatures.max())
    (18721, 12, 53.2)
    """
    import xarray as xr

    (values,) = _columns("yosemite")
    rows = np.arange(len(values))
    date = np.datetime64("2017-05-01", "s") + rows * np.timedelta64(300, "s")
    about = {
        "units": "°C",
        "long_name": "temperature in Yosemite",
        "licence": "BSD-3-Clause",
        "citation": "Taylor, Letham (2018) The American Statistician 72:37-45.",
    }
    clock = {"units": "day", "long_name": "days since 1 May 2017, UTC"}
    return xr.DataArray(
        np.array([float(value) if value else np.nan for value in values]),
        coords={"time": ("time", rows / 288, clock), "date": ("time", date)},
        dims="time",
        name="temperature",
        attrs=about,
    )


def _series(time: np.ndarray, values: np.ndarray, name: str, time_name: str, **attrs: Any) -> Any:
    """A series over years, with what is known of it."""
    import xarray as xr

    coord = ("time", time, {"units": "year", "long_name": time_name})
    return xr.DataArray(values, coords={"time": coord}, dims="time", name=name, attrs=attrs)


def _columns(name: str) -> list[np.ndarray]:
    """The columns of a bundled table, as text."""
    text = (files("hidamari.datasets") / "data" / f"{name}.csv").read_text(encoding="utf-8")
    rows = [line.split(",") for line in text.splitlines()[1:]]
    return [np.array(column) for column in zip(*rows, strict=True)]
