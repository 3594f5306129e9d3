"""Functions that a compiler leaves alone."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

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
