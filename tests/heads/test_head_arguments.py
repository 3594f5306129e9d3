import inspect
import math
from typing import get_type_hints

import pytest
import torch

from bisector.engine.budget import MemoryBudget
from bisector.errors import ArgumentError
from bisector.heads import (
    C2AM,
    HEAD_NAMES,
    HEADS,
    IGAM,
    LDAM,
    AMSoftmax,
    ArcFace,
    CombinedMargin,
    CosineHead,
    CosineOptions,
    EnhancedAMSoftmax,
    Head,
    HeadOptions,
    LinearSoftmax,
    LogitAdjusted,
    NormalizedSoftmax,
    Seesaw,
)
from bisector.heads._names import NOT_AS_TEXT, head_options
from bisector.information.meter import InformationMeter

D, C = 4, 3
NAN, INF = math.nan, math.inf

EVERY_HEAD = [
    ({"in_features": 0}, ["in_features", "0", "at least 1"]),
    ({"num_classes": 1}, ["num_classes", "1", "at least 2"]),
    ({"sub_centers": 0}, ["sub_centers", "0", "at least 1"]),
    ({"reduction": "average"}, ["reduction", "'average'", "mean, sum, none"]),
    ({"reduction": "meann"}, ["reduction", "'meann'", "did you mean 'mean'"]),
    ({"backend": "denze"}, ["backend", "'denze'", "did you mean 'dense'"]),
    ({"label_smoothing": -0.1}, ["label_smoothing", "-0.1", "at least 0", "at most 1"]),
    ({"tau": NAN}, ["tau", "nan", "finite"]),
    ({"class_counts": [1, 2]}, ["class_counts", "(2,)", "(3,)"]),
    ({"class_counts": [1, NAN, 2]}, ["class_counts", "nan", "class 1", "at least 0"]),
    ({"class_counts": [1, 2, -5]}, ["class_counts", "-5", "class 2", "at least 0"]),
    ({"sparse": "false"}, ["sparse", "'false'", "True or False"]),
    ({"background": C}, ["background", "3", "0 to 2"]),
    ({"budget": 64}, ["budget", "64", "MemoryBudget"]),
    ({"weight": [1.0, 2.0]}, ["weight", "(2,)", "(3,)"]),
    ({"weight": torch.tensor([1.0, INF, 1.0])}, ["weight", "inf", "class 1", "finite"]),
]
COSINE_HEADS = [
    ({"scale": 0}, ["scale", "0", "above 0"]),
    ({"scale": -3.0}, ["scale", "-3.0", "above 0"]),
    ({"scale": NAN}, ["scale", "nan", "above 0"]),
    ({"scale": INF}, ["scale", "inf", "above 0"]),
    ({"scale": "atuo"}, ["scale", "'atuo'", "above 0", "'auto'"]),
]
ITS_OWN = [
    (LinearSoftmax, {"tau": 1.0}, ["tau", "1.0 without class_counts", "class_counts"]),
    (LogitAdjusted, {"class_counts": None}, ["class_counts", "None", "instances of each class"]),
    (LDAM, {"class_counts": None}, ["class_counts", "None", "instances of each class"]),
    (LDAM, {"max_margin": -1.0}, ["max_margin", "-1.0", "at least 0"]),
    (LDAM, {"max_margin": INF}, ["max_margin", "inf", "finite"]),
    (AMSoftmax, {"margin": NAN}, ["margin", "nan", "finite"]),
    (AMSoftmax, {"margin": torch.zeros(2)}, ["margin", "(2,)", "(3,)"]),
    (ArcFace, {"margin": torch.tensor([0.1, INF, 0.1])}, ["margin", "inf", "finite"]),
    (ArcFace, {"margin": torch.zeros(3, 1)}, ["margin", "(3, 1)", "(3,)"]),
    (CombinedMargin, {"m1": 0.0}, ["m1", "0.0", "above 0"]),
    (CombinedMargin, {"m2": NAN}, ["m2", "nan", "finite"]),
    (CombinedMargin, {"m3": INF}, ["m3", "inf", "finite"]),
    (C2AM, {"alpha": -0.5}, ["alpha", "-0.5", "at least 0"]),
    (C2AM, {"direction": "pres"}, ["direction", "'pres'", "did you mean 'press'"]),
    (EnhancedAMSoftmax, {"form": "note-book"}, ["form", "'note-book'", "did you mean 'notebook'", "printed"]),
    (EnhancedAMSoftmax, {"margin": -0.1}, ["margin", "-0.1", "at least 0"]),
    (EnhancedAMSoftmax, {"divisor": 0.0}, ["divisor", "0.0", "above 0"]),
    (EnhancedAMSoftmax, {"competitor_margin": NAN}, ["competitor_margin", "nan", "finite"]),
    (EnhancedAMSoftmax, {"row_loss": "logg"}, ["row_loss", "'logg'", "did you mean 'log'", "probability"]),
    (
        EnhancedAMSoftmax,
        {"form": "printed", "label_smoothing": 0.1},
        ["label_smoothing", "0.1", "row_loss='log'"],
    ),
    (
        EnhancedAMSoftmax,
        {"form": "notebook", "row_loss": "probability"},
        ["added_target", "0.3", "row_loss='log'"],
    ),
    (IGAM, {"preset": "papre"}, ["preset", "'papre'", "did you mean 'paper'", "recommended"]),
    (IGAM, {"normalize": "summ"}, ["normalize", "'summ'", "did you mean 'sum'", "mean"]),
    (IGAM, {"direction": "sideways"}, ["direction", "'sideways'", "relax, press"]),
    (IGAM, {"gain": -1.0}, ["gain", "-1.0", "at least 0"]),
    (IGAM, {"max_margin": 7.0}, ["max_margin", "7.0", "at least 0", "3.14"]),
    (IGAM, {"gain": 2.0, "max_margin": 0.3}, ["gain", "2.0", "max_margin=0.3"]),
    (IGAM, {"information": {"shrinkage": "osa"}}, ["shrinkage", "'osa'", "did you mean 'oas'"]),
    (IGAM, {"information": InformationMeter(C, D + 1)}, ["information", f"dim {D + 1}", f"dim {D}"]),
    (Seesaw, {"p": -0.1}, ["p", "-0.1", "at least 0"]),
    (Seesaw, {"q": INF}, ["q", "inf", "finite"]),
    (Seesaw, {"eps": 0.0}, ["eps", "0.0", "above 0", "at most 1"]),
    (Seesaw, {"backend": "chunked"}, ["backend", "'chunked'", "'dense'", "whole rows"]),
    (Seesaw, {"budget": MemoryBudget()}, ["budget", "MemoryBudget", "None", "whole rows"]),
    (Seesaw, {"sample": 0.5}, ["sample", "0.5", "1", "whole rows"]),
    (Seesaw, {"together": "no"}, ["together", "'no'", "True or False"]),
]


def table() -> list[tuple[type[Head], dict, list[str]]]:
    rows = []
    for head in HEADS.values():
        rows += [(head, bad, words) for bad, words in EVERY_HEAD]
        if head not in {LinearSoftmax, LogitAdjusted}:
            rows += [(head, bad, words) for bad, words in COSINE_HEADS]
    return rows + ITS_OWN


@pytest.mark.parametrize(
    ("head", "bad", "words"),
    table(),
    ids=lambda v: v.__name__ if isinstance(v, type) else " ".join(v) if isinstance(v, dict) else "",
)
def test_bad_options_are_named_with_their_value_and_what_is_legal(
    head: type[Head], bad: dict, words: list[str]
) -> None:
    good = {"in_features": D, "num_classes": C}
    if bad.keys() != {"tau"} or head in {LDAM, LogitAdjusted} or math.isnan(bad["tau"]):
        good["class_counts"] = [3, 2, 1]
    with pytest.raises(ArgumentError) as raised:
        head(**{**good, **bad})
    assert all(word in str(raised.value) for word in words), str(raised.value)


BATCHES = [
    (torch.zeros(2, D), torch.tensor([0, C]), ["labels", f"{C} at position 1", f"0 to {C - 1}", "-100"]),
    (torch.zeros(2, D), torch.tensor([-1, 0]), ["labels", "-1 at position 0", f"0 to {C - 1}", "-100"]),
    (torch.zeros(2, D), torch.zeros(3).long(), ["labels", "(3,)", "(2,)", f"(2, {C})"]),
    (torch.zeros(2, D), torch.zeros(2), ["labels", "torch.float32", "integer"]),
    (torch.zeros(2, D), torch.zeros(2).bool(), ["labels", "torch.bool", "integer"]),
    (torch.zeros(2, D), torch.zeros(2, C).long(), ["labels", "torch.int64", "floating"]),
    (torch.zeros(2, D + 1), torch.zeros(2).long(), ["embeddings", f"(2, {D + 1})", f"{D})"]),
    (torch.zeros(2, 1, D), torch.zeros(2).long(), ["embeddings", f"(2, 1, {D})", f"{D})"]),
    (torch.zeros(2, D).long(), torch.zeros(2).long(), ["embeddings", "torch.int64", "floating"]),
    (torch.zeros(0, D), torch.zeros(0).long(), ["embeddings", f"(0, {D})", "at least one row"]),
]


@pytest.mark.parametrize("name", HEADS)
def test_a_bad_batch_is_named_and_changes_nothing(name: str) -> None:
    head = HEADS[name](D, C, class_counts=[3, 2, 1])
    before = {
        key: value.clone() for key, value in head.state_dict().items() if isinstance(value, torch.Tensor)
    }
    for embeddings, labels, words in BATCHES:
        with pytest.raises(ArgumentError) as raised:
            head(embeddings, labels)
        assert all(word in str(raised.value) for word in words), str(raised.value)
    for key, value in before.items():
        assert torch.equal(head.state_dict()[key], value)


def test_soft_labels_with_a_row_loss_that_takes_none_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"labels: got probabilities with row_loss='probability'"):
        EnhancedAMSoftmax(D, C, form="printed")(torch.zeros(2, D), torch.full((2, C), 1 / C))


@pytest.mark.parametrize("call", ["logits", "predict"])
def test_inference_checks_its_embeddings(call: str) -> None:
    with pytest.raises(ArgumentError, match=rf"embeddings: got shape \(2, {D + 1}\).* {D}\)"):
        getattr(NormalizedSoftmax(D, C), call)(torch.zeros(2, D + 1))


def test_a_message_about_a_million_classes_is_one_line() -> None:
    counts = torch.ones(100_000)
    counts[77] = -1
    with pytest.raises(ArgumentError) as raised:
        LinearSoftmax(1, 100_000, class_counts=counts)
    assert len(str(raised.value)) < 200
    with pytest.raises(ArgumentError) as raised:
        AMSoftmax(1, 100_000, margin=counts * torch.nan)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("name", HEAD_NAMES)
def test_options_read_from_the_source_are_those_of_the_constructor(name: str) -> None:
    shared = CosineOptions if issubclass(HEADS[name], CosineHead) else HeadOptions
    own = inspect.signature(HEADS[name].__init__).parameters.values()
    expected = [one.name for one in own if one.kind is inspect.Parameter.KEYWORD_ONLY]
    expected += list(get_type_hints(shared))
    assert list(head_options(name)) == [one for one in expected if one not in NOT_AS_TEXT]
