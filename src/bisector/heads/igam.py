"""IGAM: pairwise angular margins guided by how much information each class holds."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, Unpack

import torch
from torch import Tensor, distributed

from bisector.errors import ArgumentError, require, require_choice
from bisector.functional.margins import Direction, Margin, PairwiseMargin
from bisector.guides.amount import NORMALIZATIONS, Normalize, check_class_values, normalized_amount, others
from bisector.guides.pairwise import pairwise_guide
from bisector.heads.base import CosineHead, CosineOptions
from bisector.information.exchange import from_bytes, several_processes, to_bytes
from bisector.information.meter import InformationMeter
from bisector.information.reading import ClassInformation
from bisector.information.together import compute_together, merge_onto_first

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

    The amounts, and the meter with them, are saved with the state dict (as extra state); the weights of another
    kind of head are loaded with ``strict=False``.

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
        self.amounts: Tensor | None = None
        self.guide: PairwiseMargin | None = None
        # An illegal gain or direction is told now, not after an epoch.
        self._guide_of(torch.zeros(num_classes, device="cpu"))

    def margin(self) -> Margin:
        """Return the angles of the competitors."""
        # The guide moves once, when the head has, and not in each step.
        if self.guide is not None and self.guide.r.device != self.weight.device:
            precise = torch.promote_types(self.weight.dtype, torch.float32)
            self.guide = self.guide.to(self.weight.device, precise)
        return Margin(pairwise=self.guide, custom=self.custom_margin)

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
        amounts = info.amount
        if self.amounts is not None:
            amounts = torch.where(amounts.isnan(), self.amounts, amounts)
        self.set_amounts(amounts)
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
        self.amounts = self._checked(amounts)
        self.guide = self._guide_of(self.amounts)

    def get_extra_state(self) -> Tensor:
        """Return amounts and meter for the state dict; not as buffers, which DDP and casts would corrupt.

        They come as one tensor of bytes, since much of what handles state dicts handles tensors alone.
        """
        return self._state_with(self.information)

    def joint_extra_state(self) -> Tensor | None:
        """Return `get_extra_state` with what all processes observed, on the first; None on the others.

        A collective call, for a checkpoint between two refreshes: the state dict of a process holds what that
        one observed. Where several processes load it, all but one drop the evidence, which would be counted by
        each: ``head.information.reset()``. `bisector.training.InformationGuide` does both. With
        ``together=False`` what the first holds is what each does: it is stored once, and all keep it.
        """
        joint: InformationMeter | None = self._meter()
        assert joint is not None
        if self.observes_a_share():
            joint = merge_onto_first(joint)
        elif several_processes() and distributed.get_rank() > 0:
            joint = None
        return None if joint is None else self._state_with(joint)

    def set_extra_state(self, state: Tensor) -> None:
        """Take amounts and meter from a state dict; if one of them does not fit, neither."""
        self._set_state(from_bytes(state))

    def _state_with(self, meter: InformationMeter | None) -> Tensor:
        held = None if meter is None else meter.state_dict()
        return to_bytes({"amounts": self.amounts, "information": held})

    def _set_state(self, state: dict[str, Any]) -> None:
        amounts = None if state["amounts"] is None else self._checked(state["amounts"])
        if self.information is not None and state["information"] is not None:
            self.information.load_state_dict(state["information"])
        self.amounts = amounts
        self.guide = None if amounts is None else self._guide_of(amounts)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        """Load; an extra state that does not fit is told beside the weights that do not."""
        try:
            super()._load_from_state_dict(state_dict, prefix, *others)
        except ArgumentError as error:
            errors: list[str] = others[-1]
            errors.append(f"{prefix}_extra_state does not fit this head: {error}.")

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        size = f"gain={self.gain:g}" if self.gain is not None else f"max_margin={self.max_margin:g}"
        guide = f"preset={self.preset!r}, normalize={self.normalize!r}, {size}, direction={self.direction!r}"
        return f"{super().extra_repr()}, {guide}"

    def _extend(self, k: int) -> None:
        super()._extend(k)
        if self.information is not None:
            self.information.add_classes(k)
        if self.amounts is not None:
            self.set_amounts(torch.cat([self.amounts, self.amounts.new_full((k,), torch.nan)]))

    def _checked(self, amounts: Tensor) -> Tensor:
        amounts = check_class_values("amounts", amounts)
        expected = f"({self.num_classes},)"
        require(amounts.shape == (self.num_classes,), "amounts", f"shape {tuple(amounts.shape)}", expected)
        return amounts.clone()  # the caller may go on writing in theirs

    def _guide_of(self, amounts: Tensor) -> PairwiseMargin:
        values = normalized_amount(others(amounts, self.background), self.normalize)
        guide = pairwise_guide(values, gain=self.gain, max_margin=self.max_margin, direction=self.direction)
        return guide.with_bystander(self.background)

    def _meter(self) -> InformationMeter:
        if self.information is None:
            raise ArgumentError(
                "information: got None; expected a meter or its options, to observe and refresh"
            )
        return self.information
