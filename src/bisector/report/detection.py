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
from bisector.report.page import render
from bisector.report.parts import Section
from bisector.report.summary import SummaryRow, about_heads, known_metrics, summary_table, tiles
from bisector.report.table import Column, Table, Values, class_table, name_width
from bisector.report.words import count, head_label, number, percent, shorten, whole

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
    # Names are on the page many times.
    names = tuple(shorten(name, _LONGEST) if len(name) > _LONGEST else name for name in truth.class_names)
    truth = copy(truth)
    truth.class_names = names
    runs = [replace(run, scores=replace(run.scores, class_names=names)) for run in runs]
    heads = by_head(runs)
    rows, seeds = _score_rows(heads), max(map(len, heads.values()))
    infos = _shown_metrics(rows)
    # Of several heads not the lowest spread: one that finds nothing has that too.
    keys = ("ap", "ap50", "ap_rare", "ap_frequent", *["spread"] * (len(rows) == 1))
    results = Section(
        "results", "Results", summary=summary_table(rows, infos), seeds=seeds, about=about_heads(rows)
    )
    composed = [_COMPOSED] * bool(getattr(truth, "composed", False))
    return render(
        "detection.html",
        [results, *_sections(runs, truth, pictures)],
        title=title,
        facts=[
            truth.name,
            count(len(truth.pictures), "test picture"),
            f"{int(truth.counts.sum()):,} boxes",
            count(len(truth.class_names), "class"),
            *([count(seeds, "seed")] if seeds > 1 else []),
        ],
        command=command,
        notes=[*composed, *notes, *dict.fromkeys(note for run in runs for note in run.scores.notes)],
        tiles=tiles(rows, {info: f"Highest {info.label}" for info in infos if info.key in keys}),
    )


def _score_rows(heads: Mapping[str, Sequence[DetectionRun]]) -> list[SummaryRow]:
    def values(run: DetectionRun) -> dict[str, float]:
        given = math.nan if run.classified is None else run.classified.balanced_accuracy
        return {**shown_scores(run.scores).values(), "given": given}

    keys = [info.key for info in _INFOS]
    return [SummaryRow.of(head, {run.seed: values(run) for run in own}, keys) for head, own in heads.items()]


def _shown_metrics(rows: Sequence[SummaryRow]) -> list[MetricInfo]:
    """The metrics that some head has; COCO-LT's groups only where LVIS's do not divide the classes."""
    known = {info.key for info in known_metrics(rows, _INFOS)}
    frequencies, sizes = ({f"ap_{name}" for name in names} for names in (FREQUENCIES, BOX_GROUPS))
    # A group that holds every class says what AP says.
    for groups in (frequencies, sizes):
        if len(groups & known) < 2:
            known -= groups
    known -= sizes if known & frequencies else set()
    return [info for info in _INFOS if info.key in known]


def _sections(runs: Sequence[DetectionRun], truth: "BoxSet", pictures: int) -> list[Section]:
    """Pictures, figures of the counts, the hardest classes and all classes."""
    heads, alike, scores = by_head(runs), same_data(runs), runs[0].scores
    matches = {head: match_all(truth, own[0].detections) for head, own in heads.items()}
    level, boxes = best_level(list(matches.values())), training_boxes(alike)
    verdicts = {one.verdict for run in matches.values() for held in run for one in held.judged}
    seeds_differ, figures = len(alike) < len(runs), count_figures(runs)
    drawings, unread = draw(truth, list(matches.values()), boxes, level, pictures)
    hardest = _hardest(truth, runs, matches, level)
    return [
        Section(
            "pictures",
            "What is found in the pictures" if drawings else "Pictures",
            when=bool(drawings or unread),
            drawings=drawings,
            unread=unread,
            heads=[head_label(head) for head in heads],
            signs=[(verdict, WORDS[verdict]) for verdict in Verdict if verdict in verdicts],
            levels=LEVELS,
            level=level,
        ),
        Section(
            "counts",
            "Do the classes with few training boxes fall behind?",
            when=bool(figures),
            figures=figures,
            seeds_differ=seeds_differ,
            grouped=any(any(class_groups([run])) for run in runs),
            untrained=any(0 in training_boxes([run]) for run in runs),
        ),
        Section(
            "hardest",
            "The hardest classes and what they are taken for",
            when=bool(hardest.rows),
            hardest=hardest,
            level=level,
            overlap=OVERLAP,
            first_seed=len(runs) > len(heads),
        ),
        Section(
            "classes",
            "Class by class",
            classes=_classes(alike),
            total=len(scores.class_names),
            by_count=any(n > 0 for n in boxes),
            of_seed=runs[0].seed if seeds_differ else None,
            untested=0 in scores.class_boxes,
        ),
        Section("left_out", lines=truth.left_out),
    ]


def _hardest(
    truth: "BoxSet", runs: Sequence[DetectionRun], matches: Mapping[str, Sequence[Matches]], level: float
) -> Table:
    """The classes with the lowest AP: how many of their objects each head finds, and what it takes the rest for."""
    names, ap = runs[0].scores.class_names, class_ap(same_data(runs))
    known = [c for c, value in enumerate(ap) if math.isfinite(value)]
    hard = sorted(known, key=lambda c: (ap[c], -runs[0].scores.class_boxes[c]))[:_HARDEST]
    outcomes = [class_outcomes(truth, found, level) for found in matches.values()]
    headings = ["Found"] if len(matches) == 1 else map(head_label, matches)
    columns = [Column("Class", "words", width=name_width(names[c] for c in hard)), Column("AP")]
    columns += [Column(heading, "words", width=9) for heading in headings]
    rows = (
        [names[c], percent(ap[c]), *(_outcome(c + 1, own.get(c + 1, Counter()), names) for own in outcomes)]
        for c in hard
    )
    return Table(columns, rows, "Hardest classes")


def _outcome(label: int, counts: Counter[int], names: Sequence[str]) -> str:
    """As in "3 of 12; wolf 5, fox 1, nothing 3"."""
    others = sorted((-n, other) for other, n in counts.items() if other not in (0, label))
    parts = [(names[other - 1], -n) for n, other in others[:_OTHERS]]
    parts += [("others", -sum(n for n, _ in others[_OTHERS:])), ("nothing", counts[0])]
    told = ", ".join(f"{name} {n:,}" for name, n in parts if n)
    return f"{counts[label]:,} of {counts.total():,}" + f"; {told}" * bool(told)


def _classes(runs: Sequence[DetectionRun]) -> Table:
    """Every class with its boxes and its AP by head, those with the fewest training boxes first; a click sorts."""
    scores, groups, heads, trained = runs[0].scores, class_groups(runs), by_head(runs), training_boxes(runs)
    shown: list[Values] = []
    if any(groups):
        shown.append((Column("Group", "words", sorts="ascending", width=0), groups, str))
    if any(map(math.isfinite, trained)):
        shown.append((Column("Training boxes", sorts="ascending"), trained, whole))
    shown.append((Column("Test boxes", sorts="ascending"), scores.class_boxes, whole))
    # Amounts are those of one network: with several heads there is no amount of a class.
    if len(runs) == 1 and scores.class_amounts is not None:
        shown.append((Column("Amount, bits", sorts="descending"), scores.class_amounts, number))
    aps = {f"{head_label(head)}, AP": class_ap(own) for head, own in heads.items()}
    if len(heads) == 1:
        aps = {"AP": class_ap(runs), "AP50": class_ap(runs, "class_ap50")}
    shown += [(Column(label, sorts="ascending"), values, percent) for label, values in aps.items()]
    fewest = [n if math.isfinite(n) else 0.0 for n in trained]
    order = sorted(range(len(trained)), key=lambda c: (not scores.class_boxes[c], fewest[c], c))
    return class_table(scores.class_names, order[:_MOST_CLASSES], shown)
