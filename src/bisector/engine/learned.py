"""Finds the learned numbers inside a user's margin, so that they get their gradient."""

from torch import Tensor


def leaves_behind(
    result: Tensor,
    leaf: Tensor,
) -> list[Tensor]:
    """Return the leaves that a result was computed from and that require a gradient, but for the one that is known.

    A `torch.autograd.Function` passes gradients to its arguments alone; a learned number that a user's margin
    holds must therefore become one. It is found at the root of the graph of what the margin returned.

    Args:
        result: of a computation.
        leaf: what it was called with.

    >>> import torch
    >>> m, cosine = torch.nn.Parameter(torch.tensor(0.3)), torch.zeros(3, requires_grad=True)
    >>> leaves_behind(cosine - m.exp(), cosine)[0] is m
    True
    """
    found: dict[int, Tensor] = {}
    seen, waiting = set(), [result.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)  # only the node that accumulates a leaf's gradient has one
        if variable is not None and variable is not leaf:
            found[id(variable)] = variable
        waiting.extend(next_node for next_node, _ in node.next_functions)
    return list(found.values())
