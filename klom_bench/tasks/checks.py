"""Whether the data and the model of a task are what can be trained, before anything is."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state, new_model
from klom_bench.ensemble.inputs import Inputs, at, call, count, each, is_dataset, named, tensors
from klom_bench.ensemble.outputs import Outputs, binary_loss, multi_label_loss
from klom_bench.ensemble.randomness import alone_with_randomness
from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError
from klom_bench.tasks.data import Data

if TYPE_CHECKING:
    from klom_bench.tasks.task import Task

T = TypeVar("T")
FLOATS = (torch.float32,)
INTEGERS = (torch.int64, torch.int32)
SEEN = 64
"""Points that are looked at as models see them."""


def checked_data(name: str, known: int | None, load: Callable[[], Any], outputs: Outputs) -> Data:
    """The data of a task; KlomError that says what was found and what is expected.

    known: the number of train points, where it is published. outputs: what y must fit.
    """
    classes, zero_or_one = outputs.classes, outputs.loss in (binary_loss, multi_label_loss)

    def refuse(what: str) -> NoReturn:
        raise KlomError(f"the data of task {name}: {what}")

    def called(what: str, work: Callable[[], Any]) -> Any:
        return _in_words(f"the data of task {name}: {what} failed", work)

    data = called("`load`", load)

    if not isinstance(data, Data):
        refuse(f"`load` gave {_kind(data)}; a klom_bench.Data is expected")
    for split in ("train", "val"):
        x, y = getattr(data, f"x_{split}"), getattr(data, f"y_{split}")
        _check_labels(refuse, f"y_{split}", y, classes)
        if zero_or_one and not bool(((y == 0) | (y == 1)).all()):
            refuse(f"y_{split} has labels other than 0 and 1, which these outputs expect")
        if is_dataset(x):
            _check_dataset(refuse, called, f"x_{split}", x, y)
            continue
        if not tensors(x):
            refuse(f"x_{split} is empty; at least one tensor is expected")
        for part, value in named(x, f"x_{split}").items():
            _check_inputs(refuse, part, value, y)
    if known not in (None, len(data.y_train)):
        refuse(f"there are {len(data.y_train)} train points; {known} are expected")
    first, second = (_kinds(x) for x in (data.x_train, data.x_val))
    if first != second:
        refuse(f"x_train is {first}, x_val {second}; the same of both is expected")
    if bool((data.y_train == data.y_train[:1]).all()):
        what = "one label; at least two classes are" if classes else "one y; at least two are"
        refuse(f"all train points have {what} expected")
    for split, x in (("train", data.x_train), ("val", data.x_val)):
        rows = torch.arange(min(SEEN, count(x)))
        some = called(f"reading x_{split}", partial(at, x, rows, data.y_train.device))
        seen = called("`prepare`", partial(data.prepare, some))
        for value in tensors(seen):
            _check_prepared(refuse, split, value, len(rows))
    return data


def _check_dataset(
    refuse: Callable[[str], NoReturn],
    called: Callable[[str, Callable[[], Any]], Any],
    name: str,
    x: Any,
    y: Tensor,
) -> None:
    if len(x) != len(y):
        refuse(f"{name} has {len(x)} points and y{name[1:]} {len(y)} labels")
    first = torch.zeros(1).long()
    once, again = (called(f"{name}[0]", partial(at, x, first, y.device)) for _ in range(2))
    if not all(map(torch.equal, tensors(once), tensors(again))):
        refuse(f"{name}[0] is another one each time; the same is expected (augment in training)")
    last = once[-1] if isinstance(once, tuple) and len(once) == 2 else None
    if isinstance(last, Tensor) and last.shape == y[:1].shape and bool((last == y[:1]).all()):
        refuse(f"{name}[i] gives the label, too; the input alone is expected")


def _check_labels(refuse: Callable[[str], NoReturn], name: str, y: Any, classes: bool) -> None:
    if not isinstance(y, Tensor):
        refuse(f"{name} is {_kind(y)}; a torch tensor is expected, as torch.from_numpy makes one")
    if y.is_meta:
        refuse(f"{name} is on the meta device; values are expected")
    if y.ndim < 1 or not len(y):
        refuse(f"{name} has shape {tuple(y.shape)}; at least one point is expected")
    if y.is_complex():
        refuse(f"{name} is {y.dtype}; real numbers are expected")
    if y.is_floating_point() and not bool(y.isfinite().all()):
        refuse(f"{name} holds nan or inf; finite is expected")
    if y.requires_grad:
        refuse(f"{name} requires gradients; plain data are expected: y.detach()")
    if not classes:
        return
    others = "Task(outputs=klom_bench.multi_label, regression or binary) is for others"
    if y.ndim != 1:
        refuse(
            f"{name} has shape {tuple(y.shape)}; one label a point, [{len(y)}], is expected. "
            f"{others}"
        )
    if y.dtype != torch.int64:
        refuse(
            f"{name} is {y.dtype}; classes as torch.int64 are expected: y.long() where they are "
            f"whole numbers. {others}"
        )
    if int(y.min()) < 0:
        refuse(f"{name} has the label {int(y.min())}; classes from 0 on are expected")


def _check_inputs(refuse: Callable[[str], NoReturn], name: str, x: Any, y: Tensor) -> None:
    if not isinstance(x, Tensor):
        refuse(
            f"{name} is {_kind(x)}; a torch tensor is expected, as torch.from_numpy makes one of a "
            "NumPy array, or a dict or tuple of tensors, or a dataset with a length"
        )
    if x.is_meta:
        refuse(f"{name} is on the meta device; values are expected")
    if torch.strided not in {x.layout, y.layout} or x.layout != y.layout:
        refuse(f"{name} is {x.layout}; a dense tensor is expected (x.to_dense())")
    if x.ndim < 1 or not len(x):
        refuse(f"{name} has shape {tuple(x.shape)}; at least one point is expected")
    if len(x) != len(y):
        refuse(f"{name} has {len(x)} points and {name.replace('x', 'y', 1)[:7]} {len(y)} labels")
    if x.is_complex():
        refuse(f"{name} is {x.dtype}; real numbers are expected")
    if x.is_floating_point() and not bool(x.isfinite().all()):
        bad = int((~x.isfinite()).flatten(1).any(1).nonzero()[0]) if x.ndim > 1 else 0
        refuse(f"{name} holds nan or inf (the first at point {bad}); finite is expected")
    if x.requires_grad:
        refuse(f"{name} requires gradients; plain data are expected: x.detach()")


def _kinds(x: Inputs) -> str:
    """What inputs are, in words: `torch.float32 of 2 dimensions`."""
    if is_dataset(x):
        return "a dataset"
    parts = named(x, "").items()
    return ", ".join(f"{n} {t.dtype} of {t.ndim} dimensions".strip() for n, t in parts)


def _check_prepared(refuse: Callable[[str], NoReturn], split: str, seen: Any, n: int) -> None:
    kinds = (*FLOATS, *INTEGERS, torch.bool)
    if not isinstance(seen, Tensor) or seen.dtype not in kinds:
        found = seen.dtype if isinstance(seen, Tensor) else _kind(seen)
        refuse(
            f"models would get {found}; torch.float32 (x.float()), or whole numbers as "
            "torch.int64 for an embedding, are expected"
        )
    if len(seen) != n:
        refuse(f"`prepare` makes {len(seen)} points of {n} of x_{split}")
    if seen.is_floating_point() and not bool(seen.isfinite().all()):
        refuse(f"`prepare` makes nan or inf of points of x_{split}; finite is expected")


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
                some = data.prepare(at(points, rows, device))
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
    return _in_words(what, work)


def _in_words(what: str, work: Callable[[], T]) -> T:
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
            f"{what} gives {_kind(z)}; a tensor is expected, or an object that has one as `.logits`"
        )
    if z.ndim < 1 or len(z) != len(y):
        raise KlomError(
            f"{what} gives shape {tuple(z.shape)} for {len(y)} points; one output a point is "
            "expected"
        )
    if task.outputs.classes:
        _check_logits(what, z, y, int(task.data.y().max()))
    if bool(z.isnan().any()):
        raise KlomError(f"{what} gives nan before it was trained; finite logits are expected")
    if not z.is_floating_point():
        raise KlomError(f"{what} gives {z.dtype}; floating-point logits are expected")


def _check_logits(what: str, z: Tensor, y: Tensor, most: int) -> None:
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
    if most >= z.shape[-1]:
        raise KlomError(
            f"{what} gives {z.shape[-1]} logits a point, and labels go up to {most}; at least "
            f"{most + 1} logits are expected"
        )


def _kind(value: Any) -> str:
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
