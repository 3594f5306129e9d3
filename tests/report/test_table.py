"""The one table of the reports: as text, as HTML, and its records in files."""

import csv
import json
import math

import pyarrow.parquet as pq
import pytest

from bisector.report.page import environment
from bisector.report.table import Cell, Column, Table, class_table, write_records
from page_text import Page

HOSTILE = "<img src=x onerror=window.pwned=1>\"'&"


def html_of(table: Table) -> str:
    return str(environment().get_template("parts.html").module.table(table))  # type: ignore[attr-defined]


def test_means_stand_in_line_and_their_small_print_behind():
    rows = [["a", Cell("9.5", spread="± 0.25")], ["b", Cell("10.0", spread="± 12.0", best=True)], ["c", "–"]]
    lines = Table(["Head", Column("Few", unit="%")], rows).text().splitlines()
    assert [line[1:].strip() for line in lines[-3:]] == ["9.5 ± 0.25", "10.0 ± 12.0*", "–"]
    assert len({line.index(digit) for line, digit in zip(lines[-3:], ("5 ±", "0 ±", "–"), strict=True)}) == 1


def test_columns_that_do_not_fit_continue_below_and_names_are_cut():
    columns = ["Head", *(f"column {k}" for k in range(12))]
    table = Table(columns, [["a name " * 9, *(f"{k}.0" for k in range(12))]])
    blocks = table.text(70).split("\n\n")
    assert len(blocks) > 1
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 70
    assert all("a name a name" in block and "…" in block for block in blocks)
    shown = " ".join(blocks).split()
    assert [cell for cell in shown if cell.endswith(".0")] == [f"{k}.0" for k in range(12)]
    assert len(table.text().splitlines()) == 4  # without a limit: headings of two words, a rule, a row


def test_headings_wrap_as_far_as_they_are_let_and_columns_of_dashes_can_be_left_out():
    table = Table(["Head", "a long heading"], [["x", "1"]])
    assert table.text(wrap=math.inf, rule=False) == "   a long heading\nx               1"
    assert table.text(rule=False).splitlines() == ["    a long", "   heading", "x        1"]
    assert table.text(corner="Names").splitlines()[1].startswith("Names  heading")
    table = Table(["Head", "no", "some"], [["–", "–", "–"], ["b", "–", "1"]]).without_dashes()
    assert [column.label for column in table.columns] == ["Head", "some"]
    assert [[cell.text for cell in row] for row in table.rows] == [["–", "–"], ["b", "1"]]


def test_no_text_of_a_table_becomes_html():
    column = Column(HOSTILE, "name", unit=HOSTILE, help=HOSTILE, sorts="ascending")
    table = Table([column, Column(HOSTILE, "words")], [[Cell(HOSTILE, HOSTILE, HOSTILE), HOSTILE]], HOSTILE)
    page = Page(html_of(table))
    assert {tag for tag, _ in page.tags} == {
        *("div", "table", "thead", "tbody", "tr", "th", "td", "button", "span")
    }
    assert page.all("div")[0]["aria-label"] == HOSTILE
    assert page.all("button")[0]["title"] == HOSTILE
    assert page.all("th")[-1]["data-value"] == HOSTILE
    assert [[cell.strip() for cell in row] for row in page.rows] == [[f"{HOSTILE} {HOSTILE}", HOSTILE]] * 2


def test_html_says_how_a_column_sorts_and_what_heads_a_row():
    columns = [
        Column("Head", "name", sorts="ascending"),
        Column("Few", unit="%", better="higher", sorts="descending", sorted=True),
        Column("Note", "words"),
    ]
    rows = [["a", Cell("1.0", 1.0, best=True), "x"], ["b", Cell("–", math.nan), "y"]]
    page = Page(html_of(Table(columns, rows)))
    first, second, third, *rest = page.all("th")
    assert (first["data-first"], "data-text" in first, first["scope"]) == ("ascending", True, "col")
    assert (second["data-first"], second["aria-sort"]) == ("descending", "descending")
    assert "data-first" not in third
    assert [heading["scope"] for heading in rest] == ["row", "row"]
    assert page.rows[0][1] == "Few % ↑"
    numbers = [cell for cell in page.all("td") if "data-value" in cell]
    assert [cell["data-value"] for cell in numbers] == ["1.0", ""]  # what is not known stays at the bottom
    assert [cell.get("class") for cell in numbers] == ["best", None]


def test_a_long_table_of_classes_scrolls_in_a_box_of_its_own():
    values = (Column("Rows", sorts="ascending"), [float(k) for k in range(40)], str)
    names = [f"class {k}" for k in range(40)]
    for shown, boxed in ((30, False), (31, True)):
        table = class_table(names, range(shown)[::-1], [values])
        assert (len(table.rows), table.boxed) == (shown, boxed)
        assert table.rows[0][0].text == f"class {shown - 1}"
        assert ('class="scroll long"' in html_of(table)) == boxed
    assert not Table(["Rows"], [["1"]] * 40).boxed


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_records_are_the_same_in_every_format(tmp_path, kind):
    path = tmp_path / f"records.{kind}"
    rows = [["a", 1, 0.1], ["=cmd", 2, math.nan]]
    write_records(path, ["name", "rows", "share"], rows, [str, int, float])
    if kind == "csv":
        with path.open(newline="", encoding="utf-8") as file:
            records = list(csv.reader(file))
        assert records == [["name", "rows", "share"], ["a", "1", "0.1"], ["'=cmd", "2", ""]]
        return
    listed = json.loads(path.read_text()) if kind == "json" else pq.read_table(path).to_pylist()
    assert [list(row.values()) for row in listed] == [["a", 1, 0.1], ["=cmd", 2, None]]
    assert list(listed[0]) == ["name", "rows", "share"]
