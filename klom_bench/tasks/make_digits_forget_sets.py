"""Makes the forget sets of `digits`: python -m klom_bench.tasks.make_digits_forget_sets FOLDER

They are built as the published ten of CIFAR-10 are (data card of data-unlearning-bench), scaled
to 1,438 train points. The package ships what this command writes, so that all machines share them.

The influence of train point i on train point j is estimated from models trained on random halves:
mean margin of j over models that saw i, less the mean over models that did not (Feldman & Zhang
2020, eq. 2; the linear datamodel of Ilyas et al. 2022 with independent inclusion).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state, logits
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.seeds import generator, member_seed
from klom_bench.ensemble.threads import side_by_side, thread_count
from klom_bench.ensemble.training import train
from klom_bench.metrics.margins import margins
from klom_bench.tasks.digits import DIGITS

MODELS = 4000
ANCHOR = 6  # the point whose neighbours make set 10, as for CIFAR-10


def half_models(models: int = MODELS) -> tuple[np.ndarray, np.ndarray]:
    """Which half each model saw, bool [models, train], and its margins, float32 [models, train]."""
    data, n = DIGITS.data, DIGITS.train_points
    packs = [range(a, min(a + 50, models)) for a in range(0, models, 50)]
    seen, found = np.zeros((models, n), bool), np.zeros((models, n), np.float32)
    device = torch.device("cpu")

    def work(check: object) -> None:
        while packs:
            pack = packs.pop()
            streams = [generator("digits", "half", i) for i in pack]
            halves = torch.stack([torch.randperm(n, generator=g)[: n // 2] for g in streams])
            states = [initial_state(DIGITS.architecture, member_seed("half", i)) for i in pack]
            model = Ensemble(DIGITS.architecture, states, pack, streams)
            points = Points(data.x_train, data.y_train, halves, streams)
            for _ in train(model, points, DIGITS.recipe):
                pass
            with evaluating(model):
                z = logits(model, data.x_train, len(pack))
            found[pack.start : pack.stop] = margins(z, data.y_train).numpy()
            for row, half in zip(pack, halves, strict=True):
                seen[row, half.numpy()] = True

    side_by_side(work, thread_count(device), device)
    return seen, found


def influence(seen: np.ndarray, found: np.ndarray) -> np.ndarray:
    """A[i, j]: what having seen train point i adds to the margin of train point j."""
    with_i = seen.T.astype(np.float64)
    without = 1.0 - with_i
    m = found.astype(np.float64)
    of_seen, of_unseen = with_i @ m / with_i.sum(1)[:, None], without @ m / without.sum(1)[:, None]
    return np.asarray(of_seen - of_unseen)


def forget_sets() -> dict[str, np.ndarray]:
    """Name -> sorted indices of the ten sets, and of all nines."""
    n = DIGITS.train_points
    sets = {
        k + 1: np.random.RandomState(k).choice(n, size, replace=False)
        for k, size in enumerate((10, 50, 100))
    }
    a = influence(*half_models())
    u, s, _ = np.linalg.svd(a - a.mean(0), full_matrices=False)
    for component, first in ((0, 4), (1, 7)):
        score = u[:, component] * s[component]
        score = score * np.sign(score[np.abs(score).argmax()])
        order = np.argsort(-score, kind="stable")
        sets[first], sets[first + 1] = order[:10], order[:50]
        sets[first + 2] = np.concatenate([order[:50], order[-50:]])
    x = DIGITS.data.x_train.numpy()
    sets[10] = np.argsort(((x - x[ANCHOR]) ** 2).sum(1), kind="stable")[:50]
    ten = {f"forget_set_{k}": np.sort(v).astype(np.int64) for k, v in sorted(sets.items())}
    return ten | {"class_9": np.flatnonzero(DIGITS.data.y_train.numpy() == 9)}


def main(folder: str) -> None:
    """Write forget_set_1.npy to forget_set_10.npy, and class_9.npy."""
    sys.stdout.write(f"training {MODELS} models on random halves: one to three minutes\n")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, indices in forget_sets().items():
        np.save(Path(folder) / f"{name}.npy", indices)
        sys.stdout.write(f"{name}: {len(indices)} points\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=f"{__doc__}".partition("\n")[0])
    parser.add_argument("folder", help="where the .npy files are written")
    main(parser.parse_args().folder)
