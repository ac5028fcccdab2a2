"""Each wrong input ends with one clear message, exit 4 where it is known before tests run."""

import pytest

ONE = ("--klom-method=ga", "--klom-forget-set=1")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--klom-method=gaa"], "unknown method 'gaa': did you mean ga*write a fixture 'gaa'*"),
        ([*ONE, "--klom-task=digit"], "unknown task 'digit': did you mean digits*"),
        (
            ["--klom-method=ga", "--klom-forget-set=forget_set_33"],
            "unknown forget set 'forget_set_33': did you mean forget_set_3*",
        ),
        (["--klom-method=ga", "--klom-forget-set=9-11"], "unknown forget set 'forget_set_11'*"),
        (["--klom-method=ga", "--klom-forget-set=3-1"], "*3-1: the range ends before it begins"),
        ([*ONE, "--klom-param=lrr=1"], "ga: unknown hyperparameter 'lrr': did you mean lr*"),
        (
            [*ONE, "--klom-param=scrub.lr=1"],
            "*scrub.lr=1: 'scrub' is not among the methods selected*: ga",
        ),
        ([*ONE, "--klom-param=lr"], "--klom-param must be [[]METHOD.]NAME=VALUE, got 'lr'"),
        ([*ONE, "--klom-param=lr=fast"], "ga: lr must be of type float*got 'fast' (str)"),
        ([*ONE, "--klom-param=epochs=2.5"], "ga: epochs must be of type int*"),
        (
            [*ONE, "--klom-max=val_p59=1"],
            "--klom-max: unknown limit 'val_p59': did you mean val_p*",
        ),
        ([*ONE, "--klom-max=val_p95"], "--klom-max must be METRIC=LIMIT*"),
        ([*ONE, "--klom-max=val_p95=low"], "*val_p95 must be a number >= 0, got 'low'"),
        ([*ONE, "--klom-models=1"], "--klom-models is 1: KLOM compares distributions*at least 2*"),
        ([*ONE, "--klom-oracles=1"], "--klom-oracles is 1:*"),
        (
            [*ONE, "--klom-models=many"],
            "*--klom-models must be a number of models, auto, *; got 'many'",
        ),
        ([*ONE, "--klom-device=tpu"], "the device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        ([*ONE, "--klom-device=cuda:99"], "device cuda:99: torch * sees * CUDA devices*"),
        (
            [*ONE, "--klom-estimator=easydubb"],
            "unknown estimator 'easydubb': did you mean easydub*",
        ),
        (
            [*ONE, "--klom-missing=fetch"],
            "--klom-missing must be train, download or error, got 'fetch'",
        ),
        ([*ONE, "--klom-store=test_mine.py/x"], "the store * cannot be made (*--klom-store"),
        (["--klom-plan"], "--klom-plan needs --klom-method*"),
        ([*ONE, "--klom-store="], "--klom-store is empty: name a folder"),
        ([*ONE, "--klom-param=lr=1" + 400 * "0"], "ga: lr must be of type float*"),
        ([*ONE, "--klom-param=lr={[1]:2}"], "ga: lr must be of type float*"),
        ([*ONE, "--klom-param=lr=None"], "ga: lr must be of type float*"),
        ([*ONE, "--klom-max=val_p95=1" + 400 * "0"], "*can never fail*"),
        ([*ONE, "--klom-device=cuda:" + 20 * "9"], "the device must be auto, cpu, cuda or*"),
        (["--klom-method=ga", "--klom-forget-set=1-20000000"], "unknown forget set*set_11'*"),
        ([*ONE, "--klom-seed=-1"], "--klom-seed must not be negative, got -1"),
        ([*ONE, "--klom-max=val_p95=12"], "*val_p95 = 12 can never fail, scores end at*11.51"),
    ],
)
def test_bad_options(project, args, message):
    result = project(*args)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{message}"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        (
            "[tool.klom.gates]\nforget_p59 = 1",
            "*unknown limit 'forget_p59': did you mean forget_p*",
        ),
        ("[tool.klom.gates.gaa]\nval_p95 = 1", "*unknown method 'gaa'*"),
        ("[tool.klom.gates.ga.forget_set_33]\nval_p95 = 1", "*unknown forget set 'forget_set_33'*"),
        ("[tool.klom.gate]\nval_p95 = 1", "*unknown table 'gate': did you mean gates*"),
        ("[tool.klom]\ngates = 1", "*must be a table, got 1"),
        ("[tool]\nklom = 3", "*[[]tool.klom] must be a table, got 3"),
        ("[tool.klom.gates]\nval_p95 = inf", "*can never fail*"),
    ],
)
def test_bad_gates(project, gates, message):
    result = project(*ONE, pyproject=gates)
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])


def test_a_bad_marker(project, pytester):
    pytester.makepyfile(
        test_mine="import pytest\nfrom klom_bench.suite import test_klom\n"
        "pytestmark = pytest.mark.klom(vall_p95=1)"
    )
    result = pytester.runpytest_inprocess(*ONE)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*@pytest.mark.klom of test_mine.py*unknown limit 'vall_p95'*"])


def test_a_marker_with_a_positional_limit(project, pytester):
    pytester.makepyfile(
        test_mine="import pytest\nfrom klom_bench.suite import test_klom\n"
        "pytestmark = pytest.mark.klom({'val_p95': 1})"
    )
    result = pytester.runpytest_inprocess(*ONE)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*@pytest.mark.klom of test_mine.py*limits are given by name*"])


def test_no_klom_test_collected(pytester):
    pytester.makepyfile(test_other="def test_other(): pass")
    result = pytester.runpytest_inprocess(*ONE)
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*no KLOM test was collected*", "*from klom_bench.suite import test_klom*"]
    )


def test_hyperparameters_of_ones_own_method(project):
    conftest = """
        import pytest

        @pytest.fixture
        def mine():
            def unlearn(model, forget, retain, *, strength=0.5):
                yield
            return unlearn
    """
    result = project(
        "--klom-method=mine", "--klom-forget-set=1", "--klom-param=strenght=1", conftest=conftest
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["mine: unknown hyperparameter 'strenght': did you mean strength*"])
    result.stdout.fnmatch_lines(["0 of 1 tests measured"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "the fixture 'mine' gave 3, not an unlearning function*"),
        ("return lambda model, data: None", "the method 'mine' has the parameters (model, data)*"),
        ("return lambda model, forget, retain: None", "mine never yielded*per_model*"),
        (
            "return lambda model, forget, retain: iter([None])",
            "mine changed nothing on forget_set_1*",
        ),
    ],
)
def test_a_fixture_that_is_no_method(project, body, message):
    conftest = f"import pytest\n@pytest.fixture\ndef mine():\n    {body}\n"
    result = project("--klom-method=mine", "--klom-forget-set=1", conftest=conftest)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"*{message}"])
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ("[1, 1]", "forget set 'mine' holds index 1 more than once"),
        ("[5000]", "forget set 'mine' has index 5000*another dataset?"),
        ("range(1438)", "forget set 'mine' holds all train points: nothing is left to retain"),
        ("[]", "forget set 'mine' must be a list of integer indices*"),
    ],
)
def test_bad_forget_sets(project, indices, message):
    conftest = f"def pytest_klom_forget_sets(config, task): return {{'mine': {indices}}}"
    result = project("--klom-method=ga", "--klom-forget-set=mine", conftest=conftest)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{message}"])


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("[1, 2]", "pytest_klom_forget_sets gave [[]1, 2]: it must return a dict*"),
        ("{3: [1]}", "pytest_klom_forget_sets: *the forget set 3: names are letters*"),
        ("{'my set/x': [1]}", "pytest_klom_forget_sets: *the forget set 'my set/x': names are*"),
        ("{'../../evil': [1]}", "pytest_klom_forget_sets: *the forget set '../../evil':*"),
    ],
)
@pytest.mark.parametrize("asked", [ONE, ["--klom-list"]])
def test_bad_hooks(project, sets, message, asked):
    conftest = f"def pytest_klom_forget_sets(config, task): return {sets}"
    result = project(*asked, conftest=conftest)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{message}"])
    assert "Traceback" not in result.stderr.str()


@pytest.mark.parametrize("tasks", ["3", "[3]"])
def test_bad_task_hooks(project, tasks):
    result = project(*ONE, conftest=f"def pytest_klom_tasks(config): return {tasks}")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*pytest_klom_tasks gave *it must return a list of tasks"])


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("import pytest\npytestmark = pytest.mark.skip", []),
        ("", ["--benchmark-skip"]),
        ("def test_klom(klom_cell): pass", []),
    ],
)
def test_a_run_that_measures_nothing_is_not_green(project, pytester, text, args):
    pytester.makepyfile(test_mine=f"from klom_bench.suite import test_klom\n{text}")
    result = pytester.runpytest_inprocess("--klom-models=4", *ONE, *args)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["0 of 1 tests measured*"])


@pytest.mark.processes
@pytest.mark.parametrize(
    ("asked", "gates", "message"),
    [
        (["--klom-method=gaa"], "", "unknown method 'gaa': did you mean ga*"),
        (["--klom-method=ga"], "[tool.klom.gates.gaa]\nval_p95 = 1", "*unknown method 'gaa'*"),
    ],
)
def test_workers_of_xdist_tell_it_too(project, pytester, asked, gates, message):
    pytester.makefile(".toml", pyproject=gates)
    pytester.makepyfile(test_mine="from klom_bench.suite import test_klom")
    result = pytester.runpytest_inprocess(
        "-p", "no:hypothesispytest", "-n1", "--klom-models=4", "--klom-forget-set=1", *asked
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"*{message}", "0 of 1 tests measured*"])
    assert "INTERNALERROR" not in result.stdout.str()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "def test(klom_cell, klom):\n    klom.measure(klom_cell)\n    klom.measure(klom_cell)\n",
            "klom.measure was called before in this test",
        ),
        ("def test(klom_cell): pass\n", "0 of 1 tests measured"),
        ("def test(klom_conformance): pass\n", "conformance: 0 of 1 tests hold"),
        (
            "import pytest\nfrom klom_bench.suite import test_conformance\n"
            "@pytest.mark.skip\ndef test(klom_cell, klom): pass\n",
            "0 of 1 tests measured",
        ),
    ],
)
def test_tests_that_do_not_do_their_work(project, pytester, text, message):
    pytester.makepyfile(test_mine=text)
    result = project("--klom-method=ga", "--klom-forget-set=1")
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"*{message}*"])


@pytest.mark.parametrize("args", [[], ["--klom-method=ga"]])
def test_klom_without_klom_cell(project, pytester, args):
    pytester.makepyfile(test_mine="def test(klom): pass\n")
    result = project(*args)
    assert result.ret != 0
    if not args:
        result.stdout.fnmatch_lines(["klom.score was not called: nothing was scored"])


def test_a_test_may_rename_what_it_measures(project, pytester):
    pytester.makepyfile(
        test_mine="""
        import dataclasses

        def test_named(klom_cell, klom):
            method = dataclasses.replace(klom_cell.method, name="ga_half")
            klom.check(klom.measure(dataclasses.replace(klom_cell, method=method)))
        """
    )
    result = project("--klom-method=ga", "--klom-forget-set=1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*ga_half *no gate*"])


def test_forget_sets_with_names_from_elsewhere(project, pytester):
    pytester.makepyfile(test_mine="from klom_bench.suite import test_klom, test_conformance")
    conftest = """
        def pytest_klom_forget_sets(config, task):
            return {"größe": [3, 14, 159], "a.b": [1, 2, 5]}
    """
    result = project("--klom-method=ga", "--klom-forget-set=größe,a.b", conftest=conftest)
    result.stdout.fnmatch_lines(["2 of 2 tests measured*", "conformance: 1 of 1 tests hold"])
    plan = project("--klom-method=ga", "--klom-forget-set=größe", "--klom-plan", "--klom-seed=8")
    plan.stdout.fnmatch_lines(["oracles of größe *"])


def test_an_error_of_a_method_shows_the_method(project):
    conftest = """
        import pytest

        @pytest.fixture
        def mine():
            def unlearn(model, forget, retain):
                for x, y in forget:
                    yield
            return unlearn
    """
    result = project("--klom-method=mine", "--klom-forget-set=1", conftest=conftest)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "conftest.py:*in unlearn",
            "*for x, y in forget:",
            "*TypeError: points come in batches: for x, y in forget.batches*",
        ]
    )
    text = result.stdout.str()
    for between in ("pytest_benchmark/fixture.py", "threads.py", "harness.py", "During handling"):
        assert between not in text


def test_a_method_that_diverges(project):
    result = project(*ONE, "--klom-param=lr=1e30")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["ga diverged on forget_set_1: the margin of member * is *"])
    assert "During handling" not in result.stdout.str()


def test_missing_ensembles_when_they_must_be_there(project, tmp_path):
    result = project(*ONE, "--klom-missing=error", f"--klom-store={tmp_path}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["4 of 4 originals of digits are not in the store*"])


def test_a_harmed_store(project, tmp_path):
    asked = (*ONE, f"--klom-store={tmp_path}")
    project(*asked).assert_outcomes(passed=1)
    file = tmp_path / "full_models/DIGITS/sd_2____epoch_19.pt"
    content = file.read_bytes()
    file.write_bytes(content[:1000])
    from klom_bench.cell.loading import originals_of

    originals_of.cache_clear()  # a new run is a new process
    result = project(*asked)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*sd_2____epoch_19.pt is not the file that was written (1000 *"])
    assert len(file.read_bytes()) == 1000
    file.write_bytes(content)
    project(*asked).assert_outcomes(passed=1)
