"""The page on tracking: its commands show what it shows, its workflow and its hooks work."""

import json
import re
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from helpers.markdown import README, block, blocks
from helpers.records import records

from klom_bench.cell.record import Record
from klom_bench.cli import main
from klom_bench.plugin.pages import DOCS

PAGE = DOCS / "tracking.md"
MINE = block(README, "python", "# conftest.py")
GA = ("--klom-method=ga", "--klom-forget-set=3", "--klom-models=6")
COMMON = block(PAGE, "python", "def settings")


@pytest.fixture
def git(pytester, monkeypatch):
    """A repository, and commits in it."""
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "a")
        monkeypatch.setenv(f"{name}_EMAIL", "a@b.c")
    pytester.run("git", "init", "-q", "-b", "main")
    return lambda name: pytester.run("git", "commit", "-q", "--allow-empty", "-m", name)


def shape(line):
    """Words of a line, without numbers, times, commits and what the numbers say."""
    line = re.sub(r"20\d\d-\d\d-\d\d \d\d:\d\d", "DATE", line)
    line = re.sub(r"\b[0-9a-f]{8}\b", "COMMIT", line)
    line = re.sub(r"[+-]?\d+\.\d{4}", "NUMBER", line)
    return re.sub("better|worse|no difference", "WORD", line).split()


def test_history_prints_what_it_shows(project, pytester, git, capsys, monkeypatch):
    """The first three of its runs, with six models and on a set that other tests have."""
    monkeypatch.chdir(pytester.path)
    keep, *look = re.findall(r"^(?:pytest|klom history) ?(.*)$", "\n".join(blocks(PAGE, "")), re.M)
    keep = keep.partition("#")[0].replace("my_method", "ga").split()
    for lr in (0.137, 0.137, 0.3):
        git(str(lr))
        project(*keep, *GA[1:], f"--klom-param=ga.lr={lr}").assert_outcomes(passed=1)
    capsys.readouterr()
    assert main(["history", *look[0].split()]) == 0
    printed = capsys.readouterr().out.splitlines()
    shown = block(PAGE, "", "forget_excess of").replace("set_2", "set_3").splitlines()
    assert [*map(shape, shown[:5])] == [*map(shape, printed[:5])]
    assert printed[4].endswith("; lr 0.137 -> 0.3")
    assert main(["history", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len({run["commit"] for run in found["runs"]}) == 3
    assert {run["branch"] for run in found["runs"]} == {"main"}


def test_the_workflow_draws_what_it_shows(project, pytester):
    text = block(PAGE, "yaml")
    asked = re.search(r"- run: pytest test_unlearning.py (.*)", text)[1].split()
    given = [a.replace("=1,3,5", "=3") for a in asked if "--klom-store" not in a]
    project(*given, "--klom-models=6", conftest=MINE).assert_outcomes(passed=1)
    file = re.search(r"output-file-path: (\S+)", text)[1]
    entries = json.loads((pytester.path / file).read_text())
    (shown,) = json.loads(block(PAGE, "json"))
    assert entries[0].keys() == shown.keys()
    assert "tool: customSmallerIsBetter" in text
    said, real = (entry["extra"].splitlines() for entry in (shown, entries[0]))
    assert [re.sub(r"\d+", "6", said[0]), said[1]] == real[:2]
    assert said[2].split(" = ")[0] in {line.split(" = ")[0] for line in real}


READS = """
import json, os, pathlib

def pytest_unconfigure(config):
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("unlearning")
    (run,) = client.search_runs([experiment.experiment_id])
    kept = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/record.json")
    pathlib.Path("read").write_text(json.dumps(run.to_dictionary() | {"kept": kept}))
"""


@pytest.mark.processes
def test_mlflow_has_it_all(project, pytester, git, monkeypatch):
    """In a process of its own: MLflow cannot be imported twice. mlflow-skinny has no database."""
    for name in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (pytester.path / "mlruns").as_uri())
    git("first")
    conftest = COMMON + block(PAGE, "python", "import mlflow") + READS
    asked = (*GA, "--klom-max=forget_excess=9", "--benchmark-json=out.json")
    project(*asked, conftest=conftest, alone=True).assert_outcomes(passed=1)
    run = json.loads((pytester.path / "read").read_text())
    (content,) = records(pytester.path / "out.json")
    assert run["kept"] == content
    assert run["info"]["status"] == "FINISHED"
    excess, found = content["excess"]["forget"], run["data"]["metrics"]
    for name, number in (
        ("forget_excess", excess["value"]),
        ("forget_excess_low", excess["low"]),
        ("forget_excess_high", excess["high"]),
        ("val_p95", content["scores"]["val"]["p95"]),
    ):
        assert found[name] == pytest.approx(number)
    asked, lr = run["data"]["params"], content["hyperparameters"]["lr"]
    assert {"lr": str(lr), "models": "6", "seed": "0"}.items() <= asked.items()
    assert re.fullmatch(r"[0-9a-f]{40}\+?", asked["commit"])
    said = {"verdict": "pass", "word": content["word"]}
    assert said.items() <= run["data"]["tags"].items()


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    from helpers.compared import result

    return Record.from_json(result(0.3)[2])


def commit_info(config):
    return {"id": "abc", "dirty": True}


CONFIG = SimpleNamespace(hook=SimpleNamespace(pytest_benchmark_generate_commit_info=commit_info))


@pytest.mark.parametrize("library", ["wandb", "trackio"])
def test_what_others_are_told(record, monkeypatch, library):
    """In the place of the library stands one that has what its documentation says, and listens."""
    told = {}
    run = SimpleNamespace(log=told.update, summary=told)
    fake = SimpleNamespace(log=told.update, finish=lambda: told.update(finished=True))

    def init(project, group=None, config=None):
        told.update(config, project=project)
        return nullcontext(run)

    fake.init = init
    monkeypatch.setitem(sys.modules, library, fake)
    names = {}
    exec(COMMON + block(PAGE, "python", f"import {library}"), names)
    names["pytest_klom_record"](record=record, config=CONFIG)
    low, _ = record.excess["val"].interval()
    assert told["val_excess_low"] == low
    expected = {"word": record.word, "verdict": "none", "lr": 0.3, "models": 20, "commit": "abc+"}
    assert expected.items() <= told.items()
