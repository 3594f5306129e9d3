"""IGAM: pairwise angular margins guided by how much information each class holds."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, Unpack

import torch
from torch import Tensor, distributed

from bisector.checks import require_of_each_class
from bisector.errors import ArgumentError, require, require_choice
from bisector.functional.margins import Direction, Margin, PairwiseMargin
from bisector.guides.amount import NORMALIZATIONS, Normalize, check_class_values, normalized_amount, others
from bisector.guides.pairwise import pairwise_guide
from bisector.heads._base import CosineHead, CosineOptions, widest
from bisector.information.class_information import ClassInformation
from bisector.information.distributed import compute_together, merge_onto_first, several_processes
from bisector.information.meter import InformationMeter

PresetName: TypeAlias = Literal["paper", "recommended"]


@dataclass(frozen=True)
class Preset:
    """How amounts are measured and how they become margins."""

    information: Mapping[str, Any]
    normalize: Normalize
    gain: float | None
    max_margin: float | None
    direction: Direction


PRESETS: dict[PresetName, Preset] = {
    "paper": Preset(
        information=MappingProxyType({"shrinkage": "floor", "embeddings": "raw", "forgetting": 1.0}),
        normalize="sum",
        gain=1.0,
        max_margin=None,
        direction="relax",
    ),
    "recommended": Preset(
        information=MappingProxyType(
            {"shrinkage": "quadratic-inverse", "embeddings": "unit", "forgetting": 1.0}
        ),
        normalize="ratio",
        gain=3.0,
        max_margin=None,
        direction="press",
    ),
}


class IGAM(CosineHead):
    r"""Information-amount-guided angular margin.

    .. math::
        z_y = s \cos\theta_y, \qquad z_j = s\,\psi(\theta_j \pm m_{yj}), \qquad
        m_{ij} = \max\bigl(0, \tfrac{\mathrm{gain}}{\pi} \log \tfrac{I'_i}{I'_j}\bigr)

    with :math:`I'` the normalised information amounts (`bisector.normalized_amount`) of the classes' embeddings.
    The loop of training is

    - ``head(embeddings, labels)``: the loss; pure.
    - ``head.observe(embeddings, labels)``: feeds the meter, once a step.
    - ``head.refresh()``: amounts from what was observed, new margins; once an epoch.

    `bisector.training.InformationGuide` is the Lightning callback that does the last two. Until the first refresh
    all margins are 0 and the loss is that of `NormalizedSoftmax`.

    Args:
        in_features: D.
        num_classes: C.
        preset: "paper" is the poster to the letter (its margins all but vanish for many classes, see
            `bisector.normalized_amount`); "recommended" is what the evidence so far led to
            (docs/evidence.md). The arguments below, where given, take the place of the preset's.
        information: options of `InformationMeter` on top of the preset's; or a meter; or None: amounts only by
            hand, through `set_amounts`.
        normalize: "sum", "mean" or "ratio", see `bisector.normalized_amount`.
        gain: multiplies the guide; it switches the preset's max_margin off.
        max_margin: radians; stretches the guide so that this is the largest margin, whatever C is and however
            small the differences; it switches the preset's gain off. See `bisector.pairwise_guide`.
        direction: "relax" or "press", see `PairwiseMargin`.
        scale: s, or "auto".
        together: where several processes train, whether each observes its own rows and all measure together;
            False: all observe the same rows, and each measures by itself.
        options: those of `CosineHead` and `Head`.

    Attributes:
        amounts: (C,) bits that the present margins come from, NaN for classes not measured yet; or None.
        guide: the present margins, or None.
        information: the meter, or None.

    Amounts and margins are in the state dict as numbers of each class, `class_amounts`, `class_known` and
    `class_margins`, which may be averaged as the weights are (`torch.optim.swa_utils.AveragedModel`, timm's
    `ModelEma`): amounts count by how much of the time they were known. Casts do not touch them. What the meter has
    observed since the last refresh is of any length, worth nothing in an average, and not among them:
    ``head.information.state_dict()`` stores it, as `bisector.training.InformationGuide` and
    `bisector.TrainingState` do. The weights of another kind of head are loaded with ``strict=False``.

    Source: Ma, Dai, Chen, ICLR 2025.

    >>> head = IGAM(8, 3)
    >>> x, y = torch.randn(64, 8), torch.arange(64) % 3
    >>> head.observe(x, y)
    >>> info = head.refresh()
    >>> info.count
    tensor([22., 21., 21.], dtype=torch.float64)
    >>> bool(head.guide.largest() > 0), head.guide.direction
    (True, 'press')
    """

    label = "IGAM"
    summary = "margins for pairs of classes, guided by their information amounts; our recommended settings"
    summary_of_options = MappingProxyType(
        {"preset=paper": summary.replace("our recommended settings", "settings of the paper")}
    )

    class_amounts: Tensor
    class_known: Tensor
    class_margins: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        preset: PresetName = "recommended",
        information: InformationMeter | Mapping[str, Any] | None = MappingProxyType({}),
        normalize: Normalize | None = None,
        gain: float | None = None,
        max_margin: float | None = None,
        direction: Direction | None = None,
        scale: float | Literal["auto"] = 30.0,
        together: bool = True,
        **options: Unpack[CosineOptions],
    ) -> None:
        chosen = PRESETS[require_choice("preset", preset, PRESETS)]
        super().__init__(in_features, num_classes, scale=scale, **options)
        if gain is None and max_margin is None:
            gain, max_margin = chosen.gain, chosen.max_margin
        self.preset = preset
        self.together = together
        self.normalize: Normalize = require_choice("normalize", normalize or chosen.normalize, NORMALIZATIONS)
        self.gain, self.max_margin = gain, max_margin
        self.direction: Direction = direction or chosen.direction
        if isinstance(information, Mapping):
            training = {"not_finite": "skip", "ignore_index": self.ignore_index}
            information = InformationMeter(
                num_classes, in_features, **{**training, **chosen.information, **information}
            )
        if information is not None:
            fits = (information.num_classes, information.dim) == (num_classes, in_features)
            got = f"a meter of {information.num_classes} classes, dim {information.dim}"
            require(fits, "information", got, f"{num_classes} classes, dim {in_features}")
        self.information = information
        # An illegal gain or direction is told now, not after an epoch.
        self._margins_of(torch.zeros(num_classes, device="cpu"))
        for name in ("class_amounts", "class_known", "class_margins"):
            zeros = torch.zeros(num_classes, dtype=widest(self._place), device=self._place)
            self.register_buffer(name, zeros)

    @property
    def amounts(self) -> Tensor | None:
        """The present amounts, (C,) bits in float64 on the CPU, NaN for a class that is not known; or None."""
        bits, known = (b.to("cpu", torch.float64) for b in (self.class_amounts, self.class_known))
        return bits / known if bool((known > 0).any()) else None

    @property
    def guide(self) -> PairwiseMargin | None:
        """The present margins, in float64 on the CPU; None while no amount is known."""
        if not bool((self.class_known > 0).any()):
            return None
        return self._pairwise(self.class_margins.to("cpu", torch.float64, copy=True))

    def margin(self) -> Margin:
        """Return the angles of the competitors."""
        precise = torch.promote_types(self.weight.dtype, torch.float32)
        # A copy, since the next refresh writes into the buffer, and a loss may be waiting for its gradient.
        r = self.class_margins.to(self.weight.device, precise, copy=True)
        return Margin(pairwise=self._pairwise(r), custom=self.custom_margin)

    def observe(
        self,
        embeddings: Tensor,  # (B, D)
        labels: Tensor,  # (B,)
    ) -> None:
        """Feed the meter with a training batch.

        Rows of `ignore_index` and of the background are left out; so are rows that are not finite, which are
        counted and told of once (unless the meter is one of your own, or its options say
        `not_finite="refuse"`).
        """
        require(isinstance(labels, Tensor), "labels", type(labels).__name__, "a tensor")
        fits = labels.shape == embeddings.shape[:1]
        require(fits, "labels", f"shape {tuple(labels.shape)}", f"({len(embeddings)},) classes")
        meter = self._meter()
        passed_over = {self.ignore_index, self.background} - {meter.ignore_index, None}
        for label in passed_over:
            kept = labels.long() != label
            embeddings, labels = embeddings[kept], labels[kept]
        meter.update(embeddings, labels)

    def refresh(self) -> ClassInformation:
        """Turn what was observed since the last refresh into new margins, and let the meter forget.

        A class that could not be measured this time (fewer than two instances) keeps its last amount. Where no
        class could be, the margins stay as they are, with a warning.

        Where several processes train, each observes its own rows, and a refresh is a collective call: all must
        make it, and all get the margins of what they observed together. `compute_together` says what it sends.
        Heads made with ``together=False`` send nothing.

        Returns:
            What was measured.

        Raises:
            ArgumentError: the meters of the processes differ in their options; on all of them.
        """
        meter = self._meter()
        info = compute_together(meter) if self.observes_a_share() else meter.compute()
        if bool(info.amount.isnan().all()):
            message = "no class was observed twice since the last refresh: the margins stay as they are"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            return info
        amounts, last = info.amount, self.amounts
        self.set_amounts(amounts if last is None else torch.where(amounts.isnan(), last, amounts))
        meter.forget()
        return info

    def observes_a_share(self) -> bool:
        """Whether there are other processes whose rows this one does not observe.

        Then evidence that several of them hold would be counted by each; else each must keep all of it.
        """
        return self.together and several_processes()

    def set_amounts(
        self,
        amounts: Tensor,  # (C,) bits
    ) -> None:
        """Set the amounts by hand (stored ones, another model's, an ablation's) and the margins with them.

        Args:
            amounts: (C,) finite bits of at least 0; NaN for a class that is not known, which then counts as
                the mean of the others.
        """
        amounts = check_class_values("amounts", amounts)
        expected = f"({self.num_classes},)"
        require(amounts.shape == (self.num_classes,), "amounts", f"shape {tuple(amounts.shape)}", expected)
        self.class_amounts.copy_(amounts.nan_to_num(0.0))
        self.class_known.copy_(~amounts.isnan())
        self._update_margins()

    def joint_meter(self) -> InformationMeter | None:
        """Return a meter with what all processes observed since the last refresh, on the first; None on the others.

        A collective call, for a checkpoint between two refreshes: ``joint_meter().state_dict()`` is to be stored
        beside the state dict, and ``head.information.load_state_dict`` takes it up. Where several processes load
        it, all but one drop the evidence, which would be counted by each: ``head.information.reset()``.
        `bisector.training.InformationGuide` and `bisector.TrainingState` do all that. With ``together=False`` what
        the first holds is what each does: it is stored once, and all keep it.
        """
        meter = self._meter()
        if self.observes_a_share():
            return merge_onto_first(meter)
        return None if several_processes() and distributed.get_rank() > 0 else meter

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Make all that is learned or observed anew: no class is known, no margin is left, the meter is empty."""
        super().reset_parameters()
        for name in ("class_amounts", "class_known", "class_margins"):
            if name in self._buffers:  # not there yet when the first part of the head is made
                self.get_buffer(name).zero_()
        if getattr(self, "information", None) is not None:
            self._meter().reset()

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load; amounts that are none are told beside the weights that do not fit, and leave the head's alone."""
        old = f"{prefix}_extra_state"
        if strict and old in state_dict:
            expected = (
                "the buffers class_amounts, class_known and class_margins: set_amounts, or strict=False"
            )
            error_msgs.append(f"{old}: got one as an earlier bisector stored it; expected {expected}.")
            return
        given = {name: state_dict.get(prefix + name) for name in ("class_amounts", "class_known")}
        for name, values in given.items():
            if not isinstance(values, Tensor) or values.shape != (self.num_classes,) or values.is_meta:
                continue
            try:
                require(not values.is_complex(), name, str(values.dtype), "real numbers")
                legal = (values.double() >= 0) & values.double().isfinite()
                require_of_each_class(name, values, legal, "finite numbers, >= 0")
            except ArgumentError as error:
                error_msgs.append(f"{prefix}{name} does not fit this head: {error}.")
                state_dict |= {prefix + other: self.get_buffer(other) for other in given}
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if not self.class_amounts.is_meta:
            self._update_margins()  # as the options of this head have it

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        size = f"gain={self.gain:g}" if self.gain is not None else f"max_margin={self.max_margin:g}"
        guide = f"preset={self.preset!r}, normalize={self.normalize!r}, {size}, direction={self.direction!r}"
        return f"{super().extra_repr()}, {guide}"

    def _extend(self, k: int) -> None:
        super()._extend(k)
        if self.information is not None:
            self.information.add_classes(k)
        for name in ("class_amounts", "class_known", "class_margins"):
            known = self.get_buffer(name)
            setattr(self, name, torch.cat([known, known.new_zeros(k)]))
        self._update_margins()

    def _update_margins(self) -> None:
        """Let the margins follow the amounts."""
        amounts = self.amounts
        if amounts is None:
            self.class_margins.zero_()
        else:
            self.class_margins.copy_(self._margins_of(amounts))

    def _margins_of(self, amounts: Tensor) -> Tensor:
        """Return what each class brings to a margin, (C,) radians; the background the least."""
        values = normalized_amount(others(amounts, self.background), self.normalize)
        guide = pairwise_guide(values, gain=self.gain, max_margin=self.max_margin, direction=self.direction)
        return guide.with_bystander(self.background).r

    def _pairwise(self, margins: Tensor) -> PairwiseMargin:
        known = others(margins, self.background)
        return PairwiseMargin(known, known, self.direction).with_bystander(self.background)

    def _meter(self) -> InformationMeter:
        if self.information is None:
            raise ArgumentError(
                "information: got None; expected a meter or its options, to observe and refresh"
            )
        return self.information
