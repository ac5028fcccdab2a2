"""One cell: (task, method, forget set) -> record.

    originals [N] --method(F, R)--> unlearned [N] --margins--+
    oracles [M] ---------------------------------- margins --+--> scores --> record

Models are found in the store or trained into it; everything after the margins works on margins.
"""

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from klom_bench.ensemble.device import finish
from klom_bench.ensemble.ensemble import Ensemble, evaluating
from klom_bench.ensemble.seeds import generator
from klom_bench.ensemble.threads import Check, each
from klom_bench.errors import KlomError
from klom_bench.methods.needs import Datamodels, oracles_for
from klom_bench.metrics.floor import floor
from klom_bench.metrics.klom import klom, klom_and_reverse
from klom_bench.metrics.margins import margins
from klom_bench.metrics.summary import summarise
from klom_bench.progress import Announce, silent
from klom_bench.record import Cell, Record
from klom_bench.store.layout import EnsembleId
from klom_bench.store.manifest import how_to_remove
from klom_bench.store.published import PublishedEnsemble
from klom_bench.store.sanity import judged, sanity
from klom_bench.store.store import Store, packs
from klom_bench.tasks.task import Task
from klom_bench.tasks.warm_up import warm_up

Timed = Callable[[Callable[[], None]], float]
"""Runs the unlearning once and returns the seconds it took."""


def measure(cell: Cell, store: Store, timed: Timed, announce: Announce = silent) -> Record:
    """Unlearn F from N originals, and score them against the oracles.

    Raises KlomError for everything that would make the scores meaningless: ensembles that are
    missing or do not fit, a method that yields nothing, changes nothing or diverges, originals
    that were touched.
    """
    if cell.unfit:
        raise KlomError(cell.unfit)
    wanted = [(cell.original_id, cell.members), (cell.oracle_id, cell.oracles)]
    if "datamodels" in cell.method.needs:
        wanted.append((cell.subset_id, cell.subsets))
    store.complete_all(wanted, cell.device, announce)
    held = store.held(cell.oracle_id)
    originals = load_originals(store, cell.original_id, cell.members, cell.device)
    oracle_margins = held.margins(cell.oracles, cell.device, announce)
    ensembles = (cell.original_id, cell.oracle_id)
    if any(isinstance(store.held(e), PublishedEnsemble) for e in ensembles):
        _look_at_published(cell, oracle_margins, originals.margins)
    before = _touchable(cell, store)

    needs = needs_of(cell, store)
    runs = [
        Run(cell, originals.states, pack, needs(pack))
        for pack in packs(range(cell.members), cell.task.pack)
    ]
    warm_up(cell.task, len(runs[0].pack), cell.device)  # which is not the method's doing
    with announce(f"{cell.method.name} on {cell.forget_set.name}", cell.members) as tick:

        def one(run: Run, check: Check) -> None:
            # Only the method knows how many epochs there will be; most call the number so.
            given = cell.settings.get("epochs")
            epochs = given if isinstance(given, int) and given > 0 else 1
            for _ in run.epochs():
                check()
                if run.epoch < epochs:
                    tick(len(run.pack) / epochs)
            tick(len(run.pack) * (1 - min(run.epoch - 1, epochs - 1) / epochs))

        def unlearn() -> None:
            if any(run.begun for run in runs):
                raise KlomError(
                    f"{cell.method.name} was to unlearn the same members a second time, which "
                    "would make other scores: the fixture `benchmark` (of another plugin, or your "
                    "own) must call what it is given once. Use that of pytest-benchmark, as it is"
                )
            each(runs, one, cell.device)

        try:
            seconds = timed(unlearn)
        finally:
            touched = _touched(cell, store, before)
    if not all(run.begun for run in runs):
        raise KlomError(
            "nothing was unlearned: the fixture `benchmark` never called what it was given. Use "
            "that of pytest-benchmark, as it is"
        )
    if touched:
        raise KlomError(touched)
    wanted_epochs = _epochs(cell, runs)
    splits, y, retrain = cell.splits, cell.task.data.y(), held.seconds
    afresh = len(cell.forget_set.retain) * cell.task.recipe.epochs
    nothing = klom(oracle_margins, originals.margins, cell.estimator)
    away = np.full_like(originals.margins, 2 * np.abs(oracle_margins).max() + 1)
    nowhere = klom(oracle_margins, away, cell.estimator)
    noise = floor(cell.estimator, cell.oracles, cell.members)
    ended = float(np.mean([run.seconds / len(run.pack) for run in runs]))

    def scored(epoch: int) -> Record:
        """The record after an epoch."""
        outputs = torch.cat(each(runs, lambda run, _: run.logits(epoch).cpu(), cell.device))
        unlearned = margins(outputs, y).numpy()
        _refuse_non_finite(cell, unlearned)
        if epoch == runs[0].epoch:
            _refuse_unchanged(cell, runs, unlearned, originals.margins)
        right = outputs.argmax(-1).eq(y).numpy()
        forward, backward = klom_and_reverse(oracle_margins, unlearned, cell.estimator)
        moments = [run.moments[epoch] for run in runs]
        took = [moment.seconds / len(run.pack) for run, moment in zip(runs, moments, strict=True)]
        per_member = float(np.mean(took))
        return Record(
            cell=cell,
            points=forward,
            scores={split: summarise(forward[rows]) for split, rows in splits.items()},
            reverse={split: summarise(backward[rows]) for split, rows in splits.items()},
            do_nothing={split: summarise(nothing[rows]) for split, rows in splits.items()},
            nowhere={split: summarise(nowhere[rows]) for split, rows in splits.items()},
            floor=dict.fromkeys(splits, noise),
            accuracy={split: float(right[:, rows].mean()) for split, rows in splits.items()},
            accuracy_do_nothing={
                split: float(originals.right[:, rows].mean()) for split, rows in splits.items()
            },
            accuracy_oracle=held.accuracy(cell.oracles),
            epoch=epoch,
            seconds={
                "unlearn": seconds * per_member / ended,
                "per_member": per_member,
                "retrain": retrain,
            },
            relative_cost={
                "time": per_member / retrain,
                "examples": moments[0].examples / afresh,
            },
        )

    *earlier, last = (scored(epoch) for epoch in wanted_epochs)
    return replace(last, earlier=tuple(earlier))


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
    held = store.held(ensemble)
    states, answers = held.states(members), held.answers(members)
    if answers is None:
        z = logits_of(ensemble.task, states, device)
        answers = z.argmax(-1).eq(ensemble.task.data.y()).numpy()
    return Originals(states, held.margins(members, device), answers)


Needs = Callable[[list[int]], Mapping[str, Any]]
"""What a method asks for by name, for the members of a pack."""


def needs_of(cell: Cell, store: Store) -> Needs:
    """The task, the oracles' outputs, datamodels: as far as the method names them."""
    given: dict[str, Callable[[list[int]], Any]] = {"task": lambda _: cell.task}
    if "oracles" in cell.method.needs:
        z = load_logits(store, cell.oracle_id, cell.oracles, cell.device)
        given["oracles"] = lambda pack: oracles_for(pack, z, cell.task.data.y_train)
    if "datamodels" in cell.method.needs:
        count = cell.subsets
        z_k = load_logits(store, cell.subset_id, count, cell.device)
        known = Datamodels(cell.subset_id.masks(count), z_k, cell.task.data_on(cell.device))
        given["datamodels"] = lambda _: known
    return lambda pack: {name: given[name](pack) for name in cell.method.needs}


@lru_cache(maxsize=2)
def load_logits(
    store: Store, ensemble: EnsembleId, members: int, device: torch.device
) -> torch.Tensor:
    """Logits [members, points, classes] of an ensemble on all points, computed from checkpoints."""
    return logits_of(ensemble.task, store.held(ensemble).states(members), device)


def logits_of(
    task: Task, states: Sequence[Mapping[str, torch.Tensor]], device: torch.device
) -> torch.Tensor:
    """Logits [members, points, classes] of models on all points of a task."""
    data = task.data_on(device)

    def of_pack(pack: list[int], _: Check) -> torch.Tensor:
        model = Ensemble(task.architecture, [states[i] for i in pack]).to(device)
        with evaluating(model):
            return data.logits(model, len(pack)).cpu()

    return torch.cat(each(packs(range(len(states)), task.pack), of_pack, device))


@dataclass(frozen=True)
class Moment:
    """What a run was after an epoch. state: None where the model is in it still."""

    result: Any
    state: list[torch.Tensor] | None
    seconds: float
    examples: int


class Run:
    """One pack of originals on its way to being unlearned; `given` is what the method asks for."""

    def __init__(
        self,
        cell: Cell,
        states: list[dict[str, torch.Tensor]],
        pack: list[int],
        given: Mapping[str, Any],
    ) -> None:
        self.cell, self.pack, self.given = cell, pack, given
        self.epoch, self.seconds = 0, 0.0
        who = (cell.task.name, "unlearn", cell.forget_set.name, cell.seed)
        streams = [generator(*who, i) for i in pack]
        chosen = [states[i] for i in pack]
        self.model = Ensemble(cell.task.architecture, chosen, pack, streams).to(cell.device)
        self.before = self.model.fingerprints()
        data = cell.task.data_on(cell.device)
        self.forget, self.retain = (
            data.points(rows, streams) for rows in (cell.forget_set.indices, cell.forget_set.retain)
        )
        self.result: Any = self.model
        self.begun = False
        self.moments: dict[int, Moment] = {}

    def epochs(self) -> Iterator[None]:
        """Run the method to its end."""
        method = self.cell.method
        self.begun = True
        self.model.train()
        start, wanted = time.perf_counter(), self.cell.epochs
        steps = method.function(
            self.model,
            self.forget,
            self.retain,
            **self.given,
            **self.cell.settings,
        )
        if not isinstance(steps, Iterator):
            raise KlomError(_yields_nothing(self.cell))
        for result in steps:
            self.epoch += 1
            if result is not None and not callable(result):
                raise KlomError(
                    f"{method.name} yielded {result!r}: yield nothing where the model was changed, "
                    "or an object that is called like the model"
                )
            if result is not None:
                self.result = result
            if self.epoch in wanted:
                self._keep(start, [v.clone() for v in self.model.network.state_dict().values()])
            yield
            if wanted and self.epoch == wanted[-1]:
                break
        if not self.epoch:
            raise KlomError(_yields_nothing(self.cell))
        if self.epoch not in self.moments:
            self._keep(start, None)

    def _keep(self, start: float, state: list[torch.Tensor] | None) -> None:
        finish(self.cell.device)
        self.seconds = time.perf_counter() - start
        own = isinstance(self.result, torch.nn.Module) and self.result is not self.model
        result = copy.deepcopy(self.result) if own and state is not None else self.result
        self.moments[self.epoch] = Moment(result, state, self.seconds, self.examples)

    @property
    def examples(self) -> int:
        """Training examples that one member has seen."""
        return self.forget.seen + self.retain.seen

    def logits(self, epoch: int) -> torch.Tensor:
        """Logits [pack, points, classes] of what the method had made by an epoch, on all points.

        The model is put back to where it was then.
        """
        data = self.cell.task.data_on(self.cell.device)
        points, moment = len(data.y()), self.moments[epoch]
        values = self.model.network.state_dict().values()
        with evaluating(self.model):
            for value, then in zip(values, moment.state or values, strict=True):
                value.copy_(then)
            z = data.logits(moment.result, len(self.pack))
        if z.ndim != 3 or z.shape[:2] != (len(self.pack), points):
            raise KlomError(
                f"{self.cell.method.name} made outputs of shape {tuple(z.shape)}, where logits "
                f"[members, points, classes] of {len(self.pack)} members and {points} points are "
                "expected: the object that it yields must be called like the model"
            )
        return z

    def unchanged(self) -> list[int]:
        """Members whose parameters and buffers are the original's still."""
        pairs = zip(self.pack, self.before, self.model.fingerprints(), strict=True)
        return [member for member, before, after in pairs if before == after]


def _epochs(cell: Cell, runs: list[Run]) -> tuple[int, ...]:
    """Those to score: as asked, but the end of a method that has one epoch by its nature."""
    epochs = sorted({run.epoch for run in runs})
    if len(epochs) > 1:
        raise KlomError(
            f"{cell.method.name} yielded {epochs} times for different members: all must have the "
            "same number of epochs"
        )
    if not cell.epochs or (epochs == [1] and "epochs" not in cell.settings):
        return (epochs[0],)
    if epochs[0] < cell.epochs[-1]:
        raise KlomError(
            f"{cell.method.name} yielded {epochs[0]} times with {dict(cell.settings)}, and "
            f"--klom-epochs asks for epoch {cell.epochs[-1]}"
        )
    return cell.epochs


def _yields_nothing(cell: Cell) -> str:
    return (
        f"{cell.method.name} never yielded with {dict(cell.settings)}: a method is a generator "
        "function that yields after every epoch (one `yield` at its end is enough); wrap a "
        "function for a single model with klom_bench.per_model"
    )


def _look_at_published(cell: Cell, oracle: np.ndarray, original: np.ndarray) -> None:
    """KlomError or a warning where published ensembles are not what they should be."""
    problems, notes = judged(sanity(original, oracle, cell.forget_set), len(oracle), len(original))
    if problems:
        raise KlomError(
            f"the published oracles of {cell.forget_set.name} cannot be used: {'; '.join(problems)}"
        )
    for note in notes:
        warnings.warn(f"published oracles of {cell.forget_set.name}: {note}", stacklevel=2)


def _touchable(cell: Cell, store: Store) -> Any:
    """What a method could reach but must leave alone, by marks that any change would alter."""
    data = cell.task.data_on(cell.device)
    tensors = (data.x_train, data.y_train, data.x_val, data.y_val)
    return store.checkpoint_stats(cell.original_id, cell.members), [t._version for t in tensors]


def _touched(cell: Cell, store: Store, before: Any) -> str | None:
    """What a method did to things that are not its own; data that were changed are read anew."""
    checkpoints, data = _touchable(cell, store)
    if data != before[1]:
        cell.task.forget_data()
        return (
            f"{cell.method.name} changed the data of {cell.task.name} in place, which all tests "
            "share: change a copy of the batch instead (the data were read anew for the next test)"
        )
    if checkpoints != before[0]:
        folder = store.held(cell.original_id).folder
        return (
            f"{cell.method.name} wrote to the stored originals in {folder}: "
            "a method must only change the model it is given. "
            f"{how_to_remove(cell.original_id, folder)}, so that they are trained again"
        )
    return None


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
    if wraps:
        same = np.isclose(unlearned, originals, rtol=0, atol=1e-6).all(1)
        unchanged = np.flatnonzero(same).tolist()
    else:
        unchanged = [member for run in runs for member in run.unchanged()]
    if not unchanged or (cell.method.spares_members and len(unchanged) < cell.members):
        return
    some = f" in {len(unchanged)} members (the first is {unchanged[0]})"
    raise KlomError(
        f"{cell.method.name} changed nothing{some if len(unchanged) < cell.members else ''} on "
        f"{cell.forget_set.name} with {dict(cell.settings)}: they are the originals still. If that "
        "is meant (a control), set `method.changes_nothing = True` on the function"
    )
