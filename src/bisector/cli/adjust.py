"""Move the boundaries of a trained model from its stored scores alone.

Prints accuracy, balanced accuracy, groups, worst class and bias before and after; writes adjustment.json and the
adjusted scores.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from bisector.cli.output import require_folder, say
from bisector.errors import ArgumentError, require, require_choice

if TYPE_CHECKING:
    from torch import Tensor

    from bisector.data.scores import ScoreTable
    from bisector.posthoc.adjustment import Adjustment, Kind
    from bisector.posthoc.dispatch import Method

Word = TypeVar("Word", Literal["fit"], Literal["cross-validate"])
# As in `bisector.posthoc`, which would bring torch.
_METHODS: tuple["Method", ...] = ("prior", "amount", "fitted")
_KINDS: tuple["Kind", ...] = ("logits", "probabilities")
_EXAMPLE = "a file of its own with --validation, or rows with split 'validation'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector adjust``."""
    parser.add_argument(
        "scores",
        type=Path,
        metavar="SCORES",
        help="Parquet that `bisector embed` wrote; or .npz with scores (or logits, probabilities), labels; or .npy",
    )
    parser.add_argument(
        "--method",
        required=True,
        help="prior: minus tau log of the training frequencies; amount: guided by the information amounts; "
        "fitted: an offset for each class, fitted on validation scores",
    )
    parser.add_argument("--labels", type=Path, help="labels as .npy, for scores as .npy")
    parser.add_argument(
        "--validation",
        type=Path,
        help="scores to fit on, in the same forms; else the rows with split 'validation'",
    )
    parser.add_argument("--validation-labels", type=Path, help="labels as .npy, for --validation as .npy")
    parser.add_argument(
        "--counts",
        type=Path,
        help="training instances of each class: JSON, CSV (class, count) or .npy; else those of split 'train'",
    )
    parser.add_argument(
        "--amounts",
        type=Path,
        help="information amounts in bits: JSON, CSV (class, amount) or .npy; else those of the embeddings "
        "of split 'train'",
    )
    parser.add_argument("--tau", default="1", help="of prior: a number, or fit (default: %(default)s)")
    parser.add_argument(
        "--strength", default="fit", help="of amount: logits a radian, or fit (default: %(default)s)"
    )
    parser.add_argument(
        "--penalty",
        default="cross-validate",
        help="of fitted: a number, or cross-validate (default: %(default)s)",
    )
    parser.add_argument(
        "--kind", default=None, help="logits or probabilities, where the name in an .npz or .npy does not say"
    )
    parser.add_argument(
        "--cross-validate",
        action="store_true",
        help="of fitted: without validation scores, fit on four fifths of the reported rows for the other fifth",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the folds (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/adjust"), help="folder to write to (default: %(default)s)"
    )


def run(arguments: argparse.Namespace, command: str) -> None:
    """Adjust, print the table, write the files."""
    method = require_choice("--method", arguments.method, _METHODS)
    kind = None if arguments.kind is None else require_choice("--kind", arguments.kind, _KINDS)
    tau, strength = _number("--tau", arguments.tau, "fit"), _number("--strength", arguments.strength, "fit")
    penalty = _number("--penalty", arguments.penalty, "cross-validate")
    alone = not arguments.cross_validate or method == "fitted"
    require(alone, "--cross-validate", f"--method {method}", "--method fitted")
    require_folder(arguments.out)

    from bisector.data.class_values import read_class_values
    from bisector.data.scores import read_scores
    from bisector.posthoc import adjust

    table = read_scores(arguments.scores, labels=arguments.labels, kind=kind)
    reported = _reported(table)
    fits = method == "fitted" or (tau == "fit" if method == "prior" else strength == "fit")
    scores, labels = _to_fit_on(arguments, table, kind, method) if fits else (table.scores[:1], None)
    counts = (
        read_class_values(arguments.counts, table.class_names, ["count", "train_count", "instances"])
        if arguments.counts
        else _train_counts(table)
    )
    if method == "prior" and counts is None:
        raise ArgumentError(
            "--counts: got none, and no rows with split 'train'; expected a file with the training counts"
        )
    amounts = None
    if method == "amount":
        amounts = (
            read_class_values(arguments.amounts, table.class_names, ["amount", "information"])
            if arguments.amounts
            else _train_amounts(table)
        )
    adjustment = adjust(
        scores,
        labels,
        method=method,
        kind=table.kind,
        class_counts=counts,
        amounts=amounts,
        tau=tau,
        strength=strength,
        penalty=penalty,
        seed=arguments.seed,
        class_names=table.class_names,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    adjustment.save(arguments.out / "adjustment.json")
    written = _write(table, adjustment, arguments.out)
    say(f"{method}: {adjustment.description}\n")
    if table.labels is None:
        say("No labels: what the adjustment changes in accuracy cannot be told.")
    elif not len(reported):
        say("No rows with split 'test': what the adjustment changes in accuracy is not told.")
    else:
        say(_table(arguments, table, reported, adjustment, counts, penalty))
    say(f"\nOffsets: {arguments.out / 'adjustment.json'}\nAdjusted scores: {written}")


def _number(name: str, text: str, word: Word) -> float | Word:
    """The number that a text is, or the one word that is legal beside numbers."""
    if text == word:
        return word
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{name}: got {text!r}; expected a number, or {word}") from None


def _reported(table: "ScoreTable") -> "Tensor":
    """The rows to report on: split 'test', or all of a table without splits."""
    import torch

    return torch.arange(len(table)) if table.splits is None else table.rows_of("test")


def _to_fit_on(
    arguments: argparse.Namespace, table: "ScoreTable", kind: "Kind | None", method: str
) -> "tuple[Tensor, Tensor]":
    """Scores and labels that are not those reported on."""
    from bisector.data.scores import read_scores, require_same_classes

    path = arguments.validation
    if path is not None:
        same = path.exists() and path.samefile(arguments.scores) and table.splits is None
        require(not same, "--validation", f"{path}, which is SCORES", "other rows than those reported on")
        require(not arguments.cross_validate, "--cross-validate", "--validation beside it", "one of the two")
        given = read_scores(path, labels=arguments.validation_labels, kind=kind)
        require_same_classes("--validation", given, table.class_names)
        rows = _reported(given) if given.splits is None else given.rows_of("validation")
        require(
            len(rows) > 0, "--validation", f"{path} without rows of split 'validation'", "scores to fit on"
        )
        require(given.kind == table.kind, "--validation", given.kind, f"{table.kind}, as SCORES")
        table = given
    elif arguments.cross_validate:
        rows = _reported(table)
    else:
        rows = table.rows_of("validation")
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


def _train_counts(table: "ScoreTable") -> "Tensor | None":
    import torch

    rows = table.rows_of("train")
    if table.labels is None or not len(rows):
        return None
    return torch.bincount(table.labels[rows], minlength=len(table.class_names)).double()


def _train_amounts(table: "ScoreTable") -> "Tensor":
    from bisector.information.amount import information_amounts

    rows = table.rows_of("train")
    if table.embeddings is None or not len(rows):
        raise ArgumentError(
            "--amounts: got none, and no embeddings of split 'train'; expected a file with the information amounts"
        )
    embeddings = table.embeddings.embeddings[rows]
    labels = table.embeddings.labels[rows]
    return information_amounts(embeddings, labels, len(table.class_names), embeddings="unit")


def _write(table: "ScoreTable", adjustment: "Adjustment", out: Path) -> Path:
    """The adjusted scores in the form that the scores came in."""
    from dataclasses import replace

    import numpy as np
    from torch.nn.functional import cross_entropy

    from bisector.data.embeddings import write_embeddings

    scores, predictions = adjustment.apply(table.scores), adjustment.predict(table.scores)
    if table.embeddings is not None:
        path = out / "adjusted.parquet"
        losses = cross_entropy(scores, table.embeddings.labels, reduction="none")
        write_embeddings(
            replace(table.embeddings, scores=scores, predictions=predictions, losses=losses), path
        )
        return path
    path = out / "adjusted.npz"
    arrays: dict[str, Any] = {
        "logits" if table.kind == "logits" else "probabilities": scores.numpy(),
        "predictions": predictions.numpy(),
        "class_names": np.array(table.class_names),
    }
    if table.labels is not None:
        arrays["labels"] = table.labels.numpy()
    if table.splits is not None:
        arrays["splits"] = np.array(table.splits)
    np.savez(path, **arrays)
    return path


def _table(
    arguments: argparse.Namespace,
    table: "ScoreTable",
    rows: "Tensor",
    adjustment: "Adjustment",
    counts: "Tensor | None",
    penalty: float | str,
) -> str:
    from bisector.posthoc import cross_validated_predictions
    from bisector.report.adjustment import fairness, format_adjustment

    assert table.labels is not None
    scores, labels = table.scores[rows], table.labels[rows]
    after = adjustment.predict(scores)
    note = f"{len(rows)} rows of {len(table.class_names)} classes"
    if arguments.cross_validate:
        after = cross_validated_predictions(
            scores,
            labels,
            kind=table.kind,
            penalty=None if isinstance(penalty, str) else penalty,
            seed=arguments.seed,
        )
        note += "; each adjusted by what was fitted on the other four fifths"
    before, changed = (
        fairness(predictions, labels, len(table.class_names), counts)
        for predictions in (scores.argmax(1), after)
    )
    return f"{format_adjustment(before, changed)}\n\n{note}"
