"""The information meter: what every class holds, kept up to date while embeddings stream by."""

import warnings
from collections.abc import Container, Iterator
from typing import TypedDict

import torch
from torch import Tensor

from bisector.checks import require_classes, require_embeddings
from bisector.errors import require, require_choice
from bisector.information.memory import moments_bytes, require_budget
from bisector.information.packing import (
    Means,
    Packed,
    pack_means,
    pack_moments,
    require_shapes,
    unpack_means,
    unpack_moments,
)
from bisector.information.queue import Block, EmbeddingQueue
from bisector.information.reading import ClassInformation, Reading
from bisector.information.rows import (
    EMBEDDING_SCALES,
    on_scale,
    rows_by_class,
)
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import SHRINKAGES


class MeterState(TypedDict):
    """What `InformationMeter.state_dict` returns: tensors and builtins."""

    num_classes: int
    dim: int
    embeddings: str
    skipped: int
    moments: Packed
    anchors: Packed
    queue: Packed


class InformationMeter:
    """Measures the information amount of every class from a stream of embeddings.

    Batches fill a queue; a full queue is flushed into moments per class, which are merged into the running
    ones. The merge is exact: `compute` gives what one queue for all rows would give.

    A class takes memory from its first instance on: its n - 1 rows in compact form, at most p^2 numbers at 8
    bytes. A flush costs each class in it one pass over what the class holds, so a queue of several times the
    number of classes is the faster one.

    The state lives on the CPU, outside of any module: module buffers are broadcast by distributed training
    (rank 0's counts would replace every other rank's), cast with the model and averaged into moving
    averages, and each of these corrupts it. It travels through `state_dict`, and across processes
    through `merge`.

    Args:
        num_classes: C, at least 1.
        dim: The embedding's dimension p, at least 1.
        shrinkage: One of `bisector.statistics.shrinkage.SHRINKAGES`; `information_amount` says which when.
        embeddings: `"raw"`, as they are, or `"unit"`, every row at length `sqrt(p)`.
        queue: Rows of a flush, at least 1.
        forgetting: The part of the evidence that `forget` drops, 0 to 1; 1 is the paper's empty start.
        memory_budget: Bytes that the meter may hold between calls; None for no limit.

    Raises:
        ArgumentError: if an argument is not as described.

    Source: Ma, Dai and Chen, ICLR 2025, the dynamic framework; merged at once where the paper keeps
    the local covariances of every flush until the epoch's end.

    >>> meter = InformationMeter(num_classes=3, dim=2, shrinkage="none")
    >>> meter.update(torch.tensor([[3.0, 0.0], [-3.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 0, 2]))
    >>> meter.compute().amount
    tensor([1.6610,    nan,    nan], dtype=torch.float64)
    >>> meter.counts
    tensor([2., 0., 1.], dtype=torch.float64)
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        *,
        shrinkage: str = "quadratic-inverse",
        embeddings: str = "raw",
        queue: int = 2048,
        forgetting: float = 1.0,
        memory_budget: int | None = None,
    ) -> None:
        require(num_classes >= 1, "num_classes", num_classes, "at least 1")
        require(dim >= 1, "dim", dim, "at least 1")
        require(queue >= 1, "queue", queue, "at least 1 row")
        require(0 <= forgetting <= 1, "forgetting", forgetting, "a number from 0 to 1")
        require(
            memory_budget is None or memory_budget > 0,
            "memory_budget",
            memory_budget,
            "None or bytes above 0",
        )
        self.num_classes = num_classes
        self.dim = dim
        self.shrinkage = require_choice("shrinkage", shrinkage, SHRINKAGES)
        self.embeddings = require_choice("embeddings", embeddings, EMBEDDING_SCALES)
        self.forgetting = forgetting
        self.memory_budget = memory_budget
        self._queue = EmbeddingQueue(queue)
        self.reset()

    def reset(self) -> None:
        """Forget everything, what `drift` is measured from included."""
        self._queue.drain()
        self._moments: dict[int, Moments] = {}
        # The count and the mean of each class at the last `forget`.
        self._anchors: Means = {}
        self._readings: dict[int, Reading] = {}
        self._skipped = 0

    def update(
        self,
        embeddings: Tensor,  # (B, D)
        labels: Tensor,  # (B,)
    ) -> None:
        """Take in a batch. No gradient flows; rows that are not finite are skipped and counted.

        Args:
            embeddings: (B, D), any floating dtype, on any device.
            labels: (B,), integers from 0 to C - 1.

        Raises:
            ArgumentError: if an argument is not as described, or a flush would break the memory budget. The
                meter is then as it was.
        """
        require_embeddings("embeddings", embeddings, self.dim)
        require_classes("labels", labels, self.num_classes, rows=len(embeddings))
        embeddings, labels = embeddings.detach().cpu(), labels.detach().cpu().long()
        finite = embeddings.isfinite().all(dim=1)
        embeddings, labels = embeddings[finite], labels[finite]
        self._require_room_for_flush(embeddings, labels)
        for c in set(labels.tolist()):
            self._readings.pop(c, None)
        for block in self._queue.push(embeddings, labels):
            self._flush(block)
        self._count_skipped(len(finite) - len(labels))

    def compute(self) -> ClassInformation:
        """What every class holds now. Changes nothing, and costs only the classes that changed."""
        for c, moments in self._current(without=self._readings):
            anchor = self._anchors.get(c)
            self._readings[c] = Reading.of(moments, self.shrinkage, anchor[1] if anchor else None)
        unseen = Reading()
        return ClassInformation.of(
            [self._readings.get(c, unseen) for c in range(self.num_classes)], self._skipped
        )

    def forget(self) -> None:
        """End an epoch: keep `1 - forgetting` of the evidence, and measure `drift` from these means on.

        Raises:
            ArgumentError: if what is kept would break the memory budget. The meter is then as it was.
        """
        kept = 1 - self.forgetting
        moments: dict[int, Moments] = {}
        anchors: Means = {}
        for c, current in self._current():
            anchors[c] = current.count, current.mean
            if kept > 0:
                moments[c] = current.scaled(kept)
        self._require_room(_rows(moments), anchors, 0)
        self._queue.drain()
        self._moments, self._anchors, self._readings = moments, anchors, {}

    def merge(self, other: "InformationMeter") -> None:
        """Take in what another meter saw, such as another process's; the other stays as it is.

        Raises:
            ArgumentError: if the two differ in classes, dimension or scale of the embeddings, or the
                memory budget would be broken. The meter is then as it was.
        """
        self._require_alike("other", other.num_classes, other.dim, other.embeddings)
        theirs, anchors = dict(other._current()), dict(other._anchors)
        rows = _rows(self._moments)
        for c, moments in theirs.items():
            rows[c] = rows.get(c, -1) + len(moments.scatter) + 1
        self._require_room(rows, self._anchors | anchors, self._queue.nbytes)
        for c, moments in theirs.items():
            self._moments[c] = self._moments[c].merge(moments) if c in self._moments else moments
        for c, (count, mean) in anchors.items():
            held, held_mean = self._anchors.get(c, (0.0, mean))
            self._anchors[c] = held + count, torch.lerp(held_mean, mean, count / (held + count))
        for c in theirs.keys() | anchors.keys():
            self._readings.pop(c, None)
        self._skipped += other._skipped

    def add_classes(self, k: int) -> None:
        """Append k >= 0 classes, which start empty."""
        require(k >= 0, "k", k, "at least 0")
        self.num_classes += k

    @property
    def counts(self) -> Tensor:
        """Instances of each class: (C,) float64, a fraction where some are partly forgotten."""
        counts = self._queue.labels.bincount(minlength=self.num_classes).to(torch.float64)
        for c, moments in self._moments.items():
            counts[c] += moments.count
        return counts

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors held: moments, queue and the means that drift is measured from."""
        means = sum(mean.nbytes for _, mean in self._anchors.values())
        return sum(m.nbytes for m in self._moments.values()) + means + self._queue.nbytes

    def state_dict(self) -> MeterState:
        """The whole state as tensors and builtins, which `torch.load(weights_only=True)` reads.

        The options that do not change what is stored (shrinkage, queue, forgetting, budget) are not in it.
        """
        nothing = torch.empty(0, self.dim, device="cpu"), torch.empty(0, dtype=torch.long, device="cpu")
        waiting = self._queue.peek() or nothing
        return {
            "num_classes": self.num_classes,
            "dim": self.dim,
            "embeddings": self.embeddings,
            "skipped": self._skipped,
            "moments": pack_moments(self._moments, self.dim),
            "anchors": pack_means(self._anchors, self.dim),
            "queue": {"embeddings": waiting[0], "labels": waiting[1]},
        }

    def load_state_dict(self, state: MeterState) -> None:
        """Take over what `state_dict` returned, on any device, in place of what this meter holds.

        Raises:
            ArgumentError: if the state is not one, or of other classes, dimension or scale of the
                embeddings, or breaks the memory budget. The meter is then as it was.
        """
        names = MeterState.__annotations__
        require(state.keys() == names.keys(), "state", sorted(state), f"the entries {', '.join(names)}")
        self._require_alike("state", state["num_classes"], state["dim"], state["embeddings"])
        moments = unpack_moments(state["moments"], self.num_classes, self.dim)
        anchors = unpack_means(state["anchors"], self.num_classes, self.dim)
        waiting = state["queue"]
        size = len(waiting.get("labels", ()))
        require_shapes(waiting, {"embeddings": (size, self.dim), "labels": (size,)})
        require_classes("labels", waiting["labels"], self.num_classes, rows=size)
        require(state["skipped"] >= 0, "skipped", state["skipped"], "at least 0")
        self._require_room(_rows(moments), anchors, waiting["embeddings"].nbytes)
        self.reset()
        self._moments, self._anchors, self._skipped = moments, anchors, state["skipped"]
        for block in self._queue.push(waiting["embeddings"], waiting["labels"]):
            self._flush(block)

    def _flush(self, block: Block) -> None:
        for c, rows in rows_by_class(*block).items():
            self._moments[c] = self._with_rows(c, rows)

    def _with_rows(self, c: int, rows: Tensor) -> Moments:
        block = Moments.of_rows(on_scale(rows, self.embeddings))
        return self._moments[c].merge(block) if c in self._moments else block

    def _current(self, without: Container[int] = ()) -> Iterator[tuple[int, Moments]]:
        """The moments of each class with the rows that wait in the queue, which stay there."""
        block = self._queue.peek()
        waiting = rows_by_class(*block) if block else {}
        for c in self._moments.keys() | waiting.keys():
            if c not in without:
                yield c, self._with_rows(c, waiting[c]) if c in waiting else self._moments[c]

    def _require_alike(self, name: str, num_classes: int, dim: int, embeddings: str) -> None:
        for what, got, mine in (
            ("num_classes", num_classes, self.num_classes),
            ("dim", dim, self.dim),
            ("embeddings", embeddings, self.embeddings),
        ):
            require(got == mine, f"{name}.{what}", got, f"{mine}, as in this meter")

    def _require_room_for_flush(self, embeddings: Tensor, labels: Tensor) -> None:
        waiting = len(self._queue) + len(labels)
        if self.memory_budget is None or waiting < self._queue.length:
            return
        rest = waiting % self._queue.length
        rows = _rows(self._moments)
        for c in torch.cat([self._queue.labels, labels])[: waiting - rest].tolist():
            rows[c] = rows.get(c, -1) + 1  # a class of n instances has n - 1 rows
        self._require_room(rows, self._anchors, rest * self.dim * embeddings.element_size())

    def _require_room(self, rows: dict[int, int], anchors: Means, queued: int) -> None:
        def needed(dim: int) -> int:
            return moments_bytes(rows.values(), dim) + (8 * len(anchors) + queued // self.dim) * dim

        require_budget(self.memory_budget, needed, self.dim)

    def _count_skipped(self, skipped: int) -> None:
        first = skipped > 0 and self._skipped == 0
        self._skipped += skipped
        if first:
            message = f"{skipped} embeddings with NaN or infinity skipped; later ones are counted silently"
            warnings.warn(message, RuntimeWarning, stacklevel=3)


def _rows(moments: dict[int, Moments]) -> dict[int, int]:
    return {c: len(m.scatter) for c, m in moments.items()}
