"""Whether the data and the model of a task are what can be trained, before anything is."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from klom_bench.ensemble.ensemble import (
    Ensemble,
    alone_with_randomness,
    evaluating,
    initial_state,
    logits,
    new_model,
)
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.stacked import LARGE
from klom_bench.errors import KlomError
from klom_bench.tasks.data import PARTS, Data

if TYPE_CHECKING:
    from klom_bench.tasks.task import Task

T = TypeVar("T")
FLOATS = (torch.float32,)
INTEGERS = (torch.int64, torch.int32)


def checked_data(name: str, train_points: int, load: Callable[[], Any]) -> Data:
    """The data of a task; KlomError that says what was found and what is expected."""

    def refuse(what: str) -> NoReturn:
        raise KlomError(f"the data of task {name}: {what}")

    def called(what: str, work: Callable[[], Any]) -> Any:
        return _in_words(f"the data of task {name}: {what} failed", work)

    data = called("`load`", load)

    if not isinstance(data, Data):
        refuse(f"`load` gave {_kind(data)}; a klom_bench.Data is expected")
    parts = {name: getattr(data, name) for name in PARTS}
    for part, value in parts.items():
        if not isinstance(value, Tensor):
            refuse(
                f"{part} is {_kind(value)}; a torch tensor is expected, as torch.from_numpy makes "
                "one of a NumPy array (dicts, tuples and datasets of inputs: not yet)"
            )
    for split in ("train", "val"):
        x, y = parts[f"x_{split}"], parts[f"y_{split}"]
        if x.is_meta or y.is_meta:
            refuse(f"x_{split} is on the meta device; values are expected")
        if torch.strided not in {x.layout, y.layout} or x.layout != y.layout:
            refuse(f"x_{split} is {x.layout}; a dense tensor is expected (x.to_dense())")
        if x.ndim < 1 or not len(x):
            refuse(f"x_{split} has shape {tuple(x.shape)}; at least one point is expected")
        if y.ndim != 1:
            refuse(
                f"y_{split} has shape {tuple(y.shape)}; one label a point, [{len(x)}], is expected "
                "(several labels a point: not yet)"
            )
        if y.dtype != torch.int64:
            refuse(
                f"y_{split} is {y.dtype}; classes as torch.int64 are expected: y.long() where they "
                "are whole numbers (regression: not yet)"
            )
        if len(x) != len(y):
            refuse(f"x_{split} has {len(x)} points and y_{split} {len(y)} labels")
        if int(y.min()) < 0:
            refuse(f"y_{split} has the label {int(y.min())}; classes from 0 on are expected")
        if x.is_complex():
            refuse(f"x_{split} is {x.dtype}; real numbers are expected")
        if x.is_floating_point() and not bool(x.isfinite().all()):
            bad = int((~x.isfinite()).flatten(1).any(1).nonzero()[0]) if x.ndim > 1 else 0
            refuse(f"x_{split} holds nan or inf (the first at point {bad}); finite is expected")
        if x.requires_grad or y.requires_grad:
            refuse(f"x_{split} requires gradients; plain data are expected: x.detach()")
    if len(parts["y_train"]) != train_points:
        refuse(f"there are {len(parts['y_train'])} train points; {train_points} are expected")
    first = data.x_train.dtype, data.x_train.ndim
    if (data.x_val.dtype, data.x_val.ndim) != first:
        refuse(
            f"x_train is {first[0]} of {first[1]} dimensions, x_val {data.x_val.dtype} of "
            f"{data.x_val.ndim}; the same of both is expected"
        )
    if int(data.y_train.min()) == int(data.y_train.max()):
        refuse("all train points have one label; at least two classes are expected")
    for split, x in (("train", data.x_train), ("val", data.x_val)):
        _check_prepared(refuse, split, called("`prepare`", partial(data.prepare, x[:64])), len(x))
    return data


def _check_prepared(refuse: Callable[[str], NoReturn], split: str, seen: Any, n: int) -> None:
    if not isinstance(seen, Tensor) or seen.dtype not in (*FLOATS, *INTEGERS):
        found = seen.dtype if isinstance(seen, Tensor) else _kind(seen)
        refuse(
            f"models would get {found}; torch.float32 (x.float()), or whole numbers as "
            "torch.int64 for an embedding, are expected"
        )
    if len(seen) != min(n, 64):
        refuse(f"`prepare` makes {len(seen)} points of {min(n, 64)} of x_{split}")
    if seen.is_floating_point() and not bool(seen.isfinite().all()):
        refuse(f"`prepare` makes nan or inf of points of x_{split}; finite is expected")


def checked_model(task: "Task", device: torch.device) -> None:
    """Try one member on some points, in train mode with its gradient, and in eval mode.

    KlomError for what would fail after hours of training, or not at all and mean nothing.
    """
    data = task.data_on(device)
    rows = slice(min(task.recipe.batch_size, task.train_points))
    x, y = data.prepare(data.x_train[rows]).unsqueeze(0), data.y_train[rows].unsqueeze(0)

    _check_parameters(task, new_model(task.architecture))

    def one_model(mode: bool) -> None:
        model = new_model(task.architecture).to(device).train(mode)
        with alone_with_randomness(0), torch.no_grad():
            _check_logits(task, model(x[0]), y[0])

    def training() -> None:
        one_model(True)
        model = Ensemble(task.architecture, [initial_state(task.architecture, 0)]).to(device)
        cross_entropy(model.train()(x).float(), y).backward()

    def evaluation() -> None:
        one_model(False)
        model = Ensemble(task.architecture, [initial_state(task.architecture, 0)]).to(device)
        with evaluating(model):
            for points in (data.x_train, data.x_val):
                logits(model, points[rows], 1, data.prepare)

    tried(task.name, "train", training)
    tried(task.name, "eval", evaluation)


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
        reason = f"{type(error).__name__}: {error}{_place(error)}{_about_vmap(error)}"
        raise KlomError(f"{what}: {reason}") from error


def _check_parameters(task: "Task", model: nn.Module) -> None:
    """An ensemble stacks each parameter by itself, and trains it."""
    names: dict[int, str] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        if (other := names.setdefault(id(p), name)) != name:
            raise KlomError(
                f"the model of task {task.name} has one parameter by two names ({other}, {name}); "
                "members would have two, which differ after a step: not yet"
            )
        if not p.requires_grad:
            raise KlomError(
                f"the model of task {task.name} has {name} frozen (requires_grad is False); "
                "members would train it: not yet. Keep what is not trained as a buffer"
            )


def _check_logits(task: "Task", z: Any, y: Tensor) -> None:
    what = f"the model of task {task.name}"
    if not isinstance(z, Tensor):
        raise KlomError(f"{what} gives {_kind(z)}; logits as a tensor are expected (not yet)")
    if z.ndim != 2 or len(z) != len(y):
        raise KlomError(
            f"{what} gives shape {tuple(z.shape)} for {len(y)} points; logits "
            "[points, classes] are expected"
        )
    if z.shape[-1] < 2:
        raise KlomError(
            f"{what} gives one logit a point; one a class, two at least, are expected "
            "(one logit for two classes, and regression: not yet)"
        )
    most = int(task.data.y().max())
    if most >= z.shape[-1]:
        raise KlomError(
            f"{what} gives {z.shape[-1]} logits a point, and labels go up to {most}; at least "
            f"{most + 1} logits are expected"
        )
    if bool(z.isnan().any()):
        raise KlomError(f"{what} gives nan before it was trained; finite logits are expected")
    if not z.is_floating_point():
        raise KlomError(f"{what} gives {z.dtype}; floating-point logits are expected")


def _about_vmap(error: BaseException) -> str:
    """Whether it is not the model, but how many are computed side by side."""
    if not re.search(r"vmap|[Bb]atching rule", str(error)):
        return ""
    return (
        f". Models of fewer than {LARGE:,} parameters are computed side by side with "
        "torch.func.vmap, which cannot compute this one (a recurrent layer, a branch on values, a "
        "call of .item()?): not yet"
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
