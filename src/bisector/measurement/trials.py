"""Which adjustments stored scores could have, and what each gains on rows that it was not fitted on."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bisector.data.tables.scores import AnyScores, ScoreTable
from bisector.errors import ArgumentError
from bisector.information.geometry import ClassGeometry
from bisector.information.meter import InformationMeter
from bisector.posthoc import adjust, embedding_scale
from bisector.posthoc.adjustment import logits_of
from bisector.posthoc.geometry_fit import layer_penalty
from bisector.posthoc.trial import Candidate, Trials, try_adjustments
from bisector.statistics.bootstrap import FEWEST_ROWS

MOST_CELLS = 2**18
"""Rows times classes above which `measure` does not cross-validate an offset for each class: it takes minutes."""

NOT_STREAMED = "The table was streamed; --engine memory tries every adjustment."
"""Why a streamed measurement tries no adjustment."""


def reported_rows(table: AnyScores) -> Tensor:  # (M,)
    """The rows that an adjustment is reported on: of split "test", or of all in a table without splits.

    Those with scores; where the table has labels, those with one.
    """
    return _usable(table, table.rows_of("test") if table.has_splits else torch.arange(len(table)))


def validation_rows(table: AnyScores) -> Tensor:  # (M,)
    """The rows to fit on: of split "validation", with scores and, where the table has labels, with one."""
    return _usable(table, table.rows_of("validation"))


def train_counts(table: AnyScores) -> Tensor | None:  # (C,)
    """The labelled rows of split "train" in every class, float64; None where there are none."""
    rows = table.rows_of("train")
    if table.labels is None or not bool((table.labels[rows] >= 0).any()):
        return None
    labels = table.labels[rows]
    return torch.bincount(labels[labels >= 0], minlength=len(table.class_names)).double()


def train_amounts(table: AnyScores) -> Tensor:  # (C,)
    """The information amounts of the embeddings of split "train", in bits.

    Raises:
        ArgumentError: there are none.
    """
    if not table.dim or not len(table.rows_of("train")):
        raise ArgumentError(
            "--amounts: got none, and no embeddings of split 'train'; expected a file with the information amounts"
        )
    return _observed(table, "unit").compute(ranks=False).amount


def train_rows(table: AnyScores) -> tuple[Tensor, Tensor] | None:  # (M, D), (M,)
    """The embeddings and labels of split "train"; None where there are none, or no class has two."""
    if not _has_train_pair(table):
        return None
    vectors, labels = zip(*table.train_blocks(), strict=True)
    return torch.cat(vectors), torch.cat(labels)


def train_geometry(
    table: AnyScores, rows: Tensor | None = None, scale: str = "auto", **options: Any
) -> ClassGeometry | None:
    """The geometry of the embeddings of split "train"; None where there are none, or no class has two.

    Args:
        table: of scores and embeddings.
        rows: (M,) whose scores tell the scale of the embeddings, where it is "auto".
        scale: of the embeddings.
        options: of `ClassGeometry`.

    Raises:
        ArgumentError: they have none.
    """
    if not _has_train_pair(table):
        return None
    if scale == "auto":
        assert rows is not None
        used = table.take(rows)
        assert used.vectors is not None
        scale = embedding_scale(logits_of("scores", used.scores, used.kind), used.vectors)
    return ClassGeometry(_observed(table, scale), **options)


def _has_train_pair(table: AnyScores) -> bool:
    """Whether there are embeddings of split "train", of one class two."""
    counts = train_counts(table)
    return table.dim > 0 and counts is not None and bool(counts.max() > 1)


def _observed(table: AnyScores, scale: str) -> InformationMeter:
    """What the embeddings of split "train" hold, block by block."""
    meter = InformationMeter(len(table.class_names), table.dim, embeddings=scale)
    for vectors, labels in table.train_blocks():
        meter.update(vectors, labels)
    return meter


def prior_note(head: Mapping[str, Any]) -> str:
    """That the head which made scores was trained with the prior; empty where it was not, or nobody says.

    >>> prior_note({"name": "logit-adjusted", "tau": 1.0})
    'The head logit-adjusted was trained with the prior (tau = 1): --method prior would count it a second time.'
    """
    tau, spec = head.get("tau"), head.get("name")
    if isinstance(tau, bool) or not isinstance(tau, (int, float)) or not tau:
        return ""
    name = f"The head {spec}" if isinstance(spec, str) and spec else "The head"
    return f"{name} was trained with the prior (tau = {tau:g}): --method prior would count it a second time."


def try_all(
    table: ScoreTable, amounts: Callable[[ScoreTable], Tensor] = train_amounts, *, seed: int = 0
) -> Trials:
    """Try every adjustment that `bisector adjust` has a method for, as it would be found for this table.

    On the validation rows, where there are any: the test rows are never asked, so that what is reported on them
    stays honest. Else on the test rows, or in a table without splits on all rows; there only what needs no rows of
    its own is tried. The names of the trials are what follows `--method`.

    Args:
        table: of scores and labels.
        amounts: gives those of the classes, in bits.
        seed: of the folds and of the bootstrap.
    """
    decision = table.head.get("decision")
    if table.adjusted or decision:
        adjusted = f"The scores are adjusted already: {table.adjusted}."
        by = f"The model does not decide by its scores alone, but by {decision}."
        return Trials(not_tried=(adjusted if table.adjusted else by,))
    validation = validation_rows(table)
    rows = validation if len(validation) else reported_rows(table)
    if table.labels is None or len(rows) < FEWEST_ROWS:
        few = f"{len(rows)} labelled rows with scores that were held out are too few: {FEWEST_ROWS} at least."
        return Trials(not_tried=(few,))
    found: dict[str, Candidate] = {}
    failed: list[str] = []
    own = len(validation) > 0
    cells = len(rows) * len(table.class_names)
    counts = train_counts(table)
    if counts is None:
        failed.append("prior: there are no training rows to count.")
    else:
        found["prior"] = adjust(torch.zeros(1, len(counts)), method="prior", class_counts=counts)
        if own:
            found["prior --tau fit"] = partial(adjust, method="prior", class_counts=counts, tau="fit")
    if own:
        try:
            found["amount"] = partial(adjust, method="amount", amounts=amounts(table))
        except ArgumentError as error:
            failed.append(f"amount: {error}")
    vectors = None if table.vectors is None else table.vectors[rows]
    if own and vectors is not None:
        try:
            geometry, own_seed = train_geometry(table, rows), (seed + 1) % 2**63
            logits, labels = logits_of("scores", table.scores[rows], table.kind), table.labels[rows]
            scale = embedding_scale(logits, vectors) if geometry is None else geometry.scale
            found["geometry"] = partial(
                adjust,
                method="geometry",
                geometry=geometry,
                class_counts=counts,
                scale=scale,
                **_layer(logits, labels, vectors, scale=scale, seed=own_seed),
                seed=own_seed,
            )
        except ArgumentError as error:
            failed.append(f"geometry: {error}")
    elif own:
        failed.append("geometry: there are no embeddings.")
    if cells <= MOST_CELLS:
        found["fitted" if own else "fitted --cross-validate"] = partial(
            adjust,
            method="fitted",
            seed=(seed + 1) % 2**63,  # as `cross_validated_scores` has it
        )
    else:
        many = f"{len(rows):,} rows of {len(table.class_names):,} classes"
        failed.append(f"fitted: {many} take minutes; `bisector adjust` tries it.")
    on = (
        "validation rows"
        if own
        else "rows"
        if table.splits is None
        else "test rows, for want of validation rows"
    )
    scores, labels = table.scores[rows], table.labels[rows]
    tried = try_adjustments(scores, labels, found, vectors, kind=table.kind, on=on, seed=seed)
    return replace(tried, not_tried=(*failed, *tried.not_tried))


def _layer(logits: Tensor, labels: Tensor, vectors: Tensor, **how: Any) -> dict[str, Any]:
    """Options of the layer that is trained again: its penalty, chosen once; no layer where that takes minutes."""
    if logits.numel() > MOST_CELLS:
        return {"layer": False}
    return {"penalty": layer_penalty(logits, labels, vectors, **how)}


def _usable(table: AnyScores, rows: Tensor) -> Tensor:
    there = table.scored if table.labels is None else table.scored & (table.labels >= 0)
    return rows[there[rows]]
