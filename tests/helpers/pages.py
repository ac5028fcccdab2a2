"""A page as it is read: elements, texts and what is packed in it, by a parser that knows no trust."""

import base64
import gzip
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input"}


@dataclass
class Element:
    tag: str
    attributes: dict
    children: list = field(default_factory=list)

    def all(self, tag=None, **attributes):
        """Elements below it, in their order."""
        for child in self.children:
            if isinstance(child, Element):
                fits = tag in (None, child.tag)
                if fits and attributes.items() <= child.attributes.items():
                    yield child
                yield from child.all(tag, **attributes)

    def one(self, tag=None, **attributes):
        (found,) = self.all(tag, **attributes)
        return found

    @property
    def text(self):
        parts = (c if isinstance(c, str) else c.text for c in self.children)
        return " ".join("".join(parts).split())


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag, attributes):
        self._close(tag)
        element = Element(tag, dict(attributes))
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self._open[-1].children.append(Element(tag, dict(attributes)))

    def handle_endtag(self, tag):
        while len(self._open) > 1 and self._open.pop().tag != tag:
            pass

    def handle_data(self, data):
        self._open[-1].children.append(data)

    def _close(self, tag):
        """End tags that HTML lets one leave out."""
        ends = {"td": "td", "th": "th", "tr": "td tr", "tbody": "td tr"}
        for end in ends.get(tag, "").split():
            if self._open[-1].tag == end:
                self._open.pop()


def read(page):
    """The root of a page."""
    reader = _Reader()
    reader.feed(page)
    return reader.root


def rows(element):
    """The texts of a table: its head, then its rows."""
    return [
        [cell.text for cell in row.children if isinstance(cell, Element)]
        for row in element.all("tr")
    ]


def packed(root):
    """What the script of a page has of all rows."""
    return json.loads(gzip.decompress(base64.b64decode(root.one("script", id="data").text)))
