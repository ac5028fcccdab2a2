"""Methods that were written for one model at a time."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from klom_bench.ensemble.dropout import seeded_before_each_pass
from klom_bench.ensemble.ensemble import Ensemble, new_model
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError
from klom_bench.methods.descent import Descent


class OneMembersPoints:
    """Points as a single model sees them: batches x [B, ...], y [B]."""

    def __init__(self, points: Points, i: int) -> None:
        self.points = points.of_member(i)

    def __len__(self) -> int:
        return len(self.points)

    def batches(
        self, batch_size: int, *, drop_last: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch, shuffled anew."""
        for x, y in self.points.batches(batch_size, drop_last=drop_last):
            yield x[0], y[0]


def per_model(function: Callable[..., Any]) -> Callable[..., Iterator[None]]:
    """Make a method of a function for one model: function(model, forget, retain, *, ...).

    Slower than a method written for the ensemble.

    Args:
        function: `model` is a plain module of the task's architecture, in train mode, changed in
            place; its dropout layers draw from the member's own stream. `forget` and `retain` give
            batches x [B, ...], y [B]. A plain function counts as one epoch; a generator function
            may yield after every epoch, all members equally often.

    Returns:
        A method, with the function's keyword arguments as hyperparameters.

    Raises:
        KlomError: when it runs, if members get different numbers of epochs, or the function returns
            a model instead of changing the one that it was given.

    Example:
        >>> import torch
        >>> from klom_bench import per_model
        >>> @per_model
        ... def halve(model, forget, retain, *, by=0.5):
        ...     with torch.no_grad():
        ...         for p in model.parameters():
        ...             p.mul_(by)
    """

    defaults = getattr(function, "__kwdefaults__", None) or {}
    if any(isinstance(value, Descent) for value in defaults.values()):
        raise KlomError(
            f"{function.__name__} takes `descent`, which is for ensembles: make an optimizer of "
            "torch in it, or write it for the ensemble"
        )

    @functools.wraps(function)
    def method(model: Ensemble, forget: Points, retain: Points, **settings: Any) -> Iterator[None]:
        singles = [_single(model, i, state) for i, state in enumerate(model.states())]
        seen = [
            (OneMembersPoints(forget, i), OneMembersPoints(retain, i)) for i in range(len(model))
        ]
        runs = [
            _epochs(function, single, f, r, settings)
            for single, (f, r) in zip(singles, seen, strict=True)
        ]
        for ended in zip(*(_with_end(run) for run in runs), strict=False):
            if len(set(ended)) > 1:
                raise KlomError(
                    f"{function.__name__} gave some members more epochs than others: "
                    "all must yield equally often"
                )
            if ended[0]:
                return
            model.load_states([dict(single.state_dict()) for single in singles])
            forget.seen, retain.seen = seen[0][0].points.seen, seen[0][1].points.seen
            yield

    return method


def _single(model: Ensemble, i: int, state: dict[str, Tensor]) -> nn.Module:
    single = new_model(model.architecture)
    single.load_state_dict(state)
    seeded_before_each_pass(single, model.generator(i))
    return single.to(model.device).train(model.training)


def _epochs(
    function: Callable[..., Any], single: nn.Module, forget: Any, retain: Any, settings: Any
) -> Iterator[None]:
    result = function(single, forget, retain, **settings)
    if isinstance(result, Iterator):
        yield from result
    elif result is None:
        yield
    else:
        raise KlomError(
            f"{function.__name__} returned {type(result).__name__}: a method for one model changes "
            "it in place and returns nothing"
        )


def _with_end(run: Iterator[None]) -> Iterator[bool]:
    for _ in run:
        yield False
    while True:
        yield True
