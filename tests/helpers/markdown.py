"""Code blocks of the pages."""

import re

from klom_bench.plugin.pages import DOCS

README = DOCS.parents[1] / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]


def text_of(page):
    return page.read_text(encoding="utf-8")


def blocks(page, language=None):
    """The code blocks of a page, of one language ("" is none) or of all."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(page), re.S | re.M)
    return [code for its, code in found if language in (None, its)]


def block(page, language, holding=""):
    """The one block that holds a text."""
    (found,) = [code for code in blocks(page, language) if holding in code]
    return found
