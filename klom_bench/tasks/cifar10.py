"""`cifar10` and `cifar10_augmented`: ResNet-9 by the published recipe, ten forget sets."""

import hashlib
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError
from klom_bench.models.resnet9 import resnet9
from klom_bench.tasks.data import Data
from klom_bench.tasks.images import data_folder, normalised
from klom_bench.tasks.published import Published, not_in_store
from klom_bench.tasks.task import Task

TRAIN_POINTS = 50_000
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def load() -> Data:
    """CIFAR-10 through torchvision, in the published order: 50,000 train and 10,000 val points."""
    from torchvision.datasets import CIFAR10  # takes a second; only this task needs it

    folder = data_folder()
    try:
        train, val = (CIFAR10(folder, train=part) for part in (True, False))
    except (RuntimeError, OSError) as error:
        raise KlomError(
            f"CIFAR-10 is not in {folder}, or not whole: `klom download cifar10 --data` puts it "
            "there; or let $KLOM_DATA name the folder that holds cifar-10-batches-py"
        ) from error
    pixels = hashlib.sha256()
    for part in (train, val):
        pixels.update(part.data.tobytes())
        pixels.update(np.asarray(part.targets, dtype="<i8").tobytes())
    x_train, x_val = (
        torch.from_numpy(p.data).permute(0, 3, 1, 2).contiguous() for p in (train, val)
    )
    y_train, y_val = (torch.tensor(p.targets) for p in (train, val))
    prepare = normalised(MEAN, STD)
    return Data(x_train, y_train, x_val, y_val, pixels.hexdigest(), prepare)


def download() -> None:
    """Fetch the data set into the data folder, checked by torchvision."""
    from torchvision.datasets import CIFAR10

    try:
        CIFAR10(data_folder(), download=True)
    except (OSError, RuntimeError) as error:
        raise KlomError(
            f"CIFAR-10 could not be downloaded to {data_folder()}: {error}. Without a network, get "
            "cifar-10-python.tar.gz elsewhere and unpack it there ($KLOM_DATA names the folder)"
        ) from error


def random_set(seed: int, size: int) -> np.ndarray:
    """Forget sets 1 to 3, as published; RandomState's stream is frozen."""
    return np.sort(np.random.RandomState(seed).choice(TRAIN_POINTS, size, replace=False))


# Sizes, and SHA-256 of the sorted indices as little-endian int64, of the published files: 1 to 3
# random; 4 to 6 and 7 to 9 by the 1st and 2nd principal component of the influence matrix; 10 the
# nearest to train image 6 in CLIP space.
PUBLISHED = {
    "forget_set_1": (10, "ad3ba977967dbafa3d0dc18eeabf336c050eeac3c0fb468f182dd4dc16d349a7"),
    "forget_set_2": (100, "b1d088d2bfab91aee858d773d40eb56cdc90daecc2219f2f79ff5cf08b0f5515"),
    "forget_set_3": (1000, "3b666da43172f1e5894cc63127acc13b6b7e397567e3f9af40a9b94fc4c2f676"),
    "forget_set_4": (10, "804455852e64b12ff62843df41aadaaebba80c16cd31ac82d00fb6d4107e63b6"),
    "forget_set_5": (100, "438cc2ddeb5e4f09bcee6a29be6d9fb6c0d22f127fdf0a7b539c1a4e0a968f3f"),
    "forget_set_6": (500, "f3cb1d15142cc06d5fedcff74f95d0b91a879184b8b521ae802d811527178db5"),
    "forget_set_7": (10, "8a6fbd4eae99922b0651b51f735b68a5723c7219036d861ebd3ae654de54a370"),
    "forget_set_8": (100, "9c5ff3397238d1ab370114776cce8ee043c6e7d79171d471554adbe4ef0f3fd2"),
    "forget_set_9": (500, "a76781a4ff4f9bf2d8a2e8fe998dad26b7bef79e05b091171475a42860b2a145"),
    "forget_set_10": (100, "33606a671e5490b3e793593b6f11fda2ada31c593a2c30ba12da7fea2c31b335"),
}

CIFAR10_TASK = Task(
    name="cifar10",
    architecture=resnet9,
    train=Recipe(epochs=24, batch_size=256, lr=0.4, peak_epoch=5, mixed_precision=True),
    load=load,
    download=download,
    forget_sets={
        **{name: partial(not_in_store, "cifar10", name) for name in PUBLISHED},
        "forget_set_1": partial(random_set, 0, 10),
        "forget_set_2": partial(random_set, 1, 100),
        "forget_set_3": partial(random_set, 2, 1000),
    },
    published=Published(TRAIN_POINTS, "CIFAR10", PUBLISHED),
    pack=1,
)

CIFAR10_AUGMENTED = replace(
    CIFAR10_TASK,
    name="cifar10_augmented",
    folder="CIFAR10_augmented",
    train=replace(CIFAR10_TASK.recipe, flip=True, translate=2, cutout=8),
)
