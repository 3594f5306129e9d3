import pytest
import torch

from bisector.checks import require_classes, require_embeddings
from bisector.errors import ArgumentError


def test_embeddings_are_floating_and_two_dimensional():
    require_embeddings("x", torch.ones(0, 3))
    require_embeddings("x", torch.ones(2, 3).bfloat16(), dim=3)
    with pytest.raises(ArgumentError, match=r"x: got shape \(2,\); expected \(rows, dimension\)"):
        require_embeddings("x", torch.ones(2))
    with pytest.raises(ArgumentError, match=r"x: got shape \(2, 3\); expected \(rows, 4\)"):
        require_embeddings("x", torch.ones(2, 3), dim=4)
    with pytest.raises(ArgumentError, match=r"x: got torch\.int64; expected a floating dtype"):
        require_embeddings("x", torch.ones(2, 3).long())
    with pytest.raises(ArgumentError, match="x: got shape"):
        require_embeddings("x", torch.ones(2, 0))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_are_integers_in_range_and_the_first_offender_is_named(dtype):
    require_classes("labels", torch.tensor([0, 4, 2], dtype=dtype), 5, rows=3)
    with pytest.raises(ArgumentError, match="labels: got 5 at position 1; expected 0 to 4"):
        require_classes("labels", torch.tensor([0, 5, 9], dtype=dtype), 5, rows=3)


def test_other_labels_are_refused():
    with pytest.raises(ArgumentError, match="got -100 at position 2"):
        require_classes("labels", torch.tensor([0, 1, -100]), 5, rows=3)
    for wrong in (torch.ones(2), torch.ones(2).bool()):
        with pytest.raises(ArgumentError, match="expected an integer dtype"):
            require_classes("labels", wrong, 5, rows=2)
    with pytest.raises(ArgumentError, match=r"labels: got shape \(2,\); expected \(3,\)"):
        require_classes("labels", torch.zeros(2).long(), 5, rows=3)


def test_the_ignored_index_is_legal_where_it_is_named():
    require_classes("labels", torch.tensor([0, -100]), 5, ignore_index=-100)
    with pytest.raises(ArgumentError, match="got -1 at position 1; expected 0 to 4, or ignore_index=-100"):
        require_classes("labels", torch.tensor([0, -1]), 5, ignore_index=-100)


def test_small_integers_are_compared_with_many_classes():
    require_classes("labels", torch.tensor([0, 255], dtype=torch.uint8), 1203, ignore_index=-100)
