"""Figures as files, and as elements of a page."""

import copy
import re
import struct
import warnings
from xml.etree import ElementTree

import pytest
from helpers.compared import saved
from helpers.drawn import drawn_of, row, run

from klom_bench.cli import main
from klom_bench.report.figures.canvas import COLUMN, PAGE, inline_svg, written
from klom_bench.report.figures.every import drawings, figures, with_own_name

SVG = "{http://www.w3.org/2000/svg}"
ODD = "$a_b$ <b>&\n\\frac \U0001f9ea"
SHOWN = "$a_b$ <b>&\\n\\frac \U0001f9ea"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A benchmark JSON of three rows on two sets."""
    folder = tmp_path_factory.mktemp("figures")
    saved(folder / "run.json", row("first"), row("second", 1.0), row("first", forget_set="b"))
    return folder


def report(folder, capsys, *args, code=0):
    capsys.readouterr()
    assert main(["report", str(folder / "run.json"), *map(str, args)]) == code
    return capsys.readouterr()


def test_a_file_a_figure_and_its_caption(folder, capsys, tmp_path):
    out = tmp_path / "new" / "figures"
    chosen = ("--forget-set", "a", "--method", "second", "--width", "page")
    told, _ = report(folder, capsys, "--format", "svg", "-o", out, *chosen)
    paths = told.splitlines()
    names = {path.name for path in out.iterdir()}
    assert {str(out / name) for name in names} == {*paths}
    assert names >= {
        "plane-a-KLOM_P95-val.svg", "plane-a-excess-retain.svg", "cost-a-excess.svg",
        "points-a.svg", "map-excess.svg", "worst-a-second.svg", "captions.md",
    }  # fmt: skip
    assert not [name for name in names if "-b" in name or "first" in name]
    captions = (out / "captions.md").read_text()
    for name in names - {"captions.md"}:
        assert f"**{name}**: " in captions
        text = (out / name).read_text()
        assert ElementTree.fromstring(text).get("width") == f"{72 * PAGE:g}pt"
        assert "first" not in text
    assert captions.count("20 unlearned against 20 oracles of made") == len(names) - 1
    assert captions.count("seed 0") == len(names) - 1


def test_a_pdf_is_as_wide_as_a_column_and_has_fonts_that_publishers_take(tmp_path):
    (drawn,) = drawn_of(run(row("first")), "points", COLUMN)
    pdf = written(drawn, tmp_path / "x.pdf").read_bytes()
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([0-9.]+) ", pdf)
    assert float(box) == pytest.approx(72 * COLUMN)
    assert b"/Type3" not in pdf
    assert b"/CIDFontType2" in pdf
    assert written(drawn, tmp_path / "y.pdf").read_bytes() == pdf
    png = written(drawn, tmp_path / "x.png").read_bytes()
    assert struct.unpack(">I", png[16:20])[0] == pytest.approx(220 * COLUMN, abs=1)


def test_what_cannot_be_drawn_is_told(folder, capsys, tmp_path):
    asked = ("--format", "svg", "-o", tmp_path)
    for wrong, said in (
        (("--method", "frist"), "unknown method 'frist': did you mean first"),
        (("--forget-set", "c"), "unknown forget set 'c'"),
        (("--method", "second", "--forget-set", "b"), "there is no row of second on b"),
        ((str(folder / "run.json"),), "first is there twice"),
    ):
        assert said in report(folder, capsys, *wrong, *asked, code=1).err
    assert not [*tmp_path.iterdir()]
    (tmp_path / "taken").write_text("")
    error = report(folder, capsys, "--format", "svg", "-o", tmp_path / "taken", code=1).err
    assert "taken" in error


def test_rows_are_chosen_of_a_table_too(folder, capsys):
    table = report(folder, capsys, "--method", "second").out
    assert "`second`" in table
    assert "`first`" not in table


def test_an_svg_of_a_page_is_whole_and_its_own():
    texts = [inline_svg(drawn) for _, drawn in figures(run(row("first"), row("second", 1.0)))]
    every = [ElementTree.fromstring(text) for text in texts]
    ids = [e.get("id") for root in every for e in root.iter() if e.get("id")]
    assert len({*ids}) == len(ids) > 0
    for root, text in zip(every, texts, strict=True):
        own = {e.get("id") for e in root.iter()}
        referred = re.findall(r'(?:href="|url\()#([^")]+)', text)
        assert {*referred} <= own
        assert not [e for e in root.iter() if e.tag in (f"{SVG}style", f"{SVG}script")]
        assert "currentColor" in text
        assert "#010203" not in text
        addresses = re.findall(r"[\w-]+://[^\" ]*", text)
        assert {*addresses} <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_names_are_text_wherever_they_stand():
    odd = row(ODD, setting="<script>=1", forget_set=ODD, epochs=(0.1,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts = [inline_svg(drawn) for _, drawn in figures(run(odd))]
    roots = [ElementTree.fromstring(text) for text in texts]
    assert not [
        e.tag for root in roots for e in root.iter() if e.tag.rsplit("}")[-1] in ("b", "script")
    ]
    tips = [e.text for root in roots for e in root.iter(f"{SVG}title")]
    assert [tip for tip in tips if tip.startswith(f"{SHOWN} <script>=1 epoch 1: excess ")]
    shown = [e.text for root in roots for e in root.iter(f"{SVG}text")]
    assert [text for text in shown if text and text.startswith("$a_b$ <b>&\\n")]
    taken = set()
    alike = drawn_of(run(odd, row("x", forget_set=ODD.replace("$a", "?a"))), "points")
    names = [with_own_name(drawn, taken).name for drawn in alike]
    assert names == ["points-_a_b_b_n_frac", "points-_a_b_b_n_frac-2"]


def many(rows, sets):
    record = row("x")
    for i in range(rows):
        of = copy.copy(record)
        of |= {"method": f"m{i % 30}", "setting": f"lr={i}", "forget_set": f"s{i % sets}"}
        yield of


def test_thousands_of_rows_stay_small():
    """Forty figures at most, each below 50 kB, are below 2 MB."""
    assert len(drawings(run(*many(5000, 20)))) <= 40
    crowd = run(*many(600, 1))
    every = [drawn_of(crowd, section)[0] for section in ("plane", "cost", "map")]
    for drawn in every:
        assert len(inline_svg(drawn)) < 50_000
    assert "The 45 best and the 15 worst of 600" in every[-1].caption


def test_the_sets_with_most_rows_have_figures():
    plans = drawings(run(*many(26, 13), *many(1, 1)))
    assert [section for section, _ in plans].count("points") == 12
    found = [next(draw for section, draw in plans if section == "cost")()]
    assert "1 forget sets with fewer rows have no figure" in found[0].caption
    assert "--forget-set NAME" in found[0].caption
