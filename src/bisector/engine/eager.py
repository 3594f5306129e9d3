"""Functions that a compiler leaves alone, and what else cannot take them."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def uncompiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return the function so that `torch.compile` breaks its graph there instead of tracing it.

    What `torch.compiler.disable` does; but as a decorator that one loads the compiler at once, which takes longer
    than all of bisector and brings Triton along.
    """

    @wraps(function)
    def call(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        if torch.compiler.is_compiling():
            eager: Callable[Parameters, Result] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
            return eager(*arguments, **options)
        return function(*arguments, **options)

    return call


def only_plain_calls(tensor: Tensor) -> str | None:
    """Return what takes the plain formula alone, no walk in place and no draw of classes; None if nothing does.

    >>> only_plain_calls(torch.zeros(1, device="meta"))
    'meta tensors'
    """
    if torch.compiler.is_compiling():
        return None  # see `uncompiled`
    if torch._C._are_functorch_transforms_active():
        return "torch.func"
    if torch._C._is_tracing():
        return "torch.jit.trace"
    if tensor.is_meta:
        return "meta tensors"
    return "fake tensors" if isinstance(tensor, FakeTensor) else None
