"""Stores into which machines have trained apart."""

import json
import shutil

import numpy as np
import pytest
from helpers.nets import CPU, oracles, originals, task

from klom_bench import cli
from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError
from klom_bench.store.manifest import Stale
from klom_bench.store.merge import merge
from klom_bench.store.store import Store

FILES = ("members/{}.json", "sd_{}_*", "{}__*")


def only(root, target, members):
    """A copy of a store in which these members alone are there."""
    shutil.copytree(root, target)
    for folder in (path.parent for path in target.rglob("manifest.json")):
        for i in {0, 1, 2} - set(members):
            for pattern in FILES:
                for path in folder.glob(pattern.format(i)):
                    path.unlink()
    return target


def files(root):
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".claims" not in path.parts
    }


@pytest.mark.parametrize(
    ("a", "b"), [([0, 1], [2]), ([0, 1], [1, 2]), ([0, 1, 2], [1]), ([], [0, 1, 2])]
)
def test_disjoint_and_overlapping_stores(root, tmp_path, capsys, a, b):
    one, two = only(root, tmp_path / "one", a), only(root, tmp_path / "two", b)
    before = files(one), files(two)
    assert cli.main(["merge", str(one), str(two), "--store", str(tmp_path / "all")]) == 0
    assert f"6 members were added to {tmp_path / 'all'}" in capsys.readouterr().out
    assert files(tmp_path / "all") == files(root)
    assert (files(one), files(two)) == before
    assert cli.main(["merge", str(one), str(two), "--store", str(tmp_path / "all")]) == 0
    assert capsys.readouterr().out.startswith("0 members were added")
    held = Store(tmp_path / "all", "error").complete([(oracles(task()), 3)], CPU)[0]
    assert np.array_equal(held.margins(3, CPU), Store(root).held(oracles(task())).margins(3, CPU))


def test_into_one_of_them(root, tmp_path):
    one, two = only(root, tmp_path / "one", [0]), only(root, tmp_path / "two", [1, 2])
    assert merge([one, two], one) == {"full_models/OWN": 2, "oracles/OWN/first_ten": 2}
    assert files(one) == files(root)


def test_copying_the_folders_does_the_same(root, tmp_path):
    one, two = only(root, tmp_path / "one", [0, 2]), only(root, tmp_path / "two", [1])
    shutil.copytree(two, one, dirs_exist_ok=True)
    assert files(one) == files(root)


def test_what_contradicts_is_named_and_nothing_is_copied(root, tmp_path):
    one, two = only(root, tmp_path / "one", [0]), only(root, tmp_path / "two", [0, 1])
    path = next(two.rglob("full_models/*/members/0.json"))
    member = json.loads(path.read_text())
    member["files"] = dict.fromkeys(member["files"], "0" * 64)
    path.write_text(json.dumps(member))
    with pytest.raises(
        KlomError, match=r"disagree: member 0 of full_models/\w+ in .*one and in .*two"
    ):
        merge([one, two], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_different_ensembles_are_told_apart(root, tmp_path):
    other = tmp_path / "other"
    changed = task(recipe=Recipe(epochs=2, batch_size=32, lr=0.05))
    Store(other).complete([(originals(changed), 1)], CPU)
    with pytest.raises(KlomError, match="are different ensembles: recipe differs"):
        merge([root, other], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_models_that_differ_by_rounding_are_the_same(root, tmp_path):
    one, two = only(root, tmp_path / "one", [0]), only(root, tmp_path / "two", [1])
    for path in two.rglob("manifest.json"):
        content = json.loads(path.read_text())
        rows = content["identity"]["model"]["logits"]
        content["identity"]["model"]["logits"] = [[v * (1 + 1e-7) for v in row] for row in rows]
        path.write_text(json.dumps(content))
    assert sum(merge([one, two], tmp_path / "all").values()) == 4


def test_damaged_files_are_not_copied_and_what_was_copied_is_kept(root, tmp_path):
    one = only(root, tmp_path / "one", [0, 1, 2])
    path = next(one.rglob("oracles/*/*/sd_1_*"))
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + b"x")
    with pytest.raises(KlomError, match=r"sd_1_.*its checksum differs"):
        merge([one], tmp_path / "all")
    held = Store(tmp_path / "all").held(oracles(task()))
    assert held.members == [0]
    path.write_bytes(sound)
    assert sum(merge([one], tmp_path / "all").values()) == 2
    assert files(tmp_path / "all") == files(root)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json cannot be read"),
        (lambda f: (f / "members/0.json").write_text("{"), "0.json cannot be read"),
        (lambda f: shutil.rmtree(f.parents[1]), "there is no store"),
        (
            lambda f: [p.unlink() for p in f.parents[1].rglob("manifest.json")],
            "nothing that was trained",
        ),
    ],
)
def test_what_cannot_be_read(root, tmp_path, capsys, harm, message):
    one = only(root, tmp_path / "one", [0])
    harm(next(one.rglob("full_models/*")))
    assert cli.main(["merge", str(one), "--store", str(tmp_path / "all")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "all").exists()


def test_a_published_ensemble_is_never_written_into(root, tmp_path):
    target = only(root, tmp_path / "all", [0])
    for path in [
        *target.rglob("manifest.json"),
        *target.rglob("members"),
        *target.rglob(".claims"),
    ]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = files(target)
    with pytest.raises(KlomError, match="is published, and never written into"):
        merge([root], target)
    assert files(target) == before


def test_a_member_that_names_too_few_files_is_not_spread(root, tmp_path):
    path = next(root.rglob("members/1.json"))
    member = json.loads(path.read_text())
    member["files"].popitem()
    path.write_text(json.dumps(member))
    with pytest.raises(KlomError, match=r"1.json cannot be read \(it lacks a file"):
        merge([root], tmp_path / "all")


def test_a_folder_that_was_copied_without_its_manifest_is_no_published_one(root):
    (root / originals(task()).folder / "manifest.json").unlink()
    with pytest.raises(KlomError, match=r"has lost its manifest.json, or is not copied whole"):
        Store(root).complete([(originals(task()), 3)], CPU)


def test_a_file_of_a_run_that_was_killed_is_named(root, tmp_path):
    target = only(root, tmp_path / "all", [])
    path = next(target.rglob("full_models/*")) / next(root.rglob("full_models/*/sd_0_*")).name
    path.write_bytes(b"other weights")
    with pytest.raises(KlomError, match=r"sd_0_.* has not ended, or was killed"):
        merge([root], target)
    assert path.read_bytes() == b"other weights"


def test_the_target_is_still_what_is_asked_for(root, tmp_path):
    merge([root], tmp_path / "all")
    with pytest.raises(Stale):
        Store(tmp_path / "all", "error").complete(
            [(originals(task(recipe=Recipe(epochs=2, batch_size=32, lr=0.05))), 1)], CPU
        )
