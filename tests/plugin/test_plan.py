"""--klom-plan: how many models would decide each gate."""

import re

import pytest

ASKED = ("--klom-method=do_nothing", "--klom-forget-set=3,5", "--klom-plan")
NEAR = ("--klom-max=forget_excess=0.5", "--klom-max=forget_p95=4")


def plan(project, *args, **files):
    result = project(*ASKED, *args, **files)
    assert result.ret == 0
    return result.stdout.str()


def test_what_is_there_tells(project):
    eight = ("--klom-method=ga", "--klom-forget-set=5", "--klom-models=8", "--klom-store=eight")
    project(*eight).assert_outcomes(passed=1)
    text = plan(project, *NEAR, "--klom-models=9", "--klom-store=two", "-k", "set_5")
    assert "forget_set_5-do_nothing: fewer than 5 models a side are there" in text
    assert "--klom-plan=measure trains 9 and tells" in text
    assert text.splitlines()[-3:][0] == "nothing was run"
    text = plan(project, *NEAR, "--klom-models=9", "--klom-store=eight", "-k", "set_5")
    assert "which N decides a gate, from 8 models a side:" in text
    row = re.search(r"do_nothing: forget_excess +(\S+) ±(\S+) +0.5 +N = 5 +(\S+) to (\S+)", text)
    assert row
    value, away, low, high = map(float, row.groups())
    assert value > 1
    assert low < 0.5 < high < 0.5 + away  # a hundred models leave less open
    assert re.search(r"do_nothing: forget_p95 +\S+ +4 +at least N = \d+", text)
    assert re.search(r"N = 5 decides 1 of 2 gates: 0 members to train, about \d+ s", text)
    assert "N = 50 decides 1 of 2 gates and brings the limits of 1 on KLOM out of the noise" in text
    assert "1 tests were tried with 8 models, and nothing kept" in text


def test_it_trains_a_handful_when_told_to(project, pytester):
    args = (*NEAR, "--klom-store=new", "--klom-models=30", "-k", "set_3")
    text = plan(project, *args, "--klom-plan=measure")
    assert re.search("originals of digits +30 +10 +20", text)
    assert "which N decides a gate, from 10 models a side:" in text
    assert len(list((pytester.path / "new").rglob("sd_*.pt"))) == 20


def test_what_no_number_of_models_decides_is_said(project):
    project("--klom-method=ga", "--klom-forget-set=3", "--klom-models=6")
    text = plan(project, "--klom-max=forget_p95=0.001", "--klom-models=6", "-k", "set_3")
    assert re.search(r"forget_p95 +\S+ +0.001 +no N", text)
    assert "1 of 1 gates are not decided by any such N" in text


def test_without_a_gate_there_is_nothing_to_decide(project):
    assert "no test has a gate: nothing needs deciding" in plan(project)


def test_fixtures_of_the_user_are_named(project):
    conftest = """
        import pytest

        @pytest.fixture
        def mine():
            def mine(model, forget, retain):
                yield
            return mine
    """
    text = plan(project, *NEAR, "--klom-method=mine", conftest=conftest)
    assert "forget_set_3-mine and 1 more: a fixture of yours is known to its test only" in text


def test_a_method_that_fails_is_told_with_the_others(project):
    project("--klom-method=ga", "--klom-forget-set=5", "--klom-models=6")
    args = (*NEAR, "--klom-models=6", "-k", "set_5", "--klom-method=ga", "--klom-param=ga.lr=1e30")
    text = plan(project, *args)
    assert "forget_set_5-do_nothing: forget_excess" in text
    assert re.search(r"forget_set_5-ga\S*: cannot be measured: ga diverged", text)


def test_a_fixture_in_the_place_of_a_built_in_method_is_not_planned_as_that(project):
    conftest = """
        import pytest

        @pytest.fixture
        def do_nothing():
            def mine(model, forget, retain):
                yield
            return mine
    """
    text = plan(project, *NEAR, conftest=conftest)
    assert "forget_set_3-do_nothing and 1 more: a fixture of yours is known to its test" in text


@pytest.mark.parametrize("value", ["often", ""])
def test_another_value_is_refused(project, value):
    result = project(*ASKED, f"--klom-plan={value}")
    assert result.ret == 4
