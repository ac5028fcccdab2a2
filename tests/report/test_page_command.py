"""`klom report -o report.html`, as its page shows it, and points that are shown where that is asked for."""

import base64
import io
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.compared import result, saved
from helpers.markdown import blocks
from helpers.pages import packed, read, rows
from matplotlib.image import imread

from klom_bench.cli import main
from klom_bench.errors import KlomError
from klom_bench.forget_set import checked_forget_set
from klom_bench.plugin.pages import DOCS
from klom_bench.report.page.points import examples
from klom_bench.tasks import DIGITS
from klom_bench.tasks.data import Data
from klom_bench.tasks.digits import train_images

SHOWN = re.findall(
    r"^klom (report [^#\n]*?)\s*(?:#|$)", "\n".join(blocks(DOCS / "report.md", "")), re.M
)
COMMANDS = [command for command in SHOWN if command.endswith(".html")]
OF_TEXT = [command for command in SHOWN if command.endswith((".json", ".tex", ".csv"))]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that the page on reports names."""
    monkeypatch.chdir(tmp_path)
    for day, name in enumerate(("run", "before", "now", "monday", "tuesday", "wednesday"), 1):
        saved(tmp_path / f"{name}.json", result(day / 10)[2], day=f"01-{day:02}")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_make_pages(folder, capsys, command):
    assert main(command.split()) == 0
    assert re.fullmatch(r"report\.html \(\d\.\d MB\)\n", capsys.readouterr().out)
    root = read((folder / "report.html").read_text())
    files = len(command.split()) - 3
    assert len([*root.all(id="changes")]) == (files == 2)
    assert len([*root.all(id="history")]) == (files == 3)
    assert len(packed(root)["rows"]) == 1
    assert len(rows(root.one("table", id="rows"))) == 4


@pytest.mark.parametrize("command", OF_TEXT)
def test_its_commands_make_tables(folder, capsys, command):
    assert main(command.split()) == 0
    _, _, to = command.partition(" -o ")
    text = (folder / to).read_text() if to else capsys.readouterr().out
    begins = {"table.tex": "% needs \\usepackage{booktabs}", "run.csv": "task,", "": "Excess, "}
    assert text.startswith(begins[to])
    assert ("P95 of KLOM" in text) == ("--metric p95" in command)


def test_there_are_commands():
    assert len(COMMANDS) == 3
    assert len(OF_TEXT) == 4


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--examples"], "--examples is of --format html, not of markdown"),
        (["--examples", "-o", "a.html"], "the data of task made_up are not here"),
        (["-o", "no/folder/a.html"], "no/folder/a.html cannot be written"),
    ],
)
def test_what_cannot_be_is_told(folder, capsys, asked, said):
    assert main(["report", "run.json", *asked]) == 1
    assert said in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", "run.json", "--format", "html"]) == 1
    assert "pip install klom-bench[report]" in capsys.readouterr().err


def of_set(task, name, worst):
    """A record of which examples are asked for."""
    sha256 = task.forget_set(name).sha256
    points = [{"point": point, "klom": klom} for point, klom in worst]
    known = {"task": task.name, "forget_set": name, "forget_set_sha256": sha256, "method": "ga"}
    marks = {"setting": "", "sees_oracles": False, "rests_on": None}
    return {**known, **marks, "worst": {"forget": points}}


def test_images_are_those_of_the_points():
    first, *_, last = DIGITS.forget_set("forget_set_3").indices.tolist()
    records = [of_set(DIGITS, "forget_set_3", [(first, 2.0), (last, 9.0)])]
    records.append(of_set(DIGITS, "forget_set_3", [(first, 3.0)]))
    shown = examples(records, {"digits": DIGITS})["forget_set_3"]
    assert [of.point for of in shown] == [first, last]
    assert shown[0].said == "among the worst five of 2 of 2; KLOM up to 3.00 (ga)"
    for of in shown:
        assert of.label == str(DIGITS.data.y_train[of.point].item())
        png = imread(io.BytesIO(base64.b64decode(of.image.partition(",")[2])))
        darkness = 1 - png[:, :, 0].astype(float)
        drawn = train_images()[of.point].astype(float)
        assert np.corrcoef(darkness.ravel(), drawn.ravel())[0, 1] > 0.99


def task_of(x):
    """One that has what examples look at."""
    data = Data(x, torch.arange(6) % 3, x, torch.arange(6) % 3)
    found = checked_forget_set("first", [1, 2], 6)
    return SimpleNamespace(name="t", data=data, load=None, forget_set=lambda name: found)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (torch.arange(60).view(6, 10).float() / 4, "2.5 2.75 3 3.25 3.5 3.75 4 4.25 4.5 4.75"),
        (torch.arange(90).view(6, 15), "15 16 17 18 19 20 21 22 23 24 25 26 ... (15 in all)"),
        ({"ids": torch.arange(12).view(6, 2), "mask": torch.ones(6, 2).long()}, "x['ids']: 2 3; x['mask']: 1 1"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_text(x, text):
    task = task_of(x)
    (of,) = examples([of_set(task, "first", [(1, 1.0)])], {"t": task})["first"]
    assert (of.image, of.text) == ("", text)


def test_colours_are_kept():
    x = torch.zeros(6, 3, 5, 4)
    x[1, 0] = 1.0
    task = task_of(x)
    (of,) = examples([of_set(task, "first", [(1, 1.0)])], {"t": task})["first"]
    png = imread(io.BytesIO(base64.b64decode(of.image.partition(",")[2])))
    assert png.shape[:2] == (5, 4)
    assert png[0, 0, :3].tolist() == [1.0, 0.0, 0.0]


def test_points_of_another_forget_set_are_not_shown():
    task = task_of(torch.zeros(6, 2))
    record = of_set(task, "first", [(1, 1.0)]) | {"forget_set_sha256": "0" * 64}
    with pytest.raises(KlomError, match="first of t has other points here than in the run"):
        examples([record], {"t": task})
