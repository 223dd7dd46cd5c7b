"""Weights of segments under costs that are sums over rows, from block sums: one pass over the data."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hidamari.inference._additive import Additive, Sums
from hidamari.inference._grids import Summed, summed
from hidamari.inference._rows import complete

__all__ = ["BlockMarginal", "Spending", "likeliest", "marginal_of_blocks", "observed_before"]

_BLOCK = 32  # rows


class Spending(NamedTuple):
    """What turns a cost into a log weight: the arguments of `changes.log_marginals`."""

    half: float  # 1 / (2 tempering)
    information: float  # kappa
    few: float
    p: float  # parameters of a segment


@dataclass(frozen=True)
class BlockMarginal:
    """Log weight of segments, as `changes.log_marginals` gives it, with passes for what is asked most."""

    view: Summed
    seen: np.ndarray  # (T + 1,) observed rows before each row
    spending: Spending

    def __call__(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Log weights of the segments [starts, ends), which broadcast."""
        from hidamari.inference._sums import costs_of

        a, b = np.broadcast_arrays(starts, ends)
        places, at = np.unique(np.concatenate([a.ravel(), b.ravel()]), return_inverse=True)
        before = self.view.before(places)
        costs = np.empty(a.size)
        costs_of(self.view.rows, before[at[a.size :]] - before[at[: a.size]], costs, self._work())
        n = (self.seen[b] - self.seen[a]) / self.spending.information
        spent = np.log1p(n) + self.spending.few / (1.0 + n)
        return -self.spending.half * costs.reshape(a.shape) - 0.5 * self.spending.p * spent

    def _work(self) -> np.ndarray:
        """Room for one matrix."""
        p = self.view.rows.x.shape[1]
        return np.empty((p, p))

    def forward_backward(
        self, places: np.ndarray, price: float, minimum: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log sums over the segmentations of the rows before, and from, each place."""
        from hidamari.inference._change_weights import forward_backward

        prefix = self.view.before(places)
        forward, backward, log = np.empty((3, len(places)))
        diff = np.empty(prefix.shape[1])
        seen = self.seen[places]
        forward_backward(
            self.view.rows,
            prefix,
            places,
            seen,
            -0.5 * float(price),
            int(minimum),
            self.spending,
            forward,
            backward,
            log,
            diff,
            self._work(),
        )
        return forward, backward

    def split_chances(self, a: int, b: int, minimum: int) -> np.ndarray:
        """Probability (b - a - 1,) that [a, b) splits at each row after a."""
        from hidamari.inference._change_weights import split_chances

        chance = np.empty(b - a - 1)
        before, after = self.view.before(np.array([a, b]))
        now, side = np.empty((2, len(before)))
        split_chances(
            self.view.rows,
            self.view.prefix,
            self.view.edges,
            before,
            after,
            int(a),
            int(b),
            self.seen,
            int(minimum),
            self.spending,
            chance,
            now,
            side,
            self._work(),
        )
        return chance


def marginal_of_blocks(cost: Any, cache: Any, x: np.ndarray, spending: Spending) -> BlockMarginal | None:
    """Weights from sums, of ``cache`` or of one pass over x where that is None; None for other costs."""
    if not isinstance(cost, Additive) or type(cost).costs is not Additive.costs:
        return None
    if cache is None and cost.holes(x) is None:
        view = summed(x, cost, max(1, len(x) // _BLOCK), 1)
    elif isinstance(cache, Sums):
        view = Summed(cache.rows, cache.prefix, np.arange(len(x) + 1), 1)
    else:
        return None
    # Such costs weigh by complete rows, but a missing entry is missing from what was observed all the same.
    whole = view.rows.shared and not complete(view.rows.kind)
    seen = np.arange(len(x) + 1.0) if whole else observed_before(x)
    return BlockMarginal(view, seen, spending)


def observed_before(x: np.ndarray) -> np.ndarray:
    """Rows (T + 1,) observed before each row, those with missing entries by their share."""
    return np.concatenate([[0.0], np.cumsum((~np.isnan(x)).mean(axis=1))])


def likeliest(chance: np.ndarray, count: int) -> np.ndarray:
    """First so many of np.argsort(-chance, kind="stable"): most chances are 0 and need no sorting."""
    some = np.flatnonzero(chance)
    found = some[np.argsort(-chance[some], kind="stable")[:count]]
    if len(found) == count:
        return found
    return np.concatenate([found, np.flatnonzero(chance == 0.0)[: count - len(found)]])
