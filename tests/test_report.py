"""`klom report`: methods by forget sets."""

import json

import pytest

from klom_bench.cli import main


@pytest.fixture
def made(project, pytester):
    """The benchmark JSON of a run."""

    def run(*args, name="out.json"):
        project(*args, f"--benchmark-json={name}")
        return pytester.path / name

    return run


def test_every_score_is_in_its_place(made, capsys):
    path = made("--klom-method=ga,oracle_matching", "--klom-param=ga.lr=0.1,0.3",
                "--klom-forget-set=1,3")  # fmt: skip
    capsys.readouterr()
    assert main(["report", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("4 unlearned against 4 oracles of digits, estimator default")
    rows = lines[2 : lines.index("", 2)]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]
    assert table[0] == ["method", "set 1", "set 3", "cost"]
    assert [row[0] for row in table[2:]] == [
        "floor", "`do_nothing`", "`ga lr=0.1`", "`ga lr=0.3`", "`oracle_matching*`",
    ]  # fmt: skip
    records = [b["extra_info"]["klom"] for b in json.loads(path.read_text())["benchmarks"]]
    for record in records:
        mark = "*" if record["method"] == "oracle_matching" else ""
        name = f"`{record['method']}{mark} {record['setting']}".strip() + "`"
        (row,) = [row for row in table if row[0] == name]
        cell = row[{"forget_set_1": 1, "forget_set_3": 2}[record["forget_set"]]]
        p95 = [record["scores"][split]["p95"] for split in ("forget", "retain", "val")]
        assert [float(v) for v in cell.split("/")] == [round(v, 1) for v in p95]
        costs = [
            r["relative_cost"]["examples"] for r in records
            if (r["method"], r["setting"]) == (record["method"], record["setting"])
        ]  # fmt: skip
        assert row[-1] == f"{sum(costs) / 2:.0%}"


def test_what_was_not_measured_is_not_there(made, capsys):
    first = made("--klom-method=ga", "--klom-forget-set=1", name="a.json")
    second = made("--klom-method=unsir,do_nothing", "--klom-forget-set=class_9", name="b.json")
    capsys.readouterr()
    assert main(["report", str(first), str(second)]) == 0
    out = capsys.readouterr().out
    assert "| method | set 1 | class_9 | cost |" in out
    assert [line.count("n/a") for line in out.splitlines() if line.startswith("| `")] == [1, 1, 1]


def test_what_failed_is_told_from_what_does_not_apply(made, capsys):
    path = made("--klom-method=ssd,unsir,dm_direct", "--klom-forget-set=3,class_9",
                "--klom-param=ssd.alpha=9.99", "--klom-param=dm_direct.subsets=25")  # fmt: skip
    capsys.readouterr()
    assert main(["report", str(path)]) == 0
    lines = {
        line.split("`")[1]: line for line in capsys.readouterr().out.splitlines() if "`" in line
    }
    assert lines["ssd"].count("failed") == 1
    assert lines["unsir"].count("n/a") == 1
    assert "rests on models trained on random halves" in lines["+"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"is not a file of --benchmark-json (KeyError"),
        ("[", "is not a file of --benchmark-json (JSONDecodeError"),
        ('{"benchmarks": [{"extra_info": {}}]}', "has no KLOM test"),
    ],
)
def test_files_of_another_kind(tmp_path, capsys, content, message):
    (tmp_path / "x.json").write_text(content)
    assert main(["report", str(tmp_path / "x.json")]) == 1
    assert message in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere.json")]) == 1
    assert "FileNotFoundError" in capsys.readouterr().err


def test_what_cannot_stand_in_one_table(made, capsys):
    one = made("--klom-method=ga", "--klom-forget-set=1", name="a.json")
    other = made("--klom-method=ga", "--klom-forget-set=1", "--klom-models=3", name="b.json")
    capsys.readouterr()
    assert main(["report", str(one), str(one)]) == 1
    assert "ga on forget_set_1 is there twice" in capsys.readouterr().err
    assert main(["report", str(one), str(other)]) == 1
    assert "the records differ in members" in capsys.readouterr().err
