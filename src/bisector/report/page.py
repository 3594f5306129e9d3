"""One HTML page from a comparison: everything in one file, nothing loaded from anywhere."""

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from bisector.errors import missing_extra

try:
    from plotly.offline import get_plotlyjs
except ImportError:
    raise missing_extra("plotly", "report") from None

from bisector.report import sections
from bisector.report.figure import THEME, Figure, Json
from bisector.report.guidance import amount_history, margins
from bisector.report.planes import planes
from bisector.report.plots import amount_accuracy, class_accuracy, train_counts
from bisector.report.table import summary_rows
from bisector.training.results import Comparison


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the report of a comparison as one HTML file that works offline and from `file://`.

    The page's own content security policy forbids it to load anything and to run any script but its own,
    so that no name of a class or a head can do either.

    Raises:
        OSError: if the file cannot be written.
    """
    path.write_text(render_page(comparison), encoding="utf-8")


def render_page(comparison: Comparison) -> str:
    """The page that `write_page` writes."""
    rows = summary_rows(comparison)
    heads = "1 head" if len(rows) == 1 else f"{len(rows)} heads compared"
    title = f"{heads} on {comparison.data}"
    counts, accuracy = train_counts(comparison), class_accuracy(comparison)
    scatter = amount_accuracy(comparison, rows)
    pairs, history, flat = (draw(comparison) for draw in (margins, amount_history, planes))
    content = [
        sections.header(comparison, title),
        sections.findings(rows),
        sections.plot(counts),
        sections.results(rows),
        sections.class_section(comparison, accuracy),
        sections.amount_section(comparison, rows, scatter) if scatter else "",
        sections.margin_section(comparison, pairs) if pairs else "",
        sections.history_section(comparison, history) if history else "",
        sections.plane_section(comparison, flat) if flat else "",
        sections.recipe(comparison) if comparison.recipe else "",
    ]
    figures = [counts, accuracy, *scatter, *pairs, *history, *flat]
    return _document(title, content, figures, comparison.version)


def _document(title: str, content: Sequence[str], figures: Sequence[Figure], version: str) -> str:
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
    return files("bisector.report").joinpath(name).read_text(encoding="utf-8")
