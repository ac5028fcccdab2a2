"""A plain word for what a method did: a closed list, and the rules that choose from it.

Everything is judged beside doing nothing: on influential forget sets the originals themselves are
off on retain and val. Thresholds are zones: within one both neighbouring words are true, and the
estimate decides by the middle; with single thresholds nobody near one ever gets a word.
"""

from collections.abc import Mapping
from typing import Literal, get_args

from klom_bench.metrics.excess import BothWays, Jackknife
from klom_bench.metrics.permutation import Retrained

Word = Literal[
    "like a retrain",
    "forgets, keeps the rest",
    "forgets in part",
    "no better than doing nothing",
    "breaks the rest",
    "cannot be told at this N",
]
WORDS: tuple[Word, ...] = get_args(Word)
WordAlone = Literal["like a retrain", "unlike a retrain", "cannot be told at this N"]
"""Of models whose originals are not known."""
CANNOT: Literal["cannot be told at this N"] = "cannot be told at this N"
SETTLED = 100
"""From this N on a word is wrong in at most 5 % of runs (measured); below, it is provisional."""
LIKE = 0.05
"""Nats of excess below which a model is like a retrained one."""

Zone = tuple[float, float, float]
"""Lower end, middle, upper end."""
REST: Zone = (0.1, 0.2, 0.3)
"""Excess over that of doing nothing, in nats; .2 is a shift of every margin by .63 sd."""
FORGETS: Zone = (0.7, 0.8, 0.9)
"""Shares of the excess of doing nothing that are gone."""
IN_PART: Zone = (0.1, 0.15, 0.2)


def word(
    unlearned: Mapping[str, BothWays], nothing: Mapping[str, BothWays], test: Retrained
) -> Word:
    """The word for unlearned models; `nothing` is the excess of the originals they came from.

    Source: rules chosen on 34 cases of `digits` and held against others (`klom help calibration`).
    """
    if not nothing["forget"].forward.estimate.surely_above(0):
        return CANNOT
    kept = _keeps_the_rest(unlearned, nothing)
    if kept is None:
        return CANNOT
    if not kept:
        return "breaks the rest"
    e, n = unlearned["forget"], nothing["forget"]
    pairs = [(e.forward, n.forward), (e.reverse, n.reverse)]
    forgets = _gone(pairs, FORGETS)
    if forgets:
        alike = _alike(unlearned)
        return "like a retrain" if alike and test.plausible else "forgets, keeps the rest"
    in_part = _gone(pairs[:1], IN_PART) if forgets is False else None
    if in_part is None:
        return CANNOT
    return "forgets in part" if in_part else "no better than doing nothing"


def word_alone(unlearned: Mapping[str, BothWays], test: Retrained) -> WordAlone:
    """The word where nothing is known of doing nothing, so that it cannot be told what was gained.

    unlearned: only the splits that have points.
    """
    if _alike(unlearned) and test.plausible:
        return "like a retrain"
    ways = [way for both in unlearned.values() for way in (both.forward, both.reverse)]
    if any(way.estimate.surely_above(LIKE) for way in ways):
        return "unlike a retrain"
    return CANNOT


def _alike(unlearned: Mapping[str, BothWays]) -> bool:
    return all(
        way.estimate.at_the_limit(LIKE).surely_below(LIKE)
        for both in unlearned.values()
        for way in (both.forward, both.reverse)
    )


def _keeps_the_rest(
    unlearned: Mapping[str, BothWays], nothing: Mapping[str, BothWays]
) -> bool | None:
    """Whether retain and val are off by no more than under doing nothing; None: it is open."""
    low, middle, high = REST
    worse = [
        difference.estimate
        for split in ("retain", "val")
        for difference in (
            unlearned[split].forward - nothing[split].forward,
            unlearned[split].reverse - nothing[split].reverse,
        )
    ]
    broken = any(estimate.surely_above(low) for estimate in worse)
    kept = all(estimate.surely_below(high) for estimate in worse)
    return _decided(kept, broken, all(estimate.value <= middle for estimate in worse))


def _gone(pairs: list[tuple[Jackknife, Jackknife]], zone: Zone) -> bool | None:
    """Whether the share 1 - e / n that is gone lies above a zone in every direction."""
    low, middle, high = zone
    above = all((e - n * (1 - low)).estimate.surely_below(0) for e, n in pairs)
    below = any((e - n * (1 - high)).estimate.surely_above(0) for e, n in pairs)
    return _decided(above, below, all(e.value <= n.value * (1 - middle) for e, n in pairs))


def _decided(yes: bool, no: bool, nearer: bool) -> bool | None:
    """Yes, no, by the estimates where both are true, None where neither is."""
    if yes and no:
        return nearer
    return None if yes == no else yes
