"""What every head is: class weights, a loss over the engine, logits for inference."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bisector.checks import require_embeddings, require_of_each_class
from bisector.engine.budget import MemoryBudget
from bisector.engine.dispatch import BACKENDS, Backend, margin_cross_entropy, require_same_place
from bisector.engine.sampled import sampled_margin_cross_entropy
from bisector.engine.sharded import alongside, is_sharded, whole
from bisector.errors import ArgumentError, require, require_choice, require_integer, require_number
from bisector.functional.margins import CustomMargin, Margin
from bisector.functional.row_losses import REDUCTIONS, Reduction, RowLoss
from bisector.functional.scores import Score, class_scores
from bisector.heads._growth import grow, growth, require_growing_state


class HeadOptions(TypedDict, total=False):
    """The keyword options of every head; their meaning is documented at `Head`."""

    class_counts: Sequence[float] | Tensor | None
    tau: float
    sub_centers: int
    reduction: Reduction
    ignore_index: int
    weight: Sequence[float] | Tensor | None
    label_smoothing: float
    backend: Backend
    budget: MemoryBudget | None
    sample: float
    sparse: bool
    background: int | None
    device: torch.device | str | None
    dtype: torch.dtype | None


class CosineOptions(HeadOptions, total=False):
    """The keyword options of every cosine head: those of `Head`, and two of `CosineHead`."""

    learnable_scale: bool
    custom_margin: CustomMargin | None


def _signature(head: type["Head"]) -> inspect.Signature:
    """Return the signature of a head with the options of the class that it extends in place of ``**options``."""
    owner, *others = (kind for kind in head.__mro__ if "__init__" in vars(kind))
    signature = inspect.signature(owner.__init__)  # type: ignore[misc]
    own = list(signature.parameters.values())[1:]  # without self
    if own and own[-1].kind is inspect.Parameter.VAR_KEYWORD:
        taken = {parameter.name for parameter in own}
        inherited = inspect.signature(others[0]).parameters.values()
        keywords = (p for p in inherited if p.kind is inspect.Parameter.KEYWORD_ONLY)
        own[-1:] = [keyword for keyword in keywords if keyword.name not in taken]
    return signature.replace(parameters=own)


class Head(nn.Module):
    r"""A classifier that owns its class weights, like `torch.nn.Linear`, and is its own loss.

    ``head(embeddings, labels)`` is the training loss, a pure function of its arguments and the parameters;
    ``head.logits(embeddings)`` is for inference and carries neither margin nor prior.

    Args:
        in_features: D, the dimension of the embeddings.
        num_classes: C, at least 2.
        class_counts: (C,) training instances of each class, for the prior (and for LDAM).
        tau: strength of the prior: :math:`\tau \log \pi_j` is added to every training logit, with
            :math:`\pi` the class frequencies (Menon et al. 2021). 0 leaves it out. Works in every head, so
            IGAM with a prior is one object. A class without instances is given the frequency of one.
        sub_centers: K weight vectors a class; the nearest one counts.
        reduction: "mean", "sum" or "none", as in `torch.nn.functional.cross_entropy`.
        ignore_index: rows with this label count for nothing; a batch of nothing else gives 0, not NaN.
        weight: (C,) weights of the classes in the loss, as in `torch.nn.functional.cross_entropy`; kept as
            the buffer `class_weight`, since `.weight` is the matrix of class vectors.
        label_smoothing: in [0, 1], as in `torch.nn.functional.cross_entropy`.
        backend: who computes the loss, see `bisector.margin_cross_entropy`.
        budget: the scratch memory of the loss, `bisector.MemoryBudget()` if None.
        sample: the share of the classes that a training step takes, in (0, 1]: those of the batch and others
            drawn at random, as dropout draws (An et al. 2022, Partial FC). As dropout, it acts in training mode
            only; in evaluation mode the loss is over all classes, as `logits` always is.
        sparse: where classes are sampled, whether the gradients of weight and bias are sparse tensors of the
            drawn rows, which `bisector.RowwiseAdamW` takes at the cost of these rows alone. With False they
            are dense, for other optimisers and for `DistributedDataParallel`, at the cost of all rows.
        background: a class that stands for none of the others, as a detector's class 0: its rows carry no
            margin, a guide gives it none against any class nor any class one against it, it is never measured,
            and it takes no part where a guide compares the classes. With ``num_classes=2`` it leaves one class,
            a detector of one kind of object, for which a guide has no margin.
        device: where the parameters are made.
        dtype: of the parameters.
        row_loss: the third part of the loss, as the head chooses it; cross-entropy if None.

    Attributes:
        weight: the parameter, (C, D), or (C, K, D) with sub-centers.
        bias: the (C,) bias where the head has one, else None.

    Raises:
        ArgumentError: an option is out of its range.
    """

    label: ClassVar[str] = ""
    """What readers of a page are told that the head is called."""
    summary: ClassVar[str] = ""
    """What it does, in a line."""
    summary_of_options: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """What it does with an option that makes another head of it, such as "preset=paper"."""

    needs_counts: ClassVar[bool] = False
    """Whether it cannot be made without `class_counts`."""

    score: Score = "cosine"
    # Whether another module exports the scores in the head's stead, as a detector's predictor does.
    scripted_elsewhere = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Spell out the options behind ``**options``: `torch.nn.utils.skip_init` looks for `device` there."""
        super().__init_subclass__(**options)
        cls.__signature__ = _signature(cls)  # type: ignore[attr-defined]

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        row_loss: RowLoss | None = None,
        class_counts: Sequence[float] | Tensor | None = None,
        tau: float = 0.0,
        sub_centers: int = 1,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        weight: Sequence[float] | Tensor | None = None,
        label_smoothing: float = 0.0,
        backend: Backend = "auto",
        budget: MemoryBudget | None = None,
        sample: float = 1.0,
        sparse: bool = True,
        background: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features = require_integer("in_features", in_features, least=1)
        self.num_classes = require_integer("num_classes", num_classes, least=2)
        self.sub_centers = require_integer("sub_centers", sub_centers, least=1)
        given = class_counts is not None or not self.needs_counts
        require(given, "class_counts", "None", "the instances of each class")
        require(
            tau == 0 or class_counts is not None, "tau", f"{tau} without class_counts", "class_counts too"
        )
        self.reduction: Reduction = require_choice("reduction", reduction, REDUCTIONS)
        self.backend: Backend = require_choice("backend", backend, BACKENDS)
        known = budget is None or isinstance(budget, MemoryBudget)
        require(known, "budget", repr(budget), "a bisector.MemoryBudget, or None")
        self.budget = budget
        self.sample = require_number("sample", sample, above=0, most=1)
        require(isinstance(sparse, bool), "sparse", repr(sparse), "True or False")
        self.sparse = sparse
        if background is not None:
            background = require_integer("background", background, least=0)
            require(background < num_classes, "background", background, f"a class, 0 to {num_classes - 1}")
        self.background = background
        self.ignore_index = ignore_index
        self.tau = require_number("tau", tau)
        row_loss = row_loss or RowLoss()
        self.row_loss = replace(row_loss, label_smoothing=label_smoothing) if label_smoothing else row_loss
        many = () if sub_centers == 1 else (sub_centers,)
        self.weight = nn.Parameter(torch.empty(num_classes, *many, in_features, device=device, dtype=dtype))
        self.bias: nn.Parameter | None = None
        self.class_weight: Tensor | None
        self.class_counts: Tensor | None
        self.register_buffer("class_weight", self._class_vector("weight", weight, num_classes))
        self.register_buffer("class_counts", self._counts(class_counts, num_classes))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Make all that is learned or observed anew: class weights are drawn as `torch.nn.Linear` draws its weight.

        After ``to_empty`` it gives every parameter its value; what is known of the classes (counts, weights in the
        loss, margins) is kept by both.
        """
        self._renew("weight", _draw)
        self._renew("bias", torch.Tensor.zero_)

    def _renew(self, name: str, fill: Callable[[Tensor], Any]) -> None:
        """Fill a parameter, also through a parametrisation; nothing where the head has none, or not yet."""
        value: Tensor | None = getattr(self, name, None)
        if value is not None and parametrize.is_parametrized(self, name):
            value = torch.empty_like(value)
            fill(value)
            setattr(self, name, value)  # through the parametrisation's right_inverse
        elif value is not None:
            fill(value)

    def margin(self) -> Margin:
        """Return what this head does to the scores in training. A new head usually is this one method."""
        return Margin()

    def logit_scale(self) -> float | Tensor:
        """Return what the scores are multiplied by."""
        return 1.0

    def prior(self) -> Tensor | None:
        """Return the (C,) logarithms of the prior that are added to the training logits, or None."""
        if self.tau == 0 or self.class_counts is None:
            return None
        counts = self.class_counts.clamp_min(1)
        return self.tau * (counts / counts.sum()).log()

    def forward(
        self,
        embeddings: Tensor,  # (B, D)
        labels: Tensor,  # (B,) classes, or (B, C) probabilities
    ) -> Tensor:
        """Return the training loss: a scalar, or (B,) with ``reduction="none"``. Changes no state."""
        bias, margin = self.bias, self.margin()
        if self.background is not None:
            margin = margin.sparing(self.background)
        # What is known of the classes stays in memory when the weights are on the meta device.
        device, precise = self.weight.device, torch.promote_types(self.weight.dtype, torch.float32)
        prior, class_weight = (
            None if vector is None else vector.to(device, precise)
            for vector in (self.prior(), self.class_weight)
        )
        offset = prior if bias is None else bias if prior is None else bias + alongside(prior, bias)
        loss: Callable[..., Tensor] = margin_cross_entropy
        if self.sample < 1 and self.training:
            loss = partial(sampled_margin_cross_entropy, fraction=self.sample, sparse=self.sparse)
        return loss(
            embeddings,
            self.weight,
            labels,
            score=self.score,
            margin=margin,
            row_loss=self._row_loss(),
            scale=self.logit_scale(),
            offset=offset,
            class_weight=class_weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            backend=self._computed_by(),
            budget=self.budget,
        )

    def _row_loss(self) -> RowLoss:
        """Return the third part of the loss as it is now."""
        return self.row_loss

    def _computed_by(self) -> Backend:
        """Return the backend of the loss."""
        return self.backend

    def logits(
        self,
        embeddings: Tensor,  # (B, D)
    ) -> Tensor:
        """Return the (B, C) logits for inference: scaled scores without margin or prior."""
        if is_sharded(self.weight):
            from bisector.engine.sharded import sharded_logits

            return sharded_logits(embeddings, self.weight, self.bias, self.score, self.logit_scale())
        require_embeddings("embeddings", embeddings, self.in_features)
        require_same_place("embeddings", embeddings, self.weight)
        scores = self.logit_scale() * class_scores(embeddings, self.weight, self.score)
        return scores if self.bias is None else scores + self.bias

    def predict(
        self,
        embeddings: Tensor,  # (B, D)
    ) -> Tensor:
        """Return the (B,) most probable classes."""
        if is_sharded(self.weight):
            from bisector.engine.sharded import sharded_predict

            return sharded_predict(embeddings, self.weight, self.bias, self.score, self.logit_scale())
        return self.logits(embeddings).argmax(dim=1)

    @classmethod
    def from_linear(cls, linear: nn.Linear, **options: Any) -> Self:
        """Return a head that starts from the weights of a trained `torch.nn.Linear`, copied.

        A cosine head has no bias and leaves that of the linear layer behind. With sub-centers, all K of a class
        start near its one weight vector.

        Args:
            linear: the layer; it gives in_features, num_classes, device and dtype.
            options: the head's own.
        """
        require(isinstance(linear, nn.Linear), "linear", type(linear).__name__, "a torch.nn.Linear")
        place = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        head = cls(linear.in_features, linear.out_features, **{**place, **options})
        with torch.no_grad():
            if head.sub_centers == 1:
                head.weight.copy_(linear.weight)
            else:  # equal sub-centers would never part: the maximum picks the first of them for ever
                head.weight.mul_(0.1).add_(linear.weight[:, None])
            if head.bias is not None and linear.bias is not None:
                head.bias.copy_(linear.bias)
        return head

    def add_classes(
        self,
        k: int,
        *,
        weight: Tensor | None = None,  # (k, D) or (k, K, D)
        class_counts: Sequence[float] | Tensor | None = None,  # (k,)
        optimizer: torch.optim.Optimizer | None = None,
    ) -> Self:
        """Append k classes; those that are there keep their weights. Returns the head itself.

        An "auto" scale follows (a learned one does not); where each class has a margin of its own, the new ones
        get their mean; to IGAM they count as average until they are measured.

        The parameters stay the same objects. An optimiser that trains them must be handed over, so that its
        state (momenta) grows too, with zeros, or be made anew: its next step fails otherwise. Pending gradients
        are dropped. Under a parametrisation (`torch.nn.utils.parametrizations.weight_norm`) its original parameters
        grow, if it acts on each class by itself.

        Args:
            k: how many, at least 1.
            weight: their vectors; drawn as new ones are if None.
            class_counts: their training instances; needed where the head was made with class_counts.
            optimizer: the one that trains this head, if there is one yet.

        Raises:
            ArgumentError: a shape does not fit, class_counts are missing, the optimiser keeps a state that
                cannot grow (factored ones), or weights are computed from others in a way that cannot grow (a
                parametrisation that mixes classes, the hooks of `torch.nn.utils.weight_norm` or of pruning);
                the head is unchanged.
        """
        require_integer("k", k, least=1)
        require(not is_sharded(self.weight), "weight", "sharded classes", "whole ones: add before sharding")
        expected = (k, *self.weight.shape[1:])
        fits = weight is None or weight.shape == expected
        require(fits, "weight", f"shape {tuple(weight.shape) if weight is not None else ''}", str(expected))
        known = self.class_counts is None or class_counts is not None
        require(known, "class_counts", "None", f"the counts of the {k} new classes, as the head uses counts")
        counts = self._counts(class_counts, k)
        if weight is None:
            weight = torch.empty(expected, device=self.weight.device, dtype=self.weight.dtype)
            _draw(weight)
        grown = growth(self, "weight", weight.detach().to(self.weight))
        if self.bias is not None:
            grown += growth(self, "bias", self.bias.detach().new_zeros(k))
        if optimizer is not None:
            for parameter, _ in grown:
                require_growing_state(parameter, optimizer)
        for parameter, rows in grown:
            grow(parameter, rows, optimizer)
        if self.class_weight is not None:
            self.class_weight = torch.cat([self.class_weight, self.class_weight.new_ones(k)])
        if self.class_counts is not None and counts is not None:
            self.class_counts = torch.cat([self.class_counts, counts.to(self.class_counts)])
        self.num_classes += k
        self._extend(k)
        return self

    def __prepare_scriptable__(self) -> Self:
        """Refuse `torch.jit.script`, which compiles the source and knows no margin that is an object."""
        legal = "torch.jit.trace, torch.onnx.export or torch.export.export of a module that calls head.logits"
        require(self.scripted_elsewhere, "torch.jit.script", f"a head, {type(self).__name__}", legal)
        return self

    def _extend(self, k: int) -> None:
        """Let what a kind of head holds for each class follow its k new classes."""

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        shown = [f"in_features={self.in_features}, num_classes={self.num_classes}"]
        if self.sub_centers > 1:
            shown.append(f"sub_centers={self.sub_centers}")
        if self.tau:
            shown.append(f"tau={self.tau:g}")
        if is_sharded(self.weight):
            shown.append(f"sharded over {self.weight.device_mesh.size()} processes")
        if self.background is not None:
            shown.append(f"background={self.background}")
        if self.sample < 1:
            shown.append(f"sample={self.sample:g}")
        if self.row_loss.label_smoothing:
            shown.append(f"label_smoothing={self.row_loss.label_smoothing:g}")
        return ", ".join(shown)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow `to`, `half` and the like, but lose nothing that is known of the classes.

        A buffer is never narrowed (65,520 is infinite in half), and keeps its values through `to_empty` and on the
        way to the meta device.
        """
        exact = dict(self.named_buffers(recurse=False))
        for name, buffer in exact.items():
            if buffer.dtype == torch.float64:  # which some devices do not know: what moves is another one
                self._buffers[name] = buffer.float()
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        except BaseException:
            self._buffers.update(exact)
            raise
        for name, buffer in exact.items():
            moved = self.get_buffer(name)
            device = buffer.device if moved.is_meta else moved.device
            dtype = torch.promote_types(moved.dtype, buffer.dtype)
            kept = buffer.to(device, widest(device) if dtype == torch.float64 else dtype)
            self._buffers[name] = kept.share_memory_() if moved.is_shared() else kept  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        """Load; of whole weights, a head whose classes are sharded takes those of its processes."""
        for name, parameter in self.named_parameters(recurse=False):
            given = state_dict.get(prefix + name)
            if is_sharded(parameter) and given is not None and given.shape == parameter.shape:
                state_dict[prefix + name] = alongside(given, parameter)
        dtypes = {name: buffer.dtype for name, buffer in self.named_buffers(recurse=False)}
        super()._load_from_state_dict(state_dict, prefix, *others)
        for name, dtype in dtypes.items():  # with assign=True a buffer takes the dtype of what is loaded
            buffer = self.get_buffer(name)
            self._buffers[name] = buffer.to(torch.promote_types(buffer.dtype, dtype))

    def _class_vector(self, name: str, values: Sequence[float] | Tensor | None, length: int) -> Tensor | None:
        """Return (C,) numbers of at least 0 in the weights' place and in float32 or better."""
        if values is None:
            return None
        precise = torch.promote_types(self.weight.dtype, torch.float32)
        try:
            vector = torch.as_tensor(values, device=self._place).detach().to(precise, copy=True)
        except (TypeError, ValueError, RuntimeError):
            raise ArgumentError(f"{name}: got {type(values).__name__}; expected {length} numbers") from None
        require(vector.shape == (length,), name, f"shape {tuple(vector.shape)}", f"({length},)")
        legal = (vector >= 0) & vector.isfinite()
        require_of_each_class(name, vector, legal, "finite numbers of at least 0")
        return vector

    @property
    def _place(self) -> torch.device:
        """Where what is known of the classes belongs: with the weights, but never without its values."""
        device = self.weight.device
        return torch.device("cpu") if device.type == "meta" else device

    def _counts(self, values: Sequence[float] | Tensor | None, length: int) -> Tensor | None:
        """Return (C,) numbers of instances, which frequencies are not: a prior would take them all for 1."""
        counts = self._class_vector("class_counts", values, length)
        if counts is not None:
            legal = (counts == 0) | (counts >= 1)
            require_of_each_class("class_counts", counts, legal, "instances, not frequencies")
        return counts


class CosineHead(Head):
    r"""A head whose scores are cosines, multiplied by a scale s.

    Args:
        in_features: D.
        num_classes: C.
        scale: s, a positive number, or "auto" for the fixed AdaCos scale
            :math:`\max(4, \sqrt 2 \log(C - 1))` (Zhang et al. 2019).
        learnable_scale: s is a parameter that starts at `scale`. Its logarithm is learned, so it stays positive:
            `log_scale`, of one element, in float32 or better whatever the weights are or are cast to
            (half a step of bfloat16 near log 16 is 0.8% of the scale). FSDP2, which takes parameters of one dtype
            alone, needs float32 weights then, with `MixedPrecisionPolicy(param_dtype=torch.bfloat16)`.
        custom_margin: a user's own margin, ``f(cos (B, C'), y (B, 1), j (C',)) -> (B, C')`` in cosine units,
            differentiable; it sees every entry, j = y included, and the head's own margin acts on what it
            returns. It must be a pure function of each entry, y and j: it is called on blocks of classes, on
            some of them more than once, so that random numbers, running statistics or a mean over the
            row do not work in it (with ``backend="dense"``, which calls it once, they do). Where the head's own
            margin moves angles (ArcFace, AdaFace, CombinedMargin, C2AM, IGAM), f must return cosines still,
            within [-1, 1].
        row_loss: as chosen by the head.
        options: those of `Head`.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        scale: float | Literal["auto"],
        learnable_scale: bool = False,
        custom_margin: CustomMargin | None = None,
        row_loss: RowLoss | None = None,
        **options: Unpack[HeadOptions],
    ) -> None:
        super().__init__(in_features, num_classes, row_loss=row_loss, **options)
        self._auto_scale = scale == "auto"
        word = isinstance(scale, str) and not self._auto_scale
        require(not word, "scale", repr(scale), "a finite number above 0, or 'auto'")
        self._scale = (
            adacos_scale(num_classes) if scale == "auto" else require_number("scale", scale, above=0)
        )
        self.log_scale: nn.Parameter | None = None
        if learnable_scale:
            precise = torch.promote_types(self.weight.dtype, torch.float32)
            log_scale = torch.full((1,), math.log(self._scale), dtype=precise, device=self._place)
            self.log_scale = nn.Parameter(log_scale)
        callable_ = custom_margin is None or callable(custom_margin)
        require(
            callable_, "custom_margin", type(custom_margin).__name__, "a function of (cos, y, j), or None"
        )
        self.custom_margin = custom_margin

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Make all that is learned or observed anew; a learned scale is again what the head was made with."""
        super().reset_parameters()
        self._renew("log_scale", lambda log_scale: log_scale.fill_(math.log(self._scale)))

    def logit_scale(self) -> float | Tensor:
        """Return s."""
        return self._scale if self.log_scale is None else whole(self.log_scale).exp()[0]

    @property
    def scale(self) -> float:
        """The scale s as a number."""
        return self._scale if self.log_scale is None else float(whole(self.log_scale.detach()).exp())

    def margin(self) -> Margin:
        """Return the custom margin alone."""
        return Margin(custom=self.custom_margin)

    def _extend(self, k: int) -> None:
        super()._extend(k)
        if self._auto_scale:
            self._scale = adacos_scale(self.num_classes)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow `to`, `half` and the like, but keep a learned scale in float32 or better."""
        before = None if self.log_scale is None else self.log_scale.detach()
        super()._apply(fn, recurse)
        self._widen_scale(before)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        """Load; the scale may be one of no dimension, as older heads had it."""
        name = f"{prefix}log_scale"
        given = state_dict.get(name)
        if isinstance(given, Tensor) and given.dim() == 0:
            state_dict[name] = given.reshape(1)
        super()._load_from_state_dict(state_dict, prefix, *others)
        self._widen_scale(None if self.log_scale is None else self.log_scale.detach())

    def _widen_scale(self, exact: Tensor | None) -> None:
        """Give a learned scale that was cast the values that it had, in float32."""
        moved = self.log_scale
        if moved is None or exact is None or moved.dtype.itemsize >= torch.float32.itemsize:
            return
        gradient = None if moved.grad is None else moved.grad.float()
        moved.grad = None
        moved.data = exact.to(moved.device, torch.float32)
        moved.grad = gradient

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        if is_sharded(self.log_scale):  # by FSDP: one process alone may be printing
            return f"{super().extra_repr()}, scale (learned)"
        learned = " (learned)" if self.log_scale is not None else ""
        return f"{super().extra_repr()}, scale={self.scale:g}{learned}"


def widest(device: torch.device) -> torch.dtype:
    """Return float64, or float32 for a device that does not know it.

    >>> widest(torch.device("cpu")), widest(torch.device("mps"))
    (torch.float64, torch.float32)
    """
    return torch.float32 if device.type == "mps" else torch.float64


def adacos_scale(num_classes: int) -> float:
    r"""Return the fixed AdaCos scale :math:`\sqrt 2 \log(C - 1)`, at least 4 (Zhang et al. 2019).

    >>> round(adacos_scale(1000), 2), adacos_scale(2)
    (9.77, 4.0)
    """
    return max(4.0, math.sqrt(2) * math.log(num_classes - 1))


def _draw(weight: Tensor) -> None:
    """Fill class vectors as `torch.nn.Linear` does its weight."""
    nn.init.kaiming_uniform_(weight.view(-1, weight.shape[-1]), a=math.sqrt(5))
