import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.errors import ArgumentError
from bisector.information.queue import EmbeddingQueue


def numbered(start, count):
    labels = torch.arange(start, start + count)
    return torch.stack([labels, -labels], dim=1).float(), labels


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7))
def test_blocks_have_one_size_and_no_row_is_lost_or_moved(sizes, length):
    queue, start, blocks = EmbeddingQueue(length), 0, []
    for size in sizes:
        blocks += queue.push(*numbered(start, size))
        start += size
        assert len(queue) == start % length
        assert queue.labels.tolist() == list(range(start - len(queue), start))
    assert [len(labels) for _, labels in blocks] == [length] * (start // length)
    peeked, rest = queue.peek(), queue.drain()
    assert (peeked is None) == (rest is None) == (start % length == 0)
    if rest:
        assert torch.equal(peeked[0], rest[0])
        blocks.append(rest)
    labels = torch.cat([torch.empty(0, dtype=torch.long), *(labels for _, labels in blocks)])
    assert labels.tolist() == list(range(start))
    for embeddings, labels in blocks:
        assert torch.equal(embeddings[:, 0], labels.float())
    assert len(queue) == 0
    assert queue.drain() is None


def test_rows_are_copies_detached_and_of_their_dtype():
    queue = EmbeddingQueue(5)
    batch = torch.ones(3, 2, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.zeros(3).long()
    queue.push(batch, labels)
    with torch.no_grad():
        batch.fill_(7)
    labels.fill_(7)
    embeddings, kept = queue.peek()
    assert embeddings.dtype == torch.bfloat16
    assert not embeddings.requires_grad
    assert (embeddings == 1).all()
    assert (kept == 0).all()
    assert queue.nbytes == 3 * 2 * 2


def test_the_rest_of_a_batch_does_not_keep_the_batch_alive():
    queue = EmbeddingQueue(100)
    queue.push(*numbered(0, 1001))
    (embeddings, labels) = queue.peek()
    assert len(labels) == 1
    assert queue._batches[0][0].untyped_storage().nbytes() == embeddings.nbytes


def test_complaints():
    with pytest.raises(ArgumentError, match="length: got 0"):
        EmbeddingQueue(0)
    with pytest.raises(ArgumentError, match="labels: got 1 rows; expected 2 rows"):
        EmbeddingQueue(3).push(torch.ones(2, 2), torch.ones(1))
