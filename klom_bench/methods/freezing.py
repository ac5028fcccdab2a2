"""Methods that keep all but the last layers as they are."""

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError, unknown
from klom_bench.methods.descent import Descent
from klom_bench.methods.finetuning import finetune
from klom_bench.methods.method import method
from klom_bench.methods.ranges import Range
from klom_bench.tasks.task import Task

Unit = Literal["layers", "blocks"]


def last(network: nn.Module, k: int, unit: str) -> list[str]:
    """Names of modules: the last k and what lies behind them; KlomError where there are fewer.

    Last in the order in which the network registers them, which should be that of its forward.

    Of `layers`, conv and linear ones count, and norm layers and others with parameters of their
    own come along if they lie behind the k-th; `blocks` are the children that have parameters.
    """
    if unit == "blocks":
        names = [name for name, child in network.named_children() if [*child.parameters()]]
        counted = names
    elif unit == "layers":
        modules = dict(network.named_modules())
        names = [n for n, m in modules.items() if [*m.parameters(recurse=False)]]
        counted = [n for n in names if isinstance(modules[n], _ConvNd | nn.Linear)]
    else:
        raise KlomError(unknown("unit", unit, get_args(Unit)))
    if not 1 <= k <= len(counted):
        raise KlomError(f"k = {k}, but the network has {len(counted)} {unit}: {', '.join(counted)}")
    return names[names.index(counted[-k]) :]


def belongs(name: str, modules: Sequence[str]) -> bool:
    """Whether a parameter, buffer or module is of one of these modules."""
    return any(
        name == module or name.startswith(f"{module}.") or ("." not in name and not module)
        for module in modules
    )


@method(tune={"k": Range(1, 2, whole=True)})
def cf_k(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    k: int = 1,
    unit: Unit = "layers",
    lr: float = 0.01,
    epochs: int = 10,
    batch_size: int = 256,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Catastrophic forgetting of the last k layers: min L_R over these, all others frozen.

    unit `layers`: conv and linear ones, with the norm layers behind the k-th; `blocks`: children of
    the network, which are the stages and the classifier that other papers count. Both in the order
    in which the network registers them.
    Paper: Goel 2022 (arXiv 2201.06640), CF-k.
    Code: shash42/Evaluating-Inexact-Unlearning, `cat_forget_finetune` in src/methods.py: the same
    weights train (MLP, CNN, ResNet-18, k 1 to 5); equal to 2e-16 where nothing has BatchNorm.
    Departures: frozen BatchNorm keeps its statistics, too.
    Defaults: lr .01 and 10 epochs of `fk_fientune` in the notebooks of meghdadk/SCRUB (30 epochs in
    Goel's code); k 1; batch, momentum and weight decay as `finetune`.
    Costs: epochs * R.
    Trains: last k unit.
    Sees: retain.
    """
    trained = last(model.network, k, unit)
    layers = [(n, m, [*m.parameters(recurse=False)]) for n, m in model.network.named_modules()]
    kept = {p for name, _, own in layers for p in own if belongs(name, trained)}
    for name, module, own in layers:
        if own and not belongs(name, trained):
            module.training = False
            for p in {*own} - kept:  # what a trained layer shares trains, too
                p.requires_grad_(False)
    yield from finetune(  # SGD passes over what has no gradient
        model,
        forget,
        retain,
        lr=lr,
        epochs=epochs,
        batch_size=batch_size,
        momentum=momentum,
        weight_decay=weight_decay,
        descent=descent,
    )


@method(
    retrains=True,
    tune={"k": Range(1, 2, whole=True), "lr": Range(0.01, 0.3), "epochs": Range(5, 10, whole=True)},
)
def eu_k(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    task: Task,
    k: int = 1,
    unit: Unit = "layers",
    lr: float = 0.01,
    epochs: int | None = None,
    batch_size: int = 256,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Exact unlearning of the last k layers: these anew, then min L_R over them.

    The unit is that of `cf_k`. Every parameter and buffer of them is drawn anew as the architecture
    draws it, each member's from its own stream, whether or not its layers can reset themselves.
    epochs None: as many as the task's recipe has.
    Paper: Goel 2022 (arXiv 2201.06640), EU-k.
    Code: shash42/Evaluating-Inexact-Unlearning, `retrain_lastK` in src/methods.py: equal to 4e-16
    from the same new weights where nothing has BatchNorm.
    Departures: the architecture's own new weights, norm layers included (its code: kaiming_normal,
    conv and linear layers only); frozen BatchNorm keeps its statistics.
    Defaults: as long as the original was trained, as there (62 epochs) and in xcadet/deepunlearn;
    the rest as `cf_k`.
    Costs: (recipe_epochs if epochs is None else epochs) * R.
    Trains: last k unit.
    Resets: last k unit.
    Sees: retain.
    """
    fresh = model.fresh_states()
    trained = last(model.network, k, unit)
    with torch.no_grad():
        for name, value in model.network.state_dict().items():
            if belongs(name, trained):
                value.copy_(torch.stack([state[name] for state in fresh]))
    yield from cf_k(
        model,
        forget,
        retain,
        k=k,
        unit=unit,
        lr=lr,
        epochs=task.training.epochs if epochs is None else epochs,
        batch_size=batch_size,
        momentum=momentum,
        weight_decay=weight_decay,
        descent=descent,
    )
