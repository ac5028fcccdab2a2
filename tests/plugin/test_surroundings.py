"""Environments that lack something, options that only show, names that would act if they could."""

import os
import shutil
import subprocess
import sys

import pytest

from klom_bench import cli

GA = ("--klom-method=ga", "--klom-forget-set=1")


@pytest.mark.parametrize("store", ["~nosuchuser/x", "/proc/nowhere"])
def test_the_stores_variable_is_no_business_of_other_suites(pytester, monkeypatch, store):
    monkeypatch.setenv("KLOM_STORE", store)
    pytester.makepyfile(test_other="def test_other(): pass")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    assert result.ret == 0


def test_a_home_that_is_not_there(project, monkeypatch, capsys):
    monkeypatch.setenv("KLOM_STORE", "~nosuchuser/x")
    result = project(*GA)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: $KLOM_STORE is '~nosuchuser/x': *"])
    for option in ("--klom-store", "--klom-baseline", "--klom-save-baseline", "--klom-tuned"):
        result = project(*GA, f"{option}=~nosuchuser/x")
        assert result.ret == 4
        assert "~nosuchuser/x" in result.stderr.str()
        assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    assert cli.main(["list"]) == 1
    assert cli.main(["list", "--store", "~nosuchuser/x"]) == 1
    told = capsys.readouterr().err
    assert "klom list: $KLOM_STORE is '~nosuchuser/x': " in told
    assert "klom list: --store is '~nosuchuser/x': " in told


def test_a_user_without_a_home_is_told_to_name_a_store(tmp_path):
    """As in a container that was started with `-u 12345`, in a folder of another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a user without a passwd entry")
    code = (
        "import os, sys\n"
        "from klom_bench import cli\n"
        "import klom_bench.found, klom_bench.store.survey, klom_bench.report.listing, platformdirs\n"
        "os.setuid(12345); os.environ.clear()\n"
        "sys.exit(cli.main(['list']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "name a store with --store or $KLOM_STORE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "option", ["--fixtures", "--fixtures-per-test", "--setup-plan", "--setup-only"]
)
def test_options_that_only_show_have_no_table(project, option):
    result = project(*GA, option)
    assert result.ret == 0
    assert "= KLOM =" not in result.stdout.str()
    assert "measured" not in result.stdout.str()


@pytest.mark.parametrize("args", [("-k", "nothing_like_it"), ("--deselect", "test_mine.py")])
def test_where_nothing_is_left_the_reason_is_the_true_one(project, args):
    result = project("--klom-method=ga,scrub", "--klom-forget-set=1,3", *args)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*all 4 KLOM tests were deselected: by -k, -m, --deselect*"])


ODD = """
import pytest

@pytest.fixture
def mine(monkeypatch):
    monkeypatch.setattr("klom_bench.cell.rounds.import_compiler", lambda: None)  # 2 s a process
    def unlearn(model, forget, retain, *, mode="a"):
        for p in model.parameters():
            p.data.mul_(0.9)
        yield
    return unlearn
"""


def test_values_that_would_act_are_written_out(project, pytester, monkeypatch):
    """In ids, table, baseline and job summary; and the count of tests is right."""
    page = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    result = project(
        "--klom-method=mine",
        "--klom-forget-set=1,3",
        "-n",
        "1",
        "--klom-param",
        "mode='b\\n::error::x|<img>\\x1b[2J','c'",
        "--klom-save-baseline=b.json",
        conftest=ODD,
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["4 of 4 tests measured*", "baseline saved: *"])
    assert "\x1b" not in (pytester.path / "b.json").read_text()
    for text in (result.stdout.str(), page.read_text()):
        assert "\x1b" not in text
        assert "<img>" not in text
        assert not [line for line in text.splitlines() if line.startswith("::error::x")]
    parts = [part.splitlines() for part in page.read_text().split("\n\n")]
    tables = [rows for rows in parts if rows and rows[0].startswith("| ")]
    assert len(tables) == 2
    for rows in tables:
        assert len({row.replace("\\|", "").count("|") for row in rows}) == 1


@pytest.mark.parametrize("name", ["a::b", "a\x1b[2J", "<img>"])
def test_methods_have_names(project, name):
    result = project(f"--klom-method={name}")
    assert result.ret == 4
    assert "a method is named by letters" in result.stderr.str()
    assert "\x1b" not in result.stderr.str()


VANISHING = """
import pathlib, pytest, shutil

@pytest.fixture
def mine():
    def unlearn(model, forget, retain):
        for p in model.parameters():
            p.data.mul_(0.9)
        shutil.rmtree(pathlib.Path(r"{store}"))
        yield
    return unlearn
"""


def test_a_store_that_is_removed_in_mid_run(project, small_store, tmp_path):
    store = tmp_path / "own"
    assert project("--klom-method=ga", "--klom-forget-set=1").ret == 0
    shutil.copytree(small_store, store, ignore=shutil.ignore_patterns(".claims"))
    result = project(
        "--klom-method=mine",
        "--klom-forget-set=1",
        f"--klom-store={store}",
        conftest=VANISHING.format(store=store),
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is gone: was the store removed while the run was going on?"])
    assert "Make room" not in result.stdout.str()


def test_a_store_named_by_a_relative_variable_stays_where_it_is(project, pytester, monkeypatch):
    monkeypatch.setenv("KLOM_STORE", "here")
    conftest = """
        import pytest

        @pytest.fixture(autouse=True)
        def elsewhere(monkeypatch, tmp_path):
            monkeypatch.chdir(tmp_path)
    """
    result = project("--klom-method=ga", "--klom-forget-set=1", conftest=conftest)
    result.assert_outcomes(passed=1)
    assert (pytester.path / "here/full_models/DIGITS/manifest.json").exists()


def test_a_test_may_have_a_cell_of_its_own(project):
    conftest = """
        import pytest
        from klom_bench.plugin.keys import RUN

        @pytest.fixture
        def klom_cell(request, klom_task, klom_forget_set, klom_method, ga):
            run = request.config.stash[RUN]
            return run.bench.cell(ga, run.variants[klom_method], klom_forget_set)
    """
    result = project("--klom-method=ga", "--klom-forget-set=1", conftest=conftest)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 of 1 tests measured*"])
