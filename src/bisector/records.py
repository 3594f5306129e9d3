"""Dataclasses as JSON and back: NaN is null, tuples are lists, and what is read is checked against the types."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from bisector.files import read_json, reading, write_whole

Record = TypeVar("Record")


def write_record(record: Any, path: Path) -> None:
    """Write a dataclass as JSON, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(to_json(record), ensure_ascii=False, indent=1, allow_nan=False)
    write_whole(path, text + "\n")


def read_record(kind: type[Record], path: Path, complaint: str) -> Record:
    """Read a dataclass that `write_record` wrote.

    Args:
        kind: of the record.
        path: of the file.
        complaint: what is said where it holds no such record; the reason is added.

    Raises:
        DamagedFileError: the file holds no such record.
        OSError: it cannot be read.
    """
    with reading(complaint):
        found: Record = from_json(kind, read_json(path))
        return found


def to_json(value: Any) -> Any:
    """Return a dataclass, or what is in one, as values that JSON has; a class may say how by its own `to_dict`.

    >>> to_json((1, math.nan, {"a": (True, None)}))
    [1, None, {'a': [True, None]}]
    """
    if is_dataclass(value) and not isinstance(value, type):
        return value.to_dict() if hasattr(value, "to_dict") else fields_to_json(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def fields_to_json(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as values that JSON has."""
    return {one.name: to_json(getattr(record, one.name)) for one in fields(record)}


def from_json(hint: Any, value: Any, name: str = "the record") -> Any:
    """Return the value of a type that `to_json` turned into this; a class may say how by its own `from_dict`.

    Fields that are missing have their defaults, and what is no field is passed over.

    Args:
        hint: the type.
        value: from JSON.
        name: of the value, for the error.

    Raises:
        TypeError: the value is not of the type.
        KeyError: a field without a default is missing.

    >>> from_json(tuple[float, ...], [1.5, None])
    (1.5, nan)
    >>> from_json(dict[str, int], {"a": "b"}, "counts")
    Traceback (most recent call last):
    TypeError: counts: 'b' is no int
    """
    kind, inner = get_origin(hint) or hint, get_args(hint)
    found = value
    if kind in (Union, UnionType):
        found = _one_of(inner, value, name)
    elif is_dataclass(kind):
        read: Callable[[Any], Any] = getattr(kind, "from_dict", partial(fields_from_json, kind))
        found = read(value)
    elif kind is float and value is None:
        found = math.nan
    elif kind in (list, tuple) and isinstance(value, list):
        kinds = [inner[0]] * len(value) if kind is list or inner[1:] == (...,) else inner
        found = kind(from_json(one, item, name) for one, item in zip(kinds, value, strict=True))
    elif kind is dict and isinstance(value, dict):
        found = {
            from_json(inner[0], key, name): from_json(inner[1], item, name) for key, item in value.items()
        }
    elif not _fits(kind, inner, value):
        raise TypeError(f"{name}: {value!r:.60} is no {getattr(hint, '__name__', hint)}")
    return found


def _fits(kind: Any, inner: tuple[Any, ...], value: Any) -> bool:
    if kind is Any:
        return True
    if kind is Literal:
        return value in inner
    legal = (int, float) if kind is float else kind
    return isinstance(value, legal) and (kind is bool or not isinstance(value, bool))


def fields_from_json(kind: Any, content: Any) -> Any:
    """Return the dataclass whose fields are these; raises as `from_json`."""
    if not isinstance(content, dict):
        raise TypeError(f"{content!r:.60} is no {kind.__name__}")
    hints, given = _hints(kind), {}
    for one in fields(kind):
        if one.name in content:
            given[one.name] = from_json(hints[one.name], content[one.name], one.name)
        elif one.default is MISSING and one.default_factory is MISSING:
            raise KeyError(one.name)
    return kind(**given)


def _one_of(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    wrong: Exception = TypeError(f"{name}: {value!r:.60} is none of {kinds}")
    for one in kinds:
        try:
            return from_json(one, value, name)
        except (TypeError, KeyError, ValueError) as error:
            wrong = error if one is not type(None) else wrong
    raise wrong


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
