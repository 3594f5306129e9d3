"""The rows of JSON Lines, an object a line: which keys are numbers, words or vectors, and which line is wrong."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bisector.data.tables.columns import ALIASES, lines_of
from bisector.data.tables.delimited import LISTS, NUMBERS, WORDS, LineError
from bisector.errors import missing_extra

try:
    import pyarrow as pa
    from pyarrow import json as arrow_json
except ImportError:
    raise missing_extra("pyarrow", "measure") from None

_NESTED = pa.list_(LISTS)  # a vector as a list of one list
_LEGAL = {
    NUMBERS: "a number",
    pa.int64(): "a whole number",
    pa.bool_(): "true or false",
    WORDS: "text",
    pa.list_(WORDS): "a list of texts",
}


def objects_of(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The objects that lines hold; a line that holds none is passed over.

    >>> objects_of([b'{"label": "owl"}', b'[1]', b'{'])
    [{'label': 'owl'}]
    """
    found = (_object(line) for line in lines)
    return [one for one in found if one is not None]


def kinds_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What each key of the first rows holds, as Arrow types, in the order in which the keys occur.

    A kind is what most of the values are: one that is damaged is not the rule. Keys of
    objects are no columns.

    >>> [str(kind) for kind in kinds_of([{"label": "owl", "x": [0.5, 1], "id": 3, "meta": {}}]).values()]
    ['string', 'list<item: double>', 'int64']
    """
    kinds: dict[str, Any] = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        held = [_kind(name, row[name]) for row in rows if row.get(name) is not None]
        if not held:
            kinds[name] = NUMBERS
            continue
        kind = max(dict.fromkeys(held), key=held.count)
        if kind is not None:
            kinds[name] = kind
    return kinds


def parsed(text: bytes, types: Mapping[str, Any]) -> Any:
    r"""The values of some keys in lines of JSON, as an Arrow table.

    Args:
        text: whole lines.
        types: of the keys that are wanted.

    Raises:
        ValueError: a line holds what it may not.

    >>> parsed(b'{"y": 1, "more": "x"}\n\n{"y": null}\n', {"y": NUMBERS})["y"].to_pylist()
    [1.0, None]
    """
    rows = lines_of(text, blank=None)
    table = arrow_json.read_json(
        pa.BufferReader(text),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1),
        parse_options=arrow_json.ParseOptions(
            explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"
        ),
    )
    if table.num_rows != len(rows):
        raise LineError(f"{table.num_rows} rows in {len(rows)} lines")
    return table.select(list(types))


def what_is_wrong(line: bytes, types: Mapping[str, Any]) -> str:
    """Say what a line that cannot be read has, and what is legal.

    >>> what_is_wrong(b'{"loss": "much"}', {"loss": NUMBERS})
    "with 'much' as 'loss'; expected a number, as in the rows before"
    """
    found = _object(line)
    if found is None:
        shown = line[:40].decode(errors="replace").strip()
        return f"with {shown!r}; expected a JSON object a line"
    for name, kind in types.items():
        try:
            parsed(line, {name: kind})
        except ValueError:
            told = repr(found.get(name))
            legal = _LEGAL.get(kind, "a list of numbers")
            shown = told if len(told) < 40 else told[:36] + " ..."
            return f"with {shown} as {name!r}; expected {legal}, as in the rows before"
    return "which cannot be read beside the lines before it; expected a JSON object a line"


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _kind(name: str, value: Any) -> Any:
    """The Arrow type of a value; None where it is nothing that a column holds."""
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int | float):
        # A name that is a number is a whole one, and must not get a point.
        return pa.int64() if name in ALIASES["names"] and isinstance(value, int) else NUMBERS
    if isinstance(value, str):
        return WORDS
    if not isinstance(value, list):
        return None
    inner = {_kind("", one) for one in value if one is not None}
    of_lists = {(NUMBERS,): LISTS, (LISTS,): _NESTED, (WORDS,): pa.list_(WORDS), (): LISTS}
    return of_lists.get(tuple(inner)) if len(inner) <= 1 else None
