"""What a task is."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from klom_bench.ensemble.ensemble import Ensemble, State, initial_state, new_model
from klom_bench.ensemble.inputs import call, each
from klom_bench.ensemble.outputs import OfPoints, Outputs, classification
from klom_bench.ensemble.stacked import Way
from klom_bench.ensemble.training import Recipe
from klom_bench.ensemble.ways import way_for
from klom_bench.errors import KlomError
from klom_bench.forget_set import ForgetSet, checked_forget_set
from klom_bench.tasks.checks import tried
from klom_bench.tasks.data import Data as Data
from klom_bench.tasks.data_checks import checked_data
from klom_bench.tasks.published import Published
from klom_bench.tasks.signature import POINTS, Signature, signature_of
from klom_bench.tasks.start import started
from klom_bench.tasks.training import Training, not_trained, training_of
from klom_bench.tasks.travelling import Travels

TRIED = 16
"""Points on which it is tried whether members can be computed side by side."""
NAME = r"[A-Za-z_][\w.]*"
"""What tasks, folders and forget sets may be called."""


@dataclass(frozen=True, eq=False, init=False)
class Task(Travels):
    """A dataset, an architecture and a training that belong together. All is given by keyword.

    Args:
        name: as in options and seeds.
        architecture: builds one model with random weights.
        load: reads the data.
        forget_sets: name -> a function that gives the indices of the set, or these: numbers, or a
            mask over the train points.
        train: how models are trained: a `Recipe`, or a function (model, points, *, ...) that yields
            after every epoch, or such a function of one model by `@per_model`. Its keyword
            arguments are hyperparameters of the task; `functools.partial` gives others. None:
            they come from elsewhere, by `klom import`, and nothing is ever trained.
        recipe: the same; the older name.
        outputs: what outputs mean: `classification`, `binary`, `multi_label`, `regression`, or an
            `Outputs` of your own.
        loss, margin, right: functions of one model's (outputs [B, ...], y [B, ...]) -> [B] in the
            place of those of `outputs`. With a loss and a margin of one's own and no `outputs`,
            outputs need not be classes.
        start: a file with a state dict from which every model starts, oracles and retrains, too.
        fresh: names of what is drawn anew for each model all the same, as "head.*".
        stack: False: members are computed one after the other, whatever could be done.
        folder: the name in the store; usually the task's in capital letters.
        hyperparameters: method -> its defaults on this task, where they differ from the published.
        tunings: method -> how these were found, as records have it.
        pack: members computed together.
        version: raise it when something changes that is seen nowhere else.
        published: what is known of ensembles that can be downloaded; not trained unless asked.
        download: fetches the data.

    Raises:
        ValueError: a name is none.
        KlomError: `train` cannot be called as a training, or does not fit the outputs.

    Example:
        >>> import torch
        >>> from klom_bench import Data, Recipe, Task, mlp
        >>> def load():
        ...     x, y = torch.randn(300, 20), torch.arange(300) % 3
        ...     return Data(x[:200], y[:200], x[200:], y[200:])
        >>> blobs = Task(
        ...     name="blobs",
        ...     architecture=lambda: mlp(20, 16, 3),
        ...     load=load,
        ...     forget_sets={"first_ten": lambda: range(10)},
        ...     train=Recipe(epochs=5, batch_size=32, lr=0.1),
        ... )
        >>> len(blobs.forget_set("first_ten").retain)
        190
    """

    name: str
    architecture: Callable[[], nn.Module]
    load: Callable[[], Data]
    forget_sets: Mapping[str, Any]
    train: Recipe | Callable[..., Any] | None
    outputs: Outputs
    start: str | Path | None
    fresh: str | tuple[str, ...]
    stack: bool
    folder: str
    hyperparameters: Mapping[str, Mapping[str, Any]]
    tunings: Mapping[str, Mapping[str, Any]]
    pack: int
    version: int
    published: Published | None
    download: Callable[[], None] | None

    def __init__(
        self,
        *,
        name: str,
        architecture: Callable[[], nn.Module],
        load: Callable[[], Data],
        forget_sets: Mapping[str, Any],
        train: Recipe | Callable[..., Any] | None = None,
        recipe: Recipe | None = None,
        outputs: Outputs | None = None,
        loss: OfPoints | None = None,
        margin: OfPoints | None = None,
        right: OfPoints | None = None,
        start: str | Path | None = None,
        fresh: str | tuple[str, ...] = (),
        stack: bool = True,
        folder: str = "",
        hyperparameters: Mapping[str, Mapping[str, Any]] | None = None,
        tunings: Mapping[str, Mapping[str, Any]] | None = None,
        pack: int = 25,
        version: int = 1,
        published: Published | None = None,
        download: Callable[[], None] | None = None,
    ) -> None:
        if recipe is not None and not isinstance(train, Recipe | None):
            raise KlomError(f"task {name} has a `train` and a `recipe`: give it one of them")
        own: dict[str, Any] = {"loss": loss, "margin": margin, "right": right}
        own = {word: function for word, function in own.items() if function}
        if isinstance(architecture, nn.Module) or isinstance(load, Data):
            raise KlomError(
                f"task {name}: give architecture and load as functions, not what they return "
                "(architecture=net, not net())"
            )
        if fresh and start is None:
            raise KlomError(f"task {name} has fresh={fresh!r}, and no start that this is told of")
        if start is not None:
            architecture = started(name, architecture, start, fresh)
        vars(self).update(
            name=name,
            architecture=architecture,
            load=load,
            forget_sets=forget_sets,
            train=recipe if recipe is not None else train,
            outputs=_outputs(outputs, own),
            start=start,
            fresh=fresh,
            stack=stack,
            folder=folder or str(name).upper(),
            hyperparameters=hyperparameters or {},
            tunings=tunings or {},
            pack=pack,
            version=version,
            published=published,
            download=download,
        )
        for kind, word in [("name", name), ("folder", self.folder)] + [
            ("forget set", word) for word in forget_sets
        ]:
            if not re.fullmatch(NAME, str(word)):
                raise ValueError(
                    f"task {name!r} has the {kind} {word!r}: names are letters, digits, dots "
                    "and underscores, and begin with a letter"
                )
        vars(self)["training"] = training_of(name, self.train)
        if isinstance(self.train, Recipe) and not self.outputs.classes:
            for word in ("label_smoothing", "class_weights"):
                if getattr(self.train, word):
                    raise KlomError(f"task {name}: {word} is for classes, and there are none")

    @property
    def recipe(self) -> Recipe:
        """The recipe; KlomError where a function trains: `task.training(model, points)` does."""
        if isinstance(self.train, Recipe):
            return self.train
        if not self.trains:
            raise KlomError(f"{not_trained(self.name)}: there is no recipe")
        raise KlomError(
            f"task {self.name} is trained by {self.training.name}, not by a recipe: "
            "`yield from task.training(model, retain)` trains as it does"
        )

    training: Training = field(init=False)
    """How models are trained, whatever was given."""

    @property
    def trains(self) -> bool:
        """Whether models can be trained here; else they come from elsewhere."""
        return not self.training.is_elsewhere

    @cached_property
    def train_points(self) -> int:
        """How many train points there are; known without the data where those are published."""
        return self.published.train_points if self.published else len(self.data.y_train)

    @property
    def architecture_name(self) -> str:
        """As EasyDUB's folders have it."""
        return str(getattr(self.architecture, "__name__", self.name))

    @cached_property
    def classes(self) -> int:
        """How many; of published tasks, whose data may be away, by a model's last parameter."""
        return list(self.shapes.values())[-1][0] if self.published else self.data.classes

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """What a model gives for a point."""
        x, _ = self.data.first(2)
        model = new_model(self.architecture).eval()
        with torch.no_grad():
            return tuple(call(model, each(lambda t: t.cpu(), x)).shape[1:])

    @cached_property
    def has_conv(self) -> bool:
        """Whether models have conv layers."""
        return any(isinstance(m, nn.Conv2d) for m in new_model(self.architecture).modules())

    @cached_property
    def has_real_inputs(self) -> bool:
        """Whether models see one tensor of real numbers a point."""
        x, _ = self.data.first(1)
        return isinstance(x, Tensor) and x.is_floating_point()

    @cached_property
    def way(self) -> tuple[Way, str]:
        """How members are computed, and why not side by side: "" where they are."""
        draws = any(self.signature.draws)
        if draws or not self.stack:
            why = "its forward pass draws from torch's global generator"
            return Way(stacked=False, draws=draws), why if draws else "stack=False"
        x, y = self.data.first(TRIED)
        return tried(self.name, "train", lambda: way_for(self.architecture, self.outputs, x, y))

    def ensemble(
        self,
        states: Sequence[State],
        members: Sequence[int] | None = None,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Ensemble:
        """Models with these state dicts, as an ensemble of this task."""
        way = replace(self.way[0], mixed=self.training.is_mixed)
        return Ensemble(self.architecture, states, members, generators, self.outputs, way)

    def is_class(self, forget_set: ForgetSet) -> bool:
        """Whether a forget set is all train points of one class."""
        if not self.outputs.classes:
            return False
        y = self.data.y_train.numpy()
        inside = np.zeros(len(y), dtype=bool)
        inside[forget_set.indices] = True
        return bool(np.array_equal(y == y[forget_set.indices[0]], inside))

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        """Shape of every entry of a model's state dict."""
        return {name: list(value.shape) for name, value in self.entries.items()}

    @cached_property
    def entries(self) -> dict[str, Tensor]:
        """Shape and dtype of every entry of a model's state dict, without values."""
        return {k: v.to("meta") for k, v in initial_state(self.architecture, 0).items()}

    @cached_property
    def data(self) -> Data:
        """The data, loaded and looked at once a process."""
        known = self.published.train_points if self.published else None
        return checked_data(self.name, known, self.load, self.outputs)

    @cached_property
    def data_hashes(self) -> dict[str, str]:
        """SHA-256 of each tensor of the data, computed once a process."""
        return self.data.hashes()

    @cached_property
    def signature(self) -> Signature:
        """What a fresh model does on the first train points."""
        first, _ = self.data.first(POINTS)
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
        of_data = ("train_points", "has_real_inputs", "output_shape")
        for name in ("data", "data_hashes", "signature", "way", *of_data):
            vars(self).pop(name, None)

    def forget_set(self, name: str) -> ForgetSet:
        """The forget set of this name; ValueError that says what is wrong with its indices."""
        given = self.forget_sets[name]
        return checked_forget_set(name, given() if callable(given) else given, self.train_points)

    def size(self, name: str) -> int:
        """Points of a forget set, known for published ones that are not here, too."""
        known = self.published.forget_sets if self.published else {}
        return known[name][0] if name in known else len(self.forget_set(name))


def _outputs(given: Outputs | None, own: Mapping[str, Any]) -> Outputs:
    """What is given, and functions of one's own in the place of its own."""
    if given is None and {"loss", "margin"} <= {*own}:
        return Outputs(**own)
    usual = classification if given is None else given
    return replace(usual, **own) if own else usual
