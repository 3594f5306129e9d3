import csv
import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from bisector.data.tables.class_values import read_class_values
from bisector.errors import ArgumentError, DamagedFileError, require, require_choice
from bisector.files import harmless, original, read_rows, reading, write_rows, write_whole
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


WRITER = """
import sys
from pathlib import Path
from bisector.files import whole_file
with whole_file(Path(sys.argv[1])) as file:
    print("writing", flush=True)
    file.write(sys.stdin.readline().encode())
"""


def writer(path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_what_a_killed_writer_left_goes_with_the_next_write_and_a_living_one_is_let_be(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a [1].txt"
    with writer(path) as killed, writer(path) as living:
        killed.kill()
        killed.wait()
        (left,) = tmp_path.glob(f".*-{killed.pid}-*")
        elsewhere = tmp_path / f".{path.name}.00000000-1-12345678"
        other = tmp_path / f".{path.name}.mine"
        for file in (elsewhere, other):  # of another machine, and of nobody
            file.write_text("stays")
        write_whole(path, "new")
        assert not left.exists()
        assert path.read_text() == "new"
        living.communicate("newest\n")
        assert living.returncode == 0
    assert path.read_text() == "newest\n"
    assert {file.name for file in tmp_path.iterdir()} == {path.name, elsewhere.name, other.name}


FULL = """
import resource, sys
from pathlib import Path
import torch
from bisector.files import whole_file, write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # the system refuses more, as a full disk does
path = Path(sys.argv[1])
for write in (lambda file: torch.save(torch.ones(100_000), file), lambda file: file.write(bytes(200_000))):
    try:
        with whole_file(path) as file:
            write(file)
    except OSError as error:
        print(type(error).__name__, error.errno, error.filename)
"""


@pytest.mark.slow
def test_a_full_disk_is_an_oserror_that_names_the_file_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"OSError {errno.EFBIG} {path}\n" * 2
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        OSError(errno.EMFILE, "Too many open files"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_machine_that_fails_is_no_damaged_file(error: Exception) -> None:
    with (
        pytest.raises(OSError, match=r"'out: got a\.ckpt; expected a checkpoint'"),
        reading("of all"),
        reading("out: got a.ckpt; expected a checkpoint"),
    ):
        raise error


@pytest.mark.parametrize(
    "error", [OSError(errno.EINVAL, "Invalid argument"), OSError("no PNG"), KeyError("a")]
)
def test_whatever_else_goes_wrong_is(error: Exception) -> None:
    with pytest.raises(DamagedFileError, match=r"out: got a\.ckpt"), reading("out: got a.ckpt; expected one"):
        raise error
