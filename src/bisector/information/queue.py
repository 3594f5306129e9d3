"""The embedding queue: batches in, blocks of one size out."""

import torch
from torch import Tensor

from bisector.errors import require

Block = tuple[Tensor, Tensor]


class EmbeddingQueue:
    """Collects batches of rows and gives them out in blocks of exactly `length` rows.

    A batch that crosses the end of a block is split there. The rows are copies, detached, on the CPU, in
    the dtype they came in.

    Args:
        length: Rows of a block, at least 1.

    Raises:
        ArgumentError: if `length` is below 1.

    Source: Ma, Dai and Chen, ICLR 2025 (the IGAM poster's dynamic framework).

    >>> queue = EmbeddingQueue(length=3)
    >>> queue.push(torch.ones(2, 4), torch.tensor([0, 1]))
    []
    >>> [labels.tolist() for _, labels in queue.push(torch.ones(5, 4), torch.tensor([2, 3, 4, 5, 6]))]
    [[0, 1, 2], [3, 4, 5]]
    >>> queue.drain()[1], len(queue)
    (tensor([6]), 0)
    """

    def __init__(self, length: int) -> None:
        require(length >= 1, "length", length, "at least 1 row")
        self.length = length
        self._batches: list[Block] = []

    def push(
        self,
        embeddings: Tensor,  # (B, D)
        labels: Tensor,  # (B,)
    ) -> list[Block]:
        """Append a batch; return the blocks that it completes, in order."""
        require(len(labels) == len(embeddings), "labels", f"{len(labels)} rows", f"{len(embeddings)} rows")
        if len(self) + len(labels) < self.length:
            if len(labels):
                self._batches.append((_own(embeddings), _own(labels)))
            return []
        embeddings, labels = _joined([*self._batches, (embeddings.detach().cpu(), labels.detach().cpu())])
        blocks = list(
            zip(torch.split(embeddings, self.length), torch.split(labels, self.length), strict=True)
        )
        rest = blocks.pop() if len(labels) % self.length else None
        # A view would keep the whole batch alive for as long as its last rows wait.
        self._batches = [(_own(rest[0]), _own(rest[1]))] if rest else []
        return blocks

    def peek(self) -> Block | None:
        """The rows that wait, as one block; None if there are none."""
        return _joined(self._batches) if self._batches else None

    def drain(self) -> Block | None:
        """Like `peek`, and leave the queue empty."""
        block = self.peek()
        self._batches = []
        return block

    @property
    def labels(self) -> Tensor:
        """The labels of the rows that wait: (len(queue),)."""
        return torch.cat(
            [torch.empty(0, dtype=torch.long, device="cpu"), *(labels for _, labels in self._batches)]
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the rows that wait, without their labels."""
        return sum(embeddings.nbytes for embeddings, _ in self._batches)

    def __len__(self) -> int:
        return sum(len(labels) for _, labels in self._batches)


def _own(rows: Tensor) -> Tensor:
    return rows.detach().to("cpu", copy=True)


def _joined(batches: list[Block]) -> Block:
    embeddings, labels = zip(*batches, strict=True)
    return torch.cat(embeddings), torch.cat(labels)
