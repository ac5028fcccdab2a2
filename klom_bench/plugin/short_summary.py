"""pytest's short summary: a line a failing test, which ends with the reason where there is room."""

import os

import pytest

FAILED = "Failed: "
"""How pytest begins what `pytest.fail` says."""


def shorten(report: pytest.TestReport) -> None:
    """Leave of what a KLOM test says the reason, its first line: the rest stands above."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if report.failed and crash and crash.message.startswith(FAILED):
        crash.message = crash.message.removeprefix(FAILED).partition("\n")[0]


def reason(report: pytest.TestReport) -> str:
    """Why a test failed, on one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr).strip().partition("\n")[0]


def is_cut(report: pytest.TestReport, terminal: pytest.TerminalReporter) -> bool:
    """Whether the short summary has no room for the reason, or is not asked for."""
    word, letter = ("FAILED", "f") if report.when == "call" else ("ERROR", "E")
    if not terminal.hasopt(letter):
        return True
    config = terminal.config
    in_full = any(os.environ.get(name) for name in ("CI", "BUILD_NUMBER"))
    if (in_full or config.get_verbosity() >= 2) and not config.option.force_short_summary:
        return False
    room, why = config.get_terminal_writer().fullwidth, f" - {reason(report)}"
    if config.get_terminal_writer().hasmarkup:
        return len(why) > room  # pytest takes a line with colours for one without width
    path, *names = report.nodeid.split("::")
    seen_from_here = os.path.relpath(config.rootpath / path, config.invocation_params.dir)
    return len(f"{word} {'::'.join([seen_from_here, *names])}{why}") > room
