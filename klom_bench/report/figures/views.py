"""What figures are drawn of: the methods on one forget set, or in the mean over several."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from matplotlib.axes import Axes

from klom_bench.cell.record_json import EpochJson, RecordJson
from klom_bench.errors import visible
from klom_bench.metrics.summary import SPLITS, number
from klom_bench.metrics.word import LIKE
from klom_bench.report.figures.canvas import FAINT, INK, ORACLES
from klom_bench.report.table import named, setup

KLOM_P95, EXCESS = "KLOM P95", "excess"
SCORES = (EXCESS, KLOM_P95)
LIMITS = {
    KLOM_P95: "what a perfect method stays below in 95 % of runs at this N",
    EXCESS: f"an excess of {LIKE:g}, below which models may be called like retrained ones",
}
"""What the grey band beside the oracles ends at."""


@dataclass(frozen=True)
class Bar:
    """A score and the ends of its 95 % interval; nan where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Spot:
    """A method with its setting after one epoch.

    epoch: None where a method has one only, or it is unknown. last: whether no epoch comes after.
    cost: train points seen, over those of a retraining. bars: by split.
    """

    name: str
    method: str
    epoch: int | None
    last: bool
    cost: float
    bars: Mapping[str, Bar]

    @property
    def whole(self) -> str:
        """Its name with the epoch."""
        return self.name if self.epoch is None else f"{self.name} epoch {self.epoch}"


@dataclass(frozen=True)
class View:
    """One score of all methods on a forget set.

    nothing, oracles, limits: by split: of doing nothing, of retrained models on average, and the
    end of the band. about: a sentence on the models. bars: what bars are. left_out: a sentence,
    empty where all is there. records: of these methods; none in the mean over sets.
    """

    forget_set: str
    score: str
    spots: Sequence[Spot]
    nothing: Mapping[str, Bar]
    oracles: Mapping[str, float]
    limits: Mapping[str, float]
    about: str
    bars: str = "Bars are 95 % intervals over models."
    left_out: str = ""
    records: Sequence[RecordJson] = field(default=(), repr=False)

    @property
    def choice(self) -> dict[str, str]:
        """What of it can be chosen."""
        return {"forget set": self.forget_set, "score": self.score}

    @property
    def last(self) -> list[Spot]:
        """Without earlier epochs."""
        return [spot for spot in self.spots if spot.last]


def sets_of(records: Iterable[RecordJson]) -> dict[str, list[RecordJson]]:
    """Records that rest on the same models, by forget set; and by what else differs."""
    every = list(records)
    groups: dict[tuple[str, ...], list[RecordJson]] = {}
    for record in every:
        groups.setdefault(_models(record), []).append(record)
    differ = [len(set(part)) > 1 for part in zip(*groups, strict=True)]
    differ[:1] = [True]
    return {
        ", ".join(part for part, other in zip(key, differ, strict=True) if other): group
        for key, group in groups.items()
    }


def _models(record: RecordJson) -> tuple[str, ...]:
    n, m = record["members"]["unlearned"], record["members"]["oracle"]
    return (
        visible(record["forget_set"]),
        visible(record["task"]),
        f"N = {n}" + (f" against {m}" if m != n else ""),
        visible(record["estimator"]["name"]),
        f"seed {record['seed']}",
        visible(record["device"]),
    )


def view(forget_set: str, records: Sequence[RecordJson], score: str) -> View | None:
    """One score of these records, which rest on the same models; None where there is none."""
    first = records[0]
    spots = [spot for record in records for spot in _spots(record, score)]
    nothing = {split: _nothing(first, split, score) for split in SPLITS}
    known = [*nothing.values(), *(bar for spot in spots for bar in spot.bars.values())]
    if all(math.isnan(bar.value) for bar in known):
        return None
    return View(
        forget_set,
        score,
        spots,
        nothing,
        {split: _oracles(first, split, score) for split in SPLITS},
        {split: _limit(first, split, score) for split in SPLITS},
        about(first),
        records=records,
    )


def about(record: RecordJson) -> str:
    """What its numbers rest on, in a sentence."""
    of = record["estimator"]
    models = setup(record["task"], record["members"], of["name"], of["direction"], record["device"])
    return f"{models}, seed {record['seed']}."


def mean_of(views: Sequence[View]) -> View | None:
    """The mean over forget sets, of what was measured on all of them; None where nothing was."""
    by_name: dict[tuple[str, str], list[Spot]] = {}
    for of in views:
        for spot in of.last:
            by_name.setdefault((spot.name, spot.method), []).append(spot)
    whole = [together for together in by_name.values() if len(together) == len(views)]
    if not whole or len(views) < 2:
        return None
    missing = sorted(name for (name, _), of in by_name.items() if len(of) < len(views))
    few = ", ".join(missing[:8]) + (" and others" if len(missing) > 8 else "")
    return View(
        f"mean of {len(views)} sets",
        views[0].score,
        [_mean_spot(together) for together in whole],
        {split: Bar(fmean(of.nothing[split].value for of in views)) for split in SPLITS},
        {split: fmean(of.oracles[split] for of in views) for split in SPLITS},
        {split: fmean(of.limits[split] for of in views) for split in SPLITS},
        f"Means over {', '.join(of.forget_set for of in views)}: {views[0].about}",
        "The ends of bands are means, too; there are no intervals, since the sets share their "
        "originals.",
        f"Not measured on all of them, so not drawn: {few}." if missing else "",
    )


def _mean_spot(together: Sequence[Spot]) -> Spot:
    first = together[0]
    bars = {split: Bar(fmean(spot.bars[split].value for spot in together)) for split in SPLITS}
    return Spot(first.name, first.method, None, True, fmean(s.cost for s in together), bars)


def _spots(record: RecordJson, score: str) -> list[Spot]:
    """After every epoch; doing nothing is drawn as what it is."""
    if record["method"] == "do_nothing":
        return []
    several = bool(record["earlier"])
    return [
        Spot(
            visible(named(record)),
            record["method"],
            of["epoch"] if several else None,
            of is record,
            number(of["relative_cost"]["examples"]),
            {split: _bar(of, split, score) for split in SPLITS},
        )
        for of in (*record["earlier"], record)
    ]


def _bar(of: RecordJson | EpochJson, split: str, score: str) -> Bar:
    if score == EXCESS:
        excess = of["excess"].get(split)
        found = (excess["value"], excess["low"], excess["high"]) if excess else (None,) * 3
        return Bar(*map(number, found))
    error = of["errors"][split]["p95"]
    value = of["scores"][split]["p95"]
    return Bar(number(value), number(error["low"]), number(error["high"]))


def _nothing(record: RecordJson, split: str, score: str) -> Bar:
    if score == EXCESS:
        excess = record["excess_do_nothing"].get(split)
        found = (excess["value"], excess["low"], excess["high"]) if excess else (None,) * 3
        return Bar(*map(number, found))
    return Bar(number(record["do_nothing"][split]["p95"]))


def _oracles(record: RecordJson, split: str, score: str) -> float:
    return 0.0 if score == EXCESS else number(record["floor"][split]["p95"])


def _limit(record: RecordJson, split: str, score: str) -> float:
    return LIKE if score == EXCESS else number(record["perfect"][split]["p95"])


def levels(axes: Axes, view: View, split: str) -> None:
    """Across axes whose height is the score: doing nothing, the oracles, and their band."""
    low = axes.get_ylim()[0]
    axes.axhspan(low, view.limits[split], color=FAINT, alpha=0.22, lw=0, zorder=0, gid="band")
    axes.axhline(view.oracles[split], color=ORACLES, lw=0.9, zorder=1)
    if not math.isnan(view.nothing[split].value):
        axes.axhline(view.nothing[split].value, color=INK, lw=0.6, ls=(0, (4, 3)), zorder=1)
