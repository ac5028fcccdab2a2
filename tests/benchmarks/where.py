"""Where the time of a run goes: python tests/benchmarks/where.py [SVG]

`ga` on the ten random sets of `digits`, N = 100, from an empty store and again. Prints a table and draws
the figure in docs/costs.md. What the main thread is at is looked up a hundred times a second; while its
threads train or unlearn, it waits for them. By hand, on a quiet machine.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = """
import collections, json, sys, threading, time

started, seen, over = time.perf_counter(), collections.Counter(), threading.Event()

def look(main):
    while not over.wait(0.01):
        frame, stack = sys._current_frames().get(main), []
        while frame is not None:
            stack.append(frame.f_code.co_filename)
            frame = frame.f_back
        seen["\\n".join(stack)] += 1

watch = threading.Thread(target=look, args=[threading.get_ident()], daemon=True)
watch.start()
import pytest
code = pytest.main(sys.argv[2:])
over.set()
watch.join()
with open(sys.argv[1], "w") as file:
    json.dump([time.perf_counter() - started, dict(seen)], file)
sys.exit(code)
"""
STAGES = {
    "imports": ("importlib._bootstrap",),
    "training, and margins of what was trained": ("store/filling.py",),
    "unlearning, and margins of what was unlearned": ("cell/rounds.py",),
    "scores, their errors, what chance would do": ("metrics/", "cell/scoring.py"),
    "reading and checking the store": ("klom_bench/store/", "klom_bench/files/", "cell/loading.py"),
}
"""By parts of the names of files; a moment is of the first stage that one of its frames is in."""
REST = "pytest and the rest"
SETS = 10


def stage_of(stack: str) -> str:
    """The first stage that one of these files, innermost first, belongs to."""
    stages = ((name, parts) for name, parts in STAGES.items())
    return next((name for name, parts in stages if any(part in stack for part in parts)), REST)


def seconds(*asked: str) -> dict[str, float]:
    """Of a run, by stage."""
    usual = {k: v for k, v in os.environ.items() if k not in ("PYTEST_ADDOPTS", "KLOM_STORE")}
    with tempfile.TemporaryDirectory() as folder:  # without this repository's gates
        Path(folder, "test_it.py").write_text("from klom_bench.suite import test_klom\n")
        found = Path(folder, "found.json")
        command = [sys.executable, "-c", RUN, str(found), "-q", "-p", "no:anyio", *asked]
        subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=folder, env=usual)
        whole, stacks = json.loads(found.read_text())
    times = dict.fromkeys([*STAGES, REST], 0.0)
    moment = whole / sum(stacks.values())
    for stack, moments in stacks.items():
        times[stage_of(stack)] += moment * moments
    return times


def draw(runs: dict[str, dict[str, float]], path: Path) -> None:
    """A bar a run, of as many parts as there are stages."""
    from klom_bench.report.figures.canvas import (
        COLOURS,
        FAINT,
        PAGE,
        Drawn,
        blank,
        panels,
        style,
        written,
    )

    with style():
        figure = blank(PAGE, 2.0)
        (axes,) = panels(figure, left=0.75, bottom=1.1)
        ends = dict.fromkeys(runs, 0.0)
        for name, colour in zip([*STAGES, REST], [*COLOURS[: len(STAGES)], FAINT], strict=True):
            widths = [times[name] for times in runs.values()]
            axes.barh([*runs], widths, 0.6, [*ends.values()], color=colour, label=name)
            ends = {run: ends[run] + width for run, width in zip(runs, widths, strict=True)}
        for run, end in ends.items():
            axes.annotate(
                f"{end:.0f} s", (end, run), (3, 0), textcoords="offset points", va="center"
            )
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        figure.legend(loc="lower center", ncols=2)
        written(Drawn("where", "Where time goes", "", figure), path)


def main() -> None:
    """A table, and a figure where a file is named."""
    runs = {}
    with tempfile.TemporaryDirectory() as store:
        asked = ["--klom-method=ga", f"--klom-forget-set=1-{SETS}", f"--klom-store={store}"]
        for name in ("first run", "next run"):
            runs[name] = seconds(*asked)
            print(f"{name}: {sum(runs[name].values()):.1f} s")
            for stage, spent in runs[name].items():
                print(f"  {spent:5.1f} s  {stage}")
    if sys.argv[1:]:
        draw(runs, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
