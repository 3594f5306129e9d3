"""One HTML page from a comparison: everything in one file, nothing loaded from anywhere."""

from pathlib import Path

from bisector.files import write_whole
from bisector.report import sections
from bisector.report.difference_section import difference_figures, difference_section
from bisector.report.differences import difference_rows
from bisector.report.document import document
from bisector.report.guidance import amount_history, margins
from bisector.report.planes import planes
from bisector.report.plots import amount_accuracy, class_accuracy, train_counts
from bisector.report.summary import summary_rows
from bisector.training.results import Comparison


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the report of a comparison as one HTML file that works offline and from `file://`.

    The page's own content security policy forbids it to load anything and to run any script but its own,
    so that no name of a class or a head can do either.

    Raises:
        OSError: if the file cannot be written.
    """
    write_whole(path, render_page(comparison))


def render_page(comparison: Comparison) -> str:
    """The page that `write_page` writes."""
    rows = summary_rows(comparison)
    heads = "1 head" if len(rows) == 1 else f"{len(rows)} heads compared"
    title = f"{heads} on {comparison.data}"
    counts, accuracy = train_counts(comparison), class_accuracy(comparison)
    scatter = amount_accuracy(comparison, rows)
    pairs, history, flat = (draw(comparison) for draw in (margins, amount_history, planes))
    paired = difference_rows(comparison)
    forest = difference_figures(paired)
    content = [
        sections.header(comparison, title),
        sections.findings(rows),
        sections.plot(counts),
        sections.results(rows),
        difference_section(comparison, paired, forest) if paired else "",
        sections.class_section(comparison, accuracy),
        sections.amount_section(comparison, rows, scatter) if scatter else "",
        sections.margin_section(comparison, pairs) if pairs else "",
        sections.history_section(comparison, history) if history else "",
        sections.plane_section(comparison, flat) if flat else "",
        sections.recipe(comparison) if comparison.recipe else "",
    ]
    figures = [counts, *forest, accuracy, *scatter, *pairs, *history, *flat]
    return document(title, content, figures, comparison.version)
