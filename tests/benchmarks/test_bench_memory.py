import contextlib
import ctypes
import gc
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bisector.benchmarks.contenders import Contender, floors, limits, peers
from bisector.benchmarks.heads import heads
from bisector.benchmarks.losses import foretold_bytes
from bisector.benchmarks.memory import binary, free_bytes, peak_extra_bytes, total_bytes
from bisector.benchmarks.problem import Problem, Size
from bisector.cores import process_peak_bytes
from bisector.engine.budget import release_workspace

CPU = torch.device("cpu")
N, D, C = 64, 32, 1000
MATRIX, WEIGHTS, ROWS = 4 * N * C, 4 * C * D, 4 * N * D
FEW = 100  # bytes for sums and what they are made of


def problem() -> tuple[Tensor, Tensor]:
    return torch.randn(N, D, requires_grad=True), torch.randn(C, D, requires_grad=True)


class InPlace(torch.autograd.Function):
    """Makes two buffers of which autograd sees none, and lets one go before it makes the next."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        first = torch.empty(1000)
        del first
        second = torch.empty(500)
        return x + second[0] * 0

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        scratch = torch.empty(2000)
        scratch.fill_(0)
        return gradient + scratch[0]


def test_known_allocations_are_counted() -> None:
    x, w = problem()
    two = peak_extra_bytes(lambda: (x @ w.T).exp().sum())  # autograd keeps both, or at least has them at once
    assert 2 * MATRIX <= two <= 2 * MATRIX + FEW
    with torch.no_grad():
        one = peak_extra_bytes(lambda: (x @ w.T).exp_().sum())
    assert MATRIX <= one <= MATRIX + FEW
    assert peak_extra_bytes(lambda: None) == 0
    assert peak_extra_bytes(lambda: torch.ones(1000, dtype=torch.float64)) == 8000
    assert peak_extra_bytes(lambda: [torch.ones(1000), torch.ones(500)]) == 6000  # what is returned is alive


def test_backward_and_its_gradients_are_counted() -> None:
    x, w = problem()
    taken = peak_extra_bytes(lambda: (x @ w.T).square().sum().backward())
    # At its end: the scores' gradient and that of the weights or the rows; before: scores, squares, gradient.
    assert 3 * MATRIX <= taken <= 4 * MATRIX + WEIGHTS + ROWS + FEW
    assert x.grad is not None
    again = peak_extra_bytes(lambda: (x @ w.T).square().sum().backward())
    assert again >= taken  # gradients are there; new ones are made and added


def test_what_an_autograd_function_does_is_seen() -> None:
    x = torch.ones((), requires_grad=True)
    assert 4000 <= peak_extra_bytes(lambda: InPlace.apply(x)) <= 4000 + FEW
    assert 8000 <= peak_extra_bytes(lambda: InPlace.apply(x).backward()) <= 8000 + FEW


def test_temporaries_inside_operations_are_seen() -> None:
    # cross_entropy keeps the logarithms of the softmax, which no caller of it holds.
    logits, labels = torch.randn(N, C), torch.zeros(N, dtype=torch.long)
    assert MATRIX <= peak_extra_bytes(lambda: F.cross_entropy(logits, labels)) <= MATRIX + 8 * N + FEW


def test_letting_go_of_what_was_there_before_makes_no_room() -> None:
    held = [torch.ones(100_000)]
    assert peak_extra_bytes(held.clear) == 0
    held = [torch.ones(100_000)]

    def replace() -> None:
        held.clear()
        held.append(torch.ones(1000))

    assert peak_extra_bytes(replace) == 4000


def all_contenders() -> list[Contender]:
    return [*limits(reduced=False), *floors(), *peers(), *heads(["am-softmax"], ["auto", "dense"])]


@pytest.fixture(scope="module")
def clean() -> Iterator[ProcessPoolExecutor]:
    """A process in which nothing else was done: what others have let go of would be taken again, unseen."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own count is read from /proc")
@pytest.mark.parametrize("number", range(len(all_contenders())), ids=[c.name for c in all_contenders()])
def test_it_is_what_the_system_counts(clean: ProcessPoolExecutor, number: int) -> None:
    """The kernel's count of resident pages knows nothing of PyTorch's allocator."""
    counted, resident = clean.submit(counted_twice, number).result()
    if resident is None:
        pytest.skip("this system does not let a process reset its peak")
    assert abs(counted - resident) < 0.15 * counted + 6 * 2**20


def counted_twice(number: int) -> tuple[int, int | None]:
    """The bytes of a contender's step as we count them, and as the system does."""
    contender = all_contenders()[number]
    large = Problem(Size(512, 16, 20_000), "float32", CPU)
    contender.prepare(Problem(Size(512, 16, 200), "float32", CPU)).run()  # loads what is loaded once
    step = contender.prepare(large)
    release_workspace()
    counted = peak_extra_bytes(step.run)
    step = contender.prepare(large)
    step.clear()
    release_workspace()
    return counted, resident_bytes(step.run)


def resident_bytes(run: Callable[[], object]) -> int | None:
    gc.collect()  # what others left in cycles would otherwise be let go of meanwhile
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what the C library keeps would be taken again unseen
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes the present
    except OSError:
        return None
    words = Path("/proc/self/status").read_text().split()
    before = 1024 * int(words[words.index("VmRSS:") + 1])
    run()
    peak = process_peak_bytes()
    assert peak is not None
    return peak - before


@pytest.mark.parametrize("contender", [*floors()[:2], *peers()], ids=lambda contender: contender.name)
def test_what_a_large_problem_takes_is_foretold_from_small_ones(contender: Contender) -> None:
    size = Size(64, 16, 12_000)
    foretold = foretold_bytes(contender, size, "float32")
    large = Problem(size, "float32", CPU)
    assert peak_extra_bytes(lambda: contender.prepare(large).run()) == pytest.approx(foretold, rel=0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_machine_tells_its_memory() -> None:
    total, free, used = total_bytes(), free_bytes(), process_peak_bytes()
    assert total is not None
    assert free is not None
    assert used is not None
    assert 0 < free <= total
    assert 50 * 2**20 < used < total
    assert binary(1536 * 2**20) == "1.50 GiB"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_known_allocations_are_counted_on_a_gpu() -> None:
    x, w = torch.randn(512, 256, device="cuda"), torch.randn(4096, 256, device="cuda")
    peak_extra_bytes(lambda: x @ w.T, "cuda")  # the workspace of the products is made once
    two = peak_extra_bytes(lambda: (x @ w.T).exp().sum(), "cuda")
    assert 2 * 4 * 512 * 4096 <= two <= 2 * 4 * 512 * 4096 + 2**20
