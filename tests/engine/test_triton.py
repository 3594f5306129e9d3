"""The Triton kernels beside the dense loss: in the interpreter, in a process of its own, and on a GPU, if any.

The interpreter must be asked for before Triton is first imported, and would stay for whatever uses Triton later.
"""

import math
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from bisector.engine.budget import MemoryBudget
from bisector.engine.dispatch import margin_cross_entropy
from bisector.errors import ArgumentError
from bisector.functional.margins import Margin, PairwiseMargin
from bisector.functional.row_losses import RowLoss

D = 8
SIZES = [
    (1, 2),
    (37, 70),
    (130, 33),
    (3, 300),
]  # rows, classes; a program has 128 rows, 256 classes in steps of 16 or 32


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pairwise(C: int, direction: str, largest: float) -> Margin:
    r, c = (random(C, seed=seed).sigmoid() * largest for seed in (1, 2))
    return Margin(pairwise=PairwiseMargin(r, c, direction))


def lifted(cosine: Tensor, y: Tensor, j: Tensor) -> Tensor:
    return cosine + 0.1 * (1 - cosine**2) * (j % 3)


@dataclass(frozen=True)
class Case:
    name: str
    margin: Callable[[int], Margin] = field(default=lambda C: Margin())
    options: dict[str, Any] = field(default_factory=dict)
    learned_scale: bool = False
    offset: bool = False
    class_weight: bool = False
    soft: bool = False
    sub_centers: int = 1
    ignored: int = 0  # every so-manieth row

    def __str__(self) -> str:
        return self.name


SMOOTH = {"row_loss": RowLoss(label_smoothing=0.2)}
EVERYTHING = {"learned_scale": True, "offset": True, "class_weight": True}
CASES = [
    Case("plain"),
    Case("sum", options={"reduction": "sum"}),
    Case("none", options={"reduction": "none"}),
    Case("dot", options={"score": "dot"}, offset=True),
    Case("ignored", ignored=3),
    Case("all-ignored", ignored=1, class_weight=True, options=SMOOTH),
    Case("scale-and-offset", learned_scale=True, offset=True),
    Case("target-and-shift", lambda C: Margin(target=lambda cos, y: cos - 0.3, competitor_shift=0.2)),
    Case(
        "shift-and-all",
        lambda C: Margin(competitor_shift=-0.2),
        SMOOTH | {"reduction": "none"},
        **EVERYTHING,
        ignored=4,
    ),
    Case("relax", lambda C: pairwise(C, "relax", 1.0)),
    Case("press", lambda C: pairwise(C, "press", 1.0)),
    Case("relax-beyond-pi", lambda C: pairwise(C, "relax", 15.0), learned_scale=True, offset=True),
    Case("press-beyond-pi", lambda C: pairwise(C, "press", 15.0), learned_scale=True, offset=True),
    Case("smoothing", options=SMOOTH),
    Case("smoothing-and-weights", options=SMOOTH, class_weight=True, ignored=5),
    Case("added-target", options={"row_loss": RowLoss(added_target=0.01)}),
    Case("probability", options={"row_loss": RowLoss("probability")}, class_weight=True),
    Case("soft", soft=True),
    Case("soft-and-all", lambda C: pairwise(C, "press", 2.0), SMOOTH, soft=True, **EVERYTHING),
    Case("sub-centers", sub_centers=3, ignored=6),
    Case("sub-centers-and-all", lambda C: pairwise(C, "relax", 2.0), SMOOTH, **EVERYTHING, sub_centers=2),
    Case("custom", lambda C: Margin(custom=lifted), learned_scale=True, offset=True),
]


def answers(
    number: int,
    size: tuple[int, int],
    backend: str,
    dtype: torch.dtype,
    autocast: torch.dtype | None = None,
    device: str = "cpu",
    budget: MemoryBudget | None = None,
    turn: int = 0,
) -> list[Tensor]:
    """The loss and its gradients, in float64 whatever they were computed in; with the features in another order."""
    case, (B, C) = CASES[number], size
    to = {"dtype": dtype, "device": device}
    shape = (C, D) if case.sub_centers == 1 else (C, case.sub_centers, D)
    leaves = [random(B, D, seed=3).roll(turn, -1).to(**to), random(*shape, seed=4).roll(turn, -1).to(**to)]
    options: dict[str, Any] = {"scale": 8.0, "budget": budget, **case.options}
    if case.learned_scale:
        options["scale"] = torch.tensor(8.0, **to)
        leaves.append(options["scale"])
    if case.offset:
        options["offset"] = random(C, seed=5).to(**to)
        leaves.append(options["offset"])
    if case.class_weight:
        options["class_weight"] = random(C, seed=6).exp().to(**to)
    labels = torch.randint(C, (B,), generator=torch.Generator().manual_seed(7)).to(device)
    if case.ignored:
        labels[:: case.ignored] = -100
    if case.soft:  # classes next to rows in memory, as a transposed view has them
        labels = random(C, B, seed=8).softmax(0).to(**to).t()
    x, w = leaves[0].requires_grad_(), leaves[1].requires_grad_()
    for leaf in leaves[2:]:
        leaf.requires_grad_()
    with torch.autocast(device, dtype=autocast, enabled=autocast is not None):
        loss = margin_cross_entropy(x, w, labels, margin=case.margin(C), backend=backend, **options)
    weights = torch.linspace(1, 2, loss.numel(), **to).view_as(loss)
    by_x, by_w, *others = torch.autograd.grad((loss * weights).sum(), leaves)
    found = loss, by_x.roll(-turn, -1), by_w.roll(-turn, -1), *others
    return [answer.detach().double().cpu() for answer in found]


def poisoned(*arguments: Any) -> list[Tensor]:
    """The answers where every new piece of memory is full of NaN."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    return answers(*arguments)


def require_close(
    ours: list[Tensor],
    number: int,
    size: tuple[int, int],
    autocast: torch.dtype | None = None,
    device: str = "cpu",
) -> None:
    """Ours may be twice as far from the exact numbers as the dense ones of the same dtype are.

    Of few numbers the dense ones may all be rounded luckily: the furthest over eight orders of the features counts.
    What is left is a floor: some roundings of a logit, whose size the loss of a confident row does not show, and in
    half precision one rounding of the result, since a sum over rows may be rounded luckily in all eight orders.
    """
    exact = answers(number, size, "dense", torch.float64)
    same = [answers(number, size, "dense", torch.float32, autocast, device, turn=turn) for turn in range(8)]
    floor = 32 * torch.finfo(torch.float32).eps
    each = size[0] if CASES[number].options.get("reduction", "mean") == "mean" else 1
    for k, (mine, right) in enumerate(zip(ours, exact, strict=True)):
        allowed = 2 * max(float((dense[k] - right).abs().max()) for dense in same)
        largest = float(right.abs().max())
        allowed += floor * (1 if k == 0 else max(1 / each, largest))
        allowed += 0 if autocast is None else torch.finfo(autocast).eps * largest
        assert float((mine - right).abs().max()) <= allowed, (k, mine, right)


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    pytest.importorskip("triton")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with patch.dict(os.environ, TRITON_INTERPRET="1"):
            pool.submit(os.getpid).result()
        yield pool


ALL = pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])


@pytest.mark.parametrize("size", SIZES, ids=str)
@ALL
def test_every_option_gives_the_dense_numbers(
    interpreter: ProcessPoolExecutor, number: int, size: tuple[int, int]
) -> None:
    require_close(interpreter.submit(poisoned, number, size, "triton", torch.float32).result(), number, size)


@ALL
def test_every_option_gives_the_dense_numbers_in_float64(
    interpreter: ProcessPoolExecutor, number: int
) -> None:
    exact = answers(number, (37, 70), "dense", torch.float64)
    ours = interpreter.submit(poisoned, number, (37, 70), "triton", torch.float64).result()
    torch.testing.assert_close(ours, exact, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
@ALL
def test_every_option_gives_the_dense_numbers_under_autocast(
    interpreter: ProcessPoolExecutor, number: int, half: torch.dtype
) -> None:
    ours = interpreter.submit(poisoned, number, (37, 70), "triton", torch.float32, half).result()
    require_close(ours, number, (37, 70), half)


@pytest.mark.parametrize("name", ["none", "soft-and-all", "sub-centers-and-all"])
def test_many_chunks_and_blocks_give_the_same(interpreter: ProcessPoolExecutor, name: str) -> None:
    number = [case.name for case in CASES].index(name)
    size, budget = (300, 900), MemoryBudget(chunk_bytes=1 << 20)
    arguments = (number, size, "triton", torch.float32, None, "cpu", budget)
    require_close(interpreter.submit(poisoned, *arguments).result(), number, size)


def rows_with(bad: float, where: str) -> list[list[bool]]:
    """Which rows' losses, and whose embeddings' gradients, are not numbers."""
    x, w = random(5, D, seed=1).float(), random(40, D, seed=2).float()
    (x if where == "x" else w)[2, 0] = bad
    x.requires_grad_()
    margin = pairwise(40, "relax", 1.0)
    rows = margin_cross_entropy(
        x, w, torch.arange(5), margin=margin, reduction="none", backend="triton", row_loss=SMOOTH["row_loss"]
    )
    (gradient,) = torch.autograd.grad(rows.sum(), x)
    return [rows.isnan().tolist(), gradient.isnan().any(1).tolist()]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_come_out_as_nan(interpreter: ProcessPoolExecutor, bad: float) -> None:
    only = [False, False, True, False, False]
    assert interpreter.submit(rows_with, bad, "x").result() == [only, only]
    assert interpreter.submit(rows_with, bad, "w").result() == [[True] * 5] * 2


def with_a_class_that_cannot_be(backend: str) -> list[Tensor]:
    offset = torch.zeros(40)
    offset[::2] = -math.inf  # the logarithm of a prior of 0
    x = random(5, D, seed=1).float().requires_grad_()
    labels = torch.tensor([1, 3, 5, 7, 9])
    loss = margin_cross_entropy(x, random(40, D, seed=2).float(), labels, offset=offset, backend=backend)
    return [loss.detach(), *torch.autograd.grad(loss, x)]


def test_offsets_of_minus_infinity_take_a_class_out(interpreter: ProcessPoolExecutor) -> None:
    ours = interpreter.submit(with_a_class_that_cannot_be, "triton").result()
    torch.testing.assert_close(ours, with_a_class_that_cannot_be("dense"))


def test_without_a_device_for_it_the_error_says_what_runs() -> None:
    pytest.importorskip("triton")
    with pytest.raises(ArgumentError, match=r"'triton', but 'cpu' tensors.*expected 'chunked'"):
        margin_cross_entropy(torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 1]), backend="triton")


def in_a_fresh_process(code: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout


WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # as where it is not installed
import torch, bisector as bs
x, w, y = torch.ones(2, 3), torch.randn(4, 3), torch.tensor([0, 1])
print(float(bs.margin_cross_entropy(x, w, y, backend="chunked")) > 0)
try:
    bs.margin_cross_entropy(x, w, y, backend="triton")
except bs.ArgumentError as error:
    print(error)
"""


def test_without_triton_the_error_says_what_is_missing() -> None:
    said = in_a_fresh_process(WITHOUT_TRITON)
    assert said.startswith("True\n")
    assert "no package 'triton'" in said
    assert "expected 'chunked', which runs everywhere" in said


def test_nothing_imports_triton_before_it_is_asked_for() -> None:
    code = "import sys, bisector, bisector.engine.dispatch; print('triton' in sys.modules)"
    assert in_a_fresh_process(code) == "False\n"


KERNELS = {
    "everything, for bfloat16 scores": {"scores": "*bf16", "K": 3, "RELAX": True, "WRAPS": True},
    "the least, for float16 scores": {"scores": "*fp16", "K": 1, "RELAX": None, "WRAPS": False},
}
INTEGERS = {"start": "i32", "classes": "i32", "rows": "i32", "soft_row": "i64", "soft_class": "i32"}
OPTIONAL = {"offset", "demand", "soft", "soft_demand", "target_dot", "grad_offset", "grad_scale"}
ANGLES = {"r", "r_sine", "r_cosine", "c", "c_sine", "c_cosine"}


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["statistics", "gradient"])
@pytest.mark.parametrize("which", KERNELS)
def test_the_kernels_compile_for_gpus(
    which: str, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton brings its own compiler, which needs no GPU; the interpreter takes much that it refuses."""
    pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile
    from triton.runtime import JITFunction

    from bisector.engine import triton, triton_kernels

    function = getattr(triton_kernels, kernel)
    if not isinstance(function, JITFunction):
        pytest.skip("Triton interprets in this process")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    fixed = {**KERNELS[which], "SPAN": triton.SPAN, "CLASSES": triton.STEPS[kernel], "ROWS": triton.ROWS}
    scores, least = fixed.pop("scores"), fixed["RELAX"] is None
    signature, constants = {}, {}
    for k, name in enumerate(function.arg_names):
        if name in fixed or (least and name in OPTIONAL | ANGLES):
            signature[name], constants[(k,)] = "constexpr", fixed.get(name)
        else:
            other = {"scores": scores, "labels": "*i64", **INTEGERS}
            signature[name] = other.get(name, "*fp32")
    source = ASTSource(function, signature, constants)
    done = compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": True})
    assert done.asm["cubin"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", [*SIZES, (300, 5000)], ids=str)
@ALL
def test_every_option_gives_the_dense_numbers_on_a_gpu(
    number: int, size: tuple[int, int], autocast: torch.dtype | None
) -> None:
    require_close(
        answers(number, size, "triton", torch.float32, autocast, "cuda"), number, size, autocast, "cuda"
    )
