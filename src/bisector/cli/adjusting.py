"""The work of `bisector adjust`, with the imports that its help does without."""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from bisector.cli.adjust import OF_EMBEDDINGS, fits_something
from bisector.cli.output import say, tell
from bisector.data.tables.class_values import read_class_values
from bisector.data.tables.scores import AnyScores, ScoreTable, open_scores, require_same_classes
from bisector.errors import ArgumentError, require
from bisector.information.geometry import ClassGeometry
from bisector.measurement.next_step import before_and_after, points
from bisector.measurement.trials import (
    MOST_CELLS,
    prior_note,
    reported_rows,
    train_amounts,
    train_counts,
    train_geometry,
    train_rows,
    validation_rows,
)
from bisector.metrics.summary import fairness, fairness_changes
from bisector.posthoc import (
    Adjustment,
    BaseAdjustment,
    GeometryAdjustment,
    adjust,
    embedding_scale,
    load_adjustment,
)
from bisector.posthoc.adjustment import logits_of
from bisector.posthoc.fit import cross_validated_logits
from bisector.posthoc.trial import Trials, compare_predictions, try_adjustments
from bisector.report.adjustment import changed_classes, format_adjustment, write_adjusted
from bisector.statistics.bootstrap import FEWEST_ROWS

Word = TypeVar("Word", Literal["fit"], Literal["cross-validate"], Literal["auto"])

_LINES = 5  # of what was left out
_LEAST = 20_000  # rows by which the scale of embeddings or a last layer is found, where nothing is fitted
_KEPT = 2**25  # adjusted scores that are kept from the table to the file, else they are found twice
_FACTORS = 2**32  # bytes of factors of covariances that are kept, where those of all classes are more
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
        require(len(table.first(1)) > 0, "scores", "no row of finite numbers", "at least one")
        names = ["count", "train_count", "instances"]
        given = arguments.counts
        self.counts = read_class_values(given, table.class_names, names) if given else train_counts(table)

    def run(self) -> dict[str, Any]:
        """Adjust, print the table, write the files; return what was found."""
        table, out = self.table, self.arguments.out
        find: Callable[..., BaseAdjustment] | None = None
        fitted_on: ScoreTable | None = None
        if self.arguments.adjustment is not None:
            adjustment = self._stored()
        else:
            if fits_something(self.arguments):
                fitted_on = self._to_fit_on()
            adjustment, find = self._found(self._some_rows() if fitted_on is None else fitted_on)
        tell("adjust", table.columns)  # once something is found: a mistake stays one line
        decided = self._decide(adjustment, find, fitted_on)
        trials = self._try(adjustment, find, fitted_on, decided.predictions)
        find = fitted_on = None  # they hold much, and all rows are to be read
        stored = self.arguments.adjustment is not None  # who knows what rows it was fitted on
        tried_on = f"{trials.on}{' held out from it' * (not stored)}"
        told = "; ".join([adjustment.description, *_tried(trials, tried_on)])
        adjustment = replace(adjustment, description=told)  # type: ignore[type-var]
        told = f"{adjustment.method}: {told}"
        say(f"{told}\nScores: {table.told}")
        if isinstance(adjustment, GeometryAdjustment):
            say(f"Fitted: {adjustment.meaning}")
        for note in _notes(table, adjustment.method):
            say(f"Note: {note}")
        comparison, told_of_it = self._compared(decided.predictions)
        say(f"\n{told_of_it}")
        for one in trials.tried:  # before anything is written
            if one.gain.value < 0:
                lowers = "this lowers" if one.harms else "this may lower"
                found = f"{lowers} the balanced accuracy: {tried_on} {points(one.gain)}"
                tell("adjust", f"{found}; better leave the scores as they are")
        out.mkdir(parents=True, exist_ok=True)
        across = f"; the rows that are reported: each {_ACROSS}" * bool(self.arguments.cross_validate)
        blocks = self._adjusted(adjustment, decided)
        scores_file = write_adjusted(table, blocks, told + across, out)
        written, file = [f"Adjusted scores: {scores_file}"], self.arguments.adjustment
        if self.arguments.adjustment is None:
            offsets = isinstance(adjustment, Adjustment)
            file = out / ("adjustment.json" if offsets else "adjustment.safetensors")
            adjustment.save(file)
            written.insert(0, f"{'Offsets' if offsets else 'Adjustment'}: {file}")
        say("\n" + "\n".join(written))
        return {
            "method": adjustment.method,
            "description": adjustment.description,
            "settings": adjustment.settings,
            **comparison,
            "adjustment": str(file),
            "scores": str(scores_file),
        }

    def _read(self, path: object, labels: object) -> AnyScores:
        given = self.arguments
        how = {"kind": given.kind, "embedding": given.embedding, "label": given.label}
        return open_scores(path, labels=labels, **how)  # type: ignore[arg-type]

    def _stored(self) -> BaseAdjustment:
        """The adjustment that was saved, for scores of this kind."""
        adjustment = load_adjustment(self.arguments.adjustment)
        classes, own = adjustment.num_classes, self.table.class_names
        expected = f"the {len(own)} of the scores"
        require(classes == len(own), "--adjustment", f"{classes} classes", expected)
        if adjustment.class_names:
            require_same_classes("--adjustment", adjustment.class_names, own)
        if adjustment.needs_embeddings and not self.table.dim:
            got = f"one that needs embeddings, and {self.arguments.scores} without them"
            raise ArgumentError(f"--adjustment: got {got}; expected scores and embeddings")
        # Logits and logarithms of probabilities differ by a number of each row, which decides nothing.
        return replace(adjustment, kind=self.table.kind)  # type: ignore[type-var]

    def _found(self, used: ScoreTable) -> tuple[BaseAdjustment, Callable[..., BaseAdjustment]]:
        """The adjustment that is found on these rows, and how others are found."""
        find = self._find(used)
        return find(used.scores, used.labels, embeddings=used.vectors), find

    def _find(self, rows: ScoreTable) -> Callable[..., BaseAdjustment]:
        """The method that is asked for, as a function of scores, labels and embeddings to fit on.

        Args:
            rows: whose scores tell the scale of the embeddings.
        """
        given, table, method = self.arguments, self.table, self.arguments.method
        options: dict[str, Any] = {"kind": table.kind, "class_names": table.class_names}
        options["class_counts"] = self.counts
        if method in {"fitted", "geometry", "auto", "refit"}:
            options["seed"] = self.seed
        if given.tau or method == "prior":
            options["tau"] = _number("--tau", given.tau or "1", "fit")
        if method == "prior" and self.counts is None:
            raise ArgumentError(
                "--counts: got none, and no rows with split 'train'; expected a file with the training counts"
            )
        if method in {"fitted", "auto"}:
            options["penalty"] = self.penalty
        if method == "amount":
            options["strength"] = _number("--strength", given.strength or "fit", "fit")
            names = ["amount", "information"]
            from_file = read_class_values(given.amounts, table.class_names, names) if given.amounts else None
            options["amounts"] = train_amounts(table) if from_file is None else from_file
        if method in OF_EMBEDDINGS and not (method == "auto" and rows.vectors is None):
            options |= self._of_embeddings(rows)
        return partial(adjust, method=method, **options)

    def _of_embeddings(self, rows: ScoreTable) -> dict[str, Any]:
        """What only methods that look at embeddings are given."""
        given, method = self.arguments, self.arguments.method
        if rows.vectors is None:
            got = f"{given.validation or given.scores} without them"
            raise ArgumentError(f"embeddings: got {got}; expected some, for --method {method}")
        scale = given.scale or "auto"
        if scale == "auto":
            scale = embedding_scale(logits_of("scores", rows.scores, self.table.kind), rows.vectors)
        options: dict[str, Any] = {"scale": scale}
        if given.moments:
            options["moments"] = given.moments
        if method in {"geometry", "auto"}:
            options["kappa"] = (
                math.inf if given.kappa == "inf" else _number("--kappa", given.kappa or "auto", "auto")
            )
            options["k"] = None if given.top_k == "all" else _count("--top-k", given.top_k or "32")
        if method == "tau-norm":
            return options
        if method == "refit":
            return options | {"train": train_rows(self.table)}
        geometry: ClassGeometry | None
        if given.geometry is not None:
            geometry = ClassGeometry.load(given.geometry)
            classes, own = geometry.num_classes, len(self.table.class_names)
            require(classes == own, "--geometry", f"{classes} classes", f"the {own} of the scores")
        else:
            full = 8 * len(self.table.class_names) * self.table.dim**2
            budget = _FACTORS if full > _FACTORS else None
            geometry = train_geometry(self.table, scale=scale, memory_budget=budget)
        needs = method in {"nearest-mean", "lda"} or given.moments in {"train", "both"}
        if needs and geometry is None:
            got = "none, and no embeddings with split 'train'"
            raise ArgumentError(f"--geometry: got {got}; expected the training rows' geometry")
        return options | {"geometry": geometry}

    def _some_rows(self) -> ScoreTable:
        """Rows to which a method that fits nothing looks for the classes, the scale or the layer alone."""
        many = self.table.dim and self.arguments.method in OF_EMBEDDINGS
        return replace(self.table.first(_LEAST if many else 1), labels=None)

    def _to_fit_on(self) -> ScoreTable:
        """Rows that are not those reported on."""
        given, table, path = self.arguments, self.table, self.arguments.validation
        if path is not None:
            same = path.exists() and path.samefile(given.scores) and not table.has_splits
            require(not same, "--validation", f"{path}, which is SCORES", "other rows than those reported on")
            other = self._read(path, given.validation_labels)
            require_same_classes("--validation", other.class_names, table.class_names)
            rows = validation_rows(other) if other.has_splits else reported_rows(other)
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
                "tau-norm": ("tau=fit", "a number"),
            }.get(given.method, (given.method, "--cross-validate"))
            got = f"none, and {needs} needs rows that are not reported"
            expected = f"a file of its own with --validation, or rows with split 'validation'; or {hint}"
            require(len(rows) > 0, "--validation", got, expected)
        if table.labels is None:
            got = f"{path or given.scores} without labels"
            raise ArgumentError(f"--validation: got {got}; expected labelled scores")
        return table.take(rows)

    def _decide(
        self,
        adjustment: BaseAdjustment,
        find: Callable[..., BaseAdjustment] | None,
        fitted_on: ScoreTable | None,
    ) -> "_Decided":
        """The predictions of the rows that are told of, and their scores where these are few.

        With --cross-validate those of a reported row are of an adjustment that has not seen its label.
        """
        table = self.table
        predictions = torch.full((len(table),), -1)
        if self.arguments.cross_validate:
            assert find is not None
            assert fitted_on is not None  # the reported rows
            assert fitted_on.labels is not None  # else there was nothing to fit on
            rows = reported_rows(table)
            again = partial(find, kind="logits", seed=(self.seed + 1) % 2**63)
            logits = logits_of("scores", fitted_on.scores, table.kind).double()
            logits = cross_validated_logits(
                logits, fitted_on.labels, again, fitted_on.vectors, seed=self.seed
            )
            predictions[rows] = logits.argmax(1)
            scores = logits if table.kind == "logits" else logits.softmax(1)
            return _Decided(predictions, rows, scores.to(fitted_on.scores.dtype))
        told = reported_rows(table)
        if isinstance(table, ScoreTable):
            told = table.scored.nonzero().flatten()
        elif find is not None and fitted_on is None:  # then the trial is on the validation rows
            told = torch.cat([told, validation_rows(table)]).sort().values
        keeps = isinstance(table, ScoreTable) or len(told) * len(table.class_names) <= _KEPT
        held: list[Tensor] = []
        for rows, block in table.blocks(told):
            scores, predictions[rows] = adjustment.apply_and_predict(block.scores, block.vectors)
            if keeps:
                held.append(scores)
        return _Decided(predictions, told, torch.cat(held) if held else None)

    def _adjusted(
        self, adjustment: BaseAdjustment, decided: "_Decided"
    ) -> Iterator[tuple[ScoreTable, Tensor, Tensor]]:
        """Yield blocks of rows with their scores (n, C) and predictions (n,) after; NaN and -1 without scores."""
        for rows, block in self.table.blocks(names=True):
            scores, predictions = torch.full_like(block.scores, torch.nan), decided.predictions[rows]
            left = block.scored
            if decided.scores is not None:
                here = slice(*torch.searchsorted(decided.rows, rows[[0, -1]] + torch.tensor([0, 1])).tolist())
                known = decided.rows[here] - rows[0]
                scores[known], left[known] = decided.scores[here], torch.tensor(False)
            if bool(left.any()):
                vectors = None if block.vectors is None else block.vectors[left]
                scores[left], own = adjustment.apply_and_predict(block.scores[left], vectors)
                # What was told of stays.
                predictions[left] = predictions[left].where(predictions[left] >= 0, own)
            yield block, scores, predictions

    def _try(
        self,
        adjustment: BaseAdjustment,
        find: Callable[..., BaseAdjustment] | None,
        fitted_on: ScoreTable | None,
        predictions: Tensor,
    ) -> Trials:
        """What the adjustment does on rows that it was not fitted on: of validation where there are any.

        Of "auto" the method that was chosen is tried.
        """
        table, seed, across = self.table, self.seed, self.arguments.cross_validate
        if find is not None and fitted_on is not None and not across:
            assert fitted_on.labels is not None
            if adjustment.method == "none":
                return Trials()
            many = fitted_on.scores.numel() > MOST_CELLS
            again = partial(find, kind="logits", **_chosen(adjustment, many, (seed + 1) % 2**63))
            candidates, on = {adjustment.method: again}, "validation rows"
            return try_adjustments(
                fitted_on.scores,
                fitted_on.labels,
                candidates,
                fitted_on.vectors,
                kind=table.kind,
                on=on,
                seed=seed,
            )
        rows, on = validation_rows(table), "validation rows"
        if not len(rows) or across or find is None:
            rows, on = reported_rows(table), "test rows" if table.has_splits else "rows"
        if table.labels is None or not len(rows):
            return Trials()
        before, after = table.predictions_of(rows), {adjustment.method: predictions[rows]}
        return compare_predictions(
            before, after, table.labels[rows], len(table.class_names), on=on, seed=seed
        )

    def _compared(self, predictions: Tensor) -> tuple[dict[str, Any], str]:
        """What changes on the reported rows, as numbers and as a table, and what these rows are."""
        table, rows, classes = self.table, reported_rows(self.table), len(self.table.class_names)
        if table.labels is None:
            return {}, "No labels: what the adjustment changes in accuracy cannot be told."
        if not len(rows):
            return (
                {},
                "No rows of split 'test' with scores: what the adjustment changes in accuracy is not told.",
            )
        without = (len(table.rows_of("test")) if table.has_splits else len(table)) - len(rows)
        note = f"{len(rows)} rows of {classes} classes"
        note += f", and {without} more without finite scores" * bool(without)
        note += f"; each {_ACROSS}" * bool(self.arguments.cross_validate)
        if self.arguments.adjustment is not None:
            note += "; where it was fitted on these very rows, they flatter"
        old, new, labels = table.predictions_of(rows), predictions[rows], table.labels[rows]
        before, after = (fairness(predicted, labels, classes, self.counts) for predicted in (old, new))
        changes = fairness_changes(old, new, labels, classes, self.counts, seed=self.seed)
        numbers = {"rows": len(rows), "before": before, "after": after, "changes": changes}
        moved = changed_classes(table.class_names, old, new, labels)
        return numbers, "\n\n".join(filter(None, [format_adjustment(before, after, changes), moved, note]))


@dataclass(frozen=True)
class _Decided:
    """What an adjustment makes of rows before anything is written."""

    predictions: Tensor  # (N,), -1 where nothing was asked
    rows: Tensor  # (M,) that were asked for, ascending
    scores: Tensor | None = None  # (M, C) of these rows, where they are kept


def _chosen(adjustment: BaseAdjustment, many: bool, seed: int) -> dict[str, Any]:
    """What cross-validation chose and a trial keeps: method, penalty of a layer, of many rows all that takes long.

    To choose it again in every fold would take five times as long as the fit itself.
    """
    found: dict[str, Any] = {"method": adjustment.method}
    if adjustment.method in {"fitted", "geometry", "refit"}:
        found["seed"] = seed
    if adjustment.method == "prior":
        found["tau"] = "fit"
    if isinstance(adjustment, GeometryAdjustment):
        if "penalty" in adjustment.settings:
            found["penalty"] = adjustment.settings["penalty"]
        if many:
            found |= {"moments": adjustment.moments, "kappa": adjustment.geometry.kappa}
    elif many and adjustment.method == "fitted":
        found["penalty"] = adjustment.settings["penalty"]
    return found


def _tried(trials: Trials, on: str) -> list[str]:
    """What the trial found, in words; nothing where there was none."""
    return [
        before_and_after(trials, one, on)
        + f" (fewer than {FEWEST_ROWS} rows: too few to tell)" * (trials.rows < FEWEST_ROWS)
        for one in trials.tried
    ]


def _notes(table: AnyScores, method: str) -> list[str]:
    """What is known of the scores that speaks against adjusting them."""
    notes = [f"the scores are adjusted already: {table.adjusted}"] if table.adjusted else []
    notes += filter(None, [prior_note(table.head) if method == "prior" else ""])
    if decision := table.head.get("decision"):
        notes.append(f"the run decides by {decision} already; before and after are of its scores alone")
    more = len(table.left_out) - _LINES
    notes += [f"left out: {line}" for line in table.left_out[:_LINES]]
    return [*notes, *[f"{more} more are left out"] * (more > 0)]


def _count(name: str, text: str) -> int:
    """The number of classes that a text is."""
    require(
        text.isascii() and text.isdigit() and int(text) > 0, name, repr(text), "an integer from 1, or all"
    )
    return int(text)


def _number(name: str, text: str, word: Word) -> float | Word:
    """The number that a text is, or the one word that is legal beside numbers."""
    if text == word:
        return word
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{name}: got {text!r}; expected a number, or {word}") from None
