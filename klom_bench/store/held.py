"""What the store has of an ensemble, whether it was trained here or published."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from klom_bench.engine import HERE, Engine
from klom_bench.progress import Announce, silent
from klom_bench.tasks.ensemble_id import EnsembleId


class Held(Protocol):
    """An ensemble as far as it is there; members are counted from the first."""

    @property
    def ensemble(self) -> EnsembleId:
        """Which one it is."""

    @property
    def published(self) -> bool:
        """Whether others have trained it: then it is read, and never written."""

    @property
    def trained_here(self) -> bool:
        """Whether its members were trained here, and not imported or published."""

    @property
    def folder(self) -> Path:
        """Where it lies, or most of it."""

    @property
    def members(self) -> Sequence[int]:
        """Numbers of the members that are whole."""

    @property
    def seconds(self) -> float:
        """Mean training time of a member; nan where it is not known."""

    @property
    def examples(self) -> float | None:
        """Mean examples that training has shown a member, where that was counted; None: all points
        in each epoch; nan: nothing is known of its training."""

    def __hash__(self) -> int: ...

    def lacks(self, count: int) -> int:
        """How many members are missing to so many."""

    def states_of(self, members: Sequence[int]) -> list[dict[str, Any]]:
        """The state dicts of some members, counted from the first."""

    def margins(
        self,
        count: int,
        device: torch.device,
        announce: Announce = silent,
        engine: Engine = HERE,
    ) -> np.ndarray:
        """float32 [members, points], train points first; the engine computes what is not there."""

    def answers(self, count: int) -> np.ndarray | None:
        """Right or wrong, bool [members, points]; None where that is not kept."""

    def accuracy(self, count: int) -> dict[str, float]:
        """Mean accuracy a split; nan where it is not known."""

    def checkpoints(self, count: int) -> list[Path]:
        """Files of the first members' state dicts."""
