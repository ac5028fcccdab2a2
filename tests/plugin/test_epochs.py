"""--klom-epochs: several epochs of one run."""

import re

import pytest
from helpers.records import COUNTING, records


def test_several_epochs_of_one_run(project, pytester):
    args = ("--klom-method=mine", "--klom-forget-set=3", "-rP")
    result = project(*args, "--klom-epochs=3,1", "--benchmark-json=out.json", conftest=COUNTING)
    result.assert_outcomes(passed=1)
    text = result.stdout.str()
    assert text.count("an epoch of up") == 3  # no epoch twice, none too many
    assert re.search(r"mine epoch 1 .*\n.*mine epoch 3 .*no gate", text)
    (record,) = records(pytester.path / "out.json")
    assert (record["epoch"], record["hyperparameters"]["epochs"]) == (3, 3)
    (early,) = record["earlier"]
    assert early["epoch"] == 1
    assert early["relative_cost"]["examples"] * 3 == pytest.approx(
        record["relative_cost"]["examples"]
    )
    assert early["seconds"]["unlearn"] < record["seconds"]["unlearn"]
    for epoch, of in ((1, early), (3, record)):
        project(*args, f"--klom-param=epochs={epoch}", "--benchmark-json=alone.json")
        (alone,) = records(pytester.path / "alone.json")
        for key in ("scores", "reverse", "accuracy"):
            assert of[key] == alone[key]


def test_epochs_that_do_not_come(project):
    result = project(
        "--klom-method=ga", "--klom-forget-set=3", "--klom-epochs=2,5", "--klom-param=epochs=3"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ga yielded 3 times with *, and --klom-epochs asks for epoch 5"])
    result = project("--klom-method=ga", "--klom-epochs=0,1")
    result.stderr.fnmatch_lines(["*--klom-epochs must be numbers from 1 on*'0,1'*"])


def test_methods_without_epochs_are_scored_at_their_end(project, pytester):
    result = project(
        "--klom-method=ssd,ga",
        "--klom-param=ssd.alpha=1",
        "--klom-forget-set=3",
        "--klom-epochs=1,2",
        "--benchmark-json=o.json",
    )
    result.assert_outcomes(passed=2)
    ssd, ga = records(pytester.path / "o.json")
    assert (ssd["epoch"], ssd["earlier"]) == (1, [])
    assert (ga["epoch"], [r["epoch"] for r in ga["earlier"]]) == (2, [1])


def test_a_model_that_a_method_yields_and_trains_on_is_kept_by_epoch(project, pytester):
    conftest = """
        import pytest, torch

        @pytest.fixture
        def student():
            def unlearn(model, forget, retain, *, epochs=2):
                twin = model.clone()
                for epoch in range(epochs):
                    with torch.no_grad():
                        for p in twin.parameters():
                            p.mul_(0.5)
                    yield twin
            return unlearn
    """
    args = ("--klom-method=student", "--klom-forget-set=3")
    project(*args, "--klom-epochs=1,2", "--benchmark-json=both.json", conftest=conftest)
    project(*args, "--klom-epochs=1", "--benchmark-json=one.json")
    (both,), (one,) = (records(pytester.path / f"{n}.json") for n in ("both", "one"))
    assert both["earlier"][0]["scores"] == one["scores"]
    assert both["scores"] != one["scores"]


def test_a_method_whose_epochs_have_another_name(project, pytester):
    conftest = """
        import pytest, torch

        @pytest.fixture
        def rounds():
            def unlearn(model, forget, retain, *, rounds=4):
                for _ in range(rounds):
                    with torch.no_grad():
                        for p in model.parameters():
                            p.mul_(0.9)
                    yield
            return unlearn
    """
    args = ("--klom-method=rounds", "--klom-forget-set=3", "--klom-epochs=1,3")
    project(*args, "--benchmark-json=out.json", conftest=conftest)
    (record,) = records(pytester.path / "out.json")
    assert (record["epoch"], [r["epoch"] for r in record["earlier"]]) == (3, [1])


def test_another_epoch_is_not_compared(project):
    args = ("--klom-method=ga", "--klom-forget-set=3", "--klom-param=epochs=3")
    project(*args, "--klom-save-baseline=base.json")
    result = project(
        *args, "--klom-epochs=2", "--klom-baseline=base.json", "--klom-max-regression=val_p95=1"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["the baseline *base.json has epoch 3 of *, and this run epoch 2*"])


def test_outputs_that_a_method_yields_are_kept_by_epoch(project, pytester):
    conftest = """
        import pytest, torch

        @pytest.fixture
        def shifting():
            def unlearn(model, forget, retain, *, epochs=2):
                for epoch in range(epochs):
                    with torch.no_grad():
                        for p in model.parameters():
                            p.mul_(0.9)
                    yield lambda x, shift=epoch: model(x) + shift * torch.arange(10)
            return unlearn
    """
    args = ("--klom-method=shifting", "--klom-forget-set=3")
    project(*args, "--klom-epochs=1,2", "--benchmark-json=both.json", conftest=conftest)
    project(*args, "--klom-epochs=1", "--benchmark-json=one.json")
    (both,), (one,) = (records(pytester.path / f"{n}.json") for n in ("both", "one"))
    assert both["earlier"][0]["scores"] == one["scores"]
    assert both["scores"] != one["scores"]
