"""Seesaw: the push of frequent classes on rare ones is lessened, that of classes mistaken for them restored."""

from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from bisector.checks import require_classes
from bisector.engine.sharded import is_sharded
from bisector.errors import require, require_number
from bisector.functional.seesaw import SeesawLoss
from bisector.heads._base import CosineHead, CosineOptions
from bisector.heads._together import counted


class Seesaw(CosineHead):
    r"""Seesaw loss: negative gradients on each class, dynamically balanced by counts and by mistakes.

    .. math::
        L = -\log \frac{e^{z_y}}{e^{z_y} + \sum_{j \neq y} S_{yj}\, e^{z_j}}, \qquad z_j = s \cos\theta_j, \qquad
        S_{ij} = \min\Bigl(1, \frac{N_j}{N_i}\Bigr)^{p} \cdot
                 \max\Bigl(1, \frac{\sigma_j}{\max(\sigma_i, \epsilon)}\Bigr)^{q}

    with :math:`N` the instances of each class so far and :math:`\sigma` the softmax of z, which passes no gradient.
    The first factor lessens what a frequent class' instances push away a rare class; the second raises it again
    where the rare class is what they are mistaken for. The loop of training is

    - ``head(embeddings, labels)``: the loss; pure.
    - ``head.observe(embeddings, labels)``: counts the instances, once a step. (The authors' code counts a batch
      before its loss: observe first for the same.)

    N is `class_counts` plus what was observed; a class without any counts as one. So with the known counts of the
    training set the loss is right from the first step, even where nothing observes; without them it starts as
    that of `NormalizedSoftmax` but for the compensation, and finds out.

    As in the authors' code, the compensation believes no probability of the true class below eps, so that it
    multiplies by :math:`\epsilon^{-q}` at most; the paper's formula has no such bound (eps -> 0). Their
    normalised linear layer has a temperature of 20, this head's scale, and a bias, which a cosine head has not.
    With `background`, that class has S = 1 in its row and its column, is not counted, and is left out of sigma;
    their detector tells objects from background in two more logits instead.

    The loss takes (B, C) matrices: S needs the softmax of the whole row. There is no chunked, sampled or sharded
    form. The prior of `tau`, `label_smoothing` and soft labels work as in every head: S is that of the logits
    with the prior, for the most probable class.

    Args:
        in_features: D.
        num_classes: C.
        p: strength of the mitigation, at least 0; 0 leaves it out.
        q: strength of the compensation, at least 0; 0 leaves it out.
        eps: in (0, 1].
        scale: s, or "auto".
        together: where several processes train, whether each observes its own rows and all count together;
            False: all observe the same rows, and each counts by itself.
        options: those of `CosineHead` and `Head`; backend "dense" or "auto" alone, neither budget nor sample.

    Attributes:
        seen: the buffer of (C,) int64 instances observed, by all processes together; in the state dict.

    Raises:
        ArgumentError: an option is out of its range or has no meaning here.

    Source: Wang et al., CVPR 2021 (arXiv 2008.10032).

    >>> head = Seesaw(8, 3)
    >>> x, y = torch.randn(6, 8), torch.tensor([0, 0, 0, 0, 1, 2])
    >>> head.observe(x, y)
    >>> head.counts(), head(x, y).dim()
    (tensor([4., 1., 1.]), 0)
    """

    label = "Seesaw"
    summary = (
        "cosines; frequent classes push rare ones away less, unless these are what they are mistaken for"
    )

    seen: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        p: float = 0.8,
        q: float = 2.0,
        eps: float = 0.01,
        scale: float | Literal["auto"] = 20.0,
        together: bool = True,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(in_features, num_classes, scale=scale, **options)
        self.p = require_number("p", p, least=0)
        self.q = require_number("q", q, least=0)
        self.eps = require_number("eps", eps, above=0, most=1)
        require(isinstance(together, bool), "together", repr(together), "True or False")
        self.together = together
        whole = "since Seesaw needs the softmax of whole rows"
        dense = self.backend in {"auto", "dense"}
        require(dense, "backend", repr(self.backend), f"'dense' or 'auto', {whole}")
        require(self.budget is None, "budget", repr(self.budget), f"None, {whole}")
        require(self.sample == 1, "sample", self.sample, f"1, {whole}")
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.int64, device=self._place))

    def _computed_by(self) -> Literal["dense"]:
        """Return the backend whatever the size: "auto" would have to look at sizes, which may be symbols."""
        return "dense"

    def _row_loss(self) -> SeesawLoss:
        """Return the loss with the counts as they are now."""
        require(not is_sharded(self.weight), "weight", "sharded classes", "whole ones for a Seesaw head")
        return SeesawLoss(
            label_smoothing=self.row_loss.label_smoothing,
            log_counts=self.counts().clamp_min(1).log(),
            p=self.p,
            q=self.q,
            eps=self.eps,
            background=self.background,
        )

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Make all that is learned or observed anew: nothing has been seen."""
        super().reset_parameters()
        if "seen" in self._buffers:  # not there yet when the first part of the head is made
            self.seen.zero_()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        """Load; what was observed may lie where an earlier bisector stored it."""
        old = f"{prefix}_extra_state"
        if old in state_dict:
            state_dict.setdefault(f"{prefix}seen", state_dict.pop(old))
        super()._load_from_state_dict(state_dict, prefix, *others)

    def observe(
        self,
        embeddings: Tensor,  # (B, D)
        labels: Tensor,  # (B,)
    ) -> None:
        """Count the instances of a training batch; rows of `ignore_index` and of the background are left out.

        Where several processes train, this is a collective call: all must make it in every step, those without
        a row too, ``head.observe(x[:0], y[:0])``. It sums C + 1 integers.

        Args:
            embeddings: of the batch; only their number is read.
            labels: their classes.

        Raises:
            ArgumentError: the labels are no classes; on all processes, where it is so on one.
        """
        nothing = torch.zeros_like(self.seen)
        self.seen += counted(lambda: self._counted(embeddings, labels), nothing, self.together, "labels")

    def counts(self) -> Tensor:
        """Return the (C,) instances N: those known beforehand and those observed."""
        seen = self.seen.to(torch.promote_types(self.weight.dtype, torch.float32))
        return seen if self.class_counts is None else self.class_counts + seen

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return f"{super().extra_repr()}, p={self.p:g}, q={self.q:g}"

    def _counted(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        require_classes(
            "labels", labels, self.num_classes, ignore_index=self.ignore_index, rows=len(embeddings)
        )
        labels = labels.to(self.seen.device, torch.int64)
        labels = labels[labels != self.ignore_index]
        found = torch.bincount(labels, minlength=self.num_classes)
        if self.background is not None:
            found[self.background] = 0
        return found

    def _extend(self, k: int) -> None:
        super()._extend(k)
        self.seen = torch.cat([self.seen, self.seen.new_zeros(k)])
