"""AdaFace: the margin of each example follows the length of its embedding, for which quality is read."""

from typing import Literal, Unpack

import torch
from torch import Tensor

from bisector.checks import require_embeddings
from bisector.errors import require, require_number
from bisector.functional.cosine import angle
from bisector.functional.margins import Margin, per_class
from bisector.heads._base import CosineOptions, widest
from bisector.heads._target_margin import TargetMarginHead
from bisector.heads._together import counted

# The authors' numbers: between which lengths are clipped, and what keeps quotients and angles off their poles.
SHORTEST, LONGEST, EPS = 1e-3, 100.0, 1e-3


class AdaFace(TargetMarginHead):
    r"""Quality adaptive margin: what it asks of an example follows the length of its embedding.

    .. math::
        z_y = s\,\bigl(\cos(\theta_y - m \hat z) - m \hat z - m\bigr), \qquad z_j = s \cos\theta_j, \qquad
        \hat z = \Bigl[\, h\,\frac{|x| - \mu}{\sigma + \epsilon} \Bigr]_{-1}^{1}

    with :math:`\mu` and :math:`\sigma` the running mean and standard deviation of the lengths |x|. At
    :math:`\hat z = 0` the margin is that of `AMSoftmax`, at -1 that of `ArcFace`. As in the authors' code, lengths
    are clipped to [0.001, 100], the moved angle to [eps, pi - eps] with eps = 0.001, and no gradient passes
    through :math:`\hat z`. The loop of training is

    - ``head(embeddings, labels)``: the loss; pure.
    - ``head.observe(embeddings, labels)``: takes the batch's lengths into the statistics, once a step. (The
      authors' code does so before its loss: observe first for the same.)

    The statistics begin as those of the first batch observed. (The authors' begin at 20 and 100, which a long
    training forgets.) While none has been, each loss takes those of its own batch, of the rows of all processes
    where the classes are sharded. The lengths must be free to differ: do not normalise the embeddings.

    Args:
        in_features: D.
        num_classes: C.
        margin: m, radians and cosine units at once; a number, or (C,) one for each class.
        h: how far a length of one standard deviation from the mean goes towards either margin, at least 0.
        momentum: in (0, 1], the share of the batch in the statistics, the authors' t_alpha.
        scale: s, or "auto".
        warmup: the steps in which the margin grows from 0, counted by `observe`; 0 for none.
        together: where several processes train, whether each observes its own rows and all count together;
            False: all observe the same rows, and each counts by itself.
        options: those of `CosineHead` and `Head`.

    Attributes:
        length_mean: the buffer of mu, () in float32 or better; 0 while nothing has been observed.
        length_std: the buffer of sigma, the same. Both are in the state dict.

    Raises:
        ArgumentError: an option is out of its range.

    Source: Kim, Jain and Liu, CVPR 2022 (arXiv 2204.00964).

    >>> head, lengths = AdaFace(8, 3), torch.tensor([[5.0], [6.0], [7.0], [8.0]])
    >>> x, y = lengths * torch.eye(4, 8), torch.tensor([0, 1, 2, 1])
    >>> head.observe(x, y)
    >>> head.length_mean, head(x, y).dim()
    (tensor(6.5000), 0)
    """

    label = "AdaFace"
    summary = (
        "cosines; in training a margin on that of the true class, whose kind follows the embedding's length"
    )

    length_mean: Tensor
    length_std: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        margin: float | Tensor = 0.4,
        h: float = 0.333,
        momentum: float = 0.01,
        scale: float | Literal["auto"] = 64.0,
        warmup: int = 0,
        together: bool = True,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(in_features, num_classes, margin=margin, scale=scale, warmup=warmup, **options)
        self.h = require_number("h", h, least=0)
        self.momentum = require_number("momentum", momentum, above=0, most=1)
        require(isinstance(together, bool), "together", repr(together), "True or False")
        self.together = together
        precise = torch.promote_types(self.weight.dtype, torch.float32)
        self.register_buffer("length_mean", torch.zeros((), dtype=precise, device=self._place))
        self.register_buffer("length_std", torch.zeros((), dtype=precise, device=self._place))

    def margin(self) -> Margin:
        """Return the rule of the true class, which sees the lengths of the embeddings."""
        m, h = self.present_margin(), self.h
        running = self.length_mean.clone(), self.length_std.clone()  # what is observed later changes no loss

        def rule(cosine: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
            known, lengths = self._lengths(lengths, labels)
            mean, std = (value.to(lengths) for value in running)
            own_mean, own_std = _mean_and_std(_sums(known, lengths))
            std = torch.where(mean > 0, std, own_std.to(std))
            mean = torch.where(mean > 0, mean, own_mean.to(mean))
            z = (h * (lengths - mean) / (std + EPS)).clamp(-1, 1).where(known, 0).to(cosine)
            of_class = per_class(m, labels, cosine)
            moved = (angle(cosine) - of_class * z).clamp(EPS, torch.pi - EPS)
            return moved.cos() - of_class * (z + 1)

        return Margin(target=rule, custom=self.custom_margin, by_length=True)

    @torch.no_grad()
    def observe(
        self,
        embeddings: Tensor,  # (B, D)
        labels: Tensor,  # (B,) classes, or (B, C) probabilities
    ) -> None:
        """Take a training batch into the statistics, and count a step of the warm-up.

        Rows of `ignore_index` and of the background are left out, and rows that are not finite; fewer than two
        tell nothing of a deviation and leave the statistics as they are.

        Where several processes train, this is a collective call: all must make it in every step, those without
        a row too, ``head.observe(x[:0], y[:0])``. It sums 4 numbers.

        Args:
            embeddings: of the batch; only their lengths are read.
            labels: as the loss was given them.

        Raises:
            ArgumentError: the shapes do not fit; on all processes, where it is so on one.
        """
        device = self.length_mean.device
        nothing = torch.zeros(3, dtype=widest(device), device=device)

        def count() -> Tensor:
            require_embeddings("embeddings", embeddings, self.in_features)
            require(isinstance(labels, Tensor), "labels", type(labels).__name__, "a tensor")
            rows, shape = len(embeddings), f"shape {tuple(labels.shape)}"
            fits = labels.shape in {(rows,), (rows, self.num_classes)}
            require(
                fits, "labels", shape, f"({rows},) classes, or ({rows}, {self.num_classes}) probabilities"
            )
            kept = labels != self.ignore_index if labels.dim() == 1 else None
            (lengths,) = self.margin().lengths(embeddings, kept)
            return _sums(*self._lengths(lengths, labels if kept is not None else labels.argmax(1)))

        sums = counted(count, nothing, self.together, "embeddings or labels").to(nothing)
        mean, std = (value.to(self.length_mean) for value in _mean_and_std(sums))
        share = torch.where(self.length_mean > 0, self.momentum, 1.0).to(mean) * (sums[0] >= 2)
        self.length_mean.lerp_(mean, share)
        self.length_std.lerp_(std, share)
        super().observe(embeddings, labels)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Make all that is learned or observed anew: no length has been seen."""
        super().reset_parameters()
        if "length_std" in self._buffers:  # not there yet when the first part of the head is made
            self.length_mean.zero_()
            self.length_std.zero_()

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return f"{super().extra_repr()}, h={self.h:g}, momentum={self.momentum:g}"

    def _lengths(self, lengths: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return which rows count, and the clipped lengths."""
        known = lengths.isfinite()
        if self.background is not None:
            known = known & (labels != self.background)
        return known, lengths.clamp(SHORTEST, LONGEST)


def _sums(
    known: Tensor,  # (B,) bool
    lengths: Tensor,  # (B,)
) -> Tensor:
    """Return the (3,) number of the rows that count, the sum of their lengths and that of the squares."""
    exact = lengths.to(widest(lengths.device)).where(known, 0)
    return torch.stack([known.to(exact).sum(), exact.sum(), exact.square().sum()])


def _mean_and_std(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (that of a sample; 0 for one row) from `_sums`."""
    rows, total, squares = sums.unbind()
    mean = total / rows.clamp_min(1)
    return mean, ((squares - mean * total).clamp_min(0) / (rows - 1).clamp_min(1)).sqrt()
