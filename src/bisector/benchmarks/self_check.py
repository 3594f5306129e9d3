"""Whether the engine computes what it should on this machine: small random problems beside the plain formula."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bisector.benchmarks.installed import problem_of
from bisector.engine.budget import MemoryBudget
from bisector.engine.sampled import sample_classes
from bisector.engine.triton import why_not
from bisector.functional.margins import Margin
from bisector.functional.reference import LossSpec, dense_loss
from bisector.heads import IGAM, Head, build_head
from bisector.information.amount import information_amount
from bisector.training.precision import bf16_slowdown

HEADS = ("linear-softmax", "am-softmax", "arcface", "igam")
"""A plain one, margins on the cosine and on the angle, and one for each pair of classes."""

BOUND = 1e-4
"""By which a loss or a gradient in float32 may differ from float64, for each unit of the largest number."""

_ROWS, _DIM, _CLASSES, _SHARE = 256, 16, 2500, 0.3  # more scores than one chunk of the least budget


@dataclass(frozen=True)
class Check:
    """What one comparison found."""

    name: str
    passed: bool
    difference: (
        float  # the largest, for each unit of the largest number that was expected; NaN if there is none
    )
    bound: float
    problem: str | None  # what was raised instead
    seconds: float


@dataclass(frozen=True)
class Device:
    """What can compute."""

    name: str  # for PyTorch, such as "cuda:0"
    description: str
    memory_bytes: int | None
    bf16: bool  # whether it multiplies matrices of bfloat16
    bf16_slowdown: float | None = None  # how many times as long as in float32 that takes, of the CPU


def devices() -> list[Device]:
    """Return the processor, and the GPUs that PyTorch can use."""
    from bisector.benchmarks.memory import total_bytes

    capability = torch.backends.cpu.get_cpu_capability()
    threads = torch.get_num_threads()
    told = f"{threads} thread{'s' * (threads != 1)}, {capability}"
    found = [Device("cpu", told, total_bytes(), _multiplies_bf16("cpu"), bf16_slowdown())]
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        found.append(
            Device(f"cuda:{index}", f"{gpu.name}, CUDA {torch.version.cuda}", gpu.total_memory, _cuda_bf16())
        )
    if torch.backends.mps.is_available():
        memory = torch.mps.recommended_max_memory()
        found.append(Device("mps", "Apple GPU", memory, _multiplies_bf16("mps")))
    return found


def checks(device: str) -> Iterator[Check]:
    """Compare the engine on a device with the plain formula in float64, one head and backend after another."""
    backends = ["chunked"]
    if device != "cpu" and why_not(torch.device(device)) is None:  # there the interpreter would take minutes
        backends.append("triton")
    for backend in backends:
        for head in HEADS:
            yield _check(f"{device} {backend} {head}", lambda h=head, b=backend: _loss(h, b, device))  # type: ignore[misc]
    for head in HEADS[1:]:
        yield _check(f"{device} sampled {head}", lambda h=head: _sampled(h, device))  # type: ignore[misc]
    yield _check(f"{device} information_amount", lambda: _amount(device), bound=1e-6)


def _check(name: str, difference: Callable[[], float], bound: float = BOUND) -> Check:
    start = time.monotonic()
    try:
        found, problem = difference(), None
    except Exception as error:  # whatever is wrong with the machine is what is asked for
        found, problem = math.nan, problem_of(error)
    return Check(name, found <= bound, found, bound, problem, time.monotonic() - start)


def _loss(name: str, backend: str, device: str) -> float:
    head, embeddings, labels = _problem(name)
    expected = _reference(head, embeddings, labels)
    head = head.to(device)
    head.backend, head.budget = backend, MemoryBudget(chunk_bytes=2**20)  # type: ignore[assignment]
    return _difference(head, embeddings.to(device), labels.to(device), expected)


def _sampled(name: str, device: str) -> float:
    head, embeddings, labels = _problem(name)
    head, labels = head.to(device).train(), labels.to(device)
    head.backend, head.sample, head.sparse = "chunked", _SHARE, False
    torch.manual_seed(1)
    drawn = sample_classes(labels, _CLASSES, _SHARE).cpu()  # what the same seed draws again
    expected = _reference(copy.deepcopy(head).cpu(), embeddings, labels.cpu(), drawn)
    torch.manual_seed(1)
    return _difference(head, embeddings.to(device), labels, expected)


def _problem(name: str) -> tuple[Head, Tensor, Tensor]:
    """Return a head, embeddings and labels, the same at every call."""
    draw = torch.Generator().manual_seed(0)
    embeddings = torch.randn(_ROWS, _DIM, generator=draw)
    labels = torch.randint(_CLASSES, (_ROWS,), generator=draw)
    head = build_head(name, _DIM, _CLASSES)
    if isinstance(head, IGAM):
        head.set_amounts(20 + 20 * torch.rand(_CLASSES, generator=draw, dtype=torch.float64))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) if parameter.dim() else parameter)
    return head, embeddings, labels


def _reference(
    head: Head, embeddings: Tensor, labels: Tensor, drawn: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Return loss and gradients by the dense formula in float64, over these classes as if there were no others."""
    exact = copy.deepcopy(head).double()
    x, w = embeddings.double().requires_grad_(), exact.weight.detach().requires_grad_()
    offset = None if exact.bias is None else exact.bias.detach()
    scale = exact.logit_scale()
    margin, weight = exact.margin(), w
    if drawn is not None:
        weight, labels = w[drawn], torch.searchsorted(drawn, labels)
        offset = None if offset is None else offset[drawn]
        margin = _of_classes(margin, drawn)
    spec = LossSpec(
        score=exact.score, margin=margin, row_loss=exact._row_loss(), scale=float(scale), offset=offset
    )
    loss = dense_loss(x, weight, labels, spec)
    return (loss.detach(), *torch.autograd.grad(loss, [x, w]))


def _of_classes(margin: Margin, drawn: Tensor) -> Margin:
    pairs = margin.pairwise
    return (
        margin
        if pairs is None
        else replace(margin, pairwise=replace(pairs, r=pairs.r[drawn], c=pairs.c[drawn]))
    )


def _difference(head: Head, embeddings: Tensor, labels: Tensor, expected: tuple[Tensor, ...]) -> float:
    embeddings.requires_grad_()
    loss = head(embeddings, labels)
    found = (loss.detach(), *torch.autograd.grad(loss, [embeddings, head.weight]))
    apart = [
        float((one.cpu().double() - other).abs().max() / other.abs().max())
        for one, other in zip(found, expected, strict=True)
    ]
    return math.nan if any(map(math.isnan, apart)) else max(apart)


def _amount(device: str) -> float:
    """Compare with `1/2 log2 det(I + Sigma)` as numpy has it."""
    import numpy as np

    rows = torch.randn(60, 12, generator=torch.Generator().manual_seed(0))
    found = float(information_amount(rows.to(device), shrinkage="none"))
    sigma = np.cov(rows.double().numpy(), rowvar=False, bias=True)
    expected = float(np.linalg.slogdet(np.eye(12) + sigma)[1] / (2 * math.log(2)))
    return abs(found - expected) / expected


def _cuda_bf16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _multiplies_bf16(device: str) -> bool:
    try:
        ones = torch.ones(4, 4, dtype=torch.bfloat16, device=device)
        return bool((ones @ ones == 4).all())
    except (RuntimeError, TypeError):
        return False
