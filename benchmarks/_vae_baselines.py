"""What digits.py, weather.py and hopper.py share: imputations without our model, scores, and tables.

Sequences are arrays (sequence, time, entry) with NaN where nothing is seen. A method returns a `Guess`: its
mean and its standard deviation for every entry, and perhaps draws. Scores are taken on entries that were
hidden and whose value is known, and on nothing else: NLL is that of a normal with this mean and standard
deviation, CRPS and cover are by the draws where there are any.

Naive methods have no distribution of their own. They get a Gaussian whose standard deviation is that of
their errors on the training sequences, of which the frames or entries seen are hidden once more, a fifth at
a time: for every entry, times a factor for the distance in time to the nearest value seen.
"""

import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr

import hidamari as hd

Z = {"50 %": 0.6744897501960817, "90 %": 1.6448536269514722}
COLUMNS = ("RMSE", "NLL", "CRPS", "50 %", "90 %", "CPU s")
_DIGITS = {"RMSE": 4, "CRPS": 4, "CPU s": 1}
_BINS = np.array([1, 2, 3, 5, 8, 13, 21])  # distances to the nearest value seen, in rows


class Guess(NamedTuple):
    """A distribution of every entry, (sequence, time, entry): Gaussian where there are no draws."""

    mean: np.ndarray
    sd: np.ndarray
    draws: np.ndarray | None = None  # (draw, sequence, time, entry), with noise
    log_density: np.ndarray | None = None  # of the truth


# ---------------------------------------------------------------------------------------------------- scores


def scores(guess: Guess, truth: np.ndarray, hidden: np.ndarray) -> dict[str, float]:
    """Root mean square error, negative log density per value, CRPS, and cover, on hidden entries."""
    hidden = hidden & np.isfinite(truth)
    y, mean, sd = truth[hidden], guess.mean[hidden], guess.sd[hidden]
    found = {"RMSE": float(np.sqrt(np.mean((y - mean) ** 2)))}
    found |= gaussian_scores((y - mean) / sd, sd)
    if guess.draws is None or guess.log_density is None:
        return found
    # A mixture over few draws says little of noise much smaller than what is unknown of the latents.
    mixture = {"NLL of the mixture": float(-guess.log_density[hidden].mean())}
    return found | draw_scores(guess.draws[:, hidden], y) | mixture


def gaussian_scores(z: np.ndarray, sd: np.ndarray) -> dict[str, float]:
    """Scores of Gaussians by errors in standard deviations: Gneiting and Raftery (2007), equation 21."""
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    found = {
        "NLL": float(np.mean(0.5 * z**2 + np.log(sd) + 0.5 * np.log(2 * np.pi))),
        "CRPS": float(np.mean(sd * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi)))),
    }
    return found | {name: float(np.mean(np.abs(z) <= width)) for name, width in Z.items()}


def draw_scores(draws: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """CRPS and cover from draws (draw, value); the CRPS has no bias by the number of draws."""
    n = len(draws)
    draws = np.sort(draws, axis=0)
    # The mean distance of two different draws, by their order.
    weights = 2.0 * np.arange(1, n + 1) - n - 1
    apart = 2.0 * np.tensordot(weights, draws, axes=1) / (n * (n - 1))
    found = {"CRPS": float(np.mean(np.abs(draws - y).mean(axis=0) - 0.5 * apart))}
    for name, share in (("50 %", 0.5), ("90 %", 0.9)):
        low, high = np.quantile(draws, [(1 - share) / 2, (1 + share) / 2], axis=0, method="weibull")
        found[name] = float(np.mean((low <= y) & (y <= high)))
    return found


# --------------------------------------------------------------------------------------------- naive methods


def mean_of_seen(y: np.ndarray, times: np.ndarray, period: float) -> np.ndarray:
    """Every entry stays at the mean of its values seen in the sequence."""
    seen = np.isfinite(y)
    mean = np.where(seen, y, 0.0).sum(axis=1, keepdims=True) / np.maximum(seen.sum(axis=1, keepdims=True), 1)
    return np.broadcast_to(np.where(seen.any(axis=1, keepdims=True), mean, np.nan), y.shape)


def last_seen(y, times, period):
    """The last value seen; before the first one, the first."""
    return _by_entry(y, lambda t, values: values[np.maximum(np.searchsorted(t, times, side="right") - 1, 0)])


def nearest_seen(y, times, period):
    """The value seen that is nearest in time."""
    return _by_entry(y, lambda t, values: values[np.abs(times[:, None] - t).argmin(axis=1)], times)


def linear(y, times, period):
    """A straight line between the values seen before and after, constant beyond them."""
    return _by_entry(y, lambda t, values: np.interp(times, t, values), times)


def seasonal(y, times, period):
    """The value seen that is nearest in phase, and of those the nearest in time; the period is given."""

    def read(t, values):
        gap = np.abs(times[:, None] - t)
        turns = gap / period
        phase = np.abs(turns - np.round(turns)) * period
        return values[(phase + 1e-6 * gap).argmin(axis=1)]

    return _by_entry(y, read, times)


def spline(y, times, period):
    """A cubic spline through the values seen, with its ends at the first and the last of them."""
    from scipy.interpolate import CubicSpline

    return _by_entry(y, lambda t, values: CubicSpline(t, values)(np.clip(times, t[0], t[-1])), times)


NAIVE = {
    "mean of seen": mean_of_seen,
    "last seen": last_seen,
    "nearest seen": nearest_seen,
    "seasonal naive": seasonal,
    "linear interpolation": linear,
}


def _by_entry(y: np.ndarray, read: Callable, times: np.ndarray | None = None) -> np.ndarray:
    """Apply read(times seen, values seen) to every entry of every sequence that has a value."""
    times = np.arange(y.shape[1], dtype=float) if times is None else times
    out = np.full(y.shape, np.nan)
    for i, sequence in enumerate(y):
        for d, series in enumerate(sequence.T):
            seen = np.isfinite(series)
            if seen.any():
                out[i, :, d] = read(times[seen], series[seen])
    return out


def naive(
    name: str,
    train: np.ndarray,
    test: np.ndarray,
    period: float,
    by: str,
    rng,
    method: Callable | None = None,
) -> Guess:
    """The guess of a naive method with the spread of its errors on the training sequences."""
    method = NAIVE[name] if method is None else method
    times = np.arange(test.shape[1], dtype=float)
    fallback = np.nanmean(train, axis=(0, 1))

    def fill(y):
        guess = method(y, times, period)
        return np.where(np.isfinite(guess), guess, fallback)

    part = rng.integers(5, size=train.shape[:2] + ((1,) if by == "frames" else train.shape[2:]))
    error, distance = np.full(train.shape, np.nan), np.zeros(train.shape, dtype=int)
    for k in range(5):
        kept = np.where(part == k, np.nan, train)
        again = (part == k) & np.isfinite(train)
        error[again] = (train - fill(kept))[again]
        distance[again] = np.digitize(_distance(kept), _BINS, right=True)[again]
    size = np.sqrt(np.nanmean(error**2, axis=(0, 1)))
    # An entry that erred nowhere in training would be sure of itself beyond all reason.
    size = np.maximum(size, 1e-3 * np.nanstd(train))
    relative, known = (error / size) ** 2, np.isfinite(error)
    number = np.bincount(distance[known], minlength=len(_BINS) + 1)
    total = np.bincount(distance[known], relative[known], minlength=len(_BINS) + 1)
    often = number > 20
    factor = np.interp(np.arange(len(number)), np.flatnonzero(often), total[often] / number[often])
    here = np.digitize(_distance(test), _BINS, right=True)
    return Guess(fill(test), size * np.sqrt(factor)[here])


def _distance(y: np.ndarray) -> np.ndarray:
    """Rows to the nearest value seen of the same entry; as long as the sequence where there is none."""
    rows = np.arange(y.shape[1])
    before = np.maximum.accumulate(np.where(np.isfinite(y), rows[:, None], -(10**6)), axis=1)
    after = np.minimum.accumulate(np.where(np.isfinite(y), rows[:, None], 10**6)[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(np.minimum(rows[:, None] - before, after - rows[:, None]), y.shape[1])


# ------------------------------------------------------------------------------------------------ with models


def factor_analysis(
    train: np.ndarray, test: np.ndarray, kernels: list, max_iter: int = 100, shared: bool = False
) -> tuple[Guess, Any]:
    """Linear GP factor analysis: hd.CVHM with Gaussian noise, kernels learnt, exact for missing entries."""
    centre = np.nanmean(train, axis=(0, 1))
    spread = np.nanstd(train) if shared else np.nanstd(train, axis=(0, 1))
    model = hd.CVHM(len(kernels), kernels, "gaussian", bin_s=1.0, max_iter=max_iter, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit((train - centre) / spread)
    found = model.smooth((test - centre) / spread)
    mean = found["rate"].transpose("trial", "time", "unit").values
    cov = found["latent_cov"].transpose("trial", "time", "latent", "other_latent").values
    variance = np.einsum("dl,ntlm,dm->ntd", model.loadings_, cov, model.loadings_, optimize=True)
    sd = np.sqrt(variance + model.likelihood_.variance)
    return Guess(mean * spread + centre, sd * spread), model


def mgpvae(
    train: np.ndarray,
    test: np.ndarray,
    truth: np.ndarray,
    frame: tuple[int, ...] | None = None,
    **options: Any,
) -> tuple[Guess, Any]:
    """hd.MGPVAE, its imputations and 100 draws of them, for frames of a shape."""
    form, flat = (frame or train.shape[2:]), test.shape
    train, test, truth = (y.reshape(*y.shape[:2], *form) for y in (train, test, truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = hd.MGPVAE(**({"progress": False} | options)).fit(train)
    found = model.impute(test, n_draws=100, random_state=0).transpose("draw", "trial", "time", ...)
    density = model.log_predictive(truth, test)["log_density"].transpose("trial", "time", ...)
    mean, variance, density = (a.values.reshape(flat) for a in (found["mean"], found["var"], density))
    draws = found["observation_draw"].values.reshape(-1, *flat)
    return Guess(mean, np.sqrt(variance), draws, density), model


def about(model: Any) -> dict[str, Any]:
    """What to keep of a fitted hd.MGPVAE beside its scores."""
    return {"epochs": model.n_epochs_, "of": len(model.elbo_history_), "period": model.period_}


# -------------------------------------------------------------------------------------------- rows and tables


def hide(shape: tuple[int, ...], share: float, by: str, rng: np.random.Generator) -> np.ndarray:
    """Which entries are hidden: whole frames, or entries one by one."""
    drawn = rng.random(shape[:2] + ((1,) if by == "frames" else shape[2:])) < share
    return np.broadcast_to(drawn, shape)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a function returns, and the CPU seconds it took."""
    start = time.process_time()
    return run(), time.process_time() - start


def table(results: Mapping[str, Mapping[str, Any]], columns: tuple[str, ...] = COLUMNS) -> str:
    """Markdown of all methods, one row each: means over runs."""
    lines = ["| method | " + " | ".join(columns) + " | runs |", "|---" * (len(columns) + 2) + "|"]
    for method, runs in results.items():
        mean = {name: np.mean([row[name] for row in runs.values()]) for name in columns}
        cells = [f"{mean[c]:.{_DIGITS.get(c, 3)}f}" for c in columns]
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {len(runs)} |")
    return "\n".join(lines)


def store(path: Path | None, task: str, method: str, run: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Put the scores of one run beside those already in the file, if there is one; all of the task."""
    kept = json.loads(path.read_text()) if path is not None and path.exists() else {}
    kept.setdefault(task, {}).setdefault(method, {})[str(run)] = dict(row)
    if path is not None:
        path.write_text(json.dumps(kept, indent=1) + "\n")
    return kept[task]
