"""Where labels go in a crowded picture, so that none lies on another."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

from bisector.report.measurement_parts import escape

TALLEST = 19.0
"""The height of a picture, in rem of 16 pixels: a tall one is narrower than its column."""

_WIDTH = 350.0  # pixels of the screen that a column is about wide
_LETTER, _HEIGHT = 6.8, 13.0  # of a label, in pixels of the screen
_OVERLAP = 0.15  # share of the smaller label that may be covered

Rectangle = tuple[float, float, float, float]


@dataclass
class Labels:
    """The labels of one layer of a picture: each is placed where there is room, or left out.

    Args:
        size: width and height of the picture, in its own pixels.

    >>> labels = Labels((300, 200))
    >>> labels.place((30, 100, 60, 150), "cat", "right")
    '<text class="right" x="10%" y="50%" dx="2" dy="-4">cat</text>'
    >>> [bool(labels.place((30, 100, 60, 150), "cat", "right")) for _ in range(5)]
    [True, True, True, False, False]
    """

    size: tuple[int, int]
    _taken: list[Rectangle] = field(default_factory=list)

    def place(self, box: Sequence[float], text: str, kind: str, *, below: bool = False) -> str:
        """The label of a box as SVG; empty where all its places are taken.

        Args:
            box: corners in pixels of the picture, inside it.
            text: plain.
            kind: the class of the element.
            below: whether it goes to the lower edge of its box, instead of the upper one.
        """
        shown = min(_WIDTH, 16 * TALLEST * self.size[0] / self.size[1])
        scale = shown / self.size[0]
        left, top, right, bottom = (scale * side for side in box)
        width, height = _LETTER * len(text) + 4, scale * self.size[1]
        # Shift of the baseline from the upper edge, or from the lower one.
        places = [(False, -4), (False, 11)]
        if not below:
            places = [(True, -4), (True, 12), *places]
        sides = [(left, False)] * (left + width <= shown + 2) + [(right, True)] * (right - width >= -2)
        for (upper, shift), (edge, end) in product(places, sides or [(0.0, False)]):
            base, start = (top if upper else bottom) + shift, edge - width * end
            area = (start, base - _HEIGHT + 3, start + width, base + 3)
            fits = area[1] >= -2 and area[3] <= height + 2
            if fits and all(_covered(area, other) <= _OVERLAP for other in self._taken):
                self._taken.append(area)
                x, y = percent_of(edge, shown), percent_of(top if upper else bottom, height)
                anchor = ' text-anchor="end"' if end else ""
                at = f'x="{x}" y="{y}" dx="{-2 if end else 2}" dy="{shift}"{anchor}'
                return f'<text class="{kind}" {at}>{escape(text)}</text>'
        return ""


def percent_of(value: float, whole: float) -> str:
    """A place in a picture.

    >>> percent_of(30, 240), percent_of(0, 240)
    ('12.5%', '0%')
    """
    return f"{100 * value / whole:.2f}".rstrip("0").rstrip(".") + "%"


def _covered(area: Rectangle, other: Rectangle) -> float:
    """The share of the smaller one that lies in the other."""
    wide = min(area[2], other[2]) - max(area[0], other[0])
    high = min(area[3], other[3]) - max(area[1], other[1])
    smaller = min((r[2] - r[0]) * (r[3] - r[1]) for r in (area, other))
    return max(wide, 0.0) * max(high, 0.0) / smaller
