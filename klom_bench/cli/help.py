"""`klom help`: the pages of `docs`."""

import argparse
import pydoc
import sys
from collections.abc import Mapping
from importlib.resources import files

from klom_bench.cli.common import Commands
from klom_bench.errors import KlomError, unknown

EXAMPLES = """examples:
  klom help                # what there is to read
  klom help reading        # what the numbers mean
  klom help gates | less
  klom help schema > record.schema.json"""
FIRST = (
    *(
        "reading",
        "verdict",
        "models",
        "method",
        "task",
        "checkpoints",
        "examples",
        "gates",
        "comparing",
        "report",
        "tracking",
        "python",
        "options",
        "published",
        "store",
        "cluster",
        "metric",
        "calibration",
        "methods",
    ),
    "costs",
)
"""In which order a newcomer reads; other pages come after these."""
SCHEMA = "schema"
"""The one topic that is no page, but a file for programs."""


def add(commands: Commands) -> None:
    """The command."""
    parser = commands.add("help", run, "print a page of the documentation, or list them", EXAMPLES)
    parser.add_argument(
        "topic", nargs="?", metavar="TOPIC", help="a page that `klom help` lists, or a command"
    )
    parser.set_defaults(commands=commands)


def run(args: argparse.Namespace) -> int:
    """`klom help`."""
    pages = pages_by_topic()
    if args.topic is None:
        sys.stdout.write(contents(pages))
    elif args.topic not in pages:
        command = args.commands.by_name.get(args.topic)  # --help tells of one that has a page, too
        if command is None:
            raise KlomError(unknown("topic", args.topic, pages))
        sys.stdout.write(command.format_help())
    elif sys.stdout.isatty():
        pydoc.pager(pages[args.topic])
    else:
        sys.stdout.write(pages[args.topic])
    return 0


def pages_by_topic() -> dict[str, str]:
    """The pages, as they are to be read."""
    found = {
        page.name.removesuffix(".md"): page.read_text(encoding="utf-8")
        for page in files("klom_bench").joinpath("docs").iterdir()
        if page.name.endswith(".md")
    }
    schema = files("klom_bench").joinpath("docs", "record.schema.json")
    ordered = {topic: found[topic] for topic in (*FIRST, *sorted({*found} - {*FIRST}))}
    return {**ordered, SCHEMA: schema.read_text(encoding="utf-8")}


def contents(pages: Mapping[str, str]) -> str:
    """A line a page: its topic and its title."""
    titles = {topic: text.splitlines()[0].removeprefix("# ") for topic, text in pages.items()}
    titles[SCHEMA] = "The JSON Schema of records"
    lines = [f"  klom help {topic:<14}{title}" for topic, title in titles.items()]
    more = "pytest --help and klom COMMAND --help tell of every option."
    return "\n".join([*lines, "", more]) + "\n"
