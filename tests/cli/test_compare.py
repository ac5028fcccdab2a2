"""klom compare: two runs beside each other, and the methods of one in order."""

import json
import re
from itertools import combinations

import pytest
from helpers.compared import result, saved

from klom_bench.cell import baseline
from klom_bench.cell.comparing import compared
from klom_bench.metrics.comparison import surely_different

ROW = re.compile(
    r"(\S*) +(\w+_(?:excess|mean)) +(\S+) +(\S+) +([+-]\S+) (±\S+) +(\S+)  (better|worse|no diff.*)"
)
METRICS = [f"{split}_{of}" for of in ("excess", "mean") for split in ("forget", "retain", "val")]


@pytest.fixture(scope="module")
def made():
    """One method that moves by .3 and by .4, and others."""
    names = {"same": 0.2, "gone": 0.1, "fresh": 0.1}
    others = {name: result(lr, name=name)[2] for name, lr in names.items()}
    return others | {"old": result(0.3)[2], "new": result(0.4)[2]}


@pytest.fixture
def two(made, tmp_path, monkeypatch):
    """A baseline file and a benchmark JSON: one test that is better, one that is the same."""
    monkeypatch.chdir(tmp_path)
    baseline.save(tmp_path / "old.json", [made["old"], made["same"], made["gone"]])
    saved(tmp_path / "new.json", made["new"], made["same"], made["fresh"])
    return made


def test_every_row_has_its_numbers_and_its_word(run, two):
    code, out, err = run("compare", "old.json", "new.json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    rows = [match.groups() for line in lines if (match := ROW.fullmatch(line))]
    assert [row[0] for row in rows if row[0]] == ["made_up-made_up-shift"]
    assert [row[1] for row in rows] == METRICS
    for _, metric, *shown in rows:
        of = compared(two["new"], two["old"], metric)
        low, high = of.difference.interval()
        assert shown == [
            f"{of.before:.4f}",
            f"{of.now:.4f}",
            f"{of.difference.value:+.4f}",
            f"±{(high - low) / 2:.4f}",
            f"{of.smallest:.4f}",
            of.change,
        ]
    assert rows[0][-1] == "better"
    assert "the same in every number: 1 of 2 tests (made_up-made_up-same)" in lines
    words = [row[-1] for row in rows] + ["no difference"] * len(METRICS)
    counts = ", ".join(f"{words.count(w)} {w}" for w in ("better", "worse", "no difference"))
    assert f"{counts}; lower is better, and by chance 1 row in 20 says one or the other" in lines
    assert "12 of 12 rows are paired: the same originals and oracles" in lines
    assert "changed: made_up-made_up-shift: lr 0.3 -> 0.4" in lines
    assert "only in old.json: made_up-made_up-gone" in lines
    assert "only in new.json: made_up-made_up-fresh" in lines


def test_json_says_the_same(run, two):
    code, out, _ = run("compare", "old.json", "new.json", "--json", "--metric=val_p95")
    found = json.loads(out, parse_constant=pytest.fail)
    assert code == 0
    assert [c["metric"] for c in found["comparisons"]] == ["val_p95"] * 2
    assert found["comparisons"][0]["change"] is found["comparisons"][0]["smallest"] is None
    assert found["only_before"] == ["made_up-made_up-gone"]
    assert found["only_now"] == ["made_up-made_up-fresh"]
    assert found["changed"] == {
        "made_up-made_up-shift": ["lr 0.3 -> 0.4"],
        "made_up-made_up-same": [],
    }
    _, out, _ = run("compare", "old.json", "new.json", "--json")
    first = json.loads(out)["comparisons"][0]
    of = compared(two["new"], two["old"], "forget_excess")
    assert first == {
        "task": "made_up",
        "forget_set": "made_up",
        "method": "shift",
        "setting": "",
        "metric": "forget_excess",
        "before": of.before,
        "now": of.now,
        "difference": of.difference.as_json(),
        "smallest": of.smallest,
        "paired": "originals and oracles",
        "change": "better",
    }


def test_what_cannot_be_compared_is_said(run, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "old.json", made["old"])
    saved(tmp_path / "new.json", made["new"] | {"seed": 3, "epoch": 2})
    code, out, _ = run("compare", "old.json", "new.json")
    assert code == 0
    assert "not compared: forget_mean, retain_mean, val_mean where seed differ" in out
    assert out.count("_excess") == 3
    assert "_mean  " not in out
    code, _, err = run("compare", "old.json", "new.json", "--metric=val_mean")
    assert (code, "have nothing to compare: not compared: val_mean where seed" in err) == (1, True)
    saved(tmp_path / "new.json", made["new"] | {"forget_set_sha256": "x"})
    code, _, err = run("compare", "old.json", "new.json")
    assert (code, "where estimator" in err, "forget_set_sha256 differ" in err) == (1, False, True)
    _, out, _ = run("compare", "old.json", "old.json", "--metric=val_p95")
    assert "of 1 of 1 rows no error is known" in out
    assert "better" not in out
    saved(tmp_path / "old.json", made["old"] | {"epoch": 1})
    saved(tmp_path / "new.json", made["old"] | {"epoch": 2})
    assert (
        "changed: made_up-made_up-shift: epoch 1 -> 2" in run("compare", "old.json", "new.json")[1]
    )


def test_runs_on_other_models_are_unpaired(run, made, tmp_path):
    first = saved(tmp_path / "a.json", made["old"])
    other = saved(tmp_path / "b.json", result(0.3, seed=7, n=12)[2])
    _, out, _ = run("compare", first, other)
    assert "3 of 3 rows are unpaired" in out
    assert "members differ" in out


@pytest.fixture
def ranked(run, tmp_path):
    """The places and pairs of methods that move by so much, as `klom compare` has them."""

    def places(*args, **lrs):
        records = [result(lr, name=name)[2] for name, lr in lrs.items()]
        path = saved(tmp_path / "run.json", *records)
        code, out, _ = run("compare", path, "--json", *args)
        assert code == 0
        (ranking,) = json.loads(out, parse_constant=pytest.fail)["rankings"]
        return path, {record["method"]: record for record in records}, ranking

    return places


def test_ranks_are_those_of_all_pairs(ranked, run):
    path, records, ranking = ranked(a=0.3, b=0.301, c=0.5, d=0.51, e=0.0)
    order = [of["method"] for of in ranking["methods"]]
    assert order == sorted(order, key=lambda name: records[name]["excess"]["forget"]["value"])
    pairs = [*combinations(order, 2)]
    assert [tuple(of["methods"]) for of in ranking["pairs"]] == pairs
    found = [compared(records[b], records[a], "forget_excess").difference for a, b in pairs]
    sure = surely_different(found)
    assert [of["sure"] for of in ranking["pairs"]] == sure
    assert [of["difference"] for of in ranking["pairs"]] == [one.as_json() for one in found]
    for of in ranking["methods"]:
        better = sum(s and b == of["method"] for (_, b), s in zip(pairs, sure, strict=True))
        worse = sum(s and a == of["method"] for (a, _), s in zip(pairs, sure, strict=True))
        assert (of["first"], of["last"]) == (1 + better, 5 - worse)
    assert any(sure)
    _, out, _ = run("compare", path)
    rows = {words[0]: words[-1] for line in out.splitlines() if (words := line.split())}
    for of in ranking["methods"]:
        first, last = of["first"], of["last"]
        assert rows[of["method"]] == (f"{first}-{last}" if first < last else f"{first}")


def test_methods_that_do_the_same_share_all_ranks(ranked):
    _, _, ranking = ranked("--metric=forget_mean", a=0.3, b=0.3, c=0.3)
    assert ranking["metric"] == "forget_mean"
    assert [(of["first"], of["last"]) for of in ranking["methods"]] == [(1, 3)] * 3


def test_who_sees_the_oracles_is_marked(run, made, tmp_path):
    cheat = made["new"] | {"method": "cheat", "sees_oracles": True}
    _, out, _ = run("compare", saved(tmp_path / "run.json", made["old"], cheat))
    assert "cheat* " in out
    assert "*: sees the oracles that it is scored against: an upper bound" in out


def test_names_cannot_act_on_a_terminal_or_on_ci(run, made, tmp_path):
    odd = "a\n::error::x\x1b[2J"
    first = saved(tmp_path / "a.json", made["old"] | {"method": odd}, made["same"])
    other = made["new"] | {"method": odd, "hyperparameters": {odd: odd}}
    second = saved(tmp_path / "b.json", other, made["same"] | {"method": "::error::y", "task": ":"})
    for args in ((first, second), (first,)):
        code, out, _ = run("compare", *args)
        assert code == 0
        assert "\x1b" not in out
        assert not [line for line in out.splitlines() if line.lstrip().startswith("::error::x")]
        assert not [line for line in out.splitlines() if line.startswith("::")]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["one.json"], "has no forget set with two methods that have forget_excess"),
        (["two.json", "--metric=forget_p95"], "no error is known of it"),
        (["two.json", "--metric=forget_p96"], "unknown metric 'forget_p96': did you mean"),
        (["two.json", "none.json"], "none.json cannot be read"),
        (["two.json", "odd.json"], "odd.json is not a baseline"),
        (["one.json", "other.json"], "share no test: the first has made_up-made_up-shift, the"),
    ],
)
def test_bad_input(run, made, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "one.json", made["old"])
    saved(tmp_path / "two.json", made["old"], made["same"])
    saved(tmp_path / "other.json", made["same"])
    (tmp_path / "odd.json").write_text("{}")
    code, out, err = run("compare", *args)
    assert (code, out) == (1, "")
    assert message in err
