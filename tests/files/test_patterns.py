"""Which file is which member."""

import pytest

from klom_bench.errors import KlomError
from klom_bench.files.patterns import find


def touched(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "run_{member}/model.pt",
        "model{member}.safetensors",
        "sd_{member}____epoch_23.pt",
        "resnet18/seed={member}/last.ckpt",
        "seed_{member}/model_{member}.pth",
        "2024-05-01/{member}.bin",
    ],
)
def test_usual_names_are_guessed(tmp_path, name):
    names = [name.replace("{member}", str(i)) for i in range(12)]
    found = find(touched(tmp_path, *names, "notes.txt", "best.pt"), None)
    assert found.pattern == name
    assert found.files == {i: tmp_path / names[i] for i in range(12)}
    assert found.others == ("best.pt",)


def test_what_a_pattern_leaves_aside_is_said(tmp_path):
    names = [f"m{i}_epoch_{e}.pt" for i in range(3) for e in (1, 20)]
    touched(tmp_path, *names)
    with pytest.raises(
        KlomError, match=r"several kinds of 3 files: say which, --pattern '.*epoch_1"
    ):
        find(tmp_path, None)
    assert list(find(tmp_path, "m{member}_epoch_20.pt").files) == [0, 1, 2]
    with pytest.raises(KlomError, match=r"m0_epoch_1.pt and m0_epoch_20.pt are both of member 0"):
        find(tmp_path, "m{member}_*.pt")


def test_epochs_of_one_model_are_no_members(tmp_path):
    touched(tmp_path, *(f"checkpoint_epoch_{e}.pt" for e in range(5)))
    with pytest.raises(KlomError, match="no numbered checkpoints"):
        find(tmp_path, None)


@pytest.mark.parametrize(
    ("names", "pattern", "message"),
    [
        (["a_1.pt", "a_01.pt"], None, r"a_01.pt and a_1.pt are both of member 1"),
        (["a_0.pt", "a_0.safetensors"], "a_{member}.*", r"are both of member 0: move one away"),
        (["a_0.pt", "a_1.pt", "a_4.pt"], None, r"no file 'a_\{member\}.pt' of members 2 to 3"),
        (["a_0.pt", "a_1.pt"], "b_{member}.pt", r"is named like .*; there are a_0.pt, a_1.pt"),
        (["a_0.pt", "a_1.pt"], "a_0.pt", r"does not say where the number of a member stands"),
        (["a_0.pt", "a_1.pt"], "/a_{member}.pt", r"does not say where"),
        (["a.txt"], None, r"no numbered checkpoints .* none at all"),
        (["a_0.pt", "a_1.pt", "b_0.pt", "b_1.pt"], None, r"several kinds of 2 files"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path, names, pattern, message):
    with pytest.raises(KlomError, match=message):
        find(touched(tmp_path, *names), pattern)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(KlomError, match="is not there"):
        find(tmp_path / "nowhere", None)
    with pytest.raises(KlomError, match="is a file: name the folder"):
        find(touched(tmp_path, "a_0.pt") / "a_0.pt", None)


def test_links_count_and_end(tmp_path):
    touched(tmp_path, *(f"elsewhere/{i}/model.pt" for i in range(3)))
    runs = tmp_path / "runs"
    runs.mkdir()
    for i in range(3):
        (runs / f"run_{i}").symlink_to(tmp_path / "elsewhere" / str(i))
    (runs / "itself").symlink_to(runs)
    assert list(find(runs, "run_{member}/model.pt").files) == [0, 1, 2]
