"""Methods and trainings that were written for one model at a time."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from klom_bench.ensemble.dropout import seeded_before_each_pass
from klom_bench.ensemble.ensemble import Ensemble, new_model
from klom_bench.ensemble.one_member import OneMembersPoints
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.randomness import OwnRandomness
from klom_bench.errors import KlomError
from klom_bench.methods.descent import Descent


def per_model(function: Callable[..., Any]) -> Callable[..., Iterator[None]]:
    """Make a method, or a training, of a function for one model.

    Slower than what is written for the ensemble.

    Args:
        function: function(model, forget, retain, *, ...) unlearns, function(model, points, *, ...)
            trains (`Task(train=...)`). `model` is a plain module of the task's architecture, in
            train mode, changed in place; what it draws at random is the member's own. Points have
            `batches(batch_size)` x [B, ...] and y [B], `tensors()`, `dataset` for a DataLoader,
            `indices`, `split(share)`, `seed`, `generator` and a length. A plain function counts as
            one epoch; a generator function may yield after every epoch, all members equally often
            where they unlearn.

    Returns:
        A method or a training, with the function's keyword arguments as hyperparameters.

    Raises:
        KlomError: when it runs, if members get different numbers of epochs of unlearning, or the
            function returns a model instead of changing the one that it was given.

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
    def for_all(model: Ensemble, *points: Points, **settings: Any) -> Iterator[None]:
        trains = len(points) == 1
        singles = [_single(model, i, state) for i, state in enumerate(model.states())]
        seen = [
            [OneMembersPoints(p.of_member(i), model.generator(i)) for p in points]
            for i in range(len(model))
        ]
        runs = [
            _with_end(_epochs(function, single, mine, settings), generator, model.device)
            for single, mine, generator in zip(singles, seen, model.generators, strict=True)
        ]
        for ended in zip(*runs, strict=False):
            if len(set(ended)) > 1 and not trains:
                raise KlomError(
                    f"{function.__name__} gave some members more epochs than others: "
                    "all must yield equally often"
                )
            if all(ended):
                return
            model.load_states([_same_layers(function, model, single) for single in singles])
            for whole, *mine in zip(points, *seen, strict=True):
                counts = [one.points.seen for one in mine]
                whole.seen, whole.seen_by_member = max(counts), counts
                whole.known |= any(one.points.known for one in mine)
                whole.all_at_once |= any(one.points.all_at_once for one in mine)
            yield

    return for_all


def _single(model: Ensemble, i: int, state: dict[str, Tensor]) -> nn.Module:
    single = new_model(model.architecture)
    single.load_state_dict(state)
    seeded_before_each_pass(single, model.generator(i))
    return single.to(model.device).train(model.training)


def _same_layers(
    function: Callable[..., Any], model: Ensemble, single: nn.Module
) -> dict[str, Tensor]:
    """What a function has made of its model; KlomError where it has other layers now."""
    found = dict(single.state_dict())
    known = {name: value.shape[1:] for name, value in model.network.state_dict().items()}
    shapes = {name: value.shape for name, value in found.items()}
    if shapes != known:
        other = [n for n in (*known, *shapes) if shapes.get(n) != known.get(n)]
        raise KlomError(
            f"{function.__name__} changed the layers of its model ({', '.join(other[:3])}): it may "
            "change their weights alone, since all members are one architecture"
        )
    return found


def _epochs(
    function: Callable[..., Any],
    single: nn.Module,
    points: Sequence[OneMembersPoints],
    settings: Any,
) -> Iterator[None]:
    result = function(single, *points, **settings)
    if isinstance(result, Iterator):
        yield from result
    elif result is None:
        yield
    else:
        raise KlomError(
            f"{function.__name__} returned {type(result).__name__}: a function for one model "
            "changes it in place and returns nothing"
        )


_END = object()


def _with_end(
    run: Iterator[None], generator: torch.Generator, device: torch.device
) -> Iterator[bool]:
    """Whether it has ended, epoch by epoch; what it draws at random is the member's own."""
    own, ended, gradients = OwnRandomness.of(generator, device), False, True
    while True:
        if not ended:
            with own.alone(), torch.set_grad_enabled(gradients):
                ended = next(run, _END) is _END
                gradients = torch.is_grad_enabled()  # it may have yielded within no_grad
        yield ended
