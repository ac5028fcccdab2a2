"""What the pages in `docs` say of options and methods, written from these themselves.

`python -m klom_bench.plugin.pages` writes it into the pages anew.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import klom_bench
from klom_bench.cli.command import built
from klom_bench.methods import BUILT_IN
from klom_bench.methods.description import described
from klom_bench.methods.method import Method
from klom_bench.plugin.options import OPTIONS, Option

DOCS = Path(klom_bench.__file__).parent / "docs"
BEGIN, END = "<!-- begin: python -m klom_bench.plugin.pages -->\n", "<!-- end -->"


def generated() -> dict[str, str]:
    """The pages that are written from code, by topic: what stands between their marks."""
    return {"options": options_text(), "methods": methods_text(), "examples": examples_text()}


def options_text() -> str:
    """The options of pytest, and those of the commands of `klom`."""
    lines = ["## Of pytest", "", "| option | meaning | ini value |", "|---|---|---|"]
    lines += [_option_row(name, option) for name, option in OPTIONS.items()]
    for name, parser in built()[1].by_name.items():
        lines += ["", f"## klom {name}", "", f"{parser.description}.", ""]
        lines += ["| argument | meaning |", "|---|---|"]
        lines += list(_argument_rows(parser))
    return "\n".join(lines) + "\n"


def methods_text() -> str:
    """A row a method: its rule, where it is from, where it departs from it, where it applies."""
    lines = ["| method | rule | paper | public code, and how nearly it is that | departures |"]
    lines += ["|---|---|---|---|---|"]
    lines += [_method_row(method) for method in BUILT_IN.values()]
    return "\n".join(lines) + "\n"


def examples_text() -> str:
    """The files of `examples`, whole."""
    lines = []
    for path in sorted((DOCS / "examples").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        title = text.splitlines()[0].strip('"')
        lines += [f"## {path.name}: {title}", "", "```python", text.rstrip(), "```", ""]
    return "\n".join(lines)


def _option_row(name: str, option: Option) -> str:
    flag = _in_a_cell(f"{option.flag(name)} {option.shown(name)}".strip())
    ini = f"`klom_{name}`" if option.has_ini else ""
    return f"| `{flag}` | {_in_a_cell(option.text)} | {ini} |"


def _argument_rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.dest != "help":
            name = f"{''.join(action.option_strings[:1])} {action.metavar or ''}".strip()
            text = (action.help or "").replace("%%", "%")
            yield f"| `{name or action.dest}` | {_in_a_cell(text)} |"


def _method_row(method: Method) -> str:
    said, only = described(method), method.traits.only
    name = f"`{method.name}`" + f" ({', '.join(only)} only)" * bool(only)
    cells = (name, said.rule.removesuffix("."), said.paper, said.code, said.departures)
    return f"| {' | '.join(map(_in_a_cell, cells))} |"


def _in_a_cell(text: str) -> str:
    """`|` would end the cell."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def filled(page: str, text: str) -> str:
    """The page with this text between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{text}{END}{after}"


def main() -> None:
    """Write the pages anew."""
    for topic, text in generated().items():
        path = DOCS / f"{topic}.md"
        path.write_text(filled(path.read_text(encoding="utf-8"), text), encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
