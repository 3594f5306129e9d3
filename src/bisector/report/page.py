"""Write a page: one HTML file with its figures inside, that loads nothing from anywhere.

Templates escape whatever they are given, and the page's own content security policy forbids it to load anything and
to run any script but its own, so that no name of a class, a head or a file can do either.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bisector._version import __version__
from bisector.errors import missing_extra
from bisector.report.parts import THEME, Figure, Json, Section, Tile
from bisector.report.words import count, number, percent

try:
    from plotly.offline import get_plotlyjs
except ImportError:
    raise missing_extra("plotly", "report") from None


def render(
    template: str,
    sections: Sequence[Section],
    *,
    title: str,
    facts: Sequence[str],
    tiles: Sequence[Tile],
    summary: Sequence[str] = (),
    command: str = "",
    notes: Sequence[str] = (),
    version: str = __version__,
) -> str:
    """Return one HTML page that works offline and from `file://`.

    Args:
        template: with a macro for each section.
        sections: in their order.
        title: of the page.
        facts: what the page is about, in a line below the title.
        tiles: the key numbers.
        summary: what a reader should know who reads no further, a line each.
        command: what was typed, where there is something to repeat.
        notes: for people, a line each.
        version: of bisector, for the foot of the page.
    """
    folder = files("bisector.report").joinpath("templates")
    own = [folder.joinpath(name) for name in ("page.js", template.replace(".html", ".js"))]
    texts = [script.read_text(encoding="utf-8") for script in own if script.is_file()]
    scripts = [*map(Markup, texts), Markup(get_plotlyjs())]
    sections = [section for section in sections if section.when]
    figures = [figure for section in sections for figure in section.content.get("figures", ())]
    return (
        environment()
        .get_template("page.html")
        .render(
            title=title,
            facts=facts,
            tiles=tiles,
            summary=summary,
            command=command,
            notes=notes,
            sections=sections,
            macros=environment().get_template(template).module,
            version=version,
            figures_json=_figures_json(figures),
            scripts=scripts,
            digests=[
                base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
            ],
        )
    )


@cache
def environment() -> Environment:
    """The templates, which escape whatever they are given and know no name that they are not given."""
    found = Environment(
        loader=PackageLoader("bisector.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters.update(count=count, number=number, percent=percent, json=_embedded)
    found.globals.update(zip=zip)
    return found


def _figures_json(figures: Sequence[Figure]) -> Markup:
    content: Json = {
        "theme": THEME,
        "figures": [{"key": f.key, "data": f.data, "layout": f.layout} for f in figures],
    }
    return _embedded(content)


def _embedded(content: Json) -> Markup:
    """Data for the page's scripts, within a script element of their own."""
    text = json.dumps(_without_nan(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # No tag and no comment can begin inside the script element.
    return Markup(text.replace("<", "\\u003c"))


def _without_nan(value: Json) -> Json:
    """None where a number is not finite, which is how plotly leaves a gap."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_nan(item) for item in value]
    return value
