"""The cells of CSV and TSV: which columns are numbers or lists of them, and which line holds what it may not."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from bisector.data.tables.classes import typed_texts
from bisector.data.tables.columns import ALIASES, lines_of
from bisector.errors import missing_extra

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv
except ImportError:
    raise missing_extra("pyarrow", "measure") from None

NUMBERS = pa.float64()
LISTS = pa.list_(pa.float64())
WORDS = pa.string()

_MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "none"]  # among numbers


class LineError(ValueError):
    """Lines that cannot be read as rows."""


def parsed(
    text: bytes,
    names: Sequence[str],
    types: Mapping[str, Any],
    *,
    delimiter: str,
    width: int | None = None,
) -> Any:
    r"""The columns of some lines, as an Arrow table.

    Args:
        text: whole lines.
        names: of all columns.
        types: of those that are wanted: `NUMBERS`, `LISTS` or `WORDS`.
        delimiter: between two cells.
        width: numbers in every list.

    Raises:
        ValueError: a line holds what it may not.

    >>> parsed(b"owl,[1;2]\n".replace(b";", b" "), ["a", "b"], {"b": LISTS}, delimiter=",")["b"].to_pylist()
    [[1.0, 2.0]]
    """
    stored = {name: WORDS if kind == LISTS else kind for name, kind in types.items()}
    table = csv.read_csv(
        pa.BufferReader(text),
        read_options=csv.ReadOptions(use_threads=False, column_names=names, block_size=len(text) + 1),
        parse_options=csv.ParseOptions(delimiter=delimiter),
        convert_options=csv.ConvertOptions(
            column_types=stored, include_columns=list(types), null_values=_MISSING
        ),
    )
    if table.num_rows != len(lines_of(text)):
        raise LineError(f"{table.num_rows} rows in {len(lines_of(text))} lines")
    for place, (name, kind) in enumerate(types.items()):
        if kind == LISTS:
            table = table.set_column(place, name, _lists(table[name].combine_chunks(), width))
    return table


def cells(line: bytes, delimiter: str) -> list[str]:
    r"""What stands in the cells of one line.

    >>> cells(b'owl,"1,5",\r', ",")
    ['owl', '1,5', '']
    """
    most = line.count(delimiter.encode()) + 1
    types = dict.fromkeys((f"f{place}" for place in range(most)), pa.binary())
    row = csv.read_csv(
        pa.BufferReader(line + b"\n"),
        read_options=csv.ReadOptions(
            use_threads=False, autogenerate_column_names=True, block_size=len(line) + 2
        ),
        parse_options=csv.ParseOptions(delimiter=delimiter),
        convert_options=csv.ConvertOptions(column_types=types),
    )
    return [column[0].as_py().decode(errors="replace") for column in row.columns]


def kinds_of(table: Any) -> tuple[dict[str, Any], int | None]:
    """What each column of the first rows holds, and how many numbers the lists have.

    Numbers or lists are what most of the cells are that are not empty: one that is damaged is not the rule. A loss
    is a number.

    Args:
        table: of binary columns.

    >>> rows = {"label": [b"3", b"7"], "e": [b"[1, 2]", b""], "x0": [b"0.5", b"O.5"], "id": [b"a", b"b"]}
    >>> kinds, width = kinds_of(pa.table(rows))
    >>> [str(kind) for kind in kinds.values()], width
    (['double', 'list<item: double>', 'double', 'string'], 2)
    """
    kinds: dict[str, Any] = {}
    width = None
    for name in table.column_names:
        words = [cell.decode(errors="replace").strip() for cell in table[name].to_pylist()]
        words = [word for word in words if word not in _MISSING]
        lists = [word for word in words if word.startswith("[") and word.endswith("]")]
        if lists and 2 * len(lists) >= len(words):
            kinds[name] = LISTS
            if name not in ALIASES["scores"]:
                width = width or len(_split(lists[0]))
        elif name in ALIASES["losses"] or 2 * sum(map(_is_number, words)) >= len(words):
            kinds[name] = NUMBERS
        else:
            kinds[name] = WORDS
    return kinds, width


def labels_of(column: Any) -> Any:
    """Labels or predictions that are text, as the numbers that they are written as, if all of them are.

    See `typed_texts`: what one piece of a file takes for numbers fits what the next one takes for words.

    >>> labels_of(pa.array(["3", "", "7.0"])).to_pylist(), labels_of(pa.array(["3.0", "007"])).to_pylist()
    ([3.0, None, 7.0], ['3', '007'])
    """
    encoded = column.dictionary_encode()
    values = typed_texts(encoded.dictionary.to_pylist())
    sorts = {type(value) for value in values if value is not None}
    kind = WORDS if str in sorts else NUMBERS if float in sorts else pa.int64()
    return pa.array(values, kind).take(encoded.indices)


def first_wrong(lines: Sequence[bytes], read: Callable[[bytes], object], delimiter: str | None) -> int:
    """The position of the first line that cannot be read, where not all can; without cells no delimiter."""

    def fails(many: int) -> bool:
        try:
            read(b"\n".join(lines[:many]))
        except ValueError:
            return True
        return False

    low, high = 0, len(lines)  # so many can be read, so many cannot
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(middle) else (middle, high)
    if delimiter is None:
        return high - 1
    # A cell that is opened and not closed takes in the lines after it: the first of them is where it shows.
    return next((place for place, line in enumerate(lines[:high]) if left_open(line, delimiter)), high - 1)


def what_is_wrong(
    line: bytes, names: Sequence[str], types: Mapping[str, Any], *, delimiter: str, width: int | None
) -> str:
    """Say what a line that cannot be read has, and what is legal.

    >>> kinds = {"x0": NUMBERS, "label": WORDS}
    >>> what_is_wrong(b"O.5,owl", list(kinds), kinds, delimiter=",", width=None)
    "with 'O.5' in the column 'x0'; expected a number"
    """
    if left_open(line, delimiter):
        return "with a quotation mark that is not closed in it; expected a row a line"
    found = cells(line, delimiter)
    if len(found) != len(names):
        return (
            f"with {len(found)} cell{'s' * (len(found) != 1)}; expected {len(names)}, as there are headings"
        )
    read = partial(parsed, line, names, delimiter=delimiter, width=width)
    for name, kind in types.items():
        try:
            read({name: kind})
        except ValueError:
            told = found[list(names).index(name)]
            shown = f"with {told if len(told) < 40 else told[:36] + ' ...'!r} in the column {name!r}"
            if kind == LISTS:
                many = "" if width is None or name in ALIASES["scores"] else f" of {width} numbers"
                return f"{shown}; expected a list{many}, such as [0.5, 1.25]"
            return f"{shown}; expected {'a number' if kind == NUMBERS else 'text in UTF-8'}"
    return "which cannot be read beside the lines before it; expected a row a line"


def left_open(line: bytes, delimiter: str) -> bool:
    """Whether a cell begins with a quotation mark that does not end in its line.

    >>> left_open(b'1,"owl', ","), left_open(b'1,5" long', ",")
    (True, False)
    """
    opens = line.startswith(b'"') or delimiter.encode() + b'"' in line
    return opens and line.count(b'"') % 2 == 1


def _lists(column: Any, width: int | None) -> Any:
    """Lists of numbers from their text; those of one length, if it is given."""
    there = pc.invert(pc.is_in(column, pa.array(_MISSING)))
    words = pc.utf8_trim_whitespace(column.filter(there))
    if not pc.all(pc.and_(pc.starts_with(words, "["), pc.ends_with(words, "]"))).as_py() and len(words):
        raise LineError("no list")
    parts = _split(words)
    lengths = pc.list_value_length(parts)
    if width is not None and len(parts) and not pc.all(pc.equal(lengths, width)).as_py():
        raise LineError("lists of another length")
    numbers = parts.flatten()
    missing = pc.is_in(numbers, pa.array(_MISSING[1:]))  # between two commas there must be something
    numbers = pc.if_else(missing, pa.scalar("nan"), numbers).cast(NUMBERS)
    full = pa.ListArray.from_arrays(parts.offsets, numbers)
    places = pc.cumulative_sum(there.cast(pa.int64()))
    return full.take(pc.if_else(there, pc.subtract(places, 1), pa.scalar(None, pa.int64())))


def _split(words: Any) -> Any:
    """The numbers of lists as text: between brackets, with commas or, as numpy writes them, blanks between."""
    if isinstance(words, str):
        return _split(pa.array([words]))[0].as_py()
    bare = pc.utf8_trim(words, "[] ")  # [[0.5, 1]] is a list of one list
    if not pc.all(pc.match_substring(bare, ",")).as_py():
        bare = pc.replace_substring_regex(bare, r"\s*,\s*|\s+", ",")  # takes ten times as long as the rest
    parts = pc.split_pattern(bare, ",")
    return pa.ListArray.from_arrays(parts.offsets, pc.ascii_trim_whitespace(parts.flatten()))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
