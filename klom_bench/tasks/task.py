"""What a task is."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from klom_bench.ensemble.ensemble import initial_state, new_model
from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError
from klom_bench.forget_set import ForgetSet, checked_forget_set
from klom_bench.tasks.checks import checked_data, tried
from klom_bench.tasks.data import Data as Data
from klom_bench.tasks.signature import POINTS, Signature, signature_of

NAME = r"[A-Za-z_][\w.]*"
"""What tasks, folders and forget sets may be called."""


@dataclass(frozen=True)
class Published:
    """What others have published of a task.

    indices: the folder of its forget sets in `forget_set_indices/`. forget_sets: name -> (points,
    SHA-256 of the sorted indices), so that a file of another dataset is found out.
    """

    indices: str
    forget_sets: Mapping[str, tuple[int, str]]


def not_in_store(task: str, name: str) -> np.ndarray:
    """In place of a published forget set that the store does not have."""
    number = name.removeprefix("forget_set_")
    raise KlomError(
        f"{name} of {task} is published, but not in the store: "
        f"klom download {task} --forget-set {number}"
    )


@dataclass(frozen=True, eq=False)
class Task:
    """A dataset, an architecture and a recipe that belong together.

    Args:
        name: as in options and seeds.
        folder: its name in the store.
        architecture: builds one model with random weights.
        recipe: how models are trained.
        load: reads the data.
        train_points: how many train points there are, known without loading them.
        forget_sets: name -> a function that gives the indices of the set.
        hyperparameters: method -> its defaults on this task, where they differ from the published.
        tunings: method -> how these were found, as records have it.
        pack: members computed together.
        version: raise it when architecture or data change.
        published: what is known of ensembles that can be downloaded; not trained unless asked.
        download: fetches the data.

    Raises:
        ValueError: a name is none.

    Example:
        >>> import torch
        >>> from klom_bench import Data, Recipe, Task, mlp
        >>> def load():
        ...     x, y = torch.randn(300, 20), torch.arange(300) % 3
        ...     return Data(x[:200], y[:200], x[200:], y[200:])
        >>> sets = {"first_ten": lambda: range(10)}
        >>> recipe = Recipe(epochs=5, batch_size=32, lr=0.1)
        >>> blobs = Task("blobs", "BLOBS", lambda: mlp(20, 16, 3), recipe, load, 200, sets)
        >>> len(blobs.forget_set("first_ten").retain)
        190
    """

    name: str
    folder: str
    architecture: Callable[[], nn.Module]
    recipe: Recipe
    load: Callable[[], Data]
    train_points: int
    forget_sets: Mapping[str, Callable[[], Any]]
    hyperparameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tunings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pack: int = 25
    version: int = 1
    published: Published | None = None
    download: Callable[[], None] | None = None

    @property
    def architecture_name(self) -> str:
        """As EasyDUB's folders have it."""
        return str(getattr(self.architecture, "__name__", self.name))

    @cached_property
    def classes(self) -> int:
        """Logits of a model, by its last parameter."""
        return list(self.shapes.values())[-1][0]

    @cached_property
    def has_conv(self) -> bool:
        """Whether models have conv layers."""
        return any(isinstance(m, nn.Conv2d) for m in new_model(self.architecture).modules())

    def is_class(self, forget_set: ForgetSet) -> bool:
        """Whether a forget set is all train points of one class."""
        y = self.data.y_train.numpy()
        inside = np.zeros(len(y), dtype=bool)
        inside[forget_set.indices] = True
        return bool(np.array_equal(y == y[forget_set.indices[0]], inside))

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        """Shape of every entry of a model's state dict."""
        return {k: list(v.shape) for k, v in initial_state(self.architecture, 0).items()}

    @cached_property
    def data(self) -> Data:
        """The data, loaded and looked at once a process."""
        return checked_data(self.name, self.train_points, self.load)

    @cached_property
    def data_hashes(self) -> dict[str, str]:
        """SHA-256 of each tensor of the data, computed once a process."""
        return self.data.hashes()

    @cached_property
    def signature(self) -> Signature:
        """What a fresh model does on the first train points."""
        first = self.data.prepare(self.data.x_train[:POINTS])
        return tried(self.name, "train or eval", lambda: signature_of(self.architecture, first))

    @cached_property
    def _placed(self) -> dict[torch.device, Data]:
        return {}

    def data_on(self, device: torch.device) -> Data:
        """The data on a device, copied there once a process."""
        if device not in self._placed:
            self._placed[device] = self.data.to(device)
        return self._placed[device]

    def forget_data(self) -> None:
        """Read the data anew when they are next asked for."""
        self._placed.clear()
        for name in ("data", "data_hashes", "signature"):
            vars(self).pop(name, None)

    def __post_init__(self) -> None:
        for kind, name in [("name", self.name), ("folder", self.folder)] + [
            ("forget set", name) for name in self.forget_sets
        ]:
            if not re.fullmatch(NAME, str(name)):
                raise ValueError(
                    f"task {self.name!r} has the {kind} {name!r}: names are letters, digits, dots "
                    "and underscores, and begin with a letter"
                )

    def forget_set(self, name: str) -> ForgetSet:
        """The forget set of this name; ValueError that says what is wrong with its indices."""
        return checked_forget_set(name, self.forget_sets[name](), self.train_points)

    def size(self, name: str) -> int:
        """Points of a forget set, known for published ones that are not here, too."""
        known = self.published.forget_sets if self.published else {}
        return known[name][0] if name in known else len(self.forget_set(name))
