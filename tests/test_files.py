import csv
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bisector.data.class_values import read_class_values
from bisector.errors import ArgumentError, require, require_choice
from bisector.files import harmless, original, read_rows, write_rows
from bisector.measurement.class_scores import read_class_scores

FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\u3000＝1",
    "＝1",
    "＋1",
    "－1",
    "＠1",
    "owl;=1",
    "owl\t@1",
]
NAMES = [
    *FORMULAS,
    *(f"'{name}" for name in FORMULAS),
    "''=x",
    "'tis",
    "owl",
    "-0.5",
    "+3",
    "1e-5",
    "",
    " ",
    "'",
]
TEXT = st.text(alphabet=st.sampled_from("'=+-@\t\r\n ;,\"＝＠a0.é"), max_size=8) | st.text(max_size=8)


@given(TEXT)
@example("'")
def test_names_are_read_back_unchanged(name: str) -> None:
    assert original(harmless(name)) == name


@given(TEXT)
def test_no_cell_begins_as_a_formula(name: str) -> None:
    written = harmless(name)
    if not re.fullmatch(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?", written):
        cells = re.split(r"[;\t\r\n]", written)
        assert not any(re.match(r"\s*[=+\-@＝＋－＠]", cell) for cell in cells)


def test_numbers_and_harmless_names_are_written_as_they_are(tmp_path: Path) -> None:
    rows = [["owl", -0.5, "-0.5", "+1e3", -3, "'tis", "a-b", "", None, True]]
    write_rows(tmp_path / "a.csv", rows)
    assert (tmp_path / "a.csv").read_text() == "owl,-0.5,-0.5,+1e3,-3,'tis,a-b,,,True\n"


def test_whoever_reads_our_tables_finds_the_names_that_were_written(tmp_path: Path) -> None:
    file, names = tmp_path / "classes.csv", list(dict.fromkeys(NAMES))
    write_rows(file, [["class", "count", "=AP"], *([name, 2 + n, -n / 2] for n, name in enumerate(names))])
    with file.open(newline="") as opened:
        cells = [cell for row in csv.reader(opened) for cell in row]
    assert not set(FORMULAS) & set(cells)

    headings, rows = read_rows(file)
    assert headings == ["class", "count", "=AP"]
    assert [row["class"] for row in rows] == names
    counts = read_class_values(file, names[::-1], ["count"])
    assert counts.tolist() == [2 + n for n in range(len(names))][::-1]
    (score,) = read_class_scores(file, names)
    assert (score.name, score.values) == ("=AP", [-n / 2 for n in range(len(names))])


@pytest.mark.parametrize("name", ["x" * 5000, " ".join(["long"] * 1000), "," * 5000])
def test_long_names_are_cut_in_messages(name: str) -> None:
    for complain in (
        lambda: require(False, "head", repr(name), "one of the heads"),
        lambda: require_choice("head", name, ["one of the heads"]),
    ):
        with pytest.raises(ArgumentError) as told:
            complain()
        message = str(told.value)
        assert message.startswith(f"head: got '{name[:100]}")
        assert message.endswith("one of the heads")
        assert len(message) < 1600
