import pytest
import torch

from bisector.errors import ArgumentError
from bisector.functional.row_losses import RowLoss


def test_row_losses_are_their_formulas() -> None:
    logits = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels, weight = torch.tensor([0, 4, 2, 2]), torch.tensor([1.0, 2.0, 0.5, 3.0, 0.25], dtype=torch.float64)
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    target = torch.eye(5, dtype=torch.float64)[labels]
    for w in (None, weight):
        ones = torch.ones(5, dtype=torch.float64) if w is None else w
        log = -(target * ones * p.log()).sum(1)
        torch.testing.assert_close(RowLoss().rows(logits, labels, w), log)
        smooth = -((0.9 * target + 0.1 / 5 + 0.3) * ones * p.log()).sum(1)
        row_loss = RowLoss(label_smoothing=0.1, added_target=0.3)
        torch.testing.assert_close(row_loss.rows(logits, labels, w), smooth)
        torch.testing.assert_close(row_loss.rows(logits, target, w), smooth)
        probability = -(target * ones * p).sum(1)
        torch.testing.assert_close(RowLoss("probability").rows(logits, labels, w), probability)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"kind": "lgo"}, ["row_loss", "'lgo'", "did you mean 'log'", "probability"]),
        ({"label_smoothing": 1.5}, ["label_smoothing", "1.5", "at least 0", "at most 1"]),
        ({"label_smoothing": float("nan")}, ["label_smoothing", "nan", "at least 0", "at most 1"]),
        ({"added_target": -0.1}, ["added_target", "-0.1", "at least 0"]),
        ({"kind": "probability", "label_smoothing": 0.1}, ["label_smoothing", "0.1", "row_loss='log'"]),
        ({"kind": "probability", "added_target": 0.1}, ["added_target", "0.1", "row_loss='log'"]),
    ],
)
def test_bad_parts_are_named(parts: dict, words: list[str]) -> None:
    with pytest.raises(ArgumentError) as raised:
        RowLoss(**parts)
    assert all(word in str(raised.value) for word in words), str(raised.value)
