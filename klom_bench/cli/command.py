"""`klom`: score margins from anywhere; keep ensembles in a store; tune methods; begin new ones."""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence

from klom_bench import __version__
from klom_bench.cli import bring, compare, help, history, new, report, score, store, train, tune
from klom_bench.cli.common import EPILOG, ERASE, Commands, on_terminal, what_failed
from klom_bench.errors import KlomError, visible_lines
from klom_bench.interrupt import as_interrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # Greek letters, in a terminal without them
    parser = build_parser()
    args = parser.parse_args(arguments)

    def say(text: str) -> None:
        over = f"\r{ERASE}" if on_terminal() else ""  # perhaps progress stands there
        sys.stderr.write(f"{over}klom {args.command}: {visible_lines(text)}\n")

    try:
        with warnings.catch_warnings(), as_interrupt() as ended:
            warnings.showwarning = lambda message, *_, **__: say(str(message))
            return int(args.run(args))
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        say("interrupted; what was finished is kept")
        return 128 + ended.signal
    except BrokenPipeError:  # as of `klom list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KlomError, OSError) as error:
        say(what_failed(error))
        return int(getattr(args, "bad_input", 1))


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    return built()[0]


def built() -> tuple[argparse.ArgumentParser, Commands]:
    """The parser, and its commands by name."""
    parser = argparse.ArgumentParser(
        prog="klom",
        description="Does an unlearning method really forget? Scores, ensembles and their store.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"klom-bench {__version__}")
    commands = Commands(parser)
    for part in (score, store, train, bring, tune, new, report, compare, history, help):
        part.add(commands)
    return parser, commands
