"""A run held against an earlier one."""

import json
import os
import re

import pytest

from klom_bench.tasks import DIGITS

ASKED = ("--klom-method=do_nothing,ga", "--klom-forget-set=1,3", "--klom-models=6")

FILES: list[str] = []


@pytest.fixture
def saved(project, pytester):
    """A baseline of four tests, as its content; `saved(change)` writes it changed."""
    names = ("base.json", "bench.json")
    if not FILES:  # the same for all tests
        asked = [f"--klom-save-baseline={names[0]}", f"--benchmark-json={names[1]}"]
        result = project(*ASKED, *asked)
        result.assert_outcomes(passed=4)
        assert f"baseline saved: {pytester.path / names[0]}" in result.outlines
        FILES.extend((pytester.path / name).read_text() for name in names)
    for name, text in zip(names, FILES, strict=True):
        (pytester.path / name).write_text(text)
    path = pytester.path / names[0]

    def write(change):
        changed = json.loads(FILES[0])
        for test, record in changed["tests"].items():
            change(test, record)
        path.write_text(json.dumps(changed))

    return write


def lower_ga_on_3(test, record):
    """As if the forget set had scored less before."""
    if test == "digits-forget_set_3-ga":
        record["scores"]["forget"]["p95"] -= 0.5


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
                f"forget_p95 rose from {was:.2f} to {is_now:.2f}, {rise} allowed: *; "
                "ga on forget_set_3 of digits (6 unlearned against 6 oracles)",
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


def change(key, value):
    def made(test, record):
        record[key] = value

    return made


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change("seed", 7), "seed is 7 there, 0 is asked for"),
        (
            change("members", {"oracle": 100, "unlearned": 100}),
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
        (["--klom-save-baseline=."], "cannot be written: name a file"),
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


def test_the_saved_file_is_sorted_and_stays_the_same(project, saved, pytester):
    path = pytester.path / "base.json"
    text = path.read_text()
    content = json.loads(text)
    assert text == json.dumps(content, indent=1, sort_keys=True) + "\n"
    assert list(content["tests"]) == sorted(content["tests"])
    assert len(text) < 4000 * len(content["tests"])
    assert not re.search(r"seconds|torch|/tmp|node", text)
    reversed_order = ("--klom-method=ga,do_nothing", "--klom-forget-set=3,1", "--klom-models=6")
    project(*reversed_order, "--klom-save-baseline=base.json").assert_outcomes(passed=4)
    assert path.read_text() == text


def test_a_run_that_measured_less_than_all_saves_nothing(project, saved, pytester):
    path = pytester.path / "base.json"
    text = path.read_text()
    conftest = """
        import pytest

        @pytest.fixture
        def do_nothing():
            def unlearn(model, forget, retain):
                raise RuntimeError
                yield
            return unlearn
    """
    result = project(*ASKED, "--klom-save-baseline=base.json", conftest=conftest)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["baseline not saved: not all tests were measured*"])
    assert path.read_text() == text


@pytest.mark.parametrize("args", [["-k", "nosuch"], ["nosuchfile.py"]])
def test_a_run_of_nothing_saves_nothing(project, saved, pytester, args):
    result = project(*ASKED, "--klom-save-baseline=base.json", *args)
    assert result.ret != 0
    assert (pytester.path / "base.json").read_text() == FILES[0]


def test_conformance_alone_saves_nothing_and_is_held_against_nothing(project, saved, pytester):
    pytester.makepyfile(test_mine="from klom_bench.suite import test_conformance")
    result = project(*ASKED, "--klom-save-baseline=base.json")
    assert result.ret == 1
    assert (pytester.path / "base.json").read_text() == FILES[0]
    against = ("--klom-baseline=base.json", "--klom-max-regression=val_p95=1%")
    project(*ASKED, *against).assert_outcomes(passed=2)


TWO = """
    import dataclasses, pytest

    @pytest.mark.parametrize("lr", [0.3, 0.01])
    def test_lr(klom_cell, klom, lr):
        cell = dataclasses.replace(klom_cell, hyperparameters={**klom_cell.hyperparameters, "lr": lr})
        klom.check(klom.measure(cell))
"""


def test_two_records_of_one_test_are_not_made_one(project, saved, pytester):
    pytester.makepyfile(test_mine=TWO)
    asked = ("--klom-method=ga", "--klom-forget-set=3", "--klom-models=6")
    result = project(*asked, "--klom-save-baseline=base.json", "--benchmark-json=two.json")
    result.assert_outcomes(passed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["baseline not saved: two records of digits-forget_set_3-ga differ*"]
    )
    assert (pytester.path / "base.json").read_text() == FILES[0]
    refused = project(*asked, "--klom-baseline=two.json")
    assert refused.ret == 4
    refused.stderr.fnmatch_lines(["*two records of digits-forget_set_3-ga differ*"])


def test_the_same_test_twice_is_one(project, pytester):
    pytester.makepyfile(test_again="from klom_bench.suite import test_klom")
    result = project("--klom-method=ga", "--klom-forget-set=1", "--klom-save-baseline=base.json")
    result.assert_outcomes(passed=2)
    assert len(json.loads((pytester.path / "base.json").read_text())["tests"]) == 1


def test_a_run_that_fails_against_a_file_does_not_replace_it(project, saved, pytester):
    saved(lower_ga_on_3)
    text = (pytester.path / "base.json").read_text()
    both = ("--klom-baseline=base.json", "--klom-save-baseline=base.json")
    result = project(*ASKED, *both, "--klom-max-regression=forget_p95=0.1")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["baseline not saved: tests failed against this very file*"])
    assert (pytester.path / "base.json").read_text() == text
    project(*ASKED, *both, "--klom-max-regression=forget_p95=0.9").assert_outcomes(passed=4)
    assert (pytester.path / "base.json").read_text() == FILES[0]


def test_a_link_stays_a_link(project, pytester):
    real = pytester.mkdir("real") / "base.json"
    (pytester.path / "base.json").symlink_to(real)
    project("--klom-method=ga", "--klom-forget-set=1", "--klom-save-baseline=base.json")
    assert (pytester.path / "base.json").is_symlink()
    assert "digits-forget_set_1-ga" in real.read_text()


def test_what_is_no_file_is_not_replaced(project, pytester):
    os.mkfifo(pytester.path / "pipe")
    result = project("--klom-method=ga", "--klom-forget-set=1", "--klom-save-baseline=pipe")
    assert result.ret == 1
    assert (pytester.path / "pipe").is_fifo()


ODD = """
    import numpy as np, pytest, torch

    @pytest.fixture
    def odd():
        def unlearn(model, forget, retain, *, lr=np.float64(0.5), kind=torch.float32, way=torch.optim.SGD,
                    pairs=((1, 2), (3, 4)), table={1: 0.5}, limit=float("nan"), some=frozenset([1])):
            with torch.no_grad():
                for p in model.parameters():
                    p *= lr
            yield
        return unlearn
"""


@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["serial", "workers"])
def test_hyperparameters_of_any_kind_travel_and_stay_the_same(project, pytester, workers):
    pytester.makeconftest(ODD)
    pytester.makepyfile(test_mine="from klom_bench.suite import test_klom")
    run = pytester.runpytest_subprocess if workers else pytester.runpytest_inprocess
    asked = ("--klom-models=4", "--klom-method=odd", "--klom-forget-set=1", *workers)
    run(*asked, "--klom-save-baseline=base.json").assert_outcomes(passed=1)
    (record,) = json.loads((pytester.path / "base.json").read_text(), parse_constant=pytest.fail)[
        "tests"
    ].values()
    found = record["hyperparameters"]
    assert (found["lr"], found["kind"], found["limit"]) == (0.5, "torch.float32", "nan")
    assert (found["pairs"], found["table"]) == ([[1, 2], [3, 4]], {"1": 0.5})
    result = pytester.runpytest_inprocess(
        *asked[:3],
        "--klom-baseline=base.json",
        "--klom-max-regression=val_p95=0",
        "--klom-max-regression=val_mean=0",
    )
    result.assert_outcomes(passed=1)
    assert "changed since" not in result.stdout.str()


@pytest.mark.parametrize("flag", ["baseline=b.json", "save-baseline=b.json", "max-regression=a=1"])
def test_without_a_method_nothing_is_ignored_in_silence(project, flag):
    result = project(f"--klom-{flag}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*--klom-{flag.partition('=')[0]} needs --klom-method*"])


def test_a_baseline_that_cannot_be_written_turns_the_run_red(project, pytester):
    name = "b" * 250  # fits, but not with what is added while it is written
    result = project("--klom-method=ga", "--klom-forget-set=1", f"--klom-save-baseline={name}")
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["baseline not saved: *cannot be written (File name too long)"])


def test_a_run_that_fails_its_gates_may_become_the_baseline(project, pytester):
    result = project(*ASKED, "--klom-max=forget_p95=0.1", "--klom-save-baseline=base.json")
    assert result.ret == 1
    assert len(json.loads((pytester.path / "base.json").read_text())["tests"]) == 4


def test_ini_values(project, saved, pytester):
    saved(lower_ga_on_3)
    ini = '[tool.pytest]\nklom_baseline = "base.json"\nklom_max_regression = ["forget_p95=0.1"]\n'
    project(*ASKED, pyproject=ini).assert_outcomes(passed=3, failed=1)


def test_workers_hold_tests_against_it_too(saved, pytester):
    saved(lower_ga_on_3)
    asked = (*ASKED, "-n1", "--klom-baseline=base.json")
    result = pytester.runpytest_subprocess(
        "-p",
        "no:hypothesispytest",
        *asked,
        "--klom-max-regression=forget_p95=0.1",
        "--klom-save-baseline=new.json",
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["forget_p95 rose from *ga on forget_set_3*"])
    assert len(json.loads((pytester.path / "new.json").read_text())["tests"]) == 4
    refused = pytester.runpytest_inprocess(*asked, "--klom-seed=3")
    assert refused.ret == 4
    refused.stderr.fnmatch_lines(["*seed is 0 there, 3 is asked for*"])
