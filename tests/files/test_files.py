"""Files of a store and of strangers: written whole, never through a link, never unpacked blindly."""

import io
import os
import time
import zipfile

import numpy as np
import pytest
import torch

from klom_bench import cli
from klom_bench.errors import KlomError
from klom_bench.files.arrays import read_array, read_npz, read_state
from klom_bench.files.atomic import remove_leftovers, write, write_whole


def test_a_planted_link_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in (".manifest.json.partial", "manifest.json"):
        (tmp_path / name).symlink_to(victim)
    write_whole(tmp_path / "manifest.json", b"ours")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "manifest.json").is_symlink()
    assert (tmp_path / "manifest.json").read_text() == "ours"


def test_the_file_beside_has_another_name_each_time(tmp_path, monkeypatch):
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append(str(a)), replace(a, b)))
    for _ in range(5):
        write_whole(tmp_path / "x.npy", b"1")
    assert len(set(seen)) == 5
    assert all(str(tmp_path / ".x.npy.") in name and name.endswith(".partial") for name in seen)


def test_files_have_the_usual_rights(tmp_path):
    (tmp_path / "usual").write_text("")
    write_whole(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_what_killed_runs_left_is_removed_once_it_is_old(tmp_path):
    old, new, other = (
        tmp_path / n for n in (".a.npy.12.partial", ".b.npy.34.partial", "c.partial")
    )
    for path in (old, new, other):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 100_000,) * 2)
    os.utime(other, (time.time() - 100_000,) * 2)
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.npy.34.partial", "c.partial"]


def test_a_folder_that_is_gone_is_called_so(tmp_path):
    with pytest.raises(KlomError, match=r"its folder is gone\. Was the store removed"):
        write(tmp_path / "gone" / "x.npy", b"")


# .npz and .pt files of strangers


def test_what_unpacks_to_a_hundred_times_as_much_is_refused(tmp_path, capsys):
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("val.npy", "w", force_zip64=True) as stream,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": (80, 1_000_000)}
        np.lib.format.write_array_header_1_0(stream, header)
        for _ in range(80):
            stream.write(bytes(4_000_000))
    assert path.stat().st_size < 3_000_000
    start = time.perf_counter()
    with pytest.raises(KlomError, match=r"unpacks from \d+ bytes to 0\.3 GB"):
        read_npz(path)
    assert cli.main(["score", str(path), str(path)]) == 2
    assert "np.savez, which does not pack" in capsys.readouterr().err
    assert time.perf_counter() - start < 60


def test_many_arrays_that_fill_the_memory_together_are_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in ("train", "val", "retain", "forget"):
            with archive.open(f"{name}.npy", "w") as stream:
                header = {"descr": "<f4", "fortran_order": False, "shape": (20, 1_000_000)}
                np.lib.format.write_array_header_1_0(stream, header)
                stream.write(bytes(80_000_000))
    with pytest.raises(KlomError, match=r"unpacks from \d+ bytes to 0\.3 GB"):
        read_npz(path)


def packed(path, content, name="val.npy"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return path


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("more", [b"x", bytes(1_000_000)])
def test_more_than_the_shape_needs_is_refused(tmp_path, more):
    path = packed(tmp_path / "x.npz", npy(np.ones((3, 4))) + more)
    with pytest.raises(KlomError, match=r"its shape \(3, 4\) needs 224"):
        read_npz(path)


def test_packed_margins_are_read(tmp_path):
    margins = np.random.default_rng(0).normal(size=(20, 500)).astype(np.float32)
    constant = np.ones((100, 60_000), np.float32)
    np.savez_compressed(tmp_path / "x.npz", val=margins, train=constant[:20])
    assert np.array_equal(read_npz(tmp_path / "x.npz")["val"], margins)
    assert read_npz(packed(tmp_path / "y.npz", npy(margins.T.copy(order="F"))))["val"].shape == (
        500,
        20,
    )


@pytest.mark.parametrize("read", [read_array, read_state])
def test_a_packed_checkpoint_is_refused(tmp_path, read):
    torch.save({"a": torch.zeros(10)} if read is read_state else torch.zeros(10), tmp_path / "x.pt")
    assert read(tmp_path / "x.pt") is not None
    with zipfile.ZipFile(tmp_path / "x.pt") as plain:
        contents = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(tmp_path / "y.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    with pytest.raises(KlomError, match=r"is packed, as torch\.save packs nothing"):
        read(tmp_path / "y.pt")


def test_a_tensor_of_fewer_numbers_than_it_says_is_refused(tmp_path):
    torch.save(torch.zeros(1).expand(20, 1_000_000_000), tmp_path / "x.pt")
    assert (tmp_path / "x.pt").stat().st_size < 10_000
    with pytest.raises(KlomError, match="20000000000 numbers by its shape, and fewer in fact"):
        read_array(tmp_path / "x.pt")


def test_an_npz_of_objects_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", val=np.array([[{}]], dtype=object))
    with pytest.raises(KlomError, match="it holds pickled objects, which could run code"):
        read_npz(tmp_path / "x.npz")


def test_names_of_arrays_cannot_act_on_a_terminal(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", **{"a\x1b[2J": np.ones((3, 4)), "b\n::error::x": np.ones((3, 4))})
    assert cli.main(["score", str(tmp_path / "x.npz"), str(tmp_path / "x.npz")]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert r"a\x1b[2J" in err
    assert not [line for line in err.splitlines() if line.startswith("::")]
