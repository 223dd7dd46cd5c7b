"""When does a population change its state? Change points of spike counts, and how sure they are.

A simulated session, where the truth is known, and waves of activity in a mouse retina, found in counts of 1 s
without telling how many there are. Writes results/states.png.
"""

import time
from pathlib import Path

import numpy as np

import hidamari as hd


def session(rng, n_units=15, n_bins=1200, bin_s=0.1):
    """Counts of units whose rates change together, at a rate of their own in each state, and the changes."""
    changes = np.array([180, 420, 510, 900])
    state = np.searchsorted(changes, np.arange(n_bins), side="right") % 3
    rates = rng.gamma(8.0, 0.5, (3, n_units))  # spikes/s
    return rng.poisson(rates[state] * bin_s), changes


def simulated():
    """Find the changes of the simulated session again."""
    counts, true = session(np.random.default_rng(1))
    start = time.perf_counter()
    model = hd.DCDP("counts", exposure=0.1, simultaneous=True).fit(counts)
    seconds = time.perf_counter() - start
    print(f"simulated session: {model.n_changes_} changes found, {len(true)} made ({seconds:.2f} s)")
    print("  made  found  95 % interval, all at once")
    for at, found, (first, last) in zip(true, model.change_points_, model.intervals_):
        print(f"  {at:4d}  {found:5d}  {first} to {last}")
    silent = np.random.default_rng(2).poisson(0.4, (1200, 15))
    print(f"a session without a change: {hd.DCDP('counts', interval=None).fit(silent).n_changes_} found")


def retina():
    """Waves in the retina: stretches in which the units together fire faster than in the whole recording."""
    recording = hd.datasets.load_retinal_waves()
    counts = recording.counts(1.0)
    model = hd.DCDP("counts").fit(counts)
    rate = model.segments_.rate.mean("unit").values  # spikes/s of an average unit
    length = (model.segments_.end - model.segments_.start).values
    wave = rate > counts.mean().item()
    spikes = (rate * length)[wave].sum() / (rate * length).sum()
    print(f"retina: {model.n_changes_} changes in {len(counts)} s of {counts.sizes['unit']} units")
    print(f"  stretches above the mean rate hold {100 * wave @ length / length.sum():.0f} % of the time")
    print(f"  and {100 * spikes:.0f} % of the spikes; their median length is {np.median(length[wave]):.0f} s")
    print(f"  counts vary {model.tempering_:.1f} times as much as Poisson counts of constant rate would")
    return counts, model


def draw(counts, model):
    """Figure of the recording with its change points, and of the path of penalties."""
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 6), layout="constrained", height_ratios=(3, 2))
    hd.plotting.change_points(np.sqrt(counts), model, ax=top)
    hd.plotting.penalty_path(model.path(counts), model.penalty_, ax=bottom)
    return figure


def main():
    simulated()
    Path("results").mkdir(exist_ok=True)
    draw(*retina()).savefig("results/states.png", dpi=100)
    print("wrote results/states.png")


if __name__ == "__main__":
    main()
