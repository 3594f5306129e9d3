"""What is drawn over a picture: its annotations and the detections of each head, as SVG with sharp labels.

Places are in percent of the picture, sizes in pixels of the screen: boxes grow with the picture, labels do not.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bisector.report.detection_labels import Labels, percent_of
from bisector.report.detection_matches import LEVELS, Judged, Matches, Verdict
from bisector.report.measurement_parts import escape
from bisector.report.names import shorten

if TYPE_CHECKING:
    from bisector.data.boxes.picture import Picture

WORDS = {
    Verdict.RIGHT: "right",
    Verdict.WRONG: "wrong class",
    Verdict.TWICE: "found again",
    Verdict.NOTHING: "no object",
    Verdict.UNJUDGED: "does not count",
}
_LONGEST = 16  # letters of a label
_MOST = 60  # detections of a head in a picture


def overlay(picture: "Picture", matches: Sequence[Matches], names: Sequence[str]) -> str:
    """The SVG over a picture: annotations, then a group `r0`, `r1` ... for each run.

    A detection has the class `s0` ... of the highest of `LEVELS` that its score reaches; the name of an object is
    in `m0` ... of the lowest at which it is missed.

    Args:
        picture: with its annotations.
        matches: of each run, on this picture.
        names: of the classes, label 1 first.
    """
    size = picture.width, picture.height
    truths = "".join(
        f'<g class="truth{" crowd" * crowd}">{_rectangles(box, size)}</g>'
        for box, crowd in zip(picture.boxes.tolist(), picture.crowd.tolist(), strict=True)
    )
    groups = "".join(
        f'<g class="r{k}">{_missed(picture, one, names)}{_detections(one, size, names)}</g>'
        for k, one in enumerate(matches)
    )
    return f'<svg aria-hidden="true"><g class="truths">{truths}</g>{groups}</svg>'


def tally(one: Matches, level: float) -> str:
    """What became of the objects and the detections, in words.

    >>> tally(Matches((), (0, 1), (0.9, 0.2), (None, None)), 0.5)
    '1 of 2 found'
    """
    shown = one.shown(level)
    parts = [f"{len(one.truths) - len(one.missed(level))} of {len(one.truths)} found"]
    for verdict in (Verdict.WRONG, Verdict.TWICE, Verdict.NOTHING):
        count = sum(x.verdict is verdict for x in shown)
        parts += [f"{count} {WORDS[verdict]}"] if count else []
    return ", ".join(parts)


def _detections(one: Matches, size: tuple[int, int], names: Sequence[str]) -> str:
    shown, labels = one.judged[:_MOST], Labels(size)
    # The highest score first: its label has the best place.
    texts = [_label(labels, x, size, names[x.label - 1]) for x in shown]
    # The large ones first, so that the small ones lie above them and can be pointed at.
    by_area = sorted(shown, key=lambda x: -(x.box[2] - x.box[0]) * (x.box[3] - x.box[1]))
    return "".join([*(_box(x, size, names[x.label - 1]) for x in by_area), *reversed(texts)])


def _box(one: Judged, size: tuple[int, int], name: str) -> str:
    title = f"{name} {_score(one)}: {WORDS[one.verdict]}"
    drawn = _rectangles(_clipped(one.box, size), size)
    return f'<g class="d {_kind(one)}"><title>{escape(title)}</title>{drawn}</g>'


def _label(labels: Labels, one: Judged, size: tuple[int, int], name: str) -> str:
    text = f"{one.verdict.value} {shorten(name, _LONGEST)} {_score(one)}"
    return labels.place(_clipped(one.box, size), text, f"d {_kind(one)}")


def _kind(one: Judged) -> str:
    return f"s{max(k for k, least in enumerate(LEVELS) if one.score >= least)} {one.verdict.name.lower()}"


def _score(one: Judged) -> str:
    return f"{one.score:.2f}".removeprefix("0")


def _missed(picture: "Picture", one: Matches, names: Sequence[str]) -> str:
    known, boxes, labels = (
        picture.labels.tolist(),
        picture.boxes.tolist(),
        Labels((picture.width, picture.height)),
    )
    texts = []
    for place, score in sorted(zip(one.truths, one.found, strict=True), key=lambda x: x[1]):
        level = next((k for k, least in enumerate(LEVELS) if score < least), None)
        if level is not None:
            name = shorten(names[known[place] - 1], _LONGEST)
            texts.append(labels.place(boxes[place], name, f"missed m{level}", below=True))
    return "".join(texts)


def _rectangles(box: Sequence[float], size: tuple[int, int]) -> str:
    """Two, so that the style can draw one in another colour behind."""
    left, top, right, bottom = box
    rectangle = (
        f'<rect x="{percent_of(left, size[0])}" y="{percent_of(top, size[1])}" '
        f'width="{percent_of(right - left, size[0])}" height="{percent_of(bottom - top, size[1])}"/>'
    )
    return 2 * rectangle


def _clipped(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    left, right = (min(max(x, 0.0), float(size[0])) for x in (box[0], box[2]))
    top, bottom = (min(max(y, 0.0), float(size[1])) for y in (box[1], box[3]))
    return left, top, right, bottom
