"""What a method says of itself: where it applies, what it sees and rests on."""

import pytest
from helpers.records import records


def test_a_method_may_spare_members_but_not_all(project):
    result = project("--klom-method=ssd", "--klom-forget-set=3", "--klom-param=alpha=1e3")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ssd changed nothing on forget_set_3*"])


def test_what_a_method_rests_on_is_told(project, pytester):
    args = ("--klom-method=dm_direct", "--klom-forget-set=3", "--klom-param=subsets=25")
    result = project(*args, "--benchmark-json=out.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["* dm_direct+ *", "+: rests on 25 models on random halves, which are not in its cost"]
    )
    (record,) = records(pytester.path / "out.json")
    assert record["rests_on"] == 25
    result = project("--klom-method=dm_direct", "--klom-forget-set=3", "--klom-param=subsets=1")
    result.stdout.fnmatch_lines(["*dm_direct: subsets must be at least 2, got 1"])


def test_a_method_that_does_not_apply_is_skipped_with_the_reason(project, pytester):
    result = project(
        "--klom-method=unsir,ga,ct",
        "--klom-forget-set=3,class_9",
        "-rs",
        "--klom-save-baseline=base.json",
    )
    result.assert_outcomes(passed=3, skipped=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "forget_set_3  oracles *",
            "              unsir  * n/a * n/a",
            "              ct  * n/a * n/a",
            "3 of 3 tests measured: 3 no gate",
            "n/a: unsir unlearns whole classes only, and the forget set is none (*): 1 test skipped",
            "n/a: ct needs 2-d conv layers, and models of digits have none (*digits_cnn*): 2 tests skipped",
            "baseline saved: *",
            "SKIPPED * unsir unlearns whole classes only, and the forget set is none*",
        ]
    )


def test_nothing_that_applies_is_an_error_before_the_run(project):
    result = project("--klom-method=unsir,ct", "--klom-forget-set=1-3")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*nothing can be measured: unsir unlearns whole classes only*"])


def test_a_users_method_may_say_what_it_needs(project):
    conftest = """
        import klom_bench, pytest

        @pytest.fixture
        def mine():
            @klom_bench.method(class_wise=True)
            def unlearn(model, forget, retain):
                yield
            return unlearn
    """
    result = project("--klom-method=mine", "--klom-forget-set=3", conftest=conftest)
    result.assert_outcomes(skipped=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "0 of 0 tests measured",
            "nothing was measured: no method applies to any of these tests",
        ]
    )


@pytest.mark.processes
def test_skipped_tests_are_told_by_workers_too(project):
    result = project("--klom-method=unsir,ga", "--klom-forget-set=3,class_9", "-n1")
    result.assert_outcomes(passed=3, skipped=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["3 of 3 tests measured: 3 no gate", "n/a: unsir unlearns*"])


def test_who_sees_the_oracles_is_marked(project, pytester):
    result = project(
        "--klom-method=oracle_matching", "--klom-forget-set=3", "--benchmark-json=out.json"
    )
    result.stdout.fnmatch_lines(
        [
            "* oracle_matching[*] *",
            "[*]: sees the oracles that it is scored against: an upper bound",
        ]
    )
    (record,) = records(pytester.path / "out.json")
    assert record["sees_oracles"] is True


def test_an_older_switch_that_does_not_act_is_an_error(project):
    """`gradient_method` and its like are deprecated, and work."""
    conftest = """
        import pytest, torch
        from klom_bench.ensemble.switches import gradient_method, optimizer_for

        @pytest.fixture
        def naive():
            @gradient_method()
            def unlearn(model, forget, retain, *, own=True):
                optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
                if not own:
                    optimizer = optimizer_for(model, lr=0.1)
                for p in model.parameters():
                    p.grad = torch.ones_like(p)
                optimizer.step()
                yield
            return unlearn
    """
    args = ("--klom-method=naive", "--klom-forget-set=1")
    result = project(*args, conftest=conftest)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*DeprecationWarning: gradient_method, optimizer_for*deprecated*"])
    result = project(*args, "--klom-param=optimizer=adam")
    result.stdout.fnmatch_lines(["*: optimizer = 'adam' has no effect*`optimizer_for`*"])
    project(*args, "--klom-param=optimizer=adam", "--klom-param=own=False").assert_outcomes(
        passed=1
    )
    result = project(*args, "--klom-param=schedule=linear", "--klom-param=own=False")
    result.stdout.fnmatch_lines(["*schedule = 'linear' has no effect*epochs with `scheduled`*"])
    result = project("--klom-method=ga", "--klom-forget-set=1", "--klom-param=max_norm=-1")
    result.stdout.fnmatch_lines(["max_norm must be a norm, or 0 for none; got -1.0"])
