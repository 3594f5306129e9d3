"""The pictures on a detector's page: which are shown, and what is drawn over each.

Places are in percent of the picture, sizes in pixels of the screen: boxes grow with the picture, labels do not.
"""

import base64
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from bisector.errors import ArgumentError, missing_extra
from bisector.report.detection_matches import LEVELS, Judged, Matches, Verdict
from bisector.report.words import shorten, whole

if TYPE_CHECKING:
    from bisector.data.boxes import BoxSet, Picture

WORDS = {
    Verdict.RIGHT: "right",
    Verdict.WRONG: "wrong class",
    Verdict.TWICE: "found again",
    Verdict.NOTHING: "no object",
    Verdict.UNJUDGED: "does not count",
}

_BYTES = 1_500_000  # of all pictures
_TRIES = 3  # pictures that cannot be read before none is shown
_CROWDED = 12  # objects; more in one picture cannot be told apart
_LETTERS = 16  # of a label
_MOST = 60  # detections of a head in a picture
_TALLEST = 19.0  # rem of 16 pixels: a tall picture is narrower than its column
_SIDE = 520  # pixels of the longer side: what a column of the page shows, and something for sharp screens
_STEPS = ((1.0, 88), (1.0, 75), (1.0, 60), (0.6, 70), (0.6, 45), (0.35, 45))  # size and quality, falling
_COLUMN = 350.0  # pixels of the screen that a column is about wide
_LETTER, _HEIGHT = 6.8, 13.0  # of a label, in pixels of the screen
_OVERLAP = 0.15  # share of the smaller label that may be covered

Box = Sequence[float]
"""The corners: left, top, right, bottom."""

Rectangle = tuple[str, str, str, str]
"""Left, top, width and height, in percent of the picture."""

Choices = Iterator[tuple[int, str]]
"""Positions of pictures, and why each was chosen."""


class Label(NamedTuple):
    """A text beside a box: where it is anchored in the picture, and its shift in pixels of the screen."""

    kind: str
    text: str
    x: str
    y: str
    dx: int
    dy: int
    end: bool  # whether the text ends at the anchor


class Layer(NamedTuple):
    """What one head found in a picture."""

    missed: list[Label]
    boxes: list[tuple[str, str, Rectangle]]  # the kind, what it says where it is pointed at, the box
    labels: list[Label]
    tallies: list[str]  # of each of `LEVELS`


class Drawing(NamedTuple):
    """A picture with its annotations and the detections of each head."""

    picture: "Picture"
    why: str  # it was chosen
    uri: str
    alternative: str
    widest: float  # rem
    truths: list[tuple[bool, Rectangle]]  # whether it is a crowd, and the box
    layers: list[Layer]


def draw(
    truth: "BoxSet", runs: Sequence[Sequence[Matches]], counts: Sequence[float], level: float, pictures: int
) -> tuple[list[Drawing], list[str]]:
    """Pictures with their annotations and each head's detections, and why others could not be read."""
    drawings: list[Drawing] = []
    unread: list[str] = []
    for i, why in choose_pictures(truth, runs, counts, level) if pictures else ():
        if len(drawings) == pictures or len(unread) == _TRIES:
            break
        try:
            image = truth.image(i)
        except (ArgumentError, OSError) as error:
            unread.append(str(error))
            continue
        picture = truth.pictures[i]
        objects = Counter(truth.class_names[label - 1] for label in picture.labels.tolist())
        annotated = ", ".join(f"{n} {name}" for name, n in objects.items()) or "nothing"
        boxes = zip(picture.crowd.tolist(), picture.boxes.tolist(), strict=True)
        drawing = Drawing(
            picture,
            why,
            _data_uri(image, _BYTES // pictures),
            alternative=f"{picture.file}, annotated: {annotated}",
            widest=_TALLEST * picture.width / picture.height,
            truths=[(crowd, _rectangle(box, picture)) for crowd, box in boxes],
            layers=[_layer(picture, run[i], truth.class_names) for run in runs],
        )
        drawings.append(drawing)
    return drawings, unread


def choose_pictures(
    truth: "BoxSet", matches: Sequence[Sequence[Matches]], counts: Sequence[float], level: float
) -> Choices:
    """Positions of pictures and why each was chosen, the first ones first, no picture twice.

    Three lists take turns: pictures with the rarest classes, a class at a time; those where the heads differ
    most in what they find, or of a single head those with most mistakes; and pictures that are spread evenly
    over the data set, chosen for nothing that is in them.
    """
    size = len(truth.pictures)
    # Far from those before: the fractions of the golden ratio.
    spread = ((int((0.5 + k * 0.6180339887498949) % 1 * size), "chosen blindly") for k in range(20 * size))
    done = set()
    for turn in zip_longest(_rare(truth, counts), _telling(truth, matches, level), dict.fromkeys(spread)):
        for choice in turn:
            if choice is not None and choice[0] not in done:
                done.add(choice[0])
                yield choice


def _rare(truth: "BoxSet", counts: Sequence[float]) -> Choices:
    """The classes from the rarest on, those never trained on last; of each the picture with the fewest objects."""
    of_class: dict[int, list[int]] = {}
    for i, picture in enumerate(truth.pictures):
        for label in set(picture.labels[~picture.crowd].tolist()):
            of_class.setdefault(label, []).append(i)
    trained = {label: counts[label - 1] for label in of_class}
    if not any(map(math.isfinite, trained.values())) or len(set(trained.values())) < 2:
        return
    for label in sorted(of_class, key=lambda label: (trained[label] == 0, trained[label], label)):
        best = min(of_class[label], key=lambda i: (len(truth.pictures[i].labels), i))
        boxes = f"{whole(trained[label])} training box{'es' * (trained[label] != 1)}"
        yield best, f"has {truth.class_names[label - 1]}: {boxes}"


def _telling(truth: "BoxSet", matches: Sequence[Sequence[Matches]], level: float) -> Choices:
    def differ(i: int) -> float:
        missed: list[set[int]] = [set(run[i].missed(level)) for run in matches]
        some = missed[0].union(*missed) - missed[0].intersection(*missed)
        return len(some) / math.sqrt(max(len(matches[0][i].truths), 1))

    def mistakes(i: int) -> float:
        one = matches[0][i]
        false = sum(x.verdict not in (Verdict.RIGHT, Verdict.UNJUDGED) for x in one.shown(level))
        return (len(one.missed(level)) + false) / math.sqrt(len(one.truths) + 1)

    value, why = (differ, "the heads differ") if len(matches) > 1 else (mistakes, "many mistakes")
    few = (i for i, picture in enumerate(truth.pictures) if len(picture.labels) <= _CROWDED)
    values = {i: value(i) for i in few}
    for i in sorted(values, key=lambda i: (-values[i], i)):
        if values[i] > 0:
            yield i, why


def _data_uri(image: Tensor, most: int) -> str:
    """A JPEG of an RGB picture (3, H, W) as a data URI, coarser until it has `most` bytes, or is the coarsest."""
    try:
        from PIL import Image
    except ImportError:
        raise missing_extra("pillow", "train") from None
    picture = Image.fromarray(image.cpu().permute(1, 2, 0).contiguous().numpy())
    text = ""
    for share, quality in _STEPS:
        small = picture.copy()
        small.thumbnail((round(share * _SIDE), round(share * _SIDE)))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=quality, optimize=True)
        text = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        if len(text) <= most:
            break
    return text


def tally(one: Matches, level: float) -> str:
    """What became of the objects and the detections, in words.

    >>> tally(Matches((), (0, 1), (0.9, 0.2), (None, None)), 0.5)
    '1 of 2 found'
    """
    shown = Counter(found.verdict for found in one.shown(level))
    parts = [f"{len(one.truths) - len(one.missed(level))} of {len(one.truths)} found"]
    mistakes = (Verdict.WRONG, Verdict.TWICE, Verdict.NOTHING)
    return ", ".join(parts + [f"{shown[verdict]} {WORDS[verdict]}" for verdict in mistakes if shown[verdict]])


def _layer(picture: "Picture", one: Matches, names: Sequence[str]) -> Layer:
    """What a head found and missed.

    A detection has the kind `s0` ... of the highest of `LEVELS` that its score reaches; the name of an object is of
    the kind `m0` ... of the lowest at which it is missed.
    """

    def kind(found: Judged) -> str:
        return f"s{sum(found.score >= least for least in LEVELS) - 1} {found.verdict.name.lower()}"

    def score(found: Judged) -> str:
        return f"{found.score:.2f}".removeprefix("0")

    size = picture.width, picture.height
    known, truths = picture.labels.tolist(), picture.boxes.tolist()
    missed, labels = Labels(size), Labels(size)
    for place, best in sorted(zip(one.truths, one.found, strict=True), key=lambda x: x[1]):
        if best < LEVELS[-1]:
            text, level = shorten(names[known[place] - 1], _LETTERS), sum(best >= least for least in LEVELS)
            missed.place(truths[place], text, f"missed m{level}", below=True)
    shown = [(found, _clipped(found.box, size)) for found in one.judged[:_MOST]]
    # The highest score first: its label has the best place.
    for found, box in shown:
        text = f"{found.verdict.value} {shorten(names[found.label - 1], _LETTERS)} {score(found)}"
        labels.place(box, text, f"d {kind(found)}")
    # The large ones first, so that the small ones lie above them and can be pointed at.
    shown.sort(key=lambda x: -(x[0].box[2] - x[0].box[0]) * (x[0].box[3] - x[0].box[1]))
    boxes = [
        (
            kind(found),
            f"{names[found.label - 1]} {score(found)}: {WORDS[found.verdict]}",
            _rectangle(box, picture),
        )
        for found, box in shown
    ]
    return Layer(missed.placed, boxes, labels.placed[::-1], [tally(one, level) for level in LEVELS])


def _rectangle(box: Box, picture: "Picture") -> Rectangle:
    left, top, right, bottom = box
    x, width = (percent_of(value, picture.width) for value in (left, right - left))
    y, height = (percent_of(value, picture.height) for value in (top, bottom - top))
    return x, y, width, height


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    return [min(max(x, 0.0), float(most)) for x, most in zip(box, size * 2, strict=True)]


class Labels:
    """The labels of one layer of a picture: each is placed where none lies on another, or left out.

    Args:
        size: width and height of the picture, in its own pixels.

    >>> labels = Labels((300, 200))
    >>> for _ in range(5):
    ...     labels.place((30, 100, 60, 150), "cat", "right")
    >>> labels.placed[0], len(labels.placed)
    (Label(kind='right', text='cat', x='10%', y='50%', dx=2, dy=-4, end=False), 4)
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.placed: list[Label] = []
        self._taken: list[Box] = []
        self._width = min(_COLUMN, 16 * _TALLEST * size[0] / size[1])  # as it is shown
        self._scale = self._width / size[0]
        self._height = self._scale * size[1]

    def place(self, box: Box, text: str, kind: str, *, below: bool = False) -> None:
        """Add the label of a box, unless all its places are taken."""
        left, top, right, bottom = (self._scale * side for side in box)
        width = _LETTER * len(text) + 4
        # Shift of the baseline from the upper edge, or from the lower one.
        places = [*([] if below else [(top, -4), (top, 12)]), (bottom, -4), (bottom, 11)]
        sides = [(left, False)] * (left + width <= self._width + 2) + [(right, True)] * (right - width >= -2)
        for (at, shift), (edge, end) in product(places, sides or [(0.0, False)]):
            base, start = at + shift, edge - width * end
            area = (start, base - _HEIGHT + 3, start + width, base + 3)
            fits = area[1] >= -2 and area[3] <= self._height + 2
            if fits and all(_covered(area, other) <= _OVERLAP for other in self._taken):
                self._taken.append(area)
                x, y = percent_of(edge, self._width), percent_of(at, self._height)
                self.placed.append(Label(kind, text, x, y, -2 if end else 2, shift, end))
                return


def percent_of(value: float, whole: float) -> str:
    """A place in a picture.

    >>> percent_of(30, 240), percent_of(0, 240)
    ('12.5%', '0%')
    """
    return f"{100 * value / whole:.2f}".rstrip("0").rstrip(".") + "%"


def _covered(area: Box, other: Box) -> float:
    """The share of the smaller one that lies in the other."""
    wide = min(area[2], other[2]) - max(area[0], other[0])
    high = min(area[3], other[3]) - max(area[1], other[1])
    smaller = min((r[2] - r[0]) * (r[3] - r[1]) for r in (area, other))
    return max(wide, 0.0) * max(high, 0.0) / smaller
