"""--klom-param: values of hyperparameters, one test each."""

import json

import pytest
from helpers.records import COUNTING, records

from klom_bench.plugin.values import values_in


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-3", (1e-3,)),
        ("1e-4,1e-3", (1e-4, 1e-3)),
        ("1, 2,2", (1, 2)),
        ("(3, 5)", ((3, 5),)),
        ("(3, 5), (2,)", ((3, 5), (2,))),
        ("()", ((),)),
        ("member,mean", ("member", "mean")),
        ("adam", ("adam",)),
        ("True,False", (True, False)),
        ("[1, 2]", ([1, 2],)),
        ("[1], [2]", ([1], [2])),
    ],
)
def test_values_of_a_hyperparameter(text, values):
    assert values_in(text) == values


def test_a_list_is_a_test_each(project, pytester):
    result = project(
        "--klom-method=ga,do_nothing",
        "--klom-param=ga.lr=0.1,0.3",
        "--klom-param=epochs=2,3",
        "--klom-param=batch_size=32",
        "--klom-forget-set=3",
        "--benchmark-json=out.json",
    )
    result.stderr.fnmatch_lines(["*do_nothing: unknown hyperparameter*"])

    result = project(
        "--klom-method=ga,do_nothing",
        "--klom-param=ga.lr=0.1,0.3",
        "--klom-param=ga.epochs=2,3",
        "--klom-param=ga.batch_size=32",
        "--klom-forget-set=3",
        "--benchmark-json=out.json",
        "-v",
    )
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(
        ["*test_klom[[]digits-forget_set_3-ga:epochs=2,lr=0.1[]] PASSED*", "*do nothing *"]
        + [f"*ga epochs={e},lr={lr} *no gate*" for e in (2, 3) for lr in (0.1, 0.3)]
    )
    found = {r["setting"]: r for r in records(pytester.path / "out.json") if r["method"] == "ga"}
    assert len(found) == 4
    for setting, record in found.items():
        assert record["hyperparameters"]["batch_size"] == 32
        for part in setting.split(","):
            name, value = part.split("=")
            assert record["hyperparameters"][name] == float(value)
    assert len({json.dumps(r["scores"]) for r in found.values()}) == 4


def test_a_setting_scores_what_it_scores_alone(project, pytester):
    args = ("--klom-method=ga", "--klom-forget-set=3")
    project(*args, "--klom-param=lr=0.1,0.3", "--benchmark-json=both.json")
    project(*args, "--klom-param=lr=0.3", "--benchmark-json=one.json")
    both, (alone,) = (records(pytester.path / f"{n}.json") for n in ("both", "one"))
    assert [r["setting"] for r in both] == ["lr=0.1", "lr=0.3"]
    assert alone["setting"] == ""
    assert both[1]["scores"] == alone["scores"]


def test_settings_have_places_of_their_own_in_a_baseline(project, pytester):
    args = ("--klom-method=ga", "--klom-forget-set=3")
    project(*args, "--klom-param=lr=0.1,0.3", "--klom-save-baseline=base.json")
    content = json.loads((pytester.path / "base.json").read_text())
    assert sorted(content["tests"]) == [f"digits-forget_set_3-ga:lr={v}" for v in (0.1, 0.3)]
    compare = ("--klom-baseline=base.json", "--klom-max-regression=val_p95=0")
    result = project(*args, "--klom-param=lr=0.3,0.1", *compare)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["baseline *: 2 of 2 tests measured are in it"])
    result = project(*args, "--klom-param=lr=0.3", *compare)
    result.stderr.fnmatch_lines(["*shares no test with this run*"])


def test_values_that_do_not_fit_end_the_run_before_it_begins(project):
    for params, message in (
        (["lr=0.1,fast"], "*ga: lr must be of type float*got 'fast'*"),
        (["optimizer=sgd,adm"], "*ga: unknown optimizer 'adm': did you mean adam*"),
        (["scrub.lr=1,2"], "*--klom-param scrub.lr=1,2: 'scrub' is not among*"),
    ):
        result = project("--klom-method=ga", *(f"--klom-param={p}" for p in params))
        assert result.ret == 4
        result.stderr.fnmatch_lines([message])


def test_a_users_method_may_be_swept(project):
    result = project(
        "--klom-method=mine",
        "--klom-param=mode=up,down",
        "--klom-param=sizes=(1,),(2, 3)",
        "--klom-forget-set=1",
        "-rP",
        conftest=COUNTING,
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*mine mode=down,sizes=(2,3) *"])
    result.stdout.fnmatch_lines(["an epoch of down (2, 3)"])


@pytest.mark.parametrize("option", ["--klom-epochs=1", "--klom-tuned=x.json"])
def test_options_that_would_do_nothing(project, option):
    result = project(option)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{option.partition('=')[0]} needs --klom-method*"])


def test_the_order_of_options_does_not_name_a_test(project):
    result = project(
        "--klom-method=ga",
        "--klom-param=lr=1,2",
        "--klom-param=epochs=1,2",
        "--klom-forget-set=1",
        "--collect-only",
        "-q",
    )
    other = project(
        "--klom-method=ga",
        "--klom-param=epochs=1,2",
        "--klom-param=lr=1,2",
        "--klom-forget-set=1",
        "--collect-only",
        "-q",
    )
    ids = [sorted(line for line in r.outlines if "::" in line) for r in (result, other)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 4
