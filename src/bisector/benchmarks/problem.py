"""What every contender is given: embeddings, class weights, labels."""

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn import functional as F

from bisector.errors import require

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
PRECISIONS: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Size:
    """A batch of n embeddings with d dimensions, and c classes.

    >>> print(Size.parse("512x128x100000"))
    512x128x100000
    """

    n: int
    d: int
    c: int

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Read ``NxDxC``.

        Raises:
            ArgumentError: it is something else.
        """
        found = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text.strip().lower())
        numbers = [int(part) for part in found.groups()] if found else []
        legal = bool(numbers) and min(numbers) > 0 and numbers[2] > 1
        require(legal, "size", repr(text), "NxDxC: rows, dimensions, at least 2 classes, as 512x128x100000")
        return cls(*numbers)

    def __str__(self) -> str:
        return f"{self.n}x{self.d}x{self.c}"


class Problem:
    """Random embeddings that lean towards their classes, as in the middle of a training.

    Args:
        size: of the batch and the classes.
        precision: of the matrix products. The leaves are float32 always: the contenders run under autocast.
        device: where everything is.
        seed: of the random numbers.

    Attributes:
        embeddings: (N, D), a leaf that takes a gradient.
        weight: (C, D), one parameter that all contenders share.
        labels: (N,).
    """

    def __init__(self, size: Size, precision: Precision, device: torch.device, seed: int = 0) -> None:
        generator = torch.Generator(device).manual_seed(seed)
        self.size, self.precision, self.device = size, precision, device
        self.dtype = PRECISIONS[precision]
        weight = torch.randn(size.c, size.d, generator=generator, device=device).mul_(size.d**-0.5)
        self.labels = torch.randint(size.c, (size.n,), generator=generator, device=device)
        noise = torch.randn(size.n, size.d, generator=generator, device=device) * size.d**-0.5
        self.embeddings = (F.normalize(weight[self.labels]) + noise).requires_grad_()
        self.weight = Parameter(weight)

    @cached_property
    def transposed(self) -> Parameter:
        """(D, C): the weights of those who keep them this way."""
        return Parameter(self.weight.detach().t().contiguous())

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of the forward passes."""
        reduced = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if reduced else None, enabled=reduced)

    def random_amounts(self) -> Tensor:
        """Return (C,) bits, as information amounts may be."""
        return 5 + 10 * torch.rand(self.size.c, generator=torch.Generator().manual_seed(1))

    def long_tail(self) -> Tensor:
        """Return (C,) training instances of which some classes have a hundred times as many as others."""
        return 1000.0 * 100.0 ** -torch.linspace(0, 1, self.size.c)
