"""The competitors' part of the walk in Triton: one kernel reads a block of scores, one turns it in place."""

import importlib.util
import math
from contextlib import nullcontext

import torch
from torch import Tensor

from bisector.engine.competitors import LOG2_E, Block, Chunk, Competitors, Pull
from bisector.engine.targets import RowTerms
from bisector.functional.reference import LossSpec

# A program takes that many rows, which lie next to each other, and walks that many classes in steps. Longer steps
# save the statistics some of their reductions; they save the gradient nothing and take its registers (counted in
# the machine code for compute capability 9.0).
ROWS = 128
SPAN = 256
STEPS = {"statistics": 32, "gradient": 16}


def why_not(device: torch.device) -> str | None:
    """Return what keeps the Triton kernels from running on a device, None if nothing does.

    They run on CUDA devices, and on the CPU, slowly, in Triton's interpreter, for tests.

    >>> why_not(torch.device("meta"))
    "'meta' tensors; Triton runs on CUDA devices"
    """
    if device.type not in {"cuda", "cpu"}:
        return f"{device.type!r} tensors; Triton runs on CUDA devices"
    if importlib.util.find_spec("triton") is None:
        return "no package 'triton' (it comes with PyTorch's CUDA builds for Linux; else: pip install triton)"
    if device.type == "cpu":
        from triton.runtime import JITFunction

        from bisector.engine import triton_kernels

        if isinstance(triton_kernels.gradient, JITFunction):
            return "'cpu' tensors; Triton runs on CUDA devices (or, for tests, where TRITON_INTERPRET=1)"
    return None


class TritonCompetitors(Competitors):
    """The same numbers as `Competitors`, each block in one kernel that keeps its work in registers.

    The margin, the scale, the offset, the exclusion of the target, smoothing, class weights, soft labels and
    sub-centers are all in the kernels, which compute in float32 (float64 for such inputs) whatever the dtype of
    the scores. A user's margin is a function in Python: with one, the blocks go the way of the parent class.
    Nothing makes the host wait for the device, but for one look at the largest pairwise margin, once a call.
    """

    takes_raw_weights = False

    def __init__(
        self,
        spec: LossSpec,
        terms: RowTerms,
        classes: slice,
        sub_centers: int,
        like: Tensor,
        learned: list[Tensor],
        wants_scale: bool,
        grad_offset: Tensor | None,
    ) -> None:
        super().__init__(spec, terms, classes, sub_centers, like, learned, wants_scale, grad_offset)
        scale, margin = spec.scale, spec.margin
        # The kernels read these from memory: as arguments they are cut to float32, and a learned one is waited for.
        self._scale = scale.detach().to(like) if isinstance(scale, Tensor) else like.new_full((), scale)
        self._constant = like.new_full((), margin.competitor_shift)
        # The one look at numbers on the device, once a call: it spares every pair ten operations.
        self._wraps = False
        if self.pairwise is not None and classes.stop > classes.start:
            largest = self.pairwise.r[0].max() - self.pairwise.c[0].min()
            self._wraps = bool(largest >= math.pi)
        self._demand: Tensor | None = None  # d_j = demand_j + soft_ij soft_demand_j
        self._soft_demand: Tensor | None = None
        if not terms.plain:
            weights = like.new_ones(classes.stop - classes.start)
            if terms.class_weight is not None:
                weights = terms.class_weight[classes].to(like)
            self._demand = weights * terms.everyone
            if terms.soft is not None:
                self._soft_demand = weights * (1 - terms.row_loss.label_smoothing)

    def keeps_weights(self, scores: torch.dtype) -> bool:
        """No: the statistics only read; to write would add half again to the memory that the two kernels move."""
        return False

    def buffers(self, scores: torch.dtype, keeping: bool) -> int:
        """Return how many (c, b) buffers a block needs beside its scores: none."""
        return 0 if self.margin.custom is None else super().buffers(scores, keeping)

    def pair_bytes(self, scores: torch.dtype, keeping: bool) -> int:
        """Return the bytes that a block takes for each of its pairs."""
        if self.margin.custom is not None:
            return super().pair_bytes(scores, keeping)
        kept = 0 if keeping else self.sub_centers * scores.itemsize
        return kept + 1  # the partial sums: a few numbers for each row of a tile

    def add(self, scores: Tensor, work: Tensor, chunk: Chunk, block: Block, keep: bool) -> None:
        """Add a block to the chunk's sums; the scores stay as they are, and the reference is the largest logit."""
        if self.margin.custom is not None:
            super().add(scores, work, chunk, block, keep)
            return
        grid = self._grid(scores)
        shape = (grid[0], scores.shape[1])
        largest, total = (chunk.total.new_empty(shape) for _ in range(2))
        target_dot = None if self.terms.plain else torch.empty_like(total)
        self._launch("statistics", grid, scores, chunk, block, largest, total, target_dot)
        largest.mul_(LOG2_E)
        highest = torch.maximum(chunk.reference, largest.amax(0))
        total.mul_(largest.sub_(highest).exp2_())
        chunk.total.mul_((chunk.reference - highest).exp2_()).add_(total.sum(0))
        chunk.reference.copy_(highest)
        if target_dot is not None:
            chunk.target_dot.add_(target_dot.sum(0), alpha=LOG2_E)

    def must_restart(self, chunk: Chunk) -> bool:
        """No: every kernel subtracts its own maximum. A user's margin goes the way of the parent class."""
        return self.margin.custom is not None and super().must_restart(chunk)

    def gradient(self, scores: Tensor, work: Tensor, chunk: Chunk, block: Block, pull: Pull) -> None:
        """Turn the (c K, b) scores of a block, in place, into dL/d score but for the scale."""
        if self.margin.custom is not None:
            super().gradient(scores, work, chunk, block, pull)
            return
        grid = self._grid(scores)
        classes = block.stop - block.start
        by_offset = None if self.grad_offset is None else pull.lse.new_empty(grid[1], classes)
        by_scale = None if self.grad_scale is None else pull.lse.new_empty(grid[0] * grid[1])
        vectors = (pull.lse - self.shift, pull.mass, pull.row_weight, pull.own)
        rows = [vector.contiguous() for vector in vectors]
        self._launch("gradient", grid, scores, chunk, block, *rows, self._constant, by_offset, by_scale)
        if self.grad_offset is not None and by_offset is not None:
            self.grad_offset[block.start : block.stop] += by_offset.sum(0, dtype=self.grad_offset.dtype)
        if self.grad_scale is not None and by_scale is not None:
            self.grad_scale += by_scale.sum()

    def _grid(self, scores: Tensor) -> tuple[int, int]:
        """Return how many programs divide the classes, and how many the rows."""
        classes = len(scores) // self.sub_centers
        return -(-classes // SPAN), -(-scores.shape[1] // ROWS)

    def _launch(
        self,
        kernel: str,
        grid: tuple[int, int],
        scores: Tensor,
        chunk: Chunk,
        block: Block,
        *outputs: Tensor | None,
    ) -> None:
        """Run a kernel over a block: what both are given, then what only the one has."""
        from bisector.engine import triton_kernels

        classes = slice(block.start, block.stop)
        angles: list[Tensor | None] = [None] * 6
        relax = None
        if self.pairwise is not None and chunk.angles is not None:
            angles = [*chunk.angles[:3], *self.pairwise.c[:3, classes]]
            relax = self.pairwise.relax
        soft, strides = None, (0, 0)
        if self.terms.soft is not None:
            first = self.classes.start
            soft = self.terms.soft[chunk.rows, first + block.start : first + block.stop]
            strides = soft.stride(0), soft.stride(1)
        # Triton launches on the current device, whichever the tensors are on.
        with torch.cuda.device(scores.device) if scores.is_cuda else nullcontext():
            getattr(triton_kernels, kernel)[grid](
                scores,
                chunk.labels,
                self._scale,
                None if self.offset is None else self.offset[classes],
                *angles,
                None if self._demand is None else self._demand[classes],
                soft,
                None if self._soft_demand is None else self._soft_demand[classes],
                *strides,
                *outputs,
                block.start,
                block.stop - block.start,
                scores.shape[1],
                K=self.sub_centers,
                RELAX=relax,
                WRAPS=self._wraps,
                SPAN=SPAN,
                CLASSES=STEPS[kernel],
                ROWS=ROWS,
                enable_fp_fusion=True,
            )
