"""Labels that are probably wrong, by confident learning."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bisector.data.tables import EmbeddingTable
from bisector.data.tables.columns import Array
from bisector.errors import missing_extra
from bisector.statistics.directions import unit_rows

FOLDS = 5
"""Of the cross-validation: a class with fewer rows is not judged by it."""

MOST_CELLS = 100_000_000
"""Rows times classes, of those that occur, above which labels are not judged: 25 bytes each, 2.5 GB in all."""

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
        notes: what was not judged, and why.
    """

    suspects: list[Suspect]
    judged: int
    agreement: float
    notes: list[str]

    @property
    def trusted(self) -> bool:
        """Whether the judge agrees with so many labels that its doubt in the others counts."""
        return self.agreement >= TRUSTED_AGREEMENT


def find_label_errors(table: EmbeddingTable, held_out: Tensor) -> LabelErrors:  # (H,)
    """Rank the rows whose label confident learning takes for wrong (Northcutt, Jiang and Chuang 2021; cleanlab).

    It needs probabilities from a judge that has not seen the label. On rows held out that is the model, by the
    softmax of its scores. For all other rows, and for those without finite scores, it is a linear discriminant with
    shrunken covariance, fitted to the unit embeddings of four fifths of the rows and asked about the last fifth. It
    has a closed form: time grows with N D (D + C). Embeddings that were trained on the very labels hide some of
    their errors.

    Args:
        table: of embeddings.
        held_out: rows that the model was not trained on.

    Raises:
        MissingExtraError: without cleanlab or scikit-learn.
    """
    own = held_out[:0] if table.scores is None else held_out[table.scores[held_out].isfinite().all(dim=1)]
    rest = torch.ones(len(table), dtype=torch.bool)
    rest[own] = False
    suspects: list[Suspect] = []
    notes: list[str] = []
    judged = agreed = 0
    others, small = _large_enough(rest.nonzero().flatten(), table.labels)
    notes += small
    for judge, rows in (("scores", own), ("embeddings", others)):
        if not len(rows):
            continue
        classes = len(torch.unique(table.labels[rows]))
        if len(rows) * classes > MOST_CELLS:
            notes.append(f"{len(rows)} rows of {classes} classes are too many to judge their labels")
            continue
        if classes < 2:
            continue
        found, agree = _suspects(table, rows, judge)
        suspects += found
        judged += len(rows)
        agreed += agree
    suspects.sort(key=lambda suspect: (suspect.confidence, suspect.row))
    return LabelErrors(suspects, judged, agreed / judged if judged else float("nan"), notes)


def _suspects(table: EmbeddingTable, rows: Tensor, judge: str) -> tuple[list[Suspect], int]:
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise missing_extra("cleanlab", "measure") from None
    classes, labels = torch.unique(table.labels[rows], return_inverse=True)
    given = labels.numpy()
    if judge == "scores":
        assert table.scores is not None
        # Of the classes that occur: cleanlab has no others.
        probabilities = table.scores[rows][:, classes].double().softmax(dim=1).numpy()
    else:
        probabilities = _cross_validated(table.embeddings[rows], given, len(classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        issues = find_label_issues(given, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    choice = probabilities.argmax(axis=1)
    names = [table.class_names[int(c)] for c in classes]
    found = []
    for place in issues:
        row = int(rows[place])
        split = "" if table.splits is None else table.splits[row]
        verdict = (names[given[place]], names[choice[place]], float(probabilities[place, given[place]]))
        found.append(Suspect(row, table.name(row), split, *verdict, judge))
    return found, int((choice == given).sum())


def _large_enough(rows: Tensor, labels: Tensor) -> tuple[Tensor, list[str]]:
    """The rows of the classes that have one for each fold, and a note on the others."""
    counts = torch.bincount(labels[rows])
    kept = counts[labels[rows]] >= FOLDS
    small = int(((counts > 0) & (counts < FOLDS)).sum())
    told = f"{small} class{'es' * (small > 1)} of fewer than {FOLDS} rows: labels not judged"
    return rows[kept], [told] if small else []


def _cross_validated(x: Tensor, labels: Array, classes: int) -> Array:  # (N, D), (N,) -> (N, C)
    try:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.model_selection import StratifiedKFold
    except ImportError:
        raise missing_extra("scikit-learn", "train") from None
    units = unit_rows(x).numpy()
    probabilities = np.zeros((len(x), classes))
    for fitted, asked in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(units, labels):
        judge = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        judge.fit(units[fitted], labels[fitted])
        probabilities[asked] = judge.predict_proba(units[asked])
    return probabilities
