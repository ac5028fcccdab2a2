"""The scores of every point, in a file of their own."""

import io
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from klom_bench.cell.record import Record
from klom_bench.cell.record_json import OfTest, name_of
from klom_bench.errors import KlomError
from klom_bench.files.atomic import write_whole


def save_points(folder: Path, record: Record) -> Path:
    """Write TASK-FORGET_SET-METHOD.npz whole; returns its path.

    klom, reverse: float64 [points], train first. forget, retain, val: int64, the points of each
    split. KlomError where it cannot be written, or the record has none.
    """
    if record.points is None or record.reverse_points is None or record.splits is None:
        raise KlomError("the record has no per-point scores: it comes from JSON without them")
    arrays: dict[str, Any] = {"klom": record.points, "reverse": record.reverse_points}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays | {**record.splits})
    test: OfTest = {
        "task": record.task,
        "forget_set": record.forget_set,
        "method": record.method,
        "setting": record.setting,
    }
    name = quote(name_of(test).replace(":", "-"), safe=" ,=+()")
    path = folder / f"{name}.npz"
    try:
        write_whole(path, buffer.getvalue())
    except OSError as error:
        raise KlomError(f"{folder}: cannot be written ({error.strerror})") from error
    return path
