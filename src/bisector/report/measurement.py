"""A measurement as one self-contained HTML page: the numbers at its top, and its tables."""

import math
from collections.abc import Sequence
from functools import partial

from bisector.measurement.classes import fewest_rows, hardest
from bisector.measurement.command import column_options, command_line
from bisector.measurement.confusion import Pair
from bisector.measurement.measurement import Measurement
from bisector.measurement.score_measures import AMOUNT, EQUAL, Relationship, ScoreMeasure, accuracy_of
from bisector.metrics.verification import Verification
from bisector.report import measurement_text as words
from bisector.report.figure import Figure
from bisector.report.measurement_figures import scatter_plots
from bisector.report.numbers import count, error, number, percent, significant, whole
from bisector.report.page import render
from bisector.report.summary import Tile
from bisector.report.table import Cell, Column, Order, Show, Table, Values, class_table, name_width
from bisector.statistics.bootstrap import FEWEST_ROWS, Estimate
from bisector.statistics.relation import chance_limit

_MOST_CLASSES = 2000  # in the table; classes.csv has all
_MOST_ROWS = 50  # of suspects and of duplicates
_HOLDS = {True: "yes", False: "no", None: "not known"}


def render_measurement(found: Measurement) -> str:
    """The page of a measurement; it works offline, loads nothing and runs no script but its own."""
    figures = scatter_plots(found)
    accuracy = accuracy_of(found.scores)
    amount = None if accuracy is None else accuracy.of(AMOUNT)
    correlated = 0 if amount is None or amount.relation.rows < 4 else amount.relation.rows
    relations = [one.relation for score in found.scores for one in score.relationships]
    return render(
        "measurement.html",
        title=f"What the embeddings of {found.data or found.file} say",
        facts=[
            f"{count(found.rows, 'row')} of {count(found.dimensions, 'dimension')}",
            count(len(found.classes), "class"),
            *(f"{rows:,} {name}" for name, rows in found.splits.items()),
            *([f"model {found.model}"] if found.model else []),
        ],
        command=found.command,
        notes=found.notes,
        tiles=_tiles(found),
        figures=figures,
        version=found.version,
        found=found,
        words=words,
        trials=_trials(found),
        steps=Table(
            [Column("Step", "words"), "Holds", Column("Found", "words")],
            ([step.title, _HOLDS[step.holds], step.reason] for step in found.steps),
        ),
        classes=_classes(found),
        scores=[_score(found, score, k, figures) for k, score in enumerate(found.scores)],
        equal_classes=sum(math.isfinite(one.equal_amount) for one in found.classes),
        too_few_rows=found.equal_count < fewest_rows(found.dimensions),
        intervals=any(math.isfinite(relation.pearson.low) for relation in relations),
        correlated=correlated,
        fewest_classes=FEWEST_ROWS,
        chance=chance_limit,
        **_pairs(found),
        points=None if found.verification is None else _points(found.verification),
        look=command_line(
            "bisector measure", found.file, options={**column_options(found.command), "engine": "memory"}
        ),
        suspects=_suspects(found),
        duplicates=_duplicates(found),
        left_out=Table([Column("", "words")], ([line] for line in found.left_out)),
    )


def _tiles(found: Measurement) -> list[Tile]:
    tiles = []
    if found.tested_on:
        note = f"{percent(found.accuracy)} % of {found.tested_on}"
        tiles.append(Tile("Balanced accuracy", percent(found.balanced_accuracy), unit="%", note=note))
        for worst in hardest(found.classes)[:1]:
            note = f"class {worst.name}" if worst.name.isdigit() else worst.name
            tiles.append(Tile("Hardest class", percent(worst.accuracy), unit="%", note=note))
    if found.verification is not None:
        eer, note = percent(found.verification.eer), "on classes never trained on"
        tiles.append(Tile("Equal error rate", eer, unit="%", note=note))
    own = accuracy_of(found.scores)
    if own is not None and own.classes >= 2 and not math.isnan(own.bias):
        note = "variance of accuracy over the classes, points squared"
        tiles.append(Tile("Bias", number(own.bias), note=note))
    errors, same = found.label_errors, found.duplicates
    if errors is not None and same is not None:
        suspects = Tile("Suspected labels", f"{len(errors.suspects):,}", note=f"of {errors.judged:,} judged")
        if errors.judged and not errors.trusted:
            note = f"judge unreliable: agrees with {percent(errors.agreement)}\u00a0%"
            suspects = Tile("Suspected labels", "", spread="–", note=note)
        note = f"in {count(len(same.groups), 'group')}"
        if found.splits:
            note = f"{count(same.leaked, 'row')} across splits"
        tiles += [suspects, Tile("Duplicate rows", f"{same.rows:,}", note=note)]
    return tiles


def _trials(found: Measurement) -> Table | None:
    if found.trials is None or not found.trials.tried:
        return None  # the steps say why
    headings = (heading[:1].upper() + heading[1:] for heading in words.TRIAL_HEADINGS)
    return Table([Column("Adjustment", "name"), *headings], words.trial_rows(found.trials))


def _classes(found: Measurement) -> Table:
    """Every class with its rows, amounts and scores; a click sorts."""
    position = {id(one): c for c, one in enumerate(found.classes)}
    ranked = [position[id(one)] for one in hardest(found.classes)]

    def amount(c: int) -> float:
        value = found.classes[c].amount
        return -value if math.isfinite(value) else math.inf

    order = ranked + sorted(set(range(len(found.classes))) - set(ranked), key=lambda c: (amount(c), c))
    columns: list[Values] = []

    def add(label: str, first: Order, hint: str, key: str, show: Show, shown: bool = True) -> None:
        if shown:
            is_order = label == ("Accuracy, %" if found.tested_on else "Amount, bits")
            column = Column(label, help=hint, first=first, sorted=is_order)
            columns.append((column, [getattr(one, key) for one in found.classes], show))

    def known(key: str) -> bool:
        return any(math.isfinite(getattr(one, key)) for one in found.classes)

    # What is asked for first comes first: a narrow screen shows no more than three.
    tested, bounded = bool(found.tested_on), any(one.error_bound > 0 for one in found.classes)  # NaN is none
    add("Accuracy, %", "ascending", f"On {found.tested_on}.", "accuracy", percent, tested)
    hint = f"Information amount of {found.embeddings} embeddings: the volume they fill."
    add("Amount, bits", "descending", hint, "amount", number)
    hint = f"Rows that the amount is measured on: {found.measured_on}."
    add("Rows", "ascending", hint, "count", whole)
    hint = "A bound: the amount is off by no more. Classes held as a sketch have one; 0 is exact."
    add("Error at most, bits", "descending", hint, "error_bound", error, bounded)
    hint = "No bound: by how much the amount may be off; it can be more. For want of a bound."
    add("Error estimated, bits", "descending", hint, "error_estimate", error, known("error_estimate"))
    hint = f"Amount on {found.equal_count:,} random rows of each class, of those that have as many."
    add("Equal amount, bits", "descending", hint, "equal_amount", number, known("equal_amount"))
    hint = "Cross-entropy of the scores, in nats."
    add("Mean loss", "descending", hint, "loss", partial(number, decimals=2), known("loss"))
    add("Tested", "ascending", "Rows that accuracy and loss are measured on.", "tested", whole, tested)
    for score in found.scores:
        if score.brought:
            label, hint = score.name + ", %" * score.percent, f"From {score.source}."
            show = percent if score.percent else partial(number, decimals=3)
            columns.append((Column(label, help=hint, first="ascending"), score.values, show))
    hint = "Click to sort; numbers in names count as numbers."
    return class_table([one.name for one in found.classes], order[:_MOST_CLASSES], columns, hint)


def _score(found: Measurement, score: ScoreMeasure, k: int, figures: Sequence[Figure]) -> dict[str, object]:
    """What the page shows of a score: its pictures, the correlations, and what they leave to say."""
    title = words.score_title(score)
    columns: list[Column | str] = [
        Column(f"With {score.name}", "name"),
        "Classes",
        *(Column(kind, stacked=True) for kind in ("Pearson", "Spearman", "Partial")),
        Column("Held fixed", "words"),
    ]
    rows = [_correlations(found, one) for one in score.relationships]
    return {
        "name": score.name,
        "title": title[:1].upper() + title[1:],
        "figures": [figure for figure in figures if figure.key.startswith(f"score-{k}-")],
        "table": Table(columns, rows, f"Correlations with {score.name}") if rows else None,
        "sentences": [line for line in words.sentences(score) if line],
    }


def _correlations(found: Measurement, one: Relationship) -> list[Cell | str]:
    name = Cell(one.quantity.capitalize())
    if one.quantity == EQUAL:
        name = Cell(f"{name.text},", spread=f"{found.equal_count:,} rows")
    relation = one.relation
    estimates = map(_estimate, (relation.pearson, relation.spearman, relation.partial))
    return [name, f"{relation.rows:,}", *estimates, one.given]


def _estimate(one: Estimate) -> Cell:
    interval = f"{number(one.low, 2)} to {number(one.high, 2)}" if math.isfinite(one.low) else ""
    return Cell(number(one.value, 2), spread=interval)


def _pairs(found: Measurement) -> dict[str, Table]:
    def names(pairs: Sequence[Pair]) -> list[Column]:
        width = name_width(name for pair in pairs for name in (pair.first, pair.second))
        return [Column("A", "words", width=width), Column("B", "words", width=width)]

    counts = ("A taken for B", "B taken for A", "Mean share, %")
    return {
        "confused": Table(
            [*names(found.confused), *counts],
            ([pair.first, pair.second, *words.taken(pair)] for pair in found.confused),
            "Confused classes",
        ),
        "nearest": Table(
            [*names(found.nearest), "Degrees"],
            ([pair.first, pair.second, number(pair.degrees)] for pair in found.nearest),
            "Nearest classes",
        ),
    }


def _points(verified: Verification) -> Table:
    columns: list[Column | str] = [Column("Operating point", "name"), "FAR, %", "TAR, %", "Threshold"]
    equal = [percent(verified.eer), percent(1 - verified.eer), number(verified.eer_threshold, 3)]
    rates = (
        [f"At a FAR of {far:g}", f"{100 * far:g}", percent(tar), number(verified.thresholds[far], 3)]
        for far, tar in verified.tar.items()
    )
    return Table(columns, [["Equal error rate", *equal], *rates])


def _suspects(found: Measurement) -> Table | None:
    if found.label_errors is None:
        return None
    headings = ["Example", "Label", "Rather", *["Split"] * bool(found.splits)]
    columns: list[Column | str] = [
        *(Column(heading, "words") for heading in headings),
        "Confidence in the label",
    ]
    rows = (
        [s.name, s.label, s.suggested, *[s.split] * bool(found.splits), significant(s.confidence)]
        for s in found.label_errors.suspects[:_MOST_ROWS]
    )
    return Table(columns, rows, "Suspected label errors")


def _duplicates(found: Measurement) -> Table | None:
    if found.duplicates is None:
        return None
    split = [Column("Splits", "words")] * bool(found.splits)
    rows = (
        [
            ", ".join(group.names[:4]) + (" …" if group.size > 4 else ""),
            f"{group.size:,}",
            *(", ".join(dict.fromkeys(held)) for held in (group.classes, group.splits)[: 1 + len(split)]),
        ]
        for group in found.duplicates.groups[:_MOST_ROWS]
    )
    return Table([Column("Examples", "words"), "Rows", Column("Classes", "words"), *split], rows)
