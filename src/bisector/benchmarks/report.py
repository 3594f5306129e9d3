"""The comparison of losses as a table, as Markdown and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bisector.benchmarks.losses import Comparison, Row
from bisector.benchmarks.machine import Description
from bisector.files import write_whole

EXPLANATION = (
    "Forward and backward with respect to embeddings and class weights, without optimiser. The contenders take "
    "turns in one process; seconds are medians of {repeats} rounds after one that warms up. `/ products`: over "
    "x @ W.T, G @ W and G.T @ x as anyone writes them; `/ kept`: over the same into buffers that are kept. "
    "`× pml`: how many times faster than the faster of pytorch-metric-learning's two. Memory is the peak above "
    "the inputs, by allocation, in the first call; everybody's gradients count. `/ pml`: its share of what the "
    "leaner of those two takes; `beyond`: the same without the gradients, which nobody can do without."
)
EXPLANATION32 = " `/ fp32`: over the three products in float32."


@dataclass(frozen=True)
class Settings:
    """How a comparison was run."""

    precision: str  # of the products
    device: str  # where
    repeats: int  # timed rounds
    command: str  # that does it again


def format_comparison(comparison: Comparison) -> str:
    """Return an aligned table for a terminal."""
    headings, rows = _cells(comparison)
    widths = [max(map(len, column)) for column in zip(headings, *(cells for cells, _ in rows), strict=True)]
    lines = [f"N = {comparison.n:,}, D = {comparison.d:,}, C = {comparison.c:,}"]
    lines += [_line(headings, widths), "─" * (sum(widths) + 2 * (len(widths) - 1))]
    for cells, note in rows:
        noted = f"{cells[0].ljust(widths[0])}  {note}"
        lines.append(noted if note else _line(cells, widths))
    return "\n".join(lines)


def explanation(settings: Settings) -> str:
    """Return what the columns mean."""
    beside = "" if settings.precision == "float32" else EXPLANATION32
    return EXPLANATION.format(repeats=settings.repeats) + beside


def to_markdown(comparisons: Sequence[Comparison], machine: Description, settings: Settings) -> str:
    """Return a page with the machine, the command and one table a size."""
    parts = [f"# Losses in {settings.precision} on {settings.device.upper()}"]
    parts.append("\n".join(f"- {line}" for line in machine.lines()))
    parts.append(f"```console\n$ {settings.command}\n```")
    parts.append(explanation(settings))
    for comparison in comparisons:
        parts.append(f"## N = {comparison.n:,}, D = {comparison.d:,}, C = {comparison.c:,}")
        headings, rows = _cells(comparison)
        lines = ["| " + " | ".join(headings) + " |", "|---" + "|---:" * (len(headings) - 1) + "|"]
        for cells, note in rows:
            shown = [cells[0], note, *[""] * (len(cells) - 2)] if note else cells
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in shown) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def write_comparisons(
    comparisons: Sequence[Comparison], machine: Description, settings: Settings, folder: Path
) -> list[Path]:
    """Write losses.md and, with every single time, losses.json.

    Raises:
        OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, data = folder / "losses.md", folder / "losses.json"
    write_whole(page, to_markdown(comparisons, machine, settings))
    sizes = [asdict(comparison) for comparison in comparisons]
    told = {"version": 1, "settings": asdict(settings), "machine": asdict(machine), "sizes": sizes}
    write_whole(data, json.dumps(told, indent=1) + "\n")
    return [page, data]


def _cells(comparison: Comparison) -> tuple[list[str], list[tuple[list[str], str]]]:
    """Return the headings, and for each row its cells and its note."""
    float32 = any(row.times_float32 is not None for row in comparison.rows)
    headings = ["", "seconds", "min … max", "/ products", "/ kept", *["/ fp32"] * float32]
    headings += ["× pml", "extra MiB", "/ pml", "beyond"]
    return headings, [(_row(row, float32), row.note) for row in comparison.rows]


def _row(row: Row, float32: bool) -> list[str]:
    extent = f"{_seconds(min(row.seconds))} … {_seconds(max(row.seconds))}" if row.seconds else "–"
    ratios = [row.times_products, row.times_kept, *[row.times_float32] * float32]
    return [
        row.name,
        "–" if row.median is None else _seconds(row.median),
        extent,
        *(_number(value) for value in ratios),
        _number(row.faster_than_metric_learning if row.kind in {"bisector", "peer"} else None),
        _number(None if row.extra_bytes is None else row.extra_bytes / 2**20, ",.1f"),
        _number(row.share_of_metric_learning, ".3f"),
        _number(row.share_beyond, ".3f"),
    ]


def _seconds(value: float) -> str:
    return f"{value:.4f}" if value < 1 else f"{value:.3f}"


def _number(value: float | None, form: str = ".2f") -> str:
    return "–" if value is None else f"{value:{form}}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()
