"""The files that a comparison leaves, and what it prints."""

from pathlib import Path

from bisector.report.comparison import write_page
from bisector.report.differences import format_differences, write_differences_csv
from bisector.report.summary import format_table, write_csv
from bisector.report.verification import format_verification, verifications, write_verification
from bisector.training.results import Comparison


def write_outputs(comparison: Comparison, folder: Path, *, width: int) -> str:
    """Write comparison.json, its tables and its page; return what to print.

    Where classes that were never trained on were verified, that comes first, with a page of its own.

    Args:
        comparison: what was found.
        folder: where to.
        width: of the terminal, in characters.
    """
    comparison.write(folder / "comparison.json")
    write_csv(comparison, folder / "comparison.csv")
    write_differences_csv(comparison, folder / "differences.csv")
    write_page(comparison, folder / "report.html")
    tables = [format_table(comparison, width=width), format_differences(comparison, width=width)]
    pages = [f"The page with the pictures: {folder / 'report.html'}"]
    verified = verifications(comparison.runs)
    if verified:
        note = "Below: classes that were trained on, in images that were not."
        tables = [format_verification(verified), note, *tables]
        page = write_verification(comparison.runs, comparison.data, comparison.command, folder)
        pages += [f"The page with the ROC: {page}"]
    return "\n\n".join([*filter(None, tables), "\n".join(pages)])
