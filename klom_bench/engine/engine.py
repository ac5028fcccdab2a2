"""What computes packs."""

from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, TypeVar

import torch

S = TypeVar("S")
T = TypeVar("T")


def nothing(_: Any) -> None:
    """What is read for items that need nothing else."""


class Engine(Protocol):
    """Computes packs side by side: in threads of this process, or on a cluster.

    Whatever it is, only this process reads and writes the store.
    """

    def __hash__(self) -> int: ...

    @property
    def here(self) -> bool:
        """Whether packs are computed in this process, whose memory and files they see."""

    def device(self, own: torch.device) -> torch.device:
        """Where packs are computed, if this process has chosen `own` for itself."""

    def slots(self, device: torch.device) -> int:
        """How many packs are computed at a time."""

    def map(
        self,
        function: Callable[[S, Any], T],
        items: Iterable[S],
        device: torch.device,
        read: Callable[[S], Any] = nothing,
    ) -> Generator[tuple[S, T], None, None]:
        """(item, function(item, read(item))) for every item, as they finish.

        Items are taken one by one, and read when they are about to be computed, so that few are
        in memory. The first error ends all. Close it (`contextlib.closing`) to stop what
        is under way.
        """

    def close(self) -> None:
        """End what was started for it."""
