"""LaTeX that compiles, and comma-separated values that read back as they were."""

import copy
import csv
import io
import json
import re
from dataclasses import replace

import pytest
from helpers.compared import result, saved

from klom_bench.cell.gates import METRICS
from klom_bench.cell.record import Record
from klom_bench.cell.record_json import EpochJson, score_of
from klom_bench.cli import main
from klom_bench.report.paper.latex import escaped

ODD = r"a_b%c#d&e~f^g\h{i}j$k<l>m|n[o]`p\"q--r---é-λ-中-ß"
FORMULAS = ("=1+1", "+a", "-a", "@a")
TOKEN = re.compile(r"\\[a-zA-Z]+\*?|\\.|%[^\n]*\n|[^\\%]")
KNOWN = {
    r"\begin", r"\end", r"\centering", r"\footnotesize", r"\setlength", r"\tabcolsep", r"\caption",
    r"\label", r"\ref", r"\vspace", r"\toprule", r"\cmidrule", r"\midrule", r"\bottomrule",
    r"\multicolumn", r"\texttt", r"\mathbf", r"\pm", r"\lambda", r"\textbackslash", r"\textbar",
    r"\textasciitilde", r"\textasciicircum", r"\textasciigrave", r"\textless", r"\textgreater",
    *(rf"\{sign}" for sign in "%#&_{}$'\\"),
}  # fmt: skip
"""What is used of LaTeX 2e and booktabs; pdflatex of TeX Live 2022 has set a table with all of it."""


@pytest.fixture(scope="module")
def two():
    return [result(lr, n=60, name=name)[2] for name, lr in (("good", 0.65), ("bad", 0.1))]


@pytest.fixture
def report(tmp_path):
    """What `klom report -o` writes of records."""

    def run(*given, ending, args=()):
        path, to = saved(tmp_path / "out.json", *given), tmp_path / f"out.{ending}"
        assert main(["report", str(path), "-o", str(to), *args]) == 0
        return to.read_text()

    return run


def checked(text):
    """The rows of the tables of a LaTeX file, which is refused where TeX would stop."""
    assert text.isascii()
    tokens = TOKEN.findall(text)
    assert "".join(tokens) == text
    braces, maths, row, found = 0, False, [""], []
    for token in tokens:
        if len(token) > 1 and token[0] == "\\":
            assert token in KNOWN, token
        braces += {"{": 1, "}": -1}.get(token, 0)
        maths ^= token == "$"
        assert braces >= 0
        assert token != "#"
        assert token not in ("_", "^") or maths
        if token == r"\\":
            found.append(row)
            row = [""]
        elif token == "&":
            row.append("")
        else:
            row[-1] += token
    assert not braces
    assert not maths
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z]+\*?)\}", text):
        assert kind == "begin" or stack.pop() == name
        stack += [name] * (kind == "begin")
    assert not stack
    return found


def test_latex_of_odd_names(two, report):
    odd = [copy.deepcopy(record) | {"method": ODD, "task": ODD} for record in two[:1]]
    text = report(*odd, copy.deepcopy(two[1]) | {"task": ODD}, ending="tex")
    *_, mine, other = checked(text)
    assert (
        r"a\_b\%c\#d\&e\textasciitilde{}f\textasciicircum{}g\textbackslash{}h\{i\}j\$k" in mine[0]
    )
    assert r"\textless{}l\textgreater{}m\textbar{}n{[}o{]}\textasciigrave{}p" in mine[0]
    assert r"q-{}-r-{}-{}-\'{e}-$\lambda$-U+4E2D-U+00DF" in mine[0]
    assert r"\texttt{bad}" in other[0]
    assert text.count(r"\begin{table") == text.count(r"\label{tab:klom-") == 1


@pytest.mark.parametrize("sign", [r"\_", "&"])
def test_broken_latex_is_found(two, report, sign):
    text = report(*two, ending="tex").replace("bad", f"{sign[-1]}bad")
    with pytest.raises(AssertionError):
        assert {len(row) for row in checked(text)[2:]} == {5}


def test_latex_has_the_numbers_of_markdown(two, report):
    sets = [of | {"forget_set": f"forget_set_{i}"} for of in two for i in range(5)]
    text = report(*sets, ending="tex")
    lines = [line for line in report(*sets, ending="md").splitlines() if line.startswith("| `")]
    table = {}
    for name, *cells, _ in checked(text):
        if r"\texttt" in name:
            table.setdefault(name.rpartition("{")[2].strip("} "), []).extend(cells)
    for line in lines:
        name, *cells, _ = line.strip("| ").split(" | ")
        for number in " / ".join(cells).split(" / "):
            first = table[name.strip("`")].pop(0).strip(" $")
            bold = number.startswith("**")
            plain = first.removeprefix(r"\mathbf{").removesuffix("}") if bold else first
            assert plain == number.strip("*").replace("±", r"\pm ")
    assert not any(table.values())
    assert r"More sets of Table~\ref{tab:klom-made-up}" in text


def test_text_for_latex():
    assert escaped("a\nb\x1b") == r"a\textbackslash{}nb\textbackslash{}x1b"


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_values_read_back_as_they_were(two, report):
    of = Record.from_json(two[0])
    record = replace(of, gates=(of.gate("val_excess", 9, None),)).to_json()
    record["earlier"] = [{key: two[1][key] for key in EpochJson.__annotations__} | {"epoch": 1}]
    first, second, other = read(report(record, two[1], ending="csv"))
    states = [line["state"] for line in (first, second, other)]
    assert states == ["earlier epoch", "measured", "measured"]
    assert [line["epoch"] for line in (first, second)] == ["1", ""]
    assert (first["verdict"], first["gates"]) == ("none", "")
    assert (second["verdict"], second["gates"]) == ("pass", "val_excess <= 9: pass")
    for line, of in ((first, two[1]), (second, two[0]), (other, two[1])):
        for metric in METRICS:
            value = score_of(of, metric)
            assert (float(line[metric]) if line[metric] else None) == value
        for end in ("low", "high"):
            assert float(line[f"val_excess_{end}"]) == of["excess"]["val"][end]
            assert float(line[f"reverse_val_p95_{end}"]) == of["errors"]["val"]["reverse_p95"][end]
        assert float(line["floor_retain_p50"]) == of["floor"]["retain"]["p50"]
        assert float(line["do_nothing_val_excess"]) == of["excess_do_nothing"]["val"]["value"]
        assert (line["models"], line["oracles"], line["seed"]) == ("60", "60", "0")
        assert json.loads(line["hyperparameters"]) == two[0]["hyperparameters"] or of is two[1]
        assert line["word"] == of["word"]
        assert line["nearer_forget"] == of["nearer"]["forget"]["word"]


@pytest.mark.parametrize("name", FORMULAS)
def test_a_name_is_no_formula(two, report, name):
    (line,) = read(report(copy.deepcopy(two[0]) | {"method": name, "setting": name}, ending="csv"))
    assert line["method"] == line["setting"] == f"'{name}"


def test_a_link_stays_one(two, tmp_path):
    source, real, link = (tmp_path / name for name in ("run.json", "real.md", "link.md"))
    source.write_text(json.dumps({"benchmarks": [{"extra_info": {"klom": two[0]}}]}))
    link.symlink_to(real)
    assert main(["report", str(source), "-o", str(link)]) == 0
    assert link.is_symlink()
    assert "| method |" in real.read_text()


def test_a_name_with_a_line_end_is_one_line(two, report):
    odd = 'a,"b"\nc'
    text = report(copy.deepcopy(two[0]) | {"method": odd}, ending="csv")
    (line,) = read(text)
    assert line["method"] == 'a,"b"\\nc'
    assert len(text.splitlines()) == 2


def test_failed_tests_are_lines_even_where_nothing_was_scored(tmp_path, capsys):
    params = {"klom_task": "t", "klom_method": "m:lr=1", "klom_forget_set": "s"}
    path = tmp_path / "out.json"
    path.write_text(json.dumps({"benchmarks": [{"extra_info": {}, "params": params}]}))
    assert main(["report", str(path), "--format", "csv"]) == 0
    (line,) = read(capsys.readouterr().out)
    assert [line[key] for key in ("task", "forget_set", "method", "setting", "state", "file")] == [
        "t", "s", "m", "lr=1", "failed", "out.json",
    ]  # fmt: skip
    assert main(["report", str(path)]) == 1
    assert "no test was scored" in capsys.readouterr().err
