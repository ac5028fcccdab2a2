"""The page of a run: what it says is what records say, and nothing in it acts but its own script."""

import base64
import copy
import hashlib
import re
from dataclasses import replace

import pytest
from helpers.compared import result
from helpers.pages import Element, packed, read, rows

from klom_bench.cell.record_json import error_of, score_of
from klom_bench.metrics.word import WORDS
from klom_bench.report.page.changes import changes
from klom_bench.report.page.first_screen import MEANINGS, first_screen
from klom_bench.report.page.page import page as page_of
from klom_bench.report.runs import Commit, SavedRun
from klom_bench.report.table import JUDGED, KLOM, cells

ODD = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"{{ 1 }}\u202e\x1b[31m"
"""A name that would act where it were not escaped."""
SHOWN = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"{{ 1 }}\\u202e\\x1b[31m"


@pytest.fixture(scope="module")
def records():
    """Records of three settings, the last of other models."""
    made = [result(lr, name="shift")[2] for lr in (0.1, 1.0)]
    return [{**record, "setting": f"lr={lr}"} for record, lr in zip(made, (0.1, 1.0), strict=True)]


@pytest.fixture(scope="module")
def run(records):
    commit = Commit("f00d" * 10, "2026-01-02T03:04:05", "main", dirty=True)
    failed = {"task": "made_up", "forget_set": "made_up", "method": "gone", "setting": ""}
    return SavedRun("one.json", tuple(records), (failed,), "2026-01-02T03:05:00", commit, "a CPU")


@pytest.fixture(scope="module")
def text(run):
    """With figures; those of other tests have none, which take nearly all of the time."""
    return page_of([run])


def page(*given):
    return page_of(*given, draw=False)


@pytest.fixture(scope="module")
def seen(text):
    return read(text)


def test_the_table_has_the_numbers_of_the_terminal(seen, run):
    head, *found = rows(seen.one("table", id="rows"))
    assert head[:6] == ["method", "forget set", "epoch", "models", "what it did", "gates"]
    names = [*JUDGED.names[2:-1], *KLOM.names[2:]]
    assert head[6:] == names
    of_terminal = zip(cells(run.rows, JUDGED), cells(run.rows, KLOM), strict=True)
    for mine, (judged, klom) in zip(found, of_terminal, strict=True):
        assert mine[0] == judged[1]
        assert mine[6:] == [*judged[2:-1], *klom[2:]]
        said = "; ".join(filter(None, mine[4:6]))
        assert said == judged[-1]


def test_what_is_packed_are_the_numbers_of_the_records(seen, records):
    data = packed(seen)
    for values, record in zip(data["rows"], records, strict=True):
        row = dict(zip(data["columns"], values, strict=True))
        for metric in ("forget_excess", "val_p95", "reverse_retain_mean", "forget_leftover"):
            error = error_of(record, metric) or {"low": None, "high": None}
            for name, number in (
                ("", score_of(record, metric)),
                ("_low", error["low"]),
                ("_high", error["high"]),
            ):
                assert row[metric + name] == (number and pytest.approx(number, rel=1e-5))
        assert (row["setting"], row["word"]) == (record["setting"], record["word"])
    assert [len(texts) for texts in data["details"]] == [len(data["labels"])] * len(records)


def test_the_first_screen_says_what_was_asked(seen):
    facts = dict(pairs(seen.one("dl", id="facts")))
    assert facts["task"] == "made_up"
    assert facts["methods"] == "shift lr=0.1 and shift lr=1.0"
    assert facts["forget sets"] == "made_up (10 points)"
    assert facts["models"] == "20 unlearned against 20 oracles"
    assert facts["estimator"].startswith("default (KL oracle || unlearned, nats, 18 bins")
    assert facts["commit"] == f"{'f00d' * 10} with changes, main, of 2026-01-02 03:04"
    assert (facts["seed"], facts["machine"]) == ("0", "a CPU")
    assert facts["time"] == "2026-01-02 03:05"


def pairs(element):
    parts = [child for child in element.children if isinstance(child, Element)]
    return [(a.text, b.text) for a, b in zip(parts[::2], parts[1::2], strict=True)]


def test_every_word_has_a_meaning_and_is_counted(seen, records):
    assert {*WORDS} < {*MEANINGS}
    found = [name for name, _ in pairs(seen.one("dl", **{"class": "words"}))]
    words = [record["word"] for record in records]
    assert sorted(found) == sorted(f"{words.count(word)} {word}" for word in {*words})
    assert seen.one("h1").text == "Unlearning on made_up"


def test_what_failed_is_said(run):
    root = read(page([run], {"test_a.py::test_klom[made_up-made_up-other]": "it broke"}))
    wrong = pairs(root.one("section", id="wrong").one("dl"))
    assert wrong == [
        ("made_up-made_up-gone", "it ended before it was scored"),
        ("test_a.py::test_klom[made_up-made_up-other]", "it broke"),
    ]
    whole = replace(run, failed=())
    assert first_screen(whole, [whole], {}).wrong == ()


def sentences(run, part):
    return " ".join(getattr(first_screen(run, [run], {}), part))


def test_what_was_not_tested_is_said(run, records):
    text = sentences(run, "not_tested")
    for what in (
        "Another architecture",
        "Representations",
        "Attacks",
        "other inputs",
        "made from seed 0",
    ):
        assert what in text
    given = [{**records[0], "task": "margins"}]
    assert "whose margins were given" in sentences(replace(run, rows=tuple(given)), "not_tested")


def test_how_sure_it_is_depends_on_n(run, records):
    assert "2 words of 2 are provisional" in sentences(run, "sure")
    sure = [{**record, "word_is_provisional": False} for record in records]
    assert "provisional" not in sentences(replace(run, rows=tuple(sure)), "sure")
    floor = {**records[0]["floor"], "forget": {**records[0]["floor"]["forget"], "p95": 0.1}}
    low = tuple({**record, "floor": floor} for record in records)
    assert "KLOM has room here" in sentences(replace(run, rows=low), "sure")
    floor = {**floor, "forget": {**floor["forget"], "p95": 9.9}}
    high = tuple({**record, "floor": floor} for record in records)
    assert "KLOM tells nothing at this N" in sentences(replace(run, rows=high), "sure")
    seen = tuple({**record, "sees_oracles": True} for record in records)
    assert "upper bound" in sentences(replace(run, rows=seen), "sure")
    assert "upper bound" not in sentences(run, "sure")


def gate(verdict, **more):
    usual = dict.fromkeys(
        [
            "se",
            "skew",
            "low",
            "high",
            "confidence",
            "settled_at",
            "perfect_by",
            "before",
            "allowed",
            "baseline",
            "rise",
            "why",
        ]
    )
    numbers = {
        "metric": "val_p95",
        "limit": 1.0,
        "value": 2.0,
        "perfect": 0.9,
        "early": False,
        "family": 1,
    }
    return {**usual, **numbers, "changed": [], "verdict": verdict, **more}


def test_limits_are_counted_and_have_a_table(run, records):
    assert "No limit was set" in sentences(run, "gates")
    held = {
        **records[0],
        "gates": [gate("fail"), gate("pass", limit=3.0), gate("pass", limit=4.0)],
        "verdict": "fail",
    }
    of_two = replace(run, rows=(held, records[1]))
    text = sentences(of_two, "gates")
    assert "3 limits on 1 test: 2 kept, 1 exceeded, 0 inconclusive." in text
    assert "1 test had no limit" in text
    root = read(page([of_two]))
    head, first, second, _ = rows(root.one("table", id="gates"))
    assert first[:4] == ["shift lr=0.1 on made_up", "val_p95", "1", "2"]
    assert [dict(zip(head, row, strict=True))["verdict"] for row in (first, second)] == [
        "fail",
        "pass",
    ]
    assert "exceeds the limit 1: fail" in first[-1]
    first_detail = next(root.one(id="one-by-one").all("details"))
    assert "exceeds the limit 1: fail" in first_detail.text


def test_of_a_baseline_the_name_alone_is_told(run, records):
    risen = gate("fail", before=1.0, allowed="0.1", baseline="/home/somebody/old.json", limit=1.1)
    held = {**records[0], "gates": [risen], "verdict": "fail"}
    text = page([replace(run, rows=(held,))])
    assert "before: old.json" in text
    assert "somebody" not in text


def test_names_do_nothing(run, records):
    odd = {**records[0], "method": ODD, "setting": ODD, "forget_set": ODD, "task": ODD}
    odd["hyperparameters"] = {ODD: ODD}
    odd["gates"] = [gate("fail", before=1.0, allowed="0.1", baseline=ODD, changed=[ODD])]
    failed = {**run.failed[0], "method": ODD}
    commit = Commit(ODD, ODD, ODD)
    text = page_of([SavedRun(ODD, (odd, records[1]), (failed,), ODD, commit, "a CPU")], {ODD: ODD})
    root = read(text)
    assert [s.attributes.get("type") for s in root.all("script")] == ["application/gzip", None]
    assert not [*root.all("img")]
    assert not [a for e in root.all() for a in e.attributes if a.startswith("on")]
    shown = f"{SHOWN} {SHOWN}"
    assert rows(root.one("table", id="rows"))[2][0] in (shown, "do nothing")
    assert shown in [row[0] for row in rows(root.one("table", id="rows"))]
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert packed(root)["rows"][0][2:4] == [SHOWN, SHOWN]


def test_only_its_own_script_may_act_and_nothing_is_asked_of_a_network(seen, text):
    policy = seen.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.pop("default-src") == "'none'"
    script = next(s for s in seen.all("script") if not s.attributes)
    digest = hashlib.sha256("".join(script.children).encode()).digest()
    assert rules.pop("script-src") == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert rules == {
        "style-src": "'unsafe-inline'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    for element in seen.all():
        for name, value in element.attributes.items():
            if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
                assert value.startswith(("#", "data:")), (element.tag, value)
    urls = re.findall(r"https?://[^\"' )<]+", text)
    assert {*urls} <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_figures_stand_in_their_sections_with_a_title_and_a_caption(seen):
    drawn = [*seen.all("figure")]
    assert len(drawn) > 5
    for figure in drawn:
        svg = next(figure.all("svg"))
        assert svg.attributes["role"] == "img"
        assert svg.attributes["aria-label"]
        assert figure.one("figcaption").text
    for section in seen.all("section", **{"data-figures": None}):
        shown = [f for f in section.all("figure") if f.attributes.get("class") != "other"]
        assert len(shown) == 1


def test_two_runs_with_the_same_test_are_compared(run, records):
    before = replace(run, name="before.json", rows=(records[0],), failed=())
    now = replace(run, rows=({**result(0.2)[2], "setting": "lr=0.1"}, records[1]))
    root = read(page([before, now]))
    found = rows(root.one("table", id="changes-table"))[1:]
    told = changes(before, now)
    assert found == [[*row] for row in told.rows]
    assert {row[1] for row in found} >= {"forget_excess", "forget_mean"}
    assert "changed: made_up-made_up-shift:lr=0.1: lr 0.1 -> 0.2" in told.said
    assert "only in one.json: made_up-made_up-shift:lr=1.0" in told.said
    shown = [row[0] for row in rows(root.one("table", id="rows"))]
    assert shown == ["method", "oracles", "do nothing", "shift lr=0.1", "shift lr=1.0"]
    data = packed(root)
    excesses = [row[data["columns"].index("forget_excess")] for row in data["rows"]]
    known = [record["excess"]["forget"]["value"] for record in now.records]
    assert excesses == pytest.approx(known, rel=1e-5)
    facts = dict(pairs(root.one("dl", id="facts")))
    assert facts["before.json"] == facts["one.json"]
    assert facts["one.json"].endswith(", main, of 2026-01-02 03:04, a CPU")


def test_runs_that_share_no_test_are_one_table(run, records):
    first, second = (replace(run, name=f"{i}.json", rows=(r,)) for i, r in enumerate(records))
    root = read(page([first, second]))
    assert not [*root.all(id="changes")]
    assert len(packed(root)["rows"]) == 2


def test_more_runs_are_a_history(run, records):
    days = [
        replace(run, name=f"{day}.json", rows=(record,), at=f"2026-01-0{day}T00:00:00+00:00")
        for day, record in ((2, result(0.4)[2]), (1, result(0.3)[2]), (3, result(1.2)[2]))
    ]
    root = read(page(days))
    head, *found = rows(root.one("table", id="history-table"))
    row = dict(zip(head, found[0], strict=True))
    first, last = (score_of(days[i].records[0], "forget_excess") for i in (1, 2))
    assert row["metric"] == "forget_excess"
    assert (row["runs"], row["first"], row["last"]) == ("3", f"{first:.4f}", f"{last:.4f}")
    assert row["since"].startswith("worse since")
    assert [values[0] for values in packed(root)["rows"]] == ["made_up"]


def test_what_failed_is_in_the_first_lines(run, records):
    gate = {"metric": "forget_mean", "verdict": "fail"}
    red = copy.deepcopy(records[0]) | {"verdict": "fail"}
    red["gates"] = [{**of, **gate} for of in red["gates"]] or red["gates"]
    root = read(page([replace(run, rows=(red, records[1]))]))
    summary = root.one("p", **{"class": "summary"}).text
    gated = sum(r["verdict"] != "none" for r in (red, records[1]))
    assert summary.endswith(f" 1 of {gated} test{'s' * (gated > 1)} with limits failed.")


def test_a_run_that_measured_nothing_says_so():
    root = read(page([SavedRun("empty.json", ())], {"test_a.py::test_b": "broke"}))
    assert root.one("p", **{"class": "summary"}).text == "Nothing was measured."
    assert "broke" in root.one(id="wrong").text
    assert packed(root)["rows"] == []


def test_of_many_rows_fifty_have_details_in_the_page(run, records):
    many = tuple({**records[i % 2], "setting": f"lr={i}", "histograms": []} for i in range(60))
    root = read(page([replace(run, rows=many)]))
    details = [*root.one(id="one-by-one").all("details")]
    assert len(details) == 50
    assert len(packed(root)["details"]) == 60
    worst = max(records, key=lambda record: record["excess"]["forget"]["value"])
    assert all(f"lr={worst['hyperparameters']['lr']}," not in d.text for d in details[30:])
