"""Downloads from a local server with the hub's interface, whole, broken, wrong and missing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from hub_server import COMMIT, REPO, Handler, HubServer

from klom_bench import cli
from klom_bench.ensemble.ensemble import initial_state
from klom_bench.files.atomic import array_bytes, state_bytes
from klom_bench.metrics.margins import margins
from klom_bench.published.hub import Hub, needed
from klom_bench.published.layouts import families, places
from klom_bench.store.store import Store
from klom_bench.tasks import BUILT_IN, cifar10
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.task import Published

DIGITS = BUILT_IN["digits"]
FORGET = DIGITS.forget_set("forget_set_3")

CPU = torch.device("cpu")


def repository():
    """Three originals and three oracles of digits, in the data card's layout, and more beside."""
    rng, files = np.random.default_rng(0), {"README.md": b"# models\n"}
    usual = rng.normal(0, 3, (1797, 10))  # what all models have in common
    for folder, first in (("full_models/DIGITS", 0), ("oracles/DIGITS/forget_set_3", 10)):
        for i in range(3):
            state = initial_state(DIGITS.architecture, first + i)
            files[f"{folder}/sd_{i}____epoch_19.pt"] = state_bytes(state)
            files[f"{folder}/sd_{i}____epoch_10.pt"] = b"an earlier epoch" * 10
            logits = torch.tensor(usual + rng.normal(size=usual.shape), dtype=torch.float32)
            for part, rows in (("train", slice(1438)), ("val", slice(1438, None))):
                files[f"{folder}/{part}_logits_{i}.pt"] = state_bytes(logits[rows].clone())
            val = margins(logits, DIGITS.data.y())[1438:].numpy()
            files[f"{folder}/{i}__val_margins_19.npy"] = array_bytes(val)
    files["forget_set_indices/DIGITS/forget_set_3.npy"] = array_bytes(FORGET.indices)
    files["forget_set_indices/DIGITS/tiny.txt"] = b"kept in git itself"
    return files


def set_endpoint(monkeypatch, url):
    """As HF_ENDPOINT does, which is read when huggingface_hub is imported."""
    constants = huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", url)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The server, which $KLOM_REPO and the endpoint point to; `digits` counts as published."""
    server = HubServer(repository())
    set_endpoint(monkeypatch, server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("KLOM_REPO", REPO)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    sets = {
        name: (DIGITS.size(name), DIGITS.forget_set(name).sha256) for name in DIGITS.forget_sets
    }
    published = replace(DIGITS, published=Published("DIGITS", sets))
    monkeypatch.setitem(BUILT_IN, "digits", published)
    yield server
    server.shutdown()


@pytest.fixture
def run_klom(tmp_path, capsys):
    def run(*args):
        code = cli.main([*args, "--store", str(tmp_path / "store")])
        return code, *capsys.readouterr()

    return run


def names(folder):
    return sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and ".cache" not in p.parts
    )


def test_a_folder_as_it_is(hub, run_klom, tmp_path):
    code, _, err = run_klom("download", "oracles/DIGITS/forget_set_3")
    assert code == 0, err
    wanted = [p for p in hub.files if p.startswith("oracles/")]
    assert names(tmp_path / "store") == sorted(wanted)
    assert all((tmp_path / "store" / p).read_bytes() == hub.files[p] for p in wanted)
    assert "downloading oracles/DIGITS/forget_set_3 (0." in err
    assert "MB): 15" in err


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


def test_a_broken_connection_is_taken_up_where_it_broke(hub, run_klom, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    path = "full_models/DIGITS/sd_0____epoch_19.pt"
    hub.faults[path] = ["break"]
    code, _, err = run_klom("download", path)
    assert code == 0, err
    assert ("RANGE", path) in hub.requests
    assert (tmp_path / "store" / path).read_bytes() == hub.files[path]


def test_a_connection_that_stays_broken_leaves_no_half_file(hub, run_klom, tmp_path, monkeypatch):
    path = "full_models/DIGITS/sd_0____epoch_19.pt"
    hub.faults[path] = ["break"] * 100
    monkeypatch.setattr(time, "sleep", lambda _: None)
    code, _, err = run_klom("download", "full_models/DIGITS")
    assert code == 1
    assert f"{path} of {REPO} could not be downloaded" in err
    assert "Run the same command again" in err
    assert not (tmp_path / "store" / path).exists()
    before = names(tmp_path / "store")
    hub.faults.clear()
    hub.requests.clear()
    assert run_klom("download", "full_models/DIGITS")[0] == 0
    assert all(hub.got(p) == 0 for p in before)  # files that came whole are kept
    assert (tmp_path / "store" / path).read_bytes() == hub.files[path]


@pytest.mark.parametrize("path", ["full_models/DIGITS/train_logits_0.pt", "README.md"])
def test_a_wrong_checksum_is_an_error_and_the_file_is_removed(hub, run_klom, tmp_path, path):
    hub.faults[path] = ["corrupt"]
    code, _, err = run_klom("download", path)
    assert code == 1
    assert f"{path} of {REPO} came with the wrong checksum and was removed" in err
    assert not (tmp_path / "store" / path).exists()
    assert run_klom("download", path)[0] == 0


def test_a_damaged_file_here_is_fetched_anew(hub, run_klom, tmp_path):
    path = "full_models/DIGITS/train_logits_0.pt"
    run_klom("download", path)
    file = tmp_path / "store" / path
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert run_klom("download", path)[0] == 0
    assert file.read_bytes() == hub.files[path]


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


def test_no_server_at_all(run_klom, monkeypatch):
    set_endpoint(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    code, _, err = run_klom("download", "oracles/CIFAR10/forget_set_3")
    assert code == 1
    assert "could not be downloaded" in err


def test_a_disk_that_is_too_small_is_known_before(hub, run_klom, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    code, _, err = run_klom("download", "full_models/DIGITS")
    assert code == 1
    assert "GB are to be downloaded, but" in err
    assert names(tmp_path / "store") == []


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


# Real processes, with the variables that huggingface_hub knows.


def command(hub, tmp_path, what="full_models/DIGITS", **more):
    env = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "KLOM_REPO": REPO,
        **more,
    }
    args = [sys.executable, "-m", "klom_bench.cli", "download", what]
    return [*args, "--store", str(tmp_path / "store")], env


def test_the_endpoint_is_that_of_the_variable(hub, tmp_path):
    args, env = command(hub, tmp_path)
    done = subprocess.run(args, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "all of it is in" in done.stdout
    assert len(names(tmp_path / "store")) == 15


def test_offline_mode_is_said(hub, tmp_path):
    args, env = command(hub, tmp_path, HF_HUB_OFFLINE="1")
    done = subprocess.run(args, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot be downloaded: HF_HUB_OFFLINE is set" in done.stderr
    assert not hub.requests


def test_a_full_disk_ends_with_the_reason(hub, tmp_path):
    """A real one of 200 kB; what came whole before stays."""
    small = tmp_path / "store"
    small.mkdir()
    args, env = command(hub, tmp_path)
    script = (
        f"mount -t tmpfs -o size=200k tmpfs {small} && {' '.join(args)}; s=$?; df {small}; exit $s"
    )
    # The check of free space beforehand is switched off: another process may fill a disk meanwhile.
    unchecked = tmp_path / "sitecustomize.py"
    unchecked.write_text(
        "import shutil\nreal = shutil.disk_usage\n"
        "shutil.disk_usage = lambda p: real(p)._replace(free=10**12)\n"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env={**env, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"a small disk cannot be made here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 1, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_ends_at_once_and_keeps_what_came_whole(hub, tmp_path, number, code):
    huge = "full_models/DIGITS/zz_huge.bin"
    hub.files[huge] = bytes(40_000_000)
    hub.faults[huge] = ["slow"]  # eight seconds of it
    args, env = command(hub, tmp_path)
    process = subprocess.Popen(args, env=env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(names(tmp_path / "store")) < 15 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "interrupted; what was finished is kept" in err
    assert len(names(tmp_path / "store")) == 15  # all but the huge one


HOSTILE = (
    "{victim}",
    "../victim.txt",
    "oracles/../../victim.txt",
    "oracles/./x",
    "oracles//x",
    "oracles/\x00",
    "oracles/\x1b[31mred",
    "oracles/a\nb",
    "..\\victim.txt",
    "C:\\victim.txt",
)


@pytest.mark.parametrize("path", HOSTILE)
@pytest.mark.parametrize("asked", ["oracles", "digits"])
def test_a_path_that_leaves_the_store_is_refused_before_anything_is_touched(
    hub, run_klom, tmp_path, monkeypatch, path, asked
):
    """What a mirror lists is not trusted: not by folder, and not by ensemble."""
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    listed = path.format(victim=victim)
    entry = {"type": "file", "path": listed, "size": 4, "oid": "0" * 40}
    tree = Handler.tree

    def with_one_more(self, folder):
        if folder.startswith("oracles"):
            self.answer(200, json.dumps([entry]).encode(), Content_Type="application/json")
        else:
            tree(self, folder)

    monkeypatch.setattr(Handler, "tree", with_one_more)
    code, out, err = run_klom("download", asked)
    assert code == 1
    assert "broken or hostile" in err
    assert repr(listed) in err
    assert victim.read_text() == "mine"
    assert out == ""
    if asked == "oracles":
        assert not (tmp_path / "store").exists()


def test_a_listed_path_that_is_no_text_is_refused(hub, run_klom, monkeypatch):
    monkeypatch.setattr(Hub, "_listed", lambda *_, **__: [SimpleNamespace(path=7, size=1)])
    assert "lists 7" in run_klom("download", "oracles")[2]


def parts(store):
    return list((store / ".cache").rglob("*.incomplete"))


def test_parts_of_files_that_a_killed_download_left_are_removed(hub, tmp_path):
    hub.files["big/x.bin"] = os.urandom(1_000_000) * 60
    hub.files["small.bin"] = b"1" * 1000
    hub.faults["big/x.bin"] = ["slow"]
    big, env = command(hub, tmp_path, what="big")
    small, _ = command(hub, tmp_path, what="small.bin")
    process = subprocess.Popen(big, env=env, stderr=subprocess.PIPE)
    store, deadline = tmp_path / "store", time.monotonic() + 60
    while not any(p.stat().st_size for p in parts(store)) and time.monotonic() < deadline:
        time.sleep(0.02)
    subprocess.run(small, env=env, check=True)
    assert len(parts(store)) == 1, "a download that is under way keeps its part"
    process.kill()
    process.communicate()
    assert len(parts(store)) == 1
    subprocess.run(small, env=env, check=True)
    assert parts(store) == []
    assert list((store / ".cache" / "klom-downloads").iterdir()) == []
    subprocess.run(big, env=env, check=True)
    assert (store / "big/x.bin").read_bytes() == hub.files["big/x.bin"]
