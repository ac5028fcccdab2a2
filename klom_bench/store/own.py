"""Ensembles of ours, trained here or imported: every file with a checksum that its member names."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from klom_bench.engine import HERE, Engine
from klom_bench.files import atomic
from klom_bench.files.scratch import stacked
from klom_bench.progress import Announce, silent
from klom_bench.store.manifest import Manifest
from klom_bench.store.members import file_of
from klom_bench.tasks.ensemble_id import PARTS, EnsembleId


@dataclass(frozen=True)
class OwnEnsemble:
    """An ensemble with a manifest; it may have no members yet."""

    folder: Path
    ensemble: EnsembleId
    manifest: Manifest = field(compare=False)
    published: bool = field(default=False, init=False)

    @property
    def trained_here(self) -> bool:
        """Whether they were trained here, so that the manifest says what they are."""
        return not self.manifest.imported

    @property
    def members(self) -> list[int]:
        """Numbers of the members that are whole."""
        return sorted(self.manifest.members)

    def lacks(self, count: int) -> int:
        """How many of members 0..count-1 are missing."""
        return len(self.manifest.lacking(range(count)))

    def states_of(self, members: Iterable[int]) -> list[dict[str, Any]]:
        """The state dicts of members with these numbers."""
        return [atomic.state_from(c) for c in self._read(members, self.ensemble.checkpoint_file)]

    def margins(
        self,
        count: int,
        device: torch.device | None = None,
        announce: Announce = silent,
        engine: Engine = HERE,
    ) -> np.ndarray:
        """float32 [members, points], train points first; all are there, nothing is computed."""
        return self.margins_of(range(count))

    def margins_of(self, members: Sequence[int]) -> np.ndarray:
        """The same of members with these numbers."""

        def part(name: Literal["train", "val"]) -> Iterator[np.ndarray]:
            contents = self._read(members, lambda i: self.ensemble.margins_file(i, name))
            return map(atomic.array_from, contents)

        rows = map(np.concatenate, zip(*map(part, PARTS), strict=True))
        return stacked(rows, len(members))

    def _read(self, members: Iterable[int], name: Callable[[int], str]) -> Iterator[bytes]:
        for i in members:
            file = file_of(self.manifest.members[i], name(i))
            yield atomic.read(self.folder / file, self.manifest.members[i].files[file])

    def checkpoint(self, member: int) -> Path:
        """The file of a member's state dict."""
        name = self.ensemble.checkpoint_file(member)
        return self.folder / file_of(self.manifest.members[member], name)

    def checkpoints(self, count: int) -> list[Path]:
        """Files of the state dicts of members 0..count-1."""
        return [self.checkpoint(i) for i in range(count)]

    def answers(self, count: int) -> None:
        """Right or wrong at every point: not kept."""

    @property
    def seconds(self) -> float:
        """Mean training time of a member; nan where there is none."""
        known = (member.seconds for member in self.manifest.members.values())
        times = [seconds for seconds in known if seconds is not None]
        return float(np.mean(times)) if times else float("nan")

    def accuracy(self, count: int) -> dict[str, float]:
        """Mean accuracy a split."""
        members = [self.manifest.members[i].accuracy for i in range(count)]
        return {
            split: float(np.mean([np.nan if m[split] is None else m[split] for m in members]))
            for split in members[0]
        }

    @property
    def examples(self) -> float | None:
        """Mean examples that training has shown a member; None: all points in each epoch."""
        if self.manifest.imported:
            return float("nan")
        known = [member.examples for member in self.manifest.members.values()]
        return float(np.mean([n for n in known if n])) if any(known) else None
