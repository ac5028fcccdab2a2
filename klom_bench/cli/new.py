"""`klom new`."""

import argparse
import sys
from importlib.resources import files
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path

from klom_bench.cli.common import Commands, known_tasks
from klom_bench.errors import KlomError

EXAMPLES = """examples:
  klom new task blobs                  # writes blobs.py, which runs as it stands
  klom new method forgetful --output methods/forgetful.py

It says then what to put into pyproject.toml, so that pytest and klom find it by its name."""

NEXT = """{file} was written. Name it in {pyproject}:

  [tool.klom]
  {line}

and have a test file beside that, as test_unlearning.py, with the line

  from klom_bench.suite import test_conformance, test_klom

Then, with few models at first:

"""
COMMANDS = {
    "task": """  klom train {name} --models 10
  pytest --klom-task={name} --klom-method=ga --klom-models=10
""",
    "method": """  pytest --klom-method={name} --klom-models=10
  klom tune {name} --models 10
""",
}


def add(commands: Commands) -> None:
    """The command."""
    text = "write a file with a task or a method of your own, to begin with"
    new = commands.add("new", run, text, EXAMPLES)
    new.add_argument("kind", choices=("task", "method"), metavar="KIND", help="task or method")
    new.add_argument("name", metavar="NAME", help="its name, and that of the file")
    new.add_argument("--output", type=Path, metavar="FILE", help="default: NAME.py")


def run(args: argparse.Namespace) -> int:
    """`klom new`."""
    kind, name = args.kind, args.name
    _refuse_name(kind, name)
    file = args.output or Path(f"{name}.py")
    pyproject, listed = _pyproject(f"{kind}s")
    module = _module(file, pyproject.parent)
    text = files("klom_bench.cli").joinpath(f"new_{kind}.txt").read_text(encoding="utf-8")
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text.replace("NAME", name))
    except FileExistsError:
        raise KlomError(f"{file} is there already, and is kept: --output names another") from None
    places = [*listed, f"{module}:{'task' if kind == 'task' else name}"]
    quoted = ", ".join(f'"{place}"' for place in places)
    line = f"{kind}s = [{quoted}]"
    sys.stdout.write(NEXT.format(file=file, pyproject=pyproject, line=line))
    sys.stdout.write(COMMANDS[kind].format(name=name))
    return 0


def _refuse_name(kind: str, name: str) -> None:
    """KlomError for a name that is none, or is taken."""
    from klom_bench.found import methods_from

    if not (name.isascii() and name.isidentifier()) or iskeyword(name):
        raise KlomError(
            f"{name!r} is no name for a {kind}: letters, digits and underscores are, as my_{kind}"
        )
    if name in (known_tasks() if kind == "task" else methods_from([Path.cwd()])):
        raise KlomError(f"there is a {kind} {name} already: `klom list` names all; choose another")


def _pyproject(kind: str) -> tuple[Path, list[str]]:
    """The pyproject.toml to write into, and what it names already."""
    from klom_bench.pyproject import klom_table

    table, path = klom_table([Path.cwd()])
    return path or Path.cwd() / "pyproject.toml", table.get(kind, [])


def _module(file: Path, folder: Path) -> str:
    """What a file below a folder is imported as; KlomError where it cannot be."""
    path, folder = file.resolve(), folder.resolve()
    if not path.is_relative_to(folder):
        raise KlomError(f"{file} would not lie in {folder}, from where its name is imported")
    parts = path.relative_to(folder).with_suffix("").parts
    if path.suffix != ".py" or not all(part.isidentifier() for part in parts):
        raise KlomError(f"{file} cannot be imported: name it as in my_methods/name.py")
    if parts[1:] or path.exists():
        return ".".join(parts)
    if find_spec(parts[0]):
        raise KlomError(f"{file} would hide the module {parts[0]}: --output names another file")
    return parts[0]
