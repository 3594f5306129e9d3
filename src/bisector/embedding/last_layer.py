"""What the last layer of a network was given: its embeddings, heard while the network runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from bisector.errors import ArgumentError, require


class Heard:
    """The last input of a layer.

    Args:
        model: that holds the layer.
        layer: its name; None for whichever `nn.Linear` was called last.
    """

    def __init__(self, model: nn.Module, layer: str | None) -> None:
        self._model, self._layer = model, layer
        self._given: list[Any] = []

    def forget(self) -> None:
        """Forget what was heard, before the model runs again."""
        self._given = []

    def hear(self, _: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """Keep what a layer is given, as a hook."""
        self._given = [*inputs, *keywords.values()][:1]

    def vectors(self, rows: int) -> Tensor:  # (B, D)
        """The embeddings of a batch of so many rows, on the CPU.

        Raises:
            ArgumentError: if nothing was heard, or no vector a row.
        """
        called = "the last nn.Linear" if self._layer is None else repr(self._layer)
        none = f"{type(self._model).__name__}, which called no nn.Linear"
        got = none if self._layer is None else f"{called}, which was not called"
        require(bool(self._given), "layer", got, "the name of the module whose input is the embedding")
        given = self._given[0]
        tensor = isinstance(given, Tensor)
        shape = tuple(given.shape) if tensor else type(given).__name__
        fits = tensor and given.ndim >= 2 and len(given) == rows and set(given.shape[2:]) <= {1}
        legal = f"({rows}, D), a vector a row: another submodule"
        require(fits, "layer", f"{called}, whose input is {shape}", legal)
        vectors: Tensor = given.detach().flatten(1).float().cpu()
        return vectors


@contextmanager
def listening(model: nn.Module, layer: str | None = None) -> Iterator[Heard]:
    """Hear what a layer of a model is given, as long as the context lasts.

    Args:
        model: that runs within.
        layer: name of a submodule; None for the `nn.Linear` that is called last.

    Raises:
        ArgumentError: if there is no such layer.

    >>> import torch
    >>> network = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 5))
    >>> with listening(network) as heard:
    ...     scores = network(torch.ones(4, 3))
    >>> scores.shape, heard.vectors(4).shape
    (torch.Size([4, 5]), torch.Size([4, 2]))
    """
    modules = dict(model.named_modules())
    if layer is not None and layer not in modules:
        few = ", ".join([name for name in modules if name][-5:])
        raise ArgumentError(f"layer: got {layer!r}; expected a submodule of the model, such as {few}")
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    heard = Heard(model, layer)
    hooks = [
        module.register_forward_pre_hook(heard.hear, with_kwargs=True)
        for module in (linear if layer is None else [modules[layer]])
    ]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()
