"""Points of forget sets that methods left worst, to be looked at: only where that is asked for."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from klom_bench.cell.gates import MARGINS
from klom_bench.cell.record_json import RecordJson
from klom_bench.errors import KlomError, visible
from klom_bench.report.table import named

MOST = 24
"""So many points of a forget set."""
NUMBERS = 12


@dataclass(frozen=True)
class Example:
    """A point. image: a data URI of a PNG, empty where text says what the point is.

    said: how many methods have it among their worst, and the worst of them.
    """

    point: int
    label: str
    image: str
    text: str
    said: str


def examples(records: Sequence[RecordJson], tasks: Mapping[str, Any]) -> dict[str, list[Example]]:
    """By forget set the points that are most often among the worst five of a method.

    tasks: by name, those of the records; KlomError for one that is not there, or of other data.
    """
    found: dict[str, list[Example]] = {}
    groups: dict[tuple[str, str], list[RecordJson]] = {}
    for record in records:
        if record["task"] == MARGINS:
            continue
        if record["task"] not in tasks:
            raise KlomError(
                f"the data of task {record['task']} are not here: no point can be shown"
            )
        groups.setdefault((record["task"], record["forget_set"]), []).append(record)
    several = len({task for task, _ in groups}) > 1
    for (task, forget_set), mine in groups.items():
        name = f"{forget_set} of {task}" if several else forget_set
        found[name] = _of_set(tasks[task], mine)
    return found


def _of_set(task: Any, records: Sequence[RecordJson]) -> list[Example]:
    name = records[0]["forget_set"]
    if task.forget_set(name).sha256 != records[0]["forget_set_sha256"]:
        raise KlomError(
            f"{name} of {task.name} has other points here than in the run: none of them is shown"
        )
    worst: dict[int, list[tuple[float, str]]] = {}
    for record in records:
        for of in record["worst"].get("forget", ()):
            worst.setdefault(of["point"], []).append((of["klom"] or 0.0, visible(named(record))))
    order = sorted(worst, key=lambda point: (-len(worst[point]), -max(worst[point])[0], point))
    return [_example(task, point, worst[point], len(records)) for point in order[:MOST]]


def _example(task: Any, point: int, of: Sequence[tuple[float, str]], rows: int) -> Example:
    import torch

    from klom_bench.ensemble.inputs import at
    from klom_bench.ensemble.inputs import named as parts
    from klom_bench.tasks import digits

    data = task.data
    x = at(data.x_train, torch.tensor([point]), data.y_train.device)
    values = {name: np.asarray(t[0].cpu()) for name, t in parts(x, "x").items()}
    y = np.asarray(data.y_train[point].cpu())
    klom, name = max(of)
    image = _picture(next(iter(values.values()))) if len(values) == 1 else None
    if task.load in (digits.load, digits.load_images):  # models see each pixel standardised
        image = _picture(digits.train_images()[point])
    return Example(
        point=point,
        label=str(y.item()) if y.ndim == 0 else _numbers(y),
        image="" if image is None else _png(image),
        text="; ".join(
            f"{k}: {_numbers(v)}" if len(values) > 1 else _numbers(v) for k, v in values.items()
        ),
        said=f"among the worst five of {len(of)} of {rows}; KLOM up to {klom:.2f} ({name})",
    )


def _picture(values: np.ndarray) -> np.ndarray | None:
    """[H, W] or [H, W, 3] from 0 to 1; None where a point is no image."""
    if values.ndim == 3 and values.shape[0] in (1, 3):
        values = values[0] if values.shape[0] == 1 else values.transpose(1, 2, 0)
    elif values.ndim != 2 or min(values.shape) < 4:
        return None
    image: np.ndarray = values.astype(np.float64)
    low, high = image.min(), image.max()
    return np.asarray((image - low) / (high - low if high > low else 1.0))


def _png(image: np.ndarray) -> str:
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, image, format="png", cmap="gray_r" if image.ndim == 2 else None, vmin=0, vmax=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _numbers(values: np.ndarray) -> str:
    flat = values.reshape(-1)
    shown = " ".join(f"{v:.4g}" if flat.dtype.kind == "f" else str(v) for v in flat[:NUMBERS])
    return shown + (f" ... ({flat.size} in all)" if flat.size > NUMBERS else "")
