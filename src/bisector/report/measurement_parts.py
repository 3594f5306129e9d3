"""What the sections of a measurement's page are made of. Whatever comes from outside is escaped here."""

import html
import math
from collections.abc import Sequence

TEXT = ' style="text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 7rem"'
_LEFT = ' style="text-align: left"'


def section(key: str, title: str, text: str, content: str) -> str:
    """A section of HTML as written."""
    return f'<section aria-labelledby="{key}">\n<h2 id="{key}">{title}</h2>\n<p>{text}</p>\n{content}\n</section>'


def table(headings: Sequence[str], rows: str, text: Sequence[int] = (0,), label: str = "") -> str:
    """A table whose columns at the positions `text` hold text; the others hold numbers."""
    label = label or (headings[0] if headings else "Table")
    cells = "".join(
        f'<th scope="col"{_LEFT if k in text else ""}>{heading}</th>' for k, heading in enumerate(headings)
    )
    head = f"<thead><tr>{cells}</tr></thead>" if headings else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f"<table>{head}<tbody>{rows}</tbody></table></div>"
    )


def cell(text: str, style: str = TEXT) -> str:
    """A cell of text."""
    return f"<td{style}>{escape(text)}</td>"


def name_style(names: Sequence[str]) -> str:
    """A column of names: as wide as the longest, or where that is wide, as wide as some of its words."""
    width = min(7.0, 1.2 + 0.55 * max(map(len, names), default=0))
    return TEXT.replace("7rem", f"{width:.3g}rem")


def data_value(value: float) -> str:
    """What a column is sorted by; empty for NaN."""
    return f"{value}" if math.isfinite(value) else ""


def escape(text: str) -> str:
    """The text as HTML."""
    return html.escape(text)
