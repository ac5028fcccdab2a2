"""`living17`: ResNet-18 on the 17 superclasses of BREEDS, five published forget sets."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError
from klom_bench.models.resnet18 import resnet18
from klom_bench.tasks.data import Data
from klom_bench.tasks.images import data_folder, normalised
from klom_bench.tasks.published import Published, not_in_store
from klom_bench.tasks.task import Task

TRAIN_POINTS, VAL_POINTS, CLASSES = 44_200, 3_400, 17
FILES = ("raw_tensors_tr_new.pt", "raw_tensors_val_new.pt")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's: what the published models were normalised with is not written down."""


def how_to_get() -> str:
    """What to do where the files are missing."""
    return (
        f"put the published {FILES[0]} and {FILES[1]} into {data_folder() / 'living17'}, or make "
        "them from ImageNet with `python -m klom_bench.tasks.make_living17 IMAGENET`; $KLOM_DATA "
        "names the folder above"
    )


def load() -> Data:
    """The published tensor files, each (images uint8, labels int64), from the data folder."""
    folder = data_folder() / "living17"
    (x_train, y_train), (x_val, y_val) = (read(folder / name) for name in FILES)
    for name, y, points in zip(FILES, (y_train, y_val), (TRAIN_POINTS, VAL_POINTS), strict=True):
        if len(y) != points:
            raise KlomError(f"{folder / name} holds {len(y)} points, Living-17 has {points}")
    digest = hashlib.sha256()
    for tensor in (x_train, y_train, x_val, y_val):
        digest.update(tensor.numpy().data)
    return Data(x_train, y_train, x_val, y_val, digest.hexdigest(), normalised(MEAN, STD))


def read(path: Path) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, 3, H, W] and labels int64 [n]; KlomError that says what is wrong."""
    if not path.exists():
        raise KlomError(f"Living-17 is not in {path.parent}: {how_to_get()}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        images, labels = content
        shaped = images.ndim == 4 and labels.shape == images.shape[:1]
    except Exception as error:  # whatever a damaged file makes of the zip reader and unpickler
        raise KlomError(f"{path} is not a pair (images, labels) of tensors: {error}") from error
    if shaped and images.shape[1] != 3 and images.shape[3] == 3:
        images = images.permute(0, 3, 1, 2)
    if not shaped or images.shape[1] != 3 or images.dtype != torch.uint8:
        raise KlomError(
            f"{path} holds images {tuple(images.shape)} of {images.dtype} and labels "
            f"{tuple(labels.shape)}: uint8 [n, 3, H, W] and [n] are expected"
        )
    labels = labels.to(torch.int64)
    if int(labels.min()) < 0 or int(labels.max()) >= CLASSES:
        raise KlomError(f"{path} has labels beyond 0..{CLASSES - 1}")
    return images.contiguous(), labels


def download() -> None:
    """Not by us: the images are ImageNet's."""
    raise KlomError(f"Living-17 cannot be downloaded: {how_to_get()}")


PUBLISHED = {
    "forget_set_1": (500, "4134bec90b2c3dac8abf31fa6667a501a3e8cccc7181d1e2e14b6022f31b2e05"),
    "forget_set_2": (647, "cdf221ceba91f18443bcf5ea75ab7bbcc2366c23092d28bb8672feb2ab7898ab"),
    "forget_set_3": (663, "fabf40c07d49d3e0d932de186c71ba55ca3509853ffad462bbadc984e6e8c7d6"),
    "forget_set_4": (200, "6456c291bd983abf78467ceabd81946681faed39211ade69d1052a2550ce8efb"),
    "forget_set_5": (200, "ed7e227a8ba3106944f965b6d22e7176b77e14ed6f2ff48336db15fc69a55f55"),
}

LIVING17 = Task(
    name="living17",
    architecture=resnet18,
    train=Recipe(
        epochs=25,
        batch_size=1024,
        lr=0.6,
        peak_epoch=12,
        label_smoothing=0.1,
        undecayed_norm=True,
        mixed_precision=True,
    ),
    load=load,
    download=download,
    forget_sets={name: partial(not_in_store, "living17", name) for name in PUBLISHED},
    published=Published(TRAIN_POINTS, "LIVING17", PUBLISHED),
    pack=1,
)
