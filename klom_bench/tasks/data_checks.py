"""Whether the data of a task are what can be trained on, before anything is."""

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from klom_bench.ensemble.inputs import Inputs, at, count, is_dataset, named, tensors
from klom_bench.ensemble.outputs import Outputs, binary_loss, multi_label_loss
from klom_bench.errors import KlomError
from klom_bench.tasks.checks import in_words, kind
from klom_bench.tasks.data import Data

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
        return in_words(f"the data of task {name}: {what} failed", work)

    data = called("`load`", load)

    if not isinstance(data, Data):
        refuse(f"`load` gave {kind(data)}; a klom_bench.Data is expected")
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
        refuse(f"{name} is {kind(y)}; a torch tensor is expected, as torch.from_numpy makes one")
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
            f"{name} is {kind(x)}; a torch tensor is expected, as torch.from_numpy makes one of a "
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
        found = seen.dtype if isinstance(seen, Tensor) else kind(seen)
        refuse(
            f"models would get {found}; torch.float32 (x.float()), or whole numbers as "
            "torch.int64 for an embedding, are expected"
        )
    if len(seen) != n:
        refuse(f"`prepare` makes {len(seen)} points of {n} of x_{split}")
    if seen.is_floating_point() and not bool(seen.isfinite().all()):
        refuse(f"`prepare` makes nan or inf of points of x_{split}; finite is expected")
