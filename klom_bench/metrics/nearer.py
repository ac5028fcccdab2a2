"""Nearer to the retrained models than the originals are, or farther? And what share of the way?

    D     = excess(doing nothing) - excess(unlearned)
    share = 1 - excess(unlearned) / excess(doing nothing)

Both are paired: one set of oracles, and unlearned model i was original i. So nothing may be dealt
out anew, and errors are those of the jackknife.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypedDict, get_args

from klom_bench.metrics.estimate import Estimate, EstimateJson
from klom_bench.metrics.excess import Jackknife

Nearness = Literal["nearer the retrained", "farther than the original", "cannot be told"]
NEARNESSES: tuple[Nearness, ...] = get_args(Nearness)
SURE_NEARER = 0.975
"""One-sided, z = 1.96: at 1.645 it was wrong in up to .07 of runs at equal distance (measured)."""
SURE_FARTHER = 0.99
"""z = 2.326: heavy tails look farther than they are, in .15 of runs at 1.645 (measured)."""
WIDEST = 0.5
"""Half of the interval of a share that is told."""


class NearerJson(TypedDict):
    """`Nearer` in records."""

    word: Nearness
    gain: EstimateJson
    share: EstimateJson | None


@dataclass(frozen=True)
class Nearer:
    """What unlearning gained on a split.

    gain: D, in nats. share: of the way from the originals to the oracles, at most 1; None where
    doing nothing is not surely away from the oracles, or where it is hardly known.
    """

    word: Nearness
    gain: Estimate
    share: Estimate | None

    def as_json(self) -> NearerJson:
        """Plain numbers."""
        share = None if self.share is None else self.share.as_json()
        return {"word": self.word, "gain": self.gain.as_json(), "share": share}


def nearer(nothing: Jackknife, unlearned: Jackknife) -> Nearer:
    """From the excess of the originals and of the models made of them, row by row.

    Source: quantiles and rules chosen on `digits` and on simulated laws (`klom help verdict`).
    """
    gain = (nothing - unlearned).estimate
    word: Nearness = "cannot be told"
    if gain.surely_above(0, SURE_NEARER):
        word = "nearer the retrained"
    elif gain.surely_below(0, SURE_FARTHER):
        word = "farther than the original"
    return Nearer(word, gain, _share(nothing, unlearned))


def _share(nothing: Jackknife, unlearned: Jackknife) -> Estimate | None:
    if not nothing.estimate.interval()[0] > 0:
        return None
    found = Jackknife(
        1 - unlearned.value / nothing.value,
        1 - unlearned.without_oracle / nothing.without_oracle,
        1 - unlearned.without_unlearned / nothing.without_unlearned,
    ).estimate
    if not found.interval()[1] - found.value <= WIDEST:
        return None
    return replace(found, value=min(found.value, 1.0))
