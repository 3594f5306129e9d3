"""The embedding queue: batches in, blocks of one size out."""

from collections import deque

import torch
from torch import Tensor

from bisector.errors import require

Block = tuple[Tensor, Tensor]


class EmbeddingQueue:
    """Collects batches of rows and gives them out, on the CPU, in blocks of exactly `length` rows.

    A batch that crosses the end of a block is split there; with `whole`, blocks have at least that many rows
    instead, and a large batch is not cut. The rows are copies, detached, in the dtype they came in, unless a
    batch makes up whole blocks by itself: those are the batch's own memory, to be used at once.

    Rows of an accelerator wait there, and nobody waits for them: a full block is copied in the background,
    behind the work that the accelerator has already, and is given out by the first push that finds it arrived.

    Args:
        length: Rows of a block, at least 1.
        whole: Whether blocks may be longer.

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

    def __init__(self, length: int, *, whole: bool = False) -> None:
        require(length >= 1, "length", length, "at least 1 row")
        self.length, self.whole = length, whole
        self._batches: list[Block] = []
        self._arriving: deque[tuple[Block, torch.cuda.Event]] = deque()

    def push(
        self,
        embeddings: Tensor,  # (B, D)
        labels: Tensor,  # (B,)
    ) -> list[Block]:
        """Append a batch; return the blocks that are complete and on the CPU, in order."""
        require(len(labels) == len(embeddings), "labels", f"{len(labels)} rows", f"{len(embeddings)} rows")
        embeddings, labels = embeddings.detach(), labels.detach().to(embeddings.device)
        if any(rows.device != embeddings.device for rows, _ in self._batches):
            self._batches = [
                (rows.to(embeddings.device), own.to(embeddings.device)) for rows, own in self._batches
            ]
        waiting = sum(len(labels) for _, labels in self._batches)
        if waiting + len(labels) < self.length:
            if len(labels):
                self._batches.append((embeddings.clone(), labels.clone()))
            return self._arrived()
        embeddings, labels = _joined([*self._batches, (embeddings, labels)])
        size = len(labels) if self.whole else self.length
        blocks = list(zip(torch.split(embeddings, size), torch.split(labels, size), strict=True))
        rest = blocks.pop() if len(labels) % size else None
        # A view would keep the whole batch alive for as long as its last rows wait.
        self._batches = [(rest[0].clone(), rest[1].clone())] if rest else []
        if embeddings.device.type != "cuda":
            return [*self._arrived(wait=True), *((rows.cpu(), own.cpu()) for rows, own in blocks)]
        for block in blocks:
            self._arriving.append(_sent(block))
        return self._arrived()

    def peek(self) -> Block | None:
        """The rows that wait, as one block on the CPU; None if there are none."""
        if self._batches:  # joined once
            self._batches = [_joined(self._batches)]
        blocks = [(rows.cpu(), own.cpu()) for rows, own in self._blocks()]
        return _joined(blocks) if blocks else None

    def drain(self) -> Block | None:
        """Like `peek`, and leave the queue empty."""
        block = self.peek()
        self._batches = []
        self._arriving.clear()
        return block

    @property
    def labels(self) -> Tensor:
        """The labels of the rows that wait: (len(queue),)."""
        waiting = [own.cpu() for _, own in self._blocks()]
        return torch.cat(waiting) if waiting else torch.empty(0, dtype=torch.long, device="cpu")

    @property
    def nbytes(self) -> int:
        """Bytes of the rows that wait, without their labels."""
        return sum(rows.nbytes for rows, _ in self._blocks(wait=False))

    def __len__(self) -> int:
        return sum(len(own) for _, own in self._blocks(wait=False))

    def _blocks(self, *, wait: bool = True) -> list[Block]:
        """What waits, in order; what is arriving has arrived then, unless nobody waits for it."""
        for _, event in self._arriving if wait else ():
            event.synchronize()
        return [*(block for block, _ in self._arriving), *self._batches]

    def _arrived(self, *, wait: bool = False) -> list[Block]:
        blocks = []
        while self._arriving and (wait or self._arriving[0][1].query()):  # type: ignore[no-untyped-call]
            block, event = self._arriving.popleft()
            event.synchronize()
            blocks.append(block)
        return blocks


def _sent(block: Block) -> tuple[Block, torch.cuda.Event]:
    """Copy a block to pinned memory in the background; the event says when it has arrived."""
    pinned = tuple(torch.empty(t.shape, dtype=t.dtype, device="cpu", pin_memory=True) for t in block)
    for there, here in zip(pinned, block, strict=True):
        there.copy_(here, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return (pinned[0], pinned[1]), event


def _joined(batches: list[Block]) -> Block:
    if len(batches) == 1:
        return batches[0]
    embeddings, labels = zip(*batches, strict=True)
    return torch.cat(embeddings), torch.cat(labels)
