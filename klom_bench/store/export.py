"""Ensembles written out in the published layouts, so that others can read them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from klom_bench.ensemble.ensemble import evaluating
from klom_bench.ensemble.threads import Check, each
from klom_bench.errors import KlomError
from klom_bench.files.atomic import array_bytes, state_bytes, write_whole
from klom_bench.forget_set import ForgetSet
from klom_bench.progress import Announce, Tick, silent
from klom_bench.published.forget_sets import index_files
from klom_bench.store.held import Held
from klom_bench.store.store import Store
from klom_bench.tasks.ensemble_id import EnsembleId, packs

Layout = Literal["card", "easydub"]


def export(
    store: Store,
    target: Path,
    layout: Layout,
    wanted: list[tuple[EnsembleId, int]],
    device: torch.device,
    announce: Announce = silent,
) -> int:
    """Write the first members of these ensembles below `target`; returns the number of files.

    `card`: the layout of the data card (state dicts, logits and margins of train and val);
    `easydub`: that of EasyDUB (arrays of retain, forget and val points). Logits are computed from
    the state dicts. Files that are there already with the same content are left; KlomError where
    the content is another, or members are missing.
    """
    forget_sets = [e.forget_set for e, _ in wanted if e.forget_set is not None]
    found = []
    for ensemble, count in wanted:
        store.settle(ensemble, device)
        held = store.held(ensemble)
        if held.lacks(count):
            raise KlomError(
                f"{held.lacks(count)} of {count} {ensemble.label} are not in the store {store.root}"
            )
        found.append((held, count))
    written = 0
    for task in {e.task.name: e.task for e, _ in wanted}.values():
        for forget_set in forget_sets:
            path = index_files(task, forget_set.name)[layout == "easydub"]
            written += _put(target / path, array_bytes(forget_set.indices))
    total = sum(count for _, count in wanted)
    with announce(f"exporting to {target}", total) as tick:
        for held, count in found:
            one = partial(_pack, target, layout, held, forget_sets, device, tick)
            written += sum(each(packs(range(count), held.ensemble.task.pack), one, device))
    return written


def _pack(
    target: Path,
    layout: Layout,
    held: Held,
    forget_sets: list[ForgetSet],
    device: torch.device,
    tick: Tick,
    pack: list[int],
    check: Check,
) -> int:
    """Write the files of a pack; returns how many were written."""
    ensemble, states = held.ensemble, held.states_of(pack)
    data = ensemble.task.data_on(device)
    model = ensemble.task.ensemble(states)
    with evaluating(model.to(device)):
        z = data.outputs(model, len(pack)).cpu()
    written = 0
    for i, state, logits in zip(pack, states, z, strict=True):
        check()
        for path, content in _files(layout, ensemble, i, state, logits, forget_sets):
            written += _put(target / path, content)
        tick(1)
    return written


def _files(
    layout: Layout,
    ensemble: EnsembleId,
    member: int,
    state: dict[str, torch.Tensor],
    logits: torch.Tensor,
    forget_sets: list[ForgetSet],
) -> Iterator[tuple[str, bytes]]:
    """Paths below the root and contents, for one member."""
    task = ensemble.task
    prefixed = state_bytes({f"model.{name}": value.cpu() for name, value in state.items()})
    m, n = task.outputs.margins(logits[None], task.data.y())[0], task.train_points
    if layout == "card":
        folder = (
            f"oracles/{task.folder}/{ensemble.forget_set.name}"
            if ensemble.forget_set is not None
            else f"full_models/{task.folder}"
        )
        yield f"{folder}/{ensemble.checkpoint_file(member)}", prefixed
        for part, rows in (("train", slice(n)), ("val", slice(n, None))):
            tensor = logits[rows].clone()
            yield f"{folder}/{part}_logits_{member}.pt", state_bytes(tensor)
            last = task.training.epochs - 1
            yield f"{folder}/{member}__{part}_margins_{last}.npy", array_bytes(m[rows].numpy())
        return
    yield from _easydub(ensemble, member, prefixed, logits, m, forget_sets)


def _easydub(
    ensemble: EnsembleId,
    member: int,
    prefixed: bytes,
    logits: torch.Tensor,
    m: torch.Tensor,
    forget_sets: list[ForgetSet],
) -> Iterator[tuple[str, bytes]]:
    task, n = ensemble.task, ensemble.task.train_points
    architecture = task.architecture_name
    name = f"id_{member}_epoch_{task.training.epochs - 1}"
    rows: dict[str, np.ndarray] = {"val": np.arange(n, len(m))}
    if ensemble.forget_set is not None:
        middle = f"{task.folder.lower()}/oracle/{_short(ensemble.forget_set)}"
        rows |= {"retain": ensemble.forget_set.retain, "forget": ensemble.forget_set.indices}
    else:
        middle = f"{task.folder.lower()}/pretrain"
        rows |= {"retain": np.arange(n)}
        rows |= {_short(forget_set): forget_set.indices for forget_set in forget_sets}
    yield f"models/{middle}/{architecture}/{name}.pt", prefixed
    for kind, array in (("logits", logits), ("margins", m)):
        for part, where in rows.items():
            path = f"{kind}/{middle}/{part}/{architecture}/{name}.npy"
            yield path, array_bytes(array[torch.from_numpy(where)].numpy())


def _short(forget_set: ForgetSet) -> str:
    return forget_set.name.replace("forget_set_", "forget_")


def _put(path: Path, content: bytes) -> bool:
    """Write a file unless it is there with this content; whether it was written."""
    if (path.parent / "manifest.json").exists():
        raise KlomError(
            f"{path.parent} belongs to an ensemble that is trained here: export into another folder"
        )
    if path.exists():
        if path.read_bytes() == content:
            return False
        raise KlomError(f"{path} is there with another content: export into another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise KlomError(
            f"cannot write {path}: {error.strerror}. The same command goes on where it stopped"
        ) from error
    return True
