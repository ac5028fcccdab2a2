"""Where things lie in a store: the published layout, so that our ensembles can be published."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from klom_bench.ensemble.seeds import member_seed
from klom_bench.forget_set import ForgetSet
from klom_bench.tasks.task import Task

Role = Literal["original", "oracle", "subset"]
"""`subset`: models on random halves; seeds and manifests hash this word."""
PARTS: tuple[Literal["train", "val"], ...] = ("train", "val")


def packs(members: Iterable[int], size: int) -> list[list[int]]:
    """Member numbers grouped by fixed ranges: 0..size-1, size..2 size-1, and so on."""
    found: dict[int, list[int]] = {}
    for i in sorted(members):
        found.setdefault(i // size, []).append(i)
    return list(found.values())


@dataclass(frozen=True)
class EnsembleId:
    """Which ensemble: its members are numbered, and how many there are is not part of it.

    A model on a random half has seen a half of the train points, of its own: datamodels are
    estimated from many.
    """

    task: Task
    role: Role
    seed: int
    forget_set: ForgetSet | None = None

    @property
    def folder(self) -> Path:
        """Relative to the store."""
        root = Path(f"seed_{self.seed}") if self.seed else Path()
        if self.is_half:
            return root / "random_halves" / self.task.folder
        if self.forget_set is None:
            return root / "full_models" / self.task.folder
        return root / "oracles" / self.task.folder / self.forget_set.name

    @property
    def is_half(self) -> bool:
        """Whether its members have seen random halves."""
        return self.role == "subset"

    @property
    def label(self) -> str:
        """In words, for messages and progress."""
        if self.is_half:
            return f"models on random halves of {self.task.name}"
        if self.forget_set is None:
            return f"originals of {self.task.name}"
        return f"oracles of {self.forget_set.name}"

    def kept(self, member: int) -> np.ndarray:
        """The train points that a member sees, sorted."""
        n = self.task.train_points
        if self.is_half:
            # RandomState, since its stream is frozen: masks are not stored.
            shuffle = np.random.RandomState(self.member_seed(member, "half") % 2**32)
            return np.sort(shuffle.permutation(n)[: n // 2])
        return np.arange(n) if self.forget_set is None else self.forget_set.retain

    def masks(self, count: int) -> np.ndarray:
        """Which train points members 0..count-1 see: bool [count, train points]."""
        masks = np.zeros((count, self.task.train_points), dtype=bool)
        for i, mask in enumerate(masks):
            mask[self.kept(i)] = True
        return masks

    def member_seed(self, member: int, purpose: str) -> int:
        """The seed of one member's initialisation or data order."""
        name = "" if self.forget_set is None else self.forget_set.name
        return member_seed(self.task.name, self.role, name, self.seed, member, purpose)

    def checkpoint_file(self, member: int) -> str:
        """Name of a member's state dict; epochs count from 0."""
        return f"sd_{member}____epoch_{self.task.training.epochs - 1}.pt"

    def margins_file(self, member: int, part: Literal["train", "val"]) -> str:
        """Name of a member's margins on the train or val points."""
        return f"{member}__{part}_margins_{self.task.training.epochs - 1}.npy"
