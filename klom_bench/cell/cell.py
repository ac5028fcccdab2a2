"""What is asked: one task, method and forget set."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from klom_bench.cell.counts import FEWEST
from klom_bench.cell.record_json import Asked, asked
from klom_bench.errors import KlomError
from klom_bench.forget_set import ForgetSet
from klom_bench.methods.method import Method
from klom_bench.methods.needs import SUBSETS
from klom_bench.metrics.estimators import Estimator
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.task import Task
from klom_bench.tasks.training import not_trained


def unfit_for(method: Method, task: Task) -> str | None:
    """Why a method applies to no forget set of a task; None where it may."""
    if method.traits.conv and not task.has_conv:
        return (
            f"{method.name} needs 2-d conv layers, and models of {task.name} have none "
            "(those of --klom-task=digits_cnn have)"
        )
    if not task.trains and (method.traits.retrains or "datamodels" in method.needs):
        what = "trains models anew" if method.traits.retrains else "needs models on random halves"
        return f"{method.name} {what}, and {not_trained(task.name)}"
    if (method.traits.classes or method.traits.class_wise) and not task.outputs.classes:
        return f"{method.name} needs classes, and {task.name} has none"
    if method.traits.moves_inputs and not task.has_real_inputs:
        return (
            f"{method.name} moves inputs by small steps, and those of {task.name} are not one "
            "tensor of real numbers"
        )
    return None


@dataclass(frozen=True)
class Cell:
    """Everything that decides a record: members are unlearned models, oracles may be more.

    variant: what is swept of the hyperparameters, in words. epochs: those after which to score;
    only the last if there are none. tuning: how the hyperparameters were found. looks: numbers of
    models after which its gates are looked at, the last being `members`; only then if there are
    none.
    """

    task: Task
    method: Method
    hyperparameters: Mapping[str, Any]
    forget_set: ForgetSet
    members: int
    oracles: int
    seed: int
    estimator: Estimator
    device: torch.device
    variant: str = ""
    epochs: tuple[int, ...] = ()
    tuning: Mapping[str, Any] | None = None
    looks: tuple[int, ...] = ()

    @property
    def rounds(self) -> "list[Cell]":
        """The same with as many models as are there at each look, the last being all of it.

        Oracles are in proportion, but as many as excess needs. A method that is given oracles is
        looked at once: with fewer of them it would make other models.
        """
        looks = () if "oracles" in self.method.needs else self.looks[:-1]
        least = min(FEWEST, self.oracles)
        fewer = [
            replace(self, members=n, oracles=max(least, -(-self.oracles * n // self.members)))
            for n in looks
        ]
        return [*fewer, self]

    @property
    def asked(self) -> Asked:
        """What is known of its record before anything is measured."""
        return asked(
            self.task.name,
            self.forget_set,
            self.method.name,
            self.variant,
            self.members,
            self.oracles,
            self.estimator,
            self.seed,
        )

    @property
    def original_id(self) -> EnsembleId:
        """The ensemble that is unlearned."""
        return EnsembleId(self.task, "original", self.seed)

    @property
    def oracle_id(self) -> EnsembleId:
        """The ensemble that it should become."""
        return EnsembleId(self.task, "oracle", self.seed, self.forget_set)

    @property
    def half_id(self) -> EnsembleId:
        """The ensemble that datamodels are estimated from."""
        return EnsembleId(self.task, "subset", self.seed)

    @property
    def halves(self) -> int:
        """From how many models datamodels are estimated: `subsets`, where the method has that."""
        count = self.hyperparameters.get("subsets", SUBSETS)
        if type(count) is not int or count < 2:
            raise KlomError(f"{self.method.name}: subsets must be at least 2, got {count!r}")
        return count

    @property
    def unfit(self) -> str | None:
        """Why the method does not apply here; None where it does."""
        why = unfit_for(self.method, self.task)
        if not why and self.method.traits.class_wise and not self.task.is_class(self.forget_set):
            return (
                f"{self.method.name} unlearns whole classes only, and the forget set is none "
                "(class_9 of digits is one)"
            )
        return why

    @property
    def splits(self) -> dict[str, np.ndarray]:
        """Which points belong to which split; train points come first."""
        return self.forget_set.splits(self.task.train_points + len(self.task.data.y_val))
