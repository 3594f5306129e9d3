import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bisector.engine.dispatch import margin_cross_entropy
from bisector.errors import ArgumentError
from bisector.functional.margins import Margin, PairwiseMargin
from bisector.functional.row_losses import RowLoss

B, D, C = 8, 4, 5
LABELS = torch.tensor([0, 4, -100, 2, 2, 1, 3, -100])


def parts() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(B, D), (C, D), (C,)]
    return tuple(
        torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes
    )


def class_weights(some: str) -> Tensor | None:
    weights = {"none": None, "ones": torch.ones(C), "uneven": torch.tensor([1.0, 2.0, 0.0, 3.0, 0.25])}
    return None if weights[some] is None else weights[some].double()


@pytest.mark.parametrize("labels", [-100, 2, 0, "probabilities"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", ["none", "ones", "uneven"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_options_mean_what_they_mean_in_cross_entropy(
    reduction: str, weights: str, smoothing: float, labels: int | str
) -> None:
    x, w, b = parts()
    options = {"reduction": reduction}
    if isinstance(labels, int):  # the index that is ignored
        given = LABELS if labels < 0 else LABELS.where(LABELS >= 0, labels)
        options["ignore_index"] = labels
    else:  # not normalised
        given = torch.rand(B, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = margin_cross_entropy(
        x,
        w,
        given,
        score="dot",
        scale=1.0,
        offset=b,
        class_weight=class_weights(weights),
        row_loss=RowLoss(label_smoothing=smoothing),
        **options,
    )
    theirs = F.cross_entropy(
        F.linear(x, w, b), given, weight=class_weights(weights), label_smoothing=smoothing, **options
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for mine, their in zip(
        *(torch.autograd.grad(loss.sum(), [x, w, b]) for loss in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(mine, their, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weights", ["none", "uneven"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_batch_of_nothing_but_ignored_rows_gives_zero(reduction: str, weights: str) -> None:
    x, w, _ = parts()
    loss = margin_cross_entropy(
        x, w, torch.full((B,), -100), reduction=reduction, class_weight=class_weights(weights)
    )
    assert (loss == 0).all()
    for gradient in torch.autograd.grad(loss.sum(), [x, w]):
        assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_may_have_any_integer_dtype(dtype: torch.dtype) -> None:
    x, w, _ = parts()
    labels = LABELS.abs() % C
    assert torch.equal(margin_cross_entropy(x, w, labels.to(dtype)), margin_cross_entropy(x, w, labels))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_labels_of_a_narrow_dtype_do_not_wrap_around(dtype: torch.dtype) -> None:
    label = torch.iinfo(dtype).max - 99  # 156 is -100 in 8 bits
    x, w = torch.randn(1, 3), torch.randn(200, 3)
    loss = margin_cross_entropy(x, w, torch.tensor([label], dtype=dtype))
    assert float(loss) == float(margin_cross_entropy(x, w, torch.tensor([label])))
    with pytest.raises(ArgumentError, match=f"labels: got {label} .*; expected 0 to {label - 1}"):
        margin_cross_entropy(x, w[:label], torch.tensor([label], dtype=dtype))


def test_the_most_probable_class_takes_the_margin_the_first_of_equals() -> None:
    x, w, _ = parts()
    soft = torch.tensor([[0.4, 0.4, 0.2, 0.0, 0.0]]).double()
    margin = Margin(target=lambda cosine, y: cosine - 0.5)
    logits = margin_cross_entropy(x[:1], w, soft, margin=margin, scale=2.0)
    cosines = F.cosine_similarity(x[:1, None], w, dim=-1)
    cosines = cosines - 0.5 * torch.eye(C)[0]
    torch.testing.assert_close(logits, F.cross_entropy(2.0 * cosines, soft))


def test_the_scale_may_be_learned() -> None:
    x, w, _ = parts()
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)

    def loss(scale: Tensor) -> Tensor:
        return margin_cross_entropy(x, w, LABELS, scale=scale)

    assert torch.autograd.gradcheck(loss, scale)


def test_nan_and_infinity_come_out_as_nan_not_as_an_exception() -> None:
    for bad in (torch.nan, torch.inf, -torch.inf):
        for score in ("cosine", "dot"):
            x, w, _ = parts()
            with torch.no_grad():
                x[1, 0] = bad
            rows = margin_cross_entropy(x, w, LABELS, score=score, reduction="none")
            assert rows.isnan().tolist() == [i == 1 for i in range(B)]
            (gradient,) = torch.autograd.grad(rows.sum(), w)
            assert not gradient.isfinite().all()


GOOD = {
    "embeddings": torch.zeros(B, D),
    "weight": torch.ones(C, D),
    "labels": torch.zeros(B, dtype=torch.long),
}
BAD = [
    ({"backend": "dens"}, ["backend", "'dens'", "did you mean 'dense'", "auto"]),
    ({"score": "cosin"}, ["score", "'cosin'", "did you mean 'cosine'", "dot"]),
    ({"reduction": "men"}, ["reduction", "'men'", "did you mean 'mean'", "sum", "none"]),
    ({"embeddings": torch.zeros(B, D + 1)}, ["embeddings", f"({B}, {D + 1})", f"{D})"]),
    ({"embeddings": torch.zeros(D)}, ["embeddings", f"({D},)", f"{D})"]),
    ({"embeddings": torch.zeros(B, D).long()}, ["embeddings", "torch.int64", "floating dtype"]),
    ({"embeddings": torch.zeros(B, D).cfloat()}, ["embeddings", "torch.complex64", "floating dtype"]),
    (
        {"embeddings": torch.zeros(0, D), "labels": torch.zeros(0)},
        ["embeddings", f"(0, {D})", "at least one row"],
    ),
    ({"weight": torch.zeros(C)}, ["weight", f"({C},)", "(C, D)", "(C, K, D)"]),
    ({"weight": torch.zeros(C, D).long()}, ["weight", "torch.int64", "floating dtype"]),
    ({"labels": torch.zeros(B - 1).long()}, ["labels", f"({B - 1},)", f"({B},)", f"({B}, {C})"]),
    ({"labels": torch.zeros(B, C + 1)}, ["labels", f"({B}, {C + 1})", f"({B}, {C})"]),
    ({"labels": torch.zeros(B)}, ["labels", "torch.float32", "integer dtype"]),
    ({"labels": torch.zeros(B).bool()}, ["labels", "torch.bool", "integer dtype"]),
    ({"labels": torch.zeros(B, C).long()}, ["labels", "torch.int64", f"({B}, {C})", "floating dtype"]),
    ({"labels": torch.tensor([0] * 6 + [C, -1])}, ["labels", f"{C} at position 6", f"0 to {C - 1}", "-100"]),
    ({"labels": torch.tensor([0] * 6 + [-1, C])}, ["labels", "-1 at position 6", f"0 to {C - 1}", "-100"]),
    (
        {"labels": LABELS, "ignore_index": -1},
        ["labels", "-100 at position 2", f"0 to {C - 1}", "ignore_index=-1"],
    ),
    (
        {"labels": torch.full((B, C), 1 / C), "ignore_index": 2},
        ["ignore_index", "2 with probabilities", "negative", "classes (B,)"],
    ),
    ({"offset": torch.zeros(C + 1)}, ["offset", f"({C + 1},)", f"({C},)"]),
    ({"class_weight": torch.zeros(C, 1)}, ["class_weight", f"({C}, 1)", f"({C},)"]),
    (
        {"labels": torch.zeros(B, C), "row_loss": RowLoss("probability")},
        ["labels", "probabilities with row_loss='probability'", "integer dtype"],
    ),
    (
        {"margin": Margin(pairwise=PairwiseMargin(torch.zeros(C - 1), torch.zeros(C - 1)))},
        ["margin.pairwise.r", f"({C - 1},)", f"({C},)"],
    ),
    ({"scale": torch.ones(C)}, ["scale", f"({C},)", "0-d"]),
    (
        {"score": "dot", "margin": Margin(pairwise=PairwiseMargin(torch.zeros(C), torch.zeros(C)))},
        ["score", "'dot' with a pairwise margin", "'cosine'"],
    ),
]


@pytest.mark.parametrize(("bad", "words"), BAD, ids=lambda v: "-".join(v) if isinstance(v, dict) else "")
def test_bad_arguments_are_named_with_their_value_and_what_is_legal(bad: dict, words: list[str]) -> None:
    with pytest.raises(ArgumentError) as raised:
        margin_cross_entropy(**{**GOOD, **bad})
    assert all(word in str(raised.value) for word in words), str(raised.value)
