"""Grids of settings, several epochs of one run, tuned settings, methods that do not apply."""

import json
import re

import pytest

from klom_bench.plugin.values import values_in

COUNTING = """
    import pytest, torch
    from klom_bench.ensemble.losses import cross_entropy

    SEEN = []

    @pytest.fixture
    def mine():
        def unlearn(model, forget, retain, *, lr=0.1, epochs=4, mode="up", sizes=(1, 2)):
            optimizer = torch.optim.SGD(model.parameters(), lr=lr)
            for epoch in range(epochs):
                for x, y in forget.batches(64):
                    optimizer.zero_grad()
                    (-cross_entropy(model(x), y)).backward()
                    optimizer.step()
                print("an epoch of", mode, sizes)
                yield
        return unlearn
"""


def records(path):
    found = json.loads(path.read_text())["benchmarks"]
    return [b["extra_info"]["klom"] for b in found]


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
            "forget_set_3  oracles (floor) *",
            "              unsir  * n/a * n/a",
            "              ct  * n/a * n/a",
            "3 of 3 tests measured: 3 no gate",
            "n/a: unsir unlearns whole classes only, and the forget set is none (*): 1 test skipped",
            "n/a: ct needs conv layers, and models of digits have none (*digits_cnn*): 2 tests skipped",
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
    result.stdout.fnmatch_lines(["0 of 0 tests measured"])


def test_skipped_tests_are_told_by_workers_too(project):
    result = project("--klom-method=unsir,ga", "--klom-forget-set=3,class_9", "-n2")
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


def tuning_file(pytester, **changes):
    content = {
        "klom_tuning": 1,
        "task": "digits",
        "method": "ga",
        "ranges": {"lr": "1e-4..1"},
        "members": 100,
        "seed": 1000000,
        "forget_sets": {"tuning_1": "ab"},
        "trials": [
            {
                "hyperparameters": {"lr": lr, "epochs": 5},
                "scores": {"tuning_1": {"forget": s, "retain": s, "val": s}},
                "examples": 0.1,
                "seconds": 1.0,
                "error": None,
            }
            for lr, s in ((0.02, 2.0), (0.07, 1.0))
        ],
    }
    (pytester.path / "ga.json").write_text(json.dumps(content | changes))


def test_tuned_settings_are_used_and_told(project, pytester):
    tuning_file(pytester)
    args = ("--klom-method=ga", "--klom-forget-set=3", "--klom-tuned=ga.json")
    project(*args, "--benchmark-json=out.json").assert_outcomes(passed=1)
    (record,) = records(pytester.path / "out.json")
    assert record["hyperparameters"]["lr"] == 0.07
    assert record["tuning"] == {
        "trials": 2,
        "objective": 1.0,
        "forget_sets": {"tuning_1": "ab"},
        "seed": 1000000,
        "members": 100,
        "overridden": [],
    }
    project(*args, "--klom-param=lr=0.5", "--benchmark-json=out.json")
    (record,) = records(pytester.path / "out.json")
    assert (record["hyperparameters"]["lr"], record["tuning"]) == (0.5, None)


def test_what_is_overridden_of_tuned_settings_is_told(project, pytester):
    tuning_file(pytester, ranges={"lr": "1e-4..1", "epochs": "1..10"})
    args = ("--klom-method=ga", "--klom-forget-set=3", "--klom-tuned=ga.json")
    project(*args, "--klom-epochs=2,3", "--benchmark-json=out.json")
    (record,) = records(pytester.path / "out.json")
    assert record["hyperparameters"]["epochs"] == 3
    assert record["hyperparameters"]["lr"] == 0.07
    assert record["tuning"]["overridden"] == ["epochs"]


def test_values_of_text_keep_their_blanks(project, pytester):
    result = project(
        "--klom-method=mine",
        "--klom-param=mode=a b,ab",
        "--klom-forget-set=1",
        "-rP",
        conftest=COUNTING,
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["an epoch of a b (1, 2)"])
    result.stdout.fnmatch_lines(["an epoch of ab (1, 2)"])


@pytest.mark.parametrize("text", ["lr=0.1,,0.2", "lr=,"])
def test_empty_values(project, text):
    result = project("--klom-method=ga", f"--klom-param={text}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*--klom-param: a value is empty in '{text}'*"])


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "digits_cnn"}, "*it is of ga on digits_cnn; each file must be*"),
        ({"method": "scrub"}, "*it is of scrub on digits;*"),
        ({"klom_tuning": 2}, "*ga.json is not a file of `klom tune`*version 2*"),
        ({"trials": []}, "*no trial of ga was measured*"),
    ],
)
def test_tuning_files_that_do_not_fit(project, pytester, changes, message):
    tuning_file(pytester, **changes)
    result = project("--klom-method=ga", "--klom-tuned=ga.json")
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])
    result = project("--klom-method=ga", "--klom-tuned=nowhere.json")
    result.stderr.fnmatch_lines(["*nowhere.json is not a file of `klom tune` (FileNotFoundError*"])
