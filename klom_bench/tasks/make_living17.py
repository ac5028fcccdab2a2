"""Living-17 from ImageNet: python -m klom_bench.tasks.make_living17 IMAGENET [FOLDER]

IMAGENET holds `train` and `val`, each with one folder of images for each of the 1,000 classes.
Writes the two tensor files that the task `living17` reads. Train points are the source half of
BREEDS' split (34 classes x 1,300 images), val points all 68 classes x 50: the counts of the
published files. Their order is not documented, so published forget sets and ensembles belong to
the published files, not to these.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from klom_bench.tasks.images import data_folder
from klom_bench.tasks.living17 import FILES

# Superclass: source half | target half, as ImageNet names them (Santurkar et al. 2021, Table 7).
SUPERCLASSES = """
salamander: eft, axolotl | common newt, spotted salamander
turtle: box turtle, leatherback turtle | loggerhead, mud turtle
lizard: whiptail, alligator lizard | African chameleon, banded gecko
snake: night snake, garter snake | sea snake, boa constrictor
spider: tarantula, black and gold garden spider | garden spider, wolf spider
grouse: ptarmigan, prairie chicken | ruffed grouse, black grouse
parrot: macaw, lorikeet | African grey, sulphur-crested cockatoo
crab: Dungeness crab, fiddler crab | rock crab, king crab
dog: bloodhound, Pekinese | Great Pyrenees, papillon
wolf: coyote, red wolf | white wolf, timber wolf
fox: grey fox, Arctic fox | red fox, kit fox
domestic cat: tiger cat, Egyptian cat | Persian cat, Siamese cat
bear: sloth bear, American black bear | ice bear, brown bear
beetle: dung beetle, rhinoceros beetle | ground beetle, long-horned beetle
butterfly: sulphur butterfly, admiral | cabbage butterfly, ringlet
ape: gibbon, orangutan | gorilla, chimpanzee
monkey: marmoset, titi | spider monkey, howler monkey
"""


def superclasses() -> list[tuple[list[str], list[str]]]:
    """Names of the classes in the source and the target half of each superclass."""
    halves = [line.split(": ")[1].split(" | ") for line in SUPERCLASSES.strip().splitlines()]
    return [(source.split(", "), target.split(", ")) for source, target in halves]


def class_folders(split: Path) -> dict[str, Path]:
    """ImageNet's class names (torchvision's) -> folders, which are sorted as the classes are."""
    from torchvision.models import ResNet18_Weights

    names = ResNet18_Weights.DEFAULT.meta["categories"]
    folders = sorted(p for p in split.iterdir() if p.is_dir())
    if len(folders) != len(names):
        raise SystemExit(f"{split} has {len(folders)} class folders, ImageNet has {len(names)}")
    return dict(zip(names, folders, strict=True))


def tensors(split: Path, size: int, resize: int, with_target: bool) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, 3, size, size], superclass by superclass, and labels int64 [n]."""
    from torchvision.datasets.folder import pil_loader
    from torchvision.transforms import v2

    crop = v2.Compose([v2.Resize(resize), v2.CenterCrop(size), v2.PILToTensor()])
    folders = class_folders(split)
    files = [
        (file, label)
        for label, (source, target) in enumerate(superclasses())
        for name in source + (target if with_target else [])
        for file in sorted(folders[name].iterdir())
    ]
    images = torch.empty((len(files), 3, size, size), dtype=torch.uint8)
    for i, (file, _) in enumerate(files):
        images[i] = crop(pil_loader(file))
        sys.stderr.write(f"\r{i + 1} of {len(files)} images of {split} ")
    sys.stderr.write("\n")
    return images, torch.tensor([label for _, label in files])


def main(imagenet: Path, folder: Path) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(imagenet / "train", 160, 182, with_target=False), folder / FILES[0])
    torch.save(tensors(imagenet / "val", 224, 256, with_target=True), folder / FILES[1])


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else data_folder() / "living17")
