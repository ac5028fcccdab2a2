"""Whether the model of a task is what can be trained, before anything is."""

from collections.abc import Callable
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state, new_model
from klom_bench.ensemble.inputs import Inputs, call, count, each
from klom_bench.ensemble.randomness import alone_with_randomness
from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError, warn

if TYPE_CHECKING:
    from klom_bench.tasks.task import Task

T = TypeVar("T")


def checked_model(task: "Task", device: torch.device) -> None:
    """Try one member on some points, in train mode with its gradient, and in eval mode.

    KlomError for what would fail after hours of training, or not at all and mean nothing.
    """
    data = task.data_on(device)
    x, y = data.first(task.training.batch_size)

    if not any(p.requires_grad for p in new_model(task.architecture).parameters()):
        raise KlomError(f"the model of task {task.name} has no parameter that is trained")

    def one_model(mode: bool) -> None:
        model = new_model(task.architecture).to(device).train(mode)
        with alone_with_randomness(0), torch.no_grad():
            _check_outputs(task, call(model, x), y)

    def training() -> None:
        model = task.ensemble([initial_state(task.architecture, 0)]).to(device)
        z = model.train()(each(lambda t: t.unsqueeze(0), x))
        task.outputs.mean_loss(z.float(), y.unsqueeze(0)).backward()
        _check_each_point_alone(task, z.detach().float(), y.unsqueeze(0))
        _check_buffers(task, model, x)

    def evaluation() -> None:
        model = task.ensemble([initial_state(task.architecture, 0)]).to(device)
        with evaluating(model):
            for points in (data.x_train, data.x_val):
                rows = torch.arange(min(len(y), count(points)))
                some = data.seen(points, rows)
                z = model(each(lambda t: t.unsqueeze(0), some))
            task.outputs.rights(z, data.y_val[rows])
            found = task.outputs.margins(z, data.y_val[rows])
        if not bool(found.isfinite().all()):
            raise KlomError(f"the margins of task {task.name} are not finite at the start")

    _check_recipe(task, x)
    tried(task.name, "train", lambda: one_model(True))
    tried(task.name, "eval", lambda: one_model(False))
    tried(task.name, "train", training)
    tried(task.name, "eval", evaluation)


def _check_recipe(task: "Task", x: Inputs) -> None:
    """What a recipe asks of the data."""
    recipe = task.training.function
    if not isinstance(recipe, Recipe):
        return
    images = isinstance(x, Tensor) and x.ndim == 4
    if (recipe.flip or recipe.translate or recipe.cutout) and not images:
        raise KlomError(
            f"the recipe of task {task.name} moves images [B, C, H, W] (flip, translate, cutout), "
            "and its inputs are none"
        )
    classes = task.data.classes if task.outputs.classes else 0
    if recipe.class_weights and len(recipe.class_weights) < classes:
        raise KlomError(
            f"the recipe of task {task.name} has {len(recipe.class_weights)} class_weights, and "
            f"there are {classes} classes"
        )


def _check_each_point_alone(task: "Task", z: Tensor, y: Tensor) -> None:
    """What a point's loss and margin are may not depend on those beside it."""
    some = max(1, z.shape[1] // 2)
    pairs = {
        "loss": (task.outputs.losses(z, y), task.outputs.losses(z[:, :some], y[:, :some])),
        "margin": (task.outputs.margins(z, y[0]), task.outputs.margins(z[:, :some], y[0, :some])),
    }
    for name, (whole, fewer) in pairs.items():
        if not torch.allclose(whole[:, :some], fewer, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise KlomError(
                f"`{name}` of task {task.name} gives another number for a point where other points "
                "are beside it; members would mix"
            )


def _check_buffers(task: "Task", model: Ensemble, x: Inputs) -> None:
    """A buffer that a pass changes must change in an ensemble, too: in place."""
    one = new_model(task.architecture).to(model.device).train()
    before = {name: value.clone() for name, value in one.named_buffers()}
    with alone_with_randomness(0), torch.no_grad():
        call(one, x)
    stacked = dict(model.network.named_buffers())
    for name, value in one.named_buffers():
        changed = not torch.equal(value, before[name])
        if changed and name in stacked and torch.equal(stacked[name][0], before[name]):
            raise KlomError(
                f"the model of task {task.name} assigns its buffer {name} in a forward pass, which "
                "is lost where members are computed together: change it in place "
                f"(self.{name}.copy_(...))"
            )


def tried(task: str, mode: str, work: Callable[[], T]) -> T:
    """What a forward pass gives; KlomError that says where it failed."""
    what = f"the model of task {task} cannot be computed in {mode} mode, so nothing was trained"
    return in_words(what, work)


def in_words(what: str, work: Callable[[], T]) -> T:
    """What functions of the user give; KlomError that says what failed, why and where."""
    try:
        return work()
    except KlomError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}{_place(error)}"
        raise KlomError(f"{what}: {reason}") from error


def _check_outputs(task: "Task", z: Any, y: Tensor) -> None:
    what = f"the model of task {task.name}"
    if not isinstance(z, Tensor):
        raise KlomError(
            f"{what} gives {kind(z)}; a tensor is expected, or an object that has one as `.logits`"
        )
    if z.ndim < 1 or len(z) != len(y):
        raise KlomError(
            f"{what} gives shape {tuple(z.shape)} for {len(y)} points; one output a point is "
            "expected"
        )
    if task.outputs.classes:
        _check_logits(task, what, z, y)
    if bool(z.isnan().any()):
        raise KlomError(f"{what} gives nan before it was trained; finite logits are expected")
    if not z.is_floating_point():
        raise KlomError(f"{what} gives {z.dtype}; floating-point logits are expected")


def _check_logits(task: "Task", what: str, z: Tensor, y: Tensor) -> None:
    most = int(task.data.y().max())
    if z.ndim != 2:
        raise KlomError(
            f"{what} gives shape {tuple(z.shape)} for {len(y)} points; logits "
            "[points, classes] are expected"
        )
    if z.shape[-1] < 2:
        raise KlomError(
            f"{what} gives one logit a point; one a class, two at least, are expected. "
            "Task(outputs=klom_bench.binary) is for one logit for two classes, "
            "klom_bench.regression for numbers"
        )
    least = int(task.data.y().min())
    if most >= z.shape[-1] and least:
        raise KlomError(
            f"{what} gives {z.shape[-1]} logits a point, and labels are {least} to {most}: classes "
            "count from 0 on (y - 1?)"
        )
    if most >= z.shape[-1]:
        raise KlomError(
            f"{what} gives {z.shape[-1]} logits a point, and labels go up to {most}; at least "
            f"{most + 1} logits are expected"
        )
    if bool((z >= 0).all()) and torch.allclose(z.sum(-1), torch.ones(len(z)).to(z)):
        warn(f"{what} gives probabilities, and scores are of logits: leave out the last softmax")


def kind(value: Any) -> str:
    """What a value is, in words."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _place(error: BaseException) -> str:
    """The last line outside of torch and this package: of the user's model."""
    package, others = Path(__file__).parents[1], Path(nn.__file__).parents[1]
    for frame in reversed(extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not path.is_relative_to(package) and not path.is_relative_to(others):
            return f" ({path}:{frame.lineno})"
    return ""
