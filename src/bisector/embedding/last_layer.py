"""What the last layer of a network was given: its embeddings, heard while the network runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from bisector.errors import ArgumentError, require


class Heard:
    """What the layers of a model were given when it last ran.

    Of the layers of a width the last that was called is kept, so that little memory is held.

    Args:
        model: that holds the layers.
        layer: name of the one whose input is the embedding; None for the `nn.Linear` that gives the scores.
    """

    def __init__(self, model: nn.Module, layer: str | None) -> None:
        self._model, self._layer = model, layer
        self.linear: set[tuple[int, int]] = set()
        """The widths, of the input and of the output, of every `nn.Linear` that was called, or of `layer` alone."""
        self.note = ""
        """Which layer was chosen, and why."""
        self._given: dict[str, tuple[int, Any]] = {}  # in the order of the calls

    def forget(self) -> None:
        """Forget what was heard, before the model runs again."""
        self._given, self.linear = {}, set()

    def hear(self, name: str, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """Keep what a layer of this name is given, as a hook."""
        width = 0
        if isinstance(module, nn.Linear):
            width = module.out_features
            if self._layer in {None, name}:
                self.linear.add((module.in_features, width))
        earlier = [
            other for other, (wide, _) in self._given.items() if wide == width and other != self._layer
        ]
        for other in {*earlier, name}:
            self._given.pop(other, None)
        self._given[name] = (width, next(iter([*inputs, *keywords.values()]), None))

    def vectors(self, rows: int, classes: int) -> Tensor:  # (B, D)
        """The embeddings of a batch, on the CPU: the input of the layer, or of the last `nn.Linear` of this width.

        Where no `nn.Linear` is so wide, that of the last one.

        Args:
            rows: of the batch.
            classes: how many scores there are.

        Raises:
            ArgumentError: if nothing was heard, or no vector a row.
        """
        name, called = self._layer, f"{self._layer!r}"
        if name is None:
            wide = [one for one, (width, _) in self._given.items() if width == classes]
            name = next(reversed(wide or list(self._given)), None)
            called = "the last nn.Linear"
            why = (
                f"that gives {classes} numbers, one a class"
                if wide
                else f"of all; none gives {classes} numbers"
            )
            self.note = f"Embeddings are what {name!r} is given, the last nn.Linear {why}."
        else:
            self.note = f"Embeddings are what {name!r} is given, as asked for."
        none = f"{type(self._model).__name__}, which called no nn.Linear"
        got = none if self._layer is None else f"{called}, which was not called"
        legal = "the name of the module whose input is the embedding"
        require(name in self._given, "layer", got, legal)
        assert name is not None
        given = self._given[name][1]
        tensor = isinstance(given, Tensor)
        shape = tuple(given.shape) if tensor else type(given).__name__
        fits = tensor and given.ndim >= 2 and len(given) == rows and set(given.shape[2:]) <= {1}
        legal = f"({rows}, D), a vector a row: another submodule"
        require(fits, "layer", f"{called}, whose input is {shape}", legal)
        vectors: Tensor = given.detach().flatten(1).float().cpu()
        return vectors


@contextmanager
def listening(model: nn.Module, layer: str | None = None) -> Iterator[Heard]:
    """Hear what the layers of a model are given, as long as the context lasts.

    Args:
        model: that runs within.
        layer: name of the submodule whose input is the embedding; None for the `nn.Linear` that gives the scores.

    Raises:
        ArgumentError: if there is no such layer.

    >>> import torch
    >>> network = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 5))
    >>> with listening(network) as heard:
    ...     scores = network(torch.ones(4, 3))
    >>> scores.shape, heard.vectors(4, classes=5).shape, heard.note
    (torch.Size([4, 5]), torch.Size([4, 2]), "Embeddings are what '2' is given, the last nn.Linear that gives 5 \
numbers, one a class.")
    """
    modules = dict(model.named_modules())
    if layer is not None and layer not in modules:
        few = ", ".join([name for name in modules if name][-5:])
        raise ArgumentError(f"layer: got {layer!r}; expected a submodule of the model, such as {few}")
    heard = Heard(model, layer)
    hooks = [
        module.register_forward_pre_hook(partial(heard.hear, name), with_kwargs=True)
        for name, module in modules.items()
        if name == layer or isinstance(module, nn.Linear)
    ]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()
