"""Tasks, forget sets, methods, and what a store holds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from klom_bench.cell.record_json import plain_value
from klom_bench.methods.descent import Descent
from klom_bench.methods.description import described
from klom_bench.methods.method import Method
from klom_bench.report.columns import aligned
from klom_bench.store.survey import Holding
from klom_bench.tasks.task import Task


def listing(tasks: Mapping[str, Task], methods: Mapping[str, Method]) -> str:
    """Tasks with their forget sets, methods with their hyperparameters and defaults."""
    lines = ["tasks (--klom-task) and their forget sets (--klom-forget-set)"]
    for task in tasks.values():
        recipe = ", ".join(
            name if value is True else f"{name} {value}"
            for name, value in task.training.as_json().items()
            if name != "code_sha256"
        )
        where = "published" if task.published else "trained here"
        how = f"{where}; {recipe}" if task.trains else "imported"
        lines.append(f"  {task.name}: {task.train_points} train points; {how}")
        for name in task.forget_sets:
            lines.append(f"    {name}: {task.size(name)} points")
    lines.append("methods (--klom-method) and their hyperparameters (--klom-param)")
    usual = Descent().hyperparameters
    for name, method in methods.items():
        lines.append(f"  {name}: {described(method).rule}".removesuffix(": "))
        for key, value in method.hyperparameters.items():
            if key in usual and value == usual[key]:
                continue
            own = [
                f"{task.name} {task.hyperparameters[name][key]}"
                for task in tasks.values()
                if key in task.hyperparameters.get(name, {})
            ]
            lines.append(f"    {key} = {value}" + (f" ({', '.join(own)})" if own else ""))
    lines.append("  all methods that follow gradients:")
    lines += [f"    {key} = {value}" for key, value in usual.items()]
    lines.append("A fixture of your own that returns a method is one, too, under its own name.")
    return "\n".join(lines) + "\n"


def of_methods(methods: Mapping[str, Method]) -> str:
    """`klom list --methods`: what each sees and needs, its cost, its year, its code."""
    rows = [("method", "year", "sees", "needs", "cost in examples", "code")]
    for name, method in methods.items():
        said = described(method)
        given = [n for n in method.needs if n != "task"]
        rows.append(
            (
                name,
                said.year or "-",
                ", ".join([*said.sees.split(" and "), *given]),
                ", ".join(method.traits.only) or "-",
                said.costs,
                said.repository or "-",
            )
        )
    note = "F, R: forget and retain points; other words are hyperparameters. `klom help methods`."
    return "\n".join([*aligned(rows, left=6), note]) + "\n"


def as_text(
    tasks: Mapping[str, Task],
    methods: Mapping[str, Method],
    root: Path,
    holdings: Sequence[Holding],
) -> str:
    """`klom list`."""
    if not holdings:
        return f"store {root}: nothing yet\n\n{listing(tasks, methods)}"
    rows = [("task", "ensemble", "seed", "members", "size", "made")]
    rows += [
        (h.task, what(h), str(h.seed), str(h.members), size(h.bytes), h.made) for h in holdings
    ]
    lines = [f"store {root}", *(f"  {line}" for line in aligned(rows, left=2))]
    lines.append(f"  {len(holdings)} ensembles, {size(sum(h.bytes for h in holdings))}")
    return "\n".join(lines) + f"\n\n{listing(tasks, methods)}"


def removal(root: Path, holdings: Sequence[Holding]) -> str:
    """`klom remove`: what is to go."""
    rows = [(h.folder, f"{h.members} members", size(h.bytes), h.made) for h in holdings]
    lines = [f"store {root}", *(f"  {line}" for line in aligned(rows, left=1))]
    total = f"{len(holdings)} ensembles, {size(sum(h.bytes for h in holdings))}"
    return "\n".join([*lines, f"  {total}"]) + "\n"


def what(holding: Holding) -> str:
    """An ensemble in words."""
    if holding.role == "subset":
        return "models on random halves"
    return f"oracles of {holding.forget_set}" if holding.forget_set else "originals"


def size(count: int) -> str:
    """Bytes in the unit that fits."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def as_json(
    tasks: Mapping[str, Task],
    methods: Mapping[str, Method],
    root: Path,
    holdings: Sequence[Holding],
) -> dict[str, Any]:
    """`klom list --json`."""
    return {
        "schema": 1,
        "tasks": {
            task.name: {
                "train_points": task.train_points,
                "recipe": task.training.as_json(),
                "published": task.published is not None,
                "forget_sets": {name: task.size(name) for name in task.forget_sets},
            }
            for task in tasks.values()
        },
        "methods": {
            name: {key: plain_value(value) for key, value in method.hyperparameters.items()}
            for name, method in methods.items()
        },
        "descriptions": {name: asdict(described(method)) for name, method in methods.items()},
        "store": str(root),
        "ensembles": [holding.as_json() for holding in holdings],
    }
