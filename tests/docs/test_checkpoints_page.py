"""The page on checkpoints: its pipeline, its task and its commands, in a folder as a user has it."""

import re
import runpy
import shutil

import pytest
from helpers.markdown import block, blocks, text_of
from helpers.records import records

from klom_bench import cli
from klom_bench.plugin.pages import DOCS

PAGE = DOCS / "checkpoints.md"


@pytest.fixture
def klom(pytester, monkeypatch, site, capsys):
    """klom(line): the exit code, and what was said; beside the files of the page."""
    monkeypatch.syspath_prepend(pytester.path)
    monkeypatch.setenv("KLOM_STORE", str(pytester.path / "store"))
    for name in ("pipeline.py", "mine.py"):
        (pytester.path / name).write_text(block(PAGE, "python", f"# {name}"))
    (pytester.path / "pyproject.toml").write_text(block(PAGE, "toml"))

    def run(line):
        code = cli.main(line.split()[1:])
        out, err = capsys.readouterr()
        return code, out + err

    return run


def test_a_pipeline_is_imported_and_measured(klom, project, pytester):
    """Its sham oracles are found, all or one of them; what is imported scores as it does in place."""
    assert "klom" not in (pytester.path / "pipeline.py").read_text()
    runpy.run_path("pipeline.py", run_name="__main__")
    lines = [
        line.replace(" --seed 1", "")
        for code in blocks(PAGE, "")
        for line in code.splitlines()
        if line.startswith("klom ")
    ]
    dry, originals, oracles, sham = lines
    for line in (dry, originals):
        assert klom(line)[0] == 0
    code, said = klom(sham)
    assert code == 1
    assert "they look as if they had been trained on all data" in said
    good = pytester.path / "runs/without/seed_7/last.pt"
    kept = good.read_bytes()
    good.write_bytes((pytester.path / "runs/oops/seed_7/last.pt").read_bytes())
    code, said = klom(oracles)
    assert code == 1
    assert re.search(r"seed_7/last\.pt: it looks like an original on the forget set", said)
    good.write_bytes(kept)
    assert klom(oracles)[0] == 0

    (line,) = re.findall(r"^pytest (.*)$", text_of(PAGE), re.M)
    found = []
    for store in ("store", in_place(pytester.path)):
        asked = (
            "--klom-max=forget_excess=0.5",
            f"--klom-store={store}",
            "--benchmark-json=out.json",
        )
        result = project(*line.split(), *asked, pyproject=block(PAGE, "toml"))
        result.assert_outcomes(failed=1)  # gradient ascent with its usual settings does not do it
        result.stdout.fnmatch_lines(["*forget_excess: *the limit 0.5: *"])
        found += records(pytester.path / "out.json")
    imported, read = found
    assert imported["scores"] == read["scores"]
    assert imported["relative_cost"] == read["relative_cost"] == {"time": None, "examples": None}
    assert not list((pytester.path / "in_place").rglob("manifest.json"))


def in_place(folder):
    """The same files under the names that the page has for a published layout."""
    shown = re.findall(r"^\S+", block(PAGE, "text"), re.M)
    for path, run in zip(shown[:2], ("full", "without"), strict=True):
        for i in range(10):
            file = folder / "in_place" / path.replace("sd_0", f"sd_{i}")
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / f"runs/{run}/seed_{i}/last.pt", file)
    return "in_place"
