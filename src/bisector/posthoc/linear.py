"""Another last layer in the place of a model's: nearest mean, linear discriminant, tau-norm, a refitted one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.checks import require_classes, require_embeddings
from bisector.errors import ArgumentError, require, require_choice, require_number
from bisector.files import read_safetensors, reading, write_safetensors
from bisector.information.geometry import ClassGeometry
from bisector.information.rows import on_scale, require_finite
from bisector.posthoc.adjustment import BaseAdjustment, Kind, logits_of, require_suffix
from bisector.posthoc.fit import balanced_weights, dealt_folds, fit_temperature, require_fit_rows
from bisector.posthoc.modules import LayerModule

TAUS = tuple(tau / 10 for tau in range(21))
"""The exponents that `tau_norm` chooses from."""

PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""The penalties that `refit` chooses from, strongest first."""

MOST_CELLS = 2**22
"""Rows times classes above which nobody waits for a layer that is trained again, folds and penalties tried."""

_LINEAR = 1e-3  # of the logits' variance may be unexplained where they are a linear layer's
_TEXTS = ("kind", "method", "description", "scale")


@dataclass(frozen=True, eq=False)
class LinearAdjustment(BaseAdjustment):
    r"""A linear layer over the embeddings, whose logits take the place of the model's own.

    .. math:: z'_c(x) = w_c^\top x + b_c

    Args:
        weight: (C, D) w.
        bias: (C,) b.
        scale: of the embeddings: "raw", or "unit" for rows of length sqrt(D).
        kind: what the scores are that it replaces: "logits" or "probabilities".
        method: how it was found.
        description: the same in a sentence.
        settings: numbers that were fitted.
        class_names: of the rows of the weight, where they are known.

    Raises:
        ArgumentError: an argument is not as described.

    >>> layer = LinearAdjustment(torch.eye(2), torch.tensor([0.0, 1.0]))
    >>> layer.predict(torch.zeros(1, 2), torch.tensor([[0.5, 0.0]]))
    tensor([1])
    """

    weight: Tensor
    bias: Tensor
    scale: str = "raw"
    kind: Kind = "logits"
    method: str = "by hand"
    description: str = ""
    settings: Mapping[str, float] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_choice("scale", self.scale, ("raw", "unit"))
        shape = tuple(self.weight.shape)
        require(self.weight.dim() == 2 and min(shape) > 0, "weight", f"shape {shape}", "(C, D)")
        require(self.bias.shape == shape[:1], "bias", f"shape {tuple(self.bias.shape)}", f"({shape[0]},)")
        for name in ("weight", "bias"):
            finite = bool(getattr(self, name).isfinite().all())
            require(finite, name, "NaN or infinity", "finite numbers")
        self._require_consistent()

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.weight)

    def adjusted_logits(
        self,
        logits: Tensor,  # (N, C)
        embeddings: Tensor | None = None,  # (N, D)
    ) -> Tensor:
        """Return the (N, C) logits of the layer, float64 on the CPU; of those given only the rows are counted."""
        if embeddings is None:
            raise ArgumentError(
                "embeddings: got None; expected those of the rows, of which the layer makes logits"
            )
        require_embeddings("embeddings", embeddings, self.weight.shape[1])
        rows = len(embeddings)
        require(rows == len(logits), "embeddings", f"{rows} rows", f"{len(logits)}, as scores")
        require_finite("embeddings", embeddings.detach().cpu())
        x = on_scale(embeddings.detach().cpu().double(), self.scale)
        return x @ self.weight.T.cpu().double() + self.bias.cpu().double()

    def module(self, dtype: torch.dtype = torch.float32) -> LayerModule:
        """Return `apply` as a module with buffers alone."""
        return LayerModule(self.weight, self.bias, self.scale, self.kind).to(dtype)

    def tensors(self) -> dict[str, Tensor]:
        """Return weight and bias by name, as they are stored."""
        return {"weight": self.weight, "bias": self.bias}

    def save(self, path: Path) -> None:
        """Write as one safetensors file, whole or not at all.

        Raises:
            MissingExtraError: safetensors is not installed.
            OSError: the file cannot be written.
        """
        told = {name: getattr(self, name) for name in _TEXTS}
        told |= {"settings": dict(self.settings), "class_names": list(self.class_names)}
        require_suffix(path)
        write_safetensors(Path(path), self.tensors(), {"linear_adjustment": json.dumps(told)})

    @classmethod
    def load(cls, path: Path | str) -> "LinearAdjustment":
        """Read what `save` wrote.

        Raises:
            DamagedFileError: the file holds no such adjustment.
            MissingExtraError: safetensors is not installed.
        """
        with reading(f"path: got {path}; expected the safetensors of a LinearAdjustment"):
            tensors, texts = read_safetensors(Path(path))
            told = json.loads(texts["linear_adjustment"])
            names = tuple(map(str, told.pop("class_names")))
            return cls(tensors["weight"], tensors["bias"], class_names=names, **told)


def nearest_mean(geometry: ClassGeometry) -> LinearAdjustment:
    r"""Return the layer that chooses the nearest class mean (NCM), :math:`-|x - \mu_c|^2 / (2 \sigma^2)`.

    :math:`\sigma^2` is the mean variance of a coordinate within the classes; it changes no decision. A class
    without rows takes the mean of the others and is never the nearest.

    Source: Mensink et al. 2013; a control of Kang et al. 2020 for long tails.

    >>> x = torch.tensor([[0.0, 0.0], [0.0, 2.0], [8.0, 0.0], [8.0, 2.0]])
    >>> layer = nearest_mean(ClassGeometry.fit(x, torch.tensor([0, 0, 1, 1])))
    >>> layer.predict(torch.zeros(1, 2), torch.tensor([[3.9, 9.0]]))
    tensor([0])
    """
    variance = float(geometry.pooled_covariance.diagonal().mean())
    return _of_means(geometry.means / variance, geometry, "nearest-mean", "the nearest mean of a class")


def linear_discriminant(geometry: ClassGeometry) -> LinearAdjustment:
    r"""Return the layer of linear discriminant analysis with equal priors, :math:`-\tfrac12 d_W(x, \mu_c)^2`.

    W is the pooled covariance of the geometry with its ridge. A class without rows as in `nearest_mean`.
    """
    weight = torch.linalg.solve(geometry.pooled_covariance, geometry.means.T).T
    return _of_means(weight, geometry, "lda", "linear discriminant analysis of the embeddings")


def _of_means(weight: Tensor, geometry: ClassGeometry, method: str, told: str) -> LinearAdjustment:
    bias = -(weight * geometry.means).sum(1) / 2
    weight, bias = (
        values.where(geometry.counts.gt(0).view(-1, *[1] * (values.dim() - 1)), values.nanmean(0))
        for values in (weight, bias)
    )
    return LinearAdjustment(weight, bias, geometry.scale, method=method, description=told)


def tau_norm(
    scores: Tensor,  # (N, C)
    labels: Tensor | Sequence[int] | None,  # (N,)
    embeddings: Tensor,  # (N, D)
    *,
    tau: float | Literal["fit"] = "fit",
    scale: str = "raw",
) -> LinearAdjustment:
    r"""Return the model's own last layer with every class vector divided by a power of its length, without bias.

    .. math:: w_c / |w_c|^\tau

    The layer is found from the scores and embeddings by least squares: exactly, where a linear layer made them.

    Args:
        scores: (N, C) logits of rows that the model has not seen.
        labels: (N,) their classes, where tau is fitted.
        embeddings: (N, D) of the same rows, more of them than D.
        tau: at least 0, or "fit": of `TAUS` that of least balanced cross-entropy, a temperature fitted with each.
        scale: of the embeddings.

    Raises:
        ArgumentError: an argument is not as described, or no linear layer makes these scores.

    Source: Kang et al., ICLR 2020 (arXiv 1910.09217).
    """
    logits = logits_of("scores", scores, "logits").cpu().double()
    require_embeddings("embeddings", embeddings)
    x = on_scale(embeddings, scale).double()
    rows, dim = x.shape
    require(rows == len(logits), "embeddings", f"{rows} rows", f"{len(logits)}, as scores")
    require(rows > dim + 1, "embeddings", f"{rows} rows of {dim} numbers", "more rows than numbers")
    weight, _, unexplained = linear_layer(logits, x)
    told = "those that a linear layer makes of the embeddings, for tau-norm"
    require(
        float(unexplained) <= _LINEAR,
        "scores",
        f"{float(unexplained):.1%} of their variance unexplained",
        told,
    )
    lengths = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    require(bool((lengths > 0).all()), "scores", "the same for every row of a class", "logits that differ")
    if tau == "fit":
        truth = require_fit_rows(logits, labels, "tau").long()
        tau = min(TAUS, key=lambda one: _temperate_loss(x @ (weight / lengths**one).T, truth))
    value = require_number("tau", tau, least=0)
    weight = weight / lengths**value
    told = f"class vectors divided by the power tau = {value:g} of their length, without bias"
    bias = torch.zeros(len(weight), dtype=torch.float64)
    return LinearAdjustment(weight, bias, scale, method="tau-norm", description=told, settings={"tau": value})


def _temperate_loss(logits: Tensor, labels: Tensor) -> float:
    """Return the balanced cross-entropy at the best temperature."""
    losses = cross_entropy(logits / fit_temperature(logits, labels), labels, reduction="none")
    return float((balanced_weights(labels, logits.shape[1]) * losses).sum())


def linear_layer(
    logits: Tensor,  # (N, C)
    embeddings: Tensor,  # (N, D)
) -> tuple[Tensor, Tensor, Tensor]:
    """Return weight (C, D) and bias (C,) that explain logits best, and the share of their variance that is left."""
    centre, middle = embeddings.mean(0), logits.mean(0)
    x, z = embeddings - centre, logits - middle
    found = torch.linalg.lstsq(x, z, driver="gelsd").solution
    unexplained = (z - x @ found).square().sum() / z.square().sum().clamp_min(torch.finfo(z.dtype).tiny)
    return found.T, middle - centre @ found, unexplained


def refit(
    embeddings: Tensor,  # (N, D)
    labels: Tensor | Sequence[int] | None,  # (N,)
    num_classes: int,
    *,
    train: tuple[Tensor, Tensor] | None = None,
    merged: bool = False,
    scale: str = "raw",
    penalty: float | Literal["cross-validate"] = "cross-validate",
    folds: int = 5,
    seed: int = 0,
) -> LinearAdjustment:
    r"""Train the last layer again, every class weighing the same: the second stage of cRT, to its minimum.

    .. math:: \min_{w, b} \sum_n \frac{1}{C n_{y_n}} \mathrm{nll}_n + \frac{\lambda}{2} |w|^2

    on embeddings less their mean, in units of their root mean square. Of `PENALTIES` the lambda of least balanced
    cross-entropy on the rows that are given here; where these are trained on too, on their held-out folds.

    Args:
        embeddings: (N, D) of rows that the model has not seen.
        labels: (N,) their classes.
        num_classes: C.
        train: embeddings (M, D) and labels (M,) of the training rows, on which it is trained; None to train on the
            rows that are given here.
        merged: whether it is trained on both.
        scale: of the embeddings.
        penalty: lambda, above 0, or "cross-validate".
        folds: of the rows given here, where they are trained on.
        seed: of the folds.

    Raises:
        ArgumentError: an argument is not as described.

    Source: Kang et al., ICLR 2020 (arXiv 1910.09217), class-balanced weights in place of class-balanced sampling.
    """
    require_embeddings("embeddings", embeddings)
    x = on_scale(embeddings, scale).double()
    y = require_fit_rows(torch.zeros(len(x), num_classes, device="cpu"), labels, "the last layer").long()
    own = train is None or merged
    before = 0  # rows that stand before those given
    if train is not None:
        require_embeddings("train", train[0], x.shape[1])
        require_classes("train", train[1], num_classes, rows=len(train[0]))
        before = len(train[0])
        x, y = torch.cat([on_scale(train[0], scale).double(), x]), torch.cat([train[1].cpu().long(), y])
    centre = x.mean(0)
    x = x - centre
    unit = float(x.square().mean().sqrt()) or 1.0
    # Along the principal axes the coordinates are uncorrelated, and a layer is found in fewer steps.
    axes = torch.linalg.eigh(x.T @ x)[1] / unit
    x = x @ axes
    given = torch.arange(len(y), device="cpu") >= before
    chosen = 0.0 if isinstance(penalty, str) else penalty
    if penalty == "cross-validate":
        parts = [(~given, given)]
        if own:
            fold = torch.full((len(y),), -1, device="cpu").masked_scatter(
                given, dealt_folds(y[given], folds, seed)
            )
            parts = [(fold != k, fold == k) for k in range(folds)]
        chosen = _best_penalty(
            x, y, num_classes, [part for part in parts if bool(part[0].any() and part[1].any())]
        )
    require_number("penalty", chosen, above=0)
    used = slice(None) if own else ~given
    layer = _trained_layer(x[used], y[used], num_classes, chosen)
    rows = (
        "training and held-out rows"
        if train is not None and own
        else "training rows"
        if train
        else "held-out rows"
    )
    told = f"the last layer trained again on {len(y[used]):,} {rows}, every class weighing the same"
    settings = {"penalty": chosen}
    weight = layer[:, :-1] @ axes.T
    return LinearAdjustment(
        weight, layer[:, -1] - weight @ centre, scale, method="refit", description=told, settings=settings
    )


def _best_penalty(x: Tensor, y: Tensor, num_classes: int, parts: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return the penalty of least balanced cross-entropy over parts: rows to train on, and rows to judge by."""
    losses: list[float] = []
    layers: list[Tensor | None] = [None] * len(parts)
    for penalty in PENALTIES:
        losses.append(0.0)
        for place, (here, there) in enumerate(parts):
            layer = _trained_layer(x[here], y[here], num_classes, penalty, layers[place], tolerance=1e-6)
            layers[place] = layer
            nll = cross_entropy(x[there] @ layer[:, :-1].T + layer[:, -1], y[there], reduction="none")
            losses[-1] += float((balanced_weights(y[there], num_classes) * nll).sum())
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
            break  # the weaker ones are past the best, and take by far the longest
    return PENALTIES[losses.index(min(losses))]


def _trained_layer(
    x: Tensor,
    y: Tensor,
    num_classes: int,
    penalty: float,
    start: Tensor | None = None,
    *,
    tolerance: float = 1e-9,
) -> Tensor:  # (C, D + 1)
    """Return weight and bias of least balanced cross-entropy; a class without rows keeps 0 and the least bias."""
    weights = balanced_weights(y, num_classes)
    # Each coordinate in the unit in which the loss is about as curved as along the others: else a search takes up
    # to eight times as long.
    unit = (x.square().mean(0) + num_classes * penalty).rsqrt()
    z = x * unit
    layer = torch.zeros(num_classes, x.shape[1] + 1, dtype=torch.float64, device="cpu")
    if start is not None:
        layer = torch.cat([start[:, :-1] / unit, start[:, -1:]], 1)
    rows = torch.arange(len(y), device="cpu")
    optimizer = torch.optim.LBFGS(
        [layer],
        max_iter=500,
        history_size=20,
        tolerance_grad=tolerance,
        tolerance_change=tolerance / 1e4,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:  # its gradient by hand: autograd takes twice as long
        weight, bias = layer[:, :-1], layer[:, -1]
        logits = torch.addmm(bias, z, weight.T)
        normalizer = logits.logsumexp(1)
        losses = normalizer - logits[rows, y]
        loss: Tensor = weights @ losses + penalty / 2 * (weight * unit).square().sum()
        slope = logits.sub_(normalizer[:, None]).exp_()
        slope[rows, y] -= 1
        slope *= weights[:, None]
        of_weight = (slope.T @ z).add_(weight * unit**2, alpha=penalty)
        layer.grad = torch.cat([of_weight, slope.sum(0)[:, None]], 1)
        return loss

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    return torch.cat([layer[:, :-1] * unit, layer[:, -1:]], 1)
