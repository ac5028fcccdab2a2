"""The package's layers: imports only ever point down this list, and nothing runs in a circle."""

import ast
from pathlib import Path

import klom_bench

PACKAGE = Path(klom_bench.__file__).parent
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "examples" not in p.parts)
"""But for examples of the pages, which are a user's."""
LAYERS = [
    ["suite"],
    ["plugin"],
    ["cli"],
    ["report"],
    ["conformance", "tuning"],
    ["cell"],
    ["score"],
    ["store"],
    ["published"],
    ["files"],
    ["found"],
    ["methods"],
    ["engine"],
    ["tasks"],
    ["ensemble", "models"],
    ["metrics"],
    ["forget_set", "progress", "interrupt", "folders", "literals", "imports", "pyproject"],
    ["errors"],
    ["__init__"],
]
"""From top to bottom; parts of one line do not know each other."""
PLACE = {part: place for place, parts in enumerate(LAYERS) for part in parts}
DEPRECATED = {"ensemble/switches.py"}
"""Old names, which lead to where these things are now."""


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports():
    """(file, the part that it imports from): of everything but names for type checkers."""
    found = []
    for path in FILES:
        if path.relative_to(PACKAGE).as_posix() in DEPRECATED:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("klom_bench.") for alias in node.names), path
                names = ["__init__"] * any(a.name == "klom_bench" for a in node.names)
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("klom_bench"):
                _, _, below = node.module.partition(".")
                names = [below.split(".")[0]] if below else [of(a.name) for a in node.names]
            else:
                continue
            found += [(path, name) for name in names]
    return found


def of(name):
    """What `from klom_bench import name` imports: a part, or something of the package itself."""
    return name if name in PLACE else "__init__"


def test_every_part_has_a_place():
    parts = {part_of(path) for path in FILES}
    assert parts == set(PLACE)


def test_imports_point_down():
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path, name in imports()
        if part_of(path) not in (name, "__init__") and not PLACE[part_of(path)] < PLACE[name]
    }
    assert not wrong


def test_only_the_plugin_imports_pytest():
    for path in FILES:
        text = path.read_text()
        if part_of(path) != "plugin":
            assert "import pytest" not in text, path


def longer_than(lines, folder):
    counts = {str(path): len(path.read_text().splitlines()) for path in folder.rglob("*.py")}
    return {path: count for path, count in counts.items() if count > lines}


def test_no_file_is_long():
    """Of code that is read: a file holds one thing."""
    assert not longer_than(320, PACKAGE)


def test_tests_lie_as_the_package_does():
    """Beside its folders there are `helpers`, which several tests use, `benchmarks` and `calibration`."""
    tests = Path(__file__).parent
    folders = {path.name for path in tests.iterdir() if list(path.glob("*.py"))}
    mirrored = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert folders - {"helpers", "benchmarks", "calibration"} <= mirrored
    assert not longer_than(400, tests)
