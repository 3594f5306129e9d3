"""A meter that streams stored embeddings: instances a second, beside the bare matrix product, and memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks.growth import growth
from benchmarks.meter_check import Check, check_amounts
from benchmarks.meter_memory import MemoryNeed, memory_need
from bisector.data.tables import StoredEmbeddings, open_embeddings
from bisector.errors import require
from bisector.information.class_information import ClassInformation
from bisector.information.meter import InformationMeter

SIDE = 2048  # of the bare product: large enough to reach what the machine can do
QUEUE = 2000  # rows of the running merge's queue


@dataclass(frozen=True)
class Computed:
    """What one shrinkage took and gave.

    Args:
        shrinkage: its name.
        seconds: of the first `compute`, without effective ranks.
        rank_seconds: of another that adds them.
        information: what it said.
        checks: classes whose amount was computed from their rows, by form.
    """

    shrinkage: str
    seconds: float
    rank_seconds: float
    information: ClassInformation
    checks: list[Check]


@dataclass(frozen=True)
class MeterRun:
    """What streaming a table took.

    Args:
        rows: N that were measured.
        dim: p.
        classes: C.
        budget: bytes that the meter might hold, or None.
        update_seconds: inside `update`, of all parts.
        read_seconds: reading and decoding the parts.
        product_rate: multiply-adds a second of the bare float32 product, the median of those between the parts.
        held_bytes: of the meter's tensors after the last part.
        stream_bytes: how much the process grew at most while streaming, or None where it is not told.
        compute_bytes: the same up to the end of the first `compute`.
        queue: the seed's queue for which its scheme takes least.
        readings: one for each shrinkage, the first from the meter that streamed.
    """

    rows: int
    dim: int
    classes: int
    budget: int | None
    update_seconds: float
    read_seconds: float
    product_rate: float
    held_bytes: int
    stream_bytes: int | None
    compute_bytes: int | None
    queue: int
    readings: list[Computed]

    @property
    def rate(self) -> float:
        """Instances a second, of the updates alone."""
        return self.rows / self.update_seconds

    @property
    def share(self) -> float:
        """Multiply-adds a second of the updates, at p^2 an instance, over those of the bare product."""
        return self.rate * self.dim**2 / self.product_rate

    @property
    def need(self) -> MemoryNeed:
        """Bytes of keeping all embeddings, of the seed's scheme with its best queue, and of a running merge."""
        seed = memory_need(self.rows, self.dim, self.classes, self.queue)
        merge = memory_need(self.rows, self.dim, self.classes, QUEUE)
        return seed._replace(running_merge=merge.running_merge)


def measure_meter(
    path: Path,
    *,
    shrinkages: Sequence[str],
    budget: int | None = None,
    checked: int = 40,
    progress: Callable[[str], None] = lambda text: None,
) -> MeterRun:
    """Stream a table of embeddings into a meter, and say what it took and how right it is.

    Args:
        path: of the table.
        shrinkages: with which the amounts are computed; the meter that streams has the first.
        budget: bytes that the meter may hold, or None.
        checked: classes of each form whose amounts are computed from their rows, too.
        progress: told what is going on.

    Raises:
        ArgumentError: if there is nothing to measure, or a name is not legal.
    """
    require(bool(shrinkages), "shrinkages", "none", "at least one")
    stored = open_embeddings(str(path))
    classes = len(stored.class_names)
    meters = [
        InformationMeter(classes, stored.dim, shrinkage=name, memory_budget=budget) for name in shrinkages
    ]
    product = _Product()
    grown = growth()
    update, read, rows = _stream(stored, meters[0], product, progress)
    stream_bytes = grown()
    held = meters[0].nbytes
    progress(f"compute, {shrinkages[0]}")
    first = _computed(meters[0])
    compute_bytes = grown()
    computed = [first]
    for meter in meters[1:]:
        progress(f"compute, {meter.shrinkage}")
        meter.load_state_dict(meters[0].state_dict())
        computed.append(_computed(meter))
    informations = [information for *_, information in computed]
    progress("exact amounts")
    checks = check_amounts(stored, informations, shrinkages, checked)
    return MeterRun(
        rows=rows,
        dim=stored.dim,
        classes=classes,
        budget=budget,
        update_seconds=update,
        read_seconds=read,
        product_rate=product.rate,
        held_bytes=held,
        stream_bytes=stream_bytes,
        compute_bytes=compute_bytes,
        queue=cheapest_queue(rows, stored.dim, classes),
        readings=[
            Computed(name, *taken, found)
            for name, taken, found in zip(shrinkages, computed, checks, strict=True)
        ],
    )


def cheapest_queue(rows: int, dim: int, classes: int) -> int:
    """Return the queue, of at most all rows, for which the seed's scheme takes the fewest bytes.

    >>> cheapest_queue(1_000_000, 1024, 1203)
    500001
    """
    flushes = range(1, 200)
    candidates = {min(rows, rows // count + 1) for count in flushes}
    return min(candidates, key=lambda queue: memory_need(rows, dim, classes, queue).local_covariances)


def _stream(
    stored: StoredEmbeddings, meter: InformationMeter, product: "_Product", progress: Callable[[str], None]
) -> tuple[float, float, int]:
    """Feed every part; return the seconds of the updates, those of the reading, and the rows."""
    update = read = 0.0
    rows = 0
    for number, part in enumerate(stored.parts):
        progress(f"part {number + 1} of {len(stored.parts)}")
        # One after the other: a thread that reads ahead would take a core from the update.
        start = time.perf_counter()
        chunks = list(stored.chunks([part]))
        embeddings = torch.cat([torch.from_numpy(chunk.embeddings) for chunk in chunks])
        labels = torch.cat([torch.from_numpy(chunk.labels) for chunk in chunks])
        middle = time.perf_counter()
        meter.update(embeddings, labels)
        end = time.perf_counter()
        read, update, rows = read + middle - start, update + end - middle, rows + len(labels)
        product.run()
    require(rows > 0, "file", "no rows", "a table with embeddings and labels")
    return update, read, rows


class _Product:
    """A plain float32 matrix product, timed whenever it is asked for."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.left, self.right = torch.randn(2, SIDE, SIDE, generator=generator, device="cpu")
        self.out = self.left @ self.right  # the warm-up
        self.seconds: list[float] = []

    def run(self) -> None:
        start = time.perf_counter()
        torch.mm(self.left, self.right, out=self.out)
        self.seconds.append(time.perf_counter() - start)

    @property
    def rate(self) -> float:
        return SIDE**3 / median(self.seconds)


def _computed(meter: InformationMeter) -> tuple[float, float, ClassInformation]:
    """Return the seconds of the amounts, those of the effective ranks besides, and what was computed."""
    start = time.perf_counter()
    meter.compute(ranks=False)
    middle = time.perf_counter()
    information = meter.compute()
    return middle - start, time.perf_counter() - middle, information
