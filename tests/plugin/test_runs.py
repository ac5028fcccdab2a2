"""The plugin as its users see it: projects of their own, run by pytest."""

import json
import re

import pytest

from klom_bench.tasks import DIGITS

MINE = """
import pytest, torch

@pytest.fixture
def my_method():
    def unlearn(model, forget, retain, *, strength=0.1):
        for _ in range(2):
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(1 - strength)
            yield
    return unlearn
"""


def test_the_main_job(project):
    result = project("--klom-method=ga", "--klom-forget-set=1,3")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "klom: ga on digits (2 forget sets), 4 models against 4 oracles, seed 0, *cpu*",
            "*= KLOM =*",
            "4 unlearned against 4 oracles of digits, estimator default*",
            "forget_set_1 *oracles*",
            "*do nothing*",
            "*ga *no gate*",
            "forget_set_3 *",
            "2 of 2 tests measured: 2 no gate",
            "no gate: nothing was asserted*--klom-max forget_p95=LIMIT",
            "store: *",
        ]
    )


def test_all_forget_sets_have_stable_ids(project):
    result = project("--klom-method=ga", "--klom-method=scrub", "--collect-only", "-q")
    ids = [line for line in result.outlines if "::" in line]
    assert len(ids) == 22
    assert ids[:3] == [
        "test_mine.py::test_klom[digits-forget_set_1-ga]",
        "test_mine.py::test_klom[digits-forget_set_1-scrub]",
        "test_mine.py::test_klom[digits-forget_set_2-ga]",
    ]


def test_the_json_holds_the_records(project, pytester):
    result = project(
        "--klom-method=ga",
        "--klom-forget-set=3",
        "--klom-param=ga.lr=0.25",
        "--klom-max=forget_mean=11",
        "--benchmark-json=out.json",
    )
    result.assert_outcomes(passed=1)
    text = (pytester.path / "out.json").read_text()
    assert "UNSERIALIZABLE" not in text
    (bench,) = json.loads(text, parse_constant=pytest.fail)["benchmarks"]
    klom = bench["extra_info"]["klom"]
    assert klom["hyperparameters"]["lr"] == 0.25
    assert klom["verdict"] == "pass"
    assert klom["gates"][0]["metric"] == "forget_mean"
    assert bench["params"] == {
        "klom_task": "digits",
        "klom_forget_set": "forget_set_3",
        "klom_method": "ga",
    }
    assert bench["stats"]["rounds"] == 1
    assert bench["stats"]["total"] == pytest.approx(klom["seconds"]["unlearn"], rel=0.2, abs=0.01)


def test_without_a_method_a_suite_is_untouched(project, pytester):
    pytester.makepyfile(test_other="def test_other(): pass")
    result = project()
    result.assert_outcomes(passed=1, deselected=1)
    assert "KLOM" not in result.stdout.str()


def test_with_a_method_only_klom_tests_run(project, pytester):
    pytester.makepyfile(test_other="def test_other(): raise RuntimeError")
    project("--klom-method=ga", "--klom-forget-set=1").assert_outcomes(passed=1, deselected=1)
    pair = project("--klom-method=ga,do_nothing", "--klom-forget-set=1")
    pair.assert_outcomes(passed=2, deselected=1)


def test_a_method_of_ones_own(project):
    result = project(
        "--klom-method=my_method", "--klom-forget-set=1", "--klom-param=strength=0.2", conftest=MINE
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*my_method *no gate*"])


def test_ones_own_method_takes_the_place_of_a_built_in_one(project):
    result = project(
        "--klom-method=ga",
        "--klom-forget-set=1",
        "--klom-param=strength=0.2",
        conftest=MINE.replace("def my_method", "def ga"),
    )
    result.assert_outcomes(passed=1)


def test_a_built_in_method_with_other_defaults(project, pytester):
    conftest = """
        import functools, pytest

        @pytest.fixture
        def gentle_ga(ga):
            return functools.partial(ga, lr=0.01)
    """
    result = project(
        "--klom-method=gentle_ga",
        "--klom-forget-set=1",
        "--benchmark-json=out.json",
        conftest=conftest,
    )
    result.assert_outcomes(passed=1)
    bench = json.loads((pytester.path / "out.json").read_text())["benchmarks"][0]
    assert bench["extra_info"]["klom"]["hyperparameters"]["lr"] == 0.01


def test_hooks_add_forget_sets_and_tasks(project):
    conftest = """
        import dataclasses
        from klom_bench.tasks import DIGITS

        def pytest_klom_tasks(config):
            short = dataclasses.replace(DIGITS.recipe, epochs=2)
            return [dataclasses.replace(DIGITS, name="short", folder="SHORT", recipe=short)]

        def pytest_klom_forget_sets(config, task):
            if task.name == "short":
                return {"evens": range(0, 40, 2)}
    """
    result = project(
        "--klom-method=ga", "--klom-task=short", "--klom-forget-set=evens", conftest=conftest
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["evens *oracles*"])


def test_gates_from_pyproject_marker_and_command_line(project, pytester):
    gates = "[tool.klom.gates]\nval_mean = 0.1\n[tool.klom.gates.ga]\nval_mean = 11.5\n"
    asked = ("--klom-method=ga", "--klom-method=do_nothing", "--klom-forget-set=1")
    result = project(*asked, pyproject=gates)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["val_mean *, limit 0.1: inconclusive", "  do_nothing on forget_set_1 of digits*"]
    )
    result.stdout.fnmatch_lines(["2 of 2 tests measured: 1 within limits, 1 inconclusive"])
    pytester.makepyfile(
        test_mine="import pytest\nfrom klom_bench.suite import test_klom\n"
        "pytestmark = pytest.mark.klom(val_mean=11.4)"
    )
    run = pytester.runpytest_inprocess
    run("--klom-models=4", *asked).assert_outcomes(passed=2)
    run("--klom-models=4", *asked, "--klom-max=val_mean=0").assert_outcomes(failed=2)


def test_the_closest_marker_wins(pytester):
    pytester.makepyfile(
        test_mine="import pytest\nfrom klom_bench import suite\n"
        "@pytest.mark.klom(val_mean=0.2)\n"
        "def test_klom(klom_cell, klom): suite.test_klom(klom_cell, klom)\n"
        "pytestmark = pytest.mark.klom(val_mean=11.4, forget_mean=11.3)"
    )
    result = pytester.runpytest_inprocess(
        "--klom-models=4", "--klom-method=ga", "--klom-forget-set=1"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*forget_mean: * is within the limit 11.3: pass"])
    result.stdout.fnmatch_lines(["*val_mean: the limit 0.2 is inconclusive*"])


def test_gates_are_found_where_pytests_root_is_another_folder(pytester):
    pytester.makefile(".toml", pyproject="[tool.klom.gates]\nval_mean = 0.1\n")
    folder = pytester.mkdir("tests")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_mine.py").write_text("from klom_bench.suite import test_klom\n")
    asked = ("--klom-models=4", "--klom-method=ga", "--klom-forget-set=1")
    pytester.runpytest_inprocess(*asked, "tests").assert_outcomes(failed=1)


def test_pairs_of_ini_and_command_line_add_up(project, pytester):
    ini = '[tool.pytest]\nklom_max = ["val_mean=0.1", "forget_mean=11"]\nklom_param = ["lr=0.1"]\n'
    result = project(
        "--klom-method=ga",
        "--klom-forget-set=1",
        "--klom-max=forget_mean=11.1",
        "--klom-param=ga.epochs=2",
        "--klom-param=epochs=7",
        "--benchmark-json=out.json",
        pyproject=ini,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*forget_mean: * within the limit 11.1: pass*"])
    bench = json.loads((pytester.path / "out.json").read_text())["benchmarks"][0]
    found = bench["extra_info"]["klom"]["hyperparameters"]
    assert (found["lr"], found["epochs"]) == (0.1, 2)


def test_a_failing_gate_is_still_recorded(project, pytester):
    result = project(
        "--klom-method=ga",
        "--klom-forget-set=1",
        "--klom-models=20",
        "--klom-param=lr=30.0",
        "--klom-max=val_mean=4",
        "--benchmark-json=out.json",
    )
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "val_mean *, limit 4: fail",
            "  ga on forget_set_1 of digits (20 unlearned against 20 oracles)",
            "*val_mean: * exceeds the limit 4: fail",
            "*floor 3.*doing nothing has*",
            "*worst val points*",
        ]
    )
    bench = json.loads((pytester.path / "out.json").read_text())["benchmarks"][0]
    assert bench["extra_info"]["klom"]["verdict"] == "fail"


def test_nan_of_a_published_estimator_is_null_and_fails(project, pytester):
    """At lr 3,000 every margin of some points lies beyond the published clip of 100."""
    result = project(
        "--klom-method=ga",
        "--klom-forget-set=1",
        "--klom-param=lr=3000.0",
        "--klom-estimator=attribute_to_delete",
        "--benchmark-json=out.json",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*'attribute_to_delete' gives nan at * points*as the published*"])
    text = (pytester.path / "out.json").read_text()
    scores = json.loads(text, parse_constant=pytest.fail)["benchmarks"][0]["extra_info"]["klom"]
    assert scores["scores"]["val"]["mean"] is None


def test_ini_values_and_the_command_line_over_them(project, pytester):
    ini = '[tool.pytest]\nklom_method = ["ga"]\nklom_forget_set = ["1-2"]\nklom_models = 3\n'
    pytester.makefile(".toml", pyproject=ini)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["klom: ga on digits (2 forget sets), 3 models against 3*"])
    result = pytester.runpytest_inprocess("--klom-forget-set=1", "--klom-oracles=4")
    result.stdout.fnmatch_lines(["klom: ga on digits (1 forget sets), 3 models against 4*"])


def test_plan_runs_nothing(project, pytester):
    store = pytester.path / "new"
    result = project(
        "--klom-method=ga", "--klom-forget-set=1-2", "--klom-plan", f"--klom-store={store}"
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "originals of digits * 4 * 0 * 4",
            "oracles of forget_set_1 * 4 * 0 * 4",
            "oracles of forget_set_2 * 4 * 0 * 4",
            "12 members to train: about * s (from 5 steps on this machine)",
            "nothing was run",
        ]
    )
    assert not list(store.iterdir())
    project("--klom-method=ga", "--klom-forget-set=1", f"--klom-store={store}")
    result = project(
        "--klom-method=ga", "--klom-forget-set=1-2", "--klom-plan", f"--klom-store={store}"
    )
    result.stdout.fnmatch_lines(["4 members to train: about * s (from those in the store)"])
    result = project(
        "--klom-method=ga", "--klom-forget-set=1", "--klom-plan", f"--klom-store={store}"
    )
    result.stdout.fnmatch_lines(["nothing to train"])


def test_list_teaches(project):
    result = project("--klom-list")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*digits: 1438 train points*",
            "*forget_set_10: 50 points",
            "*ga: Gradient ascent on the forget set*",
            f"*lr = 0.01 (digits {DIGITS.hyperparameters['ga']['lr']})",
            "*scrub: SCRUB*",
        ]
    )


def test_help_shows_every_option(project):
    text = project("--help").stdout.str()
    for name in (
        "method",
        "param",
        "task",
        "forget-set",
        "models",
        "oracles",
        "device",
        "seed",
        "store",
        "estimator",
        "missing",
        "plan",
        "list",
        "max",
    ):
        assert f"--klom-{name}" in text
        if name not in ("plan", "list"):
            assert re.search(rf"^  klom_{name.replace('-', '_')} ", text, re.M)


def test_benchmark_disable_still_measures(project):
    result = project("--klom-method=ga", "--klom-forget-set=1", "--benchmark-disable")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 of 1 tests measured*"])


def test_where_klom_tests_are_all_there_is_it_says_what_runs_them(project, pytester):
    result = project()
    assert result.ret == 5
    result.stdout.fnmatch_lines(["klom: 1 KLOM tests run with --klom-method=NAME only*"])
    pytester.makepyfile(test_other="def test_other(): pass")
    assert "--klom-method" not in project().stdout.str()
