"""What the table says of a score, whatever the limits are."""

import json

from klom_bench.cli import main
from klom_bench.report.remarks import in_all, outcome, says_nothing


def record(forget=3.0, retain=1.0, val=1.0, nothing=(7.0, 1.2, 1.3), floor=0.69, **more):
    def p95(values):
        return {s: {"p95": v} for s, v in zip(("forget", "retain", "val"), values, strict=True)}

    return {
        "method": "ga",
        "verdict": "pass",
        "scores": p95((forget, retain, val)),
        "do_nothing": p95(nothing),
        "floor": p95((floor,) * 3),
        "nowhere": p95((9.3,) * 3),
        "task": "digits",
        "members": {"oracle": 100, "unlearned": 100},
        "estimator": {"name": "default"},
        "word": "forgets in part",
        "word_is_provisional": False,
        "below_floor": [],
        "nearer": {},
        "leftover": None,
        **more,
    }


def test_a_test_that_passes_is_within_limits():
    assert outcome(record()) == "forgets in part; within limits"
    assert outcome(record(verdict="none")) == "forgets in part; no gate"
    assert outcome(record(verdict="fail")) == "forgets in part; fail"


def test_the_word_stands_before_the_verdict():
    assert outcome(record(word="breaks the rest", verdict="fail")) == "breaks the rest; fail"
    assert outcome(record(word_is_provisional=True)) == "forgets in part?; within limits"
    low = record(below_floor=["forget", "val"], verdict="none")
    assert outcome(low) == "forgets in part; below the floor on forget and val; no gate"


def test_an_earlier_epoch_has_a_word_and_no_verdict():
    early = record()
    del early["verdict"]
    assert outcome(early) == "forgets in part"


def test_the_words_of_a_run_are_counted():
    every = [record(), record(word="breaks the rest"), record()]
    assert in_all(every) == ["in words: 2 forgets in part, 1 breaks the rest"]
    words, provisional = in_all([record(word_is_provisional=True), record()])
    assert words == "in words: 2 forgets in part"
    assert provisional.startswith("?: a word is provisional below N = 100")
    assert in_all([]) == []


def test_nothing_can_be_told_of_few_models():
    few = record(10.0, 10.0, 10.0, (10.0,) * 3, 9.0, members={"oracle": 8, "unlearned": 6})
    assert says_nothing(few)
    assert not says_nothing(record())
    _, line = in_all([few])
    assert line.startswith(
        "KLOM tells nothing at this N: with 6 models against 8 oracles a perfect unlearner "
        "scores 9.00 (P95), and models that are nowhere near the oracles 9.30; --klom-models="
    )
    enough = int(line.partition("--klom-models=")[2].split()[0])
    assert 40 <= enough <= 60  # where the floor is a quarter of that


def test_a_run(project):
    """Ascent that ruins the models, beside one that does next to nothing."""
    result = project(
        "--klom-method=ga",
        "--klom-param=lr=1e-6,5",
        "--klom-forget-set=5",
        "--klom-models=32",
        "--klom-max=val_p95=11.5",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*ga lr=1e-06*no better than doing nothing[?]; within limits",
            "*ga lr=5*breaks the rest[?]; within limits",
            "2 of 2 tests measured: 2 within limits",
            "in words: 1 no better than doing nothing, 1 breaks the rest",
            "[?]: a word is provisional*",
            "within limits: no score is above those set for the test; whether it forgets*",
        ]
    )
    assert not [line for line in result.outlines if line.endswith("  pass")]


def test_a_run_of_few_models_says_how_many_would_do(project):
    result = project("--klom-method=ga", "--klom-forget-set=3", "--klom-models=5")
    result.stdout.fnmatch_lines(
        ["*[?]; no gate", "KLOM tells nothing at this N: with 5 models*would do"]
    )


def test_cost_is_counted_in_the_table_as_in_the_report(project, pytester, capsys):
    result = project("--klom-method=ga", "--klom-forget-set=3", "--benchmark-json=x.json")
    content = json.loads((pytester.path / "x.json").read_bytes())
    (benchmark,) = content["benchmarks"]
    cost = benchmark["extra_info"]["klom"]["relative_cost"]["examples"]
    _, row = [line for line in result.outlines if line.lstrip().startswith("ga ")]
    assert f" {cost:.1%} " in row
    capsys.readouterr()
    assert main(["report", str(pytester.path / "x.json")]) == 0
    assert f"| {cost:.0%} |" in capsys.readouterr().out
