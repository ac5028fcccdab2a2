"""`klom remove`, and what is said of ensembles that are stale."""

import re
import shlex

import pytest
from helpers.nets import CHANGES, CPU, oracles, originals, task

from klom_bench import cli
from klom_bench.errors import KlomWarning
from klom_bench.store.leases import CLAIMS, Claims
from klom_bench.store.manifest import Stale
from klom_bench.store.store import Store
from klom_bench.tasks.ensemble_id import EnsembleId


def test_verify_and_list_tell(root, capsys, monkeypatch):
    changed = CHANGES["activation"][0]
    with pytest.warns(KlomWarning):
        Store(root, stale="retrain").complete([(oracles(changed), 2)], CPU)
    monkeypatch.setitem(__import__("klom_bench.tasks").tasks.BUILT_IN, "own", changed)
    assert cli.main(["verify", "--store", str(root)]) == 1
    told = capsys.readouterr().out
    assert "PROBLEM own: originals" in told
    assert "GELU" in told
    assert "ok      own: oracles of first_ten" in told
    assert "2 ensembles, 1 with problems" in told
    assert cli.main(["list", "--store", str(root)]) == 0
    assert "moved aside, stale" in capsys.readouterr().out


def folders(root):
    return sorted(p.parent.relative_to(root).as_posix() for p in root.rglob("manifest.json"))


def run_remove(root, *args):
    return cli.main(["remove", *args, "--store", str(root)])


def test_remove_takes_what_was_trained_here(root, capsys):
    with pytest.warns(KlomWarning):
        Store(root, stale="retrain").complete([(originals(CHANGES["labels"][0]), 2)], CPU)
    Store(root).complete([(EnsembleId(task(), "original", 7), 2)], CPU)
    assert run_remove(root, "own", "--forget-set", "first_ten", "--yes") == 0
    assert folders(root) == ["full_models/OWN", "seed_7/full_models/OWN", "stale/1/full_models/OWN"]
    assert run_remove(root, "own", "--seed", "7", "--yes") == 0
    assert folders(root) == ["full_models/OWN", "stale/1/full_models/OWN"]
    assert run_remove(root, "own", "--yes") == 0
    assert folders(root) == []
    out = capsys.readouterr().out
    assert "oracles/OWN/first_ten  3 members" in out
    assert run_remove(root, "own", "--yes") == 1


def test_remove_asks_and_leaves_everything_else(root, capsys):
    published = root / "full_models" / "DIGITS"
    published.mkdir()
    (published / "sd_0____epoch_19.pt").write_bytes(b"published")
    assert run_remove(root, "own") == 1
    assert "nothing was removed: say --yes" in capsys.readouterr().err
    assert len(folders(root)) == 2
    assert run_remove(root, "digits", "--yes") == 1
    assert "nothing of digits that was trained here" in capsys.readouterr().err
    assert run_remove(root, "own", "--forget-set", "first_te", "--yes") == 1
    assert "did you mean first_ten" in capsys.readouterr().err
    assert run_remove(root, "own", "--yes") == 0
    assert [p.name for p in root.rglob("*.pt")] == ["sd_0____epoch_19.pt"]


def test_remove_takes_what_cannot_be_read(root):
    (root / originals(task()).folder / "manifest.json").write_text("{")
    assert run_remove(root, "own", "--yes") == 0
    assert folders(root) == []


def test_remove_waits_for_no_run(root, capsys):
    with Claims().take(root / originals(task()).folder / CLAIMS / "pack_0"):
        assert run_remove(root, "own", "--yes") == 1
    assert "another run is training into" in capsys.readouterr().err
    assert len(folders(root)) == 2


def test_the_command_that_is_named_removes_what_is_stale_and_nothing_else(root):
    Store(root).complete([(EnsembleId(task(), "original", 7), 2)], CPU)
    changed = CHANGES["activation"][0]
    before = folders(root)
    for ensemble in (EnsembleId(changed, "original", 7), oracles(changed)):
        with pytest.raises(Stale) as error:
            Store(root).complete([(ensemble, 2)], CPU)
        command = re.search("`klom (remove .*?)`", str(error.value))[1]
        assert cli.main([*shlex.split(command), "--yes"]) == 0
        before.remove(ensemble.folder.as_posix())
        assert folders(root) == before


def test_remove_deletes_nothing_outside_the_store(root, tmp_path, capsys):
    folder = root / originals(task()).folder
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert run_remove(root, "own", "--originals", "--yes") == 1
    assert "nothing outside the store is removed" in capsys.readouterr().err
    assert (tmp_path / "elsewhere" / "manifest.json").exists()
