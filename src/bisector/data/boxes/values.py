"""What a field of a COCO or VOC file says: ids, numbers and flags, however a program wrote them."""

import math
from numbers import Integral

FLAGS = "0, 1, true or false"

_WORDS = {"true": True, "false": False, "": False, "none": False, "null": False, "unspecified": False}


def integer_id(value: object) -> int | None:
    """An integer of 63 bits, also one written as a float or in digits; else None.

    >>> integer_id("18"), integer_id(18.0), integer_id("a18"), integer_id(True)
    (18, 18, None, None)
    """
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19
    if digits or (isinstance(value, float) and value.is_integer()):
        value = int(value)  # type: ignore[call-overload]  # one of these it is
    whole = isinstance(value, Integral) and not isinstance(value, bool) and abs(int(value)) < 2**62
    return int(value) if whole else None  # type: ignore[call-overload]


def image_id(value: object) -> int | str | None:
    """The id of an image: an integer however it is written, else any text; else None.

    >>> image_id("0012"), image_id("a12"), image_id(None)
    (12, 'a12', None)
    """
    number = integer_id(value)
    return value if number is None and isinstance(value, str) and value else number


def flag(value: object) -> bool | None:
    """Whether a flag such as `iscrowd` is set: any whole number but 0, or a word; None where it says neither.

    Numbers are read as pycocotools reads them. What is not there, or empty, is not set.

    >>> [flag(value) for value in (1, "1", 2, "True", 0.0, None, "maybe", 0.5, -1)]
    [True, True, True, True, False, False, None, None, None]
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and (word := value.strip().lower()) in _WORDS:
        return _WORDS[word]
    found = number(value)
    return found != 0 if found >= 0 and found.is_integer() else None


def number(value: object) -> float:
    """A number, which may be written as text; NaN where it is none or beyond sense.

    >>> number("2.5"), number(10**400), number([3])
    (2.5, nan, nan)
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return math.nan
    return float(value) if isinstance(value, int | float) and abs(value) < 2**31 else math.nan
