"""Stores of before members had files of their own: all were listed in manifest.json."""

import json
import shutil
from contextlib import suppress

import numpy as np
import pytest
from helpers.nets import CPU, oracles, originals, task

from klom_bench import cli
from klom_bench.errors import KlomError
from klom_bench.store.store import Store


def files(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def older(root):
    """As an earlier version has left it: three whole members, and the weights of a fourth."""
    for path in root.rglob("manifest.json"):
        content, members = json.loads(path.read_text()), path.parent / "members"
        listed = {file.stem: json.loads(file.read_text()) for file in members.iterdir()}
        content |= {"members": listed, "trained": {"9": {"file": "0", "seconds": 1}}}
        path.write_text(json.dumps(content))
        shutil.rmtree(members)
        shutil.rmtree(path.parent / ".claims", ignore_errors=True)
    return root


def test_it_is_read_as_it_is(older, trained, capsys):
    before = files(older)
    wanted = [(originals(task()), 3), (oracles(task()), 3)]
    held = Store(older).complete(wanted, CPU)
    now = Store(trained).complete(wanted, CPU)
    for one, other in zip(held, now, strict=True):
        assert np.array_equal(one.margins(3, CPU), other.margins(3, CPU))
        assert one.accuracy(3) == other.accuracy(3)
        assert one.seconds == other.seconds
    assert cli.main(["list", "--json", "--store", str(older)]) == 0
    store = json.loads(capsys.readouterr().out)
    assert sorted(e["members"] for e in store["ensembles"]) == [3, 3]
    assert files(older) == before


def test_what_it_lists_is_migrated_when_it_grows(older, trained):
    margins = Store(older).held(originals(task())).margins(3, CPU)
    Store(older).complete([(originals(task()), 5)], CPU)
    folder = older / originals(task()).folder
    assert list(json.loads((folder / "manifest.json").read_text())) == ["identity"]
    assert sorted(p.name for p in (folder / "members").iterdir()) == [f"{i}.json" for i in range(5)]
    for i in range(3):
        name = originals(task()).folder / "members" / f"{i}.json"
        assert (older / name).read_bytes() == (trained / name).read_bytes()
    assert np.array_equal(Store(older).held(originals(task())).margins(5, CPU)[:3], margins)
    untouched = json.loads((older / oracles(task()).folder / "manifest.json").read_text())
    assert len(untouched["members"]) == 3


def test_a_kill_in_the_middle_of_that_loses_nothing(older):
    """Some members have files of their own already, and are listed still."""
    ensemble = originals(task())
    margins = Store(older).held(ensemble).margins(3, CPU)
    folder = older / ensemble.folder
    with (folder / "manifest.json").open() as file:
        listed = json.load(file)["members"]
    (folder / "members").mkdir()
    (folder / "members" / "1.json").write_text(json.dumps(listed["1"]))
    assert Store(older).held(ensemble).members == [0, 1, 2]
    Store(older).complete([(ensemble, 4)], CPU)
    assert np.array_equal(Store(older).held(ensemble).margins(4, CPU)[:3], margins)


def test_a_listed_member_that_lacks_a_file_is_named(older):
    """A listed member lacks a file: said of manifest.json, where it is listed."""
    path = older / originals(task()).folder / "manifest.json"
    content = json.loads(path.read_text())
    content["members"]["1"]["files"].popitem()
    path.write_text(json.dumps(content))
    with pytest.raises(KlomError, match=r"manifest.json cannot be read \(member 1 lacks a file"):
        Store(older).held(originals(task()))
    with suppress(KlomError):
        Store(older).complete([(originals(task()), 4)], CPU)
    assert json.loads(path.read_text()) == content
