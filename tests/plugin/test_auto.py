"""--klom-models=auto: as few models as settle each gate."""

import json

import pytest

ASKED = ("--klom-method=do_nothing,ga", "--klom-forget-set=3,5", "--klom-models=auto:8")
SETTLED = ("--klom-max=forget_excess=1e-6",)


def records(pytester):
    content = json.loads((pytester.path / "run.json").read_text())
    return [(b["stats"]["rounds"], b["extra_info"]["klom"]) for b in content["benchmarks"]]


def test_a_run_says_what_it_spared(project, pytester):
    result = project(*ASKED, "--klom-max=forget_p99=11", "--benchmark-json=run.json")
    result.assert_outcomes(passed=4)
    out = result.stdout.str()
    assert "forget_set_5, N = 8  oracles" in out
    assert "tests stopped: 4 with 8 models; not needed: 0 of 32 unlearned models, 0 of 8" in out
    for rounds, record in records(pytester):
        assert rounds == 1
        assert record["looks"] == {"sizes": [5, 7, 8], "made": 3, "stopped": "settled"}
        assert [gate["early"] for gate in record["gates"]] == [False]


def test_settled_gates_stop_it(project, pytester):
    result = project(*ASKED, *SETTLED, "-k", "do_nothing and set_5", "--benchmark-json=run.json")
    result.assert_outcomes(failed=1)
    out = result.stdout.str()
    assert "as many models as settle the gates of digits" in out
    assert "forget_set_5, N = 5" in out
    assert "not needed: 3 of 8 unlearned models, 3 of 8 originals, 3 of 8 oracles" in out
    ((_, record),) = records(pytester)
    assert record["members"] == {"oracle": 5, "unlearned": 5}


@pytest.mark.processes
def test_workers_find_what_one_process_finds(project, pytester):
    found = []
    for args in ((), ("-n", "2")):
        project(*ASKED, *SETTLED, "--benchmark-json=run.json", *args)
        kept = ("members", "scores", "excess", "gates", "verdict", "looks")
        found.append([{key: record[key] for key in kept} for _, record in records(pytester)])
    assert len(found[0]) == 4
    assert found[0] == found[1]


def test_the_budget_ends_the_looks(project):
    result = project(*ASKED, "--klom-max=forget_mean=0.5", "--klom-budget=1e-6", "-k", "ga and 5")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "forget_mean *, limit 0.5: inconclusive",
            "  ga on * (5 unlearned against 5 oracles)",
            "  the budget of minutes was spent after 1 of 3 looks, the last would be at 8 models",
            "  forget_mean: * is not surely below the limit 0.5, and more models make it lower: *",
            "the budget of minutes was spent before 1 of them were settled",
        ]
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "--klom-models=auto adds models until each gate is settled, and test_mine.py"),
        (("--klom-max=forget_excess=1", "--klom-models=auto:3"), "looks must be rising numbers"),
        (("--klom-max=forget_excess=1", "--klom-models=many"), "--klom-models must be a number"),
        (("--klom-max=forget_excess=1", "--klom-budget=0"), "--klom-budget must be a number"),
        (("--klom-models=4", "--klom-budget=5"), "add --klom-models=auto"),
    ],
)
def test_what_makes_no_sense(project, args, message):
    result = project(*ASKED, *args)
    assert result.ret == 4
    assert message in result.stderr.str()


def test_a_test_without_a_gate_is_named(project):
    table = "[tool.klom.gates.ga]\nforget_excess = 1\n"
    result = project(*ASKED, pyproject=table)
    assert result.ret == 4
    assert "test_klom[digits-forget_set_3-do_nothing] has no gate" in result.stderr.str()


def test_a_number_in_an_ini_file_is_one_still(project):
    table = "[tool.pytest]\nklom_models = 6\n"
    result = project("--klom-method=do_nothing", "--klom-forget-set=3", "-v", pyproject=table)
    assert "4 models against 4 oracles" in result.stdout.str()  # that of the command line wins


def test_methods_that_do_not_apply_need_no_gate(project):
    table = "[tool.klom.gates.do_nothing]\nforget_excess = 1e-6\n"
    args = ("--klom-method=do_nothing,unsir", "--klom-forget-set=5", "--klom-models=auto:6,8")
    result = project(*args, pyproject=table)
    result.assert_outcomes(failed=1, skipped=1)
