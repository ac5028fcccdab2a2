"""Text that Markdown, and pages that show it, leave as it is."""

import re

from klom_bench.errors import visible


def plain(text: str) -> str:
    """Anywhere, a cell of a table included."""
    marked = re.sub(r"([\\`*\[\]|~$]|\b_|_\b)", r"\\\1", visible(text))  # not within a word
    return marked.replace("<", "&lt;")


def code(text: str) -> str:
    """In backticks, where only these and the bars of a table have a meaning."""
    return "`" + visible(text).replace("`", "'").replace("|", "\\|") + "`"
