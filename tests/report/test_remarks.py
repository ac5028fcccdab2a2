"""What the table says of a score, whatever the limits are."""

import json

import pytest

from klom_bench.cli import main
from klom_bench.report.remarks import breaks, forgets_nothing, in_all, outcome, says_nothing


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
        "perfect": p95((floor + 0.12, floor + 0.03, floor + 0.05)),
        "members": {"oracle": 100, "unlearned": 100},
        "estimator": {"name": "default"},
        **more,
    }


def test_a_test_that_passes_is_within_limits():
    assert outcome(record()) == "within limits"
    assert outcome(record(verdict="none")) == "no gate"
    assert outcome(record(verdict="fail")) == "fail"


@pytest.mark.parametrize(
    ("forget", "said"), [(6.99, False), (7.0, True), (6.996, True), (9.0, True), (None, False)]
)
def test_no_lower_than_doing_nothing(forget, said):
    assert forgets_nothing(record(forget=forget)) is said
    assert ("; forget no lower than doing nothing" in outcome(record(forget=forget))) is said
    assert not forgets_nothing(record(forget=7.0, method="do_nothing"))


def test_worse_than_doing_nothing_by_more_than_the_floor_varies():
    assert breaks(record(retain=1.22, val=1.34)) == []
    assert breaks(record(retain=1.24)) == ["retain"]
    assert breaks(record(retain=9.0, val=9.0)) == ["retain", "val"]
    ruined = record(forget=9.0, retain=9.0, val=9.0)
    assert outcome(ruined) == (
        "within limits; forget no lower than doing nothing; retain and val worse than doing nothing"
    )
    assert in_all([record(), ruined]) == [
        "of 2 tests 1 score no lower on forget than doing nothing, "
        "1 are worse on retain or val than doing nothing"
    ]
    assert in_all([record()]) == []


def test_nothing_can_be_told_of_few_models():
    few = record(10.0, 10.0, 10.0, (10.0,) * 3, 9.0, members={"oracle": 8, "unlearned": 6})
    assert says_nothing(few)
    assert outcome(few) == "within limits; nothing can be told"
    (line,) = in_all([few])
    assert line.startswith(
        "nothing can be told at this N: with 6 models against 8 oracles a perfect unlearner "
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
            "*ga lr=1e-06*within limits; forget no lower than doing nothing",
            "*ga lr=5*within limits; *retain and val worse than doing nothing",
            "2 of 2 tests measured: 2 within limits",
            "of 2 tests *",
            "within limits: no score is above those set for the test; whether it forgets*",
        ]
    )
    assert not [line for line in result.outlines if line.endswith("  pass")]


def test_a_run_of_few_models_says_how_many_would_do(project):
    result = project("--klom-method=ga", "--klom-forget-set=3", "--klom-models=5")
    result.stdout.fnmatch_lines(
        ["*no gate; nothing can be told", "nothing can be told at this N: with 5 models*would do"]
    )


def test_cost_is_counted_in_the_table_as_in_the_report(project, pytester, capsys):
    result = project("--klom-method=ga", "--klom-forget-set=3", "--benchmark-json=x.json")
    content = json.loads((pytester.path / "x.json").read_bytes())
    (benchmark,) = content["benchmarks"]
    cost = benchmark["extra_info"]["klom"]["relative_cost"]["examples"]
    (row,) = [line for line in result.outlines if line.lstrip().startswith("ga ")]
    assert f" {cost:.1%} " in row
    capsys.readouterr()
    assert main(["report", str(pytester.path / "x.json")]) == 0
    assert f"| {cost:.0%} |" in capsys.readouterr().out
