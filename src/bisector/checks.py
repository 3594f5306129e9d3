"""What embeddings and class labels must be, checked the same way everywhere."""

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from bisector.errors import require


def require_embeddings(name: str, embeddings: Tensor, dim: int | None = None) -> None:
    """Raise `ArgumentError` unless the embeddings are a floating (B, D) tensor, D being `dim` where given."""
    require(isinstance(embeddings, Tensor), name, type(embeddings).__name__, "a tensor")
    if not sizes_are_traced():
        fits = (
            embeddings.dim() == 2 and embeddings.shape[1] > 0 and (dim is None or embeddings.shape[1] == dim)
        )
        legal = f"(rows, {'dimension' if dim is None else dim})"
        require(fits, name, f"shape {tuple(embeddings.shape)}", legal)
    require(embeddings.is_floating_point(), name, embeddings.dtype, "a floating dtype")


def sizes_are_traced() -> bool:
    """Return whether `torch.jit.trace` is at work, also within the older exporter to ONNX: sizes are tensors then.

    To compare one would fix it: the trace would warn, and hold for no other number of rows.
    """
    return not torch.compiler.is_compiling() and torch._C._is_tracing()


def value_of(condition: Tensor) -> bool | None:
    """Return what a 0-d condition is, or None where it has no value yet.

    So it is where a graph is being compiled or traced, under `torch.func.vmap`, and of meta and fake tensors.

    >>> value_of(torch.tensor(True)), value_of(torch.tensor(True, device="meta"))
    (True, None)
    """
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return None  # to read it would break the graph in two, or bake it in
    if condition.is_meta or isinstance(condition, FakeTensor):
        return None
    try:
        return bool(condition)
    except RuntimeError:
        if torch._C._are_functorch_transforms_active():
            return None
        raise


def require_classes(
    name: str,
    indices: Tensor,  # (...)
    num_classes: int,
    *,
    ignore_index: int | None = None,
    rows: int | None = None,
) -> None:
    """Raise `ArgumentError` at the first index that is no class 0..C-1; not where there are no values to look at.

    Args:
        name: of the argument.
        indices: of any integer dtype.
        num_classes: C.
        ignore_index: an index that is legal too.
        rows: where given, the indices must be a vector of this length.

    >>> require_classes("labels", torch.tensor([0, 3]), 3)
    Traceback (most recent call last):
    bisector.errors.ArgumentError: labels: got 3 at position 1; expected 0 to 2
    """
    require(isinstance(indices, Tensor), name, type(indices).__name__, "a tensor")
    if not sizes_are_traced():
        fits = rows is None or indices.shape == (rows,)
        require(fits, name, f"shape {tuple(indices.shape)}", f"({rows},)")
    integer = not (indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool)
    require(integer, name, indices.dtype, "an integer dtype")
    if torch.compiler.is_compiling():
        return
    indices = indices.long()  # a byte cannot be compared with 1,203
    wrong = (indices < 0) | (indices >= num_classes)
    if ignore_index is not None:
        wrong &= indices != ignore_index
    if value_of(wrong.any()):
        position = int(wrong.flatten().nonzero()[0])
        ignored = "" if ignore_index is None else f", or ignore_index={ignore_index}"
        got = f"{int(indices.flatten()[position])} at position {position}"
        require(False, name, got, f"0 to {num_classes - 1}{ignored}")


def require_of_each_class(
    name: str,
    values: Tensor,  # (C,)
    legal: Tensor,  # (C,) bool
    expected: str,
) -> None:
    """Raise `ArgumentError` at the first class whose value is not legal; of a thousand, only that one is shown.

    >>> counts = torch.tensor([3.0, -1.0, -2.0])
    >>> require_of_each_class("class_counts", counts, counts >= 0, "numbers of at least 0")
    Traceback (most recent call last):
    bisector.errors.ArgumentError: class_counts: got -1.0 for class 1; expected numbers of at least 0
    """
    if value_of(legal.all()) is False:
        first = int((~legal).nonzero()[0])
        require(False, name, f"{float(values[first])} for class {first}", expected)
