"""Geometry in the decision: a network's own logits pooled with how well a row fits each class."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from bisector.errors import ArgumentError, require, require_integer, require_number
from bisector.files import reading
from bisector.information.geometry import ClassGeometry
from bisector.posthoc.adjustment import BaseAdjustment, Kind, require_suffix
from bisector.posthoc.fit import class_values
from bisector.posthoc.linear import LinearAdjustment
from bisector.posthoc.modules import AdjustmentModule, GeometryModule, OffsetModule

_NUMBERS = ("a", "b", "e", "t", "r", "k", "kind", "method", "description", "moments")
_CELLS = 2**23  # numbers that a block of rows may take while it is adjusted


@dataclass(frozen=True, eq=False)
class GeometryAdjustment(BaseAdjustment):
    r"""A decision over logits, densities, volumes and counts of the classes.

    .. math:: z'_c(x) = a\, l_c(x) + r\, m_c(x) + b\, g_c(x) - e\, A_c + t \ln n_c

    with l the logits, m those of a last layer that was trained again (none if r is 0), g the
    `ClassGeometry.evidence`, A the `ClassGeometry.log_volume` less its mean, n the counts. A wide class pays A and
    gains through g: boundaries that no linear head and no offset can have. A class without rows takes the means of
    the others.

    Args:
        geometry: of the classes, from rows that are not reported.
        a: what the logits count for, at least 0.
        b: what the evidence counts for.
        e: what the volume costs.
        t: what the logarithm of the count counts for.
        r: what the logits of the layer count for.
        layer: the last layer trained again (`refit`); needed unless r is 0.
        k: of each row only the k classes of the highest logits are looked at; all others stay below them, in the
            order of their logits. None: all.
        kind: what the scores are: "logits" or "probabilities".
        method: how it was found.
        description: the same in a sentence.
        settings: numbers that were fitted or measured.
        class_names: of the columns, where they are known.
        class_counts: (C,) n, the training instances; those of the geometry if None.
        moments: whose means and covariances they are: "train", "held-out" or "both"; empty where nobody says.

    Raises:
        ArgumentError: an argument is not as described.
    """

    geometry: ClassGeometry
    a: float = 1.0
    b: float = 0.0
    e: float = 0.0
    t: float = 0.0
    r: float = 0.0
    layer: LinearAdjustment | None = None
    k: int | None = None
    kind: Kind = "logits"
    method: str = "geometry"
    description: str = ""
    settings: Mapping[str, float] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    class_counts: Tensor | None = None
    moments: str = ""

    def __post_init__(self) -> None:
        require_number("a", self.a, least=0)
        for name in ("b", "e", "t", "r"):
            require_number(name, getattr(self, name))
        if self.r:
            shape = None if self.layer is None else tuple(self.layer.weight.shape)
            expected = (self.num_classes, self.geometry.dim)
            require(shape == expected, "layer", f"weights of shape {shape}", f"{expected}, as r is not 0")
            own = None if self.layer is None else self.layer.scale
            require(
                own == self.geometry.scale,
                "layer",
                f"scale {own!r}",
                f"{self.geometry.scale!r}, the geometry's",
            )
        else:
            object.__setattr__(self, "layer", None)
        if self.k is not None:
            require_integer("k", self.k, least=1)
        if self.class_counts is not None:
            counts = class_values("class_counts", self.class_counts, self.num_classes)
            object.__setattr__(self, "class_counts", counts)
        self._require_consistent()

    @property
    def num_classes(self) -> int:
        """C."""
        return self.geometry.num_classes

    @property
    def is_identity(self) -> bool:
        """Whether no prediction changes."""
        return self.b == self.e == self.t == self.r == 0 and self.a > 0

    @property
    def needs_embeddings(self) -> bool:
        """Whether rows are decided by their embeddings too: unless it is the identity."""
        return not self.is_identity

    @property
    def meaning(self) -> str:
        """What the fitted numbers mean, in words."""
        if self.is_identity:
            return "a = 1, all others 0: the logits decide alone."
        share = "the logits decide with" if self.a else "the logits are left out;"
        parts = [
            f"a = {self.a:.3g} and b = {self.b:.3g}: {share} how well a row fits each class",
            f"e = {self.e:.3g}: a class pays {self.e:.3g} logits for each nat that its volume lies above the mean",
        ]
        if self.r:
            parts.insert(
                1, f"r = {self.r:.3g}: what the last layer says that was trained again on held-out rows"
            )
        if self.t:
            more = "less" if self.t < 0 else "more"
            parts.append(
                f"t = {self.t:.3g}: a class of tenfold count gets {abs(self.t) * math.log(10):.2g} logits {more}"
            )
        return "; ".join(parts) + "."

    def adjusted_logits(
        self,
        logits: Tensor,  # (N, C)
        embeddings: Tensor | None = None,  # (N, D)
    ) -> Tensor:
        """Return the (N, C) logits after, float64 on the CPU.

        Raises:
            ArgumentError: a shape does not fit, an embedding is not finite, or embeddings are needed.
        """
        logits = logits.cpu().double()
        if self.is_identity:
            return self.a * logits
        if embeddings is None:
            raise ArgumentError("embeddings: got None; expected those of the rows, which the geometry scores")
        fits = embeddings.dim() == 2 and len(embeddings) == len(logits)
        expected = f"({len(logits)}, {self.geometry.dim})"
        require(fits, "embeddings", f"shape {tuple(embeddings.shape)}", expected)
        found = torch.empty_like(logits)
        looked_at = min(self.k or self.num_classes, self.num_classes)
        cells = 5 * looked_at + self.geometry.dim + (self.num_classes if self.r else 0)
        step = max(1, _CELLS // cells)
        for start in range(0, len(logits), step):
            rows = slice(start, start + step)
            self._block(logits[rows], embeddings[rows], found[rows])
        return found

    def apply_and_predict(
        self,
        scores: Tensor,  # (N, C)
        embeddings: Tensor | None = None,  # (N, D)
    ) -> tuple[Tensor, Tensor]:
        """Return what `apply` and what `predict` do: rows are scored once, for both are computed in float64."""
        logits = self.adjusted_logits(self._logits(scores), embeddings)
        adjusted = logits.softmax(dim=1) if self.kind == "probabilities" else logits
        return adjusted.to(scores), logits.argmax(1).to(scores.device)

    def _block(self, logits: Tensor, embeddings: Tensor, found: Tensor) -> None:
        """Fill the (n, C) logits after; in place, since to touch new memory costs as much as to compute."""
        top = None if self.k is None or self.k >= logits.shape[1] else logits.topk(self.k, dim=1)
        looked_at = None if top is None else top.indices
        features = decision_features(self.geometry, logits, embeddings, looked_at, self._counts, self.layer)
        numbers = [self.a, self.b, self.e, self.t, self.r][: features.shape[2]]
        theta = torch.tensor(numbers, dtype=torch.float64, device="cpu")
        if top is None:
            torch.matmul(features, theta, out=found)
            return
        highest = features @ theta
        floor = highest.min(1, keepdim=True).values - self.a * top.values[:, -1:]
        torch.mul(logits, self.a, out=found).add_(floor).sub_(1e-9).scatter_(1, top.indices, highest)

    def module(self, dtype: torch.dtype = torch.float32) -> AdjustmentModule:
        """Return `apply` as a module with buffers alone; of the identity, one that needs no embeddings."""
        if self.is_identity:
            nothing = torch.zeros(self.num_classes, dtype=torch.float64, device="cpu")
            return OffsetModule(nothing, self.a, self.kind).to(dtype)
        volume, count = _of_classes(self.geometry, self._counts)
        constant = self.e * volume + self.t * count
        layer = None
        if self.layer is not None:
            constant = constant + self.r * self.layer.bias
            layer = self.r * self.layer.weight
        return GeometryModule(
            self.geometry.factors(),
            constant,
            layer,
            self.a,
            self.b,
            self.geometry.dof,
            self.k,
            self.geometry.scale,
            self.kind,
        ).to(dtype)

    @property
    def _counts(self) -> Tensor:
        return self.geometry.counts if self.class_counts is None else self.class_counts

    def save(self, path: Path | str) -> None:
        """Write as one safetensors file, the geometry in it, whole or not at all.

        Raises:
            ArgumentError: the file is not called .safetensors.
            MissingExtraError: safetensors is not installed.
            OSError: the file cannot be written.
        """
        told = {name: getattr(self, name) for name in _NUMBERS}
        told |= {"settings": dict(self.settings), "class_names": list(self.class_names)}
        told["class_counts"] = None if self.class_counts is None else self.class_counts.tolist()
        require_suffix(path)
        layer = {} if self.layer is None else self.layer.tensors()
        self.geometry.save(path, more=layer, geometry_adjustment=json.dumps(told))

    @classmethod
    def load(cls, path: Path | str) -> "GeometryAdjustment":
        """Read what `save` wrote.

        Raises:
            DamagedFileError: the file holds no such adjustment.
            MissingExtraError: safetensors is not installed.
        """
        geometry, texts, more = ClassGeometry.load_with_more(path)
        with reading(f"path: got {path}; expected the safetensors of a GeometryAdjustment"):
            told = json.loads(texts["geometry_adjustment"])
            counts = told.pop("class_counts")
            told["class_counts"] = None if counts is None else torch.tensor(counts, dtype=torch.float64)
            names = tuple(map(str, told.pop("class_names")))
            layer = None
            if more:
                layer = LinearAdjustment(more["weight"], more["bias"], geometry.scale, method="refit")
            return cls(geometry, layer=layer, class_names=names, **told)


def decision_features(
    geometry: ClassGeometry,
    logits: Tensor,  # (N, C)
    embeddings: Tensor,  # (N, D)
    classes: Tensor | None,  # (N, k)
    counts: Tensor | None,  # (C,)
    layer: LinearAdjustment | None = None,
) -> Tensor:  # (N, C or k, 4 or 5)
    """Return logits, evidence, minus the volumes, the logarithms of the counts, and the logits of a layer, if any.

    0 for what is not known.
    """
    evidence = geometry.evidence(embeddings, classes)
    known = ~evidence.isnan()
    mean = evidence.nansum(1, keepdim=True) / known.sum(1, keepdim=True).clamp_min(1)
    more = [] if layer is None else [layer.adjusted_logits(logits, embeddings)]
    first, *others = (
        (values if classes is None else values.expand(len(logits), -1).gather(1, classes)).double()
        for values in (logits, *_of_classes(geometry, counts), *more)
    )
    each = [first, torch.where(known, evidence, mean), *others]
    return torch.stack([values.expand_as(evidence) for values in each], 2)


def _of_classes(geometry: ClassGeometry, counts: Tensor | None) -> list[Tensor]:  # 2 x (C,)
    """Return minus the volumes and the logarithms of the counts, less their means; 0 for what is not known."""
    counts = torch.ones_like(geometry.counts) if counts is None else counts
    each = [
        torch.where(there, values - values[there].mean(), 0.0)
        for values, there in ((-geometry.log_volume, geometry.counts > 0), (counts.log(), counts > 0))
    ]
    if geometry.kappa == math.inf:  # all volumes are one, but for rounding
        each[0] = torch.zeros_like(each[0])
    return each
