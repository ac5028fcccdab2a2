"""`klom report`: what it reads, and the table of methods by forget sets that it prints."""

import copy
import json

import pytest

from klom_bench.cli import main

NO_RUN = "is not a file of --benchmark-json or --benchmark-autosave of a KLOM run"


@pytest.fixture
def made(project, pytester):
    """The benchmark JSON of a run."""

    def run(*args, name="out.json"):
        project(*args, f"--benchmark-json={name}")
        return pytester.path / name

    return run


def p95_of(scores):
    return [round(scores[split]["p95"], 1) for split in ("forget", "retain", "val")]


def test_every_score_is_in_its_place(made, capsys):
    path = made(
        "--klom-method=ga,oracle_matching", "--klom-param=ga.lr=0.1,0.3", "--klom-forget-set=1,3"
    )
    capsys.readouterr()
    assert main(["report", str(path)]) == 0
    caption, _, lines = capsys.readouterr().out.partition("\n\n")
    caption = " ".join(caption.split())
    assert caption.startswith("P95 of KLOM in nats on the forget / retain / val points of digits; ")
    assert "4 unlearned models against 4 oracles a set, seed 0, estimator default" in caption
    assert "sees the oracles that it is scored against" in caption
    table = [[of.strip() for of in line.strip("|").split("|")] for line in lines.splitlines()]
    assert table[0] == ["method", "set 1", "set 3", "cost"]
    assert [row[0] for row in table[2:]] == [
        "floor",
        "do nothing",
        "`ga lr=0.1`",
        "`ga lr=0.3`",
        "`oracle_matching*`",
    ]
    assert [row[-1] for row in table[2:4]] == ["", "0%"]
    records = [b["extra_info"]["klom"] for b in json.loads(path.read_text())["benchmarks"]]
    for record in records:
        mark = "*" if record["method"] == "oracle_matching" else ""
        name = f"`{record['method']}{mark} {record['setting']}".strip() + "`"
        (row,) = [row for row in table if row[0] == name]
        column = {"forget_set_1": 1, "forget_set_3": 2}[record["forget_set"]]
        assert [float(v) for v in row[column].split("/")] == p95_of(record["scores"])
        costs = [
            r["relative_cost"]["examples"]
            for r in records
            if (r["method"], r["setting"]) == (record["method"], record["setting"])
        ]
        assert row[-1] == f"{sum(costs) / 2:.0%}"
        for row, scores in zip(table[2:4], (record["floor"], record["do_nothing"]), strict=True):
            assert [float(v) for v in row[column].split("/")] == p95_of(scores)


def test_what_was_not_measured_is_not_there(made, capsys):
    first = made("--klom-method=ga", "--klom-forget-set=1", name="a.json")
    second = made("--klom-method=unsir,do_nothing", "--klom-forget-set=class_9", name="b.json")
    capsys.readouterr()
    assert main(["report", str(first), str(second)]) == 0
    out = capsys.readouterr().out
    assert "| method | set 1 | class_9 | cost |" in out
    rows = {line.split(" | ")[0]: line for line in out.splitlines() if line.startswith("| ")}
    assert [rows[name].count("n/a") for name in ("| `ga`", "| `unsir`")] == [1, 1]
    assert "| `do_nothing`" not in rows  # it is there as doing nothing


def test_what_failed_is_told_from_what_does_not_apply(made, capsys):
    path = made(
        "--klom-method=ssd,unsir,dm_direct",
        "--klom-forget-set=3,class_9",
        "--klom-param=ssd.importance=example",
        "--klom-param=ssd.alpha=9.99",
        "--klom-param=dm_direct.subsets=25",
    )
    capsys.readouterr()
    assert main(["report", str(path)]) == 0
    caption, _, table = capsys.readouterr().out.partition("\n\n")
    lines = {line.split("`")[1]: line for line in table.splitlines() if "`" in line}
    assert lines["ssd"].count("failed") == 1
    assert lines["unsir"].count("n/a") == 1
    caption = " ".join(caption.split())
    for said in ("+: rests on models trained on random halves", "failed: the test", "n/a: the"):
        assert said in caption


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", f"{NO_RUN} (KeyError"),
        ("[", f"{NO_RUN} (JSONDecodeError"),
        ('{"benchmarks": [{"extra_info": {}}]}', "has no KLOM test"),
    ],
)
def test_files_of_another_kind(tmp_path, capsys, content, message):
    (tmp_path / "x.json").write_text(content)
    assert main(["report", str(tmp_path / "x.json")]) == 1
    assert message in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere.json")]) == 1
    assert "cannot be read (No such file or directory)" in capsys.readouterr().err


def test_scores_of_margins_are_of_no_method_and_left_out(made, capsys):
    path = made("--klom-method=ga", "--klom-forget-set=1")
    capsys.readouterr()
    assert main(["report", str(path)]) == 0
    alone = capsys.readouterr().out
    content = json.loads(path.read_bytes())
    margins = copy.deepcopy(content["benchmarks"][0])
    margins["extra_info"]["klom"] |= {"task": "margins", "method": "margins"}
    content["benchmarks"].append(margins)
    path.write_text(json.dumps(content))
    assert main(["report", str(path)]) == 0
    assert capsys.readouterr().out == alone


def changed(path, change):
    content = json.loads(path.read_bytes())
    change(content["benchmarks"][0]["extra_info"]["klom"])
    path.write_text(json.dumps(content))


WRONG = {
    "nested": "[" * 100_000,
    "a list": "[1]",
    "null": "null",
    "no klom": '{"benchmarks": [{"extra_info": {"klom": "x"}}]}',
    "empty klom": '{"benchmarks": [{"extra_info": {"klom": {}}}]}',
    "no info": '{"benchmarks": [{}]}',
    "benchmarks are a number": '{"benchmarks": 7}',
    "a benchmark is null": '{"benchmarks": [null]}',
    "params are a number": '{"benchmarks": [{"extra_info": {}, "params": 7}]}',
    "params without names": '{"benchmarks": [{"extra_info": {}, "params": {"klom_method": 1}}]}',
    "bytes": "\udcff\udcfe",
}
CHANGES = {
    "scores null": lambda r: r.update(scores=None),
    "a split lacks": lambda r: r["scores"].pop("val"),
    "nan": lambda r: r["scores"]["val"].update(p95=float("nan")),
    "negative": lambda r: r["scores"]["val"].update(p95=-1.0),
    "infinite": lambda r: r["floor"]["val"].update(p95=float("inf")),
    "huge": lambda r: r["floor"]["val"].update(p95=10**400),
    "true": lambda r: r["do_nothing"]["val"].update(p95=True),
    "text": lambda r: r["do_nothing"]["val"].update(p95="9"),
    "a negative cost": lambda r: r["relative_cost"].update(examples=-0.5),
    "no cost": lambda r: r.pop("relative_cost"),
    "a method without a name": lambda r: r.update(method=None),
    "a set that is a list": lambda r: r.update(forget_set=["a"]),
    "a setting that is a number": lambda r: r.update(setting=7),
    "members": lambda r: r.update(members={"oracle": "4", "unlearned": 4}),
    "an estimator that is a word": lambda r: r.update(estimator="default"),
    "a seed": lambda r: r.update(seed=0.5),
    "no device": lambda r: r.pop("device"),
    "sees the oracles": lambda r: r.update(sees_oracles=None),
    "tuning": lambda r: r.update(tuning=True),
    "an epoch": lambda r: r.update(epoch=float("nan")),
    "accuracy of oracles": lambda r: r.update(accuracy_oracle={}),
    "the worst": lambda r: r.update(highest={"a": None}),
    "nowhere": lambda r: r.update(nowhere={}),
}


def told_in_one_message(capsys, path):
    capsys.readouterr()
    assert main(["report", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"klom report: {path}")
    assert len(err.splitlines()) == 1
    assert any(said in err for said in (NO_RUN, "this is no record", "cannot be read"))


@pytest.mark.parametrize("name", WRONG)
def test_files_that_make_no_sense(tmp_path, capsys, name):
    path = tmp_path / "x.json"
    path.write_bytes(WRONG[name].encode("utf-8", "surrogateescape"))
    told_in_one_message(capsys, path)


def test_a_link_to_itself(tmp_path, capsys):
    path = tmp_path / "x.json"
    path.symlink_to(path)
    told_in_one_message(capsys, path)


def test_damaged_records(made, capsys):
    path = made("--klom-method=ga", "--klom-forget-set=1")
    sound = path.read_text()
    for change in CHANGES.values():
        path.write_text(sound)
        changed(path, change)
        told_in_one_message(capsys, path)
    for name in ("p95", "examples"):  # no number is no damage
        path.write_text(sound)
        of = "scores" if name == "p95" else "relative_cost"
        changed(path, lambda r, of=of: r.update({of: nothing_in(r[of])}))
        capsys.readouterr()
        assert main(["report", str(path)]) == 0
        assert "n/a" in capsys.readouterr().out


def nothing_in(values):
    none = copy.deepcopy(values)
    for key, value in none.items():
        none[key] = nothing_in(value) if isinstance(value, dict) else None
    return none


def test_names_cannot_break_the_table_or_act_on_ci(made, capsys):
    path = made("--klom-method=ga", "--klom-forget-set=1")
    odd = "a|b`<img>\n::error::x\x1b[2J"
    changed(path, lambda r: r.update(method=odd, device="[x](http://e)<b>"))
    capsys.readouterr()
    assert main(["report", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert not [line for line in out.splitlines() if line.startswith("::")]
    (row,) = [line for line in out.splitlines() if "error::" in line]
    assert row.replace("\\|", "").count("|") == 4
    assert row.count("`") == 2
    assert r"\[x\](http://e)&lt;b>" in out
