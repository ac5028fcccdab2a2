"""One cell: (task, method, forget set) -> record.

    originals [N] --method(F, R)--> unlearned [N] --margins--+
    oracles [M] ---------------------------------- margins --+--> scores --> record

Models are found in the store or trained into it; everything after the margins works on margins.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from klom_bench.ensemble.ensemble import Ensemble, evaluating, logits
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.seeds import generator
from klom_bench.ensemble.threads import Check, each
from klom_bench.errors import KlomError
from klom_bench.gates import Gate, Verdict, overall
from klom_bench.methods.method import Method
from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.floor import floor, floor_quantiles, members_needed
from klom_bench.metrics.klom import klom, klom_and_reverse
from klom_bench.metrics.margins import margins
from klom_bench.metrics.summary import SPLITS, Summary, plain, summarise
from klom_bench.progress import Announce, silent
from klom_bench.store.layout import EnsembleId
from klom_bench.store.store import Store, packs
from klom_bench.tasks.task import ForgetSet, Task

SCHEMA = 1
Scores = dict[str, Summary]
Timed = Callable[[Callable[[], None]], float]
"""Runs the unlearning once and returns the seconds it took."""


@dataclass(frozen=True)
class Cell:
    """Everything that decides a record: members are unlearned models, oracles may be more."""

    task: Task
    method: Method
    settings: Mapping[str, Any]
    forget_set: ForgetSet
    members: int
    oracles: int
    seed: int
    estimator: Estimator
    device: torch.device

    @property
    def original_id(self) -> EnsembleId:
        """The ensemble that is unlearned."""
        return EnsembleId(self.task, "original", self.seed)

    @property
    def oracle_id(self) -> EnsembleId:
        """The ensemble that it should become."""
        return EnsembleId(self.task, "oracle", self.seed, self.forget_set)

    @property
    def splits(self) -> dict[str, np.ndarray]:
        """Which points belong to which split; train points come first."""
        data, n = self.task.data, self.task.train_points
        val = np.arange(n, n + len(data.y_val))
        return dict(
            zip(SPLITS, (self.forget_set.indices, self.forget_set.retain, val), strict=True)
        )


@dataclass(frozen=True)
class Record:
    """What one cell leaves behind.

    points: KLOM of every point, float64 [points], train first. relative_cost compares with
    training afresh on R: `time` measured, `examples` counted.
    """

    cell: Cell
    points: np.ndarray
    scores: Scores
    reverse: Scores
    do_nothing: Scores
    floor: Scores
    accuracy: Mapping[str, float]
    accuracy_do_nothing: Mapping[str, float]
    accuracy_oracle: Mapping[str, float]
    epoch: int
    seconds: Mapping[str, float]
    relative_cost: Mapping[str, float]
    gates: tuple[Gate, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Of all gates together."""
        return overall(self.gates)

    def judged(self, limits: Mapping[str, float]) -> tuple[Gate, ...]:
        """The gates that these limits make, by metric."""
        gates = []
        for metric, limit in sorted(limits.items()):
            split, _, statistic = metric.rpartition("_")
            perfect = floor_quantiles(
                self.cell.estimator,
                self.cell.oracles,
                self.cell.members,
                len(self.cell.splits[split]),
            )[statistic][1]
            value = getattr(self.scores[split], statistic)
            gates.append(Gate(metric, limit, value, perfect))
        return tuple(gates)

    def needed(self, gate: Gate) -> int | None:
        """The N at which an inconclusive gate could be decided."""
        points = len(self.cell.splits[gate.split])
        return members_needed(self.cell.estimator, points, gate.statistic, gate.limit)

    def worst(self, split: str, count: int = 5) -> list[tuple[int, float]]:
        """The points of a split with the highest KLOM: (point, score)."""
        rows = self.cell.splits[split]
        order = np.argsort(-self.points[rows], kind="stable")[:count]
        return [(int(rows[i]), float(self.points[rows[i]])) for i in order]

    def as_json(self) -> dict[str, Any]:
        """The contract of DESIGN, in plain JSON values: null where there is no number."""
        cell, est = self.cell, self.cell.estimator

        def numbers(values: Mapping[str, float]) -> dict[str, float | None]:
            return {name: plain(value) for name, value in values.items()}

        def summaries(scores: Scores) -> dict[str, dict[str, float | None]]:
            return {split: summary.as_json() for split, summary in scores.items()}

        return {
            "schema": SCHEMA,
            "task": cell.task.name,
            "forget_set": cell.forget_set.name,
            "method": cell.method.name,
            "hyperparameters": {
                k: list(v) if isinstance(v, tuple) else v for k, v in cell.settings.items()
            },
            "epoch": self.epoch,
            "members": {"oracle": cell.oracles, "unlearned": cell.members},
            "estimator": {
                "name": est.name,
                "direction": est.direction,
                "bins": est.bins,
                "eps": est.eps,
                "clip": est.clip,
            },
            "seed": cell.seed,
            "forget_set_sha256": cell.forget_set.sha256,
            "device": str(cell.device),
            "scores": summaries(self.scores),
            "reverse": summaries(self.reverse),
            "do_nothing": summaries(self.do_nothing),
            "floor": summaries(self.floor),
            "accuracy": numbers(self.accuracy),
            "accuracy_do_nothing": numbers(self.accuracy_do_nothing),
            "accuracy_oracle": numbers(self.accuracy_oracle),
            "seconds": numbers(self.seconds),
            "relative_cost": numbers(self.relative_cost),
            "gates": [
                {
                    "metric": g.metric,
                    "limit": g.limit,
                    "value": plain(g.value),
                    "perfect": plain(g.perfect),
                    "verdict": g.verdict,
                }
                for g in self.gates
            ],
            "verdict": self.verdict,
        }


def measure(cell: Cell, store: Store, timed: Timed, announce: Announce = silent) -> Record:
    """Unlearn F from N originals, and score them against the oracles.

    Raises KlomError for everything that would make the scores meaningless: ensembles that are
    missing or do not fit, a method that yields nothing, changes nothing or diverges, originals
    that were touched.
    """
    store.complete(cell.original_id, cell.members, cell.device, announce)
    trained = store.complete(cell.oracle_id, cell.oracles, cell.device, announce)
    originals = load_originals(store, cell.original_id, cell.members, cell.device)
    oracle_margins = store.margins(cell.oracle_id, cell.oracles)
    before = store.checkpoint_stats(cell.original_id, cell.members)

    runs = [
        Run(cell, originals.states, pack) for pack in packs(range(cell.members), cell.task.pack)
    ]
    # The first optimizer of a process imports for 1.3 s, which is not the method's doing.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    with announce(f"{cell.method.name} on {cell.forget_set.name}", cell.members) as tick:

        def one(run: Run, check: Check) -> None:
            for _ in run.epochs():
                check()
            tick(len(run.pack))

        def unlearn() -> None:
            each(runs, one, cell.device)

        seconds = timed(unlearn)

    if store.checkpoint_stats(cell.original_id, cell.members) != before:
        raise KlomError(
            f"{cell.method.name} wrote to the stored originals in "
            f"{store.folder(cell.original_id)}: a method must only change the model it is given. "
            "Remove that folder to have the originals trained again"
        )
    outputs = torch.cat(each(runs, lambda run, _: run.logits().cpu(), cell.device))
    unlearned = margins(outputs, cell.task.data.y()).numpy()
    _refuse_non_finite(cell, unlearned)
    _refuse_unchanged(cell, runs, unlearned, originals.margins)
    right = outputs.argmax(-1).eq(cell.task.data.y()).numpy()

    forward, backward = klom_and_reverse(oracle_margins, unlearned, cell.estimator)
    nothing = klom(oracle_margins, originals.margins, cell.estimator)
    noise = floor(cell.estimator, cell.oracles, cell.members)
    per_member = float(np.mean([run.seconds / len(run.pack) for run in runs]))
    retrain = float(np.mean([m.seconds for m in trained.members.values()]))
    afresh = len(cell.forget_set.retain) * cell.task.recipe.epochs
    splits = cell.splits
    return Record(
        cell=cell,
        points=forward,
        scores={split: summarise(forward[rows]) for split, rows in splits.items()},
        reverse={split: summarise(backward[rows]) for split, rows in splits.items()},
        do_nothing={split: summarise(nothing[rows]) for split, rows in splits.items()},
        floor=dict.fromkeys(splits, noise),
        accuracy={split: float(right[:, rows].mean()) for split, rows in splits.items()},
        accuracy_do_nothing={
            split: float(originals.right[:, rows].mean()) for split, rows in splits.items()
        },
        accuracy_oracle={
            split: float(np.mean([trained.members[i].accuracy[split] for i in range(cell.oracles)]))
            for split in splits
        },
        epoch=runs[0].epoch,
        seconds={"unlearn": seconds, "per_member": per_member, "retrain": retrain},
        relative_cost={"time": per_member / retrain, "examples": runs[0].examples / afresh},
    )


@dataclass(frozen=True)
class Originals:
    """Loaded once a process: state dicts, margins [N, points], right answers bool [N, points]."""

    states: list[dict[str, torch.Tensor]]
    margins: np.ndarray
    right: np.ndarray


@lru_cache(maxsize=1)
def load_originals(
    store: Store, ensemble: EnsembleId, members: int, device: torch.device
) -> Originals:
    """The originals of a store."""
    states = store.states(ensemble, members)
    data = ensemble.task.data.to(device)

    def right(pack: list[int], _: Check) -> np.ndarray:
        model = Ensemble(ensemble.task.architecture, [states[i] for i in pack]).to(device)
        with evaluating(model):
            return logits(model, data.x(), len(pack)).argmax(-1).eq(data.y()).cpu().numpy()

    answers = each(packs(range(members), ensemble.task.pack), right, device)
    return Originals(states, store.margins(ensemble, members), np.concatenate(answers))


class Run:
    """One pack of originals on its way to being unlearned."""

    def __init__(self, cell: Cell, states: list[dict[str, torch.Tensor]], pack: list[int]) -> None:
        self.cell, self.pack = cell, pack
        self.epoch, self.seconds = 0, 0.0
        who = (cell.task.name, "unlearn", cell.forget_set.name, cell.seed)
        streams = [generator(*who, i) for i in pack]
        chosen = [states[i] for i in pack]
        self.model = Ensemble(cell.task.architecture, chosen, pack, streams).to(cell.device)
        self.before = self.model.fingerprints()
        data = cell.task.data.to(cell.device)
        self.forget, self.retain = (
            Points(data.x_train, data.y_train, torch.from_numpy(rows), streams)
            for rows in (cell.forget_set.indices, cell.forget_set.retain)
        )
        self.result: Any = self.model

    def epochs(self) -> Iterator[None]:
        """Run the method to its end."""
        method = self.cell.method
        needs = {"task": self.cell.task}
        self.model.train()
        start = time.perf_counter()
        steps = method.function(
            self.model,
            self.forget,
            self.retain,
            **{name: needs[name] for name in method.needs},
            **self.cell.settings,
        )
        if not isinstance(steps, Iterator):
            raise KlomError(_yields_nothing(method))
        for result in steps:
            self.epoch += 1
            if result is not None:
                self.result = result
            yield
        if not self.epoch:
            raise KlomError(_yields_nothing(method))
        if self.cell.device.type == "cuda":
            torch.cuda.synchronize(self.cell.device)
        self.seconds = time.perf_counter() - start

    @property
    def examples(self) -> int:
        """Training examples that one member has seen."""
        return self.forget.seen + self.retain.seen

    def logits(self) -> torch.Tensor:
        """Logits [pack, points, classes] of what the method made, on all points."""
        with evaluating(self.model):
            return logits(self.result, self.cell.task.data.to(self.cell.device).x(), len(self.pack))

    def changed(self) -> bool:
        """Whether any member's parameters or buffers differ from the original's."""
        return self.model.fingerprints() != self.before


def _yields_nothing(method: Method) -> str:
    return (
        f"{method.name} never yielded: a method is a generator function that yields after every "
        "epoch (one `yield` at its end is enough); wrap a function for a single model "
        "with klom_bench.per_model"
    )


def _refuse_non_finite(cell: Cell, unlearned: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(unlearned))
    if len(bad):
        member, point = bad[0]
        raise KlomError(
            f"{cell.method.name} diverged on {cell.forget_set.name}: the margin of member {member} "
            f"at point {point} is {unlearned[member, point]}, and {len(np.unique(bad[:, 0]))} of "
            f"{cell.members} members have such margins. Lower its learning rate or epochs"
        )


def _refuse_unchanged(
    cell: Cell, runs: list[Run], unlearned: np.ndarray, originals: np.ndarray
) -> None:
    if cell.method.changes_nothing:
        return
    wraps = any(run.result is not run.model for run in runs)
    same_outputs = wraps and np.allclose(unlearned, originals, rtol=0, atol=1e-6)
    if same_outputs or not (wraps or all(run.changed() for run in runs)):
        raise KlomError(
            f"{cell.method.name} changed nothing on {cell.forget_set.name} with "
            f"{dict(cell.settings)}: the models are the originals still, so there is nothing to "
            "score. If that is meant (a control), set `method.changes_nothing = True` on the "
            "function"
        )
