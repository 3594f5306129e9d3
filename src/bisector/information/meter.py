"""The information meter: what every class holds, kept up to date while embeddings stream by."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan
from typing import Literal, TypeAlias, TypedDict

import torch
from torch import Tensor

from bisector.checks import require_classes, require_embeddings
from bisector.errors import require, require_choice, require_integer
from bisector.information.class_information import UNSEEN, ClassInformation, measure_classes
from bisector.information.class_state import ClassState, Form, sketch_bytes
from bisector.information.memory_budget import fit, require_budget
from bisector.information.packing import (
    Means,
    PackedTensors,
    pack_means,
    pack_states,
    require_shapes,
    unpack_means,
    unpack_states,
)
from bisector.information.queue import Block, EmbeddingQueue
from bisector.information.rows import EMBEDDING_SCALES, on_scale, places_by_class, require_finite
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import SHRINKAGES

NotFinite: TypeAlias = Literal["refuse", "skip"]

_QUEUE_ROWS = 2048
_QUEUE_BYTES = 2**26


class MeterState(TypedDict):
    """What `InformationMeter.state_dict` returns: tensors and builtins."""

    num_classes: int
    dim: int
    embeddings: str
    skipped: int
    states: PackedTensors
    anchors: PackedTensors
    queue: PackedTensors


class InformationMeter:
    """Measures the information amount of every class from a stream of embeddings.

    Batches fill a queue; a full queue is sorted by class and flushed. A class keeps its rows as they came
    while they are fewer than the dimension p; from then on one half of its symmetric scatter matrix, `p (p +
    128) / 2` numbers at 8 bytes. Both are exact: `compute` gives what one look at all rows would give, but
    for the rounding of float32 products. A `memory_budget` is kept by sketching the largest classes
    (`bisector.statistics.sketch.Sketch`); what a sketch may have missed is told with each amount.

    Large updates are the fast ones: a class's products are as long as the rows that a flush has of it.

    The state lives on the CPU, outside of any module: module buffers are broadcast by distributed training
    (rank 0's counts would replace every other rank's), cast with the model and averaged into moving
    averages, and each of these corrupts it. It travels through `state_dict`, and across processes
    through `merge`.

    Args:
        num_classes: C, at least 1.
        dim: The embedding's dimension p, at least 1.
        shrinkage: One of `bisector.statistics.shrinkage.SHRINKAGES`; `information_amount` says which when.
        embeddings: `"raw"`, as they are, or `"unit"`, every row at length `sqrt(p)`.
        queue: Rows of a flush, exactly, as in the paper; None for at least four a class, or 2,048, within 64
            MiB or an eighth of the budget, and for updates that are larger than that in one piece.
        forgetting: The part of the evidence that `forget` drops, 0 to 1; 1 is the paper's empty start.
        memory_budget: Bytes that the meter may hold between calls; None for no limit.
        not_finite: What becomes of rows with a NaN or an infinity: `"refuse"` the update, naming the first, or
            `"skip"` and count them. With "skip" nothing waits for an accelerator: what it sends is checked,
            the labels too, when a full queue has arrived.
        ignore_index: A label whose rows are left out.

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
        queue: int | None = None,
        forgetting: float = 1.0,
        memory_budget: int | None = None,
        not_finite: NotFinite = "refuse",
        ignore_index: int | None = None,
    ) -> None:
        self.num_classes = require_integer("num_classes", num_classes, least=1)
        self.dim = require_integer("dim", dim, least=1)
        if queue is not None:
            require_integer("queue", queue, least=1)
        require(0 <= forgetting <= 1, "forgetting", forgetting, "a number from 0 to 1")
        if memory_budget is not None:
            require_integer("memory_budget", memory_budget, least=1)
        self.shrinkage = require_choice("shrinkage", shrinkage, SHRINKAGES)
        self.embeddings = require_choice("embeddings", embeddings, EMBEDDING_SCALES)
        self.not_finite: NotFinite = require_choice("not_finite", not_finite, ("refuse", "skip"))
        self.forgetting, self.memory_budget, self.ignore_index = forgetting, memory_budget, ignore_index
        most = _QUEUE_BYTES if memory_budget is None else min(_QUEUE_BYTES, memory_budget // 8)
        rows = max(1, min(max(_QUEUE_ROWS, 4 * num_classes), most // (4 * dim)))
        self._queue = EmbeddingQueue(rows if queue is None else queue, whole=queue is None)
        self.reset()

    def reset(self) -> None:
        """Forget everything, what `drift` is measured from included."""
        self._queue.drain()
        self._states: dict[int, ClassState] = {}
        # The count and the mean of each class at the last `forget`.
        self._anchors: Means = {}
        self._known: dict[int, tuple[float, ...]] = {}  # of classes that did not change since `compute`
        self._sketch_size: int | None = None
        self.skipped = 0  # rows left out because of a NaN or an infinity
        self._unchecked = False  # whether rows that nobody has looked at wait in the queue
        self._itemsize = 4  # of the widest rows that came

    def update(
        self,
        embeddings: Tensor,  # (B, D)
        labels: Tensor,  # (B,)
    ) -> None:
        """Take in a batch. No gradient flows.

        Args:
            embeddings: (B, D), any floating dtype, on any device.
            labels: (B,), integers from 0 to C - 1, or `ignore_index`.

        Raises:
            ArgumentError: if an argument is not as described, a row is not finite (unless those are skipped),
                or the memory budget does not hold the smallest sketches of all classes. The meter is then as
                it was.
        """
        require_embeddings("embeddings", embeddings, self.dim)
        if embeddings.device.type != "cpu" and self.not_finite == "skip":
            fits = labels.shape == embeddings.shape[:1]
            require(fits, "labels", tuple(labels.shape), f"({len(embeddings)},)")
            self._unchecked = True
            self._take(embeddings, labels)
        else:
            rows, kept, skipped = self._checked(embeddings.detach().cpu(), labels.detach().cpu())
            self._take(rows, kept)
            self._count_skipped(skipped)

    def compute(self, *, ranks: bool = True) -> ClassInformation:
        """What every class holds now. Changes nothing, and costs only the classes that changed.

        Args:
            ranks: Whether effective ranks are wanted: with the shrinkages "none", "ledoit-wolf" and "oas" they cost
                ten times the amounts.
        """
        return ClassInformation.of(self.class_numbers(ranks=ranks), self.skipped)

    def class_numbers(self, *, ranks: bool = True) -> Tensor:  # (C, 8)
        """What `compute` says but for the rows skipped, as numbers that can be sent."""
        self._look()

        def is_stale(c: int) -> bool:
            _, count, rank, *_ = self._known.get(c, UNSEEN)
            return c not in self._known or (ranks and count >= 2 and isnan(rank))

        changed = ((c, state.current(), state.form) for c, state in self._current() if is_stale(c))
        anchors = {c: mean for c, (_, mean) in self._anchors.items()}
        self._known.update(measure_classes(changed, self.shrinkage, anchors, ranks=ranks))
        numbers = torch.tensor(UNSEEN, dtype=torch.float64, device="cpu").repeat(self.num_classes, 1)
        known = torch.tensor(list(self._known.values()), dtype=torch.float64, device="cpu")
        numbers[list(self._known)] = known.view(-1, len(UNSEEN))
        return numbers

    def forget(self) -> None:
        """End an epoch: keep `1 - forgetting` of the evidence, and measure `drift` from these means on.

        Raises:
            ArgumentError: if the memory budget does not hold what is kept. The meter is then as it was.
        """
        self._look()
        kept = 1 - self.forgetting
        current = dict(self._current())
        anchors: Means = {c: (state.count, state.mean.clone()) for c, state in current.items()}
        scaled = ((c, state.scaled(kept)) for c, state in current.items() if kept > 0)
        states = {c: state for c, state in scaled if state.count > 0}
        self._require_room(len(states), len(anchors))
        self._queue.drain()
        self._states, self._anchors, self._known = states, anchors, {}
        if not any(state.form == "sketch" for state in states.values()):
            self._sketch_size = None
        self._fit()

    def merge(self, other: "InformationMeter") -> None:
        """Take in what another meter saw, such as another process's; the other stays as it is.

        Options that do not change what is stored, such as the shrinkage, may differ: this meter's hold.

        Raises:
            ArgumentError: if the other is no other meter, or the two differ in classes, dimension or scale of
                the embeddings, or the memory budget does not hold the smallest sketches of all classes. The
                meter is then as it was.
        """
        require(isinstance(other, InformationMeter), "other", type(other).__name__, "an InformationMeter")
        require(other is not self, "other", "this meter itself", "another: its instances would count twice")
        self._require_alike("other", other.num_classes, other.dim, other.embeddings)
        self._look()
        other._look()
        theirs = dict(other._current())
        anchors = self._anchors.keys() | other._anchors.keys()
        self._require_room(len(self._states.keys() | theirs.keys()), len(anchors))
        for c, state in theirs.items():
            self._state(c).merge(state)
        for c, (count, mean) in other._anchors.items():
            held, held_mean = self._anchors.get(c, (0.0, mean))
            self._anchors[c] = held + count, torch.lerp(held_mean, mean, count / (held + count))
        for c in theirs.keys() | other._anchors.keys():
            self._known.pop(c, None)
        self.skipped += other.skipped
        self._fit()

    def add_classes(self, k: int) -> None:
        """Append k >= 0 classes, which start empty."""
        require_integer("k", k, least=0)
        self._look()
        self.num_classes += k

    @property
    def counts(self) -> Tensor:
        """Instances of each class: (C,) float64, a fraction where some are partly forgotten."""
        self._look()
        counts = self._queue.labels.bincount(minlength=self.num_classes).to(torch.float64)
        for c, state in self._states.items():
            counts[c] += state.count
        return counts

    @property
    def means(self) -> Tensor:
        """The mean embedding of each class, as measured: (C, p) float64, NaN where none was seen."""
        self._look()
        means = torch.full((self.num_classes, self.dim), torch.nan, dtype=torch.float64, device="cpu")
        for c, state in self._current():
            means[c] = state.mean
        return means

    def moments(self) -> Iterator[tuple[int, Moments]]:
        """Yield each class with an instance and its moments, which may change with the next update; read only."""
        for c, state in self.class_states().items():
            yield c, state.current()

    def class_states(self) -> dict[int, ClassState]:
        """Return what is held of each class with an instance, which may change with the next update; read only."""
        self._look()
        return dict(self._current())

    def copy(self) -> "InformationMeter":
        """Return a meter of the same rows; options that do not change what is stored are the default ones.

        What is large is shared until one of the two changes it.

        >>> meter = InformationMeter(2, 2)
        >>> meter.update(torch.eye(2), torch.tensor([0, 1]))
        >>> other = meter.copy()
        >>> other.update(torch.eye(2), torch.tensor([0, 0]))
        >>> meter.counts, other.counts
        (tensor([1., 1.], dtype=torch.float64), tensor([3., 1.], dtype=torch.float64))
        """
        self._look()
        other = InformationMeter(self.num_classes, self.dim, embeddings=self.embeddings)
        other._states = {c: state.copy() for c, state in self._states.items()}
        other._anchors, other.skipped, other._itemsize = dict(self._anchors), self.skipped, self._itemsize
        if (waiting := self._queue.peek()) is not None:
            for block in other._queue.push(*waiting):
                other._flush(block)
        return other

    @property
    def forms(self) -> tuple[Form | None, ...]:
        """How each class is stored: "rows" (in the queue too), "scatter", "sketch"; None without instances."""
        self._look()
        forms = {c: state.form for c, state in self._current()}
        return tuple(forms.get(c) for c in range(self.num_classes))

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors held: classes, queue and the means that drift is measured from."""
        means = sum(mean.nbytes for _, mean in self._anchors.values())
        return sum(state.nbytes for state in self._states.values()) + means + self._queue.nbytes

    def state_dict(self, classes: Sequence[int] | None = None) -> MeterState:
        """The state as tensors and builtins, which `torch.load(weights_only=True)` reads.

        The options that do not change what is stored (shrinkage, queue, forgetting, budget) are not in it.

        Args:
            classes: Those that are wanted, under the same numbers, as if no other had been seen; None for all.
        """
        self._look()
        nothing = torch.empty(0, self.dim, device="cpu"), torch.empty(0, dtype=torch.long, device="cpu")
        rows, labels = self._queue.peek() or nothing
        chosen: Iterable[int] = sorted(self._states.keys() | self._anchors.keys())
        if classes is not None:
            chosen = classes
            kept = torch.isin(labels, torch.tensor(list(classes), dtype=torch.long, device="cpu"))
            rows, labels = rows[kept], labels[kept]
        return {
            "num_classes": self.num_classes,
            "dim": self.dim,
            "embeddings": self.embeddings,
            "skipped": self.skipped,
            "states": pack_states({c: self._states[c] for c in chosen if c in self._states}, self.dim),
            "anchors": pack_means({c: self._anchors[c] for c in chosen if c in self._anchors}, self.dim),
            "queue": {"embeddings": rows, "labels": labels},
        }

    def load_state_dict(self, state: MeterState) -> None:
        """Take over what `state_dict` returned, on any device, in place of what this meter holds.

        Raises:
            ArgumentError: if the state is not one, or of other classes, dimension or scale of the
                embeddings, or breaks the memory budget. The meter is then as it was.
        """
        names = MeterState.__annotations__
        require(isinstance(state, dict), "state", type(state).__name__, "what `state_dict` returned")
        require(state.keys() == names.keys(), "state", sorted(state), f"the entries {', '.join(names)}")
        self._require_alike("state", state["num_classes"], state["dim"], state["embeddings"])
        states = unpack_states(state["states"], self.num_classes, self.dim)
        anchors = unpack_means(state["anchors"], self.num_classes, self.dim)
        waiting = state["queue"]
        size = len(waiting.get("labels", ()))
        require_shapes(waiting, {"embeddings": (size, self.dim), "labels": (size,)})
        rows, labels = waiting["embeddings"].cpu(), waiting["labels"].cpu()
        require_classes("labels", labels, self.num_classes, rows=size)
        require_finite("embeddings", rows)
        require(state["skipped"] >= 0, "skipped", state["skipped"], "at least 0")
        itemsize = max(4, rows.element_size())
        self._require_room(len(states.keys() | set(labels.tolist())), len(anchors), itemsize)
        self.reset()
        self._states, self._anchors, self.skipped = states, anchors, state["skipped"]
        self._itemsize = itemsize
        for block in self._queue.push(rows, labels):
            self._flush(block)
        self._fit()

    def _take(self, embeddings: Tensor, labels: Tensor) -> None:
        """Queue rows and flush what is full; nothing is changed where the budget is too small."""
        itemsize = max(self._itemsize, embeddings.element_size())
        if not self._unchecked:
            classes = set(labels.bincount().nonzero().flatten().tolist())
            if self.memory_budget is not None:
                seen = self._states.keys() | set(self._queue.labels.tolist()) | classes
                self._require_room(len(seen), len(self._anchors), itemsize)
            for c in classes:
                self._known.pop(c, None)
        self._itemsize = itemsize
        blocks = self._queue.push(embeddings, labels)
        if self._unchecked:
            self._take_late(blocks)
        elif blocks:
            for block in blocks:
                self._flush(block)
            self._fit()

    def _take_late(self, blocks: Iterable[Block]) -> None:
        """Flush rows of an accelerator, which nobody has looked at; complain of illegal ones after that."""
        wrong: list[int] = []
        for embeddings, labels in blocks:
            legal = (labels >= 0) & (labels < self.num_classes)
            if self.ignore_index is not None:
                legal |= labels == self.ignore_index
            rows, classes, skipped = self._checked(embeddings[legal], labels[legal])
            for c in classes.bincount().nonzero().flatten().tolist():
                self._known.pop(c, None)
            self._flush((rows, classes))
            self._count_skipped(skipped)
            wrong += labels[~legal].tolist()
        self._fit()
        got = f"{wrong[:3]} in rows of earlier updates, which are left out"
        require(not wrong, "labels", got, f"0 to {self.num_classes - 1}")

    def _checked(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, int]:
        """The rows that are measured, once labels and numbers are known to be legal, and how many are skipped."""
        ignored, skipped = self.ignore_index, 0
        require_classes("labels", labels, self.num_classes, ignore_index=ignored, rows=len(embeddings))
        labels = labels.long()
        kept = torch.ones_like(labels, dtype=torch.bool) if ignored is None else labels != ignored
        # The extremes of a batch are NaN or infinite where one of its numbers is: one look instead of one a number.
        if embeddings.numel() and not all(end.isfinite() for end in embeddings.aminmax()):
            if self.not_finite == "refuse":
                require_finite("embeddings", embeddings.masked_fill(~kept[:, None], 0))
            finite = embeddings.isfinite().all(dim=1)
            skipped = int((kept & ~finite).sum())
            kept &= finite
        return (embeddings, labels, 0) if bool(kept.all()) else (embeddings[kept], labels[kept], skipped)

    def _look(self) -> None:
        """Check and take in the rows of an accelerator that wait unchecked."""
        if self._unchecked:
            block = self._queue.drain()
            self._unchecked = False
            if block is not None:
                self._take_late([block])

    def _flush(self, block: Block) -> None:
        for c, rows in self._by_class(block):
            self._state(c).append(rows)

    def _by_class(self, block: Block) -> Iterator[tuple[int, Tensor]]:
        embeddings = on_scale(block[0], self.embeddings)
        for c, places in places_by_class(block[1]):
            yield c, embeddings.index_select(0, places)

    def _state(self, c: int) -> ClassState:
        return self._states.setdefault(c, ClassState(self.dim))

    def _current(self) -> Iterator[tuple[int, ClassState]]:
        """What is held of each class with the rows that wait in the queue, which stay there."""
        block = self._queue.peek()
        waiting: Mapping[int, Tensor] = dict(self._by_class(block)) if block else {}
        for c in sorted(self._states.keys() | waiting.keys()):
            state = self._states.get(c, ClassState(self.dim))
            yield c, state.with_rows(waiting[c]) if c in waiting else state

    def _require_alike(self, name: str, num_classes: int, dim: int, embeddings: str) -> None:
        for what, got in (("num_classes", num_classes), ("dim", dim), ("embeddings", embeddings)):
            mine = getattr(self, what)
            require(got == mine, f"{name}.{what}", got, f"{mine}, as in this meter")

    def _reserved(self, anchors: int, itemsize: int, dim: int) -> int:
        """Bytes that are not for the classes: of a full queue, and of the means that drift is measured from."""
        return self._queue.length * dim * itemsize + 8 * anchors * dim

    def _require_room(self, classes: int, anchors: int, itemsize: int = 4) -> None:
        """Raise `ArgumentError` unless a full queue and the smallest sketches of so many classes fit."""
        require_budget(
            self.memory_budget,
            lambda dim: self._reserved(anchors, itemsize, dim) + classes * sketch_bytes(1, dim),
            self.dim,
        )

    def _fit(self) -> None:
        if self.memory_budget is None:
            return
        room = self.memory_budget - self._reserved(len(self._anchors), self._itemsize, self.dim)
        before = self._sketch_size
        self._sketch_size = fit(self._states.values(), self.dim, room, before)
        if self._sketch_size != before:
            self._known = {}

    def _count_skipped(self, skipped: int) -> None:
        first = skipped > 0 and self.skipped == 0
        self.skipped += skipped
        if first:
            message = f"{skipped} embeddings with NaN or infinity skipped; later ones are counted silently"
            warnings.warn(message, RuntimeWarning, stacklevel=3)
