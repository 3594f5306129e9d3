"""How numbers are written, on every page and in a terminal."""

import math


def percent(share: float) -> str:
    """A share as a percentage with one decimal; a dash for NaN.

    >>> percent(0.125), percent(float("nan"))
    ('12.5', '–')
    """
    return f"{100 * share:.1f}" if math.isfinite(share) else "–"


def significant(value: float) -> str:
    """A probability with two significant digits.

    >>> significant(0.5), significant(0.0123), significant(4e-12)
    ('0.50', '0.012', '4.0e-12')
    """
    if not math.isfinite(value):
        return "–"
    if 0 < value < 1e-4:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits}e{int(power)}"
    return f"{value:#.2g}" if value < 0.995 else f"{value:.2f}"


def number(value: float, decimals: int = 1, sign: str = "") -> str:
    """A number with the minus sign of typography; a dash for NaN.

    >>> number(-0.25, 2), number(1.04, sign="+"), number(float("nan"))
    ('−0.25', '+1.0', '–')
    """
    return f"{value:{sign}.{decimals}f}".replace("-", "−") if math.isfinite(value) else "–"


def whole(value: float) -> str:
    """A count; a dash for NaN."""
    return f"{value:,.0f}" if math.isfinite(value) else "–"


def error(value: float) -> str:
    """An error in bits; a plain 0 where it is exact, a dash where it is not known.

    >>> error(0.0), error(0.125), error(3e-7), error(float("nan"))
    ('0', '0.12', '3.0e-7', '–')
    """
    if not math.isfinite(value):
        return "–"
    if 0 < value < 0.01:
        return significant(value)
    return number(value, 2) if value else "0"


def count(amount: int, noun: str) -> str:
    """How many, as in "1 row", "2 rows", "3 classes"."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{amount:,} {noun}{plural * (amount != 1)}"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours, as a person would say it.

    >>> duration(42.3), duration(75), duration(7500)
    ('42 s', '1 min 15 s', '2 h 05 min')
    """
    rounded = round(seconds)
    if rounded < 60:
        return f"{seconds:.0f} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"
