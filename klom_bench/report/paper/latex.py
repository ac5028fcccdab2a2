"""Tables for a paper in LaTeX, with booktabs."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from klom_bench.errors import visible
from klom_bench.metrics.summary import SPLITS
from klom_bench.report.paper.layout import blocks, head, number, width
from klom_bench.report.paper.tables import Cell, Line, Table

CHARACTERS, OF_A_COLUMN = 100, 56
"""About what a page and one of two columns hold in small print."""
SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}", "±": r"$\pm$",
}  # fmt: skip
GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "η": "eta",
    "θ": "theta", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi",
    "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
}  # fmt: skip
ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u",
    "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip


def latex(tables: Sequence[Table]) -> str:
    """A float each, and one more for every block of sets where there are many."""
    return "% needs \\usepackage{booktabs}\n" + "\n".join(
        _float(table, label, block, first)
        for number, table in enumerate(tables, 1)
        for first, label, block in _parts(table, number)
    )


def escaped(text: str) -> str:
    """Text that any LaTeX sets as it is; letters that few fonts have are written as U+4E2D."""
    return re.sub("-(?=-)", "-{}", "".join(map(_sign, visible(text))))  # -- would be a dash


def _sign(sign: str) -> str:
    if sign in SIGNS:
        return SIGNS[sign]
    if sign.isascii():
        return sign
    if sign in GREEK:
        return f"$\\{GREEK[sign]}$"
    parts = unicodedata.normalize("NFD", sign)
    letter, mark = parts[0], parts[1:]
    if letter.isascii() and letter.isalpha() and mark in ACCENTS:
        return f"\\{ACCENTS[mark]}{{{letter}}}"
    return f"U+{ord(sign):04X}"


def _parts(table: Table, number: int) -> Iterator[tuple[str, str, slice]]:
    """Of each float the label of the first one, its own, and its sets."""
    words = re.findall("[a-z0-9]+", table.task.lower())
    first = "-".join([f"tab:klom{number if number > 1 else ''}", *words])
    for part, block in enumerate(blocks(table, CHARACTERS), 1):
        yield first, first if part == 1 else f"{first}-part-{part}", block


def _float(table: Table, label: str, block: slice, first: str) -> str:
    sets = table.sets[block]
    kind = "table*" if width(table, len(sets)) > OF_A_COLUMN else "table"
    above, methods = (
        [_row(name(line.name), line, block, table.metric) for line in lines]
        for lines, name in ((table.above, escaped), (table.methods, _code))
    )
    text = escaped(table.caption) if label == first else f"More sets of Table~\\ref{{{first}}}."
    spans = [f"\\multicolumn{{3}}{{c}}{{{escaped(head(of))}}}" for of in sets]
    rules = [f"\\cmidrule(lr){{{3 * i + 2}-{3 * i + 4}}}" for i in range(len(sets))]
    return "\n".join(
        [
            f"\\begin{{{kind}}}",
            "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
            f"\\caption{{{text}}}",
            f"\\label{{{label}}}\\vspace{{4pt}}",
            f"\\begin{{tabular}}{{@{{}}l{'rrr' * len(sets)}r@{{}}}}",
            "\\toprule",
            f" & {' & '.join(spans)} & \\\\",
            "".join(rules),
            f" & {' & '.join([*SPLITS * len(sets), 'cost'])} \\\\",
            "\\midrule",
            *above,
            "\\midrule",
            *methods,
            "\\bottomrule",
            "\\end{tabular}",
            f"\\end{{{kind}}}",
            "",
        ]
    )


def _row(name: str, line: Line, block: slice, metric: str) -> str:
    cells = (_cell(cell, metric) for cell in line.cells[block])
    return f"{name} & {' & '.join(cells)} & {escaped(line.cost)} \\\\"


def _code(name: str) -> str:
    return f"\\texttt{{{escaped(name)}}}"


def _cell(cell: Cell, metric: str) -> str:
    if isinstance(cell.scores, str):
        return f"\\multicolumn{{3}}{{c}}{{{cell.scores}}}"
    forget, *rest = (number(score, metric, r" \pm ") for score in cell.scores)
    first = f"$\\mathbf{{{forget}}}$" if cell.best else _maths(forget)
    return " & ".join([first, *map(_maths, rest)])


def _maths(of: str) -> str:
    return f"${of}$" if "-" in of or "\\" in of else of
