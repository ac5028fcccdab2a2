"""Members that do not start from random weights but from those of a file."""

import fnmatch
import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from klom_bench.errors import KlomError
from klom_bench.tasks.data import sha256_of_tensor


@dataclass(frozen=True, eq=False)
class Started:
    """An architecture whose models start from the weights of a file.

    file: a state dict, as `torch.save(model.state_dict(), file)` writes it.
    fresh: patterns of names that are drawn anew for each member, as that of a head of other
    classes.
    """

    task: str
    architecture: Callable[[], nn.Module]
    file: Path
    fresh: tuple[str, ...]

    @property
    def __name__(self) -> str:
        return str(getattr(self.architecture, "__name__", self.task))

    def _content(self) -> bytes:
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise KlomError(
                f"the start of task {self.task} cannot be read: {self.file} ({error.strerror})"
            ) from error

    @cached_property
    def sha256(self) -> str:
        """Hash of the names and values that are taken, however the file was written."""
        parts = (f"{name} {sha256_of_tensor(value)}" for name, value in sorted(self.state.items()))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """What it holds, but for what is drawn anew."""
        found = self._read()
        known = self.architecture().state_dict()
        drawn = {name for name in known if self._is_fresh(name)}
        for pattern in self.fresh:
            if not fnmatch.filter(known, pattern):
                raise KlomError(
                    f"task {self.task}: fresh={pattern!r} fits no parameter; there are "
                    f"{', '.join(list(known)[-4:])} and {max(0, len(known) - 4)} more"
                )
        wrong = [
            f"{name} is {_shape(found, name)} there, {_shape(known, name)} in the model"
            for name in dict.fromkeys((*known, *found))
            if name not in drawn
            and not self._is_fresh(name)
            and _shape(found, name) != _shape(known, name)
        ]
        if wrong:
            raise KlomError(
                f"the start of task {self.task}, {self.file}, is of another architecture: "
                f"{'; '.join(wrong[:3])}{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}. "
                f"It holds {', '.join(list(found)[:3])}, ...: is there a prefix to be taken off? "
                "What is to be drawn anew, as a head of other classes, is named by fresh=..."
            )
        return {name: found[name] for name in known if name not in drawn}

    def __call__(self) -> nn.Module:
        """A model that starts there; what is fresh is drawn from the global random state."""
        model = self.architecture()
        model.load_state_dict(self.state, strict=False)
        return model

    def _is_fresh(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.fresh)

    def _read(self) -> dict[str, Any]:
        try:
            content = io.BytesIO(self._content())
            found: Any = torch.load(content, map_location="cpu", weights_only=True)
        except KlomError:
            raise
        except Exception as error:  # zip, pickle and torch have errors of their own
            raise KlomError(
                f"the start of task {self.task}, {self.file}, is no state dict that can be read "
                f"without running code ({type(error).__name__}): torch.save(model.state_dict(), "
                "file) makes one"
            ) from error
        values: list[object] = list(found.values()) if isinstance(found, Mapping) else [None]
        if not all(isinstance(v, Tensor) for v in values):
            keys = f" but {', '.join(map(str, found))}" if isinstance(found, Mapping) else ""
            raise KlomError(
                f"the start of task {self.task}, {self.file}, holds no state dict{keys}: "
                "torch.save(model.state_dict(), file) makes one"
            )
        return dict(found)


def _shape(state: dict[str, Tensor], name: str) -> str:
    if name not in state:
        return "not"
    whole = "" if state[name].is_floating_point() else "whole numbers "
    return f"{whole}{tuple(state[name].shape)}"


def started(task: str, architecture: Any, file: Any, fresh: Any) -> Started:
    """The architecture with this start; one that has a start already is given this one instead."""
    if not isinstance(file, str | Path):
        raise KlomError(
            f"task {task}: start is {type(file).__name__}; the path of a file is expected, as "
            "torch.save(model.state_dict(), file) writes it"
        )
    inner = architecture.architecture if isinstance(architecture, Started) else architecture
    patterns = (fresh,) if isinstance(fresh, str) else tuple(fresh)
    return Started(task, inner, Path(file).expanduser().absolute(), patterns)
