"""Labels that are probably wrong, by confident learning."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from bisector.data.tables import EmbeddingTable
from bisector.data.tables.columns import Array
from bisector.errors import missing_extra
from bisector.measurement.probe import FOLDS, Probe, cross_validated, discriminant, units

MOST_CELLS = 100_000_000
"""Rows times classes, of those that occur, above which labels are not judged: 25 bytes each, 2.5 GB in all."""

STREAMED_CELLS = 20_000_000
"""Rows times classes of those that the judge of a stream learns from, at most: 500 MB while cleanlab ranks them."""

STREAMED_BYTES = 2**26
"""Of what the judge of a stream learns from, at most."""

STREAMED_ROWS = 2**16
"""Rows that the judge of a stream learns from, at most."""

JudgeName: TypeAlias = Literal["scores", "embeddings"]

TRUSTED_AGREEMENT = 0.8
"""Share of labels that the judge must agree with for its doubt in the others to count."""


@dataclass(frozen=True)
class Suspect:
    """A row whose label is probably wrong.

    Args:
        row: in the table.
        name: where the example comes from.
        split: empty without splits.
        label: the class that is given.
        suggested: the class that the judge takes it for.
        confidence: probability that the judge gives to the given label, 0 to 1.
        judge: `"scores"`, the model's own on a row held out, or `"embeddings"`, a classifier cross-validated on
            them.
    """

    row: int
    name: str
    split: str
    label: str
    suggested: str
    confidence: float
    judge: str


@dataclass(frozen=True)
class LabelErrors:
    """Suspected label errors, the most suspect first.

    Args:
        suspects: the rows.
        judged: how many rows were judged.
        agreement: share of them whose label is the judge's first choice; where it is low, the judge is often wrong.
        notes: what was not judged, or is not listed, and why.
    """

    suspects: list[Suspect]
    judged: int
    agreement: float
    notes: list[str]

    @property
    def trusted(self) -> bool:
        """Whether the judge agrees with so many labels that its doubt in the others counts."""
        return self.agreement >= TRUSTED_AGREEMENT


@dataclass(frozen=True, eq=False)
class Judged:
    """What a judge said of some labels: the suspects, as arrays, and how many it was asked about.

    Args:
        judge: that was asked.
        rows: (S,) the suspects, by their number.
        given: (S,) their classes.
        suggested: (S,) those that the judge takes them for.
        confidence: (S,) probability that it gives to the given ones.
        judged: rows that it was asked about.
        agreed: those of them whose label is its first choice.
        classes: (K,) those that it was asked about.
        asked: (K,) rows of each of them.
        right: (K,) those whose label is its first choice.
    """

    judge: JudgeName
    rows: Array  # (S,)
    given: Array  # (S,)
    suggested: Array  # (S,)
    confidence: Array  # (S,)
    judged: int
    agreed: int
    classes: Array  # (K,)
    asked: Array  # (K,)
    right: Array  # (K,)


class Judge:
    """Says which labels are probably wrong: of the rows that it learns from, and then of others.

    Args:
        name: "scores", which are logits of a model that has not seen the rows, or "embeddings".
        rows: (N,) int64 that it learns from, ascending.
        labels: (N,) their classes.
        features: (N, C) scores or (N, D) embeddings.

    Raises:
        MissingExtraError: without cleanlab or scikit-learn.
    """

    def __init__(self, name: JudgeName, rows: Array, labels: Array, features: Array) -> None:
        self.name, self.learned = name, rows
        self.notes: list[str] = []
        if name == "embeddings":
            counts = np.bincount(labels)
            small = int(((counts > 0) & (counts < FOLDS)).sum())
            if small:
                self.notes.append(
                    f"{small} class{'es' * (small > 1)} of fewer than {FOLDS} rows: labels not judged"
                )
                kept = np.flatnonzero(counts[labels] >= FOLDS)
                rows, labels, features = rows[kept], labels[kept], features[kept]
        # cleanlab has no classes but those that occur.
        self.classes, self._labels = np.unique(labels, return_inverse=True)
        self._rows, self._features = rows, features
        self._model: Any = None
        self._thresholds: Array | None = None

    def suspects(self) -> Judged | None:
        """The rows it learns from whose label confident learning prunes; None where there is nothing to judge."""
        classes, rows = len(self.classes), len(self._rows)
        if rows * classes > MOST_CELLS:
            self.notes.append(f"{rows} rows of {classes} classes are too many to judge their labels")
        if classes < 2 or rows * classes > MOST_CELLS:
            return None
        try:
            from cleanlab.count import get_confident_thresholds
            from cleanlab.filter import find_label_issues
        except ImportError:
            raise missing_extra("cleanlab", "measure") from None
        given = self._labels
        if self.name == "scores":
            probabilities = self._probabilities(self._features)
        else:
            probabilities = cross_validated(self._features, given, classes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            issues = find_label_issues(
                given, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
            )
        self._thresholds = get_confident_thresholds(given, probabilities)
        return self._said(self._rows, given, probabilities, issues)

    def ask(self, rows: Array, labels: Array, features: Array) -> Judged | None:
        """Which of other rows are suspect: those that confident learning counts as of another class.

        It is sure of a class whose probability is at least what the rows of that class have on average; a row is
        suspect if the class it is most sure of is not the given one, and neither is the most probable one.
        """
        kept = np.flatnonzero(among(labels, self.classes))
        if self._thresholds is None or not len(kept):
            return None
        rows, given = rows[kept], np.searchsorted(self.classes, labels[kept])
        probabilities = self._probabilities(features[kept])
        sure = np.where(probabilities >= self._thresholds, probabilities, 0)
        choice = sure.argmax(axis=1)
        suspect = (sure.max(axis=1) > 0) & (choice != given) & (probabilities.argmax(axis=1) != given)
        return self._said(rows, given, probabilities, np.flatnonzero(suspect))

    def _probabilities(self, features: Array) -> Array:  # (n, F) -> (n, C)
        if self.name == "scores":
            scores = torch.from_numpy(features)[:, torch.from_numpy(self.classes)]
            return scores.double().softmax(dim=1).numpy()
        if self._model is None:
            self._model = discriminant().fit(units(self._features), self._labels)
        probabilities: Array = self._model.predict_proba(units(features))
        return probabilities

    def _said(self, rows: Array, given: Array, probabilities: Array, issues: Array) -> Judged:
        choice = probabilities.argmax(axis=1)
        return Judged(
            judge=self.name,
            rows=rows[issues],
            given=self.classes[given[issues]],
            suggested=self.classes[choice[issues]],
            confidence=probabilities[issues, given[issues]],
            judged=len(rows),
            agreed=int((choice == given).sum()),
            classes=self.classes,
            asked=np.bincount(given, minlength=len(self.classes)),
            right=np.bincount(given[choice == given], minlength=len(self.classes)),
        )


def find_label_errors(table: EmbeddingTable, held_out: Tensor) -> LabelErrors:  # (H,)
    """Rank the rows whose label is probably wrong, as `judge_labels` finds them.

    Args:
        table: of embeddings.
        held_out: rows that the model was not trained on.

    Raises:
        MissingExtraError: without cleanlab or scikit-learn.
    """
    return label_errors_in(table, *judge_labels(table, held_out))


def judge_labels(table: EmbeddingTable, held_out: Tensor) -> tuple[list[Judged | None], list[str]]:  # (H,)
    """Find the rows whose label confident learning takes for wrong (Northcutt, Jiang and Chuang 2021; cleanlab).

    It needs probabilities from a judge that has not seen the label. On rows held out that is the model, by the
    softmax of its scores. For all other rows, and for those without finite scores, it is a linear discriminant with
    shrunken covariance, fitted to the unit embeddings of four fifths of the rows and asked about the last fifth. It
    has a closed form: time grows with N D (D + C). Embeddings that were trained on the very labels hide some of
    their errors.

    Args:
        table: of embeddings.
        held_out: rows that the model was not trained on.

    Returns:
        What each judge said, and a line for what was not judged.

    Raises:
        MissingExtraError: without cleanlab or scikit-learn.
    """
    own = held_out[:0] if table.scores is None else held_out[table.scores[held_out].isfinite().all(dim=1)]
    rest = torch.ones(len(table), dtype=torch.bool)
    rest[own] = False
    others = rest.nonzero().flatten() if table.embeddings.shape[1] else own[:0]  # no judge without embeddings
    judges = [
        Judge("embeddings", others.numpy(), table.labels[others].numpy(), table.embeddings[others].numpy())
    ]
    if table.scores is not None:
        judges.insert(0, Judge("scores", own.numpy(), table.labels[own].numpy(), table.scores[own].numpy()))
    return [judge.suspects() for judge in judges], [note for judge in judges for note in judge.notes]


def label_errors_in(
    table: EmbeddingTable, judged: Sequence[Judged | None], notes: Sequence[str]
) -> LabelErrors:
    """What judges said of the rows of a table in memory, in one list."""
    return label_errors_of(
        judged,
        notes,
        table.class_names,
        names=lambda rows: [table.name(row) for row in rows],
        splits=lambda rows: [""] * len(rows) if table.splits is None else [table.splits[row] for row in rows],
    )


def label_errors_of(
    judged: Sequence[Judged | None],
    notes: Sequence[str],
    class_names: Sequence[str],
    *,
    names: Callable[[list[int]], list[str]],
    splits: Callable[[list[int]], list[str]],
    most: int | None = None,
) -> LabelErrors:
    """What judges said, in one list.

    Args:
        judged: what each said.
        notes: what was not judged.
        class_names: of the C classes.
        names: gives those of some rows, ascending.
        splits: gives those of some rows, ascending, each "" where there are none.
        most: suspects that are listed; None for all.
    """
    said = [one for one in judged if one is not None]
    notes = list(notes)
    total = sum(one.judged for one in said)
    found = [
        (confidence, row, given, suggested, one.judge)
        for one in said
        for confidence, row, given, suggested in zip(
            one.confidence.tolist(), one.rows.tolist(), one.given, one.suggested, strict=True
        )
    ]
    found.sort(key=lambda suspect: suspect[:2])
    if most is not None and len(found) > most:
        notes.append(f"Of {len(found):,} suspected labels the {most:,} most suspect are listed.")
        found = found[:most]
    rows = sorted(row for _, row, *_ in found)
    about = dict(zip(rows, zip(names(rows), splits(rows), strict=True), strict=True))
    suspects = [
        Suspect(row, name, split, class_names[given], class_names[suggested], confidence, judge)
        for confidence, row, given, suggested, judge in found
        for name, split in [about[row]]
    ]
    return LabelErrors(suspects, total, sum(one.agreed for one in said) / total if total else math.nan, notes)


def probe_of(judged: Sequence[Judged | None], num_classes: int) -> Probe | None:
    """What the classifier that judges labels by embeddings says of each class; None where it was not asked.

    Args:
        judged: what each judge said.
        num_classes: C.
    """
    said = [one for one in judged if one is not None and one.judge == "embeddings" and one.judged]
    probed, right = np.zeros(num_classes, dtype=np.int64), np.zeros(num_classes, dtype=np.int64)
    for one in said:
        probed[one.classes] += one.asked
        right[one.classes] += one.right
    return Probe(probed, right) if said else None


def rows_to_learn_from(counts: Array, dim: int, memory_budget: int | None) -> int:  # (C,)
    """Rows of every class that the judge of a stream learns from; 0 where the classes are too many.

    Args:
        counts: of the rows of each class.
        dim: numbers in a row of what it sees.
        memory_budget: bytes, of which it may take a quarter; None for 64 MiB.
    """
    room = STREAMED_BYTES if memory_budget is None else min(STREAMED_BYTES, memory_budget // 4)
    most = min(STREAMED_ROWS, STREAMED_CELLS // len(counts), room // (4 * dim))
    each = most // max(1, int((counts > 0).sum()))
    return each if each >= FOLDS else 0


def among(values: Array, held: Array) -> Array:  # (n,) bool
    """Which values are among those that are held, which ascend and are each there once.

    >>> among(np.array([3, 9, 4]), np.array([1, 3, 4]))
    array([ True, False,  True])
    """
    if not len(held):
        return np.zeros(len(values), dtype=bool)
    found: Array = held[np.searchsorted(held, values).clip(max=len(held) - 1)] == values
    return found
