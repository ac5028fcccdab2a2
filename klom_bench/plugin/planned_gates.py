"""--klom-plan: how many models would decide each gate, from a few that are there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from klom_bench.cell.cell import Cell
from klom_bench.cell.measure import measure
from klom_bench.cell.planning import SIZES, Need, decided, needs, out_of_noise
from klom_bench.ensemble.threads import thread_count
from klom_bench.errors import KlomError
from klom_bench.metrics.excess import FEWEST
from klom_bench.plugin.checks import asked_by, known_cell, limits_of
from klom_bench.plugin.progress import announce_on
from klom_bench.plugin.run import Run
from klom_bench.report.columns import aligned
from klom_bench.store.held import Held

MEASURED, MOST = 10, 20
"""Models a side that are trained to tell, and that are looked at where more are there."""


@dataclass(frozen=True)
class PlannedGates:
    """What a few models say of the gates of the tests. seconds: of unlearning a model, a test.

    untold: tests of which nothing can be said, and why.
    """

    run: Run
    models: int
    found: dict[str, list[Need]]
    untold: dict[str, str]
    seconds: list[float]

    def lines(self, held: Sequence[tuple[Held, int]], seconds: float | None) -> list[str]:
        """What is said; held: ensembles of the plan. seconds: of training a model."""
        if not self.found and not self.untold:
            return ["no test has a gate: nothing needs deciding", "nothing was run"]
        lines = []
        every = [need for of in self.found.values() for need in of]
        if every:
            lines += [f"which N decides a gate, from {self.models} models a side:"]
            lines += aligned(
                [
                    ("gate", "now", "limit", "decided by about", "100 models leave open"),
                    *self._rows(),
                ],
                left=1,
            )
            lines += self._ladder(every, held, seconds)
        for why in dict.fromkeys(self.untold.values()):
            tests = [test for test, reason in self.untold.items() if reason == why]
            more = f" and {len(tests) - 1} more" if tests[1:] else ""
            lines.append(f"{tests[0]}{more}: {why}")
        done = f"{len(self.found)} tests were tried with {self.models} models, and nothing kept"
        return [*lines, done if every else "nothing was run"]

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for test, of in self.found.items():
            for need in of:
                gate, span = need.gate, need.open_at(100)
                now = f"{gate.value:.2f}"
                if gate.estimate and not need.at_least:
                    now += f" ±{gate.estimate.interval()[1] - gate.value:.2f}"
                least = "at least " * need.at_least
                by = f"{least}N = {need.models}" if need.models else "no N"
                if gate.why:
                    now, by = gate.why, "not known"
                left = f"{max(span[0], 0):.2f} to {span[1]:.2f}" if span else ""
                rows.append((f"{test}: {gate.metric}", now, f"{gate.limit:g}", by, left))
        return rows

    def _ladder(
        self, every: Sequence[Need], held: Sequence[tuple[Held, int]], seconds: float | None
    ) -> list[str]:
        """How many gates so and so many models decide, and what they cost."""
        lines, before = [], (0, 0)
        for models in SIZES:
            count, told = now = decided(every, models), out_of_noise(every, models)
            if now == before:
                continue
            before = now
            more = f" and brings the limits of {told} on KLOM out of the noise" if told else ""
            lacking = sum(one.lacks(models) for one, _ in held)
            took = models * sum(self.seconds)
            if lacking and seconds is None:
                cost = f"{lacking} members to get"
            else:
                took += lacking * (seconds or 0.0) / thread_count(self.run.bench.device)
                cost = f"{lacking} members to train, about {took:.0f} s with unlearning"
            lines.append(f"N = {models} decides {count} of {len(every)} gates{more}: {cost}")
        if left := sum(not (need.within(SIZES[-1]) or need.gate.why) for need in every):
            lines.append(
                f"{left} of {len(every)} gates are not decided by any such N: their limits are too "
                "near the number, or in the noise"
            )
        return lines


def planned_gates(run: Run, items: Sequence[pytest.Item]) -> PlannedGates:
    """Try tests that have gates with a few models, as far as these are there or to be trained."""
    train = run.options.plan == "measure"
    models = min(MEASURED if train else MOST, run.options.models)
    found, untold, seconds = {}, {}, []
    for item in items:
        asked, limits = asked_by(item), limits_of(run, item)
        if asked is None or limits is None or not (limits.limits or limits.regressions):
            continue
        test, cell = "-".join(asked), known_cell(run, item)
        if cell is None:
            untold[test] = "a fixture of yours is known to its test only, so nothing is planned"
            continue
        if cell.unfit:
            continue
        count = models if train else min(models, _there(run, cell))
        if count < FEWEST:
            untold[test] = (
                f"fewer than {FEWEST} models a side are there, so what decides its gates is not "
                f"known: --klom-plan=measure trains {min(MEASURED, run.options.models)} and tells"
            )
            continue
        few = replace(cell, members=count, oracles=count, looks=())
        try:
            record = measure(few, run.bench.store, announce=announce_on(item.config), limits=limits)
        except KlomError as error:
            untold[test] = f"cannot be measured: {error}"
            continue
        found[test] = needs(record)
        seconds.append(record.seconds["per_member"])
        models = min(models, count)
    return PlannedGates(run, models, found, untold, seconds)


def _there(run: Run, cell: Cell) -> int:
    """How many models a side the store holds of a cell; none where it lacks others it needs."""
    store, device = run.bench.store, run.bench.device
    if any(store.stale_if(one, device) for one in (cell.original_id, cell.oracle_id)):
        return 0
    if "datamodels" in cell.method.needs and store.held(cell.half_id).lacks(cell.halves):
        return 0
    return min(len(store.held(one).members) for one in (cell.original_id, cell.oracle_id))
