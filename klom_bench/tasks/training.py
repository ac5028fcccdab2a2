"""How the models of a task are trained: by a recipe, by a function of the user, or not at all."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError, unknown
from klom_bench.tasks.code import code_sha256, value_text

BATCH = 64
"""Points on which a model is tried, where training says nothing of batches."""


@dataclass(frozen=True)
class Elsewhere:
    """In the place of what trains a task whose models come from elsewhere."""

    task: str

    def __call__(self, model: Ensemble, points: Points) -> Iterator[None]:
        """KlomError."""
        raise KlomError(f"{not_trained(self.task)}, and this was to train one")


IMPORTED = {"imported": True}
"""What stands in the place of a recipe, of models that came from elsewhere."""


def not_trained(task: str) -> str:
    """What is to be said of such a task, as a clause."""
    return f"models of task {task} are not trained here (train=None)"


@dataclass(frozen=True)
class Training:
    """A function (model, points, *, ...) that trains all members, and its keyword arguments."""

    name: str
    function: Callable[..., Any]
    hyperparameters: Mapping[str, Any]

    @property
    def epochs(self) -> int:
        """How many; 1 where it does not say. The number in names of files is one less."""
        value = self.hyperparameters.get("epochs")
        return value if type(value) is int and value > 0 else 1

    @property
    def batch_size(self) -> int:
        """Points in a batch."""
        value = self.hyperparameters.get("batch_size")
        return value if type(value) is int and value > 0 else BATCH

    @property
    def is_recipe(self) -> bool:
        """Whether it is a `Recipe`, whose examples are known: all points in each epoch."""
        return isinstance(self.function, Recipe)

    @property
    def is_mixed(self) -> bool:
        """Whether it computes in mixed precision, where there is a GPU."""
        return isinstance(self.function, Recipe) and self.function.mixed_precision

    @property
    def is_elsewhere(self) -> bool:
        """Whether nothing trains here."""
        return isinstance(self.function, Elsewhere)

    def __call__(self, model: Ensemble, points: Points) -> Iterator[None]:
        """Train all members in place; yields after every epoch. KlomError where it never does."""
        given = {} if self.is_recipe else self.hyperparameters
        steps, yielded = self.function(model, points, **given), False
        if not isinstance(steps, Iterator):
            raise KlomError(_yields_nothing(self.name))
        for _ in steps:
            yielded = True
            yield
        if not yielded:
            raise KlomError(_yields_nothing(self.name))

    def as_json(self) -> dict[str, Any]:
        """What decides what models become."""
        if self.is_elsewhere:
            return dict(IMPORTED)
        if isinstance(self.function, Recipe):
            return self.function.as_json()
        given = self.hyperparameters.items()
        plain = {n: v if isinstance(v, _PLAIN) else value_text(v) for n, v in given}
        code = code_sha256(self.function, trains=True)
        return {**plain, "function": self.name, "code_sha256": code}


_PLAIN = (bool, int, float, str, type(None))


def training_of(task: str, given: Any) -> Training:
    """The training that a task was given; KlomError where it cannot be called as one."""
    if given is None:
        return Training("nothing", Elsewhere(task), {})
    if isinstance(given, Recipe):
        return Training("recipe", given, asdict(given))
    shape = "def train(model, points, *, epochs=30, lr=3e-4)"
    if not callable(given):
        raise KlomError(
            f"task {task} is trained by {given!r}; a klom_bench.Recipe or a function of the form "
            f"{shape} is expected"
        )
    function: Any = given
    settings: dict[str, Any] = {}
    while isinstance(function, partial) and not function.args:
        settings = {**function.keywords, **settings}
        function = function.func
    if isinstance(function, Recipe):
        raise KlomError(f"task {task}: another recipe is dataclasses.replace(recipe, ...)")
    name = getattr(function, "__name__", type(function).__name__)
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    if len(positional) != 2 or len(positional) + len(keywords) != len(parameters):
        raise KlomError(
            f"{name}, which trains task {task}, has the parameters {inspect.signature(function)}; "
            "it needs two positional ones, hyperparameters by keyword only, and no *args or "
            f"**kwargs: {shape}; a function for one model is decorated with @klom_bench.per_model"
        )
    who = f"{name}, which trains task {task}"
    for word in settings:
        if word not in keywords:
            raise KlomError(f"{who}: {unknown('hyperparameter', word, keywords)}")
    for word, value in {**keywords, **settings}.items():
        if value is inspect.Parameter.empty:
            raise KlomError(f"{who}, needs a value for {word}: a default, or functools.partial")
    values = {**keywords, **settings}
    epochs = values.get("epochs", 1)
    if type(epochs) is not int or epochs < 1:
        raise KlomError(
            f"{name}, which trains task {task}, has epochs={epochs!r}: a whole number from 1 on is "
            "expected"
        )
    return Training(name, function, values)


def _yields_nothing(name: str) -> str:
    return (
        f"{name} never yielded: a function that trains an ensemble is a generator function that "
        "yields after every epoch; one that trains a single model is decorated with "
        "@klom_bench.per_model"
    )
