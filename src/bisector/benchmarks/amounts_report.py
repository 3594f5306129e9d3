"""The ways to the amounts as a table."""

from bisector.benchmarks.amounts import AmountsRun, Row
from bisector.benchmarks.tables import Table, seconds

NOTE = (
    "Medians of {repeats} rounds in turns, in one process, float32 embeddings for everybody. `× ours`: over our "
    "time for the same shrinkage. `with a number`: classes whose amount is finite; `error`: the largest relative "
    "one of those, against float64 (numpy and scikit-learn; for quadratic-inverse our own)."
)


def amounts_table(run: AmountsRun) -> Table:
    """Return the ways at one dimension."""
    classes, rows = len(run.counts), sum(run.counts)
    sizes = f"{min(run.counts):,} to {max(run.counts):,}"
    title = f"p = {run.dim:,}: {classes} classes of {sizes} rows, {rows:,} in all"
    headings = ["", "seconds", "min … max", "× ours", "with a number", "error"]
    return Table(title, headings, [_cells(row, classes) for row in run.rows])


def amounts_note(repeats: int) -> str:
    """Return what the columns mean."""
    return NOTE.format(repeats=repeats)


def _cells(row: Row, classes: int) -> list[str]:
    if row.median is None:
        return [f"{row.name}: {row.note}", *["–"] * 5]
    return [
        row.name,
        seconds(row.median),
        f"{seconds(min(row.seconds))} … {seconds(max(row.seconds))}",
        "–" if row.faster is None else f"{row.faster:.1f}",
        f"{row.finite} of {classes}",
        "–" if row.error is None else f"{row.error:.1e}",
    ]
