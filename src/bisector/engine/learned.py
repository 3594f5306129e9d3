"""Finds the learned numbers inside a user's margin, so that they get their gradient."""

from collections.abc import Callable

import torch
from torch import Tensor


def learned_in(
    function: Callable[..., Tensor] | None,
    score: Tensor,  # what the function is tried on
    *others: Tensor,
) -> list[Tensor]:
    """Return the leaves that a function of scores draws on and that require a gradient.

    A `torch.autograd.Function` passes gradients to its arguments alone; a learned number that a user's margin
    holds must therefore become one. It is found at the root of the graph that one call builds.

    Args:
        function: ``f(score, *others)``; None draws on nothing.
        score: scores to call it with.
        others: its further arguments.

    >>> m = torch.nn.Parameter(torch.tensor(0.3))
    >>> learned_in(lambda cosine: cosine - m.exp(), torch.zeros(3))[0] is m
    True
    """
    if function is None:
        return []
    with torch.enable_grad():
        leaf = score.detach().requires_grad_()
        result = function(leaf, *others)
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
