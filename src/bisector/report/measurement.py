"""A measurement in a page of text, and as one self-contained HTML page: its sentences and its tables."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from bisector.measurement.classes import ClassMeasure, fewest_rows, hard_with_neighbour, hardest
from bisector.measurement.command import column_options, command_line
from bisector.measurement.confusion import Pair
from bisector.measurement.measurement import Measurement
from bisector.measurement.probe import WHOSE
from bisector.measurement.score_measures import AMOUNT, EQUAL, Relationship, ScoreMeasure, accuracy_of
from bisector.metrics.verification import Verification
from bisector.posthoc.trial import Trials
from bisector.report.measurement_figures import scatter_plots
from bisector.report.measurement_lead import called, lead_lines, next_line
from bisector.report.measurement_pairs import two_classes
from bisector.report.measurement_pictures import NO_PICTURES, Pictures
from bisector.report.page import render
from bisector.report.parts import Section, Tile
from bisector.report.table import Cell, Column, Table, Values, class_table, name_width
from bisector.report.tested_classes import (
    hardest_first,
    matrix_classes,
    matrix_figure,
    matrix_table,
    tested_columns,
)
from bisector.report.words import (
    count,
    distance,
    error,
    number,
    percent,
    plain,
    shorten,
    significant,
    whole,
)
from bisector.statistics.bootstrap import FEWEST_ROWS, Estimate
from bisector.statistics.regression import NestedRegression
from bisector.statistics.relation import chance_limit

_MOST_ROWS = 50  # of suspects and of duplicates
_MOST_LINES = 10  # of a terminal: of classes, and of what was left out
_NAME = 28  # letters, in a terminal
_HOLDS = {True: "yes", False: "no", None: "not known"}
_TRIED = ("balanced, %", "gain, points", "accuracy, %", "gain, points")


# What page and text say alike


def _amounts(found: Measurement) -> str:
    if not found.dimensions:
        return "There are no amounts: the table has no embeddings"
    scale = "as they are" if found.embeddings == "raw" else "every row at length √D"
    return f"Amounts are of {found.embeddings} embeddings ({scale}), with the shrinkage {found.shrinkage}"


def _not_looked_for(found: Measurement) -> str:
    return (
        "Not looked for: the table was streamed. --engine memory looks for them, and needs memory for "
        f"all {count(found.rows, 'row')}."
    )


def _verified_pairs(verified: Verification) -> str:
    return (
        f"{verified.genuine_pairs:,} genuine and {verified.impostor_pairs:,} impostor pairs of "
        f"{count(verified.embeddings, 'row')} in {count(verified.classes, 'class')}"
    )


def neighbour_lines(classes: Sequence[ClassMeasure]) -> list[str]:
    """A sentence for each of the hardest classes: which class is nearest, and how many of its errors go there."""
    lines = []
    for one, near in hard_with_neighbour(classes):
        name, other = called(one.name), called(one.neighbour)
        taken, errors = one.taken_for_neighbour, count(one.errors, "error")
        share = (
            f"{taken:,} of its {errors} go{'es' * (taken == 1)}" if taken else f"none of its {errors} goes"
        )
        if near:
            lines.append(f"{name} is hard because {other} is near: {share} to it.")
        else:
            most = f"; {one.as_mistaken:,} go{'es' * (one.as_mistaken == 1)} to {called(one.mistaken_for)}"
            more = most * (one.mistaken_for not in {"", one.neighbour})
            lines.append(f"{name}: its nearest class is {other}, to which {share}{more}.")
    return lines


def _trial_rows(found: Trials) -> list[list[str]]:
    """The scores as they are, then each adjustment that was tried: its name, and the cells of `_TRIED`."""
    rows = [["as they are", percent(found.balanced_accuracy), "–", percent(found.accuracy), "–"]]
    for trial in found.tried:
        balanced = [percent(trial.balanced_accuracy), points(trial.gain)]
        rows.append([trial.name, *balanced, percent(trial.accuracy), points(trial.accuracy_gain)])
    return rows


def points(gain: Estimate) -> str:
    """A gain in percentage points with its interval.

    >>> points(Estimate(0.131, 0.08, 0.18)), points(Estimate(-0.01))
    ('+13.1 (+8.0 to +18.0)', '−1.0')
    """
    return _interval(Estimate(100 * gain.value, 100 * gain.low, 100 * gain.high), 1)


def _interval(one: Estimate, decimals: int) -> str:
    value, low, high = (number(each, decimals, "+") for each in (one.value, one.low, one.high))
    return f"{value} ({low} to {high})" if "–" not in (value, low) else value


def _trials_told(found: Trials) -> str:
    how = (
        "Cross-validated: no row is judged by what was fitted on it. In 95 of 100 cases all of these intervals "
        "hold the truth (BCa bootstrap over the rows)."
    )
    if found.best is None:
        left = found.few or "Leave the scores as they are."
        how = f"No gain lies clearly above 0. {left} {how}"
    return " ".join([*[how] * bool(found.tried), *(f"Not tried: {one}" for one in _few(found.not_tried))])


def taken(pair: Pair) -> list[str]:
    """How many rows of each class were taken for the other, a dash where none was tested, and the mean share.

    >>> taken(Pair("a", "b", 2, 1, 4, 2, share=0.5)), taken(Pair("a", "b", 2, 0, 4, 0, share=0.25))
    (['2', '1', '50.0'], ['2', '–', '≥ 25.0'])
    """
    first = f"{pair.first_as_second:,}" if pair.first_tested else "–"
    second = f"{pair.second_as_first:,}" if pair.second_tested else "–"
    return [first, second, "≥ " * (not pair.both_tested) + percent(pair.share)]


def interval(share: Estimate) -> str:
    """The ends of the interval of a share, in percent.

    >>> interval(Estimate(0.8, 0.49, 0.943)), interval(Estimate(0.8))
    ('49.0 to 94.3', '–')
    """
    return f"{percent(share.low)} to {percent(share.high)}" if math.isfinite(share.low) else "–"


def _score_title(score: ScoreMeasure) -> str:
    return f"{score.name} ({score.source})" if score.source else score.name


def sentences(score: ScoreMeasure) -> list[str]:
    """What a score adds to the tables of correlations, a sentence each."""
    found = []
    for quantity in (AMOUNT, EQUAL):
        one = score.of(quantity)
        if one is not None and not math.isnan(one.adds.gain):
            adds = one.adds
            f = f"{adds.f:#.3g}".rstrip(".") if adds.f < 1000 else f"{adds.f:,.0f}"
            line = (
                f"Over {count(adds.rows, 'class')}, log count alone explains {100 * adds.r2_base:.1f} % of the "
                f"variance of {score.name}, with the {quantity} {100 * adds.r2_full:.1f} %: "
                f"{100 * adds.gain:.1f} points more (F = {f}, {chance_of(adds)})."
            )
            found.append(line)
    if score.small:
        small, share = len(score.small), 100 * len(score.small) / score.classes
        line = (
            f"{small:,} of these {score.classes:,} classes ({share:.0f} %) {'is' if small == 1 else 'are'} too "
            f"small for an amount to mean much: fewer than {score.fewest} rows."
        )
        found.append(line)

    return found


def _told(value: float) -> str:
    return number(value) if abs(value) >= 0.1 else f"{value:.2g}".replace("-", "−")


def _bias(score: ScoreMeasure) -> list[str]:
    """The variance of a score over the classes, as in the record."""
    found = []
    if not math.isnan(score.bias):
        unit = "percentage points squared" if score.percent else "in its own unit squared"
        line = f"Bias, the variance of {score.name} over the classes: {_told(score.bias)} ({unit})"
        if math.isfinite(score.bias_corrected):
            line += f"; {_told(score.bias_corrected)} without what few tested rows bring by chance"
        found.append(f"{line}.")
    return found


def _spread(score: ScoreMeasure) -> list[str]:
    """The same as a standard deviation, in the unit of the score."""
    if math.isnan(score.bias):
        return []
    unit = "percentage points" if score.percent else "in its own unit"
    line = (
        f"Spread of {score.name} over the classes: {_told(math.sqrt(score.bias))} {unit} (standard deviation)"
    )
    if math.isfinite(score.bias_corrected):
        line += f"; {_told(math.sqrt(max(0.0, score.bias_corrected)))} without what few tested rows bring by chance"
    return [f"{line}."]


def chance_of(adds: NestedRegression) -> str:
    """The p value in words.

    >>> chance_of(NestedRegression(9, 0.1, 0.2, 4.0, 0.0312)), chance_of(NestedRegression(9, 0.1, 0.9, 90.0, 1e-9))
    ('p = 0.031', 'p < 0.001')
    """
    if math.isnan(adds.p):
        return "p not known"
    return "p < 0.001" if adds.p < 0.001 else f"p = {adds.p:#.2g}"


# The page


def render_measurement(found: Measurement, pictures: Pictures = NO_PICTURES) -> str:
    """The page of a measurement; it works offline, loads nothing and runs no script but its own."""
    left_out = Table([Column("", "words")], ([line] for line in found.left_out))
    return render(
        "measurement.html",
        [
            _class_section(found),
            _correlation_section(found),
            _two_section(found),
            *_picture_sections(pictures),
            _pair_section(found),
            *_verified_sections(found),
            *_suspect_sections(found),
            Section("left-out", "Left out", when=bool(found.left_out), left_out=left_out),
            _next_section(found),
        ],
        title=f"What the {'embeddings' if found.dimensions else 'predictions'} of {found.data or found.file} say",
        facts=[
            f"{count(found.rows, 'row')} of {count(found.dimensions, 'dimension')}"
            if found.dimensions
            else f"{count(found.rows, 'row')} without embeddings",
            count(len(found.classes), "class"),
            *(f"{rows:,} {name}" for name, rows in found.splits.items()),
            *([f"model {found.model}"] if found.model else []),
        ],
        command=found.command,
        notes=found.notes,
        tiles=_tiles(found),
        summary=lead_lines(found),
        version=found.version,
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
        note = "standard deviation of the class accuracies"
        tiles.append(Tile("Spread", number(math.sqrt(own.bias)), unit="pp", note=note))
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


def _next_section(found: Measurement) -> Section:
    trials, told = None, ""
    if found.trials is not None and found.trials.tried:  # else the steps say why
        headings = [heading[:1].upper() + heading[1:] for heading in _TRIED]
        trials = Table([Column("Adjustment", "name"), *headings], _trial_rows(found.trials))
        told = _trials_told(found.trials)
    steps = Table(
        [Column("Step", "words"), "Holds", Column("Found", "words")],
        ([step.title, _HOLDS[step.holds], step.reason] for step in found.steps),
    )
    on = found.trials.on if found.trials is not None else ""
    title = f"Next step: {found.step.title}"
    line = next_line(found)
    return Section("next", title, line=line, step=found.step, steps=steps, trials=trials, told=told, on=on)


def _class_section(found: Measurement) -> Section:
    """Every class with its rows, amounts, neighbour and scores; a click sorts."""
    classes = found.classes
    order = hardest_first(classes, _largest(classes))
    hint = "Click to sort; numbers in names count as numbers."
    columns = _class_columns(found)
    table = class_table([one.name for one in classes], order, columns, hint)
    return Section(
        "classes",
        "Class by class",
        found=found,
        amounts=_amounts(found),
        classes=table,
        lines=neighbour_lines(classes),
        geometry=any(one.neighbour for one in classes),
        dimensions=any(math.isfinite(one.intrinsic_dimension) for one in classes),
    )


def _class_columns(found: Measurement) -> list[Values]:
    classes, tested = found.classes, bool(found.tested_on)

    def known(key: str, least: float = -math.inf) -> bool:
        return any(math.isfinite(value) and value > least for value in (getattr(one, key) for one in classes))

    columns: list[Values] = []

    def add(label: str, key: str, show: Callable[[Any], str], hint: str) -> None:
        """Add a column; what brings up a class to look at comes to the top."""
        rising = key in ("count", "tested", "squared_distance")
        first: Any = "ascending" if rising else "descending"
        is_order = key == "amount" and not tested
        column = Column(label, help=hint, sorts=first, sorted=is_order)
        columns.append((column, [getattr(one, key) for one in classes], show))

    # What is asked for first comes first; the rest is shown on demand.
    add("Rows", "count", whole, f"Rows that the amount is measured on: {found.measured_on}.")
    if tested:
        add("Tested", "tested", whole, "Rows that accuracy and loss are measured on.")
        columns += tested_columns(classes, found.tested_on)
    few = len(columns)
    hint = f"Information amount of {found.embeddings} embeddings: the volume they fill."
    add("Amount, bits", "amount", number, hint)
    if known("error_bound", 0):
        hint = "A bound: the amount is off by no more. Classes held as a sketch have one; 0 is exact."
        add("Error at most, bits", "error_bound", error, hint)
    if known("error_estimate"):
        hint = "No bound: by how much the amount may be off; it can be more. For want of a bound."
        add("Error estimated, bits", "error_estimate", error, hint)
    if known("equal_amount"):
        hint = f"Amount on {found.equal_count:,} random rows of each class, of those that have as many."
        add("Equal amount, bits", "equal_amount", number, hint)
    if known("squared_distance"):
        neighbours = [one.neighbour or "–" for one in classes]
        hint = "The class whose mean is nearest, by the covariance within the classes."
        width = name_width(neighbours)
        column = Column("Nearest class", "words", help=hint, sorts="ascending", width=width)
        columns.append((column, neighbours, str))
        hint = "Squared, of the means, by that covariance; less what few rows add by chance, so it may be below 0."
        add("Its distance, squared", "squared_distance", distance, hint)
        if tested:
            hint = f"Of the {found.tested_on} of a class, those predicted to be of its nearest class."
            add("Taken for it", "taken_for_neighbour", whole, hint)
    if known("intrinsic_dimension"):
        hint = "Directions that the rows of a class spread in (TwoNN), on as many rows of each class."
        add("Intrinsic dimension", "intrinsic_dimension", number, hint)
    if known("probe_accuracy"):
        add("Probe accuracy, %", "probe_accuracy", percent, f"{WHOSE.capitalize()}.")
    if known("loss"):
        add("Mean loss", "loss", partial(number, decimals=2), "Cross-entropy of the scores, in nats.")
    for score in found.scores:
        if score.brought:
            label, hint = score.name + ", %" * score.percent, f"From {score.source}."
            show = percent if score.percent else partial(number, decimals=3)
            columns.append((Column(label, help=hint, sorts="ascending"), score.values, show))
    first = few if tested else few + 1
    return [
        (replace(column, extra=k >= first), values, show) for k, (column, values, show) in enumerate(columns)
    ]


def _largest(classes: Sequence[ClassMeasure]) -> list[ClassMeasure]:
    """The classes that have an amount, the largest first."""
    return sorted((one for one in classes if math.isfinite(one.amount)), key=lambda one: -one.amount)


def _correlation_section(found: Measurement) -> Section:
    figures, accuracy = scatter_plots(found), accuracy_of(found.scores)
    amount = None if accuracy is None else accuracy.of(AMOUNT)
    relations = [one.relation for score in found.scores for one in score.relationships]
    scores = []
    for k, score in enumerate(found.scores):
        title = _score_title(score)
        columns: list[Column | str] = [
            Column(f"With {score.name}", "name"),
            "Classes",
            *(Column(kind, stacked=True) for kind in ("Pearson", "Spearman", "Partial")),
            Column("Held fixed", "words"),
        ]
        rows = [_correlations(found, one) for one in score.relationships]
        shown = {
            "name": score.name,
            "title": title[:1].upper() + title[1:],
            "figures": [figure for figure in figures if figure.key.startswith(f"score-{k}-")],
            "table": Table(columns, rows, f"Correlations with {score.name}") if rows else None,
            "sentences": [*sentences(score), *_spread(score)],
        }
        scores.append(shown)
    return Section(
        "correlations",
        "What says which classes are hard?",
        figures=figures,
        found=found,
        scores=scores,
        equal_classes=sum(math.isfinite(one.equal_amount) for one in found.classes),
        too_few_rows=found.equal_count < fewest_rows(found.dimensions),
        intervals=any(math.isfinite(relation.pearson.low) for relation in relations),
        correlated=0 if amount is None or amount.relation.rows < 4 else amount.relation.rows,
        fewest_classes=FEWEST_ROWS,
        chance=chance_limit,
    )


def _correlations(found: Measurement, one: Relationship) -> list[Cell | str]:
    def estimate(one: Estimate) -> Cell:
        interval = f"{number(one.low, 2)} to {number(one.high, 2)}" if math.isfinite(one.low) else ""
        return Cell(number(one.value, 2), spread=interval)

    name = Cell(one.quantity.capitalize())
    if one.quantity == EQUAL:
        name = Cell(f"{name.text},", spread=f"{found.equal_count:,} rows")
    relation = one.relation
    estimates = map(estimate, (relation.pearson, relation.spearman, relation.partial))
    return [name, f"{relation.rows:,}", *estimates, one.given]


def _pair_section(found: Measurement) -> Section:
    def table(pairs: Sequence[Pair], headings: Sequence[str], cells: list[list[str]], label: str) -> Table:
        width = name_width(name for pair in pairs for name in (pair.first, pair.second))
        names = [Column("A", "words", width=width), Column("B", "words", width=width)]
        rows = ([pair.first, pair.second, *own] for pair, own in zip(pairs, cells, strict=True))
        return Table([*names, *headings], rows, label)

    headings = ("A taken for B", "B taken for A", "Mean share, %", "95% interval, %")
    degrees = [[number(pair.degrees)] for pair in found.nearest]
    matrix = matrix_figure(found.classes, found.mistakes)
    return Section(
        "pairs",
        "Pairs of classes",
        when=bool(found.confused or found.nearest),
        confused=table(
            found.confused,
            headings,
            [[*taken(pair), interval(pair.share_interval)] for pair in found.confused],
            "Confused classes",
        ),
        nearest=table(found.nearest, ["Degrees"], degrees, "Nearest classes"),
        untested=not all(pair.both_tested for pair in found.confused),
        figures=[] if matrix is None else [matrix],
        matrix=None if matrix is None else matrix_table(found.classes, found.mistakes),
        chosen=len(matrix_classes(found.classes, found.mistakes)),
        classes=len(found.classes),
    )


def _two_section(found: Measurement) -> Section:
    few = bool(found.angles) or not found.dimensions
    return Section(
        "two", "Any two classes", when=len(found.classes) > 1, data=two_classes(found), few=few, found=found
    )


def _picture_sections(pictures: Pictures) -> list[Section]:
    there = bool(pictures.albums or pictures.told)
    return [Section("pictures", "Pictures", when=there, albums=pictures.albums, told=pictures.told)]


def _verified_sections(found: Measurement) -> list[Section]:
    verified = found.verification
    if verified is None:
        return []
    equal = [percent(verified.eer), percent(1 - verified.eer), number(verified.eer_threshold, 3)]
    rates = [
        [f"At a FAR of {far:g}", f"{100 * far:g}", percent(tar), number(verified.thresholds[far], 3)]
        for far, tar in verified.tar.items()
    ]
    columns: list[Column | str] = [Column("Operating point", "name"), "FAR, %", "TAR, %", "Threshold"]
    table = Table(columns, [["Equal error rate", *equal], *rates])
    title, pairs, unknown = (
        "Classes never trained on",
        _verified_pairs(verified),
        "–" in (row[2] for row in rates),
    )
    return [Section("verification", title, pairs=pairs, points=table, unknown=unknown)]


def _suspect_sections(found: Measurement) -> list[Section]:
    """Suspected labels and duplicates, or that they were not looked for."""
    sections, errors, same = [], found.label_errors, found.duplicates
    if errors is None:
        options = {**column_options(found.command), "engine": "memory"}
        look = command_line("bisector measure", found.file, options=options)
        title = "Suspected label errors and duplicates"
        sections.append(Section("labels", title, why=_not_looked_for(found), look=look))
    elif errors.judged:
        names = ["Example", "Label", "Rather", *["Split"] * bool(found.splits)]
        columns = [*(Column(name, "words") for name in names), Column("Confidence in the label")]
        rows = (
            [s.name, s.label, s.suggested, *[s.split] * bool(found.splits), significant(s.confidence)]
            for s in errors.suspects[:_MOST_ROWS]
        )
        table = Table(columns, rows, "Suspected label errors", boxed=True)
        sections.append(Section("labels", "Suspected label errors", errors=errors, suspects=table))
    if same is not None:
        names = ["Classes", *["Splits"] * bool(found.splits)]
        columns = [Column("Examples", "words"), Column("Rows"), *(Column(name, "words") for name in names)]
        rows = (
            [
                ", ".join(group.names[:4]) + (" …" if group.size > 4 else ""),
                f"{group.size:,}",
                *(", ".join(dict.fromkeys(held)) for held in (group.classes, group.splits)[: len(names)]),
            ]
            for group in same.groups[:_MOST_ROWS]
        )
        splits = bool(found.splits)
        sections.append(
            Section("duplicates", "Duplicates", same=same, splits=splits, duplicates=Table(columns, rows))
        )
    return sections


# The text


def format_measurement(found: Measurement) -> str:
    """The measurement in a page of text: what it is of, the hardest classes, pairs, suspects, and the next step."""
    blocks = [
        _head_text(found),
        _classes_text(found),
        *(_score_text(found, score) for score in found.scores),
        _trials_text(found),
        _pairs_text(found),
        _suspects_text(found),
        _duplicates_text(found),
        _verified_text(found),
        "\n".join(f"Note: {plain(note)}" for note in found.notes),
        "\n".join(f"Left out: {plain(line)}" for line in _few(found.left_out)),
        _next_text(found),
    ]
    return "\n\n".join(filter(None, blocks))


def _head_text(found: Measurement) -> str:
    splits = ", ".join(f"{rows:,} {name}" for name, rows in found.splits.items())
    size = f" of {count(found.dimensions, 'dimension')}" if found.dimensions else " without embeddings"
    lines = [
        f"{plain(found.file)}: {count(found.rows, 'row')}{size}, "
        f"{count(len(found.classes), 'class')}{f' ({splits})' if splits else ''}"
    ]
    if found.tested_on:
        lines.append(
            f"Accuracy {percent(found.accuracy)} %, balanced {percent(found.balanced_accuracy)} %, on "
            f"{found.tested_on}; counts{' and amounts' * bool(found.dimensions)} on {found.measured_on}"
        )
    return "\n".join([*lines, *[_amounts(found)] * bool(found.dimensions)])


def _classes_text(found: Measurement) -> str:
    ranked, largest = hardest(found.classes), _largest(found.classes)
    title = "Hardest classes" if ranked else "Classes with the largest amounts"
    bounds = any(one.error_bound > 0 for one in largest)  # else all are exact
    rows: list[list[str]] = [
        [
            *(_name(one.name), str(one.count), number(one.amount)),
            *(error(one.error_bound) if bounds else "–", error(one.error_estimate)),
            *(percent(one.accuracy), "–" if found.dimensions else interval(one.accuracy_interval)),
            number(one.loss, 2),
            *(_name(one.neighbour) or "–", distance(one.squared_distance), number(one.intrinsic_dimension)),
            percent(one.probe_accuracy),
        ]
        for one in (ranked or largest)[:_MOST_LINES]
    ]
    errors = ("error at most", "error estimated")
    geometry = ("nearest class", "its distance, squared", "dimension", "probe, %")
    table = _table(
        [title, "rows", "amount, bits", *errors, "accuracy, %", "95 % interval", "loss", *geometry], rows
    )
    none = any(one.squared_distance < 0 for one in (ranked or largest)[:_MOST_LINES])
    told = ["What few rows add to a distance by chance is taken off: below 0, nothing else is left."] * none
    return "\n".join([table, *told, *map(plain, neighbour_lines(found.classes))])


def _score_text(found: Measurement, score: ScoreMeasure) -> str:
    lines = [f"{plain(_score_title(score))}, correlations over the classes (95 % intervals)"]
    rows = []
    for one in score.relationships:
        relation = one.relation
        name = one.quantity + f" ({found.equal_count:,} rows each)" * (one.quantity == EQUAL)
        estimates = (_interval(each, 2) for each in (relation.pearson, relation.spearman, relation.partial))
        rows.append([name, *estimates, one.given, f"{relation.rows:,}"])
    if rows:
        lines.append(_table(["With", "Pearson", "Spearman", "partial", "held fixed", "classes"], rows))
    return "\n".join([*lines, *map(plain, [*sentences(score), *_bias(score)])])


def _trials_text(found: Measurement) -> str:
    if found.trials is None:
        return ""  # the steps say why
    if not found.trials.tried:
        return plain(f"No adjustment was tried: {' '.join(_few(found.trials.not_tried))}")
    table = _table([f"Adjustments tried on {found.trials.on}", *_TRIED], _trial_rows(found.trials))
    return f"{table}\n{plain(_trials_told(found.trials))}"


def _pairs_text(found: Measurement) -> str:
    def both(pair: Pair) -> str:
        return f"{_name(pair.first)} – {_name(pair.second)}"

    if found.confused:
        headings = ["Pairs most confused, A – B", "A as B", "B as A", "mean share, %", "95 % interval"]
        rows = [[both(pair), *taken(pair), interval(pair.share_interval)] for pair in found.confused[:5]]
        return _table(headings, rows)
    rows = [[both(pair), number(pair.degrees)] for pair in found.nearest[:5]]
    return _table(["Nearest pairs of classes", "degrees"], rows) if rows else ""


def _suspects_text(found: Measurement) -> str:
    errors = found.label_errors
    if errors is None:
        return f"Label errors and duplicates: {_not_looked_for(found)}"
    if not errors.suspects:
        return ""
    title = f"{len(errors.suspects)} of {errors.judged} labels are suspect"
    if not errors.trusted:
        return f"{title}, by a judge that is unreliable: it agrees with {percent(errors.agreement)} % of the labels"
    rows = [
        [_end(one.name), _name(one.label), _name(one.suggested), significant(one.confidence)]
        for one in errors.suspects[:5]
    ]
    return _table([title, "label", "rather", "confidence"], rows)


def _duplicates_text(found: Measurement) -> str:
    same = found.duplicates
    if same is None or not same.groups:
        return ""
    leaked = f"; {count(same.leaked, 'row')} of validation and test in an earlier split too" * bool(
        same.leaked
    )
    first = same.groups[0]
    return (
        f"{count(same.rows, 'row')} in {count(len(same.groups), 'group')} of duplicates{leaked}: "
        f"{', '.join(map(_end, first.names[:3]))}{' …' if first.size > 3 else ''}"
    )


def _verified_text(found: Measurement) -> str:
    verified = found.verification
    if verified is None:
        return ""
    lines = [
        f"Classes never trained on, every pair by cosine: {_verified_pairs(verified)}",
        f"  EER {percent(verified.eer)} % at {number(verified.eer_threshold, 3)}",
        *(
            f"  TAR {percent(tar)} % at FAR {far:g}, threshold {number(verified.thresholds[far], 3)}"
            for far, tar in verified.tar.items()
            if math.isfinite(tar)
        ),
    ]
    return "\n".join(lines)


def _next_text(found: Measurement) -> str:
    step = found.step
    lines = [f"Next: {step.title}", step.reason, *([step.lead, step.command] if step.command else [])]
    return "\n  ".join(plain(line) for line in lines if line)


def _few(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], *[f"{more} more; measure.json names them"] * (more > 0)]


def _name(text: str) -> str:
    return shorten(plain(" ".join(text.split())), _NAME)


def _end(text: str) -> str:
    """The end of a path, which tells more than its beginning."""
    line = plain(" ".join(text.split()))
    return line if len(line) <= 2 * _NAME else f"…{line[1 - 2 * _NAME :]}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return Table(headings, rows).without_dashes().text(corner=headings[0], wrap=math.inf)
