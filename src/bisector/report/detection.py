"""A detector, or several with different heads, as one self-contained HTML page with pictures to look at."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from bisector.detection.evaluation.scores import BOX_GROUPS, BOX_METRICS, FREQUENCIES
from bisector.errors import require, require_integer
from bisector.metrics.summary import MetricInfo
from bisector.report.detection_figures import count_figures
from bisector.report.detection_matches import (
    LEVELS,
    OVERLAP,
    Matches,
    Verdict,
    best_level,
    class_outcomes,
    match_all,
)
from bisector.report.detection_pictures import WORDS, draw
from bisector.report.detection_run import (
    DetectionRun,
    by_head,
    class_ap,
    class_groups,
    same_data,
    shown_scores,
    training_boxes,
)
from bisector.report.names import head_label, shorten
from bisector.report.numbers import count, number, percent, whole
from bisector.report.page import render
from bisector.report.summary import (
    SummaryRow,
    Tile,
    about_heads,
    summary_table,
    tiles,
)
from bisector.report.table import Column, Order, Show, Table, Values, class_table, name_width

if TYPE_CHECKING:
    from bisector.data.boxes import BoxSet

_LONGEST = 200  # letters of a class's name
_MOST_CLASSES = 2000  # in the table; of more, those with most test boxes
_HARDEST = 12  # classes
_OTHERS = 3  # classes that one is taken for
_COMPOSED = (
    "The pictures are composed: objects were pasted on photographs. Scores on them say how heads compare, not how "
    "good a detector is on photographs as they are taken."
)
_GIVEN = "Balanced accuracy of the class alone, where the annotated boxes are given."
_INFOS = (*BOX_METRICS, MetricInfo("given", "On given boxes", "%", "higher", _GIVEN))


def render_detection_page(
    runs: Sequence[DetectionRun],
    truth: "BoxSet",
    *,
    title: str,
    command: str = "",
    notes: Sequence[str] = (),
    pictures: int = 12,
) -> str:
    """Scores, classes, pictures and confusions as one HTML page that works offline and from `file://`.

    Args:
        runs: the trainings; those of one name are seeds of one head. Pictures and confusions are of its first.
        truth: the pictures that the runs were scored on. `truth.composed`, where it is true, is said on the page.
        title: plain text, as all that follows.
        command: what was typed, where there is something to repeat.
        notes: for people, a line each.
        pictures: how many are drawn, at most.

    Raises:
        ArgumentError: there is no run, or one was not scored on the classes of `truth`.
        MissingExtraError: torchvision or Pillow is not installed.
    """
    require(bool(runs), "runs", "none", "at least one run")
    require_integer("pictures", pictures, least=0)
    expected = f"the {len(truth.class_names)} classes of {truth.name}"
    for run in runs:
        fits = tuple(run.scores.class_names) == tuple(truth.class_names)
        require(fits, "runs", f"{run.name} with other classes", expected)
    truth, runs = _with_short_names(truth, runs)
    heads, alike = by_head(runs), same_data(runs)
    matches = {head: match_all(truth, own[0].detections) for head, own in heads.items()}
    level = best_level(list(matches.values()))
    drawings, unread = draw(truth, list(matches.values()), training_boxes(alike), level, pictures)
    verdicts = {one.verdict for run in matches.values() for found in run for one in found.judged}
    rows, seeds = _score_rows(heads), max(map(len, heads.values()))
    figures = count_figures(runs)
    return render(
        "detection.html",
        title=title,
        facts=[
            truth.name,
            count(len(truth.pictures), "test picture"),
            f"{int(truth.counts.sum()):,} boxes",
            count(len(truth.class_names), "class"),
            *([count(seeds, "seed")] if seeds > 1 else []),
        ],
        command=command,
        notes=[
            *[_COMPOSED] * bool(getattr(truth, "composed", False)),
            *notes,
            *dict.fromkeys(note for run in runs for note in run.scores.notes),
        ],
        tiles=_tiles(rows),
        figures=figures,
        truth=truth,
        heads=[head_label(head) for head in heads],
        seeds=seeds,
        first_seed=len(runs) > len(heads),
        summary=summary_table(rows, _known_metrics(rows)),
        about=about_heads(rows),
        drawings=drawings,
        unread=unread,
        signs=[(verdict, WORDS[verdict]) for verdict in Verdict if verdict in verdicts],
        levels=LEVELS,
        level=level,
        seeds_differ=len(alike) < len(runs),
        grouped=any(any(class_groups([run])) for run in runs),
        untrained=any(0 in training_boxes([run]) for run in runs),
        overlap=OVERLAP,
        hardest=_hardest(truth, runs, matches, level),
        by_count=any(boxes > 0 for boxes in training_boxes(alike)),
        of_seed=runs[0].seed,
        untested=0 in runs[0].scores.class_boxes,
        classes=_classes(alike),
    )


def _with_short_names(truth: "BoxSet", runs: Sequence[DetectionRun]) -> tuple["BoxSet", list[DetectionRun]]:
    """Shorten long names of classes, which are on the page many times."""
    names = tuple(shorten(name, _LONGEST) if len(name) > _LONGEST else name for name in truth.class_names)
    other = copy(truth)
    other.class_names = names
    return other, [replace(run, scores=replace(run.scores, class_names=names)) for run in runs]


def _score_rows(heads: Mapping[str, Sequence[DetectionRun]]) -> list[SummaryRow]:
    def values(run: DetectionRun) -> dict[str, float]:
        given = math.nan if run.classified is None else run.classified.balanced_accuracy
        return {**shown_scores(run.scores).values(), "given": given}

    keys = [info.key for info in _INFOS]
    return [SummaryRow.of(head, {run.seed: values(run) for run in own}, keys) for head, own in heads.items()]


def _known_metrics(rows: Sequence[SummaryRow]) -> list[MetricInfo]:
    """The metrics that some head has; COCO-LT's groups only where LVIS's do not divide the classes."""
    known = {info.key for info in _INFOS if any(math.isfinite(row.mean[info.key]) for row in rows)}
    frequencies, sizes = ({f"ap_{name}" for name in names} for names in (FREQUENCIES, BOX_GROUPS))
    # A group that holds every class says what AP says.
    for groups in (frequencies, sizes):
        if len(groups & known) < 2:
            known -= groups
    known -= sizes if known & frequencies else set()
    return [info for info in _INFOS if info.key in known]


def _tiles(rows: Sequence[SummaryRow]) -> list[Tile]:
    """Choose the numbers at the top of the page."""
    # Of several heads not the lowest bias: one that finds nothing has that too.
    keys = ("ap", "ap50", "ap_rare", "ap_frequent", *["bias"] * (len(rows) == 1))
    return tiles(rows, {info: f"Highest {info.label}" for info in _known_metrics(rows) if info.key in keys})


def _hardest(
    truth: "BoxSet", runs: Sequence[DetectionRun], matches: Mapping[str, Sequence[Matches]], level: float
) -> Table:
    """The classes with the lowest AP: how many of their objects each head finds, and what it takes the rest for."""
    scores, ap = runs[0].scores, class_ap(same_data(runs))
    known = [c for c, value in enumerate(ap) if math.isfinite(value)]
    hard = sorted(known, key=lambda c: (ap[c], -scores.class_boxes[c]))[:_HARDEST]
    outcomes = [class_outcomes(truth, found, level) for found in matches.values()]
    headings = ["Found"] if len(matches) == 1 else map(head_label, matches)
    name = Column("Class", "words", width=name_width(scores.class_names[c] for c in hard))
    rows = (
        [
            scores.class_names[c],
            percent(ap[c]),
            *(_outcome(c + 1, found.get(c + 1, Counter()), scores.class_names) for found in outcomes),
        ]
        for c in hard
    )
    return Table([name, "AP", *(Column(h, "words", width=9) for h in headings)], rows, "Hardest classes")


def _outcome(label: int, counts: Counter[int], names: Sequence[str]) -> str:
    """As in "3 of 12; wolf 5, fox 1, nothing 3"."""
    others = sorted((-n, other) for other, n in counts.items() if other not in (0, label))
    parts = [f"{names[other - 1]} {-n:,}" for n, other in others[:_OTHERS]]
    rest = -sum(n for n, _ in others[_OTHERS:])
    parts += [f"others {rest:,}"] if rest else []
    parts += [f"nothing {counts[0]:,}"] if counts[0] else []
    found = f"{counts[label]:,} of {counts.total():,}"
    return f"{found}; {', '.join(parts)}" if parts else found


def _classes(runs: Sequence[DetectionRun]) -> Table:
    """Every class with its boxes and its AP by head, those with the fewest training boxes first; a click sorts."""
    scores, groups, heads, trained = runs[0].scores, class_groups(runs), by_head(runs), training_boxes(runs)
    shown: list[Values] = []

    def add(label: str, values: Sequence[float], show: Show, first: Order = "ascending") -> None:
        shown.append((Column(label, first=first), values, show))

    if any(groups):
        shown.append((Column("Group", "words", first="ascending", width=0), groups, str))
    if any(map(math.isfinite, trained)):
        add("Training boxes", trained, whole)
    add("Test boxes", scores.class_boxes, whole)
    if len(heads) > 1:
        for head, own in heads.items():
            add(f"{head_label(head)}, AP", class_ap(own), percent)
    else:
        # Amounts are those of one network: with several heads there is no amount of a class.
        if scores.class_amounts is not None and len(runs) == 1:
            add("Amount, bits", scores.class_amounts, number, "descending")
        add("AP", class_ap(runs), percent)
        add("AP50", class_ap(runs, "class_ap50"), percent)
    fewest = [n if math.isfinite(n) else 0.0 for n in trained]
    order = sorted(range(len(trained)), key=lambda c: (not scores.class_boxes[c], fewest[c], c))
    return class_table(scores.class_names, order[:_MOST_CLASSES], shown)
