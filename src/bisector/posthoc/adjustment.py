"""What is done to the scores of a trained model, and the simplest of it: one offset for each class."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from bisector.errors import require, require_choice, require_number
from bisector.files import read_json, reading, write_whole
from bisector.posthoc.modules import AdjustmentModule, OffsetModule

Kind: TypeAlias = Literal["logits", "probabilities"]
KINDS: tuple[Kind, ...] = ("logits", "probabilities")


class BaseAdjustment(ABC):
    """What is done to the scores of a trained model before it decides.

    Attributes:
        kind: what the scores are: "logits" or "probabilities".
        method: how it was found.
        description: the same in a sentence.
        settings: the numbers that went in or were fitted.
        class_names: of the columns, where they are known.
    """

    kind: Kind
    method: str
    description: str
    settings: Mapping[str, float]
    class_names: tuple[str, ...]

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """C."""

    @property
    def needs_embeddings(self) -> bool:
        """Whether rows are decided by their embeddings too."""
        return True

    @abstractmethod
    def adjusted_logits(
        self,
        logits: Tensor,  # (N, C)
        embeddings: Tensor | None = None,  # (N, D)
    ) -> Tensor:
        """Return the (N, C) logits after, up to a number of each row.

        Raises:
            ArgumentError: a shape does not fit, or embeddings are needed and there are none.
        """

    @abstractmethod
    def module(self, dtype: torch.dtype = torch.float32) -> AdjustmentModule:
        """Return `apply` as a module with buffers alone, to be exported with the network.

        It checks nothing, and computes in `dtype` on whatever device it is moved to.
        """

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write as one file, whole or not at all, which `load_adjustment` reads.

        Raises:
            OSError: the file cannot be written.
        """

    def apply(
        self,
        scores: Tensor,  # (N, C)
        embeddings: Tensor | None = None,  # (N, D)
    ) -> Tensor:
        """Return the (N, C) adjusted scores: logits for logits, probabilities for probabilities.

        In the dtype that came in, computed in float32 at least.

        Raises:
            ArgumentError: the scores are of another number of classes or no scores of this kind, or embeddings do
                not fit.
        """
        adjusted = self.adjusted_logits(self._logits(scores), embeddings)
        if self.kind == "probabilities":
            adjusted = adjusted.softmax(dim=1)
        return adjusted.to(scores)

    def predict(
        self,
        scores: Tensor,  # (N, C)
        embeddings: Tensor | None = None,  # (N, D)
    ) -> Tensor:
        """Return the (N,) classes that score highest after the adjustment.

        Raises:
            ArgumentError: as `apply`.
        """
        # The differences of large half-precision logits would be lost in their dtype.
        return self.adjusted_logits(self._logits(scores).double(), embeddings).argmax(1).to(scores.device)

    def apply_and_predict(
        self,
        scores: Tensor,  # (N, C)
        embeddings: Tensor | None = None,  # (N, D)
    ) -> tuple[Tensor, Tensor]:
        """Return what `apply` and what `predict` do."""
        return self.apply(scores, embeddings), self.predict(scores, embeddings)

    def _logits(self, scores: Tensor) -> Tensor:
        return logits_of("scores", scores, self.kind, num_classes=self.num_classes)

    def _require_consistent(self) -> None:
        """Raise `ArgumentError` where what all adjustments have does not fit."""
        require_choice("kind", self.kind, KINDS)
        names = len(self.class_names)
        require(names in {0, self.num_classes}, "class_names", f"{names} names", f"{self.num_classes}")


@dataclass(frozen=True, eq=False)
class Adjustment(BaseAdjustment):
    r"""Offsets that move the boundaries of a trained model.

    .. math:: z'_{nc} = z_{nc} / T + b_c

    with z the logits, or the logarithms of the probabilities. Between two classes i and j the boundary moves by
    :math:`T (b_i - b_j)` logits in favour of i. Embeddings and weights stay as they are: what two classes have
    mixed up in the embedding, no offset takes apart.

    Args:
        offsets: (C,) b, in units of calibrated logits (nats); only their differences matter.
        temperature: T, above 0.
        kind: what the scores are: "logits" or "probabilities".
        method: how the offsets were found.
        description: the same in a sentence.
        settings: the numbers that went in or were fitted, such as tau.
        class_names: of the columns, where they are known.

    Raises:
        ArgumentError: an argument is not as described.

    >>> adjustment = Adjustment(torch.tensor([0.0, 1.0]), temperature=2.0)
    >>> adjustment.apply(torch.tensor([[3.0, 2.0]]))
    tensor([[1.5000, 2.0000]])
    """

    offsets: Tensor
    temperature: float = 1.0
    kind: Kind = "logits"
    method: str = "by hand"
    description: str = ""
    settings: Mapping[str, float] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(isinstance(self.offsets, Tensor), "offsets", type(self.offsets).__name__, "a tensor")
        shape = tuple(self.offsets.shape)
        require(self.offsets.dim() == 1 and len(self.offsets) > 0, "offsets", f"shape {shape}", "(C,)")
        require(bool(self.offsets.isfinite().all()), "offsets", "NaN or infinity", "finite numbers")
        require_number("temperature", self.temperature, above=0)
        self._require_consistent()

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.offsets)

    @property
    def needs_embeddings(self) -> bool:
        """False: offsets are the same for every row."""
        return False

    def adjusted_logits(
        self,
        logits: Tensor,  # (N, C)
        embeddings: Tensor | None = None,
    ) -> Tensor:
        """Return the (N, C) logits after; embeddings are not looked at."""
        return logits / self.temperature + self.offsets.to(logits)

    def module(self, dtype: torch.dtype = torch.float32) -> AdjustmentModule:
        """Return `apply` as a module with buffers alone."""
        return OffsetModule(self.offsets, 1 / self.temperature, self.kind).to(dtype)

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        record = {
            "method": self.method,
            "description": self.description,
            "kind": self.kind,
            "temperature": self.temperature,
            "settings": dict(self.settings),
            "class_names": list(self.class_names),
            "offsets": self.offsets.tolist(),
        }
        text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False)
        write_whole(Path(path), text + "\n")

    @classmethod
    def load(cls, path: Path) -> "Adjustment":
        """Read what `save` wrote.

        Raises:
            DamagedFileError: the file holds no adjustment.
            OSError: it cannot be read.
        """
        with reading(f"path: got {path}; expected the JSON of an Adjustment"):
            raw: dict[str, Any] = read_json(Path(path))
            offsets = torch.tensor(raw.pop("offsets"), dtype=torch.float64, device="cpu")
            names = raw.pop("class_names")
            if not isinstance(names, list):
                raise TypeError("class_names is no list")
            return cls(offsets, class_names=tuple(map(str, names)), **raw)


def require_suffix(path: Path | str) -> None:
    """Raise `ArgumentError` unless a file is called as `load_adjustment` knows adjustments with tensors by."""
    suffix = Path(path).suffix.lower()
    require(suffix == ".safetensors", "path", str(path), "a name that ends in .safetensors")


def logits_of(
    name: str,
    scores: Tensor,  # (N, C)
    kind: Kind,
    *,
    num_classes: int | None = None,
) -> Tensor:
    """Return the scores as logits, up to a number of each row; float32 at least.

    A probability of 0 counts as the smallest normal number of its dtype.

    Raises:
        ArgumentError: they are no (N, C) finite floating tensor, or no probabilities where these are expected.
    """
    require_choice("kind", kind, KINDS)
    require(isinstance(scores, Tensor), name, type(scores).__name__, "a tensor")
    fits = scores.dim() == 2 and scores.shape[1] > 0 and num_classes in {None, scores.shape[1]}
    wanted = "C" if num_classes is None else num_classes
    require(fits, name, f"shape {tuple(scores.shape)}", f"(N, {wanted})")
    require(scores.is_floating_point(), name, scores.dtype, "a floating dtype")
    precise = scores.detach().to(torch.promote_types(scores.dtype, torch.float32))
    # The extremes are NaN or infinite where a number is: one look at scores that may be many.
    finite = not precise.numel() or all(bool(end.isfinite()) for end in precise.aminmax())
    require(finite, name, "NaN or infinity", "finite numbers")
    if kind == "logits":
        return precise
    legal = bool((precise >= 0).all()) and bool(((precise.sum(1) - 1).abs() <= 0.02).all())
    require(legal, name, "rows that are negative or do not sum to 1", "probabilities, or kind='logits'")
    return precise.clamp_min(torch.finfo(precise.dtype).tiny).log()
