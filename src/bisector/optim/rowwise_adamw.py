"""RowwiseAdamW: AdamW that treats each row of a weight with sparse gradients as a parameter of its own."""

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from bisector.engine.sharded import alongside, is_sharded, whole
from bisector.errors import require, require_number

# Bytes of one temporary of a block of rows: few enough to stay in a processor's cache, and for a device
# enough to keep it busy.
CPU_BLOCK = 1 << 19
DEVICE_BLOCK = 1 << 26


class RowwiseAdamW(torch.optim.Optimizer):
    r"""AdamW for dense and sparse gradients at once; rows without a gradient cost nothing and stay as they are.

    A parameter with dense gradients is trained exactly as `torch.optim.AdamW` trains it. Of a parameter with sparse
    gradients, such as the class weights of a head with ``sample=0.1``, each row is trained as if it were a
    parameter of its own that `torch.optim.AdamW` skips while it has no gradient: in its t-th step, with gradient g,

    .. math::
        w \leftarrow (1 - \eta\lambda) w, \qquad
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad
        w \leftarrow w - \eta\,\frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    so t counts the row's own steps, its momentum waits for it, and weight decay acts when it is trained. (In
    `torch.optim.SparseAdam` t counts all steps: a row that is first seen late makes a step
    :math:`(1 - \beta_1) / \sqrt{1 - \beta_2}` times as long, 3.2 by default; and there is no weight decay.)

    One object trains the backbone and the head. Once a parameter has had a sparse gradient its rows keep their own
    counts; a dense gradient is then one for all rows. Rows are worked on in blocks, so that a step
    needs a few megabytes of scratch memory. State dict, schedules, `torch.nn.utils.clip_grad_norm_`,
    `torch.amp.GradScaler` and `Head.add_classes` work as with `torch.optim.AdamW`.

    Args:
        params: parameters or groups of them.
        lr: :math:`\eta`; a number, or a tensor of one element, which may be changed in place.
        betas: :math:`\beta_1, \beta_2`, in [0, 1).
        eps: :math:`\epsilon`, at least 0.
        weight_decay: :math:`\lambda`, at least 0.
        skip_zero_rows: take the rows of a dense gradient that are all zeros for rows without one. It is for the
            group of a head whose sampled classes have dense gradients, where they are sharded (a `DTensor` has no
            sparse ones) or wrapped into `DistributedDataParallel`; such a step still has to look at every row.

    Raises:
        ArgumentError: an option is out of its range.

    Source: Loshchilov and Hutter, ICLR 2019.

    >>> import bisector as bs
    >>> head = bs.ArcFace(8, 1000, sample=0.01)
    >>> optimizer = RowwiseAdamW(head.parameters(), lr=0.01)
    >>> before = head.weight.detach().clone()
    >>> head(torch.randn(4, 8), torch.tensor([3, 1, 4, 1])).backward()
    >>> optimizer.step()
    >>> int((head.weight != before).any(dim=1).sum())
    10
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        skip_zero_rows: bool = False,
    ) -> None:
        if isinstance(lr, Tensor):
            require(lr.numel() == 1, "lr", f"a tensor of shape {tuple(lr.shape)}", "a number, or one element")
        require_number("lr", lr.item() if isinstance(lr, Tensor) else lr, least=0)
        for beta in betas:
            require_number("betas", beta, least=0)
            require(beta < 1, "betas", betas, "two numbers in [0, 1)")
        require_number("eps", eps, least=0)
        require_number("weight_decay", weight_decay, least=0)
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "skip_zero_rows": skip_zero_rows})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one step.

        Args:
            closure: computes the loss and its gradients again.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            dense = []
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if self._has_rows(parameter, group["skip_zero_rows"]):
                    self._step_rows(parameter, group)
                else:
                    dense.append(parameter)
            self._step_dense(dense, group)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state, with a count of steps for each row of every parameter (but those of no dimension).

        So its shapes are the same whatever gradients there have been, none included, and what
        `torch.distributed.checkpoint` stores can be loaded into a new optimiser.
        """
        found = super().state_dict()
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        found["state"] = {
            number: {**state, "step": _a_count_for_each_row(state["step"], parameters[number])}
            if state
            else {}
            for number, state in found["state"].items()
        }
        return found

    def load_state_dict(self, state_dict: Any) -> None:
        """Load a state; where all rows of a parameter have made as many steps, one count is kept for all.

        Where parameters are sharded, every process must call it.

        Args:
            state_dict: what `state_dict` returned; that of `torch.optim.AdamW` too.
        """
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group.setdefault("skip_zero_rows", self.defaults["skip_zero_rows"])
        for state in filter(None, self.state.values()):
            state["step"] = _one_count_where_equal(state["step"])

    def _has_rows(self, parameter: Tensor, skip_zero_rows: bool) -> bool:
        """Return whether each row counts its own steps; make the state of a new parameter."""
        state, sparse = self.state[parameter], parameter.grad is not None and parameter.grad.is_sparse
        if not state:
            # Not the default dtype: bfloat16 counts to 256.
            state["step"] = torch.zeros((), dtype=torch.float32, device="cpu")
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        by_row = sparse or (skip_zero_rows and parameter.dim() > 0)
        if by_row:
            state["step"] = _a_count_for_each_row(state["step"].to(parameter.device), parameter)
        rows: bool = state["step"].dim() > 0
        return rows

    def _step_dense(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Train parameters as `torch.optim.AdamW` does, by its own function."""
        if not parameters:
            return
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _step_rows(self, parameter: Tensor, group: dict[str, Any]) -> None:
        """Train the rows that have a gradient, block by block; of a sharded parameter, those held here."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not is_sharded(parameter):
            state["step"] = state["step"].to(parameter.device)  # a loaded one is where it was stored
        gradient, weight, count = _here(parameter.grad), _here(parameter), _here(state["step"])
        assert len(count) == len(weight)
        moments = (weight, _here(state["exp_avg"]), _here(state["exp_avg_sq"]))
        precise = torch.promote_types(parameter.dtype, torch.float32)
        beta1, beta2 = group["betas"]
        rate = group["lr"]
        if isinstance(rate, Tensor):
            rate = rate.reshape(()).to(weight.device)
        rows, values = _rows_of(gradient, group["skip_zero_rows"])
        size = _block_rows(weight)
        scratch = weight.new_empty(3, min(size, len(rows)), *weight.shape[1:])
        for start in range(0, len(rows), size):
            here = rows[start : start + size]
            w, mean, square = (
                torch.index_select(moment, 0, here, out=space[: len(here)]).to(precise)
                for moment, space in zip(moments, scratch, strict=True)
            )
            steps = count[here] + 1
            count[here] = steps
            steps = steps.to(precise).view(-1, *[1] * (w.dim() - 1))
            begun, settled = _one_less_power(beta1, steps), _one_less_power(beta2, steps).sqrt_()
            g = gradient.index_select(0, here) if values is None else values[start : start + size]
            g = g.to(precise)
            mean.lerp_(g, 1 - beta1)
            square.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            moments[1].index_copy_(0, here, mean.to(parameter.dtype))
            moments[2].index_copy_(0, here, square.to(parameter.dtype))
            # The bias corrections multiply a number a row, not the whole block.
            change = mean.div_(square.sqrt_().add_(settled * group["eps"]))
            w.mul_(1 - rate * group["weight_decay"])
            w.addcmul_(change, settled.div_(begun).mul_(-rate))
            weight.index_copy_(0, here, w.to(parameter.dtype))


def _a_count_for_each_row(count: Tensor, parameter: Tensor) -> Tensor:
    if count.dim() or not parameter.dim():
        return count
    return alongside(count.expand(len(parameter)).clone(), parameter)


def _one_count_where_equal(count: Tensor) -> Tensor:
    """Return one count for all rows, on the CPU as torch has it, where those of all processes agree."""
    if not count.dim():
        return count
    counts = whole(count)
    return counts[0].to("cpu", copy=True) if bool((counts == counts[0]).all()) else count


def _one_less_power(beta: float, steps: Tensor) -> Tensor:
    """Return 1 - beta^t, exact for a beta near 1 in single precision too."""
    return torch.expm1(steps * (math.log(beta) if beta else -math.inf)).neg_()


def _block_rows(parameter: Tensor) -> int:
    limit = CPU_BLOCK if parameter.device.type == "cpu" else DEVICE_BLOCK
    return max(1, limit // max(1, parameter[:1].numel() * parameter.element_size()))


def _rows_of(gradient: Tensor, skip_zero_rows: bool) -> tuple[Tensor, Tensor | None]:
    """Return which rows have a gradient, each once, and these rows of it; None if it is dense.

    Autograd forgets that a gradient which it hands over is coalesced, and `coalesce` would sort and copy it again.
    """
    if not gradient.is_sparse:
        if skip_zero_rows:
            trained = gradient.flatten(1).any(dim=1) if gradient.dim() > 1 else gradient != 0
            return trained.nonzero()[:, 0], None
        return torch.arange(len(gradient), device=gradient.device), None
    if not gradient.is_coalesced():
        rows = gradient._indices()[0]
        if bool((rows[1:] > rows[:-1]).all()):
            return rows, gradient._values()
        gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()


def _here(tensor: Tensor) -> Tensor:
    return tensor.to_local() if is_sharded(tensor) else tensor
