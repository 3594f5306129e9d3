"""Tables: columns and rows that pages show as HTML and terminals as text; records as CSV, Parquet and JSON."""

import io
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bisector.errors import missing_extra
from bisector.files import write_rows, write_whole
from bisector.report.words import plain, short_names, shorten

_NAME_WIDTH = 32  # letters of the names in a text that has a limited width
_LONG = 30  # rows from which a table may scroll in a box of its own
_FIRST = (
    100  # rows that are elements of the page at once; the page's script makes the others when they are wanted
)
_FEW = 10  # rows among which nobody needs to search
_NAME = 48  # letters of a name in a table


@dataclass(frozen=True)
class Column:
    """One column: its heading, what its cells hold, and how a reader can sort by it."""

    label: str
    kind: Literal["name", "words", "number"] = "number"  # a name is the heading of its row
    unit: str = ""  # in small print behind the label
    help: str = ""  # shown where a heading that sorts is pointed at
    better: str = ""  # "higher" or "lower" where that is so: an arrow says it
    sorts: Literal["", "ascending", "descending"] = ""  # how the first click sorts; empty: it does not
    sorted: bool = False  # the rows come in that order
    width: float | None = None  # rem: what a column of words has at least
    stacked: bool = False  # the small print of its cells stands below
    extra: bool = False  # shown where a reader asks for more columns

    @property
    def arrow(self) -> str:
        """The direction in which values are better."""
        return {"higher": "↑", "lower": "↓"}.get(self.better, "")


class Cell(NamedTuple):
    """What one cell shows, and what the table is sorted by."""

    text: str
    value: float | str = ""  # sorted by; NaN is not known
    spread: str = ""  # in small print behind the text: a deviation, or an interval
    best: bool = False  # of its column
    title: str = ""  # shown where it is pointed at: the whole of what was shortened

    @property
    def sort_key(self) -> str:
        """The value as an attribute of the page; empty where it is not known."""
        known = isinstance(self.value, str) or math.isfinite(self.value)
        return f"{self.value}" if known else ""

    @property
    def data(self) -> "str | list[str]":
        """What the page's script makes the cell of: text, what it is sorted by, small print and title."""
        parts = [self.text, self.sort_key, self.spread, self.title]
        while not parts[-1] and len(parts) > 1:
            parts.pop()
        return self.text if parts == [self.text, self.text] else parts


class Table:
    """Columns and rows of cells; a string is short for a column of numbers, or for a cell of text.

    >>> columns = [Column("Head", "name"), Column("Few", unit="%")]
    >>> print(Table(columns, [["IGAM", Cell("83.1", best=True)], ["C2AM", "79.0"]]).text())
           Few
             %
    ───────────
    IGAM  83.1*
    C2AM  79.0
    """

    def __init__(
        self,
        columns: Iterable[Column | str],
        rows: Iterable[Sequence[Cell | str]],
        label: str = "",  # for who does not see it; the first heading where there is none
        *,
        boxed: bool = False,  # whether it scrolls in a box of its own where it is long
        searched: bool = False,  # whether rows can be found by name where they are not few
    ) -> None:
        self.columns = [column if isinstance(column, Column) else Column(column) for column in columns]
        self.rows = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
        self.label = label or self.columns[0].label or "Table"
        self.boxed = boxed and len(self.rows) > _LONG
        self.searched = searched and len(self.rows) > _FEW
        self.extra = any(column.extra for column in self.columns)

    @property
    def headed(self) -> bool:
        """Whether any column has a heading."""
        return any(column.label for column in self.columns)

    @property
    def first(self) -> list[list[Cell]]:
        """The rows that are in the page from the beginning, and on paper."""
        return self.rows[:_FIRST] if self.boxed and self.searched else self.rows

    @property
    def data(self) -> "list[list[str | list[str]]]":
        """All rows as data, where the first ones are not all."""
        shown = len(self.first) == len(self.rows)
        return [] if shown else [[cell.data for cell in row] for row in self.rows]

    def without_dashes(self) -> "Table":
        """The same table without the columns in which every cell is a dash."""
        kept = [k for k in range(len(self.columns)) if k == 0 or any(row[k].text != "–" for row in self.rows)]
        return Table([self.columns[k] for k in kept], ([row[k] for k in kept] for row in self.rows))

    def text(self, width: float = math.inf, *, corner: str = "", wrap: float = 0, rule: bool = True) -> str:
        """The table for a terminal: names to the left, numbers to the right, a star behind what is best.

        Characters that would steer the terminal are taken out of names.

        Args:
            width: letters of a line. Columns that do not fit continue in a further block below, and names are cut;
                without a limit there is one block.
            corner: what stands above the names.
            wrap: letters of a heading that stay on one line at least.
            rule: whether a line is drawn below the headings.
        """
        (_, *names), *columns = map(self._lines, range(len(self.columns)))
        side = [corner, *(shorten(name, _NAME_WIDTH) if width < math.inf else name for name in names)]
        blocks, used = [[side]], 0
        for column in columns:
            needed = _width(column, wrap) + 2
            if len(blocks[-1]) > 1 and used + needed > width - _NAME_WIDTH:
                blocks, used = [*blocks, [side]], 0
            blocks[-1].append(column)
            used += needed
        return "\n\n".join(_block(block, wrap, rule) for block in blocks)

    def _lines(self, k: int) -> list[str]:
        """The heading of a column, and its cells: texts in line, their small print behind."""
        behind = [f" {c.spread}" * bool(c.spread) + "*" * c.best for c in (row[k] for row in self.rows)]
        room = max(map(len, behind), default=0)
        cells = [
            plain(row[k].text) + spread.ljust(room) for row, spread in zip(self.rows, behind, strict=True)
        ]
        return [f"{self.columns[k].label} {self.columns[k].unit}".rstrip(), *cells]


def _width(column: Sequence[str], wrap: float) -> int:
    heading, *cells = column
    return max(int(min(len(heading), wrap)), *map(len, heading.split()), *map(len, cells), 1)


def _block(columns: Sequence[list[str]], wrap: float, rule: bool) -> str:
    """Columns side by side: the headings over as many lines as they need, a rule, and the cells."""
    widths = [_width(column, wrap) for column in columns]
    headings = [
        textwrap.wrap(column[0], width, break_long_words=False)
        for column, width in zip(columns, widths, strict=True)
    ]
    depth = max(map(len, headings))
    raised = ([""] * (depth - len(heading)) + heading for heading in headings)
    lines = [*zip(*raised, strict=True), *zip(*(column[1:] for column in columns), strict=True)]
    shown = []
    for line in lines:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        shown.append("  ".join([first.strip().ljust(widths[0]), *others]).rstrip())
    if rule:
        shown.insert(depth, "─" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(shown)


def name_width(names: Iterable[str]) -> float:
    """The rem that a column of names has at least: those of the longest, or where it is long, of some words."""
    return min(7.0, 1.2 + 0.55 * max(map(len, names), default=0))


Values = tuple[Column, Sequence[Any], Callable[[Any], str]]
"""A column, its value for every class (or its cell), and how a value is written."""


def class_table(
    names: Sequence[str],  # of all classes
    order: Sequence[int],  # the classes that are shown, from the first row on
    columns: Sequence[Values],
    help: str = "",  # for the column of names
    label: str = "Classes",  # a second such table on a page needs its own
) -> Table:
    """Return a table with a row for each class, sortable by every column and searched by name."""
    short = short_names(names, _NAME)
    name = Column("Class", "name", help=help, sorts="ascending", width=name_width(short[c] for c in order))

    def cell(value: Any, show: Callable[[Any], str]) -> Cell:
        return value if isinstance(value, Cell) else Cell(show(value), value)

    rows = (
        [
            Cell(short[c], names[c], title=names[c] if short[c] != names[c] else ""),
            *(cell(values[c], show) for _, values, show in columns),
        ]
        for c in order
    )
    return Table([name, *(column for column, _, _ in columns)], rows, label, boxed=True, searched=True)


def write_records(
    path: Path,  # ends with .csv, .parquet or .json
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    types: Sequence[type] = (),  # of the columns; needed for Parquet
) -> None:
    """Write rows, whole or not at all; NaN is an empty cell of CSV, elsewhere null as an infinity is too."""
    if path.suffix == ".csv":
        cells = (["" if isinstance(v, float) and math.isnan(v) else v for v in row] for row in rows)
        write_rows(path, [headings, *cells])
        return
    known = [[None if isinstance(v, float) and not math.isfinite(v) else v for v in row] for row in rows]
    if path.suffix == ".json":
        listed = [dict(zip(headings, row, strict=True)) for row in known]
        write_whole(path, json.dumps(listed, ensure_ascii=False, indent=1, allow_nan=False))
        return
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise missing_extra("pyarrow", "measure") from None
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    columns = [pa.array([row[k] for row in known], type=kinds[held]) for k, held in enumerate(types)]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, names=headings), buffer)
    write_whole(path, buffer.getvalue())
