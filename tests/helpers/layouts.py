from dataclasses import replace

import numpy as np
import torch

from klom_bench.ensemble.ensemble import initial_state
from klom_bench.tasks import BUILT_IN
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.task import Data

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
LABELS = torch.from_numpy(RNG.integers(0, 10, 60_000))
ONE = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
CIFAR10 = replace(
    BUILT_IN["cifar10"],
    # Only labels matter here: images take no memory.
    load=lambda: Data(
        ONE.expand(50_000, -1, -1, -1),
        LABELS[:50_000],
        ONE.expand(10_000, -1, -1, -1),
        LABELS[50_000:],
        prepare=torch.Tensor.float,
    ),
)


F = CIFAR10.forget_set("forget_set_3")
ORIGINALS = EnsembleId(CIFAR10, "original", 0)
ORACLES = EnsembleId(CIFAR10, "oracle", 0, F)
N = 3
LOGITS = {e: RNG.normal(0, 3, (N, 60_000, 10)).astype(np.float32) for e in (ORIGINALS, ORACLES)}


def slow_margins(logits):
    """m = z_y - log sum of exp of the others, in double precision."""
    z = logits.astype(np.float64)
    true = np.take_along_axis(z, LABELS.numpy()[None, :, None], 2)[..., 0]
    others = np.exp(z).sum(2) - np.exp(true)
    return true - np.log(others)


MARGINS = {e: slow_margins(z).astype(np.float32) for e, z in LOGITS.items()}
PARTS = {"train": slice(50_000), "val": slice(50_000, None)}


def put(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        torch.save(torch.from_numpy(np.ascontiguousarray(array)), path)


def card(root, ensemble, top="oracles"):
    """(a) logits of train and val, margins of val."""
    folder = root / ("full_models/CIFAR10" if ensemble is ORIGINALS else f"{top}/CIFAR10/{F.name}")
    for i in range(N):
        put(folder / f"{i}__val_margins_23.npy", MARGINS[ensemble][i, 50_000:])
        for part, rows in PARTS.items():
            put(folder / f"{part}_logits_{i}.pt", LOGITS[ensemble][i, rows])


def oracle_models(root, ensemble):
    """(b) as (a) below another name."""
    card(root, ensemble, "oracle_models")


def only_margins(root, ensemble):
    """(b) margins of all models in a file."""
    folder = root / "full_models/CIFAR10"
    if ensemble is ORACLES:
        folder = root / f"oracle_models/CIFAR10/only_margins/{F.name}"
    for part, rows in PARTS.items():
        put(folder / f"{part}_margins_all.pt", MARGINS[ensemble][:, rows])


def easydub(root, ensemble, kind="margins"):
    """(c) an array a model and region; an original's "retain" is all train points."""
    arrays = (MARGINS if kind == "margins" else LOGITS)[ensemble]
    for i in range(N):
        if ensemble is ORIGINALS:
            middle = "pretrain"
            regions = {"retain": np.arange(50_000), "forget_3": F.indices}
        else:
            middle = "oracle/forget_3"
            regions = {"retain": F.retain, "forget": F.indices}
        regions["val"] = np.arange(50_000, 60_000)
        for region, rows in regions.items():
            put(
                root / f"{kind}/cifar10/{middle}/{region}/resnet9/id_{i}_epoch_23.npy",
                arrays[i, rows],
            )


DIGITS = BUILT_IN["digits"]
STATES = [initial_state(DIGITS.architecture, seed) for seed in range(4)]


def expected_margins():
    data, rows = DIGITS.data, []
    for state in STATES:
        net = DIGITS.architecture()
        net.load_state_dict(state)
        z = net(torch.cat([data.x_train, data.x_val])).detach().double()
        true = z.gather(1, data.y()[:, None])[:, 0]
        rows.append(true - (z.exp().sum(1) - true.exp()).log())
    return torch.stack(rows).numpy()


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))
