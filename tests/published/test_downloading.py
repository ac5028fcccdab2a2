"""Downloads that break, are killed, or come from a hostile repository."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import huggingface_hub.constants
import pytest
from helpers.hub_server import REPO, Handler
from helpers.repository import names, set_endpoint


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


@pytest.mark.processes
def test_offline_mode_is_said(hub, tmp_path):
    args, env = command(hub, tmp_path, HF_HUB_OFFLINE="1")
    done = subprocess.run(args, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot be downloaded: HF_HUB_OFFLINE is set" in done.stderr
    assert not hub.requests


@pytest.mark.processes
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


@pytest.mark.processes
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_ends_at_once_and_keeps_what_came_whole(hub, tmp_path, number, code):
    """What comes, comes from the endpoint of the variable."""
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


def list_among_oracles(monkeypatch, path):
    """Have the server list this path, and nothing else, below `oracles`."""
    entry = {"type": "file", "path": path, "size": 4, "oid": "0" * 40}
    tree = Handler.tree

    def with_one_more(self, folder):
        if folder.startswith("oracles"):
            self.answer(200, json.dumps([entry]).encode(), Content_Type="application/json")
        else:
            tree(self, folder)

    monkeypatch.setattr(Handler, "tree", with_one_more)


@pytest.mark.parametrize(
    ("asked", "path"),
    [*(("oracles", path) for path in HOSTILE), *(("digits", path) for path in HOSTILE[:3])],
)
def test_a_path_that_leaves_the_store_is_refused_before_anything_is_touched(
    hub, run_klom, tmp_path, monkeypatch, asked, path
):
    """What a mirror lists is not trusted: not by folder, and not by ensemble."""
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    listed = path.format(victim=victim)
    list_among_oracles(monkeypatch, listed)
    code, out, err = run_klom("download", asked)
    assert code == 1
    assert "broken or hostile" in err
    assert repr(listed) in err
    assert victim.read_text() == "mine"
    assert out == ""
    if asked == "oracles":
        assert not (tmp_path / "store").exists()


def test_a_listed_path_that_is_no_text_is_refused(hub, run_klom, monkeypatch):
    list_among_oracles(monkeypatch, 7)
    assert "lists 7" in run_klom("download", "oracles")[2]


def parts(store):
    return list((store / ".cache").rglob("*.incomplete"))


@pytest.mark.processes
def test_parts_of_files_that_a_killed_download_left_are_removed(hub, run_klom, tmp_path):
    hub.files["big/x.bin"] = os.urandom(1_000_000) * 60
    hub.files["small.bin"] = b"1" * 1000
    hub.faults["big/x.bin"] = ["slow"]
    big, env = command(hub, tmp_path, what="big")
    process = subprocess.Popen(big, env=env, stderr=subprocess.PIPE)
    store, deadline = tmp_path / "store", time.monotonic() + 60
    while not any(p.stat().st_size for p in parts(store)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert run_klom("download", "small.bin")[0] == 0
    assert len(parts(store)) == 1, "a download that is under way keeps its part"
    process.kill()
    process.communicate()
    assert len(parts(store)) == 1
    assert run_klom("download", "small.bin")[0] == 0
    assert parts(store) == []
    assert list((store / ".cache" / "klom-downloads").iterdir()) == []
    assert run_klom("download", "big")[0] == 0
    assert (store / "big/x.bin").read_bytes() == hub.files["big/x.bin"]
