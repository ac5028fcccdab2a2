"""Figures as files, and their captions."""

from functools import partial
from pathlib import Path

from klom_bench.files.atomic import write_whole
from klom_bench.progress import Announce, silent
from klom_bench.report.figures.canvas import COLUMN, Drawn, written
from klom_bench.report.figures.every import drawings, figure_of_row, with_own_name
from klom_bench.report.markdown import plain
from klom_bench.report.runs import SavedRun

CAPTIONS = "captions.md"
MOST_ROWS = 12
"""With more there is no figure a row."""
HISTOGRAMS = (
    "Margins of the worst points of a method are drawn where few rows are asked for, as with "
    "`--method NAME --forget-set NAME`."
)


def write_figures(
    run: SavedRun, folder: Path, form: str, width: float = COLUMN, announce: Announce = silent
) -> list[Path]:
    """A file a figure in a folder that is made, and one of all captions; OSError where it cannot.

    form: svg, png or pdf. width: in inches.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draws = [draw for _, draw in drawings(run, width)]
    if len(run.records) <= MOST_ROWS:
        draws += [partial(figure_of_row, record, width) for record in run.records]
    taken, made = set[str](), list[tuple[Path, Drawn]]()
    with announce("drawing figures", len(draws)) as tick:
        for draw in draws:
            if drawn := draw():
                own = with_own_name(drawn, taken)
                made.append((written(own, folder / f"{own.name}.{form}"), own))
            tick(1)
    captions = [f"# Figures of {plain(run.name)}"]
    captions += [f"**{path.name}**: {plain(drawn.caption)}" for path, drawn in made]
    if len(run.records) > MOST_ROWS:
        captions.append(HISTOGRAMS)
    write_whole(folder / CAPTIONS, ("\n\n".join(captions) + "\n").encode())
    return [*(path for path, _ in made), folder / CAPTIONS]
