"""Small public recordings that travel with the package, each with its licence and citation."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from hidamari.datasets.spikes import bin_spikes

__all__ = ["Recording", "load_aplysia", "load_hippocampus", "load_retinal_waves"]


@dataclass(frozen=True, repr=False)
class Recording:
    """Spike times of one recording and what was recorded beside them.

    Attributes
    ----------
    name : str
        Name of the recording.
    spikes : tuple of ndarray
        Sorted spike times of each unit in seconds.
    unit_ids : ndarray, shape (unit,)
        Ids of the source.
    t_start, t_stop : float
        The window that was recorded, in seconds.
    licence, citation, description : str
        Terms of use, what to cite, and what it is. The full texts lie beside the data.
    epochs : ndarray, shape (epoch, 2), or None
        Starts and stops of a behaviour, in seconds.
    position_time : ndarray, shape (sample,), or None
        Times of `position`, in seconds.
    position : ndarray, shape (sample,), or None
        Position of the animal along the track, from 0 to 1.
    electrode_xy : ndarray, shape (unit, 2), or None
        Position of each unit's electrode, in micrometres.
    """

    name: str
    spikes: tuple[np.ndarray, ...]
    unit_ids: np.ndarray
    t_start: float
    t_stop: float
    licence: str
    citation: str
    description: str
    epochs: np.ndarray | None = None
    position_time: np.ndarray | None = None
    position: np.ndarray | None = None
    electrode_xy: np.ndarray | None = None

    def counts(self, bin_s: float, epochs: Any = None, min_spikes: int = 0) -> Any:
        """Spike counts over the recorded window, or over parts of it.

        Parameters
        ----------
        bin_s : float
            Width of a bin in seconds.
        epochs : pair or array of shape (epoch, 2), optional
            Parts to count in, in seconds; everything by default.
        min_spikes : int
            Leave out units with fewer spikes in the parts counted.

        Returns
        -------
        xarray.DataArray, or list of xarray.DataArray
            As `bin_spikes` gives: (time, unit), with a list for a table of epochs.

        Raises
        ------
        ValueError
            If no unit has `min_spikes` spikes, or `bin_spikes` refuses.

        Examples
        --------
        >>> from hidamari.datasets import load_aplysia
        >>> load_aplysia().counts(0.1).sizes
        Frozen({'time': 800, 'unit': 102})
        """
        window = (self.t_start, self.t_stop) if epochs is None else epochs
        counts = bin_spikes(list(self.spikes), bin_s, epochs=window, units=self.unit_ids.tolist())
        blocks = counts if isinstance(counts, list) else [counts]
        keep = np.sum([block.values.sum(axis=0) for block in blocks], axis=0) >= min_spikes
        if not keep.any():
            raise ValueError(f"min_spikes is {min_spikes}, more than any unit has; allowed: fewer")
        blocks = [block[:, keep] for block in blocks]
        return blocks if isinstance(counts, list) else blocks[0]

    def __repr__(self):
        total = sum(len(train) for train in self.spikes)
        return (
            f"<Recording {self.name}: {len(self.spikes)} units, {total:,} spikes, "
            f"{self.t_start:g} to {self.t_stop:g} s, {self.licence}>"
        )


def load_hippocampus() -> Recording:
    """Hippocampal units of a rat that runs on a linear track, then rests.

    31 units, 28,829 spikes, 33 minutes; `epochs` holds the run, `position` the place on the track at 20 Hz.
    MIT licence, nelpy project.

    Returns
    -------
    Recording
        Spikes, position and the run epoch.

    References
    ----------
    Ackermann et al., nelpy example data, https://github.com/nelpy/example-data

    Examples
    --------
    >>> import numpy as np
    >>> from hidamari.datasets import load_hippocampus
    >>> rat = load_hippocampus()
    >>> (counts,) = rat.counts(0.1, epochs=rat.epochs, min_spikes=100)
    >>> place = np.interp(counts.time, rat.position_time, rat.position)
    >>> counts.sizes["unit"], len(place)
    (15, 8105)
    """
    return _load(
        "hippocampus",
        licence="MIT",
        citation="nelpy project (E. Ackermann et al.), example data: linear track.",
        description="31 hippocampal units, 33 min; a rat runs on a linear track for 13.5 min, then rests.",
    )


def load_aplysia(recording: int = 1) -> Recording:
    """Neurons of the Aplysia pedal ganglion during fictive locomotion.

    Two recordings: 102 neurons, 12,503 spikes in 80 s; 102 neurons, 11,864 spikes in 90 s. The population
    cycles every 13 to 20 s in few dimensions. One spike of the first lies exactly at 80 s, which is beyond
    the last, half-open bin. MIT licence.

    Parameters
    ----------
    recording : {1, 2}
        Which of the two.

    Returns
    -------
    Recording
        Spikes; time 0 is 1 s after the end of the nerve stimulation.

    Raises
    ------
    ValueError
        If `recording` is neither 1 nor 2.

    References
    ----------
    Bruno, Frost, Humphries (2015), Neuron 86:304-318; (2017), eLife 6:e27342.

    Examples
    --------
    >>> from hidamari.datasets import load_aplysia
    >>> load_aplysia(recording=2)
    <Recording aplysia_2: 102 units, 11,864 spikes, 0 to 90 s, MIT>
    """
    if recording not in (1, 2):
        raise ValueError(f"recording is {recording!r}; allowed: 1 or 2")
    return _load(
        f"aplysia_{recording}",
        licence="MIT",
        citation="Bruno, Frost, Humphries (2015) Neuron 86:304-318; the same (2017) eLife 6:e27342.",
        description="102 neurons of the Aplysia pedal ganglion during the fictive locomotion programme.",
    )


def load_retinal_waves() -> Recording:
    """Spontaneous waves in a mouse retina on postnatal day 10, on a multielectrode array.

    78 units, 108,074 spikes in 754 s, near silence between waves; `electrode_xy` places the units on an
    8 x 8 array of 200 micrometres pitch. CC0.

    Returns
    -------
    Recording
        Spikes and electrode positions.

    References
    ----------
    Sun, Warland, Ballesteros, van der List, Chalupa (2008), PNAS 105:13638-13643;
    Eglen et al. (2014), GigaScience 3:3.

    Examples
    --------
    >>> from hidamari.datasets import load_retinal_waves
    >>> load_retinal_waves().electrode_xy.shape
    (78, 2)
    """
    return _load(
        "retinal_waves",
        licence="CC0-1.0",
        citation=(
            "Sun, Warland, Ballesteros, van der List, Chalupa (2008) PNAS 105:13638-13643; "
            "Eglen et al. (2014) GigaScience 3:3."
        ),
        description="78 retinal units of a wild-type mouse, postnatal day 10: 12.6 min of spontaneous waves.",
    )


def _load(name: str, licence: str, citation: str, description: str) -> Recording:
    """Build a recording from its bundled arrays."""
    data: dict[str, Any] = dict(_arrays(name))
    spikes = tuple(np.split(data.pop("spike_times"), data.pop("spike_times_index")[:-1]))
    return Recording(
        name=name,
        spikes=spikes,
        unit_ids=data.pop("unit_id"),
        t_start=float(data.pop("t_start")),
        t_stop=float(data.pop("t_stop")),
        licence=licence,
        citation=citation,
        description=description,
        **data,
    )


@cache
def _arrays(name: str) -> tuple[tuple[str, np.ndarray], ...]:
    """Arrays of a bundled file, read once and never written to."""
    path = files("hidamari.datasets") / "data" / f"{name}.npz"
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        arrays = tuple((key, _widen(stored[key])) for key in stored.files)
    for _, array in arrays:
        array.flags.writeable = False
    return arrays


def _widen(array: np.ndarray) -> np.ndarray:
    """Float64 for what is stored shorter."""
    return array.astype(np.float64) if array.dtype.kind == "f" else array
