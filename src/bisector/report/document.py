"""What every page shares: one HTML file with its figures inside, that loads nothing from anywhere.

The page's own content security policy forbids it to load anything and to run any script but its own, so that
no name of a class, a head or a file can do either.
"""

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files

from bisector._version import __version__
from bisector.errors import missing_extra

try:
    from plotly.offline import get_plotlyjs
except ImportError:
    raise missing_extra("plotly", "report") from None

from bisector.report.figure import THEME, Figure, Json


def document(
    title: str, content: Sequence[str], figures: Sequence[Figure], version: str = __version__
) -> str:
    """The text of one HTML page that works offline and from `file://`.

    Args:
        title: plain text, escaped here.
        content: the sections in order, each HTML as written: a section escapes what it names. An empty one
            is left out.
        figures: the figures whose places (`sections.plot`) the content holds, drawn by the page's script.
        version: of bisector, for the foot of the page.
    """
    scripts = [get_plotlyjs(), _asset("page.js")]
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title>",
        '<link rel="icon" href="data:,">',
        f"<style>\n{_asset('page.css')}</style>",
        "</head>",
        "<body>",
        "<main>",
        *filter(None, content),
        "</main>",
        f'<footer class="note">Made by bisector {html.escape(version)}.</footer>',
        f'<script type="application/json" id="figures">{_figures_json(figures)}</script>',
        *(f"<script>{script}</script>" for script in scripts),
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _policy(scripts: Sequence[str]) -> str:
    """Forbid everything but these scripts, inline styles, and the pictures that plotly makes itself."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _figures_json(figures: Sequence[Figure]) -> str:
    content: Json = {
        "theme": THEME,
        "figures": [{"key": f.key, "data": f.data, "layout": f.layout} for f in figures],
    }
    text = json.dumps(_without_nan(content), allow_nan=False, separators=(",", ":"))
    # No tag and no comment can begin inside the script element.
    return text.replace("<", "\\u003c")


def _without_nan(value: Json) -> Json:
    """None where a number is not finite, which is how plotly leaves a gap."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_nan(item) for item in value]
    return value


def _asset(name: str) -> str:
    return files("bisector.report").joinpath("templates", name).read_text(encoding="utf-8")
