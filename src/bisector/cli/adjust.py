"""Move the boundaries of a trained model from its stored scores alone.

Prints what the adjustment gains on rows that it was not fitted on, and accuracy, balanced accuracy, groups, worst
class and bias before and after; writes adjustment.json and the adjusted scores. With --adjustment it applies an
adjustment.json that is there already.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from bisector.cli.output import require_folder, say
from bisector.errors import ArgumentError, require, require_choice, require_integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bisector.data.tables.scores import ScoreTable
    from bisector.posthoc.adjustment import Adjustment, Kind
    from bisector.posthoc.dispatch import Method
    from bisector.posthoc.trial import Trials
    from bisector.statistics.bootstrap import Estimate

Word = TypeVar("Word", Literal["fit"], Literal["cross-validate"])
# As in `bisector.posthoc`, which would bring torch.
_METHODS: tuple["Method", ...] = ("prior", "amount", "fitted")
_KINDS: tuple["Kind", ...] = ("logits", "probabilities")
_METHOD_OF = {  # what only one method reads
    "tau": "prior",
    "amounts": "amount",
    "strength": "amount",
    "penalty": "fitted",
    "cross_validate": "fitted",
    "seed": "fitted",
}
_FITTING = ("validation", "validation_labels")
_LINES = 5  # of what was left out
_ACROSS = "adjusted by what was fitted on the other four fifths"
_EXAMPLE = "a file of its own with --validation, or rows with split 'validation'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector adjust``."""
    parser.add_argument(
        "scores",
        type=Path,
        metavar="SCORES",
        help="Parquet of scores and labels, as `bisector embed` writes it; or .npz with scores (or logits, "
        "probabilities), labels; or .npy",
    )
    parser.add_argument(
        "--method",
        help="prior: minus tau log of the training frequencies; amount: guided by the information amounts; "
        "fitted: an offset for each class, fitted on validation scores",
    )
    parser.add_argument(
        "--adjustment", type=Path, metavar="FILE", help="instead of --method: an adjustment.json to apply"
    )
    parser.add_argument("--labels", type=Path, help="labels as .npy, for scores as .npy")
    parser.add_argument(
        "--label", metavar="COLUMN", help="column of labels, of --validation too, where it is not found"
    )
    parser.add_argument("--embedding", metavar="COLUMN", help="column of vectors, where it is not found")
    parser.add_argument(
        "--validation",
        type=Path,
        help="scores to fit on, in the same forms; else the rows with split 'validation'",
    )
    parser.add_argument("--validation-labels", type=Path, help="labels as .npy, for --validation as .npy")
    parser.add_argument(
        "--counts",
        type=Path,
        help="training instances of each class, for prior and for the table's groups: JSON, CSV (class, count) "
        "or .npy; else those of split 'train'",
    )
    parser.add_argument(
        "--amounts",
        type=Path,
        help="of amount: information amounts in bits, as JSON, CSV (class, amount) or .npy; else of the embeddings "
        "of split 'train'",
    )
    parser.add_argument("--tau", help="of prior: a number, or fit (default: 1)")
    parser.add_argument("--strength", help="of amount: logits a radian, or fit (default: fit)")
    parser.add_argument("--penalty", help="of fitted: a number, or cross-validate (default: cross-validate)")
    parser.add_argument(
        "--kind",
        help="logits or probabilities (default: what the name of the scores says; if it is only 'scores', "
        "probabilities where every row sums to 1)",
    )
    parser.add_argument(
        "--cross-validate",
        action="store_true",
        default=None,  # as the others have, where they are not given
        help="of fitted: without validation scores, fit on four fifths of the reported rows for the other fifth",
    )
    parser.add_argument("--seed", type=int, help="of fitted: of the folds (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/adjust"), help="folder to write to (default: %(default)s)"
    )


def run(arguments: argparse.Namespace, command: str) -> None:
    """Adjust, print the table, write the files."""
    method = _method(arguments)
    kind = None if arguments.kind is None else require_choice("--kind", arguments.kind, _KINDS)
    require_folder(arguments.out)

    from dataclasses import replace

    from bisector.data.tables.class_values import read_class_values
    from bisector.data.tables.scores import read_scores
    from bisector.measurement.trials import reported_rows, train_counts
    from bisector.report.adjustment import write_adjusted

    table = read_scores(
        arguments.scores,
        labels=arguments.labels,
        kind=kind,
        embedding=arguments.embedding,
        label=arguments.label,
    )
    require(bool(table.scored.any()), "scores", "no row of finite numbers", "at least one")
    if table.columns:
        print(f"bisector adjust: {table.columns}", file=sys.stderr)
    counts = (
        read_class_values(arguments.counts, table.class_names, ["count", "train_count", "instances"])
        if arguments.counts
        else train_counts(table)
    )
    find = None if method is None else _finder(arguments, table, method, counts)
    if method is None or find is None:
        adjustment, fitted_on = _stored(arguments.adjustment, table), None
    elif _fits(arguments, method):
        fitted_on = _to_fit_on(arguments, table, kind, method)
        adjustment = find(*fitted_on)
    else:
        adjustment, fitted_on = find(table.scores[table.scored][:1], None), None
    scores, predictions = _adjusted(arguments, table, adjustment)
    trials = _tried(arguments, table, adjustment, find, fitted_on, predictions)
    adjustment = replace(adjustment, description="; ".join([adjustment.description, *_held_out(trials)]))
    told = f"{adjustment.method}: {adjustment.description}"
    across = f"; the rows that are reported: each {_ACROSS}" if arguments.cross_validate else ""
    say(f"{told}\nScores: {table.told}")
    for note in _notes(table, adjustment.method):
        say(f"Note: {note}")
    if table.labels is None:
        say("\nNo labels: what the adjustment changes in accuracy cannot be told.")
    elif not len(reported_rows(table)):
        say("\nNo rows of split 'test' with scores: what the adjustment changes in accuracy is not told.")
    else:
        say(f"\n{_table(arguments, table, predictions, counts)}")
    _warn(trials)
    arguments.out.mkdir(parents=True, exist_ok=True)
    written = write_adjusted(table, scores, predictions, told + across, arguments.out)
    if method is not None:
        adjustment.save(arguments.out / "adjustment.json")
        say(f"\nOffsets: {arguments.out / 'adjustment.json'}\nAdjusted scores: {written}")
    else:
        say(f"\nAdjusted scores: {written}")


def _method(arguments: argparse.Namespace) -> "Method | None":
    """The method, None for an adjustment that is stored; every option that is given must be one of its own."""
    given = {name for name in (*_METHOD_OF, *_FITTING) if getattr(arguments, name) is not None}
    stored = arguments.adjustment is not None
    if stored:
        require(arguments.method is None, "--method", "--adjustment beside it", "one of the two")
        for name in sorted(given):
            require(False, _option(name), "--adjustment beside it", "none: it is found already")
        return None
    require(
        arguments.method is not None, "--method", "none", f"one of {', '.join(_METHODS)}, or --adjustment"
    )
    method = require_choice("--method", arguments.method, _METHODS)
    for name, owner in _METHOD_OF.items():
        require(
            name not in given or owner == method,
            _option(name),
            f"--method {method} beside it",
            f"--method {owner}",
        )
    if arguments.seed is not None:
        require_integer("--seed", arguments.seed, least=0)
        require(arguments.seed < 2**63, "--seed", arguments.seed, "an integer below 2**63")
    alone = arguments.validation is not None or arguments.validation_labels is None
    require(alone, "--validation-labels", "no --validation beside it", "the scores that they belong to")
    both = arguments.cross_validate and arguments.validation is not None
    require(not both, "--cross-validate", "--validation beside it", "one of the two")
    if arguments.validation is not None and not _fits(arguments, method):
        option = "tau" if method == "prior" else "strength"
        fixed = f"--{option} {getattr(arguments, option) or 1}, which fits nothing"
        require(False, "--validation", fixed, f"none, or --{option} fit")
    return method


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _fits(arguments: argparse.Namespace, method: "Method") -> bool:
    if method == "prior":
        return bool(arguments.tau == "fit")
    return method == "fitted" or arguments.strength in {None, "fit"}


def _stored(path: Path, table: "ScoreTable") -> "Adjustment":
    """An adjustment that was saved, for scores of this kind."""
    from dataclasses import replace

    from bisector.data.tables.scores import require_same_classes
    from bisector.posthoc import Adjustment

    adjustment = Adjustment.load(path)
    names = adjustment.class_names
    classes = len(adjustment.offsets)
    require(
        classes == len(table.class_names),
        "--adjustment",
        f"{classes} classes",
        f"the {len(table.class_names)} of the scores",
    )
    if names:
        require_same_classes("--adjustment", names, table.class_names)
    # Logits and logarithms of probabilities differ by a number of each row, which decides nothing.
    return replace(adjustment, kind=table.kind)


def _finder(
    arguments: argparse.Namespace, table: "ScoreTable", method: "Method", counts: "Tensor | None"
) -> "Callable[..., Adjustment]":
    """The adjustment that is asked for, as a function of the scores and labels to fit on."""
    from functools import partial

    from bisector.data.tables.class_values import read_class_values
    from bisector.measurement.trials import train_amounts
    from bisector.posthoc import adjust

    tau = _number("--tau", arguments.tau or "1", "fit")
    strength = _number("--strength", arguments.strength or "fit", "fit")
    if method == "prior" and counts is None:
        raise ArgumentError(
            "--counts: got none, and no rows with split 'train'; expected a file with the training counts"
        )
    amounts = None
    if method == "amount":
        amounts = (
            read_class_values(arguments.amounts, table.class_names, ["amount", "information"])
            if arguments.amounts
            else train_amounts(table)
        )
    return partial(
        adjust,
        method=method,
        kind=table.kind,
        class_counts=counts,
        amounts=amounts,
        tau=tau,
        strength=strength,
        penalty=_penalty(arguments),
        seed=arguments.seed or 0,
        class_names=table.class_names,
    )


def _tried(
    arguments: argparse.Namespace,
    table: "ScoreTable",
    adjustment: "Adjustment",
    find: "Callable[..., Adjustment] | None",
    fitted_on: "tuple[Tensor, Tensor] | None",
    predictions: "Tensor",
) -> "Trials":
    """What the adjustment does on rows that it was not fitted on: of validation where there are any."""
    from functools import partial

    from bisector.measurement.trials import MOST_CELLS, reported_rows, validation_rows
    from bisector.posthoc.trial import Trials, compare_predictions, try_adjustments

    seed, validation = arguments.seed or 0, validation_rows(table)
    if fitted_on is not None and find is not None and not arguments.cross_validate:
        scores, labels = fitted_on
        if adjustment.method == "fitted" and scores.numel() > MOST_CELLS:
            # To choose it again in every fold would take five times as long as the fit itself.
            find = partial(find, penalty=adjustment.settings["penalty"])
        else:
            find = partial(find, seed=(seed + 1) % 2**63)
        return try_adjustments(
            scores, labels, {adjustment.method: find}, kind=table.kind, on="validation rows", seed=seed
        )
    own = len(validation) > 0 and not arguments.cross_validate and arguments.adjustment is None
    rows = validation if own else reported_rows(table)
    if table.labels is None or not len(rows):
        return Trials()
    on = "validation rows" if own else "rows" if table.splits is None else "test rows"
    return compare_predictions(
        table.scores[rows].argmax(1),
        {adjustment.method: predictions[rows]},
        table.labels[rows],
        len(table.class_names),
        on=on,
        seed=seed,
    )


def _held_out(trials: "Trials") -> list[str]:
    """What the trial found, in words; nothing where there was none."""
    return [
        f"balanced accuracy of {trials.on} held out from it: {100 * trials.balanced_accuracy:.1f} % before, "
        f"{100 * one.balanced_accuracy:.1f} % after, {_points(one.gain)}"
        + (", so it lowers it" if one.gain.value < 0 else "")
        for one in trials.tried
    ]


def _warn(trials: "Trials") -> None:
    """Say, before anything is written, that held-out rows are worse after."""
    for one in trials.tried:
        if one.gain.value < 0:
            lowers = "this lowers" if one.harms else "this may lower"
            print(
                f"bisector adjust: {lowers} the balanced accuracy: {trials.on} held out from it "
                f"{_points(one.gain)}; better leave the scores as they are",
                file=sys.stderr,
            )


def _points(gain: "Estimate") -> str:
    from bisector.measurement.next_step import points

    return points(gain)


def _notes(table: "ScoreTable", method: str) -> list[str]:
    """What is known of the scores that speaks against adjusting them."""
    from bisector.measurement.trials import prior_note

    notes = [f"the scores are adjusted already: {table.adjusted}"] if table.adjusted else []
    if method == "prior" and (note := prior_note(table.head)):
        notes.append(note)
    left_out = () if table.embeddings is None else table.embeddings.left_out
    more = [f"{len(left_out) - _LINES} more are left out"] if len(left_out) > _LINES else []
    return [*notes, *(f"left out: {line}" for line in left_out[:_LINES]), *more]


def _penalty(arguments: argparse.Namespace) -> 'float | Literal["cross-validate"]':
    return _number("--penalty", arguments.penalty or "cross-validate", "cross-validate")


def _adjusted(
    arguments: argparse.Namespace, table: "ScoreTable", adjustment: "Adjustment"
) -> "tuple[Tensor, Tensor]":
    """The scores (N, C) and predictions (N,) after: NaN and -1 in a row without finite scores.

    With --cross-validate those of a reported row are of offsets that have not seen its label.
    """
    import torch

    from bisector.measurement.trials import reported_rows
    from bisector.posthoc import cross_validated_scores

    scored = table.scored
    scores = torch.full_like(table.scores, torch.nan)
    predictions = torch.full((len(table),), -1)
    scores[scored] = adjustment.apply(table.scores[scored])
    predictions[scored] = adjustment.predict(table.scores[scored])
    if arguments.cross_validate:
        assert table.labels is not None  # else there was nothing to fit on
        rows = reported_rows(table)
        penalty = _penalty(arguments)
        logits = cross_validated_scores(
            table.scores[rows],
            table.labels[rows],
            kind=table.kind,
            penalty=None if isinstance(penalty, str) else penalty,
            seed=arguments.seed or 0,
        )
        predictions[rows] = logits.argmax(1)
        scores[rows] = (logits if table.kind == "logits" else logits.softmax(1)).to(scores.dtype)
    return scores, predictions


def _number(name: str, text: str, word: Word) -> float | Word:
    """The number that a text is, or the one word that is legal beside numbers."""
    if text == word:
        return word
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{name}: got {text!r}; expected a number, or {word}") from None


def _to_fit_on(
    arguments: argparse.Namespace, table: "ScoreTable", kind: "Kind | None", method: str
) -> "tuple[Tensor, Tensor]":
    """Scores and labels that are not those reported on."""
    from bisector.data.tables.scores import read_scores, require_same_classes
    from bisector.measurement.trials import reported_rows, validation_rows

    path = arguments.validation
    if path is not None:
        same = path.exists() and path.samefile(arguments.scores) and table.splits is None
        require(not same, "--validation", f"{path}, which is SCORES", "other rows than those reported on")
        given = read_scores(
            path,
            labels=arguments.validation_labels,
            kind=kind,
            embedding=arguments.embedding,
            label=arguments.label,
        )
        require_same_classes("--validation", given.class_names, table.class_names)
        rows = reported_rows(given) if given.splits is None else validation_rows(given)
        require(
            len(rows) > 0, "--validation", f"{path} without rows of split 'validation'", "scores to fit on"
        )
        require(given.kind == table.kind, "--validation", given.kind, f"{table.kind}, as SCORES")
        table = given
    elif arguments.cross_validate:
        rows = reported_rows(table)
    else:
        rows = validation_rows(table)
        needs = (
            "fitted needs"
            if method == "fitted"
            else f"{'tau' if method == 'prior' else 'strength'}=fit needs"
        )
        hint = "; or --cross-validate" if method == "fitted" else "; or a number"
        require(
            len(rows) > 0,
            "--validation",
            f"none, and {needs} rows that are not reported",
            f"{_EXAMPLE}{hint}",
        )
    if table.labels is None:
        raise ArgumentError(
            f"--validation: got {path or arguments.scores} without labels; expected labelled scores"
        )
    return table.scores[rows], table.labels[rows]


def _table(
    arguments: argparse.Namespace, table: "ScoreTable", predictions: "Tensor", counts: "Tensor | None"
) -> str:
    from bisector.measurement.trials import reported_rows
    from bisector.metrics.summary import fairness
    from bisector.report.adjustment import format_adjustment

    assert table.labels is not None
    rows = reported_rows(table)
    labels = table.labels[rows]
    note = f"{len(rows)} rows of {len(table.class_names)} classes"
    without = (len(table) if table.splits is None else len(table.rows_of("test"))) - len(rows)
    note += f", and {without} more without finite scores" if without else ""
    note += f"; each {_ACROSS}" if arguments.cross_validate else ""
    if arguments.adjustment is not None:
        note += "; where the offsets were fitted on these very rows, they flatter"
    before, changed = (
        fairness(verdicts, labels, len(table.class_names), counts)
        for verdicts in (table.scores[rows].argmax(1), predictions[rows])
    )
    return f"{format_adjustment(before, changed)}\n\n{note}"
