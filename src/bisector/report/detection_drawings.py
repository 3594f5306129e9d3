"""The pictures on a detector's page, with buttons for whose detections are drawn and from which score on.

Buttons are radio inputs that the page's style looks at: nothing here needs a script.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from bisector.errors import ArgumentError
from bisector.report.detection_choice import choose_pictures
from bisector.report.detection_labels import TALLEST
from bisector.report.detection_matches import LEVELS, Matches, Verdict
from bisector.report.detection_overlay import WORDS, overlay, tally
from bisector.report.detection_pixels import data_uri
from bisector.report.measurement_parts import escape, section
from bisector.report.names import head_label

if TYPE_CHECKING:
    from bisector.data.boxes.box_set import BoxSet

_BYTES = 1_500_000  # of all pictures
_TRIES = 3  # pictures that cannot be read before none is shown


def drawing_section(
    truth: "BoxSet",
    matches: Mapping[str, Sequence[Matches]],
    counts: Sequence[float],
    level: float,
    pictures: int,
) -> str:
    """Pictures with their annotations and each head's detections.

    Args:
        truth: the pictures.
        matches: of each head, on every picture.
        counts: training boxes of every class.
        level: the score that is chosen at first.
        pictures: how many, at most; pictures that cannot be read are passed over, and a note says so.
    """
    runs = list(matches.values())
    drawn: list[str] = []
    unread: list[str] = []
    for i, why in choose_pictures(truth, runs, counts, level) if pictures else ():
        if len(drawn) == pictures or len(unread) == _TRIES:
            break
        try:
            image = truth.image(i)
        except (ArgumentError, OSError) as error:
            unread.append(str(error))
            continue
        uri = data_uri(image, _BYTES // pictures)
        drawn.append(_drawing(truth, i, [run[i] for run in runs], why, uri))
    lost = (
        f'<p class="note">Pictures are left out that could not be read: {escape(unread[0])}</p>'
        if unread
        else ""
    )
    if not drawn:
        return section("pictures", "Pictures", "None is shown.", lost) if lost else ""
    heads = [head_label(head) for head in matches]
    verdicts = {one.verdict for run in runs for found in run for one in found.judged}
    some = "where the heads differ" if len(heads) > 1 else "with many mistakes"
    return section(
        "pictures",
        "What is found in the pictures",
        f"Some pictures with rare classes, some {some}, some chosen blindly. {_meaning(verdicts)}",
        f"<style>{_style(len(heads))}</style>\n{_buttons(heads, level)}"
        f'<div class="drawings">{"".join(drawn)}</div>{lost}',
    )


def _drawing(truth: "BoxSet", index: int, matches: Sequence[Matches], why: str, uri: str) -> str:
    picture = truth.pictures[index]
    objects = Counter(truth.class_names[label - 1] for label in picture.labels.tolist())
    alternative = f"{picture.file}, annotated: " + (
        ", ".join(f"{n} {name}" for name, n in objects.items()) or "nothing"
    )
    widest = TALLEST * picture.width / picture.height
    tallies = "".join(
        f'<span class="tally r{k} l{j}">{tally(one, level)}</span>'
        for k, one in enumerate(matches)
        for j, level in enumerate(LEVELS)
    )
    return (
        f'<figure><div class="shot" style="max-width: {widest:.1f}rem">'
        f'<img src="{uri}" alt="{escape(alternative)}" width="{picture.width}" height="{picture.height}">'
        f"{overlay(picture, matches, truth.class_names)}</div><figcaption>{tallies}"
        f'<span class="note">{escape(picture.file)} · {escape(why)}</span></figcaption></figure>\n'
    )


def _meaning(verdicts: Collection[Verdict]) -> str:
    signs = " ".join(
        f'<span class="sign {verdict.name.lower()}">{verdict.value}\u00a0{WORDS[verdict]}</span>'
        for verdict in Verdict
        if verdict in verdicts
    )
    return (
        "Thin dashes are the annotated boxes, with the name of the class where it is missed. Detections are solid, "
        f"with class and score: {signs}."
    )


def _buttons(heads: Sequence[str], level: float) -> str:
    first = [("head", f"r{k}", label, k == 0) for k, label in enumerate(heads)]
    first.append(("head", "none", "Annotations alone", False))
    second = [("score", f"l{j}", f"{least:g}", least == level) for j, least in enumerate(LEVELS)]
    return f'<div class="choices">{_group("Detections of", first)}{_group("Score at least", second)}</div>\n'


def _group(title: str, choices: Sequence[tuple[str, str, str, bool]]) -> str:
    items = "".join(
        f'<label><input type="radio" name="{name}" id="show-{key}" autocomplete="off"{" checked" * checked}>'
        f"<span>{escape(label)}</span></label>"
        for name, key, label, checked in choices
    )
    return f"<fieldset><legend>{title}</legend>{items}</fieldset>"


def _style(heads: int) -> str:
    """The fixed part, and what each button shows and hides."""
    rules = []
    for k in range(heads):
        rules.append(f"section:has(#show-r{k}:checked) svg .r{k} {{ display: inline; }}")
        rules += [
            f"section:has(#show-r{k}:checked):has(#show-l{j}:checked) .tally.r{k}.l{j} {{ display: block; }}"
            for j in range(len(LEVELS))
        ]
    for j in range(len(LEVELS)):
        # At a level: neither detections with a lower score, nor names of objects that are missed only higher.
        hidden = [f".s{k}" for k in range(j)] + [f".m{k}" for k in range(j + 1, len(LEVELS))]
        if hidden:
            rules.append(f"section:has(#show-l{j}:checked) svg :is({', '.join(hidden)}) {{ display: none; }}")
    fixed = files("bisector.report").joinpath("templates", "detection.css").read_text(encoding="utf-8")
    return fixed + "\n".join(rules)
