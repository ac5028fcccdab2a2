"""What figures have in common: sizes, fonts and colours, and how they are written."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from klom_bench.errors import visible
from klom_bench.files.atomic import write_whole

COLUMN, PAGE, SCREEN = 3.35, 6.9, 5.2
"""Inches of one column of a paper of two, of both, and of a page on a screen."""
INK = "#010203"
"""Black, but in a page the colour of its text, which is light in dark mode."""
ORACLES, UNLEARNED, ORIGINALS = "#0072b2", "#d55e00", INK
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito: colour-blind people tell them apart, on white and on black."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
RAMP = "viridis"
"""Light and dark differ, too, so that it reads in grey."""
FAINT = "#8c8c8c"
"""Lines and bands behind: grey on white and on black."""
SCREEN_DPI = 110
"""Of what is a picture within an SVG of a page."""
SMALL = 7
"""Points of the smallest text."""
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial"],
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "pdf.fonttype": 42,  # publishers refuse type 3
    "savefig.dpi": 220,
}
DEFAULTS: dict[Any, Any] = {k: v for k, v in mpl.rcParamsDefault.items() if k != "backend"}
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
for _prefix, _space in (("", SVG), ("xlink", XLINK)):
    ElementTree.register_namespace(_prefix, _space)


@dataclass(frozen=True)
class Drawn:
    """A figure and what stands beside it.

    Args:
        name: of a file, and of its place in a page; letters, digits, `-`, `_` and dots.
        title: a few words.
        caption: whole sentences: what is drawn, of how many models, and what bars and bands are.
        figure: of matplotlib.
        choice: which of several figures in one place this is, by what can be chosen there.
        tips: by the gid of a collection of markers, what each of them is, in order.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    choice: Mapping[str, str] = field(default_factory=dict)
    tips: Mapping[str, Sequence[str]] = field(default_factory=dict)


def blank(width: float, height: float) -> Figure:
    """An empty figure; sizes in inches. Call it, and draw, within `style()`."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def panels(
    figure: Figure,
    rows: int = 1,
    columns: int = 1,
    *,
    left: float = 0.45,
    right: float = 0.1,
    bottom: float = 0.4,
    top: float = 0.1,
    gap: float = 0.15,
) -> list[Axes]:
    """Axes in rows; all margins in inches, so that nothing need be drawn to know where it is."""
    width, height = figure.get_size_inches()
    wide = (width - left - right - gap * (columns - 1)) / columns
    high = (height - bottom - top - gap * (rows - 1)) / rows
    return [
        figure.add_axes(
            (
                (left + column * (wide + gap)) / width,
                (bottom + (rows - 1 - row) * (high + gap)) / height,
                wide / width,
                high / height,
            )
        )
        for row in range(rows)
        for column in range(columns)
    ]


@contextmanager
def style() -> Iterator[None]:
    """In which all figures are made and written, whatever a user's matplotlibrc says."""
    with mpl.rc_context({**DEFAULTS, **STYLE}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # in a name: it shows as a box
        yield


def sentences(*parts: str) -> str:
    """A caption of those that say something."""
    return " ".join(part[0].upper() + part[1:] for part in parts if part)


def written(drawn: Drawn, path: Path) -> Path:
    """The figure as a file; its suffix says which format: .svg, .pdf or .png."""
    form, buffer = path.suffix.removeprefix("."), io.BytesIO()
    about = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[form]
    with style(), mpl.rc_context({"svg.hashsalt": drawn.name}):
        drawn.figure.savefig(buffer, format=form, metadata=about)
    write_whole(path, buffer.getvalue())
    return path


def inline_svg(drawn: Drawn) -> str:
    """An <svg> element for a page: its text is text in the page's font, its black the page's, its
    ids its own."""
    buffer = io.BytesIO()
    with style(), mpl.rc_context({"svg.hashsalt": drawn.name, "svg.fonttype": "none"}):
        drawn.figure.savefig(
            buffer, format="svg", dpi=SCREEN_DPI, transparent=True, metadata={"Date": None}
        )
    root = ElementTree.fromstring(buffer.getvalue())
    for element in [*root]:
        if element.tag == f"{{{SVG}}}metadata" or element.find(f"{{{SVG}}}style") is not None:
            root.remove(element)  # a style would be one for all of the page
    _tell_markers(root, drawn.tips)
    for key, value in LOOK.items():
        root.set(key, value)
    root.set("aria-label", visible(drawn.title))
    _own_ids(root, drawn.name)
    for element in root.iter():
        element.tail = None
        if element.tag == f"{{{SVG}}}text":
            element.set("style", re.sub("font-family: [^;]*;? ?", "", element.get("style", "")))
        elif element.text and element.text.isspace():
            element.text = None
    return ElementTree.tostring(root, encoding="unicode").replace(INK, "currentColor")


LOOK = {"role": "img", "stroke-linejoin": "round", "stroke-linecap": "butt"}


def _tell_markers(root: ElementTree.Element, tips: Mapping[str, Sequence[str]]) -> None:
    """Each marker says what it is where the pointer rests on it."""
    for group in root.iter(f"{{{SVG}}}g"):
        names = tips.get(group.get("id", ""), ())
        # Few markers are paths of their own, many are uses of those in <defs>.
        markers = [*group.iter(f"{{{SVG}}}use")] or [*group.iter(f"{{{SVG}}}path")]
        for marker, name in zip(markers, names, strict=False):  # those of a picture are none
            ElementTree.SubElement(marker, f"{{{SVG}}}title").text = visible(name)


def _own_ids(root: ElementTree.Element, name: str) -> None:
    """Only what is referred to has an id, and no two figures of a page have the same."""
    referred = set()
    for element in root.iter():
        for key, value in element.items():
            if key.endswith("href") and value.startswith("#"):
                referred.add(value[1:])
                element.set(key, f"#{name}-{value[1:]}")
            elif match := re.search(r"url\(#([^)]*)\)", value):
                referred.add(match[1])
                element.set(key, value.replace("url(#", f"url(#{name}-"))
    for element in root.iter():
        if (known := element.attrib.pop("id", None)) and known in referred:
            element.set("id", f"{name}-{known}")
