"""A page as a reader of its HTML gets it."""

import json
from html.parser import HTMLParser
from typing import Any

Attributes = dict[str, str | None]


class Page(HTMLParser):
    """The elements, the scripts, the words, and the cells of every row of a table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Attributes]] = []
        self.scripts: list[str] = []
        self.rows: list[list[str]] = []
        self._words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self._words.append(data)
            if self.rows and self.rows[-1] and data.strip():
                self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        """All words, in one line."""
        return " ".join(" ".join(self._words).split())

    @property
    def figures(self) -> list[dict[str, Any]]:
        """What the script of the page draws."""
        found: list[dict[str, Any]] = json.loads(self.scripts[0])["figures"]
        return found

    def all(self, tag: str) -> list[Attributes]:
        """The attributes of every such element."""
        return [attributes for name, attributes in self.tags if name == tag]


def section(text: str, key: str) -> str:
    """The HTML of one section of a page; empty where it is not there."""
    return text.partition(f'aria-labelledby="{key}">')[2].partition("</section>")[0]
