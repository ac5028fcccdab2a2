"""--klom-baseline and --klom-max-regression."""

import json

import pytest
from helpers.baselines import ASKED, change, lower_ga_on_3

from klom_bench.tasks import DIGITS


def test_the_same_run_rises_nowhere(project, saved):
    for name in ("base.json", "bench.json"):
        result = project(
            *ASKED,
            f"--klom-baseline={name}",
            "--klom-max-regression=forget_p95=0%",
            "--klom-max-regression=reverse_val_mean=0",
        )
        result.assert_outcomes(passed=4)
        result.stdout.fnmatch_lines(
            [
                "4 of 4 tests measured: 4 within limits",
                f"baseline *{name}: 4 of 4 tests measured are in it",
                "  forget_p95: unchanged",
                "  reverse_val_mean: unchanged",
            ]
        )


@pytest.mark.parametrize(
    ("rise", "fails"), [("0.4", True), ("0.6", False), ("1%", True), ("90%", False)]
)
def test_a_rise_fails_in_its_own_test(project, saved, pytester, rise, fails):
    saved(lower_ga_on_3)
    result = project(
        *ASKED,
        "--klom-baseline=base.json",
        f"--klom-max-regression=forget_p95={rise}",
        "--benchmark-json=out.json",
    )
    result.assert_outcomes(passed=4 - fails, failed=int(fails))
    tests = json.loads((pytester.path / "base.json").read_text())["tests"]
    benchmarks = json.loads((pytester.path / "out.json").read_text())["benchmarks"]
    records = {b["param"]: b["extra_info"]["klom"] for b in benchmarks}
    before, now = (found["digits-forget_set_3-ga"] for found in (tests, records))
    was, is_now = before["scores"]["forget"]["p95"], now["scores"]["forget"]["p95"]
    (gate,) = now["gates"]
    assert (gate["metric"], gate["before"], gate["value"]) == ("forget_p95", was, is_now)
    share = float(rise.rstrip("%")) / 100
    assert gate["limit"] == pytest.approx(was * (1 + share) if "%" in rise else was + share * 100)
    if fails:
        result.stdout.fnmatch_lines(
            [
                f"forget_p95 rose from {was:.2f} to {is_now:.2f}, {rise} allowed: *",
                "  ga on forget_set_3 of digits (6 unlearned against 6 oracles)",
                f"  forget_p95: KLOM of the forget set, p95: {was:.4g} before, {is_now:.4g} now; *",
                "    before: *base.json",
            ]
        )
    result.stdout.fnmatch_lines([f"  forget_p95: largest rise {was:.4g} -> {is_now:.4g} (*"])


def test_a_rise_in_the_noise_is_inconclusive_and_fails(project, saved):
    """6 models cannot tell a score of 7 from a perfect unlearner's."""
    saved(lower_ga_on_3)
    result = project(
        *ASKED,
        "--klom-baseline=base.json",
        "--klom-max-regression=forget_p95=1%",
    )
    result.stdout.fnmatch_lines(
        ["*allowed, so up to *: inconclusive", "*still in the noise (floor *more models*"]
    )


def test_a_rise_that_nothing_can_make_is_told(project, saved):
    asked = (*ASKED, "--klom-baseline=base.json", "--klom-max-regression=val_p95=50%")
    result = project(*asked, "--klom-max-regression=val_mean=1%")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        ["  val_p95: 4 of 4 tests cannot fail*(digits-forget_set_1-do_*, ...)"]
    )
    assert "val_mean: 4 of 4" not in result.stdout.str()


def test_changed_hyperparameters_are_told(project, saved):
    result = project(
        *ASKED,
        "--klom-baseline=base.json",
        "--klom-max-regression=val_mean=5%",
        "--klom-param=ga.lr=2.0",
        "--klom-forget-set=3",
    )
    result.stdout.fnmatch_lines(
        [f"    hyperparameters changed since: lr {DIGITS.hyperparameters['ga']['lr']} -> 2.0"]
    )


def test_without_limits_changes_are_shown_and_nothing_fails(project, saved):
    saved(lower_ga_on_3)
    result = project(*ASKED, "--klom-baseline=base.json")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            "  forget_p95: largest rise * (digits-forget_set_3-ga)",
            "  retain_p95: unchanged",
            "  nothing is asserted against it: say --klom-max-regression*",
        ]
    )


def test_new_and_missing_tests_are_named(project, saved):
    result = project(
        "--klom-method=ga,random_label",
        "--klom-forget-set=1",
        "--klom-models=6",
        "--klom-baseline=base.json",
        "--klom-max-regression=val_mean=5%",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "2 of 2 tests measured: 1 within limits, 1 no gate",
            "*: 1 of 2 tests measured are in it",
            "  not in it, so not compared: digits-forget_set_1-random_label",
            "  in it, but not measured now: digits-forget_set_1-do_nothing, digits-forget_set_3-do*",
        ]
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change("seed", 7), "seed is 7 there, 0 is asked for"),
        (
            lambda _, r: r.update(members={"oracle": 100, "unlearned": 100}, pairing=None),
            "members is oracle=100 unlearned=100 there, oracle=6 unlearned=6 is asked for",
        ),
        (change("forget_set_sha256", "abc"), "forget_set_sha256 is abc there"),
        (change("estimator", {"name": "easydub"}), "estimator is name=easydub there, name=default"),
        (change("task", "cifar10"), "shares no test with this run"),
        (change("scores", {}), "is not a baseline (KeyError: 'forget')"),
        (
            lambda _, r: r["scores"]["val"].update(p95="1.0"),
            "is not a baseline (TypeError: val_p95",
        ),
        (lambda _, r: r["scores"]["val"].update(p95=None), "has no number for val_p95 of digits-"),
        (lambda _, r: r["scores"]["val"].update(p95=float("inf")), "(TypeError: val_p95 is inf"),
        (lambda _, r: r["scores"]["val"].update(p95=float("nan")), "(TypeError: val_p95 is nan"),
        (lambda _, r: r["scores"]["val"].update(p95=True), "(TypeError: val_p95 is True"),
        (lambda _, r: r["scores"]["val"].update(p95=-1), "(TypeError: val_p95 is -1"),
        (lambda _, r: r["scores"]["val"].update(p95=10**400), "(TypeError: val_p95 is 1000"),
        (change("method", 5), "is not a baseline (TypeError: method is 5)"),
        (lambda _, r: r.pop("seed"), "is not a baseline (KeyError: 'seed')"),
    ],
)
def test_what_does_not_fit_is_refused(project, saved, changed, message):
    saved(changed)
    result = project(*ASKED, "--klom-baseline=base.json", "--klom-max-regression=val_p95=5%")
    text = result.stdout.str() + result.stderr.str()
    assert result.ret == (1 if "no number" in message else 4), text
    assert message in text
    assert "INTERNALERROR" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory): a run with --klom-save-baseline"),
        ("", "is not a baseline (JSONDecodeError"),
        ("[]", "is not a baseline (TypeError"),
        ("{}", "is not a baseline (KeyError: 'benchmarks')"),
        ('{"benchmarks": []}', "has no KLOM test"),
        ('{"benchmarks": [{"extra_info": {}}]}', "has no KLOM test"),
        ('{"klom_baseline": 1, "tests": []}', "is not a baseline (AttributeError"),
        ('{"klom_baseline": 1, "tests": {}}', "has no KLOM test"),
        ('{"klom_baseline": 1, "tests": {"a": 3}}', "is not a baseline (TypeError"),
        ("[" * 200_000, "is not a baseline (RecursionError"),
        ('{"klom_baseline": 9, "tests": {}}', "is of another version (9, not 1)"),
    ],
)
def test_a_file_that_is_no_baseline(project, pytester, content, message):
    if content is not None:
        (pytester.path / "base.json").write_text(content)
    result = project("--klom-method=ga", "--klom-baseline=base.json")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*base.json {message.replace('[', '[[]')}*"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--klom-max-regression=val_p95=5%"], "above what? Give the earlier run"),
        (["--klom-max-regression=val_p95"], "must be METRIC=RISE"),
        (["--klom-baseline="], "--klom-baseline is empty"),
        (["--klom-save-baseline=nowhere/b.json"], "nowhere/b.json cannot be written"),
        (["--klom-save-baseline=."], "is a folder: name a file"),
        (
            ["--klom-baseline=.", "--klom-max-regression=val_p95=5%"],
            "cannot be read (Is a directory)",
        ),
    ],
)
def test_bad_options(project, args, message):
    result = project("--klom-method=ga", *args)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{message.replace('?', '[?]')}*"])


@pytest.mark.parametrize(
    ("rise", "message"),
    [
        ("val_p94=5%", "unknown score 'val_p94': did you mean val_p9*"),
        ("val_p95=-5%", "say how far the score may rise"),
        ("val_p95=much", "say how far the score may rise"),
        ("val_p95=nan", "say how far the score may rise"),
        ("val_p95=%", "say how far the score may rise"),
    ],
)
def test_bad_rises(project, saved, rise, message):
    result = project(*ASKED, "--klom-baseline=base.json", f"--klom-max-regression={rise}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{message}*"])


@pytest.mark.parametrize("flag", ["baseline=b.json", "save-baseline=b.json", "max-regression=a=1"])
def test_without_a_method_nothing_is_ignored_in_silence(project, flag):
    result = project(f"--klom-{flag}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*--klom-{flag.partition('=')[0]} needs --klom-method*"])


def test_ini_values(project, saved, pytester):
    saved(lower_ga_on_3)
    ini = '[tool.pytest]\nklom_baseline = "base.json"\nklom_max_regression = ["forget_p95=0.1"]\n'
    project(*ASKED, pyproject=ini).assert_outcomes(passed=3, failed=1)


@pytest.mark.processes
def test_workers_hold_tests_against_it_too(saved, pytester):
    saved(lower_ga_on_3)
    asked = (*ASKED, "-n1", "--klom-baseline=base.json")
    result = pytester.runpytest_inprocess(
        "-p",
        "no:hypothesispytest",
        *asked,
        "--klom-max-regression=forget_p95=0.1",
        "--klom-save-baseline=new.json",
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["forget_p95 rose from *", "  ga on forget_set_3 *"])
    assert len(json.loads((pytester.path / "new.json").read_text())["tests"]) == 4
    refused = pytester.runpytest_inprocess(*asked, "--klom-seed=3")
    assert refused.ret == 4
    refused.stderr.fnmatch_lines(["*seed is 0 there, 3 is asked for*"])
