import pytest
import torch

from bisector.functional.scores import class_scores
from naive_losses import score


@pytest.mark.parametrize("kind", ["cosine", "dot"])
@pytest.mark.parametrize("sub_centers", [None, 1, 3])
def test_scores_equal_the_naive_ones(kind: str, sub_centers: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 5, dtype=torch.float64, generator=generator)
    shape = (6, 5) if sub_centers is None else (6, sub_centers, 5)
    weight = torch.randn(shape, dtype=torch.float64, generator=generator)
    expected = torch.stack([torch.stack([score(row, w, kind) for w in weight]) for row in x])
    torch.testing.assert_close(class_scores(x, weight, kind), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["cosine", "dot"])
@pytest.mark.parametrize("embedded", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("weighted", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_scores_are_computed_in_float32_or_better(
    kind: str, embedded: torch.dtype, weighted: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 5, generator=generator).to(embedded)
    weight = torch.randn(6, 5, generator=generator).to(weighted)
    scores = class_scores(x, weight, kind)
    wide = torch.float64 if torch.float64 in {embedded, weighted} else torch.float32
    assert scores.dtype == wide
    exact = class_scores(x.double(), weight.double(), kind)
    torch.testing.assert_close(scores, exact.to(wide), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_autocast_rounds_the_product_but_not_what_it_returns(half: torch.dtype) -> None:
    x, weight = torch.randn(4, 5), torch.randn(6, 5)
    with torch.autocast("cpu", half):
        scores = class_scores(x, weight)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, scores.to(half).float())
    torch.testing.assert_close(scores, class_scores(x, weight), rtol=0, atol=8 * torch.finfo(half).eps)
