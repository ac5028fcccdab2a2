import json

import pytest
from helpers.baselines import ASKED


@pytest.fixture(scope="session")
def baseline_files() -> list[str]:
    """A saved baseline and a benchmark JSON, once somebody has made them."""
    return []


@pytest.fixture
def saved(project, pytester, baseline_files):
    """A baseline of four tests, as its content; `saved(change)` writes it changed."""
    names = ("base.json", "bench.json")
    if not baseline_files:
        asked = [f"--klom-save-baseline={names[0]}", f"--benchmark-json={names[1]}"]
        result = project(*ASKED, *asked)
        result.assert_outcomes(passed=4)
        assert f"baseline saved: {pytester.path / names[0]}" in result.outlines
        baseline_files.extend((pytester.path / name).read_text() for name in names)
    for name, text in zip(names, baseline_files, strict=True):
        (pytester.path / name).write_text(text)
    path = pytester.path / names[0]

    def write(change):
        changed = json.loads(baseline_files[0])
        for test, record in changed["tests"].items():
            change(test, record)
        path.write_text(json.dumps(changed))

    return write
