"""CIFAR-10 and Living-17: their data from files as they are distributed, their forget sets."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.models import ResNet18_Weights
from torchvision.transforms.functional import normalize

from klom_bench.errors import KlomError
from klom_bench.published.forget_sets import stored
from klom_bench.tasks import BUILT_IN, cifar10, living17, make_living17

SHARED = Path(__file__).parents[3] / "shared" / "data" / "forget_set_indices"


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KLOM_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def cifar_files(data_folder, monkeypatch):
    """cifar-10-batches-py with 20 train and 10 val images; torchvision is told their checksums."""
    folder = data_folder / "cifar-10-batches-py"
    folder.mkdir()
    rng, sums, pixels = np.random.default_rng(0), {}, {}
    for name, count in [*((f"data_batch_{i}", 4) for i in range(1, 6)), ("test_batch", 10)]:
        pixels[name] = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        entry = {"data": pixels[name], "labels": [i % 10 for i in range(count)]}
        content = pickle.dumps(entry)
        (folder / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    meta = pickle.dumps({"label_names": [str(i) for i in range(10)]})
    (folder / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(CIFAR10, "train_list", [[n, s] for n, s in sums.items() if "data" in n])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": hashlib.md5(meta).hexdigest()})
    return pixels


def test_cifar10_is_uint8_until_a_model_sees_it(cifar_files):
    data = cifar10.load()
    whole = np.concatenate([cifar_files[f"data_batch_{i}"] for i in range(1, 6)])
    assert data.x_train.dtype == torch.uint8
    assert np.array_equal(data.x_train.numpy().reshape(20, -1), whole)  # torchvision's own order
    assert data.y_train.tolist() == 5 * [0, 1, 2, 3]
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    expected = torch.stack([normalize(x / 255, mean, std) for x in data.x_train])
    torch.testing.assert_close(data.prepare(data.x_train), expected)
    batch, y = next(data.points(np.arange(20), [torch.Generator()]).batches(20))
    assert batch.shape == (1, 20, 3, 32, 32)
    (x,) = batch
    torch.testing.assert_close(
        x[y[0].argsort(stable=True)].sum(), expected.sum(), rtol=1e-4, atol=1e-2
    )


def test_cifar10_s_hash_names_its_content(cifar_files, data_folder, monkeypatch):
    before = cifar10.load().sha256
    assert cifar10.load().sha256 == before
    file = data_folder / "cifar-10-batches-py" / "test_batch"
    content = pickle.loads(file.read_bytes())
    content["labels"][0] = 9
    file.write_bytes(pickle.dumps(content))
    with pytest.raises(KlomError, match=r"is not in .*, or not whole: `klom download cifar10"):
        cifar10.load()  # torchvision checks it
    new = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", new]])
    assert cifar10.load().sha256 != before


def test_cifar10_that_is_not_there_is_an_error_with_the_command(data_folder):
    with pytest.raises(KlomError, match="klom download cifar10 --data"):
        cifar10.load()


def write_living17(folder, train=44_200, val=3_400, channels_last=False):
    (folder / "living17").mkdir(exist_ok=True)
    for name, count, size in zip(living17.FILES, (train, val), (2, 3), strict=True):
        images = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
        if channels_last:
            images = images.permute(0, 2, 3, 1)
        torch.save((images, torch.arange(count) % 17), folder / "living17" / name)


@pytest.mark.parametrize("channels_last", [False, True])
def test_living17_from_the_published_tensors(data_folder, channels_last):
    write_living17(data_folder, channels_last=channels_last)
    data = living17.load()
    assert data.x_train.shape == (44_200, 3, 2, 2)
    assert data.x_val.shape == (3_400, 3, 3, 3)  # train and val images differ in size
    assert data.x_train.dtype == torch.uint8
    assert int(data.y().max()) == 16


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.unlink(), "Living-17 is not in"),
        (lambda f: f.write_bytes(f.read_bytes()[:1000]), "is not a pair"),
        (lambda f: torch.save(torch.zeros(3), f), "is not a pair|uint8"),
        (lambda f: torch.save((torch.zeros(4, 3, 2, 2), torch.zeros(4)), f), "uint8"),
        (
            lambda f: torch.save(
                (torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 2, 17])), f
            ),
            "labels beyond 0..16",
        ),
        (
            lambda f: torch.save(
                (torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 2, 3])), f
            ),
            "holds 4 points, Living-17 has 44200",
        ),
    ],
)
def test_living17_files_that_are_something_else(data_folder, spoil, message):
    write_living17(data_folder)
    spoil(data_folder / "living17" / living17.FILES[0])
    with pytest.raises(KlomError, match=message):
        living17.load()


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_living17_runs_no_code(data_folder):
    write_living17(data_folder)
    torch.save((Evil(), 0), data_folder / "living17" / living17.FILES[1])
    with pytest.raises(KlomError, match="is not a pair"):
        living17.load()


def test_living17_from_imagenet(tmp_path):
    """A made-up ImageNet of 1,000 class folders, two images in those that are needed."""
    names = ResNet18_Weights.DEFAULT.meta["categories"]
    wanted = {name for halves in make_living17.superclasses() for half in halves for name in half}
    assert len(wanted) == 68
    assert len(make_living17.superclasses()) == 17
    for split in ("train", "val"):
        for i, name in enumerate(names):
            folder = tmp_path / split / f"n{i:08d}"
            folder.mkdir(parents=True)
            for k in range(2 * (name in wanted)):
                Image.new("RGB", (40, 30), 3 * (i // 4,)).save(folder / f"{k}.JPEG")
    make_living17.main(tmp_path, tmp_path / "out")
    x, y = living17.read(tmp_path / "out" / living17.FILES[0])
    assert x.shape == (68, 3, 160, 160)  # two images of each of 34 source classes
    assert y.bincount().tolist() == 17 * [4]
    assert int(x[0].float().mean().round()) == names.index("eft") // 4
    x, y = living17.read(tmp_path / "out" / living17.FILES[1])
    assert x.shape == (136, 3, 224, 224)
    assert y.bincount().tolist() == 17 * [8]


def test_forget_sets_1_to_3_are_the_published_ones():
    """Made from the published seeds; the checksums were taken of the published files."""
    task = BUILT_IN["cifar10"]
    for name in ("forget_set_1", "forget_set_2", "forget_set_3"):
        found = task.forget_set(name)
        assert (len(found), found.sha256) == task.published.forget_sets[name]


@pytest.mark.parametrize("name", ["cifar10", "cifar10_augmented", "living17"])
def test_published_files_are_what_the_tasks_say(name, tmp_path):
    task = BUILT_IN[name]
    if not SHARED.exists():
        pytest.skip("the published forget sets are not beside this checkout")
    (tmp_path / "forget_set_indices").symlink_to(SHARED)
    there = stored(task, tmp_path)
    assert list(there.forget_sets) == list(task.published.forget_sets)
    for set_name in there.forget_sets:
        assert len(there.forget_set(set_name)) == task.size(set_name)


def test_a_published_set_that_is_not_here_says_how_to_get_it(tmp_path):
    with pytest.raises(KlomError, match="klom download cifar10 --forget-set 4"):
        stored(BUILT_IN["cifar10"], tmp_path).forget_set("forget_set_4")


@pytest.mark.parametrize("folder", ["forget_set_indices/CIFAR10", "forget_sets/cifar10"])
@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (np.arange(10), r"other indices \(10\) than forget_set_4 of cifar10 has \(10\)"),
        (np.array([3, 60_000]), "does it belong to another dataset"),
        (np.array([0.5]), "must be a list of integer indices"),
        (np.array([{}]), "could run code"),
    ],
)
def test_a_file_with_other_indices_is_refused(tmp_path, folder, indices, message):
    (tmp_path / folder).mkdir(parents=True)
    np.save(tmp_path / folder / "forget_set_4.npy", indices, allow_pickle=True)
    with pytest.raises(KlomError, match=message):
        stored(BUILT_IN["cifar10"], tmp_path).forget_set("forget_set_4")


def test_a_set_that_only_the_store_has_is_one_more(tmp_path):
    (tmp_path / "forget_set_indices/CIFAR10").mkdir(parents=True)
    np.save(tmp_path / "forget_set_indices/CIFAR10/forget_set_11.npy", np.array([7, 3]))
    task = stored(BUILT_IN["cifar10"], tmp_path)
    assert task.forget_set("forget_set_11").indices.tolist() == [3, 7]
