"""The work of `bisector adjust`, with the imports that its help does without."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor

from bisector.cli.adjust import fits_something
from bisector.cli.output import say
from bisector.data.tables.class_values import read_class_values
from bisector.data.tables.scores import ScoreTable, read_scores, require_same_classes
from bisector.errors import ArgumentError, require
from bisector.measurement.next_step import points
from bisector.measurement.trials import (
    MOST_CELLS,
    prior_note,
    reported_rows,
    train_amounts,
    train_counts,
    validation_rows,
)
from bisector.metrics.summary import fairness
from bisector.posthoc import Adjustment, adjust, cross_validated_scores
from bisector.posthoc.trial import Trials, compare_predictions, try_adjustments
from bisector.report.adjustment import format_adjustment, write_adjusted
from bisector.statistics.bootstrap import FEWEST_ROWS

Word = TypeVar("Word", Literal["fit"], Literal["cross-validate"])

_LINES = 5  # of what was left out
_ACROSS = "adjusted by what was fitted on the other four fifths"


class Adjusting:
    """One run of the command: what is read, the adjustment, and what it does to the rows.

    Args:
        arguments: of the command, checked.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.seed: int = arguments.seed or 0
        self.penalty = _number("--penalty", arguments.penalty or "cross-validate", "cross-validate")
        self.table = table = self._read(arguments.scores, arguments.labels)
        require(bool(table.scored.any()), "scores", "no row of finite numbers", "at least one")
        if table.columns:
            print(f"bisector adjust: {table.columns}", file=sys.stderr)
        names = ["count", "train_count", "instances"]
        given = arguments.counts
        self.counts = read_class_values(given, table.class_names, names) if given else train_counts(table)

    def run(self) -> None:
        """Adjust, print the table, write the files."""
        table, out = self.table, self.arguments.out
        find = fitted_on = None
        if self.arguments.adjustment is not None:
            adjustment = self._stored()
        else:
            find = self._find()
            if fits_something(self.arguments):
                fitted_on = self._to_fit_on()
            adjustment = find(*(fitted_on or (table.scores[table.scored][:1], None)))
        scores, predictions = self._apply(adjustment)
        trials = self._try(adjustment, find, fitted_on, predictions)
        told = "; ".join([adjustment.description, *_held_out(trials)])
        adjustment = replace(adjustment, description=told)
        told = f"{adjustment.method}: {told}"
        say(f"{told}\nScores: {table.told}")
        for note in _notes(table, adjustment.method):
            say(f"Note: {note}")
        say(f"\n{self._compared(predictions)}")
        for one in trials.tried:  # before anything is written
            if one.gain.value < 0:
                lowers = "this lowers" if one.harms else "this may lower"
                print(
                    f"bisector adjust: {lowers} the balanced accuracy: {trials.on} held out from it "
                    f"{points(one.gain)}; better leave the scores as they are",
                    file=sys.stderr,
                )
        out.mkdir(parents=True, exist_ok=True)
        across = f"; the rows that are reported: each {_ACROSS}" * bool(self.arguments.cross_validate)
        written = [f"Adjusted scores: {write_adjusted(table, scores, predictions, told + across, out)}"]
        if find is not None:
            adjustment.save(out / "adjustment.json")
            written.insert(0, f"Offsets: {out / 'adjustment.json'}")
        say("\n" + "\n".join(written))

    def _read(self, path: object, labels: object) -> ScoreTable:
        given = self.arguments
        how = {"kind": given.kind, "embedding": given.embedding, "label": given.label}
        return read_scores(path, labels=labels, **how)  # type: ignore[arg-type]

    def _stored(self) -> Adjustment:
        """The adjustment that was saved, for scores of this kind."""
        adjustment = Adjustment.load(self.arguments.adjustment)
        classes, own = len(adjustment.offsets), self.table.class_names
        expected = f"the {len(own)} of the scores"
        require(classes == len(own), "--adjustment", f"{classes} classes", expected)
        if adjustment.class_names:
            require_same_classes("--adjustment", adjustment.class_names, own)
        # Logits and logarithms of probabilities differ by a number of each row, which decides nothing.
        return replace(adjustment, kind=self.table.kind)

    def _find(self) -> Callable[..., Adjustment]:
        """The method that is asked for, as a function of the scores and labels to fit on."""
        given, table, amounts = self.arguments, self.table, None
        tau = _number("--tau", given.tau or "1", "fit")
        strength = _number("--strength", given.strength or "fit", "fit")
        if given.method == "prior" and self.counts is None:
            raise ArgumentError(
                "--counts: got none, and no rows with split 'train'; expected a file with the training counts"
            )
        if given.method == "amount" and given.amounts:
            amounts = read_class_values(given.amounts, table.class_names, ["amount", "information"])
        elif given.method == "amount":
            amounts = train_amounts(table)
        return partial(
            adjust,
            method=given.method,
            kind=table.kind,
            class_counts=self.counts,
            amounts=amounts,
            tau=tau,
            strength=strength,
            penalty=self.penalty,
            seed=self.seed,
            class_names=table.class_names,
        )

    def _to_fit_on(self) -> tuple[Tensor, Tensor]:
        """Scores and labels that are not those reported on."""
        given, table, path = self.arguments, self.table, self.arguments.validation
        if path is not None:
            same = path.exists() and path.samefile(given.scores) and table.splits is None
            require(not same, "--validation", f"{path}, which is SCORES", "other rows than those reported on")
            other = self._read(path, given.validation_labels)
            require_same_classes("--validation", other.class_names, table.class_names)
            rows = reported_rows(other) if other.splits is None else validation_rows(other)
            got, expected = f"{path} without rows of split 'validation'", "scores to fit on"
            require(len(rows) > 0, "--validation", got, expected)
            require(other.kind == table.kind, "--validation", other.kind, f"{table.kind}, as SCORES")
            table = other
        elif given.cross_validate:
            rows = reported_rows(table)
        else:
            rows = validation_rows(table)
            needs, hint = {
                "prior": ("tau=fit", "a number"),
                "amount": ("strength=fit", "a number"),
                "fitted": ("fitted", "--cross-validate"),
            }[given.method]
            got = f"none, and {needs} needs rows that are not reported"
            expected = f"a file of its own with --validation, or rows with split 'validation'; or {hint}"
            require(len(rows) > 0, "--validation", got, expected)
        if table.labels is None:
            got = f"{path or given.scores} without labels"
            raise ArgumentError(f"--validation: got {got}; expected labelled scores")
        return table.scores[rows], table.labels[rows]

    def _apply(self, adjustment: Adjustment) -> tuple[Tensor, Tensor]:
        """The scores (N, C) and predictions (N,) after: NaN and -1 in a row without finite scores.

        With --cross-validate those of a reported row are of offsets that have not seen its label.
        """
        table, scored = self.table, self.table.scored
        scores = torch.full_like(table.scores, torch.nan)
        predictions = torch.full((len(table),), -1)
        scores[scored] = adjustment.apply(table.scores[scored])
        predictions[scored] = adjustment.predict(table.scores[scored])
        if self.arguments.cross_validate:
            assert table.labels is not None  # else there was nothing to fit on
            rows = reported_rows(table)
            logits = cross_validated_scores(
                table.scores[rows],
                table.labels[rows],
                kind=table.kind,
                penalty=None if isinstance(self.penalty, str) else self.penalty,
                seed=self.seed,
            )
            predictions[rows] = logits.argmax(1)
            scores[rows] = (logits if table.kind == "logits" else logits.softmax(1)).to(scores.dtype)
        return scores, predictions

    def _try(
        self,
        adjustment: Adjustment,
        find: Callable[..., Adjustment] | None,
        fitted_on: tuple[Tensor, Tensor] | None,
        predictions: Tensor,
    ) -> Trials:
        """What the adjustment does on rows that it was not fitted on: of validation where there are any."""
        table, seed, across = self.table, self.seed, self.arguments.cross_validate
        if find is not None and fitted_on is not None and not across:
            scores, labels = fitted_on
            if adjustment.method == "fitted" and scores.numel() > MOST_CELLS:
                # To choose it again in every fold would take five times as long as the fit itself.
                find = partial(find, penalty=adjustment.settings["penalty"])
            else:
                find = partial(find, seed=(seed + 1) % 2**63)
            candidates, on = {adjustment.method: find}, "validation rows"
            return try_adjustments(scores, labels, candidates, kind=table.kind, on=on, seed=seed)
        rows, on = validation_rows(table), "validation rows"
        if not len(rows) or across or find is None:
            rows, on = reported_rows(table), "rows" if table.splits is None else "test rows"
        if table.labels is None or not len(rows):
            return Trials()
        before, after = table.scores[rows].argmax(1), {adjustment.method: predictions[rows]}
        return compare_predictions(
            before, after, table.labels[rows], len(table.class_names), on=on, seed=seed
        )

    def _compared(self, predictions: Tensor) -> str:
        """The table of what changes on the reported rows, and what they are."""
        table, rows, classes = self.table, reported_rows(self.table), len(self.table.class_names)
        if table.labels is None:
            return "No labels: what the adjustment changes in accuracy cannot be told."
        if not len(rows):
            return "No rows of split 'test' with scores: what the adjustment changes in accuracy is not told."
        without = (len(table) if table.splits is None else len(table.rows_of("test"))) - len(rows)
        note = f"{len(rows)} rows of {classes} classes"
        note += f", and {without} more without finite scores" * bool(without)
        note += f"; each {_ACROSS}" * bool(self.arguments.cross_validate)
        if self.arguments.adjustment is not None:
            note += "; where the offsets were fitted on these very rows, they flatter"
        before, after = (
            fairness(predicted, table.labels[rows], classes, self.counts)
            for predicted in (table.scores[rows].argmax(1), predictions[rows])
        )
        return f"{format_adjustment(before, after)}\n\n{note}"


def _held_out(trials: Trials) -> list[str]:
    """What the trial found, in words; nothing where there was none."""
    return [
        f"balanced accuracy of {trials.on} held out from it: {100 * trials.balanced_accuracy:.1f} % before, "
        f"{100 * one.balanced_accuracy:.1f} % after, {points(one.gain)}"
        + ", so it lowers it" * (one.gain.value < 0)
        + f" (fewer than {FEWEST_ROWS} rows: too few to tell)" * (trials.rows < FEWEST_ROWS)
        for one in trials.tried
    ]


def _notes(table: ScoreTable, method: str) -> list[str]:
    """What is known of the scores that speaks against adjusting them."""
    notes = [f"the scores are adjusted already: {table.adjusted}"] if table.adjusted else []
    notes += filter(None, [prior_note(table.head) if method == "prior" else ""])
    left_out = () if table.embeddings is None else table.embeddings.left_out
    more = [f"{len(left_out) - _LINES} more are left out"] if len(left_out) > _LINES else []
    return [*notes, *(f"left out: {line}" for line in left_out[:_LINES]), *more]


def _number(name: str, text: str, word: Word) -> float | Word:
    """The number that a text is, or the one word that is legal beside numbers."""
    if text == word:
        return word
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{name}: got {text!r}; expected a number, or {word}") from None
