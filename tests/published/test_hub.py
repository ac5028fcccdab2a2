"""What is fetched from a repository, and what is not."""

import threading
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch
from helpers.hub_server import COMMIT, REPO
from helpers.repository import DIGITS, FORGET, names

from klom_bench.files.atomic import array_bytes
from klom_bench.published.hub import Hub, needed
from klom_bench.published.layouts import families, places
from klom_bench.store.store import Store
from klom_bench.tasks import BUILT_IN, cifar10
from klom_bench.tasks.ensemble_id import EnsembleId

CPU = torch.device("cpu")


def test_a_folder_as_it_is(hub, run_klom, tmp_path):
    code, _, err = run_klom("download", "oracles/DIGITS/forget_set_3")
    assert code == 0, err
    wanted = [p for p in hub.files if p.startswith("oracles/")]
    assert names(tmp_path / "store") == sorted(wanted)
    assert all((tmp_path / "store" / p).read_bytes() == hub.files[p] for p in wanted)
    assert err == ""  # in a log, progress is told after half a minute


def test_a_single_file_and_one_that_git_keeps(hub, run_klom, tmp_path):
    paths = ["README.md", "forget_set_indices/DIGITS/tiny.txt"]
    assert run_klom("download", *paths)[0] == 0
    assert names(tmp_path / "store") == paths


def test_many_files_come_in_pages(hub, run_klom, tmp_path):
    hub.files |= {f"many/{i}.bin": bytes([i]) * 100 for i in range(120)}
    assert run_klom("download", "many")[0] == 0
    assert len(names(tmp_path / "store")) == 120
    assert not [t for t in threading.enumerate() if "monitor" in t.name]


def test_only_what_is_needed_of_an_ensemble(hub, run_klom, tmp_path):
    """Two of three members, their last epoch; oracles need no checkpoints where logits are."""
    code, _, err = run_klom("download", "digits", "--forget-set", "3", "--models", "2")
    assert code == 0, err
    expected = []
    for folder in ("full_models/DIGITS", "oracles/DIGITS/forget_set_3"):
        for i in (0, 1):
            expected += [f"{folder}/train_logits_{i}.pt", f"{folder}/{i}__val_margins_19.npy"]
    expected += [f"full_models/DIGITS/sd_{i}____epoch_19.pt" for i in (0, 1)]
    assert names(tmp_path / "store") == sorted(expected)
    store = Store(tmp_path / "store", "error")
    oracles = EnsembleId(BUILT_IN["digits"], "oracle", 0, FORGET)
    assert store.held(oracles).members == [0, 1]
    assert store.held(oracles).margins(2, CPU).shape == (2, 1797)


def needed_of(role, files, count=3, forget_set=FORGET):
    ensemble = EnsembleId(DIGITS, role, 0, forget_set if role == "oracle" else None)
    (place, *_) = places(ensemble)
    (family,) = families(ensemble, [(place, f"{place.folder}/{n}", s) for n, s in files.items()])
    return {path.rpartition("/")[2] for path in needed(family, count)}


ROW, VAL = 4 * 1438, 4 * 359


def test_retain_only_files_do_not_stand_for_all_points():
    """Their size tells: checkpoints are needed then."""
    files = {"train_margins_all.pt": 3 * 4 * 1338 + 1200, "val_margins_all.pt": 3 * VAL + 1200}
    files |= {f"sd_{i}____epoch_19.pt": 40_000 for i in range(3)}
    assert needed_of("oracle", files) >= {f"sd_{i}____epoch_19.pt" for i in range(3)}


def test_members_that_are_not_whole_are_passed_over():
    files = {f"sd_{i}____epoch_19.pt": 40_000 for i in (0, 2, 3, 4)} | {"val_logits_1.pt": 10 * VAL}
    assert needed_of("oracle", files) == {f"sd_{i}____epoch_19.pt" for i in (0, 2, 3)}


def test_a_file_of_fewer_members_is_not_enough():
    files = {"train_margins_all.pt": 2 * ROW + 1300, "val_margins_all.pt": 2 * VAL + 1300}
    files |= {f"sd_{i}____epoch_19.pt": 40_000 for i in range(3)}
    assert needed_of("oracle", files) == {
        "train_margins_all.pt",
        "val_margins_all.pt",
        "sd_2____epoch_19.pt",
    }


def test_margins_of_all_are_enough_for_oracles():
    files = {"train_margins_all.pt": 5 * ROW + 1200, "val_margins_all.pt": 5 * VAL + 1200}
    files |= {f"sd_{i}____epoch_19.pt": 40_000 for i in range(5)}
    arrays = {"train_margins_all.pt", "val_margins_all.pt"}
    assert needed_of("oracle", files) == arrays
    assert needed_of("original", files, 2) == arrays | {f"sd_{i}____epoch_19.pt" for i in (0, 1)}


def test_what_is_there_is_not_fetched_again(hub, run_klom):
    run_klom("download", "oracles/DIGITS/forget_set_3")
    hub.requests.clear()
    assert run_klom("download", "oracles/DIGITS/forget_set_3")[0] == 0
    assert not [r for r in hub.requests if "/resolve/" in r[1]]


def test_a_file_that_vanishes_is_a_404(hub, run_klom):
    path = "full_models/DIGITS/train_logits_0.pt"
    hub.faults[path] = ["404"] * 20
    code, _, err = run_klom("download", path)
    assert code == 1
    assert f"{path} of {REPO} is not there (404)" in err


def test_a_folder_that_is_not_there_says_what_is(hub, run_klom):
    code, _, err = run_klom("download", "oracles/DIGITS/forget_set_33")
    assert code == 1
    assert f"{REPO} has no oracles/DIGITS/forget_set_33: oracles/DIGITS has forget_set_3" in err


def test_a_forget_set_without_oracles(hub, run_klom):
    code, _, err = run_klom("download", "digits", "--forget-set", "4")
    assert code == 1
    assert f"{REPO} has no oracles of forget_set_4: train them instead" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--repo", "nobody/nothing"], "there is no dataset nobody/nothing, or it is private"),
        (["--revision", "v9"], f"{REPO} has no revision 'v9'"),
    ],
)
def test_a_repository_or_revision_that_is_not_there(hub, run_klom, args, message):
    code, _, err = run_klom("download", "full_models/DIGITS", *args)
    assert code == 1
    assert message in err


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_a_revision_can_be_pinned(hub, run_klom, revision):
    assert run_klom("download", "README.md", "--revision", revision)[0] == 0
    assert any(f"/resolve/{revision}/README.md" in r[1] for r in hub.requests)


def test_a_revision_can_be_pinned_by_the_variable(hub, run_klom, monkeypatch):
    monkeypatch.setenv("KLOM_REPO", f"{REPO}@v1")
    assert Hub.default() == Hub(REPO, "v1")
    assert run_klom("download", "README.md")[0] == 0
    assert any("/resolve/v1/README.md" in r[1] for r in hub.requests)


def test_a_token_opens_a_private_repository(hub, run_klom, monkeypatch):
    hub.private = True
    code, _, err = run_klom("download", "README.md")
    assert code == 1
    assert "or it is private (then set HF_TOKEN)" in err
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert run_klom("download", "README.md")[0] == 0
    assert "Bearer hf_secret" in hub.tokens


def test_an_ensemble_trained_here_is_never_downloaded_over(hub, run_klom, tmp_path):
    folder = tmp_path / "store/full_models/DIGITS"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    code, _, err = run_klom("download", "full_models/DIGITS")
    assert code == 1
    assert "holds an ensemble that was trained here" in err


def test_a_task_that_is_not_published(run_klom):
    code, _, err = run_klom("download", "digits")
    assert code == 1
    assert "digits is not published: `klom train digits` trains it" in err


def test_the_published_forget_sets_come_along(hub, tmp_path, monkeypatch, run_klom):
    """Of CIFAR-10, whose set 4 cannot be made here: its indices come first, and are checked."""
    indices = np.arange(10)
    hub.files["forget_sets/cifar10/forget_set_4.npy"] = array_bytes(indices)
    code, _, err = run_klom("download", "cifar10", "--forget-set", "4")
    assert code == 1
    assert "holds other indices (10) than forget_set_4 of cifar10 has" in err
    known = replace(
        cifar10.CIFAR10_TASK.published,
        forget_sets={"forget_set_4": (10, sha256(indices.astype("<i8").tobytes()).hexdigest())},
    )
    monkeypatch.setitem(BUILT_IN, "cifar10", replace(BUILT_IN["cifar10"], published=known))
    code, _, err = run_klom("download", "cifar10", "--forget-set", "4")
    assert f"{REPO} has no originals of cifar10" in err
    assert (tmp_path / "store/forget_sets/cifar10/forget_set_4.npy").exists()


def test_pytest_downloads_when_asked(hub, project):
    result = project(
        "--klom-method=ga",
        "--klom-forget-set=3",
        "--klom-models=3",
        "--klom-store=store",
        "--klom-missing=error",
    )
    result.stdout.fnmatch_lines(
        ["*`klom download digits --forget-set forget_set_3 --models 3` gets the published ones*"]
    )
    result = project(
        "--klom-method=ga",
        "--klom-forget-set=3",
        "--klom-models=3",
        "--klom-store=store",
        "--klom-missing=download",
    )
    result.assert_outcomes(passed=1)
